//! Connectivity checks against the running gateway: who does not hold the password of a leg gets not one octet, who does
//! gets an answer that proves itself, and media goes where that check came from. Messages are built and verified here from
//! RFC 8489 and what is public of Microsoft's dialect, not by the product.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use lab::frontend::Caller;

use crate::samples::{final_response, sample, status};
use crate::site::Site;

/// How long silence is listened to.
const SILENCE: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(5);
const COOKIE: [u8; 4] = [0x21, 0x12, 0xA4, 0x42];
const USE_CANDIDATE: &[u8] = &[0x00, 0x25, 0, 0];

/// How MESSAGE-INTEGRITY covers the message: RFC 8489, or its length as sent and filled to blocks of 64 octets.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Exact,
    Padded,
}

/// A Binding request with a name and an integrity.
fn check(name: &[u8], key: &[u8], form: Form, more: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 0];
    bytes.extend(COOKIE);
    bytes.extend(*b"transaction!");
    bytes.extend(more);
    attribute(&mut bytes, 0x0006, name);
    sign(&mut bytes, key, form, true);
    bytes
}

fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend(kind.to_be_bytes());
    bytes.extend((value.len() as u16).to_be_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn sign(bytes: &mut Vec<u8>, key: &[u8], form: Form, marked: bool) {
    let whole = bytes.len() + 24 + if marked { 8 } else { 0 };
    let mac = mac(bytes, whole, key, form);
    attribute(bytes, 0x0008, &mac);
    bytes[2..4].copy_from_slice(&((whole - 20) as u16).to_be_bytes());
    if marked {
        let mark = crc(bytes, |entry| entry) ^ 0x5354_554E;
        attribute(bytes, 0x8028, &mark.to_be_bytes());
    }
}

fn mac(covered: &[u8], whole: usize, key: &[u8], form: Form) -> Vec<u8> {
    let mut text = covered.to_vec();
    let stated = if form == Form::Exact { covered.len() + 24 } else { whole } - 20;
    text[2..4].copy_from_slice(&(stated as u16).to_be_bytes());
    if form == Form::Padded {
        text.resize(text.len().next_multiple_of(64), 0);
    }
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key), &text).as_ref().to_vec()
}

/// CRC-32; `entry` may change what a step of eight bits gives.
fn crc(bytes: &[u8], entry: impl Fn(u32) -> u32) -> u32 {
    let step = |value: u32| (0..8).fold(value, |v, _| (v >> 1) ^ (0xEDB8_8320 & (v & 1).wrapping_neg()));
    !bytes.iter().fold(u32::MAX, |crc, octet| entry(step((crc ^ u32::from(*octet)) & 0xFF)) ^ (crc >> 8))
}

/// The step that Microsoft's table has with a digit missing.
fn misprinted(entry: u32) -> u32 {
    if entry == 0x8BBE_B8EA { 0x08BB_E8EA } else { entry }
}

/// The address in a Binding response whose transaction, integrity and mark are right.
fn verified(response: &[u8], key: &[u8], form: Form, marked: bool) -> SocketAddr {
    assert_eq!(
        (&response[..2], &response[4..8], &response[8..20]),
        (&[1, 1][..], &COOKIE[..], &b"transaction!"[..])
    );
    assert_eq!(usize::from(u16::from_be_bytes([response[2], response[3]])), response.len() - 20);
    let end = response.len() - if marked { 8 } else { 0 };
    assert_eq!(response[end - 24..end - 20], [0, 8, 0, 20]);
    assert_eq!(response[end - 20..end], mac(&response[..end - 24], response.len(), key, form));
    if marked {
        assert_eq!(response[end..end + 4], [0x80, 0x28, 0, 4]);
        let covered = &response[..end];
        let crc = if form == Form::Exact { crc(covered, |entry| entry) } else { crc(covered, misprinted) };
        assert_eq!(response[end + 4..], (crc ^ 0x5354_554E).to_be_bytes());
    }
    assert_eq!(response[20..26], [0, 0x20, 0, 8, 0, 1], "XOR-MAPPED-ADDRESS of IPv4 comes first");
    let port = u16::from_be_bytes([response[26] ^ COOKIE[0], response[27] ^ COOKIE[1]]);
    let octets: [u8; 4] = std::array::from_fn(|at| response[28 + at] ^ COOKIE[at]);
    (Ipv4Addr::from(octets), port).into()
}

/// A call in which the gateway has answered ICE; the caller ends with it.
struct IceCall {
    site: Site,
    _caller: Caller,
    answer: String,
    /// Where the answer wants RTP.
    at: SocketAddr,
}

impl IceCall {
    /// The sample from this pool, with another description if need be.
    fn place(file: &str, pool: &str, change: impl Fn(String) -> String) -> Self {
        let site = Site::start();
        let caller = site.pool(pool);
        let bytes = sample(&site, file, site.pool_address(pool));
        let changed = with_body(std::str::from_utf8(&bytes).unwrap(), change);
        let answer = final_response(&site, &caller, Bytes::from(changed)).unwrap();
        assert_eq!(status(Some(&answer)), 200, "{answer}");
        let address: Ipv4Addr = value(&answer, "c=IN IP4 ").parse().unwrap();
        let port = value(&answer, "m=audio ").split(' ').next().unwrap().parse().unwrap();
        Self { site, _caller: caller, answer, at: (address, port).into() }
    }

    fn socket(&self, host: u8) -> UdpSocket {
        let socket = UdpSocket::bind((self.site.net.host(host), 0)).unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        socket
    }

    /// Whether anything at all comes back.
    fn is_answered(&self, socket: &UdpSocket, bytes: &[u8]) -> bool {
        socket.send_to(bytes, self.at).unwrap();
        socket.recv_from(&mut [0; 2_000]).is_ok()
    }

    /// The next datagram of that kind, by its first two bits.
    fn hear(&self, socket: &UdpSocket, top: u8) -> Vec<u8> {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        loop {
            let mut bytes = vec![0; 2_000];
            let (length, from) = socket.recv_from(&mut bytes).expect("a datagram");
            bytes.truncate(length);
            if from == self.at && bytes[0] >> 6 == top {
                return bytes;
            }
        }
    }
}

fn with_body(message: &str, change: impl Fn(String) -> String) -> String {
    let (head, body) = message.split_once("\r\n\r\n").unwrap();
    let body = change(body.to_owned());
    let lines = head.split("\r\n").map(|line| match line.split_once(": ") {
        Some((name, _)) if name.eq_ignore_ascii_case("content-length") => {
            format!("Content-Length: {}", body.len())
        }
        Some((name, _)) if name.eq_ignore_ascii_case("content-type") => {
            "Content-Type: application/sdp".into()
        }
        _ => line.to_owned(),
    });
    format!("{}\r\n\r\n{body}", lines.collect::<Vec<_>>().join("\r\n"))
}

fn value<'a>(message: &'a str, head: &str) -> &'a str {
    message
        .lines()
        .find_map(|line| line.strip_prefix(head))
        .unwrap_or_else(|| panic!("no {head} in {message}"))
}

#[test]
fn checks_of_the_form_of_rfc_8445_are_answered_to_who_holds_the_password_only_and_media_follows() {
    let call = IceCall::place("04-lync-encryption-none.sip", "pool06", |body| body);
    assert!(call.answer.contains("\r\na=ice-lite\r\n"), "{}", call.answer);
    let (ufrag, password) =
        (value(&call.answer, "a=ice-ufrag:"), value(&call.answer, "a=ice-pwd:").as_bytes());
    let candidate = format!("1 1 UDP 2130706431 {} {} typ host", call.at.ip(), call.at.port());
    assert_eq!(value(&call.answer, "a=candidate:"), candidate);
    let name = format!("{ufrag}:k2Xp").into_bytes();

    let stranger = call.socket(99);
    let unsigned = [&[0, 1, 0, 0][..], &COOKIE, b"transaction!"].concat();
    let foreign = format!("{ufrag}x:k2Xp").into_bytes();
    for bytes in [
        unsigned,
        check(&name, b"0nVh3c8JQm5tYd1sWb7LfRzE", Form::Exact, &[]),
        check(&foreign, password, Form::Exact, &[]),
        check(b"", password, Form::Exact, USE_CANDIDATE),
    ] {
        assert!(!call.is_answered(&stranger, &bytes), "a stranger got something");
    }

    let peer = call.socket(98);
    for (form, more) in [(Form::Exact, &[][..]), (Form::Padded, &[]), (Form::Exact, USE_CANDIDATE)] {
        peer.send_to(&check(&name, password, form, more), call.at).unwrap();
        let response = call.hear(&peer, 0);
        assert_eq!(verified(&response, password, form, true), peer.local_addr().unwrap());
    }
    let greeting = call.hear(&peer, 2);
    assert!(greeting.len() > 12, "the greeting of UM comes to where the nomination came from");
    assert!(!call.is_answered(&stranger, &[0x80; 40]), "and to nobody else");
}

/// The older form, as Lync offers it to those of 2007: each candidate has a name and a password, both as base64.
#[test]
fn checks_of_the_older_form_are_answered_too_and_media_flows() {
    let call = IceCall::place("01-lync2013-call-answering-multipart.sip", "pool06", |body| {
        let older = body.split("v=0").nth(1).unwrap().split("\r\n\r\n--").next().unwrap();
        let older = format!("v=0{older}\r\n").replace("RTP/SAVP", "RTP/AVP");
        let is_kept = |line: &&str| !line.starts_with("a=crypto") && !line.starts_with("a=encryption");
        older.split_inclusive("\r\n").filter(is_kept).collect()
    });
    assert!(!call.answer.contains("ice-"), "{}", call.answer);
    let ours: Vec<&str> = value(&call.answer, "a=candidate:").split(' ').collect();
    assert_eq!(ours[3..], ["UDP", "0.830", &call.at.ip().to_string(), &call.at.port().to_string()]);
    let decode = |text: &str| STANDARD_NO_PAD.decode(text).unwrap();
    let (name, password) = (decode(ours[0]), decode(ours[2]));
    let theirs = decode("Zk3v0dP1yHq8mRt5sLw7uXcBnQa2eFgJ4iKoV6TzN9E");
    let named =
        |component: &[u8]| [&name[..], b":", component, b":", &theirs, b":", component, &[0; 2]].concat();

    let stranger = call.socket(99);
    assert!(!call.is_answered(&stranger, &check(&named(b"1"), b"another password", Form::Padded, &[])));
    assert!(
        !call.is_answered(&stranger, &check(&named(b"2"), &password, Form::Padded, &[])),
        "of the other port"
    );

    let mut bytes = vec![0, 1, 0, 0];
    bytes.extend(COOKIE);
    bytes.extend(*b"transaction!");
    attribute(&mut bytes, 0x0006, &named(b"1"));
    sign(&mut bytes, &password, Form::Padded, false);
    let peer = UdpSocket::bind((call.site.pool_address("pool06"), 50_020)).unwrap();
    peer.send_to(&bytes, call.at).unwrap();
    let response = call.hear(&peer, 0);
    assert_eq!(verified(&response, &password, Form::Padded, false), peer.local_addr().unwrap());
    assert!(call.hear(&peer, 2).len() > 12, "media at the address of the description");
}

#[test]
fn an_offer_whose_addresses_are_no_candidates_and_a_gateway_without_ice_are_answered_without() {
    let call = IceCall::place("04-lync-encryption-none.sip", "pool06", |body| {
        body.replace("m=audio 50010", "m=audio 50040")
    });
    assert!(call.answer.contains("\r\na=ice-mismatch\r\n") && !call.answer.contains("ice-ufrag"));

    let site = Site::start_as(|config| config.replace("[media]\n", "[media]\nice = \"off\"\n"));
    let caller = site.pool("pool06");
    let bytes = sample(&site, "04-lync-encryption-none.sip", site.pool_address("pool06"));
    let answer = final_response(&site, &caller, bytes).unwrap();
    assert_eq!(status(Some(&answer)), 200);
    assert!(!answer.contains("a=ice") && !answer.contains("a=candidate"), "{answer}");
}
