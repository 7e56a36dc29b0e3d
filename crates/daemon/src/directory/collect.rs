//! From what cmdlets printed to objects in the words of the configuration. What cannot be said there is left out and said so;
//! only a property that nothing can replace ends the reading.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::table::{ADDITIONS, Field, Form, KINDS, Kind, Side};

/// Objects taken.
const OBJECTS_MAX: usize = 20_000;
/// Longest text taken.
const TEXT_CHARS_MAX: usize = 1_024;
/// Longest list taken.
const LIST_MAX: usize = 256;
/// Remarks kept.
const REMARKS_MAX: usize = 200;

/// One object in the words of the configuration.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub kind: &'static Kind,
    /// Keys and values, in the order of the table.
    pub values: Vec<(&'static str, Value)>,
    /// What was left out of it.
    pub notes: Vec<String>,
    /// Its distinguished name, where that was printed.
    pub origin: String,
}

impl Object {
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.iter().find(|(own, _)| *own == key).map(|(_, value)| value)
    }

    pub fn text(&self, key: &str) -> &str {
        self.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    pub fn set(&mut self, key: &'static str, value: Value) {
        self.values.retain(|(own, _)| *own != key);
        self.values.push((key, value));
    }

    /// Whether it is one of these UM IP gateways, or a hunt group of one.
    pub fn is_of(&self, gateways: &BTreeSet<String>) -> bool {
        let key = match self.kind.table {
            "ip_gateway" => "name",
            "hunt_group" => "ip_gateway",
            _ => return false,
        };
        gateways.contains(&self.text(key).to_ascii_lowercase())
    }

    /// What it is called.
    pub fn name(&self) -> String {
        let named = ["name", "alias", "identity", "sip_address", "fqdn"];
        named.iter().map(|key| self.text(key)).find(|text| !text.is_empty()).unwrap_or_default().to_owned()
    }
}

/// Everything that was read.
#[derive(Debug, Default)]
pub struct Imported {
    pub(super) objects: Vec<Object>,
    /// Names of location profiles.
    pub(super) location_profiles: Vec<String>,
    /// Autodiscover URIs.
    pub(super) autodiscover: Vec<String>,
    /// Cmdlets whose output was there.
    pub(super) cmdlets: BTreeSet<&'static str>,
    /// What was left out, and why.
    pub remarks: Vec<String>,
}

/// A property that cannot be done without and is not understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Trouble {
    /// In words.
    pub what: String,
}

type Raw = Map<String, Value>;

/// Puts the documents of several files together.
///
/// # Errors
/// A required word that is none, such as an enumeration written as a number.
pub fn collect(documents: &[Value]) -> Result<Imported, Trouble> {
    collect_beside(documents, &Value::Null)
}

/// The same for objects that may name those of a configuration.
///
/// # Errors
/// A required word that is none.
pub(super) fn collect_beside(documents: &[Value], tree: &Value) -> Result<Imported, Trouble> {
    let mut found = Imported::default();
    let mut raw: Vec<(&'static str, &Raw)> = Vec::new();
    for document in documents {
        gather(document, &mut found, &mut raw);
    }
    for (cmdlet, object) in &raw {
        if let Some(kind) = KINDS.iter().find(|kind| kind.cmdlet == *cmdlet) {
            let read = read_object(kind, object)?;
            found.objects.push(read);
        }
    }
    additions(&mut found, &raw);
    tidy(&mut found, tree);
    Ok(found)
}

impl Imported {
    pub(super) fn remark(&mut self, what: String) {
        if self.remarks.len() < REMARKS_MAX {
            self.remarks.push(what);
        }
    }

    pub(super) fn of<'a>(&'a self, table: &'a str) -> impl Iterator<Item = &'a Object> {
        self.objects.iter().filter(move |object| object.kind.table == table)
    }

    /// Names of the UM IP gateways that are this gateway itself, as UM knows it.
    pub(super) fn own_gateways(&self, fqdn: &str) -> BTreeSet<String> {
        let is_own = |object: &&Object| !fqdn.is_empty() && object.text("address").eq_ignore_ascii_case(fqdn);
        self.of("ip_gateway").filter(is_own).map(|object| object.text("name").to_ascii_lowercase()).collect()
    }

    /// Whether any of it is of this side.
    pub fn has_side(&self, side: Side) -> bool {
        let kinds = KINDS.iter().map(|kind| (kind.cmdlet, kind.side));
        let mut all = kinds.chain(ADDITIONS.iter().map(|(cmdlet, _, side)| (*cmdlet, *side)));
        all.any(|(cmdlet, own)| own == side && self.cmdlets.contains(cmdlet))
    }

    /// Whether nothing in the files was understood.
    pub fn is_empty(&self) -> bool {
        self.cmdlets.is_empty()
    }
}

fn cmdlets() -> impl Iterator<Item = (&'static str, &'static str)> {
    let kinds = KINDS.iter().map(|kind| (kind.cmdlet, kind.telltale));
    kinds.chain(ADDITIONS.iter().map(|(cmdlet, telltale, _)| (*cmdlet, *telltale)))
}

/// Finds the objects of a document: under the names of their cmdlets, or bare and known by a property that only they have.
fn gather<'a>(document: &'a Value, found: &mut Imported, raw: &mut Vec<(&'static str, &'a Raw)>) {
    let named = document.as_object().filter(|map| map.keys().any(|key| is_cmdlet(key)));
    let Some(map) = named else {
        for object in listed(document) {
            // The last that fits: a UM service has the ports of a Call Router too.
            let known = cmdlets().filter(|(_, telltale)| property(object, telltale).is_some()).last();
            match known {
                Some((cmdlet, _)) => take(cmdlet, object, found, raw),
                None => found.remark("an object that no known cmdlet prints was left out".to_owned()),
            }
        }
        return;
    };
    for (key, value) in map {
        let Some((cmdlet, _)) = cmdlets().find(|(cmdlet, _)| cmdlet.eq_ignore_ascii_case(key)) else {
            found.remark(format!("{key} is not read"));
            continue;
        };
        found.cmdlets.insert(cmdlet);
        for object in listed(value) {
            take(cmdlet, object, found, raw);
        }
    }
}

fn is_cmdlet(key: &str) -> bool {
    key.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("get-"))
}

fn take<'a>(
    cmdlet: &'static str,
    object: &'a Raw,
    found: &mut Imported,
    raw: &mut Vec<(&'static str, &'a Raw)>,
) {
    found.cmdlets.insert(cmdlet);
    if raw.len() < OBJECTS_MAX {
        raw.push((cmdlet, object));
    } else if raw.len() == OBJECTS_MAX {
        found.remark(format!("more than {OBJECTS_MAX} objects: the rest was left out"));
    }
}

/// The objects of a value: itself, those of a list, those of `{ "value": […], "Count": n }` as PowerShell writes lists at times.
fn listed(value: &Value) -> Vec<&Raw> {
    match value {
        Value::Array(list) => list.iter().filter_map(Value::as_object).collect(),
        Value::Object(map) => match (map.get("value"), map.contains_key("Count")) {
            (Some(Value::Array(list)), true) => list.iter().filter_map(Value::as_object).collect(),
            _ => vec![map],
        },
        _ => Vec::new(),
    }
}

/// A property that says something: the collector writes "" for what is not set.
fn property<'a>(object: &'a Raw, name: &str) -> Option<&'a Value> {
    let exact = object.get(name);
    let any_case = || object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let is_said = |value: &&Value| !value.is_null() && value.as_str() != Some("");
    exact.or_else(any_case).filter(is_said)
}

fn read_object(kind: &'static Kind, raw: &Raw) -> Result<Object, Trouble> {
    let origin = property(raw, "DistinguishedName").and_then(text).unwrap_or_default();
    let mut object = Object { kind, values: Vec::new(), notes: Vec::new(), origin };
    for field in kind.fields {
        match value_of(field, raw, &mut object.notes) {
            Ok(Some(value)) => object.values.push((field.key, value)),
            Ok(None) => {}
            Err(what) if kind.required.contains(&field.key) => {
                return Err(Trouble { what: format!("{} {}: {what}", kind.cmdlet, object.name()) });
            }
            Err(what) => object.notes.push(what),
        }
    }
    Ok(object)
}

/// A value in the form of the configuration; `Err` where it is there and cannot be said.
fn value_of(field: &Field, raw: &Raw, notes: &mut Vec<String>) -> Result<Option<Value>, String> {
    if field.form == Form::Server {
        return Ok(server_name(raw).map(Value::from));
    }
    let Some(value) = property(raw, field.property) else { return Ok(None) };
    let bad = || Err(format!("{} is {}, which is not understood", field.property, shortened(value)));
    let found = match field.form {
        Form::Text | Form::ReadOnly | Form::Server | Form::Site | Form::Sip => {
            let text = text(value);
            let text = match field.form {
                Form::Site => {
                    text.map(|text| text.trim_start_matches("Site:").trim_start_matches("site:").to_owned())
                }
                _ => text,
            };
            text.map(Value::from)
        }
        Form::Name => reference(value).map(Value::from),
        Form::First => texts(value).into_iter().next().map(Value::from),
        Form::Whole => match whole(value) {
            Some(number) => Some(Value::from(number)),
            None => return bad(),
        },
        Form::Minutes | Form::Seconds => match span(value, field.form) {
            Some(span) => Some(Value::from(span)),
            None => return bad(),
        },
        Form::Flag => match flag(value) {
            Some(flag) => Some(Value::from(flag)),
            None => return bad(),
        },
        Form::Word(words) => {
            let said = text(value).filter(|_| value.is_string());
            let hit =
                said.and_then(|said| words.iter().find(|word| word.eq_ignore_ascii_case(&said)).copied());
            match hit {
                Some(word) => Some(Value::from(word)),
                None => return bad(),
            }
        }
        Form::Texts => some_list(texts(value)),
        Form::Numbers => some_list(numbers(field, value, notes)),
        Form::Names => some_list(items(value).iter().filter_map(|item| reference(item)).collect()),
        Form::Eum => some_list(texts(value).into_iter().filter(|text| is_eum(text)).collect()),
        Form::Commas => some_list(split_at_commas(value)),
        Form::Keys => keys(value, notes),
    };
    Ok(found)
}

/// The FQDN that the collector adds, else whatever names the server.
fn server_name(raw: &Raw) -> Option<String> {
    let named = ["Fqdn", "Server", "Name", "Identity"].iter().find_map(|name| property(raw, name))?;
    reference(named).map(|name| name.to_ascii_lowercase())
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!text.is_empty() && text.chars().count() <= TEXT_CHARS_MAX).then_some(text)
}

/// `DP-Sip`, `\DP-Sip`, `CN=DP-Sip,CN=…`, `gateway\hunt group`, or an object that has a name.
fn reference(value: &Value) -> Option<String> {
    if let Value::Object(map) = value {
        let inner = ["Name", "Identity", "DistinguishedName"].iter().find_map(|name| property(map, name))?;
        return inner.is_string().then(|| reference(inner)).flatten();
    }
    let text = text(value)?;
    let last = text.rsplit(['\\', '/']).next().unwrap_or(&text);
    let bare = match last.get(..3).filter(|head| head.eq_ignore_ascii_case("cn=")) {
        Some(_) => last[3..].split(',').next().unwrap_or_default(),
        None => last,
    };
    (!bare.is_empty()).then(|| bare.to_owned())
}

fn items(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().take(LIST_MAX).collect(),
        Value::Object(map) => match map.get("value").and_then(Value::as_array) {
            Some(list) => list.iter().take(LIST_MAX).collect(),
            None => vec![value],
        },
        other => vec![other],
    }
}

fn texts(value: &Value) -> Vec<String> {
    items(value).into_iter().filter_map(text).collect()
}

fn some_list(list: Vec<String>) -> Option<Value> {
    (!list.is_empty()).then(|| Value::from(list))
}

fn split_at_commas(value: &Value) -> Vec<String> {
    let parts = texts(value);
    parts
        .iter()
        .flat_map(|text| text.split(','))
        .map(|part| part.trim().to_owned())
        .filter(|p| !p.is_empty())
        .collect()
}

fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// A number of minutes or seconds, or `00:30:00`.
fn span(value: &Value, form: Form) -> Option<String> {
    let (unit, word) = if form == Form::Minutes { (60, "m") } else { (1, "s") };
    if let Some(number) = whole(value) {
        return Some(format!("{number}{word}"));
    }
    let text = value.as_str()?;
    let mut parts = text.split(':').map(|part| part.parse::<u64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let all = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(seconds)?;
    Some(format!("{}{word}", all / unit))
}

fn is_e164(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    (2..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn numbers(field: &Field, value: &Value, notes: &mut Vec<String>) -> Vec<String> {
    let (good, bad): (Vec<String>, Vec<String>) = texts(value).into_iter().partition(|text| is_e164(text));
    if !bad.is_empty() {
        notes.push(format!("{}: {} left out: no E.164 number", field.property, bad.join(", ")));
    }
    good
}

fn is_eum(text: &str) -> bool {
    text.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("eum:")) && text.contains(";phone-context=")
}

/// `1,Sales,4711,…`: key, name, extension, attendant; what else a mapping can do is not said here.
fn keys(value: &Value, notes: &mut Vec<String>) -> Option<Value> {
    let mut map = Map::new();
    for text in texts(value) {
        let parts: Vec<&str> = text.split(',').map(str::trim).collect();
        let part = |at: usize| parts.get(at).copied().unwrap_or_default();
        let key = part(0);
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let action = match (part(2), part(3)) {
            (number, _) if is_number(number) => Some(format!("transfer:{number}")),
            (_, attendant) if !attendant.is_empty() => Some(format!("attendant:{attendant}")),
            _ => None,
        };
        match action {
            Some(action) if key.len() == 1 && ("1"..="9").contains(&key) => {
                map.insert(key.to_owned(), Value::from(action));
            }
            _ => notes.push(format!("key mapping left out: {text}")),
        }
    }
    (!map.is_empty()).then_some(Value::Object(map))
}

/// What belongs to other objects: encryption of pools, hosted users, location profiles, Autodiscover.
fn additions(found: &mut Imported, raw: &[(&'static str, &Raw)]) {
    let of =
        |cmdlet: &'static str| raw.iter().filter(move |(own, _)| *own == cmdlet).map(|(_, object)| *object);
    let said = |object: &Raw, name: &str| property(object, name).and_then(text);
    for profile in of("Get-CsDialPlan") {
        found.location_profiles.extend(said(profile, "SimpleName"));
    }
    for configuration in of("Get-CsOAuthConfiguration") {
        found.autodiscover.extend(said(configuration, "ExchangeAutodiscoverUrl"));
    }
    let levels: Vec<(String, String)> = of("Get-CsMediaConfiguration")
        .filter_map(|media| Some((said(media, "Identity")?, said(media, "EncryptionLevel")?)))
        .collect();
    let routing = of("Get-CsAccessEdgeConfiguration").find_map(|edge| said(edge, "RoutingMethod"));
    let users: Vec<(String, bool)> = of("Get-CsUser")
        .filter_map(|user| {
            let address = said(user, "SipAddress")?.to_ascii_lowercase();
            Some((address.trim_start_matches("sip:").to_owned(), flag(property(user, "HostedVoiceMail")?)?))
        })
        .collect();
    let mut remarks = Vec::new();
    for object in &mut found.objects {
        match object.kind.table {
            "pool" => remarks.extend(pool(object, &levels)),
            "access_edge" => {
                if let Some(method) = &routing {
                    object.set("use_dns_srv_routing", Value::from(method == "UseDnsSrvRouting"));
                }
            }
            "mailbox" => {
                let own = object.text("sip").to_ascii_lowercase();
                let own = own.trim_start_matches("sip:");
                if let Some((_, hosted)) = users.iter().find(|(address, _)| address == own && !own.is_empty())
                {
                    object.set("hosted", Value::from(*hosted));
                }
            }
            _ => {}
        }
    }
    remarks.into_iter().for_each(|remark| found.remark(remark));
}

/// The encryption level of the pool's site, else the global one, else Lync's default.
fn pool(object: &mut Object, levels: &[(String, String)]) -> Option<String> {
    const WORDS: [&str; 3] = ["RequireEncryption", "SupportEncryption", "DoNotSupportEncryption"];
    let fqdn = object.text("fqdn").to_owned();
    let site = format!("site:{}", object.text("site"));
    let of = |scope: &str| levels.iter().find(|(identity, _)| identity.eq_ignore_ascii_case(scope));
    let level = of(&site).or_else(|| of("global")).map(|(_, level)| level.as_str());
    let known = level.and_then(|level| WORDS.iter().find(|word| word.eq_ignore_ascii_case(level)));
    let label = fqdn.split('.').next().unwrap_or_default().to_owned();
    object.values.insert(0, ("name", Value::from(label)));
    object.values.push(("encryption", Value::from(*known.unwrap_or(&WORDS[0]))));
    known.is_none().then(|| {
        format!(
            "pool {fqdn}: no Get-CsMediaConfiguration says its encryption level; Lync's default was taken"
        )
    })
}

/// Leaves out what cannot stand: objects without what they need, references to nothing, names used twice.
fn tidy(found: &mut Imported, tree: &Value) {
    complete_server_names(found);
    let objects = std::mem::take(&mut found.objects);
    let mut kept: Vec<Object> = Vec::new();
    for mut object in objects {
        if let Some(why) = unusable(&object) {
            found.remark(format!("{} {} left out: {why}", object.kind.table, object.name()));
            continue;
        }
        if object.kind.table == "hunt_group" {
            let name = object.text("name").to_owned();
            let is_same = |other: &Object| {
                other.kind.table == "hunt_group" && other.text("name").eq_ignore_ascii_case(&name)
            };
            if kept.iter().any(is_same) {
                let longer = format!("{}-{name}", object.text("ip_gateway"));
                object.notes.push(format!("called {name} in Exchange, as another one is"));
                object.values[0] = ("name", Value::from(longer));
            }
        }
        kept.push(object);
    }
    found.objects = kept;
    references(found, tree);
}

fn unusable(object: &Object) -> Option<String> {
    let has = |key: &str| key.split('|').any(|key| object.get(key).is_some());
    if let Some(missing) = object.kind.required.iter().find(|key| !has(key)) {
        return Some(format!("{missing} is not said"));
    }
    let is = |key: &str, flag: bool| object.get(key) == Some(&Value::from(flag));
    let unfit = is("hosts_ocs_users", true)
        || is("enabled", false)
        || is("is_local", true)
        || is("enabled_shared_address_space", false);
    (object.kind.table == "hosting_provider" && unfit).then(|| "it is none for hosted voice mail".to_owned())
}

fn complete_server_names(found: &mut Imported) {
    let forest = found.of("dial_plan").find_map(|plan| {
        let context = plan.text("phone_context");
        context.get(plan.text("name").len() + 1..).map(str::to_ascii_lowercase)
    });
    for object in &mut found.objects {
        let is_server = object.kind.fields.iter().any(|field| field.form == Form::Server);
        let name = object.text("name").to_owned();
        if is_server
            && !name.contains('.')
            && let Some(forest) = &forest
        {
            object.values[0] = ("name", Value::from(format!("{name}.{forest}")));
            object
                .notes
                .push("the domain of its name was guessed; the collector script prints it".to_owned());
        }
    }
}

/// Names of objects that are not there: in a list they go, elsewhere the whole object does.
fn references(found: &mut Imported, tree: &Value) {
    let names = |table: &str| -> BTreeSet<String> {
        let there = tree.get(table).and_then(Value::as_array).into_iter().flatten();
        let there = there.filter_map(|object| object.get("name")?.as_str()).map(str::to_ascii_lowercase);
        found.of(table).map(|object| object.text("name").to_ascii_lowercase()).chain(there).collect()
    };
    let (plans, gateways, policies) = (names("dial_plan"), names("ip_gateway"), names("mailbox_policy"));
    let hosted: BTreeSet<String> = found
        .of("hosted_voicemail_policy")
        .map(|object| object.text("identity").to_ascii_lowercase().trim_start_matches("tag:").to_owned())
        .collect();
    let mut remarks = Vec::new();
    found.objects.retain_mut(|object| {
        let name = object.name();
        let missing =
            [("dial_plan", &plans), ("ip_gateway", &gateways)].into_iter().find_map(|(key, known)| {
                let wanted = object.text(key);
                (!wanted.is_empty() && !known.contains(&wanted.to_ascii_lowercase()))
                    .then(|| format!("{key} {wanted}"))
            });
        if let Some(missing) = missing {
            remarks
                .push(format!("{} {name} left out: {missing} is not among the objects", object.kind.table));
            return false;
        }
        if let Some(Value::Array(list)) = object.get("dial_plans").cloned() {
            let is_known =
                |value: &Value| value.as_str().is_some_and(|plan| plans.contains(&plan.to_ascii_lowercase()));
            let (known, gone): (Vec<Value>, Vec<Value>) = list.into_iter().partition(is_known);
            object.set("dial_plans", Value::Array(known));
            object.notes.extend(
                gone.iter()
                    .map(|plan| format!("dial plan {} left out: not among the objects", shortened(plan))),
            );
        }
        let known = if object.kind.table == "contact" { &hosted } else { &policies };
        let policy = object.text("policy").to_ascii_lowercase();
        if !policy.is_empty() && !known.contains(policy.trim_start_matches("tag:")) {
            object.notes.push(format!("policy {policy} left out: not among the objects"));
            object.values.retain(|(key, _)| *key != "policy");
        }
        true
    });
    remarks.into_iter().for_each(|remark| found.remark(remark));
}
