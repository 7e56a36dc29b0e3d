//! More than the gateway takes: ten times the admission rate, and a thousand slow connections of each kind. Calls that
//! were let in, and calls in progress, do not notice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::harness::{Gateway, Net, folder};

/// New calls a second that the gateway is told to take.
const RATE: usize = 20;
/// How many times as many are offered.
const TIMES: usize = 10;
/// For how long.
const OVERLOAD: Duration = Duration::from_secs(6);
/// How long an admitted call lasts.
const HOLD: Duration = Duration::from_secs(2);
/// Slow connections of each kind; `UMBRA_SLOW_CONNECTIONS=1000` runs the whole figure (needs 8,000 descriptors).
const SLOW: usize = 300;
/// One of these tests at a time: each measures how long something takes.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
/// Bytes of one message.
const HEAD_MAX: usize = 64 * 1024;

fn config(net: Net, extra: &str) -> String {
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

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
m=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";

fn request(method: &str, number: usize, cseq: u32, to_tag: &str, from: Ipv4Addr) -> String {
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
struct Wire {
    stream: TcpStream,
    framer: sip::Framer,
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        Self { stream, framer: sip::Framer::new(sip::Limits::default()) }
    }

    /// The next message; `None` when nothing came in time or the peer closed.
    fn hear(&mut self) -> Option<String> {
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

fn line<'a>(message: &'a str, name: &str) -> &'a str {
    message.split("\r\n").find(|line| line.starts_with(name)).unwrap_or_default()
}

/// A UM server that answers whatever comes, on every connection.
fn start_um(address: Ipv4Addr) {
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

fn connect(from: Ipv4Addr, to: Ipv4Addr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&std::net::SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&std::net::SocketAddr::from((to, 5060)).into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// A caller on one connection: places calls at a rate, acknowledges, holds, sends INFO and BYE.
struct Caller {
    from: Ipv4Addr,
    stream: TcpStream,
    heard: mpsc::Receiver<(Instant, String)>,
    calls: BTreeMap<usize, Placed>,
}

#[derive(Default)]
struct Placed {
    at: Option<Instant>,
    status: u16,
    after: Duration,
    tag: String,
    retry_after: String,
    in_dialog: Vec<u16>,
    answered_at: Option<Instant>,
    bye_sent: bool,
}

impl Caller {
    fn new(from: Ipv4Addr, gateway: Ipv4Addr) -> Self {
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
    fn run(&mut self, first: usize, count: usize, rate: usize, patience: Duration) {
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

    fn of(&self, status: u16) -> Vec<&Placed> {
        self.calls.values().filter(|call| call.status == status).collect()
    }
}

#[test]
fn ten_times_the_admission_rate_is_refused_quickly_and_calls_let_in_do_not_notice() {
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (net, folder) = (Net::new(), folder());
    start_um(net.host(30));
    let extra = format!("calls_per_second_max = {RATE}\n[listen]\nstartup_mode = \"TCP\"\n");
    let gateway = Gateway::start(folder, net.host(20), 5060, &config(net, &extra));
    let mut caller = Caller::new(net.host(10), gateway.address);
    let offered = RATE * TIMES * OVERLOAD.as_secs() as usize;
    caller.run(0, offered, RATE * TIMES, OVERLOAD + Duration::from_secs(20));
    let (admitted, refused) = (caller.of(200), caller.of(503));
    assert_eq!(admitted.len() + refused.len(), offered, "{}", gateway.process.output());
    // The rate, and the burst of its first second.
    let rated = RATE * OVERLOAD.as_secs() as usize;
    assert!(admitted.len() >= rated * 9 / 10, "{} of {rated} let in", admitted.len());
    assert!(admitted.len() <= rated + RATE + RATE / 2, "{} of {rated} let in", admitted.len());
    assert!(admitted.iter().all(|call| call.in_dialog == [200, 200]), "a request in dialog was refused");
    let mut after: Vec<Duration> = refused.iter().map(|call| call.after).collect();
    after.sort_unstable();
    let p99 = after[after.len() * 99 / 100];
    assert!(p99 <= Duration::from_millis(100), "refused after {p99:?} (p99)");
    let waits: BTreeSet<&str> = refused.iter().map(|call| call.retry_after.as_str()).collect();
    assert!(waits.len() > 4 && !waits.contains(""), "{waits:?}");
    println!("{} let in, {} refused, p99 {p99:?}, {} waits", admitted.len(), refused.len(), waits.len());
    // Normal again.
    std::thread::sleep(Duration::from_secs(2));
    let mut later = Caller::new(net.host(10), gateway.address);
    later.run(offered, RATE, RATE, Duration::from_secs(20));
    assert_eq!(later.of(200).len(), RATE);
}

#[test]
fn slow_connections_of_each_kind_are_closed_in_time_while_every_call_succeeds() {
    const RATE: usize = 10;
    let each =
        std::env::var("UMBRA_SLOW_CONNECTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(SLOW);
    let _alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (net, folder) = (Net::new(), folder());
    let pki = lab::pki::Pki::open(&folder.path().join("pki")).unwrap();
    let files = pki.identity_files("umbra.contoso.test").unwrap();
    start_um(net.host(30));
    let extra = format!(
        "[tls]\ncertificate = \"{}\"\nprivate_key = \"{}\"\ntrusted_roots = [\"{}\"]\n\
         [listen]\nhandshake_timeout = \"2s\"\nheader_timeout = \"3s\"\nbody_timeout = \"5s\"\n",
        files.certificate.display(),
        files.key.display(),
        pki.root_file().display()
    );
    let gateway = Gateway::start(folder, net.host(20), 5060, &config(net, &extra));
    let (from, to) = (net.host(10), gateway.address);
    let head = "INVITE sip:88895@umbra.contoso.test SIP/2.0\r\nVia: SIP/2.0/TCP a;branch=z9hG4bK1\r\n";
    let body = format!(
        "{head}From: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\nCall-ID: slow\r\nCSeq: 1 INVITE\r\nContent-Length: 900\r\n\r\n"
    );
    let mut slow: Vec<(&str, Duration, TcpStream, Instant)> = Vec::new();
    for _ in 0..each {
        let tls = TcpStream::connect((to, 5061)).unwrap();
        slow.push(("handshake", Duration::from_secs(2), tls, Instant::now()));
        for (kind, words, after) in [("header", head, 3), ("body", body.as_str(), 5)] {
            let mut stream = connect(from, to);
            stream.write_all(words.as_bytes()).unwrap();
            slow.push((kind, Duration::from_secs(after), stream, Instant::now()));
        }
    }
    let count = 8 * RATE;
    let mut caller = Caller::new(from, to);
    caller.run(0, count, RATE, Duration::from_secs(25));
    assert_eq!(caller.of(200).len(), count, "{}", gateway.process.output());
    let mut after: Vec<Duration> = caller.calls.values().map(|call| call.after).collect();
    after.sort_unstable();
    println!("{} slow connections of each kind; set-up p99 {:?}", each, after[after.len() * 99 / 100]);
    for (kind, patience, mut stream, since) in slow {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let open = |error: &std::io::Error| {
            matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        };
        let mut heard = Vec::new();
        let closed = match stream.read_to_end(&mut heard) {
            Ok(_) => true,
            Err(error) => !open(&error),
        };
        let is_told = heard.starts_with(b"SIP/2.0 400 ");
        assert!(is_told || kind != "body", "{kind}: closed without a word: {}", heard.escape_ascii());
        assert!(closed, "{kind}: still open {:?} after {patience:?}", since.elapsed());
    }
}
