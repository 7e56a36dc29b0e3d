//! UM objects that calls alone do not need: mailbox policies, mailboxes, menus of auto attendants, contact objects. Reads
//! each with the cmdlets' words, ranges and defaults.

use std::time::Duration;

use b2bua::codes;
use b2bua::policy::{
    Allowed, AutoAttendant, Contact, ContactKind, DialPlan, EumAddress, ExchangeVersion, Home, HostedPolicy,
    Interval, KEY_MAPPINGS_MAX, KeyAction, KeyMapping, Mailbox, MailboxPolicy, MailboxUm, Menu,
};

use super::objects::{reference, resolve};
use super::reader::Reader;
use super::{hosted, words};

/// Keys of a menu; `0` is the operator's.
const KEYS: [&str; KEY_MAPPINGS_MAX] = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
const DAYS: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
const MINUTES_OF_DAY: u16 = 24 * 60;

/// What the names in UM objects may refer to.
pub(super) struct Known<'a> {
    pub(super) plans: &'a [DialPlan],
    pub(super) plan_names: &'a [String],
    pub(super) mailbox_policies: &'a [MailboxPolicy],
    pub(super) hosted_policies: &'a [HostedPolicy],
}

pub(super) fn mailbox_policy(table: &Reader<'_>, plans: &[String]) -> MailboxPolicy {
    let minutes = |count: u64| Duration::from_secs(count * 60);
    let count = |key, range, default: u16| {
        table.whole(key, range).and_then(|count| u16::try_from(count).ok()).unwrap_or(default)
    };
    let switch = |key| if table.flag(key) == Some(false) { Allowed::No } else { Allowed::Yes };
    let policy = MailboxPolicy {
        name: table.need_text("name"),
        dial_plan: reference(table, "dial_plan", plans),
        min_pin_length: u8::try_from(count("min_pin_length", 4..=24, 6)).unwrap_or(6),
        max_logon_attempts: count("max_logon_attempts", 1..=999, 15),
        logon_failures_before_pin_reset: count("logon_failures_before_pin_reset", 1..=998, 5),
        max_greeting_duration: table
            .duration("max_greeting_duration", minutes(1)..=minutes(10))
            .unwrap_or(minutes(5)),
        allow_missed_call_notifications: switch("allow_missed_call_notifications"),
        allow_message_waiting_indicator: switch("allow_message_waiting_indicator"),
        allow_play_on_phone: switch("allow_play_on_phone"),
        allow_subscriber_access: switch("allow_subscriber_access"),
    };
    if policy.max_logon_attempts <= policy.logon_failures_before_pin_reset {
        let what = format!(
            "{} is not more than logon_failures_before_pin_reset, {}: the PIN would never be reset",
            policy.max_logon_attempts, policy.logon_failures_before_pin_reset
        );
        table.error(codes::CFG_RANGE, "max_logon_attempts", what);
    }
    table.finish();
    policy
}

pub(super) fn mailbox(table: &Reader<'_>, known: &Known<'_>) -> Mailbox {
    let sip = table.text("sip").map(|text| address_of(&text));
    if sip.as_deref().is_some_and(|address| !is_address(address)) {
        table.error(codes::CFG_VALUE, "sip", "must be user@domain");
    }
    let texts = table.list("eum_addresses").unwrap_or_default();
    let eum: Vec<EumAddress> = texts.iter().filter_map(|text| eum_address(table, text, known)).collect();
    let mailbox = Mailbox {
        alias: table.need_text("alias"),
        sip,
        extension: table.text("extension"),
        dial_plan: match (table.text("dial_plan"), eum.first()) {
            (None, Some(first)) => first.dial_plan,
            _ => reference(table, "dial_plan", known.plan_names),
        },
        um: mailbox_um(table, eum, known),
    };
    if mailbox.sip.is_none() && mailbox.extension.is_none() && texts.is_empty() {
        table.error(codes::CFG_MISSING_KEY, "sip", "a mailbox needs `sip`, `extension` or `eum_addresses`");
    }
    if let Some(extension) = &mailbox.extension {
        check_extension(table, extension, known.plans.get(mailbox.dial_plan));
    }
    table.finish();
    mailbox
}

fn mailbox_um(table: &Reader<'_>, eum_addresses: Vec<EumAddress>, known: &Known<'_>) -> MailboxUm {
    use ExchangeVersion::{E2007, E2010, E2013, E2016};
    // Nothing documented tells 2019 from 2016; UM itself ends with 2016.
    let versions = [("2007", E2007), ("2010", E2010), ("2013", E2013), ("2016", E2016), ("2019", E2016)];
    let policies: Vec<String> = known.mailbox_policies.iter().map(|policy| policy.name.clone()).collect();
    MailboxUm {
        eum_addresses,
        policy: table.text("policy").and_then(|name| resolve(table, "policy", &name, &policies)),
        home: match table.flag("hosted") {
            None => Home::Unsaid,
            Some(true) => Home::Hosted,
            Some(false) => Home::OnPremises,
        },
        hosted_policy: hosted::granted(table, "hosted_policy", known.hosted_policies),
        display_name: table.text("display_name"),
        exchange: table.word("exchange_version", &versions).unwrap_or_default(),
    }
}

fn check_extension(table: &Reader<'_>, extension: &str, plan: Option<&DialPlan>) {
    if extension.is_empty() || !extension.bytes().all(|byte| byte.is_ascii_digit()) {
        table.error(codes::CFG_VALUE, "extension", format!("`{extension}` is no number"));
        return;
    }
    if let Some(plan) = plan.filter(|plan| extension.len() != usize::from(plan.extension_digits)) {
        let what = format!(
            "{extension} has {} digits, extensions of dial plan {} have {}",
            extension.len(),
            plan.name,
            plan.extension_digits
        );
        table.warn(codes::CFG_EXTENSION, "extension", what);
    }
}

/// `EUM:john@contoso.com;phone-context=DP-Sip.contoso.com`, with or without its prefix.
fn eum_address(table: &Reader<'_>, text: &str, known: &Known<'_>) -> Option<EumAddress> {
    let bare = text.get(..4).filter(|head| head.eq_ignore_ascii_case("eum:")).map_or(text, |_| &text[4..]);
    let parsed = bare.split_once(';').and_then(|(address, parameter)| {
        let (name, context) = parameter.split_once('=')?;
        let is_good = name.eq_ignore_ascii_case("phone-context") && !address.is_empty();
        is_good.then_some((address, context))
    });
    let Some((address, context)) = parsed else {
        let what = format!(
            "`{text}` is no EUM address; write EUM:ken@contoso.test;phone-context=DP-Sip.contoso.test"
        );
        table.error(codes::CFG_VALUE, "eum_addresses", what);
        return None;
    };
    let is_of = |plan: &DialPlan| {
        let mut contexts = plan.equivalent_phone_contexts.iter().chain([&plan.phone_context]);
        contexts.any(|known| known.eq_ignore_ascii_case(context))
    };
    let Some(dial_plan) = known.plans.iter().position(is_of) else {
        let contexts: Vec<&str> = known.plans.iter().map(|plan| plan.phone_context.as_str()).collect();
        let what =
            format!("no dial plan has the phone-context `{context}`; there are {}", contexts.join(", "));
        table.error(codes::CFG_UNRESOLVED, "eum_addresses", what);
        return None;
    };
    Some(EumAddress { address: address_of(address), dial_plan })
}

pub(super) fn auto_attendant(table: &Reader<'_>, plans: &[String]) -> AutoAttendant {
    let attendant = AutoAttendant {
        name: table.need_text("name"),
        dial_plan: reference(table, "dial_plan", plans),
        pilot_identifiers: table.list("pilot_identifiers").unwrap_or_default(),
        menu: menu(table),
    };
    for number in attendant.pilot_identifiers.iter().filter(|number| !words::is_e164(number)) {
        table.error(codes::CFG_NOT_E164, "pilot_identifiers", format!("`{number}` is no E.164 number"));
    }
    table.flag("speech_enabled");
    table.text("info_announcement");
    table.finish();
    attendant
}

pub(super) fn menu(table: &Reader<'_>) -> Menu {
    let operator_extension = table.text("operator_extension");
    if operator_extension.as_deref().is_some_and(|text| !is_number(text)) {
        table.error(codes::CFG_VALUE, "operator_extension", "must be an extension or a number");
    }
    let interval = |text: &String| {
        let interval = interval(text);
        if interval.is_none() {
            let what = format!("`{text}` is no time of a week; write Mon.08:00-Mon.17:30");
            table.error(codes::CFG_VALUE, "business_hours", what);
        }
        interval
    };
    Menu {
        operator_extension,
        business_hours_keys: keys(&table.table("business_hours_keys")),
        after_hours_keys: keys(&table.table("after_hours_keys")),
        business_hours: table
            .list("business_hours")
            .unwrap_or_default()
            .iter()
            .filter_map(interval)
            .collect(),
    }
}

fn keys(table: &Reader<'_>) -> Vec<KeyMapping> {
    if table.text("0").is_some() {
        table.error(codes::CFG_VALUE, "0", "key 0 is the operator's; set `operator_extension`");
    }
    let mapping = |key: &'static str| {
        let text = table.text(key)?;
        let action = action(&text);
        if action.is_none() {
            let what = format!(
                "`{text}` is no action; write transfer:1001, voicemail:1002, attendant:AA-Sales or announce:hours.wav"
            );
            table.error(codes::CFG_VALUE, key, what);
        }
        Some(KeyMapping { key: key.parse().ok()?, action: action? })
    };
    let all = KEYS.into_iter().filter_map(mapping).collect();
    table.finish();
    all
}

fn action(text: &str) -> Option<KeyAction> {
    let (word, target) = text.split_once(':')?;
    let target = target.trim();
    let of = |make: fn(String) -> KeyAction| Some(make(target.to_owned()));
    match word.trim() {
        _ if target.is_empty() => None,
        "transfer" if is_number(target) => of(KeyAction::Transfer),
        "voicemail" => of(KeyAction::VoiceMail),
        "attendant" => of(KeyAction::Attendant),
        "announce" => of(KeyAction::Announce),
        _ => None,
    }
}

/// `Mon.08:00-Mon.17:30`, the form of a ScheduleInterval; days by their first letters, hours of 24 or with AM and PM.
fn interval(text: &str) -> Option<Interval> {
    let (from, until) = text.split_once('-')?;
    let (from, until) = (minute_of_week(from)?, minute_of_week(until)?);
    (from != until).then_some(Interval { from, until })
}

fn minute_of_week(text: &str) -> Option<u16> {
    let (day, time) = text.trim().split_once('.')?;
    let day = day.trim().to_ascii_lowercase();
    let day = DAYS.iter().position(|name| day.len() >= 3 && name.starts_with(&day))?;
    let time = time.trim().to_ascii_uppercase();
    let (time, half) = match (time.strip_suffix("AM"), time.strip_suffix("PM")) {
        (Some(time), _) => (time.trim(), Some(0)),
        (_, Some(time)) => (time.trim(), Some(12)),
        _ => (time.as_str(), None),
    };
    let (hour, minute) = time.split_once(':')?;
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let hour = match half {
        Some(shift) if (1..=12).contains(&hour) => hour % 12 + shift,
        Some(_) => return None,
        None => hour,
    };
    let is_time = hour < 24 && minute < 60;
    is_time.then_some(u16::try_from(day).ok()? * MINUTES_OF_DAY + hour * 60 + minute)
}

pub(super) fn contact(table: &Reader<'_>, policies: &[HostedPolicy]) -> Contact {
    let address = table.need_text("sip_address");
    let sip_address = address_of(&address);
    let has_scheme = address.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("sip:"));
    let is_good = has_scheme && is_address(&sip_address);
    if !address.is_empty() && !is_good {
        let what = format!("`{address}` must be sip:user@domain, without spaces");
        table.error(codes::CFG_VALUE, "sip_address", what);
    }
    let display_number = table.text("display_number");
    if let Some(number) = display_number.as_deref().filter(|number| !words::is_e164(number)) {
        table.error(codes::CFG_NOT_E164, "display_number", format!("`{number}` is no E.164 number"));
    }
    let contact = Contact {
        sip_address,
        display_number,
        kind: match table.flag("auto_attendant") {
            Some(true) => ContactKind::AutoAttendant,
            _ => ContactKind::SubscriberAccess,
        },
        hosted_policy: hosted::granted(table, "policy", policies),
    };
    table.finish();
    contact
}

/// `user@domain` in lower case.
pub(super) fn address_of(text: &str) -> String {
    let bare = text.get(..4).filter(|head| head.eq_ignore_ascii_case("sip:")).map_or(text, |_| &text[4..]);
    bare.to_ascii_lowercase()
}

pub(super) fn is_address(text: &str) -> bool {
    let is_part =
        |part: &str| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c.is_control());
    text.split_once('@')
        .is_some_and(|(user, domain)| is_part(user) && is_part(domain) && !domain.contains('@'))
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_read_as_exchange_writes_them() {
        let both = |from, until| Some(Interval { from, until });
        assert_eq!(interval("Mon.08:00-Mon.17:30"), both(1440 + 480, 1440 + 1050));
        assert_eq!(interval("Sun.11:30 PM-Mon.1:30 AM"), both(1410, 1440 + 90));
        assert_eq!(interval("Saturday.12:00 AM-Sunday.12:00 PM"), both(6 * 1440, 720));
        for bad in [
            "",
            "Mon.08:00",
            "Mo.08:00-Mon.09:00",
            "Mon.24:00-Tue.01:00",
            "Mon.0:00 AM-Mon.1:00",
            "Mon.8-Mon.9",
            "Mon.08:00-Mon.08:00",
        ] {
            assert_eq!(interval(bad), None, "{bad}");
        }
    }
}
