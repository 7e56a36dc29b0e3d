//! What the binary keeps of a sealed call: a recording in which the speech is and no key, and a capture that tcpdump reads.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::audio::{Law, tone, tone_share};

use super::end::{EVENT, End, SPEECH};
use super::{PORTS, Relay, Umbra};
use crate::harness::peers_present;

const PATIENCE: Duration = Duration::from_secs(10);
const PACKET: Duration = Duration::from_millis(20);
const SAMPLES: usize = 160;
/// What the caller hums; no two packets of it are alike for ten seconds.
const HUM_HZ: f64 = 441.3;
/// A key.
const KEY_HZ: [f64; 2] = [770.0, 1_336.0];

fn start() -> Umbra {
    Umbra::start_as(true, PORTS, |config| {
        let recording = "[media]\nrecording = { directory = \"recordings\", dial_plans = [\"DP\"] }\n";
        let capture = "[observe]\ncapture = { directory = \"captures\", calls = \"all\", media = \"rtp\" }\n";
        config.replace("[media]\n", recording).replace("[observe]\n", capture)
    })
}

/// Speaks that many packets from both ends at the pace of a telephone. The caller hums, but for a key from the 40th on, as a tone and
/// then as an event.
fn talk(a: &mut End, b: &mut End, packets: usize) {
    let begun = Instant::now();
    let hum = tone(HUM_HZ, -15.0, SAMPLES * packets);
    let key: Vec<i16> = tone(KEY_HZ[0], -15.0, SAMPLES * 4)
        .into_iter()
        .zip(tone(KEY_HZ[1], -15.0, SAMPLES * 4))
        .map(|(low, high)| low + high)
        .collect();
    for number in 0..packets {
        let samples = match number {
            40..44 => &key[(number - 40) * SAMPLES..][..SAMPLES],
            _ => &hum[number * SAMPLES..][..SAMPLES],
        };
        a.timestamp = a.timestamp.wrapping_add(SAMPLES as u32);
        let mut payload = Vec::new();
        Law::Mu.encode_into(samples, &mut payload);
        let packet = match number {
            46 => a.next(EVENT, a.timestamp, &[5, 0x8A, 3, 0x20]),
            _ => a.next(SPEECH, a.timestamp, &payload),
        };
        a.rtp.send_to(&packet, a.relay().0).unwrap();
        b.speaks();
        std::thread::sleep((begun + PACKET * number as u32).saturating_duration_since(Instant::now()));
    }
    a.reports();
}

/// The file of that name, once it is there.
fn wait_for(path: PathBuf) -> PathBuf {
    let until = Instant::now() + PATIENCE;
    while !path.is_file() {
        assert!(Instant::now() < until, "{} does not come", path.display());
        std::thread::sleep(Duration::from_millis(50));
    }
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    path
}

/// Left and right.
fn sides(path: &Path) -> [Vec<i16>; 2] {
    let samples: Vec<i16> =
        hound::WavReader::open(path).unwrap().into_samples::<i16>().map(Result::unwrap).collect();
    [0, 1].map(|side| samples.iter().skip(side).step_by(2).copied().collect())
}

/// Whether the key is heard in a window of 25 ms anywhere.
fn has_key(samples: &[i16]) -> bool {
    let is_key = |window: &[i16]| KEY_HZ.iter().all(|hz| tone_share(window, *hz) > 0.02);
    samples.windows(200).step_by(20).any(|window| window.iter().any(|s| s.abs() > 20) && is_key(window))
}

#[test]
fn a_sealed_call_is_recorded_and_captured_in_the_clear_and_no_key_of_it_is_kept() {
    let mut umbra = start();
    let mut ends = End::pair(umbra.homes(), 1, [true; 2]);
    let [a, b] = &mut ends;
    umbra.begins(1, a, b);
    talk(a, b, 100);
    umbra.ends(1);
    let record = umbra.stage.umbra.wait_for_records(1, PATIENCE).remove(0);
    let folder = umbra.stage.umbra.folder.path().to_owned();
    let name =
        |key: &str| record[key].as_str().unwrap_or_else(|| panic!("no {key} in {record:#}")).to_owned();
    // Written two seconds after the end, when the recording is long whole.
    let capture = wait_for(folder.join("captures").join(name("capture")));
    let recording = wait_for(folder.join("recordings").join(name("recording")));
    let [left, right] = sides(&recording);
    println!("{}: {:.2} s", name("recording"), left.len() as f64 / 8_000.0);
    assert!(left.len() >= 98 * SAMPLES && left.len() == right.len(), "{}", left.len());
    let hums = left.chunks(SAMPLES).filter(|frame| tone_share(frame, HUM_HZ) > 0.9).count();
    let voiced = right.chunks(SAMPLES).filter(|frame| frame.iter().any(|sample| *sample != 0)).count();
    assert!((85..=95).contains(&hums) && voiced >= 85, "{hums} frames of the caller, {voiced} of the callee");
    assert!(!has_key(&left) && !has_key(&right), "a key can be heard");

    let bytes = std::fs::read(&capture).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert_eq!(text.matches("inline:").count(), text.matches("inline:xxxxxxxx").count());
    assert!(text.contains("inline:xxxxxxxx") && text.matches("BYE ").count() >= 2, "messages of both legs");
    assert!(
        text.contains(" RTP/AVP 0 101") && !text.contains("RTP/SAVP"),
        "what is decrypted is described so"
    );
    let mut sounded = Vec::new();
    Law::Mu.encode_into(&tone(HUM_HZ, -15.0, SAMPLES * 100)[SAMPLES..2 * SAMPLES], &mut sounded);
    let clear = bytes.windows(SAMPLES).filter(|window| *window == sounded).count();
    assert_eq!(clear, 2, "a packet stands there as it came and as it went on, opened");
    if peers_present(&["tcpdump"]) {
        reads(&capture, &umbra);
    }
    if peers_present(&["sngrep"]) {
        finds_dialogs(&capture);
    }
}

/// sngrep finds the two legs, and keeps every packet with them.
fn finds_dialogs(capture: &Path) {
    let copy = capture.with_extension("sngrep");
    let mut command = Command::new("sngrep");
    command.args(["-N", "-r", "-I"]).arg(capture).arg("-O").arg(&copy).env("TERM", "dumb");
    let out = command.stdin(std::process::Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success() && text.contains("Dialog count: 2"), "{text}");
    assert_eq!(std::fs::metadata(&copy).unwrap().len(), std::fs::metadata(capture).unwrap().len());
}

/// tcpdump finds nothing wrong with it, and the four ways of the packets.
fn reads(capture: &Path, umbra: &Umbra) {
    let out = Command::new("tcpdump").args(["-nn", "-vv", "-r"]).arg(capture).output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert!(!text.contains("bad ") && !text.contains("truncated") && !text.contains("incorrect"), "{text}");
    let [caller, callee] = umbra.homes();
    let own = umbra.address();
    for (from, to) in [(caller, own), (own, callee), (callee, own), (own, caller)] {
        let is_one = |line: &&str| {
            line.contains(&format!("{from}."))
                && line.contains(&format!("> {to}."))
                && line.contains("udp sum ok")
        };
        let packets = text.lines().filter(is_one).count();
        println!("tcpdump: {packets} datagrams from {from} to {to}");
        assert!(packets >= 98, "{packets} from {from} to {to}:\n{text}");
    }
}

#[test]
fn a_recording_of_a_gateway_that_was_killed_opens() {
    let mut umbra = start();
    let mut ends = End::pair(umbra.homes(), 1, [true; 2]);
    let [a, b] = &mut ends;
    umbra.begins(1, a, b);
    talk(a, b, 150);
    umbra.stage.umbra.process.signal("KILL");
    umbra.stage.umbra.process.wait(PATIENCE);
    let folder = umbra.stage.umbra.folder.path().join("recordings");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [left, _] = sides(&files[0]);
    println!("{:.2} s of 3 s", left.len() as f64 / 8_000.0);
    assert!(files.len() == 1 && left.len() >= 8_000, "{} samples", left.len());
    assert!(!has_key(&left), "a key can be heard");
}
