//! The lab's zoo of certificates against both verifiers, over an in-memory pipe.

use lab::pki::{CertSpec, EXHIBITS, Exhibit, Identity as LabIdentity, KeyKind, LabCa, SOUND};
use rustls::RootCertStore;
use rustls::sign::CertifiedKey;

use super::{HandshakeFailure, Identity, Judge, KnownPeers, Revocations, Spoken, TlsContext, VerifiedPeer};

const GATEWAY: &str = "umbra.gate.test";

fn host(exhibit: &Exhibit) -> String {
    format!("{}.sip.zoo.test", exhibit.name)
}

fn roots(ca: &LabCa) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(ca.root().clone()).unwrap();
    roots
}

/// As `Identity::load` would, without its looks at the certificate: it is the far end that must refuse.
fn identity(made: &LabIdentity) -> Identity {
    let key = crate::tls::provider().key_provider.load_private_key(made.key()).unwrap();
    Identity::for_tests(CertifiedKey::new(made.chain().to_vec(), key))
}

fn context_with(ca: &LabCa, made: &LabIdentity, revocations: Revocations) -> TlsContext {
    let known = KnownPeers::new(EXHIBITS.iter().map(host).chain([GATEWAY.to_owned()]), []);
    let judge = Judge::new(roots(ca), known).with_revocations(revocations);
    TlsContext::judged_by(judge, &identity(made), &Spoken::default()).unwrap()
}

fn context(ca: &LabCa, made: &LabIdentity) -> TlsContext {
    context_with(ca, made, Revocations::default())
}

fn ordinary(ca: &LabCa, name: &str) -> LabIdentity {
    ca.issue(&CertSpec::host(name).key(KeyKind::EcdsaP256)).unwrap()
}

async fn shake(
    server: &TlsContext,
    client: &TlsContext,
    wanted: &str,
) -> (Result<VerifiedPeer, HandshakeFailure>, Result<VerifiedPeer, HandshakeFailure>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let accept = async { server.accept(near).await.map(|(_, _, peer)| peer) };
    let connect = async { client.connect(wanted, far).await.map(|(_, _, peer)| peer) };
    tokio::join!(accept, connect)
}

fn label(outcome: &Result<VerifiedPeer, HandshakeFailure>) -> &'static str {
    match outcome {
        Ok(_) => SOUND,
        Err(failure) => failure.label(),
    }
}

#[tokio::test]
async fn every_exhibit_meets_what_it_must_in_both_directions() {
    let ca = LabCa::create("zoo root").unwrap();
    let gateway = context(&ca, &ordinary(&ca, GATEWAY));
    let mut wrong = Vec::new();
    for exhibit in EXHIBITS {
        let peer = context(&ca, &exhibit.make(&ca, &host(exhibit)).unwrap());
        let (as_client, _) = shake(&gateway, &peer, GATEWAY).await;
        let (_, as_server) = shake(&peer, &gateway, &host(exhibit)).await;
        let met = (label(&as_client), label(&as_server));
        if met != (exhibit.as_client, exhibit.as_server) {
            wrong.push(format!(
                "{} ({}): {met:?}, not {:?}; {as_client:?}; {as_server:?}",
                exhibit.name,
                exhibit.what,
                (exhibit.as_client, exhibit.as_server)
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_reason_of_the_zoo_has_a_code_that_explains_it() {
    use super::PeerRejection as P;
    let reasons: [P; 8] = [
        P::SelfSigned,
        P::IssuerForged,
        P::NotACa,
        P::PathTooLong,
        P::NameConstraint,
        P::OldVersion,
        P::WeakKey(1024),
        P::WeakSignature("SHA-1".into()),
    ];
    let codes: std::collections::BTreeSet<_> = reasons.iter().map(|reason| reason.code().as_str()).collect();
    assert_eq!(codes.len(), reasons.len());
}

/// Files with these lists, each as good for so many days.
fn lists(ca: &LabCa, revoked: &[&LabIdentity], days: i64) -> (tempfile::TempDir, Vec<std::path::PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.crl");
    std::fs::write(&path, ca.revocation_list(revoked, days).unwrap()).unwrap();
    (folder, vec![path])
}

async fn met_with(
    ca: &LabCa,
    peer: &LabIdentity,
    revocations: impl Fn() -> Revocations,
) -> (&'static str, &'static str) {
    let gateway = context_with(ca, &ordinary(ca, GATEWAY), revocations());
    let name = peer.name().to_owned();
    let peer = context(ca, peer);
    let (as_client, _) = shake(&gateway, &peer, GATEWAY).await;
    let (_, as_server) = shake(&peer, &gateway, &name).await;
    (label(&as_client), label(&as_server))
}

#[tokio::test]
async fn a_revoked_peer_is_refused_whatever_the_policy_and_the_age_of_the_list() {
    use super::CrlPolicy::{Prefer, Require};
    let ca = LabCa::create("zoo root").unwrap();
    let (bad, good) = (ordinary(&ca, "ordinary.sip.zoo.test"), ordinary(&ca, "mixed-case.sip.zoo.test"));
    for (days, policy, good_meets) in
        [(7, Require, SOUND), (7, Prefer, SOUND), (-1, Prefer, SOUND), (-1, Require, "revocation_unknown")]
    {
        let (_folder, files) = lists(&ca, &[&bad], days);
        let load = || Revocations::load(&files, policy).unwrap();
        let refused = if days > 0 || policy == Prefer { "revoked" } else { "revocation_unknown" };
        assert_eq!(met_with(&ca, &bad, load).await, (refused, refused), "{days} {policy:?}");
        assert_eq!(met_with(&ca, &good, load).await, (good_meets, good_meets), "{days} {policy:?}");
    }
}

#[tokio::test]
async fn without_a_list_of_its_issuer_the_policy_decides() {
    use super::CrlPolicy::{Prefer, Require};
    let (ca, other) = (LabCa::create("zoo root").unwrap(), LabCa::create("another root").unwrap());
    let peer = ordinary(&ca, "ordinary.sip.zoo.test");
    let (_folder, files) = lists(&other, &[], 7);
    let require = || Revocations::load(&files, Require).unwrap();
    assert_eq!(met_with(&ca, &peer, require).await, ("revocation_unknown", "revocation_unknown"));
    let prefer = || Revocations::load(&files, Prefer).unwrap();
    assert_eq!(met_with(&ca, &peer, prefer).await, (SOUND, SOUND));
    // A list in the issuer's name that it did not sign says nothing good under either policy.
    let (_folder, forged) = lists(&LabCa::create("zoo root").unwrap(), &[], 7);
    let prefer = || Revocations::load(&forged, Prefer).unwrap();
    assert_eq!(met_with(&ca, &peer, prefer).await, ("revocation_unknown", "revocation_unknown"));
}

#[test]
fn an_unreadable_list_is_an_error_or_left_out_by_the_policy() {
    use super::CrlPolicy::{Prefer, Require};
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage.crl");
    std::fs::write(&garbage, b"no list").unwrap();
    for path in [garbage, folder.path().join("missing.crl")] {
        let files = std::slice::from_ref(&path);
        assert!(Revocations::load(files, Require).is_err(), "{}", path.display());
        assert!(Revocations::load(files, Prefer).is_ok(), "{}", path.display());
    }
}

#[test]
fn lists_are_bounded_in_number_and_length() {
    let ca = LabCa::create("zoo root").unwrap();
    let (folder, files) = lists(&ca, &[], 7);
    let one = std::fs::read_to_string(&files[0]).unwrap();
    std::fs::write(&files[0], one.repeat(64)).unwrap();
    assert!(Revocations::load(&files, super::CrlPolicy::Require).is_ok());
    std::fs::write(&files[0], one.repeat(65)).unwrap();
    assert!(Revocations::load(&files, super::CrlPolicy::Require).is_err());
    let long = folder.path().join("long.crl");
    std::fs::File::create(&long).unwrap().set_len(16 * 1024 * 1024 + 1).unwrap();
    assert!(matches!(super::load_crls(&long), Err(super::TlsError::TooLong(..))));
}

#[test]
fn lists_are_read_as_pem_and_as_der() {
    use rustls_pki_types::pem::PemObject;
    let ca = LabCa::create("zoo root").unwrap();
    let (folder, files) = lists(&ca, &[], 7);
    let der = rustls_pki_types::CertificateRevocationListDer::from_pem_file(&files[0]).unwrap();
    let path = folder.path().join("root.der.crl");
    std::fs::write(&path, der.as_ref()).unwrap();
    for file in [&files[0], &path] {
        let found = super::load_crls(file).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].next_update.is_some_and(|next| next > std::time::SystemTime::now()));
    }
}
