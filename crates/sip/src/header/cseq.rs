//! CSeq: the number and method that order requests in a dialog.

use super::HeaderError;
use crate::Method;
use crate::wire::scan::{decimal_u32, is_lws, is_token, trim};

/// A sequence number with its method.
#[derive(Clone, Eq, PartialEq, Hash, Debug)]
pub struct CSeq {
    /// 0 to 2^32-1; what is sent stays below 2^31 (RFC 3261 §8.1.1.5).
    pub number: u32,
    /// The method.
    pub method: Method,
}

impl CSeq {
    /// Types a value such as `4711 INVITE`.
    pub fn parse(value: &[u8]) -> Result<CSeq, HeaderError> {
        let (number, method) = cut(value)?;
        Ok(CSeq { number, method: Method::from_bytes(method) })
    }
}

/// Number and method token without copying.
pub(crate) fn cut(value: &[u8]) -> Result<(u32, &[u8]), HeaderError> {
    let value = trim(value);
    let gap = value.iter().position(|byte| is_lws(*byte)).ok_or(HeaderError::Malformed)?;
    let number = decimal_u32(&value[..gap]).ok_or(HeaderError::Number)?;
    let method = trim(&value[gap..]);
    if is_token(method) { Ok((number, method)) } else { Err(HeaderError::Malformed) }
}

impl std::fmt::Display for CSeq {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_up_to_32_bits_and_any_method_token_are_read() {
        let cseq = CSeq::parse(b"0009\r\n  INVITE").unwrap();
        assert_eq!(cseq.to_string(), "9 INVITE");
        assert_eq!(CSeq::parse(b"4294967295 X-y").unwrap().number, u32::MAX);
        for bad in [
            &b""[..],
            b"1",
            b"INVITE",
            b"-1 INVITE",
            b"36893488147419103232 REGISTER",
            b"1 IN VITE",
            b"1 a@b",
        ] {
            assert!(CSeq::parse(bad).is_err());
        }
    }
}
