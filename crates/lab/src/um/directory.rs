//! Who is UM-enabled and what lies in the mailboxes: what Exchange keeps in its directory and databases, and so the same for all workers of
//! a site. Owns PINs and their failures, greetings, messages; refuses to know calls, files and time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use time::OffsetDateTime;

use super::config::{
    Allowed, AttendantConfig, DialPlanConfig, KEY_MAPPINGS_MAX, MailboxConfig, PIN_LENGTHS, Pin, PlanSecurity,
};
use super::fact::{CallKind, CallPurpose, Waiting};
use crate::audio::Law;

/// Messages kept for listening in one mailbox; the oldest goes first. Files stay where they are.
pub const MESSAGES_MAX: usize = 200;
/// Octets of sound kept for listening in one mailbox: a quarter of an hour.
pub const SOUND_BYTES_MAX: usize = 8_000 * 60 * 15;

/// What a directory cannot hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DirectoryError {
    /// `MinPINLength` outside 4 to 24.
    #[error("mailbox {0}: a shortest PIN of {1} digits is not between 4 and 24")]
    PinLength(String, usize),
    /// A PIN below `MinPINLength`.
    #[error("mailbox {0}: its PIN is shorter than {1} digits")]
    PinShort(String, usize),
    /// The dial plan of a mailbox or attendant is not there.
    #[error("{0}: there is no dial plan {1}")]
    Plan(String, String),
    /// More keys than an attendant has.
    #[error(
        "attendant {0}: more than {KEY_MAPPINGS_MAX} key mappings, a key twice, or one that is not 1 to 9"
    )]
    Keys(String),
}

/// An attendant and the sound of its announcement.
#[derive(Clone, Debug, Default)]
pub(super) struct Attendant {
    pub(super) config: AttendantConfig,
    pub(super) announcement: Vec<i16>,
}

/// A message in a mailbox.
#[derive(Clone, Debug)]
pub struct HeldMessage {
    /// Who called: a SIP address or number.
    pub caller: String,
    /// Call-ID of the call that left it.
    pub call_id: String,
    /// When it was recorded.
    pub received: OffsetDateTime,
    /// Mu-law.
    sound: Arc<[u8]>,
    is_new: bool,
}

impl HeldMessage {
    /// Nobody has heard it yet.
    pub fn new(caller: String, call_id: String, received: OffsetDateTime, samples: &[i16]) -> Self {
        let mut sound = Vec::with_capacity(samples.len());
        Law::Mu.encode_into(samples, &mut sound);
        HeldMessage { caller, call_id, received, sound: sound.into(), is_new: true }
    }

    /// The same, heard already.
    pub fn heard(self) -> Self {
        HeldMessage { is_new: false, ..self }
    }

    /// Its sound.
    pub fn samples(&self) -> Vec<i16> {
        let mut samples = Vec::with_capacity(self.sound.len());
        Law::Mu.decode_into(&self.sound, &mut samples);
        samples
    }
}

/// What came of a PIN.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Logon {
    Welcome,
    Wrong {
        failures: u32,
    },
    /// Wrong once too often: this is the PIN from now on.
    Reset {
        failures: u32,
        pin: Pin,
    },
    Locked,
}

/// The mailboxes and attendants of a site. Cheap to clone; all clones are the same directory.
#[derive(Clone, Debug, Default)]
pub struct Directory(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    mailboxes: Vec<MailboxConfig>,
    attendants: Vec<Attendant>,
    dial_plans: Vec<DialPlanConfig>,
    access_numbers: Vec<String>,
    contents: Mutex<BTreeMap<String, Contents>>,
}

#[derive(Debug, Default)]
struct Contents {
    pin: Option<Pin>,
    failures: u32,
    greeting: Option<Arc<[i16]>>,
    messages: VecDeque<HeldMessage>,
}

/// What a directory is made of.
#[derive(Clone, Debug, Default)]
pub struct DirectoryPlan {
    /// Mailboxes.
    pub mailboxes: Vec<MailboxConfig>,
    /// Attendants.
    pub attendants: Vec<AttendantConfig>,
    /// Dial plans.
    pub dial_plans: Vec<DialPlanConfig>,
    /// Numbers and contact names of Outlook Voice Access.
    pub access_numbers: Vec<String>,
}

impl Directory {
    /// A directory with mailboxes only.
    pub fn of(mailboxes: Vec<MailboxConfig>) -> Result<Self, DirectoryError> {
        Directory::new(DirectoryPlan { mailboxes, ..DirectoryPlan::default() }, |_| Vec::new())
    }

    /// A directory; `sound` reads the greetings and announcements that are named.
    pub fn new(
        mut plan: DirectoryPlan,
        mut sound: impl FnMut(&std::path::Path) -> Vec<i16>,
    ) -> Result<Self, DirectoryError> {
        let mut contents = BTreeMap::new();
        for mailbox in &plan.mailboxes {
            check_pin(mailbox)?;
            check_plan(&plan.dial_plans, &mailbox.alias, mailbox.dial_plan.as_deref())?;
            let greeting = mailbox.greeting.as_deref().map(|path| sound(path).into());
            let held = Contents { pin: mailbox.pin.clone(), greeting, ..Contents::default() };
            contents.insert(mailbox.alias.clone(), held);
        }
        let mut attendants = Vec::with_capacity(plan.attendants.len());
        for config in std::mem::take(&mut plan.attendants) {
            check_keys(&config)?;
            check_plan(&plan.dial_plans, &config.name, config.dial_plan.as_deref())?;
            let announcement = config.announcement.as_deref().map(&mut sound).unwrap_or_default();
            attendants.push(Attendant { config, announcement });
        }
        let DirectoryPlan { mailboxes, dial_plans, access_numbers, .. } = plan;
        let contents = Mutex::new(contents);
        Ok(Directory(Arc::new(Inner { mailboxes, attendants, dial_plans, access_numbers, contents })))
    }

    /// The mailbox that a user part or number leads to.
    pub fn find(&self, user: &str) -> Option<&MailboxConfig> {
        self.0.mailboxes.iter().find(|mailbox| leads_to(mailbox, user))
    }

    /// The mailbox with this alias.
    pub fn mailbox(&self, alias: &str) -> Option<&MailboxConfig> {
        self.0.mailboxes.iter().find(|mailbox| mailbox.alias == alias)
    }

    /// The attendant that a user part or number leads to.
    pub(super) fn attendant(&self, user: &str) -> Option<&Attendant> {
        let is_it = |name: &String| name.eq_ignore_ascii_case(user);
        self.0.attendants.iter().find(|a| is_it(&a.config.name) || a.config.pilots.iter().any(is_it))
    }

    /// Whether a user part or number is that of Outlook Voice Access.
    pub(super) fn is_access_number(&self, user: &str) -> bool {
        let is_it = |number: &String| number.eq_ignore_ascii_case(user);
        self.0.access_numbers.iter().any(is_it)
            || self.0.dial_plans.iter().any(|plan| plan.access_numbers.iter().any(is_it))
    }

    /// Security of calls for a mailbox, where it or its dial plan says.
    pub fn security_of(&self, alias: &str) -> Option<PlanSecurity> {
        let mailbox = self.mailbox(alias)?;
        let plan = self.plan_named(mailbox.dial_plan.as_deref());
        mailbox.security.or(plan.map(|plan| plan.security))
    }

    fn plan_named(&self, name: Option<&str>) -> Option<&DialPlanConfig> {
        self.0.dial_plans.iter().find(|plan| name.is_some_and(|name| plan.name.eq_ignore_ascii_case(name)))
    }

    /// The dial plan of a call: whose phone-context it names, whose access number was dialled, or that of the mailbox or attendant it is for.
    pub(super) fn plan_of(&self, purpose: &CallPurpose, dialled: &str) -> Option<&DialPlanConfig> {
        let plans = &self.0.dial_plans;
        let context = purpose.phone_context.as_deref();
        let is_accessed = |plan: &&DialPlanConfig| {
            let is_it = |number: &String| number.eq_ignore_ascii_case(dialled);
            purpose.kind == CallKind::SubscriberAccess && plan.access_numbers.iter().any(is_it)
        };
        let owner = match purpose.kind {
            CallKind::AutoAttendant => self.attendant(&purpose.for_whom).map(|a| &a.config.dial_plan),
            _ => self.mailbox(&purpose.for_whom).map(|mailbox| &mailbox.dial_plan),
        };
        let owner = owner.and_then(|name| name.as_deref());
        let named =
            plans.iter().find(|plan| context.is_some_and(|c| plan.phone_context.eq_ignore_ascii_case(c)));
        named.or_else(|| plans.iter().find(is_accessed)).or_else(|| self.plan_named(owner))
    }

    /// Where whoever is dialled is: a SIP address as it stands, a mailbox's own, else the number at `domain`.
    pub fn address_of(&self, dialled: &str, domain: &str) -> String {
        if dialled.starts_with("sip:") || dialled.starts_with("tel:") {
            return dialled.to_owned();
        }
        match self.find(dialled) {
            Some(mailbox) => sip_address(mailbox, domain),
            None if is_number(dialled) => format!("sip:{dialled}@{domain};user=phone"),
            None => format!("sip:{dialled}@{domain}"),
        }
    }

    /// Tries a PIN; `fresh` makes another one of so many digits.
    pub(super) fn log_on(&self, alias: &str, typed: &str, fresh: impl FnOnce(usize) -> Pin) -> Logon {
        let policy = self.mailbox(alias).map(|mailbox| mailbox.policy.clone()).unwrap_or_default();
        let mut all = self.contents();
        let Some(held) = all.get_mut(alias) else { return Logon::Wrong { failures: 1 } };
        if held.failures >= policy.max_logon_attempts {
            return Logon::Locked;
        }
        if policy.subscriber_access == Allowed::Yes && held.pin.as_ref().is_some_and(|pin| pin.is(typed)) {
            held.failures = 0;
            return Logon::Welcome;
        }
        held.failures += 1;
        let failures = held.failures;
        if failures >= policy.max_logon_attempts {
            return Logon::Locked;
        }
        if failures == policy.logon_failures_before_pin_reset && held.pin.is_some() {
            let pin = fresh(policy.min_pin_length);
            held.pin = Some(pin.clone());
            return Logon::Reset { failures, pin };
        }
        Logon::Wrong { failures }
    }

    /// Its own greeting.
    pub(super) fn greeting(&self, alias: &str) -> Option<Arc<[i16]>> {
        self.contents().get(alias)?.greeting.clone()
    }

    /// Keeps a recorded greeting; one without sound takes it away.
    pub(super) fn set_greeting(&self, alias: &str, samples: Vec<i16>) {
        if let Some(held) = self.contents().get_mut(alias) {
            held.greeting = (!samples.is_empty()).then(|| samples.into());
        }
    }

    /// Puts a message into a mailbox; what waits there then, `None` when there is no such mailbox.
    pub fn deposit(&self, alias: &str, message: HeldMessage) -> Option<Waiting> {
        {
            let mut all = self.contents();
            let held = all.get_mut(alias)?;
            held.messages.push_back(message);
            while held.messages.len() > MESSAGES_MAX
                || (held.messages.len() > 1 && held.bytes() > SOUND_BYTES_MAX)
            {
                held.messages.pop_front();
            }
        }
        self.waiting(alias)
    }

    /// Call-IDs of the messages: new ones first, each sort oldest first.
    pub(super) fn listing(&self, alias: &str) -> Vec<String> {
        let all = self.contents();
        let Some(held) = all.get(alias) else { return Vec::new() };
        let of = |is_new| held.messages.iter().filter(move |m| m.is_new == is_new).map(|m| m.call_id.clone());
        of(true).chain(of(false)).collect()
    }

    /// A message.
    pub fn message(&self, alias: &str, call_id: &str) -> Option<HeldMessage> {
        self.contents().get(alias)?.messages.iter().find(|m| m.call_id == call_id).cloned()
    }

    /// It was heard; what waits then, if that changed something.
    pub fn heard(&self, alias: &str, call_id: &str) -> Option<Waiting> {
        {
            let mut all = self.contents();
            let message = all.get_mut(alias)?.messages.iter_mut().find(|m| m.call_id == call_id)?;
            if !std::mem::replace(&mut message.is_new, false) {
                return None;
            }
        }
        self.waiting(alias)
    }

    /// Takes a message out.
    pub(super) fn delete(&self, alias: &str, call_id: &str) {
        if let Some(held) = self.contents().get_mut(alias) {
            held.messages.retain(|message| message.call_id != call_id);
        }
    }

    /// Whether the owner of a mailbox is told of calls that left nothing; whoever has none is.
    pub(super) fn tells_missed_calls(&self, alias: &str) -> bool {
        self.mailbox(alias).is_none_or(|mailbox| mailbox.policy.missed_call_notifications == Allowed::Yes)
    }

    /// What waits in a mailbox.
    pub fn waiting(&self, alias: &str) -> Option<Waiting> {
        let mailbox = self.mailbox(alias)?;
        let all = self.contents();
        let held = all.get(alias)?;
        let new = held.messages.iter().filter(|message| message.is_new).count();
        let is_told = mailbox.policy.message_waiting_indicator == Allowed::Yes;
        let sip = mailbox.sip.clone().filter(|_| is_told);
        Some(Waiting { mailbox: alias.to_owned(), sip, new, old: held.messages.len() - new })
    }

    /// Nothing in it can be broken by a panic: every change is one step.
    fn contents(&self) -> MutexGuard<'_, BTreeMap<String, Contents>> {
        self.0.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn bytes(&self) -> usize {
        self.messages.iter().map(|message| message.sound.len()).sum()
    }
}

fn leads_to(mailbox: &MailboxConfig, user: &str) -> bool {
    mailbox.alias.eq_ignore_ascii_case(user) || mailbox.extension.as_deref() == Some(user)
}

fn sip_address(mailbox: &MailboxConfig, domain: &str) -> String {
    mailbox.sip.clone().unwrap_or_else(|| format!("sip:{}@{domain}", mailbox.alias))
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

fn check_pin(mailbox: &MailboxConfig) -> Result<(), DirectoryError> {
    let shortest = mailbox.policy.min_pin_length;
    if !PIN_LENGTHS.contains(&shortest) {
        return Err(DirectoryError::PinLength(mailbox.alias.clone(), shortest));
    }
    match &mailbox.pin {
        Some(pin) if pin.length() < shortest => {
            Err(DirectoryError::PinShort(mailbox.alias.clone(), shortest))
        }
        _ => Ok(()),
    }
}

fn check_plan(plans: &[DialPlanConfig], who: &str, named: Option<&str>) -> Result<(), DirectoryError> {
    match named {
        Some(name) if !plans.iter().any(|plan| plan.name.eq_ignore_ascii_case(name)) => {
            Err(DirectoryError::Plan(who.to_owned(), name.to_owned()))
        }
        _ => Ok(()),
    }
}

fn check_keys(attendant: &AttendantConfig) -> Result<(), DirectoryError> {
    for keys in [&attendant.business_keys, &attendant.after_hours_keys] {
        let is_wrong = |n: usize, key: char| {
            !('1'..='9').contains(&key) || keys[..n].iter().any(|other| other.key == key)
        };
        if keys.len() > KEY_MAPPINGS_MAX
            || keys.iter().enumerate().any(|(n, mapping)| is_wrong(n, mapping.key))
        {
            return Err(DirectoryError::Keys(attendant.name.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::config::{KeyMapping, KeyTarget, MailboxPolicy};
    use super::*;
    use time::macros::datetime;

    fn ken() -> MailboxConfig {
        let pin = Pin::new("135790");
        MailboxConfig {
            alias: "ken".to_owned(),
            extension: Some("1001".to_owned()),
            pin,
            ..Default::default()
        }
    }

    fn message(call_id: &str, samples: usize) -> HeldMessage {
        let at = datetime!(2026-11-22 10:00 UTC);
        HeldMessage::new("sip:dana@contoso.test".to_owned(), call_id.to_owned(), at, &vec![900; samples])
    }

    fn fresh(digits: usize) -> Pin {
        Pin::new(&"8".repeat(digits)).unwrap()
    }

    #[test]
    fn wrong_pins_reset_it_at_the_fifth_and_lock_at_the_fifteenth_and_a_right_one_begins_anew() {
        let directory = Directory::of(vec![ken()]).unwrap();
        for n in 1..5 {
            assert_eq!(directory.log_on("ken", "000000", fresh), Logon::Wrong { failures: n });
        }
        assert_eq!(directory.log_on("ken", "135790", fresh), Logon::Welcome);
        for n in 1..5 {
            assert_eq!(directory.log_on("ken", "000000", fresh), Logon::Wrong { failures: n });
        }
        assert_eq!(directory.log_on("ken", "0", fresh), Logon::Reset { failures: 5, pin: fresh(6) });
        for n in 6..15 {
            assert_eq!(directory.log_on("ken", "135790", fresh), Logon::Wrong { failures: n }, "the old PIN");
        }
        assert_eq!(directory.log_on("ken", "135790", fresh), Logon::Locked);
        assert_eq!(directory.log_on("ken", "888888", fresh), Logon::Locked, "the new PIN comes too late");
        assert_eq!(directory.log_on("lee", "135790", fresh), Logon::Wrong { failures: 1 });
    }

    #[test]
    fn who_may_not_or_has_no_pin_does_not_get_in() {
        let barred = MailboxPolicy { subscriber_access: Allowed::No, ..MailboxPolicy::default() };
        let lee = MailboxConfig { alias: "lee".to_owned(), ..MailboxConfig::default() };
        let directory = Directory::of(vec![MailboxConfig { policy: barred, ..ken() }, lee]).unwrap();
        assert_eq!(directory.log_on("ken", "135790", fresh), Logon::Wrong { failures: 1 });
        for n in 1..8 {
            assert_eq!(directory.log_on("lee", "", fresh), Logon::Wrong { failures: n });
        }
    }

    #[test]
    fn messages_wait_until_heard_and_the_oldest_makes_room() {
        let directory = Directory::of(vec![ken()]).unwrap();
        assert_eq!(directory.deposit("nobody", message("x", 10)), None);
        for n in 0..MESSAGES_MAX + 3 {
            directory.deposit("ken", message(&n.to_string(), 10)).unwrap();
        }
        let listing = directory.listing("ken");
        assert_eq!((listing.len(), listing[0].as_str()), (MESSAGES_MAX, "3"));
        let waiting = directory.heard("ken", "3").unwrap();
        assert_eq!((waiting.new, waiting.old), (MESSAGES_MAX - 1, 1));
        assert_eq!(directory.heard("ken", "3"), None, "that is no news");
        assert_eq!(directory.listing("ken").last().unwrap(), "3", "what was heard comes last");
        directory.delete("ken", "3");
        assert!(directory.message("ken", "3").is_none());
        let waiting = directory.deposit("ken", message("long", SOUND_BYTES_MAX)).unwrap();
        assert_eq!((waiting.new, waiting.old), (1, 0), "one long message is the whole mailbox");
        assert_eq!(directory.message("ken", "long").unwrap().samples().len(), SOUND_BYTES_MAX);
    }

    #[test]
    fn policies_say_who_is_told_of_what() {
        let silent = MailboxPolicy {
            message_waiting_indicator: Allowed::No,
            missed_call_notifications: Allowed::No,
            ..MailboxPolicy::default()
        };
        let sip = Some("sip:ken@contoso.test".to_owned());
        for (policy, is_told) in [(MailboxPolicy::default(), true), (silent, false)] {
            let directory = Directory::of(vec![MailboxConfig { policy, sip: sip.clone(), ..ken() }]).unwrap();
            let waiting = directory.deposit("ken", message("one", 10)).unwrap();
            assert_eq!((waiting.sip, waiting.new), (sip.clone().filter(|_| is_told), 1));
            assert_eq!(directory.tells_missed_calls("ken"), is_told);
            assert!(directory.tells_missed_calls("stranger"));
        }
    }

    #[test]
    fn what_is_dialled_becomes_an_address() {
        let sue = MailboxConfig {
            alias: "sue".to_owned(),
            sip: Some("sip:sue@fabrikam.test".to_owned()),
            extension: Some("1002".to_owned()),
            ..MailboxConfig::default()
        };
        let directory = Directory::of(vec![ken(), sue]).unwrap();
        for (dialled, address) in [
            ("1001", "sip:ken@h"),
            ("1002", "sip:sue@fabrikam.test"),
            ("+14255550199", "sip:+14255550199@h;user=phone"),
            ("sip:x@y", "sip:x@y"),
            ("max", "sip:max@h"),
        ] {
            assert_eq!(directory.address_of(dialled, "h"), address);
        }
    }

    #[test]
    fn short_pins_and_too_many_keys_are_refused() {
        let short = MailboxConfig { pin: Pin::new("1357"), ..ken() };
        assert!(matches!(Directory::of(vec![short]), Err(DirectoryError::PinShort(_, 6))));
        for length in [3, 25] {
            let policy = MailboxPolicy { min_pin_length: length, ..MailboxPolicy::default() };
            let odd = MailboxConfig { policy, ..ken() };
            assert!(matches!(Directory::of(vec![odd]), Err(DirectoryError::PinLength(..))));
        }
        let mapping = |key| KeyMapping { key, to: KeyTarget::Voicemail("ken".to_owned()) };
        for keys in [vec![mapping('0')], vec![mapping('1'), mapping('1')], vec![mapping('#')]] {
            let config = AttendantConfig { business_keys: keys, ..AttendantConfig::default() };
            let plan = DirectoryPlan { attendants: vec![config], ..DirectoryPlan::default() };
            assert!(matches!(Directory::new(plan, |_| Vec::new()), Err(DirectoryError::Keys(_))));
        }
    }
}
