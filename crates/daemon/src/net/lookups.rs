//! Which names are being looked up and who waits for them, over all shards. Owns the bounds: one look-up at a time for a
//! question, so many questions at once, and a short memory of failures, so that a name server which is silent or does not know
//! costs one look-up and not one for each call. Answers that carry a lifetime of their own are the resolver's to remember.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use b2bua::engine::{QueryKey, Question, ResolveFailure, ResolveFailureKind};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

/// Questions under way at once.
const ASKING_MAX: usize = 256;
/// Calls that may wait for one answer.
const WAITING_MAX: usize = 4_096;
/// Questions remembered, under way or failed.
const QUESTIONS_MAX: usize = 1_024;
/// How long a failure is believed. What RFC 2308 lets be cached for longer, the lack of a name by its SOA, the resolver keeps.
const FAILED_FOR: Duration = Duration::from_secs(2);

/// Which shard waits, and for which question of its own.
pub type Asker = (u16, QueryKey);

/// What the look-up came to.
pub type Located = Result<Vec<SocketAddr>, ResolveFailure>;

enum Slot {
    Asking(Vec<Asker>),
    Failed { until: Instant, why: ResolveFailure },
}

/// What to do about a question.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// Look it up and tell [`Lookups::answered`].
    Ask,
    /// Somebody asks already; the answer is for all.
    Wait,
    /// It failed a moment ago.
    Failed(ResolveFailure),
    /// Too many ask, or wait.
    Refuse(ResolveFailure),
}

/// The table of questions.
#[derive(Default)]
pub struct Lookups {
    slots: DashMap<Question, Slot>,
    asking: AtomicUsize,
}

impl Lookups {
    /// A question of a shard.
    pub fn ask(&self, now: Instant, asker: Asker, question: &Question) -> Asked {
        if self.slots.len() >= QUESTIONS_MAX {
            self.slots.retain(|_, slot| !matches!(slot, Slot::Failed { until, .. } if *until <= now));
        }
        let is_full = self.slots.len() >= QUESTIONS_MAX;
        match self.slots.entry(question.clone()) {
            Entry::Occupied(mut slot) => match slot.get_mut() {
                Slot::Asking(waiting) if waiting.len() >= WAITING_MAX => Asked::Refuse(over(question)),
                Slot::Asking(waiting) => {
                    waiting.push(asker);
                    Asked::Wait
                }
                Slot::Failed { until, why } if now < *until => Asked::Failed(why.clone()),
                Slot::Failed { .. } if self.takes_place() => {
                    slot.insert(Slot::Asking(vec![asker]));
                    Asked::Ask
                }
                Slot::Failed { .. } => Asked::Refuse(over(question)),
            },
            Entry::Vacant(vacant) if !is_full && self.takes_place() => {
                vacant.insert(Slot::Asking(vec![asker]));
                Asked::Ask
            }
            Entry::Vacant(_) => Asked::Refuse(over(question)),
        }
    }

    /// The answer: who waited for it.
    pub fn answered(&self, now: Instant, question: &Question, answer: &Located) -> Vec<Asker> {
        let former = match answer {
            Ok(_) => self.slots.remove(question).map(|(_, slot)| slot),
            Err(why) => {
                let failed = Slot::Failed { until: now + FAILED_FOR, why: why.clone() };
                self.slots.insert(question.clone(), failed)
            }
        };
        match former {
            Some(Slot::Asking(waiting)) => {
                self.asking.fetch_sub(1, Ordering::AcqRel);
                waiting
            }
            Some(Slot::Failed { .. }) | None => Vec::new(),
        }
    }

    fn takes_place(&self) -> bool {
        let below = |count: usize| (count < ASKING_MAX).then_some(count + 1);
        self.asking.fetch_update(Ordering::AcqRel, Ordering::Acquire, below).is_ok()
    }
}

fn over(question: &Question) -> ResolveFailure {
    let detail = format!("too many look-ups are under way to ask for {}", question.name);
    ResolveFailure { kind: ResolveFailureKind::Failed, detail }
}

#[cfg(test)]
mod tests {
    use b2bua::policy::PortSource;
    use sip::Transport;

    use super::*;

    fn question(name: &str) -> Question {
        let (transport, port_source) = (Transport::Tls, PortSource::Configured);
        Question { name: name.to_owned(), transport, port: 5061, port_source }
    }

    fn silent() -> Located {
        let detail = String::from("no name server answered");
        Err(ResolveFailure { kind: ResolveFailureKind::Silent, detail })
    }

    #[test]
    fn one_question_is_asked_once_and_its_answer_is_for_all_who_wait() {
        let (lookups, now, name) = (Lookups::default(), Instant::now(), question("pool01.contoso.test"));
        assert_eq!(lookups.ask(now, (0, QueryKey(1)), &name), Asked::Ask);
        assert_eq!(lookups.ask(now, (2, QueryKey(1)), &name), Asked::Wait);
        let other = Question { port: 5063, ..name.clone() };
        assert_eq!(lookups.ask(now, (0, QueryKey(2)), &other), Asked::Ask);
        assert_eq!(lookups.answered(now, &name, &Ok(Vec::new())), [(0, QueryKey(1)), (2, QueryKey(1))]);
        assert_eq!(lookups.ask(now, (0, QueryKey(3)), &name), Asked::Ask, "the resolver remembers answers");
        for known in [&name, &other] {
            lookups.answered(now, known, &Ok(Vec::new()));
        }
        assert_eq!((lookups.slots.len(), lookups.asking.into_inner()), (0, 0));
    }

    #[test]
    fn a_failure_is_believed_for_a_moment_and_then_asked_again() {
        let (lookups, now, name) = (Lookups::default(), Instant::now(), question("pool01.contoso.test"));
        lookups.ask(now, (0, QueryKey(1)), &name);
        assert_eq!(lookups.answered(now, &name, &silent()), [(0, QueryKey(1))]);
        let at = |millis| now + FAILED_FOR - Duration::from_millis(1) + Duration::from_millis(millis);
        assert_eq!(lookups.ask(at(0), (0, QueryKey(2)), &name), Asked::Failed(silent().unwrap_err()));
        assert_eq!(lookups.ask(at(1), (0, QueryKey(3)), &name), Asked::Ask);
    }

    #[test]
    fn questions_waiting_calls_and_remembered_failures_are_bounded() {
        let (lookups, now) = (Lookups::default(), Instant::now());
        let name = |number: usize| question(&format!("h{number}.contoso.test"));
        for number in 0..ASKING_MAX {
            assert_eq!(lookups.ask(now, (0, QueryKey(1)), &name(number)), Asked::Ask);
        }
        assert!(matches!(lookups.ask(now, (0, QueryKey(1)), &name(ASKING_MAX)), Asked::Refuse(_)));
        for _ in 1..WAITING_MAX {
            assert_eq!(lookups.ask(now, (1, QueryKey(7)), &name(0)), Asked::Wait);
        }
        assert!(matches!(lookups.ask(now, (1, QueryKey(7)), &name(0)), Asked::Refuse(_)));
        for number in 0..ASKING_MAX {
            lookups.answered(now, &name(number), &silent());
        }
        for number in ASKING_MAX..QUESTIONS_MAX {
            assert_eq!(lookups.ask(now, (0, QueryKey(1)), &name(number)), Asked::Ask);
            lookups.answered(now, &name(number), &silent());
        }
        assert!(matches!(lookups.ask(now, (0, QueryKey(1)), &name(QUESTIONS_MAX)), Asked::Refuse(_)));
        assert_eq!(lookups.ask(now + FAILED_FOR, (0, QueryKey(1)), &name(QUESTIONS_MAX)), Asked::Ask);
        assert_eq!(lookups.slots.len(), 1);
    }
}
