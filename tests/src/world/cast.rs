//! Who plays: callers, Call Routers, UM services and workers of the lab, each a value behind one face. Owns their stage names and what they
//! are told and want; refuses to know how bytes travel.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use b2bua::policy::ServerRole;
use bytes::Bytes;
use lab::frontend::{CallEnd, CallOutcome, CallerCommand, CallerConfig, CallerLogic, CallerReport};
use lab::machine::{Input, Machine, Output};
use lab::media::{MediaCommand, MediaKey};
use lab::um::{
    AnswerRules, Directory, Fault, PlanSecurity, Ports, RedirectRole, RedirectTarget, Redirector, UmCommand,
    UmReport, Worker, WorkerConfig,
};
use sip::FlowKey;

use super::restless::{Order, Restless, Said};
use super::site::{self, Caller, MAILBOX_SERVERS, ROUTERS};

/// Index of an actor.
pub type ActorId = usize;

/// Part of the play.
pub enum Role {
    /// Places calls.
    Caller(Box<CallerLogic>),
    /// Call Router or UM service.
    Redirector(Box<Redirector>),
    /// Takes calls.
    Worker(Box<Worker>),
    /// Places or takes calls and cannot sit still.
    Restless(Box<Restless>),
}

/// What an actor is told.
pub enum Cue {
    /// One of the inputs all roles share.
    Input(Input<std::convert::Infallible>),
    /// For callers.
    Caller(CallerCommand),
    /// For UM roles.
    Um(UmCommand),
    /// For restless servers: a message waits for this address.
    Notify(String),
}

/// What an actor wants.
pub enum Wish {
    /// Bytes to a connection.
    Send(FlowKey, Bytes),
    /// Close this connection.
    Close(FlowKey),
    /// Something about media.
    Media(MediaKey, MediaCommand),
    /// A call is over (callers).
    Outcome(u64, Result<Box<CallOutcome>, String>),
    /// Anything else worth a line.
    News(String),
}

/// One far end.
pub struct Actor {
    /// Name in the ladder.
    pub name: String,
    /// Certificate name.
    pub host: String,
    /// Address.
    pub address: IpAddr,
    /// Callers: first port they connect from.
    pub port: u16,
    /// Listening ports: plain, secure. Callers have none.
    pub ports: Ports,
    /// Takes connections now.
    pub is_listening: bool,
    /// The caller it is, when it is one.
    pub caller: Option<Caller>,
    role: Role,
}

impl Actor {
    /// Tells it something. A cue for another role is not heard.
    pub fn handle(&mut self, now: Instant, cue: Cue) {
        match (&mut self.role, cue) {
            (Role::Caller(role), Cue::Input(input)) => role.handle(now, translated(input)),
            (Role::Redirector(role), Cue::Input(input)) => role.handle(now, translated(input)),
            (Role::Worker(role), Cue::Input(input)) => role.handle(now, translated(input)),
            (Role::Caller(role), Cue::Caller(command)) => role.handle(now, Input::Command(command)),
            (Role::Redirector(role), Cue::Um(command)) => role.handle(now, Input::Command(command)),
            (Role::Worker(role), Cue::Um(command)) => role.handle(now, Input::Command(command)),
            (Role::Restless(role), Cue::Input(input)) => role.handle(now, translated(input)),
            (Role::Restless(role), Cue::Caller(CallerCommand::Place { id, spec })) => {
                let cancel_after = match spec.end {
                    CallEnd::CancelAfter(after) => Some(after),
                    _ => None,
                };
                role.handle(now, Input::Command(Order::Place { id, uri: spec.request_uri, cancel_after }));
            }
            (Role::Restless(role), Cue::Um(UmCommand::HangUpAll)) => {
                role.handle(now, Input::Command(Order::HangUpAll));
            }
            (Role::Restless(role), Cue::Caller(CallerCommand::Options { id, .. })) => {
                role.handle(now, Input::Command(Order::Options(id)));
            }
            (Role::Restless(role), Cue::Notify(whom)) => {
                role.handle(now, Input::Command(Order::Notify(whom)));
            }
            (_, Cue::Caller(_) | Cue::Um(_) | Cue::Notify(_)) => {}
        }
    }

    /// Its next wish.
    pub fn poll(&mut self) -> Option<Wish> {
        match &mut self.role {
            Role::Caller(role) => role.poll_output().map(|output| wish(output, of_caller)),
            Role::Redirector(role) => role.poll_output().map(|output| wish(output, of_um)),
            Role::Worker(role) => role.poll_output().map(|output| wish(output, of_um)),
            Role::Restless(role) => role.poll_output().map(|output| wish(output, of_restless)),
        }
    }

    /// When it wants to be woken.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.role {
            Role::Caller(role) => role.poll_deadline(),
            Role::Redirector(role) => role.poll_deadline(),
            Role::Worker(role) => role.poll_deadline(),
            Role::Restless(role) => role.poll_deadline(),
        }
    }

    /// Calls it believes to have.
    pub fn calls(&self) -> usize {
        match &self.role {
            Role::Caller(role) => role.calls(),
            Role::Redirector(_) => 0,
            Role::Worker(role) => role.calls(),
            Role::Restless(role) => role.calls(),
        }
    }

    /// Connections it keeps to the gateway.
    pub fn lines(&self) -> usize {
        let is_stream = self.caller.is_some_and(|caller| caller.transport().is_reliable());
        if is_stream && matches!(self.role, Role::Restless(_)) { 2 } else { 1 }
    }

    /// Is it a worker?
    pub fn is_worker(&self) -> bool {
        self.name.contains("/worker")
    }
}

fn translated<C>(input: Input<std::convert::Infallible>) -> Input<C> {
    match input {
        Input::FlowUp(flow) => Input::FlowUp(flow),
        Input::FlowDown(flow) => Input::FlowDown(flow),
        Input::Bytes { flow, bytes } => Input::Bytes { flow, bytes },
        Input::Media { key, fact } => Input::Media { key, fact },
        Input::Command(never) => match never {},
        Input::Timeout => Input::Timeout,
    }
}

fn wish<R>(output: Output<R>, report: impl FnOnce(R) -> Wish) -> Wish {
    match output {
        Output::Send { flow, bytes } => Wish::Send(flow, bytes),
        Output::Media { key, command } => Wish::Media(key, command),
        Output::Close(flow) => Wish::Close(flow),
        Output::Report(said) => report(said),
    }
}

fn of_caller(report: CallerReport) -> Wish {
    match report {
        CallerReport::Outcome { id, outcome } => Wish::Outcome(id, outcome),
        CallerReport::Status { id, status } => Wish::News(format!("OPTIONS {id}: {status}")),
        CallerReport::Stray(bytes) => {
            let line = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
            Wish::News(format!("stray {}", line.escape_ascii()))
        }
    }
}

fn of_restless(said: Said) -> Wish {
    match said {
        Said::Outcome(id, status) => Wish::Outcome(id, Err(status.to_string())),
        Said::News(text) => Wish::News(text),
    }
}

fn of_um(report: UmReport) -> Wish {
    Wish::News(match report {
        // Facts may hold times and paths; their kind is enough here.
        UmReport::Fact(lab::um::LabFact::Ended { server, call_id, why, .. }) => {
            format!("{server} ended {call_id}: {why:?}")
        }
        UmReport::Fact(fact) => format!("{fact:?}"),
        UmReport::Message(message) => format!("{} stored a message of {}", message.server, message.call_id),
        UmReport::Waiting(waiting) => format!("{} has {} new messages", waiting.mailbox, waiting.new),
        UmReport::Delete { mailbox, call_id } => format!("{mailbox} deletes the message of {call_id}"),
        UmReport::Heard { mailbox, call_id } => format!("{mailbox} has heard the message of {call_id}"),
        UmReport::Recycled { server, ports, .. } => format!("{server} recycled its worker on {ports:?}"),
        UmReport::PinReset(letter) => format!("{} gets another PIN", letter.mailbox),
        UmReport::Missed(missed) => format!("{} noted a missed call of {}", missed.server, missed.call_id),
    })
}

/// Who plays callers and workers.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum Temper {
    /// The lab's own logic.
    #[default]
    Calm,
    /// `Restless` callers, and one restless worker per Mailbox server.
    Restless,
    /// One restless server per pool and per Mailbox server, the rest calm.
    Mixed,
}

/// How far ends behave in this run.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Who plays.
    pub temper: Temper,
    /// Time to 180.
    pub ring_after: Option<Duration>,
    /// Time to 200.
    pub answer_after: Duration,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            temper: Temper::Calm,
            ring_after: Some(Duration::from_millis(40)),
            answer_after: Duration::from_millis(250),
        }
    }
}

/// The whole cast: callers first (in the order of [`Caller::ALL`], second members last), then Call Routers, UM services, workers.
pub fn cast(seed: u64, manners: &Manners) -> Vec<Actor> {
    let mut all: Vec<Actor> = Vec::new();
    for member in 0..MEMBERS_MAX {
        let callers = Caller::ALL.into_iter().filter(|caller| caller.members() > member);
        all.extend(callers.map(|caller| caller_of(caller, member, seed, manners.temper)));
    }
    all.extend((0..ROUTERS.len()).map(|index| call_router(index, seed)));
    all.extend((0..MAILBOX_SERVERS.len()).map(|index| um_service(index, seed)));
    let directory = site::lab_directory();
    for index in 0..MAILBOX_SERVERS.len() {
        all.extend((0..WORKERS.len()).map(|worker| um_worker(index, worker, seed, manners, &directory)));
    }
    all
}

const SERVICE: Ports = Ports { tcp: Some(5062), tls: Some(5063) };
const WORKERS: [Ports; 2] =
    [Ports { tcp: Some(5065), tls: Some(5066) }, Ports { tcp: Some(5067), tls: Some(5068) }];

fn caller_of(caller: Caller, member: usize, seed: u64, temper: Temper) -> Actor {
    let config = CallerConfig {
        fqdn: caller.fqdn().into(),
        sip_domain: site::DOMAIN.into(),
        address: caller.address(),
        seed: seed ^ (0x0100 + (member * 16) as u64 + caller as u64),
    };
    let local = std::net::SocketAddr::new(caller.address(), CALLER_PORT + member as u16);
    let is_restless = temper == Temper::Restless || temper == Temper::Mixed && member == 1;
    let role = if is_restless {
        Role::Restless(Box::new(Restless::new(
            caller.fqdn(),
            caller.address(),
            Ports::default(),
            config.seed,
        )))
    } else {
        Role::Caller(Box::new(CallerLogic::new(config, local)))
    };
    let short = caller.fqdn().split('.').next().unwrap_or_default();
    Actor {
        name: if member == 0 { short.to_owned() } else { format!("{short}/fe{}", member + 1) },
        host: caller.fqdn().into(),
        address: caller.address(),
        port: local.port(),
        ports: Ports::default(),
        is_listening: false,
        caller: Some(caller),
        role,
    }
}

const MEMBERS_MAX: usize = 2;
/// Where callers connect from.
const CALLER_PORT: u16 = 40_000;

fn call_router(index: usize, seed: u64) -> Actor {
    let name = ROUTERS[index];
    let targets = MAILBOX_SERVERS
        .iter()
        .map(|host| RedirectTarget { host: (*host).to_owned(), ports: SERVICE, is_live: true })
        .collect();
    let seed = seed ^ (0x0200 + index as u64);
    let role = Redirector::new(name, RedirectRole::CallRouter, targets, Fault::None, seed);
    let ports = Ports { tcp: Some(5060), tls: Some(5061) };
    server(
        name,
        "",
        site::server_address(ServerRole::CallRouter, index),
        ports,
        Role::Redirector(Box::new(role)),
    )
}

fn um_service(index: usize, seed: u64) -> Actor {
    let name = MAILBOX_SERVERS[index];
    let targets = WORKERS
        .iter()
        .map(|ports| RedirectTarget { host: name.to_owned(), ports: *ports, is_live: true })
        .collect();
    let seed = seed ^ (0x0300 + index as u64);
    let role = Redirector::new(name, RedirectRole::UmService, targets, Fault::None, seed);
    let address = site::server_address(ServerRole::Mailbox, index);
    server(name, "/service", address, SERVICE, Role::Redirector(Box::new(role)))
}

fn um_worker(index: usize, worker: usize, seed: u64, manners: &Manners, directory: &Directory) -> Actor {
    let name = MAILBOX_SERVERS[index];
    let config = WorkerConfig {
        name: name.to_owned(),
        max_calls_allowed: 100,
        security: PlanSecurity::Secured,
        directory: directory.clone(),
        utc: time::OffsetDateTime::UNIX_EPOCH,
        answer: AnswerRules {
            ring_after: manners.ring_after,
            answer_after: manners.answer_after,
            ..AnswerRules::default()
        },
        fault: Fault::None,
        seed: seed ^ (0x0400 + (index * WORKERS.len() + worker) as u64),
    };
    let address = site::server_address(ServerRole::Mailbox, index);
    let role = if worker == 1 && manners.temper != Temper::Calm {
        Role::Restless(Box::new(Restless::new(name, address, WORKERS[worker], config.seed)))
    } else {
        Role::Worker(Box::new(Worker::new(config)))
    };
    server(name, &format!("/worker{worker}"), address, WORKERS[worker], role)
}

fn server(host: &str, part: &str, address: IpAddr, ports: Ports, role: Role) -> Actor {
    let short = host.split('.').next().unwrap_or_default();
    Actor {
        name: format!("{short}{part}"),
        host: host.to_owned(),
        address,
        port: 0,
        ports,
        is_listening: true,
        caller: None,
        role,
    }
}
