//! From a relay session and from signalling to files, without a socket.

use std::net::SocketAddr;
use std::path::Path;

use audio_codec_algorithms::encode_ulaw;
use b2bua::CallRecord;
use b2bua::engine::{CallKey, CallStarted};
use b2bua::record::OfferResult;
use bytes::Bytes;
use relay::{
    Formats, KeyParams, LegPlan, MasterKey, PacketBuffer, Plan, Protection, Session, Suite, Verdict,
};

use super::super::chunk::Sent;
use super::super::pcap::tests::read;
use super::super::tones::tests::key;
use super::super::{CaptureSettings, Captured, CapturedMedia, RecordingSettings, Room};
use super::*;
use crate::observe::a_record;

const PHONE: &str = "192.0.2.10:5004";
const SERVER: &str = "192.0.2.30:6004";
const GATEWAY: &str = "192.0.2.20";
const PORTS: [u16; 2] = [20_000, 20_002];
const PACKET: Duration = Duration::from_millis(20);
const SECRET: &str = "HhwaGBYUEhAODAoIBgQCAAEDBQcJCw0PERMVFxkb";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn leg(peer: &str, protection: Protection) -> LegPlan {
    LegPlan::at(at(peer), protection)
}

fn sealed(inbound: u8, outbound: u8) -> Protection {
    let suite = Suite::AesCm128HmacSha1_80;
    let params = |fill| KeyParams::new(suite, MasterKey::from_inline(suite, &[fill; 30]).unwrap());
    Protection::Sealed { inbound: params(inbound), outbound: params(outbound) }
}

fn session(a: LegPlan, b: LegPlan) -> Session {
    Session::new(Plan { a, b, inactivity: Duration::ZERO, reports: None }, Instant::now()).unwrap()
}

/// One gateway: what it keeps goes into a folder.
struct Stage {
    folder: tempfile::TempDir,
    writer: KeepWriter,
    keeping: Keeping,
    tape: Tape,
    metrics: Arc<Metrics>,
}

impl Stage {
    fn new(calls: Captured, change: impl FnOnce(&mut KeepSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let room = Room { bytes_max: 1 << 30, files_max: 100 };
        let recordings = RecordingSettings {
            folder: folder.path().join("wav"),
            dial_plans: vec!["DP-Sip".to_owned()],
            call_max: Duration::from_secs(60),
            room,
        };
        let captures = CaptureSettings {
            folder: folder.path().join("pcap"),
            calls,
            media: CapturedMedia::Rtp,
            ring_bytes: 1 << 24,
            room,
        };
        let mut settings = KeepSettings { recordings: Some(recordings), captures: Some(captures) };
        change(&mut settings);
        let metrics = Arc::new(Metrics::new());
        let (writer, keeper, mut tapes) =
            KeepWriter::start(&settings, MediaAddresses::of([GATEWAY.parse().unwrap()]), 1, &metrics)
                .unwrap();
        Self { folder, writer, keeping: keeper.keeping(), tape: tapes.pop().unwrap(), metrics }
    }

    fn begins(&mut self) -> u64 {
        let started = CallStarted {
            call: CallKey::default(),
            call_id: "a-1".to_owned(),
            ip_gateway: "pool01".to_owned(),
            dial_plan: "DP-Sip".to_owned(),
            caller: "sip:dana@contoso.test".to_owned(),
            called: "sip:ken@contoso.test".to_owned(),
            transport: Transport::Tls,
        };
        self.keeping.starts(&started);
        self.keeping.allocates(CallKey::default()).unwrap()
    }

    /// A message each way on both legs.
    fn signals(&self) {
        let copies = self.keeping.copies().unwrap();
        for (call_id, peer) in
            [("a-1", "192.0.2.10:40000"), ("b-1", "192.0.2.30:5063"), ("other", "192.0.2.9:9")]
        {
            let text = format!(
                "INVITE sip:ken SIP/2.0\r\nCall-ID: {call_id}\r\n\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{SECRET}|2^31\r\n"
            );
            copies.message(Transport::Tls, at(peer), at("192.0.2.20:5061"), &Bytes::from(text));
        }
    }

    /// Seals a packet as the phone does, passes it through the gateway's session, and lets the tape see it.
    fn passes(&mut self, call: u64, now: Instant, phone: &mut Session, gateway: &mut Session, packet: &[u8]) {
        let mut buffer = PacketBuffer::new();
        buffer.fill(packet);
        phone.handle_packet(now, Side::A, Channel::Rtp, at(SERVER), &mut buffer);
        assert_ne!(buffer.as_slice(), packet, "it is sealed");
        let from = at(PHONE);
        let verdict =
            gateway.handle_packet_shown(now, Side::A, Channel::Rtp, from, &mut buffer, &mut self.tape);
        assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
        let sent = Sent::of(&verdict, buffer.as_slice());
        let (side, channel) = (Side::A, Channel::Rtp);
        self.tape.passed(Passed { call, at: now, side, channel, from: Some(from), ports: PORTS, sent });
    }

    fn ends(mut self, change: impl FnOnce(&mut CallRecord)) -> (CallRecord, tempfile::TempDir, String) {
        let mut record = *a_record("dana");
        change(&mut record);
        self.tape.hand_over();
        // The record is written when the ports are closed, well after the last packet.
        std::thread::sleep(Duration::from_millis(300));
        self.keeping.ended(Some(CallKey::default()), &mut record);
        drop((self.keeping, self.tape));
        self.writer.join();
        (record, self.folder, self.metrics.expose())
    }
}

fn rtp(payload_type: u8, number: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend(number.to_be_bytes());
    packet.extend((160 * u32::from(number)).to_be_bytes());
    packet.extend([0, 0, 0, 7]);
    packet.extend(payload);
    packet
}

fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_sealed_call_becomes_a_recording_and_a_capture_in_the_clear_without_its_keys_and_digits() {
    let mut stage = Stage::new(Captured::All, |_| {});
    let number = stage.begins();
    stage.signals();
    let mut phone = session(leg(SERVER, Protection::Clear), leg(PHONE, sealed(9, 1)));
    let mut formats = Formats::same([0]);
    formats.pass(101, 96);
    let a = LegPlan { formats, ..leg(PHONE, sealed(1, 2)) };
    let mut gateway = session(a, leg(SERVER, sealed(3, 4)));
    let voice: Vec<u8> = (0..160).map(|n| encode_ulaw(if n % 20 < 10 { 4_000 } else { -4_000 })).collect();
    let tone: Vec<u8> = key(2, 1, [6_000.0; 2], 1.0, 160).into_iter().map(encode_ulaw).collect();
    let begun = Instant::now();
    for packet in 0..50_u16 {
        let bytes = match packet {
            10 => rtp(101, packet, &[7, 10, 0, 160]),
            20..=23 => rtp(0, packet, &tone),
            _ => rtp(0, packet, &voice),
        };
        stage.passes(number, begun + PACKET * u32::from(packet), &mut phone, &mut gateway, &bytes);
    }
    let (record, folder, metrics) = stage.ends(|_| {});
    let stem = record.recording.as_deref().unwrap().strip_suffix(".wav").unwrap().to_owned();
    assert_eq!((&record.recording_lacks, record.capture), (&None, Some(format!("{stem}.pcap"))));
    assert!(stem.ends_with("Z-0") && !stem.contains("a-1"), "{stem}");
    assert_eq!(files(&folder.path().join("wav")), [format!("{stem}.wav")]);

    let wav = hound::WavReader::open(folder.path().join("wav").join(format!("{stem}.wav"))).unwrap();
    let samples: Vec<i16> = wav.into_samples::<i16>().map(Result::unwrap).collect();
    assert_eq!(samples.len(), 50 * 320);
    let is_silent = |frame: &[i16]| frame.iter().all(|sample| *sample == 0);
    let silent: Vec<usize> = (0..50).filter(|at| is_silent(&samples[at * 320..][..320])).collect();
    assert_eq!(silent, [10, 19, 20, 21, 22, 23, 24]);

    let pcap = std::fs::read(folder.path().join("pcap").join(format!("{stem}.pcap"))).unwrap();
    let text = String::from_utf8_lossy(&pcap).into_owned();
    assert!(!text.contains(SECRET) && text.contains("inline:xxxx") && !text.contains("Call-ID: other"));
    let found = read(&pcap);
    let (sip, media): (Vec<_>, Vec<_>) = found.iter().partition(|frame| frame.protocol == 6);
    let peers: Vec<_> = sip.iter().map(|frame| frame.from.to_string()).collect();
    assert_eq!(peers, ["192.0.2.10:40000", "192.0.2.30:5063"]);
    assert_eq!(media.len(), 100, "each packet came and went on");
    for (number, both) in media.chunks(2).enumerate() {
        let ends = |at: usize| (both[at].from.to_string(), both[at].to.to_string());
        assert_eq!(ends(0), (PHONE.to_owned(), format!("{GATEWAY}:20000")));
        assert_eq!(ends(1), (format!("{GATEWAY}:20002"), SERVER.to_owned()));
        let expected = match number {
            10 => rtp(101, 10, &[0xFF, 10, 0, 160]),
            19..=24 => rtp(0, number as u16, &[0xFF; 160]),
            _ => rtp(0, number as u16, &voice),
        };
        assert_eq!(both[0].payload, expected, "{number}");
        let on = if number == 10 { 96 } else { 0 };
        assert_eq!((both[1].payload[1], &both[1].payload[2..]), (on, &expected[2..]));
    }
    for kind in ["captures_written", "recordings_written"] {
        assert!(metrics.contains(&format!("umbra_events_total{{kind=\"{kind}\"}} 1\n")), "{metrics}");
    }
}

#[test]
fn only_calls_that_failed_are_captured_unless_all_are_wanted_and_plans_that_are_not_named_are_not_recorded() {
    for (change, is_captured) in [
        ((|record| record.verdict.code = b2bua::codes::COMPLETED) as fn(&mut CallRecord), false),
        (|record| record.offer_result = OfferResult::Rejected, true),
        (|record| record.offer_result = OfferResult::None, false),
        (|_| {}, true),
    ] {
        let mut stage = Stage::new(Captured::Failed, |settings| {
            settings.recordings.as_mut().unwrap().dial_plans = vec!["DP-Other".to_owned()];
        });
        stage.begins();
        stage.signals();
        let (record, folder, _) = stage.ends(change);
        assert_eq!((record.recording, record.recording_lacks), (None, None));
        assert_eq!(record.capture.is_some(), is_captured);
        assert_eq!(files(&folder.path().join("pcap")).len(), usize::from(is_captured));
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_named_in_the_record_and_harms_nothing() {
    let mut stage = Stage::new(Captured::All, |settings| {
        settings.recordings.as_mut().unwrap().folder = Path::new("/dev/null/nowhere").to_owned();
        settings.captures.as_mut().unwrap().folder = Path::new("/dev/null/nowhere").to_owned();
    });
    let number = stage.begins();
    stage.signals();
    let mut phone = session(leg(SERVER, Protection::Clear), leg(PHONE, sealed(9, 1)));
    let mut gateway = session(leg(PHONE, sealed(1, 2)), leg(SERVER, Protection::Clear));
    let begun = Instant::now();
    for packet in 0..5_u16 {
        let bytes = rtp(0, packet, &[0x55; 160]);
        stage.passes(number, begun + PACKET * u32::from(packet), &mut phone, &mut gateway, &bytes);
    }
    let (record, _, metrics) = stage.ends(|_| {});
    assert_eq!(record.recording, None);
    assert!(record.recording_lacks.unwrap().contains("UMB-REC002"), "{:?}", record.recording_lacks);
    assert!(
        metrics.contains("{kind=\"recording\"} 1") && metrics.contains("{kind=\"capture\"} 1"),
        "{metrics}"
    );
}

#[test]
fn a_media_thread_never_waits_for_the_writer() {
    let (notes, waiting) = sync_channel(2);
    let (empty, refill) = sync_channel(CHUNKS);
    (0..3).for_each(|_| empty.try_send(Chunk::new(0)).unwrap());
    let lost = Arc::new(AtomicU64::new(0));
    let mut tape = Tape::new(refill, notes, lost.clone());
    let passed = Passed::of_nothing(Instant::now(), Channel::Rtp);
    for _ in 0..3_000 {
        relay::Tap::on_clear(&mut tape, &[0x80; 172]);
        tape.passed(passed);
    }
    let kept: usize = waiting
        .try_iter()
        .map(|note| match note {
            Note::Chunk(chunk) => chunk.packets().count(),
            _ => panic!("only chunks were handed over"),
        })
        .sum();
    assert!(kept > 700, "two chunks arrived: {kept}");
    let held = 3_000 - kept as u64 - lost.load(Ordering::Relaxed);
    assert!(held < 400, "the rest was counted: {held}");
}
