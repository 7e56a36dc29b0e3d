//! Caller, Call Router and worker as values on one virtual clock, joined by a perfect network: no socket, no sleep.

#![allow(clippy::unwrap_used, clippy::expect_used)] // test helpers, where a panic is a failed test

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sip::{Flow, FlowKey, Party, Transport};
use time::macros::datetime;
use umbra_lab::audio::dominant_hz;
use umbra_lab::frontend::{
    CallEnd, CallOutcome, CallSpec, CallerCommand, CallerConfig, CallerLogic, CallerReport, EndedBy,
    OfferShape, OnRefer, Presses,
};
use umbra_lab::machine::{Input, Machine, Output};
use umbra_lab::media::{Channel, LocalMedia, MediaCommand, MediaEndpoint, MediaFact, MediaKey, MediaReport};
use umbra_lab::um::{
    AfterRecording, Allowed, AnswerRules, AttendantConfig, ContactShape, Directory, DirectoryPlan, EndReason,
    Fault, FirstWord, Impairment, KeyMapping, KeyTarget, LabFact, MailboxConfig, MalformedDiversion, Manner,
    Milestone, OldCalls, Pin, PlanSecurity, Ports, Recycling, RedirectRole, RedirectTarget, Redirector,
    UmCommand, UmReport, VoiceMessage, Worker, WorkerConfig,
};

const FLOW: FlowKey = FlowKey(1);

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// One value with its media endpoints.
struct Node<M: Machine> {
    machine: M,
    base_port: u16,
    media: BTreeMap<MediaKey, Option<MediaEndpoint>>,
    reports: Vec<M::Report>,
}

type Messages = Vec<bytes::Bytes>;
type Packets = Vec<(Channel, SocketAddr, SocketAddr, bytes::Bytes)>;

impl<M: Machine> Node<M> {
    fn new(machine: M, base_port: u16, now: Instant) -> Self {
        let mut node = Node { machine, base_port, media: BTreeMap::new(), reports: Vec::new() };
        let flow = Flow {
            key: FLOW,
            transport: Transport::Tls,
            remote: at(5061),
            via_port: 5066,
            party: Party::default(),
        };
        let _ = node.feed(now, Input::FlowUp(flow));
        node
    }

    fn local(&self, key: MediaKey) -> LocalMedia {
        let port = self.base_port + 2 * key.0 as u16;
        LocalMedia { rtp: at(port), rtcp: at(port + 1) }
    }

    /// Feeds one input and obeys all outputs; returns what goes to the other side.
    fn feed(&mut self, now: Instant, input: Input<M::Command>) -> Messages {
        let (mut sent, mut inputs) = (Vec::new(), vec![input]);
        while let Some(input) = inputs.pop() {
            self.machine.handle(now, input);
            while let Some(output) = self.machine.poll_output() {
                match output {
                    Output::Send { bytes, .. } => sent.push(bytes),
                    Output::Close(_) => {}
                    Output::Report(report) => self.reports.push(report),
                    Output::Media { key, command } => {
                        let fact = self.obey(now, key, command);
                        inputs.extend(fact.map(|fact| Input::Media { key, fact }));
                    }
                }
            }
        }
        sent
    }

    fn obey(&mut self, now: Instant, key: MediaKey, command: MediaCommand) -> Option<MediaFact> {
        let endpoint = self.media.entry(key).or_default();
        match command {
            MediaCommand::Allocate => return Some(MediaFact::Ready(Ok(self.local(key)))),
            MediaCommand::Start(plan) => *endpoint = Some(MediaEndpoint::new(&plan, now).unwrap()),
            MediaCommand::Retarget(plan) => endpoint.as_mut().unwrap().retarget(&plan, now).unwrap(),
            MediaCommand::Stop => {
                let done = self.media.remove(&key).flatten();
                let report = done.map_or_else(MediaReport::default, MediaEndpoint::finish);
                return Some(MediaFact::Stopped(Box::new(report)));
            }
            command => endpoint.as_mut().unwrap().obey(now, command),
        }
        None
    }

    fn tick_media(&mut self, now: Instant) -> (Messages, Packets) {
        let (mut facts, mut packets) = (Vec::new(), Vec::new());
        let locals: BTreeMap<MediaKey, LocalMedia> =
            self.media.keys().map(|k| (*k, self.local(*k))).collect();
        for (key, endpoint) in &mut self.media {
            let Some(endpoint) = endpoint else { continue };
            endpoint.handle_timeout(now);
            while let Some(packet) = endpoint.poll_packet() {
                let from = if packet.channel == Channel::Rtp { locals[key].rtp } else { locals[key].rtcp };
                packets.push((packet.channel, from, packet.to, packet.bytes));
            }
            facts.extend(std::iter::from_fn(|| endpoint.poll_fact()).map(|fact| (*key, fact)));
        }
        let sent =
            facts.into_iter().flat_map(|(key, fact)| self.feed(now, Input::Media { key, fact })).collect();
        (sent, packets)
    }

    fn deliver(&mut self, now: Instant, packets: Packets) {
        for (channel, from, to, bytes) in packets {
            let wanted =
                self.media.keys().copied().find(|k| [self.local(*k).rtp, self.local(*k).rtcp].contains(&to));
            if let Some(Some(endpoint)) = wanted.and_then(|key| self.media.get_mut(&key)) {
                endpoint.handle_packet(now, channel, from, &bytes);
            }
        }
    }
}

/// A caller, a callee and the time.
struct World<M: Machine> {
    caller: Node<CallerLogic>,
    callee: Node<M>,
    now: Instant,
}

impl<M: Machine> World<M> {
    fn new(callee: M) -> Self {
        let now = Instant::now();
        let config = CallerConfig {
            fqdn: "pool01.contoso.test".to_owned(),
            sip_domain: "contoso.test".to_owned(),
            address: at(0).ip(),
            seed: 3,
        };
        let caller = Node::new(CallerLogic::new(config, at(5060)), 20_000, now);
        World { caller, callee: Node::new(callee, 30_000, now), now }
    }

    /// Carries messages to and fro until both are quiet.
    fn exchange(&mut self, mut to_callee: Messages, mut to_caller: Messages) {
        while !(to_callee.is_empty() && to_caller.is_empty()) {
            for bytes in std::mem::take(&mut to_callee) {
                to_caller.extend(self.callee.feed(self.now, Input::Bytes { flow: FLOW, bytes }));
            }
            for bytes in std::mem::take(&mut to_caller) {
                to_callee.extend(self.caller.feed(self.now, Input::Bytes { flow: FLOW, bytes }));
            }
        }
    }

    /// Lets time pass in steps of 10 ms.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let mut to_callee = self.caller.feed(self.now, Input::Timeout);
            let mut to_caller = self.callee.feed(self.now, Input::Timeout);
            let (messages, packets) = self.caller.tick_media(self.now);
            to_callee.extend(messages);
            self.callee.deliver(self.now, packets);
            let (messages, packets) = self.callee.tick_media(self.now);
            to_caller.extend(messages);
            self.caller.deliver(self.now, packets);
            self.exchange(to_callee, to_caller);
            self.now += Duration::from_millis(10);
        }
    }

    fn place(&mut self, id: u64, spec: CallSpec) {
        let command = CallerCommand::Place { id, spec: Box::new(spec) };
        let sent = self.caller.feed(self.now, Input::Command(command));
        self.exchange(sent, Vec::new());
    }

    fn outcome(&mut self) -> CallOutcome {
        let reports = std::mem::take(&mut self.caller.reports);
        let outcome = |report| match report {
            CallerReport::Outcome { outcome, .. } => Some(*outcome.unwrap()),
            _ => None,
        };
        reports.into_iter().find_map(outcome).expect("the call is over")
    }
}

fn ken() -> MailboxConfig {
    MailboxConfig {
        alias: "ken".to_owned(),
        sip: Some("sip:ken@contoso.test".to_owned()),
        extension: Some("1001".to_owned()),
        pin: Pin::new("135790"),
        ..MailboxConfig::default()
    }
}

/// Ken, and an attendant whose key 1 leads to him.
fn directory() -> Directory {
    let to_ken = KeyMapping { key: '1', to: KeyTarget::Transfer("1001".to_owned()) };
    let attendant = AttendantConfig {
        name: "aa-main".to_owned(),
        business_keys: vec![to_ken],
        ..AttendantConfig::default()
    };
    let plan =
        DirectoryPlan { mailboxes: vec![ken()], attendants: vec![attendant], ..DirectoryPlan::default() };
    Directory::new(plan, |_| Vec::new()).unwrap()
}

fn worker(answer: AnswerRules, fault: Fault) -> Worker {
    Worker::new(WorkerConfig {
        name: "mbx01.contoso.test".to_owned(),
        max_calls_allowed: 1,
        security: PlanSecurity::Secured,
        directory: directory(),
        utc: datetime!(2026-11-23 10:00 UTC),
        answer,
        fault,
        seed: 5,
    })
}

fn deposit(end: CallEnd) -> CallSpec {
    CallSpec { end, ..CallSpec::call_answering("ken", "dana", "contoso.test") }
}

fn messages(world: &mut World<Worker>) -> Vec<VoiceMessage> {
    let reports = std::mem::take(&mut world.callee.reports);
    let message = |report| match report {
        UmReport::Message(message) => Some(*message),
        _ => None,
    };
    reports.into_iter().filter_map(message).collect()
}

#[test]
fn a_deposit_leaves_the_tone_and_nothing_behind() {
    let mut world = World::new(worker(AnswerRules::default(), Fault::None));
    world.place(1, deposit(CallEnd::HangUpAfterTalk));
    world.run(Duration::from_secs(10));
    let outcome = world.outcome();
    assert_eq!((outcome.status, outcome.ended_by, outcome.heard.rejected), (200, Some(EndedBy::Us), 0));
    let messages = messages(&mut world);
    assert_eq!(messages.len(), 1);
    assert!((dominant_hz(&messages[0].samples).unwrap() - 440.0).abs() < 3.0);
    assert_eq!((messages[0].security, messages[0].end), ("Secured", EndReason::CallerHungUp));
    assert_eq!((world.callee.machine.calls(), world.caller.machine.calls()), (0, 0));
    assert!(world.callee.media.is_empty() && world.caller.media.is_empty());
}

#[test]
fn five_seconds_of_silence_end_the_call_from_the_worker() {
    let mut world = World::new(worker(AnswerRules::default(), Fault::None));
    world.place(1, deposit(CallEnd::WaitForBye));
    world.run(Duration::from_secs(12));
    let outcome = world.outcome();
    assert_eq!(outcome.ended_by, Some(EndedBy::Them));
    // greeting and beep 1.6 s, talk 2 s, silence 5 s
    let lasted = outcome.lasted.unwrap().as_secs_f64();
    assert!((8.0..10.0).contains(&lasted), "{lasted}");
    assert_eq!(messages(&mut world)[0].end, EndReason::Silence);
}

#[test]
fn a_second_call_beyond_the_limit_is_answered_503() {
    let mut world = World::new(worker(AnswerRules::default(), Fault::None));
    world.place(1, deposit(CallEnd::WaitForBye));
    world.place(2, deposit(CallEnd::WaitForBye));
    assert_eq!(world.outcome().status, 503);
    assert_eq!(world.callee.machine.calls(), 1);
}

#[test]
fn cancel_while_ringing_ends_with_487_and_a_missed_call() {
    let rules = AnswerRules {
        ring_after: Some(Duration::from_millis(100)),
        answer_after: Duration::from_secs(10),
        ..AnswerRules::default()
    };
    let mut world = World::new(worker(rules, Fault::None));
    world.place(1, deposit(CallEnd::CancelAfter(Duration::from_secs(2))));
    world.run(Duration::from_secs(4));
    let outcome = world.outcome();
    assert_eq!((outcome.status, outcome.ended_by), (487, None));
    assert!(outcome.provisional.contains(&180));
    assert!(world.callee.reports.iter().any(|r| matches!(r, UmReport::Missed(m) if m.mailbox == "ken")));
    assert_eq!(world.callee.machine.calls(), 0);
}

#[test]
fn a_silent_worker_is_given_up_at_the_time_limit() {
    let mut world = World::new(worker(AnswerRules::default(), Fault::Silent));
    let mut spec = deposit(CallEnd::WaitForBye);
    spec.time_limit = Duration::from_secs(5);
    world.place(1, spec);
    world.run(Duration::from_secs(12));
    assert!(!world.outcome().answered());
    assert_eq!(world.caller.machine.calls(), 0);
}

#[test]
fn a_call_router_takes_live_servers_in_turn_and_faults_show() {
    let target = |host: &str, is_live| RedirectTarget {
        host: host.to_owned(),
        ports: Ports { tcp: Some(5062), tls: Some(5063) },
        is_live,
    };
    let targets = vec![target("mbx01", true), target("mbx02", false), target("mbx03", true)];
    let router = |fault| Redirector::new("cas01", RedirectRole::CallRouter, targets.clone(), fault, 1);
    let mut world = World::new(router(Fault::None));
    for (id, expected) in [(1, "@mbx01:5063"), (2, "@mbx03:5063"), (3, "@mbx01:5063")] {
        world.place(id, deposit(CallEnd::WaitForBye));
        let outcome = world.outcome();
        let contact = outcome.header("contact").unwrap().to_owned();
        assert_eq!(outcome.status, 302);
        assert!(contact.split(',').next().unwrap().contains(expected), "{contact}");
        assert!(!contact.contains("mbx02") && contact.ends_with(";q=0.5"), "{contact}");
    }
    for (fault, expected) in [
        (Fault::ForeignRedirect("evil.example".to_owned()), "@evil.example:"),
        (Fault::LoopingRedirect, "@cas01:5066"),
    ] {
        let mut world = World::new(router(fault));
        world.place(1, deposit(CallEnd::WaitForBye));
        assert!(world.outcome().header("contact").unwrap().contains(expected));
    }
    let mut world = World::new(router(Fault::Unavailable));
    world.place(1, deposit(CallEnd::WaitForBye));
    assert_eq!(world.outcome().status, 503);
}

#[test]
fn a_late_redirect_comes_late_and_a_lost_one_never() {
    let targets = vec![RedirectTarget {
        host: "mbx01".to_owned(),
        ports: Ports { tcp: None, tls: Some(5063) },
        is_live: true,
    }];
    let router = |fault| Redirector::new("cas01", RedirectRole::CallRouter, targets.clone(), fault, 1);
    let mut world = World::new(router(Fault::LateRedirect(Duration::from_secs(2))));
    world.place(1, deposit(CallEnd::WaitForBye));
    world.run(Duration::from_millis(1_900));
    assert!(world.caller.reports.is_empty());
    world.run(Duration::from_millis(200));
    assert_eq!(world.outcome().status, 302);
    let mut world = World::new(router(Fault::LostRedirect));
    world.place(1, CallSpec { time_limit: Duration::from_secs(60), ..deposit(CallEnd::WaitForBye) });
    world.run(Duration::from_secs(30));
    assert!(world.caller.reports.is_empty());
}

#[test]
fn a_slow_worker_gives_no_sign_of_life_before_it_answers() {
    let mut world = World::new(worker(AnswerRules::default(), Fault::SlowAnswer(Duration::from_secs(3))));
    world.place(1, deposit(CallEnd::HangUpAfter(Duration::from_secs(1))));
    world.run(Duration::from_secs(6));
    let outcome = world.outcome();
    assert!(outcome.setup.unwrap() >= Duration::from_secs(3) && !outcome.provisional.contains(&180));
}

#[test]
fn a_recycled_worker_ends_its_calls() {
    let mut world = World::new(worker(AnswerRules::default(), Fault::Recycled(Duration::from_secs(1))));
    world.place(1, deposit(CallEnd::WaitForBye));
    world.run(Duration::from_secs(3));
    let outcome = world.outcome();
    assert_eq!((outcome.status, outcome.ended_by), (200, Some(EndedBy::Them)));
    assert!(outcome.lasted.unwrap() < Duration::from_secs(2));
    assert_eq!(world.callee.machine.calls(), 0);
}

#[test]
fn media_with_a_fault_is_missing_or_refused() {
    let heard = |impairment| {
        let mut world = World::new(worker(AnswerRules::default(), Fault::Media(impairment)));
        world.place(1, deposit(CallEnd::HangUpAfter(Duration::from_secs(2))));
        world.run(Duration::from_secs(4));
        let heard = world.outcome().heard;
        (heard.packets, heard.rejected)
    };
    assert_eq!(heard(Impairment::Mute), (0, 0));
    let (packets, rejected) = heard(Impairment::ForeignMki);
    assert!(packets == 0 && rejected > 90, "{packets} {rejected}");
    let (packets, rejected) = heard(Impairment::RocJump(Duration::from_secs(1)));
    assert!((45..55).contains(&packets) && rejected > 40, "{packets} {rejected}");
}

#[test]
fn a_180_with_a_description_repeats_it_in_the_200() {
    let mut world = World::new(worker(AnswerRules::default(), Fault::RingsWithSdp));
    world.place(1, deposit(CallEnd::HangUpAfter(Duration::from_secs(1))));
    world.run(Duration::from_secs(3));
    let outcome = world.outcome();
    assert!(outcome.answered() && outcome.provisional.contains(&180));
    assert_eq!(outcome.answer_fault, None);
}

/// A call in which only keys are pressed, and that the other side ends.
fn session(from: &str, uri: &str, presses: &[(u64, &str)]) -> CallSpec {
    let presses =
        presses.iter().map(|(second, keys)| Presses::at(Duration::from_secs(*second), keys)).collect();
    CallSpec {
        request_uri: uri.to_owned(),
        to: uri.split(';').next().unwrap().to_owned(),
        from: format!("sip:{from}@contoso.test"),
        diversion: Vec::new(),
        talk: None,
        presses,
        time_limit: Duration::from_secs(60),
        ..deposit(CallEnd::WaitForBye)
    }
}

const OWN_MAILBOX: &str = "sip:ken@contoso.test;opaque=app:voicemail";
const ATTENDANT: &str = "sip:aa-main@contoso.test;opaque=app:exum:DP-Sip.contoso.test";

/// What was done in calls, and how they ended.
fn deeds(world: &mut World<Worker>) -> (Vec<Milestone>, Vec<EndReason>, Vec<String>) {
    let (mut done, mut ends, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for report in std::mem::take(&mut world.callee.reports) {
        match report {
            UmReport::Fact(LabFact::Did { milestone, .. }) => done.push(milestone),
            UmReport::Fact(LabFact::Ended { why, .. }) => ends.push(why),
            UmReport::Waiting(waiting) => others.push(format!("{} new {} old", waiting.new, waiting.old)),
            UmReport::Delete { .. } => others.push("delete".to_owned()),
            _ => {}
        }
    }
    (done, ends, others)
}

#[test]
fn a_message_is_left_listened_to_and_deleted_after_a_wrong_and_a_right_pin() {
    let mut world = World::new(worker(AnswerRules::default(), Fault::None));
    world.place(1, deposit(CallEnd::HangUpAfterTalk));
    world.run(Duration::from_secs(10));
    let left = world.outcome().call_id;
    assert_eq!(deeds(&mut world).2, ["1 new 0 old"]);
    let presses = [(1, "000000#"), (4, "135790#"), (7, "1"), (14, "3"), (16, "*")];
    world.place(2, session("ken", OWN_MAILBOX, &presses));
    world.run(Duration::from_secs(22));
    let outcome = world.outcome();
    assert_eq!((outcome.status, outcome.ended_by), (200, Some(EndedBy::Them)));
    assert!((outcome.heard.dominant_hz.unwrap() - 440.0).abs() < 3.0, "the message was heard: {outcome:?}");
    let (done, ends, others) = deeds(&mut world);
    let mailbox = || "ken".to_owned();
    let wanted = [
        Milestone::LogonFailed { mailbox: mailbox(), failures: 1 },
        Milestone::LoggedOn { mailbox: mailbox() },
        Milestone::Played { mailbox: mailbox(), message: left },
    ];
    assert_eq!((done.as_slice(), ends.as_slice()), (&wanted[..], &[EndReason::Finished][..]));
    assert_eq!(others, ["0 new 1 old", "delete", "0 new 0 old"]);
}

#[test]
fn hash_ends_a_recording_and_the_longest_call_ends_whatever_it_does() {
    let mut world = World::new(worker(AnswerRules::default(), Fault::None));
    let mut spec = deposit(CallEnd::WaitForBye);
    spec.presses = vec![Presses::at(Duration::from_secs(4), "#")];
    world.place(1, spec);
    world.run(Duration::from_secs(9));
    assert_eq!(world.outcome().ended_by, Some(EndedBy::Them));
    let message = &messages(&mut world)[0];
    assert_eq!(message.end, EndReason::Finished);
    let seconds = message.samples.len() as f64 / 8_000.0;
    assert!((1.0..3.0).contains(&seconds), "{seconds} s until the key");

    let rules = AnswerRules { max_call_duration: Duration::from_secs(3), ..AnswerRules::default() };
    let mut world = World::new(worker(rules, Fault::None));
    world.place(1, deposit(CallEnd::WaitForBye));
    world.run(Duration::from_secs(5));
    assert_eq!(world.outcome().ended_by, Some(EndedBy::Them));
    assert_eq!(messages(&mut world)[0].end, EndReason::CallTooLong);
    world.place(2, session("ken", OWN_MAILBOX, &[]));
    world.run(Duration::from_secs(5));
    assert_eq!(deeds(&mut world).1, [EndReason::CallTooLong]);
}

#[test]
fn an_attendant_transfers_by_refer_and_stays_when_that_fails() {
    let to = || "<sip:ken@contoso.test>".to_owned();
    for (on_refer, status) in [(OnRefer::Follow, 200), (OnRefer::Fail(486), 486), (OnRefer::Refuse(603), 603)]
    {
        let mut world = World::new(worker(AnswerRules::default(), Fault::None));
        let end =
            if status == 200 { CallEnd::WaitForBye } else { CallEnd::HangUpAfter(Duration::from_secs(9)) };
        let spec = session("dana", ATTENDANT, &[(1, "1")]);
        world.place(1, CallSpec { on_refer, end, ..spec });
        world.run(Duration::from_secs(12));
        let outcome = world.outcome();
        assert_eq!(outcome.referred_to, [to()], "{on_refer:?}");
        let (done, ends, _) = deeds(&mut world);
        let target = "sip:ken@contoso.test".to_owned();
        let wanted =
            [Milestone::Transferring { to: target.clone() }, Milestone::TransferEnded { to: target, status }];
        assert_eq!(done, wanted, "{on_refer:?}");
        let end = if status == 200 { EndReason::Transferred } else { EndReason::CallerHungUp };
        assert_eq!(ends, [end], "{on_refer:?}");
        assert_eq!((world.callee.machine.calls(), world.caller.machine.calls()), (0, 0));
    }
}

#[test]
fn a_worker_says_and_does_what_its_knobs_say() {
    let rules = AnswerRules {
        ring_after: Some(Duration::ZERO),
        answer_after: Duration::from_millis(200),
        after_recording: AfterRecording::Stay,
        ..AnswerRules::default()
    };
    let manner = Manner {
        server_text: None,
        first_word: FirstWord::Progress,
        session_expires: Some(Duration::from_secs(100)),
        full_status: 486,
        ..Manner::default()
    };
    let mut world = World::new(worker(rules, Fault::None).mannered(manner));
    let spec = CallSpec { time_limit: Duration::from_secs(300), ..deposit(CallEnd::WaitForBye) };
    world.place(1, spec);
    world.place(2, deposit(CallEnd::WaitForBye));
    assert_eq!(world.outcome().status, 486, "the second call finds the worker full");
    world.run(Duration::from_secs(110));
    let outcome = world.outcome();
    assert!(outcome.provisional.contains(&183) && !outcome.provisional.contains(&180), "{outcome:?}");
    assert_eq!(outcome.header("Session-Expires"), Some("100;refresher=uac"));
    assert_eq!(outcome.header("Server"), None);
    // Nobody refreshed.
    assert_eq!(outcome.ended_by, Some(EndedBy::Them));
    let lasted = outcome.lasted.unwrap().as_secs();
    assert!((95..=101).contains(&lasted), "{lasted}");
}

#[test]
fn a_caller_without_the_timer_gets_none_and_suites_that_are_not_taken_are_refused() {
    let manner = Manner { session_expires: Some(Duration::from_secs(100)), ..Manner::default() };
    let mut world = World::new(worker(AnswerRules::default(), Fault::None).mannered(manner));
    let end = CallEnd::HangUpAfter(Duration::from_secs(1));
    world.place(1, CallSpec { shape: OfferShape::UmSecured, ..deposit(end) });
    world.run(Duration::from_secs(3));
    let outcome = world.outcome();
    assert_eq!((outcome.status, outcome.header("Session-Expires")), (200, None));
    let manner = Manner { suites: umbra_lab::um::SUITES[1..].to_vec(), ..Manner::default() };
    let mut world = World::new(worker(AnswerRules::default(), Fault::None).mannered(manner));
    world.place(1, deposit(CallEnd::WaitForBye));
    assert_eq!(world.outcome().status, 488, "the offer has the other suite alone");
}

#[test]
fn a_diversion_with_malformed_quoting_is_refused_where_the_knob_says_so() {
    let malformed = vec!["\"Myer, Ken <sip:ken@contoso.test>;reason=no-answer".to_owned()];
    for (malformed_diversion, status) in
        [(MalformedDiversion::Refused, 400), (MalformedDiversion::Repaired, 200)]
    {
        let manner = Manner { malformed_diversion, ..Manner::default() };
        let mut world = World::new(worker(AnswerRules::default(), Fault::None).mannered(manner));
        let end = CallEnd::HangUpAfter(Duration::from_secs(1));
        world.place(1, CallSpec { diversion: malformed.clone(), ..deposit(end) });
        world.run(Duration::from_secs(3));
        assert_eq!(world.outcome().status, status);
    }
}

#[test]
fn worker_processes_take_over_one_after_the_other_and_old_calls_are_cut_by_their_ports() {
    let target = |tls| RedirectTarget {
        host: "mbx01".to_owned(),
        ports: Ports { tcp: None, tls: Some(tls) },
        is_live: true,
    };
    let recycling = Recycling { calls: Some(2), period: None, old_calls: OldCalls::Cut };
    let contact =
        ContactShape { user_phone: Allowed::No, maddr: Allowed::No, ms_fe: Some("fe01".to_owned()) };
    let manner = Manner { recycling: Some(recycling), contact, ..Manner::default() };
    let service =
        Redirector::new("mbx01", RedirectRole::UmService, vec![target(5066), target(5068)], Fault::None, 1);
    let mut world = World::new(service.mannered(manner));
    for (id, port) in [(1, 5066), (2, 5066), (3, 5068), (4, 5068), (5, 5066)] {
        world.place(id, deposit(CallEnd::WaitForBye));
        let outcome = world.outcome();
        let wanted = format!("<sip:ken@mbx01:{port};transport=Tls;ms-fe=fe01>");
        assert_eq!(outcome.header("contact"), Some(wanted.as_str()));
    }
    let retired = |report: &UmReport| match report {
        UmReport::Recycled { ports, .. } => ports.tls,
        _ => None,
    };
    assert_eq!(world.callee.reports.iter().filter_map(retired).collect::<Vec<_>>(), [5066, 5068]);
    for (port, left) in [(5068, 1), (5066, 0)] {
        let mut world = World::new(worker(AnswerRules::default(), Fault::None));
        world.place(1, deposit(CallEnd::WaitForBye));
        world.run(Duration::from_secs(1));
        let cut = UmCommand::HangUpOn(Ports { tcp: None, tls: Some(port) });
        let to_caller = world.callee.feed(world.now, Input::Command(cut));
        world.exchange(Vec::new(), to_caller);
        world.run(Duration::from_secs(1));
        assert_eq!(world.callee.machine.calls(), left, "calls came to port 5066");
    }
}

#[test]
fn a_hosted_um_takes_calls_of_its_tenants_alone() {
    let target = RedirectTarget {
        host: "exap".to_owned(),
        ports: Ports { tcp: None, tls: Some(5066) },
        is_live: true,
    };
    let manner = Manner { tenants: Some(vec!["corp.contoso.test".to_owned()]), ..Manner::default() };
    let hosted = || {
        Redirector::new("exap.hosted.test", RedirectRole::UmService, vec![target.clone()], Fault::None, 1)
            .mannered(manner.clone())
    };
    for (host, status) in [
        ("corp.contoso.test.exap.hosted.test", 302),
        ("CORP.contoso.test.exap.hosted.test", 302),
        ("exap.hosted.test", 302),
        ("fabrikam.test.exap.hosted.test", 404),
        ("contoso.test", 404),
    ] {
        let mut world = World::new(hosted());
        let request_uri = format!("sip:ken@{host}:5061;transport=tls");
        world.place(1, CallSpec { request_uri, ..deposit(CallEnd::WaitForBye) });
        assert_eq!(world.outcome().status, status, "{host}");
    }
}
