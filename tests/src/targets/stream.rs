//! Framing: how a stream is cut into reads never changes what is read.

use bytes::Bytes;
use sip::{Frame, Framer, Limits};

/// Bytes that may be buffered for one message that is not whole.
const BUFFERED_MAX: usize = 1 << 20;

/// The first byte says how many sizes of reads follow, then come the sizes, then the stream.
pub fn stream(input: &[u8]) {
    let Some((count, rest)) = input.split_first() else { return };
    let (sizes, stream) = rest.split_at(usize::from(count % 16).min(rest.len()));
    let whole = frames(std::iter::once(stream));
    let mut chunks = Vec::new();
    let mut left = stream;
    let mut sizes = sizes.iter().cycle();
    while !left.is_empty() {
        let size = sizes.next().map_or(1, |size| usize::from(*size) + 1).min(left.len());
        let (chunk, tail) = left.split_at(size);
        chunks.push(chunk);
        left = tail;
    }
    assert_eq!(frames(chunks.into_iter()), whole, "reads change what a stream holds");
}

// Messages, and whether framing was lost at the end.
fn frames<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Bytes>, bool) {
    let mut framer = Framer::new(Limits::default());
    let mut messages = Vec::new();
    for chunk in chunks {
        framer.push(chunk);
        loop {
            match framer.poll() {
                Ok(Some(Frame::Message(bytes))) => messages.push(bytes),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return (messages, true),
            }
        }
        assert!(framer.buffered() <= BUFFERED_MAX, "a stream is buffered without bound");
    }
    (messages, false)
}
