//! The command line as a person meets it: help, wrong words, bad files, offline explanations.

use crate::harness::{folder, umbra};

fn run(arguments: &[&str]) -> (i32, String, String) {
    let folder = folder();
    let out = umbra().args(arguments).env("NO_COLOR", "1").current_dir(folder.path()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
}

#[test]
fn help_fits_and_exits_zero() {
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, 0);
    assert!(out.contains("demo") && out.contains("check") && out.contains("explain"), "{out}");
    assert!(out.lines().count() <= 50, "help fits one screen: {} lines", out.lines().count());
}

#[test]
fn wrong_words_are_a_usage_error() {
    let (code, _, err) = run(&["frobnicate"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("frobnicate"));
}

#[test]
fn run_without_a_file_says_where_it_looked_and_offers_the_demo() {
    let (code, _, err) = run(&["run"]);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("umbra.toml") && err.contains("umbra demo"), "{err}");
}

#[test]
fn explain_works_offline_and_suggests_on_a_slip() {
    let (code, out, _) = run(&["explain", "UMB-SEC001"]);
    assert_eq!(code, 0);
    assert!(out.contains("Incompatible security setting"), "{out}");
    let (code, out, err) = run(&["explain", "UMB-SEC01"]);
    assert_eq!(code, 1);
    assert!(format!("{out}{err}").contains("UMB-SEC001"), "a suggestion: {out}{err}");
}

#[test]
fn check_lists_every_problem_of_a_bad_file_at_once() {
    let folder = folder();
    let file = folder.path().join("bad.toml");
    let text = "[gateway]\nfqdn = \"*.contoso.com\"\nfqdm = \"x\"\n\n[[dial_plan]]\nname = \"DP\"\nuri_type = \"SipNam\"\n\n\
                [[hunt_group]]\nname = \"h\"\nip_gateway = \"nobody\"\ndial_plan = \"DQ\"\n";
    std::fs::write(&file, text).unwrap();
    let (code, out, err) = run(&["check", file.to_str().unwrap()]);
    let all = format!("{out}{err}");
    assert_eq!(code, 78, "{all}");
    for words in ["fqdm", "fqdn", "voip_security", "nobody", "DQ", "SipNam", ":3:"] {
        assert!(all.contains(words), "`{words}` is missing in:\n{all}");
    }
}
