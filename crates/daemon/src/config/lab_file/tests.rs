use std::time::Duration;

use lab::um::{Allowed, FirstWord, KeyTarget, MalformedDiversion, OldCalls, PlanSecurity, Ports};

use super::*;

const SMALL: &str = r#"
[lab]
sip_domain = "contoso.test"

[[mailbox_server]]
name = "mbx01.contoso.test"
address = "127.0.0.31"
startup_mode = "TLS"

[[dial_plan]]
name = "DP-Sip"
voip_security = "Secured"

[[dial_plan]]
name = "DP-Tel"
voip_security = "Unsecured"
recording_idle_timeout = "2s"

[[mailbox]]
alias = "ken"
extension = "1001"
dial_plan = "dp-sip"
pin = "135790"

[[auto_attendant]]
name = "AA-Main"
dial_plan = "DP-Tel"
business_hours_keys = { "1" = "transfer:1001", "2" = "voicemail:1001" }
business_hours = ["Mon.08:00-Mon.17:30"]
"#;

fn compiled(text: &str) -> LabFile {
    compile(Path::new("/etc/lab.toml"), text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn refused(text: &str) -> String {
    compile(Path::new("lab.toml"), text).map(|_| ()).unwrap_err().to_text()
}

#[test]
fn a_small_lab_has_the_products_ports_and_defaults() {
    let LabFile { um, pki, control, gateway, callers, .. } = compiled(SMALL);
    let server = &um.mailbox_servers[0];
    let tls = |port| Ports { tcp: None, tls: Some(port) };
    assert_eq!((server.service, &server.workers[..]), (tls(5063), &[tls(5066), tls(5068)][..]));
    assert_eq!(server.max_calls_allowed, 100);
    let [sip, tel] = &um.dial_plans[..] else { panic!("{:?}", um.dial_plans) };
    assert_eq!((sip.security, tel.security), (PlanSecurity::Secured, PlanSecurity::Unsecured));
    assert_eq!(sip.phone_context, "DP-Sip.contoso.test");
    assert_eq!(sip.answer.recording_idle_timeout, Duration::from_secs(5));
    assert_eq!(tel.answer.recording_idle_timeout, Duration::from_secs(2));
    let ken = &um.mailboxes[0];
    assert_eq!(
        (ken.sip.as_deref(), ken.dial_plan.as_deref()),
        (Some("sip:ken@contoso.test"), Some("DP-Sip"))
    );
    assert_eq!(um.attendants[0].business_keys[1].to, KeyTarget::Voicemail("ken".to_owned()));
    assert_eq!(um.attendants[0].hours.len(), 1);
    assert_eq!((pki, um.voicemail), (PathBuf::from("/etc/pki"), PathBuf::from("/etc/voicemail")));
    assert!(control.is_none() && gateway.is_none() && callers.is_empty() && um.message_waiting.is_none());
}

#[test]
fn every_problem_is_told_at_once_with_line_and_fix_and_no_pin_is_repeated() {
    let text = refused(
        "[lab]\nsip_domain = \"contoso.test\"\ncontrol = \"192.0.2.1:9066\"\n\
         [[mailbox_server]]\nname = \"mbx01\"\naddress = \"127.0.0.1\"\nworker = 3\n\
         [[dial_plan]]\nname = \"DP-Sip\"\nvoip_security = \"Secure\"\n\
         [[mailbox]]\nalias = \"../ken\"\ndial_plan = \"DP-Sib\"\npin = \"13579x\"\n\
         [[mailbox]]\nalias = \"lee\"\ndial_plan = \"DP-Sip\"\npin = \"2468\"\nextension = \"12\"\n\
         [[mailbox]]\nalias = \"mia\"\ndial_plan = \"DP-Sip\"\npin = 97531\n\
         [[call_router]]\nname = \"cas01.contoso.test\"\naddress = \"127.0.0.1\"\ntcp_port = 5062\n",
    );
    for words in [
        "lab.toml:3:1",
        "no loopback address",
        "lab.toml:5:1",
        "did you mean `workers`?",
        "did you mean `Secured`?",
        "name of a folder",
        "did you mean `DP-Sip`?",
        "must be 4 to 24 digits",
        "shorter than `min_pin_length`",
        "must be text in quotes",
        "2 digits, extensions of dial plan",
        "127.0.0.1:5062 is taken",
    ] {
        assert!(text.contains(words), "`{words}` is missing:\n{text}");
    }
    for pin in ["13579", "2468", "97531"] {
        assert!(!text.contains(pin), "a PIN is repeated:\n{text}");
    }
    assert!(!format!("{:?}", compiled(SMALL)).contains("135790"));
}

#[test]
fn objects_that_refer_to_nothing_are_found() {
    for (line, words) in [
        (
            "[[fault]]\nserver = \"mbx09.contoso.test\"\nfault = \"dead\"",
            "did you mean `mbx01.contoso.test`?",
        ),
        ("[[fault]]\nserver = \"mbx01.contoso.test\"\nfault = \"ded\"", "did you mean `dead`?"),
        ("[[fault]]\nserver = \"mbx01.contoso.test\"\nfault = \"dead\"\nevery = \"1ms\"", "outside"),
        (
            "[[auto_attendant]]\nname = \"x\"\ndial_plan = \"DP-Tel\"\nbusiness_hours_keys = { \"3\" = \"voicemail:nobody\" }",
            "no mailbox is `nobody`",
        ),
        (
            "[[auto_attendant]]\nname = \"x\"\ndial_plan = \"DP-Tel\"\nbusiness_hours_keys = { \"3\" = \"attendant:AA-Main\" }",
            "transfer:NUMBER and voicemail:EXTENSION",
        ),
        ("[[caller]]\nname = \"pool01.contoso.test\"\naddress = \"127.0.0.10\"", "somebody to call"),
        ("[[mailbox]]\nalias = \"KEN\"\ndial_plan = \"DP-Sip\"", "also the alias of mailbox[0]"),
        ("[[mailbox]]\nalias = \"lee\"\ndial_plan = \"DP-Sip\"\ngreeting = \"nowhere.wav\"", "nowhere.wav"),
        (
            "[[mailbox]]\nalias = \"lee\"\ndial_plan = \"DP-Sip\"\npolicy = \"strict\"",
            "`strict` is not configured",
        ),
    ] {
        let text = refused(&format!("{SMALL}\n{line}\n"));
        assert!(text.contains(words), "`{words}` is missing:\n{text}");
    }
    assert!(refused("[lab]\nsip_domain = \"x.test\"\n").contains("nobody is described"));
}

#[test]
fn the_annotated_example_is_a_lab() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/lab.toml");
    let file = load(&path).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(file.speaks_tls() && !file.um.mailboxes.is_empty() && !file.callers.is_empty());
    // What is commented out is right, too.
    let text = std::fs::read_to_string(&path).unwrap();
    let shown = |line: &str| match line.strip_prefix("# ") {
        Some(rest) if (rest.contains(" = ") && !rest.contains(".wav")) || rest.starts_with('[') => {
            rest.to_owned()
        }
        _ => line.to_owned(),
    };
    let all: String = text.lines().map(|line| shown(line) + "\n").collect();
    compile(&path, &all).unwrap_or_else(|problems| panic!("{problems}"));
}

#[test]
fn every_word_of_a_fault_is_one_and_no_other() {
    for word in FAULTS {
        assert!(fault(word, Duration::from_secs(1)).is_some(), "{word}");
    }
    assert!(fault("meteor", Duration::ZERO).is_none());
    assert_eq!(unknown("slow_anser"), "`slow_anser` is no fault; did you mean `slow_answer`?");
}

#[test]
fn a_version_and_knobs_are_of_all_servers_and_a_servers_own_stand_above() {
    let text = SMALL.replace("[lab]\n", "[lab]\nversion = \"2010\"\n").replace(
        "startup_mode = \"TLS\"\n",
        "startup_mode = \"Dual\"\n[[mailbox_server]]\nname = \"mbx02.contoso.test\"\naddress = \"127.0.0.32\"\n\
         version = \"2016\"\nquirks = { full_status = 480, recycling = { calls = 3, old_calls = \"cut\" } }\n",
    ) + "[quirks]\nfirst_word = \"183\"\nring_after = \"1s\"\nserver_text = \"\"\nfull_status = 486\n";
    let um = compiled(&text).um;
    let [old, new] = &um.mailbox_servers[..] else { panic!("{um:?}") };
    assert_eq!(
        (old.service.tcp, old.service.tls),
        (Some(5060), Some(5061)),
        "2010 has no Call Router before it"
    );
    assert_eq!(new.service.tcp, Some(5062));
    assert_eq!((old.manner.missed_calls, new.manner.missed_calls), (Allowed::No, Allowed::Yes));
    assert_eq!((old.manner.full_status, new.manner.full_status), (486, 480));
    assert_eq!((old.manner.recycling, new.manner.recycling.unwrap().old_calls), (None, OldCalls::Cut));
    for manner in [&old.manner, &new.manner] {
        assert_eq!((manner.first_word, &manner.server_text), (FirstWord::Progress, &None));
        assert_eq!(manner.malformed_diversion, MalformedDiversion::Refused, "as it was seen");
    }
    assert!(um.dial_plans.iter().all(|plan| plan.answer.ring_after == Some(Duration::from_secs(1))));
}

#[test]
fn knobs_that_make_no_sense_are_found() {
    for (line, words) in [
        ("[quirks]\nserver_text = \"a\\r\\nb\"", "printable ASCII"),
        ("[quirks]\ncrypto_suites = [\"AES_CM_128_HMAC_SHA1_81\"]", "no suite of the lab"),
        ("[quirks]\nrecycling = { old_calls = \"cut\" }", "after `calls`, a `period` or both"),
        ("[quirks]\nfirst_wrd = \"180\"", "did you mean `first_word`?"),
        ("[quirks]\nfull_status = 200", "400 to 699"),
        ("[quirks]\ncontact = { ms_fe = \"a;b\" }", "must be a host name"),
        (
            "[[call_router]]\nname = \"cas01.contoso.test\"\naddress = \"127.0.0.30\"\nversion = \"2010\"",
            "has no Call Router",
        ),
        ("[smtp]\nserver = \"mail.contoso.test\"", "no IP address"),
    ] {
        let text = refused(&format!("{SMALL}\n{line}\n"));
        assert!(text.contains(words), "`{words}` is missing:\n{text}");
    }
}

#[test]
fn a_hosted_um_is_no_server_that_call_routers_name() {
    let line = "[[hosted]]\nname = \"exap.hosted.test\"\naddress = \"127.0.0.50\"\ntenants = [\"corp.contoso.test\"]\n";
    let um = compiled(&format!("{SMALL}\n{line}")).um;
    let hosted = um.mailbox_servers.last().unwrap();
    assert_eq!(hosted.manner.tenants, Some(vec!["corp.contoso.test".to_owned()]));
    assert_eq!(hosted.service, Ports { tcp: None, tls: Some(5061) });
    assert_eq!(um.mailbox_servers[0].manner.tenants, None);
}
