//! Digits that change their form in the running gateway: INFO of the caller goes to UM as events in RTP, and events of UM go to
//! the caller as INFO. A digit shows in no output.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::stage::{GATEWAYS, Stage};
use crate::wire::{Carrier, Dialog, tag, value};

const PATIENCE: Duration = Duration::from_secs(5);
/// The number under which UM wants events.
const EVENTS: u8 = 96;

fn socket(host: std::net::Ipv4Addr) -> UdpSocket {
    let socket = UdpSocket::bind((host, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn describes(socket: &UdpSocket, events: &str) -> String {
    let at = socket.local_addr().unwrap();
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {} RTP/AVP 0{events}\r\n",
        at.port(),
        ip = at.ip()
    )
}

fn session(message: &str) -> sdp::Session {
    sdp::Session::parse(message.split_once("\r\n\r\n").unwrap().1.as_bytes()).unwrap()
}

fn rtp(payload_type: u8, sequence: u16, timestamp: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend([7, 7, 7, 7]);
    packet.extend(payload);
    packet
}

/// The next RTP packet (RTCP has ports of its own).
fn hear(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = vec![0; 2_000];
    let length = socket.recv(&mut bytes).expect("a packet");
    bytes.truncate(length);
    bytes
}

#[test]
fn digits_go_between_info_of_the_caller_and_events_of_um_in_both_directions() {
    let stage = Stage::start(Carrier::Tcp, |config| {
        config.replace("port = 5060\n", "port = 5060\ndtmf = \"info\"\n")
    });
    let mut phone = stage.peer(GATEWAYS[0]);
    let (caller, server) = (socket(stage.net.host(10)), socket(stage.net.host(30)));
    let mut dialog = Dialog::begun("digits");
    phone.asks_with(&dialog, "INVITE", 1, "", &describes(&caller, ""));
    let mut um = stage.called();
    let invite = um.hears("INVITE ");
    let offered = session(&invite);
    let audio = offered.audio().unwrap();
    let ours = audio.formats.iter().find(|f| f.is("telephone-event")).expect("UM is offered events").pt;
    let toward_um = audio.remote().unwrap().0;
    let events = format!(" {EVENTS}\r\na=rtpmap:{EVENTS} telephone-event/8000");
    um.answers(&invite, "200 OK", &describes(&server, &events));
    let success = phone.hears("SIP/2.0 200 ");
    let toward_caller: SocketAddr = session(&success).audio().unwrap().remote().unwrap().0;
    assert!(!success.contains("telephone-event"), "the caller is not told of events: {success}");
    dialog.theirs = tag(&value(&success, "To"));
    phone.asks(&dialog, "ACK", 1, "");
    um.hears("ACK ");

    // Speech, a digit, speech: one stream without a gap or a repetition.
    caller.send_to(&rtp(0, 100, 1_000, &[0x55; 160]), toward_caller).unwrap();
    let first = hear(&server);
    assert_eq!(first[2..4], 100u16.to_be_bytes());
    let relay = "Content-Type: application/dtmf-relay\r\n";
    phone.asks_with(&dialog, "INFO", 2, relay, "Signal=4\r\nDuration=120\r\n");
    phone.hears("SIP/2.0 200 ");
    let packets: Vec<Vec<u8>> = (0..5).map(|_| hear(&server)).collect();
    for (number, packet) in packets.iter().enumerate() {
        assert_eq!((packet[1] & 0x7F, &packet[2..4]), (EVENTS, &(101 + number as u16).to_be_bytes()[..]));
        assert_eq!(
            (packet[4..12].to_vec(), packet[12]),
            (packets[0][4..12].to_vec(), 4),
            "one event of one source"
        );
    }
    assert_eq!(packets[0][1] & 0x80, 0x80, "a marker at the beginning");
    assert!(
        packets[2..].iter().all(|packet| packet[13] & 0x80 != 0 && packet[14..16] == 960u16.to_be_bytes())
    );
    caller.send_to(&rtp(0, 101, 1_160, &[0x55; 160]), toward_caller).unwrap();
    assert_eq!(hear(&server)[2..4], 106u16.to_be_bytes());

    // And back: three ends of one event are one INFO, answered by nobody else.
    for sequence in 0..4u16 {
        let end = if sequence == 0 { 0 } else { 0x80 };
        server.send_to(&rtp(ours, 50 + sequence, 9_000, &[9, end | 10, 3, 0x20]), toward_um).unwrap();
    }
    let info = phone.hears("INFO ");
    assert!(
        info.contains("Content-Type: application/dtmf-relay\r\n")
            && info.ends_with("Signal=9\r\nDuration=100\r\n"),
        "{info}"
    );
    phone.answers(&info, "200 OK", "");
    assert!(phone.is_quiet(Duration::from_millis(300)), "a digit came twice");
    assert!(um.is_quiet(Duration::from_millis(300)), "UM hears of INFO");

    phone.says_in(&dialog, "BYE", 3, "200", || drop(um.serves("BYE")));
    let records = stage.umbra.wait_for_records(1, PATIENCE);
    assert_eq!(records[0]["media"]["b"]["packets"], 4);
    let told = stage.umbra.process.output();
    assert!(told.contains("INFO"), "requests are logged:\n{told}");
    for digit in ["Signal=", "Signal ="] {
        assert!(!told.contains(digit), "a digit was printed:\n{told}");
    }
}
