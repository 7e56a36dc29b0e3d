//! The `umbra` binary: nothing but the command line.

fn main() {}
