//! Where a message that has lost its connection goes: the next hop of RFC 3261 §8.1.2 and §18.2.2, checked against the
//! one configured peer it may lead to. Pure; refuses to know connections, calls and DNS.

use std::net::IpAddr;

use sip::dialog::Dialog;
use sip::{Message, NameAddr, Scheme, Transport, Uri};

use crate::policy::{Peer, PeerAddress, Policy, PortSource};

/// Addresses of one name that are tried in turn.
pub(crate) const ADDRESSES_MAX: usize = 3;

/// A way to a peer: everything a connection needs but the connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The name a certificate must carry, in lower case.
    pub name: String,
    /// Known addresses; empty = resolve the name.
    pub addresses: Vec<IpAddr>,
    /// Port, unless SRV records name another.
    pub port: u16,
    /// Whether they may.
    pub port_source: PortSource,
    /// Over what.
    pub transport: Transport,
}

impl Place {
    /// For logs and evidence.
    pub fn describe(&self) -> String {
        format!("{}:{} ({})", self.name, self.port, self.transport.as_param())
    }

    /// How calls and notifications reach a UM IP gateway that has no connection of its own.
    pub fn of_gateway(policy: &Policy, index: usize) -> Option<Self> {
        let gateway = policy.ip_gateways.get(index)?;
        let transport = if gateway.pool.is_some() { Transport::Tls } else { Transport::Tcp };
        Some(Self {
            name: gateway.address.to_string().to_ascii_lowercase(),
            addresses: policy.addresses_of(Peer::IpGateway(index)),
            port: gateway.port,
            port_source: gateway.port_source,
            transport,
        })
    }
}

/// Why a message has no way that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RouteFault {
    /// No URI or Via that can be read.
    Unreadable,
    /// A host that is none of the peer's names and addresses.
    Foreign(String),
    /// Another transport than the leg's.
    Transport(String),
}

impl std::fmt::Display for RouteFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable => write!(f, "the next hop cannot be read"),
            Self::Foreign(host) => write!(f, "{host} is no name of the peer"),
            Self::Transport(uri) => write!(f, "{uri} weakens or changes the transport"),
        }
    }
}

/// The peer a leg belongs to, and what is known of its lost connection.
pub(crate) struct Owner<'a> {
    /// What is configured.
    pub policy: &'a Policy,
    /// Who it is.
    pub peer: Peer,
    /// Far end of the lost connection.
    pub seen_at: IpAddr,
    /// What it ran over.
    pub transport: Transport,
}

impl Owner<'_> {
    /// The next hop of requests in a dialog: the first route, else the remote target. A strict router has become the Request-URI
    /// and is the next hop all the same (RFC 3261 §8.1.2, §12.2.1.1).
    pub fn next_hop(&self, dialog: &Dialog) -> Result<Place, RouteFault> {
        let uri = match dialog.route_set.first() {
            Some(route) => NameAddr::parse_one(route.clone()).map_err(|_| RouteFault::Unreadable)?.uri,
            None => Uri::parse(dialog.remote_target.clone()).map_err(|_| RouteFault::Unreadable)?,
        };
        self.place_of(&uri)
    }

    /// Where a response goes whose connection is gone (RFC 3261 §18.2.2): the address its request came from, the port of
    /// the Via's sent-by.
    pub fn way_back(&self, response: &Message) -> Result<Place, RouteFault> {
        let via = response.top_via().map_err(|_| RouteFault::Unreadable)?;
        let host = String::from_utf8_lossy(via.host()).into_owned();
        let port = via.port().unwrap_or(self.transport.default_port());
        let known = self.named(&host)?;
        // `received` is what we saw ourselves, so the name need not be resolved.
        Ok(Place { addresses: vec![self.seen_at], ..self.place(known, port, PortSource::Configured) })
    }

    fn place_of(&self, uri: &Uri) -> Result<Place, RouteFault> {
        let shown = || String::from_utf8_lossy(uri.raw()).into_owned();
        if !matches!(uri.scheme(), Scheme::Sip | Scheme::Sips) {
            return Err(RouteFault::Foreign(shown()));
        }
        let transport = match (uri.scheme(), uri.transport()) {
            (Scheme::Sips, _) => Transport::Tls,
            (_, Some(named)) => named,
            (_, None) if uri.param("transport").is_some() => return Err(RouteFault::Transport(shown())),
            (_, None) => self.transport,
        };
        if transport != self.transport {
            return Err(RouteFault::Transport(shown()));
        }
        let mut known = self.named(uri.host_str())?;
        if let Some(maddr) = uri.param("maddr") {
            // RFC 3263 §4: maddr is the target; it must be the same peer.
            known = self.named(&String::from_utf8_lossy(maddr.unwrap_or_default()))?;
        }
        Ok(match uri.port() {
            Some(port) => self.place(known, port, PortSource::Configured),
            None => self.place(known, transport.default_port(), PortSource::Srv),
        })
    }

    fn place(&self, (name, addresses): (String, Vec<IpAddr>), port: u16, port_source: PortSource) -> Place {
        let port_source = if addresses.is_empty() { port_source } else { PortSource::Configured };
        Place { name, addresses, port, port_source, transport: self.transport }
    }

    // A name and its configured addresses, if the host is one of the peer's.
    fn named(&self, host: &str) -> Result<(String, Vec<IpAddr>), RouteFault> {
        let host = host.strip_suffix('.').unwrap_or(host);
        let configured = self.policy.addresses_of(self.peer);
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match literal {
            Ok(address) if address == self.seen_at || configured.contains(&address) => {
                Ok((self.own_name(), vec![address]))
            }
            Err(_) if self.policy.has_name(self.peer, host) => Ok((host.to_ascii_lowercase(), configured)),
            _ => Err(RouteFault::Foreign(host.to_owned())),
        }
    }

    // An address says nothing about a certificate, so the peer's own name is asked for.
    fn own_name(&self) -> String {
        match self.peer {
            Peer::IpGateway(index) => match self.policy.ip_gateways.get(index).map(|g| &g.address) {
                Some(PeerAddress::Fqdn(name)) => name.to_ascii_lowercase(),
                Some(PeerAddress::Ip(address)) => address.to_string(),
                None => String::new(),
            },
            Peer::Server(..) => self.policy.peer_name(self.peer).to_ascii_lowercase(),
        }
    }
}
