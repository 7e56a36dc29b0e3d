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
use super::io::{Delivery, Event, Notification, Notified};
use super::reach::{Unreached, Waiter};
use crate::codes;
use crate::headers::{self, Block, HOP_HEADER, HeaderPolicy, WithBody};
use crate::place::Place;
use crate::policy::{
    Allowed, DialPlan, Dialect, GatewayStatus, MailboxPolicy, Peer, Policy, Profile, Server,
};
use crate::redirect::{self, Hop, Rules};
use crate::route::{HostedRoute, Party, RouteQuestion, mailbox_of, route};
use crate::security::{Signalling, plan_signalling};
use crate::verdict::{Refusal, clean};

/// Requests whose answer is awaited, all peers together.
const FORWARDS_MAX: usize = 1_000;

/// A request on its way through.
pub(crate) struct Forward {
    request: Message,
    uri: Bytes,
    /// The servers of its dial plan; `None` on the way to a pool.
    walk: Option<Box<Walk>>,
    /// Who sent it, and to whom it goes, by configured name.
    from: String,
    to: String,
    /// What it notifies of, if it does.
    about: Option<Notification>,
    /// Where else to try when the connection breaks under it: a pool that is about to close one has not heard it.
    again: Option<(Peer, Place)>,
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
    /// A notification of a Mailbox server goes to the user's pool.
    pub(super) fn forward_to_pool(
        &mut self,
        now: Instant,
        key: ServerKey,
        entry: &FlowEntry,
        about: Notification,
        request: &Message,
    ) {
        let policy = self.policy.clone();
        let way = match way_to_user(&policy, entry, about, request) {
            Ok(way) => way,
            Err(refusal) => {
                self.tell_refused(entry, about, request, &refusal);
                return self.refuse_outside_with(now, key, entry, request, &refusal);
            }
        };
        let place = Place::of_gateway(&policy, way.ip_gateway).filter(|_| self.forwards.len() < FORWARDS_MAX);
        let Some(mut place) = place else {
            self.count("forwards_refused");
            let what = "too many requests wait for their answers";
            let refusal = Refusal::new(codes::TRANSACTIONS_MAX, &entry.name, what);
            self.tell_refused(entry, about, request, &refusal);
            return self.respond_plain(now, key, request, 503, &[]);
        };
        if way.signalling == Signalling::MutualTls {
            place.transport = Transport::Tls;
        }
        let peer = Peer::IpGateway(way.ip_gateway);
        let uri = request.to().map(|to| to.uri.raw().clone()).unwrap_or_else(|_| request.request_uri());
        let (from, to) = (entry.name.clone(), policy.peer_name(peer).to_owned());
        let again = Some((peer, place.clone()));
        let forward =
            Forward { request: request.clone(), uri, walk: None, from, to, about: Some(about), again };
        self.forwards.insert(key, forward);
        if about == Notification::MessageWaiting {
            self.count("mwi_forwarded");
        }
        self.reach_for(now, key, peer, &place);
    }

    /// A notification went no further than this.
    pub(super) fn tell_refused(
        &mut self,
        entry: &FlowEntry,
        about: Notification,
        request: &Message,
        refusal: &Refusal,
    ) {
        self.event(Event::Notified(Box::new(Notified {
            notification: about,
            delivery: Delivery::Refused,
            from: entry.name.clone(),
            to: String::new(),
            user: user_of(request),
            code: Some(refusal.code()),
            what: refusal.verdict.what.clone(),
        })));
    }

    fn tell_notified(&mut self, forward: &Forward, delivery: Delivery, what: String) {
        let Some(about) = forward.about else { return };
        let last = forward.walk.as_ref().and_then(|walk| walk.visited.last());
        self.event(Event::Notified(Box::new(Notified {
            notification: about,
            delivery,
            from: forward.from.clone(),
            to: last.map_or_else(|| forward.to.clone(), |hop| hop.server.clone()),
            user: user_of(&forward.request),
            code: (delivery == Delivery::Failed).then_some(match forward.walk {
                Some(_) => codes::NO_SERVER_LEFT,
                None => codes::GATEWAY_NOT_REACHED,
            }),
            what,
        })));
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
        let forward = Forward {
            request: request.clone(),
            uri,
            walk: Some(Box::new(walk)),
            from: entry.name.clone(),
            to: String::new(),
            about: super::outdialog::is_user_notification(request).then_some(Notification::MissedCall),
            again: None,
        };
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
            .then(|| {
                let wanted = (name, walk.transport);
                self.servers.choose(now, wanted, &candidates, &walk.tried, routing.selection)
            })
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
        self.server_failed(now, &server, &why.what);
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
        if let Some(server) = forward.walk.as_ref().and_then(|walk| walk.visited.last()) {
            self.server_answered(now, &server.server);
        }
        let status = response.status().map_or(500, |s| if s.is_redirect() { 503 } else { s.code() });
        let delivery = if status < 300 { Delivery::Delivered } else { Delivery::Rejected };
        let said = String::from_utf8_lossy(&response.reason()).into_owned();
        self.tell_notified(&forward, delivery, clean(&format!("answered {status} {said}")));
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
        let is_silence = matches!(why, ClientFailure::Timeout);
        let again =
            self.forwards.get_mut(&key).filter(|_| !is_silence).and_then(|forward| forward.again.take());
        if let Some((peer, place)) = again {
            self.count("forwards_sent_again");
            return self.reach_for(now, key, peer, &place);
        }
        self.fail_forward(now, key, if is_silence { 504 } else { 503 });
    }

    fn fail_forward(&mut self, now: Instant, key: ServerKey, status: u16) {
        let Some(forward) = self.forwards.remove(&key) else { return };
        let what = if status == 504 { "no answer in time" } else { "no connection" };
        self.tell_notified(&forward, Delivery::Failed, what.to_owned());
        if forward.walk.is_none() && status == 503 {
            let what = format!("UM IP gateway {} could not be reached", forward.to);
            let refusal = Refusal::new(codes::GATEWAY_NOT_REACHED, &forward.to, what);
            return self.refuse(now, key, &forward.request, &refusal, None);
        }
        self.respond_plain(now, key, &forward.request, status, &[]);
    }
}

/// Headers between a pool and a UM server.
fn between(policy: &Policy, pool: Dialect, um: Dialect) -> HeaderPolicy<'_> {
    HeaderPolicy::for_peers(&policy.headers, pool, um)
}

/// Whom a notification concerns, for logs.
fn user_of(request: &Message) -> String {
    let party = request.to().ok().and_then(|to| Party::of(&to.uri));
    party.map_or_else(String::new, |party| party.shown())
}

/// The UM IP gateway behind which a user is.
struct WayToUser {
    ip_gateway: usize,
    signalling: Signalling,
}

// The dial plan of the user's mailbox, of which the server must be; for a user that no mailbox names, whatever plan of
// the server leaves no choice.
fn way_to_user(
    policy: &Policy,
    entry: &FlowEntry,
    about: Notification,
    request: &Message,
) -> Result<WayToUser, Refusal> {
    let who = &entry.name;
    let server = entry.peer.and_then(|peer| policy.mailbox_server_of(peer));
    let serves = |plan: &usize| {
        let plan = policy.dial_plans.get(*plan);
        plan.zip(server).is_some_and(|(plan, server)| plan.mailbox_servers.contains(&server))
    };
    let party = request.to().ok().and_then(|to| Party::of(&to.uri));
    let mailbox = party.as_ref().and_then(|party| mailbox_of(policy, party, None));
    let home = mailbox.and_then(|at| policy.mailboxes.get(at)).map(|mailbox| mailbox.dial_plan);
    let rules = mailbox.and_then(|at| policy.mailbox_policy_of(at));
    if let Some(rules) = rules.filter(|rules| !allows(rules, about)) {
        let what = format!("mailbox policy {} of {} does not allow it", rules.name, user_of(request));
        return Err(Refusal::new(codes::MWI_NOT_ALLOWED, who, what));
    }
    let plans: Vec<usize> = match home {
        Some(plan) => vec![plan],
        None => (0..policy.dial_plans.len()).collect(),
    };
    let mut ways: Vec<WayToUser> = Vec::new();
    for plan in plans.iter().copied().filter(serves) {
        let Some(security) = policy.dial_plans.get(plan).map(|plan| plan.voip_security) else { continue };
        for ip_gateway in gateways_for(policy, plan, about) {
            if ways.iter().all(|way| way.ip_gateway != ip_gateway) {
                ways.push(WayToUser { ip_gateway, signalling: plan_signalling(security) });
            }
        }
    }
    let plan = home.and_then(|at| policy.dial_plans.get(at)).map_or("", |plan| plan.name.as_str());
    // A pool knows its users; a PBX is told where there is none.
    ways.sort_by_key(|way| policy.pool_of(way.ip_gateway).is_none());
    let (is_known, count) = (home.is_some(), ways.len());
    match ways.into_iter().next() {
        Some(way) if is_known || count == 1 => Ok(way),
        Some(_) => {
            let what =
                format!("no mailbox names {}, and {count} UM IP gateways could be meant", user_of(request));
            Err(Refusal::new(codes::NOTIFIED_USER_UNKNOWN, who, what))
        }
        None if home.as_ref().is_some_and(|plan| !serves(plan)) => {
            let what = format!("{who} is not in dial plan {plan} of {}", user_of(request));
            Err(Refusal::new(codes::MWI_NOT_ALLOWED, who, what))
        }
        None => {
            let of = if is_known { format!("dial plan {plan}") } else { format!("{who}'s dial plans") };
            let what = format!("no UM IP gateway of {of} allows it");
            Err(Refusal::new(codes::MWI_NOT_ALLOWED, who, what))
        }
    }
}

fn allows(rules: &MailboxPolicy, about: Notification) -> bool {
    let allowed = match about {
        Notification::MessageWaiting => rules.allow_message_waiting_indicator,
        Notification::MissedCall => rules.allow_missed_call_notifications,
    };
    allowed == Allowed::Yes
}

// Of a dial plan, in the order of its hunt groups. A notification is no call: NoNewCalls does not stop it.
fn gateways_for(policy: &Policy, plan: usize, about: Notification) -> impl Iterator<Item = usize> {
    let groups = policy.hunt_groups.iter().filter(move |group| group.dial_plan == plan);
    groups.map(|group| group.ip_gateway).filter(move |index| {
        policy.ip_gateways.get(*index).is_some_and(|gateway| {
            let is_allowed = match about {
                Notification::MessageWaiting => gateway.message_waiting_indicator_allowed == Allowed::Yes,
                Notification::MissedCall => gateway.pool.is_some(),
            };
            is_allowed && gateway.status != GatewayStatus::Disabled
        })
    })
}
