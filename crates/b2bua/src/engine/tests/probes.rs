//! UM servers asked by OPTIONS (RFC 3261 §11): whom, when, over what, and what becomes of the answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sip::{HeaderId, Method};

use super::policy::{self, POOL};
use super::world::{Script, World, offer};
use super::{DEPOSIT, DIVERSION, redirecting};
use crate::engine::*;
use crate::policy::{HealthRules, Policy, PoolEncryption, ServerRole, VoipSecurity};

const INTERVAL: Duration = Duration::from_secs(10);
const DOORS: [(&str, u16); 4] = [
    ("cas01.contoso.com", 5061),
    ("cas02.contoso.com", 5061),
    ("mbx01.contoso.com", 5063),
    ("mbx02.contoso.com", 5063),
];

fn probing() -> Policy {
    let mut policy = policy::policy(PoolEncryption::RequireEncryption, VoipSecurity::Secured);
    policy.health = HealthRules::default();
    assert_eq!(policy.health.options_interval, Some(INTERVAL), "the product asks unless told otherwise");
    policy
}

/// Everybody answers.
fn awake(policy: Policy) -> World {
    let mut world = World::new(Arc::new(policy));
    redirecting(&mut world, "tls");
    for (name, port) in DOORS {
        world.script(name, port, if port == 5061 { router(name) } else { Script::Answer });
    }
    world.connect_caller("10.0.0.5", Some(POOL));
    world
}

fn router(name: &str) -> Script {
    let to = if name.starts_with("cas01") { "mbx01" } else { "mbx02" };
    Script::Redirect(format!("<sip:ken@{to}.contoso.com:5063;transport=tls>"))
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn server(world: &World, name: &str) -> ServerStatus {
    world.engine.status().servers.into_iter().find(|server| server.name == name).unwrap()
}

fn whys(world: &World, name: &str) -> Vec<String> {
    server(world, name).changes.into_iter().map(|change| change.why).collect()
}

fn asked(world: &mut World, (name, port): (&str, u16)) -> usize {
    world.party(name, port).methods().iter().filter(|method| *method == "OPTIONS").count()
}

fn call(world: &mut World, number: u32) -> (u16, String) {
    world.invite_as(number, DEPOSIT, DIVERSION, Some(offer("10.0.0.5", 3000, Some(9))));
    let status = world.caller().last_status();
    let calls = world.engine.status().call_list;
    (status, calls.into_iter().map(|call| call.server).next_back().unwrap_or_default())
}

/// When each server was asked first and again, by the virtual clock.
fn times(seed: u64) -> BTreeMap<String, Vec<Duration>> {
    let mut world = World::new(Arc::new(probing()));
    let start = world.now;
    world.engine = Engine::new(EngineConfig::new(seed, [3; 32], start), Arc::new(probing()));
    for (name, port) in DOORS {
        world.script(name, port, Script::Answer);
    }
    let mut times: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    while world.now < start + secs(60) {
        let Some((at, reason)) = world.engine.poll_deadline() else { break };
        world.events.clear();
        world.advance(at - world.now);
        if reason == Reason::Probe {
            for event in world.events.iter().filter_map(|event| event.strip_prefix("probed ")) {
                times.entry(event.to_owned()).or_default().push(world.now - start);
            }
        }
    }
    times
}

#[test]
fn every_server_is_asked_over_its_calls_transport_under_our_name_and_answers_for_itself_alone() {
    let mut world = awake(probing());
    world.advance(secs(1));
    for (name, port) in DOORS {
        let request = world.party(name, port).requests[0].clone();
        assert_eq!(*request.method(), Method::Options);
        let uri = format!("sip:{name}:{port};transport=tls");
        assert_eq!(request.request_uri(), uri);
        assert_eq!(request.max_forwards(), Some(0));
        let from = request.from().unwrap();
        assert_eq!(from.uri.host_str(), "umbra.contoso.com");
        let contact = request.header(HeaderId::Contact).unwrap();
        assert_eq!(contact, b"<sip:umbra.contoso.com:5061;transport=tls>");
    }
    // A call goes over the connections that are there.
    let connects = world.connects.len();
    assert_eq!(connects, 4);
    assert_eq!(call(&mut world, 1).0, 200);
    assert_eq!(world.connects.len(), connects + 2, "wishes of the call");
    assert_eq!(world.flows.len(), 5, "and no connection beside the caller's and the four");
    let door = server(&world, "mbx01.contoso.com").doors.remove(0);
    assert_eq!((door.0, door.1), (ServerRole::Mailbox, sip::Transport::Tls));
    assert_eq!(door.2.round_trip, Some(Duration::ZERO));
    assert!(world.records.is_empty() && world.engine.status().calls == 1, "probes are no calls");
}

#[test]
fn servers_are_not_asked_at_once_and_one_seed_asks_at_the_same_times() {
    let (one, again, other) = (times(1), times(1), times(2));
    assert_eq!(one, again);
    assert_ne!(one, other);
    let first: std::collections::BTreeSet<Duration> = one.values().map(|times| times[0]).collect();
    assert_eq!(first.len(), 4, "{first:?}");
    for times in one.values() {
        assert!(times[0] <= secs(1));
        for pair in times.windows(2) {
            let apart = pair[1] - pair[0];
            assert!(apart >= INTERVAL.mul_f64(0.9) && apart <= INTERVAL.mul_f64(1.1), "{apart:?}");
        }
        assert!((5..=7).contains(&times.len()), "{times:?}");
    }
}

#[test]
fn a_server_that_is_silent_is_down_after_three_and_no_call_pays_for_it_and_up_after_two_good_ones() {
    let mut world = awake(probing());
    world.advance(secs(2));
    let cas01 = world.party("cas01.contoso.com", 5061);
    (cas01.is_mute, cas01.script) = (true, Script::Silent);
    world.advance(secs(40));
    assert_eq!(whys(&world, "cas01.contoso.com"), ["3 OPTIONS timeouts over tls"]);
    let down = server(&world, "cas01.contoso.com");
    assert!(down.doors[0].2.is_down && down.doors[0].2.round_trip.is_none());
    assert!(down.changes[0].last_good.is_some());
    assert_eq!(down.changes[0].to, Turn::Down);
    assert_eq!(world.events.iter().filter(|event| *event == "down cas01.contoso.com").count(), 1);
    for number in 1..=3 {
        assert_eq!(call(&mut world, number).0, 200);
    }
    assert!(!world.events.iter().any(|event| event.starts_with("failed")), "{:?}", world.events);
    let cas01 = world.party("cas01.contoso.com", 5061);
    (cas01.is_mute, cas01.script) = (false, router("cas01"));
    world.advance(secs(10));
    assert!(server(&world, "cas01.contoso.com").doors[0].2.is_down, "one good one is not enough");
    world.advance(secs(12));
    let changes = server(&world, "cas01.contoso.com").changes;
    assert_eq!(changes[1].to, Turn::Up);
    assert_eq!(changes[1].why, "answered OPTIONS over tls, 2 in a row");
    assert_eq!(world.events.iter().filter(|event| *event == "up cas01.contoso.com").count(), 1);
}

#[test]
fn any_answer_shows_a_server_alive_but_503_is_its_word_that_others_should_be_asked() {
    for (status, is_down) in [
        (200, false),
        (404, false),
        (405, false),
        (483, false),
        (408, false),
        (500, false),
        (504, false),
        (503, true),
    ] {
        let mut world = awake(probing());
        world.party("mbx01.contoso.com", 5063).answers.insert("OPTIONS", status);
        world.advance(secs(33));
        assert_eq!(server(&world, "mbx01.contoso.com").doors[0].2.is_down, is_down, "{status}");
    }
    let mut world = awake(probing());
    world.party("mbx01.contoso.com", 5063).answers.insert("OPTIONS", 503);
    world.advance(secs(33));
    let why = whys(&world, "mbx01.contoso.com");
    assert_eq!(why, ["3 OPTIONS over tls failed: answered 503 Service Unavailable"]);
}

#[test]
fn a_server_with_a_wrong_certificate_is_down_with_that_reason() {
    let mut world = World::new(Arc::new(probing()));
    for (name, port) in DOORS {
        world.script(name, port, Script::Hangs);
    }
    for _ in 0..40 {
        world.advance(secs(1));
        for connect in std::mem::take(&mut world.hanging) {
            let kind = ConnectFailureKind::TlsName;
            let detail = "certificate is for other.example".to_owned();
            world.feed(Input::ConnectFailed { connect, why: ConnectFailure { kind, detail } });
        }
    }
    let down = server(&world, "cas02.contoso.com");
    assert_eq!(down.changes.len(), 1);
    assert_eq!(down.changes[0].why, "3 OPTIONS over tls failed: TlsName: certificate is for other.example");
    assert_eq!(down.changes[0].last_good, None);
}

#[test]
fn a_reload_asks_new_servers_and_new_transports_and_leaves_the_others() {
    let mut world = awake(probing());
    world.party("cas02.contoso.com", 5061).is_mute = true;
    world.advance(secs(40));
    let before: Vec<usize> = DOORS.map(|door| asked(&mut world, door)).to_vec();
    assert!(before.iter().all(|count| *count >= 3), "{before:?}");
    // cas02 leaves; the plan becomes one of plain TCP.
    let mut policy = probing();
    policy.call_routers.truncate(1);
    policy.dial_plans[0].call_routers = vec![0];
    policy.dial_plans[0].voip_security = VoipSecurity::Unsecured;
    for (name, port) in
        [("cas01.contoso.com", 5060), ("mbx01.contoso.com", 5062), ("mbx02.contoso.com", 5062)]
    {
        world.script(name, port, Script::Answer);
    }
    world.feed(Input::Policy(Arc::new(policy.clone())));
    world.advance(secs(25));
    assert_eq!(
        DOORS.map(|door| asked(&mut world, door)).to_vec(),
        before,
        "nobody is asked over TLS any more"
    );
    assert!(asked(&mut world, ("cas01.contoso.com", 5060)) >= 2);
    assert!(server(&world, "cas02.contoso.com").doors.is_empty());
    // Switched off, nobody is asked and nobody is down.
    policy.health.options_interval = None;
    world.feed(Input::Policy(Arc::new(policy.clone())));
    assert!(world.engine.status().servers.iter().all(|server| server.doors.is_empty()));
    assert_ne!(world.engine.poll_deadline().map(|(_, reason)| reason), Some(Reason::Probe));
    policy.dial_plans[0].call_routers = Vec::new();
    policy.health = HealthRules::default();
    world.feed(Input::Policy(Arc::new(policy)));
    let so_far = asked(&mut world, ("cas01.contoso.com", 5060));
    world.advance(secs(25));
    assert_eq!(asked(&mut world, ("cas01.contoso.com", 5060)), so_far, "of no plan: no call would go there");
    assert!(asked(&mut world, ("mbx01.contoso.com", 5062)) >= 4);
}

#[test]
fn drained_and_disabled_servers_are_asked_too() {
    let mut policy = probing();
    policy.mailbox_servers[0].status = crate::policy::ServerStatus::Disabled;
    let mut world = awake(policy);
    let wish = crate::policy::ServerStatus::NoNewCalls;
    world.feed(Input::Command(Command::Server { name: "cas01.contoso.com".into(), wish }));
    world.advance(secs(25));
    assert!(asked(&mut world, DOORS[0]) >= 2 && asked(&mut world, DOORS[2]) >= 2);
}

#[test]
fn a_drain_ends_probes_with_what_is_under_way() {
    let mut world = awake(probing());
    for (name, port) in DOORS {
        world.party(name, port).is_mute = true;
    }
    world.advance(secs(2));
    assert_eq!(world.engine.status().transactions.0, 4);
    world.feed(Input::Drain { until: None });
    assert!(world.events.contains(&"drained".to_owned()), "probes hold up no drain");
    world.advance(secs(100));
    assert!(DOORS.map(|door| asked(&mut world, door)).iter().all(|count| *count == 1));
    assert!(whys(&world, "cas01.contoso.com").is_empty());
    world.assert_clean();
}

#[test]
fn one_shard_asks_and_tells_and_the_others_choose_by_it() {
    let policy = Arc::new(probing());
    let mut asking = World::sharded(policy.clone(), 0, 2);
    let mut told = World::sharded(policy, 1, 2);
    for world in [&mut asking, &mut told] {
        redirecting(world, "tls");
        for (name, port) in DOORS {
            world.script(name, port, if port == 5061 { router(name) } else { Script::Answer });
        }
        world.connect_caller("10.0.0.5", Some(POOL));
    }
    asking.script("cas01.contoso.com", 5061, Script::NoListener);
    for _ in 0..40 {
        asking.advance(secs(1));
        told.advance(secs(1));
        for news in std::mem::take(&mut asking.told) {
            told.feed(Input::Told(news));
        }
    }
    assert!(DOORS.map(|door| asked(&mut told, door)).iter().all(|count| *count == 0), "one asks");
    assert_eq!(whys(&told, "cas01.contoso.com"), whys(&asking, "cas01.contoso.com"));
    assert_eq!(whys(&told, "cas01.contoso.com"), ["3 OPTIONS over tls failed: Refused: refused"]);
    assert!(!told.events.iter().any(|event| event.starts_with("down")), "told once");
    assert!(told.told.is_empty(), "what was told is not told on");
    let (one, two) = (server(&told, "mbx01.contoso.com"), server(&asking, "mbx01.contoso.com"));
    assert_eq!(one.doors[0].2.is_down, two.doors[0].2.is_down);
    for number in 1..=2 {
        assert_eq!(call(&mut told, number).0, 200);
    }
    assert!(!told.connects.iter().any(|target| target.name == "cas01.contoso.com"));
    // What a call finds out, the asking shard learns too.
    told.script("cas02.contoso.com", 5061, Script::NoListener);
    let standing: Vec<_> =
        told.flows.iter().filter(|(_, place)| place.0 == "cas02.contoso.com").map(|(key, _)| *key).collect();
    for flow in standing {
        told.flows.remove(&flow);
        told.feed(Input::FlowDown { flow, why: FlowLoss::Error });
    }
    call(&mut told, 3);
    let mut news = std::mem::take(&mut told.told);
    news.retain(|news| !matches!(news, News::Deposit { .. }));
    assert!(matches!(&news[0], News::Failed { server, .. } if server == "cas02.contoso.com"), "{news:?}");
    news.into_iter().for_each(|news| asking.feed(Input::Told(news)));
    assert!(server(&asking, "cas02.contoso.com").down_until.is_some());
    assert!(!asking.events.iter().any(|event| event == "down cas02.contoso.com"));
}

#[test]
fn a_failed_call_rests_a_server_at_once_and_the_next_good_probe_ends_that() {
    let mut world = awake(probing());
    world.advance(secs(2));
    world.party("cas01.contoso.com", 5061).script = Script::Silent;
    let started = world.now;
    assert_eq!(call(&mut world, 1).0, 0);
    world.advance(secs(5));
    assert_eq!(world.caller().last_status(), 200);
    assert!(server(&world, "cas01.contoso.com").down_until.is_some());
    world.advance(secs(8));
    assert!(world.now < started + secs(19), "before the rest is over");
    let changes: Vec<Turn> =
        server(&world, "cas01.contoso.com").changes.iter().map(|change| change.to).collect();
    assert_eq!(changes, [Turn::Resting, Turn::Up]);
    assert!(server(&world, "cas01.contoso.com").down_until.is_none());
}

#[test]
fn of_the_servers_of_a_redirect_one_that_fails_probes_comes_last_and_is_tried_all_the_same() {
    let both = "<sip:ken@mbx01.contoso.com:5063;transport=tls>;q=0.9, <sip:ken@mbx02.contoso.com:5063;transport=tls>;q=0.5";
    let mut world = awake(probing());
    for name in ["cas01.contoso.com", "cas02.contoso.com"] {
        world.script(name, 5061, Script::Redirect(both.into()));
    }
    world.party("mbx01.contoso.com", 5063).answers.insert("OPTIONS", 503);
    world.advance(secs(33));
    assert_eq!(call(&mut world, 1), (200, "mbx02.contoso.com".to_owned()));
    assert!(!world.events.iter().any(|event| event.starts_with("failed")));
    world.party("mbx02.contoso.com", 5063).script = Script::Refuse(503, "Busy");
    assert_eq!(call(&mut world, 2), (200, "mbx01.contoso.com".to_owned()));
}

#[test]
fn a_connection_that_breaks_under_a_probe_counts_as_one_in_vain_and_the_next_makes_another() {
    let mut world = awake(probing());
    world.party("mbx02.contoso.com", 5063).is_mute = true;
    world.advance(secs(2));
    let flow = world.party("mbx02.contoso.com", 5063).flow.unwrap().key;
    world.flows.remove(&flow);
    world.feed(Input::FlowDown { flow, why: FlowLoss::ClosedByPeer });
    assert!(world.events.contains(&"probed mbx02.contoso.com bad".to_owned()));
    world.party("mbx02.contoso.com", 5063).is_mute = false;
    world.advance(secs(12));
    assert!(world.events.contains(&"probed mbx02.contoso.com good".to_owned()));
    assert!(whys(&world, "mbx02.contoso.com").is_empty());
}
