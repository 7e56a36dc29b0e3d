//! What is wrong with the servers of a running lab now: set by hand or by the plan of its file, gone by itself, by hand or with the lab. Owns that
//! table and its clock; the words are `config::lab_file::faults`'.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use lab::LabUm;
use lab::shell::LabError;
use lab::um::Fault;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::lab_file::{Part, Planned};

/// The lab and what is wrong with it.
pub(super) struct Site {
    /// `None` once it was stopped.
    pub(super) um: Option<LabUm>,
    in_force: Vec<InForce>,
    next: u64,
}

/// A fault in force.
#[derive(Clone, Debug)]
struct InForce {
    id: u64,
    server: String,
    part: Part,
    word: &'static str,
    fault: Fault,
    until: Option<Instant>,
}

/// A fault in force, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultStatus {
    /// Server.
    pub server: String,
    /// Which part of it.
    pub part: String,
    /// Its word.
    pub fault: String,
    /// Seconds until it goes by itself.
    pub left_secs: Option<u64>,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) server: String,
    pub(super) part: Part,
    pub(super) word: &'static str,
    pub(super) fault: Fault,
    pub(super) lasts: Option<Duration>,
}

impl Site {
    pub(super) fn new(um: LabUm) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { um: Some(um), in_force: Vec::new(), next: 0 }))
    }

    /// What is wrong now.
    pub(super) fn faults(&self, now: Instant) -> Vec<FaultStatus> {
        let left = |until: Instant| until.saturating_duration_since(now).as_secs_f64().ceil();
        let told = |one: &InForce| FaultStatus {
            server: one.server.clone(),
            part: one.part.word().to_owned(),
            fault: one.word.to_owned(),
            left_secs: one.until.map(|until| left(until) as u64),
        };
        self.in_force.iter().map(told).collect()
    }

    /// Takes everything away, or what is wrong with one server; how many faults that were.
    pub(super) async fn clear(&mut self, server: Option<&str>) -> Result<usize, LabError> {
        let is_meant = |one: &InForce| server.is_none_or(|name| one.server == name);
        let (gone, left) = std::mem::take(&mut self.in_force).into_iter().partition(is_meant);
        self.in_force = left;
        let gone: Vec<InForce> = gone;
        for one in &gone {
            self.apply(&one.server, Part::All, Fault::None).await?;
        }
        Ok(gone.len())
    }

    async fn apply(&mut self, server: &str, part: Part, fault: Fault) -> Result<(), LabError> {
        let Some(um) = &mut self.um else { return Ok(()) };
        match part {
            Part::All => um.set_fault(server, fault).await,
            Part::Workers => um.set_worker_fault(server, fault).await,
        }
    }

    /// Puts a fault in; of one server and part the last one counts, and all of a server covers its workers.
    async fn put(&mut self, wish: Wish) -> Result<u64, LabError> {
        let Wish { server, part, word, fault, lasts } = wish;
        self.apply(&server, part, fault.clone()).await?;
        self.in_force.retain(|one| one.server != server || (part == Part::Workers && one.part == Part::All));
        self.next += 1;
        if fault != Fault::None {
            let until = lasts.map(|lasts| Instant::now() + lasts);
            self.in_force.push(InForce { id: self.next, server, part, word, fault, until });
        } else if part == Part::Workers {
            self.restore(&server).await?;
        }
        Ok(self.next)
    }

    /// The workers go back to what is wrong with all of their server.
    async fn restore(&mut self, server: &str) -> Result<(), LabError> {
        let whole = self.in_force.iter().find(|one| one.server == server && one.part == Part::All);
        let fault = whole.map_or(Fault::None, |one| one.fault.clone());
        self.apply(server, Part::Workers, fault).await
    }

    /// Its time is over, unless another took its place.
    async fn expire(&mut self, id: u64) {
        let Some(at) = self.in_force.iter().position(|one| one.id == id) else { return };
        let InForce { server, part, .. } = self.in_force.remove(at);
        let gone = match part {
            Part::All => self.apply(&server, Part::All, Fault::None).await,
            Part::Workers => self.restore(&server).await,
        };
        if let Err(why) = gone {
            tracing::warn!(event = "lab", %server, %why, "a fault does not go");
        }
    }
}

/// Puts a fault in, and takes it out when its time is over.
pub(super) async fn set(site: &Arc<Mutex<Site>>, wish: Wish) -> Result<(), LabError> {
    let lasts = wish.lasts;
    let id = site.lock().await.put(wish).await?;
    if let Some(lasts) = lasts {
        let site = Arc::downgrade(site);
        tokio::spawn(async move {
            tokio::time::sleep(lasts).await;
            if let Some(site) = site.upgrade() {
                site.lock().await.expire(id).await;
            }
        });
    }
    Ok(())
}

/// Carries out a plan until the lab is gone.
pub(super) async fn carry_out(site: Weak<Mutex<Site>>, plan: Vec<Planned>, seed: u64) {
    let start = Instant::now();
    let mut schedule = Schedule::new(&plan, seed);
    while let Some((at, index)) = schedule.next() {
        tokio::time::sleep_until(start + at).await;
        let (Some(site), Some(planned)) = (site.upgrade(), plan.get(index)) else { return };
        let Planned { server, part, word, fault, lasts, .. } = planned.clone();
        let told = format!("{word} in {server} ({})", part.word());
        match set(&site, Wish { server, part, word, fault, lasts }).await {
            Ok(()) => tracing::info!(event = "lab", "by the plan: {told}"),
            Err(why) => tracing::warn!(event = "lab", %why, "not by the plan: {told}"),
        }
    }
}

/// When the faults of a plan come: the same for the same seed.
struct Schedule<'p> {
    plan: &'p [Planned],
    /// Next times, soonest first, with entry and number of the time.
    due: BinaryHeap<Reverse<(Duration, usize, u32)>>,
    random: Vec<StdRng>,
}

impl<'p> Schedule<'p> {
    fn new(plan: &'p [Planned], seed: u64) -> Self {
        let random = (0..plan.len() as u64).map(|index| StdRng::seed_from_u64(seed ^ index.rotate_left(32)));
        let mut schedule = Self { plan, due: BinaryHeap::new(), random: random.collect() };
        for index in 0..plan.len() {
            schedule.push(index, 0);
        }
        schedule
    }

    fn push(&mut self, index: usize, number: u32) {
        let (Some(planned), Some(random)) = (self.plan.get(index), self.random.get_mut(index)) else {
            return;
        };
        let jitter = planned.jitter.mul_f64(random.random_range(0.0..=1.0));
        let at = planned.at + planned.every.unwrap_or_default() * number + jitter;
        self.due.push(Reverse((at, index, number)));
    }

    /// The next fault and when it comes.
    fn next(&mut self) -> Option<(Duration, usize)> {
        let Reverse((at, index, number)) = self.due.pop()?;
        if self.plan.get(index).is_some_and(|planned| planned.every.is_some()) {
            self.push(index, number.saturating_add(1));
        }
        Some((at, index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(at: u64, jitter: u64, every: Option<u64>) -> Planned {
        let millis = Duration::from_millis;
        Planned {
            at: millis(at),
            jitter: millis(jitter),
            every: every.map(millis),
            lasts: None,
            server: "mbx01.contoso.test".to_owned(),
            part: Part::All,
            word: "dead",
            fault: Fault::Dead,
        }
    }

    fn times(plan: &[Planned], seed: u64, count: usize) -> Vec<(u128, usize)> {
        let mut schedule = Schedule::new(plan, seed);
        std::iter::from_fn(|| schedule.next())
            .take(count)
            .map(|(at, index)| (at.as_millis(), index))
            .collect()
    }

    #[test]
    fn a_plan_comes_in_the_order_of_its_times_and_again_where_it_says_so() {
        let plan = [planned(300, 0, None), planned(100, 0, Some(150))];
        assert_eq!(times(&plan, 1, 4), [(100, 1), (250, 1), (300, 0), (400, 1)]);
        assert_eq!(times(&plan[..1], 1, 4), [(300, 0)], "once");
    }

    #[test]
    fn one_seed_gives_one_order_of_times() {
        let plan = [planned(0, 5_000, Some(1_000)), planned(0, 5_000, Some(1_000))];
        let first = times(&plan, 7, 20);
        assert_eq!(first, times(&plan, 7, 20));
        assert_ne!(first, times(&plan, 8, 20));
        assert!(first.iter().all(|(at, _)| *at <= 5_000 + 20 * 1_000), "{first:?}");
    }
}
