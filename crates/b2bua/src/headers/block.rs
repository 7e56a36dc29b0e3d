//! Complete header lines in one buffer. Owns the rule that no control character ever becomes part of a line.

use bytes::{BufMut, Bytes, BytesMut};
use sip::HeaderId;

/// First size of the buffer: the lines of most messages fit.
const FIRST_CAPACITY: usize = 1024;

/// Complete header lines, CRLF included.
pub(crate) struct Block {
    lines: BytesMut,
    left_out: u32,
}

impl Default for Block {
    fn default() -> Self {
        Self { lines: BytesMut::with_capacity(FIRST_CAPACITY), left_out: 0 }
    }
}

impl Block {
    /// Adds a line; one with a control character in it is left out.
    pub fn line(&mut self, name: &[u8], value: &[u8]) -> &mut Self {
        if name.is_empty() || !is_clean(name) || !is_clean(value) {
            self.left_out += 1;
            return self;
        }
        self.lines.reserve(name.len() + value.len() + 4);
        self.lines.put_slice(name);
        self.lines.put_slice(b": ");
        self.lines.put_slice(value);
        self.lines.put_slice(b"\r\n");
        self
    }

    /// Adds a line with a registered name.
    pub fn header(&mut self, id: HeaderId, value: impl AsRef<[u8]>) -> &mut Self {
        self.line(id.name().as_bytes(), value.as_ref())
    }

    /// Lines left out so far.
    pub fn left_out(&self) -> u32 {
        self.left_out
    }

    /// The lines.
    pub fn finish(self) -> Bytes {
        self.lines.freeze()
    }
}

/// No C0 control but the tab, no DEL, no C1 control in UTF-8 (RFC 3261 §25.1: TEXT-UTF8char has none of them).
pub(crate) fn is_clean(bytes: &[u8]) -> bool {
    // Without an early exit, so that the compiler makes one pass of wide steps of it.
    let suspects = |bytes: &[u8]| bytes.iter().fold(false, |any, b| any | is_suspect(*b));
    !suspects(bytes) || !has_control(bytes)
}

const fn is_suspect(byte: u8) -> bool {
    (byte < 0x20) | (byte == 0x7f) | (byte == 0xc2)
}

fn has_control(bytes: &[u8]) -> bool {
    let is_c0 = |b: &u8| (*b < 0x20 && *b != b'\t') || *b == 0x7f;
    bytes.iter().any(is_c0)
        || bytes.windows(2).any(|pair| pair[0] == 0xc2 && (0x80..=0x9f).contains(&pair[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_could_end_a_line_or_steer_a_terminal_never_becomes_a_line() {
        let mut block = Block::default();
        block.line(b"Subject", b"a\r\nVia: x").line(b"X\n", b"y").line(b"", b"y").line(b"Subject", b"ok\tok");
        for control in (0..0x20).filter(|b| *b != b'\t').chain([0x7f]) {
            block.line(b"Subject", &[b'a', control, b'b']);
        }
        block.line(b"Subject", "a\u{9b}31m".as_bytes());
        block.line(b"Subject", "Gr\u{fc}\u{df}e, \u{a0}\u{c2}".as_bytes());
        assert_eq!(block.left_out(), 3 + 32 + 1);
        let expected = "Subject: ok\tok\r\nSubject: Gr\u{fc}\u{df}e, \u{a0}\u{c2}\r\n";
        assert_eq!(block.finish(), expected.as_bytes());
    }
}
