//! The leaf that was refused in a handshake. rustls' errors have no room for it, so the judge leaves it beside the handshake that is
//! being watched. Owns that place and the bounds of what is kept; judges nothing.

use std::cell::RefCell;
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};

use super::facts::CertificateFacts;

/// Alternative names kept of one certificate; more are counted.
const NAMES_MAX: usize = 8;

tokio::task_local! {
    /// Of the handshake that this task watches.
    static REFUSED: RefCell<Option<RefusedLeaf>>;
}

/// What a refused certificate says about itself, cleaned and bounded.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RefusedLeaf {
    /// Whole subject, RFC 4514 style.
    pub subject: String,
    /// Whole issuer.
    pub issuer: String,
    /// Alternative names, at most 8.
    pub names: Vec<String>,
    /// How many more there were.
    pub more_names: usize,
    /// RFC 3339, UTC.
    pub not_before: String,
    /// RFC 3339, UTC.
    pub not_after: String,
}

impl From<CertificateFacts> for RefusedLeaf {
    fn from(facts: CertificateFacts) -> Self {
        let CertificateFacts { subject, issuer, names, not_before, not_after, .. } = facts;
        let more_names = names.len().saturating_sub(NAMES_MAX);
        let names = names.into_iter().take(NAMES_MAX).map(|name| name.text).collect();
        Self { subject, issuer, names, more_names, not_before, not_after }
    }
}

/// Does a handshake; beside what came of it, the leaf that the judge refused in it. `None` also when that leaf cannot be read.
pub async fn watch<F: Future>(handshake: F) -> (F::Output, Option<RefusedLeaf>) {
    let watched = async {
        let output = handshake.await;
        (output, REFUSED.with(RefCell::take))
    };
    REFUSED.scope(RefCell::default(), watched).await
}

/// The judge refused this one.
pub(super) fn keep(leaf: &CertificateDer<'_>) {
    let read = || CertificateFacts::read(leaf, SystemTime::now()).ok().map(RefusedLeaf::from);
    // Nobody watches when a certificate is only looked at.
    let _unwatched = REFUSED.try_with(|place| *place.borrow_mut() = read());
}

#[cfg(test)]
mod tests {
    use lab::pki::{CertSpec, KeyKind, LabCa};

    use super::*;

    #[tokio::test]
    async fn each_handshake_has_its_own_leaf_and_nothing_is_kept_of_one_that_nobody_watches() {
        let ca = LabCa::create("lab").unwrap();
        let made = |name: &str| ca.issue(&CertSpec::host(name).key(KeyKind::EcdsaP256)).unwrap();
        let (one, two) = (made("one.example"), made("two.example"));
        keep(&one.chain()[0]);
        let refuse = async |leaf: &CertificateDer<'_>| {
            tokio::task::yield_now().await;
            keep(leaf);
            tokio::task::yield_now().await;
        };
        let (first, second, none) = tokio::join!(
            watch(refuse(&one.chain()[0])),
            watch(refuse(&two.chain()[0])),
            watch(tokio::task::yield_now())
        );
        let names = [first.1, second.1].map(|leaf| leaf.unwrap().names);
        assert_eq!(names, [vec!["one.example".to_owned()], vec!["two.example".to_owned()]]);
        assert_eq!(none.1, None);
    }

    #[test]
    fn no_more_names_are_kept_than_somebody_reads() {
        let ca = LabCa::create("lab").unwrap();
        let many = (0..20).fold(CertSpec::host("many.example"), |spec, n| spec.also(&format!("{n}.example")));
        let identity = ca.issue(&many.key(KeyKind::EcdsaP256)).unwrap();
        let facts = CertificateFacts::read(&identity.chain()[0], SystemTime::now()).unwrap();
        let leaf = RefusedLeaf::from(facts);
        assert_eq!((leaf.names.len(), leaf.more_names), (NAMES_MAX, 21 - NAMES_MAX));
    }
}
