//! Two endpoints over a seeded network that loses, doubles and reorders datagrams: a call still completes, and the
//! tables end empty.

use super::*;
use crate::Dialog;
use std::collections::BTreeMap;

/// Calls tried; each has a seed of its own.
const SEEDS: u64 = 60;

struct Network {
    state: u64,
    /// By arrival; the number keeps equal arrivals apart.
    in_flight: BTreeMap<(Instant, u64), (usize, Bytes)>,
    carried: u64,
}

impl Network {
    fn random(&mut self, below: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 16) % below
    }

    /// A fifth is lost, a tenth doubled; delays of up to 300 ms reorder.
    fn carry(&mut self, now: Instant, to: usize, bytes: &Bytes) {
        let copies = match self.random(10) {
            0 | 1 => 0,
            2 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            self.carried += 1;
            let arrival = now + Duration::from_millis(1 + self.random(300));
            self.in_flight.insert((arrival, self.carried), (to, bytes.clone()));
        }
    }
}

/// What both users saw.
#[derive(Debug, Default, Eq, PartialEq)]
struct Seen {
    invites: u32,
    answers: u32,
    acks: u32,
    byes: u32,
    bye_answers: u32,
    failures: Vec<String>,
}

struct World {
    network: Network,
    sides: [Endpoint; 2],
    now: Instant,
    dialog: Option<Dialog>,
    seen: Seen,
}

impl World {
    fn new(seed: u64) -> World {
        let network = Network { state: seed * 0x9e37_79b9 + 1, in_flight: BTreeMap::new(), carried: 0 };
        let side = |seed| Endpoint::new(EndpointConfig::default(), seed);
        World {
            network,
            sides: [side(seed), side(seed + 1000)],
            now: origin(),
            dialog: None,
            seen: Seen::default(),
        }
    }

    fn call(&mut self) {
        self.sides[0]
            .send_request(self.now, &flow(Transport::Udp), outgoing(Method::Invite, 1, None))
            .unwrap();
        self.drain();
        for _ in 0..10_000 {
            let Some(next) = self.next_instant() else { return };
            self.now = next;
            let arrived: Vec<_> =
                self.network.in_flight.range(..=(next, u64::MAX)).map(|(at, _)| *at).collect();
            for at in arrived {
                let (to, bytes) = self.network.in_flight.remove(&at).unwrap();
                self.sides[to].handle_bytes(next, &flow(Transport::Udp), bytes);
            }
            self.sides.iter_mut().for_each(|side| side.handle_timeout(next));
            self.drain();
        }
        panic!("the world does not come to rest");
    }

    fn next_instant(&self) -> Option<Instant> {
        let timers = self.sides.iter().filter_map(|side| side.poll_deadline().map(|(at, _)| at));
        timers.chain(self.network.in_flight.keys().map(|(at, _)| *at)).min()
    }

    fn drain(&mut self) {
        for side in 0..2 {
            while let Some(output) = self.sides[side].poll_output() {
                match output {
                    Output::Send { bytes, .. } => self.network.carry(self.now, 1 - side, &bytes),
                    Output::Event(event) => self.on_event(side, event),
                }
            }
        }
    }

    fn on_event(&mut self, side: usize, event: Event) {
        let udp = flow(Transport::Udp);
        match event {
            Event::Request { key, message, .. } => {
                match message.method() {
                    Method::Invite => self.seen.invites += 1,
                    _ => self.seen.byes += 1,
                }
                self.sides[side].respond(self.now, key, response(&message, 200, "srv")).unwrap();
            }
            Event::Response { message, .. } if message.status().unwrap().is_provisional() => {}
            Event::Response { message, .. } if *message.method() == Method::Invite => {
                self.seen.answers += 1;
                let dialog = Dialog::uac(&outgoing(Method::Invite, 1, None), &message).unwrap();
                let ack = dialog.ack(message.cseq().number).finish().unwrap();
                self.sides[side].send_ack(self.now, &udp, ack);
                self.dialog = Some(dialog);
            }
            Event::Response { .. } => self.seen.bye_answers += 1,
            Event::Ack { invite: Some(_), .. } => {
                self.seen.acks += 1;
                // The caller hangs up once the call stands.
                let bye = self.dialog.as_mut().unwrap().request(Method::Bye).finish().unwrap();
                self.sides[0].send_request(self.now, &udp, bye).unwrap();
            }
            Event::ServerGone { .. } | Event::Stray { .. } | Event::Ack { .. } => {}
            other => self.seen.failures.push(format!("{other:?}")),
        }
    }
}

#[test]
fn a_call_completes_over_a_network_that_loses_doubles_and_reorders() {
    let whole = Seen { invites: 1, answers: 1, acks: 1, byes: 1, bye_answers: 1, failures: Vec::new() };
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        world.call();
        assert_eq!(world.seen, whole, "seed {seed}");
        for side in &world.sides {
            assert_eq!(side.counts(), TableCounts::default(), "seed {seed}");
        }
    }
}
