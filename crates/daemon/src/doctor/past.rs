//! The last failed handshakes of the gateway that runs: its ring at `/tls/refusals` of the admin endpoint. Owns the one question
//! and the sum of what is alike; why a handshake failed is the gateway's word.

use std::net::SocketAddr;

use b2bua::codes::{self, Code};
use b2bua::verdict::clean;

use super::finding::{Finding, Group};
use crate::observe::{REFUSALS_MAX, TlsRefusal, ask};
use crate::tls::RefusedLeaf;

const GROUP: Group = Group::Tls;
/// What the line is about when no failure gives its own.
const CODE: Code = codes::HANDSHAKE_FAILED;
/// Peers with their reasons that are shown; more are counted.
const SHOWN_MAX: usize = 10;
/// Of an RFC 3339 time: up to the seconds.
const TIME_CHARS: usize = 19;

/// What the gateway behind that endpoint says.
pub async fn findings(admin: Option<SocketAddr>) -> Vec<Finding> {
    let unknown = |why: &str| {
        let what = format!("failed handshakes of the running gateway are not known: {why}");
        vec![Finding::skip(GROUP, CODE, what)]
    };
    let Some(address) = admin else { return unknown("[admin] http is empty, there is nobody to ask") };
    match ask::<Vec<TlsRefusal>>(address, "/tls/refusals").await {
        Ok(refusals) => told(&refusals, address),
        Err(why) => unknown(&format!("{address}: {why}")),
    }
}

/// Newest first; what one peer does again and again is one line.
fn told(refusals: &[TlsRefusal], address: SocketAddr) -> Vec<Finding> {
    if refusals.is_empty() {
        return vec![Finding::ok(GROUP, CODE, "the running gateway remembers no failed handshake")];
    }
    let mut sorts: Vec<(&TlsRefusal, usize)> = Vec::new();
    for refusal in refusals.iter().rev() {
        match sorts.iter_mut().find(|(known, _)| is_alike(known, refusal)) {
            Some((_, times)) => *times += 1,
            None => sorts.push((refusal, 1)),
        }
    }
    let more = sorts.len().saturating_sub(SHOWN_MAX);
    let shown = sorts.iter().take(SHOWN_MAX).map(|(refusal, times)| failed(refusal, *times));
    let rest = format!("{more} more peers with failed handshakes: http://{address}/tls/refusals");
    shown.chain((more > 0).then(|| Finding::warn(GROUP, CODE, rest))).collect()
}

fn is_alike(one: &TlsRefusal, other: &TlsRefusal) -> bool {
    let of = |refusal: &TlsRefusal| (refusal.side, refusal.remote.ip(), refusal.code.clone());
    of(one) == of(other) && one.name == other.name && one.reason == other.reason
}

fn failed(refusal: &TlsRefusal, times: usize) -> Finding {
    let TlsRefusal { at, reason, code, detail, certificate, .. } = refusal;
    let whom = refusal.whom();
    let at = at.get(..TIME_CHARS).unwrap_or(at);
    let often =
        if times > 1 { format!(" ({times} times of the last {REFUSALS_MAX})") } else { String::new() };
    let what = format!("{at} handshake {whom} failed{often}: {reason}: {detail}");
    let code = Code::named(code).unwrap_or(CODE);
    Finding::warn(GROUP, code, what).drawn(certificate.iter().flat_map(presented).collect())
}

fn presented(leaf: &RefusedLeaf) -> [String; 4] {
    let RefusedLeaf { subject, issuer, names, more_names, not_before, not_after } = leaf;
    let more = if *more_names > 0 { format!(" and {more_names} more") } else { String::new() };
    [
        format!("certificate  {}", clean(subject)),
        format!("issued by    {}", clean(issuer)),
        format!("names        {}{more}", clean(&names.join(", "))),
        format!("valid        {} to {}", clean(not_before), clean(not_after)),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::finding::Mark;
    use super::*;
    use crate::observe::RefusedSide;

    fn refusal(remote: &str, reason: &'static str, code: Code) -> TlsRefusal {
        TlsRefusal {
            at: "2026-11-21T15:44:57.123456789Z".to_owned(),
            side: RefusedSide::Inbound,
            remote: remote.parse().unwrap(),
            name: String::new(),
            reason: reason.into(),
            code: code.as_str().into(),
            detail: "certificate has expired".to_owned(),
            certificate: Some(RefusedLeaf {
                subject: "CN=pool\u{1b}[2J".to_owned(),
                issuer: "CN=root".to_owned(),
                names: vec!["pool.example".to_owned()],
                more_names: 2,
                not_before: "2020-01-01T00:00:00Z".to_owned(),
                not_after: "2021-01-01T00:00:00Z".to_owned(),
            }),
        }
    }

    #[test]
    fn what_one_peer_does_again_and_again_is_one_line_and_the_newest_come_first() {
        let address = "127.0.0.1:9065".parse().unwrap();
        let mut ring: Vec<TlsRefusal> =
            (1..30).map(|n| refusal(&format!("192.0.2.{n}:4000"), "expired", codes::EXPIRED)).collect();
        ring.push(refusal("192.0.2.29:4001", "expired", codes::EXPIRED));
        let found = told(&ring, address);
        assert_eq!(found.len(), SHOWN_MAX + 1);
        assert!(found.iter().all(|finding| finding.mark == Mark::Warn));
        assert_eq!(found[0].code, codes::EXPIRED);
        assert_eq!(
            found[0].what,
            "2026-11-21T15:44:57 handshake of 192.0.2.29 failed (2 times of the last 64): expired: certificate has expired"
        );
        assert_eq!(found[0].picture[0], "certificate  CN=pool?[2J");
        assert_eq!(found[0].picture[2], "names        pool.example and 2 more");
        assert!(found[SHOWN_MAX].what.starts_with("19 more peers"), "{}", found[SHOWN_MAX].what);
        assert_eq!(told(&[], address)[0].mark, Mark::Ok);
    }

    #[tokio::test]
    async fn nobody_to_ask_is_said_and_nothing_is_claimed() {
        assert_eq!(findings(None).await[0].mark, Mark::Skip);
        let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let found = findings(Some(closed)).await;
        assert_eq!(found[0].mark, Mark::Skip);
        assert!(found[0].what.contains(&closed.to_string()), "{}", found[0].what);
    }
}
