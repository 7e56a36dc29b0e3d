//! Revocation lists from files, and what happens without a usable one. Owns reading and the policy's words; refuses to
//! fetch anything.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject;
use webpki::{
    CertRevocationList, ExpirationPolicy, OwnedCertRevocationList, RevocationOptions,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::identity::{TlsError, pem, read_at_most};

/// Longest file with revocation lists.
const CRL_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Lists in all files together, at most.
pub const CRLS_MAX: usize = 64;

/// What happens when the list of an issuer is missing, unreadable or out of date. A revoked peer is refused either way.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum CrlPolicy {
    /// The peer is refused, and an unreadable file is an error.
    #[default]
    Require,
    /// The peer is accepted, and an unreadable file is a warning.
    Prefer,
}

/// The lists in force.
#[derive(Debug, Default)]
pub struct Revocations {
    lists: Vec<CertRevocationList<'static>>,
    policy: CrlPolicy,
}

impl Revocations {
    /// Reads every list. Without files nothing is asked of anybody. An unreadable file fails under
    /// [`CrlPolicy::Require`] and is left out under [`CrlPolicy::Prefer`].
    pub fn load(paths: &[PathBuf], policy: CrlPolicy) -> Result<Self, TlsError> {
        let mut lists = Vec::new();
        for path in paths {
            match load(path) {
                Ok(found) => lists.extend(found.into_iter().map(|found| found.list)),
                Err(_) if policy == CrlPolicy::Prefer => {}
                Err(error) => return Err(error),
            }
            if lists.len() > CRLS_MAX {
                return Err(pem(path, "one revocation list too many"));
            }
        }
        Ok(Self { lists, policy })
    }

    /// Runs `verify` with the options of webpki that stand for these lists.
    pub(super) fn options<T>(&self, verify: impl FnOnce(Option<RevocationOptions<'_>>) -> T) -> T {
        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().collect();
        let (unknown, stale) = match self.policy {
            CrlPolicy::Require => (UnknownStatusPolicy::Deny, ExpirationPolicy::Enforce),
            CrlPolicy::Prefer => (UnknownStatusPolicy::Allow, ExpirationPolicy::Ignore),
        };
        let builder = RevocationOptionsBuilder::new(&lists).ok();
        verify(
            builder.map(|options| options.with_status_policy(unknown).with_expiration_policy(stale).build()),
        )
    }
}

/// One list as it stands in a file.
pub struct FoundList {
    list: CertRevocationList<'static>,
    /// When the next one was promised.
    pub next_update: Option<SystemTime>,
}

/// Reads the lists of one file: PEM, or one in DER.
pub fn load(path: &std::path::Path) -> Result<Vec<FoundList>, TlsError> {
    let bytes = read_at_most(path, CRL_FILE_BYTES_MAX)?;
    let sections: Result<Vec<_>, _> =
        CertificateRevocationListDer::pem_slice_iter(&bytes).take(CRLS_MAX + 1).collect();
    let sections = sections.map_err(|error| pem(path, &error.to_string()))?;
    let ders: Vec<&[u8]> = match sections.as_slice() {
        [] => vec![&bytes],
        sections => sections.iter().map(|section| section.as_ref()).collect(),
    };
    ders.into_iter().map(|der| parse(der).map_err(|what| pem(path, &what))).collect()
}

fn parse(der: &[u8]) -> Result<FoundList, String> {
    let list = OwnedCertRevocationList::from_der(der)
        .map_err(|error| format!("holds no usable certificate revocation list ({error:?})"))?;
    let next_update = CertificateRevocationList::from_der(der)
        .ok()
        .and_then(|(_, parsed)| parsed.next_update())
        .and_then(|time| u64::try_from(time.timestamp()).ok())
        .map(|secs| UNIX_EPOCH + Duration::from_secs(secs));
    Ok(FoundList { list: CertRevocationList::Owned(list), next_update })
}
