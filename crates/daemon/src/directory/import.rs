//! Objects as a commented configuration. Every value says which property it came from; nothing is invented but what the frame
//! around the objects needs, and that says so.

use std::fmt::Write as _;

use serde_json::Value;
use toml_edit::Value as TomlValue;

use super::collect::{Imported, Object};
use super::table::{Count, Form, KINDS};
use crate::cli::escaped;

/// What the objects do not say: this process.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    /// FQDN of the gateway; without it, `umbra` in the forest of the first dial plan.
    pub fqdn: Option<String>,
}

/// The configuration. With a dial plan it is a whole file, without one a part of one.
pub fn to_toml(found: &Imported, frame: &Frame) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, found, frame);
    out
}

fn write(out: &mut String, found: &Imported, frame: &Frame) -> std::fmt::Result {
    let cmdlets: Vec<&str> = found.cmdlets.iter().copied().collect();
    comment(out, "", &format!("From the output of {}.", cmdlets.join(", ")))?;
    for remark in &found.remarks {
        comment(out, "", remark)?;
    }
    match found.of("dial_plan").next() {
        Some(plan) => head(out, found, plan, frame)?,
        None => comment(out, "", "A part of a configuration: there was no dial plan. Put it behind one.")?,
    }
    lync(out, found)?;
    for kind in KINDS {
        for object in found.of(kind.table) {
            table(out, object)?;
        }
    }
    Ok(())
}

fn head(out: &mut String, found: &Imported, plan: &Object, frame: &Frame) -> std::fmt::Result {
    let context = plan.text("phone_context");
    let forest = context.split_once('.').map_or(context, |(_, forest)| forest).to_ascii_lowercase();
    let fqdn = frame.fqdn.clone().unwrap_or_else(|| format!("umbra.{forest}"));
    writeln!(out, "\n[gateway]")?;
    let note = if frame.fqdn.is_some() { "" } else { "assumed: the name in this gateway's certificate" };
    line(out, "fqdn", &Value::from(fqdn), note)?;
    line(out, "sip_domain", &Value::from(forest), "assumed: the SIP domain of the users")?;
    let is_secured = |plan: &Object| plan.text("voip_security") != "Unsecured";
    if found.of("dial_plan").any(is_secured) {
        writeln!(out, "\n[tls]")?;
        line(out, "certificate", &Value::from("umbra.pem"), "assumed: put your own beside this file")?;
        line(out, "private_key", &Value::from("umbra.key"), "")?;
        line(
            out,
            "trusted_roots",
            &Value::from(vec!["lab-root.pem"]),
            "assumed: the CA shared with Lync and Exchange",
        )?;
    }
    Ok(())
}

fn lync(out: &mut String, found: &Imported) -> std::fmt::Result {
    if found.location_profiles.is_empty() && found.autodiscover.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n[lync]")?;
    let list = |texts: &[String]| Value::from(texts.to_vec());
    if !found.autodiscover.is_empty() {
        line(
            out,
            "autodiscover",
            &list(&found.autodiscover),
            "Get-CsOAuthConfiguration ExchangeAutodiscoverUrl",
        )?;
    }
    if !found.location_profiles.is_empty() {
        line(out, "location_profiles", &list(&found.location_profiles), "Get-CsDialPlan SimpleName")?;
    }
    Ok(())
}

fn table(out: &mut String, object: &Object) -> std::fmt::Result {
    let kind = object.kind;
    match kind.count {
        Count::Many => writeln!(out, "\n[[{}]]  # {}", kind.table, kind.cmdlet)?,
        Count::One => writeln!(out, "\n[{}]  # {}", kind.table, kind.cmdlet)?,
    }
    for note in &object.notes {
        comment(out, "", note)?;
    }
    for (key, value) in &object.values {
        let field = kind.fields.iter().find(|field| field.key == *key);
        let note = match field {
            Some(field) if field.form == Form::Server => "FQDN of the server",
            Some(field) => field.property,
            None if *key == "encryption" => "Get-CsMediaConfiguration EncryptionLevel",
            None if *key == "hosted" => "Get-CsUser HostedVoiceMail",
            None => "",
        };
        line(out, key, value, note)?;
    }
    Ok(())
}

fn line(out: &mut String, key: &str, value: &Value, note: &str) -> std::fmt::Result {
    write!(out, "{key} = {}", toml(value))?;
    match note {
        "" => writeln!(out),
        note => writeln!(out, "  # {}", escaped(note)),
    }
}

fn comment(out: &mut String, indent: &str, text: &str) -> std::fmt::Result {
    // What an object says is data of somebody else: no line of it becomes a line of ours.
    writeln!(out, "{indent}# {}", escaped(text))
}

fn toml(value: &Value) -> String {
    to_value(value).map_or_else(|| "\"\"".to_owned(), |value| value.to_string())
}

fn to_value(value: &Value) -> Option<TomlValue> {
    Some(match value {
        Value::String(text) => TomlValue::from(text.as_str()),
        Value::Bool(flag) => TomlValue::from(*flag),
        Value::Number(number) => TomlValue::from(number.as_i64()?),
        Value::Array(list) => TomlValue::Array(list.iter().filter_map(to_value).collect()),
        Value::Object(map) => {
            let pairs = map.iter().filter_map(|(key, value)| Some((key.clone(), to_value(value)?)));
            TomlValue::InlineTable(pairs.collect())
        }
        Value::Null => return None,
    })
}
