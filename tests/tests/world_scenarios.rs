//! Calls through the world, by scenario: one thing happens on purpose, the invariants watch all the rest.

#![allow(clippy::expect_used, clippy::panic)] // helpers of tests

use std::sync::Arc;
use std::time::Duration;

use b2bua::engine::Turn;
use b2bua::policy::HealthRules;
use b2bua::record::OfferResult;
use lab::frontend::CallEnd;
use lab::um::{Fault, MediaKind};
use umbra_tests::world::cast::Temper;
use umbra_tests::world::random::Random;
use umbra_tests::world::site::{self, Caller};
use umbra_tests::world::{Act, Settings, World};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn ends(world: &mut World) {
    if let Err(story) = world.run() {
        panic!("{story}");
    }
}

/// What the caller of call 1 saw.
fn status(world: &World) -> u16 {
    world.outcomes[&1].as_ref().expect("placed").status
}

fn one_call(seed: u64, caller: Caller, end: CallEnd, prepare: impl FnOnce(&mut World)) -> World {
    let mut world = World::new(Settings::fair(seed));
    prepare(&mut world);
    world.at(ms(10), Act::Call(1, caller, end));
    ends(&mut world);
    assert_eq!(world.records.len(), 1);
    world
}

fn code(world: &World) -> &'static str {
    world.records[0].verdict.code.as_str()
}

#[test]
fn calls_of_every_security_succeed_over_two_redirects() {
    for (caller, media, security) in [
        (Caller::Secured, MediaKind::Srtp, "TLS+SRTP"),
        (Caller::SipSecured, MediaKind::Rtp, "TLS+RTP"),
        (Caller::Plain, MediaKind::Rtp, "TCP+RTP"),
    ] {
        for seed in 0..5 {
            let world = one_call(seed, caller, CallEnd::HangUpAfter(ms(3_000)), |_| {});
            let seen = world.outcomes[&1].as_ref().expect("placed");
            assert_eq!((seen.status, seen.media), (200, Some(media)), "{caller:?} seed {seed}");
            let record = &world.records[0];
            assert_eq!((record.redirects, record.failovers), (2, 0), "{caller:?} seed {seed}");
            assert_eq!(record.offer_result, OfferResult::Answer);
            assert!(record.security.contains(security), "{} for {caller:?}", record.security);
            assert!(!world.plans.is_empty());
        }
    }
}

/// A world whose servers are asked by OPTIONS from the beginning, until a drain at that time.
fn probing(settings: Settings, until: Duration) -> World {
    let mut world = World::new(settings);
    let mut policy = site::policy();
    policy.health = HealthRules::default();
    world.at(Duration::ZERO, Act::Policy(Arc::new(policy)));
    world.at(until, Act::Drain(None));
    world
}

#[test]
fn a_call_router_that_dies_between_calls_costs_no_call_its_first_attempt() {
    for seed in 0..5 {
        let mut world = probing(Settings::fair(seed), ms(200_000));
        let router = world.actor("cas01");
        world.at(ms(5_000), Act::Fault(router, Fault::Dead));
        for number in 0..4 {
            let call = |id| Act::Call(id, Caller::Secured, CallEnd::HangUpAfter(ms(1_000)));
            world.at(ms(60_000 + 100 * number), call(1 + number));
            world.at(ms(140_000 + 100 * number), call(11 + number));
        }
        world.at(ms(80_000), Act::Fault(router, Fault::None));
        world.run_until(ms(199_000)).expect("no rule is broken");
        let servers = world.status().servers;
        let cas01 = servers.iter().find(|server| server.name.starts_with("cas01.")).expect("asked");
        let turns: Vec<Turn> = cas01.changes.iter().map(|change| change.to).collect();
        assert!(turns.starts_with(&[Turn::Down]) && turns.ends_with(&[Turn::Up]), "{:?}", cas01.changes);
        ends(&mut world);
        assert_eq!((world.records.len(), world.drained), (8, 1), "seed {seed}");
        for record in &world.records {
            assert_eq!((record.offer_result, record.failovers), (OfferResult::Answer, 0), "seed {seed}");
        }
    }
}

#[test]
fn probes_in_bad_weather_break_no_rule_and_leave_nothing() {
    for seed in 0..10 {
        let settings = Settings { slow_connects: 15, refused_connects: 15, ..Settings::fair(seed) };
        let mut world = probing(settings, ms(120_000));
        for number in 0..20 {
            let caller = [Caller::Secured, Caller::SipSecured, Caller::Plain][number as usize % 3];
            world.at(ms(number * 5_000), Act::Call(number, caller, CallEnd::HangUpAfter(ms(2_000))));
            world.at(ms(number * 5_000 + 2_500), Act::BreakServer);
        }
        ends(&mut world);
        assert_eq!(world.records.len(), 20, "seed {seed}");
    }
}

#[test]
fn a_pool_that_demands_srtp_is_refused_on_a_plan_without_it() {
    let world = one_call(1, Caller::Mismatched, CallEnd::HangUpAfter(ms(1_000)), |_| {});
    let seen = world.outcomes[&1].as_ref().expect("placed");
    assert_eq!((seen.status, seen.reason.as_str()), (488, "Incompatible security setting"));
    assert!(seen.header("ms-diagnostics").is_some_and(|value| value.starts_with("61001;")));
    assert_eq!(code(&world), "UMB-SEC001");
    assert!(world.plans.is_empty());
}

#[test]
fn a_caller_may_give_up_at_any_moment() {
    let mut random = Random::new(7);
    let (mut cancelled, mut answered) = (0, 0);
    for seed in 0..120 {
        let after = random.between(Duration::ZERO, ms(330));
        let world = one_call(seed, Caller::Secured, CallEnd::CancelAfter(after), |_| {});
        match status(&world) {
            487 => cancelled += 1,
            200 => answered += 1,
            other => panic!("seed {seed}: {other}"),
        }
    }
    assert!(cancelled > 20 && answered > 5, "the dice hit both sides: {cancelled} {answered}");
}

#[test]
fn byes_of_both_sides_may_cross() {
    for seed in 0..60 {
        let mut world = World::new(Settings::fair(seed));
        let hang_up = ms(1_000) + world.random().between(Duration::ZERO, ms(8));
        for worker in world.workers() {
            world.at(ms(1_265), Act::HangUpAll(worker));
        }
        world.at(ms(10), Act::Call(1, Caller::Secured, CallEnd::HangUpAfter(hang_up - ms(30))));
        ends(&mut world);
        assert_eq!(status(&world), 200, "seed {seed}");
        assert_eq!(world.records.len(), 1, "seed {seed}");
    }
}

#[test]
fn the_worker_may_hang_up_first() {
    let world = one_call(3, Caller::SipSecured, CallEnd::WaitForBye, |_| {});
    assert_eq!(status(&world), 200);
    assert_eq!(world.records[0].drop_reason, "GracefulHangup");
}

#[test]
fn a_dead_worker_fails_over_to_another() {
    let world = one_call(4, Caller::Secured, CallEnd::HangUpAfter(ms(500)), |world| {
        for worker in ["mbx01/worker0", "mbx01/worker1"] {
            world.at(ms(1), Act::Fault(world.actor(worker), Fault::Dead));
        }
    });
    assert_eq!(status(&world), 200);
    let record = &world.records[0];
    assert_eq!(record.server.as_deref(), Some("mbx02.contoso.com"));
}

#[test]
fn a_silent_worker_costs_four_seconds_and_no_call() {
    let world = one_call(5, Caller::Secured, CallEnd::HangUpAfter(ms(500)), |world| {
        for worker in ["mbx01/worker0", "mbx01/worker1"] {
            world.at(ms(1), Act::Fault(world.actor(worker), Fault::Silent));
        }
    });
    assert_eq!(status(&world), 200);
    let setup = world.outcomes[&1].as_ref().expect("placed").setup.expect("answered");
    assert!(setup >= ms(4_000) && setup < ms(10_000), "{setup:?}");
}

#[test]
fn when_every_server_is_out_the_caller_gets_503() {
    for fault in [Fault::Unavailable, Fault::Dead, Fault::Silent] {
        let world = one_call(6, Caller::Plain, CallEnd::HangUpAfter(ms(500)), |world| {
            for server in world.servers() {
                world.at(ms(1), Act::Fault(server, fault.clone()));
            }
        });
        assert_eq!(status(&world), 503, "{fault:?}");
        assert_eq!(code(&world), "UMB-SRV001", "{fault:?}");
    }
}

#[test]
fn black_holes_are_left_behind_in_time() {
    let world = one_call(8, Caller::Secured, CallEnd::HangUpAfter(ms(500)), |world| {
        world.at(ms(1), Act::BlackHole(world.actor("cas01")));
    });
    assert_eq!(status(&world), 200);
}

#[test]
fn foreign_redirects_are_refused_and_nobody_strange_is_called() {
    let evil = Fault::ForeignRedirect("evil.example.net".to_owned());
    let world = one_call(9, Caller::Secured, CallEnd::HangUpAfter(ms(500)), |world| {
        for router in ["cas01", "cas02"] {
            world.at(ms(1), Act::Fault(world.actor(router), evil.clone()));
        }
    });
    assert!(status(&world) >= 500, "{}", status(&world));
    assert!(code(&world).starts_with("UMB-REDIR"), "{}", code(&world));
}

#[test]
fn looping_redirects_come_to_an_end() {
    let world = one_call(10, Caller::Secured, CallEnd::HangUpAfter(ms(500)), |world| {
        for server in world.servers() {
            world.at(ms(1), Act::Fault(server, Fault::LoopingRedirect));
        }
    });
    assert!(status(&world) >= 480, "{}", status(&world));
    assert!(code(&world).starts_with("UMB-REDIR"), "{}", code(&world));
}

#[test]
fn a_caller_who_rings_forever_gives_up_with_cancel() {
    let world = one_call(11, Caller::Secured, CallEnd::CancelAfter(ms(20_000)), |world| {
        for worker in world.workers() {
            world.at(ms(1), Act::Fault(worker, Fault::RingsForever));
        }
    });
    assert_eq!(status(&world), 487);
    let ring = world.outcomes[&1].as_ref().expect("placed").first_ring.expect("rang");
    assert!(ring < ms(1_000), "{ring:?}");
}

#[test]
fn the_callers_connection_may_break_at_any_moment() {
    for seed in 0..80 {
        let mut world = World::new(Settings::fair(seed));
        let at = world.random().between(ms(11), ms(1_500));
        world.at(at, Act::BreakCaller(Caller::Secured));
        world.at(ms(10), Act::Call(1, Caller::Secured, CallEnd::HangUpAfter(ms(800))));
        ends(&mut world);
    }
}

#[test]
fn a_servers_connection_may_break_at_any_moment() {
    for seed in 0..80 {
        let mut world = World::new(Settings::fair(seed));
        for _ in 0..2 {
            let at = world.random().between(ms(11), ms(1_500));
            world.at(at, Act::BreakServer);
        }
        world.at(ms(10), Act::Call(1, Caller::Secured, CallEnd::HangUpAfter(ms(800))));
        ends(&mut world);
        assert!(status(&world) >= 200, "seed {seed}");
    }
}

#[test]
fn a_drain_lets_calls_end_and_takes_no_new_ones() {
    let mut world = World::new(Settings::fair(12));
    world.at(ms(10), Act::Call(1, Caller::Secured, CallEnd::HangUpAfter(ms(5_000))));
    world.at(ms(1_000), Act::Drain(None));
    world.at(ms(1_500), Act::Call(2, Caller::Secured, CallEnd::HangUpAfter(ms(500))));
    ends(&mut world);
    assert_eq!(status(&world), 200);
    assert_eq!(world.outcomes[&2].as_ref().expect("placed").status, 503);
    assert_eq!(world.drained, 1);
}

#[test]
fn the_patience_of_a_drain_ends_calls_in_every_state() {
    for seed in 0..60 {
        let mut world = World::new(Settings::fair(seed));
        let after = world.random().between(Duration::ZERO, ms(500));
        world.at(ms(10), Act::Call(1, Caller::Secured, CallEnd::WaitForBye));
        world.at(ms(20), Act::Drain(Some(after)));
        ends(&mut world);
        assert_eq!(world.drained, 1, "seed {seed}");
        assert!(world.now() < Duration::from_secs(120), "seed {seed}");
    }
}

#[test]
fn the_operator_may_hang_up_at_any_moment() {
    for seed in 0..80 {
        let mut world = World::new(Settings::fair(seed));
        let at = world.random().between(ms(11), ms(500));
        world.at(ms(10), Act::Call(1, Caller::Secured, CallEnd::WaitForBye));
        world.at(at, Act::HangUpOldest);
        ends(&mut world);
    }
}

#[test]
fn a_new_policy_leaves_calls_in_progress_alone() {
    let mut world = World::new(Settings::fair(13));
    world.at(ms(10), Act::Call(1, Caller::Secured, CallEnd::HangUpAfter(ms(2_000))));
    world.at(ms(60), Act::Policy(site::smaller_policy()));
    world.at(ms(3_000), Act::Call(2, Caller::Secured, CallEnd::HangUpAfter(ms(500))));
    ends(&mut world);
    assert_eq!(status(&world), 200);
    assert_eq!(world.outcomes[&2].as_ref().expect("placed").status, 200);
    assert_eq!(world.records[1].server.as_deref(), Some("mbx01.contoso.com"));
}

#[test]
fn no_media_ports_means_a_refusal() {
    for (settings, seed) in [
        (Settings { media_failures: 100, ..Settings::fair(0) }, 14),
        (Settings { media_late: 100, ..Settings::fair(0) }, 15),
    ] {
        let mut world = World::new(Settings { seed, ..settings });
        world.at(ms(10), Act::Call(1, Caller::Secured, CallEnd::HangUpAfter(ms(500))));
        ends(&mut world);
        assert!(matches!(status(&world), 503 | 200), "{}", status(&world));
    }
}

#[test]
fn a_call_without_any_media_is_ended() {
    let mut world = World::new(Settings { silent_calls: 100, ..Settings::fair(16) });
    world.at(ms(10), Act::Call(1, Caller::Secured, CallEnd::HangUpAfter(ms(30_000))));
    ends(&mut world);
    assert_eq!(status(&world), 200);
    assert_eq!(world.records[0].drop_reason, "NoMedia");
}

#[test]
fn offers_inside_calls_are_answered_or_refused_and_end_no_call() {
    for seed in 0..20 {
        let mut settings = Settings::fair(seed);
        settings.manners.temper = Temper::Restless;
        let mut world = World::new(settings);
        for call in 0..6 {
            let caller = Caller::ALL[(call % 3) as usize];
            world.at(ms(10 + call * 300), Act::Call(call, caller, CallEnd::WaitForBye));
        }
        ends(&mut world);
        let torn: Vec<_> = world.records.iter().filter(|r| r.drop_reason == "AnswerRefused").collect();
        assert!(torn.is_empty(), "seed {seed}: {:?}", torn[0].verdict);
    }
}
