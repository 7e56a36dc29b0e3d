//! `umbra cert init` and `issue`: a certificate authority for labs, and certificates of it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use lab::pki::{CertSpec, IdentityFiles, Life, Pki, PkiError};
use serde::Serialize;

use super::{Exit, Screen, failed};
use crate::cli::screen::{Format, escaped};
use crate::tls::facts::CertificateFacts;

/// Folder of the authority unless named.
const FOLDER: &str = "lab-pki";
/// Life of what is made here unless asked otherwise.
const DAYS: u16 = 90;
/// Nobody needs a lab certificate for longer than ten years.
const DAYS_MAX: u64 = 3650;
/// Names of one certificate.
const NAMES_MAX: usize = 64;

#[derive(Debug, Args)]
#[command(before_help = "Examples:
  umbra cert init                          lab-pki/lab-root.pem and lab-root.key, valid 90 days
  umbra cert init --dir /srv/lab --days 365")]
pub(super) struct InitArgs {
    /// Folder of the authority
    #[arg(long, value_name = "DIR", default_value = FOLDER)]
    dir: PathBuf,
    /// Life of the root in days
    #[arg(long, value_name = "N", default_value_t = DAYS, value_parser = days())]
    days: u16,
}

#[derive(Debug, Args)]
#[command(before_help = "Examples:
  umbra cert issue umbra.contoso.test
  umbra cert issue pool01.contoso.test --san fe01.contoso.test --san 192.0.2.7 --days 30")]
pub(super) struct IssueArgs {
    /// Host name: common name and first SAN, and the stem of the files
    name: String,
    /// Another name or address; may be repeated
    #[arg(long, value_name = "NAME")]
    san: Vec<String>,
    /// Life in days; without it 90, or as long as the root lasts
    #[arg(long, value_name = "N", value_parser = days())]
    days: Option<u16>,
    /// Folder of the authority
    #[arg(long, value_name = "DIR", default_value = FOLDER)]
    dir: PathBuf,
}

fn days() -> RangedU64ValueParser<u16> {
    RangedU64ValueParser::new().range(1..=DAYS_MAX)
}

/// What was made; the keys are documented and stable.
#[derive(Debug, Serialize)]
struct Made {
    certificate: PathBuf,
    key: PathBuf,
    facts: CertificateFacts,
}

/// Makes the authority.
pub(super) fn init(screen: &Screen, arguments: &InitArgs) -> Exit {
    let made = Pki::create(&arguments.dir, Life::Days(arguments.days)).map(|pki| {
        let key = pki.folder().join(lab::pki::ROOT_KEY_FILE);
        (IdentityFiles { certificate: pki.root_file(), key }, pki.ca().root().to_vec())
    });
    let next = format!(
        "Next: umbra cert issue <name> --dir {}   and list the root in `trusted_roots`",
        arguments.dir.display()
    );
    report(screen, made, &next)
}

/// Issues a certificate.
pub(super) fn issue(screen: &Screen, arguments: &IssueArgs) -> Exit {
    if arguments.san.len() > NAMES_MAX {
        return failed(screen, &format!("at most {NAMES_MAX} names"));
    }
    let pki = match Pki::existing(&arguments.dir) {
        Ok(pki) => pki,
        Err(error) => {
            let folder = arguments.dir.display();
            return failed(
                screen,
                &format!("no authority in {folder} ({error}); umbra cert init --dir {folder} makes one"),
            );
        }
    };
    let days = match life(&pki, arguments.days) {
        Ok(days) => days,
        Err(what) => return failed(screen, &what),
    };
    let named = CertSpec::host(&arguments.name).life(Life::Days(days));
    let spec = arguments.san.iter().fold(named, |spec, name| spec.also(name));
    let made = check_names(&spec).and_then(|()| pki.issue_new(&spec)).and_then(|files| {
        let issued = lab::pki::Identity::load(&spec.fqdn, &files)?;
        Ok((files, issued.chain().first().map(|der| der.to_vec()).unwrap_or_default()))
    });
    report(screen, made, "")
}

/// A certificate that outlives its root is refused everywhere from the root's end on.
fn life(pki: &Pki, asked: Option<u16>) -> Result<u16, String> {
    let root =
        CertificateFacts::read(pki.ca().root(), SystemTime::now()).map_err(|error| error.to_string())?;
    let left = u16::try_from(root.days_left.max(0)).unwrap_or(u16::MAX);
    match asked {
        _ if left == 0 => Err(format!("the root ends at {}; make a new authority", root.not_after)),
        Some(days) if days > left => Err(format!(
            "the root ends at {}, in {left} days: no certificate of it can last {days}",
            root.not_after
        )),
        Some(days) => Ok(days),
        None => Ok(DAYS.min(left)),
    }
}

fn check_names(spec: &CertSpec) -> Result<(), PkiError> {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'*');
    match spec.more_names.iter().find(|name| name.is_empty() || !name.bytes().all(sound)) {
        Some(name) => Err(PkiError::HostName(name.clone())),
        None => Ok(()),
    }
}

fn report(screen: &Screen, made: Result<(IdentityFiles, Vec<u8>), PkiError>, next: &str) -> Exit {
    let (files, der) = match made {
        Ok(made) => made,
        Err(error) => return failed(screen, &error.to_string()),
    };
    let facts = match CertificateFacts::read(&der, SystemTime::now()) {
        Ok(facts) => facts,
        Err(error) => return failed(screen, &error.to_string()),
    };
    let shown = |path: &Path| escaped(&path.display().to_string());
    match screen.form {
        Format::Json => screen.json(&Made { certificate: files.certificate, key: files.key, facts }),
        Format::Table | Format::Junit => screen.data(&format!(
            "  certificate  {}\n  key          {}   (mode 0600)\n  subject      {}\n  ends         {}",
            shown(&files.certificate),
            shown(&files.key),
            facts.subject,
            facts.not_after
        )),
    }
    if !next.is_empty() {
        screen.story(&escaped(next));
    }
    Exit::Fine
}
