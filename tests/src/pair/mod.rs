//! One call between two far ends written by hand: a caller and a UM server who know no transaction layer, speak raw messages and do what they are
//! told. Four wires carry single messages, delivered in whatever order somebody chooses. Owns order and time; refuses to know what is right, which
//! the world's [`Watch`] and the tests do. For races and for the transition table of a call.

mod party;
pub mod races;
pub mod table;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use b2bua::engine::{
    CallKey, ConnectFailure, ConnectFailureKind, ConnectKey, Engine, EngineConfig, Event, FlowLoss, FlowUp,
    Input, MediaCommand, MediaFailure, MediaPorts, Origin, Output, PeerIdentity, Reason,
};
use b2bua::policy::{Policy, ReferRule};
use b2bua::record::CallRecord;
use bytes::Bytes;
use relay::Side;
use sip::{FlowKey, Limits, Message, Transport};

pub use party::{Body, Party};

use crate::world::ladder::{Ladder, Way};
use crate::world::random::Random;
use crate::world::site::{self, Caller};
use crate::world::watch::{Violation, Watch};

const FLOWS: [FlowKey; 2] = [FlowKey(1), FlowKey(2)];
/// Deliveries after which a story is called endless.
const DELIVERIES_MAX: usize = 2_000;
/// Deadlines after which it is.
const WAKES_MAX: usize = 500;

/// Whether the shell answers at once.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Shell {
    /// Connections and ports come at once.
    Prompt,
    /// They wait until somebody gives them.
    Slow,
}

/// The call, its two ends and everything between.
pub struct Pair {
    engine: Engine,
    epoch: Instant,
    now: Duration,
    shell: Shell,
    /// The caller and the server.
    pub parties: [Party; 2],
    /// On the caller's wire, in a dialog of its own.
    pub third: Party,
    /// Toward the gateway, by sender.
    pub inward: [VecDeque<Bytes>; 2],
    /// From the gateway, by receiver.
    pub outward: [VecDeque<Bytes>; 2],
    /// Flows the gateway believes in.
    up: [bool; 2],
    connects: Vec<ConnectKey>,
    asked_ports: Option<CallKey>,
    /// The call, once it was announced.
    pub call: Option<CallKey>,
    /// What was recorded.
    pub records: Vec<CallRecord>,
    /// Media: ports asked for, plans, ports given back.
    pub media: [u32; 3],
    watch: Watch,
    ladder: Ladder,
    violation: Option<String>,
}

/// The site with one Mailbox server and no Call Router, so that one INVITE reaches whoever answers. A REFER of UM is carried out.
fn policy() -> Arc<Policy> {
    let mut policy = site::policy();
    for plan in &mut policy.dial_plans {
        plan.call_routers.clear();
        plan.mailbox_servers.truncate(1);
        plan.transfers.refer = ReferRule::Execute;
    }
    Arc::new(policy)
}

impl Pair {
    /// A caller connected to an idle gateway.
    pub fn new(seed: u64, shell: Shell) -> Self {
        // The zero of virtual time; its value is not looked at.
        let epoch = Instant::now();
        let engine = Engine::new(EngineConfig::new(seed, [seed as u8; 32], epoch), policy());
        let mut pair = Self {
            engine,
            epoch,
            now: Duration::ZERO,
            shell,
            parties: [Party::caller(), Party::server()],
            third: Party::third(),
            inward: Default::default(),
            outward: Default::default(),
            up: [false; 2],
            connects: Vec::new(),
            asked_ports: None,
            call: None,
            records: Vec::new(),
            media: [0; 3],
            watch: Watch::default(),
            ladder: Ladder::new(vec!["caller".into(), "server".into()]),
            violation: None,
        };
        pair.flow_up(Side::A, Origin::Inbound);
        pair
    }

    /// One end.
    pub fn party(&mut self, side: Side) -> &mut Party {
        &mut self.parties[side as usize]
    }

    /// Name of the call's state, `None` before and after.
    pub fn state(&self) -> Option<&'static str> {
        self.engine.state_of(self.call?)
    }

    /// How the engine stands.
    pub fn status(&self) -> b2bua::engine::EngineStatus {
        self.engine.status()
    }

    fn flow_up(&mut self, side: Side, origin: Origin) {
        let (address, port) = match side {
            Side::A => (Caller::Plain.address(), 40_000),
            Side::B => (site::server_address(b2bua::policy::ServerRole::Mailbox, 0), 5062),
        };
        let up = FlowUp {
            key: FLOWS[side as usize],
            transport: Transport::Tcp,
            local: SocketAddr::new(site::OURS, 5060),
            remote: SocketAddr::new(address, port),
            peer: PeerIdentity::Address,
            origin,
            made_for: None,
        };
        self.up[side as usize] = true;
        self.watch.flow_up(up.key, if side == Side::A { "caller" } else { "server" }, side, false);
        self.feed(Input::FlowUp(up));
    }

    /// A far end's connection is gone; what was under way with it.
    pub fn flow_down(&mut self, side: Side) {
        self.up[side as usize] = false;
        self.inward[side as usize].clear();
        self.outward[side as usize].clear();
        self.watch.flow_down(self.now, FLOWS[side as usize]);
        self.feed(Input::FlowDown { flow: FLOWS[side as usize], why: FlowLoss::Error });
    }

    /// A message of a far end sets out.
    pub fn send(&mut self, side: Side, bytes: Bytes) {
        self.inward[side as usize].push_back(bytes);
    }

    /// The gateway gets the first, or the n-th, message of that side.
    pub fn deliver_in(&mut self, side: Side, nth: usize) {
        let Some(bytes) = self.inward[side as usize].remove(nth) else { return };
        self.border(Way::In, side, &bytes);
        self.feed(Input::Message { flow: FLOWS[side as usize], bytes });
    }

    /// The far end gets its first message, and does what politeness demands.
    pub fn deliver_out(&mut self, side: Side) {
        let Some(bytes) = self.outward[side as usize].pop_front() else { return };
        if let Ok(message) = Message::parse(bytes, &Limits::default()) {
            let is_caller = side == Side::B || self.parties[0].is_addressed(&message);
            let whom = if is_caller { &mut self.parties[side as usize] } else { &mut self.third };
            let replies = whom.receive(&message);
            replies.into_iter().for_each(|reply| self.send(side, reply));
        }
    }

    /// Delivers everything, in order, until nothing is under way.
    pub fn settle(&mut self) {
        for _ in 0..DELIVERIES_MAX {
            if !self.deliver_any(None) {
                return;
            }
        }
        self.break_rule("messages come to an end".to_owned());
    }

    /// Delivers one message: of any wire with dice, the first without; false when there is none.
    fn deliver_any(&mut self, random: Option<&mut Random>) -> bool {
        let mut ready = Vec::with_capacity(4);
        for side in [Side::A, Side::B] {
            if !self.inward[side as usize].is_empty() {
                ready.push((Way::In, side));
            }
            if !self.outward[side as usize].is_empty() {
                ready.push((Way::Out, side));
            }
        }
        let chosen = match random {
            Some(random) => random.pick(&ready),
            None => ready.first(),
        };
        match chosen.copied() {
            Some((Way::In, side)) => self.deliver_in(side, 0),
            Some((Way::Out, side)) => self.deliver_out(side),
            None => return false,
        }
        true
    }

    /// The gateway sleeps until its next deadline; tells what for.
    pub fn wake(&mut self) -> Option<Reason> {
        let (at, reason) = self.engine.poll_deadline()?;
        self.now = self.now.max(at.saturating_duration_since(self.epoch));
        self.feed(Input::Timeout);
        Some(reason)
    }

    /// Everything ends: messages, then deadlines, until no deadline is left.
    pub fn run_out(&mut self) {
        for _ in 0..WAKES_MAX {
            self.settle();
            if self.violation.is_some() || self.wake().is_none() {
                return;
            }
        }
        self.break_rule("deadlines come to an end".to_owned());
    }

    /// Gives the ports that were asked for, or refuses them.
    pub fn give_ports(&mut self, result: Result<(), MediaFailure>) {
        let Some(call) = self.asked_ports.take() else { return };
        let ports = MediaPorts { a_rtp: 20_000, a_rtcp: 20_001, b_rtp: 20_002, b_rtcp: 20_003 };
        self.feed(Input::MediaReady { call, result: result.map(|()| ports) });
    }

    /// Gives the connection that was asked for, or refuses it.
    pub fn give_connection(&mut self, result: Result<(), ConnectFailureKind>) {
        let Some(connect) = self.connects.pop() else { return };
        match result {
            Ok(()) => self.flow_up(Side::B, Origin::Outbound(connect)),
            Err(kind) => {
                let why = ConnectFailure { kind, detail: format!("{kind:?}") };
                self.feed(Input::ConnectFailed { connect, why });
            }
        }
    }

    /// The connection that was asked for is the one the caller is at the end of.
    pub fn give_callers_connection(&mut self) {
        let Some(connect) = self.connects.pop() else { return };
        self.flow_up(Side::A, Origin::Outbound(connect));
    }

    /// Feeds the engine and carries out what it wants.
    pub fn feed(&mut self, input: Input) {
        self.engine.handle(self.epoch + self.now, input);
        while let Some(output) = self.engine.poll_output() {
            self.on_output(output);
        }
        self.watch.compare(|call| self.engine.state_of(CallKey::from_u64(call)));
        if self.shell == Shell::Prompt {
            while self.asked_ports.is_some() || !self.connects.is_empty() {
                self.give_ports(Ok(()));
                self.give_connection(Ok(()));
            }
        }
        if let Some(Violation { rule, .. }) = self.watch.violation() {
            let rule = rule.clone();
            self.break_rule(rule);
        }
    }

    fn on_output(&mut self, output: Output) {
        match output {
            Output::Send { flow, bytes } => {
                let side = if flow == FLOWS[0] { Side::A } else { Side::B };
                self.border(Way::Out, side, &bytes);
                if self.up[side as usize] {
                    self.outward[side as usize].push_back(bytes);
                }
            }
            Output::Connect { connect, .. } => self.connects.push(connect),
            Output::Media(command) => {
                self.watch.media(&command);
                match command {
                    MediaCommand::Allocate { call } => {
                        self.media[0] += 1;
                        self.asked_ports = Some(call);
                    }
                    MediaCommand::Apply { .. } => self.media[1] += 1,
                    MediaCommand::Press { .. } => {}
                    MediaCommand::Release { .. } => self.media[2] += 1,
                }
            }
            Output::Event(Event::CallStarted(started)) => {
                self.watch.started(self.now, &started);
                self.call = Some(started.call);
            }
            Output::Event(Event::CallEnded { record, .. }) => {
                self.watch.ended(self.now, &record);
                self.records.push(*record);
            }
            _ => {}
        }
    }

    fn border(&mut self, way: Way, side: Side, bytes: &Bytes) {
        self.ladder.message(self.now, way, side, side as usize, 0, bytes);
        match Message::parse(bytes.clone(), &Limits::default()) {
            Ok(message) => self.watch.message(self.now, way, FLOWS[side as usize], &message),
            Err(why) => self.break_rule(format!("messages can be read: {why}")),
        }
    }

    fn break_rule(&mut self, rule: String) {
        self.violation.get_or_insert(rule);
    }

    /// Nothing is left and no rule is broken, else the story. Ends the pair.
    pub fn verdict(mut self) -> Result<(), String> {
        let flows = self.up.iter().filter(|up| **up).count();
        self.watch.doubt_all();
        self.watch.compare(|call| self.engine.state_of(CallKey::from_u64(call)));
        self.watch.finish(&self.engine.status(), flows);
        if let Some(Violation { rule, .. }) = self.watch.violation() {
            let rule = rule.clone();
            self.break_rule(rule);
        }
        match self.violation {
            None => Ok(()),
            Some(rule) => Err(format!("broken rule: {rule}\n{}", self.ladder.print(&[]))),
        }
    }

    /// The story so far.
    pub fn story(&self) -> String {
        self.ladder.print(&[])
    }
}
