//! Time per operation, and repetitions on demand for counting instructions from outside.
//!
//! ```text
//! cargo bench -p umbra-benches --bench time                 every piece of work
//! …/time-<hash> repeat NAME RUNS                            nothing but RUNS repetitions of one
//! ```

use std::hint::black_box;
use std::time::{Duration, Instant};

use umbra_benches::{NAMES, Work, growth, prepare};

/// Rounds whose fastest counts: on a busy machine the others measure the neighbours.
const ROUNDS: usize = 15;
/// Shortest round.
const ROUND: Duration = Duration::from_millis(40);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["repeat", name, runs] => repeat(name, runs.parse().unwrap_or(1)),
        _ => {
            NAMES.iter().filter_map(|name| prepare(name)).for_each(print_time);
            println!("\n{:<22} {:>10} {:>10} {:>7}", "twice the input", "16 KiB", "32 KiB", "ratio");
            growth::SHAPES.into_iter().for_each(print_growth);
        }
    }
}

/// Prints how many operations were done: what is counted outside is divided by the difference of two runs.
fn repeat(name: &str, runs: usize) {
    let Some(mut work) = prepare(name) else {
        eprintln!("no such work: {name}; there are {}", NAMES.join("; "));
        std::process::exit(2);
    };
    for _ in 0..runs {
        black_box((work.run)());
    }
    println!("{}", work.per_run * runs);
}

fn print_time(mut work: Work) {
    let once = time(&mut work, 1);
    let runs = (ROUND.as_nanos() / once.as_nanos().max(1)).max(1) as usize;
    let best = (0..ROUNDS).map(|_| time(&mut work, runs)).min().unwrap_or_default();
    let each = best.as_nanos() as f64 / (runs * work.per_run) as f64;
    println!("{:<22} {:>10.0} ns", work.name, each);
}

/// A session description longer than 32 KiB is refused unread, so the longer input is that long.
fn print_growth(shape: &str) {
    let [half, whole] = [16, 32].map(|kib| {
        let input = growth::input(shape, kib * 1024).unwrap_or_default();
        let once = || {
            let start = Instant::now();
            black_box(growth::read(shape, black_box(&input)));
            start.elapsed()
        };
        (0..ROUNDS * 4).map(|_| once()).min().unwrap_or_default().as_nanos() as f64
    });
    println!("{shape:<22} {half:>7.0} ns {whole:>7.0} ns {:>7.2}", whole / half.max(1.0));
}

fn time(work: &mut Work, runs: usize) -> Duration {
    let start = Instant::now();
    for _ in 0..runs {
        black_box((work.run)());
    }
    start.elapsed()
}
