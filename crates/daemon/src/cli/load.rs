//! Finding, compiling and judging the configuration for every command that needs one. Owns what is said when there is
//! none; refuses to know what a setting means.

use std::path::{Path, PathBuf};

use super::Exit;
use super::screen::{ColorChoice, Screen, Style, Tone, Volume, escaped_lines};
use crate::config::{self, Compiled, Problem};
use crate::observe::LogSettings;

/// The file that is meant: the one named, or the first of the usual ones that exists.
pub(super) fn locate(screen: &Screen, named: Option<&Path>) -> Result<PathBuf, Exit> {
    if let Some(path) = named.map(Path::to_owned).or_else(config::find_file) {
        return Ok(path);
    }
    screen.story(&format!(
        "no configuration: looked for {}\n\
         Name one with -c FILE, or try `umbra demo`, which needs none.",
        config::DEFAULT_FILES
            .map(|file| if file.starts_with('/') { file.to_owned() } else { format!("./{file}") })
            .join(", then ")
    ));
    Err(Exit::BadConfiguration)
}

/// Compiles it; errors go to stderr, warnings stay with the value.
pub(super) fn compiled(screen: &Screen, named: Option<&Path>) -> Result<Compiled, Exit> {
    let path = locate(screen, named)?;
    match config::load(&path) {
        Ok(compiled) => Ok(compiled),
        Err(problems) => {
            screen.story(&rendered(&problems.list, screen.story));
            Err(Exit::BadConfiguration)
        }
    }
}

/// Problems for people.
pub(crate) fn rendered(list: &[Problem], style: Style) -> String {
    let plain = escaped_lines(config::render(list).trim_end());
    let painted = plain.lines().map(|line| match line.split_once(' ') {
        Some((mark @ "error", rest)) => format!("{} {rest}", style.paint(Tone::Bad, mark)),
        Some((mark @ "warn", rest)) => format!("{} {rest}", style.paint(Tone::Odd, mark)),
        _ => line.to_owned(),
    });
    painted.collect::<Vec<_>>().join("\n")
}

/// The configured log, unless the words asked for more or less.
pub(super) fn log_settings(compiled: &Compiled, screen: &Screen) -> LogSettings {
    use crate::observe::{LogColour, LogFormat};
    let format = match compiled.observe.log_format {
        config::LogFormat::Auto => LogFormat::Auto,
        config::LogFormat::Pretty => LogFormat::Pretty,
        config::LogFormat::Json => LogFormat::Json,
    };
    let filter = match screen.volume {
        Volume::Quiet => "warn",
        Volume::Configured => compiled.observe.log_level.as_str(),
        Volume::Verbose => "umbra=debug,info",
        Volume::Everything => "umbra=trace,debug",
    };
    let colour = match screen.colour {
        ColorChoice::Auto => LogColour::Auto,
        ColorChoice::Always => LogColour::Always,
        ColorChoice::Never => LogColour::Never,
    };
    LogSettings { filter: filter.to_owned(), format, colour }
}
