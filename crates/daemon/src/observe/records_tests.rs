//! Records on a real (temporary) disk.

use std::time::Duration;

use b2bua::record::{CallType, OfferResult, ReasonForCall};
use b2bua::verdict::Verdict;

use super::*;

/// A call of this caller.
pub(crate) fn record(caller: &str) -> Box<CallRecord> {
    let now = Instant::now();
    let code = b2bua::codes::POOL_PLAN_MISMATCH;
    Box::new(CallRecord {
        call_id: String::from("a-1"),
        b_call_id: Some(String::from("b-1")),
        parent_call_id: None,
        started_at: now,
        answered_at: Some(now),
        ended_at: now,
        setup: Some(Duration::from_millis(21)),
        duration: Duration::from_secs(65),
        call_type: CallType::CallAnswering,
        caller: caller.to_owned(),
        called: String::from("ken@contoso.test"),
        dialed: String::from("ken"),
        diverted_from: None,
        reason_for_call: ReasonForCall::DivertNoAnswer,
        dial_plan: Some(String::from("DP-Sip")),
        ip_gateway: Some(String::from("pool01")),
        ip_gateway_address: Some(String::from("127.0.0.10")),
        server: Some(String::from("mbx01.contoso.test")),
        caller_mailbox: None,
        callee_mailbox: Some(String::from("ken")),
        auto_attendant: None,
        offer_result: OfferResult::Answer,
        drop_reason: String::from("GracefulHangup"),
        verdict: Verdict::new(code, "ken", "left a message"),
        transport_a: String::from("tls"),
        transport_b: String::from("tls"),
        security: String::from("TLS+SRTP"),
        redirects: 2,
        failovers: 0,
        codec: Some(String::from("PCMU")),
        transferred_to: None,
        media: None,
        recording: None,
        recording_lacks: None,
        capture: None,
    })
}

fn settings(folder: &Path) -> RecordSettings {
    RecordSettings { folder: folder.join("cdr"), jsonl: Written::Yes, um_csv: Written::Yes }
}

fn write(folder: &Path, callers: &[&str]) {
    let (writer, sender) = RecordWriter::start(settings(folder), Arc::new(Metrics::new())).unwrap();
    callers.iter().for_each(|caller| sender.send(record(caller)));
    drop(sender);
    writer.join();
}

fn file_ending(folder: &Path, end: &str) -> String {
    let mut entries = std::fs::read_dir(folder.join("cdr")).unwrap().map(|entry| entry.unwrap().path());
    let path = entries.find(|path| path.to_string_lossy().ends_with(end)).unwrap();
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn each_call_is_one_line_in_both_files_and_the_header_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &["+14255550101"]);
    write(folder.path(), &["+14255550102"]);
    let csv = file_ending(folder.path(), ".csv");
    assert_eq!(csv.lines().count(), 3, "{csv}");
    assert!(csv.starts_with("CallStartTime,CallType,CallIdentity,"));
    assert!(csv.contains("Call Answering Voice Message") && csv.contains(",00:01:05,"), "{csv}");
    let jsonl = file_ending(folder.path(), ".jsonl");
    let lines: Vec<serde_json::Value> =
        jsonl.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["caller"], "+14255550102");
    assert!(lines[0]["call_start_time"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn records_that_wait_together_are_all_written_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let callers: Vec<String> = (0..3 * BATCH_MAX + 1).map(|n| format!("+1425555{n:04}")).collect();
    let (queue, waiting) = sync_channel(QUEUE_MAX);
    callers.iter().for_each(|caller| queue.send(record(caller)).unwrap());
    drop(queue);
    let metrics = Metrics::new();
    std::fs::create_dir(folder.path().join("cdr")).unwrap();
    write_all(&settings(folder.path()), &waiting, &metrics);
    let jsonl = file_ending(folder.path(), ".jsonl");
    let written = jsonl.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let written: Vec<String> = written.map(|line| line["caller"].as_str().unwrap().to_owned()).collect();
    assert_eq!(written, callers);
    assert_eq!(file_ending(folder.path(), ".csv").lines().count(), callers.len() + 1);
}

#[test]
fn formulas_quotes_and_control_characters_stay_data() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &["=cmd|' /C calc'!A0", "x\r\ny,\"z\"\u{1b}[31m"]);
    let csv = file_ending(folder.path(), ".csv");
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let callers: Vec<String> = reader.records().map(|row| row.unwrap()[9].to_owned()).collect();
    assert_eq!(callers[0], "'=cmd|' /C calc'!A0");
    assert!(callers[1].starts_with("x  y,\"z\""), "{callers:?}");
    assert!(!csv.contains('\u{1b}'));
    assert_eq!(file_ending(folder.path(), ".jsonl").lines().count(), 2);
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_at_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cdr"), "a file").unwrap();
    assert!(RecordWriter::start(settings(folder.path()), Arc::new(Metrics::new())).is_err());
}
