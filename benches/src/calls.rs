//! Whole calls: a caller and servers of few words play them once against an engine, and the inputs are recorded.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use b2bua::engine::{Engine, FlowUp, Input, MediaCommand, Origin, Output, PeerIdentity, Target};
use b2bua::policy::VoipSecurity;
use bytes::Bytes;
use sdp::{CryptoLine, KeySalt, OfferSpec, Profile, Session};
use sip::{Dialog, FlowKey, HeaderId, Limits, Message, Method, OutgoingRequest, StatusCode, Transport};

use crate::policy::{self, CALLS_MAX, MAILBOX, PBX, POOL};
use crate::trace::{Step, Trace, engine, media_ready};
use crate::{Work, wire};

/// Calls in one run of a table.
const PER_RUN: usize = 200;
/// Between two calls: 1,000 calls/s.
const PAUSE: Duration = Duration::from_millis(1);
/// All that a call leaves behind is gone after that.
const AFTERMATH: Duration = Duration::from_secs(80);
const CALLER: FlowKey = FlowKey(1);
const PLAIN_INVITE: &str = "INVITE sip:88895@10.0.0.1:5060;user=phone SIP/2.0\r\n\
    Via: SIP/2.0/TCP 10.0.0.9:5070;branch=z9hG4bK-NUMBER-1\r\nMax-Forwards: 70\r\n\
    From: \"Dana Birkby\" <sip:4255550100@10.0.0.9:5070>;tag=NUMBER\r\nTo: <sip:88895@10.0.0.1:5060;user=phone>\r\n\
    Call-ID: NUMBER@10.0.0.9\r\nCSeq: 1 INVITE\r\nContact: <sip:4255550100@10.0.0.9:5070;transport=tcp>\r\n\
    User-Agent: PBX\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\nContent-Type: application/sdp\r\n";
const PLAIN_OFFER: &str = "v=0\r\no=- 53655765 2353687637 IN IP4 10.0.0.9\r\ns=-\r\nc=IN IP4 10.0.0.9\r\nt=0 0\r\n\
    m=audio 30000 RTP/AVP 0 8 101\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\n";

/// What sort of call.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Scenario {
    /// A PBX over TCP, plain RTP, the first server answers.
    Plain,
    /// A pool over TLS, SRTP, the first server answers.
    Sealed,
    /// As `Sealed`, with a 302 of the Call Router and another of the Mailbox server.
    Redirected,
}

/// Calls that are held while others come and go. Marks of the trace: flows up, all held, their transactions over,
/// `passing` more calls gone.
pub struct Held {
    /// The inputs.
    pub trace: Trace,
    /// How many are held.
    pub held: usize,
    /// How many come and go meanwhile.
    pub passing: usize,
}

impl Held {
    /// Records `held` calls, then `passing` others beside them, then the end of all.
    pub fn record(scenario: Scenario, held: usize, passing: usize) -> Self {
        let mut stage = Stage::new(scenario, CALLS_MAX);
        stage.mark();
        (0..held).for_each(|number| stage.set_up(number));
        stage.mark();
        stage.rest(AFTERMATH);
        stage.mark();
        for number in held..held + passing {
            stage.set_up(number);
            stage.hang_up(number);
        }
        stage.mark();
        (0..held).for_each(|number| stage.hang_up(number));
        stage.rest(AFTERMATH);
        Self { trace: stage.into_trace(), held, passing }
    }
}

pub(crate) fn work(name: &'static str, scenario: Scenario) -> Work {
    let Held { trace, .. } = Held::record(scenario, 0, PER_RUN);
    Work { name, per_run: PER_RUN, run: Box::new(move || trace.replay().run()) }
}

/// Calls to where the caller has its 200 and the server its ACK.
pub(crate) fn set_up(name: &'static str, scenario: Scenario) -> Work {
    let Held { trace, .. } = Held::record(scenario, PER_RUN, 0);
    Work { name, per_run: PER_RUN, run: Box::new(move || trace.replay().run_to(1)) }
}

/// Calls that find no room: INVITE, 503, ACK.
pub(crate) fn refused(name: &'static str, scenario: Scenario) -> Work {
    let mut stage = Stage::new(scenario, 0);
    (0..PER_RUN).for_each(|number| stage.set_up(number));
    let trace = stage.into_trace();
    Work { name, per_run: PER_RUN, run: Box::new(move || trace.replay().run()) }
}

/// Engine, far ends and the recorder.
struct Stage {
    scenario: Scenario,
    engine: Engine,
    now: Instant,
    trace: Trace,
    places: BTreeMap<(String, u16), FlowKey>,
    ports: BTreeMap<FlowKey, u16>,
    pending: VecDeque<Step>,
    /// Dialogs of the caller, by number of the call.
    dialogs: BTreeMap<usize, Dialog>,
    answered: Option<Dialog>,
}

impl Stage {
    fn new(scenario: Scenario, calls_max: usize) -> Self {
        let security = match scenario {
            Scenario::Plain => VoipSecurity::Unsecured,
            Scenario::Sealed | Scenario::Redirected => VoipSecurity::Secured,
        };
        let (start, policy) = (Instant::now(), policy::policy(security, calls_max));
        let mut stage = Self {
            scenario,
            engine: engine(start, &policy),
            now: start,
            trace: Trace { start, policy, steps: Vec::new(), marks: Vec::new() },
            places: BTreeMap::new(),
            ports: BTreeMap::new(),
            pending: VecDeque::new(),
            dialogs: BTreeMap::new(),
            answered: None,
        };
        let remote = SocketAddr::from((PBX, 40000));
        let up = stage.flow_up(CALLER, remote, POOL, Origin::Inbound);
        stage.take(Step::Up(up));
        stage
    }

    fn into_trace(self) -> Trace {
        self.trace
    }

    fn mark(&mut self) {
        self.trace.marks.push(self.trace.steps.len());
    }

    fn transport(&self) -> Transport {
        match self.scenario {
            Scenario::Plain => Transport::Tcp,
            Scenario::Sealed | Scenario::Redirected => Transport::Tls,
        }
    }

    fn flow_up(&self, key: FlowKey, remote: SocketAddr, name: &str, origin: Origin) -> FlowUp {
        let transport = self.transport();
        let peer = match transport {
            Transport::Tls => PeerIdentity::Verified { names: vec![name.to_owned()] },
            _ => PeerIdentity::Address,
        };
        FlowUp {
            key,
            transport,
            local: SocketAddr::from(([10, 0, 0, 1], 5061)),
            remote,
            peer,
            origin,
            made_for: None,
        }
    }

    fn set_up(&mut self, number: usize) {
        self.rest(PAUSE);
        let text = match self.scenario {
            Scenario::Plain => {
                let head = PLAIN_INVITE.replace("NUMBER", &format!("{number:016x}"));
                format!("{head}Content-Length: {}\r\n\r\n{PLAIN_OFFER}", PLAIN_OFFER.len())
            }
            Scenario::Sealed | Scenario::Redirected => String::from_utf8_lossy(wire::INVITE)
                .replace("0d6a1cb7e8f94a54a3c2b1e0f9d8c7b6", &format!("{number:032x}"))
                .replace("E70E1420.B11C7713739E3437", &format!("E70E1420.{number:016X}"))
                .replace("tag=1c7713739e", &format!("tag={number:010x}")),
        };
        self.take(Step::Bytes(CALLER, Bytes::from(text)));
        if let Some(dialog) = self.answered.take() {
            self.dialogs.insert(number, dialog);
        }
    }

    fn hang_up(&mut self, number: usize) {
        self.rest(PAUSE);
        if let Some(mut dialog) = self.dialogs.remove(&number)
            && let Ok(bye) = dialog.request(Method::Bye).finish()
        {
            let bytes = self.printed(&bye, number);
            self.take(Step::Bytes(CALLER, bytes));
        }
    }

    /// Lets time pass.
    fn rest(&mut self, pause: Duration) {
        let end = self.now + pause;
        while let Some((at, _)) = self.engine.poll_deadline().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.take(Step::Timeout);
        }
        self.now = end;
    }

    fn take(&mut self, step: Step) {
        self.pending.push_back(step);
        while let Some(step) = self.pending.pop_front() {
            let input = match &step {
                Step::Up(up) => Input::FlowUp(up.clone()),
                Step::Bytes(flow, bytes) => Input::Message { flow: *flow, bytes: bytes.clone() },
                Step::Ready(call) => media_ready(*call),
                Step::Timeout => Input::Timeout,
            };
            self.trace.steps.push((self.now, step));
            self.engine.handle(self.now, input);
            while let Some(output) = self.engine.poll_output() {
                self.on_output(output);
            }
        }
    }

    fn on_output(&mut self, output: Output) {
        match output {
            Output::Send { flow, bytes } => {
                let Ok(message) = Message::parse(bytes, &Limits::default()) else { return };
                match flow == CALLER {
                    true => self.on_caller(&message),
                    false => self.on_server(flow, &message),
                }
            }
            Output::Connect { connect, target } => {
                let up = self.connected(&target, Origin::Outbound(connect));
                self.pending.push_back(Step::Up(up));
            }
            Output::Media(MediaCommand::Allocate { call }) => self.pending.push_back(Step::Ready(call)),
            _ => {}
        }
    }

    fn connected(&mut self, target: &Target, origin: Origin) -> FlowUp {
        let next = FlowKey(self.places.len() as u64 + 2);
        let key = *self.places.entry((target.name.clone(), target.port)).or_insert(next);
        self.ports.insert(key, target.port);
        self.flow_up(key, SocketAddr::new(target.address, target.port), &target.name, origin)
    }

    fn on_caller(&mut self, message: &Message) {
        let status = message.status().map_or(0, StatusCode::code);
        if status < 200 || *message.method() != Method::Invite {
            return;
        }
        if status >= 300 {
            return self.pending.push_back(Step::Bytes(CALLER, ack_to_refusal(message)));
        }
        let request = outgoing(Method::Invite, b"sip:ken@contoso.com");
        let Ok(dialog) = Dialog::uac(&request, message) else { return };
        if let Ok(ack) = dialog.ack(message.cseq().number).finish() {
            let bytes = self.printed(&ack, self.trace.steps.len());
            self.pending.push_back(Step::Bytes(CALLER, bytes));
        }
        self.answered = Some(dialog);
    }

    fn printed(&self, request: &OutgoingRequest, number: usize) -> Bytes {
        let (method, uri) = (&request.method, String::from_utf8_lossy(&request.uri));
        let headers = String::from_utf8_lossy(&request.headers);
        let via = self.transport().as_via_str();
        Bytes::from(format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{via} 10.0.0.9:5070;branch=z9hG4bK-{method}-{number:016x}\r\n\
             {headers}Content-Length: 0\r\n\r\n"
        ))
    }

    fn on_server(&mut self, flow: FlowKey, message: &Message) {
        let port = self.ports.get(&flow).copied().unwrap_or_default();
        match message.method() {
            _ if message.is_response() => {}
            Method::Invite => match self.redirect(port) {
                Some(contact) => self.respond(flow, message, StatusCode::MOVED_TEMPORARILY, &contact, None),
                None => {
                    let contact =
                        format!("<sip:um@{MAILBOX}:{port};transport={}>", self.transport().as_param());
                    let body = answer_to(&message.body());
                    self.respond(flow, message, StatusCode::TRYING, &contact, None);
                    self.respond(flow, message, StatusCode::RINGING, &contact, None);
                    self.respond(flow, message, StatusCode::OK, &contact, body);
                }
            },
            Method::Bye => self.respond(flow, message, StatusCode::OK, "<sip:um@10.0.2.1>", None),
            _ => {}
        }
    }

    fn redirect(&self, port: u16) -> Option<String> {
        let to = match (self.scenario, port) {
            (Scenario::Redirected, 5061) => 5063,
            (Scenario::Redirected, 5063) => 5066,
            _ => return None,
        };
        Some(format!("<sip:ken@{MAILBOX}:{to};user=phone;transport=tls;maddr={MAILBOX}>"))
    }

    fn respond(
        &mut self,
        flow: FlowKey,
        request: &Message,
        status: StatusCode,
        contact: &str,
        body: Option<Bytes>,
    ) {
        let mut builder = sip::response_to(request, status, None, Some(b"far-tag"));
        if status != StatusCode::TRYING {
            builder = builder.header(HeaderId::Contact, contact);
        }
        let content_type = body.is_some().then_some(&b"application/sdp"[..]);
        if let Ok(bytes) = builder.finish(content_type, &body.unwrap_or_default()) {
            self.pending.push_back(Step::Bytes(flow, bytes));
        }
    }
}

/// RFC 3261 §17.1.1.3
fn ack_to_refusal(response: &Message) -> Bytes {
    let copied = [HeaderId::Via, HeaderId::From, HeaderId::To, HeaderId::CallId].map(|id| {
        let value = String::from_utf8_lossy(response.header(id).unwrap_or_default());
        format!("{}: {value}\r\n", id.name())
    });
    Bytes::from(format!(
        "ACK sip:ken@contoso.com SIP/2.0\r\n{}CSeq: {} ACK\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
        copied.concat(),
        response.cseq().number
    ))
}

fn outgoing(method: Method, uri: &'static [u8]) -> OutgoingRequest {
    let (uri, headers) = (Bytes::from_static(uri), Bytes::new());
    OutgoingRequest { method, uri, headers, content_type: None, body: Bytes::new() }
}

/// An honest answer: PCMU, and the first crypto line when there is one.
fn answer_to(offer: &[u8]) -> Option<Bytes> {
    let offer = Session::parse(offer).ok()?;
    let audio = offer.audio()?;
    let mut spec = OfferSpec::new(IpAddr::from([10, 0, 2, 1]), 4000);
    spec.formats = audio.formats.iter().filter(|f| f.is("PCMU") || f.is_auxiliary()).cloned().collect();
    if let Some(theirs) = audio.crypto.first() {
        spec.profile = Profile::RtpSavp;
        let key = KeySalt::from_bytes(theirs.suite, &[0x5b; 30])?;
        spec.crypto = vec![CryptoLine::new(theirs.tag, theirs.suite, key)];
    }
    sdp::write_answer(&offer, &spec).ok()
}
