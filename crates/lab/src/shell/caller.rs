//! The Front End on a real connection.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use sip::FlowKey;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::dial::{Dialled, dial};
use super::driver::{Driver, EVENT_QUEUE_MAX, Event};
use crate::frontend::{
    CallOutcome, CallSpec, CallerCommand, CallerConfig, CallerError, CallerLogic, CallerReport, Target,
};

/// Strays a slow reader may lag behind.
const STRAYS_MAX: usize = 256;
const KEY: FlowKey = FlowKey(1);

/// One connection to a target; any number of calls at once on it (up to [`Caller::CALLS_MAX`]). Cheap to clone.
#[derive(Clone)]
pub struct Caller {
    inner: Arc<Inner>,
}

struct Inner {
    sender: mpsc::Sender<Event<CallerCommand>>,
    waiting: Arc<Waiting>,
    strays: broadcast::Sender<Bytes>,
    next: AtomicU64,
    local: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What became of a call; `Err` when it could not even be sent.
type Placed = Result<Box<CallOutcome>, String>;

#[derive(Default)]
struct Waiting {
    calls: Mutex<HashMap<u64, oneshot::Sender<Placed>>>,
    options: Mutex<HashMap<u64, oneshot::Sender<u16>>>,
}

impl std::fmt::Debug for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caller").field("local", &self.inner.local).finish_non_exhaustive()
    }
}

impl Caller {
    /// Most calls at once on one caller.
    pub const CALLS_MAX: usize = 4_096;

    /// Connects (and shakes hands).
    pub async fn connect(config: CallerConfig, target: Target) -> Result<Caller, CallerError> {
        let (sender, events) = mpsc::channel(EVENT_QUEUE_MAX);
        let (stop, stopped) = watch::channel(false);
        let Dialled { local, task: connection } =
            dial(config.address, &target, KEY, &sender, stopped).await?;
        let (strays, _) = broadcast::channel(STRAYS_MAX);
        let waiting = Arc::new(Waiting::default());
        let address = config.address;
        let driver = Driver {
            machine: CallerLogic::new(config, local),
            events,
            sender: sender.clone(),
            media_address: address,
        };
        let on_report = reporter(waiting.clone(), strays.clone());
        let tasks = Mutex::new(vec![connection, tokio::spawn(driver.run(on_report))]);
        let inner = Inner { sender, waiting, strays, next: AtomicU64::new(1), local, stop, tasks };
        Ok(Caller { inner: Arc::new(inner) })
    }

    /// Our end of the connection.
    pub fn local(&self) -> SocketAddr {
        self.inner.local
    }

    /// Places a call and stays with it to its end.
    pub async fn place_call(&self, spec: CallSpec) -> Result<CallOutcome, CallerError> {
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let (outcome, wanted) = oneshot::channel();
        {
            let mut calls = locked(&self.inner.waiting.calls);
            if calls.len() >= Self::CALLS_MAX {
                return Err(CallerError::TooMany(Self::CALLS_MAX));
            }
            calls.insert(id, outcome);
        }
        let command = CallerCommand::Place { id, spec: Box::new(spec) };
        self.command(command).await?;
        let outcome = wanted.await.map_err(|_| CallerError::Closed)?;
        outcome.map(|outcome| *outcome).map_err(CallerError::Spec)
    }

    /// Sends bytes as they are and returns the messages that come back within `wait` and belong to no call.
    pub async fn send_raw(&self, bytes: Bytes, wait: Duration) -> Result<Vec<Bytes>, CallerError> {
        let mut strays = self.inner.strays.subscribe();
        self.command(CallerCommand::Raw(bytes)).await?;
        let mut got = Vec::new();
        let listen = async {
            while let Ok(stray) = strays.recv().await {
                got.push(stray);
            }
        };
        let _ = timeout(wait, listen).await;
        Ok(got)
    }

    /// Sends OPTIONS and returns the status; 0 = no answer.
    pub async fn options(&self, request_uri: &str) -> Result<u16, CallerError> {
        let id = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let (status, wanted) = oneshot::channel();
        locked(&self.inner.waiting.options).insert(id, status);
        self.command(CallerCommand::Options { id, uri: request_uri.to_owned() }).await?;
        wanted.await.map_err(|_| CallerError::Closed)
    }

    /// Closes the connection; calls on it end as lost. Waits for its tasks.
    pub async fn close(self) {
        let _ = self.inner.stop.send(true);
        let mut tasks = std::mem::take(&mut *locked(&self.inner.tasks)).into_iter();
        if let Some(connection) = tasks.next() {
            let _ = connection.await;
        }
        let _ = self.inner.sender.send(Event::Quit).await;
        for task in tasks {
            let _ = task.await;
        }
        locked(&self.inner.waiting.calls).clear();
        locked(&self.inner.waiting.options).clear();
    }

    async fn command(&self, command: CallerCommand) -> Result<(), CallerError> {
        self.inner.sender.send(Event::Command(command)).await.map_err(|_| CallerError::Closed)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for task in locked(&self.tasks).iter() {
            task.abort();
        }
    }
}

fn reporter(waiting: Arc<Waiting>, strays: broadcast::Sender<Bytes>) -> impl FnMut(CallerReport) + Send {
    move |report| match report {
        CallerReport::Outcome { id, outcome } => {
            if let Some(wanted) = locked(&waiting.calls).remove(&id) {
                let _ = wanted.send(outcome);
            }
        }
        CallerReport::Status { id, status } => {
            if let Some(wanted) = locked(&waiting.options).remove(&id) {
                let _ = wanted.send(status);
            }
        }
        CallerReport::Stray(bytes) => drop(strays.send(bytes)),
    }
}

/// The maps hold no invariant a panic could break.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
