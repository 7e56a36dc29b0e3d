//! `umbra servers` against the running binary: reasons, drain and its end, and calls that follow.

use std::collections::BTreeSet;
use std::process::Output;
use std::time::{Duration, Instant};

use lab::frontend::CallSpec;
use lab::um::Fault;

use crate::harness::{Gateway, Net, folder, umbra};
use crate::site::Site;
use crate::traffic::{Caller, config, start_um};

const CALLS: usize = 4;

fn servers(net: Net, words: &[&str]) -> Output {
    let endpoint = format!("{}:9065", net.host(20));
    umbra().arg("servers").args(words).args(["--server", &endpoint]).env("NO_COLOR", "1").output().unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Until it has happened.
fn wait_for(net: Net, words: &[&str], wanted: &str) -> String {
    wait_for_times(net, words, wanted, 1)
}

fn wait_for_times(net: Net, words: &[&str], wanted: &str, times: usize) -> String {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let text = printed(&servers(net, words));
        if text.matches(wanted).count() >= times {
            return text;
        }
        assert!(Instant::now() < until, "no {wanted:?} in\n{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Which servers took the calls of that many records.
fn took(gateway: &Gateway, skip: usize) -> BTreeSet<String> {
    let records = gateway.wait_for_records(skip + CALLS, Duration::from_secs(10));
    let fresh = records.iter().skip(skip).inspect(|record| assert_eq!(record["offer_result"], "Answer"));
    fresh.map(|record| record["server"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_server_is_drained_and_enabled_by_command_and_one_that_fails_says_why_it_rests() {
    let net = Net::new();
    let mut text = config(net, "[listen]\nstartup_mode = \"TCP\"\n");
    for number in [2_u8, 3] {
        let address = net.host(29 + number);
        text.push_str(&format!(
            "[[mailbox_server]]\nname = \"mbx0{number}.contoso.test\"\naddress = [\"{address}\"]\n\
             service_ports = {{ tcp = 5062, tls = 5063 }}\ndial_plans = [\"DP\"]\n"
        ));
    }
    text.push_str(&format!("[admin]\nhttp = \"{}:9065\"\n", net.host(20)));
    // Nobody is at the third.
    start_um(net.host(30));
    start_um(net.host(31));
    let mut gateway = Gateway::start(folder(), net.host(20), 5060, &text);
    let list = wait_for(net, &["list"], "mbx01.contoso.test  up");
    assert_eq!(list.lines().count(), 4, "{list}");
    assert_eq!(servers(net, &["drain", "mbx01.contoso.test"]).status.code(), Some(0));
    // What was wished a moment ago is told.
    let list = printed(&servers(net, &["list"]));
    assert!(list.contains("mbx01.contoso.test  no new calls"), "{list}");
    let mut caller = Caller::new(net.host(10), net.host(20));
    caller.run(0, CALLS, 4, Duration::from_secs(20));
    assert_eq!(took(&gateway, 0), BTreeSet::from(["mbx02.contoso.test".to_owned()]));
    let why = wait_for(net, &["why", "mbx03.contoso.test"], "rests");
    assert!(why.contains("Refused"), "{why}");
    let why = printed(&servers(net, &["why", "MBX01.contoso.test"]));
    assert!(why.contains("drained") && why.contains("an operator"), "{why}");
    assert_eq!(servers(net, &["enable", "mbx01.contoso.test"]).status.code(), Some(0));
    assert_eq!(servers(net, &["disable", "mbx02.contoso.test"]).status.code(), Some(0));
    let list = printed(&servers(net, &["list"]));
    assert!(
        list.contains("mbx01.contoso.test  up") && list.contains("mbx02.contoso.test  disabled"),
        "{list}"
    );
    caller.run(CALLS, CALLS, 4, Duration::from_secs(20));
    assert_eq!(took(&gateway, CALLS), BTreeSet::from(["mbx01.contoso.test".to_owned()]));
    assert_eq!(servers(net, &["drain", "nobody.example"]).status.code(), Some(1));
    let json: serde_json::Value =
        serde_json::from_slice(&servers(net, &["why", "mbx01.contoso.test", "-o", "json"]).stdout).unwrap();
    let turns: Vec<&str> =
        json["changes"].as_array().unwrap().iter().filter_map(|c| c["to"].as_str()).collect();
    assert_eq!(turns, ["draining", "enabled"]);
    // A wish outlives the gateway, also one that is killed.
    gateway.kill_and_restart(5060);
    let list = printed(&servers(net, &["list"]));
    assert!(
        list.contains("mbx01.contoso.test  up") && list.contains("mbx02.contoso.test  disabled"),
        "{list}"
    );
    let log = gateway.process.output();
    assert!(log.contains("mbx02.contoso.test disable") && log.contains("are in force again"), "{log}");
    assert_eq!(gateway.stop(), 0, "{}", gateway.process.output());
    assert_eq!(servers(net, &["list"]).status.code(), Some(69));
}

/// Without a Call Router, calls go to the Mailbox servers in turn; two signalling threads, and servers that are asked every second.
fn probing() -> Site {
    Site::start_as(|config| {
        let router = config.find("[[call_router]]").unwrap();
        let after = router + config[router..].find("[[mailbox_server]]").unwrap();
        format!(
            "{}{}\n[engine]\nshards = 2\n[health]\noptions_interval = \"1s\"\n",
            &config[..router],
            &config[after..]
        )
    })
}

fn call(site: &Site) {
    let pool = site.pool("pool01");
    let spec = CallSpec { talk: None, ..CallSpec::call_answering("ken", "dana", "contoso.com") };
    let outcome = site.block_on(pool.place_call(spec)).unwrap();
    assert_eq!(outcome.status, 200, "{outcome:?}\n{}", site.gateway.process.output());
    site.block_on(pool.close());
}

#[test]
fn a_server_that_dies_between_calls_is_known_by_its_silence_and_no_call_pays_for_it() {
    let mut site = probing();
    let net = site.net;
    for name in ["mbx01.contoso.com", "mbx02.contoso.com"] {
        // Plans of both securities: over TCP and over TLS.
        wait_for_times(net, &["why", name], " ms, last good 20", 2);
    }
    wait_for_times(net, &["list"], " ms  start", 2);
    site.fault("mbx01.contoso.com", Fault::Dead);
    let why = wait_for(net, &["why", "mbx01.contoso.com"], "down      3 OPTIONS over tls failed: Refused: ");
    assert!(why.starts_with("mbx01.contoso.com: down, 0/200 calls\n"), "{why}");
    let last_good = why.split(", last good ").last().unwrap();
    assert!(last_good.len() >= 9 && last_good.as_bytes()[8] == b'Z', "a time of day: {why}");
    for _ in 0..4 {
        call(&site);
    }
    let records = site.gateway.wait_for_records(4, Duration::from_secs(10));
    assert!(
        records.iter().all(|r| r["server"] == "mbx02.contoso.com" && r["failovers"] == 0),
        "{records:#?}"
    );
    let metrics = site.metrics();
    let gauge =
        |name: &str, up: u8| format!("umbra_peer_up{{role=\"mailbox_server\",peer=\"{name}\"}} {up}\n");
    assert!(metrics.contains(&gauge("mbx01.contoso.com", 0)), "{metrics}");
    assert!(metrics.contains(&gauge("mbx02.contoso.com", 1)), "{metrics}");
    assert!(metrics.contains("umbra_peer_options_rtt_seconds_count{role=\"mailbox_server\",peer=\"mbx02"));
    site.fault("mbx01.contoso.com", Fault::None);
    let back =
        wait_for(net, &["why", "mbx01.contoso.com"], "up        answered OPTIONS over tls, 2 in a row");
    assert!(back.contains("3 OPTIONS over tls failed"), "the history stays: {back}");
    wait_for(net, &["list"], "mbx01.contoso.com  up");
    // Whoever answers there now is somebody else.
    site.fault("mbx01.contoso.com", Fault::Dead);
    site.fault("mbx01.contoso.com", Fault::WrongCertificate("mbx09.contoso.com".into()));
    wait_for(net, &["why", "mbx01.contoso.com"], "TlsName");
    // A server that sends everybody elsewhere says so itself.
    site.fault("mbx02.contoso.com", Fault::Unavailable);
    wait_for(net, &["why", "mbx02.contoso.com"], "3 OPTIONS over tls failed: answered 503");
    let status = umbra()
        .args(["status", "--server", &format!("{}:9065", net.host(20))])
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let status = printed(&status);
    assert!(status.contains("down") && status.contains("umbra explain UMB-PEER003"), "{status}");
    // Changes are told, probes are not.
    let log = site.gateway.process.output();
    let told = log.lines().filter(|line| line.contains("OPTIONS")).count();
    assert!((4..=16).contains(&told), "{told} lines:\n{log}");
    assert_eq!(site.gateway.stop(), 0, "{}", site.gateway.process.output());
}
