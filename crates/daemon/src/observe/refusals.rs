//! The last TLS handshakes that failed, in either direction: who, which side, why. Owns a ring of fixed size; refuses to
//! count, which is the metrics' business.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use b2bua::Code;
use b2bua::verdict::clean;
use serde::{Deserialize, Serialize};

use super::rfc3339;
use crate::tls::RefusedLeaf;

/// How many are kept; the oldest goes first.
pub const REFUSALS_MAX: usize = 64;
/// Characters of a name or a detail that are kept.
const TEXT_MAX: usize = 500;

/// Who opened the connection.
#[derive(Copy, Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedSide {
    /// The far end.
    Inbound,
    /// We.
    Outbound,
}

/// One handshake that failed.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TlsRefusal {
    /// When, RFC 3339.
    pub at: String,
    /// Who opened the connection.
    pub side: RefusedSide,
    /// The far end.
    pub remote: SocketAddr,
    /// Whom we wanted to reach; empty when they came to us.
    pub name: String,
    /// The label of the reason, as in the metrics.
    pub reason: Cow<'static, str>,
    /// What `umbra explain` knows it by.
    pub code: Cow<'static, str>,
    /// What was seen, cleaned.
    pub detail: String,
    /// What we refused, when it was a certificate that can be read.
    pub certificate: Option<RefusedLeaf>,
}

impl TlsRefusal {
    /// Who failed: the far end, and whom we meant when we connected to it.
    pub fn whom(&self) -> String {
        match self.side {
            RefusedSide::Inbound => format!("of {}", self.remote.ip()),
            RefusedSide::Outbound => format!("with {} {}", self.name, self.remote),
        }
    }
}

/// The ring.
#[derive(Default)]
pub struct TlsRefusals {
    last: Mutex<VecDeque<TlsRefusal>>,
    count: AtomicU64,
}

impl TlsRefusals {
    /// Keeps one.
    pub fn note(
        &self,
        side: RefusedSide,
        (remote, name): (SocketAddr, &str),
        (reason, code): (&'static str, Code),
        detail: &str,
        certificate: Option<RefusedLeaf>,
    ) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let at = rfc3339(SystemTime::now());
        let short = |text: &str| clean(text).chars().take(TEXT_MAX).collect::<String>();
        let (name, detail) = (short(name), short(detail));
        let (reason, code) = (reason.into(), code.as_str().into());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= REFUSALS_MAX {
            last.pop_front();
        }
        last.push_back(TlsRefusal { at, side, remote, name, reason, code, detail, certificate });
    }

    /// How many there ever were.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// All that are kept, oldest first.
    pub fn all(&self) -> Vec<TlsRefusal> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_nothing_reaches_a_terminal_unescaped() {
        let ring = TlsRefusals::default();
        let remote: SocketAddr = "192.0.2.9:5061".parse().unwrap();
        for number in 0..=REFUSALS_MAX {
            let detail = format!("\u{1b}[2J{number} {}", "x".repeat(10_000));
            let why = ("expired", b2bua::codes::EXPIRED);
            ring.note(RefusedSide::Inbound, (remote, "evil\r\nname"), why, &detail, None);
        }
        let kept = ring.all();
        assert_eq!((kept.len(), ring.count()), (REFUSALS_MAX, REFUSALS_MAX as u64 + 1));
        assert!(
            kept[0].detail.contains("1 x") && kept.iter().all(|refusal| refusal.detail.len() <= TEXT_MAX)
        );
        let text = serde_json::to_string(&kept).unwrap();
        assert!(!text.chars().any(char::is_control) && !text.contains("\\u001b"), "{text}");
        assert!(text.contains("\"side\":\"inbound\"") && text.contains("UMB-TLS"));
    }
}
