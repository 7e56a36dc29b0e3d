//! The running gateway: listeners, signalling threads, media threads, records and admin endpoint put together, and taken
//! apart again in order. Owns every task and thread and joins it; refuses to know configuration files and the command line.

mod adopted;
mod compiled;
mod expiry;
mod gateway;
mod held;
mod pump;
mod settings;
mod shard;
mod signals;
mod status;
mod threads;
mod watch;
mod wishes;

pub use gateway::{Gateway, ReloadError, StartError};
pub use settings::{ListenAt, Settings, TlsSetup};
pub use signals::{Configured, Signals, Stop};
