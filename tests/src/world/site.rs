//! The site every world is built on: three pools and a PBX, three dial plans, two Call Routers, two Mailbox servers with two workers each.
//! Owns names, addresses and the compiled policy; refuses to know what happens there.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use b2bua::policy::{
    Allowed, DialPlan, Dialect, Gateway, GatewayStatus, HeaderRules, HealthRules, HuntGroup, IpGateway,
    Mailbox, MediaBridge, MediaMode, PeerAddress, Policy, Pool, PoolEncryption, Profile, RoutingRules,
    RtcpMode, Server, ServerRole, ServerStatus, SessionRules, SrtpRules, UnknownPeer, UriType, VoipSecurity,
};
use lab::frontend::OfferShape;
use lab::um::{Directory, MailboxConfig, PlanSecurity};
use sip::Transport;

/// SIP domain of the site.
pub const DOMAIN: &str = "contoso.com";
/// Call Routers, in policy order.
pub const ROUTERS: [&str; 2] = ["cas01.contoso.com", "cas02.contoso.com"];
/// Mailbox servers, in policy order.
pub const MAILBOX_SERVERS: [&str; 2] = ["mbx01.contoso.com", "mbx02.contoso.com"];
/// Our own address.
pub const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
/// Calls that may be up at once.
pub const CALLS_MAX: usize = 200;

/// Who calls, and with that: over what, under which plan, with what outcome in fair weather.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub enum Caller {
    /// RequireEncryption pool on a Secured plan.
    Secured,
    /// DoNotSupportEncryption pool on a SIPSecured plan.
    SipSecured,
    /// IP-PBX over TCP on an Unsecured plan.
    Plain,
    /// RequireEncryption pool on a SIPSecured plan: always refused.
    Mismatched,
    /// IP-PBX over UDP on an Unsecured plan.
    Datagram,
}

impl Caller {
    /// All of them, in the order of the policy's gateways.
    pub const ALL: [Caller; 5] =
        [Caller::Secured, Caller::SipSecured, Caller::Plain, Caller::Mismatched, Caller::Datagram];
    /// Those whose calls succeed in fair weather.
    pub const WELCOME: [Caller; 4] = [Caller::Secured, Caller::SipSecured, Caller::Plain, Caller::Datagram];

    /// FQDN of the pool, or of the PBX.
    pub fn fqdn(self) -> &'static str {
        match self {
            Caller::Secured => "pool01.contoso.com",
            Caller::SipSecured => "pool02.contoso.com",
            Caller::Plain => "pbx.contoso.com",
            Caller::Mismatched => "pool03.contoso.com",
            Caller::Datagram => "pbx2.contoso.com",
        }
    }

    /// Its address.
    pub fn address(self) -> IpAddr {
        IpAddr::from([10, 0, 0, 11 + self as u8])
    }

    /// Over what it speaks.
    pub fn transport(self) -> Transport {
        match self {
            Caller::Secured | Caller::SipSecured | Caller::Mismatched => Transport::Tls,
            Caller::Plain => Transport::Tcp,
            Caller::Datagram => Transport::Udp,
        }
    }

    /// Our port for it.
    pub fn port(self) -> u16 {
        if self.transport().is_secure() { 5061 } else { 5060 }
    }

    /// Servers it consists of.
    pub fn members(self) -> usize {
        match self {
            Caller::Secured | Caller::SipSecured => 2,
            _ => 1,
        }
    }

    /// A mailbox of its plan.
    pub fn mailbox(self) -> &'static str {
        match self {
            Caller::Secured => "ken",
            Caller::SipSecured | Caller::Mismatched => "sue",
            Caller::Plain | Caller::Datagram => "bob",
        }
    }

    /// The shape of its offers.
    pub fn shape(self) -> OfferShape {
        match self {
            Caller::Secured | Caller::Mismatched => OfferShape::Lync2015,
            Caller::SipSecured => OfferShape::LyncNone,
            Caller::Plain | Caller::Datagram => OfferShape::PbxTcp,
        }
    }

    fn plan(self) -> usize {
        match self {
            Caller::Secured => 0,
            Caller::SipSecured | Caller::Mismatched => 1,
            Caller::Plain | Caller::Datagram => 2,
        }
    }

    fn encryption(self) -> Option<PoolEncryption> {
        match self {
            Caller::Secured | Caller::Mismatched => Some(PoolEncryption::RequireEncryption),
            Caller::SipSecured => Some(PoolEncryption::DoNotSupportEncryption),
            Caller::Plain | Caller::Datagram => None,
        }
    }
}

/// Security of a dial plan by name.
pub fn plan_security(name: &str) -> Option<VoipSecurity> {
    PLANS.iter().find(|(plan, _)| *plan == name).map(|(_, security)| *security)
}

const PLANS: [(&str, VoipSecurity); 3] = [
    ("DP-Secured", VoipSecurity::Secured),
    ("DP-SipSecured", VoipSecurity::SipSecured),
    ("DP-Plain", VoipSecurity::Unsecured),
];

/// The mailboxes as the lab's workers know them.
pub fn lab_directory() -> Directory {
    let of = |(alias, security): (&str, _)| MailboxConfig {
        alias: alias.to_owned(),
        security: Some(security),
        ..MailboxConfig::default()
    };
    let mailboxes =
        [("ken", PlanSecurity::Secured), ("sue", PlanSecurity::SipSecured), ("bob", PlanSecurity::Unsecured)];
    Directory::of(mailboxes.map(of).to_vec()).unwrap_or_default()
}

/// Address of a Call Router or Mailbox server.
pub fn server_address(role: ServerRole, index: usize) -> IpAddr {
    let net = if role == ServerRole::CallRouter { 1 } else { 2 };
    IpAddr::from([10, 0, net, 1 + index as u8])
}

/// The compiled policy of the site.
pub fn policy() -> Policy {
    Policy {
        gateway: gateway(),
        pools: pools(),
        ip_gateways: ip_gateways(),
        hunt_groups: hunt_groups(),
        dial_plans: dial_plans(),
        call_routers: servers(&ROUTERS, ServerRole::CallRouter),
        mailbox_servers: servers(&MAILBOX_SERVERS, ServerRole::Mailbox),
        auto_attendants: Vec::new(),
        mailboxes: [("ken", 0), ("sue", 1), ("bob", 2)]
            .map(|(alias, dial_plan)| Mailbox {
                alias: alias.to_owned(),
                sip: Some(format!("{alias}@{DOMAIN}")),
                extension: None,
                dial_plan,
                um: Default::default(),
            })
            .to_vec(),
        um: Default::default(),
        routing: RoutingRules::default(),
        headers: HeaderRules::default(),
        // Probes never end, and so would no run.
        health: HealthRules { options_interval: None, ..HealthRules::default() },
        session: SessionRules::default(),
    }
}

/// The policy with one Mailbox server and one Call Router less: what an administrator swaps in at midday.
pub fn smaller_policy() -> Arc<Policy> {
    let mut policy = policy();
    for plan in &mut policy.dial_plans {
        plan.call_routers.truncate(1);
        plan.mailbox_servers.truncate(1);
    }
    Arc::new(policy)
}

/// Of every pair of servers the second is known by name only.
pub fn forget_addresses(policy: &mut Policy) {
    for servers in [&mut policy.call_routers, &mut policy.mailbox_servers] {
        servers.iter_mut().skip(1).for_each(|server| server.addresses.clear());
    }
}

/// An address of the site where nobody is.
pub const DEAD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 9, 9));

fn gateway() -> Gateway {
    Gateway {
        fqdn: "umbra.contoso.com".into(),
        sip_domain: DOMAIN.into(),
        addresses: vec![OURS],
        advertised: OURS,
        media_addresses: b2bua::policy::MediaAddresses::of([OURS]),
        tcp_port: Some(5060),
        tls_port: Some(5061),
        udp_port: Some(5060),
        max_calls_allowed: CALLS_MAX,
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

fn pools() -> Vec<Pool> {
    let with_level = Caller::ALL.into_iter().filter_map(|caller| Some((caller, caller.encryption()?)));
    with_level
        .map(|(caller, encryption)| Pool {
            name: caller.fqdn().into(),
            fqdn: caller.fqdn().into(),
            members: Vec::new(),
            address: vec![caller.address()],
            encryption,
            site: None,
        })
        .collect()
}

fn ip_gateways() -> Vec<IpGateway> {
    let pools = pools();
    let gateway = |caller: Caller| IpGateway {
        name: caller.fqdn().into(),
        address: match caller {
            Caller::Plain | Caller::Datagram => PeerAddress::Ip(caller.address()),
            _ => PeerAddress::Fqdn(caller.fqdn().into()),
        },
        addresses: Vec::new(),
        port: 5067,
        port_source: b2bua::policy::PortSource::Configured,
        status: GatewayStatus::Enabled,
        max_calls_allowed: None,
        outcalls_allowed: Allowed::Yes,
        message_waiting_indicator_allowed: Allowed::Yes,
        pool: pools.iter().position(|pool| pool.fqdn == caller.fqdn()),
        media_networks: [].into(),
        dialect: Dialect::of(match caller {
            Caller::Plain => Profile::IpPbx,
            _ => Profile::Sfb2015,
        }),
    };
    Caller::ALL.map(gateway).to_vec()
}

fn hunt_groups() -> Vec<HuntGroup> {
    let group = |(ip_gateway, caller): (usize, &Caller)| HuntGroup {
        name: format!("hunt-{}", caller.fqdn()),
        ip_gateway,
        dial_plan: caller.plan(),
        pilot_identifier: None,
    };
    Caller::ALL.iter().enumerate().map(group).collect()
}

fn dial_plans() -> Vec<DialPlan> {
    let plan = |(name, voip_security): (&str, VoipSecurity)| DialPlan {
        name: name.into(),
        uri_type: UriType::SipName,
        voip_security,
        phone_context: format!("{name}.{DOMAIN}"),
        equivalent_phone_contexts: Vec::new(),
        access_telephone_numbers: Vec::new(),
        extension_digits: 4,
        max_call_duration: Duration::from_secs(1800),
        call_routers: vec![0, 1],
        mailbox_servers: vec![0, 1],
        media_bridge: MediaBridge::Off,
        transfers: b2bua::policy::TransferRules::default(),
    };
    PLANS.map(plan).to_vec()
}

fn servers(names: &[&str], role: ServerRole) -> Vec<Server> {
    let is_router = role == ServerRole::CallRouter;
    let server = |(index, name): (usize, &&str)| Server {
        name: (*name).to_owned(),
        addresses: vec![server_address(role, index)],
        tcp_port: if is_router { 5060 } else { 5062 },
        tls_port: if is_router { 5061 } else { 5063 },
        port_source: b2bua::policy::PortSource::Configured,
        worker_ports: vec![5065, 5066, 5067, 5068],
        max_calls_allowed: 100,
        status: ServerStatus::Enabled,
        role,
        media_networks: [].into(),
        dialect: Dialect::of(Profile::Exum2016),
    };
    names.iter().enumerate().map(server).collect()
}
