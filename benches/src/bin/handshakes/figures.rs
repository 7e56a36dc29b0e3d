//! Which figures are taken, in which order, and how they are printed.

use std::fs;
use std::time::{Duration, Instant};

use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};
use tokio::time::sleep;
use umbra_benches::load::{Bench, Kind, Result, Subject, cost, median};

use crate::options::Options;
use crate::peers::{Crowd, Way};

/// Handshakes side by side while their cost is measured, and while idle peers arrive.
const AT_ONCE: usize = 16;
/// Before anything is measured: what is made once is made.
const WARM_UP: u32 = 50;
/// After the last close, until the gateway has nothing left to do.
const AFTERMATH: Duration = Duration::from_millis(300);
/// After that long without a byte a connection has given its buffers back (2 s), and the allocator has had time.
const QUIET: Duration = Duration::from_secs(5);
/// How long a call is up beside a storm.
const HOLD: Duration = Duration::from_millis(500);
/// Calls go on for so long; the storm begins after a fifth of it.
const CALLS: Duration = Duration::from_secs(30);
const CALLS_QUICK: Duration = Duration::from_secs(10);
/// What is tried, the one that both prefer last.
static VERSIONS: [(&str, &SupportedProtocolVersion); 2] = [("TLS 1.2", &TLS12), ("TLS 1.3", &TLS13)];
/// Load of the machine above which figures say little.
const BUSY_LOAD: f64 = 0.5;

/// Takes and prints everything that was asked for.
pub async fn run(options: &Options) -> Result {
    let bench = Bench::open(&options.umbra)?.with_room(options.room());
    let kinds: &[Kind] = match options.openssl {
        true => &[Kind::Umbra, Kind::UmbraOpenSsl],
        false => &[Kind::Umbra],
    };
    machine();
    let mut last = Vec::new();
    let rates = handshakes(&bench, options, kinds).await?;
    for (kind, (version, rate)) in kinds.iter().zip(rates) {
        last.push((*kind, format!("handshakes per CPU-second: {rate:.0} ({version})")));
    }
    for kind in kinds {
        last.push((*kind, storm(&bench, options, *kind).await?));
    }
    for kind in kinds {
        last.push((*kind, idle(&bench, options, *kind).await?));
    }
    // Those of the default backend stand last, without its word.
    last.iter().filter(|(kind, _)| *kind != Kind::Umbra).for_each(|(kind, line)| print(*kind, line));
    last.iter().filter(|(kind, _)| *kind == Kind::Umbra).for_each(|(_, line)| println!("{line}"));
    Ok(())
}

fn machine() {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let word = if load < BUSY_LOAD { "" } else { ": a busy machine, compare nothing with these figures" };
    println!("{cores} cores, load average before {load:.2}{word}");
}

/// The median of the last version, by kind.
async fn handshakes(bench: &Bench, options: &Options, kinds: &[Kind]) -> Result<Vec<(&'static str, f64)>> {
    let mut subjects = Vec::new();
    for kind in kinds {
        let net = bench.net();
        subjects.push((*kind, net, bench.subject(*kind, net)?));
    }
    let mut rates = vec![vec![Vec::new(); VERSIONS.len()]; kinds.len()];
    for round in 1..=options.rounds {
        for ((kind, net, subject), rates) in subjects.iter().zip(&mut rates) {
            for ((version, protocol), rates) in VERSIONS.iter().zip(rates) {
                // Ports rest after a close: each round has an address of its own.
                let from = net.host(100 + (round % 100) as u8).into();
                let way = Way { connector: bench.connector(&[*protocol])?, from, to: net.subject() };
                let measured = visits(&way, subject, options.count).await?;
                print(*kind, &format!("{version} round {round}  {}", measured.line(options.count)));
                rates.push(measured.per_cpu_second(options.count));
            }
        }
    }
    let mut lasts = Vec::new();
    for (kind, rates) in kinds.iter().zip(&mut rates) {
        for ((version, _), rates) in VERSIONS.iter().zip(rates) {
            let rate = median(rates);
            print(*kind, &format!("{version} median {rate:.0} handshakes per CPU-second"));
            if *version == VERSIONS[VERSIONS.len() - 1].0 {
                lasts.push((*version, rate));
            }
        }
    }
    Ok(lasts)
}

struct Measured {
    suite: String,
    cpu: f64,
    own: f64,
    wall: f64,
}

impl Measured {
    fn per_cpu_second(&self, count: u32) -> f64 {
        f64::from(count) / self.cpu
    }

    fn line(&self, count: u32) -> String {
        let Self { suite, cpu, own, wall } = self;
        format!(
            "{count} handshakes  {:.0} per CPU-second  {:.2} ms CPU each  {:.0}/s  gateway busy {:.0} %, generator busy {:.0} %  {suite}",
            self.per_cpu_second(count),
            cpu * 1e3 / f64::from(count),
            f64::from(count) / wall,
            cpu * 100.0 / wall,
            own * 100.0 / wall
        )
    }
}

async fn visits(way: &Way, subject: &Subject, count: u32) -> Result<Measured> {
    way.visit(WARM_UP, AT_ONCE).await?;
    sleep(AFTERMATH).await;
    let pids = subject.pids();
    let (cpu, own, started) = (cost::cpu_seconds(&pids), cost::own_cpu_seconds(), Instant::now());
    let suite = way.visit(count, AT_ONCE).await?;
    let (wall, own) = (started.elapsed().as_secs_f64(), cost::own_cpu_seconds() - own);
    sleep(AFTERMATH).await;
    Ok(Measured { suite, cpu: cost::cpu_seconds(&pids) - cpu, own, wall })
}

/// A pool comes back with all its connections at once, from the address of the one that carries calls.
async fn storm(bench: &Bench, options: &Options, kind: Kind) -> Result<String> {
    let rig = bench.rig(Some(kind)).await?;
    let connector = bench.connector(rustls::DEFAULT_VERSIONS)?;
    let way = Way { connector, from: rig.net.caller(), to: rig.net.subject() };
    let span = if options.quick { CALLS_QUICK } else { CALLS };
    let calls = rig.caller.place(span.as_secs() as usize * options.rate as usize, options.rate, Some(HOLD));
    let pids = rig.pids();
    let crowd = async {
        sleep(span / 5).await;
        let cpu = cost::cpu_seconds(&pids);
        let crowd = Crowd::gather(way, options.storm, options.storm as usize).await?;
        Result::Ok((crowd, cost::cpu_seconds(&pids) - cpu))
    };
    let (calls, crowd) = tokio::join!(calls, crowd);
    let (crowd, cpu) = crowd?;
    let (took, half) = (crowd.took.as_secs_f64(), crowd.arrivals.len() / 2);
    let half = crowd.arrivals.get(half).copied().unwrap_or_default().as_secs_f64();
    print(
        kind,
        &format!(
            "storm  {} connections: half up after {half:.2} s, all after {took:.2} s, {} tried again {:?}, {} still stand; {cpu:.2} CPU-s",
            options.storm,
            crowd.again,
            crowd.why.as_deref().unwrap_or_default(),
            crowd.standing(),
        ),
    );
    print(
        kind,
        &format!(
            "storm  {} calls at {}/s beside it: lost {} {:?}, set-up p50 {:.2} p99 {:.2} ms",
            calls.placed,
            options.rate,
            calls.lost(),
            calls.failed,
            calls.setup_ms(50.0),
            calls.setup_ms(99.0)
        ),
    );
    if crowd.took > span * 4 / 5 {
        print(kind, "storm  the calls were over before it was");
    }
    Ok(format!("storm: {} connections in {took:.2} s, calls lost {}", options.storm, calls.lost()))
}

/// Memory of peers that are connected and say nothing.
async fn idle(bench: &Bench, options: &Options, kind: Kind) -> Result<String> {
    let net = bench.net();
    let subject = bench.subject(kind, net)?;
    let connector = bench.connector(rustls::DEFAULT_VERSIONS)?;
    let way = Way { connector, from: net.caller(), to: net.subject() };
    way.visit(WARM_UP, AT_ONCE).await?;
    sleep(QUIET).await;
    let before = cost::memory_kib(&subject.pids());
    let crowd = Crowd::gather(way, options.idle, AT_ONCE).await?;
    let fresh = cost::memory_kib(&subject.pids());
    sleep(QUIET).await;
    let after = cost::memory_kib(&subject.pids());
    let standing = crowd.standing();
    let each = |kib: u64| (kib as f64 - before as f64) / f64::from(options.idle);
    print(
        kind,
        &format!(
            "idle   {standing} of {} stand, {} tried again {:?}; Pss {before} KiB before, {after} KiB with them; {:.1} KiB each at once, {:.1} KiB when quiet",
            options.idle,
            crowd.again,
            crowd.why.as_deref().unwrap_or_default(),
            each(fresh),
            each(after)
        ),
    );
    match standing == options.idle as usize {
        true => Ok(format!("idle: {standing} peers, {:.1} KiB each", each(after))),
        false => {
            Err(format!("{} of {} idle peers were closed", options.idle as usize - standing, options.idle))
        }
    }
}

fn print(kind: Kind, line: &str) {
    println!("{:<13} {line}", kind.name());
}
