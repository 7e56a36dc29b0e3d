//! What `umbra check` knows already, as findings: each of its warnings in the group it belongs to, and a good word
//! where there is none. Owns the list of what is told as good; the checks themselves are `config`'s.

use b2bua::codes::{self, Code};

use super::finding::{Finding, Group, Mark};
use crate::config::{Compiled, Problem, Severity};

/// One line that is good as long as none of these codes was raised.
struct Row {
    group: Group,
    good: &'static str,
    codes: &'static [Code],
}

const ROWS: &[Row] = &[
    Row {
        group: Group::Certificates,
        good: "our chain leads to a root of `trusted_roots`",
        codes: &[codes::ROOT_MISSING],
    },
    Row { group: Group::Tls, good: "nothing old is allowed in TLS", codes: &[codes::TLS_LEGACY] },
    Row {
        group: Group::Security,
        good: "UM IP gateways of secured dial plans are known by FQDN",
        codes: &[codes::SECURED_NEEDS_FQDN],
    },
    Row {
        group: Group::Security,
        good: "the startup mode listens for what the dial plans ask",
        codes: &[codes::SECURED_NEEDS_TLS, codes::UNSECURED_NEEDS_TCP],
    },
    Row {
        group: Group::Gateways,
        good: "exactly one UM IP gateway of each dial plan allows outgoing calls",
        codes: &[codes::SEVERAL_OUTCALL_GATEWAYS, codes::NO_OUTCALL_GATEWAY],
    },
    Row {
        group: Group::Gateways,
        good: "every UM IP gateway has a hunt group",
        codes: &[codes::GATEWAY_WITHOUT_HUNT_GROUP],
    },
    Row {
        group: Group::Gateways,
        good: "calls without a pilot identifier have a hunt group to go to",
        codes: &[codes::AMBIGUOUS_DEFAULT],
    },
    Row {
        group: Group::Plans,
        good: "every server is in every SIP URI dial plan",
        codes: &[codes::SERVER_NOT_IN_PLAN],
    },
    Row {
        group: Group::Plans,
        good: "every dial plan has two servers of each kind to fail over",
        codes: &[codes::LONE_SERVER, codes::PLAN_WITHOUT_SERVER],
    },
    Row {
        group: Group::Plans,
        good: "a hunt group leads to every dial plan",
        codes: &[codes::CFG_PLAN_UNUSED],
    },
    Row { group: Group::Lync, good: "every pool has a UM IP gateway", codes: &[codes::POOL_WITHOUT_GATEWAY] },
    Row {
        group: Group::Lync,
        good: "Lync Phone Edition can call every plan of its pool",
        codes: &[codes::PHONE_EDITION],
    },
    Row {
        group: Group::Media,
        good: "the RTP ports are outside the kernel's ephemeral range, or reserved",
        codes: &[codes::CFG_RTP_EPHEMERAL],
    },
    Row { group: Group::Media, good: "media passes through the gateway", codes: &[codes::CFG_UNANCHORED] },
];

/// Shown by other groups in a shape of their own.
const ELSEWHERE: &[Code] = &[codes::POOL_PLAN_MISMATCH, codes::BRIDGE_IN_USE];

/// Every warning of the configuration, and the good words.
pub fn findings(compiled: &Compiled) -> Vec<Finding> {
    let mut found = Vec::new();
    let is_known =
        |row: &&Row| !matches!(row.group, Group::Certificates | Group::Tls) || compiled.tls.is_some();
    for row in ROWS.iter().filter(is_known) {
        let raised = compiled.warnings.iter().filter(|problem| row.codes.contains(&problem.code));
        let raised: Vec<_> = raised.map(|problem| of_problem(row.group, problem)).collect();
        match (raised.is_empty(), row.codes.first()) {
            (true, Some(code)) => found.push(Finding::ok(row.group, *code, row.good)),
            _ => found.extend(raised),
        }
    }
    let is_told = |code: &Code| ELSEWHERE.contains(code) || ROWS.iter().any(|row| row.codes.contains(code));
    let rest = compiled.warnings.iter().filter(|problem| !is_told(&problem.code));
    found.extend(rest.map(|problem| of_problem(group_of(problem.code), problem)));
    found
}

/// A configuration that cannot be used, told as findings.
pub fn refused(problems: &[Problem]) -> Vec<Finding> {
    problems.iter().map(|problem| of_problem(Group::Configuration, problem)).collect()
}

fn of_problem(group: Group, problem: &Problem) -> Finding {
    let mark = match problem.severity {
        Severity::Error => Mark::Fail,
        Severity::Warning => Mark::Warn,
    };
    let setting = if problem.setting.is_empty() { String::new() } else { format!("{}: ", problem.setting) };
    let what = match group {
        Group::Configuration => format!("{setting}{}", problem.what),
        Group::Certificates => format!("our certificate: {}", problem.what),
        _ => problem.what.clone(),
    };
    let mut finding = Finding::new(group, mark, problem.code, what);
    let line = if problem.place.line == 0 { String::new() } else { format!(":{}", problem.place.line) };
    // `check` names one fix, whosever it is; here each side has its own.
    let entry = problem.code.entry();
    let is_elsewhere = [entry.fix_exchange, entry.fix_lync].contains(&problem.fix.as_str());
    let fix = if is_elsewhere { entry.fix_umbra } else { problem.fix.as_str() };
    let fix = fix.trim_end_matches('.');
    if !fix.is_empty() {
        finding.fix.umbra = b2bua::verdict::clean(&format!("{fix} ({}{line}).", problem.place.file));
    }
    finding
}

fn group_of(code: Code) -> Group {
    let area = code.as_str().trim_start_matches("UMB-").trim_end_matches(|c: char| c.is_ascii_digit());
    match area {
        "TLS" => Group::Certificates,
        "SEC" => Group::Security,
        "GW" | "ROUTE" => Group::Gateways,
        "SRV" => Group::Plans,
        _ => Group::Configuration,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::config;

    fn marks(findings: &[Finding], code: &str) -> Vec<Mark> {
        findings.iter().filter(|f| f.code.as_str() == code).map(|f| f.mark).collect()
    }

    #[test]
    fn a_good_configuration_has_a_good_word_for_every_row() {
        let found = findings(&testing::compiled(""));
        for row in ROWS {
            let good = found.iter().any(|f| f.mark == Mark::Ok && f.what == row.good);
            assert!(good, "{}: {found:#?}", row.good);
        }
    }

    /// Each edit breaks one thing; its code must be raised and its good word gone.
    #[test]
    fn each_broken_thing_is_found_by_its_code() {
        let cases: [(&str, &str, &str); 9] = [
            (
                "ip_gateway = \"pbx\"\ndial_plan = \"DP-Pbx\"",
                "ip_gateway = \"pbx\"\ndial_plan = \"DP-Sip\"",
                "UMB-GW002",
            ),
            ("outcalls_allowed = true", "outcalls_allowed = false", "UMB-GW006"),
            (
                "ip_gateway = \"pbx\"\ndial_plan = \"DP-Pbx\"",
                "ip_gateway = \"pool01\"\ndial_plan = \"DP-Pbx\"\npilot_identifier = \"1\"",
                "UMB-GW007",
            ),
            ("[\"127.0.0.32\"]", "[\"127.0.0.32\"]\ndial_plans = [\"DP-Pbx\"]", "UMB-SRV007"),
            ("[\"127.0.0.32\"]", "[\"127.0.0.32\"]\ndial_plans = [\"DP-Pbx\"]", "UMB-SRV008"),
            ("dial_plan = \"DP-Pbx\"", "dial_plan = \"DP-Sip\"", "UMB-CFG026"),
            ("dial_plan = \"DP-Pbx\"", "dial_plan = \"DP-Sip\"", "UMB-SEC009"),
            ("address = \"pool01.contoso.test\"", "address = \"other.contoso.test\"", "UMB-GW008"),
            (
                "rtp_ports = \"20000-20599\"",
                "rtp_ports = \"20000-20599\"\nmode = \"unanchored\"",
                "UMB-CFG027",
            ),
        ];
        for (old, new, code) in cases {
            assert!(testing::TEXT.contains(old), "{old}");
            let found = findings(&testing::edited(|text| text.replacen(old, new, 1)));
            assert!(marks(&found, code).contains(&Mark::Warn), "{code}: {found:#?}");
            let row = ROWS.iter().find(|row| row.codes.iter().any(|own| own.as_str() == code)).unwrap();
            assert!(!found.iter().any(|f| f.what == row.good), "{code}: the good word is told all the same");
        }
    }

    #[test]
    fn a_configuration_that_cannot_be_used_fails_with_place_and_fix() {
        let nobody: [(&str, &str); 0] = [];
        let text = "[gateway]\nfqdm = \"x\"\n";
        let file = std::path::Path::new("umbra.toml");
        let problems = config::compile(file, text, nobody, std::time::SystemTime::now()).unwrap_err();
        let found = refused(&problems.list);
        let unknown = found.iter().find(|f| f.code.as_str() == "UMB-CFG002").unwrap();
        assert_eq!((unknown.mark, unknown.group), (Mark::Fail, Group::Configuration));
        assert!(unknown.fix.umbra.contains("umbra.toml:2"), "{unknown:?}");
    }

    #[test]
    fn a_chain_to_another_root_is_found_and_no_chain_is_no_good_word() {
        let folder = testing::folder();
        lab::pki::LabCa::create("other").unwrap().write_root(&folder.join("other-root.pem")).unwrap();
        let other = testing::edited(|text| text.replace("lab-root.pem", "other-root.pem"));
        assert_eq!(marks(&findings(&other), "UMB-TLS016"), [Mark::Warn]);
        let plain = include_str!("../../../../config/minimal-plain.toml");
        let plain = testing::edited(|_| plain.to_owned());
        assert!(marks(&findings(&plain), "UMB-TLS016").is_empty());
    }

    #[test]
    fn other_warnings_are_told_where_they_belong() {
        let found = findings(&testing::compiled("\n[observe]\nhep = { to = \"192.0.2.9:9060\" }\n"));
        let told: Vec<_> = found.iter().flat_map(|f| f.fix.sides()).collect();
        assert!(told.iter().all(|(side, words)| *side != "Umbra" || !words.starts_with("Set-")), "{told:?}");
        let not_yet = found.iter().find(|f| f.code.as_str() == "UMB-CFG022").unwrap();
        assert_eq!((not_yet.mark, not_yet.group), (Mark::Warn, Group::Configuration));
        assert_eq!(group_of(codes::NO_CRL_POINT), Group::Certificates);
    }
}
