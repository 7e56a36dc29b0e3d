//! `umbra cert import`: a pair from elsewhere, checked as the gateway would check it, then put into its place. A pair that
//! does not pass changes nothing; what stood there before is kept beside it as `.old`.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use b2bua::codes;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use rustls_pki_types::PrivateKeyDer;
use serde::Serialize;
use zeroize::Zeroizing;

use super::bundle::{self, Bundle};
use super::finding::{self, Finding};
use super::{Exit, Screen, failed};
use crate::cli::load;
use crate::cli::screen::{Format, escaped};
use crate::config;
use crate::tls::facts::CertificateFacts;
use crate::tls::identity::read;
use crate::tls::{Identity, TlsError};

#[derive(Debug, Args)]
#[command(before_help = "Examples:
  umbra cert import umbra.pfx --password-file pw.txt -c umbra.toml
  umbra cert import bundle.pem --dir /etc/umbra/tls            writes umbra.pem and umbra.key there
  umbra cert import umbra.pem --key umbra.key -c umbra.toml --what-if")]
pub(super) struct ImportArgs {
    /// PFX (PKCS #12) or PEM
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The private key, when it is not in a PEM FILE itself
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// File whose first line is the password of the PFX file
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Configuration that names the places; without it ./umbra.toml, then /etc/umbra/umbra.toml
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write umbra.pem and umbra.key into this folder instead
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    dir: Option<PathBuf>,
    /// Check only, write nothing
    #[arg(long)]
    what_if: bool,
}

/// Where the pair goes.
struct Places {
    certificate: PathBuf,
    key: PathBuf,
    /// By which it is checked.
    config: Option<PathBuf>,
}

/// What was done; the keys are documented and stable.
#[derive(Debug, Serialize)]
struct Imported {
    certificate: PathBuf,
    key: PathBuf,
    written: bool,
    facts: Option<CertificateFacts>,
    findings: Vec<Finding>,
}

/// Runs the command.
pub(super) fn run(screen: &Screen, arguments: &ImportArgs) -> Exit {
    let places = match places(screen, arguments) {
        Ok(places) => places,
        Err(exit) => return exit,
    };
    let password = match arguments.password_file.as_deref().map(password).transpose() {
        Ok(password) => password.unwrap_or_default(),
        Err(error) => return failed(screen, &error.to_string()),
    };
    let bundle = match bundle::open(&arguments.file, arguments.key.as_deref(), &password) {
        Ok(bundle) => bundle,
        Err(problem) => {
            screen.story(&finding::list(&[finding::of_remark(problem)], screen.story));
            return Exit::Failed;
        }
    };
    match take_over(&bundle, &places, arguments.what_if) {
        Ok((findings, written)) => report(screen, &bundle, places, findings, written),
        Err(what) => failed(screen, &what),
    }
}

fn places(screen: &Screen, arguments: &ImportArgs) -> Result<Places, Exit> {
    if let Some(dir) = &arguments.dir {
        return Ok(Places { certificate: dir.join("umbra.pem"), key: dir.join("umbra.key"), config: None });
    }
    let path = load::locate(screen, arguments.config.as_deref())?;
    match config::pair_of(&path) {
        Ok(Some(files)) => {
            Ok(Places { certificate: files.certificate, key: files.private_key, config: Some(path) })
        }
        Ok(None) => {
            screen.story("[tls] names no `certificate` and `private_key`; --dir says where else to write");
            Err(Exit::BadConfiguration)
        }
        Err(problems) => {
            screen.story(&load::rendered(&problems.list, screen.story));
            Err(Exit::BadConfiguration)
        }
    }
}

fn password(path: &Path) -> Result<Zeroizing<String>, TlsError> {
    let bytes = Zeroizing::new(read(path)?);
    let text = Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned());
    let line = text.trim_start_matches('\u{feff}').lines().next().unwrap_or_default();
    Ok(Zeroizing::new(line.to_owned()))
}

/// Writes the pair beside its places, checks it there, and moves it in when it passes.
fn take_over(bundle: &Bundle, places: &Places, what_if: bool) -> Result<(Vec<Finding>, bool), String> {
    let (certificate, key) = (beside(&places.certificate, "new"), beside(&places.key, "new"));
    let written = write_pair(bundle, &certificate, &key);
    let findings = written.map(|()| check(bundle, places, &certificate, &key));
    let is_good = findings.as_ref().is_ok_and(|findings| !findings.iter().any(finding::is_error));
    if is_good && !what_if {
        move_in(&certificate, &places.certificate)?;
        move_in(&key, &places.key)?;
    } else {
        for file in [&certificate, &key] {
            // What could not be written is not there.
            let _absent = std::fs::remove_file(file);
        }
    }
    Ok((findings?, is_good && !what_if))
}

fn write_pair(bundle: &Bundle, certificate: &Path, key: &Path) -> Result<(), String> {
    let chain: String = bundle.chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
    std::fs::write(certificate, chain).map_err(|error| format!("{}: {error}", certificate.display()))?;
    lab::pki::write_private(key, &key_pem(&bundle.key)).map_err(|error| error.to_string())
}

/// The old file stays beside the new one.
fn move_in(new: &Path, place: &Path) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{}: {error}", place.display());
    if place.exists() {
        std::fs::rename(place, beside(place, "old")).map_err(said)?;
    }
    std::fs::rename(new, place).map_err(said)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

/// What can be said of the pair alone, and with a configuration everything that `umbra check` says of its own.
fn check(bundle: &Bundle, places: &Places, certificate: &Path, key: &Path) -> Vec<Finding> {
    let mut findings: Vec<Finding> = match &places.config {
        Some(config) => of_config(config, certificate, key).into_iter().map(demanding).collect(),
        None => Vec::new(),
    };
    // A configuration without a TLS listener does not look at its certificate.
    for finding in alone(bundle, certificate, key) {
        if findings.iter().all(|said| said.code != finding.code) {
            findings.push(finding);
        }
    }
    findings
}

/// What a configuration would say with this pair as its own. Its other problems are `umbra check`'s business.
pub(super) fn of_config(config: &Path, certificate: &Path, key: &Path) -> Vec<Finding> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let problems = match config::load_with_pair(config, &absolute(certificate), &absolute(key)) {
        Ok(compiled) => compiled.warnings,
        Err(problems) => problems.list,
    };
    let concerns = |setting: &str| setting.starts_with("tls.") || setting == "gateway.fqdn";
    problems.iter().filter(|problem| concerns(&problem.setting)).map(finding::of_problem).collect()
}

/// A chain that leads to none of the roots is a reason not to change a pair that works.
fn demanding(finding: Finding) -> Finding {
    if finding.code == codes::ROOT_MISSING { finding::error(finding.code, finding.what) } else { finding }
}

fn alone(bundle: &Bundle, certificate: &Path, key: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(error) = Identity::load(certificate, key) {
        findings.push(finding::error(codes::FILE_UNUSABLE, error.to_string()));
    }
    let Some(facts) = leaf(bundle) else { return findings };
    if !facts.says_server() {
        findings.push(finding::error(codes::WRONG_PURPOSE, "serverAuth is missing"));
    }
    findings.extend(config::condition(&facts).into_iter().map(finding::of_remark));
    findings
}

fn leaf(bundle: &Bundle) -> Option<CertificateFacts> {
    CertificateFacts::read(bundle.chain.first()?, SystemTime::now()).ok()
}

fn report(screen: &Screen, bundle: &Bundle, places: Places, findings: Vec<Finding>, written: bool) -> Exit {
    let facts = leaf(bundle);
    let is_good = !findings.iter().any(finding::is_error);
    let shown = |path: &Path| escaped(&path.display().to_string());
    let verdict = match (is_good, written) {
        (true, true) => format!(
            "written: {}, {} (mode 0600); a reload (SIGHUP) takes it into use",
            shown(&places.certificate),
            shown(&places.key)
        ),
        (true, false) => format!("would go to {} and {}", shown(&places.certificate), shown(&places.key)),
        (false, _) => "nothing was written".to_owned(),
    };
    match screen.form {
        Format::Json => screen.json(&Imported {
            certificate: places.certificate,
            key: places.key,
            written,
            facts,
            findings,
        }),
        Format::Table | Format::Junit => {
            let what = facts.map_or_else(String::new, |facts| {
                let more = bundle.chain.len() - 1;
                format!("  {}  until {}  and {more} of its issuers\n", facts.subject, facts.not_after)
            });
            let list = finding::list(&findings, screen.data);
            screen.data(&format!("{what}{list}{verdict}"));
        }
    }
    if is_good { Exit::Fine } else { Exit::Failed }
}

/// Characters of one line (RFC 7468 §2).
const LINE_CHARS: usize = 64;

fn pem(label: &str, der: &[u8]) -> String {
    let text = Zeroizing::new(STANDARD.encode(der));
    let mut out = format!("-----BEGIN {label}-----\n");
    // Base64 is ASCII, so every cut is between characters.
    for line in text.as_bytes().chunks(LINE_CHARS) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

fn key_pem(key: &PrivateKeyDer<'_>) -> Zeroizing<String> {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    Zeroizing::new(pem(label, key.secret_der()))
}
