//! Handing a caller on: REFER (RFC 3515), its NOTIFYs, and what came of it. Blind: UM leaves when the target has the caller, and stays when
//! it has not.

use std::time::{Duration, Instant};

use sip::{ClientKey, Event, HeaderId, Message, Method};

use super::call::{Call, Phase};
use super::talk::Cue;
use super::worker::Worker;
use super::{EndReason, LabFact, Milestone, UmReport};
use crate::media::MediaKey;

/// A transfer of which nothing is heard for so long has failed.
pub(super) const TRANSFER_MAX: Duration = Duration::from_secs(60);
const SIPFRAG: &[u8] = b"SIP/2.0 ";

/// A REFER under way.
pub(super) struct Transfer {
    pub(super) client: ClientKey,
    to: String,
    pub(super) until: Instant,
}

/// What a NOTIFY says of a transfer.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
enum News {
    /// It goes on.
    Pending,
    /// It came to this status; 0 = the subscription ended and nothing was said.
    Ended(u16),
}

impl Worker {
    /// Sends REFER on a call that stands.
    pub(super) fn refer(&mut self, now: Instant, key: MediaKey, to: String) {
        let Some(call) = self.calls.get_mut(&key) else { return };
        let Some(dialog) = call.dialog.as_mut() else { return };
        let contact = super::worker::contact(&self.config.name, &call.flow);
        let referred_by = format!("<sip:{}>", self.config.name);
        let request = dialog
            .request(Method::Refer)
            .header(HeaderId::Contact, &contact)
            .header(HeaderId::ReferTo, format!("<{to}>"))
            .header(HeaderId::ReferredBy, referred_by)
            .finish();
        let flow = call.flow;
        let sent =
            request.ok().and_then(|request| self.station.endpoint.send_request(now, &flow, request).ok());
        let Some(client) = sent else { return self.on_transfer_ended(now, key, to, 0) };
        if let Some(call) = self.calls.get_mut(&key) {
            call.transfer = Some(Transfer { client, to: to.clone(), until: now + TRANSFER_MAX });
        }
        self.tell(key, Milestone::Transferring { to });
    }

    /// A response to REFER; 2xx says only that it is being tried.
    pub(super) fn on_refer_answered(&mut self, now: Instant, key: MediaKey, status: u16) {
        if !(200..300).contains(&status)
            && let Some(transfer) = self.calls.get_mut(&key).and_then(|call| call.transfer.take())
        {
            self.on_transfer_ended(now, key, transfer.to, status);
        }
    }

    /// A NOTIFY inside the call, already answered.
    pub(super) fn on_notify(&mut self, now: Instant, key: MediaKey, message: &Message) {
        let is_refer = message.header(HeaderId::Event).is_some_and(is_refer);
        let News::Ended(status) = news(message) else { return };
        if is_refer && let Some(transfer) = self.calls.get_mut(&key).and_then(|call| call.transfer.take()) {
            self.on_transfer_ended(now, key, transfer.to, status);
        }
    }

    /// Nothing was heard for too long.
    pub(super) fn on_transfer_due(&mut self, now: Instant, key: MediaKey) {
        let due = |call: &mut Call| call.transfer.take_if(|transfer| transfer.until <= now);
        if let Some(transfer) = self.calls.get_mut(&key).and_then(due) {
            self.on_transfer_ended(now, key, transfer.to, 0);
        }
    }

    fn on_transfer_ended(&mut self, now: Instant, key: MediaKey, to: String, status: u16) {
        self.tell(key, Milestone::TransferEnded { to, status });
        if (200..300).contains(&status) {
            return self.hang_up(now, key, EndReason::Transferred);
        }
        self.cue(now, key, Cue::TransferFailed);
    }

    /// Tells what was done in a call.
    pub(super) fn tell(&mut self, key: MediaKey, milestone: Milestone) {
        let Some(call) = self.calls.get(&key) else { return };
        let call_id = crate::machine::text(call.invite.call_id());
        let server = self.config.name.clone();
        self.station.report(UmReport::Fact(LabFact::Did { server, call_id, milestone }));
    }

    /// The call whose REFER or BYE this answers; responses to a BYE end it.
    pub(super) fn on_settled(&mut self, now: Instant, event: &Event) {
        let (client, status) = match event {
            Event::Response { key, message, .. } => (*key, message.status().map_or(0, |s| s.code())),
            Event::ClientFailed { key, .. } => (*key, 0),
            _ => return,
        };
        if (100..200).contains(&status) {
            return;
        }
        let is_byes = |call: &Call| matches!(call.phase, Phase::HangingUp(bye) if bye == client);
        let is_refers = |call: &Call| call.transfer.as_ref().is_some_and(|t| t.client == client);
        let found = self.calls.iter().find(|(_, call)| is_byes(call) || is_refers(call));
        let Some((key, is_bye)) = found.map(|(key, call)| (*key, is_byes(call))) else { return };
        if is_bye { self.stop(key) } else { self.on_refer_answered(now, key, status) }
    }
}

fn is_refer(value: &[u8]) -> bool {
    let package = value.split(|b| *b == b';').next().unwrap_or_default();
    package.trim_ascii().eq_ignore_ascii_case(b"refer")
}

/// The status line of the body (RFC 3515 §2.4.5), and whether that is the last word (§2.4.7).
fn news(message: &Message) -> News {
    let body = message.body();
    let digits = body.strip_prefix(SIPFRAG).and_then(|rest| rest.get(..3)).unwrap_or_default();
    let status = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<u16>().ok()).unwrap_or(0);
    let state = message.header(HeaderId::SubscriptionState).unwrap_or_default();
    let is_over = state.to_ascii_lowercase().starts_with(b"terminated");
    match status {
        200.. => News::Ended(status),
        _ if is_over => News::Ended(0),
        _ => News::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use sip::Limits;

    fn notify(state: &str, body: &str) -> News {
        let text = format!(
            "NOTIFY sip:um SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: <sip:a>;tag=1\r\nTo: <sip:um>;tag=2\r\n\
             Call-ID: c\r\nCSeq: 1 NOTIFY\r\nEvent: refer\r\nSubscription-State: {state}\r\n\
             Content-Type: message/sipfrag\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        news(&Message::parse(Bytes::from(text), &Limits::default()).unwrap())
    }

    #[test]
    fn the_first_final_status_is_the_last_word_and_an_end_without_one_is_a_failure() {
        assert_eq!(notify("active;expires=60", "SIP/2.0 100 Trying"), News::Pending);
        assert_eq!(notify("active;expires=60", "SIP/2.0 180 Ringing\r\n"), News::Pending);
        assert_eq!(notify("terminated;reason=noresource", "SIP/2.0 200 OK"), News::Ended(200));
        assert_eq!(notify("terminated;reason=noresource", "SIP/2.0 486 Busy Here"), News::Ended(486));
        assert_eq!(notify("Terminated", "SIP/2.0 100 Trying"), News::Ended(0));
        assert_eq!(notify("active", "nonsense"), News::Pending);
        assert_eq!(notify("active", "SIP/2.0 2"), News::Pending);
    }

    #[test]
    fn the_event_package_may_have_parameters_and_any_case() {
        assert!(is_refer(b"refer") && is_refer(b"Refer;id=93809824") && is_refer(b" refer ;x"));
        assert!(!is_refer(b"referx") && !is_refer(b"message-summary"));
    }
}
