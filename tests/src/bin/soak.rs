//! Months of calls in minutes: `cargo run --release -p umbra-tests --bin soak -- --calls 1000000`.

use std::process::ExitCode;
use std::time::Instant;

use umbra_tests::soak::{Plan, run};

const USAGE: &str = "soak [--calls N] [--days N] [--lanes N] [--seed N] [--twice]";

struct Wish {
    plan: Plan,
    twice: bool,
}

fn wish() -> Option<Wish> {
    let mut wish = Wish { plan: Plan { calls: 10_000, days: 30, lanes: 2, seed: 1 }, twice: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--twice" {
            wish.twice = true;
            continue;
        }
        let number = words.next()?.parse().ok()?;
        match word.as_str() {
            "--calls" => wish.plan.calls = number,
            "--days" => wish.plan.days = number,
            "--lanes" => wish.plan.lanes = number,
            "--seed" => wish.plan.seed = number,
            _ => return None,
        }
    }
    (wish.plan.lanes > 0 && wish.plan.days > 0).then_some(wish)
}

fn main() -> ExitCode {
    let Some(wish) = wish() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let mut hashes = Vec::new();
    for _ in 0..1 + u64::from(wish.twice) {
        let began = Instant::now();
        match run(wish.plan) {
            Ok(tale) => {
                hashes.push(tale.hash);
                println!(
                    "{} calls ({} answered), {:.1} simulated days, {} steps, {:.1} s of wall time, 0 leaks, trace {:016x}",
                    tale.placed,
                    tale.counts.answered,
                    tale.simulated.as_secs_f64() / 86_400.0,
                    tale.steps,
                    began.elapsed().as_secs_f64(),
                    tale.hash
                );
            }
            Err(story) => {
                eprintln!("{story}");
                return ExitCode::FAILURE;
            }
        }
    }
    if hashes.windows(2).any(|pair| pair[0] != pair[1]) {
        eprintln!("the same seed told another story");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
