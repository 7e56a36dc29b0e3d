//! When a place is no good: the next contact, the next server, or the words with which the caller is
//! refused. Owns the choice; how a place is tried stands in `dial`.

use std::time::Instant;

use super::{Attempt, Call, Step};
use crate::codes::{self, Code};
use crate::engine::core::Core;
use crate::engine::{CallTimer, Event};
use crate::policy::Allowed;
use crate::record::OfferResult;
use crate::redirect::RedirectFault;
use crate::verdict::Refusal;

impl Call {
    /// This place is no good: the next contact, the next server, or the end.
    pub(super) fn fail_hop(
        &mut self,
        cx: &mut Core,
        now: Instant,
        mut attempt: Box<Attempt>,
        failure: Failure,
    ) {
        let server = attempt.hop.server.clone();
        let why = format!("{}: {}", attempt.hop.describe(), failure.what);
        cx.timers.clear(self.key, CallTimer::Step);
        cx.event(Event::ServerFailed {
            call: self.key,
            server: server.clone(),
            why: crate::verdict::clean(&why),
        });
        let is_server = !self.route.is_out_call();
        if is_server && failure.health == Health::Down {
            cx.server_failed(now, &server, &failure.what);
        }
        self.trail.evidence.push(why.clone());
        self.trail.failure = Some(Refusal::new(failure.code, &server, why));
        attempt.step = Step::Start;
        if !self.may_retry(failure.code) {
            return self.give_up(cx, now);
        }
        // A contact of an earlier 3xx may have been reached another way meanwhile.
        attempt
            .alternatives
            .retain(|(hop, _)| !self.trail.visited.iter().any(|been| been.is_same_place(hop)));
        if !attempt.alternatives.is_empty() && self.trail.targets < self.policy.routing.redirect_targets_max {
            (attempt.hop, attempt.redirects) = attempt.alternatives.remove(0);
            if !attempt.hop.server.eq_ignore_ascii_case(&server) {
                self.story.failovers += 1;
            }
            return self.begin_hop(cx, now, attempt);
        }
        match self.next_server(cx, now) {
            Some(hop) => {
                self.story.failovers += 1;
                attempt.hop = hop;
                attempt.redirects = 0;
                attempt.alternatives.clear();
                self.begin_hop(cx, now, attempt);
            }
            None => self.give_up(cx, now),
        }
    }

    fn may_retry(&self, code: Code) -> bool {
        let routing = &self.policy.routing;
        if code == codes::SERVER_TIMEOUT {
            return routing.retry_on_timeout == Allowed::Yes;
        }
        if code == codes::SERVER_CONNECT
            || code == codes::SERVER_TLS
            || code == codes::SERVER_UNRESOLVED
            || code == codes::DNS_SILENT
        {
            return routing.retry_on_connect_failure == Allowed::Yes;
        }
        true
    }

    /// No server is left. A redirect that was refused is the better reason than "nobody left".
    pub(super) fn give_up(&mut self, cx: &mut Core, now: Instant) {
        let refusal = match self.trail.failure.take() {
            failure if self.route.is_out_call() => self.gateway_not_reached(failure),
            None if self.trail.tried.is_empty() && self.has_servers() => self.nobody_free(cx),
            None => {
                Refusal::new(codes::NO_SERVER_LEFT, self.plan_name(), "the dial plan has no server to call")
            }
            Some(failure) if is_redirect_fault(failure.code()) => failure,
            Some(failure) => {
                let tried = self.trail.tried.join(", ");
                let what = format!("every server of the dial plan failed; tried {tried}");
                Refusal::new(codes::NO_SERVER_LEFT, self.plan_name(), what)
                    .evidence(format!("last: {failure}"))
            }
        };
        let refusal = self.with_evidence(refusal).retry_after(10);
        self.refuse(cx, now, &refusal, OfferResult::Failed);
    }

    // Every server has its reason, and none of them is a failure.
    fn nobody_free(&self, cx: &Core) -> Refusal {
        let (routers, mailbox) = self.plan_servers();
        let candidates = if routers.is_empty() { mailbox } else { routers };
        let is_full = candidates.iter().any(|server| cx.servers.takes_calls(server));
        let refusal = match is_full {
            true => (codes::SERVERS_FULL, "no server of the dial plan has free capacity"),
            false => (codes::NO_SERVER_LEFT, "no server of the dial plan takes new calls"),
        };
        let refusal = Refusal::new(refusal.0, self.plan_name(), refusal.1);
        let whys = candidates
            .iter()
            .filter_map(|server| cx.servers.hindrance(server).map(|why| format!("{} {why}", server.name)));
        whys.fold(refusal, Refusal::evidence)
    }

    fn has_servers(&self) -> bool {
        let (routers, mailbox) = self.plan_servers();
        !routers.is_empty() || !mailbox.is_empty()
    }

    pub(super) fn with_evidence(&self, refusal: Refusal) -> Refusal {
        self.trail.evidence.iter().fold(refusal, |refusal, line| refusal.evidence(line))
    }
}

/// Whether a failure says something about the server beyond this call.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Health {
    Unknown,
    Down,
}

/// Why a place is no good.
pub(super) struct Failure {
    pub code: Code,
    pub what: String,
    health: Health,
}

impl Failure {
    pub fn new(code: Code, what: &str) -> Self {
        Self { code, what: crate::verdict::clean(what), health: Health::Unknown }
    }

    pub fn down(mut self) -> Self {
        self.health = Health::Down;
        self
    }
}

pub(super) fn redirect_failure(from: &str, fault: &RedirectFault) -> Failure {
    let code = match fault {
        RedirectFault::NoContact | RedirectFault::NotSip(_) => codes::REDIRECT_UNUSABLE,
        RedirectFault::Escape(_) => codes::REDIRECT_ESCAPE,
        RedirectFault::Maddr(_) => codes::REDIRECT_MADDR,
        RedirectFault::Transport(_) => codes::REDIRECT_WEAKER,
        RedirectFault::Loop(_) => codes::REDIRECT_LOOP,
    };
    Failure::new(code, &format!("redirect from {from}: {fault}"))
}

fn is_redirect_fault(code: Code) -> bool {
    [
        codes::REDIRECT_UNUSABLE,
        codes::REDIRECT_ESCAPE,
        codes::REDIRECT_MADDR,
        codes::REDIRECT_WEAKER,
        codes::REDIRECT_LOOP,
        codes::REDIRECT_HOPS,
    ]
    .contains(&code)
}

pub(super) fn fault_counter(fault: &RedirectFault) -> &'static str {
    match fault {
        RedirectFault::NoContact | RedirectFault::NotSip(_) => "redirect_unusable",
        RedirectFault::Escape(_) => "redirect_escape",
        RedirectFault::Maddr(_) => "redirect_maddr",
        RedirectFault::Transport(_) => "redirect_weaker",
        RedirectFault::Loop(_) => "redirect_loop",
    }
}
