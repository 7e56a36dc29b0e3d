//! A tiny world: endpoints, one virtual clock, and messages made by hand.

mod clients;
mod lossy;
mod servers;

use super::*;
use crate::{HeaderId, StatusCode, Transport, response_to};
use std::net::SocketAddr;
use std::time::Duration;

pub(super) const REMOTE: &str = "192.0.2.9:5060";

/// An endpoint with a clock of its own, and everything it said.
pub(super) struct Bench {
    pub endpoint: Endpoint,
    pub start: Instant,
    pub now: Instant,
    pub flow: Flow,
    /// Milliseconds since the start, and what was sent.
    pub sent: Vec<(u64, Message)>,
    pub events: Vec<(u64, Event)>,
}

pub(super) fn flow(transport: Transport) -> Flow {
    let remote: SocketAddr = REMOTE.parse().unwrap();
    Flow { key: FlowKey(1), transport, remote, via_port: 5060, party: Party::default() }
}

#[allow(clippy::disallowed_methods)] // the origin of a virtual clock
pub(super) fn origin() -> Instant {
    Instant::now()
}

impl Bench {
    pub fn new(transport: Transport) -> Bench {
        Bench::with(transport, EndpointConfig::default())
    }

    pub fn with(transport: Transport, config: EndpointConfig) -> Bench {
        let start = origin();
        let endpoint = Endpoint::new(config, 42);
        Bench { endpoint, start, now: start, flow: flow(transport), sent: Vec::new(), events: Vec::new() }
    }

    pub fn drain(&mut self) {
        let at = u64::try_from((self.now - self.start).as_millis()).unwrap();
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Send { bytes, .. } => {
                    self.sent.push((at, Message::parse(bytes, &crate::Limits::default()).unwrap()));
                }
                Output::Event(event) => self.events.push((at, event)),
            }
        }
    }

    pub fn feed(&mut self, bytes: impl Into<Bytes>) {
        let flow = self.flow;
        self.endpoint.handle_bytes(self.now, &flow, bytes.into());
        self.drain();
    }

    /// Lets the clock run, stopping at each deadline; the names of the timers that fired.
    pub fn run_ms(&mut self, span: u64) -> Vec<(u64, TimerReason)> {
        let end = self.now + Duration::from_millis(span);
        let mut fired = Vec::new();
        while let Some((at, reason)) = self.endpoint.poll_deadline().filter(|(at, _)| *at <= end) {
            assert!(at > self.now || fired.is_empty(), "a deadline must move the clock");
            self.now = at;
            self.endpoint.handle_timeout(at);
            fired.push((u64::try_from((at - self.start).as_millis()).unwrap(), reason));
            self.drain();
        }
        self.now = end;
        fired
    }

    pub fn request(&mut self, method: Method) -> ClientKey {
        let flow = self.flow;
        let request = outgoing(method, 1, None);
        let key = self.endpoint.send_request(self.now, &flow, request).unwrap();
        self.drain();
        key
    }

    /// The server key of the only request so far.
    pub fn server_key(&self) -> ServerKey {
        let keys: Vec<_> = self
            .events
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Request { key, .. } => Some(*key),
                _ => None,
            })
            .collect();
        assert_eq!(keys.len(), 1, "{:?}", self.events);
        keys[0]
    }

    pub fn received(&self) -> Message {
        let find = |event: &Event| match event {
            Event::Request { message, .. } => Some(message.clone()),
            _ => None,
        };
        self.events.iter().find_map(|(_, event)| find(event)).unwrap()
    }

    pub fn respond(&mut self, status: u16) -> Result<(), SendError> {
        let (key, request) = (self.server_key(), self.received());
        let result = self.endpoint.respond(self.now, key, response(&request, status, "srv"));
        self.drain();
        result
    }

    /// When each message of that start was sent.
    pub fn times_of(&self, start: &str) -> Vec<u64> {
        let matching =
            self.sent.iter().filter(|(_, message)| message.start_line().starts_with(start.as_bytes()));
        matching.map(|(at, _)| *at).collect()
    }

    pub fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().filter(|(_, event)| wanted(event)).count()
    }

    pub fn assert_empty(&self) {
        assert_eq!(self.endpoint.counts(), TableCounts::default());
        assert_eq!(self.endpoint.by_flow.len(), 0);
        let indices = [self.endpoint.by_branch.len(), self.endpoint.by_identity.len()];
        assert_eq!((indices, self.endpoint.cancels.len(), self.endpoint.invites.len()), ([0, 0], 0, 0));
    }
}

pub(super) fn outgoing(method: Method, cseq: u32, to_tag: Option<&str>) -> OutgoingRequest {
    let to = to_tag.map_or(String::new(), |tag| format!(";tag={tag}"));
    let headers = format!(
        "Max-Forwards: 70\r\nRoute: <sip:p;lr>\r\nFrom: <sip:a@h>;tag=cli\r\nTo: <sip:b@h>{to}\r\n\
         Call-ID: call\r\nCSeq: {cseq} {method}\r\nContact: <sip:a@h>\r\n"
    );
    OutgoingRequest {
        method,
        uri: Bytes::from_static(b"sip:b@h"),
        headers: headers.into(),
        content_type: None,
        body: Bytes::new(),
    }
}

pub(super) fn response(request: &Message, status: u16, tag: &str) -> Bytes {
    let tag = (status != 100).then_some(tag.as_bytes());
    let builder = response_to(request, StatusCode::new(status).unwrap(), None, tag);
    builder.header(HeaderId::Contact, "<sip:b@h>").finish(None, b"").unwrap()
}

/// A request as a peer would send it.
pub(super) fn incoming(method: &str, branch: &str, to_tag: &str) -> String {
    incoming_with(method, &format!("Via: SIP/2.0/UDP 192.0.2.9:5060;branch={branch}"), to_tag, 1)
}

pub(super) fn incoming_with(method: &str, via: &str, to_tag: &str, cseq: u32) -> String {
    let to = if to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
    format!(
        "{method} sip:b@h SIP/2.0\r\n{via}\r\nMax-Forwards: 70\r\nFrom: <sip:a@h>;tag=cli\r\n\
         To: <sip:b@h>{to}\r\nCall-ID: call\r\nCSeq: {cseq} {method}\r\nContact: <sip:a@h>\r\n\
         Content-Length: 0\r\n\r\n"
    )
}

#[test]
fn one_seed_gives_one_trace() {
    let trace = || {
        let mut bench = Bench::new(Transport::Udp);
        bench.request(Method::Invite);
        bench.run_ms(40_000);
        bench.sent.iter().map(|(at, message)| (*at, message.bytes().clone())).collect::<Vec<_>>()
    };
    assert_eq!(trace(), trace());
}

#[test]
fn garbage_is_answered_only_when_the_sender_can_match_the_answer() {
    let mut bench = Bench::new(Transport::Tcp);
    bench.feed("\r\n\r\n");
    assert!(bench.events.is_empty());
    bench.feed("hello\r\n\r\n");
    bench.feed("SIP/2.0 200 OK\r\nVia: x\r\n\r\n");
    let no_cseq = incoming("OPTIONS", "z9hG4bK1", "").replace("CSeq: 1 OPTIONS\r\n", "");
    assert!(!no_cseq.contains("CSeq"));
    bench.feed(no_cseq);
    assert!(bench.sent.is_empty());
    let twice = incoming("OPTIONS", "z9hG4bK1", "").replace("CSeq:", "CSeq: 2 OPTIONS\r\nCSeq:");
    bench.feed(twice);
    assert_eq!(bench.sent[0].1.status(), StatusCode::new(400));
    let answered: Vec<_> = bench
        .events
        .iter()
        .map(|(_, event)| matches!(event, Event::Malformed { answered: true, .. }))
        .collect();
    assert_eq!(answered, [false, false, false, true]);
    bench.assert_empty();
}

#[test]
fn a_request_without_call_id_from_or_to_is_refused_with_what_it_has() {
    let mut bench = Bench::new(Transport::Tcp);
    let lines = ["Call-ID: call", "From: <sip:a@h>;tag=cli", "To: <sip:b@h>"];
    let bare = lines.iter().fold(incoming("OPTIONS", "z9hG4bK1", ""), |text, line| {
        assert!(text.contains(line));
        text.replace(&format!("{line}\r\n"), "")
    });
    let flow = bench.flow;
    bench.endpoint.handle_bytes(bench.now, &flow, bare.into());
    let Some(Output::Send { bytes, .. }) = bench.endpoint.poll_output() else { panic!("no refusal") };
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(text.starts_with("SIP/2.0 400 ") && text.contains("branch=z9hG4bK1\r\n"), "{text}");
    bench.drain();
    bench.assert_empty();
}
