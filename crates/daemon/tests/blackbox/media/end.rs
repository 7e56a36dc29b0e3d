//! One end of a call's media, played by hand: two sockets, packets that say whose they are, SRTP by `webrtc-srtp` (the
//! gateway's own transform is another), and a tally of all that arrives. Owns packets; refuses to know signalling.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

/// Key and salt of one direction, as SDES writes them.
pub type Inline = [u8; 30];

/// In everything that is not a peer's; where it arrives, it was let through.
pub const INJECTED: &[u8] = b"never sent by a peer";
/// Payload types of speech and of telephone-events.
pub const SPEECH: u8 = 0;
pub const EVENT: u8 = 101;
const SUITE: &str = "AES_CM_128_HMAC_SHA1_80";
const GOOD: &[u8] = b"of a peer ";
/// 20 ms of G.711.
const PAYLOAD_BYTES: usize = 160;
/// RTCP with its index and tag is longer; `webrtc-srtp` panics on less.
const SEALED_REPORT_BYTES_MIN: usize = 8 + 4 + 10;

/// What arrived at an end.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub sent: u32,
    /// Different packets of the other end.
    pub heard: u32,
    /// Packets of the other end that had come before.
    pub doubles: u32,
    /// Whatever else came.
    pub foreign: u32,
    /// RTCP in order.
    pub reports: u32,
    seen: Vec<bool>,
}

impl Tally {
    fn note(&mut self, number: usize) {
        if self.seen.len() <= number {
            self.seen.resize(number + 1, false);
        }
        match std::mem::replace(&mut self.seen[number], true) {
            true => self.doubles += 1,
            false => self.heard += 1,
        }
    }

    /// Whether the other end's packet of this number came.
    pub fn has(&self, number: u32) -> bool {
        self.seen.get(number as usize).copied().unwrap_or_default()
    }
}

struct Keys {
    own: Inline,
    /// Described, and not used yet.
    next: Option<Inline>,
    sealing: Context,
    /// Every key the relay named, the newest last.
    opening: Vec<(Inline, Context)>,
}

/// One end.
pub struct End {
    pub rtp: UdpSocket,
    pub rtcp: UdpSocket,
    pub address: Ipv4Addr,
    pub ssrc: u32,
    pub sequence: u16,
    pub timestamp: u32,
    pub tally: Tally,
    /// Telephone-events, in the clear and as they came.
    pub events: Vec<Vec<u8>>,
    /// Which of the relay's keys each packet came under, counted from the first.
    pub opened_by: Vec<usize>,
    /// The RTP port's last packet, as it came.
    pub came_last: Vec<u8>,
    /// While an answer is waited for, which may name a key: what came under it before.
    early: Option<Vec<Vec<u8>>>,
    keys: Option<Keys>,
    label: u32,
    relay: Option<(SocketAddr, SocketAddr)>,
    version: u32,
}

impl End {
    /// Ends with labels 2n and 2n + 1 belong together.
    pub fn new(address: Ipv4Addr, label: u32, is_sealed: bool) -> Self {
        let (rtp, rtcp) = sockets(address);
        let keys = is_sealed.then(|| {
            let own: Inline = rand::random();
            Keys { own, next: None, sealing: context(&own), opening: Vec::new() }
        });
        Self {
            rtp,
            rtcp,
            address,
            ssrc: rand::random(),
            sequence: rand::random::<u16>() >> 1,
            timestamp: rand::random(),
            tally: Tally::default(),
            events: Vec::new(),
            opened_by: Vec::new(),
            came_last: Vec::new(),
            early: None,
            keys,
            label,
            relay: None,
            version: 0,
        }
    }

    /// Two that belong together.
    pub fn pair(homes: [Ipv4Addr; 2], number: u32, is_sealed: [bool; 2]) -> [Self; 2] {
        [0, 1].map(|side: u32| {
            let at = side as usize;
            Self::new(homes[at], 2 * number + side, is_sealed[at])
        })
    }

    /// Its session description.
    pub fn describe(&mut self) -> String {
        self.version += 1;
        let (at, port) = (self.address, self.rtp.local_addr().unwrap().port());
        let (profile, crypto) = match &self.keys {
            None => ("RTP/AVP", String::new()),
            Some(keys) => {
                let inline = BASE64_STANDARD.encode(keys.next.unwrap_or(keys.own));
                ("RTP/SAVP", format!("a=crypto:1 {SUITE} inline:{inline}\r\n"))
            }
        };
        format!(
            "v=0\r\no=- {} {} IN IP4 {at}\r\ns=-\r\nc=IN IP4 {at}\r\nt=0 0\r\nm=audio {port} {profile} {SPEECH} {EVENT}\r\n\
             a=rtpmap:{SPEECH} PCMU/8000\r\na=rtpmap:{EVENT} telephone-event/8000\r\na=fmtp:{EVENT} 0-15\r\n{crypto}",
            self.label + 1,
            self.version,
        )
    }

    /// Takes what the relay describes: where it listens, and its key.
    pub fn agree(&mut self, message: &str) {
        let field = |name: &str| message.lines().rev().find_map(|line| line.strip_prefix(name));
        let at: Ipv4Addr = field("c=IN IP4 ").unwrap().trim().parse().unwrap();
        let port: u16 = field("m=audio ").unwrap().split(' ').next().unwrap().parse().unwrap();
        self.relay = Some(((at, port).into(), (at, port + 1).into()));
        if let Some(keys) = &mut self.keys {
            let line = message.lines().find(|l| l.starts_with("a=crypto:") && l.contains(SUITE));
            let inline =
                line.unwrap_or_else(|| panic!("no key in\n{message}")).split("inline:").nth(1).unwrap();
            let inline = inline.split(['|', ' ']).next().unwrap().trim();
            let inline: Inline = BASE64_STANDARD.decode(inline).unwrap().try_into().unwrap();
            if keys.opening.last().is_none_or(|(known, _)| *known != inline) {
                keys.opening.push((inline, context(&inline)));
            }
        }
        self.early.take().into_iter().flatten().for_each(|packet| self.takes(&packet));
    }

    /// Keeps what it cannot open until it agrees: an answerer may send under its key when the answer is under way.
    pub fn waits_for_answer(&mut self) {
        self.early = Some(Vec::new());
    }

    /// Describes a fresh key from now on, and goes on with the one in use until [`Self::switches_key`].
    pub fn renews_key(&mut self) {
        self.keys.as_mut().unwrap().next = Some(rand::random());
    }

    pub fn switches_key(&mut self) {
        let keys = self.keys.as_mut().unwrap();
        keys.own = keys.next.take().unwrap();
        keys.sealing = context(&keys.own);
    }

    /// The key it protects with.
    pub fn own_key(&self) -> Option<Inline> {
        self.keys.as_ref().map(|keys| keys.own)
    }

    /// How many keys the relay has named so far.
    pub fn keys_named(&self) -> usize {
        self.keys.as_ref().map_or(0, |keys| keys.opening.len())
    }

    /// Other sockets than those it described.
    pub fn moves(&mut self) {
        (self.rtp, self.rtcp) = sockets(self.address);
    }

    /// Whether it knows where to send.
    pub fn is_agreed(&self) -> bool {
        self.relay.is_some()
    }

    /// Where the relay takes RTP and RTCP of this end.
    pub fn relay(&self) -> (SocketAddr, SocketAddr) {
        self.relay.unwrap()
    }

    /// Sends the next packet of speech; its bytes as sent.
    pub fn speaks(&mut self) -> Vec<u8> {
        let mut payload = [GOOD, &self.label.to_be_bytes(), &self.tally.sent.to_be_bytes()].concat();
        payload.resize(PAYLOAD_BYTES, 0xff);
        self.tally.sent += 1;
        self.timestamp = self.timestamp.wrapping_add(PAYLOAD_BYTES as u32);
        let packet = self.next(SPEECH, self.timestamp, &payload);
        // The kernel may refuse for an ICMP error of before; the packet is then lost, as networks lose them.
        let _lost = self.rtp.send_to(&packet, self.relay().0);
        packet
    }

    /// The next packet of this end, protected where it is sealed, not sent.
    pub fn next(&mut self, payload_type: u8, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        let packet = rtp(payload_type, self.sequence, timestamp, self.ssrc, payload);
        self.sequence = self.sequence.wrapping_add(1);
        match &mut self.keys {
            None => packet,
            Some(keys) => keys.sealing.encrypt_rtp(&packet).unwrap().to_vec(),
        }
    }

    /// Sends a sender report.
    pub fn reports(&mut self) {
        let mut report = vec![0x80, 200, 0, 6];
        report.extend(self.ssrc.to_be_bytes());
        report.extend([0; 8]);
        [self.timestamp, self.tally.sent, self.tally.sent * PAYLOAD_BYTES as u32]
            .iter()
            .for_each(|word| report.extend(word.to_be_bytes()));
        report.extend([0x81, 202, 0, 2]);
        report.extend(self.ssrc.to_be_bytes());
        report.extend([1, 1, b'e', 0]);
        if let Some(keys) = &mut self.keys {
            report = keys.sealing.encrypt_rtcp(&report).unwrap().to_vec();
        }
        let _lost = self.rtcp.send_to(&report, self.relay().1);
    }

    /// Takes whatever has arrived.
    pub fn drains(&mut self) {
        let mut buffer = [0; 2048];
        while let Ok(count) = self.rtp.recv(&mut buffer) {
            self.came_last.clear();
            self.came_last.extend_from_slice(&buffer[..count]);
            self.takes(&buffer[..count]);
        }
        while let Ok(count) = self.rtcp.recv(&mut buffer) {
            self.takes(&buffer[..count]);
        }
    }

    /// Whether the other end's packet of that number comes in time.
    pub fn hears(&mut self, number: u32, longest: Duration) -> bool {
        let until = Instant::now() + longest;
        loop {
            self.drains();
            if self.tally.has(number) || Instant::now() >= until {
                return self.tally.has(number);
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    fn takes(&mut self, bytes: &[u8]) {
        let is_report = bytes.get(1).is_some_and(|kind| (192..=223).contains(kind));
        let Some(clear) = self.opens(bytes, is_report) else {
            match &mut self.early {
                Some(early) => early.push(bytes.to_vec()),
                None => self.tally.foreign += 1,
            }
            return;
        };
        if clear.windows(INJECTED.len()).any(|window| window == INJECTED) {
            self.tally.foreign += 1;
        } else if is_report {
            self.tally.reports += 1;
        } else if clear.len() == 16 && clear[1] & 0x7f == EVENT {
            self.events.push(clear);
        } else {
            match number(&clear, self.label ^ 1) {
                Some(number) => self.tally.note(number as usize),
                None => self.tally.foreign += 1,
            }
        }
    }

    fn opens(&mut self, bytes: &[u8], is_report: bool) -> Option<Vec<u8>> {
        let Some(keys) = &mut self.keys else { return Some(bytes.to_vec()) };
        // The newest first.
        for (at, (_, opening)) in keys.opening.iter_mut().enumerate().rev() {
            let opened = match is_report {
                true if bytes.len() < SEALED_REPORT_BYTES_MIN => return None,
                true => opening.decrypt_rtcp(bytes),
                false => opening.decrypt_rtp(bytes),
            };
            if let Ok(clear) = opened {
                self.opened_by.push(at);
                return Some(clear.to_vec());
            }
        }
        None
    }
}

/// An RTP packet (RFC 3550 §5.1).
pub fn rtp(payload_type: u8, sequence: u16, timestamp: u32, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, payload_type];
    packet.extend(sequence.to_be_bytes());
    packet.extend(timestamp.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

/// SRTP under that key.
pub fn context(key: &Inline) -> Context {
    let (master, salt) = key.split_at(16);
    Context::new(master, salt, ProtectionProfile::Aes128CmHmacSha1_80, None, None).unwrap()
}

/// The number of a clear packet of speech of that end.
fn number(clear: &[u8], label: u32) -> Option<u32> {
    let rest = clear.get(12..)?.strip_prefix(GOOD)?.strip_prefix(&label.to_be_bytes())?;
    Some(u32::from_be_bytes(rest.get(..4)?.try_into().ok()?))
}

/// An even port and the next.
fn sockets(address: Ipv4Addr) -> (UdpSocket, UdpSocket) {
    loop {
        let rtp = UdpSocket::bind((address, 0)).unwrap();
        let port = rtp.local_addr().unwrap().port();
        if port.is_multiple_of(2)
            && let Ok(rtcp) = UdpSocket::bind((address, port + 1))
        {
            rtp.set_nonblocking(true).unwrap();
            rtcp.set_nonblocking(true).unwrap();
            return (rtp, rtcp);
        }
    }
}
