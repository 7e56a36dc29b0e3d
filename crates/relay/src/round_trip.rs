//! How long packets take to one side and back, by the RTCP that passes, or is made here.
//!
//! Owns the sender reports on their way to the side, whoever wrote them, and the arithmetic of RFC 3550 §6.4.1. Refuses to
//! believe anything impossible: an answer to a report nobody sent, or from before it was sent.
//!
//! ```text
//!   gateway ── SR, sent at NTP time T ──▶ side
//!           ◀── RR: last SR = T, held for D ──        round trip = now − when we passed T on − D
//! ```

use std::time::{Duration, Instant};

use crate::rtcp;

/// Sender reports that may be under way.
const REPORTS_MAX: usize = 4;
/// A longer way there and back is none.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(10);

/// The round trip between the gateway and one side.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RoundTrip {
    under_way: [Option<(u32, Instant)>; REPORTS_MAX],
    next: usize,
    latest: Option<Duration>,
}

impl RoundTrip {
    /// A compound is sent to the side.
    pub(crate) fn on_sent(&mut self, now: Instant, compound: &[u8]) {
        let Some((_, timestamp)) = rtcp::sender_report(compound) else { return };
        if let Some(place) = self.under_way.get_mut(self.next) {
            *place = Some((timestamp, now));
        }
        self.next = (self.next + 1) % REPORTS_MAX;
    }

    /// A compound has come from the side.
    pub(crate) fn on_received(&mut self, now: Instant, compound: &[u8]) {
        // Zero says that no sender report has come.
        for block in rtcp::report_blocks(compound).filter(|block| block.last_report != 0) {
            let mut sent =
                self.under_way.iter().flatten().filter(|(timestamp, _)| *timestamp == block.last_report);
            let Some((_, sent)) = sent.next() else { continue };
            let held = u64::from(block.delay) * 1_000_000 / u64::from(rtcp::DELAY_HZ);
            let round_trip = now.saturating_duration_since(*sent).checked_sub(Duration::from_micros(held));
            if let Some(round_trip) = round_trip.filter(|round_trip| *round_trip <= ROUND_TRIP_MAX) {
                self.latest = Some(round_trip);
            }
        }
    }

    /// The latest that was measured.
    pub(crate) fn latest(&self) -> Option<Duration> {
        self.latest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sender report without blocks whose NTP time has `timestamp` in its middle.
    fn sender_report(timestamp: u32) -> Vec<u8> {
        let mut packet = vec![0x80, 200, 0, 6, 0, 0, 0, 1, 0x11, 0x11];
        packet.extend(timestamp.to_be_bytes());
        packet.extend([0x22; 2]);
        packet.extend([0; 12]);
        packet
    }

    fn receiver_report(last_report: u32, delay: u32) -> Vec<u8> {
        let mut packet = vec![0x81, 201, 0, 7, 0, 0, 0, 2];
        packet.extend([0; 16]);
        packet.extend(last_report.to_be_bytes());
        packet.extend(delay.to_be_bytes());
        packet
    }

    #[test]
    fn the_way_there_and_back_is_measured_without_the_time_it_was_held() {
        let start = crate::tests::start();
        let mut round_trip = RoundTrip::default();
        round_trip.on_sent(start, &sender_report(77));
        round_trip.on_received(start + Duration::from_millis(540), &receiver_report(77, 32_768));
        assert_eq!(round_trip.latest(), Some(Duration::from_millis(40)));
    }

    #[test]
    fn answers_that_cannot_be_are_not_believed() {
        let start = crate::tests::start();
        let mut round_trip = RoundTrip::default();
        round_trip.on_sent(start, &sender_report(77));
        let later = start + Duration::from_millis(100);
        round_trip.on_received(later, &receiver_report(78, 0));
        round_trip.on_received(later, &receiver_report(77, 65_536));
        round_trip.on_received(start + Duration::from_secs(11), &receiver_report(77, 0));
        round_trip.on_sent(start, &sender_report(0));
        round_trip.on_received(later, &receiver_report(0, 0));
        assert_eq!(round_trip.latest(), None);
    }

    #[test]
    fn only_the_last_few_reports_are_remembered() {
        let start = crate::tests::start();
        let mut round_trip = RoundTrip::default();
        for timestamp in 1..=5 {
            round_trip.on_sent(start, &sender_report(timestamp));
        }
        round_trip.on_received(start, &receiver_report(1, 0));
        assert_eq!(round_trip.latest(), None);
        round_trip.on_received(start, &receiver_report(2, 0));
        assert_eq!(round_trip.latest(), Some(Duration::ZERO));
    }
}
