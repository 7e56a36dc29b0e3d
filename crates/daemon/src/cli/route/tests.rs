//! Dry runs over a site with a pool and a PBX: the sample messages and spoken words, good and bad.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use b2bua::Policy;
use lab::pki::Pki;

use super::answer::Answer;
use super::{Carrier, ExplainArgs, Level, asked, table};
use crate::cli::screen::{Screen, Style};
use crate::config;

const SITE: &str = r#"
[gateway]
fqdn = "umbra.contoso.com"
sip_domain = "contoso.com"

[tls]
certificate = "CERT"
private_key = "KEY"
trusted_roots = ["ROOT"]

[[pool]]
name = "pool01"
fqdn = "pool01.contoso.com"
members = ["fe01.contoso.com"]
encryption = "RequireEncryption"

[[ip_gateway]]
name = "gw-pool01"
address = "pool01.contoso.com"
port = 5061
outcalls_allowed = false

[[ip_gateway]]
name = "pbx"
address = "192.0.2.40"
port = 5060
outcalls_allowed = false

[[hunt_group]]
name = "pool01-hunt"
ip_gateway = "gw-pool01"
dial_plan = "DP-Sip"

[[hunt_group]]
name = "pbx-hunt"
ip_gateway = "pbx"
dial_plan = "DP-Pbx"
pilot_identifier = "88895"

[[hunt_group]]
name = "pbx-other"
ip_gateway = "pbx"
dial_plan = "DP-Pbx"
pilot_identifier = "88896"

[[dial_plan]]
name = "DP-Sip"
uri_type = "SipName"
voip_security = "Secured"
phone_context = "DP-Sip.contoso.com"

[[dial_plan]]
name = "DP-Pbx"
uri_type = "TelExtn"
voip_security = "Unsecured"
phone_context = "DP-Pbx.contoso.com"

[[call_router]]
name = "cas01.contoso.com"
address = ["192.0.2.30"]
dial_plans = ["DP-Sip", "DP-Pbx"]

[[call_router]]
name = "cas02.contoso.com"
dial_plans = ["DP-Sip"]

[[mailbox_server]]
name = "mbx01.contoso.com"
dial_plans = ["DP-Sip", "DP-Pbx"]
"#;

fn policy() -> std::sync::Arc<Policy> {
    policy_of(SITE)
}

fn policy_of(site: &str) -> std::sync::Arc<Policy> {
    let folder = tempfile::tempdir().unwrap();
    let pki = Pki::open(folder.path()).unwrap();
    let identity = pki.identity_files("umbra.contoso.com").unwrap();
    let text = site
        .replace("CERT", &identity.certificate.display().to_string())
        .replace("KEY", &identity.key.display().to_string())
        .replace("ROOT", &pki.root_file().display().to_string());
    let nobody: [(&str, &str); 0] = [];
    let compiled = config::compile(Path::new("umbra.toml"), &text, nobody, SystemTime::now());
    compiled.unwrap_or_else(|problems| panic!("{problems}")).policy
}

fn to(words: &str) -> ExplainArgs {
    ExplainArgs { to: Some(words.to_owned()), ..ExplainArgs::default() }
}

fn sample(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/samples").join(name)
}

fn explained(arguments: &ExplainArgs) -> (Answer, String) {
    explained_in(SITE, arguments)
}

fn explained_in(site: &str, arguments: &ExplainArgs) -> (Answer, String) {
    let policy = policy_of(site);
    let asked = asked::asked(&policy, arguments).unwrap();
    let answer = Answer::of(&policy, &asked);
    let text = table::text(&policy, &answer, Style::Plain);
    (answer, text)
}

fn usage_error(arguments: &ExplainArgs) -> String {
    asked::asked(&policy(), arguments).err().expect("refused")
}

#[test]
fn a_lync_call_is_routed_with_servers_in_order_and_its_cell_marked() {
    let arguments = ExplainArgs {
        request: Some(sample("01-lync2013-call-answering-multipart.sip")),
        pool: Some("pool01".to_owned()),
        ..ExplainArgs::default()
    };
    let (answer, text) = explained(&arguments);
    assert_eq!(answer.outcome, "routed", "{text}");
    let names: Vec<&str> = answer.servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["cas01.contoso.com", "cas02.contoso.com"]);
    assert!(answer.servers.iter().all(|server| (server.transport, server.port) == ("tls", 5061)));
    let row = text.lines().find(|line| line.contains(" RequireEncryption")).unwrap();
    assert!(row.trim_end().ends_with("[ok]"), "{text}");
    assert!(text.contains("Routed to dial plan DP-Sip with TLS+SRTP"), "{text}");
    let headers = answer.headers.unwrap();
    assert!(headers.sent_on.iter().any(|name| name == "Diversion"), "{headers:?}");
    assert!(headers.not_sent_on.iter().any(|name| name == "ms-subnet"), "{headers:?}");
}

#[test]
fn another_encryption_level_can_be_tried_out() {
    let arguments = ExplainArgs {
        pool: Some("FE01.contoso.com".to_owned()),
        security: Some(Level::DoNotSupport),
        ..to("ken")
    };
    let (answer, text) = explained(&arguments);
    assert_eq!(answer.refusal.as_ref().map(|refusal| refusal.code), Some("UMB-SEC001"), "{text}");
    assert!(text.contains("Refused: 488 Incompatible security setting"), "{text}");
    assert!(text.contains("[x]") && text.contains("umbra explain UMB-SEC001"), "{text}");
    assert!(answer.security.unwrap().decision.is_none());
}

#[test]
fn a_secured_plan_over_tcp_is_refused_as_on_the_wire() {
    let arguments = ExplainArgs {
        gateway: Some("gw-pool01".to_owned()),
        transport: Some(Carrier::Tcp),
        ..to("sip:ken@contoso.com")
    };
    let (answer, text) = explained(&arguments);
    assert_eq!(answer.refusal.map(|refusal| refusal.code), Some("UMB-SEC002"), "{text}");
}

#[test]
fn a_number_without_hunt_group_shows_what_was_tried() {
    let arguments = ExplainArgs { gateway: Some("192.0.2.40".to_owned()), ..to("12345") };
    let (answer, text) = explained(&arguments);
    assert_eq!(answer.refusal.map(|refusal| (refusal.code, refusal.status)), Some(("UMB-ROUTE001", 404)));
    assert!(text.contains("-- pilot identifier") && text.contains("88895, 88896"), "{text}");
    let (answer, text) = explained(&ExplainArgs { gateway: Some("pbx".to_owned()), ..to("88895") });
    assert_eq!(answer.outcome, "routed", "{text}");
    assert!(text.contains("=> pilot identifier") && text.contains("tcp:5060"), "{text}");
}

#[test]
fn a_request_file_finds_its_gateway_by_its_via() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("invite.sip");
    let text = "INVITE sip:88895@umbra.contoso.com SIP/2.0\nVia: SIP/2.0/TCP 192.0.2.40;branch=z9hG4bK1\n\
        From: <sip:1@192.0.2.40>;tag=1\nTo: <sip:88895@umbra.contoso.com>\nCall-ID: a\nCSeq: 1 INVITE\n\
        Subject: \u{1b}[2J\nContent-Length: 0\n\n";
    std::fs::write(&file, text).unwrap();
    let (answer, text) = explained(&ExplainArgs { request: Some(file), ..ExplainArgs::default() });
    assert_eq!((answer.ip_gateway.unwrap().name.as_str(), answer.outcome), ("pbx", "routed"), "{text}");
    assert!(text.contains("assumed from the topmost Via") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_call_that_um_places_leaves_through_the_gateway_of_its_plan_or_is_refused() {
    let arguments = ExplainArgs {
        um: Some("MBX01".to_owned()),
        from: Some("<sip:6095@contoso.com>".to_owned()),
        ..to("sip:+14255550121;phone-context=DP-Sip.contoso.com@contoso.com;user=phone")
    };
    let (answer, text) = explained(&arguments);
    assert_eq!(
        answer.refusal.map(|refusal| (refusal.code, refusal.status)),
        Some(("UMB-GW004", 403)),
        "{text}"
    );
    assert!(answer.ip_gateway.is_none() && text.contains("from Mailbox server mbx01.contoso.com"), "{text}");
    let allowed = "port = 5061\noutcalls_allowed = true";
    let site = SITE.replace("port = 5061\noutcalls_allowed = false", allowed);
    let (answer, text) = explained_in(&site, &arguments);
    assert_eq!(answer.outcome, "routed", "{text}");
    assert_eq!(answer.ip_gateway.unwrap().pool.as_deref(), Some("pool01"));
    for words in
        ["out through UM IP gateway gw-pool01", "PlayOnPhone", "Routed out of dial plan DP-Sip with TLS+SRTP"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains("Servers,") && !text.contains("Whom UM"), "{text}");
    let level = ExplainArgs { security: Some(Level::DoNotSupport), ..arguments };
    let (answer, text) = explained_in(&site, &level);
    assert_eq!(answer.refusal.map(|refusal| refusal.code), Some("UMB-SEC001"), "{text}");
}

#[test]
fn wrong_words_say_what_would_have_been_right() {
    let no_gateway = usage_error(&to("ken"));
    assert!(no_gateway.contains("gw-pool01, pbx"), "{no_gateway}");
    let unknown = usage_error(&ExplainArgs { pool: Some("pbx".to_owned()), ..to("ken") });
    assert!(unknown.contains("no pool with a UM IP gateway is called pbx"), "{unknown}");
    let pbx = Some("pbx".to_owned());
    let bad = ExplainArgs { gateway: pbx.clone(), from: Some("<sip:".to_owned()), ..to("ken") };
    assert!(usage_error(&bad).contains("--from"), "{}", usage_error(&bad));
    let options =
        ExplainArgs { request: Some(sample("16-lync-options.sip")), gateway: pbx, ..Default::default() };
    assert!(usage_error(&options).contains("only an INVITE is routed"), "{}", usage_error(&options));
    let answer = ExplainArgs { request: Some(sample("11-um-302-to-worker.sip")), ..Default::default() };
    assert!(usage_error(&answer).contains("a response is not routed"), "{}", usage_error(&answer));
    let stranger = usage_error(&ExplainArgs { um: Some("cas01".to_owned()), ..to("ken") });
    assert!(stranger.contains("no Mailbox server is called cas01; there are: mbx01"), "{stranger}");
    let missing = ExplainArgs { request: Some("/nonexistent".into()), ..Default::default() };
    assert!(usage_error(&missing).contains("/nonexistent"));
}

#[test]
fn a_request_uri_that_cannot_be_read_is_the_refusal_a_caller_would_get() {
    let arguments = ExplainArgs { gateway: Some("pbx".to_owned()), ..to("sip:\u{1b}[31m") };
    let (answer, text) = explained(&arguments);
    assert_eq!(answer.refusal.map(|refusal| refusal.code), Some("UMB-ROUTE002"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn the_json_answer_has_the_documented_keys() {
    let arguments = ExplainArgs { gateway: Some("pbx".to_owned()), ..to("88895") };
    let (answer, _) = explained(&arguments);
    let value = serde_json::to_value(&answer).unwrap();
    for key in [
        "outcome",
        "request_uri",
        "ip_gateway",
        "placed_by",
        "steps",
        "route",
        "servers",
        "security",
        "headers",
        "refusal",
    ] {
        assert!(value.get(key).is_some(), "{key}");
    }
    assert_eq!(value["route"]["dial_plan"], "DP-Pbx");
    assert_eq!(value["security"]["decision"]["words"], "TCP+RTP");
    Screen::default().json(&answer);
}
