//! Who is let in over TLS: a client certificate of another CA, one whose name is no UM IP gateway, none at all – each
//! refused with its own logged reason and its own counter; seen with OpenSSL's client where it is installed.

mod doctor;
mod inbound;
mod limits;
mod place;
mod rotation;
mod servers;
mod status;
mod weak;
mod windows;
mod zoo;

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use lab::pki::{CertSpec, IdentityFiles, LabCa, Life, Naming};

use crate::harness::{metric_sum, peers_present};
use crate::site::Site;

/// Runs `openssl s_client` with this certificate, asks OPTIONS, and returns what came back.
fn s_client(
    (address, port): (Ipv4Addr, u16),
    root: &Path,
    files: Option<&IdentityFiles>,
    more: &[&str],
) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-connect", &format!("{address}:{port}"), "-CAfile"]);
    command.arg(root).args(more);
    if let Some(files) = files {
        command.arg("-cert").arg(&files.certificate).arg("-key").arg(&files.key);
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let request = "OPTIONS sip:umbra.contoso.com SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:5061;branch=z9hG4bKsc1\r\nMax-Forwards: 0\r\n\
        From: <sip:probe@contoso.com>;tag=1\r\nTo: <sip:umbra.contoso.com>\r\nCall-ID: sc1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
    let mut input = child.stdin.take().unwrap();
    let _ = std::io::Write::write_all(&mut input, request.as_bytes());
    std::thread::sleep(std::time::Duration::from_millis(700));
    drop(input);
    let _ = child.kill();
    String::from_utf8_lossy(&child.wait_with_output().unwrap().stdout).into_owned()
}

fn issue(site: &Site, stem: &str, spec: &CertSpec) -> IdentityFiles {
    site.pki.issue_files(stem, spec).unwrap()
}

fn of_another_ca(folder: &Path) -> IdentityFiles {
    let ca = LabCa::create("somebody else's root").unwrap();
    ca.issue(&CertSpec::host("pool01.contoso.com")).unwrap().write(folder, "foreign").unwrap()
}

#[test]
fn strangers_over_tls_are_refused_each_with_its_own_reason_and_counter() {
    if !peers_present(&["openssl"]) {
        return;
    }
    let site = Site::start();
    let s_client = |files| s_client((site.gateway.address, 5061), &site.pki.root_file(), files, &[]);
    let good = issue(&site, "good", &CertSpec::host("pool01.contoso.com"));
    let answer = s_client(Some(&good));
    assert!(
        answer.starts_with("SIP/2.0 200 "),
        "a pool's certificate is let in: {answer:?}\n{}",
        site.gateway.process.output()
    );

    // OpenSSL sends the certificate alone, so its root is a missing issuer.
    let foreign = of_another_ca(site.gateway.folder.path());
    let unknown = issue(&site, "unknown", &CertSpec::host("stranger.contoso.com"));
    let expired = issue(&site, "expired", &CertSpec::host("pool01.contoso.com").life(Life::Expired));
    let wildcard =
        issue(&site, "wildcard", &CertSpec::host("pool01.contoso.com").naming(Naming::WildcardSubject));
    let cases = [
        ("none", None),
        ("foreign", Some(&foreign)),
        ("unknown", Some(&unknown)),
        ("expired", Some(&expired)),
        ("wildcard", Some(&wildcard)),
    ];
    for (what, files) in cases {
        let answer = s_client(files);
        assert!(!answer.contains("SIP/2.0"), "{what}: an answer came: {answer}");
    }
    let metrics = site.metrics();
    let refused: Vec<&str> = metrics
        .lines()
        .filter(|l| l.starts_with("umbra_tls_handshakes_total") && !l.contains("\"ok\""))
        .collect();
    assert!(
        refused.len() >= 5,
        "five reasons, each with its own counter: {refused:#?}\n{}",
        site.gateway.process.output()
    );
    assert!(metric_sum(&metrics, "umbra_tls_handshakes_total") >= 6.0);
    let log = site.gateway.process.output().to_lowercase();
    for words in ["no certificate", "stranger.contoso.com", "expired", "wildcard"] {
        assert!(log.contains(words), "the log does not say `{words}`:\n{log}");
    }
    for code in ["umb-tls001", "umb-tls040", "umb-tls004", "umb-tls005", "umb-peer001"] {
        assert!(log.contains(code), "the log does not name {code}:\n{log}");
    }
}
