//! Where values come from: one TOML file, merged with `UMBRA__…` environment overrides by the `config` crate, and a
//! span-keeping second pass that knows the line and column of every key. Refuses to know what a key means.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use b2bua::codes;
use config::{Config, Environment, File, FileFormat};
use serde_json::Value;
use toml_edit::{Document, Item, Value as TomlValue};

use super::problem::{Place, Problem, Problems};
use crate::directory::{Failure, View};

/// Longest configuration file read.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
const PREFIX: &str = "UMBRA__";

/// A merged configuration and the places of its keys.
pub(super) struct Source {
    file: PathBuf,
    text: String,
    tree: Value,
    spans: BTreeMap<String, Range<usize>>,
    /// Setting path → variable that set it.
    variables: BTreeMap<String, String>,
    /// `table[index]` → where in a directory the object stands.
    origins: BTreeMap<String, String>,
    is_extended: bool,
}

/// Reads a configuration file.
pub(super) fn read(file: &Path) -> Result<String, Box<Problem>> {
    let failed = |what: String| Box::new(Problem::of_file(codes::CFG_FILE, file, what));
    // Counted while reading: a device has no length to ask for and no end.
    let mut text = String::new();
    let length = std::fs::File::open(file)
        .and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| failed(error.to_string()))?;
    if length as u64 > FILE_BYTES_MAX {
        return Err(failed(format!("longer than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

impl Source {
    pub(super) fn merge<K, V>(
        file: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, Problems>
    where
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        let spans = spans_of(file, text)?;
        let overrides = overrides(environment);
        let variables = overrides.keys().map(|name| (setting_of(name), name.clone())).collect();
        let environment =
            Environment::with_prefix("UMBRA").prefix_separator("__").separator("__").source(Some(overrides));
        let merged = Config::builder()
            .add_source(File::from_str(text, FileFormat::Toml))
            .add_source(environment)
            .build()
            .and_then(Config::try_deserialize::<Value>);
        let tree = merged
            .map_err(|error| Problems::one(Problem::of_file(codes::CFG_SYNTAX, file, error.to_string())))?;
        Ok(Self {
            file: file.to_owned(),
            text: text.to_owned(),
            tree,
            spans,
            variables,
            origins: BTreeMap::new(),
            is_extended: false,
        })
    }

    /// Puts the objects of a directory behind those of the file; what was left out of them.
    pub(super) fn extend(&mut self, view: &View) -> Result<Vec<String>, Problems> {
        let refused =
            |failure: Failure| Problems::one(Problem::of_file(failure.code, &self.file, failure.what));
        let beside = view.beside(&self.tree).map_err(refused)?;
        self.is_extended = true;
        let Some(tables) = self.tree.as_object_mut() else { return Ok(Vec::new()) };
        for addition in beside.additions {
            let table = tables.entry(addition.table).or_insert_with(|| Value::Array(Vec::new()));
            // What is no list of tables is the reader's to refuse.
            let Some(list) = table.as_array_mut() else { continue };
            self.origins.insert(format!("{}[{}]", addition.table, list.len()), addition.origin);
            list.push(Value::Object(addition.values));
        }
        Ok(beside.remarks)
    }

    /// Whether a view of a directory, however small, is part of it.
    pub(super) fn is_extended(&self) -> bool {
        self.is_extended
    }

    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn tree(&self) -> &Value {
        &self.tree
    }

    /// Whether the setting came from the environment.
    pub(super) fn variable(&self, setting: &str) -> Option<&str> {
        self.variables.get(setting).map(String::as_str)
    }

    /// Where a setting stands; of one that is not there, its nearest parent.
    pub(super) fn place(&self, setting: &str) -> Place {
        if let Some(name) = self.variable(setting) {
            return Place { file: format!("environment {name}"), line: 0, column: 0 };
        }
        let object = setting.find(']').map_or(setting, |end| &setting[..=end]);
        if let Some(origin) = self.origins.get(object) {
            return Place { file: format!("directory {origin}"), line: 0, column: 0 };
        }
        let mut path = setting;
        loop {
            if let Some(span) = self.spans.get(path) {
                return place(&self.file, &self.text, span.start);
            }
            match path.rfind(['.', '[']) {
                Some(at) => path = &path[..at],
                None => return Place { file: self.file.display().to_string(), line: 1, column: 1 },
            }
        }
    }
}

fn overrides<K: AsRef<OsStr>, V: AsRef<OsStr>>(
    all: impl IntoIterator<Item = (K, V)>,
) -> HashMap<String, String> {
    let text = |value: &OsStr| value.to_str().map(str::to_owned);
    all.into_iter()
        .filter_map(|(name, value)| Some((text(name.as_ref())?, text(value.as_ref())?)))
        .filter(|(name, _)| name.starts_with(PREFIX) && name.len() > PREFIX.len())
        .collect()
}

/// `UMBRA__LISTEN__TLS_PORT` → `listen.tls_port`.
fn setting_of(variable: &str) -> String {
    variable[PREFIX.len()..].replace("__", ".").to_ascii_lowercase()
}

fn spans_of(file: &Path, text: &str) -> Result<BTreeMap<String, Range<usize>>, Problems> {
    let document = Document::parse(text).map_err(|error| {
        let mut problem = Problem::of_file(codes::CFG_SYNTAX, file, first_line(error.message()));
        problem.place = place(file, text, error.span().map_or(0, |span| span.start));
        Problems::one(problem)
    })?;
    let mut spans = BTreeMap::new();
    for (key, item) in document.as_table().iter() {
        let span = document.as_table().key(key).and_then(|key| key.span());
        walk(key.to_owned(), span, item, &mut spans);
    }
    Ok(spans)
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or("not TOML").to_owned()
}

fn walk(path: String, key: Option<Range<usize>>, item: &Item, spans: &mut BTreeMap<String, Range<usize>>) {
    if let Some(span) = key.or_else(|| item.span()) {
        spans.insert(path.clone(), span);
    }
    match item {
        Item::Table(table) => {
            for (key, item) in table.iter() {
                walk(format!("{path}.{key}"), table.key(key).and_then(|key| key.span()), item, spans);
            }
        }
        Item::ArrayOfTables(tables) => {
            for (index, table) in tables.iter().enumerate() {
                let path = format!("{path}[{index}]");
                if let Some(span) = table.span() {
                    spans.insert(path.clone(), span);
                }
                for (key, item) in table.iter() {
                    walk(format!("{path}.{key}"), table.key(key).and_then(|key| key.span()), item, spans);
                }
            }
        }
        Item::Value(value) => walk_value(&path, value, spans),
        Item::None => {}
    }
}

fn walk_value(path: &str, value: &TomlValue, spans: &mut BTreeMap<String, Range<usize>>) {
    match value {
        TomlValue::InlineTable(table) => {
            for (key, value) in table.iter() {
                let path = format!("{path}.{key}");
                if let Some(span) = table.key(key).and_then(|key| key.span()).or_else(|| value.span()) {
                    spans.insert(path.clone(), span);
                }
                walk_value(&path, value, spans);
            }
        }
        TomlValue::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                let path = format!("{path}[{index}]");
                if let Some(span) = value.span() {
                    spans.insert(path.clone(), span);
                }
                walk_value(&path, value, spans);
            }
        }
        _ => {}
    }
}

fn place(file: &Path, text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    Place {
        file: file.display().to_string(),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}
