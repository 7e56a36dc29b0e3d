//! What a check says: its group, its mark, the code it is about, one line, and what to do on which side. Owns these
//! shapes and their sum; refuses to know how anything was found out and how it is printed.

use b2bua::codes::Code;
use b2bua::verdict::clean;
use serde::Serialize;

/// Findings kept of one run; those beyond are counted only.
pub const FINDINGS_MAX: usize = 1_000;

/// What belongs together, in the order it is shown.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// What `umbra check` finds and no other group shows.
    Configuration,
    /// Ours and those of the peers, OAuth ones too.
    Certificates,
    /// Versions and suites that really work.
    Tls,
    /// Call Routers and Mailbox servers: ports and OPTIONS.
    Servers,
    /// Pool × dial plan.
    Security,
    /// UM IP gateways.
    Gateways,
    /// Dial plans and the servers in them.
    Plans,
    /// Where objects are read live.
    Directory,
    /// Pools, Autodiscover, location profiles.
    Lync,
    /// DNS.
    Names,
    /// RTP ports and what the system gives.
    Media,
    /// Ports listened on.
    Listeners,
    /// Time.
    Clock,
}

impl Group {
    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Configuration => "Configuration",
            Self::Certificates => "Certificates",
            Self::Tls => "TLS",
            Self::Servers => "Call Routers and Mailbox servers",
            Self::Security => "Dial plan security",
            Self::Gateways => "UM IP gateways",
            Self::Plans => "Dial plans",
            Self::Directory => "Live directory",
            Self::Lync => "Lync",
            Self::Names => "Names",
            Self::Media => "Media",
            Self::Listeners => "Listeners",
            Self::Clock => "Clock",
        }
    }
}

/// How a check ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mark {
    /// As it should be.
    Ok,
    /// Somebody should look.
    Warn,
    /// It does not work.
    Fail,
    /// The check could not run; the line says why.
    Skip,
}

/// Who can mend it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Whoever the code names.
    Any,
    /// The Exchange administrator.
    Exchange,
    /// The Lync administrator.
    Lync,
    /// Here.
    Umbra,
}

/// What to do, by side; empty sides are left out.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Fix {
    /// Exchange cmdlet.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub exchange: String,
    /// Lync cmdlet or Control Panel.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lync: String,
    /// Key of this gateway, or command on this host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub umbra: String,
}

impl Fix {
    fn of(code: Code, side: Side) -> Self {
        let entry = code.entry();
        let wanted = |own: Side, words: &str| match side == Side::Any || side == own {
            true => words.to_owned(),
            false => String::new(),
        };
        let fix = Self {
            exchange: wanted(Side::Exchange, entry.fix_exchange),
            lync: wanted(Side::Lync, entry.fix_lync),
            umbra: wanted(Side::Umbra, entry.fix_umbra),
        };
        match fix == Self::default() && side != Side::Any {
            true => Self::of(code, Side::Any),
            false => fix,
        }
    }

    /// Side and words of those that have some.
    pub fn sides(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let all = [("Exchange", &self.exchange), ("Lync", &self.lync), ("Umbra", &self.umbra)];
        all.into_iter().filter(|(_, words)| !words.is_empty()).map(|(side, words)| (side, words.as_str()))
    }
}

/// One check and what came of it. The keys of its JSON are documented and stable.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// Where it is shown.
    pub group: Group,
    /// How it ended.
    pub mark: Mark,
    /// What the check is about, whatever came of it.
    pub code: Code,
    /// One line, safe to print.
    pub what: String,
    /// Why it matters; on warnings and failures only.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub cause: &'static str,
    /// What to do; on warnings and failures only.
    pub fix: Fix,
    /// A drawing, line by line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub picture: Vec<String>,
}

impl Finding {
    /// A finding with this mark; whatever a peer wrote in `what` is made safe.
    pub fn new(group: Group, mark: Mark, code: Code, what: impl AsRef<str>) -> Self {
        let is_trouble = matches!(mark, Mark::Warn | Mark::Fail);
        Self {
            group,
            mark,
            code,
            what: clean(what.as_ref()),
            cause: if is_trouble { code.entry().cause } else { "" },
            fix: if is_trouble { Fix::of(code, Side::Any) } else { Fix::default() },
            picture: Vec::new(),
        }
    }

    /// It is as it should be.
    pub fn ok(group: Group, code: Code, what: impl AsRef<str>) -> Self {
        Self::new(group, Mark::Ok, code, what)
    }

    /// Somebody should look.
    pub fn warn(group: Group, code: Code, what: impl AsRef<str>) -> Self {
        Self::new(group, Mark::Warn, code, what)
    }

    /// It does not work.
    pub fn fail(group: Group, code: Code, what: impl AsRef<str>) -> Self {
        Self::new(group, Mark::Fail, code, what)
    }

    /// It could not be found out.
    pub fn skip(group: Group, code: Code, why: impl AsRef<str>) -> Self {
        Self::new(group, Mark::Skip, code, why)
    }

    /// Only what this side can do, if it can do anything.
    #[must_use]
    pub fn on(mut self, side: Side) -> Self {
        if matches!(self.mark, Mark::Warn | Mark::Fail) {
            self.fix = Fix::of(self.code, side);
        }
        self
    }

    /// With a drawing below.
    #[must_use]
    pub fn drawn(mut self, picture: Vec<String>) -> Self {
        self.picture = picture;
        self
    }
}

/// Everything found, with its sum.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Report {
    /// Findings.
    pub checks: usize,
    /// Of these.
    pub ok: usize,
    /// Of these.
    pub warnings: usize,
    /// Of these.
    pub failed: usize,
    /// Of these.
    pub skipped: usize,
    /// Group by group.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Sorts by group and counts.
    pub fn of(mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.group);
        findings.dedup();
        let count = |mark| findings.iter().filter(|finding| finding.mark == mark).count();
        let (ok, warnings) = (count(Mark::Ok), count(Mark::Warn));
        let (failed, skipped, checks) = (count(Mark::Fail), count(Mark::Skip), findings.len());
        findings.truncate(FINDINGS_MAX);
        Self { checks, ok, warnings, failed, skipped, findings }
    }

    /// `27 checks: 23 ok, 2 warnings, 2 failed`.
    pub fn summary(&self) -> String {
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let Self { checks, ok, warnings, failed, skipped, .. } = self;
        let skipped = if *skipped == 0 { String::new() } else { format!(", {skipped} skipped") };
        format!(
            "{checks} check{}: {ok} ok, {warnings} warning{}, {failed} failed{skipped}",
            plural(*checks),
            plural(*warnings)
        )
    }
}

#[cfg(test)]
mod tests {
    use b2bua::codes;

    use super::*;

    #[test]
    fn only_trouble_has_cause_and_fix_and_a_side_narrows_it() {
        let good = Finding::ok(Group::Tls, codes::EXPIRED, "fine").on(Side::Exchange);
        assert!(good.cause.is_empty() && good.fix.sides().next().is_none());
        let bad = Finding::fail(Group::Servers, codes::SERVER_TLS, "refused");
        assert_eq!(bad.fix.sides().map(|(side, _)| side).collect::<Vec<_>>(), ["Exchange", "Umbra"]);
        let narrowed = bad.clone().on(Side::Umbra);
        assert_eq!(narrowed.fix.sides().map(|(side, _)| side).collect::<Vec<_>>(), ["Umbra"]);
        assert_eq!(bad.clone().on(Side::Lync), bad, "a side that can do nothing hides nothing");
    }

    #[test]
    fn the_sum_counts_every_mark_and_groups_stay_together() {
        let report = Report::of(vec![
            Finding::skip(Group::Clock, codes::CLOCK_SKEW, "nobody tells"),
            Finding::fail(Group::Tls, codes::EXPIRED, "old"),
            Finding::warn(Group::Clock, codes::CLOCK_EDGE, "soon"),
            Finding::ok(Group::Tls, codes::EXPIRED, "good"),
        ]);
        assert_eq!(report.summary(), "4 checks: 1 ok, 1 warning, 1 failed, 1 skipped");
        assert_eq!(report.findings[0].group, Group::Tls);
        assert_eq!(Report::of(Vec::new()).summary(), "0 checks: 0 ok, 0 warnings, 0 failed");
    }

    #[test]
    fn what_a_peer_wrote_cannot_steer_the_terminal() {
        let finding = Finding::fail(Group::Servers, codes::SERVER_FAILED, "503 \u{1b}[2J\u{202e}gone");
        assert_eq!(finding.what, "503 ?[2J?gone");
    }
}
