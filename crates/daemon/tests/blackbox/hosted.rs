//! A hosted user and one whose mailbox is here, called through the same UM IP gateway: the first call goes to the proxy of the
//! hosting provider, the other to the dial plan's servers.

use std::time::Duration;

use bytes::Bytes;
use lab::um::{Fault, LabFact, MailboxServerConfig, PlanSecurity, Ports};
use lab::{LabUm, LabUmConfig};

use crate::names::NameServer;
use crate::samples::{final_response, sample, status};
use crate::site::Site;

const PROXY: &str = "exap.hosted.test";
/// Host number of the hosting provider in the site's network.
const PROXY_HOST: u8 = 50;

/// `ken` is hosted although he has an EUM address here; `sue` is not.
fn objects(gateway_address: &str) -> String {
    let proxy = gateway_address.rsplit_once('.').map(|(net, _)| format!("{net}.{PROXY_HOST}")).unwrap();
    format!(
        r#"
[access_edge]
allow_federated_users = true

[[hosting_provider]]
identity = "HostedUM"
proxy_fqdn = "{PROXY}"
address = ["{proxy}"]
verification_level = "UseSourceVerification"

[[hosted_voicemail_policy]]
identity = "global"
destination = "{PROXY}"
organizations = ["corp.contoso.com"]

[[mailbox]]
alias = "ken"
sip = "ken@contoso.com"
eum_addresses = ["EUM:ken@contoso.com;phone-context=DP-Sip.contoso.com"]
hosted = true

[[mailbox]]
alias = "sue"
sip = "sue@contoso.com"
dial_plan = "DP-Sip"
"#
    )
}

fn site(change: impl FnOnce(String) -> String) -> Site {
    Site::start_as(|config| {
        let address = config.split("addresses = [\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        change(format!("{config}{}", objects(address)))
    })
}

/// What stands behind the provider's proxy: a UM service and its worker under one name.
fn hosted_um(site: &Site, port: u16) -> LabUm {
    let config = LabUmConfig {
        mailbox_servers: vec![MailboxServerConfig {
            name: PROXY.into(),
            address: site.net.host(PROXY_HOST).into(),
            service: Ports { tcp: None, tls: Some(port) },
            workers: vec![Ports { tcp: None, tls: Some(5066) }],
            max_calls_allowed: 100,
            security: PlanSecurity::AsOffered,
            fault: Fault::None,
            worker_fault: Fault::None,
        }],
        pki: Some(site.pki.clone()),
        voicemail: site.gateway.folder.path().join("hosted"),
        seed: 11,
        ..LabUmConfig::default()
    };
    site.block_on(LabUm::start(config)).unwrap()
}

/// A deposit of the pool for this user; the sample is one for `ken`.
fn deposit(site: &Site, user: &str) -> Bytes {
    let bytes = sample(site, "02-lync2015-call-answering.sip", site.pool_address("pool01"));
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert_eq!(user.len(), "ken".len(), "the length of the body stays");
    // Another transaction and another call than that of the other user.
    let own = [
        ("ken@", format!("{user}@")),
        ("Call-ID: ", format!("Call-ID: {user}-")),
        ("z9hG4bK", format!("z9hG4bK{user}")),
    ];
    Bytes::from(own.iter().fold(text, |text, (old, new)| text.replace(old, new)))
}

fn answered_by(facts: &mut tokio::sync::broadcast::Receiver<LabFact>) -> (Vec<String>, Vec<String>) {
    let (mut answered, mut redirected) = (Vec::new(), Vec::new());
    while let Ok(fact) = facts.try_recv() {
        match fact {
            LabFact::Answered { server, .. } => answered.push(server),
            LabFact::Redirected { contact, .. } => redirected.push(contact),
            _ => {}
        }
    }
    (answered, redirected)
}

#[test]
fn one_gateway_serves_a_hosted_user_and_one_whose_mailbox_is_here() {
    let site = site(|config| config);
    let hosted = hosted_um(&site, 5061);
    let (mut there, mut here) = (hosted.facts(), site.facts());
    let caller = site.pool("pool01");
    for user in ["ken", "sue"] {
        let response = final_response(&site, &caller, deposit(&site, user));
        assert_eq!(
            status(response.as_deref()),
            200,
            "{user}: {response:?}\n{}",
            site.gateway.process.output()
        );
    }
    let (of_hosted, redirected) = answered_by(&mut there);
    let (of_site, _) = answered_by(&mut here);
    assert_eq!(of_hosted, [PROXY], "ken's call alone");
    assert_eq!(of_site.len(), 1, "sue's call alone: {of_site:?}");
    assert!(of_site[0].starts_with("mbx0"), "{of_site:?}");
    println!("the hosted UM redirected to {redirected:?}");
    site.block_on(caller.close());
    site.block_on(async { tokio::time::timeout(Duration::from_secs(5), hosted.stop()).await }).unwrap();
}

#[test]
fn a_provider_without_address_is_found_by_the_srv_record_of_federation() {
    let names = NameServer::start();
    let site = site(|config| {
        let address =
            config.lines().find(|line| line.starts_with("address = ") && line.contains(".50\"")).unwrap();
        config.replace(&format!("{address}\n"), "") + &names.section()
    });
    const PORT: u16 = 5075;
    names.knows_service(&format!("_sipfederationtls._tcp.{PROXY}"), "edge07.hosted.test", PORT);
    // Its worker is named with a port, and so without SRV (RFC 3263 §4.2).
    for name in ["edge07.hosted.test", PROXY] {
        names.knows_address(name, site.net.host(PROXY_HOST));
    }
    let hosted = hosted_um(&site, PORT);
    let mut there = hosted.facts();
    let caller = site.pool("pool01");
    let response = final_response(&site, &caller, deposit(&site, "ken"));
    assert_eq!(status(response.as_deref()), 200, "{response:?}\n{}", site.gateway.process.output());
    assert_eq!(answered_by(&mut there).0, [PROXY]);
    site.block_on(caller.close());
    site.block_on(async { tokio::time::timeout(Duration::from_secs(5), hosted.stop()).await }).unwrap();
}

#[test]
fn a_closed_access_edge_refuses_the_hosted_user_alone() {
    let site = site(|config| config.replace("allow_federated_users = true", "allow_federated_users = false"));
    let caller = site.pool("pool01");
    let refused = final_response(&site, &caller, deposit(&site, "ken"));
    assert_eq!(status(refused.as_deref()), 403, "{refused:?}");
    let text = refused.unwrap();
    assert!(text.contains("ms-diagnostics: 61002;") && text.contains("Access Edge"), "{text}");
    assert_eq!(status(final_response(&site, &caller, deposit(&site, "sue")).as_deref()), 200);
    site.block_on(caller.close());
}
