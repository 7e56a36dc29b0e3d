//! What is kept of calls on disk beside their records: recordings (WAV) and captures (pcap). Owns the thread that writes them, what
//! is kept of which call, and that no PIN and no key is in it; refuses to hold anybody up: signalling and media threads hand over
//! what passes through a bounded queue, and what finds it full is not kept, and counted.
//!
//! ```text
//!  media thread   Session ── shown in the clear ──► Tape ── chunks ──┐            ┌─► Timeline ──► Recording (WAV)
//!                                                                   ├─► Writer ──┤
//!  signalling     Lines ── messages ─────────────────────────────────┘            └─► Muting ──► Ring ──► Pcap
//! ```

mod chunk;
mod folder;
mod mask;
mod pcap;
mod recording;
mod ring;
mod timeline;
mod tones;
mod writer;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use b2bua::CallRecord;
use b2bua::codes;
use b2bua::engine::{CallKey, CallStarted};
use b2bua::policy::MediaAddresses;
use b2bua::record::OfferResult;
use bytes::Bytes;
use sip::Transport;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::observe::Metrics;

pub use chunk::{Passed, Sent, Tape};
pub use folder::Room;
use recording::{Fate, Lack};
pub use writer::{KeepWriter, Keeper};

/// Samples a second of G.711 and of what is written.
const RATE: u64 = 8_000;

/// Which calls are captured.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Captured {
    /// Those that were refused, failed, broke off, or whose audio did not get through.
    Failed,
    /// All.
    All,
}

/// What of their media.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum CapturedMedia {
    /// Nothing: SIP only.
    None,
    /// RTP and RTCP.
    Rtp,
}

/// Recordings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecordingSettings {
    /// Where.
    pub folder: PathBuf,
    /// Calls of these dial plans.
    pub dial_plans: Vec<String>,
    /// So much of each call.
    pub call_max: Duration,
    /// So much of all.
    pub room: Room,
}

/// Captures.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CaptureSettings {
    /// Where.
    pub folder: PathBuf,
    /// Which calls.
    pub calls: Captured,
    /// What of their media.
    pub media: CapturedMedia,
    /// Octets of memory for calls that are not over.
    pub ring_bytes: usize,
    /// So much on disk.
    pub room: Room,
}

/// Both; neither unless configured.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeepSettings {
    /// Recordings.
    pub recordings: Option<RecordingSettings>,
    /// Captures.
    pub captures: Option<CaptureSettings>,
}

impl KeepSettings {
    fn is_recorded(&self, dial_plan: &str) -> bool {
        let named = |settings: &RecordingSettings| {
            settings.dial_plans.iter().any(|name| name.eq_ignore_ascii_case(dial_plan))
        };
        self.recordings.as_ref().is_some_and(named)
    }

    fn captures_media(&self) -> bool {
        self.captures.as_ref().is_some_and(|captures| captures.media == CapturedMedia::Rtp)
    }
}

/// What the writer is told.
enum Note {
    Begin(Box<Begin>),
    Chunk(Box<chunk::Chunk>),
    Message(Box<Message>),
    End(Box<End>),
}

/// Packets of a call will come.
struct Begin {
    number: u64,
    call_id: Vec<u8>,
    recording: Option<(String, Arc<Fate>)>,
}

/// A SIP message that passed.
struct Message {
    at: Instant,
    transport: Transport,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Bytes,
}

/// A call is over.
struct End {
    number: Option<u64>,
    call_ids: Vec<Vec<u8>>,
    /// The name of its capture, without an ending, if it is to be written.
    capture: Option<String>,
}

/// Hands SIP messages to the writer.
#[derive(Clone, Debug)]
pub struct Copies(SyncSender<Note>, Arc<AtomicU64>);

impl Copies {
    /// A message passed between these ends.
    pub fn message(&self, transport: Transport, from: SocketAddr, to: SocketAddr, bytes: &Bytes) {
        let message = Message { at: Instant::now(), transport, from, to, bytes: bytes.clone() };
        if self.0.try_send(Note::Message(Box::new(message))).is_err() {
            self.1.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A call of which something is kept.
struct Kept {
    number: u64,
    stem: String,
    fate: Option<Arc<Fate>>,
}

/// What one signalling thread keeps of its calls.
pub struct Keeping {
    settings: Arc<KeepSettings>,
    notes: SyncSender<Note>,
    numbers: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
    starting: Option<(CallKey, Begin, String)>,
    calls: BTreeMap<CallKey, Kept>,
}

impl Keeping {
    /// For the messages, where captures are wanted.
    pub fn copies(&self) -> Option<Copies> {
        self.settings.captures.is_some().then(|| Copies(self.notes.clone(), self.lost.clone()))
    }

    /// A call starts; its ports are asked for next.
    pub fn starts(&mut self, started: &CallStarted) {
        let is_recorded = self.settings.is_recorded(&started.dial_plan);
        self.starting = (is_recorded || self.settings.captures_media()).then(|| {
            let (number, stem) = self.name();
            let recording = is_recorded.then(|| (stem.clone(), Arc::default()));
            let begin = Begin { number, call_id: started.call_id.clone().into_bytes(), recording };
            (started.call, begin, stem)
        });
    }

    /// Its ports were asked for: under which number its packets are to be kept, if they are.
    pub fn allocates(&mut self, call: CallKey) -> Option<u64> {
        let (_, begin, stem) = self.starting.take_if(|(starting, ..)| *starting == call)?;
        let (number, fate) = (begin.number, begin.recording.as_ref().map(|(_, fate)| fate.clone()));
        if self.notes.try_send(Note::Begin(Box::new(begin))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            fate.iter().for_each(|fate| fate.lacks(Lack::Busy));
        }
        self.calls.insert(call, Kept { number, stem, fate });
        Some(number)
    }

    /// It is over, and its last packets were handed over: the record says what was kept.
    pub fn ended(&mut self, call: Option<CallKey>, record: &mut CallRecord) {
        let kept = call.and_then(|call| self.calls.remove(&call));
        if let Some((kept, fate)) = kept.as_ref().and_then(|kept| Some((kept, kept.fate.as_ref()?))) {
            let (has_file, lack) = fate.told();
            record.recording = has_file.then(|| format!("{}{}", kept.stem, writer::WAV));
            record.recording_lacks = lack.words();
        }
        let captures = self.settings.captures.as_ref();
        let is_captured =
            captures.is_some_and(|captures| captures.calls == Captured::All || is_failed(record));
        let number = kept.as_ref().map(|kept| kept.number);
        let capture = is_captured.then(|| kept.map_or_else(|| self.name().1, |kept| kept.stem));
        record.capture = capture.as_ref().map(|stem| format!("{stem}{}", writer::PCAP));
        if number.is_none() && captures.is_none() {
            return;
        }
        let call_ids = [Some(&record.call_id), record.b_call_id.as_ref()];
        let call_ids = call_ids.into_iter().flatten().map(|id| id.clone().into_bytes()).collect();
        if self.notes.try_send(Note::End(Box::new(End { number, call_ids, capture }))).is_err() {
            record.capture = None;
            self.metrics.dropped("keep_queue");
        }
    }

    /// A number, and a name of nobody's choosing: when, and which one.
    fn name(&self) -> (u64, String) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let shape = format_description!("[year][month][day]T[hour][minute][second].[subsecond digits:3]Z");
        let now = OffsetDateTime::now_utc().format(shape).unwrap_or_default();
        (number, format!("{now}-{number}"))
    }
}

/// Whether somebody would want to look at it. A caller who hung up while it rang is no failure.
fn is_failed(record: &CallRecord) -> bool {
    match record.offer_result {
        OfferResult::Failed | OfferResult::Rejected => true,
        OfferResult::Answer => record.verdict.code != codes::COMPLETED || record.is_audio_cut(),
        OfferResult::Redirected | OfferResult::None => false,
    }
}

/// Our end of a packet whose other end is there: the address that descriptions name.
fn own(addresses: MediaAddresses, port: u16, other: SocketAddr) -> SocketAddr {
    let none = if other.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(addresses.like(other.ip()).unwrap_or(none), port)
}
