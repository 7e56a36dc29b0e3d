//! One verdict per call: who, what, evidence, remedy; and the one function that turns a refusal into what the peer
//! sees. Owns words, refuses to know how the answer travels.

use std::borrow::Cow;

use serde::Serialize;

use crate::codes::{Code, CodeEntry};

/// Characters of peer-supplied text kept in one verdict field.
pub const TEXT_CHARS_MAX: usize = 240;
/// Lines of evidence kept.
pub const EVIDENCE_LINES_MAX: usize = 16;

/// Why a call ended as it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Stable code, see [`crate::codes`].
    pub code: Code,
    /// Whose doing it was: a pool, a dial plan, a server, a caller, this gateway.
    pub who: String,
    /// What happened, one sentence.
    pub what: String,
    /// Facts that led to it.
    pub evidence: Vec<String>,
    /// What to do about it; empty when nothing is wrong.
    pub remedy: String,
}

impl Verdict {
    /// A verdict with the registry's remedy. `who` and `what` are cleaned of control characters and bounded.
    pub fn new(code: Code, who: impl AsRef<str>, what: impl AsRef<str>) -> Self {
        Self {
            code,
            who: clean(who.as_ref()),
            what: clean(what.as_ref()),
            evidence: Vec::new(),
            remedy: code.entry().remedy().to_owned(),
        }
    }

    /// Adds one line of evidence (cleaned, bounded).
    #[must_use]
    pub fn evidence(mut self, line: impl AsRef<str>) -> Self {
        if self.evidence.len() < EVIDENCE_LINES_MAX {
            self.evidence.push(clean(line.as_ref()));
        }
        self
    }

    /// Replaces the registry's remedy by a more exact one.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

/// A decision not to go on, before it is mapped to an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The verdict of the call that is refused.
    pub verdict: Verdict,
    /// Seconds after which a new attempt makes sense.
    pub retry_after_secs: Option<u32>,
}

impl Refusal {
    /// A refusal with the registry's remedy.
    pub fn new(code: Code, who: impl AsRef<str>, what: impl AsRef<str>) -> Self {
        Verdict::new(code, who, what).into()
    }

    /// Adds one line of evidence.
    #[must_use]
    pub fn evidence(mut self, line: impl AsRef<str>) -> Self {
        self.verdict = self.verdict.evidence(line);
        self
    }

    /// Asks the peer to wait.
    #[must_use]
    pub fn retry_after(mut self, secs: u32) -> Self {
        self.retry_after_secs = Some(secs);
        self
    }

    /// Its stable code.
    pub fn code(&self) -> Code {
        self.verdict.code
    }

    /// What the peer sees: the only mapping from a refusal to a SIP answer. Codes without an answer of their own
    /// (facts, findings of `check`) map to 500.
    pub fn reply(&self, gateway_fqdn: &str) -> Reply {
        let entry = self.code().entry();
        let (status, reason) = entry.sip.unwrap_or((500, "Server Internal Error"));
        let mut headers = Vec::with_capacity(3);
        let what = quoted(&self.verdict.what);
        headers.push(("Warning", warning_of(gateway_fqdn, &what)));
        if let Some(id) = entry.ms_diagnostics {
            headers.push(("ms-diagnostics", diagnostics(entry, id, gateway_fqdn, &what)));
        }
        if let Some(secs) = self.retry_after_secs {
            headers.push(("Retry-After", secs.to_string()));
        }
        Reply { status, reason, headers }
    }
}

impl From<Verdict> for Refusal {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, retry_after_secs: None }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code(), self.verdict.what)
    }
}

impl std::error::Error for Refusal {}

/// A final answer as the peer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// SIP status code.
    pub status: u16,
    /// Reason phrase.
    pub reason: &'static str,
    /// Header names and values, free of CR, LF and NUL.
    pub headers: Vec<(&'static str, String)>,
}

/// Text that may hold a peer's bytes, made safe to print: control characters, line separators and what turns
/// the direction become `?`, length bounded.
pub fn clean(text: &str) -> String {
    // Most texts are our own.
    if text.len() <= TEXT_CHARS_MAX && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    text.chars().take(TEXT_CHARS_MAX).map(|c| if c.is_control() || is_layout(c) { '?' } else { c }).collect()
}

// What ends a line or turns its direction.
fn is_layout(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Value of a Warning with words of ours (RFC 3261 §20.43: 399 is any other warning).
pub(crate) fn warning(gateway_fqdn: &str, text: &str) -> String {
    warning_of(gateway_fqdn, &quoted(&clean(text)))
}

fn warning_of(gateway_fqdn: &str, quoted: &str) -> String {
    ["399 ", gateway_fqdn, " \"", quoted, "\""].concat()
}

fn diagnostics(entry: &CodeEntry, id: u32, gateway_fqdn: &str, what: &str) -> String {
    let reason = quoted(entry.sip.map_or(entry.title, |(_, reason)| reason));
    let (id, code) = (id.to_string(), entry.code);
    // Without `format!`: a flood of refusals is when time is short.
    let parts = [
        &id,
        ";source=\"",
        gateway_fqdn,
        "\";reason=\"",
        &reason,
        "\";code=\"",
        code,
        "\";detail=\"",
        what,
        "\"",
    ];
    parts.concat()
}

/// The inside of a quoted-string (RFC 3261 §25.1): quotes and backslashes escaped.
fn quoted(text: &str) -> Cow<'_, str> {
    if !text.contains(['"', '\\']) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes;

    #[test]
    fn what_a_peer_wrote_cannot_break_a_header_or_a_log_line() {
        let refusal = Refusal::new(
            codes::NO_ROUTE,
            "pbx\r\nX: y",
            "no \"route\" to \u{1b}[2J\\ \r\nInjected: 1\u{202e}",
        );
        let reply = refusal.retry_after(7).reply("umbra.contoso.com");
        for (_, value) in &reply.headers {
            assert!(!value.chars().any(|c| c.is_control() || c == '\u{202e}'), "{value:?}");
        }
        assert_eq!(
            reply.headers[0].1,
            "399 umbra.contoso.com \"no \\\"route\\\" to ?[2J\\\\ ??Injected: 1?\""
        );
        assert_eq!(reply.headers[2], ("Retry-After", "7".to_owned()));
        assert_eq!(refusal_who("a\nb"), "a?b");
    }

    fn refusal_who(who: &str) -> String {
        Refusal::new(codes::INTERNAL, who, "").verdict.who
    }

    #[test]
    fn texts_and_evidence_are_bounded() {
        let mut verdict = Verdict::new(codes::INTERNAL, "x".repeat(10_000), "é".repeat(10_000));
        for _ in 0..100 {
            verdict = verdict.evidence("line");
        }
        assert_eq!(
            (verdict.who.chars().count(), verdict.what.chars().count()),
            (TEXT_CHARS_MAX, TEXT_CHARS_MAX)
        );
        assert_eq!(verdict.evidence.len(), EVIDENCE_LINES_MAX);
    }

    #[test]
    fn a_code_that_is_no_refusal_still_gives_a_well_formed_answer() {
        let reply = Refusal::new(codes::LONE_SERVER, "", "").reply("umbra.contoso.com");
        assert_eq!((reply.status, reply.headers.len()), (500, 1));
    }
}
