//! Relays that break a rule: rtpengine in user space as Debian has it, and a stand-in that breaks one on purpose. The probes
//! are run against them first.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use webrtc_srtp::context::Context;

use super::end::{EVENT, End, context};
use super::ng::Ng;
use super::{PORTS, Relay};
use crate::harness::{Net, Process, folder, peers_present};

/// Bad tags after which the stand-in ends a call.
pub const PATIENCE: u32 = 100;

/// rtpengine without its kernel module.
pub struct Rtpengine {
    net: Net,
    ports: Range<u16>,
    ng: Ng,
    _process: Process,
    _folder: tempfile::TempDir,
}

impl Rtpengine {
    /// `None`, and said so, where it is not installed.
    pub fn start(ports: Range<u16>) -> Option<Self> {
        if !peers_present(&["rtpengine"]) {
            return None;
        }
        let (net, folder) = (Net::new(), folder());
        let own = net.host(20);
        let mut command = Command::new("rtpengine");
        command.args(["--foreground", "--table=-1", "--log-stderr", "--log-level=3", "--num-threads=2"]);
        command.args([format!("--interface={own}"), format!("--listen-ng={own}:2223")]);
        command.args([format!("--port-min={}", ports.start), format!("--port-max={}", ports.end - 1)]);
        let process = Process::start("rtpengine", &mut command, folder.path());
        let mut ng = Ng::connect((own, 2223).into()).unwrap();
        let is_ready = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            ng.ask(&[("command", "ping")]).is_ok()
        });
        assert!(is_ready, "rtpengine does not start:\n{}", process.output());
        Some(Self { net, ports, ng, _process: process, _folder: folder })
    }

    fn asks(&mut self, number: u32, fields: &[(&str, &str)]) -> String {
        let call = format!("probe-{number}");
        let common =
            [("call-id", call.as_str()), ("from-tag", "a"), ("ICE", "remove"), ("replace", "l6:origine")];
        self.ng.ask(&[&common[..], fields].concat()).unwrap()
    }
}

impl Relay for Rtpengine {
    fn name(&self) -> String {
        String::from("rtpengine")
    }

    fn ports(&self) -> Range<u16> {
        self.ports.clone()
    }

    fn address(&self) -> Ipv4Addr {
        self.net.host(20)
    }

    fn homes(&self) -> [Ipv4Addr; 2] {
        [self.net.host(10), self.net.host(30)]
    }

    fn elsewhere(&self) -> Ipv4Addr {
        self.net.host(66)
    }

    fn begins(&mut self, number: u32, a: &mut End, b: &mut End) {
        let transport = if b.own_key().is_some() { "RTP/SAVP" } else { "RTP/AVP" };
        let offer = a.describe();
        b.agree(
            &self.asks(number, &[("command", "offer"), ("sdp", &offer), ("transport-protocol", transport)]),
        );
        let answer = b.describe();
        a.agree(&self.asks(number, &[("command", "answer"), ("to-tag", "b"), ("sdp", &answer)]));
    }

    fn ends(&mut self, number: u32) {
        self.asks(number, &[("command", "delete")]);
    }
}

/// What the stand-in does wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// Sends to whoever spoke last.
    FollowsAnybody,
    /// Forwards whatever comes.
    PassesAnything,
    /// Ends a call after so many bad tags.
    LosesPatience,
    /// Takes the ends of telephone-events for repetitions.
    LosesEnds,
}

/// A relay of RTP that breaks a rule. What is sealed it hands on as it is: either end is told the other's key.
pub struct Broken {
    net: Net,
    fault: Fault,
    next: u16,
    calls: Vec<(u32, Arc<AtomicBool>)>,
}

impl Broken {
    pub fn new(fault: Fault) -> Self {
        Self { net: Net::new(), fault, next: PORTS.start, calls: Vec::new() }
    }

    fn socket(&mut self) -> UdpSocket {
        let socket = UdpSocket::bind((self.net.host(20), self.next)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        self.next += 2;
        socket
    }
}

impl Relay for Broken {
    fn name(&self) -> String {
        format!("stand-in, {:?}", self.fault)
    }

    fn ports(&self) -> Range<u16> {
        PORTS.start..self.next.max(PORTS.start + 80)
    }

    fn address(&self) -> Ipv4Addr {
        self.net.host(20)
    }

    fn homes(&self) -> [Ipv4Addr; 2] {
        [self.net.host(10), self.net.host(30)]
    }

    fn elsewhere(&self) -> Ipv4Addr {
        self.net.host(66)
    }

    fn begins(&mut self, number: u32, a: &mut End, b: &mut End) {
        let sockets = [Arc::new(self.socket()), Arc::new(self.socket())];
        let told = [a.describe(), b.describe()];
        let (mut homes, mut keys) = (Vec::new(), Vec::new());
        for (end, (other, socket)) in [a, b].into_iter().zip(told.iter().rev().zip(&sockets)) {
            homes.push(end.rtp.local_addr().unwrap());
            keys.push(end.own_key());
            let at = socket.local_addr().unwrap();
            let lines = other.lines().filter(|line| line.starts_with("a=crypto:"));
            let crypto: String = lines.map(|line| format!("{line}\r\n")).collect();
            end.agree(&format!("c=IN IP4 {}\r\nm=audio {} RTP/AVP 0\r\n{crypto}", at.ip(), at.port()));
        }
        let (places, is_over) = (Arc::new(Mutex::new(homes)), Arc::new(AtomicBool::new(false)));
        for (side, key) in keys.iter().enumerate() {
            let opening = key.as_ref().map(context);
            let judge = Judge { fault: self.fault, side, places: places.clone(), opening, bad: 0 };
            let (sockets, is_over) = (sockets.clone(), is_over.clone());
            std::thread::spawn(move || judge.relays(&sockets, &is_over));
        }
        self.calls.push((number, is_over));
    }

    fn ends(&mut self, number: u32) {
        self.calls
            .iter()
            .filter(|(known, _)| *known == number)
            .for_each(|(_, over)| over.store(true, Ordering::Relaxed));
    }
}

impl Drop for Broken {
    fn drop(&mut self) {
        self.calls.iter().for_each(|(_, over)| over.store(true, Ordering::Relaxed));
    }
}

/// One direction of a call.
struct Judge {
    fault: Fault,
    side: usize,
    places: Arc<Mutex<Vec<SocketAddr>>>,
    opening: Option<Context>,
    bad: u32,
}

impl Judge {
    fn relays(mut self, sockets: &[Arc<UdpSocket>; 2], is_over: &AtomicBool) {
        let mut buffer = [0; 2048];
        while !is_over.load(Ordering::Relaxed) {
            let Ok((count, from)) = sockets[self.side].recv_from(&mut buffer) else { continue };
            let bytes = &buffer[..count];
            let mut known = self.places.lock().unwrap();
            if self.fault == Fault::FollowsAnybody {
                known[self.side] = from;
            }
            let places = known.clone();
            drop(known);
            if self.lets_pass(bytes, from == places[self.side], is_over) {
                let _lost = sockets[1 - self.side].send_to(bytes, places[1 - self.side]);
            }
        }
    }

    fn lets_pass(&mut self, bytes: &[u8], is_known: bool, is_over: &AtomicBool) -> bool {
        match self.fault {
            Fault::FollowsAnybody | Fault::PassesAnything => true,
            Fault::LosesEnds => is_known && !is_end_of_event(bytes),
            Fault::LosesPatience => {
                let is_good = self.opening.as_mut().is_none_or(|opening| opening.decrypt_rtp(bytes).is_ok());
                self.bad += u32::from(!is_good);
                is_over.fetch_or(self.bad >= PATIENCE, Ordering::Relaxed);
                is_good
            }
        }
    }
}

/// RFC 4733 §2.3: the end bit.
fn is_end_of_event(bytes: &[u8]) -> bool {
    bytes.len() == 16 && bytes[1] & 0x7f == EVENT && bytes[13] & 0x80 != 0
}
