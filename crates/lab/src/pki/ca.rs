//! The root and its signing key.

use std::fmt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256,
    RsaKeySize, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};

use super::identity::{Identity, read, write, write_private};
use super::spec::{CertSpec, KeyKind, Life, Purpose};
use super::{LIFE_DAYS, PkiError};

/// Lync demands that a certificate names a CRL; nothing listens there (RFC 2606 keeps `.invalid` unresolvable).
const CRL_URI: &str = "http://crl.umbra-lab.invalid/root.crl";
/// Allowance for clocks that disagree.
const BACKDATED: Duration = Duration::hours(1);

/// A lab root: issues host certificates. Debug output shows no key.
pub struct LabCa {
    issuer: Issuer<'static, KeyPair>,
    root_pem: String,
    root: CertificateDer<'static>,
}

impl LabCa {
    /// A new root with the given common name, on RSA-2048.
    pub fn create(common_name: &str) -> Result<Self, PkiError> {
        let key = generate(KeyKind::Rsa2048)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = span(Life::Current);
        let certificate = params.self_signed(&key)?;
        Ok(LabCa {
            root_pem: certificate.pem(),
            root: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Reads a root and its key back from PEM files.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, PkiError> {
        let root_pem = read(certificate)?;
        let key = KeyPair::from_pem(&read(key)?)?;
        let root = CertificateDer::from_pem_slice(root_pem.as_bytes())
            .map_err(|_| PkiError::Pem { path: certificate.to_owned(), what: "holds no certificate" })?;
        Ok(LabCa { issuer: Issuer::from_ca_cert_pem(&root_pem, key)?, root_pem, root })
    }

    /// Issues a certificate with a fresh key.
    pub fn issue(&self, spec: &CertSpec) -> Result<Identity, PkiError> {
        let key = generate(spec.key)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&spec.common_name());
        params.subject_alt_names = sans(spec)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = usages(spec.purpose);
        params.use_authority_key_identifier_extension = true;
        params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![CRL_URI.to_owned()] }];
        (params.not_before, params.not_after) = span(spec.life);
        let certificate = params.signed_by(&key, &self.issuer)?;
        let chain = format!("{}{}", certificate.pem(), self.root_pem);
        Identity::from_pem(&spec.fqdn, chain, key.serialize_pem(), Path::new("memory"))
    }

    /// The root certificate.
    pub fn root(&self) -> &CertificateDer<'static> {
        &self.root
    }

    /// The root certificate as PEM.
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Writes the root certificate to `path`.
    pub fn write_root(&self, path: &Path) -> Result<PathBuf, PkiError> {
        write(path, &self.root_pem)?;
        Ok(path.to_owned())
    }

    pub(super) fn write_key(&self, path: &Path) -> Result<(), PkiError> {
        write_private(path, &self.issuer.key().serialize_pem())
    }
}

impl fmt::Debug for LabCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LabCa").finish_non_exhaustive()
    }
}

fn generate(kind: KeyKind) -> Result<KeyPair, PkiError> {
    Ok(match kind {
        KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
        KeyKind::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
    })
}

fn subject(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Umbra lab");
    name.push(DnType::CommonName, common_name);
    name
}

fn sans(spec: &CertSpec) -> Result<Vec<SanType>, PkiError> {
    spec.dns_names().into_iter().map(|name| Ok(SanType::DnsName(name.try_into()?))).collect()
}

fn usages(purpose: Purpose) -> Vec<ExtendedKeyUsagePurpose> {
    match purpose {
        Purpose::ServerOnly => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Purpose::ClientOnly => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Purpose::ServerAndClient => {
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
        }
    }
}

fn span(life: Life) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    let days = Duration::days(LIFE_DAYS);
    match life {
        Life::Current => (now - BACKDATED, now + days),
        Life::Expired => (now - days, now - Duration::DAY),
        Life::NotYet => (now + Duration::DAY, now + days),
    }
}
