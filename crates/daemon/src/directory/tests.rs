//! Exports as Exchange and Lync print them, taken over, written out again and compared.

use std::time::SystemTime;

use lab::pki::{CertSpec, Pki};
use serde_json::{Value, json};

use super::read::parse;
use super::*;
use crate::config;

mod scripts;

fn exchange() -> Value {
    json!({
        "Get-UMDialPlan": [
            { "Name": "DP-Sip", "URIType": "SipName", "VoIPSecurity": "Secured", "PhoneContext": "DP-Sip.contoso.test",
              "NumberOfDigitsInExtension": "4", "CountryOrRegionCode": "1", "AccessTelephoneNumbers": ["+14255550100", "4711"],
              "MaxCallDuration": 30, "MaxRecordingDuration": 20, "RecordingIdleTimeout": 5, "FaxEnabled": false,
              "LogonFailuresBeforeDisconnect": 3, "InputFailuresBeforeDisconnect": 3, "OperatorExtension": null,
              "EquivalentDialPlanPhoneContexts": [] },
            { "Name": "DP-Tel", "URIType": "TelExtn", "VoIPSecurity": "Unsecured", "PhoneContext": "DP-Tel.contoso.test",
              "MaxCallDuration": "00:45:00",
              "NumberOfDigitsInExtension": "", "OperatorExtension": "", "FaxEnabled": false }
        ],
        "Get-UMIPGateway": [
            { "Name": "pool01", "Address": "pool01.contoso.test", "Port": 5061, "Status": "Enabled", "OutcallsAllowed": true,
              "MessageWaitingIndicatorAllowed": true },
            { "Name": "pbx", "Address": "198.51.100.20", "Port": 5060, "Status": "Enabled", "OutcallsAllowed": "True" }
        ],
        "Get-UMHuntGroup": { "value": [
            { "Name": "hg", "UMIPGateway": "pool01", "UMDialPlan": { "Name": "DP-Sip" }, "PilotIdentifier": "DP-Sip" },
            { "Name": "hg", "UMIPGateway": "CN=pbx,CN=UM IPGateway Container,DC=contoso", "UMDialPlan": "\\DP-Tel", "PilotIdentifier": "88895" },
            { "Name": "gone", "UMIPGateway": "removed", "UMDialPlan": "DP-Sip", "PilotIdentifier": "9" }
        ], "Count": 3 },
        "Get-UMCallRouterSettings": [
            { "Fqdn": "CAS01.contoso.test", "UMStartupMode": "Dual", "SipTcpListeningPort": 5060, "SipTlsListeningPort": 5061, "DialPlans": ["DP-Sip", "DP-Tel"] },
            { "Fqdn": "cas02.contoso.test", "UMStartupMode": "Dual", "DialPlans": ["DP-Sip", "DP-Tel", "DP-Gone"] }
        ],
        "Get-UMService": [
            { "Name": "MBX01", "UMStartupMode": "Dual", "MaxCallsAllowed": 100, "Status": "Enabled", "DialPlans": ["DP-Sip", "DP-Tel"] },
            { "Fqdn": "mbx02.contoso.test", "UMStartupMode": "Dual", "MaxCallsAllowed": 100, "Status": "Enabled", "DialPlans": ["DP-Sip", "DP-Tel"] }
        ],
        "Get-UMAutoAttendant": [
            { "Name": "O'Brien & $(evil)", "UMDialPlan": "DP-Sip", "PilotIdentifierList": ["+14255550199"], "SpeechEnabled": false,
              "BusinessHoursKeyMapping": ["1,Sales,1001,,,", "2,Support,,AA-Two", "-,Timeout,1003"] }
        ],
        "Get-UMMailboxPolicy": [
            { "Name": "DP-Sip Default Policy", "UMDialPlan": "DP-Sip", "MinPINLength": 6, "MaxLogonAttempts": "15",
              "LogonFailuresBeforePINReset": "5", "MaxGreetingDuration": 5, "AllowPlayOnPhone": true }
        ],
        "Get-UMMailbox": [
            { "Name": "ken", "SIPResourceIdentifier": "ken@contoso.test", "Extensions": ["1001"], "UMDialPlan": "DP-Sip",
              "UMMailboxPolicy": "DP-Sip Default Policy",
              "EmailAddresses": ["SMTP:ken@contoso.test", "EUM:ken@contoso.test;phone-context=DP-Sip.contoso.test"] }
        ],
        "Get-Mailbox": [{}]
    })
}

fn lync() -> Value {
    json!({
        "Get-CsPool": [{ "Identity": "pool01.contoso.test", "Fqdn": "pool01.contoso.test", "Computers": ["fe01.contoso.test"], "Site": "Site:Redmond" }],
        "Get-CsMediaConfiguration": [{ "Identity": "Global", "EncryptionLevel": "RequireEncryption" }],
        "Get-CsDialPlan": [{ "Identity": "Global", "SimpleName": "DP-Sip.contoso.test" }],
        "Get-CsOAuthConfiguration": { "ExchangeAutodiscoverUrl": "https://autodiscover.contoso.test/autodiscover/autodiscover.svc" },
        "Get-CsExUmContact": [{ "SipAddress": "sip:ova@contoso.test", "DisplayNumber": "+14255550100", "AutoAttendant": false, "HostedVoicemailPolicy": null }],
        "Get-CsAccessEdgeConfiguration": { "AllowFederatedUsers": true, "EnablePartnerDiscovery": false, "RoutingMethod": "UseDnsSrvRouting" },
        "Get-CsHostingProvider": [
            { "Identity": "HostedUM", "ProxyFqdn": "exap.hosted.test", "Enabled": true, "EnabledSharedAddressSpace": true, "HostsOCSUsers": false, "IsLocal": false, "VerificationLevel": "UseSourceVerification" },
            { "Identity": "LyncOnline", "ProxyFqdn": "sipfed.example", "Enabled": true, "HostsOCSUsers": true, "IsLocal": false }
        ],
        "Get-CsHostedVoicemailPolicy": [{ "Identity": "Global", "Destination": "exap.hosted.test", "Organization": "corp.contoso.test, contoso.test" }],
        "Get-CsUser": [{ "SipAddress": "sip:ken@contoso.test", "HostedVoiceMail": true }]
    })
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = tempfile::TempDir::new().expect("folder");
        let pki = Pki::open(folder.path()).expect("authority");
        pki.issue_files("umbra", &CertSpec::host("umbra.contoso.test")).expect("certificate");
        Self(folder)
    }

    fn check(&self, text: &str) -> config::Compiled {
        let nobody: [(&str, &str); 0] = [];
        let compiled = config::compile(&self.0.path().join("umbra.toml"), text, nobody, SystemTime::now());
        compiled.unwrap_or_else(|problems| panic!("{problems}\n{text}"))
    }

    fn tree(&self, text: &str) -> Value {
        let file = self.0.path().join("umbra.toml");
        std::fs::write(&file, text).expect("written");
        config::tree(&file).expect("tree")
    }
}

fn imported(documents: &[Value]) -> (Imported, String) {
    let found = collect(documents).expect("collected");
    let text = to_toml(&found, &Frame::default());
    (found, text)
}

#[test]
fn what_exchange_and_lync_print_becomes_a_configuration_that_passes_the_check() {
    let (found, text) = imported(&[exchange(), lync()]);
    let policy = Folder::new().check(&text).policy;
    assert_eq!(policy.gateway.fqdn, "umbra.contoso.test");
    assert_eq!((policy.dial_plans.len(), policy.hunt_groups.len(), policy.ip_gateways.len()), (2, 2, 2));
    assert_eq!(policy.dial_plans[0].access_telephone_numbers, ["+14255550100"]);
    assert_eq!(policy.dial_plans[1].max_call_duration.as_secs(), 45 * 60);
    assert_eq!((policy.hunt_groups[1].name.as_str(), policy.hunt_groups[1].ip_gateway), ("pbx-hg", 1));
    assert_eq!(policy.call_routers[0].name, "cas01.contoso.test");
    assert_eq!(policy.mailbox_servers[0].name, "mbx01.contoso.test", "guessed from the forest");
    assert_eq!(policy.pools[0].site.as_deref(), Some("Redmond"));
    assert_eq!(policy.auto_attendants[0].menu.business_hours_keys.len(), 2);
    assert_eq!(policy.mailboxes[0].um.home, b2bua::policy::Home::Hosted);
    assert_eq!(policy.um.hosted.policies[0].organizations, ["corp.contoso.test", "contoso.test"]);
    assert!(!text.contains("not understood"), "what the collector left empty is not said: {text}");
    let remarks = found.remarks.join("\n");
    for words in ["gone left out", "Get-Mailbox is not read", "LyncOnline left out"] {
        assert!(remarks.contains(words), "{words}: {remarks}");
    }
    for words in ["4711 left out", "key mapping left out: -,Timeout", "DP-Gone", "# VoIPSecurity", "guessed"]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn one_side_alone_is_a_whole_file_or_a_part_that_fits_behind_one() {
    let folder = Folder::new();
    let (_, whole) = imported(&[exchange()]);
    folder.check(&whole);
    let mut alone = lync();
    alone.as_object_mut().expect("object").remove("Get-CsUser");
    let (_, part) = imported(&[alone]);
    assert!(part.contains("A part of a configuration"), "{part}");
    folder.check(&format!("{whole}\n{part}"));
}

#[test]
fn output_of_one_cmdlet_is_known_by_its_properties() {
    for (cmdlet, value) in
        exchange().as_object().expect("object").iter().filter(|(name, _)| *name != "Get-Mailbox")
    {
        let found = collect(std::slice::from_ref(value)).expect("collected");
        let known: Vec<&str> = found.cmdlets.iter().copied().collect();
        assert_eq!(known, [cmdlet.as_str()]);
    }
}

#[test]
fn an_enumeration_written_as_a_number_is_not_guessed() {
    let trouble =
        collect(&[json!({ "Get-UMDialPlan": { "Name": "DP", "VoIPSecurity": 2, "PhoneContext": "DP.x" } })]);
    assert!(trouble.expect_err("refused").what.contains("VoIPSecurity is 2"));
    let found = collect(&[json!({ "Get-UMIPGateway": { "Name": "g", "Address": "g.x.test", "Status": 1 } })])
        .expect("read");
    assert!(found.objects[0].notes[0].contains("Status is 1"), "{:?}", found.objects[0].notes);
}

#[test]
fn files_are_read_in_every_encoding_of_powershell_and_bounded() {
    let text = r#"{"Get-UMDialPlan":[]}"#;
    let utf16: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let marked: Vec<u8> = [0xef, 0xbb, 0xbf].into_iter().chain(text.bytes()).collect();
    for bytes in [text.as_bytes().to_vec(), utf16, marked] {
        assert!(parse(&bytes).expect("read").get("Get-UMDialPlan").is_some());
    }
    for depth in [33, 200, 100_000] {
        let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(deep.as_bytes()).is_err(), "{depth}");
    }
    assert!(parse(&[0xff, 0xfe, 0x00, 0xd8]).is_err() && parse(b"\xc3").is_err() && parse(b"").is_err());
    let folder = tempfile::TempDir::new().expect("folder");
    let long = folder.path().join("long.json");
    std::fs::File::create(&long).and_then(|file| file.set_len(read::FILE_BYTES_MAX + 1)).expect("made");
    assert!(read(&long).expect_err("too long").contains("longer than"));
}

#[test]
fn hostile_names_stay_data_in_toml_and_in_powershell() {
    let evil = "x\"]\n[admin]\nhttp = \"0.0.0.0:1\" # ' $(Stop-Computer) `n \u{2019}; Remove-Item *";
    let mut document = exchange();
    document["Get-UMAutoAttendant"][0]["Name"] = json!(evil);
    document["Get-UMAutoAttendant"][0]["BusinessHoursKeyMapping"] = json!(["9\n[admin],x"]);
    let (_, text) = imported(&[document]);
    let folder = Folder::new();
    let compiled = folder.check(&text);
    assert_eq!((compiled.policy.auto_attendants[0].name.as_str(), compiled.admin.http), (evil, None));
    let script = export(Side::Exchange, &folder.tree(&text));
    let hostile = script.lines().filter(|line| line.contains("Stop-Computer")).count();
    assert!(hostile >= 1, "{script}");
    for line in script.lines().filter(|line| line.contains("Stop-Computer")) {
        assert!(line.starts_with("New-UM") || line.starts_with("Set-UM"), "{line}");
        assert!(line.contains("'' $(Stop-Computer) `n \u{2019}\u{2019}; Remove-Item *'"), "{line}");
    }
}

#[test]
fn the_cmdlets_of_exchange_say_the_same_as_the_configuration() {
    let folder = Folder::new();
    let (_, text) = imported(&[exchange(), lync()]);
    let script = export(Side::Exchange, &folder.tree(&text));
    for line in [
        "New-UMDialPlan -Name 'DP-Sip' -URIType 'SipName' -VoIPSecurity 'Secured' -NumberOfDigitsInExtension 4 -CountryOrRegionCode '1'",
        "New-UMIPGateway -Name 'pool01' -Address 'pool01.contoso.test'",
        "New-UMHuntGroup -Name 'pbx-hg' -UMIPGateway 'pbx' -UMDialPlan 'DP-Tel' -PilotIdentifier '88895'",
        "New-UMIPGateway -Name 'umbra' -Address 'umbra.contoso.test'",
        "New-UMHuntGroup -Name 'umbra-DP-Sip' -UMDialPlan 'DP-Sip' -UMIPGateway 'umbra' -PilotIdentifier 'DP-Sip'",
        "Set-UMService -Identity 'mbx01.contoso.test' -UMStartupMode 'Dual' -MaxCallsAllowed 100 -DialPlans 'DP-Sip','DP-Tel'",
        "New-UMAutoAttendant -Name 'O''Brien & $(evil)' -UMDialPlan 'DP-Sip' -PilotIdentifierList '+14255550199'",
        "# ken is hosted: nothing to do here",
    ] {
        assert!(script.lines().any(|own| own == line), "{line}\n{script}");
    }
    commented(&script);
}

#[test]
fn pools_of_one_scope_that_differ_get_a_word_and_no_cmdlet() {
    let pool = |fqdn: &str, level: &str| serde_json::json!({ "fqdn": fqdn, "encryption": level });
    let script = |second: &str| {
        let pools = [pool("one.contoso.test", "Required"), pool("two.contoso.test", second)];
        export(Side::Lync, &serde_json::json!({ "gateway": { "fqdn": "umbra.contoso.test" }, "pool": pools }))
    };
    let set = |script: &str| script.matches("Set-CsMediaConfiguration -Identity 'Global'").count();
    assert_eq!(set(&script("RequireEncryption")), 1);
    let differ = script("SupportEncryption");
    assert_eq!(set(&differ), 0);
    assert!(
        differ.contains("one.contoso.test RequireEncryption, two.contoso.test SupportEncryption"),
        "{differ}"
    );
    commented(&differ);
}

#[test]
fn the_cmdlets_of_lync_say_the_same_as_the_configuration() {
    let folder = Folder::new();
    let (_, text) = imported(&[exchange(), lync()]);
    let script = export(Side::Lync, &folder.tree(&text));
    for line in [
        "Set-CsMediaConfiguration -Identity 'site:Redmond' -EncryptionLevel 'RequireEncryption'",
        "New-CsDialPlan -Identity 'DP-Sip' -SimpleName 'DP-Sip.contoso.test'",
        "New-CsExUmContact -SipAddress 'sip:ova@contoso.test' -RegistrarPool 'pool01.contoso.test' -OU '<fill in>' -DisplayNumber '+14255550100'",
        "New-CsExUmContact -SipAddress 'sip:aa-obrienevil@contoso.test' -RegistrarPool 'pool01.contoso.test' -OU '<fill in>' -DisplayNumber '+14255550199' -AutoAttendant:$true",
        "Set-CsAccessEdgeConfiguration -UseDnsSrvRouting:$true -AllowFederatedUsers:$true -EnablePartnerDiscovery:$false",
        "New-CsHostingProvider -Identity 'HostedUM' -ProxyFqdn 'exap.hosted.test' -Enabled:$true -EnabledSharedAddressSpace:$true -HostsOCSUsers:$false -IsLocal:$false -VerificationLevel 'UseSourceVerification'",
        "Set-CsHostedVoicemailPolicy -Identity 'Global' -Destination 'exap.hosted.test' -Organization 'corp.contoso.test,contoso.test'",
        "Set-CsUser -Identity 'sip:ken@contoso.test' -HostedVoiceMail:$true",
    ] {
        assert!(script.lines().any(|own| own == line), "{line}\n{script}");
    }
    commented(&script);
}

#[test]
fn where_um_knows_this_gateway_it_is_no_peer_of_itself_and_the_pools_are_behind_it() {
    let folder = Folder::new();
    let mut fronted = exchange();
    fronted["Get-UMIPGateway"] = json!([{ "Name": "umbra", "Address": "umbra.contoso.test", "Port": 5061 }]);
    fronted["Get-UMHuntGroup"] = json!([{ "Name": "umbra-DP-Sip", "UMIPGateway": "umbra", "UMDialPlan": "DP-Sip", "PilotIdentifier": "DP-Sip" }]);
    let (found, text) = imported(&[fronted, lync()]);
    let policy = folder.check(&text).policy;
    let names: Vec<&str> = policy.ip_gateways.iter().map(|gateway| gateway.name.as_str()).collect();
    assert_eq!((names, policy.ip_gateways[0].pool), (vec!["pool01.contoso.test"], Some(0)), "{text}");
    assert_eq!(policy.hunt_groups[0].pilot_identifier.as_deref(), Some("DP-Sip"));
    assert!(
        text.contains("assumed: as ExchUcUtil.ps1 makes it") && text.contains("this gateway itself"),
        "{text}"
    );
    assert_eq!(drift(&found, &folder.tree(&text)), []);
}

#[test]
fn a_server_that_names_no_dial_plan_is_given_all_of_them_and_both_listeners() {
    let folder = Folder::new();
    let secured = include_str!("../../../../config/minimal-secured.toml");
    let script = export(Side::Exchange, &folder.tree(secured));
    for line in [
        "Set-UMCallRouterSettings -Server 'cas01.contoso.test' -UMStartupMode 'Dual' -DialPlans 'DP-Sip'",
        "Set-UMService -Identity 'mbx01.contoso.test' -UMStartupMode 'Dual' -DialPlans 'DP-Sip'",
    ] {
        assert!(script.lines().any(|own| own == line), "{line}\n{script}");
    }
}

#[test]
fn no_value_of_any_property_breaks_the_reading_or_the_file() {
    let junk = [
        json!(null),
        json!(-1),
        json!(1.5e300),
        json!(true),
        json!(""),
        json!("a\nb = 1"),
        json!("é\u{202e}\u{0}"),
        json!([]),
        json!([[]]),
        json!({}),
        json!({ "Name": {} }),
        json!({ "value": [null], "Count": 1 }),
        json!("x".repeat(5_000)),
        json!("CN="),
        json!("\\"),
    ];
    for whole in [exchange(), lync()] {
        for (cmdlet, objects) in whole.as_object().expect("object") {
            let Some(first) = objects.get(0).or(Some(objects)).and_then(Value::as_object) else { continue };
            for (property, value) in first.keys().flat_map(|key| junk.iter().map(move |value| (key, value))) {
                let mut changed = first.clone();
                changed.insert(property.clone(), value.clone());
                let mut document = whole.clone();
                document[cmdlet] = json!([changed]);
                let Ok(found) = collect(&[document]) else { continue };
                let text = to_toml(&found, &Frame::default());
                text.parse::<toml_edit::DocumentMut>()
                    .unwrap_or_else(|fault| panic!("{cmdlet} {property} {value}: {fault}\n{text}"));
            }
        }
    }
}

/// Every cmdlet stands behind a comment.
fn commented(script: &str) {
    let lines: Vec<&str> = script.lines().collect();
    for pair in lines.windows(2).filter(|pair| !pair[1].is_empty() && !pair[1].starts_with('#')) {
        assert!(pair[0].starts_with("# "), "{pair:?}");
    }
}

#[test]
fn what_was_just_taken_over_has_not_drifted_and_each_change_is_found() {
    let folder = Folder::new();
    let (found, text) = imported(&[exchange(), lync()]);
    assert_eq!(drift(&found, &folder.tree(&text)), []);
    let cases = [
        ("\"Secured\"", "\"SIPSecured\"", "UMB-DRIFT003", "dial_plan DP-Sip voip_security"),
        (
            "max_call_duration = \"45m\"",
            "max_call_duration = \"30m\"",
            "UMB-DRIFT003",
            "dial_plan DP-Tel max_call_duration",
        ),
        ("\"RequireEncryption\"", "\"SupportEncryption\"", "UMB-DRIFT003", "pool pool01 encryption"),
        (
            "organizations = [\"corp.contoso.test\", \"contoso.test\"]",
            "organizations = [\"contoso.test\"]",
            "UMB-DRIFT003",
            "hosted_voicemail_policy Global organizations",
        ),
        (
            "allow_federated_users = true",
            "allow_federated_users = false",
            "UMB-DRIFT003",
            "access_edge  allow_federated_users",
        ),
        ("hosted = true", "hosted = false", "UMB-DRIFT003", "mailbox ken hosted"),
    ];
    for (old, new, code, what) in cases {
        assert!(text.contains(old), "{old}\n{text}");
        let all = drift(&found, &folder.tree(&text.replacen(old, new, 1)));
        let told: Vec<String> =
            all.iter().map(|d| format!("{} {} {} {}", d.code, d.table, d.name, d.key)).collect();
        assert_eq!(told, [format!("{code} {what}")], "{new}");
    }
    // The same in other words is the same.
    let same = text.replacen("max_call_duration = \"30m\"", "", 1).replacen(
        "\"DP-Sip\", \"DP-Tel\"",
        "\"dp-tel\", \"DP-SIP\"",
        1,
    );
    assert_eq!(drift(&found, &folder.tree(&same)), []);
}

#[test]
fn objects_of_one_side_only_are_told_as_missing_or_extra() {
    let folder = Folder::new();
    let (mut found, text) = imported(&[exchange()]);
    let renamed = text.replace("\"cas02.contoso.test\"", "\"cas03.contoso.test\"");
    let told: Vec<String> =
        drift(&found, &folder.tree(&renamed)).iter().map(|d| format!("{} {}", d.code, d.name)).collect();
    assert_eq!(told, ["UMB-DRIFT001 cas02.contoso.test", "UMB-DRIFT002 cas03.contoso.test"]);
    found.cmdlets.remove("Get-UMCallRouterSettings");
    assert_eq!(drift(&found, &folder.tree(&renamed)), [], "what was not asked for is not missing");
}

#[test]
fn the_collectors_ask_for_everything_that_is_read_and_change_nothing() {
    for side in [Side::Exchange, Side::Lync] {
        let script = collector(side);
        for kind in super::collector::kinds_of(side) {
            assert!(script.contains(&format!("$all['{}']", kind.cmdlet)), "{}", kind.cmdlet);
            assert!(kind.fields.iter().all(|field| script.contains(field.property)), "{}", kind.cmdlet);
        }
        for verb in ["Set-", "New-", "Remove-", "Enable-", "Disable-", "Grant-"] {
            assert!(!script.contains(verb), "{verb}\n{script}");
        }
    }
}
