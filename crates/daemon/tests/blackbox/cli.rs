//! The command line as a person meets it: help, wrong words, bad files, offline explanations.

use crate::harness::{folder, umbra};

fn run(arguments: &[&str]) -> (i32, String, String) {
    let folder = folder();
    let out = umbra().args(arguments).env("NO_COLOR", "1").current_dir(folder.path()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
}

#[test]
fn help_fits_and_exits_zero() {
    let (code, out, _) = run(&["--help"]);
    assert_eq!(code, 0);
    assert!(out.contains("demo") && out.contains("check") && out.contains("explain"), "{out}");
    assert!(out.lines().count() <= 50, "help fits one screen: {} lines", out.lines().count());
}

#[test]
fn wrong_words_are_a_usage_error() {
    let (code, _, err) = run(&["frobnicate"]);
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("frobnicate"));
}

#[test]
fn run_without_a_file_says_where_it_looked_and_offers_the_demo() {
    let (code, _, err) = run(&["run"]);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("umbra.toml") && err.contains("umbra demo"), "{err}");
}

#[test]
fn quirks_are_listed_with_their_state_and_the_key_that_switched_them() {
    let (code, out, _) = run(&["quirks"]);
    assert_eq!(code, 0);
    assert!(out.contains("diversion-quoting") && out.contains("quirk_diversion_quoting"), "{out}");
    let folder = folder();
    let plain = include_str!("../../../../config/minimal-plain.toml");
    let text = plain.replace("[[ip_gateway]]", "[[ip_gateway]]\nquirks_off = [\"first-progress\"]");
    let file = folder.path().join("umbra.toml");
    std::fs::write(&file, format!("{text}\n[quirks]\ndisable = [\"wildcard-san\"]\n")).unwrap();
    let (code, out, err) = run(&["quirks", "-c", file.to_str().unwrap(), "-o", "json"]);
    assert_eq!(code, 0, "{err}");
    let lines: serde_json::Value = serde_json::from_str(&out).unwrap();
    let line =
        |name: &str| lines.as_array().unwrap().iter().find(|line| line["name"] == name).unwrap().clone();
    assert_eq!(
        (&line("wildcard-san")["state"], &line("wildcard-san")["key"]),
        (&"off".into(), &"quirks.disable".into())
    );
    let partly = line("first-progress");
    assert_eq!((&partly["state"], &partly["off_for"][0]), (&"partly".into(), &"pbx".into()));
    assert_eq!(line("common-name")["state"], "on");
    assert_eq!(line("border-headers")["kind"], "rule");
}

#[test]
fn what_exchange_prints_is_taken_over_compared_and_written_out_again() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (export, file) = (path("exchange.json"), path("umbra.toml"));
    std::fs::write(
        &export,
        r#"{"Get-UMDialPlan":{"Name":"DP-Tel","URIType":"TelExtn","VoIPSecurity":"Unsecured","PhoneContext":"DP-Tel.contoso.test"},
            "Get-UMIPGateway":{"Name":"pbx","Address":"127.0.0.2","Port":5060},
            "Get-UMHuntGroup":{"Name":"hg","UMIPGateway":"pbx","UMDialPlan":"DP-Tel","PilotIdentifier":null},
            "Get-UMService":{"Fqdn":"mbx01.contoso.test","DialPlans":["DP-Tel"]}}"#,
    )
    .unwrap();
    let (code, toml, err) = run(&["import", "exchange", &export, "--fqdn", "gw.contoso.test"]);
    assert_eq!(code, 0, "{err}");
    std::fs::write(&file, &toml).unwrap();
    let (code, out, err) = run(&["check", &file]);
    assert_eq!(code, 0, "{out}{err}\n{toml}");
    assert_eq!(run(&["drift", &export, "-c", &file]), (0, "no difference\n".into(), String::new()));
    std::fs::write(&file, toml.replace("\"TelExtn\"", "\"E164\"")).unwrap();
    let (code, out, _) = run(&["drift", &export, "-c", &file]);
    assert_eq!(code, 1);
    assert!(out.contains("UMB-DRIFT003  dial_plan DP-Tel: uri_type: here E164, there TelExtn"), "{out}");
    let (code, out, _) = run(&["export", "powershell", "--side", "exchange", "-c", &file]);
    assert!(code == 0 && out.contains("New-UMDialPlan -Name 'DP-Tel' -URIType 'E164'"), "{out}");
    let (code, out, _) = run(&["export", "powershell", "--side", "lync", "--collect"]);
    assert!(code == 0 && out.contains("$all['Get-CsPool']"), "{out}");
    // Where the cmdlets are typed the gateway's key is not.
    let whole = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/umbra.toml");
    let (code, out, err) = run(&["export", "powershell", "--side", "exchange", "-c", whole]);
    assert!(
        code == 0 && out.contains("New-UMDialPlan -Name 'DP-Sip'") && err.contains("are not here"),
        "{err}"
    );
    for (bytes, umb) in [
        ("{", "UMB-IMPORT001"),
        ("[]", "UMB-IMPORT002"),
        ("{\"Get-UMDialPlan\":{\"VoIPSecurity\":2}}", "UMB-IMPORT003"),
    ] {
        std::fs::write(&export, bytes).unwrap();
        let (code, _, err) = run(&["import", "exchange", &export]);
        assert!(code == 1 && err.contains(umb), "{bytes}: {err}");
    }
    assert_eq!(run(&["import", "exchange"]).0, 2);
}

#[test]
fn an_unknown_quirk_is_a_configuration_error_with_a_suggestion() {
    let folder = folder();
    let plain = include_str!("../../../../config/minimal-plain.toml");
    let file = folder.path().join("umbra.toml");
    std::fs::write(&file, format!("{plain}\n[quirks]\ndisable = [\"wildcard-sans\"]\n")).unwrap();
    let (code, _, err) = run(&["quirks", "-c", file.to_str().unwrap()]);
    assert_eq!(code, 78, "{err}");
    assert!(err.contains("did you mean `wildcard-san`"), "{err}");
}

#[test]
fn the_header_table_is_printed_for_people_and_machines() {
    let (code, out, _) = run(&["quirks", "--headers"]);
    assert_eq!(code, 0);
    assert!(out.contains("Diversion") && out.contains("repair"), "{out}");
    let (_, out, _) = run(&["quirks", "--headers", "-o", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&out).unwrap();
    let row = rows.as_array().unwrap().iter().find(|row| row["header"] == "Call-ID").unwrap();
    assert_eq!((&row["invite"], &row["response_from_um"]), (&"own".into(), &"own".into()));
}

#[test]
fn explain_works_offline_and_suggests_on_a_slip() {
    let (code, out, _) = run(&["explain", "UMB-SEC001"]);
    assert_eq!(code, 0);
    assert!(out.contains("Incompatible security setting"), "{out}");
    let (code, out, err) = run(&["explain", "UMB-SEC01"]);
    assert_eq!(code, 1);
    assert!(format!("{out}{err}").contains("UMB-SEC001"), "a suggestion: {out}{err}");
}

#[test]
fn check_lists_every_problem_of_a_bad_file_at_once() {
    let folder = folder();
    let file = folder.path().join("bad.toml");
    let text = "[gateway]\nfqdn = \"*.contoso.com\"\nfqdm = \"x\"\n\n[[dial_plan]]\nname = \"DP\"\nuri_type = \"SipNam\"\n\n\
                [[hunt_group]]\nname = \"h\"\nip_gateway = \"nobody\"\ndial_plan = \"DQ\"\n";
    std::fs::write(&file, text).unwrap();
    let (code, out, err) = run(&["check", file.to_str().unwrap()]);
    let all = format!("{out}{err}");
    assert_eq!(code, 78, "{all}");
    for words in ["fqdm", "fqdn", "voip_security", "nobody", "DQ", "SipNam", ":3:"] {
        assert!(all.contains(words), "`{words}` is missing in:\n{all}");
    }
}
