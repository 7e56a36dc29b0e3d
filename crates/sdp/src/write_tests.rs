use super::*;

#[test]
fn an_offer_reads_back_as_it_was_described() {
    let mut spec = OfferSpec::new("2001:db8::5".parse().unwrap(), 40000);
    spec.direction = Direction::SendOnly;
    let session = Session::parse(&write_offer(&spec)).unwrap();
    let audio = session.audio().unwrap();
    assert_eq!(audio.formats, spec.formats);
    assert_eq!(audio.remote().unwrap().1, "[2001:db8::5]:40001".parse().unwrap());
    assert_eq!((audio.direction, audio.ptime), (Direction::SendOnly, Some(20)));
}

#[test]
fn an_answer_refuses_every_line_but_the_audio_in_use() {
    let offer = b"v=0\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 0 RTP/AVP 0\r\nm=image 9 udptl t38\r\nm=audio 7 RTP/AVP 0\r\n";
    let spec = OfferSpec::new("192.0.2.5".parse().unwrap(), 40000);
    let answer = Session::parse(&write_answer(&Session::parse(offer).unwrap(), &spec).unwrap()).unwrap();
    assert_eq!(answer.media().iter().map(|m| m.port).collect::<Vec<_>>(), [0, 0, 40000]);
    let none = Session::parse(b"v=0\r\ns=-\r\nt=0 0\r\n").unwrap();
    assert_eq!(write_answer(&none, &spec), Err(AnswerError::NoAudio));
}

#[test]
fn what_a_peer_wrote_neither_ends_a_line_nor_commands_a_terminal() {
    let mut spec = OfferSpec::new("192.0.2.5".parse().unwrap(), 40000);
    spec.formats[0].fmtp = Some("a\r\nb\0\u{1b}[2J\u{7}\u{9b}1m\tc\u{7f}".to_owned());
    let text = String::from_utf8(write_offer(&spec).to_vec()).unwrap();
    assert!(text.contains("a=fmtp:0 ab[2J1m\tc\r\n"), "{text}");
}
