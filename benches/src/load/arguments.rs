//! What the command lines of load binaries have in common.

use std::path::PathBuf;

use super::rig::Result;

/// A binary that stands beside ours.
pub fn beside_us(name: &str) -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name(name)
}

/// A number above zero.
pub fn positive(text: &str) -> Result<u32> {
    text.parse().ok().filter(|n| *n > 0).ok_or(format!("not a positive number: {text}"))
}
