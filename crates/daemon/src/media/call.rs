//! The media of one call: its session between its sockets.
//!
//! Owns what becomes of one packet and of one tick. Refuses to know other calls and the poller's tokens.

use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use relay::{Channel, PacketBuffer, Plan, PlanError, Session, SessionStats, Side, Verdict};

use super::lanes::{Lane, Lanes, Pair, Slot, WAITING_PACKETS_MAX};
use super::overflow::Overflows;
use super::{Dscp, Press};
use crate::keep::{Passed, Sent, Tape};

/// A call's media.
pub(super) struct Call<K> {
    pub(super) key: K,
    pub(super) ports: [u16; 2],
    pub(super) lanes: Lanes,
    session: Option<Box<Session>>,
    /// Under which number its packets are kept, if they are.
    pub(super) kept: Option<u64>,
}

impl<K> Call<K> {
    pub(super) fn new(key: K, a: Pair, b: Pair) -> Self {
        Call { key, ports: [a.port, b.port], lanes: Lanes::new(a, b), session: None, kept: None }
    }

    pub(super) fn apply(&mut self, plan: Plan, now: Instant) -> Result<(), PlanError> {
        match &mut self.session {
            Some(session) => session.apply(plan, now),
            None => {
                self.session = Some(Box::new(Session::new(plan, now)?));
                Ok(())
            }
        }
    }

    /// After the first plan: what waits was sent before anybody was described, and is nobody's; but who answers at once
    /// has spoken already, from where the plan has it.
    pub(super) fn hear_early(
        &mut self,
        now: Instant,
        packet: &mut PacketBuffer,
        tape: &mut Option<Tape>,
        unsent: &mut u64,
    ) {
        for lane in Lane::PORTS {
            let (Some(session), Some(slot)) = (&self.session, lane.slot()) else { return };
            let described = session.destination(slot.side, slot.channel);
            for _ in 0..WAITING_PACKETS_MAX {
                match self.lanes.receive(lane, packet.space()) {
                    Ok((length, from)) if Some(from) == described => {
                        packet.set_len(length);
                        self.relay(now, slot, from, packet, tape, unsent);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Ok(_) | Err(_) => {}
                }
            }
        }
    }

    pub(super) fn has_plan(&self) -> bool {
        self.session.is_some()
    }

    /// Has the short ways lead to where the peers are now.
    pub(super) fn follow_peers(
        &mut self,
        dscp: Dscp,
        watch: impl Fn(Lane, BorrowedFd<'_>) -> io::Result<()>,
    ) {
        let Some(session) = &self.session else { return };
        let peers = [Side::A, Side::B].map(|side| session.destination(side, Channel::Rtp));
        self.lanes.follow_peers(peers, dscp, watch);
    }

    pub(super) fn port(&self, side: Side) -> u16 {
        let [a, b] = self.ports;
        match side {
            Side::A => a,
            Side::B => b,
        }
    }

    pub(super) fn session_mut(&mut self) -> Option<&mut Session> {
        self.session.as_deref_mut()
    }

    /// The counters at the end, with what the kernel alone knows of lost packets.
    pub(super) fn last_stats(&self, overflows: Option<&Overflows>) -> SessionStats {
        let mut stats = self.session.as_ref().map(|session| session.stats()).unwrap_or_default();
        for (side, said) in [(Side::A, &mut stats.a), (Side::B, &mut stats.b)] {
            if let Some(overflows) = overflows.filter(|_| said.lost > 0) {
                said.overflowed = said.lost.min(self.lanes.overflowed(side, overflows));
            }
        }
        stats
    }

    /// What is due by now: silences are told, and what the session itself has to say is sent. Counts in `unsent` what
    /// the kernel did not take.
    pub(super) fn on_time(
        &mut self,
        now: Instant,
        packet: &mut PacketBuffer,
        tape: &mut Option<Tape>,
        unsent: &mut u64,
    ) {
        let Some(session) = &mut self.session else { return };
        if session.poll_deadline().is_none_or(|due| due > now) {
            return;
        }
        session.handle_timeout(now);
        self.speak(now, packet, tape, unsent);
    }

    /// Sends a digit as an event.
    pub(super) fn press(
        &mut self,
        now: Instant,
        press: Press,
        packet: &mut PacketBuffer,
        tape: &mut Option<Tape>,
        unsent: &mut u64,
    ) {
        let Some(session) = &mut self.session else { return };
        if session.press(now, press.side, press.digit, press.lasts) {
            self.speak(now, packet, tape, unsent);
        }
    }

    fn speak(&mut self, now: Instant, packet: &mut PacketBuffer, tape: &mut Option<Tape>, unsent: &mut u64) {
        let Some(session) = &mut self.session else { return };
        loop {
            let kept = self.kept.zip(tape.as_mut());
            let ours = match kept {
                None => session.poll_packet(now, packet),
                Some((call, tape)) => {
                    let ours = session.poll_packet_shown(now, packet, tape);
                    if let Some((side, channel, to)) = ours {
                        let sent = Sent::of(&Verdict::Forward { side, channel, to }, packet.as_slice());
                        let (at, ports) = (now, self.ports);
                        tape.passed(Passed { call, at, side, channel, from: None, ports, sent });
                    }
                    ours
                }
            };
            let Some((side, channel, to)) = ours else { return };
            *unsent += u64::from(!self.lanes.send(side, channel, to, packet.as_slice()));
        }
    }

    /// Relays the packet that waits in one socket.
    pub(super) fn relay_one(
        &mut self,
        now: Instant,
        lane: Lane,
        packet: &mut PacketBuffer,
        tape: &mut Option<Tape>,
        unsent: &mut u64,
    ) {
        // Interrupted, or an ICMP error of an earlier packet: the next turn may have better luck.
        let Ok((length, from)) = self.lanes.receive(lane, packet.space()) else { return };
        if let Some(slot) = lane.slot() {
            packet.set_len(length);
            self.relay(now, slot, from, packet, tape, unsent);
        }
    }

    fn relay(
        &mut self,
        now: Instant,
        slot: Slot,
        from: SocketAddr,
        packet: &mut PacketBuffer,
        tape: &mut Option<Tape>,
        unsent: &mut u64,
    ) {
        // Before the first plan nobody may send anything.
        let Some(session) = &mut self.session else { return };
        let Slot { side, channel } = slot;
        let verdict = match self.kept.zip(tape.as_mut()) {
            None => session.handle_packet(now, side, channel, from, packet),
            Some((call, tape)) => {
                let verdict = session.handle_packet_shown(now, side, channel, from, packet, tape);
                let sent = Sent::of(&verdict, packet.as_slice());
                let (at, from, ports) = (now, Some(from), self.ports);
                tape.passed(Passed { call, at, side, channel, from, ports, sent });
                verdict
            }
        };
        match verdict {
            Verdict::Drop(why) => {
                tracing::trace!(side = %slot.side, why = why.name(), "packet dropped");
            }
            Verdict::Forward { side, channel, to } => {
                *unsent += u64::from(!self.lanes.send(side, channel, to, packet.as_slice()));
            }
        }
    }
}
