//! The compiled configuration: what this gateway knows about pools, gateways, hunt groups, dial plans and servers.
//! Every name is resolved to an index, every value is inside its range. This module refuses to know files, TOML, DNS
//! and sockets; the daemon's `compile` builds a [`Policy`] and swaps it whole behind an `Arc`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use relay::Network;
use serde::Serialize;

pub use crate::headers::{CallerNames, HeaderRules, UnknownHeaders};
pub use crate::profile::{Dialect, Digits, Profile};
use crate::quirks::QuirkSet;
pub use crate::um::*;

/// Wait of queued work above which new calls are refused, unless configured: well above what a busy gateway shows, well
/// below T1, so that the peers do not retransmit into the queue.
pub const QUEUE_WAIT_MAX: Duration = Duration::from_millis(400);

/// Everything the engine decides with. Immutable; a call keeps the policy it started with.
#[derive(Clone, Debug)]
pub struct Policy {
    /// This process, as Exchange and Lync know it.
    pub gateway: Gateway,
    /// Lync / Skype for Business pools.
    pub pools: Vec<Pool>,
    /// UM IP gateways: one per pool or PBX.
    pub ip_gateways: Vec<IpGateway>,
    /// Hunt groups: pilot identifier → dial plan.
    pub hunt_groups: Vec<HuntGroup>,
    /// UM dial plans.
    pub dial_plans: Vec<DialPlan>,
    /// Client Access servers: SIP only, redirect.
    pub call_routers: Vec<Server>,
    /// Mailbox servers: UM service and workers.
    pub mailbox_servers: Vec<Server>,
    /// UM auto attendants.
    pub auto_attendants: Vec<AutoAttendant>,
    /// EUM proxy addresses known here.
    pub mailboxes: Vec<Mailbox>,
    /// Mailbox policies, contact objects, hosted voice mail.
    pub um: UmObjects,
    /// Redirect budget, server choice, fail-over.
    pub routing: RoutingRules,
    /// What the configuration adds to the header table.
    pub headers: HeaderRules,
    /// OPTIONS probes.
    pub health: HealthRules,
    /// Session timers and the repair of dialogs.
    pub session: SessionRules,
}

/// This process as a SIP element.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Our FQDN: certificate subject, Via, Contact, Warning agent.
    pub fqdn: String,
    /// SIP domain served.
    pub sip_domain: String,
    /// Own addresses (listeners), used to recognise ourselves in a URI.
    pub addresses: Vec<IpAddr>,
    /// Address written into Via and Contact.
    pub advertised: IpAddr,
    /// Addresses written into SDP.
    pub media_addresses: MediaAddresses,
    /// Plain listener, when there is one.
    pub tcp_port: Option<u16>,
    /// Mutual TLS listener, when there is one.
    pub tls_port: Option<u16>,
    /// Opt-in UDP listener (load tools).
    pub udp_port: Option<u16>,
    /// Calls admitted at once.
    pub max_calls_allowed: usize,
    /// New calls admitted in a second (and in one burst); `None` = as many as come.
    pub calls_per_second_max: Option<u32>,
    /// How long work may keep waiting for its turn before new calls are refused.
    pub queue_wait_max: Duration,
    /// What a stranger gets.
    pub unknown_peer: UnknownPeer,
    /// Encodings offered and accepted, in order of preference (`PCMU`, `PCMA`, …).
    pub codecs: Vec<String>,
    /// Whether media passes through here.
    pub media_mode: MediaMode,
    /// How media is sealed where it is.
    pub srtp: SrtpRules,
    /// Who makes RTCP.
    pub rtcp: RtcpMode,
    /// What becomes of ICE in an offer.
    pub ice: IcePolicy,
    /// Silence on both legs after which a call is ended.
    pub media_inactivity: Duration,
    /// Header that carries the A-leg Call-ID on leg B (`X-Call-ID`); `None` switches it off.
    pub correlation_header: Option<String>,
}

/// Where media of this gateway is: an address of each family that it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MediaAddresses {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl MediaAddresses {
    /// The first of each family.
    pub fn of(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut first = Self::default();
        for address in addresses {
            match address {
                IpAddr::V4(v4) => first.v4 = first.v4.or(Some(v4)),
                IpAddr::V6(v6) => first.v6 = first.v6.or(Some(v6)),
            }
        }
        first
    }

    /// The one of the same family.
    pub fn like(&self, other: IpAddr) -> Option<IpAddr> {
        match other {
            IpAddr::V4(_) => self.v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }

    /// All, IPv4 first.
    pub fn all(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }
}

/// How media is sealed where a dial plan and its peers seal it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrtpRules {
    /// Suites taken from a peer; the first is the one that we offer.
    pub suites: Vec<sdp::Suite>,
    /// Who computes.
    pub provider: relay::Provider,
}

impl Default for SrtpRules {
    fn default() -> Self {
        Self { suites: sdp::Suite::ALL.to_vec(), provider: relay::Provider::default() }
    }
}

/// Whether media passes through the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaMode {
    /// Through ports of this gateway, checked and re-keyed.
    Anchored,
    /// From peer to peer under keys of the peers: for measuring signalling alone.
    Unanchored,
}

/// Who makes the RTCP that a side gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum RtcpMode {
    /// The other side; the gateway, where that one makes none.
    #[default]
    Generate,
    /// The other side alone.
    Relay,
}

/// What becomes of ICE in an offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IcePolicy {
    /// Answered in the form it was offered in; checks of the peer are answered.
    #[default]
    Answer,
    /// Answered without it.
    Off,
}

/// Answer to a request from a peer that is no UM IP gateway and no server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownPeer {
    /// Silence.
    Drop,
    /// 403.
    Reject,
}

/// A Lync / Skype for Business pool.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Configured name.
    pub name: String,
    /// Pool FQDN, the `Address` of its UM IP gateway.
    pub fqdn: String,
    /// FQDNs of the Front Ends; each may appear as certificate name.
    pub members: Vec<String>,
    /// Source addresses, for labs without DNS.
    pub address: Vec<IpAddr>,
    /// `Set-CsMediaConfiguration -EncryptionLevel`.
    pub encryption: PoolEncryption,
    /// The site it is in, for policies of a site.
    pub site: Option<String>,
}

/// Media encryption level of a pool, in Lync's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum PoolEncryption {
    /// SRTP only (Lync's default).
    RequireEncryption,
    /// SRTP or RTP.
    SupportEncryption,
    /// RTP only.
    DoNotSupportEncryption,
}

/// A UM IP gateway: a peer that may send calls.
#[derive(Clone, Debug)]
pub struct IpGateway {
    /// Configured name.
    pub name: String,
    /// FQDN or address by which the peer is known.
    pub address: PeerAddress,
    /// Source and target addresses when no DNS is wanted; empty = resolve the FQDN.
    pub addresses: Vec<IpAddr>,
    /// Port used toward the peer.
    pub port: u16,
    /// Whether SRV records may name another one.
    pub port_source: PortSource,
    /// Whether it may send calls.
    pub status: GatewayStatus,
    /// Its calls at once; `None` = as many as the gateway takes.
    pub max_calls_allowed: Option<usize>,
    /// UM may place calls through it.
    pub outcalls_allowed: Allowed,
    /// Message-waiting NOTIFY may go through it.
    pub message_waiting_indicator_allowed: Allowed,
    /// The pool with the same FQDN, when this gateway stands for one (index into `pools`).
    pub pool: Option<usize>,
    /// Where its media may be; empty = anywhere.
    pub media_networks: Arc<[Network]>,
    /// What it is, and the quirks that are on for it.
    pub dialect: Dialect,
}

/// How a UM IP gateway is addressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// By name: certificate name and DNS.
    Fqdn(String),
    /// By address: plain gateways.
    Ip(IpAddr),
}

impl std::fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fqdn(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// Where the port of a peer comes from (RFC 3263 §4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortSource {
    /// The configured port, without SRV.
    Configured,
    /// SRV records when there are any, else the default port: neither port nor address is configured.
    Srv,
    /// The same with the records of federation, `_sipfederationtls._tcp`.
    Federation,
}

/// `Status` of a UM IP gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayStatus {
    /// Takes calls.
    Enabled,
    /// Refused at once.
    Disabled,
    /// Calls in progress go on, new ones are refused.
    NoNewCalls,
}

/// A permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Allowed.
    Yes,
    /// Refused.
    No,
}

/// A UM hunt group: pilot identifier of a gateway → dial plan.
#[derive(Clone, Debug)]
pub struct HuntGroup {
    /// Configured name.
    pub name: String,
    /// Index into `ip_gateways`.
    pub ip_gateway: usize,
    /// Index into `dial_plans`.
    pub dial_plan: usize,
    /// The pilot; `None` = the gateway's default hunt group.
    pub pilot_identifier: Option<String>,
}

/// A UM dial plan.
#[derive(Clone, Debug)]
pub struct DialPlan {
    /// Configured name.
    pub name: String,
    /// Kind of user addresses.
    pub uri_type: UriType,
    /// `VoIPSecurity`.
    pub voip_security: VoipSecurity,
    /// `<plan>.<forest>`, compared without case.
    pub phone_context: String,
    /// `EquivalentDialPlanPhoneContexts`.
    pub equivalent_phone_contexts: Vec<String>,
    /// Subscriber-access (Outlook Voice Access) numbers.
    pub access_telephone_numbers: Vec<String>,
    /// Digits of an extension.
    pub extension_digits: u8,
    /// Longest call.
    pub max_call_duration: Duration,
    /// Call Routers serving the plan (indexes, in configured order).
    pub call_routers: Vec<usize>,
    /// Mailbox servers serving the plan (indexes, in configured order).
    pub mailbox_servers: Vec<usize>,
    /// Whether a pool and a plan that do not fit may talk by SRTP↔RTP transcryption.
    pub media_bridge: MediaBridge,
    /// What becomes of REFER and Replaces.
    pub transfers: TransferRules,
}

/// What becomes of transfers inside the calls of a dial plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferRules {
    /// What a REFER does.
    pub refer: ReferRule,
    /// Whose INVITE with Replaces may take a leg over.
    pub replaces: ReplacesRule,
}

/// What a REFER of UM does; one of the caller's side is never executed here, only carried or refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReferRule {
    /// Carried to the other leg, which then calls the target itself.
    #[default]
    Relay,
    /// The gateway calls the target through the call's UM IP gateway and connects the caller with it.
    Execute,
    /// 603.
    Refuse,
}

/// Whose INVITE with Replaces (RFC 3891) takes over a leg.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplacesRule {
    /// The peer whose dialog is named, nobody else.
    #[default]
    SamePeer,
    /// Any UM IP gateway with a hunt group for the dial plan, any server of the dial plan.
    SamePlan,
    /// Nobody: 603.
    Refuse,
}

/// `URIType` of a dial plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriType {
    /// Telephone extension.
    TelExtn,
    /// E.164 number.
    E164,
    /// SIP URI.
    SipName,
}

/// `VoIPSecurity` of a dial plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum VoipSecurity {
    /// TCP and RTP.
    Unsecured,
    /// Mutual TLS and RTP.
    #[serde(rename = "SIPSecured")]
    SipSecured,
    /// Mutual TLS and SRTP.
    Secured,
}

/// Optional transcryption between a pool and a plan whose media levels differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaBridge {
    /// Refuse (default).
    Off,
    /// SRTP on the pool side, RTP on the UM side, or the reverse; visible in record and verdict.
    Transcrypt,
}

/// A UM server: Call Router or Mailbox server.
#[derive(Clone, Debug)]
pub struct Server {
    /// FQDN: configured name, expected TLS identity, expected redirect host.
    pub name: String,
    /// Addresses; empty = DNS.
    pub addresses: Vec<IpAddr>,
    /// Plain service port.
    pub tcp_port: u16,
    /// Mutual TLS service port.
    pub tls_port: u16,
    /// Whether SRV records may name others.
    pub port_source: PortSource,
    /// Ports of the worker processes (information: the redirect's Contact decides).
    pub worker_ports: Vec<u16>,
    /// Calls at once.
    pub max_calls_allowed: usize,
    /// Whether it gets new calls.
    pub status: ServerStatus,
    /// What it does.
    pub role: ServerRole,
    /// Where its media may be; empty = anywhere.
    pub media_networks: Arc<[Network]>,
    /// What it is, and the quirks that are on for it.
    pub dialect: Dialect,
}

/// Whether a server gets new calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerStatus {
    /// Takes calls.
    Enabled,
    /// Keeps its calls, gets no new ones.
    NoNewCalls,
    /// Not used.
    Disabled,
}

/// What a UM server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum ServerRole {
    /// Client Access server: redirects.
    CallRouter,
    /// Mailbox server: redirects to a worker, or answers.
    Mailbox,
    /// A hosted UM behind the proxy of its hosting provider.
    Hosted,
}

impl ServerRole {
    /// Every role; a name that stands for several counts as the first.
    pub const ALL: [Self; 3] = [Self::CallRouter, Self::Mailbox, Self::Hosted];
}

/// A UM auto attendant.
#[derive(Clone, Debug)]
pub struct AutoAttendant {
    /// Configured name, also the user part of its contact object.
    pub name: String,
    /// Index into `dial_plans`.
    pub dial_plan: usize,
    /// Its pilot numbers.
    pub pilot_identifiers: Vec<String>,
    /// Its keys and hours.
    pub menu: Menu,
}

/// A UM-enabled mailbox, by its EUM proxy addresses.
#[derive(Clone, Debug)]
pub struct Mailbox {
    /// Alias.
    pub alias: String,
    /// SIP address without scheme (`ken@contoso.com`), when it has one.
    pub sip: Option<String>,
    /// Extension, when it has one.
    pub extension: Option<String>,
    /// Index into `dial_plans`: the plan of its `phone-context`.
    pub dial_plan: usize,
    /// What else it has.
    pub um: MailboxUm,
}

/// Redirect budget and server choice.
#[derive(Clone, Debug)]
pub struct RoutingRules {
    /// 3xx followed one after the other in one attempt.
    pub redirect_hops_max: usize,
    /// Different targets tried in one call.
    pub redirect_targets_max: usize,
    /// Time for all of it.
    pub redirect_total: Duration,
    /// How the first server is chosen.
    pub selection: Selection,
    /// Final answers after which the next server is tried.
    pub retry_on: Vec<u16>,
    /// Try the next server after a connect failure.
    pub retry_on_connect_failure: Allowed,
    /// Try the next server after a time-out.
    pub retry_on_timeout: Allowed,
    /// Budget for a TCP connect.
    pub connect_timeout: Duration,
    /// Budget for a TLS handshake.
    pub tls_timeout: Duration,
    /// Budget for the first answer other than 100.
    pub first_answer_timeout: Duration,
    /// The A leg sees a non-100 provisional or a final within this.
    pub a_leg_answer_max: Duration,
    /// What happens to requests outside calls.
    pub out_of_dialog: OutOfDialogRules,
}

/// What happens to requests outside calls. REGISTER, SUBSCRIBE and PUBLISH are always refused: nothing here keeps
/// the state they make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutOfDialogRules {
    /// OPTIONS for somebody else; those for this gateway are always answered.
    pub options: OutOfDialog,
    /// MESSAGE.
    pub message: OutOfDialog,
    /// SERVICE.
    pub service: OutOfDialog,
    /// Message-waiting NOTIFY of a Mailbox server.
    pub notify: OutOfDialog,
    /// Missed-call notifications, by whatever method.
    pub missed_call: OutOfDialog,
}

impl Default for OutOfDialogRules {
    fn default() -> Self {
        Self {
            options: OutOfDialog::Answer,
            message: OutOfDialog::Relay,
            service: OutOfDialog::Relay,
            notify: OutOfDialog::Relay,
            missed_call: OutOfDialog::Relay,
        }
    }
}

/// What happens to a request outside calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfDialog {
    /// Answered here; OPTIONS only.
    Answer,
    /// Carried on to where an INVITE would go, or to the user's pool.
    Relay,
    /// 405.
    Refuse,
}

impl Default for RoutingRules {
    fn default() -> Self {
        Self {
            redirect_hops_max: 3,
            redirect_targets_max: 5,
            redirect_total: Duration::from_secs(32),
            selection: Selection::RoundRobin,
            retry_on: vec![408, 500, 503, 504],
            retry_on_connect_failure: Allowed::Yes,
            retry_on_timeout: Allowed::Yes,
            connect_timeout: Duration::from_secs(2),
            tls_timeout: Duration::from_secs(3),
            first_answer_timeout: Duration::from_secs(4),
            a_leg_answer_max: Duration::from_secs(10),
            out_of_dialog: OutOfDialogRules::default(),
        }
    }
}

/// How the first server of a plan is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// One after the other.
    RoundRobin,
    /// The one with the fewest calls.
    LeastCalls,
    /// Configured order.
    Priority,
}

/// OPTIONS probes toward UM servers.
#[derive(Clone, Copy, Debug)]
pub struct HealthRules {
    /// Between two probes; `None` switches them off.
    pub options_interval: Option<Duration>,
    /// Failed probes in a row after which a server is down.
    pub down_after: u32,
    /// Good probes in a row after which it is up again.
    pub up_after: u32,
}

impl Default for HealthRules {
    fn default() -> Self {
        Self { options_interval: Some(Duration::from_secs(10)), down_after: 3, up_after: 2 }
    }
}

/// How answered calls are kept alive (RFC 4028) and dialogs are mended ([MS-SIPRE] §3.7).
#[derive(Clone, Copy, Debug)]
pub struct SessionRules {
    /// Session-Expires we ask for, and the longest we grant; `None` asks for none and grants any.
    pub expires_secs: Option<u32>,
    /// The shortest interval we take; RFC 4028 §4 demands at least 90.
    pub min_se_secs: u32,
    /// Whether `ms-dialog-route-set-update` is spoken.
    pub route_set_update: Allowed,
}

impl Default for SessionRules {
    fn default() -> Self {
        Self { expires_secs: Some(1800), min_se_secs: 90, route_set_update: Allowed::Yes }
    }
}

/// Who speaks on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// Index into `ip_gateways`.
    IpGateway(usize),
    /// Role and index into the servers of that role.
    Server(ServerRole, usize),
}

impl Policy {
    /// The peer that owns one of the certificate names. UM IP gateways win over servers; pool members count as their pool's gateway.
    pub fn peer_by_name(&self, names: &[String]) -> Option<Peer> {
        let known = |name: &str| names.iter().any(|n| n.eq_ignore_ascii_case(name));
        let gateway = self.ip_gateways.iter().position(|g| self.gateway_names(g).any(known));
        gateway.map(Peer::IpGateway).or_else(|| self.server_where(|s| known(&s.name)))
    }

    /// The peer that owns a source address. UM IP gateways win over servers.
    pub fn peer_by_address(&self, address: IpAddr) -> Option<Peer> {
        let address = address.to_canonical();
        let gateway = self.ip_gateways.iter().position(|g| self.gateway_has_address(g, address));
        gateway.map(Peer::IpGateway).or_else(|| self.server_where(|s| s.addresses.contains(&address)))
    }

    /// The peer that a connection to this name or address reaches.
    pub fn peer_behind(&self, name: &str) -> Option<Peer> {
        let by_address = || name.parse().ok().and_then(|address| self.peer_by_address(address));
        self.server_by_name(name)
            .or_else(|| self.peer_by_name(std::slice::from_ref(&name.to_owned())))
            .or_else(by_address)
    }

    /// The server with this FQDN, Mailbox servers last.
    pub fn server_by_name(&self, name: &str) -> Option<Peer> {
        self.server_where(|s| s.name.eq_ignore_ascii_case(name))
    }

    /// The UM mailbox policy of a mailbox.
    pub fn mailbox_policy_of(&self, mailbox: usize) -> Option<&MailboxPolicy> {
        self.um.mailbox_policies.get(self.mailboxes.get(mailbox)?.um.policy?)
    }

    /// The Mailbox server that a peer is, or shares a host with: one host may have both roles, and is known by the first.
    pub fn mailbox_server_of(&self, peer: Peer) -> Option<usize> {
        let Peer::Server(role, index) = peer else { return None };
        let router = match role {
            ServerRole::Mailbox => return Some(index),
            ServerRole::CallRouter => self.call_routers.get(index)?,
            ServerRole::Hosted => return None,
        };
        let is_same = |server: &Server| {
            server.name.eq_ignore_ascii_case(&router.name)
                || server.addresses.iter().any(|address| router.addresses.contains(address))
        };
        self.mailbox_servers.iter().position(is_same)
    }

    /// The servers of a role.
    pub fn servers(&self, role: ServerRole) -> &[Server] {
        match role {
            ServerRole::CallRouter => &self.call_routers,
            ServerRole::Mailbox => &self.mailbox_servers,
            ServerRole::Hosted => &self.um.hosted.servers,
        }
    }

    /// The roles that a server has.
    pub fn roles_of(&self, name: &str) -> Vec<ServerRole> {
        let has = |role: &ServerRole| self.servers(*role).iter().any(|s| s.name.eq_ignore_ascii_case(name));
        ServerRole::ALL.into_iter().filter(has).collect()
    }

    /// The servers of all roles.
    pub fn all_servers(&self) -> impl Iterator<Item = &Server> {
        ServerRole::ALL.into_iter().flat_map(|role| self.servers(role))
    }

    /// The pool a gateway stands for.
    pub fn pool_of(&self, ip_gateway: usize) -> Option<&Pool> {
        self.pools.get(self.ip_gateways.get(ip_gateway)?.pool?)
    }

    /// How a peer is spoken to; a stranger has no quirk.
    pub fn dialect_of(&self, peer: Option<Peer>) -> Dialect {
        let found = match peer {
            Some(Peer::IpGateway(index)) => self.ip_gateways.get(index).map(|g| g.dialect),
            Some(Peer::Server(role, index)) => self.servers(role).get(index).map(|s| s.dialect),
            None => None,
        };
        found.unwrap_or(Dialect { quirks: QuirkSet::NONE, ..Dialect::of(Profile::IpPbx) })
    }

    /// Networks that a peer's media may be in; empty = anywhere.
    pub fn media_networks_of(&self, peer: Option<Peer>) -> Arc<[Network]> {
        let found = match peer {
            Some(Peer::IpGateway(index)) => self.ip_gateways.get(index).map(|g| &g.media_networks),
            Some(Peer::Server(role, index)) => self.servers(role).get(index).map(|s| &s.media_networks),
            None => None,
        };
        found.cloned().unwrap_or_default()
    }

    /// Configured name of a peer.
    pub fn peer_name(&self, peer: Peer) -> &str {
        match peer {
            Peer::IpGateway(index) => self.ip_gateways.get(index).map_or("", |g| &g.name),
            Peer::Server(role, index) => self.servers(role).get(index).map_or("", |s| &s.name),
        }
    }

    /// The peer with this configured name.
    pub fn peer_called(&self, name: &str) -> Option<Peer> {
        let gateway = self.ip_gateways.iter().position(|g| g.name.eq_ignore_ascii_case(name));
        gateway.map(Peer::IpGateway).or_else(|| self.server_by_name(name))
    }

    /// Whether a host name belongs to that peer: the FQDN of a gateway, its pool's members, a server's name.
    pub fn has_name(&self, peer: Peer, host: &str) -> bool {
        match peer {
            Peer::IpGateway(index) => {
                let gateway = self.ip_gateways.get(index);
                gateway.is_some_and(|g| self.gateway_names(g).any(|name| name.eq_ignore_ascii_case(host)))
            }
            Peer::Server(..) => self.peer_name(peer).eq_ignore_ascii_case(host),
        }
    }

    /// Configured addresses of a peer; empty = DNS.
    pub fn addresses_of(&self, peer: Peer) -> Vec<IpAddr> {
        let Peer::IpGateway(index) = peer else {
            let Peer::Server(role, index) = peer else { return Vec::new() };
            return self.servers(role).get(index).map_or_else(Vec::new, |server| server.addresses.clone());
        };
        let Some(gateway) = self.ip_gateways.get(index) else { return Vec::new() };
        match &gateway.address {
            PeerAddress::Ip(address) => vec![*address],
            PeerAddress::Fqdn(_) if !gateway.addresses.is_empty() => gateway.addresses.clone(),
            PeerAddress::Fqdn(_) => self.pool_of(index).map_or_else(Vec::new, |pool| pool.address.clone()),
        }
    }

    fn gateway_names<'a>(&'a self, gateway: &'a IpGateway) -> impl Iterator<Item = &'a str> {
        let own = match &gateway.address {
            PeerAddress::Fqdn(name) => Some(name.as_str()),
            PeerAddress::Ip(_) => None,
        };
        let members = gateway.pool.and_then(|p| self.pools.get(p)).map_or(&[][..], |p| &p.members);
        own.into_iter().chain(members.iter().map(String::as_str))
    }

    fn gateway_has_address(&self, gateway: &IpGateway, address: IpAddr) -> bool {
        let pool = gateway.pool.and_then(|p| self.pools.get(p));
        matches!(gateway.address, PeerAddress::Ip(own) if own == address)
            || gateway.addresses.contains(&address)
            || pool.is_some_and(|p| p.address.contains(&address))
    }

    fn server_where(&self, wanted: impl Fn(&Server) -> bool) -> Option<Peer> {
        let find = |role| self.servers(role).iter().position(&wanted).map(|i| Peer::Server(role, i));
        ServerRole::ALL.into_iter().find_map(find)
    }
}
