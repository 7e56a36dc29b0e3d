//! The UM worker: answers, greets, beeps, records, hangs up on silence, hands over the message. Owns the order of things in a call; audio and
//! packets are done by whoever obeys its media commands.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use sip::{Builder, Dialog, Event, Flow, FlowKey, HeaderId, Message, Method, ServerKey, Transport};

use super::call::{Call, Phase};
use super::{
    AfterRecording, AnswerRules, CallKind, EndReason, Fault, LabFact, MailboxConfig, MissedCall,
    PlanSecurity, UmCommand, UmReport, VoiceMessage, classify, faults,
};
use crate::audio::{beep, greeting};
use crate::frontend::OfferShape;
use crate::machine::{Input, Machine, Output, Station, earlier, exchange_response, since, text};
use crate::media::{MediaCommand, MediaFact, MediaKey, MediaPlan, MediaReport, RecordLimits};
use crate::negotiate::{self, Agreed, Body, FreshKey, KEY_BYTES};

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
    /// Mailboxes.
    pub mailboxes: Vec<MailboxConfig>,
    /// How calls are taken.
    pub answer: AnswerRules,
    /// What is wrong with it.
    pub fault: Fault,
    /// Seed of tags, keys and sources.
    pub seed: u64,
}

/// The workers of one Mailbox server.
pub struct Worker {
    station: Station<UmReport>,
    config: WorkerConfig,
    random: StdRng,
    calls: BTreeMap<MediaKey, Call>,
    by_call_id: BTreeMap<Bytes, MediaKey>,
    by_server: BTreeMap<ServerKey, MediaKey>,
    next: u64,
}

impl Worker {
    /// A worker without calls.
    pub fn new(config: WorkerConfig) -> Self {
        Worker {
            station: Station::new(&config.name, config.seed),
            random: StdRng::seed_from_u64(config.seed),
            config,
            calls: BTreeMap::new(),
            by_call_id: BTreeMap::new(),
            by_server: BTreeMap::new(),
            next: 0,
        }
    }

    /// Calls at present.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Request { key, flow, message } => self.on_request(now, key, flow, message),
            Event::Ack { message, invite, .. } => self.on_ack(now, &message, invite),
            Event::Cancel { invite, .. } => self.on_cancel(now, invite),
            Event::AckMissing { key } => self.on_ack_missing(now, key),
            Event::Response { key, message, .. } if message.status().is_some_and(|s| s.is_final()) => {
                self.on_bye_settled(key);
            }
            Event::ClientFailed { key, .. } => self.on_bye_settled(key),
            _ => {}
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
            (Method::Info | Method::Update | Method::Notify, Some(call)) => {
                self.accept(now, key, call, &message)
            }
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
        if self.calls.len() >= self.config.max_calls_allowed {
            return self.refuse(now, server, &invite, 503, "Service Unavailable");
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
        let purpose = classify(&invite, &self.config.mailboxes);
        let mailbox = self.config.mailboxes.iter().find(|m| m.alias == purpose.for_whom);
        let mut fresh = [0; KEY_BYTES];
        self.random.fill_bytes(&mut fresh);
        let correlation =
            |name: &str| invite.header_named(name).map(text).filter(|v| v.len() <= CORRELATION_LEN_MAX);
        Call {
            security: mailbox.and_then(|m| m.security).unwrap_or(self.config.security),
            x_call_id: correlation("X-Call-ID"),
            tag: self.station.endpoint.new_tag(),
            key: FreshKey(fresh),
            seed: self.random.next_u64(),
            ring_at: faults::ring_at(&self.config, now),
            answer_at: faults::answer_at(&self.config, now),
            recycle_at: None,
            purpose,
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
            (MediaFact::Played, Phase::Greeting) => self.on_played(now, key),
            (MediaFact::Idle, Phase::Recording) => self.on_recorded(now, key, EndReason::Silence),
            (MediaFact::Full, Phase::Recording) => self.on_recorded(now, key, EndReason::TooLong),
            (MediaFact::Stopped(report), _) => self.on_stopped(now, key, *report),
            _ => {}
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
            let ringing = exchange_response(&call.invite, 180, "Ringing", &call.tag)
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
            negotiate::offer(late_shape(call.security), local, &call.key, call.seed).map(|offer| {
                let body = offer.body.clone();
                call.late_offer = Some(offer);
                (body, None)
            })
        } else {
            negotiate::read_session(
                invite.header(sip::HeaderId::ContentType).unwrap_or_default(),
                &invite.body(),
            )
            .and_then(|offer| negotiate::answer(&offer, call.security, local, &call.key, call.seed))
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
        let plan = MediaPlan { impairment: faults::impairment(&self.config), ..agreed.plan };
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
        let response = success(&call.invite, &call.tag, &contact)
            .map(|b| b.finish(Some(body.content_type.as_bytes()), &body.bytes));
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
        let Some(call) = self.calls.get_mut(&key) else { return };
        let prompt = match call.purpose.kind {
            CallKind::CallAnswering => [greeting(), beep()].concat(),
            CallKind::VoiceMemo => beep(),
            CallKind::SubscriberAccess | CallKind::AutoAttendant => greeting(),
        };
        call.phase = Phase::Greeting;
        let fact = LabFact::Answered {
            server: self.config.name.clone(),
            call_id: text(call.invite.call_id()),
            purpose: call.purpose.clone(),
            media: call.media.map_or(super::MediaKind::Rtp, |(kind, _)| kind),
            x_call_id: call.x_call_id.clone(),
        };
        self.station.media(key, MediaCommand::Play(prompt));
        self.station.report(UmReport::Fact(fact));
    }

    fn on_played(&mut self, now: Instant, key: MediaKey) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        if !matches!(call.purpose.kind, CallKind::CallAnswering | CallKind::VoiceMemo) {
            call.phase = Phase::Lingering;
            return;
        }
        call.phase = Phase::Recording;
        call.recorded_from = Some(now);
        let rules = &self.config.answer;
        let limits =
            RecordLimits { idle: Some(rules.recording_idle_timeout), longest: rules.max_recording_duration };
        self.station.media(key, MediaCommand::Record(limits));
    }

    fn on_recorded(&mut self, now: Instant, key: MediaKey, why: EndReason) {
        match self.config.answer.after_recording {
            AfterRecording::HangUp => self.hang_up(now, key, why),
            AfterRecording::Stay => {
                if let Some(call) = self.calls.get_mut(&key) {
                    call.phase = Phase::Lingering;
                    call.end = Some(why);
                }
            }
        }
    }

    /// Sends BYE on an answered call.
    fn hang_up(&mut self, now: Instant, key: MediaKey, why: EndReason) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        call.end.get_or_insert(why);
        let bye = call.dialog.as_mut().map(|d| d.request(Method::Bye).finish());
        let flow = call.flow;
        let sent = match bye {
            Some(Ok(bye)) => self.station.endpoint.send_request(now, &flow, bye).ok(),
            _ => None,
        };
        match sent {
            Some(client) => call.phase = Phase::HangingUp(client),
            None => self.stop(key),
        }
    }

    fn on_bye_settled(&mut self, client: sip::ClientKey) {
        let found = self.calls.iter().find(|(_, c)| matches!(c.phase, Phase::HangingUp(k) if k == client));
        if let Some(key) = found.map(|(key, _)| *key) {
            self.stop(key);
        }
    }

    fn on_bye(&mut self, now: Instant, server: ServerKey, key: MediaKey, message: &Message) {
        self.accept(now, server, key, message);
        if let Some(call) = self.calls.get_mut(&key) {
            call.end.get_or_insert(EndReason::CallerHungUp);
        }
        self.stop(key);
    }

    fn on_cancel(&mut self, now: Instant, invite: ServerKey) {
        let Some(key) = self.by_server.get(&invite).copied() else { return };
        let Some(call) = self.calls.get_mut(&key) else { return };
        if call.answered_at.is_some() {
            return;
        }
        call.end = Some(EndReason::CallerHungUp);
        let response = exchange_response(&call.invite, 487, "Request Terminated", &call.tag);
        if let Some(builder) = response {
            self.station.respond(now, invite, builder.finish(None, b""));
        }
        self.stop(key);
    }

    fn on_ack_missing(&mut self, now: Instant, invite: ServerKey) {
        if let Some(key) = self.by_server.get(&invite).copied() {
            self.hang_up(now, key, EndReason::NoAck);
        }
    }

    fn stop(&mut self, key: MediaKey) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        if !matches!(call.phase, Phase::Stopping) {
            call.phase = Phase::Stopping;
            self.station.media(key, MediaCommand::Stop);
        }
    }

    /// Media is closed: the last act of a call.
    fn on_stopped(&mut self, now: Instant, key: MediaKey, report: MediaReport) {
        let Some(call) = self.calls.remove(&key) else { return };
        self.by_call_id.remove(call.invite.call_id());
        self.by_server.remove(&call.server);
        let end = call.end.unwrap_or(EndReason::Stopped);
        if let Some(answered) = call.answered_at {
            self.station.report(UmReport::Fact(LabFact::Ended {
                server: self.config.name.clone(),
                call_id: text(call.invite.call_id()),
                why: end,
                lasted: since(now, answered),
            }));
        }
        if matches!(call.purpose.kind, CallKind::CallAnswering | CallKind::VoiceMemo) && call.end.is_some() {
            let report = self.bequest(now, call, end, report);
            self.station.report(report);
        }
    }

    /// What a caller left: a message, or a missed call.
    fn bequest(&self, now: Instant, call: Call, end: EndReason, report: MediaReport) -> UmReport {
        let server = self.config.name.clone();
        let call_id = text(call.invite.call_id());
        let security = call.leg_security();
        match (call.is_missed(&report), call.recorded_from, call.media) {
            (false, Some(from), Some((_, law))) => UmReport::Message(Box::new(VoiceMessage {
                purpose: call.purpose,
                server,
                call_id,
                x_call_id: call.x_call_id,
                security,
                law,
                samples: report.samples,
                age: since(now, from),
                end,
            })),
            _ => UmReport::Missed(Box::new(MissedCall {
                mailbox: call.purpose.for_whom.clone(),
                purpose: call.purpose,
                server,
                call_id,
                x_call_id: call.x_call_id,
            })),
        }
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
        .and_then(|offer| negotiate::answer(&offer, call.security, local, &call.key, call.seed));
        let Ok((body, agreed)) = agreed else {
            return self.refuse(now, server, message, 488, "Not Acceptable Here");
        };
        if let Some(dialog) = call.dialog.as_mut() {
            dialog.refresh_target(message);
        }
        let contact = contact(&self.config.name, &call.flow);
        let response = success(message, &call.tag, &contact)
            .map(|b| b.finish(Some(body.content_type.as_bytes()), &body.bytes));
        self.station.media(key, MediaCommand::Retarget(Box::new(agreed.plan)));
        if let Some(response) = response {
            self.station.respond(now, server, response);
        }
    }

    /// 200 to a request inside a call.
    fn accept(&mut self, now: Instant, server: ServerKey, key: MediaKey, message: &Message) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let in_order = call.dialog.as_mut().is_none_or(|d| d.accept_request(message).is_ok());
        if !in_order {
            return self.refuse(now, server, message, 500, "Server Internal Error");
        }
        if let Some(builder) = exchange_response(message, 200, "OK", &call.tag) {
            self.station.respond(now, server, builder.finish(None, b""));
        }
    }

    fn answer_options(&mut self, now: Instant, key: ServerKey, message: &Message) {
        let tag = self.station.endpoint.new_tag();
        if let Some(builder) = exchange_response(message, 200, "OK", &tag) {
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
        if let Some(builder) = exchange_response(&invite, status, reason, &tag) {
            self.station.respond(now, server, builder.header(HeaderId::Warning, warning).finish(None, b""));
        }
        self.report_refusal(&invite, status, why);
    }

    fn refuse(&mut self, now: Instant, key: ServerKey, message: &Message, status: u16, reason: &str) {
        let tag = self.station.endpoint.new_tag();
        if let Some(builder) = exchange_response(message, status, reason, &tag) {
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

    fn on_flow_down(&mut self, now: Instant, flow: FlowKey) {
        self.station.flow_down(now, flow);
        let lost: Vec<MediaKey> =
            self.calls.iter().filter(|(_, c)| c.flow.key == flow).map(|(key, _)| *key).collect();
        for key in lost {
            if let Some(call) = self.calls.get_mut(&key) {
                call.end.get_or_insert(EndReason::ConnectionLost);
            }
            self.stop(key);
        }
    }

    fn on_command(&mut self, now: Instant, command: UmCommand) {
        match command {
            UmCommand::Fault(fault) => self.config.fault = fault,
            UmCommand::Live { .. } => {}
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

fn contact(name: &str, flow: &Flow) -> String {
    let word = match flow.transport {
        Transport::Tls => "Tls",
        _ => "Tcp",
    };
    format!("<sip:{name}:{};transport={word};ms-opaque=umworker>", flow.via_port)
}

/// A 200 to INVITE, without its body.
fn success(invite: &Message, tag: &[u8], contact: &str) -> Option<Builder> {
    Some(
        exchange_response(invite, 200, "OK", tag)?
            .raw_header(b"CONTACT", contact.as_bytes())
            .header(HeaderId::Allow, ALLOW)
            .raw_header(b"SUPPORTED", b"replaces"),
    )
}
