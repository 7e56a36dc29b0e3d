//! Outlook Voice Access: PIN, menus, messages, greeting. Owns where a caller is in these and how often he was wrong; the keys stand in
//! [`super::menu`], the PINs with the directory.

use super::directory::{HeldMessage, Logon};
use super::menu::{self, Action, Choice};
use super::talk::{Cue, Deed, Desk, INPUT_WAIT, KEY_WAIT};
use super::{EndReason, Milestone, PinLetter, UmReport};
use crate::audio::{Prompt, Speech};
use crate::media::RecordLimits;

/// Ends a PIN, an extension, a recording.
const DONE: char = '#';
/// Takes back what was typed.
const CLEAR: char = '*';
/// Keys of one number: a PIN has at most 24.
const TYPED_MAX: usize = 24;

/// A caller at the own mailbox, or at that of the extension he says he has.
#[derive(Debug)]
pub(super) struct Ova {
    mailbox: Option<String>,
    state: State,
    typed: String,
    wrong_pins: u32,
    wrong_keys: u32,
    messages: Vec<String>,
    at: usize,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum State {
    Extension,
    Pin,
    Main,
    /// A message is played; its menu comes after it.
    Playing,
    Message,
    Options,
    AskingGreeting,
    RecordingGreeting,
    Transferring,
    Leaving(EndReason),
}

impl Ova {
    /// `mailbox` is the caller's own, when he has one.
    pub(super) fn new(mailbox: Option<String>) -> Self {
        let state = if mailbox.is_some() { State::Pin } else { State::Extension };
        Ova {
            mailbox,
            state,
            typed: String::new(),
            wrong_pins: 0,
            wrong_keys: 0,
            messages: Vec::new(),
            at: 0,
        }
    }

    pub(super) fn handle(&mut self, cue: Cue, desk: &mut Desk<'_>) {
        match cue {
            Cue::Begun => self.ask(desk, Speech::new().prompt(Prompt::VoiceAccess)),
            Cue::Key(key) => self.on_key(desk, key),
            Cue::Said => self.on_said(desk),
            Cue::Due => self.on_due(desk),
            Cue::RecordingOver(_) if self.state == State::RecordingGreeting => desk.want(Deed::Take),
            Cue::Taken(samples) if self.state == State::RecordingGreeting => self.on_greeting(desk, samples),
            Cue::TransferFailed if self.state == State::Transferring => {
                self.main(desk, Speech::new().prompt(Prompt::NoAnswer));
            }
            Cue::RecordingOver(_) | Cue::Taken(_) | Cue::TransferFailed => {}
        }
    }

    fn alias(&self) -> &str {
        self.mailbox.as_deref().unwrap_or_default()
    }

    /// Says what belongs to where the caller is, after these words.
    fn ask(&mut self, desk: &mut Desk<'_>, first: Speech) {
        self.typed.clear();
        let question = match self.state {
            State::Extension => Prompt::EnterExtension,
            State::Pin => Prompt::EnterPin,
            State::Main => Prompt::MainMenu,
            State::Playing | State::Message => Prompt::MessageMenu,
            State::Options => Prompt::OptionsMenu,
            _ => return desk.say(first),
        };
        desk.say(first.prompt(question));
    }

    fn on_key(&mut self, desk: &mut Desk<'_>, key: char) {
        match self.state {
            State::Extension | State::Pin => self.on_typed(desk, key),
            State::Main => self.choose(desk, menu::MAIN, key),
            State::Playing | State::Message => self.choose(desk, menu::MESSAGE, key),
            State::Options => self.choose(desk, menu::OPTIONS, key),
            State::RecordingGreeting if key == DONE => desk.want(Deed::Take),
            State::AskingGreeting | State::RecordingGreeting | State::Transferring | State::Leaving(_) => {}
        }
    }

    fn on_typed(&mut self, desk: &mut Desk<'_>, key: char) {
        desk.hush();
        desk.wait(KEY_WAIT);
        match key {
            DONE => self.on_number(desk),
            CLEAR => self.typed.clear(),
            digit if digit.is_ascii_digit() && self.typed.len() < TYPED_MAX => self.typed.push(digit),
            _ => {}
        }
    }

    /// A whole extension or PIN.
    fn on_number(&mut self, desk: &mut Desk<'_>) {
        let typed = std::mem::take(&mut self.typed);
        if typed.is_empty() {
            return self.on_nothing(desk);
        }
        if self.state == State::Pin {
            return self.on_pin(desk, &typed);
        }
        // Whether there is such a mailbox is told to nobody who has no PIN for it.
        self.mailbox = Some(desk.directory.find(&typed).map_or(typed, |mailbox| mailbox.alias.clone()));
        self.state = State::Pin;
        self.ask(desk, Speech::new());
    }

    fn on_pin(&mut self, desk: &mut Desk<'_>, typed: &str) {
        let mailbox = self.alias().to_owned();
        let random = &mut *desk.random;
        match desk.directory.log_on(&mailbox, typed, |digits| Desk::fresh_pin(random, digits)) {
            Logon::Welcome => {
                desk.tell(Milestone::LoggedOn { mailbox });
                self.welcome(desk);
            }
            Logon::Locked => {
                desk.tell(Milestone::LockedOut { mailbox });
                self.leave(desk, Prompt::Locked, EndReason::TooManyFailures);
            }
            Logon::Reset { failures, pin } => {
                desk.tell(Milestone::LogonFailed { mailbox: mailbox.clone(), failures });
                desk.tell(Milestone::PinReset { mailbox: mailbox.clone() });
                desk.deeds.push(Deed::Report(UmReport::PinReset(PinLetter {
                    mailbox,
                    server: desk.server.to_owned(),
                    pin,
                })));
                self.on_wrong_pin(desk);
            }
            Logon::Wrong { failures } => {
                desk.tell(Milestone::LogonFailed { mailbox, failures });
                self.on_wrong_pin(desk);
            }
        }
    }

    fn on_wrong_pin(&mut self, desk: &mut Desk<'_>) {
        self.wrong_pins += 1;
        if self.wrong_pins >= desk.rules.logon_failures_before_disconnect {
            return self.leave(desk, Prompt::NotRight, EndReason::TooManyFailures);
        }
        self.ask(desk, Speech::new().prompt(Prompt::NotRight));
    }

    fn welcome(&mut self, desk: &mut Desk<'_>) {
        let new = desk.directory.waiting(self.alias()).map_or(0, |waiting| waiting.new);
        let new = u32::try_from(new).unwrap_or(u32::MAX);
        let noun = if new == 1 { Prompt::NewMessage } else { Prompt::NewMessages };
        self.main(desk, Speech::new().prompt(Prompt::YouHave).number(new).prompt(noun));
    }

    fn main(&mut self, desk: &mut Desk<'_>, first: Speech) {
        self.state = State::Main;
        self.ask(desk, first);
    }

    fn choose(&mut self, desk: &mut Desk<'_>, menu: &[Choice], key: char) {
        match menu::action(menu, key) {
            Some(action) => {
                self.wrong_keys = 0;
                self.act(desk, action);
            }
            None => self.on_mistake(desk, Speech::new().prompt(Prompt::NotAChoice)),
        }
    }

    fn act(&mut self, desk: &mut Desk<'_>, action: Action) {
        match action {
            Action::Messages => {
                self.messages = desk.directory.listing(self.alias());
                self.at = 0;
                self.play(desk, Speech::new());
            }
            Action::Again => self.play(desk, Speech::new()),
            Action::Next => {
                self.at += 1;
                self.play(desk, Speech::new());
            }
            Action::Delete => self.delete(desk),
            Action::Details => self.details(desk),
            Action::CallBack => match self.message(desk) {
                Some(message) => self.transfer(desk, &message.caller),
                None => self.main(desk, Speech::new().prompt(Prompt::NoMore)),
            },
            Action::Operator => match desk.rules.operator.clone() {
                Some(operator) => self.transfer(desk, &operator),
                None => self.on_mistake(desk, Speech::new().prompt(Prompt::NotAChoice)),
            },
            Action::Options => {
                self.state = State::Options;
                self.ask(desk, Speech::new());
            }
            Action::RecordGreeting => {
                self.state = State::AskingGreeting;
                desk.say(Speech::new().prompt(Prompt::RecordGreeting).beep());
            }
            Action::PlayGreeting => {
                let own = desk.directory.greeting(self.alias());
                let none = Speech::new().prompt(Prompt::NoGreeting);
                self.ask(desk, own.map_or(none, |samples| Speech::new().recording(&samples)));
            }
            Action::Main => self.main(desk, Speech::new()),
            Action::Leave => self.leave(desk, Prompt::Goodbye, EndReason::Finished),
        }
    }

    fn message(&self, desk: &Desk<'_>) -> Option<HeldMessage> {
        desk.directory.message(self.alias(), self.messages.get(self.at)?)
    }

    fn play(&mut self, desk: &mut Desk<'_>, first: Speech) {
        let Some(message) = self.message(desk) else {
            return self.main(desk, first.prompt(Prompt::NoMore));
        };
        self.state = State::Playing;
        desk.say(first.prompt(Prompt::MessageFrom).then(name_of(&message)).recording(&message.samples()));
        let mailbox = self.alias().to_owned();
        if let Some(waiting) = desk.directory.heard(&mailbox, &message.call_id) {
            let call_id = message.call_id.clone();
            desk.deeds.push(Deed::Report(UmReport::Heard { mailbox: mailbox.clone(), call_id }));
            desk.deeds.push(Deed::Report(UmReport::Waiting(waiting)));
        }
        desk.tell(Milestone::Played { mailbox, message: message.call_id });
    }

    fn delete(&mut self, desk: &mut Desk<'_>) {
        let mailbox = self.alias().to_owned();
        if self.at < self.messages.len() {
            let call_id = self.messages.remove(self.at);
            desk.directory.delete(&mailbox, &call_id);
            desk.deeds.push(Deed::Report(UmReport::Delete { mailbox: mailbox.clone(), call_id }));
            desk.deeds.extend(desk.directory.waiting(&mailbox).map(|w| Deed::Report(UmReport::Waiting(w))));
        }
        self.play(desk, Speech::new().prompt(Prompt::Deleted));
    }

    fn details(&mut self, desk: &mut Desk<'_>) {
        let Some(message) = self.message(desk) else {
            return self.main(desk, Speech::new().prompt(Prompt::NoMore));
        };
        let days = (desk.utc.date() - message.received.date()).whole_days();
        let day = match u32::try_from(days).unwrap_or(0) {
            0 => Speech::new().prompt(Prompt::Today),
            1 => Speech::new().prompt(Prompt::Yesterday),
            days => Speech::new().number(days).prompt(Prompt::DaysAgo),
        };
        let (hour, minute) = (u32::from(message.received.hour()), u32::from(message.received.minute()));
        let said = Speech::new().prompt(Prompt::MessageFrom).then(name_of(&message)).prompt(Prompt::Received);
        self.state = State::Message;
        self.ask(desk, said.then(day).prompt(Prompt::At).number(hour).number(minute));
    }

    fn transfer(&mut self, desk: &mut Desk<'_>, dialled: &str) {
        self.state = State::Transferring;
        desk.say(Speech::new().prompt(Prompt::OneMoment));
        desk.transfer(dialled);
    }

    fn on_greeting(&mut self, desk: &mut Desk<'_>, samples: Vec<i16>) {
        let mailbox = self.alias().to_owned();
        desk.directory.set_greeting(&mailbox, samples);
        desk.tell(Milestone::GreetingRecorded { mailbox });
        self.state = State::Options;
        self.ask(desk, Speech::new().prompt(Prompt::Saved));
    }

    fn on_said(&mut self, desk: &mut Desk<'_>) {
        match self.state {
            State::Extension | State::Pin | State::Main | State::Message | State::Options => {
                desk.wait(INPUT_WAIT);
            }
            State::Playing => {
                self.state = State::Message;
                self.ask(desk, Speech::new());
            }
            State::AskingGreeting => {
                self.state = State::RecordingGreeting;
                let policy = desk.directory.mailbox(self.alias()).map(|mailbox| mailbox.policy.clone());
                let longest = policy.unwrap_or_default().max_greeting_duration;
                let idle = Some(desk.rules.recording_idle_timeout);
                desk.want(Deed::Record(RecordLimits { idle, longest }));
            }
            State::Leaving(why) => desk.want(Deed::HangUp(why)),
            State::RecordingGreeting | State::Transferring => {}
        }
    }

    /// No key came, or no further one.
    fn on_due(&mut self, desk: &mut Desk<'_>) {
        match self.typed.is_empty() {
            true => self.on_nothing(desk),
            false => self.on_number(desk),
        }
    }

    fn on_nothing(&mut self, desk: &mut Desk<'_>) {
        self.on_mistake(desk, Speech::new());
    }

    fn on_mistake(&mut self, desk: &mut Desk<'_>, words: Speech) {
        self.wrong_keys += 1;
        if self.wrong_keys >= desk.rules.input_failures_before_disconnect {
            return self.leave(desk, Prompt::Goodbye, EndReason::TooManyFailures);
        }
        self.ask(desk, words);
    }

    fn leave(&mut self, desk: &mut Desk<'_>, prompt: Prompt, why: EndReason) {
        self.state = State::Leaving(why);
        desk.say(Speech::new().prompt(prompt));
    }
}

/// Who left a message: the number's digits, where it is one.
fn name_of(message: &HeldMessage) -> Speech {
    let rest = message.caller.split_once(':').map_or(message.caller.as_str(), |(_, rest)| rest);
    let user = rest.split(['@', ';']).next().unwrap_or_default();
    let number = user.strip_prefix('+').unwrap_or(user);
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    if is_number { Speech::new().digits(number) } else { Speech::new().prompt(Prompt::UnknownCaller) }
}

#[cfg(test)]
#[path = "ova_tests.rs"]
mod tests;
