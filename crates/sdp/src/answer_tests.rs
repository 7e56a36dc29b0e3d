use super::*;
use crate::{CryptoLine, KeySalt, OfferSpec, PayloadType, Profile, Suite};

fn line(tag: u32, key: u8) -> CryptoLine {
    let suite = Suite::AesCm128HmacSha1_80;
    CryptoLine::new(tag, suite, KeySalt::from_bytes(suite, &[key; 30]).unwrap())
}

fn session(change: impl FnOnce(&mut OfferSpec)) -> Session {
    let mut spec = OfferSpec::new("192.0.2.9".parse().unwrap(), 4000);
    change(&mut spec);
    spec.session(None).unwrap().1
}

fn with(profile: Profile, crypto: &[CryptoLine]) -> Session {
    session(|spec| {
        spec.profile = profile;
        spec.crypto = crypto.to_vec();
    })
}

fn required() -> Session {
    with(Profile::RtpSavp, &[line(1, 1), line(2, 2)])
}

fn optional() -> Session {
    with(Profile::RtpAvp, &[line(1, 1)])
}

fn parse(media: &str) -> Session {
    let head = "v=0\r\no=- 1 1 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\n";
    Session::parse(format!("{head}{media}").as_bytes()).unwrap()
}

#[test]
fn a_clear_answer_to_a_clear_offer_is_accepted_in_its_own_order() {
    let answer = session(|spec| spec.formats = vec![PayloadType::pcma(), PayloadType::pcmu()]);
    let accepted = check_answer(&session(|_| ()), &answer).unwrap();
    assert_eq!(accepted.formats, [PayloadType::pcma(), PayloadType::pcmu()]);
    assert_eq!(accepted.rtp, "192.0.2.9:4000".parse().unwrap());
    assert_eq!(accepted.rtcp, "192.0.2.9:4001".parse().unwrap());
    assert_eq!((accepted.crypto, accepted.direction), (None, Direction::SendRecv));
}

#[test]
fn a_secure_answer_names_an_offered_tag_with_a_key_of_its_own() {
    let accepted = check_answer(&required(), &with(Profile::RtpSavp, &[line(2, 9)])).unwrap();
    assert_eq!(accepted.crypto, Some(line(2, 9)));
    let refused =
        |lines: &[CryptoLine]| check_answer(&required(), &with(Profile::RtpSavp, lines)).unwrap_err();
    assert_eq!(refused(&[line(7, 9)]), AnswerError::CryptoNotOffered);
    assert_eq!(refused(&[line(1, 1)]), AnswerError::KeyReused);
    assert_eq!(refused(&[line(1, 2)]), AnswerError::KeyReused);
    assert_eq!(refused(&[line(1, 8), line(2, 9)]), AnswerError::CryptoLine);
    assert_eq!(refused(&[]), AnswerError::CryptoLine);
    let other_suite = Suite::AesCm128HmacSha1_32;
    let other = CryptoLine::new(1, other_suite, KeySalt::from_bytes(other_suite, &[9; 30]).unwrap());
    assert_eq!(refused(&[other]), AnswerError::CryptoNotOffered);
}

#[test]
fn srtp_is_never_answered_down_to_rtp() {
    let clear = session(|_| ());
    assert_eq!(check_answer(&required(), &clear), Err(AnswerError::Downgrade));
    let avp_with_line = with(Profile::RtpAvp, &[line(1, 9)]);
    assert_eq!(check_answer(&required(), &avp_with_line), Err(AnswerError::Profile));
    let broken = parse("m=audio 4000 RTP/AVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAAA\r\n");
    assert_eq!(check_answer(&optional(), &broken), Err(AnswerError::CryptoLine));
}

#[test]
fn an_optional_offer_takes_both_kinds_of_answer() {
    assert_eq!(check_answer(&optional(), &session(|_| ())).unwrap().crypto, None);
    let willing = check_answer(&optional(), &with(Profile::RtpSavp, &[line(1, 9)])).unwrap();
    assert_eq!(willing.crypto, Some(line(1, 9)));
}

#[test]
fn crypto_that_was_not_offered_is_refused() {
    let clear = session(|_| ());
    assert_eq!(check_answer(&clear, &required()), Err(AnswerError::CryptoNotOffered));
    assert_eq!(check_answer(&clear, &optional()), Err(AnswerError::CryptoNotOffered));
    let dtls = parse("m=audio 4000 UDP/TLS/RTP/SAVP 0\r\n");
    assert_eq!(check_answer(&clear, &dtls), Err(AnswerError::Profile));
}

#[test]
fn formats_beyond_the_offer_are_refused() {
    let answer = |fmt: &str| check_answer(&session(|_| ()), &parse(&format!("m=audio 4000 RTP/AVP {fmt}")));
    assert!(answer("0\r\n").is_ok());
    assert_eq!(answer("0 18\r\n"), Err(AnswerError::FormatNotOffered(18)));
    assert_eq!(answer("0\r\na=rtpmap:0 PCMA/8000\r\n"), Err(AnswerError::FormatNotOffered(0)));
    assert_eq!(answer("13\r\n"), Err(AnswerError::NoCodec));
}

#[test]
fn rfc_3264_section_6_1_an_answer_may_number_the_offered_codecs_its_own_way() {
    let offer = parse("m=audio 4000 RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n");
    let answer = parse("m=audio 4000 RTP/AVP 0 96\r\na=rtpmap:96 telephone-event/8000\r\n");
    let accepted = check_answer(&offer, &answer).unwrap();
    assert_eq!(accepted.formats.iter().map(|f| f.pt).collect::<Vec<_>>(), [0, 96]);
    let wide = parse("m=audio 4000 RTP/AVP 0 96\r\na=rtpmap:96 telephone-event/16000\r\n");
    assert_eq!(check_answer(&offer, &wide), Err(AnswerError::FormatNotOffered(96)));
    let unnamed = parse("m=audio 4000 RTP/AVP 0 101\r\n");
    assert_eq!(check_answer(&offer, &unnamed), Err(AnswerError::FormatNotOffered(101)));
}

#[test]
fn media_lines_must_match_one_to_one() {
    let offer = parse("m=audio 4000 RTP/AVP 0\r\nm=video 0 RTP/AVP 96\r\n");
    let answer = |media: &str| check_answer(&offer, &parse(media));
    assert!(answer("m=audio 4000 RTP/AVP 0\r\nm=video 0 RTP/AVP 96\r\n").is_ok());
    assert_eq!(answer("m=audio 4000 RTP/AVP 0\r\n"), Err(AnswerError::MediaLines));
    let more = "m=audio 4000 RTP/AVP 0\r\nm=video 0 RTP/AVP 96\r\nm=audio 4 RTP/AVP 0\r\n";
    assert_eq!(answer(more), Err(AnswerError::MediaLines));
    let swapped = "m=video 0 RTP/AVP 96\r\nm=audio 4000 RTP/AVP 0\r\n";
    assert_eq!(answer(swapped), Err(AnswerError::MediaLines));
    let revived = "m=audio 4000 RTP/AVP 0\r\nm=video 6 RTP/AVP 96\r\n";
    assert_eq!(answer(revived), Err(AnswerError::MediaRevived));
    let refused = "m=audio 0 RTP/AVP 0\r\nm=video 0 RTP/AVP 96\r\n";
    assert_eq!(answer(refused), Err(AnswerError::MediaRejected));
}

#[test]
fn an_answer_without_address_is_refused() {
    let answer = parse("m=audio 4000 RTP/AVP 0\r\nc=IN IP4 nowhere.example\r\n");
    assert_eq!(check_answer(&session(|_| ()), &answer), Err(AnswerError::NoAddress));
}

#[test]
fn the_accepted_direction_is_never_wider_than_the_offer() {
    let offer = |direction| session(|spec| spec.direction = direction);
    let settled = |o, a| check_answer(&offer(o), &offer(a)).unwrap().direction;
    assert_eq!(settled(Direction::SendOnly, Direction::RecvOnly), Direction::RecvOnly);
    assert_eq!(settled(Direction::SendOnly, Direction::SendRecv), Direction::RecvOnly);
    assert_eq!(settled(Direction::Inactive, Direction::SendRecv), Direction::Inactive);
    assert_eq!(settled(Direction::SendRecv, Direction::SendOnly), Direction::SendOnly);
}
