//! What kind of product a peer is, and which of its peculiarities are met there. Owns the words of the configuration;
//! refuses to know what follows from them: that is the header table's and each quirk's business.

use serde::Serialize;

use crate::quirks::{Quirk, QuirkSet};

/// A product as the configuration names it (`profile = "lync2013"`).
///
/// Nothing documented tells the three Lync generations apart in headers, nor the three Exchange ones: profiles of one
/// family share all data. They are told apart so that a difference found on a real system has a place to stand.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // each variant is the product of that name
pub enum Profile {
    Lync2010,
    Lync2013,
    Sfb2015,
    Exum2010,
    Exum2013,
    Exum2016,
    IpPbx,
}

/// Profiles that are treated alike.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Lync and Skype for Business pools.
    Lync,
    /// Exchange Unified Messaging.
    ExchangeUm,
    /// IP-PBXs, SBCs and media gateways.
    IpPbx,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Profile; 7] = [
        Self::Lync2010,
        Self::Lync2013,
        Self::Sfb2015,
        Self::Exum2010,
        Self::Exum2013,
        Self::Exum2016,
        Self::IpPbx,
    ];
    /// Those that a pool may have.
    pub const POOLS: [Profile; 3] = [Self::Lync2010, Self::Lync2013, Self::Sfb2015];
    /// Those that a UM IP gateway may have.
    pub const GATEWAYS: [Profile; 4] = [Self::Lync2010, Self::Lync2013, Self::Sfb2015, Self::IpPbx];
    /// Those that a Mailbox server may have.
    pub const SERVERS: [Profile; 3] = [Self::Exum2010, Self::Exum2013, Self::Exum2016];
    /// Those that a Call Router may have: Exchange 2010 has none.
    pub const ROUTERS: [Profile; 2] = [Self::Exum2013, Self::Exum2016];

    /// The word of the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lync2010 => "lync2010",
            Self::Lync2013 => "lync2013",
            Self::Sfb2015 => "sfb2015",
            Self::Exum2010 => "exum2010",
            Self::Exum2013 => "exum2013",
            Self::Exum2016 => "exum2016",
            Self::IpPbx => "ippbx",
        }
    }

    /// The family whose data it shares.
    pub const fn family(self) -> Family {
        match self {
            Self::Lync2010 | Self::Lync2013 | Self::Sfb2015 => Family::Lync,
            Self::Exum2010 | Self::Exum2013 | Self::Exum2016 => Family::ExchangeUm,
            Self::IpPbx => Family::IpPbx,
        }
    }
}

impl Serialize for Profile {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// How one peer is spoken to: its profile, and the quirks that are on for it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// The product.
    pub profile: Profile,
    /// Quirks of that product that nobody switched off.
    pub quirks: QuirkSet,
    /// How its digits travel.
    pub digits: Digits,
}

/// How the digits of a peer travel.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Digits {
    /// As it and the far end agree: events in RTP and bodies of INFO pass as they are.
    #[default]
    Pass,
    /// In INFO, to and from it; a far end without INFO gets events and has its events told.
    Info,
}

impl Dialect {
    /// A peer of that profile with every quirk of it on.
    pub const fn of(profile: Profile) -> Self {
        Self { profile, quirks: QuirkSet::of_profile(profile), digits: Digits::Pass }
    }

    /// The same without some quirks.
    #[must_use]
    pub const fn without(self, off: QuirkSet) -> Self {
        Self { quirks: self.quirks.minus(off), ..self }
    }

    /// Whether that quirk is on for this peer.
    pub const fn has(self, quirk: Quirk) -> bool {
        self.quirks.has(quirk)
    }
}
