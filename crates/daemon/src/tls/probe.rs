//! Looks at a TLS server from outside: what it presents, what was agreed, whether it asks for our certificate and what it
//! says to it. Trusts nothing it sees and tells a judgement apart from what was seen; every step has a deadline. The side
//! connection carries not one byte of SIP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use b2bua::codes::{self, Code};
use b2bua::quirks::QuirkSet;
use b2bua::verdict::clean;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, DigitallySignedStruct, Error, ProtocolVersion, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer, X509Name};

use super::context::TlsContext;
use super::facts::{CertificateFacts, FactsError};
use super::identity::{CHAIN_LENGTH_MAX, Identity};
use super::reject::{HandshakeFailure, PeerRejection};
use super::settings::{Version, suite_name};
use super::sides::client_config;
use super::verify::{Handshakes, Judge, Toward};
use super::versions::Versions;

/// Authorities of a certificate request that are kept.
pub const AUTHORITIES_MAX: usize = 32;

/// How long each step of a probe may take.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct ProbeLimits {
    /// The TCP connection.
    pub connect: Duration,
    /// The handshake.
    pub handshake: Duration,
    /// Listening for a refusal after it: with TLS 1.3 a server looks at our certificate when we are already done.
    pub linger: Duration,
}

impl Default for ProbeLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            handshake: Duration::from_secs(5),
            linger: Duration::from_millis(800),
        }
    }
}

/// A TLS client that looks.
#[derive(Clone, Debug)]
pub struct Probe {
    identity: Option<Arc<CertifiedKey>>,
    versions: Versions,
    toward: Toward,
    limits: ProbeLimits,
    /// Whose own handshake it is, where that is not rustls'.
    gateway: Option<Arc<TlsContext>>,
}

/// What was seen of a server.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// What it presents, leaf first; at most 16 certificates. Nothing of it is trusted.
    pub chain: Vec<CertificateDer<'static>>,
    /// `TLS 1.2` or `TLS 1.3`, once known.
    pub version: Option<&'static str>,
    /// The cipher suite, once known.
    pub suite: Option<String>,
    /// Whether it asks for a client certificate.
    pub request: Request,
    /// What it has against us.
    pub reaction: Result<(), Objection>,
    key_proof: Result<(), PeerRejection>,
}

/// A server's wish for a client certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Request {
    /// The handshake did not come that far.
    Unknown,
    /// It does not ask.
    NotAsked,
    /// It asks.
    Asked {
        /// Authorities it names, cleaned; empty when it takes any.
        authorities: Vec<String>,
    },
}

/// What a server has against a connection with us.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Objection {
    /// No TCP connection.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// Something answers, but not with TLS.
    #[error("no TLS is spoken there: {0}")]
    NotTls(String),
    /// No version or suite that both have.
    #[error("no protocol version or cipher suite in common: {0}")]
    NothingInCommon(String),
    /// It wants a certificate and got none.
    #[error("it demands a client certificate, and none was presented")]
    WantsCertificate,
    /// It does not take our certificate; its alert, or that it hung up.
    #[error("it refuses our certificate: {0}")]
    RefusesUs(String),
    /// Anything else.
    #[error("{0}")]
    Failed(HandshakeFailure),
}

/// Alerts that speak of a certificate (RFC 8446 §6.2), as rustls spells them.
const ABOUT_US: [&str; 8] = [
    "BadCertificate",
    "UnsupportedCertificate",
    "CertificateRevoked",
    "CertificateExpired",
    "CertificateUnknown",
    "UnknownCA",
    "AccessDenied",
    "CertificateRequired",
];
/// What OpenSSL says to an answer that is no record.
const NO_RECORD: &str = "wrong version number";

impl Objection {
    /// The failure of a handshake in which our certificate was shown to whoever asked.
    fn of(failure: HandshakeFailure) -> Self {
        match failure {
            HandshakeFailure::NothingInCommon(what) => Self::NothingInCommon(what),
            HandshakeFailure::Alert(alert) if ABOUT_US.contains(&alert.as_str()) => {
                Self::RefusesUs(format!("alert {alert}"))
            }
            HandshakeFailure::Protocol(what) if what == NO_RECORD => Self::NotTls(what),
            failure => Self::Failed(failure),
        }
    }

    /// What `umbra explain` knows it by.
    pub fn code(&self) -> Code {
        match self {
            Self::Unreachable(_) => codes::NO_CONNECTION,
            Self::NotTls(_) => codes::NOT_TLS,
            Self::NothingInCommon(_) => codes::NO_COMMON_SUITE,
            Self::WantsCertificate => codes::CERTIFICATE_DEMANDED,
            Self::RefusesUs(_) => codes::REFUSED_BY_PEER,
            Self::Failed(failure) => failure.code(),
        }
    }
}

impl Sighting {
    /// Facts of every certificate, leaf first.
    pub fn facts(&self, now: SystemTime) -> Vec<Result<CertificateFacts, FactsError>> {
        CertificateFacts::read_chain(self.chain.iter().map(|der| &der[..]), now)
    }

    /// Would the gateway take this server for `wanted`? What had to be tolerated is the answer.
    ///
    /// # Errors
    /// The reason it would give; [`PeerRejection::NoCertificate`] when none was seen.
    pub fn judge(&self, judge: &Judge, wanted: &str, now: SystemTime) -> Result<QuirkSet, PeerRejection> {
        let tolerated = judge.judge(&self.chain, wanted, now)?;
        self.key_proof.clone().map(|()| tolerated)
    }

    /// What is seen of a server without a connection.
    pub fn unreachable(why: &str) -> Self {
        Self::failed(Seen::default(), Objection::Unreachable(clean(why)))
    }

    fn failed(seen: Seen, objection: Objection) -> Self {
        Self {
            chain: seen.chain,
            version: seen.version,
            suite: None,
            request: seen.request.map_or(Request::Unknown, |authorities| Request::Asked { authorities }),
            reaction: Err(objection),
            key_proof: seen.key_proof,
        }
    }
}

impl Probe {
    /// A probe that presents this identity when asked, or none.
    pub fn new(identity: Option<&Identity>, versions: Versions) -> Self {
        let identity = identity.map(|identity| identity.certified.clone());
        Self { identity, versions, toward: Toward::Strong, limits: ProbeLimits::default(), gateway: None }
    }

    /// The same as this gateway connects, whichever backend that takes. Whether a certificate is asked for is not seen so.
    #[must_use]
    pub fn through(self, gateway: Arc<TlsContext>) -> Self {
        Self { gateway: Some(gateway), ..self }
    }

    /// The same with other deadlines.
    #[must_use]
    pub fn limits(mut self, limits: ProbeLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The same toward a peer that this judge may except: as the gateway dials it.
    #[must_use]
    pub fn toward(self, judge: &Judge, name: &str) -> Self {
        match (judge.may_be_weak(name), self.versions) {
            (false, _) => self,
            (true, Versions::From12) => Self { toward: Toward::Weak, versions: Versions::Only12, ..self },
            (true, _) => Self { toward: Toward::Weak, ..self },
        }
    }

    /// Connects, shakes hands with `name`, listens a moment, hangs up.
    pub async fn look(&self, address: SocketAddr, name: &str) -> Sighting {
        match timeout(self.limits.connect, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => self.look_over(stream, name).await,
            Ok(Err(error)) => Sighting::unreachable(&format!("{address}: {error}")),
            Err(_) => {
                Sighting::unreachable(&format!("{address}: no answer within {:?}", self.limits.connect))
            }
        }
    }

    /// The same over a connection that stands.
    pub async fn look_over<S>(&self, stream: S, name: &str) -> Sighting
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        if let Some(gateway) = &self.gateway {
            return self.look_through(gateway, stream, name).await;
        }
        let watcher = Arc::new(Watcher {
            identity: self.identity.clone(),
            handshakes: Handshakes::new(super::provider(), self.toward),
            seen: Mutex::default(),
        });
        let protocol = |what: String| Objection::Failed(HandshakeFailure::Protocol(what));
        let Ok(server_name) = ServerName::try_from(name.to_owned()) else {
            let what = format!("`{}` is no host name", clean(name));
            return Sighting::failed(Seen::default(), protocol(what));
        };
        let config = match client_config(super::provider(), self.versions, watcher.clone(), watcher.clone()) {
            Ok(config) => config,
            Err(what) => return Sighting::failed(Seen::default(), protocol(what)),
        };
        let connecting = TlsConnector::from(Arc::new(config)).connect(server_name, stream);
        match timeout(self.limits.handshake, connecting).await {
            Ok(Ok(stream)) => self.listen(stream, &watcher).await,
            Ok(Err(error)) => {
                let seen = watcher.taken();
                let objection = seen.objection(&error, self.presents());
                Sighting::failed(seen, objection)
            }
            Err(_) => Sighting::failed(watcher.taken(), Objection::Failed(HandshakeFailure::Timeout)),
        }
    }

    /// The gateway's own handshake; it proves the far end's key.
    async fn look_through<S>(&self, gateway: &TlsContext, stream: S, name: &str) -> Sighting
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let shaken = timeout(self.limits.handshake, gateway.shake(name, stream)).await;
        let (stream, session) = match shaken.unwrap_or(Err(HandshakeFailure::Timeout)) {
            Ok(shaken) => shaken,
            Err(failure) => return Sighting::failed(Seen::default(), Objection::of(failure)),
        };
        let (agreed, chain) = (session.agreed(), session.presented().into_owned());
        let mut stream = super::TlsStream::new(stream, session);
        let heard = timeout(self.limits.linger, stream.read(&mut [0; 1])).await;
        // The server may be gone already; that it was told is courtesy.
        let _gone = timeout(self.limits.linger, stream.shutdown()).await;
        let reaction = match heard {
            Ok(Ok(0)) => Err(Objection::Failed(HandshakeFailure::Io("closed by the server".to_owned()))),
            Ok(Err(error)) => Err(match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(failure) => Objection::of(HandshakeFailure::clone(failure)),
                None => Objection::Failed(HandshakeFailure::Io(error.to_string())),
            }),
            // It speaks first, or keeps quiet as a SIP server does.
            Ok(Ok(_)) | Err(_) => Ok(()),
        };
        Sighting {
            chain,
            version: Version::of(agreed.version).map(Version::word),
            suite: Some(agreed.suite_name()),
            request: Request::Unknown,
            reaction,
            key_proof: Ok(()),
        }
    }

    fn presents(&self) -> Presents {
        if self.identity.is_some() { Presents::Certificate } else { Presents::Nothing }
    }

    /// The handshake is over for us; what the server says in the next moments is its word on our certificate.
    async fn listen<S>(&self, mut stream: TlsStream<S>, watcher: &Watcher) -> Sighting
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut byte = [0; 1];
        let heard = timeout(self.limits.linger, stream.read(&mut byte)).await;
        let session = stream.get_ref().1;
        let version = session.protocol_version().and_then(version_word);
        let suite = session.negotiated_cipher_suite().map(|suite| suite_name(suite.suite().into()));
        // The server may be gone already; that it was told is courtesy.
        let _gone = timeout(self.limits.linger, stream.shutdown()).await;
        let seen = watcher.taken();
        let reaction = match heard {
            Ok(Ok(0)) => Err(seen.hung_up(self.presents())),
            Ok(Err(error)) => Err(seen.objection(&error, self.presents())),
            // It speaks first, or keeps quiet as a SIP server does.
            Ok(Ok(_)) | Err(_) => Ok(()),
        };
        let request = seen.request.map_or(Request::NotAsked, |authorities| Request::Asked { authorities });
        let version = version.or(seen.version);
        Sighting { chain: seen.chain, version, suite, request, reaction, key_proof: seen.key_proof }
    }
}

fn version_word(version: ProtocolVersion) -> Option<&'static str> {
    match version {
        ProtocolVersion::TLSv1_2 => Some("TLS 1.2"),
        ProtocolVersion::TLSv1_3 => Some("TLS 1.3"),
        _ => None,
    }
}

/// What we answer to a certificate request.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Presents {
    Certificate,
    Nothing,
}

/// Stands where verifier and key of a handshake stand, says yes to everything and remembers it.
#[derive(Debug)]
struct Watcher {
    identity: Option<Arc<CertifiedKey>>,
    handshakes: Handshakes,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    chain: Vec<CertificateDer<'static>>,
    version: Option<&'static str>,
    request: Option<Vec<String>>,
    key_proof: Result<(), PeerRejection>,
}

impl Default for Seen {
    fn default() -> Self {
        Self { chain: Vec::new(), version: None, request: None, key_proof: Ok(()) }
    }
}

impl Seen {
    /// What an error of the handshake, or of the moments after it, means.
    fn objection(&self, error: &std::io::Error, presents: Presents) -> Objection {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(Error::AlertReceived(alert)) => self.alerted(*alert, presents),
            Some(Error::PeerIncompatible(what)) => Objection::NothingInCommon(format!("{what:?}")),
            Some(Error::InvalidMessage(what)) if self.chain.is_empty() => {
                Objection::NotTls(clean(&format!("{what:?}")))
            }
            Some(_) => Objection::Failed(HandshakeFailure::from_io(error)),
            None if self.chain.is_empty() => Objection::Failed(HandshakeFailure::from_io(error)),
            None => self.hung_up(presents),
        }
    }

    fn alerted(&self, alert: AlertDescription, presents: Presents) -> Objection {
        use AlertDescription as A;
        let words = format!("alert {alert:?}");
        match alert {
            A::CertificateRequired => Objection::WantsCertificate,
            A::ProtocolVersion | A::InsufficientSecurity => Objection::NothingInCommon(words),
            // Before it showed itself, there was nothing else to fail at.
            A::HandshakeFailure if self.chain.is_empty() => Objection::NothingInCommon(words),
            A::CloseNotify | A::UnrecognisedName => {
                Objection::Failed(HandshakeFailure::Alert(format!("{alert:?}")))
            }
            _ if self.request.is_none() => Objection::Failed(HandshakeFailure::Alert(format!("{alert:?}"))),
            _ if presents == Presents::Nothing => Objection::WantsCertificate,
            _ => Objection::RefusesUs(words),
        }
    }

    /// It closed the connection after it had shown its certificate, and gave no reason.
    fn hung_up(&self, presents: Presents) -> Objection {
        match (&self.request, presents) {
            (Some(_), Presents::Certificate) => {
                Objection::RefusesUs("the connection was closed without a word".to_owned())
            }
            (Some(_), Presents::Nothing) => Objection::WantsCertificate,
            (None, _) => Objection::Failed(HandshakeFailure::Io("closed by the server".to_owned())),
        }
    }
}

impl Watcher {
    // Nothing panics while the lock is held; were it so, what was seen is still what was seen.
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn taken(&self) -> Seen {
        std::mem::take(&mut *self.seen())
    }

    fn note(&self, version: &'static str, checked: Result<HandshakeSignatureValid, Error>) {
        let mut seen = self.seen();
        seen.version = Some(version);
        seen.key_proof = checked.map(drop).map_err(|error| PeerRejection::from_tls(&error));
    }
}

impl ServerCertVerifier for Watcher {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(leaf).chain(intermediates).take(CHAIN_LENGTH_MAX);
        self.seen().chain = chain.map(|der| der.clone().into_owned()).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.note("TLS 1.2", self.handshakes.tls12(message, certificate, signature));
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.note("TLS 1.3", self.handshakes.tls13(message, certificate, signature));
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.handshakes.schemes()
    }
}

impl ResolvesClientCert for Watcher {
    fn resolve(&self, authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let named = authorities.iter().take(AUTHORITIES_MAX).map(|der| authority(der));
        self.seen().request = Some(named.collect());
        self.identity.clone()
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn authority(der: &[u8]) -> String {
    match X509Name::from_der(der) {
        Ok((_, name)) => clean(&name.to_string()),
        Err(_) => "unreadable".to_owned(),
    }
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
