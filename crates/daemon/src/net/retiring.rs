//! Connections that are to end: nothing new begins on them, what is on them may go on for a while. Owns who still has something
//! there and when it is over; refuses to close them, which is their shard's business.

use std::time::{Duration, Instant};

use b2bua::engine::Newcomers;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use sip::FlowKey;

/// How long such a connection stays when nothing is on it: messages between shards have arrived by then.
pub const RETIRED_REST: Duration = Duration::from_secs(2);
/// How long the calls of a far end that would not be let in any more may go on.
pub const REFUSED_MAX: Duration = Duration::from_secs(300);

/// Every shard says from time to time whether anything of its own is on such a connection.
struct Retired {
    /// One bit for each shard that has nothing there.
    idle: u64,
    /// Since when none has.
    since: Option<Instant>,
    /// When it ends, whatever is on it.
    until: Option<Instant>,
}

/// Whether a shard has calls or transactions on a connection.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Holds {
    /// None.
    Nothing,
    /// Some.
    Something,
}

/// The table.
#[derive(Default)]
pub struct Retiring {
    flows: DashMap<FlowKey, Retired>,
}

impl Retiring {
    /// A connection is to end; `false`: that was known.
    pub fn begin(&self, now: Instant, flow: FlowKey, newcomers: Newcomers) -> bool {
        let until = (newcomers == Newcomers::Refused).then(|| now + REFUSED_MAX);
        match self.flows.entry(flow) {
            Entry::Occupied(_) => false,
            Entry::Vacant(vacant) => {
                vacant.insert(Retired { idle: 0, since: None, until });
                true
            }
        }
    }

    /// It has ended.
    pub fn end(&self, flow: FlowKey) {
        self.flows.remove(&flow);
    }

    /// Whether that one is to end.
    pub fn has(&self, flow: FlowKey) -> bool {
        self.flows.contains_key(&flow)
    }

    /// Those that wait for their end.
    pub fn all(&self) -> Vec<FlowKey> {
        match self.flows.is_empty() {
            true => Vec::new(),
            false => self.flows.iter().map(|entry| *entry.key()).collect(),
        }
    }

    /// What a shard has on one; `true`: no shard has had anything there for `RETIRED_REST`, or its time is up.
    pub fn is_done(&self, now: Instant, flow: FlowKey, shard: u16, shards: usize, holds: Holds) -> bool {
        let Some(mut retired) = self.flows.get_mut(&flow) else { return false };
        match holds {
            Holds::Nothing => retired.idle |= 1 << shard,
            Holds::Something => retired.idle &= !(1 << shard),
        }
        let is_idle = usize::try_from(retired.idle.count_ones()).is_ok_and(|idle| idle >= shards);
        retired.since = is_idle.then(|| retired.since.unwrap_or(now));
        let has_rested =
            retired.since.is_some_and(|since| now.saturating_duration_since(since) >= RETIRED_REST);
        has_rested || retired.until.is_some_and(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: FlowKey = FlowKey(7);

    #[test]
    fn a_connection_ends_when_no_shard_has_had_anything_on_it_for_a_while() {
        let (table, start) = (Retiring::default(), Instant::now());
        assert!(table.begin(start, FLOW, Newcomers::Served) && !table.begin(start, FLOW, Newcomers::Served));
        assert_eq!((table.all(), table.has(FLOW)), (vec![FLOW], true));
        let done = |after: Duration, shard, holds| table.is_done(start + after, FLOW, shard, 2, holds);
        assert!(!done(Duration::ZERO, 0, Holds::Nothing));
        assert!(!done(RETIRED_REST, 0, Holds::Nothing), "the other shard has not spoken");
        assert!(!done(RETIRED_REST, 1, Holds::Nothing));
        assert!(!done(RETIRED_REST * 2, 0, Holds::Something), "it began again");
        assert!(!done(RETIRED_REST * 2, 0, Holds::Nothing));
        assert!(done(RETIRED_REST * 3, 0, Holds::Nothing));
        assert!(!done(REFUSED_MAX * 9, 0, Holds::Something), "its calls may go on");
        table.end(FLOW);
        assert!(table.all().is_empty() && !done(REFUSED_MAX * 9, 0, Holds::Nothing));
    }

    #[test]
    fn the_calls_of_a_far_end_that_is_not_let_in_any_more_have_their_time() {
        let (table, start) = (Retiring::default(), Instant::now());
        table.begin(start, FLOW, Newcomers::Refused);
        let done = |after: Duration| table.is_done(start + after, FLOW, 0, 1, Holds::Something);
        assert!(!done(REFUSED_MAX - Duration::from_millis(1)));
        assert!(done(REFUSED_MAX));
    }
}
