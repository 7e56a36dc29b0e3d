//! The second backend: OpenSSL of the system, for hosts that rustls cannot talk to. Owns its contexts, the handshake over any
//! stream and the session behind it. Judges no certificate: it proves that the far end holds the key of what it sent, and
//! the one judge of this folder looks at the rest before a byte of SIP is read.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    Error, ErrorCode, Ssl, SslContext, SslContextBuilder, SslMethod, SslMode, SslOptions,
    SslSessionCacheMode, SslStream, SslVerifyMode, SslVersion, cipher_name,
};
use openssl::x509::{X509, X509Name};
use rustls::{AlertDescription, RootCertStore};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::identity::{CHAIN_LENGTH_MAX, Identity};
use super::reject::{HandshakeFailure, PeerRejection};
use super::session::{Records, Wrote};
use super::settings::{Agreed, TlsSettings, Version};

/// Bytes read at once while shaking hands, and longest record opened at once (RFC 8446 §5.1: 2^14 of plain text).
const CHUNK_BYTES: usize = 16 * 1024;
/// Library number of libssl, and its reasons (openssl/err.h, openssl/sslerr.h).
const LIB_SSL: i32 = 20;
const PEER_DID_NOT_RETURN_A_CERTIFICATE: i32 = 199;
/// No shared cipher, unsupported protocol, no shared signature algorithms or groups, version too low, no suitable key share, no suitable
/// groups, no suitable signature algorithm, key of Diffie-Hellman too small.
const NOTHING_IN_COMMON: [i32; 9] = [193, 258, 376, 410, 396, 101, 295, 118, 394];
/// A received alert is its number on top of this (openssl/ssl.h, SSL_AD_REASON_OFFSET).
const ALERT_OFFSET: i32 = 1000;
/// TLS 1.2 has no SHA-1 in handshake signatures here; 1.0 and 1.1 have nothing else and do not ask this list.
const SIGNATURES: &str = "ECDSA+SHA256:ECDSA+SHA384:ECDSA+SHA512:RSA-PSS+SHA256:RSA-PSS+SHA384:RSA-PSS+SHA512:\
    RSA+SHA256:RSA+SHA384:RSA+SHA512";
/// Of OpenSSL's levels: 2 wants 112 bits of strength everywhere, 0 is what TLS 1.0 and 1.1 need for their signatures.
const LEVEL: u32 = 2;
const LEVEL_BELOW_1_2: u32 = 0;

/// Our key as OpenSSL holds it.
pub(super) type Key = PKey<Private>;

/// Reads a key.
pub(super) fn key(der: &[u8]) -> Result<Key, String> {
    PKey::private_key_from_der(der).map_err(|error| words(&error))
}

/// Ready-made for one direction.
#[derive(Clone, Debug)]
pub(super) struct Config {
    context: SslContext,
}

impl Config {
    /// For those who connect to us; roots are named to them so that they find the right certificate.
    pub(super) fn server(
        settings: &TlsSettings,
        identity: &Identity,
        roots: &RootCertStore,
    ) -> Result<Self, String> {
        let mut context = common(settings, identity)?;
        context.set_client_ca_list(authorities(roots)?);
        Ok(Self { context: context.build() })
    }

    /// For those we connect to.
    pub(super) fn client(settings: &TlsSettings, identity: &Identity) -> Result<Self, String> {
        Ok(Self { context: common(settings, identity)?.build() })
    }

    /// Server side of a handshake.
    pub(super) async fn accept<S>(&self, stream: &mut S) -> Result<OpenSsl, HandshakeFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut ssl = self.ssl()?;
        ssl.set_accept_state();
        shake(ssl, stream).await
    }

    /// Client side; the name goes into the hello, what it proves is judged elsewhere.
    pub(super) async fn connect<S>(&self, name: &str, stream: &mut S) -> Result<OpenSsl, HandshakeFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut ssl = self.ssl()?;
        if name.parse::<std::net::IpAddr>().is_err() {
            ssl.set_hostname(name).map_err(|error| HandshakeFailure::Protocol(words(&error)))?;
        }
        ssl.set_connect_state();
        shake(ssl, stream).await
    }

    fn ssl(&self) -> Result<Ssl, HandshakeFailure> {
        Ssl::new(&self.context).map_err(|error| HandshakeFailure::Protocol(words(&error)))
    }
}

fn authorities(roots: &RootCertStore) -> Result<openssl::stack::Stack<X509Name>, String> {
    let mut names = openssl::stack::Stack::new().map_err(|error| words(&error))?;
    for subject in roots.subjects() {
        let name = X509Name::from_der(subject.as_ref()).map_err(|error| words(&error))?;
        names.push(name).map_err(|error| words(&error))?;
    }
    Ok(names)
}

/// What both directions share: our certificate, what is spoken, and that the far end must present a certificate.
fn common(settings: &TlsSettings, identity: &Identity) -> Result<SslContextBuilder, String> {
    let build = || -> Result<SslContextBuilder, ErrorStack> {
        let mut context = SslContextBuilder::new(SslMethod::tls())?;
        speak(&mut context, settings)?;
        let mut chain = identity.certified.cert.iter();
        if let Some(leaf) = chain.next() {
            let leaf = X509::from_der(leaf)?;
            context.set_certificate(&leaf)?;
        }
        for issuer in chain {
            context.add_extra_chain_cert(X509::from_der(issuer)?)?;
        }
        if let Some(key) = &identity.key {
            context.set_private_key(key)?;
        }
        context.check_private_key()?;
        Ok(context)
    };
    let mut context = build().map_err(|error| words(&error))?;
    // OpenSSL's own opinion of a chain is not asked; without this callback it would end the handshake with it.
    context.set_verify_callback(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT, |_, _| true);
    context.set_verify_depth(u32::try_from(CHAIN_LENGTH_MAX).unwrap_or(u32::MAX));
    // Identity is decided anew on every connection: nothing is resumed, nothing is agreed again.
    context.set_session_cache_mode(SslSessionCacheMode::OFF);
    context.set_options(
        SslOptions::NO_TICKET
            | SslOptions::NO_RENEGOTIATION
            | SslOptions::NO_COMPRESSION
            | SslOptions::CIPHER_SERVER_PREFERENCE,
    );
    context.set_num_tickets(0).map_err(|error| words(&error))?;
    context.set_mode(SslMode::RELEASE_BUFFERS);
    if super::keylog::path().is_some() {
        context.set_keylog_callback(|_, line| super::keylog::line(line));
    }
    Ok(context)
}

/// Versions and suites, and nothing that the system's own configuration of OpenSSL would add.
fn speak(context: &mut SslContextBuilder, settings: &TlsSettings) -> Result<(), ErrorStack> {
    let versions = settings.versions();
    context.set_min_proto_version(versions.iter().min().map(|version| ssl_version(*version)))?;
    context.set_max_proto_version(versions.iter().max().map(|version| ssl_version(*version)))?;
    let is_old = versions.iter().any(|version| *version < Version::V1_2);
    context.set_security_level(if is_old { LEVEL_BELOW_1_2 } else { LEVEL });
    let of = |is_tls13| settings.suites().iter().filter(move |suite| suite.is_tls13() == is_tls13);
    let tls13: Vec<&str> = of(true).map(|suite| suite.name).collect();
    let older: Vec<&str> = of(false).map(|suite| cipher_name(suite.name)).collect();
    context.set_ciphersuites(&tls13.join(":"))?;
    if !older.is_empty() {
        context.set_cipher_list(&older.join(":"))?;
    }
    context.set_sigalgs_list(SIGNATURES)
}

fn ssl_version(version: Version) -> SslVersion {
    match version {
        Version::V1_0 => SslVersion::TLS1,
        Version::V1_1 => SslVersion::TLS1_1,
        Version::V1_2 => SslVersion::TLS1_2,
        Version::V1_3 => SslVersion::TLS1_3,
    }
}

/// The handshake; deadlines belong to the caller.
async fn shake<S>(ssl: Ssl, stream: &mut S) -> Result<OpenSsl, HandshakeFailure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let lost = |error: io::Error| HandshakeFailure::Io(error.to_string());
    let session =
        SslStream::new(ssl, Pipe::default()).map_err(|error| HandshakeFailure::Protocol(words(&error)))?;
    let mut session = OpenSsl { session };
    let mut said = vec![0; CHUNK_BYTES];
    loop {
        let step = session.session.do_handshake();
        let records = std::mem::take(&mut session.session.get_mut().outgoing);
        let wrote = async {
            stream.write_all(&records).await?;
            stream.flush().await
        };
        match step {
            Ok(()) => {
                wrote.await.map_err(lost)?;
                return Ok(session);
            }
            Err(error) if error.code() == ErrorCode::WANT_READ => {
                wrote.await.map_err(lost)?;
                match stream.read(&mut said).await.map_err(lost)? {
                    0 => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
                    count => session.session.get_mut().incoming.extend(said.iter().take(count)),
                }
            }
            Err(error) => {
                // The alert is for the peer; the reason for us is the error.
                let _gone = wrote.await;
                return Err(failure(&error));
            }
        }
    }
}

/// The one reading of OpenSSL's errors, in the words that rustls' are told in.
fn failure(error: &Error) -> HandshakeFailure {
    if let Some(error) = error.io_error() {
        return HandshakeFailure::Io(error.to_string());
    }
    let Some(first) = error.ssl_error().and_then(|stack| stack.errors().first()) else {
        return HandshakeFailure::Protocol("no reason".to_owned());
    };
    let reason = first.reason().unwrap_or("unknown reason").to_owned();
    match (first.library_code(), first.reason_code()) {
        (LIB_SSL, PEER_DID_NOT_RETURN_A_CERTIFICATE) => PeerRejection::NoCertificate.into(),
        (LIB_SSL, code) if NOTHING_IN_COMMON.contains(&code) => HandshakeFailure::NothingInCommon(reason),
        (LIB_SSL, code) => match u8::try_from(code - ALERT_OFFSET) {
            Ok(alert) => HandshakeFailure::Alert(format!("{:?}", AlertDescription::from(alert))),
            Err(_) => HandshakeFailure::Protocol(reason),
        },
        _ => HandshakeFailure::Protocol(reason),
    }
}

fn words(stack: &ErrorStack) -> String {
    let words = stack.errors().iter().filter_map(openssl::error::Error::reason);
    let words = words.collect::<Vec<_>>().join(", ");
    if words.is_empty() { "OpenSSL gives no reason".to_owned() } else { words }
}

/// A session over two queues.
pub struct OpenSsl {
    session: SslStream<Pipe>,
}

impl OpenSsl {
    pub(super) fn agreed(&self) -> Agreed {
        let ssl = self.session.ssl();
        let version = ssl.version2().map_or(0, |version| match version {
            SslVersion::TLS1 => Version::V1_0.number(),
            SslVersion::TLS1_1 => Version::V1_1.number(),
            SslVersion::TLS1_2 => Version::V1_2.number(),
            SslVersion::TLS1_3 => Version::V1_3.number(),
            _ => 0,
        });
        let suite = ssl.current_cipher().map_or(0, |cipher| u16::from_be_bytes(cipher.protocol_id()));
        Agreed { version, suite }
    }

    /// OpenSSL lists the leaf among the chain on the client's side only.
    pub(super) fn presented(&self) -> Vec<CertificateDer<'static>> {
        let ssl = self.session.ssl();
        let der = |certificate: &openssl::x509::X509Ref| certificate.to_der().ok().map(CertificateDer::from);
        let leaf = ssl.peer_certificate().and_then(|leaf| der(&leaf));
        let sent = ssl.peer_cert_chain().into_iter().flatten().filter_map(der);
        let issuers = sent.filter(|sent| Some(sent) != leaf.as_ref()).take(CHAIN_LENGTH_MAX);
        let issuers: Vec<_> = issuers.collect();
        leaf.iter().cloned().chain(issuers).collect()
    }

    fn failed(error: &Error) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, failure(error))
    }

    /// `true`: the peer said goodbye.
    fn empty(&mut self, sink: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        let mut plain = [0; CHUNK_BYTES];
        loop {
            match self.session.ssl_read(&mut plain) {
                Ok(0) => return Ok(true),
                Ok(count) => sink(plain.get(..count).unwrap_or_default()),
                Err(error) if error.code() == ErrorCode::WANT_READ => return Ok(false),
                Err(error) if error.code() == ErrorCode::ZERO_RETURN => return Ok(true),
                Err(error) => return Err(Self::failed(&error)),
            }
        }
    }
}

impl Records for OpenSsl {
    fn open(&mut self, sealed: &[u8], sink: &mut impl FnMut(&[u8])) -> io::Result<bool> {
        self.session.get_mut().incoming.extend(sealed);
        self.empty(sink)
    }

    fn drain(&mut self, sink: &mut impl FnMut(&[u8])) -> io::Result<()> {
        self.empty(sink).map(|_| ())
    }

    fn seal(&mut self, mut plain: &[u8]) -> io::Result<()> {
        while !plain.is_empty() {
            let count = self.session.ssl_write(plain).map_err(|error| Self::failed(&error))?;
            plain = plain.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    fn send(&mut self, to: &mut impl Write) -> io::Result<Wrote> {
        let outgoing = &mut self.session.get_mut().outgoing;
        let (mut sent, mut moved) = (0, Wrote::Nothing);
        let outcome = loop {
            let Some(rest) = outgoing.get(sent..).filter(|rest| !rest.is_empty()) else {
                break Ok(Wrote::All);
            };
            match to.write(rest) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => (sent, moved) = (sent + count, Wrote::Some),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(moved),
                Err(error) => break Err(error),
            }
        };
        if sent >= outgoing.len() {
            // An idle connection keeps no buffer.
            *outgoing = Vec::new();
        } else {
            outgoing.drain(..sent);
        }
        outcome
    }

    fn wants_write(&self) -> bool {
        !self.session.get_ref().outgoing.is_empty()
    }

    fn say_goodbye(&mut self) {
        // Fails only on a session that is over.
        let _over = self.session.shutdown();
    }
}

/// What OpenSSL takes for its socket: records that came, records that are to leave.
#[derive(Debug, Default)]
struct Pipe {
    incoming: VecDeque<u8>,
    outgoing: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.incoming.read(buffer)? {
            0 => {
                self.incoming = VecDeque::new();
                Err(io::ErrorKind::WouldBlock.into())
            }
            count => Ok(count),
        }
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
