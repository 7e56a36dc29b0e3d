//! A call between a leg whose media is on IPv6 and one on IPv4, and the mark on every media packet of both families.

use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use socket2::SockRef;

use crate::stage::{GATEWAYS, Stage};
use crate::wire::{Carrier, Dialog, tag, value};

const PATIENCE: Duration = Duration::from_secs(5);

/// A socket that sees the traffic class of what it gets.
fn socket(address: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((address, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    match address {
        IpAddr::V4(_) => SockRef::from(&socket).set_recv_tos_v4(true).unwrap(),
        IpAddr::V6(_) => SockRef::from(&socket).set_recv_tclass_v6(true).unwrap(),
    }
    socket
}

fn describes(socket: &UdpSocket) -> String {
    let at = socket.local_addr().unwrap();
    let family = if at.is_ipv4() { "IP4" } else { "IP6" };
    let address = at.ip();
    format!(
        "v=0\r\no=- 1 1 IN {family} {address}\r\ns=-\r\nc=IN {family} {address}\r\nt=0 0\r\nm=audio {} RTP/AVP 0\r\n",
        at.port()
    )
}

/// Where a description of the gateway wants RTP; its lines name one family.
fn told(message: &str) -> SocketAddr {
    let body = message.split_once("\r\n\r\n").unwrap().1;
    let at = sdp::Session::parse(body.as_bytes()).unwrap().audio().unwrap().remote().unwrap().0;
    let family = if at.is_ipv4() { "IP4" } else { "IP6" };
    let line = format!("c=IN {family} {}\r\n", at.ip());
    assert!(body.contains(&line) && body.contains(&line[2..]), "{body}");
    at
}

/// The next RTP packet: where it is from, its payload, its code point.
fn hears(socket: &UdpSocket) -> (SocketAddr, Vec<u8>, u8) {
    let mut bytes = [0; 2_000];
    let mut space = nix::cmsg_space!([i32; 4]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty());
    let message = message.unwrap();
    let class = message.cmsgs().unwrap().find_map(|part| match part {
        ControlMessageOwned::Ipv4Tos(class) => Some(class),
        ControlMessageOwned::Ipv6TClass(class) => u8::try_from(class).ok(),
        _ => None,
    });
    let from = message.address.unwrap();
    let from = match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
        (Some(v4), _) => SocketAddr::from((v4.ip(), v4.port())),
        (_, Some(v6)) => SocketAddr::from((v6.ip(), v6.port())),
        _ => panic!("an address of neither family"),
    };
    let length = message.bytes;
    (from, bytes[..length].to_vec(), class.expect("a traffic class") >> 2)
}

/// The socket of the caller's family is there with the first plan, which the media thread may get after the answer is out. What
/// it then holds waits in it.
fn wait_for_socket(at: SocketAddr) {
    let local = format!("{:024}{:08X}:{:04X} ", 0, 1_u32.to_be(), at.port());
    let begun = Instant::now();
    while !std::fs::read_to_string("/proc/net/udp6").unwrap().contains(&local) {
        assert!(begun.elapsed() < PATIENCE, "no socket at {at}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn speech(sequence: u8) -> Vec<u8> {
    [&[0x80, 0, 0, sequence, 0, 0, 0, 0, 7, 7, 7, 7][..], &[0x55; 160]].concat()
}

fn call(media: &str, code_point: u8) {
    let stage = Stage::start(Carrier::Tcp, |config| {
        config.replace("[media]\n", &format!("[media]\naddress = \"::1\"\n{media}"))
    });
    let mut phone = stage.peer(GATEWAYS[0]);
    let (caller, server) = (socket(Ipv6Addr::LOCALHOST.into()), socket(stage.net.host(30).into()));
    let mut dialog = Dialog::begun("families");
    phone.asks_with(&dialog, "INVITE", 1, "", &describes(&caller));
    let mut um = stage.called();
    let invite = um.hears("INVITE ");
    let toward_um = told(&invite);
    assert_eq!(toward_um.ip(), IpAddr::from(stage.net.host(20)), "UM is told IPv4");
    um.answers(&invite, "200 OK", &describes(&server));
    let success = phone.hears("SIP/2.0 200 ");
    let toward_caller = told(&success);
    assert_eq!(toward_caller.ip(), IpAddr::from(Ipv6Addr::LOCALHOST), "the caller is told IPv6");
    dialog.theirs = tag(&value(&success, "To"));
    phone.asks(&dialog, "ACK", 1, "");
    um.hears("ACK ");
    wait_for_socket(toward_caller);
    for sequence in 1..=3 {
        caller.send_to(&speech(sequence), toward_caller).unwrap();
        assert_eq!(hears(&server), (toward_um, speech(sequence), code_point));
        server.send_to(&speech(sequence), toward_um).unwrap();
        assert_eq!(hears(&caller), (toward_caller, speech(sequence), code_point));
    }
    phone.says_in(&dialog, "BYE", 2, "200", || drop(um.serves("BYE")));
    let records = stage.umbra.wait_for_records(1, PATIENCE);
    for side in ["a", "b"] {
        assert_eq!(records[0]["media"][side]["packets"], 3, "{side}");
    }
}

#[test]
fn media_passes_between_ipv6_and_ipv4_marked_for_expedited_forwarding() {
    call("", 46);
}

#[test]
fn another_mark_is_on_the_packets_of_both_families() {
    call("dscp = \"AF41\"\n", 34);
}

#[test]
fn an_offer_of_a_family_that_there_is_no_address_of_is_refused_with_the_reason() {
    let stage = Stage::start(Carrier::Tcp, |config| config);
    let mut phone = stage.peer(GATEWAYS[0]);
    let caller = socket(Ipv6Addr::LOCALHOST.into());
    phone.asks_with(&Dialog::begun("no-family"), "INVITE", 1, "", &describes(&caller));
    let refusal = phone.hears("SIP/2.0 488 ");
    assert!(refusal.contains("media address ::1 is of a family that there is none of here"), "{refusal}");
    let records = stage.umbra.wait_for_records(1, PATIENCE);
    assert_eq!(records[0]["verdict"]["code"], "UMB-MEDIA009");
}
