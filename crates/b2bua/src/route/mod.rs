//! From a request to a dial plan: the lookup order, the kind of call, and a trace of what was tried. One pure function
//! serves calls and `umbra route explain`. Refuses to know connections, servers' health and SDP.

mod classify;
#[cfg(test)]
mod forms;
mod hosted;
mod lookup;
mod out;
mod party;
mod question;
#[cfg(test)]
mod tests;

pub use hosted::HostedRoute;
pub(crate) use lookup::mailbox_of;
pub use lookup::name_of;
pub use out::{Behalf, gateways_for_out_calls, hint_about, route_out};
pub use party::Party;
pub use question::{CalledBy, DIVERTERS_MAX, Diverter, RouteQuestion, Spoken, UmView};

use serde::Serialize;

use crate::codes::{self, Code};
use crate::policy::{GatewayStatus, Policy};
use crate::record::{CallType, ReasonForCall};
use crate::verdict::Refusal;
use lookup::Found;

/// What `route` found, and how.
#[derive(Clone, Debug)]
pub struct RouteAnswer {
    /// What was tried, in order.
    pub steps: Vec<Step>,
    /// The route, or why there is none.
    pub result: Result<Route, Refusal>,
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The rule.
    pub tried: &'static str,
    /// What it looked at.
    pub why: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It decided the question.
    Chosen(String),
    /// It did not apply.
    Passed(String),
    /// It ended the search.
    Refused(String),
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (mark, outcome) = match &self.outcome {
            Outcome::Chosen(text) => ("=>", text),
            Outcome::Passed(text) => ("--", text),
            Outcome::Refused(text) => ("!!", text),
        };
        write!(f, "{mark} {}: {}; {outcome}", self.tried, self.why)
    }
}

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Index into `ip_gateways`.
    pub ip_gateway: usize,
    /// Index into `hunt_groups`, when one led here.
    pub hunt_group: Option<usize>,
    /// Index into `dial_plans`.
    pub dial_plan: usize,
    /// What kind of call.
    pub call_type: CallType,
    /// Straight to recording (`local-resource-path=voicememo`).
    pub voice_memo: bool,
    /// Whose mailbox, or the pilot: `user@host`, extension or number.
    pub callee: String,
    /// Who calls.
    pub caller: String,
    /// Oldest diverting party, when the call was diverted.
    pub diverted_from: Option<String>,
    /// Why the call came to UM.
    pub reason: ReasonForCall,
    /// User part of the Request-URI.
    pub dialed: String,
    /// Index into `auto_attendants`, when one is called.
    pub auto_attendant: Option<usize>,
    /// Index into `mailboxes`, when the callee's is known.
    pub mailbox: Option<usize>,
    /// Where it goes instead of the dial plan's servers, when the voice mail is hosted.
    pub hosted: Option<HostedRoute>,
}

impl Route {
    /// Whether UM placed the call (Play-on-Phone, find-me).
    pub fn is_out_call(&self) -> bool {
        self.reason == ReasonForCall::Outbound
    }
}

/// Finds the dial plan of a request. First hit wins: explicit phone-context; pilot identifier, access number or
/// attendant of the peer's gateway; the called mailbox's phone-context; the gateway's default hunt group or its only
/// one. Nothing found is `UMB-ROUTE001`.
pub fn route(policy: &Policy, question: &RouteQuestion) -> RouteAnswer {
    let mut trace = Trace { steps: Vec::new() };
    for note in &question.notes {
        trace.passed("headers", note, "left out");
    }
    let result = search(policy, question, &mut trace);
    RouteAnswer { steps: trace.steps, result }
}

fn search(policy: &Policy, question: &RouteQuestion, trace: &mut Trace) -> Result<Route, Refusal> {
    check_gateway(policy, question, trace)?;
    let target = Target::of(question);
    let Some(found) = lookup::lookup(policy, question, &target, trace) else {
        return Err(no_route(policy, question, trace));
    };
    let route = classify::classify(policy, question, &target, &found, trace);
    let hosted = hosted::decide(policy, question, &target, &route, trace)?;
    Ok(Route { hosted, ..route })
}

/// The called party, and what the Request-URI asks for beside it.
struct Target {
    party: Option<Party>,
    /// `opaque=app:voicemail`.
    is_voicemail: bool,
    /// `local-resource-path=voicememo`.
    is_voice_memo: bool,
    /// The context of `opaque=app:exum:<context>`.
    exum_context: Option<String>,
    /// `phone-context`, in the user part or behind it.
    phone_context: Option<String>,
}

impl Target {
    fn of(question: &RouteQuestion) -> Self {
        let uri = &question.request_uri;
        let text = |raw: Option<Option<&[u8]>>| {
            raw.flatten()
                .map(|value| crate::verdict::clean(&String::from_utf8_lossy(&sip::uri::unescape(value))))
        };
        let opaque = text(uri.param("opaque")).unwrap_or_default();
        let path = text(uri.param("local-resource-path"));
        Self {
            party: Party::of(uri),
            is_voicemail: opaque.eq_ignore_ascii_case("app:voicemail"),
            is_voice_memo: path.is_some_and(|path| path.eq_ignore_ascii_case("voicememo")),
            exum_context: strip_prefix_any_case(&opaque, "app:exum:").map(str::to_owned),
            phone_context: text(uri.user_param("phone-context")).or_else(|| text(uri.param("phone-context"))),
        }
    }

    fn user(&self) -> &str {
        self.party.as_ref().map_or("", Party::user)
    }
}

fn strip_prefix_any_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

fn check_gateway(policy: &Policy, question: &RouteQuestion, trace: &mut Trace) -> Result<(), Refusal> {
    const TRIED: &str = "UM IP gateway";
    let Some(gateway) = policy.ip_gateways.get(question.gateway) else {
        return Err(refuse(
            trace,
            TRIED,
            codes::UNKNOWN_GATEWAY,
            "peer",
            "the peer is no UM IP gateway".to_owned(),
        ));
    };
    let name = &gateway.name;
    match gateway.status {
        GatewayStatus::Enabled => {
            trace.passed(TRIED, format!("{name} ({})", gateway.address), "Enabled, takes calls")
        }
        GatewayStatus::Disabled => {
            return Err(refuse(
                trace,
                TRIED,
                codes::GATEWAY_DISABLED,
                name,
                format!("UM IP gateway {name} is Disabled"),
            ));
        }
        GatewayStatus::NoNewCalls => {
            let what = format!("UM IP gateway {name} takes no new calls");
            return Err(refuse(trace, TRIED, codes::NO_NEW_CALLS, name, what));
        }
    }
    Ok(())
}

fn refuse(trace: &mut Trace, tried: &'static str, code: Code, who: &str, what: String) -> Refusal {
    trace.push(tried, who, Outcome::Refused(what.clone()));
    Refusal::new(code, who, what)
}

fn no_route(policy: &Policy, question: &RouteQuestion, trace: &mut Trace) -> Refusal {
    let gateway = policy.ip_gateways.get(question.gateway).map_or("", |gateway| gateway.name.as_str());
    let what = format!("no hunt group of UM IP gateway {gateway} matches and it has no default");
    let tried: Vec<String> = trace.steps.iter().map(ToString::to_string).collect();
    let refusal = refuse(trace, "result", codes::NO_ROUTE, gateway, what);
    let uri = question.request_uri.raw().escape_ascii().to_string();
    tried.iter().fold(refusal.evidence(format!("Request-URI {uri}")), Refusal::evidence)
}

/// The steps so far.
struct Trace {
    steps: Vec<Step>,
}

impl Trace {
    fn push(&mut self, tried: &'static str, why: impl Into<String>, outcome: Outcome) {
        self.steps.push(Step { tried, why: why.into(), outcome });
    }

    fn passed(&mut self, tried: &'static str, why: impl Into<String>, outcome: impl Into<String>) {
        self.push(tried, why, Outcome::Passed(outcome.into()));
    }

    fn chosen(
        &mut self,
        tried: &'static str,
        why: impl Into<String>,
        found: Found,
        policy: &Policy,
    ) -> Found {
        let plan = policy.dial_plans.get(found.dial_plan).map_or("", |plan| plan.name.as_str());
        let group = found.hunt_group.and_then(|index| policy.hunt_groups.get(index));
        let outcome = match group {
            Some(group) => format!("hunt group {} leads to dial plan {plan}", group.name),
            None => format!("dial plan {plan}"),
        };
        self.push(tried, why, Outcome::Chosen(outcome));
        found
    }
}
