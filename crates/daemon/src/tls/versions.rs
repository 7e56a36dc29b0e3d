//! The protocol versions of rustls, as it wants to be told.

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use super::settings::{TlsSettings, Version};

/// Which protocol versions are spoken.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum Versions {
    /// TLS 1.2 and 1.3.
    #[default]
    From12,
    /// TLS 1.3.
    Only13,
    /// TLS 1.2: short keys sign PKCS #1 v1.5, and TLS 1.3 has none of it.
    Only12,
}

static FROM_12: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static ONLY_13: [&SupportedProtocolVersion; 1] = [&TLS13];
static ONLY_12: [&SupportedProtocolVersion; 1] = [&TLS12];

impl Versions {
    pub(super) fn list(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::From12 => &FROM_12,
            Self::Only13 => &ONLY_13,
            Self::Only12 => &ONLY_12,
        }
    }

    /// The same toward somebody whose key is too short for TLS 1.3, where that leaves anything.
    pub(super) fn for_short_keys(self) -> Self {
        if self == Self::From12 { Self::Only12 } else { self }
    }
}

/// What rustls can speak of it: a probe looks with rustls wherever the gateway itself would take OpenSSL.
impl From<&TlsSettings> for Versions {
    fn from(settings: &TlsSettings) -> Self {
        match settings.versions() {
            [Version::V1_3] => Self::Only13,
            [.., Version::V1_3] => Self::From12,
            _ => Self::Only12,
        }
    }
}
