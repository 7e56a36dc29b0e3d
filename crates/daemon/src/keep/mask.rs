//! Makes unreadable what nobody may read out of a capture: keys of SRTP, passwords of ICE, digits of a caller. Owns what those look
//! like in SIP messages and in RTP; every length stays what it was, so that a capture still adds up.

use audio_codec_algorithms::{decode_alaw, decode_ulaw};
use relay::{RtpHead, Side};

use super::chunk::Passed;
use super::recording::{COMFORT_NOISE, EVENTS_BYTES_MAX, PCMA, PCMU};
use super::timeline::FRAME;
use super::tones::has_digit;

/// What stands for an octet that is not shown.
const BLANK: u8 = b'x';
/// No event has this number (RFC 4733 §7.3: the registry ends far below).
const NO_EVENT: u8 = 0xFF;
/// Octets of an event report.
const EVENT_BYTES: usize = 4;
/// Silence in both laws.
const MU_SILENCE: u8 = 0xFF;
const A_SILENCE: u8 = 0xD5;
/// What stands before a secret that goes on to the end of its word.
const BEFORE_SECRETS: [&[u8]; 4] = [b"inline:", b"a=ice-pwd:", b"a=key-mgmt:", b"\nk="];
/// Types of bodies that carry what was keyed in: INFO of all sorts, and KPML (RFC 4730).
const KEYED: [&[u8]; 2] = [b"dtmf", b"kpml"];

/// A SIP message without secrets.
pub(super) fn message(mut bytes: Vec<u8>) -> Vec<u8> {
    for word in BEFORE_SECRETS {
        let mut from = 0;
        while let Some(at) = find(&bytes[from..], word) {
            from += at + word.len();
            let end = |octet: &u8| matches!(octet, b'|' | b' ' | b'\t' | b'\r' | b'\n' | b';' | b'"');
            let secret = bytes[from..].iter().position(end).map_or(bytes.len(), |length| from + length);
            bytes[from..secret].fill(BLANK);
        }
    }
    let body = find(&bytes, b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    let (head, body) = bytes.split_at_mut(body);
    let is_info = head.starts_with(b"INFO ");
    if is_info || KEYED.iter().any(|word| content_type(head).is_some_and(|value| find(value, word).is_some()))
    {
        blank_keys(body);
    }
    bytes
}

/// Descriptions of sealed media say what stands in a capture that has it decrypted: RTP. A reader would take it for sealed
/// otherwise, and show neither speech nor RTCP. The letter that goes comes back in the blank key of the same media.
pub(super) fn describe_as_opened(bytes: &mut Vec<u8>) {
    let mut from = find(bytes, b"\r\n\r\n").unwrap_or(bytes.len());
    while let Some(sealed) = find(&bytes[from..], b" RTP/SAVP").map(|at| from + at) {
        from = sealed + 1;
        let Some(key) = find(&bytes[from..], b"inline:").map(|at| from + at) else { return };
        bytes.insert(key + b"inline:".len(), BLANK);
        bytes.remove(sealed + b" RTP/".len());
    }
}

/// The value of Content-Type, long or short; all of the head when that is hard to say.
fn content_type(head: &[u8]) -> Option<&[u8]> {
    head.split(|octet| *octet == b'\n').find(|line| {
        let name = line.split(|octet| *octet == b':').next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"content-type") || name.eq_ignore_ascii_case(b"c")
    })
}

/// Digits, stars, hashes; and the four letters where they stand alone.
fn blank_keys(body: &mut [u8]) {
    for at in 0..body.len() {
        let letter =
            |at: Option<usize>| at.and_then(|at| body.get(at)).is_some_and(u8::is_ascii_alphanumeric);
        let is_alone = !letter(at.checked_sub(1)) && !letter(Some(at + 1));
        let is_key = match body[at] {
            b'0'..=b'9' | b'*' | b'#' => true,
            b'A'..=b'D' | b'a'..=b'd' => is_alone,
            _ => false,
        };
        if is_key {
            body[at] = BLANK;
        }
    }
}

/// Where a word begins, letters of either case.
fn find(bytes: &[u8], word: &[u8]) -> Option<usize> {
    bytes.windows(word.len()).position(|window| window.eq_ignore_ascii_case(word))
}

/// A packet of speech that waits for the next one of its stream: a key in that one mutes it.
struct Waiting {
    passed: Passed,
    packet: Vec<u8>,
    has_digit: bool,
}

/// Mutes the keys in both streams of a call, packet by packet: the ones that carry a key, the one before and the one after.
#[derive(Default)]
pub(super) struct Muting {
    waiting: [Option<Waiting>; 2],
    had_digit: [bool; 2],
}

impl Muting {
    /// A packet goes in; what may be kept comes out, a packet of speech when its successor is there.
    pub(super) fn pass(&mut self, passed: Passed, mut packet: Vec<u8>, mut out: impl FnMut(Passed, Vec<u8>)) {
        let Some((head, payload)) = RtpHead::of(&packet) else { return out(passed, packet) };
        let decode = match head.payload_type {
            PCMU => decode_ulaw,
            PCMA => decode_alaw,
            COMFORT_NOISE => return out(passed, packet),
            _ => {
                let range = head.header_bytes..head.header_bytes + payload.len();
                blank_unknown(&mut packet[range]);
                return out(passed, packet);
            }
        };
        let samples: Vec<i16> = payload.iter().map(|octet| decode(*octet)).collect();
        // The last window takes what is left over, so that none is too short to tell.
        let windows = (samples.len() / FRAME).max(1);
        let length = samples.len().div_ceil(windows).max(1);
        let has_digit = samples.chunks(length).any(has_digit);
        let which = usize::from(passed.side == Side::B);
        self.release(which, has_digit, &mut out);
        self.waiting[which] = Some(Waiting { passed, packet, has_digit });
    }

    /// Nothing more comes.
    pub(super) fn finish(&mut self, mut out: impl FnMut(Passed, Vec<u8>)) {
        for which in [0, 1] {
            self.release(which, false, &mut out);
        }
    }

    fn release(&mut self, which: usize, digit_follows: bool, out: &mut impl FnMut(Passed, Vec<u8>)) {
        let Some(Waiting { passed, mut packet, has_digit }) = self.waiting[which].take() else { return };
        if has_digit || digit_follows || self.had_digit[which] {
            silence(&mut packet);
        }
        self.had_digit[which] = has_digit;
        out(passed, packet);
    }
}

fn silence(packet: &mut [u8]) {
    let Some((head, payload)) = RtpHead::of(packet) else { return };
    let range = head.header_bytes..head.header_bytes + payload.len();
    packet[range].fill(if head.payload_type == PCMA { A_SILENCE } else { MU_SILENCE });
}

/// Events lose their number and keep their length and volume; what is longer is an encoding in which keys cannot be looked for.
fn blank_unknown(payload: &mut [u8]) {
    if payload.len() > EVENTS_BYTES_MAX || !payload.len().is_multiple_of(EVENT_BYTES) {
        return payload.fill(0);
    }
    payload.iter_mut().step_by(EVENT_BYTES).for_each(|event| *event = NO_EVENT);
}

#[cfg(test)]
#[path = "mask_tests.rs"]
mod tests;
