//! What a call is: call answering, voice memo, subscriber access or attendant, and for whom. The lab's own reading of Request-URI, To, From
//! and Diversion, written apart from the gateway's so that the two can disagree.

use sip::{Diversion, Message, NameAddr, Uri};

use super::{CallKind, CallPurpose, Directory};
use crate::machine::text;

/// Longest alias taken from a message.
const ALIAS_LEN_MAX: usize = 64;

/// Reads the purpose of an INVITE.
pub fn classify(invite: &Message, directory: &Directory) -> CallPurpose {
    let request = invite.uri().ok();
    let to = invite.to().ok().map(|a| a.uri);
    let caller = invite.from().ok();
    let diversion = Diversion::of(invite).ok().and_then(|all| original(&all));
    let opaque = [&request, &to].into_iter().flatten().find_map(|uri| param(uri, "opaque"));
    let context = phone_context([&request, &to], opaque.as_deref());
    let dialed = request.as_ref().or(to.as_ref()).map(user).unwrap_or_default();
    let (kind, whom) =
        purpose(invite, &dialed, caller.as_ref(), diversion.as_ref(), opaque.as_deref(), directory);
    CallPurpose {
        kind,
        for_whom: mailbox_of(&whom, directory),
        caller: caller.map(|c| text(c.uri.raw())).unwrap_or_default(),
        diversion_reason: diversion.and_then(|d| d.reason),
        phone_context: context,
    }
}

/// Whether the quoting of a Diversion is one that UM was seen to refuse calls for.
pub(super) fn is_malformed(invite: &Message) -> bool {
    let mut values = invite.headers().filter(|header| header.id == sip::HeaderId::Diversion);
    values.any(|header| matches!(Diversion::normalise_quoting(header.raw), std::borrow::Cow::Owned(_)))
}

struct Diverted {
    user: String,
    reason: Option<String>,
}

/// Several diversions: the oldest, listed last, says for whom the call was.
fn original(all: &Diversion) -> Option<Diverted> {
    let entry = all.original()?;
    Some(Diverted { user: user(&entry.address.uri), reason: entry.reason.as_deref().map(text) })
}

fn purpose(
    invite: &Message,
    dialed: &str,
    caller: Option<&NameAddr>,
    diversion: Option<&Diverted>,
    opaque: Option<&str>,
    directory: &Directory,
) -> (CallKind, String) {
    if let Some(diverted) = diversion {
        let kind = if is_memo(invite) { CallKind::VoiceMemo } else { CallKind::CallAnswering };
        return (kind, diverted.user.clone());
    }
    let opaque = opaque.unwrap_or_default().to_ascii_lowercase();
    let from = caller.map(|c| user(&c.uri)).unwrap_or_default();
    if directory.is_access_number(dialed) {
        return (CallKind::SubscriberAccess, from);
    }
    if directory.attendant(dialed).is_some() {
        return (CallKind::AutoAttendant, dialed.to_owned());
    }
    if opaque.starts_with("app:exum") {
        // A contact object that is a mailbox's is its owner's; every other one is an attendant's.
        let is_mailbox = directory.find(dialed).is_some();
        let kind = if is_mailbox { CallKind::SubscriberAccess } else { CallKind::AutoAttendant };
        return (kind, dialed.to_owned());
    }
    if opaque == "app:voicemail" && is_memo(invite) {
        return (CallKind::VoiceMemo, dialed.to_owned());
    }
    if opaque == "app:voicemail" && !from.eq_ignore_ascii_case(dialed) {
        return (CallKind::CallAnswering, dialed.to_owned());
    }
    (CallKind::SubscriberAccess, from)
}

fn is_memo(invite: &Message) -> bool {
    let uris = [invite.uri().ok(), invite.to().ok().map(|a| a.uri)];
    uris.iter()
        .flatten()
        .any(|uri| param(uri, "local-resource-path").is_some_and(|p| p.eq_ignore_ascii_case("voicememo")))
}

fn phone_context(uris: [&Option<Uri>; 2], opaque: Option<&str>) -> Option<String> {
    let stated =
        uris.into_iter().flatten().find_map(|uri| uri.user_param("phone-context").flatten().map(text));
    stated.or_else(|| {
        let opaque = opaque?;
        let (scheme, context) = opaque.split_at_checked("app:exum:".len())?;
        scheme.eq_ignore_ascii_case("app:exum:").then(|| context.to_owned())
    })
}

fn param(uri: &Uri, name: &str) -> Option<String> {
    uri.param(name).flatten().map(text)
}

/// The user part, or the number of a `tel:` URI.
fn user(uri: &Uri) -> String {
    if let Some(user) = uri.user_part() {
        return text(user);
    }
    let raw = text(uri.raw());
    match raw.split_once(':') {
        Some((scheme, number)) if scheme.eq_ignore_ascii_case("tel") => {
            number.split(';').next().unwrap_or_default().to_owned()
        }
        _ => String::new(),
    }
}

/// The alias of the mailbox a user part leads to; for unknown ones a folder name made of it.
fn mailbox_of(user: &str, directory: &Directory) -> String {
    if let Some(known) = directory.find(user) {
        return known.alias.clone();
    }
    let sound = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+') { c } else { '_' };
    let alias: String = user.chars().take(ALIAS_LEN_MAX).map(sound).collect();
    if alias.is_empty() { "unknown".to_owned() } else { alias.to_ascii_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::super::{AttendantConfig, DirectoryPlan, MailboxConfig};
    use super::*;
    use bytes::Bytes;
    use sip::Limits;

    fn of(uri: &str, to: &str, more: &str) -> CallPurpose {
        let text = format!(
            "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nFrom: \"D\"<sip:dana@contoso.test>;tag=1\r\nTo: <{to}>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n{more}Content-Length: 0\r\n\r\n"
        );
        let invite = Message::parse(Bytes::from(text), &Limits::default()).unwrap();
        let ken =
            MailboxConfig { alias: "ken".into(), extension: Some("6095".into()), ..MailboxConfig::default() };
        let help = AttendantConfig {
            name: "aa-help".into(),
            pilots: vec!["+14255550199".into()],
            ..AttendantConfig::default()
        };
        let plan = DirectoryPlan {
            mailboxes: vec![ken],
            dial_plans: Vec::new(),
            attendants: vec![help],
            access_numbers: vec!["+14255550100".into(), "ova".into()],
        };
        classify(&invite, &Directory::new(plan, |_| Vec::new()).unwrap())
    }

    #[test]
    fn numbers_and_contacts_of_attendants_and_voice_access_are_known() {
        for (uri, kind, whom) in [
            ("sip:+14255550199@contoso.test;user=phone", CallKind::AutoAttendant, "_14255550199"),
            ("sip:AA-Help@contoso.test", CallKind::AutoAttendant, "aa-help"),
            ("sip:+14255550100@contoso.test;user=phone", CallKind::SubscriberAccess, "dana"),
            ("sip:ova@contoso.test;opaque=app:exum:DP-Sip.contoso.test", CallKind::SubscriberAccess, "dana"),
        ] {
            let call = of(uri, uri.split(';').next().unwrap(), "");
            assert_eq!(
                (call.kind, call.for_whom.trim_start_matches('+')),
                (kind, whom.trim_start_matches('_'))
            );
        }
    }

    #[test]
    fn a_diversion_means_call_answering_for_the_one_who_diverted() {
        let call = of(
            "sip:ken@mbx:5066;user=phone",
            "sip:ken@contoso.test;opaque=app:voicemail",
            "Diversion: <sip:ken@contoso.test>\r\n",
        );
        assert_eq!((call.kind, call.for_whom.as_str()), (CallKind::CallAnswering, "ken"));
        let pbx = of(
            "sip:88895@gw",
            "sip:88895@gw",
            "Diversion: \"Doe, J\"<sip:1@h>;reason=user-busy, <tel:6095>;reason=no-answer\r\n",
        );
        assert_eq!((pbx.kind, pbx.for_whom.as_str()), (CallKind::CallAnswering, "ken"));
        assert_eq!(pbx.diversion_reason.as_deref(), Some("no-answer"));
    }

    #[test]
    fn losing_the_diversion_turns_a_redirected_deposit_into_subscriber_access() {
        let call = of("sip:ken@mbx:5066;user=phone", "sip:ken@contoso.test", "");
        assert_eq!(call.kind, CallKind::SubscriberAccess);
    }

    #[test]
    fn ones_own_voice_mail_is_subscriber_access() {
        let uri = "sip:dana@contoso.test;opaque=app:voicemail";
        let call = of(uri, "sip:dana@contoso.test", "");
        assert_eq!((call.kind, call.for_whom.as_str()), (CallKind::SubscriberAccess, "dana"));
    }

    #[test]
    fn contact_objects_lead_to_attendants_with_their_phone_context() {
        let call = of(
            "sip:aa-main@contoso.test;opaque=app:exum:DP-Sip.contoso.test",
            "sip:aa-main@contoso.test",
            "",
        );
        assert_eq!((call.kind, call.for_whom.as_str()), (CallKind::AutoAttendant, "aa-main"));
        assert_eq!(call.phone_context.as_deref(), Some("DP-Sip.contoso.test"));
    }

    #[test]
    fn a_voice_memo_is_told_by_its_resource_path() {
        let call = of(
            "sip:ken@contoso.test;opaque=app:voicemail;local-resource-path=voicememo",
            "sip:ken@contoso.test",
            "Diversion: <sip:ken@contoso.test>\r\n",
        );
        assert_eq!(call.kind, CallKind::VoiceMemo);
    }

    #[test]
    fn a_strange_user_part_cannot_name_a_path() {
        let call =
            of("sip:x@contoso.test", "sip:x@contoso.test", "Diversion: <sip:..%2f..%2fetc@contoso.test>\r\n");
        assert!(call.for_whom.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{}", call.for_whom);
    }
}
