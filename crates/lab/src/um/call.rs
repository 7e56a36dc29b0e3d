//! One call at a worker: what is known in each phase.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sip::{ClientKey, Dialog, Flow, Message, ServerKey};

use super::refer::Transfer;
use super::talk::Application;
use super::{AnswerRules, CallPurpose, EndReason, PlanSecurity};
use crate::audio::Law;
use crate::media::LocalMedia;
use crate::negotiate::{FreshKey, Offer};
use crate::um::MediaKind;

/// Where a call stands.
pub(super) enum Phase {
    /// Waiting for media ports.
    Allocating,
    /// Ports are open; the answer is due at `Call::answer_at`.
    Ringing,
    /// 200 sent, no ACK yet.
    Answered,
    /// The call stands: its application runs.
    Talking,
    /// It rings and no answer will come: nothing more to do until the caller gives up.
    Lingering,
    /// BYE sent.
    HangingUp(ClientKey),
    /// Media is closing; then the call is gone.
    Stopping,
}

/// A session timer (RFC 4028) that the caller refreshes.
pub(super) struct Session {
    pub(super) interval: Duration,
    pub(super) until: Instant,
}

/// A call.
pub(super) struct Call {
    pub(super) invite: Message,
    pub(super) server: ServerKey,
    pub(super) flow: Flow,
    pub(super) tag: bytes::Bytes,
    pub(super) purpose: CallPurpose,
    /// The caller's domain.
    pub(super) domain: String,
    pub(super) security: PlanSecurity,
    /// Limits of its dial plan.
    pub(super) rules: Arc<AnswerRules>,
    pub(super) x_call_id: Option<String>,
    pub(super) key: FreshKey,
    pub(super) seed: u64,
    pub(super) phase: Phase,
    pub(super) ring_at: Option<Instant>,
    pub(super) answer_at: Instant,
    /// The worker process ends its calls then.
    pub(super) recycle_at: Option<Instant>,
    /// The session timer.
    pub(super) session: Option<Session>,
    pub(super) local: Option<LocalMedia>,
    pub(super) late_offer: Option<Offer>,
    pub(super) dialog: Option<Dialog>,
    pub(super) media: Option<(MediaKind, Law)>,
    pub(super) answered_at: Option<Instant>,
    pub(super) recorded_from: Option<Instant>,
    pub(super) application: Option<Application>,
    /// Things said so far.
    pub(super) said: u64,
    /// What is being said now.
    pub(super) saying: Option<u64>,
    /// When the application wants a cue.
    pub(super) wake_at: Option<Instant>,
    /// `MaxCallDuration`.
    pub(super) ends_at: Option<Instant>,
    pub(super) transfer: Option<Transfer>,
    pub(super) end: Option<EndReason>,
}

impl Call {
    /// What the leg really is, in Exchange's words.
    pub(super) fn leg_security(&self) -> &'static str {
        let is_tls = self.flow.transport.is_secure();
        match self.media {
            Some((MediaKind::Srtp, _)) if is_tls => PlanSecurity::Secured.name(),
            _ if is_tls => PlanSecurity::SipSecured.name(),
            _ => PlanSecurity::Unsecured.name(),
        }
    }

    /// When it next needs attention.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Ringing => Some(self.ring_at.unwrap_or(self.answer_at).min(self.answer_at)),
            Phase::Talking => {
                let transfer = self.transfer.as_ref().map(|transfer| transfer.until);
                let session = self.session.as_ref().map(|session| session.until);
                [self.wake_at, self.ends_at, self.recycle_at, session, transfer].into_iter().flatten().min()
            }
            Phase::HangingUp(_) | Phase::Stopping => None,
            _ => self.recycle_at,
        }
    }
}
