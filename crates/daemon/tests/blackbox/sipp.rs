//! SIPp as the caller and as the UM server around the gateway: plain TCP, and TLS by way of stunnel with a client
//! certificate.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lab::pki::Pki;

use crate::harness::{Gateway, Net, Process, folder, peers_present};

const CALLS: usize = 200;
const RATE: usize = 20;
pub const UAC: &str = include_str!("sipp/uac.xml");
const UAS: &str = include_str!("sipp/uas.xml");

#[test]
fn two_hundred_calls_with_media_over_tcp_all_succeed() {
    if !peers_present(&["sipp"]) {
        return;
    }
    let net = Net::new();
    let (caller, gateway, server) = (net.host(10), net.host(20), net.host(30));
    let folder = folder();
    write_scenarios(folder.path());
    let _uas = start_uas(folder.path(), server, CALLS);
    let mut umbra = Gateway::start(folder, gateway, 5060, &plain_config(caller, gateway, server));
    let cpu_before = umbra.process.cpu_seconds();
    let summary = run_uac(umbra.folder.path(), "uac.xml", caller, (gateway, 5060), CALLS);
    let cpu = umbra.process.cpu_seconds() - cpu_before;
    println!("{summary}\ngateway cpu: {cpu:.2} s for {CALLS} calls with 3 s of audio each way");
    let records = umbra.wait_for_records(CALLS, Duration::from_secs(10));
    assert_eq!(records.len(), CALLS);
    for record in &records {
        assert_eq!(record["offer_result"], "Answer", "{record:#}");
        // 3 s at 20 ms are 150 packets; SIPp's player starts late under load, its echo answers each.
        for side in ["packets_from_a", "packets_from_b"] {
            let packets = record["media"][side].as_u64().unwrap_or(0);
            assert!(packets >= 100, "{side}: {packets} in {record:#}");
        }
    }
    assert_eq!(umbra.stop(), 0, "{}", umbra.process.output());
}

#[test]
fn two_hundred_calls_over_mutual_tls_through_stunnel_all_succeed() {
    if !peers_present(&["sipp", "stunnel4"]) {
        return;
    }
    let net = Net::new();
    let (caller, gateway, server, front) = (net.host(10), net.host(20), net.host(30), net.host(11));
    let folder = folder();
    write_scenarios(folder.path());
    let pki = Pki::open(&folder.path().join("pki")).unwrap();
    let _uas = start_uas(folder.path(), server, CALLS);
    let mut server_side =
        stunnel(folder.path(), &pki, "server", "cas01.contoso.test", (server, 5061), (server, 5060));
    server_side.wait_for_port(server.into(), 5061);
    let mut umbra = Gateway::start(folder, gateway, 5061, &tls_config(gateway, server, &pki));
    let mut client_side =
        stunnel(umbra.folder.path(), &pki, "client", "pbx.contoso.test", (front, 5060), (gateway, 5061));
    client_side.wait_for_port(front.into(), 5060);
    let summary = run_uac(umbra.folder.path(), "uac.xml", caller, (front, 5060), CALLS);
    println!("{summary}");
    let records = umbra.wait_for_records(CALLS, Duration::from_secs(10));
    assert!(records.iter().all(|r| r["offer_result"] == "Answer"), "{:#}", records[0]);
    assert_eq!(umbra.stop(), 0, "{}", umbra.process.output());
}

/// stunnel as TLS client (toward the gateway) or TLS server (before SIPp), with a certificate of the lab.
fn stunnel(
    folder: &Path,
    pki: &Pki,
    role: &str,
    name: &str,
    accept: (Ipv4Addr, u16),
    connect: (Ipv4Addr, u16),
) -> Process {
    let files = pki.identity_files(name).unwrap();
    let text = format!(
        "foreground = yes\npid =\nsocket = l:TCP_NODELAY=1\nsocket = r:TCP_NODELAY=1\n[sip]\nclient = {client}\naccept = {}:{}\n\
         connect = {}:{}\ncert = {}\nkey = {}\nCAfile = {}\nverifyChain = yes\nsslVersionMin = TLSv1.2\n",
        accept.0,
        accept.1,
        connect.0,
        connect.1,
        files.certificate.display(),
        files.key.display(),
        pki.root_file().display(),
        client = if role == "client" { "yes" } else { "no" },
    );
    let file = folder.join(format!("stunnel-{role}.conf"));
    std::fs::write(&file, text).unwrap();
    Process::start(&format!("stunnel-{role}"), Command::new("stunnel4").arg(&file), folder)
}

pub fn write_scenarios(folder: &Path) {
    std::fs::write(folder.join("uac.xml"), UAC).unwrap();
    std::fs::write(folder.join("uas.xml"), UAS).unwrap();
    std::fs::write(folder.join("speech.wav"), tone_wav(400.0, 3.0)).unwrap();
}

pub fn start_uas(folder: &Path, address: Ipv4Addr, calls: usize) -> Process {
    start_uas_at(folder, "uas.xml", (address, 5060), calls)
}

/// Who answers, by a scenario in that folder.
pub fn start_uas_at(
    folder: &Path,
    scenario: &str,
    (address, port): (Ipv4Addr, u16),
    calls: usize,
) -> Process {
    let (address_text, port_text) = (address.to_string(), port.to_string());
    let mut command = Command::new("sipp");
    command.args(["-sf", scenario, "-t", "t1", "-p", &port_text, "-rtp_echo", "-mp", "17000", "-nostdin"]);
    command.args(["-i", &address_text, "-m", &calls.to_string()]).current_dir(folder);
    let mut uas = Process::start("uas", &mut command, folder);
    uas.wait_for_port(address.into(), port);
    uas
}

/// Runs the caller to its end and returns its final statistics; fails when a call failed.
pub fn run_uac(folder: &Path, scenario: &str, from: Ipv4Addr, to: (Ipv4Addr, u16), calls: usize) -> String {
    let mut command = Command::new("sipp");
    command.args(["-sf", scenario, "-t", "t1", "-p", "5070", "-mp", "18000", "-nostdin", "-trace_err"]);
    command.args(["-i", &from.to_string(), "-m", &calls.to_string(), "-r", &RATE.to_string()]);
    command.arg(format!("{}:{}", to.0, to.1)).current_dir(folder);
    let mut uac = Process::start("uac", &mut command, folder);
    let code = uac.wait(Duration::from_secs(120));
    let output = uac.output();
    let summary = summary_of(&output);
    assert_eq!(code, 0, "sipp says:\n{summary}\n{}", errors_of(folder));
    summary
}

fn summary_of(output: &str) -> String {
    let last_screen = output.rfind("Statistics Screen").map_or(output, |at| &output[at..]);
    let wanted = ["Successful call", "Failed call", "Response Time", "Total Calls"];
    let lines = last_screen.lines().filter(|line| wanted.iter().any(|w| line.contains(w)));
    lines.collect::<Vec<_>>().join("\n")
}

fn errors_of(folder: &Path) -> String {
    let files = std::fs::read_dir(folder).unwrap().flatten().map(|e| e.path());
    let errors = files.filter(|p| p.to_string_lossy().ends_with("errors.log"));
    errors
        .map(|p| std::fs::read_to_string(p).unwrap_or_default().chars().take(2000).collect::<String>())
        .collect()
}

/// A µ-law WAV file, as SIPp's `rtp_stream` plays it.
fn tone_wav(frequency: f64, seconds: f64) -> Vec<u8> {
    let samples = (8000.0 * seconds) as u32;
    let sine = |i: u32| (8000.0 * (std::f64::consts::TAU * frequency * f64::from(i) / 8000.0).sin()) as i16;
    let data: Vec<u8> = (0..samples).map(|i| mu_law(sine(i))).collect();
    let mut wav = Vec::with_capacity(data.len() + 58);
    wav.extend_from_slice(b"RIFF");
    wav.extend_from_slice(&(50 + samples).to_le_bytes());
    wav.extend_from_slice(b"WAVEfmt \x12\0\0\0\x07\0\x01\0");
    wav.extend_from_slice(&8000u32.to_le_bytes());
    wav.extend_from_slice(&8000u32.to_le_bytes());
    wav.extend_from_slice(b"\x01\0\x08\0\0\0fact\x04\0\0\0");
    wav.extend_from_slice(&samples.to_le_bytes());
    wav.extend_from_slice(b"data");
    wav.extend_from_slice(&samples.to_le_bytes());
    wav.extend_from_slice(&data);
    wav
}

fn mu_law(sample: i16) -> u8 {
    let magnitude = i32::from(sample).abs().min(32_635) + 132;
    let exponent = (24 - magnitude.leading_zeros()).min(7);
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    let sign = if sample < 0 { 0x80 } else { 0 };
    !(sign | (exponent as u8) << 4 | mantissa as u8)
}

const HEAD: &str = r#"
[gateway]
fqdn = "umbra.contoso.test"
sip_domain = "contoso.test"
max_calls_allowed = 400

[media]
rtp_ports = "20000-29999"

[admin]
http = ""
"#;

pub fn plain_config(caller: Ipv4Addr, gateway: Ipv4Addr, server: Ipv4Addr) -> String {
    let listen = format!(
        "[listen]\nstartup_mode = \"TCP\"\naddresses = [\"{gateway}\"]\nadvertised = \"{gateway}\"\n"
    );
    format!("{HEAD}\n{listen}\n{}", objects("Unsecured", &caller.to_string(), 5070, server))
}

fn tls_config(gateway: Ipv4Addr, server: Ipv4Addr, pki: &Pki) -> String {
    let files = pki.identity_files("umbra.contoso.test").unwrap();
    let listen = format!(
        "[listen]\nstartup_mode = \"TLS\"\naddresses = [\"{gateway}\"]\nadvertised = \"{gateway}\"\n\n[tls]\ncertificate = \"{}\"\n\
         private_key = \"{}\"\ntrusted_roots = [\"{}\"]\n",
        files.certificate.display(),
        files.key.display(),
        pki.root_file().display(),
    );
    format!("{HEAD}\n{listen}\n{}", objects("SIPSecured", "pbx.contoso.test", 5061, server))
}

/// One IP-PBX, one dial plan, one server that answers by itself.
fn objects(security: &str, pbx: &str, pbx_port: u16, server: Ipv4Addr) -> String {
    format!(
        r#"
[[dial_plan]]
name = "DP-Pbx"
uri_type = "TelExtn"
voip_security = "{security}"
phone_context = "DP-Pbx.contoso.test"

[[ip_gateway]]
name = "pbx"
address = "{pbx}"
port = {pbx_port}

[[hunt_group]]
name = "pbx-hunt"
ip_gateway = "pbx"
dial_plan = "DP-Pbx"
pilot_identifier = "88895"

[[call_router]]
name = "cas01.contoso.test"
address = ["{server}"]
dial_plans = ["DP-Pbx"]

[[mailbox_server]]
name = "mbx01.contoso.test"
address = ["{server}"]
max_calls_allowed = 400
dial_plans = ["DP-Pbx"]
"#
    )
}
