//! Properties over arbitrary input: nothing panics, and what we write reads back as what we hold.

use proptest::prelude::{ProptestConfig, any, prop, prop_assert_eq, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy};

use crate::{
    Anchor, AnswerMedia, CodecPolicy, CryptoLine, IceLines, Mki, OfferMedia, OriginSeed, Session,
    check_answer, choose_body, relay_answer, relay_offer,
};

const LINES: [&str; 26] = [
    "v=0",
    "o=- 1 1 IN IP4 192.0.2.1",
    "o= 1 1 IN IP4 x",
    "s=",
    "t=0 0",
    "t=1 86400",
    "r=7d 1h 0 25h",
    "z=1 -1h 2 0",
    "k=clear:x",
    "b=CT:99980",
    "c=IN IP4 192.0.2.1",
    "c=IN IP6 ::",
    "m=audio 4000 RTP/SAVP 0 8 13 101",
    "m=audio 4000/2 RTP/AVP 0 111",
    "m=image 0 udptl t38",
    "a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:HhwaGBYUEhAODAoIBgQCAAEDBQcJCw0PERMVFxkb|2^31|1:1",
    "a=cryptoscale:1 client AES_CM_128_HMAC_SHA1_80 inline:HhwaGBYUEhAODAoIBgQCAAEDBQcJCw0PERMVFxkb|2^31",
    "a=rtpmap:101 telephone-event/8000",
    "a=fmtp:101 0-16",
    "a=rtcp:50011 IN IP4 192.0.2.1",
    "a=inactive",
    "a=ice-ufrag:k2Xp",
    "a=ice-pwd:0nVh3c8JQm5tYd1sWb7LfRzE",
    "a=candidate:1 1 UDP 2130706431 192.0.2.1 4000 typ host",
    "a=candidate:Zk3v0dP1yHq8 1 p8YtRw2Lk5Vb UDP 0.830 192.0.2.1 4000",
    "a=",
];

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(&LINES[..]).prop_map(str::to_owned),
        1 => "[a-z]=[ -~]{0,30}",
        1 => Just("a=\u{e9}:\u{0}".to_owned()),
    ]
}

fn session_text() -> impl Strategy<Value = String> {
    prop::collection::vec(line(), 0..24).prop_map(|lines| format!("v=0\r\n{}\r\n", lines.join("\r\n")))
}

fn exercise(bytes: &[u8]) {
    let Ok(session) = Session::parse(bytes) else { return };
    let anchor = Anchor {
        address: [203, 0, 113, 5].into(),
        rtp_port: 30000,
        rtcp_port: 30001,
        rtcp_mux: false,
        ice: IceLines::Silent,
    };
    let origin = OriginSeed { session_id: 1, version: 1 };
    let names = ["PCMU".to_owned()];
    let codecs = CodecPolicy { names: &names };
    if let Ok((bytes, offer)) = relay_offer(&session, None, &[], &anchor, codecs, &OfferMedia::Clear, &origin)
    {
        assert_eq!(Session::parse(&bytes).expect("a relayed offer parses"), offer.session);
        let _ = check_answer(&offer.session, &session);
    }
    if let Ok((bytes, ours)) = relay_answer(&session, &session, &anchor, &AnswerMedia::Clear, &origin) {
        let printed = Session::parse(&bytes).expect("a relayed answer parses");
        let audio = printed.audio().expect("a relayed answer has its audio line");
        assert_eq!((&audio.formats, audio.direction), (&ours.formats, ours.direction));
    }
    let _ = format!("{session:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        exercise(&bytes);
        let _ = choose_body(&bytes, &bytes);
        let _ = choose_body(b"multipart/mixed;boundary=b", &bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = (CryptoLine::parse(&text), CryptoLine::parse_scaled(&text), Mki::parse(&text));
    }

    #[test]
    fn what_is_relayed_of_a_session_reads_back_as_what_is_held(text in session_text()) {
        exercise(text.as_bytes());
    }

    #[test]
    fn printing_a_crypto_line_and_parsing_it_gives_the_same(
        tag in 0u32..1_000_000_000,
        rest in "(\\|2\\^[0-9]{1,2}|\\|[0-9]{1,16})?(\\|[0-9]{1,6}:[0-9]{1,3})?( -?[A-Z_=0-9]{1,12}){0,3}",
    ) {
        let key = "HhwaGBYUEhAODAoIBgQCAAEDBQcJCw0PERMVFxkb";
        if let Ok(line) = CryptoLine::parse(&format!("{tag} AES_CM_128_HMAC_SHA1_32 inline:{key}{rest}")) {
            prop_assert_eq!(CryptoLine::parse(&line.to_string()), Ok(line));
        }
    }
}
