//! What moves between the engine, the actors and the network: outputs carried out, bytes cut, delayed, framed and delivered, media pretended.
//! Owns the way of a byte and of a media command; refuses to judge either.

use std::net::SocketAddr;
use std::time::Duration;

use b2bua::engine::{
    ConnectFailure, ConnectFailureKind, ConnectKey, Event, FlowLoss, Input, MediaCommand, MediaFailure,
    MediaPorts, Origin, Output, PeerIdentity, QueryKey, Question, ResolveFailure, ResolveFailureKind, Target,
};
use bytes::Bytes;
use lab::machine;
use lab::media::{LocalMedia, MediaFact, MediaKey};
use relay::{Fact, Side};
use sip::{FlowKey, Frame, Limits, Message, Transport};

use super::cast::{ActorId, Cue, Wish};
use super::ladder::Way;
use super::net::{self, End, Endpoint, Opening, Slot};
use super::{Happening, Keeps, OUTPUTS_PER_INPUT_MAX, World, site};

/// A connection nobody takes or refuses is given up after this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than the gateway waits for a connection or for media.
const TOO_LATE: (Duration, Duration) = (Duration::from_millis(1500), Duration::from_secs(8));

impl World {
    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Act(act) => self.act(act),
            Happening::CallerConnects(actor) => self.on_caller_connects(actor),
            Happening::Chunk { flow, to, bytes } => self.on_chunk(flow, to, &bytes),
            Happening::Datagram { flow, to: End::Gateway, bytes } => self.deliver(flow, bytes),
            Happening::Datagram { flow, to: End::Far, bytes } => {
                let Some(actor) = self.net.connections.get(&flow).map(|c| c.actor) else { return };
                self.tell_actor(actor, Cue::Input(machine::Input::Bytes { flow, bytes }));
            }
            Happening::Echo { flow, bytes } => self.deliver(flow, bytes),
            Happening::Connected { endpoint } => self.on_connected(endpoint),
            Happening::Resolved { query, result } => self.tell_engine(Input::Resolved { query, result }),
            Happening::Nobody { connect } => {
                let why = ConnectFailure { kind: ConnectFailureKind::Unreachable, detail: "nobody".into() };
                self.tell_engine(Input::ConnectFailed { connect, why });
            }
            Happening::CallerUnreached { connect } => {
                let why = ConnectFailure { kind: ConnectFailureKind::Refused, detail: "Refused".into() };
                self.tell_engine(Input::ConnectFailed { connect, why });
            }
            Happening::Down { flow, end } => self.on_down(flow, end),
            Happening::Breaks { flow } => self.break_connection(flow),
            Happening::MediaReady { call, result } => self.tell_engine(Input::MediaReady { call, result }),
            Happening::GatewayFact { call, fact } => {
                self.tell_engine(Input::MediaFact { call, fact, stats: None });
            }
            Happening::ActorMedia { actor, key, fact } => {
                self.tell_actor(actor, Cue::Input(machine::Input::Media { key, fact: *fact }));
            }
        }
    }

    /// Feeds the engine and carries out what it wants, as the daemon's loop does.
    pub(super) fn tell_engine(&mut self, input: Input) {
        self.pending.push_back(input);
        while let Some(input) = self.pending.pop_front() {
            let is_for_all = matches!(
                input,
                Input::FlowDown { .. } | Input::Drain { .. } | Input::Policy(_) | Input::Timeout
            );
            self.engine.handle(self.epoch + self.now, input);
            let mut outputs = 0;
            while let Some(output) = self.engine.poll_output() {
                outputs += 1;
                self.on_output(output);
            }
            let calls = if is_for_all { self.watch.open_books() } else { 0 };
            if outputs > OUTPUTS_PER_INPUT_MAX * (1 + calls) {
                let rule = format!("one input causes at most {OUTPUTS_PER_INPUT_MAX} outputs, not {outputs}");
                self.watch.break_rule(rule, Vec::new());
            }
        }
    }

    pub(super) fn tell_actor(&mut self, id: ActorId, cue: Cue) {
        let now = self.instant();
        self.cast[id].handle(now, cue);
        while let Some(wish) = self.cast[id].poll() {
            match wish {
                Wish::Send(flow, bytes) => self.write(flow, End::Far, &bytes),
                Wish::Close(flow) => self.break_connection(flow),
                Wish::Media(key, command) => self.on_actor_media(id, key, command),
                Wish::Outcome(call, outcome) => self.on_outcome(call, outcome),
                Wish::News(text) => self.news(text),
            }
        }
        self.wake[id] = self.cast[id].deadline().map(|at| at.saturating_duration_since(self.epoch));
    }

    fn on_outcome(&mut self, call: u64, outcome: super::Outcome) {
        if let Ok(seen) = &outcome
            && let Some(fault) = &seen.answer_fault
        {
            self.watch.break_rule(format!("the answer is sound: {fault}"), vec![seen.call_id.clone()]);
        }
        let (id, status) = outcome.as_ref().map_or(("", 0), |seen| (&seen.call_id, seen.status));
        self.news(format!("call {call} ({id}) is over for its caller: {status}"));
        self.counts.outcomes += 1;
        if self.settings.keeps == Keeps::Everything {
            self.outcomes.insert(call, outcome);
        }
    }

    fn on_output(&mut self, output: Output) {
        match output {
            Output::Send { flow, bytes } => {
                self.border(Way::Out, flow, &bytes);
                self.write(flow, End::Gateway, &bytes);
            }
            Output::Close { flow } => self.close(flow),
            Output::Connect { connect, target } => self.on_connect(connect, target),
            Output::Resolve { query, question } => self.on_resolve(query, &question),
            Output::Media(command) => self.on_gateway_media(command),
            Output::Told(_) => {
                self.watch.break_rule("a lone shard tells nobody anything".to_owned(), Vec::new());
            }
            Output::Event(event) => self.on_engine_event(event),
        }
    }

    fn on_engine_event(&mut self, event: Event) {
        match event {
            Event::CallStarted(started) => self.watch.started(self.now, &started),
            Event::CallEnded { record, .. } => {
                self.watch.ended(self.now, &record);
                let (code, reason) = (record.verdict.code, record.drop_reason.as_str());
                self.news(format!("record {} {code} {reason}", record.call_id));
                self.counts.records += 1;
                self.counts.answered += u64::from(record.answered_at.is_some());
                if self.settings.keeps == Keeps::Everything {
                    self.records.push(*record);
                }
            }
            Event::Drained => {
                self.drained += 1;
                self.note("drained".to_owned());
            }
            Event::Dropped { counter, what, .. } => self.note(format!("dropped ({counter}): {what}")),
            _ => {}
        }
    }

    /// A whole message at the gateway's border.
    fn border(&mut self, way: Way, flow: FlowKey, bytes: &Bytes) {
        match Message::parse(bytes.clone(), &Limits::default()) {
            Ok(message) => {
                if let Some(connection) = self.net.connections.get(&flow) {
                    let side = if connection.endpoint.is_none() { Side::A } else { Side::B };
                    let (whom, port) = (connection.actor, connection.remote.port());
                    self.ladder.message(self.now, way, side, whom, port, bytes);
                }
                self.watch.message(self.now, way, flow, &message);
            }
            // It repeats what it refuses.
            Err(_)
                if way == Way::Out && self.watch.is_unreadable(flow) && !bytes.starts_with(b"SIP/2.0 2") => {}
            Err(_) if way == Way::In && self.settings.weather.damages > 0 => {
                self.note(format!("unreadable: {}", bytes.escape_ascii()));
                self.watch.unreadable(flow);
            }
            Err(why) => {
                let rule = format!("messages can be read: {why}: {}", bytes.escape_ascii());
                self.watch.break_rule(rule, Vec::new());
            }
        }
    }

    fn write(&mut self, flow: FlowKey, from: End, bytes: &Bytes) {
        let is_damaged = from == End::Far && self.random.below(10_000) < self.settings.weather.damages;
        let bytes = if is_damaged { self.damaged(flow, bytes) } else { bytes.clone() };
        let Some(connection) = self.net.connections.get_mut(&flow) else { return };
        if connection.is_broken || !connection.is_up(from) {
            return;
        }
        if !connection.transport.is_reliable() {
            return self.write_datagram(flow, !from, bytes);
        }
        let receiver = connection.receiver(!from);
        let last = &mut receiver.last_arrival;
        let chunks = net::cut(&mut self.random, self.now, &self.settings.weather, last, bytes.len());
        for (at, range) in chunks {
            self.plan(at, Happening::Chunk { flow, to: !from, bytes: bytes.slice(range) });
        }
    }

    /// Lost, or once or twice on its way, each at its own pace.
    fn write_datagram(&mut self, flow: FlowKey, to: End, bytes: Bytes) {
        let weather = self.settings.weather.clone();
        let mut copies = u64::from(!self.random.chance(weather.losses));
        copies += u64::from(copies > 0 && self.random.chance(weather.doubles));
        for _ in 0..copies {
            let late = self.random.between(Duration::ZERO, weather.jitter);
            let (from, until) = (weather.delay.0 + late, weather.delay.1 + late);
            self.plan_in(from, until, Happening::Datagram { flow, to, bytes: bytes.clone() });
        }
    }

    /// One byte is another. A stream that lost its frames does not find them again: it breaks soon.
    fn damaged(&mut self, flow: FlowKey, bytes: &Bytes) -> Bytes {
        if let Ok(message) = Message::parse(bytes.clone(), &Limits::default()) {
            self.watch.damaged(self.now, message.call_id());
        }
        let mut bytes = bytes.to_vec();
        let at = self.random.below(bytes.len() as u64) as usize;
        bytes[at] = self.random.draw() as u8;
        // The gateway shows Call-IDs as text and carries none with a control character; the books would not find such a one.
        if let Ok(message) = Message::parse(Bytes::from(bytes.clone()), &Limits::default()) {
            match message.call_id().iter().all(u8::is_ascii_graphic) {
                // Perhaps of another call now, in the transaction it was in.
                true => self.watch.damaged(self.now, message.call_id()),
                false => bytes[at] = b'x',
            }
        }
        self.note(format!("byte {at} of a message on flow {} is damaged", flow.0));
        if self.net.connections.get(&flow).is_some_and(|c| c.transport.is_reliable()) {
            self.plan_in(Duration::from_secs(1), Duration::from_secs(30), Happening::Breaks { flow });
        }
        Bytes::from(bytes)
    }

    fn on_chunk(&mut self, flow: FlowKey, to: End, bytes: &Bytes) {
        let Some(connection) = self.net.connections.get_mut(&flow) else { return };
        if !connection.is_up(to) {
            return;
        }
        let actor = connection.actor;
        let framer = &mut connection.receiver(to).framer;
        framer.push(bytes);
        let mut whole = Vec::new();
        loop {
            match framer.poll() {
                Ok(Some(Frame::Message(message))) => whole.push(message),
                Ok(Some(Frame::Ping | Frame::Pong)) => {}
                Ok(None) => break,
                // The shell closes what has no frames any more.
                Err(_) if self.settings.weather.damages > 0 && to == End::Gateway => {
                    return self.break_connection(flow);
                }
                Err(why) => {
                    return self.watch.break_rule(format!("streams keep their frames: {why}"), Vec::new());
                }
            }
        }
        for bytes in whole {
            match to {
                End::Gateway => {
                    self.maybe_echo(flow, &bytes);
                    self.deliver(flow, bytes);
                }
                End::Far => self.tell_actor(actor, Cue::Input(machine::Input::Bytes { flow, bytes })),
            }
        }
    }

    fn deliver(&mut self, flow: FlowKey, bytes: Bytes) {
        let is_up = self.net.connections.get(&flow).is_some_and(|connection| connection.is_up(End::Gateway));
        if is_up {
            self.border(Way::In, flow, &bytes);
            self.tell_engine(Input::Message { flow, bytes });
        }
    }

    // A second INVITE, ACK or CANCEL would be another story, not the same one told twice.
    fn maybe_echo(&mut self, flow: FlowKey, bytes: &Bytes) {
        let is_other = [&b"INVITE "[..], b"ACK ", b"CANCEL "].iter().any(|method| bytes.starts_with(method));
        if !is_other && self.random.chance(self.settings.echoes) {
            let (soon, late) = (Duration::ZERO, Duration::from_secs(3));
            self.plan_in(soon, late, Happening::Echo { flow, bytes: bytes.clone() });
        }
    }

    fn on_caller_connects(&mut self, actor: ActorId) {
        let Some(caller) = self.cast[actor].caller else { return };
        let transport = caller.transport();
        let line = self.lines.get(&actor).map_or(0, Vec::len) as u16;
        let port = self.cast[actor].port + line * 10;
        let flow = self.net.open(
            self.now,
            Opening {
                actor,
                transport,
                local: SocketAddr::new(site::OURS, caller.port()),
                remote: SocketAddr::new(caller.address(), port),
                peer: identity(transport, caller.fqdn()),
                endpoint: None,
            },
        );
        self.note(format!("{} connects as flow {}", self.cast[actor].name, flow.0));
        self.lines.entry(actor).or_default().push(flow);
        self.watch.flow_up(flow, caller.fqdn(), Side::A, transport.is_secure());
        let Some(connection) = self.net.connections.get(&flow) else { return };
        let (up, far) = (connection.flow_up(Origin::Inbound), connection.far_flow());
        self.tell_engine(Input::FlowUp(up));
        self.tell_actor(actor, Cue::Input(machine::Input::FlowUp(far)));
    }

    fn on_connect(&mut self, connect: ConnectKey, target: Target) {
        let Target { name, address, port, transport } = target;
        let endpoint = Endpoint { address, port, is_secure: transport.is_secure(), name };
        if self.is_caller(&endpoint) {
            // A leg whose caller lost its connection is routed anew; callers here only ever connect themselves.
            let (from, to) = self.settings.connect_time;
            return self.plan_in(from, to, Happening::CallerUnreached { connect });
        }
        // What a name server said may lead nowhere.
        if endpoint.address == site::DEAD {
            let (from, to) = self.settings.connect_time;
            return self.plan_in(from, to, Happening::Nobody { connect });
        }
        if self.listener(&endpoint).is_none() {
            let rule = format!("only servers of the plan are called, not {endpoint:?}");
            return self.watch.break_rule(rule, Vec::new());
        }
        match self.net.slots.get_mut(&endpoint) {
            Some(Slot::Dialing(waiting)) => return waiting.push(connect),
            Some(Slot::Up(flow)) => {
                let flow = *flow;
                if let Some(connection) = self.net.connections.get(&flow).filter(|c| c.is_up(End::Gateway)) {
                    let up = connection.flow_up(Origin::Outbound(connect));
                    return self.pending.push_back(Input::FlowUp(up));
                }
            }
            None => {}
        }
        self.net.slots.insert(endpoint.clone(), Slot::Dialing(vec![connect]));
        let is_hole = self.listener(&endpoint).is_some_and(|actor| self.black_holes.contains(&actor));
        let is_slow = self.random.chance(self.settings.slow_connects);
        let (from, to) = match (is_hole, is_slow) {
            (true, _) => (CONNECT_TIMEOUT, CONNECT_TIMEOUT),
            (_, true) => TOO_LATE,
            _ => self.settings.connect_time,
        };
        self.plan_in(from, to, Happening::Connected { endpoint });
    }

    /// A name is looked up: by chance with a dead address first, in vain, or too late.
    fn on_resolve(&mut self, query: QueryKey, question: &Question) {
        let Some(actor) = self.cast.iter().position(|actor| actor.host == question.name) else {
            let rule = format!("only servers of the plan are looked up, not {}", question.name);
            return self.watch.break_rule(rule, Vec::new());
        };
        let at = |address| SocketAddr::new(address, question.port);
        let address = self.cast[actor].address;
        let failed = |kind| Err(ResolveFailure { kind, detail: format!("{kind:?}") });
        let result = match self.random.below(10) {
            0 => failed(ResolveFailureKind::NoAddress),
            1 => failed(ResolveFailureKind::Failed),
            2 | 3 => Ok(vec![at(site::DEAD), at(address)]),
            4 => Ok(vec![at(site::DEAD)]),
            _ => Ok(vec![at(address)]),
        };
        let is_late = self.random.chance(self.settings.slow_connects.max(5));
        let (from, to) = if is_late { TOO_LATE } else { self.settings.connect_time };
        self.plan_in(from, to, Happening::Resolved { query, result });
    }

    fn is_caller(&self, endpoint: &Endpoint) -> bool {
        self.cast.iter().filter_map(|actor| actor.caller).any(|caller| {
            let name = if caller.transport().is_secure() {
                caller.fqdn().to_owned()
            } else {
                caller.address().to_string()
            };
            caller.address() == endpoint.address && name == endpoint.name
        })
    }

    /// Who should be found there.
    fn listener(&self, endpoint: &Endpoint) -> Option<ActorId> {
        self.cast.iter().position(|actor| {
            let port = if endpoint.is_secure { actor.ports.tls } else { actor.ports.tcp };
            actor.address == endpoint.address && port == Some(endpoint.port) && actor.host == endpoint.name
        })
    }

    fn on_connected(&mut self, endpoint: Endpoint) {
        let Some(Slot::Dialing(waiting)) = self.net.slots.remove(&endpoint) else { return };
        let actor = self.listener(&endpoint);
        let is_hole = actor.is_some_and(|actor| self.black_holes.contains(&actor));
        let is_refused = self.random.chance(self.settings.refused_connects);
        let listens = |actor: &ActorId| self.cast[*actor].is_listening && !is_hole && !is_refused;
        let Some(actor) = actor.filter(listens) else {
            let kind = if is_hole { ConnectFailureKind::Timeout } else { ConnectFailureKind::Refused };
            self.note(format!("no connection to {}:{}: {kind:?}", endpoint.name, endpoint.port));
            for connect in waiting {
                let why = ConnectFailure { kind, detail: format!("{kind:?}") };
                self.tell_engine(Input::ConnectFailed { connect, why });
            }
            return;
        };
        let transport = if endpoint.is_secure { Transport::Tls } else { Transport::Tcp };
        let opening = Opening {
            actor,
            transport,
            local: SocketAddr::new(site::OURS, 33_000),
            remote: SocketAddr::new(endpoint.address, endpoint.port),
            peer: identity(transport, &endpoint.name),
            endpoint: Some(endpoint),
        };
        let flow = self.net.open(self.now, opening);
        self.watch.flow_up(flow, &self.cast[actor].name, Side::B, transport.is_secure());
        let Some(connection) = self.net.connections.get(&flow) else { return };
        let far = connection.far_flow();
        let ups: Vec<_> = waiting.into_iter().map(|c| connection.flow_up(Origin::Outbound(c))).collect();
        self.tell_actor(actor, Cue::Input(machine::Input::FlowUp(far)));
        ups.into_iter().for_each(|up| self.tell_engine(Input::FlowUp(up)));
    }

    /// What is under way may still arrive or not; both ends learn of the loss in their own time.
    pub(super) fn break_connection(&mut self, flow: FlowKey) {
        if self.net.connections.get(&flow).is_none_or(|c| c.is_broken || !c.transport.is_reliable()) {
            return;
        }
        self.note(format!("flow {} breaks", flow.0));
        for end in [End::Gateway, End::Far] {
            let is_lost = self.random.chance(50);
            if is_lost {
                self.queue.retain(|_, happening| {
                    !matches!(happening, Happening::Chunk { flow: of, to, .. } if *of == flow && *to == end)
                });
            }
            let learns = self.now + self.random.between(Duration::ZERO, Duration::from_millis(300));
            let Some(connection) = self.net.connections.get_mut(&flow) else { return };
            connection.is_broken = true;
            let last = connection.receiver(end).last_arrival;
            let at = if is_lost { learns } else { learns.max(last) };
            self.plan(at, Happening::Down { flow, end });
        }
    }

    /// The gateway closes: what it wrote still arrives.
    fn close(&mut self, flow: FlowKey) {
        self.note(format!("the gateway closes flow {}", flow.0));
        let now = self.now;
        let Some(connection) = self.net.connections.get_mut(&flow) else { return };
        connection.is_broken = true;
        let last = connection.receiver(End::Far).last_arrival;
        self.plan(now, Happening::Down { flow, end: End::Gateway });
        self.plan(last.max(now), Happening::Down { flow, end: End::Far });
    }

    fn on_down(&mut self, flow: FlowKey, end: End) {
        let Some(connection) = self.net.connections.get_mut(&flow).filter(|c| c.is_up(end)) else { return };
        connection.receiver(end).is_up = false;
        let actor = connection.actor;
        match end {
            End::Gateway => {
                self.note(format!("the gateway learns that flow {} is gone", flow.0));
                self.net.forget(flow);
                self.watch.flow_down(self.now, flow);
                self.tell_engine(Input::FlowDown { flow, why: FlowLoss::Error });
            }
            End::Far => {
                let lines = self.lines.entry(actor).or_default();
                if lines.contains(&flow) {
                    lines.retain(|line| *line != flow);
                    let again = (Duration::from_millis(20), Duration::from_millis(800));
                    self.plan_in(again.0, again.1, Happening::CallerConnects(actor));
                }
                self.tell_actor(actor, Cue::Input(machine::Input::FlowDown(flow)));
            }
        }
        self.net.bury(flow);
    }

    fn on_gateway_media(&mut self, command: MediaCommand) {
        self.watch.media(&command);
        match command {
            MediaCommand::Allocate { call } => {
                let fails = self.random.chance(self.settings.media_failures);
                let is_late = self.random.chance(self.settings.media_late);
                self.media_ports = (self.media_ports + 4) % 40_000;
                let first = 20_000 + self.media_ports;
                let ports =
                    MediaPorts { a_rtp: first, a_rtcp: first + 1, b_rtp: first + 2, b_rtcp: first + 3 };
                let result = if fails { Err(MediaFailure::NoPorts) } else { Ok(ports) };
                let (from, to) = if is_late { TOO_LATE } else { (Duration::ZERO, Duration::from_millis(5)) };
                self.plan_in(from, to, Happening::MediaReady { call, result });
            }
            MediaCommand::Apply { call, plan } => {
                self.counts.plans += 1;
                if self.settings.keeps == Keeps::Everything {
                    self.plans.push((call, *plan));
                }
                let (soon, later) = (Duration::from_millis(20), Duration::from_secs(2));
                let fact = if self.random.chance(self.settings.silent_calls) {
                    Fact::NoMedia { lasted: Duration::from_secs(30) }
                } else {
                    Fact::FirstPacket { side: Side::A }
                };
                self.plan_in(soon, later, Happening::GatewayFact { call, fact });
            }
            MediaCommand::Press { .. } | MediaCommand::Release { .. } => {}
        }
    }

    fn on_actor_media(&mut self, actor: ActorId, key: MediaKey, command: lab::media::MediaCommand) {
        use lab::media::MediaCommand as Want;
        let millis = Duration::from_millis;
        let (fact, from, to) = match command {
            Want::Allocate => {
                let port = 10_000 + (key.0 % 10_000) as u16 * 2;
                let rtp = SocketAddr::new(self.cast[actor].address, port);
                let rtcp = SocketAddr::new(self.cast[actor].address, port + 1);
                (MediaFact::Ready(Ok(LocalMedia { rtp, rtcp })), millis(0), millis(3))
            }
            Want::Play(_) => (MediaFact::Played, millis(200), millis(3_000)),
            Want::Say { number, .. } => (MediaFact::Said(number), millis(200), millis(3_000)),
            Want::Take => (MediaFact::Taken(Vec::new()), millis(0), millis(3)),
            Want::Record(limits) if limits.idle.is_some() => (MediaFact::Idle, millis(500), millis(6_000)),
            Want::Stop => (MediaFact::Stopped(Box::default()), millis(0), millis(3)),
            Want::Start(_) | Want::Retarget(_) | Want::Record(_) | Want::Press(_) => return,
        };
        self.plan_in(from, to, Happening::ActorMedia { actor, key, fact: Box::new(fact) });
    }
}

fn identity(transport: Transport, name: &str) -> PeerIdentity {
    if transport.is_secure() {
        PeerIdentity::Verified { names: vec![name.to_owned()] }
    } else {
        PeerIdentity::Address
    }
}
