//! One gateway in this process. Owns its tasks and threads from bind to join; several can run side by side. Refuses to know
//! signals and files.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use b2bua::engine::{CallKey, EngineStatus};
use b2bua::policy::HostingProvider;
use b2bua::{Policy, codes};
use sip::Transport;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::expiry;
use super::settings::{ListenAt, Settings, TlsSetup};
use super::status::Source;
use super::threads::{Built, Threads};
use super::watch::{InForce, watch_files};
use super::wishes::Wishes;
use crate::media::MediaError;
use crate::net::{
    Bound, Control, Errand, Flows, Locator, Lookups, NetContext, Outgoing, Replaced, Retiring, Rooms,
    accept_loop, bind_tcp, bind_udp,
};
use crate::observe::{
    AdminServer, DirectoryStanding, Health, Metrics, Reading, RecordSender, RecordWriter, Up, WarnLimiter,
};
use crate::tls::{TlsContext, TlsError, keylog};

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
    /// Signalling threads.
    #[error("signalling threads cannot start: {0}")]
    Threads(#[from] std::io::Error),
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
    /// A hosting provider has another proxy.
    #[error(
        "{} the proxy of hosting provider {identity} is {before} and cannot become {now}",
        codes::PROXY_IMMUTABLE
    )]
    Proxy {
        /// Which provider.
        identity: String,
        /// Its proxy.
        before: String,
        /// What the new configuration says.
        now: String,
    },
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
    threads: Threads,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
    records: Option<RecordWriter>,
    tls_in_force: Arc<ArcSwapOption<InForce>>,
}

struct Sockets {
    tcp: Vec<(TcpListener, Bound)>,
    udp: Vec<std::net::UdpSocket>,
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
        metrics.keys_logged(if keylog::path().is_some() { Up::Yes } else { Up::No });
        let health = Arc::new(Health::default());
        let (stop, stopped) = watch::channel(false);
        let started = Instant::now();
        let admin = bind_admin(settings.admin).await?;
        let (records, record_sender) = start_records(&settings, &metrics)?;
        let built = Built::new(settings.shards, sockets.udp)?;
        let context = Arc::new(NetContext {
            flows: Flows::default(),
            outgoing: Outgoing::default(),
            retiring: Retiring::default(),
            shards: built.inboxes(),
            connections: Rooms::new(&settings.limits),
            handshakes: Arc::new(Semaphore::new(settings.limits.handshakes_max)),
            tls: ArcSwapOption::from(tls),
            metrics,
            warnings: WarnLimiter::new(),
            refusals: Arc::default(),
            stop: stopped,
            source_addresses: source_addresses(&sockets.bound),
            runtime: tokio::runtime::Handle::current(),
            accepted: AtomicUsize::new(0),
            locator: Locator::new(&settings.dns),
            lookups: Lookups::default(),
            limits: settings.limits.clone(),
        });
        let policy = Arc::new(ArcSwap::from(policy));
        let threads = Threads::start(built, &settings, &context, &policy, record_sender.as_ref())?;
        let mut tasks = spawn_all(&context, sockets.tcp);
        expiry::publish(&context, &policy.load().gateway.fqdn, &names(&settings));
        tasks.spawn(expiry::watch(context.clone()));
        let tls_in_force = Arc::new(ArcSwapOption::from(in_force(&settings, &policy.load_full())));
        tasks.spawn(watch_files(context.clone(), tls_in_force.clone()));
        let media = threads.media();
        let source = Source {
            context: context.clone(),
            policy: policy.clone(),
            health: health.clone(),
            media,
            wishes: Arc::new(Wishes::open(settings.state_dir.as_deref())),
            started,
        };
        source.repeat_wishes();
        let admin = admin.map(|(listener, address)| {
            AdminServer::start(listener, address, source.pages(), stop.subscribe())
        });
        health.set_ready();
        let bound = sockets.bound;
        Ok(Self {
            started: settings,
            bound,
            admin,
            context,
            policy,
            health,
            threads,
            stop,
            tasks,
            records,
            tls_in_force,
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

    /// How the engines stand, all together; `None` while stopping.
    pub async fn stats(&self) -> Option<EngineStatus> {
        let mut all = EngineStatus::default();
        for shard in &self.context.shards {
            let (answer, status) = oneshot::channel();
            shard.send(Errand::Control(Control::Status(answer))).await.ok()?;
            all.add(status.await.ok()?);
        }
        Some(all)
    }

    /// Ends one call on both legs.
    pub async fn hang_up(&self, shard: u16, call: CallKey) {
        if let Some(inbox) = self.context.shards.get(usize::from(shard)) {
            // A shard that has ended holds no calls.
            let _ended = inbox.send(Errand::Control(Control::HangUp(call))).await;
        }
    }

    /// Takes no new calls from now on; what is left at `until` is hung up.
    pub async fn drain(&self, until: Option<Instant>) {
        self.health.set_unready();
        self.tell(|| Control::Drain { until }).await;
    }

    /// Completes when the last call of a drain is over, in every shard.
    pub async fn drained(&self) {
        for mut drained in self.threads.drained() {
            // An error means that the engine has ended, and with it every call.
            let _ended = drained.wait_for(|drained| *drained).await;
        }
    }

    /// Uses new policy and certificates for new calls and handshakes. Listeners, media ports, the admin endpoint and
    /// records stay as they were started; a change there is warned of.
    pub async fn reload(&self, settings: impl Into<Settings>) -> Result<(), ReloadError> {
        let settings: Settings = settings.into();
        let policy = Arc::new(with_bound_ports(&settings.policy, &self.bound));
        if let Some(changed) = changed_proxy(&self.policy.load(), &policy) {
            self.context.metrics.reloaded(Up::No);
            return Err(changed);
        }
        let tls = match &settings.tls {
            Some(tls) => tls.load(&policy).map(Some),
            None => Ok(None),
        };
        let tls = tls.inspect_err(|_| self.context.metrics.reloaded(Up::No))?;
        if self.tell(|| Control::Policy(policy.clone())).await == Told::Nobody {
            return Err(ReloadError::Stopping);
        }
        let replaced = Replaced { before: self.policy.load_full(), now: policy.clone() };
        self.context.publish(tls.map(Arc::new), &replaced).await;
        expiry::publish(&self.context, &policy.gateway.fqdn, &names(&settings));
        self.tls_in_force.store(in_force(&settings, &policy));
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

    /// How the live directory stands, and what it was just read for.
    pub fn directory_stands(&self, standing: Option<DirectoryStanding>, reading: Option<Reading>) {
        self.context.metrics.directory_stands(standing, reading);
    }

    /// A reload failed before it reached the gateway (the file is bad).
    pub fn reload_refused(&self) {
        self.context.metrics.reloaded(Up::No);
    }

    /// Ends everything now and waits for every task and thread.
    pub async fn stop(mut self) {
        self.health.set_unready();
        self.stop.send_replace(true);
        self.tell(|| Control::Stop).await;
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(problem) = ended {
                error!(%problem, "a task did not end in order");
            }
        }
        let threads = self.threads;
        // Joining threads blocks.
        if tokio::task::spawn_blocking(move || threads.join()).await.is_err() {
            error!("signalling and media threads did not end in order");
        }
        if let Some(admin) = self.admin.take() {
            admin.join(ADMIN_PATIENCE).await;
        }
        if let Some(records) = self.records.take() {
            // Joining a thread blocks.
            let _joined = tokio::task::spawn_blocking(move || records.join()).await;
        }
    }

    async fn tell(&self, control: impl Fn() -> Control) -> Told {
        let mut told = Told::Everybody;
        for shard in &self.context.shards {
            if shard.send(Errand::Control(control())).await.is_err() {
                told = Told::Nobody;
                info!("the gateway is stopping already");
            }
        }
        told
    }
}

/// Whether the shards were there to hear it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Told {
    Everybody,
    Nobody,
}

async fn bind_admin(address: Option<SocketAddr>) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    let Some(address) = address else { return Ok(None) };
    let bind = async {
        let listener = TcpListener::bind(address).await?;
        let bound = listener.local_addr()?;
        std::io::Result::Ok((listener, bound))
    };
    bind.await.map(Some).map_err(|source| StartError::Admin { address, source })
}

async fn bind_all(listen: &[ListenAt]) -> Result<Sockets, StartError> {
    let mut sockets = Sockets { tcp: Vec::new(), udp: Vec::new(), bound: Vec::new() };
    for ListenAt { address, transport } in listen.iter().copied() {
        let failed = |source| StartError::Listen { address, transport, source };
        let bound = if transport == Transport::Udp {
            let socket = bind_udp(address).map_err(failed)?;
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

fn names(settings: &Settings) -> Vec<String> {
    settings.tls.as_ref().map(TlsSetup::names).unwrap_or_default()
}

fn in_force(settings: &Settings, policy: &Arc<Policy>) -> Option<Arc<InForce>> {
    let setup = settings.tls.clone()?;
    Some(Arc::new(InForce { setup, policy: policy.clone() }))
}

fn load_tls(
    settings: &Settings,
    policy: &Policy,
    bound: &[Bound],
) -> Result<Option<Arc<TlsContext>>, StartError> {
    match &settings.tls {
        Some(tls) => Ok(Some(Arc::new(tls.load(policy)?))),
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

fn spawn_all(context: &Arc<NetContext>, listeners: Vec<(TcpListener, Bound)>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (listener, bound) in listeners {
        tasks.spawn(accept_loop(context.clone(), listener, bound.transport));
    }
    tasks
}

/// A hosting provider that stayed, with another proxy: Lync refuses that too.
fn changed_proxy(before: &Policy, now: &Policy) -> Option<ReloadError> {
    before.um.hosted.providers.iter().find_map(|old| {
        let is_it = |new: &&HostingProvider| new.identity.eq_ignore_ascii_case(&old.identity);
        let new = now.um.hosted.providers.iter().find(is_it)?;
        (new.proxy_fqdn != old.proxy_fqdn).then(|| ReloadError::Proxy {
            identity: old.identity.clone(),
            before: old.proxy_fqdn.clone(),
            now: new.proxy_fqdn.clone(),
        })
    })
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

#[cfg(test)]
#[path = "gateway_tests.rs"]
mod tests;
