//! Media relay of one call, sans-IO: RTP, RTCP, SRTP and SRTCP in and out of two legs.
//!
//! Owns what happens to one datagram (is it wanted, is it authentic, where does it go) and what the
//! call should know about its media. Refuses to know sockets, threads, clocks, SIP and SDP: a
//! [`Plan`] says what was negotiated, the caller hands in bytes with `now`, and takes out a
//! [`Verdict`], [`Fact`]s and a next deadline.

#![forbid(unsafe_code)]

mod audio;
mod buffer;
mod digits;
pub mod fact;
mod formats;
mod gate;
mod head;
mod ice;
pub mod key;
mod latch;
mod leg;
mod pattern;
pub mod plan;
mod quality;
mod reception;
mod reporter;
mod round_trip;
mod rtcp;
mod session;
pub mod stats;
mod stun;
mod tap;
#[cfg(test)]
mod tests;
mod transform;
mod voice;

pub use audio::{Audio, Way};
pub use buffer::{PACKET_BYTES_MAX, PacketBuffer};
pub use digits::{Digit, Events, STREAMS_MAX};
pub use fact::Fact;
pub use formats::Formats;
pub use gate::SOURCES_MAX;
pub use head::RtpHead;
pub use ice::{CHECKS_PER_SECOND_MAX, ICE_BYTES_MAX, IceCredentials};
pub use key::{KeyParams, LIFETIME_PACKETS_MAX, MasterKey, Mki, MkiError, Provider, Suite};
pub use latch::{MOVE_INTERVAL, PROVEN_MAX};
pub use leg::LegProgress;
pub use pattern::{Bursts, GAP_PACKETS_MIN};
pub use plan::{
    Channel, Direction, LatchRule, LegPlan, Network, NetworkError, Plan, Protection, Reports, Side,
};
pub use quality::mos_undisturbed;
pub use session::{FACTS_MAX, PlanError, Session, Verdict};
pub use stats::{Drops, SessionStats, SideStats, Why};
pub use stun::{STUN_ATTRIBUTES_MAX, STUN_BYTES_MAX};
pub use tap::Tap;
pub use transform::{Progress, SourceIndex};
pub use voice::Voice;
