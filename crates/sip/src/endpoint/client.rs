//! Requests going out and the responses to them: client transactions in the table, CANCEL, both kinds of ACK.

use super::ids::Print;
use super::ids::key_of_branch;
use super::table::Owner;
use super::table::Siblings;
use super::{ClientFailure, ClientKey, Endpoint, Event, Flow, Lanes, OutgoingRequest, SendError};
use crate::builder::put_decimal;
use crate::header::{cseq, scan_single};
use crate::transaction::{
    Action, Actions, Client, ClientEvent, ClientState, Context, InviteClient, InviteClientEvent,
    InviteClientState, TimerReason,
};
use crate::wire::scan::{cut_line, find_crlf, has_blank_line, has_forbidden};
use crate::{FlowKey, HeaderId, Message, Method, ParseError};
use bytes::{BufMut, Bytes, BytesMut};
use std::time::Instant;

/// How many forked 2xx of one INVITE are delivered; more are strays.
pub const FORKS_MAX: usize = 8;

/// What printing adds to the parts of a request, besides its branch: our Via, User-Agent, the lines of the body.
const PRINTED_BYTES: usize = 192;

/// One client transaction.
pub(super) struct ClientEntry {
    machine: Machine,
    /// What each response has to repeat.
    identity: Print,
    flow: Flow,
    branch: Bytes,
    /// The request; emptied when it cannot be needed again.
    request: Bytes,
    lanes: Lanes,
    pub(super) siblings: Siblings,
}

enum Machine {
    Other(Client),
    /// Its responses concern nobody but the endpoint.
    Cancel(Client),
    Invite(InviteClient, Box<Invite>),
}

/// What only an INVITE needs.
struct Invite {
    /// The ACK to the non-2xx final response, once it is built.
    ack: Bytes,
    forks: Vec<Fork>,
    cancel: Cancel,
    /// Header lines for the CANCEL.
    cancel_lines: Bytes,
}

#[derive(Copy, Clone, Eq, PartialEq)]
enum Cancel {
    No,
    /// Asked for, but RFC 3261 §9.1 waits for a provisional response.
    Wanted,
    Sent,
}

/// One 2xx and the ACK the user gave for it.
struct Fork {
    to_tag: Bytes,
    ack: Option<(FlowKey, Bytes)>,
}

/// A machine's event, of whichever machine.
#[derive(Copy, Clone)]
enum Cause<'a> {
    Response(&'a Flow, &'a Message),
    Timer(TimerReason),
    FlowDown,
    Cancelled,
}

impl Endpoint {
    /// Starts a client transaction; Via with a fresh branch goes on top.
    pub fn send_request(
        &mut self,
        now: Instant,
        flow: &Flow,
        request: OutgoingRequest,
    ) -> Result<ClientKey, SendError> {
        if matches!(request.method, Method::Ack | Method::Cancel) {
            return Err(SendError::MethodNotAllowed);
        }
        if self.clients.is_full() {
            return Err(SendError::TableFull);
        }
        let (index, generation) = self.clients.next();
        let branch = self.ids.branch(&self.config.branch_prefix, ClientKey(index, generation));
        let bytes = self.print(flow, &branch, &request)?;
        let context = self.context(flow);
        let names = Names::of(&request.headers).map_err(SendError::RequestUnparsable)?;
        let identity =
            self.identity_of(flow.party, names.call_id, names.from_tag, names.cseq, &request.method);
        let (machine, actions) = if request.method == Method::Invite {
            let (machine, actions) = InviteClient::start(&context);
            let invite = Invite {
                ack: Bytes::new(),
                forks: Vec::new(),
                cancel: Cancel::No,
                cancel_lines: Bytes::new(),
            };
            (Machine::Invite(machine, Box::new(invite)), actions)
        } else {
            let (machine, actions) = Client::start(&context);
            (Machine::Other(machine), actions)
        };
        let key = self.insert_client(flow, branch, identity, bytes, machine);
        self.act_client(now, key, &actions, None);
        Ok(key)
    }

    /// Ends an INVITE of ours by CANCEL, as soon as RFC 3261 §9.1 lets it; nothing when a final response came.
    pub fn cancel(&mut self, now: Instant, key: ClientKey) {
        self.cancel_with(now, key, &Bytes::new());
    }

    /// As [`Self::cancel`], with complete header lines of the user's in the CANCEL (Reason, RFC 3326); lines that
    /// would break the message are left out.
    pub fn cancel_with(&mut self, now: Instant, key: ClientKey, lines: &Bytes) {
        let Some(entry) = self.clients.get_mut(key.0, key.1) else { return };
        let Machine::Invite(machine, invite) = &mut entry.machine else { return };
        if invite.cancel == Cancel::No && !breaks_block(lines) {
            invite.cancel_lines = lines.clone();
        }
        match (machine.state, invite.cancel) {
            (InviteClientState::Calling { .. }, Cancel::No) => invite.cancel = Cancel::Wanted,
            (InviteClientState::Proceeding, Cancel::No) => self.send_cancel(now, key),
            _ => {}
        }
    }

    /// Sends the ACK to a 2xx: no transaction, but remembered and repeated for each repeated 2xx.
    pub fn send_ack(&mut self, _now: Instant, flow: &Flow, ack: OutgoingRequest) {
        let branch = self.ids.branch(&self.config.branch_prefix, ClientKey(u32::MAX, u32::MAX));
        let Ok(bytes) = self.print(flow, &branch, &ack) else { return };
        if let Ok(names) = Names::of(&ack.headers) {
            self.remember_ack(flow, &names, &bytes);
        }
        self.send(flow.key, bytes);
    }

    /// Sends a request that is never answered (BENOTIFY): Via and a branch of its own, no transaction.
    pub fn send_one_way(
        &mut self,
        _now: Instant,
        flow: &Flow,
        request: &OutgoingRequest,
    ) -> Result<(), SendError> {
        let branch = self.ids.branch(&self.config.branch_prefix, ClientKey(u32::MAX, u32::MAX));
        let bytes = self.print(flow, &branch, request)?;
        self.send(flow.key, bytes);
        Ok(())
    }

    fn remember_ack(&mut self, flow: &Flow, names: &Names<'_>, ack: &Bytes) {
        let identity =
            self.identity_of(flow.party, names.call_id, names.from_tag, names.cseq, &Method::Invite);
        let Some(key) = self.invites.get(&identity).copied() else { return };
        let Some(entry) = self.clients.get_mut(key.0, key.1) else { return };
        let Machine::Invite(_, invite) = &mut entry.machine else { return };
        if let Some(fork) = invite.forks.iter_mut().find(|fork| fork.to_tag == names.to_tag) {
            fork.ack = Some((flow.key, ack.clone()));
        }
    }

    pub(super) fn on_response(&mut self, now: Instant, flow: &Flow, message: Message) {
        match self.client_of(flow, &message) {
            Some(key) if self.repeats_accepted(key, &message) => {}
            Some(key) => self.step_client(now, key, Cause::Response(flow, &message)),
            None => self.event(Event::Stray { flow: *flow, message }),
        }
    }

    pub(super) fn on_client_timer(&mut self, now: Instant, key: ClientKey, reason: TimerReason) {
        if let Some(entry) = self.clients.get_mut(key.0, key.1) {
            entry.lanes.0[reason.lane() as usize] = None;
            self.step_client(now, key, Cause::Timer(reason));
        }
    }

    pub(super) fn on_client_flow_down(&mut self, now: Instant, key: ClientKey) {
        self.step_client(now, key, Cause::FlowDown);
    }

    /// RFC 3261 §17.1.3: the branch and the method must match; §18.1.2: so must the sent-by; and §8.2.6.2: what every
    /// response repeats of its request. A dialog made from a response that does not would be nobody's. Who was not asked
    /// answers nothing, whatever of this is known to him.
    fn client_of(&self, flow: &Flow, message: &Message) -> Option<ClientKey> {
        let via = message.top_via().ok()?;
        let branch = via.branch()?;
        if !via.host().eq_ignore_ascii_case(&self.config.via_host) {
            return None;
        }
        let key = match message.method() {
            Method::Cancel => self.cancels.get(&self.ids.print(&[branch])).copied()?,
            _ => key_of_branch(branch)?,
        };
        let entry = self.clients.get(key.0, key.1)?;
        let is_its_own =
            entry.branch == branch && entry.identity == self.identity(flow.party, message, message.method());
        is_its_own.then_some(key)
    }

    /// A 2xx that was delivered before gets its ACK again and goes no further; a new one is noted.
    fn repeats_accepted(&mut self, key: ClientKey, message: &Message) -> bool {
        if !message.status().is_some_and(|status| status.is_success()) {
            return false;
        }
        let Some(entry) = self.clients.get_mut(key.0, key.1) else { return true };
        let Machine::Invite(machine, invite) = &mut entry.machine else { return false };
        if machine.state == InviteClientState::Completed {
            return false;
        }
        let to_tag = message.to_tag().unwrap_or_default();
        let Some(fork) = invite.forks.iter().find(|fork| fork.to_tag == to_tag) else {
            let is_over = invite.forks.len() >= FORKS_MAX;
            if !is_over {
                // Nearly always the only one.
                invite.forks.reserve_exact(1);
                invite.forks.push(Fork { to_tag: Bytes::copy_from_slice(to_tag), ack: None });
            }
            return is_over;
        };
        if let Some((flow, bytes)) = fork.ack.clone() {
            self.send(flow, bytes);
        }
        true
    }

    fn step_client(&mut self, now: Instant, key: ClientKey, cause: Cause<'_>) {
        let Some(entry) = self.clients.get_mut(key.0, key.1) else { return };
        let context = Context { timers: self.config.timers, transport: entry.flow.transport };
        let (actions, is_over, wants_cancel) = match &mut entry.machine {
            Machine::Invite(machine, invite) => {
                let (next, actions) = machine.step(invite_event(cause), &context);
                let was_accepted = machine.state == InviteClientState::Accepted;
                let is_accepted = next.state == InviteClientState::Accepted;
                self.accepted += usize::from(is_accepted && !was_accepted);
                self.accepted -= usize::from(was_accepted && !is_accepted);
                *machine = next;
                if is_accepted {
                    entry.request = Bytes::new();
                }
                let is_ready = next.state == InviteClientState::Proceeding;
                let wants_cancel = is_ready && invite.cancel == Cancel::Wanted;
                (actions, next.state == InviteClientState::Terminated, wants_cancel)
            }
            Machine::Other(machine) | Machine::Cancel(machine) => {
                let (next, actions) = machine.step(plain_event(cause), &context);
                *machine = next;
                (actions, next.state == ClientState::Terminated, false)
            }
        };
        self.act_client(now, key, &actions, Some(cause));
        if wants_cancel {
            self.send_cancel(now, key);
        }
        if is_over {
            self.remove_client(key);
        }
    }

    fn act_client(&mut self, now: Instant, key: ClientKey, actions: &Actions, cause: Option<Cause<'_>>) {
        for action in actions.iter() {
            let Some(entry) = self.clients.get_mut(key.0, key.1) else { return };
            let is_internal = matches!(entry.machine, Machine::Cancel(_));
            match action {
                Action::Transmit => {
                    let (flow, bytes) = (entry.flow.key, entry.request.clone());
                    self.send(flow, bytes);
                }
                Action::SendAck => self.send_failure_ack(key, cause),
                Action::Start(reason, after) => {
                    let handle = self.deadlines.start(now, after, Owner::Client(key), reason);
                    entry.lanes.replace(reason.lane(), Some(handle), &mut self.deadlines);
                }
                Action::Stop(lane) => entry.lanes.replace(lane, None, &mut self.deadlines),
                Action::Deliver if !is_internal => {
                    if let Some(Cause::Response(flow, message)) = cause {
                        self.event(Event::Response { key, flow: *flow, message: message.clone() });
                    }
                }
                Action::FailTimeout if !is_internal => {
                    self.event(Event::ClientFailed { key, why: ClientFailure::Timeout });
                }
                Action::FailTransport if !is_internal => {
                    self.event(Event::ClientFailed { key, why: ClientFailure::TransportFailed });
                }
                _ => {}
            }
        }
    }

    /// RFC 3261 §17.1.1.3: built from the INVITE, To from the response; the same bytes each time.
    fn send_failure_ack(&mut self, key: ClientKey, cause: Option<Cause<'_>>) {
        let Some(entry) = self.clients.get_mut(key.0, key.1) else { return };
        let flow = entry.flow.key;
        let Machine::Invite(_, invite) = &mut entry.machine else { return };
        if invite.ack.is_empty() {
            let Some(Cause::Response(_, response)) = cause else { return };
            let to = response.value_bytes(HeaderId::To);
            let Ok(request) = Message::parse(entry.request.clone(), &self.config.limits) else { return };
            invite.ack = sibling(&request, &Method::Ack, to.as_deref(), b"");
        }
        let bytes = invite.ack.clone();
        self.send(flow, bytes);
    }

    /// RFC 3261 §9.1: a transaction of its own under the branch of the INVITE.
    fn send_cancel(&mut self, now: Instant, key: ClientKey) {
        let Some(entry) = self.clients.get_mut(key.0, key.1) else { return };
        let (flow, branch) = (entry.flow, entry.branch.clone());
        let Machine::Invite(_, invite) = &mut entry.machine else { return };
        invite.cancel = Cancel::Sent;
        let Ok(request) = Message::parse(entry.request.clone(), &self.config.limits) else { return };
        let bytes = sibling(&request, &Method::Cancel, None, &invite.cancel_lines);
        self.step_client(now, key, Cause::Cancelled);
        if self.clients.is_full() {
            self.send(flow.key, bytes);
            return;
        }
        let (machine, actions) = Client::start(&self.context(&flow));
        let identity = self.identity(flow.party, &request, &Method::Cancel);
        let cancel = self.insert_client(&flow, branch.clone(), identity, bytes, Machine::Cancel(machine));
        self.cancels.insert(self.ids.print(&[&branch]), cancel);
        self.act_client(now, cancel, &actions, None);
    }

    fn insert_client(
        &mut self,
        flow: &Flow,
        branch: Bytes,
        identity: Print,
        request: Bytes,
        machine: Machine,
    ) -> ClientKey {
        let is_invite = matches!(machine, Machine::Invite(..));
        let (lanes, siblings) = (Lanes::default(), Siblings::default());
        let entry = ClientEntry { machine, identity, flow: *flow, branch, request, lanes, siblings };
        let (index, generation) = self.clients.insert(entry);
        let key = ClientKey(index, generation);
        if is_invite {
            self.invites.insert(identity, key);
        }
        self.join(flow.key, Owner::Client(key));
        key
    }

    pub(super) fn move_client(&mut self, key: ClientKey, to: &Flow) {
        let Some(entry) = self.clients.get_mut(key.0, key.1) else { return };
        let (from, siblings) = (entry.flow.key, std::mem::take(&mut entry.siblings));
        if let Machine::Invite(_, invite) = &mut entry.machine {
            let acks = invite.forks.iter_mut().filter_map(|fork| fork.ack.as_mut());
            acks.filter(|ack| ack.0 == from).for_each(|ack| ack.0 = to.key);
        }
        entry.flow = *to;
        self.leave(from, siblings);
        self.join(to.key, Owner::Client(key));
    }

    fn remove_client(&mut self, key: ClientKey) {
        let Some(mut entry) = self.clients.remove(key.0, key.1) else { return };
        entry.lanes.stop_all(&mut self.deadlines);
        self.leave(entry.flow.key, entry.siblings);
        match &entry.machine {
            Machine::Cancel(_) => {
                self.cancels.remove(&self.ids.print(&[&entry.branch]));
            }
            Machine::Invite(..) if self.invites.get(&entry.identity) == Some(&key) => {
                self.invites.remove(&entry.identity);
            }
            _ => {}
        }
    }

    /// Start line, our Via, the user's lines, what it left out, body.
    fn print(&self, flow: &Flow, branch: &[u8], request: &OutgoingRequest) -> Result<Bytes, SendError> {
        check(request)?;
        let room =
            request.uri.len() + request.headers.len() + request.body.len() + branch.len() + PRINTED_BYTES;
        let mut out = BytesMut::with_capacity(room);
        out.put_slice(request.method.as_bytes());
        out.put_u8(b' ');
        out.put_slice(&request.uri);
        out.put_slice(b" SIP/2.0\r\nVia: SIP/2.0/");
        out.put_slice(flow.transport.as_via_str().as_bytes());
        out.put_u8(b' ');
        out.put_slice(&self.config.via_host);
        out.put_u8(b':');
        put_decimal(&mut out, usize::from(flow.via_port));
        out.put_slice(b";branch=");
        out.put_slice(branch);
        if !flow.transport.is_reliable() {
            out.put_slice(b";rport");
        }
        out.put_slice(b"\r\n");
        out.put_slice(&request.headers);
        if let Some(agent) = self.config.user_agent.as_ref().filter(|_| !names_agent(&request.headers)) {
            out.put_slice(b"User-Agent: ");
            out.put_slice(agent);
            out.put_slice(b"\r\n");
        }
        if let Some(content_type) = &request.content_type {
            out.put_slice(b"Content-Type: ");
            out.put_slice(content_type);
            out.put_slice(b"\r\n");
        }
        out.put_slice(b"Content-Length: ");
        put_decimal(&mut out, request.body.len());
        out.put_slice(b"\r\n\r\n");
        out.put_slice(&request.body);
        Ok(out.freeze())
    }
}

fn invite_event(cause: Cause<'_>) -> InviteClientEvent {
    match cause {
        Cause::Response(_, message) => match message.status() {
            Some(status) if status.is_provisional() => InviteClientEvent::Provisional,
            Some(status) if status.is_success() => InviteClientEvent::Success,
            _ => InviteClientEvent::Failure,
        },
        Cause::Timer(reason) => InviteClientEvent::Timer(reason),
        Cause::FlowDown => InviteClientEvent::TransportError,
        Cause::Cancelled => InviteClientEvent::Cancelled,
    }
}

fn plain_event(cause: Cause<'_>) -> ClientEvent {
    match cause {
        Cause::Response(_, message) if message.status().is_some_and(|status| status.is_provisional()) => {
            ClientEvent::Provisional
        }
        Cause::Response(..) | Cause::Cancelled => ClientEvent::Final,
        Cause::Timer(reason) => ClientEvent::Timer(reason),
        Cause::FlowDown => ClientEvent::TransportError,
    }
}

/// ACK to a non-2xx, or CANCEL: one Via, and the same Request-URI, Route, From, Call-ID and CSeq number.
fn sibling(invite: &Message, method: &Method, to: Option<&[u8]>, lines: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(512);
    for piece in [method.as_bytes(), b" ", &invite.request_uri(), b" SIP/2.0\r\n"] {
        out.put_slice(piece);
    }
    let mut is_first_via = true;
    for header in invite.headers() {
        let value = match header.id {
            HeaderId::Via if std::mem::take(&mut is_first_via) => header.raw,
            HeaderId::Route | HeaderId::From | HeaderId::CallId | HeaderId::MaxForwards => header.raw,
            HeaderId::To => to.unwrap_or(header.raw),
            _ => continue,
        };
        for piece in [header.id.name().as_bytes(), b": ", value, b"\r\n"] {
            out.put_slice(piece);
        }
    }
    out.put_slice(b"CSeq: ");
    put_decimal(&mut out, invite.cseq().number as usize);
    for piece in [b" ", method.as_bytes(), b"\r\n", lines, b"Content-Length: 0\r\n\r\n"] {
        out.put_slice(piece);
    }
    out.freeze()
}

/// What a request of the user is called, read from its header lines.
struct Names<'a> {
    call_id: &'a [u8],
    from_tag: &'a [u8],
    /// Empty when there is none.
    to_tag: &'a [u8],
    cseq: u32,
}

impl<'a> Names<'a> {
    fn of(lines: &'a [u8]) -> Result<Self, ParseError> {
        let (mut call_id, mut cseq, mut from_tag, mut to_tag) = (None, None, None, None);
        let mut at = 0;
        while at < lines.len() {
            // No other line needs a look: a continuation line begins with white space.
            if !matches!(lines[at], b'C' | b'c' | b'I' | b'i' | b'F' | b'f' | b'T' | b't') {
                at = find_crlf(lines, at).ok_or(ParseError::HeaderLineMalformed)? + 2;
                continue;
            }
            let line = cut_line(lines, at, lines.len()).map_err(|_| ParseError::HeaderLineMalformed)?;
            let id = HeaderId::from_name(&lines[line.name]);
            let tag = |range: std::ops::Range<usize>| {
                let address = scan_single(lines, range).map_err(|_| ParseError::Malformed(id))?;
                Ok(address.tag.map_or(&[][..], |tag| &lines[tag]))
            };
            match id {
                HeaderId::CallId => call_id = Some(&lines[line.value]),
                HeaderId::CSeq => cseq = cseq::cut(&lines[line.value]).ok().map(|(number, _)| number),
                HeaderId::From => from_tag = Some(tag(line.value)?),
                HeaderId::To => to_tag = Some(tag(line.value)?),
                _ => {}
            }
            at = line.next;
        }
        let missing = ParseError::Missing;
        Ok(Self {
            call_id: call_id.ok_or(missing(HeaderId::CallId))?,
            from_tag: from_tag.ok_or(missing(HeaderId::From))?,
            to_tag: to_tag.ok_or(missing(HeaderId::To))?,
            cseq: cseq.ok_or(missing(HeaderId::CSeq))?,
        })
    }
}

/// The user's parts must not be able to end the header block.
fn check(request: &OutgoingRequest) -> Result<(), SendError> {
    let breaks = has_forbidden;
    let is_block_bad = breaks_block(&request.headers);
    let is_uri_bad = request.uri.is_empty() || request.uri.contains(&b' ') || breaks(&request.uri);
    let is_type_bad = request.content_type.as_deref().is_some_and(breaks);
    if is_block_bad || is_uri_bad || is_type_bad || breaks(request.method.as_bytes()) {
        return Err(SendError::RequestMalformed);
    }
    Ok(())
}

fn breaks_block(block: &[u8]) -> bool {
    !block.is_empty() && (!block.ends_with(b"\r\n") || block.starts_with(b"\r\n")) || has_blank_line(block)
}

fn names_agent(block: &[u8]) -> bool {
    const NAME: &[u8] = b"user-agent";
    let mut starts = std::iter::once(0).chain(memchr::memchr_iter(b'\n', block).map(|at| at + 1));
    starts.any(|at| block.get(at..at + NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)))
}
