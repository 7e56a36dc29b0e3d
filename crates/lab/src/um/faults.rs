//! What a faulty worker does otherwise than a sound one. Owns the meaning of each [`Fault`] for a call; refuses to send anything.

use std::time::{Duration, Instant};

use super::call::Call;
use super::worker::WorkerConfig;
use super::{AnswerRules, Fault};
use crate::media::Impairment;
use crate::negotiate::{self, Body};

/// Between the 180 of [`Fault::RingsWithSdp`] and the 200.
const EARLY_MEDIA: Duration = Duration::from_millis(300);

/// When a call that comes now gets its 180.
pub(super) fn ring_at(fault: &Fault, rules: &AnswerRules, now: Instant) -> Option<Instant> {
    match fault {
        Fault::SlowAnswer(_) => None,
        Fault::RingsWithSdp => Some(now),
        _ => rules.ring_after.map(|after| now + after),
    }
}

/// When a call that comes now is answered.
pub(super) fn answer_at(fault: &Fault, rules: &AnswerRules, now: Instant) -> Instant {
    let after = rules.answer_after;
    now + match fault {
        Fault::SlowAnswer(late) => after.max(*late),
        Fault::RingsWithSdp => after.max(EARLY_MEDIA),
        _ => after,
    }
}

/// When a call that is answered now loses its worker process.
pub(super) fn recycle_at(config: &WorkerConfig, now: Instant) -> Option<Instant> {
    match config.fault {
        Fault::Recycled(after) => Some(now + after),
        _ => None,
    }
}

/// What is wrong with the media of calls.
pub(super) fn impairment(config: &WorkerConfig) -> Option<Impairment> {
    match config.fault {
        Fault::Media(impairment) => Some(impairment),
        _ => None,
    }
}

/// The description in a 180; the 200 repeats it.
pub(super) fn early_description(config: &WorkerConfig, call: &Call) -> Option<Body> {
    let local = call.local.filter(|_| config.fault == Fault::RingsWithSdp)?;
    let content_type = call.invite.header(sip::HeaderId::ContentType)?;
    let offer = negotiate::read_session(content_type, &call.invite.body()).ok()?;
    let (body, _) = negotiate::answer(&offer, call.security, local, &call.key, call.seed).ok()?;
    Some(body)
}
