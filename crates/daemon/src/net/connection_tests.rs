//! Real sockets on loopback: one end is a connection as a shard holds it, the other a blocking socket of the test.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream as Blocking};

use b2bua::engine::PeerIdentity;
use sip::Transport;

use super::*;

const OPTIONS: &[u8] =
    b"OPTIONS sip:umbra SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bK1\r\nFrom: <sip:a>;tag=1\r\n\
To: <sip:b>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n";
const PATIENCE: Duration = Duration::from_secs(5);

struct Pair {
    ours: Connection,
    theirs: Blocking,
    scratch: Vec<u8>,
    messages: Vec<Bytes>,
    start: Instant,
}

fn pair(limits: &NetLimits) -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let theirs = Blocking::connect(listener.local_addr().unwrap()).unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    let (stream, remote) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let start = Instant::now();
    let arrived = Arrived {
        local: stream.local_addr().unwrap(),
        stream,
        wire: Wire::Plain,
        transport: Transport::Tcp,
        remote,
        peer: PeerIdentity::Address,
        tls: None,
        permit: None,
        credentials: None,
    };
    let ours = Connection::new(start, arrived, limits);
    Pair { ours, theirs, scratch: vec![0; 64 * 1024], messages: Vec::new(), start }
}

impl Pair {
    /// Reads until `done` says so; loopback delivers a moment later.
    fn read_until(&mut self, done: impl Fn(&[Bytes]) -> bool) -> Result<Heard, ReadEnd> {
        let until = Instant::now() + PATIENCE;
        loop {
            let read = self.ours.read(Instant::now(), &mut self.scratch, &mut self.messages);
            if read.is_err() || done(&self.messages) {
                return read;
            }
            assert!(Instant::now() < until, "nothing came");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn messages_are_cut_out_of_the_stream_however_it_is_split() {
    let mut pair = pair(&NetLimits::default());
    pair.theirs.write_all(&OPTIONS[..40]).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    pair.read_until(|_| true).unwrap();
    pair.theirs.write_all(&OPTIONS[40..]).unwrap();
    pair.theirs.write_all(OPTIONS).unwrap();
    pair.read_until(|messages| messages.len() == 2).unwrap();
    assert!(pair.messages.iter().all(|message| &message[..] == OPTIONS));
}

#[test]
fn a_keep_alive_is_answered() {
    let mut pair = pair(&NetLimits::default());
    pair.theirs.write_all(b"\r\n\r\n").unwrap();
    while !pair.ours.wants_write() {
        pair.read_until(|_| true).unwrap();
    }
    pair.ours.flush(Instant::now()).unwrap();
    let mut pong = [0; 2];
    pair.theirs.read_exact(&mut pong).unwrap();
    assert_eq!(&pong, b"\r\n");
}

#[test]
fn messages_before_lost_framing_count_and_the_400_leaves_before_the_end() {
    let mut pair = pair(&NetLimits::default());
    let broken = String::from_utf8_lossy(OPTIONS).replace("Content-Length: 0", "Content-Length: -1");
    pair.theirs.write_all(&[OPTIONS, broken.as_bytes()].concat()).unwrap();
    let Err(ReadEnd::FramingLost { answer: Some(answer), .. }) = pair.read_until(|_| false) else {
        panic!("framing must be lost")
    };
    assert_eq!(pair.messages.len(), 1);
    pair.ours.send(&answer).unwrap();
    pair.ours.leave(Instant::now(), Leave::HearOut);
    assert_eq!(pair.ours.send(&answer), Err(SendFault::Gone));
    pair.ours.flush(Instant::now()).unwrap();
    let mut text = String::new();
    pair.theirs.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("SIP/2.0 400 "), "{text}");
    assert!(!pair.ours.has_left(), "the peer is heard out");
    drop(pair.theirs);
    let until = Instant::now() + PATIENCE;
    while !matches!(
        pair.ours.read(Instant::now(), &mut pair.scratch, &mut pair.messages),
        Err(ReadEnd::Closed)
    ) {
        assert!(Instant::now() < until);
    }
}

#[test]
fn each_deadline_means_its_own_thing() {
    let limits = NetLimits::default();
    let ms = Duration::from_millis(1);
    let mut idle = pair(&limits);
    assert_eq!(idle.ours.on_deadline(idle.start + limits.idle_timeout - ms, &limits), Due::Nothing);
    assert_eq!(idle.ours.on_deadline(idle.start + limits.idle_timeout, &limits), Due::Idle);
    let mut header = pair(&limits);
    header.theirs.write_all(&OPTIONS[..40]).unwrap();
    std::thread::sleep(Duration::from_millis(5));
    header.read_until(|_| true).unwrap();
    let begun = header.ours.begun.unwrap();
    assert_eq!(header.ours.on_deadline(begun + limits.header_timeout - ms, &limits), Due::Nothing);
    // A byte now and then does not help.
    header.ours.heard = begun + limits.header_timeout - ms;
    assert_eq!(header.ours.on_deadline(begun + limits.header_timeout, &limits), Due::PartialMessage);
    let mut body = pair(&limits);
    let text = String::from_utf8_lossy(OPTIONS).replace("Content-Length: 0", "Content-Length: 9");
    body.theirs.write_all(text.as_bytes()).unwrap();
    while body.ours.begun.is_none() {
        body.read_until(|_| true).unwrap();
    }
    let begun = body.ours.begun.unwrap();
    assert_eq!(body.ours.on_deadline(begun + limits.body_timeout - ms, &limits), Due::Nothing);
    assert_eq!(body.ours.on_deadline(begun + limits.body_timeout, &limits), Due::PartialMessage);
}

#[test]
fn a_peer_that_does_not_read_is_cut_off_by_bytes_and_by_time_and_is_not_read_meanwhile() {
    let limits = NetLimits { queue_bytes_max: READ_PAUSE_BYTES + 64 * 1024, ..NetLimits::default() };
    let mut pair = pair(&limits);
    let chunk = vec![b'x'; 64 * 1024];
    let until = Instant::now() + PATIENCE;
    while !pair.ours.is_stuck() {
        pair.ours.send(&chunk).unwrap();
        pair.ours.flush(pair.start).unwrap();
        assert!(Instant::now() < until, "a socket buffer without end");
    }
    assert_eq!(pair.ours.on_deadline(pair.start + limits.write_timeout, &limits), Due::Stuck);
    assert!(pair.ours.become_ready(false));
    while pair.ours.may_read() {
        pair.ours.send(&chunk).unwrap();
    }
    assert_eq!(pair.ours.send(&chunk), Err(SendFault::SlowReader));
    assert!(!pair.ours.resume());
    let mut sink = vec![0; 64 * 1024];
    while pair.ours.wants_write() {
        let _read = pair.theirs.read(&mut sink).unwrap();
        pair.ours.flush(Instant::now()).unwrap();
    }
    assert!(pair.ours.resume(), "it is read again once it has taken its answers");
}

#[test]
fn one_large_message_passes_when_nothing_waits() {
    let mut pair = pair(&NetLimits { queue_bytes_max: 3, ..NetLimits::default() });
    pair.ours.send(b"hello").unwrap();
    assert_eq!(pair.ours.send(b"again"), Err(SendFault::SlowReader));
    pair.ours.flush(Instant::now()).unwrap();
    pair.ours.send(b"again").unwrap();
}

#[test]
fn a_quiet_connection_gives_its_buffers_back() {
    let limits = NetLimits::default();
    let mut pair = pair(&limits);
    pair.theirs.write_all(OPTIONS).unwrap();
    pair.read_until(|messages| messages.len() == 1).unwrap();
    pair.ours.send(&[0; 4096]).unwrap();
    pair.ours.flush(Instant::now()).unwrap();
    assert!(pair.ours.deadline(&limits) <= Instant::now() + QUIET);
    assert_eq!(pair.ours.on_deadline(Instant::now() + QUIET, &limits), Due::Nothing);
    assert_eq!(pair.ours.out.capacity(), 0);
    assert!(pair.ours.deadline(&limits) > Instant::now() + QUIET, "the next look is the idle limit's");
}
