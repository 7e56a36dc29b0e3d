//! Files of recordings: what is in them, when they open, and what ends them.

use std::path::Path;

use audio_codec_algorithms::{encode_alaw, encode_ulaw};
use hound::WavReader;

use super::super::folder::Room;
use super::*;

const PACKET: Duration = Duration::from_millis(20);
const WIDE: Room = Room { bytes_max: 1 << 30, files_max: 9 };

fn head(payload_type: u8, number: u16) -> RtpHead {
    RtpHead { payload_type, sequence: number, timestamp: 160 * u32::from(number), ssrc: 7, header_bytes: 12 }
}

fn start(call_max: Duration) -> (Recording, Arc<Fate>, Instant) {
    let fate = Arc::new(Fate::default());
    (Recording::new("one".to_owned(), fate.clone(), call_max), fate, Instant::now())
}

/// Two seconds: the caller in one law, the callee in the other, digits as events between, and comfort noise.
fn speak(
    recording: &mut Recording,
    folder: &mut Folder,
    begun: Instant,
    packets: u16,
) -> Result<(), Refused> {
    for number in 0..packets {
        let at = begun + PACKET * u32::from(number);
        let (left, right) = ([encode_ulaw(1_000); FRAME], [encode_alaw(-2_000); FRAME]);
        match number % 10 {
            4 => recording.on_rtp(folder, Side::A, at, &head(101, number), &[5, 10, 3, 0x20])?,
            5 => recording.on_rtp(folder, Side::A, at, &head(COMFORT_NOISE, number), &[40])?,
            _ => recording.on_rtp(folder, Side::A, at, &head(PCMU, number), &left)?,
        }
        recording.on_rtp(folder, Side::B, at, &head(PCMA, number), &right)?;
    }
    Ok(())
}

fn samples(path: &Path) -> (WavSpec, Vec<i16>) {
    let reader = WavReader::open(path).unwrap();
    (reader.spec(), reader.into_samples::<i16>().map(Result::unwrap).collect())
}

#[test]
fn a_file_has_the_caller_left_the_callee_right_and_silence_where_keys_and_noise_were() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = Folder::new(place.path(), ".wav", WIDE);
    let (mut recording, fate, begun) = start(Duration::from_secs(60));
    assert_eq!(fate.told(), (false, Lack::NoAudio));
    speak(&mut recording, &mut folder, begun, 100).unwrap();
    recording.finish(&mut folder).unwrap();
    let (spec, samples) = samples(&place.path().join("one.wav"));
    assert_eq!((spec, samples.len()), (SPEC, 100 * FRAME * 2));
    for (number, frame) in samples.chunks(FRAME * 2).enumerate() {
        let left = if matches!(number % 10, 4 | 5) { 0 } else { 988 };
        assert!((frame[0] - left).abs() < 20 && (frame[1] + 2_000).abs() < 70, "{number}: {:?}", &frame[..2]);
    }
    assert_eq!((fate.told(), recording.late), ((true, Lack::Nothing), 0));
}

#[test]
fn a_file_that_nobody_finished_opens_up_to_its_last_second() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = Folder::new(place.path(), ".wav", WIDE);
    let (mut recording, _, begun) = start(Duration::from_secs(60));
    speak(&mut recording, &mut folder, begun, 200).unwrap();
    // As after a kill: what the process still held is lost.
    let copy = place.path().join("copy.wav");
    std::fs::copy(place.path().join("one.wav"), &copy).unwrap();
    let (_, samples) = samples(&copy);
    assert!(samples.len() >= 2 * FRAME * 2 * 50 && samples.len() % 2 == 0, "{}", samples.len());
}

#[test]
fn a_recording_ends_at_its_length_and_at_the_room_of_its_folder() {
    let place = tempfile::tempdir().unwrap();
    let mut folder = Folder::new(place.path(), ".wav", WIDE);
    let (mut recording, fate, begun) = start(Duration::from_secs(1));
    speak(&mut recording, &mut folder, begun, 200).unwrap();
    assert_eq!(fate.told(), (true, Lack::Length));
    let (_, long) = samples(&place.path().join("one.wav"));
    assert_eq!(long.len(), 50 * FRAME * 2);

    let place = tempfile::tempdir().unwrap();
    let room = Room { bytes_max: HEADER_BYTES + 40 * FRAME_BYTES, files_max: 9 };
    let mut folder = Folder::new(place.path(), ".wav", room);
    let (mut recording, fate, begun) = start(Duration::from_secs(60));
    assert!(matches!(speak(&mut recording, &mut folder, begun, 200), Err(Refused::Full)));
    speak(&mut recording, &mut folder, begun, 200).unwrap();
    assert_eq!(fate.told(), (true, Lack::Full));
    let (_, cut) = samples(&place.path().join("one.wav"));
    assert_eq!(cut.len(), 40 * FRAME * 2);
}

#[test]
fn a_folder_that_cannot_be_written_is_told_once_and_another_encoding_makes_no_file() {
    let mut folder = Folder::new(Path::new("/dev/null/nowhere"), ".wav", WIDE);
    let (mut recording, fate, begun) = start(Duration::from_secs(60));
    assert!(matches!(speak(&mut recording, &mut folder, begun, 5), Err(Refused::System(_))));
    speak(&mut recording, &mut folder, begun, 5).unwrap();
    assert_eq!(fate.told(), (false, Lack::System));

    let place = tempfile::tempdir().unwrap();
    let mut folder = Folder::new(place.path(), ".wav", WIDE);
    let (mut recording, fate, begun) = start(Duration::from_secs(60));
    recording.on_rtp(&mut folder, Side::A, begun, &head(115, 1), &[1; 40]).unwrap();
    recording.finish(&mut folder).unwrap();
    assert_eq!(fate.told(), (false, Lack::Encoding));
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}
