//! The media of one call: two legs and the packets between them.
//!
//! Owns the order of judgement, the facts and the deadline. Refuses to know sockets and clocks.
//! Feed a packet or a time-out, then take the verdict, drain [`Session::poll_packet`] (after a time-out) and
//! [`Session::poll_fact`], and ask [`Session::poll_deadline`].

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::buffer::PacketBuffer;
use crate::digits::Digit;
use crate::fact::Fact;
use crate::key::KeyParams;
use crate::leg::{Heard, Leg, LegProgress, Notes};
use crate::plan::{Channel, Plan, Protection, Reports, Side};
use crate::stats::{SessionStats, Why};
use crate::stun::is_stun;
use crate::tap::Tap;

/// Facts kept until they are taken; later ones are lost, which only a caller that never drains can see.
pub const FACTS_MAX: usize = 16;

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send what is now in the buffer: to the other side, or an answer to who sent it.
    Forward {
        /// Whose port to send from.
        side: Side,
        /// Which of the two ports.
        channel: Channel,
        /// Where to.
        to: SocketAddr,
    },
    /// Send nothing.
    Drop(Why),
}

/// Why a plan cannot be carried out. The session, if there was one, goes on as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PlanError {
    /// A key we protect with was also given by a peer: an echo, never fresh.
    #[error("the outbound key of side {side} is a peer's own key")]
    EchoedKey {
        /// The side with that outbound key.
        side: Side,
    },
    /// The cryptographic library refused a key.
    #[error("the keys are not usable")]
    UnusableKey,
}

/// The media of one call.
pub struct Session {
    a: Leg,
    b: Leg,
    inactivity: Duration,
    facts: VecDeque<Fact>,
    has_told_no_media: bool,
}

impl Session {
    /// A session that carries out `plan`.
    pub fn new(plan: Plan, now: Instant) -> Result<Self, PlanError> {
        check_keys(&plan)?;
        let mut session = Session {
            a: Leg::new(plan.a, now).ok_or(PlanError::UnusableKey)?,
            b: Leg::new(plan.b, now).ok_or(PlanError::UnusableKey)?,
            inactivity: plan.inactivity,
            facts: VecDeque::new(),
            has_told_no_media: false,
        };
        session.on_plan(plan.reports.as_ref(), now);
        Ok(session)
    }

    /// Follows a new negotiation: re-key, re-target, hold. Counters and unchanged keys go on.
    pub fn apply(&mut self, plan: Plan, now: Instant) -> Result<(), PlanError> {
        check_keys(&plan)?;
        self.a.apply(plan.a, now).ok_or(PlanError::UnusableKey)?;
        self.b.apply(plan.b, now).ok_or(PlanError::UnusableKey)?;
        self.inactivity = plan.inactivity;
        self.has_told_no_media = false;
        self.on_plan(plan.reports.as_ref(), now);
        Ok(())
    }

    /// What follows for a leg from the plan of both.
    fn on_plan(&mut self, reports: Option<&Reports>, now: Instant) {
        for side in [Side::A, Side::B] {
            let other = self.leg(!side).plan.direction;
            self.leg_mut(side).opens_to(other);
            self.leg_mut(side).report_as(side, reports, now);
        }
    }

    /// Judges a packet that came from `from` to a port of `side`. Rewrites it in place if it is to be forwarded.
    pub fn handle_packet(
        &mut self,
        now: Instant,
        side: Side,
        channel: Channel,
        from: SocketAddr,
        packet: &mut PacketBuffer,
    ) -> Verdict {
        self.handle_packet_shown(now, side, channel, from, packet, &mut ())
    }

    /// The same, and shows the packet to `tap` if it is admitted.
    pub fn handle_packet_shown(
        &mut self,
        now: Instant,
        side: Side,
        channel: Channel,
        from: SocketAddr,
        packet: &mut PacketBuffer,
        tap: &mut impl Tap,
    ) -> Verdict {
        if is_stun(packet.as_slice()) {
            return self.on_stun(now, side, channel, from, packet);
        }
        let (source, target) = match side {
            Side::A => (&mut self.a, &mut self.b),
            Side::B => (&mut self.b, &mut self.a),
        };
        let (mut clear, notes) = match source.admit(now, channel, from, packet) {
            Ok(admitted) => admitted,
            Err(why) => {
                source.count_drop(why);
                self.tell_exhaustion(side);
                return Verdict::Drop(why);
            }
        };
        let digit = source.hear_digit(&clear);
        tap.on_clear(clear.as_slice());
        let sent = source.release(&mut clear).and_then(|()| target.dispatch(now, clear));
        if let Err(why) = sent {
            source.count_drop(why);
            self.tell_exhaustion(!side);
        }
        self.on_notes(side, channel, &notes);
        if let Some((digit, lasted)) = digit {
            self.tell(Fact::Digit { side, digit, lasted });
        }
        match sent {
            Ok((channel, to)) => Verdict::Forward { side: !side, channel, to },
            Err(why) => Verdict::Drop(why),
        }
    }

    /// A connectivity check goes back to who sent it, and nowhere else.
    fn on_stun(
        &mut self,
        now: Instant,
        side: Side,
        channel: Channel,
        from: SocketAddr,
        packet: &mut PacketBuffer,
    ) -> Verdict {
        match self.leg_mut(side).answer_check(now, channel, from, packet) {
            Ok(moved) => {
                if let Some((from, to)) = moved {
                    self.tell(Fact::Latched { side, channel, from, to });
                }
                Verdict::Forward { side, channel, to: from }
            }
            Err(why) => {
                self.leg_mut(side).count_drop(why);
                Verdict::Drop(why)
            }
        }
    }

    /// Tells silences that are due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.inactivity.is_zero() {
            return;
        }
        let was_heard = self.a.watch.heard != Heard::Never || self.b.watch.heard != Heard::Never;
        for side in [Side::A, Side::B] {
            let lasted = now.saturating_duration_since(self.leg(side).watch.since);
            if !self.is_watched(side) || lasted < self.inactivity {
                continue;
            }
            self.leg_mut(side).watch.heard = Heard::ToldSilent;
            if self.is_heard(!side, now) {
                self.tell(Fact::HalfSilence { side, lasted });
            } else if was_heard {
                self.tell(Fact::Silence { side, lasted });
            }
        }
        self.tell_no_media(now);
    }

    /// The next fact, oldest first.
    pub fn poll_fact(&mut self) -> Option<Fact> {
        self.facts.pop_front()
    }

    /// Sends a digit as an event to a side; its packets are to be polled for at once. `false` if that side takes no events from
    /// here now.
    pub fn press(&mut self, now: Instant, side: Side, digit: Digit, lasts: Duration) -> bool {
        self.leg_mut(side).press(now, digit, lasts)
    }

    /// A packet of our own that is due at `now`, written into `packet`: from which side's port, which of the two, and
    /// where to. To be asked until there is none.
    pub fn poll_packet(
        &mut self,
        now: Instant,
        packet: &mut PacketBuffer,
    ) -> Option<(Side, Channel, SocketAddr)> {
        self.poll_packet_shown(now, packet, &mut ())
    }

    /// The same, and shows the packet to `tap`.
    pub fn poll_packet_shown(
        &mut self,
        now: Instant,
        packet: &mut PacketBuffer,
        tap: &mut impl Tap,
    ) -> Option<(Side, Channel, SocketAddr)> {
        [Side::A, Side::B].into_iter().find_map(|side| {
            let leg = self.leg_mut(side);
            let sent = leg.poll_event(now, packet, tap).or_else(|| leg.poll_report(now, packet, tap));
            self.tell_exhaustion(side);
            sent.map(|(channel, to)| (side, channel, to))
        })
    }

    /// When [`Session::handle_timeout`] should be called next, and [`Session::poll_packet`] drained.
    pub fn poll_deadline(&self) -> Option<Instant> {
        let sides = [Side::A, Side::B];
        let watched = sides.into_iter().filter(|side| !self.inactivity.is_zero() && self.is_watched(*side));
        let silences = watched.map(|side| self.leg(side).watch.since + self.inactivity);
        silences.chain(sides.into_iter().filter_map(|side| self.leg(side).report_due())).min()
    }

    /// What was counted so far.
    pub fn stats(&self) -> SessionStats {
        SessionStats { a: self.a.stats(), b: self.b.stats() }
    }

    /// Where packets to a side go; `None` while nobody there can be sent to.
    pub fn destination(&self, side: Side, channel: Channel) -> Option<SocketAddr> {
        self.leg(side).destination(channel)
    }

    /// How far the keys of a sealed side have come; `None` on a clear one.
    pub fn progress(&self, side: Side) -> Option<LegProgress> {
        self.leg(side).progress()
    }

    /// Goes on with a side whose media passed elsewhere, under the same keys. `false`, and nothing is promised, if
    /// the side is clear, its provider cannot, or an index is impossible.
    pub fn resume(&mut self, side: Side, from: &LegProgress) -> bool {
        self.leg_mut(side).resume(from)
    }

    fn tell_exhaustion(&mut self, side: Side) {
        if self.leg_mut(side).takes_exhaustion() {
            self.tell(Fact::KeyExhausted { side });
        }
    }

    fn on_notes(&mut self, side: Side, channel: Channel, notes: &Notes) {
        self.has_told_no_media = false;
        if notes.is_first {
            self.tell(Fact::FirstPacket { side });
        }
        if notes.was_silent {
            self.tell(Fact::Resumed { side });
        }
        if let Some((from, to)) = notes.moved {
            self.tell(Fact::Latched { side, channel, from, to });
        }
        if notes.said_bye {
            self.tell(Fact::RtcpBye { side });
        }
    }

    /// Once for each time that everybody who should speak has been silent and nobody else is heard.
    fn tell_no_media(&mut self, now: Instant) {
        let sides = [Side::A, Side::B];
        let is_quiet = sides.iter().all(|side| !self.is_watched(*side) && !self.is_heard(*side, now));
        let was_told = sides.iter().any(|side| self.leg(*side).watch.heard == Heard::ToldSilent);
        if !is_quiet || !was_told || self.has_told_no_media {
            return;
        }
        self.has_told_no_media = true;
        let quiet_since = self.a.watch.since.max(self.b.watch.since);
        self.tell(Fact::NoMedia { lasted: now.saturating_duration_since(quiet_since) });
    }

    /// Whether silence of the side is still to be told: it should speak, and was not told silent.
    fn is_watched(&self, side: Side) -> bool {
        let leg = self.leg(side);
        leg.plan.direction.is_receiving() && leg.watch.heard != Heard::ToldSilent
    }

    fn is_heard(&self, side: Side, now: Instant) -> bool {
        let watch = &self.leg(side).watch;
        watch.heard == Heard::Yes && now.saturating_duration_since(watch.since) < self.inactivity
    }

    fn tell(&mut self, fact: Fact) {
        if self.facts.len() < FACTS_MAX {
            self.facts.push_back(fact);
        }
    }

    fn leg(&self, side: Side) -> &Leg {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    fn leg_mut(&mut self, side: Side) -> &mut Leg {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }
}

/// Refuses a plan that would protect with a key some peer gave us.
fn check_keys(plan: &Plan) -> Result<(), PlanError> {
    let keys = |side: Side| -> Option<(&KeyParams, &KeyParams)> {
        match &plan.leg(side).protection {
            Protection::Clear => None,
            Protection::Sealed { inbound, outbound } => Some((inbound, outbound)),
        }
    };
    for side in [Side::A, Side::B] {
        let Some((_, own)) = keys(side) else { continue };
        let peers = [keys(Side::A), keys(Side::B)];
        if peers.iter().flatten().any(|(inbound, _)| inbound.key == own.key) {
            return Err(PlanError::EchoedKey { side });
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
