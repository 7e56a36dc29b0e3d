//! Requests outside calls on their way through: to the pool of a user, or to a UM server of the dial plan that an INVITE
//! with the same Request-URI would reach. Owns the bounded table of those whose answer is awaited, and the walk over servers
//! and redirects; refuses to decide whether a request may pass.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use relay::Side;
use sip::endpoint::{ClientFailure, Flow, OutgoingRequest, ServerKey};
use sip::{HeaderId, Message, Method, Transport};

use super::admit::{MAX_FORWARDS, first_decision};
use super::core::{Answer, ClientUse, Core};
use super::flows::FlowEntry;
use super::io::Event;
use super::reach::{Unreached, Waiter};
use crate::codes;
use crate::headers::{self, Block, HOP_HEADER, HeaderPolicy, WithBody};
use crate::place::Place;
use crate::policy::{Allowed, DialPlan, Dialect, Mailbox, Peer, Policy, Profile, Server};
use crate::redirect::{self, Hop, Rules};
use crate::route::{HostedRoute, RouteQuestion, route};
use crate::security::Signalling;
use crate::verdict::Refusal;

/// Requests whose answer is awaited, all peers together.
const FORWARDS_MAX: usize = 1_000;

/// A request on its way through.
pub(crate) struct Forward {
    request: Message,
    uri: Bytes,
    /// The servers of its dial plan; `None` on the way to a pool.
    walk: Option<Box<Walk>>,
}

/// Which servers a request has been to.
struct Walk {
    policy: Arc<Policy>,
    dial_plan: usize,
    hosted: Option<HostedRoute>,
    transport: Transport,
    /// How the asking pool is spoken to.
    dialect: Dialect,
    tried: Vec<String>,
    visited: Vec<Hop>,
    redirects: usize,
}

impl Walk {
    fn plan(&self) -> Option<&DialPlan> {
        self.policy.dial_plans.get(self.dial_plan)
    }

    fn routers(&self) -> Vec<&Server> {
        if self.hosted.is_some() {
            return Vec::new();
        }
        let indexes = self.plan().map_or(&[][..], |plan| &plan.call_routers);
        indexes.iter().filter_map(|index| self.policy.call_routers.get(*index)).collect()
    }

    fn mailbox_servers(&self) -> Vec<&Server> {
        if let Some(hosted) = &self.hosted {
            return self.policy.um.hosted.servers.get(hosted.server).into_iter().collect();
        }
        let indexes = self.plan().map_or(&[][..], |plan| &plan.mailbox_servers);
        indexes.iter().filter_map(|index| self.policy.mailbox_servers.get(*index)).collect()
    }
}

impl Core {
    /// Message waiting from a Mailbox server goes to the user's pool.
    pub(super) fn forward_to_pool(
        &mut self,
        now: Instant,
        key: ServerKey,
        entry: &FlowEntry,
        request: &Message,
    ) {
        let policy = self.policy.clone();
        let Some(index) = gateway_for(&policy, request) else {
            return self.refuse_outside(now, key, entry, request, codes::MWI_NOT_ALLOWED);
        };
        let place = Place::of_gateway(&policy, index).filter(|_| self.forwards.len() < FORWARDS_MAX);
        let Some(place) = place else {
            self.count("forwards_refused");
            return self.respond_plain(now, key, request, 503, &[]);
        };
        let uri = request.to().map(|to| to.uri.raw().clone()).unwrap_or_else(|_| request.request_uri());
        self.forwards.insert(key, Forward { request: request.clone(), uri, walk: None });
        self.count("mwi_forwarded");
        self.reach_for(now, key, Peer::IpGateway(index), &place);
    }

    /// A pool's request goes where its INVITE would go.
    pub(super) fn forward_to_server(
        &mut self,
        now: Instant,
        key: ServerKey,
        entry: &FlowEntry,
        request: &Message,
    ) {
        let Some(Peer::IpGateway(gateway)) = entry.peer else { return };
        let walk = match self.walk_of(gateway, entry, request) {
            Ok(walk) => walk,
            Err(refusal) => return self.refuse_outside_with(now, key, entry, request, &refusal),
        };
        if self.forwards.len() >= FORWARDS_MAX {
            self.count("forwards_refused");
            return self.respond_plain(now, key, request, 503, &[]);
        }
        // UM reads the user part and its parameters: byte for byte, as in an INVITE.
        let uri = walk.hosted.as_ref().map_or_else(|| request.request_uri(), |to| to.request_uri.clone());
        let forward = Forward { request: request.clone(), uri, walk: Some(Box::new(walk)) };
        self.forwards.insert(key, forward);
        self.count("requests_forwarded_outside_calls");
        self.try_next_server(now, key);
    }

    fn walk_of(&self, gateway: usize, entry: &FlowEntry, request: &Message) -> Result<Walk, Refusal> {
        let policy = self.policy.clone();
        let found = route(&policy, &RouteQuestion::of(gateway, request)?).result?;
        let decision = first_decision(self, &found, entry, None)?;
        let transport = match decision.b_transport() {
            Signalling::MutualTls => Transport::Tls,
            Signalling::Plain => Transport::Tcp,
        };
        Ok(Walk {
            dial_plan: found.dial_plan,
            hosted: found.hosted,
            policy,
            transport,
            dialect: entry.dialect,
            tried: Vec::new(),
            visited: Vec::new(),
            redirects: 0,
        })
    }

    fn try_next_server(&mut self, now: Instant, key: ServerKey) {
        let Some(forward) = self.forwards.get_mut(&key) else { return };
        let Some(walk) = &mut forward.walk else { return };
        let routing = &walk.policy.routing;
        let routers = walk.routers();
        let candidates = if routers.is_empty() { walk.mailbox_servers() } else { routers };
        let name = walk.plan().map_or("", |plan| plan.name.as_str());
        let may_try = walk.tried.len() < routing.redirect_targets_max;
        let server = may_try
            .then(|| self.servers.choose(now, name, &candidates, &walk.tried, routing.selection))
            .flatten();
        let Some(server) = server else {
            return self.fail_forward(now, key, 503);
        };
        let hop = Hop {
            uri: forward.uri.clone(),
            server: server.name.clone(),
            addresses: server.addresses.clone(),
            port: if walk.transport.is_secure() { server.tls_port } else { server.tcp_port },
            port_source: server.port_source,
            transport: walk.transport,
        };
        walk.tried.push(hop.server.clone());
        walk.visited.clear();
        self.go_to(now, key, hop);
    }

    fn go_to(&mut self, now: Instant, key: ServerKey, hop: Hop) {
        let Some(peer) = self.policy.server_by_name(&hop.server) else {
            return self.fail_forward(now, key, 503);
        };
        let place = Place {
            name: hop.server.to_ascii_lowercase(),
            addresses: hop.addresses.clone(),
            port: hop.port,
            port_source: hop.port_source,
            transport: hop.transport,
        };
        if let Some(forward) = self.forwards.get_mut(&key) {
            forward.uri = hop.uri.clone();
            if let Some(walk) = &mut forward.walk {
                walk.visited.push(hop);
            }
        }
        self.reach_for(now, key, peer, &place);
    }

    fn reach_for(&mut self, now: Instant, key: ServerKey, peer: Peer, place: &Place) {
        if let Some(entry) = self.reach(now, peer, place, Waiter::Forward(key)) {
            self.on_forward_reached(now, key, &entry);
        }
    }

    /// There is a flow: the request goes out in a transaction of our own.
    pub(super) fn on_forward_reached(&mut self, now: Instant, key: ServerKey, to: &FlowEntry) {
        let Some(forward) = self.forwards.get(&key) else { return };
        let (request, uri) = (forward.request.clone(), forward.uri.clone());
        let from_pool = forward.walk.as_ref().map(|walk| walk.dialect);
        let out = self.forwarded_request(&request, uri, from_pool, to);
        if self.send(now, &to.flow, out, ClientUse::Forwarded(key)).is_none() {
            self.fail_forward(now, key, 503);
        }
    }

    /// There is none: the next server, if there is a choice.
    pub(super) fn on_forward_unreached(&mut self, now: Instant, key: ServerKey, why: &Unreached) {
        let Some(forward) = self.forwards.get(&key) else { return };
        let last = forward.walk.as_ref().and_then(|walk| walk.visited.last());
        let server = last.map(|hop| hop.server.clone());
        self.count("forwards_unreached");
        let Some(server) = server else { return self.fail_forward(now, key, 503) };
        if self.servers.failed(now, &server) {
            self.event(Event::ServerDown { server, why: why.what.clone() });
        }
        self.try_next_server(now, key);
    }

    fn forwarded_request(
        &mut self,
        request: &Message,
        uri: Bytes,
        from_pool: Option<Dialect>,
        to: &FlowEntry,
    ) -> OutgoingRequest {
        let value = |id| headers::harmless(request.value_bytes(id).unwrap_or_default());
        let method = request.method().clone();
        let from = headers::with_tag(&headers::without_tag(&value(HeaderId::From)), &self.endpoint.new_tag());
        let prefix = self.call_id_prefix.clone();
        let hops = request.max_forwards().unwrap_or(MAX_FORWARDS).saturating_sub(1);
        let cseq = [b"1 ", method.as_bytes()].concat();
        let mut block = Block::default();
        block
            .header(HeaderId::MaxForwards, hops.to_string())
            .header(HeaderId::From, from)
            .header(HeaderId::To, headers::without_tag(&value(HeaderId::To)))
            .header(HeaderId::CallId, self.endpoint.new_call_id(prefix.as_bytes()))
            .header(HeaderId::CSeq, cseq)
            .line(HOP_HEADER.as_bytes(), self.hop_token.as_bytes());
        // RFC 3428 §4: a MESSAGE has no Contact.
        if method != Method::Message {
            block.header(HeaderId::Contact, self.contact(to.transport, to.flow.via_port));
        }
        let policy = self.policy.clone();
        let carried = match from_pool {
            Some(pool) => {
                headers::relayed_request_lines(request, &between(&policy, pool, to.dialect), Side::A)
            }
            None => {
                let um = Dialect::of(Profile::Exum2016);
                headers::relayed_request_lines(request, &between(&policy, to.dialect, um), Side::B)
            }
        };
        let lines = self.carried(carried);
        OutgoingRequest {
            method,
            uri,
            headers: Bytes::from([&block.finish()[..], &lines[..]].concat()),
            content_type: request.header(HeaderId::ContentType).map(|_| headers::body_type(request)),
            body: request.body(),
        }
    }

    /// The answer goes back; a redirect inside the dial plan is followed first.
    pub(super) fn answer_forwarded(&mut self, now: Instant, key: ServerKey, from: &Flow, response: &Message) {
        if let Some(hop) = self.redirected(key, response) {
            return self.go_to(now, key, hop);
        }
        let Some(forward) = self.forwards.remove(&key) else { return };
        if let Some(server) = forward.walk.as_ref().and_then(|walk| walk.visited.last())
            && self.servers.answered(&server.server)
        {
            self.event(Event::ServerUp { server: server.server.clone() });
        }
        let status = response.status().map_or(500, |s| if s.is_redirect() { 503 } else { s.code() });
        let with_body = if response.body().is_empty() { WithBody::No } else { WithBody::Yes };
        let policy = self.policy.clone();
        let answering = self.flows.get(from.key).map_or(policy.dialect_of(None), |entry| entry.dialect);
        let carried = match &forward.walk {
            Some(walk) => {
                let headers = between(&policy, walk.dialect, answering);
                headers::relayed_response_lines(response, &headers, Side::B, with_body)
            }
            None => {
                let headers = between(&policy, answering, Dialect::of(Profile::Exum2016));
                headers::relayed_response_lines(response, &headers, Side::A, with_body)
            }
        };
        let block = self.carried(carried);
        let content_type = headers::body_type(response);
        let body =
            Some(response.body()).filter(|body| !body.is_empty()).map(|body| (&content_type[..], body));
        self.respond(now, key, &forward.request, &Answer { block: &block, body, ..Answer::of(status) });
    }

    // The first contact that may be followed, under the rules for INVITEs.
    fn redirected(&mut self, key: ServerKey, response: &Message) -> Option<Hop> {
        response.status().filter(|status| status.is_redirect())?;
        let walk = self.forwards.get_mut(&key)?.walk.as_mut()?;
        if walk.redirects >= walk.policy.routing.redirect_hops_max {
            return None;
        }
        let servers: Vec<&Server> = walk.routers().into_iter().chain(walk.mailbox_servers()).collect();
        let rules = Rules { servers: &servers, transport: walk.transport, visited: &walk.visited };
        let (good, _) = redirect::hops(response, &rules);
        let hop = good.into_iter().next()?;
        walk.redirects += 1;
        Some(hop)
    }

    /// Nobody answered.
    pub(super) fn fail_forwarded(&mut self, now: Instant, key: ServerKey, why: &ClientFailure) {
        let status = if matches!(why, ClientFailure::Timeout) { 504 } else { 503 };
        self.fail_forward(now, key, status);
    }

    fn fail_forward(&mut self, now: Instant, key: ServerKey, status: u16) {
        if let Some(forward) = self.forwards.remove(&key) {
            self.respond_plain(now, key, &forward.request, status, &[]);
        }
    }
}

/// Headers between a pool and a UM server.
fn between(policy: &Policy, pool: Dialect, um: Dialect) -> HeaderPolicy<'_> {
    HeaderPolicy::for_peers(&policy.headers, pool, um)
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
