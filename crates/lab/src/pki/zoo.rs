//! Crooked certificates, and the sound ones that look crooked: each with a name, what is peculiar about it, and what a careful
//! peer must make of it as client and as server. Owns the making; the words for refusals are the labels of
//! `umbra_tls_handshakes_total`, or [`SOUND`].

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, NameConstraints, SanType, SerialNumber, SigningKey as _,
};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ca::{generate, host_params, issuer_params, span, subject};
use super::spec::{KeyKind, Life};
use super::{Identity, LabCa, PkiError};

/// What is made of a certificate that is fine.
pub const SOUND: &str = "ok";
/// subjectAltName (RFC 5280 §4.2.1.6).
const OID_SAN: &[u64] = &[2, 5, 29, 17];
/// An extension nobody knows.
const OID_NOBODYS: &[u64] = &[2, 25, 3_141_592];
/// More names than a certificate of a server has.
const MANY_NAMES: usize = 300;
/// Octets of a serial number beyond RFC 5280 §4.1.2.2.
const LONG_SERIAL: usize = 64;

/// Changes the description of a certificate for the host of that name.
type Edit = fn(&mut CertificateParams, &str);

/// One certificate of the zoo.
pub struct Exhibit {
    /// Its name; host name characters only.
    pub name: &'static str,
    /// What is peculiar about it.
    pub what: &'static str,
    /// What it must meet when a client presents it.
    pub as_client: &'static str,
    /// What it must meet when a server presents it.
    pub as_server: &'static str,
    breed: Breed,
}

enum Breed {
    /// Issued by the root.
    Leaf(Edit),
    /// Issued through intermediates, the first one by the root.
    Under(&'static [Edit], Edit, Sent),
    /// Issued by a root that is not ours.
    Foreign(fn(&str) -> DistinguishedName),
    /// Issued by itself.
    SelfSigned,
    /// X.509 version 1.
    FirstVersion,
}

#[derive(Copy, Clone, Eq, PartialEq)]
enum Sent {
    Intermediates,
    LeafOnly,
}

const fn sound(name: &'static str, what: &'static str, breed: Breed) -> Exhibit {
    Exhibit { name, what, as_client: SOUND, as_server: SOUND, breed }
}

const fn bad(name: &'static str, what: &'static str, refused: &'static str, breed: Breed) -> Exhibit {
    Exhibit { name, what, as_client: refused, as_server: refused, breed }
}

/// A sound certificate for somebody else.
const fn stranger(name: &'static str, what: &'static str, edit: Edit) -> Exhibit {
    Exhibit { name, what, as_client: "unknown_peer", as_server: "name_mismatch", breed: Breed::Leaf(edit) }
}

/// The zoo.
pub const EXHIBITS: &[Exhibit] = &[
    sound("ordinary", "nothing", Breed::Leaf(|_, _| {})),
    sound(
        "server-purpose",
        "server purpose only, as Windows issues it",
        Breed::Leaf(|p, _| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }),
    ),
    sound("no-purpose", "no extended key usage at all", Breed::Leaf(|p, _| p.extended_key_usages.clear())),
    sound(
        "wildcard-san",
        "a wildcard among the alternative names",
        Breed::Leaf(|p, fqdn| {
            names(p, &[&format!("*.{}", parent(fqdn))]);
        }),
    ),
    sound("subject-only", "no alternative name", Breed::Leaf(|p, _| p.subject_alt_names.clear())),
    sound("mixed-case", "capitals in the name", Breed::Leaf(|p, fqdn| names(p, &[&fqdn.to_uppercase()]))),
    sound("xn--bcher-kva", "a name outside ASCII in its A-label form", Breed::Leaf(|_, _| {})),
    sound(
        "intermediate",
        "an intermediate sent along",
        Breed::Under(&[|_, _| {}], |_, _| {}, Sent::Intermediates),
    ),
    Exhibit {
        name: "client-purpose",
        what: "client purpose only",
        as_client: SOUND,
        as_server: "wrong_purpose",
        breed: Breed::Leaf(|p, _| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
    },
    bad(
        "code-signing",
        "made for signing code",
        "wrong_purpose",
        Breed::Leaf(|p, _| {
            p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
        }),
    ),
    bad(
        "other-root",
        "of another root",
        "untrusted_chain",
        Breed::Foreign(|_| subject("somebody else's root")),
    ),
    bad(
        "same-name-root",
        "of a root of our root's name, with another key",
        "issuer_forged",
        Breed::Foreign(subject),
    ),
    bad(
        "hostile-root",
        "of a root with terminal codes in its name",
        "untrusted_chain",
        Breed::Foreign(|_| subject("root\u{1b}[2J\u{7}\r\nevent=forged")),
    ),
    bad("self-signed", "its own issuer", "self_signed", Breed::SelfSigned),
    bad("expired", "out of date since yesterday", "expired", Breed::Leaf(|p, _| live(p, Life::Expired))),
    bad("not-yet-valid", "valid from tomorrow", "not_yet_valid", Breed::Leaf(|p, _| live(p, Life::NotYet))),
    bad(
        "expired-intermediate",
        "of an intermediate that is out of date",
        "issuer_expired",
        Breed::Under(&[|p, _| live(p, Life::Expired)], |_, _| {}, Sent::Intermediates),
    ),
    bad(
        "missing-intermediate",
        "the intermediate is not sent along",
        "issuer_missing",
        Breed::Under(&[|_, _| {}], |_, _| {}, Sent::LeafOnly),
    ),
    bad(
        "no-authority",
        "of a certificate that is no authority",
        "not_a_ca",
        Breed::Under(&[|p, _| p.is_ca = IsCa::ExplicitNoCa], |_, _| {}, Sent::Intermediates),
    ),
    bad(
        "long-path",
        "more intermediates than the first one allows",
        "path_too_long",
        Breed::Under(
            &[|p, _| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)), |_, _| {}],
            |_, _| {},
            Sent::Intermediates,
        ),
    ),
    bad(
        "constrained",
        "of an intermediate for other names",
        "name_constraint",
        Breed::Under(&[|p, _| constrain(p)], |_, _| {}, Sent::Intermediates),
    ),
    bad(
        "constrained-subject",
        "the same, its name in the subject only",
        "name_constraint",
        Breed::Under(&[|p, _| constrain(p)], |p, _| p.subject_alt_names.clear(), Sent::Intermediates),
    ),
    bad(
        "authority",
        "a certification authority's own certificate",
        "ca_as_peer",
        Breed::Leaf(|p, _| {
            p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }),
    ),
    bad(
        "wildcard-subject",
        "a wildcard as subject",
        "wildcard_subject",
        Breed::Leaf(|p, fqdn| {
            p.distinguished_name = subject(&format!("*.{}", parent(fqdn)));
        }),
    ),
    stranger("wildcard-two-labels", "a wildcard that would have to stand for two labels", |p, fqdn| {
        titled(p);
        names(p, &[&format!("*.{}", parent(parent(fqdn)))]);
    }),
    bad(
        "wildcard-partial",
        "a wildcard for a part of a label",
        "malformed_name",
        Breed::Leaf(|p, fqdn| {
            names(p, &[&format!("w*.{}", parent(fqdn))]);
        }),
    ),
    bad(
        "wildcard-alone",
        "a wildcard for everything",
        "malformed_name",
        Breed::Leaf(|p, _| names(p, &["*"])),
    ),
    stranger("shadowed-subject", "the right subject, another alternative name", |p, _| {
        names(p, &["other.zoo.test"])
    }),
    stranger("address-as-name", "an address as host name", |p, _| names(p, &["127.0.0.1"])),
    stranger("other-address", "another host's address", |p, _| {
        titled(p);
        p.subject_alt_names = vec![SanType::IpAddress([192, 0, 2, 77].into())];
    }),
    stranger("underscore", "an underscore where the peer has a hyphen", |p, fqdn| {
        names(p, &[&format!("under_score.{}", parent(fqdn))]);
    }),
    bad(
        "nul-in-subject",
        "NUL in the subject",
        "malformed_name",
        Breed::Leaf(|p, fqdn| {
            p.subject_alt_names.clear();
            p.distinguished_name = subject(&format!("{fqdn}\0.evil.test"));
        }),
    ),
    bad(
        "nul-in-san",
        "NUL in an alternative name",
        "malformed_name",
        Breed::Leaf(|p, fqdn| {
            names(p, &[&format!("{fqdn}\0.evil.test")]);
        }),
    ),
    bad(
        "terminal-codes",
        "terminal codes in the subject",
        "malformed_name",
        Breed::Leaf(|p, fqdn| {
            p.distinguished_name = subject(&format!("{fqdn}\u{1b}[2J\u{7}"));
        }),
    ),
    bad(
        "line-break",
        "a line break in an alternative name",
        "malformed_name",
        Breed::Leaf(|p, fqdn| {
            names(p, &[&format!("{fqdn}\r\nevent=forged")]);
        }),
    ),
    bad(
        "space",
        "a space in an alternative name",
        "malformed_name",
        Breed::Leaf(|p, fqdn| {
            names(p, &[fqdn, &format!("a {fqdn}")]);
        }),
    ),
    bad("empty-name", "an empty alternative name", "malformed_name", Breed::Leaf(|p, _| names(p, &[""]))),
    bad(
        "trailing-dot",
        "a dot behind the name",
        "malformed_name",
        Breed::Leaf(|p, fqdn| {
            names(p, &[&format!("{fqdn}.")]);
        }),
    ),
    bad(
        "u-label",
        "a name outside ASCII as it is written",
        "malformed_name",
        Breed::Leaf(|p, fqdn| {
            raw_name(p, format!("b\u{fc}cher.{}", parent(fqdn)).as_bytes());
        }),
    ),
    bad(
        "no-text",
        "an alternative name that is no text; the subject is right",
        "malformed_name",
        Breed::Leaf(|p, _| {
            raw_name(p, &[0xff, 0xfe, 0x80]);
        }),
    ),
    bad(
        "nameless",
        "no name at all",
        "no_name",
        Breed::Leaf(|p, _| {
            p.distinguished_name = DistinguishedName::new();
            p.subject_alt_names.clear();
        }),
    ),
    bad(
        "many-names",
        "three hundred alternative names, the right one among them",
        "too_many_names",
        Breed::Leaf(|p, fqdn| {
            let others: Vec<String> = (1..MANY_NAMES).map(|n| format!("n{n}.{}", parent(fqdn))).collect();
            let all: Vec<&str> = std::iter::once(fqdn).chain(others.iter().map(String::as_str)).collect();
            names(p, &all);
        }),
    ),
    bad(
        "critical",
        "a critical extension that nobody knows",
        "unknown_critical_extension",
        Breed::Leaf(|p, _| {
            let mut extension = CustomExtension::from_oid_content(OID_NOBODYS, vec![0x05, 0x00]);
            extension.set_criticality(true);
            p.custom_extensions.push(extension);
        }),
    ),
    bad(
        "long-serial",
        "a serial number of 64 octets",
        "long_serial",
        Breed::Leaf(|p, _| {
            p.serial_number = Some(SerialNumber::from_slice(&[0x5a; LONG_SERIAL]));
        }),
    ),
    bad("first-version", "X.509 version 1", "old_version", Breed::FirstVersion),
];

impl Exhibit {
    /// Makes it for this host.
    pub fn make(&self, ca: &LabCa, fqdn: &str) -> Result<Identity, PkiError> {
        let key = generate(KeyKind::EcdsaP256)?;
        let mut params = host_params(fqdn, &[fqdn.to_owned()])?;
        let chain = match self.breed {
            Breed::Leaf(edit) => {
                edit(&mut params, fqdn);
                vec![params.signed_by(&key, ca.issuer())?.der().clone(), ca.root().clone()]
            }
            Breed::Under(issuers, edit, sent) => {
                edit(&mut params, fqdn);
                let mut chain = through(ca, issuers, &params, &key, fqdn)?;
                if sent == Sent::LeafOnly {
                    chain.truncate(1);
                }
                chain
            }
            Breed::Foreign(name) => {
                let root_key = generate(KeyKind::EcdsaP256)?;
                let mut root = issuer_params("");
                root.distinguished_name = name(&common_name(ca.root()));
                let certificate = root.self_signed(&root_key)?;
                let issuer = Issuer::new(root, root_key);
                vec![params.signed_by(&key, &issuer)?.der().clone(), certificate.der().clone()]
            }
            Breed::SelfSigned => vec![params.self_signed(&key)?.der().clone()],
            Breed::FirstVersion => {
                let third = params.signed_by(&key, ca.issuer())?;
                vec![first_version(third.der(), ca.issuer().key())?, ca.root().clone()]
            }
        };
        let pem = chain.iter().map(super::identity::certificate_pem).collect();
        Identity::from_pem(fqdn, pem, key.serialize_pem(), Path::new("memory"))
    }
}

/// The leaf, then its issuers up to the root's first, without the root.
fn through(
    ca: &LabCa,
    edits: &[Edit],
    leaf: &CertificateParams,
    key: &KeyPair,
    fqdn: &str,
) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let mut chain = Vec::new();
    let mut above: Option<Issuer<'static, KeyPair>> = None;
    for (at, edit) in edits.iter().enumerate() {
        let issuer_key = generate(KeyKind::EcdsaP256)?;
        let mut params = issuer_params(&format!("umbra lab intermediate {at}"));
        edit(&mut params, fqdn);
        let certificate = match &above {
            None => params.signed_by(&issuer_key, ca.issuer())?,
            Some(above) => params.signed_by(&issuer_key, above)?,
        };
        chain.insert(0, certificate.der().clone());
        above = Some(Issuer::new(params, issuer_key));
    }
    let leaf = match &above {
        None => leaf.signed_by(key, ca.issuer())?,
        Some(above) => leaf.signed_by(key, above)?,
    };
    chain.insert(0, leaf.der().clone());
    Ok(chain)
}

fn parent(fqdn: &str) -> &str {
    fqdn.split_once('.').map_or(fqdn, |(_, parent)| parent)
}

fn names(params: &mut CertificateParams, names: &[&str]) {
    let name = |name: &&str| name.to_string().try_into().ok().map(SanType::DnsName);
    params.subject_alt_names = names.iter().filter_map(name).collect();
}

/// One dNSName of any bytes.
fn raw_name(params: &mut CertificateParams, name: &[u8]) {
    params.subject_alt_names.clear();
    let content = tlv(0x30, &tlv(0x82, name));
    params.custom_extensions.push(CustomExtension::from_oid_content(OID_SAN, content));
}

/// A subject that is a title, not a name.
fn titled(params: &mut CertificateParams) {
    params.distinguished_name = subject("a host of the lab");
}

fn live(params: &mut CertificateParams, life: Life) {
    (params.not_before, params.not_after) = span(life);
}

fn constrain(params: &mut CertificateParams) {
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName("elsewhere.test".to_owned())],
        excluded_subtrees: Vec::new(),
    });
}

fn common_name(certificate: &CertificateDer<'_>) -> String {
    let parsed = X509Certificate::from_der(certificate).ok();
    let name = parsed.and_then(|(_, parsed)| {
        parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok().map(str::to_owned))
    });
    name.unwrap_or_default()
}

/// The same certificate without version and extensions, signed anew (RFC 5280 §4.1: both are optional fields of the part
/// that is signed).
fn first_version(third: &[u8], key: &KeyPair) -> Result<CertificateDer<'static>, PkiError> {
    let wrong = || PkiError::Pem { path: "memory".into(), what: "is no certificate" };
    let inside = |element| content(element).and_then(elements).ok_or_else(wrong);
    let certificate = inside(third)?;
    let [signed, algorithm, _] = certificate.as_slice() else { return Err(wrong()) };
    let fields = inside(signed)?;
    let kept = fields.into_iter().filter(|field| !matches!(field.first(), Some(0xa0 | 0xa3)));
    let signed = tlv(0x30, &kept.flatten().copied().collect::<Vec<u8>>());
    let mut signature = vec![0];
    signature.extend(key.sign(&signed)?);
    let all = [signed, algorithm.to_vec(), tlv(0x03, &signature)].concat();
    Ok(CertificateDer::from(tlv(0x30, &all)))
}

/// One DER element.
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    let mut element = vec![tag];
    match length.as_slice() {
        [] => element.push(0),
        [short @ ..128] => element.push(*short),
        long => {
            element.push(0x80 | long.len() as u8);
            element.extend_from_slice(long);
        }
    }
    element.extend_from_slice(content);
    element
}

/// Where the content of the first element begins and ends.
fn extent(der: &[u8]) -> Option<(usize, usize)> {
    let first = usize::from(*der.get(1)?);
    let (from, length) = if first < 0x80 {
        (2, first)
    } else {
        let count = first & 0x7f;
        let length = der.get(2..2 + count)?.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        (2 + count, length)
    };
    (der.len() >= from + length).then_some((from, from + length))
}

fn content(der: &[u8]) -> Option<&[u8]> {
    let (from, to) = extent(der)?;
    der.get(from..to)
}

/// The elements that stand one behind the other.
fn elements(mut der: &[u8]) -> Option<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !der.is_empty() {
        let (_, end) = extent(der)?;
        let (element, rest) = der.split_at_checked(end)?;
        found.push(element);
        der = rest;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exhibit_can_be_made_and_is_a_certificate() {
        let ca = LabCa::create("zoo root").unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for exhibit in EXHIBITS {
            assert!(seen.insert(exhibit.name), "{} twice", exhibit.name);
            let made = exhibit.make(&ca, &format!("{}.sip.zoo.test", exhibit.name)).unwrap();
            let leaf = made.chain()[0].clone();
            assert!(X509Certificate::from_der(&leaf).is_ok(), "{}", exhibit.name);
        }
        assert!(EXHIBITS.iter().filter(|exhibit| exhibit.as_server != SOUND).count() >= 24);
    }

    #[test]
    fn a_first_version_has_neither_version_nor_extensions() {
        let ca = LabCa::create("zoo root").unwrap();
        let exhibit = EXHIBITS.iter().find(|exhibit| exhibit.name == "first-version").unwrap();
        let made = exhibit.make(&ca, "a.zoo.test").unwrap();
        let (_, parsed) = X509Certificate::from_der(&made.chain()[0]).unwrap();
        assert_eq!(parsed.version().0, 0);
        assert!(parsed.extensions().is_empty());
        let (_, root) = X509Certificate::from_der(ca.root()).unwrap();
        assert!(parsed.verify_signature(Some(root.public_key())).is_ok());
    }
}
