//! A leg whose connection is gone: what is to be sent on it goes to the next hop of its route set, responses to their
//! Via, and only to names of the leg's own peer. Owns when a leg is parked, adopted or given up; the queue stands in
//! `engine::parked`, the search for a connection in `engine::reach`.
//!
//! Who opened a connection makes it again: we do at once, by asking the peer whether it still knows the dialog; a peer
//! that opened its own has [`RECONNECT_WAIT`] to come back, unless something is to be sent before.

use std::time::{Duration, Instant};

use relay::Side;
use sip::endpoint::{Flow, ServerKey};
use sip::{FlowKey, Message, Method};

use super::{Call, State};
use crate::codes;
use crate::engine::core::{ClientUse, Core};
use crate::engine::flows::FlowEntry;
use crate::engine::parked::{Carries, Parked, is_parked};
use crate::engine::reach::Unreached;
use crate::engine::users::LegFlows;
use crate::engine::{CallTimer, Origin};
use crate::place::{Owner, Place, RouteFault};
use crate::policy::{Peer, Policy};
use crate::verdict::Refusal;

/// How long a peer may take to open its connection again before we do.
const RECONNECT_WAIT: Duration = Duration::from_secs(32);

impl Call {
    /// The flows of both legs.
    pub fn leg_flows(&self) -> LegFlows {
        [&self.a, &self.b].map(|leg| leg.flow.map(|flow| flow.key))
    }

    /// A flow of this call is gone: its legs wait on a stand-in.
    pub fn on_flow_down(&mut self, cx: &mut Core, now: Instant, lost: &FlowEntry) {
        for side in [Side::A, Side::B] {
            let Some(flow) = self.leg(side).flow.filter(|flow| flow.key == lost.flow.key) else { continue };
            if side == Side::B && self.is_being_set_up() {
                // Its transaction tells of the loss, and the next server is tried.
                self.leg_mut(side).flow = None;
                continue;
            }
            let parked = cx.parked.park(&flow, self.key, side, Carries::Requests);
            self.leg_mut(side).flow = Some(parked);
            match lost.origin {
                Origin::Outbound(_) => self.ask_whether_known(cx, now, side),
                Origin::Inbound if self.is_up() => {
                    cx.timers.set(self.key, CallTimer::Reconnect, now + RECONNECT_WAIT);
                }
                Origin::Inbound => {}
            }
        }
    }

    /// The peer has had its time to come back.
    pub fn on_reconnect_due(&mut self, cx: &mut Core, now: Instant) {
        for side in [Side::A, Side::B] {
            if self.leg(side).flow.is_some_and(|flow| is_parked(flow.key)) {
                self.ask_whether_known(cx, now, side);
            }
        }
    }

    fn ask_whether_known(&mut self, cx: &mut Core, now: Instant, side: Side) {
        let call = self.key;
        if !self.is_up() {
            return;
        }
        let leg = self.leg_mut(side);
        let (Some(dialog), Some(flow)) = (&mut leg.dialog, leg.flow) else { return };
        if let Ok(request) = dialog.request(Method::Options).finish() {
            cx.send(now, &flow, request, ClientUse::Probe(call, side));
        }
    }

    /// The answer, or `None` for silence: a far end that was restarted says 481, and the call ends (RFC 3261 §12.2.1.2).
    pub fn on_probed(&mut self, cx: &mut Core, now: Instant, side: Side, status: Option<u16>) {
        if matches!(status, None | Some(408 | 481)) {
            let who = self.leg(side).peer.name.clone();
            let refusal =
                Refusal::new(codes::SESSION_EXPIRED, &who, format!("{who} no longer knows the call"));
            self.terminate(cx, now, &refusal, "SessionExpired");
        }
    }

    /// The answer to an INVITE whose connection is gone goes to the Via (RFC 3261 §18.2.2).
    pub fn park_answer(&mut self, cx: &mut Core, invite: ServerKey, lost: &Flow) {
        if let Some(side) = self.side_of(invite) {
            let parked = cx.parked.park(lost, self.key, side, Carries::Responses);
            cx.endpoint.move_server(invite, &parked);
        }
    }

    // Whose INVITE still waits for an answer of ours or for its ACK.
    fn side_of(&self, invite: ServerKey) -> Option<Side> {
        match &self.state {
            State::Renegotiating(open) if open.server == invite => Some(open.from),
            State::Answering { awaited, .. } if awaited.invite == invite => Some(awaited.side),
            State::AwaitingMedia | State::Dialing(_) | State::Ringing(_) | State::Held
                if invite == self.invite_key =>
            {
                Some(Side::A)
            }
            _ => None,
        }
    }

    /// The next hop of a message on a parked flow, and the peer it belongs to now.
    pub fn heading(
        &self,
        policy: &Policy,
        parked: &Parked,
        message: &Message,
    ) -> Result<(Peer, Place), RouteFault> {
        let leg = self.leg(parked.side);
        let who = &leg.peer.name;
        let peer = policy.peer_called(who).ok_or_else(|| RouteFault::Foreign(who.clone()))?;
        let lost = &parked.lost;
        let owner = Owner { policy, peer, seen_at: lost.remote.ip(), transport: lost.transport };
        let place = match (parked.carries, &leg.dialog) {
            (Carries::Responses, _) => owner.way_back(message),
            (Carries::Requests, Some(dialog)) => owner.next_hop(dialog),
            (Carries::Requests, None) => Err(RouteFault::Unreadable),
        };
        Ok((peer, place?))
    }

    /// A parked leg has a connection again.
    pub fn on_attached(&mut self, side: Side, parked: FlowKey, entry: &FlowEntry) {
        let leg = self.leg_mut(side);
        if leg.flow.is_some_and(|flow| flow.key == parked) {
            leg.flow = Some(entry.flow);
        }
    }

    /// The peer speaks in the dialog on another connection of its own: a parked leg goes on there.
    pub fn adopt(&mut self, cx: &mut Core, side: Side, entry: &FlowEntry) {
        let leg = self.leg_mut(side);
        let parked = leg.flow.filter(|flow| is_parked(flow.key) && flow.transport == entry.transport);
        if let Some(parked) = parked {
            leg.flow = Some(entry.flow);
            cx.attach_parked(parked.key, &entry.flow);
            cx.count("legs_moved_to_another_flow");
        }
    }

    /// There is no way to the peer: the call ends on the other leg too.
    pub fn on_unrouted(
        &mut self,
        cx: &mut Core,
        now: Instant,
        parked: &Parked,
        key: FlowKey,
        why: &Unreached,
    ) {
        let side = parked.side;
        let leg = self.leg_mut(side);
        if leg.flow.is_some_and(|flow| flow.key == key) {
            leg.flow = None;
        }
        let who = leg.peer.name.clone();
        let what = format!("the connection to {who} is gone: {}", why.what);
        let code = if why.is_route_fault() { why.code } else { codes::CONNECTION_LOST };
        let refusal = Refusal::new(code, &who, what);
        match &self.state {
            // A response that cannot be delivered ends a call that is not up; its transaction tells.
            _ if parked.carries == Carries::Requests => self.terminate(cx, now, &refusal, "ConnectionLost"),
            // Our 2xx cannot reach it, so its ACK will not come: that is not the peer's fault.
            State::Answering { awaited, .. } if awaited.side == side => {
                self.give_up_ack(cx, now, refusal.verdict, "ConnectionLost");
            }
            _ => {}
        }
    }

    fn is_being_set_up(&self) -> bool {
        matches!(self.state, State::AwaitingMedia | State::Dialing(_) | State::Ringing(_))
    }

    fn is_up(&self) -> bool {
        !self.is_being_set_up() && !matches!(self.state, State::Held | State::Ending { .. } | State::Ended)
    }
}
