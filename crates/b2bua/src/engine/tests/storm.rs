//! Set-ups in which everybody says anything at any time: whatever the order, the call ends on both legs, the caller
//! has exactly one final response to its INVITE, and nothing is left.

use std::time::Duration;

use sip::endpoint::ClientKey;
use sip::{HeaderId, Method, StatusCode};

use super::early_cast::{answer_to, response, server, world};
use super::world::{Script, World, caller, offer};
use super::{DEPOSIT, DIVERSION};
use crate::engine::{FlowLoss, Input};

/// How many orders one run tries.
const STORMS: u64 = 300;
const STEPS: u32 = 24;

/// A small generator: one seed, one order.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

struct Storm {
    world: World,
    dice: Dice,
    invite: ClientKey,
    server_cseq: u32,
}

impl Storm {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut world = world();
        let second = [Script::NoListener, Script::Answer, Script::Silent][dice.below(3) as usize].clone();
        world.script("cas02.contoso.com", 5061, second);
        let says = dice.pick(&["", "Supported: 100rel\r\n", "Require: 100rel\r\n"]);
        let body = (dice.below(4) > 0).then(|| offer("10.0.0.5", 3000, Some(9)));
        let lines = format!("{DIVERSION}{says}Allow: INVITE, PRACK, UPDATE\r\n");
        let invite = world.invite(DEPOSIT, &lines, body);
        Self { world, dice, invite, server_cseq: 0 }
    }

    fn step(&mut self) {
        if self.world.caller().flow.is_none() {
            return self.world.advance(Duration::from_secs(1));
        }
        match self.dice.below(12) {
            0..=4 => self.server_answers(),
            5 => self.server_says(),
            6 | 7 => self.caller_pracks(),
            8 => self.caller_says(),
            9 if self.dice.below(25) == 0 => {
                let place = if self.dice.below(2) == 0 { caller() } else { server() };
                if let Some(flow) = self.world.party(&place.0, place.1).flow.take() {
                    self.world.flows.remove(&flow.key);
                    self.world.feed(Input::FlowDown { flow: flow.key, why: FlowLoss::Error });
                }
            }
            9 if self.dice.below(6) == 0 => {
                let now = self.world.now;
                self.world.caller().endpoint.cancel(now, self.invite);
                self.world.pump();
            }
            _ => {
                let wait = self.dice.pick(&[1, 40, 300, 700, 5_000, 20_000]);
                self.world.advance(Duration::from_millis(wait));
            }
        }
    }

    fn server_answers(&mut self) {
        let (name, port) = server();
        let Some((_, invite)) = self.world.party(&name, port).pending.clone() else { return };
        if *invite.method() != Method::Invite || invite.to_tag().is_some() {
            return;
        }
        let status = self.dice.pick(&[180, 180, 183, 183, 183, 182, 200, 200, 486, 503, 302]);
        let tag = self.dice.pick(&["f1", "f1", "f2", "f3"]);
        let rseq = self.dice.below(5);
        let lines = match self.dice.below(2) {
            0 if status < 200 => format!("Require: 100rel\r\nRSeq: {rseq}\r\nAllow: UPDATE\r\n"),
            _ => String::new(),
        };
        let body = match self.dice.below(3) {
            0 => None,
            1 if status < 300 => Some(self.world.sdp_at(4000 + 2 * self.dice.below(4) as u16)),
            2 if status < 300 && self.dice.below(8) == 0 => Some(offer("10.0.2.1", 4000, None)),
            _ => None,
        };
        let bytes = response(&invite, status, tag, &lines, body);
        let party = self.world.party(&name, port);
        let Some(flow) = party.flow else { return };
        party.endpoint.send_raw(&flow, bytes);
        self.world.pump();
    }

    fn server_says(&mut self) {
        self.server_cseq += 1;
        let method = self.dice.pick(&[0, 0, 0, 1, 2, 3]);
        let method = [Method::Update, Method::Info, Method::Bye, Method::Invite][method].clone();
        let body = (method == Method::Update && self.dice.below(2) == 0)
            .then(|| offer("10.0.2.9", 4444, Some(0x5b)));
        let tag = self.dice.pick(&["f1", "f2", "f9"]);
        let (name, port) = server();
        if self.world.party(&name, port).flow.is_none() {
            return;
        }
        let keeps = self.world.party(&name, port).dialog.clone();
        let pending = self.world.party(&name, port).pending.clone();
        if pending.is_some_and(|(_, invite)| invite.to_tag().is_none() && *invite.method() == Method::Invite)
        {
            self.world.server_says(tag, self.server_cseq, method, "", body);
        }
        if keeps.is_some() {
            self.world.party(&name, port).dialog = keeps;
        }
    }

    fn knows_us(&mut self) -> bool {
        let last = self.world.caller().responses.iter().rfind(|r| {
            *r.method() == Method::Invite && r.status().is_some_and(|s| (101..300).contains(&s.code()))
        });
        let Some(last) = last.cloned() else { return false };
        let party = self.world.caller();
        if party.dialog.is_none() {
            party.dialog = sip::Dialog::uac(party.invite.as_ref().unwrap(), &last).ok();
        }
        party.dialog.is_some()
    }

    fn caller_pracks(&mut self) {
        let rseqs = self.world.caller().responses.iter().rev();
        let Some(rseq) = rseqs.into_iter().find_map(|r| r.header(HeaderId::RSeq).map(<[u8]>::to_vec)) else {
            return;
        };
        if !self.knows_us() {
            return;
        }
        let body = match self.dice.below(3) {
            0 => None,
            1 => Some(offer("10.0.0.6", 3456, Some(9))),
            // What answers an offer of ours; to an answer of ours it is one more offer.
            _ => {
                let told = self.world.caller().responses.iter().rev().find(|r| !r.body().is_empty()).cloned();
                told.map(|told| answer_to(&told.body(), "10.0.0.6", 3470, &["PCMU"]))
            }
        };
        let rack = format!("{} 1 INVITE", String::from_utf8_lossy(&rseq));
        self.world.pracks_as(&rack, body);
    }

    fn caller_says(&mut self) {
        if !self.knows_us() {
            return;
        }
        let method = self.dice.pick(&[0, 0, 1, 2]);
        let method = [Method::Update, Method::Info, Method::Invite][method].clone();
        let offers = method != Method::Info && self.dice.below(2) == 0;
        let body = offers.then(|| offer("10.0.0.6", 3460, Some(9)));
        self.world.in_dialog(&caller(), method, "", body);
    }

    fn end(mut self, seed: u64) {
        let is_reachable = self.world.caller().flow.is_some();
        if self.world.engine.status().calls > 0 && is_reachable && self.knows_us() {
            self.world.in_dialog(&caller(), Method::Bye, "", None);
        }
        // Longer than any ringing, with whatever answer the server still owes.
        self.world.advance(Duration::from_secs(400));
        self.world.assert_clean();
        assert_eq!(self.world.records.len(), 1, "seed {seed}: one record");
        let finals: Vec<u16> = self
            .world
            .caller()
            .responses
            .iter()
            .filter(|r| *r.method() == Method::Invite && r.cseq().number == 1)
            .filter_map(|r| r.status())
            .map(StatusCode::code)
            .filter(|status| *status >= 200)
            .collect();
        assert_eq!(finals.len(), usize::from(is_reachable || !finals.is_empty()), "seed {seed}: {finals:?}");
        assert!(self.world.engine.core.withdrawn.is_empty(), "seed {seed}");
    }
}

#[test]
fn whatever_is_said_during_set_up_the_call_ends_on_both_legs() {
    for seed in 1..=STORMS {
        let mut storm = Storm::new(seed);
        for _ in 0..STEPS {
            storm.step();
        }
        storm.end(seed);
    }
}
