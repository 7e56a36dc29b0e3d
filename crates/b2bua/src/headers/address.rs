//! From and To on their way to the other leg: the tag comes off, ours comes on, and a display name that could steer
//! somebody's terminal is left behind; so is what a body's type says beside the type.

use bytes::{BufMut, Bytes, BytesMut};
use sip::{HeaderId, Message};

use super::block::is_clean;

/// The type of bytes of which nothing is known (RFC 2046 §4.5.1).
const UNKNOWN_TYPE: &[u8] = b"application/octet-stream";

/// Adds our tag to a name-addr that has none.
pub(crate) fn with_tag(name_addr: &[u8], tag: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(name_addr.len() + tag.len() + 5);
    out.put_slice(name_addr);
    out.put_slice(b";tag=");
    out.put_slice(tag);
    out.freeze()
}

/// A From or To value without its tag, all other bytes kept. A bare URI gets its brackets, since
/// parameters behind it would otherwise belong to the URI (RFC 3261 §20).
pub(crate) fn without_tag(value: &[u8]) -> Bytes {
    let close = match closing_bracket(value) {
        Some(at) => at + 1,
        None => return bracketed(value),
    };
    let (address, params) = value.split_at(close.min(value.len()));
    let mut out = BytesMut::from(address);
    for param in split_params(params) {
        let name = param.split(|b| *b == b'=').next().unwrap_or_default().trim_ascii();
        if !name.eq_ignore_ascii_case(b"tag") && !name.is_empty() {
            out.put_u8(b';');
            out.put_slice(param.trim_ascii());
        }
    }
    out.freeze()
}

fn bracketed(value: &[u8]) -> Bytes {
    let uri = value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let mut out = BytesMut::with_capacity(uri.len() + 2);
    out.put_u8(b'<');
    out.put_slice(uri);
    out.put_u8(b'>');
    out.freeze()
}

// The '>' that ends the address: behind the display name's quotes.
fn closing_bracket(value: &[u8]) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    let mut open = false;
    for (at, byte) in value.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if !open => quoted = !quoted,
            b'<' if !quoted => open = true,
            b'>' if open => return Some(at),
            _ => {}
        }
    }
    None
}

fn split_params(params: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    params.split(move |b| {
        if *b == b'"' {
            quoted = !quoted;
        }
        *b == b';' && !quoted
    })
}

/// The value as it is, or without display name and parameters when control characters stand in them: an address has to
/// cross, so it cannot be left out like other headers. The URI itself was checked when it was parsed.
pub(crate) fn harmless(value: Bytes) -> Bytes {
    if is_clean(&value) {
        return value;
    }
    let open = value.iter().rposition(|b| *b == b'<');
    let close = closing_bracket(&value);
    match (open, close) {
        (Some(open), Some(close)) if open < close => value.slice(open..=close),
        _ => Bytes::new(),
    }
}

/// The type of a body that goes on as it is: without its parameters when control characters stand in them.
pub(crate) fn body_type(message: &Message) -> Bytes {
    let value = message.value_bytes(HeaderId::ContentType).unwrap_or_default();
    if is_clean(&value) {
        return value;
    }
    let end = value.iter().position(|b| *b == b';').unwrap_or(value.len());
    Some(value.slice(..end)).filter(|kind| is_clean(kind)).unwrap_or(Bytes::from_static(UNKNOWN_TYPE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_of_a_body_loses_what_could_steer_a_terminal() {
        let of = |value: &str| {
            let text = format!(
                "INFO sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\n\
                 Call-ID: 1\r\nCSeq: 1 INFO\r\nMax-Forwards: 70\r\nContent-Type: {value}\r\nContent-Length: 0\r\n\r\n"
            );
            body_type(&Message::parse(text.into(), &sip::Limits::default()).unwrap())
        };
        assert_eq!(of("text/plain;charset=\"UTF-8\""), "text/plain;charset=\"UTF-8\"");
        assert_eq!(of("text/plain;x=\"\u{1b}[2J\""), "text/plain");
        assert_eq!(of("text/\u{9b}1m;x=y"), "application/octet-stream");
    }

    #[test]
    fn a_tag_is_taken_off_and_everything_else_stays() {
        let cases: [(&[u8], &[u8]); 5] = [
            (b"\"Dana; <B>\"<sip:d@c.com;x=1>;tag=86;epid=c21", b"\"Dana; <B>\"<sip:d@c.com;x=1>;epid=c21"),
            (b"<sip:ken@c.com>;epid=3b", b"<sip:ken@c.com>;epid=3b"),
            (b"<sip:ken@c.com> ; TAG = 1", b"<sip:ken@c.com>"),
            (b"sip:ken@c.com;tag=5", b"<sip:ken@c.com>"),
            (b"<tel:+1425>;tag=a", b"<tel:+1425>"),
        ];
        for (given, wanted) in cases {
            assert_eq!(without_tag(given), wanted, "{}", given.escape_ascii());
        }
    }

    #[test]
    fn control_characters_of_a_display_name_stay_behind_with_it() {
        let of = |text: &'static [u8]| harmless(Bytes::from_static(text));
        assert_eq!(of(b"\"Dana\"<sip:d@c.com>;epid=1"), &b"\"Dana\"<sip:d@c.com>;epid=1"[..]);
        assert_eq!(of(b"\"\x1b[2J\"<sip:d@c.com>;epid=1"), &b"<sip:d@c.com>"[..]);
        assert_eq!(of(b"\"a<b\\\x07\"<sip:d@c.com>"), &b"<sip:d@c.com>"[..]);
        assert_eq!(of(b"sip:\x1bd@c.com"), &b""[..]);
    }
}
