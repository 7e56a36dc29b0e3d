//! The record of a call: everything the JSON line and the `um_cdr` CSV show, as data. Owns the vocabularies and the
//! column order; refuses to know calendars and files. Times are `Instant`s, which the shell turns into UTC.

use std::time::{Duration, Instant};

use serde::{Serialize, Serializer};

pub use crate::media::{MediaSummary, SideSummary};
use crate::verdict::Verdict;

/// One call, from INVITE to the end.
#[derive(Clone, Debug, Serialize)]
pub struct CallRecord {
    /// Call-ID of leg A (`CallIdentity`).
    pub call_id: String,
    /// Call-ID of the last leg B, when one was made.
    pub b_call_id: Option<String>,
    /// Call-ID of the call that caused this one (transfer).
    pub parent_call_id: Option<String>,
    /// When the INVITE arrived; the shell adds `call_start_time` in UTC.
    #[serde(skip)]
    pub started_at: Instant,
    /// When leg A got its 2xx.
    #[serde(skip)]
    pub answered_at: Option<Instant>,
    /// When the last leg was gone.
    #[serde(skip)]
    pub ended_at: Instant,
    /// From INVITE to 2xx.
    #[serde(rename = "setup_ms", serialize_with = "opt_millis")]
    pub setup: Option<Duration>,
    /// From 2xx to the end; zero when never answered.
    #[serde(rename = "duration_ms", serialize_with = "millis")]
    pub duration: Duration,
    /// What kind of call.
    pub call_type: CallType,
    /// Calling number or address.
    pub caller: String,
    /// Called number or address: whose mailbox, or the pilot.
    pub called: String,
    /// User part of the Request-URI as it came.
    pub dialed: String,
    /// Oldest diverting party.
    pub diverted_from: Option<String>,
    /// Why the call came to UM.
    pub reason_for_call: ReasonForCall,
    /// UM dial plan.
    pub dial_plan: Option<String>,
    /// UM IP gateway.
    pub ip_gateway: Option<String>,
    /// Address of the UM IP gateway.
    pub ip_gateway_address: Option<String>,
    /// UM server that had the call last.
    pub server: Option<String>,
    /// Mailbox alias of the caller, when known.
    pub caller_mailbox: Option<String>,
    /// Mailbox alias of the called party, when known.
    pub callee_mailbox: Option<String>,
    /// Auto attendant, when one was called.
    pub auto_attendant: Option<String>,
    /// How the offer ended.
    pub offer_result: OfferResult,
    /// Why the call ended: `GracefulHangup`, `Error`, … (free text in Exchange's export).
    pub drop_reason: String,
    /// The one verdict.
    pub verdict: Verdict,
    /// Transport of leg A (`tls`, `tcp`, `udp`).
    pub transport_a: String,
    /// Transport of leg B; empty when there was none.
    pub transport_b: String,
    /// Protection of both legs, e.g. `TLS+SRTP`; empty when it was not decided.
    pub security: String,
    /// 3xx followed.
    pub redirects: u32,
    /// Servers tried beyond the first.
    pub failovers: u32,
    /// Encoding of the audio, when media was negotiated.
    pub codec: Option<String>,
    /// Whom UM handed the caller over to, when the gateway carried the transfer out.
    pub transferred_to: Option<String>,
    /// What the media side measured.
    pub media: Option<MediaSummary>,
    /// Name of the file its audio was recorded into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording: Option<String>,
    /// Why it was not recorded, or not to its end, though it was to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording_lacks: Option<&'static str>,
    /// Name of the file its packets are written into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture: Option<String>,
}

/// An answered call shorter than this says nothing about its audio.
const AUDIO_JUDGED_AFTER: Duration = Duration::from_secs(3);

/// `CallType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum CallType {
    /// A message is (to be) left.
    #[serde(rename = "Call Answering Voice Message")]
    CallAnswering,
    /// The caller gave up before UM had the call.
    #[serde(rename = "Call Answering Missed Call")]
    MissedCall,
    /// Outlook Voice Access.
    #[serde(rename = "Subscriber Access")]
    SubscriberAccess,
    /// IVR.
    #[serde(rename = "Auto Attendant")]
    AutoAttendant,
    /// Message played on a phone.
    PlayOnPhone,
    /// Find-me call.
    #[serde(rename = "Find Me")]
    FindMe,
    /// Pilot called by someone unknown.
    #[serde(rename = "Unauthenticated Pilot Number")]
    UnauthenticatedPilotNumber,
    /// Greeting recorded by phone.
    #[serde(rename = "Greetings Recording")]
    GreetingsRecording,
    /// Fax.
    Fax,
    /// Not known (refused before it was).
    None,
}

impl CallType {
    /// Exchange's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CallAnswering => "Call Answering Voice Message",
            Self::MissedCall => "Call Answering Missed Call",
            Self::SubscriberAccess => "Subscriber Access",
            Self::AutoAttendant => "Auto Attendant",
            Self::PlayOnPhone => "PlayOnPhone",
            Self::FindMe => "Find Me",
            Self::UnauthenticatedPilotNumber => "Unauthenticated Pilot Number",
            Self::GreetingsRecording => "Greetings Recording",
            Self::Fax => "Fax",
            Self::None => "None",
        }
    }
}

/// `OfferResult`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum OfferResult {
    /// Answered.
    Answer,
    /// Tried and failed.
    Failed,
    /// Refused here or by UM.
    Rejected,
    /// Sent elsewhere.
    Redirected,
    /// No result (caller gave up).
    None,
}

impl OfferResult {
    /// Exchange's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answer => "Answer",
            Self::Failed => "Failed",
            Self::Rejected => "Rejected",
            Self::Redirected => "Redirected",
            Self::None => "None",
        }
    }
}

/// `ReasonForCall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum ReasonForCall {
    /// Called directly.
    Direct,
    /// Forwarded, also when no reason is given.
    DivertForward,
    /// Busy.
    DivertBusy,
    /// Not answered.
    DivertNoAnswer,
    /// Placed by UM.
    Outbound,
    /// Not known.
    None,
}

impl ReasonForCall {
    /// Exchange's spelling.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "Direct",
            Self::DivertForward => "DivertForward",
            Self::DivertBusy => "DivertBusy",
            Self::DivertNoAnswer => "DivertNoAnswer",
            Self::Outbound => "Outbound",
            Self::None => "None",
        }
    }
}

/// Header row of `um_cdr_YYYY-MM-DD.csv`: Exchange's columns, then ours.
pub const CSV_COLUMNS: [&str; 34] = [
    "CallStartTime",
    "CallType",
    "CallIdentity",
    "ParentCallIdentity",
    "UMServerName",
    "DialPlanName",
    "CallDuration",
    "IPGatewayAddress",
    "CalledPhoneNumber",
    "CallerPhoneNumber",
    "OfferResult",
    "DropCallReason",
    "ReasonForCall",
    "DialedString",
    "CallerMailboxAlias",
    "CalleeMailboxAlias",
    "AutoAttendantName",
    "NMOS",
    "NMOSDegradation",
    "NMOSDegradationJitter",
    "NMOSDegradationPacketLoss",
    "Jitter",
    "PacketLoss",
    "RoundTrip",
    "BurstDensity",
    "BurstGapDuration",
    "AudioCodec",
    "GwCode",
    "GwBLegCallId",
    "GwRedirects",
    "GwSetupMs",
    "GwTransportA",
    "GwTransportB",
    "GwSecurity",
];

impl CallRecord {
    /// Whether the audio of a side did not get through, in a call long enough to say so.
    pub fn is_audio_cut(&self) -> bool {
        self.judges_audio() && self.media.is_some_and(|media| media.is_audio_cut())
    }

    fn judges_audio(&self) -> bool {
        self.answered_at.is_some() && self.duration >= AUDIO_JUDGED_AFTER
    }

    /// Takes up what the media side measured. Audio that did not get through becomes evidence of the verdict.
    pub fn measured(&mut self, media: MediaSummary) {
        if self.judges_audio() && media.is_audio_cut() {
            self.verdict.evidence.retain(|line| !is_about_audio(line));
            self.verdict = self.verdict.clone().evidence(media.audio.to_string());
        }
        self.media = Some(media);
    }

    /// The values under [`CSV_COLUMNS`]. `start` is the call's start as the shell prints it. What is not measured is
    /// left empty, never guessed. Values that a spreadsheet would run as a formula get a leading apostrophe.
    pub fn csv_row(&self, start: &str) -> [String; 34] {
        let text = |value: &Option<String>| spreadsheet_safe(value.as_deref().unwrap_or_default());
        let media = self.media.unwrap_or_default();
        let figure = |value: Option<f32>| value.map_or_else(String::new, |v| format!("{v:.1}"));
        [
            start.to_owned(),
            self.call_type.as_str().to_owned(),
            spreadsheet_safe(&self.call_id),
            text(&self.parent_call_id),
            text(&self.server),
            text(&self.dial_plan),
            clock(self.duration),
            text(&self.ip_gateway_address),
            spreadsheet_safe(&self.called),
            spreadsheet_safe(&self.caller),
            self.offer_result.as_str().to_owned(),
            spreadsheet_safe(&self.drop_reason),
            self.reason_for_call.as_str().to_owned(),
            spreadsheet_safe(&self.dialed),
            text(&self.caller_mailbox),
            text(&self.callee_mailbox),
            text(&self.auto_attendant),
            figure(media.mos),
            figure(media.mos_degradation()),
            String::new(),
            String::new(),
            figure(media.jitter_ms),
            figure(media.loss_percent),
            figure(media.round_trip_ms),
            figure(media.burst_density_percent),
            figure(media.gap_duration_ms),
            text(&self.codec),
            self.verdict.code.as_str().to_owned(),
            text(&self.b_call_id),
            self.redirects.to_string(),
            self.setup.map_or_else(String::new, |d| d.as_millis().to_string()),
            self.transport_a.clone(),
            self.transport_b.clone(),
            self.security.clone(),
        ]
    }
}

fn is_about_audio(line: &str) -> bool {
    line.starts_with("one-way audio") || line.starts_with("no audio")
}

/// `hh:mm:ss`.
fn clock(duration: Duration) -> String {
    let secs = duration.as_secs();
    format!("{:02}:{:02}:{:02}", secs / 3600, secs / 60 % 60, secs % 60)
}

/// Peers choose these values; a leading `=`, `@`, `-` or tab would be a formula in a spreadsheet. A leading `+` stays
/// when only digits follow, as in an E.164 number.
fn spreadsheet_safe(value: &str) -> String {
    let number =
        value.strip_prefix('+').is_some_and(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
    match value.starts_with(['=', '@', '-', '+', '\t', '\r']) && !number {
        true => format!("'{value}"),
        false => value.to_owned(),
    }
}

fn whole_millis(duration: &Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn millis<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(whole_millis(duration))
}

fn opt_millis<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match duration {
        Some(duration) => serializer.serialize_some(&whole_millis(duration)),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes;

    #[test]
    fn values_that_a_spreadsheet_would_run_are_defused() {
        assert_eq!(spreadsheet_safe("=cmd|'/c calc'!A1"), "'=cmd|'/c calc'!A1");
        assert_eq!(spreadsheet_safe("+1+1"), "'+1+1");
        assert_eq!(spreadsheet_safe("+14255550100"), "+14255550100");
        assert_eq!(spreadsheet_safe("ken@contoso.com"), "ken@contoso.com");
    }

    #[test]
    fn audio_that_went_one_way_is_evidence_and_a_short_call_is_not_judged() {
        let heard = relay::SideStats { packets_received: 100, packets_sent: 0, ..Default::default() };
        let mute = relay::SideStats { packets_sent: 100, ..Default::default() };
        let media = MediaSummary::of(&relay::SessionStats { a: heard, b: mute });
        let mut answered = record();
        answered.measured(media);
        answered.measured(media);
        let evidence = &answered.verdict.evidence;
        assert!(
            matches!(&evidence[..], [line] if line.starts_with("one-way audio: nothing came from B")),
            "{evidence:?}"
        );
        // Who only listens, or speaks by keys, has no fault to look for.
        let voice = relay::Voice { packets: 100, ..Default::default() };
        let listens = relay::SideStats { packets_sent: 100, voice, ..heard };
        let speaks = relay::SideStats { voice: relay::Voice { voiced: 9, ..voice }, ..listens };
        let media_of_both = MediaSummary::of(&relay::SessionStats { a: listens, b: speaks });
        let mut listened = record();
        listened.measured(media_of_both);
        assert!(listened.verdict.evidence.is_empty() && media_of_both.audio.from_a == relay::Way::Silent);
        let mut short = CallRecord { duration: Duration::from_secs(1), ..record() };
        short.measured(media);
        assert!(short.verdict.evidence.is_empty());
    }

    #[test]
    fn durations_read_as_a_clock() {
        assert_eq!(clock(Duration::from_millis(3_723_999)), "01:02:03");
    }
    #[expect(clippy::disallowed_methods, reason = "a record needs some moment; its value is not looked at")]
    fn record() -> CallRecord {
        let now = Instant::now();
        CallRecord {
            call_id: "5bc132f5".into(),
            b_call_id: Some("u1-77ab".into()),
            parent_call_id: None,
            started_at: now,
            answered_at: Some(now),
            ended_at: now,
            setup: Some(Duration::from_millis(21)),
            duration: Duration::from_secs(75),
            call_type: CallType::CallAnswering,
            caller: "+14255550100".into(),
            called: "ken@contoso.com".into(),
            dialed: "=ken".into(),
            diverted_from: Some("ken@contoso.com".into()),
            reason_for_call: ReasonForCall::DivertForward,
            dial_plan: Some("DP-Sip".into()),
            ip_gateway: Some("pool01".into()),
            ip_gateway_address: Some("pool01.contoso.com".into()),
            server: Some("mbx01.contoso.com".into()),
            caller_mailbox: None,
            callee_mailbox: Some("ken".into()),
            auto_attendant: None,
            offer_result: OfferResult::Answer,
            drop_reason: "GracefulHangup".into(),
            verdict: Verdict::new(codes::COMPLETED, "dana@contoso.com", "hung up"),
            transport_a: "tls".into(),
            transport_b: "tls".into(),
            security: "TLS+SRTP".into(),
            redirects: 2,
            failovers: 0,
            codec: Some("PCMU".into()),
            transferred_to: None,
            media: Some(MediaSummary { jitter_ms: Some(0.44), mos: Some(4.3), ..MediaSummary::default() }),
            recording: None,
            recording_lacks: None,
            capture: None,
        }
    }

    #[test]
    fn a_row_has_its_values_under_the_right_columns() {
        let row = record().csv_row("2026-11-21T01:39:00Z");
        let under = |name: &str| CSV_COLUMNS.iter().position(|c| *c == name).map(|i| row[i].as_str());
        for (column, value) in [
            ("CallStartTime", "2026-11-21T01:39:00Z"),
            ("CallType", "Call Answering Voice Message"),
            ("UMServerName", "mbx01.contoso.com"),
            ("CallDuration", "00:01:15"),
            ("DialedString", "'=ken"),
            ("CalleeMailboxAlias", "ken"),
            ("ReasonForCall", "DivertForward"),
            ("NMOS", "4.3"),
            ("NMOSDegradation", "0.1"),
            ("BurstDensity", ""),
            ("Jitter", "0.4"),
            ("PacketLoss", ""),
            ("AudioCodec", "PCMU"),
            ("GwCode", "UMB-CALL001"),
            ("GwRedirects", "2"),
            ("GwSetupMs", "21"),
            ("GwSecurity", "TLS+SRTP"),
        ] {
            assert_eq!(under(column), Some(value), "{column}");
        }
    }

    #[test]
    fn the_json_line_uses_the_words_of_the_record() {
        let json = serde_json::to_value(record()).expect("json");
        assert_eq!(json["call_type"], "Call Answering Voice Message");
        assert_eq!(json["setup_ms"], 21);
        assert_eq!(json["duration_ms"], 75_000);
        assert_eq!(json["verdict"]["code"], "UMB-CALL001");
        assert!(json.get("started_at").is_none());
    }

    #[test]
    fn codes_serialise_as_their_name() {
        assert_eq!(serde_json::to_string(&codes::NO_ROUTE).expect("json"), "\"UMB-ROUTE001\"");
    }
}
