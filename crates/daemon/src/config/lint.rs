//! What UM administrators get wrong across Exchange, Lync and here, beyond what `checks` refuses: pilots, ports, URI types,
//! indicators, contact objects, hosted users. Each check is one function and reports at the key that would be changed.

use std::collections::BTreeMap;

use b2bua::codes;
use b2bua::policy::{
    Allowed, ContactKind, Deployment, DialPlan, Home, Policy, PortSource, Scope, UriType, VoipSecurity,
};

use super::reader::Reader;

/// The port of SIP over TLS, on pools and everywhere else.
const TLS_PORT: u16 = 5061;

pub(super) fn lint(policy: &Policy, root: &Reader<'_>) {
    pilots(policy, root);
    plans(policy, root);
    gateways(policy, root);
    contacts(policy, root);
    hosted_policies(policy, root);
    hosted_users(policy, root);
}

/// A number of a plan, and the key it stands at.
struct Pilot<'a> {
    plan: usize,
    number: &'a str,
    setting: String,
}

fn all_pilots(policy: &Policy) -> Vec<Pilot<'_>> {
    let mut all = Vec::new();
    for (plan, object) in policy.dial_plans.iter().enumerate() {
        let setting = format!("dial_plan[{plan}].access_telephone_numbers");
        let numbers = object.access_telephone_numbers.iter();
        all.extend(numbers.map(|number| Pilot { plan, number, setting: setting.clone() }));
    }
    for (index, attendant) in policy.auto_attendants.iter().enumerate() {
        let setting = format!("auto_attendant[{index}].pilot_identifiers");
        let numbers = attendant.pilot_identifiers.iter();
        all.extend(numbers.map(|number| Pilot {
            plan: attendant.dial_plan,
            number,
            setting: setting.clone(),
        }));
    }
    all
}

fn is_reached(policy: &Policy, plan: usize) -> bool {
    policy.hunt_groups.iter().any(|group| group.dial_plan == plan)
}

fn plan_name(policy: &Policy, plan: usize) -> &str {
    policy.dial_plans.get(plan).map_or("", |plan| &plan.name)
}

fn pilots(policy: &Policy, root: &Reader<'_>) {
    let mut seen = BTreeMap::new();
    for pilot in all_pilots(policy) {
        let name = plan_name(policy, pilot.plan);
        if let Some(first) = seen.insert((pilot.plan, pilot.number), pilot.setting.clone()) {
            let what = format!("{} of dial plan {name} stands at {first} too", pilot.number);
            root.error(codes::PILOT_TWICE, &pilot.setting, what);
        }
        if !is_reached(policy, pilot.plan) {
            let what = format!("{} belongs to dial plan {name}, to which no hunt group leads", pilot.number);
            root.warn(codes::PILOT_WITHOUT_GROUP, &pilot.setting, what);
        }
    }
}

fn plans(policy: &Policy, root: &Reader<'_>) {
    for (index, plan) in policy.dial_plans.iter().enumerate() {
        let has_pilot = all_pilots(policy).iter().any(|pilot| pilot.plan == index);
        if !is_reached(policy, index) && !has_pilot {
            let what = format!("no hunt group leads to dial plan {}", plan.name);
            root.warn(codes::CFG_PLAN_UNUSED, &format!("dial_plan[{index}].name"), what);
        }
        context_form(plan, index, root);
    }
    for (index, group) in policy.hunt_groups.iter().enumerate() {
        let (Some(pool), Some(plan)) =
            (policy.pool_of(group.ip_gateway), policy.dial_plans.get(group.dial_plan))
        else {
            continue;
        };
        if plan.uri_type != UriType::SipName {
            let what =
                format!("dial plan {} is {:?}, and pool {} calls it", plan.name, plan.uri_type, pool.name);
            root.warn(codes::POOL_PLAN_NOT_SIP, &format!("hunt_group[{index}].dial_plan"), what);
        }
    }
}

/// Exchange makes the context of the plan's name and the forest's.
fn context_form(plan: &DialPlan, index: usize, root: &Reader<'_>) {
    let rest = plan.phone_context.get(plan.name.len()..).unwrap_or_default();
    let head = plan.phone_context.get(..plan.name.len()).unwrap_or_default();
    let is_usual = head.eq_ignore_ascii_case(&plan.name) && rest.len() > 1 && rest.starts_with('.');
    if !is_usual && !plan.phone_context.is_empty() {
        let what = format!("`{}` does not begin with `{}.`", plan.phone_context, plan.name);
        root.warn(codes::PHONE_CONTEXT_FORM, &format!("dial_plan[{index}].phone_context"), what);
    }
}

fn gateways(policy: &Policy, root: &Reader<'_>) {
    for (index, gateway) in policy.ip_gateways.iter().enumerate() {
        let Some(pool) = policy.pool_of(index) else { continue };
        let groups = policy.hunt_groups.iter().filter(|group| group.ip_gateway == index);
        let mut plans = groups.filter_map(|group| policy.dial_plans.get(group.dial_plan));
        let is_secured = plans.any(|plan| plan.voip_security != VoipSecurity::Unsecured);
        let is_said = gateway.port_source == PortSource::Configured;
        if is_secured && is_said && gateway.port != TLS_PORT {
            let what = format!("pool {} is called on port {}", pool.name, gateway.port);
            root.warn(codes::GATEWAY_PORT, &format!("ip_gateway[{index}].port"), what);
        }
        if gateway.message_waiting_indicator_allowed == Allowed::No {
            let what = format!("users of pool {} see no message waiting", pool.name);
            let setting = format!("ip_gateway[{index}].message_waiting_indicator_allowed");
            root.warn(codes::MWI_OFF, &setting, what);
        }
    }
}

fn contacts(policy: &Policy, root: &Reader<'_>) {
    for (index, contact) in policy.um.contacts.iter().enumerate() {
        let user = contact.sip_address.split_once('@').map_or("", |(user, _)| user);
        let number = contact.display_number.as_deref();
        let is_here = match contact.kind {
            ContactKind::AutoAttendant => policy.auto_attendants.iter().any(|attendant| {
                let mut pilots = attendant.pilot_identifiers.iter();
                attendant.name.eq_ignore_ascii_case(user)
                    || pilots.any(|pilot| Some(pilot.as_str()) == number)
            }),
            ContactKind::SubscriberAccess => policy.dial_plans.iter().any(|plan| {
                plan.access_telephone_numbers.iter().any(|access| Some(access.as_str()) == number)
            }),
        };
        let is_hosted =
            contact.hosted_policy.is_some() || policy.um.hosted.deployment == Deployment::CrossPremises;
        if !is_here && !is_hosted {
            let what = match contact.kind {
                ContactKind::AutoAttendant => "is the name or pilot of no auto attendant",
                ContactKind::SubscriberAccess => "has the access number of no dial plan",
            };
            let what = format!("{} {what}", contact.sip_address);
            root.warn(codes::CONTACT_WITHOUT_SERVICE, &format!("contact[{index}].sip_address"), what);
        }
    }
}

fn hosted_policies(policy: &Policy, root: &Reader<'_>) {
    let hosted = &policy.um.hosted;
    for (index, of_users) in hosted.policies.iter().enumerate() {
        let Scope::Site(site) = &of_users.scope else { continue };
        let is_it = |own: &str| own.eq_ignore_ascii_case(site);
        if !policy.pools.iter().any(|pool| pool.site.as_deref().is_some_and(is_it)) {
            let what = format!("no pool has the site `{site}`");
            root.warn(codes::CFG_UNRESOLVED, &format!("hosted_voicemail_policy[{index}].identity"), what);
        }
    }
    let is_used = hosted.deployment != Deployment::OnPremises && !hosted.policies.is_empty();
    if is_used && hosted.access_edge.allow_federated_users == Allowed::No {
        let what = "hosted voice mail is configured, and the Access Edge lets nothing out";
        root.warn(codes::FEDERATION_OFF, "access_edge.allow_federated_users", what);
    }
}

fn hosted_users(policy: &Policy, root: &Reader<'_>) {
    let hosted = &policy.um.hosted;
    for (index, mailbox) in policy.mailboxes.iter().enumerate() {
        let setting = format!("mailbox[{index}].hosted");
        let alias = &mailbox.alias;
        match (mailbox.um.home, hosted.deployment) {
            (Home::Hosted, Deployment::OnPremises) => {
                root.warn(codes::HOSTED_FLAG_UNUSED, &setting, format!("{alias} is hosted"));
                continue;
            }
            (Home::Hosted, _) | (Home::Unsaid, Deployment::CrossPremises) => {}
            _ => continue,
        }
        let sites = policy.pools.iter().filter_map(|pool| pool.site.as_deref()).map(Some).chain([None]);
        let mut policies = sites.filter_map(|site| hosted.policy_of(mailbox.um.hosted_policy, site));
        if policies.next().is_none() {
            let what = format!("no hosted voice mail policy applies to {alias}");
            root.warn(codes::HOSTED_NO_POLICY, &setting, what);
        }
        let plan = policy.dial_plans.get(mailbox.dial_plan);
        if let Some(plan) = plan.filter(|plan| plan.voip_security == VoipSecurity::Unsecured) {
            let what = format!("{alias} is hosted, and dial plan {} is Unsecured", plan.name);
            root.warn(codes::HOSTED_NEEDS_TLS, &setting, what);
        }
    }
}
