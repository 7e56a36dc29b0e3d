//! Authorities in common: whether each side trusts the one that the other's certificate leads to. Judged from what a handshake
//! showed and from our own files; refuses to know whether a certificate is good otherwise.

use std::path::PathBuf;
use std::time::SystemTime;

use b2bua::codes;
use b2bua::verdict::clean;

use super::certificates::Own;
use super::finding::{Finding, Group, Mark, Side};
use super::handshakes::{Presented, Visit};
use super::peers::Peer;
use crate::tls::facts::CertificateFacts;
use crate::tls::probe::{AUTHORITIES_MAX, Objection, Request};
use crate::tls::{PeerRejection, load_certificates};

/// Authorities drawn of each kind.
const DRAWN_MAX: usize = 8;
/// The alert that says that our authority is not known there.
const UNKNOWN_CA: &str = "UnknownCA";

/// Our side.
#[derive(Clone, Debug, Default)]
pub struct Ours {
    /// Who issued our certificates and those sent along.
    issuers: Vec<String>,
    /// The subjects of `trusted_roots`.
    trusted: Vec<String>,
}

/// What becomes of a peer's certificate here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Theirs {
    /// It leads to one of our roots.
    Trusted,
    /// It does not.
    Foreign,
    /// It was refused for something else first, or not seen.
    Unknown,
}

/// What becomes of our certificate there, as far as authorities go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum There {
    /// Ours is among those it names.
    Named,
    /// It names none, or does not ask.
    Unsaid,
    /// It names others only.
    Others,
    /// It says that it does not know ours.
    Unknown,
}

impl Ours {
    /// What our chains and the files of roots say; a file that cannot be read is told elsewhere.
    pub fn of(own: &[Own], roots: &[PathBuf], now: SystemTime) -> Self {
        let issuers = own.iter().flat_map(|(_, chain)| chain).flatten().map(|facts| facts.issuer.clone());
        let roots = roots.iter().filter_map(|file| load_certificates(file).ok()).flatten();
        let roots = roots.filter_map(|der| CertificateFacts::read(&der, now).ok());
        Self { issuers: once_each(issuers), trusted: once_each(roots.map(|facts| facts.subject)) }
    }
}

fn once_each(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut names: Vec<String> = names.collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// One finding for each place where something was seen.
pub fn findings(peers: &[Peer], visits: &[Visit], ours: &Ours) -> Vec<Finding> {
    let was_seen = |visit: &&Visit| visit.presented.is_some() || visit.request != Request::Unknown;
    let of = |visit: &Visit| {
        let peer = peers.get(visit.peer)?;
        Some(finding(&format!("{} {}", peer.name, visit.target), peer.kind.side(), visit, ours))
    };
    visits.iter().filter(was_seen).filter_map(of).collect()
}

fn finding(place: &str, side: Side, visit: &Visit, ours: &Ours) -> Finding {
    let named = match &visit.request {
        Request::Asked { authorities } => authorities.as_slice(),
        Request::Unknown | Request::NotAsked => &[],
    };
    let code = codes::NO_COMMON_ROOT;
    let (theirs, there) = (theirs(visit.presented.as_ref(), ours), there(visit, named, ours));
    let (mark, code, words) = match (theirs, there) {
        (Theirs::Foreign, There::Named | There::Unsaid) => {
            (Mark::Fail, code, "its certificate leads to none of our `trusted_roots`")
        }
        (Theirs::Foreign, There::Others | There::Unknown) => {
            (Mark::Fail, code, "neither side trusts the authority of the other")
        }
        (_, There::Unknown) => (Mark::Fail, code, "it does not know the authority of our certificate"),
        (_, There::Others) => {
            (Mark::Warn, codes::OTHER_AUTHORITIES, "it names authorities, and none of them issued our chain")
        }
        (Theirs::Unknown, _) => {
            (Mark::Skip, code, "its certificate does not show whether it leads to our roots")
        }
        (Theirs::Trusted, There::Named) => (
            Mark::Ok,
            code,
            "its certificate leads to one of our roots, and ours is among the authorities it names",
        ),
        (Theirs::Trusted, There::Unsaid) => {
            (Mark::Ok, code, "its certificate leads to one of our roots; which it trusts it does not name")
        }
    };
    // Who trusts too little has to add a root.
    let side = match (theirs, there) {
        (Theirs::Foreign, There::Named | There::Unsaid) => Side::Umbra,
        (Theirs::Foreign, _) => Side::Any,
        _ => side,
    };
    let mut picture = Vec::new();
    if let Some(presented) = &visit.presented {
        draw(&mut picture, "issued its certificate", &presented.issuers);
    }
    draw(&mut picture, "trusted here", &ours.trusted);
    draw(&mut picture, "named by it", named);
    draw(&mut picture, "issued ours", &ours.issuers);
    Finding::new(Group::Certificates, mark, code, format!("{place}: {words}")).on(side).drawn(picture)
}

fn theirs(presented: Option<&Presented>, ours: &Ours) -> Theirs {
    use PeerRejection as P;
    let Some(Presented { issuers, verdict, .. }) = presented else { return Theirs::Unknown };
    match verdict {
        Ok(_) => Theirs::Trusted,
        Err(P::UntrustedChain(_) | P::IssuerMissing(_) | P::IssuerForged | P::SelfSigned) => Theirs::Foreign,
        // Refused for something else; whose it claims to be is all there is.
        Err(_) if issuers.iter().any(|issuer| ours.trusted.contains(issuer)) => Theirs::Trusted,
        Err(_) => Theirs::Unknown,
    }
}

fn there(visit: &Visit, named: &[String], ours: &Ours) -> There {
    let is_unknown = visit
        .looks
        .iter()
        .any(|look| matches!(&look.objection, Some(Objection::RefusesUs(why)) if why.contains(UNKNOWN_CA)));
    match (is_unknown, named) {
        (true, _) => There::Unknown,
        (false, []) => There::Unsaid,
        (false, named) if named.iter().any(|name| ours.issuers.contains(name)) => There::Named,
        // The list was cut: ours may be in the rest.
        (false, named) if named.len() >= AUTHORITIES_MAX => There::Unsaid,
        (false, _) => There::Others,
    }
}

/// `trusted here   CN=Contoso Root`, one line for each.
fn draw(picture: &mut Vec<String>, label: &str, names: &[String]) {
    let none = ["nobody".to_owned()];
    let names = if names.is_empty() { &none[..] } else { names };
    for (index, name) in names.iter().take(DRAWN_MAX).enumerate() {
        let label = if index == 0 { label } else { "" };
        picture.push(format!("{label:<24}{}", clean(name)));
    }
    if let Some(more @ 1..) = names.len().checked_sub(DRAWN_MAX) {
        picture.push(format!("{:<24}and {more} more", ""));
    }
}

#[cfg(test)]
mod tests {
    use b2bua::quirks::QuirkSet;

    use super::super::handshakes::Look;
    use super::super::{peers, testing};
    use super::*;
    use crate::tls::facts::FactsError;

    fn of(verdict: Result<QuirkSet, PeerRejection>, named: &[&str], objection: Option<Objection>) -> Finding {
        let peers = peers::of(&testing::compiled("").policy);
        let ours = Ours { issuers: vec!["CN=shared".into()], trusted: vec!["CN=shared".into()] };
        let facts = Err(FactsError::TooLong);
        let visit = Visit {
            peer: 0,
            target: "127.0.0.30:5061".parse().unwrap(),
            looks: vec![Look { version: "TLS 1.2", suite: Some("X".into()), objection }],
            request: Request::Asked { authorities: named.iter().map(|name| (*name).to_owned()).collect() },
            presented: Some(Presented { facts, issuers: vec!["CN=theirs".into()], verdict }),
            offers: None,
        };
        findings(&peers, &[visit], &ours).remove(0)
    }

    #[test]
    fn both_directions_count_and_all_authorities_are_drawn() {
        let good = || Ok(QuirkSet::default());
        let foreign = || Err(PeerRejection::SelfSigned);
        let unknown = || Some(Objection::RefusesUs("alert UnknownCA".into()));
        let marks = |found: Finding| (found.mark, found.code.as_str());
        let found = of(good(), &["CN=other", "CN=shared"], None);
        let drawn = found.picture.clone();
        assert_eq!(marks(found), (Mark::Ok, "UMB-TLS052"));
        let expected = [
            "issued its certificate  CN=theirs",
            "trusted here            CN=shared",
            "named by it             CN=other",
            "                        CN=shared",
            "issued ours             CN=shared",
        ];
        assert_eq!(drawn, expected);
        assert_eq!(marks(of(good(), &[], None)), (Mark::Ok, "UMB-TLS052"));
        assert_eq!(marks(of(good(), &["CN=other"], None)), (Mark::Warn, "UMB-TLS051"));
        assert_eq!(marks(of(good(), &[], unknown())), (Mark::Fail, "UMB-TLS052"));
        assert_eq!(marks(of(foreign(), &["CN=shared"], None)), (Mark::Fail, "UMB-TLS052"));
        assert_eq!(marks(of(Err(PeerRejection::Expired), &[], None)), (Mark::Skip, "UMB-TLS052"));
    }

    #[test]
    fn who_trusts_too_little_has_to_add_a_root() {
        let sides = |found: Finding| found.fix.sides().map(|(side, _)| side).collect::<Vec<_>>();
        let foreign = || Err(PeerRejection::SelfSigned);
        assert_eq!(sides(of(foreign(), &["CN=shared"], None)), ["Umbra"]);
        assert_eq!(sides(of(Ok(QuirkSet::default()), &["CN=other"], None)), ["Exchange"]);
        assert_eq!(sides(of(foreign(), &["CN=other"], None)), ["Exchange", "Lync", "Umbra"]);
    }

    #[test]
    fn a_peer_of_which_nothing_was_seen_is_not_judged() {
        let peers = peers::of(&testing::compiled("").policy);
        let unseen = Visit::of(0, "127.0.0.30:5061".parse().unwrap(), None);
        assert!(findings(&peers, &[unseen], &Ours::default()).is_empty());
    }
}
