//! Set-up budgets, CANCEL and 200 in every order, and what becomes of a CANCEL's Reason.

use std::time::Duration;

use bytes::Bytes;
use sip::endpoint::ClientKey;
use sip::{HeaderId, Method};

use super::early_cast::{calling, server, world};
use super::world::{Script, World, caller, offer};
use super::{DEPOSIT, DIVERSION};
use crate::codes;
use crate::engine::Input;
use crate::record::OfferResult;

const REASON: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

/// A call whose INVITE the test may cancel.
fn cancellable() -> (World, ClientKey) {
    let mut world = world();
    let key = world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    (world, key)
}

fn cancel(world: &mut World, invite: ClientKey) {
    let now = world.now;
    let lines = Bytes::from(format!("Reason: {REASON}\r\n"));
    world.caller().endpoint.cancel_with(now, invite, &lines);
    world.pump();
}

fn last_reason(world: &mut World) -> Option<Vec<u8>> {
    let (name, port) = server();
    world.party(&name, port).requests.last().unwrap().header(HeaderId::Reason).map(<[u8]>::to_vec)
}

#[test]
fn the_reason_of_a_cancel_goes_with_ours() {
    let (mut world, invite) = cancellable();
    world.answers(180, "b1", "", None);
    cancel(&mut world, invite);
    assert_eq!(
        (world.heard(), world.server_methods()),
        (vec![180, 487], vec!["INVITE".into(), "CANCEL".to_owned()])
    );
    assert_eq!(last_reason(&mut world).as_deref(), Some(REASON.as_bytes()));
    world.answers(487, "b1", "", None);
    world.assert_clean();
}

#[test]
fn the_reason_of_a_cancel_that_had_to_wait_for_a_provisional_goes_with_it_too() {
    let (mut world, invite) = cancellable();
    world.advance(Duration::from_millis(250));
    cancel(&mut world, invite);
    assert_eq!(world.heard(), [487]);
    world.answers(180, "b1", "", None);
    assert_eq!(world.server_methods(), ["INVITE", "CANCEL"]);
    assert_eq!(last_reason(&mut world).as_deref(), Some(REASON.as_bytes()));
    world.answers(487, "b1", "", None);
    world.assert_clean();
}

#[test]
fn a_reason_that_policy_stops_goes_no_further() {
    let mut policy = super::policy::policy(
        crate::policy::PoolEncryption::RequireEncryption,
        crate::policy::VoipSecurity::Secured,
    );
    let pass = crate::policy::UnknownHeaders::Pass;
    policy.headers = crate::policy::HeaderRules::new(pass, pass, Vec::new(), vec!["reason".into()]);
    let mut world = World::new(std::sync::Arc::new(policy));
    world.script("cas01.contoso.com", 5061, Script::Silent);
    world.connect_caller("10.0.0.5", Some(super::policy::POOL));
    let invite = world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    world.answers(180, "b1", "", None);
    cancel(&mut world, invite);
    assert_eq!(world.server_methods(), ["INVITE", "CANCEL"]);
    assert_eq!(last_reason(&mut world), None);
}

#[test]
fn a_200_that_crosses_our_cancel_gets_ack_and_bye_with_the_callers_reason() {
    let (mut world, invite) = cancellable();
    world.answers(180, "b1", "", None);
    cancel(&mut world, invite);
    let sdp = world.sdp_at(4000);
    world.answers(200, "b1", "", Some(sdp));
    assert_eq!(world.heard(), [180, 487]);
    assert_eq!(world.server_methods(), ["INVITE", "CANCEL", "BYE"]);
    assert_eq!(last_reason(&mut world).as_deref(), Some(REASON.as_bytes()));
    assert_eq!(world.party("cas01.contoso.com", 5061).acks.len(), 1);
    world.assert_clean();
    assert!(world.engine.core.withdrawn.is_empty());
    assert_eq!(world.records.len(), 1);
}

#[test]
fn a_cancel_that_comes_after_the_200_changes_nothing() {
    let (mut world, invite) = cancellable();
    world.answers(180, "b1", "", None);
    world.caller().holds_ack = true;
    let flow = world.caller().flow.unwrap().key;
    // The 200 is on its way to the caller while its CANCEL is on its way to us.
    let place = world.flows.remove(&flow).unwrap();
    let sdp = world.sdp_at(4000);
    world.answers(200, "b1", "", Some(sdp));
    world.flows.insert(flow, place);
    cancel(&mut world, invite);
    assert_eq!(world.engine.status().by_state, [("answering", 1)]);
    assert_eq!(world.server_methods(), ["INVITE"]);
    world.caller().holds_ack = false;
    // The 200 again, now that the way is free.
    world.advance(Duration::from_secs(1));
    assert_eq!(world.heard().last(), Some(&200));
    world.hangs_up();
    assert_eq!(world.server_methods(), ["INVITE", "BYE"]);
}

#[test]
fn a_bye_that_comes_before_the_callers_ack_waits_for_it_and_keeps_its_reason() {
    let mut world = super::World::new(super::policy::secured());
    super::redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(super::policy::POOL));
    world.caller().holds_ack = true;
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    world.in_dialog(&super::worker(), Method::Bye, &format!("Reason: {REASON}\r\n"), None);
    assert_eq!(world.caller().methods(), Vec::<String>::new(), "RFC 3261 §15: no BYE before the ACK");
    let now = world.now;
    let (flow, ack) =
        (world.caller().flow.unwrap(), world.caller().dialog.as_ref().unwrap().ack(1).finish().unwrap());
    world.caller().endpoint.send_ack(now, &flow, ack);
    world.pump();
    let bye = world.caller().requests.last().cloned().unwrap();
    assert_eq!((bye.method(), super::value(&bye, HeaderId::Reason).as_str()), (&Method::Bye, REASON));
    world.assert_clean();
}

#[test]
fn a_487_a_timeout_or_a_lost_connection_after_our_cancel_leaves_nothing() {
    for end in ["487", "silence", "loss"] {
        let (mut world, invite) = cancellable();
        world.answers(180, "b1", "", None);
        cancel(&mut world, invite);
        match end {
            "487" => world.answers(487, "b1", "", None),
            "loss" => {
                let flow = world.party("cas01.contoso.com", 5061).flow.unwrap().key;
                world.feed(Input::FlowDown { flow, why: crate::engine::FlowLoss::Error });
            }
            _ => {}
        }
        world.assert_clean();
        assert!(world.engine.core.withdrawn.is_empty(), "{end}");
        assert_eq!(world.records.len(), 1);
    }
}

#[test]
fn a_bye_in_the_early_dialog_is_a_cancel_and_its_reason_goes_on() {
    let mut world = calling("");
    world.answers(180, "b1", "", None);
    world.caller_learns();
    world.in_dialog(&caller(), Method::Bye, &format!("Reason: {REASON}\r\n"), None);
    assert_eq!(
        (world.heard(), world.server_methods()),
        (vec![180, 487], vec!["INVITE".into(), "CANCEL".to_owned()])
    );
    assert_eq!(last_reason(&mut world).as_deref(), Some(REASON.as_bytes()));
    world.answers(487, "b1", "", None);
    world.assert_clean();
}

#[test]
fn a_server_that_says_bye_instead_of_answering_ends_both_legs() {
    let mut world = calling("");
    world.answers(180, "b1", "", None);
    world.server_says("b1", 1, Method::Bye, "", None);
    assert!(world.heard().last().is_some_and(|status| *status >= 500));
    assert_eq!(world.server_methods(), ["INVITE", "CANCEL"]);
    world.answers(487, "b1", "", None);
    world.assert_clean();
    assert_eq!(world.records.len(), 1);
}

#[test]
fn ringing_stops_the_set_up_clock_and_a_fail_over_lets_it_run_on() {
    let mut policy = super::policy::policy(
        crate::policy::PoolEncryption::RequireEncryption,
        crate::policy::VoipSecurity::Secured,
    );
    policy.routing.first_answer_timeout = Duration::from_secs(300);
    let mut world = World::new(std::sync::Arc::new(policy));
    for name in ["cas01.contoso.com", "cas02.contoso.com"] {
        world.script(name, 5061, Script::Silent);
    }
    world.connect_caller("10.0.0.5", Some(super::policy::POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    world.advance(Duration::from_secs(2));
    world.answers(180, "b1", "", None);
    world.advance(Duration::from_secs(100));
    assert_eq!(world.engine.status().by_state, [("ringing", 1)], "ringing may take its time");
    world.answers(503, "b1", "", None);
    assert_eq!(world.engine.status().by_state, [("dialing", 1)]);
    world.advance(Duration::from_millis(29_900));
    assert_eq!(world.engine.status().by_state, [("dialing", 1)], "30 s of the 32 s are left");
    world.advance(Duration::from_millis(200));
    assert_eq!(world.heard().last(), Some(&503));
    assert_eq!(world.records[0].verdict.code, codes::REDIRECT_BUDGET);
}

#[test]
fn repeated_ringing_does_not_make_ringing_longer() {
    let mut world = calling("");
    for _ in 0..4 {
        world.answers(180, "b1", "", None);
        world.advance(Duration::from_secs(55));
    }
    assert_eq!(world.heard().last(), Some(&408));
    assert_eq!(world.records[0].verdict.code, codes::SETUP_TIMEOUT);
    world.answers(487, "b1", "", None);
    world.assert_clean();
}

#[test]
fn a_call_that_rings_or_dials_when_the_drain_ends_gets_503() {
    for rings in [true, false] {
        let mut world = calling("");
        if rings {
            world.answers(180, "b1", "", None);
        }
        let until = world.now + Duration::from_secs(1);
        world.feed(Input::Drain { until: Some(until) });
        world.advance(Duration::from_secs(2));
        assert_eq!(world.heard().last(), Some(&503), "rings: {rings}");
        assert!(world.events.contains(&"drained".to_owned()));
        assert_eq!(
            (world.records[0].verdict.code, world.records[0].offer_result),
            (codes::DRAINING, OfferResult::Failed)
        );
        if rings {
            world.answers(487, "b1", "", None);
        }
        world.assert_clean();
    }
}
