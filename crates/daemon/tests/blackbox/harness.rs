//! Runs the binary under test and its peers: private loopback networks, config files, child processes that never
//! outlive their test, call records read back.

use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long a started program may take until it accepts connections.
pub const START_MAX: Duration = Duration::from_secs(20);

/// A loopback network of its own, 127.x.y.0/24.
#[derive(Clone, Copy, Debug)]
pub struct Net(u8, u8);

static NEXT: AtomicU16 = AtomicU16::new(0);

impl Net {
    /// A network no other test of this process has, and hardly another process.
    pub fn new() -> Self {
        let salt = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)) + std::process::id().wrapping_mul(37);
        Self(64 + (salt / 250 % 128) as u8, (salt % 250) as u8)
    }

    /// The host with this number.
    pub fn host(self, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.0, self.1, number)
    }
}

/// A child process that is ended with its owner.
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a program with its output in a file of `folder`.
    pub fn start(name: &str, command: &mut Command, folder: &Path) -> Self {
        Self::start_reading(name, command, folder, Stdio::null())
    }

    /// The same for one that is told what to do.
    pub fn start_reading(name: &str, command: &mut Command, folder: &Path, input: impl Into<Stdio>) -> Self {
        let log = folder.join(format!("{name}.log"));
        let out = std::fs::File::create(&log).unwrap();
        let err = out.try_clone().unwrap();
        let child = command.stdin(input).stdout(out).stderr(err).spawn();
        let child = child.unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        Self { child, name: name.to_owned(), log }
    }

    /// Everything it has printed so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; the exit code.
    pub fn wait(&mut self, longest: Duration) -> i32 {
        let until = Instant::now() + longest;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{} did not end within {longest:?}; it printed:\n{}", self.name, self.output());
    }

    /// Waits until then for its end; the exit code, if it came.
    pub fn wait_until(&mut self, until: Instant) -> Option<i32> {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status.code().unwrap_or(-1));
            }
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends a signal by name, as `kill -TERM`.
    pub fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status().unwrap();
        assert!(status.success(), "kill -{name} {}", self.name);
    }

    /// Waits until a TCP connection to this address is accepted.
    pub fn wait_for_port(&mut self, address: IpAddr, port: u16) {
        let until = Instant::now() + START_MAX;
        while TcpStream::connect_timeout(&(address, port).into(), Duration::from_millis(200)).is_err() {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{} ended early ({status}):\n{}", self.name, self.output());
            }
            assert!(
                Instant::now() < until,
                "{} does not listen on {address}:{port}:\n{}",
                self.name,
                self.output()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// KiB of memory that are its own, shared pages by their share (Linux).
    pub fn memory_kib(&self) -> usize {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// User and system CPU seconds it has used (Linux).
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        let after_name = stat.rsplit(") ").next().unwrap_or("");
        let fields: Vec<&str> = after_name.split(' ').collect();
        let ticks = |at: usize| fields.get(at).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
        // utime and stime are fields 14 and 15 of proc_pid_stat(5); the tick is 1/100 s on every Linux of today.
        (ticks(11) + ticks(12)) / 100.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway under test: its folder, its network and the running binary.
pub struct Gateway {
    pub process: Process,
    pub folder: tempfile::TempDir,
    pub address: Ipv4Addr,
}

impl Gateway {
    /// Writes the configuration and starts `umbra run`; returns once it listens on `port`.
    pub fn start(folder: tempfile::TempDir, address: Ipv4Addr, port: u16, config: &str) -> Self {
        Self::start_by(folder, address, port, config, |_| umbra())
    }

    /// The same by a command of the test's own, made once the folder is ready.
    pub fn start_by(
        folder: tempfile::TempDir,
        address: Ipv4Addr,
        port: u16,
        config: &str,
        command: impl FnOnce(&Path) -> Command,
    ) -> Self {
        std::fs::write(folder.path().join("umbra.toml"), config).unwrap();
        let process = Self::run(command(folder.path()), &folder, address, port);
        Self { process, folder, address }
    }

    /// Kills it without a warning and starts it again at once; returns once it listens.
    pub fn kill_and_restart(&mut self, port: u16) {
        self.process.signal("KILL");
        self.process.wait(Duration::from_secs(5));
        self.process = Self::run(umbra(), &self.folder, self.address, port);
    }

    fn run(mut command: Command, folder: &tempfile::TempDir, address: Ipv4Addr, port: u16) -> Process {
        let file = folder.path().join("umbra.toml");
        // Far ends that follow a script, or are counted, know nothing of OPTIONS; tests of probes say so in their file.
        if !std::fs::read_to_string(&file).unwrap().contains("[health]") {
            command.env("UMBRA__HEALTH__OPTIONS_INTERVAL", "off");
        }
        command.arg("run").arg("-c").arg(file).env("NO_COLOR", "1");
        let mut process = Process::start("umbra", &mut command, folder.path());
        process.wait_for_port(address.into(), port);
        process
    }

    /// Asks it to stop and waits for its end.
    pub fn stop(&mut self) -> i32 {
        self.process.signal("TERM");
        self.process.wait(Duration::from_secs(40))
    }

    /// The call records written so far, one JSON value each.
    pub fn records(&self) -> Vec<serde_json::Value> {
        let folder = self.folder.path().join("state").join("cdr");
        let folder = if folder.is_dir() { folder } else { self.folder.path().join("cdr") };
        let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
        let files =
            entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "jsonl"));
        let texts: Vec<String> = files.map(|p| std::fs::read_to_string(p).unwrap()).collect();
        // The last line may be half written still.
        let lines =
            texts.iter().flat_map(|text| text.split_inclusive('\n')).filter(|line| line.ends_with('\n'));
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits until so many calls are on record.
    pub fn wait_for_records(&self, count: usize, longest: Duration) -> Vec<serde_json::Value> {
        let until = Instant::now() + longest;
        loop {
            let records = self.records();
            if records.len() >= count {
                return records;
            }
            let got = records.len();
            assert!(
                Instant::now() < until,
                "{got} of {count} records; the gateway:\n{}",
                self.process.output()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The binary under test: that of this build, or the one that `UMBRA_BINARY` names.
pub fn umbra() -> Command {
    Command::new(std::env::var_os("UMBRA_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_umbra").into()))
}

/// A size that the environment may raise from the one of every test run to the one of a release.
pub fn size(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// True when every one of these programs can be run; otherwise says so and returns false, or fails when
/// `UMBRA_REQUIRE_PEERS=1`.
pub fn peers_present(programs: &[&str]) -> bool {
    let missing: Vec<_> = programs.iter().filter(|p| find(p).is_none()).collect();
    if missing.is_empty() {
        return true;
    }
    let required = std::env::var("UMBRA_REQUIRE_PEERS").is_ok_and(|v| v == "1");
    assert!(!required, "UMBRA_REQUIRE_PEERS=1 and these peers are not installed: {missing:?}");
    // Written past the test's capture: a skipped test must be seen.
    let line =
        format!("skipped: {:?} needs {missing:?} (see tests/peers/install)\n", std::thread::current().name());
    let _ = std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes());
    false
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A folder for one test.
pub fn folder() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("umbra-test-").tempdir().unwrap()
}

/// Fetches a page of the gateway's admin port.
pub fn http_get(address: Ipv4Addr, port: u16, path: &str) -> String {
    use std::io::{Read, Write};
    let until = Instant::now() + START_MAX;
    let mut stream = loop {
        // It is bound a moment after the SIP ports.
        match TcpStream::connect((address, port)) {
            Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(20)),
            connected => break connected.unwrap(),
        }
    };
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Sum of all series of a metric, whatever their labels.
pub fn metric_sum(metrics: &str, name: &str) -> f64 {
    let of_it = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') || rest.starts_with(' '))
    };
    metrics.lines().filter(of_it).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}
