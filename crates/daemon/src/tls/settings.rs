//! What is spoken with one listener's clients or one peer: backend, lowest version, cipher suites. Owns the table of suites
//! and which choices are legacy; refuses to know the libraries that speak them and who asked for it.

use std::collections::BTreeMap;
use std::fmt;

use b2bua::codes::{self, Code};
use rustls::CipherSuite;

/// Who speaks TLS.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum Backend {
    /// TLS 1.2 and 1.3 with ECDHE and AEAD, nothing older.
    #[default]
    Rustls,
    /// Everything from TLS 1.0 on; cargo feature `openssl`.
    OpenSsl,
}

impl Backend {
    /// As the configuration spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Rustls => "rustls",
            Self::OpenSsl => "openssl",
        }
    }

    /// Whether it speaks this suite in this version; OpenSSL has every one that can be chosen.
    pub fn has(self, version: Version, suite: &Suite) -> bool {
        match self {
            Self::Rustls => version >= Version::V1_2 && suite.group() == Group::Modern,
            Self::OpenSsl => true,
        }
    }

    /// Whether this program has it.
    pub fn is_built(self) -> bool {
        match self {
            Self::Rustls => true,
            Self::OpenSsl => cfg!(feature = "openssl"),
        }
    }
}

/// Protocol versions.
#[derive(Copy, Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Version {
    /// TLS 1.0.
    V1_0,
    /// TLS 1.1.
    V1_1,
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

impl Version {
    /// From the oldest on.
    pub const ALL: [Self; 4] = [Self::V1_0, Self::V1_1, Self::V1_2, Self::V1_3];

    /// As it stands in messages (RFC 2246 §6.2.1, RFC 4346, RFC 5246, RFC 8446 §4.2.1).
    pub fn number(self) -> u16 {
        match self {
            Self::V1_0 => 0x0301,
            Self::V1_1 => 0x0302,
            Self::V1_2 => 0x0303,
            Self::V1_3 => 0x0304,
        }
    }

    /// Every suite of it that can be chosen, best first.
    pub fn suites(self) -> impl Iterator<Item = &'static Suite> {
        SUITES.iter().filter(move |suite| (suite.lowest()..=suite.highest()).contains(&self))
    }

    /// The version behind a number, if it is one of ours.
    pub fn of(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.number() == number)
    }
}

impl Version {
    /// For people.
    pub fn word(self) -> &'static str {
        match self {
            Self::V1_0 => "TLS 1.0",
            Self::V1_1 => "TLS 1.1",
            Self::V1_2 => "TLS 1.2",
            Self::V1_3 => "TLS 1.3",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A cipher suite that can be chosen: its number and its name in the IANA registry. The name says all the rest.
#[derive(Debug, Eq, PartialEq)]
pub struct Suite {
    /// As it stands in messages.
    pub number: u16,
    /// As the registry and Windows spell it.
    pub name: &'static str,
}

/// Every suite that can be chosen, best first. No DHE: Windows offers it beside ECDHE and often with 1024 bits. No 3DES, RC4,
/// NULL and export.
static SUITES: [Suite; 23] = [
    Suite { number: 0x1302, name: "TLS_AES_256_GCM_SHA384" },
    Suite { number: 0x1301, name: "TLS_AES_128_GCM_SHA256" },
    Suite { number: 0x1303, name: "TLS_CHACHA20_POLY1305_SHA256" },
    Suite { number: 0xc02c, name: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" },
    Suite { number: 0xc02b, name: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" },
    Suite { number: 0xcca9, name: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" },
    Suite { number: 0xc030, name: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" },
    Suite { number: 0xc02f, name: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" },
    Suite { number: 0xcca8, name: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" },
    Suite { number: 0xc024, name: "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384" },
    Suite { number: 0xc023, name: "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256" },
    Suite { number: 0xc028, name: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384" },
    Suite { number: 0xc027, name: "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256" },
    Suite { number: 0xc00a, name: "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA" },
    Suite { number: 0xc009, name: "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA" },
    Suite { number: 0xc014, name: "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA" },
    Suite { number: 0xc013, name: "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA" },
    Suite { number: 0x009d, name: "TLS_RSA_WITH_AES_256_GCM_SHA384" },
    Suite { number: 0x009c, name: "TLS_RSA_WITH_AES_128_GCM_SHA256" },
    Suite { number: 0x003d, name: "TLS_RSA_WITH_AES_256_CBC_SHA256" },
    Suite { number: 0x003c, name: "TLS_RSA_WITH_AES_128_CBC_SHA256" },
    Suite { number: 0x0035, name: "TLS_RSA_WITH_AES_256_CBC_SHA" },
    Suite { number: 0x002f, name: "TLS_RSA_WITH_AES_128_CBC_SHA" },
];

/// Suites that are chosen by one word.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Group {
    /// Forward secrecy and AEAD: all that rustls has.
    Modern,
    /// ECDHE with CBC.
    Cbc,
    /// RSA key exchange.
    Rsa,
}

impl Group {
    /// As `ciphers` spells it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Modern => "modern",
            Self::Cbc => "cbc",
            Self::Rsa => "rsa",
        }
    }
}

impl Suite {
    /// The suite with this number, if it can be chosen.
    pub fn of(number: u16) -> Option<&'static Self> {
        SUITES.iter().find(|suite| suite.number == number)
    }

    /// The word that chooses it.
    pub fn group(&self) -> Group {
        match () {
            () if self.name.starts_with("TLS_RSA_") => Group::Rsa,
            () if self.is_cbc() => Group::Cbc,
            () => Group::Modern,
        }
    }

    fn is_cbc(&self) -> bool {
        self.name.contains("_CBC_")
    }

    /// Authenticated by HMAC-SHA-1; the only ones below TLS 1.2.
    fn is_sha1(&self) -> bool {
        self.name.ends_with("_SHA")
    }

    /// Of TLS 1.3, where the suite says nothing about keys.
    pub fn is_tls13(&self) -> bool {
        self.lowest() == Version::V1_3
    }

    fn lowest(&self) -> Version {
        match self.number >> 8 {
            0x13 => Version::V1_3,
            _ if self.is_sha1() => Version::V1_0,
            _ => Version::V1_2,
        }
    }

    fn highest(&self) -> Version {
        self.lowest().max(Version::V1_2)
    }
}

/// The registry's name of any suite; its number where we know none.
pub(super) fn suite_name(number: u16) -> String {
    match (Suite::of(number), CipherSuite::from(number).as_str()) {
        (Some(suite), _) => suite.name.to_owned(),
        (None, Some(name)) => name.to_owned(),
        (None, None) => format!("0x{number:04x}"),
    }
}

/// What is old about a setting or a connection.
#[derive(Copy, Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Legacy {
    /// Protocol version.
    Tls10,
    /// Protocol version.
    Tls11,
    /// Suites without AEAD.
    Cbc,
    /// No forward secrecy.
    RsaKeyExchange,
    /// In the record protection, or below TLS 1.2 in the handshake's signatures.
    Sha1,
}

impl Legacy {
    /// From the oldest on.
    pub const ALL: [Self; 5] = [Self::Tls10, Self::Tls11, Self::Cbc, Self::RsaKeyExchange, Self::Sha1];

    /// For people and labels.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tls10 => "TLS 1.0",
            Self::Tls11 => "TLS 1.1",
            Self::Cbc => "CBC",
            Self::RsaKeyExchange => "RSA key exchange",
            Self::Sha1 => "SHA-1",
        }
    }

    fn of(versions: &[Version], suites: &[&Suite]) -> Vec<Self> {
        let has = |version| versions.contains(&version);
        let found = [
            (Self::Tls10, has(Version::V1_0)),
            (Self::Tls11, has(Version::V1_1)),
            (Self::Cbc, suites.iter().any(|suite| suite.is_cbc())),
            (Self::RsaKeyExchange, suites.iter().any(|suite| suite.group() == Group::Rsa)),
            (Self::Sha1, has(Version::V1_0) || has(Version::V1_1) || suites.iter().any(|s| s.is_sha1())),
        ];
        found.into_iter().filter_map(|(legacy, is_found)| is_found.then_some(legacy)).collect()
    }
}

/// What a finished handshake agreed upon.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct Agreed {
    /// Protocol version, as it stands in messages.
    pub version: u16,
    /// Suite, as it stands in messages.
    pub suite: u16,
}

impl Agreed {
    /// The suite's name.
    pub fn suite_name(self) -> String {
        suite_name(self.suite)
    }

    /// What is old about it.
    pub fn legacy(self) -> Vec<Legacy> {
        let versions: Vec<Version> = Version::of(self.version).into_iter().collect();
        Legacy::of(&versions, &Suite::of(self.suite).into_iter().collect::<Vec<_>>())
    }
}

/// What is spoken with one listener's clients or one peer; every combination that exists works.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsSettings {
    backend: Backend,
    versions: Vec<Version>,
    suites: Vec<&'static Suite>,
}

impl Default for TlsSettings {
    fn default() -> Self {
        let suites = SUITES.iter().filter(|suite| suite.group() == Group::Modern).collect();
        Self { backend: Backend::Rustls, versions: vec![Version::V1_2, Version::V1_3], suites }
    }
}

/// Why a choice does not work; the key of the configuration to blame is [`SettingsError::key`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// The backend is not part of this build.
    #[error(
        "`openssl` is not part of this build: build with `--features openssl`, or use the container image"
    )]
    NotBuilt,
    /// rustls begins at TLS 1.2.
    #[error(
        "rustls has nothing below TLS 1.2, so {0} needs `backend = \"openssl\"`; better: TLS 1.2 on at the peer"
    )]
    VersionNeedsOpenSsl(Version),
    /// rustls has ECDHE with AEAD only.
    #[error(
        "rustls has no {0}: it needs `backend = \"openssl\"`; better: an ECDSA certificate at the peer, or a newer Windows"
    )]
    SuiteNeedsOpenSsl(&'static str),
    /// A word that is no suite of ours.
    #[error("`{0}` is no suite that can be chosen; words: modern, cbc, rsa; names: {1}")]
    UnknownSuite(String, String),
    /// No suite at all.
    #[error("there is no suite that works with {0} or later")]
    NoSuite(Version),
    /// The lowest version would never be spoken.
    #[error(
        "none of these suites works with {0}, the lowest version; below TLS 1.2 only those that end in _CBC_SHA do"
    )]
    NothingFor(Version),
}

impl SettingsError {
    /// The key to blame.
    pub fn key(&self) -> &'static str {
        match self {
            Self::NotBuilt => "backend",
            Self::VersionNeedsOpenSsl(_) => "min_version",
            Self::SuiteNeedsOpenSsl(_) | Self::UnknownSuite(..) | Self::NoSuite(_) | Self::NothingFor(_) => {
                "ciphers"
            }
        }
    }

    /// What `umbra explain` knows it by.
    pub fn code(&self) -> Code {
        match self {
            Self::NotBuilt => codes::CFG_BACKEND,
            Self::VersionNeedsOpenSsl(_) | Self::SuiteNeedsOpenSsl(_) => codes::CFG_TLS_NEEDS_OPENSSL,
            Self::UnknownSuite(..) | Self::NoSuite(_) | Self::NothingFor(_) => codes::CFG_VALUE,
        }
    }
}

impl TlsSettings {
    /// Checks a choice. Without `ciphers`: what is modern, and for OpenSSL also ECDHE with CBC, which is what it is for.
    ///
    /// # Errors
    /// The backend cannot do that, or nothing would be spoken.
    pub fn new(backend: Backend, lowest: Version, ciphers: Option<&str>) -> Result<Self, SettingsError> {
        if !backend.is_built() {
            return Err(SettingsError::NotBuilt);
        }
        if backend == Backend::Rustls && lowest < Version::V1_2 {
            return Err(SettingsError::VersionNeedsOpenSsl(lowest));
        }
        let default = match backend {
            Backend::Rustls => "modern",
            Backend::OpenSsl => "modern cbc",
        };
        let mut suites = chosen(ciphers.unwrap_or(default))?;
        suites.retain(|suite| suite.highest() >= lowest);
        if let (Backend::Rustls, Some(suite)) = (backend, suites.iter().find(|s| s.group() != Group::Modern))
        {
            return Err(SettingsError::SuiteNeedsOpenSsl(suite.name));
        }
        let is_spoken =
            |version: &Version| suites.iter().any(|s| (s.lowest()..=s.highest()).contains(version));
        let versions: Vec<Version> =
            Version::ALL.into_iter().filter(|version| *version >= lowest).filter(is_spoken).collect();
        match versions.first() {
            None => Err(SettingsError::NoSuite(lowest)),
            Some(first) if *first != lowest && lowest < Version::V1_2 => {
                Err(SettingsError::NothingFor(lowest))
            }
            Some(_) => Ok(Self { backend, versions, suites }),
        }
    }

    /// Who speaks.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// From the oldest on; there is always one.
    pub fn versions(&self) -> &[Version] {
        &self.versions
    }

    /// In order of preference; there is always one.
    pub fn suites(&self) -> &[&'static Suite] {
        &self.suites
    }

    /// What is old about it.
    pub fn legacy(&self) -> Vec<Legacy> {
        Legacy::of(&self.versions, &self.suites)
    }
}

/// What is spoken where.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Spoken {
    /// With peers that have no settings of their own.
    pub general: TlsSettings,
    /// With those who connect to us: who that is shows only after it was spoken.
    pub listener: TlsSettings,
    /// With peers we connect to, by name in lower case.
    pub peers: BTreeMap<String, TlsSettings>,
}

impl Spoken {
    /// With that peer when we connect to it.
    pub fn toward(&self, name: &str) -> &TlsSettings {
        self.peers.get(name).unwrap_or(&self.general)
    }

    /// Where something old is allowed, and what.
    pub fn legacy(&self) -> Vec<(String, Vec<Legacy>)> {
        let places = [("listener", &self.listener), ("peers", &self.general)];
        let places =
            places.into_iter().chain(self.peers.iter().map(|(name, settings)| (name.as_str(), settings)));
        let told = places.map(|(place, settings)| (place.to_owned(), settings.legacy()));
        told.filter(|(_, legacy)| !legacy.is_empty()).collect()
    }
}

/// Suites by names and words, separated by spaces, commas or colons; each once, in the order given.
fn chosen(text: &str) -> Result<Vec<&'static Suite>, SettingsError> {
    let mut suites: Vec<&'static Suite> = Vec::new();
    let is_between = |c: char| c.is_whitespace() || matches!(c, ',' | ':');
    for word in text.split(is_between).filter(|word| !word.is_empty()) {
        let is_meant = |suite: &&Suite| {
            suite.name.eq_ignore_ascii_case(word) || suite.group().word().eq_ignore_ascii_case(word)
        };
        let before = suites.len();
        let meant: Vec<&'static Suite> = SUITES.iter().filter(is_meant).collect();
        suites.extend(meant.iter().filter(|suite| !suites.contains(suite)).collect::<Vec<_>>());
        if suites.len() == before && meant.is_empty() {
            let names: Vec<&str> = SUITES.iter().map(|suite| suite.name).collect();
            return Err(SettingsError::UnknownSuite(b2bua::verdict::clean(word), names.join(" ")));
        }
    }
    Ok(suites)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_is_named_as_rustls_knows_its_number() {
        for suite in &SUITES {
            let name = CipherSuite::from(suite.number).as_str().unwrap().replace("TLS13_", "TLS_");
            assert_eq!(name, suite.name, "{:04x}", suite.number);
        }
    }

    #[test]
    fn the_default_is_what_rustls_offers_and_has_nothing_legacy() {
        let settings = TlsSettings::new(Backend::Rustls, Version::V1_2, None).unwrap();
        assert_eq!(settings, TlsSettings::default());
        let mut ours: Vec<u16> = settings.suites().iter().map(|suite| suite.number).collect();
        let provider = crate::tls::provider();
        let mut theirs: Vec<u16> = provider.cipher_suites.iter().map(|s| s.suite().into()).collect();
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs);
        assert_eq!(settings.legacy(), []);
    }

    #[test]
    fn rustls_refuses_what_it_does_not_have_and_says_the_way_out() {
        let old = TlsSettings::new(Backend::Rustls, Version::V1_0, None).unwrap_err();
        assert_eq!(old.key(), "min_version");
        assert!(old.to_string().contains("TLS 1.0 needs `backend = \"openssl\"`"), "{old}");
        let cbc = TlsSettings::new(Backend::Rustls, Version::V1_2, Some("modern cbc")).unwrap_err();
        assert_eq!((cbc.key(), cbc.code()), ("ciphers", codes::CFG_TLS_NEEDS_OPENSSL));
        let unknown = TlsSettings::new(Backend::Rustls, Version::V1_2, Some("RC4-SHA")).unwrap_err();
        assert!(unknown.to_string().starts_with("`RC4-SHA` is no suite"), "{unknown}");
    }

    #[test]
    fn a_list_decides_which_versions_are_spoken() {
        let only = |text| TlsSettings::new(Backend::Rustls, Version::V1_2, Some(text)).unwrap();
        assert_eq!(only("TLS_AES_128_GCM_SHA256").versions(), [Version::V1_3]);
        assert_eq!(only("tls_ecdhe_rsa_with_aes_128_gcm_sha256").versions(), [Version::V1_2]);
        let none =
            TlsSettings::new(Backend::Rustls, Version::V1_3, Some("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"));
        assert_eq!(none, Err(SettingsError::NoSuite(Version::V1_3)));
    }

    #[cfg(not(feature = "openssl"))]
    #[test]
    fn a_build_without_openssl_names_the_feature() {
        let error = TlsSettings::new(Backend::OpenSsl, Version::V1_0, None).unwrap_err();
        assert_eq!((error.key(), error.code()), ("backend", codes::CFG_BACKEND));
        assert!(error.to_string().contains("--features openssl"), "{error}");
    }

    #[cfg(feature = "openssl")]
    #[test]
    fn what_is_legacy_about_openssl_settings_is_listed() {
        use Legacy::{Cbc, RsaKeyExchange, Sha1, Tls10, Tls11};
        let legacy =
            |lowest, ciphers| TlsSettings::new(Backend::OpenSsl, lowest, ciphers).map(|s| s.legacy());
        assert_eq!(legacy(Version::V1_2, Some("modern")), Ok(vec![]));
        assert_eq!(legacy(Version::V1_2, None), Ok(vec![Cbc, Sha1]));
        assert_eq!(legacy(Version::V1_0, Some("cbc rsa")), Ok(vec![Tls10, Tls11, Cbc, RsaKeyExchange, Sha1]));
        let modern = legacy(Version::V1_0, Some("modern"));
        assert_eq!(modern, Err(SettingsError::NothingFor(Version::V1_0)));
    }

    #[test]
    fn a_connection_tells_what_is_old_about_it() {
        let agreed = |version, suite| Agreed { version, suite }.legacy();
        assert_eq!(agreed(0x0304, 0x1301), []);
        assert_eq!(agreed(0x0303, 0xc028), [Legacy::Cbc]);
        assert_eq!(
            agreed(0x0301, 0x0035),
            [Legacy::Tls10, Legacy::Cbc, Legacy::RsaKeyExchange, Legacy::Sha1]
        );
    }
}
