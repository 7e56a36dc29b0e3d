//! What UM says: short spoken prompts, made by `prompts/make` and kept in the repository, numbers put together from parts, and the beep.
//! Speech is quieter than the beep, so that the beep is the loudest thing in a greeting.

use std::sync::LazyLock;

use super::g711::Law;
use super::tone::{silence, tone};
use super::wav::mu_law_data;

/// The beep's frequency: none of a DTMF tone.
pub const BEEP_HZ: f64 = 1_400.0;

const BEEP_LEVEL_DBFS: f64 = -16.0;
const BEEP: usize = 2_400;
/// Before the first word, so that it is not cut off while media begins, and between two prompts.
const PAUSE: usize = 480;

/// The beep: 0.3 s.
pub fn beep() -> Vec<i16> {
    static BEEP_TONE: LazyLock<Vec<i16>> = LazyLock::new(|| tone(BEEP_HZ, BEEP_LEVEL_DBFS, BEEP));
    BEEP_TONE.clone()
}

/// What callers hear who come to a mailbox without a greeting of its own.
pub fn greeting() -> Vec<i16> {
    Speech::new().prompt(Prompt::LeaveMessage).into_samples()
}

macro_rules! prompts {
    ($($prompt:ident = $name:literal,)*) => {
        /// A spoken prompt; its words stand in `prompts/words`.
        #[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
        pub enum Prompt {
            $(#[doc = $name] $prompt,)*
        }

        impl Prompt {
            /// All of them.
            pub const ALL: &[Prompt] = &[$(Prompt::$prompt,)*];

            /// Name of its file, and in `prompts/words`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Prompt::$prompt => $name,)*
                }
            }

            /// Its WAV file.
            pub fn file(self) -> &'static [u8] {
                match self {
                    $(Prompt::$prompt => include_bytes!(concat!("../../prompts/", $name, ".wav")),)*
                }
            }
        }
    };
}

prompts! {
    LeaveMessage = "leave-message",
    Stored = "stored",
    Goodbye = "goodbye",
    VoiceAccess = "voice-access",
    EnterExtension = "enter-extension",
    EnterPin = "enter-pin",
    NotRight = "not-right",
    Locked = "locked",
    YouHave = "you-have",
    NewMessage = "new-message",
    NewMessages = "new-messages",
    MainMenu = "main-menu",
    MessageMenu = "message-menu",
    OptionsMenu = "options-menu",
    MessageFrom = "message-from",
    UnknownCaller = "unknown-caller",
    Received = "received",
    Today = "today",
    Yesterday = "yesterday",
    DaysAgo = "days-ago",
    At = "at",
    Deleted = "deleted",
    NoMore = "no-more",
    RecordGreeting = "record-greeting",
    Saved = "saved",
    NoGreeting = "no-greeting",
    NotAChoice = "not-a-choice",
    OneMoment = "one-moment",
    NoAnswer = "no-answer",
    Welcome = "welcome",
    Closed = "closed",
    ForExtension = "for-extension",
    ToLeaveAMessage = "to-leave-a-message",
    Press = "press",
    OperatorZero = "operator-zero",
    DialExtension = "dial-extension",
    N0 = "0",
    N1 = "1",
    N2 = "2",
    N3 = "3",
    N4 = "4",
    N5 = "5",
    N6 = "6",
    N7 = "7",
    N8 = "8",
    N9 = "9",
    N10 = "10",
    N11 = "11",
    N12 = "12",
    N13 = "13",
    N14 = "14",
    N15 = "15",
    N16 = "16",
    N17 = "17",
    N18 = "18",
    N19 = "19",
    N20 = "20",
    N30 = "30",
    N40 = "40",
    N50 = "50",
    N60 = "60",
    N70 = "70",
    N80 = "80",
    N90 = "90",
}

impl Prompt {
    /// Its sound. A file that is no mu-law recording is silent; the tests look that there is none.
    fn samples(self) -> &'static [i16] {
        static SPOKEN: LazyLock<Vec<Vec<i16>>> = LazyLock::new(|| Prompt::ALL.iter().map(decoded).collect());
        SPOKEN.get(self as usize).map(Vec::as_slice).unwrap_or_default()
    }
}

fn decoded(prompt: &Prompt) -> Vec<i16> {
    let mut samples = Vec::new();
    Law::Mu.decode_into(mu_law_data(prompt.file()).unwrap_or_default(), &mut samples);
    samples
}

/// Numbers below this are said as such, larger ones digit by digit.
const NUMBER_END: u32 = 100;
const UNITS: [Prompt; 20] = [
    Prompt::N0,
    Prompt::N1,
    Prompt::N2,
    Prompt::N3,
    Prompt::N4,
    Prompt::N5,
    Prompt::N6,
    Prompt::N7,
    Prompt::N8,
    Prompt::N9,
    Prompt::N10,
    Prompt::N11,
    Prompt::N12,
    Prompt::N13,
    Prompt::N14,
    Prompt::N15,
    Prompt::N16,
    Prompt::N17,
    Prompt::N18,
    Prompt::N19,
];
const TENS: [Prompt; 8] =
    [Prompt::N20, Prompt::N30, Prompt::N40, Prompt::N50, Prompt::N60, Prompt::N70, Prompt::N80, Prompt::N90];

/// What is said in one go, put together piece by piece.
#[derive(Clone, Debug, Default)]
pub struct Speech(Vec<i16>);

impl Speech {
    /// Nothing yet.
    pub fn new() -> Self {
        Speech::default()
    }

    /// Then this prompt.
    #[must_use]
    pub fn prompt(mut self, prompt: Prompt) -> Self {
        self.0.extend(silence(PAUSE));
        self.0.extend_from_slice(prompt.samples());
        self
    }

    /// Then a number.
    #[must_use]
    pub fn number(self, number: u32) -> Self {
        let at =
            |parts: &[Prompt], index: u32| usize::try_from(index).ok().and_then(|n| parts.get(n).copied());
        match (at(&UNITS, number), number) {
            (Some(unit), _) => self.prompt(unit),
            (None, 20..NUMBER_END) => {
                let said = at(&TENS, number / 10 - 2).map_or(self.clone(), |tens| self.prompt(tens));
                if number.is_multiple_of(10) { said } else { said.number(number % 10) }
            }
            _ => self.digits(&number.to_string()),
        }
    }

    /// Then the digits in a text, one by one; what is no digit is left out.
    #[must_use]
    pub fn digits(self, text: &str) -> Self {
        text.chars().filter_map(|c| c.to_digit(10)).fold(self, Speech::number)
    }

    /// Then the beep.
    #[must_use]
    pub fn beep(self) -> Self {
        self.recording(&beep())
    }

    /// Then something recorded.
    #[must_use]
    pub fn recording(mut self, samples: &[i16]) -> Self {
        self.0.extend_from_slice(samples);
        self
    }

    /// Then something else.
    #[must_use]
    pub fn then(self, more: Speech) -> Self {
        self.recording(&more.0)
    }

    /// All of it.
    pub fn into_samples(self) -> Vec<i16> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BeepDetector, level_dbfs};
    use super::*;

    /// Of all files together.
    const BYTES_MAX: usize = 500_000;
    const SAMPLES: std::ops::Range<usize> = 800..8_000 * 8;
    const WORDS: &str = include_str!("../../prompts/words");

    #[test]
    fn every_prompt_has_words_and_every_word_is_a_prompt() {
        let names: Vec<&str> = Prompt::ALL.iter().map(|p| p.name()).collect();
        let words: Vec<&str> = WORDS.lines().filter_map(|line| Some(line.split_once('\t')?.0)).collect();
        assert_eq!(names, words);
    }

    #[test]
    fn every_prompt_is_audible_mu_law_speech_softer_than_the_beep() {
        let mut bytes = 0;
        for prompt in Prompt::ALL {
            let name = prompt.name();
            bytes += prompt.file().len();
            assert!(mu_law_data(prompt.file()).is_some(), "{name} is no 8 kHz mono mu-law");
            let samples = prompt.samples();
            assert!(SAMPLES.contains(&samples.len()), "{name}: {} samples", samples.len());
            let loudest =
                samples.windows(1_600).step_by(400).map(level_dbfs).fold(level_dbfs(samples), f64::max);
            assert!((-28.0..BEEP_LEVEL_DBFS - 2.0).contains(&loudest), "{name}: {loudest} dBFS");
            let mut detector = BeepDetector::new();
            detector.push(samples);
            assert_eq!(detector.began(), None, "{name} sounds like the beep");
        }
        assert!(bytes < BYTES_MAX, "{bytes} bytes of prompts");
    }

    #[test]
    fn numbers_are_put_together_from_parts() {
        let said = |n| Speech::new().number(n).into_samples();
        let parts = |all: &[Prompt]| all.iter().fold(Speech::new(), |s, p| s.prompt(*p)).into_samples();
        assert_eq!(said(0), parts(&[Prompt::N0]));
        assert_eq!(said(19), parts(&[Prompt::N19]));
        assert_eq!(said(40), parts(&[Prompt::N40]));
        assert_eq!(said(97), parts(&[Prompt::N90, Prompt::N7]));
        assert_eq!(said(105), parts(&[Prompt::N1, Prompt::N0, Prompt::N5]));
        assert_eq!(Speech::new().digits("+1-0").into_samples(), parts(&[Prompt::N1, Prompt::N0]));
    }
}
