//! The registry of stable codes: what each `UMB-…` code means, what causes it, and how to fix it on the Exchange, Lync
//! and Umbra side. Codes never change their meaning; retired ones stay listed. Refuses to know who raises them.

mod calls;
mod configuration;
mod directory;
mod doctor;
mod hosted;
mod live;
mod peers;
mod recordings;
mod security;
mod tls;
mod transfers;

use serde::{Serialize, Serializer};

pub use calls::*;
pub use configuration::*;
pub use directory::*;
pub use doctor::*;
pub use hosted::*;
pub use live::*;
pub use peers::*;
pub use recordings::*;
pub use security::*;
pub use tls::*;
pub use transfers::*;

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
    /// The one of that name.
    pub fn named(code: &str) -> Option<Self> {
        lookup(code).map(Self)
    }

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
    [
        security::TABLE,
        calls::TABLE,
        hosted::TABLE,
        peers::TABLE,
        tls::TABLE,
        transfers::TABLE,
        configuration::TABLE,
        directory::TABLE,
        live::TABLE,
        recordings::TABLE,
        doctor::TABLE,
    ]
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_unique_and_well_formed() {
        let mut seen = std::collections::BTreeSet::new();
        for entry in all() {
            let (area, number) =
                entry.code.strip_prefix("UMB-").expect("prefix").split_at(entry.code.len() - 7);
            assert!(area.chars().all(|c| c.is_ascii_uppercase()) && area.len() >= 2, "{}", entry.code);
            assert!(number.len() == 3 && number.chars().all(|c| c.is_ascii_digit()), "{}", entry.code);
            assert!(seen.insert(entry.code), "{} twice", entry.code);
            assert!(entry.cause.ends_with('.') && !entry.title.is_empty(), "{}", entry.code);
        }
        assert!(seen.len() > 90);
    }

    #[test]
    fn refusals_use_the_application_range_of_ms_diagnostics() {
        for entry in all() {
            assert!(
                entry
                    .ms_diagnostics
                    .is_none_or(|id| (61001..=61006).contains(&id) || (62001..=62004).contains(&id)),
                "{}",
                entry.code
            );
            assert!(
                entry.ms_diagnostics.is_none() || entry.sip.is_some(),
                "{} has diagnostics but no answer",
                entry.code
            );
            assert!(entry.sip.is_none_or(|(status, _)| (400..700).contains(&status)), "{}", entry.code);
        }
    }

    #[test]
    fn codes_are_found_with_and_without_prefix_and_case() {
        for spelling in ["UMB-SEC001", "umb-sec001", "sec001", " SEC001 "] {
            assert_eq!(lookup(spelling).map(|e| e.code), Some("UMB-SEC001"), "{spelling}");
        }
        assert!(lookup("UMB-SEC999").is_none() && lookup("").is_none() && lookup("SEC").is_none());
    }

    #[test]
    fn numbers_lead_to_their_codes() {
        assert!(by_sip_status(488).any(|e| e.code == "UMB-SEC001"));
        assert!(by_ms_diagnostics(61002).any(|e| e.code == "UMB-ROUTE001"));
        assert_eq!(by_ms_diagnostics(15030).count(), 0);
    }
}
