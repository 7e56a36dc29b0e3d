//! INVITE client transaction, RFC 3261 §17.1.1 with RFC 6026 §7.2.
//!
//! ```text
//!  Calling ──1xx──▶ Proceeding ──2xx──▶ Accepted ──M──▶ Terminated
//!     │ A: again        │ 300–699: ACK     │ 2xx: deliver
//!     │ B: time-out     ▼
//!     └──300–699──▶ Completed ──D──▶ Terminated
//! ```

use super::{Action, Actions, Context, Lane, TimerReason};
use std::time::Duration;

/// States of the INVITE client transaction.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum InviteClientState {
    /// Sent, nothing heard; `interval` is the running Timer A.
    Calling {
        /// Current value of Timer A.
        interval: Duration,
    },
    /// A provisional response came.
    Proceeding,
    /// A non-2xx final came and was acknowledged.
    Completed,
    /// A 2xx came (RFC 6026).
    Accepted,
    /// Over.
    Terminated,
}

/// What can happen to it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum InviteClientEvent {
    /// 1xx.
    Provisional,
    /// 2xx.
    Success,
    /// 300–699.
    Failure,
    /// A CANCEL for it was sent (RFC 3261 §9.1).
    Cancelled,
    /// One of A, B, D, M, CancelGiveUp.
    Timer(TimerReason),
    /// The flow is lost.
    TransportError,
}

/// The machine.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct InviteClient {
    /// Where it stands.
    pub state: InviteClientState,
}

impl InviteClient {
    /// A new transaction; the actions send the INVITE.
    #[must_use]
    pub fn start(context: &Context) -> (Self, Actions) {
        let t1 = context.timers.t1;
        let limit = Action::Start(TimerReason::B, context.timers.limit());
        let actions = if context.is_reliable() {
            Actions::of(&[Action::Transmit, limit])
        } else {
            Actions::of(&[Action::Transmit, Action::Start(TimerReason::A, t1), limit])
        };
        (Self { state: InviteClientState::Calling { interval: t1 } }, actions)
    }

    /// The transition function.
    #[must_use]
    pub fn step(self, event: InviteClientEvent, context: &Context) -> (Self, Actions) {
        use InviteClientEvent as E;
        use InviteClientState as S;
        let stop_all = [Action::Stop(Lane::Retransmit), Action::Stop(Lane::Limit)];
        let (state, actions) = match (self.state, event) {
            (S::Calling { interval }, E::Timer(TimerReason::A)) => {
                let interval = interval.saturating_mul(2);
                (
                    S::Calling { interval },
                    Actions::of(&[Action::Transmit, Action::Start(TimerReason::A, interval)]),
                )
            }
            (S::Calling { .. }, E::Timer(TimerReason::B))
            | (S::Proceeding, E::Timer(TimerReason::CancelGiveUp)) => {
                (S::Terminated, Actions::of(&[Action::FailTimeout]))
            }
            (S::Calling { .. }, E::Provisional) => {
                (S::Proceeding, Actions::of(&[Action::Deliver, stop_all[0], stop_all[1]]))
            }
            (S::Proceeding, E::Provisional) => (S::Proceeding, Actions::of(&[Action::Deliver])),
            (S::Proceeding, E::Cancelled) => {
                let give_up = Action::Start(TimerReason::CancelGiveUp, context.timers.limit());
                (S::Proceeding, Actions::of(&[give_up]))
            }
            (S::Calling { .. } | S::Proceeding, E::Success) => {
                let linger = Action::Start(TimerReason::M, context.timers.limit());
                (S::Accepted, Actions::of(&[Action::Deliver, stop_all[0], linger]))
            }
            (S::Calling { .. } | S::Proceeding, E::Failure) => Self::completed(context),
            (S::Completed, E::Failure) => (S::Completed, Actions::of(&[Action::SendAck])),
            (S::Accepted, E::Success) => (S::Accepted, Actions::of(&[Action::Deliver])),
            (S::Completed, E::Timer(TimerReason::D)) | (S::Accepted, E::Timer(TimerReason::M)) => {
                (S::Terminated, Actions::none())
            }
            (S::Calling { .. } | S::Proceeding, E::TransportError) => {
                (S::Terminated, Actions::of(&[Action::FailTransport]))
            }
            (S::Completed | S::Accepted, E::TransportError) => (S::Terminated, Actions::none()),
            (state, _) => (state, Actions::none()),
        };
        (Self { state }, actions)
    }

    /// Timer D is zero on reliable transports, so Completed is skipped there (RFC 3261 §17.1.1.2).
    fn completed(context: &Context) -> (InviteClientState, Actions) {
        let ended = [Action::SendAck, Action::Deliver, Action::Stop(Lane::Retransmit)];
        if context.is_reliable() {
            return (InviteClientState::Terminated, Actions::of(&ended));
        }
        let linger = Action::Start(TimerReason::D, context.timers.limit());
        (InviteClientState::Completed, Actions::of(&[ended[0], ended[1], ended[2], linger]))
    }
}
