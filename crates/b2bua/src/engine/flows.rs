//! Every usable flow and who is at its far end. Owns the tie from a connection to a configured peer;
//! refuses to know calls.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use relay::Network;
use sip::endpoint::{Flow, Party};
use sip::{FlowKey, Transport};

use super::io::{FlowUp, Newcomers, Origin, PeerIdentity};
use crate::leg::{LegPeer, Verified};
use crate::place::Place;
use crate::policy::{Peer, Policy};
use crate::profile::Dialect;

/// Names of one certificate under which its flow can be found.
const USES_MAX: usize = 32;

/// One flow.
#[derive(Clone, Debug)]
pub(crate) struct FlowEntry {
    /// As the endpoint wants it.
    pub flow: Flow,
    /// Far end.
    pub remote: SocketAddr,
    /// Over what.
    pub transport: Transport,
    /// The configured peer, `None` for a stranger.
    pub peer: Option<Peer>,
    /// How it is spoken to.
    pub dialect: Dialect,
    /// Where its media may be; empty = anywhere.
    pub media_networks: Arc<[Network]>,
    /// Its configured name, also after it left the configuration; the name we connected to when there is none.
    pub name: String,
    /// Names of its certificate.
    pub names: Vec<String>,
    /// How it is known.
    pub verified: Verified,
    /// Who opened it.
    pub origin: Origin,
    /// The name an outgoing connection was made for, in lower case.
    pub made_for: Option<String>,
    /// Whether something new may begin on it.
    pub service: Service,
    uses: Vec<UseKey>,
}

/// Whether a flow is found by its names.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Service {
    /// It is.
    Active,
    /// What it was made with is gone: what is on it stays, nothing of ours begins there.
    Retired,
    /// Its peer would not be let in any more, and begins nothing there either.
    Refused,
}

impl FlowEntry {
    /// Never a peer's: it owns no dialog, and is not listened to.
    pub fn is_stranger(&self) -> bool {
        self.peer.is_none() && self.name.is_empty()
    }

    /// Whether its peer may begin something. One that left the configuration, or is not trusted any more, may end what it has.
    pub fn is_welcome(&self) -> bool {
        self.peer.is_some() && self.service != Service::Refused
    }

    // What the policy says about its peer.
    fn tie(&mut self, policy: &Policy) {
        self.dialect = policy.dialect_of(self.peer);
        self.media_networks = policy.media_networks_of(self.peer);
    }

    /// Whether this is the flow of a peer with that configured or certificate name.
    pub fn is_named(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name) || self.names.iter().any(|n| n.eq_ignore_ascii_case(name))
    }

    /// The peer a leg on this flow would have.
    pub fn leg_peer(&self) -> LegPeer {
        LegPeer {
            name: self.name.clone(),
            address: self.remote.ip(),
            is_verified: self.verified,
            dialect: self.dialect,
            media_networks: self.media_networks.clone(),
        }
    }
}

/// The table, with an index by the names a flow may be used for.
#[derive(Default)]
pub(crate) struct Flows {
    by_key: BTreeMap<FlowKey, Arc<FlowEntry>>,
    by_name: BTreeMap<UseKey, BTreeSet<FlowKey>>,
    parties: BTreeMap<(String, Verified), Party>,
}

/// What a flow may carry: messages to that name over that transport. An outgoing connection leads to one port, and
/// the ports of a server are different processes; where an incoming one would be dialled is not known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct UseKey {
    peer: Peer,
    name: String,
    transport: Transport,
    port: Option<u16>,
}

impl Flows {
    /// Takes a flow in; a flow we made for `wanted` is used for that name only.
    pub fn insert(&mut self, up: &FlowUp, policy: &Policy, wanted: Option<&str>) -> Arc<FlowEntry> {
        // A connection that many calls use is looked at once; a new policy looks at all again.
        let is_made_for = |known: &&Arc<FlowEntry>| match (wanted, &known.made_for) {
            (Some(name), Some(own)) => own.eq_ignore_ascii_case(name),
            _ => false,
        };
        if let Some(known) = self.by_key.get(&up.key).filter(is_made_for) {
            return known.clone();
        }
        let mut entry = identify(up, policy);
        // A reused inbound flow keeps what is known about its owner.
        let known = self.remove(up.key);
        if let Some(known) = &known {
            entry.origin = known.origin;
            entry.made_for.clone_from(&known.made_for);
            entry.service = known.service;
        }
        if let Some(name) = wanted {
            entry.made_for = Some(name.to_ascii_lowercase());
            // An address may belong to a gateway too; what we connected to is what was meant.
            entry.peer = policy.peer_behind(name).or(entry.peer);
            entry.tie(policy);
            entry.name = entry.peer.map_or(name, |peer| policy.peer_name(peer)).to_owned();
        }
        entry.flow.party = match known.filter(|known| !known.is_stranger()) {
            Some(known) => known.flow.party,
            None => self.party_of(&entry),
        };
        self.keep(entry, policy)
    }

    // What is known by address only is somebody else than what came with a certificate, whatever both are called. A
    // flow keeps its party, so that a new policy does not part a transaction from its answer; a stranger has neither.
    fn party_of(&mut self, entry: &FlowEntry) -> Party {
        let next = Party(self.parties.len() as u64);
        *self.parties.entry((entry.name.to_ascii_lowercase(), entry.verified)).or_insert(next)
    }

    /// That flow.
    pub fn get(&self, key: FlowKey) -> Option<&Arc<FlowEntry>> {
        self.by_key.get(&key)
    }

    /// Nothing of ours begins on that flow any more, and nothing of its peer's if that is refused.
    pub fn retire(&mut self, key: FlowKey, newcomers: Newcomers) {
        if let Some(entry) = self.remove(key) {
            let mut entry = Arc::unwrap_or_clone(entry);
            entry.service = match newcomers {
                Newcomers::Served => Service::Retired,
                Newcomers::Refused => Service::Refused,
            };
            entry.uses = Vec::new();
            self.by_key.insert(key, Arc::new(entry));
        }
    }

    /// Forgets a flow.
    pub fn remove(&mut self, key: FlowKey) -> Option<Arc<FlowEntry>> {
        let entry = self.by_key.remove(&key)?;
        for used_for in &entry.uses {
            if let Some(flows) = self.by_name.get_mut(used_for) {
                flows.remove(&key);
                if flows.is_empty() {
                    self.by_name.remove(used_for);
                }
            }
        }
        Some(entry)
    }

    /// A flow made for the very name and transport of a place: one we opened to that port, else one that the peer opened with
    /// this name. One that was made for another name is none, whoever is behind it.
    pub fn to_place(&self, peer: Peer, place: &Place) -> Option<&Arc<FlowEntry>> {
        let key = |port| UseKey { peer, name: place.name.clone(), transport: place.transport, port };
        let opened = self.by_name.get(&key(Some(place.port)));
        let flow = opened.or_else(|| self.by_name.get(&key(None)))?.last()?;
        self.by_key.get(flow)
    }

    /// Ties every flow to the peers of a new policy.
    pub fn identify_again(&mut self, policy: &Policy) {
        self.by_name.clear();
        for entry in std::mem::take(&mut self.by_key).into_values() {
            let mut entry = Arc::unwrap_or_clone(entry);
            let was_stranger = entry.is_stranger();
            let found = find_peer(policy, entry.verified, &entry.names, entry.remote.ip());
            let meant = entry.made_for.as_deref().and_then(|name| policy.peer_behind(name));
            entry.peer = meant.or(found);
            entry.tie(policy);
            if let Some(peer) = entry.peer {
                policy.peer_name(peer).clone_into(&mut entry.name);
            }
            if was_stranger {
                entry.flow.party = self.party_of(&entry);
            }
            self.keep(entry, policy);
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    fn keep(&mut self, mut entry: FlowEntry, policy: &Policy) -> Arc<FlowEntry> {
        entry.uses = uses(&entry, policy);
        for used_for in &entry.uses {
            self.by_name.entry(used_for.clone()).or_default().insert(entry.flow.key);
        }
        let entry = Arc::new(entry);
        self.by_key.insert(entry.flow.key, entry.clone());
        entry
    }
}

// A server's incoming connection may come from any of its processes, so no request of ours goes there.
fn uses(entry: &FlowEntry, policy: &Policy) -> Vec<UseKey> {
    let Some(peer) = entry.peer.filter(|_| entry.service == Service::Active) else { return Vec::new() };
    let key =
        |name: &str, port| UseKey { peer, name: name.to_ascii_lowercase(), transport: entry.transport, port };
    match (&entry.made_for, peer, entry.verified) {
        (Some(name), ..) => vec![key(name, Some(entry.remote.port()))],
        (None, Peer::Server(..), _) => Vec::new(),
        (None, Peer::IpGateway(_), Verified::ByName) => {
            let own = entry.names.iter().filter(|name| policy.has_name(peer, name));
            own.take(USES_MAX).map(|name| key(name, None)).collect()
        }
        (None, Peer::IpGateway(index), Verified::ByAddress) => {
            let name = policy.ip_gateways.get(index).map(|gateway| gateway.address.to_string());
            name.map(|name| key(&name, None)).into_iter().collect()
        }
    }
}

fn identify(up: &FlowUp, policy: &Policy) -> FlowEntry {
    let (verified, names) = match &up.peer {
        PeerIdentity::Verified { names } => (Verified::ByName, names.clone()),
        PeerIdentity::Address => (Verified::ByAddress, Vec::new()),
    };
    let peer = find_peer(policy, verified, &names, up.remote.ip());
    let gateway = &policy.gateway;
    let listener = match up.transport {
        Transport::Tls => gateway.tls_port,
        Transport::Tcp => gateway.tcp_port,
        Transport::Udp => gateway.udp_port,
    };
    FlowEntry {
        flow: Flow {
            key: up.key,
            transport: up.transport,
            remote: up.remote,
            via_port: listener.unwrap_or(up.local.port()),
            party: Party::default(),
        },
        remote: up.remote,
        transport: up.transport,
        peer,
        dialect: policy.dialect_of(peer),
        media_networks: policy.media_networks_of(peer),
        name: peer.map_or_else(String::new, |p| policy.peer_name(p).to_owned()),
        names,
        verified,
        origin: up.origin,
        made_for: None,
        service: Service::Active,
        uses: Vec::new(),
    }
}

fn find_peer(policy: &Policy, verified: Verified, names: &[String], address: IpAddr) -> Option<Peer> {
    match verified {
        Verified::ByName => policy.peer_by_name(names),
        Verified::ByAddress => policy.peer_by_address(address),
    }
}
