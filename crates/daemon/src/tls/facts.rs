//! What a certificate says about itself, for people to read: subject, names, life, key, signature, purposes. Owns the
//! reading and its bounds; judges nothing (`verify` does), and every text in it is safe to print.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use b2bua::verdict::clean;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::der_parser::Oid;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo, X509Name};

use super::chain::RSA_BITS_MIN;
use super::names::{NAMES_MAX, address_of, is_host_name};

/// Longest certificate read; a TLS handshake message holds no longer one that we accept.
pub const DER_BYTES_MAX: usize = 64 * 1024;
/// Common names and purposes kept of one certificate.
const LIST_MAX: usize = 16;
/// A serial number has at most 20 octets (RFC 5280 §4.1.2.2); longer ones are cut.
const SERIAL_BYTES_MAX: usize = 32;
const SECONDS_PER_DAY: i64 = 24 * 3600;

/// One certificate, read. The keys of its JSON are documented and stable.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct CertificateFacts {
    /// Whole subject, RFC 4514 style.
    pub subject: String,
    /// Common names of the subject, from general to special.
    pub common_names: Vec<String>,
    /// Subject alternative names, at most 256.
    pub names: Vec<AlternativeName>,
    /// Whole issuer.
    pub issuer: String,
    /// Hexadecimal, without colons.
    pub serial: String,
    /// RFC 3339, UTC.
    pub not_before: String,
    /// RFC 3339, UTC.
    pub not_after: String,
    /// Whole days from the moment of reading to the end; negative once it is over.
    pub days_left: i64,
    /// The same end as a moment; `None` before 1970.
    #[serde(skip)]
    pub end: Option<SystemTime>,
    /// Where that moment stands.
    pub life: Lifetime,
    /// Public key.
    pub key: KeyFacts,
    /// How the issuer signed it.
    pub signature: SignatureFacts,
    /// Extended key usage; `None` when the certificate does not say (any purpose, RFC 5280 §4.2.1.12).
    pub purposes: Option<Vec<String>>,
    /// May issue certificates.
    pub is_ca: bool,
    /// Subject and issuer are one.
    pub self_signed: bool,
    /// Names a place to ask for revocation lists.
    pub has_crl_point: bool,
    /// SHA-256 over the certificate, hexadecimal.
    pub sha256: String,
    /// SHA-1 over the certificate: what Windows and Exchange call the thumbprint.
    pub thumbprint: String,
}

/// One subject alternative name.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct AlternativeName {
    /// What sort it is.
    pub kind: NameKind,
    /// The name, cleaned.
    pub text: String,
}

/// Sorts of subject alternative names.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NameKind {
    /// A host name, or `*.` and a host name.
    Dns,
    /// An address.
    Ip,
    /// Mail, URI, directory name: nothing that names a SIP peer.
    Other,
    /// Bytes that no name of its sort has: control characters, NUL, an address of three octets.
    Malformed,
}

/// Where a moment stands in a validity.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifetime {
    /// Inside.
    Current,
    /// Before it.
    NotYetValid,
    /// After it.
    Expired,
}

/// A public key.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct KeyFacts {
    /// `RSA`, `ECDSA P-256`, …, or the object identifier.
    pub algorithm: String,
    /// Size, where it is known.
    pub bits: Option<usize>,
    /// RSA (or DSA) below 2048 bits.
    pub is_weak: bool,
}

/// A signature.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct SignatureFacts {
    /// `sha256RSA`, as Windows shows it, or the object identifier.
    pub algorithm: String,
    /// MD2, MD5 or SHA-1: forged certificates exist.
    pub is_weak: bool,
    /// RSASSA-PSS, which Lync does not accept.
    pub is_pss: bool,
}

/// Why nothing can be said about a certificate.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FactsError {
    /// More bytes than any certificate has.
    #[error("longer than {DER_BYTES_MAX} bytes")]
    TooLong,
    /// Not a certificate.
    #[error("not a certificate: {0}")]
    Malformed(String),
}

impl CertificateFacts {
    /// Reads one DER certificate; days are counted from `now`.
    ///
    /// # Errors
    /// It is too long or no certificate.
    pub fn read(der: &[u8], now: SystemTime) -> Result<Self, FactsError> {
        if der.len() > DER_BYTES_MAX {
            return Err(FactsError::TooLong);
        }
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| FactsError::Malformed(clean(&error.to_string())))?;
        let (begin, end) =
            (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
        let now = unix_seconds(now);
        let serial = certificate.raw_serial();
        Ok(Self {
            subject: clean(&certificate.subject().to_string()),
            common_names: common_names(certificate.subject()),
            names: alternative_names(&certificate),
            issuer: clean(&certificate.issuer().to_string()),
            serial: hex(serial.get(..SERIAL_BYTES_MAX).unwrap_or(serial)),
            not_before: rfc3339(begin),
            not_after: rfc3339(end),
            days_left: end.saturating_sub(now).div_euclid(SECONDS_PER_DAY),
            end: u64::try_from(end).ok().map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds)),
            life: lifetime(begin, end, now),
            key: key_facts(certificate.public_key()),
            signature: signature_facts(&certificate.signature_algorithm),
            purposes: purposes(&certificate),
            is_ca: certificate.is_ca(),
            self_signed: certificate.subject().as_raw() == certificate.issuer().as_raw(),
            has_crl_point: has_crl_point(&certificate),
            sha256: digest(&aws_lc_rs::digest::SHA256, der),
            thumbprint: digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, der),
        })
    }

    /// Facts of every certificate of a chain, in its order.
    pub fn read_chain<'a>(
        chain: impl IntoIterator<Item = &'a [u8]>,
        now: SystemTime,
    ) -> Vec<Result<Self, FactsError>> {
        chain.into_iter().map(|der| Self::read(der, now)).collect()
    }

    /// The host name of the subject: RDNs run from general to special, so the last common name is it.
    pub fn common_name(&self) -> Option<&str> {
        self.common_names.last().map(String::as_str)
    }

    /// Whether one of the common names is a wildcard, which UM does not work with.
    pub fn has_wildcard_subject(&self) -> bool {
        self.common_names.iter().any(|name| name.contains('*'))
    }

    /// Fit for servers: it says so, or does not say.
    pub fn is_for_servers(&self) -> bool {
        let serves = |name: &String| matches!(name.as_str(), SERVER_AUTH | ANY_PURPOSE);
        self.purposes.as_ref().is_none_or(|purposes| purposes.iter().any(serves))
    }

    /// Made for servers, in so many words: what Lync and Exchange want to read in ours.
    pub fn says_server(&self) -> bool {
        self.purposes.is_some() && self.is_for_servers()
    }

    /// Alternative names that nothing could make sense of.
    pub fn malformed_names(&self) -> impl Iterator<Item = &AlternativeName> {
        self.names.iter().filter(|name| name.kind == NameKind::Malformed)
    }
}

fn common_names(subject: &X509Name<'_>) -> Vec<String> {
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        value.as_str().map_or_else(|_| hex(value.as_slice()), str::to_owned)
    };
    subject.iter_common_name().take(LIST_MAX).map(|value| clean(&text(value))).collect()
}

fn alternative_names(certificate: &X509Certificate<'_>) -> Vec<AlternativeName> {
    match certificate.subject_alternative_name() {
        Ok(Some(extension)) => {
            extension.value.general_names.iter().take(NAMES_MAX).map(AlternativeName::of).collect()
        }
        Ok(None) => Vec::new(),
        Err(_) => vec![AlternativeName {
            kind: NameKind::Malformed,
            text: "the extension cannot be read, or stands there twice".to_owned(),
        }],
    }
}

impl AlternativeName {
    fn of(name: &GeneralName<'_>) -> Self {
        let (kind, text) = match name {
            GeneralName::DNSName(text) if is_host_name(text.strip_prefix("*.").unwrap_or(text)) => {
                (NameKind::Dns, (*text).to_owned())
            }
            GeneralName::DNSName(text) => (NameKind::Malformed, (*text).to_owned()),
            GeneralName::IPAddress(bytes) => match address_of(bytes) {
                Some(address) => (NameKind::Ip, address.to_string()),
                None => (NameKind::Malformed, hex(bytes)),
            },
            GeneralName::RFC822Name(text) => (NameKind::Other, format!("mail {text}")),
            GeneralName::URI(text) => (NameKind::Other, format!("uri {text}")),
            GeneralName::DirectoryName(name) => (NameKind::Other, format!("directory {name}")),
            GeneralName::Invalid(_, bytes) => {
                (NameKind::Malformed, String::from_utf8_lossy(bytes).into_owned())
            }
            _ => (NameKind::Other, "of another sort".to_owned()),
        };
        Self { kind, text: clean(&text) }
    }
}

fn lifetime(begin: i64, end: i64, now: i64) -> Lifetime {
    match now {
        now if now < begin => Lifetime::NotYetValid,
        now if now > end => Lifetime::Expired,
        _ => Lifetime::Current,
    }
}

fn key_facts(key: &SubjectPublicKeyInfo<'_>) -> KeyFacts {
    let algorithm = match key.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.10045.2.1" => format!("ECDSA {}", curve(&key.algorithm)),
        oid => word(&KEY_ALGORITHMS, oid),
    };
    let (bits, is_measured) = match key.parsed() {
        Ok(PublicKey::RSA(rsa)) => (Some(bit_length(rsa.modulus)), true),
        Ok(PublicKey::DSA(_)) => (None, true),
        Ok(PublicKey::EC(point)) => (Some(point.key_size()).filter(|bits| *bits > 0), false),
        _ => (None, false),
    };
    KeyFacts { algorithm, bits, is_weak: is_measured && bits.is_none_or(|bits| bits < RSA_BITS_MIN) }
}

fn curve(algorithm: &AlgorithmIdentifier<'_>) -> String {
    let oid = algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
    oid.map_or_else(|| "without a curve".to_owned(), |oid| word(&CURVES, &oid.to_id_string()))
}

fn bit_length(number: &[u8]) -> usize {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let number = number.get(first..).unwrap_or_default();
    let spare = number.first().map_or(0, |byte| byte.leading_zeros() as usize);
    number.len() * 8 - spare
}

fn signature_facts(algorithm: &AlgorithmIdentifier<'_>) -> SignatureFacts {
    let oid = algorithm.algorithm.to_id_string();
    SignatureFacts {
        algorithm: word(&SIGNATURES, &oid),
        is_weak: WEAK_SIGNATURES.contains(&oid.as_str()),
        is_pss: oid == RSASSA_PSS,
    }
}

const SERVER_AUTH: &str = "serverAuth";
const ANY_PURPOSE: &str = "anyExtendedKeyUsage";

fn purposes(certificate: &X509Certificate<'_>) -> Option<Vec<String>> {
    let usage = match certificate.extended_key_usage() {
        Ok(usage) => usage?.value,
        Err(_) => return Some(vec!["unreadable".to_owned()]),
    };
    let known = [
        (usage.any, ANY_PURPOSE),
        (usage.server_auth, SERVER_AUTH),
        (usage.client_auth, "clientAuth"),
        (usage.code_signing, "codeSigning"),
        (usage.email_protection, "emailProtection"),
        (usage.time_stamping, "timeStamping"),
        (usage.ocsp_signing, "OCSPSigning"),
    ];
    let known = known.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name.to_owned());
    let other = usage.other.iter().take(LIST_MAX).map(oid_text);
    Some(known.chain(other).collect())
}

fn has_crl_point(certificate: &X509Certificate<'_>) -> bool {
    let is_it = |parsed: &ParsedExtension<'_>| matches!(parsed, ParsedExtension::CRLDistributionPoints(_));
    certificate.extensions().iter().any(|extension| is_it(extension.parsed_extension()))
}

fn oid_text(oid: &Oid<'_>) -> String {
    clean(&oid.to_id_string())
}

/// RSASSA-PSS (RFC 4055 §3.1).
const RSASSA_PSS: &str = "1.2.840.113549.1.1.10";

/// RFC 8017 appendix C, RFC 5480 §2.1.1, RFC 8410 §3.
const KEY_ALGORITHMS: [(&str, &str); 5] = [
    ("1.2.840.113549.1.1.1", "RSA"),
    (RSASSA_PSS, "RSA (PSS only)"),
    ("1.2.840.10040.4.1", "DSA"),
    ("1.3.101.112", "Ed25519"),
    ("1.3.101.113", "Ed448"),
];

/// RFC 5480 §2.1.1.1.
const CURVES: [(&str, &str); 3] =
    [("1.2.840.10045.3.1.7", "P-256"), ("1.3.132.0.34", "P-384"), ("1.3.132.0.35", "P-521")];

/// RFC 8017 appendix C, RFC 5758 §3.2, RFC 8410 §3; the names are those of the Windows certificate dialog.
const SIGNATURES: [(&str, &str); 14] = [
    ("1.2.840.113549.1.1.2", "md2RSA"),
    ("1.2.840.113549.1.1.4", "md5RSA"),
    ("1.2.840.113549.1.1.5", "sha1RSA"),
    ("1.3.14.3.2.29", "sha1RSA"),
    ("1.2.840.113549.1.1.11", "sha256RSA"),
    ("1.2.840.113549.1.1.12", "sha384RSA"),
    ("1.2.840.113549.1.1.13", "sha512RSA"),
    (RSASSA_PSS, "RSASSA-PSS"),
    ("1.2.840.10040.4.3", "sha1DSA"),
    ("1.2.840.10045.4.1", "sha1ECDSA"),
    ("1.2.840.10045.4.3.2", "sha256ECDSA"),
    ("1.2.840.10045.4.3.3", "sha384ECDSA"),
    ("1.2.840.10045.4.3.4", "sha512ECDSA"),
    ("1.3.101.112", "Ed25519"),
];

const WEAK_SIGNATURES: [&str; 6] = [
    "1.2.840.113549.1.1.2",
    "1.2.840.113549.1.1.4",
    "1.2.840.113549.1.1.5",
    "1.3.14.3.2.29",
    "1.2.840.10040.4.3",
    "1.2.840.10045.4.1",
];

fn word(table: &[(&str, &str)], oid: &str) -> String {
    let known = table.iter().find(|(id, _)| *id == oid);
    known.map_or_else(|| clean(oid), |(_, name)| (*name).to_owned())
}

fn unix_seconds(moment: SystemTime) -> i64 {
    let seconds = moment.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

fn rfc3339(timestamp: i64) -> String {
    let moment = OffsetDateTime::from_unix_timestamp(timestamp).ok();
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_else(|| "unreadable".to_owned())
}

fn digest(algorithm: &'static aws_lc_rs::digest::Algorithm, bytes: &[u8]) -> String {
    hex(aws_lc_rs::digest::digest(algorithm, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
