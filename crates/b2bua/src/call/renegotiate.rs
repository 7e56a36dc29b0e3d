//! Offers inside the call: re-INVITE with and without an offer, UPDATE with one. Owns glare, the longest wait for an
//! answer and the rule that a refused offer changes nothing. Every offer and answer is decided again.

use std::time::{Duration, Instant};

use bytes::Bytes;
use relay::Side;
use sip::endpoint::{ClientFailure, ClientKey, ServerKey};
use sip::{HeaderId, Message, Method};

use super::answer::{answer_of, media_refusal, session_of};
use super::indialog::hops_left;
use super::recovery::{self, Recovery};
use super::reliable;
use super::waiting::Waiting;
use super::{Awaited, Call, Late, MediaState, Renegotiation, State};
use crate::codes;
use crate::engine::core::{Answer, ClientUse, Core};
use crate::engine::{CallTimer, Event};
use crate::headers::{ALLOW, WithBody};
use crate::leg::session::RefreshBy;
use crate::media_plan::{self, Exchange};
use crate::security::{MediaSecurity, Phase};
use crate::verdict::Refusal;

const SDP: &[u8] = b"application/sdp";
/// Bound of the random wait of RFC 3261 §14.2.
const RETRY_AFTER_SECS_MAX: u32 = 10;
/// A far end that has said 100 must answer an offer within this, else it is cancelled: the wait would have no end.
pub(super) const REOFFER_MAX: Duration = Duration::from_secs(32);

/// Whether an offer on its way was taken back.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Withdrawn {
    /// It was not.
    No,
    /// The asking side sent CANCEL.
    ByAsker,
    /// It took too long.
    ByTimer,
}

/// Why an offer cannot go out now.
enum Glare {
    /// RFC 3261 §14.2: the same side has an offer open.
    Own,
    /// The other side has, or we have.
    Theirs,
}

impl Call {
    /// A re-INVITE, or an UPDATE with an offer.
    pub(super) fn on_reoffer(
        &mut self,
        cx: &mut Core,
        now: Instant,
        from: Side,
        key: ServerKey,
        request: &Message,
    ) {
        if let Some(glare) = self.glare(from, request) {
            return self.answer_glare(cx, now, &glare, key, request);
        }
        let made = self.relayed_offer(cx, from, request);
        let (offer, exchange, late) = match made {
            Ok(made) => made,
            Err(refusal) => {
                cx.count("offers_refused_in_dialog");
                self.note_refused_offer(cx, &refusal);
                return cx.refuse(now, key, request, &refusal, None);
            }
        };
        let Some(client) = self.send_offer(cx, now, from, request, &offer) else {
            return cx.respond_plain(now, key, request, 500, &[]);
        };
        cx.invites.insert(key, self.key);
        self.invites.push(key);
        cx.timers.set(self.key, CallTimer::Reoffer, now + REOFFER_MAX);
        let (request, withdrawn, waiting) = (request.clone(), Withdrawn::No, Waiting::default());
        let open =
            Renegotiation { from, request, server: key, client, offer, exchange, late, withdrawn, waiting };
        self.state = State::Renegotiating(Box::new(open));
    }

    /// Whether any offer is open or waits to be made.
    pub(super) fn is_negotiating(&self) -> bool {
        let is_busy = matches!(
            self.state,
            State::Answering { .. } | State::Renegotiating(_) | State::Refreshing(_) | State::Transferring(_)
        );
        is_busy || self.early_offer.is_some() || self.reoffer.is_some()
    }

    /// The call goes on without it, so only event and verdict tell.
    pub(super) fn note_refused_offer(&mut self, cx: &mut Core, refusal: &Refusal) {
        if refusal.code() == codes::FAX_REFUSED {
            cx.count("fax_refused_in_dialog");
        }
        let (code, what) = (refusal.code(), refusal.verdict.what.clone());
        cx.event(Event::OfferRefused { call: self.key, code, what });
        self.story.note(refusal.to_string());
    }

    // An UPDATE goes on as a re-INVITE toward a peer that takes no UPDATE (RFC 3311 §4).
    fn send_offer(
        &mut self,
        cx: &mut Core,
        now: Instant,
        from: Side,
        request: &Message,
        offer: &Bytes,
    ) -> Option<ClientKey> {
        let lines = self.session_lines(!from);
        let (call, other) = (self.key, self.leg_mut(!from));
        let method = match (request.method(), other.session.by) {
            (Method::Update, RefreshBy::Update) => Method::Update,
            _ => Method::Invite,
        };
        let may_ring = method == Method::Invite;
        let flow = other.flow?;
        let hops = hops_left(request)?;
        let mut draft = other
            .target_refresh(|dialog| dialog.forward(method, hops))?
            .header(HeaderId::Contact, other.contact.clone())
            .header(HeaderId::Allow, ALLOW);
        for (id, value) in lines {
            draft = draft.header(id, value);
        }
        if may_ring {
            draft = draft.header(HeaderId::Supported, reliable::OPTION_TAG);
        }
        let out = draft.body(SDP, offer.clone()).finish().ok()?;
        cx.send(now, &flow, out, ClientUse::Reoffer(call))
    }

    fn glare(&mut self, from: Side, request: &Message) -> Option<Glare> {
        let of = |owner: Side| if owner == from { Glare::Own } else { Glare::Theirs };
        if let Some(open) = &self.early_offer {
            return Some(of(open.from));
        }
        // Ours to the caller speaks for leg B.
        if self.reoffer.is_some() {
            return Some(of(Side::B));
        }
        match &self.state {
            State::Renegotiating(open) if open.from == from => Some(Glare::Own),
            State::Renegotiating(_) | State::Refreshing(_) | State::Transferring(_) => Some(Glare::Theirs),
            // RFC 5407: whoever asks again has had our 2xx, so a lost ACK holds nothing up. An answer that was to come in it does.
            State::Answering { awaited, offer: None }
                if awaited.side == from && *request.method() == Method::Invite =>
            {
                self.establish();
                None
            }
            State::Answering { awaited, offer: None } if awaited.side == from => Some(Glare::Own),
            State::Answering { .. } => Some(Glare::Theirs),
            _ => None,
        }
    }

    // RFC 3261 §14.2, RFC 3311 §5.2: 500 with Retry-After to the side whose own offer is open, 491 to the other.
    fn answer_glare(&self, cx: &mut Core, now: Instant, glare: &Glare, key: ServerKey, request: &Message) {
        cx.count("offers_in_glare");
        match glare {
            Glare::Own => {
                let wait = cx.keys.below(RETRY_AFTER_SECS_MAX + 1).to_string();
                cx.respond_plain(now, key, request, 500, &[(HeaderId::RetryAfter, &wait)]);
            }
            Glare::Theirs => cx.respond_plain(now, key, request, 491, &[]),
        }
    }

    fn relayed_offer(
        &mut self,
        cx: &mut Core,
        from: Side,
        request: &Message,
    ) -> Result<(Bytes, Exchange, Late), Refusal> {
        let who = self.leg(from).peer.name.clone();
        let offer = session_of(request).map_err(|fault| fault.refusal(&who))?;
        if offer.as_ref().is_some_and(sdp::Session::is_fax_only) {
            return Err(Refusal::new(
                codes::FAX_REFUSED,
                &who,
                format!("{who} offered fax only; the audio call goes on"),
            ));
        }
        let dialect = self.leg(from).peer.dialect;
        let said = offer.as_ref().map_or(MediaSecurity::Absent, |offer| {
            cx.count_quirks(media_plan::quirks_in(offer, dialect, &self.policy.gateway.srtp.suites));
            media_plan::offered(offer, dialect)
        });
        let decision = self.decide(from, said, Phase::ReOffer)?;
        let MediaState::Ready(media) = &mut self.media else {
            return Err(Refusal::new(codes::INTERNAL, &who, "media is gone"));
        };
        let made = match offer {
            Some(offer) => {
                media.relay_offer(from, offer, &decision, &mut cx.keys).map(|(b, e)| (b, e, Late::No))
            }
            None => media.own_offer(!from, &decision, &mut cx.keys).map(|(b, e)| (b, e, Late::Yes)),
        };
        made.map_err(|fault| media_refusal(&fault, &who))
    }

    /// The other leg answers the offer.
    pub fn on_reoffer_response(
        &mut self,
        cx: &mut Core,
        now: Instant,
        client: ClientKey,
        response: &Message,
    ) {
        let Some(status) = response.status().filter(|s| s.is_final()) else {
            return self.on_reoffer_progress(cx, now, client, response);
        };
        let Some(mut open) = self.take_renegotiation(cx, client) else { return };
        cx.clients.remove(&client);
        if status.is_success() {
            return self.on_reoffer_accepted(cx, now, open, response);
        }
        if self.asks_again(cx, now, &mut open, response) {
            cx.timers.set(self.key, CallTimer::Reoffer, now + REOFFER_MAX);
            return self.state = State::Renegotiating(open);
        }
        self.leg_mut(!open.from).recovery = Recovery::No;
        self.relay_refusal(cx, now, &open, response);
        self.end_if_gone(cx, now, !open.from, response);
    }

    fn take_renegotiation(&mut self, cx: &mut Core, client: ClientKey) -> Option<Box<Renegotiation>> {
        self.take_open(cx, |state| match state {
            State::Renegotiating(open) if open.client == client => Ok(open),
            other => Err(other),
        })
    }

    /// Takes an offer on its way out of the state, when it is the one that `pick` wants: nobody waits for it any more.
    pub(super) fn take_open<T>(
        &mut self,
        cx: &mut Core,
        pick: impl FnOnce(State) -> Result<T, State>,
    ) -> Option<T> {
        match pick(self.take_state()) {
            Ok(open) => {
                self.state = State::Established;
                cx.timers.clear(self.key, CallTimer::Reoffer);
                Some(open)
            }
            Err(other) => {
                self.state = other;
                None
            }
        }
    }

    // What concerns our own leg only is settled there: an interval of ours that was too small (RFC 4028 §7.3), a
    // route set that is lost. The asking side has no part in it.
    fn asks_again(
        &mut self,
        cx: &mut Core,
        now: Instant,
        open: &mut Renegotiation,
        response: &Message,
    ) -> bool {
        let rules = self.policy.session;
        let leg = self.leg_mut(!open.from);
        let may = match response.status().map(|status| status.code()) {
            Some(422) => leg.session.raise(response, &rules),
            Some(430) => leg.recovery == Recovery::No && recovery::is_asked_for(response, &rules),
            _ => false,
        };
        if !may || open.withdrawn != Withdrawn::No {
            return false;
        }
        if response.status().is_some_and(|status| status.code() == 430) {
            leg.recovery = Recovery::Asked;
        }
        let sent = self.send_offer(cx, now, open.from, &open.request, &open.offer);
        if let Some(client) = sent {
            open.client = client;
            open.waiting = Waiting::default();
        }
        sent.is_some()
    }

    fn on_reoffer_accepted(
        &mut self,
        cx: &mut Core,
        now: Instant,
        open: Box<Renegotiation>,
        response: &Message,
    ) {
        let cseq = response.cseq();
        self.finish_progress(cx, open.server);
        self.follow_answer(cx, !open.from, response);
        self.agree_session(cx, now, !open.from, response);
        if cseq.method == Method::Invite {
            self.send_ack(cx, now, !open.from, cseq.number, None);
        }
        if !cx.invites.contains_key(&open.server) {
            return self.end_unheard(cx, now, open.from);
        }
        match self.settled_answer(cx, &open, response) {
            Ok((body, offer)) => {
                if offer.is_none() {
                    self.apply_media(cx);
                }
                self.answer_session(cx, now, open.from, open.server, &open.request, Some(body));
                if *open.request.method() == Method::Invite {
                    let awaited = Awaited { side: open.from, invite: open.server };
                    self.state = State::Answering { awaited, offer };
                }
            }
            Err(refusal) => {
                // The answering side has changed already: what it changed to must not go on.
                cx.refuse(now, open.server, &open.request, &refusal, None);
                self.hang_up_both(cx, now, refusal.verdict, "AnswerRefused");
            }
        }
    }

    // The connection the offer came on is gone: its sender will never see the answer, and the two sides no longer agree on the media.
    fn end_unheard(&mut self, cx: &mut Core, now: Instant, from: Side) {
        let who = &self.leg(from).peer.name;
        let what = format!("the connection of {who} was gone before its offer was answered");
        let verdict = Refusal::new(codes::CONNECTION_LOST, who, what).verdict;
        self.hang_up_both(cx, now, verdict, "ConnectionLost");
    }

    fn settled_answer(
        &mut self,
        cx: &mut Core,
        open: &Renegotiation,
        response: &Message,
    ) -> Result<(Bytes, Option<Box<Exchange>>), Refusal> {
        let answering = !open.from;
        let who = self.leg(answering).peer.name.clone();
        // RFC 3262 §5: complete already, whatever the 2xx says again.
        let answer = answer_of(open.waiting.answer.as_ref().unwrap_or(response), &who)?;
        let decision = self.decide(answering, media_plan::said(&answer), Phase::Answer)?;
        let MediaState::Ready(media) = &mut self.media else {
            return Err(Refusal::new(codes::INTERNAL, &who, "media is gone"));
        };
        media.settle_answer(&open.exchange, answer).map_err(|fault| media_refusal(&fault, &who))?;
        let made = match open.late {
            Late::No => {
                media.answer_offerer(&open.exchange, &decision, &mut cx.keys).map(|body| (body, None))
            }
            Late::Yes => media
                .relay_settled(answering, &decision, &mut cx.keys)
                .map(|(body, exchange)| (body, Some(Box::new(exchange)))),
        };
        made.map_err(|fault| media_refusal(&fault, &who))
    }

    fn relay_refusal(&mut self, cx: &mut Core, now: Instant, open: &Renegotiation, response: &Message) {
        let said = response.status().map_or(500, |s| s.code());
        let status = match said {
            300..=399 => 500,
            // Our own interval, or our own CANCEL: the asking side has asked for neither.
            422 => 500,
            487 if open.withdrawn != Withdrawn::ByAsker => 504,
            _ => said,
        };
        let block = self.response_lines(cx, response, !open.from, WithBody::No);
        let reason = response.reason();
        let reason = Some(&reason[..]).filter(|_| status == said);
        let answer = Answer { reason, block: &block, ..Answer::of(status) };
        cx.respond(now, open.server, &open.request, &answer);
        self.forget_invite(cx, open.server);
    }

    /// RFC 3261 §12.2.1.2: a peer that answers 481 or 408 inside the call has none any more.
    pub(super) fn end_if_gone(&mut self, cx: &mut Core, now: Instant, side: Side, response: &Message) {
        let Some(status @ (408 | 481)) = response.status().map(|status| status.code()) else { return };
        let who = self.leg(side).peer.name.clone();
        let method = response.method().as_str_lossy().to_owned();
        let refusal =
            Refusal::new(codes::DIALOG_GONE, &who, format!("{who} answered {method} with {status}"));
        self.terminate(cx, now, &refusal, "DialogGone");
    }

    /// The other leg never answered the offer.
    pub fn on_reoffer_failed(&mut self, cx: &mut Core, now: Instant, client: ClientKey, why: &ClientFailure) {
        let Some(open) = self.take_renegotiation(cx, client) else { return };
        self.leg_mut(!open.from).recovery = Recovery::No;
        let status = match (open.withdrawn, why) {
            (Withdrawn::ByAsker, _) => 487,
            // 408 would end the dialog of the asking leg (RFC 5057).
            (_, ClientFailure::Timeout) => 504,
            (_, ClientFailure::TransportFailed) => 503,
        };
        cx.respond_plain(now, open.server, &open.request, status, &[]);
        self.forget_invite(cx, open.server);
    }

    /// An offer of theirs or ours was not answered in time. The CANCEL brings a final answer: 487, or a 2xx that was
    /// faster; without either, the transaction gives up 64*T1 later (RFC 3261 §9.1).
    pub(super) fn on_reoffer_overdue(&mut self, cx: &mut Core, now: Instant) {
        match &mut self.state {
            State::Renegotiating(open) => {
                if open.withdrawn == Withdrawn::No {
                    open.withdrawn = Withdrawn::ByTimer;
                }
                cx.count("offers_overdue");
                cx.endpoint.cancel(now, open.client);
            }
            State::Refreshing(open) => {
                cx.count("offers_overdue");
                cx.endpoint.cancel(now, open.client);
            }
            State::Established => self.withdraw_reoffer(cx, now),
            _ => {}
        }
    }

    /// CANCEL of a re-INVITE: passed on; the 487 comes back as its answer.
    pub fn on_reoffer_cancelled(&mut self, cx: &mut Core, now: Instant, invite: ServerKey) {
        if let State::Renegotiating(open) = &mut self.state
            && open.server == invite
        {
            open.withdrawn = Withdrawn::ByAsker;
            cx.endpoint.cancel(now, open.client);
        }
    }

    fn forget_invite(&mut self, cx: &mut Core, key: ServerKey) {
        self.finish_progress(cx, key);
        cx.invites.remove(&key);
        self.invites.retain(|known| *known != key);
    }
}
