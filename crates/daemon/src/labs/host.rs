//! A lab that runs because a file says so: its authority, its UM side, its end. Owns their order; refuses to know who asked for it.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lab::pki::{Pki, PkiError, ROOT_FILE, ROOT_KEY_FILE};
use lab::shell::{LabError, Listening};
use lab::um::LabFact;
use lab::{LabUm, LabUmConfig};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, broadcast};
use tokio::task::JoinHandle;

use super::Events;
use super::control::Control;
use super::faults::{Site, carry_out};
use crate::config::lab_file::{LabFile, names};

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
    /// The port where it is to be told of faults.
    #[error("the lab cannot be told of faults at {address}: {source}")]
    Control {
        /// Address and port.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
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
    site: Arc<Mutex<Site>>,
    facts: broadcast::Receiver<LabFact>,
    listening: Vec<Listening>,
    control: Option<Control>,
    plan: JoinHandle<()>,
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
        let control = match file.control {
            None => None,
            Some(address) => {
                let listener = TcpListener::bind(address).await;
                Some((listener.map_err(|source| HostError::Control { address, source })?, address))
            }
        };
        let um = LabUm::start(LabUmConfig { pki, ..file.um.clone() }).await?;
        let (facts, listening) = (um.facts(), um.listening());
        let site = Site::new(um);
        let control = control
            .map(|(listener, address)| Control::start(listener, address, site.clone(), names(&file.um)));
        let plan = carry_out(Arc::downgrade(&site), file.faults.clone(), file.um.seed);
        Ok(Self { site, facts, listening, control, plan: tokio::spawn(plan) })
    }

    /// What happens from now on in the lab of this file.
    pub fn events(&self, file: &LabFile) -> Events {
        let aliases = file.um.mailboxes.iter().map(|mailbox| mailbox.alias.clone()).collect();
        Events::new(self.facts.resubscribe(), aliases)
    }

    /// Where everything listens.
    pub fn listening(&self) -> &[Listening] {
        &self.listening
    }

    /// Hangs up calls, stores what they left, closes everything.
    pub async fn stop(self) {
        self.plan.abort();
        if let Some(control) = self.control {
            control.stop().await;
        }
        let um = self.site.lock().await.um.take();
        if let Some(um) = um {
            um.stop().await;
        }
    }

    /// Where it is told of faults.
    pub fn control(&self) -> Option<SocketAddr> {
        self.control.as_ref().map(|control| control.address)
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
