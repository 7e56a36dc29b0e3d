//! Where the gateway sends and connects: to the peers of a call, whatever a message names. Somebody sits at addresses that
//! requests, responses and descriptions point to, on TCP and UDP, and must see nothing.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::time::Duration;

use serde_json::Value;

use super::{GATEWAYS, SERVERS, Stage};
use crate::malformed::socket_from;
use crate::wire::{Carrier, Dialog, SDP, Wire, tag, value};

/// Ports somebody sits at: SIP, workers, RTP and RTCP.
const PORTS: [u16; 7] = [5060, 5061, 5062, 5063, 5070, 40000, 40001];
const RTP: u16 = 40000;
/// How long the gateway gets for what it should not do.
const WHILE: Duration = Duration::from_millis(700);

/// Somebody who has no part in anything.
struct Bystander {
    at: Ipv4Addr,
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

impl Bystander {
    fn at(at: Ipv4Addr) -> Self {
        let tcp = PORTS.map(|port| TcpListener::bind((at, port)).unwrap()).into();
        let udp = PORTS.map(|port| UdpSocket::bind((at, port)).unwrap()).into();
        let this = Self { at, tcp, udp };
        this.tcp.iter().for_each(|listener| listener.set_nonblocking(true).unwrap());
        this.udp.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
        this
    }

    /// Connections and datagrams that came.
    fn seen(&self) -> usize {
        let connected = self.tcp.iter().filter(|listener| listener.accept().is_ok()).count();
        let sent = self.udp.iter().filter(|socket| socket.recv(&mut [0; 2048]).is_ok()).count();
        connected + sent
    }

    fn sees_nothing(&self, stage: &Stage) {
        std::thread::sleep(WHILE);
        assert_eq!(self.seen(), 0, "{}", stage.umbra.process.output());
    }

    /// A socket of theirs.
    fn rtp(&self) -> &UdpSocket {
        self.udp.get(PORTS.iter().position(|port| *port == RTP).unwrap()).unwrap()
    }

    /// Header lines that point to them.
    fn lines(&self) -> String {
        let at = self.at;
        format!(
            "Via: SIP/2.0/TCP {at}:5060;branch=z9hG4bKelse;received={at};rport=5060;maddr={at}\r\n\
             Route: <sip:{at};lr>\r\nRecord-Route: <sip:{at}:5060;lr;maddr={at}>\r\n\
             Contact: <sip:else@{at}:5070;maddr={at}>\r\nPath: <sip:{at};lr>\r\nReferred-By: <sip:else@{at}>\r\n\
             Alert-Info: <http://{at}/ring>\r\nCall-Info: <http://{at}/card>;purpose=icon\r\n\
             Error-Info: <sip:{at}>\r\nReply-To: <sip:{at}>\r\n"
        )
    }

    /// A description whose media would be theirs.
    fn description(&self) -> String {
        SDP.replace("127.0.0.1", &self.at.to_string())
    }
}

/// A description with media at that address, and everything else that names an address pointing elsewhere.
fn description(own: Ipv4Addr, port: u16, elsewhere: Ipv4Addr) -> String {
    format!(
        "v=0\r\no=- 1 1 IN IP4 {elsewhere}\r\ns=-\r\nc=IN IP4 {elsewhere}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n\
         c=IN IP4 {own}\r\na=rtpmap:0 PCMU/8000\r\na=candidate:1 1 UDP 2130706431 {elsewhere} {RTP} typ host\r\n\
         a=candidate:1 2 UDP 2130706430 {elsewhere} 40001 typ host\r\na=remote-candidates:1 {elsewhere} {RTP}\r\n\
         a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n\
         m=video {RTP} RTP/AVP 34\r\nc=IN IP4 {elsewhere}\r\na=rtpmap:34 H263/90000\r\n"
    )
}

fn everybody(stage: &Stage) -> Bystander {
    Bystander::at(stage.net.host(77))
}

#[test]
fn what_headers_name_is_neither_called_nor_sent_to_while_connections_stand_nor_when_they_are_gone() {
    for carrier in [Carrier::Tcp, Carrier::Tls] {
        let stage = Stage::start(carrier, |config| config);
        let bystander = everybody(&stage);
        let uri = format!("sip:88895@{}:5070;user=phone;maddr={}", bystander.at, bystander.at);
        let mut phone = stage.peer(GATEWAYS[0]);
        let mut dialog = Dialog { uri, ..Dialog::begun("named") };
        phone.asks(&dialog, "INVITE", 1, &bystander.lines());
        let mut server = stage.called();
        let invite = server.hears("INVITE ");
        answer_pointing(&mut server, &invite, &bystander);
        dialog.theirs = tag(&value(&phone.hears("SIP/2.0 200 "), "To"));
        phone.asks(&dialog, "ACK", 1, &bystander.lines());
        server.hears("ACK ");
        let served = Dialog::served(&invite);
        phone.says_in(&dialog, "INFO", 2, "200", || drop(server.serves("INFO")));
        server.says_in(&served, "INFO", 2, "200", || drop(phone.serves("INFO")));
        bystander.sees_nothing(&stage);
        // The phone's connection is gone, then the server's: the next hop of either leg is somebody else.
        drop(phone);
        server.asks(&served, "INFO", 3, "");
        bystander.sees_nothing(&stage);
        drop(server);
        bystander.sees_nothing(&stage);
        let records = stage.umbra.wait_for_records(1, Duration::from_secs(10));
        assert_eq!(records[0]["verdict"]["code"], "UMB-PEER006", "{records:#?}");
        unanswered(&stage, &bystander);
    }
}

/// A 200 whose Contact and Record-Route are somebody else's.
fn answer_pointing(server: &mut Wire, invite: &str, bystander: &Bystander) {
    let at = bystander.at;
    let copied =
        ["From", "Call-ID", "CSeq", "Via"].map(|name| format!("{name}: {}\r\n", value(invite, name)));
    let head = format!(
        "SIP/2.0 200 OK\r\n{}To: {};tag=far\r\nContact: <sip:um@{at}:5062>\r\nRecord-Route: <sip:{at};lr>\r\n",
        copied.concat(),
        value(invite, "To"),
    );
    server.say(&head, SDP);
}

/// The asker is gone before the answer: its Via names somebody else.
fn unanswered(stage: &Stage, bystander: &Bystander) {
    let mut phone = stage.peer(GATEWAYS[0]);
    let call = Dialog::begun("unanswered");
    let head = format!(
        "INVITE {} SIP/2.0\r\nVia: SIP/2.0/{} {}:5060;branch=z9hG4bKgone;rport=5060;received={}\r\nMax-Forwards: 70\r\n\
         From: <sip:1@contoso.test>;tag=1\r\nTo: <sip:88895@umbra.contoso.test>\r\nCall-ID: unanswered\r\nCSeq: 1 INVITE\r\n\
         Contact: <sip:1@{}>\r\n",
        call.uri,
        stage.carrier.word(),
        bystander.at,
        bystander.at,
        bystander.at,
    );
    phone.say(&head, SDP);
    let mut server = stage.called();
    let invite = server.hears("INVITE ");
    drop(phone);
    std::thread::sleep(WHILE);
    server.answers(&invite, "200 OK", SDP);
    server.hears("ACK ");
    bystander.sees_nothing(stage);
}

#[test]
fn redirects_refers_and_requests_outside_calls_lead_to_nobody_but_peers() {
    for transfer in ["relay", "execute"] {
        let stage = Stage::start(Carrier::Tcp, |config| {
            config.replace("[[dial_plan]]\n", &format!("[[dial_plan]]\ntransfer = \"{transfer}\"\n"))
        });
        let bystander = everybody(&stage);
        // localhost is 127.0.0.1 in every hosts file.
        let neighbour = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        neighbour.set_nonblocking(true).unwrap();
        let near = format!("localhost:{}", neighbour.local_addr().unwrap().port());
        let mut um = None;
        redirects(&stage, &mut um, &bystander, &near);
        refers(&stage, &mut um, [&bystander.at.to_string(), &near], transfer);
        outside(&stage, &bystander, &near);
        bystander.sees_nothing(&stage);
        assert!(neighbour.accept().is_err(), "{}", stage.umbra.process.output());
    }
}

/// Each target of a 3xx, and the call ends with its reason.
fn redirects(stage: &Stage, um: &mut Option<Wire>, bystander: &Bystander, near: &str) {
    let (at, server) = (bystander.at, SERVERS[0]);
    let mut phone = stage.peer(GATEWAYS[0]);
    let targets = [
        format!("sip:88895@{at}:5062;transport=tcp"),
        format!("sip:88895@{server}:5062;transport=tcp;maddr={at}"),
        format!("sip:88895@{near};transport=tcp"),
        format!("sip:{server}@{at}:5062;transport=tcp"),
        format!("sip:88895@{server}.{at}:5062;transport=tcp"),
        format!("sip:88895@{at};transport=udp"),
        format!("sips:88895@{at}"),
        format!("tel:88895;phone-context={at}"),
        format!("http://{at}:5062/"),
    ];
    for (number, target) in targets.iter().enumerate() {
        let call = Dialog::begun(&format!("redirect-{number}"));
        phone.asks(&call, "INVITE", 1, "");
        let um = um.get_or_insert_with(|| stage.called());
        let invite = um.hears("INVITE ");
        let copied =
            ["Via", "From", "Call-ID", "CSeq"].map(|name| format!("{name}: {}\r\n", value(&invite, name)));
        let to = value(&invite, "To");
        um.say(
            &format!("SIP/2.0 302 Moved\r\n{}To: {to};tag=r\r\nContact: <{target}>\r\n", copied.concat()),
            "",
        );
        um.hears("ACK ");
        let answer = phone.hears("SIP/2.0 5");
        let answer_to = tag(&value(&answer, "To"));
        phone.asks(&Dialog { theirs: answer_to, ..call }, "ACK", 1, "");
    }
    let records = stage.umbra.wait_for_records(targets.len(), Duration::from_secs(10));
    let words = ["is no server of the dial plan", "is another server than the host", "is no SIP URI"];
    let is_refused =
        |record: &Value| words.iter().any(|why| record["verdict"]["evidence"].to_string().contains(why));
    assert!(records.iter().all(is_refused), "{records:#?}");
}

/// REFER to somebody, from either side: carried to the other leg, or carried out toward the caller's gateway only.
fn refers(stage: &Stage, um: &mut Option<Wire>, hosts: [&str; 2], transfer: &str) {
    let mut phone = stage.peer(GATEWAYS[0]);
    for (number, host) in hosts.into_iter().enumerate() {
        let (caller, served) = stage.call(&mut phone, um, &format!("refer-{number}"), SDP);
        let server = um.as_mut().unwrap();
        let lines = format!("Refer-To: <sip:101@{host};transport=tcp>\r\n");
        phone.asks(&caller, "REFER", 2, &lines);
        let carried = server.hears("REFER ");
        server.answers(&carried, "603 Decline", "");
        phone.hears("SIP/2.0 603 ");
        server.asks(&served, "REFER", 1, &lines);
        if transfer == "relay" {
            let carried = phone.hears("REFER ");
            phone.answers(&carried, "603 Decline", "");
            server.hears("SIP/2.0 603 ");
        } else {
            server.hears("SIP/2.0 202 ");
            // The gateway's place is where a PBX listens, which is nowhere here.
            while !server.serves("NOTIFY").contains("SIP/2.0 503 ") {}
        }
        phone.says_in(&caller, "BYE", 3, "200", || drop(server.serves("BYE")));
    }
}

/// Requests outside calls whose Request-URI, Route and Contact are somebody else's, from a gateway and a server.
fn outside(stage: &Stage, bystander: &Bystander, near: &str) {
    for (peer, methods) in [
        (GATEWAYS[0], ["OPTIONS", "SUBSCRIBE", "PUBLISH", "REFER"]),
        (SERVERS[0], ["NOTIFY", "OPTIONS", "MESSAGE", "INVITE"]),
    ] {
        let mut wire = stage.peer(peer);
        for method in methods {
            for host in [bystander.at.to_string(), near.to_owned()] {
                let uri = format!("sip:101@{host};transport=tcp");
                let call =
                    Dialog { uri, ..Dialog::begun(&format!("{method}-{}-{}", host.len(), peer.len())) };
                let lines = format!(
                    "{}Event: message-summary\r\nSubscription-State: active\r\nRefer-To: <sip:{host}>\r\n",
                    bystander.lines()
                );
                wire.asks(&call, method, 1, &lines);
                wire.hears("SIP/2.0 ");
            }
        }
    }
}

#[test]
fn strangers_have_nothing_sent_to_anybody() {
    for unknown in ["drop", "reject"] {
        let stage = Stage::start(Carrier::Tcp, |config| {
            let listen = format!("[listen]\nunknown_peer = \"{unknown}\"\nudp_port = 5060\n");
            config.replace("[listen]\n", &listen)
        });
        let bystander = everybody(&stage);
        let own = stage.net.host(66);
        let socket = UdpSocket::bind((own, 5060)).unwrap();
        for (number, method) in
            ["INVITE", "OPTIONS", "NOTIFY", "MESSAGE", "REFER", "BYE"].into_iter().enumerate()
        {
            let call = Dialog::begun(&format!("stranger-{number}"));
            let lines = format!("{}Refer-To: <sip:{}>\r\n", bystander.lines(), bystander.at);
            // Where strangers are dropped, their connection is too.
            let mut wire = Wire::new(socket_from(own, (stage.umbra.address, 5060).into()), own);
            wire.asks_with(&call, method, 1, &lines, &bystander.description());
            if unknown == "reject" {
                wire.hears("SIP/2.0 403 ");
            }
            let at = bystander.at;
            let datagram = format!(
                "{method} {} SIP/2.0\r\nVia: SIP/2.0/UDP {at}:5060;branch=z9hG4bKd{number};maddr={at};received={at};rport=5060\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:1@{at}>;tag=1\r\nTo: <sip:88895@{at}>\r\nCall-ID: d{number}\r\nCSeq: 1 {method}\r\n\
                 Contact: <sip:1@{at}:5060>\r\nContent-Length: 0\r\n\r\n",
                call.uri
            );
            socket.send_to(datagram.as_bytes(), (stage.umbra.address, 5060)).unwrap();
            // The same from a peer: its answer goes where it came from.
            let from_peer = UdpSocket::bind((stage.home(GATEWAYS[1]), 0)).unwrap();
            from_peer
                .send_to(datagram.replace(method, "OPTIONS").as_bytes(), (stage.umbra.address, 5060))
                .unwrap();
            from_peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut answer = [0; 2048];
            let count = from_peer.recv(&mut answer).unwrap();
            assert!(
                answer[..count].starts_with(b"SIP/2.0 200 "),
                "{}",
                String::from_utf8_lossy(&answer[..count])
            );
        }
        bystander.sees_nothing(&stage);
    }
}

/// One RTP packet of PCMU.
fn packet(number: u8) -> Vec<u8> {
    let mut bytes = vec![0x80, 0, 0, number, 0, 0, 0, 160, 0, 0, 0, 1];
    bytes.resize(172, 0xff);
    bytes
}

/// Sends packets until one arrives there.
fn arrives(from: &UdpSocket, to: (Ipv4Addr, u16), there: &UdpSocket) -> bool {
    there.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    (0..50).any(|number| {
        from.send_to(&packet(number), to).unwrap();
        there.recv(&mut [0; 2048]).is_ok()
    })
}

/// The port that a description names.
fn port(message: &str) -> u16 {
    let line = message.split("\r\n").find_map(|line| line.strip_prefix("m=audio ")).unwrap();
    line.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn media_goes_to_no_address_outside_the_networks_of_a_peer() {
    let stage = Stage::start(Carrier::Tcp, |config| {
        let net = config.split("addresses = [\"").nth(1).unwrap().split("20\"").next().unwrap();
        // Hosts 8 to 15 and 28 to 31: the gateways and the servers.
        let phones = format!("[[ip_gateway]]\nmedia_networks = [\"{net}8/29\"]\n");
        let servers = format!("[[mailbox_server]]\nmedia_networks = [\"{net}30\", \"{net}28/31\"]\n");
        config.replacen("[[ip_gateway]]\n", &phones, 1).replacen("[[mailbox_server]]\n", &servers, 1)
    });
    let bystander = everybody(&stage);
    let (own, theirs) = (stage.home(GATEWAYS[0]), stage.home(SERVERS[0]));
    let [here, there] = [own, theirs].map(|address| UdpSocket::bind((address, 41000)).unwrap());
    let mut phone = stage.peer(GATEWAYS[0]);
    // Offers that point elsewhere, in each way there is.
    let rtcp =
        SDP.replace("127.0.0.1", &own.to_string()) + &format!("a=rtcp:40001 IN IP4 {}\r\n", bystander.at);
    for (number, body) in [bystander.description(), rtcp].iter().enumerate() {
        let call = Dialog::begun(&format!("offer-{number}"));
        phone.asks_with(&call, "INVITE", 1, "", body);
        let answer = phone.hears("SIP/2.0 488 ");
        phone.asks(&Dialog { theirs: tag(&value(&answer, "To")), ..call }, "ACK", 1, "");
    }
    // One that is in order, with candidates and another stream that are not; an answer that points elsewhere.
    let offer = description(own, 41000, bystander.at);
    let call = Dialog::begun("answer");
    phone.asks_with(&call, "INVITE", 1, "", &offer);
    let mut server = stage.called();
    let invite = server.hears("INVITE ");
    server.answers(&invite, "200 OK", &format!("{}m=video 0 RTP/AVP 34\r\n", bystander.description()));
    server.hears("ACK ");
    server.serves("BYE");
    let answer = phone.hears("SIP/2.0 488 ");
    phone.asks(&Dialog { theirs: tag(&value(&answer, "To")), ..call }, "ACK", 1, "");
    let records = stage.umbra.wait_for_records(3, Duration::from_secs(10));
    assert!(records.iter().all(|record| record["verdict"]["code"] == "UMB-MEDIA008"), "{records:#?}");
    // Both in order: packets arrive, both ways.
    let mut call = Dialog::begun("media");
    phone.asks_with(&call, "INVITE", 1, "", &offer);
    let invite = server.hears("INVITE ");
    server.answers(
        &invite,
        "200 OK",
        &description(theirs, 41000, bystander.at).replace("m=video 40000", "m=video 0"),
    );
    let answer = phone.hears("SIP/2.0 200 ");
    call.theirs = tag(&value(&answer, "To"));
    phone.asks(&call, "ACK", 1, "");
    server.hears("ACK ");
    let (a, b) = ((stage.umbra.address, port(&answer)), (stage.umbra.address, port(&invite)));
    assert!(arrives(&here, a, &there) && arrives(&there, b, &here), "{}", stage.umbra.process.output());
    // Somebody else's packets neither pass nor draw the stream to themselves.
    for to in [a, b, (a.0, a.1 + 1), (b.0, b.1 + 1)] {
        (0..20).for_each(|number| assert!(bystander.rtp().send_to(&packet(number), to).is_ok()));
    }
    // Inside the call, from both sides.
    let served = Dialog::served(&invite);
    phone.asks_with(&call, "INVITE", 2, "", &bystander.description());
    phone.hears("SIP/2.0 488 ");
    phone.asks_with(&call, "UPDATE", 3, "", &bystander.description());
    phone.hears("SIP/2.0 488 ");
    server.asks_with(&served, "INVITE", 2, "", &bystander.description());
    server.hears("SIP/2.0 488 ");
    assert!(arrives(&here, a, &there) && arrives(&there, b, &here), "{}", stage.umbra.process.output());
    bystander.sees_nothing(&stage);
    // Without the list any address goes, and whoever sits there would have seen it.
    let mut other = stage.peer(GATEWAYS[1]);
    let mut call = Dialog::begun("anywhere");
    other.asks_with(&call, "INVITE", 1, "", &bystander.description());
    let invite = server.hears("INVITE ");
    server.answers(
        &invite,
        "200 OK",
        &SDP.replace("127.0.0.1", &theirs.to_string()).replace("40000", "41000"),
    );
    call.theirs = tag(&value(&other.hears("SIP/2.0 200 "), "To"));
    other.asks(&call, "ACK", 1, "");
    server.hears("ACK ");
    bystander.rtp().set_nonblocking(false).unwrap();
    assert!(arrives(&there, (stage.umbra.address, port(&invite)), bystander.rtp()));
}
