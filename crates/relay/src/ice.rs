//! A leg's end of ICE: this gateway is a lite agent (RFC 8445 §2.5) that answers connectivity checks and sends none.
//!
//! Owns which checks are right for a leg, and how many are looked at. A check is answered only if its name and its
//! integrity are those of the leg; whatever else comes gets not one octet back. Refuses to know where a leg's peer sits.

use std::fmt;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use crate::plan::Channel;
use crate::stats::Why;
use crate::stun::{Fingerprint, Integrity, Request, Response};

/// Longest name or password (RFC 8839 §5.4 ends them at 256 characters; a name has two).
pub const ICE_BYTES_MAX: usize = 513;
/// Checks with the right name that are looked at in a second on one leg. A peer of many candidates sends one in 50 ms
/// and repeats each a few times.
pub const CHECKS_PER_SECOND_MAX: u32 = 100;

/// What checks of a leg's peer must carry. It does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    name: Name,
    key: Zeroizing<Vec<u8>>,
}

#[derive(Clone, PartialEq, Eq)]
enum Name {
    /// `ours:theirs`, the fragments of both descriptions (RFC 8445 §7.2.2).
    Fragments(Vec<u8>),
    /// What a candidate of ours is called in the older form; the component follows it.
    Candidate(Vec<u8>),
}

impl IceCredentials {
    /// The form with `a=ice-ufrag` and `a=ice-pwd`.
    pub fn fragments(ours: &str, theirs: &str, password: &str) -> Option<Self> {
        let are_named = !ours.is_empty() && !theirs.is_empty();
        let name = Name::Fragments(format!("{ours}:{theirs}").into_bytes());
        Self { name, key: Zeroizing::new(password.as_bytes().to_vec()) }.bounded().filter(|_| are_named)
    }

    /// The older form, in which each candidate has a name and a password of its own; both as octets, not as base64.
    pub fn candidate(name: &[u8], password: &[u8]) -> Option<Self> {
        let are_named = !name.is_empty();
        let name = Name::Candidate(name.to_vec());
        Self { name, key: Zeroizing::new(password.to_vec()) }.bounded().filter(|_| are_named)
    }

    fn bounded(self) -> Option<Self> {
        let (Name::Fragments(name) | Name::Candidate(name)) = &self.name;
        let fits = name.len() <= ICE_BYTES_MAX && (1..=ICE_BYTES_MAX).contains(&self.key.len());
        fits.then_some(self)
    }

    /// Whether a check is meant for this leg. Microsoft's fill the name with zeros to whole words and count them.
    fn is_named(&self, request: &Request<'_>, channel: Channel) -> bool {
        let stated = request.username();
        let filled = stated.iter().rev().take_while(|octet| **octet == 0).count();
        let stated = stated.get(..stated.len() - filled).unwrap_or_default();
        match &self.name {
            Name::Fragments(name) => request.has_cookie() && stated == name,
            Name::Candidate(name) => {
                let component: &[u8] = match channel {
                    Channel::Rtp => b":1",
                    Channel::Rtcp => b":2",
                };
                let theirs =
                    stated.strip_prefix(name.as_slice()).and_then(|rest| rest.strip_prefix(component));
                theirs.is_some_and(|theirs| theirs.starts_with(b":") && theirs.ends_with(component))
            }
        }
    }

    /// How a check of this leg may be proved. Lync prove theirs in either way, by version ([MS-ICE2] §2.2).
    fn integrities(&self) -> &'static [Integrity] {
        match self.name {
            Name::Fragments(_) => &[Integrity::Exact, Integrity::Padded],
            Name::Candidate(_) => &[Integrity::Padded],
        }
    }
}

impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IceCredentials(redacted)")
    }
}

/// What a check that is right says beside that its sender is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nomination {
    /// The pair shall be used.
    Nominated,
    /// Only asked.
    Asked,
}

/// A check that proved right.
pub(crate) struct Check<'p> {
    request: Request<'p>,
    integrity: Integrity,
    fingerprint: Option<Fingerprint>,
}

impl Check<'_> {
    pub(crate) fn nomination(&self) -> Nomination {
        if self.request.nominates() { Nomination::Nominated } else { Nomination::Asked }
    }

    pub(crate) fn response(
        &self,
        from: std::net::SocketAddr,
        credentials: &IceCredentials,
    ) -> Option<Response> {
        self.request.response(from, &credentials.key, self.integrity, self.fingerprint)
    }
}

/// How many checks a leg has looked at lately.
pub(crate) struct Patience {
    since: Instant,
    checks: u32,
}

impl Patience {
    pub(crate) fn new(now: Instant) -> Self {
        Patience { since: now, checks: 0 }
    }

    /// Judges a STUN message: first what costs nothing, the integrity last and only so often.
    pub(crate) fn judge<'p>(
        &mut self,
        now: Instant,
        credentials: Option<&IceCredentials>,
        channel: Channel,
        packet: &'p [u8],
    ) -> Result<Check<'p>, Why> {
        let credentials = credentials.ok_or(Why::StunRefused)?;
        let request = Request::parse(packet).ok_or(Why::StunRefused)?;
        if !credentials.is_named(&request, channel) {
            return Err(Why::StunRefused);
        }
        self.spend(now)?;
        let proofs = credentials.integrities();
        let integrity = proofs.iter().find(|form| request.is_authentic(&credentials.key, **form));
        let integrity = *integrity.ok_or(Why::StunRefused)?;
        let fingerprint = request.fingerprint(integrity).map_err(|_| Why::StunRefused)?;
        Ok(Check { request, integrity, fingerprint })
    }

    fn spend(&mut self, now: Instant) -> Result<(), Why> {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            *self = Patience::new(now);
        }
        self.checks += 1;
        if self.checks > CHECKS_PER_SECOND_MAX { Err(Why::StunTooOften) } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "ice_tests.rs"]
pub(crate) mod tests;
