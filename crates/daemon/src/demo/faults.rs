//! `umbra lab faults`: a fault plan, one call for each of its faults through a lab site of its own, and what the gateway made of it beside
//! what it must make of it. Owns the plan, the comparison and the matrix; the lab does what is wrong.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use lab::frontend::{CallEnd, CallOutcome, CallSpec, Talk, TalkStart};
use lab::pki::Pki;
use lab::um::Fault;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinSet;

use super::config::{DOMAIN, MAILBOX_SERVERS, POOLS, ROUTER};
use super::place::Folder;
use super::records::Records;
use super::site::{Site, certificates};
use super::{DemoError, Interrupts};
use crate::cli::{Exit, Format, Screen};
use crate::config::lab_file::{fault, unknown};

/// What the command does without `--plan`.
const PLAN: &str = include_str!("faults.toml");
/// Longest plan read.
const PLAN_BYTES_MAX: u64 = 64 * 1024;
/// Faults in one plan.
const FAULTS_MAX: usize = 100;
/// Sites at once.
const SITES_MAX: usize = 4;
/// A caller that waits for ever gives up after this.
const CALL_MAX: Duration = Duration::from_secs(25);
const RINGS_MAX: Duration = Duration::from_secs(6);
const TALK: Duration = Duration::from_millis(1_500);
const TALK_HZ: f64 = 440.0;
const TALK_DBFS: f64 = -15.0;
/// Refused packets of a call that tell of more than what was under way at its beginning and end.
const REFUSED_MIN: u64 = 10;

/// The words of the command.
#[derive(Debug, Args)]
pub(crate) struct FaultsArgs {
    /// Plan to carry out instead of the built-in one
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// Print the plan and do nothing
    #[arg(long)]
    show: bool,
    /// Only faults whose name contains this
    #[arg(long, value_name = "WORDS")]
    only: Option<String>,
    /// Seed of the lab's and the caller's tags, keys and sources
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder for certificates, configurations and records
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(screen: &Screen, arguments: &FaultsArgs) -> Exit {
    let plan = match Plan::chosen(arguments) {
        Ok(plan) => plan,
        Err(why) => {
            screen.story(&format!("umbra lab faults: {why}"));
            return Exit::BadConfiguration;
        }
    };
    if arguments.show {
        screen.data(plan.text.trim_end());
        return Exit::Fine;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let outcome = runtime
        .map_err(DemoError::Runtime)
        .and_then(|runtime| runtime.block_on(carry_out(&plan, arguments, screen)));
    outcome.unwrap_or_else(|problem| {
        screen.story(&format!("umbra lab faults: {problem}"));
        Exit::Failed
    })
}

/// A plan as read.
struct Plan {
    text: String,
    faults: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    #[serde(default)]
    fault: Vec<Entry>,
}

/// One fault and what it must come to.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    kind: String,
    #[serde(default)]
    at: At,
    #[serde(default)]
    after: u32,
    expect: String,
}

/// Where a fault is.
#[derive(Copy, Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum At {
    CallRouter,
    Server,
    Servers,
    Worker,
    #[default]
    Workers,
}

impl Plan {
    fn chosen(arguments: &FaultsArgs) -> Result<Self, String> {
        let text = match &arguments.plan {
            None => PLAN.to_owned(),
            Some(path) => read(path).map_err(|why| format!("{}: {why}", path.display()))?,
        };
        let mut faults = parse(&text)?;
        if let Some(words) = &arguments.only {
            faults.retain(|entry| entry.name.contains(words));
        }
        match faults.len() {
            0 => Err("the plan has no such fault".to_owned()),
            1..=FAULTS_MAX => Ok(Self { text, faults }),
            many => Err(format!("{many} faults; {FAULTS_MAX} are possible")),
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|why| why.to_string())?;
    // A device has no length of its own.
    file.take(PLAN_BYTES_MAX + 1).read_to_string(&mut text).map_err(|why| why.to_string())?;
    if text.len() as u64 > PLAN_BYTES_MAX {
        return Err(format!("longer than {PLAN_BYTES_MAX} bytes"));
    }
    Ok(text)
}

fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let source = ::config::File::from_str(text, ::config::FileFormat::Toml);
    let read = ::config::Config::builder().add_source(source).build();
    let plan: PlanFile = read.and_then(::config::Config::try_deserialize).map_err(|why| why.to_string())?;
    match plan.fault.iter().find(|entry| entry.fault().is_none()) {
        Some(entry) => Err(format!("{}: {}", entry.name, unknown(&entry.kind))),
        None => Ok(plan.fault),
    }
}

impl Entry {
    /// `None`: its word is none, which [`parse`] refuses.
    fn fault(&self) -> Option<Fault> {
        fault(&self.kind, Duration::from_millis(self.after.into()))
    }
}

/// What became of a fault.
#[derive(Debug, Serialize)]
struct Found {
    fault: String,
    expected: String,
    found: String,
    /// The record's words.
    what: String,
    /// From INVITE to the end of the call.
    took_ms: u128,
}

impl Found {
    fn is_as_expected(&self) -> bool {
        self.found == self.expected
    }
}

async fn carry_out(plan: &Plan, arguments: &FaultsArgs, screen: &Screen) -> Result<Exit, DemoError> {
    let mut interrupts = Interrupts::listen().map_err(DemoError::Runtime)?;
    let folder = Folder::claim(arguments.dir.as_deref())?;
    let pki = certificates(folder.path()).await?;
    screen.story(&format!("{} calls, each through a gateway and a lab UM of its own ...", plan.faults.len()));
    let found = tokio::select! {
        found = try_all(plan, arguments.seed, folder.path(), &pki) => found?,
        () = interrupts.next() => return Ok(Exit::Failed),
    };
    if screen.form == Format::Json {
        screen.json(&found);
    } else {
        screen.data(&table(&found));
        screen.data(&matrix(&found));
        let right = found.iter().filter(|found| found.is_as_expected()).count();
        screen.data(&format!("{right} of {} as expected", found.len()));
    }
    Ok(if found.iter().all(Found::is_as_expected) { Exit::Fine } else { Exit::Failed })
}

async fn try_all(plan: &Plan, seed: u64, folder: &Path, pki: &Arc<Pki>) -> Result<Vec<Found>, DemoError> {
    let mut running = JoinSet::new();
    let mut all = Vec::with_capacity(plan.faults.len());
    let mut waiting = plan.faults.iter().cloned().enumerate();
    loop {
        while running.len() < SITES_MAX {
            let Some((number, entry)) = waiting.next() else { break };
            let (folder, pki) = (folder.join("faults").join(number.to_string()), pki.clone());
            running.spawn(async move {
                Ok::<_, DemoError>((number, try_one(&entry, seed, &folder, &pki).await?))
            });
        }
        match running.join_next().await {
            None => break,
            Some(one) => all.push(one.map_err(|_| DemoError::Interrupted)??),
        }
    }
    all.sort_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, found)| found).collect())
}

async fn try_one(entry: &Entry, seed: u64, folder: &Path, pki: &Arc<Pki>) -> Result<Found, DemoError> {
    std::fs::create_dir_all(folder).map_err(|why| DemoError::Folder { path: folder.to_owned(), why })?;
    // All sites show the same certificates; a configuration names them beside itself.
    let own = folder.join("pki");
    if !own.exists() {
        std::os::unix::fs::symlink("../../pki", &own).map_err(|why| DemoError::Folder { path: own, why })?;
    }
    let mut site = Site::start_with(folder, pki, seed).await?;
    let fault = entry.fault().unwrap_or_default();
    let [first, ..] = MAILBOX_SERVERS;
    match entry.at {
        At::CallRouter => site.lab.set_fault(ROUTER, fault.clone()).await?,
        At::Server => site.lab.set_fault(first, fault.clone()).await?,
        At::Worker => site.lab.set_worker_fault(first, fault.clone()).await?,
        At::Servers => {
            for server in MAILBOX_SERVERS {
                site.lab.set_fault(server, fault.clone()).await?;
            }
        }
        At::Workers => {
            for server in MAILBOX_SERVERS {
                site.lab.set_worker_fault(server, fault.clone()).await?;
            }
        }
    }
    let started = Instant::now();
    let outcome = site.pool(0).place_call(call(&fault)).await;
    let took = started.elapsed();
    let caller = POOLS.first().map(|pool| pool.name).unwrap_or_default();
    site.stop().await;
    let records = Records::read(&folder.join("cdr"), 1).await;
    let (found, what) = match outcome {
        Ok(outcome) => read_record(&outcome, records.of(&outcome.call_id), caller),
        Err(problem) => ("not placed".to_owned(), problem.to_string()),
    };
    let (fault, expected) = (entry.name.clone(), entry.expect.clone());
    Ok(Found { fault, expected, found, what, took_ms: took.as_millis() })
}

fn call(fault: &Fault) -> CallSpec {
    let talk = Talk {
        hz: TALK_HZ,
        level_dbfs: TALK_DBFS,
        lasts: TALK,
        start: TalkStart::AfterAnswer(Duration::from_millis(200)),
    };
    let end = match fault {
        Fault::RingsForever => CallEnd::CancelAfter(RINGS_MAX),
        Fault::Recycled(_) => CallEnd::WaitForBye,
        _ => CallEnd::HangUpAfter(Duration::from_secs(4)),
    };
    CallSpec {
        talk: Some(talk),
        end,
        time_limit: CALL_MAX,
        ..CallSpec::call_answering("ken", "dana", DOMAIN)
    }
}

/// What the gateway's record says of the call, as one of the plan's words, and its own words.
fn read_record(outcome: &CallOutcome, record: Option<&Value>, caller: &str) -> (String, String) {
    let Some(record) = record else {
        return ("no record".to_owned(), format!("the caller got {}", outcome.status));
    };
    let verdict = &record["verdict"];
    let said = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if record["offer_result"] != "Answer" {
        return refused_call(verdict);
    }
    let audio = said(&record["media"]["audio"]);
    let refused = record["media"]["packets_refused"].as_u64().unwrap_or_default();
    let word = if audio.contains("nothing came from B") {
        "no audio from UM"
    } else if audio.contains("all that came from B was refused") {
        "audio from UM refused"
    } else if refused >= REFUSED_MIN {
        "audio from UM partly refused"
    } else if verdict["code"] != "UMB-CALL001" {
        return (said(&verdict["code"]), said(&verdict["what"]));
    } else if verdict["who"] != caller {
        "UM hung up"
    } else if record["failovers"].as_u64().unwrap_or_default() > 0 {
        "next server"
    } else {
        "answered"
    };
    (word.to_owned(), format!("{}; {audio}; {refused} packets refused", said(&verdict["what"])))
}

/// The code, and where no server was left the code by which the last one failed.
fn refused_call(verdict: &Value) -> (String, String) {
    let code = verdict["code"].as_str().unwrap_or_default();
    let what = verdict["what"].as_str().unwrap_or_default();
    let evidence = verdict["evidence"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let last = evidence.filter_map(|line| line.strip_prefix("last: ")).find_map(|line| line.split_once(": "));
    match last {
        Some((cause, words)) => (format!("{code} after {cause}"), words.to_owned()),
        None => (code.to_owned(), what.to_owned()),
    }
}

fn table(found: &[Found]) -> String {
    let wide = |of: fn(&Found) -> &str| found.iter().map(|found| of(found).len()).max().unwrap_or_default();
    let (name, expected, came) =
        (wide(|f| &f.fault), wide(|f| &f.expected).max(8), wide(|f| &f.found).max(5));
    let mut text = format!(
        "{:<name$}  {:<expected$}  {:<came$}  {:>7}  WORDS OF THE RECORD\n",
        "FAULT", "EXPECTED", "FOUND", "MS"
    );
    for Found { fault, expected: wanted, found, what, took_ms } in found {
        text.push_str(&format!(
            "{fault:<name$}  {wanted:<expected$}  {found:<came$}  {took_ms:>7}  {what}\n"
        ));
    }
    text
}

/// Faults by what was expected, against what was found: off the diagonal is a confusion.
fn matrix(found: &[Found]) -> String {
    let words: BTreeSet<&str> =
        found.iter().flat_map(|found| [found.expected.as_str(), found.found.as_str()]).collect();
    let wide = words.iter().map(|word| word.len()).max().unwrap_or_default();
    let mut text = format!("{:<wide$}   found\n{:<wide$} ", "", "expected");
    for number in 1..=words.len() {
        text.push_str(&format!("{number:>4}"));
    }
    text.push('\n');
    for (row, expected) in words.iter().enumerate() {
        text.push_str(&format!("{expected:<wide$} "));
        for came in &words {
            let count = found.iter().filter(|one| one.expected == *expected && one.found == *came).count();
            text.push_str(&if count == 0 { "   .".to_owned() } else { format!("{count:>4}") });
        }
        text.push_str(&format!("   {}\n", row + 1));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_that_is_built_in_can_be_read_and_names_no_fault_twice() {
        let faults = parse(PLAN).unwrap();
        let names: BTreeSet<&str> = faults.iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names.len(), faults.len());
        let words = faults.iter().flat_map(|entry| entry.expect.split(' '));
        for code in words.filter(|word| word.starts_with("UMB-")) {
            assert!(b2bua::codes::lookup(code).is_some(), "{code}");
        }
    }

    #[test]
    fn a_plan_with_a_word_that_is_none_is_refused_with_the_word() {
        let wrong = parse("[[fault]]\nname = \"x\"\nkind = \"meteor\"\nexpect = \"answered\"\n").unwrap_err();
        assert!(wrong.contains("meteor"), "{wrong}");
        let wrong = parse("[[fault]]\nname = \"x\"\nkind = \"none\"\nexpects = \"answered\"\n").unwrap_err();
        assert!(wrong.contains("expects"), "{wrong}");
    }

    #[test]
    fn a_confusion_is_off_the_diagonal() {
        let found = |expected: &str, found: &str| Found {
            fault: "f".into(),
            expected: expected.into(),
            found: found.into(),
            what: String::new(),
            took_ms: 1,
        };
        let text = matrix(&[found("answered", "answered"), found("next server", "answered")]);
        let rows: Vec<Vec<&str>> =
            text.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows, [vec!["answered", "1", ".", "1"], vec!["next", "server", "1", ".", "2"]]);
    }
}
