//! The running site: lab PKI, lab UM, gateway, callers, all in this process. Owns start and orderly end; refuses to know
//! what is called.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use b2bua::engine::EngineStatus;
use lab::frontend::Caller;
use lab::pki::{Pki, PkiError, write_private};
use lab::shell::LabError;
use lab::{LabUm, LabUmConfig};

use super::DemoError;
use super::config::{self, GATEWAY, MAILBOX_SERVERS, POOLS, ROUTER};
use super::facts::Facts;
use super::place::{Net, free_net};
use crate::config::lab_file::LabFile;
use crate::labs::connect;
use crate::run::{Gateway, Settings, StartError};
use crate::trace::Tap;

/// Patience of the drain at the end; the calls themselves are over by then.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// Starts tried: between looking for free ports and taking them, another demo may be quicker.
const STARTS_MAX: usize = 4;

/// Everything that runs.
pub(super) struct Site {
    pub(super) net: Net,
    pub(super) tap: Arc<Tap>,
    pub(super) facts: Facts,
    pub(super) lab: LabUm,
    gateway: Gateway,
    callers: Vec<Caller>,
    pbx: Caller,
}

impl Site {
    /// Starts it all in `folder`.
    pub(super) async fn start(folder: &Path) -> Result<Self, DemoError> {
        let pki = certificates(folder).await?;
        Self::start_with(folder, &pki, rand::random()).await
    }

    /// The same with certificates that exist; what is random in the lab follows from `seed`.
    pub(super) async fn start_with(folder: &Path, pki: &Arc<Pki>, seed: u64) -> Result<Self, DemoError> {
        let mut tries = 1;
        loop {
            let net = free_net()?;
            match Self::start_on(net, folder, pki, seed).await {
                Err(problem) if problem.is_port_taken() && tries < STARTS_MAX => tries += 1,
                outcome => return outcome,
            }
        }
    }

    async fn start_on(net: Net, folder: &Path, pki: &Arc<Pki>, seed: u64) -> Result<Self, DemoError> {
        let settings = compile(net, folder)?;
        let file = compile_lab(net, folder, seed)?;
        let lab = LabUm::start(LabUmConfig { pki: Some(pki.clone()), ..file.um.clone() }).await?;
        let facts = Facts::listen(lab.facts());
        let tap = Arc::new(Tap::default());
        let gateway = match Gateway::start(Settings { tap: Some(tap.clone()), ..settings }).await {
            Ok(gateway) => gateway,
            Err(problem) => {
                lab.stop().await;
                return Err(problem.into());
            }
        };
        match connect_all(&file, pki, seed).await {
            Ok((callers, pbx)) => Ok(Self { net, tap, facts, lab, gateway, callers, pbx }),
            Err(problem) => {
                gateway.stop().await;
                lab.stop().await;
                Err(problem)
            }
        }
    }

    /// The Front End of the pool with this index.
    pub(super) fn pool(&self, index: usize) -> Caller {
        self.callers.get(index).unwrap_or(&self.pbx).clone()
    }

    /// The IP-PBX.
    pub(super) fn pbx(&self) -> Caller {
        self.pbx.clone()
    }

    /// How the gateway's engine stands.
    pub(super) async fn status(&self) -> Option<EngineStatus> {
        self.gateway.stats().await
    }

    /// Drains and stops everything; what was still going on is hung up.
    pub(super) async fn stop(self) -> Net {
        self.gateway.drain(Some(Instant::now() + DRAIN_MAX / 2)).await;
        // Patience ends by itself: a call that cannot be ended is ended by the stop.
        let _late = tokio::time::timeout(DRAIN_MAX, self.gateway.drained()).await;
        for caller in self.callers {
            caller.close().await;
        }
        self.pbx.close().await;
        self.gateway.stop().await;
        self.lab.stop().await;
        self.net
    }
}

/// Makes all certificates, several at once: RSA keys are the slowest part of the start.
pub(super) async fn certificates(folder: &Path) -> Result<Arc<Pki>, DemoError> {
    let folder = folder.join("pki");
    let made = tokio::task::spawn_blocking(move || {
        let pki = Pki::open(&folder)?;
        let pools = POOLS.iter().map(config::PoolFacts::fqdn);
        let servers = [GATEWAY, ROUTER].into_iter().chain(MAILBOX_SERVERS).map(str::to_owned);
        let names: Vec<String> = servers.chain(pools).collect();
        std::thread::scope(|scope| {
            let pki = &pki;
            let issue = |name: &String| {
                let name = name.clone();
                scope.spawn(move || pki.identity(&name).map(drop))
            };
            let running: Vec<_> = names.iter().map(issue).collect();
            running.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
        })?;
        Ok::<_, PkiError>(Arc::new(pki))
    });
    Ok(made.await.map_err(|_| DemoError::Interrupted)??)
}

/// Writes the configuration and reads it back through the real compiler.
fn compile(net: Net, folder: &Path) -> Result<Settings, DemoError> {
    let file = folder.join("umbra.toml");
    std::fs::write(&file, config::text(net)).map_err(|why| DemoError::Folder { path: file.clone(), why })?;
    let compiled = crate::config::load(&file).map_err(|problems| DemoError::Config(problems.to_text()))?;
    Ok(Settings::from(&compiled))
}

/// Writes the description of the lab and reads it back the same way.
fn compile_lab(net: Net, folder: &Path, seed: u64) -> Result<LabFile, DemoError> {
    let file = folder.join("lab.toml");
    write_private(&file, &config::lab_text(net, seed))?;
    crate::config::lab_file::load(&file).map_err(|problems| DemoError::Config(problems.to_text()))
}

/// The pools in their order, and the IP-PBX, which comes last.
async fn connect_all(file: &LabFile, pki: &Pki, seed: u64) -> Result<(Vec<Caller>, Caller), DemoError> {
    let mut callers = Vec::with_capacity(file.callers.len());
    for (index, caller) in file.callers.iter().enumerate() {
        let connected = connect(file, caller, Some(pki), seed ^ index as u64).await;
        callers.push(connected.map_err(|why| DemoError::Caller { name: caller.name.clone(), why })?);
    }
    let pbx = callers.pop().ok_or_else(|| DemoError::Config("the lab has no callers".to_owned()))?;
    Ok((callers, pbx))
}

impl DemoError {
    fn is_port_taken(&self) -> bool {
        let source = match self {
            Self::Lab(LabError::Listen { source, .. }) => source,
            Self::Gateway(StartError::Listen { source, .. } | StartError::Admin { source, .. }) => source,
            _ => return false,
        };
        source.kind() == std::io::ErrorKind::AddrInUse
    }
}
