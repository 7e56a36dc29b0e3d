//! Handshakes over an in-memory pipe, with certificates made on the spot.

use std::path::Path;

use b2bua::quirks::{Quirk, QuirkSet};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use rustls::ClientConfig;
use rustls::version::TLS12;
use rustls_pki_types::ServerName;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

use super::*;
use crate::tls::PeerRejection;

struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

struct Host {
    common_name: Option<&'static str>,
    sans: Vec<&'static str>,
    purposes: Vec<ExtendedKeyUsagePurpose>,
    expired: bool,
}

impl Host {
    fn san(name: &'static str) -> Self {
        Self {
            common_name: Some(name),
            sans: vec![name],
            purposes: vec![ExtendedKeyUsagePurpose::ServerAuth],
            expired: false,
        }
    }
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test root");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("root.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn issue(&self, host: &Host) -> Identity {
        let key = KeyPair::generate().unwrap();
        let sans: Vec<String> = host.sans.iter().map(|san| (*san).to_owned()).collect();
        let mut params = CertificateParams::new(sans).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(name) = host.common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.extended_key_usages.clone_from(&host.purposes);
        if host.expired {
            params.not_before = date_time_ymd(2010, 1, 1);
            params.not_after = date_time_ymd(2011, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path("host.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("host.key"), key.serialize_pem()).unwrap();
        // Not through `Identity::load`: a wildcard subject must reach the far end to be refused there.
        let chain = vec![certificate.der().clone()];
        let key = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let certified = rustls::sign::CertifiedKey::from_der(chain, key, &crate::tls::provider()).unwrap();
        Identity::for_tests(certified)
    }

    fn roots(&self) -> RootCertStore {
        load_roots(&[self.path("root.pem")]).unwrap()
    }

    fn context(&self, host: &Host) -> TlsContext {
        let known = KnownPeers::new(
            ["pool01.contoso.test", "fe01.contoso.test", "umbra.contoso.test"].map(String::from),
            ["127.0.0.9".parse().unwrap()],
        );
        TlsContext::build(&self.issue(host), self.roots(), &Spoken::default(), known).unwrap()
    }
}

type Seen = (Result<VerifiedPeer, HandshakeFailure>, Result<VerifiedPeer, HandshakeFailure>);

/// What the server learnt and what the client learnt.
async fn shake(server: &TlsContext, client: &TlsContext, wanted: &str) -> Seen {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let accept = async { server.accept(near).await.map(|(_, _, peer)| peer) };
    let connect = async { client.connect(wanted, far).await.map(|(_, _, peer)| peer) };
    tokio::join!(accept, connect)
}

fn gateway(ca: &Ca) -> TlsContext {
    ca.context(&Host::san("umbra.contoso.test"))
}

fn rejection(outcome: Result<VerifiedPeer, HandshakeFailure>) -> PeerRejection {
    match outcome {
        Err(HandshakeFailure::Rejected(rejection)) => rejection,
        other => panic!("not a rejection: {other:?}"),
    }
}

#[tokio::test]
async fn a_server_purpose_certificate_is_accepted_from_a_client() {
    let ca = Ca::new();
    let client = ca.context(&Host::san("pool01.contoso.test"));
    let (inbound, outbound) = shake(&gateway(&ca), &client, "umbra.contoso.test").await;
    assert_eq!(inbound.unwrap().names(), ["pool01.contoso.test"]);
    assert_eq!(outbound.unwrap().names(), ["umbra.contoso.test"]);
}

#[tokio::test]
async fn a_client_purpose_certificate_is_accepted_from_a_client_but_not_from_a_server() {
    let ca = Ca::new();
    let host =
        Host { purposes: vec![ExtendedKeyUsagePurpose::ClientAuth], ..Host::san("pool01.contoso.test") };
    let client = ca.context(&host);
    let (inbound, _) = shake(&gateway(&ca), &client, "umbra.contoso.test").await;
    assert_eq!(inbound.unwrap().names(), ["pool01.contoso.test"]);
    let (_, outbound) = shake(&client, &gateway(&ca), "pool01.contoso.test").await;
    assert_eq!(rejection(outbound), PeerRejection::WrongPurpose);
}

#[tokio::test]
async fn a_purpose_that_fits_nobody_is_refused() {
    let ca = Ca::new();
    let host =
        Host { purposes: vec![ExtendedKeyUsagePurpose::CodeSigning], ..Host::san("pool01.contoso.test") };
    let (inbound, _) = shake(&gateway(&ca), &ca.context(&host), "umbra.contoso.test").await;
    assert_eq!(rejection(inbound), PeerRejection::WrongPurpose);
}

#[tokio::test]
async fn the_common_name_counts_only_without_a_san() {
    let ca = Ca::new();
    let bare = Host { sans: vec![], ..Host::san("pool01.contoso.test") };
    let (inbound, _) = shake(&gateway(&ca), &ca.context(&bare), "umbra.contoso.test").await;
    assert_eq!(inbound.unwrap().names(), ["pool01.contoso.test"]);
    let shadowed = Host { sans: vec!["other.test"], ..Host::san("pool01.contoso.test") };
    let (inbound, _) = shake(&gateway(&ca), &ca.context(&shadowed), "umbra.contoso.test").await;
    assert_eq!(rejection(inbound), PeerRejection::UnknownName(vec!["other.test".into()]));
}

#[tokio::test]
async fn a_wildcard_is_fine_among_the_sans_and_refused_as_subject() {
    let ca = Ca::new();
    let san = Host {
        sans: vec!["*.contoso.test"],
        common_name: Some("x.contoso.test"),
        ..Host::san("x.contoso.test")
    };
    let (inbound, _) = shake(&gateway(&ca), &ca.context(&san), "umbra.contoso.test").await;
    assert!(inbound.unwrap().names().contains(&String::from("pool01.contoso.test")));
    let subject = Host { sans: vec!["pool01.contoso.test"], ..Host::san("*.contoso.test") };
    let (inbound, _) = shake(&gateway(&ca), &ca.context(&subject), "umbra.contoso.test").await;
    assert_eq!(rejection(inbound), PeerRejection::WildcardSubject("*.contoso.test".into()));
}

#[tokio::test]
async fn a_peer_may_be_known_by_the_address_in_its_san() {
    let ca = Ca::new();
    let host = Host { sans: vec!["127.0.0.9"], ..Host::san("PBX") };
    let (inbound, _) = shake(&gateway(&ca), &ca.context(&host), "umbra.contoso.test").await;
    assert_eq!(inbound.unwrap().names(), ["127.0.0.9"]);
}

#[tokio::test]
async fn a_stranger_of_our_own_authority_is_refused_by_name() {
    let ca = Ca::new();
    let (inbound, _) =
        shake(&gateway(&ca), &ca.context(&Host::san("evil.contoso.test")), "umbra.contoso.test").await;
    assert_eq!(rejection(inbound), PeerRejection::UnknownName(vec!["evil.contoso.test".into()]));
}

#[tokio::test]
async fn an_expired_certificate_is_refused_in_both_directions() {
    let ca = Ca::new();
    let old = ca.context(&Host { expired: true, ..Host::san("pool01.contoso.test") });
    let (inbound, _) = shake(&gateway(&ca), &old, "umbra.contoso.test").await;
    assert_eq!(rejection(inbound), PeerRejection::Expired);
    let (_, outbound) = shake(&old, &gateway(&ca), "pool01.contoso.test").await;
    assert_eq!(rejection(outbound), PeerRejection::Expired);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_in_both_directions() {
    let (ours, theirs) = (Ca::new(), Ca::new());
    let known = KnownPeers::new([String::from("umbra.contoso.test")], []);
    let impostor = TlsContext::build(
        &theirs.issue(&Host::san("pool01.contoso.test")),
        ours.roots(),
        &Spoken::default(),
        known,
    )
    .unwrap();
    let (inbound, _) = shake(&gateway(&ours), &impostor, "umbra.contoso.test").await;
    assert_eq!(rejection(inbound), PeerRejection::IssuerForged);
    let (_, outbound) = shake(&impostor, &gateway(&ours), "pool01.contoso.test").await;
    assert_eq!(rejection(outbound), PeerRejection::IssuerForged);
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_with_its_own_reason() {
    let ca = Ca::new();
    let server = gateway(&ca);
    let bare = ClientConfig::builder_with_provider(crate::tls::provider())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_root_certificates(ca.roots())
        .with_no_client_auth();
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("umbra.contoso.test").unwrap();
    let connector = TlsConnector::from(Arc::new(bare));
    let (inbound, outbound) = tokio::join!(server.accept(near), connector.connect(name, far));
    assert_eq!(
        inbound.map(|(_, _, peer)| peer).unwrap_err(),
        HandshakeFailure::Rejected(PeerRejection::NoCertificate)
    );
    assert!(outbound.is_err());
}

#[tokio::test]
async fn a_connection_for_one_name_is_not_taken_for_another() {
    let ca = Ca::new();
    let (_, outbound) =
        shake(&ca.context(&Host::san("pool01.contoso.test")), &gateway(&ca), "fe01.contoso.test").await;
    assert_eq!(
        rejection(outbound),
        PeerRejection::NameMismatch {
            expected: "fe01.contoso.test".into(),
            presented: vec!["pool01.contoso.test".into()]
        }
    );
}

#[tokio::test]
async fn bytes_that_are_not_tls_are_a_protocol_failure() {
    let ca = Ca::new();
    let (near, mut far) = tokio::io::duplex(1024);
    let server = gateway(&ca);
    let talk = async {
        tokio::io::AsyncWriteExt::write_all(&mut far, b"OPTIONS sip:x SIP/2.0\r\n\r\n").await.unwrap();
    };
    let (inbound, ()) = tokio::join!(server.accept(near), talk);
    assert_eq!(inbound.map(|_| ()).unwrap_err().label(), "protocol");
}

/// The gateway, with quirks off for the pool.
fn strict(ca: &Ca, off: Quirk) -> TlsContext {
    let known = KnownPeers::new(["pool01.contoso.test", "fe01.contoso.test"].map(String::from), [])
        .without("Pool01.contoso.test", QuirkSet::from_iter([off]));
    let host = Host::san("umbra.contoso.test");
    TlsContext::build(&ca.issue(&host), ca.roots(), &Spoken::default(), known).unwrap()
}

#[tokio::test]
async fn what_is_tolerated_of_a_certificate_is_told_and_refused_where_the_quirk_is_off() {
    let ca = Ca::new();
    let pool = || Host {
        purposes: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        ..Host::san("pool01.contoso.test")
    };
    let cases = [
        (Quirk::ServerAuthClient, Host::san("pool01.contoso.test")),
        (Quirk::CommonName, Host { sans: Vec::new(), ..pool() }),
        (Quirk::WildcardSan, Host { sans: vec!["*.contoso.test"], ..pool() }),
    ];
    for (quirk, host) in cases {
        let client = ca.context(&host);
        let (inbound, _) = shake(&gateway(&ca), &client, "umbra.contoso.test").await;
        assert_eq!(inbound.unwrap().tolerated(), QuirkSet::from_iter([quirk]), "{quirk:?}");
        let (inbound, _) = shake(&strict(&ca, quirk), &client, "umbra.contoso.test").await;
        match quirk {
            Quirk::ServerAuthClient => assert_eq!(rejection(inbound), PeerRejection::WrongPurpose),
            // Behind a wildcard another peer may stand, for which the quirk is on.
            Quirk::WildcardSan => assert_eq!(inbound.unwrap().names(), ["fe01.contoso.test"]),
            _ => assert!(matches!(rejection(inbound), PeerRejection::UnknownName(_)), "{quirk:?}"),
        }
    }
    let (inbound, _) = shake(&gateway(&ca), &ca.context(&pool()), "umbra.contoso.test").await;
    assert!(inbound.unwrap().tolerated().is_empty(), "nothing had to be tolerated");
}

#[tokio::test]
async fn a_server_for_which_a_quirk_is_off_is_not_believed_either() {
    let ca = Ca::new();
    for (quirk, sans) in [(Quirk::CommonName, vec![]), (Quirk::WildcardSan, vec!["*.contoso.test"])] {
        let server = ca.context(&Host { sans, ..Host::san("pool01.contoso.test") });
        let (_, outbound) = shake(&server, &gateway(&ca), "pool01.contoso.test").await;
        assert_eq!(outbound.unwrap().tolerated(), QuirkSet::from_iter([quirk]));
        let (_, outbound) = shake(&server, &strict(&ca, quirk), "pool01.contoso.test").await;
        assert!(matches!(rejection(outbound), PeerRejection::NameMismatch { .. }), "{quirk:?}");
    }
}

#[test]
fn a_key_of_another_certificate_is_refused_when_loading() {
    let ca = Ca::new();
    ca.issue(&Host::san("pool01.contoso.test"));
    std::fs::write(ca.path("other.key"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    assert!(Identity::load(&ca.path("host.pem"), &ca.path("host.key")).is_ok());
    let mismatch = Identity::load(&ca.path("host.pem"), &ca.path("other.key"));
    assert!(matches!(mismatch, Err(TlsError::KeyMismatch { .. })), "{mismatch:?}");
}

#[test]
fn missing_empty_and_swapped_files_are_named_in_the_error() {
    let ca = Ca::new();
    ca.issue(&Host::san("pool01.contoso.test"));
    let missing = Identity::load(Path::new("/nonexistent/x.pem"), &ca.path("host.key")).unwrap_err();
    assert!(missing.to_string().contains("/nonexistent/x.pem"));
    std::fs::write(ca.path("empty.pem"), "").unwrap();
    assert!(matches!(load_roots(&[ca.path("empty.pem")]), Err(TlsError::Pem { .. })));
    assert!(Identity::load(&ca.path("host.key"), &ca.path("host.pem")).is_err());
}
