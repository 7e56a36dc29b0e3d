//! Whole transactions between two endpoints over one connection: request, responses and, for INVITE, the ACK, up to
//! the timers that end them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sip::{
    Endpoint, EndpointConfig, Event, Flow, FlowKey, HeaderId, Method, OutgoingRequest, Output, Party,
    StatusCode, Transport,
};

use crate::Work;

const PER_RUN: usize = 100;
/// Between two transactions; an accepted INVITE is kept for 32 s, so some hundred are there at any time.
const PAUSE: Duration = Duration::from_millis(100);

/// Both ends of a connection and their common clock.
struct Pair {
    client: Endpoint,
    server: Endpoint,
    flow: Flow,
    now: Instant,
    number: u64,
}

impl Pair {
    fn new() -> Self {
        let endpoint = |seed| Endpoint::new(EndpointConfig::default(), seed);
        let flow = Flow {
            key: FlowKey(1),
            transport: Transport::Tls,
            remote: SocketAddr::from(([127, 0, 0, 1], 5061)),
            via_port: 5061,
            party: Party::default(),
        };
        Self { client: endpoint(1), server: endpoint(2), flow, now: Instant::now(), number: 0 }
    }

    fn once(&mut self, method: &Method) -> usize {
        self.now += PAUSE;
        self.number += 1;
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
        let request = request(method, self.number);
        if self.client.send_request(self.now, &self.flow, request).is_err() {
            return 0;
        }
        let mut passed = 0;
        while self.pass() {
            passed += 1;
        }
        passed
    }

    /// Carries what is ready from one end to the other; false when there was nothing.
    fn pass(&mut self) -> bool {
        let (now, flow) = (self.now, self.flow);
        let mut moved = false;
        while let Some(output) = self.client.poll_output() {
            moved = true;
            match output {
                Output::Send { bytes, .. } => self.server.handle_bytes(now, &flow, bytes),
                Output::Event(Event::Response { message, .. }) if is_answered(&message) => {
                    let ack = request(&Method::Ack, self.number);
                    self.client.send_ack(now, &flow, ack);
                }
                Output::Event(_) => {}
            }
        }
        while let Some(output) = self.server.poll_output() {
            moved = true;
            match output {
                Output::Send { bytes, .. } => self.client.handle_bytes(now, &flow, bytes),
                Output::Event(Event::Request { key, message, .. }) => {
                    let statuses: &[StatusCode] = match message.method() {
                        Method::Invite => &[StatusCode::RINGING, StatusCode::OK],
                        _ => &[StatusCode::OK],
                    };
                    for status in statuses {
                        let builder = sip::response_to(&message, *status, None, Some(b"to-tag"));
                        let sent =
                            builder.header(HeaderId::Contact, "<sip:b@127.0.0.1:5061>").finish(None, b"");
                        moved &= sent.is_ok_and(|bytes| self.server.respond(now, key, bytes).is_ok());
                    }
                }
                Output::Event(_) => {}
            }
        }
        moved
    }
}

fn is_answered(response: &sip::Message) -> bool {
    *response.method() == Method::Invite && response.status().is_some_and(StatusCode::is_success)
}

fn request(method: &Method, number: u64) -> OutgoingRequest {
    let to_tag = if *method == Method::Ack { ";tag=to-tag" } else { "" };
    let headers = format!(
        "Max-Forwards: 70\r\nFrom: <sip:a@contoso.com>;tag=a{number}\r\nTo: <sip:b@contoso.com>{to_tag}\r\n\
         Call-ID: {number:032x}\r\nCSeq: 1 {method}\r\nContact: <sip:a@127.0.0.1:5061>\r\n"
    );
    OutgoingRequest {
        method: method.clone(),
        uri: Bytes::from_static(b"sip:b@contoso.com"),
        headers: Bytes::from(headers),
        content_type: None,
        body: Bytes::new(),
    }
}

fn work(name: &'static str, method: Method) -> Work {
    let mut pair = Pair::new();
    let run = move || (0..PER_RUN).map(|_| pair.once(&method)).sum();
    Work { name, per_run: PER_RUN, run: Box::new(run) }
}

/// OPTIONS and its 200.
pub(crate) fn plain() -> Work {
    work("transaction", Method::Options)
}

/// INVITE, 180, 200, ACK.
pub(crate) fn invite() -> Work {
    work("invite transaction", Method::Invite)
}
