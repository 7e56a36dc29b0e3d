//! Which outgoing connections exist and who waits for one, over all shards. Owns reuse by (address, port, transport,
//! name): a connection verified for one name is never handed to a wish for another. Refuses to dial.

use std::sync::Arc;

use b2bua::engine::ConnectKey;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use sip::FlowKey;

use super::{Endpoint, FlowFacts};
use crate::tls::Credentials;

/// Wishes that may wait for one connection.
const WAITING_MAX: usize = 4_096;

/// Which shard waits, and for which wish.
pub type Waiter = (u16, ConnectKey);

enum Slot {
    Dialing(Vec<Waiter>),
    Up(FlowFacts, Option<Arc<Credentials>>),
}

impl Slot {
    fn is(&self, flow: FlowKey) -> bool {
        matches!(self, Self::Up(facts, _) if facts.key == flow)
    }
}

/// What to do about a wish.
#[derive(Debug)]
pub enum Wish {
    /// Use this one.
    Reuse(FlowFacts),
    /// Dial; the wish waits for the outcome.
    Dial,
    /// Somebody dials already; the wish waits with the others.
    Wait,
    /// Too many wait.
    Refuse,
}

/// The table of outgoing connections.
#[derive(Default)]
pub struct Outgoing {
    slots: DashMap<Endpoint, Slot>,
    by_flow: DashMap<FlowKey, Endpoint>,
}

impl Outgoing {
    /// Finds or begins a connection. `is_open` says whether a flow can still be written to.
    pub fn wish(&self, waiter: Waiter, endpoint: &Endpoint, is_open: impl Fn(FlowKey) -> bool) -> Wish {
        match self.slots.entry(endpoint.clone()) {
            Entry::Occupied(mut slot) => match slot.get_mut() {
                Slot::Up(facts, _) if is_open(facts.key) => Wish::Reuse(facts.clone()),
                Slot::Dialing(waiting) if waiting.len() >= WAITING_MAX => Wish::Refuse,
                Slot::Dialing(waiting) => {
                    waiting.push(waiter);
                    Wish::Wait
                }
                Slot::Up(..) => {
                    slot.insert(Slot::Dialing(vec![waiter]));
                    Wish::Dial
                }
            },
            Entry::Vacant(vacant) => {
                vacant.insert(Slot::Dialing(vec![waiter]));
                Wish::Dial
            }
        }
    }

    /// A connection came to be: who waited for it.
    pub fn connected(
        &self,
        endpoint: Endpoint,
        facts: FlowFacts,
        credentials: Option<Arc<Credentials>>,
    ) -> Vec<Waiter> {
        self.by_flow.insert(facts.key, endpoint.clone());
        match self.slots.insert(endpoint, Slot::Up(facts, credentials)) {
            Some(Slot::Dialing(waiting)) => waiting,
            Some(Slot::Up(..)) | None => Vec::new(),
        }
    }

    /// It did not: who waited for it.
    pub fn failed(&self, endpoint: &Endpoint) -> Vec<Waiter> {
        match self.slots.remove(endpoint) {
            Some((_, Slot::Dialing(waiting))) => waiting,
            Some((_, Slot::Up(..))) | None => Vec::new(),
        }
    }

    /// A flow is gone, whichever side opened it.
    pub fn down(&self, flow: FlowKey) {
        let Some((_, endpoint)) = self.by_flow.remove(&flow) else { return };
        // A newer connection to the same endpoint may have taken the slot already.
        self.slots.remove_if(&endpoint, |_, slot| slot.is(flow));
    }

    /// Every connection that was made with credentials, and which.
    pub fn made_with(&self) -> Vec<(Endpoint, FlowKey, Arc<Credentials>)> {
        let made_with = |endpoint: &Endpoint, slot: &Slot| match slot {
            Slot::Up(facts, Some(credentials)) => Some((endpoint.clone(), facts.key, credentials.clone())),
            _ => None,
        };
        self.slots.iter().filter_map(|slot| made_with(slot.key(), slot.value())).collect()
    }

    /// No wish gets this connection any more; `false` if none would have.
    pub fn retire(&self, endpoint: &Endpoint, flow: FlowKey) -> bool {
        self.slots.remove_if(endpoint, |_, slot| slot.is(flow)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use b2bua::engine::PeerIdentity;
    use sip::Transport;

    use super::*;

    fn endpoint(name: &str) -> Endpoint {
        let address = "127.0.0.30:5061".parse().unwrap();
        Endpoint { address, transport: Transport::Tls, name: name.to_owned() }
    }

    fn facts(key: u64) -> FlowFacts {
        FlowFacts {
            key: FlowKey(key),
            transport: Transport::Tls,
            local: "127.0.0.20:40000".parse().unwrap(),
            remote: "127.0.0.30:5061".parse().unwrap(),
            peer: PeerIdentity::Verified { names: vec![String::from("cas01.contoso.test")] },
            made_for: None,
        }
    }

    fn waiter(key: u64) -> Waiter {
        (0, ConnectKey(key))
    }

    #[test]
    fn wishes_for_one_endpoint_share_one_connection_whichever_shard_they_come_from() {
        let table = Outgoing::default();
        let cas = endpoint("cas01.contoso.test");
        assert!(matches!(table.wish(waiter(1), &cas, |_| true), Wish::Dial));
        assert!(matches!(table.wish((3, ConnectKey(1)), &cas, |_| true), Wish::Wait));
        assert_eq!(table.connected(cas.clone(), facts(7), None), [waiter(1), (3, ConnectKey(1))]);
        match table.wish(waiter(3), &cas, |_| true) {
            Wish::Reuse(facts) => assert_eq!(facts.key, FlowKey(7)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn another_name_at_the_same_address_is_another_connection() {
        let table = Outgoing::default();
        table.connected(endpoint("cas01.contoso.test"), facts(7), None);
        let other = endpoint("cas02.contoso.test");
        assert!(matches!(table.wish(waiter(1), &other, |_| true), Wish::Dial));
    }

    #[test]
    fn a_failed_or_lost_connection_is_dialled_anew() {
        let table = Outgoing::default();
        let cas = endpoint("cas01.contoso.test");
        table.wish(waiter(1), &cas, |_| true);
        assert_eq!(table.failed(&cas), [waiter(1)]);
        table.wish(waiter(2), &cas, |_| true);
        table.connected(cas.clone(), facts(7), None);
        assert!(matches!(table.wish(waiter(3), &cas, |_| false), Wish::Dial));
        table.connected(cas.clone(), facts(8), None);
        table.down(FlowKey(7));
        assert!(matches!(table.wish(waiter(4), &cas, |_| true), Wish::Reuse(_)));
        table.down(FlowKey(8));
        assert!(matches!(table.wish(waiter(5), &cas, |_| true), Wish::Dial));
    }

    #[test]
    fn a_retired_connection_is_dialled_anew() {
        let table = Outgoing::default();
        let cas = endpoint("cas01.contoso.test");
        table.connected(cas.clone(), facts(7), None);
        assert!(table.retire(&cas, FlowKey(7)) && !table.retire(&cas, FlowKey(7)));
        assert!(matches!(table.wish(waiter(1), &cas, |_| true), Wish::Dial));
        table.connected(cas.clone(), facts(8), None);
        table.down(FlowKey(7));
        assert!(
            matches!(table.wish(waiter(2), &cas, |_| true), Wish::Reuse(facts) if facts.key == FlowKey(8))
        );
    }
}
