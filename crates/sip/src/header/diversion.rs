//! Diversion (RFC 5806) in the dialects that occur, and the repair of malformed quoting. Which entry counts is for
//! the caller to decide; the first entry is the most recent diversion, the last one the original.

use super::params::{quoted_end, unquote};
use super::{HeaderError, NameAddr};
use crate::Message;
use crate::wire::HeaderId;
use bytes::Bytes;
use std::borrow::Cow;

/// Every diversion of a message, most recent first.
#[derive(Clone, Eq, PartialEq, Debug, Default)]
pub struct Diversion {
    /// The entries in wire order.
    pub entries: Vec<DiversionEntry>,
}

/// One diversion.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct DiversionEntry {
    /// Who diverted.
    pub address: NameAddr,
    /// `no-answer`, `user-busy`, `unconditional` ..., unquoted; absent in Lync's dialect.
    pub reason: Option<Bytes>,
}

impl Diversion {
    /// Types all Diversion lines of a message, repairing quotes first.
    pub fn of(message: &Message) -> Result<Diversion, HeaderError> {
        let mut all = Diversion::default();
        for value in message.values_bytes(HeaderId::Diversion) {
            all.entries.append(&mut Diversion::parse(value)?.entries);
        }
        Ok(all)
    }

    /// Types one value, repairing quotes first.
    pub fn parse(value: Bytes) -> Result<Diversion, HeaderError> {
        let value = match normalise_quoting(&value) {
            Cow::Borrowed(_) => value.clone(),
            Cow::Owned(repaired) => Bytes::from(repaired),
        };
        let entries = NameAddr::parse_list(value)?.into_iter().map(|address| {
            let reason = address.param("reason").flatten().map(|raw| Bytes::copy_from_slice(&unquote(raw)));
            DiversionEntry { address, reason }
        });
        Ok(Diversion { entries: entries.collect() })
    }

    /// The oldest diversion, listed last: whom the caller called in the first place.
    pub fn original(&self) -> Option<&DiversionEntry> {
        self.entries.last()
    }

    /// The latest diversion, listed first.
    pub fn latest(&self) -> Option<&DiversionEntry> {
        self.entries.first()
    }

    /// The value with malformed quoting repaired; borrowed, hence byte-exact, when nothing is wrong with it.
    pub fn normalise_quoting(value: &[u8]) -> Cow<'_, [u8]> {
        normalise_quoting(value)
    }
}

/// Repairs three faults: a display name whose quote never closes or closes too often before `<`, and a parameter
/// whose quote never closes.
fn normalise_quoting(value: &[u8]) -> Cow<'_, [u8]> {
    if NameAddr::parse_list(Bytes::copy_from_slice(value)).is_ok() {
        return Cow::Borrowed(value);
    }
    let mut out = Vec::with_capacity(value.len() + 2);
    let mut rest = value;
    while let Some(open) = rest.iter().position(|byte| *byte == b'<') {
        let Some(close) = rest[open..].iter().position(|byte| *byte == b'>').map(|at| open + at) else {
            break;
        };
        push_display(&mut out, &rest[..open]);
        out.extend_from_slice(&rest[open..=close]);
        rest = &rest[close + 1..];
        let end = entry_end(rest);
        push_params(&mut out, &rest[..end]);
        rest = &rest[end..];
        if let [b',', more @ ..] = rest {
            out.push(b',');
            rest = more;
        }
    }
    out.extend_from_slice(rest);
    if NameAddr::parse_list(Bytes::copy_from_slice(&out)).is_ok() {
        Cow::Owned(out)
    } else {
        Cow::Borrowed(value)
    }
}

/// Everything but the outer white space becomes one quoted string, its inner stray quotes dropped.
fn push_display(out: &mut Vec<u8>, display: &[u8]) {
    let text: Vec<u8> =
        crate::wire::scan::trim(display).iter().copied().filter(|byte| *byte != b'"').collect();
    let text = crate::wire::scan::trim(&text);
    if !text.is_empty() {
        out.push(b'"');
        out.extend_from_slice(text.strip_suffix(b"\\").unwrap_or(text));
        out.push(b'"');
    }
}

fn entry_end(rest: &[u8]) -> usize {
    let mut at = 0;
    let mut quotes_pair = true;
    while at < rest.len() {
        match rest[at] {
            b',' => return at,
            b'"' if quotes_pair => match quoted_end(rest, at) {
                Some(end) => at = end,
                // none of the later quotes is looked up again, or the cost would be quadratic
                None => quotes_pair = false,
            },
            _ => at += 1,
        }
    }
    at
}

/// Quotes that pair stay; in a parameter where they do not, they go.
fn push_params(out: &mut Vec<u8>, params: &[u8]) {
    for (name, value) in super::Params::new(params) {
        out.push(b';');
        out.extend_from_slice(name);
        let Some(value) = value else { continue };
        out.push(b'=');
        let closed = value.first() == Some(&b'"') && quoted_end(value, 0) == Some(value.len());
        let keep = |byte: &&u8| closed || **byte != b'"';
        out.extend(value.iter().filter(keep));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(text: &str) -> String {
        String::from_utf8(normalise_quoting(text.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn the_dialects_that_occur_are_typed() {
        let bare = Diversion::parse(Bytes::from_static(b"<sip:ken@contoso.com>")).unwrap();
        assert_eq!(bare.original().unwrap().reason, None);
        let pbx = b"\"Doe, Jane\"<sip:65514@198.51.100.20>;privacy=off;reason=\"no-answer\";screen=yes, <tel:6095>;reason=user-busy";
        let pbx = Diversion::parse(Bytes::from_static(pbx)).unwrap();
        assert_eq!(pbx.latest().unwrap().reason.as_deref(), Some(&b"no-answer"[..]));
        assert_eq!(pbx.latest().unwrap().address.display_text().as_deref(), Some(&b"Doe, Jane"[..]));
        assert_eq!(pbx.original().unwrap().address.uri.user(), Some(&b"6095"[..]));
    }

    #[test]
    fn well_formed_values_are_not_touched() {
        for text in ["<sip:a@h> ; reason=x", "\"A \\\" B\" <sip:a@h>;reason=\"x;y\",<tel:1>", "sip:a@h"] {
            assert!(matches!(normalise_quoting(text.as_bytes()), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn malformed_quoting_is_repaired_and_nothing_else() {
        assert_eq!(
            normal("\"Doe, Jane <sip:1@h>;reason=no-answer"),
            "\"Doe, Jane\"<sip:1@h>;reason=no-answer"
        );
        assert_eq!(normal("Doe, Jane\" <sip:1@h>"), "\"Doe, Jane\"<sip:1@h>");
        assert_eq!(
            normal("<sip:1@h>;reason=\"no-answer;screen=yes"),
            "<sip:1@h>;reason=no-answer;screen=yes"
        );
        assert_eq!(normal("\"A\"B\" <sip:1@h>,<tel:2>"), "\"AB\"<sip:1@h>,<tel:2>");
        assert_eq!(normal("<sip:1@h"), "<sip:1@h");
    }
}
