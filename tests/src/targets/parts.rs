//! Parsers of single things: what was accepted reads the same when it is printed and read again.

use std::net::IpAddr;

use bytes::Bytes;
use sip::{HeaderId, Limits, Message, NameAddr, StatusCode, Uri};

/// What a refusal adds to the lines it repeats: status line, tag, Content-Length.
const REFUSAL_BYTES_MAX: usize = 256;

/// A whole message.
pub fn message(input: &[u8]) {
    let Ok(message) = Message::parse(Bytes::copy_from_slice(input), &Limits::default()) else {
        // A refusal repeats what was wrong, so it need not parse; it is one message and no longer than what it refuses.
        let refusal = sip::reject_bytes(&Bytes::copy_from_slice(input), StatusCode::BAD_REQUEST, Some(b"t"));
        if let Some(refusal) = refusal {
            assert!(refusal.starts_with(b"SIP/2.0 400 ") && refusal.ends_with(b"\r\n\r\n"));
            assert!(refusal.len() <= input.len() + REFUSAL_BYTES_MAX, "a refusal grows");
        }
        return;
    };
    read(&message);
    let again = Message::parse(message.bytes().clone(), &Limits::default())
        .expect("accepted once, refused the second time");
    assert_eq!(again.headers().count(), message.headers().count());
    if message.is_request()
        && let Ok(response) = sip::response_to(&message, StatusCode::OK, None, Some(b"t")).finish(None, b"")
    {
        let response = Message::parse(response, &Limits::default()).expect("our own response does not parse");
        assert_eq!(response.call_id(), message.call_id());
        assert_eq!(response.cseq(), message.cseq());
    }
}

fn read(message: &Message) {
    for header in message.headers() {
        let value = header.value();
        assert!(!value.iter().any(|b| matches!(b, b'\r' | b'\n')), "an unfolded value holds a line end");
    }
    let _ =
        (message.top_via().is_ok(), message.from().is_ok(), message.to().is_ok(), message.contacts().is_ok());
    let _ =
        (message.max_forwards(), message.to_tag().is_some(), message.body().len(), message.reason().len());
    let _ = (sip::simple::allow(message).len(), sip::simple::expires(message));
    let _ =
        (sip::simple::content_type(message).is_some(), sip::simple::content_disposition(message).is_some());
    if let Some(content_type) = message.header(HeaderId::ContentType) {
        let body = message.body();
        if let Ok(part) = sdp::choose_body(content_type, &body) {
            sdp(part);
        }
    }
}

/// A URI.
pub fn uri(input: &[u8]) {
    let Ok(uri) = Uri::parse(Bytes::copy_from_slice(input)) else { return };
    assert_eq!(&uri.raw()[..], input, "a URI keeps its bytes");
    let _ =
        (uri.port(), uri.params().count(), uri.transport(), uri.host_str().len(), uri.user_part().is_some());
    let again = Uri::parse(uri.raw().clone()).expect("accepted once, refused the second time");
    assert_eq!((again.host_str(), again.port()), (uri.host_str(), uri.port()));
}

/// A header value; the first byte says which.
pub fn headers(input: &[u8]) {
    let Some((which, value)) = input.split_first() else { return };
    if value.iter().any(|b| matches!(b, b'\r' | b'\n')) {
        return; // no header value has one
    }
    let bytes = Bytes::copy_from_slice(value);
    match which % 10 {
        0 => {
            let _ =
                sip::Via::parse_list(bytes).map(|list| list.iter().filter(|v| v.branch().is_some()).count());
        }
        1 => name_addrs(bytes),
        2 => {
            let _ = sip::CSeq::parse(value);
        }
        3 => {
            let _ = sip::RAck::parse(value);
        }
        4 => same(value, |v| sip::Replaces::parse(v).ok().map(|r| r.to_bytes())),
        5 => {
            let _ = sip::SessionExpires::parse(value);
        }
        6 => diversion(bytes),
        7 => same(value, |v| sip::MsDiagnostics::parse(v).ok().map(|d| d.to_bytes())),
        8 => {
            let warnings = sip::Warning::parse_list(value);
            let _ = warnings.map(|list| list.iter().map(|w| w.to_bytes().len()).sum::<usize>());
        }
        _ => {
            let _ = sip::Params::new(value).map(|(name, _)| name.len()).sum::<usize>();
        }
    }
}

fn name_addrs(value: Bytes) {
    let Ok(list) = NameAddr::parse_list(value) else { return };
    for address in list {
        let _ = (address.tag().is_some(), address.q(), address.params().count());
        if let Some(text) = address.display_text() {
            assert!(!text.contains(&b'\r') && !text.contains(&b'\n'), "a display name holds a line end");
        }
    }
}

fn diversion(value: Bytes) {
    let normal = sip::Diversion::normalise_quoting(&value).into_owned();
    let twice = sip::Diversion::normalise_quoting(&normal).into_owned();
    assert_eq!(twice, normal, "normal quoting is not normal");
    let _ = sip::Diversion::parse(value).map(|d| (d.original().is_some(), d.latest().is_some()));
}

// What is printed reads as what it was printed from.
fn same(value: &[u8], print: impl Fn(&[u8]) -> Option<Bytes>) {
    if let Some(printed) = print(value) {
        let again = print(&printed).expect("our own print does not parse");
        assert_eq!(again, printed);
    }
}

/// A session description.
pub fn sdp(input: &[u8]) {
    let Ok(session) = sdp::Session::parse(input) else { return };
    let _ = (session.is_fax_only(), session.origin(), session.audio_index());
    if let Some(audio) = session.audio() {
        let _ = sdp::pick_crypto(audio, &[sdp::Suite::AesCm128HmacSha1_80]).is_some();
    }
    relayed(&session);
}

// What goes to the other leg reads as what we meant: one audio line of ours, as many lines as were offered, nobody else's address.
fn relayed(offer: &sdp::Session) {
    let names = ["PCMU", "PCMA", "telephone-event"].map(String::from);
    let ours = IpAddr::from([203, 0, 113, 7]);
    let anchor = sdp::Anchor {
        address: ours,
        rtp_port: 40_000,
        rtcp_port: 40_001,
        rtcp_mux: false,
        ice: sdp::IceLines::Silent,
    };
    let origin = sdp::OriginSeed { session_id: 1, version: 1 };
    let codecs = sdp::CodecPolicy { names: &names };
    if let Ok((bytes, said)) =
        sdp::relay_offer(offer, None, &[], &anchor, codecs, &sdp::OfferMedia::Clear, &origin)
    {
        let read = sdp::Session::parse(&bytes).expect("our own offer does not parse");
        assert_eq!(read, said.session, "an offer of ours reads otherwise than we keep it");
        assert_eq!(read.media().len(), offer.media().len());
        let audio = read.audio().expect("an offer of ours without audio");
        assert_eq!(audio.remote().map(|at| at.0.ip()), Some(ours), "somebody else's address");
        assert!(audio.crypto.is_empty(), "a key in a clear offer");
    }
    if let Ok(bytes) = sdp::write_answer(offer, &sdp::OfferSpec::new(ours, 40_000)) {
        let read = sdp::Session::parse(&bytes).expect("our own answer does not parse");
        assert_eq!(read.media().len(), offer.media().len(), "RFC 3264 §6: as many lines as the offer");
    }
}

/// A multipart body; the first line is its Content-Type.
pub fn multipart(input: &[u8]) {
    let end = input.iter().position(|b| *b == b'\n').unwrap_or(input.len());
    let (content_type, body) = input.split_at(end);
    if let Ok(part) = sdp::choose_body(content_type, body.get(1..).unwrap_or_default()) {
        assert!(part.len() <= body.len(), "a part larger than the whole");
    }
}

/// The value of an `a=crypto` attribute.
pub fn crypto(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let _ = sdp::CryptoLine::parse_scaled(text);
    let Ok(line) = sdp::CryptoLine::parse(text) else { return };
    assert!(!format!("{line:?}").contains("inline:"), "a key is printed");
    let printed = line.to_string();
    let again = sdp::CryptoLine::parse(&printed).expect("our own print does not parse");
    assert_eq!(again.is_usable(), line.is_usable());
    assert_eq!(again.to_string(), printed);
}
