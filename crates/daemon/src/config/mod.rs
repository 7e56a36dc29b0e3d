//! Configuration is compiled: files and environment are merged, read with every problem collected, checked, and turned
//! into a different type that cannot be wrong. Owns the words of the file; refuses to know who uses the result.

mod certificate;
mod checks;
mod directory;
mod hosted;
mod keep;
pub mod lab_file;
mod lint;
#[cfg(test)]
mod lint_tests;
mod objects;
mod problem;
mod quirks;
mod reader;
mod sections;
mod source;
mod spoken;
#[cfg(test)]
mod tests;
mod um;
mod words;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use b2bua::policy::UnknownPeer;
use b2bua::quirks::QuirkSet;
use b2bua::{Policy, codes};

use crate::directory::{Directory, View};
use crate::keep::{CaptureSettings, RecordingSettings};
use crate::media::Dscp;
use crate::net::Dns;
use crate::tls::{Spoken, TlsFiles};
pub use certificate::condition;
pub use problem::{Place, Problem, Problems, Remark, Severity, render};
use reader::{Findings, Reader};
use source::Source;

/// Where `run` looks without `-c`.
pub const DEFAULT_FILES: [&str; 2] = ["umbra.toml", "/etc/umbra/umbra.toml"];

/// Parts of a directory of which is said that they were left out.
const LEFT_OUT_MAX: usize = 50;

/// A configuration that passed every check.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// What the engine decides with.
    pub policy: Arc<Policy>,
    /// Sockets.
    pub listen: Listen,
    /// Signalling threads.
    pub shards: u16,
    /// Certificate, key, roots; present unless the startup mode is TCP.
    pub tls: Option<Tls>,
    /// RTP.
    pub media: Media,
    /// Name servers.
    pub dns: Dns,
    /// What the gateway was told of Lync's surroundings, for `umbra doctor`.
    pub lync: Lync,
    /// Where objects are read live.
    pub directory: Option<Directory>,
    /// Admin socket and page.
    pub admin: Admin,
    /// Log, records, capture.
    pub observe: Observe,
    /// Quirks that are off for everybody.
    pub quirks_off: QuirkSet,
    /// Folder for what outlives the process.
    pub state_dir: PathBuf,
    /// The file it came from, for reload.
    pub file: PathBuf,
    /// What is worth a look but does not keep the gateway from running.
    pub warnings: Vec<Problem>,
}

/// Which listeners there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartupMode {
    /// Plain only.
    Tcp,
    /// Mutual TLS only.
    Tls,
    /// Both at once.
    Dual,
}

/// SIP sockets.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Which listeners there are; the ports below already follow it.
    pub startup_mode: StartupMode,
    /// Addresses listened on.
    pub addresses: Vec<IpAddr>,
    /// Plain port.
    pub tcp_port: Option<u16>,
    /// Mutual TLS port.
    pub tls_port: Option<u16>,
    /// UDP port (opt-in, load tools).
    pub udp_port: Option<u16>,
    /// What goes into Via, Contact and SDP.
    pub advertised: IpAddr,
    /// What is spoken here, where it differs from `[tls]`.
    pub(crate) tls: spoken::Choice,
    /// The `[[certificate]]` presented here, when it is not that of `[tls]`.
    pub certificate: Option<String>,
    /// What a stranger gets.
    pub unknown_peer: UnknownPeer,
    /// From accept to a finished handshake.
    pub handshake_timeout: Duration,
    /// From the first byte of a message to the end of its header.
    pub header_timeout: Duration,
    /// From the first byte of a message to the end of its body.
    pub body_timeout: Duration,
    /// Inbound connections at once.
    pub connections_max: usize,
    /// Those of one address among them.
    pub connections_of_address_max: usize,
    /// Inbound handshakes at once.
    pub handshakes_max: usize,
}

/// TLS settings.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Certificate, key, roots; absolute or relative to the working folder, never to the file any more.
    pub files: TlsFiles,
    /// Backends, protocol versions and suites.
    pub spoken: Spoken,
    /// When the certificate ends.
    pub not_after: Option<SystemTime>,
    /// Names and addresses that may come with SHA-1 and short keys.
    pub weak_peers: Vec<String>,
}

/// RTP settings.
#[derive(Clone, Debug)]
pub struct Media {
    /// First port, even.
    pub rtp_first: u16,
    /// Last port, inclusive.
    pub rtp_last: u16,
    /// Media threads; `None` = as the machine has cores.
    pub threads: Option<usize>,
    /// Silence on both sides that ends a call.
    pub inactivity_timeout: Duration,
    /// What RTP and RTCP ports are bound to: one address or one of each family.
    pub addresses: Vec<IpAddr>,
    /// What marks media packets.
    pub dscp: Dscp,
    /// Calls that are recorded.
    pub recordings: Option<RecordingSettings>,
}

/// What the gateway was told of Lync's surroundings; calls need none of it.
#[derive(Clone, Debug, Default)]
pub struct Lync {
    /// Autodiscover URIs, `.svc` and `.xml`.
    pub autodiscover: Vec<String>,
    /// Names of the location profiles; `None` = not told.
    pub location_profiles: Option<Vec<String>>,
    /// OAuth certificates, one file for each Front End.
    pub oauth_certificates: Vec<PathBuf>,
}

/// Admin surface.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Unix socket.
    pub socket: Option<PathBuf>,
    /// Page, API and metrics.
    pub http: Option<SocketAddr>,
    /// Bearer token for non-loopback addresses.
    pub token_file: Option<PathBuf>,
}

/// Log, records, capture.
#[derive(Clone, Debug)]
pub struct Observe {
    /// Filter for `tracing-subscriber`.
    pub log_level: String,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Folder of call records.
    pub cdr_dir: PathBuf,
    /// Write `YYYY-MM-DD.jsonl`.
    pub cdr_jsonl: Switch,
    /// Write `um_cdr_YYYY-MM-DD.csv`.
    pub cdr_um_csv: Switch,
    /// Calls that are captured.
    pub captures: Option<CaptureSettings>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Pretty,
    /// For machines.
    Json,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// The first file of [`DEFAULT_FILES`] that exists.
pub fn find_file() -> Option<PathBuf> {
    DEFAULT_FILES.iter().map(PathBuf::from).find(|path| path.is_file())
}

/// Loads a file with the environment of this process on top, and beside it what its directory showed last.
///
/// # Errors
/// Every problem at once, warnings included.
pub fn load(file: &Path) -> Result<Compiled, Problems> {
    let view = kept_view(file)?;
    load_beside(file, view.as_ref())
}

/// The same beside this view of its directory.
///
/// # Errors
/// Every problem at once, warnings included.
pub fn load_beside(file: &Path, view: Option<&View>) -> Result<Compiled, Problems> {
    compile_text(file, &text_of(file)?, view)
}

/// The same for a text that was read before, as [`text_of`] does.
///
/// # Errors
/// Every problem at once, warnings included.
pub fn compile_text(file: &Path, text: &str, view: Option<&View>) -> Result<Compiled, Problems> {
    compile_beside(file, text, std::env::vars_os(), SystemTime::now(), view)
}

/// The directory that a configuration names and the folder for what is kept of it, whatever else is wrong in the file; `None` when
/// it names none, or not as it should.
///
/// # Errors
/// The file cannot be read at all.
pub fn directory_of(file: &Path) -> Result<Option<(Directory, PathBuf)>, Problems> {
    directory_in(file, &text_of(file)?)
}

/// The same for a text that was read before.
///
/// # Errors
/// It is no TOML.
pub fn directory_in(file: &Path, text: &str) -> Result<Option<(Directory, PathBuf)>, Problems> {
    let source = Source::merge(file, text, std::env::vars_os())?;
    let findings = Findings::new(&source);
    let root = Reader::root(source.tree(), &findings);
    let base = file.parent().unwrap_or(Path::new(""));
    let roots = sections::tls(&root, base).map(|tls| tls.files.trusted_roots).unwrap_or_default();
    let directory = directory::section(&root, base, &roots);
    let state_dir = sections::gateway(&root, base).state_dir;
    // Where the section has an error, nobody may be asked, least of all with a password.
    let problems = findings.into_problems();
    let is_wrong = problems.list.iter().any(|problem| {
        problem.severity == Severity::Error && problem.setting.split('.').next() == Some("directory")
    });
    Ok(directory.filter(|_| !is_wrong).map(|directory| (directory, state_dir)))
}

fn kept_view(file: &Path) -> Result<Option<View>, Problems> {
    Ok(directory_of(file)?.and_then(|(directory, state_dir)| View::kept(&directory, &state_dir)))
}

/// The same with another certificate and key in the places of its own.
///
/// # Errors
/// Every problem at once, warnings included.
pub fn load_with_pair(file: &Path, certificate: &Path, key: &Path) -> Result<Compiled, Problems> {
    let text = text_of(file)?;
    let pair = [("UMBRA__TLS__CERTIFICATE", certificate), ("UMBRA__TLS__PRIVATE_KEY", key)];
    let pair = pair.map(|(name, path)| (OsString::from(name), path.as_os_str().to_owned()));
    let is_other = |(name, _): &(OsString, OsString)| pair.iter().all(|(own, _)| own != name);
    let environment: Vec<_> = std::env::vars_os().filter(is_other).chain(pair.clone()).collect();
    compile_beside(file, &text, environment, SystemTime::now(), kept_view(file)?.as_ref())
}

/// Where a configuration keeps certificate and key, whether or not they are there; `None` when it does not say.
///
/// # Errors
/// The file cannot be read at all.
pub fn pair_of(file: &Path) -> Result<Option<TlsFiles>, Problems> {
    let source = Source::merge(file, &text_of(file)?, std::env::vars_os())?;
    let findings = Findings::new(&source);
    let root = Reader::root(source.tree(), &findings);
    let base = file.parent().unwrap_or(Path::new(""));
    let files = sections::tls(&root, base).map(|tls| tls.files);
    let is_named = |path: &Path| path.file_name().is_some() && path != base;
    Ok(files.filter(|files| is_named(&files.certificate) && is_named(&files.private_key)))
}

/// A configuration as its file and the environment write it, for those who compare words. Whether it can be used is [`load`]'s to say.
///
/// # Errors
/// The file cannot be read at all.
pub fn tree(file: &Path) -> Result<serde_json::Value, Problems> {
    Ok(Source::merge(file, &text_of(file)?, std::env::vars_os())?.tree().clone())
}

/// The same with what its directory showed last.
///
/// # Errors
/// The file cannot be read at all, or the view is broken.
pub fn whole_tree(file: &Path) -> Result<serde_json::Value, Problems> {
    let mut source = Source::merge(file, &text_of(file)?, std::env::vars_os())?;
    if let Some(view) = kept_view(file)? {
        source.extend(&view)?;
    }
    Ok(source.tree().clone())
}

/// What stands in a configuration file.
///
/// # Errors
/// It cannot be read.
pub fn text_of(file: &Path) -> Result<String, Problems> {
    source::read(file).map_err(|problem| Problems::one(*problem))
}

/// Compiles a text as if it stood in `file`, with these environment variables on top.
///
/// # Errors
/// Every problem at once, warnings included.
pub fn compile<K, V>(
    file: &Path,
    text: &str,
    environment: impl IntoIterator<Item = (K, V)>,
    now: SystemTime,
) -> Result<Compiled, Problems>
where
    K: AsRef<std::ffi::OsStr>,
    V: AsRef<std::ffi::OsStr>,
{
    compile_beside(file, text, environment, now, None)
}

/// The same with the objects of a directory, which are read as those of the file are.
fn compile_beside<K, V>(
    file: &Path,
    text: &str,
    environment: impl IntoIterator<Item = (K, V)>,
    now: SystemTime,
    view: Option<&View>,
) -> Result<Compiled, Problems>
where
    K: AsRef<std::ffi::OsStr>,
    V: AsRef<std::ffi::OsStr>,
{
    let mut source = Source::merge(file, text, environment)?;
    let left_out = view.map_or(Ok(Vec::new()), |view| source.extend(view))?;
    let findings = Findings::new(&source);
    for what in left_out.into_iter().take(LEFT_OUT_MAX) {
        Reader::root(source.tree(), &findings).warn(codes::DIR_LEFT_OUT, "directory", what);
    }
    let compiled = read(&source, &findings, now);
    let problems = findings.into_problems();
    match compiled {
        Some(compiled) if !problems.has_errors() => Ok(Compiled { warnings: problems.list, ..compiled }),
        _ => Err(problems),
    }
}

/// Reads everything; `None` only together with an error in `findings`.
fn read(source: &Source, findings: &Findings<'_>, now: SystemTime) -> Option<Compiled> {
    let root = Reader::root(source.tree(), findings);
    let file = source.file().to_owned();
    let base = file.parent().unwrap_or(Path::new("")).to_owned();
    let gateway = sections::gateway(&root, &base);
    let general = spoken::Choice::of_section(&root.table("tls"));
    let tls = sections::tls(&root, &base);
    let listen = sections::listen(&root, tls.is_some());
    let shards = sections::shards(&root);
    let media = sections::media(&root, &listen, &base);
    let dns = sections::dns(&root);
    let lync = sections::lync(&root, &base);
    let roots = tls.as_ref().map(|tls| tls.files.trusted_roots.clone()).unwrap_or_default();
    let directory = directory::section(&root, &base, &roots);
    if directory.is_some() && !source.is_extended() {
        root.warn(
            codes::DIR_OLD,
            "directory",
            "nothing of it is known here: only the objects of the file count",
        );
    }
    let admin = sections::admin(&root, &base);
    let (observe, correlation_header) = sections::observe(&root, &base);
    let rules = sections::rules(&root);
    let quirks_off = quirks::section(&root);
    let objects = objects::read(&root, quirks_off);
    root.finish();
    let tls = tls.filter(|_| listen.startup_mode != StartupMode::Tcp);
    let tls = tls.map(|tls| certificate::deal(tls, &listen, &objects.presented, &root));
    let spoken = spoken::compile(&general, &listen.tls, &objects.spoken, &root);
    let not_after = tls.as_ref().and_then(|tls| certificate::check(tls, &gateway.fqdn, now, &root));
    let policy = Policy {
        gateway: sections::compiled_gateway(&gateway, &listen, &media, correlation_header),
        pools: objects.pools,
        ip_gateways: objects.ip_gateways,
        hunt_groups: objects.hunt_groups,
        dial_plans: objects.dial_plans,
        call_routers: objects.call_routers,
        mailbox_servers: objects.mailbox_servers,
        auto_attendants: objects.auto_attendants,
        mailboxes: objects.mailboxes,
        um: objects.um,
        routing: rules.routing,
        headers: rules.headers,
        health: rules.health,
        session: rules.session,
    };
    let compiled = Compiled {
        policy: Arc::new(policy),
        listen,
        shards,
        tls: tls.map(|tls| Tls { not_after, spoken, weak_peers: objects.weak_peers, ..tls }),
        media: media.media,
        dns,
        lync,
        directory,
        admin,
        observe,
        quirks_off,
        state_dir: gateway.state_dir,
        file,
        warnings: Vec::new(),
    };
    keep::check(&compiled, &root);
    checks::check(&compiled, &root);
    lint::lint(&compiled.policy, &root);
    Some(compiled)
}
