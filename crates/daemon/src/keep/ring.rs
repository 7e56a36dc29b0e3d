//! The packets of the last while, by Call-ID, in bounded memory. Owns what is forgotten first: the oldest, whosesoever it is.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::pcap::Packet;

/// What a packet costs beside its payload.
const PACKET_COST: usize = 160;

/// The ring.
pub(super) struct Ring {
    bytes_max: usize,
    bytes: usize,
    packets: usize,
    calls: HashMap<Arc<[u8]>, VecDeque<Packet>>,
    /// Whose the packets are, oldest first; entries of calls that were taken out stay behind for a while.
    order: VecDeque<Arc<[u8]>>,
}

impl Ring {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, bytes: 0, packets: 0, calls: HashMap::new(), order: VecDeque::new() }
    }

    pub(super) fn push(&mut self, call_id: &[u8], packet: Packet) {
        let cost = packet.payload.len() + PACKET_COST;
        if cost > self.bytes_max {
            return;
        }
        while self.bytes + cost > self.bytes_max && self.forget_oldest() {}
        let key =
            self.calls.get_key_value(call_id).map_or_else(|| Arc::from(call_id), |(key, _)| key.clone());
        self.calls.entry(key.clone()).or_default().push_back(packet);
        self.order.push_back(key);
        self.bytes += cost;
        self.packets += 1;
        if self.order.len() > 2 * self.packets + 1_024 {
            self.tidy();
        }
    }

    /// One entry for each packet that is there, the newest ones.
    fn tidy(&mut self) {
        let mut left: HashMap<&[u8], usize> =
            self.calls.iter().map(|(key, all)| (&**key, all.len())).collect();
        let mut order = VecDeque::with_capacity(self.packets);
        for key in self.order.iter().rev() {
            if let Some(left) = left.get_mut(&**key).filter(|left| **left > 0) {
                *left -= 1;
                order.push_front(key.clone());
            }
        }
        self.order = order;
    }

    /// Everything of these, in order of time.
    pub(super) fn take<'a>(&mut self, call_ids: impl Iterator<Item = &'a [u8]>) -> Vec<Packet> {
        let mut all = Vec::new();
        for call_id in call_ids {
            all.extend(self.calls.remove(call_id).unwrap_or_default());
        }
        self.packets -= all.len();
        self.bytes -= all.iter().map(|packet| packet.payload.len() + PACKET_COST).sum::<usize>();
        all.sort_by_key(|packet| packet.at);
        all
    }

    /// `false` if there is nothing to forget.
    fn forget_oldest(&mut self) -> bool {
        let Some(key) = self.order.pop_front() else { return false };
        let Some(packets) = self.calls.get_mut(&key) else { return true };
        if let Some(packet) = packets.pop_front() {
            self.bytes -= packet.payload.len() + PACKET_COST;
            self.packets -= 1;
        }
        if packets.is_empty() {
            self.calls.remove(&key);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::pcap::Carrier;
    use super::*;

    fn packet(at: u64) -> Packet {
        let address = "192.0.2.1:1".parse().unwrap();
        let (at, payload) = (Duration::from_millis(at), Box::from([0; 840]));
        Packet { at, carrier: Carrier::Udp, from: address, to: address, payload }
    }

    fn times(packets: &[Packet]) -> Vec<u128> {
        packets.iter().map(|packet| packet.at.as_millis()).collect()
    }

    #[test]
    fn the_oldest_is_forgotten_first_and_memory_stays_within_its_bound() {
        let mut ring = Ring::new(10_000);
        for at in 0..100 {
            ring.push(if at % 3 == 0 { b"a" } else { b"b" }, packet(at));
            assert!(ring.bytes <= 10_000 && ring.order.len() <= 2 * ring.packets + 1_024);
        }
        assert_eq!(times(&ring.take([&b"a"[..]].into_iter())), [90, 93, 96, 99]);
        assert_eq!(times(&ring.take([&b"b"[..]].into_iter())), [91, 92, 94, 95, 97, 98]);
        assert_eq!((ring.bytes, ring.packets, ring.calls.len()), (0, 0, 0));
    }

    #[test]
    fn both_legs_come_in_order_of_time_and_calls_that_are_gone_leave_nothing_behind() {
        let mut ring = Ring::new(1 << 20);
        for round in 0..10_000 {
            ring.push(b"one", packet(2));
            ring.push(b"two", packet(1));
            let taken = ring.take([&b"one"[..], b"two", b"none"].into_iter());
            assert_eq!(times(&taken), [1, 2], "{round}");
        }
        assert!(ring.order.len() <= 1_026, "{}", ring.order.len());
        let mut small = Ring::new(100);
        small.push(b"x", packet(1));
        assert_eq!(small.packets, 0);
    }
}
