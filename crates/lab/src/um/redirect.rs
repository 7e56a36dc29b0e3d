//! The Call Router and the UM service: both answer INVITE with 302, the one to a Mailbox server's UM service, the other to a worker port.
//! Owns the turn-taking; never touches media.

use std::collections::VecDeque;
use std::time::Instant;

use sip::{Event, Flow, HeaderId, Message, Method, ServerKey, Transport};

use super::{Fault, LabFact, Ports, UmCommand, UmReport};
use crate::machine::{Input, Machine, Output, Station, earlier, exchange_response, text};

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
    /// INVITEs whose 302 is late, in the order they came.
    late: VecDeque<Late>,
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
            late: VecDeque::new(),
        }
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
            (Fault::NoNewCalls, Method::Invite) => self.refuse(now, key, message, 503, "Service Unavailable"),
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
        let contacts = self.contacts(flow, message);
        if contacts.is_empty() {
            return self.refuse(now, key, message, 503, "Service Unavailable");
        }
        let contact = contacts.join(", ");
        let tag = self.station.endpoint.new_tag();
        let response = exchange_response(message, 302, "Moved Temporarily", &tag)
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
                return vec![contact(&user, host, flow.transport.default_port(), flow.transport)];
            }
            Fault::LoopingRedirect => {
                return vec![contact(&user, &self.name, flow.via_port, flow.transport)];
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
        self.next = self.next.wrapping_add(1);
        let mut chosen = Vec::with_capacity(count);
        for n in 0..count {
            if let Some((host, port)) = usable.get(first.wrapping_add(n) % usable.len()) {
                let line = contact(&user, host, *port, flow.transport);
                chosen.push(if n == 0 { line } else { format!("{line};q=0.5") });
            }
        }
        chosen
    }

    fn answer_options(&mut self, now: Instant, key: ServerKey, message: &Message) {
        let tag = self.station.endpoint.new_tag();
        if let Some(builder) = exchange_response(message, 200, "OK", &tag) {
            let response = builder.header(HeaderId::Allow, ALLOW).finish(None, b"");
            self.station.respond(now, key, response);
        }
        let server = self.name.clone();
        self.station.report(UmReport::Fact(LabFact::OptionsAnswered { server }));
    }

    fn refuse(&mut self, now: Instant, key: ServerKey, message: &Message, status: u16, reason: &str) {
        let tag = self.station.endpoint.new_tag();
        if let Some(builder) = exchange_response(message, status, reason, &tag) {
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
            UmCommand::HangUpAll => {}
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

/// The shape Exchange gives: user kept, parameters in this order and case, `maddr` naming the same host.
fn contact(user: &str, host: &str, port: u16, transport: Transport) -> String {
    let word = match transport {
        Transport::Tls => "Tls",
        _ => "Tcp",
    };
    let at = if user.is_empty() { "" } else { "@" };
    format!("<sip:{user}{at}{host}:{port};user=phone;transport={word};maddr={host}>")
}
