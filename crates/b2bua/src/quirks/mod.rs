//! Peculiarities of peers that this gateway makes allowance for, each with a name, a reason, a source, a counter and a
//! switch. Owns the names and the sets; the list with its words stands in `entries`, the behaviour where it acts.
//! What cannot be switched off without breaking a call or a promise is a rule: listed too, with that reason.

mod entries;

use crate::profile::Profile;

pub use entries::{Entry, Switch, all, entry};

/// A peculiarity that can be switched off, for everybody or for one peer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Quirk {
    /// Malformed quoting in Diversion is repaired.
    DiversionQuoting,
    /// 18x with a description goes out as 183.
    ProgressFor180WithSdp,
    /// A 183 of our own before the caller's patience ends.
    FirstProgress,
    /// `Ms-*` headers pass though this gateway does not know them.
    MsHeaders,
    /// Microsoft's hop-by-hop headers stop here.
    MsHopByHop,
    /// `RTP/AVP` with crypto lines means that SRTP is welcome.
    OptionalSrtp,
    /// The crypto line without MKI is answered.
    MkiLessCrypto,
    /// A client certificate with the server purpose only is accepted.
    ServerAuthClient,
    /// The common name counts when there is no dNSName.
    CommonName,
    /// A wildcard among the subject alternative names is accepted.
    WildcardSan,
}

impl Quirk {
    /// Every quirk.
    pub const ALL: [Quirk; 10] = [
        Self::DiversionQuoting,
        Self::ProgressFor180WithSdp,
        Self::FirstProgress,
        Self::MsHeaders,
        Self::MsHopByHop,
        Self::OptionalSrtp,
        Self::MkiLessCrypto,
        Self::ServerAuthClient,
        Self::CommonName,
        Self::WildcardSan,
    ];

    /// The name in the configuration and in `umbra quirks`.
    pub fn name(self) -> &'static str {
        entry(self).name
    }

    /// The quirk of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|quirk| quirk.name().eq_ignore_ascii_case(name))
    }

    /// What is counted when it acts.
    pub fn counter(self) -> &'static str {
        entry(self).counter
    }

    const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Whether peers of that profile have it.
    const fn is_of(self, profile: Profile) -> bool {
        use crate::profile::Family;
        match self {
            Self::DiversionQuoting | Self::ProgressFor180WithSdp | Self::FirstProgress => {
                !matches!(profile.family(), Family::ExchangeUm)
            }
            Self::MsHeaders => matches!(profile.family(), Family::Lync),
            Self::MsHopByHop
            | Self::OptionalSrtp
            | Self::MkiLessCrypto
            | Self::ServerAuthClient
            | Self::CommonName
            | Self::WildcardSan => true,
        }
    }
}

/// Some of the quirks.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct QuirkSet(u32);

impl QuirkSet {
    /// None.
    pub const NONE: QuirkSet = QuirkSet(0);

    /// Those that peers of a profile have.
    pub const fn of_profile(profile: Profile) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < Quirk::ALL.len() {
            if Quirk::ALL[at].is_of(profile) {
                bits |= Quirk::ALL[at].bit();
            }
            at += 1;
        }
        Self(bits)
    }

    /// Whether it is among them.
    pub const fn has(self, quirk: Quirk) -> bool {
        self.0 & quirk.bit() != 0
    }

    /// One more.
    pub const fn add(&mut self, quirk: Quirk) {
        self.0 |= quirk.bit();
    }

    /// Those of either set.
    #[must_use]
    pub const fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Without those of another set.
    #[must_use]
    pub const fn minus(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, in the order of [`Quirk::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Quirk> {
        Quirk::ALL.into_iter().filter(move |quirk| self.has(*quirk))
    }
}

impl FromIterator<Quirk> for QuirkSet {
    fn from_iter<I: IntoIterator<Item = Quirk>>(quirks: I) -> Self {
        quirks.into_iter().fold(Self::NONE, |mut set, quirk| {
            set.add(quirk);
            set
        })
    }
}

#[cfg(test)]
mod tests;
