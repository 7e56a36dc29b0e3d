//! AES in counter mode with HMAC-SHA1 (RFC 3711 §4.1.1, §4.2.1).
//!
//! Owns session keys of one flow. HMAC is RustCrypto's: it keeps the two key blocks hashed, which no interface of
//! aws-lc-rs does and which is a third of the work on a packet of speech. Refuses to know sources.
//!
//! ```text
//!  SRTP    header │ encrypted payload                     │ tag      tag over header, payload and ROC
//!  SRTCP   8      │ encrypted reports     │ E, index (4)  │ tag      tag over all before it
//! ```

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use zeroize::Zeroizing;

use crate::buffer::{PacketBuffer, SRTCP_INDEX_BYTES};
use crate::key::{KeyParams, MasterKey, SRTCP_TAG_BYTES};
use crate::stats::Why;

use super::RTCP_READABLE_BYTES;
use super::cipher::{Cipher, Place, RtcpWord};
use super::derive::{Flow, Value, aligned, derive};
use super::keystream::CounterKey;

const AUTH_KEY_BYTES: usize = 20;
const SALT_BYTES: usize = 14;
const CIPHER_KEY_BYTES_MAX: usize = 32;

/// One flow under AES-CM and HMAC-SHA1.
pub(super) struct Counter {
    aes: CounterKey,
    salt: Zeroizing<u128>,
    mac: Hmac<Sha1>,
    tag_bytes: usize,
}

impl Counter {
    /// Session keys of a flow; `None` if AES has no keys of that length.
    pub(super) fn of(master: &MasterKey, flow: Flow, tag_bytes: usize) -> Option<Self> {
        let mut key = Zeroizing::new([0; CIPHER_KEY_BYTES_MAX]);
        let key = key.get_mut(..master.key().len())?;
        derive(master, flow, Value::CipherKey, key)?;
        let mut salt = Zeroizing::new([0; SALT_BYTES]);
        derive(master, flow, Value::Salt, salt.as_mut())?;
        let mut auth_key = Zeroizing::new([0; AUTH_KEY_BYTES]);
        derive(master, flow, Value::AuthKey, auth_key.as_mut())?;
        let aes = match flow {
            Flow::Rtp => CounterKey::new(key)?,
            Flow::Rtcp => CounterKey::seldom(key)?,
        };
        Some(Counter {
            aes,
            salt: Zeroizing::new(aligned(salt.as_ref())),
            mac: Hmac::new_from_slice(auth_key.as_ref()).ok()?,
            tag_bytes,
        })
    }

    fn crypt(&self, place: &Place, packet: &mut PacketBuffer) -> Result<(), Why> {
        let counter = *self.salt ^ u128::from(place.ssrc) << 64 ^ u128::from(place.index) << 16;
        let secret = packet.as_mut_slice().get_mut(place.clear_bytes..).ok_or(Why::Malformed)?;
        self.aes.apply(counter, secret).ok_or(Why::NotSealable)
    }

    /// Begins the tag over what is sent and what both sides know.
    fn authenticate(&self, sent: &[u8], known: &[u8]) -> Hmac<Sha1> {
        let mut mac = self.mac.clone();
        mac.update(sent);
        mac.update(known);
        mac
    }

    fn add_tag(&self, packet: &mut PacketBuffer, known: &[u8]) -> Result<(), Why> {
        let tag = self.authenticate(packet.as_slice(), known).finalize().into_bytes();
        let tag = tag.get(..self.tag_bytes).ok_or(Why::NotSealable)?;
        if packet.append(tag) { Ok(()) } else { Err(Why::TooLong) }
    }

    /// Compares the tag in constant time; says how many octets stand before it, at least `least`.
    pub(super) fn check_tag(&self, packet: &[u8], known: &[u8], least: usize) -> Result<usize, Why> {
        let signed = packet.len().checked_sub(self.tag_bytes).filter(|signed| *signed >= least);
        let signed = signed.ok_or(Why::NotSealed)?;
        let (sent, tag) = packet.split_at_checked(signed).ok_or(Why::NotSealed)?;
        self.authenticate(sent, known).verify_truncated_left(tag).map_err(|_| Why::Unauthentic)?;
        Ok(signed)
    }
}

/// The rollover counter, which is authenticated and not sent.
pub(super) fn roc_octets(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

impl Cipher for Counter {
    fn new(params: &KeyParams, flow: Flow) -> Option<Self> {
        let tag_bytes = match flow {
            Flow::Rtp => params.suite.rtp_tag_bytes(),
            Flow::Rtcp => params.suite.rtcp_tag_bytes(),
        };
        Counter::of(&params.key, flow, tag_bytes)
    }

    fn seal_rtp(&self, place: &Place, packet: &mut PacketBuffer) -> Result<(), Why> {
        self.crypt(place, packet)?;
        self.add_tag(packet, &roc_octets(place.index))
    }

    fn open_rtp(&self, place: &Place, packet: &mut PacketBuffer) -> Result<(), Why> {
        let signed = self.check_tag(packet.as_slice(), &roc_octets(place.index), place.clear_bytes)?;
        packet.truncate(signed);
        self.crypt(place, packet)
    }

    fn seal_rtcp(&self, place: &Place, word: RtcpWord, packet: &mut PacketBuffer) -> Result<(), Why> {
        self.crypt(place, packet)?;
        if !packet.append(&word.octets()) {
            return Err(Why::TooLong);
        }
        self.add_tag(packet, &[])
    }

    fn open_rtcp(&self, place: &Place, _word: RtcpWord, packet: &mut PacketBuffer) -> Result<(), Why> {
        let signed = self.check_tag(packet.as_slice(), &[], place.clear_bytes + SRTCP_INDEX_BYTES)?;
        packet.truncate(signed - SRTCP_INDEX_BYTES);
        self.crypt(place, packet)
    }

    fn rtcp_word(packet: &[u8]) -> Option<RtcpWord> {
        let is_long_enough = packet.len() >= RTCP_READABLE_BYTES + SRTCP_INDEX_BYTES + SRTCP_TAG_BYTES;
        if is_long_enough { RtcpWord::before_tail(packet, SRTCP_TAG_BYTES) } else { None }
    }

    fn check_unencrypted_rtcp(
        &self,
        place: &Place,
        _word: RtcpWord,
        packet: &mut PacketBuffer,
    ) -> Result<(), Why> {
        self.check_tag(packet.as_slice(), &[], place.clear_bytes + SRTCP_INDEX_BYTES).map(drop)
    }
}
