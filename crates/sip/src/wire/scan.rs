//! Byte-level cutting: tokens, white space, the end of the header block and header lines. No meaning here.

use memchr::{memchr, memchr2, memchr3};
use std::ops::Range;

/// By byte: whether it is a character of `token`.
static TOKEN: [bool; 256] = token_table();

const fn token_table() -> [bool; 256] {
    let mut table = [false; 256];
    let mut at = 0;
    while at < table.len() {
        let byte = at as u8;
        table[at] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
        at += 1;
    }
    table
}

/// SP, HT and the CR and LF of a folded line.
pub(crate) fn is_lws(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// A character of `token` (RFC 3261 §25.1).
pub(crate) fn is_token_char(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// A non-empty run of token characters.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_char)
}

/// The slice without white space on both ends.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes {
        if !is_lws(*first) {
            break;
        }
        bytes = rest;
    }
    while let [rest @ .., last] = bytes {
        if !is_lws(*last) {
            break;
        }
        bytes = rest;
    }
    bytes
}

/// Trims a range of `bytes` on both ends.
pub(crate) fn trim_range(bytes: &[u8], range: Range<usize>) -> Range<usize> {
    let (mut start, mut end) = (range.start, range.end);
    while start < end && is_lws(bytes[start]) {
        start += 1;
    }
    while end > start && is_lws(bytes[end - 1]) {
        end -= 1;
    }
    start..end
}

/// A decimal number of digits only; `None` for anything else or on overflow.
pub(crate) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// A decimal number that fits 32 bits.
pub(crate) fn decimal_u32(bytes: &[u8]) -> Option<u32> {
    decimal(bytes).and_then(|value| u32::try_from(value).ok())
}

/// Where the next CRLF stands at or after `from`. A CR or LF that stands alone is not one.
pub(crate) fn find_crlf(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr(b'\r', bytes.get(at..)?)?;
        if bytes.get(at + 1) == Some(&b'\n') {
            return Some(at);
        }
        at += 1;
    }
}

/// Index just behind the CRLF CRLF that ends a header block, looking from `from` on.
pub(crate) fn find_block_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(tail) = bytes.get(at..).filter(|tail| tail.len() >= 4) {
        let found = memchr(b'\r', tail)?;
        at += found;
        match bytes.get(at..at + 4) {
            Some(b"\r\n\r\n") => return Some(at + 4),
            Some(_) => at += 1,
            None => return None,
        }
    }
    None
}

/// Whether a line holds CR, LF or NUL.
pub(crate) fn has_forbidden(line: &[u8]) -> bool {
    memchr3(b'\r', b'\n', 0, line).is_some()
}

/// Whether an empty line stands among these lines.
pub(crate) fn has_blank_line(lines: &[u8]) -> bool {
    memchr::memmem::find(lines, b"\r\n\r\n").is_some()
}

/// Whether a folded value stands here.
pub(crate) fn has_fold(raw: &[u8]) -> bool {
    memchr2(b'\r', b'\n', raw).is_some()
}

/// One header line with its folds: where name and value stand and where the next line starts.
pub(crate) struct Line {
    pub name: Range<usize>,
    /// Trimmed, folds kept.
    pub value: Range<usize>,
    pub next: usize,
}

/// Why a header line cannot be cut.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum LineFault {
    Malformed,
    ForbiddenByte,
}

/// Cuts the header line starting at `start` of a header block that ends (behind its last line's CRLF) at `end`.
/// NUL is let through only as a quoted-pair, because that is the one place RFC 3261 §25.1 has it.
pub(crate) fn cut_line(bytes: &[u8], start: usize, end: usize) -> Result<Line, LineFault> {
    let mut name_end = start;
    while name_end < end && is_token_char(bytes[name_end]) {
        name_end += 1;
    }
    let mut colon = name_end;
    while colon < end && matches!(bytes[colon], b' ' | b'\t') {
        colon += 1;
    }
    if name_end == start || colon >= end || bytes[colon] != b':' {
        return Err(LineFault::Malformed);
    }
    let mut at = colon + 1;
    while let Some(found) = memchr3(b'\r', b'\n', 0, bytes.get(at..end).unwrap_or_default()) {
        at += found;
        match bytes[at] {
            b'\r' if bytes.get(at + 1) == Some(&b'\n') => {
                let next = at + 2;
                if next < end && matches!(bytes[next], b' ' | b'\t') {
                    at = next;
                    continue;
                }
                let value = trim_range(bytes, colon + 1..at);
                return Ok(Line { name: start..name_end, value, next });
            }
            b'\r' | b'\n' => return Err(LineFault::ForbiddenByte),
            0 if bytes[at - 1] != b'\\' => return Err(LineFault::ForbiddenByte),
            _ => at += 1,
        }
    }
    Err(LineFault::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits_only_and_never_wrap() {
        assert_eq!(decimal_u32(b"0068"), Some(68));
        assert_eq!(decimal_u32(b"4294967295"), Some(u32::MAX));
        for bad in [&b""[..], b"-1", b"+1", b"1 ", b"4294967296", b"36893488147419103232", b"0x1"] {
            assert_eq!(decimal_u32(bad), None);
        }
        assert_eq!(decimal(b"18446744073709551616"), None);
    }

    #[test]
    fn the_end_of_a_block_is_found_from_any_resumption_point_before_it() {
        let bytes = b"A: b\r\n\r\r\n\r\nbody";
        for from in 0..=7 {
            assert_eq!(find_block_end(bytes, from), Some(11));
        }
        assert_eq!(find_block_end(b"A: b\r\n\r", 0), None);
        assert_eq!(find_block_end(b"A: b\n\n", 0), None);
    }

    #[test]
    fn a_folded_line_is_one_line_with_its_folds_kept() {
        let bytes = b"To \t:\r\n  a\r\n\tb \r\nX: y\r\n";
        let line = cut_line(bytes, 0, bytes.len()).map(|line| (line.name, line.value, line.next));
        assert_eq!(line, Ok((0..2, 9..14, 17)));
        assert_eq!(&bytes[9..14], b"a\r\n\tb");
    }

    #[test]
    fn bare_line_ends_and_unquoted_nul_are_refused() {
        for bad in [&b"A: b\nC: d\r\n"[..], b"A: b\rC\r\n", b"A: \0\r\n"] {
            assert_eq!(cut_line(bad, 0, bad.len()).err(), Some(LineFault::ForbiddenByte));
        }
        for bad in [&b" A: b\r\n"[..], b": b\r\n", b"A\r\n", b"A b: c\r\n", b"A: b"] {
            assert_eq!(cut_line(bad, 0, bad.len()).err(), Some(LineFault::Malformed));
        }
        assert!(cut_line(b"A: \"\\\0\"\r\n", 0, 9).is_ok());
    }
}
