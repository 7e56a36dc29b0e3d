//! What an operator sees from outside: log lines, metrics, call records and the admin endpoint. Owns names and shapes
//! of all of them; refuses to decide anything.

mod admin;
mod asking;
mod directory;
mod events;
mod limiter;
mod logging;
mod media;
mod metrics;
mod records;
mod refusals;
mod status;

pub(crate) use admin::is_from_here;
pub use admin::{AdminServer, Health, Ordered, Orders, Pages, ServerWish, Standing};
pub use asking::{ask, order};
pub use directory::{DirectoryStanding, DirectoryTrouble, LiveDirectory, Reading};
pub use events::Reporter;
pub(crate) use events::{calendar, reason};
pub use limiter::WarnLimiter;
pub use logging::{LogColour, LogFormat, LogSettings, init_logging};
pub use metrics::{CertificateLabels, Metrics, Up};
#[cfg(test)]
pub(crate) use records::tests::record as a_record;
pub use records::{RecordSender, RecordSettings, RecordWriter, Written};
pub use refusals::{REFUSALS_MAX, RefusedSide, TlsRefusal, TlsRefusals};
pub use status::{
    Calls, ChangedTo, Connections, Direction, FailedHandshakes, LegacyAllowed, LegacyUsed, OwnCertificate,
    PeerChange, PeerState, PeerStatus, Presented, ProbeStatus, Reload, Role, RtpPorts, Spoken, Status,
    WeakUsed,
};

/// A moment as RFC 3339 writes it, UTC.
pub(crate) fn rfc3339(at: std::time::SystemTime) -> String {
    let at = time::OffsetDateTime::from(at);
    at.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}
