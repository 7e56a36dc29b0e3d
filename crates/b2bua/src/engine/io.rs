//! What goes into the engine and what comes out. Owns the vocabulary shared with the shell and
//! nothing else: no behaviour, no socket, no clock. A shell feeds one [`Input`], then drains
//! [`Output`] until none is left.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sip::{FlowKey, Transport};

use super::deposits::Deposit;
use super::ledger::{Ledger, OneShard};
use super::replaces::NamedDialog;
use crate::codes::Code;
use crate::health::{DoorHealth, Probed};
use crate::policy::{Policy, PortSource, ServerRole};
use crate::record::CallRecord;
use crate::server_choice::{CHANGES_MAX, Change};

/// The same change, reported by several shards.
const SAME_CHANGE: Duration = Duration::from_secs(1);

slotmap::new_key_type! {
    /// One call in the engine's table (index and generation).
    pub struct CallKey;
}

impl CallKey {
    /// The key as one number, for logs, admin commands and media tables.
    pub fn as_u64(self) -> u64 {
        slotmap::Key::data(&self).as_ffi()
    }

    /// The key behind a number made by [`CallKey::as_u64`]; a stale number simply finds no call.
    pub fn from_u64(value: u64) -> Self {
        slotmap::KeyData::from_ffi(value).into()
    }
}

/// One wish for a connection; answered by `FlowUp` or `ConnectFailed`.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
pub struct ConnectKey(pub u64);

/// One question for name resolution; answered by `Resolved`.
#[derive(Copy, Clone, Eq, PartialEq, Hash, Ord, PartialOrd, Debug)]
pub struct QueryKey(pub u64);

/// How an engine is set up for its whole life.
#[derive(Clone)]
pub struct EngineConfig {
    /// Seed of tags, branches, Call-IDs and hash tables.
    pub seed: u64,
    /// Seed of SRTP master keys: 32 bytes from the system's generator in production.
    pub key_seed: [u8; 32],
    /// Which shard this engine is; carried by every B-leg Call-ID.
    pub shard: u16,
    /// How many shards the gateway has.
    pub shards: u16,
    /// When the engine starts; every time in a record is counted from here.
    pub started: Instant,
    /// Timers of RFC 3261.
    pub timers: sip::TimerConfig,
    /// Limits on one message.
    pub limits: sip::Limits,
    /// Counts shared with the other shards of the gateway.
    pub ledger: Arc<dyn Ledger>,
    /// Product token for the Server header, for example `Umbra/0.1.0`.
    pub product: String,
}

impl EngineConfig {
    /// Default timers and limits.
    pub fn new(seed: u64, key_seed: [u8; 32], started: Instant) -> Self {
        Self {
            seed,
            key_seed,
            shard: 0,
            shards: 1,
            started,
            timers: sip::TimerConfig::default(),
            limits: sip::Limits::default(),
            ledger: Arc::new(OneShard),
            product: String::from("Umbra"),
        }
    }
}

/// What the transport layer knows about the far end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PeerIdentity {
    /// Mutual TLS: the names of the verified certificate, SAN first.
    Verified {
        /// dNSNames (or the subject CN when there is none).
        names: Vec<String>,
    },
    /// Plain TCP or UDP: only the remote address is known.
    Address,
}

/// Why there is a flow.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// The peer connected to us (or sent us a datagram).
    Inbound,
    /// Answers [`Output::Connect`]; an existing flow may be answered again.
    Outbound(ConnectKey),
}

/// A flow that can be used.
#[derive(Clone, Debug)]
pub struct FlowUp {
    /// The shell's handle; the same handle comes again when a flow is reused. The highest bit is the engine's own.
    pub key: FlowKey,
    /// What it runs over.
    pub transport: Transport,
    /// Our end.
    pub local: SocketAddr,
    /// Their end.
    pub remote: SocketAddr,
    /// Who that is.
    pub peer: PeerIdentity,
    /// Who opened it.
    pub origin: Origin,
    /// The name we opened it for; known to all shards, and after the wish for it is gone.
    pub made_for: Option<String>,
}

/// Why a flow ended.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum FlowLoss {
    /// The peer closed it in order.
    ClosedByPeer,
    /// We closed it.
    ClosedByUs,
    /// Reset, broken pipe, TLS alert.
    Error,
    /// Nothing came for too long.
    Idle,
}

/// Why no connection could be made.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum ConnectFailureKind {
    /// Nobody listens there.
    Refused,
    /// No answer in time.
    Timeout,
    /// No route.
    Unreachable,
    /// The certificate is for another name.
    TlsName,
    /// The certificate does not chain to a trusted root, or is out of date.
    TlsChain,
    /// Any other failed handshake.
    TlsOther,
    /// We lack something (files, certificate, listener).
    Local,
}

/// A connection that did not come to be.
#[derive(Clone, Debug)]
pub struct ConnectFailure {
    /// The sort of failure.
    pub kind: ConnectFailureKind,
    /// The system's words.
    pub detail: String,
}

/// UDP ports the media workers reserved for a call.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct MediaPorts {
    /// Toward the caller, RTP.
    pub a_rtp: u16,
    /// Toward the caller, RTCP.
    pub a_rtcp: u16,
    /// Toward the callee, RTP.
    pub b_rtp: u16,
    /// Toward the callee, RTCP.
    pub b_rtcp: u16,
}

impl MediaPorts {
    /// No ports: media goes from peer to peer.
    pub(crate) const NONE: Self = Self { a_rtp: 0, a_rtcp: 0, b_rtp: 0, b_rtcp: 0 };
}

/// Why no media ports were given.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum MediaFailure {
    /// Every port of the range is in use or resting.
    NoPorts,
    /// The media workers are gone or full.
    Unavailable,
}

/// Admin commands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// End this call on both legs.
    HangUp(CallKey),
    /// Whether that UM server gets new calls, whatever the configuration says.
    Server {
        /// FQDN.
        name: String,
        /// What is wanted.
        wish: crate::policy::ServerStatus,
    },
}

/// Whether the peer of a retired flow may still begin something there.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Newcomers {
    /// It may.
    Served,
    /// It would not be let in any more.
    Refused,
}

/// One thing that happened.
pub enum Input {
    /// A flow can be used.
    FlowUp(FlowUp),
    /// A flow is gone.
    FlowDown {
        /// Which.
        flow: FlowKey,
        /// Why.
        why: FlowLoss,
    },
    /// What has not begun yet goes over another flow; what is on this one stays.
    FlowRetired {
        /// Which.
        flow: FlowKey,
        /// What becomes of requests with which its peer would begin something.
        newcomers: Newcomers,
    },
    /// Answer to [`Output::Connect`].
    ConnectFailed {
        /// Which wish.
        connect: ConnectKey,
        /// Why not.
        why: ConnectFailure,
    },
    /// One framed SIP message or datagram.
    Message {
        /// Where it came from.
        flow: FlowKey,
        /// Its bytes.
        bytes: Bytes,
    },
    /// A REFER that names a dialog of another shard, with what that shard knows about it.
    Referred {
        /// Where it came from.
        flow: FlowKey,
        /// Its bytes.
        bytes: Bytes,
        /// See [`Engine::name_dialog`](super::Engine::name_dialog).
        named: NamedDialog,
    },
    /// Answer to [`Output::Resolve`].
    Resolved {
        /// Which question.
        query: QueryKey,
        /// Addresses and ports in the order they are to be tried, or why there is none.
        result: Result<Vec<SocketAddr>, ResolveFailure>,
    },
    /// Answer to [`MediaCommand::Allocate`].
    MediaReady {
        /// Whose.
        call: CallKey,
        /// The ports.
        result: Result<MediaPorts, MediaFailure>,
    },
    /// A media session reports.
    MediaFact {
        /// Whose.
        call: CallKey,
        /// What.
        fact: relay::Fact,
        /// Counters at that moment.
        stats: Option<Box<relay::SessionStats>>,
    },
    /// A new compiled configuration; calls keep the one they started with.
    Policy(Arc<Policy>),
    /// What another shard found out: see [`Output::Told`].
    Told(News),
    /// An administrator's wish.
    Command(Command),
    /// Take no new calls; hang up the rest at `until` (never, when `None`).
    Drain {
        /// When patience ends.
        until: Option<Instant>,
    },
    /// How long work had to wait for its turn lately, at least: the sign of overload.
    QueueWait(Duration),
    /// The deadline of `poll_deadline` has come.
    Timeout,
}

/// A name to be located (RFC 3263 §4.2).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Question {
    /// The name; never an address in text form unless one was configured so.
    pub name: String,
    /// Over what it will be reached.
    pub transport: Transport,
    /// The port when no SRV record names another.
    pub port: u16,
    /// Whether SRV records are asked for.
    pub port_source: PortSource,
}

/// Why a name led nowhere.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ResolveFailure {
    /// The sort of failure.
    pub kind: ResolveFailureKind,
    /// The resolver's words.
    pub detail: String,
}

/// Why a name led nowhere.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum ResolveFailureKind {
    /// There is no such name, or it has no address.
    NoAddress,
    /// No name server answered in time.
    Silent,
    /// The answer was an error, or the question could not be asked.
    Failed,
}

/// Where to connect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// The name the certificate must carry (and the key of connection reuse).
    pub name: String,
    /// Where.
    pub address: IpAddr,
    /// Where.
    pub port: u16,
    /// Over what.
    pub transport: Transport,
}

/// What one shard found out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum News {
    /// About a UM server, by a probe.
    Probed(Probed),
    /// By a call that failed there.
    Failed {
        /// Which server.
        server: String,
        /// Why.
        why: String,
    },
    /// By a call that was answered there.
    Answered {
        /// Which server.
        server: String,
    },
    /// UM takes a message in a call of that shard, or has taken it.
    Deposit {
        /// Whose call.
        shard: u16,
        /// Which.
        call: CallKey,
        /// `None`: it is over.
        deposit: Option<Deposit>,
    },
}

/// A wish to the media workers.
pub enum MediaCommand {
    /// Reserve ports for a call.
    Allocate {
        /// Whose.
        call: CallKey,
    },
    /// Start or change its session.
    Apply {
        /// Whose.
        call: CallKey,
        /// The new plan.
        plan: Box<relay::Plan>,
    },
    /// Send a digit as an event.
    Press {
        /// Whose.
        call: CallKey,
        /// To which side.
        side: relay::Side,
        /// Which one.
        digit: relay::Digit,
        /// For how long.
        lasts: Duration,
    },
    /// Stop and free everything. Sent exactly once per `Allocate`.
    Release {
        /// Whose.
        call: CallKey,
    },
}

/// One wish of the engine to the outside world.
pub enum Output {
    /// Write these bytes to that flow.
    Send {
        /// Where.
        flow: FlowKey,
        /// What.
        bytes: Bytes,
    },
    /// Close that flow.
    Close {
        /// Which.
        flow: FlowKey,
    },
    /// Find or make a flow; answered by `FlowUp` (Outbound) or `ConnectFailed`.
    Connect {
        /// Handle of the wish.
        connect: ConnectKey,
        /// To whom.
        target: Target,
    },
    /// Look a name up; answered by `Resolved`.
    Resolve {
        /// Handle of the question.
        query: QueryKey,
        /// The question.
        question: Question,
    },
    /// For the media workers.
    Media(MediaCommand),
    /// For all other shards; answered by nobody. Only where there are any.
    Told(News),
    /// A fact for logs, records and metrics.
    Event(Event),
}

/// A call begins: routed and admitted.
#[derive(Clone, Debug)]
pub struct CallStarted {
    /// Whose.
    pub call: CallKey,
    /// Call-ID of the caller's leg.
    pub call_id: String,
    /// The UM IP gateway it came from.
    pub ip_gateway: String,
    /// Its dial plan.
    pub dial_plan: String,
    /// Caller, as a URI.
    pub caller: String,
    /// Called, as a URI.
    pub called: String,
    /// Over what it came.
    pub transport: Transport,
}

/// The caller has our 200.
#[derive(Clone, Debug)]
pub struct CallAnswered {
    /// Whose.
    pub call: CallKey,
    /// Call-ID of the caller's leg.
    pub call_id: String,
    /// Call-ID of our leg to the server.
    pub b_call_id: String,
    /// Who answered.
    pub server: String,
    /// From INVITE to 200.
    pub setup: Duration,
}

/// What a server or a pool wants a user to know.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Notification {
    /// Messages wait, or no longer (MWI).
    MessageWaiting,
    /// Somebody called and left nothing.
    MissedCall,
}

/// What became of a notification.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Delivery {
    /// The far end took it.
    Delivered,
    /// The far end refused it.
    Rejected,
    /// The far end could not be reached, or did not answer.
    Failed,
    /// This gateway refused it.
    Refused,
    /// A missed call was recorded here; UM tells the user, if it does.
    Recorded,
    /// A missed call was recorded here; the mailbox's Exchange version tells nobody.
    Unavailable,
}

impl Delivery {
    /// As a label of metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Recorded => "recorded",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A notification, at its end.
#[derive(Clone, Debug)]
pub struct Notified {
    /// What it was about.
    pub notification: Notification,
    /// What became of it.
    pub delivery: Delivery,
    /// Configured name of who sent it; of the UM IP gateway for a missed call that was recorded here.
    pub from: String,
    /// Configured name of who was to get it; empty where that was not found out.
    pub to: String,
    /// Whom it concerns, cleaned.
    pub user: String,
    /// Why it was refused or failed.
    pub code: Option<Code>,
    /// One sentence, cleaned.
    pub what: String,
}

/// One fact. Log line, metric and record derive from it in one place, in the shell.
pub enum Event {
    /// A call begins.
    CallStarted(Box<CallStarted>),
    /// A call was answered.
    CallAnswered(Box<CallAnswered>),
    /// A call is over, with its verdict; exactly one per INVITE that opened a call.
    CallEnded {
        /// Whose, when it had media ports; the shell adds the final counters once they are released.
        call: Option<CallKey>,
        /// What is kept of it.
        record: Box<CallRecord>,
    },
    /// A leg lost its connection and has something to send: its next hop is looked for. Once per leg and loss.
    LegRerouted {
        /// Whose.
        call: CallKey,
        /// Call-ID of the leg.
        call_id: String,
        /// Who is to be reached.
        peer: String,
        /// Name, port and transport of the next hop.
        next_hop: String,
        /// How.
        way: Way,
    },
    /// A notification came to its end.
    Notified(Box<Notified>),
    /// An offer inside a call was refused here; the call goes on as it was.
    OfferRefused {
        /// Whose.
        call: CallKey,
        /// Why.
        code: Code,
        /// One sentence, cleaned.
        what: String,
    },
    /// A redirect is followed.
    Redirected {
        /// Whose.
        call: CallKey,
        /// Who redirected.
        from: String,
        /// To whom.
        to: String,
    },
    /// A server failed this call; the next is tried when there is one.
    ServerFailed {
        /// Whose.
        call: CallKey,
        /// Which server.
        server: String,
        /// Why.
        why: String,
    },
    /// New calls go to others before this server.
    ServerDown {
        /// Which, in lower case where a probe found out.
        server: String,
        /// What it does there.
        roles: Vec<ServerRole>,
        /// What became of it, and why.
        change: Change,
    },
    /// This server answered again.
    ServerUp {
        /// Which, in lower case where a probe found out.
        server: String,
        /// What it does there.
        roles: Vec<ServerRole>,
        /// How that is known.
        why: String,
    },
    /// A server is not asked in that role any more.
    ServerLeft {
        /// Which, in lower case.
        server: String,
        /// What it was here.
        role: ServerRole,
    },
    /// A server was asked by OPTIONS.
    ServerProbed {
        /// Where, when, and what came of it.
        probed: Probed,
        /// Nothing keeps calls from it in that role.
        is_up: bool,
    },
    /// Somebody who is no peer was refused.
    PeerRefused {
        /// From where.
        remote: SocketAddr,
        /// Certificate names, empty on plain transports.
        names: Vec<String>,
        /// Over what.
        transport: Transport,
    },
    /// A message was dropped without an answer, or refused before it had a call.
    Dropped {
        /// Counter name, in snake case.
        counter: &'static str,
        /// From where.
        remote: SocketAddr,
        /// What it was; control characters escaped.
        what: String,
    },
    /// A call was refused before anything of it was kept; beyond the first few in a second there is no record.
    Refused {
        /// Why.
        code: Code,
        /// Who called.
        remote: SocketAddr,
    },
    /// New calls are refused because work waits too long, or not any more.
    Overload {
        /// How long it waited.
        waited: Duration,
        /// Whether this is the beginning.
        begins: bool,
    },
    /// A media session changed (first packet, latch, silence).
    Media {
        /// Whose.
        call: CallKey,
        /// What.
        fact: String,
    },
    /// The last call of a drain is over.
    Drained,
    /// Something worth counting only.
    Counter(&'static str),
}

/// How a leg gets a connection again.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Way {
    /// One made for the same name was there.
    Existing,
    /// A new one is made.
    New,
}

/// How the engine stands.
#[derive(Clone, Debug, Default)]
pub struct EngineStatus {
    /// Calls in the table.
    pub calls: usize,
    /// Calls by state name.
    pub by_state: Vec<(&'static str, usize)>,
    /// Flows known; every shard knows those of all.
    pub flows: usize,
    /// Transactions the endpoint holds (client, server).
    pub transactions: (usize, usize),
    /// Timers pending in the engine's own table.
    pub timers: usize,
    /// Counters by name, in alphabetical order.
    pub counters: Vec<(&'static str, u64)>,
    /// Is a drain going on?
    pub draining: bool,
    /// Servers by name: calls now, down for how long still.
    pub servers: Vec<ServerStatus>,
    /// Live calls.
    pub call_list: Vec<CallStatus>,
}

impl EngineStatus {
    /// Puts another shard's beside this one.
    pub fn add(&mut self, other: Self) {
        self.calls += other.calls;
        merge(&mut self.by_state, other.by_state);
        self.flows = self.flows.max(other.flows);
        self.transactions.0 += other.transactions.0;
        self.transactions.1 += other.transactions.1;
        self.timers += other.timers;
        merge(&mut self.counters, other.counters);
        self.draining |= other.draining;
        for server in other.servers {
            match self.servers.iter_mut().find(|known| known.name == server.name) {
                // Both read the same count.
                Some(known) => {
                    known.down_until = known.down_until.max(server.down_until);
                    if known.doors.is_empty() {
                        known.doors = server.doors;
                    }
                    known.changes = both(std::mem::take(&mut known.changes), server.changes);
                }
                None => self.servers.push(server),
            }
        }
        self.call_list.extend(other.call_list);
    }
}

fn merge<N: std::ops::AddAssign>(into: &mut Vec<(&'static str, N)>, from: Vec<(&'static str, N)>) {
    for (name, count) in from {
        match into.binary_search_by_key(&name, |(known, _)| known) {
            Ok(at) => into[at].1 += count,
            Err(at) => into.insert(at, (name, count)),
        }
    }
}

/// One UM server as the engine sees it.
#[derive(Clone, Debug)]
pub struct ServerStatus {
    /// FQDN.
    pub name: String,
    /// Calls on it now.
    pub calls: usize,
    /// Left out of choice until then, for a failed call.
    pub down_until: Option<Instant>,
    /// Its doors that are probed.
    pub doors: Vec<(ServerRole, Transport, DoorHealth)>,
    /// What an operator wants, beside the configuration.
    pub wish: Option<crate::policy::ServerStatus>,
    /// Its last changes, oldest first.
    pub changes: Vec<Change>,
}

/// The changes of both, as one history: what an operator wished reached every shard.
fn both(mut own: Vec<Change>, others: Vec<Change>) -> Vec<Change> {
    for change in others {
        let is_same = |known: &Change| {
            let apart = known.at.max(change.at).saturating_duration_since(known.at.min(change.at));
            known.to == change.to && known.why == change.why && apart < SAME_CHANGE
        };
        if !own.iter().any(is_same) {
            own.push(change);
        }
    }
    own.sort_by_key(|change| change.at);
    own.drain(..own.len().saturating_sub(CHANGES_MAX));
    own
}

/// One live call.
#[derive(Clone, Debug)]
pub struct CallStatus {
    /// Which shard holds it.
    pub shard: u16,
    /// Handle for commands, of that shard.
    pub call: CallKey,
    /// Call-ID of the caller's leg.
    pub call_id: String,
    /// Name of its state.
    pub state: &'static str,
    /// Caller URI.
    pub caller: String,
    /// Called URI.
    pub called: String,
    /// Dial plan.
    pub dial_plan: String,
    /// Server, once one was chosen.
    pub server: String,
    /// When it began.
    pub since: Instant,
}

/// Why the engine wants to be woken.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Reason {
    /// A transaction timer of the endpoint.
    Sip(sip::TimerReason),
    /// A timer of one call.
    Call {
        /// Whose.
        call: CallKey,
        /// Which.
        timer: CallTimer,
    },
    /// A place that is looked for answered nothing in time.
    Reach,
    /// A UM server is to be asked by OPTIONS, or has not answered in time.
    Probe,
    /// The end of a drain's patience.
    DrainEnd,
}

/// The timers of a call.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd, Hash)]
pub enum CallTimer {
    /// Media ports must have come.
    MediaReady,
    /// The present step toward a server (resolve, connect, first answer).
    Step,
    /// All set-up together.
    Setup,
    /// The caller must hear something other than 100.
    Progress,
    /// `max_call_duration` of the dial plan.
    MaxDuration,
    /// Session expiry toward the caller (RFC 4028).
    SessionA,
    /// Session expiry toward the callee.
    SessionB,
    /// An offer inside the call must be answered.
    Reoffer,
    /// A peer that lost its connection has had its time to come back.
    Reconnect,
    /// The last wait for answers to BYE.
    Ending,
    /// A reliable 18x goes out again, or its PRACK never came (RFC 3262).
    Provisional,
    /// A transfer must be over, or looks again.
    Transfer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_shards_adds_up_and_what_they_share_counts_once() {
        #[allow(clippy::disallowed_methods)]
        let later = Instant::now();
        let server = |name: &str, down_until| ServerStatus {
            name: name.into(),
            calls: 5,
            down_until,
            doors: Vec::new(),
            wish: None,
            changes: Vec::new(),
        };
        let one = |servers| EngineStatus {
            calls: 3,
            by_state: vec![("dialing", 1), ("established", 2)],
            flows: 7,
            transactions: (4, 6),
            timers: 8,
            counters: vec![("overloads", 2)],
            servers,
            ..EngineStatus::default()
        };
        let mut all = one(vec![server("cas01", None)]);
        all.add(EngineStatus {
            by_state: vec![("ending", 1), ("established", 2)],
            flows: 9,
            draining: true,
            counters: vec![("forks", 1), ("overloads", 3)],
            ..one(vec![server("cas01", Some(later)), server("cas02", None)])
        });
        assert_eq!((all.calls, all.flows, all.transactions, all.timers), (6, 9, (8, 12), 16));
        assert_eq!(all.by_state, [("dialing", 1), ("ending", 1), ("established", 4)]);
        assert_eq!(all.counters, [("forks", 1), ("overloads", 5)]);
        assert!(all.draining);
        let servers: Vec<_> = all.servers.iter().map(|s| (s.name.as_str(), s.calls, s.down_until)).collect();
        assert_eq!(servers, [("cas01", 5, Some(later)), ("cas02", 5, None)]);
        all.add(EngineStatus::default());
        assert!(all.draining, "a shard that drains is not outvoted");
    }

    #[test]
    fn changes_of_several_shards_are_one_history_without_repetitions() {
        use crate::server_choice::Turn;
        #[allow(clippy::disallowed_methods)]
        let now = Instant::now();
        let change = |secs: u64, to, why: &str| Change {
            at: now + Duration::from_secs(secs),
            to,
            why: why.into(),
            last_good: None,
        };
        let own = vec![change(1, Turn::Resting, "refused"), change(9, Turn::Draining, "an operator")];
        let others = vec![change(9, Turn::Draining, "an operator"), change(5, Turn::Resting, "refused")];
        let told: Vec<_> = both(own, others).into_iter().map(|change| (change.at - now, change.to)).collect();
        let wanted = [(1, Turn::Resting), (5, Turn::Resting), (9, Turn::Draining)];
        assert_eq!(told, wanted.map(|(secs, to)| (Duration::from_secs(secs), to)));
        let many = (0..40).map(|number| change(number, Turn::Up, "it answered")).collect();
        assert_eq!(both(Vec::new(), many).len(), CHANGES_MAX);
    }
}
