//! Hosted voice mail: `[hosted]`, `[access_edge]`, hosting providers and hosted voice mail policies. Reads each, and makes of
//! every provider, and of every destination that may be discovered, one server that calls can go to.

use b2bua::codes;
use b2bua::policy::{
    AccessEdge, Allowed, Deployment, Dialect, Hosted, HostedPolicy, HostingProvider, PortSource, Profile,
    Scope, Server, ServerRole, ServerStatus, UriTemplate,
};
use b2bua::quirks::QuirkSet;

use super::objects::{Wishes, tls_wishes};
use super::reader::Reader;
use super::sections::{count, fqdn};
use super::{quirks, words};

/// Where federated partners listen.
const FEDERATION_PORT: u16 = 5061;

pub(super) fn read(root: &Reader<'_>, off: QuirkSet, wishes: &mut Wishes) -> Hosted {
    let access_edge = access_edge(root);
    let (deployment, request_uri) = section(root);
    let read: Vec<_> =
        root.tables("hosting_provider").iter().map(|t| provider(t, &access_edge, off, wishes)).collect();
    let (providers, mut servers): (Vec<HostingProvider>, Vec<Server>) = read.into_iter().unzip();
    let policies = root.tables("hosted_voicemail_policy");
    let policies =
        policies.iter().map(|table| policy(table, &providers, &access_edge, &mut servers)).collect();
    Hosted { deployment, request_uri, policies, servers, providers, access_edge }
}

fn section(root: &Reader<'_>) -> (Deployment, UriTemplate) {
    let section = root.table("hosted");
    let words = [
        ("on_premises", Deployment::OnPremises),
        ("cross_premises", Deployment::CrossPremises),
        ("mixed", Deployment::Mixed),
    ];
    let deployment = section.word("deployment", &words).unwrap_or_default();
    let template = section.text("request_uri").map(|text| {
        let template = UriTemplate::new(&text);
        if template.is_none() {
            let what = format!(
                "`{text}` makes no SIP URI for the user; it may have {}",
                UriTemplate::WORDS.join(", ")
            );
            section.error(codes::CFG_VALUE, "request_uri", what);
        }
        template.unwrap_or_default()
    });
    section.finish();
    (deployment, template.unwrap_or_default())
}

fn access_edge(root: &Reader<'_>) -> AccessEdge {
    let section = root.table("access_edge");
    let default = AccessEdge::default();
    let allowed = |key, default| match section.flag(key) {
        Some(true) => Allowed::Yes,
        Some(false) => Allowed::No,
        None => default,
    };
    let edge = AccessEdge {
        use_dns_srv_routing: allowed("use_dns_srv_routing", default.use_dns_srv_routing),
        allow_federated_users: allowed("allow_federated_users", default.allow_federated_users),
        enable_partner_discovery: allowed("enable_partner_discovery", default.enable_partner_discovery),
    };
    if edge.enable_partner_discovery == Allowed::Yes && edge.use_dns_srv_routing == Allowed::No {
        let what = "partners are discovered by SRV records, and `use_dns_srv_routing` is off";
        section.error(codes::CFG_VALUE, "enable_partner_discovery", what);
    }
    section.finish();
    edge
}

fn provider(
    table: &Reader<'_>,
    edge: &AccessEdge,
    off: QuirkSet,
    wishes: &mut Wishes,
) -> (HostingProvider, Server) {
    let provider =
        HostingProvider { identity: table.need_text("identity"), proxy_fqdn: fqdn(table, "proxy_fqdn") };
    let levels = [("AlwaysVerifiable", ()), ("AlwaysUnverifiable", ()), ("UseSourceVerification", ())];
    table.word("verification_level", &levels);
    let wanted = [
        ("enabled", true),
        ("enabled_shared_address_space", true),
        ("hosts_ocs_users", false),
        ("is_local", false),
    ];
    for (key, wanted) in wanted {
        if table.flag(key).is_some_and(|flag| flag != wanted) {
            let what = format!("`{key}` must be {wanted} for hosted voice mail");
            table.error(codes::CFG_HOSTING_PROVIDER, key, what);
        }
    }
    let addresses = table.addresses("address").unwrap_or_default();
    let port = table.port("port");
    let is_located = port.is_some() || !addresses.is_empty();
    let server = Server {
        addresses,
        tls_port: port.unwrap_or(FEDERATION_PORT),
        port_source: match edge.use_dns_srv_routing {
            Allowed::Yes if !is_located => PortSource::Federation,
            _ => PortSource::Configured,
        },
        max_calls_allowed: count(table.whole("max_calls_allowed", 1..=100_000), 100),
        media_networks: table.networks("media_networks").unwrap_or_default().into(),
        dialect: quirks::dialect(table, &Profile::SERVERS, Profile::Exum2016, off),
        ..partner(&provider.proxy_fqdn)
    };
    tls_wishes(table, vec![provider.proxy_fqdn.clone()], wishes);
    table.finish();
    (provider, server)
}

/// A destination that is found by its SRV records alone.
fn partner(name: &str) -> Server {
    Server {
        name: name.to_owned(),
        addresses: Vec::new(),
        tcp_port: FEDERATION_PORT,
        tls_port: FEDERATION_PORT,
        port_source: PortSource::Federation,
        worker_ports: Vec::new(),
        max_calls_allowed: 100,
        status: ServerStatus::Enabled,
        role: ServerRole::Hosted,
        media_networks: [].into(),
        dialect: Dialect::of(Profile::Exum2016),
    }
}

fn policy(
    table: &Reader<'_>,
    providers: &[HostingProvider],
    edge: &AccessEdge,
    servers: &mut Vec<Server>,
) -> HostedPolicy {
    let identity = table.need_text("identity");
    let scope = match identity.split_once(':') {
        Some((word, site)) if word.eq_ignore_ascii_case("site") => Scope::Site(site.trim().to_owned()),
        None if identity.eq_ignore_ascii_case("global") => Scope::Global,
        _ => Scope::User,
    };
    let destination = destination(table);
    let organizations = table.list("organizations").unwrap_or_default();
    if organizations.is_empty() {
        table.error(codes::CFG_HOSTED_POLICY, "organizations", "there is no organization");
    }
    for wrong in organizations.iter().filter(|name| !words::is_fqdn(name)) {
        table.error(codes::CFG_NOT_FQDN, "organizations", format!("`{wrong}` is no fully qualified name"));
    }
    let server = server_of(table, &destination, providers, edge, servers);
    table.finish();
    HostedPolicy { identity, scope, destination, organizations, server }
}

fn destination(table: &Reader<'_>) -> String {
    let text = table.text("destination").unwrap_or_default().trim().to_ascii_lowercase();
    if text.is_empty() {
        table.error(codes::CFG_HOSTED_POLICY, "destination", "the destination is empty");
    } else if !words::is_fqdn(&text) {
        table.error(codes::CFG_NOT_FQDN, "destination", format!("`{text}` is no fully qualified name"));
    }
    text
}

/// The provider that is named, whose proxy is the destination, or that is the only one; else the destination itself, where
/// partners are discovered.
fn server_of(
    table: &Reader<'_>,
    destination: &str,
    providers: &[HostingProvider],
    edge: &AccessEdge,
    servers: &mut Vec<Server>,
) -> Option<usize> {
    if let Some(wanted) = table.text("hosting_provider") {
        let identities: Vec<String> = providers.iter().map(|provider| provider.identity.clone()).collect();
        return super::objects::resolve(table, "hosting_provider", &wanted, &identities);
    }
    let by_name = servers.iter().position(|server| server.name == destination);
    let only = (providers.len() == 1).then_some(0);
    let known = by_name.or(only);
    if known.is_none() && edge.enable_partner_discovery == Allowed::Yes && !destination.is_empty() {
        servers.push(partner(destination));
        return Some(servers.len() - 1);
    }
    if known.is_none() {
        let what = format!("no hosting provider leads to {destination}, and partners are not discovered");
        table.warn(codes::NO_HOSTING_PROVIDER, "destination", what);
    }
    known
}

/// The hosted voice mail policy that a key names, with or without the prefix of granted policies.
pub(super) fn granted(table: &Reader<'_>, key: &'static str, policies: &[HostedPolicy]) -> Option<usize> {
    let bare = |identity: &str| {
        let head = identity.get(..4).filter(|head| head.eq_ignore_ascii_case("tag:"));
        head.map_or(identity, |_| &identity[4..]).to_owned()
    };
    let identities: Vec<String> = policies.iter().map(|policy| bare(&policy.identity)).collect();
    super::objects::resolve(table, key, &bare(&table.text(key)?), &identities)
}
