//! Which names a certificate presents and whether one of them is the wanted one. Owns SAN-before-CN, wildcard and
//! address rules; refuses to know chains, dates and configuration.

use std::net::IpAddr;

use b2bua::quirks::{Quirk, QuirkSet};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::reject::{PeerRejection, address_name};

/// Names in one certificate, at most; more is not a server certificate but an attack on our time.
pub const NAMES_MAX: usize = 256;
/// Longest host name, RFC 1035 §2.3.4.
const NAME_BYTES_MAX: usize = 253;
/// Longest label of one, RFC 1035 §2.3.4.
const LABEL_BYTES_MAX: usize = 63;

/// Where the names were found.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum NameSource {
    /// subjectAltName.
    SubjectAltName,
    /// Common name of the subject, because there is no dNSName.
    CommonName,
}

/// The names a certificate presents, in lower case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PresentedNames {
    /// dNSNames, or the common name when there is none. May hold `*.domain` from a SAN.
    pub dns: Vec<String>,
    /// Addresses of the SAN.
    pub addresses: Vec<IpAddr>,
    /// Where `dns` comes from.
    pub source: NameSource,
    /// What the certificate is made for.
    pub purpose: Purpose,
}

/// What a certificate says it is for.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// Clients too, or it does not say.
    Clients,
    /// Not clients.
    NotClients,
}

impl PresentedNames {
    /// Reads a certificate. A wildcard subject is refused even when the SANs are fine: message waiting and
    /// Play-on-Phone break silently with it.
    pub fn of(certificate_der: &[u8]) -> Result<Self, PeerRejection> {
        let (_, certificate) = X509Certificate::from_der(certificate_der)
            .map_err(|error| PeerRejection::Unusable(error.to_string()))?;
        let common_name = common_name(&certificate)?;
        if let Some(name) = common_name.as_deref().filter(|name| name.contains('*')) {
            return Err(PeerRejection::WildcardSubject(name.to_owned()));
        }
        let (dns, addresses) = alternative_names(&certificate)?;
        let purpose = purpose(&certificate)?;
        if !dns.is_empty() {
            return Ok(Self { dns, addresses, source: NameSource::SubjectAltName, purpose });
        }
        let source = NameSource::CommonName;
        match common_name {
            Some(name) => Ok(Self { dns: vec![name], addresses, source, purpose }),
            None if !addresses.is_empty() => {
                Ok(Self { dns, addresses, source: NameSource::SubjectAltName, purpose })
            }
            None => Err(PeerRejection::NoName),
        }
    }

    /// The quirks a peer of that name must have for this certificate to prove it; `None` when it does not name it.
    pub(super) fn proves(&self, wanted: &str) -> Option<QuirkSet> {
        let mut needed = QuirkSet::NONE;
        if self.source == NameSource::CommonName && wanted.parse::<IpAddr>().is_err() {
            needed.add(Quirk::CommonName);
        }
        if !self.spells(wanted) {
            if !self.covers(wanted) {
                return None;
            }
            needed.add(Quirk::WildcardSan);
        }
        Some(needed)
    }

    fn spells(&self, wanted: &str) -> bool {
        match wanted.parse::<IpAddr>() {
            Ok(address) => self.addresses.contains(&address.to_canonical()),
            Err(_) => {
                let wanted = wanted.strip_suffix('.').unwrap_or(wanted);
                self.dns.iter().any(|presented| presented.eq_ignore_ascii_case(wanted))
            }
        }
    }

    /// Is the certificate good for this host name or address?
    pub fn covers(&self, wanted: &str) -> bool {
        if let Ok(address) = wanted.parse::<IpAddr>() {
            return self.addresses.contains(&address.to_canonical());
        }
        self.dns.iter().any(|presented| dns_matches(presented, wanted))
    }

    /// All names, for messages.
    pub fn all(&self) -> Vec<String> {
        self.dns.iter().cloned().chain(self.addresses.iter().copied().map(address_name)).collect()
    }
}

/// A wildcard stands for exactly one label on the left, and never for a whole top-level domain.
pub(super) fn dns_matches(presented: &str, wanted: &str) -> bool {
    let wanted = wanted.strip_suffix('.').unwrap_or(wanted);
    let Some(domain) = presented.strip_prefix("*.") else {
        return presented.eq_ignore_ascii_case(wanted);
    };
    match wanted.split_once('.') {
        Some((label, rest)) => !label.is_empty() && domain.contains('.') && rest.eq_ignore_ascii_case(domain),
        None => false,
    }
}

/// RFC 5280 §4.2.1.12: without the extension any purpose is allowed.
fn purpose(certificate: &X509Certificate<'_>) -> Result<Purpose, PeerRejection> {
    let usage = certificate.extended_key_usage().map_err(|e| PeerRejection::Unusable(e.to_string()))?;
    Ok(match usage {
        Some(usage) if !usage.value.client_auth && !usage.value.any => Purpose::NotClients,
        _ => Purpose::Clients,
    })
}

fn common_name(certificate: &X509Certificate<'_>) -> Result<Option<String>, PeerRejection> {
    // RDNs run from general to special, so the last common name is the host.
    let Some(attribute) = certificate.subject().iter_common_name().last() else { return Ok(None) };
    let text = attribute.as_str().map_err(|_| PeerRejection::MalformedName)?;
    // A subject such as "Umbra Lab" is a title, not a name; it only matters that nothing hides in it.
    if text.chars().any(char::is_control) {
        return Err(PeerRejection::MalformedName);
    }
    Ok(Some(text.to_ascii_lowercase()).filter(|name| is_host_name(name) || name.contains('*')))
}

type Names = (Vec<String>, Vec<IpAddr>);

fn alternative_names(certificate: &X509Certificate<'_>) -> Result<Names, PeerRejection> {
    let (mut dns, mut addresses) = (Vec::new(), Vec::new());
    let extension =
        certificate.subject_alternative_name().map_err(|error| PeerRejection::Unusable(error.to_string()))?;
    let Some(extension) = extension else { return Ok((dns, addresses)) };
    let names = &extension.value.general_names;
    if names.len() > NAMES_MAX {
        return Err(PeerRejection::TooManyNames(names.len()));
    }
    for name in names {
        match name {
            GeneralName::DNSName(text) if is_host_name(text.strip_prefix("*.").unwrap_or(text)) => {
                dns.push(text.to_ascii_lowercase());
            }
            // What is no text at all must not make room for the common name.
            GeneralName::DNSName(_) | GeneralName::Invalid(..) => return Err(PeerRejection::MalformedName),
            GeneralName::IPAddress(bytes) => addresses.extend(address_of(bytes)),
            _ => {}
        }
    }
    Ok((dns, addresses))
}

pub(super) fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    v4.or_else(|| <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)).map(|address| address.to_canonical())
}

pub(super) fn is_host_name(text: &str) -> bool {
    let byte_ok = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let label_ok = |label: &str| !label.is_empty() && label.len() <= LABEL_BYTES_MAX;
    text.len() <= NAME_BYTES_MAX && text.bytes().all(byte_ok) && text.split('.').all(label_ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_one_label_only() {
        assert!(dns_matches("*.contoso.test", "pool01.contoso.test"));
        assert!(dns_matches("*.contoso.test", "POOL01.Contoso.Test."));
        assert!(!dns_matches("*.contoso.test", "a.b.contoso.test"));
        assert!(!dns_matches("*.contoso.test", "contoso.test"));
        assert!(!dns_matches("*.test", "contoso.test"));
        assert!(!dns_matches("*.contoso.test", ".contoso.test"));
    }

    #[test]
    fn exact_names_compare_without_case() {
        assert!(dns_matches("cas01.contoso.test", "CAS01.contoso.TEST"));
        assert!(!dns_matches("cas01.contoso.test", "cas02.contoso.test"));
    }

    #[test]
    fn bytes_that_no_host_name_has_are_no_host_name() {
        for bad in ["", "a b", "a\0b.test", "a\r\nb", "é.test", "a,b", "*", "a*.test", "a..test", "a.test."]
        {
            assert!(!is_host_name(bad), "{bad:?}");
        }
        assert!(is_host_name("pool-01.contoso_x.test"));
    }

    #[test]
    fn garbage_is_unusable_not_a_panic() {
        assert!(matches!(PresentedNames::of(&[0x30, 0x82, 0xff]), Err(PeerRejection::Unusable(_))));
        assert!(matches!(PresentedNames::of(&[]), Err(PeerRejection::Unusable(_))));
    }
}
