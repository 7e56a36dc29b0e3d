//! What a client offered, read from its ClientHello after a handshake failed, and the words that name both lists. Owns the
//! bounds of that reading; refuses to take part in a handshake.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::reject::HandshakeFailure;
use super::settings::{Backend, Group, Suite, TlsSettings, Version, suite_name};

/// First bytes of the far end that are kept until the handshake is over. A ClientHello with a post-quantum key share has
/// about 1,800.
const HEARD_BYTES_MAX: usize = 4 * 1024;
/// Suites that are named; more are counted.
const NAMED_MAX: usize = 24;
/// Suites and versions read from a ClientHello.
const LISTED_MAX: usize = 256;
/// Record types (RFC 8446 §5.1).
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
/// RFC 8446 §4.
const CLIENT_HELLO: u8 = 1;
/// RFC 8446 §4.2.
const SUPPORTED_VERSIONS: u16 = 43;
/// No suites but signals: RFC 5746 §3.3, RFC 7507 §2.
const SIGNALS: [u16; 2] = [0x00ff, 0x5600];

/// A list of versions and suites.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Offer {
    versions: Vec<u16>,
    suites: Vec<u16>,
}

impl Offer {
    /// What settings come to with a certificate of this key.
    fn of(settings: &TlsSettings, key: KeyKind) -> Self {
        let suites = settings.suites().iter().filter(|suite| key.suits(suite.number));
        Self {
            versions: settings.versions().iter().map(|version| version.number()).collect(),
            suites: suites.map(|suite| suite.number).collect(),
        }
    }

    /// Reads the first record, if it is a whole ClientHello.
    pub(super) fn read(heard: &[u8]) -> Option<Self> {
        let mut record = Bytes(heard);
        let kind = record.byte()?;
        record.skip(2)?;
        let mut hello = Bytes(record.block(2)?);
        if (kind, hello.byte()?) != (HANDSHAKE, CLIENT_HELLO) {
            return None;
        }
        let mut body = Bytes(hello.block(3)?);
        let legacy_version = body.short()?;
        body.skip(32)?;
        body.block(1)?;
        let suites = shorts(body.block(2)?);
        body.block(1)?;
        let versions = body.block(2).and_then(supported_versions);
        let spoken = |number: &u16| Version::of(*number).is_some();
        let up_to =
            |highest: u16| Version::ALL.map(Version::number).into_iter().filter(move |v| *v <= highest);
        let versions = versions.unwrap_or_else(|| up_to(legacy_version.min(0x0303)).collect());
        Some(Self {
            versions: versions.into_iter().filter(spoken).collect(),
            suites: suites
                .into_iter()
                .filter(|number| !is_grease(*number) && !SIGNALS.contains(number))
                .collect(),
        })
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut versions = self.versions.clone();
        versions.sort_unstable();
        let versions: Vec<String> =
            versions.into_iter().filter_map(Version::of).map(|version| version.to_string()).collect();
        let suites: Vec<String> =
            self.suites.iter().take(NAMED_MAX).map(|number| suite_name(*number)).collect();
        let or = |list: String| if list.is_empty() { "nothing".to_owned() } else { list };
        write!(f, "{} with {}", or(versions.join(", ")), or(suites.join(" ")))?;
        match self.suites.len().saturating_sub(NAMED_MAX) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// A client that knows nothing of this extension sends none.
fn supported_versions(extensions: &[u8]) -> Option<Vec<u16>> {
    let mut rest = Bytes(extensions);
    loop {
        let (kind, mut body) = (rest.short()?, Bytes(rest.block(2)?));
        if kind == SUPPORTED_VERSIONS {
            return Some(shorts(body.block(1)?));
        }
    }
}

fn shorts(bytes: &[u8]) -> Vec<u16> {
    let pairs = bytes.chunks_exact(2).take(LISTED_MAX);
    pairs.filter_map(|pair| Some(u16::from_be_bytes(pair.try_into().ok()?))).collect()
}

/// RFC 8701 §2.
fn is_grease(number: u16) -> bool {
    let [high, low] = number.to_be_bytes();
    high == low && low & 0x0f == 0x0a
}

/// Bytes that were not read yet.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.take(count).map(|_| ())
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn short(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    /// What follows its length, which has so many octets.
    fn block(&mut self, octets: usize) -> Option<&'a [u8]> {
        let length = self.take(octets)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        self.take(length)
    }
}

/// What a certificate's key can do in a suite.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) enum KeyKind {
    Rsa,
    Ecdsa,
}

impl KeyKind {
    fn suits(self, number: u16) -> bool {
        let Some(suite) = Suite::of(number) else { return false };
        suite.is_tls13() || suite.name.contains("_ECDSA_") == (self == Self::Ecdsa)
    }

    fn words(self) -> &'static str {
        match self {
            Self::Rsa => "an RSA certificate",
            Self::Ecdsa => "an ECDSA certificate",
        }
    }
}

/// A stream whose first words of the far end are kept.
pub(super) struct Overheard<S> {
    stream: S,
    heard: Vec<u8>,
}

impl<S> Overheard<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, heard: Vec::new() }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// Server side: names both lists when nothing is in common.
    pub(super) fn explain_as_server(
        &self,
        failure: HandshakeFailure,
        ours: &TlsSettings,
        key: KeyKind,
    ) -> HandshakeFailure {
        let HandshakeFailure::NothingInCommon(why) = failure else { return failure };
        let theirs = Offer::read(&self.heard);
        let (words, certificate) = (Offer::of(ours, key), key.words());
        let offered = match &theirs {
            Some(theirs) => format!("the peer offers {theirs}"),
            None => "what the peer offers could not be read".to_owned(),
        };
        let ways = ways_out(ours, key, theirs.as_ref());
        HandshakeFailure::NothingInCommon(format!(
            "{why}; ways out: {ways}; we take {words} ({certificate}); {offered}"
        ))
    }

    /// Client side: a server that answers our offer with an alert found nothing in it; it does not say what it has.
    pub(super) fn explain_as_client(
        &self,
        failure: HandshakeFailure,
        ours: &TlsSettings,
    ) -> HandshakeFailure {
        let is_at_once = self.heard.first() == Some(&ALERT);
        let suites = ours.suites().iter().map(|suite| suite.number).collect();
        let versions = ours.versions().iter().map(|version| version.number()).collect();
        let (words, ways) = (Offer { versions, suites }, ways_out(ours, KeyKind::Rsa, None));
        let why = match failure {
            HandshakeFailure::NothingInCommon(why) => why,
            HandshakeFailure::Alert(alert) if is_at_once && is_about_offer(&alert) => {
                format!("alert {alert}")
            }
            HandshakeFailure::Io(why) if self.heard.is_empty() => {
                let left = "the server left before its first word; if it found nothing in our offer";
                return HandshakeFailure::Io(format!("{why}; {left}, ways out: {ways}"));
            }
            other => return other,
        };
        HandshakeFailure::NothingInCommon(format!(
            "{why}; ways out: {ways}; we offer {words}; the server does not say what it takes"
        ))
    }
}

fn is_about_offer(alert: &str) -> bool {
    matches!(alert, "HandshakeFailure" | "ProtocolVersion" | "InsufficientSecurity")
}

/// What would help, as far as the other list shows it.
fn ways_out(ours: &TlsSettings, key: KeyKind, theirs: Option<&Offer>) -> String {
    let mut wanted: Vec<String> = Vec::new();
    let lowest = ours.versions().iter().min().copied().unwrap_or(Version::V1_3);
    let their_highest = theirs.map(|theirs| theirs.versions.iter().max().copied().unwrap_or_default());
    let is_old = their_highest.is_none_or(|highest| highest < Version::V1_2.number());
    if is_old && lowest > Version::V1_0 {
        wanted.push("min_version = \"1.0\"".to_owned());
    }
    let lacks = |group: Group| {
        let is_ours = ours.suites().iter().any(|suite| suite.group() == group);
        let offers = theirs.is_none_or(|theirs| {
            let suites = theirs.suites.iter().filter(|number| key.suits(**number));
            suites.filter_map(|number| Suite::of(*number)).any(|suite| suite.group() == group)
        });
        !is_ours && offers
    };
    // CBC is what OpenSSL adds by itself; RSA key exchange has to be asked for, and only when nothing else is there.
    let (cbc, rsa) = (lacks(Group::Cbc), lacks(Group::Rsa));
    if rsa && !(theirs.is_some() && cbc) {
        wanted.push("ciphers = \"modern cbc rsa\"".to_owned());
    } else if cbc && ours.backend() == Backend::OpenSsl {
        wanted.push("ciphers = \"modern cbc\"".to_owned());
    }
    let mut ways = Vec::new();
    if ours.backend() == Backend::Rustls && (cbc || rsa || is_old) {
        wanted.insert(0, "backend = \"openssl\"".to_owned());
    }
    if !wanted.is_empty() {
        ways.push(format!("tls = {{ {} }} here", wanted.join(", ")));
    }
    let takes_ecdsa = theirs.is_none_or(|theirs| {
        let is_ours = |number: &u16| ours.suites().iter().any(|suite| suite.number == *number);
        theirs.suites.iter().any(|number| KeyKind::Ecdsa.suits(*number) && is_ours(number))
    });
    if key == KeyKind::Rsa && takes_ecdsa {
        ways.push(match theirs {
            Some(_) => "an ECDSA certificate of ours".to_owned(),
            None => "an ECDSA certificate of the server".to_owned(),
        });
    }
    ways.push("TLS 1.2 with ECDHE and GCM at the peer".to_owned());
    ways.join("; or ")
}

impl<S: AsyncRead + Unpin> AsyncRead for Overheard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let room = HEARD_BYTES_MAX.saturating_sub(self.heard.len());
        let said = buf.filled().get(before..).unwrap_or_default();
        self.heard.extend(said.iter().take(room));
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Overheard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ClientHello of TLS 1.0 shape with two suites and a signal; extensions as given.
    fn hello(version: [u8; 2], suites: &[u8], extensions: &[u8]) -> Vec<u8> {
        let block = |octets: usize, inside: &[u8]| {
            let length = (inside.len() as u32).to_be_bytes();
            [&length[4 - octets..], inside].concat()
        };
        let body = [
            &version[..],
            &[7; 32],
            &block(1, &[9; 32]),
            &block(2, suites),
            &block(1, &[0]),
            &block(2, extensions),
        ]
        .concat();
        let message = [&[CLIENT_HELLO][..], &block(3, &body)].concat();
        [&[HANDSHAKE, 3, 1][..], &block(2, &message)].concat()
    }

    #[test]
    fn a_hello_of_an_old_client_tells_versions_and_suites_without_signals() {
        let old = hello([3, 1], &[0x00, 0x35, 0xc0, 0x14, 0x00, 0xff], &[]);
        let offer = Offer::read(&old).unwrap();
        assert_eq!(
            offer.to_string(),
            "TLS 1.0 with TLS_RSA_WITH_AES_256_CBC_SHA TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"
        );
    }

    #[test]
    fn a_hello_of_today_tells_its_versions_in_the_extension_and_grease_is_left_out() {
        let extension = [0x00, 0x2b, 0x00, 0x07, 0x06, 0x3a, 0x3a, 0x03, 0x04, 0x03, 0x03];
        let offer = Offer::read(&hello([3, 3], &[0x1a, 0x1a, 0x13, 0x01], &extension)).unwrap();
        assert_eq!(offer, Offer { versions: vec![0x0304, 0x0303], suites: vec![0x1301] });
    }

    #[test]
    fn a_cut_or_foreign_hello_is_not_read_and_never_panics() {
        let whole = hello([3, 3], &[0x13, 0x01], &[]);
        for end in 0..whole.len() {
            assert_eq!(Offer::read(&whole[..end]), None, "{end}");
        }
        assert_eq!(Offer::read(b"OPTIONS sip:umbra SIP/2.0\r\n\r\n"), None);
        for at in 0..whole.len() {
            let mut broken = whole.clone();
            broken[at] ^= 0xff;
            let _whatever = Offer::read(&broken);
        }
    }

    fn server(heard: Vec<u8>, key: KeyKind) -> String {
        let overheard = Overheard { stream: (), heard };
        let failure = HandshakeFailure::NothingInCommon("why".to_owned());
        overheard.explain_as_server(failure, &TlsSettings::default(), key).to_string()
    }

    #[test]
    fn both_lists_and_the_ways_out_are_named_to_a_server() {
        let old = server(hello([3, 1], &[0xc0, 0x14], &[]), KeyKind::Rsa);
        assert!(old.contains("we take TLS 1.2, TLS 1.3 with TLS_AES_256_GCM_SHA384"), "{old}");
        assert!(!old.contains("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"), "of no use with RSA: {old}");
        assert!(old.ends_with("the peer offers TLS 1.0 with TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"), "{old}");
        assert!(old.contains("tls = { backend = \"openssl\", min_version = \"1.0\" } here"), "{old}");
        let cbc = server(hello([3, 3], &[0xc0, 0x28, 0xc0, 0x2c], &[]), KeyKind::Rsa);
        assert!(
            cbc.contains("tls = { backend = \"openssl\" } here; or an ECDSA certificate of ours"),
            "{cbc}"
        );
        let rsa = server(hello([3, 3], &[0x00, 0x9c], &[]), KeyKind::Rsa);
        assert!(rsa.contains("tls = { backend = \"openssl\", ciphers = \"modern cbc rsa\" } here"), "{rsa}");
    }

    #[test]
    fn an_alert_that_answers_our_offer_is_nothing_in_common_and_a_later_one_is_not() {
        let alert = |heard: Vec<u8>, word: &str| {
            let failure = HandshakeFailure::Alert(word.to_owned());
            Overheard { stream: (), heard }.explain_as_client(failure, &TlsSettings::default())
        };
        let at_once = alert(vec![ALERT, 3, 3], "HandshakeFailure");
        assert_eq!(at_once.label(), "nothing_in_common");
        assert!(at_once.to_string().contains("we offer TLS 1.2, TLS 1.3 with TLS_AES_256"), "{at_once}");
        assert_eq!(alert(vec![HANDSHAKE, 3, 3], "HandshakeFailure").label(), "refused_by_peer");
        let gone = HandshakeFailure::Io("reset".to_owned());
        let left =
            Overheard { stream: (), heard: Vec::new() }.explain_as_client(gone, &TlsSettings::default());
        assert_eq!(left.label(), "connection_lost");
        assert!(left.to_string().contains("ways out: tls = { backend = \"openssl\""), "{left}");
        assert_eq!(alert(vec![ALERT, 3, 3], "UnrecognisedName").label(), "refused_by_peer");
    }
}
