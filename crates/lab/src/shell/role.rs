//! One role of the lab UM on its ports: the loop of its value, and listeners that can be closed and opened again.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::driver::{Driver, EVENT_QUEUE_MAX, Event};
use super::lab_um::Archive;
use super::listen::{Listening as Port, Service};
use super::{LabError, ListenRole, Listening};
use crate::machine::Machine;
use crate::um::{LabFact, Ports, UmCommand, UmReport};

/// A role before it runs: its ports are open but nobody answers yet, so that redirects can name real ports.
pub(super) struct Opened {
    name: String,
    events: mpsc::Receiver<Event<UmCommand>>,
    role: Role,
}

/// A running role.
pub(super) struct Role {
    pub(super) name: String,
    pub(super) kind: RoleKind,
    pub(super) sender: mpsc::Sender<Event<UmCommand>>,
    address: IpAddr,
    tls: Option<TlsAcceptor>,
    /// Stands before `tls` while something is wrong with the certificate.
    disguise: Option<TlsAcceptor>,
    keys: Arc<AtomicU64>,
    facts: broadcast::Sender<LabFact>,
    ports: Vec<BoundPorts>,
    listeners: Vec<Port>,
    task: Option<JoinHandle<()>>,
}

/// Which kind of role.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum RoleKind {
    CallRouter,
    UmService,
    Workers,
}

/// Real ports of one service.
#[derive(Copy, Clone, Debug)]
pub(super) struct BoundPorts {
    pub(super) role: ListenRole,
    pub(super) ports: Ports,
}

/// What a role is made of.
pub(super) struct RolePlan<'p> {
    pub(super) name: &'p str,
    pub(super) kind: RoleKind,
    pub(super) address: IpAddr,
    pub(super) services: Vec<BoundPorts>,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) facts: broadcast::Sender<LabFact>,
}

impl Opened {
    /// Opens all ports of the role.
    pub(super) async fn open(plan: RolePlan<'_>) -> Result<Self, LabError> {
        let (sender, events) = mpsc::channel(EVENT_QUEUE_MAX);
        let mut role = Role {
            name: plan.name.to_owned(),
            kind: plan.kind,
            sender,
            address: plan.address,
            tls: plan.tls,
            disguise: None,
            keys: Arc::new(AtomicU64::new(1)),
            facts: plan.facts,
            ports: plan.services,
            listeners: Vec::new(),
            task: None,
        };
        role.listen().await?;
        Ok(Opened { name: role.name.clone(), events, role })
    }

    /// Real ports, one entry per service.
    pub(super) fn ports(&self) -> Vec<Ports> {
        self.role.ports.iter().map(|bound| bound.ports).collect()
    }

    /// Starts the role's value.
    pub(super) fn start<M>(self, machine: M, archive: &Archive) -> Role
    where
        M: Machine<Command = UmCommand, Report = UmReport>,
    {
        let Opened { name, events, mut role } = self;
        let driver = Driver { machine, events, sender: role.sender.clone(), media_address: role.address };
        let (facts, archive) = (role.facts.clone(), archive.clone());
        let on_report = move |report| match report {
            UmReport::Fact(fact) => drop(facts.send(fact)),
            report => archive.take(&name, report),
        };
        role.task = Some(tokio::spawn(driver.run(on_report)));
        role
    }
}

impl Role {
    /// Opens the ports (again); port 0 becomes the port that was found.
    pub(super) async fn listen(&mut self) -> Result<(), LabError> {
        if !self.listeners.is_empty() {
            return Ok(());
        }
        let mut bound = self.ports.clone();
        for service in &mut bound {
            for (port, tls) in [(&mut service.ports.tcp, None), (&mut service.ports.tls, self.acceptor())] {
                let Some(number) = port else { continue };
                let address = SocketAddr::new(self.address, *number);
                let opened = Port::open(address, self.service(tls))
                    .await
                    .map_err(|source| LabError::Listen { server: self.name.clone(), address, source })?;
                *number = opened.address.port();
                self.listeners.push(opened);
            }
        }
        self.ports = bound;
        Ok(())
    }

    fn acceptor(&self) -> Option<TlsAcceptor> {
        self.disguise.clone().or_else(|| self.tls.clone())
    }

    /// Presents another certificate from now on, or the own one again; connections made under the former one are cut.
    pub(super) async fn present(&mut self, disguise: Option<TlsAcceptor>) {
        if disguise.is_some() || self.disguise.is_some() {
            self.deafen().await;
        }
        self.disguise = disguise.filter(|_| self.tls.is_some());
    }

    fn service(&self, tls: Option<TlsAcceptor>) -> Service<UmCommand> {
        let (facts, server) = (self.facts.clone(), self.name.clone());
        let on_failure = move |why: String| {
            tracing::debug!(%server, %why, "lab connection failed");
            let _ = facts.send(LabFact::ConnectionFailed { server: server.clone(), why });
        };
        Service { tls, to: self.sender.clone(), keys: self.keys.clone(), on_failure: Arc::new(on_failure) }
    }

    /// Closes ports and connections.
    pub(super) async fn deafen(&mut self) {
        for listener in std::mem::take(&mut self.listeners) {
            listener.close().await;
        }
    }

    /// Where it listens.
    pub(super) fn listening(&self) -> Vec<Listening> {
        let at = |port: Option<u16>| port.map(|port| SocketAddr::new(self.address, port));
        self.ports
            .iter()
            .map(|bound| Listening {
                server: self.name.clone(),
                role: bound.role,
                tcp: at(bound.ports.tcp),
                tls: at(bound.ports.tls),
            })
            .collect()
    }

    /// Tells the role's value something.
    pub(super) async fn command(&self, command: UmCommand) {
        let _ = self.sender.send(Event::Command(command)).await;
    }

    /// Closes everything and waits.
    pub(super) async fn quit(&mut self) {
        self.deafen().await;
        let _ = self.sender.send(Event::Quit).await;
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
