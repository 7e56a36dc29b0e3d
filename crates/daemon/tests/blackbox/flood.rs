//! A flood from an address that is no peer, over connections, messages and datagrams: no state is kept, the log stays quiet,
//! and the calls of a peer do not notice.

use std::collections::VecDeque;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Gateway, Net, folder, http_get, metric_sum, size};
use crate::traffic::{Caller, alone, config, request, start_um, try_connect};

/// What strangers send a second; `UMBRA_FLOOD=10000` is the size of a release.
const PER_SECOND: usize = 1_500;
/// For how long calls are placed meanwhile.
const FLOOD: Duration = Duration::from_secs(3);
/// Calls of the peer before.
const WARM_UP: Duration = Duration::from_secs(1);
/// Calls of the peer a second, meanwhile.
const RATE: usize = 10;
/// Memory that may be more afterwards, whatever was sent: caches of the allocator and of the threads.
const GROWTH_KIB_MAX: usize = 8 * 1024;
/// Connections that a stranger holds open to the end, where it has one for each message.
const HELD: usize = 300;
/// Messages of a stranger over one connection, where it is left open.
const PER_CONNECTION: usize = 50;
/// So long after the last message everything it caused is done.
const SETTLED: Duration = Duration::from_millis(1_500);
const ADMIN: u16 = 9065;

/// What strangers do.
#[derive(Copy, Clone, Debug)]
enum Kind {
    /// A connection with one message each.
    Connections,
    /// Many messages on a connection.
    Messages,
    /// Datagrams.
    Datagrams,
}

fn words(number: usize, from: Ipv4Addr) -> String {
    let known = ["INVITE", "OPTIONS", "SUBSCRIBE", "BYE"];
    match number % 5 {
        at @ 0..4 => request(known[at], number, 1, "", from).replace("over-", "stranger-"),
        _ => format!("\x01\x02 {number} this is no SIP\r\n\r\n"),
    }
}

/// Sends at that rate until told to stop; how much, and the connections that the sender never closed.
fn flood(
    kind: Kind,
    from: Ipv4Addr,
    to: Ipv4Addr,
    rate: usize,
    stop: &AtomicBool,
) -> (usize, VecDeque<TcpStream>) {
    let (start, mut sent) = (Instant::now(), 0);
    let mut open = VecDeque::new();
    let socket = UdpSocket::bind((from, 0)).unwrap();
    let (each, held) = match kind {
        Kind::Datagrams => (usize::MAX, 0),
        Kind::Connections => (1, HELD),
        Kind::Messages => (PER_CONNECTION, 1),
    };
    while !stop.load(Ordering::Relaxed) {
        let due = (start.elapsed().as_secs_f64() * rate as f64) as usize;
        while sent < due && !stop.load(Ordering::Relaxed) {
            let text = words(sent, from);
            if sent % each == 0 {
                open.extend(try_connect(from, to));
                open.drain(..open.len().saturating_sub(held));
            }
            // Nobody listens to a stranger for long.
            let _refused = match open.back_mut() {
                Some(stream) => stream.write_all(text.as_bytes()),
                None => socket.send_to(text.as_bytes(), (to, 5060)).map(drop),
            };
            sent += 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    open.truncate(if each == 1 { held } else { 0 });
    (sent, open)
}

struct Under {
    net: Net,
    gateway: Gateway,
    calls: usize,
}

impl Under {
    fn start(unknown_peer: &str) -> Self {
        let net = Net::new();
        start_um(net.host(30));
        let gateway = net.host(20);
        // A machine that other tests keep busy is no overload: only the gate of the release size stays as it is.
        let patience = if size("UMBRA_FLOOD", 0) == 0 { "queue_wait_max = \"10s\"\n" } else { "" };
        let extra = format!(
            "{patience}[admin]\nhttp = \"{gateway}:{ADMIN}\"\n\
             [listen]\nstartup_mode = \"TCP\"\nudp_port = 5060\nunknown_peer = \"{unknown_peer}\"\n"
        );
        let text = config(net, &extra);
        Self { net, gateway: Gateway::start(folder(), gateway, 5060, &text), calls: 0 }
    }

    fn metrics(&self) -> String {
        http_get(self.gateway.address, ADMIN, "/metrics")
    }

    /// Calls of the peer for so long; all must be good.
    fn peer_calls(&mut self, lasting: Duration) {
        let count = RATE * lasting.as_secs() as usize;
        let mut caller = Caller::new(self.net.host(10), self.gateway.address);
        caller.run(self.calls, count, RATE, lasting + Duration::from_secs(20));
        self.calls += count;
        assert_eq!(caller.good(), count, "{}", self.gateway.process.output());
    }

    /// Connections, once nobody comes or goes and the page shows it.
    fn settled_connections(&self) -> f64 {
        std::thread::sleep(SETTLED);
        metric_sum(&self.metrics(), "umbra_connections")
    }

    /// Log lines that are not about calls.
    fn log_lines(&self) -> usize {
        let about_calls = |line: &&str| line.contains("call_started") || line.contains("call_ended");
        self.gateway.process.output().lines().filter(|line| !about_calls(line)).count()
    }

    /// All kinds at once, the rate shared among them. What caches hold grows with the first flood only, what is kept grows with each.
    fn suffers(&mut self, kinds: &[Kind]) {
        self.peer_calls(WARM_UP);
        let grown = self.suffers_once(kinds);
        if grown > GROWTH_KIB_MAX {
            let again = self.suffers_once(kinds);
            assert!(again <= GROWTH_KIB_MAX, "{grown} KiB more, and {again} KiB more after a second flood");
        }
    }

    /// The memory that is more afterwards, in KiB.
    fn suffers_once(&mut self, kinds: &[Kind]) -> usize {
        let rate = size("UMBRA_FLOOD", PER_SECOND) / kinds.len();
        let connections = self.settled_connections();
        let (memory, lines) = (self.gateway.process.memory_kib(), self.log_lines());
        let (from, to, start) = (self.net.host(66), self.gateway.address, Instant::now());
        let stop = AtomicBool::new(false);
        let mut kept = Vec::new();
        std::thread::scope(|scope| {
            let floods: Vec<_> =
                kinds.iter().map(|kind| scope.spawn(|| flood(*kind, from, to, rate, &stop))).collect();
            self.peer_calls(FLOOD);
            stop.store(true, Ordering::Relaxed);
            for (kind, flood) in kinds.iter().zip(floods) {
                let (sent, open) = flood.join().unwrap();
                println!("{kind:?}: {:.0}/s", sent as f64 / start.elapsed().as_secs_f64());
                kept.push(open);
            }
        });
        let lasted = start.elapsed();
        let left = self.settled_connections();
        let said = self.log_lines() - lines;
        let grown = self.gateway.process.memory_kib().saturating_sub(memory);
        println!("{lasted:.1?}: {said} log lines, {grown} KiB more");
        // A line for each second that was begun.
        let seconds = lasted.as_secs() as usize + 1;
        assert!(said <= seconds, "{said} lines in {seconds} s\n{}", self.gateway.process.output());
        let metrics = self.metrics();
        // Strangers that are answered share one flow of datagrams.
        assert!(left - connections <= 1.0, "{left} connections, before {connections}\n{metrics}");
        assert_eq!(metric_sum(&metrics, "umbra_calls_active"), 0.0);
        // Each call of the peer leaves at most its INVITE and INFO on both legs for a while (RFC 6026 Timer L).
        let held = metric_sum(&metrics, "umbra_sip_transactions") as usize;
        assert!(held <= 4 * self.calls, "{held} transactions after {} calls", self.calls);
        let seen = metric_sum(&metrics, "umbra_unknown_peer_requests_total")
            + metric_sum(&metrics, "umbra_dropped_messages_total");
        assert!(seen > 0.0, "strangers are counted\n{metrics}");
        drop(kept);
        grown
    }
}

#[test]
fn strangers_that_are_dropped_leave_no_state_and_peers_do_not_notice() {
    let _alone = alone();
    Under::start("drop").suffers(&[Kind::Connections, Kind::Datagrams]);
}

#[test]
fn strangers_that_are_rejected_leave_no_state_and_peers_do_not_notice() {
    let _alone = alone();
    Under::start("reject").suffers(&[Kind::Messages, Kind::Datagrams]);
}
