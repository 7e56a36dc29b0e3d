//! One call: two legs, one state, one record. Owns the states and what each of them carries; the
//! steps stand in the modules below, one per stage of a call's life. Refuses to know other calls.
//!
//! ```text
//! AwaitingMedia ─► Dialing ─► Ringing ─► (Held) ─► Answering ─► Established ⇄ Renegotiating, Transferring
//!       │             │          │         │           │             │              │
//!       └─────────────┴──────────┴─────────┴───────────┴──► Ending ◄─┴──────────────┘ ─► Ended
//! ```

pub(crate) mod answer;
mod dial;
mod digits;
mod early;
mod end;
mod facts;
mod failover;
pub(crate) mod forks;
mod indialog;
mod out;
pub(crate) mod progress;
mod recovery;
mod reliable;
mod renegotiate;
mod reoffer;
pub(crate) mod reroute;
mod session;
pub(crate) mod story;
pub(crate) mod transfer;
mod waiting;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use relay::Side;
use sip::Message;
use sip::endpoint::{ClientKey, OutgoingRequest, ServerKey};

use crate::engine::core::{Answer, Core, DialogId};
use crate::engine::gate::Seat;
use crate::engine::users::LegFlows;
use crate::engine::{CallKey, CallTimer, ConnectKey, MediaCommand, MediaPorts, Output, QueryKey};
use crate::headers::{self, HeaderPolicy};
use crate::leg::Leg;
use crate::media_plan::{CallMedia, Exchange};
use crate::policy::{MediaMode, Policy};
use crate::quirks::Quirk;
use crate::redirect::Hop;
use crate::route::Route;
use crate::security::Decision;
use early::EarlyOffer;
use forks::Forks;
use progress::Progress;
pub(crate) use recovery::Recovery;
use renegotiate::Withdrawn;
use reoffer::Reoffer;
use story::Story;
use transfer::Transfer;
use transfer::exchange::LegExchange;
use waiting::Waiting;

/// In-dialog requests under way at once in one call.
const RELAYED_MAX: usize = 16;

/// One call.
pub(crate) struct Call {
    pub key: CallKey,
    /// The policy it started with.
    pub policy: Arc<Policy>,
    /// Its places in the counts of calls, free again when it goes.
    pub _seat: Seat,
    pub route: Arc<Route>,
    pub decision: Decision,
    /// The caller's INVITE, until both legs are up.
    pub invite: Message,
    pub invite_key: ServerKey,
    pub a: Leg,
    pub b: Leg,
    /// The flows of both, as the engine's index has them.
    pub spoken: LegFlows,
    pub media: MediaState,
    /// Header set of leg B, the same on every hop and server.
    pub b_set: Bytes,
    /// CSeq of the last INVITE on leg B before there is a dialog.
    pub b_cseq: u32,
    pub trail: Trail,
    pub state: State,
    pub relayed: Vec<Relayed>,
    pub transfer: Transfer,
    pub story: Story,
    /// Server transactions of INVITEs that this call answers.
    pub invites: Vec<ServerKey>,
    /// What the caller was told before the answer.
    pub progress: Progress,
    /// An UPDATE with an offer between the early dialogs.
    pub early_offer: Option<Box<EarlyOffer>>,
    /// A re-INVITE of our own toward the caller.
    pub reoffer: Option<Box<Reoffer>>,
}

/// Where a call stands.
pub(crate) enum State {
    /// Ports were asked for.
    AwaitingMedia,
    /// A server is being tried.
    Dialing(Box<Attempt>),
    /// A server rings (18x).
    Ringing(Box<Attempt>),
    /// Leg B is up; our 2xx waits for the PRACK of a reliable 18x (RFC 3262 §3).
    Held,
    /// Our 2xx is out, its ACK is awaited; `offer` holds what an answer in the ACK belongs to.
    Answering { awaited: Awaited, offer: Option<Box<Exchange>> },
    /// Both legs are up.
    Established,
    /// An offer is on its way to the other leg.
    Renegotiating(Box<Renegotiation>),
    /// Another far end is about to take the place of a leg.
    Transferring(Box<LegExchange>),
    /// Our own re-INVITE refreshes the session of one leg.
    Refreshing(Box<Refreshing>),
    /// BYEs are out; `bye_on_ack` waits for an ACK before it gets its own (RFC 3261 §15).
    Ending { open: usize, bye_on_ack: Option<Box<HeldBye>> },
    /// Nothing is left to do.
    Ended,
}

impl State {
    pub fn name(&self) -> &'static str {
        match self {
            Self::AwaitingMedia => "awaiting media",
            Self::Dialing(_) => "dialing",
            Self::Ringing(_) => "ringing",
            Self::Held => "awaiting PRACK",
            Self::Answering { .. } => "answering",
            Self::Established => "established",
            Self::Renegotiating(_) => "renegotiating",
            Self::Transferring(_) => "transferring",
            Self::Refreshing(_) => "refreshing",
            Self::Ending { .. } => "ending",
            Self::Ended => "ended",
        }
    }
}

/// A 2xx of ours that waits for its ACK.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Awaited {
    /// Who has to send it.
    pub side: Side,
    /// The INVITE it belongs to.
    pub invite: ServerKey,
}

/// A BYE that waits for an ACK, with the lines it will carry.
pub(crate) struct HeldBye {
    pub awaited: Awaited,
    pub lines: Bytes,
}

/// Media of the call, as far as the shell has them.
pub(crate) enum MediaState {
    /// Asked for, with the caller's offer if it brought one.
    Asked(Option<Box<sdp::Session>>),
    /// Reserved.
    Ready(Box<CallMedia>),
    /// Given back.
    Released,
}

/// Where the call has been.
#[derive(Default)]
pub(crate) struct Trail {
    /// Servers chosen so far, by name.
    pub tried: Vec<String>,
    /// Places INVITEs went to, in the present attempt chain.
    pub visited: Vec<Hop>,
    /// All places together.
    pub targets: usize,
    /// The server that counts this call as its load.
    pub holding: Option<String>,
    /// The last thing that went wrong.
    pub failure: Option<crate::verdict::Refusal>,
    /// One line per thing that went wrong.
    pub evidence: Vec<String>,
    /// How long set-up may still take.
    pub budget: Budget,
}

/// The time for set-up. Ringing does not count, but has a limit of its own, all servers together.
#[derive(Copy, Clone, Default)]
pub(crate) struct Budget {
    /// When set-up must be over; `None` before it began and while a server rings.
    pub until: Option<Instant>,
    /// What is left of it while a server rings.
    pub left: std::time::Duration,
    /// When ringing must be over, from the first 18x on.
    pub rings_until: Option<Instant>,
}

/// An INVITE on its way to a server.
pub(crate) struct Attempt {
    /// Our offer to leg B.
    pub exchange: Exchange,
    pub offer: Bytes,
    /// The caller brought no offer.
    pub late: Late,
    pub hop: Hop,
    /// 3xx followed since the server was chosen.
    pub redirects: usize,
    /// Contacts not tried yet, of every 3xx since the server was chosen (RFC 3261 §8.1.3.4), newest first, each with the 3xx that led to it.
    pub alternatives: Vec<(Hop, usize)>,
    pub step: Step,
    /// The early dialogs of its INVITE.
    pub forks: Forks,
}

/// Whether the caller's INVITE brought an offer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Late {
    /// It did.
    No,
    /// The answer will come in the ACK.
    Yes,
}

/// What an attempt waits for.
pub(crate) enum Step {
    /// Nothing yet.
    Start,
    /// An address.
    Resolving(QueryKey),
    /// A connection; other addresses of the same server are left.
    Connecting { key: ConnectKey, rest: Vec<std::net::SocketAddr> },
    /// An answer.
    Inviting { client: ClientKey, request: Box<OutgoingRequest> },
}

/// An offer inside the call on its way to the other leg.
pub(crate) struct Renegotiation {
    /// Who asked.
    pub from: Side,
    pub request: Message,
    pub server: ServerKey,
    pub client: ClientKey,
    /// What goes to the other leg.
    pub offer: Bytes,
    pub exchange: Exchange,
    pub late: Late,
    pub withdrawn: Withdrawn,
    pub waiting: Waiting,
}

/// A re-INVITE of our own that repeats what `side` was told last.
pub(crate) struct Refreshing {
    pub side: Side,
    pub client: ClientKey,
    pub exchange: Exchange,
}

/// An in-dialog request on its way to the other leg.
pub(crate) struct Relayed {
    pub client: ClientKey,
    pub server: ServerKey,
    pub from: Side,
    pub request: Message,
    /// Whether it waits, or has waited, for a new route set.
    pub recovery: Recovery,
}

impl Call {
    pub fn leg(&self, side: Side) -> &Leg {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }

    pub fn leg_mut(&mut self, side: Side) -> &mut Leg {
        match side {
            Side::A => &mut self.a,
            Side::B => &mut self.b,
        }
    }

    /// Name of the dial plan.
    pub fn plan_name(&self) -> &str {
        self.policy.dial_plans.get(self.route.dial_plan).map_or("", |plan| &plan.name)
    }

    /// Starts: ports are asked for, the caller's dialog is known from now on.
    pub fn begin(&mut self, cx: &mut Core, now: Instant) {
        cx.dialogs.insert(self.dialog_id(Side::A), (self.key, Side::A));
        cx.invites.insert(self.invite_key, self.key);
        self.invites.push(self.invite_key);
        if self.route.is_out_call() {
            // UM counts its own calls too.
            self.hold(cx, &self.a.peer.name.clone());
        }
        if self.a.peer.dialect.has(Quirk::FirstProgress) {
            cx.timers.set(self.key, CallTimer::Progress, now + dial::progress_after(&self.policy));
        }
        if !self.has_own_media() {
            return self.on_media_ready(cx, now, Ok(MediaPorts::NONE));
        }
        cx.outputs.push_back(Output::Media(MediaCommand::Allocate { call: self.key }));
        cx.timers.set(self.key, CallTimer::MediaReady, now + dial::MEDIA_READY_MAX);
    }

    /// Both legs are up: what only setting up needed is forgotten, for a call may be held for hours.
    pub fn establish(&mut self) {
        self.invite = Message::default();
        self.b_set = Bytes::new();
        let holding = self.trail.holding.take();
        self.trail = Trail { holding, ..Trail::default() };
        self.state = State::Established;
    }

    /// Whether media passes through here.
    pub fn has_own_media(&self) -> bool {
        self.policy.gateway.media_mode == MediaMode::Anchored
    }

    pub fn dialog_id(&self, side: Side) -> DialogId {
        let leg = self.leg(side);
        DialogId { call_id: leg.call_id.clone(), tag: leg.tag.clone() }
    }

    /// Takes everything of this call out of the shared tables.
    pub fn forget(&mut self, cx: &mut Core) {
        debug_assert!(matches!(self.state, State::Ended), "only an ended call is forgotten");
        debug_assert!(matches!(self.media, MediaState::Released), "media outlived its call");
        debug_assert!(self.trail.holding.is_none(), "an ended call still counts as a server's load");
        cx.timers.clear_call(self.key);
        cx.parked.forget_call(self.key);
        cx.dialogs.remove(&self.dialog_id(Side::A));
        cx.dialogs.remove(&self.dialog_id(Side::B));
        for key in self.invites.drain(..) {
            cx.invites.remove(&key);
        }
    }

    /// Header lines that go with a request of `from` to the other leg.
    pub fn request_lines(&self, cx: &mut Core, request: &Message, from: Side) -> Bytes {
        cx.carried(headers::relayed_request_lines(request, &self.header_policy(), self.as_in_table(from)))
    }

    /// Header lines that go with a response of `from` to the other leg.
    pub fn response_lines(
        &self,
        cx: &mut Core,
        response: &Message,
        from: Side,
        body: headers::WithBody,
    ) -> Bytes {
        let from = self.as_in_table(from);
        cx.carried(headers::relayed_response_lines(response, &self.header_policy(), from, body))
    }

    /// Reason lines of a CANCEL or BYE of `from` for ours on the other leg.
    pub(super) fn reason_lines(&self, message: &Message, from: Side) -> Bytes {
        headers::reason_lines(message, &self.header_policy(), self.as_in_table(from))
    }

    fn header_policy(&self) -> HeaderPolicy<'_> {
        let um = self.um_side();
        let dialect = |side| self.leg(side).peer.dialect;
        HeaderPolicy::for_peers(&self.policy.headers, dialect(!um), dialect(um))
    }

    // In the header table UM is leg B, whoever called.
    fn as_in_table(&self, side: Side) -> Side {
        if side == self.um_side() { Side::B } else { Side::A }
    }

    /// Takes the state out to move its content; the caller puts the next one in.
    pub fn take_state(&mut self) -> State {
        std::mem::replace(&mut self.state, State::Ended)
    }

    /// Answers the caller's INVITE in its early dialog.
    pub fn answer_caller(&mut self, cx: &mut Core, now: Instant, answer: Answer<'_>) {
        let answer = Answer { tag: Some(&self.a.tag), ..answer };
        cx.respond(now, self.invite_key, &self.invite, &answer);
        let status = answer.status;
        self.note_answered(cx, status);
    }

    /// Tells the relay what was settled.
    pub fn apply_media(&self, cx: &mut Core) {
        if let MediaState::Ready(media) = &self.media
            && let Some(plan) = media.plan()
        {
            cx.outputs.push_back(Output::Media(MediaCommand::Apply { call: self.key, plan: Box::new(plan) }));
        }
    }
}
