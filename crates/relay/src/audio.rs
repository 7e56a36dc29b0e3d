//! Where the speech of a call got to: one sentence for "I cannot hear them".
//!
//! Owns the judgement over four points of measurement. Refuses to guess what happens behind them.
//!
//! ```text
//!   A ──▶ A in ─── gateway ─── B out ──▶ B
//!   A ◀── A out ── gateway ─── B in ◀─── B
//! ```

use std::fmt;

use crate::plan::Side;
use crate::stats::{SessionStats, Why};

/// How far the speech of one side got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Through the gateway and on.
    Passed,
    /// Not even to the gateway.
    NothingCame,
    /// To the gateway, which refused all of it, mostly for this reason.
    Refused(Why),
    /// Into the gateway, which could not pass it on, mostly for this reason.
    Kept(Option<Why>),
    /// Packets passed, all of them without voice.
    Silent,
    /// It was not to be heard: the call was held in this direction whenever something came, or all the time.
    OnHold,
}

/// Both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audio {
    /// What A said.
    pub from_a: Way,
    /// What B said.
    pub from_b: Way,
}

impl SessionStats {
    /// Where the speech of both sides got to.
    pub fn audio(&self) -> Audio {
        Audio { from_a: self.way(Side::A), from_b: self.way(Side::B) }
    }

    fn way(&self, side: Side) -> Way {
        let (source, target) = (self.side(side), self.side(!side));
        let reason = source.dropped.most_frequent();
        match (source.packets_received, target.packets_sent, reason) {
            _ if source.only_held => Way::OnHold,
            (1.., 0, Some(Why::OnHold)) => Way::OnHold,
            (0, _, None) => Way::NothingCame,
            (0, _, Some(why)) => Way::Refused(why),
            (_, 0, why) => Way::Kept(why),
            _ if source.voice.packets > 0 && source.voice.voiced == 0 => Way::Silent,
            _ => Way::Passed,
        }
    }
}

impl Way {
    fn words(self, side: Side) -> String {
        match self {
            Way::Passed => format!("the speech of {side} was passed on"),
            Way::NothingCame => format!("nothing came from {side} (a firewall, or the address in our SDP)"),
            Way::Refused(why) => format!("all that came from {side} was refused ({})", why.name()),
            Way::Kept(Some(why)) => format!("what came from {side} could not be passed on ({})", why.name()),
            Way::Kept(None) => format!("what came from {side} was not passed on"),
            Way::Silent => format!("{side} sent packets without voice"),
            Way::OnHold => format!("{side} was on hold"),
        }
    }
}

impl fmt::Display for Audio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (a, b) = (self.from_a.words(Side::A), self.from_b.words(Side::B));
        match (self.from_a, self.from_b) {
            (Way::Passed, Way::Passed) => f.write_str("speech both ways"),
            (Way::Passed | Way::OnHold, Way::Passed | Way::OnHold) => write!(f, "{a}, {b}"),
            (Way::Passed, _) => write!(f, "one-way audio: {b}, {a}"),
            (_, Way::Passed) => write!(f, "one-way audio: {a}, {b}"),
            _ => write!(f, "no audio: {a}, {b}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{Drops, SideStats};
    use crate::voice::Voice;

    fn side(received: u64, sent: u64, voiced: u64) -> SideStats {
        let voice = Voice { packets: received, voiced, ..Voice::default() };
        SideStats { packets_received: received, packets_sent: sent, voice, ..SideStats::default() }
    }

    fn dropping(side: SideStats, reasons: &[Why]) -> SideStats {
        let mut dropped = Drops::default();
        reasons.iter().for_each(|why| dropped.count(*why));
        SideStats { dropped, ..side }
    }

    fn sentence(a: SideStats, b: SideStats) -> String {
        SessionStats { a, b }.audio().to_string()
    }

    #[test]
    fn speech_both_ways_is_nothing_to_look_for() {
        assert_eq!(sentence(side(9, 9, 9), side(9, 9, 1)), "speech both ways");
    }

    #[test]
    fn each_point_that_fails_has_its_sentence() {
        let b = side(9, 0, 9);
        let nothing = "one-way audio: nothing came from A (a firewall, or the address in our SDP), the speech of B was passed on";
        assert_eq!(sentence(side(0, 9, 0), b), nothing);
        let refused = dropping(side(0, 9, 0), &[Why::NotSealed, Why::Stranger, Why::NotSealed]);
        assert!(
            sentence(refused, b).starts_with("one-way audio: all that came from A was refused (not_sealed)")
        );
        let kept = dropping(side(9, 9, 9), &[Why::UnsharedFormat]);
        assert!(
            sentence(kept, b)
                .starts_with("one-way audio: what came from A could not be passed on (unshared_format)")
        );
        let silent = sentence(side(9, 9, 0), side(9, 9, 9));
        assert_eq!(silent, "one-way audio: A sent packets without voice, the speech of B was passed on");
    }

    #[test]
    fn who_was_on_hold_is_not_blamed() {
        let (a, quiet) = (side(9, 0, 9), side(0, 9, 0));
        let held = SideStats { only_held: true, ..quiet };
        assert_eq!(sentence(a, held), "the speech of A was passed on, B was on hold");
        assert!(sentence(a, quiet).starts_with("one-way audio: nothing came from B"));
        let spoke_on_hold = dropping(side(9, 9, 9), &[Why::OnHold, Why::OnHold, Why::Stranger]);
        assert_eq!(sentence(a, spoke_on_hold), "the speech of A was passed on, B was on hold");
        assert_eq!(sentence(held, held), "A was on hold, B was on hold");
    }

    #[test]
    fn both_ways_may_fail() {
        let none = sentence(side(0, 0, 0), side(0, 0, 0));
        assert!(
            none.starts_with("no audio: nothing came from A") && none.contains("nothing came from B"),
            "{none}"
        );
    }
}
