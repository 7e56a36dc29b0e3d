//! Writing descriptions from nothing but our own facts: what is not listed here cannot leak through. Serves the
//! relay functions and, as [`OfferSpec`], the lab.

use std::net::IpAddr;

use bytes::Bytes;
use sdp_types::{Attribute, Connection, Media as MediaLine};

use crate::answer::AnswerError;
use crate::audio::{Direction, Profile};
use crate::codec::PayloadType;
use crate::crypto::CryptoLine;
use crate::session::{SdpError, Session};

const SESSION_NAME: &str = "session";

/// Identity of a description of ours: the same id for the life of a leg, a greater version for each change.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct OriginSeed {
    /// Session identifier.
    pub session_id: u64,
    /// Version.
    pub version: u64,
}

/// An audio description to write.
#[derive(Clone, Debug)]
pub struct OfferSpec {
    /// Address for `o=` and `c=`.
    pub address: IpAddr,
    /// RTP port.
    pub rtp_port: u16,
    /// RTCP port, always spelled out.
    pub rtcp_port: u16,
    /// Payload types in order of preference.
    pub formats: Vec<PayloadType>,
    /// Transport profile.
    pub profile: Profile,
    /// Crypto lines.
    pub crypto: Vec<CryptoLine>,
    /// Direction.
    pub direction: Direction,
    /// Packet time in milliseconds.
    pub ptime: Option<u16>,
    /// Longest packet time in milliseconds.
    pub maxptime: Option<u16>,
    /// Identity for `o=`.
    pub origin: OriginSeed,
}

impl OfferSpec {
    /// Clear G.711 with comfort noise and DTMF (101), both ways, 20 ms, RTCP on the next port.
    pub fn new(address: IpAddr, rtp_port: u16) -> Self {
        Self {
            address,
            rtp_port,
            rtcp_port: rtp_port.saturating_add(1),
            formats: vec![
                PayloadType::pcmu(),
                PayloadType::pcma(),
                PayloadType::comfort_noise(),
                PayloadType::telephone_event(101),
            ],
            profile: Profile::RtpAvp,
            crypto: Vec::new(),
            direction: Direction::SendRecv,
            ptime: Some(20),
            maxptime: None,
            origin: OriginSeed { session_id: 1, version: 1 },
        }
    }

    fn media_line(&self) -> MediaLine {
        let formats: Vec<String> = self.formats.iter().map(|f| f.pt.to_string()).collect();
        let mut line = empty_line("audio", self.profile.name(), &formats.join(" "));
        line.port = self.rtp_port;
        let mut add = |name: &str, value: String| line.attributes.push(Attribute::with_value(name, value));
        for crypto in &self.crypto {
            add("crypto", crypto.to_string());
        }
        add("rtcp", self.rtcp_port.to_string());
        for format in &self.formats {
            if let Some(map) = format.rtpmap() {
                add("rtpmap", map);
            }
            if let Some(fmtp) = &format.fmtp {
                add("fmtp", format!("{} {fmtp}", format.pt));
            }
        }
        if let Some(ptime) = self.ptime {
            add("ptime", ptime.to_string());
        }
        if let Some(maxptime) = self.maxptime {
            add("maxptime", maxptime.to_string());
        }
        line.attributes.push(Attribute::new(self.direction.name()));
        line
    }

    // `template` gives count, order, kind and formats of the other lines; each of them leaves with port 0.
    pub(crate) fn session(&self, template: Option<(&Session, usize)>) -> Result<Session, SdpError> {
        let origin =
            sdp_types::Origin::with_ip_addr(self.origin.session_id, self.origin.version, self.address);
        let mut grammar = sdp_types::Session::new(origin, SESSION_NAME);
        grammar.connection = Some(Connection::from_ip_addr(self.address));
        grammar.times.push(sdp_types::Time::new(0, 0));
        match template {
            None => grammar.medias.push(self.media_line()),
            Some((template, audio_index)) => {
                for (index, media) in template.grammar().medias.iter().enumerate() {
                    grammar.medias.push(if index == audio_index {
                        self.media_line()
                    } else {
                        empty_line(&media.media, &media.proto, &media.fmt)
                    });
                }
            }
        }
        Session::from_grammar(grammar)
    }
}

/// Writes an offer with one audio line.
pub fn write_offer(spec: &OfferSpec) -> Bytes {
    spec.session(None).map(|session| session.to_bytes()).unwrap_or_default()
}

/// Writes an answer: the described audio stands where the offer has its audio line, every other line is refused.
/// What goes into it (formats, crypto line, direction) is the caller's choice and is not checked here.
pub fn write_answer(offer: &Session, spec: &OfferSpec) -> Result<Bytes, AnswerError> {
    let index = offer.audio_index().ok_or(AnswerError::NoAudio)?;
    let session = spec.session(Some((offer, index))).map_err(AnswerError::Description)?;
    Ok(session.to_bytes())
}

fn empty_line(media: &str, proto: &str, fmt: &str) -> MediaLine {
    MediaLine {
        media: media.to_owned(),
        port: 0,
        num_ports: None,
        proto: proto.to_owned(),
        fmt: fmt.to_owned(),
        media_title: None,
        connections: Vec::new(),
        bandwidths: Vec::new(),
        key: None,
        attributes: Vec::new(),
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
