//! Between a call's application and everything else: media facts, keys and time become cues, deeds become media commands, requests and
//! reports.

use std::time::Instant;

use sip::{HeaderId, Message};

use super::attendant::Attendance;
use super::call::{Call, Phase};
use super::deposit::Deposit;
use super::ova::Ova;
use super::talk::{Application, Cue, Deed, Desk};
use super::worker::Worker;
use super::{CallKind, CallPurpose, Directory, EndReason};
use crate::media::{Key, MediaCommand, MediaFact, MediaKey};

impl Worker {
    /// The call stands: its application begins.
    pub(super) fn converse(&mut self, now: Instant, key: MediaKey) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        call.application = Some(application(&call.purpose, &self.config.directory));
        call.phase = Phase::Talking;
        call.ends_at = Some(now + call.rules.max_call_duration);
        self.cue(now, key, Cue::Begun);
    }

    /// What happened in the media of a call that stands.
    pub(super) fn on_talk(&mut self, now: Instant, key: MediaKey, fact: MediaFact) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let cue = match fact {
            MediaFact::Said(number) if call.saying == Some(number) => {
                call.saying = None;
                Cue::Said
            }
            MediaFact::Key(pressed) => Cue::Key(pressed.character()),
            MediaFact::Idle => Cue::RecordingOver(EndReason::Silence),
            MediaFact::Full => Cue::RecordingOver(EndReason::TooLong),
            MediaFact::Taken(samples) => Cue::Taken(samples),
            _ => return,
        };
        self.cue(now, key, cue);
    }

    /// A key in INFO, where one is.
    pub(super) fn on_info(&mut self, now: Instant, key: MediaKey, message: &Message) {
        if let Some(pressed) = pressed(message) {
            self.cue(now, key, Cue::Key(pressed.character()));
        }
    }

    /// What is due in a call that stands.
    pub(super) fn on_talk_due(&mut self, now: Instant, key: MediaKey) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        if call.ends_at.is_some_and(|at| at <= now) {
            return self.hang_up(now, key, EndReason::CallTooLong);
        }
        if call.wake_at.take_if(|at| *at <= now).is_some() {
            self.cue(now, key, Cue::Due);
        }
        self.on_transfer_due(now, key);
    }

    /// Tells the application, and does what it wants.
    pub(super) fn cue(&mut self, now: Instant, key: MediaKey, cue: Cue) {
        let utc = self.utc(now);
        let Some(call) = self.calls.get_mut(&key) else { return };
        let Some(application) = &mut call.application else { return };
        let mut desk = Desk {
            now,
            utc,
            rules: &call.rules,
            directory: &self.config.directory,
            server: &self.config.name,
            domain: &call.domain,
            random: &mut self.random,
            wake_at: &mut call.wake_at,
            deeds: Vec::new(),
        };
        application.handle(cue, &mut desk);
        for deed in desk.deeds {
            self.obey(now, key, deed);
        }
    }

    fn obey(&mut self, now: Instant, key: MediaKey, deed: Deed) {
        let Some(call) = self.calls.get_mut(&key).filter(|call| matches!(call.phase, Phase::Talking)) else {
            return;
        };
        match deed {
            Deed::Say(samples) => {
                call.said += 1;
                // Silence has no end that anybody waits for.
                call.saying = (!samples.is_empty()).then_some(call.said);
                let number = call.said;
                self.station.media(key, MediaCommand::Say { number, samples });
            }
            Deed::Record(limits) => {
                if matches!(call.application, Some(Application::Deposit(_))) {
                    call.recorded_from = Some(now);
                }
                self.station.media(key, MediaCommand::Record(limits));
            }
            Deed::Take => self.station.media(key, MediaCommand::Take),
            Deed::Transfer(to) => self.refer(now, key, to),
            Deed::LeaveMessage(alias) => {
                call.purpose.kind = CallKind::CallAnswering;
                call.purpose.for_whom = alias;
                self.converse_on(now, key);
            }
            Deed::HangUp(why) => self.hang_up(now, key, why),
            Deed::Tell(milestone) => self.tell(key, milestone),
            Deed::Report(report) => self.station.report(report),
        }
    }

    /// Another application takes the call over; its longest duration runs on.
    fn converse_on(&mut self, now: Instant, key: MediaKey) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        call.application = Some(application(&call.purpose, &self.config.directory));
        self.cue(now, key, Cue::Begun);
    }
}

fn application(purpose: &CallPurpose, directory: &Directory) -> Application {
    let whom = &purpose.for_whom;
    match purpose.kind {
        CallKind::CallAnswering | CallKind::VoiceMemo => {
            Application::Deposit(Deposit::new(whom, purpose.kind))
        }
        CallKind::SubscriberAccess => {
            Application::Ova(Ova::new(directory.mailbox(whom).map(|mailbox| mailbox.alias.clone())))
        }
        CallKind::AutoAttendant => {
            let attendant = directory.attendant(whom).cloned().unwrap_or_default();
            Application::Attendance(Box::new(Attendance::new(attendant)))
        }
    }
}

impl Call {
    /// What was recorded for the mailbox.
    pub(super) fn message(&self, recorded: Vec<i16>) -> Vec<i16> {
        match &self.application {
            Some(Application::Deposit(deposit)) => deposit.message.clone().unwrap_or(recorded),
            _ => recorded,
        }
    }
}

/// The key in an INFO: `Signal=5` of application/dtmf-relay, or the bare key of application/dtmf.
fn pressed(message: &Message) -> Option<Key> {
    let kind = message.header(HeaderId::ContentType)?.to_ascii_lowercase();
    let body = message.body();
    let text = std::str::from_utf8(&body).ok()?;
    let signal = if kind.starts_with(b"application/dtmf-relay") {
        let value = |line: &str| {
            let (name, value) = line.split_once('=')?;
            name.trim().eq_ignore_ascii_case("signal").then(|| value.trim().to_owned())
        };
        text.lines().find_map(value)?
    } else if kind.starts_with(b"application/dtmf") {
        text.trim().to_owned()
    } else {
        return None;
    };
    let mut characters = signal.chars();
    let key = characters.next().and_then(Key::new)?;
    characters.next().is_none().then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use sip::Limits;

    fn info(kind: &str, body: &str) -> Option<char> {
        let text = format!(
            "INFO sip:um SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: <sip:a>;tag=1\r\nTo: <sip:um>;tag=2\r\n\
             Call-ID: c\r\nCSeq: 1 INFO\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        pressed(&Message::parse(Bytes::from(text), &Limits::default()).unwrap()).map(Key::character)
    }

    #[test]
    fn keys_come_by_info_in_both_forms_and_nothing_else_is_one() {
        assert_eq!(info("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n"), Some('5'));
        assert_eq!(info("application/dtmf-relay", "Duration=160\r\nsignal = #\r\n"), Some('#'));
        assert_eq!(info("application/dtmf", "9"), Some('9'));
        for (kind, body) in [
            ("application/dtmf-relay", "Signal=55\r\n"),
            ("application/dtmf-relay", "Signal=\r\n"),
            ("application/dtmf", "x"),
            ("text/plain", "5"),
        ] {
            assert_eq!(info(kind, body), None, "{kind} {body}");
        }
    }
}
