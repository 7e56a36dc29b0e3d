//! Which UM IP gateway or Mailbox server a dry run comes from. Owns the many names a peer goes by; decides nothing about trust, which
//! on the wire comes from a certificate or an address only.

use b2bua::Policy;
use b2bua::policy::{IpGateway, Peer, PeerAddress};
use sip::Message;

use super::ExplainArgs;

/// Who sends it.
pub(super) enum Sender {
    /// A UM IP gateway (index), and how it was found.
    Gateway(usize, &'static str),
    /// A Mailbox server (index), which places a call.
    Um(usize),
}

/// Finds the sender: as told, else the only one there is, else as the request's topmost Via says.
///
/// # Errors
/// What the operator should have said.
pub(super) fn sender(
    policy: &Policy,
    arguments: &ExplainArgs,
    request: Option<&Message>,
) -> Result<Sender, String> {
    if let Some(wanted) = arguments.um.as_deref() {
        return server(policy, wanted);
    }
    if let Some(wanted) = arguments.pool.as_deref() {
        return named(policy, wanted, "--pool", |gateway| is_pool(policy, gateway, wanted));
    }
    if let Some(wanted) = arguments.gateway.as_deref() {
        return named(policy, wanted, "--gateway", |gateway| {
            is_gateway(gateway, wanted) || is_pool(policy, gateway, wanted)
        });
    }
    if policy.ip_gateways.len() == 1 {
        return Ok(Sender::Gateway(0, "the only UM IP gateway"));
    }
    let by_via = request.and_then(|request| by_via(policy, request));
    by_via.map(|index| Sender::Gateway(index, "assumed from the topmost Via")).ok_or_else(|| {
        format!("which UM IP gateway does it come from? --pool or --gateway with one of: {}", names(policy))
    })
}

fn named(
    policy: &Policy,
    wanted: &str,
    by: &'static str,
    is_it: impl Fn(&IpGateway) -> bool,
) -> Result<Sender, String> {
    let index = policy.ip_gateways.iter().position(is_it);
    index.map(|index| Sender::Gateway(index, by)).ok_or_else(|| {
        let sort = if by == "--pool" { "pool with a UM IP gateway" } else { "UM IP gateway" };
        format!("no {sort} is called {wanted}; there are: {}", names(policy))
    })
}

fn server(policy: &Policy, wanted: &str) -> Result<Sender, String> {
    let is_it = |name: &str| {
        let label = name.split('.').next().unwrap_or_default();
        name.eq_ignore_ascii_case(wanted) || label.eq_ignore_ascii_case(wanted)
    };
    let found = policy.mailbox_servers.iter().position(|server| is_it(&server.name));
    found.map(Sender::Um).ok_or_else(|| {
        let names: Vec<&str> = policy.mailbox_servers.iter().map(|server| server.name.as_str()).collect();
        format!("no Mailbox server is called {wanted}; there are: {}", names.join(", "))
    })
}

fn names(policy: &Policy) -> String {
    let names: Vec<&str> = policy.ip_gateways.iter().map(|gateway| gateway.name.as_str()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn is_gateway(gateway: &IpGateway, wanted: &str) -> bool {
    gateway.name.eq_ignore_ascii_case(wanted)
        || match &gateway.address {
            PeerAddress::Fqdn(name) => name.eq_ignore_ascii_case(wanted),
            PeerAddress::Ip(address) => wanted.parse() == Ok(*address),
        }
        || wanted.parse().is_ok_and(|address| gateway.addresses.contains(&address))
}

fn is_pool(policy: &Policy, gateway: &IpGateway, wanted: &str) -> bool {
    let pool = gateway.pool.and_then(|index| policy.pools.get(index));
    pool.is_some_and(|pool| {
        let mut names = [&pool.name, &pool.fqdn].into_iter().chain(&pool.members);
        names.any(|name| name.eq_ignore_ascii_case(wanted))
            || wanted.parse().is_ok_and(|address| pool.address.contains(&address))
    })
}

fn by_via(policy: &Policy, request: &Message) -> Option<usize> {
    let via = request.top_via().ok()?;
    let host = std::str::from_utf8(via.host()).ok()?;
    let peer = match host.trim_matches(['[', ']']).parse() {
        Ok(address) => policy.peer_by_address(address),
        Err(_) => policy.peer_by_name(&[host.to_owned()]),
    };
    match peer? {
        Peer::IpGateway(index) => Some(index),
        Peer::Server(..) => None,
    }
}
