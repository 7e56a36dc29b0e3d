//! How a call comes to its end, at every stage. Owns the one place where the record is written and
//! media and server are given back; afterwards only answers to BYE are awaited.

use std::time::{Duration, Instant};

use bytes::Bytes;
use relay::Side;
use sip::endpoint::ServerKey;
use sip::{HeaderId, Message, Method};

use super::story::{Missed, Outcome};
use super::{Call, HeldBye, MediaState, Relayed, State};
use crate::codes;
use crate::engine::core::{Answer, ClientUse, Core};
use crate::engine::{CallTimer, Event, MediaCommand, Output};
use crate::headers::Block;
use crate::record::{CallType, OfferResult};
use crate::verdict::{Refusal, Verdict};

/// BYE transactions end within 64*T1; what is left then is given up.
const ENDING_MAX: Duration = Duration::from_secs(40);

impl Call {
    /// Refuses the caller; nothing stays open.
    pub fn refuse(&mut self, cx: &mut Core, now: Instant, refusal: &Refusal, offer_result: OfferResult) {
        self.refuse_for(cx, now, refusal, offer_result, "Refused");
    }

    fn refuse_for(
        &mut self,
        cx: &mut Core,
        now: Instant,
        refusal: &Refusal,
        offer_result: OfferResult,
        drop_reason: &'static str,
    ) {
        cx.refuse(now, self.invite_key, &self.invite, refusal, Some(&self.a.tag));
        let verdict = refusal.verdict.clone();
        self.close(cx, now, Outcome { verdict, offer_result, drop_reason, missed: Missed::No });
    }

    /// The call is over and no leg is up.
    pub fn close(&mut self, cx: &mut Core, now: Instant, outcome: Outcome) {
        self.drop_pending(cx, now);
        self.account(cx, now, outcome);
        self.state = State::Ended;
    }

    /// The caller gave up: CANCEL, or BYE in the early dialog.
    pub fn on_cancel(&mut self, cx: &mut Core, now: Instant, why: &Message) {
        let reason = self.reason_lines(why, Side::A);
        match &self.state {
            State::AwaitingMedia | State::Held => {}
            State::Dialing(attempt) | State::Ringing(attempt) => self.withdraw(cx, now, attempt, &reason),
            // The 2xx was faster; the caller will ACK it and send BYE (RFC 3261 §9.2).
            _ => return,
        }
        self.answer_caller(cx, now, Answer::of(487));
        let who = self.a.peer.name.clone();
        let mut verdict =
            Verdict::new(codes::CALLER_GAVE_UP, &who, "the caller hung up before the call was answered");
        if let Some(reason) = why.header(HeaderId::Reason) {
            verdict = verdict.evidence(format!("Reason: {}", String::from_utf8_lossy(reason)));
        }
        let outcome = Outcome {
            verdict,
            offer_result: OfferResult::None,
            drop_reason: "CallerHungUp",
            missed: Missed::Yes,
        };
        if matches!(self.state, State::Held) {
            return self.hang_up(cx, now, outcome, &[Side::B], &reason);
        }
        self.close(cx, now, outcome);
    }

    /// BYE of one side.
    pub fn on_bye(&mut self, cx: &mut Core, now: Instant, from: Side, bye: &Message) {
        if matches!(self.state, State::AwaitingMedia | State::Dialing(_) | State::Ringing(_) | State::Held) {
            return match from {
                Side::A => self.on_cancel(cx, now, bye),
                Side::B => self.on_early_bye(cx, now, bye),
            };
        }
        if self.on_transfer_bye(cx, from) {
            return;
        }
        let who = self.leg(from).peer.name.clone();
        let mut verdict = Verdict::new(codes::COMPLETED, &who, format!("{who} hung up"));
        let mut block = Block::default();
        for header in bye.headers() {
            if matches!(header.id, HeaderId::Reason | HeaderId::MsDiagnostics | HeaderId::MsClientDiagnostics)
            {
                block.line(header.name, &header.value());
                verdict = verdict.evidence(String::from_utf8_lossy(header.raw));
            }
        }
        let outcome = Outcome {
            verdict,
            offer_result: OfferResult::Answer,
            drop_reason: match from {
                Side::A => "CallerHungUp",
                Side::B => "GracefulHangup",
            },
            missed: Missed::No,
        };
        match &mut self.state {
            // Whoever says BYE gets none of ours when its ACK comes.
            State::Ending { bye_on_ack, .. } => {
                bye_on_ack.take_if(|held| held.awaited.side == from);
                self.settle_ending(cx);
            }
            State::Ended => {}
            _ => self.hang_up(cx, now, outcome, &[!from], &block.finish()),
        }
    }

    // A server may end its early dialog with a final answer only; this one is confused.
    fn on_early_bye(&mut self, cx: &mut Core, now: Instant, bye: &Message) {
        let tag = bye.from_tag().unwrap_or_default();
        if self.forks_mut().is_some_and(|forks| forks.bury(tag)) {
            return cx.count("forks_that_said_bye");
        }
        if let State::Dialing(attempt) | State::Ringing(attempt) = &self.state {
            self.abandon(cx, now, attempt);
        }
        let who = self.b.peer.name.clone();
        let refusal =
            Refusal::new(codes::SERVER_FAILED, &who, format!("{who} sent BYE instead of answering"));
        self.refuse(cx, now, &refusal, OfferResult::Failed);
    }

    /// Ends an answered call on both legs.
    pub fn hang_up_both(&mut self, cx: &mut Core, now: Instant, verdict: Verdict, drop_reason: &'static str) {
        let outcome = Outcome { verdict, offer_result: OfferResult::Answer, drop_reason, missed: Missed::No };
        self.hang_up(cx, now, outcome, &[Side::A, Side::B], &Bytes::new());
    }

    /// Ends a call at whatever stage it is, from here.
    pub fn terminate(&mut self, cx: &mut Core, now: Instant, refusal: &Refusal, drop_reason: &'static str) {
        match &self.state {
            State::AwaitingMedia => self.refuse_for(cx, now, refusal, OfferResult::Failed, drop_reason),
            State::Held => self.refuse_answered(cx, now, refusal, drop_reason),
            State::Dialing(attempt) | State::Ringing(attempt) => {
                self.withdraw(cx, now, attempt, &cause_line(cx, refusal));
                self.refuse_for(cx, now, refusal, OfferResult::Failed, drop_reason);
            }
            State::Answering { .. }
            | State::Established
            | State::Renegotiating(_)
            | State::Refreshing(_)
            | State::Transferring(_) => {
                self.hang_up_both(cx, now, refusal.verdict.clone(), drop_reason);
            }
            State::Ending { .. } | State::Ended => {
                self.give_up_notifies(cx, now);
                self.settle_ending(cx);
            }
        }
    }

    /// BYE to the sides named; the record is written now.
    pub fn hang_up(&mut self, cx: &mut Core, now: Instant, outcome: Outcome, sides: &[Side], lines: &Bytes) {
        let awaited = match &self.state {
            State::Answering { awaited, .. } if sides.contains(&awaited.side) => Some(*awaited),
            _ => None,
        };
        self.drop_pending(cx, now);
        self.account(cx, now, outcome);
        let held = awaited.map(|awaited| Box::new(HeldBye { awaited, lines: lines.clone() }));
        self.state = State::Ending { open: 0, bye_on_ack: held };
        cx.timers.set(self.key, CallTimer::Ending, now + self.ending_max(ENDING_MAX));
        for side in sides {
            // RFC 3261 §15: no BYE on a dialog whose 2xx is not acknowledged yet.
            if awaited.is_none_or(|awaited| awaited.side != *side) {
                self.send_bye(cx, now, *side, lines);
            }
        }
        self.settle_ending(cx);
    }

    pub(crate) fn send_bye(&mut self, cx: &mut Core, now: Instant, side: Side, lines: &Bytes) {
        let key = self.key;
        let leg = self.leg_mut(side);
        let (Some(dialog), Some(flow)) = (&mut leg.dialog, leg.flow) else { return };
        let Ok(request) = dialog.request(Method::Bye).block(lines).finish() else {
            return cx.count("byes_not_built");
        };
        if cx.send(now, &flow, request, ClientUse::Bye(key)).is_some()
            && let State::Ending { open, .. } = &mut self.state
        {
            *open += 1;
        }
    }

    /// A BYE of ours was answered, or never will be.
    pub fn on_bye_done(&mut self, cx: &mut Core) {
        if let State::Ending { open, .. } = &mut self.state {
            *open = open.saturating_sub(1);
        }
        self.settle_ending(cx);
    }

    pub(super) fn settle_ending(&mut self, _cx: &mut Core) {
        if matches!(self.state, State::Ending { open: 0, bye_on_ack: None }) && !self.awaits_notify() {
            self.state = State::Ended;
        }
    }

    /// Nobody acknowledged our 2xx.
    pub fn on_ack_missing(&mut self, cx: &mut Core, now: Instant, invite: ServerKey) {
        match self.take_state() {
            State::Answering { awaited, .. } if awaited.invite == invite => {
                let who = self.leg(awaited.side).peer.name.clone();
                let verdict =
                    Verdict::new(codes::ACK_MISSING, &who, format!("{who} never acknowledged the 200"));
                self.give_up_ack(cx, now, verdict, "AckMissing");
            }
            other => {
                self.state = other;
                self.send_held_bye(cx, now, invite);
            }
        }
    }

    /// The wait for the ACK to our 2xx is over, so BYE may go out on this dialog too (RFC 3261 §13.3.1.4).
    pub(super) fn give_up_ack(
        &mut self,
        cx: &mut Core,
        now: Instant,
        verdict: Verdict,
        drop_reason: &'static str,
    ) {
        self.state = State::Established;
        self.hang_up_both(cx, now, verdict, drop_reason);
    }

    /// The wait for the ACK to this INVITE is over: the BYE that was held goes out.
    pub(super) fn send_held_bye(&mut self, cx: &mut Core, now: Instant, invite: ServerKey) {
        let State::Ending { bye_on_ack, .. } = &mut self.state else { return };
        let Some(held) = bye_on_ack.take_if(|held| held.awaited.invite == invite) else { return };
        self.send_bye(cx, now, held.awaited.side, &held.lines);
        self.settle_ending(cx);
    }

    // In-dialog requests that will get no answer from the other leg any more.
    fn drop_pending(&mut self, cx: &mut Core, now: Instant) {
        self.drop_early_offer(cx, now);
        self.drop_reoffer(cx, now);
        self.drop_transfer(cx, now);
        let (staying, dropped): (Vec<Relayed>, Vec<Relayed>) = std::mem::take(&mut self.relayed)
            .into_iter()
            .partition(|pending| self.outlives_bye(pending.client));
        self.relayed = staying;
        for pending in dropped {
            cx.clients.remove(&pending.client);
            cx.respond_plain(now, pending.server, &pending.request, 481, &[]);
            self.after_carried(cx, pending.client, None);
        }
        if let State::Renegotiating(open) = &self.state {
            // A peer that said 100 and nothing more would keep the transaction for ever.
            cx.endpoint.cancel(now, open.client);
            cx.clients.remove(&open.client);
            cx.respond_plain(now, open.server, &open.request, 487, &[]);
        }
        if let State::Refreshing(open) = &self.state {
            cx.endpoint.cancel(now, open.client);
            cx.clients.remove(&open.client);
        }
    }

    /// Writes the record; gives back media and server. Once per call.
    fn account(&mut self, cx: &mut Core, now: Instant, outcome: Outcome) {
        debug_assert!(!matches!(self.media, MediaState::Released), "a call has one end");
        self.let_go(cx);
        cx.timers.clear_call(self.key);
        self.media = MediaState::Released;
        let ported = self.has_own_media().then_some(self.key);
        if let Some(call) = ported {
            cx.outputs.push_back(Output::Media(MediaCommand::Release { call }));
        }
        let record = self.story.record(&self.policy, now, outcome);
        if record.call_type == CallType::MissedCall {
            cx.event(Event::Notified(Box::new(self.story.missed(&self.policy, &record))));
        }
        cx.event(Event::CallEnded { call: ported, record: Box::new(record) });
    }
}

/// Why a server's INVITE is cancelled: what the caller is answered (RFC 3326 §2).
fn cause_line(cx: &Core, refusal: &Refusal) -> Bytes {
    let reply = refusal.reply(&cx.policy.gateway.fqdn);
    let mut block = Block::default();
    block.header(HeaderId::Reason, format!("SIP;cause={};text=\"{}\"", reply.status, reply.reason));
    block.finish()
}
