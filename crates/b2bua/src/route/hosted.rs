//! Whether a call goes to hosted voice mail, and under which Request-URI. Asked once the dial plan and the kind of call are
//! known; the plan's rules go on to apply. Refuses to know how the way there is found: a hosted UM is one more server.

use bytes::Bytes;
use sip::Uri;

use super::{Outcome, RouteQuestion, Target, Trace, refuse};
use crate::codes;
use crate::policy::{Allowed, Contact, Deployment, Home, Hosted, Mailbox, Policy, UriParts, VoipSecurity};
use crate::record::CallType;
use crate::verdict::Refusal;

use super::Route;

const TRIED: &str = "hosted voice mail";
/// Parameters of the caller's Request-URI that say how to get there, not what is wanted.
const OF_THE_WAY: [&str; 5] = ["transport", "maddr", "ttl", "lr", "method"];

/// Where a call goes whose voice mail is hosted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedRoute {
    /// Index into the policy's `um.hosted.policies`.
    pub policy: usize,
    /// Index into `um.hosted.servers`.
    pub server: usize,
    /// The tenant.
    pub organization: String,
    /// What stands in the first request line.
    pub request_uri: Bytes,
}

/// Who is called, as far as this question goes.
enum Owner<'a> {
    Contact(&'a Contact),
    Mailbox(&'a Mailbox),
    Nobody,
}

pub(super) fn decide(
    policy: &Policy,
    question: &RouteQuestion,
    target: &Target,
    route: &Route,
    trace: &mut Trace,
) -> Result<Option<HostedRoute>, Refusal> {
    let hosted = &policy.um.hosted;
    let owner = owner(policy, target, route);
    let Some(why) = is_hosted(hosted, &owner, trace) else { return Ok(None) };
    let granted = match owner {
        Owner::Contact(contact) => contact.hosted_policy,
        Owner::Mailbox(mailbox) => mailbox.um.hosted_policy,
        Owner::Nobody => None,
    };
    let site = policy.pool_of(question.gateway).and_then(|pool| pool.site.as_deref());
    let domain = match owner {
        Owner::Mailbox(mailbox) => mailbox.sip.as_deref().and_then(domain_of),
        Owner::Contact(contact) => domain_of(&contact.sip_address),
        Owner::Nobody => None,
    };
    let found = hosted.policy_of(granted, site).and_then(|(index, of_user)| {
        let organization = of_user.organization_of(domain.unwrap_or(&policy.gateway.sip_domain))?;
        Some((index, of_user, organization))
    });
    let mut refused = |code, who: &str, what: String| Err(refuse(trace, TRIED, code, who, what));
    let Some((index, of_user, organization)) = found else {
        return refused(
            codes::HOSTED_NO_POLICY,
            &route.callee,
            format!("{why}, and no hosted voice mail policy applies"),
        );
    };
    if hosted.access_edge.allow_federated_users == Allowed::No {
        let what = format!("{why}; the Access Edge lets nothing out to {}", of_user.destination);
        return refused(codes::FEDERATION_OFF, &of_user.identity, what);
    }
    let plan = policy.dial_plans.get(route.dial_plan);
    if let Some(plan) = plan.filter(|plan| plan.voip_security == VoipSecurity::Unsecured) {
        let what = format!("{why}, and dial plan {} is Unsecured", plan.name);
        return refused(codes::HOSTED_NEEDS_TLS, &plan.name, what);
    }
    let Some((server, name)) =
        of_user.server.and_then(|server| Some((server, &hosted.servers.get(server)?.name)))
    else {
        let what = format!("{why}; nothing leads to {}", of_user.destination);
        return refused(codes::NO_HOSTING_PROVIDER, &of_user.identity, what);
    };
    let request_uri = request_uri(hosted, question, organization, &of_user.destination);
    if Uri::parse(request_uri.clone()).is_err() {
        let what = format!("{why}; the Request-URI toward {name} would be none");
        return refused(codes::BAD_REQUEST_URI, &route.dialed, what);
    }
    let outcome = format!("by policy {} to {name}, organization {organization}", of_user.identity);
    trace.push(TRIED, why, Outcome::Chosen(outcome));
    Ok(Some(HostedRoute { policy: index, server, organization: organization.to_owned(), request_uri }))
}

/// The contact object that is called, else the owner of the mailbox.
fn owner<'a>(policy: &'a Policy, target: &Target, route: &Route) -> Owner<'a> {
    let is_called = |contact: &&Contact| {
        let number = contact.display_number.as_deref();
        target.party.as_ref().is_some_and(|party| {
            party.is_address(&contact.sip_address) || number.is_some_and(|number| party.is_called(number))
        })
    };
    let contact = policy.um.contacts.iter().find(is_called);
    let contact = contact.filter(|_| route.call_type != CallType::CallAnswering);
    match (contact, route.mailbox.and_then(|index| policy.mailboxes.get(index))) {
        (Some(contact), _) => Owner::Contact(contact),
        (None, Some(mailbox)) => Owner::Mailbox(mailbox),
        (None, None) => Owner::Nobody,
    }
}

/// Why the call goes to hosted voice mail; `None` when it stays here. Steps are told where somebody said something about it.
fn is_hosted(hosted: &Hosted, owner: &Owner<'_>, trace: &mut Trace) -> Option<String> {
    let (name, home, has_eum) = match owner {
        Owner::Contact(contact) if contact.hosted_policy.is_some() => {
            (contact.sip_address.as_str(), Home::Hosted, false)
        }
        Owner::Contact(contact) => (contact.sip_address.as_str(), Home::Unsaid, false),
        Owner::Mailbox(mailbox) => {
            (mailbox.alias.as_str(), mailbox.um.home, !mailbox.um.eum_addresses.is_empty())
        }
        Owner::Nobody => ("a user not known here", Home::Unsaid, false),
    };
    match (hosted.deployment, home) {
        (Deployment::OnPremises, Home::Hosted) => {
            trace.passed(TRIED, format!("{name} is hosted"), "not looked at in an on-premises deployment");
            None
        }
        (_, Home::OnPremises) => {
            trace.passed(TRIED, name, "on premises, as is said of the user");
            None
        }
        (_, Home::Hosted) if has_eum => Some(format!("{name} is hosted, which wins over the EUM address")),
        (_, Home::Hosted) => Some(format!("{name} is hosted")),
        (Deployment::CrossPremises, Home::Unsaid) => Some(format!("{name}, in a cross-premises deployment")),
        (Deployment::OnPremises | Deployment::Mixed, Home::Unsaid) => None,
    }
}

fn domain_of(address: &str) -> Option<&str> {
    address.split_once('@').map(|(_, domain)| domain)
}

fn request_uri(hosted: &Hosted, question: &RouteQuestion, organization: &str, destination: &str) -> Bytes {
    let uri = &question.request_uri;
    let mut params = Vec::new();
    for (name, value) in uri.params() {
        if OF_THE_WAY.iter().any(|word| name.eq_ignore_ascii_case(word.as_bytes())) {
            continue;
        }
        params.push(b';');
        params.extend_from_slice(name);
        if let Some(value) = value {
            params.push(b'=');
            params.extend_from_slice(value);
        }
    }
    let user = uri.user().filter(|user| !user.is_empty()).unwrap_or(b"anonymous");
    hosted.request_uri.fill(&UriParts { user, organization, destination, params: &params })
}
