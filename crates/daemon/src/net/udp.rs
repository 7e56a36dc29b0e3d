//! The opt-in UDP listener, for load tools. Owns the flows made of a socket and a remote address, their number and
//! their age. A datagram from an address that is no configured peer leaves no trace but a counter when strangers are
//! dropped. Refuses to know retransmission.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{collections::HashMap, io};

use arc_swap::ArcSwap;
use b2bua::Policy;
use b2bua::engine::{FlowLoss, PeerIdentity};
use b2bua::policy::UnknownPeer;
use bytes::Bytes;
use sip::{FlowKey, Transport};
use tokio::net::UdpSocket;

use super::{FlowFacts, NetContext, NetEvent};

/// Largest datagram taken.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// A flow without traffic is forgotten after this (longer than any transaction).
const FLOW_IDLE: Duration = Duration::from_secs(300);
/// How often old flows are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Every UDP socket with its flows.
#[derive(Default)]
pub struct UdpPorts {
    ports: Vec<UdpPort>,
}

struct UdpPort {
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    flows: Mutex<HashMap<SocketAddr, Known>>,
}

struct Known {
    key: FlowKey,
    seen: Instant,
}

/// Takes a UDP port (0: any).
pub async fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(address).await
}

impl UdpPorts {
    /// Sockets that are bound already.
    pub fn new(sockets: Vec<UdpSocket>) -> io::Result<Self> {
        let port = |socket: UdpSocket| {
            let local = socket.local_addr()?;
            Ok(UdpPort { socket: Arc::new(socket), local, flows: Mutex::default() })
        };
        Ok(Self { ports: sockets.into_iter().map(port).collect::<io::Result<_>>()? })
    }

    /// Our ends.
    pub fn local_addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.ports.iter().map(|port| port.local)
    }

    /// How many sockets.
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// No UDP at all.
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// The flow to a remote address, new or known; `None` without a socket of that family or when the table is full.
    pub fn flow_to(&self, context: &NetContext, remote: SocketAddr) -> Option<FlowFacts> {
        let port = self.ports.iter().find(|port| port.local.is_ipv4() == remote.is_ipv4())?;
        let (key, _) = port.flow(context, remote)?;
        Some(port.facts(key, remote))
    }
}

#[derive(Copy, Clone, Eq, PartialEq)]
enum Age {
    New,
    Old,
}

impl UdpPort {
    fn flow(&self, context: &NetContext, remote: SocketAddr) -> Option<(FlowKey, Age)> {
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        // The engine may have closed a flow that the peer still uses; its next datagram opens another.
        if let Some(known) = flows.get_mut(&remote).filter(|known| context.flows.contains(known.key)) {
            known.seen = Instant::now();
            return Some((known.key, Age::Old));
        }
        if flows.len() >= context.limits.udp_flows_max {
            return None;
        }
        let key = context.flows.open_datagram(self.socket.clone(), remote);
        flows.insert(remote, Known { key, seen: Instant::now() });
        Some((key, Age::New))
    }

    fn facts(&self, key: FlowKey, remote: SocketAddr) -> FlowFacts {
        FlowFacts { key, transport: Transport::Udp, local: self.local, remote, peer: PeerIdentity::Address }
    }

    fn forget_idle(&self, context: &NetContext) -> Vec<FlowKey> {
        let mut gone = Vec::new();
        let mut flows = self.flows.lock().unwrap_or_else(PoisonError::into_inner);
        flows.retain(|_, known| {
            let keep = known.seen.elapsed() < FLOW_IDLE;
            if !keep {
                context.flows.close(known.key);
                gone.push(known.key);
            }
            keep
        });
        gone
    }
}

/// Receives on one socket until the context stops.
pub async fn receive_loop(context: Arc<NetContext>, index: usize, policy: Arc<ArcSwap<Policy>>) {
    let Some(port) = context.udp.ports.get(index) else { return };
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    loop {
        let received = tokio::select! {
            received = port.socket.recv_from(&mut buffer) => received,
            _ = sweep.tick() => {
                for flow in port.forget_idle(&context) {
                    let _gone = context.events.send(NetEvent::Down { flow, why: FlowLoss::Idle }).await;
                }
                continue;
            }
            () = context.stopped() => return,
        };
        // An ICMP error of an earlier datagram is reported here; it is no reason to stop listening.
        let Ok((count, remote)) = received else { continue };
        if is_keep_alive(&buffer[..count]) {
            continue;
        }
        if is_unwelcome(&policy.load(), remote.ip()) {
            context.metrics.unknown_peer();
            continue;
        }
        if deliver(&context, port, remote, Bytes::copy_from_slice(&buffer[..count])).await.is_err() {
            return;
        }
    }
}

struct EngineGone;

async fn deliver(
    context: &NetContext,
    port: &UdpPort,
    remote: SocketAddr,
    bytes: Bytes,
) -> Result<(), EngineGone> {
    let Some((key, age)) = port.flow(context, remote) else {
        context.metrics.dropped("too_many_udp_flows");
        return Ok(());
    };
    if age == Age::New {
        let facts = port.facts(key, remote);
        context.events.send(NetEvent::Up(facts)).await.map_err(|_| EngineGone)?;
    }
    context.events.send(NetEvent::Message { flow: key, bytes }).await.map_err(|_| EngineGone)
}

fn is_keep_alive(datagram: &[u8]) -> bool {
    datagram.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

fn is_unwelcome(policy: &Policy, remote: IpAddr) -> bool {
    policy.gateway.unknown_peer == UnknownPeer::Drop && policy.peer_by_address(remote).is_none()
}
