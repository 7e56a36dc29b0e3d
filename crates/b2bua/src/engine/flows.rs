//! Every usable flow and who is at its far end. Owns the tie from a connection to a configured peer;
//! refuses to know calls.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use sip::endpoint::Flow;
use sip::{FlowKey, Transport};

use super::io::{FlowUp, Origin, PeerIdentity};
use crate::leg::{LegPeer, Verified};
use crate::policy::{Peer, Policy};
use crate::profile::Dialect;

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
    /// Its configured name, or the name we connected to.
    pub name: String,
    /// Names of its certificate.
    pub names: Vec<String>,
    /// How it is known.
    pub verified: Verified,
    /// Who opened it.
    pub origin: Origin,
}

impl FlowEntry {
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
        }
    }
}

/// The table.
#[derive(Default)]
pub(crate) struct Flows(BTreeMap<FlowKey, Arc<FlowEntry>>);

impl Flows {
    /// Takes a flow in; a flow we made for `wanted` is named after it.
    pub fn insert(&mut self, up: &FlowUp, policy: &Policy, wanted: Option<&str>) -> Arc<FlowEntry> {
        // A connection that many calls use is looked at once; a new policy looks at all again.
        let known = self.0.get(&up.key).filter(|known| wanted.is_some_and(|name| known.name == name));
        if let Some(known) = known {
            return known.clone();
        }
        let mut entry = identify(up, policy);
        // A reused inbound flow keeps what is known about its owner.
        if let Some(known) = self.0.get(&up.key) {
            entry.origin = known.origin;
        }
        if let Some(name) = wanted {
            name.clone_into(&mut entry.name);
            // An address may belong to a gateway too; what we connected to is what was meant.
            entry.peer = policy.server_by_name(name).or(entry.peer);
            entry.dialect = policy.dialect_of(entry.peer);
        }
        let entry = Arc::new(entry);
        self.0.insert(up.key, entry.clone());
        entry
    }

    /// That flow.
    pub fn get(&self, key: FlowKey) -> Option<&Arc<FlowEntry>> {
        self.0.get(&key)
    }

    /// Forgets a flow.
    pub fn remove(&mut self, key: FlowKey) -> Option<Arc<FlowEntry>> {
        self.0.remove(&key)
    }

    /// Another flow of the same peer with the same transport.
    pub fn of_peer(&self, peer: &LegPeer, transport: Transport) -> Option<&FlowEntry> {
        let mut all = self.0.values().map(Arc::as_ref);
        all.find(|entry| entry.transport == transport && peer.owns(entry))
    }

    /// Another flow to the very place a lost one led to: the ports of a server are different processes.
    pub fn to_place(&self, peer: &LegPeer, lost: &Flow) -> Option<&FlowEntry> {
        let is_there = |entry: &&FlowEntry| entry.remote == lost.remote && entry.transport == lost.transport;
        self.0.values().map(Arc::as_ref).filter(is_there).find(|entry| peer.owns(entry))
    }

    /// A flow to that configured peer.
    pub fn to_peer(&self, peer: Peer) -> Option<&FlowEntry> {
        self.0.values().map(Arc::as_ref).find(|entry| entry.peer == Some(peer))
    }

    /// Ties every flow to the peers of a new policy.
    pub fn identify_again(&mut self, policy: &Policy) {
        for entry in self.0.values_mut().map(Arc::make_mut) {
            let names = entry.names.clone();
            let found = find_peer(policy, entry.verified, &names, entry.remote.ip());
            entry.peer = found.or_else(|| policy.server_by_name(&entry.name));
            entry.dialect = policy.dialect_of(entry.peer);
            if let Some(peer) = found {
                policy.peer_name(peer).clone_into(&mut entry.name);
            }
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
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
        },
        remote: up.remote,
        transport: up.transport,
        peer,
        dialect: policy.dialect_of(peer),
        name: peer.map_or_else(String::new, |p| policy.peer_name(p).to_owned()),
        names,
        verified,
        origin: up.origin,
    }
}

fn find_peer(policy: &Policy, verified: Verified, names: &[String], address: IpAddr) -> Option<Peer> {
    match verified {
        Verified::ByName => policy.peer_by_name(names),
        Verified::ByAddress => policy.peer_by_address(address),
    }
}
