//! Every sample message sent to the running gateway: routed or refused as `tests/data/samples/index.json` says.
//! Addresses in the samples are documentation addresses; here they are replaced by those of the test's own loopback network,
//! so that nothing is ever sent anywhere else.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use lab::frontend::Caller;

use crate::site::{KEN, PBX_HOST, Site};

const WAIT: Duration = Duration::from_millis(1_500);

/// (file, pool that sends it, expected final status; 0 = no answer at all).
const OVER_TLS: &[(&str, &str, u16)] = &[
    ("01-lync2013-call-answering-multipart.sip", "pool01", 200),
    ("01-lync2013-call-answering-multipart.sip", "pool02", 488),
    ("02-lync2015-call-answering.sip", "pool01", 200),
    ("02-lync2015-call-answering.sip", "pool02", 488),
    ("03-lync-encryption-optional.sip", "pool03", 200),
    ("03-lync-encryption-optional.sip", "pool04", 200),
    ("04-lync-encryption-none.sip", "pool06", 200),
    ("04-lync-encryption-none.sip", "pool05", 488),
    ("05-lync-own-mailbox-subscriber-access.sip", "pool01", 200),
    ("06-lync-auto-attendant-contact.sip", "pool01", 200),
    ("07-lync-phone-context-ext.sip", "pool01", 200),
    ("08-lync-voice-memo.sip", "pool01", 200),
    ("11-um-302-to-worker.sip", "pool01", 0),
    ("12-exumrouting-500-msdiag.sip", "pool01", 0),
    ("13-um-refer-transfer.sip", "pool01", 481),
    ("15-lync-benotify.sip", "pool01", 0),
    ("16-lync-options.sip", "pool01", 200),
    // A reference for what goes out to a hosted system; coming in, it is a call for the pool's only hunt group.
    ("17-hosted-um-invite.sip", "pool01", 200),
];

/// The sample with addresses of this network, and a Call-ID of its own per sender: the same request with another branch
/// would rightly be a merged one (RFC 3261 §8.2.2.2).
pub fn sample(site: &Site, file: &str, from: std::net::Ipv4Addr) -> Bytes {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/samples");
    let text = String::from_utf8(std::fs::read(folder.join(file)).unwrap()).unwrap();
    let text =
        ["192.0.2.10", "192.0.2.5", "192.0.2.0"].iter().fold(text, |t, a| t.replace(a, &from.to_string()));
    let text = text.replace("198.51.100.20", &site.net.host(PBX_HOST).to_string());
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let lines = head.split("\r\n").map(|line| match line.split_once(": ") {
        Some((name, _)) if name.eq_ignore_ascii_case("content-length") => {
            format!("Content-Length: {}", body.len())
        }
        Some((name, id)) if name.eq_ignore_ascii_case("call-id") => format!("Call-ID: {from}-{id}"),
        _ => line.to_owned(),
    });
    Bytes::from(format!("{}\r\n\r\n{body}", lines.collect::<Vec<_>>().join("\r\n")))
}

/// The final answer to this very call: a 2xx of an earlier one that nobody acknowledged is repeated on the pool's next connection.
pub fn final_response(site: &Site, caller: &Caller, bytes: Bytes) -> Option<String> {
    let asked = call_id(&String::from_utf8_lossy(&bytes));
    let answers = site.block_on(caller.send_raw(bytes, WAIT)).unwrap();
    let mut texts = answers.iter().map(|b| String::from_utf8_lossy(b).into_owned());
    texts.rfind(|t| t.starts_with("SIP/2.0 ") && !t.starts_with("SIP/2.0 1") && call_id(t) == asked)
}

fn call_id(text: &str) -> String {
    let is_it = |line: &&str| line.to_ascii_lowercase().starts_with("call-id:");
    text.lines().find(is_it).map(|line| line["call-id:".len()..].trim().to_owned()).unwrap()
}

pub fn status(response: Option<&str>) -> u16 {
    response.map_or(0, |text| text["SIP/2.0 ".len()..][..3].parse().unwrap())
}

#[test]
fn every_sample_over_tls_is_routed_or_refused_as_the_index_says() {
    let site = Site::start();
    let mut wrong = Vec::new();
    for (file, pool, expected) in OVER_TLS {
        let caller = site.pool(pool);
        let bytes = sample(&site, file, site.pool_address(pool));
        let response = final_response(&site, &caller, bytes);
        let got = status(response.as_deref());
        println!("{file:50} {pool}: {got}");
        if got != *expected {
            wrong.push(format!("{file} from {pool}: {expected} expected, {got} came: {response:?}"));
        }
        if *expected == 488 {
            let text = response.unwrap_or_default();
            assert!(text.starts_with("SIP/2.0 488 Incompatible security setting\r\n"), "{text}");
            assert!(text.contains("Warning: 399 ") && text.contains("ms-diagnostics: 61001;"), "{text}");
        }
        site.block_on(caller.close());
    }
    assert!(wrong.is_empty(), "{}\ngateway:\n{}", wrong.join("\n"), site.gateway.process.output());
}

#[test]
fn ip_pbx_samples_over_tcp_reach_the_unsecured_plan() {
    let site = Site::start();
    for file in ["09-ippbx-tcp-diversion.sip", "10-ippbx-late-offer.sip"] {
        let caller = site.pbx();
        let response = final_response(&site, &caller, sample(&site, file, site.net.host(PBX_HOST)));
        assert_eq!(
            status(response.as_deref()),
            200,
            "{file}: {response:?}\n{}",
            site.gateway.process.output()
        );
        assert!(response.unwrap().contains("m=audio"), "{file}: the 200 carries a session description");
        site.block_on(caller.close());
    }
}

#[test]
fn a_message_waiting_notify_from_a_mailbox_server_reaches_the_pool() {
    let site = Site::start_as(|config| config + KEN);
    let pool = site.pool("pool01");
    let server = site.server("mbx01.contoso.com", 31);
    let response = final_response(&site, &server, sample(&site, "14-um-mwi-notify.sip", site.net.host(31)));
    let log = site.gateway.process.output();
    assert_eq!(status(response.as_deref()), 200, "the Front End's own answer: {response:?}\n{log}");
    site.block_on(pool.close());
}

#[test]
fn samples_that_no_call_claims_are_counted_not_lost() {
    let site = Site::start();
    let caller = site.pool("pool01");
    for file in ["11-um-302-to-worker.sip", "12-exumrouting-500-msdiag.sip", "15-lync-benotify.sip"] {
        let bytes = sample(&site, file, site.pool_address("pool01"));
        assert_eq!(final_response(&site, &caller, bytes), None, "{file} must not be answered");
    }
    let metrics = site.metrics();
    let stray = crate::harness::metric_sum(&metrics, "umbra_dropped_messages_total");
    assert!(stray >= 3.0, "three messages were dropped, the counters say {stray}:\n{metrics}");
}
