//! The gateway is killed under load and started again at once: only calls of the next second are lost.

use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::harness::{Gateway, Net, folder, size};
use crate::traffic::{Wire, alone, config, line, request, start_um, try_connect};

/// New calls a second.
const RATE: usize = 50;
/// How often it is killed; `UMBRA_KILLS=20` is the size of a release.
const KILLS: usize = 2;
/// Between two kills.
const BETWEEN: Duration = Duration::from_secs(2);
/// A call placed later than this after the kill is not lost.
const LOST_MAX: Duration = Duration::from_secs(1);

/// A whole call on a connection of its own; whether everything was answered 200.
fn call(from: Ipv4Addr, to: Ipv4Addr, number: usize) -> bool {
    let Ok(stream) = try_connect(from, to) else { return false };
    let mut wire = Wire::new(stream);
    let say = |wire: &mut Wire, text: &str| wire.stream.write_all(text.as_bytes()).is_ok();
    if !say(&mut wire, &request("INVITE", number, 1, "", from)) {
        return false;
    }
    let Some(answer) = finally(&mut wire) else { return false };
    let to_line = line(&answer, "To:");
    let tag = to_line.find(";tag=").map_or("", |at| &to_line[at..]);
    let words = request("ACK", number, 1, tag, from) + &request("BYE", number, 2, tag, from);
    answer.starts_with("SIP/2.0 200 ")
        && say(&mut wire, &words)
        && finally(&mut wire).is_some_and(|answer| answer.starts_with("SIP/2.0 200 "))
}

fn finally(wire: &mut Wire) -> Option<String> {
    loop {
        let message = wire.hear()?;
        if !message.starts_with("SIP/2.0 1") {
            return Some(message);
        }
    }
}

#[test]
fn killed_under_load_it_is_back_at_once_and_no_call_is_lost_later_than_a_second_after() {
    let _alone = alone();
    let net = Net::new();
    start_um(net.host(30));
    let text = config(net, "[listen]\nstartup_mode = \"TCP\"\n");
    let mut gateway = Gateway::start(folder(), net.host(20), 5060, &text);
    let (from, to, kills) = (net.host(10), gateway.address, size("UMBRA_KILLS", KILLS));
    let lasting = BETWEEN * (kills as u32 + 1);
    let (sender, outcomes) = mpsc::channel();
    let load = std::thread::spawn(move || {
        let start = Instant::now();
        for number in 0..RATE * lasting.as_secs() as usize {
            let due = Duration::from_secs(1) * number as u32 / RATE as u32;
            std::thread::sleep(due.saturating_sub(start.elapsed()));
            let (sender, placed) = (sender.clone(), Instant::now());
            std::thread::spawn(move || sender.send((placed, call(from, to, number))));
        }
    });
    let mut killed = Vec::new();
    for _ in 0..kills {
        std::thread::sleep(BETWEEN);
        killed.push(Instant::now());
        gateway.kill_and_restart(5060);
        println!("ready again after {:?}", killed.last().unwrap().elapsed());
    }
    load.join().unwrap();
    let outcomes: Vec<(Instant, bool)> = outcomes.iter().collect();
    let lost: Vec<Instant> = outcomes.iter().filter(|(_, good)| !good).map(|(placed, _)| *placed).collect();
    println!("{} calls, {} lost", outcomes.len(), lost.len());
    assert_eq!(outcomes.len(), RATE * lasting.as_secs() as usize);
    // A call in progress when it was killed may be lost as well.
    let is_excused =
        |placed: &Instant| killed.iter().any(|at| *placed + BETWEEN / 4 >= *at && *placed <= *at + LOST_MAX);
    let late: Vec<_> = lost.iter().filter(|placed| !is_excused(placed)).collect();
    assert!(late.is_empty(), "{} calls lost that nothing excuses\n{}", late.len(), gateway.process.output());
    assert!(!lost.is_empty(), "nobody noticed that it was killed");
}
