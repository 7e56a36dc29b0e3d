//! Calls that UM places: Play-on-Phone, find-me, outdialling. From the INVITE of a Mailbox server to the dial plan it
//! speaks for and the one UM IP gateway it may leave through. Pure; refuses to know connections and SDP.

use sip::{Scheme, Uri};

use super::lookup::{mailbox_of, plan_of_context};
use super::{Outcome, Party, Route, RouteAnswer, RouteQuestion, Target, Trace};
use crate::codes;
use crate::policy::{Allowed, DialPlan, GatewayStatus, Policy};
use crate::record::{CallType, ReasonForCall};
use crate::verdict::Refusal;

/// Digits of an E.164 number, at most (ITU-T E.164 §6).
const E164_DIGITS_MAX: usize = 15;

/// For whom UM calls.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Behalf {
    /// A caller whose message is being taken is to be connected: such a call is in progress.
    Caller,
    /// The user, as far as is known.
    User,
}

/// Where a call of this Mailbox server (index) goes. The plan is that of the phone-context, of the calling party's
/// mailbox, of the called party's, else the server's only one, or its first with a gateway for such calls.
pub fn route_out(policy: &Policy, question: &RouteQuestion, server: usize, behalf: Behalf) -> RouteAnswer {
    let mut trace = Trace { steps: Vec::new() };
    for note in &question.notes {
        trace.passed("headers", note, "left out");
    }
    let result = search(policy, question, server, behalf, &mut trace);
    RouteAnswer { steps: trace.steps, result }
}

fn search(
    policy: &Policy,
    question: &RouteQuestion,
    server: usize,
    behalf: Behalf,
    trace: &mut Trace,
) -> Result<Route, Refusal> {
    let target = Target::of(question);
    let name = policy.mailbox_servers.get(server).map_or("", |server| &server.name);
    let Some(called) = &target.party else {
        let what = format!("the call of {name} names nobody");
        return Err(Refusal::new(codes::OUTCALLS_NOT_ALLOWED, name, what));
    };
    let Some(dial_plan) = plan(policy, question, &target, server, trace) else {
        let what = format!("{name} is in no dial plan");
        return Err(Refusal::new(codes::OUTCALLS_NOT_ALLOWED, name, what));
    };
    let (hunt_group, ip_gateway) = gateway(policy, dial_plan, trace)?;
    let diverter = question.diverters.last().map(|diverter| &diverter.party);
    let call_type = match (behalf, diverter) {
        (Behalf::User, None) => CallType::PlayOnPhone,
        _ => CallType::FindMe,
    };
    if call_type == CallType::PlayOnPhone {
        check_user(policy, question, dial_plan, trace)?;
    }
    trace.push("call type", "placed by UM", Outcome::Chosen(call_type.as_str().to_owned()));
    Ok(Route {
        ip_gateway,
        hunt_group: Some(hunt_group),
        dial_plan,
        call_type,
        voice_memo: false,
        callee: called.shown(),
        caller: question.callers().next().map(Party::shown).unwrap_or_default(),
        diverted_from: diverter.map(Party::shown),
        reason: ReasonForCall::Outbound,
        dialed: target.user().to_owned(),
        auto_attendant: None,
        mailbox: mailbox_of(policy, called, Some(dial_plan)),
        hosted: None,
    })
}

// The mailbox policy of the user whose message is played.
fn check_user(
    policy: &Policy,
    question: &RouteQuestion,
    dial_plan: usize,
    trace: &mut Trace,
) -> Result<(), Refusal> {
    let user = question.callers().find_map(|caller| mailbox_of(policy, caller, Some(dial_plan)));
    let rules = user.and_then(|user| policy.mailbox_policy_of(user));
    let Some(rules) = rules.filter(|rules| rules.allow_play_on_phone == Allowed::No) else { return Ok(()) };
    let what = format!("mailbox policy {} allows no Play-on-Phone", rules.name);
    trace.push("mailbox policy", &rules.name, Outcome::Refused(what.clone()));
    Err(Refusal::new(codes::OUTCALLS_NOT_ALLOWED, &rules.name, what))
}

fn plan(
    policy: &Policy,
    question: &RouteQuestion,
    target: &Target,
    server: usize,
    trace: &mut Trace,
) -> Option<usize> {
    const TRIED: &str = "dial plan of the UM server";
    let own = |plan: &usize| is_in(policy, *plan, server);
    let plans: Vec<usize> = (0..policy.dial_plans.len()).filter(own).collect();
    let plan_of = |party: &Party| policy.mailboxes.get(mailbox_of(policy, party, None)?).map(|m| m.dial_plan);
    let context = target.phone_context.as_deref().or(target.exum_context.as_deref());
    let by_context = || context.and_then(|context| plan_of_context(policy, context)).filter(own);
    let by_caller = || question.callers().filter_map(plan_of).find(own);
    let by_called = || target.party.as_ref().and_then(plan_of).filter(own);
    let can_call_out = |plan: &&usize| !gateways_for_out_calls(policy, **plan).is_empty();
    let (why, found) = None
        .or_else(|| by_context().map(|plan| ("phone-context", plan)))
        .or_else(|| by_caller().map(|plan| ("mailbox of the calling party", plan)))
        .or_else(|| by_called().map(|plan| ("mailbox of the called party", plan)))
        .or_else(|| match plans.as_slice() {
            [only] => Some(("the only one of the server", *only)),
            several => several
                .iter()
                .find(can_call_out)
                .or(several.first())
                .map(|first| ("the first of the server that has a gateway for such calls", *first)),
        })?;
    let name = policy.dial_plans.get(found).map_or("", |plan| plan.name.as_str());
    trace.push(TRIED, why, Outcome::Chosen(format!("dial plan {name}")));
    Some(found)
}

fn is_in(policy: &Policy, plan: usize, server: usize) -> bool {
    policy.dial_plans.get(plan).is_some_and(|plan| plan.mailbox_servers.contains(&server))
}

/// The UM IP gateways through which UM may place calls of a dial plan, each with the first hunt group that ties it to the
/// plan, in the order of the hunt groups. There should be exactly one.
pub fn gateways_for_out_calls(policy: &Policy, dial_plan: usize) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    for (group_index, group) in policy.hunt_groups.iter().enumerate() {
        let may = policy.ip_gateways.get(group.ip_gateway).is_some_and(|gateway| {
            gateway.outcalls_allowed == Allowed::Yes && gateway.status == GatewayStatus::Enabled
        });
        let is_new = found.iter().all(|(_, known)| *known != group.ip_gateway);
        if group.dial_plan == dial_plan && may && is_new {
            found.push((group_index, group.ip_gateway));
        }
    }
    found
}

fn gateway(policy: &Policy, dial_plan: usize, trace: &mut Trace) -> Result<(usize, usize), Refusal> {
    const TRIED: &str = "UM IP gateway for calls of UM";
    let plan = policy.dial_plans.get(dial_plan).map_or("", |plan| plan.name.as_str());
    let found = gateways_for_out_calls(policy, dial_plan);
    let name = |index: usize| policy.ip_gateways.get(index).map_or("", |gateway| gateway.name.as_str());
    let Some(first) = found.first().copied() else {
        let what = format!("no UM IP gateway of dial plan {plan} is Enabled with outcalls_allowed");
        trace.push(TRIED, plan, Outcome::Refused(what.clone()));
        let refusal = Refusal::new(codes::OUTCALLS_NOT_ALLOWED, plan, what);
        return Err(trace.steps.iter().fold(refusal, |refusal, step| refusal.evidence(step.to_string())));
    };
    let why = match found.len() {
        1 => format!("the only one of dial plan {plan} with outcalls_allowed"),
        _ => {
            let names: Vec<&str> = found.iter().map(|(_, index)| name(*index)).collect();
            format!("dial plan {plan} has several with outcalls_allowed ({}): the first", names.join(", "))
        }
    };
    trace.push(TRIED, why, Outcome::Chosen(name(first.1).to_owned()));
    Ok(first)
}

/// A sentence about a target that a pool will hardly find: neither E.164 nor a SIP address, no phone-context, and no
/// mailbox of the dial plan has that extension.
pub fn hint_about(policy: &Policy, dial_plan: usize, uri: &Uri) -> Option<String> {
    let party = Party::of(uri)?;
    party.number()?;
    let digits = party.number().map_or(0, |number| number.len());
    let is_e164 = party.user().starts_with('+') && digits <= E164_DIGITS_MAX;
    let has_context = uri.user_param("phone-context").is_some() || uri.param("phone-context").is_some();
    let is_extension = mailbox_of(policy, &party, Some(dial_plan)).is_some();
    if is_e164 || has_context || is_extension || uri.scheme() == Scheme::Other {
        return None;
    }
    let plan: Option<&DialPlan> = policy.dial_plans.get(dial_plan);
    let plan = plan.map_or("", |plan| plan.name.as_str());
    Some(format!(
        "{} is neither an E.164 number (+...) nor a SIP address, and no mailbox of dial plan {plan} has that extension: \
         normalise it (Lync: location profile named like the phone-context; Exchange: number formats of the dial plan)",
        party.user()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::policy;
    use crate::policy::{Mailbox, PoolEncryption, VoipSecurity};
    use crate::route::Spoken;

    fn config() -> Policy {
        policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::Secured)
    }

    fn ask(policy: &Policy, uri: &str, from: &str) -> Result<Route, Refusal> {
        let words = Spoken { request_uri: uri, from, ..Spoken::default() };
        let question = RouteQuestion::spoken(usize::MAX, &words).unwrap();
        route_out(policy, &question, 0, Behalf::User).result
    }

    /// A second plan of both servers, with a gateway of its own.
    fn two_plans() -> Policy {
        let mut policy = config();
        policy.dial_plans.push(DialPlan {
            name: "DP-Two".into(),
            phone_context: "DP-Two.contoso.com".into(),
            ..policy.dial_plans[0].clone()
        });
        policy.hunt_groups[1].dial_plan = 1;
        policy.mailboxes.push(Mailbox {
            alias: "tel".into(),
            sip: None,
            extension: Some("1001".into()),
            dial_plan: 1,
            ..policy.mailboxes[0].clone()
        });
        policy
    }

    #[test]
    fn the_plan_is_told_by_context_then_by_the_calling_and_by_the_called_mailbox_else_the_first_that_may_call()
     {
        let policy = two_plans();
        let plan = |uri: &str, from: &str| ask(&policy, uri, from).unwrap().dial_plan;
        assert_eq!(plan("sip:77;phone-context=DP-Two.contoso.com@x.test", "<sip:ken@contoso.com>"), 1);
        assert_eq!(plan("sip:+1425@x.test", "<sip:1001@contoso.com>"), 1);
        assert_eq!(plan("sip:1001@x.test", "<sip:nobody@contoso.com>"), 1);
        assert_eq!(plan("sip:+1425@x.test", "<sip:nobody@contoso.com>"), 0);
        let mut policy = two_plans();
        policy.ip_gateways[0].outcalls_allowed = Allowed::No;
        assert_eq!(ask(&policy, "sip:+1425@x.test", "").unwrap().dial_plan, 1, "one that may call out");
        // A plan that the server is not in says nothing.
        policy.dial_plans[1].mailbox_servers = vec![1];
        let refused = ask(&policy, "sip:+1425@x.test", "<sip:1001@contoso.com>").unwrap_err();
        assert_eq!(refused.code(), codes::OUTCALLS_NOT_ALLOWED);
    }

    #[test]
    fn the_gateway_is_the_first_enabled_one_with_permission_in_the_order_of_the_hunt_groups() {
        let mut policy = config();
        let through = |policy: &Policy| ask(policy, "sip:+1425@x.test", "").map(|route| route.ip_gateway);
        assert_eq!(through(&policy).unwrap(), 0);
        policy.hunt_groups.swap(0, 1);
        assert_eq!(through(&policy).unwrap(), 1);
        policy.ip_gateways[1].status = GatewayStatus::NoNewCalls;
        assert_eq!(through(&policy).unwrap(), 0);
        policy.ip_gateways[0].outcalls_allowed = Allowed::No;
        let refused = through(&policy).unwrap_err();
        assert_eq!(refused.code(), codes::OUTCALLS_NOT_ALLOWED);
        assert!(refused.verdict.what.contains("DP-Sip"), "{refused}");
    }

    #[test]
    fn only_a_number_that_nobody_can_place_gets_a_hint() {
        let policy = two_plans();
        let hint = |uri: &'static str| hint_about(&policy, 1, &Uri::parse(uri.into()).unwrap());
        for good in [
            "sip:+14255550121@x.test;user=phone",
            "tel:+14255550121",
            "sip:ken@contoso.com",
            "sip:1001@x.test",
            "sip:6095;phone-context=DP-Two.contoso.com@x.test;user=phone",
            "sip:umbra.contoso.com",
        ] {
            assert_eq!(hint(good), None, "{good}");
        }
        for bad in ["sip:5550121@x.test;user=phone", "tel:0425", "sip:+1234567890123456@x.test"] {
            assert!(hint(bad).is_some_and(|hint| hint.contains("DP-Two")), "{bad}");
        }
    }
}
