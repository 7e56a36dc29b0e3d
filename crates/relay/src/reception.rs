//! Loss, order and jitter of what one side sends, as receivers estimate them.
//!
//! Owns the arithmetic of RFC 3550 appendix A.1, A.3 and A.8. Refuses to know payloads, keys and addresses.

use std::time::{Duration, Instant};

use crate::head::RtpHead;
use crate::pattern::{Bursts, Pattern};
use crate::rtcp::Received;

/// Timestamp units a second of the static payload types carried here, all 8 kHz.
const CLOCK_HZ: u64 = 8_000;
/// Payload types from here on have a clock only their SDP knows.
const FIRST_DYNAMIC_TYPE: u8 = 96;
/// A larger step forward is a source that began anew, not a loss (RFC 3550 §A.1).
const DROPOUT_PACKETS_MAX: u16 = 3_000;
/// A larger step back is too (RFC 3550 §A.1 has 100; here as far as the window reaches).
const WINDOW_PACKETS: u16 = u64::BITS as u16;
/// Sequence numbers until they begin again.
const CYCLE: u64 = 1 << 16;

/// Running estimates over the packets of one side.
pub(crate) struct Reception {
    epoch: Instant,
    source: Option<Source>,
    lost_before: u64,
    reordered: u64,
    repeated: u64,
    /// Sixteen times the jitter, in timestamp units.
    jitter_x16: u64,
    pattern: Pattern,
}

struct Source {
    ssrc: u32,
    first: u64,
    newest: u64,
    /// Bit by bit the packets up to the newest that have come; what leaves the window has come or is lost for good.
    came: u64,
    received: u64,
    transit: Option<u32>,
    /// Expected and received when it was last reported.
    reported: (u64, u64),
}

/// What a sequence number means to a source.
enum Step {
    Ahead,
    Late,
    Repeated,
    Anew,
}

impl Reception {
    pub(crate) fn new(epoch: Instant) -> Self {
        Reception {
            epoch,
            source: None,
            lost_before: 0,
            reordered: 0,
            repeated: 0,
            jitter_x16: 0,
            pattern: Pattern::default(),
        }
    }

    pub(crate) fn on_packet(&mut self, now: Instant, head: &RtpHead) {
        let transit =
            (head.payload_type < FIRST_DYNAMIC_TYPE).then(|| self.arrival(now).wrapping_sub(head.timestamp));
        let step = match &mut self.source {
            Some(source) if source.ssrc == head.ssrc => source.count(head.sequence, &mut self.pattern),
            _ => Step::Anew,
        };
        match step {
            Step::Anew => {
                self.lost_before = self.lost();
                self.source = Some(Source::starting_with(head, transit));
            }
            Step::Repeated => self.repeated += 1,
            Step::Ahead => self.on_transit(transit),
            Step::Late => {
                self.reordered += 1;
                self.on_transit(transit);
            }
        }
    }

    fn on_transit(&mut self, transit: Option<u32>) {
        let Some(source) = &mut self.source else { return };
        if let (Some(before), Some(after)) = (source.transit, transit) {
            let difference = u64::from((after.wrapping_sub(before) as i32).unsigned_abs());
            self.jitter_x16 = self.jitter_x16 + difference - ((self.jitter_x16 + 8) >> 4);
        }
        source.transit = transit;
    }

    /// Packets expected and not received, over all sources so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost_before + self.source.as_ref().map_or(0, Source::lost)
    }

    /// Packets that came after a later one.
    pub(crate) fn reordered(&self) -> u64 {
        self.reordered
    }

    /// Packets that had come before.
    pub(crate) fn repeated(&self) -> u64 {
        self.repeated
    }

    pub(crate) fn bursts(&self) -> Bursts {
        self.pattern.bursts()
    }

    pub(crate) fn loss_runs(&self) -> u64 {
        self.pattern.runs()
    }

    pub(crate) fn jitter(&self) -> Duration {
        Duration::from_micros((self.jitter_x16 >> 4).saturating_mul(1_000_000) / CLOCK_HZ)
    }

    /// What a report says of the present source; `None` if nothing came of it since the last one.
    pub(crate) fn report(&mut self) -> Option<Received> {
        let jitter = (self.jitter_x16 >> 4) as u32;
        let source = self.source.as_mut().filter(|source| source.received > source.reported.1)?;
        let (expected, received) = (source.expected(), source.received);
        let (expected_before, received_before) = source.reported;
        source.reported = (expected, received);
        let expected_since = expected.saturating_sub(expected_before);
        let lost_since = expected_since.saturating_sub(received - received_before);
        Some(Received {
            ssrc: source.ssrc,
            fraction: (lost_since << 8).checked_div(expected_since).unwrap_or(0).min(0xFF) as u8,
            lost: source.lost().min(u64::from(u32::MAX)) as u32,
            highest: (source.newest - CYCLE) as u32,
            jitter,
        })
    }

    fn arrival(&self, now: Instant) -> u32 {
        let micros = now.saturating_duration_since(self.epoch).as_micros() as u64;
        (micros.saturating_mul(CLOCK_HZ) / 1_000_000) as u32
    }
}

impl Source {
    fn starting_with(head: &RtpHead, transit: Option<u32>) -> Self {
        // One cycle up, so that a packet older than the first stays a positive number.
        let first = u64::from(head.sequence) + CYCLE;
        Source { ssrc: head.ssrc, first, newest: first, came: 1, received: 1, transit, reported: (0, 0) }
    }

    fn count(&mut self, sequence: u16, pattern: &mut Pattern) -> Step {
        let ahead = sequence.wrapping_sub(self.newest as u16);
        let behind = (self.newest as u16).wrapping_sub(sequence);
        if (1..=DROPOUT_PACKETS_MAX).contains(&ahead) {
            for _ in 0..ahead {
                self.advance(pattern);
            }
            self.came |= 1;
        } else if behind < WINDOW_PACKETS {
            let bit = 1 << behind;
            if self.came & bit != 0 {
                return Step::Repeated;
            }
            self.came |= bit;
            self.first = self.first.min(self.newest.saturating_sub(u64::from(behind)));
        } else {
            return Step::Anew;
        }
        self.received += 1;
        if ahead <= DROPOUT_PACKETS_MAX { Step::Ahead } else { Step::Late }
    }

    /// One packet more is expected; the oldest of the window is judged.
    fn advance(&mut self, pattern: &mut Pattern) {
        let oldest = (self.newest + 1).checked_sub(u64::from(WINDOW_PACKETS));
        if oldest.is_some_and(|oldest| oldest >= self.first) {
            if self.came >> (WINDOW_PACKETS - 1) == 1 { pattern.on_came() } else { pattern.on_lost() }
        }
        self.came <<= 1;
        self.newest += 1;
    }

    fn expected(&self) -> u64 {
        self.newest - self.first + 1
    }

    fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(sequence: u16, timestamp: u32) -> RtpHead {
        RtpHead { payload_type: 0, sequence, timestamp, ssrc: 7, header_bytes: 12 }
    }

    fn after(sequences: impl IntoIterator<Item = u16>) -> Reception {
        let start = crate::tests::start();
        let mut reception = Reception::new(start);
        for sequence in sequences {
            reception.on_packet(start, &head(sequence, 0));
        }
        reception
    }

    #[test]
    fn a_gap_across_the_wrap_counts_as_lost_until_it_is_filled() {
        assert_eq!(after([65_534, 65_535, 2]).lost(), 2);
        let filled = after([65_534, 65_535, 2, 0]);
        assert_eq!((filled.lost(), filled.reordered()), (1, 1));
    }

    #[test]
    fn a_packet_older_than_the_first_was_expected_too() {
        let reception = after([10, 11, 8]);
        assert_eq!((reception.lost(), reception.reordered()), (1, 1));
    }

    #[test]
    fn a_repeated_packet_hides_no_loss() {
        let reception = after([1, 2, 2, 2, 4]);
        assert_eq!((reception.lost(), reception.repeated()), (1, 2));
    }

    #[test]
    fn a_jump_is_a_new_beginning_and_not_thousands_of_losses() {
        for jump in [4_000, 40_000, 65_400] {
            assert_eq!(after([1, 2, 4, jump, jump + 1]).lost(), 1, "{jump}");
        }
    }

    #[test]
    fn a_new_source_keeps_what_the_old_one_lost() {
        let start = crate::tests::start();
        let mut reception = after([1, 4]);
        reception.on_packet(start, &RtpHead { ssrc: 8, ..head(90, 0) });
        reception.on_packet(start, &RtpHead { ssrc: 8, ..head(91, 0) });
        assert_eq!(reception.lost(), 2);
    }

    #[test]
    fn a_report_tells_what_is_new_since_the_last_one() {
        let mut reception = after([65_533, 65_534, 1]);
        let first = reception.report().unwrap();
        // Two of five are lost; the highest number is in its second cycle.
        assert_eq!((first.ssrc, first.fraction, first.lost, first.highest), (7, 102, 2, 0x1_0001));
        assert_eq!(reception.report(), None, "nothing came since");
        for sequence in 2..=5 {
            reception.on_packet(crate::tests::start(), &head(sequence, 0));
        }
        let second = reception.report().unwrap();
        assert_eq!((second.fraction, second.lost, second.highest), (0, 2, 0x1_0005));
        // What comes late makes more than expected of the rest.
        reception.on_packet(crate::tests::start(), &head(0, 0));
        assert_eq!(reception.report().map(|report| (report.fraction, report.lost)), Some((0, 1)));
        reception.on_packet(crate::tests::start(), &RtpHead { ssrc: 8, ..head(9, 0) });
        let other = reception.report().unwrap();
        assert_eq!((other.ssrc, other.lost, other.highest), (8, 0, 9));
    }

    #[test]
    fn losses_show_in_the_pattern_once_nothing_late_can_fill_them() {
        let lost = [50u16, 52, 53];
        let sequences = |last: u16| (0..last).filter(move |sequence| !lost.contains(sequence));
        assert_eq!(after(sequences(114)).bursts(), Bursts::default());
        let reception = after(sequences(200));
        assert_eq!(reception.bursts(), Bursts { count: 1, packets: 4, lost: 3 });
        assert_eq!((reception.loss_runs(), reception.lost()), (2, 3));
    }

    #[test]
    fn steady_packets_have_no_jitter_and_uneven_ones_do() {
        let start = crate::tests::start();
        let mut reception = Reception::new(start);
        for count in 0..50u32 {
            reception.on_packet(start + Duration::from_millis(20) * count, &head(count as u16, count * 160));
        }
        assert_eq!(reception.jitter(), Duration::ZERO);
        for count in 50..400u32 {
            let late = Duration::from_millis(if count % 2 == 0 { 4 } else { 0 });
            reception.on_packet(
                start + Duration::from_millis(20) * count + late,
                &head(count as u16, count * 160),
            );
        }
        let jitter = reception.jitter();
        assert!(jitter > Duration::from_millis(3) && jitter < Duration::from_millis(5), "{jitter:?}");
    }
}
