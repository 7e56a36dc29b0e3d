//! Certificates that only OpenSSL still makes (SHA-1, MD5, RSA of 1024 bits): refused each with its reason, and taken from
//! peers that are excepted, MD5 never.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use lab::pki::{IdentityFiles, ROOT_KEY_FILE};

use super::place::{Place, Seat, reasons};
use super::s_client;
use crate::harness::{Process, peers_present};

const ALLOWED: &str = "weak_certificates = \"Allowed\"\n";

/// Name, bits, digest, and what it meets without and with the exception.
const WEAK: [(&str, &str, &str, &str, &str); 3] = [
    ("key", "rsa:1024", "-sha256", "weak_key", "ok"),
    ("sha1", "rsa:2048", "-sha1", "weak_signature", "ok"),
    ("md5", "rsa:2048", "-md5", "weak_signature", "weak_signature"),
];

fn openssl(arguments: &[&str]) {
    let status = Command::new("openssl").args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.unwrap().success(), "openssl {arguments:?}");
}

fn make(place: &Place, fqdn: &str, key: &str, digest: &str) -> IdentityFiles {
    let folder = place.pki.folder();
    let path = |extension: &str| folder.join(format!("{fqdn}.{extension}"));
    let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
    let (request, extensions) = (path("csr"), path("ext"));
    let files = IdentityFiles { certificate: path("crt"), key: path("key") };
    let words = format!("subjectAltName=DNS:{fqdn}\nextendedKeyUsage=serverAuth,clientAuth\n");
    std::fs::write(&extensions, words).unwrap();
    let subject = format!("/CN={fqdn}");
    let (key_file, request) = (text(&files.key), text(&request));
    openssl(&[
        "req", "-new", "-newkey", key, "-nodes", "-keyout", &key_file, "-subj", &subject, "-out", &request,
    ]);
    let (root, root_key) = (text(&place.pki.root_file()), text(&folder.join(ROOT_KEY_FILE)));
    let (extensions, certificate) = (text(&extensions), text(&files.certificate));
    openssl(&[
        "x509",
        "-req",
        "-in",
        &request,
        "-CA",
        &root,
        "-CAkey",
        &root_key,
        "-set_serial",
        "77",
        "-days",
        "5",
        digest,
        "-extfile",
        &extensions,
        "-out",
        &certificate,
    ]);
    files
}

fn serve(place: &Place, number: usize, files: &IdentityFiles) -> Process {
    let address = place.seat(number);
    let mut command = Command::new("openssl");
    command.args(["s_server", "-www", "-tls1_2", "-cipher", "DEFAULT@SECLEVEL=0"]);
    command.args(["-accept", &format!("{address}:5063")]);
    command.arg("-cert").arg(&files.certificate).arg("-key").arg(&files.key);
    let name = format!("s_server{number}");
    let mut server = Process::start(&name, &mut command, place.gateway.folder.path());
    server.wait_for_port(address.into(), 5063);
    server
}

#[test]
fn weak_certificates_are_refused_by_name_of_the_weakness_and_taken_where_they_are_allowed() {
    if !peers_present(&["openssl"]) {
        return;
    }
    let name = |allowed: bool, weak: &str| {
        format!("{}-{weak}.sip.zoo.test", if allowed { "allowed" } else { "refused" })
    };
    let cases: Vec<_> = [false, true]
        .into_iter()
        .flat_map(|allowed| WEAK.map(|weak| (name(allowed, weak.0), allowed, weak)))
        .collect();
    let seat = |(name, allowed, _): &(String, bool, _)| {
        if *allowed { Seat::new(name).with(ALLOWED) } else { Seat::new(name) }
    };
    let place = Place::start(&cases.iter().map(seat).collect::<Vec<_>>(), "");
    let caller = place.pool();
    let log = || place.gateway.process.output();
    assert!(log().contains("UMB-TLS037"), "the exception is told at the start:\n{}", log());
    let mut servers = Vec::new();
    for (number, (fqdn, allowed, (_, key, digest, without, with))) in cases.iter().enumerate() {
        let meets = if *allowed { *with } else { *without };
        let files = make(&place, fqdn, key, digest);
        let address = (place.gateway.address, 5061);
        let old = ["-tls1_2", "-cipher", "DEFAULT@SECLEVEL=0"];
        let answer = s_client(address, &place.pki.root_file(), Some(&files), &old);
        assert_eq!(answer.starts_with("SIP/2.0 200 "), meets == "ok", "{fqdn}: {answer:?}\n{}", log());
        servers.push(serve(&place, number, &files));
        let before = reasons(&place.metrics(), |peer| peer == fqdn);
        assert!(before.is_empty(), "{before:?}");
        for pilot in [Place::redirecting(number), Place::calling(number)] {
            let outcome = place.block_on(caller.place_call(place.call(&pilot))).unwrap();
            let record = place.record(&outcome.call_id);
            let is_told = record.contains(&format!("{meets}: ")) && record.contains("UMB-TLS");
            assert_eq!(is_told, meets != "ok", "{fqdn}:\n{record}");
        }
        let counted = |line: String| place.metrics().contains(&line);
        let handshakes = format!("umbra_tls_handshakes_total{{peer=\"{fqdn}\",result=\"{meets}\"}} ");
        assert!(counted(handshakes), "{fqdn} {meets}\n{}", place.metrics());
        let weak = format!("umbra_tls_weak_certificates_total{{peer=\"{fqdn}\"}} ");
        assert_eq!(counted(weak), meets == "ok", "{fqdn}\n{}", place.metrics());
    }
    let refused = reasons(&place.metrics(), |peer| peer == "unknown");
    assert_eq!(refused.get("weak_key"), Some(&1), "{refused:?}");
    assert_eq!(refused.get("weak_signature"), Some(&3), "{refused:?}");
    assert!(place.metrics().contains("umbra_tls_weak_peers 3\n"), "{}", place.metrics());
}
