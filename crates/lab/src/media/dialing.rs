//! Pressing keys: telephone-events in the place of sound (RFC 4733 §2.5.1). Owns the order of packets of an event and the pause between
//! two; refuses to know who sends them.

use std::collections::VecDeque;

use super::digits::Key;
use super::rtp::Sender;
use crate::audio::FRAME;

/// Keys waiting to be pressed.
const WAITING_MAX: usize = 256;
/// Packets of a key that is held: 100 ms.
const HELD: u16 = 5;
/// The last packet goes out so often (RFC 4733 §2.5.1.4).
const ENDS: u16 = 3;
/// Packets of sound between two keys: 100 ms.
const PAUSE: u16 = 5;
/// In dBm0 without its sign.
const VOLUME: u8 = 10;
const END_BIT: u8 = 0x80;

/// What is pressed now, and what next.
#[derive(Debug, Default)]
pub(super) struct Dialing {
    waiting: VecDeque<Key>,
    pressed: Option<Pressed>,
    pause: u16,
}

#[derive(Debug)]
struct Pressed {
    key: Key,
    began: u32,
    packets: u16,
}

impl Dialing {
    /// Adds keys; what exceeds the limit is left out.
    pub(super) fn press(&mut self, keys: &[Key]) {
        let room = WAITING_MAX.saturating_sub(self.waiting.len());
        self.waiting.extend(keys.iter().take(room));
    }

    /// Writes the packet that is due in the place of sound; false when sound is due.
    pub(super) fn write(&mut self, payload_type: u8, sender: &mut Sender, out: &mut Vec<u8>) -> bool {
        if self.pressed.is_none() {
            self.pause = self.pause.saturating_sub(1);
            if self.pause > 0 {
                return false;
            }
            let Some(key) = self.waiting.pop_front() else { return false };
            sender.mark();
            self.pressed = Some(Pressed { key, began: sender.timestamp, packets: 0 });
        }
        let Some(pressed) = &mut self.pressed else { return false };
        pressed.packets += 1;
        let is_end = pressed.packets >= HELD;
        let [long, short] = (pressed.packets.min(HELD) * FRAME as u16).to_be_bytes();
        let flags = VOLUME | if is_end { END_BIT } else { 0 };
        let payload = [pressed.key.event(), flags, long, short];
        sender.write_at(payload_type, pressed.began, &payload, FRAME as u32, out);
        if pressed.packets == HELD + ENDS - 1 {
            self.pressed = None;
            self.pause = PAUSE;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::digits::{DigitDetector, keys};
    use super::super::rtp::view;
    use super::*;

    #[test]
    fn pressed_keys_are_heard_once_each_with_sound_between_them() {
        let (mut dialing, mut sender, mut out) = (Dialing::default(), Sender::new(1), Vec::new());
        dialing.press(&keys("11#"));
        let (mut detector, mut heard, mut sounds) = (DigitDetector::new(), String::new(), 0);
        let mut ends = Vec::new();
        for _ in 0..60 {
            if dialing.write(101, &mut sender, &mut out) {
                let packet = view(&out).unwrap();
                heard.extend(detector.push(packet.timestamp, packet.payload));
                ends.push(packet.payload[1] & END_BIT != 0);
            } else {
                sender.write(0, &[0; FRAME], FRAME as u32, &mut out);
                sounds += 1;
            }
        }
        assert_eq!((heard.as_str(), ends.len(), sounds), ("11#", 21, 39));
        assert_eq!(ends[..7], [false, false, false, false, true, true, true]);
    }
}
