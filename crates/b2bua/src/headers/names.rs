//! Names for callers that bring none, in From and P-Asserted-Identity. Owns how a name is put into an address; whose name
//! it is, is found by `route`.

use bytes::Bytes;
use sip::{HeaderId, NameAddr};

use super::address::harmless;
use super::block::is_clean;
use super::rules::CallerNames;

/// An address (the value of a From, or one identity) with the name of its owner, as the rule allows; `None`: as it was.
pub(crate) fn named(
    entry: &NameAddr,
    rule: CallerNames,
    name_of: impl Fn(&NameAddr) -> Option<String>,
) -> Option<Bytes> {
    let has_name = entry.display_text().is_some_and(|text| !text.trim_ascii().is_empty());
    if rule == CallerNames::Off || (rule == CallerNames::Missing && has_name) {
        return None;
    }
    let name = name_of(entry).filter(|name| !name.is_empty() && is_clean(name.as_bytes()))?;
    let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
    let mut out = format!("\"{quoted}\" <").into_bytes();
    out.extend_from_slice(entry.uri.raw());
    out.push(b'>');
    for (name, value) in entry.params() {
        out.push(b';');
        out.extend_from_slice(name);
        if let Some(value) = value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
    Some(harmless(out.into()))
}

/// Header lines whose asserted identities have the names of their owners, as the rule allows.
pub(crate) fn with_named_identities(
    lines: &Bytes,
    rule: CallerNames,
    name_of: impl Fn(&NameAddr) -> Option<String> + Copy,
) -> Bytes {
    let line = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (header, value) = line.split_at(colon);
        if HeaderId::from_name(header.trim_ascii()) != HeaderId::PAssertedIdentity {
            return None;
        }
        let value = Bytes::copy_from_slice(value.get(1..)?.trim_ascii());
        let entries = NameAddr::parse_list(value).ok()?;
        let told = entries.iter().map(|entry| named(entry, rule, name_of));
        let told: Vec<Option<Bytes>> = told.collect();
        told.iter().any(Option::is_some).then(|| {
            let both = told.into_iter().zip(&entries);
            let all: Vec<Bytes> = both.map(|(told, entry)| told.unwrap_or(entry.raw.clone())).collect();
            [header, b": ", &all.join(&b", "[..]), b"\r\n"].concat()
        })
    };
    let all = lines.split_inclusive(|byte| *byte == b'\n').map(|own| line(own).unwrap_or(own.to_vec()));
    all.collect::<Vec<_>>().concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ken(entry: &NameAddr) -> Option<String> {
        (entry.uri.user_part() == Some(b"ken")).then(|| "Ken \"K\" Myer".to_owned())
    }

    fn one(rule: CallerNames, text: &'static str) -> Option<String> {
        let entry = NameAddr::parse_one(Bytes::from_static(text.as_bytes())).unwrap();
        named(&entry, rule, ken).map(|out| String::from_utf8(out.to_vec()).unwrap())
    }

    #[test]
    fn a_name_is_added_where_there_is_none_and_replaces_one_only_by_rule() {
        use CallerNames::{Always, Missing, Off};
        let wanted = "\"Ken \\\"K\\\" Myer\" <sip:ken@contoso.com;x=1>;epid=1";
        assert_eq!(one(Missing, "<sip:ken@contoso.com;x=1>;epid=1").as_deref(), Some(wanted));
        assert_eq!(one(Missing, "\"\" <sip:ken@contoso.com;x=1>;epid=1").as_deref(), Some(wanted));
        assert_eq!(one(Missing, "\"Boss\" <sip:ken@contoso.com>"), None);
        assert_eq!(one(Always, "\"Boss\" <sip:ken@contoso.com;x=1>;epid=1").as_deref(), Some(wanted));
        assert_eq!(one(Off, "<sip:ken@contoso.com>"), None);
        assert_eq!(one(Always, "<sip:dana@contoso.com>"), None);
    }

    #[test]
    fn only_identities_without_a_name_change_and_every_other_line_stays() {
        let lines = Bytes::from_static(
            b"Subject: <sip:ken@contoso.com>\r\nP-Asserted-Identity: <sip:ken@contoso.com>, <tel:+1425>\r\nPriority: normal\r\n",
        );
        let out = with_named_identities(&lines, CallerNames::Missing, ken);
        let wanted = "Subject: <sip:ken@contoso.com>\r\n\
                      P-Asserted-Identity: \"Ken \\\"K\\\" Myer\" <sip:ken@contoso.com>, <tel:+1425>\r\nPriority: normal\r\n";
        assert_eq!(String::from_utf8_lossy(&out), wanted);
        assert_eq!(with_named_identities(&lines, CallerNames::Off, ken), lines);
    }
}
