//! A far end that cannot sit still: it renegotiates, refreshes, sends requests nobody expects, takes its word back, forgets to acknowledge,
//! tries to talk the gateway out of encryption. It plays callers and workers. Legal SIP all the same: what it sends is what a peer may send.

mod call;
mod early;
mod words;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lab::machine::{Input, Output};
use lab::um::Ports;
use sdp::Direction;
use sip::{
    ClientKey, Dialog, Endpoint, EndpointConfig, Event, Flow, FlowKey, HeaderId, Message, Method,
    OutgoingRequest, ServerKey,
};

use self::call::{Brings, Call, Stage};
use self::early::asks_for_reliable;
use self::words::{contact_at, tag_of, text};
use super::random::Random;

const SDP: &str = "application/sdp";
/// A call is ended after this many own ideas.
const IDEAS_MAX: u32 = 6;

/// What it may be told.
#[derive(Debug)]
pub enum Order {
    /// Place a call.
    Place {
        /// Its number.
        id: u64,
        /// Request-URI.
        uri: String,
        /// Take the INVITE back after this.
        cancel_after: Option<Duration>,
    },
    /// BYE to all.
    HangUpAll,
    /// OPTIONS to the gateway, under this number.
    Options(u64),
    /// Message waiting for this address.
    Notify(String),
}

/// What it reports: call number and final status, or a line of news.
#[derive(Debug)]
pub enum Said {
    /// Final status of a placed call; 0 when none came.
    Outcome(u64, u16),
    /// Something it did.
    News(String),
}

/// The far end.
pub struct Restless {
    name: String,
    address: IpAddr,
    ports: Ports,
    endpoint: Endpoint,
    random: Random,
    flows: BTreeMap<FlowKey, Flow>,
    calls: BTreeMap<u64, Call>,
    next: u64,
    out: VecDeque<Output<Said>>,
}

impl Restless {
    /// At this address, under this name.
    pub fn new(name: &str, address: IpAddr, ports: Ports, seed: u64) -> Self {
        let config = EndpointConfig { via_host: name.to_owned().into(), ..EndpointConfig::default() };
        Self {
            name: name.to_owned(),
            address,
            ports,
            endpoint: Endpoint::new(config, seed),
            random: Random::new(seed),
            flows: BTreeMap::new(),
            calls: BTreeMap::new(),
            next: 0,
            out: VecDeque::new(),
        }
    }

    /// Calls it believes to have.
    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    /// Feeds one input.
    pub fn handle(&mut self, now: Instant, input: Input<Order>) {
        match input {
            Input::FlowUp(flow) => drop(self.flows.insert(flow.key, flow)),
            Input::FlowDown(key) => self.on_flow_down(now, key),
            Input::Bytes { flow, bytes } => {
                if let Some(flow) = self.flows.get(&flow) {
                    self.endpoint.handle_bytes(now, flow, bytes);
                }
            }
            Input::Media { .. } => {}
            Input::Command(Order::Place { id, uri, cancel_after }) => self.place(now, id, &uri, cancel_after),
            Input::Command(Order::Options(id)) => self.send_options(now, id),
            Input::Command(Order::Notify(whom)) => self.send_notify(now, &whom),
            Input::Command(Order::HangUpAll) => {
                let all: Vec<u64> = self.calls.keys().copied().collect();
                all.into_iter().for_each(|key| self.hang_up(now, key));
            }
            Input::Timeout => self.endpoint.handle_timeout(now),
        }
        self.on_due(now);
        self.drain(now);
    }

    /// Its next wish.
    pub fn poll_output(&mut self) -> Option<Output<Said>> {
        self.out.pop_front()
    }

    /// When it wants to be woken.
    pub fn poll_deadline(&self) -> Option<Instant> {
        let sip = self.endpoint.poll_deadline().map(|(at, _)| at);
        let calls = self.calls.values().filter_map(Call::deadline);
        calls.chain(sip).min()
    }

    fn drain(&mut self, now: Instant) {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                sip::Output::Send { flow, bytes } => self.out.push_back(Output::Send { flow, bytes }),
                sip::Output::Event(event) => self.on_event(now, event),
            }
        }
    }

    fn place(&mut self, now: Instant, id: u64, uri: &str, cancel_after: Option<Duration>) {
        let flows: Vec<Flow> = self.flows.values().copied().collect();
        let Some(flow) = self.random.pick(&flows).copied() else {
            return self.say(Said::Outcome(id, 0));
        };
        let (call_id, tag) = (self.endpoint.new_call_id(b"fe-"), self.endpoint.new_tag());
        let is_sealed = self.name.starts_with("pool01") || self.name.starts_with("pool03");
        let body = self.offer(is_sealed, Direction::SendRecv);
        let is_late = !is_sealed && self.random.chance(15);
        let to = uri.split(';').next().unwrap_or_default();
        let extensions = self.extensions();
        let headers = format!(
            "Max-Forwards: 70\r\nFrom: <sip:dana@contoso.com>;tag={}\r\nTo: <{to}>\r\nCall-ID: {}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:dana@{}:5061>\r\nDiversion: <{to}>\r\n{}",
            text(&tag),
            text(&call_id),
            self.address,
            extensions
        );
        let invite = OutgoingRequest {
            method: Method::Invite,
            uri: Bytes::copy_from_slice(uri.as_bytes()),
            headers: Bytes::from(headers),
            content_type: (!is_late).then(|| Bytes::from_static(SDP.as_bytes())),
            body: if is_late { Bytes::new() } else { body },
        };
        let Ok(client) = self.endpoint.send_request(now, &flow, invite.clone()) else {
            return self.say(Said::Outcome(id, 0));
        };
        let call = Call {
            placed: Some(id),
            invite: Some(invite),
            first: Some(client),
            cancel_at: cancel_after.map(|after| now + after),
            is_sealed,
            ..Call::new(now, flow, call_id)
        };
        self.next += 1;
        self.calls.insert(self.next, call);
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Request { key, flow, message } => self.on_request(now, key, flow, message),
            Event::Cancel { invite, .. } => {
                let found = self.key_where(|call| call.theirs.as_ref().is_some_and(|(k, ..)| *k == invite));
                if let Some(key) = found {
                    self.refuse_theirs(now, key, 487);
                }
            }
            Event::AckMissing { key } => self.note(format!("no ACK for {key:?}")),
            Event::Response { key, message, .. } => self.on_response(now, key, &message),
            Event::ClientFailed { key, .. } => self.on_client_done(key),
            _ => {}
        }
    }

    fn on_request(&mut self, now: Instant, server: ServerKey, flow: Flow, request: Message) {
        let found = self.key_where(|call| call.is_of(&request));
        let Some(key) = found else {
            return match (request.method(), request.to_tag()) {
                (Method::Invite, None) => self.on_new_call(now, server, flow, request),
                (Method::Options, None) => self.respond(now, server, &request, 200, None),
                _ => self.respond(now, server, &request, 481, None),
            };
        };
        let in_order = self
            .calls
            .get_mut(&key)
            .and_then(|call| call.dialog.as_mut())
            .is_some_and(|dialog| dialog.accept_request(&request).is_ok());
        match request.method() {
            _ if !in_order => self.respond(now, server, &request, 500, None),
            Method::Prack => self.on_prack(now, server, key, &request),
            Method::Bye => self.on_bye(now, server, key, &request),
            Method::Invite => self.on_reinvite(now, server, key, request),
            Method::Update => {
                let body = (!request.body().is_empty()).then(|| self.answer(&request)).flatten();
                self.respond(now, server, &request, 200, body);
            }
            _ => {
                let status = self.random.pick(&[200, 200, 405, 500]).copied().unwrap_or(200);
                self.respond(now, server, &request, status, None);
            }
        }
    }

    fn on_new_call(&mut self, now: Instant, server: ServerKey, flow: Flow, request: Message) {
        if self.random.chance(15) {
            let status = self.random.pick(&[486, 488, 500, 503, 603, 404]).copied().unwrap_or(486);
            return self.respond(now, server, &request, status, None);
        }
        let until = now + self.random.between(Duration::ZERO, Duration::from_millis(1_200));
        let Ok(dialog) = Dialog::uas(&request, tag_of(&request)) else {
            return self.respond(now, server, &request, 400, None);
        };
        let is_sealed = text(&request.body()).contains("a=crypto:");
        let call = Call {
            dialog: Some(dialog),
            theirs: Some((server, request.clone(), until)),
            is_sealed,
            ..Call::new(now, flow, request.call_id_bytes())
        };
        self.next += 1;
        self.calls.insert(self.next, call);
        let is_reliable = asks_for_reliable(&request);
        match self.random.below(6) {
            0 => {}
            1 | 2 if is_reliable => self.ring_reliably(now, server, self.next, &request),
            3 => self.ring_as_fork(&flow, &request),
            1 => {
                let body = (!request.body().is_empty()).then(|| self.answer(&request)).flatten();
                self.respond(now, server, &request, 183, body);
            }
            _ => self.respond(now, server, &request, 180, None),
        }
        // In the early dialog, and confused: an answer is still to come.
        match self.random.below(20) {
            0 => self.ask(now, self.next, Method::Bye, None),
            1 => self.ask(now, self.next, Method::Info, None),
            2 => self.ask(now, self.next, Method::Update, None),
            _ => {}
        }
    }

    fn on_reinvite(&mut self, now: Instant, server: ServerKey, key: u64, request: Message) {
        let wait = self.random.between(Duration::ZERO, Duration::from_millis(900));
        let Some(call) = self.calls.get_mut(&key) else { return };
        if call.ours.is_some() || call.theirs.is_some() {
            return self.respond(now, server, &request, 491, None);
        }
        call.theirs = Some((server, request.clone(), now + wait));
        match self.random.below(8) {
            0 => self.respond(now, server, &request, 180, None),
            1 if asks_for_reliable(&request) => self.ring_reliably(now, server, key, &request),
            _ => {}
        }
    }

    fn on_bye(&mut self, now: Instant, server: ServerKey, key: u64, request: &Message) {
        self.respond(now, server, request, 200, None);
        self.refuse_theirs(now, key, 487);
        self.end(key);
    }

    /// The waiting INVITE is refused, and with it the call when it was the first.
    fn refuse_theirs(&mut self, now: Instant, key: u64, status: u16) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let is_up = call.is_up();
        if let Some((server, request, _)) = call.theirs.take() {
            self.respond(now, server, &request, status, None);
        }
        if !is_up {
            self.end(key);
        }
    }

    /// The waiting INVITE is answered: mostly well.
    fn answer_theirs(&mut self, now: Instant, key: u64) {
        let is_refused = self.random.chance(20);
        let Some(call) = self.calls.get_mut(&key) else { return };
        let is_sealed = call.is_sealed;
        if call.is_up() && is_refused {
            return self.refuse_theirs(now, key, 488);
        }
        // RFC 3262 §3: a description that nobody confirmed yet holds the 2xx back.
        if call.prack_due.take_if(|until| *until > now).is_some_and(|until| call.postpone(until)) {
            return;
        }
        let was_told = std::mem::take(&mut call.was_told);
        let flow = call.flow;
        let Some(request) = call.theirs.as_ref().map(|(_, request, _)| request.clone()) else { return };
        let is_first = request.to_tag().is_none();
        let body = match request.body().is_empty() {
            _ if was_told && is_first => Some(Bytes::new()),
            true => Some(self.offer(is_sealed, Direction::SendRecv)),
            false => self.answer(&request),
        };
        let Some(body) = body else { return self.refuse_theirs(now, key, 488) };
        let Some(call) = self.calls.get_mut(&key) else { return };
        call.stage = Stage::Answered;
        if let Some(dialog) = &mut call.dialog {
            dialog.confirm();
            dialog.refresh_target(&request);
        }
        if let Some((server, ..)) = call.theirs.take() {
            self.respond(now, server, &request, 200, Some(body).filter(|body| !body.is_empty()));
        }
        if is_first {
            self.answer_as_fork(&flow, &request);
        }
    }

    fn on_response(&mut self, now: Instant, client: ClientKey, response: &Message) {
        let Some(status) = response.status() else { return };
        if !status.is_final() {
            return self.on_provisional(now, client, response);
        }
        if *response.method() != Method::Invite {
            return self.on_client_done(client);
        }
        let found = self.key_where(|call| call.first == Some(client) || call.has_open(client));
        let Some(key) = found else { return };
        if status.is_success() {
            return self.on_answered(now, key, client, response);
        }
        let Some(call) = self.calls.get_mut(&key) else { return };
        if call.first == Some(client) {
            if let Some(id) = call.placed.take() {
                self.say(Said::Outcome(id, status.code()));
            }
            return self.end(key);
        }
        call.ours = None;
        // RFC 3261 §14.1: the dialog is over.
        if matches!(status.code(), 408 | 481) {
            self.hang_up(now, key);
        }
    }

    fn on_provisional(&mut self, now: Instant, client: ClientKey, response: &Message) {
        let Some(key) = self.key_where(|call| call.first == Some(client)) else { return };
        if let Some(call) = self.calls.get_mut(&key).filter(|call| call.early.is_none()) {
            call.early = call.invite.as_ref().and_then(|invite| Dialog::uac(invite, response).ok());
        }
        self.confirm_provisional(now, key, response);
    }

    /// The call is not wanted any more: CANCEL, or BYE in the early dialog (RFC 3261 §15).
    fn take_back(&mut self, now: Instant, key: u64) {
        let says_bye = self.random.chance(30);
        let Some(call) = self.calls.get_mut(&key) else { return };
        call.cancel_at = None;
        call.ideas = IDEAS_MAX;
        let (flow, first) = (call.flow, call.first);
        let bye = call.early.as_mut().filter(|_| says_bye).map(|early| early.request(Method::Bye).finish());
        match (bye, first) {
            (Some(Ok(bye)), _) => {
                // The INVITE still gets its own final answer, which ends the call here.
                let _ = self.endpoint.send_request(now, &flow, bye);
            }
            (_, Some(client)) => self.endpoint.cancel(now, client),
            _ => {}
        }
    }

    fn on_answered(&mut self, now: Instant, key: u64, client: ClientKey, response: &Message) {
        let forgets = self.random.chance(3);
        let sleeps = self.random.chance(8);
        let Some(call) = self.calls.get_mut(&key) else { return };
        let (flow, is_first) = (call.flow, call.first == Some(client));
        if is_first {
            if call.dialog.is_some() {
                return;
            }
            call.dialog = call.invite.as_ref().and_then(|invite| Dialog::uac(invite, response).ok());
            if let (Some(dialog), Some(early)) = (&mut call.dialog, &call.early) {
                dialog.local_cseq = early.local_cseq;
            }
            call.stage = Stage::Answered;
            call.idea_at = now + Duration::from_millis(300);
            call.fall_asleep(now, sleeps);
            if let Some(id) = call.placed {
                self.out.push_back(Output::Report(Said::Outcome(id, 200)));
            }
        }
        let is_late = match call.ours.take().filter(|(own, _)| *own == client) {
            Some((_, brings)) => brings == Brings::Nothing,
            // An offer that came in a reliable 18x was answered in its PRACK.
            None => !call.was_told && call.invite.as_ref().is_some_and(|invite| invite.body.is_empty()),
        };
        let ack = call.dialog.as_ref().map(|dialog| dialog.ack(response.cseq().number));
        let gives_up = call.cancel_at.is_some() && is_first;
        let answer = if is_late { self.answer(response) } else { None };
        if forgets && is_first {
            return self.note("forgets to acknowledge".to_owned());
        }
        let ack = ack.map(|draft| match answer {
            Some(body) => draft.body(SDP, body).finish(),
            None => draft.finish(),
        });
        if let Some(Ok(ack)) = ack {
            self.endpoint.send_ack(now, &flow, ack);
        }
        if gives_up {
            self.hang_up(now, key);
        }
    }

    fn on_client_done(&mut self, client: ClientKey) {
        let found = self.key_where(|call| call.bye == Some(client) || call.first == Some(client));
        if let Some(key) = found {
            return self.end(key);
        }
        for call in self.calls.values_mut().filter(|call| call.has_open(client)) {
            call.ours = None;
        }
    }

    fn on_due(&mut self, now: Instant) {
        let due: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, c)| c.deadline().is_some_and(|at| at <= now))
            .map(|(k, _)| *k)
            .collect();
        for key in due {
            let Some(call) = self.calls.get_mut(&key) else { continue };
            if call.over_at <= now {
                self.end(key);
            } else if call.theirs.as_ref().is_some_and(|(.., at)| *at <= now) {
                self.answer_theirs(now, key);
            } else if call.cancel_at.is_some_and(|at| at <= now) && call.dialog.is_none() {
                self.take_back(now, key);
            } else if call.is_up() && call.idea_at <= now {
                self.have_idea(now, key);
            }
        }
    }

    fn have_idea(&mut self, now: Instant, key: u64) {
        let pause = self.random.between(Duration::from_millis(5), Duration::from_millis(1_500));
        let idea = self.random.below(13);
        let Some(call) = self.calls.get_mut(&key) else { return };
        call.idea_at = now + pause;
        call.ideas += 1;
        let (is_sealed, is_busy) = (call.is_sealed, call.ours.is_some() || call.theirs.is_some());
        if call.ideas > IDEAS_MAX {
            return self.hang_up(now, key);
        }
        let direction = self.random.pick(&[Direction::SendRecv, Direction::SendOnly, Direction::Inactive]);
        let direction = direction.copied().unwrap_or(Direction::SendRecv);
        match idea {
            0 => self.ask(
                now,
                key,
                Method::Info,
                Some(("application/dtmf-relay", Bytes::from_static(b"Signal=5\r\n"))),
            ),
            1 => self.ask(now, key, Method::Update, None),
            2 => self.ask(now, key, Method::Service, None),
            3 => self.ask(now, key, Method::Prack, None),
            4..=6 if !is_busy => {
                let body = self.offer(is_sealed, direction);
                self.reinvite(now, key, Some(body));
            }
            7 if !is_busy => self.reinvite(now, key, None),
            8 if !is_busy => {
                let body = self.offer(!is_sealed, direction);
                self.reinvite(now, key, Some(body));
            }
            9 if !is_busy => {
                let body = self.offer(is_sealed, direction);
                self.reinvite(now, key, Some(body));
                if let Some((client, _)) = self.calls.get(&key).and_then(|call| call.ours) {
                    self.endpoint.cancel(now, client);
                }
            }
            10 if !is_busy => {
                let body = self.offer(is_sealed, direction);
                self.ask(now, key, Method::Update, Some((SDP, body)));
            }
            11 => self.refer(now, key),
            _ => {}
        }
    }

    fn reinvite(&mut self, now: Instant, key: u64, body: Option<Bytes>) {
        let brings = if body.is_some() { Brings::Offer } else { Brings::Nothing };
        let client = self.send(now, key, Method::Invite, body.map(|body| (SDP, body)));
        if let Some(call) = self.calls.get_mut(&key) {
            call.ours = client.map(|client| (client, brings));
        }
    }

    fn ask(&mut self, now: Instant, key: u64, method: Method, body: Option<(&str, Bytes)>) {
        self.send(now, key, method, body);
    }

    fn hang_up(&mut self, now: Instant, key: u64) {
        let Some(call) = self.calls.get_mut(&key).filter(|call| call.is_up() && call.bye.is_none()) else {
            return;
        };
        if let Some((server, request, _)) = call.theirs.take() {
            self.respond(now, server, &request, 486, None);
        }
        match self.send(now, key, Method::Bye, None) {
            Some(client) => {
                if let Some(call) = self.calls.get_mut(&key) {
                    call.bye = Some(client);
                }
            }
            None => self.end(key),
        }
    }

    fn send(
        &mut self,
        now: Instant,
        key: u64,
        method: Method,
        body: Option<(&str, Bytes)>,
    ) -> Option<ClientKey> {
        let call = self.calls.get_mut(&key)?;
        let mut draft = call.dialog.as_mut()?.request(method);
        let contact = contact_at(&self.name, self.ports, self.address, call.flow.transport);
        draft = draft.header(HeaderId::Contact, contact);
        if let Some((content_type, body)) = body {
            draft = draft.body(content_type, body);
        }
        let flow = call.flow;
        self.endpoint.send_request(now, &flow, draft.finish().ok()?).ok()
    }

    fn on_flow_down(&mut self, now: Instant, flow: FlowKey) {
        self.flows.remove(&flow);
        self.endpoint.handle_flow_down(now, flow);
        let other = self.flows.values().next().copied();
        let lost: Vec<u64> = self.calls.iter().filter(|(_, c)| c.flow.key == flow).map(|(k, _)| *k).collect();
        for key in lost {
            // An answered call goes on over another connection of the same pool.
            match (self.calls.get_mut(&key).filter(|call| call.is_up()), other) {
                (Some(call), Some(other)) => call.flow = other,
                _ => self.end(key),
            }
        }
    }

    fn end(&mut self, key: u64) {
        if let Some(call) = self.calls.remove(&key)
            && let Some(id) = call.placed.filter(|_| call.dialog.is_none())
        {
            self.say(Said::Outcome(id, 0));
        }
    }

    fn key_where(&self, is_it: impl Fn(&Call) -> bool) -> Option<u64> {
        self.calls.iter().find(|(_, call)| is_it(call)).map(|(key, _)| *key)
    }

    fn say(&mut self, said: Said) {
        self.out.push_back(Output::Report(said));
    }

    fn note(&mut self, text: String) {
        let text = format!("{}: {text}", self.name);
        self.say(Said::News(text));
    }
}
