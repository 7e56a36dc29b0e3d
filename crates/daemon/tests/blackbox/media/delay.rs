//! What a packet's way through the gateway costs in time, beside the same packet sent directly in the same moment. The
//! figures are printed; they are judged in a run of release size only.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::end::{End, SPEECH, rtp};
use super::{Relay, Umbra};
use crate::harness::size;

const ADDED_P99_MAX: Duration = Duration::from_millis(2);
const ADDED_JITTER_MAX: Duration = Duration::from_millis(1);

/// Arrivals by sequence number.
type Arrivals = BTreeMap<u16, Instant>;

#[derive(Debug)]
struct Way {
    p50: Duration,
    p99: Duration,
    /// RFC 3550 §6.4.1, at the end.
    jitter: Duration,
    arrived: usize,
}

fn listens(socket: &UdpSocket, is_over: &AtomicBool) -> Arrivals {
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (mut arrivals, mut buffer) = (Arrivals::new(), [0; 2048]);
    while !is_over.load(Ordering::Relaxed) {
        if socket.recv(&mut buffer).is_ok() {
            arrivals.insert(u16::from_be_bytes([buffer[2], buffer[3]]), Instant::now());
        }
    }
    arrivals
}

fn way(sent: &Arrivals, arrived: &Arrivals) -> Way {
    let transits: Vec<Duration> = sent
        .iter()
        .filter_map(|(number, at)| Some(arrived.get(number)?.saturating_duration_since(*at)))
        .collect();
    let jitter = transits.windows(2).fold(0.0, |jitter: f64, pair| {
        jitter + (pair[1].as_secs_f64() - pair[0].as_secs_f64()).abs() / 16.0 - jitter / 16.0
    });
    Way {
        p50: quantile(transits.clone(), 50),
        p99: quantile(transits.clone(), 99),
        jitter: Duration::from_secs_f64(jitter),
        arrived: transits.len(),
    }
}

fn quantile(mut values: Vec<Duration>, percent: usize) -> Duration {
    values.sort();
    values.get(values.len() * percent / 100).copied().unwrap_or(Duration::MAX)
}

/// So many packets both ways at once: directly, then through the gateway.
fn measure(is_sealed: bool, packets: u16, pause: Duration) -> (Way, Way, Duration) {
    let mut umbra = Umbra::start(is_sealed);
    let [mut a, mut b] = End::pair(umbra.homes(), 1, [is_sealed; 2]);
    umbra.begins(1, &mut a, &mut b);
    a.sequence = 0;
    let there = UdpSocket::bind((b.address, 0)).unwrap();
    let to: SocketAddr = there.local_addr().unwrap();
    let is_over = AtomicBool::new(false);
    let (mut directly, mut through) = (Arrivals::new(), Arrivals::new());
    let (arrived, relayed) = std::thread::scope(|scope| {
        let arrived = scope.spawn(|| listens(&there, &is_over));
        let relayed = scope.spawn(|| listens(&b.rtp, &is_over));
        for number in 0..packets {
            let sealed = a.next(SPEECH, u32::from(number) * 160, &[0xff; 160]);
            let clear = rtp(SPEECH, number, u32::from(number) * 160, 1, &[0xff; 160]);
            through.insert(number, Instant::now());
            a.rtp.send_to(&sealed, a.relay().0).unwrap();
            std::thread::sleep(pause / 2);
            directly.insert(number, Instant::now());
            a.rtp.send_to(&clear, to).unwrap();
            std::thread::sleep(pause / 2);
        }
        std::thread::sleep(Duration::from_millis(100));
        is_over.store(true, Ordering::Relaxed);
        (arrived.join().unwrap(), relayed.join().unwrap())
    });
    umbra.ends(1);
    let added = through.iter().filter_map(|(number, at)| {
        let through = relayed.get(number)?.saturating_duration_since(*at);
        let direct = arrived.get(number)?.saturating_duration_since(*directly.get(number)?);
        Some(through.saturating_sub(direct))
    });
    let added = quantile(added.collect(), 99);
    (way(&directly, &arrived), way(&through, &relayed), added)
}

#[test]
fn a_packet_comes_through_about_as_fast_as_it_goes_directly() {
    let seconds = size("UMBRA_PROBE_SECONDS", 0);
    let (packets, pause) = match seconds {
        0 => (100, Duration::from_millis(4)),
        _ => ((seconds * 50).min(30_000) as u16, Duration::from_millis(20)),
    };
    for is_sealed in [false, true] {
        let (direct, through, added) = measure(is_sealed, packets, pause);
        for (name, way) in [("direct", &direct), ("through the gateway", &through)] {
            let Way { p50, p99, jitter, arrived } = way;
            println!(
                "delay, sealed {is_sealed}, {name}: p50 {p50:?}, p99 {p99:?}, jitter {jitter:?}, {arrived} of {packets}"
            );
        }
        println!("delay, sealed {is_sealed}: added p99 {added:?}");
        assert!(through.arrived * 100 >= usize::from(packets) * 99, "{through:?}");
        if seconds > 0 {
            assert!(added <= ADDED_P99_MAX, "added p99 {added:?}");
            assert!(through.jitter <= direct.jitter + ADDED_JITTER_MAX, "{direct:?} {through:?}");
        }
    }
}

#[test]
fn a_slow_and_uneven_way_shows_in_the_figures() {
    let began = Instant::now();
    let at =
        |number: u16, millis: u64| (number, began + Duration::from_millis(20 * u64::from(number) + millis));
    let sent: Arrivals = (0..200).map(|number| at(number, 0)).collect();
    let even: Arrivals = (0..200).map(|number| at(number, 1)).collect();
    let uneven: Arrivals =
        (0..200).filter(|number| number % 10 != 3).map(|number| at(number, u64::from(number % 5))).collect();
    let (even, uneven) = (way(&sent, &even), way(&sent, &uneven));
    assert!(even.p99 == Duration::from_millis(1) && even.jitter < Duration::from_micros(1), "{even:?}");
    assert!(
        uneven.p99 > ADDED_P99_MAX && uneven.jitter > ADDED_JITTER_MAX && uneven.arrived == 180,
        "{uneven:?}"
    );
}
