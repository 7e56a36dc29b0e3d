//! Every counter and gauge under its Prometheus name. Owns the registry; refuses labels that a peer can choose (no
//! call ids, no numbers, no names of strangers).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use b2bua::CallRecord;
use b2bua::engine::{Delivery, EngineStatus, Notification};
use b2bua::policy::ServerRole;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::directory::{DirectoryMetrics, DirectoryStanding, LiveDirectory, Reading};
use super::media::MediaMetrics;

type Labelled<L> = Family<L, Counter>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HandshakeLabels {
    peer: String,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CodeLabel {
    code: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    dial_plan: String,
    ip_gateway: String,
    call_type: &'static str,
    offer_result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct HopLabels {
    from: String,
    to: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PeerLabel {
    peer: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RoleLabels {
    role: &'static str,
    peer: String,
}

impl RoleLabels {
    fn of(role: ServerRole, server: &str) -> Self {
        let role = match role {
            ServerRole::CallRouter => "call_router",
            ServerRole::Mailbox => "mailbox_server",
            ServerRole::Hosted => "hosted",
        };
        Self { role, peer: server.to_owned() }
    }
}

/// Which of our certificates, and who sees it.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CertificateLabels {
    /// What it is called: our FQDN, or its name in the configuration.
    pub name: String,
    /// Its subject.
    pub subject: String,
    /// Where it was read.
    pub file: String,
    /// `listener`, `peers`, names of peers, with commas between.
    pub used_for: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LegacyUse {
    peer: String,
    what: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LegacyPlace {
    place: String,
    what: &'static str,
}

/// What one shard last said.
#[derive(Default)]
struct ShardGauges {
    engine: EngineStatus,
    connections: usize,
    counters: BTreeMap<&'static str, u64>,
}

/// The metrics of one gateway.
pub struct Metrics {
    registry: Mutex<Registry>,
    shards: Mutex<Vec<ShardGauges>>,
    calls_active: Gauge,
    connections: Gauge,
    transactions: Gauge,
    draining: Gauge,
    reload_ok: Gauge,
    reloaded: Mutex<Option<(SystemTime, Up)>>,
    calls_ended: Counter,
    calls: Labelled<CallLabels>,
    rejections: Labelled<CodeLabel>,
    handshakes: Labelled<HandshakeLabels>,
    dropped: Labelled<KindLabel>,
    events: Labelled<KindLabel>,
    redirects: Labelled<HopLabels>,
    failovers: Labelled<PeerLabel>,
    mwi: Labelled<ResultLabel>,
    missed_calls: Labelled<ResultLabel>,
    peer_up: Family<RoleLabels, Gauge>,
    options_rtt: Family<RoleLabels, Histogram, fn() -> Histogram>,
    weak_certificates: Labelled<PeerLabel>,
    weak_peers: Gauge,
    keys_logged: Gauge,
    legacy_allowed: Family<LegacyPlace, Gauge>,
    legacy_handshakes: Labelled<LegacyUse>,
    certificate_end: Family<CertificateLabels, Gauge>,
    unknown_peer: Counter,
    setup: Histogram,
    duration: Histogram,
    media: MediaMetrics,
    directory: DirectoryMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Everything at zero.
    pub fn new() -> Self {
        let metrics = Self {
            registry: Mutex::default(),
            shards: Mutex::default(),
            calls_active: Gauge::default(),
            connections: Gauge::default(),
            transactions: Gauge::default(),
            draining: Gauge::default(),
            reload_ok: Gauge::default(),
            reloaded: Mutex::default(),
            calls_ended: Counter::default(),
            calls: Family::default(),
            rejections: Family::default(),
            handshakes: Family::default(),
            dropped: Family::default(),
            events: Family::default(),
            redirects: Family::default(),
            failovers: Family::default(),
            mwi: Family::default(),
            missed_calls: Family::default(),
            peer_up: Family::default(),
            options_rtt: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.0005, 2.0, 14))
            }),
            weak_certificates: Family::default(),
            weak_peers: Gauge::default(),
            keys_logged: Gauge::default(),
            legacy_allowed: Family::default(),
            legacy_handshakes: Family::default(),
            certificate_end: Family::default(),
            unknown_peer: Counter::default(),
            setup: Histogram::new(exponential_buckets(0.002, 2.0, 14)),
            duration: Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            media: MediaMetrics::new(),
            directory: DirectoryMetrics::default(),
        };
        metrics.reload_ok.set(1);
        metrics.register();
        metrics
    }

    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("umbra_build", "Version of this program", build);
        let mut gauge = |name: &str, help: &str, gauge: &Gauge| registry.register(name, help, gauge.clone());
        gauge("umbra_calls_active", "Calls in the engine's table", &self.calls_active);
        gauge("umbra_connections", "Open SIP connections", &self.connections);
        gauge("umbra_sip_transactions", "SIP transactions held", &self.transactions);
        gauge("umbra_draining", "1 while no new calls are taken", &self.draining);
        gauge("umbra_config_last_reload_successful", "0 after a refused reload", &self.reload_ok);
        gauge("umbra_tls_weak_peers", "Names that may come with SHA-1 and short keys", &self.weak_peers);
        gauge("umbra_tls_keys_logged", "1 while TLS secrets are written to a file", &self.keys_logged);
        let help = "Handshakes with a weak certificate that is excepted";
        registry.register("umbra_tls_weak_certificates", help, self.weak_certificates.clone());
        let help = "1 for everything old that is allowed in TLS, by place";
        registry.register("umbra_tls_legacy_allowed", help, self.legacy_allowed.clone());
        let help = "Handshakes that agreed on something old, by what it is";
        registry.register("umbra_tls_legacy_handshakes", help, self.legacy_handshakes.clone());
        let help = "When a certificate of this gateway ends, since 1970";
        let name = "umbra_certificate_expiry_timestamp";
        registry.register_with_unit(name, help, Unit::Seconds, self.certificate_end.clone());
        registry.register("umbra_calls", "Calls that ended", self.calls.clone());
        registry.register("umbra_call_rejections", "Refused calls by code", self.rejections.clone());
        registry.register("umbra_tls_handshakes", "TLS handshakes by result", self.handshakes.clone());
        registry.register("umbra_dropped_messages", "Input dropped, by kind", self.dropped.clone());
        registry.register("umbra_events", "Facts counted by the engine", self.events.clone());
        registry.register("umbra_redirects", "Redirects followed", self.redirects.clone());
        registry.register("umbra_failovers", "Attempts that failed, by server", self.failovers.clone());
        let help = "Message-waiting notifications of UM, by result";
        registry.register("umbra_mwi_notifications", help, self.mwi.clone());
        let help = "Missed calls that were recorded and missed-call notifications that passed, by result";
        registry.register("umbra_missed_call_notifications", help, self.missed_calls.clone());
        let help = "1 while neither failed calls nor probes keep new calls from a server";
        registry.register("umbra_peer_up", help, self.peer_up.clone());
        let help = "From OPTIONS to its answer, by server";
        registry.register_with_unit("umbra_peer_options_rtt", help, Unit::Seconds, self.options_rtt.clone());
        let help = "Requests and datagrams from addresses or names that are no peer";
        registry.register("umbra_unknown_peer_requests", help, self.unknown_peer.clone());
        let help = "From INVITE to the 2xx on the caller's leg";
        registry.register_with_unit("umbra_call_setup", help, Unit::Seconds, self.setup.clone());
        let help = "From the 2xx to the end";
        registry.register_with_unit("umbra_call_duration", help, Unit::Seconds, self.duration.clone());
        self.media.register(&mut registry);
        self.directory.register(&mut registry);
    }

    /// How the live directory stands, and what it was read for last; `None` where none is configured.
    pub fn directory_stands(&self, standing: Option<DirectoryStanding>, reading: Option<Reading>) {
        self.directory.stands(standing);
        if let Some(reading) = reading {
            self.directory.read(reading);
        }
    }

    /// How the live directory stands.
    pub fn directory(&self) -> Option<LiveDirectory> {
        self.directory.status(SystemTime::now())
    }

    /// A TLS handshake ended. `peer` is a configured name; a stranger's is empty and counts as `unknown`.
    pub fn handshake(&self, peer: &str, result: &'static str) {
        let peer = if peer.is_empty() { "unknown" } else { peer };
        self.handshakes.get_or_create(&HandshakeLabels { peer: peer.to_owned(), result }).inc();
    }

    /// A peer was accepted whose certificate is weak.
    pub fn weak_certificate(&self, peer: &str) {
        self.weak_certificates.get_or_create(&PeerLabel { peer: peer.to_owned() }).inc();
    }

    /// So many names may come with weak certificates.
    pub fn weak_peers(&self, count: usize) {
        self.weak_peers.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Whether TLS secrets are written to a file.
    pub fn keys_logged(&self, up: Up) {
        self.keys_logged.set(i64::from(up == Up::Yes));
    }

    /// A handshake agreed on something old.
    pub fn legacy_handshake(&self, peer: &str, what: &'static str) {
        self.legacy_handshakes.get_or_create(&LegacyUse { peer: peer.to_owned(), what }).inc();
    }

    /// Everything old that is allowed, place by place; what was allowed before is forgotten.
    pub fn legacy_allowed<'a>(&self, allowed: impl Iterator<Item = (&'a str, &'static str)>) {
        self.legacy_allowed.clear();
        for (place, what) in allowed {
            self.legacy_allowed.get_or_create(&LegacyPlace { place: place.to_owned(), what }).set(1);
        }
    }

    /// When our certificates end, in seconds since 1970; those that were there before are forgotten.
    pub fn certificates_end(&self, ends: impl Iterator<Item = (CertificateLabels, u64)>) {
        self.certificate_end.clear();
        for (labels, secs) in ends {
            self.certificate_end.get_or_create(&labels).set(i64::try_from(secs).unwrap_or(i64::MAX));
        }
    }

    /// Input was dropped.
    pub fn dropped(&self, kind: &'static str) {
        self.dropped.get_or_create(&KindLabel { kind }).inc();
    }

    /// Input was dropped, so many times.
    pub fn dropped_some(&self, kind: &'static str, count: u64) {
        if count > 0 {
            self.dropped.get_or_create(&KindLabel { kind }).inc_by(count);
        }
    }

    /// The engine counted something.
    pub fn event(&self, kind: &'static str) {
        self.events.get_or_create(&KindLabel { kind }).inc();
    }

    /// A stranger knocked.
    pub fn unknown_peer(&self) {
        self.unknown_peer.inc();
    }

    /// A call ended.
    pub fn call_ended(&self, record: &CallRecord, rejected: Option<&'static str>) {
        let labels = CallLabels {
            dial_plan: record.dial_plan.clone().unwrap_or_default(),
            ip_gateway: record.ip_gateway.clone().unwrap_or_default(),
            call_type: record.call_type.as_str(),
            offer_result: record.offer_result.as_str(),
        };
        self.calls_ended.inc();
        self.calls.get_or_create(&labels).inc();
        if let Some(code) = rejected {
            self.rejections.get_or_create(&CodeLabel { code }).inc();
        }
        if let Some(setup) = record.setup {
            self.setup.observe(setup.as_secs_f64());
            self.duration.observe(record.duration.as_secs_f64());
        }
        if let Some(media) = &record.media {
            self.media.observe(media);
        }
    }

    /// A call was refused without a record.
    pub fn refused(&self, code: &'static str) {
        self.rejections.get_or_create(&CodeLabel { code }).inc();
    }

    /// A redirect was followed. Both ends are servers of the dial plan; the port is the redirecting server's
    /// choice, so it makes no label.
    pub fn redirected(&self, from: &str, to: &str) {
        let name = |place: &str| place.rsplit_once(':').map_or(place, |(name, _)| name).to_owned();
        self.redirects.get_or_create(&HopLabels { from: name(from), to: name(to) }).inc();
    }

    /// A notification came to its end.
    pub fn notified(&self, notification: Notification, delivery: Delivery) {
        let family = match notification {
            Notification::MessageWaiting => &self.mwi,
            Notification::MissedCall => &self.missed_calls,
        };
        family.get_or_create(&ResultLabel { result: delivery.as_str() }).inc();
    }

    /// A server failed a call.
    pub fn failed_over(&self, server: &str) {
        self.failovers.get_or_create(&PeerLabel { peer: server.to_owned() }).inc();
    }

    /// A server is chosen again, or left out.
    pub fn peer_is_up(&self, role: ServerRole, server: &str, up: Up) {
        self.peer_up.get_or_create(&RoleLabels::of(role, server)).set(up as i64);
    }

    /// A server answered OPTIONS.
    pub fn options_answered(&self, role: ServerRole, server: &str, round_trip: Duration) {
        self.options_rtt.get_or_create(&RoleLabels::of(role, server)).observe(round_trip.as_secs_f64());
    }

    /// A server left the configuration.
    pub fn peer_left(&self, role: ServerRole, server: &str) {
        let labels = RoleLabels::of(role, server);
        self.peer_up.remove(&labels);
        self.options_rtt.remove(&labels);
    }

    /// How one shard stands; gauges and counters show all of them together.
    pub fn shard(&self, number: usize, status: &EngineStatus, connections: usize) {
        let mut shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        if shards.len() <= number {
            shards.resize_with(number + 1, ShardGauges::default);
        }
        if let Some(shard) = shards.get_mut(number) {
            shard.engine = status.clone();
            shard.connections = connections;
            for (kind, count) in status.counters.iter().copied() {
                // The engine's own totals; no other code counts these kinds.
                let before = shard.counters.insert(kind, count).unwrap_or_default();
                if count > before {
                    self.events.get_or_create(&KindLabel { kind }).inc_by(count - before);
                }
            }
        }
        let sum = |of: fn(&ShardGauges) -> usize| {
            i64::try_from(shards.iter().map(of).sum::<usize>()).unwrap_or(i64::MAX)
        };
        self.calls_active.set(sum(|shard| shard.engine.calls));
        self.connections.set(sum(|shard| shard.connections));
        self.transactions.set(sum(|shard| shard.engine.transactions.0 + shard.engine.transactions.1));
        self.draining.set(i64::from(shards.iter().any(|shard| shard.engine.draining)));
    }

    /// A reload was taken (or refused).
    pub fn reloaded(&self, result: Up) {
        self.reload_ok.set(result as i64);
        *self.reloaded.lock().unwrap_or_else(PoisonError::into_inner) = Some((SystemTime::now(), result));
    }

    // --- read back, for `/status` ------------------------------------------------------------------------------

    /// How the engine of that shard stood when it last said so; a few times a second it does.
    pub fn engine(&self, shard: usize) -> EngineStatus {
        let shards = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        shards.get(shard).map_or_else(EngineStatus::default, |shard| shard.engine.clone())
    }

    /// Calls that ended, refused ones among them.
    pub fn calls_ended(&self) -> u64 {
        self.calls_ended.get()
    }

    /// When the last reload was, and whether it was taken.
    pub fn last_reload(&self) -> Option<(SystemTime, Up)> {
        *self.reloaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Handshakes of a peer that agreed on this old thing.
    pub fn legacy_handshakes_of(&self, peer: &str, what: &'static str) -> u64 {
        let labels = LegacyUse { peer: peer.to_owned(), what };
        self.legacy_handshakes.get(&labels).map_or(0, |counter| counter.get())
    }

    /// Handshakes of a peer whose weak certificate was excepted.
    pub fn weak_certificates_of(&self, peer: &str) -> u64 {
        let labels = PeerLabel { peer: peer.to_owned() };
        self.weak_certificates.get(&labels).map_or(0, |counter| counter.get())
    }

    /// The whole exposition in text form.
    pub fn expose(&self) -> String {
        self.directory.measure(SystemTime::now());
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a string fails only when a metric cannot print itself; the rest is still of use.
        let _partial = encode(&mut text, &registry);
        text
    }
}

/// A yes or no that becomes 1 or 0.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Up {
    /// 0
    No = 0,
    /// 1
    Yes = 1,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_are_counted_by_reason_under_the_published_name() {
        let metrics = Metrics::new();
        metrics.handshake("", "no_certificate");
        metrics.handshake("", "no_certificate");
        metrics.handshake("pool01.contoso.test", "ok");
        let text = metrics.expose();
        assert!(
            text.contains(r#"umbra_tls_handshakes_total{peer="unknown",result="no_certificate"} 2"#),
            "{text}"
        );
        assert!(text.contains(r#"umbra_tls_handshakes_total{peer="pool01.contoso.test",result="ok"} 1"#));
    }

    #[test]
    fn notifications_are_counted_by_result_under_the_published_names() {
        let metrics = Metrics::new();
        metrics.notified(Notification::MessageWaiting, Delivery::Delivered);
        metrics.notified(Notification::MissedCall, Delivery::Unavailable);
        let text = metrics.expose();
        assert!(text.contains("umbra_mwi_notifications_total{result=\"delivered\"} 1"), "{text}");
        assert!(text.contains("umbra_missed_call_notifications_total{result=\"unavailable\"} 1"), "{text}");
    }

    #[test]
    fn published_names_are_there_from_the_start() {
        let text = Metrics::new().expose();
        for name in [
            "umbra_calls_active",
            "umbra_unknown_peer_requests_total",
            "umbra_draining",
            "umbra_config_last_reload_successful",
            "umbra_call_setup_seconds",
            "umbra_build_info",
        ] {
            assert!(text.contains(name), "{name} missing in\n{text}");
        }
    }

    #[test]
    fn what_the_engine_counted_is_exposed_as_its_total() {
        let metrics = Metrics::new();
        let counted = |count| EngineStatus {
            counters: vec![("quirk_diversion_quoting", count)],
            ..EngineStatus::default()
        };
        metrics.shard(0, &counted(2), 0);
        metrics.shard(0, &counted(3), 0);
        metrics.shard(1, &counted(2), 0);
        let text = metrics.expose();
        assert!(text.contains("umbra_events_total{kind=\"quirk_diversion_quoting\"} 5"), "{text}");
    }

    #[test]
    fn ports_that_a_redirecting_server_chooses_make_no_series() {
        let metrics = Metrics::new();
        for port in 5066..5070 {
            metrics.redirected("cas01.contoso.test:5061 (tls)", &format!("mbx01.contoso.test:{port} (tls)"));
        }
        let text = metrics.expose();
        assert!(
            text.contains(r#"umbra_redirects_total{from="cas01.contoso.test",to="mbx01.contoso.test"} 4"#),
            "{text}"
        );
    }
}
