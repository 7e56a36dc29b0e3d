//! Requests that cross inside a call: RFC 3261 §14, RFC 3311 §5.2, RFC 5407. Each race in both orders.

use std::time::Duration;

use bytes::Bytes;
use sip::{HeaderId, Method};

use super::policy;
use super::world::{Place, Script, World, caller, offer};
use super::{call_with, value, worker};
use crate::codes;

fn call() -> World {
    call_with("", "")
}

fn other(place: &Place) -> Place {
    if *place == caller() { worker() } else { caller() }
}

fn both() -> [Place; 2] {
    [caller(), worker()]
}

fn offer_of(place: &Place, port: u16) -> Option<Bytes> {
    let (address, key) = if *place == caller() { ("10.0.0.6", 9) } else { ("10.0.2.9", 0x5b) };
    Some(offer(address, port, Some(key)))
}

fn status(world: &mut World, place: &Place) -> u16 {
    world.party(&place.0, place.1).last_status()
}

/// The far side of `place` lets the next re-INVITE wait after a 100.
fn holding(world: &mut World, place: &Place) {
    let far = other(place);
    world.party(&far.0, far.1).scripted.push_back((Method::Invite, 100, String::new()));
}

fn answer(world: &mut World, place: &Place) {
    let now = world.now;
    world.party(&place.0, place.1).answer_pending(now);
    world.pump();
}

fn is_up(world: &World) -> bool {
    world.engine.status().by_state == [("established", 1)]
}

fn ends_clean(mut world: World) {
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn rfc_3261_section_14_2_an_offer_against_an_open_one_gets_491_on_either_leg() {
    for first in both() {
        let second = other(&first);
        for method in [Method::Invite, Method::Update] {
            let mut world = call();
            holding(&mut world, &first);
            world.in_dialog(&first, Method::Invite, "", offer_of(&first, 3456));
            world.in_dialog(&second, method, "", offer_of(&second, 4444));
            assert_eq!(status(&mut world, &second), 491);
            answer(&mut world, &second);
            assert_eq!(status(&mut world, &first), 200, "the first offer goes through");
            world.in_dialog(&second, Method::Invite, "", offer_of(&second, 4444));
            assert_eq!(status(&mut world, &second), 200, "and the other can be made again");
            ends_clean(world);
        }
    }
}

#[test]
fn rfc_3261_section_14_2_a_second_offer_before_the_first_is_answered_gets_500_with_retry_after() {
    for place in both() {
        for method in [Method::Invite, Method::Update] {
            let mut world = call();
            holding(&mut world, &place);
            world.in_dialog(&place, Method::Invite, "", offer_of(&place, 3456));
            world.in_dialog(&place, method, "", offer_of(&place, 3458));
            let party = world.party(&place.0, place.1);
            assert_eq!(party.last_status(), 500);
            let wait: u32 = value(party.responses.last().unwrap(), HeaderId::RetryAfter).parse().unwrap();
            assert!(wait <= 10);
            answer(&mut world, &other(&place));
            assert_eq!(status(&mut world, &place), 200);
            ends_clean(world);
        }
    }
}

#[test]
fn rfc_3261_section_14_1_a_491_of_the_far_leg_goes_back_to_the_side_that_has_to_retry() {
    for place in both() {
        let mut world = call();
        let far = other(&place);
        let plans = world.plans.len();
        world.party(&far.0, far.1).scripted.push_back((Method::Invite, 491, String::new()));
        world.in_dialog(&place, Method::Invite, "", offer_of(&place, 3456));
        assert_eq!(status(&mut world, &place), 491);
        world.advance(Duration::from_secs(5));
        assert_eq!(world.plans.len(), plans, "and nobody retried in its place");
        assert!(is_up(&world));
        world.in_dialog(&place, Method::Invite, "", offer_of(&place, 3456));
        assert_eq!(status(&mut world, &place), 200);
        ends_clean(world);
    }
}

#[test]
fn rfc_3311_section_5_1_an_update_with_an_offer_is_carried_as_update_or_as_re_invite() {
    for (allow, carried) in [("Allow: INVITE, UPDATE\r\n", Method::Update), ("", Method::Invite)] {
        let mut world = call_with("", allow);
        world.in_dialog(&caller(), Method::Update, "", offer_of(&caller(), 3456));
        assert_eq!(status(&mut world, &caller()), 200);
        let answer = world.caller().responses.last().unwrap().clone();
        assert!(!answer.body().is_empty(), "the answer comes in the 200");
        let request = world.party("mbx01.contoso.com", 5066).requests.last().unwrap().clone();
        assert_eq!(*request.method(), carried);
        assert_eq!(world.plans.last().unwrap().a.remote_rtp.to_string(), "10.0.0.6:3456");
        assert!(is_up(&world));
        ends_clean(world);
    }
}

#[test]
fn a_re_invite_that_only_gets_100_is_cancelled_in_bounded_time_and_answered_504() {
    for place in both() {
        let mut world = call();
        world.caller().script = Script::Answer;
        holding(&mut world, &place);
        world.in_dialog(&place, Method::Invite, "", offer_of(&place, 3456));
        world.advance(Duration::from_secs(31));
        assert_ne!(status(&mut world, &place), 504);
        // The far end answers the CANCEL with 487.
        world.advance(Duration::from_secs(2));
        let far = other(&place);
        assert_eq!(world.party(&far.0, far.1).methods().last().map(String::as_str), Some("CANCEL"));
        assert_eq!(status(&mut world, &place), 504, "487 belongs to who asked for it");
        assert!(is_up(&world));
        world.in_dialog(&place, Method::Invite, "", offer_of(&place, 3458));
        assert_eq!(status(&mut world, &place), 200, "renegotiation is not blocked");
        ends_clean(world);
    }
}

#[test]
fn a_far_end_that_answers_not_even_the_cancel_blocks_nothing_for_good() {
    for place in both() {
        let mut world = call();
        let far = other(&place);
        world.party(&far.0, far.1).script = Script::Silent;
        holding(&mut world, &place);
        world.in_dialog(&place, Method::Invite, "", offer_of(&place, 3456));
        world.advance(Duration::from_secs(32 + 33));
        assert_eq!(status(&mut world, &place), 504);
        assert!(is_up(&world));
        ends_clean(world);
    }
}

#[test]
fn an_answer_that_crosses_our_cancel_stands() {
    let mut world = call();
    world.party("mbx01.contoso.com", 5066).script = Script::Silent;
    holding(&mut world, &caller());
    world.in_dialog(&caller(), Method::Invite, "", offer_of(&caller(), 3456));
    world.advance(Duration::from_secs(33));
    answer(&mut world, &worker());
    assert_eq!(status(&mut world, &caller()), 200);
    assert_eq!(world.plans.last().unwrap().a.remote_rtp.to_string(), "10.0.0.6:3456");
    ends_clean(world);
}

#[test]
fn rfc_5057_a_re_invite_without_any_answer_does_not_end_the_askers_dialog_by_408() {
    for place in both() {
        let mut world = call();
        let far = other(&place);
        world.deaf(&far);
        world.in_dialog(&place, Method::Invite, "", offer_of(&place, 3456));
        world.advance(Duration::from_secs(33));
        assert_eq!(status(&mut world, &place), 504);
        world.hears(&far);
        assert!(is_up(&world));
        ends_clean(world);
    }
}

#[test]
fn rfc_3261_section_12_2_1_2_a_re_invite_answered_481_or_408_ends_the_call_on_both_legs() {
    for place in both() {
        for code in [481, 408] {
            let mut world = call();
            let far = other(&place);
            world.party(&far.0, far.1).scripted.push_back((Method::Invite, code, String::new()));
            world.in_dialog(&place, Method::Invite, "", offer_of(&place, 3456));
            assert!(world.caller().methods().contains(&"BYE".to_owned()));
            assert_eq!(
                world.party("mbx01.contoso.com", 5066).methods().last().map(String::as_str),
                Some("BYE")
            );
            assert_eq!(world.records[0].verdict.code, codes::DIALOG_GONE);
            world.assert_clean();
        }
    }
}

#[test]
fn rfc_3261_section_9_a_cancelled_re_invite_is_cancelled_on_the_other_leg_and_answered_487() {
    for place in both() {
        let mut world = call();
        world.caller().script = Script::Answer;
        holding(&mut world, &place);
        let key = world.in_dialog(&place, Method::Invite, "", offer_of(&place, 3456));
        world.advance(Duration::from_millis(300));
        let now = world.now;
        world.party(&place.0, place.1).endpoint.cancel(now, key);
        world.pump();
        let far = other(&place);
        assert_eq!(world.party(&far.0, far.1).methods().last().map(String::as_str), Some("CANCEL"));
        assert_eq!(status(&mut world, &place), 487);
        assert!(is_up(&world), "the call goes on as it was");
        ends_clean(world);
    }
}

#[test]
fn rfc_3261_section_9_a_cancel_that_comes_after_the_answer_changes_nothing() {
    let mut world = call();
    world.caller().holds_ack = true;
    let key = world.in_dialog(&caller(), Method::Invite, "", offer_of(&caller(), 3456));
    assert_eq!(status(&mut world, &caller()), 200);
    let now = world.now;
    world.caller().endpoint.cancel(now, key);
    world.pump();
    assert_eq!(world.plans.last().unwrap().a.remote_rtp.to_string(), "10.0.0.6:3456");
    send_ack(&mut world, None);
    assert!(is_up(&world));
    ends_clean(world);
}

/// The caller acknowledges its last 2xx to an INVITE.
pub(super) fn send_ack(world: &mut World, cseq: Option<u32>) {
    let now = world.now;
    let party = world.caller();
    let answered = party.responses.iter().rfind(|r| *r.method() == Method::Invite).unwrap().cseq().number;
    let ack = party.dialog.as_ref().unwrap().ack(cseq.unwrap_or(answered)).finish().unwrap();
    let flow = party.flow.unwrap();
    party.endpoint.send_ack(now, &flow, ack);
    world.pump();
}

#[test]
fn rfc_3261_section_13_3_1_4_a_2xx_to_a_re_invite_that_is_never_acknowledged_ends_the_call_by_bye() {
    let mut world = call();
    world.caller().holds_ack = true;
    world.in_dialog(&caller(), Method::Invite, "", offer_of(&caller(), 3456));
    assert_eq!(world.engine.status().by_state, [("answering", 1)]);
    world.advance(Duration::from_secs(33));
    assert_eq!(world.caller().methods(), ["BYE"]);
    assert_eq!(world.records[0].verdict.code, codes::ACK_MISSING);
    world.assert_clean();
}

#[test]
fn rfc_3261_section_15_a_bye_held_for_an_ack_is_not_sent_to_who_says_bye_instead() {
    let mut world = call();
    world.caller().holds_ack = true;
    world.in_dialog(&caller(), Method::Invite, "", offer_of(&caller(), 3456));
    world.in_dialog(&worker(), Method::Bye, "", None);
    assert_eq!(world.engine.status().by_state, [("ending", 1)]);
    world.in_dialog(&caller(), Method::Bye, "", None);
    assert_eq!(status(&mut world, &caller()), 200);
    send_ack(&mut world, None);
    assert_eq!(world.caller().methods(), [""; 0]);
    world.assert_clean();
}

#[test]
fn rfc_5407_a_re_invite_whose_predecessor_lacks_its_ack_is_served_and_a_late_ack_settles_nothing() {
    let mut world = call();
    world.caller().holds_ack = true;
    world.in_dialog(&caller(), Method::Invite, "", offer_of(&caller(), 3456));
    let first = world.caller().responses.last().unwrap().cseq().number;
    world.in_dialog(&caller(), Method::Invite, "", offer_of(&caller(), 3458));
    assert_eq!(status(&mut world, &caller()), 200);
    assert_eq!(world.plans.last().unwrap().a.remote_rtp.to_string(), "10.0.0.6:3458");
    send_ack(&mut world, Some(first));
    assert_eq!(world.engine.status().by_state, [("answering", 1)], "that was the ACK of the first");
    send_ack(&mut world, None);
    assert!(is_up(&world));
    ends_clean(world);
}

#[test]
fn rfc_5407_the_missing_ack_of_a_superseded_re_invite_does_not_end_the_call() {
    let mut world = call();
    world.caller().holds_ack = true;
    world.in_dialog(&caller(), Method::Invite, "", offer_of(&caller(), 3456));
    world.caller().holds_ack = false;
    world.in_dialog(&caller(), Method::Invite, "", offer_of(&caller(), 3458));
    assert!(is_up(&world));
    world.advance(Duration::from_secs(40));
    assert!(is_up(&world));
    ends_clean(world);
}

#[test]
fn an_offer_against_a_2xx_without_ack_on_the_other_leg_gets_491_until_the_ack_is_there() {
    let mut world = call();
    world.caller().holds_ack = true;
    world.in_dialog(&caller(), Method::Invite, "", offer_of(&caller(), 3456));
    world.in_dialog(&worker(), Method::Invite, "", offer_of(&worker(), 4444));
    assert_eq!(status(&mut world, &worker()), 491);
    send_ack(&mut world, None);
    world.in_dialog(&worker(), Method::Invite, "", offer_of(&worker(), 4444));
    assert_eq!(status(&mut world, &worker()), 200);
    ends_clean(world);
}

#[test]
fn rfc_3261_section_13_2_2_4_a_repeated_2xx_to_a_re_invite_is_acknowledged_again() {
    let mut lost = call();
    holding(&mut lost, &caller());
    lost.in_dialog(&caller(), Method::Invite, "", offer_of(&caller(), 3456));
    let now = lost.now;
    lost.party("mbx01.contoso.com", 5066).answer_pending(now);
    lost.deaf(&worker());
    lost.pump();
    lost.hears(&worker());
    assert_eq!(lost.party("mbx01.contoso.com", 5066).acks.len(), 1, "the ACK was lost");
    lost.advance(Duration::from_millis(600));
    assert_eq!(lost.party("mbx01.contoso.com", 5066).acks.len(), 2, "and came again with the repeated 2xx");
    assert!(is_up(&lost));
    ends_clean(lost);
}

#[test]
fn a_bye_that_crosses_a_re_invite_ends_both_legs_whoever_sends_it() {
    for asking in both() {
        for leaving in both() {
            let mut world = call();
            holding(&mut world, &asking);
            world.in_dialog(&asking, Method::Invite, "", offer_of(&asking, 3456));
            world.in_dialog(&leaving, Method::Bye, "", None);
            let codes: Vec<u16> = world.party(&asking.0, asking.1).statuses();
            assert!(codes.contains(&487), "RFC 3261 §15.1.2: the open request is answered, {codes:?}");
            assert!(world.party(&leaving.0, leaving.1).statuses().contains(&200));
            let stays = other(&leaving);
            assert!(world.party(&stays.0, stays.1).methods().contains(&"BYE".to_owned()));
            world.assert_clean();
            assert_eq!(world.records.len(), 1);
            assert_eq!(world.records[0].verdict.code, codes::COMPLETED);
        }
    }
}

#[test]
fn bye_and_bye_that_cross_are_both_answered_200_in_both_orders() {
    for first in both() {
        let second = other(&first);
        let mut world = call();
        world.deaf(&second);
        world.in_dialog(&first, Method::Bye, "", None);
        world.hears(&second);
        world.in_dialog(&second, Method::Bye, "", None);
        assert_eq!(status(&mut world, &first), 200);
        assert_eq!(status(&mut world, &second), 200);
        world.assert_clean();
        assert_eq!(world.records.len(), 1);
    }
}

#[test]
fn rfc_3261_section_14_a_refused_offer_changes_nothing_and_the_old_keys_go_on() {
    for place in both() {
        for code in [488, 500, 606, 302] {
            let mut world = call();
            let far = other(&place);
            let before = world.plans.clone();
            world.party(&far.0, far.1).scripted.push_back((Method::Invite, code, String::new()));
            let key = Some(offer("10.0.9.9", 5000, Some(0x77)));
            world.in_dialog(&place, Method::Invite, "", key);
            // A redirect inside a dialog would lead past this gateway.
            assert_eq!(status(&mut world, &place), if code == 302 { 500 } else { code });
            assert_eq!(world.plans, before, "no new plan, so no new key");
            world.in_dialog(&place, Method::Invite, "", offer_of(&place, 3456));
            assert_eq!(status(&mut world, &place), 200);
            let after = world.plans.last().unwrap();
            assert_eq!(after.a.protection, before[0].a.protection, "{place:?} {code}");
            assert_eq!(after.b.protection, before[0].b.protection, "{place:?} {code}");
            ends_clean(world);
        }
    }
}

#[test]
fn rfc_3261_section_14_2_an_offerless_re_invite_of_either_side_gets_our_offer_and_its_answer_in_the_ack() {
    for place in both() {
        let mut world = call();
        world.party(&place.0, place.1).holds_ack = true;
        world.in_dialog(&place, Method::Invite, "", None);
        let response = world.party(&place.0, place.1).responses.last().unwrap().clone();
        let offered = sdp::Session::parse(&response.body()).unwrap();
        assert_eq!(offered.audio().unwrap().security(), sdp::MediaSecurity::Required);
        let mut spec = sdp::OfferSpec::new("10.0.7.7".parse().unwrap(), 3900);
        spec.profile = sdp::Profile::RtpSavp;
        spec.formats.retain(|f| f.is("PCMU"));
        let line = offered.audio().unwrap().crypto[0].clone();
        spec.crypto = vec![super::world::line(line.tag, line.suite, 0x33)];
        let body = sdp::write_answer(&offered, &spec).unwrap();
        let now = world.now;
        let party = world.party(&place.0, place.1);
        let ack = party.dialog.as_ref().unwrap().ack(response.cseq().number);
        let ack = ack.body("application/sdp", body).finish().unwrap();
        let flow = party.flow.unwrap();
        party.endpoint.send_ack(now, &flow, ack);
        world.pump();
        let plan = world.plans.last().unwrap();
        let moved = if place == caller() { &plan.a } else { &plan.b };
        assert_eq!(moved.remote_rtp.to_string(), "10.0.7.7:3900");
        assert!(is_up(&world));
        ends_clean(world);
    }
}

#[test]
fn an_offerless_re_invite_acknowledged_without_an_answer_ends_the_call_rather_than_guessing() {
    for place in both() {
        let mut world = call();
        world.in_dialog(&place, Method::Invite, "", None);
        assert_eq!(world.records.len(), 1);
        assert_eq!(world.records[0].verdict.code, codes::ANSWER_UNUSABLE);
        world.assert_clean();
    }
}

#[test]
fn while_an_answer_is_awaited_in_the_ack_another_offer_of_that_side_gets_491() {
    let mut world = call();
    world.caller().holds_ack = true;
    world.in_dialog(&caller(), Method::Invite, "", None);
    world.in_dialog(&caller(), Method::Invite, "", offer_of(&caller(), 3456));
    assert_eq!(status(&mut world, &caller()), 491);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_request_with_a_lower_cseq_is_out_of_order_and_gets_500() {
    let mut world = call();
    world.in_dialog(&caller(), Method::Info, "", None);
    let dialog = world.caller().dialog.as_mut().unwrap();
    dialog.local_cseq = Some(0);
    world.in_dialog(&caller(), Method::Info, "", None);
    assert_eq!(status(&mut world, &caller()), 500);
    world.caller().dialog.as_mut().unwrap().local_cseq = Some(10);
    ends_clean(world);
}

#[test]
fn a_plain_call_negotiates_again_over_tcp_too() {
    let mut world = World::new(policy::unsecured());
    super::redirecting(&mut world, "tcp");
    world.connect_caller(policy::PBX, None);
    world.invite("sip:88895@10.0.0.1;user=phone", "", Some(offer(policy::PBX, 3000, None)));
    assert_eq!(world.caller().last_status(), 200);
    world.in_dialog(&caller(), Method::Invite, "", Some(offer(policy::PBX, 3002, None)));
    assert_eq!(world.caller().last_status(), 200);
    ends_clean(world);
}
