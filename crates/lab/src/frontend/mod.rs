//! A Lync Front End, Mediation Server or IP-PBX that places calls: sends messages of the shapes these products send, talks, listens, and
//! reports what it saw. Refuses to follow redirects: a gateway must hide them, so one that shows up is counted and reported.

mod invite;
mod logic;
mod referred;
mod spec;

use thiserror::Error;

pub use crate::shell::Caller;
pub use logic::{CallerCommand, CallerLogic, CallerReport};
pub use spec::{
    CallEnd, CallOutcome, CallSpec, CallerConfig, EndedBy, HeaderLine, Heard, OfferShape, OnRefer, Presses,
    Talk, TalkStart, Target, TlsTarget,
};

/// Why a caller could not work.
#[derive(Debug, Error)]
pub enum CallerError {
    /// Connecting failed.
    #[error("connect: {0}")]
    Connect(std::io::Error),
    /// The TLS handshake or a certificate failed.
    #[error("tls: {0}")]
    Tls(String),
    /// The connection is gone.
    #[error("the connection is closed")]
    Closed,
    /// Too many calls at once on this caller.
    #[error("more than {0} calls at once")]
    TooMany(usize),
    /// The call description cannot be put into a message.
    #[error("call description: {0}")]
    Spec(String),
    /// No media port could be had.
    #[error("media port: {0}")]
    Media(std::io::Error),
}
