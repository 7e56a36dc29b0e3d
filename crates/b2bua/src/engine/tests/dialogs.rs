//! What happens inside an answered call.

use std::time::Duration;

use bytes::Bytes;
use sip::{HeaderId, Method};

use super::policy::{self, PBX, POOL};
use super::world::{Place, Script, World, caller, offer};
use super::{DEPOSIT, DIVERSION, redirecting};
use crate::codes;
use crate::engine::{Input, Origin, PeerIdentity};

fn worker() -> Place {
    ("mbx01.contoso.com".into(), 5066)
}

fn answered() -> World {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    world
}

#[test]
fn a_re_invite_of_either_side_moves_the_media_and_keeps_our_keys() {
    let mut world = answered();
    let before = world.plans.last().cloned().unwrap();
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.6", 3456, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    let after = world.plans.last().cloned().unwrap();
    assert_eq!(after.a.remote_rtp.to_string(), "10.0.0.6:3456");
    assert_eq!(after.a.protection, before.a.protection, "the same keys go on");
    let offered = offer("10.0.2.9", 4444, Some(0x5b));
    world.in_dialog(&worker(), Method::Invite, "", Some(offered));
    assert_eq!(world.party("mbx01.contoso.com", 5066).last_status(), 200);
    assert_eq!(world.plans.last().unwrap().b.remote_rtp.to_string(), "10.0.2.9:4444");
    world.in_dialog(&worker(), Method::Bye, "", None);
    world.assert_clean();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_re_invite_without_an_offer_is_answered_with_one() {
    let mut world = answered();
    world.caller().holds_ack = true;
    world.in_dialog(&caller(), Method::Invite, "", None);
    let answer = world.caller().responses.last().unwrap().clone();
    let offered = sdp::Session::parse(&answer.body()).unwrap();
    assert_eq!(offered.audio().unwrap().security(), sdp::MediaSecurity::Required);
    let mut spec = sdp::OfferSpec::new("10.0.0.8".parse().unwrap(), 3900);
    spec.profile = sdp::Profile::RtpSavp;
    spec.formats.retain(|f| f.is("PCMU"));
    let line = offered.audio().unwrap().crypto[0].clone();
    spec.crypto = vec![super::world::line(line.tag, line.suite, 0x33)];
    let body = sdp::write_answer(&offered, &spec).unwrap();
    let now = world.now;
    let party = world.caller();
    let ack = party
        .dialog
        .as_ref()
        .unwrap()
        .ack(answer.cseq().number)
        .body("application/sdp", body)
        .finish()
        .unwrap();
    let flow = party.flow.unwrap();
    party.endpoint.send_ack(now, &flow, ack);
    world.pump();
    assert_eq!(world.plans.last().unwrap().a.remote_rtp.to_string(), "10.0.0.8:3900");
    world.in_dialog(&worker(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_downgrade_or_a_fax_inside_the_call_is_refused_and_the_call_stays() {
    let mut world = answered();
    let plans = world.plans.len();
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.6", 3456, None)));
    assert_eq!(world.caller().last_status(), 488);
    let fax = Bytes::from_static(
        b"v=0\r\no=- 1 1 IN IP4 10.0.2.1\r\ns=-\r\nc=IN IP4 10.0.2.1\r\nt=0 0\r\nm=image 4000 udptl t38\r\n",
    );
    world.in_dialog(&worker(), Method::Invite, "", Some(fax));
    assert_eq!(world.party("mbx01.contoso.com", 5066).last_status(), 488);
    assert_eq!(world.plans.len(), plans);
    assert_eq!(world.engine.status().by_state, [("established", 1)]);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_fax_inside_the_call_is_refused_on_its_own_leg_with_61006_and_told_in_event_and_verdict() {
    let fax =
        "v=0\r\no=- 1 1 IN IP4 10.0.2.1\r\ns=-\r\nc=IN IP4 10.0.2.1\r\nt=0 0\r\nm=image 4000 udptl t38\r\n";
    for (from, other) in [(caller(), worker()), (worker(), caller())] {
        let mut world = answered();
        let asked = world.party(&other.0, other.1).requests.len();
        world.in_dialog(&from, Method::Invite, "", Some(Bytes::from_static(fax.as_bytes())));
        let last = world.party(&from.0, from.1).responses.last().unwrap().clone();
        assert_eq!(world.party(&from.0, from.1).last_status(), 488);
        assert!(last.header(HeaderId::MsDiagnostics).unwrap().starts_with(b"61006;"));
        assert_eq!(world.party(&other.0, other.1).requests.len(), asked, "the other leg hears nothing");
        assert_eq!(world.engine.status().by_state, [("established", 1)]);
        assert!(world.events.iter().any(|event| event.starts_with("offer refused UMB-MEDIA005")));
        world.in_dialog(&caller(), Method::Bye, "", None);
        world.assert_clean();
        let verdict = &world.records[0].verdict;
        assert_eq!(verdict.code, crate::codes::COMPLETED);
        let is_told =
            verdict.evidence.iter().any(|line| line.contains("offered fax only; the audio call goes on"));
        assert!(is_told, "{:?}", verdict.evidence);
        assert_eq!(world.records[0].call_type, crate::record::CallType::CallAnswering);
    }
}

#[test]
fn a_call_that_offers_nothing_but_a_fax_is_recorded_as_one() {
    let mut world = World::new(super::policy::secured());
    world.connect_caller("10.0.0.5", Some(super::policy::POOL));
    let fax =
        "v=0\r\no=- 1 1 IN IP4 10.0.0.5\r\ns=-\r\nc=IN IP4 10.0.0.5\r\nt=0 0\r\nm=image 4000 udptl t38\r\n";
    world.invite(super::DEPOSIT, super::DIVERSION, Some(Bytes::from_static(fax.as_bytes())));
    assert_eq!(world.caller().last_status(), 488);
    world.assert_clean();
    let record = &world.records[0];
    assert_eq!(
        (record.call_type, record.verdict.code),
        (crate::record::CallType::Fax, crate::codes::FAX_REFUSED)
    );
}

#[test]
fn other_requests_and_their_answers_cross_in_both_directions() {
    let mut world = answered();
    for method in
        [Method::Info, Method::Notify, Method::Options, Method::Message, Method::Other("FOO".into())]
    {
        world.in_dialog(&caller(), method.clone(), "", None);
        assert_eq!(world.caller().last_status(), 200, "{method:?}");
        assert_eq!(world.party("mbx01.contoso.com", 5066).requests.last().unwrap().method(), &method);
    }
    world.in_dialog(
        &worker(),
        Method::Refer,
        "Refer-To: <sip:bob@contoso.com>\r\nReferred-By: <sip:um@x>\r\n",
        None,
    );
    let refer = world.caller().requests.last().unwrap().clone();
    assert_eq!(refer.header(HeaderId::ReferTo), Some(&b"<sip:bob@contoso.com>"[..]));
    assert_eq!(refer.header(HeaderId::ReferredBy), Some(&b"<sip:um@x>"[..]));
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_session_refresh_is_answered_with_the_timer() {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    let lines = format!("{DIVERSION}Supported: timer\r\nSession-Expires: 1800\r\n");
    world.invite(DEPOSIT, &lines, Some(offer("10.0.0.5", 3000, Some(9))));
    let header = |world: &mut World| {
        world.caller().responses.last().unwrap().header(HeaderId::SessionExpires).map(<[u8]>::to_vec)
    };
    assert_eq!(header(&mut world).as_deref(), Some(&b"1800;refresher=uac"[..]));
    world.in_dialog(
        &caller(),
        Method::Update,
        "Session-Expires: 600;refresher=uac\r\nSupported: timer\r\n",
        None,
    );
    assert_eq!(header(&mut world).as_deref(), Some(&b"600;refresher=uac"[..]));
    assert_eq!(world.party("mbx01.contoso.com", 5066).methods(), ["INVITE"]);
    world.advance(Duration::from_secs(590));
    assert_eq!(world.records[0].verdict.code, codes::SESSION_EXPIRED);
    world.assert_clean();
}

#[test]
fn an_invite_without_an_offer_gets_ours_and_its_answer_comes_in_the_ack() {
    let mut world = World::new(policy::unsecured());
    redirecting(&mut world, "tcp");
    world.connect_caller(PBX, None);
    world.caller().holds_ack = true;
    world.invite("sip:88895@10.0.0.1;user=phone", "", None);
    let answer = world.caller().responses.last().unwrap().clone();
    assert_eq!(world.caller().last_status(), 200);
    assert!(world.plans.is_empty());
    let offered = sdp::Session::parse(&answer.body()).unwrap();
    let mut spec = sdp::OfferSpec::new(PBX.parse().unwrap(), 3100);
    spec.formats.retain(|f| f.is("PCMU"));
    let body = sdp::write_answer(&offered, &spec).unwrap();
    let now = world.now;
    let party = world.caller();
    let ack = party.dialog.as_ref().unwrap().ack(1).body("application/sdp", body).finish().unwrap();
    let flow = party.flow.unwrap();
    party.endpoint.send_ack(now, &flow, ack);
    world.pump();
    assert_eq!(world.plans[0].a.remote_rtp.to_string(), format!("{PBX}:3100"));
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn without_an_ack_both_legs_are_hung_up() {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.caller().holds_ack = true;
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    world.advance(Duration::from_secs(40));
    assert_eq!(world.records[0].verdict.code, codes::ACK_MISSING);
    assert_eq!(world.caller().methods(), ["BYE"]);
    world.assert_clean();
}

#[test]
fn a_foreign_peer_cannot_touch_the_call() {
    let mut world = answered();
    world.script("other", 1, super::world::Script::Silent);
    let peer = PeerIdentity::Verified { names: vec!["mbx02.contoso.com".into()] };
    world.flow_up(
        ("other".into(), 1),
        sip::Transport::Tls,
        "10.0.2.2:1".parse().unwrap(),
        peer,
        Origin::Inbound,
    );
    let dialog = world.caller().dialog.clone();
    world.party("other", 1).dialog = dialog;
    world.in_dialog(&("other".into(), 1), Method::Bye, "", None);
    assert_eq!(world.party("other", 1).last_status(), 481);
    assert_eq!(world.engine.status().by_state, [("established", 1)]);
}

#[test]
fn a_call_without_media_is_ended_with_its_reason() {
    let mut world = answered();
    let call = world.engine.status().call_list[0].call;
    let fact = relay::Fact::NoMedia { lasted: Duration::from_secs(30) };
    world.feed(Input::MediaFact { call, fact, stats: None });
    world.assert_clean();
    assert_eq!(world.records[0].verdict.code, codes::MEDIA_INACTIVE);
}

#[test]
fn a_call_whose_key_is_used_up_is_ended_with_its_reason() {
    let mut world = answered();
    let call = world.engine.status().call_list[0].call;
    let fact = relay::Fact::KeyExhausted { side: relay::Side::B };
    world.feed(Input::MediaFact { call, fact, stats: None });
    world.assert_clean();
    assert_eq!(world.records[0].verdict.code, codes::KEY_EXHAUSTED);
}

#[test]
fn the_longest_call_of_the_plan_is_the_longest_call() {
    let mut world = answered();
    world.advance(Duration::from_secs(1801));
    assert_eq!(world.records[0].verdict.code, codes::MAX_DURATION);
    world.assert_clean();
}

#[test]
fn crossing_re_invites_get_491_and_the_first_one_goes_through() {
    let mut world = answered();
    world.party("mbx01.contoso.com", 5066).answers_reoffer = 0;
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.6", 3456, Some(9))));
    world.in_dialog(&worker(), Method::Invite, "", Some(offer("10.0.2.9", 4444, Some(0x5b))));
    assert_eq!(world.party("mbx01.contoso.com", 5066).last_status(), 491);
    let now = world.now;
    world.party("mbx01.contoso.com", 5066).answer_pending(now);
    world.pump();
    assert_eq!(world.caller().last_status(), 200);
    assert_eq!(world.engine.status().by_state, [("established", 1)]);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_bye_that_crosses_a_re_invite_ends_everything() {
    let mut world = answered();
    world.party("mbx01.contoso.com", 5066).answers_reoffer = 0;
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.6", 3456, Some(9))));
    world.in_dialog(&worker(), Method::Bye, "", None);
    assert_eq!(world.caller().last_status(), 487);
    assert_eq!(world.caller().methods(), ["BYE"]);
    let now = world.now;
    world.party("mbx01.contoso.com", 5066).answer_pending(now);
    world.pump();
    world.assert_clean();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_re_invite_that_is_never_answered_leaves_nothing_after_the_call() {
    let mut world = answered();
    world.party("mbx01.contoso.com", 5066).answers_reoffer = 0;
    world.party("mbx01.contoso.com", 5066).script = Script::Silent;
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.6", 3456, Some(9))));
    // By now the far end has said 100, and no timer of the INVITE runs any more.
    world.advance(Duration::from_secs(1));
    world.in_dialog(&caller(), Method::Bye, "", None);
    assert_eq!(world.party("mbx01.contoso.com", 5066).methods().last().map(String::as_str), Some("BYE"));
    world.assert_clean();
}

#[test]
fn bye_from_both_sides_at_once_is_answered_on_both() {
    let mut world = answered();
    // The engine's BYE to the caller is out, not yet answered, when the caller's own BYE comes.
    let flow = world.caller().flow.take();
    world.in_dialog(&worker(), Method::Bye, "", None);
    world.caller().flow = flow;
    world.in_dialog(&caller(), Method::Bye, "", None);
    assert_eq!(world.caller().last_status(), 200);
    world.assert_clean();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn offers_that_are_over_are_forgotten_during_the_call() {
    let mut world = answered();
    for port in [3456, 3458, 3460] {
        world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.0.6", port, Some(9))));
        assert_eq!(world.caller().last_status(), 200);
    }
    assert_eq!(world.engine.core.invites.len(), 4);
    // An INVITE's transaction stays for 64*T1, to absorb what is sent again.
    world.advance(Duration::from_secs(40));
    assert!(world.engine.core.invites.is_empty(), "{} offers remembered", world.engine.core.invites.len());
    assert_eq!(world.engine.status().by_state, [("established", 1)]);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn a_refresh_below_the_minimum_gets_422_and_one_without_the_option_tag_is_refreshed_by_us() {
    let mut world = answered();
    world.in_dialog(&caller(), Method::Update, "Supported: timer\r\nSession-Expires: 1\r\n", None);
    assert_eq!(world.caller().last_status(), 422);
    let refusal = world.caller().responses.last().unwrap();
    assert_eq!(refusal.header(HeaderId::MinSe), Some(&b"90"[..]));
    world.in_dialog(&caller(), Method::Update, "Session-Expires: 1800\r\n", None);
    assert_eq!(world.caller().last_status(), 200);
    let answer = world.caller().responses.last().unwrap();
    assert_eq!(answer.header(HeaderId::SessionExpires), Some(&b"1800;refresher=uas"[..]));
    assert_eq!(answer.header(HeaderId::Require), None);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn section_8_2_2_3_an_unknown_demand_inside_a_call_gets_420_and_the_call_goes_on() {
    let mut world = answered();
    for method in [Method::Invite, Method::Info, Method::Update] {
        let body = (method == Method::Invite).then(|| offer("10.0.0.5", 3002, Some(9)));
        world.in_dialog(&caller(), method.clone(), "Require: timer, nobodyKnows\r\n", body);
        let answer = world.caller().responses.last().cloned().unwrap();
        assert_eq!(answer.status().map(|status| status.code()), Some(420), "{method:?}");
        assert_eq!(answer.header(HeaderId::Unsupported), Some(&b"nobodyKnows"[..]), "{method:?}");
        let (name, port) = worker();
        assert!(!world.party(&name, port).requests.iter().any(|request| *request.method() == Method::Info));
    }
    world.in_dialog(&caller(), Method::Info, "", None);
    assert_eq!(world.caller().last_status(), 200);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

/// RFC 3261 §8.2.2.3 wants 420: the caller would be gone and the call would not end.
#[test]
fn deviation_section_8_2_2_3_an_unknown_demand_of_a_bye_is_not_refused() {
    let mut world = answered();
    world.in_dialog(&caller(), Method::Bye, "Require: nobodyKnows\r\n", None);
    assert_eq!(world.caller().last_status(), 200, "gone");
    world.assert_clean();
}

#[test]
fn an_ack_of_a_foreign_peer_does_not_pass_for_the_callers() {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.caller().holds_ack = true;
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    world.script("other", 1, super::world::Script::Silent);
    // At the same address: who it is shows in its certificate only.
    let peer = PeerIdentity::Verified { names: vec!["mbx02.contoso.com".into()] };
    let remote = "10.0.0.5:1".parse().unwrap();
    world.flow_up(("other".into(), 1), sip::Transport::Tls, remote, peer, Origin::Inbound);
    let ack = world.caller().dialog.clone().unwrap().ack(1).finish().unwrap();
    let now = world.now;
    let party = world.party("other", 1);
    let flow = party.flow.unwrap();
    party.endpoint.send_ack(now, &flow, ack);
    world.pump();
    world.advance(Duration::from_secs(40));
    assert_eq!(world.records[0].verdict.code, codes::ACK_MISSING);
    world.assert_clean();
}

fn fenced(caller: &str, servers: &str) -> std::sync::Arc<crate::policy::Policy> {
    let mut policy = (*policy::secured()).clone();
    policy.ip_gateways.iter_mut().for_each(|g| g.media_networks = [caller.parse().unwrap()].into());
    policy.mailbox_servers.iter_mut().for_each(|s| s.media_networks = [servers.parse().unwrap()].into());
    policy.into()
}

#[test]
fn media_addresses_outside_the_networks_of_a_peer_are_refused_at_the_start_and_inside_the_call() {
    let mut world = World::new(fenced("10.0.0.0/24", "10.0.2.0/24"));
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.9.9.9", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 488);
    assert_eq!(world.records[0].verdict.code, codes::MEDIA_FOREIGN);
    // RTCP has an address of its own.
    let text = String::from_utf8(offer("10.0.0.5", 3000, Some(9)).to_vec()).unwrap();
    let elsewhere = text.replace("a=rtcp:3001", "a=rtcp:3001 IN IP4 10.9.9.9");
    assert_ne!(elsewhere, text);
    world.invite_as(2, DEPOSIT, DIVERSION, Some(elsewhere.into()));
    assert_eq!(world.records[1].verdict.code, codes::MEDIA_FOREIGN);
    world.invite_as(3, DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    let plan = world.plans.last().cloned().unwrap();
    let networks = [&plan.a, &plan.b].map(|leg| leg.latch.networks.clone());
    assert_eq!(networks, [vec!["10.0.0.0/24".parse().unwrap()], vec!["10.0.2.0/24".parse().unwrap()]]);
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("10.0.2.9", 3456, Some(9))));
    assert_eq!(world.caller().last_status(), 488);
    world.in_dialog(&worker(), Method::Invite, "", Some(offer("10.0.0.9", 4444, Some(0x5b))));
    assert_eq!(world.party("mbx01.contoso.com", 5066).last_status(), 488);
    assert_eq!(world.plans.last(), Some(&plan));
    // Nobody is there, so nothing is sent there.
    world.in_dialog(&caller(), Method::Invite, "", Some(offer("0.0.0.0", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    world.in_dialog(&worker(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn an_answer_with_a_media_address_outside_the_networks_of_its_server_ends_the_call() {
    let mut world = World::new(fenced("10.0.0.0/24", "10.77.0.0/16"));
    redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 488);
    assert_eq!(world.records[0].verdict.code, codes::MEDIA_FOREIGN);
    assert!(world.plans.is_empty(), "{:?}", world.plans);
    assert_eq!(world.party("mbx01.contoso.com", 5066).methods().last().unwrap(), "BYE");
    world.assert_clean();
}
