//! Final answers of servers, passed or failed over; redirects; what the gateway refuses by itself.

use super::lane::{Host, Pair, run};
use super::script::first;

#[test]
fn refusals_and_redirects_reach_the_caller_or_the_next_server() {
    run("", &[passed(), redirects(), screened(), routes()].into_iter().flatten().collect::<Vec<_>>());
}

fn refused(name: &'static str, status: u16) -> Pair {
    Pair::new(name)
        .caller(move |s| s.invite().hears(status).acks_refusal().quiet(100))
        .server(move |s| s.gets("INVITE").says_with(status, "X-Why: because", "").gets("ACK"))
        .record("/failovers", 0)
}

fn passed() -> Vec<Pair> {
    vec![
        refused("RFC 3261 §21.4.5: 404 of the server reaches the caller", 404),
        refused("RFC 3261 §21.4.18: 480 of the server reaches the caller", 480),
        refused("RFC 3261 §21.4.24: 486 of the server reaches the caller", 486),
        refused("RFC 3261 §21.6.2: 603 of the server reaches the caller", 603),
        Pair::new("RFC 3261 §21.4.26: 488 of the server reaches the caller with its Warning")
            .caller(|s| s.invite().hears(488).has("Warning: 304 ").acks_refusal())
            .server(|s| {
                s.gets("INVITE").says_with(488, "Warning: 304 um.contoso.test \"Media type\"", "").gets("ACK")
            }),
        Pair::new("RFC 3261 §21.5.4: 503 of a server moves the call to the next one")
            .caller(|s| s.calls().hangs_up())
            .at(Host::Router, |s| s.gets("INVITE").says_with(503, "Retry-After: 5", "").gets("ACK"))
            .at(Host::NextRouter, |s| s.answers_call().awaits_bye())
            .record("/failovers", 1),
        Pair::new("RFC 3261 §21.5.1: 500 after 180 moves the call to the next server as well")
            .caller(|s| s.invite().hears(180).hears(200).acks().hangs_up())
            .at(Host::Router, |s| s.gets("INVITE").says(180).quiet(100).says(500).gets("ACK"))
            .at(Host::NextRouter, |s| s.answers_call().awaits_bye())
            .record("/failovers", 1),
        Pair::new("RFC 3261 §21.5.4: when every server says 503, the caller hears 503 with Retry-After")
            .caller(|s| s.invite().hears(503).has("Retry-After: [0-9]+").acks_refusal())
            .at(Host::Router, |s| s.gets("INVITE").says(503).gets("ACK"))
            .at(Host::NextRouter, |s| s.gets("INVITE").says(503).gets("ACK"))
            .record("/offer_result", "Failed"),
        Pair::new("RFC 3263 §4.3: a server that refuses connections costs the call nothing but time")
            .caller(|s| s.calls().hangs_up())
            .at(Host::NextRouter, |s| s.answers_call().awaits_bye())
            .record("/failovers", 1),
    ]
}

const TO_MAILBOX: &str = "Contact: <sip:88895@[mailbox]:5060;transport=tcp>";
const TO_NEXT: &str = "Contact: <sip:88895@[next_mailbox]:5060;transport=tcp;x=y>";
const TO_ROUTER: &str = "Contact: <sip:88895@[router]:5060;transport=tcp>";

fn redirects() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3261 §8.1.3.4: a 302 is followed, with its Contact as Request-URI and the next CSeq")
            .caller(|s| s.calls().hangs_up())
            .at(Host::Router, |s| s.gets("INVITE").has("CSeq: 1 INVITE").says_with(302, TO_MAILBOX, "").gets("ACK"))
            .at(Host::Mailbox, |s| {
                let s = s.gets("INVITE").has("^INVITE sip:88895@127[0-9.]*:5060;transport=tcp SIP").has("CSeq: 2 INVITE");
                s.says_with(200, "", &first()).gets("ACK").awaits_bye()
            })
            .record("/redirects", 1),
        Pair::new("RFC 3261 §8.1.3.4: two 302 in a row are followed")
            .caller(|s| s.calls().hangs_up())
            .at(Host::Router, |s| s.gets("INVITE").says_with(302, TO_MAILBOX, "").gets("ACK"))
            .at(Host::Mailbox, |s| s.gets("INVITE").says_with(302, TO_NEXT, "").gets("ACK"))
            .at(Host::NextMailbox, |s| {
                s.gets("INVITE").has("transport=tcp;x=y SIP").says_with(200, "", &first()).gets("ACK").awaits_bye()
            })
            .record("/redirects", 2),
        Pair::new("RFC 3261 §8.1.3.4: a 302 that leads back is a loop and is not followed")
            .caller(|s| s.invite().hears(503).acks_refusal())
            .at(Host::Router, |s| s.gets("INVITE").says_with(302, TO_MAILBOX, "").gets("ACK"))
            .at(Host::Mailbox, |s| s.gets("INVITE").says_with(302, TO_ROUTER, "").gets("ACK"))
            .record("/offer_result", "Failed"),
        Pair::new("a 302 to a host outside the dial plan is refused, nothing goes there")
            .caller(|s| s.invite().hears(503).acks_refusal())
            .at(Host::Router, |s| {
                s.gets("INVITE").says_with(302, "Contact: <sip:88895@198.51.100.7:5060;transport=tcp>", "").gets("ACK")
            })
            .record("/redirects", 0),
        Pair::new("RFC 3261 §20.10: of two contacts the one with the higher q is tried first, then the other")
            .caller(|s| s.calls().hangs_up())
            .at(Host::Router, |s| {
                let contacts = "Contact: <sip:a@[next_mailbox]:5060;transport=tcp>;q=0.2, <sip:b@[mailbox]:5060;transport=tcp>;q=0.9";
                s.gets("INVITE").says_with(302, contacts, "").gets("ACK")
            })
            .at(Host::Mailbox, |s| s.gets("INVITE").has("^INVITE sip:b@").says(503).gets("ACK"))
            .at(Host::NextMailbox, |s| {
                s.gets("INVITE").has("^INVITE sip:a@").says_with(200, "", &first()).gets("ACK").awaits_bye()
            }),
    ]
}

fn screened() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3261 §16.3: an INVITE with Max-Forwards 0 gets 483")
            .caller(|s| s.invite_with("Max-Forwards: 0", &first()).hears(483).acks_refusal())
            .record("/verdict/code", "UMB-CALL004"),
        Pair::new("RFC 3261 §16.6: Max-Forwards goes on less one, outside and inside the dialog")
            .caller(|s| {
                let s = s.invite_with("Max-Forwards: 20", &first()).hears(200).acks();
                s.sends_with("INFO", "Max-Forwards: 10", "").hears(200).hangs_up()
            })
            .server(|s| {
                let s = s.gets("INVITE").has("Max-Forwards: 19").says_with(200, "", &first()).gets("ACK");
                s.gets("INFO").has("Max-Forwards: 9").says(200).awaits_bye()
            }),
        Pair::new("RFC 3261 §8.2.2.3: an unknown Require gets 420 with Unsupported")
            .caller(|s| {
                let s = s.invite_with("Require: 100rel, teleport", &first()).hears(420);
                s.has("Unsupported: *teleport").lacks("Unsupported:.*100rel").acks_refusal()
            })
            .record("/verdict/code", "UMB-CALL012"),
        Pair::new("RFC 3261 §8.2.2.2: the same INVITE by another way gets 482")
            .caller(|s| {
                let s = s.invite().hears(180);
                let s = s.aside(
                    "INVITE sip:88895@[remote_ip]:[remote_port];user=phone SIP/2.0\nVia: SIP/2.0/[transport] \
                     [local_ip]:[local_port];branch=z9hG4bKother[pid]\nMax-Forwards: 60\nFrom: \"Reception\" \
                     <sip:10048@[local_ip]:[local_port]>;tag=[pid]c[call_number]\nTo: \
                     <sip:88895@[remote_ip]:[remote_port];user=phone>\nCall-ID: [call_id]\nCSeq: 1 INVITE\nContact: \
                     <sip:party@[local_ip]:[local_port];transport=tcp>\nContent-Length: 0\n\n",
                );
                s.hears_with_cseq(482, "1 INVITE").has("branch=z9hG4bKother").hears(486).acks_refusal()
            })
            .server(|s| {
                let s = s.gets("INVITE").says(180).quiet(300);
                s.says(486).gets("ACK")
            }),
        Pair::new("RFC 3261 §7.3.3: compact header names are understood, and leg B gets whole ones")
            .caller(|s| {
                let s = s.raw(
                    "INVITE",
                    &format!(
                        "INVITE sip:88895@[remote_ip]:[remote_port];user=phone SIP/2.0\nv: SIP/2.0/[transport] \
                         [local_ip]:[local_port];branch=z9hG4bKcompact[pid]\nMax-Forwards: 70\nf: \
                         <sip:10048@[local_ip]:[local_port]>;tag=[pid]c[call_number]\nt: \
                         <sip:88895@[remote_ip]:[remote_port];user=phone>\ni: [call_id]\nCSeq: 1 INVITE\nm: \
                         <sip:party@[local_ip]:[local_port];transport=tcp>\nk: timer\nc: application/sdp\nl: [len]\n\n{}",
                        first()
                    ),
                );
                s.hears(200).acks().hangs_up()
            })
            .server(|s| {
                let s = s.gets("INVITE").has("From: <sip:10048@").has("Content-Type: application/sdp").lacks("\nf:");
                s.says_with(200, "", &first()).gets("ACK").awaits_bye()
            }),
    ]
}

fn routes() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3261 §12.1.2: requests toward the server follow its Record-Route from the near end to the far one")
            .caller(|s| s.calls().sends("INFO").hears(200).hangs_up())
            .server(|s| {
                let routes = "Record-Route: <sip:p2.contoso.test;lr>, <sip:p1.contoso.test;lr;who=near>";
                let s = s.gets("INVITE").says_with(200, routes, &first()).gets("ACK").has("^ACK sip:party@");
                let s = s.gets("INFO").has("^INFO sip:party@").has(
                    "Route: <sip:p1.contoso.test;lr;who=near>.*Route: <sip:p2.contoso.test;lr>",
                );
                s.says(200).awaits_bye()
            }),
        Pair::new("RFC 3261 §12.2.1.1: a strict first route becomes the Request-URI, and the target goes last")
            .caller(|s| s.calls().sends("INFO").hears(200).hangs_up())
            .server(|s| {
                let routes = "Record-Route: <sip:p2.contoso.test;lr>\nRecord-Route: <sip:strict.contoso.test>";
                let s = s.gets("INVITE").says_with(200, routes, &first()).gets("ACK").has("^ACK sip:strict.contoso.test ");
                let s = s.gets("INFO").has("^INFO sip:strict.contoso.test SIP");
                s.has("Route: <sip:p2.contoso.test;lr>.*Route: <sip:party@").says(200).awaits_bye()
            }),
        Pair::new("RFC 3261 §12.1.1: Record-Route of the caller comes back in the 200, and requests toward it follow it in order")
            .caller(|s| {
                let routes = "Record-Route: <sip:p1.contoso.test;lr>, <sip:p2.contoso.test;lr>";
                let s = s.invite_with(routes, &first()).hears(200);
                let s = s.has("Record-Route: <sip:p1.contoso.test;lr>.*<sip:p2.contoso.test;lr>").acks();
                let s = s.gets("BYE").has("^BYE sip:party@");
                s.has("Route: <sip:p1.contoso.test;lr>.*Route: <sip:p2.contoso.test;lr>").says(200)
            })
            .server(|s| {
                let s = s.gets("INVITE").lacks("Record-Route").says_with(200, "", &first()).gets("ACK");
                s.sends("BYE").hears(200)
            }),
    ]
}
