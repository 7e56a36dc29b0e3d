//! What an audio description says about media security, in one word. Owns the reading of profile, crypto lines
//! and `a=encryption` together; decides nothing about what is allowed.

use crate::audio::{Audio, Profile};

/// What a description asks for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum MediaSecurity {
    /// SRTP or nothing.
    Required,
    /// `RTP/AVP` with crypto lines: SRTP welcome, RTP accepted.
    Optional,
    /// Plain RTP.
    None,
    /// It contradicts itself, or asks for something we do not have: refuse.
    Unusable(UnusableWhy),
}

/// Why a description cannot be used.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum UnusableWhy {
    /// A secure profile (or `a=encryption:required`) without one crypto line that we can use.
    #[error("SRTP is required but no usable crypto line is offered")]
    NoUsableCrypto,
    /// A transport profile that is not RTP with SDES, for example DTLS-SRTP or T.38.
    #[error("the media profile is not RTP/AVP or RTP/SAVP")]
    Profile,
}

/// Microsoft's older `a=encryption` attribute.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum EncryptionAttribute {
    /// `required`
    Required,
    /// `optional`
    Optional,
    /// `rejected`
    Rejected,
}

impl EncryptionAttribute {
    pub(crate) fn parse(value: &str) -> Option<Self> {
        let value = value.trim();
        [("required", Self::Required), ("optional", Self::Optional), ("rejected", Self::Rejected)]
            .into_iter()
            .find_map(|(name, it)| value.eq_ignore_ascii_case(name).then_some(it))
    }
}

impl Audio {
    /// What this description says about media security.
    pub fn security(&self) -> MediaSecurity {
        let usable = !self.crypto.is_empty();
        match (&self.profile, self.encryption) {
            (Profile::Other(_), _) => MediaSecurity::Unusable(UnusableWhy::Profile),
            (profile, _) if profile.is_secure() => required_if(usable),
            (_, Some(EncryptionAttribute::Required)) => required_if(usable),
            (_, Some(EncryptionAttribute::Rejected)) => MediaSecurity::None,
            _ if usable => MediaSecurity::Optional,
            _ => MediaSecurity::None,
        }
    }
}

const fn required_if(usable: bool) -> MediaSecurity {
    if usable { MediaSecurity::Required } else { MediaSecurity::Unusable(UnusableWhy::NoUsableCrypto) }
}
