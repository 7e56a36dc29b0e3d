//! Offer and answer for a B2BUA that anchors media: new descriptions with our addresses, the peer's codecs under
//! numbers of the leg that is told, and nothing else of the peer (none of its candidates, no Microsoft attributes, no bandwidth, no
//! other streams).
//! Owns the translation; the decision whether a leg is sealed was made elsewhere.

use std::net::IpAddr;

use bytes::Bytes;

use crate::answer::{AnswerError, check_answering_line};
use crate::audio::{Audio, Direction, Profile, Sealing};
use crate::codec::PayloadType;
use crate::crypto::CryptoLine;
use crate::ice::IceLines;
use crate::numbers::{number_of, renumbered};
use crate::security::MediaSecurity;
use crate::session::{SdpError, Session};
use crate::write::{OfferSpec, OriginSeed};

/// Our media address on one leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Address for `o=` and `c=`.
    pub address: IpAddr,
    /// RTP port.
    pub rtp_port: u16,
    /// RTCP port.
    pub rtcp_port: u16,
    /// Whether RTCP may come to the RTP port too (RFC 5761 §5.1.1): for an answer, only if it was offered.
    pub rtcp_mux: bool,
    /// What that leg is told of ICE.
    pub ice: IceLines,
}

/// Which encodings may pass. Comfort noise and telephone events always may, at the clock of a codec that does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct CodecPolicy<'a> {
    /// Encoding names, compared without case.
    pub names: &'a [String],
}

impl CodecPolicy<'_> {
    pub(crate) fn select(&self, formats: &[PayloadType]) -> Vec<PayloadType> {
        let allowed = |f: &PayloadType| !f.is_auxiliary() && self.names.iter().any(|name| f.is(name));
        let clocks: Vec<u32> = formats.iter().filter(|f| allowed(f)).map(|f| f.clock).collect();
        let passes = |f: &&PayloadType| allowed(f) || (f.is_auxiliary() && clocks.contains(&f.clock));
        formats.iter().filter(passes).cloned().collect()
    }
}

/// How we protect the leg that gets the relayed offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfferMedia {
    /// `RTP/AVP` without crypto.
    Clear,
    /// `RTP/SAVP` with these lines; at least one.
    Sealed(Vec<CryptoLine>),
}

/// How we protect the leg that gets the relayed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerMedia {
    /// `RTP/AVP` without crypto.
    Clear,
    /// `RTP/SAVP` with our line, under a tag and suite of that leg's offer.
    Sealed {
        /// Our line.
        line: CryptoLine,
    },
}

/// Whose payload type numbers an answer of ours has.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// Those of the offer it answers (RFC 3264 §6.1): packets are renumbered on their way.
    OfOffer,
    /// Those of the answer it is made from: packets go from peer to peer.
    OfAnswer,
}

/// What we offered: keep it and give it to [`crate::check_answer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayedOffer {
    /// The offer as sent.
    pub session: Session,
    /// Index of its audio line.
    pub audio_index: usize,
}

/// Why an offer cannot be relayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// No audio line in use.
    #[error("no audio line in use")]
    NoAudio,
    /// Only a fax image is offered.
    #[error("only fax is offered")]
    FaxOnly,
    /// No address that media can be sent to.
    #[error("no unicast media address")]
    NoAddress,
    /// No allowed codec among the offered ones.
    #[error("no allowed codec is offered")]
    NoCodec,
    /// [`OfferMedia::Sealed`] without a crypto line.
    #[error("a sealed offer needs a crypto line")]
    NoCrypto,
    /// The description exceeds a limit.
    #[error(transparent)]
    Description(#[from] SdpError),
}

/// Turns the offer of one leg into ours for the other leg. `before` is what that leg was told last: its media lines stay, each
/// in its place (RFC 3264 §8); without it the lines are those of the offer. `bound` are the formats whose numbers have a
/// meaning on that leg, the most recent first.
pub fn relay_offer(
    offer: &Session,
    before: Option<&Session>,
    bound: &[&PayloadType],
    anchor: &Anchor,
    codecs: CodecPolicy<'_>,
    media: &OfferMedia,
    origin: &OriginSeed,
) -> Result<(Bytes, RelayedOffer), OfferError> {
    if offer.is_fax_only() {
        return Err(OfferError::FaxOnly);
    }
    let audio_index = offer.audio_index().ok_or(OfferError::NoAudio)?;
    let audio = offer.audio_at(audio_index).filter(|audio| audio.port != 0).ok_or(OfferError::NoAudio)?;
    audio.remote().ok_or(OfferError::NoAddress)?;
    let formats = renumbered(codecs.select(&audio.formats), bound);
    if formats.iter().all(PayloadType::is_auxiliary) {
        return Err(OfferError::NoCodec);
    }
    let (profile, crypto) = match media {
        OfferMedia::Clear => (Profile::RtpAvp, Vec::new()),
        OfferMedia::Sealed(lines) if lines.is_empty() => return Err(OfferError::NoCrypto),
        OfferMedia::Sealed(lines) => (Profile::RtpSavp, lines.clone()),
    };
    let spec = OfferSpec { formats, profile, crypto, ..anchored(anchor, audio, origin) };
    let told = before.and_then(|before| Some((before, before.audio_index()?)));
    let (lines, audio_index) = told.unwrap_or((offer, audio_index));
    let (bytes, session) = spec.session(Some((lines, audio_index)))?;
    Ok((bytes, RelayedOffer { session, audio_index }))
}

/// What we answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayedAnswer {
    /// Payload types, in order.
    pub formats: Vec<PayloadType>,
    /// Direction, seen from us.
    pub direction: Direction,
}

/// Turns the (checked) answer of one leg into ours for the leg whose offer it is to answer.
pub fn relay_answer(
    offer_from_a: &Session,
    answer_from_b: &Session,
    anchor: &Anchor,
    media: &AnswerMedia,
    origin: &OriginSeed,
) -> Result<(Bytes, RelayedAnswer), AnswerError> {
    relay_answer_within(offer_from_a, answer_from_b, &|_| true, Numbering::OfOffer, anchor, media, origin)
}

/// As [`relay_answer`], with no format but those whose number in `answer_from_b` is let through by `may_pass`: for an offer
/// whose far side cannot be asked again and keeps what it agreed to.
pub fn relay_answer_within(
    offer_from_a: &Session,
    answer_from_b: &Session,
    may_pass: &dyn Fn(u8) -> bool,
    numbering: Numbering,
    anchor: &Anchor,
    media: &AnswerMedia,
    origin: &OriginSeed,
) -> Result<(Bytes, RelayedAnswer), AnswerError> {
    let index = offer_from_a.audio_index().ok_or(AnswerError::NoAudio)?;
    let offered = offer_from_a.audio_at(index).filter(|audio| audio.port != 0).ok_or(AnswerError::NoAudio)?;
    let answered = answer_from_b.audio().ok_or(AnswerError::NoAudio)?;
    if answered.port == 0 {
        return Err(AnswerError::MediaRejected);
    }
    let (sealing, crypto) = seal_answer(offered, media)?;
    let formats = common_formats(offered, answered, may_pass, numbering);
    if formats.iter().all(PayloadType::is_auxiliary) {
        return Err(AnswerError::NoCodec);
    }
    let spec = OfferSpec {
        formats,
        profile: offered.profile.answered(sealing),
        crypto,
        direction: answered.direction.within(offered.direction.mirrored()),
        ..anchored(anchor, answered, origin)
    };
    let bytes = spec.print(Some((offer_from_a, index)));
    Ok((bytes, RelayedAnswer { formats: spec.formats, direction: spec.direction }))
}

fn anchored(anchor: &Anchor, audio: &Audio, origin: &OriginSeed) -> OfferSpec {
    OfferSpec {
        address: anchor.address,
        rtp_port: anchor.rtp_port,
        rtcp_port: anchor.rtcp_port,
        rtcp_mux: anchor.rtcp_mux,
        formats: Vec::new(),
        profile: Profile::RtpAvp,
        crypto: Vec::new(),
        direction: audio.direction,
        ptime: audio.ptime,
        maxptime: audio.maxptime,
        origin: *origin,
        ice: anchor.ice.clone(),
    }
}

fn seal_answer(offered: &Audio, media: &AnswerMedia) -> Result<(Sealing, Vec<CryptoLine>), AnswerError> {
    match (offered.security(), media) {
        (MediaSecurity::Required, AnswerMedia::Clear) => Err(AnswerError::Downgrade),
        (MediaSecurity::Unusable(_), _) => Err(AnswerError::CryptoNotOffered),
        (_, AnswerMedia::Clear) => Ok((Sealing::Clear, Vec::new())),
        (MediaSecurity::None, AnswerMedia::Sealed { .. }) => Err(AnswerError::CryptoNotOffered),
        (_, AnswerMedia::Sealed { line }) => {
            check_answering_line(offered, line)?;
            Ok((Sealing::Sealed, vec![line.clone()]))
        }
    }
}

// In the order and with the parameters of the answer.
fn common_formats(
    offered: &Audio,
    answered: &Audio,
    may_pass: &dyn Fn(u8) -> bool,
    numbering: Numbering,
) -> Vec<PayloadType> {
    let mut common: Vec<PayloadType> = Vec::with_capacity(answered.formats.len());
    for format in answered.formats.iter().filter(|format| may_pass(format.pt)) {
        let Some(number) = number_of(format, format.pt, &offered.formats) else { continue };
        let pt = match numbering {
            Numbering::OfOffer => number,
            Numbering::OfAnswer => format.pt,
        };
        if common.iter().all(|known| known.pt != pt) {
            common.push(PayloadType { pt, ..format.clone() });
        }
    }
    common
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
