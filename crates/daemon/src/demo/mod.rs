//! `umbra demo`: the product's main job in one process, on loopback, without root, network or configuration. Owns the
//! order of things: a place, a site, eight calls, the screen, the end. Everything else is computed in its parts.

mod calls;
mod config;
mod facts;
mod faults;
mod judge;
mod place;
mod records;
mod site;
mod words;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgMatches, Args, FromArgMatches};
use lab::pki::PkiError;
use lab::shell::LabError;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::calls::{Length, Placed};
use self::judge::Checks;
use self::place::Folder;
use self::records::Records;
use self::site::Site;
use crate::cli::{Exit, Extension, KeyLogArgs, Screen};
use crate::labs::ConnectError;
use crate::observe::{LogSettings, init_logging};
use crate::run::StartError;

/// Why the demo could not run.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(
        "no free loopback network found; {address} is busy: {why}\n\
         A program that listens on that port on all addresses is in the way: stop it, or move it, for the demo."
    )]
    Busy { address: SocketAddr, why: io::Error },
    #[error(
        "{address} cannot be used: {why}\n\
         The demo needs addresses of 127.0.0.0/8 besides 127.0.0.1, as Linux has them. Elsewhere they must be added\n\
         by hand, or the demo run in a Linux container."
    )]
    NoLoopback { address: SocketAddr, why: io::Error },
    #[error("{}: {why}", path.display())]
    Folder { path: PathBuf, why: io::Error },
    #[error("{} is in use by another demo, or holds files that no demo wrote; name another with --dir", _0.display())]
    FolderTaken(PathBuf),
    #[error("the demo's own files do not compile:\n{_0}")]
    Config(String),
    #[error("lab certificates: {0}")]
    Pki(#[from] PkiError),
    #[error("lab: {0}")]
    Lab(#[from] LabError),
    #[error("gateway: {0}")]
    Gateway(#[from] StartError),
    #[error("{name} cannot connect to the gateway: {why}")]
    Caller { name: String, why: ConnectError },
    #[error("cannot run: {0}")]
    Runtime(io::Error),
    #[error("a task of the demo ended early")]
    Interrupted,
}

/// The command.
#[derive(Debug)]
pub struct Demo;

pub(crate) use faults::{FaultsArgs, run as faults};

#[derive(Debug, Args)]
struct DemoArgs {
    /// Assert what must be true after the calls; exit 1 and name what is not
    #[arg(long)]
    check: bool,
    /// Exit when the calls are done instead of waiting for Ctrl-C
    #[arg(long)]
    once: bool,
    /// Only the first call
    #[arg(long)]
    quick: bool,
    /// Folder for configuration, certificates, voice messages and records
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    keylog: KeyLogArgs,
}

impl DemoArgs {
    /// A demo that was cut short has done what was asked for, unless that was to check it.
    fn when_interrupted(&self) -> Exit {
        if self.check { Exit::Failed } else { Exit::Fine }
    }
}

impl Extension for Demo {
    fn command(&self) -> clap::Command {
        // What is flattened into the arguments would bring its own words along.
        DemoArgs::augment_args(clap::Command::new("demo"))
            .about("Run gateway, lab UM and callers in this process, place eight calls, show the results")
            .before_help("Examples:\n  umbra demo\n  umbra demo --check --once")
    }

    fn run(&self, matches: &ArgMatches) -> Exit {
        let screen = Screen::from_matches(matches);
        let arguments = match DemoArgs::from_arg_matches(matches) {
            Ok(arguments) => arguments,
            Err(problem) => {
                // A closed pipe is no reason to complain.
                let _closed = problem.print();
                return Exit::Usage;
            }
        };
        if let Err(exit) = arguments.keylog.open(&screen) {
            return exit;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let outcome = runtime
            .map_err(DemoError::Runtime)
            .and_then(|runtime| runtime.block_on(demo(&arguments, &screen)));
        outcome.unwrap_or_else(|problem| {
            screen.story(&format!("umbra demo: {problem}"));
            Exit::Failed
        })
    }
}

/// What was found out while the site was up.
struct Shown {
    checks: Checks,
}

async fn demo(arguments: &DemoArgs, screen: &Screen) -> Result<Exit, DemoError> {
    if std::env::var_os("UMBRA_LOG").is_some() {
        init_logging(&LogSettings::default());
    }
    let mut interrupts = Interrupts::listen().map_err(DemoError::Runtime)?;
    let folder = Folder::claim(arguments.dir.as_deref())?;
    let mut site = tokio::select! {
        site = Site::start(folder.path()) => site?,
        () = interrupts.next() => return Ok(arguments.when_interrupted()),
    };
    screen.data(&format!("{}\n", words::header(site.net)));
    let shown = tokio::select! {
        shown = show(&mut site, &folder, arguments, screen) => Some(shown),
        () = interrupts.next() => None,
    };
    if matches!(shown, Some(Ok(_))) && !arguments.once {
        screen.data("  Still running; Ctrl-C drains and stops.");
        interrupts.next().await;
    }
    if shown.is_none() || !arguments.once {
        screen.data("  Draining and stopping.");
    }
    let calls_left = site.status().await.map(|status| status.calls);
    let net = site.stop().await;
    let Some(shown) = shown else {
        return Ok(arguments.when_interrupted());
    };
    let mut checks = shown?.checks;
    checks.that(calls_left == Some(0), "no call is left in the gateway", calls_left);
    let busy = net.busy();
    checks.that(busy.is_none(), "all SIP and RTP ports are released", busy);
    let has_failed = checks.failed().next().is_some();
    if arguments.check || has_failed {
        screen.data(&words::verdict(&checks, screen.data));
    }
    Ok(if has_failed { Exit::Failed } else { Exit::Fine })
}

/// Places the calls, judges and prints them.
async fn show(
    site: &mut Site,
    folder: &Folder,
    arguments: &DemoArgs,
    screen: &Screen,
) -> Result<Shown, DemoError> {
    screen.story(if arguments.quick {
        "Placing one call ..."
    } else {
        "Placing eight calls, which takes twenty seconds ..."
    });
    let placed = calls::place_all(site, if arguments.quick { Length::Quick } else { Length::Whole }).await?;
    let records = Records::read(&folder.path().join("cdr"), placed.len()).await;
    let checks = judge::judge(&placed, &site.facts, &records);
    let outcomes = words::outcomes(&placed, &checks, &site.facts, screen.data);
    screen.data(&format!("{outcomes}{}\n", words::message_waiting(&site.facts)));
    let first = first_call_id(&placed).unwrap_or_default();
    if let Some(record) = records.of(first) {
        let picture = words::call_ladder(&site.tap, site.net, record);
        let path = folder.path().join("ladder.txt");
        std::fs::write(&path, &picture).map_err(|why| DemoError::Folder { path, why })?;
        screen.data(&format!("{picture}\n"));
        screen.data(&words::ladder_caption(record));
    }
    let message = site.facts.stored(first);
    let files = words::files(folder.path(), message.as_ref(), &records, site.net);
    screen.data(&format!("\n{files}\n"));
    Ok(Shown { checks })
}

fn first_call_id(placed: &[Placed]) -> Option<&str> {
    placed.first()?.outcome.as_ref().ok().map(|outcome| outcome.call_id.as_str())
}

/// Ctrl-C and requests to terminate; one that comes while nobody waits is not lost.
pub(crate) struct Interrupts {
    int: Signal,
    term: Signal,
}

impl Interrupts {
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { int: signal(SignalKind::interrupt())?, term: signal(SignalKind::terminate())? })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }
}
