//! How the gateway stands, put together when somebody asks: from the table of flows, the gauges of the engines, the certificates in
//! force and the counters. Owns what is told and its bounds; asks each signalling thread for its gauges and waits for none of
//! them long. Decides nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use b2bua::Policy;
use b2bua::engine::{self, EngineStatus, PeerIdentity};
use b2bua::policy::{GatewayStatus, Peer, Server, ServerRole, ServerStatus};

use tokio::sync::oneshot;
use tracing::info;

use super::wishes::Wishes;
use crate::media::MediaGauges;
use crate::net::{Chain, Control, Errand, Inbox, NetContext, Opened, Secured, Standing};
use crate::observe::{
    Calls, ChangedTo, Connections, Direction, FailedHandshakes, Health, LegacyAllowed, LegacyUsed, Ordered,
    Orders, OwnCertificate, Pages, PeerChange, PeerState, PeerStatus, Presented, ProbeStatus, Reload, Role,
    RtpPorts, ServerWish, Spoken, Status, Up, WeakUsed, calendar, reason, rfc3339,
};
use crate::tls::facts::CertificateFacts;
use crate::tls::{Agreed, Legacy, OurCertificate, TlsContext, Version};

/// Sorts of connections told of one peer; more are counted.
const SORTS_MAX: usize = 16;
/// Shards answer within this, all together; of one that does not, what it last told is taken.
const ANSWER_MAX: Duration = Duration::from_millis(500);
/// Failed handshakes that are told; all that are kept stand at `/tls/refusals`.
const FAILURES_SHOWN: usize = 5;
const SECONDS_PER_DAY: u64 = 24 * 3600;

/// Where everything is known.
pub(super) struct Source {
    pub(super) context: Arc<NetContext>,
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) health: Arc<Health>,
    pub(super) media: Arc<MediaGauges>,
    pub(super) wishes: Arc<Wishes>,
    pub(super) started: Instant,
}

/// An operator's wish reaches every shard, or none is told of: a full inbox is that of a shard that hangs.
fn tell(context: &NetContext, name: &str, wish: ServerWish) -> Ordered {
    let wish = match wish {
        ServerWish::Drain => ServerStatus::NoNewCalls,
        ServerWish::Enable => ServerStatus::Enabled,
        ServerWish::Disable => ServerStatus::Disabled,
    };
    let control = || Errand::Control(Control::Server { name: name.to_owned(), wish });
    let told: Vec<bool> = context.shards.iter().map(|shard| shard.offer(control()).is_ok()).collect();
    if told.into_iter().all(|told| told) { Ordered::Done } else { Ordered::Busy }
}

/// What makes connections alike.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Sort {
    direction: Direction,
    transport: &'static str,
    remote: String,
    spoken: Option<(u16, u16, &'static str)>,
    ending: bool,
    /// Where the one copy of the chain lies.
    chain: usize,
}

type Sorts = BTreeMap<Sort, (u64, Option<Chain>)>;

impl Source {
    /// For the admin endpoint.
    pub(super) fn pages(self) -> Pages {
        Pages {
            metrics: self.context.metrics.clone(),
            health: self.health.clone(),
            refusals: self.context.refusals.clone(),
            order: self.orders(),
            status: Arc::new({
                let source = Arc::new(self);
                move || Box::pin(source.clone().standing())
            }),
        }
    }

    // Many certificates are read when there are many connections, so that does not keep a thread of the runtime.
    async fn standing(self: Arc<Self>) -> Option<Status> {
        let engines = self.engines().await;
        tokio::task::spawn_blocking(move || self.status(engines)).await.ok()
    }

    /// A wish that was taken before stands in the answers: it went into the same inboxes.
    async fn engines(&self) -> EngineStatus {
        let until = tokio::time::Instant::now() + ANSWER_MAX;
        let ask = |shard: &Inbox| {
            let (answer, gauges) = oneshot::channel();
            // A full inbox answers nothing.
            let _full = shard.offer(Errand::Control(Control::Gauges(answer)));
            gauges
        };
        let asked: Vec<_> = self.context.shards.iter().map(ask).collect();
        let mut all = EngineStatus::default();
        for (shard, gauges) in asked.into_iter().enumerate() {
            match tokio::time::timeout_at(until, gauges).await {
                Ok(Ok(gauges)) => all.add(gauges),
                Ok(Err(_)) | Err(_) => all.add(self.context.metrics.engine(shard)),
            }
        }
        all
    }

    fn orders(&self) -> Arc<Orders> {
        let (policy, context, wishes) = (self.policy.clone(), self.context.clone(), self.wishes.clone());
        Arc::new(move |name, wish| {
            let policy = policy.load_full();
            let Some(Peer::Server(role, index)) = policy.server_by_name(name) else {
                return Ordered::Unknown;
            };
            let Some(server) = policy.servers(role).get(index) else { return Ordered::Unknown };
            info!(event = "server_wish", server = %server.name, wish = wish.word(), "an operator's wish");
            let ordered = tell(&context, &server.name, wish);
            if ordered == Ordered::Done {
                wishes.keep(&server.name, wish, server.status);
            }
            ordered
        })
    }

    /// Wishes from before a restart.
    pub(super) fn repeat_wishes(&self) {
        for (name, wish) in self.wishes.in_force(&self.policy.load()) {
            // The inboxes of threads that just began are empty.
            let _done = tell(&self.context, &name, wish);
        }
    }

    fn status(&self, engines: EngineStatus) -> Status {
        let (policy, now) = (self.policy.load_full(), SystemTime::now());
        let metrics = &self.context.metrics;
        let mut sorts = self.sorts(&policy);
        let calls = engines.calls as u64;
        let reload = |(at, up)| Reload { at: rfc3339(at), taken: up == Up::Yes };
        let pairs_in_use = 2 * self.media.calls() as u64;
        let refusals = self.context.refusals.all();
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            fqdn: policy.gateway.fqdn.clone(),
            uptime_secs: self.started.elapsed().as_secs(),
            draining: engines.draining || !self.health.is_ready(),
            last_reload: metrics.last_reload().map(reload),
            directory: metrics.directory(),
            calls: Calls {
                now: calls,
                allowed: policy.gateway.max_calls_allowed as u64,
                since_start: metrics.calls_ended() + calls,
                refused: counted(&engines, "calls_refused"),
            },
            rtp: RtpPorts {
                pairs: self.media.pairs() as u64,
                in_use: pairs_in_use,
                resting: self.media.resting() as u64,
            },
            peers: self.peers(&policy, &engines, &mut sorts, now),
            strangers: connections(sorts.remove(&None).unwrap_or_default(), now).0,
            failed_handshakes: FailedHandshakes {
                count: self.context.refusals.count(),
                last: refusals.into_iter().rev().take(FAILURES_SHOWN).rev().collect(),
            },
            keys_logged: crate::tls::keylog::path().is_some(),
            ..Status::default()
        };
        if let Some(tls) = self.context.tls.load_full() {
            self.tell_tls(&tls, now, &mut status);
        }
        drop(sorts);
        self.context.flows.sweep();
        status
    }

    fn tell_tls(&self, tls: &TlsContext, now: SystemTime, status: &mut Status) {
        let metrics = &self.context.metrics;
        status.certificates = tls.certificates().iter().map(|ours| own(ours, now)).collect();
        let words = |all: &[Legacy]| all.iter().map(|legacy| legacy.word().to_owned()).collect();
        let allowed = tls.legacy().iter();
        status.legacy_allowed =
            allowed.map(|(place, all)| LegacyAllowed { place: place.clone(), what: words(all) }).collect();
        status.weak_allowed = tls.weak_peers().map(str::to_owned).collect();
        for peer in tls.known_peers() {
            for what in Legacy::ALL.map(Legacy::word) {
                let handshakes = metrics.legacy_handshakes_of(&peer, what);
                if handshakes > 0 {
                    let (peer, what) = (peer.clone(), what.to_owned());
                    status.legacy_used.push(LegacyUsed { peer, what, handshakes });
                }
            }
            let handshakes = metrics.weak_certificates_of(&peer);
            if handshakes > 0 {
                status.weak_used.push(WeakUsed { peer, handshakes });
            }
        }
    }

    fn sorts(&self, policy: &Policy) -> BTreeMap<Option<Peer>, Sorts> {
        let mut sorts: BTreeMap<Option<Peer>, Sorts> = BTreeMap::new();
        for standing in self.context.flows.all() {
            // Datagrams of strangers share one flow, which leads nowhere.
            if standing.facts.remote.ip().is_unspecified() {
                continue;
            }
            let of_peer = sorts.entry(peer_of(policy, &standing)).or_default();
            let chain = standing.tls.as_ref().map(|tls| tls.chain.clone());
            let sort = Sort::of(&standing, self.context.retiring.has(standing.facts.key));
            of_peer.entry(sort).or_insert((0, chain)).0 += 1;
        }
        sorts
    }

    fn peers(
        &self,
        policy: &Policy,
        engines: &EngineStatus,
        sorts: &mut BTreeMap<Option<Peer>, Sorts>,
        now: SystemTime,
    ) -> Vec<PeerStatus> {
        let gateways = (0..policy.ip_gateways.len()).map(Peer::IpGateway);
        let of_role = |role| (0..policy.servers(role).len()).map(move |index| Peer::Server(role, index));
        let servers = ServerRole::ALL.into_iter().flat_map(of_role);
        let told = gateways.chain(servers).filter_map(|peer| {
            let mut status = match peer {
                Peer::IpGateway(index) => gateway(policy, index)?,
                Peer::Server(role, index) => server(policy.servers(role).get(index)?, role, engines),
            };
            let found = sorts.remove(&Some(peer)).unwrap_or_default();
            (status.connections, status.more_connections) = connections(found, now);
            Some(status)
        });
        told.collect()
    }
}

impl Sort {
    fn of(Standing { facts, opened, tls }: &Standing, ending: bool) -> Self {
        let spoken = |Secured { agreed: Agreed { version, suite }, backend, .. }: &Secured| {
            (*version, *suite, backend.word())
        };
        let (direction, remote) = match opened {
            Opened::ByPeer => (Direction::In, facts.remote.ip().to_canonical().to_string()),
            Opened::ByUs => (Direction::Out, SocketAddr::to_string(&facts.remote)),
        };
        Self {
            direction,
            transport: facts.transport.as_param(),
            remote,
            spoken: tls.as_ref().map(spoken),
            ending,
            chain: tls.as_ref().map_or(0, |tls| tls.chain.as_ptr().addr()),
        }
    }
}

/// Like beside like, at most `SORTS_MAX` sorts, and how many connections are left.
fn connections(sorts: Sorts, now: SystemTime) -> (Vec<Connections>, u64) {
    let mut sorts = sorts.into_iter();
    let told = |(sort, (count, chain)): (Sort, (u64, Option<Chain>))| Connections {
        count,
        direction: sort.direction,
        transport: sort.transport.to_owned(),
        remote: sort.remote,
        tls: sort.spoken.map(|(version, suite, backend)| Spoken {
            version: Version::of(version).map_or_else(String::new, |version| version.word().to_owned()),
            suite: Agreed { version, suite }.suite_name(),
            backend: backend.to_owned(),
        }),
        ending: sort.ending,
        certificate: chain.and_then(|chain| presented(&chain, now)),
    };
    let shown = sorts.by_ref().take(SORTS_MAX).map(told).collect();
    (shown, sorts.map(|(_, (count, _))| count).sum())
}

fn presented(chain: &Chain, now: SystemTime) -> Option<Presented> {
    let facts = CertificateFacts::read(chain.first()?, now).ok()?;
    let alternative = || facts.names.first().map(|name| name.text.as_str());
    let name = facts.common_name().or_else(alternative).unwrap_or_default().to_owned();
    Some(Presented { name, days_left: facts.days_left, subject: facts.subject })
}

fn own(ours: &OurCertificate, now: SystemTime) -> OwnCertificate {
    let days =
        |length: std::time::Duration| i64::try_from(length.as_secs() / SECONDS_PER_DAY).unwrap_or(i64::MAX);
    let days_left = ours.not_after.map_or(0, |end| match end.duration_since(now) {
        Ok(left) => days(left),
        Err(over) => -days(over.duration()) - 1,
    });
    OwnCertificate {
        subject: ours.subject.clone(),
        file: ours.file.display().to_string(),
        used_for: ours.used_for.clone(),
        not_after: ours.not_after.map(rfc3339).unwrap_or_default(),
        days_left,
    }
}

fn peer_of(policy: &Policy, Standing { facts, .. }: &Standing) -> Option<Peer> {
    match (&facts.made_for, &facts.peer) {
        (Some(name), _) => policy.peer_behind(name),
        (None, PeerIdentity::Verified { names }) => policy.peer_by_name(names),
        (None, PeerIdentity::Address) => policy.peer_by_address(facts.remote.ip()),
    }
}

fn gateway(policy: &Policy, index: usize) -> Option<PeerStatus> {
    let gateway = policy.ip_gateways.get(index)?;
    Some(PeerStatus {
        role: if gateway.pool.is_some() { Role::Pool } else { Role::IpGateway },
        name: gateway.name.clone(),
        state: match gateway.status {
            GatewayStatus::Enabled => PeerState::Up,
            GatewayStatus::NoNewCalls => PeerState::NoNewCalls,
            GatewayStatus::Disabled => PeerState::Disabled,
        },
        resting_secs: None,
        probes: Vec::new(),
        changes: Vec::new(),
        calls: None,
        calls_allowed: gateway.max_calls_allowed.map(|allowed| allowed as u64),
        connections: Vec::new(),
        more_connections: 0,
    })
}

fn server(server: &Server, role: ServerRole, engines: &EngineStatus) -> PeerStatus {
    let is_it = |known: &&engine::ServerStatus| known.name.eq_ignore_ascii_case(&server.name);
    let known = engines.servers.iter().find(is_it);
    let calls = known.map_or(0, |known| known.calls);
    let rest = known.and_then(|known| known.down_until?.checked_duration_since(Instant::now()));
    let probes: Vec<ProbeStatus> = known.map_or_else(Vec::new, |known| probes(known, role));
    PeerStatus {
        role: match role {
            ServerRole::CallRouter => Role::CallRouter,
            ServerRole::Mailbox => Role::MailboxServer,
            ServerRole::Hosted => Role::Hosted,
        },
        name: server.name.clone(),
        state: match known.and_then(|known| known.wish).unwrap_or(server.status) {
            ServerStatus::Disabled => PeerState::Disabled,
            ServerStatus::NoNewCalls => PeerState::NoNewCalls,
            ServerStatus::Enabled if probes.iter().any(|probe| !probe.up) => PeerState::Down,
            ServerStatus::Enabled if rest.is_some() => PeerState::Resting,
            ServerStatus::Enabled if calls >= server.max_calls_allowed => PeerState::Full,
            ServerStatus::Enabled => PeerState::Up,
        },
        resting_secs: rest.map(|rest| rest.as_secs() + 1),
        probes,
        changes: known.map_or_else(Vec::new, |known| known.changes.iter().map(change).collect()),
        calls: Some(calls as u64),
        calls_allowed: Some(server.max_calls_allowed as u64),
        connections: Vec::new(),
        more_connections: 0,
    }
}

fn probes(known: &engine::ServerStatus, wanted: ServerRole) -> Vec<ProbeStatus> {
    let of_role = known.doors.iter().filter(|(role, ..)| *role == wanted);
    let told = of_role.map(|(_, transport, door)| ProbeStatus {
        transport: transport.as_param().to_owned(),
        up: !door.is_down,
        ping_ms: door.round_trip.map(|round_trip| round_trip.as_secs_f64() * 1_000.0),
        last_good: door.last_good.map(|at| rfc3339(calendar(at))),
    });
    told.collect()
}

fn change(change: &engine::Change) -> PeerChange {
    PeerChange {
        at: rfc3339(calendar(change.at)),
        to: match change.to {
            engine::Turn::Up => ChangedTo::Up,
            engine::Turn::Resting => ChangedTo::Resting,
            engine::Turn::Down => ChangedTo::Down,
            engine::Turn::Enabled => ChangedTo::Enabled,
            engine::Turn::Draining => ChangedTo::Draining,
            engine::Turn::Disabled => ChangedTo::Disabled,
        },
        why: reason(change),
    }
}

fn counted(engines: &EngineStatus, name: &str) -> u64 {
    engines.counters.iter().find(|(counter, _)| *counter == name).map_or(0, |(_, count)| *count)
}
