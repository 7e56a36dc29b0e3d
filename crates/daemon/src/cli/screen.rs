//! Where words go: data to stdout, story to stderr, colours when wanted, and nothing that a peer or a file wrote can
//! steer the terminal. Refuses to know what is said.

use std::io::{IsTerminal, Write};

use clap::{ArgMatches, Args, FromArgMatches, ValueEnum};
use serde::Serialize;

/// What every command takes.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Global {
    /// Shape of the data on stdout
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "table|json|junit",
        hide_possible_values = true
    )]
    output: Format,
    /// Log more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Log warnings and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Colours; `auto` obeys NO_COLOR
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "auto|always|never",
        hide_possible_values = true
    )]
    color: ColorChoice,
}

/// Shape of data on stdout.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document; of a command that goes on and on, one in each line.
    #[value(alias = "jsonl")]
    Json,
    /// JUnit XML; `umbra doctor` only.
    Junit,
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Also into files and pipes.
    Always,
    /// Not at all.
    Never,
}

/// How much is logged, as the words asked for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Volume {
    /// `-q`
    Quiet,
    /// As configured.
    Configured,
    /// `-v`
    Verbose,
    /// `-vv`
    Everything,
}

/// The terminal of one command.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Form of the data.
    pub form: Format,
    /// Style of stdout.
    pub data: Style,
    /// Style of stderr.
    pub story: Style,
    /// How much is logged.
    pub volume: Volume,
    /// When colours are wanted, for those who write to the terminal themselves.
    pub colour: ColorChoice,
}

impl Screen {
    /// The screen that the global options ask for.
    pub fn of(global: &Global) -> Self {
        Self {
            form: global.output,
            data: Style::of(global.color, std::io::stdout().is_terminal()),
            story: Style::of(global.color, std::io::stderr().is_terminal()),
            volume: match (global.quiet, global.verbose) {
                (true, _) => Volume::Quiet,
                (false, 0) => Volume::Configured,
                (false, 1) => Volume::Verbose,
                (false, _) => Volume::Everything,
            },
            colour: global.color,
        }
    }

    /// The screen that the words of a command ask for.
    pub fn from_matches(matches: &ArgMatches) -> Self {
        // A command outside the tree of `umbra` has none of the global words: the defaults are right for it.
        Self::of(&Global::from_arg_matches(matches).unwrap_or_default())
    }

    /// Writes data. A reader that went away (`| head`) is no fault.
    pub fn data(&self, text: &str) {
        let _gone = write_to(std::io::stdout().lock(), text);
    }

    /// Writes data as one JSON value.
    pub fn json(&self, value: &impl Serialize) {
        // The values are our own plain structures; they always serialise.
        let text = serde_json::to_string_pretty(value).unwrap_or_default();
        self.data(&json_escaped(&text));
    }

    /// Writes one thing of many as JSON in a line of its own.
    pub fn json_line(&self, value: &impl Serialize) {
        let text = serde_json::to_string(value).unwrap_or_default();
        self.data(&json_escaped(&text));
    }

    /// Writes part of the story.
    pub fn story(&self, text: &str) {
        let _gone = write_to(std::io::stderr().lock(), text);
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self {
            form: Format::Table,
            data: Style::Plain,
            story: Style::Plain,
            volume: Volume::Configured,
            colour: ColorChoice::Auto,
        }
    }
}

fn write_to(mut stream: impl Write, text: &str) -> std::io::Result<()> {
    stream.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        stream.write_all(b"\n")?;
    }
    stream.flush()
}

/// Whether to colour.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Style {
    /// Words only.
    Plain,
    /// ANSI colours.
    Colour,
}

/// What a colour means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tone {
    /// A heading or a code.
    Strong,
    /// It worked.
    Good,
    /// Somebody should look.
    Odd,
    /// It failed.
    Bad,
    /// Beside the point.
    Quiet,
}

impl Style {
    fn of(choice: ColorChoice, is_terminal: bool) -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match choice {
            ColorChoice::Always => Self::Colour,
            ColorChoice::Auto if is_terminal && !is_set("NO_COLOR") && !is_dumb => Self::Colour,
            ColorChoice::Auto | ColorChoice::Never => Self::Plain,
        }
    }

    /// The words in their colour.
    pub fn paint(self, tone: Tone, words: &str) -> String {
        let number = match tone {
            Tone::Strong => "1",
            Tone::Good => "32",
            Tone::Odd => "33",
            Tone::Bad => "31",
            Tone::Quiet => "2",
        };
        match self {
            Self::Plain => words.to_owned(),
            Self::Colour => format!("\u{1b}[{number}m{words}\u{1b}[0m"),
        }
    }
}

/// Words in lines of at most `width` characters, each indented.
pub(super) fn wrapped(words: &str, indent: usize, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            out.push('\n');
            column = 0;
        }
        if column == 0 {
            out.push_str(&" ".repeat(indent));
            column = indent;
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += length;
    }
    out.push('\n');
    out
}

/// Text that somebody else wrote, safe to show: control, bidirectional and invisible characters as `\u{…}`.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match is_steering(c) {
            true => out.extend(c.escape_unicode()),
            false => out.push(c),
        }
    }
    out
}

/// The same for text of several lines, which keeps its line ends.
pub fn escaped_lines(text: &str) -> String {
    text.split('\n').map(escaped).collect::<Vec<_>>().join("\n")
}

/// JSON escapes only what its grammar demands; C1 controls and direction marks would still reach the terminal. They can
/// stand inside strings only, so the JSON escape is right wherever they are.
fn json_escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match is_steering(c) && c != '\n' {
            true => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")))
            }
            false => out.push(c),
        }
    }
    out
}

fn is_steering(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_peer_wrote_can_steer_the_terminal() {
        let hostile = "ken\u{1b}[2J\r\n\u{9b}31m\u{202e}gro\u{200b}";
        let shown = escaped(hostile);
        assert_eq!(shown, "ken\\u{1b}[2J\\u{d}\\u{a}\\u{9b}31m\\u{202e}gro\\u{200b}");
        assert_eq!(escaped("Jürgen 東京 +1 425"), "Jürgen 東京 +1 425");
    }

    #[test]
    fn several_lines_stay_lines_and_nothing_else() {
        assert_eq!(escaped_lines("a\n\u{7}b\n"), "a\n\\u{7}b\n");
    }

    #[test]
    fn json_stays_json_and_harmless() {
        let value = serde_json::json!({ "to": "k\u{9b}\u{202e}\u{e0001}\n\u{7f}" });
        let text = json_escaped(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.chars().all(|c| c == '\n' || !is_steering(c)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn colours_appear_only_when_asked_for() {
        assert_eq!(Style::of(ColorChoice::Never, true), Style::Plain);
        assert_eq!(Style::of(ColorChoice::Auto, false), Style::Plain);
        assert_eq!(Style::of(ColorChoice::Always, false), Style::Colour);
        assert_eq!(Style::Plain.paint(Tone::Bad, "x"), "x");
        assert_eq!(Style::Colour.paint(Tone::Bad, "x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
