//! Named facts of the lab UM, and the voice message. Plain values for demo screens, tests and logs.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Ports;

/// Why Exchange would say the call came to it.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallKind {
    /// Call answering: leave a message for somebody.
    CallAnswering,
    /// Voice memo: straight to recording, no greeting.
    VoiceMemo,
    /// Subscriber access: one's own mailbox, or Outlook Voice Access.
    SubscriberAccess,
    /// An auto attendant.
    AutoAttendant,
}

/// What a call is and for whom: the lab's own reading of Request-URI, From and Diversion.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct CallPurpose {
    /// Kind.
    pub kind: CallKind,
    /// Alias of the mailbox or name of the attendant.
    pub for_whom: String,
    /// The caller's address, as in From.
    pub caller: String,
    /// Reason of the diversion, when stated (`no-answer`, …).
    pub diversion_reason: Option<String>,
    /// Phone context in the Request-URI, when there is one.
    pub phone_context: Option<String>,
}

/// Why a call ended.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// BYE from the caller.
    CallerHungUp,
    /// Silence during the recording.
    Silence,
    /// The recording reached its longest duration.
    TooLong,
    /// The caller pressed `#`, or left by a menu.
    Finished,
    /// Somebody else has the caller now.
    Transferred,
    /// Too many wrong PINs, keys, or none at all.
    TooManyFailures,
    /// The call reached its longest duration.
    CallTooLong,
    /// The session timer ran out.
    NotRefreshed,
    /// No ACK came.
    NoAck,
    /// The connection broke.
    ConnectionLost,
    /// The lab was stopped or a fault injected.
    Stopped,
}

/// The side file of a stored voice message, without audio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageNote {
    /// Mailbox alias.
    pub mailbox: String,
    /// Who called.
    pub caller: String,
    /// Call kind, callee, diversion.
    pub purpose: CallPurpose,
    /// Server that took the call.
    pub server: String,
    /// SIP Call-ID of the leg that reached the worker.
    pub call_id: String,
    /// `Secured`, `SIPSecured` or `Unsecured`: what the leg really was.
    pub security: String,
    /// `PCMU` or `PCMA`.
    pub codec: String,
    /// Start of the recording, UTC, RFC 3339.
    pub started_utc: String,
    /// Length of the recording in seconds.
    pub duration_s: f64,
    /// Level in dBFS (root mean square).
    pub level_dbfs: f64,
    /// Strongest tone in Hz, when one stands out.
    pub dominant_hz: Option<f64>,
    /// Why the recording ended.
    pub end: EndReason,
    /// The correlation header of the gateway, when sent.
    pub x_call_id: Option<String>,
    /// Its owner has heard it.
    #[serde(default)]
    pub heard: bool,
}

/// A message on disk.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    /// The WAV file.
    pub wav: PathBuf,
    /// The JSON side file.
    pub json: PathBuf,
    /// The mail to the owner.
    pub eml: PathBuf,
    /// Its content.
    pub note: MessageNote,
}

/// A caller who gave up before the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MissedCall {
    /// Mailbox alias.
    pub mailbox: String,
    /// Call kind, callee, caller, diversion.
    pub purpose: CallPurpose,
    /// Server that had the call.
    pub server: String,
    /// SIP Call-ID of the leg that reached the worker.
    pub call_id: String,
    /// The correlation header of the gateway, when sent.
    pub x_call_id: Option<String>,
}

/// What a caller did inside a call. Keys and PINs are not told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Milestone {
    /// The PIN was right.
    LoggedOn {
        /// Mailbox alias.
        mailbox: String,
    },
    /// It was not.
    LogonFailed {
        /// Mailbox alias, or what was asked for.
        mailbox: String,
        /// Wrong PINs in a row, over all calls.
        failures: u32,
    },
    /// After too many wrong PINs the mailbox has another one.
    PinReset {
        /// Mailbox alias.
        mailbox: String,
    },
    /// After too many wrong PINs nobody gets in.
    LockedOut {
        /// Mailbox alias.
        mailbox: String,
    },
    /// A message is being played.
    Played {
        /// Mailbox alias.
        mailbox: String,
        /// Call-ID of the call that left it.
        message: String,
    },
    /// A greeting was recorded.
    GreetingRecorded {
        /// Mailbox alias.
        mailbox: String,
    },
    /// REFER was sent.
    Transferring {
        /// Its Refer-To.
        to: String,
    },
    /// The transfer came to this final status; 0 = nothing was heard of it.
    TransferEnded {
        /// Its Refer-To.
        to: String,
        /// Status in the last NOTIFY, or of the REFER.
        status: u16,
    },
}

/// What waits in a mailbox.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Waiting {
    /// Mailbox alias.
    pub mailbox: String,
    /// Its SIP address, when it has one of its own and its policy allows the indicator.
    pub sip: Option<String>,
    /// Messages nobody has heard.
    pub new: usize,
    /// Those that were heard.
    pub old: usize,
}

/// Something that happened in the lab.
#[derive(Clone, Debug)]
pub enum LabFact {
    /// A request was answered with a redirect.
    Redirected {
        /// Server that redirected.
        server: String,
        /// Call-ID.
        call_id: String,
        /// Contact given.
        contact: String,
    },
    /// A call was refused.
    Refused {
        /// Server that refused.
        server: String,
        /// Call-ID.
        call_id: String,
        /// Status code.
        status: u16,
        /// Why, in words.
        why: String,
    },
    /// A worker answered a call with 200.
    Answered {
        /// Server.
        server: String,
        /// Call-ID.
        call_id: String,
        /// What the call is.
        purpose: CallPurpose,
        /// Whether media is SRTP.
        media: MediaKind,
        /// The correlation header of the gateway, when sent.
        x_call_id: Option<String>,
    },
    /// A call ended.
    Ended {
        /// Server.
        server: String,
        /// Call-ID.
        call_id: String,
        /// Why.
        why: EndReason,
        /// Time since the answer.
        lasted: Duration,
    },
    /// Something that a caller did inside a call.
    Did {
        /// Server.
        server: String,
        /// Call-ID.
        call_id: String,
        /// What.
        milestone: Milestone,
    },
    /// What waits in a mailbox changed.
    Waiting(Waiting),
    /// A UM IP gateway was told what waits in a mailbox.
    Notified {
        /// Mailbox alias.
        mailbox: String,
        /// Its answer; 0 = none.
        status: u16,
    },
    /// A worker process made place for the next.
    Recycled {
        /// Server.
        server: String,
        /// Its ports, TCP and TLS.
        ports: Ports,
    },
    /// A message was heard, and its side file says so.
    Heard {
        /// Mailbox alias.
        mailbox: String,
        /// Call-ID of the call that left it.
        call_id: String,
    },
    /// A message and its files are gone.
    Deleted {
        /// Mailbox alias.
        mailbox: String,
        /// Call-ID of the call that left it.
        call_id: String,
    },
    /// A mailbox has another PIN, which lies in its folder.
    PinMailed {
        /// Mailbox alias.
        mailbox: String,
        /// The mail.
        eml: PathBuf,
        /// Server at which it was asked for.
        server: String,
    },
    /// A mail was taken by the SMTP sink.
    Mailed {
        /// Mailbox alias.
        mailbox: String,
    },
    /// A voice message is on disk.
    Stored(Box<StoredMessage>),
    /// A missed call notification is on disk.
    Missed {
        /// The notification.
        missed: Box<MissedCall>,
        /// Its JSON file.
        json: PathBuf,
    },
    /// An OPTIONS was answered.
    OptionsAnswered {
        /// Server.
        server: String,
    },
    /// A peer was refused at the TLS handshake, or a connection failed.
    ConnectionFailed {
        /// Server.
        server: String,
        /// Why.
        why: String,
    },
    /// A message could not be written or another thing of the lab itself went wrong.
    Trouble {
        /// Server.
        server: String,
        /// What.
        what: String,
    },
}

/// Protection of a call's media.
#[derive(Copy, Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MediaKind {
    /// Plain RTP.
    Rtp,
    /// SRTP.
    Srtp,
}

impl MediaKind {
    /// `RTP` or `SRTP`.
    pub fn name(self) -> &'static str {
        match self {
            MediaKind::Rtp => "RTP",
            MediaKind::Srtp => "SRTP",
        }
    }
}
