//! The lookup order: which rule leads a request to a dial plan. Each rule is one function that answers or passes.

use super::{RouteQuestion, Target, Trace};
use crate::policy::{DialPlan, EumAddress, HuntGroup, Mailbox, Policy};
use crate::route::Party;

/// A dial plan, and how it was reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) dial_plan: usize,
    pub(super) hunt_group: Option<usize>,
    pub(super) by: Rule,
}

/// The rule that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    PhoneContext,
    Pilot,
    AccessNumber,
    Attendant(usize),
    Mailbox,
    DefaultHuntGroup,
}

pub(super) fn lookup(
    policy: &Policy,
    question: &RouteQuestion,
    target: &Target,
    trace: &mut Trace,
) -> Option<Found> {
    by_phone_context(policy, question, target, trace)
        .or_else(|| by_pilot(policy, question, target, trace))
        .or_else(|| by_access_number(policy, question, target, trace))
        .or_else(|| by_attendant(policy, question, target, trace))
        .or_else(|| by_mailbox(policy, question, target, trace))
        .or_else(|| by_default(policy, question, trace))
}

fn by_phone_context(
    policy: &Policy,
    question: &RouteQuestion,
    target: &Target,
    trace: &mut Trace,
) -> Option<Found> {
    const TRIED: &str = "phone-context";
    let named = target.phone_context.as_deref().or(target.exum_context.as_deref());
    // A contact object may carry the context as its user part: `sip:dp-sip.contoso.com@contoso.com`.
    let context = named.unwrap_or(target.user());
    let Some(dial_plan) = plan_of_context(policy, context) else {
        let outcome = if named.is_some() { "no dial plan has it" } else { "none in the Request-URI" };
        trace.passed(TRIED, context, outcome);
        return None;
    };
    let hunt_group =
        groups_of(policy, question).find(|(_, group)| group.dial_plan == dial_plan).map(|(index, _)| index);
    let found = Found { dial_plan, hunt_group, by: Rule::PhoneContext };
    Some(trace.chosen(TRIED, context, found, policy))
}

fn by_pilot(policy: &Policy, question: &RouteQuestion, target: &Target, trace: &mut Trace) -> Option<Found> {
    const TRIED: &str = "pilot identifier";
    let is_called = |group: &HuntGroup| {
        let pilot = group.pilot_identifier.as_deref();
        pilot.is_some_and(|pilot| target.party.as_ref().is_some_and(|party| party.is_called(pilot)))
    };
    let hit = groups_of(policy, question).find(|(_, group)| is_called(group));
    let Some((index, group)) = hit else {
        trace.passed(TRIED, target.user(), pilots_of(policy, question));
        return None;
    };
    let found = Found { dial_plan: group.dial_plan, hunt_group: Some(index), by: Rule::Pilot };
    Some(trace.chosen(TRIED, target.user(), found, policy))
}

fn by_access_number(
    policy: &Policy,
    question: &RouteQuestion,
    target: &Target,
    trace: &mut Trace,
) -> Option<Found> {
    const TRIED: &str = "access telephone number";
    let party = target.party.as_ref()?;
    let hit = groups_of(policy, question).find(|(_, group)| {
        policy.dial_plans.get(group.dial_plan).is_some_and(|plan| is_access_number(plan, party))
    });
    let Some((index, group)) = hit else {
        trace.passed(TRIED, target.user(), "no dial plan of this gateway has it");
        return None;
    };
    let found = Found { dial_plan: group.dial_plan, hunt_group: Some(index), by: Rule::AccessNumber };
    Some(trace.chosen(TRIED, target.user(), found, policy))
}

fn by_attendant(
    policy: &Policy,
    question: &RouteQuestion,
    target: &Target,
    trace: &mut Trace,
) -> Option<Found> {
    const TRIED: &str = "auto attendant";
    let party = target.party.as_ref()?;
    let hit = groups_of(policy, question).find_map(|(index, group)| {
        Some((index, group.dial_plan, attendant_in(policy, group.dial_plan, party)?))
    });
    let Some((hunt_group, dial_plan, attendant)) = hit else {
        trace.passed(TRIED, target.user(), "none of this gateway's dial plans has it");
        return None;
    };
    let found = Found { dial_plan, hunt_group: Some(hunt_group), by: Rule::Attendant(attendant) };
    Some(trace.chosen(TRIED, target.user(), found, policy))
}

fn by_mailbox(
    policy: &Policy,
    question: &RouteQuestion,
    target: &Target,
    trace: &mut Trace,
) -> Option<Found> {
    const TRIED: &str = "mailbox of the called party";
    let diverted = question.diverters.last().map(|diverter| &diverter.party);
    let parties = [diverted, target.party.as_ref()];
    let hit = parties.into_iter().flatten().find_map(|party| Some((party, mailbox_of(policy, party, None)?)));
    let Some((party, mailbox)) = hit else {
        trace.passed(TRIED, target.user(), "not known here");
        return None;
    };
    let dial_plan = policy.mailboxes.get(mailbox)?.dial_plan;
    let hunt_group =
        groups_of(policy, question).find(|(_, group)| group.dial_plan == dial_plan).map(|(index, _)| index);
    let found = Found { dial_plan, hunt_group, by: Rule::Mailbox };
    Some(trace.chosen(TRIED, party.shown(), found, policy))
}

fn by_default(policy: &Policy, question: &RouteQuestion, trace: &mut Trace) -> Option<Found> {
    const TRIED: &str = "default hunt group";
    let mut groups = groups_of(policy, question);
    let default = groups_of(policy, question).find(|(_, group)| group.pilot_identifier.is_none());
    let only = match (groups.next(), groups.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    };
    let why = if default.is_some() {
        "hunt group without pilot identifier"
    } else {
        "only hunt group of the gateway"
    };
    let Some((index, group)) = default.or(only) else {
        trace.passed(TRIED, "neither a default nor a single hunt group", "nothing left to try");
        return None;
    };
    let found = Found { dial_plan: group.dial_plan, hunt_group: Some(index), by: Rule::DefaultHuntGroup };
    Some(trace.chosen(TRIED, why, found, policy))
}

fn groups_of<'a>(
    policy: &'a Policy,
    question: &RouteQuestion,
) -> impl Iterator<Item = (usize, &'a HuntGroup)> {
    let gateway = question.gateway;
    policy.hunt_groups.iter().enumerate().filter(move |(_, group)| group.ip_gateway == gateway)
}

fn pilots_of(policy: &Policy, question: &RouteQuestion) -> String {
    let pilots: Vec<&str> = groups_of(policy, question)
        .filter_map(|(_, group)| group.pilot_identifier.as_deref())
        .take(8)
        .collect();
    match pilots.is_empty() {
        true => "the gateway's hunt groups have no pilot".to_owned(),
        false => format!("the gateway's pilots are {}", pilots.join(", ")),
    }
}

pub(super) fn plan_of_context(policy: &Policy, context: &str) -> Option<usize> {
    let own = |plan: &DialPlan| plan.phone_context.eq_ignore_ascii_case(context);
    let equivalent =
        |plan: &DialPlan| plan.equivalent_phone_contexts.iter().any(|c| c.eq_ignore_ascii_case(context));
    let plans = &policy.dial_plans;
    plans.iter().position(own).or_else(|| plans.iter().position(equivalent))
}

fn is_access_number(plan: &DialPlan, party: &Party) -> bool {
    plan.access_telephone_numbers.iter().any(|number| party.is_called(number))
}

/// Whether the party is a subscriber-access number of the plan.
pub(super) fn is_access_number_of(policy: &Policy, dial_plan: usize, party: &Party) -> bool {
    policy.dial_plans.get(dial_plan).is_some_and(|plan| is_access_number(plan, party))
}

/// The attendant of a plan that the party names, by its name or one of its pilots.
pub(super) fn attendant_in(policy: &Policy, dial_plan: usize, party: &Party) -> Option<usize> {
    policy.auto_attendants.iter().position(|attendant| {
        let mut pilots = attendant.pilot_identifiers.iter();
        attendant.dial_plan == dial_plan
            && (party.is_called(&attendant.name) || pilots.any(|pilot| party.is_called(pilot)))
    })
}

/// The mailbox of a party: by SIP address anywhere, by extension inside a plan (any plan when `None`).
pub(crate) fn mailbox_of(policy: &Policy, party: &Party, dial_plan: Option<usize>) -> Option<usize> {
    let is_owner = |mailbox: &Mailbox| {
        let by_address = mailbox.sip.as_deref().is_some_and(|address| party.is_address(address));
        let is_in = |plan: usize| dial_plan.is_none_or(|wanted| wanted == plan);
        let by_extension = || {
            let extension = mailbox.extension.as_deref();
            is_in(mailbox.dial_plan) && extension.is_some_and(|extension| party.is_called(extension))
        };
        let by_eum = || {
            let is_it = |eum: &EumAddress| {
                party.is_address(&eum.address) || (is_in(eum.dial_plan) && party.is_called(&eum.address))
            };
            mailbox.um.eum_addresses.iter().any(is_it)
        };
        by_address || by_extension() || by_eum()
    };
    policy.mailboxes.iter().position(is_owner)
}

/// The name of a party, from the mailboxes of all dial plans: by SIP address anywhere; by extension in this plan, in plans
/// that share its numbering, else where only one mailbox has it.
pub fn name_of<'a>(policy: &'a Policy, party: &Party, dial_plan: usize) -> Option<&'a str> {
    let named =
        |index: usize| policy.mailboxes.get(index).and_then(|mailbox| mailbox.um.display_name.as_deref());
    let shares = |other: &usize| {
        let (own, other) = (policy.dial_plans.get(dial_plan), policy.dial_plans.get(*other));
        own.zip(other).is_some_and(|(own, other)| {
            other.equivalent_phone_contexts.iter().any(|c| c.eq_ignore_ascii_case(&own.phone_context))
                || own.equivalent_phone_contexts.iter().any(|c| c.eq_ignore_ascii_case(&other.phone_context))
        })
    };
    let near = std::iter::once(dial_plan).chain((0..policy.dial_plans.len()).filter(shares));
    let found = near.into_iter().find_map(|plan| mailbox_of(policy, party, Some(plan)));
    let only = || {
        let all = (0..policy.dial_plans.len()).filter_map(|plan| mailbox_of(policy, party, Some(plan)));
        let mut all: Vec<usize> = all.collect();
        all.dedup();
        all.first().copied().filter(|_| all.len() == 1)
    };
    named(found.or_else(only)?)
}
