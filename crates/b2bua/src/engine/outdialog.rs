//! Requests outside any call: OPTIONS for us, and by policy those that pass: message waiting and missed-call notifications
//! of UM to a user's pool; MESSAGE, SERVICE, OPTIONS for somebody else and missed-call notifications to a UM server. Owns which of these happens to a request; how it is
//! carried stands in `forward`. Refuses to know calls.

use std::time::Instant;

use sip::endpoint::ServerKey;
use sip::{HeaderId, Message, Method};

use super::Engine;
use super::admit::check_loop;
use super::core::Core;
use super::flows::FlowEntry;
use super::io::Notification;
use crate::codes::{self, Code};
use crate::headers::{ACCEPT, ALLOW, SUPPORTED, unsupported};
use crate::policy::{Gateway, OutOfDialog, Peer, Policy};
use crate::verdict::Refusal;

/// Body of a missed-call notification (OCS sends it by INFO, later versions by other methods).
const USER_NOTIFICATION: &[u8] = b"application/ms-rtc-usernotification+xml";

/// What becomes of a request.
enum Fate {
    Answer,
    ToPool(Notification),
    ToServer,
    Refuse(Code),
}

/// The side of UM that a request comes from.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Sender {
    /// A UM IP gateway.
    Pool,
    /// A Mailbox server.
    Um,
    /// A Call Router: it only redirects.
    Router,
}

impl Engine {
    /// A request without a To tag that is no INVITE.
    pub(super) fn on_outside_request(
        &mut self,
        now: Instant,
        key: ServerKey,
        entry: &FlowEntry,
        request: &Message,
    ) {
        let core = &mut self.core;
        let fate = match core.fate(entry, request) {
            Fate::Refuse(code) => Fate::Refuse(code),
            // RFC 3261 §8.2.2.3
            _ if !unsupported(request).is_empty() => Fate::Refuse(codes::EXTENSION_REQUIRED),
            fate => fate,
        };
        match fate {
            Fate::Answer => {
                let lines =
                    [(HeaderId::Allow, ALLOW), (HeaderId::Accept, ACCEPT), (HeaderId::Supported, SUPPORTED)];
                core.respond_plain(now, key, request, 200, &lines);
            }
            Fate::Refuse(code) => {
                if let Some(about) = notification_in(sender(&core.policy, entry), request) {
                    let refusal = Refusal::new(code, &entry.name, code.entry().title);
                    core.tell_refused(entry, about, request, &refusal);
                }
                core.refuse_outside(now, key, entry, request, code);
            }
            Fate::ToPool(about) => core.forward_to_pool(now, key, entry, about, request),
            Fate::ToServer => core.forward_to_server(now, key, entry, request),
        }
    }
}

impl Core {
    fn fate(&self, entry: &FlowEntry, request: &Message) -> Fate {
        let rules = &self.policy.routing.out_of_dialog;
        let is_options = *request.method() == Method::Options;
        // RFC 3261 §8.2.2.1
        if !request.has_known_scheme() {
            return Fate::Refuse(codes::BAD_REQUEST_URI);
        }
        // RFC 3261 §11: for the target itself Max-Forwards 0 is no obstacle.
        if is_options && (is_for(&self.policy.gateway, request) || rules.options == OutOfDialog::Answer) {
            return Fate::Answer;
        }
        if request.max_forwards() == Some(0) {
            return Fate::Refuse(codes::HOPS_USED_UP);
        }
        if check_loop(self, &entry.name, request).is_err() {
            return Fate::Refuse(codes::LOOP);
        }
        match request.method() {
            Method::Other(_) => Fate::Refuse(codes::METHOD_UNKNOWN),
            method => by_policy(&self.policy, entry, method, request),
        }
    }

    /// Refuses in the words of a code.
    pub(super) fn refuse_outside(
        &mut self,
        now: Instant,
        key: ServerKey,
        entry: &FlowEntry,
        request: &Message,
        code: Code,
    ) {
        let refusal = Refusal::new(code, &entry.name, code.entry().title);
        self.refuse_outside_with(now, key, entry, request, &refusal);
    }

    /// Refuses as said.
    pub(super) fn refuse_outside_with(
        &mut self,
        now: Instant,
        key: ServerKey,
        entry: &FlowEntry,
        request: &Message,
        refusal: &Refusal,
    ) {
        self.dropped("requests_refused_outside_calls", entry, request.start_line());
        self.refuse(now, key, request, refusal, None);
    }
}

fn by_policy(policy: &Policy, entry: &FlowEntry, method: &Method, request: &Message) -> Fate {
    let rules = &policy.routing.out_of_dialog;
    let sender = sender(policy, entry);
    let relayed = |rule: OutOfDialog| match rule {
        OutOfDialog::Relay if sender == Sender::Pool => Fate::ToServer,
        _ => Fate::Refuse(codes::METHOD_NOT_ALLOWED),
    };
    let about = notification_in(sender, request);
    let rule = match about {
        Some(Notification::MessageWaiting) => rules.notify,
        _ => rules.missed_call,
    };
    match (method, about) {
        (Method::Info | Method::Notify | Method::Message | Method::Service, Some(about)) => match sender {
            Sender::Um if rule == OutOfDialog::Relay => Fate::ToPool(about),
            _ => relayed(rule),
        },
        (Method::Message, _) => relayed(rules.message),
        (Method::Service, _) => relayed(rules.service),
        (Method::Options, _) => relayed(rules.options),
        (Method::Notify | Method::Bye | Method::Update | Method::Info | Method::Prack | Method::Refer, _) => {
            Fate::Refuse(codes::NO_DIALOG)
        }
        // SUBSCRIBE makes a dialog and PUBLISH a state that this gateway would have to keep.
        _ => Fate::Refuse(codes::METHOD_NOT_ALLOWED),
    }
}

fn sender(policy: &Policy, entry: &FlowEntry) -> Sender {
    match entry.peer {
        Some(peer @ Peer::Server(..)) if policy.mailbox_server_of(peer).is_some() => Sender::Um,
        Some(Peer::Server(..)) => Sender::Router,
        _ => Sender::Pool,
    }
}

// Message waiting is UM's business alone; from anybody else it is a NOTIFY without a subscription.
fn notification_in(sender: Sender, request: &Message) -> Option<Notification> {
    if is_user_notification(request) {
        return Some(Notification::MissedCall);
    }
    let event = request.header(HeaderId::Event).unwrap_or_default();
    let package = event.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
    let is_message_waiting = *request.method() == Method::Notify && package == b"message-summary";
    (is_message_waiting && sender == Sender::Um).then_some(Notification::MessageWaiting)
}

fn is_for(gateway: &Gateway, request: &Message) -> bool {
    let Ok(uri) = request.uri() else { return false };
    let host = uri.host_str();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse();
    let is_own = address.is_ok_and(|ip| gateway.addresses.contains(&ip) || gateway.advertised == ip);
    uri.user().is_none() && (is_own || host.eq_ignore_ascii_case(&gateway.fqdn))
}

pub(super) fn is_user_notification(request: &Message) -> bool {
    let content_type = request.content_type().unwrap_or_default();
    let essence = content_type.split(|b| *b == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(USER_NOTIFICATION)
}
