use super::*;
use crate::tests::start;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

pub(crate) const KEY: &str = "p8YtRw2Lk5Vb1Xc4Zq7NdA";

/// A check as a peer writes it: how long the text claims to be, and to what it is filled, is the peer's form.
pub(crate) fn check(name: &[u8], key: &[u8], integrity: Integrity, marked: bool) -> Vec<u8> {
    check_with(&[], name, key, integrity, marked)
}

/// A check with more attributes.
pub(crate) fn check_with(
    more: &[u8],
    name: &[u8],
    key: &[u8],
    integrity: Integrity,
    marked: bool,
) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
    bytes.extend(more);
    bytes.extend([0, 6]);
    bytes.extend((name.len() as u16).to_be_bytes());
    bytes.extend(name);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    let whole = bytes.len() + 24 + if marked { 8 } else { 0 };
    let mut text = bytes.clone();
    let stated = match integrity {
        Integrity::Exact => bytes.len() + 24 - 20,
        Integrity::Padded => whole - 20,
    };
    text[2..4].copy_from_slice(&(stated as u16).to_be_bytes());
    if integrity == Integrity::Padded {
        text.resize(text.len().next_multiple_of(64), 0);
    }
    let mut mac = Hmac::<Sha1>::new_from_slice(key).unwrap();
    mac.update(&text);
    bytes.extend([0, 8, 0, 20]);
    bytes.extend(mac.finalize().into_bytes());
    bytes[2..4].copy_from_slice(&((whole - 20) as u16).to_be_bytes());
    if marked {
        let mark = crc(&bytes) ^ 0x5354_554E;
        bytes.extend([0x80, 0x28, 0, 4]);
        bytes.extend(mark.to_be_bytes());
    }
    bytes
}

fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, octet| {
        (0..8).fold(crc ^ u32::from(*octet), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

fn judged(credentials: &IceCredentials, channel: Channel, bytes: &[u8]) -> Result<Integrity, Why> {
    let now = start();
    Patience::new(now).judge(now, Some(credentials), channel, bytes).map(|check| check.integrity)
}

#[test]
fn a_check_is_right_in_either_form_of_integrity_and_with_a_filled_name() {
    let credentials = IceCredentials::fragments("Umb8", "k2Xp", KEY).unwrap();
    for integrity in [Integrity::Exact, Integrity::Padded] {
        for (name, marked) in [(&b"Umb8:k2Xp"[..], true), (b"Umb8:k2Xp\0\0\0", true), (b"Umb8:k2Xp", false)] {
            let bytes = check(name, KEY.as_bytes(), integrity, marked);
            assert_eq!(judged(&credentials, Channel::Rtp, &bytes), Ok(integrity), "{name:?}");
        }
    }
}

#[test]
fn a_wrong_name_key_mark_or_leg_is_refused() {
    let credentials = IceCredentials::fragments("Umb8", "k2Xp", KEY).unwrap();
    let good = check(b"Umb8:k2Xp", KEY.as_bytes(), Integrity::Exact, true);
    for name in [&b"Umb8"[..], b"Umb8:", b"k2Xp:Umb8", b"Umb8:k2X", b"Umb8:k2Xp:", b"umb8:k2xp", b""] {
        let bytes = check(name, KEY.as_bytes(), Integrity::Exact, true);
        assert_eq!(judged(&credentials, Channel::Rtp, &bytes), Err(Why::StunRefused), "{name:?}");
    }
    let bytes = check(b"Umb8:k2Xp", b"p8YtRw2Lk5Vb1Xc4Zq7Nda", Integrity::Exact, true);
    assert_eq!(judged(&credentials, Channel::Rtp, &bytes), Err(Why::StunRefused));
    // The type of the fingerprint is neither covered by the integrity nor by itself.
    for at in (0..good.len() - 8).chain(good.len() - 6..good.len()) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        assert_eq!(judged(&credentials, Channel::Rtp, &bytes), Err(Why::StunRefused), "octet {at}");
    }
    let now = start();
    let without = Patience::new(now).judge(now, None, Channel::Rtp, &good);
    assert_eq!(without.err(), Some(Why::StunRefused));
}

#[test]
fn the_older_form_names_the_candidate_and_the_component() {
    let (name, key) = ([0xA5; 32], [0x3C; 16]);
    let credentials = IceCredentials::candidate(&name, &key).unwrap();
    let of = |component: &[u8], fill: usize| {
        [&name[..], b":", component, b":", &[0x77; 32], b":", component, &vec![0; fill]].concat()
    };
    for fill in 0..4 {
        let rtp = check(&of(b"1", fill), &key, Integrity::Padded, false);
        assert_eq!(judged(&credentials, Channel::Rtp, &rtp), Ok(Integrity::Padded));
        assert_eq!(judged(&credentials, Channel::Rtcp, &rtp), Err(Why::StunRefused));
    }
    let rtcp = check(&of(b"2", 1), &key, Integrity::Padded, false);
    assert_eq!(judged(&credentials, Channel::Rtcp, &rtcp), Ok(Integrity::Padded));
    let exact = check(&of(b"1", 1), &key, Integrity::Exact, true);
    assert_eq!(judged(&credentials, Channel::Rtp, &exact), Err(Why::StunRefused), "not of that time");
    for name in [name.to_vec(), [&name[..], b":1"].concat(), [&name[..], b":1:"].concat(), b":1:x:1".to_vec()]
    {
        let bytes = check(&name, &key, Integrity::Padded, false);
        assert_eq!(judged(&credentials, Channel::Rtp, &bytes), Err(Why::StunRefused));
    }
}

#[test]
fn a_flood_under_the_right_name_is_looked_at_so_often_in_a_second() {
    let now = start();
    let credentials = IceCredentials::fragments("Umb8", "k2Xp", KEY).unwrap();
    let forged = check(b"Umb8:k2Xp", b"another password of it", Integrity::Exact, true);
    let good = check(b"Umb8:k2Xp", KEY.as_bytes(), Integrity::Exact, true);
    let mut patience = Patience::new(now);
    let mut judge = |now, bytes| patience.judge(now, Some(&credentials), Channel::Rtp, bytes).err();
    for _ in 0..CHECKS_PER_SECOND_MAX {
        assert_eq!(judge(now, &forged), Some(Why::StunRefused));
    }
    assert_eq!(judge(now, &good), Some(Why::StunTooOften));
    assert_eq!(judge(now + Duration::from_secs(1), &good), None);
    let stranger = check(b"xxxx:k2Xp", KEY.as_bytes(), Integrity::Exact, true);
    for _ in 0..CHECKS_PER_SECOND_MAX * 2 {
        assert_eq!(judge(now + Duration::from_secs(2), &stranger), Some(Why::StunRefused));
    }
    assert_eq!(judge(now + Duration::from_secs(2), &good), None, "strangers cost the peer nothing");
}

#[test]
fn credentials_have_bounds_and_do_not_print() {
    assert!(IceCredentials::fragments("", "b", KEY).is_none());
    assert!(IceCredentials::fragments("a", "", KEY).is_none());
    assert!(IceCredentials::fragments("a", "b", "").is_none());
    assert!(IceCredentials::fragments("a", &"b".repeat(ICE_BYTES_MAX), KEY).is_none());
    assert!(IceCredentials::fragments("a", "b", &"b".repeat(ICE_BYTES_MAX + 1)).is_none());
    assert!(IceCredentials::candidate(&[], b"x").is_none());
    let credentials = IceCredentials::fragments("ours", "theirs", KEY).unwrap();
    assert_eq!(format!("{credentials:?}"), "IceCredentials(redacted)");
}
