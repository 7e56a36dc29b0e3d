//! What a ringing or answering server means for the caller: 18x and 200 relayed with our descriptions,
//! the answer judged before a packet may flow, the ACK awaited. Owns nothing but these steps.

use std::time::Instant;

use bytes::Bytes;
use relay::Side;
use sdp::{AnswerError, OfferError, Session};
use sip::dialog::Dialog;
use sip::endpoint::ServerKey;
use sip::{HeaderId, Message, Method};

use super::forks::{EarlyAnswer, How, Winner};
use super::progress::Told;
use super::reliable::{self, Heard, Provisional};
use super::story::{Missed, Outcome};
use super::waiting::told_as;
use super::{Attempt, Awaited, Call, Late, MediaState, State, Step};
use crate::codes;
use crate::engine::core::{Answer, ClientUse, Core};
use crate::engine::{CallAnswered, CallTimer, Event};
use crate::headers::{ALLOW, WithBody};
use crate::media_plan::{self, Exchange, MediaFault};
use crate::quirks::Quirk;
use crate::record::OfferResult;
use crate::security::{self, Decision, Direction, MediaSecurity, Phase, Question, Said, Signalling};
use crate::verdict::Refusal;

const SDP: &[u8] = b"application/sdp";

/// The session description of a message: `None` without a body.
pub(crate) fn session_of(message: &Message) -> Result<Option<Session>, BodyFault> {
    let body = message.body();
    if body.is_empty() {
        return Ok(None);
    }
    let content_type = message.value_bytes(HeaderId::ContentType).unwrap_or_default();
    let chosen = sdp::choose_body(&content_type, &body).map_err(|e| BodyFault::Type(e.to_string()))?;
    Session::parse(chosen).map(Some).map_err(|e| BodyFault::Sdp(e.to_string()))
}

/// The answer in a 2xx, which may not be missing.
pub(super) fn answer_of(response: &Message, who: &str) -> Result<Session, Refusal> {
    match session_of(response) {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => {
            let what = format!("{who} answered without a description");
            Err(Refusal::new(codes::ANSWER_UNUSABLE, who, what))
        }
        Err(fault) => Err(fault.refusal(who)),
    }
}

/// Why a body cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BodyFault {
    /// No SDP in it.
    Type(String),
    /// Broken SDP.
    Sdp(String),
}

impl BodyFault {
    /// As a refusal.
    pub fn refusal(&self, who: &str) -> Refusal {
        match self {
            Self::Type(why) => Refusal::new(codes::MEDIA_TYPE, who, format!("body of {who}: {why}")),
            Self::Sdp(why) => {
                Refusal::new(codes::SDP_UNUSABLE, who, format!("session description of {who}: {why}"))
            }
        }
    }
}

/// A description that cannot go on, as a refusal.
pub(crate) fn media_refusal(fault: &MediaFault, who: &str) -> Refusal {
    let code = match fault {
        MediaFault::Offer(OfferError::FaxOnly) => codes::FAX_REFUSED,
        MediaFault::Offer(OfferError::NoCodec) | MediaFault::Answer(AnswerError::NoCodec) => {
            codes::NO_COMMON_CODEC
        }
        MediaFault::Offer(_) => codes::SDP_UNUSABLE,
        MediaFault::Answer(
            AnswerError::Downgrade | AnswerError::CryptoNotOffered | AnswerError::CryptoLine,
        ) => codes::ANSWER_INCOMPATIBLE,
        MediaFault::Answer(_) => codes::ANSWER_UNUSABLE,
        MediaFault::Foreign(_) => codes::MEDIA_FOREIGN,
        MediaFault::Family(_) => codes::MEDIA_FAMILY,
        MediaFault::Own(_) => codes::INTERNAL,
    };
    Refusal::new(code, who, format!("{who}: {fault}"))
}

/// An 18x in its early dialog.
#[derive(Copy, Clone)]
struct Carried {
    /// Which early dialog.
    at: usize,
    how: How,
}

/// The dialog a 2xx confirms or makes (RFC 3261 §13.2.2.4).
fn confirmed(winner: &mut Winner, attempt: &Attempt, response: &Message) -> Option<Dialog> {
    match winner.fork.as_mut().and_then(|fork| fork.dialog.take()) {
        Some(mut dialog) => dialog.confirm_with(response).is_ok().then_some(dialog),
        None => match &attempt.step {
            Step::Inviting { request, .. } => Dialog::uac(request, response).ok(),
            _ => None,
        },
    }
}

impl Call {
    /// Decides one description of one side.
    pub fn decide(
        &self,
        side: Side,
        media: MediaSecurity,
        phase: Phase,
    ) -> Result<security::Decision, Refusal> {
        let is_tls = self.leg(side).flow.is_some_and(|flow| flow.transport.is_secure());
        let said = Said {
            transport: if is_tls { Signalling::MutualTls } else { Signalling::Plain },
            media,
            direction: if self.is_um(side) { Direction::FromServer } else { Direction::FromGateway },
            phase,
        };
        let Some(mut question) =
            Question::of(&self.policy, self.route.ip_gateway, self.route.dial_plan, said)
        else {
            return Err(Refusal::new(
                codes::INTERNAL,
                &self.policy.gateway.fqdn,
                "the call's dial plan is gone",
            ));
        };
        question.parties.server = &self.leg(self.um_side()).peer.name;
        security::decide(&question).map(|decision| self.as_paired(decision))
    }

    /// 18x of leg B.
    pub(super) fn on_ringing(
        &mut self,
        cx: &mut Core,
        now: Instant,
        mut attempt: Box<Attempt>,
        response: &Message,
    ) {
        if let Some(carried) = self.heard_in_order(cx, now, &mut attempt, response) {
            let body = self.early_description(cx, &mut attempt, carried, response);
            self.relay_ringing(cx, now, body, response);
        }
        self.state = State::Ringing(attempt);
    }

    // The early dialog of an 18x and how it was carried, acknowledged where it asks for that; `None`: not to be processed.
    fn heard_in_order(
        &mut self,
        cx: &mut Core,
        now: Instant,
        attempt: &mut Attempt,
        response: &Message,
    ) -> Option<Carried> {
        let Step::Inviting { request, .. } = &attempt.step else { return None };
        let Some(at) = attempt.forks.hear(request, response) else {
            cx.count("early_dialogs_over_the_limit");
            return None;
        };
        cx.dialogs.insert(self.dialog_id(Side::B), (self.key, Side::B));
        let Some(rseq) = reliable::rseq_of(response) else { return Some(Carried { at, how: How::Loosely }) };
        let fork = attempt.forks.get_mut(at)?;
        // Without a dialog there is no way to send a PRACK.
        let dialog = fork.dialog.as_mut()?;
        if fork.received.receive(rseq) != Heard::InOrder {
            // RFC 3262 §4: neither acknowledged nor processed further.
            cx.count("reliable_responses_out_of_order");
            return None;
        }
        let rack = sip::RAck { rseq, cseq: response.cseq() };
        let draft = dialog.request(Method::Prack).header(HeaderId::RAck, rack.to_string());
        match (draft.finish(), self.b.flow) {
            (Ok(prack), Some(flow)) => {
                cx.send(now, &flow, prack, ClientUse::Prack);
            }
            _ => cx.count("pracks_not_built"),
        }
        Some(Carried { at, how: How::Reliably })
    }

    // The first description of an early dialog is its answer to our offer; the media of the first one that has an
    // acceptable answer runs. Gives what the caller is to be told.
    fn early_description(
        &mut self,
        cx: &mut Core,
        attempt: &mut Attempt,
        carried: Carried,
        response: &Message,
    ) -> Option<Bytes> {
        let known = |told: &Told| match told {
            Told::Loosely(body) => Some(body.clone()),
            _ => None,
        };
        let Carried { at, how } = carried;
        let (is_first, playing) = (attempt.forks.get(at)?.answer.is_none(), attempt.forks.playing());
        let session = match session_of(response) {
            Ok(None) => return known(&self.progress.told),
            Err(_) if how == How::Loosely => return known(&self.progress.told),
            Ok(Some(session)) => Ok(session),
            Err(fault) => Err(fault.refusal(&self.b.peer.name)),
        };
        if !is_first {
            return known(&self.progress.told);
        }
        let settled = match &session {
            Ok(answer) if playing.is_none() => self.settle_b(&attempt.exchange, answer.clone()),
            Ok(answer) => self.decide(Side::B, media_plan::said(answer), Phase::Answer),
            Err(refusal) => Err(refusal.clone()),
        };
        if settled.is_ok() && playing.is_none() {
            attempt.forks.play(at);
        }
        let judged = settled.clone().and(session);
        attempt.forks.get_mut(at)?.answer = Some(EarlyAnswer { judged, how });
        let told = match (&self.progress.told, &settled) {
            (Told::Nothing, Ok(decision)) => self.describe_to_caller(cx, attempt, decision),
            (told, _) => known(told),
        };
        if settled.is_ok() && playing.is_none() {
            self.apply_media(cx);
        }
        told
    }

    /// Takes leg B's answer to our offer.
    fn settle_b(&mut self, exchange: &Exchange, answer: Session) -> Result<Decision, Refusal> {
        let decision = self.decide(Side::B, media_plan::said(&answer), Phase::Answer)?;
        let who = self.b.peer.name.clone();
        let MediaState::Ready(media) = &mut self.media else {
            return Err(Refusal::new(codes::INTERNAL, &who, "media is gone"));
        };
        media.settle_answer(exchange, answer).map_err(|fault| media_refusal(&fault, &who))?;
        Ok(decision)
    }

    // From what leg B settled: our answer to the caller, or our offer when it brought none. That one needs a
    // reliable response (RFC 3261 §13.2.1).
    fn describe_to_caller(&mut self, cx: &mut Core, attempt: &Attempt, decision: &Decision) -> Option<Bytes> {
        let is_reliable = self.tells_reliably();
        if attempt.late == Late::Yes {
            if !is_reliable {
                return None;
            }
            let (body, exchange) = self.settled_offer(cx, decision).ok()?;
            self.progress.told = Told::Offered(Box::new(exchange));
            return Some(body);
        }
        let body = self.settled_answer_for_a(cx, &attempt.exchange, decision).ok()?;
        self.progress.told = if is_reliable { Told::Agreed } else { Told::Loosely(body.clone()) };
        Some(body)
    }

    fn settled_offer(&mut self, cx: &mut Core, decision: &Decision) -> Result<(Bytes, Exchange), Refusal> {
        let who = self.b.peer.name.clone();
        let MediaState::Ready(media) = &mut self.media else {
            return Err(Refusal::new(codes::INTERNAL, &who, "media is gone"));
        };
        media.relay_settled(Side::B, decision, &mut cx.keys).map_err(|fault| media_refusal(&fault, &who))
    }

    fn settled_answer_for_a(
        &mut self,
        cx: &mut Core,
        exchange: &Exchange,
        decision: &Decision,
    ) -> Result<Bytes, Refusal> {
        let who = self.b.peer.name.clone();
        let MediaState::Ready(media) = &mut self.media else {
            return Err(Refusal::new(codes::INTERNAL, &who, "media is gone"));
        };
        media.answer_offerer(exchange, decision, &mut cx.keys).map_err(|fault| media_refusal(&fault, &who))
    }

    fn relay_ringing(&mut self, cx: &mut Core, now: Instant, body: Option<Bytes>, response: &Message) {
        let status = match response.status().map_or(180, |s| s.code()) {
            // A 180 with a description confuses UCMA: 183 carries it.
            180..=182 if body.is_some() && self.a.peer.dialect.has(Quirk::ProgressFor180WithSdp) => {
                cx.count(Quirk::ProgressFor180WithSdp.counter());
                183
            }
            status => told_as(status),
        };
        let block = self.response_lines(cx, response, Side::B, WithBody::No);
        self.tell_caller(cx, now, Provisional { status, block, body });
    }

    /// 2xx of leg B: acknowledged at once, then judged. Every other early dialog of the INVITE is over.
    pub(super) fn on_answer(
        &mut self,
        cx: &mut Core,
        now: Instant,
        mut attempt: Box<Attempt>,
        response: &Message,
    ) {
        cx.timers.clear(self.key, CallTimer::Setup);
        cx.timers.clear(self.key, CallTimer::Progress);
        let mut winner = attempt.forks.win(response);
        if !winner.plays {
            self.drop_early_offer(cx, now);
        }
        self.b.dialog = confirmed(&mut winner, &attempt, response);
        if self.b.dialog.is_none() {
            let refusal = Refusal::new(
                codes::SERVER_FAILED,
                &attempt.hop.server,
                "its 200 has no usable Contact or tag",
            );
            self.state = State::Dialing(attempt);
            return self.refuse(cx, now, &refusal, OfferResult::Failed);
        }
        cx.dialogs.insert(self.dialog_id(Side::B), (self.key, Side::B));
        self.send_ack(cx, now, Side::B, response.cseq().number, None);
        self.agree_session(cx, now, Side::B, response);
        match self.judged_answer(cx, &attempt, winner, response) {
            Ok(_) if self.progress.holds_back_success() => {
                // RFC 3262 §3.
                self.apply_media(cx);
                self.state = State::Held;
            }
            Ok((body, offer)) => self.connect_caller(cx, now, body, offer),
            Err(refusal) => {
                self.state = State::Held;
                self.refuse_answered(cx, now, &refusal, "AnswerRefused");
            }
        }
    }

    // The body for the caller and, when it is an offer, what the ACK will answer.
    fn judged_answer(
        &mut self,
        cx: &mut Core,
        attempt: &Attempt,
        winner: Winner,
        response: &Message,
    ) -> Result<(Option<Bytes>, Option<Box<Exchange>>), Refusal> {
        let early = winner.fork.and_then(|fork| fork.answer);
        let decision = match early {
            // RFC 3261 §13.2.1: complete already, whatever the 2xx says again. An UPDATE may have changed it since.
            Some(EarlyAnswer { judged, how: How::Reliably }) => {
                let answer = judged?;
                match winner.plays {
                    true => self.decide(Side::B, media_plan::said(&answer), Phase::Answer)?,
                    false => self.settle_b(&attempt.exchange, answer)?,
                }
            }
            Some(EarlyAnswer { judged, how: How::Loosely }) if response.body().is_empty() => {
                self.settle_b(&attempt.exchange, judged?)?
            }
            _ => {
                let who = self.b.peer.name.clone();
                let answer = answer_of(response, &who)?;
                self.settle_b(&attempt.exchange, answer)?
            }
        };
        match &self.progress.told {
            // RFC 3261 §13.2.1: the answer in the 2xx is the one its 18x told; what differs is offered anew.
            Told::Loosely(body) => Ok((Some(body.clone()), None)),
            Told::Offered(_) | Told::Agreed => Ok((None, None)),
            Told::Nothing if attempt.late == Late::Yes => self
                .settled_offer(cx, &decision)
                .map(|(body, exchange)| (Some(body), Some(Box::new(exchange)))),
            Told::Nothing => {
                self.settled_answer_for_a(cx, &attempt.exchange, &decision).map(|body| (Some(body), None))
            }
        }
    }

    pub(super) fn connect_caller(
        &mut self,
        cx: &mut Core,
        now: Instant,
        body: Option<Bytes>,
        offer: Option<Box<Exchange>>,
    ) {
        if offer.is_none() {
            self.apply_media(cx);
        }
        let contact = self.contact_text(Side::A);
        let session = self.grant_session(cx, now, Side::A, &self.invite.clone());
        let mut lines = vec![(HeaderId::Contact, contact.as_str()), (HeaderId::Allow, ALLOW)];
        lines.extend(session.iter().map(|(id, value)| (*id, value.as_str())));
        let body = body.map(|body| (SDP, body));
        self.answer_caller(cx, now, Answer { lines: &lines, body, ..Answer::of(200) });
        if let Some(dialog) = &mut self.a.dialog {
            dialog.confirm();
        }
        self.story.answered_at = Some(now);
        if let MediaState::Ready(media) = &self.media {
            self.story.codec = media.codec();
        }
        let plan = self.policy.dial_plans.get(self.route.dial_plan);
        if let Some(longest) = plan.map(|p| p.max_call_duration).filter(|d| !d.is_zero()) {
            cx.timers.set(self.key, CallTimer::MaxDuration, now + longest);
        }
        cx.event(Event::CallAnswered(Box::new(CallAnswered {
            call: self.key,
            call_id: self.story.call_id.clone(),
            b_call_id: self.story.b_call_id.clone().unwrap_or_default(),
            server: self.b.peer.name.clone(),
            setup: now.saturating_duration_since(self.story.started_at),
        })));
        self.state = State::Answering { awaited: Awaited { side: Side::A, invite: self.invite_key }, offer };
    }

    /// Leg B is up but its answer cannot stand: the caller is refused, the server hung up on.
    pub(super) fn refuse_answered(
        &mut self,
        cx: &mut Core,
        now: Instant,
        refusal: &Refusal,
        drop_reason: &'static str,
    ) {
        let (status, reason, block) = cx.refusal_parts(refusal);
        self.answer_caller(
            cx,
            now,
            Answer { reason: Some(reason.as_bytes()), block: &block, ..Answer::of(status) },
        );
        let outcome = Outcome {
            verdict: refusal.verdict.clone(),
            offer_result: OfferResult::Failed,
            drop_reason,
            missed: Missed::No,
        };
        self.hang_up(cx, now, outcome, &[Side::B], &Bytes::new());
    }

    /// ACK to a 2xx of that side.
    pub(super) fn send_ack(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        cseq: u32,
        body: Option<Bytes>,
    ) {
        let leg = self.leg(side);
        let (Some(dialog), Some(flow)) = (&leg.dialog, leg.flow) else { return };
        let mut draft = dialog.ack(cseq);
        if let Some(body) = body {
            draft = draft.body(SDP, body);
        }
        match draft.finish() {
            Ok(ack) => cx.endpoint.send_ack(now, &flow, ack),
            Err(_) => cx.count("acks_not_built"),
        }
    }

    /// The ACK to our 2xx.
    pub fn on_ack(&mut self, cx: &mut Core, now: Instant, invite: ServerKey, ack: &Message) {
        match self.take_state() {
            // An ACK that came late belongs to an earlier INVITE: it settles nothing here.
            State::Answering { awaited, offer } if awaited.invite == invite => {
                debug_assert!(self.leg(awaited.side).dialog.is_some(), "an ACK without a dialog");
                self.establish();
                match offer {
                    Some(exchange) => self.on_late_answer(cx, now, awaited.side, &exchange, ack),
                    None => self.reoffer_if_due(cx, now),
                }
            }
            other => {
                self.state = other;
                self.send_held_bye(cx, now, invite);
            }
        }
    }

    fn on_late_answer(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        exchange: &media_plan::Exchange,
        ack: &Message,
    ) {
        let who = self.leg(side).peer.name.clone();
        let judged = match session_of(ack) {
            Ok(Some(answer)) => self.decide(side, media_plan::said(&answer), Phase::Answer).map(|_| answer),
            Ok(None) => Err(Refusal::new(
                codes::ANSWER_UNUSABLE,
                &who,
                format!("{who} acknowledged without an answer"),
            )),
            Err(fault) => Err(fault.refusal(&who)),
        };
        let settled = judged.and_then(|answer| match &mut self.media {
            MediaState::Ready(media) => {
                media.settle_answer(exchange, answer).map_err(|fault| media_refusal(&fault, &who))
            }
            _ => Err(Refusal::new(codes::INTERNAL, &who, "media is gone")),
        });
        match settled {
            Ok(()) => self.apply_media(cx),
            Err(refusal) => {
                let outcome = Outcome {
                    verdict: refusal.verdict,
                    offer_result: OfferResult::Failed,
                    drop_reason: "AnswerRefused",
                    missed: Missed::No,
                };
                self.hang_up(cx, now, outcome, &[Side::A, Side::B], &Bytes::new());
            }
        }
    }
}
