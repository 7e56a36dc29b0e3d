//! The root and its signing key.

use std::fmt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RevokedCertParams, RsaKeySize, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer, X509Certificate};

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
    /// A new root with the given common name, on RSA-2048, for [`LIFE_DAYS`].
    pub fn create(common_name: &str) -> Result<Self, PkiError> {
        Self::create_for(common_name, Life::Current)
    }

    /// The same with another life.
    pub fn create_for(common_name: &str, life: Life) -> Result<Self, PkiError> {
        let key = generate(KeyKind::Rsa2048)?;
        let params = issuer_params_for(common_name, life);
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
        let mut params = host_params(&spec.common_name(), &spec.dns_names())?;
        params.extended_key_usages = usages(spec.purpose);
        (params.not_before, params.not_after) = span(spec.life);
        let certificate = params.signed_by(&key, &self.issuer)?;
        let chain = format!("{}{}", certificate.pem(), self.root_pem);
        Identity::from_pem(&spec.fqdn, chain, key.serialize_pem(), Path::new("memory"))
    }

    /// A list of revoked certificates, PEM, that promises the next one in so many days.
    pub fn revocation_list(&self, identities: &[&Identity], days: i64) -> Result<String, PkiError> {
        let now = OffsetDateTime::now_utc();
        let serial = |identity: &&Identity| {
            let (_, leaf) = X509Certificate::from_der(identity.chain().first()?).ok()?;
            Some(SerialNumber::from_slice(leaf.raw_serial()))
        };
        let revoked = |serial_number| RevokedCertParams {
            serial_number,
            revocation_time: now - BACKDATED,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now - Duration::days(LIFE_DAYS),
            next_update: now + Duration::days(days),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: identities.iter().filter_map(serial).map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer)?.pem()?)
    }

    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
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

/// What an authority's certificate says.
pub(super) fn issuer_params(common_name: &str) -> CertificateParams {
    issuer_params_for(common_name, Life::Current)
}

fn issuer_params_for(common_name: &str, life: Life) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = span(life);
    params
}

/// What a host's certificate says, for both purposes.
pub(super) fn host_params(common_name: &str, dns_names: &[String]) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(common_name);
    let name = |name: &String| match name.parse() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => Ok(SanType::DnsName(name.clone().try_into()?)),
    };
    params.subject_alt_names = dns_names.iter().map(name).collect::<Result<_, PkiError>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = usages(Purpose::ServerAndClient);
    params.use_authority_key_identifier_extension = true;
    params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![CRL_URI.to_owned()] }];
    (params.not_before, params.not_after) = span(Life::Current);
    Ok(params)
}

pub(super) fn generate(kind: KeyKind) -> Result<KeyPair, PkiError> {
    Ok(match kind {
        KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
        KeyKind::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
    })
}

pub(super) fn subject(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "Umbra lab");
    name.push(DnType::CommonName, common_name);
    name
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

pub(super) fn span(life: Life) -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    let days = Duration::days(LIFE_DAYS);
    match life {
        Life::Current => (now - BACKDATED, now + days),
        Life::Days(days) => (now - BACKDATED, now + Duration::days(days.into())),
        Life::Expired => (now - days, now - Duration::DAY),
        Life::NotYet => (now + Duration::DAY, now + days),
    }
}
