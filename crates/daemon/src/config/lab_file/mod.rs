//! `lab.toml`: who stands in a lab, compiled as `umbra.toml` is, with every problem at once. Owns the words of that file; refuses to open a
//! socket or to make a certificate. PINs are lab data, and no problem repeats one.

mod checks;
mod faults;
mod manner;
mod objects;
mod servers;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use b2bua::codes;
use lab::LabUmConfig;
use lab::frontend::OfferShape;
use lab::shell::{UmIpGateway, UmTransport};
use lab::um::AnswerRules;

use super::problem::Problems;
use super::reader::{Findings, Reader};
use super::source::{self, Source};
use super::words;
pub use faults::{FAULTS, Part, Planned, fault, unknown};

/// Where `lab up` looks without `-c`.
pub const DEFAULT_FILE: &str = "lab.toml";

/// A lab that passed every check.
#[derive(Clone, Debug)]
pub struct LabFile {
    /// The UM side; its authority is opened by whoever starts it.
    pub um: LabUmConfig,
    /// Folder of the lab's authority.
    pub pki: PathBuf,
    /// Where it is told of faults; `None` = nowhere.
    pub control: Option<SocketAddr>,
    /// The UM IP gateway: who is told of waiting messages, and whom callers call.
    pub gateway: Option<UmIpGateway>,
    /// Stand-ins for those who call.
    pub callers: Vec<CallerSpec>,
    /// SIP domain of its users.
    pub sip_domain: String,
    /// Faults that come by the clock.
    pub faults: Vec<Planned>,
}

/// A pool or IP-PBX that `umbra lab call` plays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerSpec {
    /// Its name: over TLS that of its certificate.
    pub name: String,
    /// Where it calls from and hears media.
    pub address: IpAddr,
    /// Over what.
    pub transport: UmTransport,
    /// What it offers.
    pub offer: OfferShape,
}

/// Words for what a caller offers.
pub const OFFERS: [(&str, OfferShape); 6] = [
    ("Lync2013", OfferShape::Lync2013Multipart),
    ("Lync2015", OfferShape::Lync2015),
    ("LyncOptional", OfferShape::LyncOptional),
    ("LyncNone", OfferShape::LyncNone),
    ("Pbx", OfferShape::PbxTcp),
    ("PbxLate", OfferShape::LateOffer),
];

/// A duration as it is written there: `500ms`, `5s`, `30m`, `1h`.
pub fn duration(text: &str) -> Option<Duration> {
    words::duration(text)
}

/// Loads a lab file. The environment has no say in it.
///
/// # Errors
/// Every problem at once.
pub fn load(file: &Path) -> Result<LabFile, Problems> {
    let text = source::read(file).map_err(|problem| Problems::one(*problem))?;
    compile(file, &text)
}

/// Compiles a text as if it stood in `file`.
///
/// # Errors
/// Every problem at once.
pub fn compile(file: &Path, text: &str) -> Result<LabFile, Problems> {
    let source = Source::merge(file, text, std::iter::empty::<(OsString, OsString)>())?;
    let findings = Findings::new(&source);
    let compiled = read(&Reader::root(source.tree(), &findings), file.parent().unwrap_or(Path::new("")));
    let problems = findings.into_problems();
    if problems.has_errors() { Err(problems) } else { Ok(compiled) }
}

fn read(root: &Reader<'_>, base: &Path) -> LabFile {
    let section = root.table("lab");
    // Read with each server.
    section.accept(&["version"]);
    let sip_domain = section.need_text("sip_domain");
    let mut plans = objects::dial_plans(root, &sip_domain);
    let mut answer = AnswerRules::default();
    manner::timing(root, &mut plans, &mut answer);
    let policies = objects::policies(root, &plans);
    let mailboxes = objects::mailboxes(root, &sip_domain, &plans, &policies, base);
    let attendants = objects::attendants(root, &plans, &mailboxes, base);
    let (gateway, message_waiting) = gateway(&root.table("um_ip_gateway"));
    let trusted = section.list("trusted_peers");
    let um = LabUmConfig {
        call_routers: servers::call_routers(root),
        mailbox_servers: servers::mailbox_servers(root),
        answer,
        smtp: smtp(&root.table("smtp")),
        mailboxes,
        attendants,
        dial_plans: plans,
        voicemail: section.file("voicemail", base).unwrap_or_else(|| base.join("voicemail")),
        message_waiting,
        trusted_peers: trusted
            .unwrap_or_else(|| gateway.iter().map(|gateway| gateway.name.clone()).collect()),
        seed: section.whole("seed", 0..=u64::MAX).unwrap_or_else(rand::random),
        ..LabUmConfig::default()
    };
    let servers = names(&um);
    let compiled = LabFile {
        pki: section.file("pki", base).unwrap_or_else(|| base.join("pki")),
        control: control(&section),
        callers: callers(root),
        faults: faults::plan(root, &servers),
        gateway,
        sip_domain,
        um,
    };
    section.finish();
    root.finish();
    checks::check(&compiled, root);
    compiled
}

/// Names of the servers of a lab, as faults name them.
pub fn names(um: &LabUmConfig) -> Vec<String> {
    let routers = um.call_routers.iter().map(|router| router.name.clone());
    routers.chain(um.mailbox_servers.iter().map(|server| server.name.clone())).collect()
}

fn control(section: &Reader<'_>) -> Option<SocketAddr> {
    let text = section.text("control").filter(|text| !text.is_empty())?;
    let address = text.parse::<SocketAddr>().ok();
    match address {
        None => section.error(codes::CFG_VALUE, "control", format!("`{text}` is no address with a port")),
        Some(address) if !address.ip().is_loopback() => {
            let what = format!("{address} is no loopback address, and nobody is asked who he is");
            section.error(codes::CFG_VALUE, "control", what);
        }
        Some(_) => {}
    }
    address
}

/// The UM IP gateway, and once more if it is to be told of waiting messages.
fn gateway(table: &Reader<'_>) -> (Option<UmIpGateway>, Option<UmIpGateway>) {
    if !table.is_present() {
        return (None, None);
    }
    let transport = transport(table);
    let port = table.port("port").unwrap_or(match transport {
        UmTransport::Tcp => 5060,
        UmTransport::Tls => 5061,
    });
    let gateway = address(table).map(|address| UmIpGateway {
        name: fqdn(table),
        address: (address, port).into(),
        transport,
    });
    let is_told = table.flag("message_waiting_indicator_allowed") != Some(false);
    table.finish();
    (gateway.clone(), gateway.filter(|_| is_told))
}

/// The sink that mail goes to.
fn smtp(table: &Reader<'_>) -> Option<SocketAddr> {
    if !table.is_present() {
        return None;
    }
    let text = table.need_text("server");
    let address: Option<IpAddr> = text.parse().ok();
    if address.is_none() && !text.is_empty() {
        table.error(codes::CFG_VALUE, "server", format!("`{text}` is no IP address"));
    }
    let port = table.port("port").unwrap_or(25);
    table.finish();
    address.map(|address| (address, port).into())
}

fn callers(root: &Reader<'_>) -> Vec<CallerSpec> {
    let caller = |table: &Reader<'_>| {
        let transport = transport(table);
        let offer = table.word("offer", &OFFERS).unwrap_or(match transport {
            UmTransport::Tcp => OfferShape::PbxTcp,
            UmTransport::Tls => OfferShape::Lync2015,
        });
        let caller = CallerSpec { name: fqdn(table), address: address(table)?, transport, offer };
        table.finish();
        Some(caller)
    };
    root.tables("caller").iter().filter_map(caller).collect()
}

fn transport(table: &Reader<'_>) -> UmTransport {
    let words = [("TCP", UmTransport::Tcp), ("TLS", UmTransport::Tls)];
    table.word("transport", &words).unwrap_or(UmTransport::Tls)
}

/// The `name` of whoever has a certificate.
fn fqdn(table: &Reader<'_>) -> String {
    let name = table.need_text("name");
    if !name.is_empty() && !words::is_fqdn(&name) {
        table.error(codes::CFG_NOT_FQDN, "name", format!("`{name}` is no full name"));
    }
    name
}

/// The one IP address of an object; `None` after a finding.
fn address(table: &Reader<'_>) -> Option<IpAddr> {
    let text = table.need_text("address");
    let address = text.parse().ok();
    if address.is_none() && !text.is_empty() {
        table.error(codes::CFG_VALUE, "address", format!("`{text}` is no IP address"));
    }
    address
}
