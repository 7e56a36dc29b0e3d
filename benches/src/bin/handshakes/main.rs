//! What TLS costs the real binary: CPU per handshake, a pool that comes back with many connections at once while calls go on, and
//! memory per idle peer. Owns the order of measurements; traffic, processes and what they used are `load`'s.
//!
//! ```text
//!   generator ══ mutual TLS, full handshake, CRLF CRLF ══▶ umbra
//!             ◀══════════════════ CRLF ══════════════════   (RFC 5626 §3.5.1: only now both have verified each other)
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod figures;
mod options;
mod peers;

use std::process::ExitCode;

use options::Options;

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    match local.block_on(&runtime, figures::run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("handshakes: {why}");
            ExitCode::FAILURE
        }
    }
}
