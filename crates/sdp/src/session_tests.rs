use super::*;

const HEAD: &str = "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";
const AUDIO: &str = "m=audio 4000 RTP/AVP 0\r\n";

fn parse(media: &str) -> Result<Session, SdpError> {
    Session::parse(format!("{HEAD}{media}").as_bytes())
}

#[test]
fn bare_line_feeds_are_tolerated() {
    let text = format!("{HEAD}{AUDIO}a=sendonly\r\n");
    let lf = Session::parse(text.replace("\r\n", "\n").as_bytes()).unwrap();
    assert_eq!(lf, Session::parse(text.as_bytes()).unwrap());
    assert_eq!(lf.audio().unwrap().direction, crate::Direction::SendOnly);
}

#[test]
fn the_origin_is_kept_even_beyond_64_bits() {
    let text = "v=0\r\no=- 99999999999999999999999 7 IN IP4 h.example\r\ns=-\r\nt=0 0\r\n";
    let session = Session::parse(text.as_bytes()).unwrap();
    let origin = session.origin();
    assert_eq!((origin.session_id, origin.version), ("99999999999999999999999", 7));
    assert_eq!(origin.address, "h.example");
}

#[test]
fn what_is_no_session_is_an_error_without_raw_bytes() {
    for bad in [&b""[..], b"v=1\r\n", b"hello", b"v=0\r\nm=audio x RTP/AVP 0\r\n", b"v=0\r\no=\x1b[31m\r\n"] {
        let Err(SdpError::Grammar(text)) = Session::parse(bad) else { panic!("{bad:?}") };
        assert!(text.is_ascii() && !text.contains('\x1b') && text.len() <= 120);
    }
    let no_port = Session::parse(b"v=0\r\no=- 1 1 IN IP4 h\r\ns=-\r\nt=0 0\r\nm=audio x RTP/AVP 0\r\n");
    assert!(matches!(no_port, Err(SdpError::Grammar(text)) if text.contains("line 5")), "it says where");
}

#[test]
fn sessions_are_bounded_in_bytes() {
    let text = |n: usize| format!("{HEAD}i={}\r\n", "x".repeat(n - HEAD.len() - 4));
    assert!(Session::parse(text(SESSION_BYTES_MAX).as_bytes()).is_ok());
    assert_eq!(Session::parse(text(SESSION_BYTES_MAX + 1).as_bytes()), Err(SdpError::TooLong));
}

#[test]
fn media_lines_attributes_and_formats_are_bounded() {
    assert!(parse(&AUDIO.repeat(MEDIA_LINES_MAX)).is_ok());
    assert_eq!(parse(&AUDIO.repeat(MEDIA_LINES_MAX + 1)), Err(SdpError::MediaLines));
    let attributes = |n: usize| parse(&format!("{AUDIO}{}", "a=x\r\n".repeat(n)));
    assert!(attributes(ATTRIBUTES_MAX).is_ok());
    assert_eq!(attributes(ATTRIBUTES_MAX + 1), Err(SdpError::Attributes));
    let formats = |n: usize| {
        let list: Vec<String> = (0..n).map(|pt| pt.to_string()).collect();
        parse(&format!("m=audio 4000 RTP/AVP {}\r\n", list.join(" ")))
    };
    assert_eq!(formats(FORMATS_MAX).unwrap().audio().unwrap().formats.len(), FORMATS_MAX);
    assert_eq!(formats(FORMATS_MAX + 1), Err(SdpError::Formats));
}

#[test]
fn crypto_lines_and_candidates_are_bounded() {
    let crypto = |n: usize| parse(&format!("{AUDIO}{}", "a=crypto:1 x y\r\n".repeat(n)));
    assert_eq!(crypto(CRYPTO_LINES_MAX).unwrap().audio().unwrap().crypto_ignored, CRYPTO_LINES_MAX);
    assert_eq!(crypto(CRYPTO_LINES_MAX + 1), Err(SdpError::CryptoLines));
    let candidates = |n: usize| parse(&format!("{AUDIO}{}", "a=candidate:1\r\n".repeat(n)));
    assert!(candidates(CANDIDATES_MAX).is_ok());
    assert_eq!(candidates(CANDIDATES_MAX + 1), Err(SdpError::Candidates));
}

#[test]
fn the_audio_line_in_use_counts_and_port_zero_is_kept_visible() {
    let both = parse("m=audio 0 RTP/AVP 0\r\nm=audio 5000 RTP/AVP 8\r\n").unwrap();
    assert_eq!(both.audio_index(), Some(1));
    let refused = parse("m=audio 0 RTP/AVP 0\r\n").unwrap();
    assert_eq!(refused.audio().unwrap().port, 0);
    assert_eq!(refused.audio().unwrap().remote(), None);
    assert_eq!(parse("m=video 1 RTP/AVP 96\r\n").unwrap().audio_index(), None);
}

#[test]
fn fax_only_means_no_other_media_in_use() {
    let image = "m=image 4002 udptl t38\r\n";
    assert!(parse(image).unwrap().is_fax_only());
    assert!(parse(&format!("m=audio 0 RTP/AVP 0\r\n{image}")).unwrap().is_fax_only());
    assert!(!parse(&format!("{AUDIO}{image}")).unwrap().is_fax_only());
    assert!(!parse("").unwrap().is_fax_only());
    assert!(!parse("m=image 0 udptl t38\r\n").unwrap().is_fax_only());
}

#[test]
fn characters_that_command_a_terminal_are_left_out_and_everything_else_stays() {
    let text = "v=0\r\no=\u{9b}31m- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 \u{1}0-\u{1b}\u{7f}16\té\r\n";
    let session = Session::parse(text.as_bytes()).unwrap();
    assert_eq!(session.origin().session_id, "1");
    let Some(audio) = session.audio() else { panic!("no audio") };
    assert_eq!(audio.formats[1].fmtp.as_deref(), Some("0-16\té"));
}
