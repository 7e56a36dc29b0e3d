//! The admin endpoint: `/metrics`, `/livez`, `/readyz`, `/tls/refusals`. Owns its listener and its task; refuses every mutation.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::warn;

use super::{Metrics, TlsRefusals};

/// Content type of the OpenMetrics text format.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether new calls are welcome.
#[derive(Debug, Default)]
pub struct Health {
    ready: AtomicBool,
}

impl Health {
    /// Listening and willing.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// Draining or stopping.
    pub fn set_unready(&self) {
        self.ready.store(false, Ordering::Relaxed);
    }

    /// Are new calls welcome?
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    refusals: Arc<TlsRefusals>,
}

/// The running endpoint.
pub struct AdminServer {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl AdminServer {
    /// Binds and serves until `stop` turns true.
    pub async fn start(
        address: SocketAddr,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        refusals: Arc<TlsRefusals>,
        mut stop: watch::Receiver<bool>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let router = Router::new()
            .route("/metrics", get(expose))
            .route("/livez", get(|| async { "alive\n" }))
            .route("/readyz", get(readiness))
            .route("/tls/refusals", get(refused))
            .with_state(Shared { metrics, health, refusals });
        let task = tokio::spawn(async move {
            let stopped = async move {
                // An error means that the owner is gone, which is a reason to stop as well.
                let _gone = stop.wait_for(|stop| *stop).await;
            };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
                warn!(%error, "admin endpoint ended");
            }
        });
        Ok(Self { address, task })
    }

    /// Waits for the end. A client that keeps its connection open does not hold up the stop.
    pub async fn join(self, patience: std::time::Duration) {
        let abort = self.task.abort_handle();
        if tokio::time::timeout(patience, self.task).await.is_err() {
            abort.abort();
        }
    }
}

async fn expose(State(shared): State<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, OPENMETRICS)], shared.metrics.expose())
}

/// The last handshakes that failed, oldest first.
async fn refused(State(shared): State<Shared>) -> impl IntoResponse {
    let text = serde_json::to_string(&shared.refusals.all()).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text)
}

async fn readiness(State(shared): State<Shared>) -> impl IntoResponse {
    if shared.health.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not taking new calls\n")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn fetch(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn probes_and_metrics_answer_and_readiness_follows_the_drain() {
        let (stop, stopped) = watch::channel(false);
        let (metrics, health) = (Arc::new(Metrics::new()), Arc::new(Health::default()));
        let any = "127.0.0.1:0".parse().unwrap();
        let server = AdminServer::start(any, metrics, health.clone(), Arc::default(), stopped).await.unwrap();
        health.set_ready();
        assert!(fetch(server.address, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(fetch(server.address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(fetch(server.address, "/tls/refusals").await.ends_with("[]"));
        assert!(fetch(server.address, "/metrics").await.contains("umbra_calls_active 0"));
        health.set_unready();
        assert!(fetch(server.address, "/readyz").await.starts_with("HTTP/1.1 503"));
        assert!(fetch(server.address, "/other").await.starts_with("HTTP/1.1 404"));
        stop.send(true).unwrap();
        server.join(Duration::from_secs(5)).await;
    }
}
