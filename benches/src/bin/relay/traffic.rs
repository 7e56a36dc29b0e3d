//! The streams: speech in packets of 20 ms from both ends of every session, and what becomes of them. Owns schedule, clocks and
//! books; refuses to know who relays.
//!
//! A packet's way is timed from just before its `send` to the kernel's own note of its arrival, so a generator that reads late
//! measures right. One that *sends* late does not, and voids the run.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use relay::{Channel, LegPlan, PacketBuffer, Plan, Protection, Session, Side, Verdict};
use rustix::process::setpriority_process;
use umbra_benches::load::{Result, cost, text};

use super::host;
use super::keys::Inline;
use super::sockets::{Sink, SinkPacket};
use super::subject::LegEnds;

/// Time between two packets of a stream.
const INTERVAL: Duration = Duration::from_millis(20);
/// Ticks in that time; every stream keeps to one of them.
const SLOTS: u64 = 40;
/// Sockets per side; all streams of a side share them.
const SOCKETS: usize = 8;
/// G.711 of 20 ms.
const SPEECH_BYTES: usize = 160;
const HEADER_BYTES: usize = 12;
/// Packets of a stream whose send time is remembered: 5 s.
const REMEMBERED: usize = 256;
/// One sealed session in so many has every packet opened and compared.
const COMPARED_EVERY: usize = 16;
/// A tick that begins so late is late.
const LATE: Duration = Duration::from_millis(3);
/// Ticks of a window: 200 ms.
const WINDOW: u64 = 10 * SLOTS;
/// What is still under way when sending ends.
const AFTERMATH: Duration = Duration::from_millis(300);

/// What became of the packets of a run.
#[derive(Default)]
pub struct Outcome {
    pub sent: u64,
    pub arrived: u64,
    /// Came twice, damaged, or out of nowhere.
    pub wrong: u64,
    pub delays_ns: Vec<u32>,
    /// 99th percentile of each [`WINDOW`].
    pub window_p99_ns: Vec<u32>,
    pub jitter_ns: Vec<u32>,
    /// On-CPU seconds of the relay and of the generator.
    pub relay_cpu: f64,
    pub own_cpu: f64,
    pub wall: f64,
    pub ticks: u64,
    pub late_ticks: u64,
}

/// The generator.
pub struct Traffic {
    sinks: Vec<Sink>,
    streams: Vec<Stream>,
    slots: Vec<Vec<usize>>,
}

struct Stream {
    socket: usize,
    to: SocketAddr,
    sequence: u16,
    sealer: Option<Stack>,
    /// Of the end that hears this stream.
    opener: Option<Stack>,
    sent_ns: [u64; REMEMBERED],
    last_delay: Option<u32>,
}

impl Traffic {
    /// Binds its sockets.
    pub fn bind(address: Ipv4Addr) -> Result<Self> {
        let sinks = (0..SOCKETS * 2).map(|_| Sink::bind(address)).collect::<Result<_>>()?;
        Ok(Self { sinks, streams: Vec::new(), slots: (0..SLOTS).map(|_| Vec::new()).collect() })
    }

    /// Addresses of the two ends of a session.
    pub fn ends(&self, number: u32) -> [SocketAddr; 2] {
        let at = number as usize % SOCKETS;
        [self.sinks[at].address(), self.sinks[SOCKETS + at].address()]
    }

    /// Takes up a session that was set up.
    pub fn add(&mut self, number: u32, legs: &[LegEnds; 2]) {
        let at = number as usize % SOCKETS;
        for (from, to, socket) in [(0, 1, at), (1, 0, SOCKETS + at)] {
            let is_compared = (number as usize).is_multiple_of(COMPARED_EVERY);
            let number = self.streams.len();
            self.slots[rand::random_range(0..SLOTS) as usize].push(number);
            self.streams.push(Stream {
                socket,
                to: legs[from].relay,
                sequence: rand::random_range(0..0x8000),
                sealer: legs[from].keys.map(|(own, _)| Stack::sealing(&own)),
                opener: legs[to].keys.filter(|_| is_compared).map(|(_, heard)| Stack::opening(&heard)),
                sent_ns: [0; REMEMBERED],
                last_delay: None,
            });
        }
    }

    /// Speaks for a while; counts only if `measured`.
    pub fn run(&mut self, duration: Duration, pids: &[u32]) -> Result<Outcome> {
        let mut outcome = Outcome::default();
        let _punctual = Punctual::new();
        self.streams.iter_mut().for_each(|stream| stream.sent_ns = [0; REMEMBERED]);
        let mut window_begins = 0;
        let (relay_before, own_before) = (cost::cpu_seconds(pids), cost::own_cpu_seconds());
        let started = Instant::now();
        let tick = INTERVAL / SLOTS as u32;
        for number in 0..(duration.as_nanos() / tick.as_nanos()) as u64 {
            let due = started + tick * number as u32;
            let now = Instant::now();
            if now < due {
                std::thread::sleep(due - now);
            } else if now - due > LATE {
                outcome.late_ticks += 1;
            }
            outcome.ticks += 1;
            let slot = (number % SLOTS) as usize;
            for at in 0..self.slots[slot].len() {
                self.speak(self.slots[slot][at], &mut outcome)?;
            }
            self.listen(&mut outcome);
            if number % WINDOW == WINDOW - 1 {
                let window = &outcome.delays_ns[window_begins..];
                outcome.window_p99_ns.extend(percentile_99(window));
                window_begins = outcome.delays_ns.len();
            }
        }
        outcome.wall = started.elapsed().as_secs_f64();
        outcome.relay_cpu = cost::cpu_seconds(pids) - relay_before;
        outcome.own_cpu = cost::own_cpu_seconds() - own_before;
        std::thread::sleep(AFTERMATH);
        self.listen(&mut outcome);
        Ok(outcome)
    }

    fn speak(&mut self, number: usize, outcome: &mut Outcome) -> Result {
        let stream = &mut self.streams[number];
        stream.sequence = stream.sequence.wrapping_add(1);
        let packet = packet(number as u32, stream.sequence);
        let place = &mut stream.sent_ns[stream.sequence as usize % REMEMBERED];
        let sent = match &mut stream.sealer {
            None => {
                *place = now_ns();
                self.sinks[stream.socket].send(&packet, stream.to)
            }
            Some(sealer) => {
                let sealed = sealer.seal(&packet).ok_or("the generator cannot seal")?;
                *place = now_ns();
                self.sinks[stream.socket].send(sealed, stream.to)
            }
        };
        sent.map_err(text)?;
        outcome.sent += 1;
        Ok(())
    }

    fn listen(&mut self, outcome: &mut Outcome) {
        let (sinks, streams) = (&mut self.sinks, &mut self.streams);
        for sink in sinks {
            sink.drain(|packet| {
                if hear(streams, &packet, outcome).is_none() {
                    outcome.wrong += 1;
                }
            });
        }
    }
}

/// The network does not wait for whoever relays: this thread comes first while this lives, if the system allows it.
struct Punctual;

/// Nice value of the generator.
const FIRST: i32 = -15;

impl Punctual {
    fn new() -> Self {
        // Without the right to it, rounds are void a little more often.
        let _ = setpriority_process(None, FIRST);
        Punctual
    }
}

impl Drop for Punctual {
    fn drop(&mut self) {
        let _ = setpriority_process(None, 0);
    }
}

/// Books an arrival; `None` if it is none that was waited for.
fn hear(streams: &mut [Stream], packet: &SinkPacket<'_>, outcome: &mut Outcome) -> Option<()> {
    let ssrc = u32::from_be_bytes(packet.bytes.get(8..12)?.try_into().ok()?);
    let sequence = u16::from_be_bytes(packet.bytes.get(2..4)?.try_into().ok()?);
    let stream = streams.get_mut(ssrc as usize)?;
    let sent = std::mem::take(&mut stream.sent_ns[sequence as usize % REMEMBERED]);
    if sent == 0 {
        return None;
    }
    let is_sealed = packet.bytes.len() != HEADER_BYTES + SPEECH_BYTES;
    let clear = match &mut stream.opener {
        Some(opener) => Some(opener.open(packet.bytes)?),
        None => (!is_sealed).then_some(packet.bytes),
    };
    if clear.is_some_and(|clear| clear != self::packet(ssrc, sequence)) {
        return None;
    }
    let delay = u32::try_from(packet.arrived_ns.saturating_sub(sent)).unwrap_or(u32::MAX);
    outcome.arrived += 1;
    outcome.delays_ns.push(delay);
    if let Some(last) = stream.last_delay.replace(delay) {
        outcome.jitter_ns.push(delay.abs_diff(last));
    }
    Some(())
}

fn packet(ssrc: u32, sequence: u16) -> [u8; HEADER_BYTES + SPEECH_BYTES] {
    let mut packet = [(sequence as u8) ^ (ssrc as u8); HEADER_BYTES + SPEECH_BYTES];
    packet[..2].copy_from_slice(&[0x80, 0]);
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet[4..8].copy_from_slice(&(u32::from(sequence) * SPEECH_BYTES as u32).to_be_bytes());
    packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
    packet
}

fn percentile_99(delays: &[u32]) -> Option<u32> {
    let mut delays = delays.to_vec();
    let at = delays.len() * 99 / 100;
    (at < delays.len()).then(|| *delays.select_nth_unstable(at).1)
}

fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_REALTIME).map(Duration::from).unwrap_or_default();
    now.as_nanos() as u64
}

/// A key that is not this one.
fn other(key: &Inline) -> Inline {
    key.map(|octet| !octet)
}

/// One direction of one phone's SRTP: what goes in at A comes out sealed, what goes in at B comes out open.
struct Stack {
    session: Session,
    packet: PacketBuffer,
}

const INSIDE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
const OUTSIDE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 2);

impl Stack {
    /// Seals under a key.
    fn sealing(key: &Inline) -> Self {
        Self::new(&other(key), key)
    }

    /// Opens what was sealed under a key.
    fn opening(key: &Inline) -> Self {
        Self::new(key, &other(key))
    }

    fn new(inbound: &Inline, outbound: &Inline) -> Self {
        let leg = |remote, protection| LegPlan::at(remote, protection);
        let sealed = Protection::Sealed { inbound: host::params(inbound), outbound: host::params(outbound) };
        let plan = Plan {
            a: leg(INSIDE, Protection::Clear),
            b: leg(OUTSIDE, sealed),
            inactivity: Duration::ZERO,
            reports: None,
        };
        let session = Session::new(plan, Instant::now()).expect("usable keys");
        Self { session, packet: PacketBuffer::new() }
    }

    fn seal(&mut self, packet: &[u8]) -> Option<&[u8]> {
        self.pass(Side::A, INSIDE, packet)
    }

    fn open(&mut self, packet: &[u8]) -> Option<&[u8]> {
        self.pass(Side::B, OUTSIDE, packet)
    }

    fn pass(&mut self, side: Side, from: SocketAddr, packet: &[u8]) -> Option<&[u8]> {
        self.packet.fill(packet);
        let verdict = self.session.handle_packet(Instant::now(), side, Channel::Rtp, from, &mut self.packet);
        matches!(verdict, Verdict::Forward { .. }).then(|| self.packet.as_slice())
    }
}
