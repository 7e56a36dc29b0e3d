//! A whole gateway on loopback, spoken to over real sockets: a pool on 127.0.0.1, a Mailbox server on 127.0.0.2.

use std::path::Path;

use b2bua::policy::{
    Allowed, DialPlan, Dialect, Gateway as Own, GatewayStatus, HeaderRules, HealthRules, HuntGroup,
    IpGateway, MediaBridge, MediaMode, PeerAddress, Profile, RoutingRules, RtcpMode, Server, ServerRole,
    ServerStatus, SessionRules, SrtpRules, UnknownPeer, UriType, VoipSecurity,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::*;
use crate::media::MediaConfig;
use crate::net::{Dns, NetLimits};
use crate::observe::{RecordSettings, Written};
use crate::run::TlsSetup;
use crate::tls::{Spoken, TlsFiles, TlsStream};

const PATIENCE: Duration = Duration::from_secs(10);
const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn mailbox_server(server_port: u16) -> Server {
    Server {
        name: String::from("mbx01.contoso.test"),
        addresses: vec!["127.0.0.2".parse().unwrap()],
        tcp_port: server_port,
        tls_port: 5063,
        port_source: b2bua::policy::PortSource::Configured,
        worker_ports: Vec::new(),
        max_calls_allowed: 10,
        status: ServerStatus::Enabled,
        role: ServerRole::Mailbox,
        media_networks: [].into(),
        dialect: Dialect::of(Profile::Exum2016),
    }
}

fn policy(server_port: u16) -> Policy {
    Policy {
        gateway: Own {
            fqdn: String::from("umbra.contoso.test"),
            sip_domain: String::from("contoso.test"),
            addresses: vec![HOME],
            advertised: HOME,
            media_addresses: b2bua::policy::MediaAddresses::of([HOME]),
            tcp_port: None,
            tls_port: None,
            udp_port: None,
            max_calls_allowed: 10,
            calls_per_second_max: None,
            queue_wait_max: b2bua::policy::QUEUE_WAIT_MAX,
            unknown_peer: UnknownPeer::Drop,
            codecs: vec![String::from("PCMU")],
            media_mode: MediaMode::Anchored,
            srtp: SrtpRules::default(),
            rtcp: RtcpMode::default(),
            ice: Default::default(),
            media_inactivity: Duration::from_secs(60),
            correlation_header: Some(String::from("X-Call-ID")),
        },
        pools: Vec::new(),
        ip_gateways: vec![IpGateway {
            name: String::from("pbx"),
            address: PeerAddress::Ip(HOME),
            addresses: Vec::new(),
            port: 5060,
            port_source: b2bua::policy::PortSource::Configured,
            status: GatewayStatus::Enabled,
            max_calls_allowed: None,
            outcalls_allowed: Allowed::No,
            message_waiting_indicator_allowed: Allowed::No,
            pool: None,
            media_networks: [].into(),
            dialect: Dialect::of(Profile::IpPbx),
        }],
        hunt_groups: vec![HuntGroup {
            name: String::from("default"),
            ip_gateway: 0,
            dial_plan: 0,
            pilot_identifier: None,
        }],
        dial_plans: vec![DialPlan {
            name: String::from("DP"),
            uri_type: UriType::SipName,
            voip_security: VoipSecurity::Unsecured,
            phone_context: String::from("DP.contoso.test"),
            equivalent_phone_contexts: Vec::new(),
            access_telephone_numbers: Vec::new(),
            extension_digits: 4,
            max_call_duration: Duration::from_secs(1800),
            call_routers: Vec::new(),
            mailbox_servers: vec![0],
            media_bridge: MediaBridge::Off,
            transfers: b2bua::policy::TransferRules::default(),
        }],
        call_routers: Vec::new(),
        mailbox_servers: vec![mailbox_server(server_port)],
        auto_attendants: Vec::new(),
        mailboxes: Vec::new(),
        um: Default::default(),
        routing: RoutingRules::default(),
        headers: HeaderRules::default(),
        health: HealthRules { options_interval: None, ..HealthRules::default() },
        session: SessionRules::default(),
    }
}

fn settings(server_port: u16, folder: &Path, rtp_first: u16) -> Settings {
    Settings {
        policy: Arc::new(policy(server_port)),
        listen: vec![ListenAt { address: SocketAddr::new(HOME, 0), transport: Transport::Tcp }],
        tls: None,
        shards: 1,
        media: MediaConfig {
            addresses: vec![HOME],
            dscp: crate::media::Dscp::EF,
            ports: rtp_first..=rtp_first + 39,
            workers: 1,
            rest: Duration::from_millis(1),
        },
        dns: Dns::default(),
        admin: None,
        records: Some(RecordSettings {
            folder: folder.to_owned(),
            jsonl: Written::Yes,
            um_csv: Written::Yes,
        }),
        state_dir: None,
        keep: Default::default(),
        limits: NetLimits::default(),
        tap: None,
    }
}

const SDP: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
m=audio 40000 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n";

fn with_body(head: &str) -> String {
    format!("{head}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{SDP}", SDP.len())
}

fn request(method: &str, cseq: u32, to_tag: &str) -> String {
    format!(
        "{method} sip:ken@contoso.test SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:5060;branch=z9hG4bK{method}{cseq}\r\n\
         From: <sip:101@pbx.contoso.test>;tag=a1\r\nTo: <sip:ken@contoso.test>{to_tag}\r\nCall-ID: shell-1\r\n\
         CSeq: {cseq} {method}\r\nMax-Forwards: 70\r\nContact: <sip:101@127.0.0.1:5060;transport=tcp>\r\n"
    )
}

/// Reads whole messages, head and body.
struct Wire {
    stream: TcpStream,
    framer: sip::Framer,
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        Self { stream, framer: sip::Framer::new(sip::Limits::default()) }
    }

    async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn hear(&mut self) -> String {
        timeout(PATIENCE, async {
            loop {
                if let Some(frame) = self.framer.poll().unwrap() {
                    if let sip::Frame::Message(bytes) = frame {
                        return String::from_utf8(bytes.to_vec()).unwrap();
                    }
                    continue;
                }
                let mut buffer = [0; 4096];
                let count = self.stream.read(&mut buffer).await.unwrap();
                assert!(count > 0, "connection closed");
                self.framer.push(&buffer[..count]);
            }
        })
        .await
        .expect("a message in time")
    }

    async fn hear_starting(&mut self, start: &str) -> String {
        loop {
            let message = self.hear().await;
            if message.starts_with(start) {
                return message;
            }
            assert!(message.starts_with("SIP/2.0 1"), "wanted {start}, got {message}");
        }
    }
}

/// A response to `request` that opens the dialog.
fn answer(request: &str, status: &str, body: bool) -> String {
    let copied = ["Via:", "From:", "Call-ID:", "CSeq:"];
    let mut head = format!("SIP/2.0 {status}\r\n");
    for line in request.split("\r\n") {
        if copied.iter().any(|name| line.starts_with(name)) {
            head.push_str(&format!("{line}\r\n"));
        } else if line.starts_with("To:") {
            let tag = if line.contains(";tag=") { "" } else { ";tag=b1" };
            head.push_str(&format!("{line}{tag}\r\n"));
        }
    }
    if body {
        with_body(&format!("{head}Contact: <sip:um@127.0.0.2:5062;transport=tcp>\r\n"))
    } else {
        format!("{head}Content-Length: 0\r\n\r\n")
    }
}

fn to_tag(message: &str) -> String {
    let to = message.split("\r\n").find(|line| line.starts_with("To:")).unwrap();
    to[to.find(";tag=").unwrap()..].to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plain_call_goes_through_and_leaves_one_record() {
    let folder = tempfile::tempdir().unwrap();
    let um = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let port = um.local_addr().unwrap().port();
    let gateway = Gateway::start(settings(port, folder.path(), 31_000)).await.unwrap();
    let mut pbx = Wire::new(TcpStream::connect(gateway.addresses()[0].address).await.unwrap());
    pbx.say(&with_body(&request("INVITE", 1, ""))).await;
    let mut um = Wire::new(timeout(PATIENCE, um.accept()).await.unwrap().unwrap().0);
    let invite = um.hear_starting("INVITE ").await;
    assert!(invite.contains("X-Call-ID: shell-1"), "{invite}");
    um.say(&answer(&invite, "200 OK", true)).await;
    let ok = pbx.hear_starting("SIP/2.0 200").await;
    let tag = to_tag(&ok);
    pbx.say(&format!("{}Content-Length: 0\r\n\r\n", request("ACK", 1, &tag))).await;
    um.hear_starting("ACK ").await;
    assert_eq!(gateway.stats().await.unwrap().calls, 1);
    pbx.say(&format!("{}Content-Length: 0\r\n\r\n", request("BYE", 2, &tag))).await;
    let bye = um.hear_starting("BYE ").await;
    um.say(&answer(&bye, "200 OK", false)).await;
    pbx.hear_starting("SIP/2.0 200").await;
    gateway.drain(None).await;
    timeout(PATIENCE, gateway.drained()).await.unwrap();
    assert!(gateway.metrics().contains("umbra_calls_total"), "{}", gateway.metrics());
    gateway.stop().await;
    let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let jsonl = files.into_iter().find(|path| path.extension().is_some_and(|end| end == "jsonl")).unwrap();
    let text = std::fs::read_to_string(jsonl).unwrap();
    let record: serde_json::Value = serde_json::from_str(text.trim()).unwrap();
    assert_eq!((&record["call_id"], &record["offer_result"]), (&"shell-1".into(), &"Answer".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gateways_live_side_by_side_and_leave_their_ports() {
    let folder = tempfile::tempdir().unwrap();
    let one = Gateway::start(settings(5062, folder.path(), 31_100)).await.unwrap();
    let two = Gateway::start(settings(5062, folder.path(), 31_200)).await.unwrap();
    let address = one.addresses()[0].address;
    assert_ne!(address, two.addresses()[0].address);
    one.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
    assert!(TcpStream::connect(two.addresses()[0].address).await.is_ok());
    two.stop().await;
}

#[tokio::test]
async fn a_taken_port_and_a_tls_listener_without_certificate_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut wanted = settings(5062, folder.path(), 31_300);
    wanted.listen[0].address = taken.local_addr().unwrap();
    let problem = Gateway::start(wanted).await.err().unwrap().to_string();
    assert!(problem.contains(&taken.local_addr().unwrap().to_string()), "{problem}");
    let mut wanted = settings(5062, folder.path(), 31_300);
    wanted.listen[0].transport = Transport::Tls;
    assert!(matches!(Gateway::start(wanted).await, Err(StartError::TlsMissing)));
}

fn tls_setup(pki: &lab::pki::Pki, name: &str) -> TlsSetup {
    let files = pki.identity_files(name).unwrap();
    let files = TlsFiles {
        certificate: files.certificate,
        private_key: files.key,
        trusted_roots: vec![pki.root_file()],
        ..TlsFiles::default()
    };
    TlsSetup { files, spoken: Spoken::default(), weak_peers: Vec::new() }
}

fn tls_settings(pki: &lab::pki::Pki, folder: &Path, rtp_first: u16) -> Settings {
    let mut settings = settings(5062, folder, rtp_first);
    settings.tls = Some(tls_setup(pki, "umbra.contoso.test"));
    settings.listen[0].transport = Transport::Tls;
    let mut policy = policy(5062);
    policy.ip_gateways[0].address = PeerAddress::Fqdn(String::from("pool01.contoso.test"));
    policy.dial_plans[0].voip_security = VoipSecurity::SipSecured;
    settings.policy = Arc::new(policy);
    settings
}

/// Says OPTIONS as `name` and returns what comes back; `None` when the connection is refused.
async fn options_as(pki: &lab::pki::Pki, name: &str, address: SocketAddr) -> Option<String> {
    let setup = tls_setup(pki, name);
    let client = TlsContext::load(&setup.files, &setup.spoken, crate::tls::KnownPeers::default()).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let (stream, session, _) = client.connect("umbra.contoso.test", stream).await.ok()?;
    let mut stream = TlsStream::new(stream, session);
    let text = request("OPTIONS", 1, "").replace("SIP/2.0/TCP", "SIP/2.0/TLS");
    let text = text.replace("sip:ken@contoso.test SIP", "sip:umbra.contoso.test SIP");
    stream.write_all(format!("{text}Content-Length: 0\r\n\r\n").as_bytes()).await.ok()?;
    let mut buffer = vec![0; 4096];
    let count = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().ok()?;
    (count > 0).then(|| String::from_utf8_lossy(&buffer[..count]).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_in_the_handshake_each_with_its_own_counter() {
    let folder = tempfile::tempdir().unwrap();
    let ours = lab::pki::Pki::open(&folder.path().join("ours")).unwrap();
    let theirs = lab::pki::Pki::open(&folder.path().join("theirs")).unwrap();
    let gateway = Gateway::start(tls_settings(&ours, folder.path(), 31_400)).await.unwrap();
    let address = gateway.addresses()[0].address;
    assert_eq!(options_as(&ours, "evil.contoso.test", address).await, None);
    let setup = tls_setup(&theirs, "pool01.contoso.test");
    let files = TlsFiles { trusted_roots: vec![ours.root_file()], ..setup.files };
    let impostor = TlsContext::load(&files, &setup.spoken, crate::tls::KnownPeers::default()).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    if let Ok((stream, session, _)) = impostor.connect("umbra.contoso.test", stream).await {
        let mut stream = TlsStream::new(stream, session);
        assert!(matches!(stream.read(&mut [0; 16]).await, Err(_) | Ok(0)));
    }
    let answer = options_as(&ours, "pool01.contoso.test", address).await.unwrap();
    assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
    let text = gateway.metrics();
    let counted = [("unknown", "unknown_peer"), ("unknown", "issuer_forged"), ("pool01.contoso.test", "ok")];
    for (peer, result) in counted {
        let line = format!("umbra_tls_handshakes_total{{peer=\"{peer}\",result=\"{result}\"}} 1");
        assert!(text.contains(&line), "{line}\n{text}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_reload_keeps_the_old_certificate_and_a_good_one_takes_new_peers() {
    let folder = tempfile::tempdir().unwrap();
    let pki = lab::pki::Pki::open(&folder.path().join("pki")).unwrap();
    let gateway = Gateway::start(tls_settings(&pki, folder.path(), 31_500)).await.unwrap();
    let address = gateway.addresses()[0].address;
    let mut bad = tls_settings(&pki, folder.path(), 31_500);
    bad.tls.as_mut().unwrap().files.private_key = tls_setup(&pki, "other.test").files.private_key;
    assert!(gateway.reload(bad).await.is_err());
    assert!(gateway.metrics().contains("umbra_config_last_reload_successful 0"));
    assert!(options_as(&pki, "pool01.contoso.test", address).await.is_some());
    assert_eq!(options_as(&pki, "pool02.contoso.test", address).await, None);
    let mut good = tls_settings(&pki, folder.path(), 31_500);
    let mut policy = (*good.policy).clone();
    policy.ip_gateways[0].address = PeerAddress::Fqdn(String::from("pool02.contoso.test"));
    good.policy = Arc::new(policy);
    gateway.reload(good).await.unwrap();
    assert!(gateway.metrics().contains("umbra_config_last_reload_successful 1"));
    assert!(options_as(&pki, "pool02.contoso.test", address).await.is_some());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_of_a_hosting_provider_stays_what_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let with = |identity: &str, proxy: &str| {
        let mut wanted = settings(5062, folder.path(), 31_560);
        let mut policy = (*wanted.policy).clone();
        policy.um.hosted.providers =
            vec![HostingProvider { identity: identity.to_owned(), proxy_fqdn: proxy.to_owned() }];
        wanted.policy = Arc::new(policy);
        wanted
    };
    let gateway = Gateway::start(with("HostedUM", "exap.hosted.test")).await.unwrap();
    let refused = gateway.reload(with("hostedum", "other.hosted.test")).await.unwrap_err().to_string();
    assert!(refused.contains("UMB-FED005") && refused.contains("exap.hosted.test"), "{refused}");
    assert!(gateway.metrics().contains("umbra_config_last_reload_successful 0"));
    gateway.reload(with("Another", "other.hosted.test")).await.expect("another provider is another object");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_opt_in_udp_listener_answers_a_peer_and_ignores_a_stranger() {
    let folder = tempfile::tempdir().unwrap();
    let mut wanted = settings(5062, folder.path(), 31_600);
    wanted.listen[0].transport = Transport::Udp;
    let gateway = Gateway::start(wanted).await.unwrap();
    let address = gateway.addresses()[0].address;
    let stranger = UdpSocket::bind("127.0.0.77:0").await.unwrap();
    let peer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let text = request("OPTIONS", 1, "").replace("SIP/2.0/TCP", "SIP/2.0/UDP");
    let text = text.replace("sip:ken@contoso.test SIP", "sip:umbra.contoso.test SIP");
    let text = format!("{text}Content-Length: 0\r\n\r\n").replace("5060;branch", "5060;rport;branch");
    stranger.send_to(text.as_bytes(), address).await.unwrap();
    peer.send_to(text.as_bytes(), address).await.unwrap();
    let mut buffer = [0; 4096];
    let count = timeout(PATIENCE, peer.recv(&mut buffer)).await.unwrap().unwrap();
    assert!(buffer[..count].starts_with(b"SIP/2.0 200 "), "{}", String::from_utf8_lossy(&buffer[..count]));
    // The socket is read in order, so the stranger's datagram has been judged by now.
    assert!(gateway.metrics().contains("umbra_unknown_peer_requests_total 1"));
    assert!(stranger.try_recv(&mut buffer).is_err());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_strangers_on_udp_are_told_so_each_at_his_address_and_leave_no_flow() {
    let folder = tempfile::tempdir().unwrap();
    let mut wanted = settings(5062, folder.path(), 31_650);
    wanted.listen[0].transport = Transport::Udp;
    let mut policy = policy(5062);
    policy.gateway.unknown_peer = UnknownPeer::Reject;
    wanted.policy = Arc::new(policy);
    let gateway = Gateway::start(wanted).await.unwrap();
    let address = gateway.addresses()[0].address;
    let text = request("OPTIONS", 1, "").replace("SIP/2.0/TCP", "SIP/2.0/UDP");
    let text = format!("{text}Content-Length: 0\r\n\r\n");
    for host in 1..20 {
        let stranger = UdpSocket::bind((std::net::Ipv4Addr::new(127, 0, 9, host), 0)).await.unwrap();
        stranger.send_to(text.as_bytes(), address).await.unwrap();
        let mut buffer = [0; 4096];
        let count = timeout(PATIENCE, stranger.recv(&mut buffer)).await.unwrap().unwrap();
        assert!(buffer[..count].starts_with(b"SIP/2.0 403 "));
    }
    let status = gateway.stats().await.unwrap();
    assert_eq!((status.flows, status.transactions), (1, (0, 0)));
    assert!(gateway.metrics().contains("umbra_unknown_peer_requests_total 20"), "{}", gateway.metrics());
    gateway.stop().await;
}

/// Says a request over one connection and hears the whole answer.
async fn called(gateway: &Gateway, number: usize) -> (Wire, String) {
    let mut pbx = Wire::new(TcpStream::connect(gateway.addresses()[0].address).await.unwrap());
    let invite = request("INVITE", 1, "").replace("shell-1", &format!("shell-{number}"));
    pbx.say(&with_body(&invite.replace("z9hG4bK", &format!("z9hG4bK{number}")))).await;
    let answer = pbx.hear_starting("SIP/2.0 ").await;
    let answer = if answer.starts_with("SIP/2.0 1") { pbx.hear_starting("SIP/2.0 2").await } else { answer };
    (pbx, answer)
}

/// Answers every INVITE of every connection, for ever.
async fn eager_um(um: TcpListener) {
    loop {
        let mut wire = Wire::new(um.accept().await.unwrap().0);
        tokio::spawn(async move {
            loop {
                let request = wire.hear().await;
                if !request.starts_with("ACK") {
                    wire.say(&answer(&request, "200 OK", request.starts_with("INVITE"))).await;
                }
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_shards_share_one_connection_to_the_server_and_the_limits_of_the_gateway() {
    const ALLOWED: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let um = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let mut wanted = settings(um.local_addr().unwrap().port(), folder.path(), 31_700);
    wanted.media.ports = 31_700..=31_899;
    wanted.shards = 3;
    let mut policy = policy(um.local_addr().unwrap().port());
    policy.gateway.max_calls_allowed = ALLOWED;
    policy.mailbox_servers[0].max_calls_allowed = ALLOWED - 1;
    wanted.policy = Arc::new(policy);
    let serving = tokio::spawn(eager_um(um));
    let gateway = Gateway::start(wanted).await.unwrap();
    let mut calls = Vec::new();
    for number in 0..ALLOWED - 1 {
        let (pbx, answer) = called(&gateway, number).await;
        assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
        let ack = request("ACK", 1, &to_tag(&answer)).replace("shell-1", &format!("shell-{number}"));
        calls.push((pbx, number, to_tag(&answer)));
        let (pbx, ..) = calls.last_mut().unwrap();
        pbx.say(&format!("{ack}Content-Length: 0\r\n\r\n")).await;
    }
    let status = gateway.stats().await.unwrap();
    let mut shards: Vec<u16> = status.call_list.iter().map(|call| call.shard).collect();
    shards.dedup();
    assert!(status.calls == ALLOWED - 1 && shards.len() > 1, "{shards:?}");
    assert_eq!(status.servers[0].calls, ALLOWED - 1);
    // The server is full, whichever shard asks.
    let (_, answer) = called(&gateway, 100).await;
    assert!(answer.starts_with("SIP/2.0 503"), "{answer}");
    // One connection for each caller, and one to the server for all shards together.
    assert_eq!(status.flows, ALLOWED - 1 + 1);
    for (pbx, number, tag) in &mut calls {
        let bye = request("BYE", 2, tag).replace("shell-1", &format!("shell-{number}"));
        pbx.say(&format!("{bye}Content-Length: 0\r\n\r\n")).await;
        pbx.hear_starting("SIP/2.0 200").await;
    }
    gateway.drain(None).await;
    timeout(PATIENCE, gateway.drained()).await.unwrap();
    let (_, answer) = called(&gateway, 101).await;
    assert!(answer.starts_with("SIP/2.0 503") && answer.contains("Retry-After:"), "{answer}");
    serving.abort();
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_all_shards_that_need_the_same_name_ask_a_silent_name_server_once() {
    const CALLS: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut wanted = settings(5062, folder.path(), 32_000);
    wanted.media.ports = 32_000..=32_099;
    wanted.shards = 3;
    wanted.dns.servers = vec![silent.local_addr().unwrap()];
    let mut policy = policy(5062);
    policy.mailbox_servers[0].addresses.clear();
    wanted.policy = Arc::new(policy);
    let gateway = Gateway::start(wanted).await.unwrap();
    let mut calls = Vec::new();
    for number in 0..CALLS {
        let mut pbx = Wire::new(TcpStream::connect(gateway.addresses()[0].address).await.unwrap());
        let invite = request("INVITE", 1, "").replace("shell-1", &format!("shell-{number}"));
        pbx.say(&with_body(&invite.replace("z9hG4bK", &format!("z9hG4bK{number}")))).await;
        calls.push(pbx);
    }
    for pbx in &mut calls {
        pbx.hear_starting("SIP/2.0 5").await;
    }
    // A question that is repeated keeps its number.
    let mut asked = std::collections::BTreeSet::new();
    let mut buffer = [0; 512];
    while silent.try_recv(&mut buffer).is_ok() {
        asked.insert([buffer[0], buffer[1]]);
    }
    assert_eq!(asked.len(), 2, "A and AAAA, once each");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_known_by_its_name_alone_is_itself_to_every_shard_and_after_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let um = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut wanted = settings(um.local_addr().unwrap().port(), folder.path(), 32_100);
    wanted.shards = 3;
    let mut policy = policy(um.local_addr().unwrap().port());
    // The hosts file has its address; the IP-PBX is elsewhere.
    policy.mailbox_servers[0].name = String::from("localhost");
    policy.mailbox_servers[0].addresses.clear();
    policy.ip_gateways[0].address = PeerAddress::Ip("127.0.0.3".parse().unwrap());
    wanted.policy = Arc::new(policy);
    let gateway = Gateway::start(wanted.clone()).await.unwrap();
    let pbx = tokio::net::TcpSocket::new_v4().unwrap();
    pbx.bind("127.0.0.3:0".parse().unwrap()).unwrap();
    let mut pbx = Wire::new(pbx.connect(gateway.addresses()[0].address).await.unwrap());
    pbx.say(&with_body(&request("INVITE", 1, ""))).await;
    let mut server = Wire::new(timeout(PATIENCE, um.accept()).await.unwrap().unwrap().0);
    let invite = server.hear().await;
    assert!(invite.starts_with("INVITE "), "{invite}");
    // Call-IDs of its own, so that they lead to all shards.
    for number in 0..24 {
        if number == 12 {
            gateway.reload(wanted.clone()).await.unwrap();
        }
        let ask = request("OPTIONS", 1, "").replace("shell-1", &format!("um-{number}"));
        let ask = ask.replace("z9hG4bK", &format!("z9hG4bK{number}"));
        server.say(&format!("{ask}Content-Length: 0\r\n\r\n")).await;
        let answer = server.hear_starting("SIP/2.0 ").await;
        assert!(answer.starts_with("SIP/2.0 200 "), "{number}: {answer}");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_framing_is_answered_400_and_closed_and_the_next_connection_is_unharmed() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(settings(5062, folder.path(), 31_900)).await.unwrap();
    let mut client = TcpStream::connect(gateway.addresses()[0].address).await.unwrap();
    let text = format!("{}Content-Length: -1\r\n\r\n", request("OPTIONS", 1, ""));
    client.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, client.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("SIP/2.0 400 "), "{answer}");
    assert!(gateway.metrics().contains(r#"umbra_dropped_messages_total{kind="framing_lost"} 1"#));
    let mut next = Wire::new(TcpStream::connect(gateway.addresses()[0].address).await.unwrap());
    next.say(&format!("{}Content-Length: 0\r\n\r\n", request("OPTIONS", 2, ""))).await;
    next.hear_starting("SIP/2.0 200").await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_headers_lose_their_connection_and_stopping_closes_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut wanted = settings(5062, folder.path(), 31_950);
    wanted.limits.header_timeout = Duration::from_millis(50);
    let gateway = Gateway::start(wanted).await.unwrap();
    let mut slow = TcpStream::connect(gateway.addresses()[0].address).await.unwrap();
    let mut idle = TcpStream::connect(gateway.addresses()[0].address).await.unwrap();
    slow.write_all(b"INVITE sip:a SIP/2.0\r\nVia: ").await.unwrap();
    let mut nothing = Vec::new();
    timeout(PATIENCE, slow.read_to_end(&mut nothing)).await.unwrap().unwrap();
    assert!(gateway.metrics().contains(r#"umbra_dropped_messages_total{kind="partial_message"} 1"#));
    gateway.stop().await;
    timeout(PATIENCE, idle.read_to_end(&mut nothing)).await.unwrap().unwrap();
    assert!(nothing.is_empty());
}

#[test]
fn a_reload_names_what_only_a_restart_changes() {
    let folder = tempfile::tempdir().unwrap();
    let old = settings(5060, folder.path(), 31_700);
    assert_eq!(old.needs_restart(&old.clone()), Vec::<&str>::new());
    let mut new = old.clone();
    new.listen[0].address.set_port(6060);
    new.records = None;
    assert_eq!(old.needs_restart(&new), ["[listen]", "[observe] cdr"]);
}
