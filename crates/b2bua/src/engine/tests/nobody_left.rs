//! How long it takes until a caller hears that nobody is left, and what it hears meanwhile; drain and its kin.

use std::sync::Arc;
use std::time::Duration;

use super::policy::{self, POOL};
use super::world::{Script, World, caller, offer};
use super::{DEPOSIT, DIVERSION, redirecting, worker};
use crate::codes;
use crate::engine::{Command, Input};
use crate::policy::ServerStatus;
use sip::{HeaderId, Method};

const ROUTERS: [&str; 2] = ["cas01.contoso.com", "cas02.contoso.com"];

fn calling(script: &Script) -> World {
    let mut world = World::new(policy::secured());
    for name in ROUTERS {
        world.script(name, 5061, script.clone());
    }
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    world
}

/// Milliseconds until the caller hears anything but 100, and until its final answer; in steps of 100.
fn heard(world: &mut World) -> (u64, u64) {
    let mut first = None;
    for step in 0..600_u64 {
        let statuses = world.caller().statuses();
        let at = step * 100;
        if first.is_none() && !statuses.is_empty() {
            first = Some(at);
        }
        if statuses.last().is_some_and(|status| *status >= 200) {
            return (first.unwrap_or(at), at);
        }
        world.advance(Duration::from_millis(100));
    }
    panic!("the caller waits for ever");
}

#[test]
fn the_caller_hears_503_as_soon_as_the_last_server_failed_and_something_within_ten_seconds_always() {
    // Refused connections; connections that hang (connect and TLS budget each); servers that take the INVITE and say nothing
    // (first answer budget each).
    for (script, first_within, in_all) in [
        (Script::NoListener, 0, 0),
        (Script::Refuse(503, "Busy"), 0, 0),
        (Script::Silent, 8_000, 8_000),
        (Script::Hangs, 8_000, 10_000),
    ] {
        let mut world = calling(&script);
        let (first, last) = heard(&mut world);
        assert_eq!((first, last), (first_within, in_all), "{script:?}");
        assert!(first <= 10_000, "{script:?}");
        assert_eq!(world.caller().last_status(), 503, "{script:?}");
        let answer = world.caller().responses.last().unwrap().clone();
        assert!(answer.header(HeaderId::MsDiagnostics).unwrap().starts_with(b"62001;"), "{script:?}");
        for name in ROUTERS {
            world.script(name, 5061, Script::Answer);
        }
        world.assert_clean();
        assert_eq!(world.records[0].verdict.code, codes::NO_SERVER_LEFT);
        assert_eq!(world.records[0].failovers, 1, "{script:?}");
    }
}

#[test]
fn a_server_that_hangs_costs_its_budget_once_and_rests_while_others_are_there() {
    let mut world = World::new(policy::secured());
    redirecting(&mut world, "tls");
    world.script(ROUTERS[0], 5061, Script::Hangs);
    world.connect_caller("10.0.0.5", Some(POOL));
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(heard(&mut world), (5_000, 5_000));
    assert_eq!(world.caller().last_status(), 200);
    world.in_dialog(&caller(), Method::Bye, "", None);
    let servers = world.engine.status().servers;
    let cas01 = servers.iter().find(|server| server.name == ROUTERS[0]).unwrap();
    assert!(cas01.down_until.is_some());
    assert_eq!(cas01.changes.len(), 1);
    assert!(cas01.changes[0].why.contains("no connection in time"), "{:?}", cas01.changes);
    world.assert_clean();
}

fn wish(world: &mut World, name: &str, wish: ServerStatus) {
    world.feed(Input::Command(Command::Server { name: name.to_owned(), wish }));
}

#[test]
fn a_drained_server_keeps_its_call_and_gets_no_new_one_until_it_is_enabled() {
    let mut world = super::call_with("", "");
    // The first call is at the first Mailbox server; from now on its router sends calls to one that takes none.
    wish(&mut world, "mbx01.contoso.com", ServerStatus::NoNewCalls);
    wish(&mut world, ROUTERS[1], ServerStatus::NoNewCalls);
    world.invite_as(2, DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3002, Some(9))));
    assert_eq!(world.caller().last_status(), 503);
    let evidence = world.records[0].verdict.evidence.join(" | ");
    assert!(evidence.contains("redirects to mbx01.contoso.com, which gets no new calls"), "{evidence}");
    assert_eq!(world.engine.status().by_state, [("established", 1)]);
    // The other one is there again.
    wish(&mut world, ROUTERS[1], ServerStatus::Enabled);
    world.invite_as(3, DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3004, Some(9))));
    assert_eq!(world.caller().last_status(), 200);
    let at = world.engine.status().call_list.into_iter().map(|call| call.server).collect::<Vec<_>>();
    assert!(at.contains(&"mbx02.contoso.com".to_owned()), "{at:?}");
    let calls: Vec<_> = world.engine.status().call_list.iter().map(|call| call.call).collect();
    for call in calls {
        world.feed(Input::Command(Command::HangUp(call)));
    }
    world.assert_clean();
    let _unused = worker();
}

#[test]
fn with_every_server_taken_out_the_verdict_names_each_with_its_reason() {
    let mut world = World::new(Arc::new(policy::policy(
        crate::policy::PoolEncryption::RequireEncryption,
        crate::policy::VoipSecurity::Secured,
    )));
    world.connect_caller("10.0.0.5", Some(POOL));
    wish(&mut world, ROUTERS[0], ServerStatus::Disabled);
    wish(&mut world, ROUTERS[1], ServerStatus::NoNewCalls);
    world.invite(DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    assert_eq!(world.caller().last_status(), 503);
    assert!(world.connects.is_empty());
    world.assert_clean();
    let verdict = &world.records[0].verdict;
    assert_eq!(verdict.code, codes::NO_SERVER_LEFT);
    let evidence = verdict.evidence.join(" | ");
    assert_eq!(evidence, "cas01.contoso.com is disabled | cas02.contoso.com takes no new calls");
}
