//! Which header lines cross from one leg to the other. Owns the header table, what configuration and profiles add to
//! it, and the one header set of leg B, built once per call and replayed on every hop and server. Refuses to know
//! dialogs: tags, sequence numbers and routes are given or left out.

mod address;
mod block;
mod demands;
mod names;
mod regenerate;
mod rules;
mod table;

use bytes::Bytes;
use relay::Side;
use sip::{Header, HeaderId, Message};

use crate::profile::Dialect;
use crate::quirks::{Quirk, QuirkSet};

pub(crate) use address::{body_type, harmless, with_tag, without_tag};
pub(crate) use block::{Block, is_clean};
pub(crate) use demands::unsupported;
pub(crate) use names::{named, with_named_identities};
pub use rules::{CallerNames, HeaderRules, UnknownHeaders};
pub use table::{Action, Passage, Row, rows};

/// Carries our hop tokens; a request that comes back with one of ours is a loop.
pub(crate) const HOP_HEADER: &str = "X-Umbra-Hop";
/// Methods we take, for Allow.
pub(crate) const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, PRACK, UPDATE, REFER, NOTIFY, MESSAGE, SUBSCRIBE, PUBLISH, SERVICE, BENOTIFY";
/// Extensions we take, for Supported.
pub(crate) const SUPPORTED: &str = "100rel, timer, replaces, norefersub";
/// Extensions we offer on leg B.
const SUPPORTED_B: &str = "100rel, replaces";
/// Bodies we take, for Accept.
pub(crate) const ACCEPT: &str = "application/sdp, multipart/alternative, multipart/mixed";

/// What crosses between two peers: the table, the configured additions, and the quirks of both. As in the table, A is the
/// side of the UM IP gateway and B is UM, whoever called.
#[derive(Copy, Clone, Debug)]
pub struct HeaderPolicy<'a> {
    rules: &'a HeaderRules,
    a: Dialect,
    b: Dialect,
}

/// Header lines ready for the other leg, and what happened on the way.
pub(crate) struct Carried {
    /// Complete lines.
    pub lines: Bytes,
    /// Quirks that acted.
    pub acted: QuirkSet,
    /// Lines left out because of control characters.
    pub left_out: u32,
}

/// Whether the body of a response goes on with it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum WithBody {
    /// As it came, so the headers that describe it go along.
    Yes,
    /// Our own, or none.
    No,
}

impl<'a> HeaderPolicy<'a> {
    /// Between the caller's side and UM.
    pub const fn for_peers(rules: &'a HeaderRules, a: Dialect, b: Dialect) -> Self {
        Self { rules, a, b }
    }

    /// Whether a header's value reaches the other leg on that passage, whole or in part.
    pub fn carries(&self, id: HeaderId, name: &[u8], passage: Passage) -> bool {
        use Action::{Copy, Regenerate, Repair, WithBody};
        let action = self.action(id, name, passage, &mut { QuirkSet::NONE });
        matches!(action, Copy | WithBody | Repair | Regenerate)
    }

    /// The table's word, with what configuration and quirks make of it.
    fn action(&self, id: HeaderId, name: &[u8], passage: Passage, acted: &mut QuirkSet) -> Action {
        let Some(action) = table::action(id, passage) else { return self.unknown(name, passage, acted) };
        if self.rules.stops(id) {
            return Action::Drop;
        }
        match action {
            Action::Microsoft => self.microsoft(passage, acted),
            Action::HopByHop => self.hop_by_hop(passage, acted),
            Action::Repair if !self.a.has(Quirk::DiversionQuoting) => Action::Copy,
            other => other,
        }
    }

    fn unknown(&self, name: &[u8], passage: Passage, acted: &mut QuirkSet) -> Action {
        if self.rules.stops_named(name) {
            return Action::Drop;
        }
        // Another gateway's tokens stay visible, or two gateways could send a call round for ever.
        if self.rules.passes_named(name) || name.eq_ignore_ascii_case(HOP_HEADER.as_bytes()) {
            return Action::Copy;
        }
        if is_microsoft(name) { self.microsoft(passage, acted) } else { self.by_rule(passage) }
    }

    fn microsoft(&self, passage: Passage, acted: &mut QuirkSet) -> Action {
        let ruled = self.by_rule(passage);
        if ruled == Action::Drop && self.a.has(Quirk::MsHeaders) {
            acted.add(Quirk::MsHeaders);
            return Action::Copy;
        }
        ruled
    }

    fn hop_by_hop(&self, passage: Passage, acted: &mut QuirkSet) -> Action {
        if self.sender(passage).has(Quirk::MsHopByHop) {
            acted.add(Quirk::MsHopByHop);
            return Action::Drop;
        }
        self.microsoft(passage, acted)
    }

    fn by_rule(&self, passage: Passage) -> Action {
        let unknown = match from(passage) {
            Side::A => self.rules.unknown_to_um(),
            Side::B => self.rules.unknown_from_um(),
        };
        match unknown {
            UnknownHeaders::Pass => Action::Copy,
            UnknownHeaders::Drop => Action::Drop,
        }
    }

    fn sender(&self, passage: Passage) -> Dialect {
        match from(passage) {
            Side::A => self.a,
            Side::B => self.b,
        }
    }
}

fn from(passage: Passage) -> Side {
    match passage {
        Passage::Invite | Passage::RequestToB | Passage::ResponseToB => Side::A,
        Passage::OutCall | Passage::RequestToA | Passage::ResponseToA => Side::B,
    }
}

fn is_microsoft(name: &[u8]) -> bool {
    name.get(..3).is_some_and(|head| head.eq_ignore_ascii_case(b"ms-"))
}

/// Our own part of leg B's header set.
pub(crate) struct OwnLines<'a> {
    /// Value of From, our tag included.
    pub from: &'a [u8],
    /// Value of To, without a tag.
    pub to: &'a [u8],
    /// Call-ID of leg B.
    pub call_id: &'a [u8],
    /// Contact value.
    pub contact: &'a [u8],
    /// Max-Forwards to send.
    pub max_forwards: u32,
    /// Our hop token.
    pub hop_token: &'a str,
    /// Name of the correlation header.
    pub correlation: Option<&'a str>,
}

/// Everything of leg B's INVITE but Request-URI, Via, CSeq and body: what the caller sent and may pass, and ours.
pub(crate) fn leg_b_set(
    invite: &Message,
    policy: &HeaderPolicy<'_>,
    passage: Passage,
    own: &OwnLines<'_>,
) -> Carried {
    let mut block = Block::default();
    block
        .header(HeaderId::MaxForwards, own.max_forwards.to_string())
        .header(HeaderId::From, own.from)
        .header(HeaderId::To, own.to)
        .header(HeaderId::CallId, own.call_id)
        .header(HeaderId::Contact, own.contact)
        .header(HeaderId::Allow, ALLOW)
        .header(HeaderId::Supported, SUPPORTED_B);
    let mut carrier = Carrier::new(policy, passage, WithBody::No, block);
    // The caller must not be able to speak in our name.
    carrier.but = own.correlation.map(|name| (HeaderId::from_name(name.as_bytes()), name));
    carrier.carry(invite);
    if let Some(name) = own.correlation {
        carrier.block.line(name.as_bytes(), invite.call_id());
    }
    carrier.block.line(HOP_HEADER.as_bytes(), own.hop_token.as_bytes());
    carrier.finish()
}

/// Header lines of a request, in or out of dialog, that go to the other leg with it and its body.
pub(crate) fn relayed_request_lines(request: &Message, policy: &HeaderPolicy<'_>, from: Side) -> Carried {
    let passage = match from {
        Side::A => Passage::RequestToB,
        Side::B => Passage::RequestToA,
    };
    let mut carrier = Carrier::new(policy, passage, WithBody::Yes, Block::default());
    carrier.carry(request);
    carrier.finish()
}

/// Header lines of a response that go to the other leg with it.
pub(crate) fn relayed_response_lines(
    response: &Message,
    policy: &HeaderPolicy<'_>,
    from: Side,
    body: WithBody,
) -> Carried {
    let passage = match from {
        Side::A => Passage::ResponseToB,
        Side::B => Passage::ResponseToA,
    };
    let mut carrier = Carrier::new(policy, passage, body, Block::default());
    carrier.carry(response);
    carrier.finish()
}

/// The Reason lines of a CANCEL or BYE that go with ours on the other leg (RFC 3326).
pub(crate) fn reason_lines(message: &Message, policy: &HeaderPolicy<'_>, from: Side) -> Bytes {
    let passage = match from {
        Side::A => Passage::RequestToB,
        Side::B => Passage::RequestToA,
    };
    let mut block = Block::default();
    for header in message.headers().filter(|header| header.id == HeaderId::Reason) {
        if policy.carries(header.id, header.name, passage) {
            block.line(header.name, &header.value());
        }
    }
    block.finish()
}

/// One pass over the headers of a message.
struct Carrier<'a> {
    policy: &'a HeaderPolicy<'a>,
    passage: Passage,
    body: WithBody,
    block: Block,
    /// A header that is left out whatever the table says.
    but: Option<(HeaderId, &'a str)>,
    acted: QuirkSet,
    /// Headers that were stated anew with their first line.
    restated: u128,
}

impl<'a> Carrier<'a> {
    fn new(policy: &'a HeaderPolicy<'a>, passage: Passage, body: WithBody, block: Block) -> Self {
        Self { policy, passage, body, block, but: None, acted: QuirkSet::NONE, restated: 0 }
    }

    fn carry(&mut self, message: &Message) {
        for header in message.headers() {
            if self.is_excepted(&header) {
                continue;
            }
            match self.policy.action(header.id, header.name, self.passage, &mut self.acted) {
                Action::Copy => self.copy(&header),
                Action::WithBody if self.body == WithBody::Yes => self.copy(&header),
                Action::Repair => self.repair(&header),
                Action::Regenerate => self.regenerate(message, header.id),
                _ => {}
            }
        }
    }

    fn finish(self) -> Carried {
        Carried { acted: self.acted, left_out: self.block.left_out(), lines: self.block.finish() }
    }

    fn is_excepted(&self, header: &Header<'_>) -> bool {
        self.but.is_some_and(|(id, name)| {
            header.id == id && (id != HeaderId::Other || header.name.eq_ignore_ascii_case(name.as_bytes()))
        })
    }

    fn copy(&mut self, header: &Header<'_>) {
        self.block.line(header.name, &header.value());
    }

    fn repair(&mut self, header: &Header<'_>) {
        let value = header.value();
        let repaired = sip::Diversion::normalise_quoting(&value);
        if let std::borrow::Cow::Owned(_) = &repaired {
            self.acted.add(Quirk::DiversionQuoting);
        }
        self.block.line(header.name, &repaired);
    }

    fn regenerate(&mut self, message: &Message, id: HeaderId) {
        let bit = 1 << id as u32;
        if self.restated & bit == 0 {
            self.restated |= bit;
            regenerate::restate(message, id, &mut self.block);
        }
    }
}

#[cfg(test)]
mod tests;
