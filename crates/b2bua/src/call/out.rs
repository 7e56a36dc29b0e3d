//! What is different when UM placed the call: leg B is the dial plan's one UM IP gateway, which is reached at each of its
//! addresses in turn and whose answers go to UM as they are. Owns the way there; all else is a call like any other.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use relay::Side;
use sip::{HeaderId, Message, Scheme, Uri};

use super::failover::{Failure, redirect_failure};
use super::story::{Missed, Outcome};
use super::transfer::rewrite;
use super::{Attempt, Call};
use crate::codes;
use crate::engine::core::{Answer, Core};
use crate::headers::{Block, WithBody};
use crate::place::Place;
use crate::record::OfferResult;
use crate::redirect::{Hop, RedirectFault};
use crate::verdict::{Refusal, warning};

impl Call {
    /// The UM IP gateway of the route; `None` once it was tried.
    pub(super) fn gateway_hop(&mut self) -> Option<Hop> {
        if !self.trail.tried.is_empty() {
            return None;
        }
        let place = Place::of_gateway(&self.policy, self.route.ip_gateway)?;
        self.trail.tried.push(place.name.clone());
        Some(Hop {
            uri: self.out_uri(self.invite.request_uri(), &place.name),
            server: place.name,
            addresses: place.addresses,
            port: place.port,
            port_source: place.port_source,
            transport: self.b_transport(),
        })
    }

    // UM addresses its UM IP gateway, which is this one; whom it means is at the gateway's.
    fn out_uri(&self, raw: Bytes, name: &str) -> Bytes {
        match Uri::parse(raw.clone()) {
            Ok(uri) if rewrite::is_ours(&uri, &self.policy.gateway) => {
                let host = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
                rewrite::stands_for(&uri, &Bytes::from(format!("sip:{host}")))
            }
            _ => raw,
        }
    }

    /// RFC 3263 §4.3: the next address is for connections that cannot be made, for silence and for 503, so the others are kept
    /// beside the attempt, each a place of its own.
    pub(super) fn keep_for_later(
        &self,
        attempt: &mut Attempt,
        first: SocketAddr,
        others: &mut Vec<SocketAddr>,
    ) {
        attempt.hop.addresses = vec![first.ip()];
        attempt.hop.port = first.port();
        let redirects = attempt.redirects;
        let hop = attempt.hop.clone();
        let place =
            |address: SocketAddr| Hop { addresses: vec![address.ip()], port: address.port(), ..hop.clone() };
        attempt.alternatives.extend(others.drain(..).map(|address| (place(address), redirects)));
    }

    /// A 3xx changes whom to call, not where to.
    pub(super) fn on_out_redirect(
        &mut self,
        cx: &mut Core,
        now: Instant,
        mut attempt: Box<Attempt>,
        response: &Message,
    ) {
        let from = attempt.hop.describe();
        let gateway = &self.policy.gateway;
        let may_call = |uri: &Uri| match uri.scheme() {
            Scheme::Sip | Scheme::Tel => !rewrite::is_ours(uri, gateway),
            Scheme::Sips => attempt.hop.transport.is_secure() && !rewrite::is_ours(uri, gateway),
            Scheme::Other => false,
        };
        let contacts = response.contacts().unwrap_or_default();
        let next = contacts.into_iter().map(|contact| contact.uri).find(may_call);
        let hops = self.policy.routing.redirect_hops_max;
        match next {
            Some(uri) if attempt.redirects < hops => {
                attempt.hop.uri = uri.without_headers();
                attempt.redirects += 1;
                self.story.redirects += 1;
                self.begin_hop(cx, now, attempt);
            }
            Some(_) => {
                let what = format!("{from} redirects once more after {hops} redirects");
                self.fail_hop(cx, now, attempt, Failure::new(codes::REDIRECT_HOPS, &what));
            }
            None => {
                let failure = redirect_failure(&from, &RedirectFault::NoContact);
                self.fail_hop(cx, now, attempt, failure);
            }
        }
    }

    /// A final answer that is none of ours to change; only after a 503 the next address may know better.
    pub(super) fn on_out_failure(
        &mut self,
        cx: &mut Core,
        now: Instant,
        attempt: Box<Attempt>,
        response: &Message,
    ) {
        let status = response.status().map_or(0, |s| s.code());
        let reason = String::from_utf8_lossy(&response.reason()).into_owned();
        let what = format!("answered {status} {reason}");
        if status == 503 && !attempt.alternatives.is_empty() {
            return self.fail_hop(cx, now, attempt, Failure::new(codes::SERVER_FAILED, &what));
        }
        let who = self.b.peer.name.clone();
        let mut refusal = Refusal::new(codes::CALLED_PARTY_REFUSED, &who, format!("{who} {what}"));
        if let Some(diagnostics) = response.header(HeaderId::MsDiagnostics) {
            refusal = refusal.evidence(format!("ms-diagnostics: {}", String::from_utf8_lossy(diagnostics)));
        }
        let mut block = Block::default();
        for note in &self.story.notes {
            block.line(b"Warning", warning(&self.policy.gateway.fqdn, note).as_bytes());
        }
        let lines = self.response_lines(cx, response, Side::B, WithBody::No);
        let block = [&lines[..], &block.finish()].concat();
        let answer = Answer { reason: Some(&response.reason()), block: &block, ..Answer::of(status) };
        self.answer_caller(cx, now, answer);
        let outcome = Outcome {
            verdict: self.with_evidence(refusal).verdict,
            offer_result: OfferResult::Rejected,
            drop_reason: "RejectedByCalledParty",
            missed: Missed::No,
        };
        self.close(cx, now, outcome);
    }

    /// None of the gateway's addresses took the call.
    pub(super) fn gateway_not_reached(&self, failure: Option<Refusal>) -> Refusal {
        let who = &self.b.peer.name;
        match failure {
            Some(failure) if failure.code() == codes::REDIRECT_HOPS => failure,
            Some(failure) => {
                let what = format!("UM IP gateway {who} took no call of UM at any address");
                Refusal::new(codes::GATEWAY_NOT_REACHED, who, what).evidence(format!("last: {failure}"))
            }
            None => {
                Refusal::new(codes::GATEWAY_NOT_REACHED, who, format!("UM IP gateway {who} has no address"))
            }
        }
    }
}
