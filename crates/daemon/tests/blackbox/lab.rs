//! `umbra lab faults`: what the gateway makes of a faulty UM is what the plan says, and a plan that says otherwise fails. `umbra lab up`,
//! `umbra run --lab` and `umbra lab call`: a lab that a file describes, alone and beside the gateway, called by hand.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Net, Process, folder, umbra};

/// For anything that must happen.
const PATIENCE: Duration = Duration::from_secs(30);

fn faults(arguments: &[&str], folder: &std::path::Path) -> Output {
    let mut command: Command = umbra();
    command.args(["lab", "faults"]).args(arguments).env("NO_COLOR", "1").current_dir(folder).output().unwrap()
}

#[test]
fn redirects_that_are_lost_late_foreign_or_in_a_loop_come_to_what_the_plan_says() {
    let folder = folder();
    let output = faults(&["--only", "302"], folder.path());
    let screen = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{screen}");
    for words in
        ["302 late", "UMB-SRV001 after UMB-SRV003", "UMB-REDIR001", "UMB-REDIR002", "5 of 5 as expected"]
    {
        assert!(screen.contains(words), "`{words}` is missing:\n{screen}");
    }
}

#[test]
fn a_plan_that_expects_something_else_fails_and_shows_the_confusion() {
    let folder = folder();
    let plan = "[[fault]]\nname = \"none\"\nkind = \"none\"\nexpect = \"next server\"\n";
    std::fs::write(folder.path().join("plan.toml"), plan).unwrap();
    let output = faults(&["--plan", "plan.toml", "-o", "json"], folder.path());
    assert_eq!(output.status.code(), Some(1));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&found[0]["expected"], &found[0]["found"]), (&"next server".into(), &"answered".into()));
}

#[test]
fn a_plan_that_cannot_be_read_is_a_bad_configuration() {
    let folder = folder();
    std::fs::write(
        folder.path().join("plan.toml"),
        "[[fault]]\nname = \"x\"\nkind = \"meteor\"\nexpect = \"answered\"\n",
    )
    .unwrap();
    for (plan, words) in
        [("plan.toml", "meteor"), ("nowhere.toml", "nowhere.toml"), ("/dev/zero", "longer than")]
    {
        let output = faults(&["--plan", plan], folder.path());
        assert_eq!(output.status.code(), Some(78), "{plan}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(words), "{plan}");
    }
}

/// A lab of one Mailbox server that speaks TCP; its callers call a worker of it as if it were the gateway.
fn plain_lab(net: Net) -> String {
    let (server, caller) = (net.host(31), net.host(10));
    format!(
        "[lab]\nsip_domain = \"contoso.test\"\n\n[um_ip_gateway]\nname = \"umbra.contoso.test\"\naddress = \"{server}\"\n\
         port = 5065\ntransport = \"TCP\"\nmessage_waiting_indicator_allowed = false\n\n\
         [[mailbox_server]]\nname = \"mbx01.contoso.test\"\naddress = \"{server}\"\nstartup_mode = \"TCP\"\n\n\
         [[dial_plan]]\nname = \"DP-Tel\"\nvoip_security = \"Unsecured\"\naccess_telephone_numbers = [\"100\"]\n\n\
         [[dial_plan]]\nname = \"DP-Short\"\nvoip_security = \"Secured\"\n\n\
         [[mailbox]]\nalias = \"ken\"\nextension = \"1001\"\ndial_plan = \"DP-Tel\"\npin = \"135790\"\n\n\
         [[mailbox]]\nalias = \"sue\"\nextension = \"1002\"\ndial_plan = \"DP-Short\"\n\n\
         [[auto_attendant]]\nname = \"AA-Main\"\ndial_plan = \"DP-Tel\"\npilot_identifiers = [\"200\"]\n\
         business_hours_keys = {{ \"1\" = \"transfer:1001\" }}\n\n\
         [[caller]]\nname = \"pbx.contoso.test\"\naddress = \"{caller}\"\ntransport = \"TCP\"\n"
    )
}

fn lab_up(folder: &Path, arguments: &[&str]) -> Process {
    let mut command = umbra();
    command.args(["lab", "up", "-c", "lab.toml"]).args(arguments).env("NO_COLOR", "1").current_dir(folder);
    let mut process = Process::start("lab", &mut command, folder);
    wait_for(&mut process, "umbra lab ready");
    process
}

fn wait_for(process: &mut Process, words: &str) {
    let until = Instant::now() + PATIENCE;
    while !process.output().contains(words) {
        assert!(Instant::now() < until, "`{words}` does not come:\n{}", process.output());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn lab_call(folder: &Path, arguments: &[&str]) -> (Option<i32>, Value) {
    let mut command = umbra();
    command.args(["lab", "call", "-o", "json"]).args(arguments).current_dir(folder);
    let output = command.output().unwrap();
    let told = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    assert!(!told.is_null(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), told)
}

#[test]
fn a_lab_of_a_file_takes_calls_tells_what_happens_and_ends_in_order() {
    let (folder, net) = (folder(), Net::new());
    std::fs::write(folder.path().join("lab.toml"), plain_lab(net)).unwrap();
    let mut lab = lab_up(folder.path(), &["-o", "jsonl"]);
    let call = |arguments: &[&str]| lab_call(folder.path(), arguments);
    let diverted = ["--diversion", "sip:1001@pbx.contoso.test"];
    let (code, left) = call(&[&["88895", "--talk", "1"][..], &diverted].concat());
    assert_eq!(
        (code, left["status"].as_u64(), left["media"].as_str()),
        (Some(0), Some(200), Some("RTP")),
        "{left:#}"
    );
    wait_for(&mut lab, "\"event\":\"message\"");
    // The number of voice access: a wrong PIN, then the right one, then the message.
    let (code, heard) = call(&["100", "--from", "1001", "--keys", "246800#,,,135790#,,,1", "--stay", "6"]);
    assert_eq!(code, Some(0), "{heard:#}");
    assert!((heard["heard_hz"].as_f64().unwrap_or_default() - 440.0).abs() < 5.0, "{heard:#}");
    let (code, sent_on) = call(&["200", "--keys", "1", "--stay", "8"]);
    assert_eq!(
        (code, &sent_on["referred_to"][0]),
        (Some(0), &"<sip:ken@contoso.test>".into()),
        "{sent_on:#}"
    );
    // Another dial plan, another security; an unexpected status is a failure, an expected one is not.
    let sue = ["88895", "--diversion", "sip:1002@pbx.contoso.test"];
    assert_eq!(call(&sue).0, Some(1));
    assert_eq!(call(&[&sue[..], &["--expect", "488"]].concat()).0, Some(0));
    lab.signal("INT");
    assert_eq!(lab.wait(PATIENCE), 0, "{}", lab.output());
    let output = lab.output();
    let events: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let told = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    assert_eq!(told("call").len(), 3, "{output}");
    assert_eq!(told("message")[0]["whom"], "ken");
    let logons: Vec<_> =
        told("logon").iter().map(|event| event["what"].as_str().unwrap().to_owned()).collect();
    assert_eq!(logons, ["wrong PIN, 1 in a row", "right PIN"], "{output}");
    assert!(!output.contains("135790") && !output.contains("246800"), "a PIN is printed:\n{output}");
    // Everything is closed: the same lab starts again.
    lab_up(folder.path(), &[]).signal("TERM");
}

#[test]
fn what_keeps_a_lab_from_running_is_said_with_an_exit_code_of_its_own() {
    let (folder, net) = (folder(), Net::new());
    let path = folder.path().join("lab.toml");
    let text = plain_lab(net);
    let run = |words: &[&str]| -> (Option<i32>, String) {
        let output = umbra()
            .args(["lab"])
            .args(words)
            .env("NO_COLOR", "1")
            .current_dir(folder.path())
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, told) = run(&["up"]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("lab.toml"), "{told}");
    std::fs::write(&path, text.replace("max_calls", "x").replace("startup_mode", "start_mode")).unwrap();
    let (code, told) = run(&["up"]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("lab.toml:14:1") && told.contains("did you mean `startup_mode`?"), "{told}");
    std::fs::write(&path, &text).unwrap();
    let (code, told) = run(&["call", "88895"]);
    assert_eq!(code, Some(69), "{told}");
    let (code, told) = run(&["call", "88895", "--as", "pool09"]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("pool09") && told.contains("pbx.contoso.test"), "{told}");
    let taken = std::net::TcpListener::bind((net.host(31), 5067)).unwrap();
    let (code, told) = run(&["up"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("mbx01.contoso.test cannot listen on") && told.contains(":5067"), "{told}");
    drop(taken);
    std::fs::write(&path, text.replace(&net.host(31).to_string(), "192.0.2.31")).unwrap();
    let (code, told) = run(&["up"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("this host's"), "{told}");
    std::fs::write(&path, text.replace("startup_mode = \"TCP\"", "startup_mode = \"Dual\"")).unwrap();
    std::fs::create_dir(folder.path().join("pki")).unwrap();
    std::fs::write(folder.path().join("pki/lab-root.pem"), "somebody's").unwrap();
    let (code, told) = run(&["up"]);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("lab-root.key is not"), "{told}");
    assert_eq!(std::fs::read_to_string(folder.path().join("pki/lab-root.pem")).unwrap(), "somebody's");
}

#[test]
fn what_a_demo_leaves_runs_again_with_the_gateway_and_can_be_called_by_hand() {
    let folder = folder();
    let demo = umbra().args(["demo", "--quick", "--once"]).current_dir(folder.path()).output().unwrap();
    assert!(demo.status.success(), "{}", String::from_utf8_lossy(&demo.stdout));
    let mut command = umbra();
    command.args(["run", "-c", "umbra-demo/umbra.toml", "--lab", "umbra-demo/lab.toml"]);
    command.env("NO_COLOR", "1").current_dir(folder.path());
    let mut both = Process::start("both", &mut command, folder.path());
    wait_for(&mut both, "umbra ready");
    let call =
        |arguments: &[&str]| lab_call(folder.path(), &[arguments, &["-c", "umbra-demo/lab.toml"]].concat());
    let (code, left) = call(&["ken", "--talk", "1"]);
    assert_eq!((code, left["media"].as_str()), (Some(0), Some("SRTP")), "{left:#}\n{}", both.output());
    let (code, left) = call(&["lee", "--as", "pool02", "--talk", "1"]);
    assert_eq!((code, left["media"].as_str()), (Some(0), Some("RTP")), "{left:#}\n{}", both.output());
    let (code, refused) = call(&["lee", "--as", "pool03", "--expect", "488"]);
    assert_eq!(code, Some(0), "{refused:#}");
    assert!(refused["ms_diagnostics"].as_str().unwrap().starts_with("61001;"), "{refused:#}");
    let (code, heard) = call(&["ova", "--from", "ken", "--keys", "135790#,,,1", "--stay", "4"]);
    assert_eq!(code, Some(0), "{heard:#}");
    let (code, sent_on) = call(&["aa-main", "--keys", "1", "--stay", "8"]);
    assert_eq!(
        (code, &sent_on["referred_to"][0]),
        (Some(0), &"<sip:ken@contoso.test>".into()),
        "{sent_on:#}"
    );
    let log = both.output();
    for words in ["call router", "right PIN", "\"kind\":\"mwi\"", "answered 200"] {
        assert!(log.contains(words), "`{words}` is missing:\n{log}");
    }
    assert!(!log.contains("135790"), "a PIN is printed:\n{log}");
    both.signal("TERM");
    assert_eq!(both.wait(PATIENCE), 0, "{}", both.output());
}

fn lab_fault(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = umbra();
    command.args(["lab", "fault"]).args(arguments).env("NO_COLOR", "1").current_dir(folder);
    let output = command.output().unwrap();
    let (told, story) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code(), format!("{told}{story}"))
}

#[test]
fn faults_come_and_go_in_a_lab_that_runs_by_hand_by_time_and_by_its_plan() {
    let (folder, net) = (folder(), Net::new());
    let plan = "[[fault]]\nat = \"200ms\"\nfor = \"1m\"\nserver = \"cas01.contoso.test\"\nfault = \"lost_redirect\"\n\
                [[call_router]]\nname = \"cas01.contoso.test\"\nstartup_mode = \"TCP\"\n";
    let control = format!("[lab]\ncontrol = \"{}:9066\"\n", net.host(31));
    let text =
        format!("{}\n{plan}address = \"{}\"\n", plain_lab(net).replace("[lab]\n", &control), net.host(30));
    std::fs::write(folder.path().join("lab.toml"), text).unwrap();
    let fault = |arguments: &[&str]| lab_fault(folder.path(), arguments);
    let (code, told) = fault(&["list"]);
    assert_eq!(code, Some(69), "{told}");
    let mut lab = lab_up(folder.path(), &[]);
    let until = Instant::now() + PATIENCE;
    while !fault(&["list"]).1.contains("lost_redirect") {
        assert!(Instant::now() < until, "the plan is not carried out");
    }
    let diverted = ["88895", "--diversion", "sip:1001@pbx.contoso.test", "--talk", "0.5"];
    let status = |expect: &str| lab_call(folder.path(), &[&diverted[..], &["--expect", expect]].concat());
    for (word, expect) in [("unavailable", "503"), ("no_new_calls", "503"), ("none", "200")] {
        assert_eq!(fault(&["set", "mbx01", word, "--part", "workers"]).0, Some(0), "{word}");
        let (code, outcome) = status(expect);
        assert_eq!(code, Some(0), "{word}: {outcome:#}");
    }
    // One that goes by itself, one that a word takes away, and what is no fault or no server.
    assert_eq!(fault(&["set", "mbx01.contoso.test", "unavailable", "--for", "1s"]).0, Some(0));
    let (code, told) = fault(&["list", "-o", "json", "--server", &format!("{}:9066", net.host(31))]);
    assert_eq!(code, Some(0), "{told}");
    let told: Value = serde_json::from_str(&told).unwrap();
    let words: Vec<_> =
        told["faults"].as_array().unwrap().iter().map(|one| one["fault"].as_str().unwrap()).collect();
    assert_eq!(words, ["lost_redirect", "unavailable"], "{told:#}");
    while fault(&["list"]).1.contains("unavailable") {
        assert!(Instant::now() < until, "it does not go");
    }
    assert_eq!(status("200").0, Some(0));
    assert_eq!(fault(&["clear"]).1, "nothing is wrong\n");
    let (code, told) = fault(&["set", "mbx01", "ded"]);
    assert_eq!(code, Some(2), "{told}");
    assert!(told.contains("did you mean `dead`?"), "{told}");
    assert_eq!(fault(&["set", "mbx09", "dead"]).0, Some(1));
    // A page of a browser cannot put one in.
    let page = crate::harness::http_get(net.host(31), 9066, "/lab/set/mbx01.contoso.test/all/dead/0/0");
    assert!(page.starts_with("HTTP/1.1 405"), "{page}");
    assert_eq!(fault(&["set", "mbx01", "dead"]).0, Some(0));
    let (code, told) = lab_fault(folder.path(), &["clear", "mbx01"]);
    assert_eq!((code, told.as_str()), (Some(0), "nothing is wrong\n"));
    assert_eq!(status("200").0, Some(0));
    lab.signal("TERM");
    assert_eq!(lab.wait(PATIENCE), 0, "{}", lab.output());
}

/// A mail server that takes everything (RFC 5321), and what it took.
fn mail_sink(listener: TcpListener) -> mpsc::Receiver<String> {
    let (taken, mails) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut writer = stream.try_clone().unwrap();
            let mut lines = BufReader::new(stream).lines();
            let mut answer = |words: &str| write!(writer, "{words}\r\n");
            let _ = answer("220 sink");
            let mut mail = String::new();
            while let Some(Ok(line)) = lines.next() {
                match line.split(' ').next().unwrap_or_default() {
                    "DATA" => {
                        let _ = answer("354 go on");
                        mail.extend(
                            lines
                                .by_ref()
                                .map_while(Result::ok)
                                .take_while(|line| line != ".")
                                .map(|line| line + "\n"),
                        );
                        let _ = answer("250 taken");
                        let _ = taken.send(std::mem::take(&mut mail));
                    }
                    "QUIT" => {
                        let _ = answer("221 bye");
                        break;
                    }
                    _ => {
                        mail += &format!("{line}\n");
                        let _ = answer("250 ok");
                    }
                }
            }
        }
    });
    mails
}

#[test]
fn messages_are_mailed_found_again_after_a_restart_and_worker_processes_take_turns() {
    let (folder, net) = (folder(), Net::new());
    let sink = TcpListener::bind((net.host(60), 2525)).unwrap();
    let mails = mail_sink(sink);
    let more = format!(
        "[smtp]\nserver = \"{}\"\nport = 2525\n\n[quirks]\nrecycling = {{ calls = 1 }}\n\n[[mailbox_server]]",
        net.host(60)
    );
    let text = plain_lab(net).replacen("[[mailbox_server]]", &more, 1);
    std::fs::write(folder.path().join("lab.toml"), &text).unwrap();
    std::fs::write(folder.path().join("service.toml"), text.replace("port = 5065", "port = 5062")).unwrap();
    let call = |arguments: &[&str]| lab_call(folder.path(), arguments);
    let leave = || call(&["88895", "--talk", "1", "--diversion", "sip:1001@pbx.contoso.test"]).0;
    let listen = || call(&["100", "--from", "1001", "--keys", "135790#,,,1", "--stay", "3"]).0;
    let events = |lab: &Process, kind: &str| -> Vec<Value> {
        let output = lab.output();
        let all = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        all.filter(|event| event["event"] == kind).collect()
    };
    let stop = |mut lab: Process| {
        lab.signal("TERM");
        assert_eq!(lab.wait(PATIENCE), 0, "{}", lab.output());
    };

    let mut lab = lab_up(folder.path(), &["-o", "jsonl"]);
    assert_eq!(leave(), Some(0));
    let mail = mails.recv_timeout(PATIENCE).unwrap();
    for words in [
        "MAIL FROM:<voicemail@contoso.test>",
        "RCPT TO:<ken@contoso.test>",
        "Subject: Voice message",
        "audio/wav",
    ] {
        assert!(mail.contains(words), "`{words}` is missing:\n{mail}");
    }
    wait_for(&mut lab, "\"event\":\"mail\"");
    assert_eq!(listen(), Some(0));
    assert_eq!(leave(), Some(0));
    mails.recv_timeout(PATIENCE).unwrap();
    let left = events(&lab, "message");
    // The UM service names one worker process after the other.
    for _ in 0..3 {
        assert_eq!(call(&["88895", "--expect", "302", "-c", "service.toml"]).0, Some(0));
    }
    assert_eq!(events(&lab, "recycled").len(), 2, "{}", lab.output());
    stop(lab);
    let note = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(folder.path().join("voicemail/ken").join(name)).unwrap())
            .unwrap()
    };
    assert_eq!((&note("0001.json")["heard"], &note("0002.json")["heard"]), (&true.into(), &false.into()));

    let lab = lab_up(folder.path(), &["-o", "jsonl"]);
    assert_eq!(listen(), Some(0));
    let played = events(&lab, "played");
    let new = left[1]["call_id"].as_str().unwrap();
    assert!(played[0]["what"].as_str().unwrap().contains(new), "{played:?}: what is new comes first");
    stop(lab);
}
