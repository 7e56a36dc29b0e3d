//! The master key identifier of a crypto line: decimal on the wire of SDP, a fixed number of big-endian bytes
//! in each SRTP packet. Owns the conversion; knows nothing of keys.

use crate::limits::MKI_BYTES_MAX;

/// A master key identifier, 1 to [`MKI_BYTES_MAX`] bytes long, as it stands in each packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Mki {
    bytes: Vec<u8>,
}

impl Mki {
    /// Takes the bytes as they stand in a packet; `None` if there are none or more than [`MKI_BYTES_MAX`].
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let fits = (1..=MKI_BYTES_MAX).contains(&bytes.len());
        fits.then(|| Self { bytes: bytes.to_vec() })
    }

    /// Parses `value:length`, for example `1:1`. `None` unless the value fits the length.
    pub fn parse(text: &str) -> Option<Self> {
        let (value, length) = text.split_once(':')?;
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(value) || !digits(length) || length.len() > 3 {
            return None;
        }
        let length: usize = length.parse().ok()?;
        // 128 bytes hold at most 309 decimal digits; more could only be leading zeros.
        if !(1..=MKI_BYTES_MAX).contains(&length) || value.len() > 3 * MKI_BYTES_MAX {
            return None;
        }
        let mut bytes = vec![0u8; length];
        for digit in value.bytes() {
            let mut carry = u16::from(digit - b'0');
            for byte in bytes.iter_mut().rev() {
                let sum = u16::from(*byte) * 10 + carry;
                *byte = (sum & 0xff) as u8;
                carry = sum >> 8;
            }
            if carry != 0 {
                return None;
            }
        }
        Some(Self { bytes })
    }

    /// The identifier as it stands in a packet.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn decimal(&self) -> String {
        let mut rest = self.bytes.clone();
        let mut digits = Vec::new();
        while rest.iter().any(|b| *b != 0) {
            let mut remainder = 0u16;
            for byte in &mut rest {
                let value = (remainder << 8) | u16::from(*byte);
                *byte = (value / 10) as u8;
                remainder = value % 10;
            }
            digits.push(char::from(b'0' + remainder as u8));
        }
        if digits.is_empty() {
            digits.push('0');
        }
        digits.iter().rev().collect()
    }
}

impl std::fmt::Display for Mki {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.decimal(), self.bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_big_endian_in_its_stated_length() {
        assert_eq!(Mki::parse("1:1").unwrap().as_bytes(), [1]);
        assert_eq!(Mki::parse("258:4").unwrap().as_bytes(), [0, 0, 1, 2]);
        assert_eq!(Mki::parse("258:4").unwrap().to_string(), "258:4");
        assert_eq!(Mki::parse("0:2").unwrap().to_string(), "0:2");
    }

    #[test]
    fn the_longest_identifier_survives_a_round_trip() {
        let longest = Mki::from_bytes(&[0xff; MKI_BYTES_MAX]).unwrap();
        assert_eq!(Mki::parse(&longest.to_string()).unwrap(), longest);
        assert_eq!(Mki::from_bytes(&[0; MKI_BYTES_MAX + 1]), None);
        assert_eq!(Mki::parse("1:129"), None);
    }

    #[test]
    fn a_value_that_does_not_fit_its_length_is_refused() {
        for bad in ["256:1", "1:0", "1:", ":1", "1", "-1:1", "1:+1", "a:1", "1:0001", ""] {
            assert_eq!(Mki::parse(bad), None, "{bad}");
        }
        assert_eq!(Mki::parse(&format!("{}:128", "0".repeat(385))), None);
    }
}
