//! Prints messages straight into one buffer. A value that would break the header block is never written: the
//! builder remembers it and refuses to finish.

use crate::wire::scan::{has_blank_line, has_forbidden, is_token};
use crate::{HeaderId, Message, Method, StatusCode};
use bytes::{BufMut, Bytes, BytesMut};

/// First size of the buffer: most requests of a call fit.
const FIRST_CAPACITY: usize = 1024;

/// Why a message was not built.
#[derive(Copy, Clone, Eq, PartialEq, Debug, thiserror::Error)]
#[allow(missing_docs)] // the message says it
pub enum BuildError {
    #[error("CR, LF or NUL in a value")]
    ForbiddenByte,
    #[error("header name is not a token")]
    NameMalformed,
    #[error("block of header lines does not end in CRLF")]
    BlockUnterminated,
}

/// A message being printed.
#[derive(Debug)]
pub struct Builder {
    out: BytesMut,
    fault: Option<BuildError>,
}

impl Builder {
    /// Starts a request.
    pub fn request(method: &Method, uri: &[u8]) -> Builder {
        let mut builder = Builder::empty();
        builder.check_value(method.as_bytes());
        builder.check_value(uri);
        if uri.is_empty() || uri.contains(&b' ') {
            builder.fault = Some(BuildError::ForbiddenByte);
        }
        builder.put(&[method.as_bytes(), b" ", uri, b" SIP/2.0\r\n"]);
        builder
    }

    /// Starts a response; an empty reason stays empty.
    pub fn response(status: StatusCode, reason: &[u8]) -> Builder {
        let mut builder = Builder::empty();
        builder.check_value(reason);
        builder.put(&[b"SIP/2.0 ", &status.digits(), b" ", reason, b"\r\n"]);
        builder
    }

    /// Adds a header line. `HeaderId::Other` has no name and is refused: use `raw_header`.
    pub fn header(self, id: HeaderId, value: impl AsRef<[u8]>) -> Builder {
        self.raw_header(id.name().as_bytes(), value.as_ref())
    }

    /// Adds a header line under any name. Folds of a received value are let through, other line ends are not.
    pub fn raw_header(mut self, name: &[u8], value: &[u8]) -> Builder {
        if !is_token(name) {
            self.fault = Some(BuildError::NameMalformed);
        }
        self.check_value(value);
        self.put(&[name, b": ", value, b"\r\n"]);
        self
    }

    /// Adds a To line with a tag.
    fn tagged(mut self, value: &[u8], tag: &[u8]) -> Builder {
        self.check_value(value);
        self.check_value(tag);
        self.put(&[b"To: ", value, b";tag=", tag, b"\r\n"]);
        self
    }

    /// Adds complete header lines that were printed before.
    pub fn block(mut self, lines: &[u8]) -> Builder {
        if !lines.is_empty()
            && (!lines.ends_with(b"\r\n") || lines.starts_with(b"\r\n") || has_blank_line(lines))
        {
            self.fault = Some(BuildError::BlockUnterminated);
        }
        self.put(&[lines]);
        self
    }

    /// Ends the message: Content-Type when given, Content-Length always, blank line, body.
    pub fn finish(mut self, content_type: Option<&[u8]>, body: &[u8]) -> Result<Bytes, BuildError> {
        if let Some(content_type) = content_type {
            self = self.header(HeaderId::ContentType, content_type);
        }
        self.put(&[b"Content-Length: "]);
        if self.fault.is_none() {
            put_decimal(&mut self.out, body.len());
        }
        self.put(&[b"\r\n\r\n", body]);
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(self.out.freeze()),
        }
    }

    fn empty() -> Builder {
        Builder { out: BytesMut::with_capacity(FIRST_CAPACITY), fault: None }
    }

    fn put(&mut self, pieces: &[&[u8]]) {
        if self.fault.is_none() {
            pieces.iter().for_each(|piece| self.out.put_slice(piece));
        }
    }

    fn check_value(&mut self, value: &[u8]) {
        if breaks_line(value) {
            self.fault = Some(BuildError::ForbiddenByte);
        }
    }
}

/// Prints a number.
pub(crate) fn put_decimal(out: &mut BytesMut, value: usize) {
    let mut digits = [0u8; 20];
    let (mut at, mut rest) = (digits.len(), value);
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}

/// CR, LF or NUL anywhere but in a fold or a quoted-pair of a received value.
fn breaks_line(value: &[u8]) -> bool {
    let bad = |at: usize| match value[at] {
        0 => at == 0 || value[at - 1] != b'\\',
        b'\r' => value.get(at + 1) != Some(&b'\n'),
        b'\n' => {
            let folded = matches!(value.get(at + 1), Some(b' ' | b'\t'));
            at == 0 || value[at - 1] != b'\r' || !folded
        }
        _ => false,
    };
    has_forbidden(value) && (0..value.len()).any(bad)
}

/// Starts the response to a request with what RFC 3261 §8.2.6.2 copies: Via, From, To (with `to_tag` when it has no
/// tag), Call-ID, CSeq, Timestamp on a 100, and Record-Route on dialog-forming responses (§12.1.1).
pub fn response_to(
    request: &Message,
    status: StatusCode,
    reason: Option<&[u8]>,
    to_tag: Option<&[u8]>,
) -> Builder {
    let reason = reason.unwrap_or(status.default_reason().as_bytes());
    let mut builder = Builder::response(status, reason);
    let mut vias = request.stamped_via().into_iter();
    for header in request.headers() {
        builder = match header.id {
            HeaderId::Via => builder.header(header.id, vias.next().unwrap_or(header.raw)),
            HeaderId::From | HeaderId::CallId | HeaderId::CSeq => builder.header(header.id, header.raw),
            HeaderId::To => {
                match to_tag.filter(|_| request.to_tag().is_none() && status != StatusCode::TRYING) {
                    Some(tag) => builder.tagged(header.raw, tag),
                    None => builder.header(HeaderId::To, header.raw),
                }
            }
            HeaderId::RecordRoute if forms_dialog(request.method(), status) => {
                builder.header(header.id, header.raw)
            }
            HeaderId::Timestamp if status == StatusCode::TRYING => builder.header(header.id, header.raw),
            _ => builder,
        };
    }
    builder
}

fn forms_dialog(method: &Method, status: StatusCode) -> bool {
    let method_does = matches!(method, Method::Invite | Method::Subscribe | Method::Refer | Method::Notify);
    method_does && status != StatusCode::TRYING && status.class() <= 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    fn request(to: &str) -> Message {
        let text = format!(
            "INVITE sip:a SIP/2.0\r\nv: SIP/2.0/TCP h;branch=z9hG4bK1\r\nVIA: SIP/2.0/UDP i\r\nRecord-Route: <sip:p;lr>\r\n\
             From: <sip:f>;tag=1\r\nTo: {to}\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nTimestamp: 5\r\nSubject: s\r\n\r\n"
        );
        Message::parse(Bytes::from(text), &Limits::default()).unwrap()
    }

    #[test]
    fn a_built_request_parses_as_what_was_put_in() {
        let builder =
            Builder::request(&Method::Message, b"sip:a@h").block(b"Via: SIP/2.0/TCP h;branch=z9hG4bK1\r\n");
        let builder = builder.header(HeaderId::From, "<sip:f>;tag=1").header(HeaderId::To, "<sip:t>");
        let builder = builder
            .header(HeaderId::CallId, b"c")
            .header(HeaderId::CSeq, "1 MESSAGE")
            .raw_header(b"X-A", b"b\r\n c");
        let bytes = builder.finish(Some(b"text/plain"), b"hello").unwrap();
        let message = Message::parse(bytes.clone(), &Limits::default()).unwrap();
        assert_eq!(
            (message.body(), message.content_type()),
            (Bytes::from_static(b"hello"), Some(&b"text/plain"[..]))
        );
        assert_eq!(message.bytes(), &bytes);
        assert_eq!(message.header_named("x-a"), Some(&b"b\r\n c"[..]));
    }

    #[test]
    fn nothing_that_ends_a_line_is_ever_written() {
        let ok = || Builder::request(&Method::Bye, b"sip:a");
        for bad in [&b"a\r\nEvil: 1"[..], b"a\n", b"\n b", b"a\r", b"a\0", b"a\r\n"] {
            assert_eq!(ok().header(HeaderId::Subject, bad).finish(None, b""), Err(BuildError::ForbiddenByte));
            assert!(ok().finish(Some(bad), b"").is_err());
            assert!(Builder::response(StatusCode::OK, bad).finish(None, b"").is_err());
            assert!(Builder::request(&Method::Bye, bad).finish(None, b"").is_err());
        }
        assert!(Builder::request(&Method::Bye, b"sip:a b").finish(None, b"").is_err());
        assert!(ok().raw_header(b"A B", b"x").finish(None, b"").is_err());
        assert!(ok().header(HeaderId::Other, "x").finish(None, b"").is_err());
        assert!(ok().block(b"A: b").finish(None, b"").is_err());
        assert!(ok().block(b"A: b\r\n\r\nINVITE").finish(None, b"").is_err());
    }

    #[test]
    fn a_response_copies_what_it_must_and_adds_the_tag_once() {
        let bytes = response_to(&request("<sip:t>"), StatusCode::RINGING, None, Some(b"z"))
            .finish(None, b"")
            .unwrap();
        let expected: &[u8] = b"SIP/2.0 180 Ringing\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP i\r\n\
            Record-Route: <sip:p;lr>\r\nFrom: <sip:f>;tag=1\r\nTo: <sip:t>;tag=z\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
        let tagged = response_to(&request("<sip:t>;tag=y"), StatusCode::NOT_FOUND, Some(b"No"), Some(b"z"));
        let tagged = Message::parse(tagged.finish(None, b"").unwrap(), &Limits::default()).unwrap();
        assert_eq!((tagged.to_tag(), tagged.reason()), (Some(&b"y"[..]), Bytes::from_static(b"No")));
        assert!(tagged.header(HeaderId::RecordRoute).is_none());
        let trying =
            response_to(&request("<sip:t>"), StatusCode::TRYING, None, Some(b"z")).finish(None, b"").unwrap();
        let trying = Message::parse(trying, &Limits::default()).unwrap();
        assert_eq!((trying.to_tag(), trying.header(HeaderId::Timestamp)), (None, Some(&b"5"[..])));
    }
}
