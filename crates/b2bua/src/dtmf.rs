//! Digits in the bodies of INFO: `application/dtmf-relay` (`Signal=5`, `Duration=160`) and `application/dtmf` (the digit
//! alone). No standard says what they are; these are the forms that phones and gateways agree on. Owns reading and writing;
//! refuses to show a digit to anybody.

use std::time::Duration;

use relay::Digit;

/// The type that is written.
pub(crate) const RELAY_TYPE: &str = "application/dtmf-relay";
/// Longest body that is read.
const BODY_BYTES_MAX: usize = 256;
/// A digit of which nobody says how long it lasts.
const DURATION: Duration = Duration::from_millis(100);

/// The digit in a body of that type, and how long it lasts; `None` for anything else.
pub(crate) fn read(content_type: &[u8], body: &[u8]) -> Option<(Digit, Duration)> {
    let kind = content_type.split(|octet| *octet == b';').next()?.trim_ascii();
    let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= BODY_BYTES_MAX)?;
    if kind.eq_ignore_ascii_case(b"application/dtmf") {
        return Some((letter(text)?, DURATION));
    }
    if !kind.eq_ignore_ascii_case(RELAY_TYPE.as_bytes()) {
        return None;
    }
    let value = |name: &str| {
        text.lines()
            .filter_map(|line| line.split_once('='))
            .find_map(|(key, value)| key.trim().eq_ignore_ascii_case(name).then(|| value.trim()))
    };
    let lasts = value("Duration").and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
    Some((letter(value("Signal")?)?, lasts.unwrap_or(DURATION)))
}

/// A body of [`RELAY_TYPE`].
pub(crate) fn write(digit: Digit, lasted: Duration) -> String {
    format!("Signal={}\r\nDuration={}\r\n", digit.letter(), lasted.as_millis())
}

fn letter(text: &str) -> Option<Digit> {
    let mut letters = text.trim().chars();
    let digit = Digit::from_letter(letters.next()?)?;
    letters.next().is_none().then_some(digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(content_type: &str, body: &str) -> Option<(char, u128)> {
        read(content_type.as_bytes(), body.as_bytes())
            .map(|(digit, lasts)| (digit.letter(), lasts.as_millis()))
    }

    #[test]
    fn both_forms_are_read_as_they_are_written_in_the_field() {
        for body in ["Signal=5\r\nDuration=160\r\n", "Signal= 5\nDuration= 160", "signal=5\r\n duration =160"]
        {
            assert_eq!(read_as("application/dtmf-relay", body), Some(('5', 160)), "{body:?}");
        }
        assert_eq!(read_as("Application/DTMF-Relay;v=1", "Signal=#\r\n"), Some(('#', 100)));
        assert_eq!(read_as("application/dtmf", "d\r\n"), Some(('D', 100)));
    }

    #[test]
    fn what_is_no_digit_is_none() {
        for (kind, body) in [
            ("application/dtmf-relay", "Duration=160\r\n"),
            ("application/dtmf-relay", "Signal=\r\n"),
            ("application/dtmf-relay", "Signal=55\r\n"),
            ("application/dtmf-relay", "Signal=E\r\n"),
            ("application/dtmf-relay", "5"),
            ("application/dtmf", "55"),
            ("application/dtmf", ""),
            ("application/dtmf", "\u{665}"),
            ("text/plain", "5"),
            ("", "5"),
        ] {
            assert_eq!(read_as(kind, body), None, "{kind} {body:?}");
        }
        assert_eq!(read_as("application/dtmf", &format!("5{}", " ".repeat(BODY_BYTES_MAX))), None);
        assert_eq!(read(b"application/dtmf", &[0xFF]), None);
    }

    #[test]
    fn what_is_written_is_read_again() {
        for letter in "0123456789*#ABCD".chars() {
            let digit = Digit::from_letter(letter).unwrap();
            let lasted = Duration::from_millis(70);
            assert_eq!(read(RELAY_TYPE.as_bytes(), write(digit, lasted).as_bytes()), Some((digit, lasted)));
        }
    }
}
