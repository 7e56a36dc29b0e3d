//! Where a leg's peer sits: its SDP address until a packet that may move it arrives.
//!
//! Owns the destination of one channel and the rules for changing it. Refuses to know whether a packet
//! is authentic: the caller says so by which question it asks.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::ice::Nomination;
use crate::plan::LatchRule;

/// Least time between two moves of an authenticated peer.
pub const MOVE_INTERVAL: Duration = Duration::from_secs(3);
/// Addresses of one channel that connectivity checks proved, kept at once; a new one takes the place of the oldest.
pub const PROVEN_MAX: usize = 4;

/// Destination and rule of one channel of one leg.
pub(crate) struct Latch {
    negotiated: SocketAddr,
    current: SocketAddr,
    state: State,
    /// From where its owner has shown to hold the password of the leg, oldest first.
    proven: [Option<SocketAddr>; PROVEN_MAX],
}

#[derive(Clone, Copy)]
enum State {
    /// Only the SDP has spoken; a clear peer may still move until then.
    Waiting { until: Instant },
    /// The peer has been heard.
    Settled { moved: Option<Instant> },
}

/// What a source address means to a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// It is where we send to.
    Known,
    /// The peer has moved from here.
    Moved { from: SocketAddr },
    /// Acceptable, yet not followed now.
    Elsewhere,
    /// Not acceptable.
    Stranger,
}

impl Latch {
    pub(crate) fn new(negotiated: SocketAddr, rule: &LatchRule, now: Instant) -> Self {
        let state = State::Waiting { until: now + rule.window };
        Latch { negotiated, current: negotiated, state, proven: [None; PROVEN_MAX] }
    }

    /// Where to send; `None` while the SDP gives nowhere.
    pub(crate) fn destination(&self) -> Option<SocketAddr> {
        let is_nowhere = self.current.port() == 0 || self.current.ip().is_unspecified();
        (!is_nowhere).then_some(self.current)
    }

    /// Follows a new negotiation; a peer whose SDP still says the same stays where it was found.
    pub(crate) fn renegotiate(&mut self, negotiated: SocketAddr, rule: &LatchRule, now: Instant) {
        if negotiated != self.negotiated {
            *self = Latch::new(negotiated, rule, now);
        }
    }

    /// Judges the source of a clear packet: one move at most, within the window only, or an address that a check proved.
    pub(crate) fn on_clear(&mut self, now: Instant, from: SocketAddr, rule: &LatchRule) -> Source {
        match self.state {
            _ if from == self.current => {
                self.settle();
                Source::Known
            }
            _ if self.proven.contains(&Some(from)) => self.on_authentic(now, from, rule),
            State::Waiting { until } if now < until && self.is_allowed(from.ip(), rule) => {
                self.follow(now, from)
            }
            _ => Source::Stranger,
        }
    }

    /// Judges the source of an authenticated packet: it may move the peer every few seconds.
    pub(crate) fn on_authentic(&mut self, now: Instant, from: SocketAddr, rule: &LatchRule) -> Source {
        if from == self.current {
            self.settle();
            return Source::Known;
        }
        if !rule.networks.is_empty() && !self.is_allowed(from.ip(), rule) {
            return Source::Stranger;
        }
        match self.state {
            State::Settled { moved: Some(at) } if now.saturating_duration_since(at) < MOVE_INTERVAL => {
                Source::Elsewhere
            }
            _ => self.follow(now, from),
        }
    }

    /// Judges the source of a connectivity check with the right integrity. It may send from there; nominated, it is followed
    /// like any authenticated peer (RFC 8445 §7.3.1.5).
    pub(crate) fn on_check(
        &mut self,
        now: Instant,
        from: SocketAddr,
        nomination: Nomination,
        rule: &LatchRule,
    ) -> Source {
        if !rule.networks.is_empty() && !self.is_allowed(from.ip(), rule) {
            return Source::Stranger;
        }
        if !self.proven.contains(&Some(from)) {
            self.proven.rotate_left(1);
            if let Some(place) = self.proven.last_mut() {
                *place = Some(from);
            }
        }
        match nomination {
            Nomination::Nominated => self.on_authentic(now, from, rule),
            Nomination::Asked if from == self.current => Source::Known,
            Nomination::Asked => Source::Elsewhere,
        }
    }

    /// What was proved was proved with another password.
    pub(crate) fn forget_proven(&mut self) {
        self.proven = [None; PROVEN_MAX];
    }

    fn is_allowed(&self, address: IpAddr, rule: &LatchRule) -> bool {
        address == self.negotiated.ip() || rule.networks.iter().any(|network| network.contains(address))
    }

    fn settle(&mut self) {
        if matches!(self.state, State::Waiting { .. }) {
            self.state = State::Settled { moved: None };
        }
    }

    fn follow(&mut self, now: Instant, to: SocketAddr) -> Source {
        let from = std::mem::replace(&mut self.current, to);
        self.state = State::Settled { moved: Some(now) };
        Source::Moved { from }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::start;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_clear_peer_moves_once_and_within_its_window_only() {
        let (now, rule) = (start(), LatchRule::default());
        let mut latch = Latch::new(at("10.0.0.1:4000"), &rule, now);
        assert_eq!(latch.on_clear(now, at("10.0.0.2:4000"), &rule), Source::Stranger);
        let late = now + rule.window;
        assert_eq!(latch.on_clear(late, at("10.0.0.1:4002"), &rule), Source::Stranger);
        let moved = latch.on_clear(late - Duration::from_millis(1), at("10.0.0.1:4002"), &rule);
        assert_eq!(moved, Source::Moved { from: at("10.0.0.1:4000") });
        assert_eq!(latch.on_clear(now, at("10.0.0.1:4004"), &rule), Source::Stranger);
        assert_eq!(latch.destination(), Some(at("10.0.0.1:4002")));
    }

    #[test]
    fn a_clear_peer_heard_at_its_sdp_address_stays_there() {
        let (now, rule) = (start(), LatchRule::default());
        let mut latch = Latch::new(at("10.0.0.1:4000"), &rule, now);
        assert_eq!(latch.on_clear(now, at("10.0.0.1:4000"), &rule), Source::Known);
        assert_eq!(latch.on_clear(now, at("10.0.0.1:4002"), &rule), Source::Stranger);
    }

    #[test]
    fn a_clear_peer_may_come_from_a_configured_network() {
        let now = start();
        let rule = LatchRule { networks: vec!["192.0.2.0/24".parse().unwrap()], ..LatchRule::default() };
        let mut latch = Latch::new(at("10.0.0.1:4000"), &rule, now);
        assert!(matches!(latch.on_clear(now, at("192.0.2.9:7"), &rule), Source::Moved { .. }));
    }

    #[test]
    fn an_authenticated_peer_moves_at_any_time_but_not_too_often() {
        let (now, rule) = (start(), LatchRule::default());
        let mut latch = Latch::new(at("10.0.0.1:4000"), &rule, now);
        assert_eq!(latch.on_authentic(now, at("10.0.0.1:4000"), &rule), Source::Known);
        let later = now + Duration::from_secs(600);
        assert!(matches!(latch.on_authentic(later, at("10.9.9.9:1"), &rule), Source::Moved { .. }));
        assert_eq!(latch.on_authentic(later, at("10.0.0.1:4000"), &rule), Source::Elsewhere);
        let again = latch.on_authentic(later + MOVE_INTERVAL, at("10.0.0.1:4000"), &rule);
        assert_eq!(again, Source::Moved { from: at("10.9.9.9:1") });
    }

    #[test]
    fn an_authenticated_peer_outside_the_listed_networks_is_a_stranger() {
        let now = start();
        let rule = LatchRule { networks: vec!["192.0.2.0/24".parse().unwrap()], ..LatchRule::default() };
        let mut latch = Latch::new(at("10.0.0.1:4000"), &rule, now);
        assert_eq!(latch.on_authentic(now, at("10.9.9.9:1"), &rule), Source::Stranger);
        assert!(matches!(latch.on_authentic(now, at("192.0.2.7:1"), &rule), Source::Moved { .. }));
    }

    #[test]
    fn a_check_lets_a_clear_peer_in_and_a_nomination_moves_it_every_few_seconds() {
        let (now, rule) = (start(), LatchRule::default());
        let mut latch = Latch::new(at("10.0.0.1:4000"), &rule, now);
        latch.on_clear(now, at("10.0.0.1:4000"), &rule);
        let later = now + Duration::from_secs(600);
        assert_eq!(latch.on_clear(later, at("10.9.9.9:1"), &rule), Source::Stranger);
        assert_eq!(latch.on_check(later, at("10.9.9.9:1"), Nomination::Asked, &rule), Source::Elsewhere);
        assert_eq!(latch.destination(), Some(at("10.0.0.1:4000")), "asking alone moves nobody");
        let nominated = latch.on_check(later, at("10.9.9.9:1"), Nomination::Nominated, &rule);
        assert_eq!(nominated, Source::Moved { from: at("10.0.0.1:4000") });
        let second = latch.on_check(later, at("10.9.9.9:2"), Nomination::Nominated, &rule);
        assert_eq!((second, latch.destination()), (Source::Elsewhere, Some(at("10.9.9.9:1"))));
        assert_eq!(latch.on_clear(later, at("10.9.9.9:2"), &rule), Source::Elsewhere, "its media is heard");
        let again = latch.on_clear(later + MOVE_INTERVAL, at("10.9.9.9:2"), &rule);
        assert_eq!(again, Source::Moved { from: at("10.9.9.9:1") });
        latch.forget_proven();
        assert_eq!(latch.on_clear(later, at("10.9.9.9:1"), &rule), Source::Stranger);
    }

    #[test]
    fn proven_addresses_are_few_and_inside_the_listed_networks() {
        let now = start();
        let rule = LatchRule { networks: vec!["192.0.2.0/24".parse().unwrap()], ..LatchRule::default() };
        let mut latch = Latch::new(at("192.0.2.1:4000"), &rule, now);
        latch.on_clear(now, at("192.0.2.1:4000"), &rule);
        let outside = latch.on_check(now, at("10.9.9.9:1"), Nomination::Nominated, &rule);
        assert_eq!(outside, Source::Stranger);
        let places: Vec<SocketAddr> =
            (1..=PROVEN_MAX as u16 + 1).map(|port| ([192, 0, 2, 9], port).into()).collect();
        for place in &places {
            latch.on_check(now, *place, Nomination::Asked, &rule);
        }
        assert_eq!(latch.on_clear(now, places[0], &rule), Source::Stranger, "the oldest has made room");
        assert!(matches!(latch.on_clear(now, places[1], &rule), Source::Moved { .. }));
    }

    #[test]
    fn a_held_address_is_nowhere() {
        let (now, rule) = (start(), LatchRule::default());
        assert_eq!(Latch::new(at("0.0.0.0:4000"), &rule, now).destination(), None);
        assert_eq!(Latch::new(at("10.0.0.1:0"), &rule, now).destination(), None);
    }

    #[test]
    fn a_renegotiation_of_the_same_address_keeps_the_peer_where_it_is() {
        let (now, rule) = (start(), LatchRule::default());
        let mut latch = Latch::new(at("10.0.0.1:4000"), &rule, now);
        latch.on_authentic(now, at("10.0.0.1:4002"), &rule);
        latch.renegotiate(at("10.0.0.1:4000"), &rule, now);
        assert_eq!(latch.destination(), Some(at("10.0.0.1:4002")));
        latch.renegotiate(at("10.0.0.1:5000"), &rule, now);
        assert_eq!(latch.destination(), Some(at("10.0.0.1:5000")));
    }
}
