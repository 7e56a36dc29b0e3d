//! From the engine's facts to log line, metric and record, in one exhaustive match. Owns the wording of the lines;
//! refuses to decide anything.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use b2bua::engine::{
    CallAnswered, CallStarted, Change, Delivery, Event, Notification, Notified, Probed, Turn, Way,
};
use b2bua::policy::ServerRole;
use b2bua::record::OfferResult;
use b2bua::verdict::clean;
use b2bua::{CallRecord, codes};
use tracing::{debug, info, warn};

use super::metrics::Up;
use super::{Metrics, RecordSender, WarnLimiter};

/// Receives every event of one engine.
pub struct Reporter {
    metrics: Arc<Metrics>,
    records: Option<RecordSender>,
    warnings: WarnLimiter,
}

impl Reporter {
    /// Reports to these; without `records` nothing is written to disk.
    pub fn new(metrics: Arc<Metrics>, records: Option<RecordSender>) -> Self {
        Self { metrics, records, warnings: WarnLimiter::new() }
    }

    /// One fact.
    pub fn report(&self, event: Event) {
        match event {
            Event::CallStarted(started) => call_started(&started),
            Event::CallAnswered(answered) => call_answered(&answered),
            Event::CallEnded { record, .. } => self.call_ended(record),
            Event::LegRerouted { call, call_id, peer, next_hop, way } => {
                self.metrics.event("legs_rerouted");
                let (call_id, peer, next_hop) = (clean(&call_id), clean(&peer), clean(&next_hop));
                let how = match way {
                    Way::Existing => "over a connection that is there",
                    Way::New => "over a new connection",
                };
                info!(event = "leg_rerouted", call = call.as_u64(), %call_id, %peer, %next_hop, how, "connection lost, routed anew");
            }
            Event::Notified(notified) => {
                self.metrics.notified(notified.notification, notified.delivery);
                log_notified(&notified);
            }
            Event::OfferRefused { call, code, what } => {
                info!(event = "offer_refused", call = call.as_u64(), umb_code = code.as_str(), what = %what, "refused inside the call");
            }
            Event::Redirected { call, from, to } => {
                self.metrics.redirected(&from, &to);
                debug!(event = "redirected", call = call.as_u64(), from = %clean(&from), to = %clean(&to));
            }
            Event::ServerFailed { call, server, why } => {
                self.metrics.failed_over(&server);
                debug!(event = "server_failed", call = call.as_u64(), server = %clean(&server), why = %clean(&why));
            }
            Event::ServerDown { server, roles, change } => {
                self.server_stands(&server, &roles, Up::No);
                let (umb_code, why) = (codes::SERVER_DOWN.as_str(), reason(&change));
                warn!(event = "server_down", server = %clean(&server), umb_code, why = %clean(&why), "server left out");
            }
            Event::ServerUp { server, roles, why } => {
                self.server_stands(&server, &roles, Up::Yes);
                warn!(event = "server_up", server = %clean(&server), why = %clean(&why), "server is back");
            }
            Event::ServerProbed { probed, is_up } => self.server_probed(&probed, is_up),
            Event::ServerLeft { server, role } => self.metrics.peer_left(role, &server),
            Event::PeerRefused { remote, names, transport } => {
                self.metrics.unknown_peer();
                self.warnings.warn("peer_refused", || {
                    let names = clean(&names.join(", "));
                    warn!(event = "peer_refused", %remote, names = %names, %transport, "no UM IP gateway or server");
                });
            }
            Event::Refused { code, remote } => {
                self.metrics.refused(code.as_str());
                self.warnings.warn(code.as_str(), || {
                    let title = code.entry().title;
                    warn!(event = "calls_refused", umb_code = code.as_str(), %remote, title, "new calls are refused");
                });
            }
            Event::Overload { waited, begins } => overload(waited, begins),
            Event::Dropped { counter, remote, what } => {
                self.metrics.dropped(counter);
                debug!(event = "dropped", kind = counter, %remote, what = %clean(&what));
            }
            Event::Media { call, fact } => {
                debug!(event = "media", call = call.as_u64(), fact = %clean(&fact));
            }
            Event::Drained => info!(event = "drained", "last call is over"),
            Event::Counter(name) => self.metrics.event(name),
        }
    }

    fn server_stands(&self, server: &str, roles: &[ServerRole], up: Up) {
        roles.iter().for_each(|role| self.metrics.peer_is_up(*role, server, up));
    }

    fn server_probed(&self, Probed { door, result, .. }: &Probed, up: bool) {
        self.metrics.peer_is_up(door.role, &door.server, if up { Up::Yes } else { Up::No });
        if let Ok(round_trip) = result {
            self.metrics.options_answered(door.role, &door.server, *round_trip);
        }
    }

    fn call_ended(&self, record: Box<CallRecord>) {
        let rejected = (record.offer_result == OfferResult::Rejected).then(|| record.verdict.code.as_str());
        self.metrics.call_ended(&record, rejected);
        log_end(&record);
        if let Some(records) = &self.records {
            records.send(record);
        }
    }
}

/// Why a server changed, with the time of its last good answer where probes put it down.
pub(crate) fn reason(change: &Change) -> String {
    let why = &change.why;
    match (change.to, change.last_good) {
        (Turn::Down, Some(at)) => format!("{why}, last good {}", time_of_day(calendar(at))),
        (Turn::Down, None) => format!("{why}, never good so far"),
        _ => why.clone(),
    }
}

/// The engine counts time, the calendar is ours.
pub(crate) fn calendar(at: Instant) -> SystemTime {
    SystemTime::now().checked_sub(at.elapsed()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Hours, minutes and seconds, UTC.
fn time_of_day(at: SystemTime) -> String {
    let at = time::OffsetDateTime::from(at);
    format!("{:02}:{:02}:{:02}Z", at.hour(), at.minute(), at.second())
}

// What reached its user is no news; what did not is one line.
fn log_notified(notified: &Notified) {
    let event = match notified.notification {
        Notification::MessageWaiting => "message_waiting",
        Notification::MissedCall => "missed_call",
    };
    let result = notified.delivery.as_str();
    let umb_code = notified.code.map(|code| code.as_str());
    let (from, to, user) = (&notified.from, &notified.to, &notified.user);
    match notified.delivery {
        Delivery::Delivered | Delivery::Recorded => {
            debug!(event, result, %from, %to, %user, umb_code, what = %notified.what, "notification");
        }
        _ => {
            info!(event, result, %from, %to, %user, umb_code, what = %notified.what, "notification did not arrive")
        }
    }
}

fn overload(waited: Duration, begins: bool) {
    let waited_ms = waited.as_millis();
    match begins {
        true => warn!(event = "overload", waited_ms, "work waits too long: new calls are refused"),
        false => warn!(event = "overload_over", waited_ms, "new calls are taken again"),
    }
}

fn call_started(started: &CallStarted) {
    info!(
        event = "call_started",
        call_id = %clean(&started.call_id),
        ip_gateway = %started.ip_gateway,
        dial_plan = %started.dial_plan,
        caller = %clean(&started.caller),
        called = %clean(&started.called),
        transport = %started.transport,
        "call started"
    );
}

fn call_answered(answered: &CallAnswered) {
    debug!(
        event = "call_answered",
        call_id = %clean(&answered.call_id),
        b_call_id = %clean(&answered.b_call_id),
        server = %clean(&answered.server),
        setup_ms = answered.setup.as_millis(),
        "call answered"
    );
}

fn log_end(record: &CallRecord) {
    let text = |value: &Option<String>| clean(value.as_deref().unwrap_or_default());
    let verdict = &record.verdict;
    let remedy = (!verdict.remedy.is_empty()).then(|| clean(&verdict.remedy));
    let evidence = (!verdict.evidence.is_empty()).then(|| clean(&verdict.evidence.join(" | ")));
    let millis = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    info!(
        event = "call_ended",
        call_id = %clean(&record.call_id),
        b_call_id = %text(&record.b_call_id),
        ip_gateway = %text(&record.ip_gateway),
        dial_plan = %text(&record.dial_plan),
        server = %text(&record.server),
        call_type = record.call_type.as_str(),
        offer_result = record.offer_result.as_str(),
        umb_code = record.verdict.code.as_str(),
        who = %record.verdict.who,
        what = %record.verdict.what,
        evidence = evidence.as_deref(),
        remedy = remedy.as_deref(),
        security = %record.security,
        setup_ms = record.setup.map(millis),
        duration_ms = millis(record.duration),
        recording = record.recording.as_deref(),
        recording_lacks = record.recording_lacks,
        capture = record.capture.as_deref(),
        "call ended"
    );
}
