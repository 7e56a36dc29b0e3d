//! `umbra status` against the gateway that runs: every fact it promises, made true first; and what it says when nobody answers.

use std::net::Ipv4Addr;
use std::time::Duration;

use lab::frontend::{CallEnd, CallSpec};
use lab::pki::{CertSpec, KeyKind, Life};

use super::place::{Answer, FQDN, POOL, Place, Seat};
use crate::harness::{folder, umbra};

/// Exit code, stdout, stderr.
fn status(arguments: &[&str]) -> (i32, String, String) {
    let mut command = umbra();
    command.arg("status").args(arguments).env("NO_COLOR", "1").env_remove("UMBRA_SERVER");
    let out = command.current_dir(folder().path()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
}

pub fn document(place: &Place) -> serde_json::Value {
    let config = place.gateway.folder.path().join("umbra.toml");
    let (code, out, err) = status(&["--json", "-c", config.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

/// Whether a call has come as far as that server.
pub fn has_call(document: &serde_json::Value, server: &str) -> bool {
    let server = peer(document, server);
    server["calls"] == 1 && server["connections"].as_array().is_some_and(|all| !all.is_empty())
}

fn peer<'a>(document: &'a serde_json::Value, name: &str) -> &'a serde_json::Value {
    document["peers"].as_array().unwrap().iter().find(|peer| peer["name"] == name).unwrap()
}

#[test]
fn the_running_gateway_tells_how_it_stands() {
    let names = ["well", "away", "full", "off"].map(|name| format!("{name}.sip.zoo.test"));
    let seats = [
        Seat::new(&names[0]).with("weak_certificates = \"Allowed\"\n"),
        Seat::new(&names[1]),
        Seat::new(&names[2]).with("max_calls_allowed = 1\n"),
        Seat::new(&names[3]).with("status = \"Disabled\"\n"),
    ];
    let place = Place::start(&seats, "");
    let issue = |name: &str| place.pki.ca().issue(&CertSpec::host(name).key(KeyKind::EcdsaP256)).unwrap();
    place.serve(0, &issue(&names[0]), Answer::Taken);
    place.serve(2, &issue(&names[2]), Answer::Taken);
    let fresh = document(&place);
    assert_eq!((&fresh["fqdn"], &fresh["draining"]), (&FQDN.into(), &false.into()));
    assert_eq!((&fresh["calls"]["since_start"], &fresh["last_reload"]), (&0.into(), &().into()));
    assert!(peer(&fresh, "pool")["connections"].as_array().unwrap().is_empty());

    // One call that stays, one that finds nobody, one certificate that is over.
    let caller = place.pool();
    let spec = |number| place.call(&Place::calling(number));
    let away = place.block_on(caller.place_call(spec(1))).unwrap();
    assert_eq!(away.status, 503);
    let held = CallSpec { end: CallEnd::HangUpAfter(Duration::from_secs(600)), ..spec(2) };
    let other = place.pool();
    let _held = place.spawn(async move { other.place_call(held).await });
    let old =
        place.pki.ca().issue(&CertSpec::host(POOL).key(KeyKind::EcdsaP256).life(Life::Expired)).unwrap();
    assert_eq!(place.options(&old), "");
    place.reload(1.0);
    place.wait_until(|| has_call(&document(&place), &names[2]));
    let told = document(&place);
    let shown = format!("{told:#}");
    assert_eq!(
        (&told["calls"]["since_start"], &told["last_reload"]["taken"]),
        (&2.into(), &true.into()),
        "{shown}"
    );
    let rtp = &told["rtp"];
    assert_eq!(
        (&rtp["pairs"], &rtp["in_use"], &rtp["resting"]),
        (&3000.into(), &2.into(), &2.into()),
        "{shown}"
    );

    assert_peers(&told, &names);
    assert_tls(&told, &names[0]);

    // The same for people, and asked in the other way.
    let server = format!("http://{}:9065", place.gateway.address);
    let (code, screen, err) = status(&["--server", &server]);
    assert_eq!(code, 0, "{err}");
    println!("{screen}");
    for words in [
        "calls 1 of ",
        ", 2 since the start",
        "pool            pool ",
        "resting ",
        "full  ",
        "certificate",
        "x2",
    ] {
        assert!(screen.contains(words), "{words}:\n{screen}");
    }
    assert!(
        !screen.contains("PRIVATE KEY") && !shown.contains("PRIVATE KEY") && !shown.contains(".key"),
        "{shown}"
    );
    assert_eq!(status(&["--ready", "--server", &server]), (0, String::new(), String::new()));
}

fn assert_peers(told: &serde_json::Value, names: &[String; 4]) {
    let shown = format!("{told:#}");
    let pool = &peer(told, "pool")["connections"];
    assert_eq!((pool.as_array().unwrap().len(), &pool[0]["count"]), (1, &2.into()), "{shown}");
    assert_eq!((&pool[0]["direction"], &pool[0]["transport"]), (&"in".into(), &"tls".into()));
    assert_eq!(pool[0]["tls"]["version"], "TLS 1.3");
    assert_eq!(
        (&pool[0]["tls"]["suite"], &pool[0]["tls"]["backend"]),
        (&"TLS_AES_256_GCM_SHA384".into(), &"rustls".into())
    );
    assert_eq!(pool[0]["certificate"]["name"], POOL);
    assert!(pool[0]["certificate"]["days_left"].as_i64().unwrap() > 0, "{shown}");
    let out = &peer(told, &names[2])["connections"][0];
    assert_eq!((&out["direction"], &out["certificate"]["name"]), (&"out".into(), &names[2].as_str().into()));
    assert!(out["remote"].as_str().unwrap().ends_with(":5063"));
    let state = |name: &str| peer(told, name)["state"].as_str().unwrap().to_owned();
    assert_eq!(names.each_ref().map(|name| state(name)), ["up", "resting", "full", "disabled"], "{shown}");
    assert!(peer(told, &names[1])["resting_secs"].as_u64().unwrap() <= 15);
}

fn assert_tls(told: &serde_json::Value, weak: &str) {
    let shown = format!("{told:#}");
    let own = &told["certificates"];
    assert_eq!(own[0]["used_for"], serde_json::json!(["listener", "peers"]), "{shown}");
    assert!(own[0]["subject"].as_str().unwrap().contains(FQDN) && own[0]["days_left"].as_i64().unwrap() > 0);
    assert!(own[0]["file"].as_str().unwrap().ends_with(&format!("{FQDN}.pem")), "{shown}");
    assert_eq!(told["weak_allowed"], serde_json::json!([weak]));
    let failed = &told["failed_handshakes"];
    let last = failed["last"].as_array().unwrap().last().unwrap();
    assert!(failed["count"].as_u64().unwrap() >= 1, "{shown}");
    assert_eq!(
        (&last["code"], &last["certificate"]["subject"]),
        (&"UMB-TLS005".into(), &format!("O=Umbra lab, CN={POOL}").into())
    );
}

#[test]
fn a_gateway_that_drains_is_not_ready_and_one_that_is_gone_is_told_from_a_stranger() {
    let mut place = Place::start(&[Seat::new("any.sip.zoo.test")], "");
    place.serve(0, &place.pki.ca().issue(&CertSpec::host("any.sip.zoo.test")).unwrap(), Answer::Taken);
    let caller = place.pool();
    let held =
        CallSpec { end: CallEnd::HangUpAfter(Duration::from_secs(600)), ..place.call(&Place::calling(0)) };
    let _held = place.spawn(async move { caller.place_call(held).await });
    place.wait_until(|| document(&place)["calls"]["now"] == 1);
    place.gateway.process.signal("TERM");
    let server = format!("{}:9065", place.gateway.address);
    place.wait_until(|| status(&["--ready", "--server", &server]).0 == 1);
    let (code, screen, _) = status(&["--server", &server]);
    assert!(code == 0 && screen.contains("takes no new calls"), "{screen}");
    place.gateway.process.signal("KILL");
    place.gateway.process.wait(Duration::from_secs(5));
    let (code, out, err) = status(&["--server", &server, "--json"]);
    assert_eq!((code, out.as_str()), (69, ""), "{err}");
    assert!(err.contains("no gateway answers") && err.contains(&server) && err.contains("refused"), "{err}");
    let (code, _, err) = status(&["--ready", "--server", &server]);
    assert_eq!(code, 69, "{err}");
    let stranger = stranger(place.gateway.address);
    let (code, _, err) = status(&["--server", &stranger]);
    assert!(code == 69 && err.contains("no gateway of this version"), "{err}");
    assert_eq!(status(&["--server", "unix:umbra.sock"]).0, 2);
    let (code, _, err) = status(&[]);
    assert!(code == 78 && err.contains("no configuration"), "{err}");
}

/// Somebody who answers in another language.
fn stranger(address: Ipv4Addr) -> String {
    let listener = std::net::TcpListener::bind((address, 0)).unwrap();
    let at = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        let (mut stream, _) = listener.accept().unwrap();
        let _asked = stream.read(&mut [0; 512]);
        let _gone = stream.write_all(b"SSH-2.0-other\r\n");
    });
    at
}
