//! Whether our own certificate is one that Lync and Exchange accept: files, key, names, purpose, strength, life.
//! Refuses to know how it is used afterwards.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use b2bua::{Code, codes};
use rustls::RootCertStore;

use super::objects::Presented;
use super::problem::Severity;
use super::reader::Reader;
use super::{Listen, Remark, Tls};
use crate::tls::facts::{CertificateFacts, Lifetime};
use crate::tls::{
    CrlPolicy, Identity, Judge, KnownPeers, PeerRejection, PresentedNames, RSA_BITS_MIN, TlsError, TlsFiles,
    load_certificates, load_crls, load_roots,
};

/// A certificate that ends sooner is worth a warning.
const RENEW_DAYS: i64 = 30;

/// One of our certificates, and where it is configured.
struct Own<'a, 'r> {
    root: &'a Reader<'r>,
    table: String,
    certificate: &'a Path,
    private_key: &'a Path,
    roots: Option<&'a RootCertStore>,
}

impl Own<'_, '_> {
    fn error(&self, code: Code, what: impl Into<String>) {
        self.root.error(code, &format!("{}.certificate", self.table), what);
    }

    fn warn(&self, code: Code, what: impl Into<String>) {
        self.root.warn(code, &format!("{}.certificate", self.table), what);
    }

    fn key_error(&self, code: Code, what: impl Into<String>) {
        self.root.error(code, &format!("{}.private_key", self.table), what);
    }
}

/// Checks the files of `[tls]` and every `[[certificate]]`, and returns when that of `[tls]` ends.
pub(super) fn check(tls: &Tls, fqdn: &str, now: SystemTime, root: &Reader<'_>) -> Option<SystemTime> {
    let files = &tls.files;
    let roots = load_roots(&files.trusted_roots);
    if let Err(error) = &roots {
        root.error(codes::FILE_UNUSABLE, "tls.trusted_roots", error.to_string());
    }
    if files.trusted_roots.is_empty() {
        root.error(codes::CFG_VALUE, "tls.trusted_roots", "at least one root is needed to know the peers");
    }
    check_lists(files, now, root);
    let roots = roots.as_ref().ok();
    let own = |table, certificate, private_key| Own { root, table, certificate, private_key, roots };
    for (index, more) in files.more.iter().enumerate() {
        check_one(&own(format!("certificate[{index}]"), &more.certificate, &more.private_key), fqdn, now);
    }
    check_one(&own("tls".to_owned(), &files.certificate, &files.private_key), fqdn, now)
}

/// Gives each `[[certificate]]` to the listener and the peers that name it.
pub(super) fn deal(mut tls: Tls, listen: &Listen, presented: &[Presented], root: &Reader<'_>) -> Tls {
    let names: Vec<String> = tls.files.more.iter().map(|more| more.name.clone()).collect();
    let find = |setting: &str, wanted: &str| {
        let found = names.iter().position(|name| name == wanted);
        if found.is_none() {
            root.error(codes::CFG_UNRESOLVED, setting, format!("there is no [[certificate]] `{wanted}`"));
        }
        found
    };
    for (index, name) in names.iter().enumerate() {
        if names.iter().position(|other| other == name) != Some(index) {
            let what = format!("`{name}` is the name of two certificates");
            root.error(codes::CFG_DUPLICATE, &format!("certificate[{index}].name"), what);
        }
    }
    tls.files.listener = listen.certificate.as_deref().and_then(|name| find("listen.certificate", name));
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    for Presented { setting, certificate, targets } in presented {
        let Some(index) = find(setting, certificate) else { continue };
        for target in targets.iter().map(|target| target.to_ascii_lowercase()) {
            if taken.insert(target.clone(), certificate).is_some_and(|other| other != certificate) {
                root.error(codes::CFG_DUPLICATE, setting, format!("{target} is given two certificates"));
            }
            tls.files.more.get_mut(index).into_iter().for_each(|more| more.targets.push(target.clone()));
        }
    }
    tls
}

fn check_one(own: &Own<'_, '_>, fqdn: &str, now: SystemTime) -> Option<SystemTime> {
    let identity = Identity::load(own.certificate, own.private_key);
    let said = match &identity {
        Ok(identity) => check_chain(own, identity, fqdn, now),
        Err(error) => Some(blame(own, error)),
    };
    let leaf = load_certificates(own.certificate).ok()?.into_iter().next()?;
    let Ok(facts) = CertificateFacts::read(&leaf, now) else {
        own.error(codes::FILE_UNUSABLE, "the first certificate cannot be parsed");
        return None;
    };
    if PresentedNames::of(&leaf).is_ok_and(|names| !names.covers(fqdn)) {
        own.error(codes::NAME_NOT_COVERED, format!("the alternative names do not cover {fqdn}"));
    }
    for remark in fitness(&facts, fqdn).into_iter().filter(|remark| said != Some(remark.code)) {
        match remark.severity {
            Severity::Error => own.error(remark.code, remark.what),
            Severity::Warning => own.warn(remark.code, remark.what),
        }
    }
    facts.end
}

/// Returns what was said.
fn blame(own: &Own<'_, '_>, error: &TlsError) -> Code {
    let code = match error {
        TlsError::KeyMismatch { .. } => codes::KEY_MISMATCH,
        TlsError::Refused { rejection, .. } => rejection.code(),
        _ => codes::FILE_UNUSABLE,
    };
    match error {
        _ if error.path() == own.private_key => own.key_error(code, error.to_string()),
        TlsError::Refused { rejection, .. } => own.error(code, rejection.to_string()),
        _ => {
            own.error(code, error.to_string());
            // Loading stops at the first file; the other one may be missing as well.
            if let Err(error) = std::fs::metadata(own.private_key) {
                own.key_error(codes::FILE_UNUSABLE, format!("{}: {error}", own.private_key.display()));
            }
        }
    }
    code
}

/// What a peer with our roots would say to our chain. A warning: the peers may have other roots. Returns what was said.
fn check_chain(own: &Own<'_, '_>, identity: &Identity, fqdn: &str, now: SystemTime) -> Option<Code> {
    let peer = Judge::new(own.roots?.clone(), KnownPeers::default());
    let rejection = peer.judge(identity.chain(), fqdn, now).err()?;
    use PeerRejection as P;
    let code = match &rejection {
        // Said of the certificate itself.
        P::Expired | P::NotYetValid | P::WrongPurpose | P::WeakKey(_) | P::NameMismatch { .. } => {
            return None;
        }
        P::UntrustedChain(_) | P::IssuerMissing(_) | P::IssuerForged | P::SelfSigned => codes::ROOT_MISSING,
        _ => rejection.code(),
    };
    own.warn(code, format!("a peer with the same roots: {rejection}"));
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
            Some(Remark::error(codes::NOT_YET_VALID, format!("not valid before {}", facts.not_before)))
        }
        Lifetime::Expired => Some(Remark::error(codes::EXPIRED, format!("expired at {}", facts.not_after))),
        Lifetime::Current if facts.days_left < RENEW_DAYS => {
            Some(Remark::warning(codes::EXPIRES_SOON, format!("ends at {}", facts.not_after)))
        }
        Lifetime::Current => None,
    });
    remarks
}
