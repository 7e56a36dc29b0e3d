//! The invariants: what must hold at the gateway's border after every step and at the end of a run, whatever the weather. Owns its own books
//! of calls, transactions, answers, keys and media, kept from the messages alone; refuses to look inside the engine.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use b2bua::engine::{CallStarted, EngineStatus, MediaCommand};
use b2bua::policy::VoipSecurity;
use b2bua::record::{CallRecord, OfferResult};
use bytes::Bytes;
use relay::Protection;
use sip::{FlowKey, Message, Method};

use super::ladder::Way;
use super::site;

/// Targets one call may try (the policy's default, written down again so that a wrong default is seen).
const TARGETS_MAX: u32 = 5;
/// The caller hears something other than 100 within this.
const HEARD_WITHIN: Duration = Duration::from_secs(10);
/// An answer whose connection breaks this soon after need not be acknowledged: the ACK may have to wait for the caller's.
const ACK_PATIENCE: Duration = Duration::from_secs(36);

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
    is_caller: bool,
    is_secure: bool,
    down_at: Option<Duration>,
}

#[derive(Debug, Default)]
struct CallNote {
    invite_flow: Option<FlowKey>,
    security: Option<VoipSecurity>,
    started: u32,
    records: u32,
    offer_result: Option<OfferResult>,
    invites_b: u32,
    b_call_id: Option<String>,
    final_a: Option<u16>,
}

#[derive(Debug)]
struct Transaction {
    received_at: Duration,
    heard_at: Option<Duration>,
    final_answer: Option<Bytes>,
    is_opening: bool,
}

#[derive(Debug)]
struct Answer {
    at: Duration,
    flow: FlowKey,
    is_acked: bool,
}

#[derive(Debug, Default)]
struct MediaNote {
    allocated: u32,
    released: u32,
}

type TransactionId = (FlowKey, String, u32, String);

/// The books.
#[derive(Debug, Default)]
pub struct Watch {
    flows: BTreeMap<FlowKey, FlowNote>,
    calls: BTreeMap<String, CallNote>,
    by_key: BTreeMap<u64, String>,
    transactions: BTreeMap<TransactionId, Transaction>,
    answers_given: BTreeMap<(String, u32), Answer>,
    answers_got: BTreeMap<(String, u32), Answer>,
    ended_by_bye: BTreeSet<String>,
    media: BTreeMap<u64, MediaNote>,
    keys: BTreeMap<String, (bool, bool)>,
    answered_by: BTreeMap<String, String>,
    open_offers: BTreeSet<(FlowKey, String)>,
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
        all.extend(call_ids.iter().filter_map(|id| self.calls.get(id)?.b_call_id.clone()));
        let owners =
            self.calls.iter().filter(|(_, n)| n.b_call_id.as_ref().is_some_and(|b| call_ids.contains(b)));
        all.extend(owners.map(|(id, _)| id.clone()));
        self.violations.push(Violation { rule, call_ids: all });
    }

    /// Does this Call-ID end its dialog by BYE already?
    pub fn records(&self) -> impl Iterator<Item = (&String, u32)> {
        self.calls.iter().map(|(id, note)| (id, note.records))
    }

    /// The gateway learns of a flow.
    pub fn flow_up(&mut self, flow: FlowKey, whom: &str, is_caller: bool, is_secure: bool) {
        self.flows.insert(flow, FlowNote { whom: whom.to_owned(), is_caller, is_secure, down_at: None });
    }

    /// The gateway learns that it is gone.
    pub fn flow_down(&mut self, at: Duration, flow: FlowKey) {
        if let Some(note) = self.flows.get_mut(&flow) {
            note.down_at.get_or_insert(at);
        }
    }

    /// Is it a caller's?
    pub fn is_caller(&self, flow: FlowKey) -> bool {
        self.flows.get(&flow).is_some_and(|note| note.is_caller)
    }

    /// A whole message crosses the gateway's border.
    pub fn message(&mut self, at: Duration, way: Way, flow: FlowKey, message: &Message) {
        let is_caller = self.is_caller(flow);
        self.check_keys(way, is_caller, message);
        match (way, message.is_request()) {
            (Way::In, true) => self.on_request_in(at, flow, message),
            (Way::Out, false) => self.on_response_out(at, flow, message),
            (Way::Out, true) => self.on_request_out(flow, message),
            (Way::In, false) => self.on_response_in(at, flow, message),
        }
    }

    /// The engine opened a call.
    pub fn started(&mut self, started: &CallStarted) {
        self.by_key.insert(started.call.as_u64(), started.call_id.clone());
        let note = self.calls.entry(started.call_id.clone()).or_default();
        note.started += 1;
        note.security = site::plan_security(&started.dial_plan);
        if note.started > 1 {
            self.break_rule("a call starts once".into(), vec![started.call_id.clone()]);
        }
    }

    /// The engine wrote a record.
    pub fn ended(&mut self, record: &CallRecord) {
        let note = self.calls.entry(record.call_id.clone()).or_default();
        note.records += 1;
        note.offer_result = Some(record.offer_result);
        if note.records > 1 {
            self.break_rule("one record per INVITE".into(), vec![record.call_id.clone()]);
        }
    }

    /// The engine commands the media workers.
    pub fn media(&mut self, command: &MediaCommand) {
        let call = match command {
            MediaCommand::Allocate { call }
            | MediaCommand::Apply { call, .. }
            | MediaCommand::Release { call } => call.as_u64(),
        };
        let note = self.media.entry(call).or_default();
        match command {
            MediaCommand::Allocate { .. } => note.allocated += 1,
            MediaCommand::Release { .. } => note.released += 1,
            MediaCommand::Apply { .. } => {}
        }
        let in_order = match command {
            MediaCommand::Allocate { .. } => note.allocated == 1 && note.released == 0,
            MediaCommand::Release { .. } => note.allocated == 1 && note.released == 1,
            MediaCommand::Apply { .. } => note.allocated == 1 && note.released == 0,
        };
        let call_ids: Vec<String> = self.by_key.get(&call).cloned().into_iter().collect();
        if !in_order {
            let rule = "media: one Allocate, then plans, then one Release".to_owned();
            self.break_rule(rule, call_ids.clone());
        }
        if let MediaCommand::Apply { plan, .. } = command {
            let security = call_ids.first().and_then(|id| self.calls.get(id)?.security);
            let sealed = [&plan.a, &plan.b].map(|leg| matches!(leg.protection, Protection::Sealed { .. }));
            let fits = match security {
                Some(VoipSecurity::Secured) => sealed == [true, true],
                Some(_) => sealed == [false, false],
                None => false,
            };
            if !fits {
                self.break_rule(
                    format!("a plan fits the security of the call: {security:?}, sealed {sealed:?}"),
                    call_ids,
                );
            }
        }
    }

    fn on_request_in(&mut self, at: Duration, flow: FlowKey, request: &Message) {
        let call_id = call_id(request);
        let number = request.cseq().number;
        match request.method() {
            Method::Ack => {
                if let Some(answer) = self.answers_given.get_mut(&(call_id, number)) {
                    answer.is_acked = true;
                }
                return;
            }
            Method::Bye => drop(self.ended_by_bye.insert(call_id.clone())),
            _ => {}
        }
        let is_opening =
            *request.method() == Method::Invite && request.to_tag().is_none() && self.is_caller(flow);
        if is_opening {
            self.calls.entry(call_id.clone()).or_default().invite_flow = Some(flow);
        }
        let transaction = Transaction { received_at: at, heard_at: None, final_answer: None, is_opening };
        self.transactions.insert((flow, call_id, number, request.method().to_string()), transaction);
    }

    fn on_response_out(&mut self, at: Duration, flow: FlowKey, response: &Message) {
        let call_id = call_id(response);
        let cseq = response.cseq();
        let id = (flow, call_id.clone(), cseq.number, cseq.method.to_string());
        let status = response.status().map_or(0, |s| s.code());
        let Some(transaction) = self.transactions.get_mut(&id) else {
            return self.break_rule(format!("{status} answers a request that came"), vec![call_id]);
        };
        if status > 100 {
            transaction.heard_at.get_or_insert(at);
        }
        let is_opening = transaction.is_opening;
        match &transaction.final_answer {
            Some(_) if status < 200 => {
                return self.break_rule("no provisional after the final".into(), vec![call_id]);
            }
            Some(first) if first != response.bytes() => {
                return self.break_rule(format!("one final response, then {status}"), vec![call_id]);
            }
            None if status >= 200 => transaction.final_answer = Some(response.bytes().clone()),
            _ => {}
        }
        if (300..400).contains(&status) {
            self.break_rule("no redirect is shown to a far end".into(), vec![call_id.clone()]);
        }
        if is_opening && status >= 200 {
            self.calls.entry(call_id.clone()).or_default().final_a = Some(status);
        }
        if cseq.method == Method::Invite && (200..300).contains(&status) {
            let answer = Answer { at, flow, is_acked: false };
            self.answers_given.entry((call_id.clone(), cseq.number)).or_insert(answer);
        }
        let owner = self.calls.iter().find(|(_, note)| note.b_call_id.as_ref() == Some(&call_id));
        let origin = owner.map_or(call_id, |(origin, _)| origin.clone());
        if response.content_type().is_some_and(|kind| kind.starts_with(b"application/sdp")) {
            self.check_sdp(&origin, response);
        }
    }

    fn on_request_out(&mut self, flow: FlowKey, request: &Message) {
        let id = call_id(request);
        let whom = self.flows.get(&flow).map(|note| note.whom.clone()).unwrap_or_default();
        if let Some(owner) = self.answered_by.get(&id).filter(|owner| **owner != whom) {
            let rule = format!("requests inside a call go to {owner}, who answered it, not to {whom}");
            self.break_rule(rule, vec![id.clone()]);
        }
        match request.method() {
            Method::Ack => {
                if let Some(answer) = self.answers_got.get_mut(&(id, request.cseq().number)) {
                    answer.is_acked = true;
                }
            }
            Method::Bye => drop(self.ended_by_bye.insert(id)),
            Method::Invite if request.to_tag().is_none() => return self.on_invite_out(flow, id, request),
            Method::Invite => {
                let open = (flow, id.clone());
                if !self.open_offers.insert(open) {
                    self.break_rule("at most one open re-INVITE per leg".into(), vec![id]);
                }
            }
            _ => {}
        }
        if request.content_type().is_some_and(|kind| kind.starts_with(b"application/sdp")) {
            let id = call_id(request);
            let owner = self.calls.iter().find(|(_, note)| note.b_call_id.as_ref() == Some(&id));
            let origin = owner.map_or(id, |(origin, _)| origin.clone());
            self.check_sdp(&origin, request);
        }
    }

    fn on_invite_out(&mut self, flow: FlowKey, b_call_id: String, invite: &Message) {
        let origin = invite.header_named("X-Call-ID").map(|v| String::from_utf8_lossy(v).into_owned());
        let is_secure = self.flows.get(&flow).is_some_and(|note| note.is_secure);
        let Some(note) = origin.as_ref().and_then(|id| self.calls.get_mut(id)) else {
            return self.break_rule("every INVITE to a server names its call".into(), vec![b_call_id]);
        };
        let ids = vec![origin.unwrap_or_default()];
        note.invites_b += 1;
        note.b_call_id = Some(b_call_id);
        let (count, security, over) = (note.invites_b, note.security, note.final_a);
        if count > TARGETS_MAX {
            self.break_rule(format!("at most {TARGETS_MAX} targets per call"), ids.clone());
        }
        if let Some(status) = over {
            self.break_rule(format!("no server is tried after the caller's {status}"), ids.clone());
        }
        if is_secure == (security == Some(VoipSecurity::Unsecured)) {
            self.break_rule(format!("transport of leg B fits {security:?}"), ids.clone());
        }
        self.check_sdp(&ids[0], invite);
    }

    fn on_response_in(&mut self, at: Duration, flow: FlowKey, response: &Message) {
        let cseq = response.cseq();
        if cseq.method == Method::Invite && response.status().is_some_and(|s| s.is_final()) {
            self.open_offers.remove(&(flow, call_id(response)));
        }
        if cseq.method == Method::Invite && response.status().is_some_and(|s| s.is_success()) {
            let whom = self.flows.get(&flow).map(|note| note.whom.clone()).unwrap_or_default();
            self.answered_by.entry(call_id(response)).or_insert(whom);
            let answer = Answer { at, flow, is_acked: false };
            self.answers_got.entry((call_id(response), cseq.number)).or_insert(answer);
        }
    }

    /// What the gateway says about media to either side of a call.
    fn check_sdp(&mut self, origin: &str, message: &Message) {
        let body = message.body();
        let Ok(session) = sdp::Session::parse(&body) else {
            if !body.is_empty() {
                self.break_rule(
                    "every body of the gateway is SDP that can be read".into(),
                    vec![origin.into()],
                );
            }
            return;
        };
        let security = self.calls.get(origin).and_then(|note| note.security);
        let text = String::from_utf8_lossy(&body);
        let is_srtp = text.contains("RTP/SAVP") && text.contains("a=crypto:");
        let is_rtp = text.contains("RTP/AVP") && !text.contains("a=crypto:");
        let fits = match security {
            Some(VoipSecurity::Secured) => is_srtp,
            Some(_) => is_rtp,
            None => false,
        };
        if !fits || session.audio().is_none() {
            self.break_rule(format!("SDP fits {security:?}: {text}"), vec![origin.into()]);
        }
    }

    /// A master key belongs to one direction of one leg.
    fn check_keys(&mut self, way: Way, is_caller: bool, message: &Message) {
        let body = message.body();
        let text = String::from_utf8_lossy(&body).into_owned();
        for key in text.split("inline:").skip(1) {
            let key = key.split(['|', ' ', '\r']).next().unwrap_or_default().to_owned();
            let place = (way == Way::In, is_caller);
            if *self.keys.entry(key).or_insert(place) != place {
                self.break_rule(
                    "a master key is used on one leg in one direction".into(),
                    vec![call_id(message)],
                );
            }
        }
    }

    /// Everything is over: nothing may be left, nobody may wait.
    pub fn finish(&mut self, status: &EngineStatus, flows: usize) {
        let mut broken: Vec<(String, Vec<String>)> = Vec::new();
        self.check_transactions(&mut broken);
        self.check_answers(&mut broken);
        self.check_calls(&mut broken);
        for (call, note) in &self.media {
            if (note.allocated, note.released) != (1, 1) {
                let ids = self.by_key.get(call).cloned().into_iter().collect();
                broken.push((format!("media given back once: {note:?}"), ids));
            }
        }
        let left = (status.calls, status.transactions, status.timers);
        if left != (0, (0, 0), 0) {
            broken.push((
                format!("tables are empty: calls, transactions, timers {left:?} {:?}", status.by_state),
                vec![],
            ));
        }
        if status.flows != flows {
            broken.push((format!("flows: the engine knows {}, {flows} are open", status.flows), vec![]));
        }
        if let Some(server) = status.servers.iter().find(|server| server.calls != 0) {
            broken.push((format!("{} is free again, not {}", server.name, server.calls), vec![]));
        }
        broken.into_iter().for_each(|(rule, ids)| self.break_rule(rule, ids));
    }

    fn check_transactions(&self, broken: &mut Vec<(String, Vec<String>)>) {
        for ((flow, id, number, method), transaction) in &self.transactions {
            let gone = self.flows.get(flow).and_then(|note| note.down_at);
            let due = transaction.received_at + HEARD_WITHIN;
            if transaction.final_answer.is_none() && gone.is_none() {
                broken.push((format!("{number} {method} gets a final response"), vec![id.clone()]));
            }
            let is_late = match transaction.heard_at {
                Some(at) => at > due,
                None => gone.is_none_or(|at| at > due),
            };
            if transaction.is_opening && is_late {
                broken.push(("the caller hears something within ten seconds".into(), vec![id.clone()]));
            }
        }
    }

    fn check_answers(&self, broken: &mut Vec<(String, Vec<String>)>) {
        let is_excused = |answer: &Answer| {
            let down = self.flows.get(&answer.flow).and_then(|note| note.down_at);
            down.is_some_and(|at| at <= answer.at + ACK_PATIENCE)
        };
        for ((id, number), answer) in &self.answers_given {
            if !answer.is_acked && !self.ended_by_bye.contains(id) && !is_excused(answer) {
                broken.push((
                    format!("a 2xx given is acknowledged or ended by BYE ({number})"),
                    vec![id.clone()],
                ));
            }
        }
        for ((id, number), answer) in &self.answers_got {
            if !answer.is_acked && !is_excused(answer) {
                broken.push((format!("a 2xx received is acknowledged ({number})"), vec![id.clone()]));
            }
        }
    }

    fn check_calls(&self, broken: &mut Vec<(String, Vec<String>)>) {
        for (id, note) in &self.calls {
            if note.records != 1 {
                broken.push((format!("one record per INVITE, not {}", note.records), vec![id.clone()]));
            }
            let is_answered = note.final_a.is_some_and(|status| (200..300).contains(&status));
            if is_answered != (note.offer_result == Some(OfferResult::Answer)) {
                let rule = format!(
                    "the record ({:?}) says what the caller saw ({:?})",
                    note.offer_result, note.final_a
                );
                broken.push((rule, vec![id.clone()]));
            }
        }
    }
}

fn call_id(message: &Message) -> String {
    String::from_utf8_lossy(message.call_id()).into_owned()
}
