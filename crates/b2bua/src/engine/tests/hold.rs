//! Hold and resume (RFC 3264 §8.4), with the media plan following.

use bytes::Bytes;
use sdp::{Direction, OfferSpec, Profile, Suite};
use sip::Method;

use super::world::{Place, World, caller, line};
use super::{call_with, worker};

fn description(place: &Place, direction: Direction, address: Option<&str>) -> Bytes {
    let (own, key) = if *place == caller() { ("10.0.0.5", 9) } else { ("10.0.2.1", 0x5b) };
    let mut spec = OfferSpec::new(address.unwrap_or(own).parse().unwrap(), 3000);
    spec.profile = Profile::RtpSavp;
    spec.crypto = vec![line(2, Suite::AesCm128HmacSha1_80, key)];
    spec.direction = direction;
    sdp::write_offer(&spec)
}

fn ask(world: &mut World, place: &Place, direction: Direction, address: Option<&str>) -> Direction {
    world.in_dialog(place, Method::Invite, "", Some(description(place, direction, address)));
    let party = world.party(&place.0, place.1);
    assert_eq!(party.last_status(), 200);
    let answer = sdp::Session::parse(&party.responses.last().unwrap().body()).unwrap();
    answer.audio().unwrap().direction
}

fn directions(world: &World, place: &Place) -> (relay::Direction, relay::Direction) {
    let plan = world.plans.last().unwrap();
    if *place == caller() {
        (plan.a.direction, plan.b.direction)
    } else {
        (plan.b.direction, plan.a.direction)
    }
}

fn offered_to(world: &mut World, place: &Place) -> Direction {
    let far = if *place == caller() { worker() } else { caller() };
    let party = world.party(&far.0, far.1);
    let offer = party.requests.iter().rfind(|request| *request.method() == Method::Invite).unwrap();
    sdp::Session::parse(&offer.body()).unwrap().audio().unwrap().direction
}

#[test]
fn rfc_3264_section_8_4_hold_and_resume_pass_in_both_directions_and_the_media_plan_follows() {
    use relay::Direction as Plan;
    for place in [caller(), worker()] {
        let mut world = call_with("", "");
        let start = world.plans.last().cloned().unwrap();
        // Said, answered, our side of that leg, our side of the other leg.
        let steps = [
            (Direction::SendOnly, Direction::RecvOnly, Plan::RecvOnly, Plan::SendOnly),
            (Direction::Inactive, Direction::Inactive, Plan::Inactive, Plan::Inactive),
            (Direction::SendRecv, Direction::SendRecv, Plan::SendRecv, Plan::SendRecv),
        ];
        for (said, answered, near, far) in steps {
            assert_eq!(ask(&mut world, &place, said, None), answered, "{place:?} {said:?}");
            assert_eq!(offered_to(&mut world, &place), said);
            assert_eq!(directions(&world, &place), (near, far), "{place:?} {said:?}");
        }
        let end = world.plans.last().unwrap();
        assert_eq!((&end.a.protection, &end.b.protection), (&start.a.protection, &start.b.protection));
        world.in_dialog(&caller(), Method::Bye, "", None);
        world.assert_clean();
    }
}

#[test]
fn rfc_3264_section_8_4_the_old_hold_by_address_0_0_0_0_is_a_hold_and_nothing_is_sent_there() {
    for place in [caller(), worker()] {
        let mut world = call_with("", "");
        assert_eq!(ask(&mut world, &place, Direction::SendRecv, Some("0.0.0.0")), Direction::RecvOnly);
        assert_eq!(offered_to(&mut world, &place), Direction::SendOnly, "with our address, so said in words");
        assert_eq!(directions(&world, &place).0, relay::Direction::RecvOnly);
        assert_eq!(ask(&mut world, &place, Direction::SendRecv, None), Direction::SendRecv);
        assert_eq!(directions(&world, &place).0, relay::Direction::SendRecv);
        world.in_dialog(&caller(), Method::Bye, "", None);
        world.assert_clean();
    }
}

#[test]
fn both_sides_may_hold_at_the_same_time_and_resume_one_after_the_other() {
    let mut world = call_with("", "");
    assert_eq!(ask(&mut world, &caller(), Direction::SendOnly, None), Direction::RecvOnly);
    assert_eq!(ask(&mut world, &worker(), Direction::Inactive, None), Direction::Inactive);
    assert_eq!(directions(&world, &caller()).0, relay::Direction::Inactive);
    assert_eq!(ask(&mut world, &worker(), Direction::SendRecv, None), Direction::SendRecv);
    assert_eq!(ask(&mut world, &caller(), Direction::SendRecv, None), Direction::SendRecv);
    assert_eq!(directions(&world, &caller()), (relay::Direction::SendRecv, relay::Direction::SendRecv));
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_hold_that_is_refused_leaves_the_media_running() {
    let mut world = call_with("", "");
    let plans = world.plans.clone();
    world.party("mbx01.contoso.com", 5066).scripted.push_back((Method::Invite, 488, String::new()));
    world.in_dialog(&caller(), Method::Invite, "", Some(description(&caller(), Direction::SendOnly, None)));
    assert_eq!(world.caller().last_status(), 488);
    assert_eq!(world.plans, plans);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}
