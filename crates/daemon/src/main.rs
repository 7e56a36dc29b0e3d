//! The `umbra` binary: nothing but the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    umbra::cli::main(std::env::args_os(), &[&umbra::demo::Demo, &umbra::labs::Lab])
}
