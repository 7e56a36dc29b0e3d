//! What a call leaves behind. Owns the facts of its record and the rule that there is exactly one
//! record per call; refuses to know how the call came to its end.

use std::sync::Arc;
use std::time::Instant;

use relay::SessionStats;

use crate::codes;
use crate::engine::{Delivery, Notification, Notified};
use crate::policy::{Allowed, Policy};
use crate::record::{CallRecord, CallType, MediaSummary, OfferResult, ReasonForCall};
use crate::route::Route;
use crate::verdict::Verdict;

/// Notes of one call.
const NOTES_MAX: usize = 4;

/// Facts gathered while the call lives.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    pub call_id: String,
    pub b_call_id: Option<String>,
    pub started_at: Instant,
    pub answered_at: Option<Instant>,
    pub route: Option<Arc<Route>>,
    pub ip_gateway: Option<usize>,
    pub caller: String,
    pub called: String,
    pub server: Option<String>,
    pub transport_a: &'static str,
    pub transport_b: &'static str,
    pub security: String,
    pub redirects: u32,
    pub failovers: u32,
    pub codec: Option<String>,
    pub transferred_to: Option<String>,
    /// Call-ID of the call that UM placed this one for.
    pub parent: Option<String>,
    /// What the verdict has to tell however the call ends.
    pub notes: Vec<String>,
    pub media: Option<Box<MediaSummary>>,
}

/// How a call came to its end.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub verdict: Verdict,
    pub offer_result: OfferResult,
    pub drop_reason: &'static str,
    pub missed: Missed,
}

/// Whether the caller gave up before UM had the call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    /// Yes: a missed call, when a message was to be left.
    Yes,
    /// No.
    No,
}

impl Story {
    /// Keeps something in mind for the verdict, once.
    pub fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX && !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The record, at the end.
    pub fn record(&self, policy: &Policy, now: Instant, outcome: Outcome) -> CallRecord {
        let route = self.route.as_ref();
        let gateway = self.ip_gateway.and_then(|index| policy.ip_gateways.get(index));
        let plan = route.and_then(|r| policy.dial_plans.get(r.dial_plan));
        let alias = |of: &str| {
            let known = policy
                .mailboxes
                .iter()
                .find(|m| m.sip.as_deref().is_some_and(|s| s.eq_ignore_ascii_case(of)));
            known.map(|m| m.alias.clone())
        };
        let attendant =
            route.and_then(|r| r.auto_attendant).and_then(|index| policy.auto_attendants.get(index));
        let callee = route.and_then(|r| r.mailbox).and_then(|index| policy.mailboxes.get(index));
        let call_type = match outcome.verdict.code {
            // Nothing but a fax was offered: the call never was anything else.
            code if code == codes::FAX_REFUSED => CallType::Fax,
            _ => self.call_type(outcome.missed),
        };
        let is_missed = call_type == CallType::MissedCall;
        let silent = is_missed.then(|| self.silent_mailbox(policy)).flatten();
        let mut record = CallRecord {
            call_id: self.call_id.clone(),
            b_call_id: self.b_call_id.clone(),
            parent_call_id: self.parent.clone(),
            started_at: self.started_at,
            answered_at: self.answered_at,
            ended_at: now,
            setup: self.answered_at.map(|at| at.saturating_duration_since(self.started_at)),
            duration: self.answered_at.map_or_else(Default::default, |at| now.saturating_duration_since(at)),
            call_type,
            caller: self.caller.clone(),
            called: self.called.clone(),
            dialed: route.map_or_else(String::new, |r| r.dialed.clone()),
            diverted_from: route.and_then(|r| r.diverted_from.clone()),
            reason_for_call: route.map_or(ReasonForCall::None, |r| r.reason),
            dial_plan: plan.map(|p| p.name.clone()),
            ip_gateway: gateway.map(|g| g.name.clone()),
            ip_gateway_address: gateway.map(|g| g.address.to_string()),
            server: self.server.clone(),
            caller_mailbox: alias(&self.caller),
            callee_mailbox: callee.map(|m| m.alias.clone()),
            auto_attendant: attendant.map(|a| a.name.clone()),
            offer_result: outcome.offer_result,
            drop_reason: outcome.drop_reason.to_owned(),
            verdict: self.notes.iter().chain(&silent).fold(outcome.verdict, Verdict::evidence),
            transport_a: self.transport_a.to_owned(),
            transport_b: self.transport_b.to_owned(),
            security: self.security.clone(),
            redirects: self.redirects,
            failovers: self.failovers,
            codec: self.codec.clone(),
            transferred_to: self.transferred_to.clone(),
            media: None,
            recording: None,
            recording_lacks: None,
            capture: None,
        };
        if let Some(media) = &self.media {
            record.measured(**media);
        }
        record
    }

    /// The event of a missed call.
    pub fn missed(&self, policy: &Policy, record: &CallRecord) -> Notified {
        let silent = self.silent_mailbox(policy);
        Notified {
            notification: Notification::MissedCall,
            delivery: if silent.is_some() { Delivery::Unavailable } else { Delivery::Recorded },
            from: record.ip_gateway.clone().unwrap_or_default(),
            to: String::new(),
            user: record.called.clone(),
            code: Some(record.verdict.code),
            what: silent.unwrap_or_else(|| "the caller gave up before UM had the call".to_owned()),
        }
    }

    // What there is to say where nobody will tell the user of a missed call.
    fn silent_mailbox(&self, policy: &Policy) -> Option<String> {
        let index = self.route.as_ref()?.mailbox?;
        let mailbox = policy.mailboxes.get(index)?;
        let alias = &mailbox.alias;
        if !mailbox.um.exchange.notifies_of_missed_calls() {
            let version = mailbox.um.exchange.as_str();
            return Some(format!("mailbox {alias} is on Exchange {version}: no missed-call notification"));
        }
        let rules = policy.mailbox_policy_of(index)?;
        (rules.allow_missed_call_notifications == Allowed::No)
            .then(|| format!("mailbox policy {} of {alias}: no missed-call notification", rules.name))
    }

    fn call_type(&self, missed: Missed) -> CallType {
        match (self.route.as_ref().map(|r| r.call_type), missed) {
            (Some(CallType::CallAnswering), Missed::Yes) => CallType::MissedCall,
            (Some(call_type), _) => call_type,
            (None, _) => CallType::None,
        }
    }

    /// Keeps the latest counters.
    pub fn measured(&mut self, stats: &SessionStats) {
        self.media = Some(Box::new(MediaSummary::of(stats)));
    }
}
