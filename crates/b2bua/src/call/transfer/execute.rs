//! A REFER of UM carried out here: the target is called as a third leg toward the call's UM IP gateway, and put into
//! the place of UM when it answers. Until then nothing about the call changes; UM hears of it by NOTIFY. Owns the third
//! leg and its budgets, one at a time; how it takes its place stands in `exchange`.
//!
//! ```text
//!  Connecting ─► Calling ─► Answered ─► (exchange) ─► leg B
//!       └───────────┴───────────┴─────► NOTIFY with the failure; UM goes on, or the caller, left alone, gets BYE
//! ```

use std::time::{Duration, Instant};

use bytes::Bytes;
use relay::Side;
use sip::endpoint::{ClientKey, OutgoingRequest, ServerKey};
use sip::{Dialog, HeaderId, Message, Method, NameAddr, Scheme};

use super::exchange::Coming;
use super::notify::{Listener, Wish, says_false};
use super::rewrite::{self, Asked, Counterpart};
use super::{Call, State, purpose, say_goodbye};
use crate::call::MediaState;
use crate::call::answer::{answer_of, media_refusal};
use crate::call::session::{asking_lines, granted_lines};
use crate::call::story::{Missed, Outcome};
use crate::codes;
use crate::engine::core::{Answer, Core, DialogId};
use crate::engine::flows::FlowEntry;
use crate::engine::{CallTimer, ConnectKey, Output};
use crate::headers::{ALLOW, Block};
use crate::leg::Leg;
use crate::media_plan::{self, CallMedia};
use crate::policy::SessionRules;
use crate::record::OfferResult;
use crate::redirect::CONTACTS_MAX;
use crate::security::{MediaSecurity, Phase, Signalling};
use crate::verdict::{Refusal, Verdict};

/// From REFER until the target must have answered.
const TRANSFER_MAX: Duration = Duration::from_secs(60);
/// Between two looks whether the caller's leg is free for a re-INVITE, at most.
const JOIN_RETRY_MS_MAX: u32 = 2000;

/// A transfer that is being carried out.
pub(super) struct Executed {
    pub listener: Listener,
    /// The leg to the target; its dialog as soon as the target answered.
    pub leg: Leg,
    /// Media between caller and target; lent while the legs are exchanged.
    pub media: Option<Box<CallMedia>>,
    offer: (Bytes, media_plan::Exchange),
    /// Header set of the INVITE but CSeq and session timer.
    set: Bytes,
    /// Request-URI: the Refer-To, or the Contact of a 3xx.
    pub uri: Bytes,
    visited: Vec<Bytes>,
    cseq: u32,
    step: Step,
    deadline: Instant,
    /// 491s of the caller's leg.
    pub glares: u32,
}

enum Step {
    Connecting(ConnectKey),
    Calling { client: ClientKey, request: Box<OutgoingRequest> },
    Answered,
}

impl Executed {
    pub fn is_calling(&self, client: ClientKey) -> bool {
        matches!(&self.step, Step::Calling { client: own, .. } if *own == client)
    }

    /// The target keeps its session alive while it waits for its place (RFC 4028 §9).
    fn answer_refresh(
        &mut self,
        cx: &mut Core,
        now: Instant,
        key: ServerKey,
        update: &Message,
        rules: &SessionRules,
    ) {
        if let Some(dialog) = &mut self.leg.dialog {
            dialog.refresh_target(update);
        }
        let granted = self.leg.session.grant(now, update, rules);
        let contact = String::from_utf8_lossy(&self.leg.contact).into_owned();
        let own = granted_lines(update, granted, rules);
        let mut lines = vec![(HeaderId::Contact, contact.as_str()), (HeaderId::Allow, ALLOW)];
        lines.extend(own.iter().map(|(id, value)| (*id, value.as_str())));
        cx.respond(now, key, update, &Answer { lines: &lines, ..Answer::of(200) });
    }

    fn dialog_id(&self) -> DialogId {
        DialogId { call_id: self.leg.call_id.clone(), tag: self.leg.tag.clone() }
    }
}

impl Call {
    /// Begins: 202, NOTIFY 100, and the way to the target.
    pub(super) fn execute(
        &mut self,
        cx: &mut Core,
        now: Instant,
        (key, refer): (ServerKey, &Message),
        asked: &Asked,
        counterpart: Option<&Counterpart>,
        is_first: bool,
    ) {
        if self.transfer.executed.is_some() {
            let refusal =
                Refusal::new(codes::GLARE, &self.b.peer.name, "a transfer is being carried out already");
            return cx.refuse(now, key, refer, &refusal, None);
        }
        let begun = self.begun(cx, now, refer, asked, counterpart, is_first);
        let executed = match begun {
            Ok(executed) => executed,
            Err(refusal) => {
                cx.count("refers_refused");
                return cx.refuse(now, key, refer, &refusal, None);
            }
        };
        let contact = self.contact_text(Side::B);
        let mut lines = vec![(HeaderId::Contact, contact.as_str())];
        if executed.listener.wish == Wish::Deaf {
            lines.push((HeaderId::ReferSub, "false"));
        }
        let block = self.refer_warning(Side::B, refer);
        cx.respond(now, key, refer, &Answer { lines: &lines, block: &block, ..Answer::of(202) });
        cx.count("transfers_begun");
        cx.timers.set(self.key, CallTimer::Transfer, executed.deadline);
        self.transfer.executed = Some(Box::new(executed));
        let state = format!("active;expires={}", TRANSFER_MAX.as_secs());
        self.tell_referrer(cx, now, "SIP/2.0 100 Trying", &state);
        self.connect_target(cx, now);
    }

    fn begun(
        &mut self,
        cx: &mut Core,
        now: Instant,
        refer: &Message,
        asked: &Asked,
        counterpart: Option<&Counterpart>,
        is_first: bool,
    ) -> Result<Executed, Refusal> {
        let uri = self.target_uri(asked, counterpart)?;
        let decision =
            self.decide_target(MediaSecurity::Absent, Phase::Offer, self.decision.b_transport())?;
        let MediaState::Ready(current) = &self.media else {
            return Err(Refusal::new(codes::INTERNAL, &self.policy.gateway.fqdn, "media is gone"));
        };
        let mut media = Box::new(current.fork(Side::B, &mut cx.keys));
        media.speaks(Side::B, &self.a.peer);
        let offer = media
            .own_offer(Side::B, &decision, &mut cx.keys)
            .map_err(|fault| media_refusal(&fault, &self.a.peer.name))?;
        let leg = self.third_leg(cx);
        let set = self.third_set(cx, refer, &leg, &uri, counterpart, asked);
        let is_deaf = refer.header(HeaderId::ReferSub).is_some_and(says_false);
        Ok(Executed {
            listener: Listener {
                id: Some(refer.cseq().number).filter(|_| !is_first),
                parted: None,
                wish: if is_deaf { Wish::Deaf } else { Wish::Hears },
            },
            leg,
            media: Some(media),
            offer,
            set,
            visited: vec![uri.clone()],
            uri,
            cseq: 0,
            step: Step::Answered,
            deadline: now + TRANSFER_MAX,
            glares: 0,
        })
    }

    /// A connection to the gateway's configured place; without one, the caller's own.
    fn connect_target(&mut self, cx: &mut Core, now: Instant) {
        let target = self.target_place();
        let own_flow = self.a.flow;
        let Some(executed) = &mut self.transfer.executed else { return };
        match (target, own_flow) {
            (Some(target), _) => {
                let key = cx.connect_key();
                cx.connects.insert(key, (self.key, target.name.clone()));
                executed.step = Step::Connecting(key);
                cx.outputs.push_back(Output::Connect { connect: key, target });
            }
            (None, Some(flow)) => {
                executed.leg.flow = Some(flow);
                self.call_target(cx, now);
            }
            (None, None) => self.fail_execution(cx, now, 503, None),
        }
    }

    /// The connection is there; false when it was not asked for here.
    pub fn on_transfer_connected(
        &mut self,
        cx: &mut Core,
        now: Instant,
        connect: ConnectKey,
        entry: &FlowEntry,
    ) -> bool {
        let Some(executed) = &mut self.transfer.executed else { return false };
        if !matches!(executed.step, Step::Connecting(key) if key == connect) {
            return false;
        }
        executed.leg.peer = entry.leg_peer();
        if let Some(media) = &mut executed.media {
            media.speaks(Side::B, &executed.leg.peer);
        }
        executed.leg.flow = Some(entry.flow);
        self.call_target(cx, now);
        true
    }

    /// No connection; false when it was not asked for here.
    pub fn on_transfer_unconnected(&mut self, cx: &mut Core, now: Instant, connect: ConnectKey) -> bool {
        let is_ours = self.transfer.executed.as_ref();
        if !is_ours.is_some_and(|executed| matches!(executed.step, Step::Connecting(key) if key == connect)) {
            return false;
        }
        self.fail_execution(cx, now, 503, None);
        true
    }

    fn call_target(&mut self, cx: &mut Core, now: Instant) {
        let (purpose, rules) = (purpose(self), self.policy.session);
        let Some(executed) = &mut self.transfer.executed else { return };
        let Some(flow) = executed.leg.flow else { return };
        executed.cseq += 1;
        let mut own = Block::default();
        own.header(HeaderId::CSeq, format!("{} INVITE", executed.cseq));
        for (id, value) in asking_lines(&executed.leg.session, &rules) {
            own.header(id, value);
        }
        let request = OutgoingRequest {
            method: Method::Invite,
            uri: executed.uri.clone(),
            headers: [&executed.set[..], &own.finish()].concat().into(),
            content_type: Some(Bytes::from_static(b"application/sdp")),
            body: executed.offer.0.clone(),
        };
        match cx.send(now, &flow, request.clone(), purpose) {
            Some(client) => executed.step = Step::Calling { client, request: Box::new(request) },
            None => {
                executed.step = Step::Answered;
                self.fail_execution(cx, now, 503, None);
            }
        }
    }

    /// The target speaks.
    pub(super) fn on_target_response(&mut self, cx: &mut Core, now: Instant, response: &Message) {
        let Some(status) = response.status().filter(|status| status.is_final()) else { return };
        let Some(executed) = &mut self.transfer.executed else { return };
        let Step::Calling { client, request } = std::mem::replace(&mut executed.step, Step::Answered) else {
            return;
        };
        cx.clients.remove(&client);
        if status.is_redirect() && self.follow(response) {
            return self.call_target(cx, now);
        }
        // RFC 4028 §7.3: asked once more with the interval it wants.
        if status.code() == 422 && self.raises_target(response) {
            return self.call_target(cx, now);
        }
        if !status.is_success() {
            return self.fail_execution(cx, now, status.code(), Some(response));
        }
        match Dialog::uac(&request, response) {
            Ok(dialog) => self.on_target_answer(cx, now, dialog, response),
            Err(_) => self.fail_execution(cx, now, 502, None),
        }
    }

    fn raises_target(&mut self, response: &Message) -> bool {
        let rules = self.policy.session;
        let executed = self.transfer.executed.as_mut();
        executed.is_some_and(|executed| executed.leg.session.raise(response, &rules))
    }

    /// RFC 3261 §8.1.3.4, within the budget of every redirect here: another Request-URI, never another place.
    fn follow(&mut self, response: &Message) -> bool {
        let hops_max = self.policy.routing.redirect_hops_max;
        let is_tls = self.b_transport().is_secure();
        let Some(executed) = &mut self.transfer.executed else { return false };
        let Ok(mut contacts) = response.contacts() else { return false };
        contacts.truncate(CONTACTS_MAX);
        contacts.sort_by_key(|contact| std::cmp::Reverse(contact.q().unwrap_or(1000)));
        let is_callable = |contact: &NameAddr| match contact.uri.scheme() {
            Scheme::Sip | Scheme::Tel => true,
            Scheme::Sips => is_tls,
            Scheme::Other => false,
        };
        let uris = contacts.iter().filter(|contact| is_callable(contact));
        let mut uris = uris.map(|contact| rewrite::without_headers(&contact.uri));
        let next = uris.find(|uri| !executed.visited.contains(uri));
        match next.filter(|_| executed.visited.len() <= hops_max) {
            Some(uri) => {
                executed.visited.push(uri.clone());
                executed.uri = uri;
                true
            }
            None => false,
        }
    }

    fn on_target_answer(&mut self, cx: &mut Core, now: Instant, dialog: Dialog, response: &Message) {
        let Some(executed) = &mut self.transfer.executed else { return };
        if let (Ok(ack), Some(flow)) = (dialog.ack(response.cseq().number).finish(), executed.leg.flow) {
            cx.endpoint.send_ack(now, &flow, ack);
        }
        executed.leg.dialog = Some(dialog);
        // Its interval runs from here; the timer that watches it is leg B's, once it is in that place.
        executed.leg.session.agree(now, response);
        cx.dialogs.insert(executed.dialog_id(), (self.key, Side::B));
        match self.judged_target(response) {
            Ok(()) => self.join(cx, now),
            Err(refusal) => {
                let status = refusal.code().entry().sip.map_or(500, |(status, _)| status);
                self.fail_execution(cx, now, status, None);
            }
        }
    }

    fn judged_target(&mut self, response: &Message) -> Result<(), Refusal> {
        let Some(executed) = &self.transfer.executed else { return Ok(()) };
        let who = executed.leg.peer.name.clone();
        let is_tls = executed.leg.flow.is_some_and(|flow| flow.transport.is_secure());
        let answer = answer_of(response, &who)?;
        let transport = if is_tls { Signalling::MutualTls } else { Signalling::Plain };
        self.decide_target(media_plan::said(&answer), Phase::Answer, transport)?;
        let Some(executed) = &mut self.transfer.executed else { return Ok(()) };
        let Some(media) = &mut executed.media else { return Ok(()) };
        media.settle_answer(&executed.offer.1, answer).map_err(|fault| media_refusal(&fault, &who))
    }

    /// The target is there: the caller is offered its media, as soon as no other offer is open.
    fn join(&mut self, cx: &mut Core, now: Instant) {
        if !matches!(self.state, State::Established) || self.reoffer.is_some() {
            return self.wait_to_join(cx, now);
        }
        match self.offer_to_caller(cx) {
            Ok((media, offer)) => {
                let begun = self.begin_exchange(cx, now, Side::B, media, offer, Coming::Target);
                if begun.is_err() {
                    self.fail_execution(cx, now, 503, None);
                }
            }
            Err(refusal) => {
                let status = refusal.code().entry().sip.map_or(500, |(status, _)| status);
                self.fail_execution(cx, now, status, None);
            }
        }
    }

    #[allow(clippy::type_complexity)]
    fn offer_to_caller(
        &mut self,
        cx: &mut Core,
    ) -> Result<(Box<CallMedia>, (Bytes, media_plan::Exchange)), Refusal> {
        let decision =
            self.decide_target(MediaSecurity::Absent, Phase::ReOffer, self.decision.b_transport())?;
        let lost = || Refusal::new(codes::INTERNAL, "gateway", "media is gone");
        let MediaState::Ready(current) = &self.media else { return Err(lost()) };
        let mut media = self.transfer.executed.as_mut().and_then(|e| e.media.take()).ok_or_else(lost)?;
        // The caller may have moved since the target was called.
        media.adopt(Side::A, current);
        let offer = media
            .own_offer(Side::A, &decision, &mut cx.keys)
            .map_err(|fault| media_refusal(&fault, &self.a.peer.name))?;
        Ok((media, offer))
    }

    /// Looks again after a random while (RFC 3261 §14.1), or at the end of the budget.
    pub(super) fn wait_to_join(&mut self, cx: &mut Core, now: Instant) {
        let Some(executed) = &self.transfer.executed else { return };
        let wait = Duration::from_millis(u64::from(cx.keys.below(JOIN_RETRY_MS_MAX).max(10)));
        cx.timers.set(self.key, CallTimer::Transfer, executed.deadline.min(now + wait));
    }

    /// The budget is over, or the caller's leg may be free now.
    pub(super) fn on_execution_due(&mut self, cx: &mut Core, now: Instant) {
        let Some(executed) = &self.transfer.executed else { return };
        if executed.deadline <= now {
            return self.fail_execution(cx, now, 408, None);
        }
        if matches!(executed.step, Step::Answered) {
            cx.timers.set(self.key, CallTimer::Transfer, executed.deadline);
            self.join(cx, now);
        }
    }

    /// A request of the target, which has no place in the call yet.
    pub(in crate::call) fn on_target_request(
        &mut self,
        cx: &mut Core,
        now: Instant,
        key: ServerKey,
        request: &Message,
    ) {
        let rules = self.policy.session;
        let is_too_small = self.refuses_interval(request);
        let Some(executed) = &mut self.transfer.executed else { return };
        let in_order =
            executed.leg.dialog.as_mut().is_some_and(|dialog| dialog.accept_request(request).is_ok());
        match request.method() {
            _ if !in_order => cx.respond_plain(now, key, request, 500, &[]),
            Method::Bye => {
                cx.respond_plain(now, key, request, 200, &[]);
                executed.leg.dialog = None;
                // While the legs are exchanged, the caller's answer decides.
                if !matches!(self.state, State::Transferring(_)) {
                    self.fail_execution(cx, now, 480, None);
                }
            }
            Method::Invite | Method::Update if is_too_small => {
                let least = rules.min_se_secs.to_string();
                cx.respond_plain(now, key, request, 422, &[(HeaderId::MinSe, &least)]);
            }
            Method::Update if request.body().is_empty() => {
                executed.answer_refresh(cx, now, key, request, &rules)
            }
            Method::Invite | Method::Update => cx.respond_plain(now, key, request, 491, &[]),
            _ => cx.respond_plain(now, key, request, 500, &[(HeaderId::RetryAfter, "1")]),
        }
    }

    /// The dialog of the third leg.
    pub fn target_dialog(&self) -> Option<&Dialog> {
        self.transfer.executed.as_ref().and_then(|executed| executed.leg.dialog.as_ref())
    }

    /// Whether a request came in it.
    pub fn is_of_target(&self, request: &Message) -> bool {
        let executed = self.transfer.executed.as_ref();
        executed.is_some_and(|executed| request.to_tag() == Some(&executed.leg.tag[..]))
    }

    /// UM, or whoever is replaced, said BYE before the other one is in its place.
    pub(super) fn part_with(&mut self, cx: &mut Core, side: Side) {
        let leg = self.leg_mut(side);
        leg.session.timer = None;
        let contact = leg.contact.clone();
        let parted = leg.dialog.take().zip(leg.flow.take()).map(|(dialog, flow)| (dialog, flow, contact));
        if let (Side::B, Some(executed)) = (side, &mut self.transfer.executed) {
            executed.listener.parted = parted;
        }
        self.watch_session(cx, side);
        if side == self.um_side() {
            self.let_go(cx);
        }
        if let MediaState::Ready(media) = &mut self.media {
            media.silence(side);
        }
        self.apply_media(cx);
        cx.count("legs_gone_before_their_successor");
    }

    /// The target cannot be had: UM is told, and goes on with the caller if it is still there.
    pub(super) fn fail_execution(
        &mut self,
        cx: &mut Core,
        now: Instant,
        status: u16,
        response: Option<&Message>,
    ) {
        let reason = match (response, sip::StatusCode::new(status)) {
            (Some(response), _) => String::from_utf8_lossy(&response.reason()).into_owned(),
            (None, Some(status)) => status.default_reason().to_owned(),
            (None, None) => String::new(),
        };
        let reason = crate::verdict::clean(&reason);
        self.tell_referrer(cx, now, &format!("SIP/2.0 {status} {reason}"), "terminated;reason=noresource");
        self.forget_execution(cx, now);
        cx.count("transfers_failed");
        if self.b.dialog.is_some() {
            return;
        }
        let who = self.b.peer.name.clone();
        let what = format!("{who} hung up after its REFER, and the target answered {status} {reason}");
        let outcome = Outcome {
            verdict: Verdict::new(codes::TRANSFER_FAILED, &who, what),
            offer_result: OfferResult::Answer,
            drop_reason: "TransferFailed",
            missed: Missed::No,
        };
        let mut block = Block::default();
        // RFC 3326.
        block.header(HeaderId::Reason, format!("SIP;cause={status}"));
        self.hang_up(cx, now, outcome, &[Side::A], &block.finish());
    }

    /// The call ends while the target is being called.
    pub(super) fn drop_execution(&mut self, cx: &mut Core, now: Instant) {
        if self.transfer.executed.is_some() {
            self.tell_referrer(cx, now, "SIP/2.0 487 Request Terminated", "terminated;reason=noresource");
            self.forget_execution(cx, now);
            cx.count("transfers_failed");
        }
    }

    fn forget_execution(&mut self, cx: &mut Core, now: Instant) {
        cx.timers.clear(self.key, CallTimer::Transfer);
        let Some(mut executed) = self.transfer.executed.take() else { return };
        cx.dialogs.remove(&executed.dialog_id());
        match executed.step {
            Step::Connecting(key) => {
                cx.connects.remove(&key);
            }
            Step::Calling { client, .. } => self.take_back(cx, now, client),
            Step::Answered => say_goodbye(cx, now, &mut executed.leg),
        }
    }
}
