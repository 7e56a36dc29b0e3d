//! The gateway's media threads in a process of their own, so that what they use can be told from what the generator uses.
//! Owns nothing but the way sessions come in: a line each on standard input, a line with the ports back, until the input ends.
//!
//! ```text
//!   in:   A's address  B's address  key from A  key to A  key from B  key to B     (hex; `-`: the leg is clear)
//!   out:  port for A  port for B
//! ```

use std::io::{BufRead, Write, stdin, stdout};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use relay::{Formats, KeyParams, LegPlan, MasterKey, Plan, Protection, Reports, Suite};
use umbra::media::{Dscp, MediaConfig, MediaPool, MediaReport};
use umbra_benches::load::{Result, text};

use super::keys;

/// First and last port, as rtpengine gets them too.
pub const PORTS: (u16, u16) = (20_000, 39_999);

/// Serves sessions at `address` until standard input ends.
pub fn run(address: IpAddr, threads: usize) -> Result {
    let rest = Duration::from_secs(1);
    let config = MediaConfig {
        addresses: vec![address],
        dscp: Dscp::EF,
        ports: PORTS.0..=PORTS.1,
        workers: threads,
        rest,
    };
    let (pool, mut reports) = MediaPool::<u32>::start(&config).map_err(text)?;
    for (call, line) in (0..).zip(stdin().lock().lines()) {
        let plan = plan(&line.map_err(text)?).ok_or("not a session")?;
        pool.allocate(call).map_err(text)?;
        let ports = loop {
            match reports.blocking_recv() {
                Some(MediaReport::Ready { result, .. }) => break result.map_err(text)?,
                Some(_) => {}
                None => return Err("the media threads have ended".into()),
            }
        };
        pool.apply(call, Box::new(plan)).map_err(text)?;
        println!("{} {}", ports.a_rtp, ports.b_rtp);
        stdout().flush().map_err(text)?;
    }
    pool.shutdown();
    Ok(())
}

fn plan(line: &str) -> Option<Plan> {
    let words: Vec<&str> = line.split(' ').collect();
    let [a, b, from_a, to_a, from_b, to_b] = words.try_into().ok()?;
    let leg = |address: &str, inbound: &str, outbound: &str| {
        let remote: SocketAddr = address.parse().ok()?;
        Some(LegPlan {
            remote_rtcp: SocketAddr::new(remote.ip(), 0),
            formats: Formats::same([0, 101]),
            ..LegPlan::at(remote, protection(inbound, outbound)?)
        })
    };
    Some(Plan {
        a: leg(a, from_a, to_a)?,
        b: leg(b, from_b, to_b)?,
        inactivity: Duration::from_secs(30),
        // As the product has it: what goes out is counted for reports. They go nowhere, so that both subjects send the same.
        reports: Some(Reports { name: [7; 12], seed: 7, clock_hz: 8_000 }),
    })
}

fn protection(inbound: &str, outbound: &str) -> Option<Protection> {
    if inbound == "-" {
        return Some(Protection::Clear);
    }
    let params = |hex: &str| Some(params(&keys::from_hex(hex)?));
    Some(Protection::Sealed { inbound: params(inbound)?, outbound: params(outbound)? })
}

/// The suite of every measured leg under this key.
pub fn params(key: &keys::Inline) -> KeyParams {
    let suite = Suite::AesCm128HmacSha1_80;
    KeyParams::new(suite, MasterKey::from_inline(suite, key).expect("a key of 30 octets"))
}
