//! Listeners. Owns the accept loops and the tasks of the connections they accepted; a handshake is never awaited in
//! the loop. Refuses to know messages.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use b2bua::engine::PeerIdentity;
use sip::Transport;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::connection::serve;
use super::{FlowFacts, NetContext, NetEvent};
use crate::tls::HandshakeFailure;

/// Connections the system queues for us.
const BACKLOG: u32 = 1_024;
/// Pause after a failed accept (out of descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener that has its port.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Bound {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it speaks.
    pub transport: Transport,
}

/// Takes a TCP port (0: any).
pub fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until the context stops, then waits for its connections to end.
pub async fn accept_loop(context: Arc<NetContext>, listener: TcpListener, transport: Transport) {
    let mut tasks = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = context.stopped() => break,
            Some(_) = tasks.join_next(), if !tasks.is_empty() => continue,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                context.metrics.dropped("accept_failed");
                context.warnings.warn("accept", || warn!(%error, "cannot accept a connection"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = context.connections.clone().try_acquire_owned() else {
            context.metrics.dropped("too_many_connections");
            continue;
        };
        let context = context.clone();
        tasks.spawn(async move {
            match transport {
                Transport::Tls => serve_tls(&context, stream, remote).await,
                Transport::Tcp | Transport::Udp => serve_tcp(&context, stream, remote).await,
            }
            drop(permit);
        });
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

async fn serve_tcp(context: &NetContext, stream: TcpStream, remote: SocketAddr) {
    let Some(local) = prepare(&stream) else { return };
    let end = context.flows.open_stream(context.limits.queue_len_max, context.limits.queue_bytes_max);
    let peer = PeerIdentity::Address;
    let facts = FlowFacts { key: end.key, transport: Transport::Tcp, local, remote, peer };
    if context.events.send(NetEvent::Up(facts)).await.is_ok() {
        serve(context, stream, end).await;
    }
}

async fn serve_tls(context: &NetContext, stream: TcpStream, remote: SocketAddr) {
    let Some(local) = prepare(&stream) else { return };
    let (Some(tls), Ok(permit)) = (context.tls.load_full(), context.handshakes.clone().try_acquire_owned())
    else {
        context.metrics.dropped("too_many_handshakes");
        return;
    };
    let handshake = tokio::select! {
        handshake = timeout(context.limits.handshake_timeout, tls.accept(stream)) => handshake,
        () = context.stopped() => return,
    };
    drop(permit);
    let (stream, peer) = match handshake.unwrap_or(Err(HandshakeFailure::Timeout)) {
        Ok(done) => done,
        Err(failure) => return refuse(context, remote, &failure),
    };
    context.metrics.handshake(peer.names().first().map_or("", String::as_str), "ok");
    context.count_quirks(&peer);
    debug!(%remote, names = ?peer.names(), "peer verified");
    let end = context.flows.open_stream(context.limits.queue_len_max, context.limits.queue_bytes_max);
    let peer = PeerIdentity::Verified { names: peer.names().to_vec() };
    let facts = FlowFacts { key: end.key, transport: Transport::Tls, local, remote, peer };
    if context.events.send(NetEvent::Up(facts)).await.is_ok() {
        serve(context, stream, end).await;
    }
}

/// Counts every refusal under its own reason; the log gets each reason at most once a second.
fn refuse(context: &NetContext, remote: SocketAddr, failure: &HandshakeFailure) {
    context.metrics.handshake("", failure.label());
    let reason = failure.label();
    context.warnings.warn(reason, || {
        let umb_code = failure.code().as_str();
        warn!(event = "tls_refused", %remote, reason, umb_code, detail = %printable(failure), "TLS peer refused");
    });
}

/// A certificate may carry any characters; a log line may not.
fn printable(failure: &HandshakeFailure) -> String {
    b2bua::verdict::clean(&failure.to_string())
}

fn prepare(stream: &TcpStream) -> Option<SocketAddr> {
    // Both fail only when the connection is gone already.
    stream.set_nodelay(true).ok()?;
    stream.local_addr().ok()
}

#[cfg(test)]
#[path = "listen_tests.rs"]
mod tests;
