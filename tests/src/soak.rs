//! The simulated soak: months of calls with everything that goes wrong in months, told from one seed. Owns the calendar: when calls are placed and
//! when servers fail, connections break, the policy is swapped. Refuses to judge; the world's watch does, at every step.

use std::thread;
use std::time::Duration;

use lab::frontend::CallEnd;
use lab::um::Fault;

use crate::world::cast::Temper;
use crate::world::net::Weather;
use crate::world::random::Random;
use crate::world::site::{self, Caller};
use crate::world::{Act, Counts, Keeps, Settings, World};

const HOUR: Duration = Duration::from_secs(3600);
/// Share of a day's calls in each of its hours, in parts of [`SHARES`].
const DAY: [u64; 24] = [1, 1, 1, 1, 1, 2, 3, 6, 10, 12, 12, 10, 7, 9, 11, 11, 9, 7, 4, 3, 2, 2, 1, 1];
const SHARES: u64 = 127;
/// The calls of an hour fall into this many minutes of it, so that they meet.
const BUSY_MINUTES: u64 = 12;

/// What to simulate.
#[derive(Copy, Clone, Debug)]
pub struct Plan {
    /// Calls in all.
    pub calls: u64,
    /// Simulated days of every lane.
    pub days: u64,
    /// Worlds side by side, one thread each; they share nothing.
    pub lanes: u64,
    /// Seed of everything.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tale {
    /// Calls, records, answers.
    pub counts: Counts,
    /// Calls placed.
    pub placed: u64,
    /// Simulated time of the shortest lane.
    pub simulated: Duration,
    /// Steps of all lanes.
    pub steps: u64,
    /// Hash of everything that crossed the gateways' borders.
    pub hash: u64,
}

/// Runs it. `Err` is the story of a broken rule, which is also what a leak is: tables, timers, ports and books must be empty at the end.
pub fn run(plan: Plan) -> Result<Tale, String> {
    let lanes: Vec<Result<Tale, String>> = thread::scope(|scope| {
        let lane = |lane| scope.spawn(move || run_lane(plan, lane));
        let running: Vec<_> = (0..plan.lanes).map(lane).collect();
        let joined = running.into_iter().map(|lane| lane.join());
        joined.map(|told| told.unwrap_or_else(|_| Err("a lane panicked".to_owned()))).collect()
    });
    let mut sum = Tale { simulated: Duration::MAX, ..Tale::default() };
    for lane in lanes {
        let lane = lane?;
        sum.placed += lane.placed;
        sum.steps += lane.steps;
        sum.simulated = sum.simulated.min(lane.simulated);
        sum.hash = sum.hash.rotate_left(1) ^ lane.hash;
        sum.counts.outcomes += lane.counts.outcomes;
        sum.counts.records += lane.counts.records;
        sum.counts.answered += lane.counts.answered;
        sum.counts.plans += lane.counts.plans;
    }
    Ok(sum)
}

fn run_lane(plan: Plan, lane: u64) -> Result<Tale, String> {
    let mut random = Random::new(plan.seed.wrapping_mul(0x5851_f42d_4c95_7f2d) ^ lane);
    let calls = plan.calls / plan.lanes + u64::from(lane < plan.calls % plan.lanes);
    let mut world = World::new(settings(random.draw()));
    let mut placed = 0;
    for hour in 0..plan.days * 24 {
        let share: u64 = DAY[..=(hour % 24) as usize].iter().sum();
        let due = calls * ((hour / 24) * SHARES + share) / (plan.days * SHARES);
        let from = HOUR * hour as u32;
        place(&mut world, &mut random, from, placed..due);
        placed = due;
        bad_luck(&mut world, &mut random, from);
        world.run_until(from + HOUR)?;
    }
    world.at(world.now(), Act::Drain(Some(HOUR)));
    world.run()?;
    let counts = world.counts();
    if counts.outcomes != placed {
        return Err(format!("lane {lane}: {placed} calls placed, {} outcomes", counts.outcomes));
    }
    Ok(Tale { counts, placed, simulated: world.now(), steps: world.steps(), hash: world.hash() })
}

fn settings(seed: u64) -> Settings {
    let mut settings = Settings::fair(seed);
    settings.manners.temper = Temper::Mixed;
    settings.weather = Weather {
        cuts: 10,
        losses: 3,
        doubles: 3,
        jitter: Duration::from_millis(300),
        damages: 1,
        ..Weather::fair()
    };
    settings.slow_connects = 1;
    settings.refused_connects = 1;
    settings.media_failures = 1;
    settings.media_late = 1;
    settings.silent_calls = 1;
    settings.echoes = 1;
    settings.steps_max = u64::MAX;
    settings.keeps = Keeps::Counts;
    settings
}

fn place(world: &mut World, random: &mut Random, from: Duration, calls: std::ops::Range<u64>) {
    let minutes: Vec<u64> = (0..BUSY_MINUTES).map(|_| random.below(60)).collect();
    for call in calls {
        let minute = random.pick(&minutes).copied().unwrap_or_default();
        let at =
            from + Duration::from_secs(60 * minute) + random.between(Duration::ZERO, Duration::from_secs(60));
        let caller = random.pick(&Caller::WELCOME).copied().unwrap_or(Caller::Secured);
        let caller = if random.chance(1) { Caller::Mismatched } else { caller };
        let end = match random.below(20) {
            0 | 1 => CallEnd::CancelAfter(random.between(Duration::ZERO, Duration::from_millis(600))),
            2..=15 => CallEnd::HangUpAfter(random.between(Duration::ZERO, Duration::from_secs(20))),
            _ => CallEnd::WaitForBye,
        };
        world.at(at, Act::Call(call, caller, end));
    }
}

/// What may go wrong within an hour.
fn bad_luck(world: &mut World, random: &mut Random, from: Duration) {
    let (servers, workers) = (world.servers(), world.workers());
    let when = |random: &mut Random| from + random.between(Duration::ZERO, HOUR);
    for _ in 0..random.below(3) {
        let at = when(random);
        let Some(server) = random.pick(&servers).copied() else { continue };
        let fault = match random.below(6) {
            0 | 1 => Act::Fault(server, Fault::Dead),
            2 => Act::Fault(server, Fault::Unavailable),
            3 => Act::Fault(server, Fault::Silent),
            4 => Act::Fault(server, Fault::LoopingRedirect),
            _ => Act::BlackHole(server),
        };
        world.at(at, fault);
        world.at(
            at + random.between(Duration::from_secs(1), Duration::from_secs(120)),
            Act::Fault(server, Fault::None),
        );
    }
    for _ in 0..random.below(3) {
        world.at(when(random), Act::BreakServer);
    }
    for _ in 0..random.below(3) {
        if let Some(caller) = random.pick(&Caller::ALL).copied() {
            world.at(when(random), Act::BreakCaller(caller));
        }
    }
    for _ in 0..2 {
        if let (Some(caller), Some(worker)) = (random.pick(&Caller::ALL), random.pick(&workers)) {
            let (caller, worker) = (*caller, *worker);
            world.at(when(random), Act::Options(caller));
            world.at(when(random), Act::Notify(worker));
        }
    }
    if random.chance(20) {
        if let Some(worker) = random.pick(&workers).copied() {
            world.at(when(random), Act::HangUpAll(worker));
        }
        world.at(when(random), Act::HangUpOldest);
    }
    if random.chance(20) {
        let at = when(random);
        world.at(at, Act::Policy(site::smaller_policy()));
        let back = at + random.between(Duration::from_secs(1), HOUR);
        world.at(back, Act::Policy(std::sync::Arc::new(site::policy())));
    }
}
