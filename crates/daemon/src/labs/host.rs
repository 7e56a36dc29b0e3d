//! A lab that runs because a file says so: its authority, its UM side, its end. Owns their order; refuses to know who asked for it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lab::pki::{Pki, PkiError, ROOT_FILE, ROOT_KEY_FILE};
use lab::shell::{LabError, Listening};
use lab::{LabUm, LabUmConfig};

use super::Events;
use crate::config::lab_file::LabFile;

/// Why a lab did not start.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Certificates.
    #[error("lab certificates: {0}")]
    Pki(#[from] PkiError),
    /// Half an authority: a new one would take its place.
    #[error(
        "{} is there and {} is not: no certificate can be made, and no root is replaced; put the other file beside it, or name another folder in \
         `pki`",
        .0.display(),
        .1.display()
    )]
    HalfAuthority(PathBuf, PathBuf),
    /// An address that this host has not.
    #[error(
        "{0}\nAddresses of 127.0.0.0/8 besides 127.0.0.1 are there on Linux only; elsewhere they must be added by hand. Others must be this host's."
    )]
    NoAddress(LabError),
    /// The UM side.
    #[error(transparent)]
    Lab(LabError),
    /// It describes callers and nobody who is called.
    #[error("the file describes no server: there is nothing to run")]
    NoServer,
}

impl From<LabError> for HostError {
    fn from(error: LabError) -> Self {
        match &error {
            LabError::Listen { source, .. } if source.kind() == ErrorKind::AddrNotAvailable => {
                Self::NoAddress(error)
            }
            _ => Self::Lab(error),
        }
    }
}

/// The running lab.
pub struct Host {
    um: LabUm,
}

impl Host {
    /// Starts it.
    ///
    /// # Errors
    /// Certificates, ports.
    pub async fn start(file: &LabFile) -> Result<Self, HostError> {
        if file.um.call_routers.is_empty() && file.um.mailbox_servers.is_empty() {
            return Err(HostError::NoServer);
        }
        let pki = if file.speaks_tls() { Some(Arc::new(open_pki(&file.pki)?)) } else { None };
        let um = LabUm::start(LabUmConfig { pki, ..file.um.clone() }).await?;
        Ok(Self { um })
    }

    /// What happens from now on in the lab of this file.
    pub fn events(&self, file: &LabFile) -> Events {
        let aliases = file.um.mailboxes.iter().map(|mailbox| mailbox.alias.clone()).collect();
        Events::new(self.um.facts(), aliases)
    }

    /// Where everything listens.
    pub fn listening(&self) -> Vec<Listening> {
        self.um.listening()
    }

    /// Hangs up calls, stores what they left, closes everything.
    pub async fn stop(self) {
        self.um.stop().await;
    }
}

/// The authority in this folder; made where there is none.
///
/// # Errors
/// It cannot be read or made, or half of it is there.
pub fn open_pki(folder: &Path) -> Result<Pki, HostError> {
    let (root, key) = (folder.join(ROOT_FILE), folder.join(ROOT_KEY_FILE));
    match (root.exists(), key.exists()) {
        (true, false) => Err(HostError::HalfAuthority(root, key)),
        (false, true) => Err(HostError::HalfAuthority(key, root)),
        _ => Ok(Pki::open(folder)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_an_authority_is_neither_used_nor_replaced() {
        let folder = tempfile::tempdir().unwrap();
        open_pki(folder.path()).unwrap();
        let root = std::fs::read(folder.path().join(ROOT_FILE)).unwrap();
        std::fs::remove_file(folder.path().join(ROOT_KEY_FILE)).unwrap();
        assert!(matches!(open_pki(folder.path()), Err(HostError::HalfAuthority(..))));
        assert_eq!(std::fs::read(folder.path().join(ROOT_FILE)).unwrap(), root);
    }
}
