//! Dialogs that somebody names in a Replaces (RFC 3891): found by Call-ID and both tags, told apart by whose end is
//! meant, given only to a peer that may speak for them. Owns the look across calls; what a call does with its
//! newcomer, and how names are rewritten, stands in `call::transfer`.

use std::time::Instant;

use bytes::Bytes;
use relay::Side;
use sip::endpoint::ServerKey;
use sip::{FlowKey, HeaderId, Message, Replaces};

use super::admit::{screen_demands, screen_hop};
use super::core::DialogId;
use super::flows::FlowEntry;
use super::{CallKey, Engine};
use crate::call::transfer::Named;
use crate::call::transfer::replaces::{Hindrance, replaces_of};
use crate::call::transfer::rewrite::{Asked, Counterpart, Meant};
use crate::codes;
use crate::policy::ReplacesRule;
use crate::verdict::Refusal;

/// What the dialog that a REFER names is to the shard that holds it.
pub struct NamedDialog(pub(super) Box<Named>);

impl Engine {
    /// Whether a dialog of this engine has that Call-ID; only where the gateway has several shards.
    pub fn knows_call_id(&self, call_id: &[u8]) -> bool {
        self.core.dialogs.has_call_id(call_id)
    }

    /// Whether somebody configured is at the far end of that flow.
    pub fn is_of_peer(&self, flow: FlowKey) -> bool {
        self.core.flows.get(flow).is_some_and(|entry| entry.peer.is_some())
    }

    /// What the dialog in a REFER is here, for the shard that holds the dialog the REFER came in.
    pub fn name_dialog(&self, flow: FlowKey, refer: &Bytes) -> NamedDialog {
        let named = match (self.core.flows.get(flow), Message::parse(refer.clone(), &self.core.config.limits))
        {
            (Some(entry), Ok(refer)) => self.named_by(&refer, entry),
            _ => Named::Nothing,
        };
        NamedDialog(Box::new(named))
    }

    /// INVITE with Replaces: joins a call instead of opening one.
    pub(super) fn on_replacing_invite(
        &mut self,
        now: Instant,
        key: ServerKey,
        entry: &FlowEntry,
        invite: &Message,
    ) {
        match self.let_in(now, key, entry, invite) {
            Ok(()) => {}
            Err(Hindrance::Refused(refusal)) => {
                self.core.count("replaces_refused");
                self.refuse_unopened(now, key, entry, invite, &refusal);
            }
            // RFC 3891 §3: the matched dialog stays as it is.
            Err(Hindrance::Busy) => {
                self.core.count("replaces_refused");
                self.core.respond_plain(now, key, invite, 500, &[(HeaderId::RetryAfter, "1")]);
            }
        }
    }

    fn let_in(
        &mut self,
        now: Instant,
        key: ServerKey,
        entry: &FlowEntry,
        invite: &Message,
    ) -> Result<(), Hindrance> {
        let who = &entry.name;
        if entry.peer.is_none() {
            return Err(Refusal::new(codes::UNKNOWN_GATEWAY, who, "the sender is no UM IP gateway").into());
        }
        screen_hop(&self.core, who, invite)?;
        screen_demands(&self.core, who, invite)?;
        let replaces = replaces_of(invite, who)?;
        let unknown =
            || Refusal::new(codes::REPLACES_UNKNOWN, who, "Replaces names no dialog of this gateway");
        let Some((call, side)) = self.end_named(&replaces, &replaces.to_tag, &replaces.from_tag) else {
            return Err(unknown().into());
        };
        let Some(found) = self.calls.get(call) else { return Err(unknown().into()) };
        let rule = found.policy.dial_plans.get(found.route.dial_plan).map(|plan| plan.transfers.replaces);
        if rule == Some(ReplacesRule::Refuse) {
            return Err(Refusal::new(codes::REFER_REFUSED, who, "the dial plan refuses take-overs").into());
        }
        if !found.is_spoken_for(side, entry) {
            self.core.dropped("replaces_of_foreign_peers", entry, invite.start_line());
            let what = format!("{who} has no part in the call that its Replaces names");
            return Err(Refusal::new(codes::REPLACES_FOREIGN, who, what).into());
        }
        found.replaceable(side, replaces.early_only)?;
        self.touched.push(call);
        match self.calls.get_mut(call) {
            Some(call) => call.take_over(&mut self.core, now, side, entry, (key, invite)),
            None => Err(unknown().into()),
        }
    }

    /// The dialog whose tag of ours and of theirs these are.
    fn end_named(&self, named: &Replaces, ours: &Bytes, theirs: &Bytes) -> Option<(CallKey, Side)> {
        let id = DialogId { call_id: named.call_id.clone(), tag: ours.clone() };
        let (call, side) = self.core.dialogs.get(&id)?;
        let found = self.calls.get(call)?;
        // RFC 3891 §3: a peer without a tag is named by 0.
        let untagged = || found.dialog_with(side, b"").filter(|_| &theirs[..] == b"0");
        let dialog = found.dialog_with(side, theirs).or_else(untagged)?;
        let is_same = dialog.local_tag == *ours && dialog.call_id == named.call_id;
        is_same.then_some((call, side))
    }

    /// What the dialog in the Refer-To of a REFER is to this gateway.
    pub(super) fn named_by(&self, refer: &Message, entry: &FlowEntry) -> Named {
        let Ok(Asked { replaces: Some(named), .. }) = Asked::read(refer) else { return Named::Nothing };
        let ends =
            [(Meant::Ours, &named.to_tag, &named.from_tag), (Meant::Theirs, &named.from_tag, &named.to_tag)];
        for (meant, ours, theirs) in ends {
            let Some((key, side)) = self.end_named(&named, ours, theirs) else { continue };
            let Some(call) = self.calls.get(key) else { continue };
            if !call.leg(side).peer.owns(entry) {
                return Named::Foreign;
            }
            return match call.end_of(!side) {
                Some((dialog, contact)) => Named::Known(Counterpart::of(&named, meant, dialog, contact)),
                None => Named::Nothing,
            };
        }
        Named::Nothing
    }
}
