//! Who relays: the gateway's media threads, rtpengine, or nobody. Owns their processes and how sessions are set up with them.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use umbra_benches::load::{Result, cost, text};

use super::host::PORTS;
use super::keys::{self, Inline};
use super::ng::Ng;
use super::options::{Kind, Mode};

/// What the generator has to know of one leg.
pub struct LegEnds {
    /// Where the generator sends to.
    pub relay: SocketAddr,
    /// What it protects with and what it hears under; `None`: clear.
    pub keys: Option<(Inline, Inline)>,
}

/// A running relay; it ends with this value.
pub struct Subject {
    child: Option<Child>,
    control: Control,
    address: IpAddr,
}

enum Control {
    Host { input: ChildStdin, output: BufReader<ChildStdout> },
    Rtpengine(Ng),
    Nobody,
}

impl Subject {
    /// Starts the relay on an address of its own.
    pub fn start(kind: Kind, threads: usize, address: Ipv4Addr) -> Result<Self> {
        let ng = SocketAddr::new(address.into(), 2_223);
        let mut command = match kind {
            Kind::Umbra => {
                let mut command = Command::new(std::env::current_exe().map_err(text)?);
                command.arg("host").arg(address.to_string()).arg(threads.to_string());
                command.stdin(Stdio::piped()).stdout(Stdio::piped());
                command
            }
            Kind::Rtpengine => {
                let mut command = Command::new("rtpengine");
                command.args(["--foreground", "--table=-1", "--log-stderr", "--log-level=3"]);
                command.args([format!("--interface={address}"), format!("--listen-ng={ng}")]);
                command.args([format!("--port-min={}", PORTS.0), format!("--port-max={}", PORTS.1)]);
                command.arg(format!("--num-threads={threads}"));
                // What it complains of is for whoever reads the terminal.
                command.stdin(Stdio::null()).stdout(Stdio::null());
                command
            }
            Kind::Direct => {
                return Ok(Self { child: None, control: Control::Nobody, address: address.into() });
            }
        };
        let mut child = command.spawn().map_err(|why| format!("{}: {why}", kind.name()))?;
        let control = match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => Control::Host { input, output: BufReader::new(output) },
            _ => Control::Rtpengine(Ng::connect(ng)?),
        };
        let mut subject = Self { child: Some(child), control, address: address.into() };
        subject.wait_ready()?;
        Ok(subject)
    }

    /// Its process, if there is one.
    pub fn pids(&self) -> Vec<u32> {
        self.child.as_ref().map(|child| cost::tree(child.id())).unwrap_or_default()
    }

    /// Sets up one session between two addresses of the generator.
    pub fn session(&mut self, number: u32, mode: Mode, a: SocketAddr, b: SocketAddr) -> Result<[LegEnds; 2]> {
        let sealed = [mode != Mode::Rtp, mode == Mode::SrtpSrtp];
        match &mut self.control {
            Control::Nobody => {
                let legs = [b, a].map(|relay| LegEnds { relay, keys: None });
                Ok(legs)
            }
            Control::Host { input, output } => {
                let pairs = sealed.map(|is_sealed| is_sealed.then(|| (keys::fresh(), keys::fresh())));
                let [words_a, words_b] = pairs.each_ref().map(|pair| match pair {
                    Some((from, to)) => format!("{} {}", keys::to_hex(from), keys::to_hex(to)),
                    None => "- -".to_owned(),
                });
                writeln!(input, "{a} {b} {words_a} {words_b}").map_err(text)?;
                let mut line = String::new();
                output.read_line(&mut line).map_err(text)?;
                let ports =
                    line.trim().split_once(' ').and_then(|(a, b)| Some([a.parse().ok()?, b.parse().ok()?]));
                let [port_a, port_b]: [u16; 2] = ports.ok_or("the media threads gave no ports")?;
                let [keys_a, keys_b] = pairs;
                let leg = |port, keys| LegEnds { relay: SocketAddr::new(self.address, port), keys };
                Ok([leg(port_a, keys_a), leg(port_b, keys_b)])
            }
            Control::Rtpengine(ng) => rtpengine_session(ng, number, sealed, a, b),
        }
    }

    fn wait_ready(&mut self) -> Result {
        let Control::Rtpengine(ng) = &mut self.control else { return Ok(()) };
        let mut last = String::new();
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(100));
            match ng.ask(&[("command", "ping")]) {
                Ok(_) => return Ok(()),
                Err(why) => last = why,
            }
        }
        Err(last)
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        // The end of its input is the host's end.
        self.control = Control::Nobody;
        let Some(child) = &mut self.child else { return };
        for attempt in 0..50 {
            if matches!(child.try_wait(), Ok(Some(_))) {
                return;
            }
            if attempt == 5 {
                let _ = Command::new("kill").arg(child.id().to_string()).status();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn rtpengine_session(
    ng: &mut Ng,
    number: u32,
    sealed: [bool; 2],
    a: SocketAddr,
    b: SocketAddr,
) -> Result<[LegEnds; 2]> {
    let [own_a, own_b] = sealed.map(|is_sealed| is_sealed.then(keys::fresh));
    let call = format!("relay-{number}");
    let transport = if sealed[1] { "RTP/SAVP" } else { "RTP/AVP" };
    let common =
        [("call-id", call.as_str()), ("from-tag", "a"), ("ICE", "remove"), ("replace", "l6:origine")];
    let offer = [("command", "offer"), ("sdp", &sdp(a, own_a)), ("transport-protocol", transport)];
    let toward_b = ng.ask(&[&common[..], &offer[..]].concat())?;
    let answer = [("command", "answer"), ("to-tag", "b"), ("sdp", &sdp(b, own_b))];
    let toward_a = ng.ask(&[&common[..], &answer[..]].concat())?;
    Ok([leg(&toward_a, own_a)?, leg(&toward_b, own_b)?])
}

fn sdp(at: SocketAddr, key: Option<Inline>) -> String {
    let (ip, port) = (at.ip(), at.port());
    let profile = if key.is_some() { "RTP/SAVP" } else { "RTP/AVP" };
    let crypto =
        key.map(|key| format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{}\r\n", keys::to_base64(&key)));
    let crypto = crypto.unwrap_or_default();
    format!(
        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} {profile} 0 101\r\n\
         a=rtpmap:0 PCMU/8000\r\na=rtpmap:101 telephone-event/8000\r\na=sendrecv\r\n{crypto}"
    )
}

/// What rtpengine's SDP says, for the side that gets it: where to send, and the key rtpengine protects with.
fn leg(sdp: &str, own: Option<Inline>) -> Result<LegEnds> {
    let field = |name: &str| {
        sdp.lines().find_map(|line| line.strip_prefix(name)).ok_or(format!("no {name} in {sdp}"))
    };
    let ip: IpAddr = field("c=IN IP4 ")?.trim().parse().map_err(text)?;
    let port = field("m=audio ")?.split(' ').next().and_then(|word| word.parse().ok()).ok_or("no port")?;
    let keys = match own {
        None => None,
        Some(own) => {
            let lines = sdp
                .lines()
                .filter(|line| line.starts_with("a=crypto:") && line.contains(" AES_CM_128_HMAC_SHA1_80 "));
            let inline =
                lines.filter_map(|line| line.split_once("inline:")).map(|(_, rest)| rest.trim()).next();
            let inline =
                inline.map(|text| text.split('|').next().unwrap_or(text)).and_then(keys::from_base64);
            Some((own, inline.ok_or(format!("no key in {sdp}"))?))
        }
    };
    Ok(LegEnds { relay: SocketAddr::new(ip, port), keys })
}
