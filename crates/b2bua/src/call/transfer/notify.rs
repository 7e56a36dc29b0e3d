//! What becomes of a REFER, told by NOTIFY (RFC 3515 §2.4.4, RFC 6665). Owns the subscriptions that cross the gateway,
//! whose `id` is the CSeq of the REFER and therefore another number on each leg, and the NOTIFYs of a transfer that is
//! carried out here. Refuses to know what the target answered: it is handed a status line.
//!
//! ```text
//!  subscriber            Umbra            notifier
//!      │ REFER CSeq 7      │ REFER CSeq 3     │
//!      │ ────────────────► │ ───────────────► │
//!      │ NOTIFY refer;id=7 │ NOTIFY refer;id=3│
//!      │ ◄──────────────── │ ◄─────────────── │
//! ```
//!
//! After BYE the dialogs stay for open subscriptions, each until its NOTIFY `terminated` was answered, together at most
//! `NOTIFY_AFTER_BYE_MAX`; the call's record, media and server are given back at BYE.

use std::time::{Duration, Instant};

use bytes::Bytes;
use relay::Side;
use sip::endpoint::{ClientKey, Flow, ServerKey};
use sip::header::Params;
use sip::{Dialog, HeaderId, Message, Method};

use super::{Call, NOTIFY_AFTER_BYE_MAX, State, purpose};
use crate::codes;
use crate::engine::core::{Answer, ClientUse, Core};
use crate::headers::Block;
use crate::verdict::Refusal;

const SIPFRAG: &str = "message/sipfrag;version=2.0";

/// A REFER on its way through, and its implicit subscription.
pub(super) struct Subscription {
    /// Who referred.
    pub subscriber: Side,
    /// CSeq of the REFER on the subscriber's leg.
    pub seen: u32,
    /// CSeq of our REFER on the notifier's leg.
    pub sent: u32,
    /// The first REFER of the subscriber's dialog: its NOTIFYs need no id (RFC 3515 §2.4.6).
    pub is_first: bool,
    /// Our REFER.
    pub refer: ClientKey,
    /// The NOTIFY carried last, and whether it was the last of all.
    pub notify: Option<(ClientKey, Last)>,
}

/// Whether a NOTIFY ends its subscription.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Last {
    Yes,
    No,
}

/// Who hears about a transfer carried out here.
pub(super) struct Listener {
    /// `id` of the Event, unless it was the first REFER of its dialog.
    pub id: Option<u32>,
    /// The dialog, once the referrer has said BYE; until then leg B's.
    pub parted: Option<(Dialog, Flow, Bytes)>,
    pub wish: Wish,
}

/// Whether the referrer wants to hear.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Wish {
    Hears,
    /// `Refer-Sub: false` (RFC 4488), unsubscribed, or gone.
    Deaf,
}

/// The parameters of an `Event: refer`; `None` for other events.
pub(super) fn event_of(request: &Message) -> Option<Option<u32>> {
    let value = request.header(HeaderId::Event)?;
    let end = value.iter().position(|byte| *byte == b';').unwrap_or(value.len());
    let (name, params) = value.split_at(end);
    if !name.trim_ascii().eq_ignore_ascii_case(b"refer") {
        return None;
    }
    let id = Params::new(params).find("id").flatten();
    Some(id.and_then(|id| std::str::from_utf8(id).ok()).map(|id| id.parse().unwrap_or(u32::MAX)))
}

fn event_text(id: Option<u32>) -> String {
    id.map_or_else(|| "refer".to_owned(), |id| format!("refer;id={id}"))
}

fn is_terminated(notify: &Message) -> bool {
    let state = notify.header(HeaderId::SubscriptionState).unwrap_or_default();
    let name = state.split(|byte| *byte == b';').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(b"terminated")
}

impl Call {
    /// Lines of a subscription's request for the other leg: all that cross, and the Event as that leg knows it.
    fn event_lines(&self, cx: &mut Core, side: Side, request: &Message, id: Option<u32>) -> Bytes {
        let lines = self.request_lines(cx, request, side);
        let mut event = Block::default();
        event.header(HeaderId::Event, event_text(id));
        [&super::refer::without(&lines, &[HeaderId::Event])[..], &event.finish()].concat().into()
    }

    /// NOTIFY of the leg that was referred.
    pub(super) fn on_refer_notify(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        key: ServerKey,
        notify: &Message,
    ) {
        let id = event_of(notify).flatten();
        let is_meant =
            |known: &Subscription| known.subscriber == !side && id.is_none_or(|id| id == known.sent);
        let Some(at) = self.transfer.subscriptions.iter().position(is_meant) else {
            let refusal =
                Refusal::new(codes::NO_DIALOG, &self.leg(side).peer.name, "NOTIFY without a subscription");
            return cx.refuse(now, key, notify, &refusal, None);
        };
        let Some(known) = self.transfer.subscriptions.get(at) else { return };
        let seen = Some(known.seen).filter(|_| id.is_some() || !known.is_first);
        let lines = self.event_lines(cx, side, notify, seen);
        let Some(client) = self.carry(cx, now, side, key, notify, &lines) else { return };
        let last = if is_terminated(notify) { Last::Yes } else { Last::No };
        if let Some(known) = self.transfer.subscriptions.get_mut(at) {
            known.notify = Some((client, last));
        }
        cx.count("refer_notifies_carried");
    }

    /// SUBSCRIBE of the referrer: to go on hearing, or not to (RFC 3515 §2.4.6).
    pub(super) fn on_refer_subscribe(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        key: ServerKey,
        request: &Message,
    ) {
        let id = event_of(request).flatten();
        let is_meant = |known: &&Subscription| {
            known.subscriber == side && id.map_or(known.is_first, |id| id == known.seen)
        };
        if let Some(known) = self.transfer.subscriptions.iter().find(is_meant) {
            let sent = known.sent;
            let lines = self.event_lines(cx, side, request, Some(sent));
            self.carry(cx, now, side, key, request, &lines);
            return;
        }
        if side == Side::B && self.is_heard_under(id) {
            return self.on_subscribe_here(cx, now, key, request);
        }
        cx.respond_plain(now, key, request, 481, &[]);
    }

    fn is_heard_under(&self, id: Option<u32>) -> bool {
        let listener = self.transfer.executed.as_ref().map(|executed| &executed.listener);
        listener.is_some_and(|listener| listener.wish == Wish::Hears && listener.id == id)
    }

    fn on_subscribe_here(&mut self, cx: &mut Core, now: Instant, key: ServerKey, request: &Message) {
        let expires = request.header(HeaderId::Expires).unwrap_or(b"60");
        let is_end = expires.trim_ascii() == b"0";
        let expires = if is_end { "0" } else { "60" };
        let contact = self.contact_text(Side::B);
        let lines = [(HeaderId::Contact, contact.as_str()), (HeaderId::Expires, expires)];
        cx.respond(now, key, request, &Answer { lines: &lines, ..Answer::of(200) });
        let state = if is_end { "terminated;reason=timeout" } else { "active;expires=60" };
        self.tell_referrer(cx, now, "SIP/2.0 100 Trying", state);
    }

    /// An answer to a request that was carried over: the subscription may begin not, or end.
    pub(in crate::call) fn after_carried(
        &mut self,
        cx: &mut Core,
        client: ClientKey,
        answer: Option<&Message>,
    ) {
        let status = answer.and_then(Message::status).map_or(408, |status| status.code());
        let is_taken = (200..300).contains(&status);
        // RFC 4488 §4: no subscription comes about.
        let is_silent = answer.and_then(|a| a.header(HeaderId::ReferSub)).is_some_and(says_false);
        self.transfer.subscriptions.retain(|known| {
            let refused = known.refer == client && (!is_taken || is_silent);
            let ended = known.notify.is_some_and(|(notify, last)| {
                notify == client && (last == Last::Yes || matches!(status, 408 | 481))
            });
            !refused && !ended
        });
        self.settle_ending(cx);
    }

    /// Whether the dialogs are still needed after BYE.
    pub(in crate::call) fn awaits_notify(&self) -> bool {
        !self.transfer.subscriptions.is_empty()
    }

    /// How long an ending call waits for answers to BYE, and for NOTIFYs.
    pub(in crate::call) fn ending_max(&self, byes: Duration) -> Duration {
        if self.awaits_notify() { NOTIFY_AFTER_BYE_MAX } else { byes }
    }

    /// Whether a carried request outlives the call: a NOTIFY does, a REFER without an answer does not.
    pub(in crate::call) fn outlives_bye(&self, client: ClientKey) -> bool {
        self.transfer.subscriptions.iter().any(|known| known.notify.is_some_and(|(own, _)| own == client))
    }

    /// Nobody will answer or ask any more.
    pub(in crate::call) fn give_up_notifies(&mut self, cx: &mut Core, now: Instant) {
        if self.awaits_notify() {
            cx.count("refer_subscriptions_given_up");
        }
        self.transfer.subscriptions.clear();
        for pending in std::mem::take(&mut self.relayed) {
            cx.clients.remove(&pending.client);
            cx.respond_plain(now, pending.server, &pending.request, 481, &[]);
        }
    }

    /// NOTIFY about the transfer that is carried out here.
    pub(super) fn tell_referrer(&mut self, cx: &mut Core, now: Instant, status_line: &str, state: &str) {
        let purpose = purpose(self);
        let Some(executed) = &mut self.transfer.executed else { return };
        let listener = &mut executed.listener;
        if listener.wish == Wish::Deaf {
            return;
        }
        if state.starts_with("terminated") {
            listener.wish = Wish::Deaf;
        }
        let told = (status_line, state, event_text(listener.id));
        match (&mut listener.parted, &mut self.b.dialog, self.b.flow) {
            (Some((dialog, flow, contact)), ..) => send(cx, now, (dialog, flow, contact), told, purpose),
            (None, Some(dialog), Some(flow)) => {
                send(cx, now, (dialog, &flow, &self.b.contact), told, purpose)
            }
            _ => cx.count("requests_not_sent"),
        }
    }

    /// The referrer answered a NOTIFY of ours: 481 ends the subscription (RFC 6665 §4.2.2).
    pub(super) fn on_notified(&mut self, response: &Message) {
        if let Some(executed) = &mut self.transfer.executed
            && response.status().is_some_and(|status| status.code() == 481)
        {
            executed.listener.wish = Wish::Deaf;
        }
    }
}

fn send(
    cx: &mut Core,
    now: Instant,
    (dialog, flow, contact): (&mut Dialog, &Flow, &Bytes),
    (status_line, state, event): (&str, &str, String),
    purpose: ClientUse,
) {
    let draft = dialog
        .request(Method::Notify)
        .header(HeaderId::Event, event)
        .header(HeaderId::SubscriptionState, state)
        .header(HeaderId::Contact, contact)
        .body(SIPFRAG, Bytes::from(format!("{status_line}\r\n")));
    if let Ok(request) = draft.finish() {
        cx.send(now, flow, request, purpose);
    }
}

/// `false` of a Refer-Sub.
pub(super) fn says_false(value: &[u8]) -> bool {
    let word = value.split(|byte| *byte == b';').next().unwrap_or_default();
    word.trim_ascii().eq_ignore_ascii_case(b"false")
}

/// A call that is ending carries NOTIFYs, and nothing new.
pub(super) fn is_ending(state: &State) -> bool {
    matches!(state, State::Ending { .. } | State::Ended)
}
