//! The table against every profile, both directions, the samples and what attackers would try.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use sip::Limits;

use super::*;
use crate::profile::Profile;

/// Headers that name a dialog, transaction, hop or neighbour of one leg: no profile and no configuration copies them.
const NEVER_COPIED: [&str; 26] = [
    "Call-ID",
    "Contact",
    "Content-Type",
    "Content-Length",
    "CSeq",
    "From",
    "To",
    "Max-Forwards",
    "Record-Route",
    "Route",
    "RSeq",
    "RAck",
    "Via",
    "Replaces",
    "Refer-To",
    "Session-Expires",
    "Min-SE",
    "Authorization",
    "Proxy-Authorization",
    "WWW-Authenticate",
    "Proxy-Authenticate",
    "Supported",
    "Require",
    "ms-user-logon-data",
    "ms-subnet",
    "ms-endpoint-location-data",
];

fn pairs() -> impl Iterator<Item = (Dialect, Dialect)> {
    let of = |a: Profile| Profile::SERVERS.map(|b| (Dialect::of(a), Dialect::of(b)));
    Profile::GATEWAYS.into_iter().flat_map(of)
}

fn lync() -> (Dialect, Dialect) {
    (Dialect::of(Profile::Sfb2015), Dialect::of(Profile::Exum2016))
}

fn request(lines: &str) -> Message {
    let text = format!(
        "INVITE sip:ken@contoso.com SIP/2.0\r\nVia: SIP/2.0/TLS a;branch=z9hG4bK1\r\nFrom: <sip:a@b.c>;tag=1\r\n\
         To: <sip:d@e.f>\r\nCall-ID: a-leg\r\nCSeq: 1 INVITE\r\n{lines}Content-Length: 0\r\n\r\n"
    );
    Message::parse(Bytes::from(text), &Limits::default()).expect("a readable request")
}

fn response(lines: &str) -> Message {
    let text = format!(
        "SIP/2.0 486 Busy\r\nVia: SIP/2.0/TLS a;branch=z9hG4bK1\r\nFrom: <sip:a@b.c>;tag=1\r\n\
         To: <sip:d@e.f>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n{lines}Content-Length: 0\r\n\r\n"
    );
    Message::parse(Bytes::from(text), &Limits::default()).expect("a readable response")
}

/// What crosses on a passage, without what the gateway adds to leg B's set.
fn carried(message: &Message, policy: &HeaderPolicy<'_>, passage: Passage) -> Carried {
    let mut carrier = Carrier::new(policy, passage, WithBody::Yes, Block::default());
    carrier.carry(message);
    carrier.finish()
}

fn lines(message: &Message, passage: Passage) -> String {
    let rules = HeaderRules::default();
    let (a, b) = lync();
    String::from_utf8(carried(message, &HeaderPolicy::for_peers(&rules, a, b), passage).lines.to_vec())
        .unwrap()
}

/// What crosses in the caller's INVITE.
fn crossing(text: &str) -> String {
    lines(&request(text), Passage::Invite)
}

#[test]
fn every_known_header_has_exactly_one_row() {
    let mut seen = BTreeSet::new();
    for row in rows() {
        assert!(seen.insert(row.id), "{:?} twice", row.id);
        for passage in Passage::ALL {
            assert_eq!(table::action(row.id, passage), Some(row.actions[passage as usize]));
        }
    }
    let missing: Vec<HeaderId> = HeaderId::all().filter(|id| !seen.contains(id)).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
    assert_eq!(table::action(HeaderId::Other, Passage::Invite), None);
}

#[test]
fn the_whole_table_is_what_was_reviewed() {
    let mut text = String::new();
    for row in rows() {
        let actions = row.actions.map(|action| format!("{action:?}"));
        let name = row.id.name();
        writeln!(
            text,
            "{name:27} {:11} {:11} {:11} {:9} {:9} {:11} {}",
            actions[0], actions[1], actions[2], actions[3], actions[4], actions[5], row.why
        )
        .unwrap();
    }
    insta::assert_snapshot!(text);
}

#[test]
fn what_belongs_to_one_leg_is_copied_for_no_profile_and_by_no_configuration() {
    let named: Vec<String> = NEVER_COPIED.iter().map(|name| (*name).to_owned()).collect();
    let rules = HeaderRules::new(UnknownHeaders::Pass, UnknownHeaders::Pass, named, Vec::new());
    for (a, b) in pairs() {
        for off in [QuirkSet::NONE, QuirkSet::from_iter(Quirk::ALL)] {
            let policy = HeaderPolicy::for_peers(&rules, a.without(off), b.without(off));
            for (name, passage) in NEVER_COPIED.iter().flat_map(|n| Passage::ALL.map(|p| (n, p))) {
                let id = HeaderId::from_name(name.as_bytes());
                assert_ne!(id, HeaderId::Other, "{name}");
                assert!(!policy.carries(id, name.as_bytes(), passage), "{name} {passage:?} {:?}", a.profile);
            }
        }
    }
}

#[test]
fn every_header_of_the_samples_is_treated_as_the_table_says() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/samples");
    let rules = HeaderRules::default();
    let mut seen = 0;
    for (name, bytes) in samples(folder) {
        let message = Message::parse(bytes, &Limits::default()).expect(&name);
        for (a, b) in pairs() {
            let policy = HeaderPolicy::for_peers(&rules, a, b);
            for passage in Passage::ALL {
                let out = carried(&message, &policy, passage).lines;
                seen += check(&message, &policy, passage, &out);
            }
        }
    }
    assert!(seen > 5_000, "the samples were read: {seen}");
}

#[allow(clippy::disallowed_methods)] // the samples are files
fn samples(folder: &str) -> Vec<(String, Bytes)> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let sip = files.filter(|path| path.extension().is_some_and(|end| end == "sip"));
    let mut all: Vec<(String, Bytes)> =
        sip.map(|path| (path.display().to_string(), Bytes::from(std::fs::read(path).unwrap()))).collect();
    all.sort();
    assert_eq!(all.len(), 17);
    all
}

// The samples are well-formed, so what crosses at all crosses byte for byte and in order; nothing else may be there.
fn check(message: &Message, policy: &HeaderPolicy<'_>, passage: Passage, out: &[u8]) -> usize {
    let mut expected = Vec::new();
    let mut count = 0;
    for header in message.headers() {
        count += 1;
        let value = header.value();
        match policy.action(header.id, header.name, passage, &mut { QuirkSet::NONE }) {
            Action::Copy | Action::WithBody | Action::Repair => {
                expected.extend_from_slice(&[header.name, b": ", &value, b"\r\n"].concat());
            }
            Action::Regenerate => {
                expected.extend_from_slice(&[header.id.name().as_bytes(), b": ", &value, b"\r\n"].concat());
            }
            Action::Own | Action::Translate | Action::Drop => {}
            Action::Microsoft | Action::HopByHop => panic!("decided by quirk and rule"),
        }
    }
    assert_eq!(
        out.escape_ascii().to_string(),
        expected.escape_ascii().to_string(),
        "{message:?} {passage:?}"
    );
    count
}

#[test]
fn a_deposit_keeps_what_um_decides_by_and_loses_what_is_the_pools_own_business() {
    let text = "Diversion: <sip:ken@contoso.com>\r\nhistory-info: <sip:ken@contoso.com>;index=1\r\n\
        b: <sip:dana@contoso.com>\r\nSubject: x  y\r\nPriority: urgent\r\nMs-Mras-Address: <sip:av@contoso.com>\r\n\
        ms-keep-alive: UAC;hop-hop=yes\r\nms-fe: fe01\r\nms-subnet: 192.0.2.0\r\nUser-Agent: UCCAPI\r\n\
        x: 1800\r\nAuthorization: Kerberos x\r\nIdentity: sig\r\nP-Preferred-Identity: <sip:x@y.z>\r\n\
        Content-Disposition: session\r\nX-New: 1\r\n";
    let expected = "Diversion: <sip:ken@contoso.com>\r\nHistory-Info: <sip:ken@contoso.com>;index=1\r\n\
        Referred-By: <sip:dana@contoso.com>\r\nSubject: x  y\r\nPriority: urgent\r\n\
        Ms-Mras-Address: <sip:av@contoso.com>\r\nX-New: 1\r\n";
    assert_eq!(crossing(text), expected);
}

#[test]
fn unknown_headers_follow_the_rule_of_their_direction() {
    let rules = HeaderRules::new(
        UnknownHeaders::Drop,
        UnknownHeaders::Pass,
        vec!["x-wanted".into()],
        vec!["X-Unwanted".into(), "Subject".into()],
    );
    let text = "X-New: 1\r\nX-Wanted: 2\r\nX-Unwanted: 3\r\nSubject: 4\r\nX-Umbra-Hop: other\r\n";
    for (a, b) in pairs() {
        let policy = HeaderPolicy::for_peers(&rules, a, b);
        let (toward, back) =
            ("X-Wanted: 2\r\nX-Umbra-Hop: other\r\n", "X-New: 1\r\nX-Wanted: 2\r\nX-Umbra-Hop: other\r\n");
        for passage in Passage::ALL {
            let expected = if from(passage) == Side::A { toward } else { back };
            assert_eq!(carried(&request(text), &policy, passage).lines, expected, "{passage:?}");
        }
    }
}

#[test]
fn microsofts_own_headers_pass_for_pools_only_when_unknown_ones_stop() {
    let strict = HeaderRules::new(UnknownHeaders::Drop, UnknownHeaders::Drop, Vec::new(), Vec::new());
    let message = request("Ms-Conversation-ID: 1\r\nms-new: 2\r\nms-diagnostics: 15030;reason=\"x\"\r\n");
    for (a, b) in pairs() {
        let out = carried(&message, &HeaderPolicy::for_peers(&strict, a, b), Passage::Invite);
        let diagnostics = "ms-diagnostics: 15030;reason=\"x\"\r\n";
        if a.has(Quirk::MsHeaders) {
            assert_eq!(out.lines, format!("Ms-Conversation-ID: 1\r\nms-new: 2\r\n{diagnostics}"));
            assert!(out.acted.has(Quirk::MsHeaders));
        } else {
            assert_eq!(out.lines, diagnostics);
            assert!(out.acted.is_empty());
        }
    }
}

#[test]
fn hop_by_hop_headers_of_microsoft_stop_unless_the_quirk_is_off_for_their_sender() {
    let rules = HeaderRules::default();
    let message = response("ms-keep-alive: UAS\r\nms-fe: fe01\r\n");
    let off = QuirkSet::from_iter([Quirk::MsHopByHop]);
    let (a, b) = lync();
    let on = carried(&message, &HeaderPolicy::for_peers(&rules, a.without(off), b), Passage::ResponseToA);
    assert!(on.lines.is_empty() && on.acted.has(Quirk::MsHopByHop));
    let out = carried(&message, &HeaderPolicy::for_peers(&rules, a, b.without(off)), Passage::ResponseToA);
    assert_eq!(out.lines, "ms-keep-alive: UAS\r\nms-fe: fe01\r\n");
    assert!(out.acted.is_empty());
}

#[test]
fn diversion_is_repaired_only_when_malformed_and_only_when_the_quirk_is_on() {
    let rules = HeaderRules::default();
    let broken = request("Diversion: \"Doe, Jane <sip:1@h>;reason=no-answer\r\n");
    let (a, b) = lync();
    let on = carried(&broken, &HeaderPolicy::for_peers(&rules, a, b), Passage::Invite);
    assert_eq!(on.lines, "Diversion: \"Doe, Jane\"<sip:1@h>;reason=no-answer\r\n");
    assert!(on.acted.has(Quirk::DiversionQuoting));
    let off = a.without(QuirkSet::from_iter([Quirk::DiversionQuoting]));
    let off = carried(&broken, &HeaderPolicy::for_peers(&rules, off, b), Passage::Invite);
    assert_eq!(off.lines, "Diversion: \"Doe, Jane <sip:1@h>;reason=no-answer\r\n");
    assert!(off.acted.is_empty());
    let good = request("Diversion: \"Doe, Jane\" <sip:1@h> ;reason=no-answer\r\n");
    let good = carried(&good, &HeaderPolicy::for_peers(&rules, a, b), Passage::Invite);
    assert_eq!(good.lines, "Diversion: \"Doe, Jane\" <sip:1@h> ;reason=no-answer\r\n");
    assert!(good.acted.is_empty());
}

#[test]
fn rfc_3325_9_1_at_most_one_sip_and_one_tel_identity_are_asserted() {
    let cases = [
        ("\"D\"<sip:d@c.com>,<tel:+1425>", "P-Asserted-Identity: \"D\"<sip:d@c.com>,<tel:+1425>\r\n"),
        ("<sip:d@c.com>, <sip:e@c.com>, <tel:1>", "P-Asserted-Identity: <sip:d@c.com>, <tel:1>\r\n"),
        (
            "<tel:1>\r\nP-Asserted-Identity: <tel:2>, <sips:d@c.com>",
            "P-Asserted-Identity: <tel:1>\r\nP-Asserted-Identity: <sips:d@c.com>\r\n",
        ),
        ("<mailto:d@c.com>", ""),
        ("\"open <sip:d@c.com>", ""),
    ];
    for (given, expected) in cases {
        assert_eq!(crossing(&format!("P-Asserted-Identity: {given}\r\n")), expected, "{given}");
    }
}

#[test]
fn history_entries_that_parse_cross_and_no_more_than_a_loop_would_need() {
    assert_eq!(crossing("History-Info: <sip:a@b>;index=1, nonsense here <\r\n"), "");
    let long: Vec<String> = (0..40).map(|at| format!("<sip:u{at}@c.com>;index=1.{at}")).collect();
    let out = crossing(&format!("History-Info: {}\r\n", long.join(",")));
    assert!(out.contains("u31@") && !out.contains("u32@"), "{out}");
}

#[test]
fn rfc_3892_2_1_a_referrer_loses_the_cid_of_a_body_that_does_not_cross() {
    let out = crossing("Referred-By: \"D\" <sip:d@c.com>;cid=\"x@y\";other=1\r\n");
    assert_eq!(out, "Referred-By: \"D\"<sip:d@c.com>;other=1\r\n");
    assert_eq!(crossing("Referred-By: <sip:d@c.com\r\n"), "");
}

#[test]
fn descriptions_of_a_body_go_with_the_body_only() {
    let rules = HeaderRules::default();
    let (a, b) = lync();
    let policy = HeaderPolicy::for_peers(&rules, a, b);
    let message = response("Content-Encoding: gzip\r\nWarning: 399 x \"y\"\r\n");
    let alone = relayed_response_lines(&message, &policy, Side::B, WithBody::No);
    assert_eq!(alone.lines, "Warning: 399 x \"y\"\r\n");
    let whole = relayed_response_lines(&message, &policy, Side::B, WithBody::Yes);
    assert_eq!(whole.lines, "Content-Encoding: gzip\r\nWarning: 399 x \"y\"\r\n");
}

fn own(correlation: Option<&'static str>) -> OwnLines<'static> {
    OwnLines {
        from: b"<sip:a@b.c>;tag=9",
        to: b"<sip:d@e.f>",
        call_id: b"b-leg",
        contact: b"<sip:umbra>",
        max_forwards: 69,
        hop_token: "ours",
        correlation,
    }
}

#[test]
fn a_caller_cannot_speak_in_our_name() {
    let rules = HeaderRules::default();
    let (a, b) = lync();
    let policy = HeaderPolicy::for_peers(&rules, a, b);
    for (header, correlation) in [("x-call-id: forged\r\n", "X-Call-ID"), ("s: forged\r\n", "Subject")] {
        let set = leg_b_set(&request(header), &policy, Passage::Invite, &own(Some(correlation))).lines;
        let set = String::from_utf8(set.to_vec()).unwrap();
        assert!(!set.contains("forged"), "{set}");
        assert!(set.contains(&format!("{correlation}: a-leg\r\nX-Umbra-Hop: ours\r\n")), "{set}");
    }
    let off = leg_b_set(&request("X-Call-ID: theirs\r\n"), &policy, Passage::Invite, &own(None)).lines;
    assert!(String::from_utf8(off.to_vec()).unwrap().contains("X-Call-ID: theirs\r\n"));
}

#[test]
fn control_characters_and_line_ends_never_reach_the_other_leg() {
    let rules = HeaderRules::default();
    let values: [&[u8]; 6] = [b"\x1b[2J", b"a\x07b", b"a\x7f", b"\"\\\x01\"", b"\xc2\x9b31m", b"a\r\n b\x08"];
    for value in values {
        for name in ["Subject", "X-New", "Ms-New", "Warning", "Reason", "Diversion", "P-Asserted-Identity"] {
            let mut text =
                b"SIP/2.0 486 Busy\r\nVia: SIP/2.0/TLS a;branch=z9hG4bK1\r\nFrom: <sip:a@b.c>;tag=1\r\n\
                To: <sip:d@e.f>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n"
                    .to_vec();
            text.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n\r\n"].concat());
            // What the parser refuses cannot cross either.
            let Ok(message) = Message::parse(Bytes::from(text), &Limits::default()) else { continue };
            for ((a, b), passage) in pairs().flat_map(|pair| Passage::ALL.map(|passage| (pair, passage))) {
                let out = carried(&message, &HeaderPolicy::for_peers(&rules, a, b), passage);
                assert!(out.lines.is_empty(), "{name} {passage:?}: {}", out.lines.escape_ascii());
            }
        }
    }
    let folded = crossing("Subject: a\r\n b\r\n\tc\r\n");
    assert_eq!(folded, "Subject: a b c\r\n", "a fold is one line on the other leg");
}
