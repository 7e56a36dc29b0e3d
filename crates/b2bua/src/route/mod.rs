//! From a request to a dial plan: the lookup order, the kind of call, and a trace of what was tried. One pure function
//! serves calls and `umbra route explain`. Refuses to know connections, servers' health and SDP.

mod question;

pub use question::{Diverter, RouteQuestion};

use serde::Serialize;

use crate::policy::Policy;
use crate::record::{CallType, ReasonForCall};
use crate::verdict::Refusal;

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
pub enum Outcome {
    /// It decided the question.
    Chosen(String),
    /// It did not apply.
    Passed(String),
    /// It ended the search.
    Refused(String),
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
    /// Whose mailbox, or the pilot: user@host, extension or number.
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
}

/// Finds the dial plan of a request.
pub fn route(policy: &Policy, question: &RouteQuestion) -> RouteAnswer {
    let _ = (policy, question);
    unfinished()
}

fn unfinished() -> ! {
    std::process::abort()
}
