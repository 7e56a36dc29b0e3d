//! SDP for an anchoring B2BUA: the container grammar comes from `sdp-types`; typed audio attributes, SDES
//! crypto lines, the choice of a body part and offer/answer are ours. Bytes in, values out: this crate knows
//! no SIP message, no socket, no clock and no randomness (key material is handed in by the caller).
//!
//! # Walk
//! body bytes → [`choose_body`] → [`Session::parse`] → [`Session::audio`] → [`Audio::security`] →
//! [`relay_offer`] towards the callee → [`check_answer`] against what *we* offered → [`relay_answer`] back.
//!
//! # Decisions worth knowing
//! - A broken or unknown `a=crypto` line is skipped and counted ([`Audio::crypto_ignored`]), never half used.
//! - `RTP/AVP` with no crypto line we can use is [`MediaSecurity::None`], whatever `a=encryption:optional` says.
//! - `c=` with 0.0.0.0 or `::` is the old way to hold: it takes the receiving half out of [`Audio::direction`].
//! - ICE in a description is read ([`Ice`]) and written as a lite agent with host candidates; what the peer listed is not kept.
//! - Multicast, broadcast and host names in `c=` are no media address: [`Audio::connection`] is `None`.

mod answer;
mod audio;
mod body;
mod codec;
mod crypto;
mod ice;
pub mod limits;
mod mki;
mod numbers;
mod relay;
mod security;
mod session;
mod write;

#[cfg(test)]
mod proofs;

pub use answer::{AcceptedAudio, AnswerError, check_answer};
pub use audio::{Audio, Direction, Profile, RtcpAttribute};
pub use body::{BodyError, choose_body};
pub use codec::PayloadType;
pub use crypto::{CryptoError, CryptoLine, KeySalt, Lifetime, Suite, pick_crypto, pick_crypto_as_offered};
pub use ice::{DefaultCandidate, ICE_SEED_BYTES, Ice, IceForm, IceLines, Ipv6Lines};
pub use mki::Mki;
pub use numbers::{Numbers, agreed_numbers, number_of};
pub use relay::{
    Anchor, AnswerMedia, CodecPolicy, Numbering, OfferError, OfferMedia, RelayedAnswer, RelayedOffer,
    relay_answer, relay_answer_within, relay_offer,
};
pub use security::{EncryptionAttribute, MediaSecurity, UnusableWhy};
pub use session::{Media, MediaKind, Origin, SdpError, Session};
pub use write::{OfferSpec, OriginSeed, write_answer, write_offer};
