//! Whether those who connected to us would be let in again: by the rules of a handshake over TLS, by address elsewhere. Owns the
//! sorting of connections by what they were let in for; refuses to end one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use b2bua::Policy;
use b2bua::engine::PeerIdentity;
use b2bua::verdict::clean;
use sip::{FlowKey, Transport};
use tracing::warn;

use super::{Chain, Flows, Opened, Replaced, Standing};
use crate::tls::{PeerRejection, TlsContext};

/// Connections that were let in for the same reason.
pub(super) struct Group {
    pub(super) flows: Vec<FlowKey>,
    /// One of them.
    remote: SocketAddr,
    /// What the far end proved and by what; plain connections prove nothing.
    proof: Option<(Chain, Vec<String>)>,
}

/// Why a far end would not be let in again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Shut {
    #[error("no TLS is spoken any more")]
    Tls,
    #[error("no peer has its address any more")]
    Address,
    #[error(transparent)]
    Certificate(#[from] PeerRejection),
}

/// Every connection that a peer opened and that could be closed.
pub(super) fn groups(flows: &Flows) -> Vec<Group> {
    let mut groups: BTreeMap<(usize, Option<SocketAddr>, Vec<String>), Group> = BTreeMap::new();
    for standing in flows.all() {
        let facts = &standing.facts;
        if standing.opened != Opened::ByPeer || facts.transport == Transport::Udp {
            continue;
        }
        let group = Group::of(&standing);
        let key = match &group.proof {
            Some((chain, names)) => (chain.as_ptr().addr(), None, names.clone()),
            None => (0, Some(facts.remote), Vec::new()),
        };
        groups.entry(key).and_modify(|known| known.flows.push(facts.key)).or_insert(group);
    }
    groups.into_values().collect()
}

impl Group {
    pub(super) fn of(Standing { facts, tls, .. }: &Standing) -> Self {
        let names = match &facts.peer {
            PeerIdentity::Verified { names } => names.clone(),
            PeerIdentity::Address => Vec::new(),
        };
        let proof = tls.as_ref().map(|secured| (secured.chain.clone(), names));
        Self { flows: vec![facts.key], remote: facts.remote, proof }
    }

    /// Whether that far end would be let in now.
    pub(super) fn is_let_in(&self, tls: Option<&TlsContext>, policy: &Replaced) -> Result<(), Shut> {
        match &self.proof {
            Some(_) => is_let_in_over_tls(tls, self),
            None => {
                let is_known = |policy: &Policy| policy.peer_by_address(self.remote.ip()).is_some();
                // Strangers are none of ours: what becomes of them is `unknown_peer`.
                if is_known(&policy.before) && !is_known(&policy.now) { Err(Shut::Address) } else { Ok(()) }
            }
        }
    }

    /// One line for all of them.
    pub(super) fn tell(&self, connections: usize, why: &Shut) {
        let peer = self.proof.as_ref().and_then(|(_, names)| names.first()).map_or("", String::as_str);
        let umb_code = b2bua::codes::FORMER_PEER.as_str();
        let why = clean(&why.to_string());
        warn!(event = "connections_refused", umb_code, peer, remote = %self.remote, connections, why,
            "a peer is not accepted any more: its calls may end, new requests are refused, its connections are closed");
    }
}

pub(super) fn is_let_in_over_tls(tls: Option<&TlsContext>, group: &Group) -> Result<(), Shut> {
    let Some((chain, names)) = &group.proof else { return Ok(()) };
    Ok(tls.ok_or(Shut::Tls)?.lets_in(chain, names, SystemTime::now())?)
}

#[cfg(test)]
#[path = "inbound_tests.rs"]
mod tests;
