//! One side of a session: its plan, its gates, where its peer sits and what was counted.
//!
//! Owns the judgement of packets that come from this side and the last steps of those that go to it.
//! Refuses to know the other side.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::buffer::PacketBuffer;
use crate::digits::{Digit, Listener, Splicer};
use crate::gate::{Clear, Entrance, Exit, Received};
use crate::head::{Compound, Head, payload_octets};
use crate::ice::Patience;
use crate::latch::{Latch, Source};
use crate::plan::{Channel, Direction, LegPlan, Protection, Reports, Side};
use crate::reception::Reception;
use crate::reporter::Reporter;
use crate::round_trip::RoundTrip;
use crate::stats::{SideStats, Why};
use crate::tap::Tap;
use crate::transform::Progress;
use crate::voice::Voice;

/// One side of a session.
pub(crate) struct Leg {
    pub(crate) plan: LegPlan,
    pub(crate) watch: Watch,
    entrance: Entrance,
    exit: Exit,
    rtp: Latch,
    rtcp: Latch,
    /// Beginning of the session.
    epoch: Instant,
    reception: Reception,
    round_trip: RoundTrip,
    /// What this side is told by us, where nobody else tells it.
    reporter: Option<Box<Reporter>>,
    voice: Voice,
    patience: Patience,
    listener: Listener,
    /// Kept once there was one: what it put in shifts the stream for good.
    splicer: Option<Box<Splicer>>,
    counters: SideStats,
    /// Its RTP was to be passed on at some time.
    was_open: bool,
    has_said_bye: bool,
    has_reported_exhaustion: bool,
}

/// How far both keys of a sealed leg have come: what another relay needs to go on with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegProgress {
    /// Of what the peer sends.
    pub inbound: Progress,
    /// Of what we send.
    pub outbound: Progress,
}

/// When a side was last heard, and whether its silence was told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch {
    pub(crate) since: Instant,
    pub(crate) heard: Heard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    Never,
    Yes,
    /// Was heard, or never was, and its silence has been told.
    ToldSilent,
}

/// What an acceptable packet meant beside being forwarded.
#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) is_first: bool,
    pub(crate) was_silent: bool,
    pub(crate) moved: Option<(SocketAddr, SocketAddr)>,
    pub(crate) said_bye: bool,
}

impl Leg {
    pub(crate) fn new(plan: LegPlan, now: Instant) -> Option<Self> {
        let (entrance, exit) = gates(&plan.protection)?;
        Some(Leg {
            watch: Watch { since: now, heard: Heard::Never },
            entrance,
            exit,
            rtp: Latch::new(plan.remote_rtp, &plan.latch, now),
            rtcp: Latch::new(plan.remote_rtcp, &plan.latch, now),
            epoch: now,
            reception: Reception::new(now),
            round_trip: RoundTrip::default(),
            reporter: None,
            voice: Voice::default(),
            patience: Patience::new(now),
            listener: Listener::default(),
            splicer: plan.events.map(|_| Box::new(Splicer::from_the_start())),
            counters: SideStats::default(),
            was_open: false,
            has_said_bye: false,
            has_reported_exhaustion: false,
            plan,
        })
    }

    /// Follows a new negotiation. Gates whose keys did not change keep their rollover and replay state.
    pub(crate) fn apply(&mut self, plan: LegPlan, now: Instant) -> Option<()> {
        self.replace_gates(&plan.protection)?;
        self.rtp.renegotiate(plan.remote_rtp, &plan.latch, now);
        self.rtcp.renegotiate(plan.remote_rtcp, &plan.latch, now);
        if plan.ice != self.plan.ice {
            self.rtp.forget_proven();
            self.rtcp.forget_proven();
        }
        if plan.direction != self.plan.direction || plan.remote_rtp != self.plan.remote_rtp {
            self.watch.since = now;
            if self.watch.heard == Heard::ToldSilent {
                self.watch.heard = Heard::Yes;
            }
        }
        if plan.events.is_some() {
            self.splicer.get_or_insert_with(|| Box::new(Splicer::begun_later()));
        }
        self.plan = plan;
        Some(())
    }

    /// The plan lets RTP of this side pass to a leg with that one.
    pub(crate) fn opens_to(&mut self, other: Direction) {
        self.was_open |= self.plan.direction.is_receiving() && other.is_sending();
    }

    /// Begins, goes on, or ends with reports of our own to this side, which is `side`.
    pub(crate) fn report_as(&mut self, side: Side, reports: Option<&Reports>, now: Instant) {
        match (&mut self.reporter, reports) {
            (Some(reporter), Some(reports)) => reporter.follow(reports),
            (reporter, reports) => {
                *reporter = reports.map(|reports| Box::new(Reporter::new(reports, side, now)));
            }
        }
    }

    /// When [`Leg::poll_report`] has to be asked.
    pub(crate) fn report_due(&self) -> Option<Instant> {
        self.reporter.as_ref().map(|reporter| reporter.due())
    }

    /// A report of our own that is due now, ready to be sent.
    pub(crate) fn poll_report(
        &mut self,
        now: Instant,
        packet: &mut PacketBuffer,
        tap: &mut impl Tap,
    ) -> Option<(Channel, SocketAddr)> {
        if !self.reporter.as_mut()?.takes_turn(now) {
            return None;
        }
        let channel = self.rtcp_channel();
        let to = self.destination(channel)?;
        self.reporter.as_ref()?.write(now, &mut self.reception, packet);
        let clear = Clear::of_ours(packet).ok()?;
        tap.on_clear(clear.as_slice());
        self.round_trip.on_sent(now, clear.as_slice());
        self.exit.dispatch(clear).ok()?;
        self.counters.rtcp_made += 1;
        Some((channel, to))
    }

    fn rtcp_channel(&self) -> Channel {
        if self.plan.rtcp_mux { Channel::Rtp } else { Channel::Rtcp }
    }

    fn replace_gates(&mut self, protection: &Protection) -> Option<()> {
        match (&self.plan.protection, protection) {
            (Protection::Clear, Protection::Clear) => {}
            (
                Protection::Sealed { inbound: old_in, outbound: old_out },
                Protection::Sealed { inbound, outbound },
            ) => {
                if inbound != old_in {
                    self.entrance = self.entrance.replaced(inbound, old_in.is_same_key(inbound))?;
                    self.has_reported_exhaustion = false;
                }
                if outbound != old_out {
                    self.exit = self.exit.replaced(outbound, old_out.is_same_key(outbound))?;
                    self.has_reported_exhaustion = false;
                }
            }
            _ => (self.entrance, self.exit) = gates(protection)?,
        }
        Some(())
    }

    /// Judges a packet from this side.
    pub(crate) fn admit<'p>(
        &mut self,
        now: Instant,
        channel: Channel,
        from: SocketAddr,
        packet: &'p mut PacketBuffer,
    ) -> Result<(Clear<'p>, Notes), Why> {
        let bytes = packet.as_slice().len() as u64;
        let received = Received::parse(packet, channel)?;
        let mut notes = Notes::default();
        let clear = match self.entrance {
            Entrance::Plain => {
                self.check_format(received.head())?;
                notes.moved = self.locate(now, channel, from)?;
                self.entrance.admit(received)?
            }
            Entrance::Sealed(_) => {
                let clear = self.entrance.admit(received)?;
                self.check_format(clear.head())?;
                notes.moved = self.locate(now, channel, from)?;
                clear
            }
        };
        self.count(now, &clear, bytes, &mut notes);
        Ok((clear, notes))
    }

    /// Judges a STUN message from this side; a right check is answered in the buffer. It may move the peer.
    pub(crate) fn answer_check(
        &mut self,
        now: Instant,
        channel: Channel,
        from: SocketAddr,
        packet: &mut PacketBuffer,
    ) -> Result<Option<(SocketAddr, SocketAddr)>, Why> {
        let credentials = self.plan.ice.as_ref();
        let check = self.patience.judge(now, credentials, channel, packet.as_slice())?;
        let latch = match channel {
            Channel::Rtp => &mut self.rtp,
            Channel::Rtcp => &mut self.rtcp,
        };
        let source = latch.on_check(now, from, check.nomination(), &self.plan.latch);
        let response = credentials.and_then(|credentials| check.response(from, credentials));
        let moved = self.follow(source, from)?;
        let response = response.filter(|response| packet.fill(response.as_slice()));
        response.ok_or(Why::StunRefused)?;
        self.counters.checks += 1;
        Ok(moved)
    }

    /// The digit that a packet of this side ends, where events are told.
    pub(crate) fn hear_digit(&mut self, clear: &Clear<'_>) -> Option<(Digit, Duration)> {
        let events = self.plan.events.filter(|_| self.plan.direction.is_receiving())?;
        let Head::Rtp(rtp) = clear.head() else { return None };
        let payload =
            clear.as_slice().get(rtp.header_bytes..).filter(|_| rtp.payload_type == events.heard)?;
        self.listener.on_event(&rtp, payload)
    }

    /// Begins to send an event to this side.
    pub(crate) fn press(&mut self, now: Instant, digit: Digit, lasts: Duration) -> bool {
        let is_open = self.plan.direction.is_sending() && self.rtp.destination().is_some();
        match (&self.plan.events, &mut self.splicer) {
            (Some(events), Some(splicer)) if is_open => splicer.press(now, events, digit, lasts),
            _ => false,
        }
    }

    /// A packet of the event that is being sent, ready to be sent.
    pub(crate) fn poll_event(
        &mut self,
        now: Instant,
        packet: &mut PacketBuffer,
        tap: &mut impl Tap,
    ) -> Option<(Channel, SocketAddr)> {
        let event = self.splicer.as_mut()?.poll_event(self.plan.events.as_ref()?)?;
        let to = self.rtp.destination().filter(|_| packet.fill(&event))?;
        let clear = Clear::of_ours(packet).ok()?;
        tap.on_clear(clear.as_slice());
        let head = clear.head();
        let bytes = self.exit.dispatch(clear).ok()? as u64;
        self.counters.packets_sent += 1;
        self.counters.bytes_sent += bytes;
        if let (Some(reporter), Head::Rtp(rtp)) = (&mut self.reporter, head) {
            reporter.on_rtp_sent(now, &rtp, event.len() - rtp.header_bytes);
        }
        Some((Channel::Rtp, to))
    }

    /// Makes a packet of this side one of the call's: it may speak, and the payload type is the other leg's. RTCP flows
    /// on a held leg too.
    pub(crate) fn release(&self, clear: &mut Clear<'_>) -> Result<(), Why> {
        let Head::Rtp(rtp) = clear.head() else { return Ok(()) };
        if !self.plan.direction.is_receiving() {
            return Err(Why::OnHold);
        }
        clear.renumber(self.plan.formats.sent(rtp.payload_type)?);
        Ok(())
    }

    /// Makes a packet of the other side fit for this one; says through which port and to where it goes.
    pub(crate) fn dispatch(
        &mut self,
        now: Instant,
        mut clear: Clear<'_>,
    ) -> Result<(Channel, SocketAddr), Why> {
        let head = clear.head();
        if matches!(head, Head::Rtp(_)) && !self.plan.direction.is_sending() {
            return Err(Why::OnHold);
        }
        let channel = match head {
            Head::Rtp(_) => Channel::Rtp,
            Head::Rtcp(_) => self.rtcp_channel(),
        };
        let to = self.destination(channel).ok_or(Why::OnHold)?;
        if let (Some(splicer), Head::Rtp(rtp)) = (&mut self.splicer, head) {
            clear.resequence(splicer.on_forward(now, &rtp)?);
        }
        let octets = match head {
            Head::Rtp(rtp) => payload_octets(clear.as_slice(), &rtp),
            Head::Rtcp(_) => {
                self.round_trip.on_sent(now, clear.as_slice());
                0
            }
        };
        let bytes = self.exit.dispatch(clear)? as u64;
        match head {
            Head::Rtp(_) => {
                self.counters.packets_sent += 1;
                self.counters.bytes_sent += bytes;
            }
            Head::Rtcp(_) => self.counters.rtcp_sent += 1,
        }
        if let Some(reporter) = &mut self.reporter {
            match head {
                Head::Rtp(rtp) => reporter.on_rtp_sent(now, &rtp, octets),
                Head::Rtcp(rtcp) => reporter.on_rtcp_sent(now, rtcp.ssrc),
            }
        }
        Ok((channel, to))
    }

    pub(crate) fn count_drop(&mut self, why: Why) {
        self.counters.dropped.count(why);
    }

    pub(crate) fn stats(&self) -> SideStats {
        SideStats {
            lost: self.reception.lost(),
            loss_runs: self.reception.loss_runs(),
            bursts: self.reception.bursts(),
            reordered: self.reception.reordered(),
            repeated: self.reception.repeated(),
            jitter: self.reception.jitter(),
            round_trip: self.round_trip.latest(),
            voice: self.voice,
            only_held: !self.was_open,
            ..self.counters
        }
    }

    /// True once after each re-key, when a key of the side may not be used for more.
    pub(crate) fn takes_exhaustion(&mut self) -> bool {
        let is_exhausted = self.entrance.is_exhausted() || self.exit.is_exhausted();
        let is_news = is_exhausted && !self.has_reported_exhaustion;
        self.has_reported_exhaustion |= is_news;
        is_news
    }

    /// How far the keys of the side have come; `None` on a clear leg.
    pub(crate) fn progress(&self) -> Option<LegProgress> {
        Some(LegProgress { inbound: self.entrance.progress()?, outbound: self.exit.progress()? })
    }

    pub(crate) fn resume(&mut self, from: &LegProgress) -> bool {
        self.entrance.resume(&from.inbound) && self.exit.resume(&from.outbound)
    }

    fn check_format(&self, head: Head) -> Result<(), Why> {
        match head {
            Head::Rtp(rtp) if !self.plan.formats.is_known(rtp.payload_type) => Err(Why::UnknownFormat),
            _ => Ok(()),
        }
    }

    fn locate(
        &mut self,
        now: Instant,
        channel: Channel,
        from: SocketAddr,
    ) -> Result<Option<(SocketAddr, SocketAddr)>, Why> {
        let latch = match channel {
            Channel::Rtp => &mut self.rtp,
            Channel::Rtcp => &mut self.rtcp,
        };
        let source = match self.entrance {
            Entrance::Plain => latch.on_clear(now, from, &self.plan.latch),
            Entrance::Sealed(_) => latch.on_authentic(now, from, &self.plan.latch),
        };
        self.follow(source, from)
    }

    fn follow(&mut self, source: Source, from: SocketAddr) -> Result<Option<(SocketAddr, SocketAddr)>, Why> {
        match source {
            Source::Stranger => Err(Why::Stranger),
            Source::Known | Source::Elsewhere => Ok(None),
            Source::Moved { from: before } => {
                self.counters.moves += 1;
                Ok(Some((before, from)))
            }
        }
    }

    fn count(&mut self, now: Instant, clear: &Clear<'_>, bytes: u64, notes: &mut Notes) {
        notes.was_silent = self.watch.heard == Heard::ToldSilent;
        self.watch = Watch { since: now, heard: Heard::Yes };
        match clear.head() {
            Head::Rtp(rtp) => {
                notes.is_first = self.counters.packets_received == 0;
                self.counters.packets_received += 1;
                self.counters.bytes_received += bytes;
                self.reception.on_packet(now, &rtp);
                let payload = clear.as_slice().get(rtp.header_bytes..).unwrap_or_default();
                self.voice.on_packet(self.epoch, now, rtp.payload_type, payload);
            }
            Head::Rtcp(_) => {
                self.counters.rtcp_received += 1;
                self.round_trip.on_received(now, clear.as_slice());
                if let Some(reporter) = &mut self.reporter {
                    reporter.on_rtcp_received(now, clear.as_slice());
                }
                notes.said_bye = clear.compound() == Compound::Bye && !self.has_said_bye;
                self.has_said_bye |= notes.said_bye;
            }
        }
    }

    pub(crate) fn destination(&self, channel: Channel) -> Option<SocketAddr> {
        match channel {
            Channel::Rtp => self.rtp.destination(),
            Channel::Rtcp => self.rtcp.destination(),
        }
    }
}

fn gates(protection: &Protection) -> Option<(Entrance, Exit)> {
    match protection {
        Protection::Clear => Some((Entrance::Plain, Exit::Plain)),
        Protection::Sealed { inbound, outbound } => {
            Some((Entrance::sealed(inbound)?, Exit::sealed(outbound)?))
        }
    }
}
