//! RFC 4475 and RFC 5118 over connections of configured peers, plain TCP and mutual TLS: every message alone on one, what
//! came back compared with what is due, and the next connection unharmed. As parsed messages they are looked at in
//! `tests/tests/conformance`.

use std::fmt::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lab::frontend::{CallSpec, OfferShape};

use crate::site::{FQDN, PBX_HOST, Site};
use crate::wire::{Carrier, Stream, tls_client};

/// How long anything that is due may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a message may stay incomplete, so that no row waits for the default.
const LISTEN: &str = "header_timeout = \"2s\"\nbody_timeout = \"2s\"\n";
/// The pool whose plan takes plain RTP over TLS, as the messages offer it.
const POOL: &str = "pool06";

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Then {
    Stays,
    Closes,
}
use Then::{Closes, Stays};

/// A message, the final answers due to it in their order, and its connection afterwards.
type Row = (&'static str, &'static [u16], Then);

const RFC4475: &[Row] = &[
    // A To tag, so a request of a dialog that is not here.
    ("wsinv", &[481], Stays),
    ("intmeth", &[501], Stays),
    ("esc01", &[200], Stays),
    ("escnull", &[405], Stays),
    ("esc02", &[501], Stays),
    ("lwsdisp", &[200], Stays),
    ("longreq", &[200], Stays),
    // On a stream two messages, the second with a broken description and one byte more than it says.
    ("dblreq", &[405, 488], Closes),
    ("semiuri", &[200], Stays),
    ("transports", &[200], Stays),
    ("mpart01", &[405], Stays),
    ("unreason", &[], Stays),
    ("noreason", &[], Stays),
    ("badinv01", &[400], Stays),
    // The rest of the body never comes.
    ("clerr", &[400], Closes),
    ("ncl", &[400], Closes),
    ("scalar02", &[400], Stays),
    ("scalarlg", &[], Stays),
    ("quotbal", &[400], Stays),
    ("ltgtruri", &[400], Stays),
    ("lwsruri", &[400], Stays),
    ("lwsstart", &[400], Stays),
    ("trws", &[400], Stays),
    ("escruri", &[400], Stays),
    // Nothing here reads a Date.
    ("baddate", &[200], Stays),
    ("regbadct", &[400], Stays),
    ("badaspec", &[400], Stays),
    // The header block of the archive's file never ends.
    ("baddn", &[400], Closes),
    ("badvers", &[505], Stays),
    ("mismatch01", &[400], Stays),
    ("mismatch02", &[400], Stays),
    ("bigcode", &[], Stays),
    ("badbranch", &[200], Stays),
    ("insuf", &[400], Stays),
    ("unkscm", &[416], Stays),
    ("novelsc", &[416], Stays),
    ("unksm2", &[405], Stays),
    ("bext01", &[420], Stays),
    ("invut", &[415], Stays),
    ("regaut01", &[405], Stays),
    ("multi01", &[400], Stays),
    ("mcl01", &[400], Closes),
    ("bcast", &[], Stays),
    ("zeromf", &[200], Stays),
    ("cparam01", &[405], Stays),
    ("cparam02", &[405], Stays),
    ("regescrt", &[405], Stays),
    ("sdp01", &[406], Stays),
    // On a stream a request must tell its length.
    ("inv2543", &[400], Closes),
];

const RFC5118: &[Row] = &[
    ("ipv6-good", &[405], Stays),
    ("ipv6-bad", &[400], Stays),
    ("port-ambiguous", &[405], Stays),
    ("port-unambiguous", &[405], Stays),
    ("via-received-param-with-delim", &[481], Stays),
    ("via-received-param-no-delim", &[200], Stays),
    ("ipv6-in-sdp", &[488], Stays),
    ("mult-ip-in-header", &[481], Stays),
    ("mult-ip-in-sdp", &[200], Stays),
    ("ipv4-mapped-ipv6", &[488], Stays),
    ("ipv6-bug-abnf-3-colons", &[400], Stays),
    ("ipv6-correct-abnf-2-colons", &[200], Stays),
];

#[test]
fn rfc_4475_over_tcp_each_message_gets_its_due_and_the_next_connection_is_unharmed() {
    play(Carrier::Tcp, RFC4475, 49, &rfc4475);
}

#[test]
fn rfc_4475_over_mutual_tls_each_message_gets_its_due_and_the_next_connection_is_unharmed() {
    play(Carrier::Tls, RFC4475, 49, &rfc4475);
}

#[test]
fn rfc_5118_over_tcp_each_message_gets_its_due_and_the_next_connection_is_unharmed() {
    play(Carrier::Tcp, RFC5118, 12, &rfc5118);
}

#[test]
fn rfc_5118_over_mutual_tls_each_message_gets_its_due_and_the_next_connection_is_unharmed() {
    play(Carrier::Tls, RFC5118, 12, &rfc5118);
}

fn play(carrier: Carrier, rows: &[Row], count: usize, read: &dyn Fn(&str) -> Vec<u8>) {
    assert_eq!(rows.len(), count);
    let site = Site::start_with(LISTEN);
    let (mut table, mut wrong) = (String::new(), 0);
    for (number, (name, due, then)) in rows.iter().enumerate() {
        let seen = react(&mut Wire::connect(&site, carrier), &read(name), due.len(), *then, number);
        let mut next = Wire::connect(&site, carrier);
        let next = next.ask(&site_probe(number, "next"));
        let right = seen.0 == *due && seen.1 == *then && next == [200];
        wrong += usize::from(!right);
        let mark = if right { ' ' } else { '!' };
        let _ = writeln!(
            table,
            "{mark} {name:30} {due:?} {then:?}; seen {:?} {:?}; next {next:?}",
            seen.0, seen.1
        );
    }
    println!("{table}");
    assert_eq!(wrong, 0, "{carrier:?}: message, due, seen\n{table}\n{}", site.gateway.process.output());
    place_a_good_call(&site, carrier);
}

/// The final answers to a message, and what became of its connection; where that stays, it must still answer.
fn react(wire: &mut Wire, bytes: &[u8], due: usize, then: Then, number: usize) -> (Vec<u16>, Then) {
    wire.say(bytes);
    let mut answers = Vec::new();
    while answers.len() < (if then == Closes { usize::MAX } else { due }) {
        match wire.hear() {
            Some(answer) => answers.push(answer.0),
            None => break,
        }
    }
    if wire.is_closed {
        return (answers, Closes);
    }
    let probe = site_probe(number, "same");
    wire.say(probe.as_bytes());
    while let Some((status, call_id)) = wire.hear() {
        if call_id == format!("same-{number}") {
            return (answers, if status == 200 { Stays } else { Closes });
        }
        answers.push(status);
    }
    (answers, Closes)
}

fn place_a_good_call(site: &Site, carrier: Carrier) {
    let caller = match carrier {
        Carrier::Tcp => site.pbx(),
        Carrier::Tls => site.pool(POOL),
    };
    let mut call = CallSpec::call_answering("ken", "dana", "contoso.com");
    call.shape = match carrier {
        Carrier::Tcp => OfferShape::PbxTcp,
        Carrier::Tls => OfferShape::LyncNone,
    };
    let outcome = site.block_on(caller.place_call(call)).unwrap();
    assert_eq!(outcome.status, 200, "{outcome:?}\n{}", site.gateway.process.output());
    site.block_on(caller.close());
}

fn data(rfc: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/conformance").join(rfc)
}

fn rfc4475(name: &str) -> Vec<u8> {
    std::fs::read(data("rfc4475").join(format!("{name}.dat"))).unwrap()
}

/// Three of them carry a wrong Content-Length, which over a stream would be another test.
fn rfc5118(name: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(data("rfc5118/wire-crlf").join(format!("{name}.dat"))).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let (before, length) = head.rsplit_once("Content-Length: ").unwrap();
    assert!(length.bytes().all(|byte| byte.is_ascii_digit()), "{name}");
    format!("{before}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// OPTIONS for the gateway itself.
fn site_probe(number: usize, which: &str) -> String {
    format!(
        "OPTIONS sip:{FQDN} SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK{which}{number}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:probe@contoso.com>;tag={which}\r\nTo: <sip:{FQDN}>\r\n\
         Call-ID: {which}-{number}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

/// One connection of a configured peer.
struct Wire {
    stream: Box<dyn Stream>,
    framer: sip::Framer,
    is_closed: bool,
}

impl Wire {
    fn connect(site: &Site, carrier: Carrier) -> Self {
        let (from, port) = match carrier {
            Carrier::Tcp => (site.net.host(PBX_HOST), 5060),
            Carrier::Tls => (site.pool_address(POOL), 5061),
        };
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&std::net::SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&std::net::SocketAddr::from((site.gateway.address, port)).into()).unwrap();
        let stream: TcpStream = socket.into();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let pool = format!("{POOL}.contoso.com");
        let stream: Box<dyn Stream> = match carrier {
            Carrier::Tcp => Box::new(stream),
            Carrier::Tls => Box::new(rustls::StreamOwned::new(tls_client(&site.pki, &pool, FQDN), stream)),
        };
        Self { stream, framer: sip::Framer::new(sip::Limits::default()), is_closed: false }
    }

    fn say(&mut self, bytes: &[u8]) {
        // A gateway that has closed already is found out by the next read.
        let _gone = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
    }

    /// The final answers until the first.
    fn ask(&mut self, request: &str) -> Vec<u16> {
        self.say(request.as_bytes());
        self.hear().map(|answer| answer.0).into_iter().collect()
    }

    /// Status and Call-ID of the next final answer; `None` when the connection closed or patience ended.
    fn hear(&mut self) -> Option<(u16, String)> {
        let until = Instant::now() + PATIENCE;
        let mut buffer = [0; 4096];
        while Instant::now() < until {
            match self.framer.poll().unwrap() {
                Some(sip::Frame::Message(bytes)) => {
                    let text = String::from_utf8_lossy(&bytes);
                    let status = text.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse().ok());
                    let Some(status) = status.filter(|status| *status >= 200) else { continue };
                    let call_id = text.split("\r\n").find_map(|line| line.strip_prefix("Call-ID: "));
                    return Some((status, call_id.unwrap_or_default().to_owned()));
                }
                Some(_) => continue,
                None => {}
            }
            match self.stream.read(&mut buffer) {
                Ok(count) if count > 0 => self.framer.push(&buffer[..count]),
                Err(e)
                    if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
                {
                    return None;
                }
                Ok(_) | Err(_) => {
                    self.is_closed = true;
                    return None;
                }
            }
        }
        None
    }
}
