//! Malformed bytes on both ports: each connection is answered 400 or closed, and the next call is unharmed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use lab::frontend::{CallSpec, OfferShape};

use crate::site::{PBX_HOST, Site};

const JUNK: &[&[u8]] = &[
    b"\0\0\0\0\0\0\0\0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: umbra\r\n\r\n",
    b"INVITE sip:a@b SIP/2.0\r\n\r\n",
    b"INVITE sip:a@b SIP/2.0\r\nContent-Length: -1\r\n\r\n",
    b"INVITE sip:a@b SIP/2.0\r\nContent-Length: 4294967297\r\n\r\nx",
    b"INVITE sip:a@b SIP/2.0\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"INVITE sip:a@b SIP/7.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:b@b>\r\n\
      Call-ID: x\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n",
    b"INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK2\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:b@b>\r\n\
      Call-ID: x\r\nCSeq: 1 BYE\r\nContent-Length: 0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
];

/// Sends bytes and says whether the gateway answered 400 or closed the connection.
fn refused(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut buffer = [0u8; 2048];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(n) => answer.extend_from_slice(&buffer[..n]),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                return false;
            }
            Err(_) => return true,
        }
        if answer.starts_with(b"SIP/2.0 400 ") || answer.starts_with(b"SIP/2.0 505 ") {
            return true;
        }
    }
}

#[test]
fn junk_on_both_ports_is_refused_and_the_next_call_is_unharmed() {
    let site = Site::start();
    let from = site.net.host(PBX_HOST);
    std::thread::scope(|scope| {
        for (port, bytes) in
            [5060, 5061].into_iter().flat_map(|port| JUNK.iter().map(move |bytes| (port, *bytes)))
        {
            let address = (site.gateway.address, port).into();
            scope.spawn(move || {
                let refused = refused(&mut socket_from(from, address), bytes);
                assert!(refused, "port {port} kept {:?} open unanswered", String::from_utf8_lossy(bytes));
            });
        }
    });
    let caller = site.pool("pool01");
    let mut call = CallSpec::call_answering("ken", "dana", "contoso.com");
    call.shape = OfferShape::Lync2013Multipart;
    let outcome = site.block_on(caller.place_call(call)).unwrap();
    assert_eq!(outcome.status, 200, "{outcome:?}\n{}", site.gateway.process.output());
    site.block_on(caller.close());
}

/// A connection from a given loopback address, so that the gateway takes it for the IP-PBX.
pub fn socket_from(from: std::net::Ipv4Addr, to: std::net::SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}
