//! One TLS server examined: what it shows, what we think of it, what it thinks of us, each problem with its code. Shared
//! by `verify` and `rehearse`.

use std::net::SocketAddr;
use std::time::SystemTime;

use b2bua::codes;
use b2bua::quirks::Quirk;
use serde::Serialize;

use super::card;
use super::finding::{self, Finding};
use crate::cli::screen::{Style, Tone, escaped};
use crate::config;
use crate::tls::facts::{CertificateFacts, FactsError};
use crate::tls::probe::{Objection, Probe, Request, Sighting};
use crate::tls::{Judge, PeerRejection};

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 3;

/// What came of one examination; the keys are documented and stable.
#[derive(Debug, Serialize)]
pub(super) struct Examined {
    /// As asked for.
    pub(super) target: String,
    /// Where it was reached.
    address: Option<SocketAddr>,
    /// The name it had to prove.
    name: String,
    /// Who spoke TLS on our side.
    backend: &'static str,
    protocol: Option<&'static str>,
    suite: Option<String>,
    /// `null` when the handshake did not come that far, or was not spoken by rustls.
    asks_for_certificate: Option<bool>,
    authorities: Vec<String>,
    /// Subject of what we presented.
    presented: Option<String>,
    certificates: Vec<serde_json::Value>,
    /// We would take them.
    we_accept: bool,
    tolerated: Vec<&'static str>,
    /// They take us.
    pub(super) they_accept: bool,
    pub(super) findings: Vec<Finding>,
    #[serde(skip)]
    leaf: Option<CertificateFacts>,
}

/// Who looks, with what, and by whose rules.
pub(super) struct Examiner<'a> {
    pub(super) probe: Probe,
    /// Who speaks.
    pub(super) backend: &'static str,
    pub(super) judge: &'a Judge,
    /// Subject of the certificate that the probe presents.
    pub(super) presented: Option<String>,
    pub(super) now: SystemTime,
}

/// Tries the addresses in turn until one can be reached.
pub(super) async fn look(
    probe: &Probe,
    addresses: &[SocketAddr],
    name: &str,
) -> (Option<SocketAddr>, Sighting) {
    let mut last = None;
    for address in addresses.iter().take(ADDRESSES_MAX) {
        let seen = probe.look(*address, name).await;
        if !matches!(seen.reaction, Err(Objection::Unreachable(_))) {
            return (Some(*address), seen);
        }
        last = Some(seen);
    }
    (None, last.unwrap_or_else(|| Sighting::unreachable("the name has no address")))
}

impl Examiner<'_> {
    /// Examines one server.
    pub(super) async fn examine(
        &self,
        target: String,
        addresses: Result<Vec<SocketAddr>, String>,
        name: &str,
    ) -> Examined {
        let (address, seen) = match addresses {
            Ok(addresses) => look(&self.probe.clone().toward(self.judge, name), &addresses, name).await,
            Err(why) => (None, Sighting::unreachable(&why)),
        };
        let facts = seen.facts(self.now);
        let mut findings = Vec::new();
        let ours = seen.judge(self.judge, name, self.now);
        match &ours {
            Err(rejection) if !seen.chain.is_empty() => findings.push(refusal(rejection)),
            _ => {}
        }
        let leaf = facts.first().and_then(|leaf| leaf.as_ref().ok()).cloned();
        findings.extend(leaf.iter().flat_map(|leaf| remarks(leaf, &findings)).collect::<Vec<_>>());
        if let Err(objection) = &seen.reaction {
            findings.push(finding::error(objection.code(), objection.to_string()));
        }
        let (asks, authorities) = match &seen.request {
            Request::Unknown => (None, Vec::new()),
            Request::NotAsked => (Some(false), Vec::new()),
            Request::Asked { authorities } => (Some(true), authorities.clone()),
        };
        if asks == Some(false) {
            findings.push(finding::warning(codes::NOT_ASKED, "it does not ask for our certificate"));
        }
        Examined {
            target,
            address,
            name: name.to_owned(),
            backend: self.backend,
            protocol: seen.version,
            suite: seen.suite.clone(),
            asks_for_certificate: asks,
            authorities,
            presented: self.presented.clone(),
            certificates: facts.iter().map(fact_value).collect(),
            we_accept: ours.is_ok(),
            tolerated: ours.iter().flat_map(|tolerated| tolerated.iter()).map(Quirk::name).collect(),
            they_accept: seen.reaction.is_ok(),
            findings,
            leaf,
        }
    }
}

fn refusal(rejection: &PeerRejection) -> Finding {
    finding::error(rejection.code(), format!("we would refuse it: {rejection}"))
}

/// What is odd about the leaf without being refused already; PSS is Lync's trouble, not ours.
fn remarks(leaf: &CertificateFacts, said: &[Finding]) -> Vec<Finding> {
    let is_new = |remark: &config::Remark| {
        remark.code != codes::PSS_SIGNATURE && said.iter().all(|finding| finding.code != remark.code)
    };
    config::condition(leaf).into_iter().filter(is_new).map(finding::of_remark).collect()
}

/// Facts as JSON, or why there are none.
pub(super) fn fact_value(facts: &Result<CertificateFacts, FactsError>) -> serde_json::Value {
    match facts {
        Ok(facts) => serde_json::to_value(facts).unwrap_or_default(),
        Err(error) => serde_json::json!({ "error": error.to_string() }),
    }
}

impl Examined {
    /// It was there to be asked.
    pub(super) fn is_reached(&self) -> bool {
        self.address.is_some()
    }

    /// Nothing stands in the way of a connection.
    pub(super) fn is_fine(&self) -> bool {
        !self.findings.iter().any(finding::is_error)
    }

    /// For people.
    pub(super) fn text(&self, style: Style) -> String {
        let address = self.address.map(|address| address.to_string()).filter(|text| *text != self.target);
        let address = address.map_or_else(String::new, |address| format!("  ({address})"));
        let mut out = style.paint(Tone::Strong, &format!("{}{address}", escaped(&self.target)));
        out.push('\n');
        let mut row = |name: &str, words: &str| out.push_str(&format!("  {name:<11} {}\n", escaped(words)));
        if let Some(protocol) = self.protocol {
            row(
                "protocol",
                &format!("{protocol}  {}  {}", self.suite.as_deref().unwrap_or_default(), self.backend),
            );
        }
        if let Some(leaf) = &self.leaf {
            row("presents", &format!("{}  {}", leaf.subject, card::life(leaf, Style::Plain)));
            row("issued by", &leaf.issuer);
        }
        if let Some(asks) = self.asks_for_certificate {
            row("asks", &self.asks_text(asks));
            row("we present", self.presented.as_deref().unwrap_or("nothing"));
        }
        let ok = style.paint(Tone::Good, "ok  ");
        if self.we_accept {
            let tolerated = match self.tolerated.is_empty() {
                true => String::new(),
                false => format!(", tolerating {} (umbra quirks)", self.tolerated.join(", ")),
            };
            out.push_str(&format!("  {ok}  we take it for {}{tolerated}\n", escaped(&self.name)));
        }
        if self.they_accept {
            let words = match self.presented {
                Some(_) if self.asks_for_certificate == Some(true) => "it takes our certificate",
                _ => "it has nothing against the connection",
            };
            out.push_str(&format!("  {ok}  {words}\n"));
        }
        out.push_str(&finding::list(&self.findings, style));
        out
    }

    fn asks_text(&self, asks: bool) -> String {
        match (asks, self.authorities.as_slice()) {
            (false, _) => "for no certificate".to_owned(),
            (true, []) => "for a certificate of any authority".to_owned(),
            (true, named) => format!("for a certificate of {}", named.join(" or ")),
        }
    }
}
