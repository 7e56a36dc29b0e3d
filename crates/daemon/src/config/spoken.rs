//! What is spoken over TLS and where: `backend`, `min_version` and `ciphers` of `[tls]`, and `tls = { … }` of `[listen]` and of
//! peers. Owns the inheritance; which choices work is for `tls`.

use std::collections::BTreeMap;

use b2bua::codes;

use super::reader::Reader;
use crate::tls::{Backend, Spoken, TlsSettings, Version};

/// The three keys, as far as they are given.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Choice {
    /// Path of the table.
    place: String,
    backend: Option<Backend>,
    lowest: Option<Version>,
    ciphers: Option<String>,
}

impl Choice {
    /// What a table of them holds.
    pub(super) const KEYS: [&'static str; 3] = ["backend", "min_version", "ciphers"];

    /// The keys of a table that has others too.
    pub(super) fn of_section(table: &Reader<'_>) -> Self {
        let versions =
            [("1.0", Version::V1_0), ("1.1", Version::V1_1), ("1.2", Version::V1_2), ("1.3", Version::V1_3)];
        Self {
            place: table.setting(""),
            backend: table.word("backend", &[("rustls", Backend::Rustls), ("openssl", Backend::OpenSsl)]),
            lowest: table.word("min_version", &versions),
            ciphers: table.text("ciphers"),
        }
    }

    /// `tls = { … }` of a listener or peer.
    pub(super) fn of_inline(owner: &Reader<'_>) -> Self {
        let table = owner.table("tls");
        let choice = Self::of_section(&table);
        table.finish();
        choice
    }

    /// Whether any of them is given.
    pub(super) fn is_present(&self) -> bool {
        self.backend.is_some() || self.lowest.is_some() || self.ciphers.is_some()
    }

    /// What is not given here is that of `general`.
    fn over(&self, general: &Self) -> Self {
        Self {
            place: self.place.clone(),
            backend: self.backend.or(general.backend),
            lowest: self.lowest.or(general.lowest),
            ciphers: self.ciphers.clone().or_else(|| general.ciphers.clone()),
        }
    }

    /// Reports what does not work, and what is old about it.
    fn compile(&self, with: &str, root: &Reader<'_>) -> TlsSettings {
        let lowest = self.lowest.unwrap_or(Version::V1_2);
        match TlsSettings::new(self.backend.unwrap_or_default(), lowest, self.ciphers.as_deref()) {
            Ok(settings) => {
                let legacy: Vec<&str> = settings.legacy().into_iter().map(|legacy| legacy.word()).collect();
                if !legacy.is_empty() {
                    root.warn(
                        codes::TLS_LEGACY,
                        &self.place,
                        format!("{} may be spoken with {with}", legacy.join(", ")),
                    );
                }
                settings
            }
            Err(error) => {
                root.error(error.code(), &format!("{}.{}", self.place, error.key()), error.to_string());
                TlsSettings::default()
            }
        }
    }
}

/// Settings of every place; one that says nothing of its own is not told of again.
pub(super) fn compile(
    general: &Choice,
    listener: &Choice,
    peers: &[(Choice, Vec<String>)],
    root: &Reader<'_>,
) -> Spoken {
    let of_all = general.compile("whoever has no settings of its own", root);
    let own = |choice: &Choice, with: &str| match choice.is_present() {
        true => choice.over(general).compile(with, root),
        false => of_all.clone(),
    };
    let mut by_name = BTreeMap::new();
    for (choice, names) in peers {
        let settings = own(choice, &names.join(", "));
        by_name.extend(names.iter().map(|name| (name.to_ascii_lowercase(), settings.clone())));
    }
    Spoken { listener: own(listener, "whoever connects to us"), peers: by_name, general: of_all }
}
