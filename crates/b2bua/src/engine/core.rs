//! Everything the calls of one engine share: endpoint, tables, timers, outputs. Owns the tables' order
//! and the words we put into messages of our own. Refuses to know the states of a call.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use relay::Side;
use sip::endpoint::{ClientKey, Endpoint, EndpointConfig, Flow, OutgoingRequest, ServerKey};
use sip::{Builder, HeaderId, Message, StatusCode, Transport};

use super::deposits::Deposits;
pub(crate) use super::dialogs::DialogId;
use super::dialogs::Dialogs;
use super::flows::{FlowEntry, Flows};
use super::forward::Forward;
use super::gate::Gate;
use super::io::{CallKey, ConnectKey, EngineConfig, Event, Output, QueryKey};
use super::keys::KeySource;
use super::parked::ParkedFlows;
use super::probes::{ProbeKey, Probes};
use super::reach::Reach;
use super::timers::Timers;
use crate::call::transfer::Named;
use crate::headers::{self, Carried};
use crate::policy::Policy;
use crate::quirks::QuirkSet;
use crate::server_choice::ServerTable;
use crate::verdict::{Refusal, clean};

/// Transactions open at once, both roles together.
const TRANSACTIONS_MAX: usize = 200_000;
/// Characters of a peer's message that an event repeats.
const SHOWN_BYTES_MAX: usize = 120;

/// A hash table whose order nobody can choose.
pub(crate) type Table<K, V> = HashMap<K, V, ahash::RandomState>;

/// What one of our requests is for.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum ClientUse {
    /// The INVITE of leg B.
    Invite(CallKey),
    /// A re-INVITE or UPDATE with an offer, or an INVITE in dialog.
    Reoffer(CallKey),
    /// Any other in-dialog request on its way through.
    Relayed(CallKey),
    /// A BYE of ours.
    Bye(CallKey),
    /// Asks over a new connection whether the dialog is still known.
    Probe(CallKey, Side),
    /// A session refresh of ours.
    Refresh(CallKey, Side),
    /// A request of a transfer: re-INVITE, INVITE to the target, NOTIFY.
    Transfer(CallKey),
    /// An out-of-dialog request on its way through.
    Forwarded(ServerKey),
    /// OPTIONS to a UM server.
    Health(ProbeKey),
    /// A PRACK of ours.
    Prack,
    /// An INFO of ours with a digit.
    Digit,
    /// An UPDATE with an offer between early dialogs.
    EarlyOffer(CallKey),
    /// A re-INVITE of ours toward the caller.
    OwnReoffer(CallKey),
}

/// A drain that goes on.
pub(crate) struct Drain {
    /// When patience ends.
    pub until: Option<Instant>,
    /// `Event::Drained` was sent.
    pub announced: Announced,
}

/// Whether the end of a drain was told.
#[derive(Copy, Clone, Eq, PartialEq)]
pub(crate) enum Announced {
    /// Not yet.
    No,
    /// Told.
    Yes,
}

/// The shared part.
pub(crate) struct Core {
    pub config: EngineConfig,
    pub policy: Arc<Policy>,
    pub endpoint: Endpoint,
    pub outputs: VecDeque<Output>,
    pub timers: Timers,
    pub flows: Flows,
    /// Places that are looked for outside call set-up.
    pub reach: Reach,
    /// Stand-ins for lost flows.
    pub parked: ParkedFlows,
    pub servers: ServerTable,
    /// UM servers that this shard asks by OPTIONS.
    pub probes: Probes,
    /// Messages that are being taken.
    pub deposits: Deposits,
    pub gate: Gate,
    /// The request that is being handled, until it has found its call or its answer.
    pub serving: Option<ServerKey>,
    /// In-dialog requests until their transactions are gone.
    pub served: Table<ServerKey, CallKey>,
    #[cfg(test)]
    pub fault_in: Option<u32>,
    pub keys: KeySource,
    pub clients: Table<ClientKey, ClientUse>,
    pub invites: Table<ServerKey, CallKey>,
    pub dialogs: Dialogs,
    /// What another shard knows about the dialog that the present REFER names.
    pub named: Option<Box<Named>>,
    pub connects: BTreeMap<ConnectKey, (CallKey, String)>,
    /// Requests outside calls whose answer is awaited.
    pub forwards: BTreeMap<ServerKey, Forward>,
    pub queries: BTreeMap<QueryKey, CallKey>,
    pub counters: BTreeMap<&'static str, u64>,
    /// Reason lines for the BYE that a 2xx gets when it crosses our CANCEL; gone with the INVITE's transaction.
    pub withdrawn: BTreeMap<ClientKey, Bytes>,
    pub drain: Option<Drain>,
    /// First bytes of every Call-ID we make: ours alone, the same after a restart.
    pub call_id_prefix: String,
    /// What we put into the hop header.
    pub hop_token: String,
    next_number: u64,
}

impl Core {
    pub fn new(config: EngineConfig, policy: Arc<Policy>) -> Self {
        let seeded = |salt| ahash::RandomState::with_seeds(config.seed, salt, 0x5eed, 0xb2b);
        let instance = instance_token(&policy.gateway.fqdn);
        let mut core = Self {
            endpoint: Endpoint::new(endpoint_config(&config, &policy), config.seed),
            outputs: VecDeque::new(),
            timers: Timers::default(),
            flows: Flows::default(),
            servers: ServerTable::new(config.ledger.clone()),
            probes: Probes::new(config.seed),
            deposits: Deposits::default(),
            gate: Gate::new(config.started, config.ledger.clone()),
            serving: None,
            served: HashMap::with_hasher(seeded(4)),
            #[cfg(test)]
            fault_in: None,
            reach: Reach::default(),
            parked: ParkedFlows::default(),
            keys: KeySource::new(config.key_seed),
            clients: HashMap::with_hasher(seeded(1)),
            invites: HashMap::with_hasher(seeded(2)),
            dialogs: Dialogs::new(seeded(3), config.shards),
            named: None,
            connects: BTreeMap::new(),
            forwards: BTreeMap::new(),
            queries: BTreeMap::new(),
            counters: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            drain: None,
            call_id_prefix: call_id_prefix(&policy.gateway.fqdn, config.shard),
            hop_token: format!("{instance:08x}"),
            next_number: 0,
            config,
            policy,
        };
        core.choose_doors(core.config.started);
        core
    }

    /// Where tests let the engine break.
    #[cfg(test)]
    pub fn fault_point(&mut self) {
        match &mut self.fault_in {
            Some(0) => {
                self.fault_in = None;
                panic!("forced by a test");
            }
            Some(left) => *left -= 1,
            None => {}
        }
    }

    /// Nothing, outside this crate's own tests.
    #[cfg(not(test))]
    #[inline(always)]
    #[expect(clippy::unused_self, reason = "the tests' twin needs it")]
    pub fn fault_point(&mut self) {}

    pub fn event(&mut self, event: Event) {
        self.fault_point();
        self.outputs.push_back(Output::Event(event));
    }

    pub fn count(&mut self, counter: &'static str) {
        *self.counters.entry(counter).or_default() += 1;
    }

    /// Counts each quirk that acted.
    pub fn count_quirks(&mut self, acted: QuirkSet) {
        acted.iter().for_each(|quirk| self.count(quirk.counter()));
    }

    /// Counts what happened to header lines on their way, and hands them on.
    pub fn carried(&mut self, carried: Carried) -> Bytes {
        self.count_quirks(carried.acted);
        if carried.left_out > 0 {
            self.count("header_lines_unclean");
        }
        carried.lines
    }

    /// Something was dropped or refused outside any call.
    pub fn dropped(&mut self, counter: &'static str, flow: &FlowEntry, what: &[u8]) {
        self.count(counter);
        let shown = what.get(..what.len().min(SHOWN_BYTES_MAX)).unwrap_or_default();
        let what = clean(&shown.escape_ascii().to_string());
        self.event(Event::Dropped { counter, remote: flow.remote, what });
    }

    pub fn connect_key(&mut self) -> ConnectKey {
        self.next_number += 1;
        ConnectKey(self.next_number)
    }

    pub fn query_key(&mut self) -> QueryKey {
        self.next_number += 1;
        QueryKey(self.next_number)
    }

    /// Our Contact on a flow of that transport.
    pub fn contact(&self, transport: Transport, local_port: u16) -> Bytes {
        let gateway = &self.policy.gateway;
        let host = match (transport.is_secure(), gateway.advertised) {
            (true, _) => gateway.fqdn.clone(),
            (false, std::net::IpAddr::V6(address)) => format!("[{address}]"),
            (false, std::net::IpAddr::V4(address)) => address.to_string(),
        };
        Bytes::from(format!("<sip:{host}:{local_port};transport={}>", transport.as_param()))
    }

    /// Sends a request of ours and remembers what for.
    pub fn send(
        &mut self,
        now: Instant,
        flow: &Flow,
        request: OutgoingRequest,
        purpose: ClientUse,
    ) -> Option<ClientKey> {
        self.fault_point();
        match self.endpoint.send_request(now, flow, request) {
            Ok(key) => {
                self.clients.insert(key, purpose);
                Some(key)
            }
            Err(_) => {
                self.count("requests_not_sent");
                None
            }
        }
    }

    /// Answers without anything of our own but the status.
    pub fn respond_plain(
        &mut self,
        now: Instant,
        key: ServerKey,
        request: &Message,
        status: u16,
        lines: &[(HeaderId, &str)],
    ) {
        self.respond(
            now,
            key,
            request,
            &Answer { status, reason: None, tag: None, lines, block: &[], body: None },
        );
    }

    /// Answers a request.
    pub fn respond(&mut self, now: Instant, key: ServerKey, request: &Message, answer: &Answer<'_>) {
        self.fault_point();
        let Some(bytes) = self.response_bytes(request, answer) else {
            self.count("responses_not_built");
            return;
        };
        if self.endpoint.respond(now, key, bytes).is_err() {
            self.count("responses_not_sent");
        }
    }

    /// The bytes of a response.
    pub fn response_bytes(&mut self, request: &Message, answer: &Answer<'_>) -> Option<Bytes> {
        let status = StatusCode::new(answer.status)?;
        let tag = answer.tag.map_or_else(|| self.endpoint.new_tag(), Bytes::copy_from_slice);
        let reason = answer.reason.filter(|reason| headers::is_clean(reason));
        if reason.is_none() && answer.reason.is_some() {
            self.count("reason_phrases_unclean");
        }
        let mut builder: Builder = sip::response_to(request, status, reason, Some(&tag));
        builder = builder.header(HeaderId::Server, &self.config.product);
        for (id, value) in answer.lines {
            builder = builder.header(*id, value);
        }
        let (content_type, body) = match &answer.body {
            Some((content_type, body)) => (Some(*content_type), &body[..]),
            None => (None, &[][..]),
        };
        builder.block(answer.block).finish(content_type, body).ok()
    }

    /// Answers with the mapping of a refusal.
    pub fn refuse(
        &mut self,
        now: Instant,
        key: ServerKey,
        request: &Message,
        refusal: &Refusal,
        tag: Option<&[u8]>,
    ) {
        let (status, reason, block) = self.refusal_parts(refusal);
        let unsupported = headers::unsupported(request);
        let min_se = self.policy.session.min_se_secs.to_string();
        // What such an answer must name (RFC 3261 §8.2, RFC 4028 §6).
        let named = match status {
            405 => Some((HeaderId::Allow, headers::ALLOW)),
            415 => Some((HeaderId::Accept, headers::ACCEPT)),
            420 => Some((HeaderId::Unsupported, unsupported.as_str())),
            422 => Some((HeaderId::MinSe, min_se.as_str())),
            _ => None,
        };
        let lines = named.as_slice();
        let answer =
            Answer { status, reason: Some(reason.as_bytes()), tag, lines, block: &block, body: None };
        self.respond(now, key, request, &answer);
    }

    /// Status, reason phrase and header lines of a refusal.
    pub fn refusal_parts(&self, refusal: &Refusal) -> (u16, &'static str, Bytes) {
        let reply = refusal.reply(&self.policy.gateway.fqdn);
        let mut block = headers::Block::default();
        for (name, value) in &reply.headers {
            block.line(name.as_bytes(), value.as_bytes());
        }
        (reply.status, reply.reason, block.finish())
    }

    pub fn is_draining(&self) -> bool {
        self.drain.is_some()
    }
}

/// A response of ours.
pub(crate) struct Answer<'a> {
    pub status: u16,
    pub reason: Option<&'a [u8]>,
    /// To tag; a fresh one when `None`.
    pub tag: Option<&'a [u8]>,
    pub lines: &'a [(HeaderId, &'a str)],
    pub block: &'a [u8],
    pub body: Option<(&'a [u8], Bytes)>,
}

impl<'a> Answer<'a> {
    /// Just a status.
    pub fn of(status: u16) -> Self {
        Answer { status, reason: None, tag: None, lines: &[], block: &[], body: None }
    }
}

fn endpoint_config(config: &EngineConfig, policy: &Policy) -> EndpointConfig {
    let gateway = &policy.gateway;
    let via_host = match (gateway.tls_port, gateway.advertised) {
        (Some(_), _) => gateway.fqdn.clone(),
        (None, std::net::IpAddr::V6(address)) => format!("[{address}]"),
        (None, std::net::IpAddr::V4(address)) => address.to_string(),
    };
    EndpointConfig {
        timers: config.timers,
        limits: config.limits,
        via_host: Bytes::from(via_host),
        branch_prefix: Bytes::new(),
        transactions_max: TRANSACTIONS_MAX,
        server_header: None,
        user_agent: None,
    }
}

/// What every Call-ID made by that shard of that gateway begins with.
pub(super) fn call_id_prefix(fqdn: &str, shard: u16) -> String {
    format!("ub{:08x}-{shard:04x}-", instance_token(fqdn))
}

/// The same FQDN gives the same token in every run, so that a loop over a restart is still seen.
fn instance_token(fqdn: &str) -> u32 {
    // FNV-1a: any fixed function does; nothing here is secret.
    fqdn.bytes()
        .map(|b| b.to_ascii_lowercase())
        .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
