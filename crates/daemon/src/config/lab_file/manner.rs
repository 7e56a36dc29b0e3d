//! Version presets and quirk knobs of a lab file: `version`, `[quirks]`, and both again at a server. What is known of versions, and every default, is in
//! [`lab::um::Manner`].

use std::time::Duration;

use b2bua::codes;
use lab::um::{
    Allowed, AnswerRules, DialPlanConfig, FirstWord, MalformedDiversion, Manner, OldCalls, Recycling,
    RedirectsTo, SUITES, Version,
};

use super::super::reader::Reader;

/// Exchange 2019 has no UM of its own; what is called so is that of 2016.
const VERSIONS: [(&str, Version); 4] =
    [("2010", Version::E2010), ("2013", Version::E2013), ("2016", Version::E2016), ("2019", Version::E2016)];
const RINGS_MAX: Duration = Duration::from_secs(180);

/// The version that a table names.
pub(super) fn version(table: &Reader<'_>) -> Option<Version> {
    table.word("version", &VERSIONS)
}

/// A server's manner: its version's, with the knobs of the file and then its own.
pub(super) fn of_server(root: &Reader<'_>, server: &Reader<'_>) -> Manner {
    let general = version(&root.table("lab")).unwrap_or_default();
    let manner = knobs(&root.table("quirks"), Manner::of(version(server).unwrap_or(general)));
    let own = server.table("quirks");
    let manner = knobs(&own, manner);
    own.finish();
    manner
}

/// The knobs that are of the whole lab: when calls ring and are answered.
pub(super) fn timing(root: &Reader<'_>, plans: &mut [DialPlanConfig], rest: &mut AnswerRules) {
    let table = root.table("quirks");
    let wait = |key| table.duration(key, Duration::ZERO..=RINGS_MAX);
    let (ring, answer) = (wait("ring_after"), wait("answer_after"));
    for rules in plans.iter_mut().map(|plan| &mut plan.answer).chain([rest]) {
        rules.ring_after = ring.or(rules.ring_after);
        rules.answer_after = answer.unwrap_or(rules.answer_after);
    }
    knobs(&table, Manner::default());
    table.finish();
}

fn knobs(table: &Reader<'_>, base: Manner) -> Manner {
    let mut manner = base;
    if let Some(text) = table.text("server_text") {
        let is_printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !is_printable {
            table.error(codes::CFG_VALUE, "server_text", "must be printable ASCII, for it is a header");
        }
        manner.server_text = Some(text).filter(|text| !text.is_empty() && is_printable);
    }
    let to = [("service", RedirectsTo::Service), ("worker", RedirectsTo::Worker)];
    manner.redirects_to = table.word("redirects_to", &to).unwrap_or(manner.redirects_to);
    contact(&table.table("contact"), &mut manner);
    let words = [("180", FirstWord::Ringing), ("183", FirstWord::Progress)];
    manner.first_word = table.word("first_word", &words).unwrap_or(manner.first_word);
    suites(table, &mut manner);
    flag(table, "mki", &mut manner.mki);
    flag(table, "rtcp", &mut manner.rtcp);
    flag(table, "missed_call_notifications", &mut manner.missed_calls);
    let shortest = Duration::from_secs(90);
    manner.session_expires = table
        .duration("session_expires", shortest..=Duration::from_secs(24 * 3_600))
        .or(manner.session_expires);
    let diversion = [("refuse", MalformedDiversion::Refused), ("repair", MalformedDiversion::Repaired)];
    manner.malformed_diversion =
        table.word("malformed_diversion", &diversion).unwrap_or(manner.malformed_diversion);
    let status = table.whole("full_status", 400..=699).and_then(|status| u16::try_from(status).ok());
    manner.full_status = status.unwrap_or(manner.full_status);
    recycling(&table.table("recycling"), &mut manner);
    manner
}

fn flag(table: &Reader<'_>, key: &'static str, knob: &mut Allowed) {
    match table.flag(key) {
        Some(true) => *knob = Allowed::Yes,
        Some(false) => *knob = Allowed::No,
        None => {}
    }
}

fn contact(table: &Reader<'_>, manner: &mut Manner) {
    flag(table, "user_phone", &mut manner.contact.user_phone);
    flag(table, "maddr", &mut manner.contact.maddr);
    if let Some(name) = table.text("ms_fe") {
        let is_name =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
        if !is_name {
            table.error(codes::CFG_VALUE, "ms_fe", "must be a host name");
        }
        manner.contact.ms_fe = Some(name).filter(|_| is_name);
    }
    table.finish();
}

fn suites(table: &Reader<'_>, manner: &mut Manner) {
    let Some(names) = table.list("crypto_suites") else { return };
    let mut suites = Vec::new();
    for name in &names {
        match SUITES.into_iter().find(|suite| suite.name() == name) {
            Some(suite) => suites.push(suite),
            None => {
                let known = SUITES.map(|suite| suite.name()).join(", ");
                let what = format!("`{name}` is no suite of the lab; there are {known}");
                table.error(codes::CFG_VALUE, "crypto_suites", what);
            }
        }
    }
    manner.suites = suites;
}

fn recycling(table: &Reader<'_>, manner: &mut Manner) {
    if !table.is_present() {
        return;
    }
    let calls = table.whole("calls", 1..=1_000_000).and_then(|calls| u32::try_from(calls).ok());
    let period = table.duration("period", Duration::from_secs(1)..=Duration::from_secs(30 * 24 * 3_600));
    if calls.is_none() && period.is_none() {
        table.error(
            codes::CFG_MISSING_KEY,
            "calls",
            "worker processes are recycled after `calls`, a `period` or both",
        );
    }
    let words = [("go_on", OldCalls::GoOn), ("cut", OldCalls::Cut)];
    let old_calls = table.word("old_calls", &words).unwrap_or_default();
    manner.recycling = Some(Recycling { calls, period, old_calls });
    table.finish();
}
