//! What a directory showed at one moment: kept in memory while it is in force, and in a file for a start without a directory. Holds
//! objects as cmdlets print them and no secret.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use b2bua::codes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::collect::{Object, Trouble, collect_beside};
use super::drift::is_same;
use super::ldap::{Directory, Failure};
use super::table::Count;
use super::{Imported, read};

/// In `state_dir`.
const FILE: &str = "directory.json";
/// Of the file: another one is another program's.
const FORMAT: u32 = 1;
const MODE: u32 = 0o600;

/// What a directory showed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct View {
    format: u32,
    /// Which directory, and which part of it.
    source: String,
    /// Seconds since 1970.
    taken_at: u64,
    /// Cmdlet → its objects.
    documents: Value,
}

/// One object for a configuration that has none of its identity.
#[derive(Clone, Debug, PartialEq)]
pub struct Addition {
    /// Table.
    pub table: &'static str,
    /// Keys and values.
    pub values: Map<String, Value>,
    /// Where it stands.
    pub origin: String,
}

/// What a view comes to beside a configuration.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// What it adds.
    pub additions: Vec<Addition>,
    /// What was left out, and why.
    pub remarks: Vec<String>,
}

impl View {
    pub(super) fn new(from: &Directory, documents: Value, at: SystemTime) -> Self {
        let taken_at = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { format: FORMAT, source: from.source(), taken_at, documents }
    }

    /// The last one of this directory that was in force, if it was kept.
    pub fn kept(of: &Directory, state_dir: &Path) -> Option<Self> {
        let view: Self = serde_json::from_value(read(&state_dir.join(FILE)).ok()?).ok()?;
        (view.format == FORMAT && view.source == of.source()).then_some(view)
    }

    /// Keeps it for the next start.
    ///
    /// # Errors
    /// The folder or the file cannot be written.
    pub fn keep(&self, state_dir: &Path) -> std::io::Result<PathBuf> {
        use std::os::unix::fs::OpenOptionsExt as _;
        std::fs::create_dir_all(state_dir)?;
        let (file, fresh) = (state_dir.join(FILE), state_dir.join(format!("{FILE}.new")));
        let mut out =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&fresh)?;
        out.write_all(&serde_json::to_vec(self)?)?;
        out.sync_all()?;
        std::fs::rename(&fresh, &file)?;
        Ok(file)
    }

    /// Whether both show the same.
    pub fn is_like(&self, other: &Self) -> bool {
        self.source == other.source && self.documents == other.documents
    }

    /// Whether it is one of this directory.
    pub fn is_of(&self, directory: &Directory) -> bool {
        self.source == directory.source()
    }

    /// When it was read.
    pub fn taken_at(&self) -> SystemTime {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.taken_at)).unwrap_or(UNIX_EPOCH)
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.counts().map(|(_, count)| count).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of each cmdlet's objects.
    pub fn counts(&self) -> impl Iterator<Item = (&str, usize)> {
        self.lists().map(|(cmdlet, list)| (cmdlet.as_str(), list.len()))
    }

    /// As the cmdlets would print it.
    pub fn documents(&self) -> &Value {
        &self.documents
    }

    fn lists(&self) -> impl Iterator<Item = (&String, &Vec<Value>)> {
        self.documents
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(key, list)| Some((key, list.as_array()?)))
    }

    /// The objects in the words of a configuration that has this tree, whose own objects they may name.
    ///
    /// # Errors
    /// A word that nothing can replace is none.
    pub fn objects(&self, tree: &Value) -> Result<Imported, Failure> {
        let refused = |trouble: Trouble| Failure::new(codes::DIR_VIEW, trouble.what);
        collect_beside(std::slice::from_ref(&self.documents), tree).map_err(refused)
    }

    /// What it adds to a configuration: where both have an object of the same identity, the configuration's stays as it is.
    ///
    /// # Errors
    /// A word that nothing can replace is none.
    pub fn beside(&self, tree: &Value) -> Result<Beside, Failure> {
        let found = self.objects(tree)?;
        let fqdn = tree.get("gateway").and_then(|gateway| gateway.get("fqdn")).and_then(Value::as_str);
        let own = found.own_gateways(fqdn.unwrap_or_default());
        let mut beside = Beside { remarks: found.remarks.clone(), ..Beside::default() };
        for object in
            found.objects.iter().filter(|object| object.kind.count == Count::Many && !object.is_of(&own))
        {
            let there =
                tree.get(object.kind.table).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            if !there.iter().any(|own| is_same(object.kind, own, object)) {
                beside.additions.push(addition(object, there));
            }
            let notes =
                object.notes.iter().map(|note| format!("{} {}: {note}", object.kind.table, object.name()));
            beside.remarks.extend(notes);
        }
        Ok(beside)
    }

    /// What is new, gone or other than in an earlier view: names of objects, with a sign.
    pub fn changes_since(&self, before: Option<&Self>) -> Vec<String> {
        let empty = Value::Null;
        let was = before.map_or(&empty, |view| &view.documents);
        let mut all = Vec::new();
        for (cmdlet, list) in self.lists() {
            let was = was.get(cmdlet).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let noun = cmdlet.trim_start_matches("Get-");
            let named = |sign: char, object: &Value| format!("{sign}{noun} {}", dn(object));
            // Both are sorted by DN.
            let in_it = |list: &[Value], object: &Value| {
                list.binary_search_by(|other| dn(other).cmp(dn(object)))
                    .ok()
                    .and_then(|at| list.get(at).cloned())
            };
            for object in list {
                match in_it(was, object) {
                    None => all.push(named('+', object)),
                    Some(old) if old != *object => all.push(named('~', object)),
                    Some(_) => {}
                }
            }
            all.extend(
                was.iter().filter(|object| in_it(list, object).is_none()).map(|object| named('-', object)),
            );
        }
        all
    }
}

fn dn(object: &Value) -> &str {
    object.get("DistinguishedName").and_then(Value::as_str).unwrap_or_default()
}

/// Hunt groups are told apart by gateway there and by name here.
fn addition(object: &Object, there: &[Value]) -> Addition {
    let mut values: Map<String, Value> =
        object.values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    let name = object.text("name");
    let is_taken = |own: &Value| {
        own.get("name").and_then(Value::as_str).is_some_and(|other| other.eq_ignore_ascii_case(name))
    };
    if object.kind.table == "hunt_group" && there.iter().any(is_taken) {
        values.insert("name".to_owned(), Value::from(format!("{}-{name}", object.text("ip_gateway"))));
    }
    Addition { table: object.kind.table, values, origin: object.origin.clone() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::ldap::tests::directory;
    use super::*;

    fn view(documents: Value) -> View {
        View::new(&directory(), documents, SystemTime::now())
    }

    fn whole() -> Value {
        let at = |name: &str| format!("CN={name},CN=Configuration,DC=contoso,DC=test");
        json!({
            "Get-UMDialPlan": [
                { "DistinguishedName": at("DP"), "Name": "DP", "VoIPSecurity": "Unsecured", "PhoneContext": "DP.contoso.test" },
            ],
            "Get-UMIPGateway": [
                { "DistinguishedName": at("pbx"), "Name": "pbx", "Address": "192.0.2.1" },
                { "DistinguishedName": at("umbra"), "Name": "umbra", "Address": "Umbra.contoso.test" },
            ],
            "Get-UMHuntGroup": [
                { "DistinguishedName": at("hg,CN=pbx"), "Name": "hg", "UMIPGateway": "pbx", "UMDialPlan": "DP", "PilotIdentifier": "1" },
                { "DistinguishedName": at("of the file,CN=pbx"), "Name": "new", "UMIPGateway": "Own", "UMDialPlan": "Own", "PilotIdentifier": "2" },
                { "DistinguishedName": at("to nothing,CN=pbx"), "Name": "gone", "UMIPGateway": "pbx", "UMDialPlan": "Gone", "PilotIdentifier": "3" },
                { "DistinguishedName": at("umbra,CN=umbra"), "Name": "umbra", "UMIPGateway": "umbra", "UMDialPlan": "DP", "PilotIdentifier": "DP" },
            ],
        })
    }

    #[test]
    fn the_file_wins_and_both_may_name_each_others_objects() {
        let tree = json!({
            "gateway": { "fqdn": "umbra.contoso.test" },
            "dial_plan": [{ "name": "own", "voip_security": "Secured" }, { "name": "dp", "voip_security": "Secured" }],
            "ip_gateway": [{ "name": "own" }],
            "hunt_group": [{ "name": "HG", "ip_gateway": "own", "dial_plan": "own", "pilot_identifier": "1" }],
        });
        let beside = view(whole()).beside(&tree).unwrap();
        let named: Vec<(&str, &str)> =
            beside.additions.iter().map(|one| (one.table, one.values["name"].as_str().unwrap())).collect();
        // The plan is the file's; the gateway that is this one is no peer; two groups of one name are told apart.
        assert_eq!(named, [("hunt_group", "pbx-hg"), ("hunt_group", "new"), ("ip_gateway", "pbx")]);
        assert_eq!(beside.additions[2].origin, "CN=pbx,CN=Configuration,DC=contoso,DC=test");
        assert!(
            beside.remarks.iter().any(|remark| remark.contains("gone left out: dial_plan Gone")),
            "{:?}",
            beside.remarks
        );
    }

    #[test]
    fn a_word_that_is_none_refuses_the_whole_view() {
        let mut documents = whole();
        documents["Get-UMDialPlan"][0]["VoIPSecurity"] = Value::from("9");
        let failure = view(documents).beside(&Value::Null).unwrap_err();
        assert_eq!(failure.code, codes::DIR_VIEW);
        assert!(failure.what.contains("VoIPSecurity") && failure.what.contains("DP"), "{failure}");
    }

    #[test]
    fn changes_are_told_by_sign_and_place() {
        let before = view(whole());
        let mut documents = whole();
        documents["Get-UMIPGateway"][0]["Port"] = Value::from(5070);
        documents["Get-UMHuntGroup"].as_array_mut().unwrap().remove(1);
        documents["Get-UMMailbox"] = json!([{ "DistinguishedName": "CN=Ken" }]);
        let after = view(documents);
        let place = ",CN=Configuration,DC=contoso,DC=test";
        let wanted = [
            format!("-UMHuntGroup CN=of the file,CN=pbx{place}"),
            format!("~UMIPGateway CN=pbx{place}"),
            "+UMMailbox CN=Ken".to_owned(),
        ];
        assert_eq!(after.changes_since(Some(&before)), wanted);
        assert_eq!(before.changes_since(Some(&before)), Vec::<String>::new());
        assert!(before.is_like(&view(whole())) && !before.is_like(&after));
        assert_eq!(before.changes_since(None).len(), before.len());
    }

    #[test]
    fn what_is_kept_is_that_of_one_directory_and_nobody_elses_to_read() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        assert_eq!(View::kept(&directory(), &state), None);
        let file = view(whole()).keep(&state).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(View::kept(&directory(), &state).map(|view| view.len()), Some(7));
        let other = Directory { port: 2, ..directory() };
        assert_eq!(View::kept(&other, &state), None, "another directory");
        for broken in [
            "",
            "{",
            "[]",
            "{\"format\":1}",
            "{\"format\":1,\"source\":\"x\",\"taken_at\":1,\"documents\":7}",
        ] {
            std::fs::write(&file, broken).unwrap();
            assert_eq!(View::kept(&directory(), &state), None, "{broken}");
        }
    }
}
