//! Requests outside any call: OPTIONS for us, message-waiting NOTIFY on its way to a pool, and the
//! refusal of everything else. Owns those answers; refuses to know calls.

use std::time::Instant;

use bytes::Bytes;
use relay::Side;
use sip::endpoint::{Flow, OutgoingRequest, ServerKey};
use sip::{HeaderId, Message, Method, Transport};

use super::Engine;
use super::core::{Answer, ClientUse, Core};
use super::flows::FlowEntry;
use super::io::{Output, Target};
use crate::codes::{self, Code};
use crate::headers::{self, ACCEPT, ALLOW, Block, HeaderPolicy, SUPPORTED, WithBody};
use crate::policy::{Allowed, Dialect, IpGateway, Mailbox, Peer, PeerAddress, Policy, Profile, ServerRole};
use crate::verdict::Refusal;

/// Forwarded requests under way at once.
const FORWARDS_MAX: usize = 1_000;

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
        if *request.method() == Method::Options {
            // RFC 3261 §11: for the target itself Max-Forwards 0 is no obstacle.
            let lines =
                [(HeaderId::Allow, ALLOW), (HeaderId::Accept, ACCEPT), (HeaderId::Supported, SUPPORTED)];
            return core.respond_plain(now, key, request, 200, &lines);
        }
        if request.max_forwards() == Some(0) {
            return core.refuse_outside(now, key, entry, request, codes::HOPS_USED_UP);
        }
        match request.method() {
            Method::Notify => core.on_notify(now, key, entry, request),
            Method::Bye | Method::Update | Method::Info | Method::Prack | Method::Refer => {
                core.refuse_outside(now, key, entry, request, codes::NO_DIALOG);
            }
            Method::Other(_) => core.refuse_outside(now, key, entry, request, codes::METHOD_UNKNOWN),
            _ => core.refuse_outside(now, key, entry, request, codes::METHOD_NOT_ALLOWED),
        }
    }
}

impl Core {
    fn refuse_outside(
        &mut self,
        now: Instant,
        key: ServerKey,
        entry: &FlowEntry,
        request: &Message,
        code: Code,
    ) {
        self.dropped("requests_refused_outside_calls", entry, request.start_line());
        let refusal = Refusal::new(code, &entry.name, code.entry().title);
        let (status, reason, block) = self.refusal_parts(&refusal);
        let lines: &[(HeaderId, &str)] = if status == 405 { &[(HeaderId::Allow, ALLOW)] } else { &[] };
        let answer = Answer { reason: Some(reason.as_bytes()), lines, block: &block, ..Answer::of(status) };
        self.respond(now, key, request, &answer);
    }

    /// Message waiting from a Mailbox server goes to the user's pool.
    fn on_notify(&mut self, now: Instant, key: ServerKey, entry: &FlowEntry, request: &Message) {
        let event = request.header(HeaderId::Event).unwrap_or_default();
        let is_mwi =
            event.split(|b| *b == b';').next().unwrap_or_default().trim_ascii() == b"message-summary";
        if !is_mwi || !matches!(entry.peer, Some(Peer::Server(ServerRole::Mailbox, _))) {
            return self.refuse_outside(now, key, entry, request, codes::NO_DIALOG);
        }
        let policy = self.policy.clone();
        let Some(index) = gateway_for(&policy, request) else {
            return self.refuse_outside(now, key, entry, request, codes::MWI_NOT_ALLOWED);
        };
        if let Some(flow) = self.flows.to_peer(Peer::IpGateway(index)).cloned() {
            return self.forward_notify(now, key, request, &flow);
        }
        match policy.ip_gateways.get(index).and_then(|gateway| target_of(&policy, gateway)) {
            Some(target) if self.forwards.len() < FORWARDS_MAX => {
                let connect = self.connect_key();
                self.forwards.insert(connect, (key, target.name.clone(), request.clone()));
                self.outputs.push_back(Output::Connect { connect, target });
            }
            _ => self.respond_plain(now, key, request, 503, &[]),
        }
    }

    /// Sends a NOTIFY on in a transaction of our own.
    pub(super) fn forward_notify(&mut self, now: Instant, key: ServerKey, request: &Message, to: &FlowEntry) {
        let out = self.forwarded_notify(request, to);
        if self.send(now, &to.flow, out, ClientUse::Forwarded(key)).is_some() {
            self.count("mwi_forwarded");
            self.forwarded.insert(key, request.clone());
        } else {
            self.respond_plain(now, key, request, 503, &[]);
        }
    }

    fn forwarded_notify(&mut self, request: &Message, to: &FlowEntry) -> OutgoingRequest {
        let value = |id| headers::harmless(request.value_bytes(id).unwrap_or_default());
        let from = headers::with_tag(&headers::without_tag(&value(HeaderId::From)), &self.endpoint.new_tag());
        let prefix = self.call_id_prefix.clone();
        let hops = request.max_forwards().unwrap_or(70).saturating_sub(1);
        let mut block = Block::default();
        block
            .header(HeaderId::MaxForwards, hops.to_string())
            .header(HeaderId::From, from)
            .header(HeaderId::To, headers::without_tag(&value(HeaderId::To)))
            .header(HeaderId::CallId, self.endpoint.new_call_id(prefix.as_bytes()))
            .header(HeaderId::CSeq, "1 NOTIFY")
            .header(HeaderId::Contact, self.contact(to.transport, to.flow.via_port));
        let policy = self.policy.clone();
        let lines = headers::relayed_request_lines(request, &outside(&policy, to.dialect), Side::B);
        let lines = self.carried(lines);
        let uri = request.to().map(|to| to.uri.raw().clone()).unwrap_or_else(|_| request.request_uri());
        OutgoingRequest {
            method: Method::Notify,
            uri,
            headers: Bytes::from([&block.finish()[..], &lines[..]].concat()),
            content_type: request.value_bytes(HeaderId::ContentType),
            body: request.body(),
        }
    }

    /// The pool's answer goes back to the Mailbox server.
    pub(super) fn answer_forwarded(&mut self, now: Instant, key: ServerKey, pool: &Flow, response: &Message) {
        let Some(request) = self.forwarded.remove(&key) else { return };
        let status = response.status().map_or(500, |s| if s.is_redirect() { 503 } else { s.code() });
        let policy = self.policy.clone();
        let pool = self.flows.get(pool.key).map_or(policy.dialect_of(None), |entry| entry.dialect);
        let lines = headers::relayed_response_lines(response, &outside(&policy, pool), Side::A, WithBody::No);
        let block = self.carried(lines);
        self.respond(now, key, &request, &Answer { block: &block, ..Answer::of(status) });
    }

    /// The pool never answered.
    pub(super) fn fail_forwarded(&mut self, now: Instant, key: ServerKey) {
        if let Some(request) = self.forwarded.remove(&key) {
            self.respond_plain(now, key, &request, 504, &[]);
        }
    }
}

/// Headers between a pool and whichever UM server speaks.
fn outside(policy: &Policy, pool: Dialect) -> HeaderPolicy<'_> {
    HeaderPolicy::for_peers(&policy.headers, pool, Dialect::of(Profile::Exum2016))
}

/// The UM IP gateway that serves the user of a NOTIFY and lets message waiting through.
fn gateway_for(policy: &Policy, request: &Message) -> Option<usize> {
    let to = request.to().ok()?;
    let user = String::from_utf8_lossy(to.uri.user_part().unwrap_or_default()).into_owned();
    let address = format!("{user}@{}", to.uri.host_str());
    let is_user = |m: &&Mailbox| {
        m.sip.as_deref().is_some_and(|s| s.eq_ignore_ascii_case(&address))
            || m.extension.as_deref() == Some(&user)
    };
    let allows = |index: &usize| {
        let gateway = policy.ip_gateways.get(*index);
        gateway.is_some_and(|g| g.message_waiting_indicator_allowed == Allowed::Yes)
    };
    match policy.mailboxes.iter().find(is_user) {
        Some(mailbox) => {
            let groups = policy.hunt_groups.iter().filter(|g| g.dial_plan == mailbox.dial_plan);
            groups.map(|g| g.ip_gateway).find(allows)
        }
        // Nothing is known about the user: the first pool that takes it.
        None => (0..policy.ip_gateways.len()).find(|i| allows(i) && policy.pool_of(*i).is_some()),
    }
}

fn target_of(policy: &Policy, gateway: &IpGateway) -> Option<Target> {
    let pool = gateway.pool.and_then(|index| policy.pools.get(index));
    let address = match &gateway.address {
        PeerAddress::Ip(address) => Some(*address),
        PeerAddress::Fqdn(_) => gateway.addresses.first().or(pool.and_then(|p| p.address.first())).copied(),
    };
    let transport = if pool.is_some() { Transport::Tls } else { Transport::Tcp };
    Some(Target { name: gateway.address.to_string(), address: address?, port: gateway.port, transport })
}
