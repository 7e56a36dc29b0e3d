//! Every session description of the recorded messages goes through the parser, the security reading and the
//! relay functions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use sdp::{
    Anchor, CodecPolicy, DefaultCandidate, IceForm, IceLines, Ipv6Lines, MediaSecurity, OfferMedia,
    OriginSeed, Session, Suite, choose_body, pick_crypto, relay_offer,
};

struct Sample {
    name: String,
    content_type: Vec<u8>,
    body: Vec<u8>,
}

fn samples() -> Vec<Sample> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/data/samples");
    let mut found: Vec<Sample> = std::fs::read_dir(folder)
        .expect("sample folder")
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "sip"))
        .map(|path| read_sample(&path))
        .filter(|sample| sample.body.windows(4).any(|w| w == b"v=0\r"))
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn read_sample(path: &std::path::Path) -> Sample {
    let bytes = std::fs::read(path).expect("sample");
    let cut = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("end of headers");
    let headers = String::from_utf8_lossy(&bytes[..cut]).into_owned();
    let content_type = headers
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-type").then(|| value.trim().as_bytes().to_vec())
        })
        .unwrap_or_default();
    let name = path.file_name().expect("name").to_string_lossy()[..2].to_owned();
    Sample { name, content_type, body: bytes[cut + 4..].to_vec() }
}

fn chosen(sample: &Sample) -> Session {
    let body = choose_body(&sample.content_type, &sample.body).expect(&sample.name);
    Session::parse(body).expect(&sample.name)
}

fn sample(name: &str) -> Sample {
    samples().into_iter().find(|s| s.name == name).expect("sample exists")
}

#[test]
fn every_sample_offer_parses() {
    let all = samples();
    let names: Vec<&str> = all.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["01", "02", "03", "04", "05", "06", "07", "08", "09", "17"]);
    for sample in &all {
        assert!(chosen(sample).audio().is_some_and(|audio| audio.remote().is_some()), "{}", sample.name);
    }
}

#[test]
fn security_is_what_each_offer_says() {
    let expected = [
        ("01", MediaSecurity::Required),
        ("02", MediaSecurity::Required),
        ("03", MediaSecurity::Optional),
        ("04", MediaSecurity::None),
        ("05", MediaSecurity::Required),
        ("06", MediaSecurity::Required),
        ("07", MediaSecurity::Required),
        ("08", MediaSecurity::Required),
        ("09", MediaSecurity::None),
        ("17", MediaSecurity::Required),
    ];
    for (name, security) in expected {
        assert_eq!(chosen(&sample(name)).audio().expect(name).security(), security, "{name}");
    }
}

#[test]
fn both_parts_of_the_multipart_sample_parse_and_the_second_is_chosen() {
    let sample = sample("01");
    let text = String::from_utf8(sample.body.clone()).expect("text");
    let parts: Vec<Session> = text
        .split("--b7f3c1d2-0a4e-4c55-9d61-1f2e3a4b5c6d")
        .filter_map(|part| part.find("v=0").map(|at| Session::parse(&part.as_bytes()[at..]).expect("part")))
        .collect();
    let ports: Vec<u16> = parts.iter().map(|p| p.audio().expect("audio").port).collect();
    assert_eq!(ports, [50020, 50010]);
    assert!(parts.iter().all(|p| p.audio().expect("audio").security() == MediaSecurity::Required));
    assert_eq!(chosen(&sample).audio().expect("audio").port, 50010);
}

#[test]
fn ice_is_read_in_the_form_of_the_part_that_is_used() {
    for name in ["01", "02", "03", "04", "05", "06", "07", "08"] {
        let session = chosen(&sample(name));
        let ice = session.audio().and_then(|audio| audio.ice.as_deref()).expect(name);
        assert_eq!((ice.form, ice.default), (IceForm::Fragments, DefaultCandidate::Listed), "{name}");
        assert_eq!((ice.name.as_str(), ice.ipv6), ("k2Xp", Ipv6Lines::Extension), "{name}");
    }
    let text = String::from_utf8(sample("01").body).expect("text");
    let older =
        text.split("v=0").nth(1).and_then(|part| part.split("\r\n\r\n--").next()).expect("a first part");
    let session = Session::parse(format!("v=0{older}\r\n").as_bytes()).expect("the older part");
    let ice = session.audio().and_then(|audio| audio.ice.as_deref()).expect("its candidates");
    assert_eq!((ice.form, ice.default), (IceForm::Candidates, DefaultCandidate::Listed));
    assert!(chosen(&sample("09")).audio().expect("audio").ice.is_none());
}

#[test]
fn the_line_without_mki_is_preferred_and_one_with_mki_still_serves() {
    let session = chosen(&sample("02"));
    let audio = session.audio().expect("audio");
    assert_eq!(audio.crypto.iter().map(|c| c.tag).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(audio.cryptoscale.iter().map(|c| c.tag).collect::<Vec<_>>(), [1]);
    let picked = pick_crypto(audio, &[Suite::AesCm128HmacSha1_80]).expect("line");
    assert_eq!((picked.tag, picked.mki.is_none()), (3, true));
    assert!(pick_crypto(audio, &[Suite::AeadAes128Gcm]).is_none());

    let mut only_mki = audio.clone();
    only_mki.crypto.retain(|line| line.mki.is_some());
    let picked = pick_crypto(&only_mki, &[Suite::AesCm128HmacSha1_80]).expect("line");
    assert_eq!((picked.tag, picked.mki.expect("mki").as_bytes()), (2, &[1u8][..]));
}

#[test]
fn a_relayed_sample_keeps_numbers_and_loses_everything_of_microsoft() {
    let anchor = Anchor {
        address: [203, 0, 113, 5].into(),
        rtp_port: 30000,
        rtcp_port: 30001,
        rtcp_mux: false,
        ice: IceLines::Silent,
    };
    let names = ["PCMU", "PCMA"].map(str::to_owned);
    let codecs = CodecPolicy { names: &names };
    for sample in samples() {
        let offer = chosen(&sample);
        let origin = OriginSeed { session_id: 1, version: 1 };
        let (bytes, relayed) =
            relay_offer(&offer, None, &[], &anchor, codecs, &OfferMedia::Clear, &origin).expect(&sample.name);
        let numbers: Vec<u8> = relayed.session.audio().expect("audio").formats.iter().map(|f| f.pt).collect();
        let mut sorted = numbers.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 8, 13, 101], "{}", sample.name);
        assert_eq!(Session::parse(&bytes).expect(&sample.name), relayed.session, "{}", sample.name);
        let text = String::from_utf8(bytes.to_vec()).expect("text");
        let foreign =
            ["192.0.2", "198.51.100", "a=x-", "ice-", "candidate", "crypto", "b=CT", "label", "inline"];
        assert!(foreign.iter().all(|word| !text.contains(word)), "{}: {text}", sample.name);
    }
}
