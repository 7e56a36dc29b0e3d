//! One stream over many negotiations: the plans of a call, one after the other, carried out by a relay session between two
//! far ends that follow their own descriptions.

use std::time::{Duration, Instant};

use bytes::Bytes;
use relay::{Channel, PacketBuffer, Plan, Protection, Session, Side, Verdict};
use sip::Method;

use super::world::{World, caller, offer};
use super::{call_with, worker};

/// The gateway's media and, behind each leg, a stack with the keys of that leg's far end.
struct Media {
    session: Session,
    ends: [Session; 2],
    plan: Plan,
    now: Instant,
    sequence: u16,
}

fn stack(plan: &Plan, side: Side) -> Plan {
    let mut stack = Plan { reports: None, ..plan.clone() };
    for leg in [&mut stack.a, &mut stack.b] {
        leg.formats = relay::Formats::any();
        leg.latch.networks.clear();
    }
    stack.a.protection = Protection::Clear;
    stack.b.protection = match plan.leg(side).protection.clone() {
        Protection::Clear => Protection::Clear,
        Protection::Sealed { inbound, outbound } => {
            Protection::Sealed { inbound: outbound, outbound: inbound }
        }
    };
    stack
}

fn pass(
    session: &mut Session,
    now: Instant,
    side: Side,
    from: std::net::SocketAddr,
    bytes: &[u8],
) -> Vec<u8> {
    let mut packet = PacketBuffer::new();
    packet.fill(bytes);
    let verdict = session.handle_packet(now, side, Channel::Rtp, from, &mut packet);
    assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
    packet.as_slice().to_vec()
}

impl Media {
    fn new(world: &World) -> Self {
        let (plan, now) = (world.plans.last().unwrap().clone(), world.now);
        let ends = [Side::A, Side::B].map(|side| Session::new(stack(&plan, side), now).unwrap());
        Self { session: Session::new(plan.clone(), now).unwrap(), ends, plan, now, sequence: 65_530 }
    }

    fn follow(&mut self, world: &World) {
        self.plan = world.plans.last().unwrap().clone();
        for (end, side) in self.ends.iter_mut().zip([Side::A, Side::B]) {
            end.apply(stack(&self.plan, side), self.now).unwrap();
        }
        self.session.apply(self.plan.clone(), self.now).unwrap();
    }

    /// Speech both ways, which arrives as it was sent.
    fn talk(&mut self) {
        for _ in 0..5 {
            self.now += Duration::from_millis(20);
            self.sequence = self.sequence.wrapping_add(1);
            for side in [Side::A, Side::B] {
                let said = [
                    &[0x80, 0][..],
                    &self.sequence.to_be_bytes(),
                    &[0, 0, 0, 1, 5, 5, 5, side as u8],
                    &[0x55; 160],
                ];
                let said = said.concat();
                let own = self.plan.leg(side).remote_rtp;
                let inside = self.plan.a.remote_rtp;
                let sealed = pass(&mut self.ends[side as usize], self.now, Side::A, inside, &said);
                let crossed = pass(&mut self.session, self.now, side, own, &sealed);
                let from = self.plan.b.remote_rtp;
                assert_eq!(pass(&mut self.ends[!side as usize], self.now, Side::B, from, &crossed), said);
            }
        }
    }
}

#[test]
fn a_stream_goes_on_unbroken_over_refreshes_re_keys_and_new_addresses_of_either_side() {
    let mut world = call_with("", "");
    let mut media = Media::new(&world);
    let name = media.plan.reports.unwrap();
    media.talk();
    // Who offers: from which port, under which key.
    for (place, address, port, key) in [
        (caller(), "10.0.0.5", 3000, 9),
        (caller(), "10.0.0.5", 3200, 9),
        (caller(), "10.0.0.6", 3200, 0x19),
        (worker(), "10.0.2.1", 4000, 0x5b),
        (worker(), "10.0.2.1", 4000, 0x6b),
        (worker(), "10.0.2.9", 4400, 0x6b),
    ] {
        // Where the other one answers again, it answers with what it has.
        let far = world.party(&place.0, place.1);
        far.media = (address, port, key);
        world.in_dialog(&place, Method::Invite, "", Some(offer(address, port, Some(key))));
        assert_eq!(world.party(&place.0, place.1).last_status(), 200);
        media.follow(&world);
        media.talk();
    }
    let stats = media.session.stats();
    for side in [&stats.a, &stats.b] {
        assert_eq!(
            (side.packets_received, side.packets_sent, side.lost, side.dropped.total()),
            (35, 35, 0, 0)
        );
    }
    assert!(world.plans.iter().all(|plan| plan.reports == Some(name)), "one name for the whole call");
    world.in_dialog(&caller(), Method::Bye, "", None);
    world.assert_clean();
}

#[test]
fn rtcp_is_made_by_default_and_left_to_the_peers_where_that_is_wished() {
    let world = call_with("", "");
    let made = world.plans.last().unwrap().reports.unwrap();
    assert_eq!(made.clock_hz, 8_000);
    let mut policy = (*super::policy::secured()).clone();
    policy.gateway.rtcp = crate::policy::RtcpMode::Relay;
    let mut world = World::new(policy.into());
    super::redirecting(&mut world, "tls");
    world.connect_caller("10.0.0.5", Some(super::policy::POOL));
    let body: Bytes = offer("10.0.0.5", 3000, Some(9));
    world.invite(super::DEPOSIT, super::DIVERSION, Some(body));
    assert_eq!(world.plans.last().unwrap().reports, None);
}
