//! Somebody who knocks at every media port with everything there is, before, during and after calls, and while the true peers
//! move. Nothing may come back: a port that answers strangers is found by scanning, and one that follows them gives speech away.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::end::{EVENT, End, INJECTED, SPEECH, rtp};
use super::relays::{Broken, Fault, Rtpengine};
use super::{Relay, Umbra};
use crate::harness::size;

/// Between two packets of an end.
const TICK: Duration = Duration::from_millis(20);
/// Datagrams of the stranger between two breaths.
const BURST: usize = 10;
const BREATH: Duration = Duration::from_millis(2);
/// Longest life of one set of calls.
const GENERATION: Duration = Duration::from_secs(60);
/// Ticks between two moves of an end: a sealed peer is followed every 3 s.
const MOVE_TICKS: u32 = 175;
/// Packets of peers that the stranger has caught and sends again.
const CAUGHT_MAX: usize = 64;

/// What the stranger saw.
#[derive(Debug, Default)]
struct Seen {
    knocks: u64,
    sweeps: u64,
    datagrams: u64,
    bytes: u64,
    spoken: u64,
    heard: u64,
    moves: u64,
}

/// What is shared with the stranger's thread.
#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    knocks: AtomicU64,
    sweeps: AtomicU64,
    datagrams: AtomicU64,
    bytes: AtomicU64,
    /// Packets of peers, and where they went.
    caught: Mutex<Vec<(SocketAddr, Vec<u8>)>>,
}

impl Shared {
    /// From here on the stranger has been everywhere once more.
    fn waits_for_a_sweep(&self) {
        let wanted = self.sweeps.load(Ordering::Relaxed) + 2;
        while self.sweeps.load(Ordering::Relaxed) < wanted {
            std::thread::sleep(TICK);
        }
    }

    fn catches(&self, to: SocketAddr, packet: Vec<u8>) {
        let mut caught = self.caught.lock().unwrap();
        let at = rand::random::<u16>() as usize % CAUGHT_MAX;
        match caught.get_mut(at) {
            Some(place) => *place = (to, packet),
            None => caught.push((to, packet)),
        }
    }
}

/// One of everything.
fn knocks() -> Vec<Vec<u8>> {
    let speech = rtp(SPEECH, 1, 160, 0x0bad_0bad, INJECTED);
    let report = |kind: u8| {
        let mut bytes = vec![0x80, kind, 0, 6, 0x0b, 0xad, 0x0b, 0xad];
        bytes.resize(28, 0);
        bytes
    };
    let described = [&[0x81, 202, 0, 7, 0x0b, 0xad, 0x0b, 0xad, 1, 19][..], INJECTED, &[0, 0, 0]].concat();
    let stun = |kind: u16, attributes: &[u8]| {
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend((attributes.len() as u16).to_be_bytes());
        bytes.extend([0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        bytes.extend(attributes);
        bytes
    };
    let username = [0, 6, 0, 8, b'a', b'b', b'c', b'd', b':', b'x', b'y', b'z'];
    // RFC 8489 §14.5: MESSAGE-INTEGRITY, here of nobody's password.
    let integrity = [&username[..], &[0, 8, 0, 20], &[0x5a; 20]].concat();
    let garbage: Vec<u8> = (0..1_400).map(|_| rand::random()).collect();
    vec![
        Vec::new(),
        vec![0],
        speech.clone(),
        rtp(EVENT, 2, 160, 0x0bad_0bad, &[1, 0x80, 1, 0x90]),
        rtp(SPEECH, u16::MAX, 0, 0, &[]),
        [&speech[..], &[0x5a; 10]].concat(),
        report(200),
        report(201),
        [&report(200)[..], &described].concat(),
        vec![0x81, 203, 0, 1, 0x0b, 0xad, 0x0b, 0xad],
        [&report(201)[..], &[0x80, 0, 0, 1], &[0x5a; 10]].concat(),
        stun(0x0001, &[]),
        stun(0x0001, &username),
        stun(0x0001, &integrity),
        stun(0x0011, &[]),
        // A DTLS and a ZRTP hello.
        vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0],
        [&[0x10, 0, 0, 1, 0x5a, 0x52, 0x54, 0x50][..], &[0x0b; 40]].concat(),
        garbage[..40].to_vec(),
        garbage,
    ]
}

/// Knocks at those ports until it is over.
fn stranger(relay: Ipv4Addr, ports: Range<u16>, at: Ipv4Addr, shared: &Shared) {
    let sockets: Vec<UdpSocket> = (0..4).map(|_| UdpSocket::bind((at, 0)).unwrap()).collect();
    sockets.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
    let all = knocks();
    let mut said = 0;
    let mut says = |bytes: &[u8], to: SocketAddr| {
        let _refused = sockets[said % sockets.len()].send_to(bytes, to);
        said += 1;
        if said % BURST == 0 {
            std::thread::sleep(BREATH);
            listens(&sockets, shared);
        }
        shared.knocks.fetch_add(1, Ordering::Relaxed);
    };
    while !shared.is_over.load(Ordering::Relaxed) {
        for knock in &all {
            for port in ports.clone() {
                says(knock, (relay, port).into());
                if shared.is_over.load(Ordering::Relaxed) {
                    return listens(&sockets, shared);
                }
            }
            let caught = shared.caught.lock().unwrap().clone();
            caught.iter().for_each(|(to, packet)| says(packet, *to));
        }
        shared.sweeps.fetch_add(1, Ordering::Relaxed);
    }
}

fn listens(sockets: &[UdpSocket], shared: &Shared) {
    for socket in sockets {
        while let Ok(count) = socket.recv(&mut [0; 2048]) {
            shared.datagrams.fetch_add(1, Ordering::Relaxed);
            shared.bytes.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

/// Sets of calls one after another for so long, and the stranger around them.
fn probe(relay: &mut dyn Relay, is_sealed: bool, calls: u32, longest: Duration) -> Seen {
    let shared = Arc::new(Shared::default());
    let (target, ports, at) = (relay.address(), relay.ports(), relay.elsewhere());
    let theirs = shared.clone();
    let thread = std::thread::spawn(move || stranger(target, ports, at, &theirs));
    let (mut seen, mut first, until) = (Seen::default(), 0, Instant::now() + longest);
    shared.waits_for_a_sweep();
    while first == 0 || Instant::now() < until {
        let lasts = until.saturating_duration_since(Instant::now()).min(GENERATION);
        generation(relay, is_sealed, first..first + calls, lasts, &shared, &mut seen);
        first += calls;
        shared.waits_for_a_sweep();
    }
    shared.is_over.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    let [knocks, sweeps, datagrams, bytes] =
        [&shared.knocks, &shared.sweeps, &shared.datagrams, &shared.bytes]
            .map(|count| count.load(Ordering::Relaxed));
    Seen { knocks, sweeps, datagrams, bytes, ..seen }
}

/// One set of calls.
fn generation(
    relay: &mut dyn Relay,
    is_sealed: bool,
    numbers: Range<u32>,
    lasts: Duration,
    shared: &Shared,
    seen: &mut Seen,
) {
    let mut calls = Vec::new();
    for number in numbers.clone() {
        let [mut a, mut b] = End::pair(relay.homes(), number, [is_sealed; 2]);
        relay.begins(number, &mut a, &mut b);
        // Every other call speaks from other ports than it described.
        if number % 2 == 1 {
            a.moves();
            b.moves();
            seen.moves += 2;
        }
        calls.push(([a, b], [(); 2].map(|()| (0, Vec::new()))));
    }
    let (began, mut tick) = (Instant::now(), 0);
    while began.elapsed() < lasts {
        for (at, (ends, last)) in calls.iter_mut().enumerate() {
            for side in [0, 1] {
                let is_due = (tick + 37 * at as u32 + 90 * side as u32) % MOVE_TICKS == MOVE_TICKS - 1;
                if is_sealed && is_due {
                    ends[side].moves();
                    seen.moves += 1;
                }
                ends[side].drains();
                // What came through was judged: sent again it is a replay, not a packet that overtook another.
                let (number, packet) = std::mem::take(&mut last[side]);
                if !packet.is_empty() && ends[1 - side].tally.has(number) {
                    shared.catches(ends[side].relay().0, packet);
                }
                last[side] = (ends[side].tally.sent, ends[side].speaks());
                if tick % 50 == 0 {
                    ends[side].reports();
                }
            }
        }
        tick += 1;
        std::thread::sleep((TICK * tick).saturating_sub(began.elapsed()));
    }
    for (number, (mut ends, _)) in numbers.zip(calls) {
        for end in &mut ends {
            end.drains();
            seen.spoken += u64::from(end.tally.sent);
            seen.heard += u64::from(end.tally.heard);
        }
        relay.ends(number);
    }
}

fn release_size() -> (u32, Duration) {
    let (calls, seconds) = (size("UMBRA_PROBE_CALLS", 4), size("UMBRA_PROBE_SECONDS", 5));
    (calls as u32, Duration::from_secs(seconds as u64))
}

fn sees_nothing(is_sealed: bool) {
    let (calls, longest) = release_size();
    // Four ports a call; they rest after it.
    let ports = 20_000..20_000 + 20 * calls.max(4) as u16;
    let mut umbra = Umbra::start_on(is_sealed, ports);
    let seen = probe(&mut umbra, is_sealed, calls, longest);
    println!("stranger, {} calls, {longest:?}, sealed {is_sealed}: {seen:?}", calls);
    assert_eq!((seen.datagrams, seen.bytes), (0, 0), "{seen:?}\n{}", umbra.stage.umbra.process.output());
    // Otherwise there was nothing to be had, or nobody asked.
    assert!(seen.sweeps >= 4 && seen.knocks > 1_000, "{seen:?}");
    assert!(seen.heard * 5 > seen.spoken * 4, "{seen:?}\n{}", umbra.stage.umbra.process.output());
}

#[test]
fn a_stranger_hears_nothing_from_plain_calls() {
    sees_nothing(false);
}

#[test]
fn a_stranger_hears_nothing_from_sealed_calls() {
    sees_nothing(true);
}

#[test]
fn the_probe_sees_what_rtpengine_and_a_relay_that_follows_anybody_give_away() {
    let ports = 20_000..20_080;
    let mut relays: Vec<Box<dyn Relay>> = vec![Box::new(Broken::new(Fault::FollowsAnybody))];
    relays.extend(Rtpengine::start(ports).map(|relay| Box::new(relay) as Box<dyn Relay>));
    for relay in &mut relays {
        let seen = probe(&mut **relay, false, 4, Duration::from_secs(3));
        println!("{}: {seen:?}", relay.name());
        assert!(seen.bytes > 0, "{}: {seen:?}", relay.name());
    }
}
