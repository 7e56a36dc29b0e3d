//! A place of its own for every demo: a loopback network that nobody uses and a folder that no other demo holds. Owns the
//! search for both; refuses to know what runs there.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use super::DemoError;

/// Folder of the first demo; the next ones get `-2`, `-3`, …
const FOLDER: &str = "umbra-demo";
/// Folders tried.
const FOLDERS_MAX: usize = 32;
/// Lies in every demo folder and is locked while its demo runs.
const LOCK_FILE: &str = "demo.lock";
/// What a demo writes, besides the lock: removed when its folder is used again.
const OWN_FOLDERS: [&str; 5] = ["pki", "voicemail", "cdr", "state", "faults"];
const OWN_FILES: [&str; 3] = ["umbra.toml", "lab.toml", "ladder.txt"];
/// RTP ports of the gateway.
pub(super) const RTP: std::ops::RangeInclusive<u16> = 20_000..=20_199;

/// A network `127.x.y.0/24`.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) struct Net(u8, u8);

impl Net {
    /// Networks tried before giving up.
    pub(super) const TRIES_MAX: usize = 16;
    /// Host numbers, as in the README's picture.
    pub(super) const POOLS: u8 = 10;
    pub(super) const GATEWAY: u8 = 20;
    pub(super) const ROUTER: u8 = 30;
    pub(super) const MAILBOX: u8 = 30;
    pub(super) const PBX: u8 = 40;

    /// One by chance, away from 127.0.0.0/24 where other things live.
    pub(super) fn random() -> Self {
        Self(rand::random_range(192..=254), rand::random_range(1..=254))
    }

    /// A host in it.
    pub(super) fn host(self, number: u8) -> IpAddr {
        Ipv4Addr::new(127, self.0, self.1, number).into()
    }

    /// Every listener of a demo.
    pub(super) fn listeners(self) -> Vec<SocketAddr> {
        let mut all = vec![];
        let mut at = |host: u8, ports: &[u16]| {
            all.extend(ports.iter().map(|port| SocketAddr::new(self.host(host), *port)));
        };
        at(Self::GATEWAY, &[5060, 5061, 9065]);
        at(Self::ROUTER, &[5060, 5061]);
        for server in 1..=2 {
            at(Self::MAILBOX + server, &[5062, 5063, 5065, 5066, 5067, 5068]);
        }
        all
    }

    /// The first port that cannot be had, with the system's words.
    pub(super) fn busy(self) -> Option<(SocketAddr, io::Error)> {
        let tcp = self.listeners().into_iter().find_map(|a| Some((a, TcpListener::bind(a).err()?)));
        tcp.or_else(|| {
            let udp = |port| SocketAddr::new(self.host(Self::GATEWAY), port);
            RTP.map(udp).find_map(|a| Some((a, UdpSocket::bind(a).err()?)))
        })
    }
}

/// A network whose ports are all free now.
pub(super) fn free_net() -> Result<Net, DemoError> {
    let mut last = None;
    for _ in 0..Net::TRIES_MAX {
        let net = Net::random();
        match net.busy() {
            None => return Ok(net),
            Some((address, why)) if why.kind() == ErrorKind::AddrNotAvailable => {
                return Err(DemoError::NoLoopback { address, why });
            }
            Some(busy) => last = Some(busy),
        }
    }
    let (address, why) =
        last.unwrap_or_else(|| (SocketAddr::new(Net(0, 0).host(1), 0), ErrorKind::AddrInUse.into()));
    Err(DemoError::Busy { address, why })
}

/// A folder held by this demo until it is dropped.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// The folder named, or the first of `umbra-demo`, `umbra-demo-2`, … that no demo holds and that is a demo's.
    pub(super) fn claim(named: Option<&Path>) -> Result<Self, DemoError> {
        if let Some(path) = named {
            return Self::take(path.to_owned())?.ok_or_else(|| DemoError::FolderTaken(path.to_owned()));
        }
        for number in 1..=FOLDERS_MAX {
            let name = if number == 1 { FOLDER.to_owned() } else { format!("{FOLDER}-{number}") };
            if let Some(folder) = Self::take(PathBuf::from(name))? {
                return Ok(folder);
            }
        }
        Err(DemoError::FolderTaken(PathBuf::from(FOLDER)))
    }

    /// `None`: somebody else's.
    fn take(path: PathBuf) -> Result<Option<Self>, DemoError> {
        let fail = |why| DemoError::Folder { path: path.clone(), why };
        std::fs::create_dir_all(&path).map_err(fail)?;
        let lock_path = path.join(LOCK_FILE);
        let is_foreign = !lock_path.exists() && std::fs::read_dir(&path).map_err(fail)?.next().is_some();
        if is_foreign {
            return Ok(None);
        }
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).open(&lock_path).map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(why)) => return Err(fail(why)),
        }
        clear(&path).map_err(fail)?;
        Ok(Some(Self { path, _lock: lock }))
    }

    /// Where it is, as typed.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

fn clear(path: &Path) -> io::Result<()> {
    let gone = |result: io::Result<()>| match result {
        Err(why) if why.kind() != ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    };
    OWN_FOLDERS.iter().try_for_each(|name| gone(std::fs::remove_dir_all(path.join(name))))?;
    OWN_FILES.iter().try_for_each(|name| gone(std::fs::remove_file(path.join(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_held_by_one_demo_is_refused_to_the_next_and_free_after_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("demo");
        let first = Folder::claim(Some(&path)).unwrap();
        std::fs::create_dir(path.join("cdr")).unwrap();
        assert!(matches!(Folder::claim(Some(&path)), Err(DemoError::FolderTaken(_))));
        drop(first);
        let second = Folder::claim(Some(&path)).unwrap();
        assert!(!second.path().join("cdr").exists(), "what an earlier demo left is gone");
    }

    #[test]
    fn a_folder_with_other_things_in_it_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("umbra.toml"), "mine").unwrap();
        assert!(matches!(Folder::claim(Some(root.path())), Err(DemoError::FolderTaken(_))));
        assert_eq!(std::fs::read_to_string(root.path().join("umbra.toml")).unwrap(), "mine");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_network_with_a_taken_port_names_it() {
        let net = free_net().unwrap();
        let taken = SocketAddr::new(net.host(Net::MAILBOX + 2), 5066);
        let held = TcpListener::bind(taken).unwrap();
        assert_eq!(net.busy().map(|(address, _)| address), Some(taken));
        drop(held);
        assert!(net.busy().is_none());
    }
}
