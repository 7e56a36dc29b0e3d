//! The two verifiers. Owns the only constructor of [`VerifiedPeer`]: whoever holds one has seen a chain to our roots
//! and a name that was wanted. Chain mathematics stay with rustls-webpki; names are matched here, because Lync and
//! Exchange certificates name hosts in the common name and carry the server purpose only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use b2bua::quirks::{Quirk, QuirkSet};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::chain::{Chain, ChainVerifier, Weakness};
use super::crl::Revocations;
use super::legacy;
use super::names::{NameSource, PresentedNames, Purpose};
use super::refused;
use super::reject::PeerRejection;

/// A far end whose certificate chains to our roots and carries a wanted name. Only this module makes one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VerifiedPeer {
    names: Vec<String>,
    tolerated: QuirkSet,
    weakness: Option<Weakness>,
    chain: Vec<CertificateDer<'static>>,
}

impl VerifiedPeer {
    /// What it proved itself by, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Names that were matched, most specific first.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The quirks it took to accept the certificate.
    pub fn tolerated(&self) -> QuirkSet {
        self.tolerated
    }

    fn by(self, leaf: &CertificateDer<'_>, issuers: &[CertificateDer<'_>]) -> Self {
        let chain = std::iter::once(leaf).chain(issuers).map(|der| der.clone().into_owned()).collect();
        Self { chain, ..self }
    }

    /// What is weak about its chain: it is excepted by name.
    pub fn weakness(&self) -> Option<&Weakness> {
        self.weakness.as_ref()
    }
}

/// Names and addresses of every configured peer that may connect to us, and the quirks that are off for some.
#[derive(Clone, Debug, Default)]
pub struct KnownPeers {
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    /// Quirks that are off for a peer.
    off: BTreeMap<String, QuirkSet>,
    /// Who may come with a weak chain.
    weak: BTreeSet<String>,
}

impl KnownPeers {
    /// Pools with their members, UM IP gateways and servers.
    pub fn new(names: impl IntoIterator<Item = String>, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut names: Vec<String> = names.into_iter().map(|name| name.to_ascii_lowercase()).collect();
        names.sort();
        names.dedup();
        let addresses = addresses.into_iter().map(|address| address.to_canonical()).collect();
        Self { names, addresses, off: BTreeMap::new(), weak: BTreeSet::new() }
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

    /// The same, with SHA-1 and short keys accepted from these names or addresses.
    #[must_use]
    pub fn with_weak(mut self, names: impl IntoIterator<Item = String>) -> Self {
        self.weak.extend(names.into_iter().map(|name| name.to_ascii_lowercase()));
        self
    }

    /// Whether that peer may come with a weak chain.
    pub(super) fn may_be_weak(&self, name: &str) -> bool {
        self.weak.contains(&name.to_ascii_lowercase())
    }

    pub(super) fn weak_peers(&self) -> impl ExactSizeIterator<Item = &str> {
        self.weak.iter().map(String::as_str)
    }

    fn has(&self, name: &str) -> bool {
        self.names.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }

    /// As a verified peer is called.
    pub(super) fn all(&self) -> impl Iterator<Item = String> {
        let addresses = self.addresses.iter().map(|address| super::reject::address_name(*address));
        self.names.iter().cloned().chain(addresses)
    }

    fn is_off(&self, name: &str, needed: QuirkSet) -> bool {
        let off = self.off.get(name).copied().unwrap_or_default();
        needed.iter().any(|quirk| off.has(quirk))
    }

    /// Which of the known names the certificate proves: those it spells out first, those behind a wildcard after.
    fn identify(&self, presented: &PresentedNames, chain: Chain) -> Result<VerifiedPeer, PeerRejection> {
        let purpose = match presented.purpose {
            Purpose::Clients => QuirkSet::NONE,
            Purpose::NotClients => QuirkSet::from_iter([Quirk::ServerAuthClient]),
        };
        let proven = self.names.iter().filter_map(|name| Some((name, presented.proves(name)?.with(purpose))));
        let (refused, mut proven): (Vec<_>, Vec<_>) =
            proven.partition(|(name, needed)| self.is_off(name, *needed));
        proven.sort_by_key(|(_, needed)| needed.has(Quirk::WildcardSan));
        let by_address = self.addresses.iter().filter(|address| presented.addresses.contains(address));
        let by_address = by_address.map(|address| (super::reject::address_name(*address), purpose));
        let mut named: Vec<(String, QuirkSet)> =
            proven.iter().map(|(name, needed)| ((*name).clone(), *needed)).chain(by_address).collect();
        if named.is_empty() {
            // What is off for everybody it could have been is the reason that helps.
            return match refused.first() {
                Some((name, _)) if self.is_off(name, purpose) => Err(PeerRejection::WrongPurpose),
                _ => Err(PeerRejection::UnknownName(presented.all())),
            };
        }
        unconstrained(presented, &chain)?;
        if let Some(weakness) = &chain.weakness {
            named.retain(|(name, _)| self.may_be_weak(name));
            if named.is_empty() {
                return Err(weakness.clone().into());
            }
        }
        let tolerated = named.first().map_or(purpose, |(_, needed)| *needed);
        let names = named.into_iter().map(|(name, _)| name).collect();
        Ok(VerifiedPeer { names, tolerated, weakness: chain.weakness, chain: Vec::new() })
    }

    /// Whether the certificate proves that very name, with the quirks that are on for it.
    fn require(
        &self,
        presented: &PresentedNames,
        chain: Chain,
        wanted: &str,
    ) -> Result<VerifiedPeer, PeerRejection> {
        let name = wanted.to_ascii_lowercase();
        let Some(tolerated) = presented.proves(wanted).filter(|needed| !self.is_off(&name, *needed)) else {
            return Err(PeerRejection::NameMismatch {
                expected: wanted.to_owned(),
                presented: presented.all(),
            });
        };
        unconstrained(presented, &chain)?;
        match chain.weakness {
            Some(weakness) if !self.may_be_weak(&name) => Err(weakness.into()),
            weakness => Ok(VerifiedPeer { names: vec![name], tolerated, weakness, chain: Vec::new() }),
        }
    }
}

/// Name constraints speak of alternative names; under them a common name would be a way around (RFC 5280 §4.2.1.10).
fn unconstrained(presented: &PresentedNames, chain: &Chain) -> Result<(), PeerRejection> {
    let is_way_around = chain.is_constrained && presented.source == NameSource::CommonName;
    if is_way_around { Err(PeerRejection::NameConstraint) } else { Ok(()) }
}

/// Who the far end is: chain, then name. The one place where a [`VerifiedPeer`] comes from.
#[derive(Debug)]
pub struct Judge {
    chains: ChainVerifier,
    known: KnownPeers,
}

impl Judge {
    /// Judges by these roots and peers, and by no list of revoked certificates.
    pub fn new(roots: RootCertStore, known: KnownPeers) -> Self {
        Self { chains: ChainVerifier::new(roots, &super::provider()), known }
    }

    /// The same with lists of revoked certificates.
    #[must_use]
    pub fn with_revocations(self, revocations: Revocations) -> Self {
        Self { chains: self.chains.with_revocations(revocations), ..self }
    }

    /// Would this chain, that was only looked at, be taken for `wanted`, and what had to be tolerated? It gives no
    /// [`VerifiedPeer`]: nobody proved here that they hold the key.
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
        let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        Ok(self.outbound(leaf, intermediates, wanted, now)?.tolerated())
    }

    /// Would this chain, whose key was proven in a handshake, be taken again for what it was taken for? A name that left the
    /// configuration is no reason as long as another is there.
    ///
    /// # Errors
    /// The reason against it.
    pub(super) fn lets_in(
        &self,
        chain: &[CertificateDer<'_>],
        names: &[String],
        now: SystemTime,
    ) -> Result<(), PeerRejection> {
        let (leaf, intermediates) = chain.split_first().ok_or(PeerRejection::NoCertificate)?;
        let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        let peer = self.inbound(leaf, intermediates, now)?;
        let is_lost = |name: &&String| self.known.has(name) && !peer.names().contains(name);
        match names.iter().find(is_lost) {
            Some(name) => {
                let (expected, presented) = (name.clone(), peer.names().to_vec());
                Err(PeerRejection::NameMismatch { expected, presented })
            }
            None => Ok(()),
        }
    }

    /// Whether that peer may come with a weak chain.
    pub fn may_be_weak(&self, name: &str) -> bool {
        self.known.may_be_weak(name)
    }

    pub(super) fn roots(&self) -> &RootCertStore {
        self.chains.roots()
    }

    pub(super) fn known(&self) -> &KnownPeers {
        &self.known
    }

    /// The far end of an inbound handshake: any known peer.
    pub(super) fn inbound(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<VerifiedPeer, PeerRejection> {
        let judged = || {
            let chain = self.chains.of_client(leaf, intermediates, now)?;
            self.known.identify(&PresentedNames::of(leaf)?, chain)
        };
        let peer = judged().inspect_err(|_| refused::keep(leaf))?;
        Ok(peer.by(leaf, intermediates))
    }

    /// The far end of an outbound handshake: it is who we asked for and nobody else, whatever other names its certificate
    /// carries.
    pub(super) fn outbound(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        wanted: &str,
        now: UnixTime,
    ) -> Result<VerifiedPeer, PeerRejection> {
        let judged = || {
            let chain = self.chains.of_server(leaf, intermediates, now)?;
            self.known.require(&PresentedNames::of(leaf)?, chain, wanted)
        };
        let peer = judged().inspect_err(|_| refused::keep(leaf))?;
        Ok(peer.by(leaf, intermediates))
    }
}

/// How signatures inside handshakes are checked; the same in both directions.
#[derive(Debug)]
pub(super) struct Handshakes {
    provider: Arc<CryptoProvider>,
    /// Somebody is excepted: the certificate was accepted before its signature is looked at here.
    takes_weak: bool,
}

impl Handshakes {
    pub(super) fn new(provider: Arc<CryptoProvider>, toward: Toward) -> Self {
        Self { provider, takes_weak: toward == Toward::Weak }
    }

    pub(super) fn tls12(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        match verify_tls12_signature(message, certificate, signature, algorithms) {
            Err(error) if self.takes_weak => {
                verify_tls12_signature(message, certificate, signature, &legacy::IN_HANDSHAKES)
                    .map_err(|_| error)
            }
            other => other,
        }
    }

    pub(super) fn tls13(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    pub(super) fn schemes(&self) -> Vec<SignatureScheme> {
        let schemes = self.provider.signature_verification_algorithms.supported_schemes();
        if self.takes_weak { legacy::pkcs1_first(schemes) } else { schemes }
    }
}

/// Verifies those who connect to us.
#[derive(Debug)]
pub(super) struct InboundVerifier {
    judge: Arc<Judge>,
    hints: Vec<DistinguishedName>,
    handshakes: Handshakes,
}

impl InboundVerifier {
    pub(super) fn new(judge: Arc<Judge>, provider: Arc<CryptoProvider>) -> Self {
        let takes_weak = !judge.known.weak.is_empty();
        let hints = judge.roots().subjects();
        Self { judge, hints, handshakes: Handshakes { provider, takes_weak } }
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
        self.judge.inbound(leaf, intermediates, now).map_err(PeerRejection::into_tls)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.handshakes.tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.handshakes.tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.handshakes.schemes()
    }
}

/// Whom a client configuration is for.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum Toward {
    /// Peers of today.
    Strong,
    /// Peers that may come with a weak chain.
    Weak,
}

/// Verifies those we connect to.
#[derive(Debug)]
pub(super) struct OutboundVerifier {
    judge: Arc<Judge>,
    handshakes: Handshakes,
}

impl OutboundVerifier {
    pub(super) fn new(judge: Arc<Judge>, provider: Arc<CryptoProvider>, toward: Toward) -> Self {
        Self { judge, handshakes: Handshakes::new(provider, toward) }
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
        let judged = self.judge.outbound(leaf, intermediates, &server_name.to_str(), now);
        judged.map_err(PeerRejection::into_tls)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.handshakes.tls12(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.handshakes.tls13(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.handshakes.schemes()
    }
}
