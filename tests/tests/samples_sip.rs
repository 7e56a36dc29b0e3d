//! The sample messages of Lync, Exchange UM and IP-PBXs: each parses, is reproduced byte for byte and types in every
//! header that has a typed form; and random simple messages read the same to rsip and to us.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use bytes::Bytes;
use proptest::prelude::*;
use sip::{
    Diversion, Framer, HeaderId, Limits, Message, Method, MsDiagnostics, NameAddr, RAck, SessionExpires, Uri,
    Via, Warning,
};
use std::path::PathBuf;

fn samples() -> Vec<(String, Bytes)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("data/samples");
    let mut all: Vec<_> = std::fs::read_dir(folder)
        .expect("samples")
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|ending| ending == "sip"))
        .map(|entry| {
            (
                entry.file_name().to_string_lossy().into_owned(),
                Bytes::from(std::fs::read(entry.path()).expect("sample")),
            )
        })
        .collect();
    all.sort();
    assert!(all.len() >= 17);
    all
}

fn sample(number: &str) -> Message {
    let (_, bytes) = samples().into_iter().find(|(name, _)| name.starts_with(number)).expect("sample");
    Message::parse(bytes, &Limits::default()).expect("sample")
}

fn type_header(id: HeaderId, value: Bytes) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    match id {
        HeaderId::Via => Via::parse_list(value).map(drop).map_err(|error| text(&error)),
        HeaderId::From | HeaderId::To | HeaderId::ReferTo | HeaderId::ReferredBy => {
            NameAddr::parse_one(value).map(drop).map_err(|error| text(&error))
        }
        HeaderId::Contact
        | HeaderId::Route
        | HeaderId::RecordRoute
        | HeaderId::PAssertedIdentity
        | HeaderId::RemotePartyId
        | HeaderId::HistoryInfo => NameAddr::parse_list(value).map(drop).map_err(|error| text(&error)),
        HeaderId::Diversion => Diversion::parse(value).map(drop).map_err(|error| text(&error)),
        HeaderId::SessionExpires | HeaderId::MinSe => {
            SessionExpires::parse(&value).map(drop).map_err(|error| text(&error))
        }
        HeaderId::MsDiagnostics | HeaderId::MsClientDiagnostics | HeaderId::MsDiagnosticsPublic => {
            MsDiagnostics::parse(&value).map(drop).map_err(|error| text(&error))
        }
        HeaderId::Warning => Warning::parse_list(&value).map(drop).map_err(|error| text(&error)),
        HeaderId::RAck => RAck::parse(&value).map(drop).map_err(|error| text(&error)),
        _ => Ok(()),
    }
}

#[test]
fn every_sample_frames_parses_types_and_is_reproduced() {
    for (name, bytes) in samples() {
        let mut framer = Framer::new(Limits::default());
        bytes.iter().for_each(|byte| framer.push(&[*byte]));
        assert_eq!(framer.poll(), Ok(Some(sip::Frame::Message(bytes.clone()))), "{name}");
        let message = Message::parse(bytes.clone(), &Limits::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(message.bytes(), &bytes, "{name}");
        let mut again = [message.start_line(), b"\r\n"].concat();
        for header in message.headers() {
            again.extend_from_slice(header.line);
            let value = Bytes::from(header.value().into_owned());
            type_header(header.id, value).unwrap_or_else(|error| panic!("{name} {:?}: {error}", header.id));
        }
        again.extend_from_slice(b"\r\n");
        again.extend_from_slice(&message.body());
        assert_eq!(again, bytes[..], "{name}");
        if message.is_request() {
            assert!(message.has_known_scheme(), "{name}");
            assert!(
                sip::simple::content_type(&message).is_some() || message.content_type().is_none(),
                "{name}"
            );
        }
    }
}

#[test]
fn a_gruu_contact_keeps_its_opaque_and_a_phone_context_its_dots() {
    let gruu = samples()
        .into_iter()
        .filter_map(|(_, bytes)| Message::parse(bytes, &Limits::default()).ok())
        .find_map(|message| {
            let contact = message.contacts().ok()?.into_iter().next()?;
            contact.uri.param("gruu").is_some().then_some(contact)
        });
    let gruu = gruu.expect("a GRUU among the samples");
    assert_eq!(gruu.uri.param("opaque"), Some(Some(&b"user:epid:oY3nX2f1kVqk7l9b0cR5dwAA"[..])));
    let to = sample("07").to().expect("To");
    assert_eq!(to.uri.user_param("phone-context"), Some(Some(&b"DP-Sip.contoso.com"[..])));
    assert_eq!((to.uri.user_part(), to.uri.host_str()), (Some(&b"6095"[..]), "contoso.com"));
    assert_eq!(sample("01").request_uri(), "sip:ken@contoso.com;opaque=app:voicemail");
}

#[test]
fn diversions_identities_contacts_and_diagnostics_type_in_their_dialects() {
    let pbx = Diversion::of(&sample("09")).expect("Diversion");
    let entry = pbx.original().expect("entry");
    assert_eq!(entry.reason.as_deref(), Some(&b"no-answer"[..]));
    assert_eq!(entry.address.display_text().as_deref(), Some(&b"Doe, Jane"[..]));
    let lync = Diversion::of(&sample("01")).expect("Diversion");
    assert_eq!((lync.entries.len(), lync.entries[0].reason.clone()), (1, None));
    let identities = sample("01").name_addrs(HeaderId::PAssertedIdentity).expect("identities");
    assert_eq!(
        identities.iter().map(|one| one.uri.scheme()).collect::<Vec<_>>(),
        [sip::Scheme::Sip, sip::Scheme::Tel]
    );
    let targets = sample("11").contacts().expect("Contact");
    assert_eq!(targets.iter().map(NameAddr::q).collect::<Vec<_>>(), [None, Some(500)]);
    assert_eq!(targets[0].uri.param("maddr"), Some(Some(&b"mbx01.contoso.com"[..])));
    let failure = sample("12");
    let diagnosis =
        MsDiagnostics::parse(failure.header(HeaderId::MsDiagnostics).expect("header")).expect("typed");
    assert_eq!((diagnosis.id, diagnosis.source.as_deref()), (15000, Some(&b"FE01.CONTOSO.COM"[..])));
}

fn token() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,11}"
}

proptest! {
    #[test]
    fn simple_messages_read_the_same_to_rsip_and_to_us(
        which in 0..rsip::Method::all().len(),
        (user, host, tag, call_id) in (token(), token(), token(), token()),
        (port, number, hops) in (1u16.., 0u32..1 << 31, 0u32..256),
        extra in proptest::collection::vec((token(), "[a-zA-Z0-9 .]{1,20}"), 0..5),
        body in "[a-z]{0,40}",
    ) {
        let method = rsip::Method::all()[which];
        let mut text = format!(
            "{method} sip:{user}@{host}.example.com:{port} SIP/2.0\r\nVia: SIP/2.0/TCP {host}.example.com;branch=z9hG4bK{tag}\r\n\
             Max-Forwards: {hops}\r\nFrom: <sip:{user}@example.com>;tag={tag}\r\nTo: <sip:{host}@example.com>\r\n\
             Call-ID: {call_id}\r\nCSeq: {number} {method}\r\n"
        );
        extra.iter().for_each(|(name, value)| text.push_str(&format!("X-{name}: a{value}b\r\n")));
        text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        let ours = Message::parse(Bytes::from(text.clone()), &Limits::default()).expect("ours");
        let theirs = rsip::Request::try_from(text.as_bytes()).expect("theirs");
        prop_assert_eq!(ours.method(), &Method::from(theirs.method));
        let uri = Uri::parse(ours.request_uri()).expect("uri");
        let their_uri = theirs.uri.to_string();
        prop_assert_eq!(&uri.raw()[..], their_uri.as_bytes());
        prop_assert_eq!(uri.host_str(), theirs.uri.host_with_port.host.to_string());
        prop_assert_eq!(uri.port(), theirs.uri.host_with_port.port.map(|port| *port.value()));
        prop_assert_eq!(ours.body(), theirs.body);
        let ours: Vec<String> = ours.headers()
            .map(|header| format!("{}: {}", String::from_utf8_lossy(header.name), String::from_utf8_lossy(header.raw)))
            .collect();
        let theirs: Vec<String> = theirs.headers.iter().map(ToString::to_string).collect();
        prop_assert_eq!(ours, theirs);
    }
}
