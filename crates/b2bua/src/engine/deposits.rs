//! Messages that are being taken, in all shards: a call that UM places meanwhile for the caller or the mailbox is find-me, and
//! names that call as its parent. Owns what other shards told of theirs, and what they were told of ours; refuses to know routes.

use std::collections::{BTreeMap, BTreeSet};

use super::core::Core;
use super::io::{CallKey, News, Output};
use crate::call::{Call, State};
use crate::policy::Policy;
use crate::record::CallType;
use crate::route::{RouteQuestion, mailbox_of};

/// Messages of other shards that are remembered: more than a gateway takes at once. Of more, the calls count as Play-on-Phone.
const ELSEWHERE_MAX: usize = 16_384;

/// A message that is being taken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Deposit {
    /// Name of the server that takes it.
    pub server: String,
    /// Who leaves it.
    pub caller: String,
    /// Alias of the mailbox, when it is known.
    pub mailbox: Option<String>,
    /// Call-ID of the caller's leg.
    pub call_id: String,
}

impl Deposit {
    /// What a call is as a deposit, while it is one.
    pub(super) fn of(call: &Call) -> Option<Self> {
        let is_taken = call.route.call_type == CallType::CallAnswering;
        let server = &call.leg(call.um_side()).peer.name;
        (is_taken && call.is_um_at(server)).then(|| Self {
            server: server.clone(),
            caller: call.route.caller.clone(),
            mailbox: call.route.mailbox.and_then(|at| alias(&call.policy, at)),
            call_id: call.story.call_id.clone(),
        })
    }

    /// Whether a call of that server is placed while this message is taken, for its caller or its mailbox.
    pub(super) fn is_behind(&self, policy: &Policy, server: &str, question: &RouteQuestion) -> bool {
        let mailbox_of = |party| mailbox_of(policy, party, None).and_then(|at| alias(policy, at));
        self.server.eq_ignore_ascii_case(server)
            && question.callers().any(|caller| {
                caller.shown() == self.caller || self.mailbox.is_some() && mailbox_of(caller) == self.mailbox
            })
    }
}

fn alias(policy: &Policy, mailbox: usize) -> Option<String> {
    policy.mailboxes.get(mailbox).map(|mailbox| mailbox.alias.to_ascii_lowercase())
}

/// What the shards told each other.
#[derive(Default)]
pub(crate) struct Deposits {
    own: BTreeSet<CallKey>,
    elsewhere: BTreeMap<(u16, CallKey), Deposit>,
}

impl Deposits {
    /// The call behind one that UM places, if another shard holds it.
    pub(super) fn behind(&self, policy: &Policy, server: &str, question: &RouteQuestion) -> Option<String> {
        let mut others = self.elsewhere.values();
        others.find(|deposit| deposit.is_behind(policy, server, question)).map(|found| found.call_id.clone())
    }

    /// Another shard takes a message, or took it.
    pub(super) fn on_news(&mut self, at: (u16, CallKey), deposit: Option<&Deposit>) {
        match deposit {
            Some(deposit) if self.elsewhere.len() < ELSEWHERE_MAX => {
                self.elsewhere.insert(at, deposit.clone());
            }
            Some(_) => {}
            None => {
                self.elsewhere.remove(&at);
            }
        }
    }
}

impl Core {
    /// The other shards learn when a message begins to be taken, and when that is over. Only what is answered counts: before
    /// that nobody looks for the user.
    pub(super) fn tell_deposit(&mut self, key: CallKey, call: &Call) {
        if self.config.shards == 1 {
            return;
        }
        let is_over = matches!(call.state, State::Ending { .. } | State::Ended);
        let was_told = self.deposits.own.contains(&key);
        let deposit = match (was_told, is_over) {
            (false, false) if matches!(call.state, State::Established) => Deposit::of(call),
            (true, true) => None,
            _ => return,
        };
        match deposit {
            Some(_) => self.deposits.own.insert(key),
            None => self.deposits.own.remove(&key),
        };
        if deposit.is_some() || was_told {
            let shard = self.config.shard;
            self.outputs.push_back(Output::Told(News::Deposit { shard, call: key, deposit }));
        }
    }
}
