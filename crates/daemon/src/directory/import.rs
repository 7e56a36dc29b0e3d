//! Objects as a commented configuration. Every value says which property it came from; nothing is invented but what the frame
//! around the objects needs, and that says so.

use std::fmt::Write as _;

use serde_json::Value;
use toml_edit::Value as TomlValue;

use super::collect::{Imported, Object};
use super::table::{Count, Form, KINDS, kind_of};
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
    let (fqdn, _) = own_name(found, frame);
    let own = found.own_gateways(&fqdn);
    let mut objects: Vec<Object> =
        found.objects.iter().filter(|object| !object.is_of(&own)).cloned().collect();
    objects.extend(pool_gateways(found));
    // Writing to a String cannot fail.
    let _ = write(&mut out, found, &objects, frame);
    if !own.is_empty() {
        let _ = comment(
            &mut out,
            "",
            &format!("Left out: what UM has for {fqdn}, which is this gateway itself."),
        );
    }
    out
}

/// FQDN of this gateway, and the forest.
fn own_name(found: &Imported, frame: &Frame) -> (String, String) {
    let context = found.of("dial_plan").next().map_or("", |plan| plan.text("phone_context"));
    let forest = context.split_once('.').map_or(context, |(_, forest)| forest).to_ascii_lowercase();
    (frame.fqdn.clone().unwrap_or_else(|| format!("umbra.{forest}")), forest)
}

/// The UM IP gateway and hunt groups of each pool that has none, as ExchUcUtil.ps1 makes them: behind this gateway UM need not know
/// the pools.
fn pool_gateways(found: &Imported) -> Vec<Object> {
    const NOTE: &str = "assumed: as ExchUcUtil.ps1 makes it for the pool; Exchange has none";
    let made = |table: &str, values: Vec<(&'static str, Value)>| {
        Some(Object { kind: kind_of(table)?, values, notes: vec![NOTE.to_owned()], origin: String::new() })
    };
    let has_gateway = |pool: &&Object| {
        found.of("ip_gateway").any(|gateway| gateway.text("address").eq_ignore_ascii_case(pool.text("fqdn")))
    };
    let plans: Vec<&str> = found
        .of("dial_plan")
        .filter(|plan| plan.text("uri_type") == "SipName")
        .map(|plan| plan.text("name"))
        .collect();
    let mut all = Vec::new();
    for pool in found.of("pool").filter(|pool| !plans.is_empty() && !has_gateway(pool)) {
        let name = pool.text("fqdn");
        let of_gateway = vec![("name", name.into()), ("address", name.into()), ("port", Value::from(5061))];
        all.extend(made("ip_gateway", of_gateway));
        for plan in &plans {
            let group = format!("{}-{plan}", pool.text("name"));
            let values = vec![
                ("name", Value::from(group)),
                ("ip_gateway", name.into()),
                ("dial_plan", Value::from(*plan)),
                ("pilot_identifier", Value::from(*plan)),
            ];
            all.extend(made("hunt_group", values));
        }
    }
    all
}

fn write(out: &mut String, found: &Imported, objects: &[Object], frame: &Frame) -> std::fmt::Result {
    let cmdlets: Vec<&str> = found.cmdlets.iter().copied().collect();
    comment(out, "", &format!("From the output of {}.", cmdlets.join(", ")))?;
    for remark in &found.remarks {
        comment(out, "", remark)?;
    }
    match found.of("dial_plan").next() {
        Some(_) => head(out, found, frame)?,
        None => comment(out, "", "A part of a configuration: there was no dial plan. Put it behind one.")?,
    }
    lync(out, found)?;
    for kind in KINDS {
        for object in objects.iter().filter(|object| object.kind.table == kind.table) {
            table(out, object)?;
        }
    }
    Ok(())
}

fn head(out: &mut String, found: &Imported, frame: &Frame) -> std::fmt::Result {
    let (fqdn, forest) = own_name(found, frame);
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
