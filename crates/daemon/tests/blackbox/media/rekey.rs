//! New descriptions inside a call while both ends speak: under the same keys counters go on over a rollover (RFC 4568 §7.1.4),
//! a new key of either end takes over at once. Nothing is lost but what was under way, and nothing comes under a key of before.

use std::time::Duration;

use super::end::{End, INJECTED, SPEECH, context, rtp};
use super::{Relay, Umbra};
use crate::wire::Dialog;

/// Packets of each end between two steps of an exchange.
const BETWEEN: u32 = 5;
/// Packets of each end before and after.
const AROUND: u32 = 60;
/// So many are left until a sequence number begins again.
const LEFT: u16 = 20;
const PATIENCE: Duration = Duration::from_millis(300);

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Asker {
    Caller,
    Server,
}

/// Which ends describe a new key.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Renewed {
    Nobody,
    Asker,
    Both,
    /// It describes one and goes on with its old one: a fault of that end, for the probe to see.
    AskerOnlySaysSo,
}

struct Exchange {
    umbra: Umbra,
    ends: [End; 2],
    caller: Dialog,
    served: Dialog,
    cseq: u32,
    /// Numbers that may be lost, of each end.
    under_way: [Vec<u32>; 2],
}

impl Exchange {
    fn begin(first_sequence: u16) -> Self {
        let mut umbra = Umbra::start(true);
        let mut ends = End::pair(umbra.homes(), 1, [true; 2]);
        ends.iter_mut().for_each(|end| end.sequence = first_sequence);
        let [a, b] = &mut ends;
        let (caller, served) = umbra.calls("rekey", a, b);
        Self { umbra, ends, caller, served, cseq: 2, under_way: [Vec::new(), Vec::new()] }
    }

    /// Each in turn, and waits until it is heard.
    fn speak(&mut self, count: u32) {
        for _ in 0..count {
            for side in [0, 1] {
                let number = self.ends[side].tally.sent;
                self.ends[side].speaks();
                self.ends[1 - side].hears(number, PATIENCE);
            }
        }
    }

    /// While an answer is under way: what either end says may be lost.
    fn speak_meanwhile(&mut self) {
        for _ in 0..BETWEEN {
            for (end, under_way) in self.ends.iter_mut().zip(&mut self.under_way) {
                under_way.push(end.tally.sent);
                end.speaks();
            }
        }
        self.ends.iter_mut().for_each(End::drains);
    }

    /// One re-INVITE, with both ends speaking between all steps; lost may be what they say while the answer crosses.
    fn asks(&mut self, asker: Asker, renewed: Renewed) {
        let (own, other) = if asker == Asker::Caller { (0, 1) } else { (1, 0) };
        let renews = [renewed != Renewed::Nobody, renewed == Renewed::Both];
        for (side, renews) in [own, other].into_iter().zip(renews) {
            if renews {
                self.ends[side].renews_key();
            }
        }
        self.cseq += 1;
        let (cseq, offer) = (self.cseq, self.ends[own].describe());
        self.ends[own].waits_for_answer();
        match asker {
            Asker::Caller => self.umbra.phone.asks_with(&self.caller, "INVITE", cseq, "", &offer),
            Asker::Server => {
                let served = self.served.clone();
                self.umbra.server().asks_with(&served, "INVITE", cseq, "", &offer);
            }
        }
        // Nobody has agreed to anything new.
        self.speak(BETWEEN);
        let heard = self.wire(!asker).hears("INVITE ");
        self.ends[other].agree(&heard);
        self.speak(BETWEEN);
        let answer = self.ends[other].describe();
        self.wire(!asker).answers(&heard, "200 OK", &answer);
        if renews[1] {
            self.ends[other].switches_key();
        }
        self.speak_meanwhile();
        let answer = self.wire(asker).hears("SIP/2.0 200 ");
        self.ends[own].agree(&answer);
        if renews[0] && renewed != Renewed::AskerOnlySaysSo {
            self.ends[own].switches_key();
        }
        match asker {
            Asker::Caller => self.umbra.phone.asks(&self.caller, "ACK", cseq, ""),
            Asker::Server => {
                let served = self.served.clone();
                self.umbra.server().asks(&served, "ACK", cseq, "");
            }
        }
        self.wire(!asker).hears("ACK ");
    }

    fn wire(&mut self, who: Asker) -> &mut crate::wire::Wire {
        match who {
            Asker::Caller => &mut self.umbra.phone,
            Asker::Server => self.umbra.server(),
        }
    }

    /// What is wrong, in words.
    fn faults(&mut self) -> Vec<String> {
        std::thread::sleep(PATIENCE);
        let mut faults = Vec::new();
        for side in [0, 1] {
            self.ends[side].drains();
            let (own, other) = (&self.ends[side], &self.ends[1 - side]);
            let is_lost =
                |number: &u32| !own.tally.has(*number) && !self.under_way[1 - side].contains(number);
            let lost: Vec<u32> = (0..other.tally.sent).filter(is_lost).collect();
            if !lost.is_empty() {
                faults.push(format!("end {side} did not hear {lost:?}"));
            }
            if own.tally.foreign + own.tally.doubles > 0 {
                faults.push(format!("end {side} heard what nobody said: {:?}", own.tally));
            }
            if own.opened_by.last().is_none_or(|key| key + 1 < own.keys_named()) {
                faults.push(format!("end {side} hears nothing under the key that was named last"));
            }
            if is_back(&own.opened_by) {
                faults.push(format!("end {side} heard packets under a key of before: {:?}", own.opened_by));
            }
        }
        faults
    }
}

impl std::ops::Not for Asker {
    type Output = Self;

    fn not(self) -> Self {
        if self == Self::Caller { Self::Server } else { Self::Caller }
    }
}

/// Whether a packet came under an older key than one before it.
fn is_back(opened_by: &[usize]) -> bool {
    opened_by.windows(2).any(|pair| pair[1] < pair[0])
}

#[test]
fn the_same_keys_go_on_over_a_rollover_and_further_offers() {
    for asker in [Asker::Caller, Asker::Server] {
        let mut call = Exchange::begin(u16::MAX - LEFT);
        call.speak(AROUND);
        for _ in 0..3 {
            call.asks(asker, Renewed::Nobody);
            call.speak(AROUND);
        }
        assert_eq!(call.faults(), [""; 0], "{asker:?}");
        // With the same keys nothing is lost at all.
        let heard = call.ends.each_ref().map(|end| end.tally.heard);
        let sent = call.ends.each_ref().map(|end| end.tally.sent);
        assert_eq!([sent[1], sent[0]], heard, "{asker:?}");
        let named = call.ends.each_ref().map(End::keys_named);
        println!("same keys, {asker:?} asks: sent {sent:?}, heard {heard:?}, keys named to each {named:?}");
    }
}

#[test]
fn a_new_key_takes_over_at_once_in_both_directions() {
    for asker in [Asker::Caller, Asker::Server] {
        for renewed in [Renewed::Asker, Renewed::Both] {
            for first_sequence in [1_000, u16::MAX - LEFT] {
                let mut call = Exchange::begin(first_sequence);
                call.speak(AROUND);
                for _ in 0..2 {
                    let own = if asker == Asker::Caller { 0 } else { 1 };
                    let former = call.ends[own].own_key().unwrap();
                    call.asks(asker, renewed);
                    call.speak(AROUND);
                    // Its former key opens nothing any more.
                    let end = &mut call.ends[own];
                    let speech = rtp(SPEECH, end.sequence, end.timestamp, end.ssrc, INJECTED);
                    let packet = context(&former).encrypt_rtp(&speech).unwrap();
                    end.rtp.send_to(&packet, end.relay().0).unwrap();
                }
                assert_eq!(call.faults(), [""; 0], "{asker:?} {renewed:?} {first_sequence}");
                let own = if asker == Asker::Caller { 0 } else { 1 };
                // Ours is fresh for each of theirs.
                assert_eq!(call.ends[own].keys_named(), 3, "{asker:?} {renewed:?}");
                let lost = call.ends.each_ref().map(|end| end.tally.sent - end.tally.heard);
                println!(
                    "new keys, {asker:?} asks, {renewed:?}, from {first_sequence}: difference of sent and heard {lost:?}"
                );
            }
        }
    }
}

#[test]
fn the_probe_sees_an_end_that_does_not_switch_and_packets_under_an_old_key() {
    let mut call = Exchange::begin(1_000);
    call.speak(AROUND);
    call.asks(Asker::Caller, Renewed::AskerOnlySaysSo);
    call.speak(AROUND / 20);
    let faults = call.faults();
    assert!(faults.iter().any(|fault| fault.contains("end 1 did not hear")), "{faults:?}");
    assert!(is_back(&[0, 0, 1, 0, 1]) && !is_back(&[0, 0, 1, 1]));
}
