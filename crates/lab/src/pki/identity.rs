//! A certificate with its key, in memory and as PEM files.

use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::PkiError;

/// A certificate chain (leaf first, root included) and its private key. Never prints the key.
pub struct Identity {
    name: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    chain_pem: String,
    key_pem: String,
}

/// Where an identity was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IdentityFiles {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// PEM private key (PKCS#8), readable by the owner only.
    pub key: PathBuf,
}

impl Identity {
    pub(super) fn from_pem(
        name: &str,
        chain_pem: String,
        key_pem: String,
        path: &Path,
    ) -> Result<Self, PkiError> {
        let wrong = |what| PkiError::Pem { path: path.to_owned(), what };
        let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| wrong("is not a PEM certificate chain"))?;
        if chain.is_empty() {
            return Err(wrong("holds no certificate"));
        }
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|_| wrong("has no usable private key beside it"))?;
        Ok(Identity { name: name.to_owned(), chain, key, chain_pem, key_pem })
    }

    /// Reads a chain and its key from PEM files.
    pub fn load(name: &str, files: &IdentityFiles) -> Result<Self, PkiError> {
        let chain = read(&files.certificate)?;
        let key = read(&files.key)?;
        Identity::from_pem(name, chain, key, &files.certificate)
    }

    /// The host name it was made for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// A copy of the private key for a TLS configuration.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    /// The chain as PEM.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// Writes `<stem>.pem` and `<stem>.key` (mode 0600) into `folder`.
    pub fn write(&self, folder: &Path, stem: &str) -> Result<IdentityFiles, PkiError> {
        let files = files_of(folder, stem);
        write(&files.certificate, &self.chain_pem)?;
        write_private(&files.key, &self.key_pem)?;
        Ok(files)
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Identity {
            name: self.name.clone(),
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            chain_pem: self.chain_pem.clone(),
            key_pem: self.key_pem.clone(),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

/// One certificate as PEM: lines of 64 characters (RFC 7468 §2).
pub(super) fn certificate_pem(der: &CertificateDer<'static>) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

pub(super) fn files_of(folder: &Path, stem: &str) -> IdentityFiles {
    IdentityFiles { certificate: folder.join(format!("{stem}.pem")), key: folder.join(format!("{stem}.key")) }
}

pub(super) fn read(path: &Path) -> Result<String, PkiError> {
    std::fs::read_to_string(path).map_err(|source| PkiError::File { path: path.to_owned(), source })
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    std::fs::write(path, text).map_err(|source| PkiError::File { path: path.to_owned(), source })
}

/// Creates the file with its final mode 0600, so that the key is at no time readable by others. An old file is replaced.
///
/// # Errors
/// The system's words.
pub fn write_private(path: &Path, text: &str) -> Result<(), PkiError> {
    let fail = |source| PkiError::File { path: path.to_owned(), source };
    // An old file would keep its old mode.
    match std::fs::remove_file(path) {
        Err(gone) if gone.kind() != std::io::ErrorKind::NotFound => return Err(fail(gone)),
        _ => {}
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(fail)?;
    file.write_all(text.as_bytes()).map_err(fail)
}
