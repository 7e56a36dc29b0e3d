//! The report for people: group by group, mark first, code at the right, cause, fix and drawing indented below.

use std::fmt::Write as _;

use super::super::screen::{Style, Tone, escaped, wrapped};
use crate::doctor::{Finding, Mark, Report};

/// Column of the code.
const CODE_COLUMN: usize = 70;
/// Width of the text below a line.
const WIDTH: usize = 100;
const INDENT: usize = 8;

/// The whole report with its sum.
pub(super) fn text(report: &Report, style: Style) -> String {
    let mut out = String::new();
    let mut group = None;
    for finding in &report.findings {
        if group.replace(finding.group) != Some(finding.group) {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{}", style.paint(Tone::Strong, finding.group.title()));
        }
        out.push_str(&lines(finding, style));
    }
    let _ = writeln!(out, "{}     umbra explain <code>", report.summary());
    out
}

/// One finding: mark, words and code; cause, fixes and drawing below when it is trouble.
pub(in crate::cli) fn lines(finding: &Finding, style: Style) -> String {
    let (word, tone) = match finding.mark {
        Mark::Ok => ("ok  ", Tone::Good),
        Mark::Warn => ("warn", Tone::Odd),
        Mark::Fail => ("FAIL", Tone::Bad),
        Mark::Skip => ("skip", Tone::Quiet),
    };
    let (mark, what) = (style.paint(tone, word), escaped(&finding.what));
    if !matches!(finding.mark, Mark::Warn | Mark::Fail) {
        return format!("  {mark}  {what}\n");
    }
    let pad = CODE_COLUMN.saturating_sub(INDENT + what.chars().count()).max(2);
    let mut out = format!("  {mark}  {what}{}{}\n", " ".repeat(pad), finding.code);
    out.push_str(&wrapped(finding.cause, INDENT, WIDTH));
    for (side, words) in finding.fix.sides() {
        out.push_str(&wrapped(&format!("Fix ({side}): {}", escaped(words)), INDENT, WIDTH));
    }
    for line in &finding.picture {
        let _ = writeln!(out, "{}{}", " ".repeat(INDENT + 2), escaped(line));
    }
    out
}

#[cfg(test)]
mod tests {
    use b2bua::codes;

    use super::*;
    use crate::doctor::Group;

    #[test]
    fn the_report_looks_as_documented() {
        let report = Report::of(vec![
            Finding::ok(Group::Certificates, codes::EXPIRED, "expires in 89 days"),
            Finding::fail(Group::Certificates, codes::WILDCARD_SUBJECT, "mbx02 presents CN=*.contoso.test"),
            Finding::skip(Group::Clock, codes::CLOCK_SKEW, "nobody tells a Date"),
        ]);
        let shown = text(&report, Style::Plain);
        let expected = "Certificates\n  ok    expires in 89 days\n  FAIL  mbx02 presents CN=*.contoso.test";
        assert!(shown.starts_with(expected), "{shown}");
        let code = shown.lines().find(|line| line.contains("FAIL")).unwrap();
        assert_eq!(code.find("UMB-TLS004"), Some(CODE_COLUMN), "{shown}");
        assert!(
            shown.contains("        Fix (Exchange): ") && shown.contains("Clock\n  skip  nobody"),
            "{shown}"
        );
        assert!(
            shown.ends_with("3 checks: 1 ok, 0 warnings, 1 failed, 1 skipped     umbra explain <code>\n")
        );
        assert!(shown.lines().all(|line| line.chars().count() <= WIDTH + 10), "{shown}");
    }

    #[test]
    fn a_drawing_is_shown_only_with_trouble() {
        let drawn = |finding: Finding| {
            text(&Report::of(vec![finding.drawn(vec!["x [x] ok".into()])]), Style::Plain).contains("[x]")
        };
        assert!(drawn(Finding::fail(Group::Security, codes::POOL_PLAN_MISMATCH, "no")));
        assert!(!drawn(Finding::ok(Group::Security, codes::POOL_PLAN_MISMATCH, "yes")));
    }
}
