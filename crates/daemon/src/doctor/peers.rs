//! Whom the gateway has to do with, and over what: every UM server and UM IP gateway of the policy with the transports
//! that its dial plans ask for. Pure; refuses to know addresses that are not configured.

use std::net::IpAddr;

use b2bua::Policy;
use b2bua::policy::{self, GatewayStatus, PeerAddress, PortSource, ServerRole, ServerStatus, VoipSecurity};
use b2bua::security::{Signalling, plan_signalling};
use sip::Transport;

use super::finding::{Group, Side};

/// Members of pools that are looked up and visited.
const MEMBERS_MAX: usize = 64;

/// A peer as the doctor visits it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// Which one.
    pub id: policy::Peer,
    /// What it is called in findings: FQDN, or address where it has none.
    pub name: String,
    /// Whether it is known by name.
    pub known_by: KnownBy,
    /// What it is.
    pub kind: Kind,
    /// Where its SIP is expected.
    pub services: Vec<Service>,
    /// UM worker ports.
    pub worker_ports: Vec<u16>,
    /// Configured addresses; empty = DNS.
    pub addresses: Vec<IpAddr>,
    /// Whether it is in use.
    pub state: State,
}

/// How a peer is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KnownBy {
    /// By an FQDN.
    Name,
    /// By an address only.
    Address,
}

/// What a peer is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Client Access server.
    CallRouter,
    /// Mailbox server.
    Mailbox,
    /// Lync pool.
    Pool,
    /// A Front End of a pool.
    Member,
    /// Another UM IP gateway.
    Gateway,
}

impl Kind {
    /// Where findings about its SIP are shown.
    pub fn group(self) -> Group {
        match self {
            Self::CallRouter | Self::Mailbox => Group::Servers,
            Self::Pool | Self::Member => Group::Lync,
            Self::Gateway => Group::Gateways,
        }
    }

    /// Whether it is a UM server.
    pub fn is_server(self) -> bool {
        matches!(self, Self::CallRouter | Self::Mailbox)
    }

    /// Who looks after it.
    pub fn side(self) -> Side {
        match self {
            Self::CallRouter | Self::Mailbox => Side::Exchange,
            Self::Pool | Self::Member => Side::Lync,
            Self::Gateway => Side::Umbra,
        }
    }
}

/// Whether a peer is in use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// It is.
    Used,
    /// Its status is Disabled.
    Disabled,
}

/// One way to a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Service {
    /// TCP or TLS.
    pub transport: Transport,
    /// Its port, unless SRV records name another.
    pub port: u16,
    /// Whether they may.
    pub port_source: PortSource,
}

/// Every peer of a policy: Call Routers, Mailbox servers, UM IP gateways, members of pools.
pub fn of(policy: &Policy) -> Vec<Peer> {
    let servers = |role| (0..policy.servers(role).len()).filter_map(move |index| server(policy, role, index));
    let gateways = (0..policy.ip_gateways.len()).filter_map(|index| gateway(policy, index));
    let members = (0..policy.ip_gateways.len()).flat_map(|index| members(policy, index)).take(MEMBERS_MAX);
    let all = ServerRole::ALL.into_iter().flat_map(servers);
    all.chain(gateways).chain(members).collect()
}

/// The Front Ends behind a UM IP gateway, each to be visited as the pool is. A pool of one is the pool.
fn members(policy: &Policy, index: usize) -> Vec<Peer> {
    let (Some(pool), Some(whole)) = (policy.pool_of(index), gateway(policy, index)) else {
        return Vec::new();
    };
    // Where SRV records of the pool would choose its port, a member is expected at the usual one.
    let plain = |service: &Service| {
        let is_usual = service.port_source == PortSource::Srv;
        let port = if is_usual { service.transport.default_port() } else { service.port };
        Service { port, port_source: PortSource::Configured, ..*service }
    };
    let services: Vec<Service> = whole.services.iter().map(plain).collect();
    let member = |name: &String| Peer {
        name: name.clone(),
        kind: Kind::Member,
        services: services.clone(),
        addresses: Vec::new(),
        ..whole.clone()
    };
    pool.members.iter().filter(|name| !name.eq_ignore_ascii_case(&whole.name)).map(member).collect()
}

fn server(policy: &Policy, role: ServerRole, index: usize) -> Option<Peer> {
    let server = policy.servers(role).get(index)?;
    let plans = policy.dial_plans.iter().filter(|plan| match role {
        ServerRole::CallRouter => plan.call_routers.contains(&index),
        ServerRole::Mailbox => plan.mailbox_servers.contains(&index),
        // No plan has it for its own; who is sent there decides, and always over TLS.
        ServerRole::Hosted => plan.voip_security != VoipSecurity::Unsecured,
    });
    let service = |transport| Service {
        transport,
        port: if transport == Transport::Tls { server.tls_port } else { server.tcp_port },
        port_source: server.port_source,
    };
    Some(Peer {
        id: policy::Peer::Server(role, index),
        name: server.name.clone(),
        known_by: KnownBy::Name,
        kind: if role == ServerRole::CallRouter { Kind::CallRouter } else { Kind::Mailbox },
        services: transports(plans.map(|plan| plan.voip_security)).into_iter().map(service).collect(),
        worker_ports: server.worker_ports.clone(),
        addresses: server.addresses.clone(),
        state: if server.status == ServerStatus::Disabled { State::Disabled } else { State::Used },
    })
}

fn gateway(policy: &Policy, index: usize) -> Option<Peer> {
    let gateway = policy.ip_gateways.get(index)?;
    let plans = policy.hunt_groups.iter().filter(|group| group.ip_gateway == index);
    let plans = plans.filter_map(|group| policy.dial_plans.get(group.dial_plan));
    let known_by = match gateway.address {
        PeerAddress::Fqdn(_) => KnownBy::Name,
        PeerAddress::Ip(_) => KnownBy::Address,
    };
    let service = |transport| Service { transport, port: gateway.port, port_source: gateway.port_source };
    let is_possible = |transport: &Transport| *transport != Transport::Tls || known_by == KnownBy::Name;
    // One port speaks one transport: where plans differ, the secured one counts.
    let transport = transports(plans.map(|plan| plan.voip_security)).into_iter().find(is_possible);
    let mut addresses = policy.addresses_of(policy::Peer::IpGateway(index));
    addresses.dedup();
    Some(Peer {
        id: policy::Peer::IpGateway(index),
        name: gateway.address.to_string(),
        known_by,
        kind: if gateway.pool.is_some() { Kind::Pool } else { Kind::Gateway },
        services: transport.into_iter().map(service).collect(),
        worker_ports: Vec::new(),
        addresses,
        state: if gateway.status == GatewayStatus::Disabled { State::Disabled } else { State::Used },
    })
}

/// TLS first.
fn transports(plans: impl Iterator<Item = VoipSecurity>) -> Vec<Transport> {
    let wanted: Vec<Signalling> = plans.map(plan_signalling).collect();
    let pairs = [(Signalling::MutualTls, Transport::Tls), (Signalling::Plain, Transport::Tcp)];
    pairs.into_iter().filter(|(kind, _)| wanted.contains(kind)).map(|(_, transport)| transport).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn transports_follow_the_dial_plans() {
        let compiled = testing::compiled("");
        let peers = of(&compiled.policy);
        let find = |name: &str| peers.iter().find(|peer| peer.name == name).unwrap();
        let router = find("cas01.contoso.test");
        let both: Vec<_> = router.services.iter().map(|s| (s.transport, s.port)).collect();
        assert_eq!(both, [(Transport::Tls, 5061), (Transport::Tcp, 5060)]);
        assert_eq!(find("pool01.contoso.test").services[0].transport, Transport::Tls);
        let pbx = find("127.0.0.40");
        assert_eq!((pbx.kind, pbx.known_by), (Kind::Gateway, KnownBy::Address));
        assert_eq!(pbx.services[0].transport, Transport::Tcp);
        assert_eq!(find("mbx01.contoso.test").worker_ports, [5065, 5066, 5067, 5068]);
    }

    #[test]
    fn each_member_of_a_pool_is_a_peer_and_a_pool_of_one_is_not() {
        let with = |members: &str| {
            let compiled = testing::edited(|text| {
                text.replace("encryption = ", &format!("members = [{members}]\nencryption = "))
            });
            let peers = of(&compiled.policy).into_iter().filter(|peer| peer.kind == Kind::Member);
            peers.map(|peer| (peer.name, peer.services[0].port)).collect::<Vec<_>>()
        };
        let both = [("fe01.contoso.test".to_owned(), 5061), ("fe02.contoso.test".to_owned(), 5061)];
        assert_eq!(with("\"fe01.contoso.test\", \"fe02.contoso.test\""), both);
        assert_eq!(with("\"pool01.contoso.test\""), []);
        let by_srv = testing::edited(|text| {
            let text = text.replace("encryption = ", "members = [\"fe01.contoso.test\"]\nencryption = ");
            text.replace("address = [\"127.0.0.10\"]\n", "").replace("port = 5061\n", "")
        });
        let member = of(&by_srv.policy).into_iter().find(|peer| peer.kind == Kind::Member).unwrap();
        assert_eq!(
            member.services[0],
            Service { port: 5061, port_source: PortSource::Configured, ..member.services[0] }
        );
    }

    #[test]
    fn a_disabled_peer_is_known_as_such() {
        let compiled =
            testing::edited(|text| text.replace("outcalls_allowed = true", "status = \"Disabled\""));
        let peers = of(&compiled.policy);
        let states: Vec<_> = peers.iter().filter(|p| p.kind == Kind::Pool).map(|p| p.state).collect();
        assert_eq!(states, [State::Disabled]);
    }
}
