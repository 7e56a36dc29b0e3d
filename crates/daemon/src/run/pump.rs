//! The engine of one shard with its flows: one input in, all outputs out. Owns the engine and the order of things;
//! refuses to decide anything about calls and to wait for anybody.
//!
//! What concerns another shard (a flow it owns, a call it holds) is handed over through its inbox, in order.
//!
//! A panic inside the engine is caught for the one input that caused it and counted (`engine_panic`); the engine then
//! ends the calls that the input had reached, on both legs, and the others go on.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use b2bua::engine::{
    CallKey, Command, ConnectFailure, ConnectFailureKind, ConnectKey, Engine, Event, FlowLoss, FlowUp, Input,
    MediaCommand, MediaFailure, MediaPorts, Names, Newcomers, Origin, Output, QueryKey, Question,
    ResolveFailure, ResolveFailureKind, Sharding, Target, call_id_of,
};
use b2bua::record::CallRecord;
use bytes::Bytes;
use sip::{FlowKey, Transport};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::watch;
use tracing::{error, warn};

use super::adopted::Adopted;
use super::held::Held;
use crate::keep::Keeping;
use crate::media::{self, MediaPool, MediaReport};
use crate::net::{
    self, Asked, Control, Endpoint, Errand, FlowFacts, Found, Holds, Leave, MediaKey, NetContext, Opened,
    SendFault, Slots, Standing, UdpPort, Wish, shard_of_flow,
};
use crate::observe::Reporter;
use crate::tls::Credentials;
use crate::trace::{Lines, Way};

/// Errands that may wait for each other shard when its inbox is full.
const BACKLOG_MAX: usize = 65_536;
/// The engine ends broken calls in order first, by force next.
const RECOVERIES_MAX: usize = 3;
/// A wish number that no engine gives out.
const NOBODYS_WISH: ConnectKey = ConnectKey(0);

/// The engine and everything its outputs reach.
pub(super) struct Pump {
    pub(super) number: u16,
    pub(super) engine: Engine,
    pub(super) context: Arc<NetContext>,
    pub(super) slots: Slots,
    pub(super) ports: Vec<UdpPort>,
    pub(super) media: Arc<MediaPool<MediaKey>>,
    pub(super) reporter: Reporter,
    pub(super) lines: Lines,
    pub(super) keeping: Option<Keeping>,
    pub(super) drained: watch::Sender<bool>,
    pub(super) sharding: Sharding,
    pub(super) adopted: Arc<Adopted>,
    pub(super) held: Held,
    pub(super) over: Over,
    pub(super) pending: VecDeque<Input>,
    pub(super) backlog: Vec<VecDeque<Errand>>,
}

/// Whether the last call of a drain has ended.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Over {
    No,
    Yes,
}

impl Pump {
    /// One input in, all outputs out.
    pub(super) fn feed(&mut self, input: Input) {
        self.pending.push_back(input);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(input) = self.pending.pop_front() {
            let engine = &mut self.engine;
            let now = Instant::now();
            if catch_unwind(AssertUnwindSafe(|| engine.handle(now, input))).is_err() {
                self.recover();
            }
            self.drain_outputs();
        }
    }

    /// The engine panicked: the calls concerned end, the others go on.
    fn recover(&mut self) {
        self.context.metrics.dropped("engine_panic");
        error!(
            event = "engine_panic",
            "the engine panicked over one input; its calls are ended, others go on"
        );
        let engine = &mut self.engine;
        for _ in 0..RECOVERIES_MAX {
            if catch_unwind(AssertUnwindSafe(|| engine.recover(Instant::now()))).is_ok() {
                return;
            }
        }
        self.context.metrics.dropped("engine_panic_unrecovered");
    }

    pub(super) fn drain_outputs(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Send { flow, bytes } => self.send(flow, bytes),
                Output::Close { flow } => self.close(flow),
                Output::Connect { connect, target } => self.connect(connect, &target),
                Output::Resolve { query, question } => self.resolve(query, question),
                Output::Media(command) => self.command_media(command),
                Output::Told(news) => {
                    for shard in self.others() {
                        self.post(shard, Errand::Answer(Box::new(Input::Told(news.clone()))));
                    }
                }
                Output::Event(event) => self.report(event),
            }
        }
    }

    // --- messages and flows ------------------------------------------------------------------------------------

    /// A message was read from a flow of ours.
    pub(super) fn on_message(&mut self, flow: FlowKey, bytes: Bytes, since: Instant) {
        let shard = self.sharding.shard_of(&bytes);
        if shard == self.number {
            self.place(flow, bytes, since);
        } else {
            self.post(shard, Errand::Message { flow, bytes, since });
        }
    }

    /// A message whose Call-ID leads to this shard, whoever read it.
    pub(super) fn place(&mut self, flow: FlowKey, bytes: Bytes, since: Instant) {
        if self.sharding.is_single() {
            return self.take_message(flow, bytes);
        }
        let holder = self.holder(flow, &bytes);
        if holder == self.number {
            self.take_held(flow, bytes);
        } else {
            self.post(holder, Errand::Held { flow, bytes, since });
        }
    }

    /// Who holds the call of such a message. An INVITE with Replaces moves its Call-ID to the shard of the dialog it
    /// names, unless that would cut off a dialog of ours.
    fn holder(&self, flow: FlowKey, bytes: &Bytes) -> u16 {
        let Some(call_id) = call_id_of(bytes) else { return self.number };
        if let Some(holder) = self.adopted.follow(call_id) {
            return holder;
        }
        let Some(Names::Joins(named)) = Names::of(bytes, &self.context.limits.message) else {
            return self.number;
        };
        let holder = self.holder_of_dialog(&named);
        let is_fixed = self.sharding.is_own(call_id) || self.engine.knows_call_id(call_id);
        if holder == self.number || is_fixed || !self.engine.is_of_peer(flow) {
            return self.number;
        }
        if self.adopted.adopt(call_id, holder).is_err() {
            self.context.metrics.dropped("replaces_not_followed");
            return self.number;
        }
        self.context.metrics.event("replaces_followed");
        holder
    }

    fn holder_of_dialog(&self, call_id: &[u8]) -> u16 {
        self.adopted.holder_of(call_id).unwrap_or_else(|| self.sharding.shard_of_call_id(call_id))
    }

    /// A message of a call that this shard holds. What a REFER names may be held by another.
    pub(super) fn take_held(&mut self, flow: FlowKey, bytes: Bytes) {
        if let Some(Names::Refers(named)) = Names::of(&bytes, &self.context.limits.message) {
            let holder = self.holder_of_dialog(&named);
            if holder != self.number && self.engine.is_of_peer(flow) {
                self.lines.passed(Way::In, flow, &bytes);
                return self.post(holder, Errand::Name { flow, bytes, asker: self.number });
            }
        }
        self.take_message(flow, bytes);
    }

    /// Another shard has a REFER that names a dialog which may be ours.
    pub(super) fn name(&mut self, flow: FlowKey, bytes: Bytes, asker: u16) {
        let named = self.engine.name_dialog(flow, &bytes);
        self.post(asker, Errand::Answer(Box::new(Input::Referred { flow, bytes, named })));
    }

    /// Call-IDs that this shard adopted and knows no longer are forgotten.
    pub(super) fn sweep_adopted(&self, now: Instant) {
        self.adopted.sweep(now, self.number, |call_id| self.engine.knows_call_id(call_id));
    }

    /// A message of one of our calls.
    pub(super) fn take_message(&mut self, flow: FlowKey, bytes: Bytes) {
        self.lines.passed(Way::In, flow, &bytes);
        self.feed(Input::Message { flow, bytes });
    }

    fn send(&mut self, flow: FlowKey, bytes: Bytes) {
        self.lines.passed(Way::Out, flow, &bytes);
        let shard = shard_of_flow(flow);
        if shard == self.number {
            self.send_own(flow, &bytes);
        } else {
            self.post(shard, Errand::Send { flow, bytes });
        }
    }

    /// To a flow of ours.
    pub(super) fn send_own(&mut self, flow: FlowKey, bytes: &Bytes) {
        if let Err(fault) = self.slots.send(flow, bytes, &self.ports) {
            self.context.metrics.dropped("unsent");
            if fault == SendFault::SlowReader {
                self.context.metrics.dropped("slow_reader");
                self.slots.remove(flow);
                self.tell_down(flow, FlowLoss::Error);
            }
        }
    }

    fn close(&mut self, flow: FlowKey) {
        let shard = shard_of_flow(flow);
        if shard == self.number {
            self.close_own(flow);
        } else {
            self.post(shard, Errand::Close(flow));
        }
    }

    /// Lets what waits leave, then closes.
    pub(super) fn close_own(&mut self, flow: FlowKey) {
        match self.slots.connection(flow) {
            Some(connection) if connection.is_open() => {
                connection.leave(Instant::now(), Leave::AtOnce);
                self.slots.arm(flow, &self.context.limits);
                self.slots.touch(flow);
                self.tell_down(flow, FlowLoss::ClosedByUs);
            }
            Some(_) => {}
            None => {
                if self.slots.remove(flow).is_some() {
                    self.tell_down(flow, FlowLoss::ClosedByUs);
                }
            }
        }
    }

    /// A flow of ours can be used: every shard learns of it.
    pub(super) fn up(&mut self, standing: Standing) {
        let (facts, opened) = (standing.facts.clone(), standing.opened);
        let flow = facts.key;
        self.context.flows.enter(standing.clone());
        for shard in self.others() {
            self.post(shard, Errand::Up { facts: Box::new(facts.clone()), inbound: opened });
        }
        self.learn(facts, opened);
        // Others may have come into force during the handshake.
        if self.context.is_refused_already(&standing) {
            self.retire(flow, Newcomers::Refused);
        }
    }

    /// A flow can be used, whoever owns it.
    pub(super) fn learn(&mut self, facts: FlowFacts, opened: Opened) {
        self.lines.up(&facts);
        let origin = match opened {
            Opened::ByPeer => Origin::Inbound,
            Opened::ByUs => Origin::Outbound(NOBODYS_WISH),
        };
        self.feed(flow_up(facts, origin));
    }

    /// A flow of ours carries no more messages: every shard learns of it.
    pub(super) fn tell_down(&mut self, flow: FlowKey, why: FlowLoss) {
        self.context.flows.leave(flow);
        self.context.outgoing.down(flow);
        self.context.retiring.end(flow);
        for shard in self.others() {
            self.post(shard, Errand::Down { flow, why });
        }
        self.lines.down(flow);
        self.pending.push_back(Input::FlowDown { flow, why });
    }

    /// As [`Pump::tell_down`], from outside the engine's turn.
    pub(super) fn down(&mut self, flow: FlowKey, why: FlowLoss) {
        self.tell_down(flow, why);
        self.settle();
    }

    /// A flow of another shard is gone.
    pub(super) fn forget(&mut self, flow: FlowKey, why: FlowLoss) {
        self.lines.down(flow);
        self.feed(Input::FlowDown { flow, why });
    }

    // --- other shards ------------------------------------------------------------------------------------------

    fn others(&self) -> impl Iterator<Item = u16> + use<> {
        let (own, count) = (self.number, self.context.shards.len());
        (0..u16::try_from(count).unwrap_or(u16::MAX)).filter(move |shard| *shard != own)
    }

    fn post(&mut self, shard: u16, errand: Errand) {
        let (Some(inbox), Some(backlog)) =
            (self.context.shards.get(usize::from(shard)), self.backlog.get_mut(usize::from(shard)))
        else {
            return;
        };
        let errand = match backlog.is_empty() {
            false => errand,
            true => match inbox.offer(errand) {
                Err(TrySendError::Full(errand)) => errand,
                // A shard that has ended needs nothing any more.
                Ok(()) | Err(TrySendError::Closed(_)) => return,
            },
        };
        if backlog.len() < BACKLOG_MAX {
            backlog.push_back(errand);
        } else {
            self.context.metrics.dropped("shard_queue_full");
        }
    }

    /// Tries again what found a full inbox; `true`: something still waits, so nothing more should be read.
    pub(super) fn retry_posts(&mut self) -> bool {
        let mut waits = false;
        for (inbox, backlog) in self.context.shards.iter().zip(&mut self.backlog) {
            while let Some(errand) = backlog.pop_front() {
                if let Err(TrySendError::Full(errand)) = inbox.offer(errand) {
                    backlog.push_front(errand);
                    waits = true;
                    break;
                }
            }
        }
        waits
    }

    // --- outgoing connections and names ------------------------------------------------------------------------

    fn connect(&mut self, connect: ConnectKey, target: &Target) {
        if target.transport == Transport::Udp {
            return self.connect_udp(connect, target);
        }
        let endpoint = Endpoint::from(target);
        let context = &self.context;
        let is_open = |flow| context.flows.is_open(flow);
        match context.outgoing.wish((self.number, connect), &endpoint, is_open) {
            Wish::Reuse(facts) => self.pending.push_back(flow_up(facts, Origin::Outbound(connect))),
            Wish::Dial => {
                if let Some(inbox) = context.shards.get(usize::from(self.number)) {
                    context.runtime.spawn(net::open(context.clone(), inbox.clone(), endpoint));
                }
            }
            Wish::Wait => {}
            Wish::Refuse => self.fail_connect(connect, "too many calls wait for this connection"),
        }
    }

    fn connect_udp(&mut self, connect: ConnectKey, target: &Target) {
        let family = |port: &UdpPort| port.local.is_ipv4() == target.address.is_ipv4();
        let remote = (target.address, target.port).into();
        let found = self.ports.iter().position(family).and_then(|at| {
            let port = self.ports.get_mut(at)?;
            let found = port.flow(Instant::now(), at, remote, &mut self.slots, &self.context.limits)?;
            Some((found, port.local))
        });
        match found {
            Some((Found::New(facts), _)) => {
                let standing = Standing { facts: facts.clone(), opened: Opened::ByUs, tls: None };
                self.context.flows.enter(standing);
                self.pending.push_back(flow_up(facts, Origin::Outbound(connect)));
            }
            Some((Found::Old(key), local)) => {
                let peer = b2bua::engine::PeerIdentity::Address;
                let facts = FlowFacts { key, transport: Transport::Udp, local, remote, peer, made_for: None };
                self.pending.push_back(flow_up(facts, Origin::Outbound(connect)));
            }
            None => self.fail_connect(connect, "no UDP listener of that address family"),
        }
    }

    fn fail_connect(&mut self, connect: ConnectKey, detail: &str) {
        let why = ConnectFailure { kind: ConnectFailureKind::Local, detail: detail.to_owned() };
        self.pending.push_back(Input::ConnectFailed { connect, why });
    }

    /// A connection that this shard dialled stands.
    pub(super) fn dialled(
        &mut self,
        endpoint: Endpoint,
        mut standing: Standing,
        credentials: Option<Box<Credentials>>,
    ) {
        standing.facts.made_for = Some(endpoint.name.clone());
        let facts = standing.facts.clone();
        let flow = facts.key;
        let credentials: Option<Arc<Credentials>> = credentials.map(Arc::from);
        let waiting = self.context.outgoing.connected(endpoint.clone(), facts.clone(), credentials.clone());
        self.up(standing);
        for (shard, connect) in waiting {
            if shard == self.number {
                self.feed(flow_up(facts.clone(), Origin::Outbound(connect)));
            } else {
                self.post(shard, Errand::Connected { connect, facts: Box::new(facts.clone()) });
            }
        }
        // Others may have come into force during the handshake.
        let retired = credentials.and_then(|credentials| self.context.retire(&endpoint, flow, &credentials));
        if let Some(newcomers) = retired {
            self.retire(flow, newcomers);
        }
    }

    /// Nothing of ours begins on that flow any more, and nothing of its peer's if that is refused.
    pub(super) fn retire(&mut self, flow: FlowKey, newcomers: Newcomers) {
        if shard_of_flow(flow) == self.number {
            for shard in self.others() {
                self.post(shard, Errand::Retire(flow, newcomers));
            }
        }
        self.feed(Input::FlowRetired { flow, newcomers });
    }

    /// Retired connections of ours that nobody uses any more are closed.
    fn close_retired(&mut self, now: Instant) {
        for flow in self.context.retiring.all() {
            let holds = if self.engine.is_using(flow) { Holds::Something } else { Holds::Nothing };
            let shards = self.context.shards.len();
            let is_done = self.context.retiring.is_done(now, flow, self.number, shards, holds);
            if is_done && shard_of_flow(flow) == self.number {
                self.close_own(flow);
                self.settle();
            }
        }
    }

    /// It does not.
    pub(super) fn dial_failed(&mut self, endpoint: &Endpoint, why: &ConnectFailure) {
        for (shard, connect) in self.context.outgoing.failed(endpoint) {
            let why = why.clone();
            if shard == self.number {
                self.feed(Input::ConnectFailed { connect, why });
            } else {
                self.post(shard, Errand::ConnectFailed { connect, why });
            }
        }
    }

    fn resolve(&mut self, query: QueryKey, question: Question) {
        match self.context.lookups.ask(Instant::now(), (self.number, query), &question) {
            Asked::Ask => {
                self.context.runtime.spawn(look_up(self.context.clone(), question));
            }
            Asked::Wait => {}
            Asked::Failed(why) => self.pending.push_back(Input::Resolved { query, result: Err(why) }),
            Asked::Refuse(why) => {
                self.context.metrics.dropped("lookups_over_limit");
                self.pending.push_back(Input::Resolved { query, result: Err(why) });
            }
        }
    }

    // --- media -------------------------------------------------------------------------------------------------

    fn command_media(&mut self, command: MediaCommand) {
        let (media, shard) = (&self.media, self.number);
        let (call, outcome) = match command {
            MediaCommand::Allocate { call } => {
                let kept = self.keeping.as_mut().and_then(|keeping| keeping.allocates(call));
                let allocated = media.allocate((shard, call));
                let kept = kept.map_or(Ok(()), |number| media.keep((shard, call), number));
                if let Err(problem) = allocated.and(kept) {
                    warn!(%problem, "no media ports");
                    let result = Err(MediaFailure::Unavailable);
                    self.pending.push_back(Input::MediaReady { call, result });
                }
                return;
            }
            MediaCommand::Apply { call, plan } => (call, media.apply((shard, call), plan)),
            MediaCommand::Press { call, side, digit, lasts } => {
                (call, media.press((shard, call), media::Press { side, digit, lasts }))
            }
            MediaCommand::Release { call } => (call, media.release((shard, call))),
        };
        if let Err(problem) = outcome {
            error!(%problem, call = call.as_u64(), "the media threads do not listen");
            self.pending.push_back(Input::Command(Command::HangUp(call)));
        }
    }

    /// The media threads report.
    pub(super) fn on_media(&mut self, report: MediaReport<MediaKey>) {
        match report {
            MediaReport::Ready { call: (_, call), result } => {
                let result = result.map(ports).map_err(media_failure);
                self.feed(Input::MediaReady { call, result });
            }
            MediaReport::Fact { call: (_, call), fact, stats } => {
                self.feed(Input::MediaFact { call, fact, stats: Some(stats) });
            }
            MediaReport::PlanRefused { call: (_, call), error } => {
                warn!(%error, call = call.as_u64(), "media plan refused, ending the call");
                self.feed(Input::Command(Command::HangUp(call)));
            }
            MediaReport::Failed { call: (_, call) } => {
                error!(call = call.as_u64(), "media of a call failed, ending the call");
                self.feed(Input::Command(Command::HangUp(call)));
            }
            MediaReport::Released { call: (_, call), stats } => {
                if let Some(record) = self.held.complete(call, &stats) {
                    self.report_ended(Some(call), *record);
                    self.tell_drained();
                }
            }
        }
    }

    // --- facts and wishes --------------------------------------------------------------------------------------

    fn report(&mut self, event: Event) {
        match event {
            Event::CallEnded { call: Some(call), record } => self.held.hold(Instant::now(), call, record),
            Event::CallEnded { call: None, record } => self.report_ended(None, *record),
            Event::Drained => {
                self.over = Over::Yes;
                self.reporter.report(Event::Drained);
                self.tell_drained();
            }
            other => {
                if let (Event::CallStarted(started), Some(keeping)) = (&other, &mut self.keeping) {
                    keeping.starts(started);
                }
                self.reporter.report(other);
            }
        }
    }

    pub(super) fn report_ended(&mut self, call: Option<CallKey>, mut record: CallRecord) {
        if let Some(keeping) = &mut self.keeping {
            keeping.ended(call, &mut record);
        }
        self.reporter.report(Event::CallEnded { call: None, record: Box::new(record) });
    }

    /// A drain is over when the last call is, and its record is out.
    pub(super) fn tell_drained(&self) {
        if matches!(self.over, Over::Yes) && self.held.is_empty() {
            self.drained.send_replace(true);
        }
    }

    /// A wish of the gateway's owner; stopping is the loop's business.
    pub(super) fn on_control(&mut self, control: Control) {
        match control {
            Control::Policy(policy) => self.feed(Input::Policy(policy)),
            Control::Drain { until } => self.feed(Input::Drain { until }),
            Control::HangUp(call) => self.feed(Input::Command(Command::HangUp(call))),
            Control::Server { name, wish } => self.feed(Input::Command(Command::Server { name, wish })),
            Control::Status(answer) => {
                // Whoever asked may have left.
                let _left = answer.send(self.engine.status());
            }
            Control::Gauges(answer) => {
                let _left = answer.send(self.engine.gauges());
            }
            Control::Stop => {}
        }
    }

    /// A few times a second: gauges, late records, the end of a drain.
    pub(super) fn on_tick(&mut self) {
        for (call, record) in self.held.overdue(Instant::now()) {
            self.report_ended(Some(call), record);
        }
        self.close_retired(Instant::now());
        let gauges = self.engine.gauges();
        self.context.metrics.shard(usize::from(self.number), &gauges, self.slots.len());
        if gauges.draining && gauges.calls == 0 {
            self.over = Over::Yes;
            self.tell_drained();
        }
    }
}

/// Looks a name up for all who ask meanwhile.
async fn look_up(context: Arc<NetContext>, question: Question) {
    let (locating, asked) = (context.clone(), question.clone());
    let located = context.runtime.spawn(async move { locating.locator.locate(&asked).await }).await;
    // A fault in the resolver must not leave the others waiting for ever.
    let result = located.unwrap_or_else(|fault| {
        let detail = format!("looking {} up failed: {fault}", question.name);
        Err(ResolveFailure { kind: ResolveFailureKind::Failed, detail })
    });
    for (shard, query) in context.lookups.answered(Instant::now(), &question, &result) {
        let Some(inbox) = context.shards.get(usize::from(shard)) else { continue };
        let answer = Input::Resolved { query, result: result.clone() };
        // A shard that has ended asks nothing.
        let _ended = inbox.send(Errand::Answer(Box::new(answer))).await;
    }
}

/// As the engine wants it.
pub(super) fn flow_up(facts: FlowFacts, origin: Origin) -> Input {
    let FlowFacts { key, transport, local, remote, peer, made_for } = facts;
    Input::FlowUp(FlowUp { key, transport, local, remote, peer, origin, made_for })
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
