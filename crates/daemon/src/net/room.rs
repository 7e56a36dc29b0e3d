//! Room for inbound connections: so many in all, and so many from one address, so that one peer cannot take every place.
//! Owns the counts; refuses to know who a peer is beyond its address.

use std::net::IpAddr;
use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::NetLimits;

/// The counts of one gateway.
pub struct Rooms {
    all: Arc<Semaphore>,
    by_address: Arc<DashMap<IpAddr, usize>>,
    each_max: usize,
}

/// The place of one connection; dropping it gives the place back.
pub struct Room {
    _all: OwnedSemaphorePermit,
    by_address: Arc<DashMap<IpAddr, usize>>,
    address: IpAddr,
}

/// Why there is no place.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Full {
    /// All are taken.
    All,
    /// Those of this address are.
    Address,
}

impl Full {
    /// What counts it.
    pub fn counter(self) -> &'static str {
        match self {
            Self::All => "too_many_connections",
            Self::Address => "too_many_connections_of_one_address",
        }
    }
}

impl Rooms {
    /// Empty, with these limits.
    pub fn new(limits: &NetLimits) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits.connections_max)),
            by_address: Arc::default(),
            each_max: limits.connections_of_address_max,
        }
    }

    /// A place for a connection from there.
    ///
    /// # Errors
    /// Which limit is reached.
    pub fn enter(&self, address: IpAddr) -> Result<Room, Full> {
        let all = self.all.clone().try_acquire_owned().map_err(|_| Full::All)?;
        let address = address.to_canonical();
        let mut held = self.by_address.entry(address).or_default();
        if *held >= self.each_max {
            return Err(Full::Address);
        }
        *held += 1;
        drop(held);
        Ok(Room { _all: all, by_address: self.by_address.clone(), address })
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(mut held) = self.by_address.get_mut(&self.address) {
            *held = held.saturating_sub(1);
        }
        self.by_address.remove_if(&self.address, |_, held| *held == 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_every_place_and_a_place_that_is_left_is_free() {
        let limits = NetLimits { connections_max: 3, connections_of_address_max: 2, ..NetLimits::default() };
        let rooms = Rooms::new(&limits);
        let [one, two] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse::<IpAddr>().unwrap());
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let held = [rooms.enter(one).unwrap(), rooms.enter(mapped).unwrap()];
        assert_eq!(rooms.enter(one).err(), Some(Full::Address));
        let other = rooms.enter(two).unwrap();
        assert_eq!(rooms.enter(two).err(), Some(Full::All));
        drop(held);
        drop(other);
        assert!(rooms.by_address.is_empty(), "nothing is kept of those that left");
        assert!(rooms.enter(one).is_ok());
    }
}
