//! Which UM IP gateway a dry run comes from. Owns the many names a peer goes by; decides nothing about trust, which
//! on the wire comes from a certificate or an address only.

use b2bua::Policy;
use b2bua::policy::{IpGateway, Peer, PeerAddress};
use sip::Message;

use super::ExplainArgs;

/// A UM IP gateway, and how it was found.
pub(super) struct Sender {
    /// Index into `ip_gateways`.
    pub(super) index: usize,
    /// What led to it.
    pub(super) by: &'static str,
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
    if let Some(wanted) = arguments.pool.as_deref() {
        return named(policy, wanted, "--pool", |gateway| is_pool(policy, gateway, wanted));
    }
    if let Some(wanted) = arguments.gateway.as_deref() {
        return named(policy, wanted, "--gateway", |gateway| {
            is_gateway(gateway, wanted) || is_pool(policy, gateway, wanted)
        });
    }
    if policy.ip_gateways.len() == 1 {
        return Ok(Sender { index: 0, by: "the only UM IP gateway" });
    }
    let by_via = request.and_then(|request| by_via(policy, request));
    by_via.map(|index| Sender { index, by: "assumed from the topmost Via" }).ok_or_else(|| {
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
    index.map(|index| Sender { index, by }).ok_or_else(|| {
        let sort = if by == "--pool" { "pool with a UM IP gateway" } else { "UM IP gateway" };
        format!("no {sort} is called {wanted}; there are: {}", names(policy))
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
