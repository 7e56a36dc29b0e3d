//! Offer and answer wherever they may stand (RFC 3261 §13.2.1, RFC 3264): late offers, re-INVITE and UPDATE of either
//! side, hold and resume, glare in both orders, refusals that keep the call.

use super::lane::{Pair, run};
use super::script::{Script, first, sdp};

#[test]
fn descriptions_are_negotiated_from_either_side_and_crossing_offers_harm_nobody() {
    run("", &[late(), renegotiated(), waiting(), crossing()].into_iter().flatten().collect::<Vec<_>>());
}

fn late() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3261 §13.2.1: an INVITE without an offer gets one in the 200, its answer comes in the ACK")
            .caller(|s| s.invite_with("", "").hears(200).has("m=audio").acks_with(&first()).quiet(100).hangs_up())
            .server(|s| {
                let s = s.gets("INVITE").has("m=audio").says_with(200, "", &first()).gets("ACK");
                s.awaits_bye()
            })
            .record("/offer_result", "Answer"),
        Pair::new("RFC 3262 §5: an INVITE without an offer gets one in a reliable 183, its answer comes in the PRACK")
            .caller(|s| {
                let s = s.invite_with("Require: 100rel", "").hears(183).has("m=audio").keeps("RSeq", "rseq");
                let s = s.sends_with("PRACK", "RAck: [$rseq] 1 INVITE", &first()).hears(200);
                s.hears_to("INVITE", 200).lacks("m=audio").acks().hangs_up()
            })
            .server(|s| {
                let s = s.gets("INVITE").has("m=audio").says_with(183, "", &first()).quiet(200);
                s.says_with(200, "", &first()).gets("ACK").awaits_bye()
            }),
        Pair::new("RFC 3264 §4: a late offer that the ACK leaves without an answer ends the call on both legs")
            .caller(|s| s.invite_with("", "").hears(200).acks().gets("BYE").says(200))
            .server(|s| s.answers_call().awaits_bye()),
        Pair::new("RFC 3261 §14.2: a re-INVITE of the caller without an offer gets one, its answer comes in the ACK")
            .caller(|s| {
                let s = s.calls().sends("INVITE").hears(200).has("m=audio").acks_with(&sdp(2, "sendrecv"));
                s.quiet(100).hangs_up()
            })
            .server(|s| offered_again(s.answers_call()).awaits_bye()),
        Pair::new("RFC 3261 §14.2: a re-INVITE of the server without an offer gets one, its answer comes in the ACK")
            .caller(|s| offered_again(s.calls()).hangs_up_after(200))
            .server(|s| {
                let s = s.answers_and_waits().sends("INVITE").hears(200).has("m=audio").acks_with(&sdp(2, "sendrecv"));
                s.awaits_bye()
            }),
    ]
}

// The other side of an offerless re-INVITE: asked for an offer of its own, answered in the ACK.
fn offered_again(script: Script) -> Script {
    script.gets("INVITE").says_with(200, "", &sdp(2, "sendrecv")).gets("ACK")
}

fn asks(script: Script, direction: &str, answer: &str) -> Script {
    script.sends_with("INVITE", "", &sdp(2, direction)).hears(200).has(&format!("a={answer}")).acks()
}

fn agrees(script: Script, direction: &str, answer: &str) -> Script {
    script.gets("INVITE").has(&format!("a={direction}")).says_with(200, "", &sdp(2, answer)).gets("ACK")
}

fn waiting() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3261 §13.3.1.1: a 180 of the server to a re-INVITE reaches the caller before the 200")
            .caller(|s| s.calls().sends_with("INVITE", "", &sdp(2, "sendrecv")).hears(180).hears_to("INVITE", 200).acks().hangs_up())
            .server(|s| s.answers_call().gets("INVITE").says(180).quiet(100).says_with(200, "", &sdp(2, "sendrecv")).gets("ACK").awaits_bye()),
        Pair::new("RFC 3261 §13.3.1.1: a 180 of the caller to a re-INVITE reaches the server before the 200")
            .caller(|s| s.calls().gets("INVITE").says(180).quiet(100).says_with(200, "", &sdp(2, "sendrecv")).gets("ACK").awaits_bye())
            .server(|s| {
                let s = s.answers_and_waits().sends_with("INVITE", "", &sdp(2, "sendrecv")).hears(180);
                s.hears_to("INVITE", 200).acks().hangs_up()
            }),
        Pair::new("RFC 3262 §4: a reliable 183 to a re-INVITE gets its PRACK on its own leg, its answer reaches the caller in the 200")
            .caller(|s| {
                let s = s.calls().sends_with("INVITE", "", &sdp(2, "sendrecv")).hears(183).lacks("RSeq").lacks("m=audio");
                s.hears_to("INVITE", 200).has("m=audio").acks().hangs_up()
            })
            .server(|s| {
                let s = s.answers_call().gets("INVITE").has("Supported: *100rel");
                let s = s.says_with(183, "Require: 100rel\nRSeq: 7", &sdp(2, "sendrecv")).gets("PRACK").has("RAck: 7 2 INVITE");
                s.says(200).says_to("INVITE", 200, "", "").gets("ACK").awaits_bye()
            }),
        Pair::new("RFC 3262 §3: a caller that requires 100rel in a re-INVITE gets the server's plain 180 reliably")
            .caller(|s| {
                let s = s.calls().sends_with("INVITE", "Require: 100rel", &sdp(2, "sendrecv")).hears(180);
                let s = s.has("Require: 100rel").keeps("RSeq", "rseq");
                let s = s.sends_with("PRACK", "RAck: [$rseq] 2 INVITE", "").hears(200);
                s.hears_to("INVITE", 200).has("m=audio").acks().hangs_up()
            })
            .server(|s| s.answers_call().gets("INVITE").says(180).quiet(150).says_with(200, "", &sdp(2, "sendrecv")).gets("ACK").awaits_bye()),
    ]
}

fn renegotiated() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3264 §8.4: the caller holds and resumes by re-INVITE")
            .caller(|s| asks(asks(s.calls(), "sendonly", "recvonly"), "sendrecv", "sendrecv").hangs_up())
            .server(|s| agrees(agrees(s.answers_call(), "sendonly", "recvonly"), "sendrecv", "sendrecv").awaits_bye()),
        Pair::new("RFC 3264 §8.4: the server holds and resumes by re-INVITE")
            .caller(|s| agrees(agrees(s.calls(), "sendonly", "recvonly"), "sendrecv", "sendrecv").awaits_bye())
            .server(|s| asks(asks(s.answers_and_waits(), "sendonly", "recvonly"), "sendrecv", "sendrecv").hangs_up()),
        Pair::new("RFC 3311 §5.1: the caller offers anew by UPDATE")
            .caller(|s| {
                s.invite_with("Allow: INVITE, ACK, BYE, CANCEL, UPDATE", &first()).hears(200).acks()
                    .sends_with("UPDATE", "", &sdp(2, "sendonly")).hears(200).has("a=recvonly").hangs_up()
            })
            .server(|s| {
                let s = s.gets("INVITE").says_with(200, "Allow: INVITE, ACK, BYE, CANCEL, UPDATE", &first()).gets("ACK");
                s.gets("UPDATE").has("a=sendonly").says_with(200, "", &sdp(2, "recvonly")).awaits_bye()
            }),
        Pair::new("RFC 3311 §4: an UPDATE of the server goes on as re-INVITE toward a caller that does not allow UPDATE")
            .caller(|s| {
                let s = s.invite_with("Allow: INVITE, ACK, BYE, CANCEL", &first()).hears(200).acks();
                agrees(s, "sendonly", "recvonly").awaits_bye()
            })
            .server(|s| {
                let s = s.answers_and_waits().sends_with("UPDATE", "", &sdp(2, "sendonly")).hears(200).has("a=recvonly");
                s.quiet(100).hangs_up()
            }),
        Pair::new("RFC 3261 §14.1: a re-INVITE of the caller that the server refuses with 488 leaves the call as it was")
            .caller(|s| {
                let s = s.calls().sends_with("INVITE", "", &sdp(2, "sendonly")).hears(488).acks_refusal();
                s.sends("INFO").hears(200).hangs_up()
            })
            .server(|s| s.answers_call().gets("INVITE").says(488).gets("ACK").gets("INFO").says(200).awaits_bye())
            .record("/offer_result", "Answer"),
        Pair::new("RFC 3261 §14.1: a re-INVITE of the server that the caller refuses with 488 leaves the call as it was")
            .caller(|s| s.calls().gets("INVITE").says(488).gets("ACK").gets("INFO").says(200).awaits_bye())
            .server(|s| {
                let s = s.answers_and_waits().sends_with("INVITE", "", &sdp(2, "sendonly")).hears(488).acks_refusal();
                s.sends("INFO").hears(200).hangs_up()
            })
            .record("/offer_result", "Answer"),
        Pair::new("RFC 3261 §9.1: a re-INVITE that is cancelled gets 487 on both legs, and the call goes on")
            .caller(|s| {
                let s = s.calls().sends_with("INVITE", "", &sdp(2, "sendonly")).hears(180).cancels().hears(200);
                s.hears_to("INVITE", 487).acks_refusal().hangs_up()
            })
            .server(|s| {
                let s = s.answers_call().gets("INVITE").says(180).gets("CANCEL").says(200);
                s.says_to("INVITE", 487, "", "").gets("ACK").awaits_bye()
            }),
        Pair::new("RFC 3261 §12.2.1.2: the Contact of a re-INVITE is where later requests go")
            .caller(|s| {
                let moved = "Contact: <sip:moved@[local_ip]:[local_port];transport=tcp>";
                let s = s.calls().sends_with("INVITE", moved, &sdp(2, "sendrecv")).hears(200).acks();
                s.gets("BYE").has("^BYE sip:moved@").says(200)
            })
            .server(|s| agrees(s.answers_call(), "sendrecv", "sendrecv").quiet(100).hangs_up()),
    ]
}

fn crossing() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3261 §14.1: a re-INVITE of the server that crosses the caller's gets 491, the first one goes through")
            .caller(|s| asks(s.calls(), "sendonly", "recvonly").hangs_up())
            .server(|s| {
                let s = s.answers_call().gets("INVITE").sends_with("INVITE", "", &sdp(2, "sendonly")).hears(491);
                s.acks_refusal().says_to("INVITE", 200, "", &sdp(2, "recvonly")).gets("ACK").awaits_bye()
            }),
        Pair::new("RFC 3261 §14.1: a re-INVITE of the caller that crosses the server's gets 491, the first one goes through")
            .caller(|s| {
                let s = s.calls().gets("INVITE").sends_with("INVITE", "", &sdp(2, "sendonly")).hears(491);
                s.acks_refusal().says_to("INVITE", 200, "", &sdp(2, "recvonly")).gets("ACK").awaits_bye()
            })
            .server(|s| asks(s.answers_and_waits(), "sendonly", "recvonly").hangs_up()),
        Pair::new("RFC 3261 §14.1: 491 of the server to a re-INVITE reaches the caller, which asks again")
            .caller(|s| {
                let s = s.calls().sends_with("INVITE", "", &sdp(2, "sendonly")).hears(491).acks_refusal();
                asks(s, "sendonly", "recvonly").hangs_up()
            })
            .server(|s| agrees(s.answers_call().gets("INVITE").says(491).gets("ACK"), "sendonly", "recvonly").awaits_bye()),
        Pair::new("RFC 3261 §14.1: 491 of the caller to a re-INVITE reaches the server, which asks again")
            .caller(|s| agrees(s.calls().gets("INVITE").says(491).gets("ACK"), "sendonly", "recvonly").awaits_bye())
            .server(|s| {
                let s = s.answers_and_waits().sends_with("INVITE", "", &sdp(2, "sendonly")).hears(491).acks_refusal();
                asks(s, "sendonly", "recvonly").hangs_up()
            }),
        Pair::new("RFC 3261 §15: a BYE of the server while the caller's re-INVITE is open ends both legs")
            .caller(|s| {
                let s = s.calls().sends_with("INVITE", "", &sdp(2, "sendonly"));
                // SIPp takes both before it sends.
                s.hears(487).gets("BYE").acks_refusal().says(200)
            })
            .server(|s| s.answers_call().gets("INVITE").sends("BYE").hears(200).says_to("INVITE", 487, "", "").gets("ACK")),
        Pair::new("RFC 3261 §15: a BYE of the caller while the server's re-INVITE is open ends both legs")
            .caller(|s| s.calls().gets("INVITE").sends("BYE").hears(200).says_to("INVITE", 487, "", "").gets("ACK"))
            .server(|s| {
                let s = s.answers_and_waits().sends_with("INVITE", "", &sdp(2, "sendonly"));
                // SIPp takes both before it sends.
                s.hears(487).gets("BYE").acks_refusal().says(200)
            }),
    ]
}
