//! How large a message may be. Every limit has a name; nothing is buffered or reserved beyond them.

/// Start line, header lines and the blank line.
pub const HEADER_BLOCK_BYTES_MAX: usize = 16 * 1024;
/// Header lines of one message, folded lines counted once.
pub const HEADER_LINES_MAX: usize = 128;
/// Body of one message.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Request line or status line without its CRLF.
pub const START_LINE_BYTES_MAX: usize = 4 * 1024;
/// Bytes that may be pushed into a framer ahead of polling, beyond one whole message.
pub const PUSH_BYTES_MAX: usize = 256 * 1024;

/// The limits of one listener or peer.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct Limits {
    /// Start line, header lines and blank line, in bytes.
    pub header_block_bytes_max: usize,
    /// Header lines, folded ones counted once.
    pub header_lines_max: usize,
    /// Body, in bytes.
    pub body_bytes_max: usize,
    /// Start line without CRLF, in bytes.
    pub start_line_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            header_block_bytes_max: HEADER_BLOCK_BYTES_MAX,
            header_lines_max: HEADER_LINES_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            start_line_bytes_max: START_LINE_BYTES_MAX,
        }
    }
}
