//! The SRTP transform: one key, one direction, packets whose heads were read before.
//!
//! Owns the seam between what a leg does with packets and who computes on them. Two providers fill it: our own,
//! which works in place, and `webrtc-srtp`. Refuses to know MKIs, lifetimes and addresses: [`crate::gate`] and
//! [`crate::leg`] do those.

mod cipher;
mod counter;
mod derive;
mod gcm;
mod in_place;
mod keystream;
mod sources;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
mod webrtc;

pub use sources::{Progress, SourceIndex};

use crate::buffer::PacketBuffer;
use crate::head::{RtcpHead, RtpHead};
use crate::key::{KeyParams, Provider};
use crate::stats::Why;

use counter::Counter;
use gcm::Gcm;
use in_place::InPlace;
use webrtc::WebrtcSrtp;

/// Header and source of an RTCP packet, which stay readable.
const RTCP_READABLE_BYTES: usize = 8;

/// Opens or protects the packet in a buffer. Rollover and replay state move, and a source is kept, only on success.
pub(crate) trait Transform: Send {
    fn open_rtp(&mut self, head: &RtpHead, packet: &mut PacketBuffer) -> Result<(), Why>;
    fn open_rtcp(&mut self, head: &RtcpHead, packet: &mut PacketBuffer) -> Result<(), Why>;
    fn seal_rtp(&mut self, head: &RtpHead, packet: &mut PacketBuffer) -> Result<(), Why>;
    fn seal_rtcp(&mut self, head: &RtcpHead, packet: &mut PacketBuffer) -> Result<(), Why>;

    /// How far every source has come.
    fn progress(&self) -> Progress;

    /// Goes on where another transform under the same key stopped; `false` if this one cannot.
    fn resume(&mut self, from: &Progress) -> bool;

    /// Names the sources of the key that this one replaces: their rollover counters may go on, or begin anew.
    fn succeed(&mut self, former: &Progress);
}

/// A transform for one direction with room for `sources_max` sources; `None` if the key does not fit the suite.
pub(crate) fn transform(params: &KeyParams, sources_max: usize) -> Option<Box<dyn Transform>> {
    let fits = params.key.key().len() == params.suite.key_bytes()
        && params.key.salt().len() == params.suite.salt_bytes();
    if !fits {
        return None;
    }
    Some(match (params.provider, params.suite.is_aead()) {
        (Provider::InPlace, false) => Box::new(InPlace::<Counter>::new(params, sources_max)?),
        (Provider::InPlace, true) => Box::new(InPlace::<Gcm>::new(params, sources_max)?),
        (Provider::WebrtcSrtp, _) => Box::new(WebrtcSrtp::new(params, sources_max)?),
    })
}
