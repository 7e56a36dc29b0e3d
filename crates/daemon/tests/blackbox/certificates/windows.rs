//! Servers and clients that speak TLS as Windows does: protocol versions and cipher suites by version of Windows, RSA and ECDSA,
//! in both roles, against each backend. What does not work must say why.
//!
//! Played by OpenSSL, which has no 3DES, RC4 and DSS: suites with these are left out of the lists. Everything else stands in them
//! in the order of the Windows documentation, "TLS Cipher Suites in Windows 7" (which counts for Server 2008 R2), "… 8.1" (Server
//! 2012 R2), "… 10 v1607" (Server 2016), "… 10 v1809" (the version of Server 2019; the page names Windows 10 only), and
//! "Protocols in TLS/SSL (Schannel SSP)" for the versions: Server 2008 R2 has TLS 1.1 and 1.2 switched off until an administrator
//! switches them on; the table ends before v1809, whose list of suites names TLS 1.0 to 1.2. Not played, because not documented
//! there: signature algorithms, extensions, what Windows sends when nothing is in common.

use std::process::Command;

use lab::pki::{CertSpec, IdentityFiles, KeyKind};

use super::place::{FQDN, Place, Seat, reasons};
use super::s_client;
use crate::harness::{Process, peers_present};

const POOL: &str = "pool.gate.test";

/// Windows 7 and 8.1, with the updates that changed the order (3042058, 2919355).
const SUITES_UNTIL_8_1: &str = "ECDHE-RSA-AES256-SHA384:ECDHE-RSA-AES128-SHA256:ECDHE-RSA-AES256-SHA:ECDHE-RSA-AES128-SHA:\
    DHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-SHA:DHE-RSA-AES128-SHA:\
    AES256-GCM-SHA384:AES128-GCM-SHA256:AES256-SHA256:AES128-SHA256:AES256-SHA:AES128-SHA:\
    ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES128-SHA256:\
    ECDHE-ECDSA-AES256-SHA:ECDHE-ECDSA-AES128-SHA";
const SUITES_1607: &str = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:\
    ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-SHA384:\
    ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES256-SHA384:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA:ECDHE-ECDSA-AES128-SHA:\
    ECDHE-RSA-AES256-SHA:ECDHE-RSA-AES128-SHA:DHE-RSA-AES256-SHA:DHE-RSA-AES128-SHA:AES256-GCM-SHA384:AES128-GCM-SHA256:\
    AES256-SHA256:AES128-SHA256:AES256-SHA:AES128-SHA";
const SUITES_1809: &str = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:\
    ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-SHA384:\
    ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES256-SHA384:ECDHE-RSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA:ECDHE-ECDSA-AES128-SHA:\
    ECDHE-RSA-AES256-SHA:ECDHE-RSA-AES128-SHA:AES256-GCM-SHA384:AES128-GCM-SHA256:\
    AES256-SHA256:AES128-SHA256:AES256-SHA:AES128-SHA";

/// Settings of ours, each of which can do what the ones before it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ours {
    Rustls,
    OpenSsl,
    OpenSslFrom10,
}

impl Ours {
    /// Those this build has.
    fn all() -> &'static [Self] {
        let all = &[Self::Rustls, Self::OpenSsl, Self::OpenSslFrom10];
        if cfg!(feature = "openssl") { all } else { &all[..1] }
    }

    fn keys(self) -> &'static str {
        match self {
            Self::Rustls => "backend = \"rustls\"",
            Self::OpenSsl => "backend = \"openssl\"",
            Self::OpenSslFrom10 => "backend = \"openssl\", min_version = \"1.0\"",
        }
    }
}

/// One version of Windows, and the least of our settings that can talk to it where the server's certificate is RSA, or ECDSA.
struct Windows {
    name: &'static str,
    versions: &'static str,
    suites: &'static str,
    /// Curves; before Windows 10 they stand in the names of the suites.
    groups: Option<&'static str>,
    rsa: Ours,
    ecdsa: Ours,
}

const WINDOWS: [Windows; 5] = [
    Windows {
        name: "2008r2",
        versions: "-tls1",
        suites: SUITES_UNTIL_8_1,
        groups: Some("P-256:P-384"),
        rsa: Ours::OpenSslFrom10,
        ecdsa: Ours::OpenSslFrom10,
    },
    Windows {
        name: "2008r2-tls12",
        versions: "-no_tls1_3",
        suites: SUITES_UNTIL_8_1,
        groups: Some("P-256:P-384"),
        rsa: Ours::OpenSsl,
        ecdsa: Ours::Rustls,
    },
    Windows {
        name: "2012r2",
        versions: "-no_tls1_3",
        suites: SUITES_UNTIL_8_1,
        groups: Some("P-256:P-384"),
        rsa: Ours::OpenSsl,
        ecdsa: Ours::Rustls,
    },
    Windows {
        name: "2016",
        versions: "-no_tls1_3",
        suites: SUITES_1607,
        groups: None,
        rsa: Ours::Rustls,
        ecdsa: Ours::Rustls,
    },
    Windows {
        name: "2019",
        versions: "-no_tls1_3",
        suites: SUITES_1809,
        groups: None,
        rsa: Ours::Rustls,
        ecdsa: Ours::Rustls,
    },
];

const KEYS: [(&str, KeyKind); 2] = [("rsa", KeyKind::Rsa2048), ("ecdsa", KeyKind::EcdsaP256)];

impl Windows {
    fn least(&self, key: &str) -> Ours {
        if key == "rsa" { self.rsa } else { self.ecdsa }
    }

    /// What makes `openssl` speak as it.
    fn arguments(&self) -> Vec<String> {
        let suites = format!("{}:@SECLEVEL=0", self.suites);
        let mut arguments = vec![self.versions.to_owned(), "-cipher".to_owned(), suites];
        arguments
            .extend(self.groups.into_iter().flat_map(|groups| ["-groups".to_owned(), groups.to_owned()]));
        arguments
    }
}

fn serve(place: &Place, number: usize, windows: &Windows, files: &IdentityFiles) -> Process {
    let address = place.seat(number);
    let mut command = Command::new("openssl");
    command.args(["s_server", "-www", "-serverpref", "-Verify", "2", "-verify_return_error", "-CAfile"]);
    command.arg(place.pki.root_file()).args(windows.arguments());
    command.args(["-accept", &format!("{address}:5063")]);
    command.arg("-cert").arg(&files.certificate).arg("-key").arg(&files.key);
    Process::start(&format!("s_server{number}"), &mut command, place.gateway.folder.path())
}

fn old_handshakes(metrics: &str, peer: &str, what: &str) -> bool {
    metrics.contains(&format!("umbra_tls_legacy_handshakes_total{{peer=\"{peer}\",what=\"{what}\"}} "))
}

#[test]
fn windows_servers_of_every_age_are_reached_with_the_settings_they_need_and_no_less() {
    if !peers_present(&["openssl"]) {
        return;
    }
    let mut cells = Vec::new();
    for windows in &WINDOWS {
        for (key, kind) in KEYS {
            let each = Ours::all().iter();
            cells.extend(each.map(|ours| {
                let name = format!("{}-{key}-{ours:?}.gate.test", windows.name).to_lowercase();
                (windows, key, kind, *ours, name)
            }));
        }
    }
    let seat = |(_, _, _, ours, name): &(_, _, _, Ours, String)| {
        Seat::new(name).with(&format!("tls = {{ {} }}\n", ours.keys()))
    };
    // These servers never answer SIP; nobody has to wait for them.
    let impatient = "\n[routing]\nfirst_answer_timeout = \"300ms\"\n";
    let place = Place::start(&cells.iter().map(seat).collect::<Vec<_>>(), impatient);
    let mut servers = Vec::new();
    for (number, (windows, _, kind, _, name)) in cells.iter().enumerate() {
        let files = place.pki.issue_files(name, &CertSpec::host(name).key(*kind)).unwrap();
        servers.push(serve(&place, number, windows, &files));
    }
    for (number, server) in servers.iter_mut().enumerate() {
        server.wait_for_port(place.seat(number).into(), 5063);
    }
    let caller = place.pool();
    let mut wrong = Vec::new();
    for (number, (windows, key, _, ours, name)) in cells.iter().enumerate() {
        let outcome = place.block_on(caller.place_call(place.call(&Place::calling(number)))).unwrap();
        let (record, metrics) = (place.record(&outcome.call_id), place.metrics());
        let is_reached = *ours >= windows.least(key);
        let result = if is_reached { "ok" } else { "nothing_in_common" };
        let counted = format!("umbra_tls_handshakes_total{{peer=\"{name}\",result=\"{result}\"}} ");
        let is_old = windows.name == "2008r2" && is_reached;
        let is_told = record.contains("UMB-TLS014") && record.contains("nothing_in_common");
        if !metrics.contains(&counted)
            || is_told == is_reached
            || old_handshakes(&metrics, name, "TLS 1.0") != is_old
        {
            wrong.push(format!(
                "{name}: {:?}\n{}",
                reasons(&metrics, |peer| peer == name),
                servers[number].output()
            ));
        }
    }
    let log = place.gateway.process.output();
    assert!(wrong.is_empty(), "{}\n{log}", wrong.join("\n"));
    assert!(log.contains("we offer TLS 1.2, TLS 1.3 with TLS_AES_256_GCM_SHA384"), "{log}");
    assert!(
        log.contains("ways out: tls = { backend = \\\"openssl\\\"")
            || log.contains("ways out: tls = { backend = \"openssl\""),
        "{log}"
    );
}

#[test]
fn windows_clients_of_every_age_are_served_with_the_settings_they_need_and_no_less() {
    if !peers_present(&["openssl"]) {
        return;
    }
    for ours in Ours::all() {
        for (key, kind) in KEYS {
            let listen = format!("tls = {{ {} }}\n", ours.keys());
            let place = Place::start_with(&[], &listen, |pki| {
                pki.issue_files(FQDN, &CertSpec::host(FQDN).key(kind)).unwrap();
                String::new()
            });
            let pool = place.pki.identity_files(POOL).unwrap();
            let address = (place.gateway.address, 5061);
            let ask = |windows: &Windows| {
                let arguments = windows.arguments();
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                s_client(address, &place.pki.root_file(), Some(&pool), &arguments)
            };
            let answers: Vec<String> = std::thread::scope(|scope| {
                let asked: Vec<_> = WINDOWS.iter().map(|windows| scope.spawn(move || ask(windows))).collect();
                asked.into_iter().map(|answer| answer.join().unwrap()).collect()
            });
            let log = place.gateway.process.output();
            for (windows, answer) in WINDOWS.iter().zip(answers) {
                let is_served = *ours >= windows.least(key);
                let cell = format!("{} with {key} by {ours:?}", windows.name);
                assert_eq!(answer.starts_with("SIP/2.0 200 "), is_served, "{cell}: {answer:?}\n{log}");
            }
            let metrics = place.metrics();
            let refused = WINDOWS.iter().filter(|windows| *ours < windows.least(key)).count() as u64;
            let counted = reasons(&metrics, |peer| peer == "unknown");
            assert_eq!(counted.get("nothing_in_common").copied().unwrap_or_default(), refused, "{metrics}");
            let is_old = *ours == Ours::OpenSslFrom10;
            assert_eq!(old_handshakes(&metrics, POOL, "TLS 1.0"), is_old, "{metrics}");
            let allowed = "umbra_tls_legacy_allowed{place=\"listener\",what=\"TLS 1.0\"} 1";
            assert_eq!(metrics.contains(allowed), is_old, "{metrics}");
            assert_eq!(log.contains("UMB-TLS046"), *ours != Ours::Rustls, "{log}");
            if refused > 0 {
                for words in
                    ["UMB-TLS014", "we take TLS 1.2, TLS 1.3 with", "the peer offers TLS 1.", "ways out: "]
                {
                    assert!(log.contains(words), "{words}\n{log}");
                }
            }
        }
    }
}
