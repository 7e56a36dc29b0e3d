//! One certificate as a card for people.

use crate::cli::screen::{Style, Tone, escaped};
use crate::tls::facts::{AlternativeName, CertificateFacts, FactsError, Lifetime, NameKind};

/// The card, with a heading.
pub(super) fn text(heading: &str, facts: &Result<CertificateFacts, FactsError>, style: Style) -> String {
    let heading = style.paint(Tone::Strong, heading);
    match facts {
        Ok(facts) => format!("{heading}\n{}", lines(facts, style)),
        Err(error) => format!("{heading}\n  {}\n", style.paint(Tone::Bad, &error.to_string())),
    }
}

fn lines(facts: &CertificateFacts, style: Style) -> String {
    let names: Vec<String> = facts.names.iter().map(|name| name_text(name, style)).collect();
    let purposes = match &facts.purposes {
        Some(purposes) if purposes.is_empty() => "none".to_owned(),
        Some(purposes) => purposes.join(", "),
        None => "any (it does not say)".to_owned(),
    };
    let weak = |is_weak: bool| if is_weak { style.paint(Tone::Bad, "  WEAK") } else { String::new() };
    let bits = facts.key.bits.map_or_else(String::new, |bits| format!(" {bits} bits"));
    let rows = [
        ("subject", facts.subject.clone()),
        ("names", if names.is_empty() { "-".to_owned() } else { names.join(", ") }),
        ("issuer", format!("{}{}", facts.issuer, if facts.self_signed { "  (itself)" } else { "" })),
        ("serial", facts.serial.clone()),
        ("valid", format!("{} to {}  {}", facts.not_before, facts.not_after, life(facts, style))),
        ("key", format!("{}{bits}{}", facts.key.algorithm, weak(facts.key.is_weak))),
        ("signature", format!("{}{}", facts.signature.algorithm, weak(facts.signature.is_weak))),
        ("purposes", purposes),
        ("authority", if facts.is_ca { "yes" } else { "no" }.to_owned()),
        ("SHA-256", facts.sha256.clone()),
        ("thumbprint", facts.thumbprint.clone()),
    ];
    rows.iter().map(|(name, value)| format!("  {name:<11} {value}\n")).collect()
}

fn name_text(name: &AlternativeName, style: Style) -> String {
    match name.kind {
        NameKind::Malformed => style.paint(Tone::Bad, &format!("MALFORMED {}", escaped(&name.text))),
        _ => escaped(&name.text),
    }
}

/// How long it lasts, in words.
pub(super) fn life(facts: &CertificateFacts, style: Style) -> String {
    match facts.life {
        Lifetime::Current if facts.days_left == 1 => "1 day left".to_owned(),
        Lifetime::Current => format!("{} days left", facts.days_left),
        Lifetime::NotYetValid => style.paint(Tone::Bad, "NOT VALID YET"),
        Lifetime::Expired => style.paint(Tone::Bad, "EXPIRED"),
    }
}
