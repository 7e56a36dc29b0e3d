//! Connections: listeners, outgoing connections, framing and flow control. Owns sockets and their deadlines; refuses
//! to know what a message means or who a peer is beyond the verified name and the address.
//!
//! Accepting, dialling and handshakes happen on the tokio runtime; a connection that stands is handed to the signalling
//! thread (shard) that owns it from then on.

mod connect;
mod connection;
mod errand;
mod flows;
mod listen;
mod lookups;
mod outgoing;
mod resolve;
mod room;
mod slots;
mod udp;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use b2bua::engine::PeerIdentity;
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
pub use outgoing::{Holds, Outgoing, Waiter, Wish};
pub use resolve::{Dns, Locator, Offered, search_domains};
pub use room::{Full, Room, Rooms};
pub use slots::{Place, SHARDS_MAX, Slots, shard_of_flow};
pub use udp::{DATAGRAM_BYTES_MAX, Datagram, Found, Sender, UdpPort, bind_udp, is_keep_alive, sender};
pub use wire::{Heard, Wire};

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

/// What every thread and task of one gateway shares.
pub struct NetContext {
    /// Every open flow of every shard.
    pub flows: Flows,
    /// Outgoing connections, for all shards.
    pub outgoing: Outgoing,
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
    /// New handshakes use this from now on. Outgoing connections that would not be made again as they were are retired: what
    /// is on them stays, what is new gets another.
    pub async fn publish(&self, tls: Option<Arc<TlsContext>>) {
        self.tls.store(tls);
        for (endpoint, flow, credentials) in self.outgoing.made_with() {
            if self.retire(&endpoint, flow, &credentials)
                && let Some(owner) = self.shards.get(usize::from(shard_of_flow(flow)))
            {
                // A shard that has ended holds no connection.
                let _ended = owner.send(Errand::Retire(flow)).await;
            }
        }
    }

    /// Takes an outgoing connection out of use if its credentials are gone; `true`: its shard must be told.
    pub fn retire(&self, endpoint: &Endpoint, flow: FlowKey, credentials: &Credentials) -> bool {
        let tls = self.tls.load();
        let stands = tls
            .as_ref()
            .map_or(Err(Gone::Tls), |tls| tls.stands(&endpoint.name, credentials, SystemTime::now()));
        let Err(why) = stands else { return false };
        if !self.outgoing.retire(endpoint, flow) {
            return false;
        }
        self.metrics.event("connection_retired");
        let why = b2bua::verdict::clean(&why.to_string());
        info!(event = "connection_retired", peer = %endpoint.name, remote = %endpoint.address, why,
            "new calls take a new connection, those on this one stay");
        true
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
