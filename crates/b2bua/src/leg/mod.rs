//! One side of a call: its peer, the flow it speaks on, its dialog and its session timer. Owns who may
//! speak for the leg; refuses to know the other side.

pub(crate) mod session;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use relay::Network;
use sip::dialog::{Dialog, RequestDraft};
use sip::endpoint::Flow;

use crate::call::Recovery;
use crate::engine::flows::FlowEntry;
use crate::profile::Dialect;
pub(crate) use session::Session;

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
    /// Where its media may be; empty = anywhere.
    pub media_networks: Arc<[Network]>,
}

/// How a peer is known.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
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
    /// The session timer.
    pub session: Session,
    /// Whether its route set is being renewed.
    pub recovery: Recovery,
}

impl Leg {
    /// A target refresh in its dialog: without the route set while a new one is asked for ([MS-SIPRE] §3.7.5.3.4).
    pub fn target_refresh(&mut self, make: impl FnOnce(&mut Dialog) -> RequestDraft) -> Option<RequestDraft> {
        let dialog = self.dialog.as_mut()?;
        if self.recovery == Recovery::No {
            return Some(make(dialog));
        }
        let routes = std::mem::take(&mut dialog.route_set);
        let draft = make(dialog);
        dialog.route_set = routes;
        Some(draft)
    }
}
