//! The contract all lab roles keep: feed one input, drain outputs, sleep until the deadline. Also the part they share: one SIP endpoint, the
//! connections it may use, and the outputs waiting. Refuses to know sockets, clocks and tasks.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sip::{
    Builder, Endpoint, EndpointConfig, Event, Flow, FlowKey, HeaderId, Limits, Message, Method, StatusCode,
    TimerConfig,
};

use crate::media::{MediaCommand, MediaFact, MediaKey};

/// Transactions of one role at once.
pub const TRANSACTIONS_MAX: usize = 16_384;

/// What a role is told.
#[derive(Debug)]
pub enum Input<C> {
    /// A connection is usable.
    FlowUp(Flow),
    /// A connection is gone.
    FlowDown(FlowKey),
    /// A whole message came.
    Bytes {
        /// On this connection.
        flow: FlowKey,
        /// The message.
        bytes: Bytes,
    },
    /// News of a call's media.
    Media {
        /// Which call's.
        key: MediaKey,
        /// What.
        fact: MediaFact,
    },
    /// From the owner.
    Command(C),
    /// The deadline passed.
    Timeout,
}

/// What a role wants.
#[derive(Debug)]
pub enum Output<R> {
    /// Write this.
    Send {
        /// To this connection.
        flow: FlowKey,
        /// The message.
        bytes: Bytes,
    },
    /// Do something with a call's media.
    Media {
        /// Which call's.
        key: MediaKey,
        /// What.
        command: MediaCommand,
    },
    /// Close a connection without a word.
    Close(FlowKey),
    /// For the owner.
    Report(R),
}

/// A lab role as a value.
pub trait Machine: Send + 'static {
    /// What the owner may command.
    type Command: Send + std::fmt::Debug;
    /// What the owner is told.
    type Report: Send + std::fmt::Debug;

    /// Feeds one input.
    fn handle(&mut self, now: Instant, input: Input<Self::Command>);
    /// Next output; drain after every input.
    fn poll_output(&mut self) -> Option<Output<Self::Report>>;
    /// When `Input::Timeout` is due.
    fn poll_deadline(&self) -> Option<Instant>;
}

/// Endpoint, connections, outputs.
pub(crate) struct Station<R> {
    pub(crate) endpoint: Endpoint,
    flows: BTreeMap<FlowKey, Flow>,
    out: VecDeque<Output<R>>,
    /// `SERVER` of responses.
    server_text: Option<String>,
}

impl<R> Station<R> {
    pub(crate) fn new(host: &str, seed: u64) -> Self {
        let config = EndpointConfig {
            timers: TimerConfig::default(),
            limits: Limits::default(),
            via_host: Bytes::copy_from_slice(host.as_bytes()),
            branch_prefix: Bytes::from_static(b"lab"),
            transactions_max: TRANSACTIONS_MAX,
            server_header: None,
            user_agent: None,
        };
        Station {
            endpoint: Endpoint::new(config, seed),
            flows: BTreeMap::new(),
            out: VecDeque::new(),
            server_text: Some(crate::um::SERVER_HEADER.to_owned()),
        }
    }

    /// Says something else, or nothing, in `SERVER`.
    pub(crate) fn set_server_text(&mut self, text: Option<String>) {
        self.server_text = text;
    }

    /// A response of ours, in Exchange UM's spelling.
    pub(crate) fn response(
        &self,
        request: &Message,
        status: u16,
        reason: &str,
        to_tag: &[u8],
    ) -> Option<Builder> {
        let builder = exchange_response(request, status, reason, to_tag)?;
        Some(match &self.server_text {
            Some(text) => builder.raw_header(b"SERVER", text.as_bytes()),
            None => builder,
        })
    }

    pub(crate) fn flow_up(&mut self, flow: Flow) {
        self.flows.insert(flow.key, flow);
    }

    pub(crate) fn flow_down(&mut self, now: Instant, key: FlowKey) {
        self.flows.remove(&key);
        self.endpoint.handle_flow_down(now, key);
    }

    pub(crate) fn receive(&mut self, now: Instant, key: FlowKey, bytes: Bytes) {
        if let Some(flow) = self.flows.get(&key) {
            self.endpoint.handle_bytes(now, flow, bytes);
        }
    }

    /// Moves what the endpoint wants to send to our outputs; returns its next event.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        loop {
            match self.endpoint.poll_output()? {
                sip::Output::Send { flow, bytes } => self.out.push_back(Output::Send { flow, bytes }),
                sip::Output::Event(event) => return Some(event),
            }
        }
    }

    /// Closes a connection; that it is down is told as always.
    pub(crate) fn close(&mut self, key: FlowKey) {
        self.out.push_back(Output::Close(key));
    }

    pub(crate) fn media(&mut self, key: MediaKey, command: MediaCommand) {
        self.out.push_back(Output::Media { key, command });
    }

    pub(crate) fn report(&mut self, report: R) {
        self.out.push_back(Output::Report(report));
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output<R>> {
        self.out.pop_front()
    }

    pub(crate) fn poll_deadline(&self) -> Option<Instant> {
        self.endpoint.poll_deadline().map(|(at, _)| at)
    }

    /// Answers a request; a response that cannot be built or sent is the same as none (the peer's timer ends the transaction).
    pub(crate) fn respond(
        &mut self,
        now: Instant,
        key: sip::ServerKey,
        response: Result<Bytes, sip::BuildError>,
    ) {
        if let Ok(bytes) = response {
            let _ = self.endpoint.respond(now, key, bytes);
        }
    }
}

/// Earlier of two deadlines.
pub(crate) fn earlier(one: Option<Instant>, two: Option<Instant>) -> Option<Instant> {
    match (one, two) {
        (Some(one), Some(two)) => Some(one.min(two)),
        (one, two) => one.or(two),
    }
}

/// A response in Exchange UM's spelling: upper-case names, From and To first.
fn exchange_response(request: &Message, status: u16, reason: &str, to_tag: &[u8]) -> Option<Builder> {
    let mut builder = Builder::response(StatusCode::new(status)?, reason.as_bytes());
    for (id, name) in [
        (HeaderId::From, "FROM"),
        (HeaderId::To, "TO"),
        (HeaderId::CSeq, "CSEQ"),
        (HeaderId::CallId, "CALL-ID"),
        (HeaderId::Via, "VIA"),
        (HeaderId::RecordRoute, "RECORD-ROUTE"),
    ] {
        let is_dialog = *request.method() == Method::Invite && (101..300).contains(&status);
        if id == HeaderId::RecordRoute && !is_dialog {
            continue;
        }
        for header in request.headers().filter(|h| h.id == id) {
            let value = if id == HeaderId::To && request.to_tag().is_none() && status > 100 {
                [header.raw, b";tag=", to_tag].concat()
            } else {
                header.raw.to_vec()
            };
            builder = builder.raw_header(name.as_bytes(), &value);
        }
    }
    Some(builder)
}

/// Text of a header value for reports: control characters cannot get through.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Seconds as a duration that never fails.
pub(crate) fn since(now: Instant, then: Instant) -> Duration {
    now.saturating_duration_since(then)
}
