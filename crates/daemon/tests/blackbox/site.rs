//! A whole lab site around one gateway process: lab PKI, Call Router, two Mailbox servers, and pools of every encryption
//! level on plans of every security, all in the names of the sample messages (`contoso.com`).

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lab::frontend::{Caller, CallerConfig, Target, TlsTarget};
use lab::pki::Pki;
use lab::shell::{UmIpGateway, UmTransport};
use lab::um::{
    AnswerRules, AttendantConfig, CallRouterConfig, Fault, KeyMapping, KeyTarget, LabFact, MailboxConfig,
    MailboxServerConfig, Manner, Pin, PlanSecurity, Ports,
};
use lab::{LabUm, LabUmConfig};

use crate::harness::{Gateway, Net, folder, http_get};

/// The gateway's name.
pub const FQDN: &str = "umbra.contoso.com";
/// Ken's PIN.
pub const PIN: &str = "135790";
/// Host number of the gateway in its network.
pub const GATEWAY_HOST: u8 = 20;
/// Host number of the IP-PBX known by address.
pub const PBX_HOST: u8 = 40;

/// Pools by (name, encryption level, dial plan): one UM IP gateway and one hunt group each.
pub const POOLS: &[(&str, &str, &str)] = &[
    ("pool01", "RequireEncryption", "DP-Sip"),
    ("pool02", "RequireEncryption", "DP-SipSecured"),
    ("pool03", "SupportEncryption", "DP-Sip"),
    ("pool04", "SupportEncryption", "DP-SipSecured"),
    ("pool05", "DoNotSupportEncryption", "DP-Sip"),
    ("pool06", "DoNotSupportEncryption", "DP-SipSecured"),
];

/// Whose pool is known: of six gateways that serve his server, those of his dial plan.
pub const KEN: &str = "\n[[mailbox]]\nalias = \"ken\"\nsip = \"ken@contoso.com\"\ndial_plan = \"DP-Sip\"\n";

/// Callers so far: two of one seed would use the same Call-IDs.
static CALLERS: AtomicU64 = AtomicU64::new(0);

/// The running site. The gateway goes first, then the lab.
pub struct Site {
    pub gateway: Gateway,
    pub net: Net,
    pub pki: Arc<Pki>,
    lab: Option<LabUm>,
    runtime: tokio::runtime::Runtime,
}

impl Site {
    /// Starts the lab and the gateway.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// With more lines in `[listen]`.
    pub fn start_with(listen: &str) -> Self {
        Self::start_as(|config| config.replace("[listen]\n", &format!("[listen]\n{listen}")))
    }

    /// With another configuration.
    pub fn start_as(change: impl FnOnce(String) -> String) -> Self {
        Self::start_changed(change, |lab, _| lab)
    }

    /// Whose Mailbox servers tell the gateway what waits in mailboxes.
    pub fn start_telling() -> Self {
        let told = |lab, net: Net| LabUmConfig { message_waiting: Some(um_ip_gateway(net)), ..lab };
        Self::start_changed(|config| config + KEN, told)
    }

    /// With another configuration and another lab.
    pub fn start_changed(
        change: impl FnOnce(String) -> String,
        change_lab: impl FnOnce(LabUmConfig, Net) -> LabUmConfig,
    ) -> Self {
        let (net, folder) = (Net::new(), folder());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let pki = Arc::new(Pki::open(&folder.path().join("pki")).unwrap());
        let voicemail = folder.path().join("voicemail");
        let lab = runtime.block_on(LabUm::start(change_lab(um(net, &pki, voicemail), net))).unwrap();
        let config = change(config(net, &pki));
        let gateway = Gateway::start(folder, net.host(GATEWAY_HOST), 5061, &config);
        Self { gateway, net, pki, lab: Some(lab), runtime }
    }

    /// Runs a future on the site's runtime.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// The lab.
    pub fn lab(&self) -> &LabUm {
        self.lab.as_ref().unwrap()
    }

    /// Something is wrong with a server of the lab from now on, or no longer.
    pub fn fault(&mut self, server: &str, fault: Fault) {
        let lab = self.lab.as_mut().unwrap();
        self.runtime.block_on(lab.set_fault(server, fault)).unwrap();
    }

    /// What happens in the lab from now on.
    pub fn facts(&self) -> tokio::sync::broadcast::Receiver<LabFact> {
        self.lab.as_ref().unwrap().facts()
    }

    /// Address of a pool's Front End.
    pub fn pool_address(&self, name: &str) -> Ipv4Addr {
        self.net.host(pool_host(name))
    }

    /// A Front End of this pool, connected over mutual TLS.
    pub fn pool(&self, name: &str) -> Caller {
        let fqdn = format!("{name}.contoso.com");
        let tls = TlsTarget {
            identity: Some(self.pki.identity(&fqdn).unwrap()),
            roots: self.pki.roots(),
            expected_name: FQDN.into(),
        };
        self.connect(&fqdn, self.pool_address(name), 5061, Some(tls))
    }

    /// The IP-PBX, connected over plain TCP.
    pub fn pbx(&self) -> Caller {
        self.connect("pbx.contoso.com", self.net.host(PBX_HOST), 5060, None)
    }

    /// A UM server, connected over mutual TLS from the host with this number.
    pub fn server(&self, fqdn: &str, host: u8) -> Caller {
        let tls = TlsTarget {
            identity: Some(self.pki.identity(fqdn).unwrap()),
            roots: self.pki.roots(),
            expected_name: FQDN.into(),
        };
        self.connect(fqdn, self.net.host(host), 5061, Some(tls))
    }

    /// The gateway's counters.
    pub fn metrics(&self) -> String {
        http_get(self.gateway.address, 9065, "/metrics")
    }

    fn connect(&self, fqdn: &str, from: Ipv4Addr, port: u16, tls: Option<TlsTarget>) -> Caller {
        let config = CallerConfig {
            fqdn: fqdn.into(),
            sip_domain: "contoso.com".into(),
            address: from.into(),
            seed: (u64::from(u32::from(from)) << 16) ^ CALLERS.fetch_add(1, Ordering::Relaxed),
        };
        let target = Target { address: (self.gateway.address, port).into(), tls };
        self.block_on(Caller::connect(config, target)).unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(lab) = self.lab.take() {
            let _ = self
                .runtime
                .block_on(async { tokio::time::timeout(Duration::from_secs(5), lab.stop()).await });
        }
    }
}

/// The gateway as the Mailbox servers reach it.
pub fn um_ip_gateway(net: Net) -> UmIpGateway {
    let address = (net.host(GATEWAY_HOST), 5061).into();
    UmIpGateway { name: FQDN.into(), address, transport: UmTransport::Tls }
}

fn pool_host(name: &str) -> u8 {
    10 + POOLS.iter().position(|(pool, ..)| *pool == name).unwrap() as u8
}

fn um(net: Net, pki: &Arc<Pki>, voicemail: PathBuf) -> LabUmConfig {
    let workers =
        vec![Ports { tcp: Some(5065), tls: Some(5066) }, Ports { tcp: Some(5067), tls: Some(5068) }];
    let server = |number: u8| MailboxServerConfig {
        name: format!("mbx0{number}.contoso.com"),
        address: net.host(30 + number).into(),
        service: Ports { tcp: Some(5062), tls: Some(5063) },
        workers: workers.clone(),
        max_calls_allowed: 400,
        security: PlanSecurity::AsOffered,
        fault: Fault::None,
        manner: Manner::default(),
        worker_fault: Fault::None,
    };
    LabUmConfig {
        call_routers: vec![CallRouterConfig {
            name: "cas01.contoso.com".into(),
            address: net.host(30).into(),
            ports: Ports { tcp: Some(5060), tls: Some(5061) },
            manner: Manner::default(),
            fault: Fault::None,
        }],
        mailbox_servers: vec![server(1), server(2)],
        mailboxes: vec![MailboxConfig {
            alias: "ken".into(),
            sip: Some("sip:ken@contoso.com".into()),
            extension: Some("6095".into()),
            pin: Pin::new(PIN),
            ..MailboxConfig::default()
        }],
        attendants: vec![AttendantConfig {
            name: "aa-main".into(),
            business_keys: vec![KeyMapping { key: '1', to: KeyTarget::Transfer("6095".into()) }],
            ..AttendantConfig::default()
        }],
        answer: AnswerRules { recording_idle_timeout: Duration::from_secs(3), ..AnswerRules::default() },
        pki: Some(pki.clone()),
        voicemail,
        seed: 7,
        ..LabUmConfig::default()
    }
}

/// The gateway's configuration for this site.
fn config(net: Net, pki: &Pki) -> String {
    let identity = pki.identity_files(FQDN).unwrap();
    let gateway = net.host(GATEWAY_HOST);
    let mut text = format!(
        r#"
[gateway]
fqdn = "{FQDN}"
sip_domain = "contoso.com"
max_calls_allowed = 200

[listen]
startup_mode = "Dual"
addresses = ["{gateway}"]
advertised = "{gateway}"

[tls]
certificate = "{cert}"
private_key = "{key}"
trusted_roots = ["{root}"]

[media]
rtp_ports = "20000-24999"

[admin]
http = "{gateway}:9065"
"#,
        cert = identity.certificate.display(),
        key = identity.key.display(),
        root = pki.root_file().display(),
    );
    text.push_str(&plans_and_servers(net));
    for (name, level, plan) in POOLS {
        text.push_str(&pool(name, level, plan, net.host(pool_host(name))));
    }
    text
}

fn plans_and_servers(net: Net) -> String {
    let mut text = String::new();
    for (plan, uri_type, security) in [
        ("DP-Sip", "SipName", "Secured"),
        ("DP-SipSecured", "SipName", "SIPSecured"),
        ("DP-Pbx", "TelExtn", "Unsecured"),
    ] {
        text.push_str(&format!(
            "\n[[dial_plan]]\nname = \"{plan}\"\nuri_type = \"{uri_type}\"\nvoip_security = \"{security}\"\n\
             phone_context = \"{plan}.contoso.com\"\n"
        ));
    }
    let plans = r#"dial_plans = ["DP-Sip", "DP-SipSecured", "DP-Pbx"]"#;
    text.push_str(&format!(
        "\n[[call_router]]\nname = \"cas01.contoso.com\"\naddress = [\"{}\"]\n{plans}\n",
        net.host(30)
    ));
    for number in 1..=2 {
        let address = net.host(30 + number);
        text.push_str(&format!(
            "\n[[mailbox_server]]\nname = \"mbx0{number}.contoso.com\"\naddress = [\"{address}\"]\nmax_calls_allowed = 200\n{plans}\n"
        ));
    }
    let pbx = net.host(PBX_HOST);
    text.push_str(&format!(
        "\n[[ip_gateway]]\nname = \"pbx\"\naddress = \"{pbx}\"\nport = 5060\noutcalls_allowed = false\n\
         \n[[hunt_group]]\nname = \"pbx-hunt\"\nip_gateway = \"pbx\"\ndial_plan = \"DP-Pbx\"\npilot_identifier = \"88895\"\n"
    ));
    text
}

fn pool(name: &str, level: &str, plan: &str, address: Ipv4Addr) -> String {
    let fqdn = format!("{name}.contoso.com");
    format!(
        "\n[[pool]]\nname = \"{name}\"\nfqdn = \"{fqdn}\"\naddress = [\"{address}\"]\nencryption = \"{level}\"\n\
         \n[[ip_gateway]]\nname = \"{name}\"\naddress = \"{fqdn}\"\nport = 5061\noutcalls_allowed = {out}\n\
         \n[[hunt_group]]\nname = \"{name}-hunt\"\nip_gateway = \"{name}\"\ndial_plan = \"{plan}\"\n",
        out = name == "pool01",
    )
}
