//! The menus of Outlook Voice Access in this lab: key → action, as data. They are ours; Exchange's own key map is another.

/// What a key does.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// To the messages.
    Messages,
    /// To the personal options.
    Options,
    /// To the operator, by REFER.
    Operator,
    /// Ends the call.
    Leave,
    /// Back to the main menu.
    Main,
    /// Plays the message again.
    Again,
    /// Plays the next one.
    Next,
    /// Deletes it and plays the next one.
    Delete,
    /// Says who left it and when.
    Details,
    /// Calls whoever left it, by REFER.
    CallBack,
    /// Records a greeting.
    RecordGreeting,
    /// Plays the greeting.
    PlayGreeting,
}

/// One line of a menu.
#[derive(Copy, Clone, Debug)]
pub struct Choice {
    /// The key.
    pub key: char,
    /// What it does.
    pub action: Action,
    /// The same in words, as the documentation has it.
    pub words: &'static str,
}

const fn choice(key: char, action: Action, words: &'static str) -> Choice {
    Choice { key, action, words }
}

/// After the PIN.
pub const MAIN: &[Choice] = &[
    choice('1', Action::Messages, "messages, new ones first"),
    choice('2', Action::Options, "personal options"),
    choice('0', Action::Operator, "operator (REFER)"),
    choice('*', Action::Leave, "leave"),
];

/// With a message.
pub const MESSAGE: &[Choice] = &[
    choice('1', Action::Again, "play it again"),
    choice('2', Action::Next, "next message"),
    choice('3', Action::Delete, "delete it, play the next"),
    choice('4', Action::Details, "who left it and when"),
    choice('5', Action::CallBack, "call whoever left it (REFER)"),
    choice('0', Action::Operator, "operator (REFER)"),
    choice('*', Action::Main, "main menu"),
];

/// Personal options.
pub const OPTIONS: &[Choice] = &[
    choice('1', Action::RecordGreeting, "record a greeting, ended by `#`"),
    choice('2', Action::PlayGreeting, "hear it"),
    choice('*', Action::Main, "main menu"),
];

/// The action behind a key.
pub(super) fn action(menu: &[Choice], key: char) -> Option<Action> {
    menu.iter().find(|choice| choice.key == key).map(|choice| choice.action)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_one_meaning_and_stands_in_the_readme() {
        let readme = include_str!("../../../../README.md");
        for (name, menu) in [("main menu", MAIN), ("message", MESSAGE), ("personal options", OPTIONS)] {
            for (n, choice) in menu.iter().enumerate() {
                assert!(menu[..n].iter().all(|other| other.key != choice.key), "{name} {}", choice.key);
                let line = format!("| {name} | `{}` | {} |", choice.key, choice.words);
                assert!(readme.contains(&line), "missing in the README: {line}");
            }
        }
    }
}
