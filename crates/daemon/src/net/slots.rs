//! The flows of one shard: a table of connections and datagram flows, their keys, who has something to write and who
//! must be looked at when. Owns the table and the poller's registrations; refuses to know the engine.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::time::Instant;

use bytes::Bytes;
use mio::{Interest, Registry, Token};
use sip::FlowKey;

use super::connection::{Connection, Due, SendFault};
use super::udp::{Datagram, UdpPort};
use super::{Arrived, NetLimits};

/// Signalling threads at most.
pub const SHARDS_MAX: usize = 64;
/// Where the shard stands in a flow's key, and where the slot does: `| sequence 32 | shard 8 | slot 24 |`.
const SHARD_SHIFT: u32 = 24;
const SEQUENCE_SHIFT: u32 = 32;
/// The highest bit of a key is the engine's own.
const SEQUENCE_MAX: u32 = u32::MAX >> 1;
const SLOT_MASK: u64 = (1 << SHARD_SHIFT) - 1;

/// The shard that owns a flow.
pub fn shard_of_flow(key: FlowKey) -> u16 {
    u16::from(key.0.to_le_bytes()[3])
}

/// One flow.
pub enum Place {
    /// A connection.
    Stream(Box<Connection>),
    /// A UDP socket with one remote address.
    Datagram(Datagram),
}

struct Slot {
    key: FlowKey,
    place: Place,
    /// Stands in the list of those that want to write.
    is_dirty: bool,
    /// The deadline in the heap that counts.
    armed: Option<Instant>,
}

/// The table.
pub struct Slots {
    shard: u16,
    registry: Registry,
    slots: Vec<Option<Slot>>,
    vacant: Vec<usize>,
    sequence: u32,
    dirty: Vec<FlowKey>,
    deadlines: BinaryHeap<Reverse<(Instant, FlowKey)>>,
    open: usize,
}

impl Slots {
    /// An empty table; its connections are registered under their slot's number.
    pub fn new(shard: u16, registry: Registry) -> Self {
        Self {
            shard,
            registry,
            slots: Vec::new(),
            vacant: Vec::new(),
            sequence: 0,
            dirty: Vec::new(),
            deadlines: BinaryHeap::new(),
            open: 0,
        }
    }

    /// Takes a connection in.
    pub fn adopt(&mut self, now: Instant, arrived: Arrived, limits: &NetLimits) -> io::Result<FlowKey> {
        let connection = Box::new(Connection::new(now, arrived, limits));
        let key = self.enter(Place::Stream(connection));
        let token = Token(slot_of(key));
        let registry = &self.registry;
        let Some(Slot { place: Place::Stream(connection), .. }) =
            self.slots.get_mut(slot_of(key)).and_then(Option::as_mut)
        else {
            return Ok(key);
        };
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = registry.register(connection.source(), token, interest) {
            self.remove(key);
            return Err(error);
        }
        self.arm(key, limits);
        Ok(key)
    }

    /// Takes a datagram flow in.
    pub fn enter_datagram(&mut self, datagram: Datagram) -> FlowKey {
        self.enter(Place::Datagram(datagram))
    }

    fn enter(&mut self, place: Place) -> FlowKey {
        let at = self.vacant.pop().unwrap_or(self.slots.len());
        self.sequence = self.sequence.wrapping_add(1) & SEQUENCE_MAX;
        let key = FlowKey(
            u64::from(self.sequence) << SEQUENCE_SHIFT | u64::from(self.shard) << SHARD_SHIFT | at as u64,
        );
        let slot = Some(Slot { key, place, is_dirty: false, armed: None });
        match self.slots.get_mut(at) {
            Some(vacant) => *vacant = slot,
            None => self.slots.push(slot),
        }
        self.open += 1;
        key
    }

    /// The flow whose events carry this token.
    pub fn key_of(&self, token: Token) -> Option<FlowKey> {
        self.slots.get(token.0)?.as_ref().map(|slot| slot.key)
    }

    /// That connection.
    pub fn connection(&mut self, key: FlowKey) -> Option<&mut Connection> {
        match &mut self.slot(key)?.place {
            Place::Stream(connection) => Some(connection),
            Place::Datagram(_) => None,
        }
    }

    /// That datagram flow.
    pub fn datagram(&mut self, key: FlowKey) -> Option<&mut Datagram> {
        match &mut self.slot(key)?.place {
            Place::Datagram(datagram) => Some(datagram),
            Place::Stream(_) => None,
        }
    }

    fn slot(&mut self, key: FlowKey) -> Option<&mut Slot> {
        self.slots.get_mut(slot_of(key))?.as_mut().filter(|slot| slot.key == key)
    }

    /// Forgets a flow; a connection closes with that.
    pub fn remove(&mut self, key: FlowKey) -> Option<Place> {
        self.slot(key)?;
        let slot = self.slots.get_mut(slot_of(key))?.take()?;
        self.vacant.push(slot_of(key));
        self.open -= 1;
        Some(slot.place)
    }

    /// Hands bytes to a flow; a connection's leave at the end of the turn, a datagram at once.
    pub fn send(&mut self, key: FlowKey, bytes: &Bytes, ports: &[UdpPort]) -> Result<(), SendFault> {
        let Some(slot) = self.slot(key) else { return Err(SendFault::Gone) };
        match &mut slot.place {
            Place::Stream(connection) => connection.send(bytes)?,
            Place::Datagram(datagram) => return datagram.send(bytes, ports),
        }
        self.touch(key);
        Ok(())
    }

    /// This connection may have something to write.
    pub fn touch(&mut self, key: FlowKey) {
        if let Some(slot) = self.slot(key).filter(|slot| !slot.is_dirty) {
            slot.is_dirty = true;
            self.dirty.push(key);
        }
    }

    /// Those that may have something to write, each once.
    pub fn take_dirty(&mut self, into: &mut Vec<FlowKey>) {
        std::mem::swap(&mut self.dirty, into);
        self.dirty.clear();
        for key in into.iter() {
            if let Some(slot) = self.slot(*key) {
                slot.is_dirty = false;
            }
        }
    }

    /// Makes sure that the connection is looked at when its deadline comes. A deadline that moved away is found out
    /// when it comes; only one that moved nearer needs another entry.
    pub fn arm(&mut self, key: FlowKey, limits: &NetLimits) {
        let Some(Slot { place: Place::Stream(connection), armed, .. }) = self.slot(key) else { return };
        let at = connection.deadline(limits);
        if armed.is_none_or(|armed| at < armed) {
            *armed = Some(at);
            self.deadlines.push(Reverse((at, key)));
        }
    }

    /// When [`Slots::pop_due`] has something.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.peek().map(|Reverse((at, _))| *at)
    }

    /// The next connection whose deadline has come, and what that means.
    pub fn pop_due(&mut self, now: Instant, limits: &NetLimits) -> Option<(FlowKey, Due)> {
        let Reverse((at, key)) = *self.deadlines.peek()?;
        if at > now {
            return None;
        }
        self.deadlines.pop();
        let Some(Slot { place: Place::Stream(connection), armed, .. }) = self.slot(key) else {
            return Some((key, Due::Nothing));
        };
        if *armed != Some(at) {
            return Some((key, Due::Nothing));
        }
        *armed = None;
        let due = connection.on_deadline(now, limits);
        self.arm(key, limits);
        Some((key, due))
    }

    /// Open flows.
    pub fn len(&self) -> usize {
        self.open
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Every connection's key.
    pub fn connections(&self) -> Vec<FlowKey> {
        let slots = self.slots.iter().flatten();
        slots.filter(|slot| matches!(slot.place, Place::Stream(_))).map(|slot| slot.key).collect()
    }
}

fn slot_of(key: FlowKey) -> usize {
    // 24 bits fit everywhere.
    usize::try_from(key.0 & SLOT_MASK).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram() -> Datagram {
        Datagram::to(0, "127.0.0.1:5060".parse().unwrap(), Instant::now())
    }

    #[test]
    fn a_key_names_its_shard_and_never_leads_to_a_later_flow_in_the_same_slot() {
        let poll = mio::Poll::new().unwrap();
        let mut slots = Slots::new(5, poll.registry().try_clone().unwrap());
        let (one, two) = (slots.enter_datagram(datagram()), slots.enter_datagram(datagram()));
        assert_eq!((shard_of_flow(one), shard_of_flow(two)), (5, 5));
        assert!(slots.remove(one).is_some() && slots.remove(one).is_none());
        let three = slots.enter_datagram(datagram());
        assert_eq!(slot_of(three), slot_of(one));
        assert!(slots.datagram(one).is_none() && slots.datagram(three).is_some());
        assert_eq!(slots.send(one, &Bytes::from_static(b"x"), &[]), Err(SendFault::Gone));
        assert_eq!(slots.len(), 2);
        // A younger flow has a larger key, whatever its slot: the engine prefers the oldest.
        assert!(three > two);
    }
}
