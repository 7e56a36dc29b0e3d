//! What the metrics page shows of media: the sums and spreads over calls that ended.

use b2bua::record::MediaSummary;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets, linear_buckets};
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct WayLabels {
    leg: &'static str,
    direction: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LegLabel {
    leg: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// Counters and histograms of media.
pub(super) struct MediaMetrics {
    packets: Family<WayLabels, Counter>,
    lost: Family<LegLabel, Counter>,
    overflowed: Family<LegLabel, Counter>,
    refused: Counter,
    checks: Family<ResultLabel, Counter>,
    rtcp_made: Family<LegLabel, Counter>,
    jitter: Histogram,
    round_trip: Histogram,
    mos: Histogram,
}

impl MediaMetrics {
    pub(super) fn new() -> Self {
        Self {
            packets: Family::default(),
            lost: Family::default(),
            overflowed: Family::default(),
            refused: Counter::default(),
            checks: Family::default(),
            rtcp_made: Family::default(),
            jitter: Histogram::new(exponential_buckets(0.0005, 2.0, 10)),
            round_trip: Histogram::new(exponential_buckets(0.0005, 2.0, 12)),
            mos: Histogram::new(linear_buckets(1.25, 0.25, 13)),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("umbra_rtp_packets", "RTP packets of calls that ended", self.packets.clone());
        registry.register("umbra_rtp_lost_packets", "RTP packets lost on their way to us", self.lost.clone());
        let help = "Of the lost packets, those that came and found this host too busy to take them";
        registry.register("umbra_rtp_overflowed_packets", help, self.overflowed.clone());
        let help = "RTP and RTCP packets that were not forwarded";
        registry.register("umbra_rtp_refused_packets", help, self.refused.clone());
        let help = "Connectivity checks (ICE) of calls that ended; what is not right gets no answer";
        registry.register("umbra_ice_checks", help, self.checks.clone());
        let help = "RTCP packets that the gateway made for a leg, because the other one sent none";
        registry.register("umbra_rtcp_made_packets", help, self.rtcp_made.clone());
        let help = "Round trip by RTCP between the gateway and the farther leg at the end of a call";
        registry.register_with_unit("umbra_rtp_round_trip", help, Unit::Seconds, self.round_trip.clone());
        let help = "Jitter of the worse leg at the end of a call";
        registry.register_with_unit("umbra_rtp_jitter", help, Unit::Seconds, self.jitter.clone());
        let help = "Estimated mean opinion score of the worse direction of a call";
        registry.register("umbra_rtp_mos", help, self.mos.clone());
    }

    /// A call with media ended.
    pub(super) fn observe(&self, media: &MediaSummary) {
        for (leg, side) in [("a", &media.a), ("b", &media.b)] {
            for (direction, count) in [("in", side.packets), ("out", side.packets_sent)] {
                self.packets.get_or_create(&WayLabels { leg, direction }).inc_by(count);
            }
            self.lost.get_or_create(&LegLabel { leg }).inc_by(side.lost);
            self.overflowed.get_or_create(&LegLabel { leg }).inc_by(side.overflowed);
            self.rtcp_made.get_or_create(&LegLabel { leg }).inc_by(side.rtcp_made);
            for (result, count) in [("answered", side.checks_answered), ("refused", side.checks_refused)] {
                self.checks.get_or_create(&ResultLabel { result }).inc_by(count);
            }
        }
        self.refused.inc_by(media.packets_refused);
        if let Some(jitter) = media.jitter_ms {
            self.jitter.observe(f64::from(jitter) / 1e3);
        }
        if let Some(round_trip) = media.round_trip_ms {
            self.round_trip.observe(f64::from(round_trip) / 1e3);
        }
        if let Some(mos) = media.mos {
            self.mos.observe(f64::from(mos));
        }
    }
}
