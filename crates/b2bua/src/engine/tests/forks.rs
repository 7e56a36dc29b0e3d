//! Several early dialogs on leg B; the caller always sees one.

use bytes::Bytes;
use sip::{HeaderId, Method};

use super::early_cast::{answer_to, calling};
use super::glare::send_ack;
use super::world::{World, caller, offer};
use crate::call::forks::EARLY_DIALOGS_MAX;

const SUPPORTS: &str = "Supported: 100rel\r\nAllow: INVITE, PRACK, UPDATE\r\n";

fn pcma(world: &mut World, port: u16) -> Bytes {
    let (_, invite) = world.waiting();
    answer_to(&invite.body(), "10.0.2.2", port, &["PCMA"])
}

fn our_tags(world: &mut World) -> Vec<Vec<u8>> {
    let mut tags: Vec<Vec<u8>> = world
        .caller()
        .responses
        .iter()
        .filter(|r| r.status().is_some_and(|s| s.code() > 100))
        .filter_map(|r| r.to_tag().map(<[u8]>::to_vec))
        .collect();
    tags.dedup();
    tags
}

#[test]
fn two_early_dialogs_have_numbers_routes_and_pracks_of_their_own_and_the_caller_sees_one() {
    let mut world = calling("");
    world.answers(180, "f1", "Require: 100rel\r\nRSeq: 5\r\nRecord-Route: <sip:p1.contoso.com;lr>\r\n", None);
    world.answers(
        180,
        "f2",
        "Require: 100rel\r\nRSeq: 900\r\nRecord-Route: <sip:p2.contoso.com;lr>\r\n",
        None,
    );
    world.answers(180, "f1", "Require: 100rel\r\nRSeq: 6\r\nRecord-Route: <sip:p1.contoso.com;lr>\r\n", None);
    assert_eq!(world.racks(), ["5 1 INVITE", "900 1 INVITE", "6 1 INVITE"]);
    let pracks = world.party("cas01.contoso.com", 5061).requests[1..].to_vec();
    let seen: Vec<_> = pracks
        .iter()
        .map(|p| (p.to_tag().unwrap(), p.cseq().number, p.header(HeaderId::Route).unwrap()))
        .collect();
    let (f1, f2) =
        ((&b"f1"[..], &b"<sip:p1.contoso.com;lr>"[..]), (&b"f2"[..], &b"<sip:p2.contoso.com;lr>"[..]));
    assert_eq!(seen, [(f1.0, 2, f1.1), (f2.0, 2, f2.1), (f1.0, 3, f1.1)]);
    assert_eq!(our_tags(&mut world).len(), 1);
    let sdp = world.sdp_at(4002);
    world.answers(200, "f2", "", Some(sdp));
    assert_eq!(our_tags(&mut world).len(), 1);
    world.in_dialog(&caller(), Method::Bye, "", None);
    let bye = world.party("cas01.contoso.com", 5061).requests.last().unwrap().clone();
    assert_eq!((bye.to_tag(), bye.cseq().number), (Some(&b"f2"[..]), 3));
    world.assert_clean();
}

#[test]
fn a_late_18x_after_the_2xx_is_ignored() {
    let mut world = calling("");
    world.answers(180, "f1", "", None);
    let sdp = world.sdp_at(4000);
    world.answers(200, "f1", "", Some(sdp.clone()));
    world.answers_raw(180, "f2", "Require: 100rel\r\nRSeq: 1\r\n", None);
    world.answers_raw(183, "f1", "", Some(sdp));
    assert_eq!((world.heard(), world.racks()), (vec![180, 200], vec![]));
    assert_eq!(world.engine.status().by_state, [("established", 1)]);
    world.hangs_up();
}

#[test]
fn a_second_2xx_of_another_fork_gets_ack_and_bye_and_the_first_goes_on() {
    let mut world = calling("");
    world.answers(180, "f1", "", None);
    world.answers(180, "f2", "", None);
    let sdp = world.sdp_at(4000);
    world.answers(200, "f1", "", Some(sdp.clone()));
    world.answers_raw(200, "f2", "", Some(sdp.clone()));
    let server = world.party("cas01.contoso.com", 5061);
    let bye = server.requests.last().unwrap().clone();
    assert_eq!((bye.method(), bye.to_tag()), (&Method::Bye, Some(&b"f2"[..])));
    assert_eq!(world.engine.status().by_state, [("established", 1)]);
    assert_eq!(world.plans.last().unwrap().b.remote_rtp.to_string(), "10.0.2.1:4000");
    world.answers_raw(200, "f2", "", Some(sdp));
    assert_eq!(world.server_methods().iter().filter(|m| *m == "BYE").count(), 1, "once");
    world.hangs_up();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn the_fork_that_answers_wins_and_its_media_replaces_the_early_one() {
    let mut world = calling("");
    let (early, late) = (world.sdp_at(4000), world.sdp_at(4010));
    world.answers(183, "f1", "", Some(early));
    assert_eq!(world.plans.last().unwrap().b.remote_rtp.to_string(), "10.0.2.1:4000");
    let told = world.last_heard().body();
    world.answers(200, "f2", "", Some(late));
    assert_eq!(world.last_heard().body(), told, "a 2xx repeats the answer of its 18x");
    assert_eq!(world.plans.last().unwrap().b.remote_rtp.to_string(), "10.0.2.1:4010");
    assert_eq!(world.caller().methods(), Vec::<String>::new(), "the caller sends to us as before");
    world.hangs_up();
}

#[test]
fn the_media_of_the_first_described_fork_runs_until_another_one_answers() {
    let mut world = calling("");
    let (first, second) = (world.sdp_at(4000), world.sdp_at(4010));
    world.answers(183, "f1", "", Some(first));
    world.answers(183, "f2", "", Some(second));
    assert_eq!((world.plans.len(), world.heard()), (1, vec![183, 183]));
    world.answers(200, "f2", "", None);
    assert_eq!(world.heard().last(), Some(&200));
    assert_eq!(world.plans.last().unwrap().b.remote_rtp.to_string(), "10.0.2.1:4010");
    world.hangs_up();
}

#[test]
fn another_number_of_the_winning_fork_is_between_it_and_us() {
    let mut world = calling("");
    let numbered = |body: Bytes, number: u8| {
        let text = String::from_utf8(body.to_vec()).unwrap();
        Bytes::from(text.replace(" 101", &format!(" {number}")).replace(":101 ", &format!(":{number} ")))
    };
    let (early, late) = (numbered(world.sdp_at(4000), 96), numbered(world.sdp_at(4010), 97));
    world.answers(183, "f1", "", Some(early));
    assert_eq!(world.plans.last().unwrap().a.formats.sent(101), Ok(96));
    world.answers(200, "f2", "", Some(late));
    let plan = world.plans.last().unwrap();
    assert_eq!((plan.a.formats.sent(101), plan.b.formats.sent(101)), (Ok(97), Ok(101)));
    assert_eq!(world.caller().methods(), Vec::<String>::new(), "the caller's numbers are as it was told");
    world.hangs_up();
}

#[test]
fn another_codec_of_the_winning_fork_is_offered_to_the_caller_anew() {
    for (caller_says, statuses) in [("", [183, 200]), (SUPPORTS, [183, 200])] {
        let mut world = calling(caller_says);
        let early = world.sdp_at(4000);
        world.answers(183, "f1", "", Some(early));
        if !caller_says.is_empty() {
            world.pracks(None);
        }
        let late = pcma(&mut world, 4010);
        world.answers(200, "f2", "", Some(late));
        assert_eq!(world.heard()[..2], statuses);
        let reoffer = world.caller().requests.last().expect("a re-INVITE").clone();
        assert_eq!(*reoffer.method(), Method::Invite);
        let offered = sdp::Session::parse(&reoffer.body()).unwrap();
        let names: Vec<_> = offered
            .audio()
            .unwrap()
            .formats
            .iter()
            .filter(|f| !f.is_auxiliary())
            .map(|f| f.name.clone())
            .collect();
        assert_eq!(names, ["PCMA"]);
        assert_eq!(world.caller().acks.len(), 1, "and its 200 is acknowledged");
        let plan = world.plans.last().unwrap();
        assert!(
            plan.a.formats.sent(8) == Ok(8)
                && plan.b.formats.sent(8) == Ok(8)
                && plan.a.formats.sent(0).is_err()
        );
        assert_eq!(world.engine.status().by_state, [("established", 1)]);
        world.hangs_up();
    }
}

#[test]
fn a_reoffer_that_meets_491_is_tried_again_and_one_that_is_refused_leaves_the_call() {
    for status in [491, 488] {
        let mut world = calling("");
        let early = world.sdp_at(4000);
        world.answers(183, "f1", "", Some(early));
        world.caller().answers_reoffer = status;
        let late = pcma(&mut world, 4010);
        world.answers(200, "f2", "", Some(late));
        assert_eq!(world.caller().methods(), ["INVITE"]);
        world.caller().answers_reoffer = 200;
        world.advance(std::time::Duration::from_secs(3));
        let again = if status == 491 { 2 } else { 1 };
        assert_eq!(world.caller().methods().len(), again, "{status}");
        assert_eq!(world.engine.status().by_state, [("established", 1)]);
        world.hangs_up();
    }
}

#[test]
fn a_reoffer_that_is_never_answered_leaves_the_call_and_later_offers_alone() {
    let mut world = calling("");
    let early = world.sdp_at(4000);
    world.answers(183, "f1", "", Some(early));
    world.caller().holds_ack = true;
    let late = pcma(&mut world, 4010);
    world.answers(200, "f2", "", Some(late));
    world.deaf(&caller());
    send_ack(&mut world, None);
    world.advance(std::time::Duration::from_secs(33));
    assert_eq!(world.engine.status().by_state, [("established", 1)]);
    world.hears(&caller());
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.5", 3002, Some(9))));
    assert_ne!(world.caller().last_status(), 491, "no offer of ours is open any more");
    world.hangs_up();
}

#[test]
fn more_early_dialogs_than_the_limit_are_not_looked_at_and_a_known_one_still_answers() {
    let mut world = calling("");
    for n in 0..EARLY_DIALOGS_MAX + 5 {
        world.answers(180, &format!("f{n}"), "Require: 100rel\r\nRSeq: 1\r\n", None);
    }
    assert_eq!((world.racks().len(), world.heard().len()), (EARLY_DIALOGS_MAX, EARLY_DIALOGS_MAX));
    let counted =
        world.engine.status().counters.iter().any(|(n, c)| *n == "early_dialogs_over_the_limit" && *c == 5);
    assert!(counted);
    let sdp = world.sdp_at(4000);
    world.answers(200, "f99", "", Some(sdp));
    assert_eq!(world.heard().last(), Some(&200), "a 2xx of an unknown fork is an answer like any other");
    world.hangs_up();
}

#[test]
fn the_answer_told_before_a_fail_over_stands_and_the_next_servers_media_runs() {
    let mut world = calling("");
    world.script("cas02.contoso.com", 5061, super::world::Script::Answer);
    let early = world.sdp_at(4000);
    world.answers(183, "f1", "", Some(early));
    let told = world.last_heard().body();
    world.answers(503, "f1", "", None);
    assert_eq!(world.heard().last(), Some(&200));
    assert_eq!(world.last_heard().body(), told);
    assert_eq!(our_tags(&mut world).len(), 1);
    world.hangs_up();
    assert_eq!(world.records[0].failovers, 1);
}

#[test]
fn a_fork_that_says_bye_is_over_and_the_others_go_on() {
    let mut world = calling("");
    world.answers(180, "f1", "", None);
    world.answers(180, "f2", "", None);
    world.server_says("f1", 1, Method::Bye, "", None);
    assert_eq!(world.party("cas01.contoso.com", 5061).last_status(), 200);
    assert_eq!((world.heard(), world.server_methods()), (vec![180, 180], vec!["INVITE".to_owned()]));
    world.answers(182, "f1", "", None);
    assert_eq!(world.heard(), [180, 180], "nothing of it is heard any more");
    let sdp = world.sdp_at(4000);
    world.answers(200, "f2", "", Some(sdp));
    assert_eq!(world.heard(), [180, 180, 200]);
    world.hangs_up();
}

#[test]
fn a_prack_that_comes_during_the_wait_of_a_reoffer_does_not_end_that_wait() {
    let mut world = calling("Require: 100rel\r\n");
    let early = world.sdp_at(4000);
    world.answers(183, "f1", "", Some(early));
    world.pracks(None);
    world.answers(180, "f1", "", None);
    let rseq = world.last_rseq();
    world.caller().answers_reoffer = 491;
    let late = pcma(&mut world, 4010);
    world.answers(200, "f2", "", Some(late));
    assert_eq!(world.caller().methods(), ["INVITE"]);
    world.pracks_as(&format!("{rseq} 1 INVITE"), None);
    assert_eq!(world.caller().last_status(), 200);
    world.caller().answers_reoffer = 200;
    world.advance(std::time::Duration::from_secs(3));
    assert_eq!(world.caller().methods(), ["INVITE", "INVITE"]);
    world.hangs_up();
}
