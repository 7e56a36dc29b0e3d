//! `umbra run`: the daemon. Reads like a table of contents: configuration, logging, start, announce, wait, drain.

use std::path::PathBuf;
use std::time::Duration;

use b2bua::codes;
use clap::Args;
use tracing::{info, warn};

use super::check::{self, Deny};
use super::feed::{self, Feed};
use super::screen::{Screen, escaped_lines};
use super::{Exit, KeyLogArgs, load};
use crate::config::Compiled;
use crate::config::lab_file::LabFile;
use crate::labs::{self, Event, Events, Host, listeners};
use crate::observe::init_logging;
use crate::run::{Gateway, Settings, Signals};
use crate::tls::keylog;

/// The longest call a dial plan allows by default.
const DRAIN_SECS_DEFAULT: u64 = 30 * 60;

#[derive(Debug, Args)]
#[command(before_help = "Examples:
  umbra run -c umbra.toml
  umbra run -c umbra.toml --check-config
  umbra run -c umbra-demo/umbra.toml --lab umbra-demo/lab.toml
  UMBRA__LISTEN__TLS_PORT=6061 umbra run")]
pub(super) struct RunArgs {
    /// Configuration; without it ./umbra.toml, then /etc/umbra/umbra.toml
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Lab file: run the lab UM that it describes, too, in this process
    #[arg(long, value_name = "FILE")]
    lab: Option<PathBuf>,
    /// Check the configuration, start nothing
    #[arg(long)]
    check_config: bool,
    /// Seconds that calls may go on after TERM or the first INT
    #[arg(long, value_name = "SECONDS", default_value_t = DRAIN_SECS_DEFAULT)]
    drain_timeout: u64,
    #[command(flatten)]
    keylog: KeyLogArgs,
}

pub(super) fn run(screen: &Screen, arguments: &RunArgs) -> Exit {
    if arguments.check_config {
        return match load::locate(screen, arguments.config.as_deref()) {
            Ok(path) => check::check(screen, &path, Deny::Errors),
            Err(exit) => exit,
        };
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            screen.story(&escaped_lines(&format!("cannot start: {error}")));
            return Exit::Failed;
        }
    };
    let (feed, compiled) = match runtime.block_on(feed::begin(screen, arguments.config.as_deref())) {
        Ok(begun) => begun,
        Err(exit) => return exit,
    };
    let lab = match arguments.lab.as_deref().map(|path| labs::read(screen, path)).transpose() {
        Ok(lab) => lab,
        Err(exit) => return exit,
    };
    if !compiled.warnings.is_empty() {
        screen.story(&load::rendered(&compiled.warnings, screen.story));
    }
    if let Err(exit) = arguments.keylog.open(screen) {
        return exit;
    }
    init_logging(&load::log_settings(&compiled, screen));
    let drain_max = Duration::from_secs(arguments.drain_timeout);
    runtime.block_on(serve(screen, feed, &compiled, lab.as_ref(), drain_max))
}

async fn serve(
    screen: &Screen,
    feed: Feed,
    compiled: &Compiled,
    lab: Option<&LabFile>,
    drain_max: Duration,
) -> Exit {
    let cannot_start = |error: &dyn std::fmt::Display| {
        screen.story(&escaped_lines(&format!("cannot start: {error}")));
        Exit::Failed
    };
    let signals = match Signals::catch() {
        Ok(signals) => signals,
        Err(error) => return cannot_start(&error),
    };
    let host = match lab {
        None => None,
        Some(file) => match Host::start(file).await {
            Ok(host) => Some(host),
            Err(error) => return cannot_start(&error),
        },
    };
    if let (Some(host), Some(file)) = (&host, lab) {
        screen.story(&format!("lab UM in this process:\n{}", listeners(file, host.listening())));
        tokio::spawn(log(host.events(file)));
    }
    let gateway = match Gateway::start(Settings::from(compiled)).await {
        Ok(gateway) => gateway,
        Err(error) => {
            if let Some(host) = host {
                host.stop().await;
            }
            return cannot_start(&error);
        }
    };
    announce(screen, &gateway);
    signals.run_until_stopped(gateway, drain_max, feed).await;
    if let Some(host) = host {
        host.stop().await;
    }
    Exit::Fine
}

/// What happens in the lab goes into the gateway's log.
async fn log(mut events: Events) {
    while let Some(Event { event, server, whom, call_id, what, .. }) = events.next().await {
        info!(event = "lab", kind = event, server, whom, call_id, what, "lab");
    }
}

/// The ready line: one line on stderr, always in this shape, whatever the log format is.
fn announce(screen: &Screen, gateway: &Gateway) {
    let listeners: Vec<String> = gateway
        .addresses()
        .iter()
        .map(|bound| format!("{} {}", bound.transport.as_param(), bound.address))
        .collect();
    let admin =
        gateway.admin_address().map_or_else(String::new, |address| format!(", admin http://{address}"));
    screen.story(&format!("umbra ready: {}{admin}", listeners.join(", ")));
    info!(event = "started", version = env!("CARGO_PKG_VERSION"), "gateway is taking calls");
    if let Some(path) = keylog::path() {
        let code = codes::KEYS_LOGGED.as_str();
        warn!(event = "tls_keys_logged", code, path = %path.display(), "the secrets of every TLS connection are written to a file");
    }
}
