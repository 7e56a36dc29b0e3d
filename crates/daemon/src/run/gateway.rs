//! One gateway in this process. Owns its tasks from bind to join; several can run side by side. Refuses to know
//! signals and files.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use b2bua::Policy;
use b2bua::engine::{CallKey, Engine, EngineConfig, EngineStatus};
use sip::Transport;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::engine_task::{self, Control, EngineTask};
use super::settings::{ListenAt, Settings, known_peers};
use crate::media::{MediaError, MediaPool};
use crate::net::{
    Bound, EVENTS_MAX, FlowTable, NetContext, UdpPorts, accept_loop, bind_tcp, bind_udp, receive_loop,
};
use crate::observe::{AdminServer, Health, Metrics, RecordSender, RecordWriter, Reporter, WarnLimiter};
use crate::tls::{TlsContext, TlsError};
use crate::trace::Lines;

/// Wishes that may wait for the engine.
const CONTROLS_MAX: usize = 64;
/// How long HTTP clients may hold up a stop.
const ADMIN_PATIENCE: Duration = Duration::from_secs(1);

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port is taken or not ours.
    #[error("cannot listen on {transport} {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What for.
        transport: Transport,
        /// The system's words.
        source: std::io::Error,
    },
    /// A TLS listener without certificate.
    #[error("a TLS listener needs the [tls] section")]
    TlsMissing,
    /// Certificate, key or roots.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Media threads.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// The folder of the call records.
    #[error("cannot write call records to {}: {source}", folder.display())]
    Records {
        /// Where they were to go.
        folder: std::path::PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The admin endpoint's port.
    #[error("cannot serve the admin endpoint on {address}: {source}")]
    Admin {
        /// Where.
        address: SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
}

/// Why a reload was refused; what was in force before goes on.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// Certificate, key or roots.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The gateway is stopping.
    #[error("the gateway is stopping")]
    Stopping,
}

/// A running gateway.
pub struct Gateway {
    started: Settings,
    bound: Vec<Bound>,
    admin: Option<AdminServer>,
    context: Arc<NetContext>,
    policy: Arc<ArcSwap<Policy>>,
    health: Arc<Health>,
    control: mpsc::Sender<Control>,
    drained: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    records: Option<RecordWriter>,
}

struct Sockets {
    tcp: Vec<(TcpListener, Bound)>,
    udp: Vec<UdpSocket>,
    bound: Vec<Bound>,
}

impl Gateway {
    /// Takes the ports and starts everything. On failure nothing is left behind.
    pub async fn start(settings: impl Into<Settings>) -> Result<Self, StartError> {
        let settings: Settings = settings.into();
        crate::tls::install_provider();
        let sockets = bind_all(&settings.listen).await?;
        let policy = Arc::new(with_bound_ports(&settings.policy, &sockets.bound));
        let tls = load_tls(&settings, &policy, &sockets.bound)?;
        let metrics = Arc::new(Metrics::new());
        let health = Arc::new(Health::default());
        let (stop, stopped) = watch::channel(false);
        let admin = match settings.admin {
            Some(address) => Some(
                AdminServer::start(address, metrics.clone(), health.clone(), stopped.clone())
                    .await
                    .map_err(|source| StartError::Admin { address, source })?,
            ),
            None => None,
        };
        let (media, media_reports) = MediaPool::start(&settings.media)?;
        let (records, record_sender) = start_records(&settings, &metrics)?;
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let udp = UdpPorts::new(sockets.udp).map_err(|source| listen_error(&settings.listen, source))?;
        let context = Arc::new(NetContext {
            flows: FlowTable::new(),
            events: sender,
            connections: Arc::new(Semaphore::new(settings.limits.connections_max)),
            handshakes: Arc::new(Semaphore::new(settings.limits.handshakes_max)),
            tls: ArcSwapOption::from(tls),
            metrics: metrics.clone(),
            warnings: WarnLimiter::new(),
            stop: stopped,
            source_addresses: source_addresses(&sockets.bound),
            udp,
            limits: settings.limits.clone(),
        });
        let (control, controls) = mpsc::channel(CONTROLS_MAX);
        let (drained_sender, drained) = watch::channel(false);
        let task = EngineTask {
            engine: Engine::new(engine_config(), policy.clone()),
            context: context.clone(),
            events,
            media,
            media_reports,
            control: controls,
            reporter: Reporter::new(metrics, record_sender),
            drained: drained_sender,
            lines: Lines::new(settings.tap.clone()),
        };
        let policy = Arc::new(ArcSwap::from(policy));
        let tasks = spawn_all(&context, task, sockets.tcp, &policy);
        health.set_ready();
        let bound = sockets.bound;
        Ok(Self {
            started: settings,
            bound,
            admin,
            context,
            policy,
            health,
            control,
            drained,
            stop,
            tasks,
            records,
        })
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[Bound] {
        &self.bound
    }

    /// Where the admin endpoint listens.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// The metrics in text form.
    pub fn metrics(&self) -> String {
        self.context.metrics.expose()
    }

    /// How the engine stands; `None` while stopping.
    pub async fn stats(&self) -> Option<EngineStatus> {
        let (answer, status) = oneshot::channel();
        self.control.send(Control::Status(answer)).await.ok()?;
        status.await.ok()
    }

    /// Ends one call on both legs.
    pub async fn hang_up(&self, call: CallKey) {
        self.tell(Control::HangUp(call)).await;
    }

    /// Takes no new calls from now on; what is left at `until` is hung up.
    pub async fn drain(&self, until: Option<Instant>) {
        self.health.set_unready();
        self.tell(Control::Drain { until }).await;
    }

    /// Completes when the last call of a drain is over.
    pub async fn drained(&self) {
        let mut drained = self.drained.clone();
        // An error means that the engine has ended, and with it every call.
        let _ended = drained.wait_for(|drained| *drained).await;
    }

    /// Uses new policy and certificates for new calls and handshakes. Listeners, media ports, the admin endpoint and
    /// records stay as they were started; a change there is warned of.
    pub async fn reload(&self, settings: impl Into<Settings>) -> Result<(), ReloadError> {
        use crate::observe::Up;
        let settings: Settings = settings.into();
        let policy = Arc::new(with_bound_ports(&settings.policy, &self.bound));
        let tls = match &settings.tls {
            Some(tls) => TlsContext::load(&tls.files, tls.versions, known_peers(&policy)).map(Some),
            None => Ok(None),
        };
        let tls = tls.inspect_err(|_| self.context.metrics.reloaded(Up::No))?;
        self.control.send(Control::Policy(policy.clone())).await.map_err(|_| ReloadError::Stopping)?;
        self.context.tls.store(tls.map(Arc::new));
        self.policy.store(policy);
        self.context.metrics.reloaded(Up::Yes);
        for section in self.started.needs_restart(&settings) {
            warn!(
                event = "restart_needed",
                section, "this section changed and takes effect at the next start"
            );
        }
        Ok(())
    }

    /// A reload failed before it reached the gateway (the file is bad).
    pub fn reload_refused(&self) {
        self.context.metrics.reloaded(crate::observe::Up::No);
    }

    /// Ends everything now and waits for every task and thread.
    pub async fn stop(mut self) {
        self.health.set_unready();
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(problem) = ended {
                error!(%problem, "a task did not end in order");
            }
        }
        if let Some(admin) = self.admin.take() {
            admin.join(ADMIN_PATIENCE).await;
        }
        if let Some(records) = self.records.take() {
            // Joining a thread blocks.
            let _joined = tokio::task::spawn_blocking(move || records.join()).await;
        }
    }

    async fn tell(&self, control: Control) {
        if self.control.send(control).await.is_err() {
            info!("the gateway is stopping already");
        }
    }
}

async fn bind_all(listen: &[ListenAt]) -> Result<Sockets, StartError> {
    let mut sockets = Sockets { tcp: Vec::new(), udp: Vec::new(), bound: Vec::new() };
    for ListenAt { address, transport } in listen.iter().copied() {
        let failed = |source| StartError::Listen { address, transport, source };
        let bound = if transport == Transport::Udp {
            let socket = bind_udp(address).await.map_err(failed)?;
            let bound = Bound { address: socket.local_addr().map_err(failed)?, transport };
            sockets.udp.push(socket);
            bound
        } else {
            let listener = bind_tcp(address).map_err(failed)?;
            let bound = Bound { address: listener.local_addr().map_err(failed)?, transport };
            sockets.tcp.push((listener, bound));
            bound
        };
        sockets.bound.push(bound);
    }
    Ok(sockets)
}

fn listen_error(listen: &[ListenAt], source: std::io::Error) -> StartError {
    let address = listen.first().map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)), |at| at.address);
    StartError::Listen { address, transport: Transport::Udp, source }
}

fn load_tls(
    settings: &Settings,
    policy: &Policy,
    bound: &[Bound],
) -> Result<Option<Arc<TlsContext>>, StartError> {
    match &settings.tls {
        Some(tls) => {
            let context = TlsContext::load(&tls.files, tls.versions, known_peers(policy))?;
            Ok(Some(Arc::new(context)))
        }
        None if bound.iter().any(|bound| bound.transport == Transport::Tls) => Err(StartError::TlsMissing),
        None => Ok(None),
    }
}

fn start_records(
    settings: &Settings,
    metrics: &Arc<Metrics>,
) -> Result<(Option<RecordWriter>, Option<RecordSender>), StartError> {
    let Some(records) = settings.records.clone() else { return Ok((None, None)) };
    let folder = records.folder.clone();
    let (writer, sender) = RecordWriter::start(records, metrics.clone())
        .map_err(|source| StartError::Records { folder, source })?;
    Ok((Some(writer), Some(sender)))
}

fn spawn_all(
    context: &Arc<NetContext>,
    task: EngineTask,
    listeners: Vec<(TcpListener, Bound)>,
    policy: &Arc<ArcSwap<Policy>>,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(engine_task::run(task));
    for (listener, bound) in listeners {
        tasks.spawn(accept_loop(context.clone(), listener, bound.transport));
    }
    for index in 0..context.udp.len() {
        tasks.spawn(receive_loop(context.clone(), index, policy.clone()));
    }
    tasks
}

/// Ports that were chosen by the system must be the ones in Via and Contact.
fn with_bound_ports(policy: &Policy, bound: &[Bound]) -> Policy {
    let port =
        |wanted| bound.iter().find(|bound| bound.transport == wanted).map(|bound| bound.address.port());
    let mut policy = policy.clone();
    policy.gateway.tcp_port = port(Transport::Tcp);
    policy.gateway.tls_port = port(Transport::Tls);
    policy.gateway.udp_port = port(Transport::Udp);
    policy
}

fn source_addresses(bound: &[Bound]) -> Vec<IpAddr> {
    bound.iter().map(|bound| bound.address.ip()).filter(|address| !address.is_unspecified()).collect()
}

fn engine_config() -> EngineConfig {
    let mut config = EngineConfig::new(rand::random(), rand::random(), Instant::now());
    config.product = concat!("Umbra/", env!("CARGO_PKG_VERSION")).to_owned();
    config
}

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
