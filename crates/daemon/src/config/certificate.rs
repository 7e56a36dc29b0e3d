//! Whether our own certificate is one that Lync and Exchange accept: files, key, names, purpose, strength, life.
//! Refuses to know how it is used afterwards.

use std::path::Path;
use std::time::SystemTime;

use b2bua::{Code, codes};
use rustls::RootCertStore;

use super::problem::Severity;
use super::reader::Reader;
use super::{Remark, Tls};
use crate::tls::facts::{CertificateFacts, Lifetime};
use crate::tls::{
    CrlPolicy, Identity, PeerRejection, PresentedNames, RSA_BITS_MIN, TlsError, TlsFiles, check_own_chain,
    load_certificates, load_crls, load_roots,
};

/// A certificate that ends sooner is worth a warning.
const RENEW_DAYS: i64 = 30;

/// Checks the files of `[tls]` and returns when the certificate ends.
pub(super) fn check(tls: &Tls, fqdn: &str, now: SystemTime, root: &Reader<'_>) -> Option<SystemTime> {
    let files = &tls.files;
    let roots = load_roots(&files.trusted_roots);
    if let Err(error) = &roots {
        root.error(codes::FILE_UNUSABLE, "tls.trusted_roots", error.to_string());
    }
    if files.trusted_roots.is_empty() {
        root.error(codes::CFG_VALUE, "tls.trusted_roots", "at least one root is needed to know the peers");
    }
    let identity = Identity::load(&files.certificate, &files.private_key);
    if let Err(error) = &identity {
        let (code, key) = blame(error, &files.private_key);
        root.error(code, key, error.to_string());
        // Loading stops at the first file; the other one may be missing as well.
        if key == "tls.certificate"
            && let Err(error) = std::fs::metadata(&files.private_key)
        {
            root.error(
                codes::FILE_UNUSABLE,
                "tls.private_key",
                format!("{}: {error}", files.private_key.display()),
            );
        }
    }
    let leaf = load_certificates(&files.certificate).ok()?.into_iter().next()?;
    let Ok(facts) = CertificateFacts::read(&leaf, now) else {
        root.error(codes::FILE_UNUSABLE, "tls.certificate", "the first certificate cannot be parsed");
        return None;
    };
    let said = match (&identity, roots) {
        (Ok(identity), Ok(roots)) => check_chain(identity, roots, now, root),
        _ => None,
    };
    check_lists(files, now, root);
    if PresentedNames::of(&leaf).is_ok_and(|names| !names.covers(fqdn)) {
        let what = format!("the alternative names do not cover {fqdn}");
        root.error(codes::NAME_NOT_COVERED, "tls.certificate", what);
    }
    for remark in fitness(&facts, fqdn).into_iter().filter(|remark| said != Some(remark.code)) {
        match remark.severity {
            Severity::Error => root.error(remark.code, "tls.certificate", remark.what),
            Severity::Warning => root.warn(remark.code, "tls.certificate", remark.what),
        }
    }
    facts.end
}

/// What a peer with our roots would say to our chain. A warning: the peers may have other roots. Returns what was said.
fn check_chain(
    identity: &Identity,
    roots: RootCertStore,
    now: SystemTime,
    root: &Reader<'_>,
) -> Option<Code> {
    let rejection = check_own_chain(identity, roots, now).err()?;
    use PeerRejection as P;
    let (code, what) = match &rejection {
        // Said of the certificate itself.
        P::Expired | P::NotYetValid | P::WrongPurpose | P::WeakKey(_) => return None,
        P::UntrustedChain(_) | P::IssuerMissing(_) | P::IssuerForged | P::SelfSigned => {
            (codes::ROOT_MISSING, format!("a peer with the same roots: {rejection}"))
        }
        _ => (rejection.code(), format!("our own: {rejection}")),
    };
    root.warn(code, "tls.certificate", what);
    Some(code)
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

/// What Lync and Exchange would have against this certificate as the gateway's own.
fn fitness(facts: &CertificateFacts, fqdn: &str) -> Vec<Remark> {
    let mut remarks = condition(facts);
    let names = &facts.common_names;
    if !facts.has_wildcard_subject() && !names.iter().any(|name| name.eq_ignore_ascii_case(fqdn)) {
        let found = if names.is_empty() { "empty".to_owned() } else { names.join(", ") };
        let what = format!("the subject is {found}; `fqdn` is {fqdn}");
        remarks.push(Remark::error(codes::SUBJECT_NOT_FQDN, what));
    }
    if !facts.says_server() {
        remarks.push(Remark::error(codes::WRONG_PURPOSE, "serverAuth is missing".to_owned()));
    }
    if !facts.has_crl_point {
        remarks.push(Remark::warning(codes::NO_CRL_POINT, "the certificate names no CRL".to_owned()));
    }
    remarks
}

/// What is odd about a certificate, whoever's it is: subject, strength, life.
pub fn condition(facts: &CertificateFacts) -> Vec<Remark> {
    let mut remarks = Vec::new();
    if facts.has_wildcard_subject() {
        let what = format!("the subject is {}", facts.common_names.join(", "));
        remarks.push(Remark::error(codes::WILDCARD_SUBJECT, what));
    }
    for name in facts.malformed_names() {
        let what = format!("an alternative name is malformed: {}", name.text);
        remarks.push(Remark::warning(codes::MALFORMED_NAME, what));
    }
    if facts.key.is_weak {
        let bits = facts.key.bits.unwrap_or_default();
        let what = format!("{} with {bits} bits; {RSA_BITS_MIN} are needed", facts.key.algorithm);
        remarks.push(Remark::error(codes::WEAK_KEY, what));
    }
    if facts.signature.is_weak {
        let what = format!("the signature is {}", facts.signature.algorithm);
        remarks.push(Remark::warning(codes::WEAK_SIGNATURE, what));
    }
    if facts.signature.is_pss {
        remarks.push(Remark::error(codes::PSS_SIGNATURE, "the signature is RSASSA-PSS".to_owned()));
    }
    remarks.extend(match facts.life {
        Lifetime::NotYetValid => {
            Some(Remark::error(codes::EXPIRED, format!("not valid before {}", facts.not_before)))
        }
        Lifetime::Expired => Some(Remark::error(codes::EXPIRED, format!("expired at {}", facts.not_after))),
        Lifetime::Current if facts.days_left < RENEW_DAYS => {
            Some(Remark::warning(codes::EXPIRES_SOON, format!("ends at {}", facts.not_after)))
        }
        Lifetime::Current => None,
    });
    remarks
}
