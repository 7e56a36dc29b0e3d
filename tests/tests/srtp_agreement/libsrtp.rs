//! libsrtp as a third opinion: a small C program around Debian's library, built here where its headers are.

use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::LazyLock;

use relay::Suite;

/// A running program; it ends with its owner.
pub struct Libsrtp {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Libsrtp {
    /// `None`, and said so, where it cannot be built; a failure when `UMBRA_REQUIRE_PEERS=1`.
    pub fn start() -> Option<Self> {
        static PROGRAM: LazyLock<Option<PathBuf>> = LazyLock::new(build);
        let Some(program) = &*PROGRAM else {
            let required = std::env::var("UMBRA_REQUIRE_PEERS").is_ok_and(|value| value == "1");
            assert!(
                !required,
                "UMBRA_REQUIRE_PEERS=1 and libsrtp (libsrtp2-dev, a C compiler) is not installed"
            );
            eprintln!("skipped: agreement with libsrtp needs libsrtp2-dev (see tests/peers/install)");
            return None;
        };
        let mut command = Command::new(program);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Some(Libsrtp { child, input, output })
    }

    /// Forgets everything and begins under this key.
    pub fn begin(&mut self, suite: Suite, mki: &[u8], inline: &[u8]) {
        let number = Suite::ALL.iter().position(|known| *known == suite).unwrap() as u8;
        let request = [&[number, mki.len() as u8], mki, inline].concat();
        self.ask(b'N', &request).unwrap();
    }

    pub fn seal(&mut self, clear: &[u8]) -> Result<Vec<u8>, u8> {
        self.ask(if is_report(clear) { b's' } else { b'S' }, clear)
    }

    pub fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, u8> {
        self.ask(if is_report(sealed) { b'o' } else { b'O' }, sealed)
    }

    fn ask(&mut self, operation: u8, octets: &[u8]) -> Result<Vec<u8>, u8> {
        let [long, short] = (octets.len() as u16).to_be_bytes();
        let request = [&[operation, long, short], octets].concat();
        self.input.as_mut().unwrap().write_all(&request).unwrap();
        let mut head = [0; 3];
        self.output.read_exact(&mut head).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
        self.output.read_exact(&mut answer).unwrap();
        if head[0] == 0 { Ok(answer) } else { Err(head[0]) }
    }
}

impl Drop for Libsrtp {
    fn drop(&mut self) {
        // The end of its input is its end.
        self.input = None;
        let _ = self.child.wait();
    }
}

fn is_report(packet: &[u8]) -> bool {
    (192..=223).contains(&packet[1])
}

fn build() -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/libsrtp.c");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("umbra-libsrtp");
    let built =
        Command::new("cc").args(["-O2", "-o"]).arg(&program).arg(source).arg("-lsrtp2").output().ok()?;
    built.status.success().then_some(program)
}
