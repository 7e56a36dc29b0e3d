//! Connections: listeners, outgoing connections, framing and flow control. Owns sockets and their deadlines; refuses
//! to know what a message means or who a peer is beyond the verified name and the address.

mod connect;
mod connection;
mod flows;
mod listen;
mod resolve;
mod udp;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use b2bua::engine::{ConnectFailure, FlowLoss, PeerIdentity};
use bytes::Bytes;
use sip::{FlowKey, Transport};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::observe::{Metrics, WarnLimiter};
use crate::tls::{TlsContext, VerifiedPeer};

pub use connect::{Endpoint, open};
pub use flows::{FlowTable, SendFault};
pub use listen::{Bound, accept_loop, bind_tcp};
pub use resolve::lookup;
pub use udp::{UdpPorts, bind_udp, receive_loop};

/// Messages and facts that may wait for the engine.
pub const EVENTS_MAX: usize = 8_192;

/// Every limit of a connection.
#[derive(Clone, Debug)]
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
    /// Inbound handshakes at once.
    pub handshakes_max: usize,
    /// Messages waiting for one connection.
    pub queue_len_max: usize,
    /// Bytes waiting for one connection.
    pub queue_bytes_max: usize,
    /// UDP flows remembered.
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
            handshakes_max: 4_096,
            queue_len_max: 1_024,
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
}

/// What connections report.
#[derive(Debug)]
pub enum NetEvent {
    /// A peer connected.
    Up(FlowFacts),
    /// A connection is gone.
    Down {
        /// Which.
        flow: FlowKey,
        /// Why.
        why: FlowLoss,
    },
    /// A whole message.
    Message {
        /// From where.
        flow: FlowKey,
        /// Its bytes.
        bytes: Bytes,
    },
    /// An outgoing connection came to be, or not.
    Connected {
        /// Whom we wanted.
        endpoint: Endpoint,
        /// The flow, or why there is none.
        result: Result<FlowFacts, ConnectFailure>,
    },
}

/// What every connection task shares.
pub struct NetContext {
    /// Who can be written to.
    pub flows: FlowTable,
    /// Where facts go.
    pub events: mpsc::Sender<NetEvent>,
    /// The limits.
    pub limits: NetLimits,
    /// What new handshakes use; `None` without `[tls]`.
    pub tls: ArcSwapOption<TlsContext>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Keeps refusals from flooding the log.
    pub warnings: WarnLimiter,
    /// Inbound connections still possible.
    pub connections: Arc<Semaphore>,
    /// Inbound handshakes still possible.
    pub handshakes: Arc<Semaphore>,
    /// Turns true when everything must end.
    pub stop: watch::Receiver<bool>,
    /// Where outgoing connections start from; unspecified addresses leave the choice to the system.
    pub source_addresses: Vec<IpAddr>,
    /// Opt-in UDP sockets.
    pub udp: UdpPorts,
}

impl NetContext {
    /// Counts what had to be tolerated of a certificate.
    pub fn count_quirks(&self, peer: &VerifiedPeer) {
        peer.tolerated().iter().for_each(|quirk| self.metrics.event(quirk.counter()));
    }

    /// Completes when everything must end.
    pub async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // An error means that the owner is gone, which is a reason to stop as well.
        let _gone = stop.wait_for(|stop| *stop).await;
    }
}
