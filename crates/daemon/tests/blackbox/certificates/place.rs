//! A gateway with a pool, a Call Router that redirects wherever the number says, and Mailbox servers on seats of their own,
//! each of which can present any certificate.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lab::frontend::{CallEnd, CallSpec, Caller, CallerConfig, OfferShape, Target, TlsTarget};
use lab::pki::{CertSpec, Identity, KeyKind, Pki};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::harness::{Gateway, Net, folder, http_get};

/// The gateway's name.
pub const FQDN: &str = "umbra.gate.test";
pub const POOL: &str = "pool.gate.test";
const ROUTER: &str = "router.gate.test";
/// Host numbers: gateway, pool, Call Router, first Mailbox server.
const HOSTS: (u8, u8, u8, u8) = (20, 10, 30, 100);
/// Where Mailbox servers listen.
const PORT: u16 = 5063;
const PATIENCE: Duration = Duration::from_secs(5);

/// A Mailbox server of the configuration.
pub struct Seat {
    name: String,
    more: String,
    /// Whose address it has, when not its own.
    beside: Option<u8>,
}

impl Seat {
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), more: String::new(), beside: None }
    }

    /// At the address of another seat.
    pub fn beside(mut self, number: u8) -> Self {
        self.beside = Some(number);
        self
    }

    /// With more lines in its section.
    pub fn with(mut self, lines: &str) -> Self {
        self.more.push_str(lines);
        self
    }
}

/// What a server answers to INVITE.
#[derive(Clone)]
pub enum Answer {
    /// 486.
    Busy,
    /// 200, with media that nobody sends.
    Taken,
    /// 302 to the seat that the number names.
    Elsewhere(Vec<String>),
}

pub struct Place {
    pub gateway: Gateway,
    pub pki: Arc<Pki>,
    net: Net,
    runtime: tokio::runtime::Runtime,
    /// Whom the servers saw: their address, and the chain the gateway presented.
    seen: Seen,
    /// Whose connections have ended.
    ended: Arc<Mutex<Vec<Ipv4Addr>>>,
}

/// A server that is ill.
#[derive(Copy, Clone, Debug)]
pub enum Illness {
    /// Closes every connection when a handshake begins.
    Refuses,
    /// Accepts connections and says nothing.
    Silent,
}

/// An ill server and how often it was called.
pub struct Ill {
    pub calls: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

type Chain = Vec<CertificateDer<'static>>;
type Seen = Arc<Mutex<Vec<(Ipv4Addr, Chain)>>>;

impl Place {
    /// Starts the gateway with these Mailbox servers and more lines in `[tls]`; nobody sits yet but the Call Router.
    pub fn start(seats: &[Seat], tls: &str) -> Self {
        Self::start_with(seats, "", |_| tls.to_owned())
    }

    /// The same with more lines in `[listen]`, and those of `[tls]` once there is an authority.
    pub fn start_with(seats: &[Seat], listen: &str, tls: impl Fn(&Pki) -> String) -> Self {
        let (net, folder) = (Net::new(), folder());
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let pki = Arc::new(Pki::open(&folder.path().join("pki")).unwrap());
        let tls = tls(&pki);
        if tls.contains("revoked.crl") {
            let empty = pki.ca().revocation_list(&[], 7).unwrap();
            std::fs::write(folder.path().join("revoked.crl"), empty).unwrap();
        }
        let config = config(net, &pki, seats, &tls).replace("[listen]\n", &format!("[listen]\n{listen}"));
        let gateway = Gateway::start(folder, net.host(HOSTS.0), 5061, &config);
        let place = Self { gateway, pki, net, runtime, seen: Seen::default(), ended: Arc::default() };
        let names = seats.iter().map(|seat| seat.name.clone()).collect();
        let router = place.pki.ca().issue(&CertSpec::host(ROUTER).key(KeyKind::EcdsaP256)).unwrap();
        place.listen(net.host(HOSTS.2), 5061, &router, Answer::Elsewhere(names));
        place
    }

    pub fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.runtime.spawn(future)
    }

    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Address of the Mailbox server with this number.
    pub fn seat(&self, number: usize) -> Ipv4Addr {
        self.net.host(HOSTS.3 + u8::try_from(number).unwrap())
    }

    /// Lets a server with this certificate sit there.
    pub fn serve(&self, number: usize, identity: &Identity, answer: Answer) {
        self.listen(self.seat(number), PORT, identity, answer);
    }

    /// Lets an ill server sit there.
    pub fn sicken(&self, number: usize, illness: Illness) -> Ill {
        let listener = self.block_on(TcpListener::bind((self.seat(number), PORT))).unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let task = self.runtime.spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                match illness {
                    // It is a word of TLS that is refused, not a connection.
                    Illness::Refuses => drop(stream.read(&mut [0; 512]).await),
                    Illness::Silent => held.push(stream),
                }
            }
        });
        Ill { calls, task }
    }

    /// The ill server leaves its seat.
    pub fn leave(&self, ill: Ill) {
        ill.task.abort();
        assert!(self.block_on(ill.task).is_err());
    }

    /// The number for which any of all seats is called.
    pub const ANYBODY: &str = "3000";

    /// Connections of the gateway that stand at this seat.
    pub fn open_at(&self, number: usize) -> usize {
        let (seat, ended) = (self.seat(number), self.ended.lock().unwrap());
        let begun = self.seen.lock().unwrap().iter().filter(|(address, _)| *address == seat).count();
        begun - ended.iter().filter(|address| **address == seat).count()
    }

    /// The number that is redirected to a seat.
    pub fn redirecting(number: usize) -> String {
        format!("2{number:03}")
    }

    /// The number for which a seat is called at once.
    pub fn calling(number: usize) -> String {
        format!("1{number:03}")
    }

    /// The pool, connected.
    pub fn pool(&self) -> Caller {
        self.pool_with(self.pki.identity(POOL).unwrap())
    }

    /// The pool, connected with another certificate.
    pub fn pool_with(&self, identity: Identity) -> Caller {
        let tls = TlsTarget { identity: Some(identity), roots: self.pki.roots(), expected_name: FQDN.into() };
        let config = CallerConfig {
            fqdn: POOL.into(),
            sip_domain: "gate.test".into(),
            address: self.net.host(HOSTS.1).into(),
            seed: u64::from(u32::from(self.net.host(HOSTS.1))),
        };
        let target = Target { address: (self.gateway.address, 5061).into(), tls: Some(tls) };
        self.block_on(Caller::connect(config, target)).unwrap()
    }

    /// A call to a number.
    pub fn call(&self, number: &str) -> CallSpec {
        CallSpec {
            shape: OfferShape::LyncNone,
            request_uri: format!("sip:{number}@gate.test"),
            to: String::new(),
            diversion: Vec::new(),
            talk: None,
            end: CallEnd::HangUpAfter(Duration::from_millis(100)),
            ..CallSpec::call_answering("ken", "dana", "gate.test")
        }
    }

    /// Asks OPTIONS with this certificate; what came back, if anything.
    pub fn options(&self, identity: &Identity) -> String {
        let request = format!(
            "OPTIONS sip:{FQDN} SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.1:5061;branch=z9hG4bKz1\r\nMax-Forwards: 0\r\n\
             From: <sip:probe@gate.test>;tag=1\r\nTo: <sip:{FQDN}>\r\nCall-ID: z1\r\nCSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let client = client_config(identity);
        let address = (self.gateway.address, 5061);
        self.block_on(async {
            let stream = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from(FQDN).unwrap();
            let Ok(mut stream) = TlsConnector::from(Arc::new(client)).connect(name, stream).await else {
                return String::new();
            };
            let mut answer = vec![0; 4096];
            let asked = async {
                stream.write_all(request.as_bytes()).await?;
                stream.read(&mut answer).await
            };
            let count = tokio::time::timeout(PATIENCE, asked).await.unwrap().unwrap_or_default();
            String::from_utf8_lossy(&answer[..count]).into_owned()
        })
    }

    /// The chain the gateway presented last to the server on this seat.
    pub fn presented_to(&self, number: usize) -> Option<Chain> {
        let seen = self.seen.lock().unwrap();
        seen.iter().rev().find(|(address, _)| *address == self.seat(number)).map(|(_, chain)| chain.clone())
    }

    /// The chain the gateway presents to a new connection.
    pub fn presented(&self) -> Chain {
        let client = client_config(&self.pki.identity(POOL).unwrap());
        let address = (self.gateway.address, 5061);
        self.block_on(async {
            let stream = TcpStream::connect(address).await.unwrap();
            let name = ServerName::try_from(FQDN).unwrap();
            let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await.unwrap();
            stream.get_ref().1.peer_certificates().unwrap().to_vec()
        })
    }

    pub fn metrics(&self) -> String {
        http_get(self.gateway.address, 9065, "/metrics")
    }

    /// The last handshakes that failed, as JSON text.
    pub fn refusals(&self) -> String {
        http_get(self.gateway.address, 9065, "/tls/refusals")
    }

    /// The record of a call, as JSON text.
    pub fn record(&self, call_id: &str) -> String {
        let until = Instant::now() + PATIENCE * 2;
        loop {
            let records = self.gateway.records();
            if let Some(record) = records.iter().find(|record| record.to_string().contains(call_id)) {
                return record.to_string();
            }
            assert!(Instant::now() < until, "no record of {call_id}:\n{}", self.gateway.process.output());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Writes a file beside the configuration.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.gateway.folder.path().join(name), text).unwrap();
    }

    /// Reloads, and waits until it was taken (1) or refused (0).
    pub fn reload(&self, wanted: f64) {
        let lines = |text: &str| text.lines().filter(|line| line.contains("reload")).count();
        let before = lines(&self.gateway.process.output());
        self.gateway.process.signal("HUP");
        let until = Instant::now() + PATIENCE * 2;
        let is_done = || lines(&self.gateway.process.output()) > before;
        while !is_done() {
            assert!(Instant::now() < until, "no reload:\n{}", self.gateway.process.output());
            std::thread::sleep(Duration::from_millis(20));
        }
        let result = crate::harness::metric_sum(&self.metrics(), "umbra_config_last_reload_successful");
        assert!((result - wanted).abs() < f64::EPSILON, "{}", self.gateway.process.output());
    }

    /// Waits for something that will be true soon.
    pub fn wait_until(&self, is_so: impl Fn() -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < until, "{}\n{}", self.metrics(), self.gateway.process.output());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn listen(&self, address: Ipv4Addr, port: u16, identity: &Identity, answer: Answer) {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(identity)));
        let listener = self.block_on(TcpListener::bind((address, port))).unwrap();
        let (seen, ended) = (self.seen.clone(), self.ended.clone());
        self.runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer) = (acceptor.clone(), answer.clone());
                let (seen, ended) = (seen.clone(), ended.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
                        seen.lock().unwrap().push((address, chain));
                        converse(stream, &answer).await;
                        ended.lock().unwrap().push(address);
                    }
                });
            }
        });
    }
}

/// Refused certificates by reason, of peers that pass. (Whoever only knocks to see whether the port is open is none.)
pub fn reasons(metrics: &str, is_wanted: impl Fn(&str) -> bool) -> BTreeMap<String, u64> {
    let mut counted = BTreeMap::new();
    for line in metrics.lines().filter(|line| line.starts_with("umbra_tls_handshakes_total{")) {
        let label = |name: &str| line.split(&format!("{name}=\"")).nth(1).unwrap().split('"').next().unwrap();
        let count: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        if !matches!(label("result"), "ok" | "connection_lost") && is_wanted(label("peer")) {
            *counted.entry(label("result").to_owned()).or_default() += count;
        }
    }
    counted
}

/// Answers every request but ACK until the connection ends.
async fn converse<S>(mut stream: S, answer: &Answer)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut bytes = Vec::new();
    loop {
        while let Some((message, length)) = first_message(&bytes) {
            bytes.drain(..length);
            if let Some(response) = respond(&message, answer)
                && stream.write_all(response.as_bytes()).await.is_err()
            {
                return;
            }
        }
        let mut buffer = [0; 8192];
        match stream.read(&mut buffer).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&buffer[..count]),
            _ => return,
        }
    }
}

fn first_message(bytes: &[u8]) -> Option<(String, usize)> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let head = text.find("\r\n\r\n")? + 4;
    let length = header(&text[..head], "Content-Length").and_then(|value| value.parse().ok()).unwrap_or(0);
    (bytes.len() >= head + length).then(|| (text[..head].to_owned(), head + length))
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn respond(request: &str, answer: &Answer) -> Option<String> {
    let (method, rest) = request.split_once(' ')?;
    let (status, more) = match (method, answer) {
        ("ACK", _) => return None,
        ("INVITE", Answer::Busy) => ("486 Busy Here", String::new()),
        ("INVITE", Answer::Elsewhere(seats)) => {
            let number = rest.strip_prefix("sip:")?.split('@').next()?.get(1..)?.parse::<usize>().ok()?;
            let contact = format!("Contact: <sip:ken@{}:{PORT};transport=tls>\r\n", seats.get(number)?);
            ("302 Moved Temporarily", contact)
        }
        ("INVITE", Answer::Taken) => {
            let more = "Contact: <sip:um@127.0.0.1:5063;transport=tls>\r\nContent-Type: application/sdp\r\n";
            ("200 OK", more.to_owned())
        }
        _ => ("200 OK", String::new()),
    };
    let body = if more.contains("application/sdp") { crate::traffic::SDP } else { "" };
    let mut response = format!("SIP/2.0 {status}\r\n");
    for line in request.lines().filter(|line| line.to_ascii_lowercase().starts_with("via:")) {
        let _ = write!(response, "{line}\r\n");
    }
    for name in ["From", "To", "Call-ID", "CSeq"] {
        let tag = if name == "To" { ";tag=zoo" } else { "" };
        let _ = write!(response, "{name}: {}{tag}\r\n", header(request, name)?);
    }
    Some(format!("{response}{more}Content-Length: {}\r\n\r\n{body}", body.len()))
}

fn certified(identity: &Identity) -> Arc<SingleCertAndKey> {
    let key = provider().key_provider.load_private_key(identity.key()).unwrap();
    // Nothing here looks at the certificate: it is the gateway that must.
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(identity.chain().to_vec(), key)))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn server_config(identity: &Identity) -> ServerConfig {
    ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(Arc::new(Anybody))
        .with_cert_resolver(certified(identity))
}

fn client_config(identity: &Identity) -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_cert_resolver(certified(identity))
}

/// Believes the gateway; it is the other one that is put to the test.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}

fn config(net: Net, pki: &Pki, seats: &[Seat], tls: &str) -> String {
    let own = pki.identity_files(FQDN).unwrap();
    let (gateway, pool, router) = (net.host(HOSTS.0), net.host(HOSTS.1), net.host(HOSTS.2));
    let mut text = format!(
        "[gateway]\nfqdn = \"{FQDN}\"\n\n[listen]\nstartup_mode = \"TLS\"\naddresses = [\"{gateway}\"]\n\n\
         [tls]\ncertificate = \"{}\"\nprivate_key = \"{}\"\ntrusted_roots = [\"{}\"]\n{tls}\n\
         [media]\nrtp_ports = \"20000-25999\"\n\n[admin]\nhttp = \"{gateway}:9065\"\n\n\
         [[pool]]\nname = \"pool\"\nfqdn = \"{POOL}\"\naddress = [\"{pool}\"]\nencryption = \"DoNotSupportEncryption\"\n\n\
         [[ip_gateway]]\nname = \"pool\"\naddress = \"{POOL}\"\nport = 5061\n\n\
         [[call_router]]\nname = \"{ROUTER}\"\naddress = [\"{router}\"]\ndial_plans = [\"Elsewhere\"]\n",
        own.certificate.display(),
        own.key.display(),
        pki.root_file().display(),
    );
    let mut plan = |name: &str, pilots: &[String]| {
        let _ = write!(
            text,
            "\n[[dial_plan]]\nname = \"{name}\"\nuri_type = \"TelExtn\"\nvoip_security = \"SIPSecured\"\nphone_context = \"{name}.gate.test\"\n"
        );
        for pilot in pilots {
            let _ = write!(
                text,
                "\n[[hunt_group]]\nname = \"h{pilot}\"\nip_gateway = \"pool\"\ndial_plan = \"{name}\"\npilot_identifier = \"{pilot}\"\n"
            );
        }
    };
    let redirected: Vec<String> = (0..seats.len()).map(Place::redirecting).collect();
    plan("Elsewhere", &redirected);
    for number in 0..seats.len() {
        plan(&format!("P{number}"), &[Place::calling(number)]);
    }
    if !seats.is_empty() {
        plan("All", &[Place::ANYBODY.to_owned()]);
    }
    for (number, seat) in (0..).zip(seats) {
        let address = net.host(HOSTS.3 + seat.beside.unwrap_or(number));
        let _ = write!(
            text,
            "\n[[mailbox_server]]\nname = \"{}\"\naddress = [\"{address}\"]\ndial_plans = [\"Elsewhere\", \"P{number}\", \"All\"]\n{}",
            seat.name, seat.more
        );
    }
    text
}
