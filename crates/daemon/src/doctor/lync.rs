//! What Lync wants of its surroundings and the gateway was told of in `[lync]`: Autodiscover URIs and location
//! profiles. What was not told is said to be unknown. Pure.

use b2bua::codes;
use b2bua::policy::{Policy, UriType};

use super::finding::{Finding, Group};

const GROUP: Group = Group::Lync;
const PATH: &str = "/autodiscover/autodiscover.";
/// The last word of the URI, and who asks for it.
const FORMS: [(&str, &str); 2] = [("svc", "Lync's OAuth configuration"), ("xml", "clients")];

/// A host of an Autodiscover URI and whether it has an address; `None` when its time was up.
pub type HostFact = (String, Option<bool>);

/// The form of each URI, and which form is missing.
pub fn autodiscover(uris: &[String]) -> Vec<Finding> {
    let code = codes::LYNC_AUTODISCOVER_URI;
    let mut found = Vec::new();
    for uri in uris {
        found.push(match form(uri) {
            Some((form, who)) => Finding::ok(GROUP, code, format!("{uri} is the .{form} form for {who}")),
            None => Finding::warn(GROUP, code, format!("{uri} is no Autodiscover URI")),
        });
    }
    let is_told = |wanted: &str| uris.iter().filter_map(|uri| form(uri)).any(|(form, _)| form == wanted);
    let missing = FORMS.into_iter().filter(|(form, _)| !is_told(form));
    found.extend(missing.map(|(form, who)| {
        let why = format!("`autodiscover` in [lync] names no .{form} URI ({who}): unknown, not checked");
        Finding::skip(GROUP, code, why)
    }));
    found
}

/// Whether the hosts of the URIs have an address.
pub fn autodiscover_hosts(facts: &[HostFact]) -> Vec<Finding> {
    let code = codes::LYNC_AUTODISCOVER_DNS;
    let finding = |(host, has_address): &HostFact| match has_address {
        Some(true) => Finding::ok(GROUP, code, format!("{host} has a DNS record")),
        Some(false) => Finding::fail(GROUP, code, format!("{host} has no DNS record")),
        None => Finding::skip(GROUP, code, format!("{host}: not looked up, the time was up")),
    };
    facts.iter().map(finding).collect()
}

/// The host of a well-formed URI.
pub fn host(uri: &str) -> Option<&str> {
    let (authority, _) = split(uri)?;
    let host = authority.split_once(':').map_or(authority, |(host, _)| host);
    (!host.is_empty() && !host.contains('@')).then_some(host)
}

fn form(uri: &str) -> Option<(&'static str, &'static str)> {
    let (_, path) = split(uri)?;
    host(uri)?;
    let suffix = path.to_ascii_lowercase().strip_prefix(PATH)?.to_owned();
    FORMS.into_iter().find(|(form, _)| suffix == *form)
}

fn split(uri: &str) -> Option<(&str, &str)> {
    let scheme = uri.get(..8).filter(|scheme| scheme.eq_ignore_ascii_case("https://"))?;
    let rest = uri.get(scheme.len()..)?;
    rest.find('/').map(|at| rest.split_at(at))
}

/// One location profile for each SIP URI dial plan.
pub fn location_profiles(policy: &Policy, profiles: Option<&[String]>) -> Vec<Finding> {
    let code = codes::LYNC_LOCATION_PROFILE;
    let Some(profiles) = profiles else {
        let why = "`location_profiles` in [lync] is not set: unknown, not checked";
        return vec![Finding::skip(GROUP, code, why)];
    };
    let plans = policy.dial_plans.iter().filter(|plan| plan.uri_type == UriType::SipName);
    let finding = |plan: &b2bua::policy::DialPlan| {
        let name = &plan.phone_context;
        match profiles.iter().any(|profile| profile.eq_ignore_ascii_case(name)) {
            true => {
                Finding::ok(GROUP, code, format!("dial plan {} has the location profile {name}", plan.name))
            }
            false => {
                Finding::warn(GROUP, code, format!("dial plan {}: no location profile {name}", plan.name))
            }
        }
    };
    plans.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use super::super::finding::Mark;
    use super::super::testing;
    use super::*;

    fn marks(found: &[Finding]) -> Vec<Mark> {
        found.iter().map(|finding| finding.mark).collect()
    }

    #[test]
    fn both_forms_are_wanted_and_what_is_not_told_is_unknown() {
        let svc = "https://autodiscover.contoso.test/autodiscover/autodiscover.svc".to_owned();
        let xml = "HTTPS://autodiscover.contoso.test:443/Autodiscover/Autodiscover.xml".to_owned();
        assert_eq!(marks(&autodiscover(&[svc.clone(), xml])), [Mark::Ok, Mark::Ok]);
        assert_eq!(marks(&autodiscover(&[svc])), [Mark::Ok, Mark::Skip]);
        assert_eq!(marks(&autodiscover(&[])), [Mark::Skip, Mark::Skip]);
        for bad in [
            "http://autodiscover.contoso.test/autodiscover/autodiscover.svc",
            "https://autodiscover.contoso.test/autodiscover.svc",
            "https:///autodiscover/autodiscover.svc",
            "https://x@y/autodiscover/autodiscover.svc",
            "https://\u{e9}",
            "",
        ] {
            assert_eq!(autodiscover(&[bad.to_owned()])[0].mark, Mark::Warn, "{bad}");
        }
        assert_eq!(host("https://a.b:444/autodiscover/autodiscover.svc"), Some("a.b"));
    }

    #[test]
    fn an_autodiscover_host_without_record_fails() {
        let facts = [
            ("a.test".to_owned(), Some(true)),
            ("b.test".to_owned(), Some(false)),
            ("c.test".to_owned(), None),
        ];
        assert_eq!(marks(&autodiscover_hosts(&facts)), [Mark::Ok, Mark::Fail, Mark::Skip]);
    }

    #[test]
    fn each_sip_plan_wants_its_location_profile() {
        let policy = testing::compiled("").policy;
        let told = ["dp-sip.contoso.test".to_owned()];
        assert_eq!(marks(&location_profiles(&policy, Some(&told))), [Mark::Ok]);
        assert_eq!(marks(&location_profiles(&policy, Some(&[]))), [Mark::Warn]);
        assert_eq!(marks(&location_profiles(&policy, None)), [Mark::Skip]);
    }
}
