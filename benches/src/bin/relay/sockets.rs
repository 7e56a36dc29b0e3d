//! UDP sockets whose arrivals carry the kernel's time.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use nix::sys::socket::sockopt::ReceiveTimestampns;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};
use nix::sys::time::TimeSpec;
use umbra_benches::load::{Result, text};

/// Asked for; the kernel gives what it may.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// A socket that sends, and collects what arrives.
pub struct Sink {
    socket: UdpSocket,
    address: SocketAddr,
    bytes: Vec<u8>,
    control: Vec<u8>,
}

/// What arrived.
pub struct SinkPacket<'p> {
    pub bytes: &'p [u8],
    /// Since the epoch, by the kernel.
    pub arrived_ns: u64,
}

impl Sink {
    /// On a port of its own.
    pub fn bind(address: Ipv4Addr) -> Result<Self> {
        let socket = UdpSocket::bind((address, 0)).map_err(text)?;
        socket.set_nonblocking(true).map_err(text)?;
        setsockopt(&socket, ReceiveTimestampns, &true).map_err(text)?;
        // Root may exceed the system's limit, others get what it allows.
        let forced = setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES);
        if forced.is_err() {
            setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES).map_err(text)?;
        }
        let address = socket.local_addr().map_err(text)?;
        Ok(Self { socket, address, bytes: vec![0; 2_048], control: nix::cmsg_space!(TimeSpec) })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends one datagram.
    pub fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.socket.send_to(bytes, to)
    }

    /// Hands over everything that has arrived.
    pub fn drain(&mut self, mut take: impl FnMut(SinkPacket<'_>)) {
        loop {
            let mut slices = [IoSliceMut::new(&mut self.bytes)];
            let (fd, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
            let Ok(message) = recvmsg::<()>(fd, &mut slices, Some(&mut self.control), flags) else { return };
            let length = message.bytes;
            let arrived =
                message.cmsgs().ok().and_then(|mut all| all.find_map(nanoseconds)).unwrap_or_default();
            take(SinkPacket { bytes: &self.bytes[..length], arrived_ns: arrived });
        }
    }
}

fn nanoseconds(control: ControlMessageOwned) -> Option<u64> {
    match control {
        ControlMessageOwned::ScmTimestampns(time) => {
            Some(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
        }
        _ => None,
    }
}
