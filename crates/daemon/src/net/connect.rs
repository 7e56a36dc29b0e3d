//! Outgoing connections. Owns connect and handshake budgets and the words for their failures; refuses to decide whom
//! to reach and when to reuse (the engine's task keeps that table).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use b2bua::engine::{ConnectFailure, ConnectFailureKind, PeerIdentity, Target};
use sip::Transport;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::connection::serve;
use super::{FlowFacts, NetContext, NetEvent};
use crate::tls::{HandshakeFailure, PeerRejection};

/// What makes two wishes the same connection: address, port, transport and the name that was verified.
#[derive(Clone, Debug, Eq, PartialEq, Hash)]
pub struct Endpoint {
    /// Where.
    pub address: SocketAddr,
    /// Over what.
    pub transport: Transport,
    /// Whom the certificate must name.
    pub name: String,
}

impl From<&Target> for Endpoint {
    fn from(target: &Target) -> Self {
        Self {
            address: SocketAddr::new(target.address, target.port),
            transport: target.transport,
            name: target.name.to_ascii_lowercase(),
        }
    }
}

/// Connects, reports, and serves the connection to its end.
pub async fn open(context: Arc<NetContext>, endpoint: Endpoint) {
    let attempt = async {
        match endpoint.transport {
            Transport::Tcp => open_tcp(&context, endpoint.clone()).await,
            Transport::Tls => open_tls(&context, endpoint.clone()).await,
            Transport::Udp => open_udp(&context, &endpoint),
        }
    };
    let outcome = tokio::select! {
        outcome = attempt => outcome,
        () = context.stopped() => return,
    };
    if let Err(failure) = outcome {
        // The engine being gone is the only way this fails.
        let _gone = context.events.send(NetEvent::Connected { endpoint, result: Err(failure) }).await;
    }
}

async fn open_tcp(context: &Arc<NetContext>, endpoint: Endpoint) -> Result<(), ConnectFailure> {
    let (stream, local) = dial(context, &endpoint).await?;
    launch(context, endpoint, stream, local, PeerIdentity::Address).await;
    Ok(())
}

async fn open_tls(context: &Arc<NetContext>, endpoint: Endpoint) -> Result<(), ConnectFailure> {
    let tls = context.tls.load_full().ok_or_else(|| {
        failure(ConnectFailureKind::Local, "no [tls] section: no certificate to connect with")
    })?;
    let (stream, local) = dial(context, &endpoint).await?;
    let handshake = timeout(context.limits.tls_timeout, tls.connect(&endpoint.name, stream)).await;
    match handshake.unwrap_or(Err(HandshakeFailure::Timeout)) {
        Ok((stream, peer)) => {
            context.metrics.handshake(&endpoint.name, "ok");
            context.count_quirks(&peer);
            let peer = PeerIdentity::Verified { names: peer.names().to_vec() };
            launch(context, endpoint, stream, local, peer).await;
            Ok(())
        }
        Err(problem) => {
            context.metrics.handshake(&endpoint.name, problem.label());
            Err(failure(kind_of(&problem), &b2bua::verdict::clean(&problem.to_string())))
        }
    }
}

fn open_udp(context: &Arc<NetContext>, endpoint: &Endpoint) -> Result<(), ConnectFailure> {
    let facts = context
        .udp
        .flow_to(context, endpoint.address)
        .ok_or_else(|| failure(ConnectFailureKind::Local, "no UDP listener of that address family"))?;
    let event = NetEvent::Connected { endpoint: endpoint.clone(), result: Ok(facts) };
    context.events.try_send(event).map_err(|_| failure(ConnectFailureKind::Local, "the engine is too busy"))
}

/// Boxed, so that the task's size is not that of a whole connection while it still dials.
async fn launch<S>(
    context: &Arc<NetContext>,
    endpoint: Endpoint,
    stream: S,
    local: SocketAddr,
    peer: PeerIdentity,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite,
{
    let limits = &context.limits;
    let end = context.flows.open_stream(limits.queue_len_max, limits.queue_bytes_max);
    let (transport, remote) = (endpoint.transport, endpoint.address);
    let facts = FlowFacts { key: end.key, transport, local, remote, peer };
    if context.events.send(NetEvent::Connected { endpoint, result: Ok(facts) }).await.is_ok() {
        Box::pin(serve(context, stream, end)).await;
    }
}

async fn dial(context: &NetContext, endpoint: &Endpoint) -> Result<(TcpStream, SocketAddr), ConnectFailure> {
    let connect = async {
        let socket = source_socket(context, endpoint.address.ip())?;
        let stream = socket.connect(endpoint.address).await?;
        stream.set_nodelay(true)?;
        let local = stream.local_addr()?;
        io::Result::Ok((stream, local))
    };
    match timeout(context.limits.connect_timeout, connect).await {
        Ok(Ok(connected)) => Ok(connected),
        Ok(Err(error)) => Err(failure(kind_of_io(&error), &error.to_string())),
        Err(_) => Err(failure(ConnectFailureKind::Timeout, "no answer to the connect")),
    }
}

/// Peers on plain TCP know us by address, so we leave from the one we listen on.
fn source_socket(context: &NetContext, target: IpAddr) -> io::Result<TcpSocket> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let own = context
        .source_addresses
        .iter()
        .find(|own| own.is_ipv4() == target.is_ipv4() && !own.is_unspecified())
        // A loopback source cannot reach anything else, and the other way round.
        .filter(|own| own.is_loopback() == target.is_loopback());
    if let Some(own) = own {
        socket.bind(SocketAddr::new(*own, 0))?;
    }
    Ok(socket)
}

fn kind_of_io(error: &io::Error) -> ConnectFailureKind {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectFailureKind::Refused,
        io::ErrorKind::TimedOut => ConnectFailureKind::Timeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ConnectFailureKind::Unreachable,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => ConnectFailureKind::Refused,
        _ => ConnectFailureKind::Local,
    }
}

fn kind_of(problem: &HandshakeFailure) -> ConnectFailureKind {
    match problem {
        HandshakeFailure::Rejected(PeerRejection::NameMismatch { .. }) => ConnectFailureKind::TlsName,
        HandshakeFailure::Rejected(PeerRejection::WildcardSubject(_) | PeerRejection::NoName) => {
            ConnectFailureKind::TlsName
        }
        HandshakeFailure::Rejected(_) => ConnectFailureKind::TlsChain,
        HandshakeFailure::Timeout => ConnectFailureKind::Timeout,
        HandshakeFailure::Alert(_) | HandshakeFailure::Protocol(_) | HandshakeFailure::Io(_) => {
            ConnectFailureKind::TlsOther
        }
    }
}

fn failure(kind: ConnectFailureKind, detail: &str) -> ConnectFailure {
    ConnectFailure { kind, detail: detail.to_owned() }
}
