//! From an INVITE to a call or a refusal: the gate, loops, peer, body, route, security, in that order.
//! Owns screening and what a call is born with; afterwards the call owns itself.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use sip::dialog::Dialog;
use sip::endpoint::ServerKey;
use sip::{HeaderId, Message, Transport};

use super::core::Core;
use super::deposits::Deposit;
use super::flows::FlowEntry;
use super::gate::Seat;
use super::io::{CallStarted, Event, Output};
use super::{CallKey, Engine};
use crate::call::answer::{BodyFault, session_of};
use crate::call::progress::Progress;
use crate::call::story::{Missed, Outcome, Story};
use crate::call::transfer::THIRD_LEG_MARK;
use crate::call::{Call, MediaState, Recovery, State, Trail};
use crate::codes;
use crate::headers::{self, HOP_HEADER, HeaderPolicy, OwnLines, Passage};
use crate::leg::LegPeer;
use crate::leg::session::is_interval_too_small;
use crate::leg::{Leg, Session};
use crate::media_plan;
use crate::policy::{CallerNames, Peer};
use crate::record::OfferResult;
use crate::route::{Behalf, Party, Route, RouteQuestion, hint_about, name_of, route, route_out};
use crate::security::{self, Decision, Direction, MediaSecurity, Phase, Question, Said, Signalling};
use crate::verdict::{Refusal, clean};

/// Max-Forwards of a request that has none.
pub(super) const MAX_FORWARDS: u32 = 70;

/// What screening found out about an INVITE that may become a call.
struct Admitted {
    seat: Seat,
    route: Arc<Route>,
    decision: Decision,
    offer: Option<Box<sdp::Session>>,
}

impl Engine {
    /// An INVITE outside any dialog.
    pub(super) fn on_invite(&mut self, now: Instant, key: ServerKey, entry: &FlowEntry, invite: &Message) {
        if invite.header(HeaderId::Replaces).is_some() {
            return self.on_replacing_invite(now, key, entry, invite);
        }
        if let Some(story) = self.screened(now, key, entry, invite) {
            self.open_call(now, key, entry, invite, story);
        }
    }

    // Answers and records a refusal; gives the story of a call that may begin.
    fn screened(
        &mut self,
        now: Instant,
        key: ServerKey,
        entry: &FlowEntry,
        invite: &Message,
    ) -> Option<(Story, Admitted)> {
        let mut story = story_of(now, entry, invite);
        story.parent = self.call_behind(entry, invite);
        match screen(&mut self.core, now, entry, invite, &mut story) {
            Ok(admitted) => Some((story, admitted)),
            Err(refusal) => {
                self.refuse_call(now, key, invite, &refusal, story);
                None
            }
        }
    }

    // The call whose message UM takes while it looks for the user: same server, and the caller or the mailbox of this one.
    fn call_behind(&self, entry: &FlowEntry, invite: &Message) -> Option<String> {
        entry.peer.and_then(|peer| self.core.policy.mailbox_server_of(peer))?;
        let question = RouteQuestion::of_um(invite).ok()?;
        let policy = &self.core.policy;
        let of_call = |call: &Call| Deposit::of(call).filter(|_| call.is_um_at(&entry.name));
        let mut own = self.calls.values().filter_map(|call| of_call(call));
        let found = own.find(|deposit| deposit.is_behind(policy, &entry.name, &question));
        found
            .map(|deposit| deposit.call_id)
            .or_else(|| self.core.deposits.behind(policy, &entry.name, &question))
    }

    /// Refuses an INVITE that would have opened no call of its own.
    pub(super) fn refuse_unopened(
        &mut self,
        now: Instant,
        key: ServerKey,
        entry: &FlowEntry,
        invite: &Message,
        refusal: &Refusal,
    ) {
        let story = story_of(now, entry, invite);
        self.refuse_call(now, key, invite, refusal, story);
    }

    fn refuse_call(
        &mut self,
        now: Instant,
        key: ServerKey,
        invite: &Message,
        refusal: &Refusal,
        story: Story,
    ) {
        let core = &mut self.core;
        core.refuse(now, key, invite, refusal, None);
        let outcome = Outcome {
            verdict: refusal.verdict.clone(),
            offer_result: OfferResult::Rejected,
            drop_reason: "Refused",
            missed: Missed::No,
        };
        let record = story.record(&core.policy, now, outcome);
        core.count("calls_refused");
        core.event(Event::CallEnded { call: None, record: Box::new(record) });
    }

    fn open_call(
        &mut self,
        now: Instant,
        key: ServerKey,
        entry: &FlowEntry,
        invite: &Message,
        screened: (Story, Admitted),
    ) {
        let (mut story, Admitted { seat, route, decision, offer }) = screened;
        let core = &mut self.core;
        let tag = core.endpoint.new_tag();
        let Ok(dialog) = Dialog::uas(invite, tag.clone()) else {
            let refusal =
                Refusal::new(codes::MALFORMED, &entry.name, "the INVITE has no usable Contact or tag");
            return self.refuse_call(now, key, invite, &refusal, story);
        };
        let a = Leg {
            peer: entry.leg_peer(),
            flow: Some(entry.flow),
            call_id: dialog.call_id.clone(),
            tag,
            contact: core.contact(entry.transport, entry.flow.via_port),
            dialog: Some(dialog),
            session: Session::default(),
            recovery: Recovery::No,
        };
        let b = leg_b(core, &decision, &route, &a);
        let b_set = leg_b_set(core, invite, &route, &a, &b);
        story.b_call_id = Some(text(&b.call_id));
        story.security = decision.describe();
        let started = started_event(core, &story, &route, entry);
        let policy = core.policy.clone();
        let call = self.calls.insert_with_key(|call| {
            Box::new(Call {
                key: call,
                policy,
                _seat: seat,
                route,
                decision,
                invite: invite.clone(),
                invite_key: key,
                a,
                b,
                spoken: [None, None],
                media: MediaState::Asked(offer),
                b_set,
                b_cseq: 0,
                trail: Trail::default(),
                state: State::AwaitingMedia,
                relayed: Vec::new(),
                transfer: crate::call::transfer::Transfer::default(),
                story,
                invites: Vec::new(),
                progress: Progress::default(),
                early_offer: None,
                reoffer: None,
            })
        });
        let started = Event::CallStarted(Box::new(CallStarted { call, ..started }));
        self.core.outputs.push_back(Output::Event(started));
        self.with_call(Some(call), |call, core| call.begin(core, now));
    }
}

fn started_event(core: &Core, story: &Story, route: &Route, entry: &FlowEntry) -> CallStarted {
    let name = |list: Option<&str>| list.unwrap_or_default().to_owned();
    CallStarted {
        call: CallKey::default(),
        call_id: story.call_id.clone(),
        ip_gateway: name(core.policy.ip_gateways.get(route.ip_gateway).map(|g| g.name.as_str())),
        dial_plan: name(core.policy.dial_plans.get(route.dial_plan).map(|p| p.name.as_str())),
        caller: story.caller.clone(),
        called: story.called.clone(),
        transport: entry.transport,
    }
}

fn leg_b(core: &mut Core, decision: &Decision, route: &Route, a: &Leg) -> Leg {
    let (transport, port) = match decision.b_transport() {
        Signalling::MutualTls => (Transport::Tls, core.policy.gateway.tls_port),
        Signalling::Plain => (Transport::Tcp, core.policy.gateway.tcp_port),
    };
    let prefix = core.call_id_prefix.clone();
    Leg {
        peer: match route.is_out_call() {
            true => gateway_of(core, route, &a.peer),
            false => a.peer.clone(),
        },
        flow: None,
        call_id: core.endpoint.new_call_id(prefix.as_bytes()),
        tag: core.endpoint.new_tag(),
        contact: core.contact(transport, port.unwrap_or(transport.default_port())),
        dialog: None,
        session: Session::default(),
        recovery: Recovery::No,
    }
}

// The UM IP gateway before there is a connection to it.
fn gateway_of(core: &Core, route: &Route, a: &LegPeer) -> LegPeer {
    let peer = Peer::IpGateway(route.ip_gateway);
    LegPeer {
        name: core.policy.peer_name(peer).to_owned(),
        dialect: core.policy.dialect_of(Some(peer)),
        media_networks: core.policy.media_networks_of(Some(peer)),
        ..a.clone()
    }
}

fn leg_b_set(core: &mut Core, invite: &Message, route: &Route, a: &Leg, b: &Leg) -> Bytes {
    let value = |id| headers::harmless(invite.value_bytes(id).unwrap_or_default());
    let policy = core.policy.clone();
    let rule = if route.is_out_call() { CallerNames::Off } else { policy.headers.caller_names() };
    let name_of = |entry: &sip::NameAddr| {
        let party = Party::of(&entry.uri)?;
        name_of(&policy, &party, route.dial_plan).map(str::to_owned)
    };
    let from = headers::without_tag(&value(HeaderId::From));
    let told = sip::NameAddr::parse_one(from.clone()).ok();
    let told = told.and_then(|entry| headers::named(&entry, rule, name_of));
    if told.is_some() {
        core.count("caller_names_added");
    }
    let from = headers::with_tag(&told.unwrap_or(from), &b.tag);
    let to = headers::without_tag(&value(HeaderId::To));
    let own = OwnLines {
        from: &from,
        to: &to,
        call_id: &b.call_id,
        contact: &b.contact,
        max_forwards: invite.max_forwards().unwrap_or(MAX_FORWARDS).saturating_sub(1),
        hop_token: &core.hop_token,
        correlation: core.policy.gateway.correlation_header.as_deref(),
    };
    let (passage, pool, um) = match route.is_out_call() {
        true => (Passage::OutCall, b.peer.dialect, a.peer.dialect),
        false => (Passage::Invite, a.peer.dialect, b.peer.dialect),
    };
    let headers = HeaderPolicy::for_peers(&policy.headers, pool, um);
    let carried = headers::leg_b_set(invite, &headers, passage, &own);
    let lines = core.carried(carried);
    match rule {
        CallerNames::Off => lines,
        _ => headers::with_named_identities(&lines, rule, name_of),
    }
}

/// What is known of a call before it is routed.
pub(super) fn story_of(now: Instant, entry: &FlowEntry, invite: &Message) -> Story {
    let address = |found: Option<sip::NameAddr>| found.map_or_else(String::new, |a| text(a.uri.raw()));
    Story {
        call_id: text(invite.call_id()),
        b_call_id: None,
        started_at: now,
        answered_at: None,
        route: None,
        ip_gateway: match entry.peer {
            Some(Peer::IpGateway(index)) => Some(index),
            _ => None,
        },
        caller: address(invite.from().ok()),
        called: address(invite.to().ok()),
        server: None,
        transport_a: entry.transport.as_param(),
        transport_b: "",
        security: String::new(),
        redirects: 0,
        failovers: 0,
        codec: None,
        transferred_to: None,
        parent: None,
        notes: Vec::new(),
        media: None,
    }
}

fn text(bytes: &[u8]) -> String {
    clean(&String::from_utf8_lossy(bytes))
}

fn screen(
    core: &mut Core,
    now: Instant,
    entry: &FlowEntry,
    invite: &Message,
    story: &mut Story,
) -> Result<Admitted, Refusal> {
    let who = &entry.name;
    let mut seat = core.enter_gate(now, entry.peer)?;
    screen_hop(core, who, invite)?;
    let peer = entry
        .peer
        .ok_or_else(|| Refusal::new(codes::UNKNOWN_GATEWAY, who, "the sender is no UM IP gateway"))?;
    screen_demands(core, who, invite)?;
    let offer = session_of(invite);
    let found = Arc::new(match peer {
        Peer::IpGateway(index) => route(&core.policy, &RouteQuestion::of(index, invite)?).result?,
        Peer::Server(..) => placed_by_um(core, &mut seat, entry, peer, invite, story)?,
    });
    story.caller.clone_from(&found.caller);
    story.called.clone_from(&found.callee);
    story.route = Some(found.clone());
    let offer = offer.map_err(|fault: BodyFault| fault.refusal(who))?;
    let decision = first_decision(core, &found, entry, offer.as_ref())?;
    if let Some(offer) = &offer {
        core.count_quirks(media_plan::quirks_in(offer, entry.dialect, &core.policy.gateway.srtp.suites));
    }
    if offer.as_ref().is_some_and(sdp::Session::is_fax_only) {
        return Err(Refusal::new(codes::FAX_REFUSED, who, format!("{who} offered fax only")));
    }
    Ok(Admitted { seat, route: found, decision, offer: offer.map(Box::new) })
}

// Play-on-Phone, find-me, outdialling.
fn placed_by_um(
    core: &mut Core,
    seat: &mut Seat,
    entry: &FlowEntry,
    peer: Peer,
    invite: &Message,
    story: &mut Story,
) -> Result<Route, Refusal> {
    let who = &entry.name;
    let policy = core.policy.clone();
    let server = policy.mailbox_server_of(peer).ok_or_else(|| {
        let what = format!("{who} is no Mailbox server of a dial plan; only these place calls");
        Refusal::new(codes::OUTCALLS_NOT_ALLOWED, who, what)
    })?;
    let question = RouteQuestion::of_um(invite)?;
    let behalf = if story.parent.is_some() { Behalf::Caller } else { Behalf::User };
    let found = route_out(&policy, &question, server, behalf).result?;
    core.join_gateway(seat, found.ip_gateway)?;
    story.ip_gateway = Some(found.ip_gateway);
    story.server = Some(who.clone());
    let uri = invite.uri().ok();
    story.notes.extend(uri.and_then(|uri| hint_about(&policy, found.dial_plan, &uri)));
    Ok(found)
}

/// What holds for every INVITE that begins a dialog.
pub(super) fn screen_hop(core: &Core, who: &str, invite: &Message) -> Result<(), Refusal> {
    if invite.max_forwards() == Some(0) {
        return Err(Refusal::new(codes::HOPS_USED_UP, who, "Max-Forwards is 0"));
    }
    check_loop(core, who, invite)
}

/// What an INVITE may ask of us.
pub(super) fn screen_demands(core: &Core, who: &str, invite: &Message) -> Result<(), Refusal> {
    // RFC 3261 §8.2.2.1
    if !invite.has_known_scheme() {
        return Err(Refusal::new(codes::BAD_REQUEST_URI, who, "the Request-URI is no sip, sips or tel URI"));
    }
    let unsupported = headers::unsupported(invite);
    if !unsupported.is_empty() {
        return Err(Refusal::new(codes::EXTENSION_REQUIRED, who, format!("{who} requires {unsupported}")));
    }
    // RFC 3261 §20.1: where Accept leaves session descriptions out, no answer of ours could be read.
    if !sip::simple::accepts(invite, "application", "sdp") {
        return Err(Refusal::new(
            codes::SDP_NOT_ACCEPTED,
            who,
            format!("{who} accepts no session description"),
        ));
    }
    if is_interval_too_small(invite, &core.policy.session) {
        return Err(Refusal::new(codes::INTERVAL_TOO_SMALL, who, "Session-Expires is too small"));
    }
    Ok(())
}

pub(super) fn check_loop(core: &Core, who: &str, invite: &Message) -> Result<(), Refusal> {
    let came_back = invite.call_id().starts_with(prefix_of(&core.call_id_prefix)) && !is_third_leg(invite);
    let mut tokens = invite.headers().filter(|h| h.name.eq_ignore_ascii_case(HOP_HEADER.as_bytes()));
    if came_back || tokens.any(|h| h.raw == core.hop_token.as_bytes()) {
        return Err(Refusal::new(codes::LOOP, who, "a request of this gateway came back to it"));
    }
    Ok(())
}

// The target of a transfer may divert the call to its mailbox: the caller's leg to UM is then another one, and what comes
// back is no loop, but a spiral (RFC 3261 §16.3).
fn is_third_leg(invite: &Message) -> bool {
    let mut parts = invite.call_id().splitn(3, |byte| *byte == b'-');
    parts.nth(2).is_some_and(|rest| rest.starts_with(THIRD_LEG_MARK.as_bytes()))
}

// Every shard of this gateway counts, so the shard's own digits are left out.
fn prefix_of(prefix: &str) -> &[u8] {
    let end = prefix.find('-').map_or(prefix.len(), |at| at + 1);
    prefix.as_bytes().get(..end).unwrap_or_default()
}

pub(super) fn first_decision(
    core: &Core,
    found: &Route,
    entry: &FlowEntry,
    offer: Option<&sdp::Session>,
) -> Result<Decision, Refusal> {
    let said = Said {
        transport: if entry.transport.is_secure() { Signalling::MutualTls } else { Signalling::Plain },
        media: match offer {
            // A fax is refused for what it is, not for its keys.
            Some(offer) if offer.is_fax_only() => MediaSecurity::Absent,
            Some(offer) => media_plan::offered(offer, entry.dialect),
            None => MediaSecurity::Absent,
        },
        direction: if found.is_out_call() { Direction::FromServer } else { Direction::FromGateway },
        phase: Phase::Offer,
    };
    match Question::of(&core.policy, found.ip_gateway, found.dial_plan, said) {
        Some(mut question) if found.is_out_call() => {
            question.parties.server = &entry.name;
            security::decide(&question).map(Decision::placed_by_um)
        }
        Some(question) => security::decide(&question),
        None => Err(Refusal::new(codes::INTERNAL, &core.policy.gateway.fqdn, "the route names no dial plan")),
    }
}
