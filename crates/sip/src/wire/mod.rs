//! The wire layer: framing of streams, a lossless index over one message, header names, limits and the refusal
//! of what cannot be parsed. It decides whether bytes are a SIP message, never what the message asks for.

mod error;
mod framer;
mod header_id;
mod limits;
mod message;
mod parse;
mod reject;
pub(crate) mod scan;

pub use error::{FrameError, FrameFault, ParseError};
pub use framer::{Frame, Framer};
pub use header_id::HeaderId;
pub use limits::{
    BODY_BYTES_MAX, HEADER_BLOCK_BYTES_MAX, HEADER_LINES_MAX, Limits, PUSH_BYTES_MAX, START_LINE_BYTES_MAX,
};
pub use message::{Header, Message};
pub use reject::reject_bytes;
