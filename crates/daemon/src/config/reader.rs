//! A table of the merged configuration, read key by key. Every wrong, missing or unknown key becomes a finding with its
//! place, and reading goes on with a harmless value, so that one run shows all problems.

use std::cell::RefCell;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use b2bua::{Code, codes};
use relay::Network;
use serde_json::{Map, Value};

use super::problem::{Problem, Problems, Severity};
use super::source::Source;
use super::words;

/// Everything found so far.
pub(super) struct Findings<'a> {
    source: &'a Source,
    list: RefCell<Vec<Problem>>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self { source, list: RefCell::default() }
    }

    fn push(&self, severity: Severity, code: Code, setting: &str, what: String, fix: Option<String>) {
        let entry = code.entry();
        let fallback = if entry.fix_umbra.is_empty() { entry.remedy() } else { entry.fix_umbra };
        self.list.borrow_mut().push(Problem {
            severity,
            code,
            place: self.source.place(setting),
            setting: setting.to_owned(),
            what,
            cause: entry.cause,
            fix: fix.unwrap_or_else(|| fallback.to_owned()),
        });
    }

    pub(super) fn into_problems(self) -> Problems {
        Problems::sorted(self.source.file(), self.list.into_inner())
    }
}

/// One table.
pub(super) struct Reader<'a> {
    values: Option<&'a Map<String, Value>>,
    path: String,
    findings: &'a Findings<'a>,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Reader<'a> {
    pub(super) fn root(tree: &'a Value, findings: &'a Findings<'a>) -> Self {
        Self { values: tree.as_object(), path: String::new(), findings, known: RefCell::default() }
    }

    /// Whether the file has the table at all.
    pub(super) fn is_present(&self) -> bool {
        self.values.is_some()
    }

    pub(super) fn error(&self, code: Code, key: &str, what: impl Into<String>) {
        self.findings.push(Severity::Error, code, &self.setting(key), what.into(), None);
    }

    pub(super) fn warn(&self, code: Code, key: &str, what: impl Into<String>) {
        self.findings.push(Severity::Warning, code, &self.setting(key), what.into(), None);
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(&self) {
        let known = self.known.borrow();
        for key in self.values.into_iter().flat_map(Map::keys).filter(|key| !known.contains(&key.as_str())) {
            let setting = self.setting(key);
            let code = match self.findings.source.variable(&setting) {
                Some(_) => codes::CFG_ENVIRONMENT,
                None => codes::CFG_UNKNOWN_KEY,
            };
            let fix = match words::suggestion(key, known.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("known here: {}", known.join(", ")),
            };
            self.findings.push(
                Severity::Error,
                code,
                &setting,
                format!("`{key}` is no setting here"),
                Some(fix),
            );
        }
    }

    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        let value = self.value(key)?;
        match value {
            Value::String(text) => Some(text.clone()),
            // The environment has no types; neither does a version number written as `1.2`.
            Value::Number(number) if self.is_override(key) => Some(number.to_string()),
            _ => self.wrong_type(key, "text in quotes"),
        }
    }

    /// A required text; empty after a finding.
    pub(super) fn need_text(&self, key: &'static str) -> String {
        self.need(key);
        self.text(key).unwrap_or_default()
    }

    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        match self.value(key)? {
            Value::Bool(flag) => Some(*flag),
            Value::String(text) if text.eq_ignore_ascii_case("true") && self.is_override(key) => Some(true),
            Value::String(text) if text.eq_ignore_ascii_case("false") && self.is_override(key) => Some(false),
            _ => self.wrong_type(key, "true or false"),
        }
    }

    pub(super) fn whole(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let number = match self.value(key)? {
            Value::Number(number) => number.as_u64(),
            Value::String(text) if self.is_override(key) => text.trim().parse().ok(),
            _ => return self.wrong_type(key, "a whole number"),
        };
        match number.filter(|number| range.contains(number)) {
            Some(number) => Some(number),
            None => {
                let what = format!("must be a whole number from {} to {}", range.start(), range.end());
                self.error(codes::CFG_RANGE, key, what);
                None
            }
        }
    }

    /// A whole number, or a word.
    pub(super) fn text_or_whole(
        &self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<Result<u64, String>> {
        match self.value(key)? {
            Value::String(text) if text.trim().parse::<u64>().is_err() => Some(Err(text.clone())),
            _ => self.whole(key, range).map(Ok),
        }
    }

    pub(super) fn port(&self, key: &'static str) -> Option<u16> {
        self.whole(key, 1..=65535).and_then(|port| u16::try_from(port).ok())
    }

    pub(super) fn duration(&self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let text = self.text(key)?;
        let Some(duration) = words::duration(&text) else {
            self.error(codes::CFG_VALUE, key, format!("`{text}` is no duration; write 500ms, 5s, 30m or 1h"));
            return None;
        };
        if !range.contains(&duration) {
            let what = format!("{text} is outside {:?} to {:?}", range.start(), range.end());
            self.error(codes::CFG_RANGE, key, what);
            return None;
        }
        Some(duration)
    }

    /// An amount of octets.
    pub(super) fn size(&self, key: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        let text = self.text(key)?;
        let size = words::size(&text);
        match size {
            None => {
                let what = format!("`{text}` is no size; write 512KiB, 64MiB or 10GiB");
                self.error(codes::CFG_VALUE, key, what);
            }
            Some(size) if !range.contains(&size) => {
                let what = format!("{text} is outside {} to {} octets", range.start(), range.end());
                self.error(codes::CFG_RANGE, key, what);
            }
            Some(_) => {}
        }
        size.filter(|size| range.contains(size))
    }

    /// One of several words, in any case.
    pub(super) fn word<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let hit = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(&text));
        if hit.is_none() {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let fix = match words::suggestion(&text, all.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`? Words: {}", all.join(", ")),
                None => format!("use one of {}", all.join(", ")),
            };
            let what = format!("`{text}` is not understood");
            self.findings.push(Severity::Error, codes::CFG_VALUE, &self.setting(key), what, Some(fix));
        }
        hit.map(|(_, value)| *value)
    }

    /// A required word.
    pub(super) fn need_word<T: Copy>(&self, key: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        self.need(key);
        self.word(key, words)
    }

    /// A list of texts; a single text counts as a list of one.
    pub(super) fn list(&self, key: &'static str) -> Option<Vec<String>> {
        match self.value(key)? {
            Value::String(text) if self.is_override(key) => Some(
                text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect(),
            ),
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(values) => {
                let texts: Option<Vec<String>> =
                    values.iter().map(|v| v.as_str().map(str::to_owned)).collect();
                texts.or_else(|| self.wrong_type(key, "a list of texts"))
            }
            _ => self.wrong_type(key, "a list of texts"),
        }
    }

    /// A required list.
    pub(super) fn need_list(&self, key: &'static str) -> Vec<String> {
        self.need(key);
        self.list(key).unwrap_or_default()
    }

    /// A list of whole numbers or words.
    pub(super) fn mixed_list(&self, key: &'static str) -> Option<Vec<Value>> {
        match self.value(key)? {
            Value::Array(values) => Some(values.clone()),
            _ => self.wrong_type(key, "a list"),
        }
    }

    /// A list of IP addresses.
    pub(super) fn addresses(&self, key: &'static str) -> Option<Vec<IpAddr>> {
        let parse = |text: &String| {
            let address = text.parse::<IpAddr>().ok();
            if address.is_none() {
                self.error(codes::CFG_VALUE, key, format!("`{text}` is no IP address"));
            }
            address
        };
        Some(self.list(key)?.iter().filter_map(parse).collect())
    }

    /// A list of networks: addresses, or addresses with the length of a prefix. An empty one is refused, for it would
    /// allow everything while it looks as if it allowed nothing.
    pub(super) fn networks(&self, key: &'static str) -> Option<Vec<Network>> {
        let texts = self.list(key)?;
        if texts.is_empty() {
            self.error(codes::CFG_VALUE, key, "is empty; leave it out to allow every address");
        }
        let parse = |text: &String| {
            let network = text.parse::<Network>();
            network
                .map_err(|fault| {
                    self.error(codes::CFG_VALUE, key, format!("`{text}` is no network: {fault}"))
                })
                .ok()
        };
        Some(texts.iter().filter_map(parse).collect())
    }

    /// A path; relative ones start at the folder of the configuration file.
    pub(super) fn file(&self, key: &'static str, base: &Path) -> Option<PathBuf> {
        self.text(key).map(|text| base.join(text))
    }

    /// A sub-table; present or not, it can be read.
    pub(super) fn table(&self, key: &'static str) -> Reader<'a> {
        let value = self.value(key);
        let values = value.and_then(Value::as_object);
        if value.is_some() && values.is_none() {
            self.wrong_type::<()>(key, "a table");
        }
        Reader { values, path: self.setting(key), findings: self.findings, known: RefCell::default() }
    }

    /// An array of tables.
    pub(super) fn tables(&self, key: &'static str) -> Vec<Reader<'a>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(values) = value.as_array().filter(|values| values.iter().all(Value::is_object)) else {
            self.wrong_type::<()>(key, &format!("a list of tables, [[{key}]]"));
            return Vec::new();
        };
        let path = self.setting(key);
        let reader = |(index, value): (usize, &'a Value)| Reader {
            values: value.as_object(),
            path: format!("{path}[{index}]"),
            findings: self.findings,
            known: RefCell::default(),
        };
        values.iter().enumerate().map(reader).collect()
    }

    /// A key of the documented shape whose value is not looked at here.
    pub(super) fn accept(&self, keys: &[&'static str]) {
        self.known.borrow_mut().extend(keys);
    }

    fn need(&self, key: &'static str) {
        if self.value(key).is_none() {
            let what = match self.is_present() {
                true => format!("`{key}` is missing"),
                false => format!("`{key}` is missing; so is the section"),
            };
            self.error(codes::CFG_MISSING_KEY, key, what);
        }
    }

    fn value(&self, key: &'static str) -> Option<&'a Value> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.values?.get(key).filter(|value| !value.is_null())
    }

    fn wrong_type<T>(&self, key: &str, wanted: &str) -> Option<T> {
        let code = if self.is_override(key) { codes::CFG_ENVIRONMENT } else { codes::CFG_TYPE };
        self.error(code, key, format!("must be {wanted}"));
        None
    }

    fn is_override(&self, key: &str) -> bool {
        self.findings.source.variable(&self.setting(key)).is_some()
    }

    pub(super) fn setting(&self, key: &str) -> String {
        match (self.path.is_empty(), key.is_empty()) {
            (true, _) => key.to_owned(),
            (_, true) => self.path.clone(),
            _ => format!("{}.{key}", self.path),
        }
    }
}
