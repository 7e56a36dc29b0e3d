use super::*;
use crate::{Direction, KeySalt, MediaKind, Suite};

const ANCHOR: Anchor = Anchor {
    address: IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 5)),
    rtp_port: 30000,
    rtcp_port: 30001,
    rtcp_mux: false,
    ice: IceLines::Silent,
};
const ORIGIN: OriginSeed = OriginSeed { session_id: 77, version: 3 };
const MEDIA: &str = "m=video 5000 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n\
    m=audio 4000 RTP/SAVP 104 0 8 118 13 101\r\nb=CT:99980\r\na=ice-ufrag:x\r\na=candidate:1 1 UDP 1 192.0.2.1 1 typ host\r\n\
    a=x-source:main-audio\r\na=label:main-audio\r\na=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:HhwaGBYUEhAODAoIBgQCAAEDBQcJCw0PERMVFxkb\r\n\
    a=rtpmap:104 SILK/16000\r\na=rtpmap:118 CN/16000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=maxptime:200\r\n";

fn parse(media: &str) -> Session {
    let head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=peer\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";
    Session::parse(format!("{head}{media}").as_bytes()).unwrap()
}

fn line(tag: u32, key: u8) -> CryptoLine {
    let suite = Suite::AesCm128HmacSha1_80;
    CryptoLine::new(tag, suite, KeySalt::from_bytes(suite, &[key; 30]).unwrap())
}

fn relayed(offer: &Session, media: &OfferMedia) -> Result<(Bytes, RelayedOffer), OfferError> {
    let names = ["pcmu", "PCMA"].map(str::to_owned);
    relay_offer(offer, None, &[], &ANCHOR, CodecPolicy { names: &names }, media, &ORIGIN)
}

#[test]
fn a_relayed_offer_is_ours_but_for_numbers_and_order() {
    let (bytes, offer) = relayed(&parse(MEDIA), &OfferMedia::Clear).unwrap();
    let expected = "v=0\r\no=- 77 3 IN IP4 203.0.113.5\r\ns=session\r\nc=IN IP4 203.0.113.5\r\nt=0 0\r\n\
        m=video 0 RTP/AVP 96\r\nm=audio 30000 RTP/AVP 0 8 13 101\r\na=rtcp:30001\r\na=rtpmap:0 PCMU/8000\r\n\
        a=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\n\
        a=ptime:20\r\na=maxptime:200\r\na=sendrecv\r\n";
    assert_eq!(std::str::from_utf8(&bytes).unwrap(), expected);
    assert_eq!(offer.audio_index, 1);
    assert_eq!(offer.session, Session::parse(&bytes).unwrap());
}

#[test]
fn a_sealed_offer_carries_our_lines_only() {
    let (bytes, offer) = relayed(&parse(MEDIA), &OfferMedia::Sealed(vec![line(1, 5)])).unwrap();
    let audio = offer.session.audio().unwrap();
    assert_eq!((audio.security(), audio.crypto.as_slice()), (MediaSecurity::Required, &[line(1, 5)][..]));
    assert!(!String::from_utf8_lossy(&bytes).contains("HhwaGBYU"));
    assert_eq!(relayed(&parse(MEDIA), &OfferMedia::Sealed(Vec::new())), Err(OfferError::NoCrypto));
}

#[test]
fn offers_that_cannot_be_anchored_are_refused() {
    let refused = |media: &str| relayed(&parse(media), &OfferMedia::Clear).unwrap_err();
    assert_eq!(refused("m=image 4 udptl t38\r\n"), OfferError::FaxOnly);
    assert_eq!(refused("m=video 4 RTP/AVP 96\r\n"), OfferError::NoAudio);
    assert_eq!(refused("m=audio 0 RTP/AVP 0\r\n"), OfferError::NoAudio);
    assert_eq!(refused("m=audio 4 RTP/AVP 18 13 101\r\n"), OfferError::NoCodec);
    assert_eq!(refused("m=audio 4 RTP/AVP 0\r\nc=IN IP4 224.0.0.1\r\n"), OfferError::NoAddress);
}

#[test]
fn a_relayed_answer_has_the_lines_of_the_offer_it_answers() {
    let offer = parse(MEDIA);
    let answer = parse(
        "m=video 0 RTP/AVP 96\r\nm=audio 6000 RTP/AVP 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=x-foo\r\n",
    );
    let media = AnswerMedia::Sealed { line: line(2, 6) };
    let (bytes, ours) = relay_answer(&offer, &answer, &ANCHOR, &media, &ORIGIN).unwrap();
    let session = Session::parse(&bytes).unwrap();
    assert_eq!(session.media().len(), 2);
    assert_eq!((session.media()[0].port, &session.media()[0].kind), (0, &MediaKind::Other("video".into())));
    let audio = session.audio().unwrap();
    assert_eq!((audio.port, &audio.profile), (30000, &Profile::RtpSavp));
    assert_eq!(audio.formats.iter().map(|f| f.pt).collect::<Vec<_>>(), [8, 101]);
    assert_eq!((&audio.formats, audio.direction), (&ours.formats, ours.direction));
    assert_eq!(crate::check_answer(&offer, &session).unwrap().crypto, Some(line(2, 6)));
}

#[test]
fn each_leg_is_told_numbers_of_its_own() {
    let digits = |pt: u8| {
        format!("m=audio 4 RTP/AVP 0 {pt}\r\na=rtpmap:{pt} Telephone-Event/8000\r\na=fmtp:{pt} 0-15\r\n")
    };
    let (offer, answer) = (parse(&digits(97)), parse(&digits(96)));
    let said = |bytes: &Bytes| {
        let audio = Session::parse(bytes).unwrap().audio().cloned().unwrap();
        audio.formats.iter().map(|f| (f.pt, f.fmtp.clone())).collect::<Vec<_>>()
    };
    let within = |numbering| {
        let made =
            relay_answer_within(&offer, &answer, &|_| true, numbering, &ANCHOR, &AnswerMedia::Clear, &ORIGIN);
        said(&made.unwrap().0)
    };
    assert_eq!(within(Numbering::OfOffer), [(0, None), (97, Some("0-15".into()))]);
    assert_eq!(within(Numbering::OfAnswer), [(0, None), (96, Some("0-15".into()))]);
    let names = ["PCMU".to_owned()];
    let bound = PayloadType::telephone_event(101);
    let codecs = CodecPolicy { names: &names };
    let (bytes, _) =
        relay_offer(&offer, None, &[&bound], &ANCHOR, codecs, &OfferMedia::Clear, &ORIGIN).unwrap();
    assert_eq!(said(&bytes), [(0, None), (101, Some("0-15".into()))]);
}

#[test]
fn rtcp_shares_a_port_where_the_anchor_says_so() {
    let offer = parse("m=audio 4 RTP/AVP 0\r\n");
    let anchor = Anchor { rtcp_mux: true, ..ANCHOR };
    let (bytes, _) = relay_answer(&offer, &offer, &anchor, &AnswerMedia::Clear, &ORIGIN).unwrap();
    assert!(String::from_utf8_lossy(&bytes).contains("a=rtcp:30001\r\na=rtcp-mux\r\n"));
    assert!(Session::parse(&bytes).unwrap().audio().unwrap().rtcp_mux);
}

#[test]
fn what_the_far_side_did_not_agree_to_is_left_out_by_its_own_number() {
    let offer = parse("m=audio 4 RTP/AVP 0 8 97\r\na=rtpmap:97 telephone-event/8000\r\n");
    let answer = parse("m=audio 4 RTP/AVP 8 0 96\r\na=rtpmap:96 telephone-event/8000\r\n");
    let made = relay_answer_within(
        &offer,
        &answer,
        &|pt| [0, 96].contains(&pt),
        Numbering::OfOffer,
        &ANCHOR,
        &AnswerMedia::Clear,
        &ORIGIN,
    );
    assert_eq!(made.unwrap().1.formats.iter().map(|f| f.pt).collect::<Vec<_>>(), [0, 97]);
}

#[test]
fn our_own_answer_passes_the_check_of_the_offerer() {
    let offer =
        parse(MEDIA.split_once("m=audio").map(|(_, audio)| format!("m=audio{audio}")).unwrap().as_str());
    let (_, ours) = relayed(&offer, &OfferMedia::Sealed(vec![line(1, 5)])).unwrap();
    let from_b = parse(
        "m=audio 6000 RTP/SAVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=recvonly\r\n\
         a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:Dw4NDAsKCQgHBgUEAwIBABAREhMUFRYXGBkaGxwd\r\n",
    );
    assert!(crate::check_answer(&ours.session, &from_b).is_ok());
    let media = AnswerMedia::Sealed { line: line(2, 6) };
    let (bytes, _) = relay_answer(&offer, &from_b, &ANCHOR, &media, &ORIGIN).unwrap();
    let accepted = crate::check_answer(&offer, &Session::parse(&bytes).unwrap()).unwrap();
    assert_eq!((accepted.direction, accepted.crypto), (Direction::RecvOnly, Some(line(2, 6))));
}

#[test]
fn an_answer_never_weakens_what_the_offer_requires() {
    let answer = parse("m=audio 6000 RTP/AVP 0\r\n");
    let relay =
        |offer: &str, media: &AnswerMedia| relay_answer(&parse(offer), &answer, &ANCHOR, media, &ORIGIN);
    let savp = &MEDIA[MEDIA.find("m=audio").unwrap()..];
    let sealed = |tag, key| AnswerMedia::Sealed { line: line(tag, key) };
    assert_eq!(relay(savp, &AnswerMedia::Clear), Err(AnswerError::Downgrade));
    assert_eq!(relay(savp, &sealed(9, 6)), Err(AnswerError::CryptoNotOffered));
    assert_eq!(relay("m=audio 4 RTP/AVP 0\r\n", &sealed(2, 6)), Err(AnswerError::CryptoNotOffered));
    let optional = savp.replace("RTP/SAVP", "RTP/AVP");
    let (clear, _) = relay(&optional, &AnswerMedia::Clear).unwrap();
    assert_eq!(Session::parse(&clear).unwrap().audio().unwrap().security(), MediaSecurity::None);
    let text = String::from_utf8(relay(&optional, &sealed(2, 6)).unwrap().0.to_vec()).unwrap();
    assert!(text.contains("m=audio 30000 RTP/SAVP 0\r\n"));
    assert_eq!(relay("m=audio 4 RTP/AVP 8\r\n", &AnswerMedia::Clear), Err(AnswerError::NoCodec));
}

#[test]
fn a_refused_audio_line_is_reported_not_relayed() {
    let (offer, answer) = (parse("m=audio 4 RTP/AVP 0\r\n"), parse("m=audio 0 RTP/AVP 0\r\n"));
    let result = relay_answer(&offer, &answer, &ANCHOR, &AnswerMedia::Clear, &ORIGIN);
    assert_eq!(result, Err(AnswerError::MediaRejected));
}

#[test]
fn hold_travels_through_offer_and_answer() {
    let (_, held) = relayed(&parse("m=audio 4 RTP/AVP 0\r\na=sendonly\r\n"), &OfferMedia::Clear).unwrap();
    assert_eq!(held.session.audio().unwrap().direction, Direction::SendOnly);
    let answer = relay_answer(
        &parse("m=audio 4 RTP/AVP 0\r\na=sendonly\r\n"),
        &parse("m=audio 6 RTP/AVP 0\r\n"),
        &ANCHOR,
        &AnswerMedia::Clear,
        &ORIGIN,
    );
    let answer = Session::parse(&answer.unwrap().0).unwrap();
    assert_eq!(answer.audio().unwrap().direction, Direction::RecvOnly);
}
