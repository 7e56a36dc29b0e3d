//! The lab's zoo of certificates before the real binary: presented by clients, by servers that are called, and by servers
//! that a 302 names. Each refusal has its own reason in counter, log and call record; sound ones get their answer.

use std::collections::BTreeMap;
use std::time::Duration;

use lab::pki::{CertSpec, EXHIBITS, Exhibit, Identity, IdentityFiles, KeyKind, Pki, SOUND};
use serde_json::Value;

use super::place::{Answer, FQDN, Place, Seat, reasons};
use crate::harness::{metric_sum, umbra};

/// What a client presents.
struct Visitor {
    exhibit: &'static Exhibit,
    identity: Identity,
}

fn name_of(exhibit: &Exhibit) -> String {
    format!("{}.sip.zoo.test", exhibit.name)
}

fn visitors(place: &Place) -> Vec<Visitor> {
    let make = |exhibit: &'static Exhibit| Visitor {
        exhibit,
        identity: exhibit.make(place.pki.ca(), &name_of(exhibit)).unwrap(),
    };
    EXHIBITS.iter().map(make).collect()
}

/// Counted handshakes by result, of strangers and peers.
fn expected(results: impl Iterator<Item = &'static str>) -> BTreeMap<String, u64> {
    let mut counted = BTreeMap::new();
    for result in results.filter(|result| *result != SOUND) {
        *counted.entry(result.to_owned()).or_default() += 1;
    }
    counted
}

#[test]
fn every_exhibit_is_refused_or_let_in_as_it_must_be_when_it_connects() {
    let seats: Vec<Seat> = EXHIBITS.iter().map(|exhibit| Seat::new(&name_of(exhibit))).collect();
    let place = Place::start(&seats, "");
    for visitor in visitors(&place) {
        let answer = place.options(&visitor.identity);
        let is_in = answer.starts_with("SIP/2.0 200 ");
        assert_eq!(
            is_in,
            visitor.exhibit.as_client == SOUND,
            "{} ({}): {answer:?}\n{}",
            visitor.exhibit.name,
            visitor.exhibit.what,
            place.gateway.process.output()
        );
    }
    let wanted = expected(EXHIBITS.iter().map(|exhibit| exhibit.as_client));
    // The far end hears of its refusal before it is counted and logged.
    place.wait_until(|| reasons(&place.metrics(), |peer| peer == "unknown") == wanted);
    let told = place.refusals();
    let told = told.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let told: Vec<Value> = serde_json::from_str(told).unwrap_or_else(|error| panic!("{error}: {told}"));
    for exhibit in EXHIBITS.iter().filter(|exhibit| exhibit.as_client == "expired") {
        let name = name_of(exhibit);
        let found = told.iter().find(|refusal| refusal["certificate"].to_string().contains(&name));
        let found = found.unwrap_or_else(|| panic!("nothing is told of {name}: {told:#?}"));
        assert_eq!(found["reason"], "expired");
        assert!(found["certificate"]["not_after"].as_str().unwrap() < found["at"].as_str().unwrap());
    }
    let log = place.gateway.process.output();
    for reason in wanted.keys() {
        assert!(log.contains(reason.as_str()), "the log does not say {reason}:\n{log}");
    }
    for forbidden in ['\u{1b}', '\u{7}', '\0'] {
        assert!(!log.contains(forbidden), "{forbidden:?} of a certificate reached the log");
    }
    assert!(!log.lines().any(|line| line.starts_with("event=forged")), "a certificate wrote a log line");
}

#[test]
fn every_exhibit_is_refused_or_called_as_it_must_be_when_it_is_a_server_or_a_302_names_it() {
    let seats: Vec<Seat> = EXHIBITS.iter().map(|exhibit| Seat::new(&name_of(exhibit))).collect();
    let place = Place::start(&seats, "");
    for (number, visitor) in visitors(&place).iter().enumerate() {
        place.serve(number, &visitor.identity, Answer::Busy);
    }
    let caller = place.pool();
    // Redirected calls first: a server that failed a call is left out for a while, but not where it is the only one.
    for pilot in [Place::redirecting as fn(usize) -> String, Place::calling] {
        for (number, exhibit) in EXHIBITS.iter().enumerate() {
            let outcome = place.block_on(caller.place_call(place.call(&pilot(number)))).unwrap();
            let is_reached = outcome.status == 486;
            assert_eq!(
                is_reached,
                exhibit.as_server == SOUND,
                "{} ({}): {} {}\n{}",
                exhibit.name,
                exhibit.what,
                outcome.status,
                outcome.reason,
                place.gateway.process.output()
            );
            let records = place.gateway.wait_for_records(1, Duration::from_secs(10));
            drop(records);
            let record = place.record(&outcome.call_id);
            let reason = format!("{}: ", exhibit.as_server);
            assert!(
                is_reached || record.contains(&reason) && record.contains("UMB-"),
                "{}: the record does not say {reason:?}:\n{record}",
                exhibit.name
            );
            assert!(!record.contains("\\u001b") && !record.contains('\u{1b}'), "{record}");
        }
    }
    // Twice each: redirected to, and called.
    let wanted = EXHIBITS.iter().map(|exhibit| exhibit.as_server);
    let wanted = expected(wanted.clone().chain(wanted));
    assert_eq!(reasons(&place.metrics(), |peer| peer.ends_with(".sip.zoo.test")), wanted);
    let log = place.gateway.process.output();
    for reason in wanted.keys() {
        assert!(log.contains(reason.as_str()), "the log does not say {reason}:\n{log}");
    }
}

#[test]
fn a_list_of_revoked_certificates_counts_from_the_reload_on() {
    let (good, bad) = ("good.sip.zoo.test", "bad.sip.zoo.test");
    let place = Place::start(&[Seat::new(good), Seat::new(bad)], "crls = [\"revoked.crl\"]\n");
    let ca = place.pki.ca();
    let made = |name: &str| ca.issue(&CertSpec::host(name).key(KeyKind::EcdsaP256)).unwrap();
    let (good, bad) = (made(good), made(bad));
    let is_in = |identity: &Identity| place.options(identity).starts_with("SIP/2.0 200 ");
    assert!(is_in(&good) && is_in(&bad), "{}", place.gateway.process.output());
    place.write("revoked.crl", &ca.revocation_list(&[&bad], 7).unwrap());
    place.reload(1.0);
    assert!(is_in(&good) && !is_in(&bad), "{}", place.gateway.process.output());
    place.wait_until(|| reasons(&place.metrics(), |_| true).get("revoked") == Some(&1));
    place.wait_until(|| place.gateway.process.output().contains("UMB-TLS030"));
    // A list that cannot be read is refused with the whole reload, and the one in force stays in force.
    place.write("revoked.crl", "no list");
    place.reload(0.0);
    assert!(is_in(&good) && !is_in(&bad), "{}", place.gateway.process.output());
    assert!(place.gateway.process.output().contains("UMB-TLS035"), "{}", place.gateway.process.output());
    // Out of date under the default policy: nobody can say, so nobody is let in.
    place.write("revoked.crl", &ca.revocation_list(&[], -1).unwrap());
    place.reload(1.0);
    assert!(!is_in(&good), "{}", place.gateway.process.output());
    place.wait_until(|| place.gateway.process.output().contains("UMB-TLS031"));
}

#[test]
fn the_end_of_the_own_certificate_is_published() {
    let place = Place::start(&[Seat::new("any.sip.zoo.test")], "");
    let name = format!(
        "umbra_certificate_expiry_timestamp_seconds{{name=\"{FQDN}\",subject=\"O=Umbra lab, CN={FQDN}\",file=\"{}\",used_for=\"listener,peers\"}}",
        place.pki.folder().join(format!("{FQDN}.pem")).display()
    );
    // The ports are open a moment before.
    place.wait_until(|| place.metrics().contains(&name));
    let metrics = place.metrics();
    let line = metrics.lines().find(|line| line.starts_with(&name)).unwrap_or_else(|| panic!("{metrics}"));
    let ends: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let days = 24 * 3600;
    assert!((now + 13 * days..=now + 14 * days).contains(&ends), "{line}");
    assert!((metric_sum(&metrics, "umbra_tls_weak_peers")).abs() < f64::EPSILON, "{metrics}");
}

#[test]
fn changed_files_are_taken_without_a_signal_and_a_bad_pair_is_not() {
    let place = Place::start(&[Seat::new("any.sip.zoo.test")], "");
    let caller = place.pool();
    let options = || place.block_on(caller.options(&format!("sip:{FQDN}"))).unwrap();
    assert_eq!(options(), 200);
    let first = place.presented();
    let own = || place.pki.ca().issue(&CertSpec::host(FQDN).key(KeyKind::EcdsaP256)).unwrap();
    let (second, third) = (own(), own());
    second.write(place.pki.folder(), FQDN).unwrap();
    place.wait_until(|| place.presented() == *second.chain());
    assert_ne!(first, second.chain());
    assert_eq!(options(), 200, "a connection that stands goes on");
    // The certificate of one pair with the key of another, then one for somebody else.
    std::fs::write(place.pki.folder().join(format!("{FQDN}.pem")), third.chain_pem()).unwrap();
    let refused = |count| {
        let log = place.gateway.process.output();
        log.matches("certificate_refused").count() == count
    };
    place.wait_until(|| refused(1));
    assert_eq!(place.presented(), second.chain());
    let other = place.pki.ca().issue(&CertSpec::host("other.gate.test").key(KeyKind::EcdsaP256)).unwrap();
    other.write(place.pki.folder(), FQDN).unwrap();
    place.wait_until(|| refused(2));
    assert_eq!(place.presented(), second.chain());
    third.write(place.pki.folder(), FQDN).unwrap();
    place.wait_until(|| place.presented() == *third.chain());
    assert_eq!(options(), 200);
}

#[test]
fn the_listener_and_each_peer_get_the_certificate_that_is_meant_for_them() {
    let own = |pki: &Pki, name: &str| {
        let spec = CertSpec::host(FQDN).key(KeyKind::EcdsaP256);
        let files = pki.issue_files(name, &spec).unwrap();
        let (certificate, key) = (files.certificate.display(), files.key.display());
        format!(
            "\n[[certificate]]\nname = \"{name}\"\ncertificate = \"{certificate}\"\nprivate_key = \"{key}\"\n"
        )
    };
    let (um, other) = ("um.sip.zoo.test", "other.sip.zoo.test");
    let seats = [Seat::new(um).with("certificate = \"exchange\"\n"), Seat::new(other)];
    let both = |pki: &Pki| own(pki, "lync") + &own(pki, "exchange");
    let place = Place::start_with(&seats, "certificate = \"lync\"\n", both);
    let chain = |name: &str| {
        let files = IdentityFiles {
            certificate: place.pki.folder().join(format!("{name}.pem")),
            key: place.pki.folder().join(format!("{name}.key")),
        };
        Identity::load(name, &files).unwrap().chain().to_vec()
    };
    assert_eq!(place.presented(), chain("lync"));
    let caller = place.pool();
    for (number, (fqdn, name)) in [(um, "exchange"), (other, FQDN)].into_iter().enumerate() {
        let server = place.pki.ca().issue(&CertSpec::host(fqdn).key(KeyKind::EcdsaP256)).unwrap();
        place.serve(number, &server, Answer::Busy);
        let outcome = place.block_on(caller.place_call(place.call(&Place::calling(number)))).unwrap();
        assert_eq!(outcome.status, 486, "{}", place.gateway.process.output());
        assert_eq!(place.presented_to(number), Some(chain(name)), "{fqdn} sees another certificate");
    }
    // A look shows what a call would.
    let config = place.gateway.folder.path().join("umbra.toml");
    let looked = umbra().args(["doctor", "tls", "-c"]).arg(config).output().unwrap();
    assert!(String::from_utf8_lossy(&looked.stdout).contains("our certificate exchange: serverAuth"));
    for (number, name) in ["exchange", FQDN].into_iter().enumerate() {
        assert_eq!(
            place.presented_to(number),
            Some(chain(name)),
            "a look shows {number} another certificate"
        );
    }
    // They all end soon: each is told with its file and with those who see it.
    for (name, used_for) in [(FQDN, "peers"), ("lync", "listener"), ("exchange", um)] {
        let start = format!("umbra_certificate_expiry_timestamp_seconds{{name=\"{name}\",");
        let (file, used_for) = (format!("{name}.pem"), format!("used_for=\"{used_for}\""));
        let is_it = |line: &str| line.contains(&file) && line.contains(&used_for);
        let told = |line: &str| {
            line.contains("UMB-TLS015")
                && line.contains("O=Umbra lab")
                && is_it(&line.replace("\":\"", "=\""))
        };
        place.wait_until(|| place.metrics().lines().any(|line| line.starts_with(&start) && is_it(line)));
        place.wait_until(|| place.gateway.process.output().lines().any(told));
    }
}
