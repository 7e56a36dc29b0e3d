//! `umbra lab fault`: puts faults into a lab that runs, lists them, takes them away. Owns the words typed and the text printed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use super::control::LabStatus;
use super::{on_runtime, read};
use crate::cli::{Exit, Format, Screen, endpoint_address, escaped};
use crate::config::lab_file::{DEFAULT_FILE, FAULTS, Part, duration, unknown};
use crate::observe::{ask, order};

#[derive(Debug, Args)]
#[command(
    before_help = "Examples:
  umbra lab fault set mbx01 dead --for 30s -c lab.toml
  umbra lab fault set mbx01 slow_answer --after 3s --part workers
  umbra lab fault set cas01 lost_redirect --server 127.0.0.30:9066
  umbra lab fault list -o json
  umbra lab fault clear mbx01",
    after_help = "Faults are those of a plan (`umbra lab faults --show`). They count for what comes from now on; `dead` and `wrong_certificate` \
                  also cut the connections that are there.\nExit codes: 0 done; 1 no such server or not taken; 2 no such fault; 69 no lab \
                  answers; 78 bad lab file."
)]
pub(super) struct FaultArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Put a fault into a server, instead of the one that is in it
    Set(SetArgs),
    /// What is wrong with whom, and for how long still
    List(At),
    /// Take away what is wrong with a server, or with all
    Clear(ClearArgs),
}

#[derive(Debug, Args)]
struct At {
    /// Lab file, whose `control` is asked; without it ./lab.toml
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The lab's control address, instead of a file
    #[arg(long, value_name = "[http://]ADDRESS:PORT", value_parser = endpoint_address, conflicts_with = "config")]
    server: Option<SocketAddr>,
}

#[derive(Debug, Args)]
struct SetArgs {
    /// FQDN of the server, or its first label
    name: String,
    /// dead, unavailable, no_new_calls, silent, slow_answer, lost_redirect, …: a word of a fault plan
    fault: String,
    /// The whole server, or the workers of a Mailbox server
    #[arg(long, value_name = "all|workers", default_value = "all", value_parser = part)]
    part: Part,
    /// How late, for late_redirect, slow_answer, recycled and roc_jump
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = wait)]
    after: Duration,
    /// It goes by itself after this; without it, it stays
    #[arg(long = "for", value_name = "DURATION", value_parser = wait)]
    lasts: Option<Duration>,
    #[command(flatten)]
    at: At,
}

#[derive(Debug, Args)]
struct ClearArgs {
    /// FQDN of the server, or its first label; without it, every server
    name: Option<String>,
    #[command(flatten)]
    at: At,
}

fn part(text: &str) -> Result<Part, String> {
    let hit = Part::WORDS.into_iter().find(|(word, _)| *word == text);
    hit.map(|(_, part)| part).ok_or_else(|| "wanted: all or workers".to_owned())
}

fn wait(text: &str) -> Result<Duration, String> {
    duration(text).ok_or_else(|| "wanted: a duration, as 500ms, 30s or 5m".to_owned())
}

pub(super) fn run(screen: &Screen, arguments: &FaultArgs) -> Exit {
    let at = match &arguments.action {
        Action::Set(set) => &set.at,
        Action::List(at) => at,
        Action::Clear(clear) => &clear.at,
    };
    let address = match address(screen, at) {
        Ok(address) => address,
        Err(exit) => return exit,
    };
    on_runtime(screen, act(screen, address, &arguments.action))
}

fn address(screen: &Screen, at: &At) -> Result<SocketAddr, Exit> {
    if let Some(address) = at.server {
        return Ok(address);
    }
    let file = read(screen, at.config.as_deref().unwrap_or(Path::new(DEFAULT_FILE)))?;
    file.control.ok_or_else(|| {
        screen.story("`control` of the lab file is empty: that lab is told nothing");
        Exit::Unreachable
    })
}

async fn act(screen: &Screen, address: SocketAddr, action: &Action) -> Exit {
    let status = match ask::<LabStatus>(address, "/lab").await {
        Ok(status) => status,
        Err(why) => {
            screen.story(&format!("no lab answers at http://{address}/lab: {}", escaped(&why)));
            return Exit::Unreachable;
        }
    };
    let path = match action {
        Action::List(_) => return list(screen, &status),
        Action::Set(set) if !FAULTS.contains(&set.fault.as_str()) => {
            screen.story(&escaped(&unknown(&set.fault)));
            return Exit::Usage;
        }
        Action::Set(set) => named(&status, &set.name).map(|server| {
            let (part, after) = (set.part.word(), set.after.as_millis());
            let lasts = set.lasts.map_or(0, |lasts| lasts.as_millis());
            format!("/lab/set/{server}/{part}/{}/{after}/{lasts}", set.fault)
        }),
        Action::Clear(ClearArgs { name: None, .. }) => Some("/lab/clear".to_owned()),
        Action::Clear(ClearArgs { name: Some(name), .. }) => {
            named(&status, name).map(|server| format!("/lab/clear/{server}"))
        }
    };
    let Some(path) = path else {
        screen.story(&format!("no such server in the lab; there are {}", status.servers.join(", ")));
        return Exit::Failed;
    };
    if let Err(why) = order(address, &path).await {
        screen.story(&format!("the lab did not take it: {}", escaped(&why)));
        return Exit::Failed;
    }
    match ask::<LabStatus>(address, "/lab").await {
        Ok(status) => list(screen, &status),
        Err(_) => Exit::Fine,
    }
}

/// The server of this name or first label.
fn named<'s>(status: &'s LabStatus, name: &str) -> Option<&'s String> {
    let is_it = |server: &&String| {
        server.eq_ignore_ascii_case(name)
            || server.split('.').next().is_some_and(|label| label.eq_ignore_ascii_case(name))
    };
    status.servers.iter().find(is_it)
}

fn list(screen: &Screen, status: &LabStatus) -> Exit {
    if screen.form == Format::Json {
        screen.json(status);
    } else {
        screen.data(&table(status));
    }
    Exit::Fine
}

fn table(status: &LabStatus) -> String {
    if status.faults.is_empty() {
        return "nothing is wrong\n".to_owned();
    }
    let mut text = format!("{:<24}  {:<8} {:<18} LEFT\n", "SERVER", "PART", "FAULT");
    for one in &status.faults {
        let left = one.left_secs.map_or_else(|| "until cleared".to_owned(), |secs| format!("{secs} s"));
        let line = format!("{:<24}  {:<8} {:<18} {left}", one.server, one.part, one.fault);
        text.push_str(&escaped(&line));
        text.push('\n');
    }
    text
}
