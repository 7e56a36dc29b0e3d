//! The UM worker: takes calls, answers them and lets their application begin. Owns SIP up to there and requests inside a call; audio and
//! packets are done by whoever obeys its media commands.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use sip::{Builder, Dialog, Event, Flow, HeaderId, Message, Method, ServerKey, Transport};
use time::OffsetDateTime;

use super::call::{Call, Phase, Session};
use super::{
    AnswerRules, Directory, EndReason, Fault, FirstWord, LabFact, MalformedDiversion, Manner, PlanSecurity,
    UmCommand, UmReport, classify, faults,
};
use crate::frontend::OfferShape;
use crate::machine::{Input, Machine, Output, Station, earlier, since, text};
use crate::media::{MediaCommand, MediaFact, MediaKey, MediaPlan};
use crate::negotiate::{self, Agreed, Body, CryptoRules, FreshKey, KEY_BYTES};

const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, NOTIFY";
/// A correlation header longer than this is not kept.
const CORRELATION_LEN_MAX: usize = 256;

/// What a worker is.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// FQDN of its server.
    pub name: String,
    /// `MaxCallsAllowed`.
    pub max_calls_allowed: usize,
    /// Security of mailboxes that name none.
    pub security: PlanSecurity,
    /// Mailboxes and attendants; the same for all workers of a site.
    pub directory: Directory,
    /// What time it is when the worker is first told something.
    pub utc: OffsetDateTime,
    /// How calls of no dial plan are taken.
    pub answer: AnswerRules,
    /// What is wrong with it.
    pub fault: Fault,
    /// Seed of tags, keys and sources.
    pub seed: u64,
}

/// The workers of one Mailbox server.
pub struct Worker {
    pub(super) station: Station<UmReport>,
    pub(super) config: WorkerConfig,
    pub(super) manner: Manner,
    pub(super) random: StdRng,
    pub(super) calls: BTreeMap<MediaKey, Call>,
    pub(super) by_call_id: BTreeMap<Bytes, MediaKey>,
    pub(super) by_server: BTreeMap<ServerKey, MediaKey>,
    began: Option<Instant>,
    next: u64,
}

impl Worker {
    /// A worker without calls.
    pub fn new(config: WorkerConfig) -> Self {
        Worker {
            station: Station::new(&config.name, config.seed),
            random: StdRng::seed_from_u64(config.seed),
            config,
            manner: Manner::default(),
            calls: BTreeMap::new(),
            by_call_id: BTreeMap::new(),
            by_server: BTreeMap::new(),
            began: None,
            next: 0,
        }
    }

    /// The same, behaving so.
    pub fn mannered(mut self, manner: Manner) -> Self {
        self.station.set_server_text(manner.server_text.clone());
        self.manner = manner;
        self
    }

    /// Calls at present.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// The time of day.
    pub(super) fn utc(&self, now: Instant) -> OffsetDateTime {
        self.config.utc + self.began.map_or(Duration::ZERO, |began| since(now, began))
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Request { key, flow, message } => self.on_request(now, key, flow, message),
            Event::Ack { message, invite, .. } => self.on_ack(now, &message, invite),
            Event::Cancel { invite, .. } => self.on_cancel(now, invite),
            Event::AckMissing { key } => self.on_ack_missing(now, key),
            event => self.on_settled(now, &event),
        }
    }

    fn on_request(&mut self, now: Instant, key: ServerKey, flow: Flow, message: Message) {
        match &self.config.fault {
            Fault::Silent | Fault::Dead => return,
            Fault::Unavailable => return self.refuse(now, key, &message, 503, "Service Unavailable"),
            Fault::CutsOnInvite if *message.method() == Method::Invite => {
                return self.station.close(flow.key);
            }
            _ => {}
        }
        let call = self.call_of(&message);
        match (message.method().clone(), call) {
            (Method::Options, _) => self.answer_options(now, key, &message),
            (Method::Invite, Some(call)) => self.on_reinvite(now, key, call, &message),
            (Method::Invite, None) if message.to_tag().is_none() => self.on_invite(now, key, flow, message),
            (Method::Bye, Some(call)) => self.on_bye(now, key, call, &message),
            (Method::Update, Some(call)) if !message.body().is_empty() => {
                self.on_reinvite(now, key, call, &message);
            }
            (Method::Info, Some(call)) => {
                self.accept(now, key, call, &message);
                self.on_info(now, call, &message);
            }
            (Method::Notify, Some(call)) => {
                self.accept(now, key, call, &message);
                self.on_notify(now, call, &message);
            }
            (Method::Update, Some(call)) => self.accept(now, key, call, &message),
            (Method::Register | Method::Subscribe | Method::Publish, None) => {
                self.refuse(now, key, &message, 405, "Method Not Allowed");
            }
            (_, Some(_)) => self.refuse(now, key, &message, 501, "Not Implemented"),
            (_, None) => self.refuse(now, key, &message, 481, "Call Leg/Transaction Does Not Exist"),
        }
    }

    /// The call an in-dialog request belongs to.
    fn call_of(&self, message: &Message) -> Option<MediaKey> {
        let key = *self.by_call_id.get(message.call_id())?;
        let call = self.calls.get(&key)?;
        (message.to_tag()? == call.tag.as_ref()).then_some(key)
    }

    fn on_invite(&mut self, now: Instant, server: ServerKey, flow: Flow, invite: Message) {
        if self.calls.len() >= self.config.max_calls_allowed || self.config.fault == Fault::NoNewCalls {
            let status = self.manner.full_status;
            return self.refuse(now, server, &invite, status, full_reason(status));
        }
        if self.manner.malformed_diversion == MalformedDiversion::Refused
            && super::classify::is_malformed(&invite)
        {
            return self.refuse(now, server, &invite, 400, "Bad Request");
        }
        self.next += 1;
        let key = MediaKey(self.next);
        let call = self.new_call(now, server, flow, invite);
        self.by_call_id.insert(Bytes::copy_from_slice(call.invite.call_id()), key);
        self.by_server.insert(server, key);
        self.calls.insert(key, call);
        self.station.media(key, MediaCommand::Allocate);
    }

    fn new_call(&mut self, now: Instant, server: ServerKey, flow: Flow, invite: Message) -> Call {
        let directory = &self.config.directory;
        let purpose = classify(&invite, directory);
        let dialled = invite.uri().ok().and_then(|uri| uri.user_part().map(text)).unwrap_or_default();
        let plan = directory.plan_of(&purpose, &dialled);
        let own = directory.mailbox(&purpose.for_whom).and_then(|mailbox| mailbox.security);
        let security = own.or(plan.map(|plan| plan.security)).unwrap_or(self.config.security);
        let rules = Arc::new(plan.map_or_else(|| self.config.answer.clone(), |plan| plan.answer.clone()));
        let domain = invite.from().ok().map(|from| text(from.uri.host_str().as_bytes())).unwrap_or_default();
        let mut fresh = [0; KEY_BYTES];
        self.random.fill_bytes(&mut fresh);
        let correlation =
            |name: &str| invite.header_named(name).map(text).filter(|v| v.len() <= CORRELATION_LEN_MAX);
        Call {
            security,
            x_call_id: correlation("X-Call-ID"),
            tag: self.station.endpoint.new_tag(),
            key: FreshKey(fresh),
            seed: self.random.next_u64(),
            ring_at: faults::ring_at(&self.config.fault, &rules, now),
            answer_at: faults::answer_at(&self.config.fault, &rules, now),
            rules,
            recycle_at: None,
            session: None,
            purpose,
            domain,
            invite,
            server,
            flow,
            phase: Phase::Allocating,
            local: None,
            late_offer: None,
            dialog: None,
            media: None,
            answered_at: None,
            recorded_from: None,
            application: None,
            said: 0,
            saying: None,
            wake_at: None,
            ends_at: None,
            transfer: None,
            end: None,
        }
    }

    fn on_media(&mut self, now: Instant, key: MediaKey, fact: MediaFact) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        match (fact, &call.phase) {
            (MediaFact::Ready(Ok(local)), Phase::Allocating) => {
                call.local = Some(local);
                call.phase = Phase::Ringing;
            }
            (MediaFact::Ready(Err(why)), Phase::Allocating) => {
                self.station
                    .report(UmReport::Fact(LabFact::Trouble { server: self.config.name.clone(), what: why }));
                self.reject(now, key, 500, "Server Internal Error", "no media port");
            }
            (MediaFact::Stopped(report), _) => self.on_stopped(now, key, *report),
            (fact, _) => self.on_talk(now, key, fact),
        }
    }

    /// Rings and answers what is due.
    fn on_due(&mut self, now: Instant) {
        let due: Vec<MediaKey> = self
            .calls
            .iter()
            .filter(|(_, call)| call.deadline().is_some_and(|at| at <= now))
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            self.on_call_due(now, key);
        }
    }

    fn on_call_due(&mut self, now: Instant, key: MediaKey) {
        let rings_forever = self.config.fault == Fault::RingsForever;
        let Some(call) = self.calls.get_mut(&key) else { return };
        if call.recycle_at.is_some_and(|at| at <= now) {
            call.recycle_at = None;
            return self.hang_up(now, key, EndReason::Stopped);
        }
        if call.session.as_ref().is_some_and(|session| session.until <= now) {
            call.session = None;
            return self.hang_up(now, key, EndReason::NotRefreshed);
        }
        if matches!(call.phase, Phase::Talking) {
            return self.on_talk_due(now, key);
        }
        if rings_forever || call.ring_at.is_some_and(|at| at <= now && now < call.answer_at) {
            call.ring_at = None;
            if rings_forever {
                // no answer is ever due
                call.phase = Phase::Lingering;
            }
            let contact = contact(&self.config.name, &call.flow);
            let early = faults::early_description(&self.config, call);
            let (content_type, body) = match &early {
                Some(body) => (Some(body.content_type.as_bytes()), body.bytes.as_ref()),
                None => (None, &b""[..]),
            };
            let (status, reason) = match self.manner.first_word {
                FirstWord::Ringing => (180, "Ringing"),
                FirstWord::Progress => (183, "Session Progress"),
            };
            let ringing = self
                .station
                .response(&call.invite, status, reason, &call.tag)
                .map(|b| b.raw_header(b"CONTACT", contact.as_bytes()).finish(content_type, body));
            let server = call.server;
            if let Some(ringing) = ringing {
                self.station.respond(now, server, ringing);
            }
            return;
        }
        if call.answer_at <= now {
            self.answer(now, key);
        } else {
            call.ring_at = None;
        }
    }

    fn answer(&mut self, now: Instant, key: MediaKey) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let Some(local) = call.local else { return };
        let invite = call.invite.clone();
        let body = if invite.body().is_empty() {
            let crypto = crypto(&self.manner);
            negotiate::offer_as(late_shape(call.security), local, &call.key, call.seed, &crypto).map(
                |offer| {
                    let body = offer.body.clone();
                    call.late_offer = Some(offer);
                    (body, None)
                },
            )
        } else {
            negotiate::read_session(
                invite.header(sip::HeaderId::ContentType).unwrap_or_default(),
                &invite.body(),
            )
            .and_then(|offer| {
                negotiate::answer_as(
                    &offer,
                    call.security,
                    local,
                    &call.key,
                    call.seed,
                    &crypto(&self.manner),
                )
            })
            .map(|(body, agreed)| (body, Some(agreed)))
        };
        match body {
            Err(why) => self.reject(now, key, 488, "Not Acceptable Here", &why.to_string()),
            Ok((body, agreed)) => {
                if let Some(agreed) = agreed {
                    self.start_media(key, agreed);
                }
                self.send_answer(now, key, &body);
            }
        }
    }

    fn start_media(&mut self, key: MediaKey, agreed: Agreed) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        call.media = Some((agreed.kind, agreed.law));
        let quiet = (self.manner.rtcp == super::Allowed::No).then_some(crate::media::Impairment::NoReports);
        let plan = MediaPlan { impairment: faults::impairment(&self.config).or(quiet), ..agreed.plan };
        self.station.media(key, MediaCommand::Start(Box::new(plan)));
    }

    fn send_answer(&mut self, now: Instant, key: MediaKey, body: &Body) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let Ok(dialog) = Dialog::uas(&call.invite, call.tag.clone()) else {
            return self.reject(now, key, 400, "Bad Request", "no dialog can be formed");
        };
        call.dialog = Some(dialog);
        call.phase = Phase::Answered;
        call.answered_at = Some(now);
        call.recycle_at = faults::recycle_at(&self.config, now);
        let contact = contact(&self.config.name, &call.flow);
        call.session = session(&call.invite, &self.manner, now);
        let response = success(&self.station, &call.invite, &call.tag, &contact).map(|b| {
            granted(b, call.session.as_ref()).finish(Some(body.content_type.as_bytes()), &body.bytes)
        });
        let server = call.server;
        if let Some(response) = response {
            self.station.respond(now, server, response);
        }
    }

    fn on_ack(&mut self, now: Instant, ack: &Message, invite: Option<ServerKey>) {
        let Some(key) = invite.and_then(|i| self.by_server.get(&i).copied()) else { return };
        let Some(call) = self.calls.get_mut(&key) else { return };
        if !matches!(call.phase, Phase::Answered) {
            return;
        }
        if let Some(offer) = call.late_offer.take() {
            let agreed = negotiate::read_session(
                ack.header(sip::HeaderId::ContentType).unwrap_or_default(),
                &ack.body(),
            )
            .and_then(|answer| negotiate::accept(&offer, &answer));
            match agreed {
                Ok(agreed) => self.start_media(key, agreed),
                Err(_) => return self.hang_up(now, key, EndReason::Stopped),
            }
        }
        let Some(call) = self.calls.get(&key) else { return };
        let fact = LabFact::Answered {
            server: self.config.name.clone(),
            call_id: text(call.invite.call_id()),
            purpose: call.purpose.clone(),
            media: call.media.map_or(super::MediaKind::Rtp, |(kind, _)| kind),
            x_call_id: call.x_call_id.clone(),
        };
        self.station.report(UmReport::Fact(fact));
        self.converse(now, key);
    }

    fn on_reinvite(&mut self, now: Instant, server: ServerKey, key: MediaKey, message: &Message) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let in_order = call.dialog.as_mut().is_some_and(|d| d.accept_request(message).is_ok());
        let Some(local) = call.local.filter(|_| in_order) else {
            return self.refuse(now, server, message, 500, "Server Internal Error");
        };
        let agreed = negotiate::read_session(
            message.header(sip::HeaderId::ContentType).unwrap_or_default(),
            &message.body(),
        )
        .and_then(|offer| {
            negotiate::answer_as(&offer, call.security, local, &call.key, call.seed, &crypto(&self.manner))
        });
        let Ok((body, agreed)) = agreed else {
            return self.refuse(now, server, message, 488, "Not Acceptable Here");
        };
        if let Some(dialog) = call.dialog.as_mut() {
            dialog.refresh_target(message);
        }
        let contact = contact(&self.config.name, &call.flow);
        call.session = session(message, &self.manner, now);
        let response = success(&self.station, message, &call.tag, &contact).map(|b| {
            granted(b, call.session.as_ref()).finish(Some(body.content_type.as_bytes()), &body.bytes)
        });
        self.station.media(key, MediaCommand::Retarget(Box::new(agreed.plan)));
        if let Some(response) = response {
            self.station.respond(now, server, response);
        }
    }

    /// 200 to a request inside a call.
    pub(super) fn accept(&mut self, now: Instant, server: ServerKey, key: MediaKey, message: &Message) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let in_order = call.dialog.as_mut().is_none_or(|d| d.accept_request(message).is_ok());
        if !in_order {
            return self.refuse(now, server, message, 500, "Server Internal Error");
        }
        if *message.method() == Method::Update {
            call.session = session(message, &self.manner, now);
        }
        if let Some(builder) = self.station.response(message, 200, "OK", &call.tag) {
            let builder = if *message.method() == Method::Update {
                granted(builder, call.session.as_ref())
            } else {
                builder
            };
            self.station.respond(now, server, builder.finish(None, b""));
        }
    }

    fn answer_options(&mut self, now: Instant, key: ServerKey, message: &Message) {
        let tag = self.station.endpoint.new_tag();
        if let Some(builder) = self.station.response(message, 200, "OK", &tag) {
            let builder = builder.header(HeaderId::Allow, ALLOW).header(HeaderId::Accept, "application/sdp");
            self.station.respond(now, key, builder.finish(None, b""));
        }
        let server = self.config.name.clone();
        self.station.report(UmReport::Fact(LabFact::OptionsAnswered { server }));
    }

    /// Refuses a call that has a state, and forgets it.
    fn reject(&mut self, now: Instant, key: MediaKey, status: u16, reason: &str, why: &str) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let (invite, server, tag) = (call.invite.clone(), call.server, call.tag.clone());
        self.stop(key);
        let warning = format!("399 {} \"{}\"", self.config.name, why.replace(['"', '\\'], "'"));
        if let Some(builder) = self.station.response(&invite, status, reason, &tag) {
            self.station.respond(now, server, builder.header(HeaderId::Warning, warning).finish(None, b""));
        }
        self.report_refusal(&invite, status, why);
    }

    fn refuse(&mut self, now: Instant, key: ServerKey, message: &Message, status: u16, reason: &str) {
        let tag = self.station.endpoint.new_tag();
        if let Some(builder) = self.station.response(message, status, reason, &tag) {
            self.station.respond(now, key, builder.header(HeaderId::Allow, ALLOW).finish(None, b""));
        }
        self.report_refusal(message, status, reason);
    }

    fn report_refusal(&mut self, message: &Message, status: u16, why: &str) {
        self.station.report(UmReport::Fact(LabFact::Refused {
            server: self.config.name.clone(),
            call_id: text(message.call_id()),
            status,
            why: why.to_owned(),
        }));
    }

    fn on_command(&mut self, now: Instant, command: UmCommand) {
        match command {
            UmCommand::Fault(fault) => self.config.fault = fault,
            UmCommand::Live { .. } => {}
            UmCommand::HangUpOn(ports) => {
                let is_theirs = |call: &Call| {
                    [ports.tcp, ports.tls].contains(&Some(call.flow.via_port)) && call.dialog.is_some()
                };
                let theirs: Vec<MediaKey> =
                    self.calls.iter().filter(|(_, call)| is_theirs(call)).map(|(key, _)| *key).collect();
                for key in theirs {
                    self.hang_up(now, key, EndReason::Stopped);
                }
            }
            UmCommand::HangUpAll => {
                let all: Vec<MediaKey> = self.calls.keys().copied().collect();
                for key in all {
                    if self.calls.get(&key).is_some_and(|c| c.dialog.is_some()) {
                        self.hang_up(now, key, EndReason::Stopped);
                    } else {
                        self.reject(now, key, 503, "Service Unavailable", "the lab stops");
                    }
                }
            }
        }
    }
}

impl Machine for Worker {
    type Command = UmCommand;
    type Report = UmReport;

    fn handle(&mut self, now: Instant, input: Input<UmCommand>) {
        self.began.get_or_insert(now);
        match input {
            Input::FlowUp(flow) => self.station.flow_up(flow),
            Input::FlowDown(key) => self.on_flow_down(now, key),
            Input::Bytes { flow, bytes } => self.station.receive(now, flow, bytes),
            Input::Media { key, fact } => self.on_media(now, key, fact),
            Input::Command(command) => self.on_command(now, command),
            Input::Timeout => self.station.endpoint.handle_timeout(now),
        }
        self.on_due(now);
        while let Some(event) = self.station.poll_event() {
            self.on_event(now, event);
        }
    }

    fn poll_output(&mut self) -> Option<Output<UmReport>> {
        self.station.poll_output()
    }

    fn poll_deadline(&self) -> Option<Instant> {
        let calls = self.calls.values().filter_map(Call::deadline).min();
        earlier(calls, self.station.poll_deadline())
    }
}

/// The shape of a UM offer when the INVITE brought none.
fn late_shape(security: PlanSecurity) -> OfferShape {
    match security {
        PlanSecurity::Secured => OfferShape::Lync2015,
        _ => OfferShape::PbxTcp,
    }
}

pub(super) fn contact(name: &str, flow: &Flow) -> String {
    let word = match flow.transport {
        Transport::Tls => "Tls",
        _ => "Tcp",
    };
    format!("<sip:{name}:{};transport={word};ms-opaque=umworker>", flow.via_port)
}

/// A 200 to INVITE, without its body.
fn success(station: &Station<UmReport>, invite: &Message, tag: &[u8], contact: &str) -> Option<Builder> {
    Some(
        station
            .response(invite, 200, "OK", tag)?
            .raw_header(b"CONTACT", contact.as_bytes())
            .header(HeaderId::Allow, ALLOW)
            .raw_header(b"SUPPORTED", b"replaces"),
    )
}

/// The reason phrase of a refusal for lack of room.
pub(super) fn full_reason(status: u16) -> &'static str {
    match status {
        480 => "Temporarily Unavailable",
        486 => "Busy Here",
        500 => "Server Internal Error",
        600 => "Busy Everywhere",
        _ => "Service Unavailable",
    }
}

/// Suites and MKI of this side.
fn crypto(manner: &Manner) -> CryptoRules<'_> {
    CryptoRules { suites: &manner.suites, offers_mki: manner.mki }
}

/// The session timer that this request gets: the caller refreshes (RFC 4028 §9), and who does not is hung up on.
fn session(request: &Message, manner: &Manner, now: Instant) -> Option<Session> {
    let ours = manner.session_expires?;
    let supports = request.headers().filter(|header| header.id == HeaderId::Supported);
    let has_timer = |raw: &[u8]| text(raw).split(',').any(|tag| tag.trim().eq_ignore_ascii_case("timer"));
    if !supports.into_iter().any(|header| has_timer(header.raw)) {
        return None;
    }
    let asked = request.header(HeaderId::SessionExpires).map(text);
    let asked = asked.and_then(|value| value.split(';').next()?.trim().parse().ok()).map(Duration::from_secs);
    let interval = asked.map_or(ours, |asked| asked.min(ours).max(Duration::from_secs(90)));
    Some(Session { interval, until: now + interval })
}

fn granted(builder: Builder, session: Option<&Session>) -> Builder {
    match session {
        None => builder,
        Some(session) => builder
            .header(HeaderId::Require, "timer")
            .header(HeaderId::SessionExpires, format!("{};refresher=uac", session.interval.as_secs())),
    }
}
