//! `umbra check`: every problem of a configuration at once. Owns the exit code; the findings are `config`'s.

use std::path::{Path, PathBuf};

use clap::Args;

use super::screen::{Format, Screen, Style, Tone, escaped};
use super::{Exit, load};
use crate::config::{self, Problem};

#[derive(Debug, Args)]
#[command(before_help = "Examples:
  umbra check umbra.toml
  umbra check --deny-warnings -o json /etc/umbra/umbra.toml")]
pub(super) struct CheckArgs {
    /// Configuration; without it ./umbra.toml, then /etc/umbra/umbra.toml
    file: Option<PathBuf>,
    /// The same as FILE
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// Exit 3 when there are warnings
    #[arg(long)]
    deny_warnings: bool,
}

pub(super) fn run(screen: &Screen, arguments: &CheckArgs) -> Exit {
    let path = match load::locate(screen, arguments.file.as_deref().or(arguments.config.as_deref())) {
        Ok(path) => path,
        Err(exit) => return exit,
    };
    let deny = if arguments.deny_warnings { Deny::Warnings } else { Deny::Errors };
    check(screen, &path, deny)
}

/// From which severity on a check fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Deny {
    Errors,
    Warnings,
}

/// Checks one file; what was found is the data.
pub(super) fn check(screen: &Screen, path: &Path, deny: Deny) -> Exit {
    let (list, exit) = match config::load(path) {
        Ok(compiled) if compiled.warnings.is_empty() || deny == Deny::Errors => {
            (compiled.warnings, Exit::Fine)
        }
        Ok(compiled) => (compiled.warnings, Exit::Warnings),
        Err(problems) => (problems.list, Exit::BadConfiguration),
    };
    match screen.form {
        Format::Json => screen.json(&list),
        Format::Table | Format::Junit => screen.data(&text(path, &list, exit, screen.data)),
    }
    exit
}

fn text(path: &Path, list: &[Problem], exit: Exit, style: Style) -> String {
    let verdict = match exit {
        Exit::Fine => style.paint(Tone::Good, "configuration is fine"),
        Exit::Warnings => style.paint(Tone::Odd, "warnings, which --deny-warnings takes for errors"),
        _ => style.paint(Tone::Bad, "configuration cannot be used"),
    };
    let verdict = format!("{}: {verdict}", escaped(&path.display().to_string()));
    match list {
        [] => verdict,
        list => format!("{}\n{verdict}", load::rendered(list, style)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(text: &str) -> Exit {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("umbra.toml");
        std::fs::write(&path, text).unwrap();
        check(&Screen::default(), &path, Deny::Errors)
    }

    #[test]
    fn a_broken_file_a_missing_file_and_an_empty_one_are_bad_configurations() {
        assert_eq!(check_text("this is not TOML"), Exit::BadConfiguration);
        assert_eq!(check_text(""), Exit::BadConfiguration);
        let missing = Path::new("/nonexistent/umbra.toml");
        assert_eq!(check(&Screen::default(), missing, Deny::Errors), Exit::BadConfiguration);
    }

    #[test]
    fn every_problem_of_a_file_is_shown_with_place_code_and_fix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("umbra.toml");
        std::fs::write(&path, "[gateway]\nfqdm = \"x\"\n[listen]\nstartup_mode = \"Both\"\n").unwrap();
        let problems = config::load(&path).unwrap_err();
        let shown = text(&path, &problems.list, Exit::BadConfiguration, Style::Plain);
        for words in ["umbra.toml:2:1", "UMB-CFG002", "fqdm", "startup_mode", "Fix: ", "cannot be used"] {
            assert!(shown.contains(words), "{words} is missing in\n{shown}");
        }
    }
}
