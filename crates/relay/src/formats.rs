//! Payload types of one leg: which are taken from it, and under which number each goes on to the other leg.
//!
//! Owns the table. Refuses to know what the numbers mean: both legs settled their own, and the signalling paired them.

use std::fmt;

use crate::stats::Why;

/// Payload types there can be.
const TYPES: usize = 128;
/// Not negotiated on this leg.
const UNKNOWN: u8 = 0xFF;
/// Negotiated on this leg, and on the other one under no number.
const KEPT: u8 = 0xFE;

/// What becomes of each payload type heard on a leg.
#[derive(Clone, PartialEq, Eq)]
pub struct Formats([u8; TYPES]);

impl Formats {
    /// Every payload type, under its own number.
    pub fn any() -> Self {
        Formats(std::array::from_fn(|number| number as u8))
    }

    /// None at all; what is taken is added.
    pub fn none() -> Self {
        Formats([UNKNOWN; TYPES])
    }

    /// These under their own numbers.
    pub fn same(numbers: impl IntoIterator<Item = u8>) -> Self {
        let mut formats = Formats::none();
        numbers.into_iter().for_each(|number| formats.pass(number, number));
        formats
    }

    /// What is heard as `heard` goes on as `sent`.
    pub fn pass(&mut self, heard: u8, sent: u8) {
        self.set(heard, sent & 0x7F);
    }

    /// What is heard as `heard` is taken and goes no further: the other leg did not agree to it.
    pub fn keep(&mut self, heard: u8) {
        self.set(heard, KEPT);
    }

    /// Whether the leg may send it at all.
    pub(crate) fn is_known(&self, heard: u8) -> bool {
        self.fate(heard) != UNKNOWN
    }

    /// The number on the other leg, or why it goes nowhere.
    pub fn sent(&self, heard: u8) -> Result<u8, Why> {
        match self.fate(heard) {
            UNKNOWN => Err(Why::UnknownFormat),
            KEPT => Err(Why::UnsharedFormat),
            sent => Ok(sent),
        }
    }

    fn fate(&self, heard: u8) -> u8 {
        self.0.get(usize::from(heard)).copied().unwrap_or(UNKNOWN)
    }

    fn set(&mut self, heard: u8, fate: u8) {
        if let Some(place) = self.0.get_mut(usize::from(heard)) {
            *place = fate;
        }
    }
}

impl fmt::Debug for Formats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.0.iter().enumerate().filter(|(_, fate)| **fate != UNKNOWN);
        f.debug_map().entries(known.map(|(heard, fate)| (heard, (*fate != KEPT).then_some(fate)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_its_fate() {
        let mut formats = Formats::same([0]);
        formats.pass(101, 96);
        formats.keep(13);
        assert_eq!([0, 101].map(|heard| formats.sent(heard)), [Ok(0), Ok(96)]);
        assert_eq!((formats.sent(13), formats.is_known(13)), (Err(Why::UnsharedFormat), true));
        assert_eq!((formats.sent(96), formats.is_known(96)), (Err(Why::UnknownFormat), false));
        assert_eq!(format!("{formats:?}"), "{0: Some(0), 13: None, 101: Some(96)}");
    }

    #[test]
    fn without_a_table_all_pass_as_they_are() {
        assert!((0..=127).all(|heard| Formats::any().sent(heard) == Ok(heard)));
    }
}
