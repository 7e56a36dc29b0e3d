//! Somebody who is shown what passes a session while it can be read.
//!
//! Owns the word for it. Refuses to change anything: what is shown was admitted, and goes on whatever is done with it.

/// Is shown packets. Sessions without one are handed `()`, for which nothing is left of the showing.
pub trait Tap {
    /// A whole RTP or RTCP packet in the clear: authentic where its leg is sealed, numbered as its sender does. Or one of
    /// our own, before it is sealed.
    fn on_clear(&mut self, packet: &[u8]);
}

impl Tap for () {
    fn on_clear(&mut self, _packet: &[u8]) {}
}
