//! Which peer is at the end of which flow, for a tap that remembers peers. Owns nothing when there is no tap: a gateway
//! that is not watched pays one branch a message.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use sip::FlowKey;

use super::{Tap, Way};

/// The flows a tap watches.
#[derive(Debug, Default)]
pub struct Lines {
    tap: Option<Arc<Tap>>,
    remotes: HashMap<FlowKey, SocketAddr>,
}

impl Lines {
    /// Watches for this tap; `None` watches nothing.
    pub fn new(tap: Option<Arc<Tap>>) -> Self {
        Self { tap, remotes: HashMap::new() }
    }

    /// A flow came to be.
    pub fn up(&mut self, flow: FlowKey, remote: SocketAddr) {
        if self.tap.is_some() {
            self.remotes.insert(flow, remote);
        }
    }

    /// It is gone.
    pub fn down(&mut self, flow: FlowKey) {
        self.remotes.remove(&flow);
    }

    /// A message passed.
    pub fn passed(&self, way: Way, flow: FlowKey, bytes: &bytes::Bytes) {
        if let (Some(tap), Some(remote)) = (&self.tap, self.remotes.get(&flow)) {
            tap.record(Instant::now(), way, *remote, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_remembered_with_the_far_end_of_their_flow_until_it_is_gone() {
        let tap = Arc::new(Tap::default());
        let mut lines = Lines::new(Some(tap.clone()));
        let remote: SocketAddr = "127.0.0.30:5061".parse().unwrap();
        let bytes = bytes::Bytes::from_static(
            b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP b;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\n\
              Call-ID: c1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
        );
        lines.up(FlowKey(1), remote);
        lines.passed(Way::In, FlowKey(1), &bytes);
        lines.down(FlowKey(1));
        lines.passed(Way::In, FlowKey(1), &bytes);
        let seen = tap.of_call(&["c1"]);
        assert_eq!((seen.len(), seen[0].peer, seen[0].label.as_str()), (1, remote, "OPTIONS"));
    }
}
