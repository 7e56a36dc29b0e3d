//! What a peer would speak, version by version and suite by suite, and which of it each backend has. Found out by asking with
//! one suite less each time; needs neither backend, so it shows what the other one would bring.

use std::net::SocketAddr;

use super::ask::Asker;
use crate::tls::hello::{self, Answer};
use crate::tls::{Backend, Suite, Version};

const BACKENDS: [(&str, Backend); 2] = [("rustls", Backend::Rustls), ("openssl", Backend::OpenSsl)];

/// What a peer takes of one version, in the order of its preference.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offer {
    /// The version.
    pub version: Version,
    /// Its suites.
    pub suites: Vec<&'static Suite>,
}

/// Asks for everything, newest version first; `None` when an answer was no TLS or did not come.
pub async fn ask(asker: &Asker, target: SocketAddr, name: &str) -> Option<Vec<Offer>> {
    let mut offers = Vec::new();
    for version in Version::ALL.into_iter().rev() {
        let mut left: Vec<u16> = version.suites().map(|suite| suite.number).collect();
        let mut offer = Offer { version, suites: Vec::new() };
        while !left.is_empty() {
            let stream = asker.knock(target).await.ok()?;
            match hello::ask(stream, name, version, &left, asker.rules.tls_timeout).await {
                Answer::Chose(number) if left.contains(&number) => {
                    left.retain(|other| *other != number);
                    offer.suites.extend(Suite::of(number));
                }
                Answer::Refused => break,
                Answer::Chose(_) | Answer::Unknown => return None,
            }
        }
        offers.push(offer);
    }
    Some(offers)
}

/// `rustls: 6 suites of TLS 1.3, TLS 1.2; openssl: 8 suites of TLS 1.3, TLS 1.2`.
pub fn summary(offers: &[Offer]) -> String {
    let of = |(word, backend): (&str, Backend)| {
        let shared = |offer: &Offer| offer.suites.iter().filter(|s| backend.has(offer.version, s)).count();
        let versions: Vec<&str> =
            offers.iter().filter(|offer| shared(offer) > 0).map(|offer| offer.version.word()).collect();
        match offers.iter().map(shared).sum::<usize>() {
            0 => format!("{word}: nothing"),
            1 => format!("{word}: 1 suite of {}", versions.join(", ")),
            count => format!("{word}: {count} suites of {}", versions.join(", ")),
        }
    };
    BACKENDS.map(of).join("; ")
}

/// Every suite with its version, and who has it.
pub fn picture(offers: &[Offer]) -> Vec<String> {
    let word = |offer: &Offer, suite: &Suite, backend: Backend| {
        if backend.has(offer.version, suite) { "ok" } else { "x" }
    };
    let line = |version: &str, suite: &str, [rustls, openssl]: [&str; 2]| {
        format!("{version:<8} {suite:<46} {rustls:<7} {openssl}").trim_end().to_owned()
    };
    let head = line("version", "suite that it takes", BACKENDS.map(|(word, _)| word));
    let mut lines = vec![head];
    for offer in offers {
        if offer.suites.is_empty() {
            lines.push(line(offer.version.word(), "none", ["", ""]));
        }
        let of = |suite: &&'static Suite| {
            line(offer.version.word(), suite.name, BACKENDS.map(|(_, backend)| word(offer, suite, backend)))
        };
        lines.extend(offer.suites.iter().map(of));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers() -> Vec<Offer> {
        let old = Suite::of(0xc014).unwrap();
        let new = Suite::of(0xc030).unwrap();
        vec![
            Offer { version: Version::V1_3, suites: Vec::new() },
            Offer { version: Version::V1_2, suites: vec![new, old] },
            Offer { version: Version::V1_0, suites: vec![old] },
        ]
    }

    #[test]
    fn each_backend_is_told_what_it_shares() {
        let words = "rustls: 1 suite of TLS 1.2; openssl: 3 suites of TLS 1.2, TLS 1.0";
        assert_eq!(summary(&offers()), words);
        assert_eq!(summary(&offers()[2..]), "rustls: nothing; openssl: 1 suite of TLS 1.0");
        assert_eq!(summary(&[]), "rustls: nothing; openssl: nothing");
    }

    #[test]
    fn every_suite_is_drawn_with_who_has_it() {
        let drawn = picture(&offers());
        let cell = |version: &str, suite: &str| {
            let line = drawn.iter().find(|line| line.starts_with(version) && line.contains(suite)).unwrap();
            line.split_whitespace().skip(3).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(cell("TLS 1.2", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"), ["ok", "ok"]);
        assert_eq!(cell("TLS 1.0", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"), ["x", "ok"]);
        assert!(drawn.iter().any(|line| line == "TLS 1.3  none"), "{drawn:#?}");
    }
}
