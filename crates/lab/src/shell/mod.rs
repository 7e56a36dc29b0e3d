//! The lab on real sockets: listeners, connections, RTP ports, voicemail folder. The only part of this crate that opens, sleeps or spawns.

mod caller;
mod connection;
mod dial;
mod driver;
mod lab_um;
mod listen;
mod mail;
mod media_io;
mod messenger;
mod play_on_phone;
mod role;
mod smtp;
pub(crate) mod tls;
mod voicemail;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

pub use caller::Caller;
pub use lab_um::{LabUm, Liveness};
pub use mail::MailError;
pub use play_on_phone::PlayOnPhone;
pub use voicemail::{StoreError, Voicemail};

use crate::pki::Pki;
use crate::um::{
    AnswerRules, AttendantConfig, CallRouterConfig, DialPlanConfig, MailboxConfig, MailboxServerConfig,
};

/// The whole lab UM side.
#[derive(Clone, Debug, Default)]
pub struct LabUmConfig {
    /// Call Routers.
    pub call_routers: Vec<CallRouterConfig>,
    /// Mailbox servers.
    pub mailbox_servers: Vec<MailboxServerConfig>,
    /// Mailboxes; calls for others are taken too, with the server's security.
    pub mailboxes: Vec<MailboxConfig>,
    /// Attendants.
    pub attendants: Vec<AttendantConfig>,
    /// Dial plans.
    pub dial_plans: Vec<DialPlanConfig>,
    /// Numbers and contact names of Outlook Voice Access, of any dial plan.
    pub access_numbers: Vec<String>,
    /// How workers take calls of no dial plan.
    pub answer: AnswerRules,
    /// Certificates; needed when any TLS port is on.
    pub pki: Option<Arc<Pki>>,
    /// Folder of voice messages: `<alias>/NNNN.wav` with `.json` beside.
    pub voicemail: PathBuf,
    /// Where mail goes by SMTP, besides lying in the folder; `None` = nowhere.
    pub smtp: Option<SocketAddr>,
    /// UM IP gateway that is told what waits in mailboxes; `None` = nobody is.
    pub message_waiting: Option<UmIpGateway>,
    /// Peer names accepted on TLS; empty = anyone with a certificate of the lab's root.
    pub trusted_peers: Vec<String>,
    /// Seed of tags and branches.
    pub seed: u64,
}

/// A UM IP gateway as Mailbox servers reach it.
#[derive(Clone, Debug)]
pub struct UmIpGateway {
    /// Its name, in Request-URIs and in its certificate.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Over what.
    pub transport: UmTransport,
}

/// How a Mailbox server reaches its UM IP gateway.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum UmTransport {
    /// Plain TCP.
    Tcp,
    /// Mutual TLS, with the server's own certificate.
    Tls,
}

/// Why the lab could not start.
#[derive(Debug, Error)]
pub enum LabError {
    /// A port could not be had.
    #[error("{server} cannot listen on {address}: {source}")]
    Listen {
        /// Server name.
        server: String,
        /// Address and port.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Certificates.
    #[error(transparent)]
    Pki(#[from] crate::pki::PkiError),
    /// TLS configuration.
    #[error("tls: {0}")]
    Tls(String),
    /// The description does not make sense.
    #[error("{0}")]
    Config(String),
}

/// Where a server really listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Listening {
    /// Server name.
    pub server: String,
    /// What listens there.
    pub role: ListenRole,
    /// Plain TCP.
    pub tcp: Option<SocketAddr>,
    /// TLS.
    pub tls: Option<SocketAddr>,
}

/// What listens.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum ListenRole {
    /// Call Router.
    CallRouter,
    /// UM service.
    UmService,
    /// Worker, with its number from 0.
    Worker(usize),
}
