//! `recording` of `[media]` and `capture` of `[observe]`: what is kept of calls on disk. Both are off unless they are there, and both are
//! warned of when they are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use b2bua::codes;
use b2bua::policy::MediaMode;

use super::Compiled;
use super::reader::Reader;
use super::sections::count;
use crate::keep::{CaptureSettings, Captured, CapturedMedia, RecordingSettings, Room};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const FILES_MAX: u64 = 1_000_000;
/// More memory than this for captures is better spent elsewhere.
const RING_MAX: u64 = 4 * GIB;

pub(super) fn recordings(table: &Reader<'_>, base: &Path) -> Option<RecordingSettings> {
    if !table.is_present() {
        return None;
    }
    let minutes = |count: u64| Duration::from_secs(count * 60);
    let folder = directory(table, base);
    let dial_plans = table.need_list("dial_plans");
    let call_max = table.duration("call_max", Duration::from_secs(1)..=minutes(120));
    let room = room(table, Room { bytes_max: 10 * GIB, files_max: 10_000 });
    table.warn(codes::RECORDING_ON, "dial_plans", format!("calls of {} are recorded", dial_plans.join(", ")));
    table.finish();
    Some(RecordingSettings { folder, dial_plans, call_max: call_max.unwrap_or(minutes(30)), room })
}

pub(super) fn captures(table: &Reader<'_>, base: &Path) -> Option<CaptureSettings> {
    if !table.is_present() {
        return None;
    }
    let calls = table.word("calls", &[("failed", Captured::Failed), ("all", Captured::All)]);
    let media = table.word("media", &[("none", CapturedMedia::None), ("rtp", CapturedMedia::Rtp)]);
    let ring_bytes = count(table.size("ring", MIB..=RING_MAX), 64 * MIB as usize);
    let captures = CaptureSettings {
        folder: directory(table, base),
        calls: calls.unwrap_or(Captured::Failed),
        media: media.unwrap_or(CapturedMedia::None),
        ring_bytes,
        room: room(table, Room { bytes_max: GIB, files_max: 1_000 }),
    };
    let what = match captures.media {
        CapturedMedia::None => "SIP messages of calls are written to disk",
        CapturedMedia::Rtp => "SIP messages and the decrypted audio of calls are written to disk",
    };
    table.warn(codes::CAPTURE_ON, "directory", what);
    table.finish();
    Some(captures)
}

fn directory(table: &Reader<'_>, base: &Path) -> PathBuf {
    table.need_text("directory");
    table.file("directory", base).unwrap_or_default()
}

fn room(table: &Reader<'_>, default: Room) -> Room {
    Room {
        bytes_max: table.size("total", MIB..=u64::MAX).unwrap_or(default.bytes_max),
        files_max: table.whole("files_max", 1..=FILES_MAX).unwrap_or(default.files_max),
    }
}

/// The plans that are recorded must be there, and their media must pass here.
pub(super) fn check(compiled: &Compiled, root: &Reader<'_>) {
    let is_unanchored = compiled.policy.gateway.media_mode == MediaMode::Unanchored;
    let captures = compiled.observe.captures.as_ref();
    for (setting, is_wanted) in [
        ("media.recording", compiled.media.recordings.is_some()),
        ("observe.capture.media", captures.is_some_and(|captures| captures.media == CapturedMedia::Rtp)),
    ] {
        if is_wanted && is_unanchored {
            root.error(codes::CFG_VALUE, setting, "media that is \"unanchored\" does not pass this gateway");
        }
    }
    let Some(recordings) = &compiled.media.recordings else { return };
    for wanted in &recordings.dial_plans {
        if !compiled.policy.dial_plans.iter().any(|plan| plan.name.eq_ignore_ascii_case(wanted)) {
            let what = format!("`{wanted}` is no [[dial_plan]]");
            root.error(codes::CFG_UNRESOLVED, "media.recording.dial_plans", what);
        }
    }
}
