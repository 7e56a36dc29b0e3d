//! A configuration as the cmdlets that make the same objects: what ExchUcUtil.ps1 and OcsUmUtil would come to, ready to paste,
//! each with a comment that says what it changes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::collector::kinds_of;
use super::powershell::{Argument, Script};
use super::table::{Field, Form, Kind, Make, Side, kind_of};

const TLS_PORT: u64 = 5061;
/// What stands where only the administrator knows.
const FILL_IN: &str = "<fill in>";

/// The cmdlets of a side for a configuration, given as the tree of its file.
pub fn export(side: Side, tree: &Value) -> String {
    let mut script = Script::default();
    let shell = match side {
        Side::Exchange => "Exchange Management Shell",
        Side::Lync => "Lync Server (or Skype for Business Server) Management Shell",
    };
    script.comment(&format!(
        "{shell}: the objects of this configuration. Try it first with $WhatIfPreference = $true.\n\
         An object that exists already is refused by its New-… cmdlet and changed by the Set-… after it."
    ));
    match side {
        Side::Exchange => exchange(&mut script, tree),
        Side::Lync => lync(&mut script, tree),
    }
    script.finish()
}

fn objects<'a>(tree: &'a Value, table: &str) -> Vec<&'a Value> {
    tree.get(table).and_then(Value::as_array).map(|list| list.iter().collect()).unwrap_or_default()
}

fn said<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn text(value: &str) -> Argument {
    Argument::Text(value.to_owned())
}

fn exchange(script: &mut Script, tree: &Value) {
    let order = [
        "dial_plan",
        "mailbox_policy",
        "ip_gateway",
        "hunt_group",
        "call_router",
        "mailbox_server",
        "auto_attendant",
        "mailbox",
    ];
    for table in order {
        let Some(kind) = kind_of(table) else { continue };
        let list = objects(tree, table);
        if list.is_empty() {
            continue;
        }
        script.blank();
        for object in list {
            match table {
                "call_router" | "mailbox_server" => made(script, kind, &server(object, tree)),
                _ => made(script, kind, object),
            }
            state(script, kind, object);
        }
        if table == "ip_gateway" {
            this_gateway(script, tree);
        }
    }
    script.blank();
    script.comment("ExchUcUtil.ps1 also lets Lync's groups read the UM objects; no cmdlet of its own does that. Run it once:\n  & \"$env:ExchangeInstallPath\\Scripts\\ExchUcUtil.ps1\"");
}

/// A server that says no dial plans has them all here, and there none; one that says no startup mode listens for TCP alone.
fn server(object: &Value, tree: &Value) -> Value {
    let mut whole = object.clone();
    let plans = objects(tree, "dial_plan");
    let names: Vec<&str> = plans.iter().map(|plan| said(plan, "name")).collect();
    if let Some(map) = whole.as_object_mut() {
        if !map.contains_key("dial_plans") {
            map.insert("dial_plans".to_owned(), Value::from(names));
        }
        if plans.iter().any(|plan| said(plan, "voip_security") != "Unsecured")
            && !map.contains_key("startup_mode")
        {
            map.insert("startup_mode".to_owned(), Value::from("Dual"));
        }
    }
    whole
}

/// Umbra itself, as UM sees it: a UM IP gateway with a hunt group for each dial plan, whose pilot is the plan's name.
fn this_gateway(script: &mut Script, tree: &Value) {
    let fqdn = tree.get("gateway").map(|gateway| said(gateway, "fqdn")).unwrap_or_default();
    let name = fqdn.split('.').next().unwrap_or_default();
    let is_secured = |plan: &&Value| said(plan, "voip_security") != "Unsecured";
    let plans = objects(tree, "dial_plan");
    script.blank();
    let what = "this gateway as a UM IP gateway: UM takes calls from it and sends it OPTIONS";
    script.command(what, "New-UMIPGateway", &[("Name", text(name)), ("Address", text(fqdn))]);
    if plans.iter().any(is_secured) {
        let what = "mutual TLS toward this gateway";
        script.command(
            what,
            "Set-UMIPGateway",
            &[("Identity", text(name)), ("Port", Argument::Number(TLS_PORT))],
        );
    }
    for plan in plans {
        let plan = said(plan, "name");
        let group = format!("{name}-{plan}");
        let parameters = [
            ("Name", text(&group)),
            ("UMDialPlan", text(plan)),
            ("UMIPGateway", text(name)),
            ("PilotIdentifier", text(plan)),
        ];
        script.command("calls of this gateway belong to the dial plan; the pilot is the plan's name, as ExchUcUtil.ps1 has it", "New-UMHuntGroup", &parameters);
    }
}

/// An object by its cmdlets: what makes it, then what else the configuration says of it.
fn made(script: &mut Script, kind: &Kind, object: &Value) {
    let Some(make) = &kind.make else { return };
    let is_hosted = object.get("hosted").and_then(Value::as_bool) == Some(true);
    if kind.table == "mailbox" && is_hosted {
        script.comment(&format!("{} is hosted: nothing to do here", said(object, "alias")));
        return;
    }
    if !make.new.is_empty() {
        let with = |field: &&Field| make.with.contains(&field.key);
        let parameters: Vec<_> =
            kind.fields.iter().filter(with).filter_map(|field| given(kind, field, object)).collect();
        script.command(make.what[0], make.new, &parameters);
    }
    if make.set.is_empty() {
        return;
    }
    let mut parameters: Vec<(&str, Argument)> = kind
        .fields
        .iter()
        .filter(|field| !make.with.contains(&field.key) && is_settable(field))
        .filter_map(|field| Some((field.property, argument(field.form, object.get(field.key)?)?)))
        .collect();
    if let Some(operator) = transfer_only(kind, object) {
        script.comment(&operator);
    }
    if !parameters.is_empty() {
        parameters.insert(0, (make.named, text(said(object, "name"))));
        script.command(make.what[1], make.set, &parameters);
    }
}

fn is_settable(field: &Field) -> bool {
    !matches!(field.form, Form::ReadOnly | Form::Server | Form::Eum) && field.key != "status"
}

/// The argument for making: from the configuration, else the product's default where the cmdlet demands the parameter.
fn given(kind: &Kind, field: &Field, object: &Value) -> Option<(&'static str, Argument)> {
    let name = match (kind.make.as_ref().map(|make: &Make| make.new), field.key) {
        (Some("Enable-UMMailbox"), "alias") => "Identity",
        _ => field.property,
    };
    if let Some(value) = object.get(field.key) {
        // `address` may list IP addresses after the name; UM knows the first.
        let first = value.as_array().filter(|_| field.form == Form::Text).and_then(|list| list.first());
        let argument = argument(field.form, first.unwrap_or(value))?;
        return Some((name, argument));
    }
    let default = match field.form {
        Form::Flag => Argument::Flag(field.default == "true"),
        Form::Whole => Argument::Number(field.default.parse().ok()?),
        _ => text(field.default),
    };
    (!field.default.is_empty()).then_some((name, default))
}

fn argument(form: Form, value: &Value) -> Option<Argument> {
    let list = |value: &Value| -> Vec<String> {
        match value {
            Value::Array(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Value::String(one) => vec![one.clone()],
            _ => Vec::new(),
        }
    };
    match form {
        Form::Whole => value.as_u64().map(Argument::Number),
        Form::Minutes => duration_secs(value.as_str()?).map(|secs| Argument::Number(secs / 60)),
        Form::Seconds => duration_secs(value.as_str()?).map(Argument::Number),
        Form::Flag => value.as_bool().map(Argument::Flag),
        Form::Texts | Form::Numbers | Form::Names => Some(Argument::List(list(value))),
        Form::Commas => Some(text(&list(value).join(","))),
        Form::Keys => keys(value),
        Form::Sip => value.as_str().map(|address| text(address.trim_start_matches("sip:"))),
        _ => value.as_str().map(text),
    }
}

/// `30m` in seconds; the configuration has been checked, so only its words occur.
pub(super) fn duration_secs(words: &str) -> Option<u64> {
    let at = words.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = words[..at].parse().ok()?;
    match words[at..].trim() {
        "s" => Some(number),
        "m" | "min" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        _ => None,
    }
}

/// Keys as Exchange writes them: key, name, extension, attendant.
fn keys(value: &Value) -> Option<Argument> {
    let mapping = |(key, action): (&String, &Value)| {
        let (word, target) = action.as_str()?.split_once(':')?;
        match word {
            "transfer" => Some(format!("{key},{target},{target}")),
            "attendant" => Some(format!("{key},{target},,{target}")),
            _ => None,
        }
    };
    let list: Vec<String> = value.as_object()?.iter().filter_map(mapping).collect();
    (!list.is_empty()).then_some(Argument::List(list))
}

/// A word about keys whose Exchange form is not known here.
fn transfer_only(kind: &Kind, object: &Value) -> Option<String> {
    let of_key = |field: &&Field| field.form == Form::Keys;
    let maps = kind.fields.iter().filter(of_key).filter_map(|field| object.get(field.key)?.as_object());
    let is_other = |action: &Value| {
        action.as_str().is_some_and(|text| text.starts_with("voicemail:") || text.starts_with("announce:"))
    };
    let others: Vec<String> = maps
        .flat_map(|map| map.iter().filter(|(_, action)| is_other(action)))
        .map(|(key, action)| format!("{key} = {}", action.as_str().unwrap_or_default()))
        .collect();
    (!others.is_empty()).then(|| format!("set by hand, in the attendant's menu: keys {}", others.join(", ")))
}

fn state(script: &mut Script, kind: &Kind, object: &Value) {
    let name = said(object, "name");
    match (kind.table, said(object, "status")) {
        ("ip_gateway", "Disabled") => {
            let parameters = [("Identity", text(name)), ("Immediate", Argument::Flag(true))];
            script.command("takes no calls, and ends those in progress", "Disable-UMIPGateway", &parameters);
        }
        ("ip_gateway", "NoNewCalls") => {
            script.command("takes no new calls", "Disable-UMIPGateway", &[("Identity", text(name))]);
        }
        _ => {}
    }
}

fn lync(script: &mut Script, tree: &Value) {
    pools(script, tree);
    profiles(script, tree);
    contacts(script, tree);
    hosted(script, tree);
}

fn pools(script: &mut Script, tree: &Value) {
    let fqdn = tree.get("gateway").map(|gateway| said(gateway, "fqdn")).unwrap_or_default();
    let mut levels: BTreeMap<String, Vec<(&str, &str)>> = BTreeMap::new();
    for (index, pool) in objects(tree, "pool").into_iter().enumerate() {
        if index == 0 {
            script.blank();
            let parameters = [
                ("Identity", text(fqdn)),
                ("Registrar", text(said(pool, "fqdn"))),
                ("Site", text(said_or(pool, "site"))),
            ];
            script.command(
                "makes this gateway a trusted host of Lync",
                "New-CsTrustedApplicationPool",
                &parameters,
            );
            script.command("puts the topology in force", "Enable-CsTopology", &[]);
        }
        let identity = match said(pool, "site") {
            "" => "Global".to_owned(),
            site => format!("site:{site}"),
        };
        let level = match said(pool, "encryption") {
            "Require" | "Required" => "RequireEncryption",
            "Support" | "Optional" => "SupportEncryption",
            "DoNotSupport" | "None" => "DoNotSupportEncryption",
            word => word,
        };
        levels.entry(identity).or_default().push((said(pool, "fqdn"), level));
    }
    levels.iter().for_each(|(identity, pools)| media_encryption(script, identity, pools));
}

/// Lync keeps one level for a scope: pools of one that differ cannot all have theirs.
fn media_encryption(script: &mut Script, identity: &str, pools: &[(&str, &str)]) {
    script.blank();
    let Some((_, level)) = pools.first() else { return };
    if pools.iter().any(|(_, other)| other != level) {
        let each: Vec<String> = pools.iter().map(|(fqdn, level)| format!("{fqdn} {level}")).collect();
        script.comment(&format!(
            "media encryption is one for all pools of the scope {identity}, and these differ: {}.\nGive each [[pool]] its `site`, or the pools of a scope one level.",
            each.join(", ")
        ));
        return;
    }
    let parameters = [("Identity", text(identity)), ("EncryptionLevel", text(level))];
    let what = format!(
        "media encryption of every pool in the scope {identity}; it must fit the dial plans' VoIPSecurity"
    );
    script.command(&what, "Set-CsMediaConfiguration", &parameters);
}

fn said_or<'a>(object: &'a Value, key: &str) -> &'a str {
    let words = said(object, key);
    if words.is_empty() { FILL_IN } else { words }
}

fn is_sip(plan: &Value) -> bool {
    matches!(said(plan, "uri_type"), "" | "SipName")
}

fn profiles(script: &mut Script, tree: &Value) {
    for plan in objects(tree, "dial_plan").into_iter().filter(|plan| is_sip(plan)) {
        script.blank();
        let parameters =
            [("Identity", text(said(plan, "name"))), ("SimpleName", text(said(plan, "phone_context")))];
        let what = "the location profile that each SIP URI dial plan of UM needs; up to Office Communications Server 2007 R2 its name is the phone-context";
        script.command(what, "New-CsDialPlan", &parameters);
    }
}

/// Those that are configured, and those that OcsUmUtil would make for access numbers and attendants.
fn contacts(script: &mut Script, tree: &Value) {
    let configured = objects(tree, "contact");
    let domain = tree.get("gateway").map(domain_of).unwrap_or_default();
    let pool = objects(tree, "pool").first().map_or(FILL_IN, |pool| said(pool, "fqdn"));
    let has = |number: &str| configured.iter().any(|contact| said(contact, "display_number") == number);
    for contact in &configured {
        let is_attendant = contact.get("auto_attendant").and_then(Value::as_bool) == Some(true);
        one_contact(
            script,
            said(contact, "sip_address"),
            said_or(contact, "display_number"),
            is_attendant,
            pool,
        );
        let policy = said(contact, "policy").trim_start_matches("tag:");
        if !policy.is_empty() && !policy.eq_ignore_ascii_case("global") && !policy.starts_with("site:") {
            grant(script, said(contact, "sip_address"), policy);
        }
    }
    let wanted = |object: &'_ Value, key: &str| -> Option<String> {
        let number = object.get(key)?.as_array()?.first()?.as_str()?.to_owned();
        (!has(&number)).then_some(number)
    };
    for plan in objects(tree, "dial_plan").into_iter().filter(|plan| is_sip(plan)) {
        let Some(number) = wanted(plan, "access_telephone_numbers") else { continue };
        let address = format!("sip:{}@{domain}", contact_name("ova", said(plan, "name")));
        one_contact(script, &address, &number, false, pool);
    }
    for attendant in objects(tree, "auto_attendant") {
        let Some(number) = wanted(attendant, "pilot_identifiers") else { continue };
        let address = format!("sip:{}@{domain}", contact_name("aa", said(attendant, "name")));
        one_contact(script, &address, &number, true, pool);
    }
}

fn domain_of(gateway: &Value) -> String {
    match (said(gateway, "sip_domain"), said(gateway, "fqdn").split_once('.')) {
        ("", Some((_, domain))) => domain.to_owned(),
        (domain, _) => domain.to_owned(),
    }
}

/// A name for an address: letters, digits and hyphens of the object's, without spaces.
fn contact_name(word: &str, object: &str) -> String {
    let bare: String = object.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    format!("{word}-{}", bare.to_ascii_lowercase())
}

fn one_contact(script: &mut Script, address: &str, number: &str, is_attendant: bool, pool: &str) {
    let whole = if address.starts_with("sip:") { address.to_owned() } else { format!("sip:{address}") };
    let mut parameters = vec![
        ("SipAddress", Argument::Text(whole)),
        ("RegistrarPool", text(pool)),
        ("OU", text(FILL_IN)),
        ("DisplayNumber", text(number)),
    ];
    let what = match is_attendant {
        true => "the address under which Lync users call the attendant; OcsUmUtil makes the same contact",
        false => {
            "the address under which Lync users call Outlook Voice Access; OcsUmUtil makes the same contact"
        }
    };
    if is_attendant {
        parameters.push(("AutoAttendant", Argument::Flag(true)));
    }
    script.blank();
    script.command(what, "New-CsExUmContact", &parameters);
}

fn grant(script: &mut Script, identity: &str, policy: &str) {
    let parameters = [("Identity", text(identity)), ("PolicyName", text(policy))];
    script.command(
        "the hosted voice mail policy of this user or contact alone",
        "Grant-CsHostedVoicemailPolicy",
        &parameters,
    );
}

fn hosted(script: &mut Script, tree: &Value) {
    if let Some(edge) = tree.get("access_edge") {
        script.blank();
        let flag = |key: &str, default| edge.get(key).and_then(Value::as_bool).unwrap_or(default);
        let mut parameters =
            vec![("AllowFederatedUsers", Argument::Flag(flag("allow_federated_users", false)))];
        if flag("use_dns_srv_routing", true) {
            parameters.insert(0, ("UseDnsSrvRouting", Argument::Flag(true)));
            parameters
                .push(("EnablePartnerDiscovery", Argument::Flag(flag("enable_partner_discovery", false))));
        }
        let what = "what leaves through the Access Edge for the whole deployment, not for voice mail alone";
        script.command(what, "Set-CsAccessEdgeConfiguration", &parameters);
    }
    for kind in kinds_of(Side::Lync).filter(|kind| kind.make.is_some()) {
        for object in objects(tree, kind.table) {
            script.blank();
            let is_global = said(object, "identity").eq_ignore_ascii_case("global");
            match (&kind.make, is_global) {
                (Some(make), true) => {
                    let fields = kind.fields.iter().filter(|field| make.with.contains(&field.key));
                    let parameters: Vec<_> = fields.filter_map(|field| given(kind, field, object)).collect();
                    script.command(make.what[0], "Set-CsHostedVoicemailPolicy", &parameters);
                }
                _ => made(script, kind, object),
            }
        }
    }
    for mailbox in objects(tree, "mailbox") {
        users(script, mailbox);
    }
}

fn users(script: &mut Script, mailbox: &Value) {
    let (sip, alias) = (said(mailbox, "sip"), said(mailbox, "alias"));
    let identity =
        if sip.is_empty() { alias.to_owned() } else { format!("sip:{}", sip.trim_start_matches("sip:")) };
    if let Some(hosted) = mailbox.get("hosted").and_then(Value::as_bool) {
        let parameters = [("Identity", text(&identity)), ("HostedVoiceMail", Argument::Flag(hosted))];
        script.command(
            "where Lync sends the user's unanswered calls: hosted voice mail or UM here",
            "Set-CsUser",
            &parameters,
        );
    }
    let policy = said(mailbox, "hosted_policy").trim_start_matches("tag:");
    if !policy.is_empty() {
        grant(script, &identity, policy);
    }
}
