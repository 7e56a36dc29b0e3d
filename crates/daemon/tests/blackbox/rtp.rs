//! RTP and RTCP through the real binary, between two far ends that seal their media by hand: payload types that differ on both
//! legs, RTCP where a far end sends none, and hold.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use relay::{
    Channel, KeyParams, LegPlan, MasterKey, PacketBuffer, Plan, Protection, Provider, Session, Side, Suite,
    Verdict,
};

use crate::harness::metric_sum;
use crate::stage::{GATEWAYS, Stage};
use crate::wire::{Carrier, Dialog, Wire, tag, value};

/// How soon RTCP must have come: the longest interval, and a moment.
const RTCP_MAX: Duration = Duration::from_secs(8);
const PATIENCE: Duration = Duration::from_secs(5);
/// How long nothing comes where nothing may.
const SILENCE: Duration = Duration::from_millis(400);
/// Until the media thread has taken up an answer.
const CROSSING: Duration = Duration::from_millis(100);
const KEY_BYTES: usize = 30;
/// Events that one test sends each way.
const DIGITS: u16 = 20;

/// One far end: its ports, its key, and its own number for digits.
struct End {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    key: [u8; KEY_BYTES],
    digits: u8,
    /// What it was told: where to send, and the number of digits there.
    gateway: SocketAddr,
    sends: u8,
    srtp: Option<Session>,
}

impl End {
    fn new(host: Ipv4Addr, fill: u8, digits: u8) -> Self {
        let (rtp, rtcp) = pair(host);
        let gateway = SocketAddr::from((host, 0));
        Self { rtp, rtcp, key: [fill; KEY_BYTES], digits, gateway, sends: 0, srtp: None }
    }

    fn describes(&self, direction: &str) -> String {
        let (at, pt) = (self.rtp.local_addr().unwrap(), self.digits);
        let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, self.key);
        format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {} RTP/SAVP 0 {pt}\r\n\
             a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}\r\na=rtpmap:{pt} telephone-event/8000\r\na={direction}\r\n",
            at.port(),
            ip = at.ip(),
        )
    }

    /// What the gateway says of itself on this leg.
    fn is_told(&mut self, message: &str) {
        let body = message.split_once("\r\n\r\n").unwrap().1;
        let session = sdp::Session::parse(body.as_bytes()).unwrap();
        let audio = session.audio().unwrap();
        self.gateway = audio.remote().unwrap().0;
        self.sends = audio.formats.iter().find(|f| f.is("telephone-event")).unwrap().pt;
        let params = |key: &[u8]| {
            let suite = Suite::AesCm128HmacSha1_80;
            // Not the transform of the gateway.
            let provider = Provider::WebrtcSrtp;
            KeyParams { provider, ..KeyParams::new(suite, MasterKey::from_inline(suite, key).unwrap()) }
        };
        let (inbound, outbound) = (params(audio.crypto[0].key.as_bytes()), params(&self.key));
        let leg = |protection| LegPlan::at(self.gateway, protection);
        let (a, b) = (leg(Protection::Clear), leg(Protection::Sealed { inbound, outbound }));
        let plan = Plan { a, b, inactivity: Duration::ZERO, reports: None };
        self.srtp = Some(Session::new(plan, Instant::now()).unwrap());
    }

    fn pass(&mut self, side: Side, channel: Channel, bytes: &[u8]) -> Vec<u8> {
        let mut packet = PacketBuffer::new();
        packet.fill(bytes);
        let (from, srtp) = (self.gateway, self.srtp.as_mut().unwrap());
        let verdict = srtp.handle_packet(Instant::now(), side, channel, from, &mut packet);
        assert!(matches!(verdict, Verdict::Forward { .. }), "{verdict:?}");
        packet.as_slice().to_vec()
    }

    /// Sends one packet of an event, the first one of it marked.
    fn presses(&mut self, sequence: u16) {
        let mut packet = vec![0x80, self.sends | if sequence == 0 { 0x80 } else { 0 }];
        packet.extend(sequence.to_be_bytes());
        packet.extend([0, 0, 1, 0, 9, 9, 9, self.digits, 5, 10, 0, sequence as u8]);
        let sealed = self.pass(Side::A, Channel::Rtp, &packet);
        self.rtp.send_to(&sealed, self.gateway).unwrap();
    }

    /// The next packet that comes, opened.
    fn hears(&mut self, channel: Channel, longest: Duration) -> Vec<u8> {
        let socket = if channel == Channel::Rtp { &self.rtp } else { &self.rtcp };
        socket.set_read_timeout(Some(longest)).unwrap();
        let mut bytes = [0; 2048];
        let (length, _) = socket.recv_from(&mut bytes).unwrap_or_else(|why| panic!("nothing came: {why}"));
        self.pass(Side::B, channel, &bytes[..length])
    }
}

impl End {
    /// Nothing comes; what had come by now is forgotten.
    fn hears_nothing(&mut self, channel: Channel, longest: Duration) {
        let socket = if channel == Channel::Rtp { &self.rtp } else { &self.rtcp };
        socket.set_read_timeout(Some(longest)).unwrap();
        let came = socket.recv_from(&mut [0; 2048]);
        assert!(came.is_err(), "{came:?}");
    }

    fn forgets_reports(&mut self) {
        self.rtcp.set_nonblocking(true).unwrap();
        while self.rtcp.recv_from(&mut [0; 2048]).is_ok() {}
        self.rtcp.set_nonblocking(false).unwrap();
    }
}

/// A call that stands between two of them.
struct Scene {
    stage: Stage,
    phone: Wire,
    um: Wire,
    dialog: Dialog,
    caller: End,
    server: End,
    answered: Instant,
    cseq: u32,
}

impl Scene {
    fn begin(call_id: &str) -> Self {
        let stage = Stage::start(Carrier::Tls, |config| config.replace("SIPSecured", "Secured"));
        let mut phone = stage.peer(GATEWAYS[0]);
        let mut caller = End::new(stage.net.host(10), 0x11, 118);
        let mut server = End::new(stage.net.host(30), 0x22, 96);
        let mut dialog = Dialog::begun(call_id);
        phone.asks_with(&dialog, "INVITE", 1, "", &caller.describes("sendrecv"));
        let mut um = stage.called();
        let invite = um.hears("INVITE ");
        server.is_told(&invite);
        um.answers(&invite, "200 OK", &server.describes("sendrecv"));
        let success = phone.hears("SIP/2.0 200 ");
        let answered = Instant::now();
        caller.is_told(&success);
        dialog.theirs = tag(&value(&success, "To"));
        phone.asks(&dialog, "ACK", 1, "");
        um.hears("ACK ");
        let mut scene = Scene { stage, phone, um, dialog, caller, server, answered, cseq: 1 };
        scene.stands();
        scene
    }

    /// Behind this the media is as described last.
    fn stands(&mut self) {
        self.cseq += 1;
        let um = &mut self.um;
        self.phone.says_in(&self.dialog, "INFO", self.cseq, "200", || drop(um.serves("INFO")));
    }

    /// The caller offers its media again; the server is offered the same, and answers so.
    fn offers(&mut self, said: &str, answered: &str) {
        self.cseq += 1;
        self.phone.asks_with(&self.dialog, "INVITE", self.cseq, "", &self.caller.describes(said));
        let offer = self.um.hears("INVITE ");
        assert!(offer.contains(&format!("a={said}\r\n")), "{offer}");
        self.um.answers(&offer, "200 OK", &self.server.describes(answered));
        let answer = self.phone.hears("SIP/2.0 200 ");
        assert!(answer.contains(&format!("a={answered}\r\n")), "{answer}");
        self.phone.asks(&self.dialog, "ACK", self.cseq, "");
        self.um.hears("ACK ");
        // The media thread learns of it by itself: what crosses it is under way.
        std::thread::sleep(CROSSING);
        self.stands();
    }

    fn ends(mut self) -> serde_json::Value {
        let um = &mut self.um;
        self.phone.says_in(&self.dialog, "BYE", self.cseq + 1, "200", || drop(um.serves("BYE")));
        let record = self.stage.umbra.wait_for_records(1, PATIENCE).remove(0);
        assert!(metric_sum(&self.stage.metrics(), "umbra_rtcp_made_packets_total") >= 2.0);
        record["media"].clone()
    }
}

/// An even port and the next.
fn pair(host: Ipv4Addr) -> (UdpSocket, UdpSocket) {
    for port in (42_000..42_400).step_by(2) {
        if let (Ok(rtp), Ok(rtcp)) = (UdpSocket::bind((host, port)), UdpSocket::bind((host, port + 1))) {
            return (rtp, rtcp);
        }
    }
    panic!("no pair of ports on {host}")
}

#[test]
fn digits_pass_under_the_numbers_of_each_leg_and_who_gets_no_rtcp_of_the_other_gets_ours() {
    let mut scene = Scene::begin("numbers");
    let Scene { caller, server, answered, .. } = &mut scene;
    assert_eq!((caller.sends, server.sends), (118, 118), "an answer has the numbers of its offer");
    for sequence in 0..DIGITS {
        let marker = if sequence == 0 { 0x80 } else { 0 };
        caller.presses(sequence);
        let event = server.hears(Channel::Rtp, PATIENCE);
        assert_eq!((event[1], &event[12..]), (marker | 96, &[5, 10, 0, sequence as u8][..]));
        server.presses(sequence);
        let event = caller.hears(Channel::Rtp, PATIENCE);
        assert_eq!((event[1], &event[12..]), (marker | 118, &[5, 10, 0, sequence as u8][..]));
    }
    for end in [caller, server] {
        let report = end.hears(Channel::Rtcp, RTCP_MAX.saturating_sub(answered.elapsed()));
        println!("RTCP after {:?}: {report:02x?}", answered.elapsed());
        assert_eq!((report[0], report[1]), (0x81, 201), "a report about what came");
        assert_eq!(report[8..12], [9, 9, 9, end.digits], "of this end's source");
        let highest = [0, 0, 0, 0, 0, 0, 0, DIGITS as u8 - 1];
        assert_eq!(report[12..20], highest, "nothing lost, and the highest number");
        let name = (report[32], report[33], &report[40..42]);
        assert_eq!(name, (0x81, 202, &[1, 16][..]), "a name of 16 letters");
    }
    let media = scene.ends();
    println!("{media:#}");
    for side in ["a", "b"] {
        assert_eq!(media[side]["packets"], u64::from(DIGITS), "{side}");
        assert!(media[side]["rtcp_made"].as_u64() > Some(0) && media[side]["rtcp"] == 0);
    }
}

#[test]
fn a_hold_stops_rtp_one_way_leaves_rtcp_and_ends_again() {
    let mut scene = Scene::begin("hold");
    scene.offers("sendonly", "recvonly");
    let Scene { caller, server, .. } = &mut scene;
    for end in [&mut *caller, &mut *server] {
        end.forgets_reports();
    }
    caller.presses(1);
    assert_eq!(server.hears(Channel::Rtp, PATIENCE)[1], 96);
    server.presses(1);
    caller.hears_nothing(Channel::Rtp, SILENCE);
    let held = Instant::now();
    for end in [caller, server] {
        let report = end.hears(Channel::Rtcp, RTCP_MAX.saturating_sub(held.elapsed()));
        println!("RTCP on hold after {:?}", held.elapsed());
        assert!((200..=201).contains(&report[1]));
    }
    scene.offers("inactive", "inactive");
    let Scene { caller, server, .. } = &mut scene;
    caller.presses(2);
    server.hears_nothing(Channel::Rtp, SILENCE);
    scene.offers("sendrecv", "sendrecv");
    let Scene { caller, server, .. } = &mut scene;
    caller.presses(3);
    assert_eq!(server.hears(Channel::Rtp, PATIENCE)[1], 96);
    server.presses(3);
    assert_eq!(caller.hears(Channel::Rtp, PATIENCE)[1], 118);
    let media = scene.ends();
    assert_eq!((&media["audio"], &media["packets_refused"]), (&"speech both ways".into(), &2.into()));
}
