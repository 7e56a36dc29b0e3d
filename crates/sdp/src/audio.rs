//! The typed view of one `m=audio` line: profile, address, formats, direction, packet times, crypto. Owns the
//! reading of attributes; session-level values count where the media line has none of its own.

use std::net::{IpAddr, SocketAddr};

use crate::codec::{Encoding, PayloadType, parse_number};
use crate::crypto::CryptoLine;
use crate::ice::Ice;
use crate::security::EncryptionAttribute;
use crate::session::{SdpError, is_unicast, unicast_address};

/// Transport profile of a media line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `RTP/AVP`
    RtpAvp,
    /// `RTP/SAVP`
    RtpSavp,
    /// `RTP/AVPF`
    RtpAvpf,
    /// `RTP/SAVPF`
    RtpSavpf,
    /// `TCP/RTP/SAVP`, an older Microsoft form.
    TcpRtpSavp,
    /// Anything else, as spelled.
    Other(String),
}

impl Profile {
    const KNOWN: [Self; 5] = [Self::RtpAvp, Self::RtpSavp, Self::RtpAvpf, Self::RtpSavpf, Self::TcpRtpSavp];

    /// Reads the `proto` field.
    pub fn from_name(name: &str) -> Self {
        let known = Self::KNOWN.into_iter().find(|profile| profile.name().eq_ignore_ascii_case(name));
        known.unwrap_or_else(|| Self::Other(name.to_owned()))
    }

    /// The `proto` field.
    pub fn name(&self) -> &str {
        match self {
            Self::RtpAvp => "RTP/AVP",
            Self::RtpSavp => "RTP/SAVP",
            Self::RtpAvpf => "RTP/AVPF",
            Self::RtpSavpf => "RTP/SAVPF",
            Self::TcpRtpSavp => "TCP/RTP/SAVP",
            Self::Other(name) => name,
        }
    }

    /// Whether the profile itself promises SRTP keyed by crypto lines.
    pub const fn is_secure(&self) -> bool {
        matches!(self, Self::RtpSavp | Self::RtpSavpf | Self::TcpRtpSavp)
    }

    /// The profile that answers this one, sealed or clear; feedback is kept, TCP is not.
    pub(crate) const fn answered(&self, sealed: Sealing) -> Self {
        match (self, sealed) {
            (Self::RtpAvpf | Self::RtpSavpf, Sealing::Sealed) => Self::RtpSavpf,
            (Self::RtpAvpf | Self::RtpSavpf, Sealing::Clear) => Self::RtpAvpf,
            (_, Sealing::Sealed) => Self::RtpSavp,
            (_, Sealing::Clear) => Self::RtpAvp,
        }
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sealing {
    Clear,
    Sealed,
}

/// Which way media flows, seen from the side that wrote the description.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// The writer only sends: hold.
    SendOnly,
    /// The writer only receives.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    const ALL: [Self; 4] = [Self::SendRecv, Self::SendOnly, Self::RecvOnly, Self::Inactive];

    /// The attribute's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SendRecv => "sendrecv",
            Self::SendOnly => "sendonly",
            Self::RecvOnly => "recvonly",
            Self::Inactive => "inactive",
        }
    }

    /// Whether the writer sends.
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the writer receives.
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }

    /// The same flow seen from the other side (RFC 3264 §6.1).
    pub const fn mirrored(self) -> Self {
        match self {
            Self::SendOnly => Self::RecvOnly,
            Self::RecvOnly => Self::SendOnly,
            other => other,
        }
    }

    /// What both directions permit.
    pub fn within(self, limit: Self) -> Self {
        let (sends, receives) = (self.sends() && limit.sends(), self.receives() && limit.receives());
        let fits = |d: &Self| d.sends() == sends && d.receives() == receives;
        Self::ALL.into_iter().find(fits).unwrap_or(Self::Inactive)
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|direction| direction.name().eq_ignore_ascii_case(name))
    }
}

/// `a=rtcp` (RFC 3605): a port, and an address when it differs from that of RTP.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct RtcpAttribute {
    /// The port.
    pub port: u16,
    /// The address, if one is given.
    pub address: Option<IpAddr>,
}

impl RtcpAttribute {
    fn parse(value: &str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let port = words.next()?.parse().ok().filter(|port| *port != 0)?;
        let address = match words.nth(2) {
            Some(text) => Some(text.parse().ok().filter(|address| is_unicast(*address))?),
            None => None,
        };
        Some(Self { port, address })
    }
}

/// One `m=audio` line with its attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audio {
    /// RTP port; 0 means refused.
    pub port: u16,
    /// Transport profile.
    pub profile: Profile,
    /// Unicast address from the media's or the session's `c=`; `None` if there is none that packets can go to.
    pub connection: Option<IpAddr>,
    /// `a=rtcp`.
    pub rtcp: Option<RtcpAttribute>,
    /// `a=rtcp-mux`.
    pub rtcp_mux: bool,
    /// Payload types in the order of preference.
    pub formats: Vec<PayloadType>,
    /// Direction, with the old hold address already taken into account.
    pub direction: Direction,
    /// `a=ptime` in milliseconds.
    pub ptime: Option<u16>,
    /// `a=maxptime` in milliseconds.
    pub maxptime: Option<u16>,
    /// Usable crypto lines, tags unique, in order.
    pub crypto: Vec<CryptoLine>,
    /// How many `a=crypto` lines were unknown, broken, doubled or of no use.
    pub crypto_ignored: usize,
    /// Microsoft's `a=cryptoscale` lines; their tags live in the space of the crypto lines.
    pub cryptoscale: Vec<CryptoLine>,
    /// Microsoft's `a=encryption`.
    pub encryption: Option<EncryptionAttribute>,
    /// ICE, where it is complete.
    pub ice: Option<Box<Ice>>,
}

impl Audio {
    /// Where the peer wants RTP and RTCP; `None` when it is refused or there is no address.
    pub fn remote(&self) -> Option<(SocketAddr, SocketAddr)> {
        let address = self.connection.filter(|_| self.port != 0)?;
        let rtp = SocketAddr::new(address, self.port);
        let rtcp = match self.rtcp {
            Some(rtcp) => SocketAddr::new(rtcp.address.unwrap_or(address), rtcp.port),
            // The port after RTP's, RFC 3550 §11; none follows the last one.
            None => SocketAddr::new(address, self.port.checked_add(1).unwrap_or(self.port)),
        };
        Some((rtp, rtcp))
    }

    pub(crate) fn read(session: &sdp_types::Session, media: &sdp_types::Media) -> Result<Self, SdpError> {
        let connection = media.connections.first().or(session.connection.as_ref()).and_then(unicast_address);
        let value = |name| media.get_first_attribute_value(name).flatten();
        let profile = Profile::from_name(&media.proto);
        let (crypto, crypto_ignored) = read_crypto(media);
        let encryption =
            value("encryption").or_else(|| session.get_first_attribute_value("encryption").flatten());
        let mut audio = Self {
            port: media.port,
            formats: read_formats(media, &profile)?,
            profile,
            connection,
            rtcp: value("rtcp").and_then(RtcpAttribute::parse),
            rtcp_mux: media.has_attribute("rtcp-mux"),
            direction: read_direction(session, media, connection),
            ptime: value("ptime").and_then(milliseconds),
            maxptime: value("maxptime").and_then(milliseconds),
            crypto,
            crypto_ignored,
            cryptoscale: read_cryptoscale(media),
            encryption: encryption.and_then(EncryptionAttribute::parse),
            ice: None,
        };
        audio.ice = Ice::read(session, media, audio.remote()).map(Box::new);
        Ok(audio)
    }
}

fn values<'a>(media: &'a sdp_types::Media, name: &'a str) -> impl Iterator<Item = &'a str> {
    media.get_attribute_values(name).flatten()
}

fn milliseconds(value: &str) -> Option<u16> {
    value.trim().parse().ok().filter(|ms| *ms != 0)
}

fn read_direction(
    session: &sdp_types::Session,
    media: &sdp_types::Media,
    connection: Option<IpAddr>,
) -> Direction {
    let first = |attributes: &[sdp_types::Attribute]| {
        attributes.iter().find_map(|a| Direction::from_name(&a.attribute))
    };
    let stated = first(&media.attributes).or_else(|| first(&session.attributes)).unwrap_or_default();
    match connection {
        Some(address) if address.is_unspecified() => stated.within(Direction::SendOnly),
        _ => stated,
    }
}

fn read_crypto(media: &sdp_types::Media) -> (Vec<CryptoLine>, usize) {
    let mut lines: Vec<CryptoLine> = Vec::new();
    let mut ignored = 0;
    for value in media.get_attribute_values("crypto") {
        match value.map(CryptoLine::parse) {
            Some(Ok(line)) if line.is_usable() && lines.iter().all(|known| known.tag != line.tag) => {
                lines.push(line);
            }
            _ => ignored += 1,
        }
    }
    lines.shrink_to_fit();
    (lines, ignored)
}

fn read_cryptoscale(media: &sdp_types::Media) -> Vec<CryptoLine> {
    let mut lines: Vec<CryptoLine> =
        values(media, "cryptoscale").filter_map(|v| CryptoLine::parse_scaled(v).ok()).collect();
    lines.shrink_to_fit();
    lines
}

// One pass over the attributes, remembered by number, keeps the cost linear.
fn read_formats(media: &sdp_types::Media, profile: &Profile) -> Result<Vec<PayloadType>, SdpError> {
    let mut mapped: [Option<Encoding<'_>>; 128] = [None; 128];
    let mut fmtp: [Option<&str>; 128] = [None; 128];
    for (pt, map) in values(media, "rtpmap").filter_map(Encoding::parse_rtpmap) {
        if let Some(slot @ None) = mapped.get_mut(usize::from(pt)) {
            *slot = Some(map);
        }
    }
    for (pt, parameters) in values(media, "fmtp").filter_map(|value| value.trim().split_once(' ')) {
        if let Some(slot @ None) = parse_number(pt).and_then(|pt| fmtp.get_mut(usize::from(pt))) {
            *slot = Some(parameters);
        }
    }
    let mut formats: Vec<PayloadType> = Vec::new();
    let tolerant = media.port == 0 || matches!(profile, Profile::Other(_));
    for word in media.fmt.split_ascii_whitespace() {
        let Some(pt) = parse_number(word) else {
            if tolerant {
                continue;
            }
            return Err(SdpError::Format);
        };
        if formats.iter().any(|known| known.pt == pt) {
            continue;
        }
        let encoding = mapped[usize::from(pt)].unwrap_or_else(|| Encoding::unmapped(pt));
        let fmtp = fmtp[usize::from(pt)].map(str::to_owned);
        formats.push(PayloadType { fmtp, ..encoding.under(pt) });
    }
    Ok(formats)
}

#[cfg(test)]
#[path = "audio_tests.rs"]
mod tests;
