//! The configuration is reloaded under load, good and bad files in turn: no call is lost, a bad file changes nothing and the
//! log says where it is wrong.

use std::time::{Duration, Instant};

use crate::harness::{Gateway, Net, folder, http_get, metric_sum, size};
use crate::traffic::{Caller, alone, config, start_um};

/// New calls a second.
const RATE: usize = 20;
/// Good files, and as many bad ones; `UMBRA_RELOADS=100` is the size of a release.
const RELOADS: usize = 10;
/// Between two reloads.
const BETWEEN: Duration = Duration::from_millis(150);
const ADMIN: u16 = 9065;

/// A file that must be refused, and the place that the reason must name.
fn bad(good: &str, number: usize) -> (String, String) {
    let place = |word: &str| {
        let line = good.lines().position(|line| line.contains(word)).unwrap() + 1;
        format!("umbra.toml:{line}:")
    };
    match number % 4 {
        0 => (good.replace("[[ip_gateway]]", "[[ip_gateway"), place("[[ip_gateway]]")),
        1 => (good.replace("= \"Unsecured\"", "= \"Sealed\""), place("voip_security")),
        2 => (String::new(), "umbra.toml".to_owned()),
        // Cut off in the middle of a quoted value, another one each time.
        _ => {
            let values: Vec<usize> = good.match_indices(" = \"").map(|(at, _)| at).collect();
            let cut = values[number * 5 % values.len()] + 5;
            let line = good[..cut].lines().count();
            (good[..cut].to_owned(), format!("umbra.toml:{line}:"))
        }
    }
}

struct Reloaded {
    gateway: Gateway,
    seen: usize,
}

impl Reloaded {
    /// Writes the file, asks for a reload and waits for its log line.
    fn with(&mut self, text: &str) -> String {
        std::fs::write(self.gateway.folder.path().join("umbra.toml"), text).unwrap();
        self.gateway.process.signal("HUP");
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let log = self.gateway.process.output();
            let told = |line: &&str| line.contains("\"reloaded\"") || line.contains("\"reload_refused\"");
            if let Some(line) = log.lines().filter(told).nth(self.seen) {
                self.seen += 1;
                return line.to_owned();
            }
            assert!(Instant::now() < until, "no word about the reload:\n{log}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_taken(&self) -> bool {
        let metrics = http_get(self.gateway.address, ADMIN, "/metrics");
        metric_sum(&metrics, "umbra_config_last_reload_successful") == 1.0
    }
}

#[test]
fn reloads_under_load_lose_no_call_and_a_bad_file_changes_nothing_and_says_where() {
    let _alone = alone();
    let net = Net::new();
    start_um(net.host(30));
    let (address, pbx) = (net.host(20), net.host(10));
    let extra = format!("[admin]\nhttp = \"{address}:{ADMIN}\"\n[listen]\nstartup_mode = \"TCP\"\n");
    let good = config(net, &extra);
    let mut under = Reloaded { gateway: Gateway::start(folder(), address, 5060, &good), seen: 0 };
    let reloads = size("UMBRA_RELOADS", RELOADS);
    let seconds = (2 * reloads as u32 * BETWEEN).as_secs() as usize + 2;
    let calls = std::thread::spawn(move || {
        let mut caller = Caller::new(pbx, address);
        caller.run(0, RATE * seconds, RATE, Duration::from_secs(seconds as u64 + 20));
        caller
    });
    for number in 0..reloads {
        let changed =
            good.replace("max_calls_allowed = 1000", &format!("max_calls_allowed = {}", 900 + number));
        assert_ne!(changed, good);
        let line = under.with(&changed);
        assert!(line.contains("\"reloaded\"") && under.is_taken(), "{line}");
        std::thread::sleep(BETWEEN);
        let (text, place) = bad(&good, number);
        let line = under.with(&text);
        assert!(line.contains("\"reload_refused\"") && !under.is_taken(), "{line}\n{text}");
        assert!(line.contains(&place), "{place}: {line}");
        std::thread::sleep(BETWEEN);
    }
    assert!(!calls.is_finished(), "the last reload came when the calls were over");
    let caller = calls.join().unwrap();
    println!("{reloads} good and {reloads} bad files under {} calls", caller.calls.len());
    assert_eq!(caller.good(), RATE * seconds, "{}", under.gateway.process.output());
}
