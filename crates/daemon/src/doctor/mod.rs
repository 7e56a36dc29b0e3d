//! `umbra doctor`: live checks of everything around the gateway, each with its code and its fix. Owns the order of
//! asking (names, then ports, then what is behind them), side by side and within bounds; each file below judges one
//! group from facts. Refuses to know how findings are printed.

mod ask;
mod bounded;
mod certificates;
mod clock;
mod configured;
mod directory;
mod finding;
mod handshakes;
mod host;
mod lync;
mod names;
mod offers;
mod past;
mod peers;
mod roots;
mod security;
mod servers;
#[cfg(test)]
mod testing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use b2bua::engine::{Question, ResolveFailureKind};
use b2bua::policy::{self, PortSource};
use sip::Transport;
use tokio::time::Instant;

use crate::config::Compiled;
use crate::net::{Locator, search_domains};
use crate::run::Settings;
use crate::tls::facts::CertificateFacts;
use crate::tls::{Identity, read_certificates};
use ask::{Asker, Trouble};
use bounded::{CHECK_MAX, RUN_MAX};
pub use configured::refused;
pub use finding::{Finding, Fix, Group, Mark, Report};
use handshakes::{Sight, Visit};
use names::{Located, Whose};
use peers::{Kind, KnownBy, Peer, State};
use roots::Ours;
use servers::{Asked, Knocked};

/// Addresses of a peer that are visited.
const ADDRESSES_MAX: usize = 4;
/// Certificates of our own file that are read.
const CHAIN_LENGTH_MAX: usize = 16;

/// What is to be looked at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Topic {
    /// UM servers, UM IP gateways, dial plans, security.
    Exchange,
    /// Pools, Autodiscover, location profiles, security.
    Lync,
    /// Certificates and handshakes.
    Tls,
    /// RTP ports, limits, listeners.
    Media,
    /// Names.
    Dns,
    /// Clocks.
    Time,
    /// Everything.
    #[default]
    All,
}

impl Topic {
    fn wants(self, group: Group) -> bool {
        use Group as G;
        match self {
            Self::All => true,
            Self::Exchange => {
                matches!(group, G::Servers | G::Security | G::Gateways | G::Plans | G::Directory)
            }
            Self::Lync => matches!(group, G::Lync | G::Security | G::Directory),
            Self::Tls => matches!(group, G::Certificates | G::Tls),
            Self::Media => matches!(group, G::Media | G::Listeners),
            Self::Dns => matches!(group, G::Names),
            Self::Time => matches!(group, G::Clock),
        }
    }

    fn wants_any(self, groups: &[Group]) -> bool {
        groups.iter().any(|group| self.wants(*group))
    }
}

/// Looks at everything that the topic asks for; ends within a minute.
pub async fn examine(compiled: &Compiled, topic: Topic) -> Report {
    use Group as G;
    let until = Instant::now() + RUN_MAX;
    let peers = peers::of(&compiled.policy);
    let mut found = configured::findings(compiled);
    found.extend(security::findings(&compiled.policy));
    if topic.wants_any(&[G::Media, G::Listeners]) {
        found.extend(host_findings(compiled).await);
    }
    if topic.wants_any(&[G::Servers, G::Gateways, G::Lync, G::Names, G::Clock, G::Certificates, G::Tls]) {
        let locator = Arc::new(Locator::new(&compiled.dns));
        let located = locate(compiled, &peers, &locator, until).await;
        if topic.wants(G::Lync) {
            found.extend(lync_findings(compiled, &locator, until).await);
        }
        let doors = doors(&peers, &located);
        if topic.wants_any(&[G::Servers, G::Gateways, G::Lync, G::Clock]) {
            found.extend(visit(compiled, &peers, &doors, until).await);
        }
        if topic.wants_any(&[G::Certificates, G::Tls, G::Clock]) {
            found.extend(look(compiled, &peers, &doors, until).await);
        }
        if topic.wants(G::Tls) {
            found.extend(past::findings(compiled.admin.http).await);
        }
        found.extend(names::findings(&peers, &located));
    }
    if topic.wants(G::Directory) {
        found.extend(directory::findings(compiled).await);
    }
    found.retain(|finding| topic.wants(finding.group));
    Report::of(found)
}

async fn host_findings(compiled: &Compiled) -> Vec<Finding> {
    let compiled = compiled.clone();
    tokio::task::spawn_blocking(move || host::findings(&compiled)).await.unwrap_or_default()
}

/// Looks up every peer that has no configured address, and every member of a pool.
async fn locate(compiled: &Compiled, peers: &[Peer], locator: &Arc<Locator>, until: Instant) -> Vec<Located> {
    let by_name = peers.iter().filter(|peer| peer.known_by == KnownBy::Name && peer.addresses.is_empty());
    let questions = by_name.flat_map(|peer| {
        let whose = whose(compiled, peer);
        peer.services.iter().map(move |service| {
            let question = Question {
                name: peer.name.clone(),
                transport: service.transport,
                port: service.port,
                port_source: service.port_source,
            };
            (whose, question)
        })
    });
    let questions: Vec<(Whose, Question)> = questions.collect();
    let domains = Arc::new(search_domains());
    let checks = questions.iter().cloned().map(|(whose, question)| {
        let (locator, domains) = (locator.clone(), domains.clone());
        async move { look_up(&locator, whose, &question, &domains).await }
    });
    let results = bounded::all(checks.collect(), CHECK_MAX, until).await;
    let late =
        |(whose, question): (Whose, Question)| Located::nothing(whose, &question.name, question.transport);
    questions.into_iter().zip(results).map(|(asked, result)| result.unwrap_or_else(|| late(asked))).collect()
}

fn whose(compiled: &Compiled, peer: &Peer) -> Whose {
    let pool = match peer.id {
        policy::Peer::IpGateway(index) => compiled.policy.pool_of(index),
        policy::Peer::Server(..) => None,
    };
    match peer.kind {
        Kind::CallRouter | Kind::Mailbox => Whose::Server,
        Kind::Pool | Kind::Gateway => Whose::Gateway,
        Kind::Member if pool.is_some_and(|pool| !pool.address.is_empty()) => Whose::SpareMember,
        Kind::Member => Whose::Member,
    }
}

fn plain_question(name: &str) -> Question {
    let port_source = PortSource::Configured;
    Question { name: name.to_owned(), transport: Transport::Tls, port: 0, port_source }
}

async fn look_up(locator: &Locator, whose: Whose, question: &Question, domains: &[String]) -> Located {
    let mut located = Located::nothing(whose, &question.name, question.transport);
    located.services = locator.services(question).await;
    let result = locator.locate(question).await;
    match &result {
        Ok(targets) => {
            for target in targets.iter().take(ADDRESSES_MAX) {
                if !located.back.iter().any(|(address, _)| *address == target.ip()) {
                    located.back.push((target.ip(), locator.names_of(target.ip()).await));
                }
            }
        }
        Err(failure) if failure.kind == ResolveFailureKind::NoAddress => {
            for domain in domains {
                let longer = format!("{}.{domain}", question.name);
                if locator.locate(&plain_question(&longer)).await.is_ok() {
                    located.with_search_domain = Some(longer);
                    break;
                }
            }
        }
        Err(_) => {}
    }
    Located { result: Some(result), ..located }
}

async fn lync_findings(compiled: &Compiled, locator: &Arc<Locator>, until: Instant) -> Vec<Finding> {
    let lync = &compiled.lync;
    let mut found = lync::autodiscover(&lync.autodiscover);
    let mut hosts: Vec<&str> = lync.autodiscover.iter().filter_map(|uri| lync::host(uri)).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let checks = hosts.iter().map(|host| {
        let (locator, question) = (locator.clone(), plain_question(host));
        async move { locator.locate(&question).await.is_ok() }
    });
    let results = bounded::all(checks.collect(), CHECK_MAX, until).await;
    let facts: Vec<lync::HostFact> = hosts.into_iter().map(str::to_owned).zip(results).collect();
    found.extend(lync::autodiscover_hosts(&facts));
    found.extend(lync::location_profiles(&compiled.policy, lync.location_profiles.as_deref()));
    found
}

/// One way to one address of a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Door {
    peer: usize,
    transport: Transport,
    target: SocketAddr,
}

fn doors(peers: &[Peer], located: &[Located]) -> Vec<Door> {
    let mut doors = Vec::new();
    for (index, peer) in peers.iter().enumerate().filter(|(_, peer)| peer.state == State::Used) {
        for service in &peer.services {
            let configured = peer.addresses.iter().map(|address| SocketAddr::new(*address, service.port));
            let is_meant = |l: &&Located| l.name == peer.name && l.transport == service.transport;
            let looked_up = located.iter().filter(is_meant);
            let looked_up = looked_up.filter_map(|l| l.result.as_ref()?.as_ref().ok()).flatten().copied();
            let mut targets: Vec<SocketAddr> = configured.chain(looked_up).collect();
            targets.sort_unstable();
            targets.dedup();
            let of = |target| Door { peer: index, transport: service.transport, target };
            doors.extend(targets.into_iter().take(ADDRESSES_MAX).map(of));
        }
    }
    doors
}

/// OPTIONS at every door, a knock at every worker port.
async fn visit(compiled: &Compiled, peers: &[Peer], doors: &[Door], until: Instant) -> Vec<Finding> {
    let asker = Arc::new(asker(compiled));
    let checks = doors.iter().map(|door| {
        let (asker, door) = (asker.clone(), *door);
        let name = peers.get(door.peer).map(|peer| peer.name.clone()).unwrap_or_default();
        async move { asker.ask(door.target, &name, door.transport).await }
    });
    let results = bounded::all(checks.collect(), CHECK_MAX, until).await;
    let asked: Vec<Asked> = doors
        .iter()
        .zip(results)
        .map(|(door, result)| Asked {
            peer: door.peer,
            transport: door.transport,
            target: door.target,
            result,
        })
        .collect();
    let mut found: Vec<Finding> =
        asked.iter().filter_map(|asked| Some(servers::options(peers.get(asked.peer)?, asked))).collect();
    found.extend(knock(&asker, peers, doors, until).await);
    found.extend(peers.iter().filter_map(|peer| servers::unvisited(peer, doors_of(peers, peer, doors))));
    found.extend(clock::findings(peers, &asked));
    found
}

/// Looks at every TLS door and at our own certificate.
async fn look(compiled: &Compiled, peers: &[Peer], doors: &[Door], until: Instant) -> Vec<Finding> {
    let now = SystemTime::now();
    let own = own_chains(compiled, now);
    let visits = look_at_doors(compiled, peers, doors, until, now).await;
    let mut named: Vec<(String, &CertificateFacts)> = Vec::new();
    let leaves = own.iter().filter_map(|(whose, chain)| Some((whose.clone(), chain.first()?.as_ref().ok()?)));
    named.extend(leaves);
    for visit in &visits {
        let facts = visit.presented.as_ref().and_then(|presented| presented.facts.as_ref().ok());
        if let (Some(facts), Some(peer)) = (facts, peers.get(visit.peer)) {
            named.push((format!("the certificate of {} {}", peer.name, visit.target), facts));
        }
    }
    let ours = Ours::of(&own, compiled.tls.as_ref().map_or(&[][..], |tls| &tls.files.trusted_roots[..]), now);
    let (oauth, sip_domain) = (&compiled.lync.oauth_certificates, &compiled.policy.gateway.sip_domain);
    let mut found = certificates::own(&own);
    found.extend(certificates::of_peers(peers, &visits));
    found.extend(certificates::oauth(oauth, sip_domain, now));
    found.extend(certificates::edges(&named, now));
    found.extend(roots::findings(peers, &visits, &ours));
    found.extend(handshakes::findings(peers, &visits));
    found
}

/// Each certificate of ours: what it is called, and its chain, leaf first; none without `[tls]`.
fn own_chains(compiled: &Compiled, now: SystemTime) -> Vec<certificates::Own> {
    let Some(files) = compiled.tls.as_ref().map(|tls| &tls.files) else { return Vec::new() };
    let more = files.more.iter().map(|more| (format!("our certificate {}", more.name), &more.certificate));
    let own = std::iter::once(("our certificate".to_owned(), &files.certificate)).chain(more);
    own.map(|(whose, file)| {
        let chain = read_certificates(file, CHAIN_LENGTH_MAX).unwrap_or_default();
        (whose, CertificateFacts::read_chain(chain.iter().map(|der| &der[..]), now))
    })
    .collect()
}

async fn look_at_doors(
    compiled: &Compiled,
    peers: &[Peer],
    doors: &[Door],
    until: Instant,
    now: SystemTime,
) -> Vec<Visit> {
    let asker = Arc::new(asker(compiled));
    let (Some(tls), Some(files)) = (&asker.tls, compiled.tls.as_ref().map(|tls| &tls.files)) else {
        return Vec::new();
    };
    let doors: Vec<Door> = doors.iter().filter(|door| door.transport == Transport::Tls).copied().collect();
    let checks = doors.iter().map(|door| {
        let (asker, judge, target) = (asker.clone(), tls.judge(), door.target);
        let name = peers.get(door.peer).map(|peer| peer.name.clone()).unwrap_or_default();
        let (certificate, key) = files.toward(&name);
        // The files were good when the configuration was compiled.
        let identity = Identity::load(certificate, key).ok();
        async move { handshakes::look(&asker, &Sight { identity, judge, now }, target, &name).await }
    });
    let results = bounded::all(checks.collect(), CHECK_MAX, until).await;
    let visit =
        |(door, looked): (&Door, Option<handshakes::Looked>)| Visit::of(door.peer, door.target, looked);
    doors.iter().zip(results).map(visit).collect()
}

fn doors_of(peers: &[Peer], peer: &Peer, doors: &[Door]) -> usize {
    doors.iter().filter(|door| peers.get(door.peer) == Some(peer)).count()
}

async fn knock(asker: &Arc<Asker>, peers: &[Peer], doors: &[Door], until: Instant) -> Vec<Finding> {
    let mut targets: Vec<(usize, SocketAddr)> = Vec::new();
    for door in doors {
        let ports = peers.get(door.peer).map_or(&[][..], |peer| &peer.worker_ports);
        let own = ports.iter().map(|port| (door.peer, SocketAddr::new(door.target.ip(), *port)));
        targets.extend(own);
    }
    targets.sort_unstable();
    targets.dedup();
    let checks = targets.iter().map(|(_, target)| {
        let (asker, target) = (asker.clone(), *target);
        async move { asker.knock(target).await.map(drop) }
    });
    let results: Vec<Option<Result<(), Trouble>>> = bounded::all(checks.collect(), CHECK_MAX, until).await;
    let knocked: Vec<Knocked> = targets
        .into_iter()
        .zip(results)
        .map(|((peer, target), result)| Knocked { peer, target, result })
        .collect();
    // Sorted: the knocks at one address of one peer stand together.
    let at_one_place = |a: &Knocked, b: &Knocked| (a.peer, a.target.ip()) == (b.peer, b.target.ip());
    let finding = |knocks: &[Knocked]| {
        let peer = peers.get(knocks.first()?.peer)?;
        servers::workers(peer, &knocks.iter().collect::<Vec<_>>())
    };
    knocked.chunk_by(at_one_place).filter_map(finding).collect()
}

fn asker(compiled: &Compiled) -> Asker {
    let settings = Settings::from(compiled);
    let tls = settings.tls.as_ref();
    // The configuration was compiled, so its files were good a moment ago.
    let tls = tls.and_then(|tls| tls.load(&settings.policy).ok());
    Asker {
        tls: tls.map(Arc::new),
        sources: compiled.listen.addresses.clone(),
        fqdn: compiled.policy.gateway.fqdn.clone(),
        advertised: compiled.listen.advertised,
        rules: compiled.policy.routing.clone(),
    }
}
