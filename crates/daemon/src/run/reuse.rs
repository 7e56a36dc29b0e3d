//! Which outgoing connections exist and who waits for one. Owns reuse by (address, port, transport, name): a
//! connection verified for one name is never handed to a wish for another. Refuses to dial.

use std::collections::HashMap;

use b2bua::engine::ConnectKey;
use sip::FlowKey;

use crate::net::{Endpoint, FlowFacts};

/// Wishes that may wait for one connection.
const WAITING_MAX: usize = 4_096;

enum Slot {
    Dialing(Vec<ConnectKey>),
    Up(FlowFacts),
}

/// What to do about a wish.
#[derive(Debug)]
pub(super) enum Wish {
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
pub(super) struct Outgoing {
    slots: HashMap<Endpoint, Slot>,
    by_flow: HashMap<FlowKey, Endpoint>,
}

impl Outgoing {
    /// Finds or begins a connection. `is_open` says whether a flow can still be written to.
    pub(super) fn wish(
        &mut self,
        connect: ConnectKey,
        endpoint: &Endpoint,
        is_open: impl Fn(FlowKey) -> bool,
    ) -> Wish {
        match self.slots.get_mut(endpoint) {
            Some(Slot::Up(facts)) if is_open(facts.key) => Wish::Reuse(facts.clone()),
            Some(Slot::Dialing(waiting)) if waiting.len() >= WAITING_MAX => Wish::Refuse,
            Some(Slot::Dialing(waiting)) => {
                waiting.push(connect);
                Wish::Wait
            }
            Some(Slot::Up(_)) | None => {
                self.slots.insert(endpoint.clone(), Slot::Dialing(vec![connect]));
                Wish::Dial
            }
        }
    }

    /// A connection came to be: who waited for it.
    pub(super) fn connected(&mut self, endpoint: Endpoint, facts: FlowFacts) -> Vec<ConnectKey> {
        self.by_flow.insert(facts.key, endpoint.clone());
        match self.slots.insert(endpoint, Slot::Up(facts)) {
            Some(Slot::Dialing(waiting)) => waiting,
            Some(Slot::Up(_)) | None => Vec::new(),
        }
    }

    /// It did not: who waited for it.
    pub(super) fn failed(&mut self, endpoint: &Endpoint) -> Vec<ConnectKey> {
        match self.slots.remove(endpoint) {
            Some(Slot::Dialing(waiting)) => waiting,
            Some(Slot::Up(_)) | None => Vec::new(),
        }
    }

    /// A flow is gone, whichever side opened it.
    pub(super) fn down(&mut self, flow: FlowKey) {
        let Some(endpoint) = self.by_flow.remove(&flow) else { return };
        // A newer connection to the same endpoint may have taken the slot already.
        if matches!(self.slots.get(&endpoint), Some(Slot::Up(facts)) if facts.key == flow) {
            self.slots.remove(&endpoint);
        }
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
        }
    }

    #[test]
    fn wishes_for_one_endpoint_share_one_connection() {
        let mut table = Outgoing::default();
        let cas = endpoint("cas01.contoso.test");
        assert!(matches!(table.wish(ConnectKey(1), &cas, |_| true), Wish::Dial));
        assert!(matches!(table.wish(ConnectKey(2), &cas, |_| true), Wish::Wait));
        assert_eq!(table.connected(cas.clone(), facts(7)), [ConnectKey(1), ConnectKey(2)]);
        match table.wish(ConnectKey(3), &cas, |_| true) {
            Wish::Reuse(facts) => assert_eq!(facts.key, FlowKey(7)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn another_name_at_the_same_address_is_another_connection() {
        let mut table = Outgoing::default();
        table.connected(endpoint("cas01.contoso.test"), facts(7));
        let other = endpoint("cas02.contoso.test");
        assert!(matches!(table.wish(ConnectKey(1), &other, |_| true), Wish::Dial));
    }

    #[test]
    fn a_failed_or_lost_connection_is_dialled_anew() {
        let mut table = Outgoing::default();
        let cas = endpoint("cas01.contoso.test");
        table.wish(ConnectKey(1), &cas, |_| true);
        assert_eq!(table.failed(&cas), [ConnectKey(1)]);
        table.wish(ConnectKey(2), &cas, |_| true);
        table.connected(cas.clone(), facts(7));
        assert!(matches!(table.wish(ConnectKey(3), &cas, |_| false), Wish::Dial));
        table.connected(cas.clone(), facts(8));
        table.down(FlowKey(7));
        assert!(matches!(table.wish(ConnectKey(4), &cas, |_| true), Wish::Reuse(_)));
        table.down(FlowKey(8));
        assert!(matches!(table.wish(ConnectKey(5), &cas, |_| true), Wish::Dial));
    }
}
