//! Text that PowerShell reads as data and nothing else: single-quoted strings, comments of one line, parameters.

use crate::cli::escaped;

/// What a parameter is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    Text(String),
    Number(u64),
    Flag(bool),
    List(Vec<String>),
}

/// A script under way.
#[derive(Default)]
pub(super) struct Script {
    out: String,
}

impl Script {
    /// A comment, on as many lines as it has.
    pub fn comment(&mut self, text: &str) {
        for line in text.lines() {
            self.out.push_str(format!("# {}", escaped(line)).trim_end());
            self.out.push('\n');
        }
    }

    pub fn blank(&mut self) {
        self.out.push('\n');
    }

    /// A cmdlet with a comment that says what it changes.
    pub fn command(&mut self, what: &str, cmdlet: &str, parameters: &[(&str, Argument)]) {
        self.comment(what);
        self.out.push_str(cmdlet);
        for (name, argument) in parameters {
            self.out.push_str(&parameter(name, argument));
        }
        self.out.push('\n');
    }

    pub fn finish(self) -> String {
        self.out
    }
}

fn parameter(name: &str, argument: &Argument) -> String {
    match argument {
        Argument::Text(text) => format!(" -{name} {}", quoted(text)),
        Argument::Number(number) => format!(" -{name} {number}"),
        // A colon ties the value to a switch too.
        Argument::Flag(flag) => format!(" -{name}:${flag}"),
        Argument::List(list) if list.is_empty() => format!(" -{name} @()"),
        Argument::List(list) => {
            let items: Vec<String> = list.iter().map(|text| quoted(text)).collect();
            format!(" -{name} {}", items.join(","))
        }
    }
}

/// A string in single quotes: nothing in it is expanded. PowerShell takes typographic single quotes for quotes, so these are
/// doubled as well; control and direction characters are written by number, so that what is seen is what is run.
pub(super) fn quoted(text: &str) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut plain = String::new();
    for c in text.chars() {
        if is_hidden(c) {
            parts.push(format!("'{plain}'"));
            plain.clear();
            parts.push(number(c));
            continue;
        }
        if matches!(c, '\'' | '\u{2018}'..='\u{201b}') {
            plain.push(c);
        }
        plain.push(c);
    }
    if parts.is_empty() {
        return format!("'{plain}'");
    }
    parts.push(format!("'{plain}'"));
    format!("({})", parts.join(" + "))
}

fn is_hidden(c: char) -> bool {
    escaped(c.encode_utf8(&mut [0; 4])).starts_with("\\u{")
}

fn number(c: char) -> String {
    match u32::from(c) {
        code @ ..=0xffff => format!("[char]{code}"),
        code => format!("[char]::ConvertFromUtf32({code})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_string_is_expanded_or_ends_it() {
        for (text, expected) in [
            ("DP-Sip", "'DP-Sip'"),
            ("O'Brien", "'O''Brien'"),
            ("$(Remove-Item C:\\)", "'$(Remove-Item C:\\)'"),
            ("a`n\"b\"", "'a`n\"b\"'"),
            ("x\u{2019}; Stop-Service MSExchangeUM #", "'x\u{2019}\u{2019}; Stop-Service MSExchangeUM #'"),
            ("\u{2018}\u{201a}\u{201b}", "'\u{2018}\u{2018}\u{201a}\u{201a}\u{201b}\u{201b}'"),
            ("a\nb", "('a' + [char]10 + 'b')"),
            ("\u{202e}x", "('' + [char]8238 + 'x')"),
            ("", "''"),
        ] {
            assert_eq!(quoted(text), expected, "{text}");
        }
    }

    #[test]
    fn a_comment_stays_a_comment() {
        let mut script = Script::default();
        script.comment("one\nRemove-Item\r# \u{1b}[2J");
        assert!(script.finish().lines().all(|line| line.starts_with("# ") && !line.contains('\u{1b}')));
    }
}
