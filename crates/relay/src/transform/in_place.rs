//! Our own transform: sources and their indices here, the arithmetic in a [`Cipher`].
//!
//! Owns the order: index, replay, authentication, and only then anything that is remembered. Nothing is allocated
//! for a packet, only for a source that has proved itself. Refuses to know what a suite computes.

use crate::buffer::PacketBuffer;
use crate::head::{RtcpHead, RtpHead};
use crate::key::KeyParams;
use crate::stats::Why;

use super::cipher::{Cipher, Place, RtcpWord};
use super::derive::Flow;
use super::sources::{Nearest, Progress, RTCP_INDEX_MAX, RTP_INDEX_MAX, SourceIndex, Sources, Window};
use super::{RTCP_READABLE_BYTES, Transform};

/// One direction of one key.
pub(super) struct InPlace<C> {
    rtp: C,
    rtcp: C,
    rtp_sources: Sources,
    rtcp_sources: Sources,
    former: Vec<SourceIndex>,
    /// A packet that is tried twice; there is one only while there are former sources.
    copy: Option<PacketBuffer>,
}

impl<C: Cipher> InPlace<C> {
    pub(super) fn new(params: &KeyParams, sources_max: usize) -> Option<Self> {
        Some(InPlace {
            rtp: C::new(params, Flow::Rtp)?,
            rtcp: C::new(params, Flow::Rtcp)?,
            rtp_sources: Sources::new(sources_max),
            rtcp_sources: Sources::new(sources_max),
            former: Vec::new(),
            copy: None,
        })
    }

    /// The first packet of a source. Its rollover counter is 0, or that of the key before: RFC 4568 §7.1.4 knows
    /// new contexts, which begin at 0, and RFC 3711 §3.3.1 lets the counter go on. The tag tells which.
    fn open_first(&mut self, head: &RtpHead, packet: &mut PacketBuffer) -> Result<(), Why> {
        self.rtp_sources.check_room()?;
        let anew = u64::from(head.sequence);
        let on = self.going_on(head);
        if let (Some(_), Some(copy)) = (on, &mut self.copy) {
            copy.fill(packet.as_slice());
        }
        let mut opened = self.rtp.open_rtp(&place(head, anew), packet).map(|()| anew);
        if let (Err(_), Some(on), Some(copy)) = (&opened, on, &self.copy) {
            packet.fill(copy.as_slice());
            opened = self.rtp.open_rtp(&place(head, on), packet).map(|()| on);
        }
        self.rtp_sources.add(head.ssrc, Window::beginning_at(opened?));
        Ok(())
    }

    /// The index the packet has if its source went on counting under the new key.
    fn going_on(&self, head: &RtpHead) -> Option<u64> {
        let former = self.former.iter().find(|source| source.ssrc == head.ssrc)?;
        match Window::resumed_at(former.newest).nearest(head.sequence) {
            Nearest::Index(index) if index > u64::from(u16::MAX) => Some(index),
            _ => None,
        }
    }
}

impl<C: Cipher> Transform for InPlace<C> {
    fn open_rtp(&mut self, head: &RtpHead, packet: &mut PacketBuffer) -> Result<(), Why> {
        let Some(window) = self.rtp_sources.find(head.ssrc) else {
            return self.open_first(head, packet);
        };
        let index = match window.nearest(head.sequence) {
            Nearest::Index(index) => index,
            // Nothing was sent before the first rollover, so this can only be far ahead.
            Nearest::BeforeTheFirst => u64::from(head.sequence),
            Nearest::BeyondTheLast => return Err(Why::Unauthentic),
        };
        window.check(index)?;
        self.rtp.open_rtp(&place(head, index), packet)?;
        window.take(index);
        Ok(())
    }

    fn open_rtcp(&mut self, head: &RtcpHead, packet: &mut PacketBuffer) -> Result<(), Why> {
        let word = C::rtcp_word(packet.as_slice()).ok_or(Why::NotSealed)?;
        let place = Place { ssrc: head.ssrc, index: word.index(), clear_bytes: RTCP_READABLE_BYTES };
        if !word.is_encrypted() {
            // Authentic or not, it is not what was agreed; which of both is told.
            self.rtcp.check_unencrypted_rtcp(&place, word, packet)?;
            return Err(Why::NotSealed);
        }
        match self.rtcp_sources.find(head.ssrc) {
            Some(window) => window.check(word.index())?,
            None => self.rtcp_sources.check_room()?,
        }
        self.rtcp.open_rtcp(&place, word, packet)?;
        match self.rtcp_sources.find(head.ssrc) {
            Some(window) => window.take(word.index()),
            None => self.rtcp_sources.add(head.ssrc, Window::beginning_at(word.index())),
        }
        Ok(())
    }

    fn seal_rtp(&mut self, head: &RtpHead, packet: &mut PacketBuffer) -> Result<(), Why> {
        let Some(window) = self.rtp_sources.find(head.ssrc) else {
            self.rtp_sources.check_room()?;
            let index = u64::from(head.sequence);
            self.rtp_sources.add(head.ssrc, Window::beginning_at(index));
            return self.rtp.seal_rtp(&place(head, index), packet);
        };
        let index = match window.nearest(head.sequence) {
            Nearest::Index(index) => index,
            Nearest::BeforeTheFirst => return Err(Why::Replayed),
            Nearest::BeyondTheLast => return Err(Why::KeyExhausted),
        };
        window.check(index)?;
        // Taken before it is used: what fails half way must not be used again either.
        window.take(index);
        self.rtp.seal_rtp(&place(head, index), packet)
    }

    fn seal_rtcp(&mut self, head: &RtcpHead, packet: &mut PacketBuffer) -> Result<(), Why> {
        let index = match self.rtcp_sources.find(head.ssrc) {
            Some(window) if window.newest() >= RTCP_INDEX_MAX => return Err(Why::KeyExhausted),
            Some(window) => {
                let index = window.newest() + 1;
                window.take(index);
                index
            }
            None => {
                self.rtcp_sources.check_room()?;
                self.rtcp_sources.add(head.ssrc, Window::beginning_at(0));
                0
            }
        };
        let word = RtcpWord::encrypted(index).ok_or(Why::KeyExhausted)?;
        let place = Place { ssrc: head.ssrc, index, clear_bytes: RTCP_READABLE_BYTES };
        self.rtcp.seal_rtcp(&place, word, packet)
    }

    fn progress(&self) -> Progress {
        Progress { rtp: self.rtp_sources.progress(), rtcp: self.rtcp_sources.progress() }
    }

    fn resume(&mut self, from: &Progress) -> bool {
        self.rtp_sources.resume(&from.rtp, RTP_INDEX_MAX)
            && self.rtcp_sources.resume(&from.rtcp, RTCP_INDEX_MAX)
    }

    fn succeed(&mut self, former: &Progress) {
        self.former.clone_from(&former.rtp);
        self.copy = (!self.former.is_empty()).then(PacketBuffer::new);
    }
}

fn place(head: &RtpHead, index: u64) -> Place {
    Place { ssrc: head.ssrc, index, clear_bytes: head.header_bytes }
}
