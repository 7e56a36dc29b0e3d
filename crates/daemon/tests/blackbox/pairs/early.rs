//! Before the answer: provisional responses, reliable or not, on each leg by itself (RFC 3262), early media, early
//! dialogs, and requests inside them (RFC 3311).

use super::lane::{Pair, run};
use super::script::{first, sdp};

const RELIABLE: &str = "Require: 100rel\nRSeq: 7";
const RELIABLE_UPDATE: &str = "Require: 100rel\nRSeq: 7\nAllow: INVITE, ACK, BYE, CANCEL, PRACK, UPDATE";
const KNOWS: &str = "Supported: 100rel\nAllow: INVITE, ACK, BYE, CANCEL, PRACK, UPDATE, INFO";

#[test]
fn what_is_said_before_the_answer_crosses_as_each_leg_wants_it() {
    run("", &[provisional(), reliable(), order(), updates()].into_iter().flatten().collect::<Vec<_>>());
}

fn provisional() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3261 §13.2.1: a 180 without a description stays one")
            .caller(|s| s.invite().hears(180).lacks("m=audio").hears(200).has("m=audio").acks().hangs_up())
            .server(|s| s.gets("INVITE").says(180).quiet(50).says_with(200, "", &first()).gets("ACK").awaits_bye()),
        Pair::new("RFC 3960 §3: early media of a 183 is told, and the 200 says the same")
            .caller(|s| {
                let s = s.invite().hears(183).has("m=audio 2[0-9]{4} RTP/AVP 0 101");
                s.hears(200).has("m=audio 2[0-9]{4} RTP/AVP 0 101").acks().hangs_up()
            })
            .server(|s| {
                let s = s.gets("INVITE").says_with(183, "", &first()).quiet(50);
                s.says_with(200, "", &first()).gets("ACK").awaits_bye()
            }),
        Pair::new("RFC 3261 §12.1.2: two early dialogs of a fork are one for the caller, and the one that answers wins")
            .caller(|s| {
                let s = s.invite().hears(180).keeps("To", "early").hears(180).hears(200).acks();
                s.hangs_up()
            })
            .server(|s| {
                let s = s.gets("INVITE").says(180).says_as("fork", 180, "", "").quiet(100);
                let s = s.says_as("fork", 200, "", &first()).gets("ACK").has("To:.*tag=[0-9]+fork");
                s.gets("BYE").has("To:.*tag=[0-9]+fork").says(200)
            })
            .record("/offer_result", "Answer"),
        Pair::new("RFC 3261 §13.2.2.4: each fork's reliable 18x gets a PRACK of its own")
            .caller(|s| s.invite().hears(183).hears(183).hears(200).acks().hangs_up())
            .server(|s| {
                let s = s.gets("INVITE").says_with(183, RELIABLE, &first()).gets("PRACK").has("To:.*tag=[0-9]+s");
                let s = s.has("RAck: 7 1 INVITE").says(200).says_as("fork", 183, "Require: 100rel\nRSeq: 90", &first());
                let s = s.gets("PRACK").has("To:.*tag=[0-9]+fork").has("RAck: 90 1 INVITE").says(200);
                s.says_to("INVITE", 200, "", "").gets("ACK").awaits_bye()
            }),
    ]
}

fn reliable() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3262 §4: a reliable 18x of the server is acknowledged for a caller that knows nothing of it")
            .caller(|s| s.invite().hears(180).lacks("RSeq").lacks("Require").hears(200).acks().hangs_up())
            .server(|s| {
                let s = s.gets("INVITE").has("Supported: .*100rel").says_with(180, RELIABLE, "").gets("PRACK");
                let s = s.has("RAck: 7 1 INVITE").says(200).says_to("INVITE", 200, "", &first());
                s.gets("ACK").awaits_bye()
            }),
        Pair::new("RFC 3262 §3: a caller that requires 100rel gets the server's plain 180 reliably")
            .caller(|s| {
                let s = s.invite_with("Require: 100rel", &first()).hears(180).has("Require: 100rel").keeps("RSeq", "rseq");
                s.sends_with("PRACK", "RAck: [$rseq] 1 INVITE", "").hears(200).hears_to("INVITE", 200).acks().hangs_up()
            })
            .server(|s| {
                let s = s.gets("INVITE").lacks("Require: .*100rel").says(180).quiet(150);
                s.says_with(200, "", &first()).gets("ACK").awaits_bye()
            }),
        Pair::new("RFC 3262 §3: reliable on both legs, each with its own RSeq, the 200 without a second description")
            .caller(|s| {
                let s = s.invite_with(KNOWS, &first()).hears(183).has("Require: 100rel").has("m=audio").keeps("RSeq", "rseq");
                let s = s.sends_with("PRACK", "RAck: [$rseq] 1 INVITE", "").hears(200);
                s.hears_to("INVITE", 200).lacks("m=audio").acks().hangs_up()
            })
            .server(|s| {
                let s = s.gets("INVITE").says_with(183, RELIABLE, &first()).gets("PRACK").says(200).quiet(150);
                s.says_to("INVITE", 200, "", "").gets("ACK").awaits_bye()
            }),
        Pair::new("RFC 3262 §3: a PRACK whose RAck names nothing gets 481, the right one 200")
            .caller(|s| {
                let s = s.invite_with("Require: 100rel", &first()).hears(180).keeps("RSeq", "rseq");
                let s = s.sends_with("PRACK", "RAck: 1 1 INVITE", "").hears(481);
                s.sends_with("PRACK", "RAck: [$rseq] 1 INVITE", "").hears(200).hears_to("INVITE", 200).acks().hangs_up()
            })
            .server(|s| {
                let s = s.gets("INVITE").says(180).quiet(200);
                s.says_with(200, "", &first()).gets("ACK").awaits_bye()
            }),
        Pair::new("RFC 3262 §3: a reliable 18x without its PRACK is said again with the same RSeq after 500 ms")
            .caller(|s| {
                let s = s.invite_with("Require: 100rel", &first()).hears(180).keeps("RSeq", "rseq").quiet(300);
                let s = s.hears_to("INVITE", 180).keeps("RSeq", "again");
                let s = s.sends_with("PRACK", "RAck: [$again] 1 INVITE", "").hears(200);
                s.sends_with("PRACK", "RAck: [$rseq] 1 INVITE", "").hears(481).hears_to("INVITE", 200).acks().hangs_up()
            })
            .server(|s| {
                let s = s.gets("INVITE").says(180).quiet(1000);
                s.says_with(200, "", &first()).gets("ACK").awaits_bye()
            }),
    ]
}

fn order() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3262 §4: a reliable 18x that comes again is neither acknowledged nor told again")
            .caller(|s| s.invite().hears(180).quiet(200).hears(200).acks().hangs_up())
            .server(|s| {
                let s = s.gets("INVITE").says_with(180, RELIABLE, "").gets("PRACK").says(200);
                let s = s.says_to("INVITE", 180, RELIABLE, "").quiet(300);
                s.says_to("INVITE", 200, "", &first()).gets("ACK").awaits_bye()
            }),
        Pair::new("RFC 3262 §4: a reliable 18x out of order is not acknowledged")
            .caller(|s| s.invite().hears(180).hears(200).acks().hangs_up())
            .server(|s| {
                let s = s.gets("INVITE").says_with(180, RELIABLE, "").gets("PRACK").says(200);
                let s = s.says_to("INVITE", 183, "Require: 100rel\nRSeq: 9", &first()).quiet(200);
                s.says_to("INVITE", 200, "", &first()).gets("ACK").awaits_bye()
            }),
        Pair::new("RFC 3262 §3: the 200 waits until the description of a reliable 183 is acknowledged")
            .caller(|s| {
                let s = s.invite_with(KNOWS, &first()).hears(183).keeps("RSeq", "rseq").quiet(300);
                let s = s.sends_with("PRACK", "RAck: [$rseq] 1 INVITE", "").hears(200);
                s.hears_to("INVITE", 200).acks().hangs_up()
            })
            .server(|s| {
                let s = s.gets("INVITE").says_with(183, RELIABLE, &first()).gets("PRACK").says(200);
                s.says_to("INVITE", 200, "", "").gets("ACK").awaits_bye()
            }),
    ]
}

fn updates() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3311 §5.1: an offer in UPDATE of the caller crosses the early dialogs, its answer comes back")
            .caller(|s| {
                let s = s.invite_with(KNOWS, &first()).hears(183).keeps("RSeq", "rseq");
                let s = s.sends_with("PRACK", "RAck: [$rseq] 1 INVITE", "").hears(200);
                let s = s.sends_with("UPDATE", "", &sdp(2, "sendonly")).hears(200).has("a=recvonly");
                s.hears_to("INVITE", 200).acks().hangs_up()
            })
            .server(|s| {
                let s = s.gets("INVITE").says_with(183, RELIABLE_UPDATE, &first()).gets("PRACK").says(200);
                let s = s.gets("UPDATE").has("a=sendonly").says_with(200, "", &sdp(2, "recvonly")).quiet(100);
                s.says_to("INVITE", 200, "", "").gets("ACK").awaits_bye()
            }),
        Pair::new("RFC 3311 §5.1: an offer in UPDATE of the server crosses the early dialogs, its answer comes back")
            .caller(|s| {
                let s = s.invite_with(KNOWS, &first()).hears(183).keeps("RSeq", "rseq");
                let s = s.sends_with("PRACK", "RAck: [$rseq] 1 INVITE", "").hears(200);
                let s = s.gets("UPDATE").has("a=sendonly").says_with(200, "", &sdp(2, "recvonly"));
                s.hears_to("INVITE", 200).acks().hangs_up()
            })
            .server(|s| {
                let s = s.gets("INVITE").says_with(183, RELIABLE_UPDATE, &first()).gets("PRACK").says(200).quiet(200);
                let s = s.sends_with("UPDATE", "", &sdp(2, "sendonly")).hears(200).has("a=recvonly");
                s.says_to("INVITE", 200, "", "").gets("ACK").awaits_bye()
            }),
        Pair::new("RFC 3311 §5.2: an UPDATE of the server with an offer, while that of the INVITE is open, gets 491")
            .caller(|s| s.invite_with(KNOWS, &first()).hears(180).hears(200).acks().hangs_up())
            .server(|s| {
                let s = s.gets("INVITE").says_with(180, RELIABLE_UPDATE, "").gets("PRACK").says(200);
                let s = s.sends_with("UPDATE", "", &sdp(2, "sendonly")).hears(491);
                s.says_to("INVITE", 200, "", &first()).gets("ACK").awaits_bye()
            }),
        Pair::new("RFC 3311 §5.2: an UPDATE of the caller with an offer, while its first one has no answer, gets 500 and Retry-After")
            .caller(|s| {
                let s = s.invite_with(KNOWS, &first()).hears(180);
                let s = s.sends_with("UPDATE", "", &sdp(2, "sendonly")).hears(500).has("Retry-After: [0-9]+");
                s.hears_to("INVITE", 200).acks().hangs_up()
            })
            .server(|s| s.gets("INVITE").says(180).quiet(200).says_with(200, "", &first()).gets("ACK").awaits_bye()),
        Pair::new("RFC 3311 §5.2: an UPDATE without an offer is answered at once, on the leg it came from")
            .caller(|s| {
                let s = s.invite_with(KNOWS, &first()).hears(180).sends("UPDATE").hears(200).has("Contact: <sip:");
                s.hears_to("INVITE", 200).acks().hangs_up()
            })
            .server(|s| s.gets("INVITE").says(180).quiet(200).says_with(200, "", &first()).gets("ACK").awaits_bye()),
        Pair::new("RFC 6086 §4.2: INFO crosses the early dialogs in both directions")
            .caller(|s| {
                let s = s.invite_with(KNOWS, &first()).hears(180).sends("INFO").hears(200);
                s.gets("INFO").says(200).hears_to("INVITE", 200).acks().hangs_up()
            })
            .server(|s| {
                let s = s.gets("INVITE").says(180).gets("INFO").says(200).quiet(50).sends("INFO").hears(200);
                s.says_to("INVITE", 200, "", &first()).gets("ACK").awaits_bye()
            }),
    ]
}
