//! The opt-in UDP listener, for load tools. Owns the flows made of a socket and a remote address, their number and
//! their age. A datagram from an address that is no configured peer makes no flow: it leaves a counter when strangers
//! are dropped, and is answered over one flow that all strangers share when they are rejected. Refuses to know
//! retransmission.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use b2bua::Policy;
use b2bua::engine::PeerIdentity;
use b2bua::policy::UnknownPeer;
use bytes::Bytes;
use mio::net::UdpSocket;
use sip::{FlowKey, Transport};

use super::connection::SendFault;
use super::slots::Slots;
use super::{FlowFacts, NetLimits};

/// Largest datagram taken.
pub const DATAGRAM_BYTES_MAX: usize = 65_535;
/// A flow without traffic is forgotten after this (longer than any transaction).
const FLOW_IDLE: Duration = Duration::from_secs(300);

/// One UDP socket with its flows.
pub struct UdpPort {
    socket: UdpSocket,
    /// Our end.
    pub local: SocketAddr,
    flows: HashMap<SocketAddr, FlowKey>,
    strangers: Option<FlowKey>,
}

/// A flow of datagrams.
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    port: usize,
    remote: SocketAddr,
    seen: Instant,
}

/// What a datagram is to us.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Sender {
    /// A configured peer.
    Peer,
    /// Somebody who gets no answer.
    Unwelcome,
    /// Somebody who is told so.
    Rejected,
}

/// A flow, and whether the engine has to be told of it first.
pub enum Found {
    /// Known already.
    Old(FlowKey),
    /// New.
    New(FlowFacts),
}

/// Takes a UDP port (0: any).
pub fn bind_udp(address: SocketAddr) -> io::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Datagram {
    /// To this address, from the socket with that number.
    pub fn to(port: usize, remote: SocketAddr, now: Instant) -> Self {
        Self { port, remote, seen: now }
    }

    /// Sends now; what the system does not take is lost, as UDP may.
    pub fn send(&self, bytes: &Bytes, ports: &[UdpPort]) -> Result<(), SendFault> {
        let port = ports.get(self.port).ok_or(SendFault::Gone)?;
        port.socket.send_to(bytes, self.remote).map(|_| ()).map_err(|_| SendFault::DatagramLost)
    }
}

impl UdpPort {
    /// A bound socket.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        let local = socket.local_addr()?;
        let socket = UdpSocket::from_std(socket);
        Ok(Self { socket, local, flows: HashMap::new(), strangers: None })
    }

    /// For the poller.
    pub fn source(&mut self) -> &mut UdpSocket {
        &mut self.socket
    }

    /// The next datagram. An ICMP error of an earlier one is reported here too; it is no reason to stop listening.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(buffer)
    }

    /// The flow to a remote address, new or known; `None` when the table is full.
    pub fn flow(
        &mut self,
        now: Instant,
        port: usize,
        remote: SocketAddr,
        slots: &mut Slots,
        limits: &NetLimits,
    ) -> Option<Found> {
        let known = self.flows.get(&remote).copied();
        // The engine may have closed a flow that the peer still uses; its next datagram opens another.
        if let Some(key) = known
            && let Some(datagram) = slots.datagram(key)
        {
            datagram.seen = now;
            return Some(Found::Old(key));
        }
        if self.flows.len() >= limits.udp_flows_max {
            return None;
        }
        let key = slots.enter_datagram(Datagram::to(port, remote, now));
        self.flows.insert(remote, key);
        Some(Found::New(self.facts(key, remote)))
    }

    /// The one flow of everybody who is no peer, turned to this one.
    pub fn strangers(&mut self, now: Instant, port: usize, remote: SocketAddr, slots: &mut Slots) -> Found {
        if let Some(key) = self.strangers
            && let Some(datagram) = slots.datagram(key)
        {
            datagram.remote = remote;
            return Found::Old(key);
        }
        let key = slots.enter_datagram(Datagram::to(port, remote, now));
        self.strangers = Some(key);
        // An address that nobody can have: the flow must never be taken for a peer's.
        let nobody: IpAddr = match remote.is_ipv4() {
            true => Ipv4Addr::UNSPECIFIED.into(),
            false => Ipv6Addr::UNSPECIFIED.into(),
        };
        Found::New(self.facts(key, SocketAddr::new(nobody, 0)))
    }

    fn facts(&self, key: FlowKey, remote: SocketAddr) -> FlowFacts {
        FlowFacts {
            key,
            transport: Transport::Udp,
            local: self.local,
            remote,
            peer: PeerIdentity::Address,
            made_for: None,
        }
    }

    /// Forgets every flow.
    pub fn close_all(&mut self, slots: &mut Slots) {
        for key in self.flows.drain().map(|(_, key)| key).chain(self.strangers.take()) {
            slots.remove(key);
        }
    }

    /// Forgets flows without traffic; which ones.
    pub fn forget_idle(&mut self, now: Instant, slots: &mut Slots) -> Vec<FlowKey> {
        let mut gone = Vec::new();
        self.flows.retain(|_, key| {
            let Some(datagram) = slots.datagram(*key) else { return false };
            let keep = now.saturating_duration_since(datagram.seen) < FLOW_IDLE;
            if !keep {
                gone.push(*key);
            }
            keep
        });
        gone
    }
}

/// Keep-alives are no messages.
pub fn is_keep_alive(datagram: &[u8]) -> bool {
    datagram.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

/// Who sent a datagram.
pub fn sender(policy: &Policy, remote: IpAddr) -> Sender {
    match policy.gateway.unknown_peer {
        _ if policy.peer_by_address(remote).is_some() => Sender::Peer,
        UnknownPeer::Drop => Sender::Unwelcome,
        UnknownPeer::Reject => Sender::Rejected,
    }
}
