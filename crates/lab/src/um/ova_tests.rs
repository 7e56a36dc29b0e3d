use time::macros::datetime;

use super::super::config::{MailboxConfig, Pin};
use super::super::directory::Directory;
use super::super::talk::Application;
use super::super::talk::tests::{Talk, ends, milestones, said, speaks_of, transfers};
use super::*;
use crate::audio::tone;

const PIN: &str = "135790";

fn directory() -> Directory {
    let ken = MailboxConfig {
        alias: "ken".to_owned(),
        extension: Some("1001".to_owned()),
        pin: Pin::new(PIN),
        ..MailboxConfig::default()
    };
    Directory::of(vec![ken]).unwrap()
}

fn message(call_id: &str, caller: &str, hz: f64) -> HeldMessage {
    let received = datetime!(2026-11-22 14:05 UTC);
    HeldMessage::new(caller.to_owned(), call_id.to_owned(), received, &tone(hz, -15.0, 1_600))
}

fn talk(mailbox: Option<&str>) -> Talk {
    let ova = Ova::new(mailbox.map(str::to_owned));
    let mut talk = Talk::new(Application::Ova(ova), directory());
    let _ = talk.cue(Cue::Begun);
    let _ = talk.cue(Cue::Said);
    talk
}

fn inside() -> Talk {
    let talk = talk(Some("ken"));
    for (call_id, caller) in [("one", "sip:+14255550101@contoso.test"), ("two", "sip:dana@contoso.test")] {
        talk.directory.deposit("ken", message(call_id, caller, 500.0)).unwrap();
    }
    let mut talk = talk;
    let deeds = talk.keys(&format!("{PIN}#"));
    assert_eq!(milestones(&deeds), [&Milestone::LoggedOn { mailbox: "ken".to_owned() }]);
    assert!(speaks_of(&deeds, Speech::new().prompt(Prompt::YouHave).number(2).prompt(Prompt::NewMessages)));
    talk
}

fn prompt(prompt: Prompt) -> Speech {
    Speech::new().prompt(prompt)
}

fn reports(deeds: Vec<Deed>) -> Vec<String> {
    let of = |deed| if let Deed::Report(report) = deed { Some(format!("{report:?}")) } else { None };
    deeds.into_iter().filter_map(of).collect()
}

#[test]
fn the_owner_is_asked_for_the_pin_and_others_for_their_extension_first() {
    let mut own = Talk::new(Application::Ova(Ova::new(Some("ken".to_owned()))), directory());
    assert!(speaks_of(&own.cue(Cue::Begun), prompt(Prompt::EnterPin)));
    let mut other = Talk::new(Application::Ova(Ova::new(None)), directory());
    assert!(speaks_of(&other.cue(Cue::Begun), prompt(Prompt::EnterExtension)));
    assert!(speaks_of(&other.keys("1001#"), prompt(Prompt::EnterPin)));
    assert!(!milestones(&other.keys("135790#")).is_empty());
}

#[test]
fn three_wrong_pins_end_the_call_and_an_unknown_mailbox_sounds_like_a_known_one() {
    for extension in ["1001", "4711"] {
        let mut talk = talk(None);
        talk.keys(&format!("{extension}#"));
        for _ in 0..2 {
            let deeds = talk.keys("000000#");
            assert!(matches!(milestones(&deeds)[..], [Milestone::LogonFailed { .. }]));
            assert!(speaks_of(&deeds, prompt(Prompt::NotRight).prompt(Prompt::EnterPin)));
        }
        assert_eq!(ends(&talk.keys("000000#")), None, "it says so first");
        assert_eq!(ends(&talk.cue(Cue::Said)), Some(EndReason::TooManyFailures));
    }
}

#[test]
fn the_fifth_wrong_pin_makes_a_new_one_that_is_reported_and_prints_nowhere() {
    let directory = directory();
    let mut told = Vec::new();
    for _ in 0..2 {
        let mut talk = Talk::new(Application::Ova(Ova::new(Some("ken".to_owned()))), directory.clone());
        for _ in 0..3 {
            told.extend(reports(talk.keys("999999#")));
        }
    }
    assert_eq!(
        told,
        ["PinReset(PinLetter { mailbox: \"ken\", server: \"mbx01.contoso.test\", pin: Pin(redacted) })"]
    );
    let mut talk = Talk::new(Application::Ova(Ova::new(Some("ken".to_owned()))), directory);
    assert!(speaks_of(&talk.keys("135790#"), prompt(Prompt::NotRight)), "the old one is no more");
}

#[test]
fn a_locked_mailbox_says_so_even_to_the_right_pin() {
    let mut talk = talk(Some("ken"));
    for _ in 0..14 {
        let _ = talk.directory.log_on("ken", "0", |_| Pin::new("000000").unwrap());
    }
    let deeds = talk.keys("999999#");
    assert_eq!(milestones(&deeds), [&Milestone::LockedOut { mailbox: "ken".to_owned() }]);
    assert!(speaks_of(&deeds, prompt(Prompt::Locked)));
    assert_eq!(ends(&talk.cue(Cue::Said)), Some(EndReason::TooManyFailures));
}

#[test]
fn star_takes_back_what_was_typed_and_a_pause_ends_it() {
    let mut talk = talk(Some("ken"));
    talk.keys("99*135790");
    assert!(matches!(milestones(&talk.wait())[..], [Milestone::LoggedOn { .. }]));
}

#[test]
fn messages_are_played_in_order_and_count_as_heard() {
    let mut talk = inside();
    let deeds = talk.keys("1");
    assert!(speaks_of(&deeds, prompt(Prompt::MessageFrom).digits("14255550101")));
    let message = talk.directory.message("ken", "one").unwrap().samples();
    assert!(said(&deeds).unwrap().ends_with(&message));
    assert_eq!(talk.directory.waiting("ken").map(|w| (w.new, w.old)), Some((1, 1)));
    assert!(speaks_of(&talk.cue(Cue::Said), prompt(Prompt::MessageMenu)));
    assert!(speaks_of(&talk.keys("2"), prompt(Prompt::MessageFrom).prompt(Prompt::UnknownCaller)));
    let again = talk.keys("1");
    assert!(matches!(milestones(&again)[..], [Milestone::Played { message, .. }] if message == "two"));
    assert!(reports(again).is_empty(), "heard before: nothing changed");
    assert!(speaks_of(&talk.keys("2"), prompt(Prompt::NoMore).prompt(Prompt::MainMenu)));
}

#[test]
fn deleting_goes_on_to_the_next_and_tells_what_waits() {
    let mut talk = inside();
    talk.keys("1");
    let deeds = talk.keys("3");
    assert!(speaks_of(&deeds, prompt(Prompt::Deleted).prompt(Prompt::MessageFrom)));
    let told = reports(deeds);
    assert!(told[0].contains("Delete") && told[0].contains("one"), "{told:?}");
    assert!(told[1].contains("new: 1, old: 0") && told[3].contains("new: 0, old: 1"), "{told:?}");
    assert!(told[2].contains("Heard") && told[2].contains("two"), "{told:?}");
    assert!(speaks_of(&talk.keys("3"), prompt(Prompt::Deleted).prompt(Prompt::NoMore)));
    assert!(talk.directory.listing("ken").is_empty());
}

#[test]
fn details_say_who_and_when() {
    let mut talk = inside();
    talk.keys("1");
    let when = prompt(Prompt::Received).prompt(Prompt::Yesterday).prompt(Prompt::At).number(14).number(5);
    assert!(speaks_of(&talk.keys("4"), when));
    talk.utc = datetime!(2026-12-12 09:00 UTC);
    assert!(speaks_of(&talk.keys("4"), prompt(Prompt::Received).number(20).prompt(Prompt::DaysAgo)));
}

#[test]
fn the_sender_and_the_operator_are_called_by_transfer_and_a_failure_comes_back() {
    let mut talk = inside();
    talk.keys("1");
    assert_eq!(transfers(&talk.keys("5")), Some("sip:+14255550101@contoso.test"));
    assert!(talk.keys("3").is_empty(), "keys do nothing meanwhile");
    assert!(speaks_of(&talk.cue(Cue::TransferFailed), prompt(Prompt::NoAnswer).prompt(Prompt::MainMenu)));
    assert!(speaks_of(&talk.keys("0"), prompt(Prompt::NotAChoice)), "nobody is operator");
    talk.rules.operator = Some("1001".to_owned());
    assert_eq!(transfers(&talk.keys("0")), Some("sip:ken@contoso.test"));
}

#[test]
fn a_greeting_is_recorded_within_its_limit_and_played() {
    let mut talk = inside();
    assert!(speaks_of(&talk.keys("22"), prompt(Prompt::NoGreeting)));
    talk.keys("1");
    let recording = talk.cue(Cue::Said);
    let longest = talk.directory.mailbox("ken").unwrap().policy.max_greeting_duration;
    assert!(matches!(recording[..], [Deed::Record(limits)] if limits.longest == longest));
    assert!(matches!(talk.keys("#")[..], [Deed::Take]));
    let own = tone(700.0, -20.0, 1_600);
    let deeds = talk.cue(Cue::Taken(own.clone()));
    assert!(matches!(milestones(&deeds)[..], [Milestone::GreetingRecorded { .. }]));
    assert!(said(&talk.keys("2")).unwrap().starts_with(&own));
}

#[test]
fn who_presses_nothing_or_nonsense_three_times_is_sent_away_and_star_leaves() {
    let mut talk = inside();
    talk.cue(Cue::Said);
    assert!(speaks_of(&talk.wait(), prompt(Prompt::MainMenu)));
    assert!(!talk.is_waiting(), "while it speaks no time runs");
    assert!(speaks_of(&talk.keys("9"), prompt(Prompt::NotAChoice)));
    assert!(speaks_of(&talk.keys("8"), prompt(Prompt::Goodbye)));
    assert_eq!(ends(&talk.cue(Cue::Said)), Some(EndReason::TooManyFailures));
    let mut talk = inside();
    talk.keys("*");
    assert_eq!(ends(&talk.cue(Cue::Said)), Some(EndReason::Finished));
}
