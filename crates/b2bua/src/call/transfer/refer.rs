//! REFER inside a call: read, judged by the dial plan's rule, then carried to the other leg in that leg's words or
//! carried out here. Owns that choice. A REFER of the caller's side is never carried out here: only UM has targets
//! that the gateway may call for it.

use std::time::Instant;

use bytes::Bytes;
use relay::Side;
use sip::endpoint::ServerKey;
use sip::{HeaderId, Message, Method};

use super::Call;
use super::notify::{Last, Subscription, is_ending};
use super::rewrite::{self, Asked, Counterpart};
use crate::codes;
use crate::engine::core::Core;
use crate::engine::flows::FlowEntry;
use crate::headers::Block;
use crate::policy::ReferRule;
use crate::route::hint_about;
use crate::verdict::{Refusal, warning};

/// REFERs of one call that may be open at once.
const SUBSCRIPTIONS_MAX: usize = 4;

/// What the dialog in a Refer-To is to this gateway.
pub(crate) enum Named {
    /// None of ours, or none at all.
    Nothing,
    /// Of a call that the referrer has no part in.
    Foreign,
    /// Known: this is what the other leg calls it.
    Known(Counterpart),
}

impl Call {
    /// REFER in the dialog of `side`.
    pub fn on_refer(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        flow: &FlowEntry,
        (key, refer): (ServerKey, &Message),
        named: &Named,
    ) {
        if self.is_of_target(refer) {
            return self.on_target_request(cx, now, key, refer);
        }
        if !self.takes_request(cx, now, side, flow, key, refer) {
            return;
        }
        if is_ending(&self.state) {
            return cx.respond_plain(now, key, refer, 481, &[]);
        }
        let count = match side {
            Side::A => &mut self.transfer.refers.0,
            Side::B => &mut self.transfer.refers.1,
        };
        *count += 1;
        let is_first = *count == 1;
        let asked = match self.judged(side, refer, named) {
            Ok(asked) => asked,
            Err(refusal) => {
                cx.count("refers_refused");
                return cx.refuse(now, key, refer, &refusal, None);
            }
        };
        if !self.is_whole() || self.is_early() {
            return cx.respond_plain(now, key, refer, 491, &[]);
        }
        if side == self.um_side()
            && let Some(hint) = self.hint_about_target(&asked)
        {
            cx.count("transfer_targets_doubtful");
            self.story.note(hint);
        }
        let counterpart = match named {
            Named::Known(known) => Some(known),
            _ => None,
        };
        match self.refer_rule() {
            ReferRule::Execute if side == Side::B && self.is_um(side) => {
                self.execute(cx, now, (key, refer), &asked, counterpart, is_first);
            }
            _ => self.carry_refer(cx, now, side, (key, refer), &asked, counterpart, is_first),
        }
    }

    // What there is to say about a target of UM that the pool will hardly find.
    fn hint_about_target(&self, asked: &Asked) -> Option<String> {
        hint_about(&self.policy, self.route.dial_plan, &asked.to.uri)
    }

    /// The Warning for a REFER of UM whose target the pool will hardly find; empty for all others.
    pub(in crate::call) fn refer_warning(&self, side: Side, refer: &Message) -> Bytes {
        let asked = Some(refer).filter(|refer| side == self.um_side() && *refer.method() == Method::Refer);
        let hint =
            asked.and_then(|refer| Asked::read(refer).ok()).and_then(|asked| self.hint_about_target(&asked));
        let mut block = Block::default();
        if let Some(hint) = hint {
            block.line(b"Warning", warning(&self.policy.gateway.fqdn, &hint).as_bytes());
        }
        block.finish()
    }

    fn refer_rule(&self) -> ReferRule {
        self.policy
            .dial_plans
            .get(self.route.dial_plan)
            .map_or(ReferRule::Refuse, |plan| plan.transfers.refer)
    }

    fn judged(&self, side: Side, refer: &Message, named: &Named) -> Result<Asked, Refusal> {
        let who = &self.leg(side).peer.name;
        let refuse = |code, what: &str| Refusal::new(code, who, format!("{who}: {what}"));
        let asked = Asked::read(refer).map_err(|why| refuse(codes::REFER_MALFORMED, why))?;
        if refer.max_forwards() == Some(0) {
            return Err(refuse(codes::HOPS_USED_UP, "Max-Forwards of the REFER is 0"));
        }
        if matches!(named, Named::Foreign) {
            return Err(refuse(codes::REPLACES_FOREIGN, "its Refer-To names a dialog of another peer"));
        }
        if self.refer_rule() == ReferRule::Refuse {
            return Err(refuse(codes::REFER_REFUSED, "the dial plan refuses transfers"));
        }
        // The leg that would be exchanged is the caller's, whose dialog begins here. Carried, it would be what the plan does not
        // want: a REFER that the telephone's side sees.
        if self.refer_rule() == ReferRule::Execute && side == Side::A && self.is_um(side) {
            let what = "transfers are not carried out in a call that UM placed";
            return Err(refuse(codes::REFER_REFUSED, what));
        }
        Ok(asked)
    }

    #[allow(clippy::too_many_arguments)]
    fn carry_refer(
        &mut self,
        cx: &mut Core,
        now: Instant,
        side: Side,
        (key, refer): (ServerKey, &Message),
        asked: &Asked,
        counterpart: Option<&Counterpart>,
        is_first: bool,
    ) {
        if self.transfer.subscriptions.len() >= SUBSCRIPTIONS_MAX {
            return cx.respond_plain(now, key, refer, 500, &[(HeaderId::RetryAfter, "5")]);
        }
        let lines = self.refer_lines(cx, side, refer, asked, counterpart);
        let Some(client) = self.carry(cx, now, side, key, refer, &lines) else { return };
        let sent = self.leg(!side).dialog.as_ref().and_then(|dialog| dialog.local_cseq).unwrap_or_default();
        self.transfer.subscriptions.push(Subscription {
            subscriber: side,
            seen: refer.cseq().number,
            sent,
            is_first,
            refer: client,
            notify: None::<(_, Last)>,
        });
        cx.count("refers_carried");
    }

    fn refer_lines(
        &self,
        cx: &mut Core,
        side: Side,
        refer: &Message,
        asked: &Asked,
        counterpart: Option<&Counterpart>,
    ) -> Bytes {
        let lines = self.request_lines(cx, refer, side);
        let kept = without(&lines, &[HeaderId::ReferTo, HeaderId::ReferredBy]);
        let gateway = &self.policy.gateway;
        let mut block = Block::default();
        let (Some(own), Some(other)) = (&self.leg(side).dialog, &self.leg(!side).dialog) else {
            return lines;
        };
        let received = |id| refer.value_bytes(id).unwrap_or_default();
        let to = rewrite::refer_to(asked, gateway, &other.remote_target, counterpart);
        block.header(HeaderId::ReferTo, to.unwrap_or_else(|| received(HeaderId::ReferTo)));
        if refer.header(HeaderId::ReferredBy).is_some() {
            let value = received(HeaderId::ReferredBy);
            let by = rewrite::referred_by(value.clone(), gateway, own, other);
            block.header(HeaderId::ReferredBy, by.unwrap_or(value));
        }
        // RFC 4488 §7: said by the referrer, so it holds for the gateway as well.
        if option_tags(refer).any(|tag| tag.eq_ignore_ascii_case(b"norefersub")) {
            block.header(HeaderId::Supported, "norefersub");
        }
        [&kept[..], &block.finish()].concat().into()
    }
}

fn option_tags(request: &Message) -> impl Iterator<Item = &[u8]> {
    let lists = request.values(HeaderId::Require).chain(request.values(HeaderId::Supported));
    lists.flat_map(|list| list.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// Header lines without those of some names.
pub(super) fn without(lines: &[u8], names: &[HeaderId]) -> Bytes {
    let kept = lines.split_inclusive(|byte| *byte == b'\n').filter(|line| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        !names.contains(&HeaderId::from_name(name.trim_ascii()))
    });
    kept.collect::<Vec<_>>().concat().into()
}
