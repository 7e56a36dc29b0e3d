//! Session timers of each leg by itself (RFC 4028): who refreshes, with what, and 422 in both directions. The shortest
//! interval the RFC allows is 90 s, so refreshes of the gateway come after 45 s; those pairs wait side by side.

use super::lane::{Pair, run};
use super::script::{Script, first, sdp};

const SHORT: &str = "[session]\nexpires = \"90s\"\nmin_se = \"90s\"\n\n";
const UPDATING: &str = "Allow: INVITE, ACK, BYE, CANCEL, UPDATE";

#[test]
fn each_leg_keeps_the_session_timer_it_agreed_on() {
    run(SHORT, &[waiting(), agreed(), refreshed_by_peers()].into_iter().flatten().collect::<Vec<_>>());
}

fn agreed() -> Vec<Pair> {
    vec![
        Pair::new("RFC 4028 §9: a caller that refreshes is told so, whatever the other leg does")
            .caller(|s| {
                let s = s.invite_with("Supported: timer\nSession-Expires: 90;refresher=uac", &first()).hears(200);
                s.has("Session-Expires: *90;refresher=uac").has("Require: *timer").acks().hangs_up()
            })
            .server(|s| {
                let s = s.gets("INVITE").has("Session-Expires: *90").has("Min-SE: *90").has("Supported: .*timer");
                s.says_with(200, "", &first()).gets("ACK").awaits_bye()
            }),
        Pair::new("RFC 4028 §9: a caller that wants the gateway to refresh is told so")
            .caller(|s| {
                let s = s.invite_with("Supported: timer\nSession-Expires: 1800;refresher=uas", &first()).hears(200);
                s.has("Session-Expires: *90;refresher=uas").acks().hangs_up()
            })
            .server(|s| s.answers_call().awaits_bye()),
        Pair::new("RFC 4028 §9: a caller that knows no timers is told of none")
            .caller(|s| s.invite().hears(200).lacks("Session-Expires").lacks("Require:").acks().hangs_up())
            .server(|s| s.answers_call().awaits_bye()),
        Pair::new("RFC 4028 §6: a caller whose interval is too small gets 422 with Min-SE")
            .caller(|s| {
                let s = s.invite_with("Supported: timer\nSession-Expires: 60", &first()).hears(422);
                s.has("Min-SE: *90").acks_refusal()
            })
            .record("/verdict/code", "UMB-CALL020"),
        Pair::new("RFC 4028 §7.3: 422 of the server is answered by the same call with its Min-SE")
            .caller(|s| s.calls().hangs_up())
            .server(|s| {
                let s = s.gets("INVITE").says_with(422, "Min-SE: 300", "").gets("ACK");
                let s = s.gets_anew("INVITE").has("CSeq: 2 INVITE").has("Session-Expires: *300").has("Min-SE: *300");
                s.says_with(200, "Supported: timer\nRequire: timer\nSession-Expires: 300;refresher=uac", &first())
                    .gets("ACK").awaits_bye()
            })
            .record("/failovers", 0),
        Pair::new("RFC 4028 §6: a re-INVITE of the server whose interval is too small gets 422, and the call goes on")
            .caller(|s| s.calls().awaits_bye())
            .server(|s| {
                let s = s.answers_and_waits();
                let s = s.sends_with("INVITE", "Supported: timer\nSession-Expires: 60", &sdp(1, "sendrecv")).hears(422);
                s.has("Min-SE: *90").acks_refusal().hangs_up()
            }),
    ]
}

fn refreshes_by_update(script: Script) -> Script {
    script
        .sends_with("UPDATE", "Supported: timer\nSession-Expires: 90;refresher=uac", "")
        .hears(200)
        .has("Session-Expires: *90;refresher=uac")
}

fn refreshes_by_invite(script: Script) -> Script {
    script
        .sends_with("INVITE", "Supported: timer\nSession-Expires: 90;refresher=uac", &first())
        .hears(200)
        .has("Session-Expires: *90;refresher=uac")
        .acks()
}

fn refreshed_by_peers() -> Vec<Pair> {
    vec![
        Pair::new("RFC 4028 §10: an UPDATE of the caller refreshes its leg and concerns no other")
            .caller(|s| {
                let s = s
                    .invite_with("Supported: timer\nSession-Expires: 90;refresher=uac", &first())
                    .hears(200)
                    .acks();
                refreshes_by_update(s).hangs_up()
            })
            .server(|s| s.answers_call().awaits_bye()),
        Pair::new("RFC 4028 §10: an UPDATE of the server refreshes its leg and concerns no other")
            .caller(|s| s.calls().awaits_bye())
            .server(|s| {
                let s = s.gets("INVITE");
                let timer = "Supported: timer\nRequire: timer\nSession-Expires: 90;refresher=uas";
                let s = s.says_with(200, timer, &first()).gets("ACK").quiet(100);
                refreshes_by_update(s).hangs_up()
            }),
        Pair::new("RFC 4028 §7.4: a re-INVITE of the caller refreshes its leg")
            .caller(|s| {
                let s = s
                    .invite_with("Supported: timer\nSession-Expires: 90;refresher=uac", &first())
                    .hears(200)
                    .acks();
                refreshes_by_invite(s).hangs_up()
            })
            .server(|s| {
                s.answers_call().gets("INVITE").says_with(200, "", &first()).gets("ACK").awaits_bye()
            }),
    ]
}

fn waiting() -> Vec<Pair> {
    let timer = "Supported: timer\nRequire: timer\nSession-Expires: 90;refresher=uac";
    vec![
        Pair::new("RFC 4028 §7.2: after half the interval the gateway refreshes the server's leg, by UPDATE where that is allowed")
            .caller(|s| s.calls().awaits_bye())
            .server(move |s| {
                let s = s.gets("INVITE").says_with(200, &format!("{timer}\n{UPDATING}"), &first()).gets("ACK");
                let s = s.gets("UPDATE").has("Session-Expires: *90;refresher=uac").lacks("m=audio");
                s.says_with(200, timer, "").quiet(50).hangs_up()
            })
            .patient(),
        Pair::new("RFC 4028 §7.4: after half the interval the gateway refreshes the server's leg, by re-INVITE where UPDATE is unknown")
            .caller(|s| s.calls().awaits_bye())
            .server(move |s| {
                let s = s.gets("INVITE").says_with(200, timer, &first()).gets("ACK");
                let s = s.gets("INVITE").has("CSeq: 2 INVITE").has("m=audio").has("Session-Expires: *90;refresher=uac");
                s.says_with(200, timer, &first()).gets("ACK").quiet(50).hangs_up()
            })
            .patient(),
        Pair::new("RFC 4028 §7.2: after half the interval the gateway refreshes the caller's leg when that is its part")
            .caller(|s| {
                let lines = format!("Supported: timer\nSession-Expires: 90;refresher=uas\n{UPDATING}");
                let s = s.invite_with(&lines, &first()).hears(200).acks().gets("UPDATE");
                s.has("Session-Expires: *90;refresher=uac").says_with(200, "Session-Expires: 90;refresher=uac", "").hangs_up()
            })
            .server(|s| s.answers_call().awaits_bye())
            .patient(),
        Pair::new("RFC 4028 §10: 481 to a refresh ends the call on both legs")
            .caller(|s| s.calls().awaits_bye())
            .server(move |s| {
                let s = s.gets("INVITE").says_with(200, &format!("{timer}\n{UPDATING}"), &first()).gets("ACK");
                s.gets("UPDATE").says(481).gets("BYE").says(481)
            })
            .record("/drop_reason", "SessionExpired")
            .patient(),
    ]
}
