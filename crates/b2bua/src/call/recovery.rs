//! Mending a dialog whose proxies lost their state: Microsoft's `ms-dialog-route-set-update`
//! ([MS-SIPRE] §2.2.18, §3.7, §4.6). A proxy that can no longer read the route set refuses a request with
//! `430 Flow Failed`; a target refresh without the route set brings a new one, and the request goes out again. Owns that
//! procedure and its off switch; refuses to know why the state was lost.

use std::time::Instant;

use relay::Side;
use sip::endpoint::ClientKey;
use sip::{HeaderId, Message, Method};

use super::indialog::has_usage_of_its_own;
use super::{Call, Relayed};
use crate::engine::core::{Answer, Core};
use crate::leg::session::{RefreshBy, names};
use crate::policy::{Allowed, SessionRules};

/// The option tag.
const OPTION_TAG: &str = "ms-dialog-route-set-update";
/// Says who has to do what after a 430.
const ACTION_HEADER: &[u8] = b"P-Dialog-Recovery-Action";
/// The one action that is ours; a gateway that is not registered cannot do the others.
const ACTION: &[u8] = b"Dialog-Route-Set-Update";

/// Where the dialog of a leg stands.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum Recovery {
    /// Nothing is wrong.
    #[default]
    No,
    /// A target refresh without the route set is under way.
    Asked,
}

/// Supported of ours: these option tags, and our own where it is spoken.
pub(super) fn supported(tags: &str, rules: &SessionRules) -> String {
    match rules.route_set_update {
        Allowed::Yes => format!("{tags}, {OPTION_TAG}"),
        Allowed::No => tags.to_owned(),
    }
}

/// Whether a 430 asks us, and nobody else, to mend the dialog.
pub(super) fn is_asked_for(response: &Message, rules: &SessionRules) -> bool {
    let mut actions = response.headers().filter(|header| header.name.eq_ignore_ascii_case(ACTION_HEADER));
    let action = actions.next().map(|header| header.value());
    rules.route_set_update == Allowed::Yes
        && actions.next().is_none()
        && action.is_some_and(|action| action.trim_ascii().eq_ignore_ascii_case(ACTION))
}

impl Call {
    /// Takes the target of a request that was accepted, and its route set when the peer mends the dialog.
    pub(super) fn follow_target(&mut self, side: Side, request: &Message) {
        let renews = self.renews_routes(request);
        if let Some(dialog) = &mut self.leg_mut(side).dialog {
            dialog.refresh_target(request);
            if renews {
                dialog.renew_routes_by_request(request);
            }
        }
    }

    /// Takes the target of a 2xx to a target refresh of ours, and the route set that was asked for.
    pub(super) fn follow_answer(&mut self, cx: &mut Core, side: Side, response: &Message) {
        let leg = self.leg_mut(side);
        let recovery = std::mem::take(&mut leg.recovery);
        let Some(dialog) = &mut leg.dialog else { return };
        dialog.refresh_target(response);
        if recovery == Recovery::Asked {
            dialog.renew_routes_by_response(response);
            cx.count("route_sets_renewed");
        }
    }

    fn renews_routes(&self, request: &Message) -> bool {
        self.policy.session.route_set_update == Allowed::Yes
            && names(request, HeaderId::Supported, OPTION_TAG.as_bytes())
    }

    /// Record-Route lines that our 2xx to an UPDATE owes to a peer that mends the dialog; other 2xx have them anyway.
    pub(super) fn mirrored_routes(&self, request: &Message) -> Vec<(HeaderId, String)> {
        if *request.method() != Method::Update || !self.renews_routes(request) {
            return Vec::new();
        }
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        request.values(HeaderId::RecordRoute).map(|value| (HeaderId::RecordRoute, text(value))).collect()
    }

    /// A carried request got a 430: mends the dialog first when that is asked for. `false`: it is an answer like any other.
    pub(super) fn mends(
        &mut self,
        cx: &mut Core,
        now: Instant,
        pending: &mut Relayed,
        response: &Message,
    ) -> bool {
        let rules = self.policy.session;
        let side = !pending.from;
        let leg = self.leg_mut(side);
        // A subscription knows its requests by the transaction they went out in.
        let may = !has_usage_of_its_own(pending.request.method())
            && leg.recovery == Recovery::No
            && pending.recovery == Recovery::No
            && leg.session.by == RefreshBy::Update
            && response.status().is_some_and(|status| status.code() == 430)
            && is_asked_for(response, &rules);
        if !may {
            return false;
        }
        leg.recovery = Recovery::Asked;
        let Some(client) = self.send_update(cx, now, side) else {
            self.leg_mut(side).recovery = Recovery::No;
            return false;
        };
        pending.client = client;
        pending.recovery = Recovery::Asked;
        true
    }

    /// The dialog is mended: what waited for it goes out again.
    pub(super) fn on_recovered(&mut self, cx: &mut Core, now: Instant, client: ClientKey) {
        let Some(mut pending) = self.take_relayed(client) else { return };
        let (from, key, request) = (pending.from, pending.server, pending.request.clone());
        let lines = self.request_lines(cx, &request, from);
        match self.send_relayed(cx, now, from, &request, &lines) {
            Some(client) => {
                pending.client = client;
                self.relayed.push(pending);
            }
            None => cx.respond_plain(now, key, &request, 500, &[]),
        }
    }

    /// It could not be mended: the request that waited has failed.
    pub(super) fn on_recovery_failed(&mut self, cx: &mut Core, now: Instant, client: ClientKey) {
        if let Some(pending) = self.take_relayed(client) {
            cx.respond(now, pending.server, &pending.request, &Answer::of(503));
        }
    }
}
