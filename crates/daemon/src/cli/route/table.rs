//! The answer of a dry run for people: read like a stack trace, top to bottom, until something decided. Owns the
//! lay-out; everything printed passes the escape.

use std::fmt::{self, Write};

use b2bua::Policy;
use b2bua::policy::{Allowed, PoolEncryption, RoutingRules, VoipSecurity};
use b2bua::route::{CalledBy, Outcome, Step, UmView};
use b2bua::security::{MediaSecurity, Signalling, fits};

use super::answer::{Answer, Candidate, Gateway, Headers, HostedBy, Refused, Routed, Security};
use crate::cli::screen::{Style, Tone, escaped};

const LEVELS: [PoolEncryption; 3] = [
    PoolEncryption::RequireEncryption,
    PoolEncryption::SupportEncryption,
    PoolEncryption::DoNotSupportEncryption,
];
const PLANS: [VoipSecurity; 3] = [VoipSecurity::Unsecured, VoipSecurity::SipSecured, VoipSecurity::Secured];

/// The whole answer.
pub(super) fn text(policy: &Policy, answer: &Answer, style: Style) -> String {
    let mut page = Page { out: String::new(), style };
    // Writing to a String cannot fail.
    let _ = page.write(policy, answer);
    page.out
}

struct Page {
    out: String,
    style: Style,
}

impl Page {
    fn write(&mut self, policy: &Policy, answer: &Answer) -> fmt::Result {
        writeln!(self.out, "INVITE {}", escaped(&answer.request_uri))?;
        let way = match &answer.placed_by {
            Some(server) => {
                writeln!(self.out, "from Mailbox server {}, which places it", escaped(server))?;
                "out through"
            }
            None => "from",
        };
        if let Some(Gateway { name, address, pool, chosen_by }) = &answer.ip_gateway {
            let pool = pool.as_ref().map_or_else(String::new, |pool| format!(", pool {}", escaped(pool)));
            let (name, address) = (escaped(name), escaped(address));
            writeln!(self.out, "{way} UM IP gateway {name} ({address}{pool}), {chosen_by}")?;
        }
        self.steps(&answer.steps)?;
        if let Some(route) = &answer.route {
            self.route(route)?;
            if let Some(view) = &answer.um_view {
                self.um_view(view)?;
            }
            if answer.placed_by.is_none() {
                self.servers(policy, route, &answer.servers)?;
            }
        }
        if let Some(security) = &answer.security {
            self.security(security)?;
        }
        if let Some(headers) = &answer.headers {
            self.headers(headers)?;
        }
        match &answer.refusal {
            Some(refusal) => self.refusal(refusal),
            None => self.routed(answer),
        }
    }

    fn heading(&mut self, words: &str) -> fmt::Result {
        let heading = self.style.paint(Tone::Strong, words);
        writeln!(self.out, "\n{heading}")
    }

    fn line(&mut self, name: &str, words: &str) -> fmt::Result {
        let words = if words.is_empty() { "-" } else { words };
        writeln!(self.out, "  {name:<13} {}", escaped(words))
    }

    fn steps(&mut self, steps: &[Step]) -> fmt::Result {
        if steps.is_empty() {
            return Ok(());
        }
        self.heading("Tried")?;
        for step in steps {
            let (tone, mark, outcome) = match &step.outcome {
                Outcome::Chosen(text) => (Tone::Good, "=>", text),
                Outcome::Passed(text) => (Tone::Quiet, "--", text),
                Outcome::Refused(text) => (Tone::Bad, "!!", text),
            };
            let mark = self.style.paint(tone, mark);
            let (why, outcome) = (escaped(&step.why), escaped(outcome));
            writeln!(self.out, "  {mark} {:<28} {why}: {outcome}", step.tried)?;
        }
        Ok(())
    }

    fn route(&mut self, route: &Routed) -> fmt::Result {
        self.heading("Route")?;
        self.line("dial plan", &route.dial_plan)?;
        self.line("hunt group", route.hunt_group.as_deref().unwrap_or("-"))?;
        let memo = if route.voice_memo { ", straight to recording" } else { "" };
        self.line("call type", &format!("{}{memo}", route.call_type))?;
        self.line("callee", &route.callee)?;
        self.line("caller", &route.caller)?;
        self.line("reason", route.reason_for_call)?;
        let optional = [
            ("diverted from", &route.diverted_from),
            ("attendant", &route.auto_attendant),
            ("mailbox", &route.mailbox),
        ];
        for (name, words) in optional {
            if let Some(words) = words {
                self.line(name, words)?;
            }
        }
        if let Some(HostedBy { policy, destination, organization, request_uri }) = &route.hosted {
            self.line("hosted", &format!("policy {policy}: {destination}, organization {organization}"))?;
            self.line("Request-URI", request_uri)?;
        }
        Ok(())
    }

    fn um_view(&mut self, view: &UmView) -> fmt::Result {
        self.heading("Whom UM will take for the called one")?;
        self.line("called", &view.called)?;
        let by = match view.by {
            CalledBy::Diversion => "Diversion",
            CalledBy::HistoryInfo => "History-Info",
            CalledBy::RequestUri => "Request-URI",
        };
        self.line("because of", &format!("{by}: {}", view.why))
    }

    fn servers(&mut self, policy: &Policy, route: &Routed, servers: &[Candidate]) -> fmt::Result {
        let order = match route.selection {
            "round_robin" => "they take turns",
            "least_calls" => "fewest calls first",
            _ => "first one first",
        };
        self.heading(&format!("Servers, {order}; the next one after {}", retried(&policy.routing)))?;
        if servers.is_empty() {
            self.line("none", "the dial plan has no server")?;
        }
        for (number, server) in servers.iter().enumerate() {
            let addresses = match server.addresses.as_slice() {
                [] => "by DNS".to_owned(),
                list => list.join(" "),
            };
            let Candidate { role, transport, port, status, .. } = server;
            let name = escaped(&server.name);
            let number = number + 1;
            writeln!(
                self.out,
                "  {number} {name:<28} {role:<15} {transport}:{port:<6} {addresses:<16} {status}"
            )?;
        }
        Ok(())
    }

    fn security(&mut self, security: &Security) -> fmt::Result {
        self.heading("Security")?;
        if let Some(level) = security.pool_encryption {
            self.matrix(level, security.voip_security)?;
        }
        let transport = match security.transport {
            Signalling::MutualTls => "mutual TLS",
            Signalling::Plain => "no TLS",
        };
        let offer = match security.offer {
            Some(MediaSecurity::Required) => "SRTP only",
            Some(MediaSecurity::Optional) => "RTP with optional SRTP keys",
            Some(MediaSecurity::None) => "RTP only",
            Some(MediaSecurity::Unusable) => "SRTP without a usable key",
            Some(MediaSecurity::Absent) => "no session description (late offer)",
            None => "a session description that cannot be used",
        };
        self.line("request over", transport)?;
        self.line("offer", offer)?;
        match &security.decision {
            Some(decided) => self.line("both legs", &decided.words),
            None => self.line("both legs", "refused"),
        }
    }

    /// Pool levels × plan security, the cell in question in brackets.
    fn matrix(&mut self, level: PoolEncryption, plan: VoipSecurity) -> fmt::Result {
        writeln!(
            self.out,
            "  {:<24} {:<11} {:<11} {:<11}",
            "pool \\ dial plan", "Unsecured", "SIPSecured", "Secured"
        )?;
        for row in LEVELS {
            write!(self.out, "  {:<24}", format!("{row:?}"))?;
            for column in PLANS {
                let word = if fits(row, column) { "ok" } else { "x" };
                let is_here = (row, column) == (level, plan);
                let cell = if is_here { format!("[{word}]") } else { format!(" {word}") };
                let tone = if fits(row, column) { Tone::Good } else { Tone::Bad };
                let padded = format!("{cell:<11}");
                let cell = if is_here { self.style.paint(tone, &padded) } else { padded };
                write!(self.out, " {cell}")?;
            }
            writeln!(self.out)?;
        }
        Ok(())
    }

    fn headers(&mut self, headers: &Headers) -> fmt::Result {
        self.heading("Headers of the request")?;
        self.line("sent on", &headers.sent_on.join(", "))?;
        self.line("not sent on", &headers.not_sent_on.join(", "))
    }

    fn refusal(&mut self, refusal: &Refused) -> fmt::Result {
        let Refused { code, status, reason, .. } = refusal;
        let heading = self.style.paint(Tone::Bad, &format!("Refused: {status} {reason}  {code}"));
        writeln!(self.out, "\n{heading}")?;
        self.line("who", &refusal.who)?;
        self.line("what", &refusal.what)?;
        for line in refusal.evidence.iter().filter(|line| !is_step(line)) {
            self.line("evidence", line)?;
        }
        if !refusal.remedy.is_empty() {
            self.line("fix", &refusal.remedy)?;
        }
        self.line("more", &format!("umbra explain {code}"))
    }

    fn routed(&mut self, answer: &Answer) -> fmt::Result {
        let words = answer.security.as_ref().and_then(|security| security.decision.as_ref());
        let words = words.map_or_else(String::new, |decided| format!(" with {}", decided.words));
        let plan = answer.route.as_ref().map_or("", |route| &route.dial_plan);
        let to = if answer.placed_by.is_some() { "Routed out of" } else { "Routed to" };
        let heading = self.style.paint(Tone::Good, &format!("{to} dial plan {}{words}", escaped(plan)));
        writeln!(self.out, "\n{heading}")
    }
}

/// After what the next server is tried.
fn retried(rules: &RoutingRules) -> String {
    let mut all: Vec<String> = rules.retry_on.iter().map(ToString::to_string).collect();
    if rules.retry_on_connect_failure == Allowed::Yes {
        all.push("connect failure".to_owned());
    }
    if rules.retry_on_timeout == Allowed::Yes {
        all.push("time-out".to_owned());
    }
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}

/// The steps stand above already.
fn is_step(line: &str) -> bool {
    ["=> ", "-- ", "!! "].iter().any(|mark| line.starts_with(mark))
}
