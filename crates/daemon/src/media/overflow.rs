//! What the kernel threw away because a socket's buffer was full: packets that came, and found this host too busy.
//!
//! Owns the question to the kernel (netlink, `inet_diag.h`) and its answer. Refuses to know calls. Asked at the end of a call
//! that lost packets: with each packet the kernel's count would cost a fifth of what receiving does.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// `INET_DIAG_SKMEMINFO`, and the place of the drops in it (`SK_MEMINFO_DROPS`).
const MEMORY: u16 = 7;
const DROPS: usize = 8;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const PROTOCOL_UDP: u8 = 17;
/// Octets of `nlmsghdr`, of `inet_diag_req_v2` and of `inet_diag_msg`.
const HEADER_BYTES: usize = 16;
const QUESTION_BYTES: usize = 56;
const FACTS_BYTES: usize = 72;
/// More than an answer with one attribute has.
const ANSWER_BYTES_MAX: usize = 1_024;

/// Who can be asked.
pub(super) struct Overflows(OwnedFd);

impl Overflows {
    /// `None` where the kernel has no such interface, or a container may not use it.
    pub(super) fn open() -> Option<Self> {
        let (family, flags) = (AddressFamily::NETLINK, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK);
        socket_with(family, SocketType::RAW, flags, Some(netlink::SOCK_DIAG)).ok().map(Overflows)
    }

    /// Packets that a socket had no room for.
    pub(super) fn of(&self, socket: &UdpSocket) -> Option<u64> {
        let question = question(socket.local_addr().ok()?, socket.peer_addr().ok())?;
        send(&self.0, &question, SendFlags::empty()).ok()?;
        let mut answer = [0; ANSWER_BYTES_MAX];
        // It is answered while it is sent.
        let (length, _) = recv(&self.0, &mut answer, RecvFlags::DONTWAIT).ok()?;
        drops(answer.get(..length)?)
    }
}

/// Asks for the one socket that would be given a packet of `peer` to `local`: so its own side stands under "destination".
fn question(local: SocketAddr, peer: Option<SocketAddr>) -> Option<Vec<u8>> {
    let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
    let length = u32::try_from(HEADER_BYTES + QUESTION_BYTES).ok()?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + QUESTION_BYTES);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(REQUEST.to_ne_bytes());
    bytes.extend([0; 8]); // sequence and sender
    bytes.extend([family, PROTOCOL_UDP, 1 << (MEMORY - 1), 0]);
    bytes.extend(u32::MAX.to_ne_bytes()); // in any state
    bytes.extend(peer.map_or(0, |peer| peer.port()).to_be_bytes());
    bytes.extend(local.port().to_be_bytes());
    bytes.extend(peer.map_or([0; 16], |peer| words(peer.ip())));
    bytes.extend(words(local.ip()));
    bytes.extend(0u32.to_ne_bytes()); // by any interface
    bytes.extend([0xFF; 8]); // no cookie
    Some(bytes)
}

/// An address in the room of four words.
fn words(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V6(address) => address.octets(),
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
    }
}

/// The drops in an answer; `None` if it is an error, or has none.
fn drops(answer: &[u8]) -> Option<u64> {
    if half(answer, 4)? != BY_FAMILY {
        return None;
    }
    let mut rest = answer.get(HEADER_BYTES + FACTS_BYTES..)?;
    loop {
        let length = usize::from(half(rest, 0)?);
        if half(rest, 2)? == MEMORY {
            let at = 4 + DROPS * 4;
            let word = rest.get(at..at + 4).filter(|_| length >= at + 4)?;
            return Some(u64::from(u32::from_ne_bytes(word.try_into().ok()?)));
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_found_no_room_is_counted_for_each_socket_of_a_port() {
        let Some(overflows) = Overflows::open() else {
            return println!("skipped: no netlink here");
        };
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(socket) = UdpSocket::bind(address) else { continue };
            let phone = UdpSocket::bind(address).unwrap();
            let Some(before) = overflows.of(&socket) else {
                return println!("skipped: the kernel tells nothing of UDP sockets");
            };
            assert_eq!(before, 0);
            for _ in 0..5_000 {
                phone.send_to(&[0; 172], socket.local_addr().unwrap()).unwrap();
            }
            let dropped = overflows.of(&socket).unwrap();
            assert!((1..5_000).contains(&dropped), "{dropped}");
            socket.connect(phone.local_addr().unwrap()).unwrap();
            assert_eq!(overflows.of(&socket), Some(dropped));
            drop(socket);
        }
    }

    #[test]
    fn an_answer_that_is_none_says_nothing() {
        let mut answer = vec![0; HEADER_BYTES + FACTS_BYTES];
        assert_eq!(drops(&answer), None);
        answer[4..6].copy_from_slice(&BY_FAMILY.to_ne_bytes());
        assert_eq!(drops(&answer), None);
        answer.extend([0, 0, 9, 0]); // an attribute of no length
        assert_eq!(drops(&answer), None);
        answer.extend([[40, 0], MEMORY.to_ne_bytes()].concat());
        answer.extend([7; 36]);
        assert_eq!(drops(&answer), Some(0x0707_0707));
        answer.truncate(answer.len() - 1);
        assert_eq!(drops(&answer), None);
    }
}
