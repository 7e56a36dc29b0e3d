//! Transfers of every kind in random order, from a seed: whatever far ends do, each call ends once and leaves nothing.

use std::time::Duration;

use bytes::Bytes;
use sip::Method;

use super::policy::POOL;
use super::refer::{TO_BOB, answered, guest, invite_as, with_rules, worker};
use super::world::{Place, Script, World, caller, offer};
use crate::engine::{FlowLoss, Input};
use crate::policy::{ReferRule, ReplacesRule, TransferRules};

/// Orders tried.
const SEEDS: u64 = 300;
/// Things that happen in each.
const STEPS: usize = 25;

/// A generator of one number after the other (Knuth's MMIX constants).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.below(from.len() as u64)).unwrap()].clone()
    }
}

struct Restless {
    world: World,
    dice: Dice,
    places: Vec<Place>,
    guests: usize,
    story: Vec<String>,
}

impl Restless {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let rules = TransferRules {
            refer: dice.pick(&[ReferRule::Execute, ReferRule::Execute, ReferRule::Relay]),
            replaces: dice.pick(&[ReplacesRule::SamePeer, ReplacesRule::SamePlan]),
        };
        let mut world = answered(with_rules(rules));
        let script = dice.pick(&[
            Script::Answer,
            Script::Answer,
            Script::RingOnly,
            Script::Silent,
            Script::Refuse(486, "Busy"),
            Script::AnswerBroken,
            Script::NoListener,
            Script::Redirect("<sip:other@contoso.com>".into()),
        ]);
        let story = vec![format!("{rules:?}, target {script:?}")];
        world.script(POOL, 5067, script);
        let places = vec![caller(), worker(), (POOL.to_owned(), 5067)];
        Self { world, dice, places, guests: 0, story }
    }

    fn has_dialog(&self, place: &Place) -> bool {
        self.world.parties.get(place).is_some_and(|p| p.dialog.is_some() && p.flow.is_some())
    }

    fn step(&mut self) {
        let place = self.dice.pick(&self.places.clone());
        let what = self.dice.below(13);
        self.story.push(format!("{what} at {place:?}"));
        match what {
            0 | 1 => self.ask(&worker(), Method::Refer, TO_BOB, None),
            2 => self.ask(&place, Method::Refer, TO_BOB, None),
            3 if self.dice.below(3) == 0 => self.ask(&place, Method::Bye, "", None),
            4 => self.replace(&place),
            5 => self.ask(&place, Method::Invite, "", Some(offer("10.0.0.6", 3456, Some(9)))),
            6 | 7 => {
                let status = self.dice.pick(&[200, 200, 0, 0, 488, 491]);
                self.world.party(&place.0, place.1).answers_reoffer = status;
            }
            8 => self.settle(&place),
            9 => {
                let wait = self.dice.pick(&[10, 700, 2500, 20_000, 61_000]);
                self.world.advance(Duration::from_millis(wait));
            }
            10 => self.notify(&place),
            11 if self.dice.below(6) == 0 => self.lose_flow(&place),
            12 => self.ask(&place, Method::Subscribe, "Event: refer\r\nExpires: 0\r\n", None),
            _ => self.ask(&place, Method::Info, "", None),
        }
    }

    fn ask(&mut self, place: &Place, method: Method, lines: &str, body: Option<Bytes>) {
        if self.has_dialog(place) {
            self.world.in_dialog(place, method, lines, body);
        }
    }

    fn notify(&mut self, place: &Place) {
        let state = self.dice.pick(&["active", "terminated;reason=noresource"]);
        let lines = format!("Event: refer\r\nSubscription-State: {state}\r\n");
        self.ask(place, Method::Notify, &lines, None);
    }

    fn replace(&mut self, place: &Place) {
        if self.guests >= 3 || !self.has_dialog(place) {
            return;
        }
        self.guests += 1;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let dialog = self.world.party(&place.0, place.1).dialog.clone().unwrap();
        let (call_id, ours, theirs) =
            (text(&dialog.call_id), text(&dialog.remote_tag), text(&dialog.local_tag));
        let (certificate, address) = self.dice.pick(&[
            (POOL, "10.0.0.5"),
            (POOL, "10.0.0.5"),
            ("mbx01.contoso.com", "10.0.2.1"),
            ("mbx02.contoso.com", "10.0.2.2"),
        ]);
        let name = format!("guest{}", self.guests);
        let newcomer = guest(&mut self.world, &name, certificate, address);
        let body = self.dice.pick(&[
            Some(offer("10.0.0.5", 3200, Some(0x21))),
            None,
            Some(offer("10.0.0.5", 3200, None)),
        ]);
        let lines = format!("Replaces: {call_id};to-tag={ours};from-tag={theirs}\r\n");
        let key = invite_as(&mut self.world, &newcomer, &name, &lines, body);
        if self.dice.below(4) == 0 {
            let now = self.world.now;
            self.world.party(&newcomer.0, 0).endpoint.cancel(now, key);
            self.world.pump();
        }
        self.places.push(newcomer);
    }

    /// Whatever waits at a place is answered.
    fn settle(&mut self, place: &Place) {
        let now = self.world.now;
        let is_good = self.dice.below(2) == 0;
        let party = self.world.party(&place.0, place.1);
        match &party.pending {
            Some((_, request)) if *request.method() == Method::Invite && is_good => party.answer_pending(now),
            Some(_) => {
                let (key, request) = party.pending.take().unwrap();
                let status = if *request.method() == Method::Invite { 487 } else { 200 };
                party.respond(now, key, &request, status, None, None);
            }
            None => {}
        }
        self.world.pump();
    }

    fn lose_flow(&mut self, place: &Place) {
        if let Some(flow) = self.world.party(&place.0, place.1).flow.take() {
            self.world.flows.remove(&flow.key);
            self.world.party(&place.0, place.1).endpoint =
                sip::Endpoint::new(sip::EndpointConfig::default(), 1);
            self.world.feed(Input::FlowDown { flow: flow.key, why: FlowLoss::Error });
        }
    }

    fn finish(mut self) {
        for place in self.places.clone() {
            self.world.party(&place.0, place.1).answers_reoffer = 200;
            self.settle(&place);
        }
        for place in self.places.clone() {
            self.ask(&place, Method::Bye, "", None);
        }
        self.world.advance(Duration::from_secs(70));
        for place in self.places.clone() {
            self.settle(&place);
        }
        let refused = self.world.records.iter().filter(|record| record.answered_at.is_none()).count();
        self.world.assert_clean();
        assert_eq!(self.world.records.len() - refused, 1, "one call, one record");
        assert!(self.world.engine.core.connects.is_empty() && self.world.engine.core.dialogs.is_empty());
    }
}

#[test]
fn transfers_in_any_order_end_every_call_once_and_leave_nothing() {
    let only = None::<u64>;
    for seed in only.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let run = std::panic::catch_unwind(move || {
            let mut restless = Restless::new(seed);
            for _ in 0..STEPS {
                restless.step();
            }
            restless.finish();
        });
        assert!(run.is_ok(), "seed {seed}");
    }
}
