//! The live directory against OpenLDAP: objects that stand only there, changes, outages, broken objects, passwords and certificates.

mod slapd;

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Output;
use std::time::{Duration, Instant};

use crate::harness::{Gateway, Net, folder, http_get, metric_sum, peers_present, umbra};
use crate::traffic::{Wire, config, connect, line, request, start_um};
use slapd::{FQDN, PASSWORD, PORT, Slapd, TLS_PORT, group, group_dn, plan, plan_dn, user};

/// What `slapd.rs` starts.
const PROGRAMS: &[&str] = &["slapd", "slapadd", "ldapmodify"];

/// The plain configuration without what stands in the directory: plan, UM IP gateway and hunt group.
fn without_objects(net: Net, directory: &str) -> String {
    let whole = config(
        net,
        &format!("{directory}[admin]\nhttp = \"{}:9065\"\n[listen]\nstartup_mode = \"TCP\"\n", net.host(20)),
    );
    let mut kept = String::new();
    for part in whole.split("[[") {
        match part.split("]]").next() {
            Some("dial_plan" | "ip_gateway" | "hunt_group") => {}
            Some(_) if kept.is_empty() => kept.push_str(part),
            _ => kept.push_str(&format!("[[{part}")),
        }
    }
    kept
}

fn umbra_with(folder: &Path, text: &str, words: &[&str]) -> Output {
    let file = folder.join("umbra.toml");
    std::fs::write(&file, text).unwrap();
    umbra().args(words).arg("-c").arg(&file).env("NO_COLOR", "1").output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn what_the_directory_shows_is_printed_as_a_configuration_and_compared_with_the_file() {
    if !peers_present(PROGRAMS) {
        return;
    }
    let (net, folder) = (Net::new(), folder());
    // More than two pages.
    let many: String =
        (2_000..3_200).map(|number| user(&format!("user{number}"), &number.to_string())).collect();
    let slapd = Slapd::start(net, &(plan("DP-Tls", 3) + &user("o\u{fc}\u{1b}[31m", "1002") + &many));
    let section = slapd.section(folder.path());
    let text = without_objects(net, &section);
    let import = umbra_with(folder.path(), &text, &["import", "ldap"]);
    let printed = out(&import);
    assert_eq!(import.status.code(), Some(0), "{}", err(&import));
    for words in [
        "name = \"DP-Tls\"  # Name",
        "voip_security = \"Secured\"  # VoIPSecurity",
        "voip_security = \"Unsecured\"",
        "ip_gateway = \"pbx\"",
        "pilot_identifier = \"88895\"",
        "alias = \"ken\"",
        "extension = \"1001\"",
        "eum:1001;phone-context=DP.contoso.test",
        "max_call_duration = \"30m\"",
    ] {
        assert!(printed.contains(words), "{words} is missing in\n{printed}");
    }
    assert!(!printed.contains('\u{1b}') && !printed.contains("SMTP:"), "{printed}");
    let json = umbra_with(folder.path(), &text, &["import", "ldap", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["Get-UMIPGateway"][0]["Address"], net.host(10).to_string());
    assert_eq!(json["Get-UMMailbox"].as_array().map(Vec::len), Some(1_202));
    // The file's object is in force where both have one, so only what differs there is drift.
    let own =
        "[[dial_plan]]\nname = \"dp\"\nvoip_security = \"SIPSecured\"\nphone_context = \"DP.contoso.test\"\n";
    let drift = umbra_with(folder.path(), &(text + own), &["drift", "--ldap"]);
    assert_eq!(drift.status.code(), Some(1), "{}", err(&drift));
    assert!(out(&drift).contains("voip_security: here SIPSecured, there Unsecured"), "{}", out(&drift));
    assert!(!out(&drift).contains("UMB-DRIFT001"), "{}", out(&drift));
    for output in [&import, &drift] {
        assert!(!(out(output) + &err(output)).contains(PASSWORD));
    }
}

#[test]
fn a_directory_that_is_not_who_or_where_it_should_be_is_told_by_code() {
    if !peers_present(PROGRAMS) {
        return;
    }
    let (net, folder) = (Net::new(), folder());
    let slapd = Slapd::start(net, "");
    let clear = slapd.section(folder.path());
    let at = format!("ldap://{}:{PORT}", slapd.address);
    let trusted = format!("trusted_roots = [\"{}\"]\n", slapd.root.display());
    let stranger = lab::pki::Pki::open(&folder.path().join("stranger")).unwrap();
    let untrusted = format!("trusted_roots = [\"{}\"]\n", stranger.root_file().display());
    let sealed = |root: &str| clear.replace(&at, &format!("ldaps://{}:{TLS_PORT}", slapd.address)) + root;
    let started = |root: &str| clear.clone() + "start_tls = true\n" + root;
    std::fs::write(folder.path().join("wrong.password"), "wrong\n").unwrap();
    std::fs::write(folder.path().join("empty.password"), "\n").unwrap();
    let cases = [
        (clear.clone(), ""),
        (sealed(&trusted), ""),
        (started(&trusted), ""),
        (sealed(&untrusted), "UMB-DIR006"),
        (started(&untrusted), "UMB-DIR006"),
        (sealed(&trusted).replace(&slapd.address.to_string(), "localhost"), "UMB-DIR005"),
        (clear.replace("ldap://", "ldaps://") + &trusted, "UMB-DIR006"),
        (clear.replace("directory.password", "wrong.password"), "UMB-DIR007"),
        (clear.replace("directory.password", "empty.password"), "UMB-DIR003"),
        (clear.replace("directory.password", "no.password"), "UMB-DIR003"),
        (clear.replace("CN=Configuration,DC=contoso", "CN=Configuration,DC=fabrikam"), "UMB-DIR008"),
        (
            clear
                .replace(
                    "\"CN=Configuration",
                    "\"CN=UM Mailbox Policies,CN=First Organization,CN=Configuration",
                )
                .replace("OU=People", "CN=Configuration"),
            "UMB-DIR010",
        ),
        (clear.replace(&at, &format!("ldap://{}:1", slapd.address)), "UMB-DIR005"),
        (clear.replace(&at, "http://dc01.contoso.test"), "UMB-DIR001"),
        (clear.replace(&at, &format!("ldap://{FQDN}")), "UMB-DIR002"),
        (sealed(""), "UMB-DIR004"),
    ];
    for (section, code) in cases {
        let text = without_objects(net, &section);
        let import = umbra_with(folder.path(), &text, &["import", "ldap"]);
        let told = err(&import);
        match code {
            "" => assert_eq!(import.status.code(), Some(0), "{section}\n{told}"),
            code => {
                assert!(told.contains(code) && import.status.code() != Some(0), "{code}: {section}\n{told}")
            }
        }
        assert!(!told.contains(PASSWORD) && !told.contains("panicked"), "{told}");
    }
}

/// A caller on one connection that keeps its call for as long as it likes.
struct Phone {
    wire: Wire,
    from: Ipv4Addr,
    number: usize,
    tag: String,
}

impl Phone {
    /// Calls this pilot; the status of the answer.
    fn call(net: Net, number: usize, pilot: &str) -> (u16, Self) {
        let from = net.host(10);
        let mut phone =
            Self { wire: Wire::new(connect(from, net.host(20))), from, number, tag: String::new() };
        phone.say(&request("INVITE", number, 1, "", from).replace("88895", pilot));
        let answer = phone.last_word();
        let status = answer.get(8..11).and_then(|text| text.parse().ok()).unwrap_or_default();
        let to = line(&answer, "To:");
        phone.tag = to.find(";tag=").map_or_else(String::new, |at| to[at..].to_owned());
        let ack = request("ACK", number, 1, &phone.tag, from);
        let ack = if status >= 300 { ack.replace("z9hG4bKACK", "z9hG4bKINVITE") } else { ack };
        phone.say(&ack.replace("88895", pilot));
        (status, phone)
    }

    /// Ends it; whether it was still there.
    fn hang_up(mut self, cseq: u32) -> bool {
        let bye = request("BYE", self.number, cseq, &self.tag, self.from);
        self.say(&bye);
        self.last_word().starts_with("SIP/2.0 200 ")
    }

    fn say(&mut self, text: &str) {
        self.wire.stream.write_all(text.as_bytes()).unwrap();
    }

    fn last_word(&mut self) -> String {
        loop {
            let message = self.wire.hear().expect("an answer");
            if !message.starts_with("SIP/2.0 1") {
                return message;
            }
        }
    }
}

fn answers(net: Net, number: usize, pilot: &str) -> bool {
    let (status, phone) = Phone::call(net, number, pilot);
    status == 200 && phone.hang_up(2)
}

/// Waits until the log has so many lines with these words.
fn wait_for_log(gateway: &Gateway, words: &str, count: usize) -> String {
    wait_for(words, || {
        let log = gateway.process.output();
        let line = log.lines().filter(|line| line.contains(words)).nth(count - 1)?;
        Some(line.to_owned())
    })
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn status(net: Net) -> String {
    let endpoint = format!("{}:9065", net.host(20));
    let output = umbra().args(["status", "--server", &endpoint]).env("NO_COLOR", "1").output().unwrap();
    out(&output)
}

fn metric(net: Net, name: &str) -> f64 {
    metric_sum(&http_get(net.host(20), 9065, "/metrics"), name)
}

struct Live {
    net: Net,
    slapd: Slapd,
    gateway: Gateway,
}

impl Live {
    /// A gateway whose plan, UM IP gateway and hunt group stand in the directory alone.
    fn start(change: impl FnOnce(String) -> String) -> Self {
        let (net, folder) = (Net::new(), folder());
        start_um(net.host(30));
        // A second group, for the only one of a gateway takes every pilot.
        let slapd = Slapd::start(net, &group("pbx", "other", "DP", "66666"));
        let text = without_objects(net, &change(slapd.section(folder.path())));
        let gateway = Gateway::start(folder, net.host(20), 5060, &text);
        Self { net, slapd, gateway }
    }
}

#[test]
fn a_call_goes_by_what_stands_in_the_directory_alone_and_changes_there_lose_no_call() {
    if !peers_present(PROGRAMS) {
        return;
    }
    let Live { net, slapd, gateway } = Live::start(|section| section);
    let (answered, held) = Phone::call(net, 1, "88895");
    assert_eq!(answered, 200, "{}", gateway.process.output());
    assert_eq!(Phone::call(net, 2, "77777").0, 404);
    slapd.change(&group("pbx", "second", "DP", "77777"));
    let taken = wait_for_log(&gateway, "directory_taken", 1);
    assert!(taken.contains("+UMHuntGroup cn=second,cn=pbx,cn=UM IPGateway Container"), "{taken}");
    assert!(answers(net, 3, "77777"), "{}", gateway.process.output());
    // What its call goes by is gone, and the call is not.
    slapd.change(&format!("dn: {}\nchangetype: delete\n", group_dn("pbx", "pbx-hunt")));
    let taken = wait_for_log(&gateway, "directory_taken", 2);
    assert!(taken.contains("-UMHuntGroup cn=pbx-hunt,") && taken.contains("\"changes\":1"), "{taken}");
    assert!(held.hang_up(2), "{}", gateway.process.output());
    // The log is a moment ahead of the figures.
    wait_for("two readings", || (metric(net, "umbra_directory_refreshes_total") >= 2.0).then_some(()));
    assert_eq!(metric(net, "umbra_directory_up"), 1.0);
    // Plan, gateway, two groups, mailbox.
    wait_for("five entries", || (metric(net, "umbra_directory_entries") == 5.0).then_some(()));
    let shown = status(net);
    assert!(
        shown.contains(&format!("directory ldap://{}:{PORT}   5 entries, seen ", slapd.address)),
        "{shown}"
    );
    assert!(!gateway.process.output().contains(PASSWORD));
}

#[test]
fn without_the_directory_calls_go_on_a_restart_has_the_kept_view_and_an_outage_is_told_once() {
    if !peers_present(PROGRAMS) {
        return;
    }
    let Live { net, mut slapd, mut gateway } = Live::start(|section| section);
    assert!(answers(net, 1, "88895"));
    slapd.down();
    wait_for_log(&gateway, "directory_lost", 1);
    wait_for("three failures", || {
        let page = http_get(net.host(20), 9065, "/metrics");
        let failed = page
            .lines()
            .find(|line| line.starts_with("umbra_directory_refreshes_total{result=\"failed\"}"))?;
        failed.rsplit(' ').next()?.parse::<u32>().ok().filter(|count| *count >= 3)
    });
    assert_eq!(gateway.process.output().matches("directory_lost").count(), 1, "{}", gateway.process.output());
    assert!(answers(net, 2, "88895"));
    let shown = status(net);
    assert!(shown.contains("UMB-DIR005") && shown.contains("entries, seen "), "{shown}");
    assert_eq!(metric(net, "umbra_directory_up"), 0.0);
    let doctor =
        umbra().args(["doctor", "exchange", "-c"]).arg(gateway.folder.path().join("umbra.toml")).output();
    assert!(out(&doctor.unwrap()).contains("UMB-DIR005"));
    gateway.kill_and_restart(5060);
    let said = gateway.process.output();
    assert!(said.contains("directory: 5 entries as they were kept at 20"), "{said}");
    assert!(answers(net, 3, "88895"));
    let check = umbra().arg("check").arg(gateway.folder.path().join("umbra.toml")).output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{}", out(&check));
    wait_for_log(&gateway, "directory_lost", 1);
    slapd.up();
    wait_for_log(&gateway, "directory_back", 1);
    wait_for("a directory that is up", || (metric(net, "umbra_directory_up") == 1.0).then_some(()));
    // Without directory and kept view there is nobody who could call: a clear error, no gateway.
    slapd.down();
    assert_eq!(gateway.stop(), 0);
    std::fs::remove_file(gateway.folder.path().join("state/directory.json")).unwrap();
    let file = gateway.folder.path().join("umbra.toml");
    let run = umbra().args(["run", "-c"]).arg(&file).output().unwrap();
    assert_eq!(run.status.code(), Some(78), "{}", err(&run));
    for words in ["UMB-DIR005", "only those of the file count", "there is no [[dial_plan]]"] {
        assert!(err(&run).contains(words), "{words}: {}", err(&run));
    }
}

#[test]
fn a_view_that_is_broken_or_empty_is_refused_as_a_whole_and_the_last_good_one_stays() {
    if !peers_present(PROGRAMS) {
        return;
    }
    let Live { net, slapd, gateway } =
        Live::start(|section| section.replace("refresh = \"1s\"", "refresh = \"1h\""));
    let refresh = || gateway.process.signal("HUP");
    let modify = |security: &str| {
        let dn = plan_dn("DP");
        slapd.change(&format!("dn: {dn}\nchangetype: modify\nreplace: msExchUMDialPlanVoipSecurity\nmsExchUMDialPlanVoipSecurity: {security}\n"));
    };
    modify("9");
    refresh();
    let refused = wait_for_log(&gateway, "directory_refused", 1);
    assert!(
        refused.contains("UMB-DIR011") && refused.contains("DP") && refused.contains("VoIPSecurity"),
        "{refused}"
    );
    assert!(answers(net, 1, "88895"), "{}", gateway.process.output());
    wait_for("UMB-DIR011 in the status", || status(net).contains("UMB-DIR011").then_some(()));
    // Two of one pilot do not go together; the place is that in the directory.
    modify("2");
    slapd.change(&group("pbx", "again", "DP", "88895"));
    refresh();
    let refused = wait_for_log(&gateway, "directory_refused", 2);
    assert!(
        refused.contains("directory cn=pbx-hunt,") && refused.contains("has the pilot `88895` too"),
        "{refused}"
    );
    assert!(answers(net, 2, "88895"));
    slapd.change(&format!("dn: {}\nchangetype: delete\n", group_dn("pbx", "again")));
    refresh();
    wait_for_log(&gateway, "directory_back", 1);
    wait_for("a directory that is up", || (metric(net, "umbra_directory_up") == 1.0).then_some(()));
    let doctor = umbra()
        .args(["doctor", "exchange", "-c"])
        .arg(gateway.folder.path().join("umbra.toml"))
        .output()
        .unwrap();
    assert!(out(&doctor).contains("1 of Get-UMDialPlan"), "{}{}", out(&doctor), err(&doctor));
    slapd.change(&format!("dn: {}\nchangetype: modify\ndelete: msExchUMPhoneContext\n", plan_dn("DP")));
    refresh();
    wait_for_log(&gateway, "directory_refused", 3);
    assert!(answers(net, 3, "88895"));
}
