//! What both providers must do, packet by packet.

use super::*;
use crate::head::Head;
use crate::key::{MasterKey, Suite};
use crate::plan::Channel;
use crate::transform::sources::RTCP_INDEX_MAX;

const PROVIDERS: [Provider; 2] = [Provider::InPlace, Provider::WebrtcSrtp];

fn params(provider: Provider, suite: Suite, fill: u8) -> KeyParams {
    let inline = vec![fill; suite.key_bytes() + suite.salt_bytes()];
    KeyParams { provider, ..KeyParams::new(suite, MasterKey::from_inline(suite, &inline).unwrap()) }
}

fn made(provider: Provider, suite: Suite) -> Box<dyn Transform> {
    transform(&params(provider, suite, 7), 4).unwrap()
}

fn buffer(bytes: &[u8]) -> PacketBuffer {
    let mut buffer = PacketBuffer::new();
    assert!(buffer.fill(bytes));
    buffer
}

fn speech(sequence: u16, ssrc: u8) -> Vec<u8> {
    let [high, low] = sequence.to_be_bytes();
    let head = vec![0x80, 0, high, low, 0, 0, 0, 1, 0, 0, 0, ssrc];
    [head, vec![0x5A; 160]].concat()
}

fn report(ssrc: u8) -> Vec<u8> {
    vec![0x81, 201, 0, 3, 0, 0, 0, ssrc, 1, 2, 3, 4, 5, 6, 7, 8]
}

fn run(
    transform: &mut dyn Transform,
    bytes: &[u8],
    rtp: impl FnOnce(&mut dyn Transform, &RtpHead, &mut PacketBuffer) -> Result<(), Why>,
    rtcp: impl FnOnce(&mut dyn Transform, &RtcpHead, &mut PacketBuffer) -> Result<(), Why>,
) -> Result<Vec<u8>, Why> {
    let mut packet = buffer(bytes);
    match Head::parse(bytes, Channel::Rtp)? {
        Head::Rtp(head) => rtp(transform, &head, &mut packet)?,
        Head::Rtcp(head) => rtcp(transform, &head, &mut packet)?,
    }
    Ok(packet.as_slice().to_vec())
}

fn seal(transform: &mut dyn Transform, bytes: &[u8]) -> Result<Vec<u8>, Why> {
    run(
        transform,
        bytes,
        |t, head, packet| t.seal_rtp(head, packet),
        |t, head, packet| t.seal_rtcp(head, packet),
    )
}

fn open(transform: &mut dyn Transform, bytes: &[u8]) -> Result<Vec<u8>, Why> {
    run(
        transform,
        bytes,
        |t, head, packet| t.open_rtp(head, packet),
        |t, head, packet| t.open_rtcp(head, packet),
    )
}

/// Every provider and suite.
fn each(check: impl Fn(Provider, Suite)) {
    for provider in PROVIDERS {
        Suite::ALL.into_iter().for_each(|suite| check(provider, suite));
    }
}

#[test]
fn what_one_seals_every_other_opens_once() {
    each(|from, suite| {
        for to in PROVIDERS {
            let (mut sealer, mut opener) = (made(from, suite), made(to, suite));
            for clear in [speech(1, 9), speech(2, 9), report(9), report(9)] {
                let sealed = seal(sealer.as_mut(), &clear).unwrap();
                assert_ne!(sealed[12..16], clear[12..16]);
                assert_eq!(open(opener.as_mut(), &sealed), Ok(clear), "{from:?} to {to:?}, {suite:?}");
                assert_eq!(open(opener.as_mut(), &sealed), Err(Why::Replayed));
            }
        }
    });
}

#[test]
fn no_changed_bit_opens_and_none_leaves_a_trace() {
    each(|provider, suite| {
        for clear in [speech(1, 9), report(9)] {
            let sealed = seal(made(provider, suite).as_mut(), &clear).unwrap();
            let mut opener = made(provider, suite);
            for bit in 16..sealed.len() * 8 {
                let mut forged = sealed.clone();
                forged[bit / 8] ^= 1 << (bit % 8);
                assert!(open(opener.as_mut(), &forged).is_err(), "{provider:?} {suite:?} bit {bit}");
            }
            assert_eq!(opener.progress(), Progress::default());
            assert_eq!(open(opener.as_mut(), &sealed), Ok(clear));
        }
    });
}

#[test]
fn no_packet_is_sealed_twice() {
    each(|provider, suite| {
        let mut sealer = made(provider, suite);
        assert!(seal(sealer.as_mut(), &speech(2, 9)).is_ok());
        assert_eq!(seal(sealer.as_mut(), &speech(2, 9)), Err(Why::Replayed));
        assert!(seal(sealer.as_mut(), &speech(1, 9)).is_ok(), "a late one is");
        assert_eq!(
            seal(sealer.as_mut(), &speech(65_535, 9)),
            Err(Why::Replayed),
            "before the first rollover"
        );
    });
}

#[test]
fn sources_are_bounded_both_ways() {
    each(|provider, suite| {
        let (mut sealer, mut opener) = (made(provider, suite), made(provider, suite));
        let mut wide = transform(&params(provider, suite, 7), 9).unwrap();
        for ssrc in 0..6 {
            for clear in [speech(1, ssrc), report(ssrc)] {
                let full = (ssrc >= 4).then_some(Why::TooManySources);
                assert_eq!(seal(sealer.as_mut(), &clear).err(), full);
                let sealed = seal(wide.as_mut(), &clear).unwrap();
                assert_eq!(open(opener.as_mut(), &sealed).err(), full, "{provider:?} {suite:?} {ssrc}");
            }
        }
    });
}

#[test]
fn a_report_that_is_not_encrypted_does_not_open() {
    each(|provider, suite| {
        let mut sealed = seal(made(provider, suite).as_mut(), &report(9)).unwrap();
        let word = if suite.is_aead() { sealed.len() - 4 } else { sealed.len() - 14 };
        assert_eq!(sealed[word] & 0x80, 0x80);
        sealed[word] &= 0x7F;
        let why = if provider == Provider::InPlace { Why::Unauthentic } else { Why::NotSealed };
        assert_eq!(open(made(provider, suite).as_mut(), &sealed), Err(why), "its tag is for another word");
    });
}

#[test]
fn counters_end_where_the_standard_ends_them() {
    for suite in Suite::ALL {
        let at = |rtp, rtcp| Progress {
            rtp: vec![SourceIndex { ssrc: 9, newest: rtp }],
            rtcp: vec![SourceIndex { ssrc: 9, newest: rtcp }],
        };
        let mut sealer = made(Provider::InPlace, suite);
        assert!(sealer.resume(&at((1 << 48) - 2, RTCP_INDEX_MAX - 1)));
        let (last, last_report) =
            (seal(sealer.as_mut(), &speech(65_535, 9)).unwrap(), seal(sealer.as_mut(), &report(9)).unwrap());
        assert_eq!(seal(sealer.as_mut(), &speech(0, 9)), Err(Why::KeyExhausted));
        assert_eq!(seal(sealer.as_mut(), &report(9)), Err(Why::KeyExhausted));
        let mut opener = made(Provider::InPlace, suite);
        assert!(opener.resume(&at((1 << 48) - 2, RTCP_INDEX_MAX - 1)));
        assert_eq!(open(opener.as_mut(), &last), Ok(speech(65_535, 9)));
        assert_eq!(open(opener.as_mut(), &last_report), Ok(report(9)));
        assert!(!opener.resume(&at(1 << 48, 0)));
        assert!(!opener.resume(&at(0, 1 << 31)));
    }
}

#[test]
fn a_key_of_another_suite_is_refused() {
    each(|provider, suite| {
        let other = if suite == Suite::AeadAes256Gcm { Suite::AeadAes128Gcm } else { Suite::AeadAes256Gcm };
        let mixed = KeyParams { suite: other, ..params(provider, suite, 7) };
        assert!(transform(&mixed, 4).is_none());
    });
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic_or_open(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        first in proptest::sample::select(vec![0x80u8, 0x90, 0x8F, 0x9F, 0xB0]),
        kind in proptest::sample::select(vec![0u8, 0x80, 200, 201, 207]),
    ) {
        let mut bytes = bytes;
        for (to, from) in bytes.iter_mut().zip([first, kind]) { *to = from; }
        each(|provider, suite| {
            assert!(open(made(provider, suite).as_mut(), &bytes).is_err());
            let _ = seal(made(provider, suite).as_mut(), &bytes);
        });
    }
}
