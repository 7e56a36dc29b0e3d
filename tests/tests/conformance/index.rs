//! README.md of this folder maps sections to requirements and tests; here it is held to the tree.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The last cells of the table rows: `file.rs` `test`, or the words "not covered".
fn rows() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("tests/tests/conformance/README.md")).expect("index");
    let rows = text.lines().filter(|line| line.starts_with("| §"));
    let cell = |row: &str, nth: usize| row.split('|').nth(nth).map(|cell| cell.trim().to_owned());
    rows.map(|row| (cell(row, 1).expect("section"), cell(row, 3).expect("test"))).collect()
}

#[test]
fn every_test_the_index_names_exists() {
    let rows = rows();
    let mut named = BTreeSet::new();
    for (section, test) in &rows {
        if test == "not covered" {
            continue;
        }
        let parts: Vec<_> = test.split('`').filter(|part| !part.trim().is_empty()).collect();
        let [file, name] = parts[..] else { panic!("{section}: {test}") };
        let source = std::fs::read_to_string(root().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let is_test = source.split("#[test]").skip(1).any(|after| after.contains(&format!("fn {name}()")));
        assert!(is_test, "{section}: {file} has no test {name}");
        named.insert(name.to_owned());
    }
    assert!(named.len() > 50, "{} tests named", named.len());
}

#[test]
fn every_test_of_this_folder_is_in_the_index() {
    let named: BTreeSet<_> = rows().into_iter().map(|(_, test)| test).collect();
    for file in ["rfc3261/s08_uas.rs", "rfc4475/mod.rs", "rfc5118/mod.rs"] {
        let file = format!("tests/tests/conformance/{file}");
        let source = std::fs::read_to_string(root().join(&file)).expect("source");
        for after in source.split("#[test]\nfn ").skip(1) {
            let name = after.split('(').next().expect("name");
            assert!(named.contains(&format!("`{file}` `{name}`")), "{file}: {name} is not in the index");
        }
    }
}
