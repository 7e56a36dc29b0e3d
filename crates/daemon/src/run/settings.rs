//! What a gateway is started with. Owns nothing but values; refuses to know where they were configured.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use b2bua::Policy;
use b2bua::policy::{Dialect, PeerAddress};
use b2bua::quirks::QuirkSet;
use sip::Transport;

use crate::keep::KeepSettings;
use crate::media::MediaConfig;
use crate::net::{Dns, NetLimits};
use crate::observe::RecordSettings;
use crate::tls::{KnownPeers, Spoken, TlsContext, TlsError, TlsFiles};
use crate::trace::Tap;

/// One listener.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct ListenAt {
    /// Where; port 0 takes any free one.
    pub address: SocketAddr,
    /// What is spoken there.
    pub transport: Transport,
}

/// TLS in both directions.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsSetup {
    /// Certificate, key, roots.
    pub files: TlsFiles,
    /// Backends, protocol versions and suites.
    pub spoken: Spoken,
    /// Names and addresses that may come with SHA-1 and short keys.
    pub weak_peers: Vec<String>,
}

impl TlsSetup {
    /// What the further certificates are called.
    pub fn names(&self) -> Vec<String> {
        self.files.more.iter().map(|more| more.name.clone()).collect()
    }

    /// Loads the files for the peers of this policy, and checks that our own certificate is for us and not over.
    pub fn load(&self, policy: &Policy) -> Result<TlsContext, TlsError> {
        let known = known_peers(policy).with_weak(self.weak_peers.iter().cloned());
        let context = TlsContext::load(&self.files, &self.spoken, known)?;
        match context.check_own(&policy.gateway.fqdn, SystemTime::now()) {
            Ok(()) => Ok(context),
            Err(what) => Err(TlsError::Unusable { path: self.files.certificate.clone(), what }),
        }
    }
}

/// Everything a gateway needs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the engine decides with. Listener ports in it are replaced by the bound ones.
    pub policy: Arc<Policy>,
    /// Listeners.
    pub listen: Vec<ListenAt>,
    /// Certificate, key and roots; required for TLS in either direction.
    pub tls: Option<TlsSetup>,
    /// Signalling threads, at least one; each holds the calls of its share of the Call-IDs.
    pub shards: u16,
    /// RTP ports and media threads.
    pub media: MediaConfig,
    /// Name servers.
    pub dns: Dns,
    /// Admin endpoint; `None` switches it off.
    pub admin: Option<SocketAddr>,
    /// Call records; `None` switches them off.
    pub records: Option<RecordSettings>,
    /// Where an operator's wishes for servers are kept over a restart; `None` keeps them nowhere.
    pub state_dir: Option<PathBuf>,
    /// Recordings and captures.
    pub keep: KeepSettings,
    /// Limits of connections.
    pub limits: NetLimits,
    /// Remembers every SIP message, for ladders; `None` remembers nothing.
    pub tap: Option<Arc<Tap>>,
}

impl Settings {
    /// Sections of the configuration in which `new` differs and which take effect at the next start only.
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let differs = [
            ("[listen]", self.listen != new.listen || self.limits != new.limits),
            ("[engine] shards", self.shards != new.shards),
            ("[media]", self.media != new.media),
            ("[dns]", self.dns != new.dns),
            ("[admin]", self.admin != new.admin),
            ("[observe] cdr", self.records != new.records),
            ("[gateway] state_dir", self.state_dir != new.state_dir),
            ("[media] recording, [observe] capture", self.keep != new.keep),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(section, _)| section).collect()
    }
}

/// Everybody the policy knows by certificate name or address.
fn known_peers(policy: &Policy) -> KnownPeers {
    let mut names: Vec<String> = Vec::new();
    let mut addresses: Vec<IpAddr> = Vec::new();
    for pool in &policy.pools {
        names.push(pool.fqdn.clone());
        names.extend(pool.members.iter().cloned());
    }
    for gateway in &policy.ip_gateways {
        match &gateway.address {
            PeerAddress::Fqdn(name) => names.push(name.clone()),
            PeerAddress::Ip(address) => addresses.push(*address),
        }
    }
    names.extend(policy.all_servers().map(|server| server.name.clone()));
    let mut known = KnownPeers::new(names, addresses);
    for (index, gateway) in policy.ip_gateways.iter().enumerate() {
        let pool = policy.pool_of(index);
        let members = pool.into_iter().flat_map(|pool| &pool.members).cloned();
        for name in members.chain([gateway.address.to_string()]) {
            known = known.without(&name, off(gateway.dialect));
        }
    }
    for server in policy.all_servers() {
        known = known.without(&server.name, off(server.dialect));
    }
    known
}

fn off(dialect: Dialect) -> QuirkSet {
    QuirkSet::of_profile(dialect.profile).minus(dialect.quirks)
}
