//! The whole lab UM side: Call Routers and Mailbox servers from a description, their facts, their faults, their end.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::driver::Event;
use super::messenger::{Messaging, MessengerPlan};
use super::role::{BoundPorts, Opened, Role, RoleKind, RolePlan};
use super::smtp::{Letter, Mailing};
use super::voicemail::Voicemail;
use super::{LabError, LabUmConfig, ListenRole, Listening, UmIpGateway, UmTransport, tls};
use crate::audio::{WavError, read_wav};
use crate::frontend::{Target, TlsTarget};
use crate::um::{
    CallRouterConfig, Directory, DirectoryPlan, Fault, LabFact, MailboxServerConfig, OldCalls, Ports,
    RedirectRole, RedirectTarget, Redirector, RedirectsTo, UmCommand, UmReport, Waiting, Worker,
    WorkerConfig,
};

/// Facts a slow reader may lag behind.
const FACTS_MAX: usize = 1_024;
/// Sets the seeds of connections that the lab opens apart from those of roles.
const OUTWARD_SEED: u64 = 0x6f75_7400_0000_0000;
/// Messages waiting to be written.
const ARCHIVE_QUEUE_MAX: usize = 512;
/// Time for mail that waits when the lab ends.
const LAST_MAIL: Duration = Duration::from_secs(3);
/// Time for BYEs and for media to end before everything is closed.
const FAREWELL: Duration = Duration::from_millis(500);

/// The running lab. Dropping it aborts its tasks; [`LabUm::stop`] ends calls first.
pub struct LabUm {
    pub(super) config: LabUmConfig,
    pub(super) directory: Directory,
    /// Connections of our own so far: each has a seed of its own.
    outward: AtomicU64,
    roles: Vec<Role>,
    messengers: Vec<Messaging>,
    facts: broadcast::Sender<LabFact>,
    archivist: JoinHandle<()>,
    pub(super) archive: Archive,
}

impl std::fmt::Debug for LabUm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LabUm").field("roles", &self.roles.len()).finish_non_exhaustive()
    }
}

impl LabUm {
    /// Binds everything and starts.
    pub async fn start(config: LabUmConfig) -> Result<LabUm, LabError> {
        check(&config)?;
        let (facts, _) = broadcast::channel(FACTS_MAX);
        let directory = directory(&config)?;
        let found = refill(&config, &directory);
        let (archive, archivist) =
            Archive::open(Voicemail::new(config.voicemail.clone()), config.smtp, facts.clone());
        let mut lab = LabUm {
            config: config.clone(),
            directory: directory.clone(),
            outward: AtomicU64::new(0),
            roles: Vec::new(),
            messengers: Vec::new(),
            facts,
            archivist,
            archive,
        };
        let (mut services, mut workers) = (Vec::new(), Vec::new());
        for server in &config.mailbox_servers {
            lab.start_messenger(&config, server)?;
            let (service, own) = lab.start_mailbox_server(&config, server, &directory).await?;
            if server.manner.tenants.is_none() {
                services.push(service);
                workers.extend(own);
            }
        }
        for router in &config.call_routers {
            let targets = match router.manner.redirects_to {
                RedirectsTo::Service => services.clone(),
                RedirectsTo::Worker => workers.clone(),
            };
            lab.start_call_router(&config, router, targets).await?;
        }
        for what in found {
            let _ = lab.facts.send(LabFact::Trouble { server: String::new(), what });
        }
        lab.apply_first_faults(&config).await?;
        // Its status is in the directory that Call Routers read.
        for server in config.mailbox_servers.iter().filter(|server| server.fault == Fault::NoNewCalls) {
            lab.announce(&server.name, Liveness::Down).await;
        }
        Ok(lab)
    }

    async fn start_mailbox_server(
        &mut self,
        config: &LabUmConfig,
        server: &MailboxServerConfig,
        directory: &Directory,
    ) -> Result<(RedirectTarget, Vec<RedirectTarget>), LabError> {
        let seed = self.seed(config);
        let worker = |(n, ports): (usize, &Ports)| BoundPorts { role: ListenRole::Worker(n), ports: *ports };
        let workers = server.workers.iter().enumerate().map(worker).collect();
        let opened = self.open(config, &server.name, RoleKind::Workers, server.address, workers).await?;
        let target = |ports| RedirectTarget { host: server.name.clone(), ports, is_live: true };
        let targets: Vec<RedirectTarget> = opened.ports().into_iter().map(target).collect();
        let workers = targets.clone();
        let machine = Worker::new(WorkerConfig {
            name: server.name.clone(),
            max_calls_allowed: server.max_calls_allowed,
            security: server.security,
            directory: directory.clone(),
            utc: OffsetDateTime::now_utc(),
            answer: config.answer.clone(),
            fault: worst(&server.worker_fault, &server.fault),
            seed,
        });
        let role = opened.start(machine.mannered(server.manner.clone()), &self.archive);
        self.archive.workers.insert(server.name.clone(), role.sender.clone());
        self.roles.push(role);
        let service = vec![BoundPorts { role: ListenRole::UmService, ports: server.service }];
        let opened = self.open(config, &server.name, RoleKind::UmService, server.address, service).await?;
        let ports = opened.ports().first().copied().unwrap_or_default();
        let role = RedirectRole::UmService;
        let machine = Redirector::new(&server.name, role, targets, server.fault.clone(), seed ^ 1)
            .mannered(server.manner.clone());
        self.roles.push(opened.start(machine, &self.archive));
        Ok((target(ports), workers))
    }

    /// The way of a Mailbox server to its UM IP gateway, where one is to be told of waiting messages.
    fn start_messenger(
        &mut self,
        config: &LabUmConfig,
        server: &MailboxServerConfig,
    ) -> Result<(), LabError> {
        let is_of_the_site = server.manner.tenants.is_none();
        let Some(gateway) = config.message_waiting.as_ref().filter(|_| is_of_the_site) else { return Ok(()) };
        let target = self.target(&server.name, gateway)?;
        let plan = MessengerPlan {
            server: server.name.clone(),
            address: server.address,
            gateway: gateway.name.clone(),
            target,
            seed: self.next_seed(),
        };
        let messaging = Messaging::start(plan, self.facts.clone());
        self.archive.news.insert(server.name.clone(), messaging.news.clone());
        self.messengers.push(messaging);
        Ok(())
    }

    /// A UM IP gateway as this server connects to it.
    pub(super) fn target(&self, server: &str, gateway: &UmIpGateway) -> Result<Target, LabError> {
        let tls = match (gateway.transport, &self.config.pki) {
            (UmTransport::Tcp, _) => None,
            (UmTransport::Tls, Some(pki)) => Some(TlsTarget {
                identity: Some(pki.identity(server)?),
                roots: pki.roots(),
                expected_name: gateway.name.clone(),
            }),
            (UmTransport::Tls, None) => return Err(no_authority(server)),
        };
        Ok(Target { address: gateway.address, tls })
    }

    /// Of a connection of our own.
    pub(super) fn next_seed(&self) -> u64 {
        let number = self.outward.fetch_add(1, Ordering::Relaxed);
        self.config.seed.wrapping_mul(1_000_003) ^ OUTWARD_SEED ^ number
    }

    async fn start_call_router(
        &mut self,
        config: &LabUmConfig,
        router: &CallRouterConfig,
        services: Vec<RedirectTarget>,
    ) -> Result<(), LabError> {
        let seed = self.seed(config);
        let service = vec![BoundPorts { role: ListenRole::CallRouter, ports: router.ports }];
        let opened = self.open(config, &router.name, RoleKind::CallRouter, router.address, service).await?;
        let role = RedirectRole::CallRouter;
        let machine = Redirector::new(&router.name, role, services, router.fault.clone(), seed)
            .mannered(router.manner.clone());
        self.roles.push(opened.start(machine, &self.archive));
        Ok(())
    }

    async fn open(
        &self,
        config: &LabUmConfig,
        name: &str,
        kind: RoleKind,
        address: std::net::IpAddr,
        services: Vec<BoundPorts>,
    ) -> Result<Opened, LabError> {
        let needs_tls = services.iter().any(|s| s.ports.tls.is_some());
        let tls = if needs_tls { Some(acceptor(config, name)?) } else { None };
        Opened::open(RolePlan { name, kind, address, services, tls, facts: self.facts.clone() }).await
    }

    fn seed(&self, config: &LabUmConfig) -> u64 {
        config.seed.wrapping_mul(1_000_003).wrapping_add(self.roles.len() as u64 * 2)
    }

    async fn apply_first_faults(&mut self, config: &LabUmConfig) -> Result<(), LabError> {
        for server in &config.mailbox_servers {
            if server.fault == Fault::Dead {
                self.set_fault(&server.name, Fault::Dead).await?;
            } else if server.worker_fault == Fault::Dead {
                self.set_worker_fault(&server.name, Fault::Dead).await?;
            }
        }
        for router in config.call_routers.iter().filter(|r| r.fault == Fault::Dead) {
            self.set_fault(&router.name, Fault::Dead).await?;
        }
        Ok(())
    }

    /// Facts from now on; a reader that lags more than 1,024 facts loses the oldest.
    pub fn facts(&self) -> broadcast::Receiver<LabFact> {
        self.facts.subscribe()
    }

    /// Where everything listens (real ports).
    pub fn listening(&self) -> Vec<Listening> {
        self.roles.iter().flat_map(Role::listening).collect()
    }

    /// Changes what is wrong with a server (all its roles) from now on. `Dead` cuts its connections and stops listening; anything else
    /// listens again.
    pub async fn set_fault(&mut self, server: &str, fault: Fault) -> Result<(), LabError> {
        self.apply(server, fault, |_| true).await
    }

    /// The same for a Mailbox server's workers only.
    pub async fn set_worker_fault(&mut self, server: &str, fault: Fault) -> Result<(), LabError> {
        self.apply(server, fault, |kind| kind == RoleKind::Workers).await
    }

    async fn apply(
        &mut self,
        server: &str,
        fault: Fault,
        is_meant: impl Fn(RoleKind) -> bool,
    ) -> Result<(), LabError> {
        let mut is_known = false;
        let disguise = match &fault {
            Fault::WrongCertificate(name) => Some(acceptor(&self.config, name)?),
            _ => None,
        };
        for role in self.roles.iter_mut().filter(|r| r.name == server && is_meant(r.kind)) {
            is_known = true;
            if fault == Fault::Dead {
                role.deafen().await;
            } else {
                role.present(disguise.clone()).await;
                role.listen().await?;
            }
            role.command(UmCommand::Fault(fault.clone())).await;
        }
        if is_known { Ok(()) } else { Err(LabError::Config(format!("no server is called {server}"))) }
    }

    /// Tells the Call Routers that a Mailbox server is (not) to be used. They do not find out by themselves, so that fail-over can be seen.
    pub async fn announce(&self, server: &str, is_live: Liveness) {
        let is_live = is_live == Liveness::Up;
        for role in self.roles.iter().filter(|r| r.kind == RoleKind::CallRouter) {
            role.command(UmCommand::Live { host: server.to_owned(), is_live }).await;
        }
    }

    /// Hangs up calls, closes everything, waits for all tasks. Messages of calls that were under way are stored.
    pub async fn stop(self) {
        let LabUm { mut roles, messengers, archive, archivist, .. } = self;
        let mut has_calls = false;
        for role in roles.iter().filter(|r| r.kind == RoleKind::Workers) {
            has_calls = true;
            role.command(UmCommand::HangUpAll).await;
        }
        if has_calls {
            tokio::time::sleep(FAREWELL).await;
        }
        for role in &mut roles {
            role.quit().await;
        }
        drop((roles, messengers, archive));
        let _ = archivist.await;
    }
}

/// Whether a server is to be used.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Liveness {
    /// Use it.
    Up,
    /// Leave it out.
    Down,
}

/// The way to the one writer of the voicemail folder.
#[derive(Clone)]
pub(super) struct Archive {
    queue: mpsc::Sender<UmReport>,
    facts: broadcast::Sender<LabFact>,
    /// Ways to the UM IP gateway, by server.
    news: BTreeMap<String, mpsc::Sender<Waiting>>,
    /// Workers, by server.
    workers: BTreeMap<String, mpsc::Sender<Event<UmCommand>>>,
}

impl Archive {
    fn open(
        voicemail: Voicemail,
        sink: Option<SocketAddr>,
        facts: broadcast::Sender<LabFact>,
    ) -> (Self, JoinHandle<()>) {
        let (queue, mut reports) = mpsc::channel(ARCHIVE_QUEUE_MAX);
        let told = facts.clone();
        let mailing = sink.map(|sink| Mailing::start(sink, facts.clone()));
        let task = tokio::spawn(async move {
            while let Some(report) = reports.recv().await {
                let (voicemail, server) = (voicemail.clone(), server_of(&report));
                let stored = tokio::task::spawn_blocking(move || store(&voicemail, report)).await;
                let fact = match stored {
                    Ok(Ok(fact)) => fact,
                    Ok(Err(why)) => LabFact::Trouble { server, what: why.to_string() },
                    Err(why) => LabFact::Trouble { server, what: why.to_string() },
                };
                let letter = letter(&fact);
                let _ = told.send(fact);
                if let (Some(mailing), Some(letter)) = (&mailing, letter) {
                    // What finds no room lies in its folder all the same.
                    let _ = mailing.letters.try_send(letter);
                }
            }
            if let Some(Mailing { letters, task }) = mailing {
                drop(letters);
                let _ = tokio::time::timeout(LAST_MAIL, task).await;
            }
        });
        (Archive { queue, facts, news: BTreeMap::new(), workers: BTreeMap::new() }, task)
    }

    pub(super) fn take(&self, server: &str, report: UmReport) {
        if let (UmReport::Waiting(waiting), Some(news)) = (&report, self.news.get(server)) {
            // Newer news will come when these find no room.
            let _ = news.try_send(waiting.clone());
        }
        if let UmReport::Recycled { server, ports, old_calls: OldCalls::Cut } = &report
            && let Some(workers) = self.workers.get(server)
        {
            // Workers that cannot take it are stuck anyway.
            let _ = workers.try_send(Event::Command(UmCommand::HangUpOn(*ports)));
        }
        if self.queue.try_send(report).is_err() {
            let what = "the voicemail folder cannot keep up; a message is lost".to_owned();
            let _ = self.facts.send(LabFact::Trouble { server: server.to_owned(), what });
        }
    }
}

/// The mail that this fact left in a folder.
fn letter(fact: &LabFact) -> Option<Letter> {
    let (mailbox, server, eml) = match fact {
        LabFact::Stored(message) => (&message.note.mailbox, &message.note.server, message.eml.clone()),
        LabFact::Missed { missed, json } => (&missed.mailbox, &missed.server, json.with_extension("eml")),
        LabFact::PinMailed { mailbox, eml, server } => (mailbox, server, eml.clone()),
        _ => return None,
    };
    Some(Letter { mailbox: mailbox.clone(), server: server.clone(), eml })
}

fn server_of(report: &UmReport) -> String {
    match report {
        UmReport::Message(message) => message.server.clone(),
        UmReport::Missed(missed) => missed.server.clone(),
        _ => String::new(),
    }
}

fn store(voicemail: &Voicemail, report: UmReport) -> Result<LabFact, super::StoreError> {
    match report {
        UmReport::Delete { mailbox, call_id } => {
            voicemail.delete(&mailbox, &call_id)?;
            Ok(LabFact::Deleted { mailbox, call_id })
        }
        UmReport::PinReset(letter) => {
            let eml = voicemail.write_pin(&letter)?;
            Ok(LabFact::PinMailed { mailbox: letter.mailbox, eml, server: letter.server })
        }
        UmReport::Heard { mailbox, call_id } => {
            voicemail.mark_heard(&mailbox, &call_id)?;
            Ok(LabFact::Heard { mailbox, call_id })
        }
        UmReport::Recycled { server, ports, .. } => Ok(LabFact::Recycled { server, ports }),
        UmReport::Waiting(waiting) => Ok(LabFact::Waiting(waiting)),
        UmReport::Message(message) => Ok(LabFact::Stored(Box::new(voicemail.store(&message)?))),
        UmReport::Missed(missed) => {
            let json = voicemail.note_missed(&missed)?;
            Ok(LabFact::Missed { missed, json })
        }
        UmReport::Fact(fact) => Ok(fact),
    }
}

fn directory(config: &LabUmConfig) -> Result<Directory, LabError> {
    let plan = DirectoryPlan {
        mailboxes: config.mailboxes.clone(),
        attendants: config.attendants.clone(),
        dial_plans: config.dial_plans.clone(),
        access_numbers: config.access_numbers.clone(),
    };
    let mut unread: Option<WavError> = None;
    let sound = |path: &Path| {
        read_wav(path).unwrap_or_else(|why| {
            unread.get_or_insert(why);
            Vec::new()
        })
    };
    let directory = Directory::new(plan, sound).map_err(|why| LabError::Config(why.to_string()))?;
    match unread {
        Some(why) => Err(LabError::Config(why.to_string())),
        None => Ok(directory),
    }
}

/// Puts back what earlier runs left in the voicemail folder; what cannot be read, in words.
fn refill(config: &LabUmConfig, directory: &Directory) -> Vec<String> {
    let voicemail = Voicemail::new(config.voicemail.clone());
    let mut unread = Vec::new();
    for mailbox in &config.mailboxes {
        match voicemail.load(&mailbox.alias) {
            Ok(messages) => {
                messages.into_iter().for_each(|held| drop(directory.deposit(&mailbox.alias, held)))
            }
            Err(why) => unread.push(why.to_string()),
        }
    }
    unread
}

fn acceptor(config: &LabUmConfig, name: &str) -> Result<TlsAcceptor, LabError> {
    let pki = config.pki.as_ref().ok_or_else(|| no_authority(name))?;
    let identity = pki.identity(name)?;
    let server = tls::server_config(&identity, &pki.roots(), &config.trusted_peers)
        .map_err(|why| LabError::Tls(why.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn no_authority(name: &str) -> LabError {
    LabError::Config(format!("{name} speaks TLS, but there is no certificate authority"))
}

/// The workers' own fault counts; without one, the server's.
fn worst(own: &Fault, servers: &Fault) -> Fault {
    if *own == Fault::None { servers.clone() } else { own.clone() }
}

fn check(config: &LabUmConfig) -> Result<(), LabError> {
    if config.call_routers.is_empty() && config.mailbox_servers.is_empty() {
        return Err(LabError::Config("neither a Call Router nor a Mailbox server is described".to_owned()));
    }
    match config.mailbox_servers.iter().find(|s| s.workers.is_empty()) {
        Some(server) => Err(LabError::Config(format!("{} has no worker", server.name))),
        None => Ok(()),
    }
}
