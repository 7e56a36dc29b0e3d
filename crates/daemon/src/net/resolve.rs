//! Names to addresses and ports (RFC 3263 §4.2): SRV where no port is configured, A and AAAA, hosts file, caches. Owns the
//! resolver, its time and its limits; the order of SRV targets is `sip::locate`'s. NAPTR is not asked for: the transport is
//! always configured.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use b2bua::engine::{Question, ResolveFailure, ResolveFailureKind};
use b2bua::policy::PortSource;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use sip::locate::{self, Srv};
use tokio::time::timeout;
use tracing::warn;

/// Addresses kept of one answer.
const ADDRESSES_MAX: usize = 16;
/// SRV targets whose addresses are looked up.
const TARGETS_MAX: usize = 4;
/// Search domains looked at.
const SEARCH_DOMAINS_MAX: usize = 6;
/// Answers remembered.
const CACHE_MAX: u64 = 1_024;
/// Longest that an answer, or the lack of one, is believed.
const TTL_MAX: (Duration, Duration) = (Duration::from_secs(3_600), Duration::from_secs(60));

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Name servers; empty = the system's.
    pub servers: Vec<SocketAddr>,
    /// How long one question may take. SRV and the addresses behind it are two, one after the other.
    pub timeout: Duration,
}

impl Default for Dns {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: Duration::from_millis(800) }
    }
}

/// An SRV record, and the addresses of its target.
pub type Offered = (Srv, Result<Vec<IpAddr>, ResolveFailure>);

/// Looks names up, and remembers.
pub struct Locator {
    resolver: Result<TokioResolver, String>,
    timeout: Duration,
}

impl Locator {
    /// A resolver over these name servers. What is wrong with the system's configuration is told by each look-up.
    pub fn new(dns: &Dns) -> Self {
        let resolver = build(dns).map_err(|error| error.to_string());
        if let Err(why) = &resolver {
            warn!(event = "no_resolver", %why, "only peers with `address` can be reached");
        }
        Self { resolver, timeout: dns.timeout }
    }

    /// Addresses and ports of a name, in the order they are to be tried.
    ///
    /// # Errors
    /// The name has no address, or nobody says so in time.
    pub async fn locate(&self, question: &Question) -> Result<Vec<SocketAddr>, ResolveFailure> {
        let name = question.name.as_str();
        if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, question.port)]);
        }
        if let Some(service) = srv_name(question) {
            let records = self.srv_records(&service).await;
            if locate::is_refused(&records) {
                let detail = format!("{name} says that it offers no SIP over {}", question.transport);
                return Err(ResolveFailure { kind: ResolveFailureKind::NoAddress, detail });
            }
            let ordered = locate::order(records, |bound| rand::random_range(0..=bound));
            if !ordered.is_empty() {
                return self.targets(&ordered).await;
            }
        }
        let found = self.addresses(name).await?;
        Ok(found.into_iter().map(|address| SocketAddr::new(address, question.port)).collect())
    }

    /// The SRV records that a question may go by, the one to be tried first in front: to be told, not to be chosen from.
    pub async fn services(&self, question: &Question) -> Vec<Offered> {
        let Some(service) = srv_name(question) else { return Vec::new() };
        let mut records = self.srv_records(&service).await;
        records.retain(|srv| !srv.target.is_empty());
        records.sort_by_key(|srv| (srv.priority, std::cmp::Reverse(srv.weight)));
        records.truncate(ADDRESSES_MAX);
        let found = join_all(records.iter().map(|srv| self.addresses(&srv.target))).await;
        records.into_iter().zip(found).collect()
    }

    /// The names that an address leads back to; none when nobody tells.
    pub async fn names_of(&self, address: IpAddr) -> Vec<String> {
        let reverse = Name::from(address).to_utf8();
        let records = self.records(&reverse, RecordType::PTR).await.unwrap_or_default();
        let name = |data: &RData| match data {
            RData::PTR(name) => Some(name.to_utf8().trim_end_matches('.').to_owned()),
            _ => None,
        };
        records.iter().filter_map(name).take(ADDRESSES_MAX).collect()
    }

    // No SRV records, or none that can be had: the name's own addresses remain (RFC 3263 §4.2).
    async fn srv_records(&self, name: &str) -> Vec<Srv> {
        let records = self.records(name, RecordType::SRV).await.unwrap_or_default();
        let srv = |data: &RData| match data {
            RData::SRV(srv) => Some(Srv {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_utf8().trim_end_matches('.').to_owned(),
            }),
            _ => None,
        };
        records.iter().filter_map(srv).collect()
    }

    async fn targets(&self, ordered: &[Srv]) -> Result<Vec<SocketAddr>, ResolveFailure> {
        let mut found = Vec::new();
        let mut failure = None;
        // All at once, so that one silent zone costs one timeout; the order stays that of the targets.
        let lookups = ordered.iter().take(TARGETS_MAX).map(|srv| self.addresses(&srv.target));
        for (srv, result) in ordered.iter().zip(join_all(lookups).await) {
            match result {
                Ok(addresses) => found.extend(addresses.into_iter().map(|ip| SocketAddr::new(ip, srv.port))),
                Err(why) => failure = Some(why),
            }
        }
        found.truncate(ADDRESSES_MAX);
        match failure {
            Some(why) if found.is_empty() => Err(why),
            _ => Ok(found),
        }
    }

    async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, ResolveFailure> {
        let (v4, v6) = tokio::join!(self.records(name, RecordType::A), self.records(name, RecordType::AAAA));
        let of = |records: &Result<Vec<RData>, ResolveFailure>| -> Vec<IpAddr> {
            let records = records.as_deref().unwrap_or_default();
            records.iter().filter_map(RData::ip_addr).map(|ip| ip.to_canonical()).collect()
        };
        let mut found = locate::interleave(of(&v4), of(&v6));
        found.truncate(ADDRESSES_MAX);
        let worst = [v4.err(), v6.err()].into_iter().flatten().max_by_key(|why| severity(why.kind));
        match worst {
            _ if !found.is_empty() => Ok(found),
            Some(why) => Err(why),
            None => Err(no_address(name)),
        }
    }

    async fn records(&self, name: &str, kind: RecordType) -> Result<Vec<RData>, ResolveFailure> {
        let failed = |kind, detail| ResolveFailure { kind, detail };
        let resolver = self.resolver.as_ref();
        let resolver = resolver.map_err(|why| failed(ResolveFailureKind::Failed, why.clone()))?;
        let mut fqdn = Name::from_str(name)
            .map_err(|error| failed(ResolveFailureKind::Failed, format!("{name}: {error}")))?;
        // A name of the configuration is whole; no search domain is appended.
        fqdn.set_fqdn(true);
        match timeout(self.timeout, resolver.lookup(fqdn, kind)).await {
            Ok(Ok(lookup)) => Ok(lookup.answers().iter().map(|record| record.data.clone()).collect()),
            Ok(Err(error)) if error.is_no_records_found() => Err(no_address(name)),
            Ok(Err(NetError::Timeout)) | Err(_) => {
                let detail = format!("no name server answered for {name}");
                Err(failed(ResolveFailureKind::Silent, detail))
            }
            Ok(Err(error)) => Err(failed(ResolveFailureKind::Failed, format!("{name}: {error}"))),
        }
    }
}

/// The SRV name that goes before the addresses of the name itself.
fn srv_name(question: &Question) -> Option<String> {
    match question.port_source {
        PortSource::Configured => None,
        PortSource::Srv => Some(locate::srv_name(&question.name, question.transport)),
        PortSource::Federation => Some(locate::federation_srv_name(&question.name)),
    }
}

/// The search domains of this host: what other tools append to a name, and the gateway never does.
pub fn search_domains() -> Vec<String> {
    let Ok((config, _)) = hickory_resolver::system_conf::read_system_conf() else { return Vec::new() };
    let domains = config.search().iter().map(|name| name.to_utf8().trim_end_matches('.').to_owned());
    domains.filter(|name| !name.is_empty()).take(SEARCH_DOMAINS_MAX).collect()
}

fn no_address(name: &str) -> ResolveFailure {
    ResolveFailure { kind: ResolveFailureKind::NoAddress, detail: format!("{name} has no address") }
}

// Silence of one family says more than the lack of the other.
fn severity(kind: ResolveFailureKind) -> u8 {
    match kind {
        ResolveFailureKind::NoAddress => 0,
        ResolveFailureKind::Failed => 1,
        ResolveFailureKind::Silent => 2,
    }
}

async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, slot) in waiting.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                *slot = Some(output);
            }
        }
        if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

fn build(dns: &Dns) -> Result<TokioResolver, NetError> {
    let mut builder = if dns.servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = dns.servers.iter().map(|server| name_server(*server)).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    options.timeout = dns.timeout;
    // One question, one budget: the next server of the plan is a better use of the time than asking again.
    options.attempts = 1;
    options.cache_size = CACHE_MAX;
    (options.positive_max_ttl, options.negative_max_ttl) = (Some(TTL_MAX.0), Some(TTL_MAX.1));
    builder.build()
}

fn name_server(server: SocketAddr) -> NameServerConfig {
    let mut config = NameServerConfig::udp_and_tcp(server.ip());
    let with_port = |mut connection: ConnectionConfig| {
        connection.port = server.port();
        connection
    };
    config.connections = std::mem::take(&mut config.connections).into_iter().map(with_port).collect();
    config
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
mod tests;
