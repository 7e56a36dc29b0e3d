//! `HOST:PORT` as typed, and the addresses it stands for: as configured for a peer of that name, else by DNS.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use b2bua::Policy;
use b2bua::engine::Question;
use b2bua::policy::PortSource;
use sip::Transport;

use crate::config::Compiled;
use crate::net::{Dns, Locator};

/// SIP over TLS (RFC 3261 §19.1.2).
const DEFAULT_PORT: u16 = 5061;
/// Longest host name, RFC 1035 §2.3.4.
const HOST_BYTES_MAX: usize = 253;

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, rest)) => {
                (host, Some(rest.strip_prefix(':').ok_or("`]` must be followed by `:PORT`")?))
            }
            // More than one colon is an address of version 6 without brackets.
            None if text.matches(':').count() > 1 => (text, None),
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = match port.map(str::parse::<u16>) {
            None => DEFAULT_PORT,
            Some(Ok(port)) if port > 0 => port,
            Some(_) => return Err("the port is a number from 1 to 65535".to_owned()),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let is_host = host.parse::<IpAddr>().is_ok() || (!host.is_empty() && host.bytes().all(is_name));
        if !is_host || host.len() > HOST_BYTES_MAX {
            return Err("HOST is a name or an address".to_owned());
        }
        Ok(Self { host: host.to_ascii_lowercase(), port })
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Target {
    /// Where it is reached, in the order to be tried.
    ///
    /// # Errors
    /// The name has no address.
    pub(super) async fn addresses(&self, site: Option<&Compiled>) -> Result<Vec<SocketAddr>, String> {
        let known = site.map(|site| configured(&site.policy, &self.host)).unwrap_or_default();
        if !known.is_empty() {
            return Ok(known.into_iter().map(|address| SocketAddr::new(address, self.port)).collect());
        }
        let dns = site.map_or_else(Dns::default, |site| site.dns.clone());
        let question = Question {
            name: self.host.clone(),
            transport: Transport::Tls,
            port: self.port,
            port_source: PortSource::Configured,
        };
        Locator::new(&dns).locate(&question).await.map_err(|failure| failure.detail)
    }
}

/// Addresses that the configuration gives to a peer of this name.
fn configured(policy: &Policy, host: &str) -> Vec<IpAddr> {
    policy.peer_by_name(&[host.to_owned()]).map_or_else(Vec::new, |peer| policy.addresses_of(peer))
}
