use super::*;
use crate::{MediaSecurity, Session, UnusableWhy};

const CRYPTO: &str = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:Dw4NDAsKCQgHBgUEAwIBABAREhMUFRYXGBkaGxwd\r\n";

fn audio_in(connection: &str, media: &str) -> Audio {
    let text = format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n{connection}\r\nt=0 0\r\n{media}");
    Session::parse(text.as_bytes()).unwrap().audio().unwrap().clone()
}

fn audio(media: &str) -> Audio {
    audio_in("c=IN IP4 192.0.2.1", media)
}

#[test]
fn static_numbers_have_their_meaning_without_rtpmap() {
    let formats = audio("m=audio 4000 RTP/AVP 0 8 13 101\r\n").formats;
    let named: Vec<_> = formats.iter().map(|f| (f.pt, f.name.as_str(), f.clock)).collect();
    assert_eq!(named, [(0, "PCMU", 8000), (8, "PCMA", 8000), (13, "CN", 8000), (101, "", 0)]);
}

#[test]
fn maps_and_parameters_are_attached_by_number() {
    let media = "m=audio 4000 RTP/AVP 101 0 0\r\na=rtpmap:101 telephone-event/8000\r\na=rtpmap:101 evil/1\r\na=fmtp:101 0-16\r\n";
    let formats = audio(media).formats;
    assert_eq!(formats, [PayloadType::telephone_event(101), PayloadType::pcmu()]);
}

#[test]
fn a_format_that_is_no_number_is_refused_on_a_line_in_use() {
    let parse = |line: &str| Session::parse(format!("v=0\r\ns=-\r\nt=0 0\r\n{line}\r\n").as_bytes());
    assert_eq!(parse("m=audio 4000 RTP/AVP 0 t38"), Err(SdpError::Format));
    assert_eq!(parse("m=audio 4000 RTP/AVP 128"), Err(SdpError::Format));
    assert!(parse("m=audio 0 RTP/AVP x").is_ok());
}

#[test]
fn ipv6_and_media_level_connections_are_read() {
    let v6 = audio_in("c=IN IP6 2001:db8::1", "m=audio 4000 RTP/AVP 0\r\n");
    assert_eq!(v6.remote().unwrap().0, "[2001:db8::1]:4000".parse().unwrap());
    let own = audio("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 198.51.100.9\r\n");
    assert_eq!(own.remote().unwrap().1, "198.51.100.9:4001".parse().unwrap());
}

#[test]
fn addresses_that_media_cannot_be_sent_to_are_none() {
    for bad in [
        "IN IP4 224.0.0.1/127",
        "IN IP4 224.2.1.1",
        "IN IP4 255.255.255.255",
        "IN IP6 ff02::1",
        "IN IP4 h.example",
    ] {
        assert_eq!(audio_in(&format!("c={bad}"), "m=audio 4000 RTP/AVP 0\r\n").remote(), None, "{bad}");
    }
}

#[test]
fn rtcp_is_read_with_and_without_address() {
    let rtcp =
        |value: &str| audio(&format!("m=audio 4000 RTP/AVP 0\r\na=rtcp:{value}\r\n")).remote().unwrap().1;
    assert_eq!(rtcp("5011"), "192.0.2.1:5011".parse().unwrap());
    assert_eq!(rtcp("5011 IN IP4 192.0.2.77"), "192.0.2.77:5011".parse().unwrap());
    assert_eq!(rtcp("5011 IN IP6 2001:db8::7"), "[2001:db8::7]:5011".parse().unwrap());
    for broken in ["0", "x", "70000", "5011 IN IP4 nonsense", "5011 IN IP4 224.0.0.1"] {
        assert_eq!(rtcp(broken), "192.0.2.1:4001".parse().unwrap(), "{broken}");
    }
    assert_eq!(audio("m=audio 65535 RTP/AVP 0\r\n").remote().unwrap().1.port(), 65535);
}

#[test]
fn directions_mirror_and_narrow() {
    assert_eq!(Direction::SendOnly.mirrored(), Direction::RecvOnly);
    assert_eq!(Direction::RecvOnly.mirrored(), Direction::SendOnly);
    assert_eq!(Direction::Inactive.mirrored(), Direction::Inactive);
    assert_eq!(Direction::SendRecv.within(Direction::RecvOnly), Direction::RecvOnly);
    assert_eq!(Direction::SendOnly.within(Direction::RecvOnly), Direction::Inactive);
}

#[test]
fn direction_comes_from_the_media_then_the_session_then_the_default() {
    assert_eq!(audio("m=audio 1 RTP/AVP 0\r\n").direction, Direction::SendRecv);
    assert_eq!(audio("a=sendonly\r\nm=audio 1 RTP/AVP 0\r\n").direction, Direction::SendOnly);
    assert_eq!(audio("a=sendonly\r\nm=audio 1 RTP/AVP 0\r\na=inactive\r\n").direction, Direction::Inactive);
    let held = audio_in("c=IN IP4 0.0.0.0", "m=audio 1 RTP/AVP 0\r\n");
    assert_eq!(held.direction, Direction::SendOnly);
}

#[test]
fn security_is_read_from_profile_crypto_and_encryption_together() {
    use MediaSecurity::{None, Optional, Required, Unusable};
    let unusable = Unusable(UnusableWhy::NoUsableCrypto);
    let cases = [
        ("RTP/SAVP", CRYPTO, "", Required),
        ("RTP/SAVPF", CRYPTO, "", Required),
        ("TCP/RTP/SAVP", CRYPTO, "", Required),
        ("RTP/SAVP", "", "", unusable),
        ("RTP/SAVP", "a=crypto:1 UNKNOWN inline:AAAA\r\n", "", unusable),
        ("RTP/SAVP", CRYPTO, "a=encryption:optional\r\n", Required),
        ("RTP/AVP", CRYPTO, "", Optional),
        ("RTP/AVP", CRYPTO, "a=encryption:optional\r\n", Optional),
        ("RTP/AVP", CRYPTO, "a=encryption:required\r\n", Required),
        ("RTP/AVP", CRYPTO, "a=encryption:rejected\r\n", None),
        ("RTP/AVP", "", "a=encryption:required\r\n", unusable),
        ("RTP/AVP", "", "a=encryption:optional\r\n", None),
        ("RTP/AVP", "", "", None),
        ("UDP/TLS/RTP/SAVP", CRYPTO, "", Unusable(UnusableWhy::Profile)),
    ];
    for (profile, crypto, encryption, expected) in cases {
        let it = audio(&format!("m=audio 4000 {profile} 0\r\n{crypto}{encryption}"));
        assert_eq!(it.security(), expected, "{profile} {crypto} {encryption}");
    }
}

#[test]
fn a_doubled_tag_is_used_once() {
    let it = audio(&format!("m=audio 4000 RTP/SAVP 0\r\n{CRYPTO}{CRYPTO}"));
    assert_eq!((it.crypto.len(), it.crypto_ignored), (1, 1));
}
