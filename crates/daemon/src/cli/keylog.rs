//! `--keylog FILE` and SSLKEYLOGFILE: the one way in which secrets leave a command, and the words that say so loudly.

use std::path::PathBuf;

use b2bua::codes;
use clap::Args;

use super::screen::{Screen, Tone, escaped, escaped_lines};
use super::{Exit, wrapped};
use crate::tls::keylog;

/// Browsers, curl and Wireshark call it so.
const VARIABLE: &str = "SSLKEYLOGFILE";
/// Width of the warning.
const WIDTH: usize = 100;

/// Taken by every command that speaks TLS.
#[derive(Args, Clone, Debug, Default)]
pub struct KeyLogArgs {
    /// Write the secrets of every TLS connection to FILE, for Wireshark; SSLKEYLOGFILE does the same
    #[arg(long, value_name = "FILE")]
    keylog: Option<PathBuf>,
}

impl KeyLogArgs {
    /// Opens the file, if one is wanted, and warns. Comes before the first handshake.
    ///
    /// # Errors
    /// It cannot be used; the reason was said.
    pub fn open(&self, screen: &Screen) -> Result<(), Exit> {
        let variable = std::env::var_os(VARIABLE).filter(|value| !value.is_empty());
        let Some(path) = self.keylog.clone().or(variable.map(PathBuf::from)) else { return Ok(()) };
        if let Err(error) = keylog::open(&path) {
            let word = if self.keylog.is_some() { "--keylog" } else { VARIABLE };
            screen.story(&escaped_lines(&format!("{word} {}: {error}", path.display())));
            return Err(Exit::Failed);
        }
        screen.story(&warning(screen));
        Ok(())
    }
}

fn warning(screen: &Screen) -> String {
    let path = keylog::path().map_or_else(String::new, |path| escaped(&path.display().to_string()));
    let entry = codes::KEYS_LOGGED.entry();
    let head = format!("WARNING: THE SECRETS OF EVERY TLS CONNECTION ARE WRITTEN TO {path}");
    let mut out = format!("{}  {}\n", screen.story.paint(Tone::Bad, &head), codes::KEYS_LOGGED);
    out.push_str(&wrapped(entry.cause, 4, WIDTH));
    out.push_str(&wrapped(entry.fix_umbra, 4, WIDTH));
    out
}
