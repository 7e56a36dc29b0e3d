//! The registry of stable codes: what each `UMB-…` code means, what causes it, and how to fix it on the Exchange, Lync
//! and Umbra side. Codes never change their meaning; retired ones stay listed. Refuses to know who raises them.

mod calls;
mod configuration;
mod peers;
mod security;
mod tls;

use serde::{Serialize, Serializer};

pub use calls::*;
pub use configuration::*;
pub use peers::*;
pub use security::*;
pub use tls::*;

/// What `umbra explain CODE` prints.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct CodeEntry {
    /// `UMB-SEC001`.
    pub code: &'static str,
    /// A few words.
    pub title: &'static str,
    /// Why it happens.
    pub cause: &'static str,
    /// What to do on the Exchange side; empty when there is nothing.
    pub fix_exchange: &'static str,
    /// What to do on the Lync side; empty when there is nothing.
    pub fix_lync: &'static str,
    /// What to do here; empty when there is nothing.
    pub fix_umbra: &'static str,
    /// SIP answer the peer sees, when the code is a refusal.
    pub sip: Option<(u16, &'static str)>,
    /// Number in the `ms-diagnostics` header.
    pub ms_diagnostics: Option<u32>,
}

impl CodeEntry {
    /// The first fix there is: Exchange, Lync, here.
    pub fn remedy(&self) -> &'static str {
        [self.fix_exchange, self.fix_lync, self.fix_umbra]
            .into_iter()
            .find(|fix| !fix.is_empty())
            .unwrap_or_default()
    }
}

/// A code of the registry.
#[derive(Clone, Copy)]
pub struct Code(&'static CodeEntry);

impl Code {
    /// `UMB-SEC001`.
    pub fn as_str(self) -> &'static str {
        self.0.code
    }

    /// Its registry entry.
    pub fn entry(self) -> &'static CodeEntry {
        self.0
    }
}

impl PartialEq for Code {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Code {}

impl std::hash::Hash for Code {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Every entry, grouped by area.
pub fn all() -> impl Iterator<Item = &'static CodeEntry> {
    [security::TABLE, calls::TABLE, peers::TABLE, tls::TABLE, configuration::TABLE]
        .into_iter()
        .flatten()
        .map(|code| code.entry())
}

/// Looks a code up; case and the `UMB-` prefix do not matter.
pub fn lookup(code: &str) -> Option<&'static CodeEntry> {
    let wanted = code.trim();
    all().find(|entry| {
        let short = entry.code.strip_prefix("UMB-").unwrap_or(entry.code);
        entry.code.eq_ignore_ascii_case(wanted) || short.eq_ignore_ascii_case(wanted)
    })
}

/// Entries whose answer carries this `ms-diagnostics` number.
pub fn by_ms_diagnostics(id: u32) -> impl Iterator<Item = &'static CodeEntry> {
    all().filter(move |entry| entry.ms_diagnostics == Some(id))
}

/// Entries that answer with this SIP status.
pub fn by_sip_status(status: u16) -> impl Iterator<Item = &'static CodeEntry> {
    all().filter(move |entry| entry.sip.is_some_and(|(own, _)| own == status))
}

/// One area of the registry: a constant per code and a `TABLE` of them.
macro_rules! registry {
    ($( $(#[$doc:meta])* $name:ident = $code:literal, $title:literal, sip $sip:expr, ms $ms:expr,
        cause $cause:literal, exchange $exchange:literal, lync $lync:literal, umbra $umbra:literal; )*) => {
        $(
            #[doc = concat!("`", $code, "`: ", $title, ".")]
            pub const $name: $crate::codes::Code = $crate::codes::Code(&$crate::codes::CodeEntry {
                code: $code, title: $title, cause: $cause, fix_exchange: $exchange, fix_lync: $lync, fix_umbra: $umbra,
                sip: $sip, ms_diagnostics: $ms,
            });
        )*
        pub(super) const TABLE: &[$crate::codes::Code] = &[$($name),*];
    };
}
use registry;
