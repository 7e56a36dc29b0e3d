//! A refusal of a request that does not parse: copies what a response must carry from whatever header lines can be
//! cut. It answers neither responses nor ACK, and knows nothing of transactions.

use super::scan::{cut_line, find_block_end, find_crlf};
use crate::{HeaderId, StatusCode};
use bytes::{Bytes, BytesMut};

const COPIED: [HeaderId; 5] = [HeaderId::Via, HeaderId::From, HeaderId::To, HeaderId::CallId, HeaderId::CSeq];

/// A complete response refusing the request whose (possibly malformed or unterminated) header block is `head`;
/// `None` when the bytes are a response, an ACK, or hold no Via. `to_tag` is added to a To without a tag.
pub fn reject_bytes(head: &[u8], status: StatusCode, to_tag: Option<&[u8]>) -> Option<Bytes> {
    let first_line_end = find_crlf(head, 0)?;
    let start_line = &head[..first_line_end];
    if start_line.starts_with(b"SIP/") || start_line.starts_with(b"ACK ") {
        return None;
    }
    let mut out = BytesMut::with_capacity(512);
    out.extend_from_slice(format!("SIP/2.0 {status} {}\r\n", status.default_reason()).as_bytes());
    let end = find_block_end(head, first_line_end).map_or(head.len(), |end| end - 2);
    let mut at = first_line_end + 2;
    let mut copied = [false; COPIED.len()];
    while at < end {
        let Ok(line) = cut_line(head, at, end) else {
            let Some(next) = find_crlf(head, at) else { break };
            at = next + 2;
            continue;
        };
        let id = HeaderId::from_name(&head[line.name]);
        if let Some(which) = COPIED.iter().position(|known| *known == id) {
            if id == HeaderId::Via || !copied[which] {
                write_line(&mut out, id, &head[line.value], to_tag);
            }
            copied[which] = true;
        }
        at = line.next;
    }
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    copied[0].then(|| out.freeze())
}

fn write_line(out: &mut BytesMut, id: HeaderId, value: &[u8], to_tag: Option<&[u8]>) {
    out.extend_from_slice(id.name().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    if let (HeaderId::To, Some(tag), false) = (id, to_tag, mentions_tag(value)) {
        out.extend_from_slice(b";tag=");
        out.extend_from_slice(tag);
    }
    out.extend_from_slice(b"\r\n");
}

fn mentions_tag(value: &[u8]) -> bool {
    value.windows(4).any(|window| window.eq_ignore_ascii_case(b"tag="))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_copies_each_via_and_the_first_of_the_other_lines() {
        let head = b"OPTIONS sip:a SIP/2.0\r\nv: SIP/2.0/TCP h;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP i\r\nbroken line\r\n\
            From: <sip:f>;tag=1\r\nTo: <sip:t>\r\nTo: <sip:u>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nX: y\r\n\r\n";
        let expected = "SIP/2.0 400 Bad Request\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nVia: SIP/2.0/UDP i\r\n\
            From: <sip:f>;tag=1\r\nTo: <sip:t>;tag=z\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
        let refusal = reject_bytes(head, StatusCode::BAD_REQUEST, Some(b"z")).unwrap();
        assert_eq!(refusal.escape_ascii().to_string(), expected.escape_default().to_string());
    }

    #[test]
    fn a_to_with_a_tag_keeps_it_and_a_head_without_an_end_is_answered_too() {
        let head = b"BYE sip:a SIP/2.0\r\nVia: SIP/2.0/TCP h\r\nTo: <sip:t>;TAG=2\r\nCall-";
        let refusal = reject_bytes(head, StatusCode::BAD_REQUEST, Some(b"z")).unwrap();
        let expected =
            "SIP/2.0 400 Bad Request\r\nVia: SIP/2.0/TCP h\r\nTo: <sip:t>;TAG=2\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(refusal, expected);
    }

    #[test]
    fn responses_acks_and_requests_without_via_are_not_answered() {
        for head in [
            &b"SIP/2.0 200 OK\r\nVia: x\r\n\r\n"[..],
            b"ACK sip:a SIP/2.0\r\nVia: x\r\n\r\n",
            b"BYE a\r\n\r\n",
            b"",
        ] {
            assert_eq!(reject_bytes(head, StatusCode::BAD_REQUEST, None), None);
        }
    }
}
