//! The network: connections between the gateway and one far end each, ordered bytes in both directions, cut into chunks at will. Owns what is
//! under way and who still believes the connection is up; refuses to know SIP beyond the framing both ends use.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use b2bua::engine::{ConnectKey, FlowUp, Origin, PeerIdentity};
use sip::{Flow, FlowKey, Framer, Limits, Party, Transport};

use super::cast::ActorId;
use super::random::Random;

/// Chunks one write is cut into, at most.
const CHUNKS_MAX: u64 = 4;

/// How the network treats what is written.
#[derive(Clone, Debug)]
pub struct Weather {
    /// One-way delay.
    pub delay: (Duration, Duration),
    /// Writes of a hundred that a stream cuts into pieces.
    pub cuts: u64,
    /// Datagrams of a hundred that are lost.
    pub losses: u64,
    /// Datagrams of a hundred that arrive twice.
    pub doubles: u64,
    /// What a datagram may be late beyond the delay: they overtake each other.
    pub jitter: Duration,
    /// Writes to the gateway, of ten thousand, in which a byte is changed.
    pub damages: u64,
}

impl Weather {
    /// Nothing is lost or changed.
    pub fn fair() -> Self {
        Self {
            delay: (Duration::from_micros(200), Duration::from_millis(4)),
            cuts: 100,
            losses: 0,
            doubles: 0,
            jitter: Duration::ZERO,
            damages: 0,
        }
    }
}

/// An end of a connection.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// The gateway.
    Gateway,
    /// The far end.
    Far,
}

impl std::ops::Not for End {
    type Output = End;

    fn not(self) -> End {
        match self {
            End::Gateway => End::Far,
            End::Far => End::Gateway,
        }
    }
}

/// Where outgoing connections lead: the key of reuse.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub struct Endpoint {
    /// Address.
    pub address: IpAddr,
    /// Port.
    pub port: u16,
    /// Secure or plain.
    pub is_secure: bool,
    /// Name the certificate must carry.
    pub name: String,
}

/// One direction's receiving side.
pub struct Receiver {
    /// Cuts the stream into messages.
    pub framer: Framer,
    /// This end believes in the connection.
    pub is_up: bool,
    /// When the last byte sent so far arrives.
    pub last_arrival: Duration,
}

/// A connection.
pub struct Connection {
    /// Handle, the same at both ends.
    pub key: FlowKey,
    /// The far end.
    pub actor: ActorId,
    /// Over what.
    pub transport: Transport,
    /// Our address and port.
    pub local: SocketAddr,
    /// Theirs.
    pub remote: SocketAddr,
    /// Who they are.
    pub peer: PeerIdentity,
    /// The gateway opened it for this.
    pub endpoint: Option<Endpoint>,
    /// Nothing that is written from now on arrives.
    pub is_broken: bool,
    gateway: Receiver,
    far: Receiver,
}

impl Connection {
    /// The receiving side of an end.
    pub fn receiver(&mut self, end: End) -> &mut Receiver {
        match end {
            End::Gateway => &mut self.gateway,
            End::Far => &mut self.far,
        }
    }

    /// Does this end believe in it?
    pub fn is_up(&self, end: End) -> bool {
        match end {
            End::Gateway => self.gateway.is_up,
            End::Far => self.far.is_up,
        }
    }

    /// What the far end's logic is told.
    pub fn far_flow(&self) -> Flow {
        Flow {
            key: self.key,
            transport: self.transport,
            remote: self.local,
            via_port: self.remote.port(),
            party: Party::default(),
        }
    }

    /// What the engine is told.
    pub fn flow_up(&self, origin: Origin) -> FlowUp {
        FlowUp {
            key: self.key,
            transport: self.transport,
            local: self.local,
            remote: self.remote,
            peer: self.peer.clone(),
            origin,
            made_for: self.endpoint.as_ref().map(|endpoint| endpoint.name.clone()),
        }
    }
}

/// A wish for an outgoing connection.
pub enum Slot {
    /// Being opened; these wait.
    Dialing(Vec<ConnectKey>),
    /// Open.
    Up(FlowKey),
}

/// All connections.
#[derive(Default)]
pub struct Net {
    /// By handle.
    pub connections: BTreeMap<FlowKey, Connection>,
    /// Outgoing ones by where they lead, as the shell keeps them.
    pub slots: BTreeMap<Endpoint, Slot>,
    last: u64,
}

/// A new connection, before it has a handle.
pub struct Opening {
    /// The far end.
    pub actor: ActorId,
    /// Over what.
    pub transport: Transport,
    /// Our address and port.
    pub local: SocketAddr,
    /// Theirs.
    pub remote: SocketAddr,
    /// Who they are.
    pub peer: PeerIdentity,
    /// The gateway opens it for this.
    pub endpoint: Option<Endpoint>,
}

impl Net {
    /// A connection that works at both ends from now.
    pub fn open(&mut self, now: Duration, opening: Opening) -> FlowKey {
        self.last += 1;
        let key = FlowKey(self.last);
        let receiver = || Receiver { framer: Framer::new(Limits::default()), is_up: true, last_arrival: now };
        let Opening { actor, transport, local, remote, peer, endpoint } = opening;
        if let Some(endpoint) = &endpoint {
            self.slots.insert(endpoint.clone(), Slot::Up(key));
        }
        let connection = Connection {
            key,
            actor,
            transport,
            local,
            remote,
            peer,
            endpoint,
            is_broken: false,
            gateway: receiver(),
            far: receiver(),
        };
        self.connections.insert(key, connection);
        key
    }

    /// Nobody believes in it any more and nothing is under way.
    pub fn bury(&mut self, key: FlowKey) {
        if self.connections.get(&key).is_some_and(|c| !c.is_up(End::Gateway) && !c.is_up(End::Far)) {
            self.connections.remove(&key);
        }
    }

    /// Connections an end still believes in.
    pub fn up(&self, end: End) -> impl Iterator<Item = &Connection> {
        self.connections.values().filter(move |connection| connection.is_up(end))
    }

    /// The gateway's shell forgets an outgoing connection.
    pub fn forget(&mut self, key: FlowKey) {
        self.slots.retain(|_, slot| !matches!(slot, Slot::Up(up) if *up == key));
    }
}

/// Cuts a write into chunks and says when each arrives: in order, after a delay, never before what was written earlier.
pub fn cut(
    random: &mut Random,
    now: Duration,
    weather: &Weather,
    last_arrival: &mut Duration,
    len: usize,
) -> Vec<(Duration, std::ops::Range<usize>)> {
    let delay = weather.delay;
    let count = if random.chance(weather.cuts) { 1 + random.below(CHUNKS_MAX) } else { 1 };
    let mut borders: Vec<usize> = (1..count).map(|_| random.below(len as u64 + 1) as usize).collect();
    borders.extend([0, len]);
    borders.sort_unstable();
    let mut chunks = Vec::with_capacity(borders.len());
    for pair in borders.windows(2) {
        if pair[0] < pair[1] {
            let at = (now + random.between(delay.0, delay.1)).max(*last_arrival);
            *last_arrival = at;
            chunks.push((at, pair[0]..pair[1]));
        }
    }
    chunks
}
