//! The demo's `umbra.toml` and `lab.toml`, as text: what a person would write for this site. Owns the site's names; the real
//! compilers read both back.

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
/// Number of Outlook Voice Access, and the user part of its contact object.
const ACCESS: (&str, &str) = ("+14255550100", "ova");
/// The auto attendant, its number, and the user part of its contact object.
pub(super) const ATTENDANT: (&str, &str, &str) = ("AA-Main", "+14255550199", "aa-main");
/// Mailboxes: alias, extension, dial plan, PIN of Outlook Voice Access.
const MAILBOXES: [(&str, &str, &str, Option<&str>); 3] = [
    ("ken", "1001", "DP-Secured", Some(KEN_PIN)),
    ("lee", "1002", "DP-SipSecured", None),
    ("mia", "1003", "DP-Pbx", None),
];
/// Ken's PIN: lab data, in `lab.toml` and in no output.
pub(super) const KEN_PIN: &str = "135790";
/// Dial plans: name, URI type, security.
pub(super) const PLANS: [(&str, &str, &str); 3] = [
    ("DP-Secured", "SipName", "Secured"),
    ("DP-SipSecured", "SipName", "SIPSecured"),
    ("DP-Pbx", "TelExtn", "Unsecured"),
];

/// Longest recording: a demo that hangs must not fill the disk.
const RECORDING_MAX_S: u64 = 20;
/// TOML's whole numbers end there.
const SEED_MAX: u64 = 1 << 63;

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
    for (name, uri_type, security) in PLANS {
        let access = if name == PLANS[0].0 {
            format!("access_telephone_numbers = [\"{}\"]\n", ACCESS.0)
        } else {
            String::new()
        };
        text.push_str(&format!(
            "\n[[dial_plan]]\nname = \"{name}\"\nuri_type = \"{uri_type}\"\nvoip_security = \"{security}\"\n\
             phone_context = \"{name}.{DOMAIN}\"\n{access}"
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
    text.push_str(&users());
    text
}

/// Mailboxes, attendant and contact objects, as the gateway is told of them.
fn users() -> String {
    let mailbox = |(alias, extension, plan, _): (&str, &str, &str, Option<&str>)| {
        format!(
            "\n[[mailbox]]\nalias = \"{alias}\"\nsip = \"{alias}@{DOMAIN}\"\nextension = \"{extension}\"\ndial_plan = \"{plan}\"\n"
        )
    };
    let mut text: String = MAILBOXES.into_iter().map(mailbox).collect();
    let (name, number, user) = ATTENDANT;
    text.push_str(&format!(
        "\n[[auto_attendant]]\nname = \"{name}\"\ndial_plan = \"{plan}\"\npilot_identifiers = [\"{number}\"]\n\
         {ATTENDANT_MENU}",
        plan = PLANS[0].0
    ));
    for (user, number, is_attendant) in [(ACCESS.1, ACCESS.0, false), (user, number, true)] {
        text.push_str(&format!(
            "\n[[contact]]\nsip_address = \"sip:{user}@{DOMAIN}\"\ndisplay_number = \"{number}\"\nauto_attendant = {is_attendant}\n"
        ));
    }
    text
}

/// What both files say of the attendant.
const ATTENDANT_MENU: &str = "operator_extension = \"1001\"\nbusiness_hours_keys = { \"1\" = \"transfer:1001\", \"2\" = \"voicemail:1001\" }\n";

/// The whole lab file.
pub(super) fn lab_text(net: Net, seed: u64) -> String {
    let (gateway, router) = (net.host(Net::GATEWAY), net.host(Net::ROUTER));
    let mut text = format!(
        "# Written by `umbra demo`: its lab. `umbra run -c umbra.toml --lab lab.toml` runs gateway and lab once more,\n\
         # `umbra lab up -c lab.toml` the lab alone, `umbra lab call -c lab.toml` calls. PINs are lab data.\n\n\
         [lab]\nsip_domain = \"{DOMAIN}\"\npki = \"pki\"\nvoicemail = \"voicemail\"\nseed = {seed}\n\
         control = \"{router}:9066\"\n\n\
         [um_ip_gateway]\nname = \"{GATEWAY}\"\naddress = \"{gateway}\"\nport = 5061\ntransport = \"TLS\"\n\
         message_waiting_indicator_allowed = true\n\n\
         [[call_router]]\nname = \"{ROUTER}\"\naddress = \"{router}\"\n",
        seed = seed % SEED_MAX,
    );
    for (index, name) in MAILBOX_SERVERS.iter().enumerate() {
        let address = mailbox_address(net, index);
        text.push_str(&format!(
            "\n[[mailbox_server]]\nname = \"{name}\"\naddress = \"{address}\"\nservice_ports = {{ tcp = 5062, tls = 5063 }}\n\
             workers = [{{ tcp = 5065, tls = 5066 }}, {{ tcp = 5067, tls = 5068 }}]\nmax_calls_allowed = 100\n"
        ));
    }
    text.push_str(&lab_objects());
    for (index, pool) in POOLS.iter().enumerate() {
        let (name, address) = (pool.fqdn(), pool_address(net, index));
        let offer = if pool.encryption == "SupportEncryption" { "LyncOptional" } else { "Lync2015" };
        text.push_str(&format!(
            "\n[[caller]]\nname = \"{name}\"\naddress = \"{address}\"\ntransport = \"TLS\"\noffer = \"{offer}\"\n"
        ));
    }
    let pbx = net.host(Net::PBX);
    text.push_str(&format!(
        "\n[[caller]]\nname = \"pbx.{DOMAIN}\"\naddress = \"{pbx}\"\ntransport = \"TCP\"\noffer = \"Pbx\"\n"
    ));
    text
}

/// Dial plans, mailboxes and the attendant, as UM knows them.
fn lab_objects() -> String {
    let mut text = String::new();
    for (name, _, security) in PLANS {
        let access = if name == PLANS[0].0 {
            format!("access_telephone_numbers = [\"{}\", \"{}\"]\n", ACCESS.0, ACCESS.1)
        } else {
            String::new()
        };
        text.push_str(&format!(
            "\n[[dial_plan]]\nname = \"{name}\"\nvoip_security = \"{security}\"\nphone_context = \"{name}.{DOMAIN}\"\n\
             max_recording_duration = \"{RECORDING_MAX_S}s\"\n{access}"
        ));
    }
    for (alias, extension, plan, pin) in MAILBOXES {
        let pin = pin.map_or_else(String::new, |pin| format!("pin = \"{pin}\"\n"));
        text.push_str(&format!(
            "\n[[mailbox]]\nalias = \"{alias}\"\nsip = \"{alias}@{DOMAIN}\"\nextension = \"{extension}\"\ndial_plan = \"{plan}\"\n{pin}"
        ));
    }
    let (name, number, _) = ATTENDANT;
    text.push_str(&format!(
        "\n[[auto_attendant]]\nname = \"{name}\"\ndial_plan = \"{plan}\"\npilot_identifiers = [\"{number}\"]\n{ATTENDANT_MENU}",
        plan = PLANS[0].0
    ));
    text
}

fn head(net: Net) -> String {
    let gateway = net.host(Net::GATEWAY);
    let (first, last) = (RTP.start(), RTP.end());
    format!(
        "# Written by `umbra demo`: a whole site on one loopback network. Its UM servers and callers exist only while\n\
         # the demo runs, or as `umbra run --lab lab.toml` brings them back; every command reads this file as any other.\n\n\
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
