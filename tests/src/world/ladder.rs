//! The story of a run: every message and fault as a line, a running hash of all of it, and the text ladder printed when a run fails. Owns
//! how a line reads; refuses to judge it.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use sip::Message;

/// Lines kept; older ones only live on in the hash.
const LINES_MAX: usize = 20_000;
/// Lines printed without a call to follow.
const TAIL: usize = 80;
/// Width of one lifeline column.
const COLUMN: usize = 46;

/// Between whom a message goes, seen from the gateway.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Way {
    /// From a far end to the gateway.
    In,
    /// From the gateway to a far end.
    Out,
}

#[derive(Clone, Debug)]
struct Line {
    at: Duration,
    about: About,
    text: String,
}

#[derive(Clone, Debug)]
enum About {
    /// Everybody.
    All,
    /// The call with this Call-ID.
    Call(String),
    /// The call whose Call-ID the text names.
    Named,
}

/// The story so far.
#[derive(Debug, Default)]
pub struct Ladder {
    lines: VecDeque<Line>,
    hash: u64,
}

impl Ladder {
    /// FNV-1a over everything told.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// A message passes the gateway's border. `is_caller` says on which side.
    pub fn message(
        &mut self,
        at: Duration,
        way: Way,
        is_caller: bool,
        whom: &str,
        bytes: &[u8],
        message: &Message,
    ) {
        self.mix(bytes);
        let first = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
        let first = String::from_utf8_lossy(first);
        let short: String = first.strip_suffix(" SIP/2.0").unwrap_or(&first).chars().take(40).collect();
        let cseq = message.cseq();
        let label = if message.is_request() {
            short
        } else {
            format!("{} ({})", short.trim_start_matches("SIP/2.0 "), cseq.method)
        };
        let text = match (is_caller, way) {
            (true, Way::In) => format!("{:>12} ──{label:─<COLUMN$}▶ umbra", whom),
            (true, Way::Out) => format!("{:>12} ◀{label:─<COLUMN$}── umbra", whom),
            (false, Way::Out) => format!("{:>COLUMN$}               umbra ──{label:─<COLUMN$}▶ {whom}", ""),
            (false, Way::In) => format!("{:>COLUMN$}               umbra ◀{label:─<COLUMN$}── {whom}", ""),
        };
        let call_id = String::from_utf8_lossy(message.call_id()).into_owned();
        self.push(at, About::Call(call_id), text);
    }

    /// Anything else that happened.
    pub fn note(&mut self, at: Duration, text: &str) {
        self.push(at, About::All, format!("* {text}"));
    }

    /// What happened to the call that the text names.
    pub fn news(&mut self, at: Duration, text: &str) {
        self.push(at, About::Named, format!("* {text}"));
    }

    /// The messages of these Call-IDs and all faults, or the tail when there is no Call-ID.
    pub fn print(&self, call_ids: &[String]) -> String {
        let mut out = String::new();
        let is_told = |line: &&Line| match &line.about {
            _ if call_ids.is_empty() => true,
            About::All => true,
            About::Call(id) => call_ids.contains(id),
            About::Named => call_ids.iter().any(|id| line.text.contains(id.as_str())),
        };
        let told: Vec<&Line> = self.lines.iter().filter(is_told).collect();
        let from = if call_ids.is_empty() { told.len().saturating_sub(TAIL) } else { 0 };
        for line in told.iter().skip(from) {
            let _infallible = writeln!(out, "{:>12.6} {}", line.at.as_secs_f64(), line.text);
        }
        out
    }

    fn push(&mut self, at: Duration, about: About, text: String) {
        self.mix(&(at.as_nanos() as u64).to_le_bytes());
        self.mix(text.as_bytes());
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(Line { at, about, text });
    }

    fn mix(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
