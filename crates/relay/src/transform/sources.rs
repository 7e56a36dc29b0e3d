//! Which packets of which source were taken under one key.
//!
//! Owns packet indices: the rollover counter, the window in which late packets are told from replays, the bound
//! on sources. Refuses to know packets and keys; opening and sealing use the same rule, that each index is taken once.

use crate::stats::Why;

/// Packets behind the newest that are still told apart from replays.
pub(super) const WINDOW_PACKETS: u64 = u128::BITS as u64;
/// Highest index of an SRTP packet: a 32-bit rollover counter before the sequence number (RFC 3711 §3.3.1).
pub(super) const RTP_INDEX_MAX: u64 = (1 << 48) - 1;
/// Highest index of an SRTCP packet (RFC 3711 §3.4).
pub(super) const RTCP_INDEX_MAX: u64 = (1 << 31) - 1;

/// The newest packet of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceIndex {
    /// The source.
    pub ssrc: u32,
    /// SRTP: rollover counter and sequence number, 48 bits. SRTCP: the index, 31 bits.
    pub newest: u64,
}

impl SourceIndex {
    /// The rollover counter of an SRTP source.
    pub const fn roc(self) -> u32 {
        (self.newest >> 16) as u32
    }
}

/// How far the sources of one direction have come under one key: what somebody else needs to go on with it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Sources of SRTP.
    pub rtp: Vec<SourceIndex>,
    /// Sources of SRTCP.
    pub rtcp: Vec<SourceIndex>,
}

/// The newest index of a source and, bit by bit, which of those before it were taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    newest: u64,
    taken: u128,
}

impl Window {
    /// A source whose first packet has that index.
    pub(super) fn beginning_at(index: u64) -> Self {
        Window { newest: index, taken: 1 }
    }

    /// A source of which nothing up to that index may be taken any more.
    pub(super) fn resumed_at(newest: u64) -> Self {
        Window { newest, taken: u128::MAX }
    }

    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    /// The index of a sequence number: the one nearest to the newest (RFC 3711 §3.3.1).
    pub(super) fn nearest(&self, sequence: u16) -> Nearest {
        let (roc, last) = (self.newest >> 16, self.newest as u16);
        let roc = if last < 0x8000 && i32::from(sequence) - i32::from(last) > 0x8000 {
            match roc.checked_sub(1) {
                Some(before) => before,
                None => return Nearest::BeforeTheFirst,
            }
        } else if last >= 0x8000 && last - 0x8000 > sequence {
            roc + 1
        } else {
            roc
        };
        let index = roc << 16 | u64::from(sequence);
        if index > RTP_INDEX_MAX { Nearest::BeyondTheLast } else { Nearest::Index(index) }
    }

    /// Whether the index may still be taken.
    pub(super) fn check(&self, index: u64) -> Result<(), Why> {
        let Some(behind) = self.newest.checked_sub(index) else { return Ok(()) };
        let was_taken = behind >= WINDOW_PACKETS || self.taken >> behind & 1 == 1;
        if was_taken { Err(Why::Replayed) } else { Ok(()) }
    }

    /// Takes the index, which thereby can never be taken again.
    pub(super) fn take(&mut self, index: u64) {
        match index.checked_sub(self.newest) {
            Some(ahead) => {
                let shifted = u32::try_from(ahead).ok().and_then(|by| self.taken.checked_shl(by));
                self.taken = shifted.unwrap_or(0) | 1;
                self.newest = index;
            }
            None => {
                self.taken |=
                    u32::try_from(self.newest - index).ok().and_then(|by| 1u128.checked_shl(by)).unwrap_or(0)
            }
        }
    }
}

/// Where a sequence number belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nearest {
    Index(u64),
    /// It would belong before the rollover counter was 0.
    BeforeTheFirst,
    /// The rollover counter has no value left.
    BeyondTheLast,
}

/// The sources under one key, bounded.
pub(super) struct Sources {
    list: Vec<(u32, Window)>,
    most: usize,
}

impl Sources {
    pub(super) fn new(most: usize) -> Self {
        Sources { list: Vec::new(), most }
    }

    pub(super) fn find(&mut self, ssrc: u32) -> Option<&mut Window> {
        self.list.iter_mut().find(|(known, _)| *known == ssrc).map(|(_, window)| window)
    }

    /// Whether one more source may be added.
    pub(super) fn check_room(&self) -> Result<(), Why> {
        if self.list.len() < self.most { Ok(()) } else { Err(Why::TooManySources) }
    }

    /// Adds a source; without room nothing happens.
    pub(super) fn add(&mut self, ssrc: u32, window: Window) {
        if self.check_room().is_ok() {
            self.list.push((ssrc, window));
        }
    }

    pub(super) fn progress(&self) -> Vec<SourceIndex> {
        self.list.iter().map(|(ssrc, window)| SourceIndex { ssrc: *ssrc, newest: window.newest() }).collect()
    }

    /// Takes over what was taken elsewhere; `false` for an index that cannot be, or too many.
    pub(super) fn resume(&mut self, from: &[SourceIndex], index_max: u64) -> bool {
        if from.len() > self.most || from.iter().any(|source| source.newest > index_max) {
            return false;
        }
        self.list = from.iter().map(|source| (source.ssrc, Window::resumed_at(source.newest))).collect();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(window: &mut Window, sequence: u16) -> Result<(), Why> {
        let Nearest::Index(index) = window.nearest(sequence) else { return Err(Why::Replayed) };
        window.check(index)?;
        window.take(index);
        Ok(())
    }

    #[test]
    fn no_index_is_taken_twice_across_a_rollover() {
        let mut window = Window::beginning_at(65_533);
        for sequence in [65_534, 65_535, 0, 2] {
            assert_eq!(take(&mut window, sequence), Ok(()), "{sequence}");
        }
        assert_eq!(window.newest(), 65_538);
        assert_eq!(take(&mut window, 1), Ok(()), "a late packet is still taken");
        for sequence in [1, 0, 65_535, 65_533] {
            assert_eq!(take(&mut window, sequence), Err(Why::Replayed), "{sequence}");
        }
    }

    #[test]
    fn the_rollover_counter_has_a_first_and_a_last_value() {
        assert_eq!(Window::beginning_at(2).nearest(1), Nearest::Index(1));
        assert_eq!(Window::beginning_at(2).nearest(65_535), Nearest::BeforeTheFirst);
        assert_eq!(Window::beginning_at(RTP_INDEX_MAX).nearest(65_534), Nearest::Index(RTP_INDEX_MAX - 1));
        assert_eq!(Window::beginning_at(RTP_INDEX_MAX).nearest(0), Nearest::BeyondTheLast);
    }

    #[test]
    fn a_packet_behind_the_window_is_not_taken() {
        let mut window = Window::beginning_at(1_000);
        assert_eq!(take(&mut window, 1_000 - 127), Ok(()));
        assert_eq!(take(&mut window, 1_000 - 128), Err(Why::Replayed));
        assert_eq!(take(&mut window, 1_000 + 128), Ok(()));
        assert_eq!(take(&mut window, 1_000), Err(Why::Replayed), "just out of the window");
        assert_eq!(take(&mut window, 1_001), Ok(()), "the oldest of the window");
        assert_eq!(take(&mut window, 1_001), Err(Why::Replayed));
    }

    #[test]
    fn a_resumed_source_takes_only_what_is_newer() {
        let mut sources = Sources::new(2);
        assert!(sources.resume(&[SourceIndex { ssrc: 7, newest: 3 << 16 | 5 }], RTP_INDEX_MAX));
        let window = sources.find(7).unwrap();
        assert_eq!(take(window, 5), Err(Why::Replayed));
        assert_eq!(take(window, 4), Err(Why::Replayed));
        assert_eq!(take(window, 6), Ok(()));
        assert_eq!(sources.progress(), [SourceIndex { ssrc: 7, newest: 3 << 16 | 6 }]);
        assert!(!sources.resume(&[SourceIndex { ssrc: 7, newest: 1 << 48 }], RTP_INDEX_MAX));
        assert!(!sources.resume(&[SourceIndex { ssrc: 7, newest: 1 }; 3], RTP_INDEX_MAX));
    }

    /// Against the rule as the RFC writes it, over every distance.
    #[test]
    fn the_nearest_index_is_never_further_than_half_the_sequence_space() {
        for last in [0u16, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
            let window = Window::beginning_at(5 << 16 | u64::from(last));
            for sequence in 0..=u16::MAX {
                let Nearest::Index(index) = window.nearest(sequence) else { panic!("{last} {sequence}") };
                assert_eq!(index as u16, sequence);
                assert!(index.abs_diff(window.newest()) <= 0x8000, "{last} {sequence}");
            }
        }
    }
}
