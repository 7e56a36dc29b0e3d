//! The list is complete, its names are unique, and the sets hold what they say.

use std::collections::BTreeSet;

use super::*;

#[test]
fn every_quirk_has_its_own_line_in_its_place() {
    for (at, quirk) in Quirk::ALL.into_iter().enumerate() {
        assert_eq!(quirk as usize, at);
        let entry = entry(quirk);
        assert_eq!(entry.switch, Switch::Quirk, "{}", entry.name);
        assert_eq!(entry.counter, format!("quirk_{}", entry.name.replace('-', "_")));
        assert_eq!(Quirk::from_name(&entry.name.to_uppercase()), Some(quirk));
        let peers: Vec<Profile> =
            Profile::ALL.into_iter().filter(|p| QuirkSet::of_profile(*p).has(quirk)).collect();
        assert_eq!(
            BTreeSet::from_iter(&peers),
            BTreeSet::from_iter(entry.peers),
            "{}: the list and the sets name the same peers",
            entry.name
        );
    }
    assert_eq!(all().iter().filter(|entry| entry.switch == Switch::Quirk).count(), Quirk::ALL.len());
}

#[test]
fn names_are_unique_and_every_line_says_what_why_and_where_from() {
    let names: BTreeSet<&str> = all().iter().map(|entry| entry.name).collect();
    assert_eq!(names.len(), all().len());
    for entry in all() {
        assert!(
            !entry.what.is_empty() && !entry.why.is_empty() && !entry.source.is_empty(),
            "{}",
            entry.name
        );
        assert!(!entry.peers.is_empty(), "{}", entry.name);
        if let Switch::Rule(why) = entry.switch {
            assert!(!why.is_empty(), "a rule says why it has no switch: {}", entry.name);
        }
    }
}

#[test]
fn a_set_loses_what_is_taken_from_it_and_keeps_the_rest() {
    let of_lync = QuirkSet::of_profile(Profile::Sfb2015);
    let off = QuirkSet::from_iter([Quirk::MsHeaders, Quirk::WildcardSan]);
    let rest = of_lync.minus(off);
    assert!(!rest.has(Quirk::MsHeaders) && rest.has(Quirk::MsHopByHop));
    assert_eq!(rest.with(off), of_lync);
    assert_eq!(rest.iter().count() + 2, of_lync.iter().count());
    assert!(QuirkSet::NONE.is_empty() && !QuirkSet::of_profile(Profile::IpPbx).has(Quirk::MsHeaders));
}
