//! What this host gives: ports to listen on, RTP ports, descriptors, socket buffers; and who holds what is taken. Owns
//! looking and judging; the kernel's tables are read by `kernel`.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use b2bua::codes;
use b2bua::policy::MediaMode;
use sip::Transport;

use super::finding::{Finding, Group};
use crate::config::{Compiled, DEFAULT_FILES};
use crate::kernel::{self, Owner, Protocol, Socket};
use crate::media::RECEIVE_BUFFER_BYTES;
use crate::run::Settings;

/// Sockets of an anchored call: RTP and RTCP on both legs, and a connected one to the RTP of each peer.
const SOCKETS_PER_CALL: u64 = 6;
/// Descriptors for everything else: listeners, connections to peers, files, pollers.
const OTHER_DESCRIPTORS: u64 = 256;
/// Holders that one line names.
const HOLDERS_NAMED_MAX: usize = 4;

/// Who holds a port.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Holder {
    /// The gateway with this very configuration.
    Gateway(Owner),
    /// Another process.
    Other(Owner),
    /// A process of this user, which may not be looked at.
    Hidden(u32),
    /// Nobody that the kernel's tables show.
    Nobody,
}

/// One port that the gateway is to listen on.
struct Wanted {
    word: &'static str,
    address: SocketAddr,
    protocol: Protocol,
}

/// Listeners, RTP ports and limits, in one look at the host. Blocks.
pub fn findings(compiled: &Compiled) -> Vec<Finding> {
    let settings = Settings::from(compiled);
    let mut found = Vec::new();
    let mut running = None;
    for wanted in wanted(&settings) {
        let bound = bind(&wanted);
        let holder = match &bound {
            Err(ErrorKind::AddrInUse) => holder_of(&wanted, &compiled.file),
            _ => Holder::Nobody,
        };
        if let Holder::Gateway(owner) = &holder {
            running = Some(owner.pid);
        }
        found.push(listener(&wanted, bound, &holder));
    }
    found.push(rtp_ports(&settings, &compiled.file));
    let calls = match compiled.policy.gateway.media_mode {
        MediaMode::Anchored => compiled.policy.gateway.max_calls_allowed as u64,
        MediaMode::Unanchored => 0,
    };
    let limit = kernel::open_files_max(running).or_else(|| kernel::open_files_max(None));
    found.push(descriptors(calls, limit, running));
    found.push(buffers(kernel::receive_buffer_max()));
    found
}

fn wanted(settings: &Settings) -> Vec<Wanted> {
    let sip = settings.listen.iter().map(|listen| {
        let (word, protocol) = match listen.transport {
            Transport::Tcp => ("tcp", Protocol::Tcp),
            Transport::Tls => ("tls", Protocol::Tcp),
            Transport::Udp => ("udp", Protocol::Udp),
        };
        Wanted { word, address: listen.address, protocol }
    });
    let admin = settings.admin.map(|address| Wanted { word: "http", address, protocol: Protocol::Tcp });
    sip.chain(admin).collect()
}

/// Listens for a moment, as the gateway would.
fn bind(wanted: &Wanted) -> Result<(), ErrorKind> {
    let bound = match wanted.protocol {
        Protocol::Tcp => TcpListener::bind(wanted.address).map(drop),
        Protocol::Udp => UdpSocket::bind(wanted.address).map(drop),
    };
    bound.map_err(|error| error.kind())
}

fn holder_of(wanted: &Wanted, file: &Path) -> Holder {
    let sockets = kernel::sockets(wanted.protocol).unwrap_or_default();
    let near = |s: &&Socket| s.collides(wanted.address.ip(), wanted.address.port());
    let near: Vec<Socket> = sockets.iter().filter(near).copied().collect();
    let owners = kernel::owners(&near.iter().map(|socket| socket.inode).collect());
    match (owners.into_values().next(), near.first()) {
        (Some(owner), _) if is_gateway(&owner.words(), owner.folder().as_deref(), file) => {
            Holder::Gateway(owner)
        }
        (Some(owner), _) => Holder::Other(owner),
        (None, Some(socket)) => Holder::Hidden(socket.uid),
        (None, None) => Holder::Nobody,
    }
}

/// Whether these are the words of `umbra run` with this configuration, or of the demo that wrote it.
fn is_gateway(words: &[String], folder: Option<&Path>, file: &Path) -> bool {
    let is_word = |wanted: &str| words.iter().any(|word| word == wanted);
    let real = |path: &Path| path.canonicalize().ok();
    if is_word("demo") {
        let own = folder.map(|folder| folder.join("umbra-demo/umbra.toml"));
        return own.is_some_and(|own| real(&own).is_some() && real(&own) == real(file));
    }
    if !is_word("run") {
        return false;
    }
    let named =
        words.windows(2).find(|pair| matches!(pair[0].as_str(), "-c" | "--config")).map(|pair| &pair[1]);
    let named = named.map(String::as_str).or_else(|| {
        words.iter().find_map(|word| word.strip_prefix("--config=").or_else(|| word.strip_prefix("-c")))
    });
    let absolute = |path: &str| folder.unwrap_or(Path::new("")).join(path);
    let candidates: Vec<PathBuf> = match named {
        Some(path) => vec![absolute(path)],
        None => DEFAULT_FILES.map(absolute).to_vec(),
    };
    let wanted = real(file);
    wanted.is_some() && candidates.iter().find_map(|path| real(path)) == wanted
}

fn listener(wanted: &Wanted, bound: Result<(), ErrorKind>, holder: &Holder) -> Finding {
    let (group, taken) = (Group::Listeners, codes::LISTENER_TAKEN);
    let place = format!("{} {}", wanted.word, wanted.address);
    match (bound, holder) {
        (Ok(()), _) => Finding::ok(group, taken, format!("{place} is free")),
        (Err(ErrorKind::AddrInUse), Holder::Gateway(owner)) => {
            Finding::ok(group, taken, format!("{place} is held by the running gateway ({})", named(owner)))
        }
        (Err(ErrorKind::AddrInUse), Holder::Other(owner)) => {
            Finding::fail(group, taken, format!("{place} is taken by {}", named(owner)))
        }
        (Err(ErrorKind::AddrInUse), Holder::Hidden(uid)) => {
            let what = format!("{place} is taken by a process of uid {uid} that this user may not look at");
            Finding::warn(group, taken, what)
        }
        (Err(ErrorKind::AddrInUse), Holder::Nobody) => {
            Finding::fail(group, taken, format!("{place} is taken; the system does not tell by whom"))
        }
        (Err(kind), _) => Finding::fail(group, codes::LISTENER_ADDRESS, format!("{place}: {kind}")),
    }
}

fn named(owner: &Owner) -> String {
    format!("{}, pid {}", owner.name, owner.pid)
}

fn rtp_ports(settings: &Settings, file: &Path) -> Finding {
    let (addresses, ports) = (&settings.media.addresses, &settings.media.ports);
    let Some(sockets) = kernel::sockets(Protocol::Udp) else {
        let why = "the system shows no table of UDP sockets: whether RTP ports are in use is unknown";
        return Finding::skip(Group::Media, codes::RTP_PORTS_TAKEN, why);
    };
    let collides = |socket: &Socket| addresses.iter().any(|own| socket.collides(*own, socket.port));
    let is_near = |socket: &&Socket| ports.contains(&socket.port) && collides(socket);
    let near: Vec<Socket> = sockets.iter().filter(is_near).copied().collect();
    let owners = kernel::owners(&near.iter().map(|socket| socket.inode).collect());
    let mut ours = 0;
    let mut others = BTreeSet::new();
    for socket in &near {
        match owners.get(&socket.inode) {
            Some(owner) if is_gateway(&owner.words(), owner.folder().as_deref(), file) => ours += 1,
            Some(owner) => drop(others.insert((socket.port, named(owner)))),
            None => drop(others.insert((socket.port, format!("uid {}", socket.uid)))),
        }
    }
    judge_rtp_ports(addresses, (*ports.start(), *ports.end()), ours, &others)
}

fn judge_rtp_ports(
    addresses: &[IpAddr],
    (first, last): (u16, u16),
    ours: usize,
    others: &BTreeSet<(u16, String)>,
) -> Finding {
    let (group, code) = (Group::Media, codes::RTP_PORTS_TAKEN);
    let addresses: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let place = format!("RTP ports {first}-{last} on {}", addresses.join(" and "));
    if others.is_empty() {
        let calls =
            if ours == 0 { String::new() } else { format!(" ({ours} of calls of the running gateway)") };
        return Finding::ok(group, code, format!("{place}: none is used by anybody else{calls}"));
    }
    let named = others.iter().take(HOLDERS_NAMED_MAX).map(|(port, who)| format!("{port} by {who}"));
    let more = match others.len().saturating_sub(HOLDERS_NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let named: Vec<String> = named.collect();
    Finding::warn(group, code, format!("{place}: in use {}{more}", named.join(", ")))
}

/// The limit of the running gateway counts; without one, this process's is only a hint.
fn descriptors(calls: u64, limit: Option<u64>, running: Option<u32>) -> Finding {
    let (group, code) = (Group::Media, codes::DESCRIPTORS_FEW);
    let needed = calls * SOCKETS_PER_CALL + OTHER_DESCRIPTORS;
    let whose = match running {
        Some(pid) => format!("of the running gateway (pid {pid})"),
        None => "of this shell (a service may have another)".to_owned(),
    };
    match limit {
        None => Finding::skip(group, code, "the system does not tell how many files may be open"),
        Some(limit) if limit >= needed => {
            let limit = if limit == u64::MAX { "unlimited".to_owned() } else { limit.to_string() };
            Finding::ok(
                group,
                code,
                format!("{needed} descriptors for {calls} calls, the limit {whose} is {limit}"),
            )
        }
        Some(limit) => {
            let what = format!("{calls} calls need {needed} descriptors, the limit {whose} is {limit}");
            match running {
                Some(_) => Finding::fail(group, code, what),
                None => Finding::warn(group, code, what),
            }
        }
    }
}

fn buffers(most: Option<u64>) -> Finding {
    let (group, code) = (Group::Media, codes::SOCKET_BUFFER_CAPPED);
    let wanted = RECEIVE_BUFFER_BYTES as u64;
    match most {
        None => Finding::skip(group, code, "the system does not tell how large socket buffers may be"),
        Some(most) if most >= wanted => Finding::ok(
            group,
            code,
            format!("receive buffers of {wanted} bytes are allowed (rmem_max {most})"),
        ),
        Some(most) => {
            Finding::warn(group, code, format!("RTP sockets ask for {wanted} bytes, rmem_max allows {most}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Mark;
    use super::super::testing;
    use super::*;

    fn owner() -> Owner {
        Owner { pid: 4711, name: "sipp".into() }
    }

    fn at(address: &str) -> Wanted {
        Wanted { word: "tls", address: address.parse().unwrap(), protocol: Protocol::Tcp }
    }

    #[test]
    fn a_taken_port_fails_and_names_the_owner() {
        let wanted = at("127.0.0.20:5061");
        let judged = |bound, holder| {
            let found = listener(&wanted, bound, &holder);
            (found.mark, found.code.as_str(), found.what)
        };
        assert_eq!(judged(Ok(()), Holder::Nobody).0, Mark::Ok);
        let taken = || Err(ErrorKind::AddrInUse);
        let (mark, code, what) = judged(taken(), Holder::Other(owner()));
        assert_eq!((mark, code), (Mark::Fail, "UMB-HOST001"));
        assert_eq!(what, "tls 127.0.0.20:5061 is taken by sipp, pid 4711");
        assert_eq!(judged(taken(), Holder::Gateway(owner())).0, Mark::Ok);
        assert_eq!(judged(taken(), Holder::Hidden(998)).0, Mark::Warn);
        assert_eq!(judged(taken(), Holder::Nobody).0, Mark::Fail);
        assert_eq!(judged(Err(ErrorKind::AddrNotAvailable), Holder::Nobody).1, "UMB-HOST002");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_real_listener_is_found_with_its_process() {
        let listener_here = TcpListener::bind("127.0.0.1:0").unwrap();
        let wanted = at(&listener_here.local_addr().unwrap().to_string());
        assert_eq!(bind(&wanted), Err(ErrorKind::AddrInUse));
        let holder = holder_of(&wanted, Path::new("/nonexistent/umbra.toml"));
        let Holder::Other(owner) = &holder else { panic!("{holder:?}") };
        assert_eq!(owner.pid, std::process::id());
        drop(listener_here);
        assert_eq!(bind(&wanted), Ok(()));
    }

    #[test]
    fn the_running_gateway_is_known_by_its_configuration() {
        let folder = tempfile::tempdir().unwrap();
        let (mine, other) = (folder.path().join("umbra.toml"), folder.path().join("other.toml"));
        std::fs::write(&mine, "").unwrap();
        std::fs::write(&other, "").unwrap();
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let is_mine = |text: &str| is_gateway(&words(text), Some(folder.path()), &mine);
        assert!(is_mine("umbra run -c umbra.toml") && is_mine("umbra run --config=umbra.toml"));
        assert!(is_mine("/usr/bin/umbra run"), "the default file of its folder");
        assert!(is_mine(&format!("umbra run -c {}", mine.display())));
        assert!(!is_mine("umbra run -c other.toml") && !is_mine("umbra check umbra.toml"));
        assert!(!is_mine("umbra run -c missing.toml") && !is_mine("umbra demo"));
        let demo = folder.path().join("umbra-demo/umbra.toml");
        std::fs::create_dir(folder.path().join("umbra-demo")).unwrap();
        std::fs::write(&demo, "").unwrap();
        assert!(is_gateway(&words("umbra demo --quick"), Some(folder.path()), &demo));
    }

    #[test]
    fn rtp_ports_of_others_are_named_and_those_of_our_calls_are_not() {
        let judged = |ours, others: &[(u16, &str)]| {
            let others = others.iter().map(|(port, who)| (*port, (*who).to_owned())).collect();
            let found = judge_rtp_ports(&[IpAddr::from([127, 0, 0, 20])], (20_000, 20_599), ours, &others);
            (found.mark, found.what)
        };
        assert_eq!(judged(0, &[]).0, Mark::Ok);
        assert_eq!(judged(8, &[]).0, Mark::Ok);
        let many: Vec<(u16, &str)> = (20_000..20_006).map(|port| (port, "sipp, pid 7")).collect();
        let (mark, what) = judged(8, &many);
        assert_eq!(mark, Mark::Warn);
        assert!(what.contains("20000 by sipp, pid 7") && what.ends_with("and 2 more"), "{what}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_real_socket_in_the_range_is_found() {
        let socket = UdpSocket::bind("127.0.0.77:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut settings = Settings::from(&testing::compiled(""));
        settings.media.addresses = vec![IpAddr::from([127, 0, 0, 77])];
        settings.media.ports = port..=port;
        let file = Path::new("/nonexistent/umbra.toml");
        assert_eq!(rtp_ports(&settings, file).mark, Mark::Warn);
        drop(socket);
        assert_eq!(rtp_ports(&settings, file).mark, Mark::Ok);
    }

    #[test]
    fn descriptors_fail_for_the_running_gateway_and_warn_for_a_shell() {
        assert_eq!(descriptors(100, Some(1024), None).mark, Mark::Ok);
        assert_eq!(descriptors(1000, Some(1024), None).mark, Mark::Warn);
        assert_eq!(descriptors(1000, Some(1024), Some(7)).mark, Mark::Fail);
        assert_eq!(descriptors(1000, Some(u64::MAX), Some(7)).mark, Mark::Ok);
        assert_eq!(descriptors(1, None, None).mark, Mark::Skip);
    }

    #[test]
    fn a_small_rmem_max_is_a_warning() {
        assert_eq!(buffers(Some(212_992)).mark, Mark::Ok);
        assert_eq!(buffers(Some(4_096)).mark, Mark::Warn);
        assert_eq!(buffers(None).mark, Mark::Skip);
    }
}
