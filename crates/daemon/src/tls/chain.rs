//! Whether a chain leads from a peer's certificate to our roots, and how strong it is. Chain mathematics stay with
//! rustls-webpki; owned here is which of its answers means what, and what it does not look at: short keys, old signatures,
//! lists of revoked certificates by policy. Refuses to know names.

use std::cell::Cell;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage, RevocationOptions, VerifiedPath};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::crl::Revocations;
use super::reject::PeerRejection;
use super::{identity, legacy};

/// Shortest RSA key that needs no exception.
pub const RSA_BITS_MIN: usize = 2048;
/// RFC 5280 §4.1.2.2: at most 20 octets; one more where the first only carries the sign.
const SERIAL_OCTETS_MAX: usize = 20;

/// Why a chain is weak though it holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Weakness {
    /// An RSA key of so many bits.
    Key(usize),
    /// A signature of this sort.
    Signature(&'static str),
}

impl From<Weakness> for PeerRejection {
    fn from(weakness: Weakness) -> Self {
        match weakness {
            Weakness::Key(bits) => Self::WeakKey(bits),
            Weakness::Signature(name) => Self::WeakSignature(name.to_owned()),
        }
    }
}

/// A chain that holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Chain {
    /// What is weak about it, in its strongest form.
    pub(super) weakness: Option<Weakness>,
    /// An issuer may sign certain names only.
    pub(super) is_constrained: bool,
}

/// Checks chains against the roots and the lists of revoked certificates.
#[derive(Debug)]
pub(super) struct ChainVerifier {
    roots: RootCertStore,
    algorithms: Vec<&'static dyn SignatureVerificationAlgorithm>,
    revocations: Revocations,
}

impl ChainVerifier {
    pub(super) fn new(roots: RootCertStore, provider: &CryptoProvider) -> Self {
        let own = provider.signature_verification_algorithms.all;
        let algorithms = legacy::IN_CHAINS.iter().chain(own).copied().collect();
        Self { roots, algorithms, revocations: Revocations::default() }
    }

    pub(super) fn with_revocations(self, revocations: Revocations) -> Self {
        Self { revocations, ..self }
    }

    pub(super) fn roots(&self) -> &RootCertStore {
        &self.roots
    }

    /// A peer that connected to us. Windows' web-server template issues the server purpose only, and such certificates are
    /// what pools and UM servers present as clients; a certificate made for clients is as good.
    pub(super) fn of_client(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Chain, PeerRejection> {
        match self.verify(leaf, intermediates, now, KeyUsage::server_auth()) {
            Err(PeerRejection::WrongPurpose) => {
                self.verify(leaf, intermediates, now, KeyUsage::client_auth())
            }
            other => other,
        }
    }

    /// A peer that we connected to.
    pub(super) fn of_server(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Chain, PeerRejection> {
        self.verify(leaf, intermediates, now, KeyUsage::server_auth())
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
    ) -> Result<Chain, PeerRejection> {
        if intermediates.len() >= identity::CHAIN_LENGTH_MAX {
            return Err(PeerRejection::PathTooLong);
        }
        let outcome =
            self.revocations.options(|revocation| self.search(leaf, intermediates, now, usage, revocation));
        let diagnosis = Diagnosis { leaf, intermediates, now };
        let chain = outcome.map_err(|error| diagnosis.of(&error))?;
        match parse(leaf) {
            Some(leaf) if serial_octets(&leaf) > SERIAL_OCTETS_MAX => {
                Err(PeerRejection::LongSerial(serial_octets(&leaf)))
            }
            _ => Ok(chain),
        }
    }

    /// Looks for a strong chain first and settles for a weak one.
    fn search(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: KeyUsage,
        revocation: Option<RevocationOptions<'_>>,
    ) -> Result<Chain, Error> {
        let parsed = EndEntityCert::try_from(leaf)?;
        let (found, weakest) = (Cell::new(None), Cell::new(None));
        let look = |path: &VerifiedPath<'_>| {
            let chain = judged(path);
            let verdict = if chain.weakness.is_none() { Ok(()) } else { Err(Error::UnknownIssuer) };
            if verdict.is_ok() {
                found.set(Some(chain))
            } else {
                weakest.set(Some(chain))
            };
            verdict
        };
        let (algorithms, roots) = (&self.algorithms, &self.roots.roots);
        let outcome =
            parsed.verify_for_usage(algorithms, roots, intermediates, now, usage, revocation, Some(&look));
        match (outcome, found.take(), weakest.take()) {
            (Ok(_), Some(chain), _) | (Err(_), _, Some(chain)) => Ok(chain),
            (Err(error), ..) => Err(error),
            (Ok(_), None, _) => Err(Error::UnknownIssuer),
        }
    }
}

/// Whether anybody can make something of a certificate at all: version, encoding, critical extensions.
pub(super) fn readable(leaf: &CertificateDer<'_>) -> Result<(), PeerRejection> {
    let diagnosis = Diagnosis { leaf, intermediates: &[], now: UnixTime::now() };
    EndEntityCert::try_from(leaf).map(drop).map_err(|error| diagnosis.of(&error))
}

/// What webpki does not judge of a path it has verified.
fn judged(path: &VerifiedPath<'_>) -> Chain {
    let anchor: &TrustAnchor<'_> = path.anchor();
    let mut chain =
        Chain { weakness: weak_anchor(anchor), is_constrained: anchor.name_constraints.is_some() };
    let issuers = path.intermediate_certificates().map(|certificate| certificate.der());
    for (at, der) in std::iter::once(path.end_entity().der()).chain(issuers).enumerate() {
        let Some(certificate) = parse(&der) else { continue };
        chain.is_constrained |= at > 0 && certificate.name_constraints().is_ok_and(|found| found.is_some());
        chain.weakness = chain.weakness.or_else(|| weakness(&certificate));
    }
    chain
}

fn weakness(certificate: &X509Certificate<'_>) -> Option<Weakness> {
    let weak_key = short_key(certificate.public_key()).map(Weakness::Key);
    weak_key.or_else(|| {
        old_signature(certificate.signature_algorithm.algorithm.as_bytes()).map(Weakness::Signature)
    })
}

fn weak_anchor(anchor: &TrustAnchor<'_>) -> Option<Weakness> {
    // webpki keeps the inside of the sequence; a key that may be weak is shorter than 64 KiB.
    let inside = anchor.subject_public_key_info.as_ref();
    let [high, low] = u16::try_from(inside.len()).ok()?.to_be_bytes();
    let mut der = match (high, low) {
        (0, ..128) => vec![0x30, low],
        (0, _) => vec![0x30, 0x81, low],
        _ => vec![0x30, 0x82, high, low],
    };
    der.extend_from_slice(inside);
    let (_, key) = SubjectPublicKeyInfo::from_der(&der).ok()?;
    short_key(&key).map(Weakness::Key)
}

fn short_key(key: &SubjectPublicKeyInfo<'_>) -> Option<usize> {
    match key.parsed() {
        Ok(PublicKey::RSA(key)) => Some(key.key_size()).filter(|bits| *bits < RSA_BITS_MIN),
        _ => None,
    }
}

/// The old signature behind the value of an object identifier (RFC 3279 §2.2.1, §2.2.3).
fn old_signature(oid: &[u8]) -> Option<&'static str> {
    const PKCS1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01];
    match oid.strip_prefix(PKCS1) {
        Some([2]) => Some("MD2"),
        Some([4]) => Some("MD5"),
        Some([5]) => Some("SHA-1"),
        _ if oid == ECDSA_SHA1 => Some("SHA-1"),
        _ => None,
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der.as_ref()).ok().map(|(_, certificate)| certificate)
}

fn serial_octets(certificate: &X509Certificate<'_>) -> usize {
    match certificate.raw_serial() {
        [0, rest @ ..] => rest.len(),
        serial => serial.len(),
    }
}

/// What is at hand to explain a refusal.
struct Diagnosis<'a> {
    leaf: &'a CertificateDer<'a>,
    intermediates: &'a [CertificateDer<'a>],
    now: UnixTime,
}

impl Diagnosis<'_> {
    /// The one reading of webpki's answers.
    fn of(&self, error: &Error) -> PeerRejection {
        use PeerRejection as P;
        if self.is_self_signed() {
            return P::SelfSigned;
        }
        match error {
            Error::CertExpired { .. } if self.is_leaf_expired() => P::Expired,
            Error::CertExpired { .. } => P::IssuerExpired,
            Error::CertNotValidYet { .. } => P::NotYetValid,
            Error::UnknownIssuer => self.untrusted(),
            Error::InvalidSignatureForPublicKey => self.badly_signed(),
            Error::UnsupportedSignatureAlgorithmContext(_) => self.strangely_signed(),
            Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => P::IssuerForged,
            Error::EmptyEkuExtension | Error::RequiredEkuNotFoundContext(_) => P::WrongPurpose,
            Error::NameConstraintViolation
            | Error::MalformedNameConstraint
            | Error::InvalidNetworkMaskConstraint => P::NameConstraint,
            Error::PathLenConstraintViolated | Error::MaximumPathDepthExceeded => P::PathTooLong,
            Error::CaUsedAsEndEntity => P::CaAsPeer,
            Error::EndEntityUsedAsCa => P::NotACa,
            Error::CertRevoked => P::Revoked,
            Error::UnknownRevocationStatus => P::RevocationUnknown("no list of its issuer"),
            Error::CrlExpired { .. } => P::RevocationUnknown("the list of its issuer is out of date"),
            Error::IssuerNotCrlSigner
            | Error::InvalidCrlSignatureForPublicKey
            | Error::UnsupportedCrlSignatureAlgorithmContext(_)
            | Error::UnsupportedCrlSignatureAlgorithmForPublicKeyContext(_) => {
                P::RevocationUnknown("the list in its issuer's name is not signed by it")
            }
            Error::UnsupportedCriticalExtension => P::UnknownCriticalExtension,
            Error::UnsupportedCertVersion => P::OldVersion,
            other => P::Unusable(format!("{other:?}")),
        }
    }

    fn is_self_signed(&self) -> bool {
        parse(self.leaf).is_some_and(|leaf| leaf.issuer().as_raw() == leaf.subject().as_raw())
    }

    fn is_leaf_expired(&self) -> bool {
        let now = i64::try_from(self.now.as_secs()).unwrap_or(i64::MAX);
        parse(self.leaf).is_some_and(|leaf| leaf.validity().not_after.timestamp() < now)
    }

    /// No path to a root: either a link is missing, or the chain ends in somebody else's root.
    fn untrusted(&self) -> PeerRejection {
        let Some(mut at) = parse(self.leaf) else { return PeerRejection::Unusable("encoding".to_owned()) };
        for _ in 0..=self.intermediates.len() {
            let issuer = at.issuer().as_raw();
            let mut sent = self.intermediates.iter().filter_map(parse);
            match sent.find(|certificate| certificate.subject().as_raw() == issuer) {
                Some(found) if found.issuer().as_raw() == issuer => {
                    return PeerRejection::UntrustedChain(found.subject().to_string());
                }
                Some(found) => at = found,
                None => return PeerRejection::IssuerMissing(at.issuer().to_string()),
            }
        }
        PeerRejection::UntrustedChain("issuers that name each other".to_owned())
    }

    /// Our verifiers begin at 1024 bits; what is shorter looks like a false signature.
    fn badly_signed(&self) -> PeerRejection {
        let shortest = self.intermediates.iter().filter_map(parse).filter_map(|c| short_key(c.public_key()));
        match shortest.min() {
            Some(bits) if bits < RSA_BITS_MIN / 2 => PeerRejection::WeakKey(bits),
            _ => PeerRejection::IssuerForged,
        }
    }

    fn strangely_signed(&self) -> PeerRejection {
        let sent = std::iter::once(self.leaf).chain(self.intermediates).filter_map(parse);
        let mut old = sent.filter_map(|c| old_signature(c.signature_algorithm.algorithm.as_bytes()));
        match old.next() {
            Some(name) => PeerRejection::WeakSignature(name.to_owned()),
            None => PeerRejection::Unusable("unknown signature algorithm".to_owned()),
        }
    }
}
