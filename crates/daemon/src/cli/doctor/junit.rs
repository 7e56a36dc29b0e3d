//! The report as JUnit XML, as CI servers read it: a suite for each group, a case for each finding. Warnings are
//! cases that passed and say so in `system-out`.

use std::fmt::Write as _;

use crate::doctor::{Finding, Group, Mark, Report};

/// The whole document.
pub(super) fn text(report: &Report) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let counts = (report.checks, report.failed, report.skipped);
    let _ = writeln!(out, "<testsuites name=\"umbra doctor\"{}>", attributes(counts));
    for findings in report.findings.chunk_by(|a, b| a.group == b.group) {
        suite(&mut out, findings);
    }
    out.push_str("</testsuites>\n");
    out
}

fn attributes((tests, failures, skipped): (usize, usize, usize)) -> String {
    format!(" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\"")
}

// Writing to a String cannot fail, here and below.
fn suite(out: &mut String, findings: &[Finding]) {
    let Some(first) = findings.first() else { return };
    let count = |mark| findings.iter().filter(|finding| finding.mark == mark).count();
    let counts = (findings.len(), count(Mark::Fail), count(Mark::Skip));
    let _ = writeln!(out, "  <testsuite name=\"{}\"{}>", escaped(first.group.title()), attributes(counts));
    findings.iter().for_each(|finding| case(out, finding));
    out.push_str("  </testsuite>\n");
}

fn case(out: &mut String, finding: &Finding) {
    let what = escaped(&finding.what);
    let _ = write!(out, "    <testcase classname=\"umbra.doctor.{}\" name=\"{what}\"", class(finding.group));
    let _ = match finding.mark {
        Mark::Ok => writeln!(out, "/>"),
        Mark::Skip => writeln!(out, "><skipped message=\"{what}\"/></testcase>"),
        Mark::Warn => {
            writeln!(out, "><system-out>warning {}: {}</system-out></testcase>", finding.code, story(finding))
        }
        Mark::Fail => {
            let code = finding.code;
            let story = story(finding);
            writeln!(out, "><failure type=\"{code}\" message=\"{code}: {what}\">{story}</failure></testcase>")
        }
    };
}

fn class(group: Group) -> String {
    let word = serde_json::to_value(group).ok();
    word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

fn story(finding: &Finding) -> String {
    let mut out = format!("{}\n{}", finding.what, finding.cause);
    for (side, words) in finding.fix.sides() {
        let _ = write!(out, "\nFix ({side}): {words}");
    }
    for line in &finding.picture {
        let _ = write!(out, "\n{line}");
    }
    escaped(&out)
}

/// XML 1.0 has no way to write most control characters, so they become `?`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' => out.push('\n'),
            '\u{fffe}' | '\u{ffff}' => out.push('?'),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use b2bua::codes;

    use super::*;

    fn report() -> Report {
        Report::of(vec![
            Finding::ok(Group::Names, codes::DNS_NO_ADDRESS, "cas01 is 10.0.0.1"),
            Finding::warn(Group::Names, codes::DNS_REVERSE, "leads back to <printer> & \"co\""),
            Finding::fail(Group::Names, codes::DNS_SILENT, "it's silent\u{1}").drawn(vec!["a < b".into()]),
            Finding::skip(Group::Clock, codes::CLOCK_SKEW, "unknown"),
        ])
    }

    /// Names of open elements, checked to nest; enough of XML to fail on an unescaped character.
    fn assert_well_formed(xml: &str) {
        let mut open: Vec<String> = Vec::new();
        let mut rest = xml.split_once("?>").unwrap().1;
        while let Some(at) = rest.find('<') {
            let text = &rest[..at];
            let entity =
                |rest: &str| ["amp;", "lt;", "gt;", "quot;", "apos;"].iter().any(|e| rest.starts_with(e));
            assert!(!text.contains('>') && text.split('&').skip(1).all(entity), "{text}");
            let end = rest[at..].find('>').unwrap() + at;
            let tag = &rest[at + 1..end];
            assert!(tag.matches('"').count().is_multiple_of(2) && !tag.contains('<'), "{tag}");
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name));
            } else if !tag.ends_with('/') {
                open.push(tag.split_whitespace().next().unwrap().to_owned());
            }
            rest = &rest[end + 1..];
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
    }

    #[test]
    fn the_document_is_well_formed_and_counts() {
        let xml = text(&report());
        assert_well_formed(&xml);
        assert!(xml.contains("tests=\"4\" failures=\"1\" errors=\"0\" skipped=\"1\""), "{xml}");
        assert!(xml.contains("<failure type=\"UMB-SRV010\"") && xml.contains("warning UMB-DNS002"), "{xml}");
        assert!(xml.contains("classname=\"umbra.doctor.names\"") && xml.contains("a &lt; b"), "{xml}");
    }

    #[test]
    fn what_xml_cannot_say_is_replaced() {
        assert_eq!(escaped("<a&'\"\u{0}\u{b}\u{ffff}é"), "&lt;a&amp;&apos;&quot;???é");
    }
}
