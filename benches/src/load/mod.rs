//! Load on the real binary: a caller and a server on TLS connections, and the process in between. Owns traffic, the subject's
//! configuration and the reading of what it used; which figures are taken stands in the binaries of this package.
#![allow(clippy::unwrap_used)]

mod arguments;
pub mod cost;
mod generator;
mod messages;
mod rig;
mod subject;
mod wire;

pub use arguments::{beside_us, positive};
pub use generator::{Caller, Outcome, Server};
pub use messages::Names;
pub use rig::{Bench, Result, Rig, median, text};
pub use subject::{Binary, FQDN, Kind, Net, POOL, SERVER, Subject};
pub use wire::{Tls, connect};
