//! The loop around the engine: one input in, all outputs out, sleep until the deadline. Owns the engine and the order
//! of things; refuses to decide anything about calls.
//!
//! A panic inside the engine is caught for the one input that caused it and counted (`engine_panic`). Memory stays
//! sound and other calls go on; the call concerned may be left half-changed, and nothing here repairs it.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use b2bua::Policy;
use b2bua::engine::{
    CallKey, Command, ConnectFailure, ConnectFailureKind, ConnectKey, Engine, EngineStatus, Event, FlowUp,
    Input, MediaCommand, MediaFailure, MediaPorts, Origin, Output, QueryKey, Target,
};
use b2bua::record::CallRecord;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{error, warn};

use super::held::Held;
use super::reuse::{Outgoing, Wish};
use crate::media::{self, MediaPool, MediaReport};
use crate::net::{self, Endpoint, FlowFacts, NetContext, NetEvent};
use crate::observe::Reporter;
use crate::trace::{Lines, Way};

/// Events taken from the queue at once.
const BATCH_MAX: usize = 64;
/// How often gauges are refreshed and the end of a drain is looked for.
const TICK: Duration = Duration::from_millis(250);
/// How long the end of the loop waits for the last media counters.
const SETTLE_MAX: Duration = Duration::from_millis(500);
/// Lookups under way at once.
const LOOKUPS_MAX: usize = 1_024;

/// Wishes of the gateway's owner.
pub enum Control {
    /// Use this policy for new calls.
    Policy(Arc<Policy>),
    /// Take no new calls; hang up the rest at `until`.
    Drain {
        /// When patience ends.
        until: Option<Instant>,
    },
    /// End one call.
    HangUp(CallKey),
    /// How do you stand?
    Status(oneshot::Sender<EngineStatus>),
}

/// Everything the loop needs.
pub(super) struct EngineTask {
    pub(super) engine: Engine,
    pub(super) context: Arc<NetContext>,
    pub(super) events: mpsc::Receiver<NetEvent>,
    pub(super) media: MediaPool<CallKey>,
    pub(super) media_reports: mpsc::Receiver<MediaReport<CallKey>>,
    pub(super) control: mpsc::Receiver<Control>,
    pub(super) reporter: Reporter,
    pub(super) drained: watch::Sender<bool>,
    pub(super) lines: Lines,
}

struct State {
    task: EngineTask,
    outgoing: Outgoing,
    pending: VecDeque<Input>,
    dials: JoinSet<()>,
    lookups: JoinSet<Input>,
    held: Held,
    over: Over,
}

/// Whether the last call of a drain has ended.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Over {
    No,
    Yes,
}

/// Runs until the context stops.
pub(super) async fn run(task: EngineTask) {
    let mut state = State {
        task,
        outgoing: Outgoing::default(),
        pending: VecDeque::new(),
        dials: JoinSet::new(),
        lookups: JoinSet::new(),
        held: Held::default(),
        over: Over::No,
    };
    let mut batch = Vec::with_capacity(BATCH_MAX);
    let mut unbroken = 0;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    // Begin with whatever the engine wants before any input.
    state.drain_outputs();
    loop {
        let deadline = state.task.engine.poll_deadline().map(|(at, _)| at);
        tokio::select! {
            count = state.task.events.recv_many(&mut batch, BATCH_MAX) => {
                batch.drain(..).for_each(|event| state.on_net(event));
                unbroken += count;
                if unbroken >= BATCH_MAX {
                    unbroken = 0;
                    // The connections woken by the answers may wait for this very thread. Without a break a burst
                    // fills their queues, and peers that do read are taken for peers that do not.
                    tokio::task::yield_now().await;
                }
            }
            Some(report) = state.task.media_reports.recv() => state.on_media(report),
            Some(control) = state.task.control.recv() => state.on_control(control),
            () = sleep_until(deadline) => state.feed(Input::Timeout),
            Some(done) = state.lookups.join_next(), if !state.lookups.is_empty() => {
                if let Ok(input) = done {
                    state.feed(input);
                }
            }
            Some(_) = state.dials.join_next(), if !state.dials.is_empty() => {}
            _ = tick.tick() => state.on_tick(),
            () = state.task.context.stopped() => break,
        }
    }
    state.shut_down().await;
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

impl State {
    fn feed(&mut self, input: Input) {
        self.pending.push_back(input);
        while let Some(input) = self.pending.pop_front() {
            let engine = &mut self.task.engine;
            let now = Instant::now();
            if catch_unwind(AssertUnwindSafe(|| engine.handle(now, input))).is_err() {
                self.task.context.metrics.dropped("engine_panic");
                error!("the engine panicked over one input; other calls go on");
            }
            self.drain_outputs();
        }
    }

    fn drain_outputs(&mut self) {
        while let Some(output) = self.task.engine.poll_output() {
            match output {
                Output::Send { flow, bytes } => {
                    self.task.lines.passed(Way::Out, flow, &bytes);
                    if self.task.context.flows.send(flow, bytes).is_err() {
                        self.task.context.metrics.dropped("unsent");
                    }
                }
                Output::Close { flow } => {
                    self.task.context.flows.close(flow);
                }
                Output::Connect { connect, target } => self.connect(connect, &target),
                Output::Resolve { query, name } => self.resolve(query, name),
                Output::Media(command) => self.command_media(command),
                Output::Event(event) => self.report(event),
            }
        }
    }

    fn report(&mut self, event: Event) {
        match event {
            Event::CallEnded { call: Some(call), record } => self.held.hold(Instant::now(), call, record),
            Event::Drained => {
                self.over = Over::Yes;
                self.task.reporter.report(Event::Drained);
                self.tell_drained();
            }
            other => self.task.reporter.report(other),
        }
    }

    fn report_ended(&self, record: CallRecord) {
        self.task.reporter.report(Event::CallEnded { call: None, record: Box::new(record) });
    }

    fn connect(&mut self, connect: ConnectKey, target: &Target) {
        let endpoint = Endpoint::from(target);
        let flows = &self.task.context.flows;
        match self.outgoing.wish(connect, &endpoint, |flow| flows.contains(flow)) {
            Wish::Reuse(facts) => self.pending.push_back(flow_up(facts, Origin::Outbound(connect))),
            Wish::Dial => {
                self.dials.spawn(net::open(self.task.context.clone(), endpoint));
            }
            Wish::Wait => {}
            Wish::Refuse => {
                let detail = String::from("too many calls wait for this connection");
                let why = ConnectFailure { kind: ConnectFailureKind::Local, detail };
                self.pending.push_back(Input::ConnectFailed { connect, why });
            }
        }
    }

    fn resolve(&mut self, query: QueryKey, name: String) {
        if self.lookups.len() >= LOOKUPS_MAX {
            let result = Err(String::from("too many lookups at once"));
            return self.pending.push_back(Input::Resolved { query, result });
        }
        self.lookups.spawn(async move { Input::Resolved { query, result: net::lookup(&name).await } });
    }

    fn command_media(&mut self, command: MediaCommand) {
        let media = &self.task.media;
        let (call, outcome) = match command {
            MediaCommand::Allocate { call } => {
                if let Err(problem) = media.allocate(call) {
                    warn!(%problem, "no media ports");
                    let result = Err(MediaFailure::Unavailable);
                    self.pending.push_back(Input::MediaReady { call, result });
                }
                return;
            }
            MediaCommand::Apply { call, plan } => (call, media.apply(call, plan)),
            MediaCommand::Release { call } => (call, media.release(call)),
        };
        if let Err(problem) = outcome {
            error!(%problem, call = call.as_u64(), "the media threads do not listen");
            self.pending.push_back(Input::Command(Command::HangUp(call)));
        }
    }

    fn on_net(&mut self, event: NetEvent) {
        match event {
            NetEvent::Up(facts) => {
                self.task.lines.up(facts.key, facts.remote);
                self.feed(flow_up(facts, Origin::Inbound));
            }
            NetEvent::Message { flow, bytes } => {
                self.task.lines.passed(Way::In, flow, &bytes);
                self.feed(Input::Message { flow, bytes });
            }
            NetEvent::Down { flow, why } => {
                self.task.lines.down(flow);
                self.outgoing.down(flow);
                self.feed(Input::FlowDown { flow, why });
            }
            NetEvent::Connected { endpoint, result: Ok(facts) } => {
                self.task.lines.up(facts.key, facts.remote);
                for connect in self.outgoing.connected(endpoint, facts.clone()) {
                    self.feed(flow_up(facts.clone(), Origin::Outbound(connect)));
                }
            }
            NetEvent::Connected { endpoint, result: Err(why) } => {
                for connect in self.outgoing.failed(&endpoint) {
                    self.feed(Input::ConnectFailed { connect, why: why.clone() });
                }
            }
        }
    }

    fn on_media(&mut self, report: MediaReport<CallKey>) {
        match report {
            MediaReport::Ready { call, result } => {
                let result = result.map(ports).map_err(media_failure);
                self.feed(Input::MediaReady { call, result });
            }
            MediaReport::Fact { call, fact, stats } => {
                self.feed(Input::MediaFact { call, fact, stats: Some(stats) });
            }
            MediaReport::PlanRefused { call, error } => {
                warn!(%error, call = call.as_u64(), "media plan refused, ending the call");
                self.feed(Input::Command(Command::HangUp(call)));
            }
            MediaReport::Failed { call } => {
                error!(call = call.as_u64(), "media of a call failed, ending the call");
                self.feed(Input::Command(Command::HangUp(call)));
            }
            MediaReport::Released { call, stats } => {
                if let Some(record) = self.held.complete(call, &stats) {
                    self.report_ended(*record);
                    self.tell_drained();
                }
            }
        }
    }

    /// A drain is over when the last call is, and its record is out.
    fn tell_drained(&self) {
        if matches!(self.over, Over::Yes) && self.held.is_empty() {
            self.task.drained.send_replace(true);
        }
    }

    fn on_control(&mut self, control: Control) {
        match control {
            Control::Policy(policy) => self.feed(Input::Policy(policy)),
            Control::Drain { until } => self.feed(Input::Drain { until }),
            Control::HangUp(call) => self.feed(Input::Command(Command::HangUp(call))),
            Control::Status(answer) => {
                // Whoever asked may have left.
                let _left = answer.send(self.task.engine.status());
            }
        }
    }

    fn on_tick(&mut self) {
        for record in self.held.overdue(Instant::now()) {
            self.report_ended(record);
        }
        let status = self.task.engine.gauges();
        self.task.context.metrics.engine(&status, self.task.context.flows.len());
        if status.draining && status.calls == 0 {
            self.over = Over::Yes;
            self.tell_drained();
        }
    }

    /// The last calls' counters are a moment away; what does not come goes out without.
    async fn settle_records(&mut self) {
        let until = tokio::time::Instant::now() + SETTLE_MAX;
        while !self.held.is_empty() {
            match tokio::time::timeout_at(until, self.task.media_reports.recv()).await {
                Ok(Some(MediaReport::Released { call, stats })) => {
                    if let Some(record) = self.held.complete(call, &stats) {
                        self.report_ended(*record);
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
        for record in self.held.take_all() {
            self.report_ended(record);
        }
    }

    async fn shut_down(mut self) {
        self.settle_records().await;
        let State { task, mut dials, mut lookups, .. } = self;
        drop(task.events);
        lookups.shutdown().await;
        while dials.join_next().await.is_some() {}
        let media = task.media;
        // Joining threads blocks.
        if tokio::task::spawn_blocking(move || media.shutdown()).await.is_err() {
            error!("media threads did not end in order");
        }
    }
}

fn flow_up(facts: FlowFacts, origin: Origin) -> Input {
    let FlowFacts { key, transport, local, remote, peer } = facts;
    Input::FlowUp(FlowUp { key, transport, local, remote, peer, origin })
}

fn ports(ports: media::MediaPorts) -> MediaPorts {
    let media::MediaPorts { a_rtp, a_rtcp, b_rtp, b_rtcp } = ports;
    MediaPorts { a_rtp, a_rtcp, b_rtp, b_rtcp }
}

fn media_failure(failure: media::MediaFailure) -> MediaFailure {
    match failure {
        media::MediaFailure::PortsExhausted { .. } => MediaFailure::NoPorts,
        media::MediaFailure::Socket(_) | media::MediaFailure::AlreadyAllocated => MediaFailure::Unavailable,
    }
}
