//! RAck (RFC 3262 §7.2): which reliable provisional response a PRACK acknowledges.

use super::{CSeq, HeaderError};
use crate::wire::scan::{decimal_u32, is_lws, trim};

/// The RSeq and CSeq of the response acknowledged.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct RAck {
    /// RSeq of the response.
    pub rseq: u32,
    /// CSeq of the response.
    pub cseq: CSeq,
}

impl RAck {
    /// Types a value such as `776656 1 INVITE`.
    pub fn parse(value: &[u8]) -> Result<RAck, HeaderError> {
        let value = trim(value);
        let gap = value.iter().position(|byte| is_lws(*byte)).ok_or(HeaderError::Malformed)?;
        let rseq = decimal_u32(&value[..gap]).ok_or(HeaderError::Number)?;
        Ok(RAck { rseq, cseq: CSeq::parse(&value[gap..])? })
    }
}

impl std::fmt::Display for RAck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.rseq, self.cseq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_parts_are_needed() {
        assert_eq!(RAck::parse(b"776656  1 INVITE").unwrap().to_string(), "776656 1 INVITE");
        assert!(RAck::parse(b"776656 INVITE").is_err());
        assert!(RAck::parse(b"x 1 INVITE").is_err());
    }
}
