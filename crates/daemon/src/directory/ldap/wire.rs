//! The connection to a directory: TCP, TLS by the process's own provider, and the guard between it and `ldap3`, through which only
//! whole messages of known shape pass. Refuses to know what is asked.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use b2bua::codes;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::ber::{self, BadMessage};
use super::{Directory, Failure, Sealing};

const READ_BYTES: usize = 16 * 1024;
const SUCCESS: u8 = 0;
/// Message 1: an extended request with the name of StartTLS (RFC 4511 §4.14.1).
const START_TLS: &[u8] = b"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037";

/// Both directions of a connection.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Connects, and seals what is to be sealed.
pub(super) async fn connect(to: &Directory) -> Result<Box<dyn Duplex>, Failure> {
    let unreachable =
        |error: std::io::Error| Failure::new(codes::DIR_UNREACHABLE, format!("{}: {error}", to.url()));
    let mut stream = TcpStream::connect((to.host.as_str(), to.port)).await.map_err(unreachable)?;
    // Small requests that wait for answers; without it they wait for the clock too.
    stream.set_nodelay(true).map_err(unreachable)?;
    match to.sealing {
        Sealing::Clear => return Ok(Box::new(stream)),
        Sealing::StartTls => {
            start_tls(&mut stream).await.map_err(|what| Failure::new(codes::DIR_TLS, what))?
        }
        Sealing::Tls => {}
    }
    let refused = |what: String| Failure::new(codes::DIR_TLS, format!("TLS with {}: {what}", to.url()));
    let (config, name) = tls(to).map_err(refused)?;
    let sealed = TlsConnector::from(config).connect(name, stream).await;
    Ok(Box::new(sealed.map_err(|error| refused(error.to_string()))?))
}

fn tls(to: &Directory) -> Result<(Arc<ClientConfig>, ServerName<'static>), String> {
    let roots = crate::tls::load_roots(&to.trusted_roots).map_err(|error| error.to_string())?;
    let config = ClientConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = match to.host.parse::<IpAddr>() {
        Ok(address) => ServerName::from(address),
        Err(_) => ServerName::try_from(to.host.clone()).map_err(|error| error.to_string())?,
    };
    Ok((Arc::new(config), name))
}

/// Asks for TLS and reads the answer, octet for octet what belongs to it.
async fn start_tls(stream: &mut TcpStream) -> Result<(), String> {
    let words = |error: std::io::Error| format!("StartTLS: {error}");
    stream.write_all(START_TLS).await.map_err(words)?;
    let mut answer = Vec::new();
    let length = loop {
        match ber::message_length(&answer).map_err(|bad| format!("StartTLS: {bad}"))? {
            Some(length) => break length,
            None => answer.push(stream.read_u8().await.map_err(words)?),
        }
    };
    let had = answer.len();
    answer.resize(length.max(had), 0);
    stream.read_exact(answer.get_mut(had..).unwrap_or_default()).await.map_err(words)?;
    match ber::extended_result(&answer) {
        Ok(SUCCESS) => Ok(()),
        Ok(code) => Err(format!("the directory refuses StartTLS (result {code})")),
        Err(bad) => Err(format!("StartTLS: {bad}")),
    }
}

/// Stands between the directory and `ldap3`.
pub(super) struct Guard {
    outer: Box<dyn Duplex>,
    inner: UnixStream,
    octets_left: u64,
    /// Why it let nothing more through.
    pub stopped: Arc<OnceLock<String>>,
}

/// Takes both ends; at most so many octets come in.
pub(super) fn guard(
    outer: Box<dyn Duplex>,
    inner: std::os::unix::net::UnixStream,
    octets_max: u64,
) -> std::io::Result<Guard> {
    inner.set_nonblocking(true)?;
    Ok(Guard { outer, inner: UnixStream::from_std(inner)?, octets_left: octets_max, stopped: Arc::default() })
}

impl Guard {
    /// Carries messages until either side ends, or what comes is none.
    pub(super) async fn run(mut self) {
        if let Err(why) = self.carry().await {
            // Only this task sets it.
            let _first = self.stopped.set(why);
        }
    }

    async fn carry(&mut self) -> Result<(), String> {
        let (mut asked, mut answered, mut waiting) = (vec![0; READ_BYTES], vec![0; READ_BYTES], Vec::new());
        loop {
            tokio::select! {
                count = self.inner.read(&mut asked) => {
                    let Ok(count @ 1..) = count else { return Ok(()) };
                    let request = asked.get(..count).unwrap_or_default();
                    let written = async { self.outer.write_all(request).await?; self.outer.flush().await };
                    if written.await.is_err() { return Ok(()) }
                }
                count = self.outer.read(&mut answered) => {
                    let Ok(count @ 1..) = count else { return Ok(()) };
                    self.octets_left = self.octets_left.checked_sub(count as u64)
                        .ok_or("the directory sends more than is taken at once")?;
                    waiting.extend_from_slice(answered.get(..count).unwrap_or_default());
                    let whole = whole_messages(&waiting).map_err(|bad| bad.to_string())?;
                    if self.inner.write_all(waiting.get(..whole).unwrap_or_default()).await.is_err() { return Ok(()) }
                    waiting.drain(..whole);
                }
            }
        }
    }
}

/// Octets of the whole, sound messages at the beginning.
fn whole_messages(bytes: &[u8]) -> Result<usize, BadMessage> {
    let mut end = 0;
    while let Some(rest) = bytes.get(end..)
        && let Some(length) = ber::message_length(rest)?
        && let Some(message) = rest.get(..length)
    {
        ber::check(message)?;
        end += length;
    }
    Ok(end)
}
