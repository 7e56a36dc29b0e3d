//! `umbra servers`: the UM servers of the running gateway, why each stands as it does, and an operator's wishes for them.
//! Owns the words typed and the text printed; what is told is the gateway's own document ([`crate::observe::Status`]).

use std::fmt::Write as _;
use std::net::SocketAddr;

use clap::{Args, Subcommand};

use super::Exit;
use super::endpoint::Endpoint;
use super::screen::{Format, Screen, escaped};
use crate::observe::{ChangedTo, PeerState, PeerStatus, ProbeStatus, Role, ServerWish, Status, ask, order};

#[derive(Debug, Args)]
#[command(
    before_help = "Examples:
  umbra servers list -c umbra.toml
  umbra servers why mbx01.contoso.test -c umbra.toml
  umbra servers drain mbx01.contoso.test --server 127.0.0.1:9065",
    after_help = "Exit codes: 0 done; 1 no such server; 69 no gateway answers; 78 bad configuration.
What drain, enable and disable set stands above the configuration until the next of them; `state_dir` keeps it over a restart."
)]
pub(super) struct ServersArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Every Call Router and Mailbox server: state, calls, round trip of OPTIONS, since when, why
    List(Asked),
    /// One server: its state and its last changes with their reasons
    Why(Named),
    /// Let it keep its calls and get no new ones
    Drain(Named),
    /// Let it get calls, whatever the configuration says; ends a rest
    Enable(Named),
    /// Use it no more for new calls
    Disable(Named),
}

#[derive(Debug, Args)]
struct Asked {
    #[command(flatten)]
    endpoint: Endpoint,
}

#[derive(Debug, Args)]
struct Named {
    /// FQDN of the server
    name: String,
    #[command(flatten)]
    endpoint: Endpoint,
}

/// Runs the command.
pub(super) fn run(screen: &Screen, arguments: &ServersArgs) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            screen.story(&format!("no runtime to ask with: {error}"));
            return Exit::Failed;
        }
    };
    let endpoint = match &arguments.action {
        Action::List(asked) => &asked.endpoint,
        Action::Why(named) | Action::Drain(named) | Action::Enable(named) | Action::Disable(named) => {
            &named.endpoint
        }
    };
    let address = match endpoint.address(screen) {
        Ok(address) => address,
        Err(exit) => return exit,
    };
    let status = match runtime.block_on(ask::<Status>(address, "/status")) {
        Ok(status) => status,
        Err(why) => {
            screen.story(&format!("no gateway answers at http://{address}/status: {}", escaped(&why)));
            return Exit::Unreachable;
        }
    };
    let servers = status.peers.iter().filter(|peer| is_server(peer)).collect::<Vec<_>>();
    let found = |name: &str| servers.iter().copied().find(|peer| peer.name.eq_ignore_ascii_case(name));
    let (named, wish) = match &arguments.action {
        Action::List(_) => return list(screen, &servers),
        Action::Why(named) => (named, None),
        Action::Drain(named) => (named, Some(ServerWish::Drain)),
        Action::Enable(named) => (named, Some(ServerWish::Enable)),
        Action::Disable(named) => (named, Some(ServerWish::Disable)),
    };
    match (found(&named.name), wish) {
        (None, _) => {
            let names: Vec<&str> = servers.iter().map(|peer| peer.name.as_str()).collect();
            screen.story(&format!("no UM server {}; there are {}", escaped(&named.name), names.join(", ")));
            Exit::Failed
        }
        (Some(server), None) => why(screen, server),
        (Some(server), Some(wish)) => runtime.block_on(wished(screen, address, server, wish)),
    }
}

fn is_server(peer: &PeerStatus) -> bool {
    !matches!(peer.role, Role::Pool | Role::IpGateway)
}

async fn wished(screen: &Screen, address: SocketAddr, server: &PeerStatus, wish: ServerWish) -> Exit {
    let name = &server.name;
    match order(address, &format!("/servers/{name}/{}", wish.word())).await {
        Ok(()) => {
            let calls = server.calls.unwrap_or(0);
            let now = match wish {
                ServerWish::Drain => format!("{name} gets no new calls; {calls} go on"),
                ServerWish::Enable => format!("{name} gets calls"),
                ServerWish::Disable => format!("{name} is not used; {calls} calls go on"),
            };
            screen.story(&now);
            Exit::Fine
        }
        Err(why) => {
            screen.story(&format!("the gateway did not take it: {}", escaped(&why)));
            Exit::Failed
        }
    }
}

fn list(screen: &Screen, servers: &[&PeerStatus]) -> Exit {
    if screen.form == Format::Json {
        screen.json(&servers);
    } else {
        screen.data(&table(servers));
    }
    Exit::Fine
}

fn why(screen: &Screen, server: &PeerStatus) -> Exit {
    if screen.form == Format::Json {
        screen.json(server);
    } else {
        screen.data(&history(server));
    }
    Exit::Fine
}

fn table(servers: &[&PeerStatus]) -> String {
    let wide = servers.iter().map(|peer| peer.name.len()).max().unwrap_or(0).max("SERVER".len());
    let row = |name: &str, state: &str, calls: &str, ping: &str, since: &str, why: &str| {
        let line = format!("{name:<wide$}  {state:<12} {calls:>9} {ping:>8}  {since:<20}  {why}");
        format!("{}\n", line.trim_end())
    };
    let mut out = row("SERVER", "STATE", "CALLS", "PING", "SINCE", "WHY");
    for server in servers {
        let last = server.changes.last();
        let since = last.map_or_else(|| "start".to_owned(), |change| moment(&change.at));
        let why = last.map_or_else(|| unchanged(server).to_owned(), |change| escaped(&change.why));
        let ping = match server.ping() {
            ping if ping.is_empty() => "-".to_owned(),
            ping => ping,
        };
        out.push_str(&row(&server.name, &state(server), &calls(server), &ping, &since, &why));
    }
    out
}

fn history(server: &PeerStatus) -> String {
    let mut out = format!("{}: {}, {} calls\n", server.name, state(server), calls(server));
    for ProbeStatus { transport, ping_ms, last_good, .. } in &server.probes {
        let ping = ping_ms.map_or_else(|| "no answer".to_owned(), |ms| format!("{ms:.1} ms"));
        let last = last_good.as_deref().map_or_else(|| "never".to_owned(), moment);
        let _infallible = writeln!(out, "  OPTIONS over {transport}: {ping}, last good {last}");
    }
    if server.changes.is_empty() {
        let _infallible = writeln!(out, "  since the start: {}", unchanged(server));
    }
    for change in server.changes.iter().rev() {
        let _infallible =
            writeln!(out, "  {}  {:<9} {}", moment(&change.at), word(change.to), escaped(&change.why));
    }
    out
}

// Whole seconds are enough.
fn moment(rfc3339: &str) -> String {
    rfc3339.get(..19).map_or_else(|| rfc3339.to_owned(), |seconds| format!("{seconds}Z"))
}

fn unchanged(server: &PeerStatus) -> &'static str {
    match server.state {
        PeerState::NoNewCalls | PeerState::Disabled => "configured so",
        _ => "nothing happened",
    }
}

fn calls(server: &PeerStatus) -> String {
    let allowed = server.calls_allowed.map_or_else(String::new, |allowed| format!("/{allowed}"));
    format!("{}{allowed}", server.calls.unwrap_or(0))
}

fn state(server: &PeerStatus) -> String {
    match (server.state, server.resting_secs) {
        (PeerState::Up, _) => "up".to_owned(),
        (PeerState::Resting, Some(secs)) => format!("rests {secs} s"),
        (PeerState::Resting, None) => "rests".to_owned(),
        (PeerState::Down, _) => "down".to_owned(),
        (PeerState::Full, _) => "full".to_owned(),
        (PeerState::NoNewCalls, _) => "no new calls".to_owned(),
        (PeerState::Disabled, _) => "disabled".to_owned(),
    }
}

fn word(to: ChangedTo) -> &'static str {
    match to {
        ChangedTo::Up => "up",
        ChangedTo::Resting => "rests",
        ChangedTo::Down => "down",
        ChangedTo::Enabled => "enabled",
        ChangedTo::Draining => "drained",
        ChangedTo::Disabled => "disabled",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::PeerChange;

    fn server(name: &str, state: PeerState, changes: &[(&str, ChangedTo, &str)]) -> PeerStatus {
        PeerStatus {
            role: Role::MailboxServer,
            name: name.into(),
            state,
            resting_secs: (state == PeerState::Resting).then_some(9),
            probes: Vec::new(),
            changes: changes
                .iter()
                .map(|(at, to, why)| PeerChange { at: (*at).into(), to: *to, why: (*why).into() })
                .collect(),
            calls: Some(3),
            calls_allowed: Some(100),
            connections: Vec::new(),
            more_connections: 0,
        }
    }

    #[test]
    fn list_and_why_tell_state_since_and_reason() {
        let rests = ("2026-11-22T00:00:01.5Z", ChangedTo::Resting, "no connection in time");
        let up = ("2026-11-22T00:00:17.25Z", ChangedTo::Up, "it answered");
        let mut one = server("mbx01.contoso.test", PeerState::Up, &[rests, up]);
        let two = server("mbx02.contoso.test", PeerState::Resting, &[rests]);
        let three = server("mbx03.contoso.test", PeerState::Disabled, &[]);
        let silent = "3 OPTIONS timeouts over tls, last good 00:00:31Z";
        let mut four = server(
            "mbx04.contoso.test",
            PeerState::Down,
            &[("2026-11-22T00:01:02Z", ChangedTo::Down, silent)],
        );
        let probe = |transport: &str, up, ping_ms| ProbeStatus {
            transport: transport.into(),
            up,
            ping_ms,
            last_good: up.then(|| "2026-11-22T00:01:01.7Z".into()),
        };
        one.probes = vec![probe("tcp", true, Some(0.84)), probe("tls", true, Some(12.4))];
        four.probes = vec![probe("tls", false, None)];
        let wanted = "\
SERVER              STATE            CALLS     PING  SINCE                 WHY
mbx01.contoso.test  up               3/100    12 ms  2026-11-22T00:00:17Z  it answered
mbx02.contoso.test  rests 9 s        3/100        -  2026-11-22T00:00:01Z  no connection in time
mbx03.contoso.test  disabled         3/100        -  start                 configured so
mbx04.contoso.test  down             3/100        -  2026-11-22T00:01:02Z  3 OPTIONS timeouts over tls, last good 00:00:31Z
";
        assert_eq!(table(&[&one, &two, &three, &four]), wanted);
        let wanted = "\
mbx04.contoso.test: down, 3/100 calls
  OPTIONS over tls: no answer, last good never
  2026-11-22T00:01:02Z  down      3 OPTIONS timeouts over tls, last good 00:00:31Z
";
        assert_eq!(history(&four), wanted);
        one.probes.truncate(1);
        let wanted = "\
mbx01.contoso.test: up, 3/100 calls
  OPTIONS over tcp: 0.8 ms, last good 2026-11-22T00:01:01Z
  2026-11-22T00:00:17Z  up        it answered
  2026-11-22T00:00:01Z  rests     no connection in time
";
        assert_eq!(history(&one), wanted);
        assert_eq!(
            history(&three),
            "mbx03.contoso.test: disabled, 3/100 calls\n  since the start: configured so\n"
        );
    }
}
