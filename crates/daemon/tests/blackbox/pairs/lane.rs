//! Where a pair runs: a lane of its own through one gateway process, with its own UM IP gateway, dial plan, Call Routers
//! and Mailbox servers on addresses of its own, so that nothing a pair does reaches another. Owns processes, files and
//! what is printed when a pair fails; refuses to know what pairs are about.

use std::net::Ipv4Addr;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::script::Script;
use crate::harness::{Gateway, Net, Process, folder, http_get, metric_sum, peers_present};

/// Pairs of a family that run at once.
const AT_ONCE: usize = 8;
/// How long the parties of a pair may take.
const PAIR_MAX: Duration = Duration::from_secs(75);
/// How long a party waits for the message it expects.
const PATIENCE: Duration = Duration::from_secs(8);
const GATEWAY: u8 = 1;
/// Addresses per lane.
const HOSTS: usize = 5;
/// What is printed of each file of a failed pair.
const SHOWN: usize = 12_000;

/// Who a party is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host {
    /// The IP-PBX; places calls.
    Caller,
    /// The IP-PBX once more, listening where the gateway looks for it.
    Target,
    /// The plan's Call Routers, in order of priority.
    Router,
    NextRouter,
    /// The plan's Mailbox servers.
    Mailbox,
    NextMailbox,
}

impl Host {
    fn number(self) -> usize {
        match self {
            Self::Caller | Self::Target => 0,
            Self::Router => 1,
            Self::NextRouter => 2,
            Self::Mailbox => 3,
            Self::NextMailbox => 4,
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Caller => 5070,
            Self::Target => 5080,
            _ => 5060,
        }
    }
}

/// Two or more scripts that belong together, and what the gateway has to write about them.
pub struct Pair {
    name: &'static str,
    parties: Vec<(Host, Role, Script)>,
    plan: &'static str,
    record: Vec<(&'static str, Value)>,
    records: usize,
    patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Begins,
    Listens,
}

impl Pair {
    /// A requirement, as a sentence.
    pub fn new(name: &'static str) -> Self {
        Self { name, parties: Vec::new(), plan: "", record: Vec::new(), records: 1, patience: PATIENCE }
    }

    /// What the caller does.
    pub fn caller(self, script: impl FnOnce(Script) -> Script) -> Self {
        self.begun_by(Host::Caller, script)
    }

    /// What the UM server does.
    pub fn server(self, script: impl FnOnce(Script) -> Script) -> Self {
        self.at(Host::Router, script)
    }

    /// A party that sends the first request.
    pub fn begun_by(mut self, host: Host, script: impl FnOnce(Script) -> Script) -> Self {
        self.parties.push((host, Role::Begins, script(Script::begins())));
        self
    }

    /// A party that waits for a request.
    pub fn at(mut self, host: Host, script: impl FnOnce(Script) -> Script) -> Self {
        self.parties.push((host, Role::Listens, script(Script::is_called())));
        self
    }

    /// Keys of the pair's dial plan.
    pub fn plan(mut self, keys: &'static str) -> Self {
        self.plan = keys;
        self
    }

    /// A value in the call record.
    pub fn record(mut self, pointer: &'static str, value: impl Into<Value>) -> Self {
        self.record.push((pointer, value.into()));
        self
    }

    /// A party may have to wait for most of a minute.
    pub fn patient(mut self) -> Self {
        self.patience = Duration::from_secs(55);
        self
    }

    /// How many calls are on record afterwards (one, unless said).
    pub fn records(mut self, count: usize) -> Self {
        self.records = count;
        self
    }
}

/// Runs the pairs of a family through one gateway, and fails with everything known about those that did.
pub fn run(settings: &str, pairs: &[Pair]) {
    if !peers_present(&["sipp"]) {
        return;
    }
    assert!(pairs.len() * HOSTS < 250, "more lanes than a network has addresses");
    let began = Instant::now();
    let net = Net::new();
    let gateway = net.host(GATEWAY);
    let lanes: Vec<Lane> = (0..pairs.len()).map(|number| Lane { number, net }).collect();
    let objects: String = lanes.iter().zip(pairs).map(|(lane, pair)| lane.objects(pair.plan)).collect();
    let umbra = Gateway::start(folder(), gateway, 5060, &format!("{}{settings}{objects}", head(gateway)));
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let wanted = std::env::var("UMBRA_PAIR").unwrap_or_default();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((lane, pair)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    lanes.get(at).zip(pairs.get(at))
                } {
                    if !pair.name.contains(&wanted) {
                        continue;
                    }
                    let started = Instant::now();
                    if let Err(why) = lane.run(pair, &umbra) {
                        failures.lock().unwrap().push(format!("=== {}\n{why}", pair.name));
                    }
                    println!("{:>5} ms  {}", started.elapsed().as_millis(), pair.name);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    println!("{} pairs in {:.1} s, {} failed", pairs.len(), began.elapsed().as_secs_f32(), failures.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    nothing_is_left(umbra);
}

// Whatever a pair did, the gateway holds no call for it.
fn nothing_is_left(mut umbra: Gateway) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let metrics = http_get(umbra.address, 9065, "/metrics");
        if metric_sum(&metrics, "umbra_calls_active") == 0.0 {
            break;
        }
        assert!(Instant::now() < until, "calls left:\n{metrics}");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(umbra.stop(), 0, "{}", umbra.process.output());
    assert!(!umbra.process.output().contains("panicked"), "{}", umbra.process.output());
}

/// The addresses of one pair.
#[derive(Clone, Copy)]
struct Lane {
    number: usize,
    net: Net,
}

impl Lane {
    fn address(self, host: Host) -> Ipv4Addr {
        let first = usize::from(GATEWAY) + 1 + self.number * HOSTS;
        self.net.host(u8::try_from(first + host.number()).unwrap())
    }

    fn run(self, pair: &Pair, umbra: &Gateway) -> Result<(), String> {
        let folder = umbra.folder.path().join(format!("lane{}", self.number));
        std::fs::create_dir(&folder).unwrap();
        // A party that does not even start is this pair's failure, not the family's.
        let played = std::panic::catch_unwind(AssertUnwindSafe(|| self.play(pair, umbra, &folder)));
        let result = played.unwrap_or_else(|_| Err("a party did not start".into()));
        result.and_then(|()| self.check_records(pair, umbra)).map_err(|why| {
            let caller = self.address(Host::Caller).to_string();
            let log = umbra.process.output();
            let name = format!("lane{}.", self.number);
            let lines: Vec<&str> =
                log.lines().filter(|line| line.contains(&caller) || line.contains(&name)).collect();
            format!("{why}\n--- gateway's log\n{}\n{}", lines.join("\n"), files_of(&folder))
        })
    }

    // Listeners first; then whoever begins.
    fn play(self, pair: &Pair, umbra: &Gateway, folder: &Path) -> Result<(), String> {
        let mut running = Vec::new();
        for role in [Role::Listens, Role::Begins] {
            for (host, _, script) in pair.parties.iter().filter(|(_, own, _)| *own == role) {
                let mut party = self.start(*host, role, pair, script, umbra.address, folder);
                if role == Role::Listens {
                    party.wait_for_port(self.address(*host).into(), host.port());
                }
                running.push((*host, party));
            }
        }
        let mut until = Instant::now() + PAIR_MAX;
        let mut faults = Vec::new();
        for (host, party) in running.iter_mut().rev() {
            match party.wait_until(until) {
                Some(0) => {}
                Some(code) => faults.push(format!("{host:?}: sipp ended with {code}")),
                None => faults.push(format!("{host:?}: sipp did not end")),
            }
            // Whoever begins ends last, but for a few answers.
            until = until.min(Instant::now() + PATIENCE);
        }
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
    }

    fn start(
        self,
        host: Host,
        role: Role,
        pair: &Pair,
        script: &Script,
        gateway: Ipv4Addr,
        folder: &Path,
    ) -> Process {
        let label = format!("{host:?}").to_lowercase();
        let folder = folder.join(&label);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("scenario.xml"), script.xml(pair.name)).unwrap();
        let mut command = Command::new("sipp");
        command.args(["-sf", "scenario.xml", "-t", "t1", "-nostdin", "-m", "1", "-trace_err", "-trace_msg"]);
        command.args([
            "-timeout",
            "70s",
            "-timeout_error",
            "-cid_str",
            &format!("lane{}-%u-%p@%s", self.number),
        ]);
        command.args([
            "-default_behaviors",
            "abortunexp",
            "-recv_timeout",
            &pair.patience.as_millis().to_string(),
        ]);
        command.args(["-i", &self.address(host).to_string(), "-p", &host.port().to_string()]);
        command.args(["-mp", &(6000 + host.port()).to_string()]);
        for (key, other) in
            [("router", Host::Router), ("mailbox", Host::Mailbox), ("next_mailbox", Host::NextMailbox)]
        {
            command.args(["-key", key, &self.address(other).to_string()]);
        }
        command.args(["-key", "gateway", &gateway.to_string(), "-key", "extension", &self.extension()]);
        if role == Role::Begins {
            command.arg(format!("{gateway}:5060"));
        }
        command.current_dir(&folder);
        Process::start("sipp", &mut command, &folder)
    }

    fn extension(self) -> String {
        format!("7{:03}", self.number)
    }

    fn check_records(self, pair: &Pair, umbra: &Gateway) -> Result<(), String> {
        let until = Instant::now() + Duration::from_secs(10);
        let mine = format!("lane{}-", self.number);
        let is_mine = |record: &Value| record["call_id"].as_str().is_some_and(|id| id.starts_with(&mine));
        let mut records: Vec<Value> = Vec::new();
        while Instant::now() < until && (records.len() < pair.records || pair.records == 0) {
            records = umbra.records().into_iter().filter(is_mine).collect();
            if pair.records == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if records.len() != pair.records {
            return Err(format!("{} records instead of {}: {records:#?}", records.len(), pair.records));
        }
        for (pointer, value) in &pair.record {
            let said = records[0].pointer(pointer).unwrap_or(&Value::Null);
            if said != value {
                return Err(format!(
                    "{pointer} of the record is {said} instead of {value}: {:#}",
                    records[0]
                ));
            }
        }
        Ok(())
    }

    fn objects(self, plan: &str) -> String {
        let number = self.number;
        let at = |host| self.address(host);
        let mut text = format!(
            "\n[[dial_plan]]\nname = \"DP-{number}\"\nuri_type = \"TelExtn\"\nvoip_security = \"Unsecured\"\n\
             phone_context = \"DP-{number}.contoso.test\"\n{plan}\n\n\
             [[ip_gateway]]\nname = \"pbx{number}\"\naddress = \"{caller}\"\nport = {port}\noutcalls_allowed = false\n\
             message_waiting_indicator_allowed = true\n\n\
             [[hunt_group]]\nname = \"hunt{number}\"\nip_gateway = \"pbx{number}\"\ndial_plan = \"DP-{number}\"\n\
             pilot_identifier = \"88895\"\n\n\
             [[mailbox]]\nalias = \"ken{number}\"\nextension = \"{extension}\"\ndial_plan = \"DP-{number}\"\n",
            caller = at(Host::Caller),
            port = Host::Target.port(),
            extension = self.extension(),
        );
        let servers = [
            ("call_router", "cas", Host::Router),
            ("call_router", "nextcas", Host::NextRouter),
            ("mailbox_server", "mbx", Host::Mailbox),
            ("mailbox_server", "nextmbx", Host::NextMailbox),
        ];
        for (table, name, host) in servers {
            text.push_str(&format!(
                "\n[[{table}]]\nname = \"{name}.lane{number}.contoso.test\"\naddress = [\"{}\"]\ndial_plans = [\"DP-{number}\"]\n",
                at(host)
            ));
        }
        text
    }
}

fn head(gateway: Ipv4Addr) -> String {
    format!(
        "[gateway]\nfqdn = \"umbra.contoso.test\"\nsip_domain = \"contoso.test\"\nmax_calls_allowed = 400\n\n\
         [listen]\nstartup_mode = \"TCP\"\naddresses = [\"{gateway}\"]\nadvertised = \"{gateway}\"\n\n\
         [media]\nrtp_ports = \"20000-29999\"\n\n[routing]\nselection = \"priority\"\n\n[admin]\nhttp = \"{gateway}:9065\"\n\n"
    )
}

/// What the parties of a failed pair wrote: errors, then messages.
fn files_of(folder: &Path) -> String {
    let mut files: Vec<PathBuf> = Vec::new();
    for party in std::fs::read_dir(folder).unwrap().flatten() {
        files.extend(std::fs::read_dir(party.path()).unwrap().flatten().map(|entry| entry.path()));
    }
    files.sort();
    let wanted = |path: &&PathBuf| path.to_string_lossy().ends_with("s.log");
    let show = |path: &PathBuf| {
        let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
        let text: String = text.chars().filter(|c| *c != '\r').take(SHOWN).collect();
        format!("--- {}\n{text}\n", path.display())
    };
    files.iter().filter(wanted).map(show).collect()
}
