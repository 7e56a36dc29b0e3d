//! The processes that are measured: the gateway, Kamailio as stateful proxy, or nobody. Owns their configuration and their end.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::pki::Pki;

use super::cost;

/// Name of the measured process, for certificates and messages.
pub const FQDN: &str = "umbra.contoso.test";
/// Name of the caller.
pub const POOL: &str = "pool01.contoso.test";
/// Name of the server.
pub const SERVER: &str = "mbx01.contoso.test";
/// Where the server listens.
pub const SERVER_PORT: u16 = 5063;

/// Addresses of one run, in a network of its own.
#[derive(Copy, Clone, Debug)]
pub struct Net(pub u8, pub u8);

impl Net {
    /// Address of that number.
    pub fn host(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.0, self.1, number)
    }

    /// Where calls come from.
    pub fn caller(self) -> IpAddr {
        self.host(10).into()
    }

    /// Where the subject listens.
    pub fn subject(self) -> SocketAddr {
        SocketAddr::new(self.host(20).into(), 5061)
    }

    /// Where the server listens.
    pub fn server(self) -> SocketAddr {
        SocketAddr::new(self.host(30).into(), SERVER_PORT)
    }
}

/// Who stands in between.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The gateway.
    Umbra,
    /// The gateway with its second TLS backend.
    UmbraOpenSsl,
    /// Kamailio as a stateful proxy.
    Kamailio,
}

impl Kind {
    /// Its word in every table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Umbra => "umbra",
            Self::UmbraOpenSsl => "umbra-openssl",
            Self::Kamailio => "kamailio",
        }
    }
}

/// The gateway's binary, and how many connections it must take; `None`: its own limits.
#[derive(Copy, Clone, Debug)]
pub struct Binary<'a> {
    /// Where it lies.
    pub umbra: &'a Path,
    /// Connections.
    pub room: Option<u32>,
}

/// A running subject; it ends with this value.
pub struct Subject {
    child: Child,
}

impl Subject {
    /// Starts and waits for the port.
    pub fn start(kind: Kind, net: Net, pki: &Pki, folder: &Path, binary: Binary<'_>) -> Result<Self, String> {
        let log = fs::File::create(folder.join(format!("{}.log", kind.name()))).map_err(|e| e.to_string())?;
        let mut command = match kind {
            Kind::Umbra | Kind::UmbraOpenSsl => {
                let file = folder.join("umbra.toml");
                fs::write(&file, umbra_config(kind, net, pki, binary.room)).map_err(|e| e.to_string())?;
                let mut command = Command::new(binary.umbra);
                command.args(["run", "-c"]).arg(file);
                command
            }
            Kind::Kamailio => {
                fs::write(folder.join("tls.cfg"), tls_config(pki)).map_err(|e| e.to_string())?;
                let file = folder.join("kamailio.cfg");
                fs::write(&file, kamailio_config(net, folder)).map_err(|e| e.to_string())?;
                let mut command = Command::new("kamailio");
                command.args(["-DD", "-E", "-m", "512", "-f"]).arg(file).arg("-w").arg(folder);
                command
            }
        };
        command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(|e| format!("{}: {e}", kind.name()))?;
        let mut subject = Self { child };
        subject.wait_ready(net, kind, folder)?;
        Ok(subject)
    }

    /// The process and its children.
    pub fn pids(&self) -> Vec<u32> {
        cost::tree(self.child.id())
    }

    fn wait_ready(&mut self, net: Net, kind: Kind, folder: &Path) -> Result<(), String> {
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                break;
            }
            if std::net::TcpStream::connect(net.subject()).is_ok() {
                std::thread::sleep(Duration::from_millis(300));
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let log = fs::read_to_string(folder.join(format!("{}.log", kind.name()))).unwrap_or_default();
        Err(format!("{} does not listen on {}:\n{log}", kind.name(), net.subject()))
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // A polite end first: Kamailio ends its children itself.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        for _ in 0..50 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn umbra_config(kind: Kind, net: Net, pki: &Pki, room: Option<u32>) -> String {
    let keys = ["connections_max", "connections_of_address_max", "handshakes_max"];
    let limits: String = room.iter().flat_map(|room| keys.map(|key| format!("{key} = {room}\n"))).collect();
    let backend = if kind == Kind::UmbraOpenSsl { "openssl" } else { "rustls" };
    let identity = pki.identity_files(FQDN).unwrap();
    format!(
        r#"[gateway]
fqdn = "{FQDN}"
sip_domain = "contoso.test"
max_calls_allowed = 100000
[listen]
startup_mode = "TLS"
addresses = ["{own}"]
advertised = "{own}"
{limits}[tls]
certificate = "{certificate}"
private_key = "{key}"
trusted_roots = ["{root}"]
backend = "{backend}"
[media]
mode = "unanchored"
[observe]
log = {{ level = "warn" }}
[admin]
http = ""
[[pool]]
name = "pool01"
fqdn = "{POOL}"
address = ["{caller}"]
encryption = "SupportEncryption"
[[dial_plan]]
name = "DP"
uri_type = "SipName"
voip_security = "SIPSecured"
phone_context = "DP.contoso.test"
[[ip_gateway]]
name = "pool01"
address = "{POOL}"
port = 5061
[[hunt_group]]
name = "pool01-hunt"
ip_gateway = "pool01"
dial_plan = "DP"
pilot_identifier = "88895"
[[mailbox_server]]
name = "{SERVER}"
address = ["{server}"]
service_ports = {{ tcp = 5062, tls = {SERVER_PORT} }}
max_calls_allowed = 100000
"#,
        own = net.host(20),
        caller = net.host(10),
        server = net.host(30),
        certificate = identity.certificate.display(),
        key = identity.key.display(),
        root = pki.root_file().display(),
    )
}

fn tls_config(pki: &Pki) -> String {
    let identity = pki.identity_files(FQDN).unwrap();
    let (certificate, key) = (identity.certificate.display(), identity.key.display());
    let root = pki.root_file();
    let root = root.display();
    let block = format!(
        "method = TLSv1.2+\nverify_certificate = yes\nrequire_certificate = yes\nprivate_key = {key}\ncertificate = {certificate}\nca_list = {root}\n"
    );
    format!("[server:default]\n{block}\n[client:default]\n{block}")
}

fn kamailio_config(net: Net, folder: &Path) -> String {
    let (own, server) = (net.host(20), net.host(30));
    let tls = folder.join("tls.cfg");
    format!(
        r#"#!KAMAILIO
debug=0
log_stderror=yes
fork=yes
children=1
tcp_children=2
enable_tls=yes
tcp_connection_lifetime=3600
tcp_max_connections=4096
tls_max_connections=4096
tcp_accept_no_cl=no
listen=tls:{own}:5061
loadmodule "tls.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "siputils.so"
loadmodule "textops.so"
modparam("tls", "config", "{tls}")
request_route {{
    if (!mf_process_maxfwd_header("70")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK")) {{ if (t_check_trans()) {{ t_relay(); }} exit; }}
        sl_send_reply("404", "Not here");
        exit;
    }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) {{ t_relay(); }} exit; }}
    t_check_trans();
    if (is_method("INVITE")) {{ record_route(); }}
    $du = "sip:{server}:{SERVER_PORT};transport=tls";
    if (!t_relay()) {{ sl_reply_error(); }}
}}
"#,
        tls = tls.display(),
    )
}
