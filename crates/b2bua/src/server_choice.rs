//! Which UM server gets the next attempt. Owns health marks with their reasons and history (failed calls, probes), an
//! operator's wishes, call counts and the round-robin position; knows neither flows nor messages.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use sip::Transport;

use crate::engine::ledger::{give, take_below, taken};
use crate::engine::{Counted, Ledger, OneShard};
use crate::health::{Calls, Door, DoorHealth, DoorTurn, Probed};
use crate::policy::{HealthRules, Selection, Server, ServerRole, ServerStatus};
use crate::verdict::clean;

/// A server that failed is left out of choice for this long, unless no other is left, or probes say earlier that it is back.
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
    /// It failed a call and is left out for a while.
    Resting,
    /// It fails probes and is left out until it does not.
    Down,
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
    /// When a probe was last answered; of [`Turn::Down`].
    pub last_good: Option<Instant>,
}

/// Health and load of every server used so far, by lower-case name.
pub struct ServerTable {
    states: BTreeMap<String, ServerState>,
    positions: BTreeMap<String, usize>,
    ledger: Arc<dyn Ledger>,
}

/// One server. Its calls are counted over all shards; what one shard finds out about it, the others are told.
#[derive(Clone, Debug)]
pub struct ServerState {
    load: Arc<AtomicU64>,
    /// Left out of choice until then, for a failed call.
    pub down_until: Option<Instant>,
    /// Its doors that are probed.
    pub doors: BTreeMap<(ServerRole, Transport), DoorHealth>,
    /// What an operator wants, beside the configuration.
    pub wish: Option<ServerStatus>,
    /// Its last changes, oldest first.
    pub changes: VecDeque<Change>,
    /// Rests one after the other, without an answer to a call between them, and when the last of them began.
    rests: u32,
    failed_at: Option<Instant>,
}

impl ServerState {
    /// Calls on it now.
    pub fn calls(&self) -> usize {
        taken(&self.load)
    }

    fn is_resting(&self, now: Instant) -> bool {
        self.down_until.is_some_and(|until| until > now)
    }

    // A server may answer OPTIONS and fail calls all the same: one that failed again right after a rest sits the next out.
    fn may_be_called_back(&self, now: Instant, probed: &Probed) -> bool {
        let since = |at: Option<Instant>| at >= self.failed_at;
        (self.rests <= 1 || !self.is_resting(now))
            && since(Some(probed.begun))
            && self.doors.values().all(|door| since(door.last_good) && !door.is_down)
    }

    fn turn(&mut self, at: Instant, to: Turn, why: &str) -> Change {
        self.remember(Change { at, to, why: clean(why), last_good: None })
    }

    fn remember(&mut self, change: Change) -> Change {
        if self.changes.len() >= CHANGES_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back(change.clone());
        change
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
            doors: BTreeMap::new(),
            wish: None,
            changes: VecDeque::new(),
            rests: 0,
            failed_at: None,
        })
    }

    /// Picks a server of `candidates` that was not `tried`, for a call over that transport: healthy with free capacity first,
    /// then one that is marked down but may have come back; never one without capacity.
    pub fn choose<'a>(
        &mut self,
        now: Instant,
        (plan, transport): (&str, Transport),
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
        let healthy: Vec<&'a Server> =
            open.iter().copied().filter(|s| !self.is_left_out(s, transport, now)).collect();
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

    /// A call failed there: the server rests; true when it did not before.
    pub fn failed(&mut self, now: Instant, name: &str, why: &str) -> bool {
        let state = self.state(name);
        let was_up = !state.is_resting(now);
        if was_up {
            let longer = 1 << state.rests.min(16);
            state.down_until = Some(now + (DOWN_FOR * longer).min(DOWN_FOR_MAX));
            state.failed_at = Some(now);
            state.rests += 1;
            state.turn(now, Turn::Resting, why);
        }
        was_up
    }

    /// What a probe found; the change it makes, if it makes one.
    pub fn probed(&mut self, now: Instant, probed: &Probed, rules: &HealthRules) -> Option<Change> {
        let Door { server, role, transport } = &probed.door;
        let state = self.states.get_mut(server)?;
        let calls = if state.down_until.is_some() { Calls::Failed } else { Calls::Fine };
        let door = state.doors.get_mut(&(*role, *transport))?;
        let turn = door.take(now, probed, calls, rules);
        if let Some(DoorTurn::Down(why)) = &turn {
            let last_good = door.last_good;
            return Some(state.remember(Change { at: now, to: Turn::Down, why: clean(why), last_good }));
        }
        let is_called_back =
            calls == Calls::Failed && probed.result.is_ok() && state.may_be_called_back(now, probed);
        if is_called_back {
            state.down_until = None;
        }
        let over = transport.as_param();
        let why = match turn {
            Some(DoorTurn::Up(times)) => format!("answered OPTIONS over {over}, {times} in a row"),
            _ if is_called_back => format!("answered OPTIONS over {over}"),
            _ => return None,
        };
        Some(state.turn(now, Turn::Up, &why))
    }

    /// These doors are probed from now on; what was known of others is forgotten.
    pub fn keep_doors(&mut self, doors: &BTreeSet<Door>) {
        for (name, state) in &mut self.states {
            state.doors.retain(|(role, transport), _| {
                doors.contains(&Door { server: name.clone(), role: *role, transport: *transport })
            });
        }
        for door in doors {
            self.state(&door.server).doors.entry((door.role, door.transport)).or_default();
        }
    }

    /// A call was answered there: the server rests no longer; true when it did.
    pub fn answered(&mut self, now: Instant, name: &str) -> bool {
        let Some(state) = self.states.get_mut(&*lower(name)) else { return false };
        state.rests = 0;
        let was_down = state.down_until.take().is_some();
        if was_down {
            state.turn(now, Turn::Up, "it answered");
        }
        was_down
    }

    /// An operator's wish, which stands above the configuration until the next one. Enabling ends a rest, and lets probes
    /// count from the beginning.
    pub fn wish(&mut self, now: Instant, name: &str, status: ServerStatus) {
        let state = self.state(name);
        state.wish = Some(status);
        if status == ServerStatus::Enabled {
            state.down_until = None;
            state.rests = 0;
            state.doors.values_mut().for_each(DoorHealth::forgive);
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

    /// Whether others get calls over that transport before it: a call failed there lately, or probes fail.
    pub fn is_left_out(&self, server: &Server, transport: Transport, now: Instant) -> bool {
        let Some(state) = self.states.get(&*lower(&server.name)) else { return false };
        let door = state.doors.get(&(server.role, transport));
        state.is_resting(now) || door.is_some_and(|door| door.is_down)
    }

    /// Whether nothing keeps calls from a server in that role, over whatever transport it is probed.
    pub fn is_up(&self, name: &str, role: ServerRole, now: Instant) -> bool {
        let Some(state) = self.states.get(&*lower(name)) else { return true };
        let mut doors = state.doors.iter().filter(|((of, _), _)| *of == role);
        !state.is_resting(now) && doors.all(|(_, door)| !door.is_down)
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
    use crate::health::ProbeFault;
    use crate::policy::{Dialect, PortSource, Profile};

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
        table.choose(now, ("DP", Transport::Tls), of, tried, Selection::RoundRobin).map(|s| s.name.as_str())
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
        assert!(!table.is_left_out(&two, Transport::Tls, now), "a rest ends when the operator says so");
        table.wish(now, "b", ServerStatus::Disabled);
        table.wish(now, "a", ServerStatus::Enabled);
        assert_eq!(turn(&mut table, now, &all, &[]), Some("a"));
    }

    fn door(name: &str, transport: Transport) -> Door {
        Door { server: name.to_owned(), role: ServerRole::CallRouter, transport }
    }

    fn probe(
        table: &mut ServerTable,
        now: Instant,
        door: &Door,
        result: Result<Duration, ProbeFault>,
    ) -> Option<Turn> {
        let probed = Probed { door: door.clone(), begun: now, result };
        table.probed(now, &probed, &HealthRules::default()).map(|change| change.to)
    }

    const GOOD: Result<Duration, ProbeFault> = Ok(Duration::from_millis(1));
    const SILENT: Result<Duration, ProbeFault> = Err(ProbeFault::Silence);

    #[test]
    fn a_server_that_fails_probes_gets_calls_over_other_transports_only_and_when_nobody_else_is_left() {
        let (one, two) = (server("a", 9), server("b", 9));
        let all = [&one, &two];
        let mut table = ServerTable::default();
        let now = start();
        let (tls, tcp) = (door("a", Transport::Tls), door("a", Transport::Tcp));
        table.keep_doors(&[tls.clone(), tcp.clone()].into());
        assert_eq!(probe(&mut table, now, &tls, SILENT), None);
        assert_eq!(probe(&mut table, now, &tls, SILENT), None);
        assert_eq!(probe(&mut table, now, &tls, SILENT), Some(Turn::Down));
        assert_eq!(table.states["a"].changes[0].last_good, None);
        let got: Vec<_> = (0..2).map(|_| turn(&mut table, now, &all, &[])).collect();
        assert_eq!(got, [Some("b"), Some("b")]);
        assert_eq!(turn(&mut table, now, &all, &["b".to_owned()]), Some("a"));
        assert!(!table.is_left_out(&one, Transport::Tcp, now));
        assert!(!table.is_up("A", ServerRole::CallRouter, now));
        assert!(table.is_up("A", ServerRole::Mailbox, now), "the other service of that host");
        // No timer brings it back, two answers do.
        let later = now + DOWN_FOR_MAX * 10;
        assert!(table.is_left_out(&one, Transport::Tls, later));
        assert_eq!(probe(&mut table, later, &tls, GOOD), None);
        assert_eq!(probe(&mut table, later, &tls, GOOD), Some(Turn::Up));
        assert!(!table.is_left_out(&one, Transport::Tls, later));
        assert_eq!(table.states["a"].changes[1].why, "answered OPTIONS over tls, 2 in a row");
        // Who is not probed any more is not down for ever.
        for _ in 0..3 {
            probe(&mut table, later, &tls, SILENT);
        }
        assert_eq!(table.states["a"].changes[2].last_good, Some(later));
        table.keep_doors(&BTreeSet::new());
        assert!(!table.is_left_out(&one, Transport::Tls, later));
        assert_eq!(probe(&mut table, later, &tls, SILENT), None, "an answer that came too late");
    }

    #[test]
    fn each_door_that_goes_down_tells_when_it_was_good_itself() {
        let mut table = ServerTable::default();
        let now = start();
        let doors = [door("a", Transport::Tcp), door("a", Transport::Tls)];
        table.keep_doors(&doors.clone().into());
        let later = now + Duration::from_secs(1);
        for (door, good) in doors.iter().zip([now, later]) {
            probe(&mut table, good, door, GOOD);
        }
        for door in &doors {
            let last = (0..3).map(|_| probe(&mut table, later, door, SILENT)).last();
            assert_eq!(last, Some(Some(Turn::Down)));
        }
        let told: Vec<_> =
            table.states["a"].changes.iter().map(|change| (change.to, change.last_good)).collect();
        assert_eq!(told, [(Turn::Down, Some(now)), (Turn::Down, Some(later))]);
    }

    #[test]
    fn a_good_probe_ends_the_first_rest_and_a_bad_one_makes_it_last() {
        let one = server("a", 9);
        let mut table = ServerTable::default();
        let now = start();
        let tls = door("a", Transport::Tls);
        table.keep_doors(&[tls.clone()].into());
        let second = Duration::from_secs(1);
        // A probe that began before the call failed proves nothing.
        let early = Probed { door: tls.clone(), begun: now, result: GOOD };
        assert!(table.failed(now + second, "a", "refused"));
        assert_eq!(table.probed(now + second, &early, &HealthRules::default()), None);
        assert_eq!(probe(&mut table, now + second * 2, &tls, GOOD), Some(Turn::Up));
        assert!(!table.is_left_out(&one, Transport::Tls, now + second * 2));
        // One that fails calls all the same sits its rest out.
        assert!(table.failed(now + second * 3, "a", "no answer to INVITE in time"));
        assert_eq!(probe(&mut table, now + second * 4, &tls, GOOD), None);
        assert!(table.is_left_out(&one, Transport::Tls, now + second * 32));
        assert_eq!(probe(&mut table, now + second * 33, &tls, GOOD), Some(Turn::Up));
        assert!(!table.is_left_out(&one, Transport::Tls, now + second * 33));
        assert!(!table.answered(now + second * 33, "a"), "it was up already");
        // A failed call and a failed probe agree: no timer ends that.
        assert!(table.failed(now + second * 40, "a", "refused"));
        assert_eq!(probe(&mut table, now + second * 41, &tls, SILENT), Some(Turn::Down));
        assert!(table.is_left_out(&one, Transport::Tls, now + DOWN_FOR_MAX * 10));
        table.wish(now + second * 42, "a", ServerStatus::Enabled);
        assert!(!table.is_left_out(&one, Transport::Tls, now + second * 42), "the operator knows better");
    }
}
