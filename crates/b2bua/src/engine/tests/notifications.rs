//! What UM and pools want users to know: message waiting and missed calls, where they go and what is told of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sip::endpoint::OutgoingRequest;
use sip::{HeaderId, Method, Transport};

use super::outdialog::{MISSED, message_waiting, request, um, with_body};
use super::policy::{self, PBX, POOL};
use super::world::{Place, Script, World, caller, offer};
use super::{DEPOSIT, DIVERSION, redirecting, value};
use crate::codes;
use crate::engine::{FlowLoss, Input};
use crate::policy::{
    Allowed, DialPlan, ExchangeVersion, GatewayStatus, Mailbox, OutOfDialog, Policy, PoolEncryption,
    VoipSecurity,
};
use crate::record::CallType;

fn config() -> Policy {
    policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::Secured)
}

fn site(policy: Policy) -> (World, Place) {
    let mut world = World::new(Arc::new(policy));
    world.connect_caller("10.0.0.5", Some(POOL));
    let um = um(&mut world);
    (world, um)
}

fn told(world: &World) -> Vec<&str> {
    let is_one = |event: &&String| event.starts_with("MessageWaiting") || event.starts_with("MissedCall");
    world.events.iter().filter(is_one).map(String::as_str).collect()
}

fn about(user: &str) -> OutgoingRequest {
    let mut notify = message_waiting();
    let headers = String::from_utf8(notify.headers.to_vec()).unwrap();
    notify.headers = headers.replace("<sip:ken@contoso.com>", &format!("<sip:{user}>")).into();
    notify
}

#[test]
fn options_of_um_is_answered_under_the_name_of_its_um_ip_gateway() {
    let (mut world, um) = site(config());
    for uri in ["sip:umbra.contoso.com:5061;transport=tls", "sip:umbra.contoso.com", "sip:10.0.0.1:5061"] {
        world.send_as(&um, request(Method::Options, uri, "Max-Forwards: 0\r\n"));
        let last = world.party("um", 1).responses.last().unwrap().clone();
        assert_eq!(world.party("um", 1).last_status(), 200, "{uri}");
        assert!(value(&last, HeaderId::Allow).contains("NOTIFY"));
    }
    world.assert_clean();
}

#[test]
fn message_waiting_goes_to_the_users_pool_whole_and_the_answer_comes_back() {
    for (status, result) in [(200, "delivered"), (480, "rejected")] {
        let (mut world, um) = site(config());
        world.caller().answers.insert("NOTIFY", status);
        world.send_as(&um, message_waiting());
        assert_eq!(world.party("um", 1).last_status(), status);
        let got = world.caller().requests[0].clone();
        assert_eq!(got.request_uri(), "sip:ken@contoso.com");
        assert_eq!(value(&got, HeaderId::Event), "message-summary");
        assert_eq!(value(&got, HeaderId::SubscriptionState), "terminated");
        assert_eq!(got.content_type(), Some(&b"application/simple-message-summary"[..]));
        assert_eq!(&got.body()[..], b"Messages-Waiting: yes\r\n");
        assert_eq!(told(&world), [format!("MessageWaiting for ken@contoso.com to lync: {result}")]);
        world.assert_clean();
    }
}

#[test]
fn only_gateways_of_the_users_own_plan_that_allow_it_hear_of_waiting_messages() {
    type Change = fn(&mut Policy);
    let no_permission: Change = |policy| {
        policy.ip_gateways.iter_mut().for_each(|g| g.message_waiting_indicator_allowed = Allowed::No)
    };
    let disabled: Change =
        |policy| policy.ip_gateways.iter_mut().for_each(|gateway| gateway.status = GatewayStatus::Disabled);
    let other_plan: Change = |policy| policy.hunt_groups.clear();
    let other_server: Change = |policy| policy.dial_plans[0].mailbox_servers = vec![1];
    for change in [no_permission, disabled, other_plan, other_server] {
        let mut policy = config();
        change(&mut policy);
        let (mut world, um) = site(policy);
        world.send_as(&um, message_waiting());
        let last = world.party("um", 1).responses.last().unwrap().clone();
        assert_eq!(world.party("um", 1).last_status(), 403);
        assert!(value(&last, HeaderId::MsDiagnostics).contains("UMB-GW005"));
        assert!(world.caller().requests.is_empty() && world.connects.is_empty());
        assert_eq!(told(&world), ["MessageWaiting for ken@contoso.com to : refused"]);
        world.assert_clean();
    }
    // One that takes no new calls still takes this.
    let mut policy = config();
    policy.ip_gateways[0].status = GatewayStatus::NoNewCalls;
    let (mut world, um) = site(policy);
    world.send_as(&um, message_waiting());
    assert_eq!(world.party("um", 1).last_status(), 200);
    world.assert_clean();
}

#[test]
fn a_user_whom_no_mailbox_names_is_told_only_where_there_is_no_choice() {
    // Two gateways serve the plan.
    let (mut world, um) = site(config());
    world.send_as(&um, about("dana@contoso.com"));
    assert_eq!(world.party("um", 1).last_status(), 404);
    assert_eq!(told(&world), ["MessageWaiting for dana@contoso.com to : refused"]);
    assert!(world.caller().requests.is_empty());
    world.assert_clean();
    let mut policy = config();
    policy.hunt_groups.truncate(1);
    let (mut world, um) = site(policy);
    world.send_as(&um, about("dana@contoso.com"));
    assert_eq!(world.party("um", 1).last_status(), 200);
    assert_eq!(world.caller().requests[0].request_uri(), "sip:dana@contoso.com");
    world.assert_clean();
}

#[test]
fn a_user_known_by_extension_is_found_in_the_plan_of_the_mailbox() {
    let mut policy = config();
    policy.dial_plans.push(DialPlan { name: "DP-Tel".into(), ..policy.dial_plans[0].clone() });
    policy.hunt_groups[1].dial_plan = 1;
    let tel = Mailbox {
        alias: "tel".into(),
        sip: None,
        extension: Some("1001".into()),
        dial_plan: 1,
        ..policy.mailboxes[0].clone()
    };
    policy.mailboxes.push(tel);
    let (mut world, um) = site(policy);
    world.script(PBX, 5067, Script::Answer);
    world.send_as(&um, about("1001@contoso.com"));
    assert_eq!(world.party("um", 1).last_status(), 200);
    assert_eq!(world.party(PBX, 5067).methods(), ["NOTIFY"]);
    assert_eq!(world.connects[0].transport, Transport::Tls, "the plan demands it");
    world.assert_clean();
}

#[test]
fn message_waiting_of_anybody_but_a_mailbox_server_goes_nowhere() {
    let (mut world, _) = site(config());
    world.script("um", 2, Script::Silent);
    world.send_as(&caller(), message_waiting());
    assert_eq!(world.caller().last_status(), 481);
    let router = super::refer::guest(&mut world, "router", "cas01.contoso.com", "10.0.1.1");
    world.send_as(&router, message_waiting());
    assert_eq!(world.party("router", 0).last_status(), 481);
    assert!(world.connects.is_empty() && told(&world).is_empty());
    world.assert_clean();
}

#[test]
fn a_pool_that_is_not_there_is_a_failure_with_a_code() {
    let mut world = World::new(Arc::new(config()));
    let um = um(&mut world);
    world.send_as(&um, message_waiting());
    let last = world.party("um", 1).responses.last().unwrap().clone();
    assert_eq!(world.party("um", 1).last_status(), 503);
    assert!(value(&last, HeaderId::Warning).contains("lync could not be reached"));
    assert_eq!(told(&world), ["MessageWaiting for ken@contoso.com to lync: failed"]);
    world.assert_clean();
}

#[test]
fn a_connection_that_breaks_under_a_notification_costs_a_second_attempt_and_no_more() {
    for comes_back in [true, false] {
        let (mut world, um) = site(config());
        world.caller().is_mute = true;
        world.send_as(&um, message_waiting());
        assert_eq!(world.caller().methods(), ["NOTIFY"]);
        let flow = world.caller().flow.unwrap().key;
        if comes_back {
            super::refer::guest(&mut world, "fe", POOL, "10.0.0.5");
        }
        world.feed(Input::FlowDown { flow, why: FlowLoss::ClosedByPeer });
        assert_eq!(world.party("um", 1).last_status(), if comes_back { 200 } else { 503 });
        let result = if comes_back { "delivered" } else { "failed" };
        assert_eq!(told(&world), [format!("MessageWaiting for ken@contoso.com to lync: {result}")]);
        world.assert_clean();
    }
}

#[test]
fn missed_call_notifications_pass_in_both_directions_and_are_told_of() {
    let (mut world, um) = site(config());
    world.script("cas01.contoso.com", 5061, Script::Answer);
    let notice = |uri: &str| {
        let request = request(Method::Info, uri, "Max-Forwards: 70\r\n");
        with_body(request, MISSED, "<UserNotification/>")
    };
    world.send_as(&caller(), notice(DEPOSIT));
    assert_eq!(world.caller().last_status(), 200);
    world.send_as(&um, notice("sip:ken@umbra.contoso.com"));
    assert_eq!(world.party("um", 1).last_status(), 200);
    let got = world.caller().requests[0].clone();
    assert_eq!((got.content_type(), &got.body()[..]), (Some(MISSED), &b"<UserNotification/>"[..]));
    assert_eq!(
        told(&world),
        [
            "MissedCall for ken@contoso.com to cas01.contoso.com: delivered",
            "MissedCall for ken@contoso.com to lync: delivered",
        ]
    );
    world.assert_clean();
    let mut policy = config();
    policy.routing.out_of_dialog.missed_call = OutOfDialog::Refuse;
    let (mut world, um) = site(policy);
    world.send_as(&um, notice("sip:ken@umbra.contoso.com"));
    assert_eq!(world.party("um", 1).last_status(), 405);
    assert_eq!(told(&world), ["MissedCall for ken@contoso.com to : refused"]);
    world.assert_clean();
}

#[test]
fn a_caller_who_gives_up_before_um_has_the_call_leaves_a_missed_call() {
    let versions =
        [ExchangeVersion::E2007, ExchangeVersion::E2010, ExchangeVersion::E2013, ExchangeVersion::E2016];
    for version in versions {
        let mut policy = config();
        policy.mailboxes[0].um.exchange = version;
        let mut world = World::new(Arc::new(policy));
        redirecting(&mut world, "tls");
        world.script("mbx01.contoso.com", 5066, Script::RingOnly);
        world.connect_caller("10.0.0.5", Some(POOL));
        let key = world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
        let now = world.now;
        world.caller().endpoint.cancel(now, key);
        world.pump();
        assert_eq!(world.caller().last_status(), 487);
        world.assert_clean();
        let is_silent = matches!(version, ExchangeVersion::E2007 | ExchangeVersion::E2010);
        let result = if is_silent { "unavailable" } else { "recorded" };
        assert_eq!(told(&world), [format!("MissedCall for ken@contoso.com to : {result}")]);
        let record = &world.records[0];
        assert_eq!((record.call_type, record.verdict.code), (CallType::MissedCall, codes::CALLER_GAVE_UP));
        let said = record.verdict.evidence.iter().any(|line| line.contains("no missed-call notification"));
        assert_eq!(said, is_silent, "{version:?} {:?}", record.verdict.evidence);
    }
}

#[test]
fn a_caller_who_calls_the_attendant_and_gives_up_has_missed_nobody() {
    let mut policy = config();
    policy.dial_plans[0].access_telephone_numbers = vec!["+14255550100".into()];
    let mut world = World::new(Arc::new(policy));
    redirecting(&mut world, "tls");
    world.script("mbx01.contoso.com", 5066, Script::RingOnly);
    world.connect_caller("10.0.0.5", Some(POOL));
    let key = world.invite("sip:+14255550100@contoso.com", "", Some(offer("10.0.0.5", 3000, Some(9))));
    let now = world.now;
    world.caller().endpoint.cancel(now, key);
    world.pump();
    world.assert_clean();
    assert!(told(&world).is_empty());
    assert_eq!(world.records[0].call_type, CallType::SubscriberAccess);
}

#[test]
fn notifications_that_wait_for_a_deaf_pool_are_bounded_and_end() {
    let (mut world, um) = site(config());
    world.caller().is_mute = true;
    for number in 0..1_001 {
        let mut notify = message_waiting();
        let headers = String::from_utf8(notify.headers.to_vec()).unwrap();
        notify.headers = Bytes::from(headers.replace("out-NOTIFY", &format!("mwi-{number}")));
        world.send_as(&um, notify);
    }
    assert_eq!(world.engine.core.forwards.len(), 1_000);
    assert_eq!(told(&world), ["MessageWaiting for ken@contoso.com to : refused"]);
    world.advance(Duration::from_secs(40));
    assert_eq!(told(&world).iter().filter(|told| told.ends_with("lync: failed")).count(), 1_000);
    world.assert_clean();
}

/// Ken's mailbox under a policy that allows nothing.
pub fn forbidding() -> Policy {
    let mut policy = config();
    policy.um.mailbox_policies.push(crate::policy::MailboxPolicy {
        name: "strict".into(),
        dial_plan: 0,
        min_pin_length: 6,
        max_logon_attempts: 15,
        logon_failures_before_pin_reset: 5,
        max_greeting_duration: Duration::from_secs(300),
        allow_missed_call_notifications: Allowed::No,
        allow_message_waiting_indicator: Allowed::No,
        allow_play_on_phone: Allowed::No,
        allow_subscriber_access: Allowed::Yes,
    });
    policy.mailboxes[0].um.policy = Some(0);
    policy
}

#[test]
fn the_mailbox_policy_of_the_user_is_obeyed() {
    let (mut world, um) = site(forbidding());
    world.send_as(&um, message_waiting());
    assert_eq!(world.party("um", 1).last_status(), 403);
    assert!(world.caller().requests.is_empty());
    let last = world.party("um", 1).responses.last().unwrap().clone();
    assert!(value(&last, HeaderId::Warning).contains("mailbox policy strict"));
    world.assert_clean();
}
