//! One side of a call: its peer, the flow it speaks on, its dialog and its session timer. Owns who may
//! speak for the leg; refuses to know the other side.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use sip::dialog::Dialog;
use sip::endpoint::Flow;
use sip::{HeaderId, Message, Refresher};

use crate::engine::flows::FlowEntry;
use crate::profile::Dialect;

/// Shortest session interval (RFC 4028 §4).
pub(crate) const MIN_SE_SECS: u32 = 90;

/// Who the leg belongs to; compared on every in-dialog request.
#[derive(Clone, Debug)]
pub(crate) struct LegPeer {
    /// Configured name of the gateway or server.
    pub name: String,
    /// Address it was first seen at.
    pub address: IpAddr,
    /// Came with a verified certificate.
    pub is_verified: Verified,
    /// How it is spoken to.
    pub dialect: Dialect,
}

/// How a peer is known.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Verified {
    /// By certificate name.
    ByName,
    /// By address only.
    ByAddress,
}

impl LegPeer {
    /// Whether that flow belongs to the same peer, known at least as well.
    pub fn owns(&self, flow: &FlowEntry) -> bool {
        match self.is_verified {
            Verified::ByName => flow.verified == Verified::ByName && flow.is_named(&self.name),
            Verified::ByAddress => {
                flow.remote.ip() == self.address || flow.name.eq_ignore_ascii_case(&self.name)
            }
        }
    }
}

/// The session timer a peer asked for (RFC 4028).
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) struct SessionTimer {
    /// Session interval.
    pub secs: u32,
    /// We refresh; else the peer does.
    pub refresh: RefreshDuty,
}

/// Who keeps a session alive.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum RefreshDuty {
    /// We do.
    Ours,
    /// The peer does.
    Theirs,
}

impl SessionTimer {
    /// What a request of the peer asks for, if it speaks of session timers at all.
    pub fn asked(request: &Message) -> Option<Self> {
        let value = request.value_bytes(HeaderId::SessionExpires)?;
        let wanted = sip::SessionExpires::parse(&value).ok()?;
        let refresh = match wanted.refresher {
            Some(Refresher::Uas) => RefreshDuty::Ours,
            Some(Refresher::Uac) | None => RefreshDuty::Theirs,
        };
        Some(Self { secs: wanted.secs, refresh })
    }

    /// Session-Expires of our 2xx: we are the UAS of that request.
    pub fn answer(&self) -> String {
        let refresher = match self.refresh {
            RefreshDuty::Ours => "uas",
            RefreshDuty::Theirs => "uac",
        };
        format!("{};refresher={refresher}", self.secs)
    }

    /// When to act: refresh at half time, or give up shortly before the end (RFC 4028 §10).
    pub fn due_in(&self) -> Duration {
        let secs = match self.refresh {
            RefreshDuty::Ours => self.secs / 2,
            RefreshDuty::Theirs => self.secs - (self.secs / 3).min(32),
        };
        Duration::from_secs(u64::from(secs.max(1)))
    }
}

/// One side of a call.
pub(crate) struct Leg {
    /// Whose it is.
    pub peer: LegPeer,
    /// Where it speaks; `None` before the first connection and after a loss.
    pub flow: Option<Flow>,
    /// Call-ID of its dialog.
    pub call_id: Bytes,
    /// Our tag.
    pub tag: Bytes,
    /// Our Contact, in angle brackets.
    pub contact: Bytes,
    /// The dialog, as soon as there is one.
    pub dialog: Option<Dialog>,
    /// The session timer, when the peer asked for one.
    pub session: Option<SessionTimer>,
}
