//! Which figures are taken, in which order, and how they are printed.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use umbra_benches::load::{Result, cost, median};

use super::options::{Kind, Mode, Options};
use super::subject::Subject;
use super::traffic::{Outcome, Traffic};

/// Packets flow so long before anything is counted.
const WARM_UP: Duration = Duration::from_secs(2);
/// Late ticks of a generator that was not the limit, in 1,000.
const LATE_PER_MILLE_MAX: u64 = 10;
/// Share of a core the generator may use.
const OWN_SHARE_MAX: f64 = 0.9;
/// A round that the generator spoilt is repeated so often.
const ATTEMPTS: usize = 3;

/// One round of one subject.
struct Round {
    /// On-CPU microseconds of the relay per packet that arrived.
    cost_us: f64,
    lost_per_mille: f64,
    wrong: u64,
    delay_us: [f64; 3],
    /// Of the middle one of the windows of 200 ms: what a host that stops this machine now and then leaves alone.
    window_p99_us: f64,
    jitter_us: [f64; 2],
    /// KiB of private memory per session.
    memory: f64,
    own_share: f64,
    relay_share: f64,
}

/// Takes and prints everything that was asked for.
pub fn run(options: &Options) -> Result {
    println!(
        "{} relay threads, {} s per round, {} rounds, medians; packets of 172 octets",
        options.threads, options.seconds, options.rounds
    );
    println!(
        "mode       sessions subject    us/packet   delay p50/p99/p99.9 us   of 200 ms   jitter p50/p99 us   lost ‰   KiB/session   busy relay/generator"
    );
    let mut ratios = Vec::new();
    let mut failures = Vec::new();
    for mode in &options.modes {
        let mut of_mode = Vec::new();
        for sessions in &options.sessions {
            match pair(options, *mode, *sessions) {
                Ok(ratio) => of_mode.extend(ratio),
                Err(why) => {
                    println!("{:<10} {sessions:>8} not measured: {why}", mode.name());
                    failures.push(why);
                }
            }
        }
        if !of_mode.is_empty() {
            ratios.push(format!("{} {:.2}", mode.name(), median(&mut of_mode)));
        }
    }
    if !ratios.is_empty() {
        println!("umbra/rtpengine cpu ratio: {}", ratios.join(" "));
    }
    match failures.first() {
        Some(why) if failures.len() == options.modes.len() * options.sessions.len() => Err(why.clone()),
        _ => Ok(()),
    }
}

/// Alternating rounds of all subjects; the ratio of each pair.
fn pair(options: &Options, mode: Mode, sessions: u32) -> Result<Vec<f64>> {
    let mut rounds: Vec<Vec<Round>> = options.kinds.iter().map(|_| Vec::new()).collect();
    for number in 0..options.rounds {
        // Whoever comes first has a colder machine: they take turns.
        let mut order: Vec<usize> = (0..options.kinds.len()).collect();
        if number % 2 == 1 {
            order.reverse();
        }
        for at in order {
            rounds[at].push(sound_round(options, options.kinds[at], mode, sessions)?);
        }
    }
    for (kind, rounds) in options.kinds.iter().zip(&rounds) {
        print(*kind, mode, sessions, rounds);
    }
    let of = |kind| options.kinds.iter().position(|other| *other == kind).map(|at| &rounds[at]);
    let (Some(ours), Some(theirs)) = (of(Kind::Umbra), of(Kind::Rtpengine)) else {
        return Ok(Vec::new());
    };
    let cost = Ratio::of_pairs(ours, theirs, |round| round.cost_us);
    let delay = Ratio::of_pairs(ours, theirs, |round| round.delay_us[1]);
    let window = Ratio::of_pairs(ours, theirs, |round| round.window_p99_us);
    println!(
        "           umbra/rtpengine in {} pairs: us/packet {cost}, delay p99 {delay}, of 200 ms {window}",
        ours.len()
    );
    Ok(vec![cost.median])
}

/// Of one figure in rounds that were taken one after the other.
struct Ratio {
    lowest: f64,
    median: f64,
    highest: f64,
}

impl Ratio {
    fn of_pairs(ours: &[Round], theirs: &[Round], figure: impl Fn(&Round) -> f64) -> Self {
        let mut ratios: Vec<f64> = ours.iter().zip(theirs).map(|(a, b)| figure(a) / figure(b)).collect();
        let median = median(&mut ratios);
        Self { lowest: ratios[0], median, highest: ratios[ratios.len() - 1] }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.median, self.lowest, self.highest)
    }
}

/// A round in which the generator was not the limit.
fn sound_round(options: &Options, kind: Kind, mode: Mode, sessions: u32) -> Result<Round> {
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        let (round, outcome) = round(options, kind, mode, sessions)?;
        if outcome.arrived < outcome.sent * 9 / 10 {
            return Err(format!(
                "{}: {} of {} packets arrived, {} were wrong",
                kind.name(),
                outcome.arrived,
                outcome.sent,
                outcome.wrong
            ));
        }
        let late = outcome.late_ticks * 1_000 / outcome.ticks.max(1);
        if late <= LATE_PER_MILLE_MAX && round.own_share <= OWN_SHARE_MAX {
            return Ok(round);
        }
        last = format!("{late} of 1,000 ticks late, {:.0} % busy", round.own_share * 100.0);
        eprintln!("void: the generator was the limit ({last}); {} {} {sessions}", kind.name(), mode.name());
    }
    Err(format!(
        "the generator was the limit {ATTEMPTS} times ({last}): fewer --sessions, or a quieter machine"
    ))
}

fn round(options: &Options, kind: Kind, mode: Mode, sessions: u32) -> Result<(Round, Outcome)> {
    let mut subject = Subject::start(kind, options.threads, address(20))?;
    let pids = subject.pids();
    let memory_before = cost::memory_kib(&pids);
    let mut traffic = Traffic::bind(address(10))?;
    for number in 0..sessions {
        let [a, b] = traffic.ends(number);
        let legs = subject.session(number, mode, a, b)?;
        traffic.add(number, &legs);
    }
    traffic.run(WARM_UP, &pids)?;
    let mut outcome = traffic.run(Duration::from_secs(options.seconds.into()), &pids)?;
    let memory = cost::memory_kib(&pids).saturating_sub(memory_before);
    outcome.delays_ns.sort_unstable();
    outcome.jitter_ns.sort_unstable();
    outcome.window_p99_ns.sort_unstable();
    let round = Round {
        cost_us: outcome.relay_cpu * 1e6 / outcome.arrived.max(1) as f64,
        lost_per_mille: outcome.sent.saturating_sub(outcome.arrived) as f64 * 1e3
            / outcome.sent.max(1) as f64,
        wrong: outcome.wrong,
        delay_us: [500, 990, 999].map(|at| at_mille(&outcome.delays_ns, at)),
        window_p99_us: at_mille(&outcome.window_p99_ns, 500),
        jitter_us: [500, 990].map(|at| at_mille(&outcome.jitter_ns, at)),
        memory: memory as f64 / f64::from(sessions),
        own_share: outcome.own_cpu / outcome.wall,
        relay_share: outcome.relay_cpu / outcome.wall,
    };
    Ok((round, outcome))
}

fn print(kind: Kind, mode: Mode, sessions: u32, rounds: &[Round]) {
    let of = |field: &dyn Fn(&Round) -> f64| median(&mut rounds.iter().map(field).collect::<Vec<_>>());
    let delay = [0, 1, 2].map(|at| of(&|round| round.delay_us[at]));
    let jitter = [0, 1].map(|at| of(&|round| round.jitter_us[at]));
    let worst = rounds.iter().map(|round| round.lost_per_mille).fold(0.0, f64::max);
    let wrong: u64 = rounds.iter().map(|round| round.wrong).sum();
    println!(
        "{:<10} {sessions:>8} {:<10} {:>9.2}   {:>7.0} /{:>6.0} /{:>6.0}   {:>8.0}      {:>6.0} /{:>6.0}     {worst:>6.3}   {:>9.1}       {:>3.0} % / {:.0} %{}",
        mode.name(),
        kind.name(),
        of(&|round| round.cost_us),
        delay[0],
        delay[1],
        delay[2],
        of(&|round| round.window_p99_us),
        jitter[0],
        jitter[1],
        of(&|round| round.memory),
        of(&|round| round.relay_share) * 100.0,
        of(&|round| round.own_share) * 100.0,
        if wrong > 0 { format!("   {wrong} wrong packets") } else { String::new() },
    );
}

/// In a network of this run's own.
fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 64 + (std::process::id() % 128) as u8, 77, host)
}

fn at_mille(sorted: &[u32], mille: usize) -> f64 {
    let at = (sorted.len() * mille / 1_000).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(f64::NAN, |ns| f64::from(*ns) / 1e3)
}
