//! A caller, a subject and a server, connected with mutual TLS in a network of their own. Owns the order of starting, and the
//! folder and the certificates of a run; refuses to know what is measured.

use std::cell::Cell;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::pki::Pki;
use rustls::SupportedProtocolVersion;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

use super::generator::{Caller, Server};
use super::messages::Names;
use super::subject::{Binary, FQDN, Kind, Net, POOL, SERVER, Subject};
use super::wire::Tls;

/// Calls before anything is measured.
const WARM_UP: usize = 200;

/// The text of an error is for whoever reads the terminal.
pub type Result<T = ()> = std::result::Result<T, String>;

/// What all rigs of a run share.
pub struct Bench {
    folder: TempDir,
    pki: Pki,
    umbra: PathBuf,
    room: Option<u32>,
    nets: Cell<u8>,
}

/// One subject between a caller and a server, all connected.
pub struct Rig {
    /// Places calls.
    pub caller: Caller,
    /// Answers them.
    pub server: Option<Server>,
    /// Stands in between; `None`: nobody does.
    pub subject: Option<Subject>,
    /// Where they are.
    pub net: Net,
}

impl Rig {
    /// Processes of the subject.
    pub fn pids(&self) -> Vec<u32> {
        self.subject.as_ref().map(Subject::pids).unwrap_or_default()
    }
}

impl Bench {
    /// With the gateway's binary.
    pub fn open(umbra: &Path) -> Result<Self> {
        let folder = tempfile::tempdir().map_err(text)?;
        let pki = Pki::open(&folder.path().join("pki")).map_err(text)?;
        Ok(Self { folder, pki, umbra: umbra.to_owned(), room: None, nets: Cell::new(0) })
    }

    /// The gateway takes so many connections, all of one address if need be; by default it has its own limits.
    #[must_use]
    pub fn with_room(self, connections: u32) -> Self {
        Self { room: Some(connections), ..self }
    }

    /// A network that nobody had before.
    pub fn net(&self) -> Net {
        self.nets.set(self.nets.get().wrapping_add(1));
        Net(64 + (std::process::id() % 128) as u8, self.nets.get())
    }

    /// The subject alone.
    pub fn subject(&self, kind: Kind, net: Net) -> Result<Subject> {
        let (folder, umbra) = (self.folder.path(), self.umbra.as_path());
        Subject::start(kind, net, &self.pki, folder, Binary { umbra, room: self.room })
    }

    /// The server alone.
    pub async fn server(&self, net: Net) -> Result<Server> {
        let acceptor = Tls::new(&self.pki).acceptor(&self.pki.identity(SERVER).map_err(text)?);
        Server::start(net.server(), acceptor, names(net)).await.map_err(text)
    }

    /// The caller's way to connect.
    pub fn connector(&self, versions: &[&'static SupportedProtocolVersion]) -> Result<TlsConnector> {
        Ok(Tls::new(&self.pki).connector(&self.pki.identity(POOL).map_err(text)?, versions))
    }

    /// Everybody, after a few calls that all have to succeed; without a kind the caller is connected to the server.
    pub async fn rig(&self, kind: Option<Kind>) -> Result<Rig> {
        let net = self.net();
        let server = Some(self.server(net).await?);
        let subject = kind.map(|kind| self.subject(kind, net)).transpose()?;
        let caller = Caller::new(names(net));
        let (to, name) = if kind.is_some() { (net.subject(), FQDN) } else { (net.server(), SERVER) };
        let connector = self.connector(rustls::DEFAULT_VERSIONS)?;
        caller.connect(&connector, net.caller(), to, name).await.map_err(text)?;
        let warm = caller.place(WARM_UP, 100, Some(Duration::from_millis(50))).await;
        if warm.lost() > 0 {
            let (lost, who) = (warm.lost(), kind.map_or("direct", Kind::name));
            return Err(format!("{who}: {lost} of {WARM_UP} calls lost before measuring: {:?}", warm.failed));
        }
        Ok(Rig { caller, server, subject, net })
    }
}

fn names(net: Net) -> Names {
    Names { caller: format!("{}:5061", net.caller()), server: net.server().to_string() }
}

/// The value in the middle.
pub fn median(list: &mut [f64]) -> f64 {
    list.sort_by(f64::total_cmp);
    list.get(list.len() / 2).copied().unwrap_or(f64::NAN)
}

/// An error as text.
pub fn text(error: impl Display) -> String {
    error.to_string()
}
