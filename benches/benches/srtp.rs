//! Time and allocations per packet of speech, and repetitions on demand for counting instructions from outside.
//!
//! ```text
//! cargo bench -p umbra-benches --bench srtp                 the table
//! …/srtp-<hash> names                                       the cases
//! …/srtp-<hash> repeat NAME RUNS                            nothing but RUNS repetitions of one
//! ```

use std::alloc::System;
use std::hint::black_box;
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use umbra_benches::srtp::{Case, PACKETS_PER_RUN, cases};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Rounds whose fastest counts: on a busy machine the others measure the neighbours. They go round all cases, so
/// that a quiet moment is everybody's.
const ROUNDS: usize = 200;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["names"] => cases().iter().for_each(|case| println!("{}", case.name)),
        ["repeat", name, runs] => repeat(name, runs.parse().unwrap_or(1)),
        _ => table(),
    }
}

fn repeat(name: &str, runs: usize) {
    let Some(mut case) = cases().into_iter().find(|case| case.name == name) else {
        eprintln!("no such case: {name}");
        std::process::exit(2);
    };
    for _ in 0..runs {
        black_box(case.run());
    }
    println!("{}", PACKETS_PER_RUN * runs);
}

fn table() {
    let mut cases = cases();
    let mut best = vec![Duration::MAX; cases.len()];
    for _ in 0..ROUNDS {
        for (case, best) in cases.iter_mut().zip(&mut best) {
            let start = Instant::now();
            black_box(case.run());
            *best = start.elapsed().min(*best);
        }
    }
    println!("{:<36} {:>8} {:>12}", "172 octets of RTP", "ns", "allocations");
    for (case, best) in cases.iter_mut().zip(best) {
        let each = best.as_nanos() as f64 / PACKETS_PER_RUN as f64;
        let allocations = allocations(case);
        println!("{:<36} {each:>8.0} {allocations:>12.2}", case.name);
    }
}

/// Per packet: what a session costs once is less than a hundredth.
fn allocations(case: &mut Case) -> f64 {
    let region = Region::new(COUNTED);
    black_box(case.run());
    region.change().allocations as f64 / PACKETS_PER_RUN as f64
}
