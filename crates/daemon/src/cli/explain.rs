//! `umbra explain`: the registry of codes for people, offline. Owns the lay-out and the suggestion; the words are
//! `b2bua::codes`'.

use b2bua::codes::{self, CodeEntry};
use clap::Args;
use sip::StatusCode;

use super::Exit;
use super::output::{self, Format};

/// Likeness from which a spelling is taken for a slip.
const SIMILARITY_MIN: f64 = 0.7;

/// Ranges of ms-diagnostics numbers and who uses them.
const MS_RANGES: &[(u32, u32, &str)] = &[
    (1_000, 1_999, "SIP stack of Lync or Skype for Business"),
    (10_000, 10_999, "Mediation Server"),
    (12_000, 12_999, "outbound routing of the Front End"),
    (13_000, 13_999, "inbound routing of the Front End"),
    (15_000, 15_999, "Exchange UM routing (ExUM) of the Front End"),
    (24_000, 24_999, "UCMA applications"),
    (52_017, 52_017, "Lync client: encryption levels do not match"),
    (60_000, 60_999, "application: expected success"),
    (61_000, 61_999, "application: expected failure (policy, capacity)"),
    (62_000, 62_999, "application: unexpected failure"),
];

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// UMB-SEC001, SEC001, 488 or 61001
    code: String,
    /// Shape of the output
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) fn run(arguments: &ExplainArgs) -> Exit {
    let entries = find(&arguments.code);
    let preamble = preamble(&arguments.code);
    match arguments.output {
        Format::Json if !entries.is_empty() => output::json(&entries),
        Format::Table if !entries.is_empty() || preamble.is_some() => {
            let texts = preamble.into_iter().chain(entries.iter().map(|entry| describe(entry)));
            output::data(&texts.collect::<Vec<_>>().join("\n\n"));
        }
        Format::Json | Format::Table => {
            output::story(&unknown(&arguments.code));
            return Exit::Failed;
        }
    }
    Exit::Fine
}

fn find(wanted: &str) -> Vec<&'static CodeEntry> {
    match wanted.trim().parse::<u32>() {
        Ok(number) => match u16::try_from(number).ok().and_then(StatusCode::new) {
            Some(status) => codes::by_sip_status(status.code()).collect(),
            None => codes::by_ms_diagnostics(number).collect(),
        },
        Err(_) => codes::lookup(wanted).into_iter().collect(),
    }
}

/// What a bare number is, beside the codes that carry it.
fn preamble(wanted: &str) -> Option<String> {
    let number: u32 = wanted.trim().parse().ok()?;
    if let Some(status) = u16::try_from(number).ok().and_then(StatusCode::new) {
        return Some(format!("SIP {number} {}", status.default_reason()));
    }
    let (_, _, owner) = MS_RANGES.iter().find(|(first, last, _)| (*first..=*last).contains(&number))?;
    Some(format!("ms-diagnostics {number}: {owner}"))
}

fn describe(entry: &CodeEntry) -> String {
    let mut text = format!("{}  {}\n\n  {}", entry.code, entry.title, entry.cause);
    if let Some((status, reason)) = entry.sip {
        text.push_str(&format!("\n\n  The peer sees   {status} {reason}"));
        if let Some(number) = entry.ms_diagnostics {
            text.push_str(&format!(" (ms-diagnostics {number})"));
        }
    }
    let fixes = [("Exchange", entry.fix_exchange), ("Lync", entry.fix_lync), ("Umbra", entry.fix_umbra)];
    for (side, fix) in fixes.into_iter().filter(|(_, fix)| !fix.is_empty()) {
        text.push_str(&format!("\n\n  Fix on the {side} side\n    {fix}"));
    }
    text
}

fn unknown(wanted: &str) -> String {
    let spelled = wanted.trim().to_ascii_uppercase();
    let spelled = if spelled.starts_with("UMB-") { spelled } else { format!("UMB-{spelled}") };
    let similar = codes::all()
        .map(|entry| (strsim::jaro_winkler(&spelled, entry.code), entry))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let shown = b2bua::verdict::clean(wanted);
    match similar {
        Some((_, entry)) => format!("no code {shown}; did you mean {} ({})?", entry.code, entry.title),
        None => format!("no code {shown}; codes look like UMB-SEC001"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(code: &str) -> Exit {
        run(&ExplainArgs { code: code.to_owned(), output: Format::Table })
    }

    #[test]
    fn a_code_a_status_and_a_diagnostics_number_are_all_explained() {
        for code in ["UMB-SEC001", "sec001", "488", "61001", "15030", "404"] {
            assert_eq!(explain(code), Exit::Fine, "{code}");
        }
    }

    #[test]
    fn every_fix_is_shown_with_its_side() {
        let entry = codes::lookup("UMB-SEC001").unwrap();
        let text = describe(entry);
        assert!(text.contains(entry.cause) && text.contains("Fix on the Exchange side"), "{text}");
        assert!(text.contains("488 "), "{text}");
    }

    #[test]
    fn an_unknown_code_fails_with_the_nearest_one() {
        assert_eq!(explain("UMB-SEC999"), Exit::Failed);
        assert!(unknown("UMB-SEX001").contains("UMB-SEC001"), "{}", unknown("UMB-SEX001"));
        assert!(!unknown("\u{1b}[31m").contains('\u{1b}'));
        assert_eq!(explain("99999"), Exit::Failed);
    }
}
