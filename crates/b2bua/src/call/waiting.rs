//! What the asking side of a re-INVITE hears before the answer: the other side's 18x, carried on like those of the first
//! INVITE, so that nobody on the way takes the wait for silence. Owns what the answering side said so far (reliable
//! responses are acknowledged on its own leg, RFC 3262 §4) and how long it may take. Refuses to know what an answer means.
//!
//! ```text
//!  asks             Umbra            answers
//!    │ ── INVITE ────► │ ── INVITE ────► │   Supported: 100rel, whatever the asking side said
//!    │                 │ ◄─ 183 RSeq ─── │   its description, if any, is the answer: kept
//!    │ ◄─ 183 ──────── │ ── PRACK ─────► │   reliable here when the asking side requires it, never with a description
//!    │ ◄─ 200 answer ─ │ ◄─ 200 ──────── │
//! ```

use std::time::{Duration, Instant};

use sip::endpoint::ClientKey;
use sip::{HeaderId, Message, Method};

use super::progress::Asked;
use super::reliable::{self, Heard, Provisional, Receiving};
use super::renegotiate::Withdrawn;
use super::{Call, State};
use crate::engine::CallTimer;
use crate::engine::core::{ClientUse, Core};
use crate::headers::WithBody;

/// A far end that rings for an offer may do so for this long, from its first 18x on: the shortest Timer C of a proxy
/// (RFC 3261 §16.6).
const RINGS_MAX: Duration = Duration::from_secs(180);

/// What the answering side of a re-INVITE said before its answer.
#[derive(Default)]
pub(crate) struct Waiting {
    received: Receiving,
    /// The first description in a reliable response: the answer (RFC 3262 §5).
    pub answer: Option<Message>,
    until: Option<Instant>,
}

impl Call {
    /// A provisional response to an offer that was carried to the other leg.
    pub(super) fn on_reoffer_progress(
        &mut self,
        cx: &mut Core,
        now: Instant,
        client: ClientKey,
        response: &Message,
    ) {
        let status = response.status().map_or(100, |status| status.code());
        let State::Renegotiating(open) = &mut self.state else { return };
        if open.client != client || status == 100 || *response.method() != Method::Invite {
            return;
        }
        let answering = !open.from;
        if let Some(rseq) = reliable::rseq_of(response) {
            if open.waiting.received.receive(rseq) != Heard::InOrder {
                return cx.count("reliable_responses_out_of_order");
            }
            if !response.body().is_empty() {
                open.waiting.answer.get_or_insert_with(|| response.clone());
            }
            self.acknowledge(cx, now, answering, rseq, response);
        }
        let State::Renegotiating(open) = &mut self.state else { return };
        // RFC 4320 §4.1: a request that is no INVITE has no time to wait, and nothing but 100 to hear.
        if open.withdrawn != Withdrawn::No || *open.request.method() != Method::Invite {
            return;
        }
        let until = *open.waiting.until.get_or_insert(now + RINGS_MAX);
        let (side, invite, request) = (open.from, open.server, open.request.clone());
        cx.timers.set(self.key, CallTimer::Reoffer, until);
        let block = self.response_lines(cx, response, answering, WithBody::No);
        let draft = Provisional { status: told_as(status), block, body: None };
        self.tell(cx, now, Asked { side, invite, request: &request }, draft);
    }

    fn acknowledge(&mut self, cx: &mut Core, now: Instant, side: relay::Side, rseq: u32, response: &Message) {
        let rack = sip::RAck { rseq, cseq: response.cseq() };
        let leg = self.leg_mut(side);
        let prack = leg
            .dialog
            .as_mut()
            .and_then(|d| d.request(Method::Prack).header(HeaderId::RAck, rack.to_string()).finish().ok());
        match prack.zip(leg.flow) {
            Some((prack, flow)) => {
                cx.send(now, &flow, prack, ClientUse::Prack);
            }
            None => cx.count("pracks_not_built"),
        }
    }
}

/// RFC 3261 §8.1.3.2: a provisional response nobody knows is a 183.
pub(super) fn told_as(status: u16) -> u16 {
    if matches!(status, 180..=183) { status } else { 183 }
}
