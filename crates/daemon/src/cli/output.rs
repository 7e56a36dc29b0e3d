//! Writing to stdout and stderr: data to the one, story to the other. Owns what happens when nobody reads.

use std::io::Write;

use clap::ValueEnum;
use serde::Serialize;

/// Shape of data on stdout.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
}

/// Data. A reader that left early (`| head`) is no error.
pub(super) fn data(text: &str) {
    let mut out = std::io::stdout().lock();
    let _closed = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"));
}

/// Data as JSON.
pub(super) fn json(value: &impl Serialize) {
    match serde_json::to_string_pretty(value) {
        Ok(text) => data(&text),
        Err(error) => story(&format!("cannot be written as JSON: {error}")),
    }
}

/// What happened, for the person at the keyboard.
pub(super) fn story(text: &str) {
    let _closed = writeln!(std::io::stderr().lock(), "{text}");
}
