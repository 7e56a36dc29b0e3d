//! Keeping an answered call alive: the session timer of each leg on its own (RFC 4028), our refreshes, what their
//! answers mean, and the end of a session that nobody refreshes. Owns those steps; the arithmetic stands in
//! `leg::session`, offers of the far ends in `renegotiate`.

use std::time::{Duration, Instant};

use relay::Side;
use sip::dialog::RequestDraft;
use sip::endpoint::{ClientFailure, ClientKey};
use sip::{HeaderId, Message, Method};

use super::answer::{answer_of, media_refusal};
use super::failover::Failure;
use super::recovery::{self, Recovery};
use super::{Attempt, Call, MediaState, Refreshing, State};
use crate::codes;
use crate::engine::CallTimer;
use crate::engine::core::{ClientUse, Core};
use crate::engine::keys::KeySource;
use crate::headers::{ALLOW, SUPPORTED};
use crate::leg::session::{
    RefreshBy, RefreshDuty, Session, SessionTimer, is_interval_too_small, supports_timer,
};
use crate::media_plan;
use crate::policy::SessionRules;
use crate::security::Phase;
use crate::verdict::Refusal;

const SDP: &[u8] = b"application/sdp";
/// Between a refresh that failed in passing and the next one.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// RFC 3261 §14.1: the owner of the Call-ID waits 2.1 to 4 s, the other side 0 to 2 s, in steps of 10 ms.
const GLARE_OWNER_STEPS: (u32, u32) = (210, 400);
const GLARE_OTHER_STEPS: (u32, u32) = (0, 200);
const GLARE_STEP: Duration = Duration::from_millis(10);

impl Call {
    /// 422 to a request whose interval is too small; `true` when it was answered so.
    pub(super) fn refuses_interval(&self, request: &Message) -> bool {
        is_interval_too_small(request, &self.policy.session)
    }

    /// We answer a request of `side` that opens or refreshes the session: what our 2xx says about it.
    pub(super) fn grant_session(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        request: &Message,
    ) -> Vec<(HeaderId, String)> {
        let rules = self.policy.session;
        let granted = self.leg_mut(side).session.grant(now, request, &rules);
        self.watch_session(cx, side);
        granted_lines(request, granted, &rules)
    }

    /// A 2xx of `side` to a request of ours that opens or refreshes the session.
    pub(super) fn agree_session(&mut self, cx: &mut Core, now: Instant, side: Side, response: &Message) {
        self.leg_mut(side).session.agree(now, response);
        self.watch_session(cx, side);
    }

    /// Lines about the session in a request of ours on `side`.
    pub(super) fn session_lines(&self, side: Side) -> Vec<(HeaderId, String)> {
        asking_lines(&self.leg(side).session, &self.policy.session)
    }

    /// 422 of a server: asked once more with the interval it wants, same Call-ID, next CSeq (RFC 4028 §7.3). A server
    /// that wants still more, or does not say what, is no good for this call.
    pub(super) fn on_interval_refused(
        &mut self,
        cx: &mut Core,
        now: Instant,
        attempt: Box<Attempt>,
        response: &Message,
    ) {
        let rules = self.policy.session;
        match self.b.flow.filter(|_| self.b.session.raise(response, &rules)) {
            Some(flow) => self.send_invite(cx, now, attempt, &flow),
            None => {
                let failure =
                    Failure::new(codes::SERVER_FAILED, "answered 422 to the session interval it gave");
                self.fail_hop(cx, now, attempt, failure);
            }
        }
    }

    /// 422 of `side` to a request of ours: whether asking again with the interval it wants is any use.
    pub(super) fn raises_interval(&mut self, side: Side, response: &Message) -> bool {
        let rules = self.policy.session;
        self.leg_mut(side).session.raise(response, &rules)
    }

    /// Sets the timer of a side to what is due next in its session.
    pub(super) fn watch_session(&self, cx: &mut Core, side: Side) {
        match self.leg(side).session.due_at() {
            Some(due) => cx.timers.set(self.key, timer_of(side), due),
            None => cx.timers.clear(self.key, timer_of(side)),
        }
    }

    /// The session timer of a side is due: refresh, or the peer is gone.
    pub fn on_session_due(&mut self, cx: &mut Core, now: Instant, side: Side) {
        let session = &self.leg(side).session;
        let (Some(timer), Some(over_at)) = (session.timer, session.over_at) else { return };
        if now < over_at && timer.refresh == RefreshDuty::Ours {
            cx.timers.set(self.key, timer_of(side), over_at);
            return self.refresh(cx, now, side);
        }
        let who = self.leg(side).peer.name.clone();
        let what = match timer.refresh {
            RefreshDuty::Theirs => format!("{who} sent no session refresh in time"),
            RefreshDuty::Ours => format!("{who} took no session refresh in time"),
        };
        self.end_session(cx, now, &who, what);
    }

    fn end_session(&mut self, cx: &mut Core, now: Instant, who: &str, what: String) {
        let refusal = Refusal::new(codes::SESSION_EXPIRED, who, what);
        self.terminate(cx, now, &refusal, "SessionExpired");
    }

    fn refresh(&mut self, cx: &mut Core, now: Instant, side: Side) {
        let is_sent = match self.leg(side).session.by {
            RefreshBy::Update => self.send_update(cx, now, side).is_some(),
            RefreshBy::Invite => self.refresh_by_invite(cx, now, side).is_some(),
        };
        if !is_sent {
            self.refresh_later(cx, now, side, RETRY_AFTER);
        }
    }

    // Never later than the session lasts.
    fn refresh_later(&self, cx: &mut Core, now: Instant, side: Side, wait: Duration) {
        if let Some(over_at) = self.leg(side).session.over_at {
            cx.timers.set(self.key, timer_of(side), over_at.min(now + wait));
        }
    }

    /// UPDATE without a description: touches nothing but the session timer and the dialog's target.
    pub(super) fn send_update(&mut self, cx: &mut Core, now: Instant, side: Side) -> Option<ClientKey> {
        let draft = self.refresh_draft(side, Method::Update)?;
        let (flow, key) = (self.leg(side).flow?, self.key);
        cx.send(now, &flow, draft.finish().ok()?, ClientUse::Refresh(key, side))
    }

    // While another offer is open, RFC 3261 §14.1 forbids ours.
    fn refresh_by_invite(&mut self, cx: &mut Core, now: Instant, side: Side) -> Option<()> {
        let MediaState::Ready(media) = &self.media else { return None };
        if !matches!(self.state, State::Established) || self.is_negotiating() {
            return None;
        }
        let (offer, exchange) = media.repeated_offer(side)?;
        let draft = self.refresh_draft(side, Method::Invite)?.body(SDP, offer);
        let (flow, key) = (self.leg(side).flow?, self.key);
        let client = cx.send(now, &flow, draft.finish().ok()?, ClientUse::Refresh(key, side))?;
        cx.timers.set(key, CallTimer::Reoffer, now + super::renegotiate::REOFFER_MAX);
        self.state = State::Refreshing(Box::new(Refreshing { side, client, exchange }));
        Some(())
    }

    fn refresh_draft(&mut self, side: Side, method: Method) -> Option<RequestDraft> {
        let lines = self.session_lines(side);
        let leg = self.leg_mut(side);
        let mut draft = leg.target_refresh(|dialog| dialog.request(method))?;
        for (id, value) in lines {
            draft = draft.header(id, value);
        }
        Some(draft.header(HeaderId::Contact, leg.contact.clone()).header(HeaderId::Allow, ALLOW))
    }

    /// A response to a refresh of ours.
    pub fn on_refresh_response(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        client: ClientKey,
        response: &Message,
    ) {
        let Some(status) = response.status().filter(|status| status.is_final()) else { return };
        let open = self.take_refreshing(cx, client);
        if !status.is_success() {
            self.on_refresh_refused(cx, now, side, response);
            return self.on_recovery_failed(cx, now, client);
        }
        self.follow_answer(cx, side, response);
        self.agree_session(cx, now, side, response);
        match open {
            Some(open) => self.on_refresh_answered(cx, now, &open, response),
            None => self.on_recovered(cx, now, client),
        }
    }

    // A re-INVITE repeats our description; its answer may still be a new one.
    fn on_refresh_answered(&mut self, cx: &mut Core, now: Instant, open: &Refreshing, response: &Message) {
        self.send_ack(cx, now, open.side, response.cseq().number, None);
        let who = self.leg(open.side).peer.name.clone();
        let judged = answer_of(response, &who).and_then(|answer| {
            self.decide(open.side, media_plan::said(&answer), Phase::Answer).map(|_| answer)
        });
        let settled = judged.and_then(|answer| match &mut self.media {
            MediaState::Ready(media) => {
                media.settle_answer(&open.exchange, answer).map_err(|fault| media_refusal(&fault, &who))
            }
            _ => Err(Refusal::new(codes::INTERNAL, &who, "media is gone")),
        });
        match settled {
            Ok(()) => self.apply_media(cx),
            Err(refusal) => self.hang_up_both(cx, now, refusal.verdict, "AnswerRefused"),
        }
    }

    fn on_refresh_refused(&mut self, cx: &mut Core, now: Instant, side: Side, response: &Message) {
        let status = response.status().map_or(500, |status| status.code());
        let rules = self.policy.session;
        let leg = self.leg_mut(side);
        match status {
            // RFC 3261 §12.2.1.2, RFC 4028 §10: such a peer has no call any more.
            408 | 481 => {
                let who = leg.peer.name.clone();
                self.end_session(cx, now, &who, format!("{who} no longer knows the call"));
            }
            422 if leg.session.raise(response, &rules) => self.refresh(cx, now, side),
            430 if leg.recovery == Recovery::No && recovery::is_asked_for(response, &rules) => {
                leg.recovery = Recovery::Asked;
                self.refresh(cx, now, side);
            }
            405 | 501 if leg.session.by == RefreshBy::Update => {
                leg.session.by = RefreshBy::Invite;
                self.refresh(cx, now, side);
            }
            491 => {
                let wait = glare_wait(&mut cx.keys, side);
                self.refresh_later(cx, now, side, wait);
            }
            _ => {
                leg.recovery = Recovery::No;
                cx.count("session_refreshes_refused");
                let wait = retry_after(response).unwrap_or(RETRY_AFTER);
                self.refresh_later(cx, now, side, wait);
            }
        }
    }

    /// A refresh of ours was never answered.
    pub fn on_refresh_failed(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        client: ClientKey,
        why: &ClientFailure,
    ) {
        cx.count("session_refreshes_failed");
        self.take_refreshing(cx, client);
        self.leg_mut(side).recovery = Recovery::No;
        match why {
            // RFC 3261 §12.2.1.2: no answer at all is an answer.
            ClientFailure::Timeout => {
                let who = self.leg(side).peer.name.clone();
                self.end_session(cx, now, &who, format!("{who} answered no session refresh"));
            }
            ClientFailure::TransportFailed => self.refresh_later(cx, now, side, RETRY_AFTER),
        }
        self.on_recovery_failed(cx, now, client);
    }

    fn take_refreshing(&mut self, cx: &mut Core, client: ClientKey) -> Option<Box<Refreshing>> {
        self.take_open(cx, |state| match state {
            State::Refreshing(open) if open.client == client => Ok(open),
            other => Err(other),
        })
    }
}

/// What a request of ours says about the session of its leg.
pub(super) fn asking_lines(session: &Session, rules: &SessionRules) -> Vec<(HeaderId, String)> {
    let mut lines = session.request_lines(rules);
    lines.push((HeaderId::Supported, recovery::supported("timer", rules)));
    lines
}

/// What our 2xx to `request` says about the session it was granted.
pub(super) fn granted_lines(
    request: &Message,
    granted: Option<SessionTimer>,
    rules: &SessionRules,
) -> Vec<(HeaderId, String)> {
    let mut lines = vec![(HeaderId::Supported, recovery::supported(SUPPORTED, rules))];
    if let Some(timer) = granted {
        lines.push((HeaderId::SessionExpires, timer.as_server()));
        // RFC 4028 §9: a peer that does not know the option tag must not be told that it has to.
        if supports_timer(request) {
            lines.push((HeaderId::Require, "timer".to_owned()));
        }
    }
    lines
}

fn timer_of(side: Side) -> CallTimer {
    match side {
        Side::A => CallTimer::SessionA,
        Side::B => CallTimer::SessionB,
    }
}

/// We chose the Call-ID of leg B.
fn glare_wait(keys: &mut KeySource, side: Side) -> Duration {
    let (least, most) = match side {
        Side::A => GLARE_OTHER_STEPS,
        Side::B => GLARE_OWNER_STEPS,
    };
    GLARE_STEP * (least + keys.below(most - least + 1))
}

fn retry_after(response: &Message) -> Option<Duration> {
    let value = response.value_bytes(HeaderId::RetryAfter)?;
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let secs: u32 = std::str::from_utf8(value.get(..digits)?).ok()?.parse().ok()?;
    Some(Duration::from_secs(u64::from(secs.max(1))))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rfc_3261_section_14_1_the_wait_after_491_is_any_of_its_interval_in_steps_of_10_ms() {
        for (side, least, most) in [(Side::A, 0, 2_000), (Side::B, 2_100, 4_000)] {
            let mut keys = KeySource::new([1; 32]);
            let waits: BTreeSet<u128> = (0..5_000).map(|_| glare_wait(&mut keys, side).as_millis()).collect();
            assert!(waits.iter().copied().eq((least..=most).step_by(10)), "{waits:?}");
        }
    }
}
