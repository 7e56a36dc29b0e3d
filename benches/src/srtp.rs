//! SRTP through the relay's front door: one packet of speech (172 octets of RTP) from leg to leg. Owns the cases:
//! every suite and provider, sealing and opening, beside a call that is clear on both legs.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use relay::{
    Channel, KeyParams, LegPlan, MasterKey, PacketBuffer, Plan, Protection, Provider, Session, Side, Suite,
    Verdict,
};

/// Packets of one repetition; then the session is made anew, since no packet opens twice.
pub const PACKETS_PER_RUN: usize = 2_000;
const SPEECH_OCTETS: usize = 160;

/// What is done with a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Pass,
    Seal(Suite, Provider),
    Open(Suite, Provider),
}

/// One piece of work, prepared.
pub struct Case {
    /// Its name in the table.
    pub name: String,
    action: Action,
    packets: Vec<Vec<u8>>,
    buffer: PacketBuffer,
    now: Instant,
}

/// Every case, in the order of the table.
pub fn cases() -> Vec<Case> {
    let mut actions = vec![Action::Pass];
    for suite in Suite::ALL {
        for provider in [Provider::InPlace, Provider::WebrtcSrtp] {
            actions.extend([Action::Seal(suite, provider), Action::Open(suite, provider)]);
        }
    }
    actions.into_iter().map(Case::new).collect()
}

impl Case {
    fn new(action: Action) -> Self {
        let mut case = Case {
            name: name(action),
            action,
            packets: (0..PACKETS_PER_RUN as u16).map(speech).collect(),
            buffer: PacketBuffer::new(),
            now: Instant::now(),
        };
        if let Action::Open(suite, provider) = action {
            case.seal_all(suite, provider);
        }
        case
    }

    fn seal_all(&mut self, suite: Suite, provider: Provider) {
        let mut session = session(Action::Seal(suite, provider), self.now);
        for packet in &mut self.packets {
            if pass(&mut session, self.now, &mut self.buffer, packet) {
                *packet = self.buffer.as_slice().to_vec();
            }
        }
    }

    /// One repetition: every packet once through a new session. Gives the packets that went through.
    pub fn run(&mut self) -> usize {
        let mut session = session(self.action, self.now);
        let mut passed = 0;
        for packet in &self.packets {
            passed += usize::from(pass(&mut session, self.now, &mut self.buffer, packet));
        }
        passed
    }
}

fn name(action: Action) -> String {
    let of = |verb, suite, provider| format!("{verb} {suite:?} {provider:?}");
    match action {
        Action::Pass => "pass clear".to_owned(),
        Action::Seal(suite, provider) => of("seal", suite, provider),
        Action::Open(suite, provider) => of("open", suite, provider),
    }
}

fn speech(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * SPEECH_OCTETS as u32).to_be_bytes());
    packet.extend(7u32.to_be_bytes());
    packet.extend([0x55; SPEECH_OCTETS]);
    packet
}

fn peer() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 4_000).into()
}

fn session(action: Action, now: Instant) -> Session {
    let key = |suite: Suite, provider, fill| {
        let inline = vec![fill; suite.key_bytes() + suite.salt_bytes()];
        let key = MasterKey::from_inline(suite, &inline).unwrap_or_else(|| MasterKey::new([0; 16], [0; 14]));
        KeyParams { provider, ..KeyParams::new(suite, key) }
    };
    let sealed = |suite, provider, inbound, outbound| Protection::Sealed {
        inbound: key(suite, provider, inbound),
        outbound: key(suite, provider, outbound),
    };
    let (a, b) = match action {
        Action::Pass => (Protection::Clear, Protection::Clear),
        Action::Seal(suite, provider) => (Protection::Clear, sealed(suite, provider, 1, 2)),
        Action::Open(suite, provider) => (sealed(suite, provider, 2, 1), Protection::Clear),
    };
    let leg = |protection| LegPlan { rtcp_mux: true, ..LegPlan::at(peer(), protection) };
    let plan = Plan { a: leg(a), b: leg(b), inactivity: Duration::ZERO, reports: None };
    match Session::new(plan, now) {
        Ok(session) => session,
        Err(why) => unreachable!("the keys fit their suites: {why}"),
    }
}

fn pass(session: &mut Session, now: Instant, buffer: &mut PacketBuffer, packet: &[u8]) -> bool {
    buffer.fill(packet);
    let verdict = session.handle_packet(now, Side::A, Channel::Rtp, peer(), buffer);
    matches!(verdict, Verdict::Forward { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_of_every_case_goes_through_each_time() {
        for mut case in cases() {
            assert_eq!((case.run(), case.run()), (PACKETS_PER_RUN, PACKETS_PER_RUN), "{}", case.name);
        }
    }
}
