//! The Exchange and Lync objects: pools, UM IP gateways, hunt groups, dial plans, servers, attendants, mailboxes.
//! Reads each, resolves the names between them. Whether they make sense together is for `checks`.

use std::net::IpAddr;
use std::time::Duration;

use b2bua::codes;
use b2bua::policy::{
    Allowed, AutoAttendant, DialPlan, Dialect, Digits, GatewayStatus, HuntGroup, IpGateway, Mailbox,
    MailboxPolicy, MediaBridge, PeerAddress, Pool, PoolEncryption, PortSource, Profile, ReferRule,
    ReplacesRule, Server, ServerRole, ServerStatus, TransferRules, UmObjects, UriType, VoipSecurity,
};
use b2bua::quirks::QuirkSet;

use super::reader::Reader;
use super::sections::{count, fqdn};
use super::spoken::Choice;
use super::{StartupMode, hosted, quirks, um, words};

/// The `[[certificate]]` that is presented to a peer of these names.
pub(super) struct Presented {
    pub(super) setting: String,
    pub(super) certificate: String,
    pub(super) targets: Vec<String>,
}

/// What peers want of TLS.
#[derive(Default)]
pub(super) struct Wishes {
    weak: Vec<String>,
    spoken: Vec<(Choice, Vec<String>)>,
    presented: Vec<Presented>,
}

/// Everything read.
pub(super) struct Objects {
    pub(super) pools: Vec<Pool>,
    pub(super) ip_gateways: Vec<IpGateway>,
    pub(super) hunt_groups: Vec<HuntGroup>,
    pub(super) dial_plans: Vec<DialPlan>,
    pub(super) call_routers: Vec<Server>,
    pub(super) mailbox_servers: Vec<Server>,
    pub(super) auto_attendants: Vec<AutoAttendant>,
    pub(super) mailboxes: Vec<Mailbox>,
    pub(super) um: UmObjects,
    /// Names and addresses that may come with weak certificates.
    pub(super) weak_peers: Vec<String>,
    /// What is spoken with whom, where it differs from `[tls]`.
    pub(super) spoken: Vec<(Choice, Vec<String>)>,
    /// Which certificates go where.
    pub(super) presented: Vec<Presented>,
}

/// Objects whose index must stay the one of the file are always pushed, also after a finding: nothing compiled leaves
/// here while there is an error.
pub(super) fn read(root: &Reader<'_>, off: QuirkSet) -> Objects {
    let (pools, dialects): (Vec<Pool>, Vec<Dialect>) =
        root.tables("pool").iter().map(|table| pool(table, off)).unzip();
    let mut dial_plans: Vec<DialPlan> = root.tables("dial_plan").iter().map(dial_plan).collect();
    if dial_plans.is_empty() {
        root.error(codes::CFG_MISSING_KEY, "dial_plan", "there is no [[dial_plan]]");
    }
    let mut wishes = Wishes::default();
    let ip_gateways: Vec<IpGateway> = root
        .tables("ip_gateway")
        .iter()
        .map(|t| ip_gateway(t, &pools, &dialects, off, &mut wishes))
        .collect();
    if ip_gateways.is_empty() {
        root.error(codes::CFG_MISSING_KEY, "ip_gateway", "there is no [[ip_gateway]]: nobody could call");
    }
    let plans = names(&dial_plans, |plan| &plan.name);
    let gateways = names(&ip_gateways, |gateway| &gateway.name);
    let hunt_groups = root.tables("hunt_group").iter().map(|t| hunt_group(t, &gateways, &plans)).collect();
    let attendants = root.tables("auto_attendant");
    let auto_attendants = attendants.iter().map(|t| um::auto_attendant(t, &plans)).collect();
    let hosted = hosted::read(root, off, &mut wishes);
    let tables = root.tables("mailbox_policy");
    let mailbox_policies: Vec<MailboxPolicy> = tables.iter().map(|t| um::mailbox_policy(t, &plans)).collect();
    let known = um::Known {
        plans: &dial_plans,
        plan_names: &plans,
        mailbox_policies: &mailbox_policies,
        hosted_policies: &hosted.policies,
    };
    let mailboxes = root.tables("mailbox").iter().map(|t| um::mailbox(t, &known)).collect();
    let contacts = root.tables("contact").iter().map(|t| um::contact(t, &hosted.policies)).collect();
    let call_routers = servers(root, ServerRole::CallRouter, &mut dial_plans, off, &mut wishes);
    let mailbox_servers = servers(root, ServerRole::Mailbox, &mut dial_plans, off, &mut wishes);
    Objects {
        pools,
        ip_gateways,
        hunt_groups,
        dial_plans,
        call_routers,
        mailbox_servers,
        auto_attendants,
        mailboxes,
        um: UmObjects { mailbox_policies, contacts, hosted },
        weak_peers: wishes.weak,
        spoken: wishes.spoken,
        presented: wishes.presented,
    }
}

/// Whether SHA-1 and RSA below 2048 bits are taken from a peer of these names, an exception that is always warned of; and
/// which of our certificates it gets to see, and what is spoken.
pub(super) fn tls_wishes(table: &Reader<'_>, names: Vec<String>, wishes: &mut Wishes) {
    if let Some(certificate) = table.text("certificate") {
        let setting = table.setting("certificate");
        wishes.presented.push(Presented { setting, certificate, targets: names.clone() });
    }
    let choice = Choice::of_inline(table);
    if choice.is_present() {
        wishes.spoken.push((choice, names.clone()));
    }
    let words = [("Refused", Allowed::No), ("Allowed", Allowed::Yes)];
    if table.word("weak_certificates", &words) == Some(Allowed::Yes) {
        let what = format!("SHA-1 and RSA from 1024 bits are accepted from {}", names.join(", "));
        table.warn(codes::WEAK_ALLOWED, "weak_certificates", what);
        wishes.weak.extend(names);
    }
}

fn names<T>(objects: &[T], name: impl Fn(&T) -> &String) -> Vec<String> {
    objects.iter().map(|object| name(object).clone()).collect()
}

/// The index of the object that `key` names; 0 after a finding.
pub(super) fn reference(table: &Reader<'_>, key: &'static str, known: &[String]) -> usize {
    let wanted = table.need_text(key);
    resolve(table, key, &wanted, known).unwrap_or_default()
}

pub(super) fn resolve(
    table: &Reader<'_>,
    key: &'static str,
    wanted: &str,
    known: &[String],
) -> Option<usize> {
    let found = known.iter().position(|name| name.eq_ignore_ascii_case(wanted));
    if found.is_none() && !wanted.is_empty() {
        let hint = words::suggestion(wanted, known.iter().map(String::as_str)).map_or_else(
            || format!("configured: {}", known.join(", ")),
            |name| format!("did you mean `{name}`?"),
        );
        table.error(codes::CFG_UNRESOLVED, key, format!("`{wanted}` is not configured; {hint}"));
    }
    found
}

fn pool(table: &Reader<'_>, off: QuirkSet) -> (Pool, Dialect) {
    use PoolEncryption::{DoNotSupportEncryption, RequireEncryption, SupportEncryption};
    let words = [
        ("RequireEncryption", RequireEncryption),
        ("SupportEncryption", SupportEncryption),
        ("DoNotSupportEncryption", DoNotSupportEncryption),
        ("Require", RequireEncryption),
        ("Required", RequireEncryption),
        ("Support", SupportEncryption),
        ("Optional", SupportEncryption),
        ("DoNotSupport", DoNotSupportEncryption),
        ("None", DoNotSupportEncryption),
    ];
    let pool = Pool {
        name: table.need_text("name"),
        fqdn: fqdn(table, "fqdn"),
        members: table.list("members").unwrap_or_default(),
        address: table.addresses("address").unwrap_or_default(),
        encryption: table.need_word("encryption", &words).unwrap_or(RequireEncryption),
        site: table.text("site"),
    };
    let dialect = quirks::dialect(table, &Profile::POOLS, Profile::Sfb2015, off);
    table.finish();
    (pool, dialect)
}

fn dial_plan(table: &Reader<'_>) -> DialPlan {
    let uri_types = [("TelExtn", UriType::TelExtn), ("E164", UriType::E164), ("SipName", UriType::SipName)];
    let securities = [
        ("Unsecured", VoipSecurity::Unsecured),
        ("SIPSecured", VoipSecurity::SipSecured),
        ("Secured", VoipSecurity::Secured),
    ];
    let bridges = [("off", MediaBridge::Off), ("transcrypt", MediaBridge::Transcrypt)];
    let minutes = |count: u64| Duration::from_secs(count * 60);
    let digits = table.whole("extension_digits", 1..=20).and_then(|digits| u8::try_from(digits).ok());
    let plan = DialPlan {
        name: table.need_text("name"),
        uri_type: table.word("uri_type", &uri_types).unwrap_or(UriType::SipName),
        voip_security: table.need_word("voip_security", &securities).unwrap_or(VoipSecurity::Secured),
        phone_context: table.need_text("phone_context"),
        equivalent_phone_contexts: table.list("equivalent_phone_contexts").unwrap_or_default(),
        access_telephone_numbers: table.list("access_telephone_numbers").unwrap_or_default(),
        extension_digits: digits.unwrap_or(4),
        max_call_duration: table
            .duration("max_call_duration", minutes(10)..=minutes(120))
            .unwrap_or(minutes(30)),
        call_routers: Vec::new(),
        mailbox_servers: Vec::new(),
        media_bridge: table.word("media_bridge", &bridges).unwrap_or(MediaBridge::Off),
        transfers: transfer_rules(table),
    };
    plan_details(table, &plan);
    table.finish();
    plan
}

fn transfer_rules(table: &Reader<'_>) -> TransferRules {
    let refer = [("relay", ReferRule::Relay), ("execute", ReferRule::Execute), ("refuse", ReferRule::Refuse)];
    let replaces = [
        ("same_peer", ReplacesRule::SamePeer),
        ("same_plan", ReplacesRule::SamePlan),
        ("refuse", ReplacesRule::Refuse),
    ];
    TransferRules {
        refer: table.word("transfer", &refer).unwrap_or_default(),
        replaces: table.word("replaces", &replaces).unwrap_or_default(),
    }
}

/// Settings of a plan that Exchange has and that UM, not this gateway, acts on: checked for range only.
fn plan_details(table: &Reader<'_>, plan: &DialPlan) {
    let seconds = |count| Duration::from_secs(count);
    table.duration("max_recording_duration", seconds(60)..=seconds(100 * 60));
    table.duration("recording_idle_timeout", seconds(2)..=seconds(10));
    table.whole("logon_failures_before_disconnect", 1..=20);
    table.whole("input_failures_before_disconnect", 1..=20);
    table.accept(&["country_or_region_code", "operator_extension"]);
    if table.flag("fax_enabled") == Some(true) && plan.uri_type == UriType::SipName {
        table.warn(codes::CFG_FAX, "fax_enabled", format!("dial plan {} is a SIP URI plan", plan.name));
    }
    for number in plan.access_telephone_numbers.iter().filter(|number| !words::is_e164(number)) {
        table.error(
            codes::CFG_NOT_E164,
            "access_telephone_numbers",
            format!("`{number}` is no E.164 number"),
        );
    }
}

/// A gateway that stands for a pool is what the pool is, unless it says otherwise.
fn ip_gateway(
    table: &Reader<'_>,
    pools: &[Pool],
    dialects: &[Dialect],
    off: QuirkSet,
    wishes: &mut Wishes,
) -> IpGateway {
    let states = [
        ("Enabled", GatewayStatus::Enabled),
        ("Disabled", GatewayStatus::Disabled),
        ("NoNewCalls", GatewayStatus::NoNewCalls),
    ];
    let (address, addresses) = peer_address(table);
    let port = table.port("port");
    let pool: Option<usize> = match &address {
        PeerAddress::Fqdn(name) => pools.iter().position(|pool| pool.fqdn.eq_ignore_ascii_case(name)),
        PeerAddress::Ip(_) => None,
    };
    let of_pool = pool.and_then(|index| dialects.get(index)).copied();
    let default = of_pool.map_or(Profile::IpPbx, |dialect| dialect.profile);
    let of_pool = of_pool.map_or(QuirkSet::NONE, |d| QuirkSet::of_profile(d.profile).minus(d.quirks));
    let pool_address = pool.and_then(|index| pools.get(index)).is_some_and(|pool| !pool.address.is_empty());
    let is_located = pool_address || !addresses.is_empty();
    let gateway = IpGateway {
        dialect: Dialect {
            digits: table.word("dtmf", &[("pass", Digits::Pass), ("info", Digits::Info)]).unwrap_or_default(),
            ..quirks::dialect(table, &Profile::GATEWAYS, default, off.with(of_pool))
        },
        name: table.need_text("name"),
        address,
        addresses,
        port: port.unwrap_or(5060),
        port_source: port_source(port.is_some(), is_located),
        status: table.word("status", &states).unwrap_or(GatewayStatus::Enabled),
        max_calls_allowed: table
            .whole("max_calls_allowed", 1..=100_000)
            .and_then(|calls| usize::try_from(calls).ok()),
        outcalls_allowed: allowed(table, "outcalls_allowed"),
        message_waiting_indicator_allowed: allowed(table, "message_waiting_indicator_allowed"),
        pool,
        media_networks: table.networks("media_networks").unwrap_or_default().into(),
    };
    let members = pool.and_then(|index| pools.get(index)).map(|pool| pool.members.clone());
    let named = std::iter::once(gateway.address.to_string());
    tls_wishes(table, named.chain(members.unwrap_or_default()).collect(), wishes);
    table.finish();
    gateway
}

/// RFC 3263 §4.2: SRV records count only where neither a port nor an address is given.
fn port_source(has_port: bool, has_address: bool) -> PortSource {
    if has_port || has_address { PortSource::Configured } else { PortSource::Srv }
}

fn allowed(table: &Reader<'_>, key: &'static str) -> Allowed {
    match table.flag(key) {
        Some(false) => Allowed::No,
        _ => Allowed::Yes,
    }
}

/// `address` holds the name or the address of the peer, and may list further addresses for labs without DNS.
fn peer_address(table: &Reader<'_>) -> (PeerAddress, Vec<IpAddr>) {
    let mut name = None;
    let mut addresses = Vec::new();
    for text in table.need_list("address") {
        match text.parse::<IpAddr>() {
            Ok(address) => addresses.push(address),
            Err(_) if !words::is_fqdn(&text) => {
                table.error(
                    codes::CFG_NOT_FQDN,
                    "address",
                    format!("`{text}` is neither an FQDN nor an IP address"),
                );
            }
            Err(_) if name.is_some() => table.error(codes::CFG_VALUE, "address", "only one FQDN is possible"),
            Err(_) => name = Some(text.to_ascii_lowercase()),
        }
    }
    let first = addresses.first().copied();
    match (name, first) {
        (Some(name), _) => (PeerAddress::Fqdn(name), addresses),
        (None, Some(first)) => (PeerAddress::Ip(first), addresses),
        (None, None) => (PeerAddress::Fqdn(String::new()), addresses),
    }
}

fn hunt_group(table: &Reader<'_>, gateways: &[String], plans: &[String]) -> HuntGroup {
    let group = HuntGroup {
        name: table.need_text("name"),
        ip_gateway: reference(table, "ip_gateway", gateways),
        dial_plan: reference(table, "dial_plan", plans),
        pilot_identifier: table.text("pilot_identifier").filter(|pilot| !pilot.is_empty()),
    };
    table.finish();
    group
}

/// Servers of a role; each enters the plans it names, or every plan when it names none.
fn servers(
    root: &Reader<'_>,
    role: ServerRole,
    plans: &mut [DialPlan],
    off: QuirkSet,
    wishes: &mut Wishes,
) -> Vec<Server> {
    let key = match role {
        ServerRole::CallRouter => "call_router",
        ServerRole::Mailbox | ServerRole::Hosted => "mailbox_server",
    };
    let known: Vec<String> = plans.iter().map(|plan| plan.name.clone()).collect();
    let tables = root.tables(key);
    for (index, table) in tables.iter().enumerate() {
        let members: Vec<usize> = match table.list("dial_plans") {
            Some(names) => {
                names.iter().filter_map(|name| resolve(table, "dial_plans", name, &known)).collect()
            }
            None => (0..plans.len()).collect(),
        };
        startup_mode(table, members.iter().filter_map(|member| plans.get(*member)));
        for member in members {
            let Some(plan) = plans.get_mut(member) else { continue };
            match role {
                ServerRole::CallRouter => plan.call_routers.push(index),
                ServerRole::Mailbox | ServerRole::Hosted => plan.mailbox_servers.push(index),
            }
        }
    }
    tables.iter().map(|table| server(table, role, off, wishes)).collect()
}

/// Whether a server listens for what its plans speak; left out, it is taken to.
fn startup_mode<'a>(table: &Reader<'_>, plans: impl Iterator<Item = &'a DialPlan>) {
    let modes = [("TCP", StartupMode::Tcp), ("TLS", StartupMode::Tls), ("Dual", StartupMode::Dual)];
    let mode = table.word("startup_mode", &modes).unwrap_or(StartupMode::Dual);
    let is_served = |plan: &&DialPlan| match mode {
        StartupMode::Tcp => plan.voip_security == VoipSecurity::Unsecured,
        StartupMode::Tls => plan.voip_security != VoipSecurity::Unsecured,
        StartupMode::Dual => true,
    };
    let unserved: Vec<&str> = plans.filter(|plan| !is_served(plan)).map(|plan| plan.name.as_str()).collect();
    if !unserved.is_empty() {
        let what = format!("the startup mode does not serve dial plan {}", unserved.join(", "));
        table.warn(codes::SERVER_MODE, "startup_mode", what);
    }
}

fn server(table: &Reader<'_>, role: ServerRole, off: QuirkSet, wishes: &mut Wishes) -> Server {
    let states = [
        ("Enabled", ServerStatus::Enabled),
        ("NoNewCalls", ServerStatus::NoNewCalls),
        ("Disabled", ServerStatus::Disabled),
    ];
    let ((tcp, tls), (tcp_default, tls_default)) = match role {
        ServerRole::CallRouter => ((table.port("tcp_port"), table.port("tls_port")), (5060, 5061)),
        ServerRole::Mailbox | ServerRole::Hosted => (service_ports(table), (5062, 5063)),
    };
    let addresses = table.addresses("address").unwrap_or_default();
    let (worker_ports, profiles) = match role {
        ServerRole::CallRouter => (Vec::new(), &Profile::ROUTERS[..]),
        ServerRole::Mailbox | ServerRole::Hosted => (worker_ports(table), &Profile::SERVERS[..]),
    };
    let server = Server {
        name: fqdn(table, "name"),
        tcp_port: tcp.unwrap_or(tcp_default),
        tls_port: tls.unwrap_or(tls_default),
        port_source: port_source(tcp.or(tls).is_some(), !addresses.is_empty()),
        addresses,
        worker_ports,
        max_calls_allowed: count(table.whole("max_calls_allowed", 1..=100_000), 100),
        status: table.word("status", &states).unwrap_or(ServerStatus::Enabled),
        role,
        media_networks: table.networks("media_networks").unwrap_or_default().into(),
        dialect: quirks::dialect(table, profiles, Profile::Exum2016, off),
    };
    tls_wishes(table, vec![server.name.clone()], wishes);
    table.finish();
    server
}

fn service_ports(table: &Reader<'_>) -> (Option<u16>, Option<u16>) {
    let ports = table.table("service_ports");
    let read = (ports.port("tcp"), ports.port("tls"));
    ports.finish();
    read
}

fn worker_ports(table: &Reader<'_>) -> Vec<u16> {
    let Some(values) = table.mixed_list("worker_ports") else { return vec![5065, 5066, 5067, 5068] };
    let port = |value: &serde_json::Value| {
        let port = value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        if port.is_none() {
            table.error(codes::CFG_RANGE, "worker_ports", format!("{value} is no port"));
        }
        port
    };
    values.iter().filter_map(port).collect()
}
