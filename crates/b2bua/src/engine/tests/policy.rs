//! The configuration of the tests: one pool or PBX, one plan, two Call Routers, two Mailbox servers.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::*;

pub const POOL: &str = "pool01.contoso.com";
pub const PBX: &str = "10.0.0.9";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn server(name: &str, address: &str, role: ServerRole) -> Server {
    let is_router = role == ServerRole::CallRouter;
    Server {
        name: name.to_owned(),
        addresses: vec![ip(address)],
        tcp_port: if is_router { 5060 } else { 5062 },
        tls_port: if is_router { 5061 } else { 5063 },
        port_source: PortSource::Configured,
        worker_ports: vec![5065, 5066],
        max_calls_allowed: 10,
        status: ServerStatus::Enabled,
        role,
        media_networks: [].into(),
        dialect: Dialect::of(Profile::Exum2016),
    }
}

fn gateway() -> Gateway {
    Gateway {
        fqdn: "umbra.contoso.com".into(),
        sip_domain: "contoso.com".into(),
        addresses: vec![ip("10.0.0.1")],
        advertised: ip("10.0.0.1"),
        media_addresses: crate::policy::MediaAddresses::of([ip("10.0.0.1")]),
        tcp_port: Some(5060),
        tls_port: Some(5061),
        udp_port: None,
        max_calls_allowed: 5,
        calls_per_second_max: None,
        queue_wait_max: QUEUE_WAIT_MAX,
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

fn ip_gateway(address: PeerAddress, pool: Option<usize>) -> IpGateway {
    IpGateway {
        name: if pool.is_some() { "lync".into() } else { "pbx".into() },
        address,
        addresses: Vec::new(),
        port: 5067,
        port_source: PortSource::Configured,
        status: GatewayStatus::Enabled,
        max_calls_allowed: None,
        outcalls_allowed: Allowed::Yes,
        message_waiting_indicator_allowed: Allowed::Yes,
        pool,
        media_networks: [].into(),
        dialect: Dialect::of(if pool.is_some() { Profile::Sfb2015 } else { Profile::IpPbx }),
    }
}

/// A pool of that level and a PBX, one dial plan of that security for both.
pub fn policy(level: PoolEncryption, security: VoipSecurity) -> Policy {
    Policy {
        gateway: gateway(),
        pools: vec![Pool {
            name: "pool01".into(),
            fqdn: POOL.into(),
            members: vec!["fe01.contoso.com".into()],
            address: vec![ip("10.0.0.5")],
            encryption: level,
            site: None,
        }],
        ip_gateways: vec![
            ip_gateway(PeerAddress::Fqdn(POOL.into()), Some(0)),
            ip_gateway(PeerAddress::Ip(ip(PBX)), None),
        ],
        hunt_groups: (0..2)
            .map(|ip_gateway| HuntGroup {
                name: format!("hunt{ip_gateway}"),
                ip_gateway,
                dial_plan: 0,
                pilot_identifier: None,
            })
            .collect(),
        dial_plans: vec![DialPlan {
            name: "DP-Sip".into(),
            uri_type: UriType::SipName,
            voip_security: security,
            phone_context: "DP-Sip.contoso.com".into(),
            equivalent_phone_contexts: Vec::new(),
            access_telephone_numbers: Vec::new(),
            extension_digits: 4,
            max_call_duration: Duration::from_secs(1800),
            call_routers: vec![0, 1],
            mailbox_servers: vec![0, 1],
            media_bridge: MediaBridge::Off,
            transfers: TransferRules::default(),
        }],
        call_routers: vec![
            server("cas01.contoso.com", "10.0.1.1", ServerRole::CallRouter),
            server("cas02.contoso.com", "10.0.1.2", ServerRole::CallRouter),
        ],
        mailbox_servers: vec![
            server("mbx01.contoso.com", "10.0.2.1", ServerRole::Mailbox),
            server("mbx02.contoso.com", "10.0.2.2", ServerRole::Mailbox),
        ],
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
        // Tests that want probes say so.
        health: HealthRules { options_interval: None, ..HealthRules::default() },
        session: SessionRules::default(),
    }
}

pub fn secured() -> Arc<Policy> {
    Arc::new(policy(PoolEncryption::RequireEncryption, VoipSecurity::Secured))
}

pub fn sip_secured() -> Arc<Policy> {
    Arc::new(policy(PoolEncryption::DoNotSupportEncryption, VoipSecurity::SipSecured))
}

pub fn unsecured() -> Arc<Policy> {
    Arc::new(policy(PoolEncryption::RequireEncryption, VoipSecurity::Unsecured))
}
