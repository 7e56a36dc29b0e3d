//! Indexes a message in one pass over its header block and refuses what two readers could understand differently:
//! repeated single headers, lengths that do not fit, stray line ends. Two allocations: the spans and their `Arc`.

use super::message::{Index, Message, Span, Start};
use super::scan::{self, LineFault};
use super::{HeaderId, Limits, ParseError};
use crate::header::{check_list, check_via, cseq, scan_single};
use crate::{Method, Scheme, StatusCode, uri};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// A range of a message, which is at most 4 GiB long.
#[derive(Copy, Clone, Eq, PartialEq, Default)]
pub(super) struct Piece {
    pub start: u32,
    pub end: u32,
}

impl Piece {
    pub(super) fn new(range: Range<usize>) -> Piece {
        Piece { start: range.start as u32, end: range.end as u32 }
    }

    pub(super) fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Headers that may occur once only: two of them are two opinions about the same message.
const SINGLE: [HeaderId; 7] = [
    HeaderId::From,
    HeaderId::To,
    HeaderId::CallId,
    HeaderId::CSeq,
    HeaderId::MaxForwards,
    HeaderId::ContentLength,
    HeaderId::ContentType,
];

/// What the index can address.
const MESSAGE_BYTES_MAX: usize = u32::MAX as usize;

pub(super) fn parse(mut bytes: Bytes, limits: &Limits) -> Result<Message, ParseError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(ParseError::BodyTooLong);
    }
    let line_end = start_line_end(&bytes, limits)?;
    let block_end = block_end(&bytes, line_end, limits)?;
    let (start, request_method) = start_line(&bytes, line_end)?;
    let spans = index_lines(&bytes, line_end + 2, block_end - 2, limits)?;
    let cells = judge(&bytes, &spans)?;
    let cseq_method = method_of(&bytes, request_method, &cells)?;
    let body_end = body_end(&bytes, block_end, &cells, limits)?;
    let index = Index {
        start,
        spans,
        body: Piece::new(block_end..body_end),
        cseq_number: cells.cseq_number,
        cseq_method,
        call_id: cells.call_id,
        from_tag: cells.from_tag,
        to_tag: cells.to_tag,
        stamped_via: None,
    };
    bytes.truncate(body_end);
    Ok(Message { bytes, index: Arc::new(index) })
}

fn start_line_end(bytes: &[u8], limits: &Limits) -> Result<usize, ParseError> {
    let looked_at = &bytes[..bytes.len().min(limits.start_line_bytes_max + 2)];
    match scan::find_crlf(looked_at, 0) {
        Some(end) => Ok(end),
        None if bytes.len() > looked_at.len() => Err(ParseError::StartLineTooLong),
        None => Err(ParseError::HeaderBlockUnterminated),
    }
}

fn block_end(bytes: &[u8], from: usize, limits: &Limits) -> Result<usize, ParseError> {
    let looked_at = &bytes[..bytes.len().min(limits.header_block_bytes_max)];
    match scan::find_block_end(looked_at, from) {
        Some(end) => Ok(end),
        None if bytes.len() > looked_at.len() => Err(ParseError::HeaderBlockTooLong),
        None => Err(ParseError::HeaderBlockUnterminated),
    }
}

/// Start line cut, and for requests where the method stands.
fn start_line(bytes: &[u8], end: usize) -> Result<(Start, Option<Piece>), ParseError> {
    let line = &bytes[..end];
    if scan::has_forbidden(line) {
        return Err(ParseError::ForbiddenByte);
    }
    if line.get(..4).is_some_and(|word| word.eq_ignore_ascii_case(b"SIP/")) {
        return Ok((status_line(line)?, None));
    }
    let mut spaces = memchr::memchr_iter(b' ', line);
    let (Some(first), Some(second), None) = (spaces.next(), spaces.next(), spaces.next()) else {
        return Err(ParseError::StartLineMalformed);
    };
    let (method, target, version) = (&line[..first], &line[first + 1..second], &line[second + 1..]);
    if !scan::is_token(method) {
        return Err(ParseError::StartLineMalformed);
    }
    check_version(version)?;
    check_target(target)?;
    Ok((Start::Request { uri: Piece::new(first + 1..second) }, Some(Piece::new(0..first))))
}

fn check_version(version: &[u8]) -> Result<(), ParseError> {
    match version.get(..4) {
        Some(word) if word.eq_ignore_ascii_case(b"SIP/") => {
            if &version[4..] == b"2.0" {
                Ok(())
            } else {
                Err(ParseError::VersionNotSupported)
            }
        }
        _ => Err(ParseError::StartLineMalformed),
    }
}

/// A Request-URI carries no headers (RFC 3261 §19.1.1); accepting them would let a peer inject some.
fn check_target(target: &[u8]) -> Result<(), ParseError> {
    match uri::cut(target) {
        Ok(parts) if !parts.has_headers() => Ok(()),
        _ => Err(ParseError::RequestUriMalformed),
    }
}

fn status_line(line: &[u8]) -> Result<Start, ParseError> {
    let version_end = line.iter().position(|byte| *byte == b' ').ok_or(ParseError::StartLineMalformed)?;
    check_version(&line[..version_end])?;
    let code_start = version_end + 1;
    let code_len = line[code_start..].iter().take_while(|byte| **byte != b' ').count();
    let code = &line[code_start..code_start + code_len];
    if !code.iter().all(u8::is_ascii_digit) {
        return Err(ParseError::StartLineMalformed);
    }
    let number = scan::decimal_u32(code).filter(|_| code_len == 3);
    let status = number.and_then(|number| u16::try_from(number).ok()).and_then(StatusCode::new);
    let status = status.ok_or(ParseError::StatusOutOfRange)?;
    // the space behind the code is demanded by the grammar, yet some leave it out together with the phrase
    let reason = (code_start + code_len + 1).min(line.len())..line.len();
    Ok(Start::Response { status, reason: Piece::new(reason) })
}

fn index_lines(bytes: &[u8], start: usize, end: usize, limits: &Limits) -> Result<Vec<Span>, ParseError> {
    let lines = memchr::memchr_iter(b'\n', &bytes[start..end]).count();
    let mut spans = Vec::with_capacity(lines.min(limits.header_lines_max));
    let mut at = start;
    while at < end {
        let line = scan::cut_line(bytes, at, end).map_err(|fault| match fault {
            LineFault::Malformed => ParseError::HeaderLineMalformed,
            LineFault::ForbiddenByte => ParseError::ForbiddenByte,
        })?;
        if spans.len() == limits.header_lines_max {
            return Err(ParseError::TooManyHeaders);
        }
        spans.push(Span {
            id: HeaderId::from_name(&bytes[line.name.clone()]),
            name: Piece::new(line.name),
            value: Piece::new(line.value),
            line_end: line.next as u32,
        });
        at = line.next;
    }
    Ok(spans)
}

/// What the headers that every message must have say.
#[derive(Default)]
struct Cells {
    call_id: Piece,
    cseq_number: u32,
    cseq_method: Piece,
    from_tag: Option<Piece>,
    to_tag: Option<Piece>,
    content_length: Option<u64>,
}

fn judge(bytes: &[u8], spans: &[Span]) -> Result<Cells, ParseError> {
    let mut cells = Cells::default();
    let mut seen = 0u128;
    for span in spans {
        let bit = 1u128 << (span.id as u32);
        if seen & bit != 0 && SINGLE.contains(&span.id) {
            return Err(ParseError::Repeated(span.id));
        }
        let is_first = seen & bit == 0;
        seen |= bit;
        if is_first || span.id == HeaderId::Contact {
            judge_line(bytes, span, &mut cells)?;
        }
    }
    let needed = [HeaderId::Via, HeaderId::From, HeaderId::To, HeaderId::CallId, HeaderId::CSeq];
    match needed.into_iter().find(|id| seen & (1u128 << (*id as u32)) == 0) {
        Some(missing) => Err(ParseError::Missing(missing)),
        None => Ok(cells),
    }
}

fn judge_line(bytes: &[u8], span: &Span, cells: &mut Cells) -> Result<(), ParseError> {
    let range = span.value.range();
    let value = &bytes[range.clone()];
    let malformed = ParseError::Malformed(span.id);
    match span.id {
        HeaderId::Via => check_via(value).map_err(|_| malformed),
        HeaderId::Contact => check_list(bytes, range).map_err(|_| malformed),
        HeaderId::From | HeaderId::To => {
            let address = scan_single(bytes, range).map_err(|_| malformed.clone())?;
            let tag = address.tag;
            if tag.as_ref().is_some_and(|tag| tag.is_empty()) {
                return Err(malformed);
            }
            let cell = if span.id == HeaderId::From { &mut cells.from_tag } else { &mut cells.to_tag };
            *cell = tag.map(Piece::new);
            Ok(())
        }
        HeaderId::CallId => {
            cells.call_id = span.value;
            if value.is_empty() || value.iter().copied().any(scan::is_lws) { Err(malformed) } else { Ok(()) }
        }
        HeaderId::CSeq => {
            let (number, method) = cseq::cut(value).map_err(|_| malformed)?;
            cells.cseq_number = number;
            cells.cseq_method = Piece::new(range.end - method.len()..range.end);
            Ok(())
        }
        HeaderId::ContentLength => {
            cells.content_length = Some(content_length(value).ok_or(malformed)?);
            Ok(())
        }
        HeaderId::MaxForwards if !value.iter().all(u8::is_ascii_digit) || value.is_empty() => Err(malformed),
        _ => Ok(()),
    }
}

/// Digits only; more of them than 64 bits hold are a length beyond every body.
fn content_length(value: &[u8]) -> Option<u64> {
    let digits_only = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    scan::decimal(value).or(digits_only.then_some(u64::MAX))
}

fn method_of(bytes: &Bytes, request: Option<Piece>, cells: &Cells) -> Result<Method, ParseError> {
    let named = &bytes[cells.cseq_method.range()];
    if request.is_some_and(|piece| &bytes[piece.range()] != named) {
        return Err(ParseError::MethodMismatch);
    }
    Ok(Method::known(named).unwrap_or_else(|| Method::Other(bytes.slice(cells.cseq_method.range()))))
}

fn body_end(bytes: &[u8], block_end: usize, cells: &Cells, limits: &Limits) -> Result<usize, ParseError> {
    let received = bytes.len() - block_end;
    let announced = cells.content_length.unwrap_or(received as u64);
    if announced > limits.body_bytes_max as u64 {
        return Err(ParseError::BodyTooLong);
    }
    let length = announced as usize;
    if length > received { Err(ParseError::BodyTruncated) } else { Ok(block_end + length) }
}

impl Message {
    /// Whether the Request-URI is `sip:`, `sips:` or `tel:`; other schemes are answered 416.
    pub fn has_known_scheme(&self) -> bool {
        self.uri().is_ok_and(|uri| uri.scheme() != Scheme::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "OPTIONS sip:a@h SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\n\
        f: \"x\" <sip:f@h>;tag=1\r\nTo : <sip:t@h>\r\nCall-ID:c@h\r\nCSeq: 7 OPTIONS\r\n";

    fn parsed(text: &str) -> Result<Message, ParseError> {
        Message::parse(Bytes::copy_from_slice(text.as_bytes()), &Limits::default())
    }

    fn with(lines: &str) -> Result<Message, ParseError> {
        parsed(&format!("{HEAD}{lines}\r\n"))
    }

    #[test]
    fn a_message_is_indexed_without_changing_it() {
        let message = with("X-Odd :  a \r\n\t b\r\nMax-Forwards: 0068\r\n").unwrap();
        assert!(message.is_request() && !message.is_response());
        assert_eq!(message.method(), &Method::Options);
        assert_eq!(message.from_tag(), Some(&b"1"[..]));
        assert_eq!(message.to_tag(), None);
        assert_eq!((message.call_id(), message.cseq().number), (&b"c@h"[..], 7));
        assert_eq!(message.max_forwards(), Some(68));
        let odd = message.headers().find(|header| header.id == HeaderId::Other).unwrap();
        assert_eq!((odd.name, odd.raw, &*odd.value()), (&b"X-Odd"[..], &b"a \r\n\t b"[..], &b"a  b"[..]));
        assert_eq!(message.header_named("x-odd"), Some(odd.raw));
        let mut again = message.start_line().to_vec();
        again.extend_from_slice(b"\r\n");
        message.headers().for_each(|header| again.extend_from_slice(header.line));
        again.extend_from_slice(b"\r\n");
        assert_eq!(again, message.bytes()[..]);
    }

    #[test]
    fn what_is_shown_of_a_message_is_its_start_line_without_control_characters() {
        let text = HEAD.replacen("sip:a@h", "sip:\u{e9}@h", 1);
        let message = parsed(&format!("{text}Subject: secret\r\n\r\n")).unwrap();
        assert_eq!(format!("{message:?}"), "Message(OPTIONS sip:\\xc3\\xa9@h SIP/2.0)");
        assert_eq!(message.uri().unwrap().to_string(), "sip:\\xc3\\xa9@h");
        assert_eq!(format!("{:?}", message.uri().unwrap()), "Uri(sip:\\xc3\\xa9@h)");
    }

    #[test]
    fn hops_beyond_255_count_as_none_given_and_a_media_type_is_told_without_its_parameters() {
        assert_eq!(with("Max-Forwards: 255\r\n").unwrap().max_forwards(), Some(255));
        assert_eq!(with("Max-Forwards: 256\r\n").unwrap().max_forwards(), None);
        let typed = with("c: application/sdp ;charset=utf-8\r\n").unwrap();
        assert_eq!(typed.content_type(), Some(&b"application/sdp"[..]));
    }

    #[test]
    fn a_call_id_is_one_word() {
        for bad in ["", " ", "c d", "c\r\n d"] {
            let text = HEAD.replacen("Call-ID:c@h", &format!("Call-ID: {bad}"), 1);
            let refused = parsed(&format!("{text}\r\n")).err();
            assert_eq!(refused, Some(ParseError::Malformed(HeaderId::CallId)), "{bad:?}");
        }
    }

    #[test]
    fn repeated_single_headers_are_refused_whatever_they_say() {
        for line in ["From: <sip:f@h>;tag=1", "t: <sip:t@h>", "i: c@h", "CSEQ: 7 OPTIONS"] {
            assert!(matches!(with(&format!("{line}\r\n")), Err(ParseError::Repeated(_))), "{line}");
        }
        assert!(matches!(
            with("l: 0\r\nContent-Length: 0\r\n"),
            Err(ParseError::Repeated(HeaderId::ContentLength))
        ));
    }

    #[test]
    fn lengths_are_digits_that_fit_what_came() {
        let body = |length: &str| parsed(&format!("{HEAD}l: {length}\r\n\r\nabc"));
        assert_eq!(body("3").unwrap().body(), "abc");
        let cut = body("2").unwrap();
        assert_eq!((cut.body(), cut.bytes().ends_with(b"ab")), (Bytes::from_static(b"ab"), true));
        assert_eq!(body("4").err(), Some(ParseError::BodyTruncated));
        assert_eq!(body("18446744073709551617").err(), Some(ParseError::BodyTooLong));
        for bad in ["-1", "+3", "3 3", "", "0x3"] {
            assert_eq!(body(bad).err(), Some(ParseError::Malformed(HeaderId::ContentLength)), "{bad:?}");
        }
    }

    #[test]
    fn start_lines_have_two_single_spaces_and_version_two() {
        let full =
            |text: &str| parsed(&format!("{}\r\n", HEAD.replacen("OPTIONS sip:a@h SIP/2.0", text, 1))).err();
        assert_eq!(full("OPTIONS sip:a@h SIP/7.0"), Some(ParseError::VersionNotSupported));
        assert_eq!(full("OPTIONS  sip:a@h SIP/2.0"), Some(ParseError::StartLineMalformed));
        assert_eq!(full("OPTIONS sip:a@h SIP/2.0 "), Some(ParseError::StartLineMalformed));
        assert_eq!(full("OPTIONS sip:a@h?Route=x SIP/2.0"), Some(ParseError::RequestUriMalformed));
        assert_eq!(full("OPTIONS <sip:a@h> SIP/2.0"), Some(ParseError::RequestUriMalformed));
        assert_eq!(full("INVITE sip:a@h SIP/2.0"), Some(ParseError::MethodMismatch));
        assert_eq!(full("SIP/2.0 99 x"), Some(ParseError::StatusOutOfRange));
        assert_eq!(full("SIP/2.0 4294967301 better"), Some(ParseError::StatusOutOfRange));
        assert_eq!(full("SIP/2.0 2x0 OK"), Some(ParseError::StartLineMalformed));
        assert_eq!(full("SIP/2.0 200"), None);
        let response =
            parsed(&format!("{}\r\n", HEAD.replacen("OPTIONS sip:a@h SIP/2.0", "SIP/2.0 200", 1))).unwrap();
        assert!(response.is_response() && !response.is_request() && response.request_uri().is_empty());
        assert_eq!((response.status(), response.reason()), (StatusCode::new(200), Bytes::new()));
    }

    #[test]
    fn every_limit_is_kept() {
        let limits = Limits { header_lines_max: 6, ..Limits::default() };
        let text = Bytes::from(format!("{HEAD}A: 1\r\nB: 2\r\n\r\n"));
        assert_eq!(Message::parse(text, &limits).err(), Some(ParseError::TooManyHeaders));
        assert_eq!(
            with(&format!("A: {}\r\n", "x".repeat(20_000))).err(),
            Some(ParseError::HeaderBlockTooLong)
        );
        let long = format!("OPTIONS sip:{} SIP/2.0\r\n\r\n", "a".repeat(5000));
        assert_eq!(parsed(&long).err(), Some(ParseError::StartLineTooLong));
    }

    #[test]
    fn every_limit_is_the_last_size_that_passes() {
        let body = "b".repeat(9);
        let whole = format!("{HEAD}l: 9\r\n\r\n{body}");
        let exact = Limits {
            header_block_bytes_max: whole.len() - body.len(),
            header_lines_max: 6,
            body_bytes_max: body.len(),
            start_line_bytes_max: HEAD.find('\r').unwrap(),
        };
        let result = |limits: Limits| {
            Message::parse(Bytes::from(whole.clone()), &limits).map(|message| message.body())
        };
        assert_eq!(result(exact), Ok(Bytes::from(body)));
        let less = |change: fn(&mut Limits)| {
            let mut limits = exact;
            change(&mut limits);
            result(limits).err()
        };
        assert_eq!(less(|limits| limits.header_block_bytes_max -= 1), Some(ParseError::HeaderBlockTooLong));
        assert_eq!(less(|limits| limits.header_lines_max -= 1), Some(ParseError::TooManyHeaders));
        assert_eq!(less(|limits| limits.body_bytes_max -= 1), Some(ParseError::BodyTooLong));
        assert_eq!(less(|limits| limits.start_line_bytes_max -= 1), Some(ParseError::StartLineTooLong));
    }

    #[test]
    fn a_header_block_without_an_end_is_unterminated_and_not_too_long() {
        for text in ["", "OPTIONS sip:a@h SIP/2.0", "OPTIONS sip:a@h SIP/2.0\r\nA: b\r\n", HEAD] {
            assert_eq!(parsed(text).err(), Some(ParseError::HeaderBlockUnterminated), "{text:?}");
        }
    }

    #[test]
    fn latin1_passes_and_stray_line_ends_do_not() {
        let mut bytes = format!("{HEAD}Subject: caf").into_bytes();
        bytes.extend_from_slice(b"\xe9\r\n\r\n");
        assert!(Message::parse(Bytes::from(bytes), &Limits::default()).is_ok());
        assert_eq!(with("A: b\nVia: x\r\n").err(), Some(ParseError::ForbiddenByte));
        assert_eq!(with("A: b\rVia: x\r\n").err(), Some(ParseError::ForbiddenByte));
        assert_eq!(with("A: \0\r\n").err(), Some(ParseError::ForbiddenByte));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = Message::parse(Bytes::from(bytes), &Limits::default());
        }

        #[test]
        fn a_message_with_bytes_changed_never_panics_in_any_typed_form(
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..8),
        ) {
            let mut bytes = format!("{HEAD}m: <sip:a@h>;q=0.5,\"q\" <sip:b>\r\nDiversion: \"x\" <sip:d>;reason=z\r\n\r\n").into_bytes();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Ok(message) = Message::parse(Bytes::from(bytes), &Limits::default()) {
                let _ = (message.top_via(), message.contacts(), crate::Diversion::of(&message), message.uri());
                prop_assert!(message.from().is_ok() && message.to().is_ok() && message.top_via().is_ok());
                message.headers().for_each(|header| drop(header.value()));
            }
        }
    }
}
