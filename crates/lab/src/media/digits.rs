//! Digits in telephone-events (RFC 4733 §2.3). A digit is told with the first packet of its event that is heard, so that it is
//! there although its beginning or its end was lost; every packet of an event carries the time stamp at which it began.

use std::collections::VecDeque;

/// Events remembered, so that late packets of one before are no news.
const REMEMBERED_MAX: usize = 16;
const PAYLOAD_BYTES: usize = 4;
/// By event number.
const CHARACTERS: &[u8; 16] = b"0123456789*#ABCD";

/// A key of a telephone. It prints nowhere: what is typed may be a PIN.
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct Key(char);

impl Key {
    /// One of `0` to `9`, `*`, `#` and `A` to `D`.
    pub fn new(character: char) -> Option<Key> {
        let upper = character.to_ascii_uppercase();
        CHARACTERS.iter().any(|known| char::from(*known) == upper).then_some(Key(upper))
    }

    /// By event number.
    pub(super) fn of_event(event: u8) -> Option<Key> {
        CHARACTERS.get(usize::from(event)).map(|character| Key(char::from(*character)))
    }

    /// Its event number.
    pub(super) fn event(self) -> u8 {
        let at = CHARACTERS.iter().position(|known| char::from(*known) == self.0).unwrap_or_default();
        u8::try_from(at).unwrap_or_default()
    }

    /// What stands on it.
    pub fn character(self) -> char {
        self.0
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(redacted)")
    }
}

/// The keys in a text; what stands on no key is left out.
pub fn keys(text: &str) -> Vec<Key> {
    text.chars().filter_map(Key::new).collect()
}

/// Takes the telephone-events of one source and tells each digit once.
#[derive(Clone, Debug, Default)]
pub struct DigitDetector {
    known: VecDeque<u32>,
}

impl DigitDetector {
    /// A detector that has heard nothing.
    pub fn new() -> Self {
        DigitDetector::default()
    }

    /// Takes the RTP time stamp and the payload of a packet; the digit if it is news.
    pub fn push(&mut self, timestamp: u32, payload: &[u8]) -> Option<char> {
        let event = *payload.get(..PAYLOAD_BYTES)?.first()?;
        let digit = Key::of_event(event)?.character();
        if self.known.contains(&timestamp) {
            return None;
        }
        if self.known.len() == REMEMBERED_MAX {
            self.known.pop_front();
        }
        self.known.push_back(timestamp);
        Some(digit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digit_counts_once_however_often_and_in_whatever_order_it_is_told() {
        let mut detector = DigitDetector::new();
        let mut told = String::new();
        for (timestamp, event) in [(160, 1), (160, 1), (800, 11), (160, 1), (800, 11), (1_600, 1)] {
            told.extend(detector.push(timestamp, &[event, 0x8a, 1, 0x90]));
        }
        assert_eq!(told, "1#1");
    }

    #[test]
    fn keys_have_numbers_and_print_nothing() {
        assert_eq!(keys("0a#?"), [0, 12, 11].map(|event| Key::of_event(event).unwrap()));
        assert!(keys("0123456789*#ABCD").iter().enumerate().all(|(n, key)| usize::from(key.event()) == n));
        assert!(!format!("{:?}", keys("5")).contains('5'));
    }

    #[test]
    fn what_is_no_digit_is_none() {
        let mut detector = DigitDetector::new();
        assert_eq!(detector.push(1, &[16, 0, 0, 0]), None);
        assert_eq!(detector.push(1, &[1, 0, 0]), None);
        assert_eq!(detector.push(1, &[1, 0, 0, 160]), Some('1'));
    }
}
