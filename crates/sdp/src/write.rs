//! Writing descriptions from nothing but our own facts: what is not listed here cannot leak through. Serves the
//! relay functions and, as [`OfferSpec`], the lab.

use std::fmt::Write;
use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use zeroize::Zeroizing;

use crate::answer::AnswerError;
use crate::audio::{Audio, Direction, Profile, RtcpAttribute};
use crate::codec::PayloadType;
use crate::crypto::CryptoLine;
use crate::ice::IceLines;
use crate::session::{SdpError, Session, is_unicast};

const SESSION_NAME: &str = "session";
/// First size of the buffer: a description of ours with a few formats and a key fits.
const FIRST_CAPACITY: usize = 512;

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
    /// Whether RTCP may come to the RTP port (RFC 5761).
    pub rtcp_mux: bool,
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
    /// What is said of ICE.
    pub ice: IceLines,
}

impl OfferSpec {
    /// Clear G.711 with comfort noise and DTMF (101), both ways, 20 ms, RTCP on the next port.
    pub fn new(address: IpAddr, rtp_port: u16) -> Self {
        Self {
            address,
            rtp_port,
            rtcp_port: rtp_port.saturating_add(1),
            rtcp_mux: false,
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
            ice: IceLines::Silent,
        }
    }

    /// The description, printed and typed. `template` gives count, order, kind and formats of the other lines; each
    /// of them leaves with port 0.
    pub(crate) fn session(self, template: Option<(&Session, usize)>) -> Result<(Bytes, Session), SdpError> {
        let bytes = self.print(template);
        let session = match template {
            Some((template, _)) if template.media().len() > 1 => Session::parse(&bytes)?,
            _ => self.typed(),
        };
        Ok((bytes, session))
    }

    pub(crate) fn print(&self, template: Option<(&Session, usize)>) -> Bytes {
        let mut out = BytesMut::with_capacity(FIRST_CAPACITY);
        self.head(&mut out);
        match template {
            None => self.audio_line(&mut out),
            Some((template, audio_index)) => {
                for (index, media) in template.media().iter().enumerate() {
                    if index == audio_index {
                        self.audio_line(&mut out);
                    } else {
                        line(&mut out, "m=", format_args!("{}", Clean(media.refused())));
                    }
                }
            }
        }
        out.freeze()
    }

    fn head(&self, out: &mut BytesMut) {
        let (OriginSeed { session_id, version }, address) = (self.origin, self.address);
        let family = if address.is_ipv4() { "IP4" } else { "IP6" };
        out.put_slice(b"v=0\r\n");
        line(out, "o=- ", format_args!("{session_id} {version} IN {family} {address}"));
        line(out, "s=", format_args!("{SESSION_NAME}"));
        line(out, "c=IN ", format_args!("{family} {address}"));
        out.put_slice(b"t=0 0\r\n");
        if let IceLines::Lite(ice) = &self.ice {
            ice.write_session(out);
        }
    }

    fn audio_line(&self, out: &mut BytesMut) {
        put(out, format_args!("m=audio {} {}", self.rtp_port, Clean(self.profile.name())));
        self.formats.iter().for_each(|format| put(out, format_args!(" {}", format.pt)));
        out.put_slice(b"\r\n");
        for crypto in &self.crypto {
            // into its own buffer, which is wiped: a growing one would leave the key behind
            let text = Zeroizing::new(crypto.to_string());
            line(out, "a=crypto:", format_args!("{}", Clean(&text)));
        }
        line(out, "a=rtcp:", format_args!("{}", self.rtcp_port));
        if self.rtcp_mux {
            out.put_slice(b"a=rtcp-mux\r\n");
        }
        for format in &self.formats {
            let (pt, name, clock) = (format.pt, Clean(&format.name), format.clock);
            match format.channels {
                _ if format.name.is_empty() => {}
                0 | 1 => line(out, "a=rtpmap:", format_args!("{pt} {name}/{clock}")),
                channels => line(out, "a=rtpmap:", format_args!("{pt} {name}/{clock}/{channels}")),
            }
            if let Some(fmtp) = &format.fmtp {
                line(out, "a=fmtp:", format_args!("{pt} {}", Clean(fmtp)));
            }
        }
        if let Some(ptime) = self.ptime {
            line(out, "a=ptime:", format_args!("{ptime}"));
        }
        if let Some(maxptime) = self.maxptime {
            line(out, "a=maxptime:", format_args!("{maxptime}"));
        }
        match &self.ice {
            IceLines::Silent => {}
            IceLines::Mismatch => line(out, "a=ice-mismatch", format_args!("")),
            IceLines::Lite(ice) => {
                // Both components share the one port (RFC 8839 §4.2.1.3).
                let ports = if self.rtcp_mux { 1 } else { 2 };
                let all = [self.rtp_port, self.rtcp_port];
                ice.write_media(out, self.address, all.get(..ports).unwrap_or_default());
            }
        }
        line(out, "a=", format_args!("{}", self.direction.name()));
    }

    /// What parsing the printed description would give.
    fn typed(self) -> Session {
        let connection = Some(self.address).filter(|address| is_unicast(*address));
        let is_held = connection.is_some_and(|address| address.is_unspecified());
        let limit = if is_held { Direction::SendOnly } else { Direction::SendRecv };
        let audio = Audio {
            port: self.rtp_port,
            profile: self.profile,
            connection,
            rtcp: Some(self.rtcp_port)
                .filter(|port| *port != 0)
                .map(|port| RtcpAttribute { port, address: None }),
            rtcp_mux: self.rtcp_mux,
            formats: self.formats,
            direction: self.direction.within(limit),
            ptime: self.ptime,
            maxptime: self.maxptime,
            crypto: self.crypto,
            crypto_ignored: 0,
            cryptoscale: Vec::new(),
            encryption: None,
            ice: match self.ice {
                IceLines::Lite(ice) => Some(Box::new(ice.written_at(self.address))),
                IceLines::Silent | IceLines::Mismatch => None,
            },
        };
        Session::of_audio(&self.origin, self.address, audio)
    }
}

/// Writes an offer with one audio line.
pub fn write_offer(spec: &OfferSpec) -> Bytes {
    spec.print(None)
}

/// Writes an answer: the described audio stands where the offer has its audio line, every other line is refused.
/// What goes into it (formats, crypto line, direction) is the caller's choice and is not checked here.
pub fn write_answer(offer: &Session, spec: &OfferSpec) -> Result<Bytes, AnswerError> {
    let index = offer.audio_index().ok_or(AnswerError::NoAudio)?;
    Ok(spec.print(Some((offer, index))))
}

pub(crate) fn line(out: &mut BytesMut, head: &str, rest: std::fmt::Arguments<'_>) {
    out.put_slice(head.as_bytes());
    put(out, rest);
    out.put_slice(b"\r\n");
}

fn put(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    // Writing into a growing buffer does not fail.
    let _ = out.write_fmt(text);
}

/// A character that ends a line or commands whoever looks at it.
pub(crate) fn is_command(c: char) -> bool {
    c.is_control() && c != '\t'
}

/// Text that a peer wrote, without the characters that end a line (RFC 8866 §5) or command whoever looks at it.
struct Clean<'a>(&'a str);

impl std::fmt::Display for Clean<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.split(is_command).try_for_each(|part| f.write_str(part))
    }
}

#[cfg(test)]
#[path = "write_tests.rs"]
mod tests;
