//! The sections that describe this process: `[gateway]`, `[listen]`, `[tls]`, `[media]`, `[admin]`, `[observe]`,
//! `[routing]`, `[headers]`, `[health]`, `[session]`, and those whose use belongs to other parts. One function per section.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use b2bua::codes;
use b2bua::policy::{
    Allowed, CallerNames, Gateway, HeaderRules, HealthRules, IcePolicy, MediaAddresses, MediaMode,
    OutOfDialog, OutOfDialogRules, QUEUE_WAIT_MAX, RoutingRules, RtcpMode, Selection, SessionRules,
    SrtpRules, UnknownHeaders, UnknownPeer,
};
use serde_json::Value;
use sip::HeaderId;

use super::reader::Reader;
use super::spoken::Choice;
use super::{Admin, Listen, LogFormat, Lync, Media, Observe, StartupMode, Switch, Tls, keep, words};
use crate::media::{Dscp, WORKERS_MAX};
use crate::net::{Dns, NetLimits, SHARDS_MAX};
use crate::tls::{CrlPolicy, NamedFiles, Spoken, TlsFiles};

const CALLS_MAX: u64 = 100_000;
/// Each costs a descriptor and some memory: more than one host carries.
const CONNECTIONS_MAX: u64 = 1_000_000;
const DNS_PORT: u16 = 53;
const DEFAULT_RTP_PORTS: (u16, u16) = (20_000, 20_599);
/// Encodings that UM and Lync have in common, in order of preference.
const DEFAULT_CODECS: [&str; 2] = ["PCMU", "PCMA"];

/// `[gateway]` before the other sections are known.
pub(super) struct GatewaySection {
    pub(super) fqdn: String,
    pub(super) state_dir: PathBuf,
    sip_domain: String,
    max_calls_allowed: usize,
    calls_per_second_max: Option<u32>,
    queue_wait_max: Duration,
}

/// `[media]` with what the engine wants to know of it.
pub(super) struct MediaSection {
    pub(super) media: Media,
    codecs: Vec<String>,
    mode: MediaMode,
    srtp: SrtpRules,
    rtcp: RtcpMode,
    ice: IcePolicy,
    announced: MediaAddresses,
}

/// `[routing]`, `[headers]`, `[health]`, `[session]`.
pub(super) struct Rules {
    pub(super) routing: RoutingRules,
    pub(super) headers: HeaderRules,
    pub(super) health: HealthRules,
    pub(super) session: SessionRules,
}

pub(super) fn gateway(root: &Reader<'_>, base: &Path) -> GatewaySection {
    let section = root.table("gateway");
    let fqdn = fqdn(&section, "fqdn");
    let domain = fqdn.split_once('.').map_or("", |(_, domain)| domain).to_owned();
    let read = GatewaySection {
        sip_domain: section.text("sip_domain").unwrap_or(domain),
        state_dir: section.file("state_dir", base).unwrap_or_else(|| base.join("state")),
        max_calls_allowed: count(section.whole("max_calls_allowed", 1..=CALLS_MAX), 100),
        calls_per_second_max: section
            .whole("calls_per_second_max", 1..=CALLS_MAX)
            .and_then(|rate| u32::try_from(rate).ok()),
        queue_wait_max: section
            .duration("queue_wait_max", Duration::from_millis(10)..=Duration::from_secs(10))
            .unwrap_or(QUEUE_WAIT_MAX),
        fqdn,
    };
    section.finish();
    read
}

/// A required DNS name in lower case; empty after a finding.
pub(super) fn fqdn(section: &Reader<'_>, key: &'static str) -> String {
    let name = section.need_text(key).to_ascii_lowercase();
    if !name.is_empty() && !words::is_fqdn(&name) {
        section.error(codes::CFG_NOT_FQDN, key, format!("`{name}` is no fully qualified name"));
    }
    name
}

pub(super) fn count(number: Option<u64>, default: usize) -> usize {
    number.and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
}

pub(super) fn listen(root: &Reader<'_>, has_tls: bool) -> Listen {
    let section = root.table("listen");
    let words = [("TCP", StartupMode::Tcp), ("TLS", StartupMode::Tls), ("Dual", StartupMode::Dual)];
    let default = if has_tls { StartupMode::Dual } else { StartupMode::Tcp };
    let startup_mode = section.word("startup_mode", &words).unwrap_or(default);
    if startup_mode != StartupMode::Tcp && !has_tls {
        section.error(
            codes::CFG_NO_LISTENER,
            "startup_mode",
            format!("{startup_mode:?} needs a [tls] section"),
        );
    }
    let tcp = section.port("tcp_port").unwrap_or(5060);
    let tls = section.port("tls_port").unwrap_or(5061);
    let addresses = section.addresses("addresses").filter(|list| !list.is_empty());
    let addresses = addresses.unwrap_or_else(|| vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)]);
    let default_limits = NetLimits::default();
    let deadline = |key, default| {
        section.duration(key, Duration::from_millis(100)..=Duration::from_secs(600)).unwrap_or(default)
    };
    let rooms = rooms(&section, &default_limits);
    let unknown = [("drop", UnknownPeer::Drop), ("reject", UnknownPeer::Reject)];
    let listen = Listen {
        startup_mode,
        advertised: advertised(&section, &addresses),
        addresses,
        tcp_port: (startup_mode != StartupMode::Tls).then_some(tcp),
        tls_port: (startup_mode != StartupMode::Tcp).then_some(tls),
        udp_port: section.port("udp_port"),
        tls: Choice::of_inline(&section),
        certificate: section.text("certificate"),
        unknown_peer: section.word("unknown_peer", &unknown).unwrap_or(UnknownPeer::Drop),
        handshake_timeout: deadline("handshake_timeout", default_limits.handshake_timeout),
        header_timeout: deadline("header_timeout", default_limits.header_timeout),
        body_timeout: deadline("body_timeout", default_limits.body_timeout),
        connections_max: rooms.connections_max,
        connections_of_address_max: rooms.connections_of_address_max,
        handshakes_max: rooms.handshakes_max,
    };
    section.finish();
    listen
}

/// How many may come. A part that is not set is the same share of the whole as it is by default; one that is set larger than the
/// whole is a slip.
fn rooms(section: &Reader<'_>, default: &NetLimits) -> NetLimits {
    let connections_max =
        count(section.whole("connections_max", 1..=CONNECTIONS_MAX), default.connections_max);
    let part = |key, usual: usize| match section.whole(key, 1..=CONNECTIONS_MAX) {
        None => (connections_max.saturating_mul(usual) / default.connections_max).max(1),
        Some(number) => {
            let number = count(Some(number), usual);
            if number > connections_max {
                let what = format!(
                    "{number} is more than `connections_max`, {connections_max}: it is never reached"
                );
                section.error(codes::CFG_RANGE, key, what);
            }
            number
        }
    };
    NetLimits {
        connections_max,
        connections_of_address_max: part("connections_of_address_max", default.connections_of_address_max),
        handshakes_max: part("handshakes_max", default.handshakes_max),
        ..default.clone()
    }
}

/// `[engine] shards`: a number, or `auto` for one to each core.
pub(super) fn shards(root: &Reader<'_>) -> u16 {
    let section = root.table("engine");
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(SHARDS_MAX);
    let count = match section.text_or_whole("shards", 1..=SHARDS_MAX as u64) {
        None => 1,
        Some(Ok(count)) => count,
        Some(Err(word)) if word.eq_ignore_ascii_case("auto") => cores as u64,
        Some(Err(word)) => {
            section.error(codes::CFG_VALUE, "shards", format!("`{word}` is neither a number nor \"auto\""));
            1
        }
    };
    section.finish();
    u16::try_from(count).unwrap_or(1)
}

/// The address that goes into Via, Contact and SDP. `auto`: the listening address, or the one this host would use to
/// reach other networks.
fn advertised(section: &Reader<'_>, addresses: &[IpAddr]) -> IpAddr {
    let text = section.text("advertised").unwrap_or_else(|| "auto".to_owned());
    if text.eq_ignore_ascii_case("auto") {
        let specific = addresses.iter().find(|address| !address.is_unspecified()).copied();
        return specific.unwrap_or_else(outward_address);
    }
    match text.parse::<IpAddr>() {
        Ok(address) if !address.is_unspecified() => address,
        _ => {
            section.error(
                codes::CFG_VALUE,
                "advertised",
                format!("`{text}` is neither `auto` nor a usable address"),
            );
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        }
    }
}

/// Connecting a datagram socket sends nothing; it only makes the kernel choose a source address.
fn outward_address() -> IpAddr {
    let chosen = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    chosen.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

pub(super) fn tls(root: &Reader<'_>, base: &Path) -> Option<Tls> {
    let section = root.table("tls");
    if !section.is_present() {
        return None;
    }
    let file = |key| {
        section.need_text(key);
        section.file(key, base).unwrap_or_default()
    };
    let (certificate, private_key) = (file("certificate"), file("private_key"));
    let roots = section.need_list("trusted_roots");
    let crls = section.list("crls").unwrap_or_default();
    let policies = [("require", CrlPolicy::Require), ("prefer", CrlPolicy::Prefer)];
    let crl_policy = section.word("crl_policy", &policies).unwrap_or_default();
    section.word("client_certificate", &[("require", ())]);
    section.accept(&Choice::KEYS);
    section.finish();
    let joined = |paths: Vec<String>| paths.iter().map(|path| base.join(path)).collect();
    let files = TlsFiles {
        certificate,
        private_key,
        trusted_roots: joined(roots),
        crls: joined(crls),
        crl_policy,
        more: certificates(root, base),
        listener: None,
    };
    Some(Tls { files, spoken: Spoken::default(), not_after: None, weak_peers: Vec::new() })
}

/// `[[certificate]]`: further certificates, named where they are presented.
fn certificates(root: &Reader<'_>, base: &Path) -> Vec<NamedFiles> {
    let read = |section: &Reader<'_>| {
        let file = |key| {
            section.need_text(key);
            section.file(key, base).unwrap_or_default()
        };
        let (certificate, private_key) = (file("certificate"), file("private_key"));
        let name = section.need_text("name");
        section.finish();
        NamedFiles { name, certificate, private_key, targets: Vec::new() }
    };
    root.tables("certificate").iter().map(read).collect()
}

pub(super) fn media(root: &Reader<'_>, listen: &Listen, base: &Path) -> MediaSection {
    let section = root.table("media");
    let text = section.text("rtp_ports");
    let ports = text.as_deref().map_or(Some(DEFAULT_RTP_PORTS), words::port_range);
    if ports.is_none() {
        section.error(codes::CFG_VALUE, "rtp_ports", "must be two ports, e.g. \"20000-20599\"");
    }
    let (rtp_first, rtp_last) = ports.unwrap_or(DEFAULT_RTP_PORTS);
    let codecs = section.list("codecs").unwrap_or_else(|| DEFAULT_CODECS.map(str::to_owned).to_vec());
    if codecs.is_empty() || !codecs.iter().all(|name| words::is_token(name)) {
        section.error(
            codes::CFG_VALUE,
            "codecs",
            "must name at least one encoding, e.g. [\"PCMU\", \"PCMA\"]",
        );
    }
    section.word("srtp", &[("follow_dial_plan", ())]);
    let srtp = srtp(&section);
    let mode =
        section.word("mode", &[("anchored", MediaMode::Anchored), ("unanchored", MediaMode::Unanchored)]);
    if mode == Some(MediaMode::Unanchored) {
        let what = "media does not pass this gateway: nothing checks, re-keys or counts it; for benches only";
        section.warn(codes::CFG_UNANCHORED, "mode", what);
    }
    let rtcp = section.word("rtcp", &[("generate", RtcpMode::Generate), ("relay", RtcpMode::Relay)]);
    let ice = section.word("ice", &[("answer", IcePolicy::Answer), ("off", IcePolicy::Off)]);
    let (addresses, announced) = media_addresses(&section, listen);
    let seconds = |secs| Duration::from_secs(secs);
    let inactivity = section.duration("inactivity_timeout", seconds(1)..=seconds(24 * 3600));
    let media = Media {
        rtp_first,
        rtp_last,
        threads: section
            .whole("threads", 1..=WORKERS_MAX as u64)
            .and_then(|count| usize::try_from(count).ok()),
        inactivity_timeout: inactivity.unwrap_or(seconds(60)),
        addresses,
        dscp: dscp(&section),
        recordings: keep::recordings(&section.table("recording"), base),
    };
    section.finish();
    MediaSection {
        media,
        codecs,
        mode: mode.unwrap_or(MediaMode::Anchored),
        srtp,
        rtcp: rtcp.unwrap_or_default(),
        ice: ice.unwrap_or_default(),
        announced,
    }
}

/// What media ports are bound to, the family of `advertised` first, and what descriptions name.
fn media_addresses(section: &Reader<'_>, listen: &Listen) -> (Vec<IpAddr>, MediaAddresses) {
    let stated = |key| {
        let list = section.addresses(key).unwrap_or_default();
        let one_each = MediaAddresses::of(list.iter().copied());
        if one_each.all().count() < list.len() || list.iter().any(IpAddr::is_unspecified) {
            section.error(codes::CFG_VALUE, key, "must be one address, or one of IPv4 and one of IPv6");
        }
        one_each
    };
    let (own, outside) = (stated("address"), stated("advertised"));
    // A listener on `::` takes IPv4 too; media has sockets of each family.
    let both = listen.addresses.contains(&IpAddr::V6(Ipv6Addr::UNSPECIFIED));
    let any = both.then_some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let bound = MediaAddresses::of(own.all().chain(listen.addresses.iter().copied()).chain(any));
    let specific = bound.all().filter(|address| !address.is_unspecified());
    let announced = outside.all().chain(own.all()).chain([listen.advertised]).chain(specific);
    let announced = announced.filter(|address| bound.like(*address).is_some());
    let mut addresses: Vec<IpAddr> = bound.all().collect();
    addresses.sort_by_key(|address| address.is_ipv4() != listen.advertised.is_ipv4());
    (addresses, MediaAddresses::of(announced))
}

/// By name or number; expedited forwarding unless it says otherwise.
fn dscp(section: &Reader<'_>) -> Dscp {
    let value = match section.text_or_whole("dscp", 0..=63) {
        None => return Dscp::EF,
        Some(Ok(number)) => u8::try_from(number).ok().and_then(Dscp::new),
        Some(Err(name)) => Dscp::from_name(&name),
    };
    if value.is_none() {
        section.error(
            codes::CFG_VALUE,
            "dscp",
            "must be a name like \"EF\", \"AF41\" or \"CS5\", or a number from 0 to 63",
        );
    }
    value.unwrap_or(Dscp::EF)
}

/// Suites by their registered names, and who computes.
fn srtp(section: &Reader<'_>) -> SrtpRules {
    let default = SrtpRules::default();
    let suites = section.list("srtp_suites").map(|names| {
        let known: Vec<_> = names.iter().filter_map(|name| sdp::Suite::from_name(name)).collect();
        if known.is_empty() || known.len() < names.len() {
            let all = sdp::Suite::ALL.map(sdp::Suite::name).join(", ");
            section.error(
                codes::CFG_VALUE,
                "srtp_suites",
                format!("must name at least one of {all}, and nothing else"),
            );
        }
        known
    });
    let providers = [("in_place", relay::Provider::InPlace), ("webrtc-srtp", relay::Provider::WebrtcSrtp)];
    SrtpRules {
        suites: suites.unwrap_or(default.suites),
        provider: section.word("srtp_provider", &providers).unwrap_or(default.provider),
    }
}

/// `[dns]`; without it the system's name servers are asked.
pub(super) fn dns(root: &Reader<'_>) -> Dns {
    let section = root.table("dns");
    let default = Dns::default();
    let server = |text: &String| {
        let plain = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, DNS_PORT));
        let server = plain.or_else(|_| text.parse::<SocketAddr>()).ok();
        if server.is_none() {
            let what =
                format!("`{text}` is no address, nor one with a port, e.g. 192.0.2.53 or 192.0.2.53:5353");
            section.error(codes::CFG_VALUE, "servers", what);
        }
        server
    };
    let dns = Dns {
        servers: section.list("servers").unwrap_or_default().iter().filter_map(server).collect(),
        timeout: section
            .duration("timeout", Duration::from_millis(50)..=Duration::from_secs(10))
            .unwrap_or(default.timeout),
    };
    section.finish();
    dns
}

/// `[lync]`: for `umbra doctor` only.
pub(super) fn lync(root: &Reader<'_>, base: &Path) -> Lync {
    let section = root.table("lync");
    let lync = Lync {
        autodiscover: section.list("autodiscover").unwrap_or_default(),
        location_profiles: section.list("location_profiles"),
        oauth_certificates: section
            .list("oauth_certificates")
            .unwrap_or_default()
            .iter()
            .map(|path| base.join(path))
            .collect(),
    };
    section.finish();
    lync
}

pub(super) fn admin(root: &Reader<'_>, base: &Path) -> Admin {
    let section = root.table("admin");
    let socket = section.file("socket", base);
    let token_file = section.file("token_file", base);
    if token_file.is_some() {
        let what = "the token is not asked for yet: whoever reaches the address reads the metrics";
        section.warn(codes::CFG_NOT_YET, "token_file", what);
    }
    if socket.is_some() {
        section.warn(codes::CFG_NOT_YET, "socket", "nothing listens on the control socket yet");
    }
    let http = section.text("http").filter(|text| !text.is_empty()).and_then(|text| {
        let address = text.parse::<SocketAddr>().ok();
        if address.is_none() {
            section.error(
                codes::CFG_VALUE,
                "http",
                format!("`{text}` is no address with port, e.g. 127.0.0.1:9065"),
            );
        }
        address
    });
    if http.is_some_and(|address| !address.ip().is_loopback()) {
        section.error(
            codes::CFG_ADMIN_TOKEN,
            "http",
            "the address can be reached from outside, and no token is asked for yet",
        );
    }
    section.finish();
    Admin { socket, http, token_file }
}

/// `[observe]`, and the header that carries the A-leg Call-ID.
pub(super) fn observe(root: &Reader<'_>, base: &Path) -> (Observe, Option<String>) {
    let section = root.table("observe");
    let log = section.table("log");
    let formats = [("auto", LogFormat::Auto), ("pretty", LogFormat::Pretty), ("json", LogFormat::Json)];
    let log_level = log.text("level").unwrap_or_else(|| "info".to_owned());
    let log_format = log.word("format", &formats).unwrap_or(LogFormat::Auto);
    log.finish();
    let (cdr_dir, cdr_jsonl, cdr_um_csv) = cdr(&section.table("cdr"), base);
    let captures = keep::captures(&section.table("capture"), base);
    for (name, keys) in [("hep", ["to", "capture_id"]), ("otlp", ["endpoint", "sample_ratio"])] {
        let table = section.table(name);
        if table.is_present() {
            section.warn(codes::CFG_NOT_YET, name, format!("`{name}` is not part of this version yet"));
        }
        accept_table(&table, &keys);
    }
    let header = section.text("correlation_header").unwrap_or_else(|| "X-Call-ID".to_owned());
    if !header.is_empty() && !words::is_token(&header) {
        section.error(codes::CFG_VALUE, "correlation_header", format!("`{header}` is no header name"));
    }
    section.finish();
    let observe = Observe { log_level, log_format, cdr_dir, cdr_jsonl, cdr_um_csv, captures };
    (observe, Some(header).filter(|header| !header.is_empty()))
}

fn cdr(section: &Reader<'_>, base: &Path) -> (PathBuf, Switch, Switch) {
    let dir = section.file("dir", base).unwrap_or_else(|| base.join("cdr"));
    let formats = section.list("formats").unwrap_or_else(|| vec!["jsonl".to_owned(), "um_csv".to_owned()]);
    if let Some(unknown) = formats.iter().find(|format| !matches!(format.as_str(), "jsonl" | "um_csv")) {
        section.error(
            codes::CFG_VALUE,
            "formats",
            format!("`{unknown}` is no record format; use jsonl, um_csv"),
        );
    }
    section.finish();
    let switch =
        |name: &str| if formats.iter().any(|format| format == name) { Switch::On } else { Switch::Off };
    (dir, switch("jsonl"), switch("um_csv"))
}

fn accept_table(section: &Reader<'_>, keys: &[&'static str]) {
    section.accept(keys);
    section.finish();
}

pub(super) fn rules(root: &Reader<'_>) -> Rules {
    Rules {
        routing: routing(&root.table("routing")),
        headers: headers(&root.table("headers")),
        health: health(&root.table("health")),
        session: session(&root.table("session")),
    }
}

fn routing(section: &Reader<'_>) -> RoutingRules {
    let default = RoutingRules::default();
    let seconds = |secs| Duration::from_secs(secs);
    let redirects = section.table("follow_redirects");
    let words = [
        ("round_robin", Selection::RoundRobin),
        ("least_calls", Selection::LeastCalls),
        ("priority", Selection::Priority),
    ];
    let budget =
        |key, default| section.duration(key, Duration::from_millis(100)..=seconds(60)).unwrap_or(default);
    let rules = RoutingRules {
        redirect_hops_max: count(redirects.whole("hops", 1..=10), default.redirect_hops_max),
        redirect_targets_max: count(redirects.whole("targets", 1..=20), default.redirect_targets_max),
        redirect_total: redirects
            .duration("total", seconds(1)..=seconds(180))
            .unwrap_or(default.redirect_total),
        selection: section.word("selection", &words).unwrap_or(default.selection),
        connect_timeout: budget("connect_timeout", default.connect_timeout),
        tls_timeout: budget("tls_timeout", default.tls_timeout),
        first_answer_timeout: budget("first_answer_timeout", default.first_answer_timeout),
        a_leg_answer_max: budget("a_leg_answer_max", default.a_leg_answer_max),
        out_of_dialog: out_of_dialog(&section.table("out_of_dialog")),
        ..default
    };
    redirects.finish();
    // The lookup order is settled; the key of the documented shape is taken when it repeats documented words.
    check_order(section);
    let rules = retry_on(section, rules);
    section.finish();
    rules
}

fn out_of_dialog(section: &Reader<'_>) -> OutOfDialogRules {
    let default = OutOfDialogRules::default();
    let carried = [("relay", OutOfDialog::Relay), ("refuse", OutOfDialog::Refuse)];
    let answered = [("answer", OutOfDialog::Answer), carried[0], carried[1]];
    let rules = OutOfDialogRules {
        options: section.word("options", &answered).unwrap_or(default.options),
        message: section.word("message", &carried).unwrap_or(default.message),
        service: section.word("service", &carried).unwrap_or(default.service),
        notify: section.word("notify", &carried).unwrap_or(default.notify),
        missed_call: section.word("missed_call", &carried).unwrap_or(default.missed_call),
    };
    section.finish();
    rules
}

fn check_order(section: &Reader<'_>) {
    const WORDS: [&str; 4] = ["hosted_policy", "contact", "hunt_group", "access_number"];
    let unknown =
        section.list("order").unwrap_or_default().into_iter().find(|word| !WORDS.contains(&word.as_str()));
    if let Some(unknown) = unknown {
        section.error(
            codes::CFG_VALUE,
            "order",
            format!("`{unknown}` is no rule; known: {}", WORDS.join(", ")),
        );
    }
}

fn retry_on(section: &Reader<'_>, mut rules: RoutingRules) -> RoutingRules {
    let Some(values) = section.mixed_list("retry_on") else { return rules };
    rules.retry_on.clear();
    (rules.retry_on_connect_failure, rules.retry_on_timeout) = (Allowed::No, Allowed::No);
    for value in values {
        let status = value.as_u64().filter(|status| (400..=699).contains(status));
        match (value, status.and_then(|status| u16::try_from(status).ok())) {
            (_, Some(status)) => rules.retry_on.push(status),
            (Value::String(word), _) if word == "timeout" => rules.retry_on_timeout = Allowed::Yes,
            (Value::String(word), _) if word == "connect" => rules.retry_on_connect_failure = Allowed::Yes,
            (other, _) => {
                let what =
                    format!("{other} is neither a status from 400 to 699 nor \"timeout\" or \"connect\"");
                section.error(codes::CFG_VALUE, "retry_on", what);
            }
        }
    }
    rules
}

fn headers(section: &Reader<'_>) -> HeaderRules {
    let default = HeaderRules::default();
    let words = [("pass", UnknownHeaders::Pass), ("drop", UnknownHeaders::Drop)];
    let names = |key: &'static str| {
        let list = section.list(key).unwrap_or_default();
        if let Some(bad) = list.iter().find(|name| !words::is_token(name)) {
            section.error(codes::CFG_VALUE, key, format!("`{bad}` is no header name"));
        }
        list
    };
    let to_um = section.word("unknown", &words).unwrap_or(default.unknown_to_um());
    let from_um = section.word("unknown_from_um", &words).unwrap_or(default.unknown_from_um());
    let pass = names("pass");
    for known in pass.iter().filter(|name| HeaderId::from_name(name.as_bytes()) != HeaderId::Other) {
        let what = format!("`{known}` is ruled by `umbra quirks --headers`: naming it here has no effect");
        section.warn(codes::CFG_VALUE, "pass", what);
    }
    let callers =
        [("off", CallerNames::Off), ("missing", CallerNames::Missing), ("always", CallerNames::Always)];
    let callers = section.word("caller_names", &callers).unwrap_or_default();
    let rules = HeaderRules::new(to_um, from_um, pass, names("stop")).naming_callers(callers);
    section.finish();
    rules
}

fn health(section: &Reader<'_>) -> HealthRules {
    let default = HealthRules::default();
    let off = section.text("options_interval").is_some_and(|text| text == "off");
    let seconds = |secs| Duration::from_secs(secs);
    let interval = match off {
        true => None,
        false => {
            section.duration("options_interval", seconds(1)..=seconds(3600)).or(default.options_interval)
        }
    };
    let count = |key| section.whole(key, 1..=100).and_then(|count| u32::try_from(count).ok());
    let down_after = count("down_after").unwrap_or(default.down_after);
    let up_after = count("up_after").unwrap_or(default.up_after);
    section.finish();
    HealthRules { options_interval: interval, down_after, up_after }
}

fn session(section: &Reader<'_>) -> SessionRules {
    let default = SessionRules::default();
    let off = section.text("expires").is_some_and(|text| text == "off");
    // RFC 4028 §4: less than 90 s is no interval; a day is longer than any call.
    let interval = |key| section.duration(key, Duration::from_secs(90)..=Duration::from_secs(24 * 3600));
    let whole = |time: Duration| u32::try_from(time.as_secs()).ok();
    let min_se_secs = interval("min_se").and_then(whole).unwrap_or(default.min_se_secs);
    let expires_secs = match off {
        true => None,
        false => interval("expires").and_then(whole).or(default.expires_secs),
    };
    if expires_secs.is_some_and(|expires| expires < min_se_secs) {
        section.error(codes::CFG_VALUE, "expires", "must not be shorter than `min_se`");
    }
    let route_set_update = match section.flag("route_set_update") {
        Some(false) => Allowed::No,
        _ => Allowed::Yes,
    };
    section.finish();
    SessionRules { expires_secs, min_se_secs, route_set_update }
}

pub(super) fn compiled_gateway(
    section: &GatewaySection,
    listen: &Listen,
    media: &MediaSection,
    correlation_header: Option<String>,
) -> Gateway {
    Gateway {
        fqdn: section.fqdn.clone(),
        sip_domain: section.sip_domain.clone(),
        addresses: listen.addresses.iter().copied().filter(|address| !address.is_unspecified()).collect(),
        advertised: listen.advertised,
        media_addresses: media.announced,
        tcp_port: listen.tcp_port,
        tls_port: listen.tls_port,
        udp_port: listen.udp_port,
        max_calls_allowed: section.max_calls_allowed,
        calls_per_second_max: section.calls_per_second_max,
        queue_wait_max: section.queue_wait_max,
        unknown_peer: listen.unknown_peer,
        codecs: media.codecs.clone(),
        media_mode: media.mode,
        srtp: media.srtp.clone(),
        rtcp: media.rtcp,
        ice: media.ice,
        media_inactivity: media.media.inactivity_timeout,
        correlation_header,
    }
}
