//! What DNS says about the peers, judged: found or not, back again, two gateways on one address, search domains. Pure;
//! the questions are asked elsewhere.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use b2bua::codes;
use b2bua::engine::{ResolveFailure, ResolveFailureKind};
use sip::Transport;
use sip::locate::Srv;

use super::finding::{Finding, Group, Mark};
use super::peers::{Kind, KnownBy, Peer};
use crate::net::Offered;

const GROUP: Group = Group::Names;

/// A name that was looked up.
#[derive(Clone, Debug)]
pub struct Located {
    /// The name.
    pub name: String,
    /// Whose it is.
    pub whose: Whose,
    /// Over what it is to be reached: SRV records are of one transport.
    pub transport: Transport,
    /// Its SRV records, where they may choose host and port.
    pub services: Vec<Offered>,
    /// Where it leads; `None` when its time was up.
    pub result: Option<Result<Vec<SocketAddr>, ResolveFailure>>,
    /// The name with a search domain appended that has an address, where the name itself has none.
    pub with_search_domain: Option<String>,
    /// Names that its addresses lead back to, by address.
    pub back: Vec<(IpAddr, Vec<String>)>,
}

/// Whose name it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Whose {
    /// A UM server's.
    Server,
    /// A UM IP gateway's or pool's.
    Gateway,
    /// A pool member's.
    Member,
    /// Of a member whose pool has configured addresses: no call needs it.
    SpareMember,
}

impl Located {
    /// Nothing is known yet.
    pub fn nothing(whose: Whose, name: &str, transport: Transport) -> Self {
        let (services, back) = (Vec::new(), Vec::new());
        Self {
            name: name.to_owned(),
            whose,
            transport,
            services,
            result: None,
            with_search_domain: None,
            back,
        }
    }
}

/// Everything about names.
pub fn findings(peers: &[Peer], located: &[Located]) -> Vec<Finding> {
    let mut found: Vec<Finding> = located.iter().map(forward).collect();
    found.extend(located.iter().flat_map(services));
    found.extend(located.iter().filter_map(search_domain));
    found.extend(reverse(located));
    found.extend(configured(peers));
    found.extend(shared(peers, located));
    found
}

fn forward(located: &Located) -> Finding {
    let name = &located.name;
    let (code, mark) = match located.whose {
        Whose::Server => (codes::SERVER_UNRESOLVED, Mark::Fail),
        Whose::Gateway => (codes::DNS_NO_ADDRESS, Mark::Fail),
        Whose::Member => (codes::DNS_NO_ADDRESS, Mark::Warn),
        Whose::SpareMember => (codes::DNS_NO_ADDRESS, Mark::Skip),
    };
    match &located.result {
        None => Finding::skip(GROUP, code, format!("{name}: not looked up, the time was up")),
        Some(Ok(targets)) => {
            // The port may be one that SRV records name.
            let places: Vec<String> = targets.iter().map(ToString::to_string).collect();
            Finding::ok(GROUP, code, format!("{name} is {}", places.join(", ")))
        }
        Some(Err(failure)) if failure.kind == ResolveFailureKind::Silent => {
            Finding::new(GROUP, mark, codes::DNS_SILENT, &failure.detail)
        }
        Some(Err(failure)) => Finding::new(GROUP, mark, code, &failure.detail),
    }
}

/// Each of several SRV records, with the addresses of its target; of a single one the targets say everything.
fn services(located: &Located) -> Vec<Finding> {
    let Located { name, transport, services, .. } = located;
    let of = |(srv, addresses): &Offered| {
        let Srv { priority, weight, port, target } = srv;
        let record =
            format!("{name} SRV for {transport}: {target} port {port}, priority {priority}, weight {weight}");
        match addresses {
            Ok(addresses) => {
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                Finding::ok(GROUP, codes::DNS_NO_ADDRESS, format!("{record}: {}", addresses.join(", ")))
            }
            Err(why) => {
                let is_silent = why.kind == ResolveFailureKind::Silent;
                let code = if is_silent { codes::DNS_SILENT } else { codes::DNS_NO_ADDRESS };
                Finding::warn(GROUP, code, format!("{record}: {}", why.detail))
            }
        }
    };
    match services.len() {
        0 | 1 => Vec::new(),
        _ => services.iter().map(of).collect(),
    }
}

fn search_domain(located: &Located) -> Option<Finding> {
    let longer = located.with_search_domain.as_ref()?;
    let what = format!("{} has no address, but {longer} has", located.name);
    Some(Finding::warn(GROUP, codes::DNS_SEARCH_DOMAIN, what))
}

/// Addresses without a PTR record are no surprise.
fn reverse(located: &[Located]) -> Vec<Finding> {
    let mut checked = 0;
    let mut found = Vec::new();
    for Located { name, back, .. } in located {
        for (address, names) in back.iter().filter(|(_, names)| !names.is_empty()) {
            checked += 1;
            if !names.iter().any(|own| own.eq_ignore_ascii_case(name)) {
                let what = format!("{address} of {name} leads back to {}", names.join(", "));
                found.push(Finding::warn(GROUP, codes::DNS_REVERSE, what));
            }
        }
    }
    match (checked, found.is_empty()) {
        (0, _) => {
            let why = "no looked-up address has a PTR record: nothing to compare";
            vec![Finding::skip(GROUP, codes::DNS_REVERSE, why)]
        }
        (_, true) => {
            let what = format!("{checked} addresses lead back to the names they came from");
            vec![Finding::ok(GROUP, codes::DNS_REVERSE, what)]
        }
        _ => found,
    }
}

fn configured(peers: &[Peer]) -> Option<Finding> {
    let count = peers.iter().filter(|p| p.known_by == KnownBy::Name && !p.addresses.is_empty()).count();
    let what = format!("{count} peers have an `address`: DNS is not asked for them");
    (count > 0).then(|| Finding::skip(GROUP, codes::DNS_NO_ADDRESS, what))
}

/// Configured and looked-up addresses alike.
fn shared(peers: &[Peer], located: &[Located]) -> Vec<Finding> {
    let mut by_address: BTreeMap<IpAddr, Vec<&str>> = BTreeMap::new();
    // The addresses of Front Ends are those of their pool.
    for peer in peers.iter().filter(|peer| matches!(peer.kind, Kind::Pool | Kind::Gateway)) {
        let looked_up = located.iter().filter(|l| l.name.eq_ignore_ascii_case(&peer.name));
        let looked_up =
            looked_up.filter_map(|l| l.result.as_ref()?.as_ref().ok()).flatten().map(SocketAddr::ip);
        for address in peer.addresses.iter().copied().chain(looked_up) {
            let names = by_address.entry(address).or_default();
            if !names.contains(&peer.name.as_str()) {
                names.push(&peer.name);
            }
        }
    }
    let is_shared = |names: &Vec<&str>| names.len() > 1;
    let words = |(address, names): (&IpAddr, &Vec<&str>)| {
        Finding::warn(GROUP, codes::DNS_SHARED_ADDRESS, format!("{} are all {address}", names.join(", ")))
    };
    let found: Vec<Finding> = by_address.iter().filter(|(_, names)| is_shared(names)).map(words).collect();
    match (found.is_empty(), by_address.is_empty()) {
        (true, true) => {
            let why = "no UM IP gateway has an address that could be compared";
            vec![Finding::skip(GROUP, codes::DNS_SHARED_ADDRESS, why)]
        }
        (true, false) => {
            vec![Finding::ok(
                GROUP,
                codes::DNS_SHARED_ADDRESS,
                "every UM IP gateway has addresses of its own",
            )]
        }
        _ => found,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{peers, testing};
    use super::*;

    fn located(name: &str, whose: Whose, result: Result<&str, ResolveFailureKind>) -> Located {
        let result = result.map(|ip| vec![SocketAddr::new(ip.parse().unwrap(), 5061)]);
        let detail = format!("{name} has no address");
        Located {
            result: Some(result.map_err(|kind| ResolveFailure { kind, detail })),
            ..Located::nothing(whose, name, Transport::Tls)
        }
    }

    fn marks(found: &[Finding], code: &str) -> Vec<Mark> {
        found.iter().filter(|f| f.code.as_str() == code).map(|f| f.mark).collect()
    }

    #[test]
    fn a_name_without_address_fails_and_a_member_s_is_a_warning() {
        let none = ResolveFailureKind::NoAddress;
        let found = findings(
            &[],
            &[
                located("cas01.contoso.test", Whose::Server, Ok("10.0.0.1")),
                located("cas02.contoso.test", Whose::Server, Err(none)),
                located("pool01.contoso.test", Whose::Gateway, Err(none)),
                located("fe01.contoso.test", Whose::Member, Err(none)),
                located("mbx01.contoso.test", Whose::Server, Err(ResolveFailureKind::Silent)),
            ],
        );
        assert_eq!(marks(&found, "UMB-SRV006"), [Mark::Ok, Mark::Fail]);
        assert!(found.iter().any(|f| f.what == "cas01.contoso.test is 10.0.0.1:5061"), "{found:#?}");
        assert_eq!(marks(&found, "UMB-DNS001"), [Mark::Fail, Mark::Warn]);
        assert_eq!(marks(&found, "UMB-SRV010"), [Mark::Fail]);
        let spare = located("fe02.contoso.test", Whose::SpareMember, Err(none));
        assert_eq!(marks(&findings(&[], &[spare]), "UMB-DNS001"), [Mark::Skip]);
        let late = Located { result: None, ..located("x.test", Whose::Server, Err(none)) };
        assert_eq!(marks(&findings(&[], &[late]), "UMB-SRV006"), [Mark::Skip]);
    }

    #[test]
    fn several_srv_records_are_told_one_by_one_and_a_single_one_is_not() {
        let record = |target: &str, weight, addresses| {
            (Srv { priority: 10, weight, port: 5061, target: target.to_owned() }, addresses)
        };
        let gone =
            ResolveFailure { kind: ResolveFailureKind::NoAddress, detail: "fe02 has no address".into() };
        let fe01 = record("fe01.contoso.test", 60, Ok(vec!["10.0.0.1".parse().unwrap()]));
        let mut pool = located("pool01.contoso.test", Whose::Gateway, Ok("10.0.0.1"));
        pool.services = vec![fe01.clone()];
        assert_eq!(services(&pool), []);
        pool.services = vec![fe01, record("fe02.contoso.test", 40, Err(gone))];
        let told: Vec<_> = services(&pool).into_iter().map(|f| (f.mark, f.what)).collect();
        let line = |target: &str, weight, rest: &str| {
            format!(
                "pool01.contoso.test SRV for TLS: {target} port 5061, priority 10, weight {weight}: {rest}"
            )
        };
        let expected = [
            (Mark::Ok, line("fe01.contoso.test", 60, "10.0.0.1")),
            (Mark::Warn, line("fe02.contoso.test", 40, "fe02 has no address")),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_name_that_only_a_search_domain_completes_is_told() {
        let mut short = located("cas01.contoso", Whose::Server, Err(ResolveFailureKind::NoAddress));
        assert!(marks(&findings(&[], std::slice::from_ref(&short)), "UMB-DNS004").is_empty());
        short.with_search_domain = Some("cas01.contoso.test".into());
        assert_eq!(marks(&findings(&[], &[short]), "UMB-DNS004"), [Mark::Warn]);
    }

    #[test]
    fn an_address_that_leads_back_elsewhere_is_a_surprise() {
        let mut cas = located("cas01.contoso.test", Whose::Server, Ok("10.0.0.1"));
        assert_eq!(marks(&findings(&[], std::slice::from_ref(&cas)), "UMB-DNS002"), [Mark::Skip]);
        cas.back = vec![("10.0.0.1".parse().unwrap(), vec!["CAS01.contoso.test".into()])];
        assert_eq!(marks(&findings(&[], std::slice::from_ref(&cas)), "UMB-DNS002"), [Mark::Ok]);
        cas.back[0].1 = vec!["printer\u{7}.contoso.test".into()];
        let found = findings(&[], &[cas]);
        assert_eq!(marks(&found, "UMB-DNS002"), [Mark::Warn]);
        assert!(found.iter().all(|f| !f.what.contains('\u{7}')), "{found:#?}");
    }

    #[test]
    fn two_gateways_on_one_address_are_told_configured_or_looked_up() {
        let apart = peers::of(&testing::compiled("").policy);
        assert_eq!(marks(&findings(&apart, &[]), "UMB-DNS003"), [Mark::Ok]);
        let together = testing::edited(|text| text.replace("127.0.0.40", "127.0.0.10"));
        let together = peers::of(&together.policy);
        assert_eq!(marks(&findings(&together, &[]), "UMB-DNS003"), [Mark::Warn]);
        let looked_up = located("pool01.contoso.test", Whose::Gateway, Ok("127.0.0.40"));
        assert_eq!(marks(&findings(&apart, &[looked_up]), "UMB-DNS003"), [Mark::Warn]);
        assert_eq!(marks(&findings(&[], &[]), "UMB-DNS003"), [Mark::Skip]);
    }
}
