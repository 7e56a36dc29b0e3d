//! What the caller hears before the answer: our 18x, reliable where the caller asks for it (RFC 3262), and its
//! PRACKs. Owns what was told, because one INVITE gets one description from us whatever becomes of the servers
//! behind it. Refuses to know which of them rings.
//!
//! ```text
//! Nothing ──18x──► Loosely ─────────────2xx, same description──► (ACK)
//!    ├──reliable 18x, answer──► Agreed ──2xx without description─► (ACK)
//!    └──reliable 18x, offer───► Offered ──answer in PRACK──► Agreed
//! ```

use std::time::Instant;

use bytes::Bytes;
use relay::Side;
use sip::endpoint::ServerKey;
use sip::header::simple;
use sip::{HeaderId, Message, RAck};

use super::answer::{media_refusal, session_of};
use super::reliable::{self, Acknowledged, Due, Provisional, Sending};
use super::reoffer::Wanted;
use super::{Call, MediaState, State};
use crate::codes;
use crate::engine::CallTimer;
use crate::engine::core::{Answer, Core};
use crate::headers::{ALLOW, SUPPORTED};
use crate::media_plan::{self, Exchange};
use crate::security::Phase;
use crate::verdict::Refusal;

const SDP: &[u8] = b"application/sdp";

/// The caller's side of the early dialog.
#[derive(Default)]
pub(crate) struct Progress {
    pub told: Told,
    sending: Option<Box<Sending>>,
    known: Known,
    pub reoffer: Wanted,
}

/// The description the caller has from us.
#[derive(Default)]
pub(crate) enum Told {
    /// None.
    #[default]
    Nothing,
    /// Our answer, in 18x that may be lost.
    Loosely(Bytes),
    /// Our offer, in a reliable 18x; its answer comes in the PRACK.
    Offered(Box<Exchange>),
    /// Offer and answer are complete.
    Agreed,
}

/// Whether the caller has our tag, so that requests of ours can reach its dialog.
#[derive(Copy, Clone, Default, PartialEq, Eq)]
enum Known {
    #[default]
    No,
    Yes,
}

/// What the caller's INVITE says about reliable provisional responses.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Reliability {
    /// `Require: 100rel`.
    Required,
    /// `Supported: 100rel`.
    Supported,
    No,
}

impl Progress {
    /// Whether a request of ours can reach the caller before the answer.
    pub fn can_be_asked(&self) -> bool {
        self.known == Known::Yes
    }

    /// The call is up: what is left to remember is a response whose PRACK may still come.
    pub fn settle(&mut self) -> Told {
        self.sending.take_if(|sending| sending.is_idle());
        std::mem::take(&mut self.told)
    }

    /// RFC 3262 §3: the 2xx must wait for a PRACK.
    pub fn holds_back_success(&self) -> bool {
        self.sending.as_ref().is_some_and(|sending| sending.holds_back_success())
    }
}

impl Call {
    fn caller_reliability(&self) -> Reliability {
        if simple::has_option(&self.invite, HeaderId::Require, reliable::OPTION_TAG) {
            Reliability::Required
        } else if simple::has_option(&self.invite, HeaderId::Supported, reliable::OPTION_TAG) {
            Reliability::Supported
        } else {
            Reliability::No
        }
    }

    /// A provisional response for the caller. Reliable when the caller requires it, or supports it and a
    /// description is told.
    pub(super) fn tell_caller(&mut self, cx: &mut Core, now: Instant, draft: Provisional) {
        let reliability = self.caller_reliability();
        let is_offerless = self.invite.body().is_empty() && matches!(self.progress.told, Told::Nothing);
        match reliability {
            // RFC 3261 §13.2.1: the first reliable response to an INVITE without an offer carries one, so there is
            // nothing to say before there is one.
            Reliability::Required if is_offerless && draft.body.is_none() => {}
            Reliability::Required => self.tell_reliably(cx, now, draft),
            Reliability::Supported if draft.body.is_some() => self.tell_reliably(cx, now, draft),
            _ => self.tell_loosely(cx, now, &draft),
        }
    }

    /// Whether a description in an 18x would reach the caller reliably.
    pub(super) fn tells_reliably(&self) -> bool {
        self.caller_reliability() != Reliability::No
    }

    fn tell_loosely(&mut self, cx: &mut Core, now: Instant, draft: &Provisional) {
        cx.timers.clear(self.key, CallTimer::Progress);
        let contact = self.contact_text(Side::A);
        let lines = [
            (HeaderId::Contact, contact.as_str()),
            (HeaderId::Allow, ALLOW),
            (HeaderId::Supported, SUPPORTED),
        ];
        let body = draft.body.clone().map(|body| (SDP, body));
        let answer = Answer { lines: &lines, block: &draft.block, body, ..Answer::of(draft.status) };
        self.answer_caller(cx, now, answer);
    }

    fn tell_reliably(&mut self, cx: &mut Core, now: Instant, draft: Provisional) {
        let sending = self
            .progress
            .sending
            .get_or_insert_with(|| Box::new(Sending::new(1 + cx.keys.below(reliable::FIRST_RSEQ_MAX))));
        if let Some((rseq, draft)) = sending.submit(draft) {
            self.send_reliably(cx, now, rseq, &draft);
        }
    }

    fn send_reliably(&mut self, cx: &mut Core, now: Instant, rseq: u32, draft: &Provisional) {
        cx.timers.clear(self.key, CallTimer::Progress);
        let (contact, rseq) = (self.contact_text(Side::A), rseq.to_string());
        let lines = [
            (HeaderId::Contact, contact.as_str()),
            (HeaderId::Allow, ALLOW),
            (HeaderId::Supported, SUPPORTED),
            (HeaderId::Require, reliable::OPTION_TAG),
            (HeaderId::RSeq, rseq.as_str()),
        ];
        let body = draft.body.clone().map(|body| (SDP, body));
        let tag = self.a.tag.clone();
        let answer =
            Answer { tag: Some(&tag), lines: &lines, block: &draft.block, body, ..Answer::of(draft.status) };
        let Some(bytes) = cx.response_bytes(&self.invite, &answer) else {
            return cx.count("responses_not_built");
        };
        self.progress.known = Known::Yes;
        self.transmit_reliably(cx, now, bytes.clone());
        let t1 = cx.config.timers.t1;
        if let Some(sending) = &mut self.progress.sending {
            sending.sent(now, t1, draft, bytes);
        }
        self.arm_provisional(cx);
    }

    fn transmit_reliably(&self, cx: &mut Core, now: Instant, bytes: Bytes) {
        if cx.endpoint.respond(now, self.invite_key, bytes).is_err() {
            cx.count("responses_not_sent");
        }
    }

    fn arm_provisional(&self, cx: &mut Core) {
        if self.reoffer.is_some() {
            // The timer is that of the re-INVITE now; a late PRACK changes nothing about it.
            return;
        }
        match self.progress.sending.as_ref().and_then(|sending| sending.deadline()) {
            Some(at) => cx.timers.set(self.key, CallTimer::Provisional, at),
            None => cx.timers.clear(self.key, CallTimer::Provisional),
        }
    }

    /// A response of ours goes out to the caller's INVITE.
    pub(super) fn note_answered(&mut self, cx: &mut Core, status: u16) {
        if status > 100 {
            self.progress.known = Known::Yes;
        }
        if status >= 200
            && let Some(sending) = &mut self.progress.sending
        {
            sending.finish();
            self.arm_provisional(cx);
        }
    }

    /// A reliable 18x was not acknowledged yet.
    pub(super) fn on_provisional_due(&mut self, cx: &mut Core, now: Instant) {
        if self.reoffer.is_some() {
            return self.send_reoffer(cx, now);
        }
        let Some(sending) = &mut self.progress.sending else { return };
        match sending.due(now) {
            Due::Again(bytes) => {
                self.transmit_reliably(cx, now, bytes);
                self.arm_provisional(cx);
            }
            Due::Nothing => self.arm_provisional(cx),
            // RFC 3262 §3: 64*T1 without a PRACK reject the INVITE.
            Due::GiveUp => {
                let who = self.a.peer.name.clone();
                let what = format!("{who} never acknowledged a provisional response it wanted reliable");
                self.terminate(cx, now, &Refusal::new(codes::PRACK_MISSING, &who, what), "PrackMissing");
            }
        }
    }

    /// PRACK of the caller.
    pub(super) fn on_prack(&mut self, cx: &mut Core, now: Instant, key: ServerKey, prack: &Message) {
        let Some(rack) = prack.value_bytes(HeaderId::RAck).and_then(|value| RAck::parse(&value).ok()) else {
            return cx.respond_plain(now, key, prack, 400, &[]);
        };
        let number = self.invite_cseq;
        let matched = self.progress.sending.as_mut().map(|sending| sending.acknowledge(&rack, number));
        if matched != Some(Acknowledged::Yes) {
            // RFC 3262 §3.
            return cx.respond_plain(now, key, prack, 481, &[]);
        }
        self.arm_provisional(cx);
        match self.prack_answer(cx, prack) {
            Ok(Some(body)) => {
                cx.respond(now, key, prack, &Answer { body: Some((SDP, body)), ..Answer::of(200) });
            }
            Ok(None) => cx.respond_plain(now, key, prack, 200, &[]),
            Err(refusal) if matches!(self.progress.told, Told::Offered(_)) => {
                // What answers our offer cannot stand, and there will be no other: the call has no media.
                cx.refuse(now, key, prack, &refusal, None);
                return self.terminate(cx, now, &refusal, "AnswerRefused");
            }
            Err(refusal) => {
                cx.count("offers_refused_in_dialog");
                cx.refuse(now, key, prack, &refusal, None);
            }
        }
        if matches!(self.state, State::Held) && !self.progress.holds_back_success() {
            return self.connect_caller(cx, now, None, None);
        }
        if let Some((rseq, draft)) = self.progress.sending.as_mut().and_then(|sending| sending.next()) {
            self.send_reliably(cx, now, rseq, &draft);
        }
    }

    // RFC 3262 §5: a PRACK answers the offer of the response it acknowledges, or makes an offer of its own. The
    // latter is answered at once from what leg B agreed to: a PRACK may not wait for another leg.
    fn prack_answer(&mut self, cx: &mut Core, prack: &Message) -> Result<Option<Bytes>, Refusal> {
        let who = self.a.peer.name.clone();
        let session = session_of(prack).map_err(|fault| fault.refusal(&who))?;
        match (&self.progress.told, session) {
            (Told::Offered(_), None) => {
                let what = format!("{who} acknowledged our offer without an answer");
                Err(Refusal::new(codes::ANSWER_UNUSABLE, &who, what))
            }
            (Told::Offered(exchange), Some(answer)) => {
                self.decide(Side::A, media_plan::said(&answer), Phase::Answer)?;
                let MediaState::Ready(media) = &mut self.media else {
                    return Err(Refusal::new(codes::INTERNAL, &who, "media is gone"));
                };
                media.settle_answer(exchange, answer).map_err(|fault| media_refusal(&fault, &who))?;
                self.progress.told = Told::Agreed;
                self.apply_media(cx);
                Ok(None)
            }
            (_, None) => Ok(None),
            (Told::Agreed, Some(offer)) => self.answer_here(cx, Side::A, offer).map(Some),
            (_, Some(_)) => {
                let what = format!("{who} made an offer while its first one was open");
                Err(Refusal::new(codes::SDP_UNUSABLE, &who, what))
            }
        }
    }
}
