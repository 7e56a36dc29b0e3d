//! Secrets in messages and in packets, before and after.

use std::time::Instant;

use audio_codec_algorithms::{encode_alaw, encode_ulaw};
use relay::Channel;

use super::super::tones::tests::key;
use super::*;

fn masked(text: &str) -> String {
    let shown = String::from_utf8(message(text.as_bytes().to_vec())).unwrap();
    assert_eq!(shown.len(), text.len(), "a length has to stay");
    shown
}

#[test]
fn keys_and_passwords_of_a_description_are_blank_and_all_else_stays() {
    let text = "INVITE sip:ken@a SIP/2.0\r\nCall-ID: 4711\r\nContent-Type: application/sdp\r\n\r\nv=0\r\nk=clear:secret\r\nm=audio 4000 RTP/SAVP 0\r\n\
                a=crypto:2 AES_CM_128_HMAC_SHA1_80 inline:HhwaGBYUEhAODAoIBgQCAAEDBQcJCw0PERMVFxkb|2^31|1:1\r\n\
                a=crypto:3 AES_CM_128_HMAC_SHA1_80 INLINE:AAAABBBB;inline:CCCC\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef012345\r\n";
    let shown = masked(text);
    for secret in ["HhwaGBYU", "VFxkb", "AAAABBBB", "CCCC", "0123456789", "secret"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
    for word in ["Call-ID: 4711", "m=audio 4000", "|2^31|1:1", "a=ice-ufrag:abcd", "a=crypto:2 AES_CM"] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
}

#[test]
fn what_was_keyed_in_is_blank_in_every_form_it_has() {
    let info = |kind: &str, body: &str| {
        masked(&format!("INFO sip:a SIP/2.0\r\nCSeq: 7 INFO\r\nContent-Type: {kind}\r\n\r\n{body}"))
    };
    assert!(
        info("application/dtmf-relay", "Signal=5\r\nDuration=100\r\n")
            .ends_with("Signal=x\r\nDuration=xxx\r\n")
    );
    assert!(
        info("application/dtmf-relay", "Signal= *\r\nSignal=A\r\n").ends_with("Signal= x\r\nSignal=x\r\n")
    );
    assert!(info("application/dtmf", "#").ends_with("\r\n\r\nx"));
    assert!(info("text/plain", "1 2 3").ends_with("x x x"));
    assert!(info("text/plain", "7").contains("CSeq: 7 INFO"));
    let kpml = "NOTIFY sip:a SIP/2.0\r\nc : application/KPML-response+xml\r\n\r\n<kpml-response code=\"200\" digits=\"12#4\"/>";
    assert!(masked(kpml).ends_with("code=\"xxx\" digits=\"xxxx\"/>"));
    let other = "NOTIFY sip:a SIP/2.0\r\nContent-Type: message/sipfrag\r\n\r\nSIP/2.0 200 OK";
    assert_eq!(masked(other), other);
}

#[test]
fn sealed_media_is_described_as_what_stands_in_the_file_and_lengths_stay() {
    let text = "INVITE sip:a SIP/2.0\r\nX: RTP/SAVP\r\n\r\nm=audio 1 RTP/SAVP 0 8\r\na=crypto:1 A inline:xx|1:1\r\n\
                m=audio 2 RTP/SAVPF 0\r\na=crypto:1 B inline:xx\r\nm=audio 3 RTP/SAVP 0\r\na=fingerprint:sha-1\r\n";
    let mut bytes = text.as_bytes().to_vec();
    describe_as_opened(&mut bytes);
    let shown = String::from_utf8(bytes).unwrap();
    assert_eq!(shown.len(), text.len());
    for line in [
        "X: RTP/SAVP\r",
        "m=audio 1 RTP/AVP 0 8\r",
        "A inline:xxx|1:1\r",
        "2 RTP/AVPF 0\r",
        "B inline:xxx\r",
        "3 RTP/SAVP 0\r",
    ] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    let mut other = b"BYE sip:a SIP/2.0\r\n\r\n".to_vec();
    describe_as_opened(&mut other);
    assert_eq!(other, b"BYE sip:a SIP/2.0\r\n\r\n");
}

fn packet(payload_type: u8, number: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend(number.to_be_bytes());
    packet.extend([0, 0, 0, 0, 1, 2, 3, 4]);
    packet.extend(payload);
    packet
}

fn passed(side: Side) -> Passed {
    Passed { side, ..Passed::of_nothing(Instant::now(), Channel::Rtp) }
}

#[test]
fn packets_with_a_key_and_their_neighbours_are_silent_in_either_law() {
    let mu: fn(i16) -> u8 = encode_ulaw;
    for (payload_type, encode, silent) in [(PCMU, mu, MU_SILENCE), (PCMA, encode_alaw, A_SILENCE)] {
        let voice: Vec<u8> = (0..FRAME).map(|n| encode(if n % 16 < 8 { 3_000 } else { -3_000 })).collect();
        let tone: Vec<u8> = key(1, 1, [5_000.0; 2], 1.0, FRAME).into_iter().map(encode).collect();
        let (mut muting, mut out) = (Muting::default(), Vec::new());
        for number in 0..10_u16 {
            let payload = if (4..6).contains(&number) { &tone } else { &voice };
            muting.pass(passed(Side::A), packet(payload_type, number, payload), |_, packet| out.push(packet));
            muting.pass(passed(Side::B), packet(payload_type, number, &voice), |_, _| {});
        }
        assert_eq!(out.len(), 9, "the last one waits");
        muting.finish(|passed, packet| {
            if passed.side == Side::A {
                out.push(packet);
            }
        });
        let muted: Vec<usize> =
            (0..10).filter(|at| out[*at][12..].iter().all(|octet| *octet == silent)).collect();
        assert_eq!(muted, [3, 4, 5, 6]);
        assert!(out.iter().zip(0_u16..).all(|(packet, number)| packet[2..4] == number.to_be_bytes()));
        assert_eq!(out[0], packet(payload_type, 0, &voice));
    }
}

#[test]
fn events_lose_their_number_and_what_cannot_be_looked_into_is_blank() {
    let (mut muting, mut out) = (Muting::default(), Vec::new());
    for (payload_type, payload) in [
        (101, &[5, 0x8A, 3, 0x20][..]),
        (96, &[1, 10, 0, 1, 2, 10, 0, 1]),
        (115, &[7; 40]),
        (101, &[5, 1, 2]),
    ] {
        muting.pass(passed(Side::B), packet(payload_type, 1, payload), |_, packet| out.push(packet));
    }
    let report = vec![0x80, 201, 0, 1, 0, 0, 0, 7];
    muting.pass(passed(Side::B), report.clone(), |_, packet| out.push(packet));
    assert_eq!(out[0][12..], [0xFF, 0x8A, 3, 0x20]);
    assert_eq!(out[1][12..], [0xFF, 10, 0, 1, 0xFF, 10, 0, 1]);
    assert_eq!((&out[2][12..], &out[3][12..]), (&[0; 40][..], &[0; 3][..]));
    assert_eq!(out[4], report);
}
