//! What a fresh export and a configuration say differently. Compares only what the export speaks of: kinds whose cmdlet was run,
//! keys that it prints; a key that is left out here counts as the product's default.

use std::collections::BTreeSet;

use b2bua::{Code, codes};
use serde::Serialize;
use serde_json::Value;

use super::collect::{Imported, Object};
use super::export::duration_secs;
use super::table::{Count, Field, Form, KINDS, Kind};

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// Stable code.
    pub code: Code,
    /// Table of the configuration.
    pub table: &'static str,
    /// Which object.
    pub name: String,
    /// Key; empty when the whole object is meant.
    pub key: String,
    /// What the configuration says.
    pub here: String,
    /// What Exchange or Lync says.
    pub there: String,
}

/// Compares an export with the tree of a configuration file.
pub fn drift(found: &Imported, tree: &Value) -> Vec<Drift> {
    let fqdn = tree.get("gateway").and_then(|gateway| gateway.get("fqdn")).and_then(Value::as_str);
    let own = found.own_gateways(fqdn.unwrap_or_default());
    let mut all = Vec::new();
    for kind in KINDS.iter().filter(|kind| found.cmdlets.contains(kind.cmdlet)) {
        let here: Vec<&Value> = match (tree.get(kind.table), kind.count) {
            (Some(Value::Array(list)), Count::Many) => list.iter().collect(),
            (Some(section), Count::One) => vec![section],
            _ => Vec::new(),
        };
        let there: Vec<&Object> = found.of(kind.table).filter(|object| !object.is_of(&own)).collect();
        compare(kind, &here, &there, &mut all);
    }
    // Where UM knows this gateway, the peers behind it and their pilots are this configuration's business alone.
    let is_ours = |drift: &Drift| {
        drift.code == codes::DRIFT_EXTRA && matches!(drift.table, "ip_gateway" | "hunt_group")
    };
    all.retain(|drift| own.is_empty() || !is_ours(drift));
    all
}

fn compare(kind: &'static Kind, here: &[&Value], there: &[&Object], all: &mut Vec<Drift>) {
    let mut met = BTreeSet::new();
    for there in there {
        let at = here.iter().position(|own| is_same(kind, own, there));
        let Some(at) = at else {
            if kind.count == Count::Many {
                all.push(whole(codes::DRIFT_MISSING, kind, there.name()));
            }
            continue;
        };
        met.insert(at);
        values(kind, here[at], there, all);
    }
    for (at, own) in here.iter().enumerate() {
        if kind.count == Count::Many && !met.contains(&at) {
            all.push(whole(codes::DRIFT_EXTRA, kind, name_of(own)));
        }
    }
}

fn whole(code: Code, kind: &Kind, name: String) -> Drift {
    Drift { code, table: kind.table, name, key: String::new(), here: String::new(), there: String::new() }
}

fn name_of(own: &Value) -> String {
    let keys = ["name", "alias", "identity", "sip_address", "fqdn"];
    keys.iter().find_map(|key| own.get(*key)?.as_str()).unwrap_or_default().to_owned()
}

pub(super) fn is_same(kind: &Kind, own: &Value, there: &Object) -> bool {
    kind.identity.iter().all(|key| {
        let form = kind.fields.iter().find(|field| field.key == *key).map_or(Form::Text, |field| field.form);
        plain(form, own.get(*key)) == plain(form, there.get(key))
    })
}

fn values(kind: &'static Kind, own: &Value, there: &Object, all: &mut Vec<Drift>) {
    let extra = ["encryption", "hosted", "use_dns_srv_routing"];
    let field = |key: &str| kind.fields.iter().find(|field| field.key == key);
    let keys = kind.fields.iter().map(|field| field.key).chain(extra).filter(|key| *key != "name");
    for key in keys {
        let (form, default) =
            field(key).map_or((Form::Text, ""), |field: &Field| (field.form, field.default));
        let (here, other) = (own.get(key), there.get(key));
        // What the export does not print, and what is left out here and has no default, nobody contradicts.
        if other.is_none() || (here.is_none() && default.is_empty()) {
            continue;
        }
        let default = (!default.is_empty()).then(|| Value::from(default));
        let here = here.or(default.as_ref());
        if plain(form, here) != plain(form, other) {
            all.push(Drift {
                code: codes::DRIFT_VALUE,
                table: kind.table,
                name: there.name(),
                key: key.to_owned(),
                here: shown(here),
                there: shown(other),
            });
        }
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// A value as it is compared: texts without case, lists as sets, times in seconds, addresses by their name.
fn plain(form: Form, value: Option<&Value>) -> BTreeSet<String> {
    let lower = |text: &str| text.to_ascii_lowercase();
    let one = |value: &Value| match (value, form) {
        (Value::String(text), Form::Minutes | Form::Seconds) => {
            duration_secs(text).map_or_else(|| lower(text), |secs| secs.to_string())
        }
        (Value::String(text), Form::Sip) => lower(text.trim_start_matches("sip:")),
        (Value::String(text), _) => {
            lower(text.trim_start_matches("sip:").trim_start_matches("Tag:").trim_start_matches("tag:"))
        }
        (other, _) => lower(other.to_string().trim_matches('"')),
    };
    match value {
        None => BTreeSet::new(),
        // A list of an address begins with its name; the rest is for labs.
        Some(Value::Array(list)) if form == Form::Text => list.iter().take(1).map(one).collect(),
        Some(Value::Array(list)) => list.iter().map(one).collect(),
        Some(value) => BTreeSet::from([one(value)]),
    }
}
