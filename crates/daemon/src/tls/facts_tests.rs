//! Certificates made on the spot, read back, and damaged at every byte.

use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize, SanType,
    SerialNumber, date_time_ymd,
};

use super::*;

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params
}

fn der(params: &CertificateParams) -> Vec<u8> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    params.self_signed(&key).unwrap().der().to_vec()
}

fn facts(params: &CertificateParams, now: SystemTime) -> CertificateFacts {
    CertificateFacts::read(&der(params), now).unwrap()
}

/// 2026-12-02T12:00:00Z
fn december() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_796_212_800)
}

fn rich() -> CertificateParams {
    let mut params = params("umbra.contoso.test");
    params.serial_number = Some(SerialNumber::from(vec![0x0a, 0xbc, 0x01]));
    params.subject_alt_names = vec![
        SanType::DnsName("umbra.contoso.test".try_into().unwrap()),
        SanType::DnsName("*.contoso.test".try_into().unwrap()),
        SanType::IpAddress("192.0.2.7".parse().unwrap()),
        SanType::URI("sip:contoso.test".try_into().unwrap()),
    ];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.crl_distribution_points =
        vec![CrlDistributionPoint { uris: vec!["http://crl.contoso.test/a.crl".to_owned()] }];
    params
}

#[test]
fn everything_an_operator_asks_for_is_read() {
    let read = facts(&rich(), december());
    assert_eq!(read.common_name(), Some("umbra.contoso.test"));
    assert_eq!(read.subject, "CN=umbra.contoso.test");
    let names: Vec<_> = read.names.iter().map(|name| (name.kind, name.text.as_str())).collect();
    assert_eq!(
        names,
        [
            (NameKind::Dns, "umbra.contoso.test"),
            (NameKind::Dns, "*.contoso.test"),
            (NameKind::Ip, "192.0.2.7"),
            (NameKind::Other, "uri sip:contoso.test"),
        ]
    );
    assert_eq!((read.serial.as_str(), read.days_left, read.life), ("0abc01", 29, Lifetime::Current));
    assert_eq!(read.not_after, "2027-01-01T00:00:00Z");
    assert_eq!((read.key.algorithm.as_str(), read.key.bits), ("ECDSA P-256", Some(256)));
    assert_eq!(read.signature.algorithm, "sha256ECDSA");
    assert_eq!(read.purposes, Some(vec!["serverAuth".to_owned()]));
    assert!(read.self_signed && read.has_crl_point && !read.is_ca && !read.key.is_weak);
    assert!(read.is_for_servers() && !read.has_wildcard_subject());
    assert_eq!((read.sha256.len(), read.thumbprint.len()), (64, 40));
}

#[test]
fn life_is_told_by_the_moment_it_is_asked_for() {
    let long_after = facts(&rich(), UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    assert_eq!((long_after.life, long_after.days_left), (Lifetime::Expired, -15));
    assert_eq!(facts(&rich(), UNIX_EPOCH).life, Lifetime::NotYetValid);
}

#[test]
fn an_authority_and_a_client_only_certificate_are_told_apart() {
    let mut ca = params("root");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    assert!(facts(&ca, december()).is_ca);
    let mut client = params("pool01.contoso.test");
    client.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::Other(vec![1, 3, 6, 1, 4, 1, 311]),
    ];
    let client = facts(&client, december());
    assert!(!client.is_for_servers());
    assert_eq!(client.purposes, Some(vec!["clientAuth".to_owned(), "1.3.6.1.4.1.311".to_owned()]));
    assert!(facts(&params("silent.test"), december()).is_for_servers());
}

#[test]
fn an_rsa_key_is_measured_by_its_bits() {
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let certificate = params("x.test").self_signed(&key).unwrap();
    let read = CertificateFacts::read(certificate.der(), december()).unwrap();
    assert_eq!((read.key.algorithm.as_str(), read.key.bits, read.key.is_weak), ("RSA", Some(2048), false));
    assert_eq!((read.signature.algorithm.as_str(), read.signature.is_weak), ("sha256RSA", false));
    assert_eq!(bit_length(&[0, 0x80, 0]), 16);
    assert_eq!(bit_length(&[0x01, 0xff]), 9);
    assert_eq!((bit_length(&[]), bit_length(&[0, 0])), (0, 0));
}

#[test]
fn old_hashes_are_flagged_by_their_object_identifier() {
    // sha256WithRSAEncryption made sha1WithRSAEncryption and md5WithRSAEncryption, in both places it stands.
    let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let good = params("x.test").self_signed(&key).unwrap().der().to_vec();
    let oid = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];
    for (last, name) in [(0x05, "sha1RSA"), (0x04, "md5RSA")] {
        let mut der = good.clone();
        for at in 0..der.len() - oid.len() {
            if der[at..at + oid.len()] == oid {
                der[at + oid.len() - 1] = last;
            }
        }
        let read = CertificateFacts::read(&der, december()).unwrap();
        assert_eq!((read.signature.algorithm.as_str(), read.signature.is_weak), (name, true));
    }
}

#[test]
fn names_with_control_characters_are_flagged_and_cannot_steer_a_terminal() {
    let mut hostile = params("a\u{1b}[2Jb\u{202e}c");
    hostile.subject_alt_names = vec![SanType::DnsName("good\0.evil\u{1b}[2J".try_into().unwrap())];
    let read = facts(&hostile, december());
    assert_eq!(read.names[0].kind, NameKind::Malformed);
    assert_eq!(read.malformed_names().count(), 1);
    let shown = serde_json::to_string(&read).unwrap();
    assert!(
        !shown.contains("\\u001b") && !shown.contains('\u{202e}') && !shown.contains("\\u0000"),
        "{shown}"
    );
}

#[test]
fn damage_at_any_byte_and_any_cut_is_an_error_or_facts_never_a_panic() {
    let whole = der(&rich());
    for at in 0..whole.len() {
        let _cut = CertificateFacts::read(&whole[..at], december());
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] ^= flip;
            if let Ok(read) = CertificateFacts::read(&damaged, december()) {
                let shown = serde_json::to_string(&read).unwrap();
                assert!(shown.len() < 8 * 1024 && !shown.chars().any(char::is_control), "{shown}");
            }
        }
    }
    assert!(matches!(CertificateFacts::read(b"", december()), Err(FactsError::Malformed(_))));
    let long = vec![0x30; DER_BYTES_MAX + 1];
    assert_eq!(CertificateFacts::read(&long, december()), Err(FactsError::TooLong));
}
