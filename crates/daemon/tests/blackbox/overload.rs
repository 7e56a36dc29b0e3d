//! More than the gateway takes: ten times the admission rate, and a thousand slow connections of each kind. Calls that
//! were let in, and calls in progress, do not notice.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::{Gateway, Net, folder, size};
use crate::traffic::{Caller, alone, config, connect, start_um};

/// New calls a second that the gateway is told to take.
const RATE: usize = 20;
/// How many times as many are offered.
const TIMES: usize = 10;
/// Seconds of it; `UMBRA_OVERLOAD_SECONDS=60` runs the whole figure.
const OVERLOAD_SECONDS: usize = 6;
/// Slow connections of each kind; `UMBRA_SLOW_CONNECTIONS=1000` runs the whole figure (needs 8,000 descriptors).
const SLOW: usize = 300;

#[test]
fn ten_times_the_admission_rate_is_refused_quickly_and_calls_let_in_do_not_notice() {
    let _alone = alone();
    let (net, folder) = (Net::new(), folder());
    start_um(net.host(30));
    let extra = format!("calls_per_second_max = {RATE}\n[listen]\nstartup_mode = \"TCP\"\n");
    let gateway = Gateway::start(folder, net.host(20), 5060, &config(net, &extra));
    let mut caller = Caller::new(net.host(10), gateway.address);
    let seconds = size("UMBRA_OVERLOAD_SECONDS", OVERLOAD_SECONDS);
    let offered = RATE * TIMES * seconds;
    caller.run(0, offered, RATE * TIMES, Duration::from_secs(seconds as u64 + 20));
    let (admitted, refused) = (caller.of(200), caller.of(503));
    assert_eq!(admitted.len() + refused.len(), offered, "{}", gateway.process.output());
    // The rate, and the burst of its first second.
    let rated = RATE * seconds;
    assert!(admitted.len() >= rated * 9 / 10, "{} of {rated} let in", admitted.len());
    assert!(admitted.len() <= rated + RATE + RATE / 2, "{} of {rated} let in", admitted.len());
    assert!(admitted.iter().all(|call| call.in_dialog == [200, 200]), "a request in dialog was refused");
    let mut after: Vec<Duration> = refused.iter().map(|call| call.after).collect();
    after.sort_unstable();
    let p99 = after[after.len() * 99 / 100];
    assert!(p99 <= Duration::from_millis(100), "refused after {p99:?} (p99)");
    let waits: BTreeSet<&str> = refused.iter().map(|call| call.retry_after.as_str()).collect();
    assert!(waits.len() > 4 && !waits.contains(""), "{waits:?}");
    println!("{} let in, {} refused, p99 {p99:?}, {} waits", admitted.len(), refused.len(), waits.len());
    // Normal again.
    std::thread::sleep(Duration::from_secs(2));
    let mut later = Caller::new(net.host(10), gateway.address);
    later.run(offered, RATE, RATE, Duration::from_secs(20));
    assert_eq!(later.of(200).len(), RATE);
}

#[test]
fn slow_connections_of_each_kind_are_closed_in_time_while_every_call_succeeds() {
    const RATE: usize = 10;
    let each = size("UMBRA_SLOW_CONNECTIONS", SLOW);
    let _alone = alone();
    let (net, folder) = (Net::new(), folder());
    let pki = lab::pki::Pki::open(&folder.path().join("pki")).unwrap();
    let files = pki.identity_files("umbra.contoso.test").unwrap();
    start_um(net.host(30));
    let extra = format!(
        "[tls]\ncertificate = \"{}\"\nprivate_key = \"{}\"\ntrusted_roots = [\"{}\"]\n\
         [listen]\nhandshake_timeout = \"2s\"\nheader_timeout = \"3s\"\nbody_timeout = \"5s\"\n",
        files.certificate.display(),
        files.key.display(),
        pki.root_file().display()
    );
    let gateway = Gateway::start(folder, net.host(20), 5060, &config(net, &extra));
    let (from, to) = (net.host(10), gateway.address);
    let head = "INVITE sip:88895@umbra.contoso.test SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bK1\r\n";
    let body = format!(
        "{head}From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: slow\r\nCSeq: 1 INVITE\r\nContent-Length: 900\r\n\r\n"
    );
    let mut slow: Vec<(&str, Duration, TcpStream, Instant)> = Vec::new();
    for _ in 0..each {
        let tls = TcpStream::connect((to, 5061)).unwrap();
        slow.push(("handshake", Duration::from_secs(2), tls, Instant::now()));
        for (kind, words, after) in [("header", head, 3), ("body", body.as_str(), 5)] {
            let mut stream = connect(from, to);
            stream.write_all(words.as_bytes()).unwrap();
            slow.push((kind, Duration::from_secs(after), stream, Instant::now()));
        }
    }
    let count = 8 * RATE;
    let mut caller = Caller::new(from, to);
    caller.run(0, count, RATE, Duration::from_secs(25));
    assert_eq!(caller.of(200).len(), count, "{}", gateway.process.output());
    let mut after: Vec<Duration> = caller.calls.values().map(|call| call.after).collect();
    after.sort_unstable();
    println!("{} slow connections of each kind; set-up p99 {:?}", each, after[after.len() * 99 / 100]);
    for (kind, patience, mut stream, since) in slow {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let open = |error: &std::io::Error| {
            matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        };
        let mut heard = Vec::new();
        let closed = match stream.read_to_end(&mut heard) {
            Ok(_) => true,
            Err(error) => !open(&error),
        };
        let is_told = heard.starts_with(b"SIP/2.0 400 ");
        assert!(is_told || kind != "body", "{kind}: closed without a word: {}", heard.escape_ascii());
        assert!(closed, "{kind}: still open {:?} after {patience:?}", since.elapsed());
    }
}
