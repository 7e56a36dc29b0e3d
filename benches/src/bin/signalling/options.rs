//! What the command line asks for.

use std::path::PathBuf;

use umbra_benches::load::{beside_us, positive};

/// Text of `--help`.
const USAGE: &str = "usage: benches/signalling [--quick] [--rate N] [--calls N] [--rounds N] [--held N]... [--rates N,N,...] [--only umbra|kamailio]
  --quick          two subjects, three rounds each at one rate, at most five minutes
  --rate N         calls per second of the paired rounds (default 500)
  --calls N        calls of one round (default 5000; quick 3000)
  --rounds N       rounds per subject, alternating; the median counts (default 5; quick 3)
  --rates N,...    climb: highest clean rate over one connection per leg (default 500,1000,2000,3000,4000)
  --held N,...     memory and cost at so many held calls (default 10,1000,5000,10000)
  --only NAME      one subject only
The gateway runs with [media] mode = \"unanchored\": signalling alone is measured.";

/// What to do.
#[derive(Debug)]
pub struct Options {
    pub quick: bool,
    pub rate: u32,
    pub calls: u32,
    pub rounds: usize,
    pub rates: Vec<u32>,
    pub held: Vec<u32>,
    pub only: Option<String>,
    pub umbra: PathBuf,
}

impl Options {
    /// Reads arguments; the text of the error is for the user.
    pub fn read(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            quick: false,
            rate: 500,
            calls: 0,
            rounds: 0,
            rates: vec![500, 1_000, 2_000, 3_000, 4_000],
            held: vec![10, 1_000, 5_000, 10_000],
            only: None,
            umbra: beside_us("umbra"),
        };
        let mut arguments = arguments;
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{name} needs a value\n{USAGE}"));
            match name.as_str() {
                "--quick" => options.quick = true,
                "--rate" => options.rate = number(&value()?)?,
                "--calls" => options.calls = number(&value()?)?,
                "--rounds" => options.rounds = number(&value()?)? as usize,
                "--rates" => options.rates = numbers(&value()?)?,
                "--held" => options.held = numbers(&value()?)?,
                "--only" => options.only = Some(value()?),
                "--umbra" => options.umbra = value()?.into(),
                _ => return Err(USAGE.into()),
            }
        }
        if options.calls == 0 {
            options.calls = if options.quick { 3_000 } else { 5_000 };
        }
        if options.rounds == 0 {
            options.rounds = if options.quick { 3 } else { 5 };
        }
        Ok(options)
    }
}

fn number(text: &str) -> Result<u32, String> {
    positive(text).map_err(|why| format!("{why}\n{USAGE}"))
}

fn numbers(text: &str) -> Result<Vec<u32>, String> {
    text.split(',').map(number).collect()
}
