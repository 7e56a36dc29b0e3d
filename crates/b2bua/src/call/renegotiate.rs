//! Offers inside the call: re-INVITE with and without an offer, UPDATE with one. Owns glare and the
//! rule that a refused offer changes nothing. Every offer and answer is decided again.

use std::time::Instant;

use bytes::Bytes;
use relay::Side;
use sip::endpoint::{ClientFailure, ClientKey, ServerKey};
use sip::{HeaderId, Message, Method};

use super::answer::{answer_of, media_refusal, session_of};
use super::{Call, Late, MediaState, Renegotiation, State};
use crate::codes;
use crate::engine::core::{Answer, ClientUse, Core};
use crate::headers::{ALLOW, WithBody};
use crate::media_plan::{self, Exchange};
use crate::security::{MediaSecurity, Phase};
use crate::verdict::Refusal;

const SDP: &[u8] = b"application/sdp";
/// Bound of the random wait of RFC 3261 §14.2.
const RETRY_AFTER_SECS_MAX: u32 = 10;

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
        if let Some(busy_with) = self.negotiates_with() {
            return self.answer_glare(cx, now, busy_with == from, key, request);
        }
        let made = self.relayed_offer(cx, from, request);
        let (offer, exchange, late) = match made {
            Ok(made) => made,
            Err(refusal) => {
                cx.count("offers_refused_in_dialog");
                return cx.refuse(now, key, request, &refusal, None);
            }
        };
        let call = self.key;
        let other = self.leg_mut(!from);
        let (Some(dialog), Some(flow)) = (&mut other.dialog, other.flow) else {
            return cx.respond_plain(now, key, request, 481, &[]);
        };
        let draft = dialog
            .request(request.method().clone())
            .header(HeaderId::Contact, other.contact.clone())
            .header(HeaderId::Allow, ALLOW)
            .body(SDP, offer);
        let sent = draft.finish().ok().and_then(|out| cx.send(now, &flow, out, ClientUse::Reoffer(call)));
        let Some(client) = sent else {
            return cx.respond_plain(now, key, request, 500, &[]);
        };
        cx.invites.insert(key, self.key);
        self.invites.push(key);
        let open = Renegotiation { from, request: request.clone(), server: key, client, exchange, late };
        self.state = State::Renegotiating(Box::new(open));
    }

    pub(super) fn is_negotiating(&self) -> bool {
        self.negotiates_with().is_some()
    }

    /// Whose offer is open, if any.
    fn negotiates_with(&self) -> Option<Side> {
        if let Some(open) = &self.early_offer {
            return Some(open.from);
        }
        if self.reoffer.is_some() {
            return Some(Side::B);
        }
        match &self.state {
            State::Renegotiating(open) => Some(open.from),
            State::Answering { side, .. } => Some(*side),
            _ => None,
        }
    }

    // RFC 3261 §14.2: 500 with Retry-After to the side whose own offer is open, 491 to the other.
    fn answer_glare(&self, cx: &mut Core, now: Instant, is_own: bool, key: ServerKey, request: &Message) {
        cx.count("offers_in_glare");
        if is_own {
            let wait = cx.keys.below(RETRY_AFTER_SECS_MAX + 1).to_string();
            return cx.respond_plain(now, key, request, 500, &[(HeaderId::RetryAfter, &wait)]);
        }
        cx.respond_plain(now, key, request, 491, &[]);
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
            cx.count_quirks(media_plan::quirks_in(offer, dialect));
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
        let Some(status) = response.status().filter(|s| s.is_final()) else { return };
        let open = match self.take_state() {
            State::Renegotiating(open) if open.client == client => open,
            other => return self.state = other,
        };
        cx.clients.remove(&client);
        self.state = State::Established;
        if !status.is_success() {
            return self.relay_refusal(cx, now, &open, response);
        }
        let cseq = response.cseq();
        if let Some(dialog) = &mut self.leg_mut(!open.from).dialog {
            dialog.refresh_target(response);
        }
        if cseq.method == Method::Invite {
            self.send_ack(cx, now, !open.from, cseq.number, None);
        }
        if !cx.invites.contains_key(&open.server) {
            return self.end_unheard(cx, now, open.from);
        }
        match self.settled_answer(cx, &open, response) {
            Ok((body, offer)) => {
                if let Some(dialog) = &mut self.leg_mut(open.from).dialog {
                    dialog.refresh_target(&open.request);
                }
                if offer.is_none() {
                    self.apply_media(cx);
                }
                self.answer_session(cx, now, open.from, open.server, &open.request, Some(body));
                if *open.request.method() == Method::Invite {
                    self.state = State::Answering { side: open.from, offer };
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
        let answer = answer_of(response, &who)?;
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
        let status = response.status().map_or(500, |s| if s.is_redirect() { 500 } else { s.code() });
        let block = self.response_lines(cx, response, !open.from, WithBody::No);
        let reason = response.reason();
        let reason = Some(&reason[..]).filter(|_| response.status().is_some_and(|s| s.code() == status));
        let answer = Answer { reason, block: &block, ..Answer::of(status) };
        cx.respond(now, open.server, &open.request, &answer);
        self.forget_invite(cx, open.server);
    }

    /// The other leg never answered the offer.
    pub fn on_reoffer_failed(&mut self, cx: &mut Core, now: Instant, client: ClientKey, why: &ClientFailure) {
        let open = match self.take_state() {
            State::Renegotiating(open) if open.client == client => open,
            other => return self.state = other,
        };
        self.state = State::Established;
        let status = if matches!(why, ClientFailure::Timeout) { 408 } else { 503 };
        cx.respond_plain(now, open.server, &open.request, status, &[]);
        self.forget_invite(cx, open.server);
    }

    /// CANCEL of a re-INVITE: passed on; the 487 comes back as its answer.
    pub fn on_reoffer_cancelled(&mut self, cx: &mut Core, now: Instant, invite: ServerKey) {
        if let State::Renegotiating(open) = &self.state
            && open.server == invite
        {
            cx.endpoint.cancel(now, open.client);
        }
    }

    fn forget_invite(&mut self, cx: &mut Core, key: ServerKey) {
        cx.invites.remove(&key);
        self.invites.retain(|known| *known != key);
    }
}
