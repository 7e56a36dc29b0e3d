//! AES in Galois/counter mode (RFC 7714).
//!
//! Owns session keys of one flow. Refuses to know sources.
//!
//! ```text
//!  SRTP    header │ encrypted payload │ tag                   header is authenticated beside
//!  SRTCP   8      │ encrypted reports │ tag │ E, index (4)    header and word are
//!  SRTCP   8      │ readable reports  │ tag │ 0, index (4)    everything is
//! ```

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::buffer::{PacketBuffer, SRTCP_INDEX_BYTES};
use crate::key::{AEAD_TAG_BYTES, KeyParams, Suite};
use crate::stats::Why;

use super::RTCP_READABLE_BYTES;
use super::cipher::{Cipher, Place, RtcpWord};
use super::derive::{Flow, Value, derive};

const SALT_BYTES: usize = 12;
const KEY_BYTES_MAX: usize = 32;

/// One flow under AES-GCM.
pub(super) struct Gcm {
    key: LessSafeKey,
    salt: Zeroizing<[u8; SALT_BYTES]>,
}

impl Gcm {
    /// A flow under a session key and a session salt.
    pub(super) fn of_session(suite: Suite, key: &[u8], salt: [u8; SALT_BYTES]) -> Option<Self> {
        let algorithm = if suite == Suite::AeadAes256Gcm { &AES_256_GCM } else { &AES_128_GCM };
        let key = LessSafeKey::new(UnboundKey::new(algorithm, key).ok()?);
        Some(Gcm { key, salt: Zeroizing::new(salt) })
    }

    /// Never twice the same for two packets: the index of a source is taken once (RFC 7714 §8.1, §9.1).
    fn nonce(&self, place: &Place) -> Nonce {
        // Two octets of zeros, the source, then 48 bits of rollover counter and sequence, or of SRTCP index.
        let flow = u128::from(place.ssrc) << 48 ^ u128::from(place.index);
        let mut nonce = *self.salt;
        for (to, from) in nonce.iter_mut().rev().zip(flow.to_le_bytes()) {
            *to ^= from;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Header and word, which do not stand side by side in the packet.
fn rtcp_aad(packet: &PacketBuffer, word: RtcpWord) -> Result<[u8; 12], Why> {
    let head = packet.as_slice().first_chunk::<RTCP_READABLE_BYTES>().ok_or(Why::Malformed)?;
    let mut aad = [0; 12];
    aad[..8].copy_from_slice(head);
    aad[8..].copy_from_slice(&word.octets());
    Ok(aad)
}

impl Cipher for Gcm {
    fn new(params: &KeyParams, flow: Flow) -> Option<Self> {
        let mut key = Zeroizing::new([0; KEY_BYTES_MAX]);
        let key = key.get_mut(..params.suite.key_bytes())?;
        derive(&params.key, flow, Value::CipherKey, key)?;
        let mut salt = Zeroizing::new([0; SALT_BYTES]);
        derive(&params.key, flow, Value::Salt, salt.as_mut())?;
        Gcm::of_session(params.suite, key, *salt)
    }

    fn seal_rtp(&self, place: &Place, packet: &mut PacketBuffer) -> Result<(), Why> {
        let (head, secret) =
            packet.as_mut_slice().split_at_mut_checked(place.clear_bytes).ok_or(Why::Malformed)?;
        let tag = self.key.seal_in_place_separate_tag(self.nonce(place), Aad::from(&*head), secret);
        let tag = tag.map_err(|_| Why::NotSealable)?;
        if packet.append(tag.as_ref()) { Ok(()) } else { Err(Why::TooLong) }
    }

    fn open_rtp(&self, place: &Place, packet: &mut PacketBuffer) -> Result<(), Why> {
        let (head, secret) =
            packet.as_mut_slice().split_at_mut_checked(place.clear_bytes).ok_or(Why::NotSealed)?;
        let payload_bytes = secret.len().checked_sub(AEAD_TAG_BYTES).ok_or(Why::NotSealed)?;
        let opened = self.key.open_in_place(self.nonce(place), Aad::from(&*head), secret);
        opened.map_err(|_| Why::Unauthentic)?;
        packet.truncate(place.clear_bytes + payload_bytes);
        Ok(())
    }

    fn seal_rtcp(&self, place: &Place, word: RtcpWord, packet: &mut PacketBuffer) -> Result<(), Why> {
        let aad = rtcp_aad(packet, word)?;
        let secret = packet.as_mut_slice().get_mut(place.clear_bytes..).ok_or(Why::Malformed)?;
        let tag = self.key.seal_in_place_separate_tag(self.nonce(place), Aad::from(&aad), secret);
        let tag = tag.map_err(|_| Why::NotSealable)?;
        let fits = packet.append(tag.as_ref()) && packet.append(&word.octets());
        if fits { Ok(()) } else { Err(Why::TooLong) }
    }

    fn open_rtcp(&self, place: &Place, word: RtcpWord, packet: &mut PacketBuffer) -> Result<(), Why> {
        let aad = rtcp_aad(packet, word)?;
        let end = packet.as_slice().len().checked_sub(SRTCP_INDEX_BYTES).ok_or(Why::NotSealed)?;
        let secret = packet.as_mut_slice().get_mut(place.clear_bytes..end).ok_or(Why::NotSealed)?;
        let report_bytes = secret.len().checked_sub(AEAD_TAG_BYTES).ok_or(Why::NotSealed)?;
        let opened = self.key.open_in_place(self.nonce(place), Aad::from(&aad[..]), secret);
        opened.map_err(|_| Why::Unauthentic)?;
        packet.truncate(place.clear_bytes + report_bytes);
        Ok(())
    }

    fn rtcp_word(packet: &[u8]) -> Option<RtcpWord> {
        let is_long_enough = packet.len() >= RTCP_READABLE_BYTES + AEAD_TAG_BYTES + SRTCP_INDEX_BYTES;
        if is_long_enough { RtcpWord::before_tail(packet, 0) } else { None }
    }

    fn check_unencrypted_rtcp(
        &self,
        place: &Place,
        word: RtcpWord,
        packet: &mut PacketBuffer,
    ) -> Result<(), Why> {
        // What is authenticated stands around the tag: the word moves into its place.
        let bytes = packet.as_slice();
        let signed = bytes.len().checked_sub(AEAD_TAG_BYTES + SRTCP_INDEX_BYTES).ok_or(Why::NotSealed)?;
        let tag = bytes.get(signed..).and_then(|tail| tail.first_chunk::<AEAD_TAG_BYTES>());
        let mut tag = *tag.ok_or(Why::NotSealed)?;
        packet.truncate(signed);
        if !packet.append(&word.octets()) {
            return Err(Why::TooLong);
        }
        let checked = self.key.open_in_place(self.nonce(place), Aad::from(packet.as_slice()), &mut tag);
        checked.map(drop).map_err(|_| Why::Unauthentic)
    }
}
