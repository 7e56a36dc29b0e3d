//! The thread that writes recordings and captures. Owns their folders, the ring and every file; nobody waits for it.

use std::collections::{HashMap, VecDeque};
use std::io::{self, BufWriter};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use b2bua::codes;
use b2bua::engine::call_id_of;
use b2bua::policy::MediaAddresses;
use relay::{Channel, RtpHead, Side};
use sip::Transport;
use tracing::{error, warn};

use super::chunk::{CHUNKS, Chunk, Passed, Tape};
use super::folder::{Folder, Refused};
use super::mask::{self, Muting};
use super::pcap::{Carrier, Packet, Pcap};
use super::recording::{Lack, Recording};
use super::ring::Ring;
use super::{Begin, End, KeepSettings, Keeping, Message, Note, own};
use crate::observe::{Metrics, WarnLimiter};

/// How names end.
pub(super) const WAV: &str = ".wav";
pub(super) const PCAP: &str = ".pcap";
/// Notes that may wait, beside the chunks of the media threads.
const NOTES_MAX: usize = 8_192;
/// Recordings at once: each holds a file and up to 80 KiB.
const RECORDINGS_MAX: usize = 1_024;
/// How long a call that is over waits for its last messages before its capture is written.
const LINGER: Duration = Duration::from_secs(2);
/// Calls that wait so.
const ENDING_MAX: usize = 8_192;
/// A call whose packets stopped so long ago has ended, though nobody said so.
const FORGOTTEN: Duration = Duration::from_secs(3_600);
/// How often what is due is looked for.
const TICK: Duration = Duration::from_millis(250);
/// Octets of headers around a packet in a file, at most.
const FRAME_BYTES: u64 = 16 + 14 + 40 + 20;

/// What every signalling thread makes its own part of.
#[derive(Clone)]
pub struct Keeper {
    settings: Arc<KeepSettings>,
    notes: SyncSender<Note>,
    numbers: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
}

impl Keeper {
    /// For one signalling thread.
    pub fn keeping(&self) -> Keeping {
        let Self { settings, notes, numbers, lost, metrics } = self.clone();
        Keeping { settings, notes, numbers, lost, metrics, starting: None, calls: Default::default() }
    }
}

/// The running thread.
pub struct KeepWriter {
    thread: JoinHandle<()>,
}

impl KeepWriter {
    /// Starts it, with a tape for each of so many media threads; `addresses` are those of our RTP ports.
    pub fn start(
        settings: &KeepSettings,
        addresses: MediaAddresses,
        workers: usize,
        metrics: &Arc<Metrics>,
    ) -> io::Result<(Self, Keeper, Vec<Tape>)> {
        let (notes, waiting) = sync_channel(NOTES_MAX + CHUNKS * workers);
        let lost = Arc::new(AtomicU64::new(0));
        let mut writer = Writer::new(settings, addresses, lost.clone(), metrics.clone());
        let tape = |worker: usize| {
            let (empty, refill) = sync_channel(CHUNKS);
            for _ in 0..CHUNKS {
                // It has room for all of them.
                let _sent = empty.try_send(Chunk::new(worker));
            }
            writer.empties.push(empty);
            Tape::new(refill, notes.clone(), lost.clone())
        };
        let tapes = (0..workers).map(tape).collect();
        let settings = Arc::new(settings.clone());
        let keeper = Keeper { settings, notes, numbers: Arc::default(), lost, metrics: metrics.clone() };
        let thread =
            std::thread::Builder::new().name(String::from("keep")).spawn(move || writer.run(&waiting))?;
        Ok((Self { thread }, keeper, tapes))
    }

    /// Waits until every file is whole; every keeper and tape must be gone.
    pub fn join(self) {
        if self.thread.join().is_err() {
            error!("the writer of recordings and captures had panicked");
        }
    }
}

/// A call of which packets come.
struct Call {
    recording: Option<Recording>,
    call_id: Vec<u8>,
    muting: Muting,
    heard: Instant,
}

/// What a capture needs.
struct Captures {
    folder: Folder,
    ring: Ring,
    media: super::CapturedMedia,
}

struct Writer {
    recordings: Option<(Folder, Duration)>,
    captures: Option<Captures>,
    calls: HashMap<u64, Call>,
    recorded: usize,
    ending: VecDeque<(Instant, Box<End>)>,
    empties: Vec<SyncSender<Box<Chunk>>>,
    addresses: MediaAddresses,
    epoch: (Instant, Duration),
    lost: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
    warnings: WarnLimiter,
}

impl Writer {
    fn new(
        settings: &KeepSettings,
        addresses: MediaAddresses,
        lost: Arc<AtomicU64>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let recordings = settings.recordings.as_ref();
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            recordings: recordings.map(|r| (Folder::new(&r.folder, WAV, r.room), r.call_max)),
            captures: settings.captures.as_ref().map(|captures| Captures {
                folder: Folder::new(&captures.folder, PCAP, captures.room),
                ring: Ring::new(captures.ring_bytes),
                media: captures.media,
            }),
            calls: HashMap::new(),
            recorded: 0,
            ending: VecDeque::new(),
            empties: Vec::new(),
            addresses,
            epoch: (Instant::now(), since_1970),
            lost,
            metrics,
            warnings: WarnLimiter::new(),
        }
    }

    /// Writes until nobody is left who could say anything.
    fn run(mut self, waiting: &Receiver<Note>) {
        let mut next_tick = Instant::now() + TICK;
        self.try_folders();
        loop {
            match waiting.recv_timeout(next_tick.saturating_duration_since(Instant::now())) {
                Ok(note) => self.on_note(note),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Instant::now();
            if now >= next_tick {
                next_tick = now + TICK;
                self.on_tick(now);
            }
        }
        let numbers: Vec<u64> = self.calls.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.close(number));
        while let Some((_, end)) = self.ending.pop_front() {
            self.capture(&end);
        }
    }

    /// A folder that cannot be written is told at once, not with the first call.
    fn try_folders(&mut self) {
        let now = Instant::now();
        let recordings = self.recordings.as_mut().map(|(folder, _)| (folder, codes::RECORDING_UNWRITTEN));
        let captures =
            self.captures.as_mut().map(|captures| (&mut captures.folder, codes::CAPTURE_UNWRITTEN));
        for (folder, code) in recordings.into_iter().chain(captures) {
            if let Err(error) = folder.try_out(now) {
                let folder = folder.path().display();
                warn!(event = "folder_unwritten", umb_code = code.as_str(), %folder, %error, "nothing can be kept there");
            }
        }
    }

    fn on_note(&mut self, note: Note) {
        match note {
            Note::Begin(begin) => self.begin(*begin),
            Note::Chunk(mut chunk) => {
                for (passed, packet) in chunk.packets() {
                    self.on_packet(passed, packet);
                }
                chunk.clear();
                if let Some(empty) = self.empties.get(chunk.worker) {
                    // A media thread that has ended needs none.
                    let _ended = empty.try_send(chunk);
                }
            }
            Note::Message(message) => self.on_message(*message),
            Note::End(end) => self.end(end),
        }
    }

    fn on_tick(&mut self, now: Instant) {
        if let Some((folder, _)) = &mut self.recordings {
            for call in self.calls.values_mut() {
                if let Some(recording) = &mut call.recording {
                    let written = recording.on_tick(folder, now);
                    tell(&self.metrics, &self.warnings, folder, written);
                }
            }
        }
        while self.ending.front().is_some_and(|(due, _)| *due <= now)
            && let Some((_, end)) = self.ending.pop_front()
        {
            self.capture(&end);
        }
        let is_forgotten = |call: &Call| now.saturating_duration_since(call.heard) >= FORGOTTEN;
        let forgotten: Vec<u64> =
            self.calls.iter().filter(|(_, call)| is_forgotten(call)).map(|(number, _)| *number).collect();
        forgotten.into_iter().for_each(|number| self.close(number));
        let lost = self.lost.swap(0, Ordering::Relaxed);
        self.metrics.dropped_some("keep_queue", lost);
    }

    fn begin(&mut self, begin: Begin) {
        let recording = begin.recording.and_then(|(stem, fate)| {
            if self.recorded >= RECORDINGS_MAX {
                fate.lacks(Lack::Busy);
                return None;
            }
            let (_, call_max) = self.recordings.as_ref()?;
            Some(Recording::new(stem, fate, *call_max))
        });
        self.recorded += usize::from(recording.is_some());
        let call =
            Call { recording, call_id: begin.call_id, muting: Muting::default(), heard: Instant::now() };
        self.calls.insert(begin.number, call);
    }

    fn on_packet(&mut self, passed: Passed, packet: &[u8]) {
        let Some(call) = self.calls.get_mut(&passed.call) else { return };
        call.heard = passed.at;
        if let (Some(recording), Some((folder, _)), Some(_)) =
            (&mut call.recording, &mut self.recordings, passed.sent)
            && let Some((head, payload)) = RtpHead::of(packet)
        {
            let written = recording.on_rtp(folder, passed.side, passed.at, &head, payload);
            tell(&self.metrics, &self.warnings, folder, written);
        }
        if let Some(captures) = self.captures.as_mut().filter(|c| c.media == super::CapturedMedia::Rtp) {
            let place = (self.addresses, self.epoch);
            let keep = |passed, packet| captures.keep(&call.call_id, place, &passed, packet);
            call.muting.pass(passed, packet.to_vec(), keep);
        }
    }

    fn on_message(&mut self, message: Message) {
        let Some(captures) = &mut self.captures else { return };
        let Some(call_id) = call_id_of(&message.bytes).map(<[u8]>::to_vec) else { return };
        let carrier = if message.transport == Transport::Udp { Carrier::Udp } else { Carrier::Tcp };
        let at = since_1970(self.epoch, message.at);
        let mut payload = mask::message(message.bytes.to_vec());
        if captures.media == super::CapturedMedia::Rtp {
            mask::describe_as_opened(&mut payload);
        }
        let payload = payload.into_boxed_slice();
        captures.ring.push(&call_id, Packet { at, carrier, from: message.from, to: message.to, payload });
    }

    fn end(&mut self, end: Box<End>) {
        if let Some(number) = end.number {
            self.close(number);
        }
        if self.captures.is_some() {
            self.ending.push_back((Instant::now() + LINGER, end));
        }
        if self.ending.len() > ENDING_MAX
            && let Some((_, end)) = self.ending.pop_front()
        {
            self.capture(&end);
        }
    }

    /// No more packets of that call come.
    fn close(&mut self, number: u64) {
        let Some(mut call) = self.calls.remove(&number) else { return };
        self.recorded -= usize::from(call.recording.is_some());
        if let (Some(recording), Some((folder, _))) = (&mut call.recording, &mut self.recordings) {
            let written = recording.finish(folder);
            tell(&self.metrics, &self.warnings, folder, written);
            if recording.has_file() {
                self.metrics.event("recordings_written");
            }
            self.metrics.dropped_some("recording_late", recording.late);
        }
        if let Some(captures) = &mut self.captures {
            let place = (self.addresses, self.epoch);
            call.muting.finish(|passed, packet| captures.keep(&call.call_id, place, &passed, packet));
        }
    }

    /// Takes a call out of the ring, and writes it if that is wanted.
    fn capture(&mut self, end: &End) {
        let Some(captures) = &mut self.captures else { return };
        let packets = captures.ring.take(end.call_ids.iter().map(Vec::as_slice));
        let Some(stem) = end.capture.as_ref().filter(|_| !packets.is_empty()) else { return };
        match captures.write(stem, &packets) {
            Ok(()) => self.metrics.event("captures_written"),
            Err(refused) => {
                self.metrics.dropped("capture");
                self.warnings.warn("capture", || {
                    let (folder, code) = (captures.folder.path().display(), codes::CAPTURE_UNWRITTEN.as_str());
                    warn!(event = "capture_failed", umb_code = code, %folder, %refused, "a capture is not written");
                });
            }
        }
    }
}

impl Captures {
    /// A packet as it came, and once more as it went on.
    fn keep(
        &mut self,
        call_id: &[u8],
        (addresses, epoch): (MediaAddresses, (Instant, Duration)),
        passed: &Passed,
        mut packet: Vec<u8>,
    ) {
        let at = since_1970(epoch, passed.at);
        let ours = |side: Side, channel: Channel, other: SocketAddr| {
            let [a, b] = passed.ports;
            let port = if side == Side::A { a } else { b };
            own(addresses, port + u16::from(channel == Channel::Rtcp), other)
        };
        let carrier = Carrier::Udp;
        if let Some(from) = passed.from {
            let (to, payload) = (ours(passed.side, passed.channel, from), packet.clone().into_boxed_slice());
            self.ring.push(call_id, Packet { at, carrier, from, to, payload });
        }
        if let Some(sent) = passed.sent {
            if let Some(second) = packet.get_mut(1) {
                *second = sent.second;
            }
            let (from, payload) = (ours(sent.side, sent.channel, sent.to), packet.into_boxed_slice());
            self.ring.push(call_id, Packet { at, carrier, from, to: sent.to, payload });
        }
    }

    fn write(&mut self, stem: &str, packets: &[Packet]) -> Result<(), Refused> {
        let bytes = packets.iter().map(|packet| packet.payload.len() as u64 + FRAME_BYTES).sum();
        let file = self.folder.create(Instant::now(), stem)?;
        self.folder.grow(bytes)?;
        let mut pcap = Pcap::new(BufWriter::new(file))?;
        packets.iter().try_for_each(|packet| pcap.write(packet))?;
        Ok(pcap.finish()?)
    }
}

/// A recording that cannot be written is told once; the call goes on.
fn tell(metrics: &Metrics, warnings: &WarnLimiter, folder: &Folder, written: Result<(), Refused>) {
    let Err(refused) = written else { return };
    metrics.dropped("recording");
    let code = match refused {
        Refused::Full => codes::RECORDINGS_FULL,
        Refused::System(_) => codes::RECORDING_UNWRITTEN,
    };
    warnings.warn(code.as_str(), || {
        let folder = folder.path().display();
        warn!(event = "recording_failed", umb_code = code.as_str(), %folder, %refused, "a call is not recorded any further");
    });
}

fn since_1970((epoch, then): (Instant, Duration), at: Instant) -> Duration {
    match at.checked_duration_since(epoch) {
        Some(since) => then + since,
        None => then.saturating_sub(epoch.saturating_duration_since(at)),
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
