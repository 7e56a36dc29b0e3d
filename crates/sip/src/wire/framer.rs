//! Cuts a byte stream into messages and keep-alives. It remembers how far it has looked, so a message that arrives
//! byte by byte costs one pass; it never reserves what a peer merely announces; after an error it reads no more.
//!
//! ```text
//!  CRLF* | start-line CRLF *(header CRLF) CRLF body[Content-Length] | CRLF* | ...
//! ```

use super::error::{FrameError, FrameFault};
use super::limits::{Limits, PUSH_BYTES_MAX};
use super::scan::{cut_line, decimal, find_block_end, find_crlf, is_token_char, trim};
use crate::HeaderId;
use bytes::{Buf, Bytes, BytesMut};

/// What a stream carries.
#[derive(Clone, Eq, PartialEq, Debug)]
pub enum Frame {
    /// One message, header block and body.
    Message(Bytes),
    /// The second of two CRLF between messages: a keep-alive to be answered with one CRLF (RFC 5626 §3.5.1).
    /// The first of the two has been yielded as `Pong`, so that the result does not depend on packet borders.
    Ping,
    /// A CRLF between messages: the answer to a ping, or mere decoration before a message.
    Pong,
}

/// The framing state of one stream connection. After each `push`, poll until `Ok(None)` or an error.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    buffer: BytesMut,
    state: State,
}

#[derive(Copy, Clone, Debug)]
enum State {
    Between { after_crlf: bool },
    StartLine { scanned: usize },
    Head { scanned: usize },
    Body { total: usize },
    Lost(FrameFault),
}

/// What one look at the buffer led to.
enum Step {
    Wait,
    Go(State),
    Yield(Frame),
}

impl Framer {
    /// An empty framer.
    pub fn new(limits: Limits) -> Framer {
        Framer { limits, buffer: BytesMut::new(), state: State::Between { after_crlf: false } }
    }

    /// Takes bytes from the connection. Ignored once framing is lost.
    pub fn push(&mut self, bytes: &[u8]) {
        if matches!(self.state, State::Lost(_)) {
            return;
        }
        let most = self.limits.header_block_bytes_max + self.limits.body_bytes_max + PUSH_BYTES_MAX;
        if self.buffer.len() + bytes.len() > most {
            self.lose(FrameFault::Overflow);
            return;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, `None` when more bytes are needed, or the loss of framing (again on every later call).
    pub fn poll(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            let step = match self.state {
                State::Between { after_crlf } => self.poll_between(after_crlf),
                State::StartLine { scanned } => self.poll_start_line(scanned),
                State::Head { scanned } => self.poll_head(scanned),
                State::Body { total } => Ok(self.poll_body(total)),
                State::Lost(fault) => return Err(FrameError { fault, head: None }),
            };
            match step {
                Ok(Step::Wait) => return Ok(None),
                Ok(Step::Go(state)) => self.state = state,
                Ok(Step::Yield(frame)) => return Ok(Some(frame)),
                Err(fault) => {
                    let head = self.head_for_refusal();
                    self.lose(fault);
                    return Err(FrameError { fault, head });
                }
            }
        }
    }

    /// Gives its buffer back when nothing is in it.
    pub fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// Bytes held.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Whether a message has begun and its end is missing.
    pub fn is_mid_message(&self) -> bool {
        match self.state {
            State::Between { .. } => !self.buffer.is_empty(),
            State::StartLine { .. } | State::Head { .. } | State::Body { .. } => true,
            State::Lost(_) => false,
        }
    }

    /// Whether the header block is complete and only the rest of a body is missing.
    pub fn is_in_body(&self) -> bool {
        matches!(self.state, State::Body { .. })
    }

    /// The whole header lines of a message whose end never came: enough to refuse it.
    pub fn unfinished_head(&self) -> Option<Bytes> {
        let (State::Head { .. } | State::Body { .. }) = self.state else { return None };
        let seen = self.buffer.len().min(self.limits.header_block_bytes_max);
        let lines = || memchr::memrchr(b'\n', &self.buffer[..seen]).map(|at| at + 1);
        let end = find_block_end(&self.buffer[..seen], 0).or_else(lines)?;
        Some(Bytes::copy_from_slice(&self.buffer[..end]))
    }

    fn lose(&mut self, fault: FrameFault) {
        self.buffer = BytesMut::new();
        self.state = State::Lost(fault);
    }

    fn poll_between(&mut self, after_crlf: bool) -> Result<Step, FrameFault> {
        match &self.buffer[..] {
            [] | [b'\r'] => Ok(Step::Wait),
            [b'\r', b'\n', ..] => {
                self.buffer.advance(2);
                self.state = State::Between { after_crlf: !after_crlf };
                Ok(Step::Yield(if after_crlf { Frame::Ping } else { Frame::Pong }))
            }
            [first, ..] if is_token_char(*first) => Ok(Step::Go(State::StartLine { scanned: 0 })),
            _ => Err(FrameFault::NotSip),
        }
    }

    /// Refuses what is not SIP before its header block is collected.
    fn poll_start_line(&mut self, scanned: usize) -> Result<Step, FrameFault> {
        let max = self.limits.start_line_bytes_max;
        for (at, byte) in self.buffer.iter().enumerate().skip(scanned) {
            match byte {
                b'\n' if at > 0 && self.buffer[at - 1] == b'\r' => {
                    let line = trim(&self.buffer[..at]);
                    return if looks_like_start_line(line) {
                        Ok(Step::Go(State::Head { scanned: at - 1 }))
                    } else {
                        Err(FrameFault::NotSip)
                    };
                }
                b'\r' if at <= max => {}
                0..=31 | 127 if *byte != b'\t' => return Err(FrameFault::NotSip),
                _ if at >= max => return Err(FrameFault::StartLineTooLong),
                _ => {}
            }
        }
        self.state = State::StartLine { scanned: self.buffer.len() };
        Ok(Step::Wait)
    }

    fn poll_head(&mut self, scanned: usize) -> Result<Step, FrameFault> {
        let max = self.limits.header_block_bytes_max;
        let seen = &self.buffer[..self.buffer.len().min(max)];
        match find_block_end(seen, scanned) {
            Some(end) => {
                let body = content_length(&seen[..end])?;
                if body > self.limits.body_bytes_max as u64 {
                    return Err(FrameFault::BodyTooLong);
                }
                Ok(Step::Go(State::Body { total: end + body as usize }))
            }
            None if self.buffer.len() > max => Err(FrameFault::HeaderBlockTooLong),
            None => {
                self.state = State::Head { scanned: scanned.max(self.buffer.len().saturating_sub(3)) };
                Ok(Step::Wait)
            }
        }
    }

    fn poll_body(&mut self, total: usize) -> Step {
        if self.buffer.len() < total {
            return Step::Wait;
        }
        self.state = State::Between { after_crlf: false };
        Step::Yield(Frame::Message(self.buffer.split_to(total).freeze()))
    }

    fn head_for_refusal(&mut self) -> Option<Bytes> {
        let State::Head { .. } = self.state else { return None };
        let seen = self.buffer.len().min(self.limits.header_block_bytes_max);
        let end = find_block_end(&self.buffer[..seen], 0).unwrap_or(seen);
        Some(self.buffer.split_to(end).freeze())
    }
}

fn looks_like_start_line(line: &[u8]) -> bool {
    let last = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    line.starts_with(b"SIP/") || last.starts_with(b"SIP/")
}

/// The one Content-Length of a header block. A stream has no other way to find the end of a body, so absence,
/// repetition (even with equal values) and anything but digits are fatal. Other lines are judged by the parser.
fn content_length(head: &[u8]) -> Result<u64, FrameFault> {
    let end = head.len() - 2;
    let mut at = find_crlf(head, 0).map_or(end, |at| at + 2);
    let mut length = None;
    while at < end {
        // No other line needs a look: a continuation line begins with white space.
        let may_be = matches!(head[at], b'C' | b'c' | b'L' | b'l');
        let Some(line) = may_be.then(|| cut_line(head, at, end).ok()).flatten() else {
            at = find_crlf(head, at).map_or(end, |at| at + 2);
            continue;
        };
        if HeaderId::from_name(&head[line.name]) == HeaderId::ContentLength {
            let value = &head[line.value];
            let digits_only = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
            // more digits than 64 bits hold are a length beyond every limit, not another kind of fault
            let number = decimal(value).or(digits_only.then_some(u64::MAX));
            let number = number.ok_or(FrameFault::ContentLengthMalformed)?;
            if length.replace(number).is_some() {
                return Err(FrameFault::ContentLengthRepeated);
            }
        }
        at = line.next;
    }
    length.ok_or(FrameFault::ContentLengthMissing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BYE: &[u8] = b"BYE sip:a SIP/2.0\r\nCall-ID: x\r\nl: 3\r\n\r\nabc";

    fn drain(framer: &mut Framer, out: &mut Vec<Result<Frame, FrameFault>>) {
        loop {
            match framer.poll() {
                Ok(Some(frame)) => out.push(Ok(frame)),
                Ok(None) => return,
                Err(error) => return out.push(Err(error.fault)),
            }
        }
    }

    fn frames(chunks: &[&[u8]]) -> Vec<Result<Frame, FrameFault>> {
        let mut framer = Framer::new(Limits::default());
        let mut out = Vec::new();
        for chunk in chunks {
            framer.push(chunk);
            drain(&mut framer, &mut out);
            if matches!(out.last(), Some(Err(_))) {
                break;
            }
        }
        out
    }

    fn fault(bytes: &[u8]) -> Option<FrameFault> {
        frames(&[bytes]).pop().and_then(Result::err)
    }

    #[test]
    fn two_messages_in_one_push_come_out_whole() {
        let both = [BYE, BYE].concat();
        let message = Ok(Frame::Message(Bytes::from_static(BYE)));
        assert_eq!(frames(&[&both]), vec![message.clone(), message]);
    }

    #[test]
    fn double_crlf_is_a_ping_and_leading_crlf_is_skipped() {
        let bytes = [b"\r\n\r\n\r\n", BYE].concat();
        let message = Ok(Frame::Message(Bytes::from_static(BYE)));
        assert_eq!(frames(&[&bytes]), vec![Ok(Frame::Pong), Ok(Frame::Ping), Ok(Frame::Pong), message]);
    }

    #[test]
    fn an_announced_length_is_neither_reserved_nor_believed_beyond_the_limit() {
        let mut framer = Framer::new(Limits::default());
        framer.push(b"BYE sip:a SIP/2.0\r\nContent-Length: 65536\r\n\r\n");
        assert_eq!(framer.poll(), Ok(None));
        assert!(framer.is_mid_message());
        assert!(framer.buffer.capacity() < 4096);
        for length in ["65537", "18446744073709551615", "18446744073709551616", "99999999999999999999999"] {
            let head = format!("BYE sip:a SIP/2.0\r\nContent-Length: {length}\r\n\r\n");
            assert_eq!(fault(head.as_bytes()), Some(FrameFault::BodyTooLong));
        }
    }

    #[test]
    fn a_missing_repeated_or_malformed_length_loses_the_framing() {
        let cases: [(&str, FrameFault); 7] = [
            ("", FrameFault::ContentLengthMissing),
            ("Content-Length: -999\r\n", FrameFault::ContentLengthMalformed),
            ("Content-Length: +5\r\n", FrameFault::ContentLengthMalformed),
            ("Content-Length: 5, 5\r\n", FrameFault::ContentLengthMalformed),
            ("Content-Length:\r\n", FrameFault::ContentLengthMalformed),
            ("Content-Length: 5\r\nL: 5\r\n", FrameFault::ContentLengthRepeated),
            ("l: 5\r\nContent-Length : 7\r\n", FrameFault::ContentLengthRepeated),
        ];
        for (lines, expected) in cases {
            let head = format!("BYE sip:a SIP/2.0\r\n{lines}\r\nabcdefg");
            assert_eq!(fault(head.as_bytes()), Some(expected), "{lines:?}");
        }
    }

    #[test]
    fn a_folded_length_counts() {
        let bytes = b"BYE sip:a SIP/2.0\r\nContent-Length\t:\r\n  3\r\n\r\nabc";
        assert_eq!(frames(&[bytes]), vec![Ok(Frame::Message(Bytes::from_static(bytes)))]);
    }

    #[test]
    fn a_reason_phrase_is_never_read_as_a_length() {
        let bytes = b"SIP/2.0 200 l:\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(frames(&[bytes]), vec![Ok(Frame::Message(Bytes::from_static(bytes)))]);
    }

    #[test]
    fn half_a_keep_alive_is_the_middle_of_something_and_a_whole_one_is_not() {
        let mut framer = Framer::new(Limits::default());
        assert!(!framer.is_mid_message());
        framer.push(b"\r");
        assert_eq!(framer.poll(), Ok(None));
        assert!(framer.is_mid_message());
        framer.push(b"\n");
        assert_eq!(framer.poll(), Ok(Some(Frame::Pong)));
        assert!(!framer.is_mid_message());
    }

    #[test]
    fn every_limit_is_the_last_size_that_passes() {
        let limits = Limits {
            start_line_bytes_max: 30,
            header_block_bytes_max: 80,
            body_bytes_max: 9,
            ..Limits::default()
        };
        let fault = |bytes: &str| {
            let mut framer = Framer::new(limits);
            framer.push(bytes.as_bytes());
            framer.poll().err().map(|error| error.fault)
        };
        let line = |n: usize| format!("BYE sip:{} SIP/2.0", "a".repeat(n - 16));
        let with = |line: &str, block: usize, body: usize| {
            let rest = format!("\r\nl: {body}\r\nX: ");
            let filled = "x".repeat(block - line.len() - rest.len() - 4);
            format!("{line}{rest}{filled}\r\n\r\n{}", "b".repeat(body))
        };
        assert_eq!(fault(&with(&line(30), 80, 9)), None);
        assert_eq!(fault(&with(&line(31), 80, 9)), Some(FrameFault::StartLineTooLong));
        assert_eq!(fault(&with(&line(30), 81, 9)), Some(FrameFault::HeaderBlockTooLong));
        assert_eq!(fault(&with(&line(30), 80, 10)), Some(FrameFault::BodyTooLong));
    }

    #[test]
    fn other_protocols_are_refused_at_their_first_line() {
        assert_eq!(fault(b"\x16\x03\x01\x02"), Some(FrameFault::NotSip));
        assert_eq!(fault(b"GET / HTTP/1.1\r\n"), Some(FrameFault::NotSip));
        assert_eq!(fault(b"BYE sip:a SIP/2.0\nCall-ID: x\n\n"), Some(FrameFault::NotSip));
        assert_eq!(fault(b"\n"), Some(FrameFault::NotSip));
        assert_eq!(fault(&[b'A'; 5000]), Some(FrameFault::StartLineTooLong));
        assert_eq!(fault(b"BYE sip:\x7f SIP/2.0\r\nl: 0\r\n\r\n"), Some(FrameFault::NotSip));
        // A tab is malformed as well, but not another protocol: the parser's 400 tells.
        assert_eq!(fault(b"BYE\tsip:a SIP/2.0\r\nl: 0\r\n\r\n"), None);
    }

    #[test]
    fn a_header_block_beyond_its_limit_is_refused_with_what_came_so_far() {
        let mut framer = Framer::new(Limits::default());
        framer.push(b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nCSeq: 1 OPTIONS\r\n");
        for _ in 0..20 {
            framer.push(&[b'x'; 1024]);
        }
        let error = framer.poll().unwrap_err();
        assert_eq!(error.fault, FrameFault::HeaderBlockTooLong);
        assert!(error.reject_bytes().unwrap().starts_with(b"SIP/2.0 513 "));
        assert_eq!(framer.buffered(), 0);
    }

    #[test]
    fn pushing_without_polling_is_bounded() {
        let mut framer = Framer::new(Limits::default());
        for _ in 0..1000 {
            framer.push(&[b'x'; 1024]);
        }
        assert_eq!(framer.buffered(), 0);
        assert_eq!(framer.poll().unwrap_err().fault, FrameFault::Overflow);
        let limits = Limits::default();
        let most = limits.header_block_bytes_max + limits.body_bytes_max + PUSH_BYTES_MAX;
        let mut framer = Framer::new(limits);
        framer.push(&vec![b'x'; most - 1]);
        framer.push(b"x");
        assert_eq!(framer.buffered(), most);
        framer.push(b"x");
        assert_eq!(framer.buffered(), 0);
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            4 => Just(BYE.to_vec()),
            2 => Just(b"\r\n".to_vec()),
            2 => Just(b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()),
            1 => Just(b"BYE sip:a SIP/2.0\r\nContent-Length: -1\r\n\r\n".to_vec()),
            1 => Just(b"\r".to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..20),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn chunking_never_changes_the_frames(
            bytes in stream(),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
        ) {
            let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let chunks: Vec<&[u8]> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let whole = frames(&[&bytes]);
            prop_assert_eq!(&whole, &frames(&chunks));
            prop_assert_eq!(&whole, &frames(&single));
        }
    }

    #[test]
    fn the_head_of_a_message_that_never_ends_can_be_refused() {
        let mut framer = Framer::new(Limits::default());
        framer.push(b"BYE sip:a SIP/2.0\r\nCall-ID: 1\r\nCSeq: 1 B");
        assert!(matches!(framer.poll(), Ok(None)));
        assert_eq!(framer.unfinished_head().unwrap(), &b"BYE sip:a SIP/2.0\r\nCall-ID: 1\r\n"[..]);
        framer.push(b"YE\r\nContent-Length: 9\r\n\r\nabc");
        assert!(matches!(framer.poll(), Ok(None)));
        assert!(framer.is_in_body());
        let head = framer.unfinished_head().unwrap();
        assert!(head.ends_with(b"Content-Length: 9\r\n\r\n"), "{head:?}");
        framer.push(b"defghi");
        assert!(matches!(framer.poll(), Ok(Some(Frame::Message(_)))));
        assert_eq!(framer.unfinished_head(), None);
    }
}
