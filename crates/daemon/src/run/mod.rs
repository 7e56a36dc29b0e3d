//! The running gateway: listeners, engine task, media threads, records and admin endpoint put together, and taken
//! apart again in order. Owns every task and joins it; refuses to know configuration files and the command line.

mod compiled;
mod engine_task;
mod gateway;
mod held;
mod reuse;
mod settings;
mod signals;

pub use engine_task::Control;
pub use gateway::{Gateway, ReloadError, StartError};
pub use settings::{ListenAt, Settings, TlsSetup, known_peers};
pub use signals::{Stop, run_until_stopped};
