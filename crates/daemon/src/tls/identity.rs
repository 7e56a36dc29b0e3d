//! Our own certificate and the roots we trust, read from PEM files. Owns the check that key and certificate belong
//! together; refuses to know who will see them.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use b2bua::verdict::clean;
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::chain;
use super::names::PresentedNames;
use super::reject::PeerRejection;

/// Certificates in one file, at most.
pub const CHAIN_LENGTH_MAX: usize = 16;
/// Roots in all files together, at most.
pub const ROOTS_MAX: usize = 1024;
/// Longest PEM file read.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Why TLS cannot be set up from the given files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// A file is longer than any certificate file.
    #[error("{}: longer than {} bytes", .0.display(), .1)]
    TooLong(PathBuf, u64),
    /// No PEM section of the wanted sort, or a broken one.
    #[error("{}: {what}", path.display())]
    Pem {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The private key is of another certificate.
    #[error("{}: the private key does not belong to the certificate {}", key.display(), certificate.display())]
    KeyMismatch {
        /// Key file.
        key: PathBuf,
        /// Certificate file.
        certificate: PathBuf,
    },
    /// No peer could make anything of the certificate.
    #[error("{}: {rejection}", path.display())]
    Refused {
        /// Which file.
        path: PathBuf,
        /// What a peer would say.
        rejection: PeerRejection,
    },
    /// rustls refuses it.
    #[error("{}: {what}", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

impl TlsError {
    /// The file it is about; of a pair that does not fit, the key.
    pub fn path(&self) -> &Path {
        match self {
            Self::Read { path, .. }
            | Self::TooLong(path, _)
            | Self::Pem { path, .. }
            | Self::Refused { path, .. }
            | Self::Unusable { path, .. }
            | Self::KeyMismatch { key: path, .. } => path,
        }
    }
}

/// Our certificate chain with its private key, and the names it stands for.
#[derive(Clone, Debug)]
pub struct Identity {
    pub(super) certified: Arc<CertifiedKey>,
    names: Vec<String>,
    /// The same key for the other backend.
    #[cfg(feature = "openssl")]
    pub(super) key: Option<super::openssl::Key>,
}

impl Identity {
    /// Loads a chain (leaf first) and its key; both PEM.
    pub fn load(certificate: &Path, private_key: &Path) -> Result<Self, TlsError> {
        let chain = certificates(certificate, CHAIN_LENGTH_MAX)?;
        let leaf = chain.first().ok_or_else(|| pem(certificate, "holds no certificate"))?;
        let refused = |rejection| TlsError::Refused { path: certificate.into(), rejection };
        chain::readable(leaf).map_err(refused)?;
        let names = PresentedNames::of(leaf).map_err(refused)?;
        let key = pem_key(private_key, &read(private_key)?)?;
        #[cfg(feature = "openssl")]
        let for_openssl = super::openssl::key(key.secret_der()).map_err(|what| pem(private_key, &what))?;
        let certified =
            CertifiedKey::from_der(chain, key, &super::provider()).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    TlsError::KeyMismatch { key: private_key.into(), certificate: certificate.into() }
                }
                other => TlsError::Unusable { path: private_key.into(), what: other.to_string() },
            })?;
        Ok(Self {
            certified: Arc::new(certified),
            names: names.all(),
            #[cfg(feature = "openssl")]
            key: Some(for_openssl),
        })
    }

    #[cfg(test)]
    pub(super) fn for_tests(certified: CertifiedKey) -> Self {
        Self {
            certified: Arc::new(certified),
            names: Vec::new(),
            #[cfg(feature = "openssl")]
            key: None,
        }
    }

    /// When the certificate ends.
    pub fn not_after(&self) -> Option<SystemTime> {
        let (_, leaf) = X509Certificate::from_der(self.certified.cert.first()?).ok()?;
        let secs = u64::try_from(leaf.validity().not_after.timestamp()).ok()?;
        Some(UNIX_EPOCH + Duration::from_secs(secs))
    }

    /// The subject of the certificate, cleaned.
    pub fn subject(&self) -> String {
        let leaf = self.certified.cert.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
        leaf.map_or_else(String::new, |(_, leaf)| clean(&leaf.subject().to_string()))
    }

    /// The certificates, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// The names of the certificate, SAN first.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// Loads every trusted root of the files.
pub fn load_roots(paths: &[PathBuf]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for path in paths {
        let certificates = certificates(path, ROOTS_MAX)?;
        if certificates.is_empty() {
            return Err(pem(path, "holds no certificate"));
        }
        for certificate in certificates {
            roots
                .add(certificate)
                .map_err(|error| TlsError::Unusable { path: path.clone(), what: error.to_string() })?;
        }
    }
    Ok(roots)
}

/// The certificates of a PEM file, at most so many.
///
/// # Errors
/// The file cannot be read, holds something else, or more.
pub fn certificates(path: &Path, count_max: usize) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    pem_certificates(path, &read(path)?, count_max)
}

/// The certificates of a file that came from anywhere: PEM, or one in DER as Windows exports it. At least one.
pub fn load_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = read(path)?;
    let found = match is_pem(&bytes) {
        true => pem_certificates(path, &bytes, ROOTS_MAX)?,
        false => vec![CertificateDer::from(bytes)],
    };
    match found.iter().all(|der| der.is_empty()) {
        true => Err(pem(path, "holds no certificate")),
        false => Ok(found),
    }
}

/// Whether the bytes of a file are text that holds PEM sections.
pub(crate) fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(PEM_BEGIN.len()).any(|window| window == PEM_BEGIN)
}

/// How every PEM section starts (RFC 7468 §2).
const PEM_BEGIN: &[u8] = b"-----BEGIN ";

/// The first private key among PEM sections.
pub(crate) fn pem_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|_| {
        let encrypted = [&b"ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"];
        let holds = |words: &[u8]| bytes.windows(words.len()).any(|window| window == words);
        match encrypted.iter().any(|words| holds(words)) {
            true => pem(path, "the private key is encrypted; decrypt it with openssl pkey -in FILE -out KEY"),
            false => pem(path, "holds no private key"),
        }
    })
}

/// Every certificate among PEM sections, at most so many.
pub(crate) fn pem_certificates(
    path: &Path,
    bytes: &[u8],
    count_max: usize,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).take(count_max + 1).collect();
    match found {
        Ok(found) if found.len() > count_max => Err(pem(path, "holds too many certificates")),
        Ok(found) => Ok(found),
        Err(error) => Err(pem(path, &error.to_string())),
    }
}

/// A whole file, bounded.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    read_at_most(path, FILE_BYTES_MAX)
}

/// Opening a pipe would wait for its writer, so only regular files are opened.
pub(super) fn read_at_most(path: &Path, bytes_max: u64) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.into(), source };
    if !std::fs::metadata(path).map_err(failed)?.is_file() {
        return Err(failed(std::io::Error::other("not a regular file")));
    }
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path).map_err(failed)?;
    opened.take(bytes_max + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(TlsError::TooLong(path.into(), bytes_max));
    }
    Ok(bytes)
}

pub(crate) fn pem(path: &Path, what: &str) -> TlsError {
    TlsError::Pem { path: path.into(), what: what.to_owned() }
}
