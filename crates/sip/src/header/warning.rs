//! Warning (RFC 3261 §20.43): code, agent and text.

use super::HeaderError;
use super::ms_diagnostics::push_quoted;
use super::params::{quoted_end, unquote};
use crate::wire::scan::{decimal_u32, is_lws, trim};
use bytes::{BufMut, Bytes, BytesMut};

/// One warning.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Warning {
    /// Three digits.
    pub code: u16,
    /// Host or pseudonym of who warns.
    pub agent: Bytes,
    /// The text, unquoted.
    pub text: Bytes,
}

impl Warning {
    /// A miscellaneous warning (399), which is for people to read.
    pub fn miscellaneous(agent: &[u8], text: &[u8]) -> Warning {
        Warning { code: 399, agent: Bytes::copy_from_slice(agent), text: Bytes::copy_from_slice(text) }
    }

    /// Types every warning of a value.
    pub fn parse_list(value: &[u8]) -> Result<Vec<Warning>, HeaderError> {
        let mut all = Vec::new();
        let mut rest = trim(value);
        loop {
            let open = rest.iter().position(|byte| *byte == b'"').ok_or(HeaderError::Malformed)?;
            let end = quoted_end(rest, open).ok_or(HeaderError::QuoteOpen)?;
            let mut words = rest[..open].split(|byte| is_lws(*byte)).filter(|word| !word.is_empty());
            let (Some(code), Some(agent), None) = (words.next(), words.next(), words.next()) else {
                return Err(HeaderError::Malformed);
            };
            let number = decimal_u32(code).filter(|_| code.len() == 3).ok_or(HeaderError::Number)?;
            all.push(Warning {
                code: number as u16,
                agent: Bytes::copy_from_slice(agent),
                text: Bytes::copy_from_slice(&unquote(&rest[open..end])),
            });
            match trim(&rest[end..]) {
                [] => return Ok(all),
                [b',', more @ ..] => rest = trim(more),
                _ => return Err(HeaderError::Trailing),
            }
        }
    }

    /// The value as it stands in a header.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::from(format!("{:03} ", self.code % 1000).as_bytes());
        out.put_slice(&self.agent);
        out.put_u8(b' ');
        push_quoted(&mut out, &self.text);
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_warnings_on_a_line_are_read_and_printed() {
        let all = Warning::parse_list(b"399 gw \"a, \\\"b\\\"\" , 308 lcs.microsoft.com \"c\"").unwrap();
        assert_eq!(all.iter().map(|warning| warning.code).collect::<Vec<_>>(), [399, 308]);
        assert_eq!(&all[0].to_bytes()[..], b"399 gw \"a, \\\"b\\\"\"");
        assert_eq!(Warning::miscellaneous(b"gw", b"a, \"b\""), all[0]);
    }

    #[test]
    fn malformed_warnings_are_refused() {
        for bad in [&b""[..], b"399 gw", b"39999 gw \"x\"", b"399 \"x\"", b"399 gw \"x", b"399 gw \"x\" y"] {
            assert!(Warning::parse_list(bad).is_err());
        }
    }
}
