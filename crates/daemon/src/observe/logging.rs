//! Set-up of `tracing`: pretty on a terminal, JSON lines otherwise, always on stderr. Owns the format choice; refuses
//! to know who logs what.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

/// How lines look.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// When lines are coloured.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum LogColour {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What is logged and how.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LogSettings {
    /// A filter such as `info` or `umbra=debug,info`; `UMBRA_LOG` in the environment wins.
    pub filter: String,
    /// The look.
    pub format: LogFormat,
    /// The colours.
    pub colour: LogColour,
}

/// Environment variable that overrides the configured filter.
const FILTER_VARIABLE: &str = "UMBRA_LOG";

/// Installs the subscriber of the process; a second call changes nothing.
pub fn init_logging(settings: &LogSettings) {
    let configured = if settings.filter.is_empty() { "info" } else { settings.filter.as_str() };
    let wanted = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| configured.to_owned());
    let filter = EnvFilter::try_new(&wanted).unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let colour = match settings.colour {
        LogColour::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        LogColour::Always => true,
        LogColour::Never => false,
    };
    let pretty = match settings.format {
        LogFormat::Auto => terminal,
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let base = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_timer(SystemTime)
        .with_ansi(colour);
    // Fails only when a subscriber is installed already, as in tests and in `umbra demo`.
    let _already = if pretty {
        base.compact().with_target(false).try_init()
    } else {
        base.json().flatten_event(true).with_current_span(false).try_init()
    };
}
