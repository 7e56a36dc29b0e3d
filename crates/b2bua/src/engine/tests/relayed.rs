//! Requests that are carried from one leg to the other: RFC 3261 §12.2, RFC 5057, RFC 7332, and Microsoft's BENOTIFY.

use bytes::Bytes;
use sip::{HeaderId, Message, Method};

use super::policy;
use super::world::{Place, World, caller};
use super::{call_with, value, worker};
use crate::codes;
use crate::engine::{Origin, PeerIdentity};

fn call() -> World {
    call_with("", "")
}

fn both() -> [(Place, Place); 2] {
    [(caller(), worker()), (worker(), caller())]
}

fn last(world: &mut World, place: &Place) -> Message {
    world.party(&place.0, place.1).requests.last().cloned().unwrap()
}

#[test]
fn every_other_request_crosses_in_both_directions_with_a_number_of_its_own_leg() {
    let methods = [
        Method::Info,
        Method::Message,
        Method::Notify,
        Method::Subscribe,
        Method::Options,
        Method::Publish,
        Method::Service,
        Method::Other(Bytes::from_static(b"FROBNICATE")),
    ];
    for (from, to) in both() {
        let mut world = call();
        let mut numbers = Vec::new();
        for method in &methods {
            world.in_dialog(&from, method.clone(), "", Some(Bytes::from_static(b"v=0")));
            assert_eq!(world.party(&from.0, from.1).last_status(), 200, "{method:?}");
            let carried = last(&mut world, &to);
            assert_eq!(carried.method(), method);
            assert_eq!(carried.body(), &b"v=0"[..]);
            numbers.push(carried.cseq().number);
        }
        assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "in order: {numbers:?}");
        world.in_dialog(&caller(), Method::Bye, "", None);
        world.assert_clean();
    }
}

#[test]
fn rfc_3261_11_2_the_answer_to_options_inside_a_call_names_what_this_gateway_takes() {
    for (from, _) in both() {
        let mut world = call();
        world.in_dialog(&from, Method::Options, "", None);
        let answer = world.party(&from.0, from.1).responses.last().cloned().unwrap();
        assert_eq!(value(&answer, HeaderId::Allow), crate::headers::ALLOW);
        assert_eq!(value(&answer, HeaderId::Supported), crate::headers::SUPPORTED);
    }
}

#[test]
fn rfc_6086_a_dtmf_info_keeps_its_body_type_and_package() {
    let mut world = call();
    world.in_dialog(
        &caller(),
        Method::Info,
        "Info-Package: dtmf\r\nContent-Disposition: Info-Package\r\n",
        Some(Bytes::from_static(b"Signal=5\r\nDuration=160\r\n")),
    );
    let info = last(&mut world, &worker());
    assert_eq!(info.body(), &b"Signal=5\r\nDuration=160\r\n"[..]);
    assert_eq!(value(&info, HeaderId::ContentType), "application/sdp", "as the test's caller wrote it");
    let package = info.headers().find(|header| header.name.eq_ignore_ascii_case(b"Info-Package"));
    assert_eq!(package.map(|header| header.value()).as_deref(), Some(&b"dtmf"[..]));
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn rfc_7332_max_forwards_is_carried_over_minus_one_and_0_gets_483() {
    for (from, to) in both() {
        for method in [Method::Info, Method::Invite] {
            let mut world = call();
            let seen = world.party(&to.0, to.1).requests.len();
            for (hops, carried) in [(70, Some("69")), (1, Some("0")), (0, None)] {
                world.in_dialog_with_hops(&from, method.clone(), hops);
                let requests = world.party(&to.0, to.1).requests[seen..].to_vec();
                match carried {
                    Some(hops) => assert_eq!(value(requests.last().unwrap(), HeaderId::MaxForwards), hops),
                    None => {
                        assert_eq!(requests.len(), 2, "nothing more was carried");
                        assert_eq!(world.party(&from.0, from.1).last_status(), 483);
                    }
                }
                if world.records.len() == 1 {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_bye_with_no_hops_left_is_for_us_and_ends_the_call() {
    let mut world = call();
    world.in_dialog_with_hops(&caller(), Method::Bye, 0);
    assert_eq!(world.caller().last_status(), 200);
    world.assert_clean();
}

#[test]
fn benotify_is_carried_on_and_answered_by_nobody() {
    for (from, to) in both() {
        let mut world = call();
        let answers = world.party(&from.0, from.1).responses.len();
        let transactions = world.engine.status().transactions;
        world.one_way(&from, "Event: message-summary\r\n");
        let heard = world.party(&to.0, to.1).one_way.last().cloned().unwrap();
        assert_eq!(*heard.method(), Method::Benotify);
        assert_eq!(value(&heard, HeaderId::Event), "message-summary");
        assert_eq!(value(&heard, HeaderId::MaxForwards), "69");
        assert_eq!(world.party(&from.0, from.1).responses.len(), answers);
        assert_eq!(world.engine.status().transactions, transactions, "nothing waits for an answer");
        // The next request of that leg still has the next number.
        world.in_dialog(&from, Method::Info, "", None);
        assert_eq!(last(&mut world, &to).cseq().number, heard.cseq().number + 1);
        world.in_dialog(&caller(), Method::Bye, "", None);
        world.assert_clean();
    }
}

#[test]
fn a_benotify_of_a_foreign_peer_or_without_a_call_reaches_nobody() {
    let mut world = call();
    world.script("other", 1, super::world::Script::Silent);
    let peer = PeerIdentity::Verified { names: vec!["mbx02.contoso.com".into()] };
    let place: Place = ("other".into(), 1);
    world.flow_up(place.clone(), sip::Transport::Tls, "10.0.2.2:1".parse().unwrap(), peer, Origin::Inbound);
    world.party("other", 1).dialog = world.caller().dialog.clone();
    world.one_way(&place, "");
    assert!(world.party("mbx01.contoso.com", 5066).one_way.is_empty());
    world.caller().dialog.as_mut().unwrap().call_id = Bytes::from_static(b"no-such-call");
    world.one_way(&caller(), "");
    assert!(world.party("mbx01.contoso.com", 5066).one_way.is_empty());
    assert!(world.events.iter().any(|event| event == "dropped requests_of_foreign_peers"));
    assert!(world.events.iter().any(|event| event == "dropped one_way_requests"));
}

#[test]
fn too_many_open_requests_get_500_with_retry_after_and_the_open_ones_are_answered() {
    let mut world = call();
    for _ in 0..16 {
        world.party("mbx01.contoso.com", 5066).scripted.push_back((Method::Info, 0, String::new()));
    }
    for _ in 0..17 {
        world.in_dialog(&caller(), Method::Info, "", None);
    }
    assert_eq!(world.caller().last_status(), 500);
    assert_eq!(value(world.caller().responses.last().unwrap(), HeaderId::RetryAfter), "1");
    assert_eq!(world.party("mbx01.contoso.com", 5066).methods().len(), 17);
    world.in_dialog(&caller(), Method::Bye, "", None);
    assert_eq!(world.caller().statuses().iter().filter(|status| **status == 481).count(), 16);
    world.assert_clean();
}

#[test]
fn rfc_5057_a_request_that_nobody_answers_gets_504_and_the_call_stays() {
    for (from, to) in both() {
        let mut world = call();
        world.deaf(&to);
        world.in_dialog(&from, Method::Info, "", None);
        world.hears(&to);
        let start = world.party(&from.0, from.1).responses.len();
        world.advance(std::time::Duration::from_secs(33));
        let party = world.party(&from.0, from.1);
        assert!(party.responses[start..].iter().all(|r| r.status().is_none_or(|s| s.code() == 504)));
        assert_eq!(world.engine.status().by_state, [("established", 1)]);
        world.in_dialog(&caller(), Method::Bye, "", None);
        world.assert_clean();
    }
}

#[test]
fn rfc_5057_a_481_to_info_ends_the_call_and_one_to_a_subscription_does_not() {
    for (from, to) in both() {
        for (method, ends) in [
            (Method::Info, true),
            (Method::Message, true),
            (Method::Notify, false),
            (Method::Subscribe, false),
        ] {
            let mut world = call();
            world.party(&to.0, to.1).scripted.push_back((method.clone(), 481, String::new()));
            world.in_dialog(&from, method.clone(), "", None);
            assert!(world.party(&from.0, from.1).statuses().contains(&481), "{method:?}");
            assert_eq!(world.records.len(), usize::from(ends), "{method:?}");
            match ends {
                true => assert_eq!(world.records[0].verdict.code, codes::DIALOG_GONE),
                false => {
                    world.in_dialog(&caller(), Method::Bye, "", None);
                }
            }
            world.assert_clean();
        }
    }
}

#[test]
fn an_answer_with_warning_and_diagnostics_crosses_and_a_redirect_does_not() {
    let mut world = call();
    let party = world.party("mbx01.contoso.com", 5066);
    let lines = "Warning: 399 um \"busy\"\r\nms-diagnostics: 15900;reason=\"x\"\r\n";
    party.scripted.push_back((Method::Info, 486, lines.into()));
    party.scripted.push_back((Method::Info, 302, "".into()));
    world.in_dialog(&caller(), Method::Info, "", None);
    let refusal = world.caller().responses.last().unwrap().clone();
    assert_eq!(refusal.status().map(|s| s.code()), Some(486));
    assert_eq!(value(&refusal, HeaderId::Warning), "399 um \"busy\"");
    assert_eq!(value(&refusal, HeaderId::MsDiagnostics), "15900;reason=\"x\"");
    world.in_dialog(&caller(), Method::Info, "", None);
    assert_eq!(world.caller().last_status(), 500);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn requests_of_a_plain_call_cross_as_well() {
    let mut world = World::new(policy::unsecured());
    super::redirecting(&mut world, "tcp");
    world.connect_caller(policy::PBX, None);
    world.invite("sip:88895@10.0.0.1;user=phone", "", Some(super::offer(policy::PBX, 3000, None)));
    world.in_dialog(&caller(), Method::Info, "", None);
    assert_eq!(world.caller().last_status(), 200);
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}
