//! A connection that the lab opens: connect from an address of its own, shake hands, serve.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use sip::{Flow, FlowKey, Party, Transport};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connection::{announce, serve};
use super::driver::Event;
use super::tls;
use crate::frontend::{CallerError, Target, TlsTarget};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that is served until it ends.
pub(super) struct Dialled {
    pub(super) local: SocketAddr,
    pub(super) task: JoinHandle<()>,
}

/// Connects, and makes the connection known to its role under this key.
pub(super) async fn dial<C: Send + 'static>(
    from: IpAddr,
    target: &Target,
    key: FlowKey,
    to: &mpsc::Sender<Event<C>>,
    stop: watch::Receiver<bool>,
) -> Result<Dialled, CallerError> {
    let socket = if from.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(CallerError::Connect)?;
    socket.bind(SocketAddr::new(from, 0)).map_err(CallerError::Connect)?;
    let connecting = timeout(CONNECT_TIMEOUT, socket.connect(target.address));
    let stream =
        connecting.await.map_err(|_| CallerError::Connect(timed_out()))?.map_err(CallerError::Connect)?;
    let _ = stream.set_nodelay(true);
    let local = stream.local_addr().map_err(CallerError::Connect)?;
    let transport = if target.tls.is_some() { Transport::Tls } else { Transport::Tcp };
    let flow =
        Flow { key, transport, remote: target.address, via_port: local.port(), party: Party::default() };
    let queue = |sender| async move { announce(flow, sender).await.ok_or(CallerError::Closed) };
    let task = match &target.tls {
        None => {
            let queue = queue(to).await?;
            tokio::spawn(serve(stream, flow, queue, to.clone(), stop))
        }
        Some(wanted) => {
            let stream = shake_hands(stream, wanted).await?;
            let queue = queue(to).await?;
            tokio::spawn(serve(stream, flow, queue, to.clone(), stop))
        }
    };
    Ok(Dialled { local, task })
}

async fn shake_hands(stream: TcpStream, wanted: &TlsTarget) -> Result<TlsStream<TcpStream>, CallerError> {
    let failed = |why: String| CallerError::Tls(why);
    let client = tls::client_config(wanted.identity.as_ref(), &wanted.roots, &wanted.expected_name)
        .map_err(|why| failed(why.to_string()))?;
    let name = ServerName::try_from(wanted.expected_name.clone()).map_err(|why| failed(why.to_string()))?;
    let shaking = TlsConnector::from(Arc::new(client)).connect(name, stream);
    timeout(CONNECT_TIMEOUT, shaking)
        .await
        .map_err(|_| failed("handshake timed out".to_owned()))?
        .map_err(|why| failed(why.to_string()))
}

fn timed_out() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no connection within 5 s")
}
