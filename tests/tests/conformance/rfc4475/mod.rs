//! RFC 4475: each torture message meets the parser as its index entry says. What a user agent does with a message
//! that parses (416, 420, 501 ...) is asserted as far as the parser must make it possible.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use bytes::Bytes;
use sip::{FrameFault, Framer, HeaderId, Limits, Message, Method, ParseError, Scheme, Transport};
use std::path::PathBuf;

#[derive(serde::Deserialize)]
struct Index {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    file: String,
    expected: String,
    kind: String,
    bytes: usize,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/conformance/rfc4475")
}

fn read(file: &str) -> Bytes {
    Bytes::from(std::fs::read(folder().join(file)).expect("torture message"))
}

fn parse(name: &str) -> Result<Message, ParseError> {
    Message::parse(read(&format!("{name}.dat")), &Limits::default())
}

fn parsed(name: &str) -> Message {
    parse(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_message_is_accepted_or_refused_as_indexed() {
    let text = std::fs::read_to_string(folder().join("index.json")).expect("index");
    let index: Index = serde_json::from_str(&text).expect("index");
    assert_eq!(index.cases.len(), 50);
    for case in index.cases {
        let bytes = read(&case.file);
        assert_eq!(bytes.len(), case.bytes, "{}", case.name);
        let outcome = Message::parse(bytes, &Limits::default());
        match case.expected.as_str() {
            "accept"
            | "416"
            | "420"
            | "415"
            | "registrar"
            | "406-or-488"
            | "accept-as-target-or-483"
            | "ignore-credentials"
            | "accept-or-4xx"
            | "400-or-2543" => {
                let message = outcome.unwrap_or_else(|error| panic!("{}: {error}", case.name));
                assert!(message.is_request(), "{}", case.name);
            }
            "accept-response" => assert!(outcome.is_ok_and(|message| message.is_response()), "{}", case.name),
            "400" | "501-or-400" => {
                assert_eq!(outcome.expect_err(&case.name).status().code(), 400, "{}", case.name);
            }
            "505" => assert_eq!(outcome.expect_err(&case.name).status().code(), 505, "{}", case.name),
            // a stray 200 with a broadcast Via is dropped by whoever would forward it; it parses
            "drop" if case.name == "bcast" => assert!(outcome.is_ok()),
            "drop" => {
                assert_eq!(case.kind, "response");
                assert!(outcome.is_err(), "{}", case.name);
            }
            "400-or-accept" | "400-or-strip" => {
                if let Err(error) = outcome {
                    assert_eq!(error.status().code(), 400, "{}", case.name);
                }
            }
            "none" => drop(outcome),
            other => panic!("{}: no rule for {other:?}", case.name),
        }
    }
}

#[test]
fn what_parses_is_reproduced_from_its_headers_byte_for_byte() {
    let mut count = 0;
    for entry in std::fs::read_dir(folder()).expect("folder").flatten() {
        if entry.path().extension().is_none_or(|ending| ending != "dat") {
            continue;
        }
        let input = Bytes::from(std::fs::read(entry.path()).expect("message"));
        let Ok(message) = Message::parse(input.clone(), &Limits::default()) else { continue };
        let mut again = [message.start_line(), b"\r\n"].concat();
        message.headers().for_each(|header| again.extend_from_slice(header.line));
        again.extend_from_slice(b"\r\n");
        again.extend_from_slice(&message.body());
        assert_eq!(again, message.bytes()[..], "{:?}", entry.path());
        assert!(input.starts_with(message.bytes()));
        count += 1;
    }
    assert_eq!(count, 29, "messages that parse");
}

#[test]
fn section_3_1_1_1_the_tortuous_invite_types_through_its_folds() {
    let message = parsed("wsinv");
    assert_eq!(message.method(), &Method::Invite);
    assert_eq!((message.cseq().number, message.max_forwards()), (9, Some(68)));
    assert_eq!(message.from_tag(), Some(&b"98asjd8"[..]));
    assert_eq!(message.to_tag(), Some(&b"1918181833n"[..]));
    let vias: Vec<_> =
        message.values_bytes(HeaderId::Via).flat_map(|v| sip::Via::parse_list(v).expect("Via")).collect();
    assert_eq!(vias.len(), 3);
    assert_eq!((vias[0].host(), vias[2].host()), (&b"192.0.2.2"[..], &b"192.168.255.111"[..]));
    assert_eq!(message.top_via().expect("Via").branch(), Some(&b"390skdjuw"[..]));
    let contact = &message.contacts().expect("Contact")[0];
    assert_eq!(contact.display_text().as_deref(), Some(&b"Quoted string \"\""[..]));
    assert_eq!(contact.q(), Some(330));
    assert_eq!(message.name_addrs(HeaderId::Route).expect("Route").len(), 1);
    assert!(message.header_named("UnknownHeaderWithUnusualValue").is_some());
}

#[test]
fn section_3_1_1_2_unusual_characters_are_neither_refused_nor_cut() {
    let message = parsed("intmeth");
    assert!(matches!(message.method(), Method::Other(_)));
    let to = message.to().expect("To");
    assert!(to.display_text().expect("display name").contains(&0));
    assert_eq!(to.uri.host_str(), "example.com");
    let from = message.from().expect("From");
    assert!(from.tag().is_some());
}

#[test]
fn sections_3_1_1_3_to_5_escapes_stay_and_resolve_once() {
    let uri = parsed("esc01").uri().expect("Request-URI");
    assert_eq!(sip::uri::unescape(uri.user().expect("user")).as_ref(), b"sips:user@example.com");
    assert_eq!(parsed("escnull").contacts().expect("Contact").len(), 2);
    let unknown = parsed("esc02");
    assert_eq!(unknown.method().as_bytes(), b"RE%47IST%45R");
    assert_eq!(unknown.contacts().expect("Contact").len(), 2, "C%6Fntact is no Contact");
}

#[test]
fn section_3_1_1_8_a_datagram_ends_with_its_body_and_a_stream_goes_on() {
    let message = parsed("dblreq");
    assert_eq!(message.method(), &Method::Register);
    let bytes = read("dblreq.dat");
    assert!(message.bytes().len() < bytes.len());
    let mut framer = Framer::new(Limits::default());
    framer.push(&bytes);
    let mut methods = Vec::new();
    while let Ok(Some(frame)) = framer.poll() {
        if let sip::Frame::Message(bytes) = frame {
            methods.push(Message::parse(bytes, &Limits::default()).expect("message").method().clone());
        }
    }
    assert_eq!(methods, [Method::Register, Method::Invite]);
}

#[test]
fn sections_3_1_1_9_to_13_users_transports_bodies_and_phrases() {
    let uri = parsed("semiuri").uri().expect("Request-URI");
    assert_eq!(uri.user(), Some(&b"user;par=u%40example.net"[..]));
    assert_eq!(uri.param("par"), None);
    let vias: Vec<_> = parsed("transports").values_bytes(HeaderId::Via).collect();
    let transports = vias.iter().map(|via| sip::Via::parse_first(via.clone()).expect("Via").transport());
    assert!(
        transports.clone().any(|one| one.is_none())
            && transports.clone().any(|one| one == Some(Transport::Tls))
    );
    assert!(parsed("mpart01").body().contains(&0));
    assert_eq!(parsed("noreason").reason(), Bytes::new());
    assert_eq!(parsed("noreason").status().map(|status| status.code()), Some(100));
    assert!(!parsed("unreason").reason().is_ascii());
}

#[test]
fn sections_3_1_2_and_3_3_name_the_fault() {
    let fault = |name: &str| parse(name).expect_err(name);
    assert_eq!(fault("badinv01"), ParseError::Malformed(HeaderId::Via));
    assert_eq!(fault("clerr"), ParseError::BodyTruncated);
    assert_eq!(fault("ncl"), ParseError::Malformed(HeaderId::ContentLength));
    assert_eq!(fault("scalar02"), ParseError::Malformed(HeaderId::CSeq));
    assert_eq!(fault("quotbal"), ParseError::Malformed(HeaderId::To));
    assert_eq!(fault("ltgtruri"), ParseError::RequestUriMalformed);
    assert_eq!(fault("lwsruri"), ParseError::StartLineMalformed);
    assert_eq!(fault("escruri"), ParseError::RequestUriMalformed);
    assert_eq!(fault("regbadct"), ParseError::Malformed(HeaderId::Contact));
    assert_eq!(fault("baddn"), ParseError::HeaderBlockUnterminated);
    assert_eq!(fault("mismatch01"), ParseError::MethodMismatch);
    assert_eq!(fault("mismatch02"), ParseError::MethodMismatch);
    assert_eq!(fault("bigcode"), ParseError::StatusOutOfRange);
    assert!(matches!(fault("insuf"), ParseError::Missing(_)));
    assert!(matches!(fault("multi01"), ParseError::Repeated(_)));
    assert_eq!(fault("mcl01"), ParseError::Repeated(HeaderId::ContentLength));
    assert!(parse("baddn.terminated").is_ok());
}

#[test]
fn a_stream_closes_where_a_datagram_is_answered_400() {
    for (name, expected) in
        [("ncl", FrameFault::ContentLengthMalformed), ("mcl01", FrameFault::ContentLengthRepeated)]
    {
        let mut framer = Framer::new(Limits::default());
        framer.push(&read(&format!("{name}.dat")));
        let error = framer.poll().expect_err(name);
        assert_eq!(error.fault, expected);
        assert!(error.reject_bytes().is_some_and(|bytes| bytes.starts_with(b"SIP/2.0 400 ")), "{name}");
    }
    let mut framer = Framer::new(Limits::default());
    framer.push(&read("clerr.dat"));
    assert_eq!(framer.poll(), Ok(None));
    assert!(framer.is_mid_message());
}

#[test]
fn sections_3_2_to_3_4_leave_to_others_what_is_not_syntax() {
    assert!(!parsed("badbranch").top_via().expect("Via").has_cookie());
    for name in ["unkscm", "novelsc"] {
        assert_eq!(parsed(name).uri().expect("Request-URI").scheme(), Scheme::Other);
        assert!(!parsed(name).has_known_scheme());
    }
    assert_eq!(parsed("unksm2").to().expect("To").uri.scheme(), Scheme::Other);
    assert!(!sip::simple::option_tags(&parsed("bext01"), HeaderId::Require).is_empty());
    assert_eq!(parsed("zeromf").max_forwards(), Some(0));
    let outside = parsed("cparam01").contacts().expect("Contact");
    assert!(outside[0].param("unknownparam").is_some() && outside[0].uri.param("unknownparam").is_none());
    let inside = parsed("cparam02").contacts().expect("Contact");
    assert!(inside[0].uri.param("unknownparam").is_some() && inside[0].param("unknownparam").is_none());
    let escaped = parsed("regescrt").contacts().expect("Contact");
    assert!(escaped[0].uri.header(HeaderId::Route).is_some());
    assert!(parsed("regescrt").header(HeaderId::Route).is_none());
    assert!(!sip::simple::accepts(&parsed("sdp01"), "application", "sdp"));
    assert_eq!(parsed("inv2543").top_via().expect("Via").branch(), None);
}
