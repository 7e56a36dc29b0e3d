//! What a call should know about its media.
//!
//! Owns the list of facts. Refuses to know what the call does about them: an RTCP BYE, a flood or a
//! silence never ends anything here.

use std::net::SocketAddr;
use std::time::Duration;

use crate::digits::Digit;
use crate::plan::{Channel, Side};

/// One thing that happened to the media of a call. Each is reported once per occurrence, never per packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// The first acceptable RTP packet of a side.
    FirstPacket {
        /// Who sent it.
        side: Side,
    },
    /// A side is now reached at another address than before.
    Latched {
        /// Who moved.
        side: Side,
        /// Which of its two flows moved.
        channel: Channel,
        /// The former destination.
        from: SocketAddr,
        /// The present destination.
        to: SocketAddr,
    },
    /// A side has sent nothing acceptable for the plan's inactivity time, and neither has the other.
    Silence {
        /// Who is silent.
        side: Side,
        /// How long.
        lasted: Duration,
    },
    /// A side has sent nothing acceptable for the plan's inactivity time while the other is still heard.
    HalfSilence {
        /// Who is silent.
        side: Side,
        /// How long.
        lasted: Duration,
    },
    /// A side reported silent is heard again.
    Resumed {
        /// Who is heard again.
        side: Side,
    },
    /// Nothing acceptable from either side for the plan's inactivity time: whoever holds the call may end it.
    NoMedia {
        /// How long.
        lasted: Duration,
    },
    /// A side pressed a key, on a leg whose events go no further.
    Digit {
        /// Who pressed it.
        side: Side,
        /// Which one.
        digit: Digit,
        /// How long.
        lasted: Duration,
    },
    /// A side said goodbye in RTCP. Signalling alone ends calls.
    RtcpBye {
        /// Who said it.
        side: Side,
    },
    /// A key of a side has protected all it may (RFC 3711 §9.2): its packets are dropped until there is a new one.
    KeyExhausted {
        /// The side whose key it is, in either direction.
        side: Side,
    },
}
