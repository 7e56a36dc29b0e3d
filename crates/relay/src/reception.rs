//! Loss and jitter of what one side sends, as receivers estimate them.
//!
//! Owns the arithmetic of RFC 3550 appendix A.3 and A.8. Refuses to know payloads, keys and addresses.

use std::time::{Duration, Instant};

use crate::head::RtpHead;

/// Timestamp units a second of the static payload types carried here, all 8 kHz.
const CLOCK_HZ: u64 = 8_000;
/// Payload types from here on have a clock only their SDP knows.
const FIRST_DYNAMIC_TYPE: u8 = 96;

/// Running estimates over the packets of one side.
pub(crate) struct Reception {
    epoch: Instant,
    source: Option<Source>,
    lost_before: u64,
    /// Sixteen times the jitter, in timestamp units.
    jitter_x16: u64,
}

struct Source {
    ssrc: u32,
    first: u64,
    newest: u64,
    received: u64,
    transit: Option<u32>,
}

impl Reception {
    pub(crate) fn new(epoch: Instant) -> Self {
        Reception { epoch, source: None, lost_before: 0, jitter_x16: 0 }
    }

    pub(crate) fn on_packet(&mut self, now: Instant, head: &RtpHead) {
        let transit =
            (head.payload_type < FIRST_DYNAMIC_TYPE).then(|| self.arrival(now).wrapping_sub(head.timestamp));
        match &mut self.source {
            Some(source) if source.ssrc == head.ssrc => {
                source.count(head.sequence);
                if let (Some(before), Some(after)) = (source.transit, transit) {
                    let difference = u64::from((after.wrapping_sub(before) as i32).unsigned_abs());
                    self.jitter_x16 = self.jitter_x16 + difference - ((self.jitter_x16 + 8) >> 4);
                }
                source.transit = transit;
            }
            _ => {
                self.lost_before = self.lost();
                self.source = Some(Source::starting_with(head, transit));
            }
        }
    }

    /// Packets expected and not received, over all sources so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost_before + self.source.as_ref().map_or(0, Source::lost)
    }

    pub(crate) fn jitter(&self) -> Duration {
        Duration::from_micros((self.jitter_x16 >> 4).saturating_mul(1_000_000) / CLOCK_HZ)
    }

    fn arrival(&self, now: Instant) -> u32 {
        let micros = now.saturating_duration_since(self.epoch).as_micros() as u64;
        (micros.saturating_mul(CLOCK_HZ) / 1_000_000) as u32
    }
}

impl Source {
    fn starting_with(head: &RtpHead, transit: Option<u32>) -> Self {
        // One cycle up, so that a packet older than the first stays a positive number.
        let first = u64::from(head.sequence) + 0x1_0000;
        Source { ssrc: head.ssrc, first, newest: first, received: 1, transit }
    }

    fn count(&mut self, sequence: u16) {
        self.received += 1;
        let ahead = sequence.wrapping_sub(self.newest as u16);
        if ahead < 0x8000 {
            self.newest += u64::from(ahead);
        } else {
            let behind = u64::from((self.newest as u16).wrapping_sub(sequence));
            self.first = self.first.min(self.newest.saturating_sub(behind));
        }
    }

    fn lost(&self) -> u64 {
        (self.newest - self.first + 1).saturating_sub(self.received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(sequence: u16, timestamp: u32) -> RtpHead {
        RtpHead { payload_type: 0, sequence, timestamp, ssrc: 7, header_bytes: 12 }
    }

    #[test]
    fn a_gap_across_the_wrap_counts_as_lost_until_it_is_filled() {
        let start = crate::tests::start();
        let mut reception = Reception::new(start);
        for sequence in [65_534, 65_535, 2] {
            reception.on_packet(start, &head(sequence, 0));
        }
        assert_eq!(reception.lost(), 2);
        reception.on_packet(start, &head(0, 0));
        assert_eq!(reception.lost(), 1);
    }

    #[test]
    fn a_new_source_keeps_what_the_old_one_lost() {
        let start = crate::tests::start();
        let mut reception = Reception::new(start);
        reception.on_packet(start, &head(1, 0));
        reception.on_packet(start, &head(4, 0));
        reception.on_packet(start, &RtpHead { ssrc: 8, ..head(90, 0) });
        reception.on_packet(start, &RtpHead { ssrc: 8, ..head(91, 0) });
        assert_eq!(reception.lost(), 2);
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
