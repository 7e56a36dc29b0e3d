//! `umbra cert` as an operator meets it: a lab authority, facts, every problem of a far end with its own code (OpenSSL's
//! server where it is installed), PFX files as Windows and OpenSSL make them, broken input, and a rehearsal in the lab.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;

use lab::pki::{CertSpec, IdentityFiles, KeyKind, LabCa, Life, Naming, Pki, Purpose};

use crate::harness::{Net, Process, folder, peers_present, umbra};
use crate::site::Site;

const SERVER: &str = "mbx01.contoso.test";
const US: &str = "umbra.contoso.test";

struct Said {
    code: i32,
    out: String,
    all: String,
}

fn cert(folder: &Path, arguments: &[&str]) -> Said {
    let ran = umbra().arg("cert").args(arguments).env("NO_COLOR", "1").current_dir(folder).output().unwrap();
    let out = String::from_utf8_lossy(&ran.stdout).into_owned();
    let all = format!("{out}{}", String::from_utf8_lossy(&ran.stderr));
    assert!(!all.contains("PRIVATE KEY"), "a key was printed: {all}");
    assert!(!all.contains('\u{1b}'), "a control character was printed: {all}");
    Said { code: ran.status.code().unwrap_or(-1), out, all }
}

fn json(said: &Said) -> serde_json::Value {
    serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {}", said.all))
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn openssl(folder: &Path, arguments: &[&str]) {
    let ran = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
    assert!(ran.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn a_lab_authority_is_made_once_and_its_certificates_are_shown() {
    let folder = folder();
    let made = cert(folder.path(), &["init"]);
    assert_eq!(made.code, 0, "{}", made.all);
    let again = cert(folder.path(), &["init"]);
    assert_eq!(again.code, 1);
    assert!(again.all.contains("lab-root.pem") && again.all.contains("not overwritten"), "{}", again.all);

    let issued =
        cert(folder.path(), &["issue", US, "--san", "fe.contoso.test", "--san", "192.0.2.7", "--days", "40"]);
    assert_eq!(issued.code, 0, "{}", issued.all);
    assert_eq!(cert(folder.path(), &["issue", US]).code, 1, "a pair that stands is not overwritten");
    let long = cert(folder.path(), &["issue", "other.contoso.test", "--days", "1000"]);
    assert!(long.code == 1 && long.all.contains("the root ends"), "{}", long.all);
    assert_eq!(cert(folder.path(), &["issue", "../evil"]).code, 1);
    assert_eq!(cert(folder.path(), &["issue", US, "--days", "0"]).code, 2);

    let shown = cert(folder.path(), &["show", "lab-pki/umbra.contoso.test.pem", "-o", "json"]);
    let facts = &json(&shown)["certificates"][0];
    assert_eq!(facts["common_names"][0], US);
    assert_eq!(facts["names"][1]["text"], "fe.contoso.test");
    assert_eq!((&facts["names"][2]["kind"], &facts["names"][2]["text"]), (&"ip".into(), &"192.0.2.7".into()));
    let days = facts["days_left"].as_i64().unwrap();
    assert!((39..=40).contains(&days), "as of the second it is asked in: {days}");
    assert_eq!(facts["key"]["bits"], 2048);
    let table = cert(folder.path(), &["show", "lab-pki/umbra.contoso.test.pem"]);
    assert!(
        table.code == 0 && table.out.contains("sha256RSA") && table.out.contains("2 of 2"),
        "{}",
        table.out
    );

    #[cfg(unix)]
    for key in ["lab-pki/lab-root.key", "lab-pki/umbra.contoso.test.key"] {
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &folder.path().join(key).metadata().unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
}

#[test]
fn broken_files_are_named_and_never_waited_for() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("empty.pem"), "").unwrap();
    std::fs::write(at("garbage.der"), [0x30, 0x82, 0xff, 0xff, 0x00]).unwrap();
    std::fs::write(at("words.pem"), "this is no certificate").unwrap();
    std::fs::write(at("huge.pem"), vec![b'A'; 10 * 1024 * 1024]).unwrap();
    std::fs::create_dir(at("folder.pem")).unwrap();
    let made = Command::new("mkfifo").arg(at("pipe.pem")).status().is_ok_and(|status| status.success());
    let mut files = vec!["empty.pem", "garbage.der", "words.pem", "huge.pem", "folder.pem", "absent.pem"];
    if made {
        files.push("pipe.pem");
    }
    std::fs::create_dir(at("tls")).unwrap();
    for file in files {
        let shown = cert(folder.path(), &["show", file]);
        assert!(
            shown.code == 1 && shown.all.contains("UMB-TLS"),
            "show {file}: {} {}",
            shown.code,
            shown.all
        );
        let imported = cert(folder.path(), &["import", file, "--dir", "tls"]);
        assert!(imported.code == 1 && imported.all.contains(file), "import {file}: {}", imported.all);
    }
    assert_eq!(std::fs::read_dir(at("tls")).unwrap().count(), 0, "nothing was written");
    assert_eq!(cert(folder.path(), &["verify", "host:99999"]).code, 2);
    assert_eq!(cert(folder.path(), &["verify", "a b:5061"]).code, 2);
    assert_eq!(cert(folder.path(), &["show", "a b"]).code, 2);
    assert_eq!(cert(folder.path(), &["verify", "127.0.0.1:5061"]).code, 78, "no configuration, no roots");
    assert_eq!(cert(folder.path(), &["rehearse", "x.pem", "-c", "absent.toml"]).code, 78);
}

/// A folder with a configuration whose only peers are a Mailbox server and a Call Router at one address.
struct Home {
    folder: tempfile::TempDir,
    pki: Pki,
    address: Ipv4Addr,
}

impl Home {
    fn new() -> Self {
        let (folder, net) = (folder(), Net::new());
        let pki = Pki::open(&folder.path().join("pki")).unwrap();
        let config = include_str!("../../../../config/minimal-secured.toml")
            .replace("lab-root.pem", "pki/lab-root.pem");
        std::fs::write(folder.path().join("umbra.toml"), config).unwrap();
        let home = Self { folder, pki, address: net.host(31) };
        home.issue("ours", &CertSpec::host(US));
        for (from, to) in [("pki/ours.pem", "umbra.pem"), ("pki/ours.key", "umbra.key")] {
            std::fs::copy(home.path(from), home.path(to)).unwrap();
        }
        home
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn issue(&self, stem: &str, spec: &CertSpec) -> IdentityFiles {
        self.pki.issue_files(stem, spec).unwrap()
    }

    fn foreign(&self, stem: &str, spec: &CertSpec) -> IdentityFiles {
        let ca = LabCa::create("somebody else's root").unwrap();
        ca.write_root(&self.path("foreign-root.pem")).unwrap();
        ca.issue(spec).unwrap().write(self.folder.path(), stem).unwrap()
    }

    /// OpenSSL's server with this certificate; `-www` keeps it from reading our standard input.
    fn server(&self, files: &IdentityFiles, more: &[&str]) -> Process {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-www", "-accept", &format!("{}:5063", self.address)]);
        command.arg("-cert").arg(&files.certificate).arg("-key").arg(&files.key).args(more);
        let mut process = Process::start("s_server", &mut command, self.folder.path());
        process.wait_for_port(self.address.into(), 5063);
        process
    }

    fn verify(&self, more: &[&str]) -> Said {
        let target = format!("{}:5063", self.address);
        let mut arguments = vec!["verify", &target, "--name", SERVER];
        arguments.extend(more);
        cert(self.folder.path(), &arguments)
    }
}

#[test]
fn each_problem_of_a_far_end_has_its_own_code_and_fix() {
    if !peers_present(&["openssl"]) {
        return;
    }
    let home = Home::new();
    let host = || CertSpec::host(SERVER).key(KeyKind::EcdsaP256);
    let good = home.issue("good", &host());
    let foreign = home.foreign("foreign", &host());
    let root = text(&home.path("pki/lab-root.pem"));
    let foreign_root = text(&home.path("foreign-root.pem"));
    let foreign_chain = text(&foreign.certificate);
    let asks = ["-Verify", "2", "-CAfile", &root];
    let strict = ["-Verify", "2", "-verify_return_error", "-CAfile", &foreign_root];
    let issued = |stem: &str, spec: CertSpec| home.issue(stem, &spec);
    let cases: Vec<(&str, IdentityFiles, Vec<&str>, i32, &str)> = vec![
        ("good", good.clone(), asks.to_vec(), 0, ""),
        ("not asked", good.clone(), vec![], 0, "UMB-TLS021"),
        ("issuer not sent", foreign.clone(), asks.to_vec(), 1, "UMB-TLS040"),
        ("foreign", foreign, [&asks[..], &["-cert_chain", &foreign_chain]].concat(), 1, "UMB-TLS002"),
        ("name", issued("name", CertSpec::host("cas01.contoso.test")), asks.to_vec(), 1, "UMB-TLS003"),
        ("wildcard", issued("wild", host().naming(Naming::WildcardSubject)), asks.to_vec(), 1, "UMB-TLS004"),
        ("expired", issued("old", host().life(Life::Expired)), asks.to_vec(), 1, "UMB-TLS005"),
        ("purpose", issued("purpose", host().purpose(Purpose::ClientOnly)), asks.to_vec(), 1, "UMB-TLS007"),
        ("refused 1.2", good.clone(), [&strict[..], &["-tls1_2"]].concat(), 1, "UMB-TLS019"),
        ("refused 1.3", good.clone(), [&strict[..], &["-tls1_3"]].concat(), 1, "UMB-TLS019"),
        ("suites", good.clone(), vec!["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"], 1, "UMB-TLS014"),
    ];
    for (what, files, more, exit, code) in cases {
        let _server = home.server(&files, &more);
        let said = home.verify(&[]);
        assert_eq!(said.code, exit, "{what}: {}", said.all);
        assert!(said.out.contains(code), "{what}: {code} is missing: {}", said.all);
        assert_eq!(exit == 1, said.out.contains("FAIL"), "{what}: {}", said.all);
        let value = json(&home.verify(&["-o", "json"]));
        assert_eq!(value["findings"].as_array().unwrap().iter().any(|f| f["mark"] == "fail"), exit == 1);
        if what == "good" {
            assert_eq!((&value["we_accept"], &value["they_accept"]), (&true.into(), &true.into()));
            assert_eq!((&value["protocol"], &value["presented"]), (&"TLS 1.3".into(), &US.into()));
        }
    }
    let _server = home.server(&good, &asks);
    let bare = home.verify(&["--roots", &root]);
    assert!(bare.code == 1 && bare.out.contains("UMB-TLS020"), "nothing to present: {}", bare.all);
}

/// A suite that rustls does not have.
const CBC: [&str; 3] = ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256"];

#[test]
fn a_backend_that_this_build_does_not_have_is_a_usage_error() {
    let home = Home::new();
    let said = home.verify(&["--backend", "gnutls"]);
    assert!(said.code == 2 && said.all.contains("rustls, and openssl"), "{}", said.all);
    let said = home.verify(&["--backend", "rustls", "--roots", "pki/lab-root.pem"]);
    assert_eq!(said.code, 2, "{}", said.all);
    if !cfg!(feature = "openssl") {
        let said = home.verify(&["--backend", "openssl"]);
        assert!(said.code == 2 && said.all.contains("not part of this build"), "{}", said.all);
    }
}

#[test]
fn a_server_that_rustls_cannot_talk_to_is_examined_by_openssl() {
    if !cfg!(feature = "openssl") || !peers_present(&["openssl"]) {
        return;
    }
    let home = Home::new();
    let host = || CertSpec::host(SERVER).key(KeyKind::EcdsaP256);
    let (good, root) = (home.issue("good", &host()), text(&home.path("pki/lab-root.pem")));
    let asks = [&CBC[..], &["-Verify", "2", "-CAfile", &root]].concat();
    let server = home.server(&good, &asks);
    let said = home.verify(&[]);
    assert!(said.code == 1 && said.out.contains("UMB-TLS014"), "{}", said.all);
    let said = home.verify(&["--backend", "openssl"]);
    assert!(said.code == 0 && said.out.contains("AES_128_CBC_SHA256  openssl"), "{}", said.all);
    let value = json(&home.verify(&["--backend", "openssl", "-o", "json"]));
    assert_eq!((&value["backend"], &value["protocol"]), (&"openssl".into(), &"TLS 1.2".into()));
    assert_eq!(value["suite"], "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256");
    assert_eq!((&value["we_accept"], &value["they_accept"]), (&true.into(), &true.into()));
    assert_eq!((&value["asks_for_certificate"], &value["presented"]), (&().into(), &US.into()));
    // What the configuration says of a peer is what is tried, unless the words say otherwise.
    let config = std::fs::read_to_string(home.path("umbra.toml")).unwrap();
    let old = "[[mailbox_server]]\ntls = { backend = \"openssl\" }\n";
    std::fs::write(home.path("umbra.toml"), config.replace("[[mailbox_server]]\n", old)).unwrap();
    let said = home.verify(&[]);
    assert!(said.code == 0 && said.out.contains("  openssl"), "{}", said.all);
    assert_eq!(home.verify(&["--backend", "rustls"]).code, 1);
    drop(server);
    home.assert_openssl_problems(&good);
}

impl Home {
    /// Each problem has the code that it has with rustls.
    fn assert_openssl_problems(&self, good: &IdentityFiles) {
        let host = || CertSpec::host(SERVER).key(KeyKind::EcdsaP256);
        let foreign = self.foreign("foreign", &host());
        let foreign_root = text(&self.path("foreign-root.pem"));
        let strict = ["-Verify", "2", "-verify_return_error", "-CAfile", &foreign_root];
        let cases: [(&str, IdentityFiles, Vec<&str>, &str); 5] = [
            ("issuer not sent", foreign, CBC.to_vec(), "UMB-TLS040"),
            ("expired", self.issue("old", &host().life(Life::Expired)), CBC.to_vec(), "UMB-TLS005"),
            ("refused 1.2", good.clone(), [&strict[..], &CBC].concat(), "UMB-TLS019"),
            ("refused 1.3", good.clone(), [&strict[..], &["-tls1_3"]].concat(), "UMB-TLS019"),
            ("suites", good.clone(), vec!["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"], "UMB-TLS014"),
        ];
        for (what, files, more, code) in cases {
            let _server = self.server(&files, &more);
            let said = self.verify(&["--backend", "openssl"]);
            assert!(said.code == 1 && said.out.contains(code), "{what}: {code}: {}", said.all);
        }
        let plain = TcpListener::bind((self.address, 5063)).unwrap();
        let answering = std::thread::spawn(move || {
            let (mut stream, _) = plain.accept().unwrap();
            stream.write_all(b"SIP/2.0 400 Bad Request\r\n\r\n").unwrap();
        });
        let said = self.verify(&["--backend", "openssl"]);
        answering.join().unwrap();
        assert!(said.code == 1 && said.out.contains("UMB-TLS022"), "{}", said.all);
    }
}

#[test]
fn old_keys_and_hashes_of_a_far_end_are_named_as_such() {
    if !peers_present(&["openssl"]) {
        return;
    }
    let home = Home::new();
    let folder = home.folder.path();
    for (stem, bits, hash, code) in
        [("short", "1024", "-sha256", "UMB-TLS006"), ("sha1", "2048", "-sha1", "UMB-TLS018")]
    {
        let (key, request, pem) = (format!("{stem}.key"), format!("{stem}.csr"), format!("{stem}.pem"));
        let subject = format!("/CN={SERVER}");
        let new_key = format!("rsa:{bits}");
        openssl(
            folder,
            &["req", "-newkey", &new_key, "-nodes", "-keyout", &key, "-out", &request, "-subj", &subject],
        );
        let root = ["-CA", "pki/lab-root.pem", "-CAkey", "pki/lab-root.key", "-CAcreateserial"];
        let mut sign = vec!["x509", "-req", "-in", &request, hash, "-days", "60", "-out", &pem];
        sign.extend(root);
        openssl(folder, &sign);
        let files = IdentityFiles { certificate: home.path(&pem), key: home.path(&key) };
        let _server = home.server(&files, &["-cipher", "DEFAULT:@SECLEVEL=0"]);
        let said = home.verify(&[]);
        assert!(said.code == 1 && said.out.contains(code), "{stem}: {}", said.all);
        let shown = cert(folder, &["show", &format!("{}:5063", home.address)]);
        assert!(shown.out.contains("WEAK") && shown.out.contains(code), "{stem}: {}", shown.all);
    }
}

#[test]
fn a_plain_port_and_a_closed_one_are_told_apart() {
    let home = Home::new();
    let said = home.verify(&[]);
    assert!(said.code == 1 && said.out.contains("UMB-TLS023"), "{}", said.all);
    let listener = TcpListener::bind((home.address, 5063)).unwrap();
    let plain = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"SIP/2.0 400 Bad Request\r\nContent-Length: 0\r\n\r\n").unwrap();
        std::io::Read::read_to_end(&mut stream, &mut Vec::new()).ok();
    });
    let said = home.verify(&[]);
    assert!(said.code == 1 && said.out.contains("UMB-TLS022"), "{}", said.all);
    plain.join().unwrap();
}

#[test]
fn pfx_files_of_windows_and_openssl_are_taken_over() {
    if !peers_present(&["openssl"]) {
        return;
    }
    let home = Home::new();
    let folder = home.folder.path();
    let new = home.issue("new", &CertSpec::host(US).life(Life::Days(13)));
    std::fs::write(home.path("pw.txt"), "geheim ß\r\nsecond line\n").unwrap();
    std::fs::write(home.path("wrong.txt"), "guess\n").unwrap();
    let forms: [(&str, &[&str]); 4] = [
        ("AES-256, SHA-256 (Windows AES256_SHA256, OpenSSL 3)", &[]),
        (
            "3DES, SHA-1 (Windows TripleDES_SHA1)",
            &["-legacy", "-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1"],
        ),
        (
            "RC2-40 and 3DES, SHA-1 (Windows before 2019, OpenSSL 1)",
            &["-legacy", "-certpbe", "PBE-SHA1-RC2-40", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1"],
        ),
        ("certificates in the clear", &["-certpbe", "NONE"]),
    ];
    for (what, form) in forms {
        let (chain, key) = (text(&new.certificate), text(&new.key));
        let mut export = vec![
            "pkcs12",
            "-export",
            "-in",
            &chain,
            "-inkey",
            &key,
            "-out",
            "new.pfx",
            "-passout",
            "pass:geheim ß",
        ];
        export.extend(form);
        openssl(folder, &export);
        let wrong = cert(folder, &["import", "new.pfx", "--password-file", "wrong.txt"]);
        assert!(wrong.code == 1 && wrong.all.contains("UMB-TLS024"), "{what}: {}", wrong.all);
        for place in ["umbra.pem", "umbra.key"] {
            std::fs::write(home.path(place), "what stood here").unwrap();
        }
        let said = cert(folder, &["import", "new.pfx", "--password-file", "pw.txt"]);
        assert_eq!(said.code, 0, "{what}: {}", said.all);
        assert!(!said.all.contains("geheim"), "{}", said.all);
        assert_eq!(std::fs::read_to_string(home.path("umbra.key.old")).unwrap(), "what stood here");
        let check = umbra().args(["check", "umbra.toml"]).current_dir(folder).output().unwrap();
        assert_eq!(check.status.code(), Some(0), "{what}: {}", String::from_utf8_lossy(&check.stdout));
        let shown = json(&cert(folder, &["show", "umbra.pem", "-o", "json"]));
        assert_eq!(shown["certificates"].as_array().unwrap().len(), 2, "the root came along: {what}");
    }
    openssl(
        folder,
        &[
            "pkcs12",
            "-export",
            "-nokeys",
            "-in",
            &text(&new.certificate),
            "-out",
            "nokey.pfx",
            "-passout",
            "pass:",
        ],
    );
    let said = cert(folder, &["import", "nokey.pfx"]);
    assert!(said.code == 1 && said.all.contains("UMB-TLS025"), "{}", said.all);
}

#[test]
fn a_pair_that_the_gateway_would_refuse_is_not_written() {
    let home = Home::new();
    let before = std::fs::read(home.path("umbra.pem")).unwrap();
    let us = || CertSpec::host(US).key(KeyKind::EcdsaP256);
    let foreign = home.foreign("foreign", &us());
    let ours = home.issue("other", &us());
    let mixed = IdentityFiles { certificate: ours.certificate.clone(), key: foreign.key.clone() };
    let cases = [
        ("another name", home.issue("name", &CertSpec::host("x.contoso.test")), "UMB-TLS011"),
        ("wildcard subject", home.issue("wild", &us().naming(Naming::WildcardSubject)), "UMB-TLS004"),
        ("expired", home.issue("old", &us().life(Life::Expired)), "UMB-TLS005"),
        ("purpose", home.issue("purpose", &us().purpose(Purpose::ClientOnly)), "UMB-TLS007"),
        ("no way to the root", foreign, "UMB-TLS016"),
        ("another key", mixed, "UMB-TLS008"),
    ];
    for (what, files, code) in cases {
        let said =
            cert(home.folder.path(), &["import", &text(&files.certificate), "--key", &text(&files.key)]);
        assert!(said.code == 1 && said.all.contains(code), "{what}: {}", said.all);
        assert_eq!(std::fs::read(home.path("umbra.pem")).unwrap(), before, "{what}");
    }
    let said = cert(
        home.folder.path(),
        &["import", &text(&ours.certificate), "--key", &text(&ours.key), "--what-if"],
    );
    assert!(said.code == 0 && said.all.contains("would go to"), "{}", said.all);
    assert_eq!(std::fs::read(home.path("umbra.pem")).unwrap(), before);
    let left = std::fs::read_dir(home.folder.path()).unwrap().flatten();
    let left: Vec<_> = left.map(|e| e.file_name()).filter(|n| text(Path::new(n)).ends_with(".new")).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    // The certificates of a bundle may stand in any order, with the key between them.
    let mut bundle = std::fs::read_to_string(home.path("pki/lab-root.pem")).unwrap();
    bundle += &std::fs::read_to_string(&ours.key).unwrap();
    bundle += std::fs::read_to_string(&ours.certificate)
        .unwrap()
        .split_inclusive("-----END CERTIFICATE-----\n")
        .next()
        .unwrap();
    std::fs::write(home.path("bundle.pem"), bundle).unwrap();
    let said = cert(home.folder.path(), &["import", "bundle.pem"]);
    assert_eq!(said.code, 0, "{}", said.all);
    assert_eq!(std::fs::read(home.path("umbra.pem.old")).unwrap(), before);
}

#[test]
fn a_rehearsal_names_who_would_refuse_the_new_certificate() {
    let site = Site::start();
    let folder = site.gateway.folder.path();
    let fqdn = crate::site::FQDN;
    let spec = CertSpec::host(fqdn).key(KeyKind::EcdsaP256);
    let good = site.pki.issue_files("next", &spec).unwrap();
    let said = cert(folder, &["rehearse", &text(&good.certificate), "-c", "umbra.toml", "-o", "json"]);
    let value = json(&said);
    let peers = value["peers"].as_array().unwrap();
    let of = |role: &str| peers.iter().filter(|peer| peer["role"] == role).collect::<Vec<_>>();
    assert!(of("call router").len() == 1 && of("mailbox server").len() == 2, "{}", said.all);
    for peer in of("call router").iter().chain(&of("mailbox server")) {
        assert_eq!((&peer["they_accept"], &peer["we_accept"]), (&true.into(), &true.into()), "{peer}");
        assert_eq!(peer["presented"], fqdn);
    }

    let ca = LabCa::create("somebody else's root").unwrap();
    let foreign = ca.issue(&spec).unwrap().write(folder, "foreign").unwrap();
    let said = cert(folder, &["rehearse", &text(&foreign.certificate), "-c", "umbra.toml"]);
    assert_eq!(said.code, 1);
    for words in ["UMB-TLS019", "UnknownCA", "UMB-TLS016", "mailbox server", "mbx01.contoso.com"] {
        assert!(said.out.contains(words), "{words}: {}", said.all);
    }
    let other = site.pki.issue_files("other", &CertSpec::host("x.contoso.com")).unwrap();
    let said = cert(folder, &["rehearse", &text(&other.certificate), "-c", "umbra.toml"]);
    assert!(
        said.code == 1 && said.out.contains("UMB-TLS011") && said.out.contains("no peer was asked"),
        "{}",
        said.all
    );
}
