//! One direction, ready for handshakes: a backend with our certificate and with what is spoken there. Owns the choice between
//! the backends; refuses to judge whom it met (`context` does, for both).

use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig, SignatureAlgorithm};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::identity::Identity;
use super::offer::{KeyKind, Overheard};
use super::reject::HandshakeFailure;
use super::session::Session;
use super::settings::{Backend, TlsSettings};
use super::verify::{InboundVerifier, Judge, OutboundVerifier, Toward};
use super::versions::Versions;

/// For those who connect to us.
#[derive(Debug)]
pub(super) struct Listener {
    side: ServerSide,
    settings: TlsSettings,
    key: KeyKind,
}

#[derive(Debug)]
enum ServerSide {
    Rustls(Arc<ServerConfig>),
    #[cfg(feature = "openssl")]
    OpenSsl(super::openssl::Config),
}

/// For those we connect to.
#[derive(Debug)]
pub(super) struct Dialer {
    side: ClientSide,
    settings: TlsSettings,
    /// Ours, leaf first.
    chain: Vec<CertificateDer<'static>>,
}

#[derive(Debug)]
enum ClientSide {
    Rustls {
        strong: Arc<ClientConfig>,
        /// Toward those that may come with a weak chain.
        weak: Arc<ClientConfig>,
    },
    #[cfg(feature = "openssl")]
    OpenSsl(super::openssl::Config),
}

#[cfg(not(feature = "openssl"))]
const NOT_BUILT: &str = "OpenSSL is not part of this build";

impl Listener {
    pub(super) fn new(
        judge: &Arc<Judge>,
        identity: &Identity,
        settings: &TlsSettings,
    ) -> Result<Self, String> {
        let side = match settings.backend() {
            Backend::Rustls => ServerSide::Rustls(server_config(judge, identity, settings)?),
            #[cfg(feature = "openssl")]
            Backend::OpenSsl => {
                ServerSide::OpenSsl(super::openssl::Config::server(settings, identity, judge.roots())?)
            }
            #[cfg(not(feature = "openssl"))]
            Backend::OpenSsl => return Err(NOT_BUILT.to_owned()),
        };
        let key = match identity.certified.key.algorithm() {
            SignatureAlgorithm::RSA => KeyKind::Rsa,
            _ => KeyKind::Ecdsa,
        };
        Ok(Self { side, settings: settings.clone(), key })
    }

    pub(super) async fn accept<S>(&self, stream: &mut Overheard<S>) -> Result<Session, HandshakeFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shaken = match &self.side {
            ServerSide::Rustls(config) => {
                let accepted = TlsAcceptor::from(config.clone()).accept(&mut *stream).await;
                let session = accepted.map(|stream| rustls::Connection::from(stream.into_inner().1).into());
                session.map_err(|error| HandshakeFailure::from_io(&error))
            }
            #[cfg(feature = "openssl")]
            ServerSide::OpenSsl(config) => {
                config.accept(&mut *stream).await.map(|session| Session::OpenSsl(Box::new(session)))
            }
        };
        shaken.map_err(|failure| stream.explain_as_server(failure, &self.settings, self.key))
    }
}

impl Dialer {
    pub(super) fn new(
        judge: &Arc<Judge>,
        identity: &Identity,
        settings: &TlsSettings,
    ) -> Result<Self, String> {
        let side = match settings.backend() {
            Backend::Rustls => {
                let provider = provider_of(settings);
                let client = |toward, versions| {
                    let verifier = OutboundVerifier::new(judge.clone(), provider.clone(), toward);
                    let (verifier, resolver) = (Arc::new(verifier), presenting(identity));
                    client_config(provider.clone(), versions, verifier, resolver).map(Arc::new)
                };
                let versions = Versions::from(settings);
                ClientSide::Rustls {
                    strong: client(Toward::Strong, versions)?,
                    weak: client(Toward::Weak, versions.for_short_keys())?,
                }
            }
            #[cfg(feature = "openssl")]
            Backend::OpenSsl => ClientSide::OpenSsl(super::openssl::Config::client(settings, identity)?),
            #[cfg(not(feature = "openssl"))]
            Backend::OpenSsl => return Err(NOT_BUILT.to_owned()),
        };
        Ok(Self { side, settings: settings.clone(), chain: identity.chain().to_vec() })
    }

    pub(super) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(super) fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    pub(super) fn backend(&self) -> Backend {
        self.settings.backend()
    }

    /// `toward`: whether a weak chain may come.
    pub(super) async fn connect<S>(
        &self,
        name: &str,
        toward: Toward,
        stream: &mut Overheard<S>,
    ) -> Result<Session, HandshakeFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let server_name = ServerName::try_from(name.to_owned())
            .map_err(|_| HandshakeFailure::Protocol(format!("{name:?} is no host name")))?;
        let shaken = match &self.side {
            ClientSide::Rustls { strong, weak } => {
                let config = if toward == Toward::Weak { weak } else { strong };
                let connected = TlsConnector::from(config.clone()).connect(server_name, &mut *stream).await;
                let session = connected.map(|stream| rustls::Connection::from(stream.into_inner().1).into());
                session.map_err(|error| HandshakeFailure::from_io(&error))
            }
            #[cfg(feature = "openssl")]
            ClientSide::OpenSsl(config) => {
                config.connect(name, &mut *stream).await.map(|session| Session::OpenSsl(Box::new(session)))
            }
        };
        shaken.map_err(|failure| stream.explain_as_client(failure, &self.settings))
    }
}

fn server_config(
    judge: &Arc<Judge>,
    identity: &Identity,
    settings: &TlsSettings,
) -> Result<Arc<ServerConfig>, String> {
    let provider = provider_of(settings);
    let inbound = InboundVerifier::new(judge.clone(), provider.clone());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(Versions::from(settings).list())
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(Arc::new(inbound))
        .with_cert_resolver(presenting(identity));
    // A resumed session skips the verifier, and identity is decided anew on every connection.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    server.key_log = super::keylog::sink();
    Ok(Arc::new(server))
}

/// The client side of every outgoing rustls handshake, of the gateway and of a probe.
pub(super) fn client_config(
    provider: Arc<CryptoProvider>,
    versions: Versions,
    verifier: Arc<dyn ServerCertVerifier>,
    resolver: Arc<dyn ResolvesClientCert>,
) -> Result<ClientConfig, String> {
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions.list())
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(resolver);
    client.resumption = Resumption::disabled();
    client.key_log = super::keylog::sink();
    Ok(client)
}

fn presenting(identity: &Identity) -> Arc<SingleCertAndKey> {
    Arc::new(SingleCertAndKey::from(identity.certified.clone()))
}

/// The provider with the chosen suites only, in the chosen order.
fn provider_of(settings: &TlsSettings) -> Arc<CryptoProvider> {
    let provider = super::provider();
    let find =
        |number| provider.cipher_suites.iter().find(|suite| u16::from(suite.suite()) == number).copied();
    let suites = settings.suites().iter().filter_map(|suite| find(suite.number)).collect();
    Arc::new(CryptoProvider { cipher_suites: suites, ..(*provider).clone() })
}
