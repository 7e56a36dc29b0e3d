//! The calls: a caller on one connection, a server that answers at once on whatever connects. Owns what every call has seen; refuses to know
//! who stands in between.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::messages::{self, Dialog, Names, Seen, With};
use super::wire::{self, Outbox};

/// How often the caller looks what is due.
const TICK: Duration = Duration::from_millis(1);
/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What became of a run.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Calls begun.
    pub placed: usize,
    /// Of these, those that were answered with 200.
    pub answered: usize,
    /// Of these, those whose BYE was answered with 200.
    pub ended: usize,
    /// Other final answers and surprises, by their first line.
    pub failed: BTreeMap<String, usize>,
    /// From INVITE written to 200 read, sorted, in microseconds.
    pub setup_us: Vec<u32>,
}

impl Outcome {
    /// Calls that were placed and did not end as they should.
    pub fn lost(&self) -> usize {
        self.placed - self.ended.min(self.placed)
    }

    /// Set-up time in milliseconds at a percentile.
    pub fn setup_ms(&self, percentile: f64) -> f64 {
        let at = ((self.setup_us.len() as f64 * percentile / 100.0) as usize)
            .min(self.setup_us.len().saturating_sub(1));
        self.setup_us.get(at).map_or(f64::NAN, |us| f64::from(*us) / 1e3)
    }
}

#[derive(Default)]
struct Run {
    calls: Vec<Call>,
    hold: Option<Duration>,
    due: VecDeque<(Instant, usize)>,
    outcome: Outcome,
}

struct Call {
    sent: Instant,
    dialog: Option<Dialog>,
}

/// The caller's side.
#[derive(Clone)]
pub struct Caller {
    outbox: Outbox,
    names: Names,
    runs: Rc<RefCell<Vec<Run>>>,
}

impl Caller {
    /// Not connected yet.
    pub fn new(names: Names) -> Self {
        Self { outbox: Outbox::default(), names, runs: Rc::default() }
    }

    /// Connects (again); the connection lives in a task of its own.
    pub async fn connect(
        &self,
        connector: &tokio_rustls::TlsConnector,
        from: std::net::IpAddr,
        to: SocketAddr,
        name: &str,
    ) -> std::io::Result<JoinHandle<()>> {
        let stream = wire::connect(connector, from, to, name).await?;
        let (caller, outbox) = (self.clone(), self.outbox.clone());
        Ok(tokio::task::spawn_local(async move {
            match wire::serve(stream, outbox, |text| caller.take(text)).await {
                Err(why) if why.kind() != std::io::ErrorKind::UnexpectedEof => {
                    eprintln!("caller's connection: {why}")
                }
                _ => {}
            }
        }))
    }

    /// Places calls at a rate; without `hold` they stay up. Returns when all have come to that end, or patience has.
    pub async fn place(&self, calls: usize, rate: u32, hold: Option<Duration>) -> Outcome {
        let run = {
            let mut runs = self.runs.borrow_mut();
            runs.push(Run { hold, ..Run::default() });
            runs.len() - 1
        };
        let started = Instant::now();
        loop {
            tokio::time::sleep(TICK).await;
            let wanted = (started.elapsed().as_secs_f64() * f64::from(rate)) as usize;
            self.place_due(run, wanted.min(calls));
            self.hang_up_due(run, Instant::now());
            let runs = self.runs.borrow();
            let outcome = &runs[run].outcome;
            let over = if hold.is_some() { outcome.ended } else { outcome.answered }
                + outcome.failed.values().sum::<usize>();
            let late = started.elapsed() > Duration::from_secs_f64(calls as f64 / f64::from(rate)) + PATIENCE;
            if outcome.placed == calls && over >= calls || late {
                break;
            }
        }
        self.outcome(run)
    }

    /// Ends the calls of a run that stayed up.
    pub async fn hang_up(&self, rate: u32) -> usize {
        let held: Vec<(usize, usize)> = {
            let runs = self.runs.borrow();
            let of = |run: usize| (0..runs[run].calls.len()).map(move |n| (run, n));
            (0..runs.len()).filter(|run| runs[*run].hold.is_none()).flat_map(of).collect()
        };
        let started = Instant::now();
        let mut sent = 0;
        while sent < held.len() {
            tokio::time::sleep(TICK).await;
            let wanted = ((started.elapsed().as_secs_f64() * f64::from(rate)) as usize).min(held.len());
            for (run, n) in &held[sent..wanted] {
                self.hang_up_one(*run, *n);
            }
            sent = wanted;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut runs = self.runs.borrow_mut();
        let ended = runs.iter().filter(|run| run.hold.is_none()).map(|run| run.outcome.ended).sum();
        runs.iter_mut().filter(|run| run.hold.is_none()).for_each(|run| run.calls.clear());
        ended
    }

    fn outcome(&self, run: usize) -> Outcome {
        let mut outcome = self.runs.borrow()[run].outcome.clone();
        outcome.setup_us.sort_unstable();
        outcome
    }

    fn place_due(&self, run: usize, wanted: usize) {
        let mut runs = self.runs.borrow_mut();
        let Run { calls, outcome, .. } = &mut runs[run];
        while outcome.placed < wanted {
            let n = outcome.placed;
            calls.push(Call { sent: Instant::now(), dialog: None });
            self.outbox.put(|out| messages::invite(out, &self.names, run as u32, n));
            outcome.placed += 1;
        }
    }

    fn hang_up_due(&self, run: usize, now: Instant) {
        loop {
            let n = {
                let due = &mut self.runs.borrow_mut()[run].due;
                match due.front() {
                    Some((at, n)) if *at <= now => {
                        let n = *n;
                        due.pop_front();
                        n
                    }
                    _ => return,
                }
            };
            self.hang_up_one(run, n);
        }
    }

    fn hang_up_one(&self, run: usize, n: usize) {
        let runs = self.runs.borrow();
        if let Some(dialog) = runs[run].calls.get(n).and_then(|call| call.dialog.as_ref()) {
            self.outbox.put(|out| messages::within(out, &self.names, dialog, "BYE", run as u32, n));
        }
    }

    fn take(&self, text: &str) {
        let Some(seen) = Seen::read(text) else { return };
        let Some(status) = seen.status else { return self.answer(&seen) };
        let Some((run, n)) = run_and_call(&seen) else { return };
        let mut runs = self.runs.borrow_mut();
        let Some(run_state) = runs.get_mut(run) else { return };
        let Run { calls, hold, due, outcome } = run_state;
        let Some(call) = calls.get_mut(n) else { return };
        match (seen.method, status) {
            (_, 100..=199) => {}
            ("INVITE", 200..=299) => {
                let dialog = Dialog::of(&seen);
                self.outbox.put(|out| messages::within(out, &self.names, &dialog, "ACK", run as u32, n));
                if call.dialog.replace(dialog).is_none() {
                    outcome.answered += 1;
                    outcome.setup_us.push(call.sent.elapsed().as_micros() as u32);
                    if let Some(hold) = hold {
                        due.push_back((Instant::now() + *hold, n));
                    }
                }
            }
            ("BYE", 200..=299) => outcome.ended += 1,
            (method, _) => {
                if method == "INVITE" {
                    self.outbox
                        .put(|out| messages::ack_failure(out, &self.names, seen.header("To"), run as u32, n));
                }
                let first = format!("{method}: {}", text.lines().next().unwrap_or_default());
                *outcome.failed.entry(first).or_default() += 1;
            }
        }
    }

    // Requests of the other side: refreshes, probes, and calls it ends by itself.
    fn answer(&self, seen: &Seen<'_>) {
        if seen.method == "ACK" {
            return;
        }
        if seen.method == "BYE"
            && let Some((run, _)) = run_and_call(seen)
            && let Some(run) = self.runs.borrow_mut().get_mut(run)
        {
            *run.outcome.failed.entry("BYE from the far side".into()).or_default() += 1;
        }
        self.outbox.put(|out| messages::response(out, &self.names, seen, "200 OK", With::Contact));
    }
}

fn run_and_call(seen: &Seen<'_>) -> Option<(usize, usize)> {
    let id = seen.header("Call-ID").strip_prefix("load-")?.split('@').next()?;
    let (run, n) = id.split_once('-')?;
    Some((run.parse().ok()?, n.parse().ok()?))
}

/// The server's side: answers every INVITE at once.
pub struct Server {
    task: JoinHandle<()>,
    connections: Rc<RefCell<Vec<JoinHandle<()>>>>,
}

impl Server {
    /// Listens from now on.
    pub async fn start(
        address: SocketAddr,
        acceptor: tokio_rustls::TlsAcceptor,
        names: Names,
    ) -> std::io::Result<Self> {
        let listener = listen(address).await?;
        let connections: Rc<RefCell<Vec<JoinHandle<()>>>> = Rc::default();
        let open = connections.clone();
        let task = tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, names) = (acceptor.clone(), names.clone());
                let task = tokio::task::spawn_local(async move {
                    let _ = stream.set_nodelay(true);
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let outbox = Outbox::default();
                    let answers = outbox.clone();
                    let _end = wire::serve(stream, outbox, |text| respond(&answers, &names, text)).await;
                });
                open.borrow_mut().push(task);
            }
        });
        Ok(Self { task, connections })
    }

    /// Everything ends at once, as a process that is killed.
    pub fn kill(self) {
        self.task.abort();
        self.connections.borrow().iter().for_each(JoinHandle::abort);
    }
}

async fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(128)
}

fn respond(outbox: &Outbox, names: &Names, text: &str) {
    let Some(seen) = Seen::read(text) else { return };
    if seen.status.is_some() {
        return;
    }
    match seen.method {
        "ACK" => {}
        "INVITE" => outbox.put(|out| {
            messages::response(out, names, &seen, "180 Ringing", With::Contact);
            messages::response(out, names, &seen, "200 OK", With::Description);
        }),
        _ => outbox.put(|out| messages::response(out, names, &seen, "200 OK", With::Nothing)),
    }
}
