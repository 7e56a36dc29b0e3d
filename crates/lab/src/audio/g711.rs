//! G.711 companding, by the audio-codec-algorithms crate.

use audio_codec_algorithms::{decode_alaw, decode_ulaw, encode_alaw, encode_ulaw};

/// One of the two laws.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Law {
    /// PCMU, payload type 0 (RFC 3551 §6).
    Mu,
    /// PCMA, payload type 8.
    A,
}

impl Law {
    /// By static payload type.
    pub fn from_payload_type(pt: u8) -> Option<Law> {
        match pt {
            0 => Some(Law::Mu),
            8 => Some(Law::A),
            _ => None,
        }
    }

    /// Static payload type.
    pub fn payload_type(self) -> u8 {
        match self {
            Law::Mu => 0,
            Law::A => 8,
        }
    }

    /// Encoding name in SDP.
    pub fn name(self) -> &'static str {
        match self {
            Law::Mu => "PCMU",
            Law::A => "PCMA",
        }
    }

    /// Appends encoded samples to `out`.
    pub fn encode_into(self, samples: &[i16], out: &mut Vec<u8>) {
        let encode = match self {
            Law::Mu => encode_ulaw,
            Law::A => encode_alaw,
        };
        out.extend(samples.iter().map(|s| encode(*s)));
    }

    /// Appends decoded samples to `out`.
    pub fn decode_into(self, payload: &[u8], out: &mut Vec<i16>) {
        let decode = match self {
            Law::Mu => decode_ulaw,
            Law::A => decode_alaw,
        };
        out.extend(payload.iter().map(|b| decode(*b)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{dominant_hz, level_dbfs, tone};
    use super::*;

    #[test]
    fn a_tone_survives_both_laws() {
        let original = tone(1_000.0, -12.0, 4_000);
        for law in [Law::Mu, Law::A] {
            let (mut bytes, mut back) = (Vec::new(), Vec::new());
            law.encode_into(&original, &mut bytes);
            law.decode_into(&bytes, &mut back);
            assert_eq!(bytes.len(), original.len());
            assert!((dominant_hz(&back).unwrap() - 1_000.0).abs() < 5.0);
            assert!((level_dbfs(&back) - level_dbfs(&original)).abs() < 0.2);
            assert_ne!(back, original, "companding loses something");
        }
    }

    #[test]
    fn the_laws_have_their_known_idle_bytes() {
        let (mut mu, mut a) = (Vec::new(), Vec::new());
        Law::Mu.encode_into(&[0], &mut mu);
        Law::A.encode_into(&[0], &mut a);
        assert_eq!((mu[0], a[0]), (0xff, 0xd5));
    }
}
