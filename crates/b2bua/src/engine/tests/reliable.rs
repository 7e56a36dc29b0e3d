//! Reliable provisional responses (RFC 3262), on each leg for itself.

use std::time::Duration;

use sip::{HeaderId, Method};

use super::early_cast::{answer_to, calling, world};
use super::world::offer;
use super::{DEPOSIT, DIVERSION};
use crate::codes;

const RELIABLE: &str = "Require: 100rel\r\nRSeq: 8\r\nAllow: INVITE, PRACK, UPDATE\r\n";
const SUPPORTS: &str = "Supported: timer, 100rel\r\nAllow: INVITE, PRACK, UPDATE\r\n";
const REQUIRES: &str = "Require: 100rel\r\nAllow: INVITE, PRACK, UPDATE\r\n";

#[test]
fn the_invite_of_leg_b_offers_100rel_whatever_the_caller_says() {
    let mut world = calling("Supported: ms-early-media, replaces\r\n");
    let (_, invite) = world.waiting();
    assert!(sip::header::simple::has_option(&invite, HeaderId::Supported, "100rel"));
    assert!(!sip::header::simple::has_option(&invite, HeaderId::Supported, "ms-early-media"));
    assert!(sip::header::simple::allow(&invite).contains(&Method::Prack));
}

#[test]
fn a_reliable_18x_of_the_server_gets_prack_in_its_dialog_and_the_plain_caller_hears_nothing_of_it() {
    let mut world = calling("");
    let lines = format!("{RELIABLE}Record-Route: <sip:p1.contoso.com;lr>, <sip:p2.contoso.com;lr>\r\n");
    world.answers(180, "b1", &lines, None);
    assert_eq!(world.racks(), ["8 1 INVITE"]);
    let prack = world.party("cas01.contoso.com", 5061).requests.last().unwrap().clone();
    assert_eq!(prack.request_uri(), "sip:b1@10.0.2.1:5066");
    assert_eq!((prack.to_tag(), prack.cseq().number), (Some(&b"b1"[..]), 2));
    let routes: Vec<_> = prack.values(HeaderId::Route).collect();
    assert_eq!(routes, [&b"<sip:p2.contoso.com;lr>"[..], b"<sip:p1.contoso.com;lr>"]);
    let heard = world.last_heard();
    assert_eq!((heard.header(HeaderId::RSeq), heard.header(HeaderId::Require)), (None, None));
    let sdp = world.sdp_at(4000);
    world.answers(200, "b1", "", Some(sdp));
    assert_eq!(world.heard(), [180, 200]);
    world.hangs_up();
    let bye = world.party("cas01.contoso.com", 5061).requests.last().unwrap().clone();
    assert_eq!((bye.method(), bye.cseq().number), (&Method::Bye, 3), "the numbers go on behind the PRACK");
}

#[test]
fn repeated_and_out_of_order_rseqs_are_neither_acknowledged_nor_told_again() {
    let mut world = calling("");
    world.answers(180, "b1", "Require: 100rel\r\nRSeq: 8\r\n", None);
    world.answers(180, "b1", "Require: 100rel\r\nRSeq: 8\r\n", None);
    world.answers(182, "b1", "Require: 100rel\r\nRSeq: 10\r\n", None);
    assert_eq!((world.racks(), world.heard()), (vec!["8 1 INVITE".to_owned()], vec![180]));
    world.answers(182, "b1", "Require: 100rel\r\nRSeq: 9\r\n", None);
    world.answers(183, "b1", "Require: 100rel\r\nRSeq: 10\r\n", None);
    assert_eq!(world.racks(), ["8 1 INVITE", "9 1 INVITE", "10 1 INVITE"]);
    assert_eq!(world.heard(), [180, 182, 183]);
    world.answers(486, "b1", "", None);
    world.assert_clean();
}

#[test]
fn a_prack_that_is_never_answered_leaves_nothing_behind() {
    let mut world = calling("");
    let flow = world.party("cas01.contoso.com", 5061).flow.unwrap().key;
    world.answers(180, "b1", RELIABLE, None);
    world.answers(486, "b1", "", None);
    world.flows.remove(&flow);
    world.assert_clean();
}

#[test]
fn an_18x_that_wants_prack_but_has_no_rseq_is_an_ordinary_one() {
    for lines in [
        "Require: 100rel\r\n",
        "Require: 100rel\r\nRSeq: 0\r\n",
        "Require: 100rel\r\nRSeq: x\r\n",
        "RSeq: 7\r\n",
    ] {
        let mut world = calling("");
        world.answers(180, "b1", lines, None);
        assert_eq!((world.racks(), world.heard()), (vec![], vec![180]), "{lines}");
    }
}

#[test]
fn a_caller_that_supports_100rel_gets_descriptions_reliably_and_mere_ringing_not() {
    let mut world = calling(SUPPORTS);
    world.answers(180, "b1", "", None);
    assert_eq!(world.last_heard().header(HeaderId::RSeq), None);
    let sdp = world.sdp_at(4000);
    world.answers(183, "b1", "", Some(sdp));
    let told = world.last_heard();
    assert_eq!((world.heard(), told.header(HeaderId::Require)), (vec![180, 183], Some(&b"100rel"[..])));
    assert!(!told.body().is_empty() && (1..1 << 31).contains(&world.last_rseq()));
    assert!(world.racks().is_empty(), "the server's own 18x was not reliable");
    world.pracks(None);
    assert_eq!(world.caller().last_status(), 200);
    let sdp = world.sdp_at(4000);
    world.answers(200, "b1", "", Some(sdp));
    assert_eq!(world.heard(), [180, 183, 200]);
    assert!(world.last_heard().body().is_empty(), "the answer is complete already");
    assert!(world.server_methods().iter().all(|m| m != "PRACK"));
    world.hangs_up();
}

#[test]
fn a_caller_that_requires_100rel_gets_every_18x_reliably_one_at_a_time() {
    let mut world = calling(REQUIRES);
    world.answers(180, "b1", "", None);
    let first = world.last_rseq();
    let sdp = world.sdp_at(4000);
    world.answers(183, "b1", "", Some(sdp));
    world.answers(180, "b1", "", None);
    assert_eq!(world.heard(), [180], "the second waits for the PRACK of the first");
    world.pracks(None);
    assert_eq!((world.heard(), world.last_rseq()), (vec![180, 183], first + 1));
    assert!(!world.last_heard().body().is_empty());
    world.pracks(None);
    world.answers(200, "b1", "", None);
    assert_eq!(world.heard(), [180, 183, 200]);
    world.hangs_up();
}

#[test]
fn an_unacknowledged_18x_is_repeated_at_doubling_intervals_and_then_the_invite_is_rejected() {
    let mut world = calling(REQUIRES);
    world.answers(180, "b1", "", None);
    world.advance(Duration::from_millis(3600));
    assert_eq!(world.heard(), [180; 4], "after 0.5, 1.5 and 3.5 s");
    world.advance(Duration::from_secs(29));
    assert_eq!(world.heard().last(), Some(&504));
    assert_eq!(world.server_methods(), ["INVITE", "CANCEL"]);
    world.answers(487, "b1", "", None);
    world.assert_clean();
    assert_eq!(world.records[0].verdict.code, codes::PRACK_MISSING);
}

#[test]
fn a_prack_that_matches_nothing_gets_481_and_stops_nothing() {
    let mut world = calling(REQUIRES);
    world.answers(180, "b1", "", None);
    let rseq = world.last_rseq();
    for rack in [format!("{} 1 INVITE", rseq + 1), format!("{rseq} 2 INVITE"), format!("{rseq} 1 UPDATE")] {
        world.pracks_as(&rack, None);
        assert_eq!(world.caller().last_status(), 481, "{rack}");
    }
    world.pracks_as("nonsense", None);
    assert_eq!(world.caller().last_status(), 400);
    world.advance(Duration::from_millis(600));
    assert_eq!(world.heard(), [180, 180]);
    world.pracks(None);
    assert_eq!(world.caller().last_status(), 200);
    world.pracks(None);
    assert_eq!(world.caller().last_status(), 481, "once is enough");
    world.advance(Duration::from_secs(10));
    assert_eq!(world.heard(), [180, 180]);
}

#[test]
fn the_200_waits_while_a_described_18x_is_unacknowledged() {
    let mut world = calling(SUPPORTS);
    let sdp = world.sdp_at(4000);
    world.answers(183, "b1", "", Some(sdp));
    world.answers(200, "b1", "", None);
    assert_eq!(world.heard(), [183]);
    assert_eq!(world.engine.status().by_state, [("awaiting PRACK", 1)]);
    assert_eq!(world.party("cas01.contoso.com", 5061).acks.len(), 1, "leg B is not kept waiting");
    world.pracks(None);
    assert_eq!(world.heard(), [183, 200]);
    assert_eq!(world.engine.status().by_state, [("established", 1)]);
    world.hangs_up();
}

#[test]
fn a_200_does_not_wait_for_an_18x_without_description_and_its_late_prack_is_still_taken() {
    let mut world = calling(REQUIRES);
    world.answers(180, "b1", "", None);
    let rseq = world.last_rseq();
    let sdp = world.sdp_at(4000);
    world.answers(200, "b1", "", Some(sdp));
    assert_eq!(world.heard(), [180, 200]);
    world.advance(Duration::from_secs(2));
    assert_eq!(world.heard(), [180, 200], "a final response ends the repetitions");
    world.pracks_as(&format!("{rseq} 1 INVITE"), None);
    assert_eq!(world.caller().last_status(), 200);
    world.hangs_up();
}

#[test]
fn a_held_answer_is_given_up_on_both_legs_when_the_prack_never_comes() {
    let mut world = calling(SUPPORTS);
    let sdp = world.sdp_at(4000);
    world.answers(183, "b1", "", Some(sdp));
    world.answers(200, "b1", "", None);
    world.advance(Duration::from_secs(33));
    assert_eq!(world.heard().last(), Some(&504));
    assert_eq!(world.server_methods(), ["INVITE", "BYE"]);
    world.assert_clean();
    assert_eq!((world.records.len(), world.records[0].verdict.code), (1, codes::PRACK_MISSING));
}

#[test]
fn a_cancel_or_a_bye_while_the_200_is_held_ends_both_legs() {
    for by_cancel in [true, false] {
        let mut world = world();
        let lines = format!("{DIVERSION}{SUPPORTS}");
        let invite = world.invite(DEPOSIT, &lines, Some(offer("10.0.0.5", 3000, Some(9))));
        let sdp = world.sdp_at(4000);
        world.answers(183, "b1", "", Some(sdp));
        world.answers(200, "b1", "", None);
        if by_cancel {
            let now = world.now;
            world.caller().endpoint.cancel(now, invite);
            world.pump();
        } else {
            world.caller_learns();
            world.in_dialog(&super::world::caller(), Method::Bye, "", None);
        }
        assert_eq!(world.heard(), [183, 487]);
        assert_eq!(world.server_methods(), ["INVITE", "BYE"]);
        world.assert_clean();
        assert_eq!(world.records.len(), 1);
    }
}

#[test]
fn a_server_that_hangs_up_while_the_200_is_held_ends_the_caller_too() {
    let mut world = calling(SUPPORTS);
    let sdp = world.sdp_at(4000);
    world.answers(183, "b1", "", Some(sdp));
    world.answers(200, "b1", "", None);
    world.server_says("b1", 1, Method::Bye, "", None);
    assert!(world.heard().last().is_some_and(|status| *status >= 400));
    world.assert_clean();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_late_offer_goes_out_in_the_reliable_18x_and_its_answer_comes_in_the_prack() {
    let mut world = world();
    world.invite(DEPOSIT, &format!("{DIVERSION}{SUPPORTS}"), None);
    world.answers(180, "b1", "", None);
    let sdp = world.sdp_at(4000);
    world.answers(183, "b1", RELIABLE, Some(sdp));
    let offered = world.last_heard();
    assert_eq!((world.heard(), world.racks()), (vec![180, 183], vec!["8 1 INVITE".to_owned()]));
    assert!(world.plans.is_empty());
    let body = answer_to(&offered.body(), "10.0.0.5", 3000, &["PCMU"]);
    world.pracks(Some(body));
    assert_eq!(world.caller().last_status(), 200);
    assert_eq!(world.plans.last().unwrap().a.remote_rtp.to_string(), "10.0.0.5:3000");
    world.answers(200, "b1", "", None);
    assert_eq!(world.heard(), [180, 183, 200]);
    assert!(world.last_heard().body().is_empty());
    world.hangs_up();
}

#[test]
fn the_200_waits_for_the_answer_to_a_late_offer_too() {
    let mut world = world();
    world.invite(DEPOSIT, &format!("{DIVERSION}{SUPPORTS}"), None);
    let sdp = world.sdp_at(4000);
    world.answers(183, "b1", "", Some(sdp.clone()));
    let offered = world.last_heard();
    world.answers(200, "b1", "", Some(sdp));
    assert_eq!(world.heard(), [183]);
    let body = answer_to(&offered.body(), "10.0.0.5", 3000, &["PCMU"]);
    world.pracks(Some(body));
    assert_eq!(world.heard(), [183, 200]);
    world.hangs_up();
}

#[test]
fn a_late_offer_that_is_answered_without_keys_or_not_at_all_ends_the_call() {
    for is_plain in [true, false] {
        let mut world = world();
        world.invite(DEPOSIT, &format!("{DIVERSION}{SUPPORTS}"), None);
        let sdp = world.sdp_at(4000);
        world.answers(183, "b1", "", Some(sdp));
        world.pracks(is_plain.then(|| offer("10.0.0.5", 3000, None)));
        assert_eq!(world.caller().responses.last().unwrap().status().unwrap().code(), 488, "{is_plain}");
        assert!(world.plans.is_empty());
        assert_eq!(world.server_methods(), ["INVITE", "CANCEL"]);
        world.answers(487, "b1", "", None);
        world.assert_clean();
    }
}

#[test]
fn a_caller_that_requires_100rel_and_offers_nothing_hears_nothing_before_there_is_an_offer() {
    let mut world = world();
    world.invite(DEPOSIT, &format!("{DIVERSION}{REQUIRES}"), None);
    world.answers(180, "b1", "", None);
    assert!(world.heard().is_empty(), "the first reliable response must carry the offer");
    let sdp = world.sdp_at(4000);
    world.answers(183, "b1", "", Some(sdp));
    assert_eq!(world.heard(), [183]);
    assert!(!world.last_heard().body().is_empty());
}

#[test]
fn an_offer_in_a_prack_is_answered_in_its_200_and_decided_like_any_other() {
    let mut world = calling(SUPPORTS);
    let sdp = world.sdp_at(4000);
    world.answers(183, "b1", "", Some(sdp));
    let mut plain = calling(SUPPORTS);
    let sdp = plain.sdp_at(4000);
    plain.answers(183, "b1", "", Some(sdp));

    world.pracks(Some(offer("10.0.0.6", 3456, Some(9))));
    let answer = world.caller().responses.last().unwrap().clone();
    assert_eq!((world.caller().last_status(), answer.method()), (200, &Method::Prack));
    assert_eq!(
        sdp::Session::parse(&answer.body()).unwrap().audio().unwrap().security(),
        sdp::MediaSecurity::Required
    );
    assert_eq!(world.plans.last().unwrap().a.remote_rtp.to_string(), "10.0.0.6:3456");
    world.answers(200, "b1", "", None);
    world.hangs_up();

    let plans = plain.plans.len();
    plain.pracks(Some(offer("10.0.0.6", 3456, None)));
    assert_eq!((plain.caller().last_status(), plain.plans.len()), (488, plans));
    plain.answers(200, "b1", "", None);
    assert_eq!(plain.heard(), [183, 200], "the PRACK counted, its offer did not");
    plain.hangs_up();
}

#[test]
fn both_legs_may_be_reliable_each_with_numbers_of_its_own() {
    let mut world = calling(REQUIRES);
    let sdp = world.sdp_at(4000);
    world.answers(183, "b1", RELIABLE, Some(sdp));
    assert_eq!(world.racks(), ["8 1 INVITE"]);
    world.pracks(None);
    assert_eq!(world.caller().last_status(), 200);
    assert_eq!(world.racks(), ["8 1 INVITE"], "the caller's PRACK ends here");
    world.answers(200, "b1", "", None);
    world.hangs_up();
}

#[test]
fn an_early_answer_without_keys_is_not_told_and_refused_when_the_call_is_answered() {
    for lines in ["", RELIABLE] {
        let mut world = calling("");
        let plain = sdp::write_answer(
            &sdp::Session::parse(&offer("10.0.0.1", 1, None)).unwrap(),
            &sdp::OfferSpec::new("10.0.2.1".parse().unwrap(), 4000),
        );
        world.answers(183, "b1", lines, Some(plain.unwrap()));
        assert!(world.plans.is_empty() && world.last_heard().body().is_empty());
        world.answers(200, "b1", "", None);
        assert_eq!(world.heard().last(), Some(&488));
        assert_eq!(world.server_methods().last().map(String::as_str), Some("BYE"));
        assert!(world.plans.is_empty(), "no packet may flow");
        world.assert_clean();
    }
}

#[test]
fn a_provisional_response_nobody_knows_is_told_as_183() {
    let mut world = calling("");
    for status in [181, 188, 199] {
        world.answers(status, "b1", "", None);
    }
    assert_eq!(world.heard(), [181, 183, 183]);
}
