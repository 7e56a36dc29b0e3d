//! What a ringing or answering server means for the caller: 18x and 200 relayed with our descriptions,
//! the answer judged before a packet may flow, the ACK awaited. Owns nothing but these steps.

use std::time::Instant;

use bytes::Bytes;
use relay::Side;
use sdp::{AnswerError, OfferError, Session};
use sip::dialog::Dialog;
use sip::{HeaderId, Message};

use super::story::{Missed, Outcome};
use super::{Attempt, Call, Late, MediaState, State, Step};
use crate::codes;
use crate::engine::core::{Answer, ClientUse, Core};
use crate::engine::{CallAnswered, CallTimer, Event};
use crate::headers::{ALLOW, WithBody};
use crate::leg::SessionTimer;
use crate::media_plan::{self, MediaFault};
use crate::quirks::Quirk;
use crate::record::OfferResult;
use crate::security::{self, Direction, MediaSecurity, Phase, Question, Said, Signalling};
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
        MediaFault::Own(_) => codes::INTERNAL,
    };
    Refusal::new(code, who, format!("{who}: {fault}"))
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
            direction: match side {
                Side::A => Direction::FromGateway,
                Side::B => Direction::FromServer,
            },
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
        question.parties.server = &self.b.peer.name;
        security::decide(&question)
    }

    /// 18x of leg B.
    pub(super) fn on_ringing(
        &mut self,
        cx: &mut Core,
        now: Instant,
        mut attempt: Box<Attempt>,
        response: &Message,
    ) {
        cx.timers.clear(self.key, CallTimer::Progress);
        self.learn_b_dialog(cx, &attempt, response);
        let early = match (&attempt.early, attempt.late, session_of(response)) {
            (Some((_, told)), ..) => Some(told.clone()),
            (None, Late::No, Ok(Some(answer))) => self.early_answer(cx, &attempt, answer).ok(),
            _ => None,
        };
        if let (None, Some(told)) = (&attempt.early, &early) {
            attempt.early = Some((response.body(), told.clone()));
            self.apply_media(cx);
        }
        let status = match response.status().map_or(180, |s| s.code()) {
            // A 180 with a description confuses UCMA: 183 carries it.
            180..=182 if early.is_some() && self.a.peer.dialect.has(Quirk::ProgressFor180WithSdp) => {
                cx.count(Quirk::ProgressFor180WithSdp.counter());
                183
            }
            status @ 180..=183 => status,
            _ if early.is_some() => 183,
            _ => 180,
        };
        let contact = self.contact_text(Side::A);
        let lines = [(HeaderId::Contact, contact.as_str()), (HeaderId::Allow, ALLOW)];
        let block = self.response_lines(cx, response, Side::B, WithBody::No);
        let body = early.map(|told| (SDP, told));
        self.answer_caller(cx, now, Answer { lines: &lines, block: &block, body, ..Answer::of(status) });
        self.state = State::Ringing(attempt);
    }

    fn early_answer(&mut self, cx: &mut Core, attempt: &Attempt, answer: Session) -> Result<Bytes, Refusal> {
        let decision = self.decide(Side::B, media_plan::said(&answer), Phase::Answer)?;
        let who = self.b.peer.name.clone();
        let MediaState::Ready(media) = &mut self.media else {
            return Err(Refusal::new(codes::INTERNAL, &who, "media is gone"));
        };
        media
            .settle_answer(&attempt.exchange, answer)
            .and_then(|()| media.answer_offerer(&attempt.exchange, &decision, &mut cx.keys))
            .map_err(|fault| media_refusal(&fault, &who))
    }

    fn learn_b_dialog(&mut self, cx: &mut Core, attempt: &Attempt, response: &Message) {
        let Step::Inviting { request, .. } = &attempt.step else { return };
        if let Ok(dialog) = Dialog::uac(request, response) {
            self.b.dialog = Some(dialog);
            cx.dialogs.insert(self.dialog_id(Side::B), (self.key, Side::B));
        }
    }

    /// 2xx of leg B: acknowledged at once, then judged.
    pub(super) fn on_answer(
        &mut self,
        cx: &mut Core,
        now: Instant,
        attempt: Box<Attempt>,
        response: &Message,
    ) {
        cx.timers.clear(self.key, CallTimer::Setup);
        cx.timers.clear(self.key, CallTimer::Progress);
        self.b.dialog = None;
        self.learn_b_dialog(cx, &attempt, response);
        if self.b.dialog.is_none() {
            let refusal = Refusal::new(
                codes::SERVER_FAILED,
                &attempt.hop.server,
                "its 200 has no usable Contact or tag",
            );
            self.state = State::Dialing(attempt);
            return self.refuse(cx, now, &refusal, OfferResult::Failed);
        }
        self.send_ack(cx, now, Side::B, response.cseq().number, None);
        match self.judged_answer(cx, &attempt, response) {
            Ok((body, offer)) => self.connect_caller(cx, now, body, offer),
            Err(refusal) => {
                self.state = State::Dialing(attempt);
                self.refuse_answered(cx, now, &refusal);
            }
        }
    }

    // The body for the caller and, when the offer was late, what its ACK will answer.
    fn judged_answer(
        &mut self,
        cx: &mut Core,
        attempt: &Attempt,
        response: &Message,
    ) -> Result<(Bytes, Option<Box<media_plan::Exchange>>), Refusal> {
        let who = self.b.peer.name.clone();
        if let Some((seen, told)) = &attempt.early
            && (response.body().is_empty() || *seen == response.body())
        {
            return Ok((told.clone(), None));
        }
        let answer = answer_of(response, &who)?;
        if attempt.late == Late::No {
            return Ok((self.early_answer(cx, attempt, answer)?, None));
        }
        let decision = self.decide(Side::B, media_plan::said(&answer), Phase::Answer)?;
        let MediaState::Ready(media) = &mut self.media else {
            return Err(Refusal::new(codes::INTERNAL, &who, "media is gone"));
        };
        let offered = media
            .settle_answer(&attempt.exchange, answer)
            .and_then(|()| media.relay_settled(Side::B, &decision, &mut cx.keys));
        let (body, exchange) = offered.map_err(|fault| media_refusal(&fault, &who))?;
        Ok((body, Some(Box::new(exchange))))
    }

    fn connect_caller(
        &mut self,
        cx: &mut Core,
        now: Instant,
        body: Bytes,
        offer: Option<Box<media_plan::Exchange>>,
    ) {
        if offer.is_none() {
            self.apply_media(cx);
        }
        self.a.session = SessionTimer::asked(&self.invite).filter(|_| supports_timer(&self.invite));
        let contact = self.contact_text(Side::A);
        let session = self.a.session.map(|timer| timer.answer());
        let mut lines = vec![
            (HeaderId::Contact, contact.as_str()),
            (HeaderId::Allow, ALLOW),
            (HeaderId::Supported, "timer"),
        ];
        if let Some(value) = &session {
            lines.push((HeaderId::SessionExpires, value));
            lines.push((HeaderId::Require, "timer"));
        }
        self.answer_caller(cx, now, Answer { lines: &lines, body: Some((SDP, body)), ..Answer::of(200) });
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
        self.arm_session(cx, now, Side::A);
        cx.event(Event::CallAnswered(Box::new(CallAnswered {
            call: self.key,
            call_id: self.story.call_id.clone(),
            b_call_id: self.story.b_call_id.clone().unwrap_or_default(),
            server: self.b.peer.name.clone(),
            setup: now.saturating_duration_since(self.story.started_at),
        })));
        self.state = State::Answering { side: Side::A, offer };
    }

    /// Leg B is up but its answer cannot stand: the caller is refused, the server hung up on.
    fn refuse_answered(&mut self, cx: &mut Core, now: Instant, refusal: &Refusal) {
        let (status, reason, block) = cx.refusal_parts(refusal);
        self.answer_caller(
            cx,
            now,
            Answer { reason: Some(reason.as_bytes()), block: &block, ..Answer::of(status) },
        );
        let outcome = Outcome {
            verdict: refusal.verdict.clone(),
            offer_result: OfferResult::Failed,
            drop_reason: "AnswerRefused",
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
    pub fn on_ack(&mut self, cx: &mut Core, now: Instant, ack: &Message) {
        match self.take_state() {
            State::Answering { side, offer: None } => {
                debug_assert!(self.leg(side).dialog.is_some(), "an ACK without a dialog");
                self.state = State::Established;
            }
            State::Answering { side, offer: Some(exchange) } => {
                self.state = State::Established;
                self.on_late_answer(cx, now, side, &exchange, ack);
            }
            State::Ending { open, bye_on_ack: Some(side) } => {
                self.state = State::Ending { open, bye_on_ack: None };
                self.send_bye(cx, now, side, &Bytes::new());
                self.settle_ending(cx);
            }
            other => self.state = other,
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

    /// Starts or restarts the session timer of a side.
    pub(super) fn arm_session(&self, cx: &mut Core, now: Instant, side: Side) {
        let timer = match side {
            Side::A => CallTimer::SessionA,
            Side::B => CallTimer::SessionB,
        };
        match self.leg(side).session {
            Some(session) => cx.timers.set(self.key, timer, now + session.due_in()),
            None => cx.timers.clear(self.key, timer),
        }
    }

    /// The session timer of a side is due: refresh, or the peer is gone.
    pub fn on_session_due(&mut self, cx: &mut Core, now: Instant, side: Side) {
        use crate::leg::RefreshDuty;
        match self.leg(side).session {
            Some(session) if session.refresh == RefreshDuty::Ours => {
                self.send_refresh(cx, now, side, session);
                self.arm_session(cx, now, side);
            }
            Some(_) => {
                let who = self.leg(side).peer.name.clone();
                let refusal = Refusal::new(
                    codes::SESSION_EXPIRED,
                    &who,
                    format!("{who} sent no session refresh in time"),
                );
                self.hang_up_both(cx, now, refusal.verdict, "SessionExpired");
            }
            None => {}
        }
    }

    fn send_refresh(&mut self, cx: &mut Core, now: Instant, side: Side, session: SessionTimer) {
        let key = self.key;
        let leg = self.leg_mut(side);
        let (Some(dialog), Some(flow)) = (&mut leg.dialog, leg.flow) else { return };
        let draft = dialog
            .request(sip::Method::Update)
            .header(HeaderId::SessionExpires, format!("{};refresher=uac", session.secs))
            .header(HeaderId::Supported, "timer")
            .header(HeaderId::Contact, leg.contact.clone());
        if let Ok(request) = draft.finish() {
            cx.send(now, &flow, request, ClientUse::Refresh(key, side));
        }
    }
}

pub(super) fn supports_timer(request: &Message) -> bool {
    let lists = request.values(HeaderId::Supported).chain(request.values(HeaderId::Require));
    lists
        .flat_map(|list| list.split(|b| *b == b','))
        .any(|tag| tag.trim_ascii().eq_ignore_ascii_case(b"timer"))
}
