use super::*;
use crate::{Audio, OfferSpec, Session};

const HEAD: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n";
const FRAGMENTS: &str = "a=ice-ufrag:k2Xp\r\na=ice-pwd:0nVh3c8JQm5tYd1sWb7LfRzE\r\n";
const STANDARD: &str = "a=candidate:1 1 UDP 2130706431 192.0.2.10 50010 typ host\r\na=candidate:1 2 UDP 2130705918 192.0.2.10 50011 typ host\r\n";
const OLDER: &str = "a=candidate:Zk3v0dP1yHq8mRt5sLw7uXcBnQa2eFgJ4iKoV6TzN9E 1 p8YtRw2Lk5Vb1Xc4Zq7NdA UDP 0.830 192.0.2.10 50010\r\na=candidate:Zk3v0dP1yHq8mRt5sLw7uXcBnQa2eFgJ4iKoV6TzN9E 2 p8YtRw2Lk5Vb1Xc4Zq7NdA UDP 0.830 192.0.2.10 50011\r\n";
const SEED: [u8; ICE_SEED_BYTES] = [0xA7; ICE_SEED_BYTES];

fn audio(lines: &str) -> Audio {
    let text = format!("{HEAD}m=audio 50010 RTP/AVP 0\r\n{lines}");
    Session::parse(text.as_bytes()).unwrap().audio().unwrap().clone()
}

fn ice(lines: &str) -> Option<Ice> {
    audio(lines).ice.map(|ice| *ice)
}

#[test]
fn both_forms_are_read_and_told_apart() {
    let ours = ice(&format!("{FRAGMENTS}{STANDARD}")).unwrap();
    assert_eq!((ours.form, ours.name.as_str()), (IceForm::Fragments, "k2Xp"));
    assert_eq!((ours.password(), ours.default), ("0nVh3c8JQm5tYd1sWb7LfRzE", DefaultCandidate::Listed));
    let older = ice(OLDER).unwrap();
    assert_eq!((older.form, older.default), (IceForm::Candidates, DefaultCandidate::Listed));
    let (name, password) = older.octets().unwrap();
    assert_eq!((name.len(), password.len()), (NAME_BYTES, PASSWORD_BYTES));
}

#[test]
fn fragments_of_the_session_hold_for_the_media_unless_it_has_its_own() {
    let text = format!("{HEAD}{FRAGMENTS}m=audio 50010 RTP/AVP 0\r\n{STANDARD}a=ice-ufrag:own1\r\n");
    let session = Session::parse(text.as_bytes()).unwrap();
    let ice = session.audio().unwrap().ice.clone().unwrap();
    assert_eq!((ice.name.as_str(), ice.password()), ("own1", "0nVh3c8JQm5tYd1sWb7LfRzE"));
}

#[test]
fn half_an_offer_of_ice_is_none() {
    for lines in [
        "a=ice-ufrag:k2Xp\r\n",
        "a=ice-pwd:0nVh3c8JQm5tYd1sWb7LfRzE\r\n",
        STANDARD,
        "a=ice-ufrag:k 2\r\na=ice-pwd:x\r\n",
        "a=ice-ufrag\r\na=ice-pwd\r\n",
        "a=candidate:x 1 y TCP 0.1 192.0.2.10 50010\r\n",
        "a=candidate:x 1 y UDP 0.1 192.0.2.10\r\n",
        "a=candidate:x 1 y! UDP 0.1 192.0.2.10 50010\r\n",
        "a=candidate\r\na=ice-lite\r\n",
    ] {
        assert_eq!(ice(lines), None, "{lines}");
    }
    let long = format!("a=ice-ufrag:{}\r\na=ice-pwd:x\r\n", "u".repeat(ICE_TEXT_BYTES_MAX + 1));
    assert_eq!(ice(&long), None);
}

#[test]
fn addresses_that_are_no_candidates_are_a_mismatch() {
    for lines in [
        String::new(),
        STANDARD.replace("50010", "50012"),
        STANDARD.replace("50011", "50013"),
        STANDARD.replace("192.0.2.10 50010", "192.0.2.11 50010"),
        STANDARD.replace("UDP", "TCP-ACT"),
    ] {
        let found = ice(&format!("{FRAGMENTS}{lines}")).unwrap().default;
        assert_eq!(found, DefaultCandidate::Missing, "{lines}");
    }
    let first_only = STANDARD.split_inclusive("\r\n").next().unwrap();
    assert_eq!(ice(&format!("{FRAGMENTS}{first_only}")).unwrap().default, DefaultCandidate::Listed);
}

#[test]
fn what_we_write_reads_as_what_we_hold() {
    let extended =
        format!("{FRAGMENTS}{STANDARD}a=x-candidate-ipv6:2 1 UDP 9 2001:db8::10 50030 typ host\r\n");
    for theirs in [format!("{FRAGMENTS}{STANDARD}"), OLDER.to_owned(), extended] {
        let ours = Ice::ours(&ice(&theirs).unwrap(), &SEED);
        for address in ["203.0.113.5", "2001:db8::5"] {
            let mut spec = OfferSpec::new(address.parse().unwrap(), 30_000);
            spec.ice = IceLines::Lite(Box::new(ours.clone()));
            let bytes = crate::write_offer(&spec);
            let read = Session::parse(&bytes).unwrap();
            let written = ours.clone().written_at(spec.address);
            assert_eq!(read.audio().unwrap().ice.as_deref(), Some(&written));
            assert_eq!(spec.clone().session(None).unwrap().1, read);
            spec.rtcp_mux = true;
            let text = String::from_utf8(crate::write_offer(&spec).to_vec()).unwrap();
            assert_eq!(
                text.matches("candidate").count(),
                1,
                "a component that shares the port has no candidate"
            );
            assert_eq!(Session::parse(text.as_bytes()).unwrap(), spec.session(None).unwrap().1);
        }
    }
}

#[test]
fn a_lite_agent_says_so_and_has_one_host_candidate_for_each_component() {
    let print = |theirs: &str, address: &str| {
        let mut spec = OfferSpec::new(address.parse().unwrap(), 30_000);
        spec.ice = IceLines::Lite(Box::new(Ice::ours(&ice(theirs).unwrap(), &SEED)));
        String::from_utf8(crate::write_offer(&spec).to_vec()).unwrap()
    };
    let text = print(&format!("{FRAGMENTS}{STANDARD}"), "203.0.113.5");
    let media = text.find("m=audio").unwrap();
    assert!(text.find("a=ice-lite\r\n").unwrap() < media, "{text}");
    assert!(text.contains("a=candidate:1 1 UDP 2130706431 203.0.113.5 30000 typ host\r\n"), "{text}");
    assert!(text.contains("a=candidate:1 2 UDP 2130706430 203.0.113.5 30001 typ host\r\n"), "{text}");
    let line = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).unwrap().len();
    assert_eq!((line("a=ice-ufrag:"), line("a=ice-pwd:")), (8, 24));
    let older = print(OLDER, "203.0.113.5");
    assert!(!older.contains("ice-"), "{older}");
    let candidate = older.lines().find_map(|l| l.strip_prefix("a=candidate:")).unwrap();
    let words: Vec<&str> = candidate.split(' ').collect();
    assert_eq!(
        (words[0].len(), words[1], words[2].len(), &words[3..]),
        (43, "1", 22, &["UDP", "0.830", "203.0.113.5", "30000"][..])
    );
}

#[test]
fn another_fragment_or_password_is_a_new_beginning() {
    let base = ice(&format!("{FRAGMENTS}{STANDARD}")).unwrap();
    let other = |from, to| ice(&format!("{FRAGMENTS}{STANDARD}").replace(from, to)).unwrap();
    assert!(base.goes_on(&base));
    assert!(!base.goes_on(&other("k2Xp", "k2Xq")) && !base.goes_on(&other("0nVh", "1nVh")));
    let older = ice(OLDER).unwrap();
    assert!(older.goes_on(&ice(&OLDER.replace("Zk3v", "Ak3v")).unwrap()) && !base.goes_on(&older));
}

#[test]
fn a_password_does_not_print() {
    let shown = format!("{:?}", audio(&format!("{FRAGMENTS}{STANDARD}")));
    assert!(shown.contains("k2Xp") && !shown.contains("0nVh3c8J"), "{shown}");
    let shown = format!("{:?}", audio(OLDER));
    assert!(!shown.contains("p8YtRw2L"), "{shown}");
}
