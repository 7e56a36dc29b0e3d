//! A Lync Front End, Mediation Server or IP-PBX that places calls: sends messages of the shapes these products send, talks, listens, and
//! reports what it saw. Refuses to follow redirects: a gateway must hide them, so one that shows up is counted and reported.

mod invite;
mod logic;
mod spec;

use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

pub use logic::{CallerCommand, CallerLogic, CallerReport};
pub use spec::{
    CallEnd, CallOutcome, CallSpec, CallerConfig, EndedBy, HeaderLine, Heard, OfferShape, Talk, TalkStart,
    Target, TlsTarget,
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

/// One connection to a target; any number of calls at once on it (up to [`Caller::CALLS_MAX`]). Cheap to clone.
#[derive(Clone, Debug)]
pub struct Caller {
    _private: (),
}

impl Caller {
    /// Most calls at once on one caller.
    pub const CALLS_MAX: usize = 4_096;

    /// Connects (and shakes hands).
    pub async fn connect(_config: CallerConfig, _target: Target) -> Result<Caller, CallerError> {
        unfinished()
    }

    /// Places a call and stays with it to its end.
    pub async fn place_call(&self, _spec: CallSpec) -> Result<CallOutcome, CallerError> {
        unfinished()
    }

    /// Sends bytes as they are and returns the messages that come back within `wait` and belong to no call.
    pub async fn send_raw(&self, _bytes: Bytes, _wait: Duration) -> Result<Vec<Bytes>, CallerError> {
        unfinished()
    }

    /// Sends OPTIONS and returns the status.
    pub async fn options(&self, _request_uri: &str) -> Result<u16, CallerError> {
        unfinished()
    }

    /// Closes the connection; calls on it end as lost. Waits for its task.
    pub async fn close(self) {
        unfinished()
    }
}

#[allow(clippy::panic)]
fn unfinished() -> ! {
    panic!("not written yet")
}
