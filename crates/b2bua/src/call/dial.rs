//! From reserved ports to an answer of some server: choose, resolve, connect, invite, follow
//! redirects, fail over. Owns the budgets of an attempt; what an answer means for the caller stands
//! in `answer`.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use relay::Side;
use sip::endpoint::{ClientFailure, ClientKey, Flow, OutgoingRequest};
use sip::{HeaderId, Message, Method, Transport};

use super::failover::{Failure, fault_counter, redirect_failure};
use super::forks::Forks;
use super::reliable::Provisional;
use super::story::{Missed, Outcome};
use super::{Attempt, Call, Late, MediaState, State, Step};
use crate::codes;
use crate::engine::core::{Answer, ClientUse, Core};
use crate::engine::flows::FlowEntry;
use crate::engine::reach::resolve_code;
use crate::engine::{
    CallTimer, ConnectFailure, ConnectFailureKind, ConnectKey, Event, MediaFailure, MediaPorts, Output,
    ResolveFailure, Target,
};
use crate::headers::{Block, WithBody};
use crate::media_plan::CallMedia;
use crate::place::ADDRESSES_MAX;
use crate::policy::{Peer, Policy, Server, ServerRole};
use crate::quirks::Quirk;
use crate::record::OfferResult;
use crate::redirect::{self, Hop, RedirectFault, Rules};
use crate::security::Signalling;
use crate::verdict::Refusal;

/// Ports must come within this.
pub(super) const MEDIA_READY_MAX: Duration = Duration::from_secs(2);
/// A server that rings may do so for this long.
const RING_MAX: Duration = Duration::from_secs(180);

/// When the caller gets a provisional answer of ours: early enough to arrive within the limit.
pub(super) fn progress_after(policy: &Policy) -> Duration {
    policy.routing.a_leg_answer_max.mul_f32(0.8)
}

impl Call {
    /// Ports are there, or not.
    pub fn on_media_ready(&mut self, cx: &mut Core, now: Instant, result: Result<MediaPorts, MediaFailure>) {
        if !matches!(self.state, State::AwaitingMedia) {
            return;
        }
        cx.timers.clear(self.key, CallTimer::MediaReady);
        match result {
            Ok(ports) => self.start_dialing(cx, now, ports),
            Err(why) => {
                let refusal = Refusal::new(
                    codes::MEDIA_RESOURCES,
                    &self.policy.gateway.fqdn,
                    "no media ports for the call",
                );
                self.refuse(cx, now, &refusal.evidence(format!("{why:?}")), OfferResult::Failed);
            }
        }
    }

    fn start_dialing(&mut self, cx: &mut Core, now: Instant, ports: MediaPorts) {
        let mut media = CallMedia::new(&self.policy, ports, &mut cx.keys);
        media.speaks(Side::A, &self.a.peer);
        media.expects(Side::B, self.near_address());
        let offered = match std::mem::replace(&mut self.media, MediaState::Released) {
            MediaState::Asked(Some(offer)) => {
                media.relay_offer(Side::A, *offer, &self.decision, &mut cx.keys).map(|made| (made, Late::No))
            }
            _ => media.own_offer(Side::B, &self.decision, &mut cx.keys).map(|made| (made, Late::Yes)),
        };
        self.media = MediaState::Ready(Box::new(media));
        let ((offer, exchange), late) = match offered {
            Ok(made) => made,
            Err(fault) => {
                let refusal = super::answer::media_refusal(&fault, &self.a.peer.name);
                return self.refuse(cx, now, &refusal, OfferResult::Rejected);
            }
        };
        self.limit_setup(cx, now, self.policy.routing.redirect_total);
        let Some(hop) = self.next_server(cx, now) else {
            return self.give_up(cx, now);
        };
        let attempt = Attempt {
            exchange,
            offer,
            late,
            hop,
            redirects: 0,
            alternatives: Vec::new(),
            step: Step::Start,
            forks: Forks::default(),
        };
        self.begin_hop(cx, now, Box::new(attempt));
    }

    fn limit_setup(&mut self, cx: &mut Core, now: Instant, left: Duration) {
        let until = now + left;
        self.trail.budget.until = Some(until);
        cx.timers.set(self.key, CallTimer::Setup, until);
    }

    // The first 18x stops the clock of set-up and starts that of ringing; a later one lengthens neither.
    fn limit_ringing(&mut self, cx: &mut Core, now: Instant) {
        let budget = &mut self.trail.budget;
        if let Some(until) = budget.until.take() {
            budget.left = until.saturating_duration_since(now);
            let rings_until = *budget.rings_until.get_or_insert(now + RING_MAX);
            cx.timers.set(self.key, CallTimer::Setup, rings_until);
        }
    }

    /// The transport of leg B.
    pub fn b_transport(&self) -> Transport {
        match self.decision.b_transport() {
            Signalling::MutualTls => Transport::Tls,
            Signalling::Plain => Transport::Tcp,
        }
    }

    // Where leg B will be. The first server with a configured address stands for all: the offer is made once.
    fn near_address(&self) -> Option<IpAddr> {
        if self.route.is_out_call() {
            let gateway = Peer::IpGateway(self.route.ip_gateway);
            return self.policy.addresses_of(gateway).first().copied();
        }
        let (routers, mailbox) = self.plan_servers();
        routers.into_iter().chain(mailbox).find_map(|server| server.addresses.first().copied())
    }

    pub(super) fn plan_servers(&self) -> (Vec<&Server>, Vec<&Server>) {
        if let Some(hosted) = &self.route.hosted {
            return (Vec::new(), self.policy.um.hosted.servers.get(hosted.server).into_iter().collect());
        }
        let Some(plan) = self.policy.dial_plans.get(self.route.dial_plan) else {
            return (Vec::new(), Vec::new());
        };
        let routers = plan.call_routers.iter().filter_map(|i| self.policy.call_routers.get(*i)).collect();
        let mailbox =
            plan.mailbox_servers.iter().filter_map(|i| self.policy.mailbox_servers.get(*i)).collect();
        (routers, mailbox)
    }

    /// What a first request asks for: as the caller wrote it, or as hosted voice mail wants it.
    fn wanted_uri(&self) -> Bytes {
        self.route.hosted.as_ref().map_or_else(|| self.invite.request_uri(), |to| to.request_uri.clone())
    }

    /// Call Routers when the plan has any, else its Mailbox servers; for a call of UM its one UM IP gateway.
    pub(super) fn next_server(&mut self, cx: &mut Core, now: Instant) -> Option<Hop> {
        if self.route.is_out_call() {
            return self.gateway_hop();
        }
        if self.trail.targets >= self.policy.routing.redirect_targets_max {
            return None;
        }
        let transport = self.b_transport();
        let (routers, mailbox) = self.plan_servers();
        let candidates = if routers.is_empty() { mailbox } else { routers };
        let selection = self.policy.routing.selection;
        let server = loop {
            let wanted = (self.plan_name(), transport);
            let server = cx.servers.choose(now, wanted, &candidates, &self.trail.tried, selection)?;
            // Another shard may have taken the last place since; the next choice sees that.
            if cx.servers.take_below(&server.name, server.max_calls_allowed) {
                break server;
            }
        };
        let hop = Hop {
            uri: self.wanted_uri(),
            server: server.name.clone(),
            addresses: server.addresses.clone(),
            port: if transport.is_secure() { server.tls_port } else { server.tcp_port },
            port_source: server.port_source,
            transport,
        };
        self.let_go(cx);
        self.trail.holding = Some(hop.server.clone());
        self.trail.tried.push(hop.server.clone());
        self.trail.visited.clear();
        Some(hop)
    }

    pub(super) fn begin_hop(&mut self, cx: &mut Core, now: Instant, mut attempt: Box<Attempt>) {
        attempt.forks = Forks::default();
        self.drop_early_offer(cx, now);
        if self.trail.budget.until.is_none() {
            self.limit_setup(cx, now, self.trail.budget.left);
        }
        self.trail.targets += 1;
        self.trail.visited.push(attempt.hop.clone());
        if !self.route.is_out_call() {
            self.hold(cx, &attempt.hop.server);
            self.story.server = Some(attempt.hop.server.clone());
        }
        self.story.transport_b = attempt.hop.transport.as_param();
        if attempt.hop.addresses.is_empty() {
            let query = cx.query_key();
            cx.queries.insert(query, self.key);
            cx.outputs.push_back(Output::Resolve { query, question: attempt.hop.question() });
            cx.timers.set(self.key, CallTimer::Step, now + self.policy.routing.connect_timeout);
            attempt.step = Step::Resolving(query);
            self.state = State::Dialing(attempt);
            return;
        }
        let port = attempt.hop.port;
        let addresses = attempt.hop.addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
        self.connect(cx, now, attempt, addresses);
    }

    fn connect(
        &mut self,
        cx: &mut Core,
        now: Instant,
        mut attempt: Box<Attempt>,
        mut addresses: Vec<SocketAddr>,
    ) {
        addresses.truncate(ADDRESSES_MAX);
        let address = addresses.remove(0);
        if self.route.is_out_call() {
            self.keep_for_later(&mut attempt, address, &mut addresses);
        }
        let key = cx.connect_key();
        let hop = &attempt.hop;
        cx.connects.insert(key, (self.key, hop.server.clone()));
        let (address, port) = (address.ip(), address.port());
        let target = Target { name: hop.server.clone(), address, port, transport: hop.transport };
        let routing = &self.policy.routing;
        let tls = if hop.transport.is_secure() { routing.tls_timeout } else { Duration::ZERO };
        cx.timers.set(self.key, CallTimer::Step, now + routing.connect_timeout + tls);
        attempt.step = Step::Connecting { key, rest: addresses };
        self.state = State::Dialing(attempt);
        cx.outputs.push_back(Output::Connect { connect: key, target });
    }

    /// The server that now counts this call.
    pub(super) fn hold(&mut self, cx: &mut Core, server: &str) {
        if self.trail.holding.as_deref() == Some(server) {
            return;
        }
        self.let_go(cx);
        cx.servers.take(server);
        self.trail.holding = Some(server.to_owned());
    }

    /// No server counts this call any more.
    pub fn let_go(&mut self, cx: &mut Core) {
        if let Some(name) = self.trail.holding.take() {
            cx.servers.give(&name);
        }
    }

    pub fn on_resolved(
        &mut self,
        cx: &mut Core,
        now: Instant,
        query: crate::engine::QueryKey,
        result: Result<Vec<SocketAddr>, ResolveFailure>,
    ) {
        let attempt = match self.take_state() {
            State::Dialing(attempt) if matches!(attempt.step, Step::Resolving(asked) if asked == query) => {
                attempt
            }
            other => return self.state = other,
        };
        match result {
            Ok(addresses) if !addresses.is_empty() => self.connect(cx, now, attempt, addresses),
            Ok(_) => self.fail_hop(
                cx,
                now,
                attempt,
                Failure::new(codes::SERVER_UNRESOLVED, "the name has no address").down(),
            ),
            Err(why) => {
                let failure = Failure::new(resolve_code(&why), &why.detail).down();
                self.fail_hop(cx, now, attempt, failure);
            }
        }
    }

    pub fn on_connect_failed(
        &mut self,
        cx: &mut Core,
        now: Instant,
        connect: ConnectKey,
        why: &ConnectFailure,
    ) {
        let (attempt, rest) = match self.take_state() {
            State::Dialing(mut attempt) => match std::mem::replace(&mut attempt.step, Step::Start) {
                Step::Connecting { key, rest } if key == connect => (attempt, rest),
                other => {
                    attempt.step = other;
                    return self.state = State::Dialing(attempt);
                }
            },
            other => return self.state = other,
        };
        if !rest.is_empty() {
            return self.connect(cx, now, attempt, rest);
        }
        let code = match why.kind {
            ConnectFailureKind::TlsName | ConnectFailureKind::TlsChain | ConnectFailureKind::TlsOther => {
                codes::SERVER_TLS
            }
            _ => codes::SERVER_CONNECT,
        };
        self.fail_hop(
            cx,
            now,
            attempt,
            Failure::new(code, &format!("{:?}: {}", why.kind, why.detail)).down(),
        );
    }

    /// The flow asked for is there: the INVITE goes out.
    pub fn on_connected(&mut self, cx: &mut Core, now: Instant, connect: ConnectKey, entry: &FlowEntry) {
        let attempt = match self.take_state() {
            State::Dialing(attempt) if matches!(&attempt.step, Step::Connecting { key, .. } if *key == connect) => {
                attempt
            }
            other => return self.state = other,
        };
        self.b.peer = entry.leg_peer();
        if let MediaState::Ready(media) = &mut self.media {
            media.speaks(Side::B, &self.b.peer);
        }
        self.b.flow = Some(entry.flow);
        self.send_invite(cx, now, attempt, &entry.flow);
    }

    /// Sends the INVITE of an attempt, with the next CSeq.
    pub(super) fn send_invite(
        &mut self,
        cx: &mut Core,
        now: Instant,
        mut attempt: Box<Attempt>,
        flow: &Flow,
    ) {
        self.b_cseq += 1;
        let request = self.b_invite(&attempt);
        let Some(client) = cx.send(now, flow, request.clone(), ClientUse::Invite(self.key)) else {
            return self.fail_hop(
                cx,
                now,
                attempt,
                Failure::new(codes::SERVER_CONNECT, "the INVITE could not be sent"),
            );
        };
        cx.timers.set(self.key, CallTimer::Step, now + self.policy.routing.first_answer_timeout);
        attempt.step = Step::Inviting { client, request: Box::new(request) };
        self.state = State::Dialing(attempt);
    }

    fn b_invite(&self, attempt: &Attempt) -> OutgoingRequest {
        let mut block = Block::default();
        block.header(HeaderId::CSeq, format!("{} INVITE", self.b_cseq));
        for (id, value) in self.session_lines(Side::B) {
            block.header(id, value);
        }
        let mut headers = self.b_set.to_vec();
        headers.extend_from_slice(&block.finish());
        OutgoingRequest {
            method: Method::Invite,
            uri: attempt.hop.uri.clone(),
            headers: Bytes::from(headers),
            content_type: Some(Bytes::from_static(b"application/sdp")),
            body: attempt.offer.clone(),
        }
    }

    /// A response to the INVITE of leg B.
    pub fn on_b_response(&mut self, cx: &mut Core, now: Instant, client: ClientKey, response: &Message) {
        let (attempt, was_ringing) = match self.take_state() {
            State::Dialing(attempt) => (attempt, Rings::No),
            State::Ringing(attempt) => (attempt, Rings::Yes),
            other => return self.state = other,
        };
        let put_back = |attempt| match was_ringing {
            Rings::No => State::Dialing(attempt),
            Rings::Yes => State::Ringing(attempt),
        };
        let status = response.status().map_or(0, |s| s.code());
        let is_ours = matches!(&attempt.step, Step::Inviting { client: own, .. } if *own == client);
        if is_ours && status == 100 && self.route.is_out_call() {
            // A telephone takes longer than a UM server; the time for set-up goes on.
            cx.timers.clear(self.key, CallTimer::Step);
        }
        if !is_ours || status <= 100 {
            self.state = put_back(attempt);
            return;
        }
        cx.timers.clear(self.key, CallTimer::Step);
        cx.server_answered(now, &attempt.hop.server);
        match status {
            101..=199 => {
                self.limit_ringing(cx, now);
                self.on_ringing(cx, now, attempt, response);
            }
            200..=299 => {
                cx.clients.remove(&client);
                self.on_answer(cx, now, attempt, response);
            }
            300..=399 if self.route.is_out_call() => {
                cx.clients.remove(&client);
                self.on_out_redirect(cx, now, attempt, response);
            }
            300..=399 => {
                cx.clients.remove(&client);
                self.on_redirect(cx, now, attempt, response);
            }
            422 => {
                cx.clients.remove(&client);
                self.on_interval_refused(cx, now, attempt, response);
            }
            _ if self.route.is_out_call() => {
                cx.clients.remove(&client);
                self.on_out_failure(cx, now, attempt, response);
            }
            _ => {
                cx.clients.remove(&client);
                self.on_failure(cx, now, attempt, response);
            }
        }
    }

    fn on_redirect(&mut self, cx: &mut Core, now: Instant, mut attempt: Box<Attempt>, response: &Message) {
        let from = attempt.hop.describe();
        if attempt.redirects >= self.policy.routing.redirect_hops_max {
            let what = format!("{from} redirects once more after {} redirects", attempt.redirects);
            return self.fail_hop(cx, now, attempt, Failure::new(codes::REDIRECT_HOPS, &what));
        }
        let (routers, mailbox) = self.plan_servers();
        let servers: Vec<&Server> = routers.into_iter().chain(mailbox).collect();
        let closed = servers.iter().filter(|server| !cx.servers.takes_calls(server));
        let closed: Vec<String> = closed.map(|server| server.name.clone()).collect();
        let transport = self.b_transport();
        let is_asked = |server: &&&Server| server.role != ServerRole::CallRouter;
        let out = servers.iter().filter(is_asked).filter(|s| cx.servers.is_left_out(s, transport, now));
        let out: Vec<String> = out.map(|server| server.name.clone()).collect();
        let rules = Rules { servers: &servers, transport, visited: &self.trail.visited };
        let (mut good, faults) = redirect::hops(response, &rules);
        for fault in &faults {
            self.trail.evidence.push(format!("{from}: {fault}"));
            cx.count(fault_counter(fault));
        }
        let is_taken = |hop: &Hop| closed.iter().all(|name| !name.eq_ignore_ascii_case(&hop.server));
        if let Some(first) = good.first().filter(|_| !good.iter().any(is_taken)) {
            let what = format!("{from} redirects to {}, which gets no new calls", first.server);
            return self.fail_hop(cx, now, attempt, Failure::new(codes::SERVER_FAILED, &what));
        }
        good.retain(is_taken);
        // Where the redirecting server leaves a choice, one that is out comes last.
        good.sort_by_key(|hop| out.iter().any(|name| name.eq_ignore_ascii_case(&hop.server)));
        if good.is_empty() {
            let failure = redirect_failure(&from, faults.first().unwrap_or(&RedirectFault::NoContact));
            return self.fail_hop(cx, now, attempt, failure);
        }
        if self.trail.targets >= self.policy.routing.redirect_targets_max {
            return self.fail_hop(
                cx,
                now,
                attempt,
                Failure::new(codes::REDIRECT_HOPS, "as many targets as one call may try"),
            );
        }
        attempt.hop = good.remove(0);
        attempt.redirects += 1;
        let depth = attempt.redirects;
        attempt.alternatives.splice(0..0, good.into_iter().map(|hop| (hop, depth)));
        self.story.redirects += 1;
        cx.event(Event::Redirected { call: self.key, from, to: attempt.hop.describe() });
        self.begin_hop(cx, now, attempt);
    }

    fn on_failure(&mut self, cx: &mut Core, now: Instant, attempt: Box<Attempt>, response: &Message) {
        let status = response.status().map_or(0, |s| s.code());
        let reason = String::from_utf8_lossy(&response.reason()).into_owned();
        if self.policy.routing.retry_on.contains(&status) {
            let what = format!("answered {status} {reason}");
            return self.fail_hop(cx, now, attempt, Failure::new(codes::SERVER_FAILED, &what));
        }
        let who = attempt.hop.server.clone();
        let mut refusal = Refusal::new(codes::UM_REFUSED, &who, format!("{who} answered {status} {reason}"));
        if let Some(diagnostics) = response.header(HeaderId::MsDiagnostics) {
            refusal = refusal.evidence(format!("ms-diagnostics: {}", String::from_utf8_lossy(diagnostics)));
        }
        let block = self.response_lines(cx, response, Side::B, WithBody::No);
        let answer = Answer { reason: Some(&response.reason()), block: &block, ..Answer::of(status) };
        self.answer_caller(cx, now, answer);
        let outcome = Outcome {
            verdict: refusal.verdict,
            offer_result: OfferResult::Rejected,
            drop_reason: "RejectedByServer",
            missed: Missed::No,
        };
        self.close(cx, now, outcome);
    }

    /// The transaction of an INVITE on leg B ended without an answer.
    pub fn on_b_failed(&mut self, cx: &mut Core, now: Instant, client: ClientKey, why: &ClientFailure) {
        let attempt = match self.take_state() {
            State::Dialing(attempt) | State::Ringing(attempt) if matches!(&attempt.step, Step::Inviting { client: own, .. } if *own == client) => {
                attempt
            }
            other => return self.state = other,
        };
        let failure = match why {
            ClientFailure::Timeout => Failure::new(codes::SERVER_TIMEOUT, "no final answer"),
            _ => Failure::new(codes::SERVER_CONNECT, "the connection broke while the INVITE was out"),
        };
        self.fail_hop(cx, now, attempt, failure.down());
    }

    /// The present step took too long.
    pub fn on_step_timeout(&mut self, cx: &mut Core, now: Instant) {
        let attempt = match self.take_state() {
            State::Dialing(attempt) => attempt,
            other => return self.state = other,
        };
        self.abandon(cx, now, &attempt);
        let failure = match &attempt.step {
            Step::Resolving(_) => Failure::new(codes::DNS_SILENT, "no answer from name resolution in time"),
            Step::Inviting { .. } => Failure::new(codes::SERVER_TIMEOUT, "no answer to INVITE in time"),
            Step::Connecting { .. } | Step::Start => {
                Failure::new(codes::SERVER_CONNECT, "no connection in time")
            }
        };
        self.fail_hop(cx, now, attempt, failure.down());
    }

    /// Withdraws whatever the attempt waits for. A late 2xx is then nobody's: ACK and BYE.
    pub fn abandon(&self, cx: &mut Core, now: Instant, attempt: &Attempt) {
        self.withdraw(cx, now, attempt, &Bytes::new());
    }

    /// As [`Self::abandon`], with Reason lines for the CANCEL, or for the BYE if the 2xx crosses it (RFC 3326).
    pub fn withdraw(&self, cx: &mut Core, now: Instant, attempt: &Attempt, reason: &Bytes) {
        match &attempt.step {
            Step::Start => {}
            Step::Resolving(query) => {
                cx.queries.remove(query);
            }
            Step::Connecting { key, .. } => {
                cx.connects.remove(key);
            }
            Step::Inviting { client, .. } => {
                cx.clients.remove(client);
                if !reason.is_empty() {
                    cx.withdrawn.insert(*client, reason.clone());
                }
                cx.endpoint.cancel_with(now, *client, reason);
            }
        }
    }

    /// All of set-up took too long.
    pub fn on_setup_timeout(&mut self, cx: &mut Core, now: Instant) {
        let (attempt, code) = match self.take_state() {
            State::Dialing(attempt) => (attempt, codes::REDIRECT_BUDGET),
            State::Ringing(attempt) => (attempt, codes::SETUP_TIMEOUT),
            other => return self.state = other,
        };
        self.abandon(cx, now, &attempt);
        self.state = State::Dialing(attempt);
        let refusal = match self.route.is_out_call() {
            true => Refusal::new(
                codes::SETUP_TIMEOUT,
                &self.b.peer.name,
                "the called party did not answer in time",
            ),
            false => Refusal::new(code, self.plan_name(), "no server answered within the set-up time"),
        };
        self.refuse(cx, now, &self.with_evidence(refusal), OfferResult::Failed);
    }

    /// The caller has waited long enough for a word.
    pub fn on_progress_due(&mut self, cx: &mut Core, now: Instant) {
        if matches!(self.state, State::AwaitingMedia | State::Dialing(_)) {
            cx.count(Quirk::FirstProgress.counter());
            self.tell_caller(cx, now, Provisional { status: 183, block: Bytes::new(), body: None });
        }
    }

    pub fn contact_text(&self, side: Side) -> String {
        String::from_utf8_lossy(&self.leg(side).contact).into_owned()
    }
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Rings {
    No,
    Yes,
}
