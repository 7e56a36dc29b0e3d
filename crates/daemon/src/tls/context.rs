//! Both TLS configurations of one moment: what new handshakes use. Owns nothing that changes; a reload builds a new
//! context and swaps it whole, so a bad certificate never replaces a good one and live connections keep theirs.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::identity::{Identity, TlsError, load_roots};
use super::reject::HandshakeFailure;
use super::verify::{InboundVerifier, KnownPeers, OutboundVerifier, VerifiedPeer};

/// Which protocol versions are spoken.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum Versions {
    /// TLS 1.2 and 1.3.
    #[default]
    From12,
    /// TLS 1.3.
    Only13,
}

static FROM_12: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static ONLY_13: [&SupportedProtocolVersion; 1] = [&TLS13];

impl Versions {
    fn list(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::From12 => &FROM_12,
            Self::Only13 => &ONLY_13,
        }
    }
}

/// Where certificate, key and roots stand.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsFiles {
    /// Chain, leaf first, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub private_key: PathBuf,
    /// Roots shared with Lync and Exchange, PEM.
    pub trusted_roots: Vec<PathBuf>,
}

/// Ready-made configurations for both directions.
#[derive(Debug)]
pub struct TlsContext {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    known: Arc<KnownPeers>,
    names: Vec<String>,
}

impl TlsContext {
    /// Loads the files and builds both sides.
    pub fn load(files: &TlsFiles, versions: Versions, known: KnownPeers) -> Result<Self, TlsError> {
        let identity = Identity::load(&files.certificate, &files.private_key)?;
        let roots = load_roots(&files.trusted_roots)?;
        Self::build(&identity, roots, versions, known)
            .map_err(|what| TlsError::Unusable { path: files.certificate.clone(), what })
    }

    /// Builds both sides from what was loaded before.
    pub fn build(
        identity: &Identity,
        roots: RootCertStore,
        versions: Versions,
        known: KnownPeers,
    ) -> Result<Self, String> {
        let provider = super::provider();
        let roots = Arc::new(roots);
        let known = Arc::new(known);
        let resolver = Arc::new(SingleCertAndKey::from(identity.certified.clone()));
        let inbound = InboundVerifier::new(roots.clone(), provider.clone(), known.clone())?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions.list())
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(Arc::new(inbound))
            .with_cert_resolver(resolver.clone());
        // A resumed session skips the verifier, and identity is decided anew on every connection.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let outbound = OutboundVerifier::new(roots, provider, known.clone());
        let client = client_config(versions, Arc::new(outbound), resolver)?;
        let names = identity.names().to_vec();
        Ok(Self { server: Arc::new(server), client: Arc::new(client), known, names })
    }

    /// The names of our own certificate.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Server side of a handshake. Deadlines belong to the caller.
    pub async fn accept<S>(&self, stream: S) -> Result<(server::TlsStream<S>, VerifiedPeer), HandshakeFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted = TlsAcceptor::from(self.server.clone()).accept(stream).await;
        let stream = accepted.map_err(|error| HandshakeFailure::from_io(&error))?;
        let peer = VerifiedPeer::of_inbound(stream.get_ref().1.peer_certificates(), &self.known)?;
        Ok((stream, peer))
    }

    /// Client side of a handshake with `name`.
    pub async fn connect<S>(
        &self,
        name: &str,
        stream: S,
    ) -> Result<(client::TlsStream<S>, VerifiedPeer), HandshakeFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let server_name = ServerName::try_from(name.to_owned())
            .map_err(|_| HandshakeFailure::Protocol(format!("{name:?} is no host name")))?;
        let connected = TlsConnector::from(self.client.clone()).connect(server_name, stream).await;
        let stream = connected.map_err(|error| HandshakeFailure::from_io(&error))?;
        let peer = VerifiedPeer::of_outbound(stream.get_ref().1.peer_certificates(), name, &self.known)?;
        Ok((stream, peer))
    }
}

/// The client side of every outgoing handshake, of the gateway and of a probe.
pub(super) fn client_config(
    versions: Versions,
    verifier: Arc<dyn ServerCertVerifier>,
    resolver: Arc<dyn ResolvesClientCert>,
) -> Result<ClientConfig, String> {
    let mut client = ClientConfig::builder_with_provider(super::provider())
        .with_protocol_versions(versions.list())
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(resolver);
    client.resumption = Resumption::disabled();
    Ok(client)
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
