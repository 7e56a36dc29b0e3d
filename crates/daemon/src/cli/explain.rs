//! `umbra explain`: what a code means, from the registry that is built in. Works without network, daemon and file.
//! Owns the look-up by code, SIP status and ms-diagnostics number, and the suggestion for a slip.

use std::fmt::Write as _;

use b2bua::codes::{self, CodeEntry};
use clap::Args;
use serde::Serialize;
use sip::StatusCode;

use super::screen::{Format, Screen, Style, Tone, escaped};
use super::{Exit, wrapped};

/// Suggestions for an unknown code.
const SUGGESTIONS_MAX: usize = 3;
/// A suggestion differs in at most this many letters.
const SLIPS_MAX: usize = 3;

#[derive(Debug, Args)]
#[command(before_help = "Examples:
  umbra explain UMB-SEC001
  umbra explain 488
  umbra explain 61001 -o json")]
pub(super) struct ExplainArgs {
    /// UMB-SEC001, SEC001, 488 or 61001
    #[arg(value_name = "CODE")]
    code: String,
}

/// Runs the command.
pub(super) fn run(screen: &Screen, args: &ExplainArgs) -> Exit {
    let answer = look_up(&args.code);
    match (&answer, screen.form) {
        (Answer::Unknown { suggestions }, _) => screen.story(&unknown_text(&args.code, suggestions)),
        (answer, Format::Json) => screen.json(answer),
        (answer, Format::Table | Format::Junit) => screen.data(&text(answer, screen.data)),
    }
    match answer {
        Answer::Unknown { .. } => Exit::Failed,
        _ => Exit::Fine,
    }
}

/// What is known about a code.
#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Answer {
    /// One entry of the registry.
    Code { entry: &'static CodeEntry },
    /// A SIP status and the entries that answer with it.
    SipStatus { status: u16, reason: &'static str, entries: Vec<&'static CodeEntry> },
    /// An `ms-diagnostics` number and the entries that carry it.
    MsDiagnostics { id: u32, range: &'static str, entries: Vec<&'static CodeEntry> },
    /// Nothing; the nearest codes.
    Unknown { suggestions: Vec<&'static str> },
}

fn look_up(code: &str) -> Answer {
    if let Some(entry) = codes::lookup(code) {
        return Answer::Code { entry };
    }
    match code.trim().parse::<u32>() {
        Ok(number) => by_number(number),
        Err(_) => Answer::Unknown { suggestions: nearest(code) },
    }
}

fn by_number(number: u32) -> Answer {
    let status = u16::try_from(number).ok().and_then(StatusCode::new).filter(|status| status.is_registered());
    if let Some(status) = status {
        return Answer::SipStatus {
            status: status.code(),
            reason: status.default_reason(),
            entries: codes::by_sip_status(status.code()).collect(),
        };
    }
    let entries: Vec<_> = codes::by_ms_diagnostics(number).collect();
    match range_of(number) {
        Some(range) => Answer::MsDiagnostics { id: number, range, entries },
        None => Answer::Unknown { suggestions: nearest_numbers(number) },
    }
}

/// Who uses a range of `ms-diagnostics` numbers.
fn range_of(id: u32) -> Option<&'static str> {
    Some(match id {
        1000..=1999 => "the SIP stack of the Lync Front End",
        10000..=10999 => "the Mediation Server",
        12000..=12999 => "outbound routing of Lync",
        13000..=13999 => "inbound routing of Lync",
        15030 => "Exchange UM routing of Lync: it failed to route to the Exchange server",
        15000..=15999 => "Exchange UM routing of Lync",
        24000..=24999 => "a UCMA application",
        52017 => "the Lync client: media encryption of both sides does not match",
        61000..=61999 => "an application: a failure that policy or capacity asks for",
        62000..=62999 => "an application: an unexpected failure",
        _ => return None,
    })
}

fn nearest(code: &str) -> Vec<&'static str> {
    let wanted = code.trim().to_ascii_uppercase();
    let wanted = wanted.strip_prefix("UMB-").unwrap_or(&wanted);
    let distance = |entry: &CodeEntry| {
        strsim::damerau_levenshtein(wanted, entry.code.strip_prefix("UMB-").unwrap_or(entry.code))
    };
    let mut near: Vec<_> = codes::all()
        .map(|entry| (distance(entry), entry.code))
        .filter(|(slips, code)| *slips <= SLIPS_MAX && *slips + 4 < code.len())
        .collect();
    near.sort_unstable();
    near.into_iter().take(SUGGESTIONS_MAX).map(|(_, code)| code).collect()
}

/// The codes whose SIP status or diagnostics number is closest.
fn nearest_numbers(number: u32) -> Vec<&'static str> {
    let distance = |entry: &CodeEntry| {
        let numbers = [entry.sip.map(|(status, _)| u32::from(status)), entry.ms_diagnostics];
        numbers.into_iter().flatten().map(|own| own.abs_diff(number)).min()
    };
    let mut near: Vec<_> = codes::all().filter_map(|entry| Some((distance(entry)?, entry.code))).collect();
    near.sort_unstable();
    near.into_iter().take(SUGGESTIONS_MAX).map(|(_, code)| code).collect()
}

fn unknown_text(code: &str, suggestions: &[&str]) -> String {
    let shown: String = escaped(code).chars().take(60).collect();
    match suggestions {
        [] => format!("umbra knows no code {shown}; codes look like UMB-SEC001, 488 or 61001"),
        near => format!("umbra knows no code {shown}; did you mean {}?", near.join(", ")),
    }
}

fn text(answer: &Answer, style: Style) -> String {
    match answer {
        Answer::Code { entry } => entry_text(entry, style),
        Answer::SipStatus { status, reason, entries } => {
            let heading = style.paint(Tone::Strong, &format!("SIP {status} {reason}"));
            list_text(&heading, "Umbra answers with it for", entries, FOREIGN_STATUS)
        }
        Answer::MsDiagnostics { id, range, entries } => {
            let heading = format!("{}  {range}", style.paint(Tone::Strong, &format!("ms-diagnostics {id}")));
            list_text(&heading, "Umbra sends it for", entries, FOREIGN_DIAGNOSTICS)
        }
        Answer::Unknown { suggestions } => unknown_text("", suggestions),
    }
}

const FOREIGN_STATUS: &str =
    "No refusal of Umbra uses it: a pool, a PBX or a UM server said so and it was passed on.";
const FOREIGN_DIAGNOSTICS: &str =
    "Umbra never sends it: it comes from Lync or Exchange; look at its source=\"…\".";

fn list_text(heading: &str, uses: &str, entries: &[&CodeEntry], foreign: &str) -> String {
    if entries.is_empty() {
        return format!("{heading}\n\n  {foreign}\n");
    }
    let mut out = format!("{heading}\n\n  {uses}\n");
    for entry in entries {
        // Writing to a String cannot fail.
        let _ = write!(out, "    {:<13} {}", entry.code, entry.title);
        let _ = match entry.ms_diagnostics {
            Some(id) => writeln!(out, "  (ms-diagnostics {id})"),
            None => writeln!(out),
        };
    }
    out.push_str("\n  umbra explain <code> tells cause and fix\n");
    out
}

fn entry_text(entry: &CodeEntry, style: Style) -> String {
    let mut out = format!("{}  {}\n", style.paint(Tone::Strong, entry.code), entry.title);
    if let Some((status, reason)) = entry.sip {
        let _ = write!(out, "\n  The caller sees   {status} {reason}");
        if let Some(id) = entry.ms_diagnostics {
            let _ = write!(out, ", ms-diagnostics {id}");
        }
        out.push('\n');
    }
    let parts = [
        ("Cause", entry.cause),
        ("Fix on Exchange", entry.fix_exchange),
        ("Fix on Lync", entry.fix_lync),
        ("Fix here", entry.fix_umbra),
    ];
    for (name, words) in parts.into_iter().filter(|(_, words)| !words.is_empty()) {
        let _ = write!(out, "\n  {}\n{}", style.paint(Tone::Strong, name), wrapped(words, 4, 96));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggestions(code: &str) -> Vec<&'static str> {
        match look_up(code) {
            Answer::Unknown { suggestions } => suggestions,
            other => panic!("{code} is known: {other:?}"),
        }
    }

    #[test]
    fn every_code_of_the_registry_is_explained_with_cause_and_answer() {
        for entry in codes::all() {
            let out = text(&look_up(entry.code), Style::Plain);
            assert!(out.contains(entry.title) && out.contains("Cause"), "{out}");
            assert_eq!(out.contains("The caller sees"), entry.sip.is_some(), "{out}");
            assert!(out.lines().all(|line| line.chars().count() <= 130), "{out}");
        }
    }

    #[test]
    fn a_slip_leads_to_the_code_that_was_meant() {
        for slip in ["UMB-SEC01", "umb-sce001", "SEC0001", "UMB-SEX001"] {
            assert_eq!(suggestions(slip).first(), Some(&"UMB-SEC001"), "{slip}");
        }
        assert!(suggestions("banana").is_empty() && suggestions("").is_empty());
    }

    #[test]
    fn a_sip_status_lists_the_refusals_that_use_it() {
        let out = text(&look_up("488"), Style::Plain);
        assert!(out.starts_with("SIP 488") && out.contains("UMB-SEC001"), "{out}");
        let foreign = text(&look_up("410"), Style::Plain);
        assert!(foreign.contains("410 Gone") && foreign.contains("passed on"), "{foreign}");
    }

    #[test]
    fn diagnostics_numbers_of_ours_and_of_lync_are_told_apart() {
        assert!(text(&look_up("61001"), Style::Plain).contains("UMB-SEC001"));
        let foreign = text(&look_up("15030"), Style::Plain);
        assert!(foreign.contains("Exchange") && foreign.contains("never sends it"), "{foreign}");
        assert!(!suggestions("99999").is_empty());
        assert!(matches!(look_up("4294967296"), Answer::Unknown { .. }));
    }

    #[test]
    fn the_unknown_word_is_shown_without_its_control_characters() {
        let out = unknown_text(&format!("\u{1b}[2J{}", "x".repeat(1000)), &[]);
        assert!(!out.contains('\u{1b}') && out.len() < 200, "{out}");
    }
}
