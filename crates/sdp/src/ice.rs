//! ICE as a description states it, in the two forms that Lync offers: `a=ice-ufrag` and `a=ice-pwd` beside candidates
//! (RFC 8839, like the draft 19 of [MS-ICE2]), and the older one whose candidates have a name and a password each
//! ([MS-ICE], draft 6). Owns their reading, and the lines of a lite agent with one host candidate for each component.
//! Refuses to know checks; a peer's password is kept to tell a restart, and does not print.
//!
//! ```text
//!  a=candidate:<foundation> <component> <transport> <priority> <address> <port> typ <type> …
//!  a=candidate:<name> <component> <password> <transport> <preference> <address> <port>          older
//! ```

use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::BytesMut;
use zeroize::Zeroizing;

use crate::limits::ICE_TEXT_BYTES_MAX;
use crate::session::is_candidate;
use crate::write::line;

/// Random octets that [`Ice::ours`] takes.
pub const ICE_SEED_BYTES: usize = NAME_BYTES + PASSWORD_BYTES;

/// Octets of a candidate's name and password in the older form, as its peers write them.
const NAME_BYTES: usize = 32;
const PASSWORD_BYTES: usize = 16;
/// Octets behind eight characters of `ice-ufrag` and 24 of `ice-pwd`: 48 and 144 random bits (RFC 8445 §5.3 asks for 24 and 128).
const UFRAG_BYTES: usize = 6;
const PWD_BYTES: usize = 18;
/// Preference of a host candidate over UDP in the older form, as its peers write it.
const HOST_PREFERENCE: &str = "0.830";
/// Type preference 126, the one address (RFC 8445 §5.1.2.1); the component is taken off.
const HOST_PRIORITY: u32 = (126 << 24) + (65_535 << 8) + 256;

/// How ICE is spelled.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum IceForm {
    /// One name fragment and password for all candidates.
    Fragments,
    /// A name and a password for each candidate.
    Candidates,
}

/// Where IPv6 candidates stand ([MS-SDPEXT] §3.1.5.21.1).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ipv6Lines {
    /// `a=candidate`
    Candidate,
    /// `a=x-candidate-ipv6`
    Extension,
}

/// Whether the addresses of `m=`, `c=` and `a=rtcp` are candidates, too (RFC 8839 §4.2.5).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum DefaultCandidate {
    /// They are.
    Listed,
    /// They are not: something between the peers has changed them, and ICE would fail.
    Missing,
}

/// ICE of one media line. `Debug` shows no password, and dropping it wipes it.
#[derive(Clone, PartialEq, Eq)]
pub struct Ice {
    /// The spelling.
    pub form: IceForm,
    /// Name fragment, or the name of the first candidate.
    pub name: String,
    /// Whether it fits the rest of the line.
    pub default: DefaultCandidate,
    /// How IPv6 candidates are spelled.
    pub ipv6: Ipv6Lines,
    password: Zeroizing<String>,
}

impl Ice {
    /// Ours, from random octets, spelled as the peer spells its own.
    pub fn ours(theirs: &Self, seed: &[u8; ICE_SEED_BYTES]) -> Self {
        let (name, rest) = match theirs.form {
            IceForm::Fragments => seed.split_at(UFRAG_BYTES),
            IceForm::Candidates => seed.split_at(NAME_BYTES),
        };
        let password = match theirs.form {
            IceForm::Fragments => rest.get(..PWD_BYTES),
            IceForm::Candidates => rest.get(..PASSWORD_BYTES),
        };
        Self {
            form: theirs.form,
            name: STANDARD_NO_PAD.encode(name),
            default: DefaultCandidate::Listed,
            ipv6: theirs.ipv6,
            password: Zeroizing::new(STANDARD_NO_PAD.encode(password.unwrap_or_default())),
        }
    }

    /// Checks of a peer are proved with it.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// Name and password of the older form as checks carry them: the octets behind the characters.
    pub fn octets(&self) -> Option<(Vec<u8>, Zeroizing<Vec<u8>>)> {
        let decode = |text: &str| STANDARD_NO_PAD.decode(text.trim_end_matches('=')).ok();
        Some((decode(&self.name)?, Zeroizing::new(decode(&self.password)?)))
    }

    /// Whether a later description goes on with the same checks; if not, ICE begins anew (RFC 8445 §9). The older form knows
    /// no new beginning: its candidates come and go.
    pub fn goes_on(&self, later: &Self) -> bool {
        self.form == later.form
            && (self.form == IceForm::Candidates
                || (self.name == later.name && self.password == later.password))
    }

    pub(crate) fn read(
        session: &sdp_types::Session,
        media: &sdp_types::Media,
        remote: Option<(SocketAddr, SocketAddr)>,
    ) -> Option<Self> {
        let lines = || media.attributes.iter().filter(|a| is_candidate(&a.attribute));
        let candidates = || lines().filter_map(|a| Candidate::parse(a.value.as_deref()?));
        let stated = |name| {
            let own = media.get_first_attribute_value(name).flatten();
            own.or_else(|| session.get_first_attribute_value(name).flatten()).and_then(ice_text)
        };
        let (form, name, password) = match (stated("ice-ufrag"), stated("ice-pwd")) {
            (Some(name), Some(password)) => (IceForm::Fragments, name, password),
            _ => {
                let first = candidates().find_map(|candidate| candidate.credentials)?;
                (IceForm::Candidates, first.0, first.1)
            }
        };
        let of_form = || candidates().filter(|c| c.credentials.is_some() == (form == IceForm::Candidates));
        let lists = |component: u8, at: SocketAddr| {
            of_form().any(|candidate| candidate.component == component && candidate.at == at)
        };
        let is_listed = remote.is_some_and(|(rtp, rtcp)| {
            lists(1, rtp) && (lists(2, rtcp) || !of_form().any(|candidate| candidate.component == 2))
        });
        let is_extended = lines().any(|a| a.attribute.eq_ignore_ascii_case(EXTENSION));
        Some(Self {
            form,
            name: name.to_owned(),
            default: if is_listed { DefaultCandidate::Listed } else { DefaultCandidate::Missing },
            ipv6: if is_extended { Ipv6Lines::Extension } else { Ipv6Lines::Candidate },
            password: Zeroizing::new(password.to_owned()),
        })
    }

    /// What reading it gives: only IPv6 addresses are spelled in two ways.
    pub(crate) fn written_at(mut self, address: IpAddr) -> Self {
        if address.is_ipv4() {
            self.ipv6 = Ipv6Lines::Candidate;
        }
        self
    }

    /// The lines at the top of the description.
    pub(crate) fn write_session(&self, out: &mut BytesMut) {
        if self.form == IceForm::Fragments {
            line(out, "a=ice-lite", format_args!(""));
        }
    }

    /// The lines of the media, with a candidate for each port.
    pub(crate) fn write_media(&self, out: &mut BytesMut, address: IpAddr, ports: &[u16]) {
        let head = match (address, self.ipv6) {
            (IpAddr::V6(_), Ipv6Lines::Extension) => "a=x-candidate-ipv6:",
            _ => "a=candidate:",
        };
        let (name, password) = (&self.name, self.password.as_str());
        if self.form == IceForm::Fragments {
            line(out, "a=ice-ufrag:", format_args!("{name}"));
            line(out, "a=ice-pwd:", format_args!("{password}"));
        }
        for (component, port) in (1u32..).zip(ports) {
            let priority = HOST_PRIORITY - component;
            match self.form {
                IceForm::Fragments => {
                    line(out, head, format_args!("1 {component} UDP {priority} {address} {port} typ host"))
                }
                IceForm::Candidates => line(
                    out,
                    head,
                    format_args!("{name} {component} {password} UDP {HOST_PREFERENCE} {address} {port}"),
                ),
            }
        }
    }
}

impl std::fmt::Debug for Ice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ice({:?} {} {:?}, password redacted)", self.form, self.name, self.default)
    }
}

/// What is said of ICE in a description of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum IceLines {
    /// Nothing.
    #[default]
    Silent,
    /// That the offer's did not fit (RFC 8839 §5.4).
    Mismatch,
    /// Our candidates.
    Lite(Box<Ice>),
}

const EXTENSION: &str = "x-candidate-ipv6";

/// A candidate over UDP.
struct Candidate<'a> {
    component: u8,
    at: SocketAddr,
    /// Its own name and password, in the older form.
    credentials: Option<(&'a str, &'a str)>,
}

impl<'a> Candidate<'a> {
    fn parse(value: &'a str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let mut next = || words.next();
        let (name, component, third, fourth) = (next()?, next()?, next()?, next()?);
        let (fifth, sixth, seventh) = (next()?, next()?, next()?);
        let is_standard = seventh.eq_ignore_ascii_case("typ");
        let (transport, address, port, credentials) = match is_standard {
            true => (third, fifth, sixth, None),
            false => (fourth, sixth, seventh, Some((ice_text(name)?, ice_text(third)?))),
        };
        if !transport.eq_ignore_ascii_case("UDP") {
            return None;
        }
        let at = SocketAddr::new(address.parse().ok()?, port.parse().ok()?);
        Some(Self { component: component.parse().ok()?, at, credentials })
    }
}

/// Names and passwords are of these characters (RFC 8839 §5.4); the older form fills its base64.
fn ice_text(text: &str) -> Option<&str> {
    let is_ice = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    let text = text.trim();
    ((1..=ICE_TEXT_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_ice)).then_some(text)
}

#[cfg(test)]
#[path = "ice_tests.rs"]
mod tests;
