//! Which part of a SIP body is the session description (protocol facts: Lync sends two alternatives, old ICE
//! first). Owns MIME framing as far as that needs it; hands out a slice and copies nothing.

use crate::limits::{BODY_DEPTH_MAX, BODY_PARTS_MAX, BOUNDARY_BYTES_MAX, PART_HEADER_BYTES_MAX};
use crate::session::Session;

/// Why no description can be found in a body.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Neither `application/sdp` nor a multipart type we read.
    #[error("content type is neither application/sdp nor multipart")]
    ContentType,
    /// A multipart type without a valid boundary.
    #[error("multipart body without a valid boundary")]
    Boundary,
    /// More than [`BODY_PARTS_MAX`] parts.
    #[error("more than {BODY_PARTS_MAX} body parts")]
    Parts,
    /// Nested deeper than [`BODY_DEPTH_MAX`].
    #[error("multipart body nested deeper than {BODY_DEPTH_MAX}")]
    Depth,
    /// No part is a description with audio that we could use.
    #[error("no usable session description among the body parts")]
    NoUsablePart,
}

/// Finds the session description: an `application/sdp` body as it is (parsing it tells whether it is good), of a
/// multipart body the last part with usable audio.
pub fn choose_body<'a>(content_type: &[u8], body: &'a [u8]) -> Result<&'a [u8], BodyError> {
    if is_type(content_type, b"application/sdp") {
        return Ok(body);
    }
    let mut search = Search { parts: 0, found: None };
    search.multipart(content_type, body, 1)?;
    search.found.ok_or(BodyError::NoUsablePart)
}

struct Search<'a> {
    parts: usize,
    found: Option<&'a [u8]>,
}

impl<'a> Search<'a> {
    fn multipart(&mut self, content_type: &[u8], body: &'a [u8], depth: usize) -> Result<(), BodyError> {
        if !is_multipart(content_type) {
            return Err(BodyError::ContentType);
        }
        if depth > BODY_DEPTH_MAX {
            return Err(BodyError::Depth);
        }
        let boundary = parameter(content_type, b"boundary").ok_or(BodyError::Boundary)?;
        if boundary.is_empty() || boundary.len() > BOUNDARY_BYTES_MAX {
            return Err(BodyError::Boundary);
        }
        let mut rest = Parts { rest: body, boundary };
        rest.skip_preamble();
        while let Some(part) = rest.next_part() {
            self.parts += 1;
            if self.parts > BODY_PARTS_MAX {
                return Err(BodyError::Parts);
            }
            self.part(part, depth)?;
        }
        Ok(())
    }

    fn part(&mut self, part: &'a [u8], depth: usize) -> Result<(), BodyError> {
        let Some((headers, content)) = split_headers(part) else { return Ok(()) };
        let content_type = header(headers, b"content-type").unwrap_or_default();
        if is_multipart(content_type) {
            return self.multipart(content_type, content, depth + 1);
        }
        if is_type(content_type, b"application/sdp") && is_plain_session(headers) && is_usable(content) {
            self.found = Some(content);
        }
        Ok(())
    }
}

fn is_usable(content: &[u8]) -> bool {
    let Ok(session) = Session::parse(content) else { return false };
    session.audio().is_some_and(|audio| audio.remote().is_some())
}

fn is_plain_session(headers: &[u8]) -> bool {
    let encoding = header(headers, b"content-transfer-encoding").map(main_value);
    let plain = encoding.is_none_or(|encoding| {
        [b"7bit".as_slice(), b"8bit", b"binary"].iter().any(|known| encoding.eq_ignore_ascii_case(known))
    });
    let disposition = header(headers, b"content-disposition").map(main_value);
    plain && disposition.is_none_or(|disposition| disposition.eq_ignore_ascii_case(b"session"))
}

struct Parts<'a, 'b> {
    rest: &'a [u8],
    boundary: &'b [u8],
}

impl<'a> Parts<'a, '_> {
    fn skip_preamble(&mut self) {
        self.next_part();
    }

    // The content up to the next delimiter line. What follows the closing delimiter (or a missing one) is no part.
    fn next_part(&mut self) -> Option<&'a [u8]> {
        let (whole, mut at) = (self.rest, 0);
        while at < whole.len() {
            let line_end = whole[at..].iter().position(|b| *b == b'\n').map_or(whole.len(), |n| at + n + 1);
            if let Some(closing) = self.delimiter(&whole[at..line_end]) {
                self.rest = if closing { &[] } else { &whole[line_end..] };
                return Some(without_line_end(&whole[..at]));
            }
            at = line_end;
        }
        self.rest = &[];
        None
    }

    fn delimiter(&self, line: &[u8]) -> Option<bool> {
        let tail = line.strip_prefix(b"--")?.strip_prefix(self.boundary)?;
        let closing = tail.strip_prefix(b"--");
        closing.unwrap_or(tail).trim_ascii().is_empty().then_some(closing.is_some())
    }
}

// The line end before a delimiter belongs to the delimiter (RFC 2046 §5.1.1).
fn without_line_end(part: &[u8]) -> &[u8] {
    let part = part.strip_suffix(b"\n").unwrap_or(part);
    part.strip_suffix(b"\r").unwrap_or(part)
}

fn split_headers(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    while at < part.len().min(PART_HEADER_BYTES_MAX) {
        let line_end = part[at..].iter().position(|b| *b == b'\n').map(|n| at + n + 1)?;
        if part[at..line_end].trim_ascii().is_empty() {
            return Some((&part[..at], &part[line_end..]));
        }
        at = line_end;
    }
    None
}

fn header<'a>(headers: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    headers.split(|b| *b == b'\n').find_map(|line| {
        let colon = line.iter().position(|b| *b == b':')?;
        line[..colon].trim_ascii().eq_ignore_ascii_case(name).then(|| line[colon + 1..].trim_ascii())
    })
}

fn main_value(value: &[u8]) -> &[u8] {
    value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii()
}

fn is_type(content_type: &[u8], wanted: &[u8]) -> bool {
    main_value(content_type).eq_ignore_ascii_case(wanted)
}

fn is_multipart(content_type: &[u8]) -> bool {
    is_type(content_type, b"multipart/alternative") || is_type(content_type, b"multipart/mixed")
}

// Parameters after the first `;`; a quoted value may hold `;` but, being a boundary, needs no escapes.
fn parameter<'a>(content_type: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut rest = content_type.splitn(2, |b| *b == b';').nth(1)?;
    loop {
        let equals = rest.iter().position(|b| *b == b'=' || *b == b';')?;
        let key = rest[..equals].trim_ascii();
        if rest[equals] == b';' {
            rest = &rest[equals + 1..];
            continue;
        }
        let after = rest[equals + 1..].trim_ascii_start();
        let (value, tail) = match after.strip_prefix(b"\"") {
            Some(quoted) => quoted.split_at(quoted.iter().position(|b| *b == b'"')?),
            None => after.split_at(after.iter().position(|b| *b == b';').unwrap_or(after.len())),
        };
        if key.eq_ignore_ascii_case(name) {
            return Some(value.trim_ascii_end());
        }
        let next = tail.iter().position(|b| *b == b';')?;
        rest = &tail[next + 1..];
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
