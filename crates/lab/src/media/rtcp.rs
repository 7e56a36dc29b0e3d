//! Sender reports with a block about what was heard (RFC 3550 §6.4.1) and a CNAME: they keep a trunk that watches RTCP alive and let
//! everybody on the way measure the round trip.

use std::time::{Duration, Instant};

use super::rtp::{Sender, View};

const VERSION: u8 = 2;
const SENDER_REPORT: u8 = 200;
const SOURCE_DESCRIPTION: u8 = 202;
const CNAME: u8 = 1;
const NAME: &[u8] = b"umbra-lab";
/// Timestamp units a second of what the lab speaks.
const CLOCK_HZ: u128 = 8_000;
/// Units of a "delay since last SR", a second.
const DELAY_HZ: u128 = 65_536;

/// What came of the far end's source.
pub(super) struct Heard {
    start: Instant,
    source: Option<Source>,
    /// Whose last sender report came, the middle of its NTP time, and when.
    report: Option<(u32, u32, Instant)>,
}

struct Source {
    ssrc: u32,
    /// Sequence numbers with their cycles.
    first: u32,
    highest: u32,
    received: u32,
    /// Expected and received in the last report.
    told: (u32, u32),
    transit: u32,
    /// Sixteen times the jitter (RFC 3550 §A.8).
    jitter_x16: u32,
}

impl Heard {
    pub(super) fn new(start: Instant) -> Self {
        Heard { start, source: None, report: None }
    }

    pub(super) fn on_rtp(&mut self, now: Instant, packet: &View<'_>) {
        let transit = units(now - self.start, CLOCK_HZ).wrapping_sub(packet.timestamp);
        match &mut self.source {
            Some(source) if source.ssrc == packet.ssrc => source.count(packet.sequence, transit),
            source => *source = Some(Source::starting_with(packet, transit)),
        }
    }

    /// A compound came; the relay has checked that its parts fit.
    pub(super) fn on_rtcp(&mut self, now: Instant, compound: &[u8]) {
        let word = |at: usize| compound.get(at..at + 4).map(|w| u32::from_be_bytes([w[0], w[1], w[2], w[3]]));
        if compound.get(1) == Some(&SENDER_REPORT)
            && let (Some(ssrc), Some(middle)) = (word(4), word(10))
        {
            self.report = Some((ssrc, middle, now));
        }
    }

    fn write_block(&mut self, now: Instant, out: &mut Vec<u8>) -> u8 {
        let Some(source) = &mut self.source else { return 0 };
        let (expected, received) = (source.highest - source.first + 1, source.received);
        let (expected_since, received_since) = (expected - source.told.0, received - source.told.1);
        source.told = (expected, received);
        let lost_since = expected_since.saturating_sub(received_since);
        let fraction = (u64::from(lost_since) * 256).checked_div(expected_since.into()).unwrap_or(0).min(255);
        let lost = expected.saturating_sub(received).min(0x7f_ffff);
        let answered = self.report.filter(|(ssrc, ..)| *ssrc == source.ssrc);
        let (middle, delay) = answered.map_or((0, 0), |(_, middle, at)| (middle, units(now - at, DELAY_HZ)));
        let loss = (fraction as u32) << 24 | lost;
        for word in [source.ssrc, loss, source.highest, source.jitter_x16 >> 4, middle, delay] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        1
    }
}

impl Source {
    fn starting_with(packet: &View<'_>, transit: u32) -> Self {
        let first = u32::from(packet.sequence);
        Source { ssrc: packet.ssrc, first, highest: first, received: 1, told: (0, 0), transit, jitter_x16: 0 }
    }

    fn count(&mut self, sequence: u16, transit: u32) {
        let ahead = sequence.wrapping_sub(self.highest as u16);
        if ahead <= u16::MAX / 2 {
            self.highest = self.highest.wrapping_add(ahead.into());
        }
        self.received = self.received.wrapping_add(1);
        let difference = (transit.wrapping_sub(self.transit) as i32).unsigned_abs();
        self.transit = transit;
        self.jitter_x16 = self.jitter_x16.wrapping_add(difference) - ((self.jitter_x16 + 8) >> 4);
    }
}

/// Writes a compound packet into `out`.
pub(super) fn write_report(now: Instant, sender: &Sender, heard: &mut Heard, out: &mut Vec<u8>) {
    out.clear();
    let elapsed = now - heard.start;
    out.extend_from_slice(&[VERSION << 6, SENDER_REPORT, 0, 0]);
    out.extend_from_slice(&sender.ssrc.to_be_bytes());
    // No wall clock here: a sender without one may count from its beginning (RFC 3550 §6.4.1).
    let fraction = (u64::from(elapsed.subsec_nanos()) << 32) / 1_000_000_000;
    for word in [elapsed.as_secs() as u32, fraction as u32, sender.timestamp, sender.packets, sender.octets] {
        out.extend_from_slice(&word.to_be_bytes());
    }
    let blocks = heard.write_block(now, out);
    out[0] |= blocks;
    out[3] = (out.len() / 4 - 1) as u8;
    let start = out.len();
    out.extend_from_slice(&[VERSION << 6 | 1, SOURCE_DESCRIPTION, 0, 0]);
    out.extend_from_slice(&sender.ssrc.to_be_bytes());
    out.extend_from_slice(&[CNAME, NAME.len() as u8]);
    out.extend_from_slice(NAME);
    out.push(0);
    while !(out.len() - start).is_multiple_of(4) {
        out.push(0);
    }
    out[start + 3] = ((out.len() - start) / 4 - 1) as u8;
}

fn units(time: Duration, hz: u128) -> u32 {
    (time.as_micros() * hz / 1_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::rtp::view;

    #[test]
    fn a_block_tells_loss_and_answers_the_last_report_of_its_source() {
        let start = Instant::now();
        let (mut one, two) = (Sender::new(1), Sender::new(2));
        let (mut heard, mut packet, mut out) = (Heard::new(start), Vec::new(), Vec::new());
        for count in 0..8u32 {
            one.write(0, &[0; 160], 160, &mut packet);
            if count != 3 {
                heard.on_rtp(start + Duration::from_millis(20) * count, &view(&packet).unwrap());
            }
        }
        write_report(start + Duration::from_secs(3), &one, &mut Heard::new(start), &mut out);
        assert_eq!((out[0], out[8..16].to_vec()), (0x80, vec![0, 0, 0, 3, 0, 0, 0, 0]));
        heard.on_rtcp(start + Duration::from_secs(3), &out);
        write_report(start + Duration::from_secs(4), &two, &mut heard, &mut out);
        assert_eq!((out[0], out[28..32].to_vec()), (0x81, one.ssrc.to_be_bytes().to_vec()));
        assert_eq!(out[32..36], [32, 0, 0, 1], "one of eight");
        assert_eq!(out[44..52], [0, 3, 0, 0, 0, 1, 0, 0], "its report of second 3, a second ago");
    }
}
