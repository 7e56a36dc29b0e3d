//! How long each of our certificates still lives: a gauge, and a warning at thirty days, seven days, one day and none, which say
//! which one it is and who sees it. Looks every hour of the monotonic clock at what is in force then; refuses to renew anything.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use b2bua::codes;
use tracing::{error, warn};

use crate::net::NetContext;
use crate::observe::{CertificateLabels, rfc3339};
use crate::tls::OurCertificate;

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

/// What was said last about each certificate in force: by file, end and those who see it.
#[derive(Default)]
struct Said(BTreeMap<(PathBuf, SystemTime, Vec<String>), Left>);

impl Said {
    /// What is to be said now: of each certificate each worsening once, and anew for another one.
    fn next<'a>(
        &mut self,
        in_force: &'a [OurCertificate],
        now: SystemTime,
    ) -> Vec<(Left, &'a OurCertificate)> {
        let before = std::mem::take(&mut self.0);
        let mut news = Vec::new();
        for ours in in_force {
            let Some(not_after) = ours.not_after else { continue };
            let key = (ours.file.clone(), not_after, ours.used_for.clone());
            let (left, said) = (Left::of(not_after, now), before.get(&key).copied().unwrap_or(Left::Enough));
            if left > said {
                news.push((left, ours));
            }
            self.0.insert(key, left.max(said));
        }
        news
    }
}

/// Puts the ends of the certificates in force into the metrics: that of `[tls]` under our FQDN, the others under their names.
pub(super) fn publish(context: &NetContext, fqdn: &str, names: &[String]) {
    if let Some(tls) = context.tls.load_full() {
        let names = std::iter::once(fqdn).chain(names.iter().map(String::as_str));
        let ends = tls.certificates().iter().zip(names).map(|(ours, name)| {
            let end = ours.not_after.and_then(|end| end.duration_since(UNIX_EPOCH).ok());
            (labels(ours, name), end.map_or(0, |end| end.as_secs()))
        });
        context.metrics.certificates_end(ends);
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
        if let Some(tls) = context.tls.load_full() {
            for (left, ours) in said.next(tls.certificates(), SystemTime::now()) {
                say(left, ours);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = context.stopped() => return,
        }
    }
}

fn labels(ours: &OurCertificate, name: &str) -> CertificateLabels {
    CertificateLabels {
        name: name.to_owned(),
        subject: ours.subject.clone(),
        file: ours.file.display().to_string(),
        used_for: ours.used_for.join(","),
    }
}

fn say(left: Left, ours: &OurCertificate) {
    let CertificateLabels { subject, file, used_for, .. } = labels(ours, "");
    let ends = ours.not_after.map(rfc3339).unwrap_or_default();
    match left {
        Left::Enough => {}
        Left::Nothing => {
            let umb_code = codes::EXPIRED.as_str();
            error!(event = "certificate_expired", umb_code, %ends, subject, file, used_for, "a certificate of the gateway has expired");
        }
        Left::Month | Left::Week | Left::Day => {
            let umb_code = codes::EXPIRES_SOON.as_str();
            let within_days = match left {
                Left::Day => 1,
                Left::Week => 7,
                _ => 30,
            };
            warn!(event = "certificate_expires", umb_code, within_days, %ends, subject, file, used_for, "a certificate of the gateway ends soon");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(file: &str, not_after: SystemTime, used_for: &str) -> OurCertificate {
        OurCertificate::for_tests(file, not_after, used_for)
    }

    #[test]
    fn each_worsening_is_said_once_and_a_new_certificate_begins_anew() {
        let end = UNIX_EPOCH + 1_000 * DAY;
        let mut said = Said::default();
        let mut at = |not_after: SystemTime, now: SystemTime| {
            let in_force = [ours("umbra.pem", not_after, "listener")];
            said.next(&in_force, now).first().map(|(left, _)| *left)
        };
        let before = |days: u32, hours: u32| end - days * DAY - hours * (DAY / 24);
        assert_eq!(at(end, before(40, 0)), None);
        assert_eq!(at(end, before(30, 1)), None);
        assert_eq!(at(end, before(30, 0)), Some(Left::Month));
        assert_eq!(at(end, before(29, 23)), None);
        assert_eq!(at(end, before(7, 0)), Some(Left::Week));
        assert_eq!(at(end, before(8, 0)), None, "a clock set back repeats nothing");
        assert_eq!(at(end, before(7, 0)), None);
        assert_eq!(at(end, before(1, 0)), Some(Left::Day));
        assert_eq!(at(end, before(0, 0)), Some(Left::Nothing));
        assert_eq!(at(end, end + DAY), None);
        assert_eq!(at(end + 5 * DAY, end), Some(Left::Week));
        assert_eq!(at(end + 400 * DAY, end), None);
    }

    #[test]
    fn each_certificate_is_said_for_itself_and_one_that_is_gone_is_forgotten() {
        let (near, far, now) = (UNIX_EPOCH + 10 * DAY, UNIX_EPOCH + 20 * DAY, UNIX_EPOCH);
        let both = [ours("umbra.pem", far, "listener"), ours("old.pem", near, "mbx01.contoso.test")];
        let mut said = Said::default();
        let news = |said: &mut Said, in_force: &[OurCertificate], now| {
            let told = said.next(in_force, now);
            told.iter().map(|(left, ours)| (*left, ours.used_for[0].clone())).collect::<Vec<_>>()
        };
        let (listener, peer) = ("listener".to_owned(), "mbx01.contoso.test".to_owned());
        let first = [(Left::Month, listener.clone()), (Left::Month, peer.clone())];
        assert_eq!(news(&mut said, &both, now), first);
        assert_eq!(news(&mut said, &both, now + 4 * DAY), [(Left::Week, peer)]);
        assert_eq!(news(&mut said, &both[..1], now + 4 * DAY), []);
        assert_eq!(said.0.len(), 1);
        assert_eq!(news(&mut said, &both[..1], now + 13 * DAY), [(Left::Week, listener)]);
    }
}
