//! Counters of a session, per side.
//!
//! Owns what was counted. Refuses to know why a packet was judged as it was.

use std::time::Duration;

use crate::pattern::Bursts;
use crate::plan::Side;
use crate::voice::Voice;

/// Why a packet was not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Why {
    /// Not RTP or RTCP: version, length or header do not fit.
    Malformed,
    /// Larger than any packet this relay carries.
    TooLong,
    /// From an address this leg may not send from.
    Stranger,
    /// The authentication tag, or the MKI, is not that of this leg's key.
    Unauthentic,
    /// Seen before, or too old to tell.
    Replayed,
    /// A clear packet, or one whose encryption bit is off, on a sealed leg.
    NotSealed,
    /// More sources than one leg may have.
    TooManySources,
    /// The payload type was not negotiated.
    UnknownFormat,
    /// The payload type was negotiated on this leg, and the other one agreed to no such format.
    UnsharedFormat,
    /// The leg is on hold in this direction.
    OnHold,
    /// Protecting failed.
    NotSealable,
    /// The key may not be used for one more packet.
    KeyExhausted,
    /// STUN that is no right connectivity check of this leg: never answered.
    StunRefused,
    /// More connectivity checks in a second than are looked at.
    StunTooOften,
}

impl Why {
    /// All reasons, in the order of their counters.
    pub const ALL: [Why; 14] = [
        Why::Malformed,
        Why::TooLong,
        Why::Stranger,
        Why::Unauthentic,
        Why::Replayed,
        Why::NotSealed,
        Why::TooManySources,
        Why::UnknownFormat,
        Why::UnsharedFormat,
        Why::OnHold,
        Why::NotSealable,
        Why::KeyExhausted,
        Why::StunRefused,
        Why::StunTooOften,
    ];

    /// Short name for metrics and records.
    pub fn name(self) -> &'static str {
        match self {
            Why::Malformed => "malformed",
            Why::TooLong => "too_long",
            Why::Stranger => "stranger",
            Why::Unauthentic => "unauthentic",
            Why::Replayed => "replayed",
            Why::NotSealed => "not_sealed",
            Why::TooManySources => "too_many_sources",
            Why::UnknownFormat => "unknown_format",
            Why::UnsharedFormat => "unshared_format",
            Why::OnHold => "on_hold",
            Why::NotSealable => "not_sealable",
            Why::KeyExhausted => "key_exhausted",
            Why::StunRefused => "stun_refused",
            Why::StunTooOften => "stun_too_often",
        }
    }
}

/// Dropped packets by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drops([u64; Why::ALL.len()]);

impl Drops {
    /// Packets dropped for one reason.
    pub fn of(&self, why: Why) -> u64 {
        self.0.get(why as usize).copied().unwrap_or(0)
    }

    /// Packets dropped for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The reason of most of them.
    pub fn most_frequent(&self) -> Option<Why> {
        let most = Why::ALL.into_iter().max_by_key(|why| self.of(*why))?;
        (self.of(most) > 0).then_some(most)
    }

    pub(crate) fn count(&mut self, why: Why) {
        if let Some(counter) = self.0.get_mut(why as usize) {
            *counter += 1;
        }
    }
}

/// What was counted on one side. "Received" counts only what was accepted from the side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SideStats {
    /// RTP packets accepted from the side.
    pub packets_received: u64,
    /// Octets of those, UDP payload as on the wire.
    pub bytes_received: u64,
    /// RTP packets forwarded to the side.
    pub packets_sent: u64,
    /// Octets of those, UDP payload as on the wire.
    pub bytes_sent: u64,
    /// RTCP packets accepted from the side.
    pub rtcp_received: u64,
    /// RTCP packets forwarded to the side.
    pub rtcp_sent: u64,
    /// RTCP packets of our own making sent to the side.
    pub rtcp_made: u64,
    /// Packets of the side that went no further.
    pub dropped: Drops,
    /// Connectivity checks of the side that were right, and answered.
    pub checks: u64,
    /// Times the side was learned to sit at another address.
    pub moves: u64,
    /// RTP packets of the side that the network lost, estimated as in RFC 3550 §A.3; never below zero.
    pub lost: u64,
    /// Of those, packets that came to this host and found no room in a socket; filled in by who owns the sockets.
    pub overflowed: u64,
    /// Times that one or more packets in a row were lost.
    pub loss_runs: u64,
    /// Bursts of loss (RFC 3611 §4.7.2).
    pub bursts: Bursts,
    /// Packets of the side that came after a later one.
    pub reordered: u64,
    /// Packets of the side that came twice.
    pub repeated: u64,
    /// Interarrival jitter as in RFC 3550 §6.4.1, over payload types whose clock is known.
    pub jitter: Duration,
    /// Round trip between the gateway and the side, the latest that RTCP showed (RFC 3550 §6.4.1).
    pub round_trip: Option<Duration>,
    /// What was heard of the side.
    pub voice: Voice,
    /// Nothing of the side was ever to be passed on: the call was held in this direction from its beginning.
    pub only_held: bool,
}

/// What was counted on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SessionStats {
    /// The caller's side.
    pub a: SideStats,
    /// The callee's side.
    pub b: SideStats,
}

impl SessionStats {
    /// The counters of one side.
    pub fn side(&self, side: Side) -> &SideStats {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter_and_name() {
        let mut drops = Drops::default();
        for (times, why) in Why::ALL.into_iter().enumerate() {
            for _ in 0..=times {
                drops.count(why);
            }
        }
        for (times, why) in Why::ALL.into_iter().enumerate() {
            assert_eq!(drops.of(why), times as u64 + 1, "{}", why.name());
        }
        assert_eq!(drops.total(), 105);
    }
}
