//! `umbra demo` as a person meets it in the first minute: it passes its own check, two at once do not disturb each
//! other, and Ctrl-C ends it whenever it comes.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Process, folder, umbra};

/// The promise to the user, and some for a busy machine.
const WHOLE_MAX: Duration = Duration::from_secs(40);
/// From Ctrl-C to the end.
const STOP_MAX: Duration = Duration::from_secs(15);

fn demo(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = umbra();
    command.arg("demo").args(arguments).env("NO_COLOR", "1").current_dir(folder);
    command
}

#[test]
fn two_demos_side_by_side_pass_their_own_check_in_folders_of_their_own() {
    let folder = folder();
    let begin = |name| Process::start(name, &mut demo(folder.path(), &["--check", "--once"]), folder.path());
    let mut both = [begin("one"), begin("two")];
    for demo in &mut both {
        let code = demo.wait(WHOLE_MAX);
        let screen = demo.output();
        assert_eq!(code, 0, "{screen}");
        assert!(!screen.contains('\x1b'), "no escape without a terminal:\n{screen}");
        let widest = screen.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{widest:?} columns:\n{screen}");
        for words in ["302 → mbx0", "488 UMB-SEC001", "0001.wav", "um_cdr_", "assertions hold"] {
            assert!(screen.contains(words), "`{words}` is missing:\n{screen}");
        }
    }
    for name in ["umbra-demo", "umbra-demo-2"] {
        let message = folder.path().join(name).join("voicemail/ken/0001.wav");
        assert!(message.is_file(), "{}", message.display());
        let ways = round_trips(&folder.path().join(name).join("cdr"));
        assert!(ways.len() >= 4 && ways.iter().all(|way| (0.0..1_000.0).contains(way)), "{ways:?}");
    }
}

/// What the records in a folder say of the way to a far end and back, in milliseconds, where they say something.
fn round_trips(folder: &Path) -> Vec<f64> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|kind| kind == "jsonl"));
    let text: String = files.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let records = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let sides =
        records.flat_map(|record| ["a", "b"].map(|side| record["media"][side]["round_trip_ms"].as_f64()));
    sides.flatten().collect()
}

#[test]
fn an_interrupt_ends_it_in_the_middle_of_a_call_and_in_the_wait_after() {
    for (arguments, until) in [(&[][..], "Placing"), (&["--quick"][..], "Still running")] {
        let folder = folder();
        let mut demo = Process::start("demo", &mut demo(folder.path(), arguments), folder.path());
        let started = Instant::now();
        while !demo.output().contains(until) {
            assert!(started.elapsed() < WHOLE_MAX, "{}", demo.output());
            std::thread::sleep(Duration::from_millis(20));
        }
        demo.signal("INT");
        assert_eq!(demo.wait(STOP_MAX), 0, "{}", demo.output());
        assert!(demo.output().contains("Draining"), "{}", demo.output());
    }
}

#[test]
fn a_folder_that_no_demo_wrote_is_left_alone() {
    let folder = folder();
    std::fs::write(folder.path().join("umbra.toml"), "mine").unwrap();
    let mut command = demo(folder.path(), &["--once", "--dir", "."]);
    let mut demo = Process::start("demo", &mut command, folder.path());
    assert_eq!(demo.wait(WHOLE_MAX), 1);
    assert!(demo.output().contains("--dir"), "{}", demo.output());
    assert_eq!(std::fs::read_to_string(folder.path().join("umbra.toml")).unwrap(), "mine");
}
