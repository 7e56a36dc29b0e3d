//! What must be true after the demo, judged on facts: the callers' outcomes, the lab's files, the gateway's records.
//! Owns the assertions and their words; refuses to place calls or to print.

use std::path::{Path, PathBuf};

use b2bua::record::CSV_COLUMNS;
use lab::audio::{BEEP_HZ, dominant_hz, read_wav};
use lab::frontend::CallOutcome;
use lab::um::{MediaKind, Milestone, StoredMessage};
use serde_json::Value;

use super::calls::{Placed, SCENES, Shows};
use super::config::DOMAIN;
use super::facts::{Facts, notified};
use super::records::Records;

/// A stored tone may be off by this much.
const TONE_TOLERANCE_HZ: f64 = 5.0;
/// Shortest message that holds what the caller said, in parts of the time he talked.
const MESSAGE_SHORTEST: f64 = 0.9;
/// RTP packets in a second; fewer heard in the whole call means that the greeting did not come.
const PACKETS_MIN: u64 = 50;
/// Softest greeting, pauses between words included.
const GREETING_SOFTEST_DBFS: f64 = -40.0;
/// The greeting lasts longer than this, so the beep cannot come earlier.
const BEEP_EARLIEST_MS: u128 = 800;

/// One assertion.
#[derive(Clone, Debug)]
pub(super) struct Check {
    /// Call it belongs to; 0 = the whole demo.
    pub(super) call: u8,
    /// What must hold.
    pub(super) what: String,
    /// What was found instead.
    pub(super) failure: Option<String>,
}

/// The assertions so far.
#[derive(Debug, Default)]
pub(super) struct Checks {
    call: u8,
    pub(super) all: Vec<Check>,
}

impl Checks {
    /// Asserts.
    pub(super) fn that(&mut self, holds: bool, what: impl Into<String>, found: impl std::fmt::Debug) {
        let failure = (!holds).then(|| format!("{found:?}"));
        self.all.push(Check { call: self.call, what: what.into(), failure });
    }

    fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, found: T, wanted: T) {
        let holds = found == wanted;
        self.that(holds, format!("{what} is {wanted:?}"), found);
    }

    /// No assertion of this call failed.
    pub(super) fn passed(&self, call: u8) -> bool {
        self.all.iter().filter(|check| check.call == call).all(|check| check.failure.is_none())
    }

    /// Those that failed.
    pub(super) fn failed(&self) -> impl Iterator<Item = &Check> {
        self.all.iter().filter(|check| check.failure.is_some())
    }

    /// Assertions that follow are about the demo as a whole.
    pub(super) fn about_everything(&mut self) {
        self.call = 0;
    }
}

/// Judges every call.
pub(super) fn judge(placed: &[Placed], facts: &Facts, records: &Records) -> Checks {
    let mut checks = Checks::default();
    for call in placed {
        checks.call = call.scene.number;
        match &call.outcome {
            Ok(outcome) => judge_call(&mut checks, call, outcome, facts, records),
            Err(problem) => checks.that(false, "the call could be placed", problem.to_string()),
        }
    }
    checks.about_everything();
    message_waiting(&mut checks, facts);
    record_files(&mut checks, placed.len(), records);
    checks
}

fn judge_call(checks: &mut Checks, call: &Placed, outcome: &CallOutcome, facts: &Facts, records: &Records) {
    checks.equal("redirects that the caller saw", outcome.redirects_seen, 0);
    let Some(record) = records.of(&outcome.call_id) else {
        return checks.that(false, "the call is on record", &outcome.call_id);
    };
    match call.scene.shows {
        Shows::Missed => missed(checks, outcome, record, facts),
        Shows::Refusal => refusal(checks, outcome, record),
        Shows::VoiceAccess => voice_access(checks, outcome, record, facts),
        Shows::Attendant => attendant(checks, outcome, record, facts),
        Shows::Secured | Shows::SipSecured | Shows::Plain | Shows::FailOver => {
            answered(checks, call, outcome, record, facts);
        }
    }
    match call.scene.shows {
        Shows::Secured => {
            checks.equal("redirects on record", record["redirects"].as_u64(), Some(2));
            checks.equal("security on record", record["security"].as_str(), Some("TLS+SRTP"));
        }
        Shows::FailOver => fail_over(checks, call, record, facts.stored(&outcome.call_id)),
        _ => {}
    }
}

fn answered(checks: &mut Checks, call: &Placed, outcome: &CallOutcome, record: &Value, facts: &Facts) {
    checks.equal("status", outcome.status, 200);
    checks.equal("offer_result on record", record["offer_result"].as_str(), Some("Answer"));
    let media = if call.scene.plan_security == "Secured" { MediaKind::Srtp } else { MediaKind::Rtp };
    checks.equal("media of the caller's leg", outcome.media, Some(media));
    checks.equal("fault in the answer", outcome.answer_fault.as_deref(), None);
    let heard = &outcome.heard;
    let is_beep = |hz: f64| (hz - BEEP_HZ).abs() < TONE_TOLERANCE_HZ;
    checks.that(
        heard.packets >= PACKETS_MIN && heard.greeting_dbfs >= GREETING_SOFTEST_DBFS,
        "the caller heard the greeting",
        heard,
    );
    checks.that(heard.dominant_hz.is_some_and(is_beep), "the loudest thing he heard is the beep", heard);
    let beep_ms = heard.beep_at.map(|at| at.as_millis());
    checks.that(
        beep_ms.is_some_and(|ms| ms >= BEEP_EARLIEST_MS),
        "the caller heard the beep after the greeting",
        beep_ms,
    );
    checks.equal("packets the caller refused", heard.rejected, 0);
    match facts.stored(&outcome.call_id) {
        Some(message) => stored(checks, call, &message),
        None => checks.that(false, "a voice message was stored", &outcome.call_id),
    }
}

fn stored(checks: &mut Checks, call: &Placed, message: &StoredMessage) {
    let tone = read_wav(&message.wav).map(|samples| dominant_hz(&samples));
    let wanted = call.scene.hz;
    checks.that(
        matches!(tone, Ok(Some(hz)) if (hz - wanted).abs() < TONE_TOLERANCE_HZ),
        format!("the stored message holds the caller's tone of {wanted:.0} Hz"),
        &tone,
    );
    let note = std::fs::read(&message.json).ok().and_then(|text| serde_json::from_slice::<Value>(&text).ok());
    let Some(note) = note else {
        return checks.that(false, "the side file can be read", &message.json);
    };
    checks.equal("security in the side file", note["security"].as_str(), Some(call.scene.plan_security));
    let length = note["duration_s"].as_f64().unwrap_or_default();
    let shortest = MESSAGE_SHORTEST * call.talked.as_secs_f64();
    checks.that(length >= shortest, format!("the message lasts {shortest:.1} s or more"), length);
}

fn fail_over(checks: &mut Checks, call: &Placed, record: &Value, message: Option<StoredMessage>) {
    let dead = call.dead_server.unwrap_or_default();
    let server = record["server"].as_str().unwrap_or_default();
    checks.that(
        !server.is_empty() && server != dead,
        format!("the record names another server than {dead}"),
        server,
    );
    let failovers = record["failovers"].as_u64();
    checks.that(failovers >= Some(1), "the record counts the fail-over", failovers);
    let took = message.map(|message| message.note.server);
    checks.equal("the server that stored the message", took.as_deref(), Some(server));
}

fn missed(checks: &mut Checks, outcome: &CallOutcome, record: &Value, facts: &Facts) {
    checks.equal("status", outcome.status, 487);
    checks.equal("call_type on record", record["call_type"].as_str(), Some("Call Answering Missed Call"));
    let mailbox = facts.missed(&outcome.call_id).map(|missed| missed.mailbox);
    checks.equal("mailbox of the missed-call notification", mailbox.as_deref(), Some("ken"));
    let message = facts.stored(&outcome.call_id).map(|message| message.wav);
    checks.equal("voice message of a missed call", message, None);
}

fn refusal(checks: &mut Checks, outcome: &CallOutcome, record: &Value) {
    checks.equal("status", outcome.status, 488);
    checks.equal("reason phrase", outcome.reason.as_str(), "Incompatible security setting");
    let warning = outcome.header("Warning").unwrap_or_default();
    checks.that(warning.starts_with("399 "), "a Warning 399 says why", warning);
    let diagnostics = outcome.header("ms-diagnostics").unwrap_or_default();
    checks.that(diagnostics.starts_with("61001;"), "ms-diagnostics is 61001", diagnostics);
    checks.equal("code on record", record["verdict"]["code"].as_str(), Some("UMB-SEC001"));
    checks.equal("offer_result on record", record["offer_result"].as_str(), Some("Rejected"));
}

fn voice_access(checks: &mut Checks, outcome: &CallOutcome, record: &Value, facts: &Facts) {
    checks.equal("status", outcome.status, 200);
    checks.equal("call_type on record", record["call_type"].as_str(), Some("Subscriber Access"));
    let done = facts.milestones(record["b_call_id"].as_str().unwrap_or_default());
    let is_whole = matches!(
        &done[..],
        [Milestone::LoggedOn { mailbox }, Milestone::Played { .. }] if mailbox == "ken"
    );
    checks.that(is_whole, "the PIN let ken in and a message was played", &done);
    let tone = outcome.heard.dominant_hz;
    let is_first = tone.is_some_and(|hz| (hz - SCENES[0].hz).abs() < TONE_TOLERANCE_HZ);
    checks.that(is_first, format!("ken heard the {:.0} Hz of call 1", SCENES[0].hz), tone);
}

fn attendant(checks: &mut Checks, outcome: &CallOutcome, record: &Value, facts: &Facts) {
    checks.equal("status", outcome.status, 200);
    checks.equal("call_type on record", record["call_type"].as_str(), Some("Auto Attendant"));
    let to = format!("<sip:ken@{DOMAIN}>");
    checks.equal("Refer-To at the Front End", &outcome.referred_to[..], &[to][..]);
    let done = facts.milestones(record["b_call_id"].as_str().unwrap_or_default());
    let is_over = matches!(done.last(), Some(Milestone::TransferEnded { status: 200, .. }));
    checks.that(is_over, "the Front End's NOTIFY 200 reached UM", &done);
}

/// Every change of Ken's mailbox became a NOTIFY that his pool took.
fn message_waiting(checks: &mut Checks, facts: &Facts) {
    let told = facts.all(|fact| notified(fact, "ken"));
    let changes = facts.waiting("ken").len();
    checks.that(
        told.len() == changes && !told.is_empty() && told.iter().all(|status| *status == 200),
        format!("ken's pool answered 200 to the NOTIFY of each of {changes} changes of his mailbox"),
        &told,
    );
}

fn record_files(checks: &mut Checks, calls: usize, records: &Records) {
    checks.equal("calls in the JSON records", records.lines.len(), calls);
    let columns = CSV_COLUMNS.join(",");
    match csv_text(&records.csv) {
        Some(text) => {
            let mut lines = text.lines();
            checks.equal("header row of the CSV records", lines.next(), Some(columns.as_str()));
            checks.equal("rows of the CSV records", lines.count(), calls);
        }
        None => checks.that(false, "the CSV records can be read", &records.csv),
    }
}

fn csv_text(path: &Option<PathBuf>) -> Option<String> {
    let path: &Path = path.as_deref()?;
    std::fs::read_to_string(path).ok()
}
