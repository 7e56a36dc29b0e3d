//! RFC 3515, 3892, 4488, 5057: REFER carried from leg to leg, its identities, its NOTIFYs, its end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sip::endpoint::OutgoingRequest;
use sip::{HeaderId, Message, Method};

use super::policy::{self, POOL};
use super::world::{Place, World, caller, offer};
use super::{DEPOSIT, DIVERSION, redirecting};
use crate::engine::{Origin, PeerIdentity};
use crate::policy::{Policy, PoolEncryption, TransferRules, VoipSecurity};

pub const TO_BOB: &str = "Refer-To: <sip:bob@contoso.com;user=phone>\r\n";

pub fn worker() -> Place {
    ("mbx01.contoso.com".into(), 5066)
}

pub fn with_rules(transfers: TransferRules) -> Arc<Policy> {
    let mut policy = policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::Secured);
    policy.dial_plans[0].transfers = transfers;
    Arc::new(policy)
}

/// A secured call from the pool to the worker.
pub fn answered(policy: Arc<Policy>) -> World {
    let mut world = World::new(policy);
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    world
}

fn relaying() -> World {
    answered(with_rules(TransferRules::default()))
}

/// Another far end with a connection of its own.
pub fn guest(world: &mut World, name: &str, certificate: &str, address: &str) -> Place {
    let place = (name.to_owned(), 0);
    world.script(name, 0, super::world::Script::Silent);
    let peer = PeerIdentity::Verified { names: vec![certificate.to_owned()] };
    let remote = format!("{address}:40100").parse().unwrap();
    world.flow_up(place.clone(), sip::Transport::Tls, remote, peer, Origin::Inbound);
    place
}

/// An INVITE of a guest; `lines` end with CRLF.
pub fn invite_as(
    world: &mut World,
    place: &Place,
    call_id: &str,
    lines: &str,
    body: Option<Bytes>,
) -> sip::endpoint::ClientKey {
    let headers = format!(
        "Max-Forwards: 70\r\nFrom: <sip:{0}@contoso.com>;tag=tag-of-{0}\r\nTo: <sip:ken@contoso.com>\r\nCall-ID: {call_id}\r\n\
         CSeq: 1 INVITE\r\nContact: <sip:{0}@pool01.contoso.com:5067;transport=tls>\r\n{lines}",
        place.0
    );
    let request = OutgoingRequest {
        method: Method::Invite,
        uri: Bytes::from_static(DEPOSIT.as_bytes()),
        headers: headers.into(),
        content_type: body.is_some().then(|| Bytes::from_static(b"application/sdp")),
        body: body.unwrap_or_default(),
    };
    world.send_as(place, request)
}

/// Requests of a method that a place got.
pub fn got(world: &mut World, place: &Place, method: &Method) -> Vec<Message> {
    let party = world.party(&place.0, place.1);
    party.requests.iter().filter(|r| r.method() == method).cloned().collect()
}

pub fn value(message: &Message, id: HeaderId) -> String {
    String::from_utf8_lossy(message.header(id).unwrap_or_default()).into_owned()
}

/// Status line and Subscription-State of each NOTIFY.
pub fn reports(world: &mut World, place: &Place) -> Vec<(String, String)> {
    let notifies = got(world, place, &Method::Notify);
    let told = notifies.iter().map(|n| {
        assert!(value(n, HeaderId::ContentType).starts_with("message/sipfrag"));
        (String::from_utf8_lossy(&n.body()).trim().to_owned(), value(n, HeaderId::SubscriptionState))
    });
    told.collect()
}

pub fn last_status(world: &mut World, place: &Place) -> u16 {
    world.party(&place.0, place.1).last_status()
}

fn notify(world: &mut World, place: &Place, event: &str, state: &str, fragment: &str) {
    let lines = format!(
        "Event: {event}\r\nSubscription-State: {state}\r\nContent-Type: message/sipfrag;version=2.0\r\n"
    );
    let party = world.party(&place.0, place.1);
    let draft = party
        .dialog
        .as_mut()
        .unwrap()
        .request(Method::Notify)
        .block(lines.replace("Content-Type: message/sipfrag;version=2.0\r\n", "").as_bytes());
    let draft = draft.header(HeaderId::Contact, "<sip:far@10.0.0.77:5061>");
    let request =
        draft.body("message/sipfrag;version=2.0", Bytes::from(format!("{fragment}\r\n"))).finish().unwrap();
    world.send_as(place, request);
}

#[test]
fn a_refer_of_either_leg_is_carried_to_the_other_and_its_notifies_come_back() {
    for (from, to) in [(worker(), caller()), (caller(), worker())] {
        let mut world = relaying();
        world.party(&to.0, to.1).answers.insert("REFER", 202);
        let lines = format!("{TO_BOB}Referred-By: <sip:ken@contoso.com>;x=\"1\"\r\n");
        world.in_dialog(&from, Method::Refer, &lines, None);
        assert_eq!(last_status(&mut world, &from), 202);
        let refer = got(&mut world, &to, &Method::Refer).remove(0);
        assert_eq!(value(&refer, HeaderId::ReferTo), "<sip:bob@contoso.com;user=phone>");
        assert_eq!(value(&refer, HeaderId::ReferredBy), "<sip:ken@contoso.com>;x=\"1\"");
        assert!(
            value(&refer, HeaderId::Contact).contains("umbra.contoso.com"),
            "{:?}",
            refer.header(HeaderId::Contact)
        );
        notify(&mut world, &to, "refer", "active;expires=60", "SIP/2.0 100 Trying");
        notify(&mut world, &to, "refer", "terminated;reason=noresource", "SIP/2.0 200 OK");
        assert_eq!(last_status(&mut world, &to), 200);
        let told = reports(&mut world, &from);
        let wanted =
            [("SIP/2.0 100 Trying", "active;expires=60"), ("SIP/2.0 200 OK", "terminated;reason=noresource")];
        assert_eq!(told, wanted.map(|(a, b)| (a.to_owned(), b.to_owned())));
        assert!(got(&mut world, &from, &Method::Notify).iter().all(|n| value(n, HeaderId::Event) == "refer"));
        notify(&mut world, &to, "refer", "active", "SIP/2.0 100 Trying");
        assert_eq!(last_status(&mut world, &to), 481, "the subscription is over");
        world.in_dialog(&from, Method::Bye, "", None);
        world.assert_clean();
        assert_eq!(world.records.len(), 1);
    }
}

#[test]
fn the_id_of_a_notify_is_the_cseq_of_the_refer_as_each_leg_saw_it() {
    let mut world = relaying();
    for _ in 0..3 {
        world.in_dialog(&worker(), Method::Info, "", None);
    }
    world.in_dialog(&caller(), Method::Info, "", None);
    world.in_dialog(&caller(), Method::Refer, TO_BOB, None);
    world.in_dialog(&caller(), Method::Refer, "Refer-To: <sip:eve@contoso.com>\r\n", None);
    let refers = got(&mut world, &worker(), &Method::Refer);
    let number = |refer: &Message| refer.cseq().number;
    let own = world.caller().dialog.as_ref().unwrap().local_cseq.unwrap();
    assert_ne!(number(&refers[1]), own, "both legs count for themselves");
    notify(
        &mut world,
        &worker(),
        &format!("refer;id={}", number(&refers[1])),
        "active",
        "SIP/2.0 100 Trying",
    );
    notify(
        &mut world,
        &worker(),
        &format!("refer;id={}", number(&refers[0])),
        "active",
        "SIP/2.0 100 Trying",
    );
    notify(&mut world, &worker(), "refer", "active", "SIP/2.0 100 Trying");
    let events: Vec<_> =
        got(&mut world, &caller(), &Method::Notify).iter().map(|n| value(n, HeaderId::Event)).collect();
    assert_eq!(events, [format!("refer;id={own}"), format!("refer;id={}", own - 1), "refer".to_owned()]);
    notify(&mut world, &worker(), "refer;id=4711", "active", "SIP/2.0 100 Trying");
    assert_eq!(last_status(&mut world, &worker()), 481);
    // The referrer may end its subscription (RFC 3515 §2.4.6).
    let lines = format!("Event: refer;id={own}\r\nExpires: 0\r\n");
    world.in_dialog(&caller(), Method::Subscribe, &lines, None);
    let subscribe = got(&mut world, &worker(), &Method::Subscribe).remove(0);
    assert_eq!(value(&subscribe, HeaderId::Event), format!("refer;id={}", number(&refers[1])));
    world.in_dialog(&caller(), Method::Subscribe, "Event: refer;id=4711\r\n", None);
    assert_eq!(world.caller().last_status(), 481);
}

#[test]
fn a_refer_that_the_far_end_declines_makes_no_subscription() {
    let mut world = relaying();
    world.caller().answers.insert("REFER", 603);
    world.in_dialog(&worker(), Method::Refer, TO_BOB, None);
    assert_eq!(last_status(&mut world, &worker()), 603);
    notify(&mut world, &caller(), "refer", "active", "SIP/2.0 100 Trying");
    assert_eq!(world.caller().last_status(), 481);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn refer_sub_false_crosses_both_ways_and_makes_no_subscription() {
    let mut world = relaying();
    world.caller().answers.insert("REFER", 0);
    let lines = format!("{TO_BOB}Refer-Sub: false\r\nSupported: norefersub\r\nRequire: norefersub\r\n");
    world.in_dialog(&worker(), Method::Refer, &lines, None);
    let refer = got(&mut world, &caller(), &Method::Refer).remove(0);
    assert_eq!(
        (value(&refer, HeaderId::ReferSub), value(&refer, HeaderId::Supported)),
        ("false".into(), "norefersub".into())
    );
    let now = world.now;
    let (key, request) = world.caller().pending.take().unwrap();
    let status = sip::StatusCode::new(202).unwrap();
    let answer = sip::response_to(&request, status, None, None).header(HeaderId::ReferSub, "false");
    let bytes = answer.header(HeaderId::Contact, "<sip:a@b>").finish(None, b"").unwrap();
    world.caller().endpoint.respond(now, key, bytes).unwrap();
    world.pump();
    let answer = world.party("mbx01.contoso.com", 5066).responses.last().unwrap().clone();
    assert_eq!((answer.status().unwrap().code(), value(&answer, HeaderId::ReferSub)), (202, "false".into()));
    notify(&mut world, &caller(), "refer", "active", "SIP/2.0 100 Trying");
    assert_eq!(world.caller().last_status(), 481);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_refer_with_no_or_two_targets_or_an_unknown_demand_is_refused_here() {
    let mut world = relaying();
    let two = format!("{TO_BOB}{TO_BOB}");
    for (lines, status) in [
        ("", 400),
        (two.as_str(), 400),
        ("Refer-To: \"broken\r\n", 400),
        ("Refer-To: <sip:a@b?Replaces=half>\r\n", 400),
        ("Refer-To: <sip:a@b>\r\nRequire: multiple-refer\r\n", 420),
    ] {
        world.in_dialog(&worker(), Method::Refer, lines, None);
        assert_eq!(last_status(&mut world, &worker()), status, "{lines}");
    }
    assert!(got(&mut world, &caller(), &Method::Refer).is_empty());
    // RFC 3891 §3: Replaces in a request that is no INVITE.
    world.in_dialog(&worker(), Method::Info, "Replaces: a;to-tag=1;from-tag=2\r\n", None);
    assert_eq!(last_status(&mut world, &worker()), 400);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_dial_plan_may_refuse_transfers_of_both_sides() {
    let rules = TransferRules { refer: crate::policy::ReferRule::Refuse, ..TransferRules::default() };
    let mut world = answered(with_rules(rules));
    for place in [worker(), caller()] {
        world.in_dialog(&place, Method::Refer, TO_BOB, None);
        assert_eq!(last_status(&mut world, &place), 603);
    }
    assert_eq!(world.engine.status().by_state, [("established", 1)]);
}

#[test]
fn a_subscription_outlives_the_bye_of_its_referrer_until_its_last_notify_is_answered() {
    let mut world = relaying();
    world.in_dialog(&worker(), Method::Refer, TO_BOB, None);
    notify(&mut world, &caller(), "refer", "active", "SIP/2.0 100 Trying");
    world.in_dialog(&worker(), Method::Bye, "", None);
    assert_eq!(last_status(&mut world, &worker()), 200);
    assert_eq!(got(&mut world, &caller(), &Method::Bye).len(), 1);
    assert_eq!((world.records.len(), world.released), (1, 1), "record and media do not wait");
    assert_eq!(world.engine.status().by_state, [("ending", 1)]);
    world.advance(Duration::from_secs(30));
    world.in_dialog(&caller(), Method::Info, "", None);
    assert_eq!(world.caller().last_status(), 481, "only the subscription is alive");
    notify(&mut world, &caller(), "refer", "terminated;reason=noresource", "SIP/2.0 200 OK");
    assert_eq!(world.caller().last_status(), 200);
    assert_eq!(reports(&mut world, &worker()).last().unwrap().0, "SIP/2.0 200 OK");
    assert_eq!(world.engine.status().calls, 0, "and it is over with its last NOTIFY");
    world.assert_clean();
}

#[test]
fn a_notify_under_way_when_bye_comes_is_still_answered() {
    let mut world = relaying();
    world.in_dialog(&worker(), Method::Refer, TO_BOB, None);
    world.party("mbx01.contoso.com", 5066).answers.insert("NOTIFY", 0);
    notify(&mut world, &caller(), "refer", "terminated;reason=noresource", "SIP/2.0 486 Busy Here");
    world.in_dialog(&caller(), Method::Bye, "", None);
    assert_eq!(world.caller().last_status(), 200);
    let now = world.now;
    let (key, request) = world.party("mbx01.contoso.com", 5066).pending.take().unwrap();
    assert_eq!(*request.method(), Method::Notify);
    let answers = world.caller().responses.len();
    world.party("mbx01.contoso.com", 5066).respond(now, key, &request, 200, None, None);
    world.pump();
    let answer = world.caller().responses[answers..].iter().find(|r| *r.method() == Method::Notify);
    assert_eq!(answer.and_then(|r| r.status()).map(|s| s.code()), Some(200));
    world.assert_clean();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn without_a_last_notify_the_dialogs_go_when_their_time_is_over() {
    let mut world = relaying();
    world.in_dialog(&worker(), Method::Refer, TO_BOB, None);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.advance(Duration::from_secs(55));
    assert_eq!(world.engine.status().calls, 1);
    world.advance(Duration::from_secs(6));
    assert_eq!(world.engine.status().calls, 0);
    world.assert_clean();
}

#[test]
fn a_refer_waits_for_nobody_when_an_offer_is_open() {
    let mut world = relaying();
    world.party("mbx01.contoso.com", 5066).answers_reoffer = 0;
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.6", 3456, Some(9))));
    world.in_dialog(&worker(), Method::Refer, TO_BOB, None);
    assert_eq!(last_status(&mut world, &worker()), 200);
    assert_eq!(got(&mut world, &caller(), &Method::Refer).len(), 1);
    let now = world.now;
    world.party("mbx01.contoso.com", 5066).answer_pending(now);
    world.pump();
    assert_eq!(world.caller().last_status(), 200);
    assert_eq!(world.engine.status().by_state, [("established", 1)]);
    notify(&mut world, &caller(), "refer", "terminated", "SIP/2.0 200 OK");
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_replaces_in_a_refer_to_names_the_same_call_on_the_other_leg() {
    let mut world = relaying();
    let second = guest(&mut world, "eve", POOL, "10.0.0.5");
    invite_as(&mut world, &second, "a-leg-2", DIVERSION, Some(offer("10.0.0.5", 3100, Some(8))));
    assert_eq!(last_status(&mut world, &second), 200);
    let server = ("mbx02.contoso.com".to_owned(), 5066);
    let dialog = world.party("eve", 0).dialog.clone().unwrap();
    let far = world.party(&server.0, server.1).dialog.clone().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (ours, theirs) = (text(&dialog.remote_tag), text(&dialog.local_tag));
    // Our end: the server of that call is meant.
    let lines = format!(
        "Refer-To: <sip:umbra.contoso.com:5061;transport=tls?Replaces=a-leg-2%3Bto-tag%3D{ours}%3Bfrom-tag%3D{theirs}>\r\n"
    );
    world.in_dialog(&caller(), Method::Refer, &lines, None);
    let refer = got(&mut world, &worker(), &Method::Refer).remove(0);
    let call_id = text(&far.call_id);
    let (to_tag, from_tag) = (text(&far.local_tag), text(&far.remote_tag));
    let wanted = format!(
        "<sip:mbx02.contoso.com:5066?Replaces={call_id}%3Bto-tag%3D{to_tag}%3Bfrom-tag%3D{from_tag}>"
    );
    assert_eq!(value(&refer, HeaderId::ReferTo), wanted);
    // The referrer's own end: it is to be called itself.
    let lines =
        format!("Refer-To: <sip:eve@10.0.0.5?Replaces=a-leg-2%3Bto-tag%3D{theirs}%3Bfrom-tag%3D{ours}>\r\n");
    world.in_dialog(&caller(), Method::Refer, &lines, None);
    let refer = got(&mut world, &worker(), &Method::Refer).remove(1);
    let wanted = format!(
        "<sip:eve@umbra.contoso.com:5061;transport=tls?Replaces={call_id}%3Bto-tag%3D{from_tag}%3Bfrom-tag%3D{to_tag}>"
    );
    assert_eq!(value(&refer, HeaderId::ReferTo), wanted);
    // A server that has no part in that call gets nowhere with it.
    let lines =
        format!("Refer-To: <sip:x@y?Replaces={call_id}%3Bto-tag%3D{from_tag}%3Bfrom-tag%3D{to_tag}>\r\n");
    world.in_dialog(&worker(), Method::Refer, &lines, None);
    assert_eq!(last_status(&mut world, &worker()), 403);
    assert!(got(&mut world, &caller(), &Method::Refer).is_empty());
    // Nobody's dialog passes as it is.
    let lines = "Refer-To: <sip:x@y?Replaces=other%40host%3Bto-tag%3D1%3Bfrom-tag%3D2>\r\n";
    world.in_dialog(&worker(), Method::Refer, lines, None);
    let refer = got(&mut world, &caller(), &Method::Refer).remove(0);
    assert_eq!(
        value(&refer, HeaderId::ReferTo),
        "<sip:x@y?Replaces=other%40host%3Bto-tag%3D1%3Bfrom-tag%3D2>"
    );
}

#[test]
fn our_own_address_in_a_refer_becomes_what_the_other_leg_knows() {
    let mut world = relaying();
    let lines = "Refer-To: <sip:2001@umbra.contoso.com;user=phone>\r\nReferred-By: <sip:umbra.contoso.com:5061>;cid=\"1@x\"\r\n";
    world.in_dialog(&worker(), Method::Refer, lines, None);
    let refer = got(&mut world, &caller(), &Method::Refer).remove(0);
    assert_eq!(value(&refer, HeaderId::ReferTo), "<sip:2001@10.0.0.5:5061;user=phone>");
    assert_eq!(value(&refer, HeaderId::ReferredBy), "<sip:ken@contoso.com>;cid=\"1@x\"");
}

#[test]
fn a_notify_that_is_faster_than_the_202_finds_its_subscription() {
    let mut world = relaying();
    world.caller().answers.insert("REFER", 0);
    world.in_dialog(&worker(), Method::Refer, TO_BOB, None);
    notify(&mut world, &caller(), "refer", "active;expires=60", "SIP/2.0 100 Trying");
    assert_eq!(world.caller().last_status(), 200);
    assert_eq!(reports(&mut world, &worker()).len(), 1);
    let now = world.now;
    let (key, request) = world.caller().pending.take().unwrap();
    world.caller().respond(now, key, &request, 202, None, None);
    world.pump();
    assert_eq!(last_status(&mut world, &worker()), 202);
    notify(&mut world, &caller(), "refer", "terminated;reason=noresource", "SIP/2.0 200 OK");
    world.in_dialog(&caller(), Method::Bye, "", None);
    assert_eq!(world.engine.status().calls, 0, "nothing is waited for");
    world.assert_clean();
}

#[test]
fn a_drain_that_is_over_waits_for_no_subscription() {
    let mut world = relaying();
    world.in_dialog(&worker(), Method::Refer, TO_BOB, None);
    world.in_dialog(&caller(), Method::Bye, "", None);
    assert_eq!(world.engine.status().by_state, [("ending", 1)]);
    let until = Some(world.now + Duration::from_secs(5));
    world.feed(crate::engine::Input::Drain { until });
    world.advance(Duration::from_secs(6));
    assert_eq!(world.engine.status().calls, 0);
    assert_eq!(world.events.iter().filter(|event| *event == "drained").count(), 1);
    world.assert_clean();
}

#[test]
fn the_referrals_of_one_call_are_bounded() {
    let mut world = relaying();
    for _ in 0..4 {
        world.in_dialog(&worker(), Method::Refer, TO_BOB, None);
        assert_eq!(last_status(&mut world, &worker()), 200);
    }
    world.in_dialog(&worker(), Method::Refer, TO_BOB, None);
    assert_eq!(last_status(&mut world, &worker()), 500);
}
