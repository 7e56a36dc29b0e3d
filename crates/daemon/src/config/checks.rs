//! Whether the objects make sense together: the cross checks of `umbra check` that need no network. Each check is one
//! function; it looks at the compiled policy and reports at the key that would be changed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use b2bua::policy::{
    Allowed, DialPlan, GatewayStatus, MediaBridge, MediaMode, PeerAddress, Policy, ServerRole, UriType,
    VoipSecurity,
};
use b2bua::{codes, security};

use super::reader::Reader;
use super::{Compiled, StartupMode};
use crate::kernel;

const PORTS_PER_CALL: usize = 4;

pub(super) fn check(compiled: &Compiled, root: &Reader<'_>) {
    let policy = &compiled.policy;
    duplicates(policy, root);
    hunt_groups(policy, root);
    security_matrix(policy, root);
    listeners_fit_plans(compiled, root);
    gateways(policy, root);
    servers_in_plans(policy, root);
    rtp_ports(compiled, root);
    listener_ports(compiled, root);
}

/// Reports names that two objects of this kind share.
pub(super) fn one_kind<'a>(root: &Reader<'_>, kind: &str, key: &str, names: impl Iterator<Item = &'a str>) {
    let mut seen = BTreeMap::new();
    for (index, name) in names.enumerate().filter(|(_, name)| !name.is_empty()) {
        if let Some(first) = seen.insert(name.to_ascii_lowercase(), index) {
            let what = format!("`{name}` is also the {key} of {kind}[{first}]");
            root.error(codes::CFG_DUPLICATE, &format!("{kind}[{index}].{key}"), what);
        }
    }
}

/// Reports names that two objects of one kind share.
fn duplicates(policy: &Policy, root: &Reader<'_>) {
    one_kind(root, "pool", "name", policy.pools.iter().map(|o| o.name.as_str()));
    one_kind(root, "pool", "fqdn", policy.pools.iter().map(|o| o.fqdn.as_str()));
    one_kind(root, "ip_gateway", "name", policy.ip_gateways.iter().map(|o| o.name.as_str()));
    one_kind(root, "hunt_group", "name", policy.hunt_groups.iter().map(|o| o.name.as_str()));
    one_kind(root, "dial_plan", "name", policy.dial_plans.iter().map(|o| o.name.as_str()));
    one_kind(root, "dial_plan", "phone_context", policy.dial_plans.iter().map(|o| o.phone_context.as_str()));
    one_kind(root, "call_router", "name", policy.call_routers.iter().map(|o| o.name.as_str()));
    one_kind(root, "mailbox_server", "name", policy.mailbox_servers.iter().map(|o| o.name.as_str()));
    one_kind(root, "auto_attendant", "name", policy.auto_attendants.iter().map(|o| o.name.as_str()));
    one_kind(root, "mailbox", "alias", policy.mailboxes.iter().map(|o| o.alias.as_str()));
    one_kind(root, "mailbox_policy", "name", policy.um.mailbox_policies.iter().map(|o| o.name.as_str()));
    one_kind(root, "contact", "sip_address", policy.um.contacts.iter().map(|o| o.sip_address.as_str()));
    let hosted = &policy.um.hosted;
    one_kind(root, "hosting_provider", "identity", hosted.providers.iter().map(|o| o.identity.as_str()));
    one_kind(
        root,
        "hosted_voicemail_policy",
        "identity",
        hosted.policies.iter().map(|o| o.identity.as_str()),
    );
    let addresses: Vec<String> = policy.ip_gateways.iter().map(|o| o.address.to_string()).collect();
    one_kind(root, "ip_gateway", "address", addresses.iter().map(String::as_str));
}

fn hunt_groups(policy: &Policy, root: &Reader<'_>) {
    let mut seen = BTreeMap::new();
    for (index, group) in policy.hunt_groups.iter().enumerate() {
        let pilot = group.pilot_identifier.as_deref().map(str::to_ascii_lowercase);
        if let Some(first) = seen.insert((group.ip_gateway, pilot.clone()), index) {
            let what = match &group.pilot_identifier {
                Some(pilot) => format!("hunt_group[{first}] of the same gateway has the pilot `{pilot}` too"),
                None => format!("hunt_group[{first}] is the default of the same gateway already"),
            };
            root.error(codes::CFG_DUPLICATE_PILOT, &format!("hunt_group[{index}].pilot_identifier"), what);
        }
    }
}

/// Pool level × plan security, and what a secured plan asks of its gateways. A pair that does not fit is a warning:
/// the gateway's job is to refuse its calls and say why.
fn security_matrix(policy: &Policy, root: &Reader<'_>) {
    for (index, group) in policy.hunt_groups.iter().enumerate() {
        let setting = format!("hunt_group[{index}].dial_plan");
        let (Some(gateway), Some(plan)) =
            (policy.ip_gateways.get(group.ip_gateway), policy.dial_plans.get(group.dial_plan))
        else {
            continue;
        };
        if plan.voip_security != VoipSecurity::Unsecured && matches!(gateway.address, PeerAddress::Ip(_)) {
            let what = format!(
                "dial plan {} is {:?}, UM IP gateway {} is known by address only: its calls will be refused",
                plan.name, plan.voip_security, gateway.name
            );
            root.warn(codes::SECURED_NEEDS_FQDN, &setting, what);
        }
        let Some(pool) = policy.pool_of(group.ip_gateway) else { continue };
        let bridged =
            plan.media_bridge == MediaBridge::Transcrypt && plan.voip_security != VoipSecurity::Unsecured;
        let words = format!(
            "pool {} is {:?}, dial plan {} is {:?}",
            pool.name, pool.encryption, plan.name, plan.voip_security
        );
        match security::fits(pool.encryption, plan.voip_security) {
            true if plan.voip_security != VoipSecurity::Secured => {
                root.warn(codes::PHONE_EDITION, &setting, words)
            }
            true => {}
            false if bridged => root.warn(codes::BRIDGE_IN_USE, &setting, words),
            false => {
                root.warn(codes::POOL_PLAN_MISMATCH, &setting, format!("{words}: every call will be refused"))
            }
        }
    }
}

fn listeners_fit_plans(compiled: &Compiled, root: &Reader<'_>) {
    let mode = compiled.listen.startup_mode;
    for (index, plan) in compiled.policy.dial_plans.iter().enumerate() {
        let setting = format!("dial_plan[{index}].voip_security");
        match (mode, plan.voip_security) {
            (StartupMode::Tcp, VoipSecurity::SipSecured | VoipSecurity::Secured) => {
                let what =
                    format!("dial plan {} is {:?}, the startup mode is TCP", plan.name, plan.voip_security);
                root.error(codes::SECURED_NEEDS_TLS, &setting, what);
            }
            (StartupMode::Tls, VoipSecurity::Unsecured) => {
                root.warn(
                    codes::UNSECURED_NEEDS_TCP,
                    &setting,
                    format!("dial plan {} is Unsecured, the startup mode is TLS", plan.name),
                );
            }
            _ => {}
        }
    }
}

/// One way out for each dial plan that calls can come to: UM chooses among the gateways of the plan.
fn outgoing_calls(policy: &Policy, root: &Reader<'_>) {
    for (index, plan) in policy.dial_plans.iter().enumerate() {
        let is_of_plan = |gateway: &usize| {
            policy.hunt_groups.iter().any(|group| (group.ip_gateway, group.dial_plan) == (*gateway, index))
        };
        let of_plan = || (0..policy.ip_gateways.len()).filter(is_of_plan);
        let allow = of_plan().filter_map(|gateway| policy.ip_gateways.get(gateway)).filter(|gateway| {
            gateway.outcalls_allowed == Allowed::Yes && gateway.status != GatewayStatus::Disabled
        });
        let allow: Vec<&str> = allow.map(|gateway| gateway.name.as_str()).collect();
        let name = &plan.name;
        match allow.as_slice() {
            // That no hunt group leads to the plan is told elsewhere.
            [] if of_plan().next().is_none() => {}
            [_] => {}
            [] => {
                let what = format!("no UM IP gateway of dial plan {name} has outcalls_allowed");
                root.warn(codes::NO_OUTCALL_GATEWAY, "ip_gateway", what);
            }
            several => {
                let (count, names) = (several.len(), several.join(", "));
                let what =
                    format!("{count} UM IP gateways of dial plan {name} have outcalls_allowed: {names}");
                root.warn(codes::SEVERAL_OUTCALL_GATEWAYS, "ip_gateway", what);
            }
        }
    }
}

fn gateways(policy: &Policy, root: &Reader<'_>) {
    outgoing_calls(policy, root);
    for (index, gateway) in policy.ip_gateways.iter().enumerate() {
        let setting = format!("ip_gateway[{index}].name");
        let groups: Vec<_> = policy.hunt_groups.iter().filter(|group| group.ip_gateway == index).collect();
        let name = &gateway.name;
        if groups.is_empty() {
            root.warn(
                codes::GATEWAY_WITHOUT_HUNT_GROUP,
                &setting,
                format!("no hunt group names UM IP gateway {name}"),
            );
        }
        if groups.len() > 1 && groups.iter().all(|group| group.pilot_identifier.is_some()) {
            let what = format!("UM IP gateway {name} has {} hunt groups, all with pilots", groups.len());
            root.warn(codes::AMBIGUOUS_DEFAULT, &setting, what);
        }
    }
    for (index, pool) in policy.pools.iter().enumerate() {
        if !policy.ip_gateways.iter().any(|gateway| gateway.pool == Some(index)) {
            let what = format!("no UM IP gateway has the address {}", pool.fqdn);
            root.warn(codes::POOL_WITHOUT_GATEWAY, &format!("pool[{index}].fqdn"), what);
        }
    }
}

fn servers_in_plans(policy: &Policy, root: &Reader<'_>) {
    for (index, plan) in policy.dial_plans.iter().enumerate() {
        let setting = format!("dial_plan[{index}].name");
        for (role, members) in
            [(ServerRole::CallRouter, &plan.call_routers), (ServerRole::Mailbox, &plan.mailbox_servers)]
        {
            let what = format!("dial plan {} has {} {}", plan.name, members.len(), role_words(role));
            match members.len() {
                0 if role == ServerRole::CallRouter && plan.mailbox_servers.is_empty() => {
                    root.error(codes::PLAN_WITHOUT_SERVER, &setting, what);
                }
                0 => root.warn(codes::PLAN_WITHOUT_SERVER, &setting, what),
                1 => root.warn(codes::LONE_SERVER, &setting, what),
                _ => {}
            }
            missing_servers(policy, plan, role, members, root);
        }
    }
}

fn missing_servers(policy: &Policy, plan: &DialPlan, role: ServerRole, members: &[usize], root: &Reader<'_>) {
    if plan.uri_type != UriType::SipName {
        return;
    }
    let kind = if role == ServerRole::CallRouter { "call_router" } else { "mailbox_server" };
    for (index, server) in
        policy.servers(role).iter().enumerate().filter(|(index, _)| !members.contains(index))
    {
        let what = format!("{} is not in the SIP URI dial plan {}", server.name, plan.name);
        root.warn(codes::SERVER_NOT_IN_PLAN, &format!("{kind}[{index}].dial_plans"), what);
    }
}

fn role_words(role: ServerRole) -> &'static str {
    match role {
        ServerRole::CallRouter => "Call Router(s)",
        ServerRole::Mailbox | ServerRole::Hosted => "Mailbox server(s)",
    }
}

fn rtp_ports(compiled: &Compiled, root: &Reader<'_>) {
    const SETTING: &str = "media.rtp_ports";
    let (first, last) = (compiled.media.rtp_first, compiled.media.rtp_last);
    let (ports, calls) = (usize::from(last - first) + 1, compiled.policy.gateway.max_calls_allowed);
    if first % 2 == 1 {
        root.error(codes::CFG_RTP_ODD, SETTING, format!("the range starts with {first}"));
    }
    let is_anchored = compiled.policy.gateway.media_mode == MediaMode::Anchored;
    if is_anchored && ports < calls * PORTS_PER_CALL {
        let what = format!("{ports} ports for {calls} calls; {} are needed at least", calls * PORTS_PER_CALL);
        root.error(codes::CFG_RTP_TOO_FEW, SETTING, what);
    }
    let listen = &compiled.listen;
    let http = compiled.admin.http.map(|address| address.port());
    let listeners = [
        ("tcp_port", listen.tcp_port),
        ("tls_port", listen.tls_port),
        ("udp_port", listen.udp_port),
        ("http", http),
    ];
    for (name, port) in listeners {
        if let Some(port) = port.filter(|port| (first..=last).contains(port)) {
            root.error(codes::CFG_RTP_OVERLAP, SETTING, format!("{name} {port} lies inside {first}-{last}"));
        }
    }
    if let Some(kernels) = kernel::ephemeral_overlap(first..=last) {
        let what = format!("{first}-{last} meets the kernel's {}-{}", kernels.start(), kernels.end());
        root.warn(codes::CFG_RTP_EPHEMERAL, SETTING, what);
    }
}

fn listener_ports(compiled: &Compiled, root: &Reader<'_>) {
    let listen = &compiled.listen;
    if listen.tcp_port.is_some() && listen.tcp_port == listen.tls_port {
        root.error(codes::CFG_PORT_CLASH, "listen.tls_port", "tcp_port and tls_port are the same");
    }
    let Some(http) = compiled.admin.http else { return };
    let is_shared =
        |address: &IpAddr| address.is_unspecified() || *address == http.ip() || http.ip().is_unspecified();
    let is_clash = [listen.tcp_port, listen.tls_port].contains(&Some(http.port()));
    if is_clash && listen.addresses.iter().any(is_shared) {
        root.error(codes::CFG_PORT_CLASH, "admin.http", format!("port {} is a SIP listener's", http.port()));
    }
}
