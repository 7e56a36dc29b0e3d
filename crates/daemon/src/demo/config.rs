//! The demo's `umbra.toml`, as text: what a person would write for this site. Owns the site's names; the real
//! configuration compiler reads it back.

use std::net::IpAddr;

use super::place::{Net, RTP};

/// SIP domain of the site.
pub(super) const DOMAIN: &str = "contoso.test";
/// The gateway.
pub(super) const GATEWAY: &str = "umbra.contoso.test";
/// The Call Router.
pub(super) const ROUTER: &str = "cas01.contoso.test";
/// The Mailbox servers, in the order of their addresses.
pub(super) const MAILBOX_SERVERS: [&str; 2] = ["mbx01.contoso.test", "mbx02.contoso.test"];
/// Number of the plan that the IP-PBX calls.
pub(super) const PBX_PILOT: &str = "88895";

/// A Lync pool: name, encryption level, dial plan of its hunt group.
pub(super) struct PoolFacts {
    pub(super) name: &'static str,
    pub(super) encryption: &'static str,
    pub(super) plan: &'static str,
}

/// The pools, in the order of their addresses.
pub(super) const POOLS: [PoolFacts; 3] = [
    PoolFacts { name: "pool01", encryption: "RequireEncryption", plan: "DP-Secured" },
    PoolFacts { name: "pool02", encryption: "SupportEncryption", plan: "DP-SipSecured" },
    PoolFacts { name: "pool03", encryption: "RequireEncryption", plan: "DP-SipSecured" },
];

impl PoolFacts {
    /// Its FQDN.
    pub(super) fn fqdn(&self) -> String {
        format!("{}.{DOMAIN}", self.name)
    }
}

/// Address of the pool with this index.
pub(super) fn pool_address(net: Net, index: usize) -> IpAddr {
    net.host(Net::POOLS + u8::try_from(index).unwrap_or_default())
}

/// Address of the Mailbox server with this index.
pub(super) fn mailbox_address(net: Net, index: usize) -> IpAddr {
    net.host(Net::MAILBOX + 1 + u8::try_from(index).unwrap_or_default())
}

/// The whole file.
pub(super) fn text(net: Net) -> String {
    let mut text = head(net);
    for (name, uri_type, security) in [
        ("DP-Secured", "SipName", "Secured"),
        ("DP-SipSecured", "SipName", "SIPSecured"),
        ("DP-Pbx", "TelExtn", "Unsecured"),
    ] {
        text.push_str(&format!(
            "\n[[dial_plan]]\nname = \"{name}\"\nuri_type = \"{uri_type}\"\nvoip_security = \"{security}\"\n\
             phone_context = \"{name}.{DOMAIN}\"\n"
        ));
    }
    let plans = "dial_plans = [\"DP-Secured\", \"DP-SipSecured\", \"DP-Pbx\"]";
    let router = net.host(Net::ROUTER);
    text.push_str(&format!("\n[[call_router]]\nname = \"{ROUTER}\"\naddress = [\"{router}\"]\n{plans}\n"));
    for (index, name) in MAILBOX_SERVERS.iter().enumerate() {
        let address = mailbox_address(net, index);
        text.push_str(&format!(
            "\n[[mailbox_server]]\nname = \"{name}\"\naddress = [\"{address}\"]\n\
             service_ports = {{ tcp = 5062, tls = 5063 }}\nworker_ports = [5065, 5067]\n{plans}\n"
        ));
    }
    POOLS
        .iter()
        .enumerate()
        .for_each(|(index, pool)| text.push_str(&pool_text(pool, pool_address(net, index))));
    text.push_str(&pbx(net));
    text
}

fn head(net: Net) -> String {
    let gateway = net.host(Net::GATEWAY);
    let (first, last) = (RTP.start(), RTP.end());
    format!(
        "# Written by `umbra demo`: a whole site on one loopback network. Its UM servers and callers exist only while\n\
         # the demo runs; `umbra check`, `umbra route explain` and `umbra run` read this file as any other.\n\n\
         [gateway]\nfqdn = \"{GATEWAY}\"\nsip_domain = \"{DOMAIN}\"\nmax_calls_allowed = 30\n\n\
         [listen]\nstartup_mode = \"Dual\"\naddresses = [\"{gateway}\"]\nadvertised = \"{gateway}\"\n\n\
         [tls]\ncertificate = \"pki/{GATEWAY}.pem\"\nprivate_key = \"pki/{GATEWAY}.key\"\n\
         trusted_roots = [\"pki/lab-root.pem\"]\n\n\
         [media]\nrtp_ports = \"{first}-{last}\"\n\n\
         [admin]\nhttp = \"{gateway}:9065\"\n\n\
         [observe]\ncdr = {{ dir = \"cdr\", formats = [\"jsonl\", \"um_csv\"] }}\n"
    )
}

fn pool_text(pool: &PoolFacts, address: IpAddr) -> String {
    let PoolFacts { name, encryption, plan } = pool;
    let fqdn = pool.fqdn();
    // Only one gateway of a dial plan should place calls for UM.
    let first = POOLS.iter().find(|other| other.plan == *plan);
    let outcalls = first.is_some_and(|first| first.name == *name);
    format!(
        "\n[[pool]]\nname = \"{name}\"\nfqdn = \"{fqdn}\"\naddress = [\"{address}\"]\nencryption = \"{encryption}\"\n\
         \n[[ip_gateway]]\nname = \"{name}\"\naddress = \"{fqdn}\"\nport = 5061\noutcalls_allowed = {outcalls}\n\
         \n[[hunt_group]]\nname = \"{name}-default\"\nip_gateway = \"{name}\"\ndial_plan = \"{plan}\"\n"
    )
}

fn pbx(net: Net) -> String {
    let address = net.host(Net::PBX);
    format!(
        "\n[[ip_gateway]]\nname = \"pbx\"\naddress = \"{address}\"\nport = 5060\noutcalls_allowed = true\n\
         \n[[hunt_group]]\nname = \"pbx-voicemail\"\nip_gateway = \"pbx\"\ndial_plan = \"DP-Pbx\"\n\
         pilot_identifier = \"{PBX_PILOT}\"\n"
    )
}
