//! One re-INVITE of ours toward the caller, right after its first ACK: when the answer it was told in an 18x is
//! not what leg B settled in the end (another fork answered, or another server). A 2xx may not change an answer
//! (RFC 3261 §13.2.1), so the change is a new offer. Owns nothing of offers that peers make.

use std::time::Instant;

use bytes::Bytes;
use relay::Side;
use sip::endpoint::ClientKey;
use sip::{HeaderId, Message, Method};

use super::answer::{answer_of, media_refusal};
use super::progress::Told;
use super::renegotiate::REOFFER_MAX;
use super::{Call, MediaState};
use crate::codes;
use crate::engine::CallTimer;
use crate::engine::core::{ClientUse, Core};
use crate::headers::ALLOW;
use crate::media_plan::{self, Exchange};
use crate::security::{MediaSecurity, Phase};
use crate::verdict::Refusal;

const SDP: &[u8] = b"application/sdp";
/// RFC 3261 §14.1: who did not make the Call-ID waits up to two seconds after a 491, in steps of 10 ms.
const RETRY_STEPS: u32 = 200;
const RETRY_STEP: std::time::Duration = std::time::Duration::from_millis(10);
/// Re-INVITEs that met a 491 before the description is left as it is.
const TRIES_MAX: u32 = 3;

/// Whether the caller needs a new description once the call is up, whatever was settled.
#[derive(Copy, Clone, Default, PartialEq, Eq)]
pub(crate) enum Wanted {
    #[default]
    No,
    Yes,
}

/// The re-INVITE, or the wait before the next one.
pub(crate) struct Reoffer {
    tries: u32,
    open: Option<(ClientKey, Exchange)>,
}

impl Call {
    /// The first ACK is in: what the caller was told is compared with what leg B settled.
    pub(super) fn reoffer_if_due(&mut self, cx: &mut Core, now: Instant) {
        let told = self.progress.settle();
        let wanted = std::mem::take(&mut self.progress.reoffer);
        let differs = match &self.media {
            MediaState::Ready(media) => !matches!(told, Told::Nothing) && !media.legs_agree(),
            _ => false,
        };
        if differs || wanted == Wanted::Yes {
            self.reoffer = Some(Box::new(Reoffer { tries: 0, open: None }));
            self.send_reoffer(cx, now);
        }
    }

    /// The wait after a 491 is over.
    pub(super) fn send_reoffer(&mut self, cx: &mut Core, now: Instant) {
        let Some(reoffer) = self.reoffer.take_if(|reoffer| reoffer.open.is_none()) else { return };
        let tries = reoffer.tries + 1;
        if self.is_negotiating() {
            // An offer of a peer is open: it settles the caller's side anew, or the ACK behind it does.
            return self.wait_to_reoffer(cx, now, tries);
        }
        let Ok((body, exchange)) = self.own_offer_to_caller(cx) else {
            return cx.count("reoffers_not_built");
        };
        let (call, contact, flow) = (self.key, self.a.contact.clone(), self.a.flow);
        let session = self.session_lines(Side::A);
        let (Some(dialog), Some(flow)) = (&mut self.a.dialog, flow) else { return };
        let mut draft =
            dialog.request(Method::Invite).header(HeaderId::Contact, contact).header(HeaderId::Allow, ALLOW);
        for (id, value) in session {
            draft = draft.header(id, value);
        }
        let draft = draft.body(SDP, body);
        let sent = draft.finish().ok().and_then(|out| cx.send(now, &flow, out, ClientUse::OwnReoffer(call)));
        if let Some(client) = sent {
            cx.timers.set(self.key, CallTimer::Reoffer, now + REOFFER_MAX);
            self.reoffer = Some(Box::new(Reoffer { tries, open: Some((client, exchange)) }));
        }
    }

    fn wait_to_reoffer(&mut self, cx: &mut Core, now: Instant, tries: u32) {
        if tries >= TRIES_MAX {
            return cx.count("reoffers_given_up");
        }
        let wait = RETRY_STEP * cx.keys.below(RETRY_STEPS + 1);
        cx.timers.set(self.key, CallTimer::Provisional, now + wait);
        self.reoffer = Some(Box::new(Reoffer { tries, open: None }));
    }

    fn own_offer_to_caller(&mut self, cx: &mut Core) -> Result<(Bytes, Exchange), Refusal> {
        let who = self.a.peer.name.clone();
        let decision = self.decide(Side::B, MediaSecurity::Absent, Phase::ReOffer)?;
        let MediaState::Ready(media) = &mut self.media else {
            return Err(Refusal::new(codes::INTERNAL, &who, "media is gone"));
        };
        media.own_offer(Side::A, &decision, &mut cx.keys).map_err(|fault| media_refusal(&fault, &who))
    }

    /// The caller answers our offer.
    pub fn on_own_reoffer_response(
        &mut self,
        cx: &mut Core,
        now: Instant,
        client: ClientKey,
        response: &Message,
    ) {
        let Some(status) = response.status().filter(|status| status.is_final()) else { return };
        let is_it =
            self.reoffer.as_ref().is_some_and(|r| r.open.as_ref().is_some_and(|(own, _)| *own == client));
        let Some(reoffer) = self.reoffer.take_if(|_| is_it) else { return };
        cx.clients.remove(&client);
        cx.timers.clear(self.key, CallTimer::Reoffer);
        if status.code() == 491 {
            return self.wait_to_reoffer(cx, now, reoffer.tries);
        }
        if !status.is_success() {
            // RFC 3261 §14.1: the session stays as it was.
            cx.count("reoffers_refused");
            return self.end_if_gone(cx, now, Side::A, response);
        }
        if let Some(dialog) = &mut self.a.dialog {
            dialog.refresh_target(response);
        }
        self.agree_session(cx, now, Side::A, response);
        self.send_ack(cx, now, Side::A, response.cseq().number, None);
        if let Err(refusal) = self.settle_reoffer(reoffer.open, response) {
            return self.hang_up_both(cx, now, refusal.verdict, "AnswerRefused");
        }
        self.apply_media(cx);
    }

    fn settle_reoffer(
        &mut self,
        open: Option<(ClientKey, Exchange)>,
        response: &Message,
    ) -> Result<(), Refusal> {
        let who = self.a.peer.name.clone();
        let answer = answer_of(response, &who)?;
        self.decide(Side::A, media_plan::said(&answer), Phase::Answer)?;
        let (MediaState::Ready(media), Some((_, exchange))) = (&mut self.media, open) else {
            return Err(Refusal::new(codes::INTERNAL, &who, "media is gone"));
        };
        media.settle_answer(&exchange, answer).map_err(|fault| media_refusal(&fault, &who))
    }

    /// The caller never answered our offer: the session stays as it was.
    pub fn on_own_reoffer_failed(&mut self, cx: &mut Core, client: ClientKey) {
        let is_it =
            self.reoffer.as_ref().is_some_and(|r| r.open.as_ref().is_some_and(|(own, _)| *own == client));
        if self.reoffer.take_if(|_| is_it).is_some() {
            cx.count("reoffers_refused");
        }
    }

    /// It was not answered in time: the CANCEL brings a final answer.
    pub(super) fn withdraw_reoffer(&self, cx: &mut Core, now: Instant) {
        if let Some((client, _)) = self.reoffer.as_ref().and_then(|reoffer| reoffer.open.as_ref()) {
            cx.count("offers_overdue");
            cx.endpoint.cancel(now, *client);
        }
    }

    /// The call is over. A 2xx that still comes is acknowledged as nobody's.
    pub(super) fn drop_reoffer(&mut self, cx: &mut Core, now: Instant) {
        if let Some((client, _)) = self.reoffer.take().and_then(|reoffer| reoffer.open) {
            cx.endpoint.cancel(now, client);
            cx.clients.remove(&client);
        }
    }
}
