//! `umbra import`, `umbra export`, `umbra drift`: between a configuration and what Exchange and Lync keep. Owns the words and
//! exit codes; reading, writing and comparing is `directory`'s.

use std::path::{Path, PathBuf};

use b2bua::{Code, codes};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::screen::{Format, Screen, Style, Tone, escaped};
use super::{Exit, escaped_lines, load};
use crate::config::{self, Problem, Severity};
use crate::directory::{self, Drift, Failure, Frame, Imported, Side, View};

#[derive(Debug, Args)]
#[command(before_help = "Examples:
  umbra import exchange umbra-exchange.json > umbra.toml
  umbra import exchange umbra-exchange.json umbra-lync.json --fqdn umbra.contoso.test > umbra.toml
  umbra import lync umbra-lync.json >> umbra.toml
  umbra import ldap -c umbra.toml")]
pub(super) struct ImportArgs {
    /// Whose output it is, or `ldap`: what the directory of the configuration shows now
    #[arg(value_enum)]
    from: Origin,
    /// What Get-UMDialPlan, Get-CsPool, … and ConvertTo-Json printed; `umbra export powershell --collect` prints the script
    #[arg(required_if_eq_any([("from", "exchange"), ("from", "lync")]), value_name = "FILE.json")]
    files: Vec<PathBuf>,
    /// Configuration with a [directory]; without it ./umbra.toml, then /etc/umbra/umbra.toml
    #[arg(short, long, value_name = "FILE", conflicts_with = "files")]
    config: Option<PathBuf>,
    /// FQDN of this gateway, as in its certificate
    #[arg(long, value_name = "NAME")]
    fqdn: Option<String>,
}

/// Where objects come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Origin {
    /// Exchange Management Shell.
    Exchange,
    /// Lync or Skype for Business Management Shell.
    Lync,
    /// The directory that `[directory]` names.
    Ldap,
}

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    #[command(subcommand)]
    verb: ExportVerb,
}

#[derive(Debug, Subcommand)]
enum ExportVerb {
    /// Print cmdlets for Exchange or Lync, each with a comment that says what it changes
    Powershell(PowershellArgs),
}

#[derive(Debug, Args)]
#[command(before_help = "Examples:
  umbra export powershell --side exchange -c umbra.toml
  umbra export powershell --side lync --collect > collect.ps1")]
struct PowershellArgs {
    /// In whose shell they are typed; --collect without it prints both scripts
    #[arg(long, value_enum, required_unless_present = "collect")]
    side: Option<Side>,
    /// Print the script that collects what `import` and `drift` read; it changes nothing
    #[arg(long)]
    collect: bool,
    /// Configuration; without it ./umbra.toml, then /etc/umbra/umbra.toml
    #[arg(short, long, value_name = "FILE", conflicts_with = "collect")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(before_help = "Examples:
  umbra drift umbra-exchange.json umbra-lync.json -c umbra.toml
  umbra drift umbra-exchange.json -o json
  umbra drift --ldap -c umbra.toml")]
pub(super) struct DriftArgs {
    /// Fresh output of the script that `umbra export powershell --collect` prints
    #[arg(required_unless_present = "ldap", value_name = "FILE.json")]
    files: Vec<PathBuf>,
    /// Compare the file with what its [directory] shows now; the file's objects win where both have one
    #[arg(long, conflicts_with = "files")]
    ldap: bool,
    /// Configuration; without it ./umbra.toml, then /etc/umbra/umbra.toml
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn import(screen: &Screen, arguments: &ImportArgs) -> Exit {
    let side = match arguments.from {
        Origin::Exchange => Side::Exchange,
        Origin::Lync => Side::Lync,
        Origin::Ldap => return import_live(screen, arguments),
    };
    let found = match read(screen, &arguments.files) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    if !found.has_side(side) {
        screen.story(&format!("nothing in the files is of {side:?}; everything that is known was taken"));
    }
    told(screen, &found, arguments);
    Exit::Fine
}

fn told(screen: &Screen, found: &Imported, arguments: &ImportArgs) {
    found.remarks.iter().for_each(|remark| screen.story(&escaped(remark)));
    screen.data(&directory::to_toml(found, &Frame { fqdn: arguments.fqdn.clone() }));
}

/// What the directory shows, in words of the configuration, or as the cmdlets would print it.
fn import_live(screen: &Screen, arguments: &ImportArgs) -> Exit {
    let view = match live(screen, arguments.config.as_deref()) {
        Ok((_, view)) => view,
        Err(exit) => return exit,
    };
    match (screen.form, view.objects(&Value::Null)) {
        (Format::Json, _) => screen.json(view.documents()),
        (_, Ok(found)) => told(screen, &found, arguments),
        (_, Err(failure)) => return failed(screen, &failure),
    }
    Exit::Fine
}

/// The configuration's file, and what its directory shows now.
fn live(screen: &Screen, named: Option<&Path>) -> Result<(PathBuf, View), Exit> {
    let path = load::locate(screen, named)?;
    let configured = config::directory_of(&path).map_err(|problems| {
        screen.story(&load::rendered(&problems.list, screen.story));
        Exit::BadConfiguration
    })?;
    let Some((from, _)) = configured else {
        // What is wrong with the section, or that there is none.
        let problems = config::load(&path).err().map(|problems| load::rendered(&problems.list, screen.story));
        let none = || escaped(&format!("{}: there is no [directory]", path.display()));
        screen.story(&problems.unwrap_or_else(none));
        return Err(Exit::BadConfiguration);
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let read = runtime.map(|runtime| runtime.block_on(directory::read_directory(&from)));
    match read {
        Ok(Ok(view)) => Ok((path, view)),
        Ok(Err(failure)) => Err(failed(screen, &failure)),
        Err(error) => {
            screen.story(&escaped(&error.to_string()));
            Err(Exit::Failed)
        }
    }
}

fn failed(screen: &Screen, failure: &Failure) -> Exit {
    let fix = failure.code.entry().remedy();
    screen.story(&escaped_lines(&format!("{failure}  {}\n{fix}", failure.code)));
    Exit::Failed
}

pub(super) fn export(screen: &Screen, arguments: &ExportArgs) -> Exit {
    let ExportVerb::Powershell(arguments) = &arguments.verb;
    let sides = arguments.side.map_or_else(|| vec![Side::Exchange, Side::Lync], |side| vec![side]);
    if arguments.collect {
        sides.iter().for_each(|side| screen.data(&directory::collector(*side)));
        return Exit::Fine;
    }
    match tree(screen, arguments.config.as_deref()) {
        Ok(tree) => {
            sides.iter().for_each(|side| screen.data(&directory::export(*side, &tree)));
            Exit::Fine
        }
        Err(exit) => exit,
    }
}

pub(super) fn drift(screen: &Screen, arguments: &DriftArgs) -> Exit {
    let all = match arguments.ldap {
        true => live_drift(screen, arguments.config.as_deref()),
        false => file_drift(screen, arguments),
    };
    let all = match all {
        Ok(all) => all,
        Err(exit) => return exit,
    };
    match screen.form {
        Format::Json => screen.json(&all),
        Format::Table | Format::Junit => screen.data(&text(&all, screen.data)),
    }
    if all.is_empty() { Exit::Fine } else { Exit::Failed }
}

fn file_drift(screen: &Screen, arguments: &DriftArgs) -> Result<Vec<Drift>, Exit> {
    let tree = tree(screen, arguments.config.as_deref())?;
    Ok(directory::drift(&read(screen, &arguments.files)?, &tree))
}

/// What stands in the directory alone is taken from there, so it is no drift.
fn live_drift(screen: &Screen, named: Option<&Path>) -> Result<Vec<Drift>, Exit> {
    let (path, view) = live(screen, named)?;
    let tree = config::tree(&path).map_err(|problems| {
        screen.story(&load::rendered(&problems.list, screen.story));
        Exit::BadConfiguration
    })?;
    let found = view.objects(&tree).map_err(|failure| failed(screen, &failure))?;
    let mut all = directory::drift(&found, &tree);
    all.retain(|drift| drift.code != codes::DRIFT_MISSING);
    Ok(all)
}

/// The words of a configuration whose objects can be used, with those of its directory as they were read last. Its certificate files
/// need not be here: they lie with the gateway, not where cmdlets are written and compared.
fn tree(screen: &Screen, named: Option<&Path>) -> Result<Value, Exit> {
    let path = load::locate(screen, named)?;
    let refused = |list: &[Problem]| {
        screen.story(&load::rendered(list, screen.story));
        Exit::BadConfiguration
    };
    if let Err(problems) = config::load(&path) {
        let of_objects =
            |problem: &&Problem| problem.severity == Severity::Error && problem.code != codes::FILE_UNUSABLE;
        let of_objects: Vec<Problem> = problems.list.iter().filter(of_objects).cloned().collect();
        if !of_objects.is_empty() {
            return Err(refused(&of_objects));
        }
        screen.story("certificate files of the configuration are not here; its objects do not need them");
    }
    config::whole_tree(&path).map_err(|problems| refused(&problems.list))
}

fn read(screen: &Screen, files: &[PathBuf]) -> Result<Imported, Exit> {
    let refused = |code: Code, what: String| {
        screen.story(&escaped_lines(&format!("{what}  {code}\n{}", code.entry().fix_umbra)));
        Exit::Failed
    };
    let mut documents = Vec::new();
    for file in files {
        let read = directory::read(file);
        documents
            .push(read.map_err(|why| refused(codes::IMPORT_FILE, format!("{}: {why}", file.display())))?);
    }
    let found =
        directory::collect(&documents).map_err(|trouble| refused(codes::IMPORT_VALUE, trouble.what))?;
    match found.is_empty() {
        true => Err(refused(codes::IMPORT_EMPTY, "nothing in the files is known".to_owned())),
        false => Ok(found),
    }
}

fn text(all: &[Drift], style: Style) -> String {
    let mut out = String::new();
    for Drift { code, table, name, key, here, there } in all {
        let name = escaped(name);
        let what = match key.as_str() {
            "" => code.entry().title.to_owned(),
            key => format!("{key}: here {}, there {}", shown(here), shown(there)),
        };
        out.push_str(&format!("{}  {table} {name}: {what}\n", style.paint(Tone::Odd, code.as_str())));
    }
    match all.len() {
        0 => style.paint(Tone::Good, "no difference"),
        1 => format!("{out}1 difference     umbra explain <code>"),
        count => format!("{out}{count} differences     umbra explain <code>"),
    }
}

fn shown(value: &str) -> String {
    if value.is_empty() { "nothing".to_owned() } else { escaped(value) }
}
