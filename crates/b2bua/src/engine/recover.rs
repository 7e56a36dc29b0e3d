//! After a panic: the calls that the input had reached are ended on both legs, everything else goes on. Owns the repair;
//! refuses to trust what such a call remembers about itself.

use std::time::Instant;

use relay::Side;
use sip::endpoint::{ClientKey, ServerKey};

use super::core::ClientUse;
use super::io::CallKey;
use super::{Engine, is_over};
use crate::call::story::{Missed, Outcome};
use crate::call::{Call, MediaState, State};
use crate::codes;
use crate::engine::core::Core;
use crate::record::OfferResult;
use crate::verdict::Refusal;

impl Engine {
    /// The last [`Engine::handle`] panicked (or this did). Ends the calls concerned; drain the outputs afterwards. A
    /// first attempt ends them in order; should that panic too, the next one uses force.
    pub fn recover(&mut self, now: Instant) {
        let is_first = self.broken.is_empty();
        let mut reached = std::mem::take(&mut self.touched);
        reached.append(&mut self.broken);
        reached.sort_unstable();
        reached.dedup();
        self.broken.clone_from(&reached);
        self.core.count("engine_panics");
        // Nobody is left to answer the request that led here.
        if let Some(key) = self.core.serving.take()
            && !self.core.invites.contains_key(&key)
        {
            self.core.endpoint.abandon(now, key);
        }
        for key in reached {
            let Some(call) = self.calls.get_mut(key) else { continue };
            let fqdn = call.policy.gateway.fqdn.clone();
            let refusal = Refusal::new(codes::INTERNAL, &fqdn, "a fault in the gateway ended the call");
            let is_whole = !is_over(call) && !matches!(call.media, MediaState::Released);
            let served = served_for(&self.core, key);
            if is_first && is_whole {
                call.terminate(&mut self.core, now, &refusal, "InternalError");
            } else if !matches!(call.state, State::Ending { .. }) || !is_first {
                call.cut_off(&mut self.core, now, &refusal);
            }
            for request in served {
                self.core.endpoint.abandon(now, request);
            }
            self.touched.push(key);
        }
        self.settle(now);
        self.broken.clear();
    }
}

impl Call {
    /// Ends a call that cannot be trusted to know its own state: open INVITEs are answered, pending ones withdrawn, both
    /// legs get a BYE, and everything it held is given back.
    fn cut_off(&mut self, cx: &mut Core, now: Instant, refusal: &Refusal) {
        self.state = State::Ended;
        // RFC 3261 §15: no BYE where the INVITE has no 2xx; its refusal or CANCEL ends it.
        let mut sides = vec![Side::A, Side::B];
        for key in self.invites.clone() {
            if cx.endpoint.abandon(now, key) && key == self.invite_key {
                sides.retain(|side| *side != Side::A);
            }
        }
        for (client, purpose) in clients_of(cx, self.key) {
            if matches!(purpose, ClientUse::Invite(_)) {
                sides.retain(|side| *side != Side::B);
            }
            cx.clients.remove(&client);
            cx.endpoint.cancel(now, client);
        }
        for pending in std::mem::take(&mut self.relayed) {
            cx.respond_plain(now, pending.server, &pending.request, 500, &[]);
        }
        for side in sides {
            self.send_bye(cx, now, side, &bytes::Bytes::new());
        }
        if !matches!(self.media, MediaState::Released) {
            let outcome = Outcome {
                verdict: refusal.verdict.clone(),
                offer_result: OfferResult::Failed,
                drop_reason: "InternalError",
                missed: Missed::No,
            };
            self.close(cx, now, outcome);
        }
        self.let_go(cx);
    }
}

/// Requests of a call's peers that may have no answer yet, in order.
fn served_for(cx: &Core, call: CallKey) -> Vec<ServerKey> {
    #[expect(clippy::disallowed_methods, reason = "sorted before use")]
    let mut found: Vec<_> =
        cx.served.iter().filter(|(_, of)| **of == call).map(|(request, _)| *request).collect();
    found.sort_unstable();
    found
}

/// What is on its way for a call, in order. Its BYEs go on by themselves.
fn clients_of(cx: &Core, call: CallKey) -> Vec<(ClientKey, ClientUse)> {
    let is_its = |purpose: &ClientUse| match purpose {
        ClientUse::Invite(of)
        | ClientUse::Reoffer(of)
        | ClientUse::Relayed(of)
        | ClientUse::EarlyOffer(of)
        | ClientUse::OwnReoffer(of)
        | ClientUse::Transfer(of)
        | ClientUse::Probe(of, _)
        | ClientUse::Refresh(of, _) => *of == call,
        ClientUse::Bye(_)
        | ClientUse::Forwarded(_)
        | ClientUse::Health(_)
        | ClientUse::Prack
        | ClientUse::Digit => false,
    };
    #[expect(clippy::disallowed_methods, reason = "sorted before use")]
    let mut found: Vec<_> =
        cx.clients.iter().filter(|(_, purpose)| is_its(purpose)).map(|(key, of)| (*key, *of)).collect();
    found.sort_unstable_by_key(|(key, _)| *key);
    found
}
