//! Addresses with display name and parameters: From, To, Contact, Route, P-Asserted-Identity and their kin.
//! Quoting and bytes stay as received; nothing is re-spelled.

use super::HeaderError;
use super::params::{Params, quoted_end, scan_params, skip_lws, unquote};
use crate::Uri;
use crate::uri;
use crate::wire::scan::{decimal_u32, is_lws, trim_range};
use bytes::Bytes;
use std::borrow::Cow;
use std::ops::Range;

/// One address of a header.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct NameAddr {
    /// The whole entry as received, without the commas around it.
    pub raw: Bytes,
    /// The display name as received, quotes included; `display_text` removes them.
    pub display: Option<Bytes>,
    /// The URI between the angle brackets, or the bare one.
    pub uri: Uri,
    params: Bytes,
}

/// Where the parts of one entry stand.
pub(crate) struct Spans {
    whole: Range<usize>,
    display: Option<Range<usize>>,
    uri: Range<usize>,
    /// The value of the `tag` parameter.
    pub(crate) tag: Option<Range<usize>>,
    params: usize,
    end: usize,
}

#[derive(Copy, Clone, Eq, PartialEq)]
enum Comma {
    Separates,
    Belongs,
}

impl NameAddr {
    /// Types a header that holds exactly one address. A comma in an unquoted display name is let through.
    pub fn parse_one(value: Bytes) -> Result<NameAddr, HeaderError> {
        let spans = scan_single(&value, 0..value.len())?;
        NameAddr::from_spans(&value, &spans)
    }

    /// Types a comma-separated list. The lone `*` of a Contact gives an empty list.
    pub fn parse_list(value: Bytes) -> Result<Vec<NameAddr>, HeaderError> {
        let mut all = Vec::new();
        walk_list(&value, 0..value.len(), |spans| {
            all.push(NameAddr::from_spans(&value, &spans)?);
            Ok(())
        })?;
        Ok(all)
    }

    fn from_spans(value: &Bytes, spans: &Spans) -> Result<NameAddr, HeaderError> {
        Ok(NameAddr {
            raw: value.slice(spans.whole.clone()),
            display: spans.display.clone().map(|range| value.slice(range)),
            uri: Uri::parse(value.slice(spans.uri.clone()))?,
            params: value.slice(spans.params..spans.whole.end.max(spans.params)),
        })
    }

    /// The display name without quotes and escapes.
    pub fn display_text(&self) -> Option<Cow<'_, [u8]>> {
        self.display.as_deref().map(unquote)
    }

    /// The same entry around another URI: display name and parameters stay as received.
    #[must_use]
    pub fn with_uri(&self, uri: &[u8]) -> Bytes {
        let display = self.display.as_deref().unwrap_or_default();
        [display, b"<", uri, b">", &self.params[..]].concat().into()
    }

    /// The `tag` parameter.
    pub fn tag(&self) -> Option<&[u8]> {
        self.param("tag").flatten()
    }

    /// The `q` parameter in thousandths; `None` when absent or malformed.
    pub fn q(&self) -> Option<u16> {
        self.param("q").flatten().and_then(permille)
    }

    /// A header parameter by name in any case: its raw value, or `Some(None)` when it has none.
    pub fn param(&self, name: &str) -> Option<Option<&[u8]>> {
        self.params().find(name)
    }

    /// All header parameters in order.
    pub fn params(&self) -> Params<'_> {
        Params::new(&self.params)
    }
}

/// `0`, `1`, `0.5`, `0.333`, `1.000` as thousandths.
fn permille(value: &[u8]) -> Option<u16> {
    let (whole, fraction) = match value.iter().position(|byte| *byte == b'.') {
        Some(at) => (&value[..at], &value[at + 1..]),
        None => (value, &b""[..]),
    };
    let whole = if whole.is_empty() { 0 } else { decimal_u32(whole)? };
    let thousandths = match fraction.len() {
        0 => 0,
        len @ 1..=3 => decimal_u32(fraction)? * 10u32.pow(3 - len as u32),
        _ => return None,
    };
    let all = whole.checked_mul(1000)?.checked_add(thousandths)?;
    u16::try_from(all).ok().filter(|all| *all <= 1000)
}

/// Cuts the only address of `range`.
pub(crate) fn scan_single(bytes: &[u8], range: Range<usize>) -> Result<Spans, HeaderError> {
    let bytes = &bytes[..range.end];
    let spans = scan_entry(bytes, range.start, Comma::Belongs)?;
    if spans.end < bytes.len() { Err(HeaderError::Trailing) } else { Ok(spans) }
}

/// Checks a list without building it.
pub(crate) fn check_list(bytes: &[u8], range: Range<usize>) -> Result<(), HeaderError> {
    walk_list(bytes, range, |_| Ok(()))
}

fn walk_list(
    bytes: &[u8],
    range: Range<usize>,
    mut visit: impl FnMut(Spans) -> Result<(), HeaderError>,
) -> Result<(), HeaderError> {
    let bytes = &bytes[..range.end];
    let mut at = skip_lws(bytes, range.start);
    if crate::wire::scan::trim(&bytes[at..]) == b"*" {
        return Ok(());
    }
    loop {
        let spans = scan_entry(bytes, at, Comma::Separates)?;
        let end = spans.end;
        visit(spans)?;
        match bytes.get(end) {
            None => return Ok(()),
            Some(b',') => at = end + 1,
            Some(_) => return Err(HeaderError::Trailing),
        }
    }
}

/// Cuts the entry at `from`; its `end` is the comma behind it, the end of bytes, or whatever does not belong.
fn scan_entry(bytes: &[u8], from: usize, comma: Comma) -> Result<Spans, HeaderError> {
    let start = skip_lws(bytes, from);
    let (display, open) = match bytes.get(start) {
        None => return Err(HeaderError::Empty),
        Some(b'"') => {
            let behind = quoted_end(bytes, start).ok_or(HeaderError::QuoteOpen)?;
            let open = skip_lws(bytes, behind);
            if bytes.get(open) != Some(&b'<') {
                return Err(HeaderError::Malformed);
            }
            (Some(start..behind), open)
        }
        Some(_) => match find_open(bytes, start, comma)? {
            Some(open) => {
                let display = trim_range(bytes, start..open);
                ((!display.is_empty()).then_some(display), open)
            }
            None => return scan_bare(bytes, start),
        },
    };
    let close = open + memchr::memchr(b'>', &bytes[open..]).ok_or(HeaderError::BracketOpen)?;
    uri::cut(&bytes[open + 1..close])?;
    finish(bytes, start, display, open + 1..close, close + 1)
}

/// The `<` behind an unquoted display name, unless a bare URI stands here.
fn find_open(bytes: &[u8], start: usize, comma: Comma) -> Result<Option<usize>, HeaderError> {
    for (at, byte) in bytes.iter().enumerate().skip(start) {
        match byte {
            b'<' => return Ok(Some(at)),
            b';' => return Ok(None),
            b',' if comma == Comma::Separates => return Ok(None),
            b'"' => return Err(HeaderError::Malformed),
            _ => {}
        }
    }
    Ok(None)
}

/// A URI without brackets: its `;` start header parameters, and `?` or `,` may not occur (RFC 3261 §20.10).
fn scan_bare(bytes: &[u8], start: usize) -> Result<Spans, HeaderError> {
    let in_uri = |byte: &&u8| !is_lws(**byte) && !matches!(**byte, b';' | b',');
    let end = start + bytes[start..].iter().take_while(in_uri).count();
    if bytes[start..end].contains(&b'?') {
        return Err(HeaderError::Malformed);
    }
    uri::cut(&bytes[start..end])?;
    finish(bytes, start, None, start..end, end)
}

fn finish(
    bytes: &[u8],
    start: usize,
    display: Option<Range<usize>>,
    uri: Range<usize>,
    params: usize,
) -> Result<Spans, HeaderError> {
    let mut tag = None;
    let end = scan_params(bytes, params, |name, value| {
        if tag.is_none() && name.eq_ignore_ascii_case(b"tag") {
            tag = Some(value);
        }
    })?;
    Ok(Spans { whole: trim_range(bytes, start..end), display, uri, tag, params, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &'static str) -> Result<NameAddr, HeaderError> {
        NameAddr::parse_one(Bytes::from_static(text.as_bytes()))
    }

    fn list(text: &'static str) -> Result<Vec<NameAddr>, HeaderError> {
        NameAddr::parse_list(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn quoted_bare_and_missing_display_names_are_told_apart() {
        let quoted = one("\"Doe, \\\"J\\\" <x>\"<sip:j@h>;tag=1").unwrap();
        assert_eq!(quoted.display_text().as_deref(), Some(&b"Doe, \"J\" <x>"[..]));
        assert_eq!(quoted.tag(), Some(&b"1"[..]));
        assert_eq!(
            one("Bell, Alexander <sip:a@h>;tag=43").unwrap().display.as_deref(),
            Some(&b"Bell, Alexander"[..])
        );
        assert_eq!(one("<sip:a@h>").unwrap().display, None);
        assert_eq!(one("caller<sip:a@h>;tag=323").unwrap().display.as_deref(), Some(&b"caller"[..]));
    }

    #[test]
    fn another_uri_leaves_display_name_and_parameters_alone() {
        let quoted = one("\"sip:j@h\" <sip:j@h>;cid=\"1@h\"").unwrap();
        assert_eq!(quoted.with_uri(b"sip:k@i"), "\"sip:j@h\"<sip:k@i>;cid=\"1@h\"");
        assert_eq!(one("sip:a@h;x").unwrap().with_uri(b"sip:b@i?R=1"), "<sip:b@i?R=1>;x");
    }

    #[test]
    fn parameters_of_a_bare_uri_belong_to_the_header() {
        let bare = one("sip:a@h;unknownparam;tag=x").unwrap();
        assert_eq!(bare.uri.param("unknownparam"), None);
        assert_eq!(bare.param("unknownparam"), Some(None));
        let bracketed = one("<sip:a@h;unknownparam>").unwrap();
        assert_eq!(bracketed.uri.param("unknownparam"), Some(None));
        assert_eq!(bracketed.param("unknownparam"), None);
    }

    #[test]
    fn lists_are_cut_at_commas_outside_quotes_and_brackets() {
        let all = list("\"A,B\"<sip:a,b@h;x=1,2>;q=0.5 , <tel:+1>;q=1,sip:c@h").unwrap();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].raw, "\"A,B\"<sip:a,b@h;x=1,2>;q=0.5");
        assert_eq!(all.iter().map(NameAddr::q).collect::<Vec<_>>(), [Some(500), Some(1000), None]);
        assert_eq!(all[2].uri.raw(), "sip:c@h");
        assert_eq!(list("*"), Ok(vec![]));
    }

    #[test]
    fn malformed_addresses_are_refused() {
        assert_eq!(one("\"Mr. J. User <sip:j@h>"), Err(HeaderError::QuoteOpen));
        assert_eq!(one("<sip:a@h"), Err(HeaderError::BracketOpen));
        assert_eq!(one("<sip:a@h>;;"), Err(HeaderError::ParamMalformed));
        assert_eq!(one("<sip:a@h>,<sip:b@h>"), Err(HeaderError::Trailing));
        assert_eq!(one("sip:a@h?Route=x"), Err(HeaderError::Malformed));
        assert!(one("\"W\" < sip:a@h >").is_err());
        for bad in ["", "  ", ",", "<sip:a@h>,", "<sip:a@h>,,<sip:b@h>"] {
            assert!(list(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn quality_values_outside_zero_to_one_do_not_count() {
        let q = |text: &str| permille(text.as_bytes());
        assert_eq!([q("0"), q("1.000"), q(".33"), q("0.333")], [Some(0), Some(1000), Some(330), Some(333)]);
        assert_eq!([q("1.1"), q("2"), q("x"), q("0.1234"), q("-1"), q("99999999999")], [None; 6]);
    }
}
