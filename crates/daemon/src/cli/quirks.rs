//! `umbra quirks`: the allowances made for peers, and with `--headers` the header table. Works without a file; with one
//! it tells which quirks are off, for whom, and by which key. The registry and the table are `b2bua`'s.

use std::fmt::Write as _;
use std::path::PathBuf;

use b2bua::Policy;
use b2bua::headers::{self, Action, Passage};
use b2bua::policy::{Allowed, Dialect, Profile};
use b2bua::quirks::{self, Entry, Quirk, QuirkSet, Switch};
use clap::Args;
use serde::Serialize;

use super::screen::{Format, Screen, Style, Tone, escaped};
use super::{Exit, load, wrapped};

/// Width of the text below a name.
const WIDTH: usize = 100;

#[derive(Debug, Args)]
#[command(before_help = "Examples:
  umbra quirks                       what is allowed to peers, why, and how it is counted
  umbra quirks -c umbra.toml         the same, with what this configuration switched off
  umbra quirks --headers -o json     what becomes of each header in each direction")]
pub(super) struct QuirksArgs {
    /// Configuration; without it every quirk is as it is by default
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The header table instead
    #[arg(long)]
    headers: bool,
}

/// Runs the command.
pub(super) fn run(screen: &Screen, args: &QuirksArgs) -> Exit {
    if args.headers {
        match screen.form {
            Format::Json => screen.json(&header_lines()),
            Format::Table | Format::Junit => screen.data(&header_text(screen.data)),
        }
        return Exit::Fine;
    }
    let site = match args.config.as_deref().map(|path| load::compiled(screen, Some(path))) {
        None => None,
        Some(Ok(loaded)) => Some(Site { off: loaded.quirks_off, policy: loaded.policy }),
        Some(Err(exit)) => return exit,
    };
    let lines: Vec<Line> = quirks::all().iter().map(|entry| Line::of(entry, site.as_ref())).collect();
    match screen.form {
        Format::Json => screen.json(&lines),
        Format::Table | Format::Junit => screen.data(&text(&lines, screen.data)),
    }
    Exit::Fine
}

/// What a configuration says.
struct Site {
    off: QuirkSet,
    policy: std::sync::Arc<Policy>,
}

/// One line of the answer; the keys are documented and stable.
#[derive(Debug, Serialize)]
struct Line {
    name: &'static str,
    /// `quirk`, `setting` or `rule`.
    kind: &'static str,
    peers: Vec<&'static str>,
    what: &'static str,
    why: &'static str,
    source: &'static str,
    counter: &'static str,
    /// `on`, `off` or `partly`.
    state: &'static str,
    /// The key that switches it; empty for a rule.
    key: &'static str,
    /// Configured peers it is off for.
    off_for: Vec<String>,
    /// Why there is no switch, for a rule.
    no_switch: &'static str,
}

impl Line {
    fn of(entry: &'static Entry, site: Option<&Site>) -> Self {
        let (kind, key, no_switch) = match entry.switch {
            Switch::Quirk => ("quirk", "quirks.disable", ""),
            Switch::Setting(key) => ("setting", key, ""),
            Switch::Rule(why) => ("rule", "", why),
        };
        let mut line = Self {
            name: entry.name,
            kind,
            peers: entry.peers.iter().map(|profile| profile.name()).collect(),
            what: entry.what,
            why: entry.why,
            source: entry.source,
            counter: entry.counter,
            state: "on",
            key,
            off_for: Vec::new(),
            no_switch,
        };
        if let Some(site) = site {
            line.stand(entry, site);
        }
        line
    }

    fn stand(&mut self, entry: &Entry, site: &Site) {
        match (entry.switch, Quirk::from_name(entry.name)) {
            (Switch::Quirk, Some(quirk)) if site.off.has(quirk) => self.state = "off",
            (Switch::Quirk, Some(quirk)) => {
                let lacks = |dialect: Dialect| {
                    QuirkSet::of_profile(dialect.profile).has(quirk) && !dialect.has(quirk)
                };
                let peers = peers(&site.policy).filter(|(_, dialect)| lacks(*dialect));
                self.off_for = peers.map(|(name, _)| name.to_owned()).collect();
                if !self.off_for.is_empty() {
                    (self.state, self.key) = ("partly", "quirks_off");
                }
            }
            (Switch::Setting("observe.correlation_header"), _) => {
                let is_on = site.policy.gateway.correlation_header.is_some();
                self.state = if is_on { "on" } else { "off" };
            }
            (Switch::Setting(_), _) => {
                let barred =
                    |g: &&b2bua::policy::IpGateway| g.message_waiting_indicator_allowed == Allowed::No;
                let gateways = &site.policy.ip_gateways;
                self.off_for = gateways.iter().filter(barred).map(|g| g.name.clone()).collect();
                self.state = match self.off_for.len() {
                    0 => "on",
                    all if all == gateways.len() => "off",
                    _ => "partly",
                };
            }
            _ => {}
        }
    }
}

fn peers(policy: &Policy) -> impl Iterator<Item = (&str, Dialect)> {
    let gateways = policy.ip_gateways.iter().map(|gateway| (gateway.name.as_str(), gateway.dialect));
    gateways.chain(policy.all_servers().map(|server| (server.name.as_str(), server.dialect)))
}

fn text(lines: &[Line], style: Style) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    for (kind, heading) in [
        (
            "quirk",
            "Quirks: [quirks] disable = [\"NAME\"] for everybody, quirks_off = [\"NAME\"] for one peer",
        ),
        ("setting", "Switched by a setting of their own"),
        ("rule", "Rules without a switch"),
    ] {
        let _ = writeln!(out, "{}", style.paint(Tone::Strong, heading));
        for line in lines.iter().filter(|line| line.kind == kind) {
            out.push_str(&entry_text(line, style));
        }
        out.push('\n');
    }
    out.push_str("Counters are umbra_events_total{kind=\"COUNTER\"} of /metrics.\n");
    out
}

fn entry_text(line: &Line, style: Style) -> String {
    let state = match line.state {
        "on" => style.paint(Tone::Good, "on"),
        "off" => format!("{} by {}", style.paint(Tone::Odd, "off"), line.key),
        _ => {
            let names: Vec<String> = line.off_for.iter().map(|name| escaped(name)).collect();
            format!("{} for {} by {}", style.paint(Tone::Odd, "off"), names.join(", "), line.key)
        }
    };
    let peers = match line.peers.len() {
        all if all == Profile::ALL.len() => "all".to_owned(),
        _ => line.peers.join(" "),
    };
    let mut out = format!("\n  {:<22} {state}   peers: {peers}\n", line.name);
    let mut part = |name: &str, words: &str| {
        if !words.is_empty() {
            out.push_str(&wrapped(&format!("{name}: {words}"), 4, WIDTH));
        }
    };
    part("what", line.what);
    part("why", line.why);
    part("source", line.source);
    part("counter", line.counter);
    part("switch", if line.kind == "setting" { line.key } else { "" });
    part("no switch", line.no_switch);
    out
}

/// One header of the table.
#[derive(Debug, Serialize)]
struct HeaderLine {
    header: &'static str,
    invite: Action,
    request_to_um: Action,
    request_from_um: Action,
    response_to_um: Action,
    response_from_um: Action,
    invite_of_um: Action,
    why: &'static str,
}

fn header_lines() -> Vec<HeaderLine> {
    let line = |row: &headers::Row| {
        let of = |passage: Passage| row.actions[passage as usize];
        HeaderLine {
            header: row.id.name(),
            invite: of(Passage::Invite),
            request_to_um: of(Passage::RequestToB),
            request_from_um: of(Passage::RequestToA),
            response_to_um: of(Passage::ResponseToB),
            response_from_um: of(Passage::ResponseToA),
            invite_of_um: of(Passage::OutCall),
            why: row.why,
        }
    };
    headers::rows().iter().map(line).collect()
}

const HEADER_NOTES: &str = "
copy        byte for byte                      with body   with the body it describes, else not
own         each leg has its own               repair      byte for byte, quoting repaired where malformed
regenerate  entries that parse, stated anew    translate   by the transfer code, in the words of the other dialog
microsoft   as unknown headers; always where the peer has the quirk ms-headers (lync2010, lync2013, sfb2015)
hop         stops, unless the quirk ms-hop-by-hop is off        -   stops here
Unknown headers: headers.unknown toward UM, headers.unknown_from_um from UM; headers.pass and headers.stop by name.
The table is one for all profiles: nothing documented tells them apart but the quirks. Control characters never pass.
";

fn header_text(style: Style) -> String {
    let columns = ["INVITE", "REQ TO UM", "REQ FROM UM", "RESP TO UM", "RESP FROM UM", "INVITE OF UM"];
    let mut heading = format!("{:<27}", "HEADER");
    columns.iter().for_each(|column| heading.push_str(&format!(" {column:<12}")));
    let mut out = format!("{}\n", style.paint(Tone::Strong, heading.trim_end()));
    for row in headers::rows() {
        let mut line = format!("{:<27}", row.id.name());
        row.actions.iter().for_each(|action| line.push_str(&format!(" {:<12}", word(*action))));
        line.push_str(&format!(" {}", row.why));
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out.push_str(HEADER_NOTES);
    out
}

fn word(action: Action) -> &'static str {
    match action {
        Action::Copy => "copy",
        Action::WithBody => "with body",
        Action::Own => "own",
        Action::Repair => "repair",
        Action::Regenerate => "regenerate",
        Action::Translate => "translate",
        Action::Microsoft => "microsoft",
        Action::HopByHop => "hop",
        Action::Drop => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_every_quirk_with_what_why_source_and_counter() {
        let lines: Vec<Line> = quirks::all().iter().map(|entry| Line::of(entry, None)).collect();
        let out = text(&lines, Style::Plain);
        for entry in quirks::all() {
            assert!(out.contains(entry.name) && out.contains(entry.counter), "{}", entry.name);
        }
        assert!(out.lines().all(|line| line.chars().count() <= 110), "{out}");
    }

    #[test]
    fn the_header_table_lists_every_known_header() {
        let out = header_text(Style::Plain);
        for row in headers::rows() {
            assert!(out.contains(row.id.name()), "{:?}", row.id);
        }
    }
}
