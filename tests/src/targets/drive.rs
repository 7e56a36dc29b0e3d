//! An engine with a pool on one side and servers on the other that do what they are told. Owns the far ends' memory and what must hold after
//! every input; which input comes is the target's business.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use b2bua::engine::{
    ConnectFailure, ConnectFailureKind, Engine, EngineConfig, Event, FlowLoss, FlowUp, Input, MediaCommand,
    MediaPorts, Origin, Output, PeerIdentity,
};
use bytes::Bytes;
use sip::{FlowKey, Limits, Message, Transport};

use crate::world::site::{self, Caller, MAILBOX_SERVERS, OURS, ROUTERS};

/// Outputs of one input.
const OUTPUTS_MAX: usize = 2_000;
/// Wake-ups until nothing is left to wait for.
const TIMEOUTS_MAX: usize = 20_000;
/// Places one call may be taken to (design: 5), each over so many addresses.
const CONNECTS_MAX: usize = 5;
/// After that nothing of a call may be left.
const AFTERWARDS: Duration = Duration::from_secs(2 * 3600);
/// Name of the calling pool.
const POOL: &str = "pool01.contoso.com";

/// What became of a wish to connect.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(super) enum Reach {
    Open,
    Refused,
}

/// The engine and its far ends.
pub(super) struct Driver {
    pub engine: Engine,
    pub now: Instant,
    /// The pool's connection.
    pub caller: FlowKey,
    /// Connections to servers, by name and port.
    pub servers: BTreeMap<(String, u16), FlowKey>,
    /// Requests the engine sent to servers, and to the pool.
    pub to_servers: Vec<(FlowKey, Message)>,
    pub to_caller: Vec<Message>,
    /// Responses the pool got.
    pub answers: Vec<Message>,
    pub reach: Reach,
    pub connects: usize,
    pub has_ports: bool,
    started: usize,
    ended: usize,
    flows: u64,
}

impl Driver {
    pub fn new() -> Self {
        let epoch = Instant::now();
        let engine = Engine::new(EngineConfig::new(1, [1; 32], epoch), Arc::new(site::policy()));
        let mut driver = Self {
            engine,
            now: epoch,
            caller: FlowKey(1),
            servers: BTreeMap::new(),
            to_servers: Vec::new(),
            to_caller: Vec::new(),
            answers: Vec::new(),
            reach: Reach::Open,
            connects: 0,
            has_ports: true,
            started: 0,
            ended: 0,
            flows: 1,
        };
        driver.caller_up();
        driver
    }

    /// The pool connects (again).
    pub fn caller_up(&mut self) {
        self.caller = FlowKey(self.flows);
        self.flows += 1;
        let remote = SocketAddr::new(Caller::Secured.address(), 50_000);
        let up = flow_up(self.caller, remote, POOL, Origin::Inbound);
        self.feed(Input::FlowUp(up));
    }

    pub fn down(&mut self, flow: FlowKey) {
        self.servers.retain(|_, known| *known != flow);
        self.feed(Input::FlowDown { flow, why: FlowLoss::ClosedByPeer });
    }

    pub fn bytes(&mut self, flow: FlowKey, bytes: impl Into<Bytes>) {
        self.feed(Input::Message { flow, bytes: bytes.into() });
    }

    /// One input and all that follows at once.
    pub fn feed(&mut self, input: Input) {
        let mut inputs = vec![input];
        let mut outputs = 0;
        while let Some(input) = inputs.pop() {
            self.engine.handle(self.now, input);
            while let Some(output) = self.engine.poll_output() {
                outputs += 1;
                assert!(outputs < OUTPUTS_MAX, "one input, outputs without end");
                inputs.extend(self.on_output(output));
            }
        }
    }

    /// Time passes, every deadline is met.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..TIMEOUTS_MAX {
            match self.engine.poll_deadline() {
                Some((at, _)) if at <= end => {
                    self.now = self.now.max(at);
                    self.feed(Input::Timeout);
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("the clock stands still: {:?}", self.engine.poll_deadline());
    }

    /// Nothing of any call may be left in the end.
    pub fn finish(mut self) {
        self.pass(AFTERWARDS);
        let status = self.engine.status();
        assert_eq!(status.calls, 0, "calls left: {:?}", status.by_state);
        assert_eq!(status.transactions, (0, 0), "transactions left");
        assert_eq!(status.timers, 0, "timers left");
        assert_eq!(self.started, self.ended, "calls begun and calls ended");
    }

    fn on_output(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Send { flow, bytes } => self.on_sent(flow, bytes),
            Output::Connect { connect, target } => {
                self.connects += 1;
                let known = ROUTERS.iter().chain(&MAILBOX_SERVERS).any(|name| *name == target.name)
                    || target.name == POOL;
                assert!(known, "a connection to {}, who is nobody here", target.name);
                assert_eq!(target.transport, Transport::Tls, "a weaker transport");
                if self.reach == Reach::Refused {
                    let why = ConnectFailure { kind: ConnectFailureKind::Refused, detail: String::new() };
                    return Some(Input::ConnectFailed { connect, why });
                }
                let next = FlowKey(self.flows);
                let key = *self.servers.entry((target.name.clone(), target.port)).or_insert(next);
                self.flows += u64::from(key == next);
                let remote = SocketAddr::new(target.address, target.port);
                return Some(Input::FlowUp(flow_up(key, remote, &target.name, Origin::Outbound(connect))));
            }
            Output::Resolve { query, .. } => {
                let kind = b2bua::engine::ResolveFailureKind::NoAddress;
                let why = b2bua::engine::ResolveFailure { kind, detail: String::from("no such name") };
                return Some(Input::Resolved { query, result: Err(why) });
            }
            Output::Media(MediaCommand::Allocate { call }) => {
                let ports = MediaPorts { a_rtp: 4000, a_rtcp: 4001, b_rtp: 4002, b_rtcp: 4003 };
                let result =
                    if self.has_ports { Ok(ports) } else { Err(b2bua::engine::MediaFailure::NoPorts) };
                return Some(Input::MediaReady { call, result });
            }
            Output::Close { flow } => return Some(Input::FlowDown { flow, why: FlowLoss::ClosedByUs }),
            Output::Event(Event::CallStarted(_)) => self.started += 1,
            Output::Event(Event::CallEnded { call: Some(_), .. }) => self.ended += 1,
            _ => {}
        }
        None
    }

    fn on_sent(&mut self, flow: FlowKey, bytes: Bytes) {
        let message = match Message::parse(bytes.clone(), &Limits::default()) {
            Ok(message) => message,
            // The refusal of what cannot be read repeats it.
            Err(_) if bytes.starts_with(b"SIP/2.0 400 ") || bytes.starts_with(b"SIP/2.0 505 ") => return,
            Err(error) => panic!("what the engine sends does not parse: {error}\n{}", bytes.escape_ascii()),
        };
        if flow != self.caller {
            if message.is_request() {
                self.to_servers.push((flow, message));
            }
        } else if message.is_request() {
            self.to_caller.push(message);
        } else {
            self.answers.push(message);
        }
    }
}

fn flow_up(key: FlowKey, remote: SocketAddr, name: &str, origin: Origin) -> FlowUp {
    let peer = PeerIdentity::Verified { names: vec![name.to_owned()] };
    FlowUp {
        key,
        transport: Transport::Tls,
        local: SocketAddr::new(OURS, 5061),
        remote,
        peer,
        origin,
        made_for: None,
    }
}

/// Contacts of one 302 after the other, a line each: wherever they point, the call stays with the servers of its plan, tries five places at
/// most, and ends.
pub fn redirect(input: &[u8]) {
    let mut driver = Driver::new();
    let invite = super::play::invite(1, super::play::Body::Offer);
    driver.bytes(driver.caller, invite);
    let mut lines = input.split(|b| *b == b'\n');
    let mut seen = 0;
    while let Some((flow, request)) = driver.to_servers.get(seen).cloned() {
        seen += 1;
        if *request.method() != sip::Method::Invite {
            continue;
        }
        let contact = lines.next().unwrap_or(b"<sip:nobody@nowhere.invalid>");
        driver.bytes(
            flow,
            super::play::response(&request, 302, &[b"Contact: ", contact, b"\r\n"].concat(), b""),
        );
        assert!(driver.connects <= CONNECTS_MAX, "{} places for one call", driver.connects);
    }
    driver.finish();
}
