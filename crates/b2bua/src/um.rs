//! UM objects beyond what every call needs: mailbox policies, what a mailbox has beside its addresses, menus of auto
//! attendants, contact objects, hosted voice mail. Compiled values like the rest of the policy; who acts on them stands in
//! `route` and in the engine. Words, ranges and defaults are those of the products' cmdlets.

use std::time::Duration;

use bytes::Bytes;

use crate::policy::{Allowed, Server};

/// Key mappings that an attendant may have; `0` is the operator's.
pub const KEY_MAPPINGS_MAX: usize = 9;

/// What the policy holds beside pools, gateways, plans and servers.
#[derive(Clone, Debug, Default)]
pub struct UmObjects {
    /// UM mailbox policies.
    pub mailbox_policies: Vec<MailboxPolicy>,
    /// Contact objects of Lync.
    pub contacts: Vec<Contact>,
    /// Hosted voice mail.
    pub hosted: Hosted,
}

/// A UM mailbox policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxPolicy {
    /// Configured name.
    pub name: String,
    /// Index into `dial_plans`.
    pub dial_plan: usize,
    /// Digits of a PIN.
    pub min_pin_length: u8,
    /// Wrong PINs in a row that lock the mailbox.
    pub max_logon_attempts: u16,
    /// Wrong PINs in a row after which a new PIN is sent.
    pub logon_failures_before_pin_reset: u16,
    /// Longest greeting of a user.
    pub max_greeting_duration: Duration,
    /// A message tells of calls that nobody answered.
    pub allow_missed_call_notifications: Allowed,
    /// Message waiting is shown.
    pub allow_message_waiting_indicator: Allowed,
    /// UM may call the user to play a message.
    pub allow_play_on_phone: Allowed,
    /// The user may call Outlook Voice Access.
    pub allow_subscriber_access: Allowed,
}

/// What a mailbox has beside its addresses in the dial plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailboxUm {
    /// EUM proxy addresses.
    pub eum_addresses: Vec<EumAddress>,
    /// Index into `mailbox_policies`.
    pub policy: Option<usize>,
    /// Where the mailbox is.
    pub home: Home,
    /// The hosted voice mail policy granted to the user (index into `hosted.policies`).
    pub hosted_policy: Option<usize>,
    /// What holds it.
    pub exchange: ExchangeVersion,
    /// The owner's name, for callers that bring none.
    pub display_name: Option<String>,
}

/// An EUM proxy address: `EUM:john@contoso.com;phone-context=DP-Sip.contoso.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EumAddress {
    /// `user@domain`, a number or an extension.
    pub address: String,
    /// The dial plan of the phone-context (index into `dial_plans`).
    pub dial_plan: usize,
}

/// Where a mailbox is: Lync's `HostedVoiceMail` of the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Home {
    /// Not said: as the deployment is.
    #[default]
    Unsaid,
    /// Here.
    OnPremises,
    /// In the hosted forest, whatever EUM proxy address there is.
    Hosted,
}

/// Generation of the Exchange that holds a mailbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)] // each variant is the product of that year
pub enum ExchangeVersion {
    E2007,
    E2010,
    E2013,
    #[default]
    E2016,
}

impl ExchangeVersion {
    /// The year.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::E2007 => "2007",
            Self::E2010 => "2010",
            Self::E2013 => "2013",
            Self::E2016 => "2016",
        }
    }

    /// Whether its mailboxes learn of calls that nobody took: those of 2007 and 2010 do not behind a Call Router.
    pub fn notifies_of_missed_calls(self) -> bool {
        self >= Self::E2013
    }
}

/// What an auto attendant does with keys, and when it is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Menu {
    /// The operator's extension: what key 0 does.
    pub operator_extension: Option<String>,
    /// Keys inside business hours.
    pub business_hours_keys: Vec<KeyMapping>,
    /// Keys outside them.
    pub after_hours_keys: Vec<KeyMapping>,
    /// When it is open; empty = always.
    pub business_hours: Vec<Interval>,
}

/// One key of a menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyMapping {
    /// 1 to 9.
    pub key: u8,
    /// What it does.
    pub action: KeyAction,
}

/// What a key does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyAction {
    /// Transfers to an extension or number.
    Transfer(String),
    /// Leaves a message for an extension or alias.
    VoiceMail(String),
    /// Goes to another attendant.
    Attendant(String),
    /// Plays a file.
    Announce(String),
}

/// Minutes of a week, counted from Sunday 00:00; the end may lie before the start, across the week's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// First minute.
    pub from: u16,
    /// First minute after it.
    pub until: u16,
}

/// A contact object: Lync's address of Outlook Voice Access or of an attendant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// `user@domain`.
    pub sip_address: String,
    /// Its E.164 number.
    pub display_number: Option<String>,
    /// Whether it stands for an attendant.
    pub kind: ContactKind,
    /// The hosted voice mail policy granted to it (index into `hosted.policies`); one makes it a hosted contact.
    pub hosted_policy: Option<usize>,
}

/// What a contact object stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContactKind {
    /// Outlook Voice Access.
    SubscriberAccess,
    /// An auto attendant.
    AutoAttendant,
}

/// Hosted voice mail: which policies there are, where they lead, and what the Access Edge allows.
#[derive(Clone, Debug, Default)]
pub struct Hosted {
    /// Whose mailboxes are hosted unless they say otherwise.
    pub deployment: Deployment,
    /// The Request-URI toward hosted UM.
    pub request_uri: UriTemplate,
    /// Hosted voice mail policies.
    pub policies: Vec<HostedPolicy>,
    /// Hosting providers, and partners that are discovered; each is one server.
    pub servers: Vec<Server>,
    /// Identities and proxies of the hosting providers; a proxy never changes.
    pub providers: Vec<HostingProvider>,
    /// What the Access Edge lets through.
    pub access_edge: AccessEdge,
}

/// Where the mailboxes of users are that do not say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deployment {
    /// Here, all of them; flags of users are not looked at.
    OnPremises,
    /// In the hosted forest, unless a user says otherwise.
    CrossPremises,
    /// Here, unless a user says otherwise.
    #[default]
    Mixed,
}

/// `CsHostedVoicemailPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostedPolicy {
    /// `global`, `site:NAME`, or the name of a policy granted to users.
    pub identity: String,
    /// Whom it is for.
    pub scope: Scope,
    /// FQDN of the hosted UM.
    pub destination: String,
    /// FQDNs of the tenants.
    pub organizations: Vec<String>,
    /// Index into `Hosted::servers`; `None` = neither a provider nor discovery leads there.
    pub server: Option<usize>,
}

/// Whom a hosted voice mail policy is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everybody without another one.
    Global,
    /// Users of the pools of a site.
    Site(String),
    /// Users and contacts it was granted to.
    User,
}

/// `CsHostingProvider`, as far as a reload has to compare it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostingProvider {
    /// Its name.
    pub identity: String,
    /// Its proxy; cannot be changed once it is made.
    pub proxy_fqdn: String,
}

/// `CsAccessEdgeConfiguration`, as far as hosted voice mail asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessEdge {
    /// Hosts are located by `_sipfederationtls._tcp`.
    pub use_dns_srv_routing: Allowed,
    /// Anything leaves at all.
    pub allow_federated_users: Allowed,
    /// Destinations without hosting provider are located by SRV.
    pub enable_partner_discovery: Allowed,
}

impl Default for AccessEdge {
    fn default() -> Self {
        Self {
            use_dns_srv_routing: Allowed::Yes,
            allow_federated_users: Allowed::No,
            enable_partner_discovery: Allowed::No,
        }
    }
}

/// The form of a Request-URI toward hosted UM. The documented form is one that was seen, so it can be written anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UriTemplate(String);

impl Default for UriTemplate {
    fn default() -> Self {
        Self("sip:{user}@{organization}.{destination}:5061;transport=tls{params}".to_owned())
    }
}

/// What a template is filled with.
#[derive(Clone, Copy, Debug)]
pub struct UriParts<'a> {
    /// User of the caller's Request-URI, as it was sent.
    pub user: &'a [u8],
    /// The tenant.
    pub organization: &'a str,
    /// The hosted UM.
    pub destination: &'a str,
    /// Parameters of the caller's Request-URI that say what is wanted, each with its semicolon.
    pub params: &'a [u8],
}

impl UriTemplate {
    /// The words that are replaced.
    pub const WORDS: [&'static str; 4] = ["{user}", "{organization}", "{destination}", "{params}"];

    /// A template of these words; `None` when it gives no SIP URI or forgets whom it is for.
    pub fn new(text: &str) -> Option<Self> {
        let template = Self(text.to_owned());
        let parts = UriParts {
            user: b"ken",
            organization: "corp.contoso.com",
            destination: "um.example",
            params: b";a=b",
        };
        let filled = template.fill(&parts);
        let is_known = text.split('{').skip(1).all(|rest| {
            rest.split_once('}')
                .is_some_and(|(word, _)| Self::WORDS.contains(&format!("{{{word}}}").as_str()))
        });
        let is_uri = sip::Uri::parse(filled).is_ok_and(|uri| uri.scheme() == sip::Scheme::Sip);
        (is_known && is_uri && text.contains("{user}")).then_some(template)
    }

    /// The URI. What is filled in came out of a URI or of the configuration, so the result is one too.
    pub fn fill(&self, parts: &UriParts<'_>) -> Bytes {
        let mut out = Vec::with_capacity(self.0.len() + parts.user.len() + parts.params.len());
        let mut rest = self.0.as_str();
        while let Some(at) = rest.find('{') {
            out.extend_from_slice(&rest.as_bytes()[..at]);
            rest = &rest[at..];
            let end = rest.find('}').map_or(rest.len(), |end| end + 1);
            out.extend_from_slice(match &rest[..end] {
                "{user}" => parts.user,
                "{organization}" => parts.organization.as_bytes(),
                "{destination}" => parts.destination.as_bytes(),
                "{params}" => parts.params,
                other => other.as_bytes(),
            });
            rest = &rest[end..];
        }
        out.extend_from_slice(rest.as_bytes());
        Bytes::from(out)
    }
}

impl Hosted {
    /// The policy of a user of a site: granted, else the site's, else the global one.
    pub fn policy_of(&self, granted: Option<usize>, site: Option<&str>) -> Option<(usize, &HostedPolicy)> {
        let of_site = |policy: &HostedPolicy| match (&policy.scope, site) {
            (Scope::Site(name), Some(site)) => name.eq_ignore_ascii_case(site),
            _ => false,
        };
        let first = |is_it: &dyn Fn(&HostedPolicy) -> bool| self.policies.iter().position(is_it);
        let index =
            granted.or_else(|| first(&of_site)).or_else(|| first(&|policy| policy.scope == Scope::Global))?;
        Some((index, self.policies.get(index)?))
    }
}

impl HostedPolicy {
    /// The tenant of a user: the one that is the user's own domain, else the first.
    pub fn organization_of(&self, domain: &str) -> Option<&str> {
        let own = self.organizations.iter().find(|organization| organization.eq_ignore_ascii_case(domain));
        own.or(self.organizations.first()).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(identity: &str, scope: Scope) -> HostedPolicy {
        HostedPolicy {
            identity: identity.into(),
            scope,
            destination: "exap.hosted.test".into(),
            organizations: vec!["corp.contoso.test".into(), "contoso.test".into()],
            server: None,
        }
    }

    #[test]
    fn a_granted_policy_goes_before_the_sites_and_that_before_the_global_one() {
        let policies = vec![
            policy("global", Scope::Global),
            policy("site:Redmond", Scope::Site("Redmond".into())),
            policy("Reno", Scope::User),
        ];
        let hosted = Hosted { policies, ..Hosted::default() };
        let identity = |granted, site| hosted.policy_of(granted, site).map(|(_, p)| p.identity.as_str());
        assert_eq!(identity(Some(2), Some("Redmond")), Some("Reno"));
        assert_eq!(identity(None, Some("redmond")), Some("site:Redmond"));
        assert_eq!(identity(None, Some("Dublin")), Some("global"));
        assert_eq!(identity(None, None), Some("global"));
        assert!(Hosted::default().policy_of(None, Some("Redmond")).is_none());
    }

    #[test]
    fn the_tenant_is_the_users_own_domain_or_the_first() {
        let policy = policy("global", Scope::Global);
        assert_eq!(policy.organization_of("CONTOSO.test"), Some("contoso.test"));
        assert_eq!(policy.organization_of("fabrikam.test"), Some("corp.contoso.test"));
    }

    #[test]
    fn the_default_request_uri_has_the_form_that_was_seen() {
        let parts = UriParts {
            user: b"87000",
            organization: "corp-contoso",
            destination: "um.hosted.example",
            params: b"",
        };
        let uri = UriTemplate::default().fill(&parts);
        assert_eq!(&uri[..], b"sip:87000@corp-contoso.um.hosted.example:5061;transport=tls");
    }

    #[test]
    fn a_template_must_be_a_uri_for_the_user_and_know_its_words() {
        assert!(UriTemplate::new("sip:{user}@{destination}{params}").is_some());
        for bad in
            ["", "sip:ken@{destination}", "{user}", "sip:{user}@{where}", "sip:{user}@{", "http://{user}@x"]
        {
            assert!(UriTemplate::new(bad).is_none(), "{bad}");
        }
        // Braces of a peer's user are data, not words.
        let parts = UriParts { user: b"{params}", organization: "o", destination: "d", params: b";x" };
        assert_eq!(
            &UriTemplate::new("sip:{user}@{destination}").unwrap().fill(&parts)[..],
            b"sip:{params}@d"
        );
    }
}
