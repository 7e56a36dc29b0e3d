//! Both TLS configurations of one moment: what new handshakes use. Owns nothing that changes; a reload builds a new
//! context and swaps it whole, so a bad certificate never replaces a good one and live connections keep theirs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::crl::{CrlPolicy, Revocations};
use super::identity::{Identity, TlsError, load_roots};
use super::names::dns_matches;
use super::reject::{HandshakeFailure, PeerRejection};
use super::verify::{InboundVerifier, Judge, KnownPeers, OutboundVerifier, Toward, VerifiedPeer};

/// Which protocol versions are spoken.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum Versions {
    /// TLS 1.2 and 1.3.
    #[default]
    From12,
    /// TLS 1.3.
    Only13,
    /// TLS 1.2: short keys sign PKCS #1 v1.5, and TLS 1.3 has none of it.
    Only12,
}

static FROM_12: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static ONLY_13: [&SupportedProtocolVersion; 1] = [&TLS13];
static ONLY_12: [&SupportedProtocolVersion; 1] = [&TLS12];

impl Versions {
    fn list(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::From12 => &FROM_12,
            Self::Only13 => &ONLY_13,
            Self::Only12 => &ONLY_12,
        }
    }
}

/// Where certificate, key and roots stand.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsFiles {
    /// Chain, leaf first, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub private_key: PathBuf,
    /// Roots shared with Lync and Exchange, PEM.
    pub trusted_roots: Vec<PathBuf>,
    /// Lists of revoked certificates, PEM or DER; none: nobody is asked for.
    pub crls: Vec<PathBuf>,
    /// What happens without a usable list.
    pub crl_policy: CrlPolicy,
    /// Further certificates of ours.
    pub more: Vec<NamedFiles>,
    /// The one of `more` that is presented to those who connect to us; `None`: the first one above.
    pub listener: Option<usize>,
}

/// A further certificate of ours.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NamedFiles {
    /// What it is called in the configuration.
    pub name: String,
    /// Chain, leaf first, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub private_key: PathBuf,
    /// Names we connect to with it, in lower case.
    pub targets: Vec<String>,
}

/// Who we are: to those who connect, and to those we connect to.
struct Own {
    identities: Vec<Identity>,
    listener: usize,
    targets: BTreeMap<String, usize>,
}

/// Client configurations that present one certificate.
#[derive(Debug)]
struct Clients {
    strong: Arc<ClientConfig>,
    /// Toward those that may come with a weak chain.
    weak: Arc<ClientConfig>,
}

/// One of our certificates: what it names and when it ends.
#[derive(Debug)]
struct Presented {
    names: Vec<String>,
    not_after: Option<SystemTime>,
}

/// Ready-made configurations for both directions.
#[derive(Debug)]
pub struct TlsContext {
    server: Arc<ServerConfig>,
    /// One for each certificate of ours; there is always one.
    clients: Vec<Clients>,
    targets: BTreeMap<String, usize>,
    judge: Arc<Judge>,
    presented: Vec<Presented>,
}

impl TlsContext {
    /// Loads the files and builds both sides.
    pub fn load(files: &TlsFiles, versions: Versions, known: KnownPeers) -> Result<Self, TlsError> {
        let mut own = Own {
            identities: vec![Identity::load(&files.certificate, &files.private_key)?],
            listener: files.listener.map_or(0, |index| index + 1),
            targets: BTreeMap::new(),
        };
        for more in &files.more {
            let number = own.identities.len();
            own.identities.push(Identity::load(&more.certificate, &more.private_key)?);
            own.targets.extend(more.targets.iter().map(|name| (name.clone(), number)));
        }
        let roots = load_roots(&files.trusted_roots)?;
        let revocations = Revocations::load(&files.crls, files.crl_policy)?;
        let judge = Judge::new(roots, known).with_revocations(revocations);
        Self::assemble(judge, own, versions)
            .map_err(|what| TlsError::Unusable { path: files.certificate.clone(), what })
    }

    /// Builds both sides from what was loaded before, without lists of revoked certificates.
    pub fn build(
        identity: &Identity,
        roots: RootCertStore,
        versions: Versions,
        known: KnownPeers,
    ) -> Result<Self, String> {
        Self::judged_by(Judge::new(roots, known), identity, versions)
    }

    /// Builds both sides; this judge knows the peers.
    pub fn judged_by(judge: Judge, identity: &Identity, versions: Versions) -> Result<Self, String> {
        let identities = vec![identity.clone()];
        Self::assemble(judge, Own { identities, listener: 0, targets: BTreeMap::new() }, versions)
    }

    fn assemble(judge: Judge, own: Own, versions: Versions) -> Result<Self, String> {
        if judge.roots().is_empty() {
            return Err("there is no trusted root".to_owned());
        }
        let (provider, judge) = (super::provider(), Arc::new(judge));
        let resolver = |identity: &Identity| Arc::new(SingleCertAndKey::from(identity.certified.clone()));
        let listener = own.identities.get(own.listener).ok_or("no such certificate")?;
        let inbound = InboundVerifier::new(judge.clone(), provider.clone());
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions.list())
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(Arc::new(inbound))
            .with_cert_resolver(resolver(listener));
        // A resumed session skips the verifier, and identity is decided anew on every connection.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.key_log = super::keylog::sink();
        let client = |identity, toward, versions| {
            let verifier = OutboundVerifier::new(judge.clone(), provider.clone(), toward);
            client_config(versions, Arc::new(verifier), resolver(identity)).map(Arc::new)
        };
        let weak_versions = if versions == Versions::From12 { Versions::Only12 } else { versions };
        let clients = |identity| -> Result<Clients, String> {
            let strong = client(identity, Toward::Strong, versions)?;
            Ok(Clients { strong, weak: client(identity, Toward::Weak, weak_versions)? })
        };
        let presented = |identity: &Identity| Presented {
            names: identity.names().to_vec(),
            not_after: identity.not_after(),
        };
        Ok(Self {
            server: Arc::new(server),
            clients: own.identities.iter().map(clients).collect::<Result<_, _>>()?,
            presented: own.identities.iter().map(presented).collect(),
            targets: own.targets,
            judge,
        })
    }

    /// Whether our own certificate is for this name and not over yet; what is wrong if not.
    pub fn check_own(&self, fqdn: &str, now: SystemTime) -> Result<(), String> {
        for Presented { names, not_after } in &self.presented {
            if !names.iter().any(|name| dns_matches(name, fqdn)) {
                return Err(format!("the certificate names {}, not {fqdn}", names.join(", ")));
            }
            if not_after.is_some_and(|end| end <= now) {
                return Err("the certificate has expired".to_owned());
            }
        }
        Ok(())
    }

    /// The rules by which far ends are taken.
    pub fn judge(&self) -> Arc<Judge> {
        self.judge.clone()
    }

    /// When each of our certificates ends: that of `[tls]`, then the others in their order.
    pub fn ends(&self) -> impl Iterator<Item = Option<SystemTime>> {
        self.presented.iter().map(|presented| presented.not_after)
    }

    /// Names and addresses that may come with a weak chain.
    pub fn weak_peers(&self) -> usize {
        self.judge.known().weak_peers()
    }

    /// Server side of a handshake. Deadlines belong to the caller.
    pub async fn accept<S>(&self, stream: S) -> Result<(server::TlsStream<S>, VerifiedPeer), HandshakeFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepted = TlsAcceptor::from(self.server.clone()).accept(stream).await;
        let stream = accepted.map_err(|error| HandshakeFailure::from_io(&error))?;
        let (leaf, issuers) = presented(stream.get_ref().1.peer_certificates())?;
        let peer = self.judge.inbound(leaf, issuers, UnixTime::now())?;
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
        let number = self.targets.get(&name.to_ascii_lowercase()).copied().unwrap_or_default();
        let clients = self
            .clients
            .get(number)
            .ok_or_else(|| HandshakeFailure::Protocol("no certificate".to_owned()))?;
        let client = if self.judge.known().may_be_weak(name) { &clients.weak } else { &clients.strong };
        let connected = TlsConnector::from(client.clone()).connect(server_name, stream).await;
        let stream = connected.map_err(|error| HandshakeFailure::from_io(&error))?;
        let (leaf, issuers) = presented(stream.get_ref().1.peer_certificates())?;
        let peer = self.judge.outbound(leaf, issuers, name, UnixTime::now())?;
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
    client.key_log = super::keylog::sink();
    Ok(client)
}

/// What the verifier saw. It ran inside the handshake (certificates are mandatory and sessions are never resumed); it is asked
/// again because rustls does not hand out what it found.
fn presented<'a>(
    chain: Option<&'a [CertificateDer<'static>]>,
) -> Result<(&'a CertificateDer<'static>, &'a [CertificateDer<'static>]), PeerRejection> {
    chain.and_then(<[_]>::split_first).ok_or(PeerRejection::NoCertificate)
}

#[cfg(test)]
#[path = "context_tests.rs"]
mod tests;
