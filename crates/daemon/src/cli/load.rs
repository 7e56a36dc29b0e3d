//! Finding, compiling and judging the configuration for every command that needs one. Owns what is said when there is
//! none; refuses to know what a setting means.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use b2bua::Policy;

use super::{Exit, output};
use crate::config::{self, Compiled};
use crate::observe::LogSettings;
use crate::run::Settings;

/// A configuration without errors.
pub(super) struct Loaded {
    pub(super) path: PathBuf,
    pub(super) compiled: Compiled,
}

/// The file that is meant: the one named, or the first of the usual ones that exists.
pub(super) fn locate(named: Option<&Path>) -> Result<PathBuf, Exit> {
    if let Some(path) = named.map(Path::to_owned).or_else(config::find_file) {
        return Ok(path);
    }
    output::story(&format!(
        "no configuration: looked for {}\n\
         Name one with -c FILE, or try `umbra demo`, which needs none.",
        config::DEFAULT_FILES
            .map(|file| if file.starts_with('/') { file.to_owned() } else { format!("./{file}") })
            .join(", then ")
    ));
    Err(Exit::BadConfiguration)
}

/// Compiles it; problems go to stderr.
pub(super) fn compiled(named: Option<&Path>) -> Result<Loaded, Exit> {
    let path = locate(named)?;
    match config::load(&path) {
        Ok(compiled) => {
            if !compiled.warnings.is_empty() {
                output::story(config::render(&compiled.warnings).trim_end());
            }
            Ok(Loaded { path, compiled })
        }
        Err(problems) => {
            output::story(problems.to_text().trim_end());
            Err(Exit::BadConfiguration)
        }
    }
}

/// Compiles the same file anew, for a reload.
pub(super) fn again(path: &Path) -> Result<Settings, String> {
    match config::load(path) {
        Ok(compiled) => Ok(Settings::from(&compiled)),
        Err(problems) => Err(problems.to_text()),
    }
}

pub(super) fn policy(compiled: &Compiled) -> Arc<Policy> {
    compiled.policy.clone()
}

pub(super) fn log_settings(compiled: &Compiled) -> LogSettings {
    use crate::observe::LogFormat;
    let format = match compiled.observe.log_format {
        config::LogFormat::Auto => LogFormat::Auto,
        config::LogFormat::Pretty => LogFormat::Pretty,
        config::LogFormat::Json => LogFormat::Json,
    };
    LogSettings { filter: compiled.observe.log_level.clone(), format }
}
