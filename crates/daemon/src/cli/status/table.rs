//! The status for people: one screen, what needs attention in colour. Whatever a peer wrote is escaped here.

use super::super::screen::{Style, Tone, escaped};
use crate::observe::{Connections, Direction, PeerState, PeerStatus, Role, Status, TlsRefusal};

/// Days left that somebody should look at, and look at today.
const DAYS: (i64, i64) = (30, 7);
/// Of an RFC 3339 time: up to the seconds.
const TIME_CHARS: usize = 19;
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The whole screen.
pub(super) fn text(status: &Status, style: Style) -> String {
    let mut out = head(status, style);
    out.push_str(&directory(status, style));
    heading(&mut out, style, &format!("{:<15} {:<32} {:<14} {:>8}  CALLS", "ROLE", "NAME", "STATE", "PING"));
    for peer in &status.peers {
        out.push_str(&peer_lines(peer, style));
    }
    if !status.strangers.is_empty() {
        out.push_str(&format!("{}\n", style.paint(Tone::Odd, "of nobody in the configuration")));
        status.strangers.iter().for_each(|sort| out.push_str(&connection(sort, style)));
    }
    if !status.certificates.is_empty() {
        heading(&mut out, style, &format!("{:<48} {:<8} FOR", "CERTIFICATE", "LEFT"));
    }
    for ours in &status.certificates {
        let (subject, left) = (escaped(&ours.subject), days(ours.days_left, style));
        out.push_str(&format!("{subject:<48} {left} {}\n", escaped(&ours.used_for.join(", "))));
        out.push_str(&format!("    {}\n", style.paint(Tone::Quiet, &escaped(&ours.file))));
    }
    out.push('\n');
    out.push_str(&weaknesses(status, style));
    out.push_str(&failures(status, style));
    out
}

fn heading(out: &mut String, style: Style, words: &str) {
    out.push_str(&format!("\n{}\n", style.paint(Tone::Strong, words)));
}

fn head(status: &Status, style: Style) -> String {
    let willing = match status.draining {
        true => style.paint(Tone::Bad, "takes no new calls"),
        false => style.paint(Tone::Good, "takes calls"),
    };
    let reload = match &status.last_reload {
        None => String::new(),
        Some(reload) if reload.taken => format!("   reloaded {}Z", moment(&reload.at)),
        Some(reload) => {
            format!("   {}", style.paint(Tone::Bad, &format!("reload refused {}Z", moment(&reload.at))))
        }
    };
    let name =
        style.paint(Tone::Strong, &format!("umbra {}  {}", escaped(&status.version), escaped(&status.fqdn)));
    let (calls, rtp) = (&status.calls, &status.rtp);
    let up = duration(status.uptime_secs);
    format!(
        "{name}   up {up}   {willing}{reload}\n\
         calls {} of {}, {} since the start, {} refused   RTP port pairs {} of {} in use, {} resting\n",
        calls.now, calls.allowed, calls.since_start, calls.refused, rtp.in_use, rtp.pairs, rtp.resting
    )
}

fn directory(status: &Status, style: Style) -> String {
    let Some(live) = &status.directory else { return String::new() };
    let view = match live.age_secs {
        Some(age) => format!("{} entries, seen {} ago", live.entries, duration(age)),
        None => style.paint(Tone::Bad, "nothing is known of it"),
    };
    let mut out = format!("directory {}   {view}\n", escaped(&live.url));
    if let Some(trouble) = &live.trouble {
        let first = escaped(trouble.what.lines().next().unwrap_or_default());
        let what = style.paint(Tone::Bad, &format!("since {}Z: {first}", moment(&trouble.since)));
        out.push_str(&format!("    {what} {}\n", escaped(&trouble.code)));
    }
    out
}

fn peer_lines(peer: &PeerStatus, style: Style) -> String {
    let role = match peer.role {
        Role::Pool => "pool",
        Role::IpGateway => "ip gateway",
        Role::CallRouter => "call router",
        Role::MailboxServer => "mailbox server",
        Role::Hosted => "hosted UM",
    };
    let (state, tone) = match (peer.state, peer.resting_secs) {
        (PeerState::Up, _) => ("up".to_owned(), Tone::Good),
        (PeerState::Resting, secs) => (format!("resting {}s", secs.unwrap_or_default()), Tone::Bad),
        (PeerState::Down, _) => ("down".to_owned(), Tone::Bad),
        (PeerState::Full, _) => ("full".to_owned(), Tone::Odd),
        (PeerState::NoNewCalls, _) => ("no new calls".to_owned(), Tone::Odd),
        (PeerState::Disabled, _) => ("disabled".to_owned(), Tone::Quiet),
    };
    let calls = match (peer.calls, peer.calls_allowed) {
        (Some(calls), Some(allowed)) => format!("{calls}/{allowed}"),
        (Some(calls), None) => calls.to_string(),
        (None, _) => String::new(),
    };
    let state = style.paint(tone, &format!("{state:<14}"));
    let line = format!("{role:<15} {:<32} {state} {:>8}  {calls}", escaped(&peer.name), peer.ping());
    let mut out = format!("{}\n", line.trim_end());
    if let Some(trouble) = peer.trouble() {
        let code = b2bua::codes::SERVER_DOWN.as_str();
        let what = format!("    ! {}Z {}", moment(&trouble.at), escaped(&trouble.why));
        out.push_str(&format!("{}   umbra explain {code}\n", style.paint(Tone::Bad, &what)));
    }
    peer.connections.iter().for_each(|sort| out.push_str(&connection(sort, style)));
    if peer.more_connections > 0 {
        out.push_str(&format!("    and {} more\n", peer.more_connections));
    }
    out
}

fn connection(sort: &Connections, style: Style) -> String {
    let direction = match sort.direction {
        Direction::In => "in ",
        Direction::Out => "out",
    };
    let times = if sort.count > 1 { format!(" x{}", sort.count) } else { String::new() };
    let spoken = match &sort.tls {
        Some(tls) => format!("{} {} {}", tls.version, tls.suite, tls.backend),
        None => sort.transport.clone(),
    };
    let remote = format!("{}{times}", sort.remote);
    let line = format!("    {direction} {remote:<21} {spoken}");
    let certificate = sort.certificate.as_ref().map_or_else(String::new, |shown| {
        format!("  {} {}", escaped(&shown.name), days(shown.days_left, style).trim_end())
    });
    let ending = if sort.ending { style.paint(Tone::Odd, "  ending") } else { String::new() };
    format!("{}{certificate}{ending}\n", escaped(&line))
}

fn weaknesses(status: &Status, style: Style) -> String {
    let mut out = String::new();
    let mut line = |name: &str, words: &str| out.push_str(&format!("{name:<12} {words}\n"));
    if status.keys_logged {
        line("key log", &style.paint(Tone::Bad, "the secrets of every TLS connection are written to a file"));
    }
    let allowed =
        status.legacy_allowed.iter().map(|at| escaped(&format!("{}: {}", at.place, at.what.join(", "))));
    let used =
        status.legacy_used.iter().map(|used| (format!("{} with {}", used.what, used.peer), used.handshakes));
    line("legacy TLS", &allowed_and_used(allowed.collect(), used.collect(), style));
    let allowed = status.weak_allowed.iter().map(|name| escaped(name));
    let used = status.weak_used.iter().map(|used| (used.peer.clone(), used.handshakes));
    line("weak certs", &allowed_and_used(allowed.collect(), used.collect(), style));
    out
}

fn allowed_and_used(allowed: Vec<String>, used: Vec<(String, u64)>, style: Style) -> String {
    if allowed.is_empty() && used.is_empty() {
        return "none allowed".to_owned();
    }
    let allowed = match allowed.is_empty() {
        true => "none allowed any more".to_owned(),
        false => style.paint(Tone::Odd, &format!("allowed for {}", allowed.join("; "))),
    };
    let used: Vec<String> = used.iter().map(|(what, times)| format!("{} x{times}", escaped(what))).collect();
    match used.is_empty() {
        true => format!("{allowed}; not used"),
        false => format!("{allowed}; used: {}", used.join(", ")),
    }
}

fn failures(status: &Status, style: Style) -> String {
    let failed = &status.failed_handshakes;
    let count = match failed.count {
        0 => "none failed".to_owned(),
        count => style.paint(Tone::Odd, &format!("{count} failed")),
    };
    let mut out = format!("{:<12} {count}\n", "handshakes");
    failed.last.iter().rev().for_each(|refusal| out.push_str(&failure(refusal)));
    out
}

fn failure(refusal: &TlsRefusal) -> String {
    let TlsRefusal { at, reason, detail, code, .. } = refusal;
    // The label of a reason is its name in the metrics; the detail says it in words.
    let what = format!("{}Z {}: {reason}: {detail}", moment(at), refusal.whom());
    format!("    {} {}\n", escaped(&what), escaped(code))
}

fn moment(at: &str) -> String {
    escaped(at.get(..TIME_CHARS).unwrap_or(at))
}

fn days(left: i64, style: Style) -> String {
    let (soon, now) = DAYS;
    let tone = match left {
        left if left <= now => Some(Tone::Bad),
        left if left <= soon => Some(Tone::Odd),
        _ => None,
    };
    let words = if left < 0 { "EXPIRED".to_owned() } else { format!("{left}d") };
    let padded = format!("{words:<8}");
    tone.map_or(padded.clone(), |tone| style.paint(tone, &padded))
}

/// The two largest units.
fn duration(secs: u64) -> String {
    match secs {
        0..MINUTE => format!("{secs}s"),
        MINUTE..HOUR => format!("{}m{}s", secs / MINUTE, secs % MINUTE),
        HOUR..DAY => format!("{}h{}m", secs / HOUR, secs % HOUR / MINUTE),
        _ => format!("{}d{}h", secs / DAY, secs % DAY / HOUR),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{
        Calls, ChangedTo, DirectoryTrouble, FailedHandshakes, LegacyAllowed, LegacyUsed, LiveDirectory,
        OwnCertificate, PeerChange, Presented, ProbeStatus, RefusedSide, Reload, RtpPorts, Spoken, WeakUsed,
    };

    fn sort(direction: Direction, count: u64, remote: &str, name: &str) -> Connections {
        let spoken = |version: &str, suite: &str| Spoken {
            version: version.to_owned(),
            suite: suite.to_owned(),
            backend: "rustls".to_owned(),
        };
        Connections {
            count,
            direction,
            transport: "tls".to_owned(),
            ending: direction == Direction::Out,
            remote: remote.to_owned(),
            tls: Some(spoken("TLS 1.3", "TLS_AES_256_GCM_SHA384")),
            certificate: Some(Presented {
                subject: format!("CN={name}"),
                name: name.to_owned(),
                days_left: 61,
            }),
        }
    }

    fn peer(role: Role, name: &str, state: PeerState) -> PeerStatus {
        PeerStatus {
            role,
            name: name.to_owned(),
            state,
            changes: Vec::new(),
            probes: Vec::new(),
            resting_secs: (state == PeerState::Resting).then_some(12),
            calls: (role != Role::Pool).then_some(7),
            calls_allowed: (role != Role::Pool).then_some(100),
            connections: Vec::new(),
            more_connections: 0,
        }
    }

    fn busy() -> Status {
        let pool = PeerStatus {
            connections: vec![sort(Direction::In, 2, "192.0.2.10", "pool01.contoso.test")],
            more_connections: 3,
            ..peer(Role::Pool, "pool01", PeerState::Up)
        };
        let router = PeerStatus {
            connections: vec![sort(Direction::Out, 1, "192.0.2.30:5061", "cas\u{1b}[2J01")],
            probes: vec![ProbeStatus {
                transport: "tls".to_owned(),
                up: true,
                ping_ms: Some(1.1),
                last_good: None,
            }],
            ..peer(Role::CallRouter, "cas01.contoso.test", PeerState::Up)
        };
        let mailbox = PeerStatus {
            changes: vec![PeerChange {
                at: "2026-11-21T11:41:37.25Z".to_owned(),
                to: ChangedTo::Down,
                why: "3 OPTIONS timeouts over tls, last good 11:41:07Z".to_owned(),
            }],
            ..peer(Role::MailboxServer, "mbx01.contoso.test", PeerState::Down)
        };
        Status {
            version: "0.1.0".to_owned(),
            fqdn: "umbra.contoso.test".to_owned(),
            uptime_secs: 2 * HOUR + 14 * MINUTE,
            last_reload: Some(Reload { at: "2026-11-21T11:02:07.5Z".to_owned(), taken: true }),
            calls: Calls { now: 7, allowed: 100, since_start: 412, refused: 3 },
            rtp: RtpPorts { pairs: 300, in_use: 14, resting: 6 },
            peers: vec![pool, router, mailbox],
            certificates: vec![OwnCertificate {
                subject: "CN=umbra.contoso.test".to_owned(),
                file: "/etc/umbra/umbra.pem".to_owned(),
                used_for: vec!["listener".to_owned(), "peers".to_owned()],
                not_after: "2027-02-18T00:00:00Z".to_owned(),
                days_left: 89,
            }],
            legacy_allowed: vec![LegacyAllowed {
                place: "listener".to_owned(),
                what: vec!["TLS 1.0".to_owned(), "CBC".to_owned()],
            }],
            legacy_used: vec![LegacyUsed {
                peer: "pool01".to_owned(),
                what: "CBC".to_owned(),
                handshakes: 4,
            }],
            weak_used: vec![WeakUsed { peer: "pool02".to_owned(), handshakes: 1 }],
            failed_handshakes: FailedHandshakes {
                count: 9,
                last: vec![TlsRefusal {
                    at: "2026-11-21T15:44:57.1Z".to_owned(),
                    side: RefusedSide::Inbound,
                    remote: "192.0.2.9:4000".parse().unwrap(),
                    name: String::new(),
                    reason: "expired".into(),
                    code: "UMB-TLS005".into(),
                    detail: "certificate has expired".to_owned(),
                    certificate: None,
                }],
            },
            ..Status::default()
        }
    }

    #[test]
    fn the_screen_looks_as_documented() {
        let wanted = "\
umbra 0.1.0  umbra.contoso.test   up 2h14m   takes calls   reloaded 2026-11-21T11:02:07Z
calls 7 of 100, 412 since the start, 3 refused   RTP port pairs 14 of 300 in use, 6 resting

ROLE            NAME                             STATE              PING  CALLS
pool            pool01                           up
    in  192.0.2.10 x2         TLS 1.3 TLS_AES_256_GCM_SHA384 rustls  pool01.contoso.test 61d
    and 3 more
call router     cas01.contoso.test               up               1.1 ms  7/100
    out 192.0.2.30:5061       TLS 1.3 TLS_AES_256_GCM_SHA384 rustls  cas\\u{1b}[2J01 61d  ending
mailbox server  mbx01.contoso.test               down                     7/100
    ! 2026-11-21T11:41:37Z 3 OPTIONS timeouts over tls, last good 11:41:07Z   umbra explain UMB-PEER003

CERTIFICATE                                      LEFT     FOR
CN=umbra.contoso.test                            89d      listener, peers
    /etc/umbra/umbra.pem

legacy TLS   allowed for listener: TLS 1.0, CBC; used: CBC with pool01 x4
weak certs   none allowed any more; used: pool02 x1
handshakes   9 failed
    2026-11-21T15:44:57Z of 192.0.2.9: expired: certificate has expired UMB-TLS005
";
        assert_eq!(text(&busy(), Style::Plain), wanted);
    }

    #[test]
    fn what_needs_attention_is_said_and_a_quiet_gateway_is_quiet() {
        let quiet = text(&Status::default(), Style::Plain);
        assert!(
            quiet.ends_with(
                "legacy TLS   none allowed\nweak certs   none allowed\nhandshakes   none failed\n"
            )
        );
        let mut status = busy();
        (status.draining, status.keys_logged, status.uptime_secs) = (true, true, 3 * DAY + 5 * HOUR);
        status.certificates[0].days_left = -1;
        status.last_reload.as_mut().unwrap().taken = false;
        status.directory = Some(LiveDirectory {
            url: "ldaps://dc01.contoso.test:636".to_owned(),
            age_secs: Some(2 * HOUR),
            entries: 9,
            trouble: Some(DirectoryTrouble {
                since: "2026-11-21T11:02:07.5Z".to_owned(),
                code: "UMB-DIR007".to_owned(),
                what: "bind as CN=um\u{1b}[2Jbra: name or password is refused\nmore".to_owned(),
            }),
            ..LiveDirectory::default()
        });
        let shown = text(&status, Style::Plain);
        for words in [
            "directory ldaps://dc01.contoso.test:636   9 entries, seen 2h0m ago\n",
            "    since 2026-11-21T11:02:07Z: bind as CN=um\\u{1b}[2Jbra: name or password is refused UMB-DIR007\n",
        ] {
            assert!(shown.contains(words), "{words}:\n{shown}");
        }
        for words in
            ["takes no new calls", "EXPIRED", "up 3d5h", "reload refused 2026", "secrets of every TLS"]
        {
            assert!(shown.contains(words), "{words}:\n{shown}");
        }
    }

    #[test]
    fn the_document_is_read_as_it_was_written() {
        let written = serde_json::to_string(&busy()).unwrap();
        let read: Status = serde_json::from_str(&written).unwrap();
        assert_eq!(text(&read, Style::Plain), text(&busy(), Style::Plain));
    }
}
