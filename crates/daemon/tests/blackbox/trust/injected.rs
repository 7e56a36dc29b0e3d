//! Messages whose values try to become lines of their own, or to command whoever looks at them: what the other leg receives,
//! and everything that is printed, byte for byte.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{ADMIN, GATEWAYS, SERVERS, Stage};
use crate::harness::http_get;
use crate::wire::{Carrier, Dialog, Polled, SDP, Wire, tag, value};

/// A look at one connection while others may have something to say.
const GLANCE: Duration = Duration::from_millis(1);
/// How long an exchange may take, and how long nothing is said after its last word.
const PATIENCE: Duration = Duration::from_secs(15);
const SILENCE: Duration = Duration::from_millis(120);

/// What is put into each place. What stands behind a line break must never stand at the beginning of a line.
const POISONS: [&[u8]; 17] = [
    b"a\nX-Evil: 1",
    b"a\rX-Evil: 1",
    b"a\0X-Evil: 1",
    b"a\r\n X-Evil: 1",
    b"a\r\n\tX-Evil: 1",
    b"a\\\rX-Evil: 1",
    b"a\\\nX-Evil: 1",
    b"a\\\r\n X-Evil: 1",
    b"a%0d%0aX-Evil:%201",
    b"a%00%1b[2J",
    b"a\\r\\nX-Evil: 1",
    b"\x1b[2J\x1b]0;mine\x07",
    b"\x08\x0b\x0c\x7f\x01",
    "\u{9b}31m\u{85}X-Evil: 1".as_bytes(),
    "\u{2028}X-Evil: 1\u{202e}".as_bytes(),
    b"a\"\\\"<sip:x@y>;X-Evil=1,",
    b"\xff\xfe\xc2",
];

/// A place in a message: what is found there, and what stands there instead.
type Place = (&'static str, &'static str);

const IN_INVITE: &[Place] = &[
    ("sip:88895@", "sip:88895{p}@"),
    (";user=phone SIP", ";user={p} SIP"),
    (";user=phone SIP", ";user=phone?X-Evil={p} SIP"),
    (";branch=", ";x={p};branch="),
    ("Max-Forwards: 70", "Max-Forwards: 70{p}"),
    ("From: <", "From: \"{p}\" <"),
    ("From: <", "From: {p} <"),
    ("From: <sip:101", "From: <sip:101{p}"),
    (";tag=", ";x=\"{p}\";tag="),
    ("To: <", "To: \"{p}\" <"),
    ("To: <sip:88895", "To: <sip:{p}"),
    ("Call-ID: ", "Call-ID: {p}"),
    ("Contact: <", "Contact: \"{p}\" <"),
    ("Contact: <sip:101", "Contact: <sip:{p}"),
    ("Subject: hello", "Subject: {p}"),
    ("Diversion: <", "Diversion: \"{p}\" <"),
    ("reason=no-answer", "reason=\"{p}\""),
    ("P-Asserted-Identity: <", "P-Asserted-Identity: \"{p}\" <"),
    ("index=1", "index=\"{p}\""),
    ("Referred-By: <sip:103", "Referred-By: <sip:{p}"),
    ("User-Agent: phone", "User-Agent: {p}"),
    ("X-Note: note", "X-Note: {p}"),
    ("X-Note: note", "X-{p}: note"),
    ("Supported: timer", "Supported: {p}"),
    ("application/sdp", "application/sdp;x=\"{p}\""),
    ("s=-", "s={p}"),
    ("o=-", "o={p}"),
    ("t=0 0", "t=0 0\r\na=x:{p}"),
    ("PCMU/8000", "PCMU/8000\r\na=fmtp:0 {p}"),
    ("PCMU/8000", "{p}/8000"),
];

const IN_PART: &[Place] = &[("x=part", "x=\"{p}\""), ("x=part", "x=part\r\nX-Part: {p}")];

const IN_RESPONSE: &[Place] = &[
    ("Said", "{p}"),
    (";tag=", ";tag={p}"),
    (";tag=", ";x=\"{p}\";tag="),
    ("To: ", "To: \"{p}\" "),
    ("Contact: <", "Contact: \"{p}\" <"),
    ("Contact: <sip:um", "Contact: <sip:um{p}"),
    ("Server: um", "Server: {p}"),
    ("399 um \"busy\"", "399 um \"{p}\""),
    ("399 um \"busy\"", "399 {p} \"busy\""),
    ("reason=\"busy\"", "reason=\"{p}\""),
    ("source=\"um\"", "source=\"{p}\""),
    ("Retry-After: 3", "Retry-After: 3 ({p})"),
    ("text=\"busy\"", "text=\"{p}\""),
    ("X-Note: note", "X-Note: {p}"),
    ("X-Note: note", "X-{p}: note"),
];

const INSIDE: &[Place] = &[
    ("From: <", "From: \"{p}\" <"),
    ("To: <", "To: \"{p}\" <"),
    ("Contact: <", "Contact: \"{p}\" <"),
    ("Subject: hello", "Subject: {p}"),
    ("User-Agent: phone", "User-Agent: {p}"),
    ("X-Note: note", "X-Note: {p}"),
    ("X-Note: note", "X-{p}: note"),
    ("text=\"busy\"", "text=\"{p}\""),
    ("Refer-To: <", "Refer-To: \"{p}\" <"),
    ("Refer-To: <sip:103", "Refer-To: <sip:{p}"),
    ("Event: x", "Event: {p}"),
    ("text/plain", "text/plain;x=\"{p}\""),
    ("text/plain", "multipart/{p}"),
    ("render", "render;x=\"{p}\""),
];

const LINES: &str = "Subject: hello\r\nDiversion: <sip:102@contoso.test>;reason=no-answer\r\n\
    P-Asserted-Identity: <sip:101@contoso.test>\r\nHistory-Info: <sip:102@contoso.test>;index=1\r\n\
    Referred-By: <sip:103@contoso.test>\r\nUser-Agent: phone\r\nX-Note: note\r\nSupported: timer\r\n";
const LINES_INSIDE: &str = "Subject: hello\r\nUser-Agent: phone\r\nX-Note: note\r\nReason: SIP;cause=486;text=\"busy\"\r\n\
    Refer-To: <sip:103@contoso.test>\r\nEvent: x\r\nSubscription-State: active\r\nContent-Disposition: render\r\n";
const LINES_SAID: &str = "Server: um\r\nWarning: 399 um \"busy\"\r\nms-diagnostics: 15000;reason=\"busy\";source=\"um\"\r\n\
    Retry-After: 3\r\nReason: SIP;cause=486;text=\"busy\"\r\nX-Note: note\r\n";

#[test]
fn over_tcp_no_value_becomes_a_line_or_commands_a_terminal() {
    play(Carrier::Tcp, "pretty");
}

#[test]
fn over_mutual_tls_no_value_becomes_a_line_or_commands_a_terminal() {
    play(Carrier::Tls, "json");
}

fn play(carrier: Carrier, format: &str) {
    let stage = Stage::start(carrier, |config| {
        // A server that is the only one is never left out, whatever it says.
        let second = format!("name = \"{}\"\naddress", SERVERS[1]);
        let config = config.replace(&second, &format!("status = \"Disabled\"\n{second}"));
        config.replace("\"pretty\"", &format!("\"{format}\""))
    });
    let mut scene = Scene::new(&stage);
    scene.invites();
    scene.responses();
    scene.inside();
    let (crossed, refused) = (scene.crossed, scene.refused);
    println!("{carrier:?}: {crossed} messages crossed, {refused} were refused");
    assert!(crossed > 1_000 && refused > 100, "{crossed} messages crossed, {refused} were refused");
    drop(scene);
    outputs(&stage, format);
}

/// A message with something else in one of its places.
fn edited(text: &str, (found, instead): Place, poison: &[u8]) -> Vec<u8> {
    let (before, after) = text.split_once(found).unwrap_or_else(|| panic!("no {found:?} in\n{text}"));
    let (left, right) = instead.split_once("{p}").unwrap();
    [before.as_bytes(), left.as_bytes(), poison, right.as_bytes(), after.as_bytes()].concat()
}

/// Head and body as they go out: with the length that the body has.
fn framed(head: &[u8], body: &[u8]) -> Vec<u8> {
    [head, format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

/// Every place with every poison.
fn every(places: &[Place]) -> impl Iterator<Item = (Place, &'static [u8])> {
    places.iter().flat_map(|place| POISONS.map(|poison| (*place, poison)))
}

/// Who of the two.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Phone,
    Server,
}

/// The caller, the server with its worker, and what they say.
struct Scene<'a> {
    stage: &'a Stage,
    phone: Wire,
    worker: TcpListener,
    servers: Vec<Wire>,
    /// What is said to a request before 486 or 200 is.
    answer: Option<(&'static str, Place, &'static [u8])>,
    number: usize,
    crossed: usize,
    refused: usize,
}

impl<'a> Scene<'a> {
    fn new(stage: &'a Stage) -> Self {
        let port = if stage.carrier == Carrier::Tls { 5066 } else { 5065 };
        let worker = TcpListener::bind((stage.home(SERVERS[0]), port)).unwrap();
        for listener in [&worker, &stage.um] {
            listener.set_nonblocking(true).unwrap();
        }
        let phone = stage.peer(GATEWAYS[0]);
        Self { stage, phone, worker, servers: Vec::new(), answer: None, number: 0, crossed: 0, refused: 0 }
    }

    /// The caller writes, the server looks.
    fn invites(&mut self) {
        for (place, poison) in every(IN_INVITE) {
            let (head, body) = (self.invite(), SDP);
            let in_body = !head.contains(place.0);
            let [head, body] = match in_body {
                true => [head.into_bytes(), edited(body, place, poison)],
                false => [edited(&head, place, poison), body.as_bytes().to_vec()],
            };
            self.begins(&framed(&head, &body));
        }
        for (place, poison) in every(IN_PART) {
            let head = self.invite().replace("application/sdp", "multipart/mixed;boundary=b");
            let part = "--b\r\nContent-Type: application/sdp\r\nContent-Disposition: session;x=part\r\n\r\n";
            let body = edited(&format!("{part}{SDP}\r\n--b--\r\n"), place, poison);
            self.begins(&framed(head.as_bytes(), &body));
        }
    }

    /// The server writes, the caller looks; what a 302 says, the worker sees too.
    fn responses(&mut self) {
        for status in ["180", "200", "302", "486"] {
            for (place, poison) in every(IN_RESPONSE) {
                self.answer = Some((status, place, poison));
                let head = self.invite();
                self.begins(&framed(head.as_bytes(), SDP.as_bytes()));
            }
        }
        self.answer = None;
    }

    /// Inside a call either end writes; the other looks, and answers.
    fn inside(&mut self) {
        let mut caller = Dialog::begun("inside");
        self.phone.asks(&caller, "INVITE", 1, "");
        let mut invite = String::new();
        let until = Instant::now() + PATIENCE;
        while invite.is_empty() {
            assert!(Instant::now() < until, "no INVITE:\n{}", self.stage.umbra.process.output());
            let Some((at, bytes)) = self.glance_at_servers() else { continue };
            // An ACK of before may still come.
            let text = String::from_utf8(bytes).unwrap();
            if text.starts_with("INVITE ") {
                self.servers[at].answers(&text, "200 OK", SDP);
                invite = text;
            }
        }
        caller.theirs = tag(&value(&self.phone.hears("SIP/2.0 200 "), "To"));
        self.phone.asks(&caller, "ACK", 1, "");
        let served = Dialog::served(&invite);
        for (from, dialog) in [(End::Phone, &caller), (End::Server, &served)] {
            for (place, poison) in every(INSIDE) {
                self.answer = None;
                let method = if place.0.starts_with("Refer") { "REFER" } else { "INFO" };
                let head = self.request(dialog, method);
                self.exchange(from, &framed(&edited(&head, place, poison), b"text"));
            }
            for (place, poison) in every(IN_RESPONSE) {
                self.answer =
                    Some((if self.number.is_multiple_of(2) { "200" } else { "480" }, place, poison));
                let head = self.request(dialog, "INFO");
                self.exchange(from, &framed(head.as_bytes(), b"text"));
            }
        }
        self.answer = None;
        let bye = self.request(&caller, "BYE");
        assert_eq!(self.exchange(End::Phone, &framed(bye.as_bytes(), b"")).map(|told| told.0), Some(200));
    }

    fn invite(&mut self) -> String {
        self.number += 1;
        let (number, own) = (self.number, self.stage.home(GATEWAYS[0]));
        format!(
            "INVITE sip:88895@umbra.contoso.test;user=phone SIP/2.0\r\nVia: SIP/2.0/{} {own}:5070;branch=z9hG4bKp{number}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:101@contoso.test>;tag=p{number}\r\nTo: <sip:88895@umbra.contoso.test>\r\n\
             Call-ID: p{number}\r\nCSeq: 1 INVITE\r\nContact: <sip:101@{own}:5070>\r\n{LINES}Content-Type: application/sdp\r\n",
            self.stage.carrier.word()
        )
    }

    fn request(&mut self, dialog: &Dialog, method: &str) -> String {
        self.number += 1;
        let (number, own) = (self.number, self.stage.home(GATEWAYS[0]));
        format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/{} {own}:5070;branch=z9hG4bKp{number}\r\nMax-Forwards: 70\r\n\
             From: <sip:101@contoso.test>;tag={}\r\nTo: <sip:88895@umbra.contoso.test>;tag={}\r\nCall-ID: {}\r\n\
             CSeq: {} {method}\r\nContact: <sip:101@{own}:5070>\r\n{LINES_INSIDE}Content-Type: text/plain\r\n",
            dialog.uri,
            self.stage.carrier.word(),
            dialog.ours,
            dialog.theirs,
            dialog.call_id,
            number + 10,
        )
    }

    /// An INVITE and whatever follows it.
    fn begins(&mut self, invite: &[u8]) {
        let answered = self.exchange(End::Phone, invite);
        // What could not be read is refused with what could, and without a transaction.
        let is_whole =
            |answer: &str| ["To", "Call-ID"].iter().all(|name| answer.contains(&format!("\r\n{name}: ")));
        let Some((status, answer)) = answered.filter(|(_, answer)| is_whole(answer)) else { return };
        let (number, to) = (self.number, tag(&value(&answer, "To")));
        let request = |method: &str, branch: &str, cseq: u32| {
            format!(
                "{method} sip:88895@umbra.contoso.test;user=phone SIP/2.0\r\nVia: {}branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
                 From: <sip:101@contoso.test>;tag=p{number}\r\nTo: <sip:88895@umbra.contoso.test>;tag={to}\r\nCall-ID: {}\r\n\
                 CSeq: {cseq} {method}\r\n",
                value(&answer, "Via").split("branch=").next().unwrap(),
                value(&answer, "Call-ID"),
            )
        };
        let branch = if status < 300 { format!("ap{number}") } else { format!("p{number}") };
        self.phone.say(&request("ACK", &branch, 1), "");
        if status < 300 {
            self.number += 1;
            let bye = request("BYE", &format!("p{}", number + 1), 2);
            let ended = self.exchange(End::Phone, &framed(bye.as_bytes(), b""));
            assert_eq!(ended.map(|told| told.0), Some(200), "{}", self.stage.umbra.process.output());
        }
    }

    /// Says it and lets everybody speak until the final answer, or until it is clear that there is none.
    fn exchange(&mut self, from: End, request: &[u8]) -> Option<(u16, String)> {
        let branch = format!("branch=z9hG4bKp{}", self.number);
        let (probe, asks_badly) = (self.probe(), self.answer.is_none());
        self.asker(from).send(&[request, probe.as_bytes()].concat());
        let (started, mut said, mut probed) = (Instant::now(), Instant::now(), false);
        let crossed = self.crossed;
        while !(probed && said.elapsed() > SILENCE) {
            assert!(started.elapsed() < PATIENCE, "{}", self.stage.umbra.process.output());
            let heard = match self.phone.poll(GLANCE) {
                Polled::Nothing => self.glance_at_servers().map(|(at, bytes)| (End::Server, at, bytes)),
                Polled::Message(bytes) => Some((End::Phone, 0, bytes)),
                Polled::Closed => {
                    self.phone = self.stage.peer(GATEWAYS[0]);
                    self.refused += 1;
                    return None;
                }
            };
            let Some((end, at, bytes)) = heard else { continue };
            said = Instant::now();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            // What comes back to its own sender holds its own words; an INVITE after a 302 is for another process.
            let is_theirs = if asks_badly { end != from } else { end == from || text.starts_with("INVITE ") };
            if is_theirs {
                assert_clean(&bytes, request);
                self.crossed += 1;
            }
            match text.strip_prefix("SIP/2.0 ") {
                None => self.serve(end, at, &text),
                Some(_) if text.contains("z9hG4bKprobe") => probed = true,
                Some(rest) => {
                    let status: u16 = rest[..3].parse().unwrap();
                    // It would hide what the exchange is about.
                    assert!(!text.contains("UMB-MEDIA001"), "{text}");
                    let is_it = text.contains(&format!("{branch};")) || text.contains(&format!("{branch}\r"));
                    if end == from && status >= 200 && is_it {
                        self.refused += usize::from(self.crossed == crossed);
                        return Some((status, text));
                    }
                }
            }
        }
        self.refused += 1;
        None
    }

    fn asker(&mut self, from: End) -> &mut Wire {
        match from {
            End::Phone => &mut self.phone,
            End::Server => self.servers.first_mut().unwrap(),
        }
    }

    /// OPTIONS for the gateway itself: what came before it was read before.
    fn probe(&self) -> String {
        let (number, word) = (self.number, self.stage.carrier.word());
        format!(
            "OPTIONS sip:umbra.contoso.test SIP/2.0\r\nVia: SIP/2.0/{word} probe.contoso.test;branch=z9hG4bKprobe{number}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:1@contoso.test>;tag=1\r\nTo: <sip:umbra.contoso.test>\r\nCall-ID: probe{number}\r\n\
             CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
        )
    }

    /// A message of one of the servers' connections. Those that the gateway closed are gone.
    fn glance_at_servers(&mut self) -> Option<(usize, Vec<u8>)> {
        for listener in [&self.stage.um, &self.worker] {
            if let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(false).unwrap();
                self.servers.push(self.stage.taken(stream));
            }
        }
        for at in (0..self.servers.len()).rev() {
            match self.servers[at].poll(GLANCE) {
                Polled::Message(bytes) => return Some((at, bytes)),
                Polled::Closed => drop(self.servers.remove(at)),
                Polled::Nothing => {}
            }
        }
        None
    }

    /// Says what is to be said, and then what ends it.
    fn serve(&mut self, end: End, at: usize, request: &str) {
        if request.starts_with("ACK ") {
            return;
        }
        let is_first = request.starts_with("INVITE ");
        let poisoned = self.answer.map(|(status, place, poison)| {
            let head = said(request, status, &self.stage.home(SERVERS[0]).to_string());
            let body = if is_first && status == "200" { SDP } else { "" };
            framed(&edited(&head, place, poison), body.as_bytes())
        });
        let clean = match is_first {
            true => said(request, "486", "192.0.2.1").replace(";tag=far", ";tag=end"),
            false => said(request, "200", "192.0.2.1"),
        };
        let wire = match end {
            End::Phone => &mut self.phone,
            End::Server => &mut self.servers[at],
        };
        let clean = framed(clean.as_bytes(), b"");
        wire.send(&[poisoned.unwrap_or_default(), clean].concat());
    }
}

/// A response with everything in it that can be written into.
fn said(request: &str, status: &str, address: &str) -> String {
    let line = |name: &str| format!("{name}: {}\r\n", value(request, name));
    let via = request.split("\r\n").filter(|line| line.starts_with("Via:")).map(|line| format!("{line}\r\n"));
    let to = value(request, "To");
    let to = to.split(";tag=").next().unwrap();
    let own = tag(&value(request, "To"));
    let own = if own.is_empty() { "far" } else { &own };
    let port = if request.contains("/TLS ") { 5066 } else { 5065 };
    let host = if status == "302" { SERVERS[0] } else { address };
    let kind = if status == "200" && request.starts_with("INVITE ") {
        "Content-Type: application/sdp\r\n"
    } else {
        ""
    };
    format!(
        "SIP/2.0 {status} Said\r\n{}{}To: {to};tag={own}\r\n{}{}Contact: <sip:um@{host}:{port}>\r\n{LINES_SAID}{kind}",
        via.collect::<String>(),
        line("From"),
        line("Call-ID"),
        line("CSeq"),
    )
}

/// Whether it is what it should be: header lines and nothing else in the head, lines of a description in a body of that type.
fn assert_clean(bytes: &[u8], request: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let wrong = |line: &&str| {
        let name = line.split(':').next().unwrap();
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b);
        is_command(line) || name.to_ascii_lowercase().starts_with("x-evil") || !name.bytes().all(is_token)
    };
    let mut lines = head.split("\r\n");
    let found = lines.next().filter(|start| is_command(start)).or_else(|| lines.find(wrong));
    let is_sdp = head.contains("\r\nContent-Type: application/sdp");
    let is_field = |line: &str| line.is_empty() || line.as_bytes().get(1) == Some(&b'=') && !is_command(line);
    let found = found.or_else(|| body.split("\r\n").find(|line| is_sdp && !is_field(line)));
    assert_eq!(found, None, "in\n{text}\nwhich came of\n{}", String::from_utf8_lossy(request));
}

/// Whether a terminal or a reader of lines would do what it says.
fn is_command(text: &str) -> bool {
    text.chars().any(|c| c.is_control() && c != '\t')
}

/// Everything the gateway wrote and tells.
fn outputs(stage: &Stage, format: &str) {
    let page = |path: &str| http_get(stage.umbra.address, ADMIN, path);
    ["/metrics", "/readyz"].iter().for_each(|path| page(path).lines().for_each(assert_line));
    for path in ["/status", "/tls/refusals"] {
        let page = page(path);
        page.lines().for_each(assert_line);
        assert_strings(&serde_json::from_str(page.split_once("\r\n\r\n").unwrap().1).unwrap());
    }
    // A call whose connection broke may take longer to end than a test may.
    stage.umbra.wait_for_records(500, PATIENCE);
    let log = stage.umbra.process.output();
    assert!(log.contains("X-Evil"), "what was said is in the log");
    let (events, plain): (Vec<&str>, Vec<&str>) = log.lines().partition(|line| line.starts_with('{'));
    assert_eq!(events.len() > 1_000, format == "json");
    events.iter().for_each(|line| assert_strings(&serde_json::from_str(line).unwrap()));
    plain.into_iter().for_each(assert_line);
    stage.umbra.records().iter().for_each(assert_strings);
    let folder = stage.umbra.folder.path().join("cdr");
    for file in std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
        std::fs::read_to_string(file).unwrap().lines().for_each(assert_line);
    }
}

/// A line that nobody else began.
fn assert_line(line: &str) {
    let is_turned = line.contains(['\u{202e}', '\u{2028}']);
    let is_theirs = line.trim_start().to_ascii_lowercase().starts_with("x-evil");
    assert!(!is_command(line) && !is_turned && !is_theirs, "{line:?}");
}

/// The same for every string, which a viewer shows unescaped.
fn assert_strings(value: &Value) {
    match value {
        Value::String(text) => text.lines().for_each(assert_line),
        Value::Array(list) => list.iter().for_each(assert_strings),
        Value::Object(table) => table.values().for_each(assert_strings),
        _ => {}
    }
}
