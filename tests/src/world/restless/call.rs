//! One call of a restless far end: what is known and when it next needs attention.

use std::time::{Duration, Instant};

use bytes::Bytes;
use sip::{ClientKey, Dialog, Flow, Message, OutgoingRequest, ServerKey};

/// Everything inside a call is over by then.
const PATIENCE: Duration = Duration::from_secs(90);
/// A call during which nobody has an idea for a while.
const SLEEP: Duration = Duration::from_secs(150);

pub(super) struct Call {
    /// Number of a placed call.
    pub(super) placed: Option<u64>,
    pub(super) flow: Flow,
    pub(super) call_id: Bytes,
    pub(super) is_sealed: bool,
    pub(super) invite: Option<OutgoingRequest>,
    pub(super) first: Option<ClientKey>,
    pub(super) dialog: Option<Dialog>,
    /// The early dialog of a placed call.
    pub(super) early: Option<Dialog>,
    /// The other side's INVITE that waits for an answer, and until when.
    pub(super) theirs: Option<(ServerKey, Message, Instant)>,
    /// Our re-INVITE that waits; whether it brought an offer.
    pub(super) ours: Option<(ClientKey, Brings)>,
    pub(super) bye: Option<ClientKey>,
    pub(super) stage: Stage,
    pub(super) idea_at: Instant,
    pub(super) cancel_at: Option<Instant>,
    pub(super) ideas: u32,
    pub(super) over_at: Instant,
    /// A reliable 18x with a description waits for its PRACK until then.
    pub(super) prack_due: Option<Instant>,
    /// The answer was in a reliable 18x, so that the 200 needs none; or the offer was, and the PRACK answered it.
    pub(super) was_told: bool,
    /// RSeq of the last reliable 18x that was confirmed.
    pub(super) confirmed: u32,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Stage {
    SettingUp,
    Answered,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Brings {
    Offer,
    Nothing,
}

impl Call {
    pub(super) fn new(now: Instant, flow: Flow, call_id: Bytes) -> Self {
        Self {
            placed: None,
            flow,
            call_id,
            is_sealed: false,
            invite: None,
            first: None,
            dialog: None,
            early: None,
            theirs: None,
            ours: None,
            bye: None,
            stage: Stage::SettingUp,
            idea_at: now + Duration::from_millis(1_500),
            cancel_at: None,
            ideas: 0,
            over_at: now + PATIENCE,
            prack_due: None,
            was_told: false,
            confirmed: 0,
        }
    }

    /// Nothing happens for longer than a session interval: somebody has to refresh.
    pub(super) fn fall_asleep(&mut self, now: Instant, sleeps: bool) {
        if sleeps {
            self.idea_at = now + SLEEP;
            self.over_at = now + SLEEP + PATIENCE;
        }
    }

    /// The waiting INVITE is answered a little later.
    pub(super) fn postpone(&mut self, until: Instant) -> bool {
        self.prack_due = Some(until);
        match &mut self.theirs {
            Some((.., at)) => *at += Duration::from_millis(150),
            None => return false,
        }
        true
    }

    pub(super) fn is_of(&self, message: &Message) -> bool {
        let (Some(ours), Some(theirs)) = (message.to_tag(), message.from_tag()) else { return false };
        self.call_id == message.call_id()
            && self.dialog.as_ref().is_some_and(|dialog| dialog.matches(message.call_id(), ours, theirs))
    }

    pub(super) fn has_open(&self, client: ClientKey) -> bool {
        self.ours.is_some_and(|(own, _)| own == client)
    }

    /// Answered, by whichever side.
    pub(super) fn is_up(&self) -> bool {
        self.stage == Stage::Answered && self.dialog.is_some()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let answer = self.theirs.as_ref().map(|(.., at)| *at);
        let idea = (self.is_up() && self.bye.is_none()).then_some(self.idea_at);
        let cancel = self.cancel_at.filter(|_| self.dialog.is_none());
        [answer, idea, cancel, Some(self.over_at)].into_iter().flatten().min()
    }
}
