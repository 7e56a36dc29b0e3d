//! From and To on their way to the other leg: the tag comes off, ours comes on, and a display name that could steer
//! somebody's terminal is left behind.

use bytes::{BufMut, Bytes, BytesMut};

use super::block::is_clean;

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

#[cfg(test)]
mod tests {
    use super::*;

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
