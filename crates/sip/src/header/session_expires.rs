//! Session-Expires (RFC 4028 §4): the interval and who refreshes. Min-SE shares the number and is read with it.

use super::HeaderError;
use super::params::Params;
use crate::wire::scan::{decimal_u32, trim};

/// Who refreshes a session.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
#[allow(missing_docs)] // uac, uas
pub enum Refresher {
    Uac,
    Uas,
}

/// A session interval.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct SessionExpires {
    /// The interval in seconds.
    pub secs: u32,
    /// Who refreshes, when it is said.
    pub refresher: Option<Refresher>,
}

impl SessionExpires {
    /// Types a value such as `1800;refresher=uac`.
    pub fn parse(value: &[u8]) -> Result<SessionExpires, HeaderError> {
        let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
        let secs = decimal_u32(trim(&value[..end])).ok_or(HeaderError::Number)?;
        let refresher = match Params::new(&value[end..]).find("refresher").flatten() {
            Some(who) if who.eq_ignore_ascii_case(b"uac") => Some(Refresher::Uac),
            Some(who) if who.eq_ignore_ascii_case(b"uas") => Some(Refresher::Uas),
            Some(_) => return Err(HeaderError::ParamMalformed),
            None => None,
        };
        Ok(SessionExpires { secs, refresher })
    }
}

impl std::fmt::Display for SessionExpires {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.secs)?;
        match self.refresher {
            Some(Refresher::Uac) => f.write_str(";refresher=uac"),
            Some(Refresher::Uas) => f.write_str(";refresher=uas"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_and_refresher_are_read_and_printed() {
        assert_eq!(
            SessionExpires::parse(b" 1800 ; refresher=UAC").unwrap().to_string(),
            "1800;refresher=uac"
        );
        assert_eq!(SessionExpires::parse(b"90").unwrap(), SessionExpires { secs: 90, refresher: None });
        assert!(SessionExpires::parse(b"soon").is_err());
        assert!(SessionExpires::parse(b"90;refresher=me").is_err());
    }
}
