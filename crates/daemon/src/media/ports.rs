//! The RTP ports of the gateway.
//!
//! Owns which even/odd port pairs are free, in use or resting. Refuses to know sockets: whether a port
//! can really be bound is found out by its user, who gives a bad one back.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;

/// The port pairs of a range, handed out in random order and rested before reuse.
#[derive(Debug)]
pub(super) struct Ports {
    free: Vec<u16>,
    /// Since when, the longest first.
    resting: VecDeque<(Instant, u16)>,
    rest: Duration,
    random: StdRng,
}

impl Ports {
    pub(super) fn new(range: &RangeInclusive<u16>, rest: Duration, random: StdRng) -> Self {
        Ports { free: pairs(range).collect(), resting: VecDeque::new(), rest, random }
    }

    /// An even port whose odd neighbour is free too; `None` when all are in use or resting.
    pub(super) fn take(&mut self, now: Instant) -> Option<u16> {
        self.wake(now);
        if self.free.is_empty() {
            return None;
        }
        let at = self.random.random_range(0..self.free.len());
        Some(self.free.swap_remove(at))
    }

    /// Takes a pair back; it rests from `now` on.
    pub(super) fn give_back(&mut self, now: Instant, port: u16) {
        self.resting.push_back((now, port));
    }

    /// Takes a pair back that nobody was told of; it needs no rest.
    pub(super) fn put_back(&mut self, port: u16) {
        self.free.push(port);
    }

    /// Pairs that rest.
    pub(super) fn resting(&mut self, now: Instant) -> usize {
        self.wake(now);
        self.resting.len()
    }

    /// Ends the rest of those that have rested.
    fn wake(&mut self, now: Instant) {
        while let Some((since, port)) = self.resting.front().copied() {
            if now.saturating_duration_since(since) < self.rest {
                break;
            }
            self.resting.pop_front();
            self.free.push(port);
        }
    }
}

/// The even ports of `range` whose odd neighbours lie in it too.
pub(super) fn pairs(range: &RangeInclusive<u16>) -> impl Iterator<Item = u16> + use<> {
    let last = *range.end();
    range.clone().filter(move |port| port % 2 == 0 && *port < last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn ports(range: RangeInclusive<u16>, rest: Duration) -> Ports {
        Ports::new(&range, rest, StdRng::seed_from_u64(7))
    }

    #[test]
    fn only_whole_pairs_within_the_range_are_handed_out() {
        let mut ports = ports(20_001..=20_008, Duration::ZERO);
        let now = Instant::now();
        let mut taken: Vec<u16> = std::iter::from_fn(|| ports.take(now)).collect();
        taken.sort_unstable();
        assert_eq!(taken, [20_002, 20_004, 20_006]);
    }

    #[test]
    fn the_end_of_the_port_space_is_a_pair_too() {
        let mut ports = ports(65_534..=65_535, Duration::ZERO);
        assert_eq!(ports.take(Instant::now()), Some(65_534));
    }

    #[test]
    fn a_pair_given_back_rests_before_it_is_handed_out_again() {
        let rest = Duration::from_secs(10);
        let mut ports = ports(20_000..=20_001, rest);
        let now = Instant::now();
        assert_eq!(ports.take(now), Some(20_000));
        ports.give_back(now, 20_000);
        assert_eq!(ports.take(now + rest - Duration::from_millis(1)), None);
        assert_eq!(ports.resting(now), 1);
        assert_eq!(ports.take(now + rest), Some(20_000));
    }

    #[test]
    fn the_order_is_not_that_of_the_numbers() {
        let mut ports = ports(20_000..=20_199, Duration::ZERO);
        let taken: Vec<u16> = std::iter::from_fn(|| ports.take(Instant::now())).collect();
        assert_eq!(taken.len(), 100);
        assert!(!taken.is_sorted());
    }
}
