//! A hosted user and one whose mailbox is here, called through the same UM IP gateway: the first call goes to the proxy of the
//! hosting provider, the other to the dial plan's servers.

use std::time::Duration;

use bytes::Bytes;
use lab::um::LabFact;

use crate::harness::{Process, umbra};
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

/// What stands behind the provider's proxy: `umbra lab up` with a hosted UM in its file, under the site's authority.
fn hosted_um(site: &Site, port: u16) -> Process {
    let folder = site.gateway.folder.path();
    let (pki, address) = (site.pki.folder().display(), site.net.host(PROXY_HOST));
    let text = format!(
        "[lab]\nsip_domain = \"contoso.com\"\npki = \"{pki}\"\nvoicemail = \"hosted\"\n\n\
         [[hosted]]\nname = \"{PROXY}\"\naddress = \"{address}\"\ntls_port = {port}\ntenants = [\"corp.contoso.com\", \"contoso.com\"]\n"
    );
    std::fs::write(folder.join("hosted.toml"), text).unwrap();
    let mut command = umbra();
    command.args(["lab", "up", "-o", "jsonl", "-c"]).arg(folder.join("hosted.toml")).env("NO_COLOR", "1");
    let mut process = Process::start("hosted", &mut command, folder);
    process.wait_for_port(address.into(), port);
    process
}

/// The calls that the hosted UM told of.
fn calls(hosted: &Process) -> Vec<serde_json::Value> {
    let output = hosted.output();
    let events = output.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    events.filter(|event| event["event"] == "call").collect()
}

/// Ended as a person would end it.
fn end(mut hosted: Process) {
    hosted.signal("TERM");
    assert_eq!(hosted.wait(Duration::from_secs(10)), 0, "{}", hosted.output());
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

/// Servers of the site that answered calls.
fn answered_by(facts: &mut tokio::sync::broadcast::Receiver<LabFact>) -> Vec<String> {
    let mut answered = Vec::new();
    while let Ok(fact) = facts.try_recv() {
        if let LabFact::Answered { server, .. } = fact {
            answered.push(server);
        }
    }
    answered
}

#[test]
fn one_gateway_serves_a_hosted_user_and_one_whose_mailbox_is_here() {
    let site = site(|config| config);
    let hosted = hosted_um(&site, 5061);
    let mut here = site.facts();
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
    let (of_hosted, of_site) = (calls(&hosted), answered_by(&mut here));
    assert_eq!(of_hosted.len(), 1, "ken's call alone: {}", hosted.output());
    assert_eq!((&of_hosted[0]["server"], &of_hosted[0]["whom"]), (&PROXY.into(), &"ken".into()));
    assert_eq!(of_site.len(), 1, "sue's call alone: {of_site:?}");
    assert!(of_site[0].starts_with("mbx0"), "{of_site:?}");
    site.block_on(caller.close());
    end(hosted);
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
    let caller = site.pool("pool01");
    let response = final_response(&site, &caller, deposit(&site, "ken"));
    assert_eq!(status(response.as_deref()), 200, "{response:?}\n{}", site.gateway.process.output());
    assert_eq!(calls(&hosted).len(), 1, "{}", hosted.output());
    site.block_on(caller.close());
    end(hosted);
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
