//! The end of a call at a worker: BYE of either side, CANCEL, a lost connection, and what the caller leaves behind.

use std::time::Instant;

use sip::{FlowKey, Message, Method, ServerKey};

use super::call::{Call, Phase};
use super::directory::HeldMessage;
use super::worker::Worker;
use super::{Allowed, CallKind, EndReason, LabFact, MissedCall, UmReport, VoiceMessage};
use crate::machine::{since, text};
use crate::media::{MediaCommand, MediaKey, MediaReport};

impl Worker {
    /// Sends BYE on an answered call.
    pub(super) fn hang_up(&mut self, now: Instant, key: MediaKey, why: EndReason) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        call.end.get_or_insert(why);
        let bye = call.dialog.as_mut().map(|d| d.request(Method::Bye).finish());
        let flow = call.flow;
        let sent = match bye {
            Some(Ok(bye)) => self.station.endpoint.send_request(now, &flow, bye).ok(),
            _ => None,
        };
        match sent {
            Some(client) => call.phase = Phase::HangingUp(client),
            None => self.stop(key),
        }
    }

    pub(super) fn on_bye(&mut self, now: Instant, server: ServerKey, key: MediaKey, message: &Message) {
        self.accept(now, server, key, message);
        if let Some(call) = self.calls.get_mut(&key) {
            // Whoever was handed on says BYE before, or instead of, its NOTIFY.
            let why = if call.transfer.is_some() { EndReason::Transferred } else { EndReason::CallerHungUp };
            call.end.get_or_insert(why);
        }
        self.stop(key);
    }

    pub(super) fn on_cancel(&mut self, now: Instant, invite: ServerKey) {
        let Some(key) = self.by_server.get(&invite).copied() else { return };
        let Some(call) = self.calls.get_mut(&key) else { return };
        if call.answered_at.is_some() {
            return;
        }
        call.end = Some(EndReason::CallerHungUp);
        let response = self.station.response(&call.invite, 487, "Request Terminated", &call.tag);
        if let Some(builder) = response {
            self.station.respond(now, invite, builder.finish(None, b""));
        }
        self.stop(key);
    }

    pub(super) fn on_ack_missing(&mut self, now: Instant, invite: ServerKey) {
        if let Some(key) = self.by_server.get(&invite).copied() {
            self.hang_up(now, key, EndReason::NoAck);
        }
    }

    pub(super) fn on_flow_down(&mut self, now: Instant, flow: FlowKey) {
        self.station.flow_down(now, flow);
        let lost: Vec<MediaKey> =
            self.calls.iter().filter(|(_, c)| c.flow.key == flow).map(|(key, _)| *key).collect();
        for key in lost {
            if let Some(call) = self.calls.get_mut(&key) {
                call.end.get_or_insert(EndReason::ConnectionLost);
            }
            self.stop(key);
        }
    }

    pub(super) fn stop(&mut self, key: MediaKey) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        if !matches!(call.phase, Phase::Stopping) {
            call.phase = Phase::Stopping;
            self.station.media(key, MediaCommand::Stop);
        }
    }

    /// Media is closed: the last act of a call.
    pub(super) fn on_stopped(&mut self, now: Instant, key: MediaKey, report: MediaReport) {
        let Some(call) = self.calls.remove(&key) else { return };
        self.by_call_id.remove(call.invite.call_id());
        self.by_server.remove(&call.server);
        let end = call.end.unwrap_or(EndReason::Stopped);
        if let Some(answered) = call.answered_at {
            self.station.report(UmReport::Fact(LabFact::Ended {
                server: self.config.name.clone(),
                call_id: text(call.invite.call_id()),
                why: end,
                lasted: since(now, answered),
            }));
        }
        if matches!(call.purpose.kind, CallKind::CallAnswering | CallKind::VoiceMemo) && call.end.is_some() {
            self.bequeath(now, call, end, report);
        }
    }

    /// What a caller left: a message, or a missed call.
    fn bequeath(&mut self, now: Instant, call: Call, end: EndReason, report: MediaReport) {
        let server = self.config.name.clone();
        let call_id = text(call.invite.call_id());
        let security = call.leg_security();
        let samples = call.message(report.samples);
        let report = match (call.recorded_from, call.media) {
            (Some(from), Some((_, law))) if !samples.is_empty() => {
                self.deposit(now, &call, from, &samples);
                UmReport::Message(Box::new(VoiceMessage {
                    purpose: call.purpose,
                    server,
                    call_id,
                    x_call_id: call.x_call_id,
                    security,
                    law,
                    samples,
                    age: since(now, from),
                    end,
                }))
            }
            _ if self.manner.missed_calls == Allowed::No
                || !self.config.directory.tells_missed_calls(&call.purpose.for_whom) =>
            {
                return;
            }
            _ => UmReport::Missed(Box::new(MissedCall {
                mailbox: call.purpose.for_whom.clone(),
                purpose: call.purpose,
                server,
                call_id,
                x_call_id: call.x_call_id,
            })),
        };
        self.station.report(report);
    }

    /// Puts the message where its owner can listen to it.
    fn deposit(&mut self, now: Instant, call: &Call, from: Instant, samples: &[i16]) {
        let received = self.utc(now) - since(now, from);
        let held =
            HeldMessage::new(call.purpose.caller.clone(), text(call.invite.call_id()), received, samples);
        if let Some(waiting) = self.config.directory.deposit(&call.purpose.for_whom, held) {
            self.station.report(UmReport::Waiting(waiting));
        }
    }
}
