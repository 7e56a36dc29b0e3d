//! Transfers (RFC 3515, 3891, 3892): REFER carried from leg to leg with its NOTIFYs, REFER of UM carried out by the
//! gateway, INVITE with Replaces.

use super::lane::{Host, Pair, run};
use super::script::{Script, first, sdp};

#[test]
fn calls_change_hands_as_the_dial_plan_says() {
    run("", &[carried(), carried_out(), taken_over()].into_iter().flatten().collect::<Vec<_>>());
}

const TO_BOB: &str = "Refer-To: <sip:bob@contoso.com;user=phone>\nReferred-By: <sip:um@contoso.com>";
const TRYING: &str =
    "Event: refer\nSubscription-State: active;expires=60\nContent-Type: message/sipfrag;version=2.0";
const DONE: &str = "Event: refer\nSubscription-State: terminated;reason=noresource\nContent-Type: message/sipfrag;version=2.0";

fn refers(script: Script) -> Script {
    let s = script.sends_with("REFER", TO_BOB, "").hears(202);
    let s = s
        .gets("NOTIFY")
        .has("Event: refer")
        .has("Subscription-State: active")
        .has("SIP/2.0 100 Trying")
        .says(200);
    s.gets("NOTIFY").has("Subscription-State: terminated").has("SIP/2.0 200 OK").says(200)
}

fn is_referred(script: Script) -> Script {
    let s =
        script.gets("REFER").has("Refer-To: <sip:bob@contoso.com;user=phone>").has("Referred-By: ").says(202);
    let s = s.sends_with("NOTIFY", TRYING, "SIP/2.0 100 Trying\n").hears(200);
    s.sends_with("NOTIFY", DONE, "SIP/2.0 200 OK\n").hears(200)
}

fn carried() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3515 §2.4: a REFER of the server is carried to the caller, its NOTIFYs with sipfrag come back")
            .caller(|s| is_referred(s.calls()).awaits_bye())
            .server(|s| refers(s.answers_and_waits()).hangs_up()),
        Pair::new("RFC 3515 §2.4: a REFER of the caller is carried to the server, its NOTIFYs with sipfrag come back")
            .caller(|s| refers(s.calls()).hangs_up())
            .server(|s| is_referred(s.answers_call()).awaits_bye()),
        Pair::new("RFC 3515 §2.4.2: a REFER that the caller declines is declined for the server, and the call goes on")
            .caller(|s| s.calls().gets("REFER").says(603).awaits_bye())
            .server(|s| s.answers_and_waits().sends_with("REFER", TO_BOB, "").hears(603).hangs_up()),
        Pair::new("RFC 3515 §2.4.1: a REFER without Refer-To gets 400 and goes nowhere")
            .caller(|s| s.calls().awaits_bye())
            .server(|s| s.answers_and_waits().sends("REFER").hears(400).hangs_up()),
        Pair::new("a dial plan may refuse transfers: 603, and the call goes on")
            .plan("transfer = \"refuse\"")
            .caller(|s| s.calls().awaits_bye())
            .server(|s| s.answers_and_waits().sends_with("REFER", TO_BOB, "").hears(603).hangs_up()),
    ]
}

fn carried_out() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3515 §2.4: a REFER of the server is carried out: target called, caller moved to it, server told and released")
            .plan("transfer = \"execute\"")
            .caller(|s| s.calls().gets("INVITE").has("m=audio").says_with(200, "", &sdp(2, "sendrecv")).gets("ACK").hangs_up_after(300))
            .server(|s| {
                let s = s.answers_and_waits().sends_with("REFER", TO_BOB, "").hears(202);
                let s = s.gets("NOTIFY").has("SIP/2.0 100 Trying").says(200);
                let s = s.gets("NOTIFY").has("SIP/2.0 200 OK").has("Subscription-State: terminated");
                // SIPp takes both before it sends.
                s.gets("BYE").says_to("NOTIFY", 200, "", "").says_to("BYE", 200, "", "")
            })
            .at(Host::Target, |s| {
                let s = s.gets("INVITE").has("^INVITE sip:bob@contoso.com").has("Referred-By: ").has("m=audio");
                s.says_with(200, "", &first()).gets("ACK").awaits_bye()
            }),
        Pair::new("RFC 4028 §7.3: the target is asked for a session timer, and once more with its Min-SE after 422")
            .plan("transfer = \"execute\"")
            .caller(|s| s.calls().gets("INVITE").says_with(200, "", &sdp(2, "sendrecv")).gets("ACK").hangs_up_after(300))
            .server(|s| {
                let s = s.answers_and_waits().sends_with("REFER", TO_BOB, "").hears(202);
                let s = s.gets("NOTIFY").has("SIP/2.0 100 Trying").says(200).gets("NOTIFY").has("SIP/2.0 200 OK");
                // SIPp takes both before it sends.
                s.gets("BYE").says_to("NOTIFY", 200, "", "").says_to("BYE", 200, "", "")
            })
            .at(Host::Target, |s| {
                let s = s.gets("INVITE").has("Session-Expires: ").has("Min-SE: *90").has("Supported: .*timer");
                let s = s.says_with(422, "Min-SE: 3600", "").gets("ACK");
                let s = s.gets_anew("INVITE").has("CSeq: 2 INVITE").has("Session-Expires: *3600").has("Min-SE: *3600");
                let timer = "Supported: timer\nRequire: timer\nSession-Expires: 3600;refresher=uac";
                s.says_with(200, timer, &first()).gets("ACK").awaits_bye()
            }),
        Pair::new("RFC 3515 §2.4.5: a target that refuses is reported, and caller and server go on together")
            .plan("transfer = \"execute\"")
            .caller(|s| s.calls().gets("INFO").says(200).awaits_bye())
            .server(|s| {
                let s = s.answers_and_waits().sends_with("REFER", TO_BOB, "").hears(202);
                let s = s.gets("NOTIFY").has("SIP/2.0 100 Trying").says(200).gets("NOTIFY").has("SIP/2.0 486");
                s.says(200).sends("INFO").hears(200).hangs_up()
            })
            .at(Host::Target, |s| s.gets("INVITE").says(486).gets("ACK")),
    ]
}

fn taken_over() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3891 §3: a Replaces that names no dialog gets 481")
            .caller(|s| {
                let lines = "Replaces: nobody;to-tag=1;from-tag=2\nRequire: replaces";
                s.invite_with(lines, &first()).hears(481).acks_refusal()
            }),
        Pair::new("RFC 3891 §3: a Replaces with a tag missing gets 400")
            .caller(|s| s.invite_with("Replaces: nobody;to-tag=1", &first()).hears(400).acks_refusal()),
        Pair::new("RFC 3891 §3: an INVITE with Replaces of the same peer takes the caller's place, and the caller gets BYE")
            .caller(|s| {
                let s = s.invite().hears(200).keeps_tag("ours").acks();
                let s = s.aside(&format!("{NEWCOMER_INVITE}{}", first())).may_hear(100);
                // SIPp takes both before it sends.
                let s = s.hears_with_cseq(200, "1 INVITE").keeps("To", "second").gets("BYE").aside(NEWCOMER_ACK).says(200);
                s.aside(NEWCOMER_BYE).hears_with_cseq(200, "2 BYE")
            })
            .server(|s| s.answers_call().gets("INVITE").says_with(200, "", &sdp(2, "sendrecv")).gets("ACK").awaits_bye()),
    ]
}

// The same PBX with another dialog. SIPp knows calls by their Call-ID, so the newcomer has the first one's, but its own tag.
const NEWCOMER_INVITE: &str = "INVITE sip:88895@[remote_ip]:[remote_port] SIP/2.0\n\
    Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=z9hG4bKnewcomer1[pid]\nMax-Forwards: 70\n\
    From: <sip:10049@[local_ip]>;tag=newcomer[pid]\nTo: <sip:88895@[remote_ip]>\nCall-ID: [call_id]\nCSeq: 1 INVITE\n\
    Contact: <sip:newcomer@[local_ip]:[local_port];transport=[transport]>\nRequire: replaces\n\
    Replaces: [call_id];to-tag=[$ours];from-tag=[pid]c[call_number]\n\
    Content-Type: application/sdp\nContent-Length: [len]\n\n";
const NEWCOMER_ACK: &str = "ACK sip:[remote_ip]:[remote_port];transport=tcp SIP/2.0\n\
    Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=z9hG4bKnewcomer2[pid]\nMax-Forwards: 70\n\
    From: <sip:10049@[local_ip]>;tag=newcomer[pid]\nTo: [$second]\nCall-ID: [call_id]\nCSeq: 1 ACK\nContent-Length: 0\n\n";
const NEWCOMER_BYE: &str = "BYE sip:[remote_ip]:[remote_port];transport=tcp SIP/2.0\n\
    Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=z9hG4bKnewcomer3[pid]\nMax-Forwards: 70\n\
    From: <sip:10049@[local_ip]>;tag=newcomer[pid]\nTo: [$second]\nCall-ID: [call_id]\nCSeq: 2 BYE\nContent-Length: 0\n\n";
