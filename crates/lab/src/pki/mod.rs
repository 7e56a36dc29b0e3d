//! The lab's certificate authority: a throw-away root, one certificate per host made on demand, and the crooked variants that tests
//! need (a few in `spec`, a whole zoo of them in `zoo`). Owns keys and PEM files; refuses to know who uses them, and never opens a
//! socket. Everything here is for the lab: roots live 14 days and have no revocation service.

mod ca;
mod folder;
mod identity;
mod spec;
mod zoo;

pub use ca::LabCa;
pub use folder::{Pki, ROOT_FILE, ROOT_KEY_FILE};
pub use identity::{Identity, IdentityFiles, write_private};
pub use spec::{CertSpec, KeyKind, Life, Naming, Purpose};
pub use zoo::{EXHIBITS, Exhibit, SOUND};

use thiserror::Error;

/// Days a lab certificate and a lab root are valid.
pub const LIFE_DAYS: i64 = 14;

/// Why a key or certificate could not be made, read or written.
#[derive(Debug, Error)]
pub enum PkiError {
    /// The certificate library refused the request.
    #[error("certificate could not be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file in question.
        path: std::path::PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A PEM file does not hold what its name promises.
    #[error("{path}: {what}")]
    Pem {
        /// The file in question.
        path: std::path::PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// Something stands there already, and keys are not overwritten.
    #[error("{} exists already and is not overwritten", .0.display())]
    Exists(std::path::PathBuf),
    /// A host name that cannot be a file name or a certificate name.
    #[error("`{0}` is not a host name")]
    HostName(String),
}
