//! What an operator sees from outside: log lines, metrics, call records and the admin endpoint. Owns names and shapes
//! of all of them; refuses to decide anything.

mod admin;
mod events;
mod limiter;
mod logging;
mod metrics;
mod records;
mod refusals;

pub use admin::{AdminServer, Health};
pub use events::Reporter;
pub use limiter::WarnLimiter;
pub use logging::{LogColour, LogFormat, LogSettings, init_logging};
pub use metrics::{Metrics, Up};
pub use records::{RecordSender, RecordSettings, RecordWriter, Written};
pub use refusals::{REFUSALS_MAX, RefusedSide, TlsRefusal, TlsRefusals};
