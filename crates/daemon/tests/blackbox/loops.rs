//! A gateway that is its own Call Router, and two that are each other's: the call ends as a loop after one extra leg.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::{Gateway, Net, folder};
use crate::traffic::{Caller, Wire, connect};

/// Everybody who may call, and one Call Router.
fn config(fqdn: &str, gateway: Ipv4Addr, callers: &[Ipv4Addr], router: Ipv4Addr) -> String {
    let mut text = format!(
        "[gateway]\nfqdn = \"{fqdn}\"\nsip_domain = \"contoso.test\"\n[listen]\nstartup_mode = \"TCP\"\n\
         addresses = [\"{gateway}\"]\nadvertised = \"{gateway}\"\n[media]\nrtp_ports = \"20000-20999\"\n\
         [[dial_plan]]\nname = \"DP\"\nuri_type = \"TelExtn\"\nvoip_security = \"Unsecured\"\nphone_context = \"DP.contoso.test\"\n\
         [[call_router]]\nname = \"cas01.contoso.test\"\naddress = [\"{router}\"]\ndial_plans = [\"DP\"]\n"
    );
    for (number, caller) in callers.iter().enumerate() {
        text.push_str(&format!(
            "[[ip_gateway]]\nname = \"gw{number}\"\naddress = \"{caller}\"\nport = 5070\n\
             [[hunt_group]]\nname = \"hunt{number}\"\nip_gateway = \"gw{number}\"\ndial_plan = \"DP\"\npilot_identifier = \"88895\"\n"
        ));
    }
    text
}

fn start(fqdn: &str, gateway: Ipv4Addr, callers: &[Ipv4Addr], router: Ipv4Addr) -> Gateway {
    Gateway::start(folder(), gateway, 5060, &config(fqdn, gateway, callers, router))
}

/// Stands between two gateways: what reaches `at` goes on to `to` from the address `at`. Counts the INVITEs.
fn relay(at: Ipv4Addr, to: Ipv4Addr) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind((at, 5060)).unwrap();
    let invites = Arc::new(AtomicUsize::new(0));
    let seen = invites.clone();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let far = connect(at, to);
            let (mut back_from, mut back_to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut back_from, &mut back_to));
            let (seen, mut far) = (seen.clone(), far);
            std::thread::spawn(move || {
                let mut near = Wire::new(near);
                while let Some(message) = near.hear() {
                    seen.fetch_add(usize::from(message.starts_with("INVITE ")), Ordering::Relaxed);
                    let _gone = far.write_all(message.as_bytes());
                }
            });
        }
    });
    invites
}

/// One call; its final status.
fn call(pbx: Ipv4Addr, gateway: &Gateway) -> u16 {
    let mut caller = Caller::new(pbx, gateway.address);
    caller.run(0, 1, 1, Duration::from_secs(20));
    // What is still going round would be seen now.
    std::thread::sleep(Duration::from_millis(300));
    caller.calls[&0].status
}

fn assert_is_loop(status: u16, gateway: &Gateway) {
    assert!(matches!(status, 482 | 483), "{status}\n{}", gateway.process.output());
}

#[test]
fn a_gateway_that_is_its_own_call_router_ends_the_call_as_a_loop() {
    let net = Net::new();
    let (pbx, own) = (net.host(10), net.host(20));
    let mut gateway = start("umbra.contoso.test", own, &[pbx], own);
    assert_is_loop(call(pbx, &gateway), &gateway);
    gateway.stop();
    let records = gateway.records();
    assert!(records.len() <= 2, "the call and one extra leg: {records:#?}");
}

#[test]
fn a_call_that_comes_back_through_another_peer_ends_after_one_extra_leg() {
    // The way back is a Call Router only, or a UM IP gateway too.
    for is_gateway in [false, true] {
        let net = Net::new();
        let (pbx, own, between) = (net.host(10), net.host(20), net.host(30));
        let callers = if is_gateway { vec![pbx, between] } else { vec![pbx] };
        let gateway = start("umbra.contoso.test", own, &callers, between);
        let invites = relay(between, own);
        assert_is_loop(call(pbx, &gateway), &gateway);
        assert_eq!(invites.load(Ordering::Relaxed), 1, "INVITEs beside the caller's");
    }
}

#[test]
fn two_gateways_that_are_each_others_call_router_end_the_call_after_one_round() {
    let net = Net::new();
    let (pbx, one, two) = (net.host(10), net.host(20), net.host(21));
    let (there, back) = (net.host(30), net.host(31));
    let first = start("umbra1.contoso.test", one, &[pbx, back], there);
    let second = start("umbra2.contoso.test", two, &[there], back);
    let counts = [relay(there, two), relay(back, one)];
    assert_is_loop(call(pbx, &first), &first);
    let invites = counts.map(|count| count.load(Ordering::Relaxed));
    assert_eq!(invites, [1, 1], "one leg there and one back\n{}", second.process.output());
}
