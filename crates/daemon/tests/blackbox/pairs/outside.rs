//! Requests outside any call: answered here, refused here, or message waiting on its way to the gateway's users.

use super::lane::{Host, Pair, run};
use super::script::first;

const HERE: &str = "sip:umbra@[remote_ip]:[remote_port]";

#[test]
fn requests_outside_calls_get_the_answer_their_method_deserves() {
    run("", &[answered(), loops(), message_waiting()].into_iter().flatten().collect::<Vec<_>>());
}

fn answered() -> Vec<Pair> {
    let caller = |name, method: &'static str, status| {
        Pair::new(name).caller(move |s| s.begin(method, HERE, "", "").hears(status)).records(0)
    };
    vec![
        caller("RFC 3261 §8.2.1: a method nobody knows, outside a dialog, gets 501", "FROBNICATE", 501),
        caller("RFC 3261 §21.4.6: REGISTER gets 405", "REGISTER", 405),
        caller("RFC 6665 §4.2: SUBSCRIBE outside a dialog gets 405", "SUBSCRIBE", 405),
        caller("RFC 3261 §15.1.2: BYE outside any dialog gets 481", "BYE", 481),
        caller("RFC 3311 §5.2: UPDATE outside any dialog gets 481", "UPDATE", 481),
        caller("RFC 3262 §3: PRACK outside any dialog gets 481", "PRACK", 481),
        Pair::new("RFC 3261 §11.2: OPTIONS of the caller's side gets 200 with Allow, Accept and Supported")
            .caller(|s| {
                let s = s.begin("OPTIONS", HERE, "", "").hears(200);
                s.has("Allow: .*INVITE").has("Accept: .*application/sdp").has("Supported: ")
            })
            .records(0),
        Pair::new("RFC 3261 §11.2: OPTIONS of a UM server gets 200, even with Max-Forwards 0")
            .begun_by(Host::Mailbox, |s| {
                s.begin("OPTIONS", HERE, "Max-Forwards: 0", "").hears(200).has("Allow: ")
            })
            .records(0),
        Pair::new("RFC 3428 §4: MESSAGE of the caller outside a call goes where an INVITE would go, the answer comes back")
            .caller(|s| s.begin("MESSAGE", "sip:88895@[remote_ip];user=phone", "Content-Type: text/plain", "hello\n").hears(202))
            .server(|s| s.gets("MESSAGE").has("Max-Forwards: 69").has("Content-Type: text/plain.*hello").says(202))
            .records(0),
        Pair::new("RFC 3428 §7: MESSAGE of a UM server outside a call gets 405")
            .begun_by(Host::Mailbox, |s| s.begin("MESSAGE", HERE, "Content-Type: text/plain", "hello\n").hears(405))
            .records(0),
        Pair::new("an INVITE of a UM server is refused: it may place no calls through this gateway")
            .begun_by(Host::Mailbox, |s| s.begin("INVITE", HERE, "", &first()).hears(403).acks_refusal()),
        Pair::new("RFC 3261 §17.2.3: an ACK that belongs to nothing is dropped in silence")
            .caller(|s| s.begin("ACK", HERE, "", "").quiet(300))
            .records(0),
    ]
}

fn loops() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3261 §16.3: an INVITE of this gateway that comes back to it gets 482")
            .caller(|s| s.invite().hears(180).quiet(50).hears(486).acks_refusal())
            .server(|s| {
                let s = s.gets("INVITE").keeps("X-Umbra-Hop", "hop").says(180).aside(
                    "INVITE sip:88895@[gateway]:5060 SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];\
                     branch=z9hG4bKback[pid]\nMax-Forwards: 60\nFrom: [$from0]\nTo: <sip:88895@[gateway]>\n\
                     Call-ID: [call_id]\nCSeq: 77 INVITE\nContact: <sip:party@[local_ip]:[local_port];transport=tcp>\n\
                     X-Umbra-Hop: [$hop]\nContent-Length: 0\n\n",
                );
                let s = s.hears_with_cseq(482, "77 INVITE").aside(
                    "ACK sip:88895@[gateway]:5060 SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];\
                     branch=z9hG4bKback[pid]\nMax-Forwards: 60\nFrom: [$from0]\n[last_To:]\nCall-ID: [call_id]\n\
                     CSeq: 77 ACK\nContent-Length: 0\n\n",
                );
                s.quiet(150).says_to("INVITE", 486, "", "").gets("ACK")
            }),
    ]
}

const WAITING: &str =
    "Event: message-summary\nSubscription-State: active\nContent-Type: application/simple-message-summary";
const SUMMARY: &str = "Messages-Waiting: yes\nVoice-Message: 2/0\n";

fn message_waiting() -> Vec<Pair> {
    vec![
        Pair::new("RFC 3842 §3: message waiting of a UM server reaches the gateway of its user, the answer comes back")
            .begun_by(Host::Mailbox, |s| s.begin("NOTIFY", "sip:[extension]@[remote_ip]:[remote_port]", WAITING, SUMMARY).hears(200))
            .at(Host::Target, |s| {
                let s = s.gets("NOTIFY").has("Event: message-summary").has("Max-Forwards: 69");
                s.has("Messages-Waiting: yes.*Voice-Message: 2/0").says(200)
            })
            .records(0),
        Pair::new("RFC 3842 §3: a refusal of message waiting comes back to the UM server")
            .begun_by(Host::Mailbox, |s| s.begin("NOTIFY", "sip:[extension]@[remote_ip]:[remote_port]", WAITING, SUMMARY).hears(404))
            .at(Host::Target, |s| s.gets("NOTIFY").says(404))
            .records(0),
        Pair::new("RFC 6665 §4.1.3: a NOTIFY of the caller's side without a subscription gets 481")
            .caller(|s| s.begin("NOTIFY", HERE, WAITING, SUMMARY).hears(481))
            .records(0),
    ]
}
