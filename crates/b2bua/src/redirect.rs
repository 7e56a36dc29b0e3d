//! Where a 3xx may lead. A pure check of its contacts against the servers of the dial plan: host and
//! `maddr` must name one and the same server, transport may not weaken, no place is visited twice.
//! Refuses to know connections and calls.

use std::net::IpAddr;

use bytes::Bytes;
use sip::{Message, NameAddr, Scheme, Transport, Uri};

use crate::engine::Question;
use crate::policy::{PortSource, Server};

/// Contacts of one 3xx that are looked at.
pub(crate) const CONTACTS_MAX: usize = 8;

/// One place an INVITE can go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    /// Request-URI: the contact's, parameters kept.
    pub uri: Bytes,
    /// Name of the server (expected TLS identity, key of its load).
    pub server: String,
    /// Known addresses; empty = resolve the name.
    pub addresses: Vec<IpAddr>,
    /// Port.
    pub port: u16,
    /// Whether SRV records may name another.
    pub port_source: PortSource,
    /// Transport.
    pub transport: Transport,
}

impl Hop {
    /// The same place, whatever the Request-URI.
    pub fn is_same_place(&self, other: &Hop) -> bool {
        self.server.eq_ignore_ascii_case(&other.server)
            && self.port == other.port
            && self.transport == other.transport
            && self.addresses == other.addresses
    }

    /// What name resolution is asked.
    pub fn question(&self) -> Question {
        Question {
            name: self.server.clone(),
            transport: self.transport,
            port: self.port,
            port_source: self.port_source,
        }
    }

    /// For logs and evidence.
    pub fn describe(&self) -> String {
        format!("{}:{} ({})", self.server, self.port, self.transport.as_param())
    }
}

/// Why a contact is not followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RedirectFault {
    /// No Contact that can be read.
    NoContact,
    /// Not a SIP URI.
    NotSip(String),
    /// A host outside the plan's servers.
    Escape(String),
    /// `maddr` names another server than the host.
    Maddr(String),
    /// Plain where TLS is demanded, or any other transport than the plan's.
    Transport(String),
    /// Been there.
    Loop(String),
}

impl std::fmt::Display for RedirectFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoContact => write!(f, "no Contact that can be read"),
            Self::NotSip(uri) => write!(f, "{uri} is no SIP URI"),
            Self::Escape(host) => write!(f, "{host} is no server of the dial plan"),
            Self::Maddr(maddr) => write!(f, "maddr {maddr} is another server than the host"),
            Self::Transport(uri) => write!(f, "{uri} weakens or changes the transport"),
            Self::Loop(place) => write!(f, "{place} was tried already"),
        }
    }
}

/// What the check needs to know.
pub(crate) struct Rules<'a> {
    /// Servers of the dial plan, of both roles.
    pub servers: &'a [&'a Server],
    /// Transport of the call's B leg.
    pub transport: Transport,
    /// Places this call has been to.
    pub visited: &'a [Hop],
}

/// The contacts of a 3xx that may be followed, best first, and why the others may not.
pub(crate) fn hops(response: &Message, rules: &Rules<'_>) -> (Vec<Hop>, Vec<RedirectFault>) {
    let mut contacts = match response.contacts() {
        Ok(contacts) if !contacts.is_empty() => contacts,
        _ => return (Vec::new(), vec![RedirectFault::NoContact]),
    };
    contacts.truncate(CONTACTS_MAX);
    contacts.sort_by_key(|contact| std::cmp::Reverse(preference(contact)));
    let mut good: Vec<Hop> = Vec::new();
    let mut faults = Vec::new();
    for contact in &contacts {
        match hop(contact, rules) {
            Ok(hop) if good.iter().any(|known| known.is_same_place(&hop)) => {}
            Ok(hop) => good.push(hop),
            Err(fault) => faults.push(fault),
        }
    }
    (good, faults)
}

fn hop(contact: &NameAddr, rules: &Rules<'_>) -> Result<Hop, RedirectFault> {
    let uri = &contact.uri;
    let shown = || String::from_utf8_lossy(uri.raw()).into_owned();
    if !matches!(uri.scheme(), Scheme::Sip | Scheme::Sips) {
        return Err(RedirectFault::NotSip(shown()));
    }
    let host = uri.host_str().to_owned();
    let server = named(rules.servers, &host).ok_or(RedirectFault::Escape(host))?;
    check_maddr(uri, server)?;
    let transport = match (uri.scheme(), uri.transport()) {
        (Scheme::Sips, _) => Transport::Tls,
        (_, Some(named)) => named,
        // One that nobody here speaks (ws, sctp) is not the same as none.
        (_, None) if uri.param("transport").is_some() => return Err(RedirectFault::Transport(shown())),
        (_, None) => rules.transport,
    };
    if transport != rules.transport {
        return Err(RedirectFault::Transport(shown()));
    }
    let hop = Hop {
        uri: uri.without_headers(),
        server: server.name.clone(),
        addresses: server.addresses.clone(),
        port: uri.port().unwrap_or(transport.default_port()),
        port_source: match uri.port() {
            Some(_) => PortSource::Configured,
            None if server.addresses.is_empty() => PortSource::Srv,
            None => PortSource::Configured,
        },
        transport,
    };
    match rules.visited.iter().any(|place| place.is_same_place(&hop)) {
        true => Err(RedirectFault::Loop(hop.describe())),
        false => Ok(hop),
    }
}

fn check_maddr(uri: &Uri, server: &Server) -> Result<(), RedirectFault> {
    let Some(value) = uri.param("maddr") else { return Ok(()) };
    let text = String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
    match is_name_of(server, &text) {
        true => Ok(()),
        false => Err(RedirectFault::Maddr(text)),
    }
}

fn named<'a>(servers: &[&'a Server], host: &str) -> Option<&'a Server> {
    servers.iter().find(|server| is_name_of(server, host)).copied()
}

fn is_name_of(server: &Server, host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let host = host.strip_suffix('.').unwrap_or(host);
    server.name.eq_ignore_ascii_case(host) || address.is_ok_and(|ip| server.addresses.contains(&ip))
}

// In thousandths; none counts as 1.
fn preference(contact: &NameAddr) -> u16 {
    contact.q().unwrap_or(1000)
}
