//! What a machine asks its owner to do, in order. A fixed small list, so a transition allocates nothing.

use super::{Lane, TimerReason};
use std::time::Duration;

/// How many actions one transition can ask for.
const ACTIONS_MAX: usize = 5;

/// One instruction to the owner of a machine.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Send the transaction's own last message again (client: request; server: last response).
    Transmit,
    /// Build and send the ACK to a non-2xx final response, or send the same one again.
    SendAck,
    /// Build and send the automatic 100.
    SendTrying,
    /// Hand the message that caused this transition to the transaction user.
    Deliver,
    /// Run this timer, replacing what runs in its lane.
    Start(TimerReason, Duration),
    /// Stop what runs in this lane.
    Stop(Lane),
    /// Tell the user: no answer in time.
    FailTimeout,
    /// Tell the user: the transport is gone.
    FailTransport,
    /// Tell the user: the ACK to a 2xx never came.
    AckMissing,
}

/// The actions of one transition.
#[derive(Copy, Clone, Debug, Default)]
pub struct Actions {
    list: [Option<Action>; ACTIONS_MAX],
}

impl Actions {
    /// Nothing to do.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// One after another; more than `ACTIONS_MAX` would be cut, and no transition has that many.
    #[must_use]
    pub fn of(actions: &[Action]) -> Self {
        debug_assert!(actions.len() <= ACTIONS_MAX);
        let mut list = [None; ACTIONS_MAX];
        for (slot, action) in list.iter_mut().zip(actions) {
            *slot = Some(*action);
        }
        Self { list }
    }

    /// In the order they must be done.
    pub fn iter(&self) -> impl Iterator<Item = Action> + '_ {
        self.list.iter().map_while(|slot| *slot)
    }
}
