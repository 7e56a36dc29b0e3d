//! The four sockets and the session of one call.
//!
//! Owns binding, receiving and sending. Refuses to know other calls and the poller's tokens.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Once;
use std::time::Instant;

use mio::net::UdpSocket;
use relay::{Channel, PacketBuffer, Plan, PlanError, Session, SessionStats, Side, Verdict};
use socket2::{Domain, Protocol, Socket, Type};

use super::Dscp;

/// Octets the kernel may hold for one socket: about half a second of speech in packets of 20 ms.
pub const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;
/// Packets read from one socket before others get their turn.
const BATCH_PACKETS: usize = 32;

/// Which socket of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) side: Side,
    pub(super) channel: Channel,
}

impl Slot {
    pub(super) const ALL: [Slot; 4] = [
        Slot { side: Side::A, channel: Channel::Rtp },
        Slot { side: Side::A, channel: Channel::Rtcp },
        Slot { side: Side::B, channel: Channel::Rtp },
        Slot { side: Side::B, channel: Channel::Rtcp },
    ];

    pub(super) fn index(self) -> usize {
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

/// An even port and the odd one above it, bound.
pub(super) struct Pair {
    pub(super) port: u16,
    pub(super) rtp: UdpSocket,
    pub(super) rtcp: UdpSocket,
}

impl Pair {
    pub(super) fn bind(address: IpAddr, port: u16, dscp: Dscp) -> io::Result<Self> {
        let bind = |port| bind((address, port).into(), dscp);
        Ok(Pair { port, rtp: bind(port)?, rtcp: bind(port + 1)? })
    }
}

fn bind(address: SocketAddr, dscp: Dscp) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    mark(&socket, address, dscp);
    socket.bind(&address.into())?;
    Ok(UdpSocket::from_std(socket.into()))
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

/// What is left in a socket after a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Batch {
    /// Nothing: the poller will tell of more.
    Drained,
    /// Perhaps more: the poller will stay silent about it.
    More,
}

/// A call's media.
pub(super) struct Call<K> {
    pub(super) key: K,
    pub(super) sockets: [UdpSocket; 4],
    pub(super) ports: [u16; 2],
    pub(super) session: Option<Box<Session>>,
    /// Where the first plan says that a socket's peer is, until what waited there at that time is read.
    only_from: [Option<SocketAddr>; 4],
}

impl<K> Call<K> {
    pub(super) fn new(key: K, a: Pair, b: Pair) -> Self {
        let ports = [a.port, b.port];
        Call { key, sockets: [a.rtp, a.rtcp, b.rtp, b.rtcp], ports, session: None, only_from: [None; 4] }
    }

    /// Whether the sockets of a side are of the family of that address; one of no host is of either.
    pub(super) fn speaks_with(&self, side: Side, remote: IpAddr) -> bool {
        let slot = Slot { side, channel: Channel::Rtp };
        let own = self.sockets.get(slot.index()).and_then(|socket| socket.local_addr().ok());
        remote.is_unspecified() || own.is_some_and(|own| own.is_ipv4() == remote.is_ipv4())
    }

    /// Puts another socket in one of its places; gives back the former one.
    pub(super) fn replace(&mut self, slot: Slot, socket: UdpSocket) -> Option<UdpSocket> {
        self.sockets.get_mut(slot.index()).map(|place| std::mem::replace(place, socket))
    }

    pub(super) fn port(&self, side: Side) -> u16 {
        let [a, b] = self.ports;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    pub(super) fn apply(&mut self, plan: Plan, now: Instant) -> Result<(), PlanError> {
        match &mut self.session {
            Some(session) => session.apply(plan, now),
            None => {
                self.only_from = Slot::ALL.map(|slot| Some(described(&plan, slot)));
                self.session = Some(Box::new(Session::new(plan, now)?));
                Ok(())
            }
        }
    }

    pub(super) fn stats(&self) -> SessionStats {
        self.session.as_ref().map(|session| session.stats()).unwrap_or_default()
    }

    /// Relays a batch from one socket; counts in `unsent` what the kernel did not take.
    pub(super) fn relay_batch(
        &mut self,
        now: Instant,
        slot: Slot,
        packet: &mut PacketBuffer,
        unsent: &mut u64,
    ) -> Batch {
        for _ in 0..BATCH_PACKETS {
            let Some(socket) = self.sockets.get(slot.index()) else { return Batch::Drained };
            match socket.recv_from(packet.space()) {
                // What was sent before anybody was described is nobody's, and who answers at once has spoken already.
                Ok((_, from)) if self.waits_for_another(slot, from) => {}
                Ok((length, from)) => {
                    packet.set_len(length);
                    *unsent += u64::from(!self.relay(now, slot, from, packet));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.only_from.get_mut(slot.index()).into_iter().for_each(|known| *known = None);
                    return Batch::Drained;
                }
                // Interrupted, or an ICMP error of an earlier packet: the next receive may work.
                Err(_) => {}
            }
        }
        Batch::More
    }

    fn waits_for_another(&self, slot: Slot, from: SocketAddr) -> bool {
        self.only_from.get(slot.index()).copied().flatten().is_some_and(|known| known != from)
    }

    /// Sends what the session itself has to say by now; counts in `unsent` what the kernel did not take.
    pub(super) fn speak(&mut self, now: Instant, packet: &mut PacketBuffer, unsent: &mut u64) {
        let Some(session) = &mut self.session else { return };
        while let Some((side, channel, to)) = session.poll_packet(now, packet) {
            let socket = self.sockets.get(Slot { side, channel }.index());
            let is_sent = socket.is_some_and(|socket| socket.send_to(packet.as_slice(), to).is_ok());
            *unsent += u64::from(!is_sent);
        }
    }

    /// False only if a packet that was to be sent was not taken by the kernel.
    fn relay(&mut self, now: Instant, slot: Slot, from: SocketAddr, packet: &mut PacketBuffer) -> bool {
        // Before the first plan nobody may send anything.
        let Some(session) = &mut self.session else { return true };
        match session.handle_packet(now, slot.side, slot.channel, from, packet) {
            Verdict::Drop(why) => {
                tracing::trace!(side = %slot.side, why = why.name(), "packet dropped");
                true
            }
            Verdict::Forward { side, channel, to } => {
                let out = Slot { side, channel };
                self.sockets
                    .get(out.index())
                    .is_some_and(|socket| socket.send_to(packet.as_slice(), to).is_ok())
            }
        }
    }
}

/// Where the plan has the peer of a socket.
fn described(plan: &Plan, slot: Slot) -> SocketAddr {
    let leg = plan.leg(slot.side);
    match slot.channel {
        Channel::Rtp => leg.remote_rtp,
        Channel::Rtcp => leg.remote_rtcp,
    }
}
