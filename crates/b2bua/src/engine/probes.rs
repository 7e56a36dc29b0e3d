//! UM servers asked by OPTIONS whether they are there: over the transport, port, name and certificates that calls would use,
//! on the same connections. Owns whom this shard asks and when, the request and what an answer means; how many answers make
//! a server up or down stands in `health`, and who gets calls in `server_choice`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sip::endpoint::{ClientKey, OutgoingRequest};
use sip::{HeaderId, Message, Method, Transport};

use super::core::{ClientUse, Core};
use super::flows::FlowEntry;
use super::io::{Event, News, Output};
use super::reach::Waiter;
use crate::headers::{ACCEPT, Block};
use crate::health::{Door, ProbeFault, Probed};
use crate::place::Place;
use crate::policy::{Policy, Server, ServerRole};
use crate::security::{Signalling, plan_signalling};
use crate::server_choice::{Change, Turn};
use crate::verdict::clean;

/// An answer that takes longer than this is none: what a call gives a server for its first answer, too.
const ANSWER_MAX: Duration = Duration::from_secs(4);
/// After the start and after a reload, new doors are asked within this, each at a time of its own.
const FIRST_WITHIN: Duration = Duration::from_secs(1);
/// Probes of one door are apart by the interval, give or take this share of it, so that doors do not fall into step.
const JITTER: f64 = 0.1;
/// The shard that asks; it tells the others.
const ASKING_SHARD: u16 = 0;
/// RFC 3261 §11: a server that gets OPTIONS with 0 hops left answers itself, whatever the Request-URI says; nobody behind it
/// can speak for it.
const HOPS: &str = "0";

/// One probe.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub(crate) struct ProbeKey(u64);

/// Whom this shard asks.
pub(crate) struct Probes {
    doors: BTreeMap<Door, Step>,
    deadlines: BTreeSet<(Instant, Door)>,
    under_way: BTreeMap<ProbeKey, Door>,
    dice: StdRng,
    last_key: u64,
}

/// Where one door stands.
#[derive(Copy, Clone, Debug)]
enum Step {
    /// Asked again then.
    Waiting(Instant),
    /// A connection is looked for; `reach` bounds that.
    Reaching { begun: Instant, key: ProbeKey },
    /// The request is out.
    Asked { begun: Instant, key: ProbeKey, sent: Instant, client: ClientKey },
}

impl Step {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Waiting(at) => Some(at),
            Self::Reaching { .. } => None,
            Self::Asked { sent, .. } => Some(sent + ANSWER_MAX),
        }
    }

    fn begun(self) -> Instant {
        match self {
            Self::Waiting(at) => at,
            Self::Reaching { begun, .. } | Self::Asked { begun, .. } => begun,
        }
    }

    fn key(self) -> Option<ProbeKey> {
        match self {
            Self::Waiting(_) => None,
            Self::Reaching { key, .. } | Self::Asked { key, .. } => Some(key),
        }
    }
}

impl Probes {
    /// Nobody yet. The seed decides who is asked when.
    pub fn new(seed: u64) -> Self {
        Self {
            doors: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            under_way: BTreeMap::new(),
            dice: StdRng::seed_from_u64(seed),
            last_key: 0,
        }
    }

    /// When somebody is to be asked, or has had the time to answer.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    fn set(&mut self, door: &Door, step: Step) {
        self.forget(door);
        self.deadlines.extend(step.deadline().map(|at| (at, door.clone())));
        self.under_way.extend(step.key().map(|key| (key, door.clone())));
        self.doors.insert(door.clone(), step);
    }

    // What it waited for is nobody's any more.
    fn forget(&mut self, door: &Door) -> Option<Step> {
        let step = self.doors.remove(door)?;
        if let Some(at) = step.deadline() {
            self.deadlines.remove(&(at, door.clone()));
        }
        if let Some(key) = step.key() {
            self.under_way.remove(&key);
        }
        Some(step)
    }

    fn at(&self, key: ProbeKey) -> Option<(Door, Step)> {
        let door = self.under_way.get(&key)?;
        Some((door.clone(), *self.doors.get(door)?))
    }

    fn next_key(&mut self) -> ProbeKey {
        self.last_key += 1;
        ProbeKey(self.last_key)
    }

    /// A time of its own within that span.
    fn within(&mut self, span: Duration) -> Duration {
        span.mul_f64(self.dice.random::<f64>())
    }

    fn around(&mut self, interval: Duration) -> Duration {
        interval.mul_f64(1.0 - JITTER) + self.within(interval.mul_f64(2.0 * JITTER))
    }
}

impl Core {
    /// The policy says whom to ask from now on. Who was asked before is asked on at his time.
    pub(super) fn choose_doors(&mut self, now: Instant) {
        let policy = self.policy.clone();
        let doors = match (policy.health.options_interval, self.is_draining()) {
            (Some(_), false) => doors(&policy),
            _ => BTreeSet::new(),
        };
        self.servers.keep_doors(&doors);
        let known: Vec<Door> = self.probes.doors.keys().cloned().collect();
        for door in known.iter().filter(|door| !doors.contains(door)) {
            self.leave_door(door);
            if !doors.iter().any(|other| (&other.server, other.role) == (&door.server, door.role)) {
                self.event(Event::ServerLeft { server: door.server.clone(), role: door.role });
            }
        }
        if self.config.shard != ASKING_SHARD {
            return;
        }
        for door in doors.into_iter().filter(|door| !known.contains(door)) {
            let first = now + self.probes.within(FIRST_WITHIN);
            self.probes.set(&door, Step::Waiting(first));
        }
    }

    /// Nobody is asked any more; what was found out stays.
    pub(super) fn end_probes(&mut self) {
        let doors: Vec<Door> = self.probes.doors.keys().cloned().collect();
        doors.iter().for_each(|door| self.leave_door(door));
    }

    fn leave_door(&mut self, door: &Door) {
        if let Some(Step::Asked { client, .. }) = self.probes.forget(door) {
            self.clients.remove(&client);
        }
    }

    /// Those whose time has come.
    pub(super) fn on_probe_deadline(&mut self, now: Instant) {
        while let Some((_, door)) = self.probes.deadlines.first().filter(|(at, _)| *at <= now).cloned() {
            match self.probes.doors.get(&door).copied() {
                Some(Step::Waiting(_)) => self.begin_probe(now, &door),
                Some(Step::Asked { begun, client, .. }) => {
                    self.clients.remove(&client);
                    self.end_probe(now, door, begun, Err(ProbeFault::Silence));
                }
                Some(Step::Reaching { .. }) | None => {
                    self.probes.deadlines.pop_first();
                }
            }
        }
    }

    fn begin_probe(&mut self, now: Instant, door: &Door) {
        let key = self.probes.next_key();
        self.probes.set(door, Step::Reaching { begun: now, key });
        let policy = self.policy.clone();
        let is_it = |server: &&Server| server.name.eq_ignore_ascii_case(&door.server);
        let server = policy.servers(door.role).iter().find(is_it);
        let peer = policy.server_by_name(&door.server);
        let (Some(server), Some(peer)) = (server, peer) else {
            return self.leave_door(door);
        };
        let place = Place {
            name: door.server.clone(),
            addresses: server.addresses.clone(),
            port: if door.transport.is_secure() { server.tls_port } else { server.tcp_port },
            port_source: server.port_source,
            transport: door.transport,
        };
        if let Some(entry) = self.reach(now, peer, &place, Waiter::Probe(key)) {
            self.on_probe_reached(now, key, &entry);
        }
    }

    /// There is a connection: the request goes out.
    pub(super) fn on_probe_reached(&mut self, now: Instant, key: ProbeKey, to: &FlowEntry) {
        let Some((door, Step::Reaching { begun, .. })) = self.probes.at(key) else { return };
        let request = self.probe_request(&door, to);
        match self.send(now, &to.flow, request, ClientUse::Health(key)) {
            Some(client) => self.probes.set(&door, Step::Asked { begun, key, sent: now, client }),
            None => self.on_probe_failed(now, key, "OPTIONS could not be sent"),
        }
    }

    /// There is none, or it broke.
    pub(super) fn on_probe_failed(&mut self, now: Instant, key: ProbeKey, why: &str) {
        if let Some((door, step)) = self.probes.at(key) {
            self.end_probe(now, door, step.begun(), Err(ProbeFault::Failed(clean(why))));
        }
    }

    /// A final answer. Whatever it says, somebody is there; but 503 is the word of a server about itself: it is overloaded
    /// or in maintenance, and others should be asked (RFC 3261 §21.5.4).
    pub(super) fn on_probe_answered(&mut self, now: Instant, key: ProbeKey, response: &Message) {
        let Some((door, Step::Asked { begun, sent, .. })) = self.probes.at(key) else { return };
        let status = response.status().map_or(0, sip::StatusCode::code);
        let result = match status {
            503 => {
                let reason = String::from_utf8_lossy(&response.reason()).into_owned();
                Err(ProbeFault::Failed(clean(&format!("answered 503 {reason}"))))
            }
            _ => Ok(now.saturating_duration_since(sent)),
        };
        self.end_probe(now, door, begun, result);
    }

    fn end_probe(&mut self, now: Instant, door: Door, begun: Instant, result: Result<Duration, ProbeFault>) {
        let Some(interval) = self.policy.health.options_interval else { return self.leave_door(&door) };
        let next = begun + self.probes.around(interval);
        self.probes.set(&door, Step::Waiting(next.max(now)));
        let probed = Probed { door, begun, result };
        let change = self.servers.probed(now, &probed, &self.policy.health);
        let Door { server, role, .. } = &probed.door;
        let is_up = self.servers.is_up(server, *role, now);
        if let Some(change) = change {
            self.tell_probed(&probed, change);
        }
        self.event(Event::ServerProbed { probed: probed.clone(), is_up });
        self.tell_shards(|| News::Probed(probed));
    }

    fn tell_probed(&mut self, Probed { door, .. }: &Probed, change: Change) {
        let (server, roles) = (door.server.clone(), vec![door.role]);
        self.event(match change.to {
            Turn::Down => Event::ServerDown { server, roles, change },
            _ => Event::ServerUp { server, roles, why: change.why },
        });
    }

    fn probe_request(&mut self, door: &Door, to: &FlowEntry) -> OutgoingRequest {
        let prefix = self.call_id_prefix.clone();
        let uri = format!("sip:{}:{};transport={}", door.server, to.remote.port(), to.transport.as_param());
        let from = format!("<sip:{}>", self.policy.gateway.fqdn);
        let mut block = Block::default();
        block
            .header(HeaderId::MaxForwards, HOPS)
            .header(HeaderId::From, crate::headers::with_tag(from.as_bytes(), &self.endpoint.new_tag()))
            .header(HeaderId::To, format!("<{uri}>"))
            .header(HeaderId::CallId, self.endpoint.new_call_id(prefix.as_bytes()))
            .header(HeaderId::CSeq, "1 OPTIONS")
            .header(HeaderId::Contact, self.contact(to.transport, to.flow.via_port))
            .header(HeaderId::Accept, ACCEPT)
            .header(HeaderId::UserAgent, self.config.product.as_str());
        OutgoingRequest {
            method: Method::Options,
            uri: Bytes::from(uri),
            headers: block.finish(),
            content_type: None,
            body: Bytes::new(),
        }
    }

    // --- what calls find out -----------------------------------------------------------------------------------

    /// A call, or a request on its way through, failed there.
    pub fn server_failed(&mut self, now: Instant, server: &str, why: &str) {
        if self.servers.failed(now, server, why) {
            let change = Change { at: now, to: Turn::Resting, why: why.to_owned(), last_good: None };
            let roles = self.policy.roles_of(server);
            self.event(Event::ServerDown { server: server.to_owned(), roles, change });
            self.tell_shards(|| News::Failed { server: server.to_owned(), why: why.to_owned() });
        }
    }

    /// One was answered there.
    pub fn server_answered(&mut self, now: Instant, server: &str) {
        if self.servers.answered(now, server) {
            let (roles, why) = (self.policy.roles_of(server), "it answered".to_owned());
            self.event(Event::ServerUp { server: server.to_owned(), roles, why });
            self.tell_shards(|| News::Answered { server: server.to_owned() });
        }
    }

    fn tell_shards(&mut self, news: impl FnOnce() -> News) {
        if self.config.shards > 1 {
            self.outputs.push_back(Output::Told(news()));
        }
    }

    /// What another shard found out. It told the world already.
    pub(super) fn on_news(&mut self, now: Instant, news: &News) {
        match news {
            News::Probed(probed) => {
                self.servers.probed(now, probed, &self.policy.health);
            }
            News::Failed { server, why } => {
                self.servers.failed(now, server, why);
            }
            News::Answered { server } => {
                self.servers.answered(now, server);
            }
            News::Deposit { shard, call, deposit } => {
                self.deposits.on_news((*shard, *call), deposit.as_ref());
            }
        }
    }
}

/// Every door that calls of some dial plan would use. Hosted voice mail has none: there is no other server to choose.
fn doors(policy: &Policy) -> BTreeSet<Door> {
    let mut doors = BTreeSet::new();
    for plan in &policy.dial_plans {
        let transport = match plan_signalling(plan.voip_security) {
            Signalling::MutualTls => Transport::Tls,
            Signalling::Plain => Transport::Tcp,
        };
        let of = |role, indexes: &[usize]| {
            let servers = indexes.iter().filter_map(|index| policy.servers(role).get(*index));
            let door = |server: &Server| Door { server: server.name.to_ascii_lowercase(), role, transport };
            servers.map(door).collect::<Vec<_>>()
        };
        doors.extend(of(ServerRole::CallRouter, &plan.call_routers));
        doors.extend(of(ServerRole::Mailbox, &plan.mailbox_servers));
    }
    doors
}
