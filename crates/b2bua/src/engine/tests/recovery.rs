//! [MS-SIPRE] §3.7: a proxy that lost its state asks for a new route set.

use std::sync::Arc;

use sip::{HeaderId, Message, Method};

use super::policy::{self, POOL};
use super::world::{Place, World, caller, offer};
use super::{DEPOSIT, DIVERSION, call_with, redirecting, value, worker};
use crate::policy::{Allowed, PoolEncryption, SessionRules, VoipSecurity};

const ROUTE: &str = "<sip:fe01.contoso.com:5061;transport=tls;opaque=state:F;lr;ms-route-sig=aa>";
const NEW_ROUTE: &str = "<sip:fe02.contoso.com:5061;transport=tls;opaque=state:G;lr;ms-route-sig=bb>";
const LOST: &str = "P-Dialog-Recovery-Action: dialog-route-set-update\r\n";

fn call() -> World {
    call_with(&format!("Record-Route: {ROUTE}\r\nAllow: INVITE, UPDATE\r\n"), "")
}

fn requests(world: &mut World, place: &Place) -> Vec<Message> {
    world.party(&place.0, place.1).requests.clone()
}

fn found(method: Method) -> (Method, u16, String) {
    (method, 200, format!("Record-Route: {NEW_ROUTE}\r\n"))
}

#[test]
fn section_3_7_our_requests_say_that_we_can_mend_a_dialog_unless_it_is_switched_off() {
    for (switch, tags) in [(Allowed::Yes, "timer, ms-dialog-route-set-update"), (Allowed::No, "timer")] {
        let mut policy = policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::Secured);
        policy.session = SessionRules { route_set_update: switch, ..SessionRules::default() };
        let mut world = World::new(Arc::new(policy));
        redirecting(&mut world, "tls");
        world.connect_caller("10.0.0.5", Some(POOL));
        let lines = format!("{DIVERSION}Record-Route: {ROUTE}\r\nAllow: UPDATE\r\n");
        world.invite(DEPOSIT, &lines, Some(offer("10.0.0.5", 3000, Some(9))));
        let answer = world.caller().responses.last().unwrap();
        let announced = tags.replace("timer", "100rel, timer, replaces, norefersub");
        assert_eq!(value(answer, HeaderId::Supported), announced);
        world.caller().scripted.push_back((Method::Info, 430, LOST.into()));
        world.in_dialog(&worker(), Method::Info, "", None);
        let info = requests(&mut world, &caller())[0].clone();
        assert_eq!(value(&info, HeaderId::Supported), tags);
        assert_eq!(value(&info, HeaderId::Route), ROUTE);
        let mended = requests(&mut world, &caller()).len() > 1;
        assert_eq!(mended, switch == Allowed::Yes);
        world.in_dialog(&caller(), Method::Bye, "", None);
        world.assert_clean();
    }
}

#[test]
fn section_3_7_5_3_1_after_430_a_target_refresh_without_routes_brings_new_ones_and_the_request_goes_again() {
    let mut world = call();
    world.caller().scripted.push_back((Method::Info, 430, LOST.into()));
    world.caller().scripted.push_back(found(Method::Update));
    world.in_dialog(&worker(), Method::Info, "", None);
    let seen = requests(&mut world, &caller());
    let methods: Vec<&Method> = seen.iter().map(Message::method).collect();
    assert_eq!(methods, [&Method::Info, &Method::Update, &Method::Info]);
    assert_eq!(value(&seen[1], HeaderId::Route), "");
    assert!(seen[1].header(HeaderId::Contact).is_some());
    assert_eq!(value(&seen[2], HeaderId::Route), NEW_ROUTE);
    assert_eq!(world.party("mbx01.contoso.com", 5066).last_status(), 200);
    world.in_dialog(&worker(), Method::Bye, "", None);
    assert_eq!(value(&requests(&mut world, &caller())[3], HeaderId::Route), NEW_ROUTE);
    world.assert_clean();
}

#[test]
fn section_3_7_5_3_1_a_request_is_sent_again_only_once() {
    let mut world = call();
    world.caller().scripted.push_back((Method::Info, 430, LOST.into()));
    world.caller().scripted.push_back(found(Method::Update));
    world.caller().scripted.push_back((Method::Info, 430, LOST.into()));
    world.in_dialog(&worker(), Method::Info, "", None);
    assert_eq!(world.party("mbx01.contoso.com", 5066).last_status(), 430);
    assert_eq!(requests(&mut world, &caller()).len(), 3);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_dialog_that_cannot_be_mended_fails_the_request_and_keeps_the_call() {
    let mut world = call();
    world.caller().scripted.push_back((Method::Info, 430, LOST.into()));
    world.caller().scripted.push_back((Method::Update, 500, String::new()));
    world.in_dialog(&worker(), Method::Info, "", None);
    assert_eq!(world.party("mbx01.contoso.com", 5066).last_status(), 503);
    world.in_dialog(&worker(), Method::Info, "", None);
    assert_eq!(value(requests(&mut world, &caller()).last().unwrap(), HeaderId::Route), ROUTE);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn section_2_2_18_an_action_that_is_not_ours_is_passed_back_as_it_is() {
    let actions = [
        "",
        "P-Dialog-Recovery-Action: Wait-For-Session-Update\r\n",
        "P-Dialog-Recovery-Action: Registration-Route-Set-Update, Dialog-Route-Set-Update\r\n",
    ];
    for lines in actions {
        let mut world = call();
        world.caller().scripted.push_back((Method::Info, 430, lines.into()));
        world.in_dialog(&worker(), Method::Info, "", None);
        assert_eq!(world.party("mbx01.contoso.com", 5066).last_status(), 430, "{lines}");
        world.in_dialog(&caller(), Method::Bye, "", None);
        world.assert_clean();
    }
}

#[test]
fn section_3_7_our_session_refresh_mends_the_dialog_too() {
    let lines = format!(
        "Record-Route: {ROUTE}\r\nAllow: UPDATE\r\nSupported: timer\r\nSession-Expires: 200;refresher=uas\r\n"
    );
    let mut world = call_with(&lines, "");
    world.caller().scripted.push_back((Method::Update, 430, LOST.into()));
    world.caller().scripted.push_back(found(Method::Update));
    world.advance(std::time::Duration::from_secs(101));
    let seen = requests(&mut world, &caller());
    assert_eq!(seen.len(), 2);
    assert_eq!(
        (value(&seen[0], HeaderId::Route), value(&seen[1], HeaderId::Route)),
        (ROUTE.into(), String::new())
    );
    world.in_dialog(&worker(), Method::Info, "", None);
    assert_eq!(value(&requests(&mut world, &caller())[2], HeaderId::Route), NEW_ROUTE);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn section_3_7_a_carried_re_invite_is_repeated_without_routes_and_its_ack_takes_the_new_ones() {
    let mut world = call();
    world.caller().scripted.push_back((Method::Invite, 430, LOST.into()));
    world.caller().scripted.push_back(found(Method::Invite));
    world.in_dialog(&worker(), Method::Invite, "", Some(offer("10.0.2.9", 4444, Some(0x5b))));
    assert_eq!(world.party("mbx01.contoso.com", 5066).last_status(), 200);
    let seen = requests(&mut world, &caller());
    assert_eq!(
        (value(&seen[0], HeaderId::Route), value(&seen[1], HeaderId::Route)),
        (ROUTE.into(), String::new())
    );
    assert_eq!(seen[0].body(), seen[1].body());
    let ack = world.caller().acks.last().cloned().unwrap();
    assert_eq!(value(&ack, HeaderId::Route), NEW_ROUTE);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_peer_that_mends_its_dialog_gives_us_its_new_routes_and_gets_them_back_in_the_200() {
    for (method, body) in [(Method::Update, None), (Method::Invite, Some(offer("10.0.0.5", 3000, Some(9))))] {
        let mut world = call();
        let lines = format!("Record-Route: {NEW_ROUTE}\r\nSupported: ms-dialog-route-set-update\r\n");
        world.in_dialog(&caller(), method, &lines, body);
        assert_eq!(value(world.caller().responses.last().unwrap(), HeaderId::RecordRoute), NEW_ROUTE);
        world.in_dialog(&worker(), Method::Info, "", None);
        assert_eq!(value(&requests(&mut world, &caller())[0], HeaderId::Route), NEW_ROUTE);
        world.in_dialog(&caller(), Method::Bye, "", None);
        world.assert_clean();
    }
}

#[test]
fn rfc_3261_section_12_2_without_the_option_tag_the_route_set_of_a_dialog_never_changes() {
    let mut world = call();
    world.in_dialog(&caller(), Method::Update, &format!("Record-Route: {NEW_ROUTE}\r\n"), None);
    world.in_dialog(&worker(), Method::Info, "", None);
    assert_eq!(value(&requests(&mut world, &caller())[0], HeaderId::Route), ROUTE);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}
