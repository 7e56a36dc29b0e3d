//! Sending, receiving and their clock.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use relay::{Channel, LegPlan, Mki, PacketBuffer, Plan, Protection, Session, Side, Verdict};
use thiserror::Error;

use super::dialing::Dialing;
use super::digits::{DigitDetector, Key};
use super::reception::{Over, Reception};
use super::rtp::{Sender, view};
use super::{EventTypes, Impairment, MediaCommand, MediaFact, MediaPlan, MediaReport, RecordLimits, rtcp};
use crate::audio::{FRAME, Law};

/// Time of one packet.
const PACKET_TIME: Duration = Duration::from_millis(20);
/// Between two sender reports, once a call is some seconds old.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// Before the first one. Each wait is twice as long as the one before, so that short calls measure something too.
const REPORT_FIRST: Duration = Duration::from_millis(500);
/// Packets made up after a late wake-up; beyond that the lost time is lost.
const CATCH_UP_MAX: u32 = 10;
/// Longest audio waiting to be played: ten minutes.
const QUEUE_SAMPLES_MAX: usize = 8_000 * 600;
/// Nothing for this long while recording counts as silence.
const STARVED: Duration = Duration::from_millis(200);
/// Packets until the rollover counter moves (RFC 3711 §3.3.1).
const ROLLOVER: u64 = 1 << 16;
/// What the packets of [`Impairment::ForeignMki`] carry.
const FOREIGN_MKI: [u8; 1] = [0x5a];
/// Stands for ourselves on the inner side of the relay session; nothing is ever sent there.
const SELF: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

/// The plan cannot be carried out.
#[derive(Debug, Error)]
#[error("media plan: {0}")]
pub struct MediaError(#[from] relay::PlanError);

/// A packet to send.
#[derive(Clone, Debug)]
pub struct Packet {
    /// From which of our two ports.
    pub channel: Channel,
    /// Where to.
    pub to: SocketAddr,
    /// Datagram.
    pub bytes: Bytes,
}

/// Whose end is to be told.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum Playing {
    Sound,
    Words(u64),
}

/// The media of one call. Feed packets and time-outs, then drain packets and facts.
pub struct MediaEndpoint {
    session: Session,
    sender: Sender,
    law: Law,
    events: EventTypes,
    dialing: Dialing,
    digits: DigitDetector,
    queue: VecDeque<i16>,
    playing: Option<Playing>,
    reception: Reception,
    next_packet: Instant,
    next_report: Instant,
    report_wait: Duration,
    heard: rtcp::Heard,
    heard_at: Instant,
    buffer: PacketBuffer,
    scratch: Vec<u8>,
    packets: VecDeque<Packet>,
    facts: VecDeque<MediaFact>,
    report: MediaReport,
    is_mute: bool,
    is_without_reports: bool,
    roc_jump_at: Option<Instant>,
}

impl MediaEndpoint {
    /// Starts; the first packet is due at once.
    pub fn new(plan: &MediaPlan, now: Instant) -> Result<Self, MediaError> {
        Ok(MediaEndpoint {
            session: Session::new(relayed(plan), now)?,
            sender: Sender::new(plan.seed),
            law: plan.law,
            events: plan.events,
            dialing: Dialing::default(),
            digits: DigitDetector::new(),
            queue: VecDeque::new(),
            playing: None,
            reception: Reception::new(plan.law),
            next_packet: now,
            next_report: now + REPORT_FIRST,
            report_wait: REPORT_FIRST,
            heard: rtcp::Heard::new(now),
            heard_at: now,
            buffer: PacketBuffer::new(),
            scratch: Vec::with_capacity(FRAME * 2),
            packets: VecDeque::new(),
            facts: VecDeque::new(),
            report: MediaReport::default(),
            is_mute: plan.impairment == Some(Impairment::Mute),
            is_without_reports: plan.impairment == Some(Impairment::NoReports),
            roc_jump_at: match plan.impairment {
                Some(Impairment::RocJump(after)) => Some(now + after),
                _ => None,
            },
        })
    }

    /// Follows a new negotiation: other address, keys or codec. Source, counters and recording go on.
    pub fn retarget(&mut self, plan: &MediaPlan, now: Instant) -> Result<(), MediaError> {
        self.session.apply(relayed(plan), now)?;
        self.law = plan.law;
        self.events = plan.events;
        self.reception.set_law(plan.law);
        Ok(())
    }

    /// Obeys what concerns sound and keys; ports and plans are somebody else's.
    pub fn obey(&mut self, now: Instant, command: MediaCommand) {
        match command {
            MediaCommand::Play(samples) => self.play(&samples),
            MediaCommand::Say { number, samples } => self.say(number, &samples),
            MediaCommand::Press(keys) => self.press(&keys),
            MediaCommand::Record(limits) => self.record(now, limits),
            MediaCommand::Take => self.take(),
            MediaCommand::Allocate
            | MediaCommand::Start(_)
            | MediaCommand::Retarget(_)
            | MediaCommand::Stop => {}
        }
    }

    /// Queues samples; what exceeds ten minutes is cut off.
    pub fn play(&mut self, samples: &[i16]) {
        let room = QUEUE_SAMPLES_MAX.saturating_sub(self.queue.len());
        self.queue.extend(samples.iter().take(room));
        self.playing = Some(Playing::Sound);
    }

    /// Drops what is playing and plays these samples; their end is told under this number.
    pub fn say(&mut self, number: u64, samples: &[i16]) {
        self.queue.clear();
        self.play(samples);
        self.playing = Some(Playing::Words(number));
    }

    /// Presses these keys, if the far end agreed to telephone-events.
    pub fn press(&mut self, keys: &[Key]) {
        self.dialing.press(keys);
    }

    /// Forgets what was heard and records from now.
    pub fn record(&mut self, now: Instant, limits: RecordLimits) {
        self.heard_at = now;
        self.reception.record(limits);
    }

    /// Hands over what was recorded, as a fact.
    pub fn take(&mut self) {
        let taken = self.reception.take_all();
        self.facts.push_back(MediaFact::Taken(taken));
    }

    /// A datagram came.
    pub fn handle_packet(&mut self, now: Instant, channel: Channel, from: SocketAddr, datagram: &[u8]) {
        if !self.buffer.fill(datagram) {
            self.report.rejected += 1;
            return;
        }
        let verdict = self.session.handle_packet(now, Side::A, channel, from, &mut self.buffer);
        match verdict {
            Verdict::Forward { channel: Channel::Rtp, .. } => self.on_rtp(now),
            Verdict::Forward { .. } => {
                self.report.reports += 1;
                self.heard.on_rtcp(now, self.buffer.as_slice());
            }
            Verdict::Drop(_) => self.report.rejected += 1,
        }
    }

    fn on_rtp(&mut self, now: Instant) {
        self.report.packets += 1;
        self.heard_at = now;
        if let Some(packet) = view(self.buffer.as_slice()) {
            self.heard.on_rtp(now, &packet);
            if self.events.heard == Some(packet.payload_type) {
                self.reception.pass(packet.sequence);
                let key = self.digits.push(packet.timestamp, packet.payload).and_then(Key::new);
                self.facts.extend(key.map(MediaFact::Key));
            } else {
                self.reception.take(&packet);
            }
        }
        self.tell();
    }

    /// The deadline passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let mut made = 0;
        if self.roc_jump_at.is_some_and(|at| at <= now) {
            self.roc_jump_at = None;
            self.jump();
        }
        while self.next_packet <= now {
            made += 1;
            if made > CATCH_UP_MAX {
                self.next_packet = now + PACKET_TIME;
                break;
            }
            self.next_packet += PACKET_TIME;
            self.send_audio(now);
        }
        if self.next_report <= now && !self.is_without_reports {
            self.report_wait = (self.report_wait * 2).min(REPORT_INTERVAL);
            self.next_report = now + self.report_wait;
            rtcp::write_report(now, &self.sender, &mut self.heard, &mut self.scratch);
            self.send(now, Channel::Rtcp);
        }
        if now.saturating_duration_since(self.heard_at) >= STARVED {
            self.heard_at += STARVED;
            self.reception.idle_for(FRAME * 10);
        }
        self.tell();
    }

    fn send_audio(&mut self, now: Instant) {
        if let Some(events) = self.events.sent
            && self.dialing.write(events, &mut self.sender, &mut self.scratch)
        {
            return self.send_rtp(now);
        }
        let mut frame = [0i16; FRAME];
        for slot in &mut frame {
            *slot = self.queue.pop_front().unwrap_or(0);
        }
        if self.queue.is_empty()
            && let Some(playing) = self.playing.take()
        {
            self.facts.push_back(match playing {
                Playing::Sound => MediaFact::Played,
                Playing::Words(number) => MediaFact::Said(number),
            });
        }
        let mut payload = Vec::with_capacity(FRAME);
        self.law.encode_into(&frame, &mut payload);
        self.sender.write(self.law.payload_type(), &payload, FRAME as u32, &mut self.scratch);
        self.send_rtp(now);
    }

    fn send_rtp(&mut self, now: Instant) {
        if !self.is_mute {
            self.report.sent += 1;
            self.send(now, Channel::Rtp);
        }
    }

    /// One rollover too many; on a clear leg there is nothing to jump.
    fn jump(&mut self) {
        let Some(mut progress) = self.session.progress(Side::A) else { return };
        for source in &mut progress.outbound.rtp {
            source.newest += ROLLOVER;
        }
        self.session.resume(Side::A, &progress);
    }

    fn send(&mut self, now: Instant, channel: Channel) {
        self.buffer.fill(&self.scratch);
        let verdict = self.session.handle_packet(now, Side::B, channel, SELF, &mut self.buffer);
        if let Verdict::Forward { channel, to, .. } = verdict {
            let bytes = Bytes::copy_from_slice(self.buffer.as_slice());
            self.packets.push_back(Packet { channel, to, bytes });
        }
    }

    fn tell(&mut self) {
        match self.reception.poll_over() {
            Some(Over::Idle) => self.facts.push_back(MediaFact::Idle),
            Some(Over::Full) => self.facts.push_back(MediaFact::Full),
            None => {}
        }
        if self.reception.poll_beep() {
            self.facts.push_back(MediaFact::BeepOver);
        }
    }

    /// Next packet to send.
    pub fn poll_packet(&mut self) -> Option<Packet> {
        self.packets.pop_front()
    }

    /// Next fact to tell.
    pub fn poll_fact(&mut self) -> Option<MediaFact> {
        self.facts.pop_front()
    }

    /// When [`MediaEndpoint::handle_timeout`] is due.
    pub fn poll_deadline(&self) -> Instant {
        if self.is_without_reports { self.next_packet } else { self.next_packet.min(self.next_report) }
    }

    /// Ends it: what was heard and counted.
    pub fn finish(mut self) -> MediaReport {
        (self.report.samples, self.report.beep_at) = self.reception.into_parts();
        self.report
    }
}

/// The network on side A, ourselves on side B.
fn relayed(plan: &MediaPlan) -> Plan {
    Plan {
        a: leg(plan.remote_rtp, plan.remote_rtcp, protection(plan)),
        b: leg(SELF, SELF, Protection::Clear),
        inactivity: Duration::ZERO,
        reports: None,
    }
}

/// As agreed, or with what is wrong on purpose.
fn protection(plan: &MediaPlan) -> Protection {
    let mut protection = plan.protection.clone();
    if let (Protection::Sealed { outbound, .. }, Some(Impairment::ForeignMki)) =
        (&mut protection, plan.impairment)
    {
        outbound.mki = Mki::new(&FOREIGN_MKI).ok();
    }
    protection
}

fn leg(rtp: SocketAddr, rtcp: SocketAddr, protection: Protection) -> LegPlan {
    LegPlan { remote_rtcp: rtcp, ..LegPlan::at(rtp, protection) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::{beep, dominant_hz, tone};
    use crate::media::keys;
    use relay::{KeyParams, MasterKey, Suite};

    fn key(n: u8) -> KeyParams {
        KeyParams::new(Suite::AesCm128HmacSha1_80, MasterKey::new([n; 16], [n; 14]))
    }

    fn sealed(inbound: u8, outbound: u8) -> Protection {
        Protection::Sealed { inbound: key(inbound), outbound: key(outbound) }
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
    }

    fn endpoint(remote: u16, protection: Protection, now: Instant) -> MediaEndpoint {
        endpoint_with(remote, protection, now, None)
    }

    fn endpoint_with(
        remote: u16,
        protection: Protection,
        now: Instant,
        impairment: Option<Impairment>,
    ) -> MediaEndpoint {
        let plan = MediaPlan {
            remote_rtp: at(remote),
            remote_rtcp: at(remote + 1),
            law: Law::Mu,
            events: EventTypes { heard: Some(101), sent: Some(101) },
            protection,
            seed: u64::from(remote),
            impairment,
        };
        MediaEndpoint::new(&plan, now).unwrap()
    }

    /// Runs both for a while; every packet arrives at once.
    fn run(one: &mut MediaEndpoint, two: &mut MediaEndpoint, now: &mut Instant, packets: u32) {
        for _ in 0..packets {
            one.handle_timeout(*now);
            two.handle_timeout(*now);
            while let Some(p) = one.poll_packet() {
                let from = if p.channel == Channel::Rtp { at(1000) } else { at(1001) };
                two.handle_packet(*now, p.channel, from, &p.bytes);
            }
            while let Some(p) = two.poll_packet() {
                let from = if p.channel == Channel::Rtp { at(2000) } else { at(2001) };
                one.handle_packet(*now, p.channel, from, &p.bytes);
            }
            *now += PACKET_TIME;
        }
    }

    fn facts(endpoint: &mut MediaEndpoint) -> Vec<String> {
        std::iter::from_fn(|| endpoint.poll_fact()).map(|f| format!("{f:?}")).collect()
    }

    #[test]
    fn who_is_told_to_sends_no_reports() {
        let mut now = Instant::now();
        for (impairment, wanted) in [(None, true), (Some(Impairment::NoReports), false)] {
            let mut one = endpoint_with(2000, Protection::Clear, now, impairment);
            let mut has_reports = false;
            for _ in 0..100 {
                one.handle_timeout(now);
                while let Some(packet) = one.poll_packet() {
                    has_reports |= packet.channel == Channel::Rtcp;
                }
                now += PACKET_TIME;
            }
            assert_eq!(has_reports, wanted);
        }
    }

    #[test]
    fn a_tone_crosses_under_srtp_and_reports_too() {
        let mut now = Instant::now();
        let mut one = endpoint(2000, sealed(1, 2), now);
        let mut two = endpoint(1000, sealed(2, 1), now);
        one.play(&tone(440.0, -15.0, 8_000));
        run(&mut one, &mut two, &mut now, 60);
        assert!(facts(&mut one).contains(&"Played".to_owned()));
        let report = two.finish();
        assert!((dominant_hz(&report.samples).unwrap() - 440.0).abs() < 3.0);
        assert_eq!((report.packets, report.rejected), (60, 0));
        assert!(report.reports > 0);
    }

    #[test]
    fn packets_under_another_key_or_in_the_clear_are_not_heard() {
        for wrong in [sealed(1, 3), Protection::Clear] {
            let mut now = Instant::now();
            let mut one = endpoint(2000, wrong, now);
            let mut two = endpoint(1000, sealed(2, 1), now);
            run(&mut one, &mut two, &mut now, 20);
            let report = two.finish();
            assert_eq!(report.packets, 0);
            assert!(report.rejected >= 20);
            assert!(report.samples.is_empty());
        }
    }

    #[test]
    fn a_recording_ends_by_silence_once() {
        let mut now = Instant::now();
        let mut one = endpoint(2000, Protection::Clear, now);
        let mut two = endpoint(1000, Protection::Clear, now);
        one.play(&tone(600.0, -15.0, 4_000));
        let limits = RecordLimits { idle: Some(Duration::from_secs(1)), longest: Duration::from_secs(60) };
        two.record(now, limits);
        run(&mut one, &mut two, &mut now, 60);
        assert!(facts(&mut two).is_empty(), "half a second of silence is not enough");
        run(&mut one, &mut two, &mut now, 60);
        assert_eq!(facts(&mut two), ["Idle"]);
    }

    #[test]
    fn a_caller_who_sends_nothing_is_silent_too() {
        let mut now = Instant::now();
        let mut alone = endpoint(1000, Protection::Clear, now);
        let limits = RecordLimits { idle: Some(Duration::from_secs(1)), longest: Duration::from_secs(60) };
        alone.record(now, limits);
        for _ in 0..100 {
            alone.handle_timeout(now);
            now += PACKET_TIME;
        }
        assert_eq!(facts(&mut alone).iter().filter(|f| *f == "Idle").count(), 1);
    }

    #[test]
    fn a_recording_stops_at_its_longest_and_keeps_no_more() {
        let mut now = Instant::now();
        let mut one = endpoint(2000, Protection::Clear, now);
        let mut two = endpoint(1000, Protection::Clear, now);
        one.play(&tone(600.0, -15.0, 16_000));
        two.record(now, RecordLimits { idle: None, longest: Duration::from_secs(1) });
        run(&mut one, &mut two, &mut now, 80);
        assert_eq!(facts(&mut two), ["Full"]);
        assert_eq!(two.finish().samples.len(), 8_000);
    }

    #[test]
    fn the_beep_is_told_when_it_is_over() {
        let mut now = Instant::now();
        let mut one = endpoint(2000, Protection::Clear, now);
        let mut two = endpoint(1000, Protection::Clear, now);
        one.play(&beep());
        run(&mut one, &mut two, &mut now, 10);
        assert!(facts(&mut two).is_empty());
        run(&mut one, &mut two, &mut now, 20);
        assert_eq!(facts(&mut two), ["BeepOver"]);
        assert!(two.finish().beep_at.is_some());
    }

    #[test]
    fn keys_are_heard_and_are_no_sound_of_a_recording() {
        let mut now = Instant::now();
        let mut one = endpoint(2000, sealed(1, 2), now);
        let mut two = endpoint(1000, sealed(2, 1), now);
        two.record(now, RecordLimits { idle: None, longest: Duration::from_secs(9) });
        one.press(&keys("4#"));
        run(&mut one, &mut two, &mut now, 50);
        let pressed: Vec<Key> = std::iter::from_fn(|| two.poll_fact())
            .filter_map(|fact| if let MediaFact::Key(key) = fact { Some(key) } else { None })
            .collect();
        assert_eq!(pressed, keys("4#"));
        two.take();
        let Some(MediaFact::Taken(samples)) = two.poll_fact() else { panic!("nothing was taken") };
        assert_eq!(samples.len(), (50 - 14) * FRAME, "fourteen packets were keys");
        run(&mut one, &mut two, &mut now, 10);
        assert!(two.finish().samples.is_empty(), "nothing is kept after it was taken");
    }

    #[test]
    fn new_words_take_the_place_of_old_ones_and_only_their_end_is_told() {
        let mut now = Instant::now();
        let mut one = endpoint(2000, Protection::Clear, now);
        let mut two = endpoint(1000, Protection::Clear, now);
        one.say(1, &tone(600.0, -15.0, 16_000));
        run(&mut one, &mut two, &mut now, 10);
        one.say(2, &tone(900.0, -15.0, 1_600));
        run(&mut one, &mut two, &mut now, 20);
        assert_eq!(facts(&mut one), ["Said(2)"]);
    }

    #[test]
    fn a_late_wake_up_does_not_flood() {
        let mut now = Instant::now();
        let mut one = endpoint(2000, Protection::Clear, now);
        now += Duration::from_secs(100);
        one.handle_timeout(now);
        assert!(std::iter::from_fn(|| one.poll_packet()).count() <= 12);
        assert!(one.poll_deadline() > now);
    }
}
