//! What a caller and UM have to say to each other, apart from SIP: applications are told cues and want deeds. Owns that contract and the
//! waits of a conversation; refuses to know dialogs, packets and files.

use std::time::{Duration, Instant};

use rand::RngCore;
use rand::rngs::StdRng;
use time::OffsetDateTime;

use super::attendant::Attendance;
use super::config::{AnswerRules, Pin};
use super::deposit::Deposit;
use super::directory::Directory;
use super::ova::Ova;
use super::{EndReason, Milestone, UmReport};
use crate::audio::Speech;
use crate::media::RecordLimits;

/// After a prompt, for a key. Ours, as the other waits here: Exchange's are not documented.
pub(super) const INPUT_WAIT: Duration = Duration::from_secs(5);
/// Between two keys of one number.
pub(super) const KEY_WAIT: Duration = Duration::from_secs(3);

/// What an application is told.
#[derive(Debug)]
pub(super) enum Cue {
    /// The call stands.
    Begun,
    /// This key was pressed.
    Key(char),
    /// The last `Say` is out.
    Said,
    /// The recording ended by itself.
    RecordingOver(EndReason),
    /// What was asked for with `Take`.
    Taken(Vec<i16>),
    /// It is `wake_at`.
    Due,
    /// The transfer failed with this status; 0 = nothing was heard of it.
    TransferFailed,
}

/// What it wants.
#[derive(Debug)]
pub(super) enum Deed {
    /// Say this instead of whatever is being said.
    Say(Vec<i16>),
    /// Record.
    Record(RecordLimits),
    /// Hand over what was recorded.
    Take,
    /// Hand the caller to this address.
    Transfer(String),
    /// Let the caller leave a message for this mailbox instead.
    LeaveMessage(String),
    /// End the call.
    HangUp(EndReason),
    /// Tell what was done.
    Tell(Milestone),
    /// For the owner of the worker.
    Report(UmReport),
}

/// What an application sees of the world, and where it lays its deeds.
pub(super) struct Desk<'d> {
    pub(super) now: Instant,
    pub(super) utc: OffsetDateTime,
    pub(super) rules: &'d AnswerRules,
    pub(super) directory: &'d Directory,
    /// The Mailbox server.
    pub(super) server: &'d str,
    /// The caller's own domain.
    pub(super) domain: &'d str,
    pub(super) random: &'d mut StdRng,
    pub(super) wake_at: &'d mut Option<Instant>,
    pub(super) deeds: Vec<Deed>,
}

impl Desk<'_> {
    /// Says this; no wait runs while it is said.
    pub(super) fn say(&mut self, speech: Speech) {
        *self.wake_at = None;
        self.deeds.push(Deed::Say(speech.into_samples()));
    }

    /// Says nothing more.
    pub(super) fn hush(&mut self) {
        self.deeds.push(Deed::Say(Vec::new()));
    }

    /// Waits for a key.
    pub(super) fn wait(&mut self, longest: Duration) {
        *self.wake_at = Some(self.now + longest);
    }

    pub(super) fn tell(&mut self, milestone: Milestone) {
        self.deeds.push(Deed::Tell(milestone));
    }

    pub(super) fn want(&mut self, deed: Deed) {
        *self.wake_at = None;
        self.deeds.push(deed);
    }

    /// Hands the caller to whoever is dialled.
    pub(super) fn transfer(&mut self, dialled: &str) {
        let address = self.directory.address_of(dialled, self.domain);
        self.want(Deed::Transfer(address));
    }

    /// Another PIN of so many digits.
    pub(super) fn fresh_pin(random: &mut StdRng, digits: usize) -> Pin {
        let text: String = (0..digits).filter_map(|_| char::from_digit(random.next_u32() % 10, 10)).collect();
        // Lengths are checked with the directory; a PIN that cannot be made is one nobody types.
        Pin::new(&text).unwrap_or_else(Pin::unguessable)
    }
}

/// What runs on a call.
#[derive(Debug)]
pub(super) enum Application {
    /// Call answering and voice memo.
    Deposit(Deposit),
    /// Outlook Voice Access.
    Ova(Ova),
    /// An attendant.
    Attendance(Box<Attendance>),
}

impl Application {
    pub(super) fn handle(&mut self, cue: Cue, desk: &mut Desk<'_>) {
        match self {
            Application::Deposit(deposit) => deposit.handle(cue, desk),
            Application::Ova(ova) => ova.handle(cue, desk),
            Application::Attendance(attendance) => attendance.handle(cue, desk),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use rand::SeedableRng;
    use time::macros::datetime;

    /// An application on a desk of its own, with a clock that a test moves.
    pub(crate) struct Talk {
        pub(crate) application: Application,
        pub(crate) directory: Directory,
        pub(crate) rules: AnswerRules,
        pub(crate) now: Instant,
        pub(crate) utc: OffsetDateTime,
        wake_at: Option<Instant>,
        random: StdRng,
    }

    impl Talk {
        pub(crate) fn new(application: Application, directory: Directory) -> Self {
            let utc = datetime!(2026-11-23 10:00 UTC);
            let (rules, random) = (AnswerRules::default(), StdRng::seed_from_u64(1));
            Talk { application, directory, rules, now: Instant::now(), utc, wake_at: None, random }
        }

        pub(crate) fn cue(&mut self, cue: Cue) -> Vec<Deed> {
            let mut desk = Desk {
                now: self.now,
                utc: self.utc,
                rules: &self.rules,
                directory: &self.directory,
                server: "mbx01.contoso.test",
                domain: "contoso.test",
                random: &mut self.random,
                wake_at: &mut self.wake_at,
                deeds: Vec::new(),
            };
            self.application.handle(cue, &mut desk);
            desk.deeds
        }

        /// Presses these keys one after the other; what the last one brought.
        pub(crate) fn keys(&mut self, keys: &str) -> Vec<Deed> {
            keys.chars().map(|key| self.cue(Cue::Key(key))).last().unwrap_or_default()
        }

        /// Lets the wait pass that is running.
        pub(crate) fn wait(&mut self) -> Vec<Deed> {
            let due = self.wake_at.take().expect("nothing is waited for");
            assert!(due >= self.now);
            self.now = due;
            self.cue(Cue::Due)
        }

        pub(crate) fn is_waiting(&self) -> bool {
            self.wake_at.is_some()
        }
    }

    /// What was said, as sound.
    pub(crate) fn said(deeds: &[Deed]) -> Option<&[i16]> {
        deeds
            .iter()
            .rev()
            .find_map(|deed| if let Deed::Say(samples) = deed { Some(&samples[..]) } else { None })
    }

    pub(crate) fn ends(deeds: &[Deed]) -> Option<EndReason> {
        deeds.iter().find_map(|deed| if let Deed::HangUp(why) = deed { Some(*why) } else { None })
    }

    pub(crate) fn transfers(deeds: &[Deed]) -> Option<&str> {
        deeds.iter().find_map(|deed| if let Deed::Transfer(to) = deed { Some(to.as_str()) } else { None })
    }

    pub(crate) fn milestones(deeds: &[Deed]) -> Vec<&Milestone> {
        deeds.iter().filter_map(|deed| if let Deed::Tell(told) = deed { Some(told) } else { None }).collect()
    }

    /// Whether this sound is part of what was said.
    pub(crate) fn speaks_of(deeds: &[Deed], speech: Speech) -> bool {
        let (part, whole) = (speech.into_samples(), said(deeds).unwrap_or_default());
        !part.is_empty() && whole.windows(part.len()).any(|window| window == part)
    }
}
