//! What happens to a call from outside its dialogs: timers, media facts, lost flows, commands. Owns
//! the mapping from such a fact to a step of the call.

use std::time::Instant;

use relay::{Fact, SessionStats, Side};
use sip::endpoint::ServerKey;

use super::{Call, State};
use crate::codes;
use crate::engine::core::Core;
use crate::engine::{CallTimer, Event};
use crate::record::OfferResult;
use crate::verdict::Refusal;

impl Call {
    /// A timer of this call is due.
    pub fn on_timer(&mut self, cx: &mut Core, now: Instant, timer: CallTimer) {
        match timer {
            CallTimer::MediaReady => {
                if matches!(self.state, State::AwaitingMedia) {
                    let refusal = Refusal::new(
                        codes::MEDIA_RESOURCES,
                        &self.policy.gateway.fqdn,
                        "media ports did not come in time",
                    );
                    self.refuse(cx, now, &refusal, OfferResult::Failed);
                }
            }
            CallTimer::Step => self.on_step_timeout(cx, now),
            CallTimer::Setup => self.on_setup_timeout(cx, now),
            CallTimer::Progress => self.on_progress_due(cx, now),
            CallTimer::MaxDuration => {
                let plan = self.plan_name().to_owned();
                let refusal =
                    Refusal::new(codes::MAX_DURATION, &plan, "the longest call the dial plan allows is over");
                self.terminate(cx, now, &refusal, "MaxCallDuration");
            }
            CallTimer::Transfer => self.on_transfer_due(cx, now),
            CallTimer::SessionA => self.on_session_due(cx, now, Side::A),
            CallTimer::SessionB => self.on_session_due(cx, now, Side::B),
            CallTimer::Provisional => self.on_provisional_due(cx, now),
            CallTimer::Reoffer => self.on_reoffer_overdue(cx, now),
            CallTimer::Reconnect => self.on_reconnect_due(cx, now),
            CallTimer::Ending => {
                if !self.awaits_notify() {
                    cx.count("endings_given_up");
                }
                self.give_up_notifies(cx, now);
                self.state = State::Ended;
            }
        }
    }

    /// The media session reports.
    pub fn on_media_fact(&mut self, cx: &mut Core, now: Instant, fact: Fact, stats: Option<&SessionStats>) {
        if let Some(stats) = stats {
            self.story.measured(stats);
        }
        cx.event(Event::Media { call: self.key, fact: format!("{fact:?}") });
        match fact {
            Fact::NoMedia { lasted } => {
                let what = format!("no media from either side for {} s", lasted.as_secs());
                let refusal = Refusal::new(codes::MEDIA_INACTIVE, &self.policy.gateway.fqdn, what);
                self.terminate(cx, now, &refusal, "NoMedia");
            }
            Fact::KeyExhausted { side } => {
                cx.count("srtp_keys_exhausted");
                let who = self.leg(side).peer.name.clone();
                let what = format!("an SRTP key of {who} has protected all packets of its lifetime");
                self.terminate(cx, now, &Refusal::new(codes::KEY_EXHAUSTED, &who, what), "KeyExhausted");
            }
            Fact::Digit { side, digit, lasted } => self.tell_digit(cx, now, side, digit, lasted),
            Fact::FirstPacket { .. }
            | Fact::Latched { .. }
            | Fact::Silence { .. }
            | Fact::HalfSilence { .. }
            | Fact::Resumed { .. }
            | Fact::RtcpBye { .. } => {}
        }
    }

    /// An INVITE of a far end can no longer be answered: its connection is gone, and there is none to its Via either.
    pub fn on_invite_lost(&mut self, cx: &mut Core, now: Instant, invite: ServerKey) {
        let is_open =
            matches!(self.state, State::AwaitingMedia | State::Dialing(_) | State::Ringing(_) | State::Held);
        if invite == self.invite_key && is_open {
            let who = self.a.peer.name.clone();
            let what = format!("the connection of {who} was gone before the call was answered");
            self.terminate(cx, now, &Refusal::new(codes::CONNECTION_LOST, &who, what), "ConnectionLost");
        }
    }
}
