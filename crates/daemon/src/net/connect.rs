//! Outgoing connections. Owns connect and handshake budgets and the words for their failures; refuses to decide whom
//! to reach and when to reuse (`outgoing` keeps that table).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use b2bua::engine::{ConnectFailure, ConnectFailureKind, PeerIdentity, Target};
use sip::Transport;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tracing::warn;

use super::{Arrived, Errand, Inbox, NetContext, Secured, Wire};
use crate::observe::RefusedSide;
use crate::tls::{Credentials, HandshakeFailure, PeerRejection, watch};

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

/// Connects and reports to the shard that asked.
pub async fn open(context: Arc<NetContext>, shard: Inbox, endpoint: Endpoint) {
    let attempt = async {
        match endpoint.transport {
            Transport::Tcp => open_tcp(&context, &endpoint).await,
            Transport::Tls => open_tls(&context, &endpoint).await,
            Transport::Udp => Err(failure(ConnectFailureKind::Local, "UDP is not connected")),
        }
    };
    let result = tokio::select! {
        result = attempt => result.map(Box::new),
        () = context.stopped() => return,
    };
    // A shard that has ended wants no connection.
    let _ended = shard.send(Errand::Dialled { endpoint, result }).await;
}

async fn open_tcp(context: &NetContext, endpoint: &Endpoint) -> Result<Arrived, ConnectFailure> {
    let (stream, local) = dial(context, endpoint).await?;
    arrived(endpoint, stream, Wire::Plain, local, (PeerIdentity::Address, None, None))
}

async fn open_tls(context: &NetContext, endpoint: &Endpoint) -> Result<Arrived, ConnectFailure> {
    let tls = context.tls.load_full().ok_or_else(|| {
        failure(ConnectFailureKind::Local, "no [tls] section: no certificate to connect with")
    })?;
    let (stream, local) = dial(context, endpoint).await?;
    let shaking = timeout(context.limits.tls_timeout, tls.connect(&endpoint.name, stream));
    let (handshake, certificate) = watch(shaking).await;
    match handshake.unwrap_or(Err(HandshakeFailure::Timeout)) {
        Ok((stream, session, peer)) => {
            context.metrics.handshake(&endpoint.name, "ok");
            context.count_quirks(&peer);
            context.count_legacy(&endpoint.name, session.agreed());
            let credentials = tls.credentials(&endpoint.name, &peer).map(Box::new);
            let secured = Some(Secured::of(&tls, &session, &peer));
            let peer = (PeerIdentity::Verified { names: peer.names().to_vec() }, secured, credentials);
            arrived(endpoint, stream, Wire::from(session), local, peer)
        }
        Err(problem) => {
            context.metrics.handshake(&endpoint.name, problem.label());
            let (far_end, why) =
                ((endpoint.address, endpoint.name.as_str()), (problem.label(), problem.code()));
            context.refusals.note(RefusedSide::Outbound, far_end, why, &problem.to_string(), certificate);
            let (peer, reason, code) = (&endpoint.name, problem.label(), problem.code());
            context.warnings.warn(reason, || {
                let (umb_code, detail) = (code.as_str(), problem.printable());
                warn!(event = "tls_failed", %peer, reason, umb_code, %detail, "no TLS with a server");
            });
            let detail = b2bua::verdict::clean(&problem.to_string());
            Err(failure(kind_of(&problem), &format!("{code} {reason}: {detail}")))
        }
    }
}

fn arrived(
    endpoint: &Endpoint,
    stream: TcpStream,
    wire: Wire,
    local: SocketAddr,
    (peer, tls, credentials): (PeerIdentity, Option<Secured>, Option<Box<Credentials>>),
) -> Result<Arrived, ConnectFailure> {
    let stream = stream.into_std().map_err(|error| failure(kind_of_io(&error), &error.to_string()))?;
    let (transport, remote) = (endpoint.transport, endpoint.address);
    Ok(Arrived { stream, wire, transport, local, remote, peer, tls, permit: None, credentials })
}

async fn dial(context: &NetContext, endpoint: &Endpoint) -> Result<(TcpStream, SocketAddr), ConnectFailure> {
    let connect = async {
        let socket = source_socket(&context.source_addresses, endpoint.address.ip())?;
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
pub fn source_socket(own: &[IpAddr], target: IpAddr) -> io::Result<TcpSocket> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    let own = own
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
        HandshakeFailure::Rejected(
            PeerRejection::WildcardSubject(_)
            | PeerRejection::NoName
            | PeerRejection::MalformedName
            | PeerRejection::TooManyNames(_),
        ) => ConnectFailureKind::TlsName,
        HandshakeFailure::Rejected(_) => ConnectFailureKind::TlsChain,
        HandshakeFailure::Timeout => ConnectFailureKind::Timeout,
        HandshakeFailure::Alert(_)
        | HandshakeFailure::NothingInCommon(_)
        | HandshakeFailure::Protocol(_)
        | HandshakeFailure::Io(_) => ConnectFailureKind::TlsOther,
    }
}

fn failure(kind: ConnectFailureKind, detail: &str) -> ConnectFailure {
    ConnectFailure { kind, detail: detail.to_owned() }
}
