//! The invariants: what must hold at the gateway's border after every step and when a call is long over, whatever the weather. Owns books of its
//! own, kept from the messages alone and closed when nothing can come any more; refuses to look inside the engine.

mod book;
mod offers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use b2bua::engine::{CallStarted, EngineStatus, MediaCommand};
use b2bua::policy::VoipSecurity;
use b2bua::record::CallRecord;
use bytes::Bytes;
use relay::{Protection, Side};
use sip::{FlowKey, Message, Method};

use self::book::{Book, Broken};
use super::ladder::Way;
use super::site;

/// Targets one call may try (the policy's default, written down again so that a wrong default is seen).
const TARGETS_MAX: u32 = 5;
/// A call without a message for this long, and not in the engine, can have no more.
const QUIET: Duration = Duration::from_secs(150);

/// A broken rule.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which rule, and the evidence.
    pub rule: String,
    /// Call-IDs to show the ladder of.
    pub call_ids: Vec<String>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct FlowNote {
    whom: String,
    side: Side,
    is_secure: bool,
    down_at: Option<Duration>,
}

type BookId = u64;

/// Direction and leg of a master key.
type Place = (Way, Side);

/// The books.
#[derive(Debug, Default)]
pub struct Watch {
    flows: BTreeMap<FlowKey, FlowNote>,
    books: BTreeMap<BookId, Book>,
    by_call_id: HashMap<Bytes, BookId>,
    by_call: HashMap<u64, BookId>,
    due: BTreeSet<(Duration, BookId)>,
    keys: HashMap<String, Place>,
    opened: BookId,
    /// Flows on which something came that is no message: it may be answered without a transaction.
    unreadable: BTreeSet<FlowKey>,
    /// Books to be compared with the engine.
    touched: Vec<BookId>,
    violations: Vec<Violation>,
}

impl Watch {
    /// The first broken rule, when there is one.
    pub fn violation(&self) -> Option<&Violation> {
        self.violations.first()
    }

    /// A rule seen broken elsewhere.
    pub fn break_rule(&mut self, rule: String, call_ids: Vec<String>) {
        let mut all = call_ids.clone();
        for id in &call_ids {
            let Some(book) = self.by_call_id.get(id.as_bytes()).and_then(|id| self.books.get(id)) else {
                continue;
            };
            all.push(book.call_id.clone());
            all.extend(book.b_call_ids.iter().map(|id| String::from_utf8_lossy(id).into_owned()));
        }
        self.violations.push(Violation { rule, call_ids: all });
    }

    fn judge(&mut self, id: BookId, verdict: Broken) {
        if let Err(rule) = verdict {
            let call_ids = self.books.get(&id).map(|book| book.call_id.clone()).into_iter().collect();
            self.break_rule(rule, call_ids);
        }
    }

    /// The gateway learns of a flow. `whom` is who is really there.
    pub fn flow_up(&mut self, flow: FlowKey, whom: &str, side: Side, is_secure: bool) {
        self.flows.insert(flow, FlowNote { whom: whom.to_owned(), side, is_secure, down_at: None });
    }

    /// The gateway learns that it is gone.
    pub fn flow_down(&mut self, at: Duration, flow: FlowKey) {
        if let Some(note) = self.flows.get_mut(&flow) {
            note.down_at.get_or_insert(at);
        }
        for book in self.books.values_mut() {
            book.flow_down(flow);
        }
    }

    /// A message of this call will come damaged: what it was about is anybody's guess, but the call must end and leave nothing.
    pub fn damaged(&mut self, at: Duration, call_id: &[u8]) {
        let id = self.book_of(at, call_id);
        if let Some(book) = self.books.get_mut(&id) {
            book.is_damaged = true;
        }
    }

    /// Something came that is no message.
    pub fn unreadable(&mut self, flow: FlowKey) {
        self.unreadable.insert(flow);
    }

    /// Did that happen on this flow?
    pub fn is_unreadable(&self, flow: FlowKey) -> bool {
        self.unreadable.contains(&flow)
    }

    /// Books not closed yet.
    pub fn open_books(&self) -> usize {
        self.books.len()
    }

    /// A whole message crosses the gateway's border.
    pub fn message(&mut self, at: Duration, way: Way, flow: FlowKey, message: &Message) {
        let Some(note) = self.flows.get(&flow) else {
            return self.break_rule("bytes go to a flow that was announced".into(), Vec::new());
        };
        let side = note.side;
        let is_first_b = way == Way::Out
            && side == Side::B
            && message.is_request()
            && *message.method() == Method::Invite
            && message.to_tag().is_none();
        if is_first_b {
            self.on_invite_out(at, flow, message);
        }
        let is_refusal = message.status().is_some_and(|s| s.code() >= 400);
        if way == Way::Out && is_refusal && self.unreadable.contains(&flow) {
            let id = self.by_call_id.get(message.call_id());
            let known = id.and_then(|id| self.books.get_mut(id));
            match known {
                None => return,
                // Whichever of them this refuses, an offer in it is open no longer.
                Some(book) if book.is_damaged => return book.offers.response_out(side, message),
                Some(_) => {}
            }
        }
        let id = self.book_of(at, message.call_id());
        self.check_keys(id, (way, side), message);
        let Some(book) = self.books.get_mut(&id) else { return };
        book.touched = at;
        let verdict = match (way, message.is_request()) {
            (Way::In, true) => {
                book.request_in(at, flow, side, message);
                Ok(())
            }
            (Way::Out, false) => {
                book.offers.response_out(side, message);
                book.response_out(at, flow, side, message)
            }
            (Way::Out, true) => {
                book.request_out(side, message);
                book.offers.request_out(flow, side, message)
            }
            (Way::In, false) => {
                book.response_in(at, flow, side, message);
                book.offers.response_in(side, message);
                Ok(())
            }
        };
        book.model.observe(side, way, message);
        self.touched.push(id);
        // Which dialog and which offer a damaged message spoke of is anybody's guess; what protects the call holds on.
        if !book.is_damaged {
            self.judge(id, verdict);
            self.check_owner(id, way, flow, message);
        }
        if way == Way::Out && !message.body().is_empty() {
            let verdict = self.books.get(&id).map_or(Ok(()), |book| check_sdp(book.security, message));
            self.judge(id, verdict);
        }
    }

    fn book_of(&mut self, at: Duration, call_id: &[u8]) -> BookId {
        if let Some(id) = self.by_call_id.get(call_id) {
            return *id;
        }
        self.opened += 1;
        let id = self.opened;
        let name = String::from_utf8_lossy(call_id).into_owned();
        self.by_call_id.insert(Bytes::copy_from_slice(call_id), id);
        self.books.insert(id, Book::new(name, at));
        self.due.insert((at + QUIET, id));
        id
    }

    /// What the engine says of the calls that moved fits what the messages say: the name of a state, or `None` when it has no such call.
    pub fn compare(&mut self, state_of: impl Fn(u64) -> Option<&'static str>) {
        while let Some(id) = self.touched.pop() {
            let Some(book) = self.books.get(&id) else { continue };
            let call = book.call.filter(|_| !book.is_damaged);
            if let Some(rule) = call.and_then(|call| book.model.contradicts(state_of(call))) {
                self.judge(id, Err(rule));
            }
        }
    }

    /// All calls are to be compared once more.
    pub fn doubt_all(&mut self) {
        self.touched.extend(self.books.keys());
    }

    /// The engine opened a call.
    pub fn started(&mut self, at: Duration, started: &CallStarted) {
        let id = self.book_of(at, started.call_id.as_bytes());
        let call = started.call.as_u64();
        self.by_call.insert(call, id);
        let Some(book) = self.books.get_mut(&id) else { return };
        book.call = Some(call);
        book.security = site::plan_security(&started.dial_plan);
        book.model.start();
        let verdict = book.started();
        self.judge(id, verdict);
    }

    /// The engine wrote a record.
    pub fn ended(&mut self, at: Duration, record: &CallRecord) {
        let id = self.book_of(at, record.call_id.as_bytes());
        let Some(book) = self.books.get_mut(&id) else { return };
        book.touched = at;
        book.model.end();
        let verdict = book.recorded(record.offer_result);
        self.judge(id, verdict);
    }

    /// The engine commands the media workers.
    pub fn media(&mut self, command: &MediaCommand) {
        let call = match command {
            MediaCommand::Allocate { call }
            | MediaCommand::Apply { call, .. }
            | MediaCommand::Press { call, .. }
            | MediaCommand::Release { call } => call.as_u64(),
        };
        let found = self.by_call.get(&call).copied();
        let Some((id, book)) = found.and_then(|id| Some((id, self.books.get_mut(&id)?))) else {
            return self.break_rule("media belongs to a call that was announced".into(), Vec::new());
        };
        match command {
            MediaCommand::Allocate { .. } => book.allocated += 1,
            MediaCommand::Release { .. } => book.released += 1,
            MediaCommand::Apply { .. } | MediaCommand::Press { .. } => {}
        }
        let is_release = matches!(command, MediaCommand::Release { .. });
        let in_order = (1..=book.calls_max()).contains(&book.allocated)
            && book.released <= book.allocated
            && (is_release || book.released < book.allocated);
        let mut verdict =
            if in_order { Ok(()) } else { Err("media: one Allocate, then plans, then one Release".into()) };
        if let MediaCommand::Apply { plan, .. } = command {
            let sealed = [&plan.a, &plan.b].map(|leg| matches!(leg.protection, Protection::Sealed { .. }));
            let fits = match book.security {
                Some(VoipSecurity::Secured) => sealed == [true, true],
                Some(_) => sealed == [false, false],
                None => false,
            };
            if !fits {
                let security = book.security;
                verdict =
                    Err(format!("a plan fits the security of the call: {security:?}, sealed {sealed:?}"));
            }
        }
        self.judge(id, verdict);
    }

    fn on_invite_out(&mut self, at: Duration, flow: FlowKey, invite: &Message) {
        let origin = invite.header_named("X-Call-ID").unwrap_or_default();
        let is_secure = self.flows.get(&flow).is_some_and(|note| note.is_secure);
        let b_call_id = invite.call_id_bytes();
        let Some(id) = self.by_call_id.get(origin).copied() else {
            let ids = vec![String::from_utf8_lossy(&b_call_id).into_owned()];
            return self.break_rule("every INVITE to a server names its call".into(), ids);
        };
        let Some(book) = self.books.get_mut(&id) else { return };
        book.touched = at;
        book.invited_on = Some(flow);
        book.invites_b += 1;
        let verdict = match (book.invites_b, book.security, book.final_a) {
            (count, ..) if count > TARGETS_MAX => Err(format!("at most {TARGETS_MAX} targets per call")),
            (.., Some(status)) => Err(format!("no server is tried after the caller's {status}")),
            (_, security, _) if is_secure == (security == Some(VoipSecurity::Unsecured)) => {
                Err(format!("transport of leg B fits {security:?}"))
            }
            _ => Ok(()),
        };
        if self.by_call_id.get(&b_call_id) != Some(&id) {
            book.b_call_ids.push(b_call_id.clone());
            self.by_call_id.insert(b_call_id, id);
        }
        self.judge(id, verdict);
    }

    /// What is said inside a dialog of leg B goes to whoever answered it, and to nobody else. A late answer of a server
    /// that was given up makes a dialog too: its ACK and BYE go there.
    fn check_owner(&mut self, id: BookId, way: Way, flow: FlowKey, message: &Message) {
        let Some(note) = self.flows.get(&flow).filter(|note| note.side == Side::B) else { return };
        let Some(book) = self.books.get_mut(&id) else { return };
        let Some(tag) = message.to_tag() else { return };
        let is_invite = *message.method() == Method::Invite;
        let verdict = match way {
            Way::In if is_invite && message.status().is_some_and(|s| s.is_success()) => {
                let tag = Bytes::copy_from_slice(tag);
                book.answered_by.entry(tag).or_insert_with(|| note.whom.clone());
                Ok(())
            }
            Way::Out if message.is_request() => match book.answered_by.get(tag) {
                Some(owner) if *owner != note.whom => {
                    let whom = &note.whom;
                    Err(format!("requests inside a dialog go to {owner}, who answered it, not to {whom}"))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        };
        self.judge(id, verdict);
    }

    /// A master key belongs to one direction of one leg of one call.
    fn check_keys(&mut self, id: BookId, place: Place, message: &Message) {
        let body = message.body();
        if body.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&body);
        let mut is_shared = false;
        for key in text.split("inline:").skip(1) {
            let key = key.split(['|', ' ', '\r']).next().unwrap_or_default();
            match self.keys.get(key) {
                Some(known) => is_shared |= *known != place,
                None => {
                    self.keys.insert(key.to_owned(), place);
                    if let Some(book) = self.books.get_mut(&id) {
                        book.keys.push(key.to_owned());
                    }
                }
            }
        }
        if is_shared {
            self.judge(id, Err("a master key is used on one leg in one direction".into()));
        }
    }

    /// Closes the books of what is long over.
    pub fn close_old(&mut self, now: Duration) {
        while let Some((at, id)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, id));
            let Some(book) = self.books.get(&id) else { continue };
            let next = book.touched + QUIET;
            if next > now {
                self.due.insert((next, id));
            } else if book.is_live(now) {
                self.due.insert((now + QUIET, id));
            } else {
                self.close(id);
            }
        }
    }

    fn close(&mut self, id: BookId) {
        let Some(book) = self.books.get(&id) else { return };
        let broken = book.settle(&|flow| self.flows.get(&flow).and_then(|note| note.down_at));
        for rule in broken {
            self.judge(id, Err(rule));
        }
        let Some(book) = self.books.remove(&id) else { return };
        self.by_call_id.remove(book.call_id.as_bytes());
        for b in &book.b_call_ids {
            self.by_call_id.remove(b);
        }
        if let Some(call) = book.call {
            self.by_call.remove(&call);
        }
        for key in &book.keys {
            self.keys.remove(key);
        }
    }

    /// Everything is over: nothing may be left, nobody may wait.
    pub fn finish(&mut self, status: &EngineStatus, flows: usize) {
        let all: Vec<BookId> = self.books.keys().copied().collect();
        all.into_iter().for_each(|id| self.close(id));
        let left = (status.calls, status.transactions, status.timers);
        if left != (0, (0, 0), 0) {
            let rule =
                format!("tables are empty: calls, transactions, timers {left:?} {:?}", status.by_state);
            self.break_rule(rule, vec![]);
        }
        if status.flows != flows {
            self.break_rule(format!("flows: the engine knows {}, {flows} are open", status.flows), vec![]);
        }
        if let Some(server) = status.servers.iter().find(|server| server.calls != 0) {
            self.break_rule(format!("{} is free again, not {}", server.name, server.calls), vec![]);
        }
    }
}

/// What the gateway says about media to either side of a call.
fn check_sdp(security: Option<VoipSecurity>, message: &Message) -> Broken {
    if !message.content_type().is_some_and(|kind| kind.starts_with(b"application/sdp")) {
        return Ok(());
    }
    let body = message.body();
    let Ok(session) = sdp::Session::parse(&body) else {
        return Err("every body of the gateway is SDP that can be read".into());
    };
    let text = String::from_utf8_lossy(&body);
    let is_srtp = text.contains("RTP/SAVP") && text.contains("a=crypto:");
    let is_rtp = text.contains("RTP/AVP") && !text.contains("a=crypto:");
    let fits = match security {
        Some(VoipSecurity::Secured) => is_srtp,
        Some(_) => is_rtp,
        None => false,
    };
    if fits && session.audio().is_some() { Ok(()) } else { Err(format!("SDP fits {security:?}: {text}")) }
}
