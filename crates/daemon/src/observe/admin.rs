//! The admin endpoint: `/metrics`, `/livez`, `/readyz`, `/tls/refusals`, `/status`, and `POST /servers/NAME/drain|enable|disable`.
//! Owns its listener, its task and the guard of what changes something: a header that no page of a browser may send to
//! another origin, and a Host that is an address, so that no foreign name leads here.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::warn;

use super::{Metrics, Status, TlsRefusals};

/// Content type of the OpenMetrics text format.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Says that a request comes from a tool of ours: a browser sends it to no other origin without asking first.
pub const ORDER_HEADER: &str = "x-umbra-order";

/// What an operator wants of a UM server.
#[derive(Copy, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerWish {
    /// It keeps its calls and gets no new ones.
    Drain,
    /// It gets calls.
    Enable,
    /// It is not used.
    Disable,
}

impl ServerWish {
    /// The last part of the path, and the word of the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Enable => "enable",
            Self::Disable => "disable",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Drain, Self::Enable, Self::Disable].into_iter().find(|wish| wish.word() == word)
    }
}

/// What became of a wish.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Ordered {
    /// Every signalling thread knows it.
    Done,
    /// No server has that name.
    Unknown,
    /// A signalling thread takes nothing now.
    Busy,
}

/// Takes a wish for the server of that name.
pub type Orders = dyn Fn(&str, ServerWish) -> Ordered + Send + Sync;
/// How the gateway stands, found out when it is asked.
pub type Standing = dyn Fn() -> Pin<Box<dyn Future<Output = Option<Status>> + Send>> + Send + Sync;

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

/// What the endpoint shows.
#[derive(Clone)]
pub struct Pages {
    /// Counters and gauges.
    pub metrics: Arc<Metrics>,
    /// Whether new calls are welcome.
    pub health: Arc<Health>,
    /// The last handshakes that failed.
    pub refusals: Arc<TlsRefusals>,
    /// Takes an operator's wish.
    pub order: Arc<Orders>,
    /// How the gateway stands at the moment it is asked.
    pub status: Arc<Standing>,
}

/// The running endpoint.
pub struct AdminServer {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl AdminServer {
    /// Serves until `stop` turns true.
    pub fn start(
        listener: TcpListener,
        address: SocketAddr,
        pages: Pages,
        mut stop: watch::Receiver<bool>,
    ) -> Self {
        let router = Router::new()
            .route("/metrics", get(expose))
            .route("/livez", get(|| async { "alive\n" }))
            .route("/readyz", get(readiness))
            .route("/tls/refusals", get(refused))
            .route("/status", get(standing))
            .route("/servers/{name}/{wish}", post(ordered))
            .with_state(pages);
        let task = tokio::spawn(async move {
            let stopped = async move {
                // An error means that the owner is gone, which is a reason to stop as well.
                let _gone = stop.wait_for(|stop| *stop).await;
            };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
                warn!(%error, "admin endpoint ended");
            }
        });
        Self { address, task }
    }

    /// Waits for the end. A client that keeps its connection open does not hold up the stop.
    pub async fn join(self, patience: std::time::Duration) {
        let abort = self.task.abort_handle();
        if tokio::time::timeout(patience, self.task).await.is_err() {
            abort.abort();
        }
    }
}

async fn expose(State(pages): State<Pages>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, OPENMETRICS)], pages.metrics.expose())
}

/// The last handshakes that failed, oldest first.
async fn refused(State(pages): State<Pages>) -> impl IntoResponse {
    json(&pages.refusals.all())
}

async fn standing(State(pages): State<Pages>) -> impl IntoResponse {
    match (pages.status)().await {
        Some(status) => json(&status).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn ordered(
    State(pages): State<Pages>,
    Path((name, wish)): Path<(String, String)>,
    headers: HeaderMap,
) -> impl IntoResponse {
    if !is_from_here(&headers) {
        return (StatusCode::FORBIDDEN, "\"not from a tool of this gateway\"");
    }
    let Some(wish) = ServerWish::of(&wish) else { return (StatusCode::NOT_FOUND, "\"no such wish\"") };
    // It is written to disk.
    match tokio::task::spawn_blocking(move || (pages.order)(&name, wish)).await {
        Ok(Ordered::Done) => (StatusCode::OK, "\"done\""),
        Ok(Ordered::Unknown) => (StatusCode::NOT_FOUND, "\"no such server\""),
        Ok(Ordered::Busy) | Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "\"busy\""),
    }
}

/// Whether a request that changes something comes from a tool of ours.
pub(crate) fn is_from_here(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_address = host.parse::<SocketAddr>().is_ok() || host.parse::<std::net::IpAddr>().is_ok();
    is_address && headers.contains_key(ORDER_HEADER)
}

fn json(value: &impl serde::Serialize) -> ([(header::HeaderName, &'static str); 1], String) {
    // The values are our own plain structures; they always serialise.
    let text = serde_json::to_string(value).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text)
}

async fn readiness(State(pages): State<Pages>) -> impl IntoResponse {
    if pages.health.is_ready() {
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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let status: Arc<Standing> = Arc::new(|| {
            let status = Status { fqdn: "umbra.contoso.test".to_owned(), ..Status::default() };
            Box::pin(std::future::ready(Some(status)))
        });
        let order = Arc::new(|name: &str, _| if name == "mbx01" { Ordered::Done } else { Ordered::Unknown });
        let pages = Pages { metrics, health: health.clone(), refusals: Arc::default(), order, status };
        let address = listener.local_addr().unwrap();
        let server = AdminServer::start(listener, address, pages, stopped);
        health.set_ready();
        assert!(fetch(server.address, "/livez").await.starts_with("HTTP/1.1 200"));
        assert!(fetch(server.address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(fetch(server.address, "/tls/refusals").await.ends_with("[]"));
        let status: Status = crate::observe::ask(server.address, "/status").await.unwrap();
        assert_eq!(status.fqdn, "umbra.contoso.test");
        assert!(fetch(server.address, "/metrics").await.contains("umbra_calls_active 0"));
        for (path, wanted) in [
            ("/servers/mbx01/drain", Ok(())),
            ("/servers/x/drain", Err("404")),
            ("/servers/mbx01/sing", Err("404")),
        ] {
            let told = crate::observe::order(server.address, path).await;
            assert_eq!(told.is_ok(), wanted.is_ok(), "{path}");
        }
        let by_browser = |host: &str, line: &str| {
            format!("POST /servers/mbx01/drain HTTP/1.0\r\nHost: {host}\r\n{line}Content-Length: 0\r\n\r\n")
        };
        for (host, line, status) in [
            ("127.0.0.1:1", "", "403"),
            ("evil.example", "X-Umbra-Order: 1\r\n", "403"),
            ("127.0.0.1:1", "X-Umbra-Order: 1\r\n", "200"),
        ] {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(by_browser(host, line).as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer.split(' ').nth(1), Some(status), "{host} {line}");
        }
        assert!(fetch(server.address, "/servers/mbx01/drain").await.starts_with("HTTP/1.1 405"));
        health.set_unready();
        assert!(fetch(server.address, "/readyz").await.starts_with("HTTP/1.1 503"));
        assert!(fetch(server.address, "/other").await.starts_with("HTTP/1.1 404"));
        stop.send(true).unwrap();
        server.join(Duration::from_secs(5)).await;
    }
}
