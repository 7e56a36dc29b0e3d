//! Real certificates of a lab authority, good and bad, judged as the gateway would.

use std::path::PathBuf;

use lab::pki::{CertSpec, LabCa, Life, Naming, Purpose};
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;

use super::super::finding::Mark;
use super::super::{peers, testing};
use super::*;
use crate::tls::probe::Request;
use crate::tls::{Judge, KnownPeers};

struct Place {
    ca: LabCa,
    judge: Judge,
    now: SystemTime,
}

fn place() -> Place {
    let ca = LabCa::create("root").unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(ca.root().clone()).unwrap();
    let judge = Judge::new(roots, KnownPeers::new(["cas01.contoso.test".to_owned()], []));
    Place { ca, judge, now: SystemTime::now() }
}

fn presented(place: &Place, chain: &[CertificateDer<'_>]) -> Presented {
    let verdict = place.judge.judge(chain, "cas01.contoso.test", place.now);
    Presented::of(chain, verdict, place.now).unwrap()
}

fn marks(found: &[Finding]) -> Vec<(Mark, &'static str)> {
    found.iter().map(|finding| (finding.mark, finding.code.as_str())).collect()
}

/// The findings about a server that presents this.
fn judged(place: &Place, spec: &CertSpec) -> Vec<(Mark, &'static str)> {
    let identity = place.ca.issue(spec).unwrap();
    marks(&of_peer("cas01", &presented(place, identity.chain())))
}

#[test]
fn a_good_certificate_is_trusted_and_its_end_is_near_in_a_lab() {
    let found = judged(&place(), &CertSpec::host("cas01.contoso.test"));
    assert_eq!(found, [(Mark::Ok, "UMB-TLS003"), (Mark::Warn, "UMB-TLS050")]);
}

#[test]
fn each_bad_certificate_is_found_by_its_code() {
    let place = place();
    let host = || CertSpec::host("cas01.contoso.test");
    let cases = [
        (CertSpec::host("cas09.contoso.test"), "UMB-TLS003"),
        (host().naming(Naming::WildcardSubject), "UMB-TLS004"),
        (host().life(Life::Expired), "UMB-TLS005"),
        (host().life(Life::NotYet), "UMB-TLS047"),
        (host().purpose(Purpose::ClientOnly), "UMB-TLS007"),
    ];
    for (spec, code) in cases {
        let found = judged(&place, &spec);
        assert!(found.contains(&(Mark::Fail, code)), "{code}: {found:?}");
    }
    let foreign = LabCa::create("somebody else").unwrap().issue(&host()).unwrap();
    let found = of_peer("cas01", &presented(&place, foreign.chain()));
    assert_eq!(found[0].mark, Mark::Fail, "{found:?}");
}

#[test]
fn what_a_certificate_says_makes_its_flaws() {
    let place = place();
    let identity = place.ca.issue(&CertSpec::host("cas01.contoso.test")).unwrap();
    let mut facts = CertificateFacts::read(&identity.chain()[0], place.now).unwrap();
    facts.days_left = 400;
    assert_eq!(flaws(&facts, true), []);
    facts.key.is_weak = true;
    facts.signature.is_weak = true;
    facts.signature.is_pss = true;
    facts.has_crl_point = false;
    let codes = |is_taken| flaws(&facts, is_taken).iter().map(|(code, _, _)| *code).collect::<Vec<_>>();
    let excepted = [codes::WEAK_KEY, codes::WEAK_SIGNATURE, codes::PSS_SIGNATURE, codes::NO_CRL_POINT];
    assert_eq!(codes(true), excepted);
    assert_eq!(codes(false), excepted[2..], "what is refused for it is told by the verdict");
    facts.has_crl_point = true;
    assert!(virtues(&facts).contains("RSA 2048") && virtues(&facts).contains("ends in 400 days"));
}

#[test]
fn our_own_certificate_is_told_and_a_broken_or_missing_one_is_never_good() {
    let place = place();
    let ours = place.ca.issue(&CertSpec::host("umbra.contoso.test")).unwrap();
    let read = |der: &[u8]| marks(&own(&[("ours".to_owned(), vec![CertificateFacts::read(der, place.now)])]));
    assert_eq!(read(&ours.chain()[0]), [(Mark::Ok, "UMB-TLS011"), (Mark::Ok, "UMB-TLS007")]);
    assert_eq!(read(b"no certificate"), [(Mark::Fail, "UMB-TLS009")]);
    assert_eq!(marks(&own(&[("ours".to_owned(), Vec::new())])), [(Mark::Fail, "UMB-TLS009")]);
    assert_eq!(marks(&own(&[])), [(Mark::Skip, "UMB-TLS011")]);
}

#[test]
fn a_peer_that_showed_nothing_is_skipped_with_the_reason() {
    let peers = peers::of(&testing::compiled("").policy);
    let target = "127.0.0.30:5061".parse().unwrap();
    let visit = Visit {
        peer: 0,
        target,
        looks: Vec::new(),
        request: Request::Unknown,
        presented: None,
        offers: None,
    };
    let found = of_peers(&peers, &[visit]);
    assert_eq!(marks(&found), [(Mark::Skip, "UMB-TLS003")]);
    assert!(found[0].what.contains("the time was up"), "{found:?}");
}

#[test]
fn oauth_certificates_carry_the_domain_and_are_the_same_everywhere() {
    let (place, folder) = (place(), tempfile::tempdir().unwrap());
    let write = |stem: &str, spec: &CertSpec| -> PathBuf {
        place.ca.issue(spec).unwrap().write(folder.path(), stem).unwrap().certificate
    };
    let good = write("fe01", &CertSpec::host("contoso.test"));
    let found = |files: &[PathBuf]| marks(&oauth(files, "contoso.test", place.now));
    let (rules, same) = ("UMB-LYNC004", "UMB-LYNC005");
    assert_eq!(
        found(&[good.clone(), good.clone()]),
        [(Mark::Ok, rules), (Mark::Ok, rules), (Mark::Ok, same)]
    );
    assert_eq!(found(std::slice::from_ref(&good)), [(Mark::Ok, rules), (Mark::Skip, same)]);
    let renewed = write("fe02", &CertSpec::host("contoso.test"));
    assert_eq!(found(&[good.clone(), renewed])[2], (Mark::Fail, same));
    let named = write("fe03", &CertSpec::host("fe03.contoso.test"));
    assert_eq!(found(&[named])[0], (Mark::Fail, rules));
    let old = write("fe04", &CertSpec::host("contoso.test").life(Life::Expired));
    assert_eq!(found(&[old])[0], (Mark::Fail, rules));
    assert_eq!(found(&[folder.path().join("missing.pem")])[0], (Mark::Skip, rules));
    assert_eq!(found(&[]), [(Mark::Skip, rules)]);
}

#[test]
fn a_life_that_just_began_hangs_on_the_clock() {
    let place = place();
    let identity = place.ca.issue(&CertSpec::host("cas01.contoso.test")).unwrap();
    let facts = CertificateFacts::read(&identity.chain()[0], place.now).unwrap();
    let begin = OffsetDateTime::parse(&facts.not_before, &Rfc3339).map(SystemTime::from).unwrap();
    let named = [("cas01".to_owned(), &facts)];
    assert_eq!(marks(&edges(&named, begin + Duration::from_secs(60))), [(Mark::Warn, "UMB-TIME002")]);
    assert_eq!(marks(&edges(&named, begin + 2 * FRESH)), [(Mark::Ok, "UMB-TIME002")]);
    let last_day = CertificateFacts { days_left: 0, ..facts.clone() };
    assert_eq!(
        marks(&edges(&[("cas01".to_owned(), &last_day)], begin + 2 * FRESH)),
        [(Mark::Warn, "UMB-TIME002")]
    );
    assert_eq!(marks(&edges(&[], begin)), [(Mark::Skip, "UMB-TIME002")]);
}
