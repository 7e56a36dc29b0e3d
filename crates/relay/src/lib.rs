//! Media relay of one call, sans-IO: RTP, RTCP, SRTP and SRTCP in and out of two legs.
//!
//! Owns what happens to one datagram (is it wanted, is it authentic, where does it go) and what the
//! call should know about its media. Refuses to know sockets, threads, clocks, SIP and SDP: a
//! [`Plan`] says what was negotiated, the caller hands in bytes with `now`, and takes out a
//! [`Verdict`], [`Fact`]s and a next deadline.

#![forbid(unsafe_code)]

pub mod fact;
pub mod key;
pub mod plan;
pub mod stats;

pub use fact::Fact;
pub use key::{KeyParams, MasterKey, Mki, MkiError, Suite};
pub use plan::{Channel, Direction, LatchRule, LegPlan, Network, NetworkError, Plan, Protection, Side};
pub use stats::{Drops, SessionStats, SideStats, Why};
