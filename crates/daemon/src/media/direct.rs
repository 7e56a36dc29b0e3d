//! The short way to a peer: a second socket on an RTP port of ours, connected to where the peer is.
//!
//! Owns that socket and its peer. The kernel looks no route up for it and hands it only what this peer sends; the first
//! socket of the port still hears everybody else, so a peer that moves is heard. Refuses to know sessions: whoever has moved is
//! sent to by the first socket until a new short way is opened.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::SockRef;

use super::Dscp;
use super::lanes::{Sharing, bind};

/// A connected socket.
pub(super) struct Direct {
    socket: UdpSocket,
    peer: SocketAddr,
}

impl Direct {
    /// Opens one beside `first`, on the same port.
    pub(super) fn open(first: &UdpSocket, peer: SocketAddr, dscp: Dscp) -> io::Result<Self> {
        // Only now: while a port is being taken, nobody else of this user may share it.
        SockRef::from(first).set_reuse_port(true)?;
        let socket = bind(first.local_addr()?, dscp, Sharing::Shared)?;
        // What came before this line is anybody's, the peer's too, and is judged by whence it came.
        socket.connect(peer)?;
        Ok(Direct { socket, peer })
    }

    /// Where it is connected to.
    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(super) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    pub(super) fn receive(&self, room: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.recv_from(room)
    }

    /// True if the kernel took it. An ICMP error of an earlier packet is told here instead of sending.
    pub(super) fn send(&self, packet: &[u8]) -> bool {
        self.socket.send(packet).is_ok()
    }
}
