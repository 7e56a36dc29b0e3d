//! Time: how far peers' clocks are away, and whether this host's is kept. Owns reading a SIP date and judging; the
//! answers it reads were fetched elsewhere.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use b2bua::codes;
use time::PrimitiveDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::finding::{Finding, Group};
use super::peers::Peer;
use super::servers::Asked;

const GROUP: Group = Group::Clock;
/// A difference that is worth a look; a Date has whole seconds, and the answer takes its time.
const SKEW_WARN_SECS: i64 = 5;
/// A difference with which certificates and tokens are refused.
const SKEW_FAIL_SECS: i64 = 300;
/// Where systemd-timesyncd says that it has set the clock.
const TIMESYNC: &str = "/run/systemd/timesync";
/// SIP-date (RFC 3261 §25.1).
const SIP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// Whether the clock is kept, as far as the host tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kept {
    Yes,
    No,
    Unknown,
}

/// Everything about time that needs no certificate.
pub fn findings(peers: &[Peer], asked: &[Asked]) -> Vec<Finding> {
    let mut found = skews(peers, asked);
    found.push(kept(look(Path::new(TIMESYNC))));
    found
}

fn skews(peers: &[Peer], asked: &[Asked]) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    for asked in asked {
        let (Some(Ok(answer)), Some(peer)) = (&asked.result, peers.get(asked.peer)) else { continue };
        let Some((date, heard_at)) = &answer.date else { continue };
        let what = |words: String| format!("{} {}: {words}", peer.name, asked.target);
        found.push(match skew(date, *heard_at) {
            None => Finding::skip(GROUP, codes::CLOCK_SKEW, what(format!("the Date {date} cannot be read"))),
            Some(secs) if secs.abs() <= SKEW_WARN_SECS => {
                Finding::ok(GROUP, codes::CLOCK_SKEW, what(format!("its clock is within {SKEW_WARN_SECS} s")))
            }
            Some(secs) => {
                let way = if secs > 0 { "ahead" } else { "behind" };
                let words = what(format!("its clock is {} s {way}", secs.unsigned_abs()));
                let finding = match secs.abs() < SKEW_FAIL_SECS {
                    true => Finding::warn(GROUP, codes::CLOCK_SKEW, words),
                    false => Finding::fail(GROUP, codes::CLOCK_SKEW, words),
                };
                finding.on(peer.kind.side())
            }
        });
    }
    if found.is_empty() {
        let why = "no peer told a Date in its answer to OPTIONS: clocks cannot be compared";
        found.push(Finding::skip(GROUP, codes::CLOCK_SKEW, why));
    }
    found
}

/// Seconds that the peer is ahead.
fn skew(date: &str, heard_at: SystemTime) -> Option<i64> {
    let theirs = PrimitiveDateTime::parse(date.trim(), SIP_DATE).ok()?.assume_utc().unix_timestamp();
    let ours = i64::try_from(heard_at.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()?;
    Some(theirs - ours)
}

fn look(timesync: &Path) -> Kept {
    match (timesync.is_dir(), timesync.join("synchronized").exists()) {
        (_, true) => Kept::Yes,
        (true, false) => Kept::No,
        (false, false) => Kept::Unknown,
    }
}

fn kept(kept: Kept) -> Finding {
    let code = codes::CLOCK_UNSYNCHRONISED;
    match kept {
        Kept::Yes => Finding::ok(GROUP, code, "systemd-timesyncd has synchronised this host's clock"),
        Kept::No => {
            Finding::warn(GROUP, code, "systemd-timesyncd runs and has not synchronised this host's clock")
        }
        Kept::Unknown => {
            let why = "no time service leaves a state that can be read here (chrony: chronyc tracking)";
            Finding::skip(GROUP, code, why)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use sip::Transport;

    use super::super::ask::Answer;
    use super::super::finding::Mark;
    use super::super::{peers, testing};
    use super::*;

    /// 13 Nov 2010 23:29:00 UTC.
    const MOMENT: Duration = Duration::from_secs(1_289_690_940);

    fn marks(date: Option<&str>) -> Vec<Mark> {
        let peers = peers::of(&testing::compiled("").policy);
        let date = date.map(|date| (date.to_owned(), UNIX_EPOCH + MOMENT));
        let answer = Answer { status: 200, reason: "OK".into(), round_trip: Duration::ZERO, date };
        let target = "127.0.0.30:5061".parse().unwrap();
        let asked = Asked { peer: 0, transport: Transport::Tls, target, result: Some(Ok(answer)) };
        skews(&peers, &[asked]).iter().map(|finding| finding.mark).collect()
    }

    #[test]
    fn clocks_are_compared_by_the_date_of_the_answer() {
        assert_eq!(marks(Some("Sat, 13 Nov 2010 23:29:03 GMT")), [Mark::Ok]);
        assert_eq!(marks(Some("Sat, 13 Nov 2010 23:28:00 GMT")), [Mark::Warn]);
        assert_eq!(marks(Some("Sun, 14 Nov 2010 00:29:00 GMT")), [Mark::Fail]);
        assert_eq!(marks(Some("yesterday\u{1b}[2J")), [Mark::Skip]);
        assert_eq!(marks(None), [Mark::Skip]);
        assert_eq!(skew("Sat, 13 Nov 2010 23:28:00 GMT", UNIX_EPOCH + MOMENT), Some(-60));
    }

    #[test]
    fn the_state_of_the_time_service_is_told_only_when_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(look(&folder.path().join("none")), Kept::Unknown);
        assert_eq!(look(folder.path()), Kept::No);
        std::fs::write(folder.path().join("synchronized"), "").unwrap();
        assert_eq!(look(folder.path()), Kept::Yes);
        assert_eq!(
            [Kept::Yes, Kept::No, Kept::Unknown].map(|k| kept(k).mark),
            [Mark::Ok, Mark::Warn, Mark::Skip]
        );
    }
}
