//! Crossing messages in many orders each. `UMBRA_RACE_ORDERS` says in how many; releases are measured with 10000.

#![allow(clippy::expect_used, clippy::panic)] // a test fails by panicking

use umbra_tests::pair::races::RACES;

/// Orders of each race when nobody says otherwise.
const ORDERS: u64 = 1_000;

fn run(name: &str) {
    let orders =
        std::env::var("UMBRA_RACE_ORDERS").ok().and_then(|value| value.parse().ok()).unwrap_or(ORDERS);
    let race = RACES.iter().find(|race| race.name == name).expect("is a race");
    for seed in 0..orders {
        race.run(seed).unwrap_or_else(|story| panic!("{story}"));
    }
    println!("{name}: {orders} orders");
}

#[test]
fn a_cancel_that_meets_the_answer_ends_both_legs() {
    run("CANCEL and 200");
}

#[test]
fn a_cancel_that_meets_a_late_180_and_the_answer_ends_both_legs() {
    run("CANCEL, late 180 and 200");
}

#[test]
fn byes_that_cross_are_both_answered_200() {
    run("BYE and BYE");
}

#[test]
fn a_bye_that_meets_a_re_invite_ends_both_legs() {
    run("BYE of the server and re-INVITE of the caller");
    run("BYE of the caller and re-INVITE of the server");
}

#[test]
fn re_invites_that_cross_leave_the_call_as_it_is() {
    run("re-INVITE and re-INVITE");
}

#[test]
fn of_two_forks_that_answer_one_is_the_call_and_one_is_ended() {
    run("answers of two forks");
}

#[test]
fn forks_that_answer_a_cancelled_call_are_ended_all() {
    run("answers of two forks and CANCEL");
}

#[test]
fn a_late_18x_of_a_fork_reaches_nobody_after_the_answer() {
    run("late 18x of a fork that lost");
}
