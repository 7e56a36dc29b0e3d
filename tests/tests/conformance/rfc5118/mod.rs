//! RFC 5118: IPv6 in every place of a message. Messages whose archived Content-Length is wrong get the right one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use bytes::Bytes;
use sip::{HeaderId, Host, Limits, Message, ParseError};
use std::path::PathBuf;

#[derive(serde::Deserialize)]
struct Index {
    cases: Vec<Case>,
}

#[derive(serde::Deserialize)]
struct Case {
    name: String,
    expected: String,
    wire: String,
    archive: String,
    content_length_header: usize,
    body_bytes_wire: usize,
    content_length_ok: bool,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/conformance/rfc5118")
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(folder().join("index.json")).expect("index");
    serde_json::from_str::<Index>(&text).expect("index").cases
}

fn parse(case: &Case) -> Result<Message, ParseError> {
    let bytes = std::fs::read(folder().join(&case.wire)).expect("message");
    if case.content_length_ok {
        return Message::parse(Bytes::from(bytes), &Limits::default());
    }
    let wrong = format!("Content-Length: {}", case.content_length_header);
    let right = format!("Content-Length: {}", case.body_bytes_wire);
    let text = String::from_utf8(bytes).expect("ASCII");
    assert!(text.contains(&wrong), "{}", case.name);
    Message::parse(Bytes::from(text.replacen(&wrong, &right, 1)), &Limits::default())
}

fn parsed(name: &str) -> Message {
    let case = cases().into_iter().find(|case| case.name == name).expect("case");
    parse(&case).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn every_message_is_accepted_or_refused_as_indexed() {
    let cases = cases();
    assert_eq!(cases.len(), 12);
    for case in cases {
        let outcome = parse(&case);
        match case.expected.as_str() {
            "accept" => {
                let message = outcome.unwrap_or_else(|error| panic!("{}: {error}", case.name));
                assert!(message.top_via().is_ok() && message.contacts().is_ok(), "{}", case.name);
            }
            "400" => assert_eq!(outcome.expect_err(&case.name).status().code(), 400),
            "accept-or-400" => assert!(outcome.map_or_else(|error| error.status().code() == 400, |_| true)),
            other => panic!("no rule for {other:?}"),
        }
    }
}

#[test]
fn bare_line_feeds_are_refused_without_exception() {
    for case in cases() {
        let bytes = std::fs::read(folder().join(&case.archive)).expect("message");
        assert!(Message::parse(Bytes::from(bytes), &Limits::default()).is_err(), "{}", case.name);
    }
}

#[test]
fn sections_4_3_and_4_4_only_a_port_behind_the_bracket_is_a_port() {
    let ambiguous = parsed("port-ambiguous").uri().expect("Request-URI");
    assert_eq!(ambiguous.port(), None);
    assert!(matches!(ambiguous.host(), Host::V6(address) if address.segments()[7] == 0x5070));
    assert_eq!(parsed("port-unambiguous").uri().expect("Request-URI").port(), Some(5070));
}

#[test]
fn section_4_5_received_reads_the_same_with_and_without_brackets() {
    for name in ["via-received-param-with-delim", "via-received-param-no-delim"] {
        let via = parsed(name).top_via().expect("Via");
        assert_eq!(via.received(), Some(&b"2001:db8::9:255"[..]), "{name}");
    }
}

#[test]
fn section_4_7_each_via_keeps_its_own_family() {
    let message = parsed("mult-ip-in-header");
    let vias: Vec<_> =
        message.values_bytes(HeaderId::Via).map(|via| sip::Via::parse_first(via).expect("Via")).collect();
    assert!(
        vias.iter().any(|via| via.host().starts_with(b"["))
            && vias.iter().any(|via| !via.host().starts_with(b"["))
    );
}
