//! The story of a run: every message and fault, a running hash of all of it, and the text ladder printed when a run fails. Owns how a line
//! reads, and writes it only when somebody wants to read; refuses to judge it.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use relay::Side;
use sip::{Limits, Message};

/// Lines kept; older ones only live on in the hash.
const LINES_MAX: usize = 20_000;
/// Lines printed without a call to follow.
const TAIL: usize = 80;
/// Width of one lifeline column.
const COLUMN: usize = 46;
/// Odd, with bits all over: multiplying by it mixes.
const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;

/// Between whom a message goes, seen from the gateway.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Way {
    /// From a far end to the gateway.
    In,
    /// From the gateway to a far end.
    Out,
}

#[derive(Debug)]
struct Line {
    at: Duration,
    what: What,
}

#[derive(Debug)]
enum What {
    Message {
        way: Way,
        side: Side,
        whom: usize,
        port: u16,
        bytes: Bytes,
    },
    /// Concerns everybody.
    Note(String),
    /// Concerns the call whose Call-ID the text names.
    News(String),
}

/// The story so far.
#[derive(Debug, Default)]
pub struct Ladder {
    names: Vec<String>,
    lines: VecDeque<Line>,
    hash: u64,
}

impl Ladder {
    /// An empty story about far ends of these names.
    pub fn new(names: Vec<String>) -> Self {
        Self { names, ..Self::default() }
    }

    /// Running hash over everything told.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// A message passes the gateway's border; `whom` counts in the names, `port` is shown for servers.
    pub fn message(&mut self, at: Duration, way: Way, side: Side, whom: usize, port: u16, bytes: &Bytes) {
        self.mix(&[way as u8, side as u8, whom as u8]);
        self.mix(bytes);
        self.push(at, What::Message { way, side, whom, port, bytes: bytes.clone() });
    }

    /// Anything else that happened.
    pub fn note(&mut self, at: Duration, text: String) {
        self.mix(text.as_bytes());
        self.push(at, What::Note(text));
    }

    /// What happened to the call that the text names.
    pub fn news(&mut self, at: Duration, text: String) {
        self.mix(text.as_bytes());
        self.push(at, What::News(text));
    }

    /// The messages of these Call-IDs and all faults, or the tail when there is no Call-ID.
    pub fn print(&self, call_ids: &[String]) -> String {
        let mut out = String::new();
        let told: Vec<&Line> = self.lines.iter().filter(|line| line.what.is_about(call_ids)).collect();
        let from = if call_ids.is_empty() { told.len().saturating_sub(TAIL) } else { 0 };
        for line in told.iter().skip(from) {
            let _infallible =
                writeln!(out, "{:>12.6} {}", line.at.as_secs_f64(), line.what.text(&self.names));
        }
        out
    }

    fn push(&mut self, at: Duration, what: What) {
        self.mix(&(at.as_nanos() as u64).to_le_bytes());
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(Line { at, what });
    }

    fn mix(&mut self, bytes: &[u8]) {
        let mut hash = self.hash ^ bytes.len() as u64;
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = (hash.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(MIXER);
        }
        self.hash = hash ^ (hash >> 32);
    }
}

impl What {
    fn is_about(&self, call_ids: &[String]) -> bool {
        match self {
            _ if call_ids.is_empty() => true,
            Self::Note(_) => true,
            Self::News(text) => call_ids.iter().any(|id| text.contains(id.as_str())),
            Self::Message { bytes, .. } => {
                let names = |id: &String| bytes.windows(id.len()).any(|window| window == id.as_bytes());
                call_ids.iter().any(names)
            }
        }
    }

    fn text(&self, names: &[String]) -> String {
        let (way, side, whom, port, bytes) = match self {
            Self::Note(text) | Self::News(text) => return format!("* {text}"),
            Self::Message { way, side, whom, port, bytes } => (way, side, whom, port, bytes),
        };
        let label = label(bytes);
        let name = names.get(*whom).map_or("nobody", String::as_str);
        match (side, way) {
            (Side::A, Way::In) => format!("{name:>12} ──{label:─<COLUMN$}▶ umbra"),
            (Side::A, Way::Out) => format!("{name:>12} ◀{label:─<COLUMN$}── umbra"),
            (Side::B, Way::Out) => {
                format!("{:>COLUMN$}               umbra ──{label:─<COLUMN$}▶ {name}:{port}", "")
            }
            (Side::B, Way::In) => {
                format!("{:>COLUMN$}               umbra ◀{label:─<COLUMN$}── {name}:{port}", "")
            }
        }
    }
}

fn label(bytes: &Bytes) -> String {
    let first = bytes.split(|b| *b == b'\r').next().unwrap_or_default();
    let first = String::from_utf8_lossy(first);
    let short: String = first.strip_suffix(" SIP/2.0").unwrap_or(&first).chars().take(40).collect();
    match Message::parse(bytes.clone(), &Limits::default()) {
        Ok(message) if message.is_request() => {
            let sdp = if message.body().is_empty() { "" } else { " +body" };
            format!("{short} {}{sdp}", message.cseq().number)
        }
        Ok(message) => {
            let (cseq, sdp) = (message.cseq(), if message.body().is_empty() { "" } else { " +body" });
            format!("{} ({} {}){sdp}", short.trim_start_matches("SIP/2.0 "), cseq.number, cseq.method)
        }
        Err(_) => short,
    }
}
