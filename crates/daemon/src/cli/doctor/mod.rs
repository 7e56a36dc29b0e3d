//! `umbra doctor`: live checks with fixes. Owns the words typed, the exit code and the three shapes of the report; what
//! is checked and how stands in [`crate::doctor`].

mod junit;
mod table;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
pub(super) use table::lines;

use super::screen::{Format, Screen};
use super::{Exit, KeyLogArgs, load};
use crate::config;
use crate::doctor::{self, Report, Topic};

#[derive(Debug, Args)]
#[command(before_help = "Examples:
  umbra doctor -c umbra.toml                  everything that can be checked from here
  umbra doctor lync -c umbra.toml             pools, Autodiscover, location profiles, encryption
  umbra doctor tls -o json -c umbra.toml
  umbra doctor -o junit -c umbra.toml > doctor.xml")]
pub(super) struct DoctorArgs {
    /// What to look at: exchange, lync, tls, media, dns, time or all
    #[arg(value_enum, default_value_t, value_name = "TOPIC", hide_possible_values = true)]
    topic: Words,
    /// Configuration; without it ./umbra.toml, then /etc/umbra/umbra.toml
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Exit 3 when there are warnings
    #[arg(long)]
    deny_warnings: bool,
    #[command(flatten)]
    keylog: KeyLogArgs,
}

/// The topics as they are typed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum Words {
    /// Call Routers, Mailbox servers, UM IP gateways, dial plans, security
    Exchange,
    /// Pools, Autodiscover, location profiles, security
    Lync,
    /// Certificates and handshakes
    Tls,
    /// RTP ports, limits of the host, listeners
    Media,
    /// Names
    Dns,
    /// Clocks
    Time,
    /// Everything
    #[default]
    All,
}

impl From<Words> for Topic {
    fn from(words: Words) -> Self {
        match words {
            Words::Exchange => Self::Exchange,
            Words::Lync => Self::Lync,
            Words::Tls => Self::Tls,
            Words::Media => Self::Media,
            Words::Dns => Self::Dns,
            Words::Time => Self::Time,
            Words::All => Self::All,
        }
    }
}

/// Runs the command.
pub(super) fn run(screen: &Screen, args: &DoctorArgs) -> Exit {
    let path = match load::locate(screen, args.config.as_deref()) {
        Ok(path) => path,
        Err(exit) => return exit,
    };
    if let Err(exit) = args.keylog.open(screen) {
        return exit;
    }
    let (report, exit) = match config::load(&path) {
        Ok(compiled) => match examine(&compiled, args.topic.into()) {
            Ok(report) => {
                let exit = exit_of(&report, args.deny_warnings);
                (report, exit)
            }
            Err(error) => {
                screen.story(&format!("no runtime to check with: {error}"));
                return Exit::Failed;
            }
        },
        Err(problems) => (Report::of(doctor::refused(&problems.list)), Exit::BadConfiguration),
    };
    show(screen, &path, &report, exit);
    exit
}

fn examine(compiled: &config::Compiled, topic: Topic) -> std::io::Result<Report> {
    crate::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let report = runtime.block_on(doctor::examine(compiled, topic));
    // A look-up that hangs in the system must not keep the report back.
    runtime.shutdown_background();
    Ok(report)
}

fn exit_of(report: &Report, deny_warnings: bool) -> Exit {
    match report {
        Report { failed: 1.., .. } => Exit::Failed,
        Report { warnings: 1.., .. } if deny_warnings => Exit::Warnings,
        _ => Exit::Fine,
    }
}

fn show(screen: &Screen, path: &Path, report: &Report, exit: Exit) {
    match screen.form {
        Format::Json => screen.json(report),
        Format::Junit => screen.data(&junit::text(report)),
        Format::Table => screen.data(&table::text(report, screen.data)),
    }
    if exit == Exit::BadConfiguration {
        let file = super::escaped(&path.display().to_string());
        screen.story(&format!("{file}: configuration cannot be used; nothing else was checked"));
    }
}

#[cfg(test)]
mod tests {
    use b2bua::codes;

    use super::*;
    use crate::doctor::{Finding, Group};

    #[test]
    fn failures_exit_with_1_and_warnings_only_when_denied() {
        let report = |findings: &[Finding]| Report::of(findings.to_vec());
        let good = Finding::ok(Group::Names, codes::DNS_NO_ADDRESS, "fine");
        let odd = Finding::warn(Group::Names, codes::DNS_REVERSE, "odd");
        let bad = Finding::fail(Group::Names, codes::DNS_SILENT, "bad");
        let skipped = Finding::skip(Group::Names, codes::DNS_SILENT, "unknown");
        assert_eq!(exit_of(&report(&[good.clone(), skipped]), true), Exit::Fine);
        assert_eq!(exit_of(&report(&[good.clone(), odd.clone()]), false), Exit::Fine);
        assert_eq!(exit_of(&report(&[good, odd.clone()]), true), Exit::Warnings);
        assert_eq!(exit_of(&report(&[odd, bad]), true), Exit::Failed);
    }
}
