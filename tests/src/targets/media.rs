//! Packets of both legs into a relay session: one leg sealed, the other clear.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use relay::{
    Channel, Formats, KeyParams, LegPlan, MasterKey, PacketBuffer, Plan, Protection, Reports, Session, Side,
    Suite, Verdict,
};

/// What the first octet of each packet says.
const CLEAR_SIDE: u8 = 1;
const RTCP_PORT: u8 = 2;
/// From an address that nobody told of.
const STRANGER: u8 = 4;
/// Sealed by the peer before it is sent.
const SEALED: u8 = 8;
/// One octet of it is changed on the way.
const DAMAGED: u8 = 16;
/// Seconds pass first.
const LATER: u8 = 32;

/// A gateway's session and the stack of the peer on its sealed leg.
struct Scene {
    gateway: Session,
    peer: Session,
    now: Instant,
    packet: PacketBuffer,
}

/// Packets, each behind an octet of circumstances and one of length; the very first octet chooses the suite.
pub fn unprotect(input: &[u8]) {
    let Some((first, mut rest)) = input.split_first() else { return };
    let Some(suite) = Suite::ALL.get(usize::from(*first) % Suite::ALL.len()) else { return };
    let mut scene = Scene::new(*suite);
    while let [how, length, more @ ..] = rest {
        let (bytes, behind) = more.split_at(usize::from(*length).min(more.len()));
        scene.take(*how, bytes);
        rest = behind;
    }
}

impl Scene {
    fn new(suite: Suite) -> Self {
        let now = start();
        let (theirs, ours) = (key(suite, 1), key(suite, 2));
        let sealed = |inbound: &KeyParams, outbound: &KeyParams| Protection::Sealed {
            inbound: inbound.clone(),
            outbound: outbound.clone(),
        };
        let (mut a, mut b) = (leg(Side::A, sealed(&theirs, &ours)), leg(Side::B, Protection::Clear));
        (a.formats, b.formats) = (Formats::same([0, 8]), Formats::same([0, 8]));
        a.formats.pass(101, 96);
        b.formats.pass(96, 101);
        a.formats.keep(13);
        b.rtcp_mux = true;
        let reports = Some(Reports { name: [7; 12], seed: 7, clock_hz: 8_000 });
        let plan = Plan { a, b, inactivity: Duration::from_secs(30), reports };
        // The peer's own side is B, its way to us side A.
        let (a, b) = (leg(Side::A, sealed(&ours, &theirs)), leg(Side::B, Protection::Clear));
        let peer = Plan { a, b, inactivity: Duration::ZERO, reports: None };
        let (Ok(gateway), Ok(peer)) = (Session::new(plan, now), Session::new(peer, now)) else {
            panic!("keys are usable")
        };
        Scene { gateway, peer, now, packet: PacketBuffer::new() }
    }

    fn take(&mut self, how: u8, bytes: &[u8]) {
        if how & LATER != 0 {
            self.pass_time();
        }
        let side = if how & CLEAR_SIDE != 0 { Side::B } else { Side::A };
        let channel = if how & RTCP_PORT != 0 { Channel::Rtcp } else { Channel::Rtp };
        self.packet.fill(bytes);
        let is_sealed = side == Side::A && how & SEALED != 0 && self.seal(channel);
        let is_damaged = how & DAMAGED != 0;
        if is_damaged {
            let mut bytes = self.packet.as_slice().to_vec();
            let at = usize::from(how) * 7 % bytes.len().max(1);
            bytes.iter_mut().skip(at).take(1).for_each(|octet| *octet ^= 0x10);
            self.packet.fill(&bytes);
        }
        let from = if how & STRANGER != 0 { ([203, 0, 113, 9], 9).into() } else { at(side) };
        let verdict = self.gateway.handle_packet(self.now, side, channel, from, &mut self.packet);
        while self.gateway.poll_fact().is_some() {}
        let Verdict::Forward { side: to, .. } = verdict else { return };
        assert_eq!(to, !side);
        match side {
            Side::A => assert!(is_sealed && !is_damaged, "what was not authentic is forwarded"),
            Side::B => {
                assert_eq!(from, at(Side::B), "a stranger's packet is forwarded");
                self.open();
            }
        }
    }

    /// The packet as the peer would send it; `false` if it would not.
    fn seal(&mut self, channel: Channel) -> bool {
        let verdict = self.peer.handle_packet(self.now, Side::B, channel, at(Side::B), &mut self.packet);
        matches!(verdict, Verdict::Forward { .. })
    }

    /// What is sent to the peer is sealed for it: it opens, unless it is one source too many or out of its window.
    fn open(&mut self) {
        let sealed = self.packet.as_slice().to_vec();
        let channel = if sealed.get(1).is_some_and(|kind| (192..=223).contains(kind)) {
            Channel::Rtcp
        } else {
            Channel::Rtp
        };
        let verdict = self.peer.handle_packet(self.now, Side::A, channel, at(Side::A), &mut self.packet);
        let is_foreign = match verdict {
            Verdict::Drop(relay::Why::NotSealed | relay::Why::Malformed) => true,
            // RTCP brings its index along, so nothing but another key or none makes its tag wrong.
            Verdict::Drop(relay::Why::Unauthentic) => channel == Channel::Rtcp,
            _ => false,
        };
        assert!(!is_foreign, "what is sent to a sealed leg is not sealed for it");
        let payload_type = sealed.get(1).map(|octet| octet & 0x7F);
        assert!(channel == Channel::Rtcp || payload_type != Some(96), "a number of the other leg");
    }

    fn pass_time(&mut self) {
        self.now += Duration::from_secs(4);
        self.gateway.handle_timeout(self.now);
        while let Some((side, ..)) = self.gateway.poll_packet(self.now, &mut self.packet) {
            if side == Side::A {
                self.open();
            }
        }
        assert!(self.gateway.poll_deadline().is_some_and(|due| due > self.now), "a deadline stands still");
    }
}

fn key(suite: Suite, fill: u8) -> KeyParams {
    let inline = vec![fill; suite.key_bytes() + suite.salt_bytes()];
    let Some(key) = MasterKey::from_inline(suite, &inline) else { panic!("the length fits") };
    KeyParams::new(suite, key)
}

fn at(side: Side) -> SocketAddr {
    match side {
        Side::A => ([192, 0, 2, 1], 4000).into(),
        Side::B => ([192, 0, 2, 2], 5000).into(),
    }
}

fn leg(side: Side, protection: Protection) -> LegPlan {
    LegPlan::at(at(side), protection)
}

#[allow(clippy::disallowed_methods, reason = "some instant to count from")]
fn start() -> Instant {
    Instant::now()
}
