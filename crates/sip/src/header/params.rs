//! `;name=value` lists, as headers, URIs and Via share them. Values stay raw, quotes included.

use super::HeaderError;
use crate::wire::scan::{is_lws, is_token_char, trim};
use std::borrow::Cow;
use std::ops::Range;

/// Iterates the parameters of a list that starts with its first `;`. Empty ones are skipped.
#[derive(Clone, Debug)]
pub struct Params<'a> {
    rest: &'a [u8],
}

impl<'a> Params<'a> {
    /// Over raw bytes; tolerates anything.
    pub fn new(raw: &'a [u8]) -> Params<'a> {
        Params { rest: raw }
    }

    /// The raw value of the first parameter of that name, in any case; `Some(None)` when it has no value.
    pub fn find(mut self, name: &str) -> Option<Option<&'a [u8]>> {
        self.by_ref().find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }
}

impl<'a> Iterator for Params<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = memchr::memchr(b';', self.rest)? + 1;
            let rest = &self.rest[start..];
            let end = param_end(rest);
            self.rest = &rest[end..];
            let param = trim(&rest[..end]);
            if param.is_empty() {
                continue;
            }
            return Some(match param.iter().position(|byte| *byte == b'=') {
                Some(at) => (trim(&param[..at]), Some(trim(&param[at + 1..]))),
                None => (param, None),
            });
        }
    }
}

/// Where the parameter at the start ends: at a `;` outside quotes, or the end.
fn param_end(bytes: &[u8]) -> usize {
    let mut at = 0;
    while at < bytes.len() {
        match memchr::memchr2(b';', b'"', &bytes[at..]) {
            Some(found) if bytes[at + found] == b'"' => {
                at = quoted_end(bytes, at + found).unwrap_or(bytes.len());
            }
            Some(found) => return at + found,
            None => return bytes.len(),
        }
    }
    at
}

/// Index behind the quoted string that opens at `open`; `None` when it is not closed.
pub(crate) fn quoted_end(bytes: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// Checks `*( ; name [= value] )` from `at` on, shows each name and where its value stands, and returns where it stops: at a comma, at the end, or at a byte that
/// cannot belong to it. An empty parameter is malformed, as RFC 4475 §3.1.2.1 wants.
pub(crate) fn scan_params(
    bytes: &[u8],
    mut at: usize,
    mut visit: impl FnMut(&[u8], Range<usize>),
) -> Result<usize, HeaderError> {
    loop {
        let behind = skip_lws(bytes, at);
        if bytes.get(behind) != Some(&b';') {
            return Ok(behind);
        }
        let (name, value, end) = scan_param(bytes, behind + 1)?;
        visit(&bytes[name], value);
        at = end;
    }
}

/// Name, value and end of the parameter that starts at `at`, behind its `;`.
fn scan_param(bytes: &[u8], at: usize) -> Result<(Range<usize>, Range<usize>, usize), HeaderError> {
    let start = skip_lws(bytes, at);
    let name_end = start + bytes[start..].iter().take_while(|byte| is_token_char(**byte)).count();
    if name_end == start {
        return Err(HeaderError::ParamMalformed);
    }
    let equals = skip_lws(bytes, name_end);
    if bytes.get(equals) != Some(&b'=') {
        return Ok((start..name_end, name_end..name_end, name_end));
    }
    let value = skip_lws(bytes, equals + 1);
    let end = if bytes.get(value) == Some(&b'"') {
        quoted_end(bytes, value).ok_or(HeaderError::QuoteOpen)?
    } else {
        let plain = |byte: &&u8| !is_lws(**byte) && !matches!(**byte, b';' | b',' | b'"' | b'<' | b'>');
        value + bytes[value..].iter().take_while(plain).count()
    };
    Ok((start..name_end, value..end, end))
}

pub(crate) fn skip_lws(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).copied().is_some_and(is_lws) {
        at += 1;
    }
    at
}

/// A value without its quotes and escapes; an unquoted one as it is.
pub(crate) fn unquote(value: &[u8]) -> Cow<'_, [u8]> {
    let Some(inner) = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return Cow::Borrowed(value);
    };
    if !inner.contains(&b'\\') {
        return Cow::Borrowed(inner);
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut escaped = false;
    for byte in inner {
        if *byte == b'\\' && !escaped {
            escaped = true;
            continue;
        }
        escaped = false;
        out.push(*byte);
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_values_may_hold_separators() {
        let all: Vec<_> = Params::new(b" ;a=\"x;y\\\"z\" ; B ;; c = d:e").collect();
        let expected: [(&[u8], Option<&[u8]>); 3] =
            [(b"a", Some(b"\"x;y\\\"z\"")), (b"B", None), (b"c", Some(b"d:e"))];
        assert_eq!(all, expected);
        assert_eq!(Params::new(b";a=\"x;y").find("A"), Some(Some(&b"\"x;y"[..])));
        assert_eq!(&*unquote(b"\"a\\\"b\\\\\""), b"a\"b\\");
        assert_eq!(&*unquote(b"plain"), b"plain");
    }

    #[test]
    fn the_checker_stops_at_commas_and_refuses_empty_parameters() {
        assert_eq!(scan_params(b";a=b ; c , x", 0, |_, _| ()), Ok(9));
        let mut seen = Vec::new();
        assert_eq!(
            scan_params(b" ;a=b;TAG = 9~x", 0, |name, value| seen.push((name.to_vec(), value))),
            Ok(15)
        );
        assert_eq!(seen, [(b"a".to_vec(), 4..5), (b"TAG".to_vec(), 12..15)]);
        for bad in [&b";;"[..], b";", b";=x", b";a=\"x"] {
            assert!(scan_params(bad, 0, |_, _| ()).is_err());
        }
    }
}
