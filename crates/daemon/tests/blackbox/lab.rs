//! `umbra lab faults`: what the gateway makes of a faulty UM is what the plan says, and a plan that says otherwise fails.

use std::process::{Command, Output};

use crate::harness::{folder, umbra};

fn faults(arguments: &[&str], folder: &std::path::Path) -> Output {
    let mut command: Command = umbra();
    command.args(["lab", "faults"]).args(arguments).env("NO_COLOR", "1").current_dir(folder).output().unwrap()
}

#[test]
fn redirects_that_are_lost_late_foreign_or_in_a_loop_come_to_what_the_plan_says() {
    let folder = folder();
    let output = faults(&["--only", "302"], folder.path());
    let screen = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{screen}");
    for words in
        ["302 late", "UMB-SRV001 after UMB-SRV003", "UMB-REDIR001", "UMB-REDIR002", "5 of 5 as expected"]
    {
        assert!(screen.contains(words), "`{words}` is missing:\n{screen}");
    }
}

#[test]
fn a_plan_that_expects_something_else_fails_and_shows_the_confusion() {
    let folder = folder();
    let plan = "[[fault]]\nname = \"none\"\nkind = \"none\"\nexpect = \"next server\"\n";
    std::fs::write(folder.path().join("plan.toml"), plan).unwrap();
    let output = faults(&["--plan", "plan.toml", "-o", "json"], folder.path());
    assert_eq!(output.status.code(), Some(1));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found[0]["expected"], &found[0]["found"]), (&"next server".into(), &"answered".into()));
}

#[test]
fn a_plan_that_cannot_be_read_is_a_bad_configuration() {
    let folder = folder();
    std::fs::write(
        folder.path().join("plan.toml"),
        "[[fault]]\nname = \"x\"\nkind = \"meteor\"\nexpect = \"answered\"\n",
    )
    .unwrap();
    for (plan, words) in
        [("plan.toml", "meteor"), ("nowhere.toml", "nowhere.toml"), ("/dev/zero", "longer than")]
    {
        let output = faults(&["--plan", plan], folder.path());
        assert_eq!(output.status.code(), Some(78), "{plan}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(words), "{plan}");
    }
}
