//! The binary without root's rights: as nobody, without a single capability, it loads its keys, listens, carries a call and
//! writes its record.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::{GATEWAYS, Stage};
use crate::harness::umbra;
use crate::wire::{Carrier, SDP};

/// The user and group that own nothing.
const NOBODY: u32 = 65_534;

#[test]
fn a_gateway_that_runs_as_nobody_carries_a_call() {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout == b"0\n");
    if !is_root {
        // Written past the test's capture: a skipped test must be seen.
        let line = "skipped: only root can start a process as somebody else\n";
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
        return;
    }
    let stage = Stage::start_by(
        Carrier::Tls,
        |config| config,
        |folder| {
            // Where the build put it, others may not be let in.
            let copy = folder.join("umbra");
            std::fs::copy(umbra().get_program(), &copy).unwrap();
            give_away(folder);
            let mut command = Command::new(copy);
            command.uid(NOBODY).gid(NOBODY).current_dir(folder);
            command
        },
    );
    let status = std::fs::read_to_string(format!("/proc/{}/status", stage.umbra.process.id())).unwrap();
    let is_so = |name: &str, wanted: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().all(|value| value == wanted) && !line.is_empty()
    };
    let nobody = NOBODY.to_string();
    assert!(is_so("Uid:", &nobody) && is_so("Gid:", &nobody), "{status}");
    assert!(is_so("CapEff:", "0000000000000000") && is_so("CapPrm:", "0000000000000000"), "{status}");
    let (mut phone, mut um) = (stage.peer(GATEWAYS[0]), None);
    let (caller, _) = stage.call(&mut phone, &mut um, "nobodys", SDP);
    phone.says_in(&caller, "BYE", 2, "200", || drop(um.as_mut().unwrap().serves("BYE")));
    let records = stage.umbra.wait_for_records(1, Duration::from_secs(10));
    assert_eq!(records[0]["offer_result"], "Answer", "{records:#?}");
}

/// The folder and what is in it belong to nobody.
fn give_away(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
        if entry.is_dir() { give_away(&entry) } else { chown(&entry, Some(NOBODY), Some(NOBODY)).unwrap() }
    }
    chown(folder, Some(NOBODY), Some(NOBODY)).unwrap();
}
