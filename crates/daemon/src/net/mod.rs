//! Connections: listeners, outgoing connections, framing and flow control. Owns sockets and their deadlines; refuses
//! to know what a message means or who a peer is beyond the verified name and the address.
//!
//! Accepting, dialling and handshakes happen on the tokio runtime; a connection that stands is handed to the signalling
//! thread (shard) that owns it from then on.

mod connect;
mod connection;
mod errand;
mod flows;
mod inbound;
mod listen;
mod lookups;
mod outgoing;
mod resolve;
mod retiring;
mod room;
mod slots;
mod udp;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use b2bua::Policy;
use b2bua::engine::{Newcomers, PeerIdentity};
use sip::{FlowKey, Transport};
use tokio::sync::{Semaphore, watch};
use tracing::info;

use crate::observe::{Metrics, TlsRefusals, WarnLimiter};
use crate::tls::{Agreed, Credentials, Gone, PeerRejection, TlsContext, VerifiedPeer};

pub use connect::{Endpoint, open, source_socket};
pub use connection::{Connection, Due, Leave, ReadEnd, SendFault};
pub use errand::{Control, Ended, Errand, Errands, Inbox, MediaKey, Opened, inbox};
pub use flows::{Chain, Flows, Secured, Standing};
pub use listen::{Bound, accept_loop, bind_tcp};
pub use lookups::{Asked, Asker, Located, Lookups};
pub use outgoing::{Outgoing, Waiter, Wish};
pub use resolve::{Dns, Locator, Offered, search_domains};
pub use retiring::{Holds, Retiring};
pub use room::{Full, Room, Rooms};
pub use slots::{Place, SHARDS_MAX, Slots, shard_of_flow};
pub use udp::{DATAGRAM_BYTES_MAX, Datagram, Found, Sender, UdpPort, bind_udp, is_keep_alive, sender};
pub use wire::{Heard, Wire};

/// Certificates judged again before others get their turn.
const JUDGED_AT_ONCE: usize = 32;
/// Peers that a log names of those whose connections are refused by one reload; all are counted.
const REFUSED_PEERS_TOLD: usize = 50;

/// Every limit of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetLimits {
    /// From accept to a finished inbound handshake.
    pub handshake_timeout: Duration,
    /// Budget for an outgoing TCP connect.
    pub connect_timeout: Duration,
    /// Budget for an outgoing handshake.
    pub tls_timeout: Duration,
    /// From the first byte of a message to the end of its header block.
    pub header_timeout: Duration,
    /// From the first byte of a message to the end of its body.
    pub body_timeout: Duration,
    /// Without any byte between messages. Longer than a call may last, so that its BYE finds the connection.
    pub idle_timeout: Duration,
    /// For one write to make progress.
    pub write_timeout: Duration,
    /// Inbound connections at once, over all listeners.
    pub connections_max: usize,
    /// Those of one address among them: a pool behind a balancer has one.
    pub connections_of_address_max: usize,
    /// Inbound handshakes at once.
    pub handshakes_max: usize,
    /// Bytes waiting for one connection.
    pub queue_bytes_max: usize,
    /// UDP flows remembered, for each socket.
    pub udp_flows_max: usize,
    /// Limits on one message.
    pub message: sip::Limits,
}

impl Default for NetLimits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            tls_timeout: Duration::from_secs(3),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(35 * 60),
            write_timeout: Duration::from_secs(10),
            connections_max: 16_384,
            connections_of_address_max: 12_288,
            handshakes_max: 4_096,
            queue_bytes_max: 1024 * 1024,
            udp_flows_max: 4_096,
            message: sip::Limits::default(),
        }
    }
}

/// A connection as the engine will know it.
#[derive(Clone, Debug)]
pub struct FlowFacts {
    /// Its handle.
    pub key: FlowKey,
    /// What it runs over.
    pub transport: Transport,
    /// Our end.
    pub local: SocketAddr,
    /// Their end.
    pub remote: SocketAddr,
    /// Who that is.
    pub peer: PeerIdentity,
    /// The name we opened it for.
    pub made_for: Option<String>,
}

/// A stream whose handshake is done, on its way to the shard that will own it.
pub struct Arrived {
    /// The socket, non-blocking, known to no poller.
    pub stream: std::net::TcpStream,
    /// What is spoken over it.
    pub wire: Wire,
    /// TCP or TLS.
    pub transport: Transport,
    /// Our end.
    pub local: SocketAddr,
    /// Their end.
    pub remote: SocketAddr,
    /// Who that is.
    pub peer: PeerIdentity,
    /// What a TLS handshake came to.
    pub tls: Option<Secured>,
    /// Its place among the inbound connections; outgoing ones need none.
    pub permit: Option<Room>,
    /// What an outgoing TLS connection was made with.
    pub credentials: Option<Box<Credentials>>,
}

/// What a reload put in force; both are one when only files changed.
pub struct Replaced {
    /// What was in force.
    pub before: Arc<Policy>,
    /// What is.
    pub now: Arc<Policy>,
}

/// What every thread and task of one gateway shares.
pub struct NetContext {
    /// Every open flow of every shard.
    pub flows: Flows,
    /// Outgoing connections, for all shards.
    pub outgoing: Outgoing,
    /// Connections that are to end.
    pub retiring: Retiring,
    /// The way to each shard.
    pub shards: Vec<Inbox>,
    /// The limits.
    pub limits: NetLimits,
    /// What new handshakes use; `None` without `[tls]`.
    pub tls: ArcSwapOption<TlsContext>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Keeps refusals from flooding the log.
    pub warnings: WarnLimiter,
    /// The last handshakes that failed.
    pub refusals: Arc<TlsRefusals>,
    /// Inbound connections still possible.
    pub connections: Rooms,
    /// Inbound handshakes still possible.
    pub handshakes: Arc<Semaphore>,
    /// Turns true when everything must end.
    pub stop: watch::Receiver<bool>,
    /// Where outgoing connections start from; unspecified addresses leave the choice to the system.
    pub source_addresses: Vec<IpAddr>,
    /// The runtime for everything that waits: dialling, handshakes, name resolution.
    pub runtime: tokio::runtime::Handle,
    /// Inbound connections so far: they are dealt to the shards in turn.
    pub accepted: AtomicUsize,
    /// Names to addresses.
    pub locator: Locator,
    /// Names that are being looked up, for all shards.
    pub lookups: Lookups,
}

impl NetContext {
    /// New handshakes use this from now on, and the new policy knows the peers. Connections that would not be made again as they were
    /// are retired: what is on them stays, what is new gets another, or is refused where the far end would be.
    pub async fn publish(&self, tls: Option<Arc<TlsContext>>, policy: &Replaced) {
        self.tls.store(tls);
        for (endpoint, flow, credentials) in self.outgoing.made_with() {
            if let Some(newcomers) = self.retire(&endpoint, flow, &credentials) {
                self.tell_retired(flow, newcomers).await;
            }
        }
        self.judge_inbound(policy).await;
    }

    /// Takes an outgoing connection out of use if its credentials are gone; its shard must be told.
    pub fn retire(&self, endpoint: &Endpoint, flow: FlowKey, credentials: &Credentials) -> Option<Newcomers> {
        let tls = self.tls.load();
        let stands = tls
            .as_ref()
            .map_or(Err(Gone::Tls), |tls| tls.stands(&endpoint.name, credentials, SystemTime::now()));
        let why = stands.err()?;
        let newcomers = match why {
            Gone::Theirs(_) => Newcomers::Refused,
            Gone::Tls | Gone::Ours | Gone::Settings => Newcomers::Served,
        };
        if !self.retiring.begin(Instant::now(), flow, newcomers) {
            return None;
        }
        // In this order an end that comes meanwhile leaves nothing behind.
        if !self.outgoing.retire(endpoint, flow) {
            self.retiring.end(flow);
            return None;
        }
        self.metrics.event("connection_retired");
        let why = b2bua::verdict::clean(&why.to_string());
        info!(event = "connection_retired", peer = %endpoint.name, remote = %endpoint.address, why,
            "new calls take a new connection, those on this one stay");
        Some(newcomers)
    }

    /// Looks again at everybody who connected to us. Each certificate is judged once, however many connections it stands for.
    async fn judge_inbound(&self, policy: &Replaced) {
        let mut told = 0;
        for (number, group) in inbound::groups(&self.flows).into_iter().enumerate() {
            // Ten thousand certificates take a second, and others want to shake hands meanwhile.
            if number % JUDGED_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
            let Err(why) = group.is_let_in(self.tls.load().as_deref(), policy) else { continue };
            let flows: Vec<FlowKey> =
                group.flows.iter().copied().filter(|flow| self.refuse_later(*flow)).collect();
            if !flows.is_empty() && told < REFUSED_PEERS_TOLD {
                told += 1;
                group.tell(flows.len(), &why);
            }
            for flow in flows {
                self.tell_retired(flow, Newcomers::Refused).await;
            }
        }
        self.flows.sweep();
    }

    /// The far end of an inbound connection that was taken in while other certificates came into force; `true`: its shard must refuse
    /// what is new.
    pub fn is_refused_already(&self, standing: &Standing) -> bool {
        let Some(secured) = standing.tls.as_ref().filter(|_| standing.opened == Opened::ByPeer) else {
            return false;
        };
        let tls = self.tls.load();
        if tls.as_ref().is_some_and(|tls| tls.is_judged_by(&secured.judge)) {
            return false;
        }
        let group = inbound::Group::of(standing);
        match inbound::is_let_in_over_tls(tls.as_deref(), &group) {
            Err(why) if self.refuse_later(standing.facts.key) => {
                group.tell(1, &why);
                true
            }
            _ => false,
        }
    }

    fn refuse_later(&self, flow: FlowKey) -> bool {
        if !self.retiring.begin(Instant::now(), flow, Newcomers::Refused) {
            return false;
        }
        // In this order an end that comes meanwhile leaves nothing behind.
        if !self.flows.is_open(flow) {
            self.retiring.end(flow);
            return false;
        }
        self.metrics.event("connection_refused_later");
        true
    }

    async fn tell_retired(&self, flow: FlowKey, newcomers: Newcomers) {
        if let Some(owner) = self.shards.get(usize::from(shard_of_flow(flow))) {
            // A shard that has ended holds no connection.
            let _ended = owner.send(Errand::Retire(flow, newcomers)).await;
        }
    }

    /// Counts what had to be tolerated of a certificate.
    pub fn count_quirks(&self, peer: &VerifiedPeer) {
        peer.tolerated().iter().for_each(|quirk| self.metrics.event(quirk.counter()));
        if let (Some(weakness), Some(name)) = (peer.weakness(), peer.names().first()) {
            self.metrics.weak_certificate(name);
            self.warnings.warn("weak_certificate", || {
                let umb_code = b2bua::codes::WEAK_ALLOWED.as_str();
                let why = PeerRejection::from(weakness.clone());
                tracing::warn!(event = "weak_certificate", umb_code, peer = %name, %why, "accepted by exception");
            });
        }
    }

    /// Counts what is old about a connection that stands.
    pub fn count_legacy(&self, peer: &str, agreed: Agreed) {
        agreed.legacy().into_iter().for_each(|legacy| self.metrics.legacy_handshake(peer, legacy.word()));
    }

    /// Completes when everything must end.
    pub async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // An error means that the owner is gone, which is a reason to stop as well.
        let _gone = stop.wait_for(|stop| *stop).await;
    }

    /// Must everything end?
    pub fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// The shard that takes the next inbound connection.
    pub(crate) fn next_shard(&self) -> Option<&Inbox> {
        let turn = self.accepted.fetch_add(1, Ordering::Relaxed);
        self.shards.get(turn % self.shards.len().max(1))
    }
}
