//! Requests coming in and our responses to them: server transactions in the table, CANCEL, ACK, merged requests, and
//! the answers that need no transaction.

use super::ids::Print;
use super::table::Owner;
use super::table::Siblings;
use super::{Endpoint, Event, Flow, Lanes, SendError, ServerFailure, ServerKey};
use crate::transaction::{
    Action, Actions, Context, InviteServer, InviteServerEvent, InviteServerState, Server, ServerEvent,
    ServerState, TimerReason,
};
use crate::{HeaderId, Message, Method, StatusCode, Via, response_to};
use bytes::Bytes;
use std::time::Instant;

/// Offset of the three digits in `SIP/2.0 200 OK`.
const STATUS_AT: usize = 8;

/// One server transaction.
pub(super) struct ServerEntry {
    machine: Machine,
    flow: Flow,
    by_branch: Print,
    by_identity: Option<Print>,
    last_response: Bytes,
    lanes: Lanes,
    pub(super) siblings: Siblings,
}

enum Machine {
    Other(Server),
    Invite(InviteServer, Invite),
}

/// What only an INVITE needs.
struct Invite {
    /// Kept until the final response, for the automatic 100.
    request: Option<Message>,
    local_tag: Option<Bytes>,
    cancel: Cancel,
}

#[derive(Copy, Clone, Eq, PartialEq)]
enum Cancel {
    No,
    Seen,
}

/// Which of our own statuses a request gets without a transaction.
#[derive(Copy, Clone)]
enum Stateless {
    CancelUnmatched,
    Merged,
    TableFull,
}

impl Endpoint {
    /// Sends a response of the transaction user: the full message, on the flow the request came on.
    pub fn respond(&mut self, now: Instant, key: ServerKey, response: Bytes) -> Result<(), SendError> {
        let status = status_of(&response).ok_or(SendError::StatusLineMissing)?;
        let entry = self.servers.get_mut(key.0, key.1).ok_or(SendError::TransactionUnknown)?;
        let context = Context { timers: self.config.timers, transport: entry.flow.transport };
        let (is_accepted, actions) = match &mut entry.machine {
            Machine::Invite(machine, invite) => {
                let (next, actions) = machine.step(invite_event(status), &context);
                if actions.iter().next().is_none() {
                    return Err(SendError::WrongState);
                }
                if status != StatusCode::TRYING && invite.local_tag.is_none() {
                    invite.local_tag = to_tag_of(&response);
                }
                if status.is_final() {
                    invite.request = None;
                }
                let was_accepted = is_accepted(machine.state);
                *machine = next;
                (is_accepted(next.state) && !was_accepted, actions)
            }
            Machine::Other(machine) => {
                let event =
                    if status.is_provisional() { ServerEvent::Provisional } else { ServerEvent::Final };
                let (next, actions) = machine.step(event, &context);
                if actions.iter().next().is_none() {
                    return Err(SendError::WrongState);
                }
                *machine = next;
                (false, actions)
            }
        };
        entry.last_response = response;
        self.accepted += usize::from(is_accepted);
        self.act_server(now, key, &actions);
        self.remove_if_over(key);
        Ok(())
    }

    pub(super) fn on_request(&mut self, now: Instant, flow: &Flow, mut message: Message) {
        let Ok(via) = message.top_via() else {
            let error = crate::ParseError::Malformed(HeaderId::Via);
            self.event(Event::Malformed { flow: *flow, error, answered: false });
            return;
        };
        let stamped = via.stamped(flow.remote);
        if stamped != *via.raw() {
            message.stamp_via(&via, &stamped);
        }
        match message.method() {
            Method::Ack => self.on_ack(now, flow, &via, message),
            Method::Cancel => self.on_cancel(flow, &via, message),
            Method::Benotify => self.event(Event::OneWay { flow: *flow, message }),
            _ => self.on_plain_request(now, flow, &via, message),
        }
    }

    /// Refuses a request without keeping anything of it; `false`: a transaction has it already and will answer.
    pub fn refuse_stateless(
        &mut self,
        flow: &Flow,
        request: &mut Message,
        status: StatusCode,
        reason: &[u8],
        block: &[u8],
    ) -> bool {
        let Ok(via) = request.top_via() else { return false };
        let method = request.method();
        let is_known = self.by_branch.contains_key(&self.branch_print(flow, request, &via, method))
            || self.by_identity.contains_key(&self.identity(flow.party, request, method));
        if is_known {
            return false;
        }
        let stamped = via.stamped(flow.remote);
        if stamped != *via.raw() {
            request.stamp_via(&via, &stamped);
        }
        let tag = self.ids.stateless_tag(request, via.branch().unwrap_or_default());
        let response = response_to(request, status, Some(reason), Some(&tag)).block(block);
        if let Ok(bytes) = response.finish(None, b"") {
            self.send(flow.key, bytes);
        }
        true
    }

    /// Nobody is left to answer this request: an open INVITE gets a 500 (`true`), any other is forgotten.
    pub fn abandon(&mut self, now: Instant, key: ServerKey) -> bool {
        let Some(entry) = self.servers.get_mut(key.0, key.1) else { return false };
        match &entry.machine {
            Machine::Invite(_, Invite { request: Some(request), local_tag, .. }) => {
                let tag = local_tag.clone().unwrap_or_else(|| self.ids.token(b"", 1));
                let fault = StatusCode::new(500).unwrap_or(StatusCode::BAD_REQUEST);
                let response = response_to(request, fault, None, Some(&tag)).finish(None, b"");
                response.is_ok_and(|bytes| self.respond(now, key, bytes).is_ok())
            }
            Machine::Invite(..) => false,
            Machine::Other(_) => {
                self.on_server_flow_down(now, key);
                false
            }
        }
    }

    pub(super) fn on_server_timer(&mut self, now: Instant, key: ServerKey, reason: TimerReason) {
        let Some(entry) = self.servers.get_mut(key.0, key.1) else { return };
        entry.lanes.0[reason.lane() as usize] = None;
        self.step_server(now, key, InviteServerEvent::Timer(reason), ServerEvent::Timer(reason));
    }

    pub(super) fn on_server_flow_down(&mut self, now: Instant, key: ServerKey) {
        self.step_server(now, key, InviteServerEvent::TransportError, ServerEvent::TransportError);
    }

    fn on_plain_request(&mut self, now: Instant, flow: &Flow, via: &Via, message: Message) {
        let by_branch = self.branch_print(flow, &message, via, message.method());
        if let Some(key) = self.by_branch.get(&by_branch).copied() {
            self.step_server(now, key, InviteServerEvent::Retransmission, ServerEvent::Retransmission);
            return;
        }
        let is_invite = *message.method() == Method::Invite;
        let is_initial = message.to_tag().is_none();
        let by_identity =
            (is_invite || is_initial).then(|| self.identity(flow.party, &message, message.method()));
        let is_known = by_identity.as_ref().is_some_and(|key| self.by_identity.contains_key(key));
        // RFC 3261 §8.2.2.2
        if is_initial && is_known {
            return self.answer_stateless(flow, via, &message, Stateless::Merged);
        }
        if self.servers.is_full() {
            return self.answer_stateless(flow, via, &message, Stateless::TableFull);
        }
        let entry = ServerEntry {
            machine: Machine::Other(Server::start()),
            flow: *flow,
            by_branch,
            by_identity: by_identity.filter(|_| !is_known),
            last_response: Bytes::new(),
            lanes: Lanes::default(),
            siblings: Siblings::default(),
        };
        let key = self.insert_server(entry);
        if is_invite {
            self.start_invite(now, key, &message);
        }
        self.event(Event::Request { key, flow: *flow, message });
    }

    fn start_invite(&mut self, now: Instant, key: ServerKey, message: &Message) {
        let Some(entry) = self.servers.get_mut(key.0, key.1) else { return };
        let context = Context { timers: self.config.timers, transport: entry.flow.transport };
        let (machine, actions) = InviteServer::start(&context);
        let local_tag = message.to_tag().map(Bytes::copy_from_slice);
        let invite = Invite { request: Some(message.clone()), local_tag, cancel: Cancel::No };
        entry.machine = Machine::Invite(machine, invite);
        self.act_server(now, key, &actions);
    }

    fn on_ack(&mut self, now: Instant, flow: &Flow, via: &Via, message: Message) {
        let by_branch = self.by_branch.get(&self.branch_print(flow, &message, via, &Method::Invite)).copied();
        if let Some(key) = by_branch {
            return self.settle(now, key, flow, message);
        }
        let by_identity =
            self.by_identity.get(&self.identity(flow.party, &message, &Method::Invite)).copied();
        match by_identity.filter(|key| self.awaits_ack_from(*key, &message)) {
            Some(key) => self.settle(now, key, flow, message),
            // Spelled so that it was not seen before it was parsed.
            None if message.to_tag().is_some_and(|tag| self.ids.is_stateless_tag(tag)) => {}
            None => self.event(Event::Ack { flow: *flow, message, invite: None }),
        }
    }

    /// Feeds an ACK to its INVITE; one that settles a 2xx is the user's, any other is absorbed.
    fn settle(&mut self, now: Instant, key: ServerKey, flow: &Flow, message: Message) {
        let Some(entry) = self.servers.get_mut(key.0, key.1) else { return };
        let Machine::Invite(machine, _) = &entry.machine else { return };
        let settles = matches!(machine.state, InviteServerState::Accepted { .. });
        if settles {
            entry.last_response = Bytes::new();
        }
        self.step_server(now, key, InviteServerEvent::Ack, ServerEvent::Retransmission);
        if settles {
            self.event(Event::Ack { flow: *flow, message, invite: Some(key) });
        }
    }

    /// An accepted INVITE whose 2xx carried the tag that this ACK has.
    fn awaits_ack_from(&self, key: ServerKey, ack: &Message) -> bool {
        let Some(entry) = self.servers.get(key.0, key.1) else { return false };
        let Machine::Invite(machine, invite) = &entry.machine else { return false };
        is_accepted(machine.state) && invite.local_tag.as_deref() == ack.to_tag()
    }

    /// RFC 3261 §9.2. The answer holds no state: the same CANCEL gets the same answer again.
    fn on_cancel(&mut self, flow: &Flow, via: &Via, message: Message) {
        let found = self.by_branch.get(&self.branch_print(flow, &message, via, &Method::Invite)).copied();
        // A branch may be guessed: only the host that sent the INVITE, on the same transport, may take it back.
        let from_home = |entry: &&mut ServerEntry| {
            entry.flow.transport == flow.transport && entry.flow.remote.ip() == flow.remote.ip()
        };
        let entry = found.and_then(|key| self.servers.get_mut(key.0, key.1)).filter(from_home);
        let (Some(key), Some(ServerEntry { machine: Machine::Invite(machine, invite), .. })) = (found, entry)
        else {
            return self.answer_stateless(flow, via, &message, Stateless::CancelUnmatched);
        };
        let is_pending = matches!(machine.state, InviteServerState::Fresh | InviteServerState::Proceeding);
        let is_news = is_pending && invite.cancel == Cancel::No;
        if is_news {
            invite.cancel = Cancel::Seen;
        }
        let tag = invite
            .local_tag
            .clone()
            .unwrap_or_else(|| self.ids.stateless_tag(&message, via.branch().unwrap_or_default()));
        self.answer(flow, &message, StatusCode::OK, &tag);
        if is_news {
            self.event(Event::Cancel { invite: key, message });
        }
    }

    fn answer_stateless(&mut self, flow: &Flow, via: &Via, message: &Message, why: Stateless) {
        let code = match why {
            Stateless::CancelUnmatched => 481,
            Stateless::Merged => 482,
            Stateless::TableFull => 503,
        };
        let Some(status) = StatusCode::new(code) else { return };
        let tag = self.ids.stateless_tag(message, via.branch().unwrap_or_default());
        self.answer(flow, message, status, &tag);
    }

    fn answer(&mut self, flow: &Flow, message: &Message, status: StatusCode, tag: &[u8]) {
        let mut builder = response_to(message, status, None, Some(tag));
        if let Some(server) = &self.config.server_header {
            builder = builder.header(HeaderId::Server, server);
        }
        if let Ok(bytes) = builder.finish(None, b"") {
            self.send(flow.key, bytes);
        }
    }

    fn step_server(
        &mut self,
        now: Instant,
        key: ServerKey,
        invite_event: InviteServerEvent,
        event: ServerEvent,
    ) {
        let Some(entry) = self.servers.get_mut(key.0, key.1) else { return };
        let context = Context { timers: self.config.timers, transport: entry.flow.transport };
        let actions = match &mut entry.machine {
            Machine::Invite(machine, _) => {
                let (next, actions) = machine.step(invite_event, &context);
                self.accepted -= usize::from(is_accepted(machine.state) && !is_accepted(next.state));
                *machine = next;
                actions
            }
            Machine::Other(machine) => {
                let (next, actions) = machine.step(event, &context);
                *machine = next;
                actions
            }
        };
        self.act_server(now, key, &actions);
        self.remove_if_over(key);
    }

    fn act_server(&mut self, now: Instant, key: ServerKey, actions: &Actions) {
        for action in actions.iter() {
            let Some(entry) = self.servers.get_mut(key.0, key.1) else { return };
            match action {
                Action::Transmit if !entry.last_response.is_empty() => {
                    let (flow, bytes) = (entry.flow.key, entry.last_response.clone());
                    self.send(flow, bytes);
                }
                Action::SendTrying => self.send_trying(key),
                Action::Start(reason, after) => {
                    let handle = self.deadlines.start(now, after, Owner::Server(key), reason);
                    entry.lanes.replace(reason.lane(), Some(handle), &mut self.deadlines);
                }
                Action::Stop(lane) => entry.lanes.replace(lane, None, &mut self.deadlines),
                Action::AckMissing => self.event(Event::AckMissing { key }),
                Action::FailTimeout => {
                    self.event(Event::ServerFailed { key, why: ServerFailure::AckTimeout });
                }
                Action::FailTransport => {
                    self.event(Event::ServerFailed { key, why: ServerFailure::TransportFailed });
                }
                _ => {}
            }
        }
    }

    /// RFC 3261 §17.2.1: the user did not answer within 200 ms.
    fn send_trying(&mut self, key: ServerKey) {
        let Some(entry) = self.servers.get_mut(key.0, key.1) else { return };
        let Machine::Invite(_, invite) = &entry.machine else { return };
        let Some(request) = &invite.request else { return };
        let Ok(bytes) = response_to(request, StatusCode::TRYING, None, None).finish(None, b"") else {
            return;
        };
        entry.last_response = bytes;
        let (flow, bytes) = (entry.flow.key, entry.last_response.clone());
        self.send(flow, bytes);
    }

    /// The responses of a transaction leave on another flow from now on (RFC 3261 §18.2.2: a connection that is gone).
    pub fn move_server(&mut self, key: ServerKey, to: &Flow) {
        let Some(entry) = self.servers.get_mut(key.0, key.1) else { return };
        let (from, siblings) = (entry.flow.key, std::mem::take(&mut entry.siblings));
        entry.flow = *to;
        self.leave(from, siblings);
        self.join(to.key, Owner::Server(key));
    }

    fn insert_server(&mut self, entry: ServerEntry) -> ServerKey {
        let (by_branch, by_identity) = (entry.by_branch, entry.by_identity);
        let flow = entry.flow.key;
        let (index, generation) = self.servers.insert(entry);
        let key = ServerKey(index, generation);
        self.by_branch.insert(by_branch, key);
        if let Some(by_identity) = by_identity {
            self.by_identity.insert(by_identity, key);
        }
        self.join(flow, Owner::Server(key));
        key
    }

    fn remove_if_over(&mut self, key: ServerKey) {
        let is_over = self.servers.get(key.0, key.1).is_some_and(|entry| match &entry.machine {
            Machine::Invite(machine, _) => machine.state == InviteServerState::Terminated,
            Machine::Other(machine) => machine.state == ServerState::Terminated,
        });
        let Some(mut entry) = is_over.then(|| self.servers.remove(key.0, key.1)).flatten() else { return };
        entry.lanes.stop_all(&mut self.deadlines);
        self.by_branch.remove(&entry.by_branch);
        if let Some(by_identity) = &entry.by_identity {
            self.by_identity.remove(by_identity);
        }
        self.leave(entry.flow.key, entry.siblings);
        self.event(Event::ServerGone { key });
    }

    /// RFC 3261 §17.2.3: branch, sent-by and method; without the cookie, what RFC 2543 had to go by. All of it can be
    /// known to others, so the party counts too.
    fn branch_print(&self, flow: &Flow, message: &Message, via: &Via, method: &Method) -> Print {
        let party = flow.party.0.to_be_bytes();
        let (method, port) = (method.as_bytes(), via.port().unwrap_or_default().to_be_bytes());
        let branch = via.branch().unwrap_or_default();
        // Names compare without case.
        let host = via.host().to_ascii_lowercase();
        if via.has_cookie() {
            return self.ids.print(&[b"3", &party, branch, &host, &port, method]);
        }
        let sequence = message.cseq().number.to_be_bytes();
        let (uri, tag) = (message.request_uri(), message.from_tag().unwrap_or_default());
        self.ids.print(&[b"2", &party, branch, &host, &port, method, &uri, tag, message.call_id(), &sequence])
    }
}

fn is_accepted(state: InviteServerState) -> bool {
    matches!(state, InviteServerState::Accepted { .. } | InviteServerState::Acknowledged)
}

fn invite_event(status: StatusCode) -> InviteServerEvent {
    match status {
        status if status.is_provisional() => InviteServerEvent::Provisional,
        status if status.is_success() => InviteServerEvent::Success,
        _ => InviteServerEvent::Failure,
    }
}

fn status_of(response: &[u8]) -> Option<StatusCode> {
    let digits = response.strip_prefix(b"SIP/2.0 ").and_then(|_| response.get(STATUS_AT..STATUS_AT + 3))?;
    StatusCode::new(std::str::from_utf8(digits).ok()?.parse().ok()?)
}

/// The tag of our own To, which ends the line the way `response_to` writes it, or stands among parameters.
fn to_tag_of(response: &[u8]) -> Option<Bytes> {
    let head_end = response.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(response.len());
    let mut lines = response[..head_end].split(|byte| *byte == b'\n');
    let line = lines.find(|line| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        HeaderId::from_name(name.trim_ascii()) == HeaderId::To
    })?;
    let at = line.windows(5).rposition(|window| window.eq_ignore_ascii_case(b";tag="))? + 5;
    let tail = &line[at..];
    let end = tail.iter().position(|byte| matches!(byte, b';' | b' ' | b'\t' | b'\r')).unwrap_or(tail.len());
    Some(Bytes::copy_from_slice(&tail[..end]))
}
