//! The two verifiers. Owns the only constructor of [`VerifiedPeer`]: whoever holds one has seen a chain to our roots
//! and a name that was wanted. Chain mathematics stay with rustls-webpki; names are matched here, because Lync and
//! Exchange certificates name hosts in the common name and carry the server purpose only.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::names::PresentedNames;
use super::reject::PeerRejection;

/// A far end whose certificate chains to our roots and carries a wanted name. Only this module makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedPeer {
    names: Vec<String>,
}

impl VerifiedPeer {
    /// Names that were matched, most specific first.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The peer of a finished inbound handshake. The verifier ran inside it (client certificates are mandatory and
    /// sessions are never resumed), so only the name is looked up again here.
    pub(super) fn of_inbound(
        chain: Option<&[CertificateDer<'_>]>,
        known: &KnownPeers,
    ) -> Result<Self, PeerRejection> {
        let leaf = chain.and_then(<[_]>::first).ok_or(PeerRejection::NoCertificate)?;
        known.identify(&PresentedNames::of(leaf)?)
    }

    /// The peer of a finished outbound handshake: it is who we asked for and nobody else, whatever other names its
    /// certificate carries.
    pub(super) fn of_outbound(
        chain: Option<&[CertificateDer<'_>]>,
        wanted: &str,
    ) -> Result<Self, PeerRejection> {
        let leaf = chain.and_then(<[_]>::first).ok_or(PeerRejection::NoCertificate)?;
        require_name(&PresentedNames::of(leaf)?, wanted)
    }
}

/// Names and addresses of every configured peer that may connect to us.
#[derive(Clone, Debug, Default)]
pub struct KnownPeers {
    names: Vec<String>,
    addresses: Vec<IpAddr>,
}

impl KnownPeers {
    /// Pools with their members, UM IP gateways and servers.
    pub fn new(names: impl IntoIterator<Item = String>, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut names: Vec<String> = names.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        names.sort();
        names.dedup();
        let addresses = addresses.into_iter().map(|address| address.to_canonical()).collect();
        Self { names, addresses }
    }

    /// Which of the known names the certificate proves: those it spells out first, those behind a wildcard after.
    fn identify(&self, presented: &PresentedNames) -> Result<VerifiedPeer, PeerRejection> {
        let spelled = self.names.iter().filter(|name| presented.dns.contains(name));
        let by_wildcard =
            self.names.iter().filter(|name| !presented.dns.contains(name) && presented.covers(name));
        let by_address = self.addresses.iter().filter(|address| presented.addresses.contains(address));
        let names: Vec<String> = spelled
            .chain(by_wildcard)
            .cloned()
            .chain(by_address.copied().map(super::reject::address_name))
            .collect();
        if names.is_empty() {
            return Err(PeerRejection::UnknownName(presented.all()));
        }
        Ok(VerifiedPeer { names })
    }
}

fn require_name(presented: &PresentedNames, wanted: &str) -> Result<VerifiedPeer, PeerRejection> {
    if presented.covers(wanted) {
        return Ok(VerifiedPeer { names: vec![wanted.to_ascii_lowercase()] });
    }
    Err(PeerRejection::NameMismatch { expected: wanted.to_owned(), presented: presented.all() })
}

/// Verifies those who connect to us.
#[derive(Debug)]
pub(super) struct InboundVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    hints: Vec<DistinguishedName>,
    stock: Arc<dyn ClientCertVerifier>,
    known: Arc<KnownPeers>,
}

impl InboundVerifier {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
        known: Arc<KnownPeers>,
    ) -> Result<Self, String> {
        let stock = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| error.to_string())?;
        let hints = roots.subjects();
        Ok(Self { roots, provider, hints, stock, known })
    }
}

impl ClientCertVerifier for InboundVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Windows' web-server template issues the server purpose only, and such certificates are what pools and UM
        // servers present as clients; a certificate made for clients is as good.
        match verify_chain(&self.roots, &self.provider, leaf, intermediates, now) {
            Ok(()) => {}
            Err(error) if is_wrong_purpose(&error) => {
                self.stock.verify_client_cert(leaf, intermediates, now)?;
            }
            Err(error) => return Err(error),
        }
        let presented = PresentedNames::of(leaf).map_err(PeerRejection::into_tls)?;
        self.known.identify(&presented).map_err(PeerRejection::into_tls)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Verifies those we connect to.
#[derive(Debug)]
pub(super) struct OutboundVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl OutboundVerifier {
    pub(super) fn new(roots: Arc<RootCertStore>, provider: Arc<CryptoProvider>) -> Self {
        Self { roots, provider }
    }
}

impl ServerCertVerifier for OutboundVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        verify_chain(&self.roots, &self.provider, leaf, intermediates, now)?;
        let presented = PresentedNames::of(leaf).map_err(PeerRejection::into_tls)?;
        require_name(&presented, &server_name.to_str()).map_err(PeerRejection::into_tls)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn verify_chain(
    roots: &RootCertStore,
    provider: &CryptoProvider,
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Error> {
    let parsed = ParsedCertificate::try_from(leaf)?;
    let algorithms = provider.signature_verification_algorithms.all;
    match verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms) {
        // Issued under the name of one of our roots, but not by it.
        Err(Error::InvalidCertificate(CertificateError::BadSignature)) => {
            Err(PeerRejection::UntrustedChain(String::from("signature of another issuer")).into_tls())
        }
        other => other,
    }
}

fn is_wrong_purpose(error: &Error) -> bool {
    let Error::InvalidCertificate(reason) = error else { return false };
    matches!(reason, CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. })
}
