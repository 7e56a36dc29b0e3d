//! Protection of what is sent to one leg.
//!
//! Owns the rule that no packet index is ever protected twice under one key, the key's lifetime and the
//! bounded list of sources. Refuses to know where packets go.

use crate::head::{Head, RtpHead};
use crate::key::{KeyParams, SRTCP_TAG_BYTES};
use crate::stats::Why;
use crate::transform::{Transform, WebrtcSrtp};

use super::{Clear, Sealed};

/// Sources forwarded under one key, RTP and RTCP each. More than a peer may use, since a clear leg proves nothing.
const SOURCES_MAX: usize = 64;
/// Packets protected under one key, the lifetime every crypto line names or implies (RFC 3711 §9.2 for SRTCP).
const LIFETIME_PACKETS: u64 = 1 << 31;
/// Packets behind the newest of a source that may still be sent.
const WINDOW_PACKETS: u64 = 64;

/// Protects RTP and RTCP under one key.
pub(crate) struct Sealer {
    params: KeyParams,
    context: WebrtcSrtp,
    sources: Vec<Source>,
    rtcp_sources: Vec<u32>,
    packets_left: u64,
}

/// What was sent of one source: the index of the newest packet and, bit by bit, those before it.
struct Source {
    ssrc: u32,
    newest: u64,
    sent: u64,
}

impl Sealer {
    pub(super) fn new(params: &KeyParams) -> Option<Self> {
        Some(Sealer {
            context: WebrtcSrtp::new(params)?,
            params: params.clone(),
            sources: Vec::new(),
            rtcp_sources: Vec::new(),
            packets_left: LIFETIME_PACKETS,
        })
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.packets_left == 0 || self.sources.len() >= SOURCES_MAX || self.rtcp_sources.len() >= SOURCES_MAX
    }

    pub(super) fn seal<'p>(&mut self, clear: Clear<'p>) -> Result<Sealed<'p>, Why> {
        if self.packets_left == 0 {
            return Err(Why::NotSealable);
        }
        let Clear { buffer, head, .. } = clear;
        let tag_bytes = match head {
            Head::Rtp(rtp) => {
                self.reserve(&rtp)?;
                self.context.seal_rtp(&rtp, buffer)?;
                self.params.suite.rtp_tag_bytes()
            }
            Head::Rtcp(rtcp) => {
                self.admit_rtcp(rtcp.ssrc)?;
                self.context.seal_rtcp(buffer)?;
                SRTCP_TAG_BYTES
            }
        };
        self.packets_left -= 1;
        if let Some(mki) = &self.params.mki
            && !buffer.insert_before_tail(mki.as_bytes(), tag_bytes)
        {
            return Err(Why::TooLong);
        }
        Ok(Sealed { buffer, head })
    }

    /// Takes the packet's index, which thereby can never be taken again.
    fn reserve(&mut self, head: &RtpHead) -> Result<(), Why> {
        if let Some(source) = self.sources.iter_mut().find(|source| source.ssrc == head.ssrc) {
            return source.take(head.sequence);
        }
        if self.sources.len() >= SOURCES_MAX {
            return Err(Why::TooManySources);
        }
        self.sources.push(Source { ssrc: head.ssrc, newest: u64::from(head.sequence), sent: 1 });
        Ok(())
    }

    fn admit_rtcp(&mut self, ssrc: u32) -> Result<(), Why> {
        if self.rtcp_sources.contains(&ssrc) {
            return Ok(());
        }
        if self.rtcp_sources.len() >= SOURCES_MAX {
            return Err(Why::TooManySources);
        }
        self.rtcp_sources.push(ssrc);
        Ok(())
    }
}

impl Source {
    /// Follows the rollover rule of RFC 3711 §3.3.1: the index nearest to the newest one.
    fn take(&mut self, sequence: u16) -> Result<(), Why> {
        let ahead = sequence.wrapping_sub(self.newest as u16);
        if (1..0x8000).contains(&ahead) {
            self.sent = self.sent.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
            self.newest += u64::from(ahead);
            return Ok(());
        }
        let behind = u64::from((self.newest as u16).wrapping_sub(sequence));
        let bit = 1u64.checked_shl(behind as u32).unwrap_or(0);
        if behind >= WINDOW_PACKETS || behind > self.newest || self.sent & bit != 0 {
            return Err(Why::Replayed);
        }
        self.sent |= bit;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_index_is_taken_twice_across_a_rollover() {
        let mut source = Source { ssrc: 1, newest: 65_533, sent: 1 };
        for sequence in [65_534, 65_535, 0, 2] {
            assert_eq!(source.take(sequence), Ok(()), "{sequence}");
        }
        assert_eq!(source.newest, 65_538);
        assert_eq!(source.take(1), Ok(()), "a late packet is still sent");
        for sequence in [1, 0, 65_535, 65_533] {
            assert_eq!(source.take(sequence), Err(Why::Replayed), "{sequence}");
        }
    }

    #[test]
    fn nothing_before_the_first_rollover_is_taken() {
        let mut source = Source { ssrc: 1, newest: 2, sent: 1 };
        assert_eq!(source.take(1), Ok(()));
        assert_eq!(source.take(65_535), Err(Why::Replayed));
    }

    #[test]
    fn a_packet_behind_the_window_is_not_taken() {
        let mut source = Source { ssrc: 1, newest: 1_000, sent: 1 };
        assert_eq!(source.take(937), Ok(()));
        assert_eq!(source.take(936), Err(Why::Replayed));
    }
}
