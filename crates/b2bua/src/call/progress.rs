//! What the sender of an INVITE hears before the answer: our 18x, reliable where it asks for that (RFC 3262), and its
//! PRACKs. Owns what the caller was told, because one INVITE gets one description from us whatever becomes of the servers
//! behind it, and the one INVITE whose 18x may wait for PRACK: the first, later a re-INVITE of either side. Refuses to
//! know who rings.
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
    reliably: Option<Box<Reliably>>,
    known: Known,
    pub reoffer: Wanted,
}

/// Our reliable 18x to one INVITE.
struct Reliably {
    side: Side,
    invite: ServerKey,
    /// CSeq of the INVITE.
    number: u32,
    sending: Sending,
}

/// An INVITE that is to hear something.
#[derive(Copy, Clone)]
pub(super) struct Asked<'a> {
    pub side: Side,
    pub invite: ServerKey,
    pub request: &'a Message,
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

/// What an INVITE says about reliable provisional responses.
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
        self.reliably.take_if(|reliably| reliably.sending.is_idle());
        std::mem::take(&mut self.told)
    }

    /// RFC 3262 §3: the 2xx must wait for a PRACK.
    pub fn holds_back_success(&self) -> bool {
        self.reliably.as_ref().is_some_and(|reliably| reliably.sending.holds_back_success())
    }
}

impl Reliability {
    fn of(invite: &Message) -> Self {
        if simple::has_option(invite, HeaderId::Require, reliable::OPTION_TAG) {
            Self::Required
        } else if simple::has_option(invite, HeaderId::Supported, reliable::OPTION_TAG) {
            Self::Supported
        } else {
            Self::No
        }
    }
}

impl Call {
    /// A provisional response for the caller.
    pub(super) fn tell_caller(&mut self, cx: &mut Core, now: Instant, draft: Provisional) {
        let request = self.invite.clone();
        self.tell(cx, now, Asked { side: Side::A, invite: self.invite_key, request: &request }, draft);
    }

    /// A provisional response for the sender of an INVITE. Reliable when it requires that, or supports it and a
    /// description is told.
    pub(super) fn tell(&mut self, cx: &mut Core, now: Instant, asked: Asked<'_>, draft: Provisional) {
        let is_offerless = asked.request.body().is_empty() && matches!(self.progress.told, Told::Nothing);
        match Reliability::of(asked.request) {
            // RFC 3261 §13.2.1: the first reliable response to an INVITE without an offer carries one, so there is
            // nothing to say before there is one.
            Reliability::Required if is_offerless && draft.body.is_none() => {}
            Reliability::Required => self.tell_reliably(cx, now, asked, draft),
            Reliability::Supported if draft.body.is_some() => self.tell_reliably(cx, now, asked, draft),
            _ => self.tell_loosely(cx, now, asked, &draft),
        }
    }

    /// Whether a description in an 18x would reach the caller reliably.
    pub(super) fn tells_reliably(&self) -> bool {
        Reliability::of(&self.invite) != Reliability::No
    }

    fn tell_loosely(&mut self, cx: &mut Core, now: Instant, asked: Asked<'_>, draft: &Provisional) {
        cx.timers.clear(self.key, CallTimer::Progress);
        let contact = self.contact_text(asked.side);
        let lines = [
            (HeaderId::Contact, contact.as_str()),
            (HeaderId::Allow, ALLOW),
            (HeaderId::Supported, SUPPORTED),
        ];
        let body = draft.body.clone().map(|body| (SDP, body));
        let tag = Some(&self.leg(asked.side).tag[..]);
        let answer = Answer { tag, lines: &lines, block: &draft.block, body, ..Answer::of(draft.status) };
        cx.respond(now, asked.invite, asked.request, &answer);
        self.progress.known = Known::Yes;
    }

    fn tell_reliably(&mut self, cx: &mut Core, now: Instant, asked: Asked<'_>, draft: Provisional) {
        let Asked { side, invite, request } = asked;
        let known = &mut self.progress.reliably;
        known.take_if(|reliably| reliably.invite != invite);
        let reliably = known.get_or_insert_with(|| {
            let sending = Sending::new(1 + cx.keys.below(reliable::FIRST_RSEQ_MAX));
            Box::new(Reliably { side, invite, number: request.cseq().number, sending })
        });
        if let Some((rseq, draft)) = reliably.sending.submit(draft) {
            self.send_reliably(cx, now, asked, rseq, &draft);
        }
    }

    fn send_reliably(
        &mut self,
        cx: &mut Core,
        now: Instant,
        asked: Asked<'_>,
        rseq: u32,
        draft: &Provisional,
    ) {
        cx.timers.clear(self.key, CallTimer::Progress);
        let (contact, rseq) = (self.contact_text(asked.side), rseq.to_string());
        let lines = [
            (HeaderId::Contact, contact.as_str()),
            (HeaderId::Allow, ALLOW),
            (HeaderId::Supported, SUPPORTED),
            (HeaderId::Require, reliable::OPTION_TAG),
            (HeaderId::RSeq, rseq.as_str()),
        ];
        let body = draft.body.clone().map(|body| (SDP, body));
        let tag = Some(&self.leg(asked.side).tag[..]);
        let answer = Answer { tag, lines: &lines, block: &draft.block, body, ..Answer::of(draft.status) };
        let Some(bytes) = cx.response_bytes(asked.request, &answer) else {
            return cx.count("responses_not_built");
        };
        self.progress.known = Known::Yes;
        transmit(cx, now, asked.invite, bytes.clone());
        let t1 = cx.config.timers.t1;
        if let Some(reliably) = &mut self.progress.reliably {
            reliably.sending.sent(now, t1, draft, bytes);
        }
        self.arm_provisional(cx);
    }

    fn arm_provisional(&self, cx: &mut Core) {
        if self.reoffer.is_some() {
            // The timer is that of the re-INVITE now; a late PRACK changes nothing about it.
            return;
        }
        match self.progress.reliably.as_ref().and_then(|reliably| reliably.sending.deadline()) {
            Some(at) => cx.timers.set(self.key, CallTimer::Provisional, at),
            None => cx.timers.clear(self.key, CallTimer::Provisional),
        }
    }

    /// A response of ours goes out to the caller's INVITE.
    pub(super) fn note_answered(&mut self, cx: &mut Core, status: u16) {
        if status > 100 {
            self.progress.known = Known::Yes;
        }
        if status >= 200 {
            self.finish_progress(cx, self.invite_key);
        }
    }

    /// A final response goes out to that INVITE.
    pub(super) fn finish_progress(&mut self, cx: &mut Core, invite: ServerKey) {
        if let Some(reliably) = self.progress.reliably.as_mut().filter(|reliably| reliably.invite == invite) {
            reliably.sending.finish();
            self.arm_provisional(cx);
        }
    }

    /// A reliable 18x was not acknowledged yet.
    pub(super) fn on_provisional_due(&mut self, cx: &mut Core, now: Instant) {
        if self.reoffer.is_some() {
            return self.send_reoffer(cx, now);
        }
        let Some(reliably) = &mut self.progress.reliably else { return };
        let invite = reliably.invite;
        match reliably.sending.due(now) {
            Due::Again(bytes) => {
                transmit(cx, now, invite, bytes);
                self.arm_provisional(cx);
            }
            Due::Nothing => self.arm_provisional(cx),
            // RFC 3262 §3: 64*T1 without a PRACK reject the INVITE; a call that is up goes on without the new offer.
            Due::GiveUp if invite != self.invite_key => {
                self.finish_progress(cx, invite);
                self.on_reoffer_overdue(cx, now);
            }
            Due::GiveUp => {
                let who = self.a.peer.name.clone();
                let what = format!("{who} never acknowledged a provisional response it wanted reliable");
                self.terminate(cx, now, &Refusal::new(codes::PRACK_MISSING, &who, what), "PrackMissing");
            }
        }
    }

    /// PRACK of a side.
    pub(super) fn on_prack(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        key: ServerKey,
        prack: &Message,
    ) {
        let Some(rack) = prack.value_bytes(HeaderId::RAck).and_then(|value| RAck::parse(&value).ok()) else {
            return cx.respond_plain(now, key, prack, 400, &[]);
        };
        let reliably = self.progress.reliably.as_mut().filter(|reliably| reliably.side == side);
        let matched = reliably.map(|reliably| reliably.sending.acknowledge(&rack, reliably.number));
        if matched != Some(Acknowledged::Yes) {
            // RFC 3262 §3.
            return cx.respond_plain(now, key, prack, 481, &[]);
        }
        self.arm_provisional(cx);
        match self.prack_answer(cx, side, prack) {
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
        self.send_next(cx, now);
    }

    // What waited for the PRACK, while its INVITE is still open.
    fn send_next(&mut self, cx: &mut Core, now: Instant) {
        let Some(reliably) = &mut self.progress.reliably else { return };
        let (side, invite) = (reliably.side, reliably.invite);
        let Some((rseq, draft)) = reliably.sending.next() else { return };
        let request = match &self.state {
            State::Renegotiating(open) if open.server == invite => open.request.clone(),
            _ => self.invite.clone(),
        };
        self.send_reliably(cx, now, Asked { side, invite, request: &request }, rseq, &draft);
    }

    // RFC 3262 §5: a PRACK answers the offer of the response it acknowledges, or makes an offer of its own. The
    // latter is answered at once from what leg B agreed to: a PRACK may not wait for another leg.
    fn prack_answer(&mut self, cx: &mut Core, side: Side, prack: &Message) -> Result<Option<Bytes>, Refusal> {
        let who = self.leg(side).peer.name.clone();
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

fn transmit(cx: &mut Core, now: Instant, invite: ServerKey, bytes: Bytes) {
    if cx.endpoint.respond(now, invite, bytes).is_err() {
        cx.count("responses_not_sent");
    }
}
