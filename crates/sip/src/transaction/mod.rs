//! The four transaction machines of RFC 3261 §17 with the Accepted states of RFC 6026, as values: a pure function
//! maps (state, event) to (state, actions). Owns the states, the timer letters and their durations; refuses to
//! know bytes, flows, keys and tables, which the endpoint keeps.

mod actions;
mod client;
mod invite_client;
mod invite_server;
mod server;
#[cfg(test)]
mod tests;

pub use actions::{Action, Actions};
pub use client::{Client, ClientEvent, ClientState};
pub use invite_client::{InviteClient, InviteClientEvent, InviteClientState};
pub use invite_server::{InviteServer, InviteServerEvent, InviteServerState};
pub use server::{Server, ServerEvent, ServerState};

use crate::Transport;
use std::time::Duration;

/// Timer values of RFC 3261 §17 (appendix A); the letters derive from these.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct TimerConfig {
    /// T1, the round-trip estimate: 500 ms.
    pub t1: Duration,
    /// T2, the longest interval between retransmissions: 4 s.
    pub t2: Duration,
    /// T4, how long a message may live in the network: 5 s.
    pub t4: Duration,
    /// After how long an INVITE without an answer gets a 100 by itself: 200 ms.
    pub trying_after: Duration,
}

impl Default for TimerConfig {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
            trying_after: Duration::from_millis(200),
        }
    }
}

impl TimerConfig {
    /// 64*T1: timers B, D, F, H, J (unreliable), L and M.
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.t1.saturating_mul(64)
    }
}

/// Which timer a deadline belongs to. RFC 3261 and RFC 6026 letters, and three that have none there.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Hash, Ord, PartialOrd)]
pub enum TimerReason {
    /// INVITE request retransmission.
    A,
    /// INVITE client time-out.
    B,
    /// Wait for response retransmissions after a non-2xx final response to INVITE.
    D,
    /// Non-INVITE request retransmission.
    E,
    /// Non-INVITE client time-out.
    F,
    /// INVITE non-2xx response retransmission.
    G,
    /// Wait for the ACK to a non-2xx response.
    H,
    /// Wait for ACK retransmissions.
    I,
    /// Wait for non-INVITE request retransmissions.
    J,
    /// Wait for non-INVITE response retransmissions.
    K,
    /// Accepted INVITE server transaction (RFC 6026).
    L,
    /// Accepted INVITE client transaction (RFC 6026).
    M,
    /// The automatic 100 of an INVITE server transaction.
    Trying,
    /// 2xx retransmission until the ACK (RFC 3261 §13.3.1.4).
    Retransmit2xx,
    /// How long a cancelled INVITE waits for its final response (RFC 3261 §9.1).
    CancelGiveUp,
}

impl TimerReason {
    /// The lane of a transaction this timer runs in: a lane holds one timer, starting another replaces it.
    #[must_use]
    pub fn lane(self) -> Lane {
        match self {
            Self::A | Self::E | Self::G | Self::Trying | Self::Retransmit2xx => Lane::Retransmit,
            _ => Lane::Limit,
        }
    }
}

/// A transaction never runs more than two timers at once: one that repeats and one that ends.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Lane {
    /// A, E, G, the automatic 100, 2xx retransmission.
    Retransmit,
    /// Everything that moves the transaction to its end.
    Limit,
}

/// What the pure functions need to know besides state and event.
#[derive(Copy, Clone, Debug)]
pub struct Context {
    /// Timer values.
    pub timers: TimerConfig,
    /// Reliable transports do not retransmit and do not linger.
    pub transport: Transport,
}

impl Context {
    fn is_reliable(&self) -> bool {
        self.transport.is_reliable()
    }

    /// The next interval of a doubling retransmission that stops growing at T2.
    fn doubled_to_t2(&self, interval: Duration) -> Duration {
        interval.saturating_mul(2).min(self.timers.t2)
    }
}
