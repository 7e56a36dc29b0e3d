//! Non-INVITE server transaction, RFC 3261 §17.2.2.
//!
//! ```text
//!  Trying ──1xx──▶ Proceeding ──200–699──▶ Completed ──J──▶ Terminated
//!     └───────────200–699─────────────────────▲
//! ```

use super::{Action, Actions, Context, TimerReason};

/// States of the non-INVITE server transaction.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum ServerState {
    /// The user has the request; nothing sent.
    Trying,
    /// A provisional response was sent.
    Proceeding,
    /// The final response was sent.
    Completed,
    /// Over.
    Terminated,
}

/// What can happen to it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum ServerEvent {
    /// The request again.
    Retransmission,
    /// The user answers 1xx.
    Provisional,
    /// The user answers 200–699.
    Final,
    /// J.
    Timer(TimerReason),
    /// The flow is lost.
    TransportError,
}

/// The machine.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Server {
    /// Where it stands.
    pub state: ServerState,
}

impl Server {
    /// A new transaction.
    #[must_use]
    pub fn start() -> Self {
        Self { state: ServerState::Trying }
    }

    /// The transition function.
    #[must_use]
    pub fn step(self, event: ServerEvent, context: &Context) -> (Self, Actions) {
        use ServerEvent as E;
        use ServerState as S;
        let (state, actions) = match (self.state, event) {
            (S::Trying | S::Proceeding, E::Provisional) => (S::Proceeding, Actions::of(&[Action::Transmit])),
            // Timer J is zero on reliable transports (RFC 3261 §17.2.2).
            (S::Trying | S::Proceeding, E::Final) if context.is_reliable() => {
                (S::Terminated, Actions::of(&[Action::Transmit]))
            }
            (S::Trying | S::Proceeding, E::Final) => {
                let linger = Action::Start(TimerReason::J, context.timers.limit());
                (S::Completed, Actions::of(&[Action::Transmit, linger]))
            }
            (S::Proceeding | S::Completed, E::Retransmission) => {
                (self.state, Actions::of(&[Action::Transmit]))
            }
            (S::Completed, E::Timer(TimerReason::J) | E::TransportError) => (S::Terminated, Actions::none()),
            (S::Trying | S::Proceeding, E::TransportError) => {
                (S::Terminated, Actions::of(&[Action::FailTransport]))
            }
            (state, _) => (state, Actions::none()),
        };
        (Self { state }, actions)
    }
}
