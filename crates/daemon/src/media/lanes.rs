//! The sockets of one call.
//!
//! Owns binding, receiving and sending: a socket for each port, and a short way to each peer's RTP while that is where it was
//! found. Refuses to know what a packet means, and how the poller is told of sockets.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Once;

use relay::{Channel, Side};
use socket2::{Domain, Protocol, Socket, Type};

use super::Dscp;
use super::direct::Direct;
use super::overflow::Overflows;

/// Octets the kernel may hold for one socket: about half a second of speech in packets of 20 ms.
pub const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;
/// Packets read from one socket to empty it; more than its buffer holds.
pub(super) const WAITING_PACKETS_MAX: usize = 1_024;

/// Which port of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) side: Side,
    pub(super) channel: Channel,
}

impl Slot {
    const ALL: [Slot; 4] = [
        Slot { side: Side::A, channel: Channel::Rtp },
        Slot { side: Side::A, channel: Channel::Rtcp },
        Slot { side: Side::B, channel: Channel::Rtp },
        Slot { side: Side::B, channel: Channel::Rtcp },
    ];

    fn index(self) -> usize {
        let channel = match self.channel {
            Channel::Rtp => 0,
            Channel::Rtcp => 1,
        };
        match self.side {
            Side::A => channel,
            Side::B => 2 + channel,
        }
    }
}

/// Which socket of a call: one for each port, then the short ways of both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lane(usize);

impl Lane {
    /// Lanes of a call.
    pub(super) const COUNT: usize = 6;
    /// Those of the ports.
    pub(super) const PORTS: [Lane; 4] = [Lane(0), Lane(1), Lane(2), Lane(3)];
    const DIRECT: [Lane; 2] = [Lane(4), Lane(5)];

    pub(super) fn of(number: usize) -> Self {
        Lane(number % Lane::COUNT)
    }

    pub(super) fn number(self) -> usize {
        self.0
    }

    /// Whose port it is on.
    pub(super) fn slot(self) -> Option<Slot> {
        let ports = if self.0 < Slot::ALL.len() { self.0 } else { (self.0 - Slot::ALL.len()) * 2 };
        Slot::ALL.get(ports).copied()
    }
}

/// An even port and the odd one above it, bound.
pub(super) struct Pair {
    pub(super) port: u16,
    pub(super) rtp: UdpSocket,
    pub(super) rtcp: UdpSocket,
}

impl Pair {
    pub(super) fn bind(address: IpAddr, port: u16, dscp: Dscp) -> io::Result<Self> {
        let bind = |port| bind((address, port).into(), dscp, Sharing::Alone);
        Ok(Pair { port, rtp: bind(port)?, rtcp: bind(port + 1)? })
    }
}

/// Whether another socket of ours may have the same port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    Alone,
    Shared,
}

pub(super) fn bind(address: SocketAddr, dscp: Dscp, sharing: Sharing) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    mark(&socket, address, dscp);
    if sharing == Sharing::Shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// A host that refuses the mark sends packets without it: worth one warning, and no call.
fn mark(socket: &Socket, address: SocketAddr, dscp: Dscp) {
    static REFUSED: Once = Once::new();
    // The two bits below it are for congestion notification (RFC 2474 §3, RFC 3168 §5).
    let class = u32::from(dscp.value()) << 2;
    let marked = match address {
        SocketAddr::V4(_) => socket.set_tos_v4(class),
        SocketAddr::V6(_) => socket.set_tclass_v6(class),
    };
    if let Err(error) = marked {
        REFUSED
            .call_once(|| tracing::warn!(%error, dscp = dscp.value(), "media packets go out without a DSCP"));
    }
}

/// The sockets.
pub(super) struct Lanes {
    ports: [UdpSocket; 4],
    /// To the RTP of A and of B.
    direct: [Option<Direct>; 2],
}

impl Lanes {
    pub(super) fn new(a: Pair, b: Pair) -> Self {
        Lanes { ports: [a.rtp, a.rtcp, b.rtp, b.rtcp], direct: [None, None] }
    }

    /// All but the short ways.
    pub(super) fn ports(&self) -> impl Iterator<Item = (Lane, BorrowedFd<'_>)> {
        Lane::PORTS.into_iter().zip(self.ports.iter().map(AsFd::as_fd))
    }

    /// Whether the sockets of a side are of the family of that address; one of no host is of either.
    pub(super) fn speak_with(&self, side: Side, remote: IpAddr) -> bool {
        let at = Slot { side, channel: Channel::Rtp }.index();
        let own = self.ports.get(at).and_then(|socket| socket.local_addr().ok());
        remote.is_unspecified() || own.is_some_and(|own| own.is_ipv4() == remote.is_ipv4())
    }

    /// Other sockets for the ports of a side, watched before the former ones are closed.
    pub(super) fn replace(
        &mut self,
        side: Side,
        pair: Pair,
        watch: impl Fn(Lane, BorrowedFd<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        for (channel, socket) in [(Channel::Rtp, pair.rtp), (Channel::Rtcp, pair.rtcp)] {
            let at = Slot { side, channel }.index();
            watch(Lane(at), socket.as_fd())?;
            if let Some(place) = self.ports.get_mut(at) {
                *place = socket;
            }
        }
        Ok(())
    }

    /// Opens short ways to where the peers are now, and has them watched. What cannot be opened or watched is done without.
    pub(super) fn follow_peers(
        &mut self,
        peers: [Option<SocketAddr>; 2],
        dscp: Dscp,
        watch: impl Fn(Lane, BorrowedFd<'_>) -> io::Result<()>,
    ) {
        let [first_a, _, first_b, _] = &self.ports;
        for (((way, peer), first), lane) in
            self.direct.iter_mut().zip(peers).zip([first_a, first_b]).zip(Lane::DIRECT)
        {
            if way.as_ref().map(Direct::peer) != peer {
                let new = peer.and_then(|peer| Direct::open(first, peer, dscp).ok());
                *way = new.filter(|way| watch(lane, way.socket().as_fd()).is_ok());
            }
        }
    }

    /// Packets of a side that found no room in a socket.
    pub(super) fn overflowed(&self, side: Side, overflows: &Overflows) -> u64 {
        let at = Slot { side, channel: Channel::Rtp }.index();
        let direct = self.direct.get(at / 2).and_then(Option::as_ref).map(Direct::socket);
        self.ports.get(at).into_iter().chain(direct).filter_map(|socket| overflows.of(socket)).sum()
    }

    /// The packet that waits on a lane: its length and whence it came.
    pub(super) fn receive(&self, lane: Lane, room: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        match self.ports.get(lane.0) {
            Some(socket) => socket.recv_from(room),
            None => match self.direct.get(lane.0 - self.ports.len()).and_then(Option::as_ref) {
                Some(direct) => direct.receive(room),
                None => Err(io::ErrorKind::NotFound.into()),
            },
        }
    }

    /// True if the kernel took it.
    pub(super) fn send(&self, side: Side, channel: Channel, to: SocketAddr, packet: &[u8]) -> bool {
        let at = Slot { side, channel }.index();
        let direct = match channel {
            Channel::Rtp => self.direct.get(at / 2).and_then(Option::as_ref),
            Channel::Rtcp => None,
        };
        direct.is_some_and(|direct| direct.peer() == to && direct.send(packet))
            || self.ports.get(at).is_some_and(|socket| socket.send_to(packet, to).is_ok())
    }
}
