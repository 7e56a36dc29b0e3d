//! `umbra status`: how the gateway that runs stands. Owns the words typed and the exit codes; what is told is the gateway's own
//! document ([`crate::observe::Status`]), and the screen stands in `table`.

mod table;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::screen::{Format, Screen, escaped};
use super::{Exit, load};
use crate::observe::{Status, ask};

/// Names the admin endpoint for every command that asks it.
const SERVER_VARIABLE: &str = "UMBRA_SERVER";

#[derive(Debug, Args)]
#[command(
    before_help = "Examples:
  umbra status -c umbra.toml
  umbra status --server 127.0.0.1:9065 --json
  umbra status --ready                        nothing printed; 0 while new calls are taken",
    after_help = "Exit codes: 0 it answered; 1 with --ready: it takes no new calls; 69 no gateway answers; 78 bad configuration."
)]
pub(super) struct StatusArgs {
    /// Configuration, whose `[admin] http` is asked; without it ./umbra.toml, then /etc/umbra/umbra.toml
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The admin endpoint, instead of a configuration; UMBRA_SERVER says the same
    #[arg(long, value_name = "[http://]ADDRESS:PORT", value_parser = server, conflicts_with = "config")]
    server: Option<SocketAddr>,
    /// The same as `-o json`
    #[arg(long)]
    json: bool,
    /// Print nothing; exit with 1 when no new calls are taken
    #[arg(long)]
    ready: bool,
}

fn server(text: &str) -> Result<SocketAddr, String> {
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    address
        .parse()
        .map_err(|_| "wanted: an address and a port, as 127.0.0.1:9065 or http://[::1]:9065".to_owned())
}

/// Runs the command.
pub(super) fn run(screen: &Screen, arguments: &StatusArgs) -> Exit {
    let address = match address(screen, arguments) {
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

fn address(screen: &Screen, arguments: &StatusArgs) -> Result<SocketAddr, Exit> {
    if let Some(address) = arguments.server {
        return Ok(address);
    }
    let named = std::env::var(SERVER_VARIABLE).ok().filter(|text| !text.is_empty());
    if let (Some(text), None) = (named, &arguments.config) {
        return server(&text).map_err(|why| {
            screen.story(&format!("{SERVER_VARIABLE}: {why}"));
            Exit::Usage
        });
    }
    let loaded = load::compiled(screen, arguments.config.as_deref())?;
    loaded.compiled.admin.http.ok_or_else(|| {
        screen.story("[admin] http is empty: that gateway answers nobody");
        Exit::Unreachable
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_is_an_address_with_or_without_its_scheme() {
        for text in ["127.0.0.1:9065", "http://127.0.0.1:9065", "http://127.0.0.1:9065/"] {
            assert_eq!(server(text), Ok("127.0.0.1:9065".parse().unwrap()));
        }
        for text in ["unix:umbra.sock", "9065", "https://127.0.0.1:9065", "localhost:9065"] {
            assert!(server(text).is_err(), "{text}");
        }
    }
}
