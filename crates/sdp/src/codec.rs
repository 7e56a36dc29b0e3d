//! Payload types of an `m=audio` line: number, encoding, clock, format parameters. Owns the static table of
//! RFC 3551 §6 (the audio entries that still occur) and the comparison of codecs.

/// Format parameters that change what stands in a packet, and what each means when it is left out: the bit rate of
/// G.722.1 (RFC 5577) and of Microsoft's codecs, the alignment of AMR (RFC 4867).
const LAYOUT_PARAMETERS: [(&str, &str); 2] = [("bitrate", ""), ("octet-align", "0")];

/// One payload type of a media line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PayloadType {
    /// The number in RTP packets, 0 to 127.
    pub pt: u8,
    /// Encoding name as spelled; empty for a dynamic number without `a=rtpmap`.
    pub name: String,
    /// RTP clock in Hz; 0 when unknown.
    pub clock: u32,
    /// Audio channels, 1 unless stated.
    pub channels: u8,
    /// Value of `a=fmtp` for this number.
    pub fmtp: Option<String>,
}

impl PayloadType {
    /// A single-channel encoding without format parameters.
    pub fn new(pt: u8, name: &str, clock: u32) -> Self {
        Self { pt, name: name.to_owned(), clock, channels: 1, fmtp: None }
    }

    /// G.711 µ-law, number 0.
    pub fn pcmu() -> Self {
        Self::new(0, "PCMU", 8000)
    }

    /// G.711 A-law, number 8.
    pub fn pcma() -> Self {
        Self::new(8, "PCMA", 8000)
    }

    /// Comfort noise, number 13.
    pub fn comfort_noise() -> Self {
        Self::new(13, "CN", 8000)
    }

    /// DTMF events 0 to 16 at 8 kHz (RFC 4733).
    pub fn telephone_event(pt: u8) -> Self {
        Self { fmtp: Some("0-16".to_owned()), ..Self::new(pt, "telephone-event", 8000) }
    }

    /// Whether this is the named encoding; names compare without case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Comfort noise or telephone events: no codec by itself.
    pub fn is_auxiliary(&self) -> bool {
        self.is("CN") || self.is("telephone-event")
    }

    /// Whether packets of one can be read as packets of the other, whatever their numbers are.
    pub fn same_codec(&self, other: &Self) -> bool {
        let same_layout = |(name, default): &(&str, &str)| {
            self.parameter(name).unwrap_or(default) == other.parameter(name).unwrap_or(default)
        };
        !self.name.is_empty()
            && self.is(&other.name)
            && self.clock == other.clock
            && self.channels == other.channels
            && LAYOUT_PARAMETERS.iter().all(same_layout)
    }

    /// Whether the number is another codec's for ever (RFC 3551 §6).
    pub(crate) fn takes_static_number(&self) -> bool {
        let fixed = Encoding::unmapped(self.pt);
        let is_it = self.is(fixed.name) && self.clock == fixed.clock;
        !(fixed.name.is_empty() || is_it)
    }

    fn parameter(&self, wanted: &str) -> Option<&str> {
        let mut parameters = self.fmtp.as_deref()?.split(';').filter_map(|part| part.split_once('='));
        let (_, value) = parameters.find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted))?;
        Some(value.trim())
    }
}

/// An encoding as a description spells it, not yet copied.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoding<'a> {
    name: &'a str,
    clock: u32,
    channels: u8,
}

impl<'a> Encoding<'a> {
    /// The meaning of a number without `a=rtpmap`.
    pub(crate) fn unmapped(pt: u8) -> Self {
        let (name, clock) = match pt {
            0 => ("PCMU", 8000),
            3 => ("GSM", 8000),
            4 => ("G723", 8000),
            8 => ("PCMA", 8000),
            9 => ("G722", 8000),
            13 => ("CN", 8000),
            18 => ("G729", 8000),
            _ => ("", 0),
        };
        Self { name, clock, channels: 1 }
    }

    /// Parses the value of `a=rtpmap`: `101 telephone-event/8000`.
    pub(crate) fn parse_rtpmap(value: &'a str) -> Option<(u8, Self)> {
        let (pt, encoding) = value.trim().split_once(' ')?;
        let pt = parse_number(pt)?;
        let mut fields = encoding.trim().split('/');
        let name = fields.next().filter(|name| !name.is_empty() && !name.contains(' '))?;
        let clock = fields.next()?.parse().ok()?;
        let channels = fields.next().and_then(|channels| channels.parse().ok()).unwrap_or(1).max(1);
        Some((pt, Self { name, clock, channels }))
    }

    /// As a payload type with that number.
    pub(crate) fn under(self, pt: u8) -> PayloadType {
        PayloadType { channels: self.channels, ..PayloadType::new(pt, self.name, self.clock) }
    }
}

/// A payload type number, 0 to 127.
pub(crate) fn parse_number(text: &str) -> Option<u8> {
    let digits = text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|pt| *pt < 128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rtpmap_is_read_with_and_without_channels() {
        let read = |text| Encoding::parse_rtpmap(text).map(|(pt, encoding)| encoding.under(pt)).unwrap();
        let g722 = read("117 G722/8000/2");
        assert_eq!((g722.pt, g722.name.as_str(), g722.clock, g722.channels), (117, "G722", 8000, 2));
        assert_eq!(read("0 PCMU/8000"), PayloadType::pcmu());
    }

    #[test]
    fn rfc_3551_section_6_a_static_number_without_an_rtpmap_has_its_encoding() {
        let names =
            [(0, "PCMU"), (3, "GSM"), (4, "G723"), (8, "PCMA"), (9, "G722"), (13, "CN"), (18, "G729")];
        for (pt, name) in names {
            assert_eq!(Encoding::unmapped(pt).under(pt), PayloadType::new(pt, name, 8000));
        }
        assert_eq!(Encoding::unmapped(96).under(96), PayloadType::new(96, "", 0));
    }

    #[test]
    fn a_codec_is_the_same_under_any_number_unless_its_packets_look_different() {
        let with =
            |pt, fmtp: &str| PayloadType { fmtp: Some(fmtp.into()), ..PayloadType::new(pt, "G7221", 16000) };
        assert!(PayloadType::telephone_event(96).same_codec(&PayloadType::new(101, "Telephone-Event", 8000)));
        assert!(with(112, "bitrate=24000").same_codec(&with(115, "x=1; bitrate=24000")));
        assert!(!with(112, "bitrate=24000").same_codec(&with(112, "bitrate=32000")));
        let amr = |fmtp: Option<&str>| PayloadType {
            fmtp: fmtp.map(Into::into),
            ..PayloadType::new(97, "AMR", 8000)
        };
        assert!(amr(None).same_codec(&amr(Some("octet-align=0"))));
        assert!(!amr(None).same_codec(&amr(Some("octet-align=1"))));
        assert!(
            !PayloadType::new(101, "telephone-event", 16000).same_codec(&PayloadType::telephone_event(101))
        );
        assert!(
            !PayloadType::new(96, "", 0).same_codec(&PayloadType::new(96, "", 0)),
            "nobody knows what it is"
        );
    }

    #[test]
    fn a_broken_rtpmap_is_no_encoding() {
        for bad in ["", "0", "0 PCMU", "128 PCMU/8000", "-1 PCMU/8000", "0 /8000", "0 PCMU/x", "0 A B/8000"] {
            assert_eq!(Encoding::parse_rtpmap(bad), None, "{bad}");
        }
    }
}
