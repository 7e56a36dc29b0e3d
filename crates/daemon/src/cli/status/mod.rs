//! `umbra status`: how the gateway that runs stands. Owns the words typed and the exit codes; what is told is the gateway's own
//! document ([`crate::observe::Status`]), and the screen stands in `table`.

mod table;

use clap::Args;

use super::Exit;
use super::endpoint::Endpoint;
use super::screen::{Format, Screen, escaped};
use crate::observe::{Status, ask};

#[derive(Debug, Args)]
#[command(
    before_help = "Examples:
  umbra status -c umbra.toml
  umbra status --server 127.0.0.1:9065 --json
  umbra status --ready                        nothing printed; 0 while new calls are taken",
    after_help = "Exit codes: 0 it answered; 1 with --ready: it takes no new calls; 69 no gateway answers; 78 bad configuration."
)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    endpoint: Endpoint,
    /// The same as `-o json`
    #[arg(long)]
    json: bool,
    /// Print nothing; exit with 1 when no new calls are taken
    #[arg(long)]
    ready: bool,
}

/// Runs the command.
pub(super) fn run(screen: &Screen, arguments: &StatusArgs) -> Exit {
    let address = match arguments.endpoint.address(screen) {
        Ok(address) => address,
        Err(exit) => return exit,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            screen.story(&format!("no runtime to ask with: {error}"));
            return Exit::Failed;
        }
    };
    match runtime.block_on(ask::<Status>(address, "/status")) {
        Ok(status) if arguments.ready && status.draining => Exit::Failed,
        Ok(_) if arguments.ready => Exit::Fine,
        Ok(status) => {
            match (arguments.json, screen.form) {
                (true, _) | (_, Format::Json) => screen.json(&status),
                (false, _) => screen.data(&table::text(&status, screen.data)),
            }
            Exit::Fine
        }
        Err(why) => {
            screen.story(&format!("no gateway answers at http://{address}/status: {}", escaped(&why)));
            Exit::Unreachable
        }
    }
}
