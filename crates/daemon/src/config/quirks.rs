//! `profile`, `quirks_off` and `[quirks]`: what a peer is, and which allowances are not made for it. Owns the words for
//! names that are none; the names themselves are the registry's.

use b2bua::codes;
use b2bua::policy::{Dialect, Profile};
use b2bua::quirks::{self, Quirk, QuirkSet, Switch};

use super::reader::Reader;
use super::words;

/// `[quirks]`: those that are off for everybody.
pub(super) fn section(root: &Reader<'_>) -> QuirkSet {
    let section = root.table("quirks");
    let off = names(&section, "disable");
    section.finish();
    off
}

/// What a peer is: `profile`, one of those its kind may have, and `quirks_off` beside what is off already.
pub(super) fn dialect(table: &Reader<'_>, profiles: &[Profile], default: Profile, off: QuirkSet) -> Dialect {
    let words: Vec<_> = profiles.iter().map(|profile| (profile.name(), *profile)).collect();
    let profile = table.word("profile", &words).unwrap_or(default);
    let own = names(table, "quirks_off");
    for quirk in own.minus(QuirkSet::of_profile(profile)).iter() {
        let what = format!("peers of the profile {} have no quirk `{}`", profile.name(), quirk.name());
        table.error(codes::CFG_VALUE, "quirks_off", what);
    }
    Dialect::of(profile).without(off.with(own))
}

fn names(table: &Reader<'_>, key: &'static str) -> QuirkSet {
    let quirk = |name: &String| {
        let quirk = Quirk::from_name(name);
        if quirk.is_none() {
            table.error(codes::CFG_VALUE, key, no_quirk(name));
        }
        quirk
    };
    table.list(key).unwrap_or_default().iter().filter_map(quirk).collect()
}

fn no_quirk(name: &str) -> String {
    let entry = quirks::all().iter().find(|entry| entry.name.eq_ignore_ascii_case(name));
    match entry.map(|entry| entry.switch) {
        Some(Switch::Setting(key)) => format!("`{name}` is switched by `{key}`"),
        Some(Switch::Rule(why)) => format!("`{name}` is a rule and stays on: {why}"),
        _ => match words::suggestion(name, Quirk::ALL.map(Quirk::name)) {
            Some(meant) => format!("`{name}` is no quirk; did you mean `{meant}`?"),
            None => format!("`{name}` is no quirk; `umbra quirks` lists them"),
        },
    }
}
