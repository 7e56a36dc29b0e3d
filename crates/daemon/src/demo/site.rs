//! The running site: lab PKI, lab UM, gateway, callers, all in this process. Owns start and orderly end; refuses to know
//! what is called.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use b2bua::engine::EngineStatus;
use lab::frontend::{Caller, CallerConfig, Target, TlsTarget};
use lab::pki::{Pki, PkiError};
use lab::shell::LabError;
use lab::um::{
    AnswerRules, CallRouterConfig, Fault, MailboxConfig, MailboxServerConfig, PlanSecurity, Ports,
};
use lab::{LabUm, LabUmConfig};

use super::DemoError;
use super::config::{self, GATEWAY, MAILBOX_SERVERS, POOLS, ROUTER};
use super::facts::Facts;
use super::place::{Net, free_net};
use crate::run::{Gateway, Settings, StartError};
use crate::trace::Tap;

/// Longest recording: a demo that hangs must not fill the disk.
const RECORDING_MAX: Duration = Duration::from_secs(20);
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
        let lab = LabUm::start(um(net, pki, folder, seed)).await?;
        let facts = Facts::listen(lab.facts());
        let tap = Arc::new(Tap::default());
        let gateway = match Gateway::start(Settings { tap: Some(tap.clone()), ..settings }).await {
            Ok(gateway) => gateway,
            Err(problem) => {
                lab.stop().await;
                return Err(problem.into());
            }
        };
        match connect_all(net, pki, seed).await {
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

fn um(net: Net, pki: &Arc<Pki>, folder: &Path, seed: u64) -> LabUmConfig {
    let both = |tcp, tls| Ports { tcp: Some(tcp), tls: Some(tls) };
    let server = |(index, name): (usize, &&str)| MailboxServerConfig {
        name: (*name).to_owned(),
        address: config::mailbox_address(net, index),
        service: both(5062, 5063),
        workers: vec![both(5065, 5066), both(5067, 5068)],
        max_calls_allowed: 100,
        security: PlanSecurity::Secured,
        fault: Fault::None,
        worker_fault: Fault::None,
    };
    let mailbox = |alias: &str, extension: &str, security| MailboxConfig {
        alias: alias.to_owned(),
        sip: Some(format!("sip:{alias}@{}", config::DOMAIN)),
        extension: Some(extension.to_owned()),
        security: Some(security),
        ..MailboxConfig::default()
    };
    LabUmConfig {
        call_routers: vec![CallRouterConfig {
            name: ROUTER.to_owned(),
            address: net.host(Net::ROUTER),
            ports: both(5060, 5061),
            fault: Fault::None,
        }],
        mailbox_servers: MAILBOX_SERVERS.iter().enumerate().map(server).collect(),
        mailboxes: vec![
            mailbox("ken", "1001", PlanSecurity::Secured),
            mailbox("lee", "1002", PlanSecurity::SipSecured),
            mailbox("mia", "1003", PlanSecurity::Unsecured),
        ],
        answer: AnswerRules { max_recording_duration: RECORDING_MAX, ..AnswerRules::default() },
        pki: Some(pki.clone()),
        voicemail: folder.join("voicemail"),
        trusted_peers: vec![GATEWAY.to_owned()],
        seed,
        ..LabUmConfig::default()
    }
}

async fn connect_all(net: Net, pki: &Pki, seed: u64) -> Result<(Vec<Caller>, Caller), DemoError> {
    let mut callers = Vec::with_capacity(POOLS.len());
    for (index, pool) in POOLS.iter().enumerate() {
        let fqdn = pool.fqdn();
        let tls = TlsTarget {
            identity: Some(pki.identity(&fqdn)?),
            roots: pki.roots(),
            expected_name: GATEWAY.to_owned(),
        };
        callers.push(
            connect(net, fqdn, config::pool_address(net, index), 5061, Some(tls), seed ^ index as u64)
                .await?,
        );
    }
    let pbx = connect(net, format!("pbx.{}", config::DOMAIN), net.host(Net::PBX), 5060, None, !seed).await?;
    Ok((callers, pbx))
}

async fn connect(
    net: Net,
    fqdn: String,
    address: std::net::IpAddr,
    port: u16,
    tls: Option<TlsTarget>,
    seed: u64,
) -> Result<Caller, DemoError> {
    let sip_domain = config::DOMAIN.to_owned();
    let config = CallerConfig { fqdn: fqdn.clone(), sip_domain, address, seed };
    let target = Target { address: (net.host(Net::GATEWAY), port).into(), tls };
    Caller::connect(config, target).await.map_err(|why| DemoError::Caller { name: fqdn, why })
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
