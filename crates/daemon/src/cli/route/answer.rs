//! The answer of a dry run: steps, route, servers in order, security, headers. Computed by the functions that serve
//! calls; the shape is what `-o json` prints, so its keys are stable.

use b2bua::headers::Passage;
use b2bua::policy::{DialPlan, PoolEncryption, Selection, Server, ServerRole, ServerStatus, VoipSecurity};
use b2bua::policy::{Dialect, Peer, Profile};
use b2bua::route::{Behalf, HostedRoute, Route, Step, UmView, route_out};
use b2bua::security::{
    Decision, Direction, LegMedia, MediaSecurity, Phase, Question, Said, Signalling, decide, plan_signalling,
};
use b2bua::verdict::Refusal;
use b2bua::{HeaderPolicy, Policy, RouteQuestion, route};
use serde::Serialize;
use sip::Message;

use super::asked::Asked;
use super::gateway::Sender;

/// Everything a dry run found out.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// `routed` or `refused`.
    pub(super) outcome: &'static str,
    pub(super) request_uri: String,
    /// The UM IP gateway that it comes from, or leaves through when UM places it; `null` when such a call finds none.
    pub(super) ip_gateway: Option<Gateway>,
    /// The Mailbox server that places it.
    pub(super) placed_by: Option<String>,
    /// What was tried, in order.
    pub(super) steps: Vec<Step>,
    pub(super) route: Option<Routed>,
    /// Whom UM will take for the called one, and why; `null` when the Request-URI cannot be read.
    pub(super) um_view: Option<UmView>,
    /// In the order in which they are asked when the first turn is the first server's.
    pub(super) servers: Vec<Candidate>,
    pub(super) security: Option<Security>,
    pub(super) headers: Option<Headers>,
    pub(super) refusal: Option<Refused>,
}

/// A UM IP gateway.
#[derive(Debug, Serialize)]
pub(super) struct Gateway {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) pool: Option<String>,
    /// How it came to this gateway.
    pub(super) chosen_by: &'static str,
}

/// Where it goes, in names.
#[derive(Debug, Serialize)]
pub(super) struct Routed {
    pub(super) dial_plan: String,
    pub(super) hunt_group: Option<String>,
    pub(super) call_type: &'static str,
    pub(super) voice_memo: bool,
    pub(super) caller: String,
    pub(super) callee: String,
    pub(super) diverted_from: Option<String>,
    pub(super) reason_for_call: &'static str,
    pub(super) dialed: String,
    pub(super) auto_attendant: Option<String>,
    pub(super) mailbox: Option<String>,
    pub(super) hosted: Option<HostedBy>,
    /// `round_robin`, `least_calls` or `priority`.
    pub(super) selection: &'static str,
}

/// Hosted voice mail that takes the call.
#[derive(Debug, Serialize)]
pub(super) struct HostedBy {
    pub(super) policy: String,
    pub(super) destination: String,
    pub(super) organization: String,
    /// What stands in the first request line.
    pub(super) request_uri: String,
}

/// A server that may get the call.
#[derive(Debug, Serialize)]
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) role: &'static str,
    pub(super) status: &'static str,
    pub(super) transport: &'static str,
    pub(super) port: u16,
    /// Empty = DNS.
    pub(super) addresses: Vec<String>,
    pub(super) max_calls_allowed: usize,
}

/// The security question and its answer.
#[derive(Debug, Serialize)]
pub(super) struct Security {
    pub(super) pool_encryption: Option<PoolEncryption>,
    pub(super) voip_security: VoipSecurity,
    pub(super) transport: Signalling,
    /// What the offer says.
    pub(super) offer: Option<MediaSecurity>,
    /// Protection of both legs; `null` when refused.
    pub(super) decision: Option<Decided>,
}

/// Protection of both legs.
#[derive(Debug, Serialize)]
pub(super) struct Decided {
    pub(super) words: String,
    pub(super) a_media: LegMedia,
    pub(super) b_media: LegMedia,
    pub(super) signalling: Signalling,
}

/// Names of the caller's headers.
#[derive(Debug, Default, Serialize)]
pub(super) struct Headers {
    /// Sent on byte for byte (a Diversion with broken quoting is mended).
    pub(super) sent_on: Vec<String>,
    /// Replaced by this leg's own, or stopped.
    pub(super) not_sent_on: Vec<String>,
}

/// The answer the caller would get instead.
#[derive(Debug, Serialize)]
pub(super) struct Refused {
    pub(super) code: &'static str,
    pub(super) status: u16,
    pub(super) reason: &'static str,
    pub(super) ms_diagnostics: Option<u32>,
    pub(super) who: String,
    pub(super) what: String,
    pub(super) evidence: Vec<String>,
    pub(super) remedy: String,
}

impl Answer {
    /// Routes and decides, as for a call that arrives now at a gateway with all servers healthy.
    pub(super) fn of(policy: &Policy, asked: &Asked) -> Self {
        let mut answer = Self::empty(policy, asked);
        match answer.search(policy, asked) {
            Ok(()) => answer.outcome = "routed",
            Err(refusal) => answer.refusal = Some(Refused::of(&refusal)),
        }
        answer
    }

    fn empty(policy: &Policy, asked: &Asked) -> Self {
        let (ip_gateway, placed_by, passage) = match asked.sender {
            Sender::Gateway(index, by) => (Gateway::of(policy, index, by), None, Passage::Invite),
            Sender::Um(index) => {
                (None, policy.mailbox_servers.get(index).map(|s| s.name.clone()), Passage::OutCall)
            }
        };
        let um_view = asked.question.as_ref().ok().map(RouteQuestion::um_view);
        Self {
            outcome: "refused",
            request_uri: asked.request_uri.clone(),
            ip_gateway,
            um_view: um_view.filter(|_| placed_by.is_none()),
            placed_by,
            steps: Vec::new(),
            route: None,
            servers: Vec::new(),
            security: None,
            headers: asked.request.as_ref().map(|request| headers(policy, &asked.sender, passage, request)),
            refusal: None,
        }
    }

    fn search(&mut self, policy: &Policy, asked: &Asked) -> Result<(), Refusal> {
        let question = asked.question.as_ref().map_err(Clone::clone)?;
        let found = match asked.sender {
            Sender::Gateway(..) => route(policy, question),
            Sender::Um(server) => route_out(policy, question, server, Behalf::User),
        };
        self.steps = found.steps;
        let route = found.result?;
        if route.is_out_call() {
            self.ip_gateway = Gateway::of(policy, route.ip_gateway, "a hunt group of the dial plan");
        }
        self.route = Some(routed(policy, &route));
        let Some(plan) = policy.dial_plans.get(route.dial_plan) else { return Ok(()) };
        self.servers = match &route.hosted {
            Some(hosted) => {
                let server = policy.um.hosted.servers.get(hosted.server);
                server.into_iter().map(|server| candidate(server, plan)).collect()
            }
            None if route.is_out_call() => Vec::new(),
            None => candidates(policy, plan),
        };
        let media = asked.offer(plan.voip_security);
        let security = self.security.insert(Security {
            pool_encryption: asked.level(policy, route.ip_gateway),
            voip_security: plan.voip_security,
            transport: asked.signalling(plan.voip_security),
            offer: media.as_ref().ok().copied(),
            decision: None,
        });
        let said = Said {
            transport: security.transport,
            media: media?,
            direction: if route.is_out_call() { Direction::FromServer } else { Direction::FromGateway },
            phase: Phase::Offer,
        };
        let Some(question) = Question::of(policy, route.ip_gateway, route.dial_plan, said) else {
            return Ok(());
        };
        let mut question = Question { pool: security.pool_encryption, ..question };
        question.parties.server = self.placed_by.as_deref().unwrap_or_default();
        let decision = decide(&question)?;
        security.decision =
            Some(Decided::of(if route.is_out_call() { decision.placed_by_um() } else { decision }));
        Ok(())
    }
}

impl Gateway {
    fn of(policy: &Policy, index: usize, chosen_by: &'static str) -> Option<Self> {
        let gateway = policy.ip_gateways.get(index)?;
        Some(Self {
            name: gateway.name.clone(),
            address: gateway.address.to_string(),
            pool: policy.pool_of(index).map(|pool| pool.name.clone()),
            chosen_by,
        })
    }
}

impl Decided {
    fn of(decision: Decision) -> Self {
        Self {
            words: decision.describe(),
            a_media: decision.a_media(),
            b_media: decision.b_media(),
            signalling: decision.b_transport(),
        }
    }
}

impl Refused {
    fn of(refusal: &Refusal) -> Self {
        let verdict = refusal.verdict.clone();
        let reply = refusal.reply("");
        Self {
            code: refusal.code().as_str(),
            status: reply.status,
            reason: reply.reason,
            ms_diagnostics: refusal.code().entry().ms_diagnostics,
            who: verdict.who,
            what: verdict.what,
            evidence: verdict.evidence,
            remedy: verdict.remedy,
        }
    }
}

fn routed(policy: &Policy, route: &Route) -> Routed {
    let plan = policy.dial_plans.get(route.dial_plan);
    let group = route.hunt_group.and_then(|at| policy.hunt_groups.get(at));
    let attendant = route.auto_attendant.and_then(|at| policy.auto_attendants.get(at));
    let mailbox = route.mailbox.and_then(|at| policy.mailboxes.get(at));
    Routed {
        dial_plan: plan.map_or_else(String::new, |plan| plan.name.clone()),
        hunt_group: group.map(|group| group.name.clone()),
        call_type: route.call_type.as_str(),
        voice_memo: route.voice_memo,
        caller: route.caller.clone(),
        callee: route.callee.clone(),
        diverted_from: route.diverted_from.clone(),
        reason_for_call: route.reason.as_str(),
        dialed: route.dialed.clone(),
        auto_attendant: attendant.map(|attendant| attendant.name.clone()),
        mailbox: mailbox.map(|mailbox| mailbox.alias.clone()),
        hosted: route.hosted.as_ref().and_then(|hosted| hosted_by(policy, hosted)),
        selection: match policy.routing.selection {
            Selection::RoundRobin => "round_robin",
            Selection::LeastCalls => "least_calls",
            Selection::Priority => "priority",
        },
    }
}

fn hosted_by(policy: &Policy, hosted: &HostedRoute) -> Option<HostedBy> {
    let by = policy.um.hosted.policies.get(hosted.policy)?;
    Some(HostedBy {
        policy: by.identity.clone(),
        destination: by.destination.clone(),
        organization: hosted.organization.clone(),
        request_uri: hosted.request_uri.escape_ascii().to_string(),
    })
}

/// The Call Routers of the plan; a plan without any goes to its Mailbox servers.
fn candidates(policy: &Policy, plan: &DialPlan) -> Vec<Candidate> {
    let pick = |from: &[Server], indexes: &[usize]| -> Vec<Candidate> {
        indexes.iter().filter_map(|index| from.get(*index)).map(|server| candidate(server, plan)).collect()
    };
    let routers = pick(&policy.call_routers, &plan.call_routers);
    if routers.is_empty() { pick(&policy.mailbox_servers, &plan.mailbox_servers) } else { routers }
}

fn candidate(server: &Server, plan: &DialPlan) -> Candidate {
    let (transport, port) = match plan_signalling(plan.voip_security) {
        Signalling::MutualTls => ("tls", server.tls_port),
        Signalling::Plain => ("tcp", server.tcp_port),
    };
    Candidate {
        name: server.name.clone(),
        role: match server.role {
            ServerRole::CallRouter => "call router",
            ServerRole::Mailbox => "mailbox server",
            ServerRole::Hosted => "hosted UM",
        },
        status: match server.status {
            ServerStatus::Enabled => "Enabled",
            ServerStatus::NoNewCalls => "NoNewCalls",
            ServerStatus::Disabled => "Disabled",
        },
        transport,
        port,
        addresses: server.addresses.iter().map(ToString::to_string).collect(),
        max_calls_allowed: server.max_calls_allowed,
    }
}

fn headers(policy: &Policy, sender: &Sender, passage: Passage, request: &Message) -> Headers {
    let mut out = Headers::default();
    let pool = match sender {
        Sender::Gateway(index, _) => policy.dialect_of(Some(Peer::IpGateway(*index))),
        Sender::Um(_) => policy.dialect_of(None),
    };
    let rules = HeaderPolicy::for_peers(&policy.headers, pool, Dialect::of(Profile::Exum2016));
    for header in request.headers() {
        let list = match rules.carries(header.id, header.name, passage) {
            true => &mut out.sent_on,
            false => &mut out.not_sent_on,
        };
        let name = String::from_utf8_lossy(header.name).into_owned();
        if !list.contains(&name) {
            list.push(name);
        }
    }
    out
}
