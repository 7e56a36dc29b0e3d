//! Every open flow of every shard: who is at its far end, who opened it and what is spoken there. Owns one copy of each chain of
//! certificates, however many connections were made with it; refuses to decide about any of them.

use std::sync::{Arc, Weak};

use dashmap::{DashMap, DashSet};
use rustls_pki_types::CertificateDer;
use sip::FlowKey;

use super::{FlowFacts, Opened};
use crate::tls::{Agreed, Backend, Judge, Session, TlsContext, VerifiedPeer};

/// What a far end proved itself by, leaf first.
pub type Chain = Arc<[CertificateDer<'static>]>;

/// What a TLS connection came to.
#[derive(Clone, Debug)]
pub struct Secured {
    /// Version and suite.
    pub agreed: Agreed,
    /// Who speaks it on our side.
    pub backend: Backend,
    /// What the far end presented.
    pub chain: Chain,
    /// Who took it.
    pub judge: Weak<Judge>,
}

impl Secured {
    /// The session with the far end it was verified to lead to.
    pub fn of(tls: &TlsContext, session: &Session, peer: &VerifiedPeer) -> Self {
        let judge = Arc::downgrade(&tls.judge());
        Self { agreed: session.agreed(), backend: session.backend(), chain: Chain::from(peer.chain()), judge }
    }
}

/// One open flow.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Both ends.
    pub facts: FlowFacts,
    /// Who opened it.
    pub opened: Opened,
    /// What it is secured by; plain flows are not.
    pub tls: Option<Secured>,
}

/// The table.
#[derive(Default)]
pub struct Flows {
    by_key: DashMap<FlowKey, Standing>,
    chains: DashSet<Chain>,
}

impl Flows {
    /// A flow can be used.
    pub fn enter(&self, mut standing: Standing) {
        if let Some(tls) = &mut standing.tls {
            tls.chain = self.shared(&tls.chain);
        }
        self.by_key.insert(standing.facts.key, standing);
    }

    /// A flow is gone.
    pub fn leave(&self, key: FlowKey) {
        if let Some(Secured { chain, .. }) = self.by_key.remove(&key).and_then(|(_, standing)| standing.tls) {
            // The table's own and this one.
            self.chains.remove_if(&chain, |known| Arc::strong_count(known) <= 2);
        }
    }

    /// Whether it can still be written to.
    pub fn is_open(&self, key: FlowKey) -> bool {
        self.by_key.contains_key(&key)
    }

    /// All of them, in no order. A copy, so that nobody who opens or closes one waits for whoever looks; when it is gone,
    /// [`Flows::sweep`].
    pub fn all(&self) -> Vec<Standing> {
        self.by_key.iter().map(|entry| entry.value().clone()).collect()
    }

    /// Forgets the chains of connections that ended while somebody held a copy.
    pub fn sweep(&self) {
        self.chains.retain(|chain| Arc::strong_count(chain) > 1);
    }

    fn shared(&self, chain: &Chain) -> Chain {
        loop {
            if let Some(known) = self.chains.get(chain) {
                return known.key().clone();
            }
            self.chains.insert(chain.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use b2bua::engine::PeerIdentity;
    use sip::Transport;

    use super::*;

    fn standing(key: u64, certificate: u8) -> Standing {
        let facts = FlowFacts {
            key: FlowKey(key),
            transport: Transport::Tls,
            local: "127.0.0.20:5061".parse().unwrap(),
            remote: "127.0.0.10:40000".parse().unwrap(),
            peer: PeerIdentity::Verified { names: vec![String::from("pool.contoso.test")] },
            made_for: None,
        };
        let agreed = Agreed { version: 0x0304, suite: 0x1301 };
        let chain = Chain::from(vec![CertificateDer::from(vec![certificate])]);
        Standing {
            facts,
            opened: Opened::ByPeer,
            tls: Some(Secured { agreed, backend: Backend::Rustls, chain, judge: Weak::new() }),
        }
    }

    #[test]
    fn connections_with_one_certificate_share_it_and_the_last_takes_it_along() {
        let flows = Flows::default();
        for key in 0..10 {
            flows.enter(standing(key, u8::from(key >= 8)));
        }
        assert_eq!(flows.chains.len(), 2);
        let mut chains: Vec<Chain> =
            flows.all().into_iter().map(|standing| standing.tls.unwrap().chain).collect();
        chains.sort_by_key(|chain| Arc::as_ptr(chain).addr());
        chains.dedup_by(|one, other| Arc::ptr_eq(one, other));
        assert_eq!(chains.len(), 2, "one copy each");
        drop(chains);
        for key in 0..10 {
            assert!(flows.is_open(FlowKey(key)));
            flows.leave(FlowKey(key));
            flows.leave(FlowKey(key));
        }
        assert!(flows.chains.is_empty() && !flows.is_open(FlowKey(0)));
        flows.enter(standing(1, 1));
        let copy = flows.all();
        flows.leave(FlowKey(1));
        drop(copy);
        flows.sweep();
        assert!(flows.chains.is_empty());
    }
}
