//! Digits between a leg that takes them as events in RTP (RFC 4733) and signalling that carries them itself.
//!
//! Owns what an event packet is, when one that was heard is a digit that was not told yet, and how events of our own get into
//! a stream that is forwarded. Refuses to know the signalling. A digit does not print: it may be one of a PIN.
//!
//! ```text
//!  |  event  |E|R| volume  |   duration    |
//!
//!   forwarded   …  41  42              43  44  …        sequence numbers as they came
//!   sent        …  41  42  e  e  e  e  e  48  49  …     and as they go: events are part of the stream (RFC 4733 §2.1)
//! ```

use std::fmt;
use std::time::{Duration, Instant};

use crate::head::RtpHead;
use crate::stats::Why;

/// Streams of a leg that events may be put into, for the life of a session: what one was told is never forgotten, or a number
/// could be used twice under one key. Those that come later pass as they are.
pub const STREAMS_MAX: usize = 16;
/// How far packets of one stream may be out of order when events are agreed to inside a call.
const REORDERED_MAX: u32 = 64;
/// Places of one stream at which late packets are still told apart.
const SPLICES_MAX: usize = 16;
/// Packets of one event: it begins, goes on, and ends three times (RFC 4733 §2.5.1.4).
const PACKETS: u16 = 5;
/// Octets of an event packet: header and payload.
pub(crate) const EVENT_PACKET_BYTES: usize = 16;
/// Timestamp units in a millisecond: events are negotiated at 8 kHz.
const UNITS_PER_MS: u32 = 8;
/// Shortest and longest digit that is sent.
const LASTS_MS: std::ops::RangeInclusive<u128> = 40..=5_000;
/// −10 dBm0.
const VOLUME: u8 = 10;
const END: u8 = 0x80;

/// One of the sixteen DTMF digits (RFC 4733 §3.2).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digit(u8);

impl Digit {
    const LETTERS: &[u8; 16] = b"0123456789*#ABCD";

    /// `0` to `9`, `*`, `#`, `A` to `D`.
    pub fn from_letter(letter: char) -> Option<Self> {
        let letter = u8::try_from(letter.to_ascii_uppercase()).ok()?;
        let event = Self::LETTERS.iter().position(|known| *known == letter)?;
        u8::try_from(event).ok().map(Digit)
    }

    /// By the number of its event.
    pub fn from_event(event: u8) -> Option<Self> {
        (usize::from(event) < Self::LETTERS.len()).then_some(Digit(event))
    }

    /// As a key is labelled.
    pub fn letter(self) -> char {
        Self::LETTERS.get(usize::from(self.0)).copied().map_or(' ', char::from)
    }
}

impl fmt::Debug for Digit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digit(redacted)")
    }
}

/// Payload types of events on a leg whose events go no further and come from nowhere but here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Events {
    /// The peer sends them under this one.
    pub heard: u8,
    /// The peer wants them under this one.
    pub sent: u8,
    /// Source, first number and first timestamp of events that find no stream to be part of.
    pub seed: u32,
}

/// Which events of a leg were told as digits.
#[derive(Default)]
pub(crate) struct Listener {
    /// Source and timestamp of the last event, what it is, how long it lasted so far, and whether it was told.
    last: Option<(u32, u32, Digit, Duration, Told)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Yes,
    No,
}

impl Listener {
    /// A digit is told once, at its end: the first packet with the end bit, or the next event where all of those were lost.
    pub(crate) fn on_event(&mut self, rtp: &RtpHead, payload: &[u8]) -> Option<(Digit, Duration)> {
        let &[event, flags, high, low] = payload.first_chunk()?;
        let digit = Digit::from_event(event)?;
        let lasted =
            Duration::from_millis(u64::from(u16::from_be_bytes([high, low])) / u64::from(UNITS_PER_MS));
        let is_end = flags & END != 0;
        match &mut self.last {
            Some((ssrc, at, known, longest, told)) if (*ssrc, *at) == (rtp.ssrc, rtp.timestamp) => {
                *longest = lasted.max(*longest);
                let is_news = is_end && *told == Told::No;
                if is_news {
                    *told = Told::Yes;
                }
                is_news.then_some((*known, *longest))
            }
            // A packet that was overtaken by the next event belongs to one that is over.
            Some((ssrc, at, ..)) if *ssrc == rtp.ssrc && rtp.timestamp.wrapping_sub(*at) > u32::MAX / 2 => {
                None
            }
            other => {
                let missed = other.take().filter(|(.., told)| *told == Told::No);
                let told = if is_end && missed.is_none() { Told::Yes } else { Told::No };
                *other = Some((rtp.ssrc, rtp.timestamp, digit, lasted, told));
                match missed {
                    Some((_, _, digit, lasted, _)) => Some((digit, lasted)),
                    None => is_end.then_some((digit, lasted)),
                }
            }
        }
    }
}

/// Puts events into what is forwarded to a leg.
pub(crate) struct Splicer {
    /// All that were forwarded since the beginning, never forgotten.
    streams: Vec<Stream>,
    /// The one that is forwarded now.
    current: Option<usize>,
    /// Packets of a stream to be seen before events go into it.
    known_after: u32,
    pressed: Option<Pressed>,
}

/// A stream that is forwarded.
struct Stream {
    ssrc: u32,
    /// Highest number as it came, counted on beyond 16 bits.
    newest: i64,
    timestamp: u32,
    at: Instant,
    seen: u32,
    /// Timestamp behind the last event.
    free_from: Option<u32>,
    /// Behind which number as it came, and how many packets were put in up to there, oldest first.
    splices: Vec<(i64, u16)>,
    has_forgotten: bool,
}

/// An event that is being sent.
struct Pressed {
    digit: Digit,
    units: u16,
    timestamp: u32,
    ssrc: u32,
    sequence: u16,
    sent: u16,
}

impl Splicer {
    /// Sees every stream from its first packet on.
    pub(crate) fn from_the_start() -> Self {
        Splicer { streams: Vec::new(), current: None, known_after: 0, pressed: None }
    }

    /// Streams may have been forwarded before: the highest number of one is known once some of it was seen.
    pub(crate) fn begun_later() -> Self {
        Splicer { known_after: REORDERED_MAX, ..Splicer::from_the_start() }
    }

    /// A packet is about to go; gives the number it goes under.
    pub(crate) fn on_forward(&mut self, now: Instant, rtp: &RtpHead) -> Result<u16, Why> {
        self.current = self.streams.iter().position(|stream| stream.ssrc == rtp.ssrc);
        if self.current.is_none() && self.streams.len() < STREAMS_MAX {
            self.current = Some(self.streams.len());
            self.streams.push(Stream::new(rtp.ssrc, rtp.sequence, rtp.timestamp, now));
        }
        let Some(stream) = self.current.and_then(|at| self.streams.get_mut(at)) else {
            return Ok(rtp.sequence);
        };
        let number = extended(stream.newest, rtp.sequence);
        if number >= stream.newest {
            (stream.newest, stream.timestamp, stream.at) = (number, rtp.timestamp, now);
            stream.seen = stream.seen.saturating_add(1);
        }
        stream.sent(number)
    }

    /// Begins an event; `false` if one is still being sent, or there is no stream that it could be part of.
    pub(crate) fn press(&mut self, now: Instant, events: &Events, digit: Digit, lasts: Duration) -> bool {
        if self.streams.is_empty() {
            let own = Stream::new(events.seed, events.seed as u16, events.seed.rotate_left(16), now);
            self.streams.push(Stream { seen: u32::MAX, ..own });
            self.current = Some(0);
        }
        let known_after = self.known_after;
        let current = self.current.and_then(|at| self.streams.get_mut(at));
        let Some(stream) = current.filter(|stream| stream.seen >= known_after && self.pressed.is_none())
        else {
            return false;
        };
        let units = lasts.as_millis().clamp(*LASTS_MS.start(), *LASTS_MS.end()) as u32 * UNITS_PER_MS;
        let timestamp = stream.free_at(now);
        stream.free_from = Some(timestamp.wrapping_add(units));
        let sequence = stream.splice();
        let units = u16::try_from(units).unwrap_or(u16::MAX);
        self.pressed = Some(Pressed { digit, units, timestamp, ssrc: stream.ssrc, sequence, sent: 0 });
        true
    }

    /// The next packet of the event, until there is none.
    pub(crate) fn poll_event(&mut self, events: &Events) -> Option<[u8; EVENT_PACKET_BYTES]> {
        let pressed = self.pressed.as_mut().filter(|pressed| pressed.sent < PACKETS);
        let Some(pressed) = pressed else {
            self.pressed = None;
            return None;
        };
        let marker = if pressed.sent == 0 { 0x80 } else { 0 };
        let (end, units) = match pressed.sent {
            0 => (0, pressed.units / 4),
            1 => (0, pressed.units / 2),
            _ => (END, pressed.units),
        };
        let sequence = pressed.sequence.wrapping_add(pressed.sent);
        pressed.sent += 1;
        let mut packet = [0; EVENT_PACKET_BYTES];
        let octets = [0x80, marker | (events.sent & 0x7F)].into_iter().chain(sequence.to_be_bytes());
        let octets = octets.chain(pressed.timestamp.to_be_bytes()).chain(pressed.ssrc.to_be_bytes());
        let octets = octets.chain([pressed.digit.0, end | VOLUME]).chain(units.to_be_bytes());
        packet.iter_mut().zip(octets).for_each(|(place, octet)| *place = octet);
        Some(packet)
    }
}

impl Stream {
    fn new(ssrc: u32, sequence: u16, timestamp: u32, at: Instant) -> Self {
        let newest = i64::from(sequence);
        Stream {
            ssrc,
            newest,
            timestamp,
            at,
            seen: 0,
            free_from: None,
            splices: Vec::new(),
            has_forgotten: false,
        }
    }

    /// The timestamp of now, or that behind the last event if it is not over.
    fn free_at(&self, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.at).as_millis() as u32;
        let due = self.timestamp.wrapping_add(elapsed.wrapping_mul(UNITS_PER_MS));
        let is_over = |free: u32| due.wrapping_sub(free) < u32::MAX / 2;
        self.free_from.filter(|free| !is_over(*free)).unwrap_or(due)
    }

    /// Makes room behind the newest; gives the first number of that room.
    fn splice(&mut self) -> u16 {
        let before = self.splices.last().map_or(0, |(_, put_in)| *put_in);
        let put_in = before.wrapping_add(PACKETS);
        match self.splices.last_mut() {
            // Nothing was forwarded since: one room, and a larger one.
            Some(last) if last.0 == self.newest => last.1 = put_in,
            _ => self.splices.push((self.newest, put_in)),
        }
        if self.splices.len() > SPLICES_MAX {
            self.splices.remove(0);
            self.has_forgotten = true;
        }
        (self.newest as u16).wrapping_add(before).wrapping_add(1)
    }

    /// A late packet goes under the number it would have had in time; one that is too late to know it goes nowhere.
    fn sent(&self, number: i64) -> Result<u16, Why> {
        let put_in =
            self.splices.iter().rev().find(|(behind, _)| number > *behind).map(|(_, put_in)| *put_in);
        match put_in {
            None if self.has_forgotten => Err(Why::Replayed),
            put_in => Ok((number as u16).wrapping_add(put_in.unwrap_or(0))),
        }
    }
}

/// A number of 16 bits, counted on from the newest one.
fn extended(newest: i64, sequence: u16) -> i64 {
    newest + i64::from(sequence.wrapping_sub(newest as u16) as i16)
}

#[cfg(test)]
#[path = "digits_tests.rs"]
mod tests;
