//! One thing found, with code, cause and what to do on which side; for people and machines.

use std::fmt::Write as _;

use b2bua::Code;
use serde::Serialize;

use crate::cli::screen::{Style, Tone, escaped};
use crate::cli::wrapped;
use crate::config::{Problem, Remark, Severity};

/// Width of the text below a finding.
const WIDTH: usize = 100;

/// A finding; the keys are documented and stable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    pub(super) code: Code,
    pub(super) what: String,
    cause: &'static str,
    /// What to do, each with its side in front.
    fixes: Vec<String>,
}

impl Finding {
    pub(super) fn error(code: Code, what: String) -> Self {
        Self::of(Severity::Error, code, what)
    }

    pub(super) fn warning(code: Code, what: String) -> Self {
        Self::of(Severity::Warning, code, what)
    }

    fn of(severity: Severity, code: Code, what: String) -> Self {
        let entry = code.entry();
        let sides = [("Exchange", entry.fix_exchange), ("Lync", entry.fix_lync), ("here", entry.fix_umbra)];
        let fixes = sides.into_iter().filter(|(_, words)| !words.is_empty());
        let fixes = fixes.map(|(side, words)| format!("{side}: {words}")).collect();
        Self { severity, code, what, cause: entry.cause, fixes }
    }

    pub(super) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// `FAIL` or `warn`, the words, the code; cause and fixes below.
    fn text(&self, style: Style) -> String {
        let mark = match self.severity {
            Severity::Error => style.paint(Tone::Bad, "FAIL"),
            Severity::Warning => style.paint(Tone::Odd, "warn"),
        };
        let code = style.paint(Tone::Strong, self.code.as_str());
        let mut out = format!("  {mark}  {:<70} {code}\n", escaped(&self.what));
        out.push_str(&wrapped(self.cause, 8, WIDTH));
        for fix in &self.fixes {
            out.push_str(&wrapped(&format!("Fix {fix}"), 8, WIDTH));
        }
        out
    }
}

impl From<Remark> for Finding {
    fn from(remark: Remark) -> Self {
        Self::of(remark.severity, remark.code, remark.what)
    }
}

impl From<&Problem> for Finding {
    fn from(problem: &Problem) -> Self {
        Self::of(problem.severity, problem.code, problem.what.clone())
    }
}

/// All findings, errors first.
pub(super) fn list(findings: &[Finding], style: Style) -> String {
    let of = |severity| findings.iter().filter(move |finding| finding.severity == severity);
    of(Severity::Error).chain(of(Severity::Warning)).map(|finding| finding.text(style)).collect()
}

/// `2 failed, 1 warning   umbra explain UMB-TLS019`; empty without findings.
pub(super) fn summary(findings: &[Finding]) -> String {
    let Some(worst) = findings.iter().min_by_key(|finding| finding.severity) else { return String::new() };
    let failed = findings.iter().filter(|finding| finding.is_error()).count();
    let mut out = format!("{failed} failed, {} to look at", findings.len() - failed);
    // Writing to a String cannot fail.
    let _ = writeln!(out, "   umbra explain {}", worst.code);
    out
}
