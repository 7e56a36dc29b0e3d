//! `umbra check`: every problem of a configuration at once. Owns the exit code; the findings are `config`'s.

use std::path::PathBuf;

use clap::Args;

use super::output::{self, Format};
use super::{Exit, load};
use crate::config;

#[derive(Debug, Args)]
#[command(before_help = "Examples:
  umbra check umbra.toml
  umbra check -o json --deny-warnings /etc/umbra/umbra.toml")]
pub(super) struct CheckArgs {
    /// Configuration; without it ./umbra.toml, then /etc/umbra/umbra.toml
    file: Option<PathBuf>,
    /// The same as FILE
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
    /// Exit 3 when there are warnings
    #[arg(long)]
    deny_warnings: bool,
    /// Shape of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) fn run(arguments: &CheckArgs) -> Exit {
    let path = match load::locate(arguments.file.as_deref().or(arguments.config.as_deref())) {
        Ok(path) => path,
        Err(exit) => return exit,
    };
    let (list, exit) = match config::load(&path) {
        Ok(compiled) if compiled.warnings.is_empty() || !arguments.deny_warnings => {
            (compiled.warnings, Exit::Fine)
        }
        Ok(compiled) => (compiled.warnings, Exit::Warnings),
        Err(problems) => (problems.list, Exit::BadConfiguration),
    };
    match arguments.output {
        Format::Json => output::json(&list),
        Format::Table if list.is_empty() => {
            output::data(&format!("{}: configuration is fine", path.display()))
        }
        Format::Table => output::data(config::render(&list).trim_end()),
    }
    exit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Exit {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("umbra.toml");
        std::fs::write(&path, text).unwrap();
        run(&CheckArgs { file: Some(path), config: None, deny_warnings: false, output: Format::Table })
    }

    #[test]
    fn a_broken_file_a_missing_file_and_an_empty_one_are_bad_configurations() {
        assert_eq!(check("this is not TOML"), Exit::BadConfiguration);
        assert_eq!(check(""), Exit::BadConfiguration);
        let missing = Some(PathBuf::from("/nonexistent/umbra.toml"));
        let arguments = CheckArgs { file: missing, config: None, deny_warnings: false, output: Format::Json };
        assert_eq!(run(&arguments), Exit::BadConfiguration);
    }
}
