//! INVITE server transaction, RFC 3261 §17.2.1 with RFC 6026 §7.1, and the 2xx retransmission of RFC 3261
//! §13.3.1.4, which the core would otherwise run beside it.
//!
//! ```text
//!  Proceeding ──2xx──▶ Accepted{unacked} ──ACK──▶ Accepted{acked} ──L──▶ Terminated
//!      │ 200 ms: 100        │ L: AckMissing
//!      └─300–699─▶ Completed ──ACK──▶ Confirmed ──I──▶ Terminated
//!                     │ G: again   H: time-out
//! ```

use super::{Action, Actions, Context, Lane, TimerReason};
use std::time::Duration;

/// States of the INVITE server transaction.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum InviteServerState {
    /// The user has the INVITE; nothing sent yet, the 100 is due.
    Fresh,
    /// A provisional response was sent.
    Proceeding,
    /// A non-2xx final was sent; `interval` is the running Timer G.
    Completed {
        /// Current value of Timer G.
        interval: Duration,
    },
    /// Its ACK came.
    Confirmed,
    /// A 2xx was sent and waits for its ACK; `interval` is the running retransmission.
    Accepted {
        /// Current interval of the 2xx retransmission.
        interval: Duration,
    },
    /// The ACK to the 2xx came; INVITE retransmissions are absorbed until Timer L.
    Acknowledged,
    /// Over.
    Terminated,
}

/// What can happen to it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum InviteServerEvent {
    /// The INVITE again.
    Retransmission,
    /// The user answers 1xx.
    Provisional,
    /// The user answers 2xx.
    Success,
    /// The user answers 300–699.
    Failure,
    /// ACK.
    Ack,
    /// One of G, H, I, L, Trying, Retransmit2xx.
    Timer(TimerReason),
    /// The flow is lost.
    TransportError,
}

/// The machine.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct InviteServer {
    /// Where it stands.
    pub state: InviteServerState,
}

impl InviteServer {
    /// A new transaction; the actions start the clock of the automatic 100.
    #[must_use]
    pub fn start(context: &Context) -> (Self, Actions) {
        let trying = Action::Start(TimerReason::Trying, context.timers.trying_after);
        (Self { state: InviteServerState::Fresh }, Actions::of(&[trying]))
    }

    /// The transition function.
    #[must_use]
    pub fn step(self, event: InviteServerEvent, context: &Context) -> (Self, Actions) {
        use InviteServerEvent as E;
        use InviteServerState as S;
        use TimerReason as T;
        let stop = Action::Stop(Lane::Retransmit);
        let (state, actions) = match (self.state, event) {
            (S::Fresh, E::Timer(T::Trying)) => (S::Proceeding, Actions::of(&[Action::SendTrying])),
            (S::Fresh | S::Proceeding, E::Provisional) => {
                (S::Proceeding, Actions::of(&[Action::Transmit, stop]))
            }
            (S::Proceeding | S::Completed { .. }, E::Retransmission) => {
                (self.state, Actions::of(&[Action::Transmit]))
            }
            (S::Fresh | S::Proceeding, E::Success) => Self::accepted(context),
            (S::Accepted { interval }, E::Timer(T::Retransmit2xx)) => {
                let interval = context.doubled_to_t2(interval);
                let again = Action::Start(T::Retransmit2xx, interval);
                (S::Accepted { interval }, Actions::of(&[Action::Transmit, again]))
            }
            (S::Accepted { .. }, E::Success) => (self.state, Actions::of(&[Action::Transmit])),
            (S::Accepted { .. }, E::Ack) => (S::Acknowledged, Actions::of(&[Action::Deliver, stop])),
            (S::Accepted { .. }, E::Timer(T::L)) => (S::Terminated, Actions::of(&[Action::AckMissing])),
            (S::Acknowledged, E::Timer(T::L) | E::TransportError) => (S::Terminated, Actions::none()),
            // The ACK may still arrive on another flow, so only the retransmission ends.
            (S::Accepted { .. }, E::TransportError) => (self.state, Actions::of(&[stop])),
            (S::Fresh | S::Proceeding, E::Failure) => Self::completed(context),
            (S::Completed { interval }, E::Timer(T::G)) => {
                let interval = context.doubled_to_t2(interval);
                (S::Completed { interval }, Actions::of(&[Action::Transmit, Action::Start(T::G, interval)]))
            }
            (S::Completed { .. }, E::Timer(T::H)) => (S::Terminated, Actions::of(&[Action::FailTimeout])),
            // Timer I is zero on reliable transports (RFC 3261 §17.2.1).
            (S::Completed { .. }, E::Ack) if context.is_reliable() => (S::Terminated, Actions::of(&[stop])),
            (S::Completed { .. }, E::Ack) => {
                (S::Confirmed, Actions::of(&[stop, Action::Start(T::I, context.timers.t4)]))
            }
            (S::Confirmed, E::Timer(T::I)) => (S::Terminated, Actions::none()),
            (S::Fresh | S::Proceeding, E::TransportError) => {
                (S::Terminated, Actions::of(&[Action::FailTransport]))
            }
            (S::Completed { .. } | S::Confirmed, E::TransportError) => (S::Terminated, Actions::none()),
            (state, _) => (state, Actions::none()),
        };
        (Self { state }, actions)
    }

    /// The 2xx is repeated on every transport: only the user's ACK proves that it crossed (RFC 3261 §13.3.1.4).
    fn accepted(context: &Context) -> (InviteServerState, Actions) {
        let interval = context.timers.t1;
        let actions = Actions::of(&[
            Action::Transmit,
            Action::Start(TimerReason::Retransmit2xx, interval),
            Action::Start(TimerReason::L, context.timers.limit()),
        ]);
        (InviteServerState::Accepted { interval }, actions)
    }

    /// Timer G runs only over unreliable transports.
    fn completed(context: &Context) -> (InviteServerState, Actions) {
        let interval = context.timers.t1;
        let repeat = if context.is_reliable() {
            Action::Stop(Lane::Retransmit)
        } else {
            Action::Start(TimerReason::G, interval)
        };
        let wait = Action::Start(TimerReason::H, context.timers.limit());
        (InviteServerState::Completed { interval }, Actions::of(&[Action::Transmit, repeat, wait]))
    }
}
