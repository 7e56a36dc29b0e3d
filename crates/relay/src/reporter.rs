//! RTCP of our own making, for a side that hears none of the other one.
//!
//! A peer that never sends RTCP would leave its far end without any, and that far end may take the call for dead. Owns when
//! such a report is due and what it says. Refuses to speak for others: while the other side's own RTCP passes, nothing is
//! made, and a stream whose source sends RTCP itself is never described by us.
//!
//! ```text
//!   other side ── RTP, no RTCP ──▶ gateway ── RTP ────────────────────────────▶ side
//!                                     └── every 2.5 to 7.5 s ── SR or RR, SDES ──▶
//!     SR   under the SSRC of the stream, once its source has said nothing for one longest interval
//!     RR   under an SSRC of our own, before that, and where no stream goes to the side
//! ```

use std::time::{Duration, Instant};

use crate::buffer::PacketBuffer;
use crate::head::RtpHead;
use crate::plan::{Reports, Side};
use crate::reception::Reception;
use crate::rtcp::{self, ReportBlock, SenderInfo};

/// The mean time between two reports (RFC 3550 §6.2); each is half to one and a half times as long (§6.3.1).
const INTERVAL: Duration = Duration::from_secs(5);
/// The longest time between two reports.
const INTERVAL_MAX: Duration = Duration::from_millis(7_500);
/// A source that sent nothing for two intervals is no sender (RFC 3550 §6.3.8).
const SENDER_FOR: Duration = Duration::from_secs(10);
/// Letters of a canonical name (RFC 7022 §5: at least 96 random bits).
const NAME_LETTERS: usize = 16;
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Reports toward one side.
pub(crate) struct Reporter {
    name: [u8; NAME_LETTERS],
    ssrc: u32,
    random: u64,
    clock_hz: u32,
    epoch: Instant,
    due: Instant,
    /// When RTCP of the other side last went to this one.
    relayed: Option<Instant>,
    stream: Option<Stream>,
    /// The last sender report of this side: whose, the middle of its NTP time, when it came.
    heard: Option<(u32, u32, Instant)>,
}

/// What is forwarded to the side.
struct Stream {
    ssrc: u32,
    since: Instant,
    last: Instant,
    packets: u32,
    octets: u32,
    /// A timestamp, and when it was first seen: events repeat theirs.
    timestamp: u32,
    at: Instant,
    /// Its source sends RTCP itself.
    speaks: bool,
}

impl Reporter {
    pub(crate) fn new(plan: &Reports, side: Side, now: Instant) -> Self {
        let mut reporter = Reporter {
            name: letters(&plan.name),
            ssrc: 0,
            random: plan.seed ^ (side as u64),
            clock_hz: plan.clock_hz,
            epoch: now,
            due: now,
            relayed: None,
            stream: None,
            heard: None,
        };
        reporter.ssrc = reporter.draw() as u32;
        // RFC 3550 §6.2: half as long before the first one.
        reporter.due = now + reporter.interval() / 2;
        reporter
    }

    pub(crate) fn follow(&mut self, plan: &Reports) {
        self.clock_hz = plan.clock_hz;
    }

    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// RTP of the other side went to this one, with so much payload.
    pub(crate) fn on_rtp_sent(&mut self, now: Instant, rtp: &RtpHead, octets: usize) {
        let stream = match &mut self.stream {
            Some(stream) if stream.ssrc == rtp.ssrc => stream,
            other => other.insert(Stream {
                ssrc: rtp.ssrc,
                since: now,
                last: now,
                packets: 0,
                octets: 0,
                timestamp: rtp.timestamp,
                at: now,
                speaks: false,
            }),
        };
        stream.last = now;
        stream.packets = stream.packets.wrapping_add(1);
        stream.octets = stream.octets.wrapping_add(octets as u32);
        if stream.timestamp != rtp.timestamp {
            (stream.timestamp, stream.at) = (rtp.timestamp, now);
        }
    }

    /// RTCP of the other side went to this one.
    pub(crate) fn on_rtcp_sent(&mut self, now: Instant, ssrc: u32) {
        self.relayed = Some(now);
        if let Some(stream) = self.stream.as_mut().filter(|stream| stream.ssrc == ssrc) {
            stream.speaks = true;
        }
    }

    /// RTCP of this side has come.
    pub(crate) fn on_rtcp_received(&mut self, now: Instant, compound: &[u8]) {
        if let Some((ssrc, middle)) = rtcp::sender_report(compound) {
            self.heard = Some((ssrc, middle, now));
        }
    }

    /// Whether a report is to be made now. Asking settles when the next one is due.
    pub(crate) fn takes_turn(&mut self, now: Instant) -> bool {
        if now < self.due {
            return false;
        }
        self.due = now + self.interval();
        let since = |at: Instant| now.saturating_duration_since(at);
        self.relayed.is_none_or(|relayed| since(relayed) >= INTERVAL_MAX)
    }

    /// Writes a report: of the stream to this side, if it is ours to describe, and of what came from it.
    pub(crate) fn write(&self, now: Instant, reception: &mut Reception, out: &mut PacketBuffer) {
        let since = |at: Instant| now.saturating_duration_since(at);
        let described = self.stream.as_ref().filter(|stream| {
            !stream.speaks && since(stream.since) >= INTERVAL_MAX && since(stream.last) < SENDER_FOR
        });
        let info = described.map(|stream| SenderInfo {
            // RFC 3550 §6.4.1: who has no wall clock may count from the beginning of the session.
            ntp: ntp(since(self.epoch)),
            timestamp: stream.timestamp.wrapping_add(units(since(stream.at), self.clock_hz) as u32),
            packets: stream.packets,
            octets: stream.octets,
        });
        let received = reception.report().map(|received| {
            let heard = self.heard.filter(|(ssrc, ..)| *ssrc == received.ssrc);
            let answered = heard.map(|(_, middle, at)| ReportBlock {
                last_report: middle,
                delay: units(since(at), rtcp::DELAY_HZ).min(u64::from(u32::MAX)) as u32,
            });
            (received, answered)
        });
        let ssrc = described.map_or(self.ssrc, |stream| stream.ssrc);
        rtcp::write_report(out, ssrc, info, received, &self.name);
    }

    fn interval(&mut self) -> Duration {
        let span = INTERVAL.as_millis() as u64;
        INTERVAL / 2 + Duration::from_millis(self.draw() % (span + 1))
    }

    /// The next number of SplitMix64.
    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// Base 64 of 96 bits.
fn letters(bits: &[u8; 12]) -> [u8; NAME_LETTERS] {
    let number = bits.iter().fold(0u128, |number, octet| number << 8 | u128::from(*octet));
    std::array::from_fn(|at| {
        let six = (number >> (6 * (NAME_LETTERS - 1 - at))) as usize & 0x3F;
        LETTERS.get(six).copied().unwrap_or(b'A')
    })
}

/// Seconds as 32.32 bits.
fn ntp(elapsed: Duration) -> u64 {
    let fraction = (u64::from(elapsed.subsec_nanos()) << 32) / 1_000_000_000;
    elapsed.as_secs() << 32 | fraction
}

/// A time in units of which a second has so many.
fn units(elapsed: Duration, hz: u32) -> u64 {
    (elapsed.as_micros() * u128::from(hz) / 1_000_000) as u64
}

#[cfg(test)]
#[path = "reporter_tests.rs"]
mod tests;
