//! The command line: words, exit codes, output shapes. Owns what is typed and printed; every command computes
//! elsewhere. Further commands (`demo`, `lab`, …) come in as [`Extension`]s, so that this module need not know them.

mod cert;
mod check;
mod directory;
mod doctor;
mod endpoint;
mod exit;
mod explain;
mod feed;
mod keylog;
mod load;
mod quirks;
mod route;
mod run;
mod screen;
mod servers;
mod status;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};

pub(crate) use endpoint::server as endpoint_address;
pub use exit::Exit;
pub use keylog::KeyLogArgs;
pub(crate) use load::rendered;
use screen::wrapped;
pub use screen::{ColorChoice, Format, Global, Screen, Style, Tone, Volume, escaped, escaped_lines};

/// A command that another module brings along.
pub trait Extension {
    /// Its words; the name selects it.
    fn command(&self) -> clap::Command;
    /// Runs it.
    fn run(&self, matches: &ArgMatches) -> Exit;
}

const EXAMPLES: &str = "\
Examples:
  umbra demo                                        eight calls through a whole lab in this process
  umbra lab up -c lab.toml                          a lab UM that a file describes; `umbra lab call` calls it
  umbra lab faults                                  what goes wrong with UM, and what calls come to
  umbra check umbra.toml                            every problem of a configuration, with its fix
  umbra run -c umbra.toml                           the daemon
  umbra status -c umbra.toml                        how the running gateway stands
  umbra doctor -c umbra.toml                        live checks of everything around it, with fixes
  umbra route explain --to sip:ken@contoso.test -c umbra.toml
                                                    where a call would go, and why
  umbra import exchange umbra-exchange.json         a configuration from what Exchange prints
  umbra cert verify mbx01.contoso.test:5063         what TLS with a server would come to, and why
  umbra explain UMB-SEC001                          what a code means and how to fix it";

const EXIT_CODES: &str = "\
Exit codes: 0 fine; 1 a call or check failed; 2 bad usage; 69 no gateway answers; 78 bad configuration.
UMBRA_LOG sets the log filter, NO_COLOR switches colours off, UMBRA__SECTION__KEY overrides a setting.";

/// A SIP B2BUA between Lync or Skype for Business pools and Exchange Unified Messaging.
#[derive(Debug, Parser)]
#[command(name = "umbra", version, before_help = EXAMPLES, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until a signal ends it (TERM drains, INT twice stops, HUP reloads)
    Run(run::RunArgs),
    /// Check a configuration: all problems at once, with line, cause and fix
    #[command(alias = "validate")]
    Check(check::CheckArgs),
    /// Check live what is around the gateway: peers, certificates, names, ports, clocks; with fixes
    Doctor(doctor::DoctorArgs),
    /// Say how the running gateway stands: calls, peers, connections, certificates, failed handshakes
    Status(status::StatusArgs),
    /// The UM servers of the running gateway: state and reasons; drain, enable, disable
    Servers(servers::ServersArgs),
    /// Explain a UMB code, a SIP status code or an ms-diagnostics number
    Explain(explain::ExplainArgs),
    /// Dry-run the routing of one request
    Route(route::RouteArgs),
    /// Make a configuration of what Exchange and Lync print
    Import(directory::ImportArgs),
    /// Print what makes the same objects in Exchange or Lync
    Export(directory::ExportArgs),
    /// Compare a fresh export of Exchange or Lync with the configuration
    Drift(directory::DriftArgs),
    /// Make, show, try and take over certificates
    Cert(cert::CertArgs),
    /// List the quirks of peers, their counters and switches; with --headers the header table
    Quirks(quirks::QuirksArgs),
}

/// Parses and runs; the whole of `main`.
pub fn main(arguments: impl IntoIterator<Item = OsString>, extensions: &[&dyn Extension]) -> ExitCode {
    let mut command = Cli::command();
    for extension in extensions {
        command = command.subcommand(extension.command());
    }
    let matches = match command.try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version go to stdout with 0, usage to stderr with 2; a closed pipe is no reason to complain.
            let _closed = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Fine }.into();
        }
    };
    if let Some((name, inner)) = matches.subcommand()
        && let Some(extension) = extensions.iter().find(|extension| extension.command().get_name() == name)
    {
        return extension.run(inner).into();
    }
    match Cli::from_arg_matches(&matches) {
        Ok(cli) => dispatch(&Screen::of(&cli.global), cli.command).into(),
        Err(error) => {
            let _closed = error.print();
            Exit::Usage.into()
        }
    }
}

fn dispatch(screen: &Screen, command: Command) -> Exit {
    if screen.form == Format::Junit && !matches!(command, Command::Doctor(_)) {
        screen.story("-o junit: only `umbra doctor` has a report of that shape");
        return Exit::Usage;
    }
    match command {
        Command::Run(arguments) => run::run(screen, &arguments),
        Command::Check(arguments) => check::run(screen, &arguments),
        Command::Doctor(arguments) => doctor::run(screen, &arguments),
        Command::Status(arguments) => status::run(screen, &arguments),
        Command::Servers(arguments) => servers::run(screen, &arguments),
        Command::Explain(arguments) => explain::run(screen, &arguments),
        Command::Route(arguments) => route::run(screen, &arguments),
        Command::Import(arguments) => directory::import(screen, &arguments),
        Command::Export(arguments) => directory::export(screen, &arguments),
        Command::Drift(arguments) => directory::drift(screen, &arguments),
        Command::Cert(arguments) => cert::run(screen, &arguments),
        Command::Quirks(arguments) => quirks::run(screen, &arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn validate_is_a_hidden_spelling_of_check() {
        let cli = Cli::try_parse_from(["umbra", "validate", "x.toml"]).unwrap();
        assert!(matches!(cli.command, Command::Check(_)));
        assert!(!Cli::command().render_help().to_string().contains("validate"));
    }

    #[test]
    fn help_shows_examples_before_options() {
        let help = Cli::command().render_help().to_string();
        assert!(help.find("Examples:").unwrap() < help.find("Usage:").unwrap(), "{help}");
    }

    struct Dance;

    impl Extension for Dance {
        fn command(&self) -> clap::Command {
            clap::Command::new("dance")
        }

        fn run(&self, _: &ArgMatches) -> Exit {
            Exit::NotPermitted
        }
    }

    #[test]
    fn an_extension_is_found_by_its_name() {
        let code = main(["umbra", "dance"].map(OsString::from), &[&Dance]);
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(77)));
        let code = main(["umbra", "sing"].map(OsString::from), &[&Dance]);
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(2)));
    }
}
