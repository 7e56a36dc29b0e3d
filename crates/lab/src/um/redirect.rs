//! The Call Router and the UM service: both answer INVITE with 302, the one to a Mailbox server's UM service, the other to a worker port.
//! Owns the turn-taking; never touches media.

use std::collections::VecDeque;
use std::time::Instant;

use sip::{Event, Flow, HeaderId, Message, Method, ServerKey, Transport};

use super::{Allowed, ContactShape, Fault, LabFact, MalformedDiversion, Manner, Ports, UmCommand, UmReport};
use crate::machine::{Input, Machine, Output, Station, earlier, text};

/// Contacts in one redirect: the chosen target and one alternative.
const CONTACTS_MAX: usize = 2;
const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS";

/// A server or worker that calls may be sent to.
#[derive(Clone, Debug)]
pub struct RedirectTarget {
    /// Host in the Contact.
    pub host: String,
    /// Its ports.
    pub ports: Ports,
    /// Known to be alive.
    pub is_live: bool,
}

/// Which of the two roles.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum RedirectRole {
    /// Call Router: offers the next server as an alternative.
    CallRouter,
    /// UM service: names one worker.
    UmService,
}

/// A role that redirects.
pub struct Redirector {
    station: Station<UmReport>,
    name: String,
    role: RedirectRole,
    targets: Vec<RedirectTarget>,
    next: usize,
    fault: Fault,
    manner: Manner,
    process: Process,
    /// INVITEs whose 302 is late, in the order they came.
    late: VecDeque<Late>,
}

/// The worker process that gets calls, where they are recycled.
#[derive(Default)]
struct Process {
    calls: u32,
    since: Option<Instant>,
}

/// An INVITE that waits for its 302.
struct Late {
    due: Instant,
    key: ServerKey,
    flow: Flow,
    invite: Message,
}

impl Redirector {
    /// A Call Router or UM service called `name`.
    pub fn new(
        name: &str,
        role: RedirectRole,
        targets: Vec<RedirectTarget>,
        fault: Fault,
        seed: u64,
    ) -> Self {
        Redirector {
            station: Station::new(name, seed),
            name: name.to_owned(),
            role,
            targets,
            next: 0,
            fault,
            manner: Manner::default(),
            process: Process::default(),
            late: VecDeque::new(),
        }
    }

    /// The same, behaving so.
    pub fn mannered(mut self, manner: Manner) -> Self {
        self.station.set_server_text(manner.server_text.clone());
        self.manner = manner;
        self
    }

    fn on_event(&mut self, now: Instant, event: Event) {
        if let Event::Request { key, flow, message } = event {
            self.on_request(now, key, &flow, &message);
        }
    }

    fn on_request(&mut self, now: Instant, key: ServerKey, flow: &Flow, message: &Message) {
        match (&self.fault, message.method()) {
            (Fault::Silent | Fault::Dead, _) => {}
            (Fault::Unavailable, _) => self.refuse(now, key, message, 503, "Service Unavailable"),
            (Fault::NoNewCalls, Method::Invite) => {
                let status = self.manner.full_status;
                self.refuse(now, key, message, status, super::worker::full_reason(status));
            }
            (_, Method::Invite) if !self.is_for_a_tenant(message) => {
                self.refuse(now, key, message, 404, "Not Found");
            }
            (_, Method::Invite) if self.is_malformed(message) => {
                self.refuse(now, key, message, 400, "Bad Request");
            }
            (Fault::LostRedirect, Method::Invite) => {}
            (Fault::CutsOnInvite, Method::Invite) => self.station.close(flow.key),
            (Fault::LateRedirect(by), Method::Invite) => {
                let due = now + *by;
                self.late.push_back(Late { due, key, flow: *flow, invite: message.clone() });
            }
            (_, Method::Invite) => self.redirect(now, key, flow, message),
            (_, Method::Options) => self.answer_options(now, key, message),
            (_, Method::Bye) => self.refuse(now, key, message, 481, "Call Leg/Transaction Does Not Exist"),
            _ => self.refuse(now, key, message, 405, "Method Not Allowed"),
        }
    }

    fn send_late(&mut self, now: Instant) {
        while self.late.front().is_some_and(|late| late.due <= now) {
            if let Some(Late { key, flow, invite, .. }) = self.late.pop_front() {
                self.redirect(now, key, &flow, &invite);
            }
        }
    }

    fn redirect(&mut self, now: Instant, key: ServerKey, flow: &Flow, message: &Message) {
        self.recycle(now);
        let contacts = self.contacts(flow, message);
        if contacts.is_empty() {
            return self.refuse(now, key, message, 503, "Service Unavailable");
        }
        let contact = contacts.join(", ");
        let tag = self.station.endpoint.new_tag();
        let response = self
            .station
            .response(message, 302, "Moved Temporarily", &tag)
            .map(|b| b.raw_header(b"CONTACT", contact.as_bytes()).finish(None, b""));
        if let Some(response) = response {
            self.station.respond(now, key, response);
        }
        self.station.report(UmReport::Fact(LabFact::Redirected {
            server: self.name.clone(),
            call_id: text(message.call_id()),
            contact,
        }));
    }

    fn contacts(&mut self, flow: &Flow, message: &Message) -> Vec<String> {
        let user = message.uri().ok().and_then(|u| u.user().map(text)).unwrap_or_default();
        match &self.fault {
            Fault::ForeignRedirect(host) => {
                return vec![self.contact(&user, host, flow.transport.default_port(), flow.transport)];
            }
            Fault::LoopingRedirect => {
                return vec![self.contact(&user, &self.name, flow.via_port, flow.transport)];
            }
            _ => {}
        }
        let usable: Vec<(String, u16)> = self
            .targets
            .iter()
            .filter(|t| t.is_live)
            .filter_map(|t| Some((t.host.clone(), port(t.ports, flow.transport)?)))
            .collect();
        let count = match self.role {
            RedirectRole::CallRouter => CONTACTS_MAX.min(usable.len()),
            RedirectRole::UmService => 1.min(usable.len()),
        };
        let first = self.next;
        // Processes that are recycled take calls one after the other, not in turn.
        if self.manner.recycling.is_none() || self.role == RedirectRole::CallRouter {
            self.next = self.next.wrapping_add(1);
        }
        let mut chosen = Vec::with_capacity(count);
        for n in 0..count {
            if let Some((host, port)) = usable.get(first.wrapping_add(n) % usable.len()) {
                let line = self.contact(&user, host, *port, flow.transport);
                chosen.push(if n == 0 { line } else { format!("{line};q=0.5") });
            }
        }
        chosen
    }

    /// The shape Exchange gives, unless told otherwise: user kept, parameters in this order and case, `maddr` naming the same host.
    fn contact(&self, user: &str, host: &str, port: u16, transport: Transport) -> String {
        line(&self.manner.contact, user, host, port, transport)
    }

    /// Takes the next worker process when the one that gets calls has had enough of them.
    fn recycle(&mut self, now: Instant) {
        let (Some(recycling), RedirectRole::UmService) = (self.manner.recycling, self.role) else { return };
        let since = *self.process.since.get_or_insert(now);
        let is_over = recycling.calls.is_some_and(|most| self.process.calls >= most)
            || recycling.period.is_some_and(|longest| now.saturating_duration_since(since) >= longest);
        if is_over && let Some(old) = self.targets.get(self.next % self.targets.len().max(1)) {
            let (server, ports, old_calls) = (self.name.clone(), old.ports, recycling.old_calls);
            self.station.report(UmReport::Recycled { server, ports, old_calls });
            self.next = self.next.wrapping_add(1);
            self.process = Process { calls: 0, since: Some(now) };
        }
        self.process.calls += 1;
    }

    /// A hosted UM takes calls of its tenants: `<tenant>.<itself>`, or of all when it names none.
    fn is_for_a_tenant(&self, message: &Message) -> bool {
        let Ok(uri) = message.uri() else { return true };
        let host = uri.host_str().to_ascii_lowercase();
        let own = self.name.to_ascii_lowercase();
        let is_it = |tenant: &String| host == format!("{}.{own}", tenant.to_ascii_lowercase());
        let tenants = self.manner.tenants.as_deref().unwrap_or_default();
        tenants.is_empty() || host == own || tenants.iter().any(is_it)
    }

    fn is_malformed(&self, message: &Message) -> bool {
        self.manner.malformed_diversion == MalformedDiversion::Refused
            && super::classify::is_malformed(message)
    }

    fn answer_options(&mut self, now: Instant, key: ServerKey, message: &Message) {
        let tag = self.station.endpoint.new_tag();
        if let Some(builder) = self.station.response(message, 200, "OK", &tag) {
            let response = builder.header(HeaderId::Allow, ALLOW).finish(None, b"");
            self.station.respond(now, key, response);
        }
        let server = self.name.clone();
        self.station.report(UmReport::Fact(LabFact::OptionsAnswered { server }));
    }

    fn refuse(&mut self, now: Instant, key: ServerKey, message: &Message, status: u16, reason: &str) {
        let tag = self.station.endpoint.new_tag();
        if let Some(builder) = self.station.response(message, status, reason, &tag) {
            let response = builder.header(HeaderId::Allow, ALLOW).finish(None, b"");
            self.station.respond(now, key, response);
        }
        self.station.report(UmReport::Fact(LabFact::Refused {
            server: self.name.clone(),
            call_id: text(message.call_id()),
            status,
            why: reason.to_owned(),
        }));
    }

    fn on_command(&mut self, command: UmCommand) {
        match command {
            UmCommand::Fault(fault) => self.fault = fault,
            UmCommand::Live { host, is_live } => {
                for target in self.targets.iter_mut().filter(|t| t.host == host) {
                    target.is_live = is_live;
                }
            }
            UmCommand::HangUpAll | UmCommand::HangUpOn(_) => {}
        }
    }
}

impl Machine for Redirector {
    type Command = UmCommand;
    type Report = UmReport;

    fn handle(&mut self, now: Instant, input: Input<UmCommand>) {
        match input {
            Input::FlowUp(flow) => self.station.flow_up(flow),
            Input::FlowDown(key) => self.station.flow_down(now, key),
            Input::Bytes { flow, bytes } => self.station.receive(now, flow, bytes),
            Input::Media { .. } => {}
            Input::Command(command) => self.on_command(command),
            Input::Timeout => self.station.endpoint.handle_timeout(now),
        }
        self.send_late(now);
        while let Some(event) = self.station.poll_event() {
            self.on_event(now, event);
        }
    }

    fn poll_output(&mut self) -> Option<Output<UmReport>> {
        self.station.poll_output()
    }

    fn poll_deadline(&self) -> Option<Instant> {
        earlier(self.late.front().map(|late| late.due), self.station.poll_deadline())
    }
}

fn port(ports: Ports, transport: Transport) -> Option<u16> {
    match transport {
        Transport::Tls => ports.tls,
        _ => ports.tcp,
    }
}

fn line(shape: &ContactShape, user: &str, host: &str, port: u16, transport: Transport) -> String {
    let word = match transport {
        Transport::Tls => "Tls",
        _ => "Tcp",
    };
    let at = if user.is_empty() { "" } else { "@" };
    let phone = if shape.user_phone == Allowed::Yes { ";user=phone" } else { "" };
    let maddr = if shape.maddr == Allowed::Yes { format!(";maddr={host}") } else { String::new() };
    let ms_fe = shape.ms_fe.as_ref().map_or_else(String::new, |name| format!(";ms-fe={name}"));
    format!("<sip:{user}{at}{host}:{port}{phone};transport={word}{maddr}{ms_fe}>")
}
