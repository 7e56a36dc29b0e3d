//! How speech of a side sounds on the other end, estimated from what was measured here.
//!
//! Owns the formula. Refuses to guess: only G.711 has constants here.
//!
//! The E-model of ITU-T G.107 with its default values, reduced to what a gateway can measure:
//!
//! ```text
//!   R   = 93.2 − Id − Ie        MOS = 1 + 0.035 R + R (R − 60)(100 − R) · 7·10⁻⁶        (Annex B)
//!   Id  = 0.024 d + 0.11 (d − 177.3) where d > 177.3 ms
//!   d   = 20 ms of speech in a packet + 2 × jitter for the listener's buffer + half the round trips of both legs
//!   Ie  = 95 · Ppl / (Ppl / BurstR + Bpl)       Ppl: loss in per cent      Bpl: 25.1 (G.711 with concealment, G.113)
//!   BurstR = mean run of losses here / mean run if losses were independent
//! ```

use std::time::Duration;

use crate::plan::Side;
use crate::stats::{SessionStats, SideStats};

const R_DEFAULT: f32 = 93.2;
const R_MAX: f32 = 100.0;
const MOS_MAX: f32 = 4.5;
const PACKET_MS: f32 = 20.0;
const BUFFER_JITTERS: f32 = 2.0;
const DELAY_PER_MS: f32 = 0.024;
const DELAY_NOTICED_PER_MS: f32 = 0.11;
const DELAY_NOTICED_MS: f32 = 177.3;
const G711_LOSS_ROBUSTNESS: f32 = 25.1;
/// Fewer packets are no ground for a figure: one second.
const PACKETS_MIN: u64 = 50;

/// The score of G.711 that nothing disturbs.
pub fn mos_undisturbed() -> f32 {
    score(R_DEFAULT - delay_impairment(PACKET_MS))
}

impl SessionStats {
    /// Mean opinion score, 1.0 to 4.5, of what `side` said; `None` for less than a second of G.711.
    pub fn mos(&self, side: Side) -> Option<f32> {
        let (said, heard) = (self.side(side), self.side(!side));
        if said.voice.packets < PACKETS_MIN || said.voice.packets < said.packets_received / 2 {
            return None;
        }
        let ways = [said, heard].map(|leg| leg.round_trip.unwrap_or(Duration::ZERO) / 2);
        let delay =
            PACKET_MS + BUFFER_JITTERS * millis(said.jitter) + ways.into_iter().map(millis).sum::<f32>();
        Some(score(R_DEFAULT - delay_impairment(delay) - loss_impairment(said)))
    }
}

fn delay_impairment(ms: f32) -> f32 {
    DELAY_PER_MS * ms + DELAY_NOTICED_PER_MS * (ms - DELAY_NOTICED_MS).max(0.0)
}

fn loss_impairment(said: &SideStats) -> f32 {
    let (lost, expected) = (said.lost as f32, (said.lost + said.packets_received) as f32);
    if said.lost == 0 {
        return 0.0;
    }
    let share = lost / expected;
    let mean_run = lost / said.loss_runs.max(1) as f32;
    let burst_ratio = (mean_run * (1.0 - share)).max(1.0);
    let percent = 100.0 * share;
    95.0 * percent / (percent / burst_ratio + G711_LOSS_ROBUSTNESS)
}

fn score(r: f32) -> f32 {
    match r {
        r if r <= 0.0 => 1.0,
        r if r >= R_MAX => MOS_MAX,
        r => (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0),
    }
}

fn millis(duration: Duration) -> f32 {
    duration.as_secs_f32() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::voice::Voice;

    fn said(lost: u64, loss_runs: u64) -> SideStats {
        SideStats {
            packets_received: 1_000 - lost,
            lost,
            loss_runs,
            voice: Voice { packets: 1_000 - lost, ..Voice::default() },
            ..SideStats::default()
        }
    }

    fn mos(a: SideStats) -> f32 {
        SessionStats { a, b: SideStats::default() }.mos(Side::A).unwrap()
    }

    #[test]
    fn undisturbed_speech_gets_what_the_model_gives_at_most() {
        let best = mos(said(0, 0));
        assert!((4.39..4.42).contains(&best), "{best}");
    }

    #[test]
    fn loss_costs_and_bursts_cost_more() {
        let (one, five, burst) = (mos(said(10, 10)), mos(said(50, 50)), mos(said(50, 10)));
        assert!(mos(said(0, 0)) > one && one > five && five > burst, "{one} {five} {burst}");
        assert!((3.9..4.1).contains(&five), "5 % at random: {five}");
    }

    #[test]
    fn a_long_way_costs() {
        let long = SideStats { round_trip: Some(Duration::from_millis(600)), ..said(0, 0) };
        assert!(mos(long) < 3.7, "{}", mos(long));
    }

    #[test]
    fn nothing_is_said_about_too_little_or_about_other_encodings() {
        let few = SideStats { voice: Voice { packets: 49, ..Voice::default() }, ..said(0, 0) };
        assert_eq!(SessionStats { a: few, b: few }.mos(Side::A), None);
        let other = SideStats { voice: Voice { packets: 400, ..Voice::default() }, ..said(0, 0) };
        assert_eq!(SessionStats { a: other, b: other }.mos(Side::A), None);
    }

    #[test]
    fn the_worst_is_one() {
        assert!(mos(said(900, 1)) < 1.2);
        assert_eq!(score(-5.0), 1.0);
        assert_eq!(score(120.0), 4.5);
    }
}
