//! What kind of call it is, once the dial plan is known: call answering, subscriber access or auto attendant. Follows
//! the caller's and the diverting parties' addresses; changes nothing about the plan.

use super::lookup::{Found, Rule, attendant_in, is_access_number_of, mailbox_of};
use super::{Diverter, Outcome, Party, Route, RouteQuestion, Target, Trace};
use crate::policy::Policy;
use crate::record::{CallType, ReasonForCall};

pub(super) fn classify(
    policy: &Policy,
    question: &RouteQuestion,
    target: &Target,
    found: &Found,
    trace: &mut Trace,
) -> Route {
    let auto_attendant = attendant(policy, target, found);
    let diverter = question.diverters.last();
    let callee = diverter.map(|diverter| &diverter.party).or(target.party.as_ref());
    let (call_type, why) = kind(policy, question, target, found, auto_attendant);
    trace.push("call type", why, Outcome::Chosen(call_type.as_str().to_owned()));
    let is_answering = call_type == CallType::CallAnswering;
    let callee = if is_answering { callee } else { target.party.as_ref() };
    Route {
        ip_gateway: question.gateway,
        hunt_group: found.hunt_group,
        dial_plan: found.dial_plan,
        call_type,
        voice_memo: target.is_voice_memo,
        callee: callee.map(Party::shown).unwrap_or_default(),
        caller: caller(question).map(Party::shown).unwrap_or_default(),
        diverted_from: diverter.map(|diverter| diverter.party.shown()),
        reason: reason(diverter, is_answering),
        dialed: target.user().to_owned(),
        auto_attendant,
        mailbox: callee.and_then(|party| mailbox_of(policy, party, Some(found.dial_plan))),
        hosted: None,
    }
}

fn attendant(policy: &Policy, target: &Target, found: &Found) -> Option<usize> {
    match found.by {
        Rule::Attendant(index) => Some(index),
        // A person whose address is spelled like an attendant still has a mailbox of their own.
        _ if target.is_voicemail => None,
        _ => attendant_in(policy, found.dial_plan, target.party.as_ref()?),
    }
}

fn kind(
    policy: &Policy,
    question: &RouteQuestion,
    target: &Target,
    found: &Found,
    attendant: Option<usize>,
) -> (CallType, String) {
    if let Some(attendant) = attendant.and_then(|index| policy.auto_attendants.get(index)) {
        return (CallType::AutoAttendant, format!("{} is an auto attendant", attendant.name));
    }
    if target.is_voice_memo {
        return (CallType::CallAnswering, "voice memo: straight to recording".to_owned());
    }
    let diverted = question.diverters.last().map(|diverter| &diverter.party);
    if let Some(owner) =
        diverted.or(target.party.as_ref()).filter(|owner| is_caller(policy, question, found, owner))
    {
        return (CallType::SubscriberAccess, format!("{} calls the own mailbox", owner.shown()));
    }
    if let Some(diverted) = diverted {
        return (CallType::CallAnswering, format!("diverted from {}", diverted.shown()));
    }
    direct(policy, question, target, found)
}

/// Nobody diverted the call and the caller is not the called party.
fn direct(policy: &Policy, question: &RouteQuestion, target: &Target, found: &Found) -> (CallType, String) {
    let user = target.user();
    if target.is_voicemail {
        return (CallType::CallAnswering, format!("caller is not {user}, whose voice mail is asked for"));
    }
    if target.exum_context.is_some() {
        return (CallType::SubscriberAccess, format!("{user} is the contact object of Outlook Voice Access"));
    }
    if matches!(found.by, Rule::Pilot | Rule::AccessNumber) || is_service(policy, target, found) {
        return (CallType::SubscriberAccess, format!("{user} is a pilot or access number, called directly"));
    }
    let is_extension = found.by == Rule::PhoneContext || found.by == Rule::Mailbox;
    if is_extension || policy.pool_of(question.gateway).is_some() {
        return (CallType::CallAnswering, format!("caller is not {user}, who is called"));
    }
    (CallType::SubscriberAccess, "called directly through a gateway, without Diversion".to_owned())
}

/// Whether the user part stands for the plan itself: its phone-context, name or access number.
fn is_service(policy: &Policy, target: &Target, found: &Found) -> bool {
    let Some(party) = &target.party else { return true };
    let Some(plan) = policy.dial_plans.get(found.dial_plan) else { return false };
    party.is_called(&plan.phone_context)
        || party.is_called(&plan.name)
        || is_access_number_of(policy, found.dial_plan, party)
}

fn is_caller(policy: &Policy, question: &RouteQuestion, found: &Found, owner: &Party) -> bool {
    let mailbox = mailbox_of(policy, owner, Some(found.dial_plan));
    let is_owner = |party: &Party| {
        party.is_same(owner)
            || (mailbox.is_some() && mailbox_of(policy, party, Some(found.dial_plan)) == mailbox)
    };
    question.from.iter().chain(&question.asserted).any(is_owner)
}

fn caller(question: &RouteQuestion) -> Option<&Party> {
    question.asserted.first().or(question.from.as_ref())
}

fn reason(diverter: Option<&Diverter>, is_answering: bool) -> ReasonForCall {
    let Some(diverter) = diverter.filter(|_| is_answering) else { return ReasonForCall::Direct };
    match diverter.reason.as_deref() {
        Some("no-answer" | "no answer") => ReasonForCall::DivertNoAnswer,
        Some("user-busy" | "busy") => ReasonForCall::DivertBusy,
        _ => ReasonForCall::DivertForward,
    }
}
