//! The lab's zoo of certificates before `umbra doctor`: presented by servers, and as our own. Each crooked one is found by its
//! own code, and no sound one is.

use std::path::{Path, PathBuf};

use lab::pki::{CertSpec, EXHIBITS, Exhibit, Identity, KeyKind, Life, Pki, SOUND};
use serde_json::Value;

use super::place::{Answer, Place, Seat};
use crate::harness::{folder, umbra};

/// What each reason to refuse a server is called.
const FOUND: [(&str, &str); 21] = [
    ("ca_as_peer", "UMB-TLS028"),
    ("expired", "UMB-TLS005"),
    ("issuer_expired", "UMB-TLS042"),
    ("issuer_forged", "UMB-TLS039"),
    ("issuer_missing", "UMB-TLS040"),
    ("long_serial", "UMB-TLS034"),
    ("malformed_name", "UMB-TLS044"),
    ("name_constraint", "UMB-TLS029"),
    ("name_mismatch", "UMB-TLS003"),
    ("no_name", "UMB-TLS043"),
    ("not_a_ca", "UMB-TLS026"),
    ("not_yet_valid", "UMB-TLS047"),
    ("old_version", "UMB-TLS033"),
    ("path_too_long", "UMB-TLS027"),
    ("revoked", "UMB-TLS030"),
    ("self_signed", "UMB-TLS041"),
    ("too_many_names", "UMB-TLS045"),
    ("unknown_critical_extension", "UMB-TLS032"),
    ("untrusted_chain", "UMB-TLS002"),
    ("wildcard_subject", "UMB-TLS004"),
    ("wrong_purpose", "UMB-TLS007"),
];

fn code(reason: &str) -> &'static str {
    FOUND.iter().find(|(found, _)| *found == reason).unwrap_or_else(|| panic!("{reason} has no code")).1
}

fn name_of(exhibit: &Exhibit) -> String {
    format!("{}.sip.zoo.test", exhibit.name)
}

/// Exit code and findings.
fn doctor(config: &Path) -> (i32, Vec<Value>) {
    let ran = umbra().args(["doctor", "tls", "-o", "json", "-c"]).arg(config).output().unwrap();
    let text = String::from_utf8(ran.stdout).unwrap();
    for steering in ['\u{1b}', '\u{7}', '\0', '\r'] {
        assert!(!text.contains(steering), "{steering:?} of a certificate was printed");
    }
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    (ran.status.code().unwrap(), report["findings"].as_array().unwrap().clone())
}

fn failed(findings: &[Value], about: &str) -> Vec<String> {
    let of_it = |f: &&Value| {
        f["group"] == "certificates" && f["mark"] == "fail" && f["what"].as_str().unwrap().starts_with(about)
    };
    findings.iter().filter(of_it).map(|f| f["code"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_exhibit_of_a_server_is_found_by_its_own_code_and_the_sound_ones_are_not() {
    let mut seats: Vec<Seat> = EXHIBITS.iter().map(|exhibit| Seat::new(&name_of(exhibit))).collect();
    seats.push(Seat::new("revoked.sip.zoo.test"));
    let place = Place::start(&seats, "crls = [\"revoked.crl\"]\ncrl_policy = \"prefer\"\n");
    let ca = place.pki.ca();
    let revoked = ca.issue(&CertSpec::host("revoked.sip.zoo.test").key(KeyKind::EcdsaP256)).unwrap();
    place.write("revoked.crl", &ca.revocation_list(&[&revoked], 7).unwrap());
    for (number, exhibit) in EXHIBITS.iter().enumerate() {
        place.serve(number, &exhibit.make(ca, &name_of(exhibit)).unwrap(), Answer::Busy);
    }
    place.serve(EXHIBITS.len(), &revoked, Answer::Busy);
    let old =
        ca.issue(&CertSpec::host("old.sip.zoo.test").life(Life::Expired).key(KeyKind::EcdsaP256)).unwrap();
    assert_eq!(place.options(&old), "", "an expired certificate was taken");
    place.wait_until(|| place.refusals().contains("old.sip.zoo.test"));
    let (exit, findings) = doctor(&place.gateway.folder.path().join("umbra.toml"));
    assert_eq!(exit, 1);
    let expected = EXHIBITS.iter().map(|exhibit| (name_of(exhibit), exhibit.as_server));
    let expected = expected.chain([("revoked.sip.zoo.test".to_owned(), "revoked")]);
    let mut wrong = Vec::new();
    for (name, reason) in expected {
        let found = failed(&findings, &format!("{name} "));
        let wanted: Vec<String> = if reason == SOUND { Vec::new() } else { vec![code(reason).to_owned()] };
        if found.first() != wanted.first() {
            wrong.push(format!("{name}: {found:?}, not {wanted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let past = findings.iter().find(|f| f["picture"].to_string().contains("old.sip.zoo.test"));
    let past = past.unwrap_or_else(|| panic!("the running gateway was not asked: {findings:#?}"));
    assert_eq!((&past["mark"], &past["code"]), (&"warn".into(), &code("expired").into()));
    assert!(past["what"].as_str().unwrap().contains(" handshake of 127."), "{past:#}");
}

/// The configuration of a gateway that presents this.
fn own(pki: &Pki, folder: &Path, fqdn: &str, identity: &Identity) -> PathBuf {
    let files = identity.write(folder, fqdn).unwrap();
    let text = include_str!("../../../../../config/minimal-secured.toml").replace("umbra.contoso.test", fqdn);
    let text = text.replace("umbra.pem", files.certificate.to_str().unwrap());
    let text = text.replace("umbra.key", files.key.to_str().unwrap());
    let config = folder.join(format!("{fqdn}.toml"));
    std::fs::write(&config, text.replace("lab-root.pem", pki.root_file().to_str().unwrap())).unwrap();
    config
}

/// What is wrong with an exhibit as our own; `None`: nothing.
fn of_our_own(exhibit: &Exhibit) -> Option<&'static str> {
    match (exhibit.name, exhibit.as_server) {
        // Lync wants to read it.
        ("no-purpose", _) => Some("UMB-TLS007"),
        (_, SOUND) => None,
        (_, "untrusted_chain" | "issuer_missing" | "issuer_forged" | "self_signed") => Some("UMB-TLS016"),
        (_, "name_mismatch") => Some("UMB-TLS038"),
        (_, reason) => Some(code(reason)),
    }
}

#[test]
fn every_exhibit_of_our_own_is_found() {
    let folder = folder();
    let pki = Pki::open(&folder.path().join("pki")).unwrap();
    let mut wrong = Vec::new();
    for exhibit in EXHIBITS {
        let name = name_of(exhibit);
        let identity = exhibit.make(pki.ca(), &name).unwrap();
        let (exit, findings) = doctor(&own(&pki, folder.path(), &name, &identity));
        let is_trouble = |f: &&Value| f["mark"] == "fail" || f["mark"] == "warn";
        let codes = findings.iter().filter(is_trouble).map(|f| f["code"].as_str().unwrap());
        // Every certificate of a lab ends soon.
        let found: Vec<&str> =
            codes.filter(|code| code.starts_with("UMB-TLS") && *code != "UMB-TLS015").collect();
        let is_right = match of_our_own(exhibit) {
            None => found.is_empty() && exit == 0,
            Some(code) => found.contains(&code) && !found.contains(&"UMB-TLS009"),
        };
        if !is_right {
            wrong.push(format!("{}: exit {exit}, {found:?}, not {:?}", exhibit.name, of_our_own(exhibit)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
