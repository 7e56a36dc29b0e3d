//! `webrtc-srtp` as a provider, and the guards it needs.
//!
//! Owns what must be looked at before the library may see a packet: it panics on short SRTCP, believes SRTCP whose
//! encryption bit is off, keeps state for every source it is shown, and protects an index as often as it is
//! asked. A source unknown so far is tried on a scratch context first, which is thrown away. Refuses to know MKIs.

use std::fmt::{self, Display, Write};

use rtp::header::Header;
use webrtc_srtp::context::Context;
use webrtc_srtp::option::{srtcp_replay_protection, srtp_replay_protection};
use webrtc_srtp::protection_profile::ProtectionProfile;

use crate::buffer::{PacketBuffer, SRTCP_INDEX_BYTES};
use crate::head::{RtcpHead, RtpHead};
use crate::key::{KeyParams, Suite};
use crate::stats::Why;

use super::cipher::RtcpWord;
use super::sources::{Nearest, Progress, RTCP_INDEX_MAX, Sources, WINDOW_PACKETS, Window};
use super::{RTCP_READABLE_BYTES, Transform};

const RTP_FIXED_BYTES: usize = 12;
/// What the library takes an extension header to have at least.
const EXTENSION_HEADER_BYTES: usize = 4;
/// Forged sources a scratch context may remember before it is replaced.
const PROBES_PER_SCRATCH: usize = 16;

/// One direction of one key, by `webrtc-srtp`.
pub(super) struct WebrtcSrtp {
    params: KeyParams,
    context: Context,
    scratch: Option<Box<Scratch>>,
    rtp_sources: Sources,
    rtcp_sources: Sources,
}

struct Scratch {
    context: Context,
    packet: PacketBuffer,
    probes_left: usize,
}

impl WebrtcSrtp {
    /// A context that tells replays; `None` if the library refuses the key.
    pub(super) fn new(params: &KeyParams, sources_max: usize) -> Option<Self> {
        Some(WebrtcSrtp {
            context: context(params, Replays::Told)?,
            params: params.clone(),
            scratch: None,
            rtp_sources: Sources::new(sources_max),
            rtcp_sources: Sources::new(sources_max),
        })
    }

    /// Tries a packet of a source that has not proved itself, without keeping anything of it.
    fn probe(
        &mut self,
        packet: &PacketBuffer,
        open: impl FnOnce(&mut Context, &mut PacketBuffer) -> Result<(), Why>,
    ) -> Result<(), Why> {
        if self.scratch.as_ref().is_none_or(|scratch| scratch.probes_left == 0) {
            self.scratch = Scratch::new(&self.params).map(Box::new);
        }
        let scratch = self.scratch.as_mut().ok_or(Why::Unauthentic)?;
        scratch.probes_left -= 1;
        scratch.packet.fill(packet.as_slice());
        open(&mut scratch.context, &mut scratch.packet)?;
        self.scratch = None;
        Ok(())
    }

    /// The word of a packet that is long enough; shorter ones make the library panic before any authentication.
    fn rtcp_word(&self, packet: &[u8]) -> Result<RtcpWord, Why> {
        let tag_bytes = self.params.suite.rtcp_tag_bytes();
        if packet.len() < RTCP_READABLE_BYTES + SRTCP_INDEX_BYTES + tag_bytes {
            return Err(Why::NotSealed);
        }
        let tail = if self.params.suite.is_aead() { 0 } else { tag_bytes };
        RtcpWord::before_tail(packet, tail).ok_or(Why::NotSealed)
    }
}

impl Scratch {
    fn new(params: &KeyParams) -> Option<Self> {
        Some(Scratch {
            context: context(params, Replays::NotTold)?,
            packet: PacketBuffer::new(),
            probes_left: PROBES_PER_SCRATCH,
        })
    }
}

/// Whether a context tells replays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Replays {
    Told,
    /// For trying only: a window of the library begins where the first packet says, authentic or not.
    NotTold,
}

fn context(params: &KeyParams, replays: Replays) -> Option<Context> {
    let profile = match params.suite {
        Suite::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        Suite::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
        Suite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Suite::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
    };
    let window = WINDOW_PACKETS as usize;
    let are_told = replays == Replays::Told;
    let rtp = are_told.then(|| srtp_replay_protection(window));
    let rtcp = are_told.then(|| srtcp_replay_protection(window));
    Context::new(params.key.key(), params.key.salt(), profile, rtp, rtcp).ok()
}

impl Transform for WebrtcSrtp {
    fn open_rtp(&mut self, head: &RtpHead, packet: &mut PacketBuffer) -> Result<(), Why> {
        if packet.as_slice().len() < head.header_bytes + self.params.suite.rtp_tag_bytes() {
            return Err(Why::NotSealed);
        }
        let open = |context: &mut Context, packet: &mut PacketBuffer| {
            let opened = context.decrypt_rtp_with_header(packet.as_slice(), &library_header(head));
            put(packet, opened)
        };
        if let Some(window) = self.rtp_sources.find(head.ssrc) {
            open(&mut self.context, packet)?;
            if let Nearest::Index(index) = window.nearest(head.sequence) {
                window.take(index);
            }
            return Ok(());
        }
        self.rtp_sources.check_room()?;
        self.probe(packet, open)?;
        open(&mut self.context, packet)?;
        self.rtp_sources.add(head.ssrc, Window::beginning_at(u64::from(head.sequence)));
        Ok(())
    }

    fn open_rtcp(&mut self, head: &RtcpHead, packet: &mut PacketBuffer) -> Result<(), Why> {
        let word = self.rtcp_word(packet.as_slice())?;
        // With the encryption bit off the library returns the packet without looking at its tag.
        if !word.is_encrypted() {
            return Err(Why::NotSealed);
        }
        let open = |context: &mut Context, packet: &mut PacketBuffer| {
            let opened = context.decrypt_rtcp(packet.as_slice());
            put(packet, opened)
        };
        if let Some(window) = self.rtcp_sources.find(head.ssrc) {
            open(&mut self.context, packet)?;
            window.take(word.index());
            return Ok(());
        }
        self.rtcp_sources.check_room()?;
        self.probe(packet, open)?;
        open(&mut self.context, packet)?;
        self.rtcp_sources.add(head.ssrc, Window::beginning_at(word.index()));
        Ok(())
    }

    fn seal_rtp(&mut self, head: &RtpHead, packet: &mut PacketBuffer) -> Result<(), Why> {
        match self.rtp_sources.find(head.ssrc) {
            Some(window) => {
                let index = match window.nearest(head.sequence) {
                    Nearest::Index(index) => index,
                    Nearest::BeforeTheFirst => return Err(Why::Replayed),
                    Nearest::BeyondTheLast => return Err(Why::KeyExhausted),
                };
                window.check(index)?;
                window.take(index);
            }
            None => {
                self.rtp_sources.check_room()?;
                self.rtp_sources.add(head.ssrc, Window::beginning_at(u64::from(head.sequence)));
            }
        }
        let sealed = self.context.encrypt_rtp_with_header(packet.as_slice(), &library_header(head));
        put(packet, sealed).map_err(|_| Why::NotSealable)
    }

    fn seal_rtcp(&mut self, head: &RtcpHead, packet: &mut PacketBuffer) -> Result<(), Why> {
        if packet.as_slice().len() < RTCP_READABLE_BYTES {
            return Err(Why::Malformed);
        }
        // The library counts from 1 and would begin again at 0.
        match self.rtcp_sources.find(head.ssrc) {
            Some(window) if window.newest() >= RTCP_INDEX_MAX => return Err(Why::KeyExhausted),
            Some(window) => window.take(window.newest() + 1),
            None => {
                self.rtcp_sources.check_room()?;
                self.rtcp_sources.add(head.ssrc, Window::beginning_at(1));
            }
        }
        let sealed = self.context.encrypt_rtcp(packet.as_slice());
        put(packet, sealed).map_err(|_| Why::NotSealable)
    }

    fn progress(&self) -> Progress {
        Progress { rtp: self.rtp_sources.progress(), rtcp: self.rtcp_sources.progress() }
    }

    /// The library hides its rollover counter.
    fn resume(&mut self, _from: &Progress) -> bool {
        false
    }

    fn succeed(&mut self, _former: &Progress) {}
}

/// The header as the library wants it. Its own parser panics on extensions that overrun their length and
/// misjudges others, so it gets the size we measured, told as padding of an extension.
fn library_header(head: &RtpHead) -> Header {
    Header {
        version: 2,
        extension: head.header_bytes > RTP_FIXED_BYTES,
        extensions_padding: head.header_bytes.saturating_sub(RTP_FIXED_BYTES + EXTENSION_HEADER_BYTES),
        sequence_number: head.sequence,
        ssrc: head.ssrc,
        ..Header::default()
    }
}

fn put(packet: &mut PacketBuffer, result: Result<bytes::Bytes, impl Display>) -> Result<(), Why> {
    let bytes = result.map_err(|error| blame(&error))?;
    if packet.fill(&bytes) { Ok(()) } else { Err(Why::TooLong) }
}

/// The library's error type cannot be named from outside, so its words tell a replay from a bad tag.
fn blame(error: &impl Display) -> Why {
    let mut words = Words { text: [0; 64], length: 0 };
    // Words beyond the buffer are cut off, and a replay's are never that long.
    let _ = write!(words, "{error}");
    let text = words.text.get(..words.length).unwrap_or_default();
    if text.ends_with(b"duplicated") { Why::Replayed } else { Why::Unauthentic }
}

/// A line of text without an allocation.
struct Words {
    text: [u8; 64],
    length: usize,
}

impl Write for Words {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = self.text.get_mut(self.length..self.length + part.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(part.as_bytes());
        self.length += part.len();
        Ok(())
    }
}
