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
  --idle N     connections that say nothing (default 10000; quick 1000; the gateway is given room for them)
RSA-2048 certificates on both sides, no resumption, one network address each.";
/// Beside those that stand: visits side by side, and what is closing.
const SPARE: u32 = 64;
/// Where Linux says which ports a connection may leave from, and what it says mostly.
const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const PORTS: u32 = 28_232;

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
        let ports = ports(&std::fs::read_to_string(PORT_RANGE).unwrap_or_default());
        match options.room() > ports {
            true => {
                Err(format!("one address has {ports} ports here: too few for so many connections\n{USAGE}"))
            }
            false => Ok(options),
        }
    }

    /// Connections from one address that the gateway must take. The caller's own comes from there beside a storm.
    pub fn room(&self) -> u32 {
        self.idle.max(self.storm.saturating_add(1)).saturating_add(SPARE)
    }
}

/// How many ports the two numbers of that file are.
fn ports(range: &str) -> u32 {
    let mut ends = range.split_whitespace().map(str::parse::<u32>);
    match (ends.next(), ends.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first <= last => last - first + 1,
        _ => PORTS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Result<Options, String> {
        Options::read(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_gateway_gets_room_for_what_is_asked_for() {
        assert_eq!(read("--quick").unwrap().room(), 1_001 + SPARE);
        assert_eq!(read("--idle 13000").unwrap().room(), 13_000 + SPARE);
        assert_eq!(read("--idle 10 --storm 14000").unwrap().room(), 14_001 + SPARE);
        assert!(read("--idle 70000").unwrap_err().contains("ports here"));
    }

    #[test]
    fn the_ports_of_an_address_are_counted() {
        assert_eq!((ports("32768\t60999\n"), ports("5 4"), ports("")), (28_232, PORTS, PORTS));
    }
}
