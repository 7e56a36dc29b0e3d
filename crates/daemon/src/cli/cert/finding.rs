//! What `umbra cert` finds, in the doctor's shape: made from remarks and problems, listed with errors first, and summed up.

use b2bua::Code;

use crate::cli::doctor::lines;
use crate::cli::screen::Style;
use crate::config::{Problem, Remark, Severity};
pub(super) use crate::doctor::Finding;
use crate::doctor::{Group, Mark};

pub(super) fn error(code: Code, what: impl AsRef<str>) -> Finding {
    Finding::fail(Group::Certificates, code, what)
}

pub(super) fn warning(code: Code, what: impl AsRef<str>) -> Finding {
    Finding::warn(Group::Certificates, code, what)
}

pub(super) fn of_remark(remark: Remark) -> Finding {
    of(remark.severity, remark.code, &remark.what)
}

pub(super) fn of_problem(problem: &Problem) -> Finding {
    of(problem.severity, problem.code, &problem.what)
}

fn of(severity: Severity, code: Code, what: &str) -> Finding {
    match severity {
        Severity::Error => error(code, what),
        Severity::Warning => warning(code, what),
    }
}

pub(super) fn is_error(finding: &Finding) -> bool {
    finding.mark == Mark::Fail
}

/// All findings, errors first.
pub(super) fn list(findings: &[Finding], style: Style) -> String {
    let (errors, others): (Vec<&Finding>, Vec<&Finding>) = findings.iter().partition(|found| is_error(found));
    errors.into_iter().chain(others).map(|finding| lines(finding, style)).collect()
}

/// `2 failed, 1 to look at   umbra explain UMB-TLS019`; empty without findings.
pub(super) fn summary(findings: &[Finding]) -> String {
    let failed = findings.iter().filter(|finding| is_error(finding)).count();
    match findings.iter().find(|finding| is_error(finding)).or(findings.first()) {
        None => String::new(),
        Some(worst) => {
            format!(
                "{failed} failed, {} to look at   umbra explain {}\n",
                findings.len() - failed,
                worst.code
            )
        }
    }
}
