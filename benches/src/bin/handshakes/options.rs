//! What the command line asks for.

use std::path::PathBuf;

use umbra_benches::load::{beside_us, positive};

/// Text of `--help`.
const USAGE: &str = "usage: benches/handshakes [--quick] [--openssl] [--count N] [--rounds N] [--storm N] [--rate N] [--idle N]
  --quick      small numbers, under a minute: shows that it works
  --openssl    builds the gateway with its second TLS backend and measures both
  --count N    handshakes of one round (default 2000; quick 300)
  --rounds N   rounds of each backend and TLS version, alternating; the median counts (default 5; quick 3)
  --storm N    connections that a pool opens at once (default 1000)
  --rate N     calls per second meanwhile, over a connection that stands (default 20)
  --idle N     connections that say nothing (default 10000; quick 1000; at most 12288, the gateway's limit for one address)
RSA-2048 certificates on both sides, no resumption, one network address each.";
/// What the gateway takes from one address.
const OF_ONE_ADDRESS_MAX: u32 = 12_288;

/// What to do.
#[derive(Debug)]
pub struct Options {
    pub quick: bool,
    pub openssl: bool,
    pub count: u32,
    pub rounds: u32,
    pub storm: u32,
    pub rate: u32,
    pub idle: u32,
    pub umbra: PathBuf,
}

impl Options {
    /// Reads arguments; the text of the error is for the user.
    pub fn read(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments: Vec<String> = arguments.collect();
        let mut switch = |name: &str| {
            let before = arguments.len();
            arguments.retain(|argument| argument != name);
            arguments.len() < before
        };
        let (quick, openssl) = (switch("--quick"), switch("--openssl"));
        let mut options = Self {
            quick,
            openssl,
            count: if quick { 300 } else { 2_000 },
            rounds: if quick { 3 } else { 5 },
            storm: 1_000,
            rate: 20,
            idle: if quick { 1_000 } else { 10_000 },
            umbra: beside_us("umbra"),
        };
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(USAGE)?;
            let number = || positive(&value).map_err(|why| format!("{name}: {why}\n{USAGE}"));
            match name.as_str() {
                "--count" => options.count = number()?,
                "--rounds" => options.rounds = number()?,
                "--storm" => options.storm = number()?,
                "--rate" => options.rate = number()?,
                "--idle" => options.idle = number()?,
                "--umbra" => options.umbra = value.into(),
                _ => return Err(USAGE.into()),
            }
        }
        // The caller's own connection comes from there too.
        match options.idle > OF_ONE_ADDRESS_MAX || options.storm >= OF_ONE_ADDRESS_MAX {
            true => Err(format!("at most {OF_ONE_ADDRESS_MAX} connections\n{USAGE}")),
            false => Ok(options),
        }
    }
}
