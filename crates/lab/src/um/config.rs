//! Who stands in the lab: Call Routers, Mailbox servers, mailboxes, attendants, and what is wrong with them today. Plain descriptions; the
//! logic and the shell read them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use time::{OffsetDateTime, Time, Weekday};

use super::Manner;
use crate::media::Impairment;

/// Shortest and longest `MinPINLength`, and so the longest PIN.
pub const PIN_LENGTHS: std::ops::RangeInclusive<usize> = 4..=24;
/// Key mappings of an attendant, without the operator's.
pub const KEY_MAPPINGS_MAX: usize = 9;

/// Ports of one SIP service; `None` = that transport is off, port 0 = any free port.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Ports {
    /// Plain TCP.
    pub tcp: Option<u16>,
    /// Mutual TLS.
    pub tls: Option<u16>,
}

/// `VoIPSecurity` of a dial plan, as this side enforces it.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum PlanSecurity {
    /// TCP and RTP; an offer of SRTP alone is refused with 488.
    Unsecured,
    /// TLS and RTP; an offer of SRTP alone is refused with 488.
    SipSecured,
    /// TLS and SRTP; an offer of RTP is refused with 488.
    Secured,
    /// Whatever is offered: for load tools.
    AsOffered,
}

impl PlanSecurity {
    /// Exchange's word.
    pub fn name(self) -> &'static str {
        match self {
            PlanSecurity::Unsecured => "Unsecured",
            PlanSecurity::SipSecured => "SIPSecured",
            PlanSecurity::Secured => "Secured",
            PlanSecurity::AsOffered => "AsOffered",
        }
    }
}

/// A `UMDialPlan`, as this side keeps it.
#[derive(Clone, Debug)]
pub struct DialPlanConfig {
    /// Its name.
    pub name: String,
    /// `PhoneContext`: says in a Request-URI which plan is meant.
    pub phone_context: String,
    /// `VoIPSecurity`.
    pub security: PlanSecurity,
    /// `AccessTelephoneNumbers`: numbers and contact names of Outlook Voice Access.
    pub access_numbers: Vec<String>,
    /// Its limits.
    pub answer: AnswerRules,
}

/// Something wrong with a server.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Does not listen: connections are refused, existing ones are cut.
    Dead,
    /// Answers every INVITE and OPTIONS with 503.
    Unavailable,
    /// `NoNewCalls`: calls that come get 503, those that are there go on, OPTIONS is answered.
    NoNewCalls,
    /// Accepts connections and requests, never answers.
    Silent,
    /// A Call Router or UM service that redirects to this host, which is nobody's server.
    ForeignRedirect(String),
    /// A Call Router or UM service that redirects to itself.
    LoopingRedirect,
    /// Rings (180) but never answers: the caller must give up.
    RingsForever,
    /// A redirecting role that never answers an INVITE: its 302 is lost.
    LostRedirect,
    /// A redirecting role whose 302 comes this late.
    LateRedirect(Duration),
    /// A worker that gives no sign of life for this long, then answers.
    SlowAnswer(Duration),
    /// A worker whose process is recycled this long after an answer: the call gets BYE.
    Recycled(Duration),
    /// Closes the connection on which an INVITE comes, before any answer.
    CutsOnInvite,
    /// Presents the certificate of this name.
    WrongCertificate(String),
    /// A worker whose 180 carries a session description.
    RingsWithSdp,
    /// A worker with faulty media.
    Media(Impairment),
}

/// A Call Router (Client Access server).
#[derive(Clone, Debug)]
pub struct CallRouterConfig {
    /// FQDN; the certificate is made for it.
    pub name: String,
    /// Address to listen on.
    pub address: IpAddr,
    /// Ports (5060, 5061).
    pub ports: Ports,
    /// How it behaves.
    pub manner: Manner,
    /// What is wrong with it.
    pub fault: Fault,
}

/// A Mailbox server: a UM service and its workers.
#[derive(Clone, Debug)]
pub struct MailboxServerConfig {
    /// FQDN; the certificate is made for it, redirects name it.
    pub name: String,
    /// Address to listen on.
    pub address: IpAddr,
    /// UM service ports (5062, 5063).
    pub service: Ports,
    /// Worker ports (5065 and 5067, 5066 and 5068); at least one worker. Used in turn.
    pub workers: Vec<Ports>,
    /// `MaxCallsAllowed`: more calls are answered 503.
    pub max_calls_allowed: usize,
    /// Security of calls whose mailbox names none.
    pub security: PlanSecurity,
    /// How it behaves.
    pub manner: Manner,
    /// What is wrong with it (service and workers).
    pub fault: Fault,
    /// What is wrong with its workers only.
    pub worker_fault: Fault,
}

/// A PIN. It prints nowhere.
#[derive(Clone, Eq, PartialEq)]
pub struct Pin(String);

impl Pin {
    /// Digits, as many as a PIN may have.
    pub fn new(digits: &str) -> Option<Pin> {
        let is_one = PIN_LENGTHS.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        is_one.then(|| Pin(digits.to_owned()))
    }

    /// One that nobody can type.
    pub(super) fn unguessable() -> Pin {
        Pin(String::from("-"))
    }

    /// Whether this was typed.
    pub(super) fn is(&self, typed: &str) -> bool {
        self.0 == typed
    }

    /// How many digits.
    pub fn length(&self) -> usize {
        self.0.len()
    }

    /// The digits, for the letter to its owner.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pin(redacted)")
    }
}

/// Whether something is allowed.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum Allowed {
    /// It is.
    #[default]
    Yes,
    /// It is not.
    No,
}

/// `UMMailboxPolicy`, in Exchange's words and defaults.
#[derive(Clone, Debug)]
pub struct MailboxPolicy {
    /// `MinPINLength`, 4 to 24.
    pub min_pin_length: usize,
    /// `MaxLogonAttempts`: after so many wrong PINs in a row, over all calls, nobody gets in.
    pub max_logon_attempts: u32,
    /// `LogonFailuresBeforePINReset`: after so many in a row the PIN is another one, mailed to the owner.
    pub logon_failures_before_pin_reset: u32,
    /// `MaxGreetingDuration`.
    pub max_greeting_duration: Duration,
    /// `AllowMissedCallNotifications`.
    pub missed_call_notifications: Allowed,
    /// `AllowMessageWaitingIndicator`.
    pub message_waiting_indicator: Allowed,
    /// `AllowPlayOnPhone`.
    pub play_on_phone: Allowed,
    /// `AllowSubscriberAccess`.
    pub subscriber_access: Allowed,
}

impl Default for MailboxPolicy {
    fn default() -> Self {
        MailboxPolicy {
            min_pin_length: 6,
            max_logon_attempts: 15,
            logon_failures_before_pin_reset: 5,
            max_greeting_duration: Duration::from_secs(5 * 60),
            missed_call_notifications: Allowed::Yes,
            message_waiting_indicator: Allowed::Yes,
            play_on_phone: Allowed::Yes,
            subscriber_access: Allowed::Yes,
        }
    }
}

/// A UM-enabled mailbox.
#[derive(Clone, Debug, Default)]
pub struct MailboxConfig {
    /// Alias: user part of its SIP address and name of its voicemail folder.
    pub alias: String,
    /// Its whole SIP address (`sip:ken@contoso.test`), where transfers and message waiting go; `None` = by alias or extension at the
    /// caller's domain.
    pub sip: Option<String>,
    /// Extension or number that also leads here.
    pub extension: Option<String>,
    /// Name of its dial plan; `None` = the servers' own rules.
    pub dial_plan: Option<String>,
    /// Security of calls for it; `None` = that of its dial plan, else the server's.
    pub security: Option<PlanSecurity>,
    /// PIN of Outlook Voice Access; `None` = nobody gets in.
    pub pin: Option<Pin>,
    /// WAV file of a greeting (8 kHz mono); `None` = the system's, until one is recorded.
    pub greeting: Option<PathBuf>,
    /// Rules.
    pub policy: MailboxPolicy,
}

/// A `UMAutoAttendant`.
#[derive(Clone, Debug, Default)]
pub struct AttendantConfig {
    /// Its name: user part of its contact object.
    pub name: String,
    /// `PilotIdentifierList`: numbers and names that also lead here.
    pub pilots: Vec<String>,
    /// Name of its dial plan; `None` = the servers' own rules.
    pub dial_plan: Option<String>,
    /// `BusinessHoursKeyMapping`, at most nine.
    pub business_keys: Vec<KeyMapping>,
    /// `AfterHoursKeyMapping`, at most nine.
    pub after_hours_keys: Vec<KeyMapping>,
    /// `BusinessHoursSchedule`; none = always open.
    pub hours: Vec<BusinessHours>,
    /// `InfoAnnouncement`: WAV file (8 kHz mono) that everybody hears first.
    pub announcement: Option<PathBuf>,
    /// `OperatorExtension`: number or SIP address behind key 0.
    pub operator: Option<String>,
}

/// What a key of an attendant does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyMapping {
    /// `1` to `9`.
    pub key: char,
    /// What it does.
    pub to: KeyTarget,
}

/// Where a key of an attendant leads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeyTarget {
    /// To an extension, number or SIP address.
    Transfer(String),
    /// Leave a message for this alias.
    Voicemail(String),
}

/// One stretch of the day on some days of the week, in UTC.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BusinessHours {
    /// On these days.
    pub days: Vec<Weekday>,
    /// From this time.
    pub from: Time,
    /// Up to and without this time.
    pub to: Time,
}

impl BusinessHours {
    /// Whether this moment lies in them.
    pub fn contains(&self, moment: OffsetDateTime) -> bool {
        let moment = moment.to_offset(time::UtcOffset::UTC);
        self.days.contains(&moment.weekday()) && (self.from..self.to).contains(&moment.time())
    }
}

/// How a worker takes a call.
#[derive(Clone, Debug)]
pub struct AnswerRules {
    /// Time from INVITE to 180; `None` = no 180.
    pub ring_after: Option<Duration>,
    /// Time from INVITE to 200.
    pub answer_after: Duration,
    /// `RecordingIdleTimeout`: silence that ends a recording. 2–10 s in Exchange; the lab takes less.
    pub recording_idle_timeout: Duration,
    /// `MaxRecordingDuration`.
    pub max_recording_duration: Duration,
    /// Hang up when the recording ended by itself.
    pub after_recording: AfterRecording,
    /// `MaxCallDuration`: ends the call whatever it does.
    pub max_call_duration: Duration,
    /// `LogonFailuresBeforeDisconnect`: wrong PINs in one call.
    pub logon_failures_before_disconnect: u32,
    /// `InputFailuresBeforeDisconnect`: wrong keys, or none, in a row.
    pub input_failures_before_disconnect: u32,
    /// `NumberOfDigitsInExtension`.
    pub extension_digits: usize,
    /// `OperatorExtension` of the plan: number or SIP address.
    pub operator: Option<String>,
}

/// What a worker does when a recording ended by silence or length.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum AfterRecording {
    /// BYE.
    HangUp,
    /// Leave it to the caller.
    Stay,
}

impl Default for AnswerRules {
    fn default() -> Self {
        AnswerRules {
            ring_after: None,
            answer_after: Duration::ZERO,
            recording_idle_timeout: Duration::from_secs(5),
            max_recording_duration: Duration::from_secs(20 * 60),
            after_recording: AfterRecording::HangUp,
            max_call_duration: Duration::from_secs(30 * 60),
            logon_failures_before_disconnect: 3,
            input_failures_before_disconnect: 3,
            extension_digits: 4,
            operator: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::{datetime, time};

    #[test]
    fn a_pin_is_four_to_twenty_four_digits_and_prints_nothing() {
        for wrong in ["", "123", "12345a", "1234567890123456789012345"] {
            assert!(Pin::new(wrong).is_none(), "{wrong}");
        }
        let pin = Pin::new("135790").unwrap();
        assert!(pin.is("135790") && !pin.is("13579") && pin.length() == 6);
        assert!(!format!("{pin:?}").contains('1'));
    }

    #[test]
    fn business_hours_end_before_their_last_moment_and_on_other_days() {
        let hours = BusinessHours { days: vec![Weekday::Monday], from: time!(9:00), to: time!(17:00) };
        assert!(hours.contains(datetime!(2026-11-23 09:00 UTC)));
        assert!(hours.contains(datetime!(2026-11-23 17:59:59 +1)));
        assert!(!hours.contains(datetime!(2026-11-23 17:00 UTC)));
        assert!(!hours.contains(datetime!(2026-11-24 12:00 UTC)));
    }
}
