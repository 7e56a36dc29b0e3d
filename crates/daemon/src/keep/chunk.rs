//! How packets get from a media thread to the writer: copied one behind the other into chunks that were made before, handed over
//! whole. Owns the layout and its limits; refuses to wait: without an empty chunk a packet is not kept, and counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Instant;

use relay::{Channel, Side, Tap, Verdict};

use super::Note;

/// Octets of packets in a chunk.
const CHUNK_BYTES: usize = 64 * 1024;
/// Packets in a chunk.
const CHUNK_PACKETS: usize = 512;
/// Chunks of one media thread.
pub(super) const CHUNKS: usize = 32;

/// One packet that was seen.
#[derive(Copy, Clone, Debug)]
pub struct Passed {
    /// Which kept call.
    pub call: u64,
    /// When.
    pub at: Instant,
    /// Who sent it, or in whose name we did.
    pub side: Side,
    /// On which of the ports it came.
    pub channel: Channel,
    /// From where; `None` if it is our own.
    pub from: Option<SocketAddr>,
    /// Our even ports toward both sides.
    pub ports: [u16; 2],
    /// What became of it.
    pub sent: Option<Sent>,
}

/// Where a packet went on to.
#[derive(Copy, Clone, Debug)]
pub struct Sent {
    pub(super) side: Side,
    pub(super) channel: Channel,
    pub(super) to: SocketAddr,
    /// The octet of marker and payload type, as it left.
    pub(super) second: u8,
}

impl Sent {
    /// As the verdict says; the packet is the one that leaves.
    pub fn of(verdict: &Verdict, packet: &[u8]) -> Option<Self> {
        let Verdict::Forward { side, channel, to } = *verdict else { return None };
        Some(Self { side, channel, to, second: packet.get(1).copied()? })
    }
}

#[cfg(test)]
impl Passed {
    pub(super) fn of_nothing(at: Instant, channel: Channel) -> Self {
        Self { call: 0, at, side: Side::A, channel, from: None, ports: [0; 2], sent: None }
    }
}

/// Packets one behind the other.
pub(super) struct Chunk {
    /// Whose it is when it is empty again.
    pub(super) worker: usize,
    passed: Vec<(Passed, u32, u32)>,
    bytes: Vec<u8>,
}

impl Chunk {
    pub(super) fn new(worker: usize) -> Box<Self> {
        let (passed, bytes) = (Vec::with_capacity(CHUNK_PACKETS), Vec::with_capacity(CHUNK_BYTES));
        Box::new(Self { worker, passed, bytes })
    }

    fn has_room(&self, length: usize) -> bool {
        self.passed.len() < CHUNK_PACKETS && self.bytes.len() + length <= CHUNK_BYTES
    }

    pub(super) fn packets(&self) -> impl Iterator<Item = (Passed, &[u8])> {
        self.passed.iter().filter_map(|(passed, start, end)| {
            Some((*passed, self.bytes.get(*start as usize..*end as usize)?))
        })
    }

    pub(super) fn clear(&mut self) {
        self.passed.clear();
        self.bytes.clear();
    }
}

/// The end of a media thread: is shown packets, copies them, and hands over what is full.
pub struct Tape {
    chunk: Option<Box<Chunk>>,
    empty: Receiver<Box<Chunk>>,
    notes: SyncSender<Note>,
    /// Where the copy of the packet that was shown last lies, until it is known what became of it.
    shown: Option<(u32, u32)>,
    lost: Arc<AtomicU64>,
}

impl Tape {
    pub(super) fn new(empty: Receiver<Box<Chunk>>, notes: SyncSender<Note>, lost: Arc<AtomicU64>) -> Self {
        Self { chunk: None, empty, notes, shown: None, lost }
    }

    /// What became of the packet that was shown; nothing if none was.
    pub fn passed(&mut self, passed: Passed) {
        if let (Some((start, end)), Some(chunk)) = (self.shown.take(), &mut self.chunk) {
            chunk.passed.push((passed, start, end));
        }
    }

    /// Hands over what there is.
    pub fn hand_over(&mut self) {
        let Some(chunk) = self.chunk.take_if(|chunk| !chunk.passed.is_empty()) else { return };
        let packets = chunk.passed.len() as u64;
        if let Err(refused) = self.notes.try_send(Note::Chunk(chunk)) {
            self.lost.fetch_add(packets, Ordering::Relaxed);
            let (std::sync::mpsc::TrySendError::Full(note)
            | std::sync::mpsc::TrySendError::Disconnected(note)) = refused;
            if let Note::Chunk(mut chunk) = note {
                chunk.clear();
                self.chunk = Some(chunk);
            }
        }
    }

    fn copy(&mut self, packet: &[u8]) -> Option<(u32, u32)> {
        if self.chunk.as_ref().is_some_and(|chunk| !chunk.has_room(packet.len())) {
            self.hand_over();
        }
        if self.chunk.is_none() {
            self.chunk = self.empty.try_recv().ok();
        }
        let chunk = self.chunk.as_mut().filter(|chunk| chunk.has_room(packet.len()))?;
        let start = chunk.bytes.len() as u32;
        chunk.bytes.extend_from_slice(packet);
        Some((start, chunk.bytes.len() as u32))
    }
}

impl Tap for Tape {
    fn on_clear(&mut self, packet: &[u8]) {
        self.shown = self.copy(packet);
        if self.shown.is_none() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
