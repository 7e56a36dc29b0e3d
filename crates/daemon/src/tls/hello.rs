//! Asks a TLS server what it would speak, without speaking it: one ClientHello, and the first thing that comes back. Owns
//! these bytes and the bounds of reading them; needs no backend, so that it sees what ours do not have too. Proves nothing.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::settings::Version;

/// A ServerHello or an alert stands in the first bytes.
const ANSWER_BYTES_MAX: usize = 2_048;
/// Record types (RFC 8446 §5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// Handshake messages (RFC 8446 §4).
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
/// Extensions (RFC 8446 §4.2; RFC 8422 §5.1.2; RFC 5746 §3.2).
const SERVER_NAME: u16 = 0;
const SUPPORTED_GROUPS: u16 = 10;
const POINT_FORMATS: u16 = 11;
const SIGNATURE_ALGORITHMS: u16 = 13;
const SUPPORTED_VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;
const RENEGOTIATION_INFO: u16 = 0xff01;
/// x25519, secp256r1, secp384r1, secp521r1 (RFC 8446 §4.2.7).
const GROUPS: [u16; 4] = [29, 23, 24, 25];
/// ECDSA, PSS and PKCS #1 with SHA-256 to SHA-512, then SHA-1 (RFC 8446 §4.2.3).
const SIGNATURES: [u16; 11] =
    [0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0203, 0x0201];

/// What came back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It would go on with this suite, as it stands in messages.
    Chose(u16),
    /// It refuses: an alert, another version, or a closed connection.
    Refused,
    /// Something that is no TLS, or nothing in time.
    Unknown,
}

/// Asks once.
pub async fn ask<T>(mut stream: T, host: &str, version: Version, suites: &[u16], patience: Duration) -> Answer
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let turn = async {
        // A server that hangs up at once is heard below.
        let _gone = stream.write_all(&client_hello(host, version, suites, rand::random())).await;
        let mut heard = Vec::new();
        loop {
            if let Some(answer) = read(&heard, version) {
                return Some(answer);
            }
            let room = ANSWER_BYTES_MAX.saturating_sub(heard.len());
            match (&mut stream).take(room as u64).read_buf(&mut heard).await {
                Ok(0) if room == 0 => return None,
                // Servers that share nothing with us often hang up instead of saying so.
                Ok(0) | Err(_) if heard.is_empty() => return Some(Answer::Refused),
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    };
    timeout(patience, turn).await.ok().flatten().unwrap_or(Answer::Unknown)
}

/// RFC 8446 §4.1.2, and the older forms that it contains. The key share is no key of ours: nobody computes with it.
fn client_hello(host: &str, version: Version, suites: &[u16], random: [u8; 32]) -> Vec<u8> {
    let legacy = version.number().min(0x0303);
    let mut extensions = Vec::new();
    let mut extension = |kind: u16, body: Vec<u8>| {
        extensions.extend(kind.to_be_bytes());
        extensions.extend(block(2, &body));
    };
    if host.parse::<std::net::IpAddr>().is_err() {
        extension(SERVER_NAME, block(2, &[&[0][..], &block(2, host.as_bytes())].concat()));
    }
    extension(SUPPORTED_GROUPS, block(2, &shorts(&GROUPS)));
    extension(POINT_FORMATS, block(1, &[0]));
    if legacy == 0x0303 {
        extension(SIGNATURE_ALGORITHMS, block(2, &shorts(&SIGNATURES)));
    }
    if version == Version::V1_3 {
        extension(SUPPORTED_VERSIONS, block(1, &shorts(&[version.number()])));
        let share = [&shorts(&GROUPS[..1])[..], &block(2, &random)].concat();
        extension(KEY_SHARE, block(2, &share));
    }
    extension(RENEGOTIATION_INFO, block(1, &[]));
    let mut body = legacy.to_be_bytes().to_vec();
    body.extend(random);
    body.extend(block(1, &[]));
    body.extend(block(2, &shorts(suites)));
    body.extend(block(1, &[0]));
    body.extend(block(2, &extensions));
    let message = [&[CLIENT_HELLO][..], &block(3, &body)].concat();
    [&[HANDSHAKE, 3, 1][..], &block(2, &message)].concat()
}

fn shorts(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// Bytes behind their length, which is written in so many octets.
fn block(octets: usize, bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_be_bytes();
    [length.get(8 - octets..).unwrap_or_default(), bytes].concat()
}

/// What the first record says; `None`: more bytes are needed.
fn read(heard: &[u8], wanted: Version) -> Option<Answer> {
    let is_tls = |kind: &u8| [ALERT, HANDSHAKE].contains(kind);
    if !heard.first().is_none_or(is_tls) || heard.get(1).is_some_and(|major| *major != 3) {
        return Some(Answer::Unknown);
    }
    let [kind, _, _, high, low, rest @ ..] = heard else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if *kind == ALERT {
        return rest.get(..length).map(|_| Answer::Refused);
    }
    // The rest of the flight may stand in the same record; only its first message is waited for.
    let body = rest.get(..length).unwrap_or(rest);
    let message = match body {
        [_, long, high, low, ..] => body.get(..4 + (u32::from_be_bytes([0, *long, *high, *low]) as usize)),
        _ => None,
    };
    match message {
        Some(message) => Some(server_hello(message, wanted).unwrap_or(Answer::Unknown)),
        None if rest.len() < length => None,
        None => Some(Answer::Unknown),
    }
}

/// RFC 8446 §4.1.3; a HelloRetryRequest has the same shape and names the suite too.
fn server_hello(body: &[u8], wanted: Version) -> Option<Answer> {
    let (head, rest) = body.split_at_checked(4 + 2 + 32)?;
    if *head.first()? != SERVER_HELLO {
        return None;
    }
    let legacy = u16::from_be_bytes([*head.get(4)?, *head.get(5)?]);
    let rest = rest.get(1 + usize::from(*rest.first()?)..)?;
    let suite = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
    let version = selected_version(rest.get(5..).unwrap_or_default()).unwrap_or(legacy);
    Some(if version == wanted.number() { Answer::Chose(suite) } else { Answer::Refused })
}

fn selected_version(mut extensions: &[u8]) -> Option<u16> {
    while let [kind_high, kind_low, high, low, rest @ ..] = extensions {
        let (body, after) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
        if u16::from_be_bytes([*kind_high, *kind_low]) == SUPPORTED_VERSIONS {
            return Some(u16::from_be_bytes(body.try_into().ok()?));
        }
        extensions = after;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lab::pki::{CertSpec, LabCa};
    use rustls::{ServerConfig, ServerConnection};

    use super::super::settings::Backend;
    use super::*;

    /// A ServerHello of this version that chose this suite.
    fn hello(legacy: u16, suite: u16, extensions: &[u8]) -> Vec<u8> {
        let mut body = legacy.to_be_bytes().to_vec();
        body.extend([7; 32]);
        body.extend(block(1, &[9; 32]));
        body.extend(suite.to_be_bytes());
        body.push(0);
        body.extend(block(2, extensions));
        let message = [&[SERVER_HELLO][..], &block(3, &body)].concat();
        [&[HANDSHAKE, 3, 3][..], &block(2, &message)].concat()
    }

    #[test]
    fn a_server_hello_is_read_and_cut_short_anywhere_asks_for_more() {
        let chose = Answer::Chose(0x002f);
        let old = hello(0x0301, 0x002f, &[]);
        assert_eq!(read(&old, Version::V1_0), Some(chose));
        assert_eq!(
            read(&old, Version::V1_2),
            Some(Answer::Refused),
            "another version than the one asked for"
        );
        let new = hello(0x0303, 0x1301, &[0, 43, 0, 2, 3, 4]);
        assert_eq!(read(&new, Version::V1_3), Some(Answer::Chose(0x1301)));
        for end in 0..new.len() {
            assert_eq!(read(&new[..end], Version::V1_3), None, "{end}");
        }
    }

    #[test]
    fn what_is_no_server_hello_is_unknown_and_never_a_panic() {
        assert_eq!(read(&[ALERT, 3, 1, 0, 2, 2, 40], Version::V1_2), Some(Answer::Refused));
        assert_eq!(read(b"SIP/2.0 400 Bad\r\n", Version::V1_2), Some(Answer::Unknown));
        let good = hello(0x0303, 0x1301, &[0, 43, 0, 2, 3, 4]);
        for at in 0..good.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut broken = good.clone();
                broken[at] = byte;
                let _ = read(&broken, Version::V1_3);
            }
        }
    }

    /// rustls as the server: it reads our hello and chooses what we asked for.
    #[test]
    fn a_real_server_chooses_each_suite_that_is_asked_for_alone() {
        let ca = LabCa::create("root").unwrap();
        let identity = ca.issue(&CertSpec::host("cas01.contoso.test")).unwrap();
        let config = ServerConfig::builder_with_provider(crate::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(identity.chain().to_vec(), identity.key())
            .unwrap();
        let config = Arc::new(config);
        let answer = |version, suites: &[u16]| {
            let mut server = ServerConnection::new(config.clone()).unwrap();
            let bytes = client_hello("cas01.contoso.test", version, suites, [5; 32]);
            server.read_tls(&mut bytes.as_slice()).unwrap();
            let _refused = server.process_new_packets();
            let mut heard = Vec::new();
            server.write_tls(&mut heard).unwrap();
            read(&heard, version)
        };
        for suite in Version::V1_3.suites() {
            let number = suite.number;
            assert_eq!(answer(Version::V1_3, &[number]), Some(Answer::Chose(number)));
        }
        for suite in Version::V1_2.suites() {
            // Its key is RSA.
            let is_spoken = Backend::Rustls.has(Version::V1_2, suite) && suite.name.contains("_RSA_");
            let wanted = if is_spoken { Answer::Chose(suite.number) } else { Answer::Refused };
            assert_eq!(answer(Version::V1_2, &[suite.number]), Some(wanted), "{suite:?}");
        }
        let old: Vec<u16> = Version::V1_0.suites().map(|suite| suite.number).collect();
        assert_eq!(answer(Version::V1_0, &old), Some(Answer::Refused));
    }

    #[tokio::test]
    async fn silence_and_a_closed_connection_are_told_apart() {
        let patience = Duration::from_millis(50);
        let (near, far) = tokio::io::duplex(64 * 1024);
        drop(far);
        let all: Vec<u16> = Version::V1_2.suites().map(|suite| suite.number).collect();
        assert_eq!(ask(near, "x.test", Version::V1_2, &all, patience).await, Answer::Refused);
        let (near, _far) = tokio::io::duplex(64 * 1024);
        assert_eq!(ask(near, "x.test", Version::V1_2, &all, patience).await, Answer::Unknown);
    }
}
