//! An INVITE with Replaces that names a leg of this call (RFC 3891): judged again for the new pairing, then put into
//! that leg's place. Owns what the call must look like for it; who may ask was settled by the engine.

use std::time::Instant;

use relay::Side;
use sip::endpoint::ServerKey;
use sip::{Dialog, HeaderId, Message};

use super::exchange::{Coming, TakeOver};
use super::{Call, State};
use crate::call::Recovery;
use crate::call::answer::{media_refusal, session_of};
use crate::call::{Late, MediaState};
use crate::codes;
use crate::engine::CallTimer;
use crate::engine::core::Core;
use crate::engine::flows::FlowEntry;
use crate::leg::{Leg, Session};
use crate::media_plan;
use crate::policy::{Peer, ReplacesRule, ServerRole};
use crate::security::{self, Direction, MediaSecurity, Phase, Question, Said, Signalling};
use crate::verdict::Refusal;

/// The newcomer's leg must be in place within this.
const TAKE_OVER_MAX: std::time::Duration = std::time::Duration::from_secs(32);

/// What stands in the way of a take-over.
pub(crate) enum Hindrance {
    /// Refused for good.
    Refused(Box<Refusal>),
    /// Another offer or transfer is under way: worth another attempt.
    Busy,
}

impl From<Refusal> for Hindrance {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl Call {
    /// RFC 3891 §3, for a sender that may speak for the dialog.
    pub fn replaceable(&self, side: Side, early_only: bool) -> Result<(), Hindrance> {
        let who = &self.leg(side).peer.name;
        let refuse = |code, what: &str| Err(Refusal::new(code, who, what).into());
        match &self.state {
            // An early dialog that this end did not begin.
            _ if self.is_early() && side == Side::A => {
                refuse(codes::REPLACES_UNKNOWN, "Replaces names a call that is not answered yet")
            }
            // One that this end began might be replaced, by CANCEL on it and a 2xx for the newcomer. But "incompatible media"
            // may stand in the way, and then the matched dialog stays as it is. Here it does: the caller's offer is open, the
            // newcomer's INVITE opens another, and neither is an answer to the other. (One without an offer could be served;
            // no peer is known to send it.)
            State::AwaitingMedia | State::Dialing(_) | State::Ringing(_) => {
                refuse(codes::REPLACES_EARLY, "Replaces names a leg that still rings")
            }
            State::Ending { .. } | State::Ended => {
                refuse(codes::REPLACES_OVER, "Replaces names a call that is over")
            }
            _ if early_only => refuse(codes::REPLACES_CONFIRMED, "early-only, but the call is answered"),
            State::Established if self.transfer.executed.is_none() && self.reoffer.is_none() => Ok(()),
            _ => Err(Hindrance::Busy),
        }
    }

    /// The sender of `invite` takes the place of `side`, if the other side agrees.
    pub fn take_over(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        entry: &FlowEntry,
        (key, invite): (ServerKey, &Message),
    ) -> Result<(), Hindrance> {
        let who = &entry.name;
        let tag = cx.endpoint.new_tag();
        let dialog = Dialog::uas(invite, tag.clone())
            .map_err(|_| Refusal::new(codes::MALFORMED, who, "the INVITE has no usable Contact or tag"))?;
        let offer = session_of(invite).map_err(|fault| fault.refusal(who))?;
        let said = offer.as_ref();
        let said = said.map_or(MediaSecurity::Absent, |offer| media_plan::offered(offer, entry.dialect));
        let ip_gateway = if side == self.um_side() { None } else { self.gateway_of(entry) };
        let decision = self.decide_newcomer(side, entry, ip_gateway, said)?;
        let MediaState::Ready(current) = &self.media else {
            return Err(Refusal::new(codes::INTERNAL, who, "media is gone").into());
        };
        let mut media = Box::new(current.fork(side, &mut cx.keys));
        media.speaks(side, &entry.leg_peer());
        let late = if offer.is_some() { Late::No } else { Late::Yes };
        let made = match offer {
            Some(offer) => media.relay_offer(side, offer, &decision, &mut cx.keys),
            None => media.own_offer(!side, &decision, &mut cx.keys),
        };
        let made = made.map_err(|fault| media_refusal(&fault, who))?;
        let leg = Leg {
            peer: entry.leg_peer(),
            flow: Some(entry.flow),
            call_id: invite.call_id_bytes(),
            tag,
            contact: cx.contact(entry.transport, entry.flow.via_port),
            dialog: Some(dialog),
            session: Session::default(),
            recovery: Recovery::No,
        };
        let comer = TakeOver { leg, server: key, invite: invite.clone(), late, ip_gateway };
        self.begin_exchange(cx, now, side, media, made, Coming::Caller(Box::new(comer)))
            .map_err(|_| Hindrance::Busy)?;
        cx.invites.insert(key, self.key);
        self.invites.push(key);
        cx.timers.set(self.key, CallTimer::Transfer, now + TAKE_OVER_MAX);
        cx.count("replaces_begun");
        Ok(())
    }

    /// The pairing is a new one: another gateway, perhaps another protection.
    fn decide_newcomer(
        &self,
        side: Side,
        entry: &FlowEntry,
        ip_gateway: Option<usize>,
        media: MediaSecurity,
    ) -> Result<security::Decision, Refusal> {
        let said = Said {
            transport: if entry.transport.is_secure() { Signalling::MutualTls } else { Signalling::Plain },
            media,
            direction: if self.is_um(side) { Direction::FromServer } else { Direction::FromGateway },
            phase: Phase::Offer,
        };
        let gateway = ip_gateway.unwrap_or(self.route.ip_gateway);
        let question = Question::of(&self.policy, gateway, self.route.dial_plan, said);
        let Some(mut question) = question else {
            return Err(Refusal::new(codes::INTERNAL, &entry.name, "the call's dial plan is gone"));
        };
        question.parties.server = &entry.name;
        security::decide(&question).map(|decision| self.as_paired(decision))
    }

    /// Whether that flow may speak for the dialog of `side`.
    pub fn is_spoken_for(&self, side: Side, entry: &FlowEntry) -> bool {
        let plan_index = self.route.dial_plan;
        let Some(plan) = self.policy.dial_plans.get(plan_index) else { return false };
        let is_owner = self.leg(side).peer.owns(entry);
        let is_of_plan = match (side == self.um_side(), entry.peer) {
            (false, Some(Peer::IpGateway(_))) => self.gateway_of(entry).is_some_and(|index| {
                let groups = &self.policy.hunt_groups;
                groups.iter().any(|group| group.ip_gateway == index && group.dial_plan == plan_index)
            }),
            (true, Some(Peer::Server(ServerRole::Mailbox, _))) => {
                let mut servers =
                    plan.mailbox_servers.iter().filter_map(|i| self.policy.mailbox_servers.get(*i));
                servers.any(|server| entry.is_named(&server.name))
            }
            _ => false,
        };
        match plan.transfers.replaces {
            ReplacesRule::SamePeer => is_owner,
            ReplacesRule::SamePlan => is_owner || is_of_plan,
            ReplacesRule::Refuse => false,
        }
    }

    // By name: the call keeps its policy, the flow is tied to the present one.
    fn gateway_of(&self, entry: &FlowEntry) -> Option<usize> {
        let is_it = |name: &str| name.eq_ignore_ascii_case(&entry.name);
        self.policy.ip_gateways.iter().position(|g| is_it(&g.name) || is_it(&g.address.to_string()))
    }

    /// The dialog of `side` and our Contact there, for a Replaces that names the other side's.
    pub fn end_of(&self, side: Side) -> Option<(&Dialog, &[u8])> {
        let leg = self.leg(side);
        leg.dialog.as_ref().map(|dialog| (dialog, &leg.contact[..]))
    }
}

/// The one Replaces of an INVITE (RFC 3891 §3).
pub(crate) fn replaces_of(invite: &Message, who: &str) -> Result<sip::Replaces, Refusal> {
    let malformed = |what: &str| Refusal::new(codes::REPLACES_MALFORMED, who, what);
    let mut values = invite.values_bytes(HeaderId::Replaces);
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(malformed("more than one Replaces"));
    };
    if invite.header(HeaderId::Join).is_some() {
        return Err(malformed("Replaces and Join in one INVITE"));
    }
    sip::Replaces::parse(&value).map_err(|_| malformed("Replaces is malformed"))
}
