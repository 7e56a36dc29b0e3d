//! What the media side measured, as a record keeps it. Owns the units and which side stands for the call; refuses to
//! measure anything itself.

use std::time::Duration;

use relay::{Audio, SessionStats, Side, SideStats, Way, Why};
use serde::{Serialize, Serializer};

/// Speech in one packet, where the length of a burst is told in time.
const PACKET: Duration = Duration::from_millis(20);

/// What the media side measured: packet counts of both sides, the worse side for the rest, then each side.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MediaSummary {
    /// Packets taken from leg A.
    pub packets_from_a: u64,
    /// Packets taken from leg B.
    pub packets_from_b: u64,
    /// Packets refused (bad tag, wrong source, replay).
    pub packets_refused: u64,
    /// Lost packets, in per cent of those expected from both sides.
    pub loss_percent: Option<f32>,
    /// Interarrival jitter (RFC 3550 §6.4.1).
    pub jitter_ms: Option<f32>,
    /// Round trip by RTCP between the gateway and a side.
    pub round_trip_ms: Option<f32>,
    /// Lost share of the packets in bursts of loss (RFC 3611 §4.7.2).
    pub burst_density_percent: Option<f32>,
    /// Mean time between bursts of loss; `None` without a burst.
    pub gap_duration_ms: Option<f32>,
    /// Estimated mean opinion score (E-model, see the formula in the relay's `quality`), G.711 only.
    pub mos: Option<f32>,
    /// Where the speech got to, one sentence.
    #[serde(serialize_with = "sentence")]
    pub audio: Audio,
    /// What the caller's side sent.
    pub a: SideSummary,
    /// What the callee's side sent.
    pub b: SideSummary,
}

/// What one side sent, and was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct SideSummary {
    /// Packets taken.
    pub packets: u64,
    /// Packets sent to this side.
    pub packets_sent: u64,
    /// RTCP packets taken.
    pub rtcp: u64,
    /// RTCP packets sent to this side that the gateway made, because the other side sent none.
    pub rtcp_made: u64,
    /// Packets of this side that were lost on their way.
    pub lost: u64,
    /// Of those, packets that came and found this host too busy to take them.
    pub overflowed: u64,
    /// Packets after a later one.
    pub reordered: u64,
    /// Connectivity checks of this side (ICE) that were answered; none where it does not use ICE.
    pub checks_answered: u64,
    /// STUN of whoever that was not answered.
    pub checks_refused: u64,
    /// Interarrival jitter.
    pub jitter_ms: f32,
    /// Round trip between the gateway and this side.
    pub round_trip_ms: Option<f32>,
    /// Estimated mean opinion score.
    pub mos: Option<f32>,
    /// From the first plan of the media to the first voice (G.711 only).
    pub first_voice_ms: Option<u64>,
    /// To the last voice.
    pub last_voice_ms: Option<u64>,
    /// Level of the voice, in dB below overload.
    pub level_dbov: Option<f32>,
}

impl Default for MediaSummary {
    fn default() -> Self {
        Self::of(&SessionStats::default())
    }
}

impl MediaSummary {
    /// The counters of a relay session.
    pub fn of(stats: &SessionStats) -> Self {
        let (a, b) = (&stats.a, &stats.b);
        let received = a.packets_received + b.packets_received;
        let lost = a.lost + b.lost;
        let sides = [Side::A, Side::B].map(|side| SideSummary::of(stats, side));
        let worst = if a.bursts.density() >= b.bursts.density() { a } else { b };
        Self {
            packets_from_a: a.packets_received,
            packets_from_b: b.packets_received,
            packets_refused: a.dropped.total() + b.dropped.total(),
            loss_percent: (received > 0).then(|| 100.0 * lost as f32 / (received + lost) as f32),
            jitter_ms: (received > 0).then(|| millis(a.jitter.max(b.jitter))),
            round_trip_ms: a.round_trip.max(b.round_trip).map(millis),
            burst_density_percent: worst.bursts.density().map(|density| 100.0 * density),
            gap_duration_ms: gap_duration(worst),
            mos: sides.iter().filter_map(|side| side.mos).reduce(f32::min),
            audio: stats.audio(),
            a: sides[0],
            b: sides[1],
        }
    }

    /// How much the score stays below that of undisturbed G.711.
    pub fn mos_degradation(&self) -> Option<f32> {
        self.mos.map(|mos| (relay::mos_undisturbed() - mos).max(0.0))
    }

    /// Whether packets of a side did not get through, as far as the gateway can tell. A side that says nothing, or is on hold, is no fault.
    pub fn is_audio_cut(&self) -> bool {
        let is_cut = |way| !matches!(way, Way::Passed | Way::Silent | Way::OnHold);
        is_cut(self.audio.from_a) || is_cut(self.audio.from_b)
    }
}

impl SideSummary {
    fn of(stats: &SessionStats, side: Side) -> Self {
        let said = stats.side(side);
        Self {
            packets: said.packets_received,
            packets_sent: said.packets_sent,
            rtcp: said.rtcp_received,
            rtcp_made: said.rtcp_made,
            lost: said.lost,
            overflowed: said.overflowed,
            reordered: said.reordered,
            checks_answered: said.checks,
            checks_refused: said.dropped.of(Why::StunRefused) + said.dropped.of(Why::StunTooOften),
            jitter_ms: millis(said.jitter),
            round_trip_ms: said.round_trip.map(millis),
            mos: stats.mos(side),
            first_voice_ms: said.voice.first.map(whole_millis),
            last_voice_ms: said.voice.last.map(whole_millis),
            level_dbov: said.voice.level_dbov(),
        }
    }
}

/// The mean time between bursts: what was expected outside of them, cut by them.
fn gap_duration(side: &SideStats) -> Option<f32> {
    let outside = (side.packets_received + side.lost).saturating_sub(side.bursts.packets);
    (side.bursts.count > 0).then(|| millis(PACKET) * outside as f32 / (side.bursts.count + 1) as f32)
}

fn millis(duration: Duration) -> f32 {
    duration.as_secs_f32() * 1000.0
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn sentence<S: Serializer>(audio: &Audio, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(audio)
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay::Bursts;

    #[test]
    fn the_worse_side_stands_for_the_call() {
        let bursts = Bursts { count: 1, packets: 10, lost: 5 };
        let a = SideStats {
            packets_received: 985,
            lost: 15,
            jitter: Duration::from_micros(400),
            round_trip: Some(Duration::from_millis(3)),
            bursts,
            ..SideStats::default()
        };
        let b =
            SideStats { packets_received: 1_000, jitter: Duration::from_millis(2), ..SideStats::default() };
        let summary = MediaSummary::of(&SessionStats { a, b });
        assert_eq!((summary.packets_from_a, summary.packets_from_b), (985, 1_000));
        assert_eq!((summary.loss_percent, summary.jitter_ms), (Some(0.75), Some(2.0)));
        assert_eq!((summary.round_trip_ms, summary.burst_density_percent), (Some(3.0), Some(50.0)));
        // 990 packets in two gaps.
        assert_eq!(summary.gap_duration_ms, Some(9_900.0));
    }

    #[test]
    fn what_was_not_measured_is_not_claimed() {
        let summary = MediaSummary::default();
        assert_eq!((summary.loss_percent, summary.jitter_ms, summary.mos), (None, None, None));
        assert_eq!((summary.gap_duration_ms, summary.mos_degradation()), (None, None));
        let text = serde_json::to_string(&summary).unwrap();
        assert!(text.contains(r#""audio":"no audio: nothing came from A"#), "{text}");
    }
}
