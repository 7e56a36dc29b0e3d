//! One session description: `sdp-types` reads the grammar, what is kept is our typed view of each media line. Owns the
//! limits; refuses to know what an offer or an answer is.

use std::net::IpAddr;

use zeroize::{Zeroize, Zeroizing};

use crate::audio::Audio;
use crate::codec::PayloadType;
use crate::limits::{
    ATTRIBUTES_MAX, CANDIDATES_MAX, CRYPTO_LINES_MAX, FORMATS_MAX, MEDIA_LINES_MAX, SESSION_BYTES_MAX,
};
use crate::relay::CodecPolicy;
use crate::write::{OriginSeed, is_command};

/// Number of telephone events where a leg leaves the choice to us.
const EVENTS: u8 = 101;

/// Why bytes are no usable session description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// More than [`SESSION_BYTES_MAX`].
    #[error("session description longer than {SESSION_BYTES_MAX} bytes")]
    TooLong,
    /// More than [`MEDIA_LINES_MAX`] `m=` lines.
    #[error("more than {MEDIA_LINES_MAX} media lines")]
    MediaLines,
    /// More than [`ATTRIBUTES_MAX`] `a=` lines.
    #[error("more than {ATTRIBUTES_MAX} attributes")]
    Attributes,
    /// More than [`CRYPTO_LINES_MAX`] crypto lines under one media line.
    #[error("more than {CRYPTO_LINES_MAX} crypto lines")]
    CryptoLines,
    /// More than [`CANDIDATES_MAX`] candidates under one media line.
    #[error("more than {CANDIDATES_MAX} candidates")]
    Candidates,
    /// More than [`FORMATS_MAX`] formats on one media line.
    #[error("more than {FORMATS_MAX} formats")]
    Formats,
    /// An audio line in use lists something that is no payload type number.
    #[error("a format of the audio line is no payload type")]
    Format,
    /// The grammar does not fit; the text names the line.
    #[error("not a session description: {0}")]
    Grammar(String),
}

/// What a media line carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaKind {
    /// `m=audio`
    Audio(Box<Audio>),
    /// `m=image`: fax over T.38.
    Image,
    /// Any other media, by name.
    Other(String),
}

/// One `m=` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    /// What it carries.
    pub kind: MediaKind,
    /// The port; 0 means the line is refused or unused.
    pub port: u16,
    /// Profile and formats as spelled, for the line that refuses this one; empty on the line that counts.
    refusal: String,
}

impl Media {
    /// The audio line that counts.
    pub(crate) fn audio(audio: Audio) -> Self {
        Self { port: audio.port, kind: MediaKind::Audio(Box::new(audio)), refusal: String::new() }
    }

    /// What stands behind `m=` when this line is refused (RFC 3264 §6).
    pub(crate) fn refused(&self) -> &str {
        &self.refusal
    }
}

/// The `o=` line.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Session identifier as spelled (peers exceed 64 bits).
    pub session_id: &'a str,
    /// Version; grows with each changed description.
    pub version: u64,
    /// Address or host name of the originator.
    pub address: &'a str,
}

/// A session description as far as it is looked at. `Debug` shows its shape only and dropping it wipes its keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Session {
    session_id: String,
    version: u64,
    address: String,
    media: Vec<Media>,
}

impl Session {
    /// Parses a description with CRLF or bare LF line ends. Characters that command a terminal are left out of it, as they
    /// are never written.
    pub fn parse(bytes: &[u8]) -> Result<Self, SdpError> {
        if bytes.len() > SESSION_BYTES_MAX {
            return Err(SdpError::TooLong);
        }
        let cleaned = without_commands(bytes);
        let bytes = cleaned.as_ref().map_or(bytes, |text| text.as_bytes());
        let grammar = sdp_types::Session::parse(bytes).map_err(|e| SdpError::Grammar(describe(&e)))?;
        let mut grammar = Grammar(grammar);
        check_limits(&grammar.0)?;
        let media: Result<Vec<Media>, SdpError> =
            grammar.0.medias.iter().map(|m| typed_media(&grammar.0, m)).collect();
        let origin = &mut grammar.0.origin;
        let mut session = Self {
            session_id: std::mem::take(&mut origin.sess_id),
            version: origin.sess_version,
            address: std::mem::take(&mut origin.unicast_address),
            media: media?,
        };
        session.media.shrink_to_fit();
        // The line that counts is never refused by us.
        if let Some(counts) = session.audio_index().and_then(|index| session.media.get_mut(index)) {
            counts.refusal = String::new();
        }
        Ok(session)
    }

    /// A description of ours with one audio line.
    pub(crate) fn of_audio(origin: &OriginSeed, address: IpAddr, audio: Audio) -> Self {
        Self {
            session_id: origin.session_id.to_string(),
            version: origin.version,
            address: address.to_string(),
            media: vec![Media::audio(audio)],
        }
    }

    /// The `o=` line; `0 0 0.0.0.0` when the peer sent none.
    pub fn origin(&self) -> Origin<'_> {
        Origin { session_id: &self.session_id, version: self.version, address: &self.address }
    }

    /// Every media line, in order.
    pub fn media(&self) -> &[Media] {
        &self.media
    }

    /// Forgets the encodings that may not pass, on the audio line that counts: what is kept long is kept small.
    pub fn keep_formats(&mut self, codecs: CodecPolicy<'_>) {
        let counts = self.audio_index().and_then(|index| self.media.get_mut(index));
        if let Some(Media { kind: MediaKind::Audio(audio), .. }) = counts {
            audio.formats = codecs.select(&audio.formats);
        }
    }

    /// The same with telephone events (RFC 4733) at 8 kHz, where a codec has that clock and none are there.
    #[must_use]
    pub fn with_events(&self) -> Self {
        let mut session = self.clone();
        let counts = session.audio_index().and_then(|index| session.media.get_mut(index));
        if let Some(Media { kind: MediaKind::Audio(audio), .. }) = counts {
            let events = PayloadType::telephone_event(EVENTS);
            let is_new = !audio.formats.iter().any(|format| format.same_codec(&events));
            let has_clock = audio.formats.iter().any(|f| !f.is_auxiliary() && f.clock == events.clock);
            audio.formats.extend((is_new && has_clock).then_some(events));
        }
        session
    }

    /// Index of the audio line that counts: the first one in use, else the first one.
    pub fn audio_index(&self) -> Option<usize> {
        let is_audio = |m: &Media| matches!(m.kind, MediaKind::Audio(_));
        let in_use = self.media.iter().position(|m| is_audio(m) && m.port != 0);
        in_use.or_else(|| self.media.iter().position(is_audio))
    }

    /// The audio line at [`Session::audio_index`]. Its port is 0 if it is refused.
    pub fn audio(&self) -> Option<&Audio> {
        self.audio_at(self.audio_index()?)
    }

    /// The audio line at that index.
    pub fn audio_at(&self, index: usize) -> Option<&Audio> {
        match &self.media.get(index)?.kind {
            MediaKind::Audio(audio) => Some(audio),
            _ => None,
        }
    }

    /// Whether the only media in use is a fax image.
    pub fn is_fax_only(&self) -> bool {
        let mut in_use = self.media.iter().filter(|m| m.port != 0).peekable();
        in_use.peek().is_some() && in_use.all(|m| m.kind == MediaKind::Image)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("origin", &self.origin()).field("media", &self.media).finish()
    }
}

/// What the container holds until it is typed; its key lines are wiped.
struct Grammar(sdp_types::Session);

impl Drop for Grammar {
    fn drop(&mut self) {
        let attributes = self.0.medias.iter_mut().flat_map(|media| &mut media.attributes);
        let secret = attributes.chain(&mut self.0.attributes).filter(|a| is_secret(&a.attribute));
        secret.for_each(|attribute| attribute.value.zeroize());
    }
}

/// The address of a `c=` line if media can be sent there one to one.
pub(crate) fn unicast_address(connection: &sdp_types::Connection) -> Option<IpAddr> {
    let address: IpAddr = connection.connection_address.trim().parse().ok()?;
    is_unicast(address).then_some(address)
}

pub(crate) fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_broadcast(),
        IpAddr::V6(v6) => !v6.is_multicast(),
    }
}

fn is_crypto(name: &str) -> bool {
    name.eq_ignore_ascii_case("crypto") || name.eq_ignore_ascii_case("cryptoscale")
}

fn is_secret(name: &str) -> bool {
    is_crypto(name) || is_candidate(name) || name.eq_ignore_ascii_case("ice-pwd")
}

pub(crate) fn is_candidate(name: &str) -> bool {
    ["candidate", "x-candidate", "x-candidate-ipv6", "remote-candidate", "remote-candidates"]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

/// The text without characters that command a terminal; `None` where there are none, as in nearly every description. What
/// ends a line or a text is left to the grammar. It may hold keys.
fn without_commands(bytes: &[u8]) -> Option<Zeroizing<String>> {
    // The C1 controls begin with this octet.
    const C1_LEAD: u8 = 0xC2;
    let is_suspect = |byte: u8| matches!(byte, 0x01..=0x08 | 0x0B | 0x0C | 0x0E..=0x1F | 0x7F | C1_LEAD);
    if !bytes.iter().any(|byte| is_suspect(*byte)) {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let mut cleaned = Zeroizing::new(String::with_capacity(text.len()));
    cleaned.extend(text.chars().filter(|c| !is_command(*c) || matches!(c, '\0' | '\r' | '\n')));
    Some(cleaned)
}

fn check_limits(grammar: &sdp_types::Session) -> Result<(), SdpError> {
    if grammar.medias.len() > MEDIA_LINES_MAX {
        return Err(SdpError::MediaLines);
    }
    let attributes =
        grammar.medias.iter().map(|m| m.attributes.len()).sum::<usize>() + grammar.attributes.len();
    if attributes > ATTRIBUTES_MAX {
        return Err(SdpError::Attributes);
    }
    for media in &grammar.medias {
        let count =
            |wanted: fn(&str) -> bool| media.attributes.iter().filter(|a| wanted(&a.attribute)).count();
        if count(is_crypto) > CRYPTO_LINES_MAX {
            return Err(SdpError::CryptoLines);
        }
        if count(is_candidate) > CANDIDATES_MAX {
            return Err(SdpError::Candidates);
        }
        if media.fmt.split_ascii_whitespace().nth(FORMATS_MAX).is_some() {
            return Err(SdpError::Formats);
        }
    }
    Ok(())
}

fn typed_media(grammar: &sdp_types::Session, media: &sdp_types::Media) -> Result<Media, SdpError> {
    let kind = if media.media.eq_ignore_ascii_case("audio") {
        MediaKind::Audio(Box::new(Audio::read(grammar, media)?))
    } else if media.media.eq_ignore_ascii_case("image") {
        MediaKind::Image
    } else {
        MediaKind::Other(media.media.clone())
    };
    let refusal = format!("{} 0 {} {}", media.media, media.proto, media.fmt);
    Ok(Media { kind, port: media.port, refusal })
}

// The container's error may quote the peer's bytes; keep its shape and escape the rest.
fn describe(error: &sdp_types::ParserError) -> String {
    let mut text: String = error.to_string().chars().flat_map(char::escape_default).take(120).collect();
    text.shrink_to_fit();
    text
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
