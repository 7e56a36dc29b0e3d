//! CPU per call of the real binary and, beside it in the same run, of Kamailio as a stateful TLS proxy: one generator plays the pool and the
//! UM server over one TLS connection each, the subject in between is a process of its own. Owns the order of measurements; traffic,
//! processes and what they used are `load`'s.
//!
//! ```text
//!   generator ══ TLS ══▶ umbra | kamailio ══ TLS ══▶ generator
//!   INVITE, 180, 200, ACK, hold, BYE, 200 with SDP; no media
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod figures;
mod options;

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
            eprintln!("signalling: {why}");
            ExitCode::FAILURE
        }
    }
}
