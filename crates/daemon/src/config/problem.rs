//! One problem of a configuration: code, place, words, fix; and how a list of them looks to people and machines.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use b2bua::Code;
use serde::Serialize;

/// Problems kept; a file that has more is broken in a way that more lines would not explain.
pub const PROBLEMS_MAX: usize = 200;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The gateway does not start with it.
    Error,
    /// It starts, but somebody should look.
    Warning,
}

/// One thing that is wrong or odd, before it has a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// Error or warning.
    pub severity: Severity,
    /// Stable code.
    pub code: Code,
    /// What is wrong, one sentence.
    pub what: String,
}

impl Remark {
    pub(crate) fn error(code: Code, what: String) -> Self {
        Self { severity: Severity::Error, code, what }
    }

    pub(crate) fn warning(code: Code, what: String) -> Self {
        Self { severity: Severity::Warning, code, what }
    }
}

/// Where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// File, or the environment variable.
    pub file: String,
    /// From 1; 0 when there is no line (environment).
    pub line: usize,
    /// From 1, in characters; 0 when there is none.
    pub column: usize,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// Stable code.
    pub code: Code,
    /// Where it stands.
    pub place: Place,
    /// Path of the setting, e.g. `dial_plan[0].voip_security`.
    pub setting: String,
    /// What is wrong, one sentence.
    pub what: String,
    /// Why it matters.
    pub cause: &'static str,
    /// What to do.
    pub fix: String,
}

/// Every problem of one configuration, errors first, then in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problems {
    /// The file.
    pub file: PathBuf,
    /// The problems.
    pub list: Vec<Problem>,
}

impl Problem {
    /// An error at the head of a file.
    pub(super) fn of_file(code: Code, file: &Path, what: String) -> Self {
        Self {
            severity: Severity::Error,
            code,
            place: Place { file: file.display().to_string(), line: 0, column: 0 },
            setting: String::new(),
            what,
            cause: code.entry().cause,
            fix: code.entry().fix_umbra.to_owned(),
        }
    }
}

impl Problems {
    pub(super) fn one(problem: Problem) -> Self {
        Self { file: PathBuf::from(&problem.place.file), list: vec![problem] }
    }

    pub(super) fn sorted(file: &Path, mut list: Vec<Problem>) -> Self {
        list.sort_by(|a, b| {
            (a.severity, a.place.line, a.place.column).cmp(&(b.severity, b.place.line, b.place.column))
        });
        list.dedup();
        list.truncate(PROBLEMS_MAX);
        Self { file: file.to_owned(), list }
    }

    /// Whether one of them is an error.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// For people: place, code, words, cause and fix of each, then a count.
    pub fn to_text(&self) -> String {
        render(&self.list)
    }

    /// One JSON array.
    pub fn to_json(&self) -> String {
        to_json(&self.list)
    }
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl std::error::Error for Problems {}

/// Problems or warnings for people.
pub fn render(list: &[Problem]) -> String {
    let mut out = String::new();
    for problem in list {
        let Problem { place, code, what, setting, cause, fix, .. } = problem;
        let mark = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warn ",
        };
        let at = match (place.line, place.column) {
            (0, _) => place.file.clone(),
            (line, column) => format!("{}:{line}:{column}", place.file),
        };
        let setting = if setting.is_empty() { String::new() } else { format!("{setting}: ") };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{mark} {code}  {at}\n      {setting}{what}\n      {cause}");
        if !fix.is_empty() {
            let _ = writeln!(out, "      Fix: {fix}");
        }
    }
    let errors = list.iter().filter(|problem| problem.severity == Severity::Error).count();
    let warnings = list.len() - errors;
    let plural = |count: usize| if count == 1 { "" } else { "s" };
    let _ = writeln!(
        out,
        "{errors} error{}, {warnings} warning{}     umbra explain <code>",
        plural(errors),
        plural(warnings)
    );
    out
}

/// Problems or warnings as one JSON array.
pub fn to_json(list: &[Problem]) -> String {
    serde_json::to_string_pretty(list).unwrap_or_else(|_| "[]".to_owned())
}
