//! Good files compile to what they say; each bad one is reported with its code, line and column, all at once.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use b2bua::policy::{
    Allowed, Dialect, MediaMode, PeerAddress, PoolEncryption, Profile, RtcpMode, ServerRole, VoipSecurity,
};
use b2bua::quirks::Quirk;
use lab::pki::{CertSpec, EXHIBITS, LabCa, Life, Naming, Pki, Purpose};
use tempfile::TempDir;

use super::*;
use crate::tls::Version;

const NOBODY: [(&str, &str); 0] = [];

const PLAIN: &str = include_str!("../../../../config/minimal-plain.toml");
const SECURED: &str = include_str!("../../../../config/minimal-secured.toml");
const ANNOTATED: &str = include_str!("../../../../config/umbra.toml");

/// A folder with `umbra.pem`, `umbra.key` and `lab-root.pem`, the names that the examples use.
fn folder(spec: &CertSpec) -> TempDir {
    let folder = TempDir::new().expect("folder");
    let pki = Pki::open(folder.path()).expect("authority");
    pki.issue_files("umbra", spec).expect("certificate");
    folder
}

fn plain(text: &str) -> Result<Compiled, Problems> {
    compile(Path::new("umbra.toml"), text, NOBODY, SystemTime::now())
}

fn within(folder: &TempDir, text: &str) -> Result<Compiled, Problems> {
    compile(&folder.path().join("umbra.toml"), text, NOBODY, SystemTime::now())
}

/// Code, line and column of every problem.
fn marks(problems: &[Problem]) -> Vec<(&'static str, usize, usize)> {
    problems.iter().map(|p| (p.code.as_str(), p.place.line, p.place.column)).collect()
}

fn codes_of(problems: &[Problem]) -> Vec<&'static str> {
    problems.iter().map(|p| p.code.as_str()).collect()
}

fn refused(text: &str) -> Vec<Problem> {
    plain(text).expect_err("must be refused").list
}

/// The plain example with one piece of text replaced; the piece must be there.
fn plain_with(old: &str, new: &str) -> String {
    assert!(PLAIN.contains(old), "{old}");
    PLAIN.replace(old, new)
}

fn assert_has(problems: &[Problem], code: &str, setting: &str) {
    let hit = problems.iter().any(|p| p.code.as_str() == code && p.setting == setting);
    assert!(hit, "{code} at {setting} is missing:\n{}", render(problems));
}

#[test]
fn the_minimal_plain_example_compiles_with_the_documented_defaults() {
    let compiled = plain(PLAIN).expect("compiles");
    let policy = &compiled.policy;
    assert_eq!(compiled.listen.startup_mode, StartupMode::Tcp);
    assert_eq!((compiled.listen.tcp_port, compiled.listen.tls_port), (Some(5060), None));
    assert_eq!(compiled.listen.advertised.to_string(), "127.0.0.1");
    assert_eq!(policy.gateway.sip_domain, "contoso.test");
    assert_eq!(policy.gateway.max_calls_allowed, 100);
    assert_eq!(policy.gateway.correlation_header.as_deref(), Some("X-Call-ID"));
    assert_eq!(policy.ip_gateways[0].address, PeerAddress::Ip("127.0.0.2".parse().expect("address")));
    assert_eq!((policy.mailbox_servers[0].tcp_port, policy.mailbox_servers[0].tls_port), (5062, 5063));
    assert_eq!(policy.dial_plans[0].call_routers, [0]);
    assert_eq!(policy.dial_plans[0].max_call_duration, Duration::from_secs(1800));
    assert_eq!(compiled.observe.cdr_dir, PathBuf::from("cdr"));
    let warnings = codes_of(&compiled.warnings);
    assert_eq!(
        warnings.iter().filter(|code| **code == "UMB-SRV008").count(),
        2,
        "no fail-over is worth a warning"
    );
}

#[test]
fn the_minimal_secured_example_compiles() {
    let folder = folder(&CertSpec::host("umbra.contoso.test"));
    let compiled = within(&folder, SECURED).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(compiled.listen.startup_mode, StartupMode::Dual);
    let tls = compiled.tls.expect("tls");
    assert_eq!(tls.files.certificate, folder.path().join("umbra.pem"));
    assert!(tls.not_after.is_some_and(|end| end > SystemTime::now()));
    assert_eq!(compiled.policy.ip_gateways[0].pool, Some(0));
    assert_eq!(compiled.policy.pools[0].encryption, PoolEncryption::RequireEncryption);
}

#[test]
fn the_annotated_example_compiles_and_means_what_its_comments_say() {
    let folder = folder(&CertSpec::host("umbra.contoso.test"));
    let compiled = within(&folder, ANNOTATED).unwrap_or_else(|problems| panic!("{problems}"));
    let policy = &compiled.policy;
    assert_eq!(policy.dial_plans[0].voip_security, VoipSecurity::Secured);
    assert_eq!(policy.dial_plans[0].mailbox_servers, [0, 1]);
    assert_eq!(policy.servers(ServerRole::CallRouter).len(), 2);
    assert_eq!(policy.ip_gateways[1].outcalls_allowed, Allowed::Yes);
    assert_eq!(policy.hunt_groups[1].dial_plan, 1);
    assert_eq!(policy.auto_attendants[0].dial_plan, 0);
    assert_eq!(policy.mailboxes[0].sip.as_deref(), Some("ken@contoso.test"));
    assert_eq!(compiled.admin.http.map(|a| a.port()), Some(9065));
    // Lab certificates are short-lived, and the kernel's port range is the machine's.
    let of_the_place = |code: &&str| matches!(*code, "UMB-TLS015" | "UMB-CFG020");
    let other: Vec<_> = codes_of(&compiled.warnings).into_iter().filter(|code| !of_the_place(code)).collect();
    assert!(other.is_empty(), "{}", render(&compiled.warnings));
}

#[test]
fn all_problems_are_reported_at_once_with_line_and_column() {
    let text = "\
[gateway]
fqdn = \"umbra\"
max_call_allowed = 7

[listen]
tcp_port = 70000
startup_mode = \"Duel\"

[[ip_gateway]]
name = \"pbx\"
address = \"127.0.0.2\"

[[hunt_group]]
name = \"one\"
ip_gateway = \"pbc\"
dial_plan = \"DP\"

[[dial_plan]]
name = \"DP\"
voip_security = 3
  phone_context = \"dp.contoso.test\"
  access_telephone_numbers = [\"4711\"]

[[mailbox_server]]
name = \"mbx01.contoso.test\"
";
    let problems = refused(text);
    let errors: Vec<_> = problems.iter().filter(|p| p.severity == Severity::Error).cloned().collect();
    let expected = [
        ("UMB-CFG019", 2, 1),
        ("UMB-CFG002", 3, 1),
        ("UMB-CFG013", 6, 1),
        ("UMB-CFG005", 7, 1),
        ("UMB-CFG006", 15, 1),
        ("UMB-CFG004", 20, 1),
        ("UMB-CFG009", 22, 3),
    ];
    for mark in expected {
        assert!(marks(&errors).contains(&mark), "{mark:?} is missing:\n{}", render(&errors));
    }
    assert!(problems[1].fix.contains("`max_calls_allowed`"), "{}", problems[1].fix);
    assert!(problems.iter().any(|p| p.what.contains("did you mean `pbx`")));
}

#[test]
fn broken_toml_is_reported_where_it_breaks() {
    let problems = refused("[gateway]\nfqdn = \"umbra.contoso.test\n");
    assert_eq!(codes_of(&problems), ["UMB-CFG001"]);
    assert_eq!(problems[0].place.line, 2);
}

#[test]
fn an_empty_file_says_what_is_needed() {
    let problems = refused("");
    for setting in ["gateway.fqdn", "dial_plan", "ip_gateway"] {
        assert_has(&problems, "UMB-CFG003", setting);
    }
}

#[test]
fn security_words_have_no_default() {
    let problems = refused(&plain_with("voip_security = \"Unsecured\"\n", ""));
    assert_has(&problems, "UMB-CFG003", "dial_plan[0].voip_security");
    let problems = refused(&format!("{PLAIN}\n[[pool]]\nname = \"p\"\nfqdn = \"p.contoso.test\"\n"));
    assert_has(&problems, "UMB-CFG003", "pool[0].encryption");
}

#[test]
fn short_forms_of_pool_levels_are_understood() {
    let levels = [
        ("Required", PoolEncryption::RequireEncryption),
        ("supportencryption", PoolEncryption::SupportEncryption),
        ("None", PoolEncryption::DoNotSupportEncryption),
    ];
    for (word, level) in levels {
        let text =
            format!("{PLAIN}\n[[pool]]\nname = \"p\"\nfqdn = \"p.contoso.test\"\nencryption = \"{word}\"\n");
        let compiled = plain(&text).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(compiled.policy.pools[0].encryption, level);
    }
}

#[test]
fn the_environment_overrides_the_file_and_its_faults_name_the_variable() {
    let with = |name: &str, value: &str| {
        compile(Path::new("umbra.toml"), PLAIN, [(name, value), ("HOME", "/")], SystemTime::now())
    };
    assert_eq!(with("UMBRA__LISTEN__TCP_PORT", "5070").expect("good").listen.tcp_port, Some(5070));
    let domain = with("UMBRA__GATEWAY__SIP_DOMAIN", "fabrikam.test").expect("good");
    assert_eq!(domain.policy.gateway.sip_domain, "fabrikam.test");
    let both = with("UMBRA__MEDIA__CODECS", "PCMA, G722").expect("good");
    assert_eq!(both.policy.gateway.codecs, ["PCMA", "G722"]);
    let problems = with("UMBRA__LISTEN__TCP_POTR", "5070").expect_err("unknown");
    assert_eq!(problems.list[0].code.as_str(), "UMB-CFG015");
    assert_eq!(problems.list[0].place.file, "environment UMBRA__LISTEN__TCP_POTR");
    assert!(problems.list[0].fix.contains("`tcp_port`"));
    let problems = with("UMBRA__LISTEN__TCP_PORT", "many").expect_err("no number");
    assert_eq!(problems.list[0].place.file, "environment UMBRA__LISTEN__TCP_PORT");
}

#[test]
fn a_pool_that_does_not_fit_its_plan_is_warned_about_and_still_runs() {
    let folder = folder(&CertSpec::host("umbra.contoso.test"));
    let text = SECURED.replace("\"Secured\"", "\"SIPSecured\"");
    let compiled = within(&folder, &text).expect("runs");
    assert_has(&compiled.warnings, "UMB-SEC001", "hunt_group[0].dial_plan");
    let text = text.replace("voip_security =", "media_bridge = \"transcrypt\"\nvoip_security =");
    assert_has(&within(&folder, &text).expect("runs").warnings, "UMB-SEC012", "hunt_group[0].dial_plan");
}

#[test]
fn a_secured_plan_needs_the_tls_listener_and_should_know_its_peer_by_name() {
    let problems = refused(&plain_with("\"Unsecured\"", "\"Secured\""));
    assert_has(&problems, "UMB-SEC010", "dial_plan[0].voip_security");
    assert_has(&problems, "UMB-SEC009", "hunt_group[0].dial_plan");
    let problems = refused(&plain_with("[listen]", "[listen]\nstartup_mode = \"TLS\""));
    assert_has(&problems, "UMB-CFG024", "listen.startup_mode");
}

#[test]
fn certificates_that_lync_or_exchange_would_refuse_are_refused_here() {
    let host = || CertSpec::host("umbra.contoso.test");
    let cases = [
        (CertSpec { naming: Naming::WildcardSubject, ..host() }, "UMB-TLS004"),
        (CertSpec { fqdn: "other.contoso.test".into(), ..host() }, "UMB-TLS011"),
        (host().life(Life::Expired), "UMB-TLS005"),
        (host().life(Life::NotYet), "UMB-TLS047"),
        (host().purpose(Purpose::ClientOnly), "UMB-TLS007"),
    ];
    for (spec, code) in cases {
        let folder = folder(&spec);
        let problems = within(&folder, SECURED).expect_err(code);
        assert_has(&problems.list, code, "tls.certificate");
    }
    let wildcard_san = folder(&CertSpec { naming: Naming::WildcardSan, ..host() });
    within(&wildcard_san, SECURED).expect("a wildcard among the SANs is tolerated");
    let server_only = folder(&host().purpose(Purpose::ServerOnly));
    within(&server_only, SECURED).expect("serverAuth alone is what Windows issues");
}

#[test]
fn missing_files_foreign_keys_and_coming_ends_are_told_apart() {
    let folder = folder(&CertSpec::host("umbra.contoso.test"));
    let problems = within(&folder, &SECURED.replace("umbra.pem", "absent.pem")).expect_err("absent");
    assert_has(&problems.list, "UMB-TLS009", "tls.certificate");
    let problems = plain(SECURED).expect_err("nothing there");
    for setting in ["tls.certificate", "tls.private_key", "tls.trusted_roots"] {
        assert_has(&problems.list, "UMB-TLS009", setting);
    }
    let problems = within(&folder, &SECURED.replace("lab-root.pem", "umbra.key")).expect_err("no root");
    assert_has(&problems.list, "UMB-TLS009", "tls.trusted_roots");
    let problems = within(&folder, &SECURED.replace("umbra.key", "lab-root.key")).expect_err("other key");
    assert_has(&problems.list, "UMB-TLS008", "tls.private_key");
    let end = within(&folder, SECURED).expect("good").tls.and_then(|tls| tls.not_after).expect("end");
    let soon = end - Duration::from_secs(3600);
    let compiled = compile(&folder.path().join("umbra.toml"), SECURED, NOBODY, soon).expect("still good");
    assert_has(&compiled.warnings, "UMB-TLS015", "tls.certificate");
}

#[test]
fn the_own_chain_must_lead_to_the_roots_and_lists_must_be_readable() {
    let folder = folder(&CertSpec::host("umbra.contoso.test"));
    let other = LabCa::create("another root").expect("root");
    other.write_root(&folder.path().join("lab-root.pem")).expect("written");
    let compiled = within(&folder, SECURED).expect("peers may have other roots");
    assert_has(&compiled.warnings, "UMB-TLS016", "tls.certificate");
    let with = |lines: &str| {
        SECURED.replacen("certificate ", &format!("crls = [\"root.crl\"]\n{lines}certificate "), 1)
    };
    let problems = within(&folder, &with("")).expect_err("no list");
    assert_has(&problems.list, "UMB-TLS035", "tls.crls");
    let compiled = within(&folder, &with("crl_policy = \"prefer\"\n")).expect("goes on without");
    assert_has(&compiled.warnings, "UMB-TLS035", "tls.crls");
    let write = |days| {
        let list = other.revocation_list(&[], days).expect("list");
        std::fs::write(folder.path().join("root.crl"), list).expect("written");
    };
    write(-1);
    let compiled = within(&folder, &with("")).expect("out of date is no broken file");
    assert_has(&compiled.warnings, "UMB-TLS036", "tls.crls");
    write(1);
    let compiled = within(&folder, &with("")).expect("good");
    assert!(compiled.warnings.iter().all(|warning| warning.setting != "tls.crls"));
}

#[test]
fn the_alternative_names_must_cover_the_fqdn_too() {
    let folder = folder(&CertSpec::host("umbra.contoso.test"));
    let shadowed = EXHIBITS.iter().find(|exhibit| exhibit.name == "shadowed-subject").expect("exhibit");
    let ca =
        LabCa::load(&folder.path().join("lab-root.pem"), &folder.path().join("lab-root.key")).expect("root");
    shadowed.make(&ca, "umbra.contoso.test").expect("made").write(folder.path(), "umbra").expect("written");
    let problems = within(&folder, SECURED).expect_err("not covered");
    assert_has(&problems.list, "UMB-TLS038", "tls.certificate");
}

#[test]
fn weak_certificates_are_an_exception_of_one_peer_that_is_warned_of() {
    let folder = folder(&CertSpec::host("umbra.contoso.test"));
    let good = within(&folder, SECURED).expect("good");
    assert!(good.tls.expect("tls").weak_peers.is_empty());
    let text = SECURED.replacen("[[call_router]]\n", "[[call_router]]\nweak_certificates = \"Allowed\"\n", 1);
    let compiled = within(&folder, &text).expect("good");
    assert_has(&compiled.warnings, "UMB-TLS037", "call_router[0].weak_certificates");
    assert_eq!(compiled.tls.expect("tls").weak_peers.len(), 1);
    let problems = within(&folder, &text.replace("Allowed", "Sometimes")).expect_err("no word");
    assert_has(&problems.list, "UMB-CFG005", "call_router[0].weak_certificates");
}

/// The smallest secured file with more lines in `[tls]`, `[listen]` and the first `[[call_router]]`.
fn spoken(tls: &str, listen: &str, router: &str) -> String {
    SECURED.replacen("[tls]\n", &format!("[listen]\n{listen}\n\n[tls]\n{tls}\n"), 1).replacen(
        "[[call_router]]\n",
        &format!("[[call_router]]\n{router}\n"),
        1,
    )
}

#[test]
fn what_a_backend_cannot_do_is_said_at_the_key_that_asked_for_it() {
    let folder = folder(&CertSpec::host("umbra.contoso.test"));
    let finds = |text: &str, code: &str, setting: &str| {
        assert_has(&within(&folder, text).expect_err("refused").list, code, setting);
    };
    finds(&spoken("min_version = \"1.0\"", "", ""), "UMB-CFG028", "tls.min_version");
    finds(&spoken("", "tls = { min_version = \"1.1\" }", ""), "UMB-CFG028", "listen.tls.min_version");
    finds(&spoken("", "", "tls = { ciphers = \"modern cbc\" }"), "UMB-CFG028", "call_router[0].tls.ciphers");
    finds(&spoken("", "", "tls = { ciphers = \"RC4-SHA\" }"), "UMB-CFG005", "call_router[0].tls.ciphers");
    finds(&spoken("", "", "tls = { cipher = \"modern\" }"), "UMB-CFG002", "call_router[0].tls.cipher");
    finds(&spoken("", "tls = \"old\"", ""), "UMB-CFG004", "listen.tls");
}

#[test]
fn a_place_inherits_from_the_tls_section_what_it_does_not_say() {
    let folder = folder(&CertSpec::host("umbra.contoso.test"));
    let text =
        spoken("min_version = \"1.3\"", "tls = { min_version = \"1.2\" }", "tls = { ciphers = \"modern\" }");
    let spoken = within(&folder, &text).expect("good").tls.expect("tls").spoken;
    let versions = |settings: &crate::tls::TlsSettings| settings.versions().to_vec();
    assert_eq!(versions(&spoken.general), [Version::V1_3]);
    assert_eq!(versions(&spoken.listener), [Version::V1_2, Version::V1_3]);
    assert_eq!(spoken.peers.values().map(versions).collect::<Vec<_>>(), [[Version::V1_3]]);
}

#[cfg(not(feature = "openssl"))]
#[test]
fn a_backend_that_is_not_in_this_build_is_named_with_its_feature() {
    let folder = folder(&CertSpec::host("umbra.contoso.test"));
    let text = spoken("", "", "tls = { backend = \"openssl\" }");
    let problems = within(&folder, &text).expect_err("not built");
    assert_has(&problems.list, "UMB-CFG025", "call_router[0].tls.backend");
    assert!(render(&problems.list).contains("--features openssl"), "{}", render(&problems.list));
}

#[cfg(feature = "openssl")]
#[test]
fn what_is_old_is_warned_of_at_the_place_that_allows_it_and_nowhere_else() {
    let folder = folder(&CertSpec::host("umbra.contoso.test"));
    let old = "tls = { backend = \"openssl\", min_version = \"1.0\", ciphers = \"cbc rsa\" }";
    let compiled = within(&folder, &spoken("", "", old)).expect("good");
    assert_has(&compiled.warnings, "UMB-TLS046", "call_router[0].tls");
    let warnings = render(&compiled.warnings);
    assert!(
        warnings
            .contains("TLS 1.0, TLS 1.1, CBC, RSA key exchange, SHA-1 may be spoken with cas01.contoso.test"),
        "{warnings}"
    );
    assert_eq!(warnings.matches("UMB-TLS046").count(), 1, "{warnings}");
}

#[test]
fn further_certificates_are_checked_like_the_first_and_must_exist_where_they_are_named() {
    let folder = folder(&CertSpec::host("umbra.contoso.test"));
    let more =
        "\n[[certificate]]\nname = \"exchange\"\ncertificate = \"umbra.pem\"\nprivate_key = \"umbra.key\"\n";
    let named = |name: &str| {
        let with = format!("[[call_router]]\ncertificate = \"{name}\"\n");
        SECURED.replacen("[[call_router]]\n", &with, 1) + more
    };
    let tls = within(&folder, &named("exchange")).expect("good").tls.expect("tls");
    assert_eq!(tls.files.more[0].targets, ["cas01.contoso.test"]);
    assert_eq!(tls.files.listener, None);
    let problems = within(&folder, &named("exchanje")).expect_err("no such certificate");
    assert_has(&problems.list, "UMB-CFG006", "call_router[0].certificate");
    let twice = named("exchange") + more;
    let problems = within(&folder, &twice).expect_err("one name for two");
    assert_has(&problems.list, "UMB-CFG007", "certificate[1].name");
    let second = more.replace("exchange", "second");
    let both = named("exchange")
        + &second
        + "\n[[call_router]]\nname = \"CAS01.contoso.test\"\ncertificate = \"second\"\n";
    let problems = within(&folder, &both).expect_err("two for one name");
    assert_has(&problems.list, "UMB-CFG007", "call_router[1].certificate");
    let other = named("exchange")
        .replace("certificate = \"umbra.pem\"\nprivate", "certificate = \"lab-root.pem\"\nprivate");
    let problems = within(&folder, &other).expect_err("not for us");
    assert_has(&problems.list, "UMB-TLS011", "certificate[0].certificate");
    let other = named("exchange") + &more.replace("exchange", "odd").replace("umbra.key", "lab-root.key");
    let problems = within(&folder, &other).expect_err("key of another");
    assert_has(&problems.list, "UMB-TLS008", "certificate[1].private_key");
}

#[test]
fn media_that_is_not_anchored_is_said_loudly_and_needs_no_ports() {
    let text = format!("{PLAIN}\n[media]\nmode = \"unanchored\"\nrtp_ports = \"20000-20003\"\n");
    let compiled = plain(&text).expect("compiles");
    assert_eq!(compiled.policy.gateway.media_mode, MediaMode::Unanchored);
    assert!(
        compiled.warnings.iter().any(|w| w.code == b2bua::codes::CFG_UNANCHORED),
        "{:?}",
        compiled.warnings
    );
}

#[test]
fn srtp_suites_are_named_as_registered_and_the_first_is_offered() {
    let srtp = |lines: &str| {
        plain(&format!("{PLAIN}\n[media]\n{lines}\n")).map(|compiled| compiled.policy.gateway.srtp.clone())
    };
    let default = srtp("").expect("compiles");
    assert_eq!(default.suites, sdp::Suite::ALL);
    assert_eq!(default.suites[0].name(), "AES_CM_128_HMAC_SHA1_80");
    let narrow =
        "srtp_suites = [\"AEAD_AES_256_GCM\", \"AES_CM_128_HMAC_SHA1_80\"]\nsrtp_provider = \"webrtc-srtp\"";
    let narrow = srtp(narrow).expect("compiles");
    assert_eq!(narrow.suites, [sdp::Suite::AeadAes256Gcm, sdp::Suite::AesCm128HmacSha1_80]);
    assert_eq!(narrow.provider, relay::Provider::WebrtcSrtp);
    let wrong = |line: &str| refused(&format!("{PLAIN}\n[media]\n{line}\n"));
    assert_has(&wrong("srtp_suites = []"), "UMB-CFG005", "media.srtp_suites");
    assert_has(&wrong("srtp_suites = [\"NULL_HMAC_SHA1_80\"]"), "UMB-CFG005", "media.srtp_suites");
    assert_has(&wrong("srtp_provider = \"libsrtp\""), "UMB-CFG005", "media.srtp_provider");
}

#[test]
fn rtcp_is_made_unless_it_is_only_to_be_relayed() {
    let rtcp =
        |line: &str| plain(&format!("{PLAIN}\n[media]\n{line}\n")).expect("compiles").policy.gateway.rtcp;
    assert_eq!((rtcp(""), rtcp("rtcp = \"generate\"")), (RtcpMode::Generate, RtcpMode::Generate));
    assert_eq!(rtcp("rtcp = \"relay\""), RtcpMode::Relay);
    assert_has(&refused(&format!("{PLAIN}\n[media]\nrtcp = \"off\"\n")), "UMB-CFG005", "media.rtcp");
}

#[test]
fn ice_is_answered_unless_it_is_off() {
    let ice = |lines: &str| plain(&format!("{PLAIN}\n[media]\n{lines}\n")).map(|c| c.policy.gateway.ice);
    assert_eq!(ice("").expect("compiles"), b2bua::policy::IcePolicy::Answer);
    assert_eq!(ice("ice = \"off\"").expect("compiles"), b2bua::policy::IcePolicy::Off);
    let wrong = refused(&format!("{PLAIN}\n[media]\nice = \"offer\"\n"));
    assert_has(&wrong, "UMB-CFG005", "media.ice");
}

#[test]
fn media_has_an_address_of_each_family_at_most_and_the_advertised_one_unless_told() {
    let media = |media: &str| {
        plain(&format!("{PLAIN}\n[media]\n{media}\n")).map(|compiled| {
            let announced: Vec<String> =
                compiled.policy.gateway.media_addresses.all().map(|address| address.to_string()).collect();
            let bound: Vec<String> = compiled.media.addresses.iter().map(IpAddr::to_string).collect();
            (bound.join(" "), announced.join(" "))
        })
    };
    let both = |text: (&str, &str)| (text.0.to_owned(), text.1.to_owned());
    assert_eq!(media("").expect("compiles"), both(("127.0.0.1", "127.0.0.1")));
    let two = media("address = [\"2001:db8::9\", \"192.0.2.9\"]").expect("compiles");
    assert_eq!(two, both(("192.0.2.9 2001:db8::9", "192.0.2.9 2001:db8::9")));
    let one = media("address = \"::1\"").expect("compiles");
    assert_eq!(one, both(("127.0.0.1 ::1", "127.0.0.1 ::1")));
    let nat = media("advertised = \"198.51.100.7\"").expect("compiles");
    assert_eq!(nat, both(("127.0.0.1", "198.51.100.7")));
    for wrong in ["[\"192.0.2.9\", \"192.0.2.10\"]", "\"0.0.0.0\"", "\"::\""] {
        let refused = media(&format!("address = {wrong}")).expect_err("refused").list;
        assert_has(&refused, "UMB-CFG005", "media.address");
    }
}

#[test]
fn what_is_kept_of_calls_is_off_bounded_when_it_is_on_and_always_warned_of() {
    let keeps =
        |media: &str, observe: &str| plain(&format!("{PLAIN}\n[media]\n{media}\n[observe]\n{observe}\n"));
    let off = keeps("", "").expect("compiles");
    assert!(off.media.recordings.is_none() && off.observe.captures.is_none());
    let told = |compiled: &Compiled| {
        let codes = codes_of(&compiled.warnings).into_iter();
        codes.filter(|code| code.starts_with("UMB-REC")).collect::<Vec<_>>()
    };
    assert!(told(&off).is_empty());
    let plan = off.policy.dial_plans[0].name.clone();
    let recording =
        format!("recording = {{ directory = \"r\", dial_plans = [\"{plan}\"], total = \"2MiB\" }}");
    let on = keeps(&recording, "capture = { directory = \"/c\", media = \"rtp\", ring = \"1MiB\" }")
        .expect("compiles");
    assert_eq!(told(&on), ["UMB-REC001", "UMB-REC004"]);
    let recordings = on.media.recordings.expect("on");
    assert_eq!((recordings.folder, recordings.room.bytes_max), (PathBuf::from("r"), 2 << 20));
    let captures = on.observe.captures.expect("on");
    assert_eq!((captures.folder, captures.ring_bytes), (PathBuf::from("/c"), 1 << 20));
    assert_eq!(captures.calls, crate::keep::Captured::Failed);
    for (media, observe, code, setting) in [
        (
            "recording = { directory = \"r\", dial_plans = [\"DP-Nowhere\"] }",
            "",
            "UMB-CFG006",
            "media.recording.dial_plans",
        ),
        (
            "mode = \"unanchored\"",
            "capture = { directory = \"c\", media = \"rtp\" }",
            "UMB-CFG005",
            "observe.capture.media",
        ),
        ("recording = { dial_plans = [] }", "", "UMB-CFG003", "media.recording.directory"),
        ("", "capture = { ring = \"64MiB\" }", "UMB-CFG003", "observe.capture.directory"),
        ("", "capture = { directory = \"c\", ring = \"64\" }", "UMB-CFG005", "observe.capture.ring"),
        ("", "capture = { directory = \"c\", ring = \"1KiB\" }", "UMB-CFG013", "observe.capture.ring"),
        ("", "capture = { directory = \"c\", media = \"all\" }", "UMB-CFG005", "observe.capture.media"),
    ] {
        assert_has(&keeps(media, observe).expect_err(media).list, code, setting);
    }
}

#[test]
fn digits_pass_unless_a_gateway_has_them_in_info() {
    let digits = |line: &str| {
        let text = plain_with("address = \"127.0.0.2\"", &format!("address = \"127.0.0.2\"\n{line}"));
        plain(&text).map(|compiled| compiled.policy.ip_gateways[0].dialect.digits)
    };
    assert_eq!(digits("").expect("compiles"), b2bua::policy::Digits::Pass);
    assert_eq!(digits("dtmf = \"info\"").expect("compiles"), b2bua::policy::Digits::Info);
    let refused = digits("dtmf = \"inband\"").expect_err("refused").list;
    assert_has(&refused, "UMB-CFG005", "ip_gateway[0].dtmf");
}

#[test]
fn a_dscp_is_a_name_or_a_number() {
    let dscp = |line: &str| plain(&format!("{PLAIN}\n[media]\n{line}\n")).map(|c| c.media.dscp.value());
    for (line, value) in [
        ("", 46),
        ("dscp = \"ef\"", 46),
        ("dscp = \"VA\"", 44),
        ("dscp = \"CS0\"", 0),
        ("dscp = \"CS7\"", 56),
        ("dscp = \"AF11\"", 10),
        ("dscp = \"AF43\"", 38),
        ("dscp = 63", 63),
    ] {
        assert_eq!(dscp(line).expect(line), value, "{line}");
    }
    for wrong in ["\"AF14\"", "\"AF51\"", "\"CS8\"", "\"CS\"", "\"high\""] {
        let refused = dscp(&format!("dscp = {wrong}")).expect_err(wrong).list;
        assert_has(&refused, "UMB-CFG005", "media.dscp");
    }
    assert!(dscp("dscp = 64").is_err());
}

#[test]
fn rtp_ports_must_suffice_start_even_and_keep_clear_of_listeners() {
    let media = |ports: &str| refused(&format!("{PLAIN}\n[media]\nrtp_ports = \"{ports}\"\n"));
    assert_has(&media("20000-20398"), "UMB-CFG010", "media.rtp_ports");
    assert_has(&media("20001-20599"), "UMB-CFG012", "media.rtp_ports");
    assert_has(&media("5000-5999"), "UMB-CFG011", "media.rtp_ports");
    assert_has(&media("20599-20000"), "UMB-CFG005", "media.rtp_ports");
    assert_has(&media("0-999"), "UMB-CFG005", "media.rtp_ports");
    plain(&format!("{PLAIN}\n[media]\nrtp_ports = \"20000-20399\"\n"))
        .expect("four ports per call are enough to start");
}

#[test]
fn the_limits_of_inbound_connections_are_read_and_a_part_is_never_larger_than_the_whole() {
    let with = |lines: &str| plain(&PLAIN.replacen("[listen]\n", &format!("[listen]\n{lines}"), 1));
    let limits = |lines: &str| {
        let limits = crate::run::Settings::from(&with(lines).expect("runs")).limits;
        (limits.connections_max, limits.connections_of_address_max, limits.handshakes_max)
    };
    assert_eq!(limits(""), (16_384, 12_288, 4_096));
    assert_eq!(limits("connections_max = 100\n"), (100, 75, 25));
    assert_eq!(limits("connections_max = 1\n"), (1, 1, 1));
    assert_eq!(limits("connections_of_address_max = 5\nhandshakes_max = 7\n"), (16_384, 5, 7));
    let problems = |lines: &str| with(lines).expect_err("is refused").list;
    assert_has(&problems("connections_max = 0\n"), "UMB-CFG013", "listen.connections_max");
    assert_has(&problems("handshakes_max = 16385\n"), "UMB-CFG013", "listen.handshakes_max");
    let part = problems("connections_max = 10\nconnections_of_address_max = 11\n");
    assert_has(&part, "UMB-CFG013", "listen.connections_of_address_max");
}

#[test]
fn objects_that_contradict_each_other_are_found() {
    let twice =
        format!("{PLAIN}\n[[hunt_group]]\nname = \"again\"\nip_gateway = \"PBX\"\ndial_plan = \"dp-tel\"\n");
    assert_has(&refused(&twice), "UMB-CFG008", "hunt_group[1].pilot_identifier");
    let same = format!("{PLAIN}\n[[ip_gateway]]\nname = \"Pbx\"\naddress = \"127.0.0.2\"\n");
    assert_has(&refused(&same), "UMB-CFG007", "ip_gateway[1].name");
    assert_has(&refused(&same), "UMB-CFG007", "ip_gateway[1].address");
    let other = format!("{PLAIN}\n[[ip_gateway]]\nname = \"b\"\naddress = \"127.0.0.9\"\n");
    let warnings = plain(&other).expect("runs").warnings;
    assert_has(&warnings, "UMB-GW007", "ip_gateway[1].name");
    assert!(!codes_of(&warnings).contains(&"UMB-GW002"), "it is of no dial plan");
    let group = "\n[[hunt_group]]\nname = \"b\"\nip_gateway = \"b\"\ndial_plan = \"dp-tel\"\n";
    let both = format!("{other}{group}");
    assert_has(&plain(&both).expect("runs").warnings, "UMB-GW002", "ip_gateway");
    let one = both.replace("\"127.0.0.9\"", "\"127.0.0.9\"\nstatus = \"Disabled\"");
    assert!(
        !codes_of(&plain(&one).expect("runs").warnings).contains(&"UMB-GW002"),
        "one of them is Disabled"
    );
    let none = one.replacen("[[ip_gateway]]\n", "[[ip_gateway]]\noutcalls_allowed = false\n", 1);
    assert_has(&plain(&none).expect("runs").warnings, "UMB-GW006", "ip_gateway");
}

#[test]
fn media_networks_are_read_for_gateways_and_servers_and_an_empty_list_is_refused() {
    let with = |list: &str| {
        let key = |table: &str| format!("{table}\nmedia_networks = {list}\n");
        ["[[ip_gateway]]\n", "[[call_router]]\n", "[[mailbox_server]]\n"]
            .into_iter()
            .fold(PLAIN.to_owned(), |text, table| text.replacen(table, &key(table), 1))
    };
    let policy = plain(&with("[\"192.0.2.0/24\", \"2001:db8::7\"]")).expect("runs").policy;
    let read = [
        &policy.ip_gateways[0].media_networks,
        &policy.call_routers[0].media_networks,
        &policy.mailbox_servers[0].media_networks,
    ];
    for networks in read {
        assert!(networks[0].contains("192.0.2.77".parse().unwrap()) && networks.len() == 2);
    }
    assert!(plain(PLAIN).expect("runs").policy.ip_gateways[0].media_networks.is_empty());
    for list in ["[]", "[\"192.0.2.0/33\"]", "[\"pbx.contoso.test\"]"] {
        assert_has(&refused(&with(list)), "UMB-CFG005", "ip_gateway[0].media_networks");
    }
}

#[test]
fn servers_missing_from_a_sip_uri_plan_are_found() {
    let text = plain_with("\"TelExtn\"", "\"SipName\"")
        + "\n[[mailbox_server]]\nname = \"mbx02.contoso.test\"\ndial_plans = []\n";
    assert_has(&plain(&text).expect("runs").warnings, "UMB-SRV007", "mailbox_server[1].dial_plans");
    let text = plain_with("[[call_router]]\n", "[[call_router]]\ndial_plans = []\n")
        .replace("[[mailbox_server]]\n", "[[mailbox_server]]\ndial_plans = [\"DP-Tell\"]\n");
    let problems = refused(&text);
    assert_has(&problems, "UMB-SRV009", "dial_plan[0].name");
    assert_has(&problems, "UMB-CFG006", "mailbox_server[0].dial_plans");
}

#[test]
fn an_admin_address_that_others_reach_is_refused_with_or_without_a_token() {
    let admin = |more: &str| format!("{PLAIN}\n[admin]\nhttp = \"0.0.0.0:9065\"\n{more}");
    assert_has(&refused(&admin("")), "UMB-CFG016", "admin.http");
    assert_has(&refused(&admin("token_file = \"t\"\n")), "UMB-CFG016", "admin.http");
    let clash = format!("{PLAIN}\n[admin]\nhttp = \"127.0.0.1:5060\"\n");
    assert_has(&refused(&clash), "UMB-CFG023", "admin.http");
}

#[test]
fn hosted_voice_mail_settings_are_checked() {
    let text = format!(
        "{PLAIN}\n[[hosting_provider]]\nidentity = \"H\"\nproxy_fqdn = \"exap.hosted.test\"\nis_local = true\n\
         verification_level = \"Never\"\n[[hosted_voicemail_policy]]\nidentity = \"global\"\ndestination = \"\"\n\
         organizations = [\"corp\"]\n[hosted]\nrequest_uri = \"sip:somebody@{{destination}}\"\n\
         [access_edge]\nuse_dns_srv_routing = false\nenable_partner_discovery = true\n"
    );
    let problems = refused(&text);
    assert_has(&problems, "UMB-CFG017", "hosting_provider[0].is_local");
    assert_has(&problems, "UMB-CFG005", "hosting_provider[0].verification_level");
    assert_has(&problems, "UMB-CFG018", "hosted_voicemail_policy[0].destination");
    assert_has(&problems, "UMB-CFG019", "hosted_voicemail_policy[0].organizations");
    assert_has(&problems, "UMB-CFG005", "hosted.request_uri");
    assert_has(&problems, "UMB-CFG005", "access_edge.enable_partner_discovery");
}

#[test]
fn providers_and_discovered_partners_are_servers_and_policies_lead_to_them() {
    use b2bua::policy::{Deployment, PortSource, Scope};
    let hosted = |more: &str| {
        let text = format!(
            "{PLAIN}\n[hosted]\ndeployment = \"cross_premises\"\n[access_edge]\nallow_federated_users = true\n{more}"
        );
        plain(&text).unwrap_or_else(|problems| panic!("{problems}")).policy.um.hosted.clone()
    };
    let policy = |identity: &str, destination: &str| {
        format!(
            "[[hosted_voicemail_policy]]\nidentity = \"{identity}\"\ndestination = \"{destination}\"\n\
             organizations = [\"corp.contoso.test\"]\n"
        )
    };
    let provider = "[[hosting_provider]]\nidentity = \"H\"\nproxy_fqdn = \"Exap.hosted.test\"\n";
    let by_srv = hosted(&format!(
        "{provider}{}{}",
        policy("global", "exap.hosted.test"),
        policy("Site:Reno", "um.hosted.test")
    ));
    assert_eq!(by_srv.deployment, Deployment::CrossPremises);
    assert_eq!((by_srv.servers[0].name.as_str(), by_srv.servers[0].tls_port), ("exap.hosted.test", 5061));
    assert_eq!(by_srv.servers[0].port_source, PortSource::Federation);
    assert_eq!(by_srv.policies[1].scope, Scope::Site("Reno".into()));
    assert_eq!(
        (by_srv.policies[0].server, by_srv.policies[1].server),
        (Some(0), Some(0)),
        "the only provider"
    );
    let located = hosted(&format!("{provider}port = 5071\naddress = [\"127.0.0.9\"]\n"));
    assert_eq!((located.servers[0].tls_port, located.servers[0].port_source), (5071, PortSource::Configured));
    let found = hosted(&format!("enable_partner_discovery = true\n{}", policy("global", "um.partner.test")));
    assert_eq!((found.policies[0].server, found.servers[0].name.as_str()), (Some(0), "um.partner.test"));
    assert_eq!(found.servers[0].port_source, PortSource::Federation);
    assert_eq!(hosted(&policy("global", "um.partner.test")).policies[0].server, None);
}

#[test]
fn mailboxes_have_eum_addresses_a_policy_and_a_home() {
    use b2bua::policy::{ExchangeVersion, Home};
    let text = format!(
        "{PLAIN}\n[[mailbox_policy]]\nname = \"Staff\"\ndial_plan = \"DP-Tel\"\nallow_play_on_phone = false\n\
         [[mailbox]]\nalias = \"ken\"\neum_addresses = [\"eum:Ken@contoso.test;phone-context=dp-tel.CONTOSO.test\", \"1001;phone-context=DP-Tel.contoso.test\"]\n\
         policy = \"staff\"\nhosted = true\nexchange_version = \"2010\"\n"
    );
    let policy = plain(&text).unwrap_or_else(|problems| panic!("{problems}")).policy;
    let (mailbox, staff) = (&policy.mailboxes[0], &policy.um.mailbox_policies[0]);
    assert_eq!((mailbox.dial_plan, mailbox.um.policy), (0, Some(0)));
    assert_eq!((mailbox.um.home, mailbox.um.exchange), (Home::Hosted, ExchangeVersion::E2010));
    let addresses: Vec<&str> = mailbox.um.eum_addresses.iter().map(|eum| eum.address.as_str()).collect();
    assert_eq!(addresses, ["ken@contoso.test", "1001"]);
    assert_eq!(
        (staff.min_pin_length, staff.max_logon_attempts, staff.logon_failures_before_pin_reset),
        (6, 15, 5)
    );
    assert_eq!(staff.max_greeting_duration, Duration::from_secs(300));
    assert_eq!((staff.allow_play_on_phone, staff.allow_subscriber_access), (Allowed::No, Allowed::Yes));
}

#[test]
fn values_of_um_objects_are_in_the_cmdlets_ranges() {
    let policy = "[[mailbox_policy]]\nname = \"Staff\"\ndial_plan = \"DP-Tel\"\n";
    let attendant = "[[auto_attendant]]\nname = \"AA\"\ndial_plan = \"DP-Tel\"\n";
    let mailbox = "[[mailbox]]\nalias = \"ken\"\nextension = \"1001\"\ndial_plan = \"DP-Tel\"\n";
    let contact = "[[contact]]\nsip_address = \"sip:ova@contoso.test\"\n";
    for (object, line, code, setting) in [
        (policy, "min_pin_length = 3", "UMB-CFG013", "mailbox_policy[0].min_pin_length"),
        (policy, "min_pin_length = 25", "UMB-CFG013", "mailbox_policy[0].min_pin_length"),
        (policy, "max_logon_attempts = 1000", "UMB-CFG013", "mailbox_policy[0].max_logon_attempts"),
        (policy, "max_logon_attempts = 5", "UMB-CFG013", "mailbox_policy[0].max_logon_attempts"),
        (
            policy,
            "logon_failures_before_pin_reset = 0",
            "UMB-CFG013",
            "mailbox_policy[0].logon_failures_before_pin_reset",
        ),
        (policy, "max_greeting_duration = \"11m\"", "UMB-CFG013", "mailbox_policy[0].max_greeting_duration"),
        (policy, "allow_play_on_fone = true", "UMB-CFG002", "mailbox_policy[0].allow_play_on_fone"),
        (
            attendant,
            "business_hours_keys = { \"0\" = \"transfer:1\" }",
            "UMB-CFG005",
            "auto_attendant[0].business_hours_keys.0",
        ),
        (
            attendant,
            "business_hours_keys = { \"10\" = \"transfer:1\" }",
            "UMB-CFG002",
            "auto_attendant[0].business_hours_keys.10",
        ),
        (
            attendant,
            "after_hours_keys = { \"1\" = \"dance:1\" }",
            "UMB-CFG005",
            "auto_attendant[0].after_hours_keys.1",
        ),
        (attendant, "business_hours = [\"always\"]", "UMB-CFG005", "auto_attendant[0].business_hours"),
        (attendant, "operator_extension = \"ken\"", "UMB-CFG005", "auto_attendant[0].operator_extension"),
        (mailbox, "eum_addresses = [\"ken@contoso.test\"]", "UMB-CFG005", "mailbox[0].eum_addresses"),
        (mailbox, "eum_addresses = [\"1;phone-context=x.test\"]", "UMB-CFG006", "mailbox[0].eum_addresses"),
        (mailbox, "policy = \"Stuff\"", "UMB-CFG006", "mailbox[0].policy"),
        (mailbox, "hosted_policy = \"Reno\"", "UMB-CFG006", "mailbox[0].hosted_policy"),
        (mailbox, "exchange_version = \"2003\"", "UMB-CFG005", "mailbox[0].exchange_version"),
        (contact, "display_number = \"4711\"", "UMB-CFG009", "contact[0].display_number"),
        (contact, "policy = \"global\"", "UMB-CFG006", "contact[0].policy"),
    ] {
        let problems = refused(&format!("{PLAIN}\n{object}{line}\n"));
        assert_has(&problems, code, setting);
        let place = &problems.iter().find(|p| p.setting == setting).expect("there").place;
        assert!(place.line > 30 && place.column > 0, "{line}: {place:?}");
    }
    let spaced = refused(&format!("{PLAIN}\n[[contact]]\nsip_address = \"sip:o va@contoso.test\"\n"));
    assert_has(&spaced, "UMB-CFG005", "contact[0].sip_address");
}

#[test]
fn profiles_and_quirks_are_read_and_a_gateway_is_what_its_pool_is() {
    let text = format!(
        "{PLAIN}\n[[pool]]\nname = \"p\"\nfqdn = \"p.contoso.test\"\nencryption = \"Require\"\nprofile = \"lync2013\"\n\
         quirks_off = [\"ms-headers\"]\n[[ip_gateway]]\nname = \"p\"\naddress = \"p.contoso.test\"\n\
         [quirks]\ndisable = [\"First-Progress\"]\n"
    );
    let policy = plain(&text).expect("compiles").policy;
    let lync = policy.ip_gateways.iter().find(|gateway| gateway.pool.is_some()).expect("the pool's").dialect;
    assert_eq!(lync.profile, Profile::Lync2013);
    assert!(!lync.has(Quirk::MsHeaders) && !lync.has(Quirk::FirstProgress) && lync.has(Quirk::MsHopByHop));
    let pbx = policy.ip_gateways[0].dialect;
    assert_eq!(pbx, Dialect::of(Profile::IpPbx).without(QuirkSet::from_iter([Quirk::FirstProgress])));
    assert_eq!(policy.mailbox_servers[0].dialect.profile, Profile::Exum2016);
}

#[test]
fn a_word_that_is_no_quirk_or_no_profile_is_refused_with_what_was_meant() {
    let disable = |name: &str| refused(&format!("{PLAIN}\n[quirks]\ndisable = [\"{name}\"]\n"));
    for (name, words) in [
        ("diversion-qoting", "did you mean `diversion-quoting`"),
        ("banana", "umbra quirks"),
        ("border-headers", "is a rule"),
        ("correlation-header", "observe.correlation_header"),
    ] {
        let problems = disable(name);
        assert_has(&problems, "UMB-CFG005", "quirks.disable");
        assert!(problems.iter().any(|p| p.what.contains(words)), "{name}: {}", render(&problems));
    }
    let problems = refused(&plain_with("[[mailbox_server]]", "[[mailbox_server]]\nprofile = \"exum2012\""));
    assert_has(&problems, "UMB-CFG005", "mailbox_server[0].profile");
    let problems = refused(&plain_with("[[call_router]]", "[[call_router]]\nprofile = \"exum2010\""));
    assert_has(&problems, "UMB-CFG005", "call_router[0].profile");
    let problems =
        refused(&plain_with("[[mailbox_server]]", "[[mailbox_server]]\nquirks_off = [\"ms-headers\"]"));
    assert_has(&problems, "UMB-CFG005", "mailbox_server[0].quirks_off");
}

#[test]
fn unknown_headers_are_ruled_per_direction() {
    use b2bua::policy::UnknownHeaders::{Drop, Pass};
    let rules =
        |text: &str| plain(&format!("{PLAIN}\n[headers]\n{text}")).expect("compiles").policy.headers.clone();
    let drop = rules("unknown = \"drop\"\n");
    assert_eq!((drop.unknown_to_um(), drop.unknown_from_um()), (Drop, Pass));
    let drop = rules("unknown_from_um = \"drop\"\n");
    assert_eq!((drop.unknown_to_um(), drop.unknown_from_um()), (Pass, Drop));
    let warnings =
        plain(&format!("{PLAIN}\n[headers]\npass = [\"X-New\", \"route\"]\n")).expect("compiles").warnings;
    assert_has(&warnings, "UMB-CFG005", "headers.pass");
    assert!(
        warnings.iter().any(|p| p.what.contains("`route`"))
            && !warnings.iter().any(|p| p.what.contains("X-New"))
    );
}

#[test]
fn problems_read_well_for_people_and_machines() {
    let problems = plain(&plain_with("fqdn =", "fqnd =")).expect_err("typo");
    let text = problems.to_text();
    assert!(text.contains("error UMB-CFG002  umbra.toml:4:1\n"), "{text}");
    assert!(text.contains("Fix: did you mean `fqdn`?"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&problems.to_json()).expect("json");
    assert_eq!(json[0]["code"], "UMB-CFG003");
    assert_eq!(json[0]["severity"], "error");
    assert!(json[0]["place"]["line"].is_u64() && json[0]["fix"].is_string());
}

#[test]
fn words_follow_their_grammars() {
    assert_eq!(words::duration("500ms"), Some(Duration::from_millis(500)));
    assert_eq!(words::duration("2h"), Some(Duration::from_secs(7200)));
    for bad in ["", "5", "s", "-5s", "5 years", "99999999999999999999s", "99999999999999999h"] {
        assert_eq!(words::duration(bad), None, "{bad}");
    }
    for good in ["umbra.contoso.test", "a-b.c"] {
        assert!(words::is_fqdn(good), "{good}");
    }
    for bad in ["umbra", "*.contoso.test", "10.0.0.1", "a..b", "-a.b", "a b.c", ""] {
        assert!(!words::is_fqdn(bad), "{bad}");
    }
    assert!(words::is_e164("+14255550100"));
    for bad in ["14255550100", "+1", "+1234567890123456", "+1 425", "+"] {
        assert!(!words::is_e164(bad), "{bad}");
    }
}

#[test]
fn a_missing_file_is_one_clear_problem() {
    let problems = load(Path::new("/nonexistent/umbra.toml")).expect_err("missing");
    assert_eq!(codes_of(&problems.list), ["UMB-CFG014"]);
}

#[test]
fn a_setting_that_nothing_acts_on_is_said_to_have_no_effect() {
    let unused = "\n[admin]\nsocket = \"s\"\nhttp = \"127.0.0.1:9065\"\ntoken_file = \"t\"\n\
        [observe]\nhep = { to = \"192.0.2.9:9060\" }\n";
    let warnings = plain(&format!("{PLAIN}{unused}")).expect("compiles").warnings;
    for setting in ["admin.socket", "admin.token_file", "observe.hep"] {
        assert_has(&warnings, "UMB-CFG022", setting);
    }
}

#[test]
fn a_dial_plan_says_what_becomes_of_transfers() {
    use b2bua::policy::{ReferRule, ReplacesRule, TransferRules};
    let rules = |lines: &str| {
        let text = plain_with("voip_security =", &format!("{lines}\nvoip_security ="));
        compile(Path::new("umbra.toml"), &text, std::iter::empty::<(&str, &str)>(), SystemTime::now())
    };
    assert_eq!(rules("").expect("good").policy.dial_plans[0].transfers, TransferRules::default());
    let set = rules("transfer = \"execute\"\nreplaces = \"same_plan\"").expect("good");
    let wanted = TransferRules { refer: ReferRule::Execute, replaces: ReplacesRule::SamePlan };
    assert_eq!(set.policy.dial_plans[0].transfers, wanted);
    let problems = rules("transfer = \"maybe\"").expect_err("no such word");
    assert_has(&problems.list, problems.list[0].code.as_str(), "dial_plan[0].transfer");
}

#[test]
fn session_timers_have_the_defaults_of_rfc_4028_and_can_be_switched_off() {
    let session = |text: &str| plain(&format!("{PLAIN}{text}")).expect("compiles").policy.session;
    let default = session("");
    assert_eq!((default.expires_secs, default.min_se_secs), (Some(1800), 90));
    assert_eq!(default.route_set_update, Allowed::Yes);
    let own = session("\n[session]\nexpires = \"1h\"\nmin_se = \"5m\"\nroute_set_update = false\n");
    assert_eq!((own.expires_secs, own.min_se_secs), (Some(3600), 300));
    assert_eq!(own.route_set_update, Allowed::No);
    assert_eq!(session("\n[session]\nexpires = \"off\"\n").expires_secs, None);
}

#[test]
fn servers_are_probed_unless_switched_off() {
    let health = |text: &str| plain(&format!("{PLAIN}{text}")).expect("compiles");
    let default = health("").policy.health;
    assert_eq!(
        (default.options_interval, default.down_after, default.up_after),
        (Some(Duration::from_secs(10)), 3, 2)
    );
    let own = health("\n[health]\noptions_interval = \"30s\"\ndown_after = 1\nup_after = 5\n");
    assert!(own.warnings.iter().all(|warning| !warning.setting.starts_with("health")), "{:?}", own.warnings);
    let own = own.policy.health;
    assert_eq!((own.options_interval, own.down_after, own.up_after), (Some(Duration::from_secs(30)), 1, 5));
    assert_eq!(health("\n[health]\noptions_interval = \"off\"\n").policy.health.options_interval, None);
    for (text, code, setting) in [
        ("options_interval = \"10ms\"", "UMB-CFG013", "health.options_interval"),
        ("options_interval = \"never\"", "UMB-CFG005", "health.options_interval"),
        ("up_after = 0", "UMB-CFG013", "health.up_after"),
    ] {
        assert_has(&refused(&format!("{PLAIN}\n[health]\n{text}\n")), code, setting);
    }
}

#[test]
fn a_session_interval_that_rfc_4028_forbids_is_refused() {
    let cases = [
        ("expires = \"89s\"", "UMB-CFG013", "session.expires"),
        ("min_se = \"1s\"", "UMB-CFG013", "session.min_se"),
        ("expires = \"soon\"", "UMB-CFG005", "session.expires"),
        ("expires = \"2m\"\nmin_se = \"3m\"", "UMB-CFG005", "session.expires"),
    ];
    for (text, code, setting) in cases {
        assert_has(&refused(&format!("{PLAIN}\n[session]\n{text}\n")), code, setting);
    }
}
