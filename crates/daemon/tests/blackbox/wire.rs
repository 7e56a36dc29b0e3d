//! One connection of a far end that plays SIP by hand, over TCP or mutual TLS, and the dialogs it knows. Owns what every
//! message needs; refuses to know what a test is about.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use lab::pki::Pki;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// The gateway in these tests.
pub const FQDN: &str = "umbra.contoso.test";
/// How long anything that is due may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Bytes both ways, sealed or not.
pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// What a look at a connection finds.
#[derive(Debug)]
pub enum Polled {
    Message(Vec<u8>),
    Nothing,
    Closed,
}

/// What a connection runs over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Carrier {
    Tcp,
    Tls,
}

impl Carrier {
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }
}

/// A description that fits every plain plan.
pub const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n\
a=rtpmap:0 PCMU/8000\r\n";

/// One connection of a peer.
pub struct Wire {
    stream: Box<dyn Stream>,
    socket: TcpStream,
    heard: Vec<u8>,
    own: Ipv4Addr,
    carrier: Carrier,
}

impl Wire {
    pub fn new(stream: TcpStream, own: Ipv4Addr) -> Self {
        let socket = ready(&stream);
        Self { stream: Box::new(stream), socket, heard: Vec::new(), own, carrier: Carrier::Tcp }
    }

    /// Opened over mutual TLS under that name.
    pub fn sealed(stream: TcpStream, own: Ipv4Addr, pki: &Pki, name: &str) -> Self {
        let socket = ready(&stream);
        let stream = Box::new(StreamOwned::new(tls_client(pki, name, FQDN), stream));
        Self { stream, socket, heard: Vec::new(), own, carrier: Carrier::Tls }
    }

    /// Accepted over TLS under that name.
    pub fn accepted(stream: TcpStream, own: Ipv4Addr, pki: &Pki, name: &str) -> Self {
        let socket = ready(&stream);
        let stream = Box::new(StreamOwned::new(tls_server(pki, name), stream));
        Self { stream, socket, heard: Vec::new(), own, carrier: Carrier::Tls }
    }

    /// Bytes as they stand.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    /// Whether nothing comes for so long.
    pub fn is_quiet(&mut self, longest: Duration) -> bool {
        self.socket.set_read_timeout(Some(longest)).unwrap();
        let mut buffer = [0; 4096];
        let read = self.stream.read(&mut buffer);
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        match read {
            Ok(count) => self.heard.extend_from_slice(&buffer[..count]),
            Err(why) => assert!(matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{why}"),
        }
        self.heard.is_empty()
    }

    pub fn say(&mut self, head: &str, body: &str) {
        // A test may bring its own.
        let is_said = body.is_empty() || head.contains("Content-Type:");
        let kind = if is_said { "" } else { "Content-Type: application/sdp\r\n" };
        let text = format!("{head}{kind}Content-Length: {}\r\n\r\n{body}", body.len());
        self.send(text.as_bytes());
    }

    pub fn hear(&mut self) -> String {
        String::from_utf8_lossy(&self.hear_bytes()).into_owned()
    }

    /// The next message, byte for byte.
    fn hear_bytes(&mut self) -> Vec<u8> {
        match self.poll(PATIENCE) {
            Polled::Message(bytes) => bytes,
            nothing => panic!("{nothing:?} instead of a message"),
        }
    }

    /// The next message, byte for byte, if it comes so soon.
    pub fn poll(&mut self, longest: Duration) -> Polled {
        self.socket.set_read_timeout(Some(longest)).unwrap();
        let polled = self.poll_on();
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        polled
    }

    fn poll_on(&mut self) -> Polled {
        loop {
            if let Some(at) = self.heard.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.heard[..at]);
                let end = at + 4 + value(&head, "Content-Length").parse::<usize>().unwrap();
                if self.heard.len() >= end {
                    return Polled::Message(self.heard.drain(..end).collect());
                }
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(count) if count > 0 => self.heard.extend_from_slice(&buffer[..count]),
                Err(why) if matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    return Polled::Nothing;
                }
                Ok(_) | Err(_) => return Polled::Closed,
            }
        }
    }

    /// The next message but for 100 and questions whether we live; it must begin so.
    pub fn hears(&mut self, start: &str) -> String {
        loop {
            let message = self.hear();
            if message.starts_with("OPTIONS ") {
                self.answers(&message, "200 OK", "");
            } else if !message.starts_with("SIP/2.0 100 ") {
                assert!(message.starts_with(start), "{start} expected, not\n{message}");
                return message;
            }
        }
    }

    /// Hears a request and answers 200.
    pub fn serves(&mut self, method: &str) -> String {
        let request = self.hears(&format!("{method} "));
        self.answers(&request, "200 OK", if method == "INVITE" { SDP } else { "" });
        request
    }

    pub fn answers(&mut self, request: &str, status: &str, body: &str) {
        let lines = |name: &str| {
            let lines = request.split("\r\n").filter(|line| line.starts_with(&format!("{name}:")));
            lines.map(|line| format!("{line}\r\n")).collect::<String>()
        };
        let to = value(request, "To");
        let tag = if to.contains(";tag=") { "" } else { ";tag=far" };
        let head = format!(
            "SIP/2.0 {status}\r\n{}From: {}\r\nTo: {to}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\n{}",
            lines("Via"),
            value(request, "From"),
            value(request, "Call-ID"),
            value(request, "CSeq"),
            self.contact(),
        );
        self.say(&head, body);
    }

    fn contact(&self) -> String {
        let transport = self.carrier.word().to_ascii_lowercase();
        format!("Contact: <sip:peer@{}:5070;transport={transport}>\r\n", self.own)
    }

    pub fn asks(&mut self, dialog: &Dialog, method: &str, cseq: u32, lines: &str) {
        self.asks_with(dialog, method, cseq, lines, if method == "INVITE" { SDP } else { "" });
    }

    pub fn asks_with(&mut self, dialog: &Dialog, method: &str, cseq: u32, lines: &str, body: &str) {
        let number = if method == "CANCEL" { 1 } else { cseq };
        let branch = if method == "CANCEL" { "INVITE" } else { method };
        // RFC 3261 §20.10: one is enough, and a test may bring its own.
        let contact = if lines.contains("Contact:") { String::new() } else { self.contact() };
        let head = format!(
            "{method} {} SIP/2.0\r\nVia: SIP/2.0/{} {}:5070;branch=z9hG4bK{branch}{number}{}{}\r\nMax-Forwards: 70\r\n\
             From: <sip:10048@{}>;tag={}\r\nTo: <sip:88895@umbra.contoso.test>{}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\n{contact}{lines}",
            dialog.uri,
            self.carrier.word(),
            self.own,
            dialog.call_id,
            dialog.ours,
            self.own,
            dialog.ours,
            if dialog.theirs.is_empty() { String::new() } else { format!(";tag={}", dialog.theirs) },
            dialog.call_id,
        );
        self.say(&head, body);
    }

    /// Begins a dialog and gets so far as the 2xx, its ACK included.
    pub fn calls(&mut self, call_id: &str, lines: &str, meanwhile: impl FnOnce()) -> Dialog {
        let mut dialog = Dialog::begun(call_id);
        self.asks(&dialog, "INVITE", 1, lines);
        meanwhile();
        dialog.theirs = tag(&value(&self.hears("SIP/2.0 200 "), "To"));
        self.asks(&dialog, "ACK", 1, "");
        dialog
    }

    pub fn says_in(
        &mut self,
        dialog: &Dialog,
        method: &str,
        cseq: u32,
        status: &str,
        meanwhile: impl FnOnce(),
    ) {
        self.asks(dialog, method, cseq, "");
        meanwhile();
        let answer = self.hears(&format!("SIP/2.0 {status} "));
        assert_eq!(value(&answer, "Call-ID"), dialog.call_id);
    }
}

/// A dialog as one far end knows it.
#[derive(Clone)]
pub struct Dialog {
    pub uri: String,
    pub call_id: String,
    pub ours: String,
    pub theirs: String,
}

impl Dialog {
    pub fn begun(call_id: &str) -> Self {
        let uri = String::from("sip:88895@umbra.contoso.test;user=phone");
        Self { uri, call_id: call_id.to_owned(), ours: format!("t{call_id}"), theirs: String::new() }
    }

    /// The server's end of an INVITE that it answered.
    pub fn served(invite: &str) -> Self {
        let contact = value(invite, "Contact");
        let uri = contact.trim_start_matches('<').split('>').next().unwrap().to_owned();
        let call_id = value(invite, "Call-ID");
        Self { uri, call_id, ours: String::from("far"), theirs: tag(&value(invite, "From")) }
    }

    /// Its name for whoever receives an INVITE at the other end.
    pub fn name(&self) -> String {
        format!("{};to-tag={};from-tag={}", self.call_id, self.theirs, self.ours)
    }
}

pub fn value(message: &str, name: &str) -> String {
    let line = message.split("\r\n").find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name} in\n{message}")).to_owned()
}

pub fn tag(address: &str) -> String {
    address.split(";tag=").nth(1).unwrap_or_default().split(';').next().unwrap_or_default().to_owned()
}

fn ready(stream: &TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.try_clone().unwrap()
}

/// The client's side of a mutual handshake with a gateway of that name.
pub fn tls_client(pki: &Pki, name: &str, gateway: &str) -> ClientConnection {
    let identity = pki.identity(name).unwrap();
    let mut roots = RootCertStore::empty();
    pki.roots().into_iter().for_each(|root| roots.add(root).unwrap());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain().to_vec(), identity.key())
        .unwrap();
    ClientConnection::new(Arc::new(config), gateway.to_owned().try_into().unwrap()).unwrap()
}

fn tls_server(pki: &Pki, name: &str) -> ServerConnection {
    let identity = pki.identity(name).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.chain().to_vec(), identity.key())
        .unwrap();
    ServerConnection::new(Arc::new(config)).unwrap()
}
