//! What a tree of processes used: on-CPU nanoseconds of all threads and private memory, from /proc.

use std::fs;

/// On-CPU seconds of these processes, all their threads together.
pub fn cpu_seconds(pids: &[u32]) -> f64 {
    pids.iter().map(|pid| process_nanoseconds(*pid)).sum::<u64>() as f64 / 1e9
}

/// Memory of these processes in KiB, pages they share counted once (Pss).
pub fn memory_kib(pids: &[u32]) -> u64 {
    let of = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        field(&text, "Pss:")
    };
    pids.iter().map(of).sum()
}

/// A process and everything below it.
pub fn tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        at += 1;
        let text = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        found.extend(text.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
    }
    found
}

/// Our own process.
pub fn own_cpu_seconds() -> f64 {
    cpu_seconds(&[std::process::id()])
}

fn process_nanoseconds(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let of = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_default()
    };
    tasks.flatten().map(of).sum()
}

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next())
        .and_then(|word| word.parse().ok())
        .unwrap_or_default()
}
