//! The caller as a value: any number of calls on one connection. Owns the order of things in a call and what is noted for its outcome; media is
//! done by whoever obeys the media commands. Redirects are noted and never followed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use sip::{
    ClientKey, Dialog, Event, Flow, FlowKey, Message, Method, OutgoingRequest, ServerKey, StatusCode,
    response_to,
};

use super::invite::{self, Names};
use super::{CallEnd, CallOutcome, CallSpec, CallerConfig, EndedBy, Heard, TalkStart};
use crate::audio::{RATE, dominant_hz, level_dbfs, tone};
use crate::machine::{Input, Machine, Output, Station, earlier, since, text};
use crate::media::{Key, MediaCommand, MediaFact, MediaKey, MediaPlan, MediaReport, RecordLimits};
use crate::negotiate::{self, FreshKey, KEY_BYTES, Offer};

/// A caller who waits for the beep talks anyway after this long.
const BEEP_WAIT: Duration = Duration::from_secs(8);
/// From the answer to what is played, so that it is not cut off while media begins.
const SAYS_AFTER: Duration = Duration::from_millis(500);
/// From the end of the talk to BYE, so that the last packets arrive.
const AFTER_TALK: Duration = Duration::from_millis(200);
/// After giving up, the call is closed whatever the other side says.
const GRACE: Duration = Duration::from_secs(3);
/// Longest audio kept.
const HEARD_MAX: Duration = Duration::from_secs(300);
const ALLOW: &str = "INVITE, BYE, ACK, CANCEL, INFO, UPDATE, REFER, NOTIFY, OPTIONS";

/// What the owner of a caller may command.
#[derive(Debug)]
pub enum CallerCommand {
    /// Place a call; its outcome is reported under the same number.
    Place {
        /// Number.
        id: u64,
        /// The call.
        spec: Box<CallSpec>,
    },
    /// Send OPTIONS.
    Options {
        /// Number.
        id: u64,
        /// Request-URI.
        uri: String,
    },
    /// Send bytes as they are.
    Raw(Bytes),
}

/// What a caller reports.
#[derive(Debug)]
pub enum CallerReport {
    /// A call is over.
    Outcome {
        /// Number.
        id: u64,
        /// What came of it; `Err` when it could not even be sent.
        outcome: Result<Box<CallOutcome>, String>,
    },
    /// Status of an OPTIONS; 0 = no answer.
    Status {
        /// Number.
        id: u64,
        /// Status code.
        status: u16,
    },
    /// A message that belongs to no call.
    Stray(Bytes),
}

enum Phase {
    Allocating,
    Calling,
    Talking,
    HangingUp(ClientKey),
    Stopping,
}

pub(super) struct Call {
    id: u64,
    pub(super) spec: Box<CallSpec>,
    phase: Phase,
    names: (Bytes, Bytes),
    key: FreshKey,
    seed: u64,
    offer: Option<Offer>,
    invite: Option<OutgoingRequest>,
    client: Option<ClientKey>,
    pub(super) dialog: Option<Dialog>,
    sent_at: Instant,
    answered_at: Option<Instant>,
    ended_at: Option<Instant>,
    cancel_at: Option<Instant>,
    talk_at: Option<Instant>,
    hang_up_at: Option<Instant>,
    limit_at: Instant,
    /// What is to be pressed yet, the last first.
    presses: Vec<(Instant, Vec<Key>)>,
    pub(super) outcome: CallOutcome,
}

/// The caller's logic.
pub struct CallerLogic {
    pub(super) station: Station<CallerReport>,
    pub(super) config: CallerConfig,
    local: SocketAddr,
    pub(super) flow: Option<Flow>,
    random: StdRng,
    pub(super) calls: BTreeMap<MediaKey, Call>,
    by_client: BTreeMap<ClientKey, MediaKey>,
    options: BTreeMap<ClientKey, u64>,
    next: u64,
}

impl CallerLogic {
    /// A caller on one connection whose local end is `local`.
    pub fn new(config: CallerConfig, local: SocketAddr) -> Self {
        CallerLogic {
            station: Station::new(&config.fqdn, config.seed),
            random: StdRng::seed_from_u64(config.seed),
            config,
            local,
            flow: None,
            calls: BTreeMap::new(),
            by_client: BTreeMap::new(),
            options: BTreeMap::new(),
            next: 0,
        }
    }

    /// Calls at present.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    fn on_command(&mut self, now: Instant, command: CallerCommand) {
        let Some(flow) = self.flow else { return self.refuse_command(command) };
        match command {
            CallerCommand::Place { id, spec } => self.place(now, id, spec),
            CallerCommand::Options { id, uri } => self.send_options(now, &flow, id, &uri),
            CallerCommand::Raw(bytes) => self.station.endpoint.send_raw(&flow, bytes),
        }
    }

    fn refuse_command(&mut self, command: CallerCommand) {
        let gone = "the connection is closed".to_owned();
        match command {
            CallerCommand::Place { id, .. } => {
                self.station.report(CallerReport::Outcome { id, outcome: Err(gone) })
            }
            CallerCommand::Options { id, .. } => self.station.report(CallerReport::Status { id, status: 0 }),
            CallerCommand::Raw(_) => {}
        }
    }

    fn place(&mut self, now: Instant, id: u64, spec: Box<CallSpec>) {
        self.next += 1;
        let key = MediaKey(self.next);
        let mut fresh = [0; KEY_BYTES];
        self.random.fill_bytes(&mut fresh);
        let endpoint = &mut self.station.endpoint;
        let names = (endpoint.new_call_id(b"fe-"), endpoint.new_tag());
        let call = Call {
            id,
            phase: Phase::Allocating,
            key: FreshKey(fresh),
            seed: self.random.next_u64(),
            offer: None,
            invite: None,
            client: None,
            dialog: None,
            sent_at: now,
            answered_at: None,
            ended_at: None,
            cancel_at: None,
            talk_at: None,
            hang_up_at: None,
            limit_at: now + spec.time_limit,
            presses: Vec::new(),
            outcome: no_outcome(&names.0),
            names,
            spec,
        };
        self.calls.insert(key, call);
        self.station.media(key, MediaCommand::Allocate);
    }

    fn send_options(&mut self, now: Instant, flow: &Flow, id: u64, uri: &str) {
        let (call_id, tag) = (self.station.endpoint.new_call_id(b"fe-"), self.station.endpoint.new_tag());
        let names = Names { call_id: &call_id, tag: &tag, local: self.local };
        let sent = invite::options(&self.config, uri, &names)
            .ok()
            .and_then(|request| self.station.endpoint.send_request(now, flow, request).ok());
        match sent {
            Some(client) => drop(self.options.insert(client, id)),
            None => self.station.report(CallerReport::Status { id, status: 0 }),
        }
    }

    fn on_media(&mut self, now: Instant, key: MediaKey, fact: MediaFact) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        match fact {
            MediaFact::Ready(Ok(local)) => {
                let offer = negotiate::offer(call.spec.shape, local, &call.key, call.seed);
                match offer {
                    Ok(offer) => call.offer = Some(offer),
                    Err(why) => return self.give_up(key, why.to_string()),
                }
                self.send_invite(now, key);
            }
            MediaFact::Ready(Err(why)) => self.give_up(key, why),
            MediaFact::BeepOver if call.talk_at.is_some() && waits_for_beep(&call.spec) => {
                call.talk_at = Some(now);
            }
            MediaFact::Played if call.spec.end == CallEnd::HangUpAfterTalk => {
                call.hang_up_at = Some(now + AFTER_TALK);
            }
            MediaFact::Failed(why) => call.outcome.answer_fault = Some(why),
            MediaFact::Stopped(report) => self.on_stopped(key, *report),
            _ => {}
        }
    }

    fn send_invite(&mut self, now: Instant, key: MediaKey) {
        let (Some(call), Some(flow)) = (self.calls.get_mut(&key), self.flow) else { return };
        let names = Names { call_id: &call.names.0, tag: &call.names.1, local: self.local };
        let is_late = call.spec.shape == super::OfferShape::LateOffer;
        let body = call.offer.as_ref().map(|o| &o.body).filter(|_| !is_late);
        let request = match invite::invite(&self.config, &call.spec, &flow, &names, body) {
            Ok(request) => request,
            Err(why) => return self.give_up(key, why.to_string()),
        };
        match self.station.endpoint.send_request(now, &flow, request.clone()) {
            Ok(client) => {
                call.invite = Some(request);
                call.client = Some(client);
                call.phase = Phase::Calling;
                call.sent_at = now;
                call.limit_at = now + call.spec.time_limit;
                if let CallEnd::CancelAfter(after) = call.spec.end {
                    call.cancel_at = Some(now + after);
                }
                self.by_client.insert(client, key);
            }
            Err(why) => self.give_up(key, why.to_string()),
        }
    }

    /// A call that was never sent.
    fn give_up(&mut self, key: MediaKey, why: String) {
        if let Some(call) = self.calls.remove(&key) {
            self.station.media(key, MediaCommand::Stop);
            self.station.report(CallerReport::Outcome { id: call.id, outcome: Err(why) });
        }
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Response { key, message, .. } => self.on_response(now, key, &message),
            Event::ClientFailed { key, .. } => self.on_client_failed(now, key),
            Event::Request { key, message, .. } => self.on_request(now, key, &message),
            Event::Stray { message, .. } | Event::OneWay { message, .. } => {
                self.station.report(CallerReport::Stray(message.bytes().clone()));
            }
            _ => {}
        }
    }

    fn on_response(&mut self, now: Instant, client: ClientKey, message: &Message) {
        let Some(status) = message.status() else { return };
        if let Some(id) = self.options.get(&client).copied() {
            if status.is_final() {
                self.options.remove(&client);
                self.station.report(CallerReport::Status { id, status: status.code() });
            }
            return;
        }
        let Some(key) = self.by_client.get(&client).copied() else { return };
        let Some(call) = self.calls.get_mut(&key) else { return };
        if matches!(call.phase, Phase::HangingUp(bye) if bye == client) {
            if status.is_final() {
                self.stop(now, key);
            }
            return;
        }
        if call.client != Some(client) || call.outcome.status != 0 {
            return;
        }
        call.note(now, status, message);
        if status.is_success() {
            self.on_answer(now, key, message);
        } else if status.is_final() {
            self.stop(now, key);
        }
    }

    fn on_answer(&mut self, now: Instant, key: MediaKey, message: &Message) {
        let (Some(call), Some(flow)) = (self.calls.get_mut(&key), self.flow) else { return };
        let Some(request) = call.invite.as_ref() else { return };
        let Ok(dialog) = Dialog::uac(request, message) else {
            call.outcome.answer_fault = Some("the 200 forms no dialog".to_owned());
            return self.stop(now, key);
        };
        let (plan, answer) = match call.agree(message) {
            Ok((plan, answer)) => (Some(plan), answer),
            Err(why) => {
                call.outcome.answer_fault = Some(why);
                (None, None)
            }
        };
        let mut ack = dialog.ack(message.cseq().number);
        if let Some(answer) = answer {
            ack = ack.body(answer.content_type.as_bytes(), answer.bytes);
        }
        call.dialog = Some(dialog);
        call.answered_at = Some(now);
        call.phase = Phase::Talking;
        if let Ok(ack) = ack.finish() {
            let ack = without_own_route(ack, &self.config.fqdn);
            self.station.endpoint.send_ack(now, &flow, ack);
        }
        match plan {
            Some(plan) => self.start_media(now, key, plan),
            None => self.hang_up(now, key),
        }
    }

    fn start_media(&mut self, now: Instant, key: MediaKey, plan: Box<MediaPlan>) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let talk_at = call.spec.talk.map(|talk| match talk.start {
            TalkStart::AfterBeep => now + BEEP_WAIT,
            TalkStart::AfterAnswer(after) => now + after,
        });
        call.talk_at = if call.spec.says.is_some() { Some(now + SAYS_AFTER) } else { talk_at };
        call.hang_up_at = match call.spec.end {
            CallEnd::HangUpAfter(after) => Some(now + after),
            CallEnd::HangUpAfterTalk if call.talk_at.is_none() => Some(now + AFTER_TALK),
            // answered before the CANCEL could be sent, or crossing it
            CallEnd::CancelAfter(_) => Some(now),
            _ => None,
        };
        call.cancel_at = None;
        let mut presses: Vec<_> = call.spec.presses.iter().map(|p| (now + p.after, p.keys.clone())).collect();
        presses.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        call.presses = presses;
        self.station.media(key, MediaCommand::Start(plan));
        let limits = RecordLimits { idle: None, longest: HEARD_MAX };
        self.station.media(key, MediaCommand::Record(limits));
    }

    fn on_client_failed(&mut self, now: Instant, client: ClientKey) {
        if let Some(id) = self.options.remove(&client) {
            return self.station.report(CallerReport::Status { id, status: 0 });
        }
        if let Some(key) = self.by_client.get(&client).copied() {
            let is_invite =
                self.calls.get(&key).is_some_and(|c| c.client == Some(client) && c.answered_at.is_some());
            if !is_invite {
                self.stop(now, key);
            }
        }
    }

    fn on_request(&mut self, now: Instant, server: ServerKey, message: &Message) {
        let found = self.calls.iter().find(|(_, c)| c.is_of(message)).map(|(key, _)| *key);
        let status = match (message.method(), found) {
            (Method::Options, _) => 200,
            // an offer in UPDATE wants an answer as one in INVITE does
            (Method::Update, Some(_)) if !message.body().is_empty() => 488,
            (Method::Refer, Some(key)) => return self.on_refer(now, server, key, message),
            (Method::Bye | Method::Info | Method::Update | Method::Notify, Some(_)) => 200,
            (Method::Invite, Some(_)) => 488,
            (Method::Notify, None) if message.header(sip::HeaderId::Event) == Some(b"message-summary") => 200,
            (_, Some(_)) => 501,
            (_, None) => 481,
        };
        let tag = self.station.endpoint.new_tag();
        if let Some(status) = StatusCode::new(status) {
            let response = response_to(message, status, None, Some(&tag)).header(sip::HeaderId::Allow, ALLOW);
            self.station.respond(now, server, response.finish(None, b""));
        }
        match (message.method(), found) {
            (Method::Bye, Some(key)) => {
                if let Some(call) = self.calls.get_mut(&key) {
                    call.outcome.ended_by.get_or_insert(EndedBy::Them);
                }
                self.stop(now, key);
            }
            (_, None) => self.station.report(CallerReport::Stray(message.bytes().clone())),
            _ => {}
        }
    }

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
        let Some(call) = self.calls.get_mut(&key) else { return };
        let is_past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if call.limit_at <= now {
            return self.on_limit(now, key);
        }
        if is_past(call.cancel_at) {
            call.cancel_at = None;
            if let Some(client) = call.client {
                self.station.endpoint.cancel(now, client);
            }
        }
        let Some(call) = self.calls.get_mut(&key) else { return };
        if is_past(call.talk_at) {
            call.talk_at = None;
            if let Some(samples) = &call.spec.says {
                let samples = samples.to_vec();
                self.station.media(key, MediaCommand::Play(samples));
            } else if let Some(talk) = call.spec.talk {
                let samples = (talk.lasts.as_secs_f64() * f64::from(RATE)) as usize;
                self.station.media(key, MediaCommand::Play(tone(talk.hz, talk.level_dbfs, samples)));
            }
        }
        let Some(call) = self.calls.get_mut(&key) else { return };
        while let Some((_, keys)) = call.presses.pop_if(|(at, _)| *at <= now) {
            self.station.media(key, MediaCommand::Press(keys));
        }
        if is_past(call.hang_up_at) {
            call.hang_up_at = None;
            self.hang_up(now, key);
        }
    }

    /// The call lasts too long: CANCEL or BYE first, the axe after a grace.
    fn on_limit(&mut self, now: Instant, key: MediaKey) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let is_second = call.limit_at > call.sent_at + call.spec.time_limit;
        call.limit_at = now + GRACE;
        match (is_second, &call.phase, call.client) {
            (false, Phase::Calling, Some(client)) => self.station.endpoint.cancel(now, client),
            (false, Phase::Talking, _) => self.hang_up(now, key),
            _ => self.stop(now, key),
        }
    }

    fn hang_up(&mut self, now: Instant, key: MediaKey) {
        let (Some(call), Some(flow)) = (self.calls.get_mut(&key), self.flow) else { return };
        call.outcome.ended_by.get_or_insert(EndedBy::Us);
        let bye = call.dialog.as_mut().and_then(|d| d.request(Method::Bye).finish().ok());
        let sent = bye.and_then(|bye| {
            let bye = without_own_route(bye, &self.config.fqdn);
            self.station.endpoint.send_request(now, &flow, bye).ok()
        });
        match sent {
            Some(client) => {
                call.phase = Phase::HangingUp(client);
                self.by_client.insert(client, key);
            }
            None => self.stop(now, key),
        }
    }

    fn stop(&mut self, now: Instant, key: MediaKey) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        if matches!(call.phase, Phase::Stopping) {
            return;
        }
        call.phase = Phase::Stopping;
        call.ended_at = Some(now);
        self.station.media(key, MediaCommand::Stop);
    }

    fn on_stopped(&mut self, key: MediaKey, report: MediaReport) {
        let Some(call) = self.calls.remove(&key) else { return };
        self.by_client.retain(|_, of| *of != key);
        let id = call.id;
        let outcome = Ok(Box::new(call.finish(&report)));
        self.station.report(CallerReport::Outcome { id, outcome });
    }

    fn on_flow_down(&mut self, now: Instant, flow: FlowKey) {
        self.station.flow_down(now, flow);
        self.flow = None;
        let keys: Vec<MediaKey> = self.calls.keys().copied().collect();
        for key in keys {
            if let Some(call) = self.calls.get_mut(&key).filter(|c| c.answered_at.is_some()) {
                call.outcome.ended_by.get_or_insert(EndedBy::ConnectionLost);
            }
            self.stop(now, key);
        }
        for (_, id) in std::mem::take(&mut self.options) {
            self.station.report(CallerReport::Status { id, status: 0 });
        }
    }
}

impl Call {
    fn note(&mut self, now: Instant, status: StatusCode, message: &Message) {
        let elapsed = since(now, self.sent_at);
        let outcome = &mut self.outcome;
        if status.code() > 100 {
            outcome.first_ring.get_or_insert(elapsed);
        }
        if status.is_provisional() {
            outcome.provisional.push(status.code());
            return;
        }
        if status.is_redirect() {
            outcome.redirects_seen += 1;
        }
        outcome.status = status.code();
        outcome.reason = text(&message.reason());
        outcome.headers = message.headers().map(|h| (text(h.name), text(&h.value()))).collect();
        outcome.body = message.body().to_vec();
        outcome.setup = Some(elapsed);
    }

    /// Media as the 200 says; with the answer for the ACK when the offer came late.
    fn agree(&mut self, message: &Message) -> Result<(Box<MediaPlan>, Option<negotiate::Body>), String> {
        let described = negotiate::read_session(
            message.header(sip::HeaderId::ContentType).unwrap_or_default(),
            &message.body(),
        )
        .map_err(|why| why.to_string())?;
        let offer = self.offer.as_ref().ok_or("no offer was made")?;
        let (body, agreed) = if self.spec.shape == super::OfferShape::LateOffer {
            let local = offer.local;
            let (body, agreed) = negotiate::answer(
                &described,
                crate::um::PlanSecurity::AsOffered,
                local,
                &self.key,
                self.seed,
            )
            .map_err(|why| why.to_string())?;
            (Some(body), agreed)
        } else {
            (None, negotiate::accept(offer, &described).map_err(|why| why.to_string())?)
        };
        self.outcome.media = Some(agreed.kind);
        self.outcome.codec = Some(agreed.law.name().to_owned());
        Ok((Box::new(agreed.plan), body))
    }

    fn is_of(&self, message: &Message) -> bool {
        message.call_id() == self.names.0.as_ref() && message.to_tag() == Some(self.names.1.as_ref())
    }

    fn deadline(&self) -> Option<Instant> {
        if matches!(self.phase, Phase::Stopping | Phase::Allocating) {
            return None;
        }
        let press_at = self.presses.last().map(|(at, _)| *at);
        let wishes = [self.cancel_at, self.talk_at, self.hang_up_at, press_at, Some(self.limit_at)];
        wishes.into_iter().flatten().min()
    }

    fn finish(mut self, report: &MediaReport) -> CallOutcome {
        let before_beep = report.beep_at.map_or(0, |at| (at.as_secs_f64() * f64::from(RATE)) as usize);
        self.outcome.heard = Heard {
            packets: report.packets,
            rejected: report.rejected,
            sent: report.sent,
            dominant_hz: dominant_hz(&report.samples),
            level_dbfs: level_dbfs(&report.samples),
            beep_at: report.beep_at,
            greeting_dbfs: level_dbfs(report.samples.get(..before_beep).unwrap_or_default()),
            lasted: Duration::from_secs_f64(report.samples.len() as f64 / f64::from(RATE)),
        };
        if let (Some(from), Some(to)) = (self.answered_at, self.ended_at) {
            self.outcome.lasted = Some(since(to, from));
        }
        self.outcome
    }
}

impl Machine for CallerLogic {
    type Command = CallerCommand;
    type Report = CallerReport;

    fn handle(&mut self, now: Instant, input: Input<CallerCommand>) {
        match input {
            Input::FlowUp(flow) => {
                self.flow = Some(flow);
                self.station.flow_up(flow);
            }
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

    fn poll_output(&mut self) -> Option<Output<CallerReport>> {
        self.station.poll_output()
    }

    fn poll_deadline(&self) -> Option<Instant> {
        let calls = self.calls.values().filter_map(Call::deadline).min();
        earlier(calls, self.station.poll_deadline())
    }
}

fn waits_for_beep(spec: &CallSpec) -> bool {
    spec.says.is_none() && spec.talk.is_some_and(|talk| talk.start == TalkStart::AfterBeep)
}

fn no_outcome(call_id: &[u8]) -> CallOutcome {
    CallOutcome {
        call_id: text(call_id),
        status: 0,
        reason: String::new(),
        provisional: Vec::new(),
        headers: Vec::new(),
        body: Vec::new(),
        redirects_seen: 0,
        setup: None,
        first_ring: None,
        media: None,
        codec: None,
        heard: Heard::default(),
        ended_by: None,
        lasted: None,
        referred_to: Vec::new(),
        answer_fault: None,
    }
}

/// The Front End record-routes and calls at once, so its own entry comes back in the route set; like any proxy it removes it before sending.
pub(super) fn without_own_route(mut request: OutgoingRequest, fqdn: &str) -> OutgoingRequest {
    let own = format!("sip:{fqdn}");
    let kept: Vec<u8> = request
        .headers
        .split_inclusive(|b| *b == b'\n')
        .filter(|line| {
            let line = String::from_utf8_lossy(line);
            !(line.to_ascii_lowercase().starts_with("route:") && line.contains(&own))
        })
        .flatten()
        .copied()
        .collect();
    request.headers = Bytes::from(kept);
    request
}
