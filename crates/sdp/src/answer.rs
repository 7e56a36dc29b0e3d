//! Judging an answer against the offer it answers (RFC 3264 §6, RFC 4568 §5.1.2). Both are descriptions as they
//! stood on *one* leg: ours and the peer's. Owns the refusals; builds nothing.

use std::net::SocketAddr;

use crate::audio::{Audio, Direction};
use crate::codec::PayloadType;
use crate::crypto::CryptoLine;
use crate::security::MediaSecurity;
use crate::session::{MediaKind, SdpError, Session};

/// The audio that an answer settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedAudio {
    /// Payload types in the order of the answer, under the numbers the answerer wants to hear; each codec was offered.
    pub formats: Vec<PayloadType>,
    /// Direction from the answerer's side, never wider than the offer allows.
    pub direction: Direction,
    /// Where the answerer wants RTP.
    pub rtp: SocketAddr,
    /// Where the answerer wants RTCP.
    pub rtcp: SocketAddr,
    /// The answerer's line (its key protects what it sends); `None` means plain RTP.
    pub crypto: Option<CryptoLine>,
}

/// Why an answer is refused (or cannot be written).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// There is no audio line in the offer, or the answer has something else in its place.
    #[error("no audio line where the offer has one")]
    NoAudio,
    /// The answer has more or fewer media lines than the offer, or in another order.
    #[error("media lines differ from those of the offer")]
    MediaLines,
    /// The answer accepts a media line that was offered with port 0.
    #[error("a media line offered with port 0 is accepted")]
    MediaRevived,
    /// Audio is refused with port 0.
    #[error("audio is refused with port 0")]
    MediaRejected,
    /// No address that media can be sent to.
    #[error("no unicast media address")]
    NoAddress,
    /// A codec that was not offered, or one under a static number of another.
    #[error("payload type {0} was not offered")]
    FormatNotOffered(u8),
    /// Nothing but comfort noise or telephone events is left.
    #[error("no common codec")]
    NoCodec,
    /// The profile is not one that answers the offered one.
    #[error("media profile does not answer the offered one")]
    Profile,
    /// SRTP was required and the answer is plain RTP.
    #[error("SRTP was offered and plain RTP answered")]
    Downgrade,
    /// A secure answer without exactly one usable crypto line.
    #[error("not exactly one usable crypto line in a secure answer")]
    CryptoLine,
    /// The tag is none that was offered, or its suite is another.
    #[error("crypto tag and suite were not offered")]
    CryptoNotOffered,
    /// The answer sends our own key back.
    #[error("the answer repeats a key of the offer")]
    KeyReused,
    /// The description exceeds a limit.
    #[error(transparent)]
    Description(#[from] SdpError),
}

/// Checks the peer's answer to an offer of ours.
pub fn check_answer(offer: &Session, answer: &Session) -> Result<AcceptedAudio, AnswerError> {
    let index = offer.audio_index().ok_or(AnswerError::NoAudio)?;
    let offered = offer.audio_at(index).ok_or(AnswerError::NoAudio)?;
    check_media_lines(offer, answer)?;
    let answered = answer.audio_at(index).ok_or(AnswerError::NoAudio)?;
    if answered.port == 0 {
        return Err(AnswerError::MediaRejected);
    }
    // Security first: a downgrade is the finding that matters, whatever else is wrong.
    let crypto = check_crypto(offered, answered)?;
    check_formats(offered, answered)?;
    let (rtp, rtcp) = answered.remote().ok_or(AnswerError::NoAddress)?;
    Ok(AcceptedAudio {
        formats: answered.formats.clone(),
        direction: answered.direction.within(offered.direction.mirrored()),
        rtp,
        rtcp,
        crypto,
    })
}

fn check_media_lines(offer: &Session, answer: &Session) -> Result<(), AnswerError> {
    if offer.media().len() != answer.media().len() {
        return Err(AnswerError::MediaLines);
    }
    for (offered, answered) in offer.media().iter().zip(answer.media()) {
        if !same_kind(&offered.kind, &answered.kind) {
            return Err(AnswerError::MediaLines);
        }
        if offered.port == 0 && answered.port != 0 {
            return Err(AnswerError::MediaRevived);
        }
    }
    Ok(())
}

fn same_kind(a: &MediaKind, b: &MediaKind) -> bool {
    match (a, b) {
        (MediaKind::Audio(_), MediaKind::Audio(_)) | (MediaKind::Image, MediaKind::Image) => true,
        (MediaKind::Other(a), MediaKind::Other(b)) => a.eq_ignore_ascii_case(b),
        _ => false,
    }
}

// The answerer may have numbers of its own for what was offered (RFC 3264 §6.1).
fn check_formats(offered: &Audio, answered: &Audio) -> Result<(), AnswerError> {
    for format in &answered.formats {
        let was_offered = offered.formats.iter().any(|ours| ours.same_codec(format));
        if !was_offered || format.takes_static_number() {
            return Err(AnswerError::FormatNotOffered(format.pt));
        }
    }
    if answered.formats.iter().all(PayloadType::is_auxiliary) {
        return Err(AnswerError::NoCodec);
    }
    Ok(())
}

fn check_crypto(offered: &Audio, answered: &Audio) -> Result<Option<CryptoLine>, AnswerError> {
    if matches!(answered.profile, crate::Profile::Other(_)) {
        return Err(AnswerError::Profile);
    }
    let speaks_crypto = !answered.crypto.is_empty() || answered.crypto_ignored > 0;
    let secure = answered.profile.is_secure() || speaks_crypto;
    match (offered.security(), secure) {
        (MediaSecurity::Unusable(_), _) => Err(AnswerError::CryptoNotOffered),
        (MediaSecurity::Required, false) => Err(AnswerError::Downgrade),
        (MediaSecurity::Required, true) if !answered.profile.is_secure() && offered.profile.is_secure() => {
            Err(AnswerError::Profile)
        }
        (MediaSecurity::None | MediaSecurity::Optional, false) => Ok(None),
        (MediaSecurity::None, true) => Err(AnswerError::CryptoNotOffered),
        (MediaSecurity::Required | MediaSecurity::Optional, true) => check_line(offered, answered).map(Some),
    }
}

fn check_line(offered: &Audio, answered: &Audio) -> Result<CryptoLine, AnswerError> {
    // The answer names its choice by one line, RFC 4568 §5.1.2.
    let [line] = answered.crypto.as_slice() else {
        return Err(AnswerError::CryptoLine);
    };
    if answered.crypto_ignored > 0 {
        return Err(AnswerError::CryptoLine);
    }
    check_answering_line(offered, line)?;
    Ok(line.clone())
}

pub(crate) fn check_answering_line(offered: &Audio, line: &CryptoLine) -> Result<(), AnswerError> {
    if !offered.crypto.iter().any(|ours| ours.tag == line.tag && ours.suite == line.suite) {
        return Err(AnswerError::CryptoNotOffered);
    }
    if offered.crypto.iter().chain(&offered.cryptoscale).any(|ours| ours.key == line.key) {
        return Err(AnswerError::KeyReused);
    }
    Ok(())
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
