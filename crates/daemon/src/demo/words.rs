//! What the demo prints: tables, ladder, files, what to type next. Owns words, widths and colours; every value comes from
//! elsewhere.

use std::path::Path;
use std::time::Duration;

use lab::audio::{level_dbfs, read_wav, waveform};
use lab::um::StoredMessage;
use serde_json::Value;

use super::calls::{Placed, Shows};
use super::config::{self, DOMAIN, GATEWAY, MAILBOX_SERVERS, POOLS, ROUTER};
use super::facts::Facts;
use super::judge::{Check, Checks};
use super::place::{Net, RTP};
use super::records::Records;
use crate::cli::{Style, Tone};
use crate::trace::{Entry, Hop, Tap, Way, ladder};

/// Block characters of a recording.
const WAVEFORM_COLUMNS: usize = 24;
/// Columns of the ladder.
const CALLER: usize = 0;
const UMBRA: usize = 1;
const CALL_ROUTER: usize = 2;
const MAILBOX: usize = 3;

/// Who stands where.
pub(super) fn header(net: Net) -> String {
    let mut text = String::from(
        "umbra demo: gateway + lab Exchange UM + callers, all in this process.\n\
         Lab certificates, loopback only: nothing here is secure against this machine's users.\n\n",
    );
    let mut row = |role: &str, name: &str, address: String, rest: &str| {
        text.push_str(&format!("  {role:<17} {name:<20} {address:<15} {rest}\n"));
    };
    row("lab CA", "umbra lab root", String::new(), "valid 14 days");
    row("call router", ROUTER, net.host(Net::ROUTER).to_string(), "tcp 5060  tls 5061");
    for (index, name) in MAILBOX_SERVERS.iter().enumerate() {
        let address = config::mailbox_address(net, index).to_string();
        row("mailbox server", name, address, "tcp 5062  tls 5063  workers 5065-5068");
    }
    let listens = format!("tcp 5060  tls 5061  rtp {}-{}", RTP.start(), RTP.end());
    row("gateway", GATEWAY, net.host(Net::GATEWAY).to_string(), &listens);
    for (index, pool) in POOLS.iter().enumerate() {
        let address = config::pool_address(net, index).to_string();
        row("front end (sim)", &pool.fqdn(), address, pool.encryption);
    }
    row("IP-PBX (sim)", "pbx", net.host(Net::PBX).to_string(), "plain TCP");
    text
}

/// One line per call.
pub(super) fn outcomes(placed: &[Placed], checks: &Checks, facts: &Facts, style: Style) -> String {
    let lines = placed.iter().map(|call| outcome(call, checks.passed(call.scene.number), facts, style));
    lines.collect()
}

fn outcome(call: &Placed, passed: bool, facts: &Facts, style: Style) -> String {
    let scene = call.scene;
    let mark = if passed { style.paint(Tone::Good, "ok    ") } else { style.paint(Tone::Bad, "FAILED") };
    let outcome = call.outcome.as_ref().ok();
    let setup = outcome
        .filter(|outcome| outcome.answered())
        .and_then(|outcome| outcome.setup)
        .map_or_else(|| String::from("-"), |setup| format!("{} ms", setup.as_millis()));
    let note = match (scene.shows, outcome) {
        (_, None) => String::from("not placed"),
        (Shows::Missed, _) => String::from("notified"),
        (Shows::Refusal, Some(outcome)) => format!("{} UMB-SEC001", outcome.status),
        (Shows::VoiceAccess, Some(outcome)) => match outcome.heard.dominant_hz {
            Some(hz) => format!("heard {hz:.0} Hz"),
            None => String::from("heard nothing"),
        },
        (Shows::Attendant, Some(outcome)) if !outcome.referred_to.is_empty() => String::from("transferred"),
        (Shows::Attendant, Some(outcome)) => format!("status {}", outcome.status),
        (shows, Some(outcome)) => match facts.stored(&outcome.call_id) {
            Some(message) if shows == Shows::FailOver => {
                format!("{:.1} s on {}", message.note.duration_s, short(&message.note.server))
            }
            Some(message) => format!("message {:.1} s", message.note.duration_s),
            None => format!("status {}", outcome.status),
        },
    };
    let (number, name, story, security) = (scene.number, scene.name, scene.story, scene.plan_security);
    format!("  {number} {name:<18} {story:<34} {security:<10} {mark} {setup:>6}  {note}\n")
}

/// What Ken's pool was told of his messages.
pub(super) fn message_waiting(facts: &Facts) -> String {
    let changes = facts.waiting("ken");
    let counts: Vec<String> = changes.iter().map(|waiting| waiting.new.to_string()).collect();
    format!("    message waiting    NOTIFY to ken's pool, new messages: {}\n", counts.join(", "))
}

/// The two-leg ladder of a call, from the messages that passed.
pub(super) fn call_ladder(tap: &Tap, net: Net, record: &Value) -> String {
    let ids: Vec<&str> = ["call_id", "b_call_id"].iter().filter_map(|key| record[*key].as_str()).collect();
    let entries = tap.of_call(&ids);
    let Some(first) = entries.first().map(|entry| entry.at) else { return String::new() };
    let server = record["server"].as_str().unwrap_or(MAILBOX_SERVERS[0]);
    let names = ["pool01", "umbra", "cas01", short(server)].map(String::from);
    let hops: Vec<Hop> = entries
        .iter()
        .filter_map(|entry| hop(entry, entry.at.saturating_duration_since(first), net, server))
        .collect();
    ladder(&names, &hops)
}

fn hop(entry: &Entry, at: Duration, net: Net, server: &str) -> Option<Hop> {
    let index = MAILBOX_SERVERS.iter().position(|name| *name == server)?;
    let far = match entry.peer.ip() {
        ip if ip == config::pool_address(net, 0) => CALLER,
        ip if ip == net.host(Net::ROUTER) => CALL_ROUTER,
        ip if ip == config::mailbox_address(net, index) => MAILBOX,
        _ => return None,
    };
    let mut label = entry.label.replace(&format!(".{DOMAIN}"), "");
    // A server's service and its workers share a life line, so its port is told.
    if far == MAILBOX && entry.way == Way::Out {
        label = format!("{label} :{}", entry.peer.port());
    }
    let (from, to) = match entry.way {
        Way::In => (far, UMBRA),
        Way::Out => (UMBRA, far),
    };
    Some(Hop { at, from, to, label })
}

/// One sentence about the call of the ladder.
pub(super) fn ladder_caption(record: &Value) -> String {
    let text = |key: &str| record[key].as_str().unwrap_or("-").to_owned();
    let cut = |id: String| {
        if id.chars().count() > 12 { format!("{}…", id.chars().take(12).collect::<String>()) } else { id }
    };
    format!(
        "  A leg {}   B leg {}   redirects {}   answered in {} ms   {}   {}",
        cut(text("call_id")),
        cut(text("b_call_id")),
        record["redirects"],
        record["setup_ms"],
        text("codec"),
        text("security"),
    )
}

/// What there is to hear, to read and to type.
pub(super) fn files(folder: &Path, message: Option<&StoredMessage>, records: &Records, net: Net) -> String {
    let mut text = String::new();
    let mut row = |word: &str, rest: String| text.push_str(&format!("  {word:<10} {rest}\n"));
    if let Some(message) = message {
        let samples = read_wav(&message.wav).unwrap_or_default();
        let seconds = message.note.duration_s;
        row("listen", message.wav.display().to_string());
        row(
            "",
            format!(
                "{}  {seconds:.1} s  {:.0} dBFS",
                waveform(&samples, WAVEFORM_COLUMNS),
                level_dbfs(&samples)
            ),
        );
    }
    for (word, path) in ["records", ""].iter().zip(records.csv.iter().chain(&records.jsonl)) {
        row(word, path.display().to_string());
    }
    row("metrics", format!("http://{}:9065/metrics", net.host(Net::GATEWAY)));
    let (file, lab) = (folder.join("umbra.toml"), folder.join("lab.toml"));
    let (file, lab) = (file.display(), lab.display());
    text.push_str(&format!(
        "\n  Next:  umbra explain UMB-SEC001\n         umbra check {file}\n         \
         umbra route explain --to 'sip:ken@{DOMAIN};opaque=app:voicemail' --pool pool01 \\\n           -c {file}\n         \
         umbra lab call aa-main --keys 1 -c {lab}\n         \
         umbra run -c {file} --lab {lab}\n"
    ));
    text
}

/// The verdict of `--check`.
pub(super) fn verdict(checks: &Checks, style: Style) -> String {
    let failed: Vec<&Check> = checks.failed().collect();
    let total = checks.all.len();
    if failed.is_empty() {
        return format!("  check      {} {total} of {total} assertions hold", style.paint(Tone::Good, "ok"));
    }
    let mut text =
        format!("  check      {} {} of {total} assertions:", style.paint(Tone::Bad, "FAILED"), failed.len());
    for check in failed {
        let call = if check.call == 0 { String::from("demo") } else { format!("call {}", check.call) };
        let found = check.failure.as_deref().unwrap_or_default();
        text.push_str(&format!("\n    {call}: {}\n      found: {found}", check.what));
    }
    text
}

fn short(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::super::calls::SCENES;
    use super::super::place::free_net;
    use super::*;

    #[test]
    fn the_header_fits_a_hundred_columns() {
        let net = free_net().unwrap();
        let widest = header(net).lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 100, "{widest}");
    }

    #[test]
    fn stories_fit_their_column() {
        for scene in &SCENES {
            assert!(scene.story.chars().count() <= 34 && scene.name.len() <= 18, "{scene:?}");
        }
    }

    #[test]
    fn no_escape_is_printed_without_a_terminal_and_failures_are_named() {
        let mut checks = Checks::default();
        checks.that(true, "one is one", ());
        assert!(!verdict(&checks, Style::Plain).contains('\x1b'));
        assert!(verdict(&checks, Style::Colour).contains('\x1b'));
        checks.that(1 > 2, "one exceeds two", "it does not");
        let text = verdict(&checks, Style::Plain);
        assert!(
            text.contains("1 of 2") && text.contains("one exceeds two") && text.contains("it does not"),
            "{text}"
        );
    }
}
