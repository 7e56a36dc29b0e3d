//! The stored corpus of every fuzz target, replayed without a fuzzer: what was found once is tried for ever.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use umbra_tests::targets::TARGETS;

/// `UMBRA_CORPUS` names another folder with one folder per target.
fn corpus() -> PathBuf {
    match std::env::var_os("UMBRA_CORPUS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus"),
    }
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = corpus().join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_stored_input_keeps_the_promises_of_its_target() {
    let mut broken = BTreeMap::new();
    let mut seen = 0;
    for (name, target) in TARGETS {
        for file in inputs(name) {
            seen += 1;
            let bytes = std::fs::read(&file).unwrap();
            if catch_unwind(AssertUnwindSafe(|| target(&bytes))).is_err() {
                broken.insert(file, name);
            }
        }
    }
    println!("{seen} inputs");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn no_target_goes_without_inputs() {
    for (name, _) in TARGETS {
        assert!(!inputs(name).is_empty(), "{name} has no stored input");
    }
}
