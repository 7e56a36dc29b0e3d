//! Authenticated decryption of what one leg sends.
//!
//! Owns the MKI check and the bounded list of sources that have proved themselves. A source unknown so
//! far is tried on a scratch context first, which is thrown away, so that forged packets leave nothing
//! behind. Refuses to know where a packet came from.

use crate::buffer::PacketBuffer;
use crate::head::Head;
use crate::key::{KeyParams, SRTCP_TAG_BYTES};
use crate::stats::Why;
use crate::transform::{Transform, WebrtcSrtp};

use super::{Clear, SOURCES_MAX, Sealed};

/// Forged sources a scratch context may remember before it is replaced.
const PROBES_PER_SCRATCH: usize = 16;

/// Opens SRTP and SRTCP under one key.
pub(crate) struct Opener {
    params: KeyParams,
    context: WebrtcSrtp,
    scratch: Option<Box<Scratch>>,
    rtp_sources: Vec<u32>,
    rtcp_sources: Vec<u32>,
}

struct Scratch {
    context: WebrtcSrtp,
    packet: PacketBuffer,
    probes_left: usize,
}

impl Opener {
    pub(super) fn new(params: &KeyParams) -> Option<Self> {
        Some(Opener {
            context: WebrtcSrtp::new(params)?,
            params: params.clone(),
            scratch: None,
            rtp_sources: Vec::new(),
            rtcp_sources: Vec::new(),
        })
    }

    pub(super) fn open<'p>(&mut self, sealed: Sealed<'p>) -> Result<Clear<'p>, Why> {
        let Sealed { buffer, head } = sealed;
        self.strip_mki(buffer, head)?;
        if self.sources(head).contains(&ssrc(head)) {
            open_with(&mut self.context, head, buffer)?;
        } else {
            self.probe(buffer, head)?;
            open_with(&mut self.context, head, buffer)?;
            self.sources(head).push(ssrc(head));
        }
        Clear::new(buffer, head)
    }

    /// The MKI stands before the tag and is not covered by it, so it is compared and cut out.
    fn strip_mki(&self, buffer: &mut PacketBuffer, head: Head) -> Result<(), Why> {
        let Some(mki) = &self.params.mki else { return Ok(()) };
        let mki = mki.as_bytes();
        let tag_bytes = match head {
            Head::Rtp(_) => self.params.suite.rtp_tag_bytes(),
            Head::Rtcp(_) => SRTCP_TAG_BYTES,
        };
        let packet = buffer.as_slice();
        let start = packet.len().checked_sub(mki.len() + tag_bytes).ok_or(Why::NotSealed)?;
        if packet.get(start..start + mki.len()) != Some(mki) {
            return Err(Why::Unauthentic);
        }
        if buffer.cut_before_tail(mki.len(), tag_bytes) { Ok(()) } else { Err(Why::NotSealed) }
    }

    /// Tries a packet of a source that has not proved itself, without keeping anything of it.
    fn probe(&mut self, buffer: &PacketBuffer, head: Head) -> Result<(), Why> {
        if self.sources(head).len() >= SOURCES_MAX {
            return Err(Why::TooManySources);
        }
        if self.scratch.as_ref().is_none_or(|scratch| scratch.probes_left == 0) {
            self.scratch = Scratch::new(&self.params).map(Box::new);
        }
        let scratch = self.scratch.as_mut().ok_or(Why::Unauthentic)?;
        scratch.probes_left -= 1;
        scratch.packet.fill(buffer.as_slice());
        open_with(&mut scratch.context, head, &mut scratch.packet)?;
        self.scratch = None;
        Ok(())
    }

    fn sources(&mut self, head: Head) -> &mut Vec<u32> {
        match head {
            Head::Rtp(_) => &mut self.rtp_sources,
            Head::Rtcp(_) => &mut self.rtcp_sources,
        }
    }
}

impl Scratch {
    fn new(params: &KeyParams) -> Option<Self> {
        let context = WebrtcSrtp::new(params)?;
        Some(Scratch { context, packet: PacketBuffer::new(), probes_left: PROBES_PER_SCRATCH })
    }
}

fn open_with(transform: &mut impl Transform, head: Head, packet: &mut PacketBuffer) -> Result<(), Why> {
    match head {
        Head::Rtp(rtp) => transform.open_rtp(&rtp, packet),
        Head::Rtcp(_) => transform.open_rtcp(packet),
    }
}

fn ssrc(head: Head) -> u32 {
    match head {
        Head::Rtp(rtp) => rtp.ssrc,
        Head::Rtcp(rtcp) => rtcp.ssrc,
    }
}
