//! One leg of a call is put into another's place: the leg that stays is offered the newcomer's media by re-INVITE, and
//! only its 2xx changes anything (RFC 3891 §3: until then the matched dialog is left as it is). Owns that step for both
//! who may come: the target of a transfer, and the sender of an INVITE with Replaces. Every leg gets a fresh key of ours.
//!
//! ```text
//!   stays            Umbra             comes           leaves
//!     │ ◄─ re-INVITE ── │ ◄── INVITE ──── │  (or: 200 ── │)
//!     │ ── 200 ───────► │                 │              │
//!     │ ◄─ ACK ──────── │ ── 200 ───────► │              │
//!     │                 │ ── BYE ─────────┼────────────► │
//! ```

use std::time::Instant;

use bytes::Bytes;
use relay::Side;
use sip::endpoint::{ClientKey, ServerKey};
use sip::{HeaderId, Message, Method};

use super::{Call, FarEnd, State, purpose, say_goodbye};
use crate::call::answer::{answer_of, media_refusal};
use crate::call::{Awaited, Late, MediaState};
use crate::codes;
use crate::engine::CallTimer;
use crate::engine::core::{Answer, Core};
use crate::headers::ALLOW;
use crate::leg::Leg;
use crate::media_plan::{self, CallMedia};
use crate::security::{Decision, Phase};
use crate::verdict::{Refusal, Verdict, clean};

const SDP: &[u8] = b"application/sdp";
/// How often the leg that stays may answer 491 before a transfer is given up.
const GLARES_MAX: u32 = 3;

/// A leg that is being exchanged.
pub(crate) struct LegExchange {
    /// Whose place it is.
    pub side: Side,
    /// Our re-INVITE to the other side.
    pub client: ClientKey,
    /// Media as they will be.
    pub(super) media: Box<CallMedia>,
    pub(super) offer: (Bytes, media_plan::Exchange),
    pub(super) coming: Coming,
}

/// Who comes.
pub(super) enum Coming {
    /// The target of the transfer that is carried out.
    Target,
    /// The sender of an INVITE with Replaces.
    Caller(Box<TakeOver>),
}

/// An INVITE with Replaces that may have its way.
pub(super) struct TakeOver {
    pub leg: Leg,
    pub server: ServerKey,
    pub invite: Message,
    pub late: Late,
    /// The UM IP gateway it came from, when leg A is taken over.
    pub ip_gateway: Option<usize>,
}

impl Call {
    /// Offers the media of whoever comes to the leg that stays; false when that could not even be sent.
    pub(super) fn begin_exchange(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        media: Box<CallMedia>,
        offer: (Bytes, media_plan::Exchange),
        coming: Coming,
    ) -> Result<(), (Box<CallMedia>, Coming)> {
        let purpose = purpose(self);
        let session = self.session_lines(!side);
        let stays = self.leg_mut(!side);
        let (Some(dialog), Some(flow)) = (&mut stays.dialog, stays.flow) else { return Err((media, coming)) };
        let mut draft = dialog
            .request(Method::Invite)
            .header(HeaderId::Contact, stays.contact.clone())
            .header(HeaderId::Allow, ALLOW);
        for (id, value) in session {
            draft = draft.header(id, value);
        }
        let draft = draft.body(SDP, offer.0.clone());
        let sent = draft.finish().ok().and_then(|out| cx.send(now, &flow, out, purpose));
        let Some(client) = sent else { return Err((media, coming)) };
        self.state = State::Transferring(Box::new(LegExchange { side, client, media, offer, coming }));
        Ok(())
    }

    /// The leg that stays answers.
    pub(super) fn on_exchange_response(&mut self, cx: &mut Core, now: Instant, response: &Message) {
        let Some(status) = response.status().filter(|status| status.is_final()) else { return };
        if !status.is_success() {
            return self.on_exchange_refused(cx, now, status.code(), Some(response));
        }
        let Some(mut exchange) = self.take_exchange(cx) else { return };
        let stays = !exchange.side;
        if let Some(dialog) = &mut self.leg_mut(stays).dialog {
            dialog.refresh_target(response);
        }
        self.agree_session(cx, now, stays, response);
        self.send_ack(cx, now, stays, response.cseq().number, None);
        match self.settled_exchange(&mut exchange, response) {
            Ok(decision) => self.complete(cx, now, exchange, &decision),
            Err(refusal) => self.break_off(cx, now, &exchange, &refusal),
        }
    }

    /// The leg that stays refuses, or says nothing: everything is as it was.
    pub(super) fn on_exchange_refused(
        &mut self,
        cx: &mut Core,
        now: Instant,
        status: u16,
        response: Option<&Message>,
    ) {
        let Some(exchange) = self.take_exchange(cx) else { return };
        let LegExchange { side, media, offer, coming, .. } = *exchange;
        // RFC 4028 §7.3: an interval of ours that was too small concerns this leg only.
        let raised = response.is_some_and(|response| status == 422 && self.raises_interval(!side, response));
        let (media, coming) = match raised {
            true => match self.begin_exchange(cx, now, side, media, offer, coming) {
                Ok(()) => return,
                Err(kept) => kept,
            },
            false => (media, coming),
        };
        match coming {
            Coming::Target => self.on_join_refused(cx, now, media, status, response),
            Coming::Caller(comer) => {
                cx.timers.clear(self.key, CallTimer::Transfer);
                // 422, 491 and redirects belong to a dialog that the newcomer has no part in.
                let lines = [(HeaderId::RetryAfter, "1")];
                let answer = match status {
                    422 | 491 | 300..=399 => Answer { lines: &lines, ..Answer::of(500) },
                    status => Answer::of(status),
                };
                cx.respond(now, comer.server, &comer.invite, &Answer { tag: Some(&comer.leg.tag), ..answer });
                self.forget_take_over(cx, comer.server);
                cx.count("replaces_failed");
                if self.leg(side).dialog.is_none() {
                    let who = self.leg(side).peer.name.clone();
                    let verdict = Verdict::new(codes::COMPLETED, &who, format!("{who} hung up"));
                    self.hang_up_both(cx, now, verdict, "GracefulHangup");
                }
            }
        }
    }

    fn take_exchange(&mut self, cx: &mut Core) -> Option<Box<LegExchange>> {
        let exchange = self.take_open(cx, |state| match state {
            State::Transferring(exchange) => Ok(exchange),
            other => Err(other),
        })?;
        cx.clients.remove(&exchange.client);
        Some(exchange)
    }

    fn settled_exchange(&self, exchange: &mut LegExchange, response: &Message) -> Result<Decision, Refusal> {
        let stays = !exchange.side;
        let who = &self.leg(stays).peer.name;
        let answer = answer_of(response, who)?;
        let mut decision = self.decide(stays, media_plan::said(&answer), Phase::Answer)?;
        if matches!(exchange.coming, Coming::Target) {
            decision = decision.between_gateways();
        }
        exchange
            .media
            .settle_answer(&exchange.offer.1, answer)
            .map_err(|fault| media_refusal(&fault, who))?;
        Ok(decision)
    }

    fn complete(&mut self, cx: &mut Core, now: Instant, exchange: Box<LegExchange>, decision: &Decision) {
        cx.timers.clear(self.key, CallTimer::Transfer);
        let LegExchange { side, media, offer: (_, offer), coming, .. } = *exchange;
        match coming {
            Coming::Target => self.hand_over(cx, now, media),
            Coming::Caller(comer) => self.let_in(cx, now, side, media, &offer, *comer, decision),
        }
    }

    /// The target takes the place of UM.
    fn hand_over(&mut self, cx: &mut Core, now: Instant, media: Box<CallMedia>) {
        self.tell_referrer(cx, now, "SIP/2.0 200 OK", "terminated;reason=noresource");
        let Some(executed) = self.transfer.executed.take() else { return };
        self.story.transferred_to = Some(clean(&String::from_utf8_lossy(&executed.uri)));
        let mut former = self.put_in_place(cx, Side::B, executed.leg);
        say_goodbye(cx, now, &mut former);
        self.media = MediaState::Ready(media);
        self.transfer.far_end = FarEnd::Gateway;
        // The plan's longest call is one with UM.
        cx.timers.clear(self.key, CallTimer::MaxDuration);
        self.let_go(cx);
        self.watch_session(cx, Side::B);
        cx.count("transfers_done");
        if self.b.dialog.is_some() {
            return self.apply_media(cx);
        }
        let who = self.b.peer.name.clone();
        let verdict = Verdict::new(codes::COMPLETED, &who, "the target of the transfer hung up");
        self.hang_up_both(cx, now, verdict, "GracefulHangup");
    }

    /// The newcomer gets its 200; who was replaced gets BYE.
    #[allow(clippy::too_many_arguments)]
    fn let_in(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        mut media: Box<CallMedia>,
        offer: &media_plan::Exchange,
        comer: TakeOver,
        decision: &Decision,
    ) {
        let TakeOver { leg, server, invite, late, ip_gateway } = comer;
        let who = leg.peer.name.clone();
        let made = match late {
            Late::No => media.answer_offerer(offer, decision, &mut cx.keys).map(|body| (body, None)),
            Late::Yes => media
                .relay_settled(!side, decision, &mut cx.keys)
                .map(|(body, exchange)| (body, Some(Box::new(exchange)))),
        };
        let (body, offer) = match made {
            Ok(made) => made,
            Err(fault) => {
                let refusal = media_refusal(&fault, &who);
                cx.refuse(now, server, &invite, &refusal, Some(&leg.tag));
                return self.hang_up_both(cx, now, refusal.verdict, "AnswerRefused");
            }
        };
        let mut former = self.put_in_place(cx, side, leg);
        self.media = MediaState::Ready(media);
        if let Some(index) = ip_gateway {
            std::sync::Arc::make_mut(&mut self.route).ip_gateway = index;
        }
        self.answer_newcomer(cx, now, side, (server, &invite), body);
        say_goodbye(cx, now, &mut former);
        if side == self.um_side() && self.trail.holding.is_some() {
            self.let_go(cx);
            cx.servers.take(&who);
            self.trail.holding = Some(who);
        }
        if offer.is_none() {
            self.apply_media(cx);
        }
        cx.count("legs_replaced");
        self.state = State::Answering { awaited: Awaited { side, invite: server }, offer };
    }

    fn answer_newcomer(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        (server, invite): (ServerKey, &Message),
        body: Bytes,
    ) {
        let leg = self.leg_mut(side);
        if let Some(dialog) = &mut leg.dialog {
            dialog.confirm();
        }
        let contact = self.contact_text(side);
        let session = self.grant_session(cx, now, side, invite);
        let mut lines = vec![(HeaderId::Contact, contact.as_str()), (HeaderId::Allow, ALLOW)];
        lines.extend(session.iter().map(|(id, value)| (*id, value.as_str())));
        let tag = self.leg(side).tag.clone();
        let answer = Answer { lines: &lines, tag: Some(&tag), body: Some((SDP, body)), ..Answer::of(200) };
        cx.respond(now, server, invite, &answer);
    }

    /// Swaps the legs and their places in the table; gives back who was there.
    fn put_in_place(&mut self, cx: &mut Core, side: Side, leg: Leg) -> Leg {
        cx.dialogs.remove(&self.dialog_id(side));
        let former = std::mem::replace(self.leg_mut(side), leg);
        cx.dialogs.insert(self.dialog_id(side), (self.key, side));
        // What was subscribed across the former dialog has nobody to tell any more.
        self.transfer.subscriptions.clear();
        former
    }

    // The leg that stays has changed its media to what cannot go on.
    fn break_off(&mut self, cx: &mut Core, now: Instant, exchange: &LegExchange, refusal: &Refusal) {
        if let Coming::Caller(comer) = &exchange.coming {
            cx.refuse(now, comer.server, &comer.invite, refusal, Some(&comer.leg.tag));
        }
        self.hang_up_both(cx, now, refusal.verdict.clone(), "AnswerRefused");
    }

    /// The call ends meanwhile.
    pub(super) fn drop_exchange(&mut self, cx: &mut Core, now: Instant) {
        let State::Transferring(exchange) = &self.state else { return };
        let client = exchange.client;
        self.take_back(cx, now, client);
        let Some(exchange) = self.take_exchange(cx) else { return };
        if let Coming::Caller(comer) = exchange.coming {
            let refusal = Refusal::new(codes::REPLACES_OVER, &comer.leg.peer.name, "the call has just ended");
            cx.refuse(now, comer.server, &comer.invite, &refusal, Some(&comer.leg.tag));
        }
    }

    /// CANCEL of an INVITE with Replaces: the re-INVITE is withdrawn, and its 487 answers both.
    pub fn on_take_over_cancelled(&mut self, cx: &mut Core, now: Instant, invite: ServerKey) {
        if let State::Transferring(exchange) = &self.state
            && matches!(&exchange.coming, Coming::Caller(comer) if comer.server == invite)
        {
            cx.endpoint.cancel(now, exchange.client);
        }
    }

    fn forget_take_over(&mut self, cx: &mut Core, key: ServerKey) {
        cx.invites.remove(&key);
        self.invites.retain(|known| *known != key);
    }

    fn on_join_refused(
        &mut self,
        cx: &mut Core,
        now: Instant,
        media: Box<CallMedia>,
        status: u16,
        response: Option<&Message>,
    ) {
        let Some(executed) = &mut self.transfer.executed else { return };
        executed.media = Some(media);
        executed.glares += 1;
        if status == 491 && executed.glares <= GLARES_MAX && executed.leg.dialog.is_some() {
            return self.wait_to_join(cx, now);
        }
        self.fail_execution(cx, now, status, response);
    }
}
