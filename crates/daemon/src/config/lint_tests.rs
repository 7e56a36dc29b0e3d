//! One mistake at a time put into a good configuration: exactly the expected finding comes, at its key; the good files have
//! none.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::SystemTime;

use lab::pki::{CertSpec, Pki};

use super::*;

const NOBODY: [(&str, &str); 0] = [];
const ANNOTATED: &str = include_str!("../../../../config/umbra.toml");
const PLAIN: &str = include_str!("../../../../config/minimal-plain.toml");
const SECURED: &str = include_str!("../../../../config/minimal-secured.toml");

struct Bench {
    folder: tempfile::TempDir,
}

type Found = BTreeSet<(&'static str, String)>;

impl Bench {
    fn new() -> Self {
        let folder = tempfile::TempDir::new().expect("folder");
        let pki = Pki::open(folder.path()).expect("authority");
        pki.issue_files("umbra", &CertSpec::host("umbra.contoso.test")).expect("certificate");
        Self { folder }
    }

    fn findings(&self, text: &str) -> Found {
        let compiled = compile(&self.folder.path().join("umbra.toml"), text, NOBODY, SystemTime::now());
        let list = match compiled {
            Ok(compiled) => compiled.warnings,
            Err(problems) => problems.list,
        };
        // Lab certificates are short-lived, and the kernel's port range is the machine's.
        let of_the_place = |code: &str| matches!(code, "UMB-TLS015" | "UMB-CFG020");
        let found = list.into_iter().filter(|problem| !of_the_place(problem.code.as_str()));
        found.map(|problem| (problem.code.as_str(), problem.setting)).collect()
    }
}

/// (text of the good file, what stands there instead, code, setting)
#[rustfmt::skip]
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    // Names that lead nowhere, names used twice.
    ("dial_plan        = \"DP-Sip\"\npilot", "dial_plan        = \"DP-Sib\"\npilot", "UMB-CFG006", "hunt_group[0].dial_plan"),
    ("dial_plan = \"DP-Sip\"\nmin_pin", "dial_plan = \"DP-Sap\"\nmin_pin", "UMB-CFG006", "mailbox_policy[0].dial_plan"),
    ("alias  = \"dana\"", "alias  = \"KEN\"", "UMB-CFG007", "mailbox[1].alias"),
    ("dial_plan        = \"DP-Tel\"\npilot_identifier = \"88895\"", "dial_plan = \"DP-Tel\"\n[[hunt_group]]\nname = \"again\"\nip_gateway = \"pbx\"\ndial_plan = \"DP-Tel\"", "UMB-CFG008", "hunt_group[2].pilot_identifier"),
    // Pilots.
    ("pilot_identifiers  = [\"+14255550199\"]", "pilot_identifiers  = [\"+14255550100\"]", "UMB-CFG030", "auto_attendant[0].pilot_identifiers"),
    ("pilot_identifiers  = [\"+14255550199\"]", "pilot_identifiers  = [\"5199\"]", "UMB-CFG009", "auto_attendant[0].pilot_identifiers"),
    ("name          = \"DP-Tel\"\n", "name          = \"DP-Tel\"\nmax_call_duration = \"9m\"\n", "UMB-CFG013", "dial_plan[1].max_call_duration"),
    ("dial_plans   = [\"DP-Sip\", \"DP-Tel\"] ", "dial_plans = [\"DP-Sip\", \"DP-Tel\", \"DP-New\"]\n[[dial_plan]]\nname = \"DP-New\"\nvoip_security = \"Secured\"\nphone_context = \"DP-New.contoso.test\"\naccess_telephone_numbers = [\"+14255550700\"]\n#", "UMB-CFG031", "dial_plan[2].access_telephone_numbers"),
    ("dial_plans   = [\"DP-Sip\", \"DP-Tel\"] ", "dial_plans = [\"DP-Sip\", \"DP-Tel\", \"DP-New\"]\n[[dial_plan]]\nname = \"DP-New\"\nvoip_security = \"Secured\"\nphone_context = \"DP-New.contoso.test\"\n#", "UMB-CFG026", "dial_plan[2].name"),
    // The dial plan of a pool.
    ("uri_type      = \"SipName\" ", "uri_type      = \"E164\" ", "UMB-CFG032", "hunt_group[0].dial_plan"),
    ("encryption = \"RequireEncryption\"", "encryption = \"DoNotSupportEncryption\"", "UMB-SEC001", "hunt_group[0].dial_plan"),
    ("phone_context = \"DP-Tel.contoso.test\"", "phone_context = \"Tel.contoso.test\"", "UMB-CFG033", "dial_plan[1].phone_context"),
    // Gateways.
    ("address = \"pool01.contoso.test\"        # FQDN", "address = \"pool01.contoso.test\"\nmedia_networks = []        # FQDN", "UMB-CFG005", "ip_gateway[0].media_networks"),
    ("port    = 5061\n", "port    = 5060\n", "UMB-GW009", "ip_gateway[0].port"),
    ("message_waiting_indicator_allowed = true", "message_waiting_indicator_allowed = false", "UMB-GW010", "ip_gateway[0].message_waiting_indicator_allowed"),
    ("outcalls_allowed                  = true", "outcalls_allowed                  = false", "UMB-GW006", "ip_gateway"),
    ("[[hunt_group]]                         # pilot", "[[hunt_group]]\nname = \"second\"\nip_gateway = \"pbx\"\ndial_plan = \"DP-Sip\"\npilot_identifier = \"99\"\n\n[[hunt_group]]                         # pilot", "several", "pbx on the plan of the pool"),
    // Servers.
    ("[[call_router]]\nname = \"cas02.contoso.test\"", "[[call_router]]\nname = \"cas02.contoso.test\"\ndial_plans = [\"DP-Tel\"]", "several", "a router that is missing from the SIP URI plan, and the other then alone"),
    ("name = \"mbx02.contoso.test\"", "name = \"mbx02.contoso.test\"\n\n[[mailbox_server]]\nname = \"mbx03.contoso.test\"\ndial_plans = [\"DP-Tel\"]", "UMB-SRV007", "mailbox_server[2].dial_plans"),
    ("startup_mode = \"Dual\"\ntcp_port     = 5060\ntls_port     = 5061\ndial_plans", "startup_mode = \"TCP\"\ntcp_port     = 5060\ntls_port     = 5061\ndial_plans", "UMB-SRV011", "call_router[0].startup_mode"),
    ("startup_mode = \"Dual\"                  #", "startup_mode = \"TCP\"                  #", "UMB-SEC010", "dial_plan[0].voip_security"),
    ("startup_mode = \"Dual\"                  #", "startup_mode = \"TLS\"                  #", "UMB-SEC011", "dial_plan[1].voip_security"),
    // Mailboxes, policies, contact objects.
    ("extension = \"1001\"\ndial_plan", "extension = \"10011\"\ndial_plan", "UMB-CFG029", "mailbox[0].extension"),
    ("min_pin_length                  = 6 ", "min_pin_length                  = 3 ", "UMB-CFG013", "mailbox_policy[0].min_pin_length"),
    ("phone-context=DP-Sip.contoso.test\"]", "phone-context=DP-Sop.contoso.test\"]", "several", "no dial plan of its own either"),
    ("display_number = \"+14255550100\"", "display_number = \"+14255550700\"", "UMB-CFG034", "contact[0].sip_address"),
    ("auto_attendant = false", "auto_attendant = true", "UMB-CFG034", "contact[0].sip_address"),
    ("sip:ova@contoso.test", "sip:o va@contoso.test", "UMB-CFG005", "contact[0].sip_address"),
    // Hosted voice mail.
    ("is_local                     = false", "is_local                     = true", "UMB-CFG017", "hosting_provider[0].is_local"),
    ("enabled                      = true", "enabled                      = false", "UMB-CFG017", "hosting_provider[0].enabled"),
    ("destination   = \"exap.hosted.test\"", "destination   = \"\"", "UMB-CFG018", "hosted_voicemail_policy[0].destination"),
    ("organizations = [\"corp.contoso.test\"]", "organizations = []", "UMB-CFG018", "hosted_voicemail_policy[0].organizations"),
    ("allow_federated_users    = true", "allow_federated_users    = false", "UMB-FED002", "access_edge.allow_federated_users"),
    ("deployment  = \"mixed\"", "deployment  = \"on_premises\"", "UMB-FED006", "mailbox[1].hosted"),
    ("identity      = \"global\"", "identity      = \"Board\"", "UMB-FED001", "mailbox[1].hosted"),
    ("identity      = \"global\"", "identity      = \"site:Reno\"", "several", "no pool of the site, so no policy for the user"),
    // The frame around them.
    ("rtp_ports          = \"20000-20599\"", "rtp_ports          = \"20001-20599\"", "UMB-CFG012", "media.rtp_ports"),
    ("rtp_ports          = \"20000-20599\"", "rtp_ports          = \"20000-20199\"", "UMB-CFG010", "media.rtp_ports"),
    ("http   = \"127.0.0.1:9065\"", "http   = \"0.0.0.0:9065\"", "UMB-CFG016", "admin.http"),
    ("extension_digits          = 4\n", "extension_digits          = 4\nfax_enabled = true\n", "UMB-CFG021", "dial_plan[0].fax_enabled"),
    ("certificate   = \"umbra.pem\" ", "certificate   = \"other.pem\" ", "UMB-TLS009", "tls.certificate"),
    ("[gateway]  ", "[gateway]\nmax_call_allowed = 1 #  ", "UMB-CFG002", "gateway.max_call_allowed"),
];

#[test]
fn each_seeded_mistake_is_found_where_it_stands_and_nothing_else_is() {
    let bench = Bench::new();
    let good = bench.findings(ANNOTATED);
    assert_eq!(good, Found::new(), "the good file has no finding");
    let (mut single, mut wrong) = (0, Vec::new());
    for (old, new, code, setting) in MISTAKES {
        assert_eq!(ANNOTATED.matches(old).count(), 1, "{old} stands once in the good file");
        let found = bench.findings(&ANNOTATED.replacen(old, new, 1));
        if *code == "several" {
            assert!(found.len() > 1, "{setting}: {found:?}");
            continue;
        }
        single += 1;
        if found != Found::from([(*code, (*setting).to_owned())]) {
            wrong.push(format!("{new}: {code} at {setting} was expected, {found:?} came"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(single >= 20, "{single}");
}

#[test]
fn the_minimal_files_have_no_finding_but_that_one_server_is_not_two() {
    let bench = Bench::new();
    for text in [PLAIN, SECURED] {
        let codes: BTreeSet<&str> = bench.findings(text).into_iter().map(|(code, _)| code).collect();
        assert_eq!(codes, BTreeSet::from(["UMB-SRV008"]));
    }
    assert!(compile(Path::new("umbra.toml"), PLAIN, NOBODY, SystemTime::now()).is_ok());
}

#[test]
fn every_new_finding_is_explained_with_a_cause_and_a_fix() {
    for code in MISTAKES.iter().map(|(_, _, code, _)| *code).filter(|code| *code != "several") {
        let entry = b2bua::codes::lookup(code).expect(code);
        assert!(!entry.cause.is_empty() && !entry.remedy().is_empty(), "{code}");
    }
}
