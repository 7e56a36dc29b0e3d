//! Non-INVITE client transaction, RFC 3261 §17.1.2.
//!
//! ```text
//!  Trying ──1xx──▶ Proceeding ──200–699──▶ Completed ──K──▶ Terminated
//!     └───────────200–699─────────────────────▲
//!  E: again (T1 doubling to T2; T2 in Proceeding), F: time-out
//! ```

use super::{Action, Actions, Context, Lane, TimerReason};
use std::time::Duration;

/// States of the non-INVITE client transaction.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum ClientState {
    /// Sent, nothing heard; `interval` is the running Timer E.
    Trying {
        /// Current value of Timer E.
        interval: Duration,
    },
    /// A provisional response came.
    Proceeding,
    /// A final response came; retransmissions of it are absorbed.
    Completed,
    /// Over.
    Terminated,
}

/// What can happen to it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum ClientEvent {
    /// 1xx.
    Provisional,
    /// 200–699.
    Final,
    /// One of E, F, K.
    Timer(TimerReason),
    /// The flow is lost.
    TransportError,
}

/// The machine.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Client {
    /// Where it stands.
    pub state: ClientState,
}

impl Client {
    /// A new transaction; the actions send the request.
    #[must_use]
    pub fn start(context: &Context) -> (Self, Actions) {
        let t1 = context.timers.t1;
        let limit = Action::Start(TimerReason::F, context.timers.limit());
        let actions = if context.is_reliable() {
            Actions::of(&[Action::Transmit, limit])
        } else {
            Actions::of(&[Action::Transmit, Action::Start(TimerReason::E, t1), limit])
        };
        (Self { state: ClientState::Trying { interval: t1 } }, actions)
    }

    /// The transition function.
    #[must_use]
    pub fn step(self, event: ClientEvent, context: &Context) -> (Self, Actions) {
        use ClientEvent as E;
        use ClientState as S;
        let (state, actions) = match (self.state, event) {
            (S::Trying { interval }, E::Timer(TimerReason::E)) => {
                let interval = context.doubled_to_t2(interval);
                (
                    S::Trying { interval },
                    Actions::of(&[Action::Transmit, Action::Start(TimerReason::E, interval)]),
                )
            }
            (S::Proceeding, E::Timer(TimerReason::E)) => {
                let again = Action::Start(TimerReason::E, context.timers.t2);
                (S::Proceeding, Actions::of(&[Action::Transmit, again]))
            }
            (S::Trying { .. } | S::Proceeding, E::Timer(TimerReason::F)) => {
                (S::Terminated, Actions::of(&[Action::FailTimeout]))
            }
            (S::Trying { .. } | S::Proceeding, E::Provisional) => {
                (S::Proceeding, Actions::of(&[Action::Deliver]))
            }
            (S::Trying { .. } | S::Proceeding, E::Final) => Self::completed(context),
            (S::Completed, E::Timer(TimerReason::K)) => (S::Terminated, Actions::none()),
            (S::Trying { .. } | S::Proceeding, E::TransportError) => {
                (S::Terminated, Actions::of(&[Action::FailTransport]))
            }
            (S::Completed, E::TransportError) => (S::Terminated, Actions::none()),
            (state, _) => (state, Actions::none()),
        };
        (Self { state }, actions)
    }

    /// Timer K is zero on reliable transports (RFC 3261 §17.1.2.2).
    fn completed(context: &Context) -> (ClientState, Actions) {
        let stop = Action::Stop(Lane::Retransmit);
        if context.is_reliable() {
            return (ClientState::Terminated, Actions::of(&[Action::Deliver, stop]));
        }
        let linger = Action::Start(TimerReason::K, context.timers.t4);
        (ClientState::Completed, Actions::of(&[Action::Deliver, stop, linger]))
    }
}
