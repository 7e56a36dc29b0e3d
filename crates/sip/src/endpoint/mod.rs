//! One endpoint: transactions by key, flows by handle, bytes in; bytes, events and the next deadline out. It matches
//! messages to transactions, repeats what must be repeated and refuses what has no place; it knows no call, dialog or
//! policy. Drain [`Endpoint::poll_output`] after every call.

mod client;
mod ids;
mod server;
mod table;
#[cfg(test)]
mod tests;
mod types;

pub use types::{
    ClientFailure, ClientKey, EndpointConfig, Event, Flow, OutgoingRequest, Output, Party, SendError,
    ServerFailure, ServerKey, TRANSACTIONS_MAX, TableCounts,
};

use crate::transaction::{Context, Lane, TimerReason};
use crate::{FlowKey, Message, Method, ParseError, reject_bytes};
use bytes::Bytes;
use client::ClientEntry;
use ids::{Ids, Print};
use server::ServerEntry;
use std::collections::{HashMap, VecDeque};
use std::time::Instant;
use table::{Deadlines, Owner, Siblings, Table, TimerHandle};

/// How a tag begins, and how many of them are looked at in an ACK before it is parsed: From's, To's, two more.
const TAG_PARAM: &[u8] = b";tag=";
const TAGS_READ: usize = 4;

type Index<K> = HashMap<Print, K, ahash::RandomState>;

/// The transactions of one shard, and the ways to reach them.
pub struct Endpoint {
    config: EndpointConfig,
    ids: Ids,
    outputs: VecDeque<Output>,
    deadlines: Deadlines,
    clients: Table<ClientEntry>,
    servers: Table<ServerEntry>,
    /// CANCELs share the branch of their INVITE, so their key cannot be in it.
    cancels: Index<ClientKey>,
    /// INVITEs of ours by Call-ID, CSeq and From tag: where an ACK to a 2xx is remembered.
    invites: Index<ClientKey>,
    /// RFC 3261 §17.2.3.
    by_branch: Index<ServerKey>,
    /// Call-ID, From tag and CSeq: ACKs to a 2xx, and merged requests (RFC 3261 §8.2.2.2).
    by_identity: Index<ServerKey>,
    /// The newest transaction of each flow; the others hang on it.
    by_flow: HashMap<FlowKey, Owner, ahash::RandomState>,
    accepted: usize,
}

/// The timers of one transaction, one per lane.
#[derive(Copy, Clone, Default)]
struct Lanes([Option<TimerHandle>; 2]);

impl Endpoint {
    /// An empty endpoint. One seed gives one trace.
    #[must_use]
    pub fn new(config: EndpointConfig, seed: u64) -> Self {
        let ids = Ids::new(seed);
        let index = || HashMap::with_hasher(ids.table_hasher());
        Self {
            outputs: VecDeque::new(),
            deadlines: Deadlines::default(),
            clients: Table::new(config.transactions_max),
            servers: Table::new(config.transactions_max),
            cancels: HashMap::with_hasher(ids.table_hasher()),
            invites: HashMap::with_hasher(ids.table_hasher()),
            by_branch: index(),
            by_identity: index(),
            by_flow: HashMap::with_hasher(ids.table_hasher()),
            accepted: 0,
            config,
            ids,
        }
    }

    /// A framed message or a datagram came on a flow.
    pub fn handle_bytes(&mut self, now: Instant, flow: &Flow, bytes: Bytes) {
        if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return; // keep-alive datagrams
        }
        if self.acks_stateless(&bytes) {
            return;
        }
        match Message::parse(bytes.clone(), &self.config.limits) {
            Ok(message) if message.is_request() => self.on_request(now, flow, message),
            Ok(message) => self.on_response(now, flow, message),
            Err(error) => self.on_malformed(flow, &bytes, error),
        }
    }

    /// The ACK to a refusal that was sent without a transaction (RFC 3261 §8.2.7). It needs nothing, so nothing of it is
    /// read but its tags: a refused call must cost little.
    fn acks_stateless(&self, bytes: &[u8]) -> bool {
        let is_ours = |at: usize| {
            let tag = &bytes[at + TAG_PARAM.len()..];
            let len = tag.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            self.ids.is_stateless_tag(&tag[..len])
        };
        bytes.starts_with(b"ACK ") && memchr::memmem::find_iter(bytes, TAG_PARAM).take(TAGS_READ).any(is_ours)
    }

    /// The deadline of [`Self::poll_deadline`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((owner, reason)) = self.deadlines.pop_due(now) {
            match owner {
                Owner::Client(key) => self.on_client_timer(now, key, reason),
                Owner::Server(key) => self.on_server_timer(now, key, reason),
            }
        }
    }

    /// A flow is gone: what cannot end without it ends now.
    pub fn handle_flow_down(&mut self, now: Instant, flow: FlowKey) {
        for owner in self.owners_on(flow) {
            match owner {
                Owner::Client(key) => self.on_client_flow_down(now, key),
                Owner::Server(key) => self.on_server_flow_down(now, key),
            }
        }
    }

    /// Everything on one flow goes on on another, as if it had begun there: its connection was made again.
    pub fn move_flow(&mut self, from: FlowKey, to: &Flow) {
        for owner in self.owners_on(from) {
            match owner {
                Owner::Client(key) => self.move_client(key, to),
                Owner::Server(key) => self.move_server(key, to),
            }
        }
    }

    /// The server transactions whose requests came on a flow.
    #[must_use]
    pub fn servers_on(&self, flow: FlowKey) -> Vec<ServerKey> {
        let server = |owner| match owner {
            Owner::Server(key) => Some(key),
            Owner::Client(_) => None,
        };
        self.owners_on(flow).into_iter().filter_map(server).collect()
    }

    /// Whether any transaction lives on a flow.
    #[must_use]
    pub fn is_using(&self, flow: FlowKey) -> bool {
        self.by_flow.contains_key(&flow)
    }

    fn owners_on(&self, flow: FlowKey) -> Vec<Owner> {
        let newest = self.by_flow.get(&flow).copied();
        let mut owners: Vec<_> =
            std::iter::successors(newest, |owner| self.siblings(*owner).and_then(|s| s.older)).collect();
        owners.sort_unstable();
        owners
    }

    /// What to do next; `None` until something happens again.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] is due, and for which timer.
    #[must_use]
    pub fn poll_deadline(&self) -> Option<(Instant, TimerReason)> {
        self.deadlines.first()
    }

    /// Puts ready bytes on a flow, past all transactions.
    pub fn send_raw(&mut self, flow: &Flow, bytes: Bytes) {
        self.send(flow.key, bytes);
    }

    /// A fresh tag (RFC 3261 §19.3).
    pub fn new_tag(&mut self) -> Bytes {
        self.ids.token(b"", 1)
    }

    /// A fresh Call-ID behind a prefix.
    pub fn new_call_id(&mut self, prefix: &[u8]) -> Bytes {
        self.ids.token(prefix, 2)
    }

    /// How full the tables are.
    #[must_use]
    pub fn counts(&self) -> TableCounts {
        TableCounts {
            client: self.clients.len(),
            server: self.servers.len(),
            accepted: self.accepted,
            timers: self.deadlines.len(),
        }
    }

    fn on_malformed(&mut self, flow: &Flow, bytes: &Bytes, error: ParseError) {
        let tag = self.ids.tag_of_bytes(bytes);
        let refusal = reject_bytes(bytes, error.status(), Some(&tag)).filter(|refusal| is_answer(refusal));
        let answered = refusal.is_some();
        if let Some(refusal) = refusal {
            self.send(flow.key, refusal);
        }
        self.event(Event::Malformed { flow: *flow, error, answered });
    }

    fn send(&mut self, flow: FlowKey, bytes: Bytes) {
        self.outputs.push_back(Output::Send { flow, bytes });
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn siblings(&self, owner: Owner) -> Option<Siblings> {
        match owner {
            Owner::Client(key) => self.clients.get(key.0, key.1).map(|entry| entry.siblings),
            Owner::Server(key) => self.servers.get(key.0, key.1).map(|entry| entry.siblings),
        }
    }

    fn siblings_mut(&mut self, owner: Owner) -> Option<&mut Siblings> {
        match owner {
            Owner::Client(key) => self.clients.get_mut(key.0, key.1).map(|entry| &mut entry.siblings),
            Owner::Server(key) => self.servers.get_mut(key.0, key.1).map(|entry| &mut entry.siblings),
        }
    }

    /// A new transaction joins those of its flow.
    fn join(&mut self, flow: FlowKey, owner: Owner) {
        let older = self.by_flow.insert(flow, owner);
        if let Some(siblings) = self.siblings_mut(owner) {
            siblings.older = older;
        }
        if let Some(siblings) = older.and_then(|older| self.siblings_mut(older)) {
            siblings.newer = Some(owner);
        }
    }

    /// A transaction has left its table; its neighbours close the gap.
    fn leave(&mut self, flow: FlowKey, left: Siblings) {
        if let Some(siblings) = left.older.and_then(|older| self.siblings_mut(older)) {
            siblings.newer = left.newer;
        }
        match (left.newer, left.older) {
            (Some(newer), older) => {
                if let Some(siblings) = self.siblings_mut(newer) {
                    siblings.older = older;
                }
            }
            (None, Some(older)) => drop(self.by_flow.insert(flow, older)),
            (None, None) => drop(self.by_flow.remove(&flow)),
        }
    }

    /// Party, Call-ID, From tag, CSeq number and method in one key.
    fn identity(&self, party: Party, message: &Message, method: &Method) -> Print {
        let tag = message.from_tag().unwrap_or_default();
        self.identity_of(party, message.call_id(), tag, message.cseq().number, method)
    }

    fn identity_of(
        &self,
        party: Party,
        call_id: &[u8],
        from_tag: &[u8],
        cseq: u32,
        method: &Method,
    ) -> Print {
        let party = party.0.to_be_bytes();
        self.ids.print(&[&party, call_id, from_tag, &cseq.to_be_bytes(), method.as_bytes()])
    }

    fn context(&self, flow: &Flow) -> Context {
        Context { timers: self.config.timers, transport: flow.transport }
    }
}

/// A refusal is only worth sending when its receiver can match it: by the branch of its Via and the method of its CSeq
/// (RFC 3261 §17.1.3). What else the request lacks, the refusal lacks too (RFC 4475 §3.3.1).
fn is_answer(refusal: &[u8]) -> bool {
    const CSEQ: &[u8] = b"\r\nCSeq: ";
    refusal.windows(CSEQ.len()).any(|window| window == CSEQ)
}

impl Lanes {
    fn replace(&mut self, lane: Lane, handle: Option<TimerHandle>, deadlines: &mut Deadlines) {
        if let Some(old) = std::mem::replace(&mut self.0[lane as usize], handle) {
            deadlines.stop(old);
        }
    }

    fn stop_all(&mut self, deadlines: &mut Deadlines) {
        self.replace(Lane::Retransmit, None, deadlines);
        self.replace(Lane::Limit, None, deadlines);
    }
}
