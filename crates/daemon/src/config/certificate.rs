//! Whether our own certificate is one that Lync and Exchange accept: files, key, names, purpose, strength, life.
//! Refuses to know how it is used afterwards.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use b2bua::{Code, codes};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::Tls;
use super::reader::Reader;
use crate::tls::{
    CrlPolicy, Identity, PeerRejection, PresentedNames, RSA_BITS_MIN, TlsError, TlsFiles, check_own_chain,
    load_crls, load_roots,
};

const RENEW_BEFORE: Duration = Duration::from_secs(30 * 24 * 3600);
/// RSASSA-PSS (RFC 4055 §3.1).
const OID_RSASSA_PSS: &str = "1.2.840.113549.1.1.10";

/// Checks the files of `[tls]` and returns when the certificate ends.
pub(super) fn check(tls: &Tls, fqdn: &str, now: SystemTime, root: &Reader<'_>) -> Option<SystemTime> {
    let files = &tls.files;
    if let Err(error) = load_roots(&files.trusted_roots) {
        root.error(codes::FILE_UNUSABLE, "tls.trusted_roots", error.to_string());
    }
    if files.trusted_roots.is_empty() {
        root.error(codes::CFG_VALUE, "tls.trusted_roots", "at least one root is needed to know the peers");
    }
    if let Err(error) = Identity::load(&files.certificate, &files.private_key) {
        let (code, key) = blame(&error, &files.private_key);
        root.error(code, key, error.to_string());
        // Loading stops at the first file; the other one may be missing as well.
        if key == "tls.certificate"
            && let Err(error) = std::fs::File::open(&files.private_key)
        {
            root.error(
                codes::FILE_UNUSABLE,
                "tls.private_key",
                format!("{}: {error}", files.private_key.display()),
            );
        }
    }
    let der = CertificateDer::pem_file_iter(&files.certificate).ok()?.next()?.ok()?;
    let Ok((_, certificate)) = X509Certificate::from_der(&der) else {
        root.error(codes::FILE_UNUSABLE, "tls.certificate", "the first certificate cannot be parsed");
        return None;
    };
    check_chain(files, now, root);
    check_lists(files, now, root);
    check_names(&certificate, fqdn, root);
    if PresentedNames::of(&der).is_ok_and(|names| !names.covers(fqdn)) {
        let what = format!("the alternative names do not cover {fqdn}");
        root.error(codes::NAME_NOT_COVERED, "tls.certificate", what);
    }
    check_purpose(&certificate, root);
    check_strength(&certificate, root);
    check_life(&certificate, now, root)
}

/// What a peer with our roots would say to our chain. A warning: the peers may have other roots.
fn check_chain(files: &TlsFiles, now: SystemTime, root: &Reader<'_>) {
    let loaded = (Identity::load(&files.certificate, &files.private_key), load_roots(&files.trusted_roots));
    let (Ok(identity), Ok(roots)) = loaded else { return };
    let Err(rejection) = check_own_chain(&identity, roots, now) else { return };
    use PeerRejection as P;
    match &rejection {
        // Said of the certificate itself, below.
        P::Expired | P::NotYetValid | P::WrongPurpose | P::WeakKey(_) => {}
        P::UntrustedChain(_) | P::IssuerMissing(_) | P::IssuerForged | P::SelfSigned => {
            root.warn(
                codes::ROOT_MISSING,
                "tls.certificate",
                format!("a peer with the same roots: {rejection}"),
            );
        }
        _ => root.warn(rejection.code(), "tls.certificate", format!("our own: {rejection}")),
    }
}

fn check_lists(files: &TlsFiles, now: SystemTime, root: &Reader<'_>) {
    for path in &files.crls {
        match (load_crls(path), files.crl_policy) {
            (Ok(lists), _) if lists.iter().any(|list| list.next_update.is_some_and(|next| next <= now)) => {
                root.warn(codes::CRL_STALE, "tls.crls", format!("{}: a newer list is due", path.display()));
            }
            (Ok(_), _) => {}
            (Err(error), CrlPolicy::Require) => {
                root.error(codes::CRL_UNUSABLE, "tls.crls", error.to_string())
            }
            (Err(error), CrlPolicy::Prefer) => root.warn(codes::CRL_UNUSABLE, "tls.crls", error.to_string()),
        }
    }
}

fn blame(error: &TlsError, key: &Path) -> (Code, &'static str) {
    match error {
        TlsError::KeyMismatch { .. } => (codes::KEY_MISMATCH, "tls.private_key"),
        TlsError::Read { path, .. }
        | TlsError::TooLong(path, _)
        | TlsError::Pem { path, .. }
        | TlsError::Unusable { path, .. } => {
            (codes::FILE_UNUSABLE, if path == key { "tls.private_key" } else { "tls.certificate" })
        }
    }
}

fn check_names(certificate: &X509Certificate<'_>, fqdn: &str, root: &Reader<'_>) {
    let subject = certificate.subject();
    let common: Vec<&str> = subject.iter_common_name().filter_map(|name| name.as_str().ok()).collect();
    if common.iter().any(|name| name.contains('*')) {
        root.error(
            codes::WILDCARD_SUBJECT,
            "tls.certificate",
            format!("the subject is {}", common.join(", ")),
        );
        return;
    }
    if !common.iter().any(|name| name.eq_ignore_ascii_case(fqdn)) {
        let found = if common.is_empty() { "empty".to_owned() } else { common.join(", ") };
        root.error(
            codes::SUBJECT_NOT_FQDN,
            "tls.certificate",
            format!("the subject is {found}; `fqdn` is {fqdn}"),
        );
    }
}

fn check_purpose(certificate: &X509Certificate<'_>, root: &Reader<'_>) {
    match certificate.extended_key_usage() {
        Ok(Some(usage)) if usage.value.server_auth || usage.value.any => {}
        Ok(_) => root.error(codes::WRONG_PURPOSE, "tls.certificate", "serverAuth is missing"),
        Err(_) => {
            root.error(codes::WRONG_PURPOSE, "tls.certificate", "the extended key usage cannot be parsed")
        }
    }
    let is_crl_point =
        |parsed: &ParsedExtension<'_>| matches!(parsed, ParsedExtension::CRLDistributionPoints(_));
    if !certificate.extensions().iter().any(|extension| is_crl_point(extension.parsed_extension())) {
        root.warn(codes::NO_CRL_POINT, "tls.certificate", "the certificate names no CRL");
    }
}

fn check_strength(certificate: &X509Certificate<'_>, root: &Reader<'_>) {
    match certificate.public_key().parsed() {
        Ok(PublicKey::RSA(key)) if key.key_size() < RSA_BITS_MIN => {
            let what = format!("RSA with {} bits; {RSA_BITS_MIN} are needed", key.key_size());
            root.error(codes::WEAK_KEY, "tls.certificate", what);
        }
        _ => {}
    }
    if certificate.signature_algorithm.algorithm.to_id_string() == OID_RSASSA_PSS {
        root.error(codes::PSS_SIGNATURE, "tls.certificate", "the signature is RSASSA-PSS");
    }
}

fn check_life(certificate: &X509Certificate<'_>, now: SystemTime, root: &Reader<'_>) -> Option<SystemTime> {
    let validity = certificate.validity();
    let moment =
        |timestamp: i64| u64::try_from(timestamp).ok().map(|secs| UNIX_EPOCH + Duration::from_secs(secs));
    let not_after = moment(validity.not_after.timestamp());
    if moment(validity.not_before.timestamp()).is_some_and(|start| start > now) {
        root.error(codes::EXPIRED, "tls.certificate", format!("not valid before {}", validity.not_before));
    }
    if not_after.is_none_or(|end| end <= now) {
        root.error(codes::EXPIRED, "tls.certificate", format!("expired at {}", validity.not_after));
    } else if not_after.is_some_and(|end| end <= now + RENEW_BEFORE) {
        root.warn(codes::EXPIRES_SOON, "tls.certificate", format!("ends at {}", validity.not_after));
    }
    not_after
}
