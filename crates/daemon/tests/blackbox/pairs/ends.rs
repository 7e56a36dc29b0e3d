//! How calls begin and end: BYE and CANCEL of either side, and what crosses them (RFC 3261 §9, §13, §15).

use super::lane::{Host, Pair, run};
use super::script::first;

#[test]
fn calls_end_as_rfc_3261_says_whoever_ends_them() {
    run("", &[byes(), cancels(), slow()].into_iter().flatten().collect::<Vec<_>>());
}

fn byes() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3261 §15.1.1: a BYE of the caller ends both legs")
            .caller(|s| s.invite().hears(180).hears(200).has("m=audio 2[0-9]{4} RTP/AVP").acks().quiet(100).hangs_up())
            .server(|s| {
                let s = s.gets("INVITE").has("^INVITE sip:88895@").says(180).says_with(200, "", &first()).gets("ACK");
                s.awaits_bye()
            })
            .record("/offer_result", "Answer")
            .record("/drop_reason", "CallerHungUp")
            .record("/failovers", 0),
        Pair::new("RFC 3261 §15.1.1: a BYE of the server ends both legs, with its Reason")
            .caller(|s| s.calls().gets("BYE").has("Reason: Q.850;cause=16").says(200))
            .server(|s| s.answers_call().sends_with("BYE", "Reason: Q.850;cause=16", "").hears(200))
            .record("/drop_reason", "GracefulHangup"),
        Pair::new("RFC 3261 §15.1.2: a BYE of the server that crosses the caller's is answered, and both legs are over")
            .caller(|s| s.calls().hangs_up())
            .server(|s| s.answers_call().gets("BYE").sends("BYE").hears(200).says_to("BYE", 200, "", ""))
            .record("/drop_reason", "CallerHungUp"),
        Pair::new("RFC 3261 §15.1.2: a BYE of the caller that crosses the server's is answered, and both legs are over")
            .caller(|s| s.calls().gets("BYE").sends("BYE").hears(200).says_to("BYE", 200, "", ""))
            .server(|s| s.answers_call().sends("BYE").hears(200))
            .record("/drop_reason", "GracefulHangup"),
        Pair::new("RFC 3261 §15.1.2: a BYE repeated after the end finds no dialog: 481")
            .caller(|s| s.calls().hangs_up().quiet(200).sends("BYE").hears(481))
            .server(|s| s.answers_call().awaits_bye()),
        Pair::new("RFC 3261 §13.2.2.4: an answer that comes twice under another To tag gets its ACK and BYE, the call goes on")
            .caller(|s| s.calls().quiet(400).hangs_up())
            .server(|s| {
                let s = s.gets("INVITE").says_with(200, "", &first()).gets("ACK").has("To:.*tag=[0-9]+s");
                let s = s.says_as("fork", 200, "", &first()).gets("ACK").has("To:.*tag=[0-9]+fork");
                s.gets("BYE").has("To:.*tag=[0-9]+fork").says(200).gets("BYE").has("To:.*tag=[0-9]+s").says(200)
            })
            .record("/offer_result", "Answer"),
        Pair::new("RFC 3261 §13.2.2.4: a 200 that comes again is acknowledged again")
            .caller(|s| s.calls().quiet(300).hangs_up())
            .server(|s| {
                s.answers_call().says_to("INVITE", 200, "", &first()).gets("ACK").awaits_bye()
            }),
        Pair::new("RFC 3261 §13.2.1: an 18x that comes after the 200 is told to nobody")
            .caller(|s| s.calls().quiet(300).hangs_up())
            .server(|s| s.answers_call().says_to("INVITE", 180, "", "").awaits_bye()),
    ]
}

fn cancels() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3261 §9.1: a CANCEL before any 18x waits for one on leg B, while the caller has its 487")
            .caller(|s| s.invite().hears(100).cancels().hears(200).hears_to("INVITE", 487).acks_refusal())
            .server(|s| {
                let s = s.gets("INVITE").quiet(700).says(180).gets("CANCEL").says(200);
                s.says_to("INVITE", 487, "", "").gets("ACK")
            })
            .record("/offer_result", "None"),
        Pair::new("RFC 3261 §9.2: a CANCEL after 180 is a 487 for the caller and a CANCEL for the server")
            .caller(|s| s.invite().hears(180).cancels().hears(200).hears_to("INVITE", 487).acks_refusal())
            .server(|s| {
                let s = s.gets("INVITE").says(180).gets("CANCEL").says(200);
                s.says_to("INVITE", 487, "", "").gets("ACK")
            })
            .record("/drop_reason", "CallerHungUp")
            .record("/verdict/code", "UMB-CALL002"),
        Pair::new("RFC 3261 §9.1: a 200 of the server that crosses the CANCEL gets ACK and BYE")
            .caller(|s| s.invite().hears(180).cancels().hears(200).hears_to("INVITE", 487).acks_refusal())
            .server(|s| {
                let s = s.gets("INVITE").says(180).gets("CANCEL").says(200).says_to("INVITE", 200, "", &first());
                s.gets("ACK").gets("BYE").says(200)
            })
            .record("/offer_result", "None"),
        Pair::new("RFC 3261 §9.2: a CANCEL that comes after the 200 has no effect on the call")
            .caller(|s| s.invite().hears(200).cancels().hears(200).acks().quiet(200).hangs_up())
            .server(|s| s.answers_call().awaits_bye())
            .record("/offer_result", "Answer"),
        Pair::new("RFC 3261 §9.2: a CANCEL that matches nothing gets 481")
            .caller(|s| {
                let s = s.invite().hears(200).acks().hangs_up().aside(
                    "CANCEL sip:88895@[remote_ip]:[remote_port] SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];\
                     branch=z9hG4bKnothing[pid]\nMax-Forwards: 70\nFrom: <sip:10048@[local_ip]>;tag=other[pid]\n\
                     To: <sip:88895@[remote_ip]>\nCall-ID: [call_id]\nCSeq: 3 CANCEL\nContent-Length: 0\n\n",
                );
                s.hears_with_cseq(481, "3 CANCEL")
            })
            .server(|s| s.answers_call().awaits_bye()),
        Pair::new("RFC 3261 §15: a BYE of the caller in the early dialog ends the INVITE with 487 and cancels leg B")
            .caller(|s| s.invite().hears(180).sends("BYE").hears(200).hears_to("INVITE", 487).acks_refusal())
            .server(|s| {
                let s = s.gets("INVITE").says(180).gets("CANCEL").says(200);
                s.says_to("INVITE", 487, "", "").gets("ACK")
            }),
        Pair::new("RFC 3326: the Reason of a CANCEL goes on to the server")
            .caller(|s| {
                let s = s.invite().hears(180).cancels_because("Reason: SIP;cause=200;text=\"Call completed elsewhere\"");
                s.hears(200).hears_to("INVITE", 487).acks_refusal()
            })
            .server(|s| {
                let s = s.gets("INVITE").says(180).gets("CANCEL").has("Reason: SIP;cause=200").says(200);
                s.says_to("INVITE", 487, "", "").gets("ACK")
            }),
    ]
}

fn slow() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3261 §13.3.1.4: a 200 whose ACK never comes is repeated for 32 s, then both legs get BYE")
            .caller(|s| s.invite().hears(200).again(200, 10).gets("BYE").says(200))
            .server(|s| s.answers_call().awaits_bye())
            .patient(),
        Pair::new("RFC 3261 §13.2.2.4: the next server is asked when the first one never answers")
            .caller(|s| s.invite().hears(200).acks().hangs_up())
            .at(Host::Router, |s| s.gets("INVITE").quiet(4500))
            .at(Host::NextRouter, |s| s.answers_call().awaits_bye())
            .record("/failovers", 1),
        Pair::new("RFC 3261 §9.1: a server that says 100 and nothing more is cancelled before the next one is asked")
            .caller(|s| s.invite().hears(200).acks().hangs_up())
            .at(Host::Router, |s| {
                s.gets("INVITE").says(100).gets("CANCEL").says(200).says_to("INVITE", 487, "", "").gets("ACK")
            })
            .at(Host::NextRouter, |s| s.answers_call().awaits_bye())
            .record("/failovers", 1),
    ]
}
