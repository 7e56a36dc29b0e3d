//! What OPTIONS and a knock at the worker ports say about a peer. Pure: facts in, findings out.

use std::net::SocketAddr;

use b2bua::codes::{self, Code};
use sip::Transport;

use super::ask::{Answer, Trouble};
use super::finding::{Finding, Mark};
use super::peers::{Kind, Peer, State};
use crate::tls::HandshakeFailure;

/// One OPTIONS round trip.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Index of the peer.
    pub peer: usize,
    /// Over what.
    pub transport: Transport,
    /// Where.
    pub target: SocketAddr,
    /// What came of it; `None` when its time was up.
    pub result: Option<Result<Answer, Trouble>>,
}

/// A knock at one worker port.
#[derive(Clone, Debug)]
pub struct Knocked {
    /// Index of the peer.
    pub peer: usize,
    /// Where.
    pub target: SocketAddr,
    /// What came of it; `None` when its time was up.
    pub result: Option<Result<(), Trouble>>,
}

/// The finding of one round trip.
pub fn options(peer: &Peer, asked: &Asked) -> Finding {
    let (group, side) = (peer.kind.group(), peer.kind.side());
    let word = if asked.transport == Transport::Tls { "tls" } else { "tcp" };
    let place = format!("{} {word} {}", peer.name, asked.target);
    let unreachable = if peer.kind.is_server() { codes::SERVER_CONNECT } else { codes::PEER_UNREACHABLE };
    match &asked.result {
        None => Finding::skip(group, unreachable, format!("{place}: not asked, the time was up")),
        Some(Ok(answer)) => {
            let (mark, code) = judge(peer.kind, answer.status);
            let words = match mark {
                Mark::Ok => format!("answers OPTIONS in {} ms", answer.round_trip.as_millis()),
                _ => format!("answers OPTIONS with {} {}", answer.status, answer.reason),
            };
            Finding::new(group, mark, code, format!("{place} {words}")).on(side)
        }
        Some(Err(Trouble::NoTls)) => {
            Finding::skip(group, unreachable, format!("{place}: {}", Trouble::NoTls))
        }
        Some(Err(trouble)) => {
            let (mark, code) = blame(peer.kind, trouble);
            let finding = Finding::new(group, mark, code, format!("{place}: {trouble}"));
            if peer.kind == Kind::Gateway { finding.on(side) } else { finding }
        }
    }
}

/// Why nothing was asked of a peer that has no door.
pub fn unvisited(peer: &Peer, doors: usize) -> Option<Finding> {
    let code = if peer.kind.is_server() { codes::SERVER_CONNECT } else { codes::PEER_UNREACHABLE };
    let why = match (peer.state, peer.services.is_empty()) {
        _ if doors > 0 => return None,
        (State::Disabled, _) => "it is Disabled",
        (_, true) => "no dial plan tells over which transport",
        (_, false) => "it has no address",
    };
    Some(Finding::skip(peer.kind.group(), code, format!("{} was not asked: {why}", peer.name)))
}

/// A refusal is an answer, and says that somebody is there; only 5xx says that calls would fail.
fn judge(kind: Kind, status: u16) -> (Mark, Code) {
    let reached = if kind.is_server() { codes::SERVER_CONNECT } else { codes::PEER_UNREACHABLE };
    match status {
        200..=299 => (Mark::Ok, reached),
        500..=599 if kind.is_server() => (Mark::Fail, codes::SERVER_FAILED),
        _ => (Mark::Warn, codes::OPTIONS_REFUSED),
    }
}

fn blame(kind: Kind, trouble: &Trouble) -> (Mark, Code) {
    match trouble {
        Trouble::Handshake(failure @ HandshakeFailure::Rejected(_)) => (Mark::Fail, failure.code()),
        Trouble::Handshake(failure) if !kind.is_server() => (Mark::Fail, failure.code()),
        Trouble::Handshake(_) => (Mark::Fail, codes::SERVER_TLS),
        _ if !kind.is_server() => (Mark::Warn, codes::PEER_UNREACHABLE),
        Trouble::Silent | Trouble::Broken(_) => (Mark::Fail, codes::SERVER_TIMEOUT),
        _ => (Mark::Fail, codes::SERVER_CONNECT),
    }
}

/// The worker ports of one Mailbox server at one address: some closed is worth a look (which are used depends on the
/// startup mode), all closed fails every call.
pub fn workers(peer: &Peer, knocked: &[&Knocked]) -> Option<Finding> {
    let group = peer.kind.group();
    let code = codes::WORKER_UNREACHABLE;
    let first = knocked.first()?;
    let ports = |wanted: fn(&Knocked) -> bool| {
        let ports = knocked.iter().filter(|knock| wanted(knock)).map(|knock| knock.target.port().to_string());
        ports.collect::<Vec<_>>().join(" ")
    };
    let open = ports(|knock| matches!(knock.result, Some(Ok(()))));
    let closed = ports(|knock| matches!(knock.result, Some(Err(_))));
    let unasked = ports(|knock| knock.result.is_none());
    let place = format!("{} {}", peer.name, first.target.ip());
    Some(match (open.is_empty(), closed.is_empty()) {
        (true, true) => {
            Finding::skip(group, code, format!("{place}: worker ports {unasked} not tried, the time was up"))
        }
        (false, true) => Finding::ok(group, code, format!("{place}: worker ports {open} take connections")),
        (false, false) => Finding::warn(
            group,
            code,
            format!("{place}: worker ports {closed} take no connection, {open} do"),
        ),
        (true, false) => {
            Finding::fail(group, code, format!("{place}: no worker port takes a connection ({closed})"))
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{peers, testing};
    use super::*;
    use crate::tls::PeerRejection;

    fn peer(name: &str) -> Peer {
        let all = peers::of(&testing::compiled("").policy);
        all.into_iter().find(|peer| peer.name == name).unwrap()
    }

    fn finding(name: &str, result: Option<Result<Answer, Trouble>>) -> (Mark, &'static str, String) {
        let target = "127.0.0.30:5061".parse().unwrap();
        let found = options(&peer(name), &Asked { peer: 0, transport: Transport::Tls, target, result });
        (found.mark, found.code.as_str(), found.what)
    }

    fn answer(status: u16, reason: &str) -> Option<Result<Answer, Trouble>> {
        let round_trip = Duration::from_millis(3);
        Some(Ok(Answer { status, reason: reason.into(), round_trip, date: None }))
    }

    #[test]
    fn an_answer_is_good_a_refusal_a_warning_and_5xx_of_a_server_a_failure() {
        let (mark, _, what) = finding("cas01.contoso.test", answer(200, "OK"));
        assert_eq!(
            (mark, what.as_str()),
            (Mark::Ok, "cas01.contoso.test tls 127.0.0.30:5061 answers OPTIONS in 3 ms")
        );
        let (mark, code, _) = finding("cas01.contoso.test", answer(503, "Service Unavailable"));
        assert_eq!((mark, code), (Mark::Fail, "UMB-SRV004"));
        let (mark, code, what) = finding("pool01.contoso.test", answer(403, "For\u{1b}bidden"));
        assert_eq!((mark, code), (Mark::Warn, "UMB-PEER021"));
        assert!(what.ends_with("403 For?bidden"), "{what}");
    }

    #[test]
    fn each_trouble_has_its_code_and_no_time_is_no_verdict() {
        let wildcard = PeerRejection::WildcardSubject("*.contoso.test".into());
        let cases = [
            ("cas01.contoso.test", Trouble::Connect("refused".into()), Mark::Fail, "UMB-SRV002"),
            ("cas01.contoso.test", Trouble::ConnectTimeout, Mark::Fail, "UMB-SRV002"),
            ("cas01.contoso.test", Trouble::Silent, Mark::Fail, "UMB-SRV003"),
            ("cas01.contoso.test", Trouble::Handshake(wildcard.clone().into()), Mark::Fail, "UMB-TLS004"),
            ("cas01.contoso.test", Trouble::Handshake(HandshakeFailure::Timeout), Mark::Fail, "UMB-SRV005"),
            ("pool01.contoso.test", Trouble::Connect("refused".into()), Mark::Warn, "UMB-PEER020"),
            ("pool01.contoso.test", Trouble::Handshake(wildcard.into()), Mark::Fail, "UMB-TLS004"),
            ("pool01.contoso.test", Trouble::NoTls, Mark::Skip, "UMB-PEER020"),
        ];
        for (name, trouble, mark, code) in cases {
            let found = finding(name, Some(Err(trouble.clone())));
            assert_eq!((found.0, found.1), (mark, code), "{name} {trouble:?}");
        }
        assert_eq!(finding("cas01.contoso.test", None).0, Mark::Skip);
    }

    #[test]
    fn a_peer_that_was_not_visited_says_why() {
        let mut cas = peer("cas01.contoso.test");
        assert_eq!(unvisited(&cas, 1), None);
        let why = unvisited(&cas, 0).unwrap();
        assert_eq!(
            (why.mark, why.what.as_str()),
            (Mark::Skip, "cas01.contoso.test was not asked: it has no address")
        );
        cas.state = State::Disabled;
        assert!(unvisited(&cas, 0).unwrap().what.ends_with("it is Disabled"));
    }

    #[test]
    fn worker_ports_fail_only_when_none_is_open() {
        let knock = |port: u16, result| Knocked { peer: 0, target: ([127, 0, 0, 31], port).into(), result };
        let refused = || Some(Err(Trouble::Connect("refused".into())));
        let mark = |knocked: &[Knocked]| {
            let all: Vec<&Knocked> = knocked.iter().collect();
            workers(&peer("mbx01.contoso.test"), &all).map(|finding| finding.mark)
        };
        assert_eq!(mark(&[knock(5065, Some(Ok(()))), knock(5066, Some(Ok(())))]), Some(Mark::Ok));
        assert_eq!(mark(&[knock(5065, refused()), knock(5066, Some(Ok(())))]), Some(Mark::Warn));
        assert_eq!(mark(&[knock(5065, refused()), knock(5066, refused())]), Some(Mark::Fail));
        assert_eq!(mark(&[knock(5065, None)]), Some(Mark::Skip));
        assert_eq!(mark(&[]), None);
    }
}
