//! SIPp as the UM server that places calls and sends notifications, SIPp as the IP-PBX that takes them.

use std::time::Duration;

use crate::harness::{Gateway, Net, folder, http_get, peers_present};
use crate::sipp::{UAC, plain_config, run_uac, start_uas_at, write_scenarios};

const CALLS: usize = 20;
/// Where the configuration has the IP-PBX.
const PBX_PORT: u16 = 5070;

/// The caller of the other tests as a UM server: another telephone, from a mailbox, and nobody diverted.
fn um_calls() -> String {
    let um = UAC.replace("88895", "+14255550121").replace("\"Reception\" ", "").replace("10048", "65514");
    um.lines().filter(|line| !line.starts_with("Diversion:")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn calls_that_um_places_reach_the_telephone_with_media_both_ways() {
    if !peers_present(&["sipp"]) {
        return;
    }
    let net = Net::new();
    let (pbx, gateway, um) = (net.host(10), net.host(20), net.host(30));
    let folder = folder();
    write_scenarios(folder.path());
    std::fs::write(folder.path().join("uac.xml"), um_calls()).unwrap();
    let _telephone = start_uas_at(folder.path(), "uas.xml", (pbx, PBX_PORT), CALLS);
    let mut umbra = Gateway::start(folder, gateway, 5060, &plain_config(pbx, gateway, um));
    println!("{}", run_uac(umbra.folder.path(), "uac.xml", um, (gateway, 5060), CALLS));
    let records = umbra.wait_for_records(CALLS, Duration::from_secs(10));
    for record in &records {
        assert_eq!(record["call_type"], "PlayOnPhone", "{record:#}");
        assert_eq!(
            (&record["reason_for_call"], &record["offer_result"]),
            (&"Outbound".into(), &"Answer".into())
        );
        assert_eq!((&record["called"], &record["ip_gateway"]), (&"+14255550121".into(), &"pbx".into()));
        assert_eq!(record["dial_plan"], "DP-Pbx");
        for side in ["packets_from_a", "packets_from_b"] {
            assert!(record["media"][side].as_u64().unwrap_or(0) >= 100, "{side} in {record:#}");
        }
    }
    assert_eq!(umbra.stop(), 0, "{}", umbra.process.output());
}

#[test]
fn calls_of_um_without_a_gateway_that_allows_them_are_refused_with_61005() {
    if !peers_present(&["sipp"]) {
        return;
    }
    let net = Net::new();
    let (pbx, gateway, um) = (net.host(10), net.host(20), net.host(30));
    let folder = folder();
    write_scenarios(folder.path());
    let refused = um_calls().replace(
        "<recv response=\"200\" rtd=\"true\" rrs=\"true\"/>",
        "<recv response=\"403\"><action><ereg regexp=\"^ *61005;.*UMB-GW004\" search_in=\"hdr\" \
         header=\"ms-diagnostics:\" check_it=\"true\" assign_to=\"1\"/></action></recv>",
    );
    let end = refused.find("<nop>").unwrap();
    let scenario = format!("{}<Reference variables=\"1\"/>\n</scenario>\n", &refused[..end]);
    std::fs::write(folder.path().join("uac.xml"), scenario).unwrap();
    let config =
        plain_config(pbx, gateway, um).replace("port = 5070", "port = 5070\noutcalls_allowed = false");
    let mut umbra = Gateway::start(folder, gateway, 5060, &config);
    run_uac(umbra.folder.path(), "uac.xml", um, (gateway, 5060), 1);
    let records = umbra.wait_for_records(1, Duration::from_secs(10));
    assert_eq!(records[0]["verdict"]["code"], "UMB-GW004", "{:#}", records[0]);
    assert_eq!(umbra.stop(), 0, "{}", umbra.process.output());
}

#[test]
fn message_waiting_of_um_reaches_the_pbx_whole_and_is_counted() {
    if !peers_present(&["sipp"]) {
        return;
    }
    let net = Net::new();
    let (pbx, gateway, um) = (net.host(10), net.host(20), net.host(30));
    let folder = folder();
    for (name, text) in [
        ("notify-uac.xml", include_str!("sipp/notify-uac.xml")),
        ("notify-uas.xml", include_str!("sipp/notify-uas.xml")),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let mut pbx_side = start_uas_at(folder.path(), "notify-uas.xml", (pbx, PBX_PORT), CALLS);
    let config = plain_config(pbx, gateway, um).replace("http = \"\"", &format!("http = \"{gateway}:9065\""));
    let mut umbra = Gateway::start(folder, gateway, 5060, &config);
    run_uac(umbra.folder.path(), "notify-uac.xml", um, (gateway, 5060), CALLS);
    assert_eq!(pbx_side.wait(Duration::from_secs(10)), 0, "{}", pbx_side.output());
    let metrics = http_get(gateway, 9065, "/metrics");
    let wanted = format!("umbra_mwi_notifications_total{{result=\"delivered\"}} {CALLS}");
    assert!(metrics.contains(&wanted), "{metrics}");
    assert_eq!(umbra.stop(), 0, "{}", umbra.process.output());
}
