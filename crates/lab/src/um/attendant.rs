//! An auto attendant: announcement, keys, extensions, operator. Owns where a caller is in it; the time of day is given.

use super::EndReason;
use super::config::{AnswerRules, KeyMapping, KeyTarget};
use super::directory::Attendant;
use super::talk::{Cue, Deed, Desk, INPUT_WAIT, KEY_WAIT};
use crate::audio::{Prompt, Speech};

const OPERATOR: &str = "0";

/// A caller at an attendant.
#[derive(Debug)]
pub(super) struct Attendance {
    attendant: Attendant,
    state: State,
    typed: String,
    mistakes: u32,
}

#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum State {
    Menu,
    Transferring,
    Leaving,
}

impl Attendance {
    pub(super) fn new(attendant: Attendant) -> Self {
        Attendance { attendant, state: State::Menu, typed: String::new(), mistakes: 0 }
    }

    pub(super) fn handle(&mut self, cue: Cue, desk: &mut Desk<'_>) {
        match (cue, self.state) {
            (Cue::Begun, _) => self.welcome(desk),
            (Cue::Key(key), State::Menu) => self.on_key(desk, key),
            (Cue::Said, State::Menu) => desk.wait(INPUT_WAIT),
            (Cue::Due, State::Menu) => self.on_due(desk),
            (Cue::TransferFailed, State::Transferring) => {
                self.state = State::Menu;
                self.on_mistake(desk, Prompt::NoAnswer);
            }
            (Cue::Said, State::Leaving) => desk.want(Deed::HangUp(EndReason::TooManyFailures)),
            _ => {}
        }
    }

    fn welcome(&mut self, desk: &mut Desk<'_>) {
        let first = Speech::new().prompt(Prompt::Welcome).recording(&self.attendant.announcement);
        let first = if self.is_open(desk) { first } else { first.prompt(Prompt::Closed) };
        let menu = self.menu(desk);
        desk.say(first.then(menu));
    }

    fn is_open(&self, desk: &Desk<'_>) -> bool {
        let hours = &self.attendant.config.hours;
        hours.is_empty() || hours.iter().any(|stretch| stretch.contains(desk.utc))
    }

    fn keys(&self, desk: &Desk<'_>) -> &[KeyMapping] {
        let config = &self.attendant.config;
        if self.is_open(desk) { &config.business_keys } else { &config.after_hours_keys }
    }

    fn operator<'a>(&'a self, rules: &'a AnswerRules) -> Option<&'a str> {
        self.attendant.config.operator.as_deref().or(rules.operator.as_deref())
    }

    fn menu(&self, desk: &Desk<'_>) -> Speech {
        let mut menu = self.keys(desk).iter().fold(Speech::new(), |said, mapping| {
            let what = match &mapping.to {
                KeyTarget::Transfer(to) => said.prompt(Prompt::ForExtension).digits(user_of(to)),
                KeyTarget::Voicemail(_) => said.prompt(Prompt::ToLeaveAMessage),
            };
            what.prompt(Prompt::Press).digits(&mapping.key.to_string())
        });
        if self.operator(desk.rules).is_some() {
            menu = menu.prompt(Prompt::OperatorZero);
        }
        menu.prompt(Prompt::DialExtension)
    }

    /// A key may be one of the menu or the first of an extension; a pause tells.
    fn on_key(&mut self, desk: &mut Desk<'_>, key: char) {
        desk.hush();
        if !key.is_ascii_digit() {
            self.typed.clear();
            return self.on_mistake(desk, Prompt::NotAChoice);
        }
        self.typed.push(key);
        if self.typed.len() < desk.rules.extension_digits {
            return desk.wait(KEY_WAIT);
        }
        let extension = std::mem::take(&mut self.typed);
        match desk.directory.find(&extension) {
            Some(_) => self.transfer(desk, &extension),
            None => self.on_mistake(desk, Prompt::NotAChoice),
        }
    }

    fn on_due(&mut self, desk: &mut Desk<'_>) {
        let typed = std::mem::take(&mut self.typed);
        if typed.is_empty() {
            let menu = self.menu(desk);
            return self.on_mistake_with(desk, menu);
        }
        if typed == OPERATOR {
            return match self.operator(desk.rules).map(str::to_owned) {
                Some(operator) => self.transfer(desk, &operator),
                None => self.on_mistake(desk, Prompt::NotAChoice),
            };
        }
        let mapping = self.keys(desk).iter().find(|mapping| typed == mapping.key.to_string());
        match mapping.map(|mapping| mapping.to.clone()) {
            Some(KeyTarget::Transfer(to)) => self.transfer(desk, &to),
            Some(KeyTarget::Voicemail(alias)) => desk.want(Deed::LeaveMessage(alias)),
            None => self.on_mistake(desk, Prompt::NotAChoice),
        }
    }

    fn transfer(&mut self, desk: &mut Desk<'_>, dialled: &str) {
        self.state = State::Transferring;
        desk.say(Speech::new().prompt(Prompt::OneMoment));
        desk.transfer(dialled);
    }

    fn on_mistake(&mut self, desk: &mut Desk<'_>, prompt: Prompt) {
        let menu = self.menu(desk);
        self.on_mistake_with(desk, Speech::new().prompt(prompt).then(menu));
    }

    fn on_mistake_with(&mut self, desk: &mut Desk<'_>, words: Speech) {
        self.mistakes += 1;
        if self.mistakes >= desk.rules.input_failures_before_disconnect {
            self.state = State::Leaving;
            return desk.say(Speech::new().prompt(Prompt::Goodbye));
        }
        desk.say(words);
    }
}

/// What of an address is said: its user part.
fn user_of(address: &str) -> &str {
    let rest = address.split_once(':').map_or(address, |(_, rest)| rest);
    rest.split(['@', ';']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::config::{AttendantConfig, BusinessHours, MailboxConfig};
    use super::super::directory::Directory;
    use super::super::talk::Application;
    use super::super::talk::tests::{Talk, ends, said, speaks_of, transfers};
    use super::*;
    use time::Weekday;
    use time::macros::{datetime, time};

    fn key(key: char, to: KeyTarget) -> KeyMapping {
        KeyMapping { key, to }
    }

    fn talk() -> Talk {
        let config = AttendantConfig {
            name: "AA-Main".to_owned(),
            business_keys: vec![
                key('1', KeyTarget::Transfer("1001".to_owned())),
                key('2', KeyTarget::Voicemail("ken".to_owned())),
            ],
            after_hours_keys: vec![key('1', KeyTarget::Voicemail("ken".to_owned()))],
            hours: vec![BusinessHours { days: vec![Weekday::Monday], from: time!(9:00), to: time!(17:00) }],
            operator: Some("+14255550100".to_owned()),
            ..AttendantConfig::default()
        };
        let ken = MailboxConfig {
            alias: "ken".to_owned(),
            extension: Some("1001".to_owned()),
            ..MailboxConfig::default()
        };
        let attendant = Attendant { config, announcement: vec![5_000; 100] };
        let application = Application::Attendance(Box::new(Attendance::new(attendant)));
        Talk::new(application, Directory::of(vec![ken]).unwrap())
    }

    fn leaves_message(deeds: &[Deed]) -> bool {
        deeds.iter().any(|deed| matches!(deed, Deed::LeaveMessage(alias) if alias == "ken"))
    }

    #[test]
    fn it_announces_and_says_what_each_key_does_by_the_time_of_day() {
        let mut talk = talk();
        let open = talk.cue(Cue::Begun);
        assert!(speaks_of(&open, Speech::new().prompt(Prompt::Welcome).recording(&[5_000; 100])));
        let first =
            Speech::new().prompt(Prompt::ForExtension).digits("1001").prompt(Prompt::Press).digits("1");
        assert!(speaks_of(&open, first));
        assert!(!speaks_of(&open, Speech::new().prompt(Prompt::Closed)));
        talk.utc = datetime!(2026-11-23 17:00 UTC);
        let closed = talk.cue(Cue::Begun);
        assert!(speaks_of(&closed, Speech::new().prompt(Prompt::Closed).prompt(Prompt::ToLeaveAMessage)));
    }

    #[test]
    fn a_key_and_a_pause_lead_where_its_mapping_says_at_this_time_of_day() {
        let mut open = talk();
        open.keys("1");
        assert_eq!(transfers(&open.wait()), Some("sip:ken@contoso.test"));
        let mut memo = talk();
        memo.keys("2");
        assert!(leaves_message(&memo.wait()));
        let mut closed = talk();
        closed.utc = datetime!(2026-11-22 12:00 UTC);
        closed.keys("1");
        assert!(leaves_message(&closed.wait()));
    }

    #[test]
    fn zero_is_the_operator_and_four_digits_are_an_extension() {
        let mut operator = talk();
        operator.keys("0");
        assert_eq!(transfers(&operator.wait()), Some("sip:+14255550100@contoso.test;user=phone"));
        assert_eq!(transfers(&talk().keys("1001")), Some("sip:ken@contoso.test"));
        let unknown = talk().keys("4711");
        assert!(speaks_of(&unknown, Speech::new().prompt(Prompt::NotAChoice)));
        assert_eq!(transfers(&unknown), None);
    }

    #[test]
    fn a_transfer_that_fails_comes_back_to_the_menu() {
        let mut talk = talk();
        talk.keys("1001");
        assert!(talk.keys("2").is_empty(), "keys do nothing meanwhile");
        let back = talk.cue(Cue::TransferFailed);
        assert!(speaks_of(&back, Speech::new().prompt(Prompt::NoAnswer).prompt(Prompt::ForExtension)));
        assert_eq!(transfers(&talk.keys("1001")), Some("sip:ken@contoso.test"), "and may be tried again");
    }

    #[test]
    fn silence_and_wrong_keys_end_it_after_three() {
        let mut talk = talk();
        talk.cue(Cue::Begun);
        talk.cue(Cue::Said);
        assert!(said(&talk.wait()).is_some(), "the menu again");
        talk.keys("#");
        talk.keys("7");
        assert!(speaks_of(&talk.wait(), Speech::new().prompt(Prompt::Goodbye)));
        assert_eq!(ends(&talk.cue(Cue::Said)), Some(EndReason::TooManyFailures));
    }
}
