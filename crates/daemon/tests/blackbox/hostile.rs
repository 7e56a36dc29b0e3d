//! Clumsy and hostile use of the real binary: bursts on one connection, files without end, patience without end.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::harness::{Net, Process, folder, metric_sum, umbra};
use crate::site::{PBX_HOST, Site};

/// Requests of one burst: several times what may wait for one connection.
const BURST: usize = 6_000;

#[test]
fn a_burst_from_a_peer_that_reads_is_answered_to_the_last_request() {
    let site = Site::start();
    let (from, gateway) = (site.net.host(PBX_HOST), site.gateway.address);
    let mut writer = connect(from, gateway);
    let reader = writer.try_clone().unwrap();
    let requests: String = (0..BURST).map(|number| options(from, gateway, number)).collect();
    let sender = std::thread::spawn(move || writer.write_all(requests.as_bytes()));
    let answered = count_answers(reader, BURST);
    assert!(sender.join().unwrap().is_ok(), "the gateway closed the connection");
    assert_eq!(answered, BURST, "{}", site.gateway.process.output());
    assert_eq!(metric_sum(&site.metrics(), "umbra_dropped_messages_total"), 0.0);
}

#[test]
#[cfg(unix)]
fn a_configuration_without_end_is_refused() {
    let folder = folder();
    let mut command = umbra();
    let mut check =
        Process::start("check", command.arg("check").arg("/dev/zero").env("NO_COLOR", "1"), folder.path());
    assert_eq!(check.wait(Duration::from_secs(10)), 78);
    assert!(check.output().contains("longer than"), "{}", check.output());
}

#[test]
fn patience_without_end_still_ends_with_the_last_call() {
    let (folder, gateway) = (folder(), Net::new().host(20));
    let file = folder.path().join("umbra.toml");
    let config =
        include_str!("../../../../config/minimal-plain.toml").replace("127.0.0.1", &gateway.to_string());
    std::fs::write(&file, config).unwrap();
    let mut command = umbra();
    command.arg("run").arg("-c").arg(&file).args(["--drain-timeout", &u64::MAX.to_string()]);
    let mut process = Process::start("umbra", &mut command, folder.path());
    process.wait_for_port(gateway.into(), 5060);
    process.signal("TERM");
    assert_eq!(process.wait(Duration::from_secs(20)), 0, "{}", process.output());
}

fn connect(from: Ipv4Addr, to: Ipv4Addr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&std::net::SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&std::net::SocketAddr::from((to, 5060)).into()).unwrap();
    socket.into()
}

fn options(from: Ipv4Addr, to: Ipv4Addr, number: usize) -> String {
    format!(
        "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/TCP {from}:5060;branch=z9hG4bKburst{number}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:pbx@{from}>;tag=b{number}\r\nTo: <sip:{to}>\r\n\
         Call-ID: burst-{number}@{from}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

/// Status lines of 200 until `wanted` came, the connection closes or nothing comes any more.
fn count_answers(mut stream: TcpStream, wanted: usize) -> usize {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let (mut text, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    let count = |text: &[u8]| text.windows(12).filter(|window| window == b"SIP/2.0 200 ").count();
    let mut answered = 0;
    while answered < wanted {
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(read) => text.extend_from_slice(&buffer[..read]),
        }
        // The last bytes may be the beginning of a status line.
        let kept = text.len().min(11);
        answered += count(&text);
        text.drain(..text.len() - kept);
    }
    answered
}
