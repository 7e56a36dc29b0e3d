//! Plain calls in numbers: a PBX on one TCP connection, a UM server that answers whatever comes, and the configuration
//! that joins them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::harness::Net;

/// How long a call lasts.
const HOLD: Duration = Duration::from_secs(2);
/// Bytes of one message.
const HEAD_MAX: usize = 64 * 1024;

/// One test of those that measure how long something takes, at a time.
pub fn alone() -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Host 10 is the PBX, 20 the gateway, 30 the UM server; `extra` ends inside `[listen]`.
pub fn config(net: Net, extra: &str) -> String {
    let (pbx, gateway, um) = (net.host(10), net.host(20), net.host(30));
    format!(
        "[gateway]\nfqdn = \"umbra.contoso.test\"\nsip_domain = \"contoso.test\"\nmax_calls_allowed = 1000\n{extra}\
         addresses = [\"{gateway}\"]\nadvertised = \"{gateway}\"\n\
         [media]\nrtp_ports = \"20000-25999\"\n\
         [[dial_plan]]\nname = \"DP\"\nuri_type = \"TelExtn\"\nvoip_security = \"Unsecured\"\nphone_context = \"DP.contoso.test\"\n\
         [[ip_gateway]]\nname = \"pbx\"\naddress = \"{pbx}\"\nport = 5070\n\
         [[hunt_group]]\nname = \"pbx-hunt\"\nip_gateway = \"pbx\"\ndial_plan = \"DP\"\npilot_identifier = \"88895\"\n\
         [[mailbox_server]]\nname = \"mbx01.contoso.test\"\naddress = [\"{um}\"]\nmax_calls_allowed = 1000\n\
         service_ports = {{ tcp = 5062, tls = 5063 }}\ndial_plans = [\"DP\"]\n"
    )
}

pub const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
m=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";

pub fn request(method: &str, number: usize, cseq: u32, to_tag: &str, from: Ipv4Addr) -> String {
    let head = format!(
        "{method} sip:88895@umbra.contoso.test SIP/2.0\r\nVia: SIP/2.0/TCP {from}:5070;branch=z9hG4bK{method}{cseq}x{number}\r\n\
         From: <sip:101@{from}>;tag=a{number}\r\nTo: <sip:88895@umbra.contoso.test>{to_tag}\r\nCall-ID: over-{number}\r\n\
         CSeq: {cseq} {method}\r\nMax-Forwards: 70\r\nContact: <sip:101@{from}:5070;transport=tcp>\r\n"
    );
    match method {
        "INVITE" => {
            format!("{head}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}", SDP.len())
        }
        _ => format!("{head}Content-Length: 0\r\n\r\n"),
    }
}

/// Whole messages out of a stream.
pub struct Wire {
    pub stream: TcpStream,
    framer: sip::Framer,
}

impl Wire {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, framer: sip::Framer::new(sip::Limits::default()) }
    }

    /// The next message; `None` when nothing came in time or the peer closed.
    pub fn hear(&mut self) -> Option<String> {
        let mut buffer = vec![0; HEAD_MAX];
        loop {
            if let Some(frame) = self.framer.poll().unwrap() {
                if let sip::Frame::Message(bytes) = frame {
                    return Some(String::from_utf8_lossy(&bytes).into_owned());
                }
                continue;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.framer.push(&buffer[..count]),
            }
        }
    }
}

pub fn line<'a>(message: &'a str, name: &str) -> &'a str {
    message.split("\r\n").find(|line| line.starts_with(name)).unwrap_or_default()
}

/// A UM server that answers whatever comes, on every connection.
pub fn start_um(address: Ipv4Addr) {
    let listener = TcpListener::bind((address, 5062)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut wire = Wire::new(stream);
                while let Some(request) = wire.hear() {
                    if !request.starts_with("ACK") {
                        let _gone = wire.stream.write_all(answer(&request, address).as_bytes());
                    }
                }
            });
        }
    });
}

fn answer(request: &str, address: Ipv4Addr) -> String {
    let copied = ["Via:", "From:", "Call-ID:", "CSeq:"].map(|name| line(request, name)).join("\r\n");
    let to = line(request, "To:");
    let tag = if to.contains(";tag=") { "" } else { ";tag=um" };
    let head = format!("SIP/2.0 200 OK\r\n{copied}\r\n{to}{tag}\r\n");
    match request.starts_with("INVITE") {
        true => format!(
            "{head}Contact: <sip:um@{address}:5062;transport=tcp>\r\nContent-Type: application/sdp\r\n\
             Content-Length: {}\r\n\r\n{SDP}",
            SDP.len()
        ),
        false => format!("{head}Content-Length: 0\r\n\r\n"),
    }
}

pub fn connect(from: Ipv4Addr, to: Ipv4Addr) -> TcpStream {
    try_connect(from, to).unwrap()
}

pub fn try_connect(from: Ipv4Addr, to: Ipv4Addr) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&std::net::SocketAddr::from((from, 0)).into())?;
    socket.connect(&std::net::SocketAddr::from((to, 5060)).into())?;
    let stream: TcpStream = socket.into();
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// A caller on one connection: places calls at a rate, acknowledges, holds, sends INFO and BYE.
pub struct Caller {
    from: Ipv4Addr,
    stream: TcpStream,
    heard: mpsc::Receiver<(Instant, String)>,
    pub calls: BTreeMap<usize, Placed>,
}

#[derive(Default)]
pub struct Placed {
    at: Option<Instant>,
    pub status: u16,
    pub after: Duration,
    tag: String,
    pub retry_after: String,
    pub in_dialog: Vec<u16>,
    answered_at: Option<Instant>,
    bye_sent: bool,
}

impl Caller {
    pub fn new(from: Ipv4Addr, gateway: Ipv4Addr) -> Self {
        let stream = connect(from, gateway);
        let (sender, heard) = mpsc::channel();
        let mut wire = Wire::new(stream.try_clone().unwrap());
        std::thread::spawn(move || {
            while let Some(message) = wire.hear() {
                if sender.send((Instant::now(), message)).is_err() {
                    return;
                }
            }
        });
        Self { from, stream, heard, calls: BTreeMap::new() }
    }

    fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Places `count` calls at `rate` and lives through them until all are over.
    pub fn run(&mut self, first: usize, count: usize, rate: usize, patience: Duration) {
        let start = Instant::now();
        let mut placed = 0;
        loop {
            while placed < count && start.elapsed() >= Duration::from_secs(1) * placed as u32 / rate as u32 {
                let number = first + placed;
                self.calls.insert(number, Placed { at: Some(Instant::now()), ..Placed::default() });
                let invite = request("INVITE", number, 1, "", self.from);
                self.say(&invite);
                placed += 1;
            }
            while let Ok((at, message)) = self.heard.recv_timeout(Duration::from_millis(1)) {
                self.on_message(at, &message);
            }
            self.go_on();
            let is_over =
                |call: &Placed| call.status >= 300 || call.status == 200 && call.in_dialog.len() == 2;
            if placed == count && self.calls.values().all(is_over) || start.elapsed() > patience {
                return;
            }
        }
    }

    fn on_message(&mut self, at: Instant, message: &str) {
        let number = line(message, "Call-ID:").rsplit('-').next().and_then(|text| text.parse().ok());
        let Some(number) = number else { return };
        let status: u16 = message.get(8..11).and_then(|text| text.parse().ok()).unwrap_or_default();
        let from = self.from;
        let Some(call) = self.calls.get_mut(&number) else { return };
        if !line(message, "CSeq:").contains("INVITE") {
            return call.in_dialog.push(status);
        }
        if status < 200 || call.status != 0 {
            return;
        }
        call.status = status;
        call.after = at - call.at.unwrap();
        call.retry_after = line(message, "Retry-After:").to_owned();
        let to = line(message, "To:");
        call.tag = to.find(";tag=").map_or_else(String::new, |at| to[at..].to_owned());
        call.answered_at = (status == 200).then_some(at);
        let tag = call.tag.clone();
        let mut words = request("ACK", number, 1, &tag, from);
        if status >= 300 {
            // RFC 3261 §17.1.1.3: the ACK to a refusal has the branch of the INVITE.
            words = words.replace("z9hG4bKACK", "z9hG4bKINVITE");
        } else {
            words.push_str(&request("INFO", number, 2, &tag, from));
        }
        self.say(&words);
    }

    fn go_on(&mut self) {
        let from = self.from;
        let mut words = String::new();
        for (number, call) in &mut self.calls {
            let is_due = call.answered_at.is_some_and(|at| at.elapsed() >= HOLD);
            if is_due && !call.bye_sent {
                call.bye_sent = true;
                words.push_str(&request("BYE", *number, 3, &call.tag, from));
            }
        }
        if !words.is_empty() {
            self.say(&words);
        }
    }

    /// Calls that were answered, and both requests inside them, too.
    pub fn good(&self) -> usize {
        self.calls.values().filter(|call| call.status == 200 && call.in_dialog == [200, 200]).count()
    }

    pub fn of(&self, status: u16) -> Vec<&Placed> {
        self.calls.values().filter(|call| call.status == status).collect()
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        // The listening thread has the connection too.
        let _gone = self.stream.shutdown(std::net::Shutdown::Both);
    }
}
