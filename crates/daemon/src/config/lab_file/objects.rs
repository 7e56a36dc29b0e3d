//! Dial plans, mailbox policies, mailboxes and attendants of a lab file, in the words, ranges and defaults of the cmdlets. Durations may be
//! shorter than Exchange allows, because a lab has no time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use b2bua::codes;
use b2bua::policy::{Allowed as Permitted, Interval, KeyAction};
use lab::um::{
    Allowed, AnswerRules, AttendantConfig, BusinessHours, DialPlanConfig, KeyMapping, KeyTarget,
    MailboxConfig, MailboxPolicy, PIN_LENGTHS, Pin, PlanSecurity,
};
use time::{Time, Weekday};

use super::super::objects::resolve;
use super::super::reader::Reader;
use super::super::um;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const MINUTES_OF_DAY: u16 = 24 * 60;
/// From Sunday, as Exchange counts.
const WEEK: [Weekday; 7] = [
    Weekday::Sunday,
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
];
/// Longest alias; it is a folder's name.
const ALIAS_LEN_MAX: usize = 64;

pub(super) fn dial_plans(root: &Reader<'_>, sip_domain: &str) -> Vec<DialPlanConfig> {
    root.tables("dial_plan").iter().map(|table| dial_plan(table, sip_domain)).collect()
}

fn dial_plan(table: &Reader<'_>, sip_domain: &str) -> DialPlanConfig {
    let securities = [
        ("Unsecured", PlanSecurity::Unsecured),
        ("SIPSecured", PlanSecurity::SipSecured),
        ("Secured", PlanSecurity::Secured),
    ];
    let rules = AnswerRules::default();
    let duration = |key, range, default| table.duration(key, range).unwrap_or(default);
    let count = |key, range, default: u32| {
        table.whole(key, range).and_then(|count| u32::try_from(count).ok()).unwrap_or(default)
    };
    let name = table.need_text("name");
    let plan = DialPlanConfig {
        phone_context: table.text("phone_context").unwrap_or_else(|| format!("{name}.{sip_domain}")),
        name,
        security: table.need_word("voip_security", &securities).unwrap_or(PlanSecurity::Secured),
        access_numbers: table.list("access_telephone_numbers").unwrap_or_default(),
        answer: AnswerRules {
            max_call_duration: duration("max_call_duration", SECOND..=120 * MINUTE, rules.max_call_duration),
            max_recording_duration: duration(
                "max_recording_duration",
                SECOND..=100 * MINUTE,
                rules.max_recording_duration,
            ),
            recording_idle_timeout: duration(
                "recording_idle_timeout",
                SECOND / 2..=10 * SECOND,
                rules.recording_idle_timeout,
            ),
            logon_failures_before_disconnect: count(
                "logon_failures_before_disconnect",
                1..=20,
                rules.logon_failures_before_disconnect,
            ),
            input_failures_before_disconnect: count(
                "input_failures_before_disconnect",
                1..=20,
                rules.input_failures_before_disconnect,
            ),
            extension_digits: table
                .whole("extension_digits", 1..=20)
                .and_then(|digits| usize::try_from(digits).ok())
                .unwrap_or(rules.extension_digits),
            operator: table.text("operator_extension"),
            ..rules
        },
    };
    table.finish();
    plan
}

/// Mailbox policies with their names.
pub(super) type Policies = Vec<(String, MailboxPolicy)>;

pub(super) fn policies(root: &Reader<'_>, plans: &[DialPlanConfig]) -> Policies {
    let names = names(plans);
    let permitted = |allowed| if allowed == Permitted::Yes { Allowed::Yes } else { Allowed::No };
    let policy = |table: &Reader<'_>| {
        let read = um::mailbox_policy(table, &names);
        let policy = MailboxPolicy {
            min_pin_length: read.min_pin_length.into(),
            max_logon_attempts: read.max_logon_attempts.into(),
            logon_failures_before_pin_reset: read.logon_failures_before_pin_reset.into(),
            max_greeting_duration: read.max_greeting_duration,
            missed_call_notifications: permitted(read.allow_missed_call_notifications),
            message_waiting_indicator: permitted(read.allow_message_waiting_indicator),
            play_on_phone: permitted(read.allow_play_on_phone),
            subscriber_access: permitted(read.allow_subscriber_access),
        };
        (read.name, policy)
    };
    root.tables("mailbox_policy").iter().map(policy).collect()
}

fn names(plans: &[DialPlanConfig]) -> Vec<String> {
    plans.iter().map(|plan| plan.name.clone()).collect()
}

/// The configured name of the dial plan that an object names; `None` after a finding.
fn plan(table: &Reader<'_>, plans: &[DialPlanConfig]) -> Option<String> {
    let wanted = table.need_text("dial_plan");
    let index = resolve(table, "dial_plan", &wanted, &names(plans))?;
    plans.get(index).map(|plan| plan.name.clone())
}

pub(super) fn mailboxes(
    root: &Reader<'_>,
    sip_domain: &str,
    plans: &[DialPlanConfig],
    policies: &Policies,
    base: &Path,
) -> Vec<MailboxConfig> {
    let known: Vec<String> = policies.iter().map(|(name, _)| name.clone()).collect();
    let mailbox = |table: &Reader<'_>| {
        let policy = table.text("policy").and_then(|name| resolve(table, "policy", &name, &known));
        let policy = policy.and_then(|index| policies.get(index)).map(|(_, policy)| policy.clone());
        let policy = policy.unwrap_or_default();
        let alias = alias(table);
        let mailbox = MailboxConfig {
            sip: Some(sip(table).unwrap_or_else(|| format!("sip:{alias}@{sip_domain}"))),
            alias,
            extension: extension(table),
            dial_plan: plan(table, plans),
            security: None,
            pin: pin(table, policy.min_pin_length),
            greeting: sound(table, "greeting", base),
            policy,
        };
        table.finish();
        mailbox
    };
    root.tables("mailbox").iter().map(mailbox).collect()
}

fn alias(table: &Reader<'_>) -> String {
    let alias = table.need_text("alias");
    let is_sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '.');
    if !alias.chars().all(is_sound) || alias.starts_with('.') || alias.len() > ALIAS_LEN_MAX {
        let what = "must be letters, digits and - _ + . only, 64 at most, for it is the name of a folder";
        table.error(codes::CFG_VALUE, "alias", what);
    }
    alias
}

fn sip(table: &Reader<'_>) -> Option<String> {
    let address = um::address_of(&table.text("sip")?);
    if !um::is_address(&address) {
        table.error(codes::CFG_VALUE, "sip", "must be user@domain");
    }
    Some(format!("sip:{address}"))
}

fn extension(table: &Reader<'_>) -> Option<String> {
    let extension = table.text("extension")?;
    if extension.is_empty() || !extension.bytes().all(|byte| byte.is_ascii_digit()) {
        table.error(codes::CFG_VALUE, "extension", format!("`{extension}` is no number"));
    }
    Some(extension)
}

/// Nothing of it is repeated.
fn pin(table: &Reader<'_>, shortest: usize) -> Option<Pin> {
    let text = table.text("pin")?;
    let pin = Pin::new(&text);
    match &pin {
        None => {
            let what = format!("must be {} to {} digits", PIN_LENGTHS.start(), PIN_LENGTHS.end());
            table.error(codes::CFG_VALUE, "pin", what);
        }
        Some(pin) if pin.length() < shortest => {
            let what = format!("is shorter than `min_pin_length` of its policy, {shortest}");
            table.error(codes::CFG_RANGE, "pin", what);
        }
        Some(_) => {}
    }
    pin
}

/// A recording that can be played.
fn sound(table: &Reader<'_>, key: &'static str, base: &Path) -> Option<PathBuf> {
    let path = table.file(key, base)?;
    if let Err(why) = lab::audio::read_wav(&path) {
        table.error(codes::CFG_FILE, key, why.to_string());
    }
    Some(path)
}

pub(super) fn attendants(
    root: &Reader<'_>,
    plans: &[DialPlanConfig],
    mailboxes: &[MailboxConfig],
    base: &Path,
) -> Vec<AttendantConfig> {
    let attendant = |table: &Reader<'_>| {
        let menu = um::menu(table);
        let keys = |section: &'static str, keys: Vec<b2bua::policy::KeyMapping>| {
            keys.into_iter().filter_map(|key| mapping(table, section, key, mailboxes)).collect()
        };
        let attendant = AttendantConfig {
            name: table.need_text("name"),
            dial_plan: plan(table, plans),
            pilots: table.list("pilot_identifiers").unwrap_or_default(),
            business_keys: keys("business_hours_keys", menu.business_hours_keys),
            after_hours_keys: keys("after_hours_keys", menu.after_hours_keys),
            hours: menu.business_hours.into_iter().flat_map(stretches).collect(),
            announcement: sound(table, "info_announcement", base),
            operator: menu.operator_extension,
        };
        table.finish();
        attendant
    };
    root.tables("auto_attendant").iter().map(attendant).collect()
}

fn mapping(
    table: &Reader<'_>,
    section: &'static str,
    mapping: b2bua::policy::KeyMapping,
    mailboxes: &[MailboxConfig],
) -> Option<KeyMapping> {
    let setting = format!("{section}.{}", mapping.key);
    let to = match mapping.action {
        KeyAction::Transfer(number) => KeyTarget::Transfer(number),
        KeyAction::VoiceMail(whom) => {
            let is_it = |mailbox: &&MailboxConfig| {
                mailbox.alias.eq_ignore_ascii_case(&whom) || mailbox.extension.as_deref() == Some(&whom)
            };
            let Some(mailbox) = mailboxes.iter().find(is_it) else {
                table.error(codes::CFG_UNRESOLVED, &setting, format!("no mailbox is `{whom}`"));
                return None;
            };
            KeyTarget::Voicemail(mailbox.alias.clone())
        }
        KeyAction::Attendant(_) | KeyAction::Announce(_) => {
            let what = "the lab's attendants know transfer:NUMBER and voicemail:EXTENSION only";
            table.error(codes::CFG_VALUE, &setting, what);
            return None;
        }
    };
    Some(KeyMapping { key: char::from_digit(mapping.key.into(), 10)?, to })
}

/// A stretch of the week as stretches of its days.
fn stretches(interval: Interval) -> Vec<BusinessHours> {
    let mut all = Vec::new();
    let mut from = interval.from;
    // A week has seven midnights to cut at.
    for _ in 0..=WEEK.len() {
        let day = from / MINUTES_OF_DAY;
        let midnight = (day + 1) * MINUTES_OF_DAY;
        let is_last = (from..=midnight).contains(&interval.until) && interval.until > from;
        let until = if is_last { interval.until } else { midnight };
        all.push(BusinessHours {
            days: vec![WEEK[usize::from(day) % WEEK.len()]],
            from: time_of(from % MINUTES_OF_DAY),
            to: time_of(until - day * MINUTES_OF_DAY),
        });
        from = midnight % (7 * MINUTES_OF_DAY);
        if is_last || from == interval.until {
            break;
        }
    }
    all
}

/// A minute of a day; its end is the last moment that there is.
fn time_of(minute: u16) -> Time {
    let hms = |number: u16| u8::try_from(number).unwrap_or(u8::MAX);
    Time::from_hms(hms(minute / 60), hms(minute % 60), 0).unwrap_or(Time::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_of_the_week_is_cut_at_midnight() {
        let day = |text: &str| {
            let (from, until) = text.split_once('-').unwrap();
            (from.parse().unwrap(), until.parse().unwrap())
        };
        let show = |(from, until)| {
            let shown = |b: &BusinessHours| format!("{} {}-{}", b.days[0], b.from, b.to);
            stretches(Interval { from, until }).iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(show(day("1920-2490")), ["Monday 8:00:00.0-17:30:00.0"]);
        let night = show(day("10050-60"));
        assert_eq!(night, ["Saturday 23:30:00.0-23:59:59.999999999", "Sunday 0:00:00.0-1:00:00.0"]);
        assert_eq!(show(day("0-1440")), ["Sunday 0:00:00.0-23:59:59.999999999"]);
        assert_eq!(show(day("600-0")).len(), 7, "up to the end of Saturday");
        assert_eq!(show(day("600-540")).len(), 8, "the whole week but an hour");
    }
}
