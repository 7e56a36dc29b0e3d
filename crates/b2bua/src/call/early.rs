//! Requests inside the early dialogs, before the call is answered: carried to the other leg where it has an early
//! dialog too, UPDATE by the rules of RFC 3311. Owns whose offer is open on which leg. The first offer and its
//! answer stand in `dial`, `answer` and `progress`.

use std::time::Instant;

use bytes::Bytes;
use relay::Side;
use sdp::Session;
use sip::dialog::Dialog;
use sip::endpoint::{ClientFailure, ClientKey, ServerKey};
use sip::header::simple;
use sip::{HeaderId, Message, Method};

use super::answer::{answer_of, media_refusal, session_of};
use super::forks::{Fork, Forks};
use super::indialog::hops_left;
use super::progress::Told;
use super::reoffer::Wanted;
use super::{Call, MediaState, State};
use crate::codes;
use crate::engine::core::{Answer, ClientUse, Core};
use crate::headers::{ALLOW, WithBody};
use crate::media_plan::{self, Exchange, MediaFault};
use crate::security::Phase;
use crate::verdict::Refusal;

const SDP: &[u8] = b"application/sdp";
/// Bound of the random wait of RFC 3311 §5.2 and RFC 3261 §14.2.
const RETRY_AFTER_SECS_MAX: u32 = 10;

/// An UPDATE with an offer on its way from one early dialog to the other.
pub(crate) struct EarlyOffer {
    pub from: Side,
    request: Message,
    server: ServerKey,
    client: ClientKey,
    exchange: Exchange,
}

/// Whose offer is open on a leg.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Open {
    Nobodys,
    /// We wait for the peer's answer.
    Ours,
    /// The peer waits for ours.
    Theirs,
}

impl Call {
    /// The early dialogs of leg B, while there are any.
    pub(super) fn forks(&self) -> Option<&Forks> {
        match &self.state {
            State::Dialing(attempt) | State::Ringing(attempt) => Some(&attempt.forks),
            _ => None,
        }
    }

    pub(super) fn forks_mut(&mut self) -> Option<&mut Forks> {
        match &mut self.state {
            State::Dialing(attempt) | State::Ringing(attempt) => Some(&mut attempt.forks),
            _ => None,
        }
    }

    pub(super) fn is_early(&self) -> bool {
        matches!(self.state, State::AwaitingMedia | State::Dialing(_) | State::Ringing(_) | State::Held)
    }

    /// The dialog of a side with that remote tag, early ones included.
    pub fn dialog_with(&self, side: Side, remote_tag: &[u8]) -> Option<&Dialog> {
        let own = self.leg(side).dialog.as_ref().filter(|dialog| dialog.remote_tag == remote_tag);
        let early = || {
            let forks = self.forks().filter(|_| side == Side::B)?;
            forks.get(forks.with_tag(remote_tag)?)?.dialog.as_ref()
        };
        own.or_else(early)
    }

    pub(super) fn dialog_with_mut(&mut self, side: Side, remote_tag: &[u8]) -> Option<&mut Dialog> {
        if self.leg(side).dialog.as_ref().is_some_and(|dialog| dialog.remote_tag == remote_tag) {
            return self.leg_mut(side).dialog.as_mut();
        }
        let forks = self.forks_mut().filter(|_| side == Side::B)?;
        let at = forks.with_tag(remote_tag)?;
        forks.get_mut(at)?.dialog.as_mut()
    }

    /// The dialog in which requests of ours reach a side now; `None` while the far end knows of none.
    pub(super) fn speaking_dialog(&mut self, side: Side) -> Option<&mut Dialog> {
        if side == Side::B && self.b.dialog.is_none() {
            let forks = self.forks_mut()?;
            let at = forks.current()?;
            return forks.get_mut(at)?.dialog.as_mut();
        }
        let is_known = side == Side::B || !self.is_early() || self.progress.can_be_asked();
        self.leg_mut(side).dialog.as_mut().filter(|_| is_known)
    }

    /// A request in an early dialog; BYE and PRACK are dealt with already.
    pub(super) fn on_early_request(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        key: ServerKey,
        request: &Message,
    ) {
        match request.method() {
            // RFC 3261 §14.2: 500 where its first INVITE has no final answer yet, 491 where ours has none.
            Method::Invite if side == Side::A => answer_later(cx, now, key, request),
            Method::Invite => cx.respond_plain(now, key, request, 491, &[]),
            Method::Update => self.on_early_update(cx, now, side, key, request),
            _ if self.speaking_dialog(!side).is_none() => cx.respond_plain(now, key, request, 491, &[]),
            _ => self.relay_request(cx, now, side, key, request),
        }
    }

    fn on_early_update(&mut self, cx: &mut Core, now: Instant, side: Side, key: ServerKey, update: &Message) {
        let who = self.leg(side).peer.name.clone();
        let tag = update.from_tag().unwrap_or_default().to_vec();
        let offer = match session_of(update) {
            Ok(Some(offer)) => offer,
            Ok(None) => {
                if let Some(dialog) = self.dialog_with_mut(side, &tag) {
                    dialog.refresh_target(update);
                }
                return self.answer_early_update(cx, now, side, key, update, None);
            }
            Err(fault) => return cx.refuse(now, key, update, &fault.refusal(&who), None),
        };
        // RFC 3311 §5.2.
        match self.open_offer(side, &tag) {
            Open::Nobodys => self.take_early_offer(cx, now, side, key, update, offer),
            Open::Ours => {
                cx.count("offers_in_glare");
                cx.respond_plain(now, key, update, 491, &[]);
            }
            Open::Theirs => {
                cx.count("offers_in_glare");
                answer_later(cx, now, key, update);
            }
        }
    }

    /// Whose offer is open in the early dialog of a side.
    fn open_offer(&self, side: Side, remote_tag: &[u8]) -> Open {
        if let Some(open) = &self.early_offer {
            return if open.from == side { Open::Theirs } else { Open::Ours };
        }
        match side {
            Side::A => match &self.progress.told {
                Told::Agreed => Open::Nobodys,
                Told::Offered(_) => Open::Ours,
                _ if self.invite.body().is_empty() => Open::Ours,
                _ => Open::Theirs,
            },
            Side::B => match self.playing_fork() {
                Some(fork) if fork.is_settled() && fork.has_tag(remote_tag) => Open::Nobodys,
                // Our INVITE always offers; until its reliable answer, or the 2xx, that offer is open.
                _ => Open::Ours,
            },
        }
    }

    fn playing_fork(&self) -> Option<&Fork> {
        let forks = self.forks()?;
        forks.get(forks.playing()?)
    }

    fn take_early_offer(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        key: ServerKey,
        update: &Message,
        offer: Session,
    ) {
        if self.can_offer_to(!side) {
            return self.relay_early_offer(cx, now, side, key, update, offer);
        }
        match self.answer_here(cx, side, offer) {
            Ok(body) => {
                let tag = update.from_tag().unwrap_or_default().to_vec();
                if let Some(dialog) = self.dialog_with_mut(side, &tag) {
                    dialog.refresh_target(update);
                }
                self.answer_early_update(cx, now, side, key, update, Some(body));
            }
            // RFC 3311 §5.2: what cannot be decided without asking somebody who cannot be asked now.
            Err(refusal) if refusal.code() == codes::NO_COMMON_CODEC => {
                cx.respond_plain(now, key, update, 504, &[]);
            }
            Err(refusal) => self.refuse_offer(cx, now, key, update, &refusal),
        }
    }

    fn refuse_offer(
        &self,
        cx: &mut Core,
        now: Instant,
        key: ServerKey,
        request: &Message,
        refusal: &Refusal,
    ) {
        cx.count("offers_refused_in_dialog");
        cx.refuse(now, key, request, refusal, None);
    }

    // RFC 3311 §5.1: an UPDATE with an offer may go where offer and answer are complete and Allow names it.
    fn can_offer_to(&self, side: Side) -> bool {
        match side {
            Side::A => {
                matches!(self.progress.told, Told::Agreed)
                    && !self.progress.holds_back_success()
                    && simple::allow(&self.invite).contains(&Method::Update)
            }
            Side::B => self.playing_fork().is_some_and(|fork| fork.is_settled() && fork.takes_update),
        }
    }

    /// Answers an offer from what the other leg agreed to, without asking it.
    pub(super) fn answer_here(
        &mut self,
        cx: &mut Core,
        side: Side,
        offer: Session,
    ) -> Result<Bytes, Refusal> {
        let who = self.leg(side).peer.name.clone();
        let decision = self.decide(side, media_plan::said(&offer), Phase::ReOffer)?;
        let MediaState::Ready(media) = &mut self.media else {
            return Err(Refusal::new(codes::INTERNAL, &who, "media is gone"));
        };
        let body = media.answer_here(side, offer, &decision, &mut cx.keys);
        let body = body.map_err(|fault| media_refusal(&fault, &who))?;
        self.apply_media(cx);
        Ok(body)
    }

    fn relay_early_offer(
        &mut self,
        cx: &mut Core,
        now: Instant,
        from: Side,
        key: ServerKey,
        update: &Message,
        offer: Session,
    ) {
        let Some(hops) = hops_left(update) else {
            return cx.respond_plain(now, key, update, 483, &[]);
        };
        let (body, exchange) = match self.early_offer_for(cx, from, offer) {
            Ok(made) => made,
            Err(refusal) => return self.refuse_offer(cx, now, key, update, &refusal),
        };
        let (call, contact, flow) = (self.key, self.leg(!from).contact.clone(), self.leg(!from).flow);
        let (Some(dialog), Some(flow)) = (self.speaking_dialog(!from), flow) else {
            return cx.respond_plain(now, key, update, 491, &[]);
        };
        let draft = dialog
            .forward(Method::Update, hops)
            .header(HeaderId::Contact, contact)
            .header(HeaderId::Allow, ALLOW)
            .body(SDP, body);
        let sent = draft.finish().ok().and_then(|out| cx.send(now, &flow, out, ClientUse::EarlyOffer(call)));
        let Some(client) = sent else {
            return cx.respond_plain(now, key, update, 500, &[]);
        };
        self.early_offer =
            Some(Box::new(EarlyOffer { from, request: update.clone(), server: key, client, exchange }));
    }

    fn early_offer_for(
        &mut self,
        cx: &mut Core,
        from: Side,
        offer: Session,
    ) -> Result<(Bytes, Exchange), Refusal> {
        let who = self.leg(from).peer.name.clone();
        let decision = self.decide(from, media_plan::said(&offer), Phase::ReOffer)?;
        let MediaState::Ready(media) = &mut self.media else {
            return Err(Refusal::new(codes::INTERNAL, &who, "media is gone"));
        };
        media.relay_offer(from, offer, &decision, &mut cx.keys).map_err(|fault| media_refusal(&fault, &who))
    }

    /// The other leg answers an UPDATE that was carried to it. The call may have been answered meanwhile.
    pub fn on_early_offer_response(
        &mut self,
        cx: &mut Core,
        now: Instant,
        client: ClientKey,
        response: &Message,
    ) {
        let Some(status) = response.status().filter(|status| status.is_final()) else { return };
        let Some(open) = self.early_offer.take_if(|open| open.client == client) else { return };
        cx.clients.remove(&client);
        if !status.is_success() {
            let code = if status.is_redirect() { 500 } else { status.code() };
            let block = self.response_lines(cx, response, !open.from, WithBody::No);
            let answer = Answer { block: &block, ..Answer::of(code) };
            return cx.respond(now, open.server, &open.request, &answer);
        }
        let (theirs, asker) =
            (response.to_tag().unwrap_or_default(), open.request.from_tag().unwrap_or_default());
        if let Some(dialog) = self.dialog_with_mut(!open.from, theirs) {
            dialog.refresh_target(response);
        }
        match self.settled_early(cx, &open, response) {
            Ok(body) => {
                if let Some(dialog) = self.dialog_with_mut(open.from, asker) {
                    dialog.refresh_target(&open.request);
                }
                self.apply_media(cx);
                self.answer_early_update(cx, now, open.from, open.server, &open.request, Some(body));
            }
            Err(refusal) => {
                // The answering side has changed already: what it changed to must not go on.
                cx.refuse(now, open.server, &open.request, &refusal, None);
                self.terminate(cx, now, &refusal, "AnswerRefused");
            }
        }
    }

    fn settled_early(
        &mut self,
        cx: &mut Core,
        open: &EarlyOffer,
        response: &Message,
    ) -> Result<Bytes, Refusal> {
        let side = !open.from;
        let who = self.leg(side).peer.name.clone();
        let answer = answer_of(response, &who)?;
        let decision = self.decide(side, media_plan::said(&answer), Phase::Answer)?;
        let MediaState::Ready(media) = &mut self.media else {
            return Err(Refusal::new(codes::INTERNAL, &who, "media is gone"));
        };
        let made = media.settle_answer(&open.exchange, answer);
        made.and_then(|()| media.answer_offerer(&open.exchange, &decision, &mut cx.keys))
            .map_err(|fault: MediaFault| media_refusal(&fault, &who))
    }

    /// The other leg never answered the UPDATE.
    pub fn on_early_offer_failed(
        &mut self,
        cx: &mut Core,
        now: Instant,
        client: ClientKey,
        why: &ClientFailure,
    ) {
        let Some(open) = self.early_offer.take_if(|open| open.client == client) else { return };
        let status = if matches!(why, ClientFailure::Timeout) { 504 } else { 503 };
        cx.respond_plain(now, open.server, &open.request, status, &[]);
    }

    /// The early dialog of leg B that an UPDATE came from or went to is over.
    pub(super) fn drop_early_offer(&mut self, cx: &mut Core, now: Instant) {
        let Some(open) = self.early_offer.take() else { return };
        cx.clients.remove(&open.client);
        match open.from {
            Side::A => answer_later(cx, now, open.server, &open.request),
            Side::B => {
                cx.respond_plain(now, open.server, &open.request, 481, &[]);
                // What the caller makes of the offer concerns nobody any more.
                self.progress.reoffer = Wanted::Yes;
            }
        }
    }

    // 2xx to UPDATE: Contact, because it is a target refresh request (RFC 3311 §5.2).
    fn answer_early_update(
        &self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        key: ServerKey,
        update: &Message,
        body: Option<Bytes>,
    ) {
        let contact = self.contact_text(side);
        let lines = [(HeaderId::Contact, contact.as_str()), (HeaderId::Allow, ALLOW)];
        let body = body.map(|body| (SDP, body));
        cx.respond(now, key, update, &Answer { lines: &lines, body, ..Answer::of(200) });
    }
}

fn answer_later(cx: &mut Core, now: Instant, key: ServerKey, request: &Message) {
    let wait = cx.keys.below(RETRY_AFTER_SECS_MAX + 1).to_string();
    cx.respond_plain(now, key, request, 500, &[(HeaderId::RetryAfter, &wait)]);
}
