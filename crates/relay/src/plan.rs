//! What was negotiated for the two legs of a call: the words in which the signalling speaks to the relay.
//!
//! Owns addresses, protection, direction and latch rules as plain values. Refuses to know packets:
//! nothing here changes while media flows.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::Not;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::digits::Events;
use crate::formats::Formats;
use crate::ice::IceCredentials;
use crate::key::KeyParams;

/// One of the two legs. `A` is the caller, `B` the callee; `!side` is the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The caller's leg.
    A,
    /// The callee's leg.
    B,
}

impl Not for Side {
    type Output = Side;

    fn not(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::A => "A",
            Side::B => "B",
        })
    }
}

/// Which of a leg's two ports a packet came in on, or leaves by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// The even port: RTP, and RTCP too when the leg multiplexes (RFC 5761).
    Rtp,
    /// The odd port: RTCP only.
    Rtcp,
}

/// What flows on a leg, seen from this gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// We send RTP to the leg and take RTP from it.
    #[default]
    SendRecv,
    /// We send RTP to the leg and take none from it.
    SendOnly,
    /// We take RTP from the leg and send it none.
    RecvOnly,
    /// No RTP either way. RTCP flows all the same.
    Inactive,
}

impl Direction {
    /// Whether RTP goes out to the leg.
    pub fn is_sending(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether RTP is taken from the leg.
    pub fn is_receiving(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
}

/// How the packets of a leg are protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protection {
    /// RTP and RTCP.
    Clear,
    /// SRTP and SRTCP; nothing else is accepted or sent.
    Sealed {
        /// Opens what the peer sends.
        inbound: KeyParams,
        /// Protects what we send: fresh for this leg, never an echo of the peer's.
        outbound: KeyParams,
    },
}

/// Why a network cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NetworkError {
    /// The prefix is longer than the address.
    #[error("prefix /{prefix} is longer than {address}")]
    PrefixTooLong {
        /// The address given.
        address: IpAddr,
        /// The prefix given.
        prefix: u8,
    },
    /// Not `address` or `address/prefix`.
    #[error("not an address with an optional prefix length")]
    Syntax,
}

/// An IP network in CIDR form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// A network of `prefix` bits around `address`.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, NetworkError> {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        if prefix > longest {
            return Err(NetworkError::PrefixTooLong { address, prefix });
        }
        Ok(Network { address, prefix })
    }

    /// Whether `candidate` is of this network; an address of the other family never is.
    pub fn contains(&self, candidate: IpAddr) -> bool {
        match (self.address, candidate) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = u32::from(own) ^ u32::from(other);
                differing.leading_zeros() >= u32::from(self.prefix)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = u128::from(own) ^ u128::from(other);
                differing.leading_zeros() >= u32::from(self.prefix)
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Syntax)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) => digits.parse().map_err(|_| NetworkError::Syntax)?,
            None => longest,
        };
        Network::new(address, prefix)
    }
}

/// From where, and how long, a leg may be learned to sit at another address than its SDP says.
///
/// A clear leg may move within `window` after its address was negotiated: to another port of the SDP
/// address, or into `networks`. A sealed leg may move at any time, by an authenticated packet only, to
/// the SDP address or into `networks`; with no networks listed, anywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LatchRule {
    /// Time after the address was negotiated in which a clear leg may move.
    pub window: Duration,
    /// Networks a peer may appear from beside its SDP address.
    pub networks: Vec<Network>,
}

impl LatchRule {
    /// Window of a clear leg unless configured otherwise.
    pub const WINDOW: Duration = Duration::from_secs(5);
}

impl Default for LatchRule {
    fn default() -> Self {
        LatchRule { window: LatchRule::WINDOW, networks: Vec::new() }
    }
}

/// One leg as negotiated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegPlan {
    /// Where the peer's SDP wants RTP.
    pub remote_rtp: SocketAddr,
    /// Where the peer's SDP wants RTCP; unused when multiplexed.
    pub remote_rtcp: SocketAddr,
    /// RTCP shares the RTP port (RFC 5761).
    pub rtcp_mux: bool,
    /// Clear or sealed.
    pub protection: Protection,
    /// What flows, seen from this gateway.
    pub direction: Direction,
    /// Where the peer may be learned to sit.
    pub latch: LatchRule,
    /// Payload types taken from this leg, and their numbers on the other one.
    pub formats: Formats,
    /// What its connectivity checks carry; without it none is answered.
    pub ice: Option<IceCredentials>,
    /// Its events stand for digits that the other leg's signalling carries.
    pub events: Option<Events>,
}

impl LegPlan {
    /// The least that can be agreed: RTP and RTCP at one address, both ways, any payload type, no checks, no digits in signalling.
    pub fn at(remote: SocketAddr, protection: Protection) -> Self {
        LegPlan {
            remote_rtp: remote,
            remote_rtcp: remote,
            rtcp_mux: false,
            protection,
            direction: Direction::SendRecv,
            latch: LatchRule::default(),
            formats: Formats::any(),
            ice: None,
            events: None,
        }
    }
}

/// Both legs of a call as negotiated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The caller's leg.
    pub a: LegPlan,
    /// The callee's leg.
    pub b: LegPlan,
    /// Silence after which the call is told; zero never tells.
    pub inactivity: Duration,
    /// RTCP of our own toward a side that gets none of the other one; `None` makes none.
    pub reports: Option<Reports>,
}

/// What reports of our own making need to know (RFC 3550 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reports {
    /// The canonical name in them: 96 random bits, nothing of a person or a host (RFC 7022 §5).
    pub name: [u8; 12],
    /// Sources and times follow from it.
    pub seed: u64,
    /// Timestamp units a second of the codec in use.
    pub clock_hz: u32,
}

impl Plan {
    /// The leg of `side`.
    pub fn leg(&self, side: Side) -> &LegPlan {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_holds_its_own_addresses_only() {
        let network: Network = "10.1.2.0/23".parse().unwrap();
        assert!(network.contains("10.1.3.255".parse().unwrap()));
        assert!(!network.contains("10.1.4.0".parse().unwrap()));
        assert!(!network.contains("::ffff:10.1.2.1".parse().unwrap()));
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("255.0.0.1".parse().unwrap()));
        assert!(!all.contains("::1".parse().unwrap()));
        let host: Network = "2001:db8::1".parse().unwrap();
        assert!(host.contains("2001:db8::1".parse().unwrap()));
        assert!(!host.contains("2001:db8::2".parse().unwrap()));
    }

    #[test]
    fn a_network_that_cannot_be_is_refused() {
        for text in ["10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "", "a/1", "1.2.3.4/-1"] {
            assert!(text.parse::<Network>().is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn the_other_side_of_the_other_side_is_the_side() {
        assert_eq!(!Side::A, Side::B);
        assert_eq!(!!Side::A, Side::A);
    }
}
