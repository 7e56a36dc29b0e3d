//! What a Mailbox server says to its UM IP gateway by itself: message waiting, as an unsolicited NOTIFY (RFC 3842 §5.2 for the body; nobody has
//! subscribed). Owns one connection and what waits for it; refuses to know how it is made.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use sip::{ClientKey, Event, Flow, HeaderId, Method, RequestDraft, Transport};

use super::{LabFact, UmReport, Waiting};
use crate::machine::{Input, Machine, Output, Station};

/// Mailboxes whose news wait for a connection; the oldest goes first.
const QUEUE_MAX: usize = 256;
const SUMMARY: &str = "application/simple-message-summary";
const MAX_FORWARDS: &str = "70";

/// The messenger of one Mailbox server.
pub struct Messenger {
    station: Station<UmReport>,
    name: String,
    gateway: String,
    flow: Option<Flow>,
    queue: VecDeque<Waiting>,
    sent: BTreeMap<ClientKey, String>,
}

impl Messenger {
    /// Of the server called `name`, to the gateway called `gateway`.
    pub fn new(name: &str, gateway: &str, seed: u64) -> Self {
        Messenger {
            station: Station::new(name, seed),
            name: name.to_owned(),
            gateway: gateway.to_owned(),
            flow: None,
            queue: VecDeque::new(),
            sent: BTreeMap::new(),
        }
    }

    /// Only the last news of a mailbox count.
    fn take(&mut self, waiting: Waiting) {
        self.queue.retain(|older| older.mailbox != waiting.mailbox);
        if self.queue.len() == QUEUE_MAX {
            self.queue.pop_front();
        }
        self.queue.push_back(waiting);
    }

    fn send_all(&mut self, now: Instant) {
        while let Some(flow) = self.flow
            && let Some(waiting) = self.queue.pop_front()
        {
            self.send(now, &flow, &waiting);
        }
    }

    fn send(&mut self, now: Instant, flow: &Flow, waiting: &Waiting) {
        let Some(account) = waiting.sip.as_deref() else { return };
        let user = account.split_once(':').map_or(account, |(_, rest)| rest);
        let user = user.split(['@', ';']).next().unwrap_or_default();
        let (port, word) = (flow.remote.port(), flow.transport.as_param());
        let uri = format!("sip:{user}@{}:{port};transport={word}", self.gateway);
        let (call_id, tag) = (self.station.endpoint.new_call_id(b"mwi-"), self.station.endpoint.new_tag());
        let own = match flow.transport {
            Transport::Tls => "Tls",
            _ => "Tcp",
        };
        let from = [format!("<sip:MSExchangeUM@{}>;tag=", self.name).as_bytes(), &tag].concat();
        let request = RequestDraft::new(Method::Notify, Bytes::from(uri))
            .header(HeaderId::MaxForwards, MAX_FORWARDS)
            .header(HeaderId::From, from)
            .header(HeaderId::To, format!("<{account}>"))
            .header(HeaderId::CallId, call_id)
            .header(HeaderId::CSeq, "1 NOTIFY")
            .header(HeaderId::Contact, format!("<sip:{}:{};transport={own}>", self.name, flow.via_port))
            .header(HeaderId::Event, "message-summary")
            .header(HeaderId::SubscriptionState, "terminated")
            .body(SUMMARY, Bytes::from(summary(account, waiting)))
            .finish();
        let sent =
            request.ok().and_then(|request| self.station.endpoint.send_request(now, flow, request).ok());
        match sent {
            Some(client) => drop(self.sent.insert(client, waiting.mailbox.clone())),
            None => self.report(waiting.mailbox.clone(), 0),
        }
    }

    fn on_event(&mut self, event: Event) {
        let (client, status) = match event {
            Event::Response { key, message, .. } => (key, message.status().map_or(0, |s| s.code())),
            Event::ClientFailed { key, .. } => (key, 0),
            _ => return,
        };
        if !(100..200).contains(&status)
            && let Some(mailbox) = self.sent.remove(&client)
        {
            self.report(mailbox, status);
        }
    }

    fn report(&mut self, mailbox: String, status: u16) {
        self.station.report(UmReport::Fact(LabFact::Notified { mailbox, status }));
    }
}

/// RFC 3842 §5.2: whether anything waits, for whom, and new/old (urgent ones in brackets).
fn summary(account: &str, waiting: &Waiting) -> String {
    let is_waiting = if waiting.new > 0 { "yes" } else { "no" };
    format!(
        "Messages-Waiting: {is_waiting}\r\nMessage-Account: {account}\r\nVoice-Message: {}/{} (0/0)\r\n",
        waiting.new, waiting.old
    )
}

impl Machine for Messenger {
    type Command = Waiting;
    type Report = UmReport;

    fn handle(&mut self, now: Instant, input: Input<Waiting>) {
        match input {
            Input::FlowUp(flow) => {
                self.station.flow_up(flow);
                self.flow = Some(flow);
            }
            Input::FlowDown(key) => {
                self.station.flow_down(now, key);
                self.flow.take_if(|flow| flow.key == key);
            }
            Input::Bytes { flow, bytes } => self.station.receive(now, flow, bytes),
            Input::Command(waiting) => self.take(waiting),
            Input::Media { .. } => {}
            Input::Timeout => self.station.endpoint.handle_timeout(now),
        }
        self.send_all(now);
        while let Some(event) = self.station.poll_event() {
            self.on_event(event);
        }
    }

    fn poll_output(&mut self) -> Option<Output<UmReport>> {
        self.station.poll_output()
    }

    fn poll_deadline(&self) -> Option<Instant> {
        self.station.poll_deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sip::{FlowKey, Limits, Message, Party, StatusCode, response_to};

    fn waiting(mailbox: &str, new: usize) -> Waiting {
        let sip = Some(format!("sip:{mailbox}@contoso.test"));
        Waiting { mailbox: mailbox.to_owned(), sip, new, old: 2 }
    }

    fn flow() -> Flow {
        let remote = ([127, 0, 0, 1], 5061).into();
        Flow { key: FlowKey(1), transport: Transport::Tls, remote, via_port: 5066, party: Party::default() }
    }

    fn outputs(messenger: &mut Messenger) -> (Vec<Message>, Vec<LabFact>) {
        let (mut sent, mut facts) = (Vec::new(), Vec::new());
        while let Some(output) = messenger.poll_output() {
            match output {
                Output::Send { bytes, .. } => sent.push(Message::parse(bytes, &Limits::default()).unwrap()),
                Output::Report(UmReport::Fact(fact)) => facts.push(fact),
                other => panic!("{other:?}"),
            }
        }
        (sent, facts)
    }

    #[test]
    fn news_wait_for_a_connection_and_only_the_last_of_a_mailbox_is_told() {
        let (mut messenger, now) =
            (Messenger::new("mbx01.contoso.test", "umbra.contoso.test", 1), Instant::now());
        for (mailbox, new) in [("ken", 1), ("lee", 0), ("ken", 3)] {
            messenger.handle(now, Input::Command(waiting(mailbox, new)));
        }
        assert!(outputs(&mut messenger).0.is_empty());
        messenger.handle(now, Input::FlowUp(flow()));
        let (sent, _) = outputs(&mut messenger);
        let bodies: Vec<_> = sent.iter().map(|m| String::from_utf8_lossy(&m.body()).into_owned()).collect();
        assert_eq!(
            bodies,
            [
                "Messages-Waiting: no\r\nMessage-Account: sip:lee@contoso.test\r\nVoice-Message: 0/2 (0/0)\r\n",
                "Messages-Waiting: yes\r\nMessage-Account: sip:ken@contoso.test\r\nVoice-Message: 3/2 (0/0)\r\n",
            ]
        );
        assert_eq!(sent[1].start_line(), b"NOTIFY sip:ken@umbra.contoso.test:5061;transport=tls SIP/2.0");
        assert_eq!(sent[1].header(HeaderId::Event), Some(&b"message-summary"[..]));
        assert_eq!(sent[1].header(HeaderId::ContentType), Some(SUMMARY.as_bytes()));
    }

    #[test]
    fn what_became_of_it_is_told_once() {
        let (mut messenger, now) =
            (Messenger::new("mbx01.contoso.test", "umbra.contoso.test", 1), Instant::now());
        messenger.handle(now, Input::FlowUp(flow()));
        messenger.handle(now, Input::Command(waiting("ken", 1)));
        let (sent, _) = outputs(&mut messenger);
        let bytes =
            response_to(&sent[0], StatusCode::new(403).unwrap(), None, Some(b"t")).finish(None, b"").unwrap();
        messenger.handle(now, Input::Bytes { flow: FlowKey(1), bytes });
        let (_, facts) = outputs(&mut messenger);
        assert!(
            matches!(&facts[..], [LabFact::Notified { mailbox, status: 403 }] if mailbox == "ken"),
            "{facts:?}"
        );
        messenger.handle(now, Input::Command(Waiting { sip: None, ..waiting("lee", 1) }));
        assert!(outputs(&mut messenger).0.is_empty(), "without an address there is nobody to tell");
        messenger.handle(now, Input::Command(waiting("ken", 0)));
        outputs(&mut messenger);
        messenger.handle(now, Input::FlowDown(FlowKey(1)));
        let (_, facts) = outputs(&mut messenger);
        assert!(matches!(facts[..], [LabFact::Notified { status: 0, .. }]), "{facts:?}");
    }
}
