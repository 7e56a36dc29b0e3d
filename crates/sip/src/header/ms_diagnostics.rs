//! `ms-diagnostics` and its relatives: a number, who says so, why, and further pairs in any order.
//! Which number means what is the business of whoever creates it.

use super::HeaderError;
use super::params::{Params, unquote};
use crate::wire::scan::{decimal_u32, is_token, trim};
use bytes::{BufMut, Bytes, BytesMut};

/// One diagnosis.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct MsDiagnostics {
    /// The error number.
    pub id: u32,
    /// The host that says so, unquoted.
    pub source: Option<Bytes>,
    /// Why, unquoted.
    pub reason: Option<Bytes>,
    /// Everything else in order: name as spelled, value unquoted.
    pub params: Vec<(Bytes, Option<Bytes>)>,
}

impl MsDiagnostics {
    /// A diagnosis of our own.
    pub fn new(id: u32, source: &[u8], reason: &[u8]) -> MsDiagnostics {
        let (source, reason) = (Bytes::copy_from_slice(source), Bytes::copy_from_slice(reason));
        MsDiagnostics { id, source: Some(source), reason: Some(reason), params: Vec::new() }
    }

    /// Adds a pair.
    pub fn param(mut self, name: &[u8], value: &[u8]) -> MsDiagnostics {
        self.params.push((Bytes::copy_from_slice(name), Some(Bytes::copy_from_slice(value))));
        self
    }

    /// Types a value such as `15000;reason="...";source="FE01";appName="ExumRouting"`. A pair whose name is no token is left out.
    pub fn parse(value: &[u8]) -> Result<MsDiagnostics, HeaderError> {
        let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
        let id = decimal_u32(trim(&value[..end])).ok_or(HeaderError::Number)?;
        let mut typed = MsDiagnostics { id, source: None, reason: None, params: Vec::new() };
        for (name, value) in Params::new(&value[end..]) {
            if !is_token(name) {
                continue;
            }
            let text = value.map(|value| Bytes::copy_from_slice(&unquote(value)));
            match name {
                _ if name.eq_ignore_ascii_case(b"source") && typed.source.is_none() => typed.source = text,
                _ if name.eq_ignore_ascii_case(b"reason") && typed.reason.is_none() => typed.reason = text,
                _ => typed.params.push((Bytes::copy_from_slice(name), text)),
            }
        }
        Ok(typed)
    }

    /// The value as it stands in a header: number, source, reason, the rest; every value quoted.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::from(self.id.to_string().as_bytes());
        let first = [(&b"source"[..], &self.source), (&b"reason"[..], &self.reason)];
        for (name, value) in first {
            if let Some(value) = value {
                push_pair(&mut out, name, Some(value));
            }
        }
        for (name, value) in &self.params {
            push_pair(&mut out, name, value.as_deref());
        }
        out.freeze()
    }
}

fn push_pair(out: &mut BytesMut, name: &[u8], value: Option<&[u8]>) {
    out.put_u8(b';');
    out.put_slice(name);
    if let Some(value) = value {
        out.put_u8(b'=');
        push_quoted(out, value);
    }
}

/// Writes a quoted string; what would end the line becomes a space.
pub(super) fn push_quoted(out: &mut BytesMut, text: &[u8]) {
    out.put_u8(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => out.put_slice(&[b'\\', *byte]),
            b'\r' | b'\n' | 0 => out.put_u8(b' '),
            _ => out.put_u8(*byte),
        }
    }
    out.put_u8(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_in_any_order_quoted_or_not() {
        let typed = MsDiagnostics::parse(b"15000;reason=\"a;b\";Source=FE01;appName=\"Exum\\\"R\"").unwrap();
        assert_eq!(typed.id, 15000);
        assert_eq!(typed.reason.as_deref(), Some(&b"a;b"[..]));
        assert_eq!(typed.source.as_deref(), Some(&b"FE01"[..]));
        assert_eq!(&typed.to_bytes()[..], b"15000;source=\"FE01\";reason=\"a;b\";appName=\"Exum\\\"R\"");
        assert_eq!(MsDiagnostics::parse(&typed.to_bytes()), Ok(typed));
        assert!(MsDiagnostics::parse(b"oops;reason=x").is_err());
    }

    #[test]
    fn printing_never_ends_the_line() {
        let printed = MsDiagnostics::new(61001, b"gw", b"x\r\nEvil: 1").to_bytes();
        assert_eq!(&printed[..], b"61001;source=\"gw\";reason=\"x  Evil: 1\"");
    }
}
