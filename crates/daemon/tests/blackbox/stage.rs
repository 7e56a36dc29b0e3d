//! A gateway between two UM IP gateways and two Mailbox servers that tests play by hand, over TCP or mutual TLS. Owns the
//! configuration and who is at home where; refuses to know what a test is about.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use lab::pki::Pki;

use crate::harness::{Gateway, Net, folder, http_get, umbra};
use crate::malformed::socket_from;
use crate::wire::{Carrier, Dialog, FQDN, Wire, tag, value};

pub const ADMIN: u16 = 9065;
/// Two UM IP gateways and two Mailbox servers of the same plan, with the same rights.
pub const GATEWAYS: [&str; 2] = ["pbx01.contoso.test", "pbx02.contoso.test"];
pub const SERVERS: [&str; 2] = ["mbx01.contoso.test", "mbx02.contoso.test"];

/// A gateway between two of each. The first server gets the calls.
pub struct Stage {
    pub umbra: Gateway,
    pub net: Net,
    pub carrier: Carrier,
    pub pki: Pki,
    pub um: TcpListener,
}

impl Stage {
    /// With the configuration as this changes it.
    pub fn start(carrier: Carrier, change: impl FnOnce(String) -> String) -> Self {
        Self::start_by(carrier, change, |_| umbra())
    }

    /// The same by this command.
    pub fn start_by(
        carrier: Carrier,
        change: impl FnOnce(String) -> String,
        command: impl FnOnce(&Path) -> Command,
    ) -> Self {
        let (net, folder) = (Net::new(), folder());
        let pki = Pki::open(&folder.path().join("pki")).unwrap();
        let port = if carrier == Carrier::Tls { 5063 } else { 5062 };
        let um = TcpListener::bind((net.host(30), port)).unwrap();
        let config = change(config(net, carrier, &pki));
        let umbra = Gateway::start_by(folder, net.host(20), 5060, &config, command);
        Self { umbra, net, carrier, pki, um }
    }

    /// Where that gateway or server is at home. Over TLS it is its certificate that tells who it is, so all are one host.
    pub fn home(&self, name: &str) -> Ipv4Addr {
        home(self.net, self.carrier, name)
    }

    /// A connection that this gateway or server opens.
    pub fn peer(&self, name: &str) -> Wire {
        let own = self.home(name);
        match self.carrier {
            Carrier::Tcp => Wire::new(socket_from(own, (self.umbra.address, 5060).into()), own),
            Carrier::Tls => {
                let stream = socket_from(own, (self.umbra.address, 5061).into());
                Wire::sealed(stream, own, &self.pki, name)
            }
        }
    }

    /// The connection that the gateway opens to the first server.
    pub fn called(&self) -> Wire {
        self.taken(self.um.accept().unwrap().0)
    }

    /// One that the first server has accepted.
    pub fn taken(&self, stream: TcpStream) -> Wire {
        let own = self.net.host(30);
        match self.carrier {
            Carrier::Tcp => Wire::new(stream, own),
            Carrier::Tls => Wire::accepted(stream, own, &self.pki, SERVERS[0]),
        }
    }

    /// A call that stands, over the connection to the server, which the first call makes: both ends of it.
    pub fn call(
        &self,
        phone: &mut Wire,
        um: &mut Option<Wire>,
        call_id: &str,
        body: &str,
    ) -> (Dialog, Dialog) {
        let mut dialog = Dialog::begun(call_id);
        phone.asks_with(&dialog, "INVITE", 1, "", body);
        let server = um.get_or_insert_with(|| self.called());
        let invite = server.serves("INVITE");
        dialog.theirs = tag(&value(&phone.hears("SIP/2.0 200 "), "To"));
        phone.asks(&dialog, "ACK", 1, "");
        server.hears("ACK ");
        (dialog, Dialog::served(&invite))
    }

    pub fn metrics(&self) -> String {
        http_get(self.umbra.address, ADMIN, "/metrics")
    }

    /// Input that was dropped, by its kind.
    pub fn dropped(&self, kind: &str) -> f64 {
        let name = format!("umbra_dropped_messages_total{{kind=\"{kind}\"}} ");
        let metrics = self.metrics();
        metrics.lines().find_map(|line| line.strip_prefix(&name)).map_or(0.0, |count| count.parse().unwrap())
    }
}

pub fn home(net: Net, carrier: Carrier, name: &str) -> Ipv4Addr {
    let is_second = carrier == Carrier::Tcp && (name == GATEWAYS[1] || name == SERVERS[1]);
    net.host(if GATEWAYS.contains(&name) { 10 } else { 30 } + u8::from(is_second))
}

pub fn config(net: Net, carrier: Carrier, pki: &Pki) -> String {
    let own = net.host(20);
    let files = pki.identity_files(FQDN).unwrap();
    let (security, port) = match carrier {
        Carrier::Tcp => ("Unsecured", 5060),
        Carrier::Tls => ("SIPSecured", 5061),
    };
    let mut text = format!(
        "[gateway]\nfqdn = \"{FQDN}\"\nsip_domain = \"contoso.test\"\nmax_calls_allowed = 40\n\n\
         [listen]\nstartup_mode = \"Dual\"\naddresses = [\"{own}\"]\nadvertised = \"{own}\"\n\n\
         [tls]\ncertificate = \"{}\"\nprivate_key = \"{}\"\ntrusted_roots = [\"{}\"]\n\n\
         [media]\nrtp_ports = \"20000-31999\"\n\n[routing]\nselection = \"priority\"\n\n\
         [admin]\nhttp = \"{own}:{ADMIN}\"\n\n[observe]\nlog = {{ level = \"trace\", format = \"pretty\" }}\n\n\
         [[dial_plan]]\nname = \"DP\"\nuri_type = \"TelExtn\"\nvoip_security = \"{security}\"\nphone_context = \"DP.contoso.test\"\n",
        files.certificate.display(),
        files.key.display(),
        pki.root_file().display(),
    );
    text.push_str("\n[[mailbox]]\nalias = \"ken\"\nextension = \"101\"\ndial_plan = \"DP\"\n");
    for name in GATEWAYS {
        let address = match carrier {
            Carrier::Tcp => home(net, carrier, name).to_string(),
            Carrier::Tls => name.to_owned(),
        };
        text.push_str(&format!(
            "\n[[ip_gateway]]\nname = \"{name}\"\naddress = \"{address}\"\nport = {port}\n\n\
             [[hunt_group]]\nname = \"hunt-{name}\"\nip_gateway = \"{name}\"\ndial_plan = \"DP\"\npilot_identifier = \"88895\"\n"
        ));
    }
    for name in SERVERS {
        text.push_str(&format!(
            "\n[[mailbox_server]]\nname = \"{name}\"\naddress = [\"{}\"]\n",
            home(net, carrier, name)
        ));
    }
    text
}
