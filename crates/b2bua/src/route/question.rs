//! The parts of a request that routing looks at, parsed once. Refuses to know messages beyond these headers.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;
use sip::{Diversion, HeaderId, Message, NameAddr, Uri};

use super::party::Party;
use crate::codes;
use crate::verdict::Refusal;

/// Diverting parties looked at; more are ignored, oldest kept.
pub const DIVERTERS_MAX: usize = 16;
/// Index of a UM IP gateway that there is not.
const NO_GATEWAY: usize = usize::MAX;

/// What is asked of [`super::route`].
#[derive(Clone, Debug)]
pub struct RouteQuestion {
    pub(super) gateway: usize,
    pub(super) request_uri: Uri,
    pub(super) from: Option<Party>,
    pub(super) asserted: Vec<Party>,
    pub(super) diverters: Vec<Diverter>,
    pub(super) notes: Vec<String>,
    by: CalledBy,
    is_mended: bool,
}

/// The header by which UM knows who was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum CalledBy {
    /// The last Diversion entry.
    #[serde(rename = "Diversion")]
    Diversion,
    /// The oldest entry of History-Info that is not the Request-URI.
    #[serde(rename = "History-Info")]
    HistoryInfo,
    /// The Request-URI itself.
    #[serde(rename = "Request-URI")]
    RequestUri,
}

/// Whom UM will take for the called one, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UmView {
    /// Address or number; empty when the request names nobody.
    pub called: String,
    /// What UM goes by.
    pub by: CalledBy,
    /// In words.
    pub why: String,
}

/// One diverting party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diverter {
    /// Who diverted.
    pub party: Party,
    /// Why, lower case; absent in Lync's dialect.
    pub reason: Option<String>,
}

/// Header values of a request that exists only as words, as `umbra route explain --to …` has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spoken<'a> {
    /// Request-URI, e.g. `sip:ken@contoso.com;opaque=app:voicemail`.
    pub request_uri: &'a str,
    /// From header value.
    pub from: &'a str,
    /// Diversion header values, newest first.
    pub diversions: &'a [String],
    /// History-Info header values, oldest first.
    pub history: &'a [String],
    /// P-Asserted-Identity header value.
    pub asserted: &'a str,
}

impl RouteQuestion {
    /// The question a request asks. Headers that cannot be read are noted and left out: only the Request-URI is needed.
    ///
    /// # Errors
    /// `UMB-ROUTE002` when the Request-URI is no URI.
    pub fn of(gateway: usize, message: &Message) -> Result<Self, Refusal> {
        let mut question = Self::to(gateway, message.request_uri())?;
        question.from = message.from().ok().and_then(|from| Party::of(&from.uri));
        for value in message.values_bytes(HeaderId::PAssertedIdentity) {
            question.add_asserted(value);
        }
        for value in message.values_bytes(HeaderId::Diversion) {
            question.add_diversion(value);
        }
        question.add_history(message.values_bytes(HeaderId::HistoryInfo));
        Ok(question)
    }

    /// The question a call of a UM server asks: it comes from no UM IP gateway.
    ///
    /// # Errors
    /// `UMB-ROUTE002` when the Request-URI is no URI.
    pub fn of_um(message: &Message) -> Result<Self, Refusal> {
        Self::of(NO_GATEWAY, message)
    }

    /// Who calls: asserted identities first.
    pub fn callers(&self) -> impl Iterator<Item = &Party> {
        self.asserted.iter().chain(&self.from)
    }

    /// The question that words ask.
    ///
    /// # Errors
    /// `UMB-ROUTE002` when the Request-URI is no URI.
    pub fn spoken(gateway: usize, words: &Spoken<'_>) -> Result<Self, Refusal> {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let mut question = Self::to(gateway, bytes(words.request_uri))?;
        question.from = NameAddr::parse_one(bytes(words.from)).ok().and_then(|from| Party::of(&from.uri));
        if !words.asserted.is_empty() {
            question.add_asserted(bytes(words.asserted));
        }
        for value in words.diversions {
            question.add_diversion(bytes(value));
        }
        question.add_history(words.history.iter().map(|value| bytes(value)));
        Ok(question)
    }

    /// The same of a call that UM places.
    ///
    /// # Errors
    /// `UMB-ROUTE002` when the Request-URI is no URI.
    pub fn spoken_by_um(words: &Spoken<'_>) -> Result<Self, Refusal> {
        Self::spoken(NO_GATEWAY, words)
    }

    /// Whom UM will take for the called one.
    pub fn um_view(&self) -> UmView {
        let count = self.diverters.len();
        let original = self.diverters.last();
        let bare = original.is_some_and(|original| original.reason.is_none());
        let mut why = match (self.by, count) {
            (CalledBy::Diversion, 1) if bare => "the only Diversion, bare as Lync writes it".to_owned(),
            (CalledBy::Diversion, 1) => "the only Diversion".to_owned(),
            (CalledBy::Diversion, _) => {
                format!(
                    "the last of {count} Diversion entries: it is the oldest, and UM goes by the original one"
                )
            }
            (CalledBy::HistoryInfo, _) => {
                "no Diversion; the oldest entry of History-Info that is not the Request-URI".to_owned()
            }
            (CalledBy::RequestUri, _) => "neither Diversion nor History-Info names another party".to_owned(),
        };
        if self.is_mended {
            why.push_str("; its quoting is malformed, which UM would refuse, and is mended on the way");
        }
        for note in &self.notes {
            why.push_str("; ");
            why.push_str(note);
        }
        let called = original.map(|original| original.party.shown());
        let called = called.or_else(|| Party::of(&self.request_uri).map(|party| party.shown()));
        UmView { called: called.unwrap_or_default(), by: self.by, why }
    }

    fn to(gateway: usize, raw: Bytes) -> Result<Self, Refusal> {
        let request_uri = Uri::parse(raw.clone()).map_err(|fault| {
            Refusal::new(codes::BAD_REQUEST_URI, "caller", format!("Request-URI cannot be read: {fault}"))
                .evidence(raw.escape_ascii().to_string())
        })?;
        Ok(Self {
            gateway,
            request_uri,
            from: None,
            asserted: Vec::new(),
            diverters: Vec::new(),
            notes: Vec::new(),
            by: CalledBy::RequestUri,
            is_mended: false,
        })
    }

    fn add_asserted(&mut self, value: Bytes) {
        match NameAddr::parse_list(value) {
            Ok(list) => self
                .asserted
                .extend(list.iter().take(DIVERTERS_MAX).filter_map(|entry| Party::of(&entry.uri))),
            Err(fault) => self.notes.push(format!("P-Asserted-Identity ignored: {fault}")),
        }
    }

    fn add_diversion(&mut self, value: Bytes) {
        let is_mended = matches!(Diversion::normalise_quoting(&value), Cow::Owned(_));
        match Diversion::parse(value) {
            Ok(list) => {
                self.is_mended |= is_mended;
                for entry in list.entries {
                    let Some(party) = Party::of(&entry.address.uri) else { continue };
                    let reason = entry.reason.map(|raw| String::from_utf8_lossy(&raw).to_ascii_lowercase());
                    self.by = CalledBy::Diversion;
                    self.push_diverter(Diverter { party, reason });
                }
            }
            Err(fault) => self.notes.push(format!("Diversion ignored: {fault}")),
        }
    }

    /// RFC 7044: every target the request had, oldest first, the last being the current one. It counts only where no
    /// Diversion says more.
    fn add_history(&mut self, values: impl Iterator<Item = Bytes>) {
        let mut entries = Vec::new();
        for value in values {
            match NameAddr::parse_list(value) {
                Ok(list) => entries.extend(list),
                Err(fault) => self.notes.push(format!("History-Info ignored: {fault}")),
            }
        }
        if !self.diverters.is_empty() {
            return;
        }
        let current = Party::of(&self.request_uri);
        for entry in entries.iter().rev().take(DIVERTERS_MAX) {
            let Some(party) = Party::of(&entry.uri) else { continue };
            if current.as_ref().is_some_and(|current| current.is_same(&party)) {
                continue;
            }
            self.by = CalledBy::HistoryInfo;
            self.push_diverter(Diverter { party, reason: history_reason(&entry.uri) });
        }
    }

    fn push_diverter(&mut self, diverter: Diverter) {
        if self.diverters.len() == DIVERTERS_MAX {
            self.diverters.remove(0);
        }
        self.diverters.push(diverter);
    }
}

/// The Reason that a History-Info entry carries in its URI, in Diversion's words.
fn history_reason(uri: &Uri) -> Option<String> {
    let reason = uri.header(HeaderId::Reason)?;
    let text = String::from_utf8_lossy(&reason).to_ascii_lowercase();
    let cause = text.split(';').find_map(|part| part.trim().strip_prefix("cause="))?.trim().to_owned();
    let word = match cause.as_str() {
        "486" | "600" => "user-busy",
        "408" | "480" => "no-answer",
        _ => "unconditional",
    };
    Some(word.to_owned())
}
