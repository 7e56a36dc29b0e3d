//! How many packets one key may still protect.
//!
//! Owns the count. SRTP and SRTCP are counted apart, each against the lifetime that the crypto line names
//! (RFC 4568 §6.1) and the limits of RFC 3711 §9.2. Refuses to know keys.

use crate::head::Head;
use crate::key::{KeyParams, LIFETIME_PACKETS_MAX};
use crate::stats::Why;

/// SRTCP packets under one key (RFC 3711 §9.2).
const RTCP_PACKETS_MAX: u64 = 1 << 31;

/// Packets left.
pub(super) struct Budget {
    rtp: u64,
    rtcp: u64,
}

impl Budget {
    pub(super) fn new(params: &KeyParams) -> Self {
        let rtp = params.lifetime.min(LIFETIME_PACKETS_MAX);
        Budget { rtp, rtcp: rtp.min(RTCP_PACKETS_MAX) }
    }

    /// Whether one more packet is allowed.
    pub(super) fn check(&self, head: Head) -> Result<(), Why> {
        let left = match head {
            Head::Rtp(_) => self.rtp,
            Head::Rtcp(_) => self.rtcp,
        };
        if left == 0 { Err(Why::KeyExhausted) } else { Ok(()) }
    }

    /// One packet was protected, or proved that it is.
    pub(super) fn spend(&mut self, head: Head) {
        let left = match head {
            Head::Rtp(_) => &mut self.rtp,
            Head::Rtcp(_) => &mut self.rtcp,
        };
        *left = left.saturating_sub(1);
    }
}
