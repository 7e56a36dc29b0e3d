//! In which pattern packets are lost: bursts and gaps as RFC 3611 §4.7.2 defines them.
//!
//! Owns the two states and their sums. Refuses to know sequence numbers: it is told of one packet after
//! the other, in order, whether it came.
//!
//! ```text
//!   . came   x lost        ..........x..................x.x...xx...................
//!                          └──────── gap ──────────────┘└─ burst ┘└──── gap ───────
//! ```

/// Packets that must have come one after the other for a burst to be over (the recommended Gmin of RFC 3611 §4.7.2).
pub const GAP_PACKETS_MIN: u32 = 16;

/// The running sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pattern {
    came_since_loss: u32,
    has_lost_last: bool,
    open: Option<Episode>,
    closed: Bursts,
    runs: u64,
}

/// From the first loss on, until enough packets have come to call it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Episode {
    packets: u64,
    lost: u64,
}

/// Bursts of loss. A single lost packet among many that came is part of a gap, not a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bursts {
    /// How many there were.
    pub count: u64,
    /// Packets in them, lost or not, from the first lost to the last lost of each.
    pub packets: u64,
    /// Lost packets in them.
    pub lost: u64,
}

impl Bursts {
    /// Share of the packets in bursts that were lost, 0 to 1; `None` without a burst.
    pub fn density(&self) -> Option<f32> {
        (self.packets > 0).then(|| self.lost as f32 / self.packets as f32)
    }
}

impl Pattern {
    pub(crate) fn on_came(&mut self) {
        self.has_lost_last = false;
        self.came_since_loss = self.came_since_loss.saturating_add(1);
        if self.came_since_loss >= GAP_PACKETS_MIN
            && let Some(episode) = self.open.take()
        {
            self.closed = with(self.closed, episode);
        }
    }

    pub(crate) fn on_lost(&mut self) {
        self.runs += u64::from(!self.has_lost_last);
        self.has_lost_last = true;
        let episode = self.open.get_or_insert(Episode { packets: 0, lost: 0 });
        let before = if episode.lost == 0 { 0 } else { u64::from(self.came_since_loss) };
        episode.packets += before + 1;
        episode.lost += 1;
        self.came_since_loss = 0;
    }

    pub(crate) fn bursts(&self) -> Bursts {
        self.open.map_or(self.closed, |episode| with(self.closed, episode))
    }

    /// Times that one or more packets in a row were lost.
    pub(crate) fn runs(&self) -> u64 {
        self.runs
    }
}

fn with(sum: Bursts, episode: Episode) -> Bursts {
    if episode.lost < 2 {
        return sum;
    }
    Bursts { count: sum.count + 1, packets: sum.packets + episode.packets, lost: sum.lost + episode.lost }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(packets: &str) -> Pattern {
        let mut pattern = Pattern::default();
        for packet in packets.chars() {
            if packet == 'x' { pattern.on_lost() } else { pattern.on_came() }
        }
        pattern
    }

    #[test]
    fn a_single_loss_among_many_is_no_burst() {
        let pattern = after("................x................x................");
        assert_eq!((pattern.bursts(), pattern.runs()), (Bursts::default(), 2));
    }

    #[test]
    fn losses_with_few_packets_between_them_are_one_burst() {
        let pattern = after("....x.x...xx................x");
        assert_eq!(pattern.bursts(), Bursts { count: 1, packets: 8, lost: 4 });
        assert_eq!((pattern.bursts().density(), pattern.runs()), (Some(0.5), 4));
    }

    #[test]
    fn sixteen_packets_end_a_burst_and_fifteen_do_not() {
        let (fifteen, sixteen) = (".".repeat(15), ".".repeat(16));
        assert_eq!(after(&format!("xx{fifteen}xx")).bursts(), Bursts { count: 1, packets: 19, lost: 4 });
        assert_eq!(after(&format!("xx{sixteen}xx")).bursts(), Bursts { count: 2, packets: 4, lost: 4 });
    }

    #[test]
    fn a_burst_under_way_counts() {
        assert_eq!(after("..xx").bursts(), Bursts { count: 1, packets: 2, lost: 2 });
    }
}
