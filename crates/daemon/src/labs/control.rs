//! Where a running lab is told of faults: `GET /lab`, `POST /lab/set/…` and `/lab/clear…` on a loopback address. Owns its listener and its task; who
//! may change something is told by the guard of the gateway's admin endpoint.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::faults::{FaultStatus, Site, Wish, set};
use crate::config::lab_file::{FAULTS, Part, fault};
use crate::observe::is_from_here;

/// A client that keeps its connection open does not hold up the stop.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a lab stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabStatus {
    /// Names of its servers.
    pub servers: Vec<String>,
    /// What is wrong with them.
    pub faults: Vec<FaultStatus>,
}

/// The running endpoint.
pub(super) struct Control {
    pub(super) address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

#[derive(Clone)]
struct Pages {
    site: Arc<Mutex<Site>>,
    servers: Vec<String>,
}

impl Control {
    pub(super) fn start(
        listener: TcpListener,
        address: SocketAddr,
        site: Arc<Mutex<Site>>,
        servers: Vec<String>,
    ) -> Self {
        let router = Router::new()
            .route("/lab", get(standing))
            .route("/lab/set/{server}/{part}/{fault}/{after_ms}/{lasts_ms}", post(ordered))
            .route("/lab/clear", post(cleared))
            .route("/lab/clear/{server}", post(cleared_one))
            .with_state(Pages { site, servers });
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            let end = async move {
                let _gone = stopped.wait_for(|stop| *stop).await;
            };
            if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(end).await {
                tracing::warn!(%error, "control endpoint of the lab ended");
            }
        });
        Self { address, stop, task }
    }

    pub(super) async fn stop(self) {
        let _gone = self.stop.send(true);
        let abort = self.task.abort_handle();
        if tokio::time::timeout(PATIENCE, self.task).await.is_err() {
            abort.abort();
        }
    }
}

async fn standing(State(pages): State<Pages>) -> Response {
    let faults = pages.site.lock().await.faults(Instant::now());
    let text = serde_json::to_string(&LabStatus { servers: pages.servers, faults }).unwrap_or_default();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

type Order = (String, String, String, u64, u64);

async fn ordered(State(pages): State<Pages>, Path(order): Path<Order>, headers: HeaderMap) -> Response {
    let (server, part, word, after_ms, lasts_ms) = order;
    let known = pages.servers.iter().find(|known| **known == server);
    let part = Part::WORDS.into_iter().find(|(name, _)| *name == part).map(|(_, part)| part);
    let word = FAULTS.into_iter().find(|known| *known == word);
    let fault = word.and_then(|word| fault(word, Duration::from_millis(after_ms)));
    let (Some(server), Some(part), Some(word), Some(fault)) = (known, part, word, fault) else {
        return answer(StatusCode::NOT_FOUND, "no such server, part or fault");
    };
    if !is_from_here(&headers) {
        return answer(StatusCode::FORBIDDEN, "not from a tool of this gateway");
    }
    let lasts = (lasts_ms > 0).then(|| Duration::from_millis(lasts_ms));
    match set(&pages.site, Wish { server: server.clone(), part, word, fault, lasts }).await {
        Ok(()) => answer(StatusCode::OK, "done"),
        Err(why) => answer(StatusCode::CONFLICT, &why.to_string()),
    }
}

async fn cleared(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    clear(&pages, None, &headers).await
}

async fn cleared_one(State(pages): State<Pages>, Path(server): Path<String>, headers: HeaderMap) -> Response {
    clear(&pages, Some(server), &headers).await
}

async fn clear(pages: &Pages, server: Option<String>, headers: &HeaderMap) -> Response {
    if !is_from_here(headers) {
        return answer(StatusCode::FORBIDDEN, "not from a tool of this gateway");
    }
    match pages.site.lock().await.clear(server.as_deref()).await {
        Ok(_) => answer(StatusCode::OK, "done"),
        Err(why) => answer(StatusCode::CONFLICT, &why.to_string()),
    }
}

fn answer(status: StatusCode, words: &str) -> Response {
    (status, serde_json::to_string(words).unwrap_or_default()).into_response()
}
