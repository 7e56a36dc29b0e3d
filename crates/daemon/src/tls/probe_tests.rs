//! Probes over an in-memory pipe: every way a server can be, seen from outside. Waits end with what they wait for; only
//! where nothing will come is the deadline short.

use std::time::SystemTime;

use lab::pki::{CertSpec, KeyKind, LabCa, Life, Naming};
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::tls::{KnownPeers, Spoken, TlsContext, TlsStream};

const SERVER: &str = "mbx01.contoso.test";
const US: &str = "umbra.contoso.test";

fn authority(name: &str) -> LabCa {
    LabCa::create(name).unwrap()
}

fn identity(ca: &LabCa, spec: CertSpec) -> Identity {
    let issued = ca.issue(&spec.key(KeyKind::EcdsaP256)).unwrap();
    let certified = CertifiedKey::from_der(issued.chain().to_vec(), issued.key(), &crate::tls::provider());
    Identity::for_tests(certified.unwrap())
}

fn roots(ca: &LabCa) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(ca.root().clone()).unwrap();
    roots
}

/// A server of this product: asks for a client certificate and takes `known` ones.
fn server(ca: &LabCa, spec: CertSpec) -> TlsContext {
    let known = KnownPeers::new([US.to_owned()], []);
    TlsContext::build(&identity(ca, spec), roots(ca), &Spoken::default(), known).unwrap()
}

fn judge(ca: &LabCa) -> Judge {
    Judge::new(roots(ca), KnownPeers::default())
}

/// For servers that will say nothing: a short wait shows as much as a long one.
fn brief(probe: Probe) -> Probe {
    let moment = Duration::from_millis(50);
    probe.limits(ProbeLimits { linger: moment, ..ProbeLimits::default() })
}

async fn look(server: &TlsContext, probe: &Probe) -> Sighting {
    let (near, far) = duplex(64 * 1024);
    let serve = async {
        // A server that let us in keeps the connection; one that did not drops it.
        if let Ok((stream, session, _)) = server.accept(far).await {
            let stream = TlsStream::new(stream, session);
            tokio::time::sleep(Duration::from_secs(60)).await;
            drop(stream);
        }
    };
    tokio::select! {
        sighting = probe.look_over(near, SERVER) => sighting,
        sighting = async { serve.await; std::future::pending().await } => sighting,
    }
}

/// What the probe sees of a server that is a plain rustls configuration.
async fn look_at(config: ServerConfig, probe: &Probe) -> Sighting {
    let (near, far) = duplex(64 * 1024);
    let serve = async move {
        let _held = TlsAcceptor::from(Arc::new(config)).accept(far).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        sighting = probe.look_over(near, SERVER) => sighting,
        () = serve => unreachable!(),
    }
}

#[tokio::test]
async fn a_good_server_is_seen_judged_and_content_with_us() {
    let ca = authority("root");
    let server = server(&ca, CertSpec::host(SERVER));
    let probe = brief(Probe::new(Some(&identity(&ca, CertSpec::host(US))), Versions::From12));
    let seen = look(&server, &probe).await;
    assert_eq!(seen.reaction, Ok(()));
    assert_eq!((seen.version, seen.chain.len()), (Some("TLS 1.3"), 2));
    assert!(seen.suite.as_deref().unwrap().contains("AES"), "{seen:?}");
    assert!(matches!(&seen.request, Request::Asked { authorities } if authorities[0].contains("CN=root")));
    assert_eq!(seen.judge(&judge(&ca), SERVER, SystemTime::now()), Ok(QuirkSet::NONE));
    assert_eq!(seen.facts(SystemTime::now())[0].as_ref().unwrap().common_name(), Some(SERVER));
}

#[tokio::test]
async fn what_we_think_of_a_server_is_the_reason_the_gateway_would_give() {
    let (ca, other) = (authority("root"), authority("other"));
    let cases: [(CertSpec, &str, &str); 4] = [
        (CertSpec::host(SERVER).life(Life::Expired), SERVER, "expired"),
        (CertSpec::host(SERVER).naming(Naming::WildcardSubject), SERVER, "wildcard_subject"),
        (CertSpec::host(SERVER).purpose(lab::pki::Purpose::ClientOnly), SERVER, "wrong_purpose"),
        (CertSpec::host("cas01.contoso.test"), SERVER, "name_mismatch"),
    ];
    for (spec, wanted, label) in cases {
        let server = server(&ca, spec.clone());
        let us = identity(&ca, CertSpec::host(US));
        let seen = look(&server, &brief(Probe::new(Some(&us), Versions::From12))).await;
        assert_eq!(seen.reaction, Ok(()), "they take us, whatever we think of them");
        let ours = seen.judge(&judge(&ca), wanted, SystemTime::now()).unwrap_err();
        assert_eq!(ours.label(), label);
        // The very same as the real handshake says.
        let gateway = TlsContext::build(&us, roots(&ca), &Spoken::default(), KnownPeers::default()).unwrap();
        let (near, far) = duplex(64 * 1024);
        let (_, real) = tokio::join!(server.accept(far), gateway.connect(wanted, near));
        assert_eq!(real.map(|_| ()).unwrap_err(), HandshakeFailure::Rejected(ours));
    }
    let server = server(&other, CertSpec::host(SERVER));
    let seen = look(&server, &Probe::new(None, Versions::From12)).await;
    let ours = seen.judge(&judge(&ca), SERVER, SystemTime::now()).unwrap_err();
    assert_eq!(ours.label(), "untrusted_chain");
}

/// A server of one version only; TLS 1.2 refuses inside the handshake, 1.3 after it.
fn server_config(ca: &LabCa, version: &'static rustls::SupportedProtocolVersion) -> ServerConfig {
    let issued = ca.issue(&CertSpec::host(SERVER).key(KeyKind::EcdsaP256)).unwrap();
    let provider = crate::tls::provider();
    let verifier: Arc<dyn ClientCertVerifier> =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots(ca)), provider.clone())
            .build()
            .unwrap();
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(issued.chain().to_vec(), issued.key())
        .unwrap()
}

#[tokio::test]
async fn a_refusal_of_our_certificate_is_heard_before_and_after_the_handshake() {
    let (ca, other) = (authority("root"), authority("other"));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let foreign = identity(&other, CertSpec::host(US));
        let seen = look_at(server_config(&ca, version), &Probe::new(Some(&foreign), Versions::From12)).await;
        let Err(Objection::RefusesUs(why)) = &seen.reaction else { panic!("{version:?}: {seen:?}") };
        assert!(why.contains("UnknownCA"), "{why}");
        assert_eq!(seen.reaction.clone().unwrap_err().code(), codes::REFUSED_BY_PEER);
        assert_eq!(seen.judge(&judge(&ca), SERVER, SystemTime::now()), Ok(QuirkSet::NONE), "we take them");

        let seen = look_at(server_config(&ca, version), &Probe::new(None, Versions::From12)).await;
        assert_eq!(seen.reaction, Err(Objection::WantsCertificate), "{version:?}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_after_our_certificate_refuses_us() {
    let ca = authority("root");
    let server = server(&ca, CertSpec::host(SERVER));
    let (near, far) = duplex(64 * 1024);
    let probe = Probe::new(Some(&identity(&ca, CertSpec::host(US))), Versions::From12);
    let (seen, _) = tokio::join!(probe.look_over(near, SERVER), async {
        let accepted = server.accept(far).await.map(|(stream, session, _)| TlsStream::new(stream, session));
        drop(accepted);
    });
    assert!(matches!(seen.reaction, Err(Objection::RefusesUs(_))), "{seen:?}");
}

#[tokio::test]
async fn a_server_that_asks_for_nothing_is_told_apart() {
    let ca = authority("root");
    let issued = ca.issue(&CertSpec::host(SERVER)).unwrap();
    let config = ServerConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(issued.chain().to_vec(), issued.key())
        .unwrap();
    let seen = look_at(config, &brief(Probe::new(None, Versions::From12))).await;
    assert_eq!((seen.request, seen.reaction), (Request::NotAsked, Ok(())));
}

#[tokio::test]
async fn a_server_of_another_version_has_nothing_in_common_with_us() {
    let ca = authority("root");
    let config = server_config(&ca, &rustls::version::TLS12);
    let seen = look_at(config, &Probe::new(None, Versions::Only13)).await;
    assert!(matches!(seen.reaction, Err(Objection::NothingInCommon(_))), "{seen:?}");
    assert_eq!(seen.judge(&judge(&ca), SERVER, SystemTime::now()), Err(PeerRejection::NoCertificate));
}

async fn look_over_bytes(serve: impl AsyncFnOnce(DuplexStream)) -> Sighting {
    let (near, far) = duplex(64 * 1024);
    let limits = ProbeLimits { handshake: Duration::from_millis(300), ..ProbeLimits::default() };
    let probe = Probe::new(None, Versions::From12).limits(limits);
    tokio::select! {
        sighting = probe.look_over(near, SERVER) => sighting,
        () = async { serve(far).await; std::future::pending().await } => unreachable!(),
    }
}

#[tokio::test]
async fn bytes_that_are_no_tls_silence_and_a_closed_door_are_three_things() {
    let plain = look_over_bytes(async |mut far| {
        far.write_all(b"SIP/2.0 400 Bad Request\r\n\r\n").await.unwrap();
        std::future::pending::<()>().await;
    });
    assert!(matches!(plain.await.reaction, Err(Objection::NotTls(_))));
    let silent = look_over_bytes(async |_far| std::future::pending().await).await;
    assert_eq!(silent.reaction, Err(Objection::Failed(HandshakeFailure::Timeout)));
    let closed = look_over_bytes(async |far| drop(far)).await;
    assert!(matches!(closed.reaction, Err(Objection::Failed(HandshakeFailure::Io(_)))), "{closed:?}");
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_unreachable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let seen = Probe::new(None, Versions::From12).look(free, SERVER).await;
    assert!(matches!(seen.reaction, Err(Objection::Unreachable(_))), "{seen:?}");
    assert_eq!(seen.request, Request::Unknown);
}

#[tokio::test]
async fn a_name_that_no_host_has_fails_before_a_byte_is_sent() {
    let (near, _far) = duplex(1024);
    let seen = Probe::new(None, Versions::From12).look_over(near, "a b\u{1b}[2J").await;
    let Err(objection) = seen.reaction else { panic!("{seen:?}") };
    assert!(!objection.to_string().contains('\u{1b}'), "{objection}");
}
