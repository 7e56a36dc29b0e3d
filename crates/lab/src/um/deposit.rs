//! Call answering: greeting, beep, recording. Owns the order of these; whoever owns the call ends it when it lasts too long.

use super::config::AfterRecording;
use super::talk::{Cue, Deed, Desk};
use super::{CallKind, EndReason};
use crate::audio::{Prompt, Speech, greeting};
use crate::media::RecordLimits;

/// Ends a greeting early, and a recording.
const DONE: char = '#';

/// A caller who leaves a message.
#[derive(Debug)]
pub(super) struct Deposit {
    mailbox: String,
    kind: CallKind,
    state: State,
    /// What was recorded, once `#` was pressed.
    pub(super) message: Option<Vec<i16>>,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum State {
    Greeting,
    Beep,
    Recording,
    /// Nothing more to do until the caller hangs up.
    Over,
    Thanking,
}

impl Deposit {
    pub(super) fn new(mailbox: &str, kind: CallKind) -> Self {
        Deposit { mailbox: mailbox.to_owned(), kind, state: State::Greeting, message: None }
    }

    pub(super) fn handle(&mut self, cue: Cue, desk: &mut Desk<'_>) {
        match (cue, self.state) {
            (Cue::Begun, _) => self.greet(desk),
            (Cue::Key(DONE), State::Greeting) => self.beep(desk),
            (Cue::Said, State::Greeting | State::Beep) => self.record(desk),
            (Cue::Key(DONE), State::Recording) => {
                self.state = State::Thanking;
                desk.want(Deed::Take);
            }
            (Cue::RecordingOver(why), State::Recording) => self.on_over(desk, why),
            (Cue::Taken(samples), State::Thanking) => {
                self.message = Some(samples);
                desk.say(Speech::new().prompt(Prompt::Stored).prompt(Prompt::Goodbye));
            }
            (Cue::Said, State::Thanking) => desk.want(Deed::HangUp(EndReason::Finished)),
            _ => {}
        }
    }

    fn greet(&mut self, desk: &mut Desk<'_>) {
        if self.kind == CallKind::VoiceMemo {
            return self.beep(desk);
        }
        let own = desk.directory.greeting(&self.mailbox);
        let greeting = own.map_or_else(greeting, |samples| samples.to_vec());
        desk.say(Speech::new().recording(&greeting).beep());
    }

    fn beep(&mut self, desk: &mut Desk<'_>) {
        self.state = State::Beep;
        desk.say(Speech::new().beep());
    }

    fn record(&mut self, desk: &mut Desk<'_>) {
        self.state = State::Recording;
        let (idle, longest) = (desk.rules.recording_idle_timeout, desk.rules.max_recording_duration);
        desk.want(Deed::Record(RecordLimits { idle: Some(idle), longest }));
    }

    fn on_over(&mut self, desk: &mut Desk<'_>, why: EndReason) {
        self.state = State::Over;
        if desk.rules.after_recording == AfterRecording::HangUp {
            desk.want(Deed::HangUp(why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::MailboxConfig;
    use super::super::directory::Directory;
    use super::super::talk::Application;
    use super::super::talk::tests::{Talk, ends, said};
    use super::*;
    use crate::audio::{beep, tone};

    fn talk(kind: CallKind) -> Talk {
        let ken = MailboxConfig { alias: "ken".to_owned(), ..MailboxConfig::default() };
        Talk::new(Application::Deposit(Deposit::new("ken", kind)), Directory::of(vec![ken]).unwrap())
    }

    fn records(deeds: &[Deed]) -> Option<RecordLimits> {
        deeds.iter().find_map(|deed| if let Deed::Record(limits) = deed { Some(*limits) } else { None })
    }

    #[test]
    fn the_system_greeting_a_beep_and_a_recording_within_its_limits() {
        let mut talk = talk(CallKind::CallAnswering);
        let deeds = talk.cue(Cue::Begun);
        assert_eq!(said(&deeds).unwrap(), [greeting(), beep()].concat());
        let limits = records(&talk.cue(Cue::Said)).unwrap();
        assert_eq!(limits.idle, Some(talk.rules.recording_idle_timeout));
        assert_eq!(limits.longest, talk.rules.max_recording_duration);
        assert_eq!(ends(&talk.cue(Cue::RecordingOver(EndReason::TooLong))), Some(EndReason::TooLong));
    }

    #[test]
    fn an_own_greeting_is_played_and_hash_goes_straight_to_the_beep() {
        let mut talk = talk(CallKind::CallAnswering);
        let own = tone(500.0, -20.0, 4_000);
        talk.directory.set_greeting("ken", own.clone());
        assert_eq!(said(&talk.cue(Cue::Begun)).unwrap(), [own, beep()].concat());
        assert!(talk.keys("1").is_empty(), "other keys do nothing");
        assert_eq!(said(&talk.keys("#")).unwrap(), beep());
        assert!(records(&talk.cue(Cue::Said)).is_some());
    }

    #[test]
    fn hash_ends_the_recording_and_the_message_is_kept() {
        let mut talk = talk(CallKind::VoiceMemo);
        assert_eq!(said(&talk.cue(Cue::Begun)).unwrap(), beep());
        talk.cue(Cue::Said);
        assert!(matches!(talk.keys("#")[..], [Deed::Take]));
        assert!(talk.cue(Cue::RecordingOver(EndReason::Silence)).is_empty(), "that comes too late");
        assert!(said(&talk.cue(Cue::Taken(vec![7; 5]))).is_some());
        assert_eq!(ends(&talk.cue(Cue::Said)), Some(EndReason::Finished));
        let Application::Deposit(deposit) = &talk.application else { panic!("another application") };
        assert_eq!(deposit.message.as_deref(), Some(&[7; 5][..]));
    }
}
