//! Other requests inside an answered call: carried to the other leg with its numbers, answered with what that leg says,
//! in both directions.

use super::lane::{Pair, run};
use super::script::Script;

#[test]
fn requests_inside_a_call_reach_the_other_leg_and_their_answers_come_back() {
    run("", &[carried(), not_carried()].into_iter().flatten().collect::<Vec<_>>());
}

/// One leg asks, the other one answers, then the caller hangs up.
fn asked_by_caller(name: &'static str, asks: fn(Script) -> Script, answers: fn(Script) -> Script) -> Pair {
    Pair::new(name)
        .caller(|s| asks(s.calls()).hangs_up())
        .server(|s| answers(s.answers_call()).awaits_bye())
        .record("/offer_result", "Answer")
}

fn asked_by_server(name: &'static str, asks: fn(Script) -> Script, answers: fn(Script) -> Script) -> Pair {
    Pair::new(name)
        .caller(|s| answers(s.calls()).awaits_bye())
        .server(|s| asks(s.answers_and_waits()).hangs_up())
        .record("/offer_result", "Answer")
}

fn digit(script: Script) -> Script {
    script.sends_with("INFO", "Content-Type: application/dtmf-relay", "Signal=5\nDuration=160\n").hears(200)
}

fn takes_digit(script: Script) -> Script {
    script.gets("INFO").has("Content-Type: application/dtmf-relay.*Signal=5.*Duration=160").says(200)
}

fn writes(script: Script) -> Script {
    script.sends_with("MESSAGE", "Content-Type: text/plain", "hello\n").hears(202)
}

fn reads(script: Script) -> Script {
    script.gets("MESSAGE").has("Content-Type: text/plain.*hello").says(202)
}

fn invents(script: Script) -> Script {
    script.sends_with("FROBNICATE", "X-Why: because", "").hears(299).has("X-Also: so")
}

fn copes(script: Script) -> Script {
    script.gets("FROBNICATE").has("X-Why: because").says_with(299, "X-Also: so", "")
}

fn asks_options(script: Script) -> Script {
    script.sends("OPTIONS").hears(200).has("Allow: ")
}

fn tells_options(script: Script) -> Script {
    script.gets("OPTIONS").says_with(200, "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS", "")
}

fn notifies_one_way(script: Script) -> Script {
    let lines = "Event: conference\nSubscription-State: active\nContent-Type: text/plain";
    script.sends_with("BENOTIFY", lines, "state\n").quiet(300)
}

fn hears_one_way(script: Script) -> Script {
    script.gets("BENOTIFY").has("Event: conference.*state")
}

fn refused_info(script: Script) -> Script {
    script.sends("INFO").hears(415).has("Warning: 399 ")
}

fn refuses_info(script: Script) -> Script {
    script.gets("INFO").says_with(415, "Warning: 399 um.contoso.test \"no digits\"", "")
}

fn misled_info(script: Script) -> Script {
    script.sends("INFO").hears(500).lacks("Contact: <sip:else")
}

fn misleads_info(script: Script) -> Script {
    script.gets("INFO").says_with(302, "Contact: <sip:elsewhere.contoso.test>", "")
}

fn carried() -> Vec<Pair> {
    vec![
        asked_by_caller("RFC 6086 §4.2: DTMF in INFO of the caller reaches the server", digit, takes_digit),
        asked_by_server("RFC 6086 §4.2: DTMF in INFO of the server reaches the caller", digit, takes_digit),
        asked_by_caller("RFC 3428 §4: MESSAGE of the caller crosses inside the call", writes, reads),
        asked_by_server("RFC 3428 §4: MESSAGE of the server crosses inside the call", writes, reads),
        asked_by_caller(
            "a method nobody knows crosses from the caller, its answer comes back",
            invents,
            copes,
        ),
        asked_by_server(
            "a method nobody knows crosses from the server, its answer comes back",
            invents,
            copes,
        ),
        asked_by_caller(
            "RFC 3261 §11: OPTIONS of the caller inside the call reaches the server",
            asks_options,
            tells_options,
        ),
        asked_by_server(
            "RFC 3261 §11: OPTIONS of the server inside the call reaches the caller",
            asks_options,
            tells_options,
        ),
        asked_by_caller(
            "BENOTIFY of the caller is carried on and never answered",
            notifies_one_way,
            hears_one_way,
        ),
        asked_by_server(
            "BENOTIFY of the server is carried on and never answered",
            notifies_one_way,
            hears_one_way,
        ),
        asked_by_caller("a refusal of the server comes back with its Warning", refused_info, refuses_info),
        asked_by_server("a refusal of the caller comes back with its Warning", refused_info, refuses_info),
        asked_by_caller(
            "a redirect of the server inside the call leads nobody past the gateway",
            misled_info,
            misleads_info,
        ),
        asked_by_server(
            "a redirect of the caller inside the call leads nobody past the gateway",
            misled_info,
            misleads_info,
        ),
    ]
}

fn not_carried() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3261 §16.3: an INFO with Max-Forwards 0 gets 483, and the call goes on")
            .caller(|s| s.calls().sends_with("INFO", "Max-Forwards: 0", "").hears(483).hangs_up())
            .server(|s| s.answers_call().awaits_bye()),
        Pair::new("RFC 3261 §12.2.2: a request whose CSeq goes back gets 500, and the call goes on")
            .caller(|s| {
                let s = s.calls().sends("INFO").hears(200).aside(
                    "INFO [$target] SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];branch=z9hG4bKback[pid]\n\
                     Max-Forwards: 70\nFrom: \"Reception\" <sip:10048@[local_ip]:[local_port]>;tag=[pid]c[call_number]\n\
                     To: [$peer]\nCall-ID: [call_id]\nCSeq: 1 INFO\nContent-Length: 0\n\n",
                );
                s.hears_with_cseq(500, "1 INFO").hangs_up()
            })
            .server(|s| s.answers_call().gets("INFO").says(200).awaits_bye()),
        Pair::new("RFC 3261 §12.2.2: a request with another tag of ours finds no dialog: 481")
            .caller(|s| {
                let s = s.calls().aside(
                    "INFO [$target] SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];branch=z9hG4bKtag[pid]\n\
                     Max-Forwards: 70\nFrom: \"Reception\" <sip:10048@[local_ip]:[local_port]>;tag=[pid]c[call_number]\n\
                     To: <sip:88895@[remote_ip]>;tag=nobody\nCall-ID: [call_id]\nCSeq: 9 INFO\nContent-Length: 0\n\n",
                );
                s.hears_with_cseq(481, "9 INFO").hangs_up()
            })
            .server(|s| s.answers_call().awaits_bye()),
        Pair::new("RFC 5057 §5.1: 481 of the server to a carried request ends the call on both legs")
            .caller(|s| s.calls().sends("INFO").hears(481).gets("BYE").says(200))
            .server(|s| s.answers_call().gets("INFO").says(481).gets("BYE").says(481)),
        Pair::new("RFC 5057 §5.1: 481 of the caller to a carried request ends the call on both legs")
            .caller(|s| s.calls().gets("INFO").says(481).gets("BYE").says(481))
            .server(|s| s.answers_and_waits().sends("INFO").hears(481).gets("BYE").says(200)),
    ]
}
