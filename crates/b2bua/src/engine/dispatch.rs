//! From bytes to calls: every event of the endpoint finds its call, or the answer for requests and
//! responses that have none. Owns the rule that a dialog listens only to its own peer.

use std::time::Instant;

use bytes::Bytes;
use relay::Side;
use sip::dialog::Dialog;
use sip::endpoint::{self, ClientFailure, ClientKey, Flow, OutgoingRequest, ServerKey};
use sip::{FlowKey, HeaderId, Message, Method};

use super::core::{ClientUse, DialogId};
use super::flows::FlowEntry;
use super::io::{CallKey, Output};
use super::parked::is_parked;
use super::{Answer, Engine};
use crate::call::Call;
use crate::codes;
use crate::headers;
use crate::headers::Block;
use crate::policy::UnknownPeer;
use crate::verdict::Refusal;

impl Engine {
    /// One message from the shell.
    pub(super) fn on_message(&mut self, now: Instant, key: FlowKey, bytes: Bytes) {
        let Some(entry) = self.core.flows.get(key) else {
            return self.core.count("messages_on_unknown_flows");
        };
        if !entry.is_stranger() {
            let flow = entry.flow;
            if let Err(closed) = self.core.look_at_gate(now, entry.peer, &bytes)
                && self.refuse_at_gate(now, &flow, &bytes, &closed)
            {
                return;
            }
            return self.core.endpoint.handle_bytes(now, &flow, bytes);
        }
        let entry = entry.clone();
        self.core.dropped("requests_of_strangers", &entry, &bytes);
        if self.core.policy.gateway.unknown_peer == UnknownPeer::Reject {
            self.reject_stranger(&entry, bytes);
        }
    }

    // Without a transaction: a stranger gets no state here.
    fn reject_stranger(&mut self, entry: &FlowEntry, bytes: Bytes) {
        let Ok(message) = Message::parse(bytes, &self.core.config.limits) else { return };
        if !message.is_request() || matches!(message.method(), Method::Ack | Method::Benotify) {
            return;
        }
        let refusal =
            Refusal::new(codes::UNKNOWN_ADDRESS, "sender", "the sender is no UM IP gateway and no server");
        let (status, reason, block) = self.core.refusal_parts(&refusal);
        let answer = Answer { reason: Some(reason.as_bytes()), block: &block, ..Answer::of(status) };
        if let Some(bytes) = self.core.response_bytes(&message, &answer) {
            self.core.outputs.push_back(Output::Send { flow: entry.flow.key, bytes });
        }
    }

    /// Drains the endpoint: bytes to the shell, events to their calls.
    pub(super) fn dispatch_endpoint(&mut self, now: Instant) {
        loop {
            while let Some(output) = self.core.endpoint.poll_output() {
                match output {
                    endpoint::Output::Send { flow, bytes } if is_parked(flow) => {
                        self.on_parked_bytes(now, flow, bytes);
                    }
                    endpoint::Output::Send { flow, bytes } => {
                        self.core.outputs.push_back(Output::Send { flow, bytes })
                    }
                    endpoint::Output::Event(event) => self.on_event(now, event),
                }
            }
            let Some((waiter, outcome)) = self.core.reach.poll_outcome() else { break };
            self.on_reached(now, waiter, outcome);
        }
        self.core.parked.forget_attached();
    }

    fn on_event(&mut self, now: Instant, event: endpoint::Event) {
        use endpoint::Event;
        match event {
            Event::Request { key, flow, message } => {
                self.core.serving = Some(key);
                self.on_request(now, key, &flow, &message);
                self.core.serving = None;
            }
            Event::OneWay { flow, message } => self.on_one_way(now, &flow, &message),
            Event::Ack { flow, message, invite } => self.on_ack(now, &flow, invite, &message),
            Event::Cancel { invite, message } => self.on_cancel(now, invite, &message),
            Event::Response { key, flow, message } => self.on_response(now, key, &flow, &message),
            Event::ClientFailed { key, why } => self.on_client_failed(now, key, why),
            Event::AckMissing { key } => {
                let call = self.core.invites.get(&key).copied();
                self.with_call(call, |call, core| call.on_ack_missing(core, now, key));
            }
            Event::ServerFailed { key, .. } => {
                self.core.count("server_transactions_failed");
                let call = self.core.invites.get(&key).copied();
                self.with_call(call, |call, core| call.on_invite_lost(core, now, key));
            }
            Event::ServerGone { key } => self.on_server_gone(key),
            Event::Stray { flow, message } => self.drop_message("stray_responses", &flow, &message),
            Event::Malformed { flow, error, .. } => {
                if let Some(entry) = self.core.flows.get(flow.key).cloned() {
                    self.core.dropped("malformed_messages", &entry, error.to_string().as_bytes());
                }
            }
        }
    }

    // Else a long call would remember every offer it ever had.
    fn on_server_gone(&mut self, key: ServerKey) {
        self.core.served.remove(&key);
        self.core.forwards.remove(&key);
        let call = self.core.invites.remove(&key);
        if let Some(call) = call.and_then(|call| self.calls.get_mut(call)) {
            call.invites.retain(|known| *known != key);
        }
    }

    fn drop_message(&mut self, counter: &'static str, flow: &Flow, message: &Message) {
        if let Some(entry) = self.core.flows.get(flow.key).cloned() {
            self.core.dropped(counter, &entry, message.start_line());
        }
    }

    fn on_request(&mut self, now: Instant, key: ServerKey, flow: &Flow, request: &Message) {
        let Some(entry) = self.core.flows.get(flow.key).cloned() else {
            return self.core.respond_plain(now, key, request, 503, &[]);
        };
        match request.to_tag() {
            Some(tag) => {
                let id = DialogId { call_id: request.call_id_bytes(), tag: Bytes::copy_from_slice(tag) };
                self.on_dialog_request(now, key, &entry, request, &id);
            }
            None if !entry.is_welcome() => self.refuse_former_peer(now, key, &entry, request),
            None if *request.method() == Method::Invite => self.on_invite(now, key, &entry, request),
            None => self.on_outside_request(now, key, &entry, request),
        }
    }

    // Its calls go on, so it is heard; what it would begin is refused.
    fn refuse_former_peer(&mut self, now: Instant, key: ServerKey, entry: &FlowEntry, request: &Message) {
        self.core.count("requests_of_former_peers");
        let what = format!("{} is not accepted any more", entry.name);
        let refusal = Refusal::new(codes::FORMER_PEER, &entry.name, what);
        match request.method() {
            Method::Invite => self.refuse_unopened(now, key, entry, request, &refusal),
            _ => self.core.refuse(now, key, request, &refusal, None),
        }
    }

    fn on_dialog_request(
        &mut self,
        now: Instant,
        key: ServerKey,
        entry: &FlowEntry,
        request: &Message,
        id: &DialogId,
    ) {
        let found = self.core.dialogs.get(id).filter(|(call, side)| self.is_in_dialog(*call, *side, request));
        let Some((call, side)) = found else {
            let refusal = Refusal::new(codes::NO_DIALOG, &entry.name, "the request belongs to no call here");
            self.core.count("requests_without_dialog");
            return self.core.refuse(now, key, request, &refusal, None);
        };
        if !self.calls.get(call).is_some_and(|call| call.leg_tagged(side, &id.tag).peer.owns(entry)) {
            self.core.dropped("requests_of_foreign_peers", entry, request.start_line());
            let refusal =
                Refusal::new(codes::FOREIGN_DIALOG, &entry.name, "the sender has no part in this call");
            return self.core.refuse(now, key, request, &refusal, None);
        }
        let unsupported = headers::unsupported(request);
        // A BYE ends the call, whatever else it demands.
        if !unsupported.is_empty() && *request.method() != Method::Bye {
            let what = format!("{} requires {unsupported}", entry.name);
            let refusal = Refusal::new(codes::EXTENSION_REQUIRED, &entry.name, what);
            return self.core.refuse(now, key, request, &refusal, None);
        }
        self.core.served.insert(key, call);
        if *request.method() == Method::Refer {
            let elsewhere = self.core.named.take();
            let named = elsewhere.map_or_else(|| self.named_by(request, entry), |named| *named);
            return self.with_call(Some(call), |call, core| {
                call.adopt(core, side, entry);
                call.on_refer(core, now, side, entry, (key, request), &named);
            });
        }
        self.with_call(Some(call), |call, core| {
            call.adopt(core, side, entry);
            call.on_request(core, now, side, entry, key, request);
        });
    }

    // BENOTIFY: carried over or dropped, answered never.
    fn on_one_way(&mut self, now: Instant, flow: &Flow, request: &Message) {
        let tag = Bytes::copy_from_slice(request.to_tag().unwrap_or_default());
        let found = self.core.dialogs.get(&DialogId { call_id: request.call_id_bytes(), tag });
        let found = found.filter(|(call, side)| self.is_in_dialog(*call, *side, request));
        let Some((call, side)) = found else {
            return self.drop_message("one_way_requests", flow, request);
        };
        let is_owner =
            self.core.flows.get(flow.key).is_some_and(|entry| {
                self.calls.get(call).is_some_and(|call| call.leg(side).peer.owns(entry))
            });
        if !is_owner {
            return self.drop_message("requests_of_foreign_peers", flow, request);
        }
        self.with_call(Some(call), |call, core| call.on_one_way(core, now, side, request));
    }

    fn is_in_dialog(&self, call: CallKey, side: Side, request: &Message) -> bool {
        let (Some(call), Some(ours), Some(theirs)) =
            (self.calls.get(call), request.to_tag(), request.from_tag())
        else {
            return false;
        };
        let of_target = call.target_dialog().filter(|_| call.is_of_target(request));
        of_target
            .or(call.dialog_with(side, theirs))
            .is_some_and(|dialog| dialog.matches(request.call_id(), ours, theirs))
    }

    fn on_ack(&mut self, now: Instant, flow: &Flow, invite: Option<ServerKey>, ack: &Message) {
        let call = invite.and_then(|key| self.core.invites.get(&key)).copied();
        let owner = call.and_then(|key| self.calls.get(key));
        let (Some(owner), Some(invite)) = (owner, invite) else {
            return self.core.count("acks_without_call");
        };
        let id = |side| owner.leg(side).tag.clone();
        let side = if ack.to_tag() == Some(&id(Side::B)[..]) { Side::B } else { Side::A };
        let is_owner = self.core.flows.get(flow.key).is_some_and(|entry| owner.leg(side).peer.owns(entry));
        if !is_owner {
            return self.drop_message("requests_of_foreign_peers", flow, ack);
        }
        self.with_call(call, |call, core| call.on_ack(core, now, invite, ack));
    }

    fn on_cancel(&mut self, now: Instant, invite: ServerKey, cancel: &Message) {
        let call = self.core.invites.get(&invite).copied();
        self.with_call(call, |call, core| {
            if call.invite_key == invite {
                call.on_cancel(core, now, cancel);
            } else {
                call.on_reoffer_cancelled(core, now, invite);
                call.on_take_over_cancelled(core, now, invite);
            }
        });
    }

    fn on_response(&mut self, now: Instant, key: ClientKey, flow: &Flow, response: &Message) {
        let purpose = self.core.clients.get(&key).copied();
        let is_final = response.status().is_some_and(sip::StatusCode::is_final);
        match purpose {
            Some(ClientUse::Invite(call)) => {
                self.with_call(Some(call), |call, core| call.on_b_response(core, now, key, response));
            }
            Some(ClientUse::Reoffer(call)) => {
                self.with_call(Some(call), |call, core| call.on_reoffer_response(core, now, key, response));
            }
            Some(ClientUse::Relayed(call)) => {
                self.with_call(Some(call), |call, core| call.on_relayed_response(core, now, key, response));
            }
            Some(ClientUse::Bye(call)) if is_final => {
                self.core.clients.remove(&key);
                self.with_call(Some(call), |call, core| call.on_bye_done(core));
            }
            Some(ClientUse::Refresh(call, side)) => {
                if is_final {
                    self.core.clients.remove(&key);
                }
                self.with_call(Some(call), |call, core| {
                    call.on_refresh_response(core, now, side, key, response);
                });
            }
            Some(purpose @ (ClientUse::Digit | ClientUse::Prack)) if is_final => {
                self.core.clients.remove(&key);
                let is_digit = purpose == ClientUse::Digit;
                if !response.status().is_some_and(sip::StatusCode::is_success) {
                    self.core.count(if is_digit { "digits_refused" } else { "pracks_refused" });
                }
            }
            Some(ClientUse::OwnReoffer(call)) => {
                let act =
                    |call: &mut Call, core: &mut _| call.on_own_reoffer_response(core, now, key, response);
                self.with_call(Some(call), act);
            }
            Some(ClientUse::EarlyOffer(call)) => {
                let act =
                    |call: &mut Call, core: &mut _| call.on_early_offer_response(core, now, key, response);
                self.with_call(Some(call), act);
            }
            Some(ClientUse::Transfer(call)) => {
                if is_final {
                    self.core.clients.remove(&key);
                }
                self.with_call(Some(call), |call, core| call.on_transfer_response(core, now, key, response));
            }
            Some(ClientUse::Probe(call, side)) if is_final => {
                self.core.clients.remove(&key);
                let status = response.status().map(sip::StatusCode::code);
                self.with_call(Some(call), |call, core| call.on_probed(core, now, side, status));
            }
            Some(ClientUse::Health(probe)) if is_final => {
                self.core.clients.remove(&key);
                self.core.on_probe_answered(now, probe, response);
            }
            Some(ClientUse::Forwarded(server)) if is_final => {
                self.core.clients.remove(&key);
                self.core.answer_forwarded(now, server, flow, response);
            }
            Some(_) => {}
            None if is_final => {
                let reason = self.core.withdrawn.remove(&key).unwrap_or_default();
                self.end_orphan(now, flow, response, &reason);
            }
            None => {}
        }
    }

    fn on_client_failed(&mut self, now: Instant, key: ClientKey, why: ClientFailure) {
        self.core.withdrawn.remove(&key);
        match self.core.clients.remove(&key) {
            Some(ClientUse::Invite(call)) => {
                self.with_call(Some(call), |call, core| call.on_b_failed(core, now, key, &why));
            }
            Some(ClientUse::Reoffer(call)) => {
                self.with_call(Some(call), |call, core| call.on_reoffer_failed(core, now, key, &why));
            }
            Some(ClientUse::Relayed(call)) => {
                self.with_call(Some(call), |call, core| call.on_relayed_failed(core, now, key, &why));
            }
            Some(ClientUse::Bye(call)) => self.with_call(Some(call), |call, core| call.on_bye_done(core)),
            Some(ClientUse::Refresh(call, side)) => {
                self.with_call(Some(call), |call, core| call.on_refresh_failed(core, now, side, key, &why));
            }
            Some(ClientUse::Prack) => self.core.count("pracks_unanswered"),
            Some(ClientUse::Digit) => self.core.count("digits_unanswered"),
            Some(ClientUse::OwnReoffer(call)) => {
                self.with_call(Some(call), |call, core| call.on_own_reoffer_failed(core, key));
            }
            Some(ClientUse::EarlyOffer(call)) => {
                self.with_call(Some(call), |call, core| call.on_early_offer_failed(core, now, key, &why));
            }
            Some(ClientUse::Transfer(call)) => {
                self.with_call(Some(call), |call, core| call.on_transfer_failed(core, now, key, &why));
            }
            // A connection that broke once more is looked for again; silence is an answer.
            Some(ClientUse::Probe(call, side)) if matches!(why, ClientFailure::Timeout) => {
                self.with_call(Some(call), |call, core| call.on_probed(core, now, side, None));
            }
            Some(ClientUse::Probe(..)) => {}
            Some(ClientUse::Health(probe)) => {
                self.core.on_probe_failed(now, probe, "the connection broke while OPTIONS was out");
            }
            Some(ClientUse::Forwarded(server)) => self.core.fail_forwarded(now, server, &why),
            None => {}
        }
    }

    fn is_dialog_of_call(&self, dialog: &Dialog) -> bool {
        let id = DialogId { call_id: dialog.call_id.clone(), tag: dialog.local_tag.clone() };
        let found = self.core.dialogs.get(&id);
        let leg = found.and_then(|(call, side)| Some(self.calls.get(call)?.leg(side)));
        leg.and_then(|leg| leg.dialog.as_ref()).is_some_and(|held| held.remote_tag == dialog.remote_tag)
    }

    // A 2xx that no call waits for: a second fork, or CANCEL and 200 crossed. It gets its ACK, and then BYE.
    fn end_orphan(&mut self, now: Instant, flow: &Flow, response: &Message, reason: &Bytes) {
        let is_answer = response.status().is_some_and(sip::StatusCode::is_success);
        if !is_answer || *response.method() != Method::Invite {
            return;
        }
        self.core.count("orphan_answers");
        let Ok(mut dialog) = Dialog::uac(&request_behind(response), response) else {
            return self.core.count("orphan_answers_unusable");
        };
        if let Ok(ack) = dialog.ack(response.cseq().number).finish() {
            self.core.endpoint.send_ack(now, flow, ack);
        }
        // The answer to an offer that was withdrawn: the dialog is a call's, which says BYE itself.
        if self.is_dialog_of_call(&dialog) {
            return;
        }
        if let Ok(bye) = dialog.request(Method::Bye).block(reason).finish()
            && self.core.endpoint.send_request(now, flow, bye).is_err()
        {
            self.core.count("requests_not_sent");
        }
    }
}

/// As much of the INVITE as a dialog needs, read back from its answer.
fn request_behind(response: &Message) -> OutgoingRequest {
    let mut block = Block::default();
    let value = |id| response.value_bytes(id).unwrap_or_default();
    block
        .header(HeaderId::From, value(HeaderId::From))
        .header(HeaderId::To, crate::headers::without_tag(&value(HeaderId::To)))
        .header(HeaderId::CallId, value(HeaderId::CallId))
        .header(HeaderId::CSeq, value(HeaderId::CSeq));
    let uri =
        response.contacts().ok().and_then(|c| c.first().map(|c| c.uri.raw().clone())).unwrap_or_default();
    OutgoingRequest {
        method: Method::Invite,
        uri,
        headers: block.finish(),
        content_type: None,
        body: Bytes::new(),
    }
}
