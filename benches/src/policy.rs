//! The configuration under which calls are measured: one pool, one PBX, one dial plan each, servers with room for every
//! call that a table asks for.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use b2bua::policy::{
    Allowed, DialPlan, Dialect, Gateway, GatewayStatus, HeaderRules, HealthRules, HuntGroup, IpGateway,
    Mailbox, MediaBridge, MediaMode, PeerAddress, Policy, Pool, PoolEncryption, Profile, RoutingRules,
    RtcpMode, Server, ServerRole, ServerStatus, SessionRules, SrtpRules, UnknownPeer, UriType, VoipSecurity,
};

pub(crate) const POOL: &str = "pool01.contoso.com";
pub(crate) const ROUTER: &str = "cas01.contoso.com";
pub(crate) const MAILBOX: &str = "mbx01.contoso.com";
pub(crate) const PBX: [u8; 4] = [10, 0, 0, 9];
pub(crate) const CALLS_MAX: usize = 1_000_000;

fn address(last: [u8; 4]) -> IpAddr {
    IpAddr::from(last)
}

/// One pool and one PBX; the plan has that security, the gateway room for so many calls.
pub(crate) fn policy(security: VoipSecurity, calls_max: usize) -> Arc<Policy> {
    let level = match security {
        VoipSecurity::Secured => PoolEncryption::RequireEncryption,
        _ => PoolEncryption::DoNotSupportEncryption,
    };
    Arc::new(Policy {
        gateway: gateway(calls_max),
        pools: vec![Pool {
            name: "pool01".into(),
            fqdn: POOL.into(),
            members: vec!["fe01.contoso.com".into()],
            address: vec![address([10, 0, 0, 5])],
            encryption: level,
            site: None,
        }],
        ip_gateways: vec![
            ip_gateway("lync", PeerAddress::Fqdn(POOL.into()), Some(0)),
            ip_gateway("pbx", PeerAddress::Ip(address(PBX)), None),
        ],
        hunt_groups: (0..2).map(hunt_group).collect(),
        dial_plans: vec![dial_plan(security)],
        call_routers: vec![server(ROUTER, [10, 0, 1, 1], ServerRole::CallRouter)],
        mailbox_servers: vec![server(MAILBOX, [10, 0, 2, 1], ServerRole::Mailbox)],
        auto_attendants: Vec::new(),
        mailboxes: vec![Mailbox {
            alias: "ken".into(),
            sip: Some("ken@contoso.com".into()),
            extension: None,
            dial_plan: 0,
            um: Default::default(),
        }],
        um: Default::default(),
        routing: RoutingRules::default(),
        headers: HeaderRules::default(),
        // Nothing but calls is counted.
        health: HealthRules { options_interval: None, ..HealthRules::default() },
        session: SessionRules::default(),
    })
}

fn gateway(max_calls_allowed: usize) -> Gateway {
    Gateway {
        fqdn: "umbra.contoso.com".into(),
        sip_domain: "contoso.com".into(),
        addresses: vec![address([10, 0, 0, 1])],
        advertised: address([10, 0, 0, 1]),
        media_addresses: b2bua::policy::MediaAddresses::of([address([10, 0, 0, 1])]),
        tcp_port: Some(5060),
        tls_port: Some(5061),
        udp_port: None,
        max_calls_allowed,
        calls_per_second_max: None,
        queue_wait_max: b2bua::policy::QUEUE_WAIT_MAX,
        unknown_peer: UnknownPeer::Drop,
        codecs: vec!["PCMU".into(), "PCMA".into()],
        media_mode: MediaMode::Anchored,
        srtp: SrtpRules::default(),
        rtcp: RtcpMode::default(),
        ice: Default::default(),
        media_inactivity: Duration::from_secs(30),
        correlation_header: Some("X-Call-ID".into()),
    }
}

fn ip_gateway(name: &str, address: PeerAddress, pool: Option<usize>) -> IpGateway {
    IpGateway {
        name: name.into(),
        address,
        addresses: Vec::new(),
        port: 5067,
        port_source: b2bua::policy::PortSource::Configured,
        status: GatewayStatus::Enabled,
        max_calls_allowed: None,
        outcalls_allowed: Allowed::Yes,
        message_waiting_indicator_allowed: Allowed::Yes,
        pool,
        media_networks: [].into(),
        dialect: Dialect::of(if pool.is_some() { Profile::Sfb2015 } else { Profile::IpPbx }),
    }
}

fn hunt_group(ip_gateway: usize) -> HuntGroup {
    HuntGroup { name: format!("hunt{ip_gateway}"), ip_gateway, dial_plan: 0, pilot_identifier: None }
}

fn dial_plan(voip_security: VoipSecurity) -> DialPlan {
    DialPlan {
        name: "DP-Sip".into(),
        uri_type: UriType::SipName,
        voip_security,
        phone_context: "DP-Sip.contoso.com".into(),
        equivalent_phone_contexts: Vec::new(),
        access_telephone_numbers: Vec::new(),
        extension_digits: 4,
        max_call_duration: Duration::from_secs(1800),
        call_routers: vec![0],
        mailbox_servers: vec![0],
        media_bridge: MediaBridge::Off,
        transfers: b2bua::policy::TransferRules::default(),
    }
}

fn server(name: &str, at: [u8; 4], role: ServerRole) -> Server {
    let is_router = role == ServerRole::CallRouter;
    Server {
        name: name.to_owned(),
        addresses: vec![address(at)],
        tcp_port: if is_router { 5060 } else { 5062 },
        tls_port: if is_router { 5061 } else { 5063 },
        port_source: b2bua::policy::PortSource::Configured,
        worker_ports: vec![5065, 5066],
        max_calls_allowed: CALLS_MAX,
        status: ServerStatus::Enabled,
        role,
        media_networks: [].into(),
        dialect: Dialect::of(Profile::Exum2016),
    }
}
