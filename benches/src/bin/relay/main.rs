//! What relaying costs the gateway's media threads and, in the same run, rtpengine in user space: on-CPU time per packet, added
//! delay and jitter, loss, memory per session. Owns the order of rounds and the tables.
//!
//! ```text
//!   generator: A ends ── 50/s ──▶ ┌───────┐ ── 50/s ──▶ B ends :generator
//!                     ◀── 50/s ── │ relay │ ◀── 50/s ──
//!                                 └───────┘
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod figures;
mod host;
mod keys;
mod ng;
mod options;
mod sockets;
mod subject;
mod traffic;

use std::process::ExitCode;

use options::Options;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // Our own child.
        ["host", address, threads] => match (address.parse(), threads.parse()) {
            (Ok(address), Ok(threads)) => host::run(address, threads),
            _ => Err("host ADDRESS THREADS".into()),
        },
        _ => match Options::read(arguments.into_iter()) {
            Ok(options) => figures::run(&options),
            Err(why) => {
                eprintln!("{why}");
                return ExitCode::from(2);
            }
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("relay: {why}");
            ExitCode::FAILURE
        }
    }
}
