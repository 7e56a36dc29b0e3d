//! Locating SIP servers (RFC 3263): which SRV name is asked for, and in which order what was found is tried. Owns the
//! choice; refuses to know resolvers, sockets and clocks. Random numbers are handed in.

use std::net::IpAddr;

use crate::Transport;

/// SRV records of one answer that are looked at.
pub const SRV_MAX: usize = 32;

/// One SRV record (RFC 2782).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Srv {
    /// Lower is tried first.
    pub priority: u16,
    /// Share among records of one priority.
    pub weight: u16,
    /// Port of the service.
    pub port: u16,
    /// Host that offers it, without the final dot; empty when the service is decidedly not offered.
    pub target: String,
}

/// The name whose SRV records tell where a domain takes SIP over a transport (RFC 3263 §4.1).
#[must_use]
pub fn srv_name(domain: &str, transport: Transport) -> String {
    let service = match transport {
        Transport::Tls => "_sips._tcp",
        Transport::Tcp => "_sip._tcp",
        Transport::Udp => "_sip._udp",
    };
    format!("{service}.{domain}")
}

/// The name whose SRV records tell where a domain takes what federated partners send, over mutual TLS. Not of RFC 3263: it is
/// how Lync's Access Edge finds partners.
#[must_use]
pub fn federation_srv_name(domain: &str) -> String {
    format!("_sipfederationtls._tcp.{domain}")
}

/// Whether the domain says that it does not offer the service: one record whose target is the root (RFC 2782).
#[must_use]
pub fn is_refused(records: &[Srv]) -> bool {
    matches!(records, [only] if only.target.is_empty())
}

/// Records in the order they are tried: by priority, and within one priority drawn by weight (RFC 2782). `draw(n)`
/// gives a number from 0 to n, both included.
#[must_use]
pub fn order(mut records: Vec<Srv>, mut draw: impl FnMut(u32) -> u32) -> Vec<Srv> {
    records.retain(|record| !record.target.is_empty());
    records.truncate(SRV_MAX);
    // Weight 0 stands first within its priority, so that it has a small chance as well.
    records.sort_by_key(|record| (record.priority, record.weight != 0));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|record| record.priority) {
        let peers = records.iter().take_while(|record| record.priority == priority);
        let weights: Vec<u32> = peers.map(|record| u32::from(record.weight)).collect();
        let drawn = draw(weights.iter().sum());
        let mut sum = 0;
        let chosen = weights.iter().position(|weight| {
            sum += weight;
            sum >= drawn
        });
        ordered.push(records.remove(chosen.unwrap_or(0)));
    }
    ordered
}

/// Addresses of both families in turn, IPv4 first: a host without a way to one of them loses one attempt, not all.
#[must_use]
pub fn interleave(v4: Vec<IpAddr>, v6: Vec<IpAddr>) -> Vec<IpAddr> {
    let (mut v4, mut v6) = (v4.into_iter(), v6.into_iter());
    let mut mixed = Vec::with_capacity(v4.len() + v6.len());
    loop {
        let pair = [v4.next(), v6.next()];
        if pair == [None, None] {
            return mixed;
        }
        for address in pair.into_iter().flatten() {
            if !mixed.contains(&address) {
                mixed.push(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn srv(priority: u16, weight: u16, target: &str) -> Srv {
        Srv { priority, weight, port: 5061, target: target.to_owned() }
    }

    fn targets(records: &[Srv]) -> Vec<&str> {
        records.iter().map(|record| record.target.as_str()).collect()
    }

    #[test]
    fn the_service_name_follows_the_transport() {
        assert_eq!(srv_name("c.test", Transport::Tls), "_sips._tcp.c.test");
        assert_eq!(srv_name("c.test", Transport::Tcp), "_sip._tcp.c.test");
        assert_eq!(srv_name("c.test", Transport::Udp), "_sip._udp.c.test");
    }

    #[test]
    fn the_lowest_priority_number_is_tried_first_whatever_is_drawn() {
        for number in [0, 1, u32::MAX] {
            let records = vec![srv(20, 100, "c"), srv(10, 0, "a"), srv(15, 1, "b")];
            assert_eq!(targets(&order(records, |_| number)), ["a", "b", "c"]);
        }
    }

    #[test]
    fn within_a_priority_the_first_whose_running_sum_reaches_the_drawn_number_comes_next() {
        let records = || vec![srv(1, 10, "ten"), srv(1, 0, "none"), srv(1, 30, "thirty")];
        // In order none 0, ten 10, thirty 40.
        for (drawn, wanted) in
            [(0, "none"), (1, "ten"), (10, "ten"), (11, "thirty"), (40, "thirty"), (41, "none")]
        {
            let mut bounds = Vec::new();
            let got = order(records(), |bound| {
                bounds.push(bound);
                drawn
            });
            assert_eq!(got[0].target, wanted, "{drawn}");
            assert_eq!((bounds[0], bounds.len(), got.len()), (40, 3, 3));
        }
    }

    #[test]
    fn weights_share_the_load_in_proportion() {
        let mut seed = 12_345_u32;
        let mut draw = |bound: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((u64::from(seed) * u64::from(bound + 1)) >> 32) as u32
        };
        let first = (0..10_000)
            .filter(|_| order(vec![srv(1, 1, "a"), srv(1, 3, "b")], &mut draw)[0].target == "b")
            .count();
        // Draws are 0 to 4, and 0 and 1 choose the first: the algorithm of the RFC favours it a little.
        assert!((5_700..6_300).contains(&first), "{first}");
    }

    #[test]
    fn a_root_target_alone_says_that_there_is_no_such_service() {
        assert!(is_refused(&[srv(0, 0, "")]));
        assert!(!is_refused(&[srv(0, 0, ""), srv(0, 0, "a")]) && !is_refused(&[]));
        assert!(order(vec![srv(0, 0, "")], |_| 0).is_empty());
    }

    #[test]
    fn no_answer_makes_the_list_longer_than_its_limit() {
        let many = (0..1_000).map(|n| srv(n, 0, "x")).collect();
        assert_eq!(order(many, |_| 0).len(), SRV_MAX);
    }

    #[test]
    fn both_address_families_take_turns() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mixed = interleave(vec![ip("10.0.0.1"), ip("10.0.0.2")], vec![ip("::1")]);
        assert_eq!(mixed, [ip("10.0.0.1"), ip("::1"), ip("10.0.0.2")]);
    }
}
