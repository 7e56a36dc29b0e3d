//! Digits in telephone-events (RFC 4733 §2.3). A digit is told with the first packet of its event that is heard, so that it is
//! there although its beginning or its end was lost; every packet of an event carries the time stamp at which it began.

use std::collections::VecDeque;

/// Events remembered, so that late packets of one before are no news.
const REMEMBERED_MAX: usize = 16;
const PAYLOAD_BYTES: usize = 4;
/// By event number.
const CHARACTERS: &[u8; 16] = b"0123456789*#ABCD";

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
        let digit = char::from(*CHARACTERS.get(usize::from(event))?);
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
    fn what_is_no_digit_is_none() {
        let mut detector = DigitDetector::new();
        assert_eq!(detector.push(1, &[16, 0, 0, 0]), None);
        assert_eq!(detector.push(1, &[1, 0, 0]), None);
        assert_eq!(detector.push(1, &[1, 0, 0, 160]), Some('1'));
    }
}
