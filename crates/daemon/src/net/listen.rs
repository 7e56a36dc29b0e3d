//! Listeners. Owns the accept loops and the handshakes of what they accepted; a handshake is never awaited in the loop,
//! and what stands is handed to a shard. Refuses to know messages.

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

use super::{Arrived, Errand, NetContext, Room, Secured, Wire};
use crate::observe::RefusedSide;
use crate::tls::{HandshakeFailure, RefusedLeaf, watch};

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

/// Accepts until the context stops, then waits for its handshakes to end.
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
        let permit = match context.connections.enter(remote.ip()) {
            Ok(permit) => permit,
            Err(full) => {
                context.metrics.dropped(full.counter());
                continue;
            }
        };
        match transport {
            Transport::Tls => {
                let context = context.clone();
                tasks.spawn(async move { arrive_tls(&context, stream, remote, permit).await });
            }
            Transport::Tcp | Transport::Udp => arrive_tcp(&context, stream, remote, permit).await,
        }
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

async fn arrive_tcp(context: &NetContext, stream: TcpStream, remote: SocketAddr, permit: Room) {
    let Some(local) = prepare(&stream) else { return };
    let peer = PeerIdentity::Address;
    let Ok(stream) = stream.into_std() else { return };
    let (wire, transport, permit) = (Wire::Plain, Transport::Tcp, Some(permit));
    let (tls, credentials) = (None, None);
    hand_over(context, Arrived { stream, wire, transport, local, remote, peer, tls, permit, credentials })
        .await;
}

async fn arrive_tls(context: &NetContext, stream: TcpStream, remote: SocketAddr, permit: Room) {
    let Some(local) = prepare(&stream) else { return };
    let (Some(tls), Ok(handshakes)) =
        (context.tls.load_full(), context.handshakes.clone().try_acquire_owned())
    else {
        context.metrics.dropped("too_many_handshakes");
        return;
    };
    let (handshake, refused) = tokio::select! {
        handshake = watch(timeout(context.limits.handshake_timeout, tls.accept(stream))) => handshake,
        () = context.stopped() => return,
    };
    drop(handshakes);
    let (stream, session, peer) = match handshake.unwrap_or(Err(HandshakeFailure::Timeout)) {
        Ok(done) => done,
        Err(failure) => return refuse(context, remote, &failure, refused),
    };
    let name = peer.names().first().map_or("", String::as_str);
    context.metrics.handshake(name, "ok");
    context.count_quirks(&peer);
    context.count_legacy(name, session.agreed());
    debug!(%remote, names = ?peer.names(), "peer verified");
    let tls = Some(Secured::of(&tls, &session, &peer));
    let peer = PeerIdentity::Verified { names: peer.names().to_vec() };
    let Ok(stream) = stream.into_std() else { return };
    let wire = Wire::from(session);
    let (transport, permit, credentials) = (Transport::Tls, Some(permit), None);
    hand_over(context, Arrived { stream, wire, transport, local, remote, peer, tls, permit, credentials })
        .await;
}

async fn hand_over(context: &NetContext, arrived: Arrived) {
    if let Some(shard) = context.next_shard() {
        // A shard that has ended closes the connection by dropping it.
        let _ended = shard.send(Errand::Adopt(Box::new(arrived))).await;
    }
}

/// Counts every refusal under its own reason; the log gets each reason at most once a second.
fn refuse(
    context: &NetContext,
    remote: SocketAddr,
    failure: &HandshakeFailure,
    certificate: Option<RefusedLeaf>,
) {
    context.metrics.handshake("", failure.label());
    let reason = failure.label();
    let why = (reason, failure.code());
    context.refusals.note(RefusedSide::Inbound, (remote, ""), why, &failure.to_string(), certificate);
    context.warnings.warn(reason, || {
        let umb_code = failure.code().as_str();
        warn!(event = "tls_refused", %remote, reason, umb_code, detail = %failure.printable(), "TLS peer refused");
    });
}

fn prepare(stream: &TcpStream) -> Option<SocketAddr> {
    // Both fail only when the connection is gone already.
    stream.set_nodelay(true).ok()?;
    stream.local_addr().ok()
}

#[cfg(test)]
#[path = "listen_tests.rs"]
pub(super) mod tests;
