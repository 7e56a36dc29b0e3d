//! Payload type numbers of one leg. Each side names the numbers under which it wants to *hear* a codec (RFC 3264 §5.1), so
//! the two directions of a leg may differ, and two legs of a call anyway. Owns the choice of numbers for what we write and
//! the pairing of what both sides wrote; refuses to know which leg.

use crate::codec::PayloadType;

/// Numbers that are bound by `a=rtpmap` alone (RFC 3551 §6).
const DYNAMIC: std::ops::RangeInclusive<u8> = 96..=127;

/// The numbers of one codec on one leg.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// The peer sends it under this one: ours.
    pub heard: u8,
    /// The peer wants it under this one: theirs.
    pub sent: u8,
}

/// The codecs of which both descriptions of a leg have a number, in the order of ours.
pub fn agreed_numbers(ours: &[PayloadType], theirs: &[PayloadType]) -> Vec<Numbers> {
    let pair = |mine: &PayloadType| Some(Numbers { heard: mine.pt, sent: number_of(mine, mine.pt, theirs)? });
    ours.iter().filter_map(pair).collect()
}

/// The number of a codec among `formats`, `preferred` if that is one.
pub fn number_of(codec: &PayloadType, preferred: u8, formats: &[PayloadType]) -> Option<u8> {
    let same = || formats.iter().filter(|format| format.same_codec(codec));
    same().find(|format| format.pt == preferred).or_else(|| same().next()).map(|format| format.pt)
}

/// Formats of one leg under numbers that may be told to another, whose descriptions so far bound the numbers in `bound`,
/// the most recent first: a codec keeps the number it has there, and no number is bound to another codec (RFC 3264
/// §8.3.2). What finds no number is left out.
pub(crate) fn renumbered(formats: Vec<PayloadType>, bound: &[&PayloadType]) -> Vec<PayloadType> {
    let mut told: Vec<PayloadType> = Vec::with_capacity(formats.len());
    for format in formats {
        let is_new = |pt: u8| told.iter().all(|known| known.pt != pt);
        let is_free = |pt: u8| is_new(pt) && bound.iter().all(|b| b.pt != pt || b.same_codec(&format));
        let known = bound.iter().filter(|b| b.same_codec(&format)).map(|b| b.pt).find(|pt| is_free(*pt));
        let own = Some(format.pt).filter(|pt| is_free(*pt) && !format.takes_static_number());
        if let Some(pt) = known.or(own).or_else(|| DYNAMIC.rev().find(|pt| is_free(*pt))) {
            told.push(PayloadType { pt, ..format });
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(pt: u8) -> PayloadType {
        PayloadType::telephone_event(pt)
    }

    fn numbers(formats: &[PayloadType]) -> Vec<u8> {
        formats.iter().map(|format| format.pt).collect()
    }

    #[test]
    fn each_side_hears_its_own_number() {
        let ours = [PayloadType::pcmu(), PayloadType::pcma(), PayloadType::comfort_noise(), event(101)];
        let theirs = [PayloadType::pcma(), event(96)];
        let agreed = agreed_numbers(&ours, &theirs);
        assert_eq!(agreed, [Numbers { heard: 8, sent: 8 }, Numbers { heard: 101, sent: 96 }]);
    }

    #[test]
    fn of_several_numbers_of_one_codec_the_same_is_taken_first() {
        let agreed = agreed_numbers(&[event(96), event(101)], &[event(97), event(101)]);
        assert_eq!(agreed, [Numbers { heard: 96, sent: 97 }, Numbers { heard: 101, sent: 101 }]);
    }

    #[test]
    fn a_leg_that_knows_nothing_is_told_the_numbers_of_the_other() {
        let formats = vec![PayloadType::pcmu(), event(117)];
        assert_eq!(renumbered(formats.clone(), &[]), formats);
    }

    #[test]
    fn rfc_3264_section_8_3_2_a_number_stays_with_its_codec() {
        let opus = PayloadType { channels: 2, ..PayloadType::new(96, "opus", 48000) };
        let (digits, bound_opus) = (event(101), PayloadType { pt: 101, ..opus.clone() });
        // Digits have a number here, so they keep it.
        assert_eq!(numbers(&renumbered(vec![PayloadType::pcmu(), event(96)], &[&digits])), [0, 101]);
        // A codec that is new here keeps its own number, unless that is another codec's.
        assert_eq!(numbers(&renumbered(vec![opus.clone(), event(97)], &[&digits])), [96, 101]);
        assert_eq!(numbers(&renumbered(vec![bound_opus, event(96)], &[&digits])), [127, 101]);
        // The most recent number counts.
        let earlier = event(98);
        assert_eq!(numbers(&renumbered(vec![event(96)], &[&digits, &earlier])), [101]);
        // A number that the peer bound to two codecs is told no more.
        let other = PayloadType { pt: 101, ..opus };
        assert_eq!(numbers(&renumbered(vec![event(96)], &[&digits, &other])), [96]);
    }

    #[test]
    fn nobody_is_told_a_static_number_for_another_codec() {
        assert_eq!(numbers(&renumbered(vec![PayloadType::new(0, "PCMA", 8000)], &[])), [127]);
    }

    #[test]
    fn a_codec_without_a_number_is_left_out() {
        let others: Vec<PayloadType> = DYNAMIC.map(|pt| PayloadType::new(pt, "x", 8000)).collect();
        let bound: Vec<&PayloadType> = others.iter().collect();
        assert_eq!(numbers(&renumbered(vec![PayloadType::pcmu(), event(101)], &bound)), [0]);
    }
}
