//! One stream connection: cuts messages, answers keep-alives, keeps what is to be written, knows its deadlines. Owns the
//! stream for its life; refuses to know what the messages say and when it is its turn (the shard's loop does).

use std::time::{Duration, Instant};

use b2bua::engine::FlowLoss;
use bytes::{Bytes, BytesMut};
use mio::net::TcpStream;
use sip::{Frame, FrameError, Framer, StatusCode};

use super::wire::{Heard, Wire};
use super::{Arrived, NetLimits, Room};
use crate::tls::Wrote;

/// How long a closing connection may take to send its last bytes and to hear the peer close.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes thrown away while a refused peer still talks.
const DISCARD_BYTES_MAX: usize = 256 * 1024;
/// Waiting bytes above which no more is read from a peer: it has to take its answers first.
const READ_PAUSE_BYTES: usize = 256 * 1024;
/// A connection that said nothing for this long gives its buffers back.
const QUIET: Duration = Duration::from_secs(2);

/// Why the reading side ended.
#[derive(Clone, Debug)]
pub enum ReadEnd {
    /// The peer closed in order.
    Closed,
    /// Reset, broken record.
    Error,
    /// No byte can be told from another any more; the answer is a 400 where one could be built.
    FramingLost {
        /// What lost it.
        fault: FrameError,
        /// The 400.
        answer: Option<Bytes>,
    },
}

/// Why bytes were not taken.
#[derive(Copy, Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SendFault {
    /// No such flow any more.
    #[error("connection is gone")]
    Gone,
    /// The peer does not read; the connection must be closed.
    #[error("peer reads too slowly")]
    SlowReader,
    /// The datagram did not leave (socket buffer full, or refused by the system).
    #[error("datagram not sent")]
    DatagramLost,
}

/// What a deadline that has come means.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Due {
    /// Nothing: the connection was busy meanwhile.
    Nothing,
    /// No byte for too long.
    Idle,
    /// A message that never ended.
    PartialMessage,
    /// The peer reads nothing.
    Stuck,
    /// Last words took long enough.
    Left,
}

#[derive(Copy, Clone, Debug)]
enum Phase {
    Open,
    /// No message is read any more; what waits leaves, and the peer may talk on for a moment.
    Leaving {
        until: Instant,
        discard: usize,
    },
}

/// Whose turn it is to make a connection read.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Reading {
    /// The poller's.
    Resting,
    /// The loop's; `is_end`: the peer has closed, so an empty read must follow.
    Ready { is_end: bool },
    /// The next write's, once there is room for answers.
    Paused { is_end: bool },
}

/// A stream with everything that belongs to it.
pub struct Connection {
    stream: TcpStream,
    wire: Wire,
    framer: Framer,
    out: BytesMut,
    phase: Phase,
    /// Since when a message is incomplete.
    begun: Option<Instant>,
    /// When the last byte came.
    heard: Instant,
    /// Since when the socket takes nothing.
    stuck: Option<Instant>,
    /// Buffers may be larger than an idle connection's.
    is_fat: bool,
    reading: Reading,
    queue_bytes_max: usize,
    /// Its place among the inbound connections is free again when this goes.
    _permit: Option<Room>,
}

impl Connection {
    pub(super) fn new(now: Instant, arrived: Arrived, limits: &NetLimits) -> Self {
        Self {
            stream: TcpStream::from_std(arrived.stream),
            wire: arrived.wire,
            framer: Framer::new(limits.message),
            out: BytesMut::new(),
            phase: Phase::Open,
            begun: None,
            heard: now,
            stuck: None,
            is_fat: false,
            reading: Reading::Resting,
            queue_bytes_max: limits.queue_bytes_max,
            _permit: arrived.permit,
        }
    }

    pub(super) fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Reads once and adds whole messages to `messages`; they count also when the end follows them.
    pub fn read(
        &mut self,
        now: Instant,
        scratch: &mut [u8],
        messages: &mut Vec<Bytes>,
    ) -> Result<Heard, ReadEnd> {
        if let Phase::Leaving { discard, .. } = &mut self.phase {
            let mut drop_it = |said: &[u8]| *discard = discard.saturating_sub(said.len());
            return match self.wire.read(&mut self.stream, scratch, &mut drop_it) {
                Ok(Heard::End) => Err(ReadEnd::Closed),
                Ok(heard) => Ok(heard),
                Err(_) => Err(ReadEnd::Error),
            };
        }
        let before = messages.len();
        let (framer, out, mut fault) = (&mut self.framer, &mut self.out, None);
        let mut sink = |said: &[u8]| cut(framer, said, out, messages, &mut fault);
        let heard = self.wire.read(&mut self.stream, scratch, &mut sink);
        self.note(now, messages.len() > before);
        match (fault, heard) {
            (Some(fault), _) => Err(framing_lost(fault)),
            (None, Ok(Heard::End)) => Err(ReadEnd::Closed),
            (None, Ok(heard)) => Ok(heard),
            (None, Err(_)) => Err(ReadEnd::Error),
        }
    }

    /// What came together with the end of the handshake.
    pub fn read_early(&mut self, now: Instant, messages: &mut Vec<Bytes>) -> Result<(), ReadEnd> {
        let (framer, out, mut fault) = (&mut self.framer, &mut self.out, None);
        let mut sink = |said: &[u8]| cut(framer, said, out, messages, &mut fault);
        let read = self.wire.read_early(&mut sink);
        self.note(now, !messages.is_empty());
        match (fault, read) {
            (Some(fault), _) => Err(framing_lost(fault)),
            (None, Ok(())) => Ok(()),
            (None, Err(_)) => Err(ReadEnd::Error),
        }
    }

    fn note(&mut self, now: Instant, got_message: bool) {
        self.heard = now;
        self.is_fat = true;
        if got_message {
            self.begun = None;
        }
        self.begun = if self.framer.is_mid_message() { self.begun.or(Some(now)) } else { None };
    }

    /// The poller says that there is something to read; `true`: it was not known yet.
    pub fn become_ready(&mut self, is_end: bool) -> bool {
        let before = self.reading;
        match &mut self.reading {
            Reading::Ready { is_end: known } | Reading::Paused { is_end: known } => *known |= is_end,
            Reading::Resting => self.reading = Reading::Ready { is_end },
        }
        before == Reading::Resting
    }

    /// May more be read? Not while the peer leaves its answers lying: then [`Connection::resume`] says when.
    pub fn may_read(&mut self) -> bool {
        let has_room = self.out.len() < READ_PAUSE_BYTES || !self.is_open();
        if let (false, Reading::Ready { is_end }) = (has_room, self.reading) {
            self.reading = Reading::Paused { is_end };
        }
        has_room
    }

    /// There is room again for answers of a peer that was made to wait.
    pub fn resume(&mut self) -> bool {
        match self.reading {
            Reading::Paused { is_end } if self.out.len() < READ_PAUSE_BYTES => {
                self.reading = Reading::Ready { is_end };
                true
            }
            _ => false,
        }
    }

    /// The socket is empty; `true`: but its end has still to be read.
    pub fn rest(&mut self) -> bool {
        match self.reading {
            Reading::Ready { is_end: true } => {
                self.reading = Reading::Ready { is_end: false };
                true
            }
            _ => {
                self.reading = Reading::Resting;
                false
            }
        }
    }

    /// Takes bytes to be written at the end of the turn.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), SendFault> {
        if matches!(self.phase, Phase::Leaving { .. }) {
            return Err(SendFault::Gone);
        }
        // A message larger than the whole budget still passes when nothing waits.
        if !self.out.is_empty() && self.out.len() + bytes.len() > self.queue_bytes_max {
            return Err(SendFault::SlowReader);
        }
        self.out.extend_from_slice(bytes);
        self.is_fat = true;
        Ok(())
    }

    /// Whether anything waits to be written.
    pub fn wants_write(&self) -> bool {
        !self.out.is_empty() || self.wire.wants_write()
    }

    /// Writes what the socket takes. An error means that the connection is of no use any more.
    pub fn flush(&mut self, now: Instant) -> std::io::Result<()> {
        let wrote = self.wire.write(&mut self.stream, &mut self.out)?;
        self.stuck = match wrote {
            Wrote::All => None,
            Wrote::Some => Some(now),
            Wrote::Nothing => self.stuck.or(Some(now)),
        };
        if wrote == Wrote::All && !self.is_open() {
            self.wire.say_goodbye();
            let _full = self.wire.write(&mut self.stream, &mut self.out);
            // Fails only when the peer is gone already.
            let _gone = self.stream.shutdown(std::net::Shutdown::Write);
        }
        Ok(())
    }

    /// Whether the socket was full at the last write.
    pub fn is_stuck(&self) -> bool {
        self.stuck.is_some()
    }

    /// What a peer hears whose message was begun and not ended in time.
    pub fn refusal_of_partial(&self) -> Option<Bytes> {
        let head = self.framer.unfinished_head()?;
        sip::reject_bytes(&head, StatusCode::BAD_REQUEST, None)
    }

    /// Reads no more messages; what waits may leave. After lost framing the peer is heard out for a moment: closing
    /// with unread bytes would reset the connection and take our 400 with it.
    pub fn leave(&mut self, now: Instant, why: Leave) {
        let discard = match why {
            Leave::HearOut => DISCARD_BYTES_MAX,
            Leave::AtOnce => 0,
        };
        self.phase = Phase::Leaving { until: now + LINGER, discard };
    }

    /// Whether it reads messages.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether nothing is left to write and nobody to hear out.
    pub fn has_left(&self) -> bool {
        matches!(self.phase, Phase::Leaving { discard: 0, .. }) && !self.wants_write()
    }

    /// When to look at it again at the latest.
    pub fn deadline(&self, limits: &NetLimits) -> Instant {
        if let Phase::Leaving { until, .. } = self.phase {
            return until;
        }
        let heard = match self.begun {
            Some(since) if self.framer.is_in_body() => since + limits.body_timeout,
            Some(since) => since + limits.header_timeout,
            None if self.is_fat => self.heard + QUIET.min(limits.idle_timeout),
            None => self.heard + limits.idle_timeout,
        };
        match self.stuck {
            Some(since) => heard.min(since + limits.write_timeout),
            None => heard,
        }
    }

    /// The deadline has come.
    pub fn on_deadline(&mut self, now: Instant, limits: &NetLimits) -> Due {
        if self.deadline(limits) > now {
            return Due::Nothing;
        }
        if matches!(self.phase, Phase::Leaving { .. }) {
            return Due::Left;
        }
        if self.stuck.is_some_and(|since| since + limits.write_timeout <= now) {
            return Due::Stuck;
        }
        if self.begun.is_some() {
            return Due::PartialMessage;
        }
        if self.heard + limits.idle_timeout <= now {
            return Due::Idle;
        }
        self.give_back();
        Due::Nothing
    }

    fn give_back(&mut self) {
        self.framer.release();
        if self.out.is_empty() {
            self.out = BytesMut::new();
        }
        self.is_fat = false;
    }
}

/// How a connection is left.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Leave {
    /// As soon as what waits has left.
    AtOnce,
    /// And the peer has stopped talking.
    HearOut,
}

impl ReadEnd {
    /// What the engine is told.
    pub fn loss(&self) -> FlowLoss {
        match self {
            Self::Closed => FlowLoss::ClosedByPeer,
            Self::Error => FlowLoss::Error,
            Self::FramingLost { .. } => FlowLoss::ClosedByUs,
        }
    }
}

fn cut(
    framer: &mut Framer,
    said: &[u8],
    out: &mut BytesMut,
    messages: &mut Vec<Bytes>,
    fault: &mut Option<FrameError>,
) {
    if fault.is_some() {
        return;
    }
    framer.push(said);
    loop {
        match framer.poll() {
            Ok(None) => return,
            Ok(Some(Frame::Pong)) => {}
            Ok(Some(Frame::Ping)) => out.extend_from_slice(b"\r\n"),
            Ok(Some(Frame::Message(bytes))) => messages.push(bytes),
            Err(error) => return *fault = Some(error),
        }
    }
}

fn framing_lost(fault: FrameError) -> ReadEnd {
    let head = fault.head.as_ref();
    let answer = head.and_then(|head| sip::reject_bytes(head, StatusCode::BAD_REQUEST, None));
    ReadEnd::FramingLost { fault, answer }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
