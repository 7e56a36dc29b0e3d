//! What the kernel tells of itself under /proc: port ranges, limits, sockets and who holds them. Owns reading and
//! parsing; everything is `None` or empty where the system has no such file or does not let this user read it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Longest file read.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Processes looked at for the owner of a socket.
const PROCESSES_MAX: usize = 32_768;
/// Descriptors looked at of one process.
const DESCRIPTORS_MAX: usize = 65_536;

/// The kernel's range for outgoing connections that nobody reserved, where it meets these ports.
pub fn ephemeral_overlap(ports: RangeInclusive<u16>) -> Option<RangeInclusive<u16>> {
    let ephemeral = range(&read("/proc/sys/net/ipv4/ip_local_port_range")?)?;
    let reserved = read("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    overlap(&ports, &ephemeral, &reserved_ranges(&reserved)).then_some(ephemeral)
}

/// Largest receive buffer that a socket may ask for.
pub fn receive_buffer_max() -> Option<u64> {
    read("/proc/sys/net/core/rmem_max")?.trim().parse().ok()
}

/// How many files a process may have open at once; `None` as process is this one.
pub fn open_files_max(process: Option<u32>) -> Option<u64> {
    let process = process.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
    open_files(&read(&format!("/proc/{process}/limits"))?)
}

/// A socket in the kernel's tables.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Socket {
    /// Local address.
    pub address: IpAddr,
    /// Local port.
    pub port: u16,
    /// Who made it.
    pub uid: u32,
    /// Its number, by which descriptors name it.
    pub inode: u64,
}

impl Socket {
    /// Whether it stands in the way of a socket on this address and port.
    pub fn collides(&self, address: IpAddr, port: u16) -> bool {
        let is_near = self.address.is_unspecified() || address.is_unspecified() || self.address == address;
        self.port == port && is_near
    }
}

/// TCP sockets that listen, or every UDP socket, of both families.
pub fn sockets(protocol: Protocol) -> Option<Vec<Socket>> {
    let (name, state) = match protocol {
        Protocol::Tcp => ("tcp", Some(STATE_LISTEN)),
        Protocol::Udp => ("udp", None),
    };
    let mut found = table(&read(&format!("/proc/net/{name}"))?, state);
    found.extend(table(&read(&format!("/proc/net/{name}6")).unwrap_or_default(), state));
    Some(found)
}

/// Which table of sockets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// Listening ones.
    Tcp,
    /// All.
    Udp,
}

/// A process that holds a socket.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Owner {
    /// Process number.
    pub pid: u32,
    /// Its short name.
    pub name: String,
}

impl Owner {
    /// The words it was started with.
    pub fn words(&self) -> Vec<String> {
        let text = read(&format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        text.split('\0').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    /// Its working folder.
    pub fn folder(&self) -> Option<PathBuf> {
        std::fs::read_link(format!("/proc/{}/cwd", self.pid)).ok()
    }
}

/// Who holds these sockets; those of other users stay unknown without the right to look.
pub fn owners(inodes: &BTreeSet<u64>) -> BTreeMap<u64, Owner> {
    let mut found = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir("/proc") else { return found };
    let processes = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok());
    for pid in processes.take(PROCESSES_MAX) {
        if found.len() == inodes.len() {
            break;
        }
        let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        for link in descriptors.flatten().take(DESCRIPTORS_MAX) {
            let inode =
                std::fs::read_link(link.path()).ok().and_then(|target| socket_inode(target.to_str()?));
            if let Some(inode) = inode.filter(|inode| inodes.contains(inode)) {
                let name = read(&format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
                found.insert(inode, Owner { pid, name });
            }
        }
    }
    found
}

fn read(path: &str) -> Option<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut ports = text.split_whitespace().map(str::parse);
    Some(ports.next()?.ok()?..=ports.next()?.ok()?)
}

/// `8080,9000-9010`.
fn reserved_ranges(text: &str) -> Vec<RangeInclusive<u16>> {
    let one = |part: &str| {
        let (first, last) = part.trim().split_once('-').unwrap_or((part.trim(), part.trim()));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.split(',').filter_map(one).collect()
}

/// Whether some port of both ranges is in no reserved one.
fn overlap(
    ports: &RangeInclusive<u16>,
    ephemeral: &RangeInclusive<u16>,
    reserved: &[RangeInclusive<u16>],
) -> bool {
    let (first, last) = (*ports.start().max(ephemeral.start()), *ports.end().min(ephemeral.end()));
    (first..=last).any(|port| !reserved.iter().any(|range| range.contains(&port)))
}

/// The soft limit; `unlimited` is as many as there are numbers.
fn open_files(limits: &str) -> Option<u64> {
    let rest = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match rest.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// TCP_LISTEN of the kernel's tables, proc_net_tcp(5).
const STATE_LISTEN: &str = "0A";

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode …`, one socket a line after a heading.
fn table(text: &str, state: Option<&str>) -> Vec<Socket> {
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().take(10).collect();
        let (address, port) = fields.get(1)?.rsplit_once(':')?;
        if state.is_some_and(|wanted| fields.get(3) != Some(&wanted)) {
            return None;
        }
        Some(Socket {
            address: address_of(address)?,
            port: u16::from_str_radix(port, 16).ok()?,
            uid: fields.get(7)?.parse().ok()?,
            inode: fields.get(9)?.parse().ok()?,
        })
    };
    text.lines().skip(1).filter_map(socket).collect()
}

/// Words of 32 bits in the order of this machine.
fn address_of(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            Some(IpAddr::from(<[u8; 16]>::try_from(words).ok()?).to_canonical())
        }
        _ => None,
    }
}

fn socket_inode(link: &str) -> Option<u64> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_overlaps_unless_it_is_elsewhere_or_reserved() {
        let ephemeral = range("32768\t60999\n").unwrap();
        assert!(!overlap(&(20_000..=20_599), &ephemeral, &[]));
        assert!(overlap(&(32_000..=32_768), &ephemeral, &[]));
        assert!(!overlap(&(40_000..=40_599), &ephemeral, &reserved_ranges("8080,40000-40599\n")));
        assert!(overlap(&(40_000..=40_600), &ephemeral, &reserved_ranges("8080,40000-40599\n")));
        assert!(reserved_ranges("\n").is_empty() && range("many\n").is_none());
    }

    #[test]
    fn limits_are_read_from_the_kernels_table() {
        let table = "Limit                     Soft Limit           Hard Limit           Units     \n\
                     Max processes             unlimited            unlimited            processes \n\
                     Max open files            1024                 524288               files     \n";
        assert_eq!(open_files(table), Some(1024));
        assert_eq!(open_files("Max open files unlimited unlimited files"), Some(u64::MAX));
        assert_eq!(open_files("Max processes 1 1 processes"), None);
    }

    #[test]
    fn socket_tables_give_port_user_and_number() {
        let text = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:13C5 00000000:0000 0A 00000000:00000000 00:00000000 00000000   998        0 4711 1 0 100 0\n   \
            1: 0100007F:13C4 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0\n   \
            2: broken\n";
        let listening = table(text, Some(STATE_LISTEN));
        let address = IpAddr::from([127, 0, 0, 1]);
        if cfg!(target_endian = "little") {
            assert_eq!(listening, [Socket { address, port: 5061, uid: 998, inode: 4711 }]);
            assert!(listening[0].collides(IpAddr::from([0, 0, 0, 0]), 5061));
            assert!(!listening[0].collides(IpAddr::from([127, 0, 0, 2]), 5061));
            assert!(!listening[0].collides(address, 5060));
        }
        assert_eq!(table(text, None).len(), 2);
        assert_eq!(address_of(&"0".repeat(32)), Some(IpAddr::from([0_u16; 8])));
        assert_eq!(address_of("7F"), None);
        assert_eq!(socket_inode("socket:[4711]"), Some(4711));
        assert_eq!(socket_inode("pipe:[4711]"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_holder_of_a_socket_of_ours_is_this_process() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let table = sockets(Protocol::Tcp).unwrap();
        let inodes: BTreeSet<u64> = table.iter().filter(|s| s.port == port).map(|s| s.inode).collect();
        let owners = owners(&inodes);
        assert!(owners.values().any(|owner| owner.pid == std::process::id()), "{owners:?}");
        assert!(owners.values().all(|owner| !owner.words().is_empty() && owner.folder().is_some()));
        drop(listener);
    }
}
