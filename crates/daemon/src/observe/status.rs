//! How a running gateway stands: the document at `/status`. Owns its shape, for the gateway that writes it and for `umbra status`
//! that reads it; its keys are documented and stable. Holds no secret, and nothing that a peer wrote without being cleaned.

use serde::{Deserialize, Serialize};

use super::{LiveDirectory, TlsRefusal};

/// The document.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// The gateway's name.
    pub fqdn: String,
    /// Seconds since the start.
    pub uptime_secs: u64,
    /// No new calls are taken.
    pub draining: bool,
    /// The last reload of the configuration.
    pub last_reload: Option<Reload>,
    /// The live directory, where one is configured.
    #[serde(default)]
    pub directory: Option<LiveDirectory>,
    /// Calls.
    pub calls: Calls,
    /// RTP ports, in pairs of RTP and RTCP.
    pub rtp: RtpPorts,
    /// Everybody in the configuration, with what stands between us.
    pub peers: Vec<PeerStatus>,
    /// Connections of nobody in the configuration.
    pub strangers: Vec<Connections>,
    /// Ours.
    pub certificates: Vec<OwnCertificate>,
    /// What is old and may be spoken.
    pub legacy_allowed: Vec<LegacyAllowed>,
    /// How often it was.
    pub legacy_used: Vec<LegacyUsed>,
    /// Names that may come with weak certificates.
    pub weak_allowed: Vec<String>,
    /// How often they did.
    pub weak_used: Vec<WeakUsed>,
    /// TLS handshakes that failed.
    pub failed_handshakes: FailedHandshakes,
    /// TLS secrets are written to a file.
    pub keys_logged: bool,
}

/// A reload.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Reload {
    /// When, RFC 3339.
    pub at: String,
    /// Taken; else what was in force before stayed.
    pub taken: bool,
}

/// Calls.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Calls {
    /// Going on.
    pub now: u64,
    /// At most.
    pub allowed: u64,
    /// Begun since the start, refused ones among them.
    pub since_start: u64,
    /// Refused.
    pub refused: u64,
}

/// Pairs of ports.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct RtpPorts {
    /// All.
    pub pairs: u64,
    /// Of calls.
    pub in_use: u64,
    /// Of calls that ended a moment ago.
    pub resting: u64,
}

/// What a peer is here.
#[derive(Copy, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A Lync or Skype for Business pool.
    Pool,
    /// Another UM IP gateway.
    IpGateway,
    /// Redirects.
    CallRouter,
    /// Takes the calls.
    MailboxServer,
    /// Takes the calls of hosted users.
    Hosted,
}

/// Whether new calls go there, or come from there.
#[derive(Copy, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerState {
    /// They do.
    Up,
    /// It failed a call and is left out for a while.
    Resting,
    /// It fails probes and is left out until it does not.
    Down,
    /// It has as many calls as it may.
    Full,
    /// Configured so.
    NoNewCalls,
    /// Configured so.
    Disabled,
}

/// A peer of the configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PeerStatus {
    /// What it is.
    pub role: Role,
    /// Its configured name.
    pub name: String,
    /// Whether it gets new calls.
    pub state: PeerState,
    /// Seconds that it is still left out, for a failed call.
    pub resting_secs: Option<u64>,
    /// How it answers OPTIONS, by transport; of UM servers that are asked.
    #[serde(default)]
    pub probes: Vec<ProbeStatus>,
    /// Its last changes since the start, oldest first; of UM servers.
    #[serde(default)]
    pub changes: Vec<PeerChange>,
    /// Calls on it, where they are counted.
    pub calls: Option<u64>,
    /// At most.
    pub calls_allowed: Option<u64>,
    /// What stands, like beside like.
    pub connections: Vec<Connections>,
    /// Connections beyond those.
    pub more_connections: u64,
}

impl PeerStatus {
    /// The slowest round trip of its last probes, in words; empty where there is none.
    pub fn ping(&self) -> String {
        let slowest = self.probes.iter().filter_map(|probe| probe.ping_ms).max_by(f64::total_cmp);
        match slowest {
            Some(ms) if ms < 10.0 => format!("{ms:.1} ms"),
            Some(ms) => format!("{ms:.0} ms"),
            None => String::new(),
        }
    }

    /// Why it is left out, where a failure is the reason.
    pub fn trouble(&self) -> Option<&PeerChange> {
        let is_out = matches!(self.state, PeerState::Resting | PeerState::Down);
        let is_failure = |change: &&PeerChange| matches!(change.to, ChangedTo::Resting | ChangedTo::Down);
        self.changes.iter().rev().find(is_failure).filter(|_| is_out)
    }
}

/// How a UM server answers OPTIONS over one transport.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ProbeStatus {
    /// `tcp` or `tls`.
    pub transport: String,
    /// It gets calls over it before those that do not answer.
    pub up: bool,
    /// Milliseconds between the last request and its answer; none when that was in vain, or nobody asked yet.
    pub ping_ms: Option<f64>,
    /// When the last good answer came, RFC 3339.
    pub last_good: Option<String>,
}

/// A change of a UM server.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PeerChange {
    /// When, RFC 3339.
    pub at: String,
    /// To what.
    pub to: ChangedTo,
    /// Why.
    pub why: String,
}

/// What a UM server became.
#[derive(Copy, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangedTo {
    /// It answered after it had failed.
    Up,
    /// It failed a call and is left out for a while.
    Resting,
    /// It fails probes and is left out until it does not.
    Down,
    /// An operator lets it take calls.
    Enabled,
    /// An operator lets it get no new ones.
    Draining,
    /// An operator took it out.
    Disabled,
}

/// Who opened a connection.
#[derive(Copy, Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The far end.
    In,
    /// We.
    Out,
}

/// Connections that are alike.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Connections {
    /// So many.
    pub count: u64,
    /// Who opened them.
    pub direction: Direction,
    /// `tcp`, `tls` or `udp`.
    pub transport: String,
    /// The far end: its address, with the port where we connected to it.
    pub remote: String,
    /// What is spoken.
    pub tls: Option<Spoken>,
    /// Nothing new begins there, and it is closed when its calls are over.
    pub ending: bool,
    /// What the far end proved itself by.
    pub certificate: Option<Presented>,
}

/// What a handshake agreed upon.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Spoken {
    /// `TLS 1.2` and the like.
    pub version: String,
    /// Its name in the registry.
    pub suite: String,
    /// `rustls` or `openssl`.
    pub backend: String,
}

/// A certificate that was shown to us.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Presented {
    /// Its subject.
    pub subject: String,
    /// Its host name.
    pub name: String,
    /// Whole days; negative once it is over.
    pub days_left: i64,
}

/// A certificate of this gateway.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct OwnCertificate {
    /// Its subject.
    pub subject: String,
    /// Where it was read.
    pub file: String,
    /// Who sees it: `listener`, `peers`, names of peers.
    pub used_for: Vec<String>,
    /// When it ends, RFC 3339.
    pub not_after: String,
    /// Whole days; negative once it is over.
    pub days_left: i64,
}

/// What is old and may be spoken at one place.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LegacyAllowed {
    /// `listener`, `peers`, or the name of a peer.
    pub place: String,
    /// `TLS 1.0`, `CBC`, …
    pub what: Vec<String>,
}

/// Something old that was spoken.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LegacyUsed {
    /// With whom.
    pub peer: String,
    /// `TLS 1.0`, `CBC`, …
    pub what: String,
    /// How often since the start.
    pub handshakes: u64,
}

/// A weak certificate that was excepted.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct WeakUsed {
    /// Of whom.
    pub peer: String,
    /// How often since the start.
    pub handshakes: u64,
}

/// Handshakes that failed.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct FailedHandshakes {
    /// Since the start.
    pub count: u64,
    /// The last few, oldest first.
    pub last: Vec<TlsRefusal>,
}
