//! `umbra doctor` against a lab site: green when nothing is wrong, and each fault found by its code in the table, in
//! JSON and in JUnit.

use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;

use lab::pki::{CertSpec, Naming, Pki};
use lab::um::{CallRouterConfig, Fault, MailboxServerConfig, Manner, PlanSecurity, Ports};
use lab::{LabUm, LabUmConfig};
use serde_json::Value;

use crate::harness::{Gateway, Net, Process, folder, peers_present, umbra};
use crate::names::NameServer;

/// A lab with two servers of each kind and a pool that listens, and the configuration of a gateway before it.
struct Place {
    folder: tempfile::TempDir,
    net: Net,
    config: PathBuf,
    pki: Arc<Pki>,
    _lab: LabUm,
    runtime: tokio::runtime::Runtime,
}

/// What is wrong with the lab.
#[derive(Default)]
struct Faults {
    /// This server is dead.
    dead: &'static str,
    /// This server presents another certificate.
    certificate: Option<(&'static str, CertSpec)>,
}

impl Place {
    fn new(faults: &Faults) -> Self {
        let (net, folder) = (Net::new(), folder());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let pki = Arc::new(Pki::open(&folder.path().join("pki")).unwrap());
        if let Some((server, spec)) = &faults.certificate {
            pki.issue_files(server, spec).unwrap();
        }
        let lab = runtime.block_on(LabUm::start(site(net, &pki, faults, folder.path().join("voicemail"))));
        let config = folder.path().join("umbra.toml");
        std::fs::write(&config, text(net, &pki)).unwrap();
        Self { folder, net, config, pki, _lab: lab.unwrap(), runtime }
    }

    fn edit(&self, old: &str, new: &str) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        assert!(text.contains(old), "{old}");
        std::fs::write(&self.config, text.replacen(old, new, 1)).unwrap();
    }

    fn doctor(&self, arguments: &[&str]) -> (i32, String) {
        let mut command = umbra();
        command.arg("doctor").args(arguments).arg("-c").arg(&self.config);
        let out = command.env("NO_COLOR", "1").output().unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        assert!(!text.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
        (out.status.code().unwrap_or(-1), text)
    }

    /// Asserts that the code is found with this mark in every shape; returns the finding.
    fn assert_found(&self, topic: &str, mark: &str, code: &str) -> Value {
        let (exit, json) = self.doctor(&[topic, "-o", "json"]);
        assert_eq!(exit, i32::from(mark == "fail"), "{json}");
        let report: Value = serde_json::from_str(&json).unwrap();
        let findings = report["findings"].as_array().unwrap();
        let found = findings.iter().find(|f| f["code"] == code && f["mark"] == mark);
        let found = found.unwrap_or_else(|| panic!("{code} {mark} is missing in {json}")).clone();
        assert!(!found["cause"].as_str().unwrap().is_empty() && found["fix"].is_object(), "{found}");
        let word = if mark == "fail" { "FAIL" } else { "warn" };
        let (_, table) = self.doctor(&[topic]);
        let line = table.lines().find(|line| line.contains(code) && line.trim_start().starts_with(word));
        assert!(line.is_some(), "{code} {word} is missing in\n{table}");
        let (_, xml) = self.doctor(&[topic, "-o", "junit"]);
        assert!(
            xml.starts_with("<?xml version=\"1.0\"") && xml.trim_end().ends_with("</testsuites>"),
            "{xml}"
        );
        let case =
            if mark == "fail" { format!("<failure type=\"{code}\"") } else { format!("warning {code}") };
        assert!(xml.contains(&case), "{case} is missing in\n{xml}");
        found
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _entered = self.runtime.enter();
    }
}

fn site(net: Net, pki: &Arc<Pki>, faults: &Faults, voicemail: PathBuf) -> LabUmConfig {
    let fault = |name: &str| if name == faults.dead { Fault::Dead } else { Fault::None };
    let router = |name: &str, host: u8| CallRouterConfig {
        name: name.to_owned(),
        address: net.host(host).into(),
        ports: Ports { tcp: Some(5060), tls: Some(5061) },
        manner: Manner::default(),
        fault: fault(name),
    };
    let mailbox = |name: &str, host: u8| MailboxServerConfig {
        name: name.to_owned(),
        address: net.host(host).into(),
        service: Ports { tcp: Some(5062), tls: Some(5063) },
        workers: vec![Ports { tcp: Some(5065), tls: Some(5066) }, Ports { tcp: Some(5067), tls: Some(5068) }],
        max_calls_allowed: 100,
        security: PlanSecurity::AsOffered,
        fault: fault(name),
        manner: Manner::default(),
        worker_fault: Fault::None,
    };
    LabUmConfig {
        // The pool only has to listen and to answer OPTIONS here, which a Call Router does as well.
        call_routers: vec![
            router("cas01.contoso.test", 30),
            router("cas02.contoso.test", 29),
            router("pool01.contoso.test", 10),
            router("fe01.contoso.test", 11),
        ],
        mailbox_servers: vec![mailbox("mbx01.contoso.test", 31), mailbox("mbx02.contoso.test", 32)],
        pki: Some(pki.clone()),
        voicemail,
        seed: 11,
        ..LabUmConfig::default()
    }
}

fn text(net: Net, pki: &Pki) -> String {
    let identity = pki.identity_files("umbra.contoso.test").unwrap();
    let mut text = format!(
        "[gateway]\nfqdn = \"umbra.contoso.test\"\n\n[listen]\naddresses = [\"{gateway}\"]\n\n\
         [tls]\ncertificate = \"{cert}\"\nprivate_key = \"{key}\"\ntrusted_roots = [\"{root}\"]\n\n\
         [media]\nrtp_ports = \"20000-20599\"\n\n[routing]\nfirst_answer_timeout = \"8s\"\n\n\
         [[pool]]\nname = \"pool01\"\nfqdn = \"pool01.contoso.test\"\naddress = [\"{pool}\"]\n\
         encryption = \"RequireEncryption\"\n\n\
         [[ip_gateway]]\nname = \"pool01\"\naddress = \"pool01.contoso.test\"\nport = 5061\n\n\
         [[ip_gateway]]\nname = \"pbx\"\naddress = \"{pbx}\"\noutcalls_allowed = true\n\n\
         [[hunt_group]]\nname = \"pool01-default\"\nip_gateway = \"pool01\"\ndial_plan = \"DP-Sip\"\n\n\
         [[hunt_group]]\nname = \"pbx-default\"\nip_gateway = \"pbx\"\ndial_plan = \"DP-Pbx\"\n\n\
         [[dial_plan]]\nname = \"DP-Sip\"\nvoip_security = \"Secured\"\nphone_context = \"DP-Sip.contoso.test\"\n\n\
         [[dial_plan]]\nname = \"DP-Pbx\"\nuri_type = \"TelExtn\"\nvoip_security = \"Unsecured\"\n\
         phone_context = \"DP-Pbx.contoso.test\"\n",
        gateway = net.host(20),
        cert = identity.certificate.display(),
        key = identity.key.display(),
        root = pki.root_file().display(),
        pool = net.host(10),
        pbx = net.host(40),
    );
    for (kind, name, host) in [
        ("call_router", "cas01", 30),
        ("call_router", "cas02", 29),
        ("mailbox_server", "mbx01", 31),
        ("mailbox_server", "mbx02", 32),
    ] {
        text +=
            &format!("\n[[{kind}]]\nname = \"{name}.contoso.test\"\naddress = [\"{}\"]\n", net.host(host));
    }
    text
}

#[test]
fn a_site_without_faults_is_green_in_every_group() {
    let place = Place::new(&Faults::default());
    let (exit, json) = place.doctor(&["-o", "json"]);
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((exit, &report["failed"]), (0, &0.into()), "{json}");
    let findings = report["findings"].as_array().unwrap();
    let good = |group: &str| findings.iter().filter(|f| f["group"] == group && f["mark"] == "ok").count();
    for group in
        ["certificates", "tls", "servers", "security", "gateways", "plans", "lync", "media", "listeners"]
    {
        assert!(good(group) > 0, "{group}: {json}");
    }
    assert!(good("servers") >= 10, "four servers on two transports and their workers: {json}");
    let shared = findings.iter().filter(|f| f["code"] == "UMB-TLS052" && f["mark"] == "ok");
    let drawn = shared.filter(|f| f["picture"][0].as_str().unwrap().starts_with("issued its certificate  "));
    assert_eq!(drawn.count(), 5, "four servers and the pool share an authority with us: {json}");
    // Nobody listens for the PBX, which only calls; that is all there is to warn of beside short lives of lab certificates.
    let odd = findings
        .iter()
        .filter(|f| f["mark"] == "warn" && !f["code"].as_str().unwrap().starts_with("UMB-TLS"));
    let odd: Vec<&str> =
        odd.map(|f| f["code"].as_str().unwrap()).filter(|code| *code != "UMB-HOST004").collect();
    assert_eq!(odd, ["UMB-PEER020"], "{json}");
    let (_, table) = place.doctor(&[]);
    assert!(table.contains("Call Routers and Mailbox servers\n  ok    cas01.contoso.test tls "), "{table}");
    assert!(table.trim_end().ends_with("umbra explain <code>") && table.contains(" checks: "), "{table}");
    let (exit, _) = place.doctor(&["lync", "--deny-warnings"]);
    assert_eq!(exit, 0, "the PBX is no matter of Lync");
}

#[test]
fn a_dead_server_fails_by_its_code_and_only_there() {
    let place = Place::new(&Faults { dead: "mbx02.contoso.test", ..Faults::default() });
    let found = place.assert_found("exchange", "fail", "UMB-SRV002");
    assert!(found["what"].as_str().unwrap().starts_with("mbx02.contoso.test "), "{found}");
    let found = place.assert_found("exchange", "fail", "UMB-SRV020");
    assert!(found["what"].as_str().unwrap().contains("5065 5066 5067 5068"), "{found}");
    let (_, json) = place.doctor(&["tls", "-o", "json"]);
    let report: Value = serde_json::from_str(&json).unwrap();
    let of_dead = |f: &&Value| f["what"].as_str().unwrap().starts_with("mbx02.");
    let findings = report["findings"].as_array().unwrap();
    let marks: Vec<_> = findings.iter().filter(of_dead).map(|f| f["mark"].as_str().unwrap()).collect();
    assert!(!marks.is_empty() && marks.iter().all(|mark| *mark == "skip"), "never ok: {json}");
}

#[test]
fn a_certificate_of_another_name_and_a_wildcard_subject_fail() {
    let other = Some(("cas02.contoso.test", CertSpec::host("cas09.contoso.test")));
    let place = Place::new(&Faults { certificate: other, ..Faults::default() });
    for topic in ["tls", "exchange"] {
        let found = place.assert_found(topic, "fail", "UMB-TLS003");
        assert!(found["what"].as_str().unwrap().contains("cas09.contoso.test"), "{found}");
        assert!(found["fix"].as_object().is_some_and(|sides| !sides.is_empty()), "{found}");
    }
    drop(place);
    let wildcard = CertSpec::host("mbx02.contoso.test").naming(Naming::WildcardSubject);
    let wildcard = Some(("mbx02.contoso.test", wildcard));
    let place = Place::new(&Faults { certificate: wildcard, ..Faults::default() });
    let found = place.assert_found("tls", "fail", "UMB-TLS004");
    assert!(found["what"].as_str().unwrap().contains("CN=*.contoso.test"), "{found}");
}

/// As Windows Server 2012 R2 is with an RSA certificate.
#[test]
fn a_server_that_shares_no_suite_with_rustls_is_found_with_what_openssl_would_bring() {
    if !peers_present(&["openssl"]) {
        return;
    }
    let place = Place::new(&Faults { dead: "mbx02.contoso.test", ..Faults::default() });
    let (files, at) = (place.pki.identity_files("mbx02.contoso.test").unwrap(), place.net.host(32));
    let mut command = std::process::Command::new("openssl");
    command.args(["s_server", "-quiet", "-accept", &format!("{at}:5063"), "-no_tls1_3", "-cipher"]);
    command.args(["ECDHE-RSA-AES256-SHA384:AES128-SHA256", "-cert"]).arg(&files.certificate);
    let mut server = Process::start("s_server", command.arg("-key").arg(&files.key), place.folder.path());
    server.wait_for_port(at.into(), 5063);
    let found = place.assert_found("tls", "fail", "UMB-TLS014");
    let what = found["what"].as_str().unwrap();
    assert!(
        what.starts_with("mbx02.")
            && what.contains(": rustls: nothing; openssl: 2 suites of TLS 1.2; TLS 1.3 no "),
        "{what}"
    );
    let (_, table) = place.doctor(&["tls"]);
    let row =
        |suite: &str| table.lines().find(|line| line.contains(suite)).unwrap_or_else(|| panic!("{table}"));
    for suite in ["TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384", "TLS_RSA_WITH_AES_128_CBC_SHA256"] {
        let words: Vec<&str> = row(suite).split_whitespace().collect();
        assert_eq!(words, ["TLS", "1.2", suite, "x", "ok"]);
    }
    let others = table.lines().filter(|line| line.contains(": rustls: ") && line.contains(" ok "));
    assert_eq!(
        others.filter(|line| line.contains("suites of TLS 1.3, TLS 1.2; openssl: ")).count(),
        4,
        "{table}"
    );
}

#[test]
fn what_the_configuration_shows_is_found_with_the_cell_marked() {
    let place = Place::new(&Faults::default());
    place.edit("\"pbx\"\ndial_plan = \"DP-Pbx\"", "\"pbx\"\ndial_plan = \"DP-Sip\"");
    place.assert_found("exchange", "warn", "UMB-GW002");
    place.edit("voip_security = \"Secured\"", "voip_security = \"SIPSecured\"");
    let found = place.assert_found("lync", "fail", "UMB-SEC001");
    assert!(found["picture"].to_string().contains("[x]"), "{found}");
    let (_, table) = place.doctor(&["lync"]);
    let row = table.lines().find(|line| line.contains("[x]")).unwrap();
    assert!(row.contains("RequireEncryption") && row.ends_with("<- you are here"), "{table}");
    assert!(
        table.contains("Fix (Exchange): Set-UMDialPlan") && table.contains("Fix (Lync): Set-Cs"),
        "{table}"
    );
}

#[test]
fn a_taken_listener_is_found_with_its_owner_and_the_running_gateway_is_known() {
    let place = Place::new(&Faults::default());
    let listener = TcpListener::bind((place.net.host(20), 5061)).unwrap();
    let found = place.assert_found("media", "fail", "UMB-HOST001");
    let pid = format!("pid {}", std::process::id());
    assert!(found["what"].as_str().unwrap().ends_with(&pid), "{found}");
    drop(listener);
    let config = std::fs::read_to_string(&place.config).unwrap();
    let gateway = Gateway::start(folder(), place.net.host(20), 5061, &config);
    let own = gateway.folder.path().join("umbra.toml");
    let out = umbra().args(["doctor", "media", "-c"]).arg(&own).output().unwrap();
    let table = String::from_utf8_lossy(&out.stdout).into_owned();
    let pid = format!("held by the running gateway (umbra, pid {})", gateway.process.id());
    assert!(table.contains(&pid) && out.status.code() == Some(0), "{table}");
    place.assert_found("media", "fail", "UMB-HOST001");
}

#[test]
fn rtp_ports_of_the_kernel_and_of_others_are_warnings() {
    let place = Place::new(&Faults::default());
    let _socket = UdpSocket::bind((place.net.host(20), 20_010)).unwrap();
    let found = place.assert_found("media", "warn", "UMB-HOST003");
    assert!(found["what"].as_str().unwrap().contains("20010 by "), "{found}");
    let Ok(kernels) = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range") else { return };
    let first: u32 = kernels.split_whitespace().next().unwrap().parse().unwrap();
    let first = first.div_ceil(2) * 2;
    place.edit("20000-20599", &format!("{first}-{}", first + 599));
    place.assert_found("media", "warn", "UMB-CFG020");
}

#[test]
fn a_name_that_nobody_answers_for_fails() {
    let place = Place::new(&Faults::default());
    let silent = UdpSocket::bind((place.net.host(53), 0)).unwrap();
    let dns = format!("[dns]\nservers = [\"{}\"]\ntimeout = \"100ms\"\n\n", silent.local_addr().unwrap());
    place.edit("[media]", &format!("{dns}[media]"));
    place.edit(&format!("address = [\"{}\"]\n", place.net.host(29)), "");
    let found = place.assert_found("dns", "fail", "UMB-SRV010");
    assert!(found["what"].as_str().unwrap().contains("cas02.contoso.test"), "{found}");
}

#[test]
fn the_members_of_a_pool_are_visited_one_by_one() {
    let place = Place::new(&Faults::default());
    let names = NameServer::start();
    names.knows_address("fe01.contoso.test", place.net.host(11));
    place.edit("[media]", &format!("{}[media]", names.section()));
    let members = "members = [\"fe01.contoso.test\", \"fe02.contoso.test\"]\nencryption = ";
    place.edit("encryption = ", members);
    let (exit, json) = place.doctor(&["-o", "json"]);
    let report: Value = serde_json::from_str(&json).unwrap();
    let told = |mark: &str, start: &str| {
        let findings = report["findings"].as_array().unwrap().iter();
        findings.filter(|f| f["mark"] == mark && f["what"].as_str().unwrap().starts_with(start)).count()
    };
    let at = format!("{}:5061", place.net.host(11));
    assert_eq!(
        told("ok", &format!("fe01.contoso.test {at} presents CN=fe01.contoso.test, trusted")),
        1,
        "{json}"
    );
    assert_eq!(told("ok", &format!("fe01.contoso.test tls {at} answers OPTIONS")), 1, "{json}");
    assert_eq!(told("skip", "fe02.contoso.test was not asked: it has no address"), 1, "{json}");
    assert_eq!(
        (exit, told("warn", "fe02."), told("fail", "fe0")),
        (0, 0, 0),
        "the pool has an address: {json}"
    );
}

#[test]
fn a_configuration_that_cannot_be_used_is_told_in_every_shape() {
    let place = Place::new(&Faults::default());
    place.edit("encryption = \"RequireEncryption\"", "encryption = \"<Require>\"");
    let (exit, json) = place.doctor(&["-o", "json"]);
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((exit, report["findings"][0]["code"].as_str()), (78, Some("UMB-CFG005")), "{json}");
    let (exit, xml) = place.doctor(&["-o", "junit"]);
    assert!(exit == 78 && xml.contains("&lt;Require&gt;") && !xml.contains("<Require>"), "{xml}");
    let out = umbra().args(["check", "-o", "junit"]).arg(&place.config).output().unwrap();
    assert_eq!(out.status.code(), Some(2), "only the doctor has a report of that shape");
    assert!(place.folder.path().is_dir());
}
