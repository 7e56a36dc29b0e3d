//! Which UM server gets the next attempt. Owns health marks with their reasons and history, an operator's wishes, call
//! counts and the round-robin position; knows neither flows nor messages.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crate::engine::ledger::{give, take_below, taken};
use crate::engine::{Counted, Ledger, OneShard};
use crate::policy::{Selection, Server, ServerStatus};
use crate::verdict::clean;

/// A server that failed is left out of choice for this long, unless no other is left.
pub const DOWN_FOR: Duration = Duration::from_secs(15);
/// One that fails again at its first attempt afterwards rests twice as long each time, at most this long: a server that comes
/// and goes costs fewer and fewer calls their first attempt.
pub const DOWN_FOR_MAX: Duration = Duration::from_secs(120);
/// Changes of one server that are remembered.
pub const CHANGES_MAX: usize = 16;

/// What became of a server, or was wished for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It answered after it had failed.
    Up,
    /// It failed and is left out for a while.
    Resting,
    /// An operator lets it take calls, whatever the configuration says.
    Enabled,
    /// An operator lets it keep its calls and get no new ones.
    Draining,
    /// An operator took it out.
    Disabled,
}

impl Turn {
    /// The wish of an operator for that status.
    pub fn wished(status: ServerStatus) -> Self {
        match status {
            ServerStatus::Enabled => Self::Enabled,
            ServerStatus::NoNewCalls => Self::Draining,
            ServerStatus::Disabled => Self::Disabled,
        }
    }
}

/// A change of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Instant,
    /// To what.
    pub to: Turn,
    /// Why, cleaned.
    pub why: String,
}

/// Health and load of every server used so far, by lower-case name.
pub struct ServerTable {
    states: BTreeMap<String, ServerState>,
    positions: BTreeMap<String, usize>,
    ledger: Arc<dyn Ledger>,
}

/// One server. Its calls are counted over all shards; whether it is down, each shard finds out for itself.
#[derive(Clone, Debug)]
pub struct ServerState {
    load: Arc<AtomicU64>,
    /// Left out of choice until then.
    pub down_until: Option<Instant>,
    /// What an operator wants, beside the configuration.
    pub wish: Option<ServerStatus>,
    /// Its last changes, oldest first.
    pub changes: VecDeque<Change>,
    /// Rests one after the other, without an answer between them.
    rests: u32,
}

impl ServerState {
    /// Calls on it now.
    pub fn calls(&self) -> usize {
        taken(&self.load)
    }

    fn turn(&mut self, at: Instant, to: Turn, why: &str) {
        if self.changes.len() >= CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back(Change { at, to, why: clean(why) });
    }
}

impl Default for ServerTable {
    fn default() -> Self {
        Self::new(Arc::new(OneShard))
    }
}

impl ServerTable {
    /// A table that counts in this ledger.
    pub fn new(ledger: Arc<dyn Ledger>) -> Self {
        Self { states: BTreeMap::new(), positions: BTreeMap::new(), ledger }
    }

    fn state(&mut self, name: &str) -> &mut ServerState {
        let name = lower(name);
        let ledger = &self.ledger;
        self.states.entry(name.into_owned()).or_insert_with_key(|name| ServerState {
            load: ledger.counter(Counted::Server(name)),
            down_until: None,
            wish: None,
            changes: VecDeque::new(),
            rests: 0,
        })
    }

    /// Picks a server of `candidates` that was not `tried`: healthy with free capacity first, then
    /// one that is marked down but may have come back; never one without capacity.
    pub fn choose<'a>(
        &mut self,
        now: Instant,
        plan: &str,
        candidates: &[&'a Server],
        tried: &[String],
        selection: Selection,
    ) -> Option<&'a Server> {
        for server in candidates {
            // Calls of other shards count from the first choice on.
            if !self.states.contains_key(&*lower(&server.name)) {
                self.state(&server.name);
            }
        }
        let usable = |server: &&&Server| {
            self.takes_calls(server)
                && self.calls(&server.name) < server.max_calls_allowed
                && !tried.iter().any(|name| name.eq_ignore_ascii_case(&server.name))
        };
        let open: Vec<&'a Server> = candidates.iter().filter(usable).copied().collect();
        let healthy: Vec<&'a Server> = open.iter().copied().filter(|s| !self.is_down(&s.name, now)).collect();
        let pick_from = if healthy.is_empty() { open } else { healthy };
        match selection {
            Selection::Priority => pick_from.first().copied(),
            Selection::LeastCalls => pick_from.into_iter().min_by_key(|s| self.calls(&s.name)),
            Selection::RoundRobin => self.next_in_turn(plan, candidates, &pick_from),
        }
    }

    // The position counts over the configured list, so that a failing server does not shift the turn of others.
    fn next_in_turn<'a>(
        &mut self,
        plan: &str,
        all: &[&Server],
        pick_from: &[&'a Server],
    ) -> Option<&'a Server> {
        let position = self.positions.entry(plan.to_ascii_lowercase()).or_default();
        for step in 0..all.len() {
            let index = (*position + step) % all.len();
            let Some(wanted) = all.get(index) else { continue };
            if let Some(found) = pick_from.iter().find(|s| s.name.eq_ignore_ascii_case(&wanted.name)) {
                *position = index + 1;
                return Some(found);
            }
        }
        None
    }

    /// A call goes to this server if it has fewer than `limit`.
    pub fn take_below(&mut self, name: &str, limit: usize) -> bool {
        take_below(&self.state(name).load, limit).is_ok()
    }

    /// A call goes to this server, whatever it has already: a redirect led there.
    pub fn take(&mut self, name: &str) {
        self.take_below(name, usize::MAX);
    }

    /// A call left this server.
    pub fn give(&mut self, name: &str) {
        let state = self.state(name);
        debug_assert!(state.calls() > 0, "a call left a server it was not on");
        give(&state.load);
    }

    /// Marks a server down; true when it was up before.
    pub fn failed(&mut self, now: Instant, name: &str, why: &str) -> bool {
        let was_up = !self.is_down(name, now);
        let state = self.state(name);
        if was_up {
            let longer = 1 << state.rests.min(16);
            state.down_until = Some(now + (DOWN_FOR * longer).min(DOWN_FOR_MAX));
            state.rests += 1;
            state.turn(now, Turn::Resting, why);
        }
        was_up
    }

    /// Marks a server up; true when it was marked down before.
    pub fn answered(&mut self, now: Instant, name: &str) -> bool {
        let Some(state) = self.states.get_mut(&*lower(name)) else { return false };
        state.rests = 0;
        let was_down = state.down_until.take().is_some();
        if was_down {
            state.turn(now, Turn::Up, "it answered");
        }
        was_down
    }

    /// An operator's wish, which stands above the configuration until the next one. Enabling ends a rest.
    pub fn wish(&mut self, now: Instant, name: &str, status: ServerStatus) {
        let state = self.state(name);
        state.wish = Some(status);
        if status == ServerStatus::Enabled {
            state.down_until = None;
            state.rests = 0;
        }
        state.turn(now, Turn::wished(status), "an operator");
    }

    /// Whether it gets new calls, by configuration and operator.
    pub fn takes_calls(&self, server: &Server) -> bool {
        self.status(server) == ServerStatus::Enabled
    }

    fn status(&self, server: &Server) -> ServerStatus {
        self.states.get(&*lower(&server.name)).and_then(|state| state.wish).unwrap_or(server.status)
    }

    /// Why a server gets no call now, in a few words; `None`: it might get one.
    pub fn hindrance(&self, server: &Server) -> Option<String> {
        let calls = self.calls(&server.name);
        match self.status(server) {
            ServerStatus::NoNewCalls => Some("takes no new calls".to_owned()),
            ServerStatus::Disabled => Some("is disabled".to_owned()),
            ServerStatus::Enabled if calls >= server.max_calls_allowed => {
                Some(format!("has {calls} calls of {} allowed", server.max_calls_allowed))
            }
            ServerStatus::Enabled => None,
        }
    }

    /// Calls on a server now.
    pub fn calls(&self, name: &str) -> usize {
        self.states.get(&*lower(name)).map_or(0, ServerState::calls)
    }

    /// Every server used so far, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &ServerState)> {
        self.states.iter()
    }

    fn is_down(&self, name: &str, now: Instant) -> bool {
        let state = self.states.get(&*lower(name));
        state.and_then(|s| s.down_until).is_some_and(|until| until > now)
    }
}

/// Configured names are in lower case already.
fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Dialect, PortSource, Profile, ServerRole};

    fn server(name: &str, calls: usize) -> Server {
        Server {
            name: name.to_owned(),
            addresses: Vec::new(),
            tcp_port: 5060,
            tls_port: 5061,
            port_source: PortSource::Configured,
            worker_ports: Vec::new(),
            max_calls_allowed: calls,
            status: ServerStatus::Enabled,
            role: ServerRole::CallRouter,
            media_networks: [].into(),
            dialect: Dialect::of(Profile::Exum2016),
        }
    }

    #[allow(clippy::disallowed_methods)]
    fn start() -> Instant {
        Instant::now()
    }

    fn turn<'a>(
        table: &mut ServerTable,
        now: Instant,
        of: &[&'a Server],
        tried: &[String],
    ) -> Option<&'a str> {
        table.choose(now, "DP", of, tried, Selection::RoundRobin).map(|s| s.name.as_str())
    }

    #[test]
    fn servers_take_turns_and_a_tried_one_is_left_out() {
        let (one, two) = (server("a", 9), server("b", 9));
        let all = [&one, &two];
        let mut table = ServerTable::default();
        let now = start();
        let got: Vec<_> = (0..4).map(|_| turn(&mut table, now, &all, &[])).collect();
        assert_eq!(got, [Some("a"), Some("b"), Some("a"), Some("b")]);
        assert_eq!(turn(&mut table, now, &all, &["A".to_owned()]), Some("b"));
        assert_eq!(turn(&mut table, now, &all, &["A".to_owned(), "b".to_owned()]), None);
    }

    #[test]
    fn a_failed_server_waits_unless_it_is_the_last() {
        let (one, two) = (server("a", 9), server("b", 9));
        let all = [&one, &two];
        let mut table = ServerTable::default();
        let now = start();
        assert!(table.failed(now, "A", "refused"));
        assert!(!table.failed(now, "a", "refused"));
        assert_eq!(turn(&mut table, now, &all, &[]), Some("b"));
        assert_eq!(turn(&mut table, now, &all, &[]), Some("b"));
        assert_eq!(turn(&mut table, now, &all, &["b".to_owned()]), Some("a"));
        let later = now + DOWN_FOR;
        let got: Vec<_> = (0..2).map(|_| turn(&mut table, later, &all, &[])).collect();
        assert_eq!(got, [Some("b"), Some("a")]);
        assert!(table.answered(later, "a"));
    }

    #[test]
    fn a_full_server_gets_no_call_even_when_it_is_the_only_one() {
        let one = server("a", 1);
        let mut table = ServerTable::default();
        table.take("a");
        assert_eq!(turn(&mut table, start(), &[&one], &[]), None);
        table.give("a");
        assert_eq!(turn(&mut table, start(), &[&one], &[]), Some("a"));
    }

    #[test]
    fn a_server_that_fails_at_every_attempt_rests_longer_and_longer_and_an_answer_forgives() {
        let mut table = ServerTable::default();
        let mut now = start();
        let mut rests = Vec::new();
        for _ in 0..6 {
            assert!(table.failed(now, "a", "refused"));
            assert!(!table.failed(now, "a", "others were on their way"), "one rest for all that failed");
            let until = table.states["a"].down_until.unwrap();
            rests.push((until - now).as_secs());
            now = until;
        }
        assert_eq!(rests, [15, 30, 60, 120, 120, 120]);
        assert!(table.answered(now, "A") && !table.answered(now, "A"));
        assert!(table.failed(now, "a", "refused"));
        assert_eq!(table.states["a"].down_until, Some(now + DOWN_FOR));
    }

    #[test]
    fn the_history_tells_what_happened_and_why_and_is_bounded() {
        let mut table = ServerTable::default();
        let now = start();
        table.failed(now, "a", "connect: refused\r\n");
        table.answered(now, "a");
        let told: Vec<_> = table.states["a"].changes.iter().map(|c| (c.to, c.why.as_str())).collect();
        assert_eq!(told, [(Turn::Resting, "connect: refused??"), (Turn::Up, "it answered")]);
        for _ in 0..100 {
            table.wish(now, "a", ServerStatus::Enabled);
        }
        assert_eq!(table.states["a"].changes.len(), CHANGES_MAX);
    }

    #[test]
    fn an_operator_drains_disables_and_enables_above_the_configuration() {
        let (one, mut two) = (server("a", 9), server("b", 9));
        two.status = ServerStatus::Disabled;
        let all = [&one, &two];
        let mut table = ServerTable::default();
        let now = start();
        assert_eq!(turn(&mut table, now, &all, &[]), Some("a"));
        table.wish(now, "A", ServerStatus::NoNewCalls);
        assert_eq!(turn(&mut table, now, &all, &[]), None);
        assert_eq!(table.hindrance(&one).as_deref(), Some("takes no new calls"));
        assert_eq!(table.hindrance(&two).as_deref(), Some("is disabled"));
        table.wish(now, "b", ServerStatus::Enabled);
        assert_eq!(turn(&mut table, now, &all, &[]), Some("b"));
        table.failed(now, "b", "refused");
        table.wish(now, "b", ServerStatus::Enabled);
        assert!(!table.is_down("b", now), "a rest ends when the operator says so");
        table.wish(now, "b", ServerStatus::Disabled);
        table.wish(now, "a", ServerStatus::Enabled);
        assert_eq!(turn(&mut table, now, &all, &[]), Some("a"));
    }
}
