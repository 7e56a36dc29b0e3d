//! `umbra servers` against the running binary: reasons, drain and its end, and calls that follow.

use std::collections::BTreeSet;
use std::process::Output;
use std::time::{Duration, Instant};

use crate::harness::{Gateway, Net, folder, umbra};
use crate::traffic::{Caller, config, start_um};

const CALLS: usize = 4;

fn servers(net: Net, words: &[&str]) -> Output {
    let endpoint = format!("{}:9065", net.host(20));
    umbra().arg("servers").args(words).args(["--server", &endpoint]).env("NO_COLOR", "1").output().unwrap()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The gauges are told a few times a second.
fn wait_for(net: Net, words: &[&str], wanted: &str) -> String {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let text = printed(&servers(net, words));
        if text.contains(wanted) {
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
    wait_for(net, &["list"], "mbx01.contoso.test  no new calls");
    let mut caller = Caller::new(net.host(10), net.host(20));
    caller.run(0, CALLS, 4, Duration::from_secs(20));
    assert_eq!(took(&gateway, 0), BTreeSet::from(["mbx02.contoso.test".to_owned()]));
    let why = wait_for(net, &["why", "mbx03.contoso.test"], "rests");
    assert!(why.contains("Refused"), "{why}");
    let why = wait_for(net, &["why", "MBX01.contoso.test"], "drained");
    assert!(why.contains("an operator"), "{why}");
    assert_eq!(servers(net, &["enable", "mbx01.contoso.test"]).status.code(), Some(0));
    assert_eq!(servers(net, &["disable", "mbx02.contoso.test"]).status.code(), Some(0));
    wait_for(net, &["list"], "mbx02.contoso.test  disabled");
    caller.run(CALLS, CALLS, 4, Duration::from_secs(20));
    assert_eq!(took(&gateway, CALLS), BTreeSet::from(["mbx01.contoso.test".to_owned()]));
    assert_eq!(servers(net, &["drain", "nobody.example"]).status.code(), Some(1));
    let json: serde_json::Value =
        serde_json::from_slice(&servers(net, &["why", "mbx01.contoso.test", "-o", "json"]).stdout).unwrap();
    let turns: Vec<&str> =
        json["changes"].as_array().unwrap().iter().filter_map(|c| c["to"].as_str()).collect();
    assert_eq!(turns, ["draining", "enabled"]);
    assert_eq!(gateway.stop(), 0, "{}", gateway.process.output());
    assert_eq!(servers(net, &["list"]).status.code(), Some(69));
}
