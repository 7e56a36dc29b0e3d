//! Keeps the house in the shape ARCHITECTURE.md draws: arrows between packages, file sizes, sans-IO rooms, and
//! nothing in the tree that is a secret.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test fails by panicking

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every package and the packages of this workspace it may depend on at run time.
const ARROWS: &[(&str, &[&str])] = &[
    ("umbra-sip", &[]),
    ("umbra-sdp", &[]),
    ("umbra-relay", &[]),
    ("umbra-b2bua", &["umbra-sip", "umbra-sdp", "umbra-relay"]),
    ("umbra-lab", &["umbra-sip", "umbra-sdp", "umbra-relay"]),
    ("umbra", &["umbra-sip", "umbra-sdp", "umbra-relay", "umbra-b2bua", "umbra-lab"]),
    ("umbra-tests", &["umbra-sip", "umbra-sdp", "umbra-relay", "umbra-b2bua", "umbra-lab"]),
    ("umbra-benches", &["umbra-sip", "umbra-sdp", "umbra-relay", "umbra-b2bua", "umbra-lab", "umbra"]),
];

/// Packages that may not pull in a runtime, a socket library or a TLS stack, not even by way of somebody else.
const SANS_IO: &[&str] = &["umbra-sip", "umbra-sdp", "umbra-b2bua"];
const WORLDLY: &[&str] = &["tokio", "mio", "socket2", "rustls", "tokio-rustls", "hickory-resolver", "axum"];

/// Crates the product promises to use, and where.
const REQUIRED: &[(&str, &str)] = &[
    ("tokio", "umbra"),
    ("rsip", "umbra-sip"),
    ("tokio-rustls", "umbra"),
    ("rustls", "umbra"),
    ("webrtc-srtp", "umbra-relay"),
    ("bytes", "umbra-sip"),
    ("tracing", "umbra"),
    ("tracing-subscriber", "umbra"),
    ("config", "umbra"),
    ("dashmap", "umbra"),
];

/// No source file is longer than this.
const FILE_LINES_MAX: usize = 1000;

/// Modules that may leave the checked part of the language: none.
const UNSAFE_MODULES: &[&str] = &[];

/// Folders without a clock, socket, task or file; the lab's protocol logic is one inside a crate with a shell.
const SANS_IO_FOLDERS: &[&str] =
    &["crates/sip/src", "crates/sdp/src", "crates/relay/src", "crates/b2bua/src", "crates/lab/src/um"];
const WORLDLY_WORDS: &[&str] = &[
    "Instant::now(",
    "SystemTime::now(",
    "tokio::",
    "thread::spawn",
    "thread::sleep",
    "UdpSocket::",
    "TcpStream::",
    "std::env::",
    "std::fs::",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// A build downloads the crates of this machine's platform only; asking for all of them would need the network.
fn host() -> String {
    let out = Command::new(env!("CARGO")).arg("-vV").output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

fn metadata(extra: &[&str]) -> serde_json::Value {
    let out = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", &host()])
        .args(extra)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(out.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Run-time dependencies of each package of the workspace, by package name.
fn declared() -> BTreeMap<String, BTreeSet<String>> {
    let meta = metadata(&["--no-deps"]);
    let packages = meta["packages"].as_array().unwrap();
    let run_time = |package: &serde_json::Value| {
        let dependencies = package["dependencies"].as_array().unwrap();
        let normal = dependencies.iter().filter(|d| d["kind"].is_null());
        normal.map(|d| d["name"].as_str().unwrap().to_owned()).collect()
    };
    packages.iter().map(|p| (p["name"].as_str().unwrap().to_owned(), run_time(p))).collect()
}

fn tracked_files() -> Vec<PathBuf> {
    match Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output() {
        Ok(out) if out.status.success() => {
            let names = out.stdout.split(|b| *b == 0).filter(|n| !n.is_empty());
            names.map(|n| root().join(String::from_utf8_lossy(n).as_ref())).filter(|p| p.is_file()).collect()
        }
        _ => walk(&root()),
    }
}

/// The same for an unpacked archive, where git has nothing to say.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_file() {
            found.push(path);
        } else if !["target", ".git"].iter().any(|skip| entry.file_name() == *skip) {
            found.extend(walk(&path));
        }
    }
    found
}

fn rust_files() -> Vec<PathBuf> {
    tracked_files().into_iter().filter(|p| p.extension().is_some_and(|e| e == "rs")).collect()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The part of a source file that ships: everything above its first test module.
fn product_part(text: &str) -> &str {
    text.find("#[cfg(test)]").map_or(text, |at| &text[..at])
}

#[test]
fn arrows_between_packages_point_down_only() {
    let declared = declared();
    let known: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).collect();
    let present: BTreeSet<&str> = declared.keys().map(String::as_str).collect();
    assert_eq!(known, present, "a package is missing from the picture or from the workspace");
    for (name, allowed) in ARROWS {
        let ours = declared[*name].iter().map(String::as_str).filter(|d| known.contains(d));
        let stray: Vec<_> = ours.filter(|d| !allowed.contains(d)).collect();
        assert!(stray.is_empty(), "{name} may not depend on {stray:?}");
    }
}

#[test]
fn sans_io_packages_reach_no_runtime_even_indirectly() {
    let meta = metadata(&[]);
    let packages = meta["packages"].as_array().unwrap();
    let names: BTreeMap<&str, &str> =
        packages.iter().map(|p| (p["id"].as_str().unwrap(), p["name"].as_str().unwrap())).collect();
    let nodes = meta["resolve"]["nodes"].as_array().unwrap();
    let edges: BTreeMap<&str, Vec<&str>> =
        nodes.iter().map(|n| (n["id"].as_str().unwrap(), normal_edges(n))).collect();
    for start in SANS_IO {
        let id = names.iter().find(|(_, name)| *name == start).map(|(id, _)| *id).unwrap();
        // webrtc-srtp brings runtime types of its own; only the relay may hold it, so the relay is a border here.
        let reached = reach(id, &edges, &names, "umbra-relay");
        let worldly: Vec<_> = reached.iter().filter(|n| WORLDLY.contains(*n)).collect();
        assert!(worldly.is_empty(), "{start} reaches {worldly:?}");
    }
}

fn normal_edges(node: &serde_json::Value) -> Vec<&str> {
    let is_normal =
        |dep: &&serde_json::Value| dep["dep_kinds"].as_array().unwrap().iter().any(|k| k["kind"].is_null());
    node["deps"].as_array().unwrap().iter().filter(is_normal).map(|d| d["pkg"].as_str().unwrap()).collect()
}

fn reach<'a>(
    start: &'a str,
    edges: &BTreeMap<&'a str, Vec<&'a str>>,
    names: &BTreeMap<&'a str, &'a str>,
    border: &str,
) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut queue = vec![start];
    while let Some(id) = queue.pop() {
        let name = names[id];
        if seen.insert(name) && name != border {
            queue.extend(edges[id].iter().copied());
        }
    }
    seen
}

#[test]
fn the_promised_crates_are_declared_where_they_work() {
    let declared = declared();
    for (library, package) in REQUIRED {
        assert!(declared[*package].contains(*library), "{package} does not use {library}");
    }
}

#[test]
fn the_lab_never_imports_product_logic() {
    for path in rust_files().iter().filter(|p| shown(p).starts_with("crates/lab/")) {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(!text.contains("b2bua::"), "{} names the product's call logic", shown(path));
    }
}

#[test]
fn sans_io_folders_name_no_clock_socket_task_or_file() {
    let mut found = Vec::new();
    for path in rust_files() {
        let name = shown(&path);
        let is_test = name.ends_with("tests.rs") || name.contains("/tests/") || name.contains("/harness");
        if is_test || !SANS_IO_FOLDERS.iter().any(|folder| name.starts_with(folder)) {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = product_part(&text).lines().filter(|l| !l.trim_start().starts_with("//"));
        let hits = lines.filter(|line| WORLDLY_WORDS.iter().any(|word| line.contains(word)));
        found.extend(hits.map(|line| format!("{name}: {}", line.trim())));
    }
    assert!(found.is_empty(), "the outside world inside a sans-IO room:\n{}", found.join("\n"));
}

#[test]
fn no_source_file_is_longer_than_the_limit() {
    let lengths = rust_files().into_iter().map(|p| (std::fs::read_to_string(&p).unwrap().lines().count(), p));
    let long: Vec<_> =
        lengths.filter(|(n, _)| *n > FILE_LINES_MAX).map(|(n, p)| format!("{} {n}", shown(&p))).collect();
    assert!(long.is_empty(), "longer than {FILE_LINES_MAX} lines: {long:?}");
}

#[test]
fn nothing_unsafe_stands_outside_the_modules_named_here_and_every_package_forbids_it() {
    // Put together here so that this file does not find itself.
    let word = ["un", "safe"].concat();
    let is_word =
        |line: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word);
    let mut found = Vec::new();
    for path in rust_files().into_iter().filter(|path| !UNSAFE_MODULES.contains(&shown(path).as_str())) {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        found.extend(
            lines.filter(|line| is_word(line)).map(|line| format!("{}: {}", shown(&path), line.trim())),
        );
    }
    assert!(found.is_empty(), "{found:#?}");
    let read =
        |path: &Path| -> toml_edit::DocumentMut { std::fs::read_to_string(path).unwrap().parse().unwrap() };
    let workspace = read(&root().join("Cargo.toml"));
    let level = &workspace["workspace"]["lints"]["rust"][format!("{word}_code").as_str()];
    assert_eq!(level.as_str(), Some("forbid"));
    for member in workspace["workspace"]["members"].as_array().unwrap().iter().filter_map(|m| m.as_str()) {
        let manifests = match member.strip_suffix("/*") {
            Some(folder) => {
                std::fs::read_dir(root().join(folder)).unwrap().flatten().map(|e| e.path()).collect()
            }
            None => vec![root().join(member)],
        };
        for manifest in
            manifests.into_iter().map(|folder| folder.join("Cargo.toml")).filter(|file| file.is_file())
        {
            let table = read(&manifest);
            let inherits = table.get("lints").and_then(|lints| lints.get("workspace")?.as_bool());
            assert_eq!(inherits, Some(true), "{} does not take the lints of the workspace", shown(&manifest));
        }
    }
}

/// The README tells of each statement of Microsoft's documents which tests prove it.
#[test]
fn every_test_that_the_readme_names_exists() {
    let sources: String = rust_files().iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, section) = readme.split_once("## Microsoft's integration documents").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|') && !line.starts_with("| **")).skip(2);
    let mut named = 0;
    for row in rows {
        let tests = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let tests: Vec<&str> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "no test proves: {row}");
        for test in tests {
            named += 1;
            assert!(
                sources.contains(&format!("fn {test}()")),
                "{test} is named in README.md and nowhere else"
            );
        }
    }
    assert!(named > 60, "{named}");
}

#[test]
fn no_private_key_is_kept_in_the_tree() {
    // Put together here so that this file does not find itself.
    let needles = ["PRIVATE ", "RSA PRIVATE ", "EC PRIVATE "].map(|kind| format!("-----BEGIN {kind}KEY"));
    for path in tracked_files() {
        let bytes = std::fs::read(&path).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!needles.iter().any(|n| text.contains(n.as_str())), "{} holds a private key", shown(&path));
    }
}

#[test]
fn every_crate_with_product_logic_bans_the_clock_by_lint() {
    for krate in ["sip", "sdp", "relay", "b2bua"] {
        let file = root().join("crates").join(krate).join("clippy.toml");
        let table: toml_edit::DocumentMut = std::fs::read_to_string(&file).unwrap().parse().unwrap();
        let banned = table["disallowed-methods"].as_array().unwrap().to_string();
        for method in ["std::time::Instant::now", "std::thread::spawn", "std::collections::HashMap::iter"] {
            assert!(banned.contains(method), "{} does not ban {method}", shown(&file));
        }
        assert_eq!(table["too-many-lines-threshold"].as_integer(), Some(70), "{}", shown(&file));
    }
}
