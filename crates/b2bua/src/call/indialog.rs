//! Requests inside the call: answered here when they concern one leg only, else carried to the other
//! leg in its own dialog and answered with what that leg says. Offers inside the call stand in
//! `renegotiate`.

use std::time::Instant;

use relay::Side;
use sip::endpoint::{ClientFailure, ClientKey, OutgoingRequest, ServerKey};
use sip::{HeaderId, Message, Method};

use super::recovery::{self, Recovery};
use super::{Call, RELAYED_MAX, Relayed, State};
use crate::codes;
use crate::engine::core::{Answer, ClientUse, Core};
use crate::engine::flows::FlowEntry;
use crate::headers;
use crate::verdict::Refusal;

impl Call {
    /// A request in the dialog of `side`, from a flow that may speak for it.
    pub fn on_request(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        flow: &FlowEntry,
        key: ServerKey,
        request: &Message,
    ) {
        if self.is_of_target(request) {
            return self.on_target_request(cx, now, key, request);
        }
        if !self.takes_request(cx, now, side, flow, key, request)
            || self.on_transfer_request(cx, now, side, key, request)
        {
            return;
        }
        match (request.method(), &self.state) {
            (Method::Bye, _) => {
                cx.respond_plain(now, key, request, 200, &[]);
                self.on_bye(cx, now, side, request);
            }
            (_, State::Ending { .. } | State::Ended) => cx.respond_plain(now, key, request, 481, &[]),
            (Method::Prack, _) => self.on_prack(cx, now, side, key, request),
            (_, State::AwaitingMedia | State::Dialing(_) | State::Ringing(_) | State::Held) => {
                self.on_early_request(cx, now, side, key, request);
            }
            (Method::Invite | Method::Update, _) if self.refuses_interval(request) => {
                let least = self.policy.session.min_se_secs.to_string();
                cx.respond_plain(now, key, request, 422, &[(HeaderId::MinSe, &least)]);
            }
            (Method::Update, _) if request.body().is_empty() => self.on_refresh(cx, now, side, key, request),
            // Whatever else comes is carried on, and a carried request needs a hop for that (RFC 7332).
            _ if hops_left(request).is_none() => {
                let who = self.leg(side).peer.name.clone();
                let refusal = Refusal::new(codes::HOPS_USED_UP, &who, "Max-Forwards is 0");
                cx.refuse(now, key, request, &refusal, None);
            }
            (Method::Invite, _) => self.on_reoffer(cx, now, side, key, request),
            (Method::Update, _) => self.on_reoffer(cx, now, side, key, request),
            (Method::Info, _) if self.takes_digit(cx, side, request) => {
                cx.respond_plain(now, key, request, 200, &[]);
            }
            _ => self.relay_request(cx, now, side, key, request),
        }
    }

    /// Notes flow and number of a request; false when it was out of order and is answered.
    pub(super) fn takes_request(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        flow: &FlowEntry,
        key: ServerKey,
        request: &Message,
    ) -> bool {
        let leg = self.leg_mut(side);
        if leg.flow.is_none() {
            leg.flow = Some(flow.flow);
        }
        let theirs = request.from_tag().unwrap_or_default();
        let dialog = self.dialog_with_mut(side, theirs);
        let in_order = dialog.is_some_and(|dialog| dialog.accept_request(request).is_ok());
        if !in_order {
            // RFC 3261 §12.2.2: a lower CSeq is out of order.
            cx.respond_plain(now, key, request, 500, &[]);
        }
        in_order
    }

    /// A session refresh concerns one leg only.
    fn on_refresh(&mut self, cx: &mut Core, now: Instant, side: Side, key: ServerKey, request: &Message) {
        self.answer_session(cx, now, side, key, request, None);
    }

    /// 200 with Contact and the session timer to a target refresh that is accepted.
    pub(super) fn answer_session(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        key: ServerKey,
        request: &Message,
        body: Option<bytes::Bytes>,
    ) {
        self.follow_target(side, request);
        let contact = self.contact_text(side);
        let mut own = self.grant_session(cx, now, side, request);
        own.extend(self.mirrored_routes(request));
        let mut lines = vec![(HeaderId::Contact, contact.as_str()), (HeaderId::Allow, headers::ALLOW)];
        lines.extend(own.iter().map(|(id, value)| (*id, value.as_str())));
        let body = body.map(|body| (&b"application/sdp"[..], body));
        cx.respond(now, key, request, &Answer { lines: &lines, body, ..Answer::of(200) });
    }

    pub(super) fn relay_request(
        &mut self,
        cx: &mut Core,
        now: Instant,
        from: Side,
        key: ServerKey,
        request: &Message,
    ) {
        let lines = self.request_lines(cx, request, from);
        self.carry(cx, now, from, key, request, &lines);
    }

    /// Sends a request on to the other leg with these lines; answers it when that cannot be.
    pub(super) fn carry(
        &mut self,
        cx: &mut Core,
        now: Instant,
        from: Side,
        key: ServerKey,
        request: &Message,
        lines: &[u8],
    ) -> Option<ClientKey> {
        let hindrance = match hops_left(request) {
            _ if self.relayed.len() >= RELAYED_MAX => Some(500),
            None => Some(483),
            Some(_) if self.leg(!from).flow.is_none() || self.speaking_dialog(!from).is_none() => Some(481),
            Some(_) => None,
        };
        let sent = match hindrance {
            Some(_) => None,
            None => self.send_relayed(cx, now, from, request, lines),
        };
        match (sent, hindrance) {
            (Some(client), _) => {
                let (request, recovery) = (request.clone(), Recovery::No);
                self.relayed.push(Relayed { client, server: key, from, request, recovery });
            }
            (None, Some(500)) => cx.respond_plain(now, key, request, 500, &[(HeaderId::RetryAfter, "1")]),
            (None, status) => cx.respond_plain(now, key, request, status.unwrap_or(500), &[]),
        }
        sent
    }

    /// Sends a request on in the dialog of the other leg.
    pub(super) fn send_relayed(
        &mut self,
        cx: &mut Core,
        now: Instant,
        from: Side,
        request: &Message,
        lines: &[u8],
    ) -> Option<ClientKey> {
        let flow = self.leg(!from).flow?;
        let out = self.relayed_request(from, request, lines)?;
        cx.send(now, &flow, out, ClientUse::Relayed(self.key))
    }

    fn relayed_request(&mut self, from: Side, request: &Message, lines: &[u8]) -> Option<OutgoingRequest> {
        let tags = recovery::supported("timer", &self.policy.session);
        let (hops, contact) = (hops_left(request)?, self.leg(!from).contact.clone());
        let mut draft = self.speaking_dialog(!from)?.forward(request.method().clone(), hops).block(lines);
        draft = draft.header(HeaderId::Supported, tags);
        if refreshes_target(request.method()) {
            draft = draft.header(HeaderId::Contact, contact);
        }
        if !request.body().is_empty() {
            let content_type = headers::body_type(request);
            draft = draft.body(&content_type, request.body());
        }
        draft.finish().ok()
    }

    /// BENOTIFY: carried on as it is, without a transaction; nobody answers it.
    pub fn on_one_way(&mut self, cx: &mut Core, now: Instant, from: Side, request: &Message) {
        let is_up = matches!(
            self.state,
            State::Answering { .. } | State::Established | State::Renegotiating(_) | State::Refreshing(_)
        );
        let dialog = self.leg_mut(from).dialog.as_mut();
        let in_order = dialog.is_some_and(|dialog| dialog.accept_request(request).is_ok());
        if !is_up || !in_order {
            return cx.count("one_way_requests_dropped");
        }
        let lines = self.request_lines(cx, request, from);
        let sent = self
            .relayed_request(from, request, &lines)
            .zip(self.leg(!from).flow)
            .and_then(|(out, flow)| cx.endpoint.send_one_way(now, &flow, &out).ok());
        if sent.is_none() {
            cx.count("one_way_requests_dropped");
        }
    }

    /// The other leg answers a request that was carried to it.
    pub fn on_relayed_response(
        &mut self,
        cx: &mut Core,
        now: Instant,
        client: ClientKey,
        response: &Message,
    ) {
        let Some(status) = response.status().filter(|s| s.is_final()) else { return };
        let Some(mut pending) = self.take_relayed(client) else { return };
        cx.clients.remove(&client);
        if self.mends(cx, now, &mut pending, response) {
            return self.relayed.push(pending);
        }
        let contact = self.contact_text(pending.from);
        let mut lines = Vec::new();
        if refreshes_target(pending.request.method()) && status.is_success() {
            lines.push((HeaderId::Contact, contact.as_str()));
            self.follow_target(pending.from, &pending.request);
            if let Some(dialog) = &mut self.leg_mut(!pending.from).dialog {
                dialog.refresh_target(response);
            }
        }
        // RFC 3261 §11.2: what the asker may send is what this gateway takes.
        if *pending.request.method() == Method::Options && status.is_success() {
            lines.extend([(HeaderId::Allow, headers::ALLOW), (HeaderId::Supported, headers::SUPPORTED)]);
        }
        // A redirect inside a dialog would lead the other leg past this gateway.
        let code = if status.is_redirect() { 500 } else { status.code() };
        let reason = response.reason();
        let block = self.response_lines(cx, response, !pending.from, headers::WithBody::Yes);
        let block = [block, self.refer_warning(pending.from, &pending.request)].concat();
        let content_type = headers::body_type(response);
        let body =
            Some(response.body()).filter(|body| !body.is_empty()).map(|body| (&content_type[..], body));
        let reason = Some(&reason[..]).filter(|_| code == status.code());
        let answer = Answer { reason, lines: &lines, block: &block, body, ..Answer::of(code) };
        cx.respond(now, pending.server, &pending.request, &answer);
        self.after_carried(cx, client, Some(response));
        if !has_usage_of_its_own(pending.request.method()) {
            self.end_if_gone(cx, now, !pending.from, response);
        }
    }

    /// The other leg never answered.
    pub fn on_relayed_failed(&mut self, cx: &mut Core, now: Instant, client: ClientKey, why: &ClientFailure) {
        let Some(pending) = self.take_relayed(client) else { return };
        // 408 would end the dialog of the asking leg (RFC 5057 §5.1).
        let status = if matches!(why, ClientFailure::Timeout) { 504 } else { 503 };
        cx.respond_plain(now, pending.server, &pending.request, status, &[]);
        self.after_carried(cx, client, None);
    }

    pub(super) fn take_relayed(&mut self, client: ClientKey) -> Option<Relayed> {
        let at = self.relayed.iter().position(|pending| pending.client == client)?;
        Some(self.relayed.swap_remove(at))
    }
}

/// Max-Forwards of a request on the other leg; `None`: it may go no further (RFC 3261 §16.3).
pub(super) fn hops_left(request: &Message) -> Option<u32> {
    request.max_forwards().unwrap_or(sip::dialog::MAX_FORWARDS).checked_sub(1)
}

/// Methods that need a Contact (RFC 3261 §12.2, RFC 3515, RFC 6665).
fn refreshes_target(method: &Method) -> bool {
    matches!(method, Method::Update | Method::Refer | Method::Notify | Method::Subscribe)
}

/// A 481 to one of these ends a subscription, not the call (RFC 5057).
pub(super) fn has_usage_of_its_own(method: &Method) -> bool {
    matches!(method, Method::Refer | Method::Notify | Method::Subscribe)
}
