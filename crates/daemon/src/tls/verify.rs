//! The two verifiers. Owns the only constructor of [`VerifiedPeer`]: whoever holds one has seen a chain to our roots
//! and a name that was wanted. Chain mathematics stay with rustls-webpki; names are matched here, because Lync and
//! Exchange certificates name hosts in the common name and carry the server purpose only.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use b2bua::quirks::{Quirk, QuirkSet};
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

use super::names::{PresentedNames, Purpose};
use super::reject::PeerRejection;

/// A far end whose certificate chains to our roots and carries a wanted name. Only this module makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedPeer {
    names: Vec<String>,
    tolerated: QuirkSet,
}

impl VerifiedPeer {
    /// Names that were matched, most specific first.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The quirks it took to accept the certificate.
    pub fn tolerated(&self) -> QuirkSet {
        self.tolerated
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
        known: &KnownPeers,
    ) -> Result<Self, PeerRejection> {
        let leaf = chain.and_then(<[_]>::first).ok_or(PeerRejection::NoCertificate)?;
        known.require(&PresentedNames::of(leaf)?, wanted)
    }
}

/// Names and addresses of every configured peer that may connect to us, and the quirks that are off for some.
#[derive(Clone, Debug, Default)]
pub struct KnownPeers {
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    /// Quirks that are off for a peer.
    off: BTreeMap<String, QuirkSet>,
}

impl KnownPeers {
    /// Pools with their members, UM IP gateways and servers.
    pub fn new(names: impl IntoIterator<Item = String>, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut names: Vec<String> = names.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        names.sort();
        names.dedup();
        let addresses = addresses.into_iter().map(|address| address.to_canonical()).collect();
        Self { names, addresses, off: BTreeMap::new() }
    }

    /// The same, with quirks off for one peer: a certificate that needs one of them does not prove it.
    #[must_use]
    pub fn without(mut self, name: &str, off: QuirkSet) -> Self {
        if !off.is_empty() {
            let known = self.off.entry(name.to_ascii_lowercase()).or_default();
            *known = known.with(off);
        }
        self
    }

    fn is_off(&self, name: &str, needed: QuirkSet) -> bool {
        let off = self.off.get(name).copied().unwrap_or_default();
        needed.iter().any(|quirk| off.has(quirk))
    }

    /// Which of the known names the certificate proves: those it spells out first, those behind a wildcard after.
    fn identify(&self, presented: &PresentedNames) -> Result<VerifiedPeer, PeerRejection> {
        let purpose = match presented.purpose {
            Purpose::Clients => QuirkSet::NONE,
            Purpose::NotClients => QuirkSet::from_iter([Quirk::ServerAuthClient]),
        };
        let proven = self.names.iter().filter_map(|name| Some((name, presented.proves(name)?.with(purpose))));
        let (refused, mut proven): (Vec<_>, Vec<_>) =
            proven.partition(|(name, needed)| self.is_off(name, *needed));
        proven.sort_by_key(|(_, needed)| needed.has(Quirk::WildcardSan));
        let by_address = self.addresses.iter().filter(|address| presented.addresses.contains(address));
        let tolerated = proven.first().map_or(purpose, |(_, needed)| *needed);
        let names: Vec<String> = proven
            .iter()
            .map(|(name, _)| (*name).clone())
            .chain(by_address.copied().map(super::reject::address_name))
            .collect();
        if !names.is_empty() {
            return Ok(VerifiedPeer { names, tolerated });
        }
        // What is off for everybody it could have been is the reason that helps.
        match refused.first() {
            Some((name, _)) if self.is_off(name, purpose) => Err(PeerRejection::WrongPurpose),
            _ => Err(PeerRejection::UnknownName(presented.all())),
        }
    }

    /// Whether the certificate proves that very name, with the quirks that are on for it.
    fn require(&self, presented: &PresentedNames, wanted: &str) -> Result<VerifiedPeer, PeerRejection> {
        let name = wanted.to_ascii_lowercase();
        match presented.proves(wanted).filter(|needed| !self.is_off(&name, *needed)) {
            Some(tolerated) => Ok(VerifiedPeer { names: vec![name], tolerated }),
            None => {
                Err(PeerRejection::NameMismatch { expected: wanted.to_owned(), presented: presented.all() })
            }
        }
    }
}

/// The rules for those we connect to, asked about a chain that was only looked at. It gives no [`VerifiedPeer`]: nobody
/// proved here that they hold the key.
#[derive(Clone, Debug)]
pub struct Judge {
    verifier: Arc<OutboundVerifier>,
}

impl Judge {
    /// Judges by these roots and peers, as the gateway would.
    pub fn new(roots: RootCertStore, known: KnownPeers) -> Self {
        let verifier = OutboundVerifier::new(Arc::new(roots), super::provider(), Arc::new(known));
        Self { verifier: Arc::new(verifier) }
    }

    /// Would this chain be taken for `wanted`, and what had to be tolerated?
    ///
    /// # Errors
    /// The reason the gateway would give.
    pub fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        wanted: &str,
        now: SystemTime,
    ) -> Result<QuirkSet, PeerRejection> {
        let (leaf, intermediates) = chain.split_first().ok_or(PeerRejection::NoCertificate)?;
        let name = ServerName::try_from(wanted).map_err(|_| PeerRejection::MalformedName)?;
        let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        match self.verifier.verify_server_cert(leaf, intermediates, &name, &[], now) {
            Ok(_) => Ok(VerifiedPeer::of_outbound(Some(chain), wanted, &self.verifier.known)?.tolerated()),
            Err(error) => Err(PeerRejection::from_tls(&error)),
        }
    }
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
    known: Arc<KnownPeers>,
}

impl OutboundVerifier {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
        known: Arc<KnownPeers>,
    ) -> Self {
        Self { roots, provider, known }
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
        self.known.require(&presented, &server_name.to_str()).map_err(PeerRejection::into_tls)?;
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
