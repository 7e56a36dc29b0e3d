//! Allowances for peers are counted where an operator sees them: each is made to act once, and the metrics page shows it.

use std::io::Write;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use lab::frontend::{Caller, CallerConfig, Target, TlsTarget};
use lab::pki::{CertSpec, Naming, Purpose};

use crate::harness::umbra;
use crate::site::{FQDN, PBX_HOST, Site};
use crate::traffic::{connect, request};

/// The count of an allowance on the metrics page.
fn counted(site: &Site, quirk: &str) -> u64 {
    let series = format!("umbra_events_total{{kind=\"quirk_{}\"}} ", quirk.replace('-', "_"));
    let metrics = site.metrics();
    metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or_default()
}

/// Waits for the count; the page is renewed at intervals.
fn assert_counted(site: &Site, quirk: &str) {
    let until = Instant::now() + Duration::from_secs(10);
    while counted(site, quirk) == 0 {
        assert!(Instant::now() < until, "{quirk} is not counted\n{}", site.metrics());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A Front End of pool01 that shows this certificate connects.
fn connect_with(site: &Site, spec: &CertSpec) {
    let tls = TlsTarget {
        identity: Some(site.pki.ca().issue(spec).unwrap()),
        roots: site.pki.roots(),
        expected_name: FQDN.into(),
    };
    let config = CallerConfig {
        fqdn: "pool01.contoso.com".into(),
        sip_domain: "contoso.com".into(),
        address: site.pool_address("pool01").into(),
        seed: 90,
    };
    let target = Target { address: (site.gateway.address, 5061).into(), tls: Some(tls) };
    let caller = site.block_on(Caller::connect(config, target)).unwrap();
    site.block_on(caller.close());
}

#[test]
fn allowances_that_acted_are_counted_on_the_metrics_page() {
    let site = Site::start();
    let host = CertSpec::host("pool01.contoso.com");
    for (quirk, spec) in [
        ("common-name", host.clone().naming(Naming::SubjectOnly)),
        ("wildcard-san", host.clone().naming(Naming::WildcardSan)),
        ("server-auth-client", host.clone().purpose(Purpose::ServerOnly)),
    ] {
        assert_eq!(counted(&site, quirk), 0, "{quirk}: nothing happened yet");
        connect_with(&site, &spec);
        assert_counted(&site, quirk);
    }
    let pbx: Ipv4Addr = site.net.host(PBX_HOST);
    for (number, (quirk, lines)) in [
        ("diversion-quoting", "Diversion: \"Doe, Jane <sip:1003@contoso.com>\r\n"),
        ("ms-hop-by-hop", "ms-keep-alive: UAC;hop-hop=yes\r\n"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(counted(&site, quirk), 0, "{quirk}: nothing happened yet");
        let invite = request("INVITE", number, 1, "", pbx);
        let invite = invite.replacen("Max-Forwards", &format!("{lines}Max-Forwards"), 1);
        let mut stream = connect(pbx, site.gateway.address);
        stream.write_all(invite.as_bytes()).unwrap();
        assert_counted(&site, quirk);
    }
}

#[test]
fn every_allowance_that_can_be_switched_names_its_counter() {
    let output = umbra().args(["quirks", "--output", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let list: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let switched: Vec<_> = list.iter().filter(|entry| entry["kind"] == "quirk").collect();
    assert!(switched.len() >= 10);
    for entry in switched {
        assert!(entry["counter"].as_str().is_some_and(|name| name.starts_with("quirk_")), "{entry}");
    }
}
