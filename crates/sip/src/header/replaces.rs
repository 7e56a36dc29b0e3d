//! Replaces (RFC 3891 §6.1): the dialog that a new INVITE takes over.

use super::HeaderError;
use super::params::Params;
use crate::wire::scan::{is_token, trim};
use bytes::Bytes;

/// The dialog to be replaced, tags as its other side sees them.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct Replaces {
    /// Call-ID.
    pub call_id: Bytes,
    /// Compared with the local tag of the receiver.
    pub to_tag: Bytes,
    /// Compared with the remote tag of the receiver.
    pub from_tag: Bytes,
    /// Whether only an early dialog may be replaced.
    pub early_only: bool,
}

impl Replaces {
    /// Types a value such as `call@host;to-tag=a;from-tag=b;early-only`.
    pub fn parse(value: &[u8]) -> Result<Replaces, HeaderError> {
        let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
        let call_id = trim(&value[..end]);
        if call_id.is_empty() {
            return Err(HeaderError::Empty);
        }
        let params = Params::new(&value[end..]);
        let tag = |name| {
            let found = params.clone().find(name).flatten().filter(|tag| is_token(tag));
            found.map(Bytes::copy_from_slice).ok_or(HeaderError::ParamMalformed)
        };
        Ok(Replaces {
            call_id: Bytes::copy_from_slice(call_id),
            to_tag: tag("to-tag")?,
            from_tag: tag("from-tag")?,
            early_only: params.clone().find("early-only").is_some(),
        })
    }

    /// The value as it stands in a header.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = self.call_id.to_vec();
        out.extend_from_slice(b";to-tag=");
        out.extend_from_slice(&self.to_tag);
        out.extend_from_slice(b";from-tag=");
        out.extend_from_slice(&self.from_tag);
        if self.early_only {
            out.extend_from_slice(b";early-only");
        }
        Bytes::from(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tags_are_demanded() {
        let text = b"98732@sip.example.com;to-tag=ff87ff;from-tag=r33th4x0r;early-only";
        assert_eq!(&Replaces::parse(text).unwrap().to_bytes()[..], text);
        assert!(!Replaces::parse(b"c;from-tag=a;to-tag=b").unwrap().early_only);
        for bad in [
            &b""[..],
            b"c",
            b"c;to-tag=a",
            b"c;to-tag=;from-tag=b",
            b";to-tag=a;from-tag=b",
            b"c;to-tag=\"a;from-tag=b\";from-tag=b",
        ] {
            assert!(Replaces::parse(bad).is_err());
        }
    }
}
