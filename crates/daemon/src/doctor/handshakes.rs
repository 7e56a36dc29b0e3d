//! Handshakes with every peer, one for each protocol version, that only look; and what they say about versions, suites
//! and client certificates. The looking is `tls::probe`'s, the judgement `tls::verify`'s.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use b2bua::codes;
use b2bua::quirks::QuirkSet;
use rustls_pki_types::CertificateDer;
use tokio::time::timeout;

use super::ask::{Asker, Trouble};
use super::finding::{Finding, Group, Mark};
use super::offers::{self, Offer};
use super::peers::Peer;
use crate::tls::facts::{CertificateFacts, FactsError};
use crate::tls::probe::{Objection, Probe, ProbeLimits, Request, Sighting};
use crate::tls::{
    Backend, Glimpse, HandshakeFailure, Identity, Judge, PeerRejection, TlsContext, Version, Versions,
};

const GROUP: Group = Group::Tls;
/// What is tried; more the backend does not have.
pub const TRIED: [(&str, Versions); 2] = [("TLS 1.3", Versions::Only13), ("TLS 1.2", Versions::Only12)];

/// The version of a handshake that did not come so far as to agree on one.
const AS_CONFIGURED: &str = "TLS as configured";

/// Everything seen of one peer at one address.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Index of the peer.
    pub peer: usize,
    /// Where.
    pub target: SocketAddr,
    /// What became of each version; empty when its time was up.
    pub looks: Vec<Look>,
    /// Whether it asked for our certificate.
    pub request: Request,
    /// What it presents.
    pub presented: Option<Presented>,
    /// Everything that it would speak; `None` when it did not say.
    pub offers: Option<Vec<Offer>>,
}

/// One handshake.
#[derive(Clone, Debug)]
pub struct Look {
    /// The version tried.
    pub version: &'static str,
    /// The suite agreed, when it came that far.
    pub suite: Option<String>,
    /// What stood against it.
    pub objection: Option<Objection>,
}

/// A certificate as the gateway would judge it.
#[derive(Clone, Debug)]
pub struct Presented {
    /// What it says.
    pub facts: Result<CertificateFacts, FactsError>,
    /// Who issued it, and each certificate that was sent along.
    pub issuers: Vec<String>,
    /// Whether the gateway would take it for the peer.
    pub verdict: Result<QuirkSet, PeerRejection>,
}

impl Presented {
    /// What a chain says, leaf first; nothing of an empty one.
    pub fn of(
        chain: &[CertificateDer<'_>],
        verdict: Result<QuirkSet, PeerRejection>,
        now: SystemTime,
    ) -> Option<Self> {
        let mut facts = CertificateFacts::read_chain(chain.iter().map(|der| &der[..]), now);
        let issuers = facts.iter().flatten().map(|facts| facts.issuer.clone()).collect();
        (!facts.is_empty()).then(|| Self { facts: facts.swap_remove(0), issuers, verdict })
    }
}

/// Looks once with each version.
pub async fn look(asker: &Asker, sight: &Sight, target: SocketAddr, name: &str) -> Looked {
    let offers = offers::ask(asker, target, name).await;
    let mut looked = Looked { looks: Vec::new(), request: Request::Unknown, presented: None, offers };
    if let Some(tls) = asker.tls.as_ref().filter(|tls| tls.backend_toward(name) != Backend::Rustls) {
        looked.shake(asker, tls, sight, target, name).await;
        return looked;
    }
    for (version, versions) in TRIED {
        let sighting = match asker.knock(target).await {
            Ok(stream) => {
                let limits = ProbeLimits { handshake: asker.rules.tls_timeout, ..ProbeLimits::default() };
                let probe = Probe::new(sight.identity.as_ref(), versions).limits(limits);
                probe.look_over(stream, name).await
            }
            Err(trouble) => {
                looked.looks.push(unreachable(version, &trouble));
                break;
            }
        };
        looked.take(version, sighting, sight, name);
    }
    looked
}

/// How sightings are made and judged.
pub struct Sight {
    /// Presented when asked for.
    pub identity: Option<Identity>,
    /// The gateway's rules.
    pub judge: Arc<Judge>,
    /// When.
    pub now: SystemTime,
}

/// What one round of looks brought.
pub struct Looked {
    /// Of each version.
    pub looks: Vec<Look>,
    /// Whether our certificate was asked for.
    pub request: Request,
    /// What was presented.
    pub presented: Option<Presented>,
    /// Everything that it would speak.
    pub offers: Option<Vec<Offer>>,
}

impl Visit {
    /// What was seen there; nothing when its time was up.
    pub fn of(peer: usize, target: SocketAddr, looked: Option<Looked>) -> Self {
        match looked {
            Some(Looked { looks, request, presented, offers }) => {
                Self { peer, target, looks, request, presented, offers }
            }
            None => Self {
                peer,
                target,
                looks: Vec::new(),
                request: Request::Unknown,
                presented: None,
                offers: None,
            },
        }
    }
}

impl Looked {
    /// A probe is rustls; where the gateway speaks otherwise, its own handshake shows what works.
    async fn shake(
        &mut self,
        asker: &Asker,
        tls: &TlsContext,
        sight: &Sight,
        target: SocketAddr,
        name: &str,
    ) {
        let stream = match asker.knock(target).await {
            Ok(stream) => stream,
            Err(trouble) => return self.looks.push(unreachable(AS_CONFIGURED, &trouble)),
        };
        let shaken = timeout(asker.rules.tls_timeout, tls.glimpse(name, stream)).await;
        match shaken.unwrap_or(Err(HandshakeFailure::Timeout)) {
            Ok(Glimpse { chain, agreed, verdict }) => {
                let version = Version::of(agreed.version).map_or(AS_CONFIGURED, Version::word);
                self.looks.push(Look { version, suite: Some(agreed.suite_name()), objection: None });
                self.presented = Presented::of(&chain, verdict, sight.now);
            }
            Err(failure) => {
                let objection = Some(Objection::Failed(failure));
                self.looks.push(Look { version: AS_CONFIGURED, suite: None, objection });
            }
        }
    }

    fn take(&mut self, version: &'static str, sighting: Sighting, sight: &Sight, name: &str) {
        if self.presented.is_none() {
            let verdict = sighting.judge(&sight.judge, name, sight.now);
            self.presented = Presented::of(&sighting.chain, verdict, sight.now);
        }
        if self.request == Request::Unknown {
            self.request = sighting.request.clone();
        }
        self.looks.push(Look { version, suite: sighting.suite, objection: sighting.reaction.err() });
    }
}

fn unreachable(version: &'static str, trouble: &Trouble) -> Look {
    Look { version, suite: None, objection: Some(Objection::Unreachable(trouble.to_string())) }
}

/// Versions, suites, client certificates.
pub fn findings(peers: &[Peer], visits: &[Visit]) -> Vec<Finding> {
    let of = |visit: &Visit| {
        let peer = peers.get(visit.peer)?;
        let place = format!("{} {}", peer.name, visit.target);
        let mut found = vec![versions(&place, visit)];
        found.extend(client_certificate(&place, visit));
        Some(found.into_iter().map(|finding| finding.on(peer.kind.side())).collect::<Vec<_>>())
    };
    let mut found: Vec<Finding> = visits.iter().filter_map(of).flatten().collect();
    if visits.is_empty() {
        let why = "no peer is to be reached over TLS: no handshake was tried";
        found.push(Finding::skip(GROUP, codes::NO_COMMON_SUITE, why));
    } else if !Backend::OpenSsl.is_built() {
        let why =
            "openssl is not part of this build: what it would do is told from what peers take, not tried";
        found.push(Finding::skip(GROUP, codes::NO_COMMON_SUITE, why));
    }
    found
}

/// One version that works is enough; an objection to our certificate is no matter of versions.
fn versions(place: &str, Visit { looks, offers, .. }: &Visit) -> Finding {
    let code = codes::NO_COMMON_SUITE;
    let unreachable = looks.iter().find_map(|look| match &look.objection {
        Some(objection @ Objection::Unreachable(_)) => Some(objection.to_string()),
        _ => None,
    });
    if let Some(why) = unreachable {
        return Finding::skip(GROUP, code, format!("{place}: {why}"));
    }
    if looks.is_empty() {
        return Finding::skip(GROUP, code, format!("{place}: not tried, the time was up"));
    }
    let word = |look: &Look| match (&look.suite, &look.objection) {
        (Some(suite), _) => format!("{} {suite}", look.version),
        (None, Some(objection)) => format!("{} no ({objection})", look.version),
        (None, None) => format!("{} no", look.version),
    };
    let handshakes = looks.iter().map(word).collect::<Vec<_>>().join(", ");
    // A line has its bound: what was tried comes last.
    let (words, picture) = match offers {
        Some(offers) => {
            (format!("{place}: {}; {handshakes}", offers::summary(offers)), offers::picture(offers))
        }
        None => (format!("{place}: {handshakes}"), Vec::new()),
    };
    let blame = looks.iter().find_map(|look| look.objection.as_ref()).map_or(code, Objection::code);
    let finding = match looks.iter().any(|look| look.suite.is_some()) {
        true => Finding::ok(GROUP, code, words),
        false => Finding::fail(GROUP, blame, words),
    };
    finding.drawn(picture)
}

fn client_certificate(place: &str, visit: &Visit) -> Option<Finding> {
    let refused = visit.looks.iter().find_map(|look| match &look.objection {
        Some(objection @ (Objection::RefusesUs(_) | Objection::WantsCertificate)) => Some(objection),
        _ => None,
    });
    if let Some(objection) = refused {
        return Some(Finding::fail(GROUP, objection.code(), format!("{place}: {objection}")));
    }
    let code = codes::NOT_ASKED;
    Some(match &visit.request {
        Request::Unknown => return None,
        Request::NotAsked => {
            Finding::new(GROUP, Mark::Warn, code, format!("{place} asks for no client certificate"))
        }
        Request::Asked { authorities } if authorities.is_empty() => {
            Finding::ok(GROUP, code, format!("{place} asks for a client certificate of any authority"))
        }
        Request::Asked { authorities } => {
            let count = authorities.len();
            let plural = if count == 1 { "authority" } else { "authorities" };
            Finding::ok(GROUP, code, format!("{place} asks for a client certificate of {count} {plural}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::{peers, testing};
    use super::*;

    fn look(version: &'static str, suite: Option<&str>, objection: Option<Objection>) -> Look {
        Look { version, suite: suite.map(str::to_owned), objection }
    }

    fn marks(looks: Vec<Look>, request: Request) -> Vec<(Mark, &'static str)> {
        let peers = peers::of(&testing::compiled("").policy);
        let target = "127.0.0.30:5061".parse().unwrap();
        let visit = Visit { peer: 0, target, looks, request, presented: None, offers: None };
        findings(&peers, &[visit]).iter().map(|f| (f.mark, f.code.as_str())).collect()
    }

    fn asked() -> Request {
        Request::Asked { authorities: vec!["CN=root".into()] }
    }

    #[test]
    fn one_version_that_works_is_good_and_none_fails() {
        let nothing = || Some(Objection::NothingInCommon("alert ProtocolVersion".into()));
        let good = marks(vec![look("TLS 1.3", None, nothing()), look("TLS 1.2", Some("X"), None)], asked());
        assert_eq!(good[..2], [(Mark::Ok, "UMB-TLS014"), (Mark::Ok, codes::NOT_ASKED.as_str())]);
        let bad =
            marks(vec![look("TLS 1.3", None, nothing()), look("TLS 1.2", None, nothing())], Request::Unknown);
        assert_eq!(bad[0], (Mark::Fail, "UMB-TLS014"));
        let gone = Some(Objection::Unreachable("refused".into()));
        assert_eq!(marks(vec![look("TLS 1.3", None, gone)], Request::Unknown)[0].0, Mark::Skip);
        assert_eq!(marks(Vec::new(), Request::Unknown)[0].0, Mark::Skip);
    }

    #[test]
    fn what_the_backend_cannot_try_is_said() {
        let found = findings(&[], &[]);
        assert_eq!(found.iter().map(|f| f.mark).collect::<Vec<_>>(), [Mark::Skip]);
        let last = marks(vec![look("TLS 1.2", Some("X"), None)], asked()).pop().unwrap();
        assert_eq!(last.0 == Mark::Skip, !Backend::OpenSsl.is_built());
    }

    #[test]
    fn a_peer_that_refuses_us_fails_and_one_that_does_not_ask_is_a_warning() {
        let refuses = Some(Objection::RefusesUs("alert UnknownCA".into()));
        let found = marks(vec![look("TLS 1.2", Some("X"), refuses)], asked());
        assert_eq!(found[1], (Mark::Fail, codes::REFUSED_BY_PEER.as_str()));
        let found = marks(vec![look("TLS 1.2", Some("X"), None)], Request::NotAsked);
        assert_eq!(found[1], (Mark::Warn, codes::NOT_ASKED.as_str()));
        let any = Request::Asked { authorities: Vec::new() };
        assert_eq!(marks(vec![look("TLS 1.2", Some("X"), None)], any)[1].0, Mark::Ok);
    }
}
