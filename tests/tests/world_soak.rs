//! The simulated soak at the size of a test run. `UMBRA_SOAK_CALLS` says how many calls; releases are measured with the command
//! `cargo run --release -p umbra-tests --bin soak -- --calls 1000000`.

#![allow(clippy::panic)] // a test fails by panicking

use umbra_tests::soak::{Plan, Tale, run};

/// Calls when nobody says otherwise.
const CALLS: u64 = 10_000;
/// Calls of the story that is told twice.
const CALLS_TWICE: u64 = 500;

fn tell(plan: Plan) -> Tale {
    run(plan).unwrap_or_else(|story| panic!("{story}"))
}

#[test]
fn a_month_of_bad_luck_leaks_nothing() {
    let calls = std::env::var("UMBRA_SOAK_CALLS").ok().and_then(|value| value.parse().ok()).unwrap_or(CALLS);
    let tale = tell(Plan { calls, days: 30, lanes: 2, seed: 1 });
    println!("{tale:?}");
    assert_eq!(tale.placed, calls);
    // The luck must not be so bad that nothing is tested.
    assert!(tale.counts.answered > calls / 2, "{}", tale.counts.answered);
    assert!(tale.simulated.as_secs() >= 30 * 86_400);
}

#[test]
fn a_seed_tells_the_same_month_again() {
    let plan = Plan { calls: CALLS_TWICE, days: 2, lanes: 2, seed: 3 };
    assert_eq!(tell(plan), tell(plan));
    assert_ne!(tell(plan).hash, tell(Plan { seed: 4, ..plan }).hash);
}
