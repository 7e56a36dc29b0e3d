//! `umbra lab`: the lab as something to run, to call and to disturb. Owns its command line and the life of a lab that a file describes; who stands
//! in it is `config::lab_file`, what they do is the `lab` crate.

mod call;
mod control;
mod events;
mod fault;
mod faults;
mod host;
mod table;
mod up;

use std::path::{Path, PathBuf};

use clap::{ArgMatches, Args, FromArgMatches, Subcommand};

pub use call::{ConnectError, connect};
pub use control::LabStatus;
pub use events::{Event, Events};
pub use faults::FaultStatus;
pub use host::{Host, HostError, open_pki};
pub use table::listeners;

use crate::cli::{Exit, Extension, Screen, escaped_lines, rendered};
use crate::config::lab_file::{DEFAULT_FILE, LabFile, load};
use crate::demo::{FaultsArgs, faults as matrix};

/// The command.
#[derive(Debug)]
pub struct Lab;

const EXAMPLES: &str = "Examples:
  umbra lab up -c lab.toml                          the lab UM that the file describes, until Ctrl-C
  umbra run -c umbra.toml --lab lab.toml            gateway and lab in one process
  umbra lab call ken --talk 3 -c lab.toml           leave a message of three seconds, by way of the gateway
  umbra lab call ova --from ken --keys 135790#,1 -c lab.toml
                                                    Outlook Voice Access: PIN, a pause, first message
  umbra lab fault set mbx01 dead --for 30s -c lab.toml
                                                    a Mailbox server of the running lab is dead for half a minute
  umbra lab faults --only 302 -o json               a plan of faults, one call each, and what became of them";

#[derive(Debug, Args)]
struct LabArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Run the lab UM that a file describes, until Ctrl-C or TERM; one line for each thing that happens
    Up(up::UpArgs),
    /// Place one call as a pool or IP-PBX of the lab file and say what came of it
    Call(call::CallArgs),
    /// Put a fault into a lab that runs, list those in force, take them away
    Fault(fault::FaultArgs),
    /// Put every fault of a plan into a lab UM, place a call each, compare what the gateway made of it with what it must
    Faults(FaultsArgs),
}

/// Which lab file.
#[derive(Debug, Args)]
struct Named {
    /// Lab file; without it ./lab.toml
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Named {
    /// Compiles it; problems go to stderr.
    fn load(&self, screen: &Screen) -> Result<LabFile, Exit> {
        read(screen, self.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE)))
    }
}

/// Compiles a lab file; problems go to stderr.
pub(crate) fn read(screen: &Screen, path: &Path) -> Result<LabFile, Exit> {
    load(path).map_err(|problems| {
        screen.story(&rendered(&problems.list, screen.story));
        Exit::BadConfiguration
    })
}

impl Extension for Lab {
    fn command(&self) -> clap::Command {
        let command =
            clap::Command::new("lab").about("The lab on its own: run it, call it, put faults into it");
        LabArgs::augment_args(command.before_help(EXAMPLES))
    }

    fn run(&self, matches: &ArgMatches) -> Exit {
        let screen = Screen::from_matches(matches);
        match LabArgs::from_arg_matches(matches) {
            Ok(LabArgs { what: What::Up(arguments) }) => up::run(&screen, &arguments),
            Ok(LabArgs { what: What::Call(arguments) }) => call::run(&screen, &arguments),
            Ok(LabArgs { what: What::Fault(arguments) }) => fault::run(&screen, &arguments),
            Ok(LabArgs { what: What::Faults(arguments) }) => matrix(&screen, &arguments),
            Err(problem) => {
                let _closed = problem.print();
                Exit::Usage
            }
        }
    }
}

/// Runs what a command does on a runtime of its own.
fn on_runtime(screen: &Screen, command: impl Future<Output = Exit>) -> Exit {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => cannot(screen, &error),
    }
}

fn cannot(screen: &Screen, why: &dyn std::fmt::Display) -> Exit {
    screen.story(&escaped_lines(&format!("cannot start: {why}")));
    Exit::Failed
}
