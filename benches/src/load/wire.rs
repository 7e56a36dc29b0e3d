//! One TLS connection of the generator: whole messages in, one write per turn out. Owns buffers and the stream.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use lab::pki::{Identity, Pki};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::sync::Notify;

/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;

/// The writing end.
#[derive(Clone, Default)]
pub struct Outbox {
    text: Rc<RefCell<String>>,
    wake: Rc<Notify>,
}

impl Outbox {
    /// Adds what `write` writes.
    pub fn put(&self, write: impl FnOnce(&mut String)) {
        write(&mut self.text.borrow_mut());
        self.wake.notify_one();
    }
}

/// TLS of both roles, mutual.
pub struct Tls {
    roots: Arc<RootCertStore>,
}

impl Tls {
    /// Trusts the root of that lab.
    pub fn new(pki: &Pki) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(pki.roots());
        Self { roots: Arc::new(roots) }
    }

    /// For connections with one of these versions; every handshake is a full one.
    pub fn connector(
        &self,
        own: &Identity,
        versions: &[&'static SupportedProtocolVersion],
    ) -> tokio_rustls::TlsConnector {
        let config = rustls::ClientConfig::builder_with_protocol_versions(versions);
        let config = config.with_root_certificates(self.roots.clone());
        let mut config = config.with_client_auth_cert(own.chain().to_vec(), own.key()).unwrap();
        config.resumption = Resumption::disabled();
        tokio_rustls::TlsConnector::from(Arc::new(config))
    }

    /// For those who connect.
    pub fn acceptor(&self, own: &Identity) -> tokio_rustls::TlsAcceptor {
        let verifier = WebPkiClientVerifier::builder(self.roots.clone()).build().unwrap();
        let config = rustls::ServerConfig::builder().with_client_cert_verifier(verifier);
        let config = config.with_single_cert(own.chain().to_vec(), own.key()).unwrap();
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    }
}

/// Connects from an address of our own.
pub async fn connect(
    connector: &tokio_rustls::TlsConnector,
    from: IpAddr,
    to: SocketAddr,
    name: &str,
) -> std::io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let stream = socket.connect(to).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(name.to_owned()).map_err(std::io::Error::other)?;
    connector.connect(name, stream).await
}

/// Carries the connection to its end; every whole message goes to `take`.
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    outbox: Outbox,
    mut take: impl FnMut(&str),
) -> std::io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        let mut text = String::new();
        loop {
            outbox.wake.notified().await;
            std::mem::swap(&mut text, &mut outbox.text.borrow_mut());
            writer.write_all(text.as_bytes()).await?;
            writer.flush().await?;
            text.clear();
        }
    };
    let read = async {
        let mut buffer = Vec::with_capacity(READ_BYTES);
        loop {
            if reader.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            let mut at = 0;
            while let Some(length) = message_length(&buffer[at..]) {
                take(std::str::from_utf8(&buffer[at..at + length]).map_err(std::io::Error::other)?);
                at += length;
            }
            buffer.drain(..at);
        }
    };
    tokio::select! {
        end = read => end,
        end = write => end,
    }
}

/// Length of the first message, when it is whole. Blank lines in front are its own.
fn message_length(bytes: &[u8]) -> Option<usize> {
    let blank = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let head = bytes[blank..].windows(4).position(|window| window == b"\r\n\r\n")? + blank + 4;
    let text = std::str::from_utf8(&bytes[..head]).ok()?;
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("Content-Length") || name.eq_ignore_ascii_case("l");
        is_length.then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    let whole = head + length.unwrap_or_default();
    (bytes.len() >= whole).then_some(whole)
}
