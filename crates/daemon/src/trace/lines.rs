//! Which peer is at the end of which flow, for whoever is shown messages: a tap that remembers peers, and captures. Owns nothing when
//! there is neither: a gateway that is not watched pays one branch a message.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use sip::{FlowKey, Transport};

use super::{Tap, Way};
use crate::keep::Copies;
use crate::net::FlowFacts;

/// The flows that are watched.
#[derive(Debug, Default)]
pub struct Lines {
    tap: Option<Arc<Tap>>,
    copies: Option<Copies>,
    ends: HashMap<FlowKey, Ends>,
}

/// Both ends of a flow.
#[derive(Debug)]
struct Ends {
    transport: Transport,
    local: SocketAddr,
    remote: SocketAddr,
}

impl Lines {
    /// Watches for these; without any it watches nothing.
    pub fn new(tap: Option<Arc<Tap>>, copies: Option<Copies>) -> Self {
        Self { tap, copies, ends: HashMap::new() }
    }

    /// A flow came to be.
    pub fn up(&mut self, flow: &FlowFacts) {
        if self.tap.is_some() || self.copies.is_some() {
            let FlowFacts { key, transport, local, remote, .. } = *flow;
            self.ends.insert(key, Ends { transport, local, remote });
        }
    }

    /// It is gone.
    pub fn down(&mut self, flow: FlowKey) {
        self.ends.remove(&flow);
    }

    /// A message passed.
    pub fn passed(&self, way: Way, flow: FlowKey, bytes: &bytes::Bytes) {
        let Some(Ends { transport, local, remote }) = self.ends.get(&flow) else { return };
        if let Some(tap) = &self.tap {
            tap.record(Instant::now(), way, *remote, bytes);
        }
        if let Some(copies) = &self.copies {
            let (from, to) = if way == Way::In { (remote, local) } else { (local, remote) };
            copies.message(*transport, *from, *to, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_remembered_with_the_far_end_of_their_flow_until_it_is_gone() {
        let tap = Arc::new(Tap::default());
        let mut lines = Lines::new(Some(tap.clone()), None);
        let remote: SocketAddr = "127.0.0.30:5061".parse().unwrap();
        let bytes = bytes::Bytes::from_static(
            b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP b;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n\
              Call-ID: c1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
        );
        lines.up(&FlowFacts {
            key: FlowKey(1),
            transport: Transport::Tcp,
            local: "127.0.0.20:5060".parse().unwrap(),
            remote,
            peer: b2bua::engine::PeerIdentity::Address,
            made_for: None,
        });
        lines.passed(Way::In, FlowKey(1), &bytes);
        lines.down(FlowKey(1));
        lines.passed(Way::In, FlowKey(1), &bytes);
        let seen = tap.of_call(&["c1"]);
        assert_eq!((seen.len(), seen[0].peer, seen[0].label.as_str()), (1, remote, "OPTIONS"));
    }
}
