//! One listening port: accepts, shakes hands apart from the accept loop, serves connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sip::{Flow, FlowKey, Party, Transport};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::connection::{announce, serve, told};
use super::driver::Event;

/// Connections at once on one port.
const CONNECTIONS_MAX: usize = 1_024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after accept failed (no descriptors): avoids a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a port serves and to whom.
pub(super) struct Service<C> {
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) to: mpsc::Sender<Event<C>>,
    pub(super) keys: Arc<AtomicU64>,
    /// Told about failed handshakes.
    pub(super) on_failure: Arc<dyn Fn(String) + Send + Sync>,
}

impl<C> Clone for Service<C> {
    fn clone(&self) -> Self {
        Service {
            tls: self.tls.clone(),
            to: self.to.clone(),
            keys: self.keys.clone(),
            on_failure: self.on_failure.clone(),
        }
    }
}

/// A port that is open.
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Listening {
    /// Binds and starts accepting.
    pub(super) async fn open<C: Send + 'static>(
        address: SocketAddr,
        service: Service<C>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(accept(listener, address.port(), service, stopped));
        Ok(Listening { address, stop, task })
    }

    /// Closes the port and its connections; waits for all of them.
    pub(super) async fn close(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

async fn accept<C: Send + 'static>(
    listener: TcpListener,
    port: u16,
    service: Service<C>,
    mut stop: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let stopped = stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => accepted,
            Some(_) = connections.join_next() => continue,
            () = told(&mut stop) => break,
        };
        match accepted {
            Ok((stream, remote)) => {
                connections.spawn(welcome(stream, remote, port, service.clone(), stopped.clone()));
            }
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn welcome<C: Send + 'static>(
    stream: TcpStream,
    remote: SocketAddr,
    port: u16,
    service: Service<C>,
    stop: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let flow = |transport| Flow {
        key: FlowKey(service.keys.fetch_add(1, Ordering::Relaxed)),
        transport,
        remote,
        via_port: port,
        party: Party::default(),
    };
    let to = service.to.clone();
    let Some(acceptor) = &service.tls else {
        let flow = flow(Transport::Tcp);
        if let Some(queue) = announce(flow, &to).await {
            serve(stream, flow, queue, to, stop).await;
        }
        return;
    };
    match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let flow = flow(Transport::Tls);
            if let Some(queue) = announce(flow, &to).await {
                serve(stream, flow, queue, to, stop).await;
            }
        }
        Ok(Err(why)) => (service.on_failure)(format!("TLS handshake with {remote}: {why}")),
        Err(_) => (service.on_failure)(format!("TLS handshake with {remote}: timed out")),
    }
}
