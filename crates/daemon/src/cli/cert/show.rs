//! `umbra cert show`: the facts of each certificate of a file, or of what a server presents. Judges nothing; what is odd
//! is said below.

use std::path::Path;
use std::time::SystemTime;

use b2bua::codes;
use clap::Args;
use rustls_pki_types::CertificateDer;
use serde::Serialize;

use super::finding::{self, Finding};
use super::target::Target;
use super::{Exit, Screen, block_on, card, examine};
use crate::cli::screen::{Format, escaped};
use crate::config;
use crate::tls::facts::CertificateFacts;
use crate::tls::probe::Probe;
use crate::tls::{Versions, load_certificates};

#[derive(Debug, Args)]
#[command(before_help = "Examples:
  umbra cert show umbra.pem
  umbra cert show mbx01.contoso.com:5063
  umbra cert show exported.cer -o json")]
pub(super) struct ShowArgs {
    /// A PEM or DER file, or a TLS server
    #[arg(value_name = "FILE|HOST:PORT")]
    what: String,
}

/// What is shown; the keys are documented and stable.
#[derive(Debug, Serialize)]
struct Shown {
    source: String,
    certificates: Vec<serde_json::Value>,
    findings: Vec<Finding>,
}

/// Runs the command.
pub(super) fn run(screen: &Screen, arguments: &ShowArgs) -> Exit {
    let path = Path::new(&arguments.what);
    let is_file = path.symlink_metadata().is_ok();
    let chain = match (is_file, arguments.what.parse::<Target>()) {
        (true, _) => {
            load_certificates(path).map_err(|error| finding::error(codes::FILE_UNUSABLE, error.to_string()))
        }
        // A missing file and a server look alike; one with a folder in its name is a file.
        (false, Ok(target)) if !looks_like_file(&arguments.what) => {
            match block_on(screen, presented(&target)) {
                Ok(chain) => chain,
                Err(exit) => return exit,
            }
        }
        (false, Err(why)) if !looks_like_file(&arguments.what) => {
            screen.story(&escaped(&format!("{}: no such file, and no HOST:PORT: {why}", arguments.what)));
            return Exit::Usage;
        }
        (false, _) => Err(finding::error(codes::FILE_UNUSABLE, format!("{}: no such file", arguments.what))),
    };
    match chain {
        Ok(chain) => show(screen, &arguments.what, &chain),
        Err(problem) => {
            screen.story(&finding::list(&[problem], screen.story));
            Exit::Failed
        }
    }
}

fn looks_like_file(text: &str) -> bool {
    let ends = [".pem", ".crt", ".cer", ".der", ".key", ".pfx", ".p12"];
    text.contains(['/', '\\']) || ends.iter().any(|end| text.to_ascii_lowercase().ends_with(end))
}

async fn presented(target: &Target) -> Result<Vec<CertificateDer<'static>>, Finding> {
    let addresses = target.addresses(None).await.map_err(|why| finding::error(codes::NO_CONNECTION, why))?;
    let probe = Probe::new(None, Versions::From12);
    let (_, seen) = examine::look(&probe, &addresses, &target.host).await;
    match seen.reaction {
        Err(objection) if seen.chain.is_empty() => {
            Err(finding::error(objection.code(), objection.to_string()))
        }
        _ => Ok(seen.chain),
    }
}

fn show(screen: &Screen, source: &str, chain: &[CertificateDer<'_>]) -> Exit {
    let read = CertificateFacts::read_chain(chain.iter().map(|der| &der[..]), SystemTime::now());
    let unread = |error: &crate::tls::facts::FactsError| {
        finding::error(codes::CLIENT_CERTIFICATE_BAD, error.to_string())
    };
    let of_one = |facts: &Result<CertificateFacts, _>| match facts {
        // Nobody relies on the signature under a root.
        Ok(facts) => {
            let counts = |remark: &config::Remark| {
                !(facts.is_ca && remark.code == codes::WEAK_SIGNATURE && facts.self_signed)
            };
            config::condition(facts).into_iter().filter(counts).map(finding::of_remark).collect()
        }
        Err(error) => vec![unread(error)],
    };
    let findings: Vec<Finding> = read.iter().flat_map(of_one).collect();
    match screen.form {
        Format::Json => screen.json(&Shown {
            source: source.to_owned(),
            certificates: read.iter().map(examine::fact_value).collect(),
            findings,
        }),
        Format::Table | Format::Junit => {
            let place = |index: usize| format!("{}  {} of {}", escaped(source), index + 1, read.len());
            let cards = read.iter().enumerate().map(|(at, facts)| card::text(&place(at), facts, screen.data));
            let cards: Vec<String> = cards.collect();
            screen.data(&format!("{}\n{}", cards.join("\n"), finding::list(&findings, screen.data)));
        }
    }
    match read.iter().all(Result::is_ok) {
        true => Exit::Fine,
        false => Exit::Failed,
    }
}
