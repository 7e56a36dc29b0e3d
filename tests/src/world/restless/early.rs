//! What a restless far end does before an answer and beside its calls: reliable provisionals on both sides, forks behind one server, transfers,
//! OPTIONS and message waiting.

use std::time::{Duration, Instant};

use bytes::Bytes;
use sip::{Flow, HeaderId, Message, Method, OutgoingRequest, ServerKey, StatusCode};

use super::words::{contact_at, tag_of, text};
use super::{Restless, SDP, Said};

/// How long a reliable 18x waits for its PRACK.
const PRACK_WITHIN: Duration = Duration::from_secs(6);
/// RSeq of the one reliable 18x of a call.
const RSEQ: u32 = 17;

/// Whether the sender of this INVITE confirms provisional responses (RFC 3262 §3).
pub(super) fn asks_for_reliable(invite: &Message) -> bool {
    let lists = invite.values(HeaderId::Supported).chain(invite.values(HeaderId::Require));
    lists.flat_map(|list| list.split(|b| *b == b',')).any(|tag| tag.trim_ascii() == b"100rel")
}

impl Restless {
    /// Header lines about extensions of a new INVITE.
    pub(super) fn extensions(&mut self) -> String {
        let supported = if self.random.chance(50) { "timer, 100rel" } else { "timer" };
        let session = match self.random.below(6) {
            0 => "Session-Expires: 90;refresher=uas\r\n",
            1 => "Session-Expires: 90;refresher=uac\r\n",
            2 => "Session-Expires: 1800\r\nMin-SE: 90\r\n",
            _ => "",
        };
        format!(
            "Supported: {supported}\r\nAllow: INVITE, ACK, BYE, CANCEL, UPDATE, PRACK, INFO, REFER, NOTIFY\r\n{session}"
        )
    }

    fn response(
        &mut self,
        request: &Message,
        status: u16,
        tag: &[u8],
        lines: &[(HeaderId, String)],
        body: &Bytes,
    ) -> Option<Bytes> {
        let mut builder = sip::response_to(request, StatusCode::new(status)?, None, Some(tag))
            .header(HeaderId::Contact, self.contact_for(request));
        for (id, value) in lines {
            builder = builder.header(*id, value);
        }
        let kind = (!body.is_empty()).then_some(SDP.as_bytes());
        builder.finish(kind, body).ok()
    }

    /// 183 with what an 18x may hold, to be confirmed by PRACK.
    pub(super) fn ring_reliably(&mut self, now: Instant, server: ServerKey, key: u64, request: &Message) {
        let body = match request.body().is_empty() || self.random.chance(30) {
            true => Bytes::new(),
            false => self.answer(request).unwrap_or_default(),
        };
        let lines = [(HeaderId::Require, "100rel".to_owned()), (HeaderId::RSeq, RSEQ.to_string())];
        let Some(bytes) = self.response(request, 183, &tag_of(request), &lines, &body) else { return };
        let _ = self.endpoint.respond(now, server, bytes);
        if let Some(call) = self.calls.get_mut(&key).filter(|_| !body.is_empty()) {
            call.prack_due = Some(now + PRACK_WITHIN);
            call.was_told = true;
        }
    }

    pub(super) fn on_prack(&mut self, now: Instant, server: ServerKey, key: u64, request: &Message) {
        let is_ours =
            request.header(HeaderId::RAck).is_some_and(|rack| rack.starts_with(RSEQ.to_string().as_bytes()));
        if !is_ours {
            return self.respond(now, server, request, 481, None);
        }
        if let Some(call) = self.calls.get_mut(&key) {
            call.prack_due = None;
        }
        let body = (!request.body().is_empty()).then(|| self.answer(request)).flatten();
        self.respond(now, server, request, 200, body);
    }

    /// Another phone behind the same server rings too.
    pub(super) fn ring_as_fork(&mut self, flow: &Flow, request: &Message) {
        let tag = [&tag_of(request)[..], b"-2"].concat();
        if let Some(bytes) = self.response(request, 180, &tag, &[], &Bytes::new()) {
            self.endpoint.send_raw(flow, bytes);
        }
    }

    /// It was picked up at the same moment, or rings on although nobody wants it any more.
    pub(super) fn answer_as_fork(&mut self, flow: &Flow, request: &Message) {
        let (status, body) = match self.random.below(12) {
            0 => (200, self.answer(request).unwrap_or_default()),
            1 => (180, Bytes::new()),
            _ => return,
        };
        let tag = [&tag_of(request)[..], b"-2"].concat();
        if let Some(bytes) = self.response(request, status, &tag, &[], &body) {
            self.endpoint.send_raw(flow, bytes);
        }
    }

    /// PRACK to a reliable provisional of the gateway, with an answer when it held an offer (RFC 3262 §5).
    pub(super) fn confirm_provisional(&mut self, now: Instant, key: u64, response: &Message) {
        let rseq = response.header(HeaderId::RSeq).and_then(|value| text(value).parse::<u32>().ok());
        let Some(rseq) = rseq else { return };
        let is_late = self.calls.get(&key).and_then(|c| c.invite.as_ref()).is_some_and(|i| i.body.is_empty());
        let answer = if is_late { self.answer(response) } else { None };
        let Some(call) = self.calls.get_mut(&key).filter(|call| rseq > call.confirmed) else { return };
        call.confirmed = rseq;
        call.was_told |= answer.is_some();
        let Some(early) = &mut call.early else { return };
        let mut draft = early
            .request(Method::Prack)
            .header(HeaderId::RAck, format!("{rseq} {} INVITE", response.cseq().number));
        if let Some(answer) = answer {
            draft = draft.body(SDP, answer);
        }
        let flow = call.flow;
        if let Ok(prack) = draft.finish() {
            // An INVITE that is over by now is confirmed no more.
            let _ = self.endpoint.send_request(now, &flow, prack);
        }
    }

    /// Sends the other side somewhere else.
    pub(super) fn refer(&mut self, now: Instant, key: u64) {
        let (name, ports, address) = (self.name.clone(), self.ports, self.address);
        let Some(call) = self.calls.get_mut(&key) else { return };
        let Some(dialog) = call.dialog.as_mut() else { return };
        let draft = dialog
            .request(Method::Refer)
            .header(HeaderId::Contact, contact_at(&name, ports, address, call.flow.transport))
            .header(HeaderId::ReferTo, "<sip:sue@contoso.com>")
            .header(HeaderId::ReferredBy, "<sip:dana@contoso.com>");
        let flow = call.flow;
        if let Ok(refer) = draft.finish() {
            let _ = self.endpoint.send_request(now, &flow, refer);
        }
    }

    pub(super) fn send_options(&mut self, now: Instant, id: u64) {
        self.send_alone(now, Method::Options, "sip:umbra.contoso.com", "");
        self.say(Said::News(format!("OPTIONS {id}")));
    }

    pub(super) fn send_notify(&mut self, now: Instant, whom: &str) {
        let lines = "Event: message-summary\r\nSubscription-State: active\r\n";
        self.send_alone(now, Method::Notify, &format!("sip:{whom}"), lines);
    }

    /// A request outside any dialog.
    fn send_alone(&mut self, now: Instant, method: Method, uri: &str, lines: &str) {
        let flows: Vec<Flow> = self.flows.values().copied().collect();
        let Some(flow) = self.random.pick(&flows).copied() else { return };
        let (call_id, tag) = (self.endpoint.new_call_id(b"al-"), self.endpoint.new_tag());
        let headers = format!(
            "Max-Forwards: 70\r\nFrom: <sip:far@contoso.com>;tag={}\r\nTo: <{uri}>\r\nCall-ID: {}\r\nCSeq: 1 {method}\r\n\
             Contact: <sip:far@{}:5061>\r\n{lines}",
            text(&tag),
            text(&call_id),
            self.address
        );
        let request = OutgoingRequest {
            method,
            uri: Bytes::copy_from_slice(uri.as_bytes()),
            headers: Bytes::from(headers),
            content_type: None,
            body: Bytes::new(),
        };
        let _ = self.endpoint.send_request(now, &flow, request);
    }
}
