//! What must never be printed: SDES keys, PIN digits, private keys, and bytes that command a terminal. A gateway that logs as
//! much as it can gets calls with canaries in them; then everything it wrote is read.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use crate::harness::http_get;
use crate::samples::{final_response, sample, status};
use crate::site::{FQDN, Site};

/// Digits as a caller keys them in: a whole PIN in one INFO, so that it can be found again.
const PIN: &str = "918273645018";
/// Clears the screen, names the window, rings, writes from right to left.
const CODES: &str = "\u{1b}[2J\u{1b}]0;mine\u{7}\u{202e}";
const WAIT: Duration = Duration::from_millis(1_500);

#[test]
fn no_key_no_pin_and_no_terminal_code_is_ever_printed() {
    let mut site = Site::start_as(|config| {
        format!("{config}\n[observe]\nlog = {{ level = \"trace\", format = \"json\" }}\n")
    });
    let (mut secrets, mut calls) = (private_key(&site), Vec::new());
    for (pool, expected) in [("pool01", 200), ("pool02", 488)] {
        let caller = site.pool(pool);
        let from = site.pool_address(pool);
        let invite = sample(&site, "02-lync2015-call-answering.sip", from);
        secrets.extend(keys_in(&String::from_utf8_lossy(&invite)));
        let answer = final_response(&site, &caller, invite);
        assert_eq!(status(answer.as_deref()), expected, "{answer:?}");
        let answer = answer.unwrap();
        calls.push(line(&answer, "Call-ID").to_owned());
        secrets.extend(keys_in(&answer));
        if expected == 200 {
            for (method, number, body) in
                [("ACK", 1, ""), ("INFO", 2, &*format!("Signal={PIN}\r\nDuration=100\r\n")), ("BYE", 3, "")]
            {
                let request = inside(&answer, method, number, body);
                site.block_on(caller.send_raw(request, WAIT)).unwrap();
            }
        }
        // Keys where they are refused, and names that command whoever reads the log.
        for (number, crypto) in ["|2^99", "|2^20|1:999", " KDR=x", "|"].iter().enumerate() {
            let text =
                String::from_utf8(sample(&site, "02-lync2015-call-answering.sip", from).to_vec()).unwrap();
            let text = text.replace("|2^31|1:1", crypto).replace("|2^31", crypto);
            let text = text.replace("Call-ID: ", &format!("Call-ID: {number}-"));
            let text = text.replace("\"Dana Birkby\"", &format!("\"{CODES}\""));
            site.block_on(caller.send_raw(with_length(&text), WAIT)).unwrap();
        }
        site.block_on(caller.close());
    }
    site.gateway.wait_for_records(2, Duration::from_secs(10));
    let pages = ["/metrics", "/tls/refusals"].map(|page| http_get(site.gateway.address, 9065, page));
    assert_eq!(site.gateway.stop(), 0);
    let mut told = pages.concat();
    told.push_str(&site.gateway.process.output());
    read_all(site.gateway.folder.path(), &mut told);
    assert!(calls.iter().all(|call| told.contains(call)), "the calls are in it:\n{told}");
    assert!(secrets.len() > 8, "{secrets:?}");
    secrets.push(PIN.to_owned());
    for secret in secrets {
        assert!(!told.contains(&secret), "{secret} was printed:\n{told}");
    }
    let commands = |c: char| (c.is_control() && !matches!(c, '\n' | '\r' | '\t')) || c == '\u{202e}';
    let found = told.find(commands).map(|at| told[..at].lines().next_back().unwrap_or_default().to_owned());
    assert_eq!(found, None, "a terminal would obey what follows");
}

/// Every key in a text, as it is written and as bytes would be printed.
fn keys_in(text: &str) -> Vec<String> {
    let keys =
        text.split("inline:").skip(1).map(|rest| rest.split(['|', ' ', '\r']).next().unwrap_or_default());
    keys.flat_map(|key| {
        let bytes = base64_bytes(key);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let list = format!("{bytes:?}");
        [key.to_owned(), hex.to_uppercase(), hex, list.trim_matches(['[', ']']).to_owned()]
    })
    .collect()
}

fn base64_bytes(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let value = |byte: u8| DIGITS.iter().position(|digit| *digit == byte).unwrap_or_default() as u32;
    let group = |four: &[u8]| four.iter().fold(0, |sum, byte| sum << 6 | value(*byte)).to_be_bytes();
    text.as_bytes().chunks_exact(4).flat_map(|four| group(four)[1..].to_vec()).collect()
}

/// The lines of the gateway's private key.
fn private_key(site: &Site) -> Vec<String> {
    let pem = std::fs::read_to_string(site.pki.identity_files(FQDN).unwrap().key).unwrap();
    pem.lines().filter(|line| !line.starts_with("-----") && line.len() > 16).map(str::to_owned).collect()
}

fn line<'a>(message: &'a str, name: &str) -> &'a str {
    let of_it =
        |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{}:", name.to_ascii_lowercase()));
    message.lines().find(of_it).map(|line| line[name.len() + 1..].trim()).unwrap_or_default()
}

/// A request in the dialog that this answer made.
fn inside(answer: &str, method: &str, number: u32, body: &str) -> Bytes {
    let target = line(answer, "Contact").split(['<', '>']).nth(1).unwrap_or_default();
    let [from, to, call] = ["From", "To", "Call-ID"].map(|name| line(answer, name));
    Bytes::from(format!(
        "{method} {target} SIP/2.0\r\nVia: SIP/2.0/TLS pool01.contoso.com;branch=z9hG4bKsecret{number}\r\n\
         Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call}\r\nCSeq: {number} {method}\r\n\
         Content-Type: application/dtmf-relay\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn with_length(text: &str) -> Bytes {
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let lines = head.split("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("content-length:"));
    let head = lines.collect::<Vec<_>>().join("\r\n");
    Bytes::from(format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

/// Everything that was written into the folder, but what the test put there and what callers said.
fn read_all(folder: &Path, told: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        match path.file_name().and_then(|name| name.to_str()) {
            Some("pki" | "voicemail" | "umbra.toml") => {}
            _ if path.is_dir() => read_all(&path, told),
            _ => told.push_str(&String::from_utf8_lossy(&std::fs::read(&path).unwrap())),
        }
    }
}
