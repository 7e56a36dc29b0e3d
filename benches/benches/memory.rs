//! Allocations per operation, and what one more held call costs: bytes of memory, and time of the calls that come and
//! go beside it.
//!
//! ```text
//! cargo bench -p umbra-benches --bench memory               both tables
//! …/memory-<hash> held CALLS                                the second table, one row
//! ```

use std::alloc::System;
use std::hint::black_box;
use std::time::Instant;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use umbra_benches::{Held, NAMES, Scenario, Work, prepare};

#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const HELD: [usize; 4] = [10, 1_000, 5_000, 10_000];
/// Calls that come and go while the others are held.
const PASSING: usize = 2_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["held", calls] => print_held(calls.parse().unwrap_or(1)),
        _ => {
            println!("{:<22} {:>12} {:>12}", "per operation", "allocations", "bytes");
            NAMES.iter().filter_map(|name| prepare(name)).for_each(print_allocations);
            println!();
            println!(
                "{:<22} {:>14} {:>14} {:>14}",
                "held calls", "bytes at once", "bytes later", "us per call"
            );
            HELD.into_iter().for_each(print_held);
        }
    }
}

fn print_allocations(mut work: Work) {
    black_box((work.run)());
    let region = Region::new(COUNTING);
    black_box((work.run)());
    let Stats { allocations, reallocations, bytes_allocated, .. } = region.change();
    let each = |total: usize| total as f64 / work.per_run as f64;
    println!("{:<22} {:>12.1} {:>12.0}", work.name, each(allocations + reallocations), each(bytes_allocated));
}

/// Bytes that are in use now.
fn in_use() -> isize {
    let stats = COUNTING.stats();
    stats.bytes_allocated as isize - stats.bytes_deallocated as isize
}

/// `at once`: all calls are up, their transactions linger (RFC 6026). `later`: nothing but the calls is left.
fn print_held(calls: usize) {
    let Held { trace, held, passing } = Held::record(Scenario::Sealed, calls, PASSING);
    let mut replay = trace.replay();
    replay.run_to(0);
    let empty = in_use();
    replay.run_to(1);
    let at_once = in_use() - empty;
    replay.run_to(2);
    let later = in_use() - empty;
    assert_eq!(replay.calls(), held, "every call is held");
    let start = Instant::now();
    replay.run_to(3);
    let each = start.elapsed().as_nanos() as f64 / passing as f64 / 1000.0;
    let per_call = |bytes: isize| bytes / held as isize;
    println!("{held:<22} {:>14} {:>14} {each:>14.1}", per_call(at_once), per_call(later));
    replay.run();
    assert_eq!(replay.calls(), 0, "every call ended");
}
