//! `umbra lab up`: reads like a table of contents: file, start, table, events, end.

use std::time::Duration;

use clap::Args;

use super::{Events, Host, Named, cannot, listeners, on_runtime};
use crate::cli::{Exit, Format, Screen};
use crate::config::lab_file::LabFile;
use crate::demo::Interrupts;

/// For the last events after everything is closed.
const LAST_EVENTS: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
#[command(
    before_help = "Examples:
  umbra lab up -c lab.toml
  umbra lab up -c umbra-demo/lab.toml -o jsonl",
    after_help = "Exit codes: 0 ended by Ctrl-C or TERM; 1 a port or certificate cannot be had; 78 bad lab file."
)]
pub(super) struct UpArgs {
    #[command(flatten)]
    file: Named,
}

pub(super) fn run(screen: &Screen, arguments: &UpArgs) -> Exit {
    match arguments.file.load(screen) {
        Ok(file) => on_runtime(screen, up(screen, &file)),
        Err(exit) => exit,
    }
}

async fn up(screen: &Screen, file: &LabFile) -> Exit {
    let mut interrupts = match Interrupts::listen() {
        Ok(interrupts) => interrupts,
        Err(error) => return cannot(screen, &error),
    };
    let host = tokio::select! {
        host = Host::start(file) => host,
        () = interrupts.next() => return Exit::Fine,
    };
    let host = match host {
        Ok(host) => host,
        Err(error) => return cannot(screen, &error),
    };
    let printer = tokio::spawn(print(*screen, host.events(file)));
    let table = format!(
        "umbra lab: simulated Exchange UM with lab certificates; nothing here is secure.\n\n{}",
        listeners(file, host.listening())
    );
    // What a machine reads has events alone.
    if screen.form == Format::Json {
        screen.story(&table)
    } else {
        screen.data(&table)
    }
    let control = host.control().map_or_else(String::new, |at| format!(": faults at http://{at}"));
    screen.story(&format!("umbra lab ready{control}"));
    interrupts.next().await;
    screen.story("umbra lab: hanging up and closing");
    host.stop().await;
    // Ends by itself once the lab is gone.
    let _late = tokio::time::timeout(LAST_EVENTS, printer).await;
    Exit::Fine
}

async fn print(screen: Screen, mut events: Events) {
    while let Some(event) = events.next().await {
        match screen.form {
            Format::Json => screen.json_line(&event),
            _ => screen.data(&event.line()),
        }
    }
}
