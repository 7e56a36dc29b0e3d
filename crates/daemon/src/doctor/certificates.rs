//! Certificates: ours, those of the peers, and the OAuth ones that were named. Judged from facts; refuses to know how
//! they were fetched.

use std::path::Path;
use std::time::{Duration, SystemTime};

use b2bua::codes::{self, Code};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::finding::{Finding, Group};
use super::handshakes::{Presented, Visit};
use super::peers::Peer;
use crate::tls::facts::{CertificateFacts, FactsError, Lifetime};
use crate::tls::read_certificates;

const GROUP: Group = Group::Certificates;
/// A peer's certificate that ends sooner is worth a look.
const RENEW_BEFORE_DAYS: i64 = 30;
/// A life that began less than this ago, or ends within a day, hangs on clocks.
const FRESH: Duration = Duration::from_secs(3_600);
/// Certificates of an OAuth file that are read.
const OAUTH_CHAIN_MAX: usize = 16;

/// A certificate of ours: what it is called, and its chain, leaf first.
pub type Own = (String, Vec<Result<CertificateFacts, FactsError>>);

/// Our own certificates; their other rules, the chains too, are those of `umbra check`.
pub fn own(all: &[Own]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (whose, chain) in all {
        match chain.first() {
            None => found.push(Finding::fail(GROUP, codes::FILE_UNUSABLE, format!("{whose} cannot be read"))),
            Some(Err(error)) => {
                found.push(Finding::fail(GROUP, codes::FILE_UNUSABLE, format!("{whose}: {error}")));
            }
            Some(Ok(facts)) => {
                let name = facts.common_name().unwrap_or("(none)");
                let what = format!("{whose}: the subject {name} is an FQDN, not a wildcard");
                found.push(Finding::ok(GROUP, codes::SUBJECT_NOT_FQDN, what));
                let what = format!("{whose}: {}", virtues(facts));
                found.push(Finding::ok(GROUP, codes::WRONG_PURPOSE, what));
            }
        }
    }
    if all.is_empty() {
        let why = "there is no [tls] section, so there is no certificate";
        found.push(Finding::skip(GROUP, codes::SUBJECT_NOT_FQDN, why));
    }
    found
}

/// What each peer presents: would the gateway take it, and for how long?
pub fn of_peers(peers: &[Peer], visits: &[Visit]) -> Vec<Finding> {
    let of = |visit: &Visit| {
        let peer = peers.get(visit.peer)?;
        let place = format!("{} {}", peer.name, visit.target);
        let Some(presented) = &visit.presented else {
            let objection = visit.looks.iter().find_map(|look| look.objection.as_ref());
            let why = objection.map_or_else(|| "the time was up".to_owned(), ToString::to_string);
            let what = format!("{place}: no certificate seen: {why}");
            return Some(vec![Finding::skip(GROUP, codes::NAME_MISMATCH, what)]);
        };
        let found = of_peer(&place, presented).into_iter();
        Some(found.map(|finding| finding.on(peer.kind.side())).collect::<Vec<_>>())
    };
    visits.iter().filter_map(of).flatten().collect()
}

fn of_peer(place: &str, Presented { facts, verdict, .. }: &Presented) -> Vec<Finding> {
    let facts = match facts {
        Ok(facts) => facts,
        Err(error) => {
            return vec![Finding::fail(GROUP, codes::CLIENT_CERTIFICATE_BAD, format!("{place}: {error}"))];
        }
    };
    let name = facts.common_name().unwrap_or("(no common name)");
    let first = match verdict {
        Ok(tolerated) if tolerated.is_empty() => {
            Finding::ok(GROUP, codes::NAME_MISMATCH, format!("{place} presents CN={name}, trusted"))
        }
        Ok(tolerated) => {
            let names: Vec<&str> = tolerated.iter().map(|quirk| quirk.name()).collect();
            let what = format!("{place} presents CN={name}, trusted (tolerated: {})", names.join(", "));
            Finding::ok(GROUP, codes::NAME_MISMATCH, what)
        }
        Err(why) => Finding::fail(GROUP, why.code(), format!("{place} presents CN={name}: {why}")),
    };
    let mut found = vec![first];
    let told = found[0].code;
    let mut flaws = flaws(facts, verdict.is_ok());
    flaws.retain(|(code, _, _)| verdict.is_ok() || *code != told);
    if flaws.is_empty() {
        found.push(Finding::ok(GROUP, codes::WEAK_KEY, format!("{place}: {}", virtues(facts))));
    }
    found.extend(flaws.into_iter().map(|(code, mark, words)| {
        let what = format!("{place}: {words}");
        match mark {
            Gravity::Fatal => Finding::fail(GROUP, code, what),
            Gravity::Odd => Finding::warn(GROUP, code, what),
        }
    }));
    found
}

/// How bad a flaw is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Gravity {
    Odd,
    Fatal,
}

/// What Lync or Exchange hold against a certificate, beyond what the gateway's own verdict says: it refuses weak ones
/// itself, unless they were excepted.
fn flaws(facts: &CertificateFacts, is_taken: bool) -> Vec<(Code, Gravity, String)> {
    let mut flaws = Vec::new();
    if facts.key.is_weak && is_taken {
        let bits = facts.key.bits.map_or_else(String::new, |bits| format!(" with {bits} bits"));
        flaws.push((codes::WEAK_KEY, Gravity::Odd, format!("{}{bits}", facts.key.algorithm)));
    }
    if facts.signature.is_weak && is_taken {
        flaws.push((
            codes::WEAK_SIGNATURE,
            Gravity::Odd,
            format!("signed with {}", facts.signature.algorithm),
        ));
    }
    if !facts.is_for_servers() {
        flaws.push((codes::WRONG_PURPOSE, Gravity::Fatal, "serverAuth is missing".to_owned()));
    }
    if facts.signature.is_pss {
        flaws.push((codes::PSS_SIGNATURE, Gravity::Odd, "the signature is RSASSA-PSS".to_owned()));
    }
    if !facts.has_crl_point {
        flaws.push((codes::NO_CRL_POINT, Gravity::Odd, "the certificate names no CRL".to_owned()));
    }
    if facts.life == Lifetime::Current && facts.days_left < RENEW_BEFORE_DAYS {
        let words = format!("ends in {} days, at {}", facts.days_left, facts.not_after);
        flaws.push((codes::PEER_EXPIRES_SOON, Gravity::Odd, words));
    }
    flaws
}

fn virtues(facts: &CertificateFacts) -> String {
    let bits = facts.key.bits.map_or_else(String::new, |bits| format!(" {bits}"));
    let key = match facts.key.algorithm.contains(' ') {
        true => facts.key.algorithm.clone(),
        false => format!("{}{bits}", facts.key.algorithm),
    };
    let purpose = match &facts.purposes {
        Some(purposes) => purposes.join(" and "),
        None => "any purpose".to_owned(),
    };
    format!("{purpose}, {key}, ends in {} days", facts.days_left)
}

/// The rules for server-to-server certificates, for the files that were named.
pub fn oauth(files: &[impl AsRef<Path>], sip_domain: &str, now: SystemTime) -> Vec<Finding> {
    let code = codes::LYNC_OAUTH_CERTIFICATE;
    if files.is_empty() {
        let why =
            "`oauth_certificates` in [lync] is not set: the rules for OAuth certificates were not checked";
        return vec![Finding::skip(GROUP, code, why)];
    }
    let mut found = Vec::new();
    let mut prints: Vec<(String, String)> = Vec::new();
    for file in files.iter().map(AsRef::as_ref) {
        let shown = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned();
        let read = read_certificates(file, OAUTH_CHAIN_MAX).map_err(|error| error.to_string());
        let leaf = read.and_then(|chain| chain.into_iter().next().ok_or_else(|| "no certificate".to_owned()));
        let facts =
            leaf.and_then(|leaf| CertificateFacts::read(&leaf, now).map_err(|error| error.to_string()));
        match facts {
            Err(why) => found.push(Finding::skip(GROUP, code, format!("OAuth {shown}: {why}"))),
            Ok(facts) => {
                found.push(oauth_rules(&shown, &facts, sip_domain));
                prints.push((facts.sha256, shown));
            }
        }
    }
    found.push(oauth_same(&prints));
    found
}

fn oauth_rules(shown: &str, facts: &CertificateFacts, sip_domain: &str) -> Finding {
    let mut broken = Vec::new();
    if !facts.common_names.iter().any(|name| name.eq_ignore_ascii_case(sip_domain)) {
        broken.push(format!("the subject {} is not the SIP domain {sip_domain}", facts.subject));
    }
    if facts.key.is_weak {
        broken.push("fewer than 2048 bits".to_owned());
    }
    if facts.life != Lifetime::Current {
        broken.push(format!("valid from {} to {}", facts.not_before, facts.not_after));
    }
    match broken.is_empty() {
        true => {
            let what = format!("OAuth {shown}: SIP domain {sip_domain} in the subject, {}", virtues(facts));
            Finding::ok(GROUP, codes::LYNC_OAUTH_CERTIFICATE, what)
        }
        false => {
            let what = format!("OAuth {shown}: {}", broken.join("; "));
            Finding::fail(GROUP, codes::LYNC_OAUTH_CERTIFICATE, what)
        }
    }
}

fn oauth_same(prints: &[(String, String)]) -> Finding {
    let code = codes::LYNC_OAUTH_DIFFERENT;
    let Some(((first, name), rest)) = prints.split_first().filter(|(_, rest)| !rest.is_empty()) else {
        let why = "fewer than two OAuth certificates could be read: nothing to compare";
        return Finding::skip(GROUP, code, why);
    };
    let others: Vec<&str> = rest.iter().filter(|(p, _)| p != first).map(|(_, name)| name.as_str()).collect();
    match others.is_empty() {
        true => Finding::ok(GROUP, code, format!("{} OAuth certificates are one and the same", prints.len())),
        false => Finding::fail(GROUP, code, format!("OAuth {} is another than {name}", others.join(", "))),
    }
}

/// Certificates whose use hangs on exact clocks.
pub fn edges(named: &[(String, &CertificateFacts)], now: SystemTime) -> Vec<Finding> {
    let (group, code) = (Group::Clock, codes::CLOCK_EDGE);
    let moment = |text: &str| OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from);
    let mut found = Vec::new();
    for (name, facts) in named.iter().filter(|(_, facts)| facts.life == Lifetime::Current) {
        let age = moment(&facts.not_before).and_then(|begin| now.duration_since(begin).ok());
        if age.is_some_and(|age| age < FRESH) {
            found.push(Finding::warn(
                group,
                code,
                format!("{name} is valid since {} only", facts.not_before),
            ));
        }
        if facts.days_left < 1 {
            found.push(Finding::warn(group, code, format!("{name} ends at {}", facts.not_after)));
        }
    }
    match (found.is_empty(), named.len()) {
        (true, 0) => {
            vec![Finding::skip(group, code, "no certificate was seen: the ends of their lives are unknown")]
        }
        (true, count) => {
            vec![Finding::ok(
                group,
                code,
                format!("{count} certificates are far from the ends of their lives"),
            )]
        }
        _ => found,
    }
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
