//! Pairs of SIPp scenarios around the real binary: every pair states a requirement and plays it with a caller on one side
//! and a UM server on the other, over TCP on an Unsecured dial plan. A family shares one gateway process and its settings.
//! `UMBRA_PAIR=words` plays only the pairs whose name contains them.

mod early;
mod ends;
mod inside;
mod lane;
mod offers;
mod outside;
mod refusals;
mod script;
mod timers;
mod transfers;

use crate::harness::peers_present;
use lane::{Pair, run};
use script::first;

#[test]
fn a_pair_whose_expectation_is_wrong_fails_and_shows_what_came() {
    if !peers_present(&["sipp"]) {
        return;
    }
    let refused = |s: script::Script| s.gets("INVITE").says(404).gets("ACK");
    let wrong = [
        Pair::new("another status").caller(|s| s.invite().hears(486).acks_refusal()).server(refused),
        Pair::new("a header that is not there")
            .caller(|s| s.invite().hears(404).has("X-Missing: ").acks_refusal())
            .server(refused),
        Pair::new("silence that is broken")
            .caller(|s| s.calls().quiet(500).hangs_up())
            .server(|s| s.answers_and_waits().sends("INFO").hears(200).awaits_bye()),
        Pair::new("another record")
            .caller(|s| s.calls().hangs_up())
            .server(|s| s.gets("INVITE").says_with(200, "", &first()).gets("ACK").awaits_bye())
            .record("/drop_reason", "GracefulHangup"),
    ];
    let failed = std::panic::catch_unwind(|| run("", &wrong)).unwrap_err();
    let text = failed.downcast_ref::<String>().unwrap();
    for what in [
        "=== another status",
        "SIP/2.0 404",
        "=== a header",
        "X-Missing",
        "=== silence",
        "INFO",
        "=== another record",
    ] {
        assert!(text.contains(what), "{what} is missing in:\n{text}");
    }
}
