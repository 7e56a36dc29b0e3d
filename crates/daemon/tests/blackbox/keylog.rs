//! `--keylog` and SSLKEYLOGFILE: off unless asked for, loud when on, and the file holds the secrets of both directions.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lab::pki::Pki;
use rustls::{ClientConfig, ClientConnection, KeyLog, RootCertStore, StreamOwned};

use crate::harness::{Process, http_get, umbra};
use crate::site::{FQDN, Site};

/// What the client's own library would write.
#[derive(Debug, Default)]
struct Noted(Mutex<Vec<String>>);

impl KeyLog for Noted {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        self.0.lock().unwrap().push(format!("{label} {} {}", hex(client_random), hex(secret)));
    }
}

/// OPTIONS of a pool over TLS; the secrets of its connection.
fn options(site: &Site) -> Vec<String> {
    let noted = Arc::new(Noted::default());
    let mut stream = tls(&site.pki, site.gateway.address, noted.clone());
    let request = format!(
        "OPTIONS sip:{FQDN} SIP/2.0\r\nVia: SIP/2.0/TLS pool01.contoso.com;branch=z9hG4bKkeys\r\n\
         From: <sip:pool01.contoso.com>;tag=1\r\nTo: <sip:{FQDN}>\r\nCall-ID: keys@pool01.contoso.com\r\n\
         CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = [0; 11];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"SIP/2.0 200");
    let lines = noted.0.lock().unwrap().clone();
    assert!(!lines.is_empty());
    lines
}

fn tls(
    pki: &Pki,
    address: std::net::Ipv4Addr,
    noted: Arc<Noted>,
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    pki.roots().into_iter().for_each(|root| roots.add(root).unwrap());
    let identity = pki.identity("pool01.contoso.com").unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain().to_vec(), identity.key())
        .unwrap();
    config.key_log = noted;
    let client = ClientConnection::new(Arc::new(config), FQDN.try_into().unwrap()).unwrap();
    let stream = TcpStream::connect((address, 5061)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    StreamOwned::new(client, stream)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Ends the gateway and starts it anew with what `edit` adds to the command.
fn restart(site: &mut Site, edit: impl Fn(&mut std::process::Command)) {
    site.gateway.process.signal("KILL");
    site.gateway.process.wait(Duration::from_secs(5));
    let folder = site.gateway.folder.path().to_owned();
    let mut command = umbra();
    command.args(["run", "-c", "umbra.toml"]).current_dir(&folder).env("NO_COLOR", "1");
    edit(&mut command);
    site.gateway.process = Process::start("umbra", &mut command, &folder);
    site.gateway.process.wait_for_port(site.gateway.address.into(), 5061);
}

#[test]
fn secrets_are_written_only_when_asked_for_and_never_in_silence() {
    let mut site = Site::start();
    let gauge = |site: &Site| {
        let page = http_get(site.gateway.address, 9065, "/metrics");
        page.lines().find_map(|line| line.strip_prefix("umbra_tls_keys_logged ").map(str::to_owned)).unwrap()
    };
    options(&site);
    assert_eq!(gauge(&site), "0");
    assert!(!site.gateway.process.output().contains("UMB-TLS060"));

    let folder = site.gateway.folder.path().to_owned();
    let (flag, variable) = (folder.join("flag.keys"), folder.join("variable.keys"));
    restart(&mut site, |command| {
        command.env("SSLKEYLOGFILE", &variable);
    });
    let secrets = options(&site);
    let written = fs::read_to_string(&variable).unwrap();
    for line in &secrets {
        assert!(written.lines().any(|other| other == line), "{line} is missing in\n{written}");
    }
    assert_eq!((mode(&variable), gauge(&site).as_str()), (0o600, "1"));
    let said = site.gateway.process.output();
    let at_start = said.find("WARNING: THE SECRETS OF EVERY TLS CONNECTION ARE WRITTEN TO ");
    assert!(at_start < said.find("umbra ready:") && at_start.is_some(), "{said}");
    assert!(said.contains("tls_keys_logged") && said.matches("UMB-TLS060").count() == 2, "{said}");
    assert!(said.contains("variable.keys"), "{said}");
    for secret in secrets.iter().filter_map(|line| line.split(' ').nth(2)) {
        assert!(!said.contains(secret), "a secret reached the log");
    }

    restart(&mut site, |command| {
        command.env("SSLKEYLOGFILE", &variable).arg("--keylog").arg(&flag);
    });
    let secrets = options(&site);
    assert_eq!(fs::read_to_string(&variable).unwrap(), written, "the words come before the variable");
    let written = fs::read_to_string(&flag).unwrap();
    assert!(secrets.iter().all(|line| written.contains(line.as_str())), "{written}");
}

#[test]
fn the_connections_of_a_look_are_in_the_file_and_a_file_for_everybody_is_refused() {
    let site = Site::start();
    let folder = site.gateway.folder.path();
    let run = |words: &[&str]| {
        let ran = umbra().args(words).current_dir(folder).env("NO_COLOR", "1").output().unwrap();
        (ran.status.code().unwrap(), String::from_utf8_lossy(&ran.stderr).into_owned())
    };
    let (_, said) = run(&["doctor", "tls", "--keylog", "doctor.keys", "-c", "umbra.toml"]);
    assert!(said.contains("WARNING: THE SECRETS"), "{said}");
    let written = fs::read_to_string(folder.join("doctor.keys")).unwrap();
    assert!(written.contains("CLIENT_RANDOM ") && written.contains("CLIENT_TRAFFIC_SECRET_0 "), "{written}");
    assert_eq!(mode(&folder.join("doctor.keys")), 0o600);

    fs::write(folder.join("open.keys"), "").unwrap();
    fs::set_permissions(folder.join("open.keys"), fs::Permissions::from_mode(0o644)).unwrap();
    for words in
        [&["run", "--keylog", "open.keys", "-c", "umbra.toml"][..], &["demo", "--keylog", "open.keys"]]
    {
        let (code, said) = run(words);
        assert!(code == 1 && said.contains("others may read it"), "{code} {said}");
    }
}
