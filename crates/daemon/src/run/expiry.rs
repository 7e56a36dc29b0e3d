//! How long our own certificate still lives: a gauge, and a warning at thirty days, seven days, one day and none. Looks every
//! hour of the monotonic clock at what is in force then; refuses to renew anything.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use b2bua::codes;
use tracing::{error, warn};

use crate::net::NetContext;

const LOOK_EVERY: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What is left, as far as somebody should be told. Later ones are worse.
#[derive(Copy, Clone, Debug, Eq, PartialEq, PartialOrd, Ord)]
enum Left {
    Enough,
    Month,
    Week,
    Day,
    Nothing,
}

impl Left {
    fn of(not_after: SystemTime, now: SystemTime) -> Self {
        match not_after.duration_since(now) {
            Err(_) => Self::Nothing,
            Ok(left) if left.is_zero() => Self::Nothing,
            Ok(left) if left <= DAY => Self::Day,
            Ok(left) if left <= 7 * DAY => Self::Week,
            Ok(left) if left <= 30 * DAY => Self::Month,
            Ok(_) => Self::Enough,
        }
    }
}

/// What was said last, and about which certificate.
#[derive(Default)]
struct Said(Option<(SystemTime, Left)>);

impl Said {
    /// What is to be said now: each worsening once, and anew for another certificate.
    fn next(&mut self, not_after: SystemTime, now: SystemTime) -> Option<Left> {
        let left = Left::of(not_after, now);
        let before = self.0.filter(|(of, _)| *of == not_after).map_or(Left::Enough, |(_, left)| left);
        self.0 = Some((not_after, left.max(before)));
        (left > before).then_some(left)
    }
}

/// Puts the ends of the certificates in force into the metrics: that of `[tls]` under our FQDN, the others under their names.
pub(super) fn publish(context: &NetContext, fqdn: &str, names: &[String]) {
    if let Some(tls) = context.tls.load_full() {
        for (number, certificate) in tls.certificates().iter().enumerate() {
            let secs = certificate
                .not_after
                .and_then(|end| end.duration_since(UNIX_EPOCH).ok())
                .map(|end| end.as_secs());
            let name = number.checked_sub(1).and_then(|more| names.get(more)).map_or(fqdn, |name| name);
            context.metrics.certificate_ends(name, secs.unwrap_or_default());
        }
        context.metrics.weak_peers(tls.weak_peers().len());
        let legacy =
            tls.legacy().iter().flat_map(|(place, all)| all.iter().map(|one| (place.as_str(), one.word())));
        context.metrics.legacy_allowed(legacy);
    }
}

/// Warns until the gateway stops.
pub(super) async fn watch(context: Arc<NetContext>) {
    let mut said = Said::default();
    loop {
        if let Some(not_after) = context
            .tls
            .load_full()
            .and_then(|tls| tls.certificates().iter().filter_map(|ours| ours.not_after).min())
            && let Some(left) = said.next(not_after, SystemTime::now())
        {
            say(left, not_after);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = context.stopped() => return,
        }
    }
}

fn say(left: Left, not_after: SystemTime) {
    let ends = time::OffsetDateTime::from(not_after);
    match left {
        Left::Enough => {}
        Left::Nothing => {
            let umb_code = codes::EXPIRED.as_str();
            error!(event = "certificate_expired", umb_code, %ends, "the gateway's certificate has expired");
        }
        Left::Month | Left::Week | Left::Day => {
            let umb_code = codes::EXPIRES_SOON.as_str();
            let within_days = match left {
                Left::Day => 1,
                Left::Week => 7,
                _ => 30,
            };
            warn!(event = "certificate_expires", umb_code, within_days, %ends, "the gateway's certificate ends soon");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worsening_is_said_once_and_a_new_certificate_begins_anew() {
        let end = UNIX_EPOCH + 1_000 * DAY;
        let mut said = Said::default();
        let mut at = |days: u32, hours: u32| said.next(end, end - days * DAY - hours * (DAY / 24));
        assert_eq!(at(40, 0), None);
        assert_eq!(at(30, 1), None);
        assert_eq!(at(30, 0), Some(Left::Month));
        assert_eq!(at(29, 23), None);
        assert_eq!(at(7, 0), Some(Left::Week));
        assert_eq!(at(8, 0), None, "a clock set back repeats nothing");
        assert_eq!(at(7, 0), None);
        assert_eq!(at(1, 0), Some(Left::Day));
        assert_eq!(at(0, 0), Some(Left::Nothing));
        assert_eq!(said.next(end, end + DAY), None);
        assert_eq!(said.next(end + 5 * DAY, end), Some(Left::Week));
        assert_eq!(said.next(end + 400 * DAY, end), None);
    }
}
