//! The published and our own reference values, every one of them, against our own transform.

use serde_json::Value as Json;

use super::cipher::{Cipher, Place, RtcpWord};
use super::counter::{Counter, roc_octets};
use super::derive::{Flow, Value, derive};
use super::gcm::Gcm;
use super::keystream::CounterKey;
use super::*;
use crate::gate::{Entrance, Received};
use crate::head::Head;
use crate::key::{MasterKey, Mki, Suite};
use crate::plan::Channel;

fn octets(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect()
}

/// One vector of the file.
struct Vector(Json);

impl Vector {
    fn text(&self, name: &str) -> &str {
        self.0[name].as_str().unwrap_or_default()
    }

    fn octets(&self, name: &str) -> Vec<u8> {
        octets(self.text(name))
    }

    fn master(&self) -> MasterKey {
        MasterKey::joined(&self.octets("master_key"), &self.octets("master_salt")).unwrap()
    }

    /// `None` for a suite that is never negotiated.
    fn params(&self) -> Option<KeyParams> {
        let suite = match self.text("suite") {
            "AES_CM_128_HMAC_SHA1_80" => Suite::AesCm128HmacSha1_80,
            "AES_CM_128_HMAC_SHA1_32" => Suite::AesCm128HmacSha1_32,
            "AEAD_AES_128_GCM" => Suite::AeadAes128Gcm,
            _ => return None,
        };
        let mki = Mki::new(&self.octets("mki")).ok();
        Some(KeyParams { mki, ..KeyParams::new(suite, self.master()) })
    }

    /// What stands under that title, by its beginning.
    fn titled(&self, title: &str) -> Vec<u8> {
        let packets = self.0["packets"].as_object().unwrap();
        let found = packets.iter().find(|(name, _)| name.starts_with(title));
        octets(found.unwrap_or_else(|| panic!("no {title}")).1.as_str().unwrap())
    }
}

fn buffer(bytes: &[u8]) -> PacketBuffer {
    let mut buffer = PacketBuffer::new();
    assert!(buffer.fill(bytes));
    buffer
}

fn rtp_head(bytes: &[u8]) -> RtpHead {
    let Ok(Head::Rtp(head)) = Head::parse(bytes, Channel::Rtp) else { panic!("no RTP") };
    head
}

fn rtp_place(bytes: &[u8], clear_bytes: usize) -> Place {
    let head = rtp_head(bytes);
    Place { ssrc: head.ssrc, index: u64::from(head.sequence), clear_bytes }
}

/// A place to try a packet from, and to cut the MKI out of what is expected.
fn without_mki(params: &KeyParams, sealed: &[u8], tag_bytes: usize) -> Vec<u8> {
    let mut packet = buffer(sealed);
    let mki = params.mki.as_ref().map_or(0, |mki| mki.as_bytes().len());
    assert!(packet.cut_before_tail(mki, tag_bytes));
    packet.as_slice().to_vec()
}

fn check_rtp(opener: &mut dyn Transform, sealer: &mut dyn Transform, clear: &[u8], sealed: &[u8]) {
    let mut packet = buffer(sealed);
    assert_eq!(opener.open_rtp(&rtp_head(sealed), &mut packet), Ok(()));
    assert_eq!(packet.as_slice(), clear);
    assert_eq!(sealer.seal_rtp(&rtp_head(clear), &mut packet), Ok(()));
    assert_eq!(packet.as_slice(), sealed);
}

fn check_rtcp(opener: &mut dyn Transform, sealer: &mut dyn Transform, clear: &[u8], sealed: &[u8]) {
    let Ok(Head::Rtcp(head)) = Head::parse(clear, Channel::Rtcp) else { panic!("no RTCP") };
    let mut packet = buffer(sealed);
    assert_eq!(opener.open_rtcp(&head, &mut packet), Ok(()));
    assert_eq!(packet.as_slice(), clear);
    assert_eq!(sealer.seal_rtcp(&head, &mut packet), Ok(()));
    assert_eq!(packet.as_slice(), sealed);
}

fn keystream(vector: &Vector) {
    let salt = u128::from_be_bytes(vector.octets("session_salt_shifted").try_into().unwrap());
    let block = u128::from(vector.0["block_counter"].as_u64().unwrap());
    let mut stream = [0; 16];
    CounterKey::new(&vector.octets("session_key")).unwrap().apply(salt + block, &mut stream).unwrap();
    assert_eq!(stream[..], vector.octets("keystream"));
}

fn derivation(vector: &Vector) {
    let values = [
        ("cipher_key", Flow::Rtp, Value::CipherKey),
        ("cipher_salt", Flow::Rtp, Value::Salt),
        ("auth_key_94", Flow::Rtp, Value::AuthKey),
        ("srtcp_cipher_key", Flow::Rtcp, Value::CipherKey),
        ("srtcp_auth_key_20", Flow::Rtcp, Value::AuthKey),
        ("srtcp_salt", Flow::Rtcp, Value::Salt),
    ];
    for (name, flow, value) in values {
        let expected = vector.octets(name);
        let mut derived = vec![0xFF; expected.len()];
        derive(&vector.master(), flow, value, &mut derived).unwrap();
        assert_eq!(derived, expected, "{name}");
    }
}

fn single_rtp(vector: &Vector) {
    let (clear, sealed) = (vector.octets("rtp"), vector.octets("srtp"));
    if let Some(params) = vector.params() {
        let after_mki = if params.suite.is_aead() { 0 } else { params.suite.rtp_tag_bytes() };
        let sealed = without_mki(&params, &sealed, after_mki);
        let (mut opener, mut sealer) = (transform(&params, 1).unwrap(), transform(&params, 1).unwrap());
        return check_rtp(opener.as_mut(), sealer.as_mut(), &clear, &sealed);
    }
    let flow = Counter::of(&vector.master(), Flow::Rtp, 10).unwrap();
    let place = rtp_place(&clear, 12);
    if vector.text("suite").starts_with("NULL") {
        // Nobody negotiates it, so nothing seals with it; its tag is ours all the same.
        assert_eq!(flow.check_tag(&sealed, &roc_octets(place.index), 12), Ok(clear.len()));
        return;
    }
    let mut packet = buffer(&sealed);
    assert_eq!(flow.open_rtp(&place, &mut packet), Ok(()));
    assert_eq!(packet.as_slice(), clear);
    assert_eq!(flow.seal_rtp(&place, &mut packet), Ok(()));
    assert_eq!(packet.as_slice(), sealed);
}

fn single_rtcp(vector: &Vector) {
    let params = vector.params().unwrap();
    let after_mki = if params.suite.is_aead() { 0 } else { params.suite.rtcp_tag_bytes() };
    let (clear, sealed) = (vector.octets("rtcp"), without_mki(&params, &vector.octets("srtcp"), after_mki));
    let (mut opener, mut sealer) = (transform(&params, 1).unwrap(), transform(&params, 1).unwrap());
    let ssrc = u32::from_be_bytes(clear[4..8].try_into().unwrap());
    let newest = vector.0["srtcp_index"].as_u64().unwrap() - 1;
    let before = Progress { rtp: Vec::new(), rtcp: vec![SourceIndex { ssrc, newest }] };
    assert!(sealer.resume(&before));
    check_rtcp(opener.as_mut(), sealer.as_mut(), &clear, &sealed);
}

fn session(vector: &Vector) -> Gcm {
    let key = vector.octets("session_key");
    let suite = if key.len() == 32 { Suite::AeadAes256Gcm } else { Suite::AeadAes128Gcm };
    Gcm::of_session(suite, &key, vector.octets("session_salt").try_into().unwrap()).unwrap()
}

/// Where all of a packet is authenticated and nothing encrypted, all of it is header.
fn session_rtp(vector: &Vector) {
    let gcm = session(vector);
    match vector.text("title").rsplit(' ').next().unwrap() {
        "Encryption" => {
            let mut packet = buffer(&vector.titled("Encrypting"));
            gcm.seal_rtp(&rtp_place(packet.as_slice(), 12), &mut packet).unwrap();
            assert_eq!(packet.as_slice(), vector.titled("Encrypted and tagged"));
        }
        "Decryption" => {
            let mut packet = buffer(&vector.titled("Decrypting"));
            gcm.open_rtp(&rtp_place(packet.as_slice(), 12), &mut packet).unwrap();
            assert_eq!(packet.as_slice()[12..], vector.titled("Verified"));
        }
        "Tagging" => {
            let mut packet = buffer(&vector.titled("Tagging"));
            let clear_bytes = packet.as_slice().len();
            gcm.seal_rtp(&rtp_place(packet.as_slice(), clear_bytes), &mut packet).unwrap();
            assert_eq!(packet.as_slice(), vector.titled("Tagged"));
        }
        "Verification" => {
            let mut packet = buffer(&vector.titled("Verifying"));
            let clear_bytes = packet.as_slice().len() - 16;
            gcm.open_rtp(&rtp_place(packet.as_slice(), clear_bytes), &mut packet).unwrap();
        }
        other => panic!("{other}"),
    }
}

fn session_rtcp(vector: &Vector) {
    let gcm = session(vector);
    let place = |packet: &[u8], word: RtcpWord| Place {
        ssrc: u32::from_be_bytes(packet[4..8].try_into().unwrap()),
        index: word.index(),
        clear_bytes: 8,
    };
    let word_of = |packet: &[u8]| Gcm::rtcp_word(packet).unwrap();
    match vector.text("id").trim_start_matches("rfc7714-") {
        "17.1" => {
            let mut packet = buffer(&vector.titled("Encrypting"));
            let word = RtcpWord::encrypted(0x5d4).unwrap();
            gcm.seal_rtcp(&place(packet.as_slice(), word), word, &mut packet).unwrap();
            assert_eq!(packet.as_slice(), vector.titled("Encrypted and tagged"));
        }
        "17.2" => {
            let sealed = vector.titled("Decrypting");
            let (mut packet, word) = (buffer(&sealed), word_of(&sealed));
            gcm.open_rtcp(&place(&sealed, word), word, &mut packet).unwrap();
            assert_eq!(packet.as_slice(), vector.titled("Verified"));
        }
        _ => {
            let titles = ["Tagged", "Verifying"];
            let sealed = vector.titled(titles[usize::from(vector.text("id").ends_with('4'))]);
            let word = word_of(&sealed);
            assert!(!word.is_encrypted());
            let check =
                |bytes: &[u8]| gcm.check_unencrypted_rtcp(&place(bytes, word), word, &mut buffer(bytes));
            assert_eq!(check(&sealed), Ok(()));
            let mut forged = sealed.clone();
            forged[9] ^= 1;
            assert_eq!(check(&forged), Err(Why::Unauthentic));
        }
    }
}

fn sequence(vector: &Vector) {
    let params = vector.params().unwrap();
    let (mut opener, mut sealer) = (transform(&params, 1).unwrap(), transform(&params, 1).unwrap());
    for packet in vector.0["packets"].as_array().unwrap() {
        let field = |name: &str| octets(packet[name].as_str().unwrap());
        let sealed = without_mki(&params, &field("srtp"), params.suite.rtp_tag_bytes());
        check_rtp(opener.as_mut(), sealer.as_mut(), &field("rtp"), &sealed);
    }
    for packet in vector.0["rtcp_packets"].as_array().unwrap() {
        let field = |name: &str| octets(packet[name].as_str().unwrap());
        let sealed = without_mki(&params, &field("srtcp"), params.suite.rtcp_tag_bytes());
        check_rtcp(opener.as_mut(), sealer.as_mut(), &field("rtcp"), &sealed);
    }
}

fn negative(vector: &Vector) {
    let mut entrance = Entrance::sealed(&vector.params().unwrap()).unwrap();
    let mut passes = |bytes: &[u8]| {
        let mut packet = buffer(bytes);
        Received::parse(&mut packet, Channel::Rtp)
            .and_then(|received| entrance.admit(received).map(drop))
            .is_ok()
    };
    for reject in vector.0["reject"].as_array().unwrap() {
        assert!(!passes(&octets(reject["packet"].as_str().unwrap())), "{}", reject["name"]);
    }
    assert!(passes(&vector.octets("good")));
}

#[test]
fn all_reference_values_are_met() {
    let file = include_str!("../../../../tests/data/conformance/srtp/vectors.json");
    let file: Json = serde_json::from_str(file).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    for vector in vectors.iter().cloned().map(Vector) {
        println!("{}", vector.text("id"));
        match vector.text("kind") {
            "aes_cm_keystream" => keystream(&vector),
            "key_derivation" => derivation(&vector),
            "srtp" => single_rtp(&vector),
            "srtcp" => single_rtcp(&vector),
            "srtp_session_keys" => session_rtp(&vector),
            "srtcp_session_keys" => session_rtcp(&vector),
            "sequence" => sequence(&vector),
            "negative" => negative(&vector),
            other => panic!("{other} is not known"),
        }
    }
    assert_eq!(vectors.len(), 33);
}
