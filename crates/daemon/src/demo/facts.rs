//! Everything the lab reports, kept for questions. Owns the waiting for a fact; refuses to judge any.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lab::um::{LabFact, Milestone, MissedCall, StoredMessage, Waiting};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

/// The facts so far.
pub(super) struct Facts {
    seen: Arc<Mutex<Vec<LabFact>>>,
    count: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Facts {
    /// Begins to listen.
    pub(super) fn listen(mut source: broadcast::Receiver<LabFact>) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (counted, count) = watch::channel(0);
        let kept = seen.clone();
        let task = tokio::spawn(async move {
            loop {
                match source.recv().await {
                    Ok(fact) => {
                        // The lock must be gone before the counter moves: who waits on the counter asks for the lock.
                        kept.lock().unwrap_or_else(PoisonError::into_inner).push(fact);
                        counted.send_modify(|count| *count += 1);
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        });
        Self { seen, count, task }
    }

    /// What `pick` finds in each fact.
    pub(super) fn all<T>(&self, pick: impl Fn(&LabFact) -> Option<T>) -> Vec<T> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(pick).collect()
    }

    /// Waits until so many facts are picked; `false` when patience ended first.
    pub(super) async fn wait_for<T>(
        &self,
        wanted: usize,
        longest: Duration,
        pick: impl Fn(&LabFact) -> Option<T>,
    ) -> bool {
        let mut count = self.count.clone();
        let enough = count.wait_for(|_| self.all(&pick).len() >= wanted);
        matches!(tokio::time::timeout(longest, enough).await, Ok(Ok(_)))
    }

    /// Redirects by one server.
    pub(super) fn redirects_of(&self, name: &str) -> usize {
        self.all(|fact| matches!(fact, LabFact::Redirected { server, .. } if server == name).then_some(()))
            .len()
    }

    /// The voice message of the call with this Call-ID on the caller's side.
    pub(super) fn stored(&self, call_id: &str) -> Option<StoredMessage> {
        let pick = |fact: &LabFact| match fact {
            LabFact::Stored(message) if message.note.x_call_id.as_deref() == Some(call_id) => {
                Some((**message).clone())
            }
            _ => None,
        };
        self.all(pick).pop()
    }

    /// What was done inside the call with this Call-ID on UM's side.
    pub(super) fn milestones(&self, b_call_id: &str) -> Vec<Milestone> {
        self.all(|fact| match fact {
            LabFact::Did { call_id, milestone, .. } if call_id == b_call_id => Some(milestone.clone()),
            _ => None,
        })
    }

    /// What waited in this mailbox, each time that it changed.
    pub(super) fn waiting(&self, alias: &str) -> Vec<Waiting> {
        self.all(|fact| match fact {
            LabFact::Waiting(waiting) if waiting.mailbox == alias => Some(waiting.clone()),
            _ => None,
        })
    }

    /// The missed-call notification of that call.
    pub(super) fn missed(&self, call_id: &str) -> Option<MissedCall> {
        let pick = |fact: &LabFact| match fact {
            LabFact::Missed { missed, .. } if missed.x_call_id.as_deref() == Some(call_id) => {
                Some((**missed).clone())
            }
            _ => None,
        };
        self.all(pick).pop()
    }
}

impl Drop for Facts {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Picks answered calls.
pub(super) fn answered(fact: &LabFact) -> Option<()> {
    matches!(fact, LabFact::Answered { .. }).then_some(())
}

/// Picks stored messages.
pub(super) fn stored(fact: &LabFact) -> Option<()> {
    matches!(fact, LabFact::Stored(_)).then_some(())
}

/// Picks answers to what UM said of this mailbox's messages.
pub(super) fn notified(fact: &LabFact, alias: &str) -> Option<u16> {
    match fact {
        LabFact::Notified { mailbox, status } if mailbox == alias => Some(*status),
        _ => None,
    }
}

/// Picks redirects.
pub(super) fn redirected(fact: &LabFact) -> Option<()> {
    matches!(fact, LabFact::Redirected { .. }).then_some(())
}
