//! A REFER to the caller: the answer, and the NOTIFYs of the subscription it makes (RFC 3515 §2.4). The target is only noted, nobody is
//! called.

use std::time::Instant;

use bytes::Bytes;
use sip::{HeaderId, Message, Method, ServerKey, StatusCode, response_to};

use super::OnRefer;
use super::logic::{CallerLogic, without_own_route};
use crate::machine::text;
use crate::media::MediaKey;

const ACCEPTED: u16 = 202;

impl CallerLogic {
    pub(super) fn on_refer(&mut self, now: Instant, server: ServerKey, key: MediaKey, message: &Message) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        call.outcome.referred_to.extend(message.header(HeaderId::ReferTo).map(text));
        let (status, last) = match call.spec.on_refer {
            OnRefer::Follow => (ACCEPTED, Some(200)),
            OnRefer::Fail(status) => (ACCEPTED, Some(status)),
            OnRefer::Refuse(status) => (status, None),
        };
        let in_order = call.dialog.as_mut().is_some_and(|dialog| dialog.accept_request(message).is_ok());
        let status = if in_order { status } else { 500 };
        let contact = call.dialog.as_ref().map(|dialog| dialog.local_uri.clone()).unwrap_or_default();
        let contact = contact.split(|b| *b == b'<').nth(1).and_then(|c| c.split(|b| *b == b'>').next());
        let contact = [b"<", contact.unwrap_or(b"sip:caller"), b">"].concat();
        if let Some(status) = StatusCode::new(status) {
            let response = response_to(message, status, None, None).header(HeaderId::Contact, contact);
            self.station.respond(now, server, response.finish(None, b""));
        }
        let Some(last) = last.filter(|_| in_order) else { return };
        self.notify(now, key, "active;expires=60", 100);
        self.notify(now, key, "terminated;reason=noresource", last);
    }

    fn notify(&mut self, now: Instant, key: MediaKey, state: &str, status: u16) {
        let (Some(call), Some(flow)) = (self.calls.get_mut(&key), self.flow) else { return };
        let Some(dialog) = call.dialog.as_mut() else { return };
        let reason = StatusCode::new(status).map(StatusCode::default_reason).unwrap_or_default();
        let draft = dialog
            .request(Method::Notify)
            .header(HeaderId::Event, "refer")
            .header(HeaderId::SubscriptionState, state)
            .body("message/sipfrag;version=2.0", Bytes::from(format!("SIP/2.0 {status} {reason}\r\n")));
        if let Ok(request) = draft.finish() {
            let request = without_own_route(request, &self.config.fqdn);
            // Nobody waits for the answer: a NOTIFY that is refused changes nothing here.
            let _ = self.station.endpoint.send_request(now, &flow, request);
        }
    }
}
