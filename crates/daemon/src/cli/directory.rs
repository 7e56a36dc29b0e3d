//! `umbra import`, `umbra export`, `umbra drift`: between a configuration and what Exchange and Lync keep. Owns the words and
//! exit codes; reading, writing and comparing is `directory`'s.

use std::path::{Path, PathBuf};

use b2bua::{Code, codes};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::screen::{Format, Screen, Style, Tone, escaped};
use super::{Exit, escaped_lines, load};
use crate::config::{self, Problem, Severity};
use crate::directory::{self, Drift, Frame, Imported, Side};

#[derive(Debug, Args)]
#[command(before_help = "Examples:
  umbra import exchange umbra-exchange.json > umbra.toml
  umbra import exchange umbra-exchange.json umbra-lync.json --fqdn umbra.contoso.test > umbra.toml
  umbra import lync umbra-lync.json >> umbra.toml")]
pub(super) struct ImportArgs {
    /// Whose output it is
    #[arg(value_enum)]
    side: Side,
    /// What Get-UMDialPlan, Get-CsPool, … and ConvertTo-Json printed; `umbra export powershell --collect` prints the script
    #[arg(required = true, value_name = "FILE.json")]
    files: Vec<PathBuf>,
    /// FQDN of this gateway, as in its certificate
    #[arg(long, value_name = "NAME")]
    fqdn: Option<String>,
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
  umbra drift umbra-exchange.json -o json")]
pub(super) struct DriftArgs {
    /// Fresh output of the script that `umbra export powershell --collect` prints
    #[arg(required = true, value_name = "FILE.json")]
    files: Vec<PathBuf>,
    /// Configuration; without it ./umbra.toml, then /etc/umbra/umbra.toml
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) fn import(screen: &Screen, arguments: &ImportArgs) -> Exit {
    let found = match read(screen, &arguments.files) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    if !found.has_side(arguments.side) {
        screen.story(&format!(
            "nothing in the files is of {:?}; everything that is known was taken",
            arguments.side
        ));
    }
    found.remarks.iter().for_each(|remark| screen.story(&escaped(remark)));
    screen.data(&directory::to_toml(&found, &Frame { fqdn: arguments.fqdn.clone() }));
    Exit::Fine
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
    let tree = match tree(screen, arguments.config.as_deref()) {
        Ok(tree) => tree,
        Err(exit) => return exit,
    };
    let found = match read(screen, &arguments.files) {
        Ok(found) => found,
        Err(exit) => return exit,
    };
    let all = directory::drift(&found, &tree);
    match screen.form {
        Format::Json => screen.json(&all),
        Format::Table | Format::Junit => screen.data(&text(&all, screen.data)),
    }
    if all.is_empty() { Exit::Fine } else { Exit::Failed }
}

/// The words of a configuration whose objects can be used. Its certificate files need not be here: they lie with the gateway, not where
/// cmdlets are written and compared.
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
    config::tree(&path).map_err(|problems| refused(&problems.list))
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
