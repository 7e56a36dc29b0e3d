//! Calls that change hands: REFER, its implicit subscription, and legs that are exchanged (RFC 3515, 3891, 3892, 4488).
//! Owns what a call remembers about transfers; its modules own one step each: `refer` decides, `rewrite` translates,
//! `notify` reports, `execute` calls the target as a third leg, `replaces` admits a new far end, `exchange` puts either
//! of them into a leg's place. Refuses to know other calls: what a Replaces names is looked up by the engine.
//!
//! ```text
//!  REFER ─► refer ─┬─ carried to the other leg ── NOTIFYs back ── notify
//!                  └─ execute: third leg ─┐
//!  INVITE with Replaces ─► replaces ──────┴─► exchange: re-INVITE to the leg that stays ─► the other leg is another one
//! ```

pub(super) mod exchange;
mod execute;
mod notify;
mod refer;
pub(crate) mod replaces;
pub(crate) mod rewrite;
mod target;

use std::time::{Duration, Instant};

use relay::Side;
use sip::endpoint::{ClientFailure, ClientKey, ServerKey};
use sip::{HeaderId, Message, Method};

use super::{Call, State};
use crate::engine::core::{ClientUse, Core};
use crate::leg::Leg;
use crate::security::Decision;
use execute::Executed;
use notify::Subscription;
pub(crate) use refer::Named;
pub(crate) use target::THIRD_LEG_MARK;

/// How long dialogs outlive BYE for the NOTIFYs of a REFER (RFC 5057 §4.1: the subscription is a usage of its own).
const NOTIFY_AFTER_BYE_MAX: Duration = Duration::from_secs(60);

/// What a call remembers about transfers.
#[derive(Default)]
pub(crate) struct Transfer {
    /// REFERs seen on leg A and on leg B.
    refers: (u32, u32),
    /// Implicit subscriptions that cross this gateway.
    subscriptions: Vec<Subscription>,
    /// The one REFER that is being carried out here.
    executed: Option<Box<Executed>>,
    /// Whose the leg of UM is now.
    far_end: FarEnd,
}

/// Whose the leg is that UM had at the beginning.
#[derive(Copy, Clone, Default, PartialEq, Eq)]
enum FarEnd {
    /// A UM server's, as every call begins.
    #[default]
    Server,
    /// A target of the UM IP gateway's side: UM handed the caller over.
    Gateway,
}

impl Call {
    /// The decision for the call as it stands: once UM has handed the caller over, both ends are the gateway's.
    pub(super) fn as_paired(&self, decision: Decision) -> Decision {
        match self.transfer.far_end {
            FarEnd::Server if self.route.is_out_call() => decision.placed_by_um(),
            FarEnd::Server => decision,
            FarEnd::Gateway => decision.between_gateways(),
        }
    }

    /// Whether that leg belongs to a UM server.
    pub(super) fn is_um(&self, side: Side) -> bool {
        side == self.um_side() && self.transfer.far_end == FarEnd::Server
    }

    /// Whether UM has the call at that server.
    pub(crate) fn is_um_at(&self, server: &str) -> bool {
        let side = self.um_side();
        self.is_um(side) && self.leg(side).peer.name.eq_ignore_ascii_case(server)
    }

    /// The side that UM has, or had before it handed the caller over.
    pub(crate) fn um_side(&self) -> Side {
        if self.route.is_out_call() { Side::A } else { Side::B }
    }

    /// The leg whose dialog has our `tag`: the third one, or that of `side`.
    pub fn leg_tagged(&self, side: Side, tag: &[u8]) -> &Leg {
        match &self.transfer.executed {
            Some(executed) if side == Side::B && executed.leg.tag == tag => &executed.leg,
            _ => self.leg(side),
        }
    }

    /// Takes requests that concern a transfer; false when it is none of them.
    pub(super) fn on_transfer_request(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        key: ServerKey,
        request: &Message,
    ) -> bool {
        let is_refer_event = notify::event_of(request).is_some();
        match request.method() {
            Method::Notify if is_refer_event => self.on_refer_notify(cx, now, side, key, request),
            Method::Subscribe if is_refer_event => self.on_refer_subscribe(cx, now, side, key, request),
            // RFC 3891 §3: Replaces belongs into an INVITE that begins a dialog.
            _ if request.header(HeaderId::Replaces).is_some() => {
                cx.respond_plain(now, key, request, 400, &[])
            }
            Method::Bye => return false,
            // RFC 3261 §14.2: an INVITE against ours gets 491 with or without an offer; RFC 3311 §5.2: an UPDATE with one.
            Method::Invite if !self.is_whole() => cx.respond_plain(now, key, request, 491, &[]),
            Method::Update if !self.is_whole() && !request.body().is_empty() => {
                cx.respond_plain(now, key, request, 491, &[]);
            }
            Method::Update => return false,
            _ if !self.is_whole() => cx.respond_plain(now, key, request, 500, &[(HeaderId::RetryAfter, "1")]),
            _ => return false,
        }
        true
    }

    // Not while a leg is exchanged, nor between the BYE of UM and the answer of the target.
    fn is_whole(&self) -> bool {
        let is_parted = self.transfer.executed.is_some() && self.b.dialog.is_none();
        !(is_parted || matches!(self.state, State::Transferring(_)))
    }

    /// A response to a request of a transfer.
    pub fn on_transfer_response(
        &mut self,
        cx: &mut Core,
        now: Instant,
        client: ClientKey,
        response: &Message,
    ) {
        if matches!(&self.state, State::Transferring(exchange) if exchange.client == client) {
            self.on_exchange_response(cx, now, response);
        } else if self.transfer.executed.as_ref().is_some_and(|executed| executed.is_calling(client)) {
            self.on_target_response(cx, now, response);
        } else {
            self.on_notified(response);
        }
    }

    /// A request of a transfer got no answer.
    pub fn on_transfer_failed(
        &mut self,
        cx: &mut Core,
        now: Instant,
        client: ClientKey,
        why: &ClientFailure,
    ) {
        let status = if matches!(why, ClientFailure::Timeout) { 408 } else { 503 };
        if matches!(&self.state, State::Transferring(exchange) if exchange.client == client) {
            self.on_exchange_refused(cx, now, status, None);
        } else if self.transfer.executed.as_ref().is_some_and(|executed| executed.is_calling(client)) {
            self.fail_execution(cx, now, status, None);
        }
    }

    /// The time of a transfer is over, or it is worth another look.
    pub(super) fn on_transfer_due(&mut self, cx: &mut Core, now: Instant) {
        match &self.state {
            // Its end comes as 487, as a time-out, or as a 2xx that was faster.
            State::Transferring(exchange) => cx.endpoint.cancel(now, exchange.client),
            _ => self.on_execution_due(cx, now),
        }
    }

    /// BYE of a leg that is about to be exchanged anyway: it leaves, the call stays. False when the BYE ends the call.
    pub(super) fn on_transfer_bye(&mut self, cx: &mut Core, from: Side) -> bool {
        let leaves = match &self.state {
            State::Transferring(exchange) => exchange.side == from,
            State::Refreshing(open) if open.side == from => false,
            State::Established | State::Renegotiating(_) | State::Refreshing(_) => {
                from == Side::B && self.transfer.executed.is_some()
            }
            _ => false,
        };
        if leaves {
            self.part_with(cx, from);
        }
        leaves
    }

    /// Withdraws what a transfer has open; the call is ending.
    pub(super) fn drop_transfer(&mut self, cx: &mut Core, now: Instant) {
        self.drop_exchange(cx, now);
        self.drop_execution(cx, now);
    }

    /// Ends a request of ours that nobody waits for any more.
    fn take_back(&self, cx: &mut Core, now: Instant, client: ClientKey) {
        cx.clients.remove(&client);
        cx.endpoint.cancel(now, client);
    }
}

/// BYE in the dialog of a leg that belongs to the call no longer; its answer concerns nobody.
fn say_goodbye(cx: &mut Core, now: Instant, leg: &mut Leg) {
    let (Some(dialog), Some(flow)) = (&mut leg.dialog, leg.flow) else { return };
    let sent = dialog.request(Method::Bye).finish().map(|bye| cx.endpoint.send_request(now, &flow, bye));
    if !matches!(sent, Ok(Ok(_))) {
        cx.count("requests_not_sent");
    }
    leg.dialog = None;
}

/// The purpose of every request of a transfer.
fn purpose(call: &Call) -> ClientUse {
    ClientUse::Transfer(call.key)
}
