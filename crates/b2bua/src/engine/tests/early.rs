//! Requests in early dialogs: UPDATE (RFC 3311) from either side, everything else carried across.

use sip::{HeaderId, Method};

use super::early_cast::{calling, server};
use super::world::{World, caller, offer};

const RELIABLE: &str = "Require: 100rel\r\nRSeq: 8\r\nAllow: INVITE, PRACK, UPDATE\r\n";
const SUPPORTS: &str = "Supported: 100rel\r\nAllow: INVITE, PRACK, UPDATE\r\n";

/// Offer and answer are complete on both early dialogs.
fn agreed(caller_says: &str, server_says: &str) -> World {
    let mut world = calling(caller_says);
    let sdp = world.sdp_at(4000);
    world.answers(183, "b1", server_says, Some(sdp));
    world.pracks(None);
    world
}

fn server_status(world: &mut World) -> u16 {
    let (name, port) = server();
    world.party(&name, port).last_status()
}

#[test]
fn an_update_without_an_offer_is_answered_at_once_and_moves_the_target() {
    let mut world = calling("");
    world.answers(180, "b1", "", None);
    world.caller_learns();
    world.in_dialog(&caller(), Method::Update, "", None);
    assert_eq!(world.caller().last_status(), 200);
    assert!(world.caller().responses.last().unwrap().header(HeaderId::Contact).is_some());
    assert_eq!(world.server_methods(), ["INVITE"]);
    world.server_says("b1", 1, Method::Update, "", None);
    assert_eq!(server_status(&mut world), 200);
    let sdp = world.sdp_at(4000);
    world.answers(200, "b1", "", Some(sdp));
    world.hangs_up();
}

#[test]
fn an_offer_of_the_caller_is_carried_to_the_server_and_its_answer_back() {
    let mut world = agreed(SUPPORTS, RELIABLE);
    world.in_dialog(&caller(), Method::Update, "", Some(offer("10.0.0.6", 3456, Some(9))));
    assert_eq!(world.server_methods(), ["INVITE", "PRACK", "UPDATE"]);
    let answer = world.caller().responses.last().unwrap().clone();
    assert_eq!((world.caller().last_status(), answer.method()), (200, &Method::Update));
    assert!(!answer.body().is_empty() && answer.header(HeaderId::Contact).is_some());
    assert_eq!(world.plans.last().unwrap().a.remote_rtp.to_string(), "10.0.0.6:3456");
    world.answers(200, "b1", "", None);
    assert_eq!(world.heard().last(), Some(&200));
    assert!(world.last_heard().body().is_empty());
    assert_eq!(
        world.plans.last().unwrap().a.remote_rtp.to_string(),
        "10.0.0.6:3456",
        "the change outlives the 200"
    );
    world.hangs_up();
}

#[test]
fn an_offer_of_the_server_is_carried_to_the_caller_and_its_answer_back() {
    let mut world = agreed(SUPPORTS, RELIABLE);
    world.server_says("b1", 1, Method::Update, "", Some(offer("10.0.2.9", 4444, Some(0x5b))));
    assert_eq!(world.caller().methods(), ["UPDATE"]);
    assert_eq!(server_status(&mut world), 200);
    assert_eq!(world.plans.last().unwrap().b.remote_rtp.to_string(), "10.0.2.9:4444");
    world.answers(200, "b1", "", None);
    assert_eq!(world.plans.last().unwrap().b.remote_rtp.to_string(), "10.0.2.9:4444");
    world.hangs_up();
}

#[test]
fn an_offer_whose_other_leg_cannot_be_asked_is_answered_from_what_that_leg_agreed_to() {
    // The server's 18x is not reliable, so no UPDATE may go there; and a caller without 100rel cannot get one.
    let mut world = agreed(SUPPORTS, "");
    world.in_dialog(&caller(), Method::Update, "", Some(offer("10.0.0.6", 3456, Some(9))));
    assert_eq!((world.caller().last_status(), world.server_methods()), (200, vec!["INVITE".to_owned()]));
    assert_eq!(world.plans.last().unwrap().a.remote_rtp.to_string(), "10.0.0.6:3456");
    let mut world = calling("");
    let sdp = world.sdp_at(4000);
    world.answers(183, "b1", RELIABLE, Some(sdp));
    world.server_says("b1", 1, Method::Update, "", Some(offer("10.0.2.9", 4444, Some(0x5b))));
    assert_eq!(server_status(&mut world), 200);
    assert!(world.caller().methods().is_empty());
    assert_eq!(world.plans.last().unwrap().b.remote_rtp.to_string(), "10.0.2.9:4444");
    world.answers(200, "b1", "", None);
    world.hangs_up();
}

#[test]
fn what_the_other_leg_never_agreed_to_is_504() {
    let mut world = agreed(SUPPORTS, "");
    let mut spec = sdp::OfferSpec::new("10.0.0.6".parse().unwrap(), 3456);
    spec.profile = sdp::Profile::RtpSavp;
    spec.crypto = vec![super::world::line(2, sdp::Suite::AesCm128HmacSha1_80, 9)];
    spec.formats.retain(|f| f.is("PCMA"));
    world.in_dialog(&caller(), Method::Update, "", Some(sdp::write_offer(&spec)));
    assert_eq!(world.caller().last_status(), 504);
    // What the plan forbids needs nobody to be asked.
    world.in_dialog(&caller(), Method::Update, "", Some(offer("10.0.0.6", 3458, None)));
    assert_eq!(world.caller().last_status(), 488);
}

#[test]
fn a_broken_description_in_an_18x_that_may_be_lost_is_no_answer_and_the_2xx_brings_one() {
    let mut world = calling("");
    world.answers(183, "b1", "", Some(bytes::Bytes::from_static(b"v=9\r\n")));
    assert_eq!((world.heard(), world.last_heard().body().len()), (vec![183], 0));
    let sdp = world.sdp_at(4000);
    world.answers(200, "b1", "", Some(sdp));
    assert_eq!(world.heard(), [183, 200]);
    world.hangs_up();
}

#[test]
fn an_update_that_is_never_answered_is_504() {
    let (name, port) = server();
    let mut world = agreed(SUPPORTS, RELIABLE);
    world.deaf(&(name, port));
    world.in_dialog(&caller(), Method::Update, "", Some(offer("10.0.0.6", 3456, Some(9))));
    world.advance(std::time::Duration::from_secs(33));
    let update = world.caller().responses.iter().rfind(|r| *r.method() == Method::Update).cloned();
    assert_eq!(update.and_then(|r| r.status()).map(|s| s.code()), Some(504));
}

#[test]
fn an_offer_before_the_first_one_is_answered_gets_500_and_one_across_ours_491() {
    let mut world = calling(SUPPORTS);
    world.answers(180, "b1", "", None);
    world.caller_learns();
    world.in_dialog(&caller(), Method::Update, "", Some(offer("10.0.0.6", 3456, Some(9))));
    assert_eq!(world.caller().last_status(), 500);
    let wait = world.caller().responses.last().unwrap().header(HeaderId::RetryAfter).map(<[u8]>::to_vec);
    let wait: u32 = String::from_utf8(wait.expect("Retry-After")).unwrap().parse().unwrap();
    assert!(wait <= 10);
    world.server_says("b1", 1, Method::Update, "", Some(offer("10.0.2.9", 4444, Some(0x5b))));
    assert_eq!(server_status(&mut world), 491);
}

#[test]
fn crossing_updates_get_491_and_a_second_one_500_and_the_first_goes_through() {
    let mut world = agreed(SUPPORTS, RELIABLE);
    let (name, port) = server();
    let invite = world.waiting();
    world.party(&name, port).answers_reoffer = 0;
    world.in_dialog(&caller(), Method::Update, "", Some(offer("10.0.0.6", 3456, Some(9))));
    let update = world.party(&name, port).pending.replace(invite.clone());
    world.in_dialog(&caller(), Method::Update, "", Some(offer("10.0.0.6", 3458, Some(9))));
    assert_eq!(world.caller().last_status(), 500);
    world.server_says("b1", 1, Method::Update, "", Some(offer("10.0.2.9", 4444, Some(0x5b))));
    assert_eq!(server_status(&mut world), 491);
    world.party(&name, port).pending = update;
    let now = world.now;
    world.party(&name, port).answer_pending(now);
    world.pump();
    assert_eq!(world.caller().last_status(), 200);
    assert_eq!(world.plans.last().unwrap().a.remote_rtp.to_string(), "10.0.0.6:3456");
    world.party(&name, port).pending = Some(invite);
    world.answers(200, "b1", "", None);
    world.hangs_up();
}

#[test]
fn an_update_that_the_answer_overtakes_is_still_answered() {
    let mut world = agreed(SUPPORTS, RELIABLE);
    let (name, port) = server();
    let invite = world.waiting();
    world.party(&name, port).answers_reoffer = 0;
    world.in_dialog(&caller(), Method::Update, "", Some(offer("10.0.0.6", 3456, Some(9))));
    let update = world.party(&name, port).pending.replace(invite);
    world.answers(200, "b1", "", None);
    assert_eq!(world.heard().last(), Some(&200));
    world.party(&name, port).pending = update;
    let now = world.now;
    world.party(&name, port).answer_pending(now);
    world.pump();
    assert_eq!(
        (world.caller().last_status(), world.caller().responses.last().unwrap().method().clone()),
        (200, Method::Update)
    );
    assert_eq!(world.plans.last().unwrap().a.remote_rtp.to_string(), "10.0.0.6:3456");
    world.hangs_up();
}

#[test]
fn an_update_under_way_is_answered_when_the_call_ends_or_another_fork_wins() {
    for wins in [false, true] {
        let mut world = agreed(SUPPORTS, RELIABLE);
        let (name, port) = server();
        let invite = world.waiting();
        world.party(&name, port).answers_reoffer = 0;
        world.in_dialog(&caller(), Method::Update, "", Some(offer("10.0.0.6", 3456, Some(9))));
        world.party(&name, port).pending = Some(invite);
        if wins {
            let sdp = world.sdp_at(4010);
            world.answers(200, "b2", "", Some(sdp));
        } else {
            world.answers(486, "b1", "", None);
        }
        let update = world.caller().responses.iter().find(|r| *r.method() == Method::Update);
        assert_eq!(update.and_then(|r| r.status()).map(|s| s.code()), Some(500), "{wins}");
        if wins {
            world.in_dialog(&caller(), Method::Bye, "", None);
        }
        world.assert_clean();
    }
}

#[test]
fn a_downgrade_in_an_update_is_refused_and_changes_nothing() {
    let mut world = agreed(SUPPORTS, RELIABLE);
    let plans = world.plans.len();
    world.in_dialog(&caller(), Method::Update, "", Some(offer("10.0.0.6", 3456, None)));
    assert_eq!(world.caller().last_status(), 488);
    world.server_says("b1", 1, Method::Update, "", Some(offer("10.0.2.9", 4444, None)));
    assert_eq!(server_status(&mut world), 488);
    assert_eq!(world.plans.len(), plans);
    world.answers(200, "b1", "", None);
    world.hangs_up();
}

#[test]
fn other_requests_cross_the_early_dialogs_in_both_directions() {
    let mut world = calling("");
    world.answers(180, "b1", "", None);
    world.caller_learns();
    for method in [Method::Info, Method::Options, Method::Message, Method::Other("FOO".into())] {
        world.in_dialog(&caller(), method.clone(), "", None);
        assert_eq!(world.caller().last_status(), 200, "{method:?}");
        let got = world.party("cas01.contoso.com", 5061).requests.last().unwrap().clone();
        assert_eq!((got.method(), got.to_tag()), (&method, Some(&b"b1"[..])));
    }
    world.server_says("b1", 1, Method::Info, "", None);
    assert_eq!((server_status(&mut world), world.caller().methods()), (200, vec!["INFO".to_owned()]));
    let sdp = world.sdp_at(4000);
    world.answers(200, "b1", "", Some(sdp));
    world.hangs_up();
}

#[test]
fn a_request_goes_to_the_fork_whose_media_the_caller_hears() {
    let mut world = calling("");
    let sdp = world.sdp_at(4000);
    world.answers(183, "f1", "", Some(sdp));
    world.answers(180, "f2", "", None);
    world.caller_learns();
    world.in_dialog(&caller(), Method::Info, "", None);
    assert_eq!(world.party("cas01.contoso.com", 5061).requests.last().unwrap().to_tag(), Some(&b"f1"[..]));
}

#[test]
fn an_early_request_that_was_never_answered_ends_with_the_call() {
    let mut world = calling("");
    world.answers(180, "b1", "", None);
    world.caller_learns();
    let (flow, place) =
        world.flows.iter().find(|(_, place)| **place == server()).map(|(f, p)| (*f, p.clone())).unwrap();
    world.flows.remove(&flow);
    world.in_dialog(&caller(), Method::Info, "", None);
    world.flows.insert(flow, place);
    world.answers(486, "b1", "", None);
    assert!(
        world
            .caller()
            .responses
            .iter()
            .any(|r| *r.method() == Method::Info && r.status().unwrap().code() == 481)
    );
    world.assert_clean();
}

#[test]
fn without_an_early_dialog_on_the_other_leg_a_request_is_pending() {
    let mut world = calling("");
    // Without a Contact an 18x makes no dialog (RFC 3261 §12.1.1).
    let (key, invite) = world.waiting();
    let status = sip::StatusCode::new(180).unwrap();
    let bytes = sip::response_to(&invite, status, None, Some(b"b1")).finish(None, b"").unwrap();
    let ((name, port), now) = (server(), world.now);
    world.party(&name, port).endpoint.respond(now, key, bytes).unwrap();
    world.pump();
    assert_eq!(world.heard(), [180]);
    world.caller_learns();
    world.in_dialog(&caller(), Method::Info, "", None);
    assert_eq!(world.caller().last_status(), 491);
}

#[test]
fn a_second_invite_before_the_first_is_answered_gets_500_and_one_of_the_server_491() {
    let mut world = calling("");
    world.answers(180, "b1", "", None);
    world.caller_learns();
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.6", 3456, Some(9))));
    assert_eq!(world.caller().last_status(), 500);
    assert!(world.caller().responses.last().unwrap().header(HeaderId::RetryAfter).is_some());
    world.server_says("b1", 1, Method::Invite, "", Some(offer("10.0.2.9", 4444, Some(0x5b))));
    assert_eq!(server_status(&mut world), 491);
}

#[test]
fn a_lower_cseq_in_an_early_dialog_is_out_of_order_for_that_dialog_only() {
    let mut world = calling("");
    world.answers(180, "f1", "", None);
    world.answers(180, "f2", "", None);
    world.server_says("f1", 7, Method::Info, "", None);
    assert_eq!(server_status(&mut world), 200);
    world.server_says("f1", 6, Method::Info, "", None);
    assert_eq!(server_status(&mut world), 500);
    world.server_says("f2", 3, Method::Info, "", None);
    assert_eq!(server_status(&mut world), 200);
    world.server_says("f3", 1, Method::Info, "", None);
    assert_eq!(server_status(&mut world), 481, "an early dialog nobody made");
    world.server_says("f1", 8, Method::Prack, "RAck: 1 1 INVITE\r\n", None);
    assert_eq!(server_status(&mut world), 481, "we sent nothing reliable there");
}

#[test]
fn hops_are_carried_over_minus_one_and_none_left_is_483() {
    let mut world = calling("");
    world.answers(180, "b1", "", None);
    world.caller_learns();
    let hop = |world: &mut World, hops: u32| {
        let mut draft = world.caller().dialog.as_mut().unwrap().forward(Method::Info, hops);
        draft = draft.header(HeaderId::Contact, "<sip:far@10.0.0.77:5061>");
        let request = draft.finish().unwrap();
        world.send_as(&caller(), request);
    };
    hop(&mut world, 17);
    assert_eq!(world.party("cas01.contoso.com", 5061).requests.last().unwrap().max_forwards(), Some(16));
    hop(&mut world, 0);
    assert_eq!(world.caller().last_status(), 483);
    assert_eq!(world.server_methods(), ["INVITE", "INFO"]);
}
