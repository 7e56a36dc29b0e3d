//! Input of every shape a peer could make long: reading twice as much must cost about twice as much. Owns the shapes;
//! the limits of the product are lifted so that the reader, not a limit, is measured.

use bytes::Bytes;
use sip::{Diversion, Framer, Limits, Message, NameAddr, Uri};

/// The shapes, in the order of the table.
pub const SHAPES: [&str; 14] = [
    "header lines",
    "folds",
    "Via list",
    "Contact list",
    "parameters",
    "open quote",
    "URI parameters",
    "URI of @ and ?",
    "Diversion list",
    "bytes one by one",
    "frames at once",
    "SDP attributes",
    "SDP formats",
    "multipart lines",
];

const LIFTED: usize = 1 << 22;
const HEAD: &str = "OPTIONS sip:a@h SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: <sip:f@h>;tag=1\r\n\
    To: <sip:t@h>\r\nCall-ID: c@h\r\nCSeq: 7 OPTIONS\r\n";
const SDP_HEAD: &str =
    "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP";

fn limits() -> Limits {
    Limits {
        header_block_bytes_max: LIFTED,
        header_lines_max: LIFTED,
        body_bytes_max: LIFTED,
        start_line_bytes_max: LIFTED,
    }
}

/// Input of that shape, as near to that many bytes as whole pieces allow; `None` for a name not in [`SHAPES`].
pub fn input(shape: &str, bytes: usize) -> Option<Bytes> {
    let filled = |head: &str, piece: &str, tail: &str| {
        let pieces = bytes.saturating_sub(head.len() + tail.len()) / piece.len();
        Bytes::from(format!("{head}{}{tail}", piece.repeat(pieces)))
    };
    let header = |line: &str, piece: &str| filled(&format!("{HEAD}{line}"), piece, " \r\n\r\n");
    Some(match shape {
        "header lines" => filled(HEAD, "X-Odd: a\r\n", "\r\n"),
        "folds" => header("X-Odd: a", "\r\n b"),
        "Via list" => header("Via: SIP/2.0/TCP h;branch=z9hG4bK2", ",SIP/2.0/UDP i;rport"),
        "Contact list" => header("Contact: <sip:a@h>", ",\"x\" <sip:a@h;p=q>;q=0.5"),
        "parameters" => header("Contact: <sip:a@h>", ";name=value"),
        "open quote" => header("Contact: \"", "\\\"a;,<"),
        "URI parameters" => filled("sip:a@h", ";name=value", ""),
        "URI of @ and ?" => filled("sip:", "?@", "h"),
        "Diversion list" => filled("<sip:a@h>", ",\"x\" <sip:a@h>;reason=unknown", ""),
        "bytes one by one" => filled(HEAD, "X-Odd: a\r\n", "l: 0\r\n\r\n"),
        "frames at once" => filled("", "BYE sip:a SIP/2.0\r\nl: 0\r\n\r\n", ""),
        "SDP attributes" => filled(
            &format!("{SDP_HEAD} 0\r\n"),
            "a=x-long-attribute-of-nobody:0123456789 0123456789 0123456789\r\n",
            "",
        ),
        "SDP formats" => filled(
            &format!("{SDP_HEAD} 0 8 101\r\n"),
            "a=rtpmap:101 telephone-event-with-a-rather-long-name/8000/1\r\n",
            "",
        ),
        "multipart lines" => {
            filled("--b\r\nContent-Type: application/sdp\r\n\r\n", "--a\r\n-", "\r\n--b--\r\n")
        }
        _ => return None,
    })
}

/// Reads it as the product does; what comes of it keeps the compiler from leaving the work out.
pub fn read(shape: &str, input: &Bytes) -> usize {
    match shape {
        "URI parameters" | "URI of @ and ?" => Uri::parse(input.clone())
            .map_or(1, |uri| uri.params().count() + usize::from(uri.param("absent").is_some())),
        "Diversion list" => Diversion::parse(input.clone()).map_or(1, |list| list.entries.len()),
        "bytes one by one" => {
            let mut framer = Framer::new(limits());
            input
                .chunks(1)
                .map(|byte| {
                    framer.push(byte);
                    usize::from(framer.poll().is_ok_and(|f| f.is_some()))
                })
                .sum()
        }
        "frames at once" => {
            let mut framer = Framer::new(limits());
            framer.push(input);
            std::iter::from_fn(|| framer.poll().ok().flatten()).count()
        }
        "SDP attributes" | "SDP formats" => {
            sdp::Session::parse(input).map_or(1, |session| session.media().len())
        }
        "multipart lines" => sdp::choose_body(b"multipart/mixed;boundary=b", input).map_or(1, <[u8]>::len),
        _ => {
            let Ok(message) = Message::parse(input.clone(), &limits()) else { return 1 };
            let contacts = message.contacts().map_or(0, |list| list.len());
            let last = message.header(sip::HeaderId::Contact).map(Bytes::copy_from_slice);
            let typed = last
                .is_some_and(|value| NameAddr::parse_one(value).is_ok_and(|a| a.param("absent").is_none()));
            contacts
                + usize::from(typed)
                + message.headers().map(|header| header.value().len()).sum::<usize>()
        }
    }
}
