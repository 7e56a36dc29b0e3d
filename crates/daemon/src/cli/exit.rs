//! Exit codes, once.

use std::process::ExitCode;

/// How a command ended.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Exit {
    /// 0
    Fine,
    /// 1: a call or a check failed.
    Failed,
    /// 2: bad usage.
    Usage,
    /// 3: passed with warnings under `--deny-warnings`.
    Warnings,
    /// 69: daemon not reachable.
    Unreachable,
    /// 77: not permitted.
    NotPermitted,
    /// 78: bad configuration.
    BadConfiguration,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Warnings => 3,
            Exit::Unreachable => 69,
            Exit::NotPermitted => 77,
            Exit::BadConfiguration => 78,
        })
    }
}
