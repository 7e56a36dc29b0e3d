//! What probes say about one way to a UM server: hysteresis between down and up, the last round trip, the last good answer.
//! Pure; refuses to know how a server is asked, and what calls find out about it.

use std::time::{Duration, Instant};

use sip::Transport;

use crate::policy::{HealthRules, ServerRole};

/// A door of a server through which calls would come: a host of both roles has two, one that serves plans of both
/// securities has two of each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Door {
    /// FQDN of the server, in lower case.
    pub server: String,
    /// What is asked there.
    pub role: ServerRole,
    /// Over what.
    pub transport: Transport,
}

/// What one probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// Where.
    pub door: Door,
    /// When it began.
    pub begun: Instant,
    /// The time between request and answer, or why there was none that counts.
    pub result: Result<Duration, ProbeFault>,
}

/// Why a probe was in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeFault {
    /// No answer in time.
    Silence,
    /// Anything else: no connection, a certificate, 503; cleaned.
    Failed(String),
}

/// One door as probes see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoorHealth {
    /// Whether calls are kept from it.
    pub is_down: bool,
    /// The round trip of the last probe; `None` when that was in vain.
    pub round_trip: Option<Duration>,
    /// When the last good answer came.
    pub last_good: Option<Instant>,
    good_in_row: u32,
    bad_in_row: u32,
}

/// A door's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DoorTurn {
    /// Good again, so often in a row.
    Up(u32),
    /// Bad, and why.
    Down(String),
}

/// What calls say about the server at the moment of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Calls {
    /// Nothing.
    Fine,
    /// One failed a while ago, and the server rests for it.
    Failed,
}

impl DoorHealth {
    /// Up until probes say otherwise once more.
    pub fn forgive(&mut self) {
        self.is_down = false;
        self.bad_in_row = 0;
    }

    /// Takes the next probe in. So many bad ones in a row put it down, one alone where a call failed too; so many good ones in
    /// a row bring it back.
    pub fn take(
        &mut self,
        now: Instant,
        probed: &Probed,
        calls: Calls,
        rules: &HealthRules,
    ) -> Option<DoorTurn> {
        match &probed.result {
            Ok(round_trip) => {
                self.bad_in_row = 0;
                self.good_in_row = self.good_in_row.saturating_add(1);
                self.round_trip = Some(*round_trip);
                self.last_good = Some(now);
                let is_back = self.is_down && self.good_in_row >= rules.up_after;
                is_back.then(|| {
                    self.is_down = false;
                    DoorTurn::Up(self.good_in_row)
                })
            }
            Err(fault) => {
                self.good_in_row = 0;
                self.bad_in_row = self.bad_in_row.saturating_add(1);
                self.round_trip = None;
                let is_enough = self.bad_in_row >= rules.down_after || calls == Calls::Failed;
                (is_enough && !self.is_down).then(|| {
                    self.is_down = true;
                    DoorTurn::Down(words(self.bad_in_row, fault, probed.door.transport, calls))
                })
            }
        }
    }
}

fn words(times: u32, fault: &ProbeFault, transport: Transport, calls: Calls) -> String {
    let over = transport.as_param();
    let after = if calls == Calls::Failed { " after a failed call" } else { "" };
    let many = if times == 1 { "" } else { "s" };
    match fault {
        ProbeFault::Silence => format!("{times} OPTIONS timeout{many} over {over}{after}"),
        ProbeFault::Failed(what) if times == 1 => format!("OPTIONS over {over} failed{after}: {what}"),
        ProbeFault::Failed(what) => format!("{times} OPTIONS over {over} failed{after}: {what}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probed(begun: Instant, result: Result<Duration, ProbeFault>) -> Probed {
        let door = Door { server: "mbx01".into(), role: ServerRole::Mailbox, transport: sip::Transport::Tls };
        Probed { door, begun, result }
    }

    /// `g` good, `t` timeout, `x` refused; a capital: a call failed before. What each turns to: `.` nothing, `D` down, `U` up.
    fn turns(script: &str, rules: &HealthRules) -> String {
        #[allow(clippy::disallowed_methods)]
        let start = Instant::now();
        let mut door = DoorHealth::default();
        let step = |(number, letter): (usize, char)| {
            let now = start + Duration::from_secs(number as u64);
            let result = match letter.to_ascii_lowercase() {
                'g' => Ok(Duration::from_millis(2)),
                't' => Err(ProbeFault::Silence),
                _ => Err(ProbeFault::Failed("refused".into())),
            };
            let calls = if letter.is_ascii_uppercase() { Calls::Failed } else { Calls::Fine };
            match door.take(now, &probed(now, result), calls, rules) {
                None => '.',
                Some(DoorTurn::Up(_)) => 'U',
                Some(DoorTurn::Down(_)) => 'D',
            }
        };
        script.chars().enumerate().map(step).collect()
    }

    #[test]
    fn so_many_bad_ones_in_a_row_put_a_door_down_and_so_many_good_ones_bring_it_back() {
        let rules = |down_after, up_after| HealthRules { down_after, up_after, ..HealthRules::default() };
        for (down_after, up_after, script, wanted) in [
            (3, 2, "ggg", "..."),
            (3, 2, "ttt", "..D"),
            (3, 2, "ttgttt", ".....D"),
            (3, 2, "txtt", "..D."),
            (3, 2, "tttgg", "..D.U"),
            (3, 2, "tttgtgg", "..D...U"),
            (3, 2, "tttggttt", "..D.U..D"),
            (1, 1, "tgtg", "DUDU"),
            (2, 3, "ttggtggg", ".D.....U"),
            // A failed call and a failed probe agree.
            (3, 2, "T", "D"),
            (3, 2, "GgX", "..D"),
            (3, 2, "TTgg", "D..U"),
        ] {
            assert_eq!(turns(script, &rules(down_after, up_after)), wanted, "{script}");
        }
    }

    #[test]
    fn the_words_say_how_often_over_what_and_why() {
        let tls = Transport::Tls;
        let refused = ProbeFault::Failed("Refused: nobody".into());
        assert_eq!(words(3, &ProbeFault::Silence, tls, Calls::Fine), "3 OPTIONS timeouts over tls");
        assert_eq!(
            words(1, &ProbeFault::Silence, Transport::Tcp, Calls::Failed),
            "1 OPTIONS timeout over tcp after a failed call"
        );
        assert_eq!(words(2, &refused, tls, Calls::Fine), "2 OPTIONS over tls failed: Refused: nobody");
        assert_eq!(
            words(1, &refused, tls, Calls::Failed),
            "OPTIONS over tls failed after a failed call: Refused: nobody"
        );
    }

    #[test]
    fn round_trip_and_last_good_answer_are_those_of_the_last_probes() {
        #[allow(clippy::disallowed_methods)]
        let start = Instant::now();
        let rules = HealthRules::default();
        let mut door = DoorHealth::default();
        let good = probed(start, Ok(Duration::from_millis(7)));
        assert_eq!(door.take(start, &good, Calls::Fine, &rules), None);
        assert_eq!((door.round_trip, door.last_good), (Some(Duration::from_millis(7)), Some(start)));
        let bad = probed(start, Err(ProbeFault::Silence));
        assert_eq!(door.take(start + Duration::from_secs(1), &bad, Calls::Fine, &rules), None);
        assert_eq!((door.round_trip, door.last_good), (None, Some(start)));
    }
}
