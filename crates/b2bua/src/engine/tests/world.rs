//! A world for one engine: a caller, UM servers that follow a script, flows that are memory, a clock
//! that is a number. Both ends speak through endpoints of their own.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sdp::{CryptoLine, KeySalt, OfferSpec, Profile, Session, Suite};
use sip::endpoint::{self, ClientKey, Endpoint, EndpointConfig, Flow, OutgoingRequest, ServerKey};
use sip::{Dialog, FlowKey, HeaderId, Message, Method, StatusCode, Transport};

use crate::engine::*;
use crate::policy::Policy;
use crate::record::CallRecord;

/// What a UM server does with an INVITE.
#[derive(Clone, Debug, PartialEq)]
pub enum Script {
    Redirect(String),
    Answer,
    AnswerBroken,
    RingOnly,
    EarlyMedia,
    /// 180 with a description.
    RingWithSdp,
    Refuse(u16, &'static str),
    Silent,
    NoListener,
    /// A connection is neither made nor refused.
    Hangs,
}

/// One far end: the caller, or one port of a UM server.
pub struct Party {
    pub endpoint: Endpoint,
    /// Its To tag: no two parties have the same.
    pub tag: Bytes,
    pub script: Script,
    pub flow: Option<Flow>,
    pub invite: Option<OutgoingRequest>,
    pub dialog: Option<Dialog>,
    pub requests: Vec<Message>,
    pub responses: Vec<Message>,
    pub acks: Vec<Message>,
    /// Requests that are never answered.
    pub one_way: Vec<Message>,
    /// What is sent to it is lost.
    pub is_deaf: bool,
    /// Address, port and key byte of its answers.
    pub media: (&'static str, u16, u8),
    /// Payload type its answers give telephone-event, where not that of the offer.
    pub digits: Option<u8>,
    pub pending: Option<(ServerKey, Message)>,
    /// Do not acknowledge a 2xx by itself.
    pub holds_ack: bool,
    /// Status for a re-INVITE; 0 lets it wait.
    pub answers_reoffer: u16,
    /// Statuses for other methods than INVITE, where not 200; 0 lets the request wait.
    pub answers: BTreeMap<&'static str, u16>,
    /// Lines of every 2xx to INVITE and UPDATE; each ends with CRLF.
    pub says: String,
    /// What the next requests of a method get: status (0 nothing, 100 only that) and extra lines.
    pub scripted: VecDeque<(Method, u16, String)>,
    /// Was restarted: knows no dialog.
    pub has_forgotten: bool,
    /// Answers nothing but INVITEs.
    pub is_mute: bool,
}

impl Party {
    fn new(seed: u64, script: Script) -> Self {
        Self {
            endpoint: Endpoint::new(
                EndpointConfig { via_host: "far.example".into(), ..EndpointConfig::default() },
                seed,
            ),
            tag: Bytes::from(format!("far-tag-{seed}")),
            script,
            flow: None,
            invite: None,
            dialog: None,
            requests: Vec::new(),
            responses: Vec::new(),
            acks: Vec::new(),
            one_way: Vec::new(),
            is_deaf: false,
            media: ("10.0.2.1", 4000, 0x5b),
            digits: None,
            pending: None,
            holds_ack: false,
            answers_reoffer: 200,
            answers: BTreeMap::new(),
            says: String::new(),
            scripted: VecDeque::new(),
            has_forgotten: false,
            is_mute: false,
        }
    }

    pub fn last_status(&self) -> u16 {
        self.responses.last().and_then(|r| r.status()).map_or(0, |s| s.code())
    }

    pub fn statuses(&self) -> Vec<u16> {
        self.responses.iter().filter_map(|r| r.status()).map(|s| s.code()).filter(|s| *s != 100).collect()
    }

    pub fn methods(&self) -> Vec<String> {
        self.requests.iter().map(|r| r.method().as_str_lossy().to_owned()).collect()
    }
}

pub type Place = (String, u16);

pub struct World {
    pub engine: Engine,
    pub now: Instant,
    pub parties: BTreeMap<Place, Party>,
    pub flows: BTreeMap<FlowKey, Place>,
    pub closed: Vec<FlowKey>,
    pub records: Vec<CallRecord>,
    pub plans: Vec<relay::Plan>,
    /// Digits that go out as events.
    pub pressed: Vec<(relay::Side, char, u128)>,
    pub allocated: usize,
    /// Media ports never come.
    pub has_no_ports: bool,
    pub released: usize,
    pub connects: Vec<Target>,
    /// Wishes for connections that nobody answered.
    pub hanging: Vec<ConnectKey>,
    pub questions: Vec<Question>,
    pub dns: BTreeMap<String, Vec<SocketAddr>>,
    pub dns_is_silent: bool,
    pub unanswered: Vec<(QueryKey, Result<Vec<SocketAddr>, ResolveFailure>)>,
    /// Addresses where nobody can be reached.
    pub dead: Vec<IpAddr>,
    pub events: Vec<String>,
    /// What other shards are told.
    pub told: Vec<News>,
    pub panics: usize,
    next_flow: u64,
    seed: u64,
}

pub fn caller() -> Place {
    ("caller".to_owned(), 0)
}

#[allow(clippy::disallowed_methods)]
fn start() -> Instant {
    Instant::now()
}

impl World {
    pub fn new(policy: Arc<Policy>) -> Self {
        Self::sharded(policy, 0, 1)
    }

    /// With one of several shards.
    pub fn sharded(policy: Arc<Policy>, shard: u16, shards: u16) -> Self {
        let now = start();
        let config = EngineConfig { shard, shards, ..EngineConfig::new(7, [3; 32], now) };
        let mut world = Self {
            engine: Engine::new(config, policy),
            now,
            parties: BTreeMap::new(),
            flows: BTreeMap::new(),
            closed: Vec::new(),
            records: Vec::new(),
            plans: Vec::new(),
            pressed: Vec::new(),
            allocated: 0,
            has_no_ports: false,
            released: 0,
            connects: Vec::new(),
            hanging: Vec::new(),
            questions: Vec::new(),
            dns: BTreeMap::new(),
            dns_is_silent: false,
            unanswered: Vec::new(),
            dead: Vec::new(),
            events: Vec::new(),
            told: Vec::new(),
            panics: 0,
            next_flow: 0,
            seed: 100,
        };
        world.script(&caller().0, 0, Script::Silent);
        world.caller().media = ("10.0.0.5", 3000, 9);
        world
    }

    pub fn script(&mut self, name: &str, port: u16, script: Script) {
        self.seed += 1;
        self.parties.insert((name.to_owned(), port), Party::new(self.seed, script));
    }

    pub fn party(&mut self, name: &str, port: u16) -> &mut Party {
        self.parties.get_mut(&(name.to_owned(), port)).unwrap()
    }

    pub fn caller(&mut self) -> &mut Party {
        self.parties.get_mut(&caller()).unwrap()
    }

    /// A caller connects; `name` is the certificate's, `None` is plain TCP from that address.
    pub fn connect_caller(&mut self, address: &str, name: Option<&str>) -> FlowKey {
        let transport = if name.is_some() { Transport::Tls } else { Transport::Tcp };
        let remote = SocketAddr::new(address.parse().unwrap(), 40000);
        let peer = match name {
            Some(name) => PeerIdentity::Verified { names: vec![name.to_owned()] },
            None => PeerIdentity::Address,
        };
        self.flow_up(caller(), transport, remote, peer, Origin::Inbound)
    }

    pub fn flow_up(
        &mut self,
        place: Place,
        transport: Transport,
        remote: SocketAddr,
        peer: PeerIdentity,
        origin: Origin,
    ) -> FlowKey {
        self.flow_up_for(place, transport, remote, peer, origin, None)
    }

    /// A flow that was opened for that name.
    pub fn flow_up_for(
        &mut self,
        place: Place,
        transport: Transport,
        remote: SocketAddr,
        peer: PeerIdentity,
        origin: Origin,
        made_for: Option<&str>,
    ) -> FlowKey {
        self.next_flow += 1;
        let key = FlowKey(self.next_flow);
        let local = SocketAddr::new(IpAddr::from([10, 0, 0, 1]), 5061);
        if let Some(party) = self.parties.get_mut(&place) {
            party.flow = Some(Flow {
                key,
                transport,
                remote: local,
                via_port: remote.port(),
                party: endpoint::Party::default(),
            });
        }
        self.flows.insert(key, place);
        self.feed(Input::FlowUp(FlowUp {
            key,
            transport,
            local,
            remote,
            peer,
            origin,
            made_for: made_for.map(str::to_owned),
        }));
        key
    }

    /// As a shell does it: a panic ends the calls concerned.
    fn handle(&mut self, input: Input) {
        let (engine, now) = (&mut self.engine, self.now);
        let mut broken =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.handle(now, input))).is_err();
        while broken {
            self.panics += 1;
            assert!(self.panics < 10, "recovery does not come to an end");
            broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.recover(now))).is_err();
        }
    }

    pub fn feed(&mut self, input: Input) {
        self.handle(input);
        self.pump();
    }

    /// Runs until nobody has anything to say at this instant.
    pub fn pump(&mut self) {
        for _ in 0..10_000 {
            let mut idle = true;
            while let Some(output) = self.engine.poll_output() {
                idle = false;
                self.on_output(output);
            }
            let places: Vec<Place> = self.parties.keys().cloned().collect();
            for place in places {
                idle &= self.pump_party(&place);
            }
            if idle {
                return;
            }
        }
        panic!("the world does not come to rest");
    }

    /// Lets time pass, waking everybody at their deadlines.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            let engine = self.engine.poll_deadline().map(|(at, _)| at);
            let parties = self.parties.values().filter_map(|p| p.endpoint.poll_deadline()).map(|(at, _)| at);
            let next = parties.chain(engine).min().filter(|at| *at <= end);
            let Some(at) = next else { break };
            self.now = self.now.max(at);
            for party in self.parties.values_mut() {
                party.endpoint.handle_timeout(self.now);
            }
            self.feed(Input::Timeout);
        }
        self.now = end;
    }

    fn on_output(&mut self, output: Output) {
        match output {
            Output::Send { flow, bytes } => {
                let Some(place) = self.flows.get(&flow).cloned() else { return };
                let now = self.now;
                if let Some(party) = self.parties.get_mut(&place).filter(|party| !party.is_deaf)
                    && let Some(own) = party.flow.filter(|own| own.key == flow)
                {
                    party.endpoint.handle_bytes(now, &own, bytes);
                }
            }
            Output::Close { flow } => {
                self.flows.remove(&flow);
                self.closed.push(flow);
            }
            Output::Connect { connect, target } => self.on_connect(connect, target),
            Output::Resolve { query, question } => {
                let result = self.resolved(&question);
                self.questions.push(question);
                match self.dns_is_silent {
                    true => self.unanswered.push((query, result)),
                    false => self.handle(Input::Resolved { query, result }),
                }
            }
            Output::Media(MediaCommand::Allocate { .. }) if self.has_no_ports => {}
            Output::Media(MediaCommand::Allocate { call }) => {
                self.allocated += 1;
                let ports = MediaPorts { a_rtp: 20000, a_rtcp: 20001, b_rtp: 20002, b_rtcp: 20003 };
                self.handle(Input::MediaReady { call, result: Ok(ports) });
            }
            Output::Media(MediaCommand::Apply { plan, .. }) => self.plans.push(*plan),
            Output::Media(MediaCommand::Press { side, digit, lasts, .. }) => {
                self.pressed.push((side, digit.letter(), lasts.as_millis()));
            }
            Output::Media(MediaCommand::Release { .. }) => self.released += 1,
            Output::Told(news) => self.told.push(news),
            Output::Event(Event::CallEnded { record, .. }) => self.records.push(*record),
            Output::Event(event) => self.events.push(event_name(&event)),
        }
    }

    /// The name servers speak again: what was asked so far is answered.
    pub fn answer_dns(&mut self) {
        self.dns_is_silent = false;
        for (query, result) in std::mem::take(&mut self.unanswered) {
            self.feed(Input::Resolved { query, result });
        }
    }

    // A name with an empty list is unknown; one with no list at all has some address.
    fn resolved(&self, question: &Question) -> Result<Vec<SocketAddr>, ResolveFailure> {
        let any = vec![SocketAddr::new(IpAddr::from([10, 9, 9, 9]), question.port)];
        let found = self.dns.get(&question.name).cloned().unwrap_or(any);
        let why = ResolveFailure { kind: ResolveFailureKind::NoAddress, detail: "no such name".into() };
        if found.is_empty() { Err(why) } else { Ok(found) }
    }

    fn on_connect(&mut self, connect: ConnectKey, target: Target) {
        let place = (target.name.clone(), target.port);
        self.connects.push(target.clone());
        if self.dead.contains(&target.address) {
            let why = ConnectFailure { kind: ConnectFailureKind::Unreachable, detail: "no route".into() };
            return self.engine.handle(self.now, Input::ConnectFailed { connect, why });
        }
        if self.parties.get(&place).is_some_and(|p| p.script == Script::Hangs) {
            return self.hanging.push(connect);
        }
        let listens = self.parties.get(&place).is_some_and(|p| p.script != Script::NoListener);
        if !listens {
            let why = ConnectFailure { kind: ConnectFailureKind::Refused, detail: "refused".into() };
            return self.handle(Input::ConnectFailed { connect, why });
        }
        let remote = SocketAddr::new(target.address, target.port);
        let made_for = Some(target.name.clone());
        let peer = match target.transport {
            Transport::Tls => PeerIdentity::Verified { names: vec![target.name] },
            _ => PeerIdentity::Address,
        };
        // As a shell does it: a connection that stands to that place is shared.
        let standing = self.parties.get(&place).and_then(|party| party.flow).map(|flow| flow.key);
        let key = standing.filter(|key| self.flows.get(key) == Some(&place)).unwrap_or_else(|| {
            self.next_flow += 1;
            FlowKey(self.next_flow)
        });
        let local = SocketAddr::new(IpAddr::from([10, 0, 0, 1]), 33000);
        if let Some(party) = self.parties.get_mut(&place) {
            party.flow = Some(Flow {
                key,
                transport: target.transport,
                remote: local,
                via_port: target.port,
                party: endpoint::Party::default(),
            });
        }
        self.flows.insert(key, place);
        let up = FlowUp {
            key,
            transport: target.transport,
            local,
            remote,
            peer,
            origin: Origin::Outbound(connect),
            made_for,
        };
        self.handle(Input::FlowUp(up));
    }

    fn pump_party(&mut self, place: &Place) -> bool {
        let mut idle = true;
        let mut to_engine = VecDeque::new();
        let now = self.now;
        if let Some(party) = self.parties.get_mut(place) {
            while let Some(output) = party.endpoint.poll_output() {
                idle = false;
                match output {
                    endpoint::Output::Send { flow, bytes } => to_engine.push_back((flow, bytes)),
                    endpoint::Output::Event(event) => party.on_event(now, event, &place.0),
                }
            }
        }
        for (flow, bytes) in to_engine {
            if self.flows.contains_key(&flow) {
                self.handle(Input::Message { flow, bytes });
            }
        }
        idle
    }

    /// The caller's INVITE; extra lines end with CRLF.
    pub fn invite(&mut self, uri: &str, lines: &str, body: Option<Bytes>) -> ClientKey {
        self.invite_as(1, uri, lines, body)
    }

    /// The same under another Call-ID.
    pub fn invite_as(&mut self, call: u32, uri: &str, lines: &str, body: Option<Bytes>) -> ClientKey {
        let from = "\"Dana Birkby\"<sip:dana@contoso.com>;tag=8612eea1ea;epid=c21eec507a";
        self.invite_with(call, from, uri, lines, body)
    }

    /// The same from somebody else.
    pub fn invite_from(&mut self, from: &str, uri: &str, lines: &str, body: Option<Bytes>) -> ClientKey {
        self.invite_with(1, &format!("{from};tag=8612eea1ea"), uri, lines, body)
    }

    fn invite_with(
        &mut self,
        call: u32,
        from: &str,
        uri: &str,
        lines: &str,
        body: Option<Bytes>,
    ) -> ClientKey {
        let headers = format!(
            "Max-Forwards: 70\r\nFrom: {from}\r\n\
             To: <sip:ken@contoso.com>\r\nCall-ID: a-leg-{call}\r\nCSeq: 1 INVITE\r\n\
             Contact: <sip:dana@10.0.0.5:5061>\r\n{lines}"
        );
        let request = OutgoingRequest {
            method: Method::Invite,
            uri: Bytes::from(uri.to_owned()),
            headers: Bytes::from(headers),
            content_type: body.is_some().then(|| Bytes::from_static(b"application/sdp")),
            body: body.unwrap_or_default(),
        };
        self.send_as(&caller(), request)
    }

    pub fn send_as(&mut self, place: &Place, request: OutgoingRequest) -> ClientKey {
        let now = self.now;
        let party = self.parties.get_mut(place).unwrap();
        let flow = party.flow.unwrap();
        if request.method == Method::Invite {
            party.invite = Some(request.clone());
        }
        let key = party.endpoint.send_request(now, &flow, request).unwrap();
        self.pump();
        key
    }

    /// An INFO in the party's dialog.
    pub fn info(&mut self, place: &Place, content_type: &str, body: &str) -> ClientKey {
        let party = self.parties.get_mut(place).unwrap();
        let draft = party.dialog.as_mut().unwrap().request(Method::Info);
        let body = Bytes::copy_from_slice(body.as_bytes());
        let request = draft.body(content_type.as_bytes(), body).finish().unwrap();
        self.send_as(place, request)
    }

    /// A request in the party's dialog.
    pub fn in_dialog(
        &mut self,
        place: &Place,
        method: Method,
        lines: &str,
        body: Option<Bytes>,
    ) -> ClientKey {
        let party = self.parties.get_mut(place).unwrap();
        let mut draft = party.dialog.as_mut().unwrap().request(method).block(lines.as_bytes());
        draft = draft.header(HeaderId::Contact, "<sip:far@10.0.0.77:5061>");
        if let Some(body) = body {
            draft = draft.body("application/sdp", body);
        }
        let request = draft.finish().unwrap();
        self.send_as(place, request)
    }

    /// What is sent to that party is lost from now on.
    pub fn deaf(&mut self, place: &Place) {
        self.parties.get_mut(place).unwrap().is_deaf = true;
    }

    /// It hears again.
    pub fn hears(&mut self, place: &Place) {
        self.parties.get_mut(place).unwrap().is_deaf = false;
    }

    /// A request in the party's dialog with so many hops left; INVITE brings an offer.
    pub fn in_dialog_with_hops(&mut self, place: &Place, method: Method, hops: u32) {
        let (address, key) = if *place == caller() { ("10.0.0.5", 9) } else { ("10.0.2.1", 0x5b) };
        let is_invite = method == Method::Invite;
        let dialog = self.parties.get_mut(place).unwrap().dialog.as_mut().unwrap();
        let mut draft = dialog.forward(method, hops).header(HeaderId::Contact, "<sip:far@10.0.0.77:5061>");
        if is_invite {
            draft = draft.body("application/sdp", offer(address, 3000, Some(key)));
        }
        let request = draft.finish().unwrap();
        self.send_as(place, request);
    }

    /// BENOTIFY in the party's dialog.
    pub fn one_way(&mut self, place: &Place, lines: &str) {
        let now = self.now;
        let party = self.parties.get_mut(place).unwrap();
        let draft = party.dialog.as_mut().unwrap().request(Method::Benotify).block(lines.as_bytes());
        let (flow, request) = (party.flow.unwrap(), draft.finish().unwrap());
        party.endpoint.send_one_way(now, &flow, &request).unwrap();
        self.pump();
    }

    /// Nothing is left of any call.
    pub fn assert_clean(&mut self) {
        self.advance(Duration::from_secs(80));
        let status = self.engine.status();
        assert_eq!(status.calls, 0, "{:?}", status.by_state);
        assert_eq!(status.timers, 0);
        assert!(self.engine.core.clients.is_empty(), "a request of ours is forgotten");
        assert!(self.engine.core.forwards.is_empty(), "a request outside calls is forgotten");
        assert!(self.engine.core.reach.is_idle(), "a place is looked for for ever");
        assert_eq!(self.engine.core.parked.len(), 0, "a lost flow is remembered for ever");
        assert_eq!(status.transactions, (0, 0));
        assert_eq!(self.allocated, self.released, "media is given back once per call");
        assert!(status.servers.iter().all(|s| s.calls == 0));
    }
}

fn event_name(event: &Event) -> String {
    match event {
        Event::CallStarted(_) => "started".into(),
        Event::CallAnswered(_) => "answered".into(),
        Event::LegRerouted { peer, next_hop, way, .. } => format!("rerouted {peer} {next_hop} {way:?}"),
        Event::Notified(notified) => {
            let Notified { notification, delivery, user, to, .. } = &**notified;
            format!("{notification:?} for {user} to {to}: {}", delivery.as_str())
        }
        Event::OfferRefused { code, what, .. } => format!("offer refused {code}: {what}"),
        Event::Redirected { to, .. } => format!("redirected {to}"),
        Event::ServerFailed { server, .. } => format!("failed {server}"),
        Event::ServerDown { server, .. } => format!("down {server}"),
        Event::ServerUp { server, .. } => format!("up {server}"),
        Event::ServerProbed { probed, .. } => {
            format!("probed {} {}", probed.door.server, if probed.result.is_ok() { "good" } else { "bad" })
        }
        Event::PeerRefused { .. } => "peer refused".into(),
        Event::Dropped { counter, .. } => format!("dropped {counter}"),
        Event::Drained => "drained".into(),
        Event::Overload { .. } => "overload".into(),
        _ => "other".into(),
    }
}

impl Party {
    fn on_event(&mut self, now: Instant, event: endpoint::Event, name: &str) {
        match event {
            endpoint::Event::Request { key, message, .. } => self.on_request(now, key, message, name),
            endpoint::Event::Ack { message, .. } => self.acks.push(message),
            endpoint::Event::OneWay { message, .. } => self.one_way.push(message),
            endpoint::Event::Cancel { message, .. } => {
                self.requests.push(message);
                if self.script != Script::Silent
                    && let Some((key, invite)) = self.pending.take()
                {
                    self.respond(now, key, &invite, 487, None, None);
                }
            }
            endpoint::Event::Response { flow, message, .. } => self.on_response(now, &flow, message),
            // Another element of the same host may have sent the request.
            endpoint::Event::Stray { message, .. } => self.responses.push(message),
            _ => {}
        }
    }

    fn on_response(&mut self, now: Instant, flow: &Flow, response: Message) {
        let is_answer =
            response.status().is_some_and(StatusCode::is_success) && *response.method() == Method::Invite;
        if is_answer {
            if let (None, Some(invite)) = (&self.dialog, &self.invite) {
                self.dialog = Dialog::uac(invite, &response).ok();
            }
            if !self.holds_ack {
                let ack = self.dialog.as_ref().unwrap().ack(response.cseq().number).finish().unwrap();
                self.endpoint.send_ack(now, flow, ack);
            }
        }
        self.responses.push(response);
    }

    fn on_request(&mut self, now: Instant, key: ServerKey, request: Message, name: &str) {
        self.requests.push(request.clone());
        let is_next = self.scripted.front().is_some_and(|(method, ..)| method == request.method());
        if let Some((_, status, lines)) = is_next.then(|| self.scripted.pop_front()).flatten() {
            return self.follow_script(now, key, request, status, &lines);
        }
        if *request.method() == Method::Options && request.to_tag().is_some() && self.has_forgotten {
            return self.respond(now, key, &request, 481, None, None);
        }
        if *request.method() != Method::Invite {
            if self.is_mute {
                return;
            }
            if let (Script::Redirect(contacts), None) = (self.script.clone(), request.to_tag()) {
                return self.respond(now, key, &request, 302, Some(&contacts), None);
            }
            let offers = *request.method() == Method::Update && !request.body().is_empty();
            if offers && self.answers_reoffer == 0 {
                self.pending = Some((key, request));
                return;
            }
            let body = offers.then(|| self.answer_to(&request));
            let status = self.answers.get(request.method().as_str_lossy()).copied().unwrap_or(200);
            if status == 0 {
                self.pending = Some((key, request));
                return;
            }
            return self.respond(now, key, &request, status, None, body);
        }
        if request.to_tag().is_some() {
            let status = self.answers_reoffer;
            if status == 0 {
                self.pending = Some((key, request));
                return;
            }
            let body = (status == 200).then(|| self.answer_to(&request));
            return self.respond(now, key, &request, status, None, body);
        }
        match self.script.clone() {
            Script::Redirect(contacts) => self.respond(now, key, &request, 302, Some(&contacts), None),
            Script::Answer => {
                self.respond(now, key, &request, 180, Some(&format!("<sip:{name}:5066>")), None);
                let body = self.answer_to(&request);
                self.respond(now, key, &request, 200, Some(&format!("<sip:{name}:5066>")), Some(body));
            }
            Script::AnswerBroken => {
                let body = Bytes::from_static(b"v=0\r\no=- 1 1 IN IP4 10.0.2.1\r\ns=-\r\nc=IN IP4 10.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n");
                self.respond(now, key, &request, 200, Some(&format!("<sip:{name}:5066>")), Some(body));
            }
            Script::RingOnly => {
                self.respond(now, key, &request, 180, Some(&format!("<sip:{name}:5066>")), None);
                self.pending = Some((key, request));
            }
            Script::EarlyMedia | Script::RingWithSdp => {
                let body = self.answer_to(&request);
                let status = if self.script == Script::EarlyMedia { 183 } else { 180 };
                self.respond(now, key, &request, status, Some(&format!("<sip:{name}:5066>")), Some(body));
                self.pending = Some((key, request));
            }
            Script::Refuse(status, _) => self.respond(now, key, &request, status, None, None),
            Script::Silent | Script::NoListener | Script::Hangs => self.pending = Some((key, request)),
        }
    }

    fn follow_script(&mut self, now: Instant, key: ServerKey, request: Message, status: u16, lines: &str) {
        if status != 0 {
            let says = std::mem::replace(&mut self.says, lines.to_owned());
            let body = (status == 200 && !request.body().is_empty()).then(|| self.answer_to(&request));
            self.respond(now, key, &request, status, None, body);
            self.says = says;
        }
        if status < 200 {
            self.pending = Some((key, request));
        }
    }

    /// Refuses the INVITE that waits.
    pub fn refuse_pending(&mut self, now: Instant, status: u16) {
        let (key, request) = self.pending.take().unwrap();
        self.respond(now, key, &request, status, None, None);
    }

    /// Answers the INVITE that waits.
    pub fn answer_pending(&mut self, now: Instant) {
        let (key, request) = self.pending.take().unwrap();
        let body = self.answer_to(&request);
        self.respond(now, key, &request, 200, Some("<sip:late@10.0.2.1:5066>"), Some(body));
    }

    pub fn respond(
        &mut self,
        now: Instant,
        key: ServerKey,
        request: &Message,
        status: u16,
        contact: Option<&str>,
        body: Option<Bytes>,
    ) {
        let reason = match &self.script {
            Script::Refuse(own, reason) if *own == status => Some(reason.as_bytes()),
            _ => None,
        };
        let tag: &[u8] = &self.tag.clone();
        let mut builder = sip::response_to(request, StatusCode::new(status).unwrap(), reason, Some(tag));
        builder = builder.header(HeaderId::Contact, contact.unwrap_or("<sip:far@10.0.0.77:5061>"));
        if status == 480 {
            builder = builder.raw_header(b"ms-diagnostics", b"15030;reason=\"Failed to route\"");
        }
        if matches!(request.method(), Method::Invite | Method::Update) || status >= 300 {
            builder = builder.block(self.says.as_bytes());
        }
        let content_type = body.is_some().then_some(&b"application/sdp"[..]);
        let bytes = builder.finish(content_type, &body.unwrap_or_default()).unwrap();
        if status == 200 && *request.method() == Method::Invite && self.dialog.is_none() {
            self.dialog = Dialog::uas(request, self.tag.clone()).ok();
        }
        match self.endpoint.respond(now, key, bytes) {
            // A late answer of a far end goes nowhere.
            Err(sip::endpoint::SendError::TransactionUnknown) => {}
            sent => sent.unwrap(),
        }
    }

    /// An honest answer to the offer of an INVITE, or an offer when it has none.
    pub fn answer_to(&self, request: &Message) -> Bytes {
        let Ok(offer) = Session::parse(&request.body()) else {
            return offer(self.media.0, self.media.1, None);
        };
        let audio = offer.audio().unwrap();
        let mut spec = OfferSpec::new(self.media.0.parse().unwrap(), self.media.1);
        spec.formats = audio.formats.iter().filter(|f| f.is("PCMU") || f.is_auxiliary()).cloned().collect();
        if spec.formats.iter().all(sdp::PayloadType::is_auxiliary) {
            spec.formats.clone_from(&audio.formats);
        }
        let digits = spec.formats.iter_mut().filter(|format| format.is("telephone-event"));
        digits.zip(self.digits).for_each(|(format, number)| format.pt = number);
        spec.direction = audio.direction.mirrored();
        if let Some(theirs) = audio.crypto.first() {
            spec.profile = Profile::RtpSavp;
            spec.crypto = vec![line(theirs.tag, theirs.suite, self.media.2)];
        }
        sdp::write_answer(&offer, &spec).unwrap()
    }
}

pub fn line(tag: u32, suite: Suite, fill: u8) -> CryptoLine {
    CryptoLine::new(tag, suite, KeySalt::from_bytes(suite, &[fill; 30]).unwrap())
}

/// An offer of a far end, sealed with that key byte when given.
pub fn offer(address: &str, port: u16, key: Option<u8>) -> Bytes {
    let mut spec = OfferSpec::new(address.parse().unwrap(), port);
    if let Some(fill) = key {
        spec.profile = Profile::RtpSavp;
        spec.crypto = vec![line(2, Suite::AesCm128HmacSha1_80, fill)];
    }
    sdp::write_offer(&spec)
}
