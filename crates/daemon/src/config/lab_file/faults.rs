//! The words of faults, the same in a lab file, in a plan of `umbra lab faults` and for `umbra lab fault`; and the fault plan of a lab file.

use std::time::Duration;

use b2bua::codes;
use lab::um::{Fault, Impairment};

use super::super::reader::Reader;
use super::super::words;

/// What a redirect to nobody's server names.
const FOREIGN_HOST: &str = "mbx99.elsewhere.test";
/// What a wrong certificate is made for.
const FOREIGN_NAME: &str = "elsewhere.contoso.test";
/// Entries of a plan.
const PLANNED_MAX: usize = 1_000;
/// Longest wait in a plan.
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// A fault that comes again comes no sooner.
const EVERY_MIN: Duration = Duration::from_millis(100);

/// Every word.
pub const FAULTS: [&str; 18] = [
    "none",
    "dead",
    "unavailable",
    "no_new_calls",
    "silent",
    "rings_forever",
    "cuts_on_invite",
    "wrong_certificate",
    "lost_redirect",
    "late_redirect",
    "foreign_redirect",
    "looping_redirect",
    "slow_answer",
    "recycled",
    "rings_with_sdp",
    "mute",
    "foreign_mki",
    "roc_jump",
];

/// The fault of this word; `after` is for those that come late. `None`: no such word.
pub fn fault(word: &str, after: Duration) -> Option<Fault> {
    Some(match word {
        "none" => Fault::None,
        "dead" => Fault::Dead,
        "unavailable" => Fault::Unavailable,
        "no_new_calls" => Fault::NoNewCalls,
        "silent" => Fault::Silent,
        "rings_forever" => Fault::RingsForever,
        "cuts_on_invite" => Fault::CutsOnInvite,
        "wrong_certificate" => Fault::WrongCertificate(FOREIGN_NAME.to_owned()),
        "lost_redirect" => Fault::LostRedirect,
        "late_redirect" => Fault::LateRedirect(after),
        "foreign_redirect" => Fault::ForeignRedirect(FOREIGN_HOST.to_owned()),
        "looping_redirect" => Fault::LoopingRedirect,
        "slow_answer" => Fault::SlowAnswer(after),
        "recycled" => Fault::Recycled(after),
        "rings_with_sdp" => Fault::RingsWithSdp,
        "mute" => Fault::Media(Impairment::Mute),
        "foreign_mki" => Fault::Media(Impairment::ForeignMki),
        "roc_jump" => Fault::Media(Impairment::RocJump(after)),
        _ => return None,
    })
}

/// Why a word is none, with the one that was meant.
pub fn unknown(word: &str) -> String {
    match words::suggestion(word, FAULTS) {
        Some(meant) => format!("`{word}` is no fault; did you mean `{meant}`?"),
        None => format!("`{word}` is no fault; there are {}", FAULTS.join(", ")),
    }
}

/// Which part of a server a fault is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    #[default]
    All,
    /// The workers of a Mailbox server.
    Workers,
}

impl Part {
    /// Words for it.
    pub const WORDS: [(&'static str, Part); 2] = [("all", Part::All), ("workers", Part::Workers)];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Workers => "workers",
        }
    }
}

/// A fault that comes by the clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// This long after the start of the lab.
    pub at: Duration,
    /// Up to so much later, by the lab's seed.
    pub jitter: Duration,
    /// Again and again; `None` = once.
    pub every: Option<Duration>,
    /// It goes by itself after this; `None` = it stays.
    pub lasts: Option<Duration>,
    /// Server.
    pub server: String,
    /// Which part of it.
    pub part: Part,
    /// Its word.
    pub word: &'static str,
    /// What it is.
    pub fault: Fault,
}

pub(super) fn plan(root: &Reader<'_>, servers: &[String]) -> Vec<Planned> {
    let tables = root.tables("fault");
    if tables.len() > PLANNED_MAX {
        root.error(codes::CFG_RANGE, "fault", format!("{} faults; {PLANNED_MAX} are possible", tables.len()));
    }
    tables.iter().take(PLANNED_MAX).filter_map(|table| planned(table, servers)).collect()
}

fn planned(table: &Reader<'_>, servers: &[String]) -> Option<Planned> {
    let wait = |key| table.duration(key, Duration::ZERO..=DAY);
    let after = wait("after").unwrap_or_default();
    let (at, jitter) = (wait("at").unwrap_or_default(), wait("jitter").unwrap_or_default());
    let every = table.duration("every", EVERY_MIN..=DAY);
    let lasts = wait("for");
    let part = table.word("part", &Part::WORDS).unwrap_or_default();
    let server = table.need_text("server");
    let server =
        super::super::objects::resolve(table, "server", &server, servers).and_then(|at| servers.get(at));
    let word = table.need_text("fault");
    let known = FAULTS.into_iter().find(|known| *known == word);
    if known.is_none() && !word.is_empty() {
        table.error(codes::CFG_VALUE, "fault", unknown(&word));
    }
    table.finish();
    let word = known?;
    let fault = fault(word, after)?;
    Some(Planned { at, jitter, every, lasts, server: server?.clone(), part, word, fault })
}
